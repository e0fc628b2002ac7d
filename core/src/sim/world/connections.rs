//! How connections of a world open, carry bytes and end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{Actor, Dialling, End, MachineState, Sealing, World};
use crate::drive::{Close, Conn, Todo};
use crate::machine::{Dial, DialFault, Endpoint};
use crate::sim::pipe::{PIPE_BYTES, Pipe};
use crate::transcript::Said;

impl World {
    pub(super) fn open_dials(&mut self) -> bool {
        let now = self.clock.now();
        let is_due = |dialling: &Dialling| dialling.at <= now && !self.processes[dialling.process].frozen;
        let Some(place) = self.dials.iter().position(is_due) else { return false };
        let Dialling { process, answered, dial: Dial { to, machine, .. }, .. } = self.dials.remove(place);
        let outside = self.processes[process].outside.clone();
        let Endpoint::Tcp { host, .. } = &to else { panic!("a world has no unix sockets") };
        let gateway_is_up = self.is_alive("gateway");
        let app_is_up = self.apps.get(host).is_some_and(|app| app.up);
        if !answered {
            Conn::could_not_open(machine, outside, DialFault::TimedOut);
            self.deliver(process, None);
        } else if host == "gateway" && gateway_is_up {
            let end = self.add_machine(process, Conn::new(machine, outside), None, self.link_delay, true);
            self.ends[end].captured = Some(Vec::new());
            self.ends[end].may_join = true;
            self.accept(end, self.link_delay);
            self.set_bottleneck(end, self.processes[process].bottleneck);
        } else if app_is_up {
            let end = self.add_machine(process, Conn::new(machine, outside), None, self.near_delay, true);
            let actor =
                Actor::App { app: host.clone(), conn: Box::default(), wait_until: None, stop_until: None };
            let peer = self.ends.len();
            self.ends.push(End::new(host.clone(), Some(end), self.near_delay, actor, false));
            self.ends[end].peer = Some(peer);
            self.set_bottleneck(end, self.apps[host].bottleneck);
        } else {
            Conn::could_not_open(machine, outside, DialFault::Refused);
            self.deliver(process, None);
        }
        true
    }

    pub(super) fn add_machine(
        &mut self,
        process: usize,
        conn: Conn,
        peer: Option<usize>,
        delay: Duration,
        asks: bool,
    ) -> usize {
        let name = self.processes[process].name.clone();
        let conn = Box::new(conn);
        let machine = MachineState { process, conn, woken: true, read: Vec::new(), todo: Todo::default() };
        self.ends.push(End::new(name, peer, delay, Actor::Machine(machine), asks));
        self.ends.len() - 1
    }

    /// The gateway takes the connection whose other end is `caller`, or closes it.
    pub(super) fn accept(&mut self, caller: usize, delay: Duration) {
        let process = self.process("gateway");
        let address = match &self.ends[caller].actor {
            Actor::Machine(machine) => self.processes[machine.process].address,
            _ => self.address,
        };
        let proxied = self.proxied && matches!(self.ends[caller].actor, Actor::Visitor(_));
        let from = if proxied { Ipv4Addr::LOCALHOST } else { Ipv4Addr::new(192, 0, 2, address) };
        let from = SocketAddr::new(IpAddr::V4(from), 40_000);
        let state = &self.processes[process];
        let accepted =
            state.process.clone().accept(from).map(|machine| Conn::new(machine, state.outside.clone()));
        match accepted {
            Some(conn) => {
                let end = self.add_machine(process, conn, Some(caller), delay, false);
                self.ends[caller].peer = Some(end);
            }
            None => {
                let name = self.ends[caller].name.clone();
                self.transcript.sent(self.clock.now(), "gateway", &name, "reset");
                self.ends[caller].inbound.reset(self.clock.now() + delay);
            }
        }
    }

