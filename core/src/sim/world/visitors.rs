//! The scripted visitors of a world.

use std::time::Duration;

use super::{Actor, End, READ_BYTES, Visitor, World};
use crate::drive::Close;
use crate::sim::pipe::Item;
use crate::time::Instant;

#[derive(Default)]
pub(super) struct VisitorState {
    /// What its kernel did not take yet, and whether FIN follows.
    pub(super) unsent: Vec<u8>,
    /// What it sends after that, and that does not matter.
    pub(super) fill: u64,
    pub(super) ends: bool,
    pub(super) received: Vec<u8>,
    pub(super) stopped: bool,
    pub(super) ended: bool,
    pub(super) reset: bool,
    /// When it last sent its FIN, got bytes, or learnt that the connection is over.
    pub(super) said_end_at: Option<Instant>,
    pub(super) heard_at: Instant,
    pub(super) ended_at: Option<Instant>,
    /// What its kernel took in all.
    pub(super) sent: usize,
    pub(super) reads: Option<Pace>,
    pub(super) sends: Option<Pace>,
}

/// So many bytes every so often.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) bytes: usize,
    pub(super) every: Duration,
    pub(super) next: Instant,
}

impl Pace {
    fn new(bytes: usize, every_ms: u64, now: Instant) -> Option<Self> {
        Some(Self { bytes: bytes.max(1), every: Duration::from_millis(every_ms.max(1)), next: now })
    }

    /// How many bytes may move now.
    fn room(pace: &Option<Self>, now: Instant) -> usize {
        pace.map_or(usize::MAX, |pace| if pace.next <= now { pace.bytes } else { 0 })
    }

    fn moved(pace: &mut Option<Self>, now: Instant) {
        if let Some(pace) = pace {
            pace.next = now + pace.every;
        }
    }
}

impl World {
    /// A visitor connects to the gateway.
    pub fn visit(&mut self) -> Visitor {
        self.visitors += 1;
        let name = format!("visitor-{}", self.visitors);
        let actor = Actor::Visitor(VisitorState::default());
        let visitor = self.ends.len();
        self.ends.push(End::new(name, None, self.near_delay, actor, true));
        if self.is_alive("gateway") {
            self.accept(visitor, self.near_delay);
        } else {
            self.ends[visitor].inbound.reset(self.clock.now());
        }
        Visitor(visitor)
    }

    /// The same by somebody who knows secret and PIN, and may join.
    pub(in crate::sim) fn visit_as_insider(&mut self) -> Visitor {
        let visitor = self.visit();
        self.ends[visitor.0].may_join = true;
        visitor
    }

    /// From where those come who come from now on.
    pub fn set_address(&mut self, last_octet: u8) {
        self.address = last_octet;
    }

    /// From now on visitors come through a proxy beside the gateway.
    pub fn put_proxy_before_gateway(&mut self) {
        self.proxied = true;
    }

    /// A visitor sends; what its kernel does not take waits until it does.
    pub fn send(&mut self, visitor: Visitor, bytes: impl AsRef<[u8]>) {
        if let Actor::Visitor(state) = &mut self.ends[visitor.0].actor {
            state.unsent.extend_from_slice(bytes.as_ref());
            self.visitor_sends(visitor.0);
        }
    }

    /// A visitor sends so many bytes that do not matter, as fast as its kernel takes them.
    pub fn send_fill(&mut self, visitor: Visitor, bytes: u64) {
        if let Actor::Visitor(state) = &mut self.ends[visitor.0].actor {
            state.fill = bytes;
            self.visitor_sends(visitor.0);
        }
    }

    /// A visitor sends no more (FIN).
    pub fn send_end(&mut self, visitor: Visitor) {
        if let Actor::Visitor(state) = &mut self.ends[visitor.0].actor {
            state.ends = true;
            self.visitor_sends(visitor.0);
        }
    }

    /// How many bytes of a visitor its kernel has not taken.
    pub fn unsent(&self, visitor: Visitor) -> usize {
        match &self.ends[visitor.0].actor {
            Actor::Visitor(state) => state.unsent.len(),
            _ => 0,
        }
    }

    /// A visitor is gone (RST).
    pub fn leave(&mut self, visitor: Visitor) {
        let name = self.ends[visitor.0].name.clone();
        self.note_trouble(&format!("{name} leaves"));
        self.let_go(visitor.0, Close::Reset);
    }

    /// Whether a visitor reads what comes.
    pub fn set_reading(&mut self, visitor: Visitor, read: bool) {
        if let Actor::Visitor(state) = &mut self.ends[visitor.0].actor {
            state.stopped = !read;
        }
    }

