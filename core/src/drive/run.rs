//! A run: from its services to the end of their last connection. It is over after a supervisor ended, or after it was
//! asked to stop; once what is open has finished, or has had its time.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::stop::StopHandle;
use super::world::{Carrier, World};
use crate::event::Event;
use crate::limits;
use crate::machine::Process;
use crate::time::Instant;

/// A process to run, and what it listens on.
pub struct Service<L> {
    /// What makes its machines.
    pub process: Arc<dyn Process>,
    /// Where its connections come from; a connector without a dashboard has none.
    pub listeners: Vec<L>,
    /// Is told everything that happens, on the thread where it happened; it should not block.
    pub on_event: Arc<dyn Fn(Event) + Send + Sync>,
}

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
    /// once, what is dialled fails. None means what the runtime is good for. There are never more than descriptors allow.
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

/// The processes of a run, who accepts for them (`A`, for one listener until it is dropped), and how far it is on its
/// way to its end. Dropping it ends what is left.
pub struct Run<C: Carrier, A> {
    worlds: Vec<Arc<World<C>>>,
    accepting: Vec<Vec<A>>,
    drain: Duration,
    stop: StopHandle,
    /// When what is open is cut; none before anything drains.
    until: Option<Instant>,
    /// A supervisor ended, and nobody had asked for it.
    ended: bool,
}

/// What a run does next.
pub enum Next<A> {
    /// Accepts nothing more with these.
    Close(Vec<A>),
    /// Waits until the stop handle rings, or until then.
    Wait(Option<Instant>),
    /// It is over.
    Over(Stopped),
}

impl<C: Carrier, A> Run<C, A> {
    /// Starts `services`, each with a carrier of its own; `accept` accepts from a listener from then on. `descriptors` is
    /// how many this process can still open, none if without a limit; the services share them.
    ///
    /// # Errors
    /// Those of `accept`.
    pub fn start<L>(
        services: Vec<Service<L>>,
        options: &Options,
        descriptors: Option<usize>,
        carrier: impl Fn() -> C,
        accept: impl Fn(L, Arc<World<C>>) -> io::Result<A>,
    ) -> io::Result<Self> {
        let (worlds, accepting, stop) = (Vec::new(), Vec::new(), options.stop.clone());
        let mut run = Self { worlds, accepting, drain: options.drain, stop, until: None, ended: false };
        let per_service =
            |free: usize| free.saturating_sub(limits::DESCRIPTORS_SPARE) / services.len().max(1);
        let descriptors = descriptors.map_or(usize::MAX, per_service).max(1);
        let connections_max = options.connections_max.unwrap_or(C::CONNECTIONS_MAX).min(descriptors);
        for Service { process, listeners, on_event } in services {
            let world = World::new(process, on_event, carrier(), connections_max, run.stop.clone());
            run.worlds.push(Arc::clone(&world));
            let accept = |listener| accept(listener, Arc::clone(&world));
            run.accepting.push(listeners.into_iter().map(accept).collect::<io::Result<_>>()?);
            world.start();
        }
        Ok(run)
    }

    /// Looks at how things are; to be asked again after each step.
    pub fn next(&mut self, now: Instant) -> Next<A> {
        let asked = self.stop.times();
        if asked >= 2 || self.until.is_some_and(|until| until <= now) {
            return Next::Over(Stopped::Cut);
        }
        self.ended |= asked == 0 && self.until.is_none() && self.worlds.iter().any(|world| world.has_ended());
        // A process that is over takes the others with it, once it is done itself; it may become so meanwhile.
        let is_over = |world: &Arc<World<C>>| world.has_ended() && world.is_empty();
        let stops = |world: &Arc<World<C>>| asked > 0 || world.has_ended() || self.worlds.iter().any(is_over);
        while let Some(index) = self.worlds.iter().position(|world| !world.is_draining() && stops(world)) {
            let accepting = mem::take(&mut self.accepting[index]);
            if !accepting.is_empty() {
                return Next::Close(accepting);
            }
            self.until = Some(now + self.drain);
            self.worlds[index].drain();
        }
        if self.worlds.iter().all(|world| world.is_draining() && world.is_empty()) {
            return Next::Over(if self.ended { Stopped::Ended } else { Stopped::Drained });
        }
        for world in self.worlds.iter().filter(|world| world.gives_up_dials()) {
            world.wake_all();
        }
        Next::Wait(self.until)
    }
}