    /// One end is closed, or reset.
    pub(super) fn let_go(&mut self, end: usize, how: Close) {
        let now = self.clock.now();
        let actor = std::mem::replace(&mut self.ends[end].actor, Actor::Gone);
        let reset = how == Close::Reset || self.ends[end].inbound.is_unread();
        if let Some(peer) = self.ends[end].peer {
            let at = now + self.ends[end].delay;
            let was_open = !self.ends[peer].inbound.closed && !matches!(self.ends[peer].actor, Actor::Gone);
            if reset {
                self.ends[peer].inbound.reset(at);
            } else {
                self.ends[peer].inbound.end(at);
            }
            if was_open {
                let (name, peer) = (self.ends[end].name.clone(), self.ends[peer].name.clone());
                self.transcript.sent(now, &name, &peer, if reset { "reset" } else { "end" });
            }
        }
        if !self.ends[end].inbound.clogged {
            self.ends[end].inbound = Pipe::default();
        }
        if let Actor::Machine(machine) = actor {
            let process = machine.process;
            drop(machine);
            self.deliver(process, None);
        }
        self.show_later();
    }

    /// How many bytes may be sent from `end`.
    pub(super) fn room(&self, end: usize) -> usize {
        let End { peer, delay, .. } = &self.ends[end];
        peer.map_or(PIPE_BYTES, |peer| self.ends[peer].inbound.room(self.clock.now(), *delay))
    }

    /// What is to be sent from `end` does not all fit: it is told when there is room.
    pub(super) fn is_full(&mut self, end: usize) {
        if let Some(peer) = self.ends[end].peer {
            self.ends[peer].inbound.is_full();
        }
    }

    /// Sends from `end` what its peer's pipe takes; returns how much.
    pub(super) fn put(&mut self, end: usize, bytes: &[u8]) -> usize {
        let now = self.clock.now();
        // Whom the gateway did not take learns it later; until then his kernel takes what he sends.
        let Some(peer) = self.ends[end].peer else { return bytes.len() };
        let delay = self.ends[end].delay;
        let count = bytes.len().min(self.room(end));
        if count < bytes.len() {
            self.is_full(end);
        }
        let bytes = &bytes[..count];
        self.ends[peer].inbound.send(now, delay, bytes);
        if self.sealing == Sealing::Plain {
            return count;
        }
        if let Some(captured) = &mut self.ends[end].captured {
            captured.extend_from_slice(bytes);
        }
        let (from, to) = (self.ends[end].name.clone(), self.ends[peer].name.clone());
        let asks = self.ends[end].asks;
        let is_visitor = matches!(self.ends[end].actor, Actor::Visitor(_));
        let talk = &mut self.ends[if asks { end } else { peer }].talk;
        if is_visitor && talk.is_link && count > 0 {
            self.transcript.sent(now, &from, &to, &format!("{count} B on a link that is not its own"));
        }
        if asks {
            talk.request(bytes);
        } else {
            talk.response(bytes);
        }
        let lines = std::mem::take(&mut talk.lines);
        for said in lines {
            match said {
                Said::Line(line) => self.transcript.sent(now, &from, &to, &line),
                Said::Body(bytes) => self.transcript.body(now, &from, &to, &bytes),
                Said::Accepted(signature) => {
                    if let (Some(referee), Actor::Machine(gateway)) =
                        (&mut self.referee, &self.ends[end].actor)
                    {
                        referee.accepted(gateway.process, signature);
                    }
                    self.transcript.decided(now, &from, "auth", "accepted: in time, first use, proof right")
                }
            }
        }
        count
    }

    pub(super) fn put_end(&mut self, end: usize) {
        let now = self.clock.now();
        let Some(peer) = self.ends[end].peer else { return };
        let at = now + self.ends[end].delay;
        if !self.ends[peer].inbound.closed {
            let (from, to) = (self.ends[end].name.clone(), self.ends[peer].name.clone());
            self.transcript.sent(now, &from, &to, "end");
        }
        self.ends[peer].inbound.end(at);
    }
}
