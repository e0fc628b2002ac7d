//! How the machines of a world are driven, and what becomes of their effects.

use std::sync::PoisonError;

use super::{Actor, World};
use crate::drive::Todo;
use crate::event::Event;
use crate::machine::Effects;
use crate::sim::pipe::Item;
use crate::time::Why;

impl World {
    pub(super) fn turn_machine(&mut self, end: usize) -> bool {
        let now = self.clock.now();
        let room = self.ends[end].peer.is_some() && self.room(end) > 0;
        let arrived = self.ends[end].inbound.ready_at().is_some_and(|at| at <= now);
        let Actor::Machine(machine) = &mut self.ends[end].actor else { return false };
        if self.processes[machine.process].frozen {
            return false;
        }
        let due = machine.todo.wake_at.filter(|(at, _)| *at <= now);
        let todo = machine.todo;
        if !(machine.woken || due.is_some() || (todo.read && arrived) || (todo.write && room)) {
            return false;
        }
        if let Some((_, why)) = due {
            self.show_deadline(end, why);
        }
        loop {
            let todo = self.advance(end);
            if let Some(how) = todo.close {
                self.let_go(end, how);
                return true;
            }
            let mut moved = todo.again;
            if todo.write {
                let mut output = self.machine(end).conn.output().to_vec();
                output.truncate(self.io_bytes());
                let count = self.put(end, &output);
                self.machine(end).conn.sent(count);
                moved |= count > 0;
            }
            self.show_later();
            if todo.shutdown {
                self.put_end(end);
                self.machine(end).conn.has_shut_down();
                moved = true;
            }
            let io_bytes = self.io_bytes();
            if todo.read
                && let Some(item) = self.ends[end].inbound.read(now, io_bytes)
            {
                let machine = self.machine(end);
                match item {
                    Item::Bytes(bytes) => machine.read = bytes,
                    Item::End => machine.conn.ended(),
                    Item::Reset => machine.conn.broke(),
                }
                moved = true;
            }
            moved |= self.machine(end).woken;
            if !moved {
                return true;
            }
        }
    }

    /// Calls `advance`, and once more to see that this changes nothing.
    pub(super) fn advance(&mut self, end: usize) -> Todo {
        let machine = self.machine(end);
        machine.woken = false;
        let process = machine.process;
        let todo = machine.conn.advance_on(&mut machine.read);
        machine.todo = todo;
        self.note_state(end, todo);
        self.deliver(process, Some(end));
        if !todo.again && todo.close.is_none() && !self.machine(end).woken {
            self.check_advance(end, "is called again");
        }
        todo
    }

    fn show_deadline(&mut self, end: usize, why: Why) {
        if matches!(why, Why::Ping | Why::Peers | Why::Linger | Why::Sleep) {
            return;
        }
        let peer = self.ends[end].peer.map(|peer| self.ends[peer].name.as_str()).unwrap_or_default();
        let what = format!("{why:?} {peer}").to_ascii_lowercase();
        let name = &self.ends[end].name;
        self.transcript.decided(self.clock.now(), name, "deadline", what.trim_end());
    }

    /// Shows that requests are done.
    pub(super) fn show_later(&mut self) {
        for (process, event) in std::mem::take(&mut self.later) {
            self.transcript.event(self.clock.now(), &self.processes[process].name, &event);
        }
    }

    /// Carries out what a process asked for; `end` is the connection whose machine was called.
    pub(super) fn deliver(&mut self, process: usize, end: Option<usize>) {
        let now = self.clock.now();
        let state = &self.processes[process];
        let Effects { wakes, dials, events } = std::mem::take(&mut *state.outside.mail());
        let sealed = std::mem::take(&mut *state.sealed.lock().unwrap_or_else(PoisonError::into_inner));
        if !state.alive {
            return;
        }
        if let Some(end) = end
            && let Some(peer) = self.ends[end].peer
        {
            let gateway = if self.ends[end].asks { peer } else { end };
            for plain in sealed {
                if let Some(referee) = &mut self.referee {
                    referee.record(gateway, end == gateway, &plain);
                }
                self.transcript.record(now, &self.ends[end].name, &self.ends[peer].name, gateway, &plain);
            }
        }
        for event in events {
            if let Some(referee) = &mut self.referee {
                let by_stranger =
                    end.and_then(|end| self.ends[end].peer).is_some_and(|peer| !self.ends[peer].may_join);
                referee.event(now, &self.processes[process].name, &event, by_stranger);
            }
            match event {
                Event::Request(_) => self.later.push((process, event)),
                _ => self.transcript.event(now, &self.processes[process].name, &event),
            }
        }
        for end in &mut self.ends {
            if let Actor::Machine(machine) = &mut end.actor
                && machine.process == process
                && wakes.contains(&machine.conn.port())
            {
                machine.woken = true;
            }
        }
        for dial in dials {
            // A wake for it may come before it is open: it is advanced then anyway.
            let dialling = self.dialling(process, dial);
            self.dials.push(dialling);
        }
    }
}
