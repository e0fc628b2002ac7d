//! How time passes in a world, and who acts in which order.

use std::time::Duration;

use super::processes::EPOCH;
use super::{Actor, End, Visitor, World};
use crate::drive::Close;
use crate::sim::pipe::Item;
use crate::time::{Instant, UnixSecs};

/// Turns without time passing after which something spins.
const TURNS_MAX: usize = 1_000_000;

impl World {
    /// What a right civil clock says.
    pub(in crate::sim) fn unix_now(&self) -> UnixSecs {
        UnixSecs(EPOCH + self.clock.now().since_origin().as_secs())
    }

    /// What the virtual clock says.
    pub(in crate::sim) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Lets so many virtual milliseconds pass.
    pub fn run_ms(&mut self, ms: u64) {
        self.run_until(Duration::from_millis(ms), |_| false);
    }

    /// Lets time pass until something is so, and at most this long; false if it never was. Asks at each moment at which
    /// anything happened.
    pub fn run_until(&mut self, at_most: Duration, mut is_so: impl FnMut(&mut Self) -> bool) -> bool {
        let until = self.clock.now() + at_most;
        loop {
            self.settle();
            if is_so(self) {
                return true;
            }
            match self.next_moment() {
                Some(next) if next <= until => self.clock.set(next),
                _ => break,
            }
        }
        self.clock.set(until);
        false
    }

    /// Everyone leaves or is asked to stop, and after a while nobody holds anything any more.
    ///
    /// # Panics
    /// If somebody does.
    pub fn come_to_rest(&mut self) {
        /// Whatever is clogged is silent for 25 s.
        const LONG_ENOUGH_MS: u64 = 60_000;
        for end in 0..self.ends.len() {
            if matches!(self.ends[end].actor, Actor::Visitor(_)) {
                self.leave(Visitor(end));
            }
        }
        let alive = self.processes.iter().filter(|state| state.alive);
        let names: Vec<String> = alive.map(|state| state.name.clone()).collect();
        for name in &names {
            self.drain(name);
        }
        self.run_ms(LONG_ENOUGH_MS);
        for name in names {
            assert!(self.is_at_rest(&name), "{name} holds something");
        }
    }

    /// Lets everyone act who can, without time passing.
    fn settle(&mut self) {
        let mut last = 0;
        for _ in 0..TURNS_MAX {
            let mut acted = self.open_dials();
            for end in 0..self.ends.len() {
                if self.turn(end) {
                    (acted, last) = (true, end);
                }
            }
            if !acted {
                if self.referee.is_some() {
                    self.check_deadlines();
                    self.check_memory();
                }
                return self.check_rest();
            }
        }
        let End { name, peer, .. } = &self.ends[last];
        let peer = peer.map_or("nobody", |peer| &self.ends[peer].name);
        panic!("something spins: last {name}, connected with {peer}");
    }

    fn next_moment(&self) -> Option<Instant> {
        let now = self.clock.now();
        let ends = self.ends.iter().flat_map(|end| {
            let writable = |_| self.ends[end.peer?].inbound.writable_at();
            let (reads, own) = match &end.actor {
                Actor::Machine(machine) if self.processes[machine.process].frozen => (false, None),
                Actor::Machine(machine) => {
                    let room = Some(()).filter(|()| machine.todo.write).and_then(writable);
                    let wakes = [machine.todo.wake_at.map(|(at, _)| at), room];
                    (machine.todo.read, wakes.into_iter().flatten().filter(|at| *at > now).min())
                }
                Actor::Visitor(state) => {
                    let unsent = Some(()).filter(|()| !state.unsent.is_empty());
                    let sends = unsent.and(state.sends).map(|pace| pace.next);
                    let room = unsent.and_then(writable);
                    let reads = state.reads.filter(|_| !state.stopped).map(|pace| pace.next);
                    (!state.stopped, sends.into_iter().chain(reads).chain(room).filter(|at| *at > now).min())
                }
                Actor::App { wait_until, stop_until, .. } => {
                    let waits = wait_until.iter().chain(stop_until).copied();
                    (true, waits.chain(writable(())).filter(|at| *at > now).min())
                }
                Actor::Gone => (true, None),
            };
            [end.inbound.ready_at().filter(|_| reads), own]
        });
        let dials = self.dials.iter().map(|dialling| {
            let frozen = self.processes[dialling.process].frozen;
            Some(dialling.at).filter(|_| !frozen)
        });
        ends.chain(dials).flatten().filter(|at| *at > now).min()
    }

    fn turn(&mut self, end: usize) -> bool {
        match &self.ends[end].actor {
            Actor::Machine(_) => self.turn_machine(end),
            Actor::Visitor(_) => self.turn_visitor(end),
            Actor::App { .. } => self.turn_app(end),
            Actor::Gone => {
                // Whatever comes for someone who is gone is answered with a reset.
                let item = self.ends[end].inbound.read(self.clock.now(), usize::MAX);
                if matches!(item, Some(Item::Bytes(_))) {
                    self.let_go(end, Close::Reset);
                }
                item.is_some()
            }
        }
    }
}