impl<C: Carrier, A> Drop for Run<C, A> {
    fn drop(&mut self) {
        self.accepting.clear();
        self.worlds.iter().for_each(|world| world.carrier().cut(world));
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::drive::{Flag, Start};
    use crate::machine::{Cx, Machine};
    use crate::time::Now;

    /// Carries nothing; what is noted is noted once.
    #[derive(Clone, Default)]
    struct Nowhere(Arc<AtomicBool>);

    impl Nowhere {
        fn note(&self) {
            assert!(!self.0.swap(true, Ordering::Relaxed));
        }
        fn noted(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Flag for Nowhere {
        fn raise(self: &Arc<Self>) {}
    }

    impl Carrier for Nowhere {
        type Flag = Self;
        type Socket = ();
        const CONNECTIONS_MAX: usize = 1;
        fn now(&self) -> Now {
            Now::default()
        }
        fn carry(&self, _: Arc<World<Self>>, _: Box<dyn Machine>, _: Start<()>) {}
        fn cut(&self, _: &World<Self>) {
            self.note();
        }
    }

    /// Notes that it drains.
    impl Process for Nowhere {
        fn supervisor(self: Arc<Self>) -> Option<Box<dyn Machine>> {
            None
        }
        fn accept(self: Arc<Self>, _: SocketAddr) -> Option<Box<dyn Machine>> {
            None
        }
        fn drain(&self, _: &mut Cx<'_>) {
            self.note();
        }
    }

    fn service(process: &Nowhere) -> Vec<Service<&'static str>> {
        let process = Arc::new(process.clone());
        vec![Service { process, listeners: vec!["front", "back"], on_event: Arc::new(|_| {}) }]
    }

    #[test]
    fn a_process_hears_that_it_drains_once_nothing_more_is_accepted_for_it() {
        let (process, cut, options) = (Nowhere::default(), Nowhere::default(), Options::default());
        let accept = |listener, _| Ok(listener);
        let mut run = Run::start(service(&process), &options, None, || cut.clone(), accept).unwrap();
        let now = Instant::default();
        assert!(matches!(run.next(now), Next::Wait(None)));
        options.stop.stop();
        let Next::Close(accepting) = run.next(now) else { panic!("it accepts still") };
        assert_eq!((accepting, process.noted()), (vec!["front", "back"], false));
        assert!(matches!(run.next(now), Next::Over(Stopped::Drained)));
        assert!(process.noted() && !cut.noted());
        options.stop.stop();
        assert!(matches!(run.next(now), Next::Over(Stopped::Cut)));
        drop(run);
        assert!(cut.noted());
    }

    #[test]
    fn there_are_as_many_connections_as_its_number_and_descriptors_allow_together() {
        let process = Nowhere::default();
        let connections = |max: usize, free: Option<usize>, services: usize| {
            let services = (0..services).flat_map(|_| service(&process)).collect();
            let options = Options { connections_max: Some(max), ..Options::default() };
            let run = Run::start(services, &options, free, Nowhere::default, |listener, _| Ok(listener));
            run.unwrap().worlds[0].connections_max
        };
        let spare = limits::DESCRIPTORS_SPARE;
        assert_eq!(connections(1000, None, 1), 1000);
        assert_eq!(connections(1000, Some(spare + 1000), 1), 1000);
        assert_eq!(connections(1000, Some(spare + 240), 1), 240);
        assert_eq!(connections(1000, Some(spare + 240), 3), 80, "they share them");
        for free in [0, spare, spare + 1] {
            assert_eq!(connections(1000, Some(free), 1), 1, "it tries");
        }
    }

    #[test]
    fn a_run_that_cannot_begin_ends_what_did() {
        let (process, cut) = (Nowhere::default(), Nowhere::default());
        let accept = |listener, _| match listener {
            "front" => Ok(()),
            _ => Err(io::ErrorKind::OutOfMemory.into()),
        };
        let run = Run::start(service(&process), &Options::default(), None, || cut.clone(), accept);
        assert_eq!(run.err().map(|error| error.kind()), Some(io::ErrorKind::OutOfMemory));
        assert!(cut.noted());
    }
}
