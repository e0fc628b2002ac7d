//! When a run is over: after a supervisor ended, or after it was asked to stop; once what is open has finished, or has
//! had its time.

use std::sync::Arc;
use std::time::Duration;

use super::stop::StopHandle;
use super::world::{Carrier, World};
use crate::limits;
use crate::time::Instant;

/// How to run.
#[derive(Clone)]
pub struct Options {
    /// How long what is open may take to finish after it was asked to.
    pub drain: Duration,
    /// Whether SIGINT and SIGTERM ask to stop, as [`StopHandle::stop`] does.
    pub signals: bool,
    /// What else asks to stop.
    pub stop: StopHandle,
    /// How many connections each process may have at once, whoever opened them: what is accepted beyond is closed at
    /// once, what is dialled fails. None means what the runtime is good for.
    pub connections_max: Option<usize>,
}

impl Default for Options {
    /// [`limits::DRAIN`], signals, a handle that nobody else holds, and as many connections as the runtime is good for.
    fn default() -> Self {
        Self { drain: limits::DRAIN, signals: true, stop: StopHandle::default(), connections_max: None }
    }
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stopped {
    /// A supervisor ended by itself.
    Ended,
    /// It was asked to stop, and everything that was open has finished.
    Drained,
    /// It was asked twice, or the time to finish was over.
    Cut,
}

/// How far a run is on its way to its end.
pub struct Ending {
    drain: Duration,
    stop: StopHandle,
    /// When what is open is cut; none before anything drains.
    until: Option<Instant>,
    /// A supervisor ended, and nobody had asked for it.
    ended: bool,
}

/// What a run does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Accepts nothing more for this process, and tells it ([`World::drain`]).
    Drain(usize),
    /// Waits until the stop handle rings, or until then.
    Wait(Option<Instant>),
    /// Cuts what is left, and ends.
    Over(Stopped),
}

impl Ending {
    /// Far away.
    pub fn new(options: &Options) -> Self {
        Self { drain: options.drain, stop: options.stop.clone(), until: None, ended: false }
    }

    /// Looks at how things are; to be asked again after each step.
    pub fn next<C: Carrier>(&mut self, now: Instant, worlds: &[Arc<World<C>>]) -> Next {
        let asked = self.stop.times();
        if asked >= 2 || self.until.is_some_and(|until| until <= now) {
            return Next::Over(Stopped::Cut);
        }
        self.ended |= asked == 0 && self.until.is_none() && worlds.iter().any(|world| world.has_ended());
        // A process that is over takes the others with it, once it is done itself.
        let all = asked > 0 || worlds.iter().any(|world| world.has_ended() && world.is_empty());
        let stops = |world: &Arc<World<C>>| (all || world.has_ended()) && !world.is_draining();
        if let Some(index) = worlds.iter().position(stops) {
            self.until = Some(now + self.drain);
            return Next::Drain(index);
        }
        if all && worlds.iter().all(|world| world.is_empty()) {
            return Next::Over(if self.ended { Stopped::Ended } else { Stopped::Drained });
        }
        for world in worlds.iter().filter(|world| world.gives_up_dials()) {
            world.wake_all();
        }
        Next::Wait(self.until)
    }
}
