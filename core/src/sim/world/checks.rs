//! What must hold for every machine at every moment.

use super::{Actor, Dialling, End, MachineState, World};
use crate::drive::Todo;
use crate::limits;

impl World {
    pub(super) fn note_state(&mut self, end: usize, todo: Todo) {
        let End { peer, asks, captured, talk, name, .. } = &self.ends[end];
        let is_link = peer.is_some_and(|peer| self.ends[peer].talk.is_link);
        let role = match (*peer, name == "gateway") {
            (None, _) if !asks => "supervisor",
            (_, true) if is_link => "gateway's link",
            (_, true) => "visitor's connection",
            _ if captured.is_some() => {
                if talk.is_link {
                    "connector's link"
                } else {
                    "connector that joins"
                }
            }
            _ => "app's connection",
        };
        if let Some(referee) = &mut self.referee {
            referee.state(role, &todo);
        }
    }

    /// Time may pass now: nobody has anything left to do, so calling a machine changes nothing. If it does, a wake-up
    /// was lost.
    pub(super) fn check_rest(&mut self) {
        for end in 0..self.ends.len() {
            if let Actor::Machine(machine) = &self.ends[end].actor
                && !self.processes[machine.process].frozen
            {
                self.check_advance(end, "was left alone");
            }
        }
    }

    /// # Panics
    /// If somebody owes something and would never be called again.
    pub(super) fn check_deadlines(&self) {
        for End { name, peer, actor, asks, captured, .. } in &self.ends {
            let Actor::Machine(machine) = actor else { continue };
            let MachineState { process, todo, .. } = machine;
            if self.processes[*process].frozen {
                continue;
            }
            let is_link = captured.is_some() || peer.is_some_and(|peer| self.ends[peer].talk.is_link);
            let is_supervisor = peer.is_none() && !*asks && *name != "gateway";
            let has_link = |end: &End| {
                let of_process = matches!(&end.actor, Actor::Machine(other) if other.process == *process);
                of_process && end.captured.is_some()
            };
            let is_dialled = |dialling: &Dialling| {
                dialling.process == *process && dialling.dial.to.to_string().starts_with("gateway")
            };
            let is_alone =
                is_supervisor && !self.ends.iter().any(has_link) && !self.dials.iter().any(is_dialled);
            let is_refused = peer.is_none() && *asks;
            let owes = (todo.write && !is_refused) || is_link || is_alone;
            let peer = peer.map_or("nobody", |peer| &self.ends[peer].name);
            assert!(
                !owes || todo.wake_at.is_some(),
                "deadlines: a machine of {name} (connected with {peer}) owes something and has none: {todo:?}"
            );
        }
    }

    /// # Panics
    /// If a connection holds more than the bound that `gesher check` prints has for one.
    pub(super) fn check_memory(&self) {
        for End { name, actor, .. } in &self.ends {
            let Actor::Machine(machine) = actor else { continue };
            let (input, output) = machine.conn.held();
            // A link seals what it gathered at once: all that may wait, and one record more.
            let most = (limits::RECEIVE_BUFFER_BYTES, limits::SEND_BUFFER_BYTES + limits::MESSAGE_BYTES_MAX);
            assert!(
                input <= most.0 && output <= most.1,
                "memory: a connection of {name} holds {input} B unread and {output} B unsent, of {most:?}"
            );
        }
    }

    /// # Panics
    /// If a machine that has nothing to do does something, or has something else to do than it said.
    pub(super) fn check_advance(&mut self, end: usize, when: &str) {
        let machine = self.machine(end);
        let process = machine.process;
        let (before, waiting) = (machine.todo, machine.conn.output().len());
        let after = machine.conn.advance();
        let wrote = machine.conn.output().len() != waiting;
        let fx = std::mem::take(&mut *self.processes[process].outside.mail());
        let idle = fx.wakes.is_empty() && fx.dials.is_empty() && fx.events.is_empty();
        if before != after || wrote || !idle {
            let name = &self.ends[end].name;
            let peer = self.ends[end].peer.map_or("nobody", |peer| &self.ends[peer].name);
            panic!(
                "a machine of {name} (connected with {peer}) acts when it {when}:\n{before:?}\n{after:?}\n{fx:?}"
            );
        }
    }
}