    /// A visitor reads at most so many bytes every so many milliseconds.
    pub fn read_slowly(&mut self, visitor: Visitor, bytes: usize, every_ms: u64) {
        let now = self.clock.now();
        if let Actor::Visitor(state) = &mut self.ends[visitor.0].actor {
            state.reads = Pace::new(bytes, every_ms, now);
        }
    }

    /// A visitor sends at most so many bytes every so many milliseconds.
    pub fn send_slowly(&mut self, visitor: Visitor, bytes: usize, every_ms: u64) {
        let now = self.clock.now();
        if let Actor::Visitor(state) = &mut self.ends[visitor.0].actor {
            state.sends = Pace::new(bytes, every_ms, now);
        }
    }

    /// Takes what a visitor got since the last time.
    pub fn received(&mut self, visitor: Visitor) -> Vec<u8> {
        match &mut self.ends[visitor.0].actor {
            Actor::Visitor(state) => std::mem::take(&mut state.received),
            _ => Vec::new(),
        }
    }

    /// Whether a visitor's connection was ended by the gateway: none if not, else whether in good order (FIN).
    pub fn ended(&self, visitor: Visitor) -> Option<bool> {
        match self.ends[visitor.0].actor {
            Actor::Visitor(VisitorState { reset: true, .. }) => Some(false),
            Actor::Visitor(VisitorState { ended: true, .. }) => Some(true),
            _ => None,
        }
    }

    /// For how long a visitor that had said that it sends no more (FIN) had got nothing when its connection ended; none if
    /// it had not said so, or the connection goes on.
    pub(in crate::sim) fn unheard_for(&self, visitor: Visitor) -> Option<Duration> {
        let Actor::Visitor(state) = &self.ends[visitor.0].actor else { return None };
        Some(state.ended_at?.since(state.said_end_at?.max(state.heard_at)))
    }

    /// Whether something is on its way to a visitor, or the connection has ended.
    pub(in crate::sim) fn is_answered(&self, visitor: Visitor) -> bool {
        let End { inbound, .. } = &self.ends[visitor.0];
        inbound.bytes() > 0 || inbound.closed || self.ended(visitor).is_some()
    }

    /// How many bytes of what a visitor sent the gateway has read.
    pub(in crate::sim) fn taken(&self, visitor: Visitor) -> usize {
        let unread = self.ends[visitor.0].peer.map_or(0, |peer| self.ends[peer].inbound.bytes());
        match &self.ends[visitor.0].actor {
            Actor::Visitor(state) => state.sent.saturating_sub(unread),
            _ => 0,
        }
    }

    pub(super) fn turn_visitor(&mut self, end: usize) -> bool {
        let sent = self.visitor_sends(end);
        let now = self.clock.now();
        let End { inbound, actor: Actor::Visitor(state), .. } = &mut self.ends[end] else { return sent };
        let room = Pace::room(&state.reads, now);
        if state.stopped || room == 0 {
            return sent;
        }
        match inbound.read(now, room) {
            None => return sent,
            Some(Item::Bytes(bytes)) => {
                Pace::moved(&mut state.reads, now);
                state.received.extend(bytes);
                state.heard_at = now;
            }
            Some(Item::End) => {
                state.ended = true;
                state.ended_at.get_or_insert(now);
            }
            Some(Item::Reset) => {
                state.reset = true;
                state.ended_at.get_or_insert(now);
            }
        }
        true
    }

    /// Sends what a visitor's kernel takes.
    fn visitor_sends(&mut self, end: usize) -> bool {
        let now = self.clock.now();
        let room = self.room(end);
        let Actor::Visitor(state) = &mut self.ends[end].actor else { return false };
        let pace = Pace::room(&state.sends, now);
        if room.min(pace) == 0 {
            if !state.unsent.is_empty() && room == 0 {
                self.is_full(end);
            }
            return false;
        }
        let mut bytes = std::mem::take(&mut state.unsent);
        let filled = if bytes.is_empty() { state.fill.min(READ_BYTES as u64) } else { 0 };
        state.fill -= filled;
        bytes.resize(bytes.len() + filled as usize, 0);
        let ends = state.ends && bytes.is_empty();
        let count = self.put(end, &bytes[..bytes.len().min(pace)]);
        bytes.drain(..count);
        let Actor::Visitor(state) = &mut self.ends[end].actor else { return false };
        state.unsent = bytes;
        state.sent += count;
        if count > 0 {
            Pace::moved(&mut state.sends, now);
        }
        if ends {
            state.ends = false;
            state.said_end_at = Some(now);
            self.put_end(end);
        }
        count > 0 || ends
    }
}
