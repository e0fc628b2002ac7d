//! One direction of a TCP-like connection: bytes never vanish or change their order; they take time, and no more are
//! under way than the two kernels would hold.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;

/// How many bytes are under way or unread in one direction of a connection: what two socket buffers hold together.
pub const PIPE_BYTES: usize = 256 * 1024;

/// What a sender's kernel holds before the network takes it: TCP_NOTSENT_LOWAT of the links …
const UNSENT_BYTES: usize = 128 * 1024;
/// … and what is left of it when a sender that found no room is told that there is some (Linux: half).
const UNSENT_BYTES_WRITABLE: usize = UNSENT_BYTES / 2;
/// The least that a bottleneck hands on at once: what an Ethernet frame carries of TCP.
const SEGMENT_BYTES_MIN: usize = 1448;
/// The most: what Linux makes one segment of, at most.
const SEGMENT_BYTES_MAX: usize = 16 * 1024;

/// The narrowest place on a way: so many bytes a second pass, and so many wait. TCP is thought to be perfect: nothing is
/// lost, and it always sends as much as passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bottleneck {
    pub(super) bits_per_sec: u64,
    /// What waits there at most; more stays in the sender's kernel.
    pub(super) queue_bytes: usize,
}

impl Bottleneck {
    fn time_for(&self, bytes: usize) -> Duration {
        let nanos = bytes as u128 * 8 * 1_000_000_000 / u128::from(self.bits_per_sec);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn bytes_in(&self, time: Duration) -> usize {
        let bytes = time.as_nanos() * u128::from(self.bits_per_sec) / (8 * 1_000_000_000);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// About a tenth of a millisecond's worth.
    fn segment_bytes(&self) -> usize {
        self.bytes_in(Duration::from_micros(100)).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
    }
}

/// What arrives at the end of a pipe.
#[derive(Debug)]
pub(super) enum Item {
    Bytes(Vec<u8>),
    /// FIN.
    End,
    /// RST.
    Reset,
}

/// The way to one end of a connection.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    queue: VecDeque<(Instant, Item)>,
    bytes: usize,
    /// Nothing more arrives: after FIN or RST.
    pub(super) closed: bool,
    /// Nothing arrives for now: a network that swallows packets without telling anyone.
    pub(super) clogged: bool,
    /// None passes everything at once.
    bottleneck: Option<Bottleneck>,
    /// When the last byte has passed the bottleneck.
    passed_at: Instant,
    /// The sender found no room and is told at this time that there is some.
    writable_at: Option<Instant>,
}

impl Pipe {
    /// What is sent from now on passes this; what waited for another bottleneck passes at once.
    pub(super) fn set_bottleneck(&mut self, bottleneck: Option<Bottleneck>, now: Instant, delay: Duration) {
        self.bottleneck = bottleneck;
        self.passed_at = now;
        self.writable_at = None;
        for (at, _) in &mut self.queue {
            *at = (*at).min(now + delay);
        }
    }

    /// How many bytes the sender may still write, on a way that takes `delay`.
    pub(super) fn room(&self, now: Instant, delay: Duration) -> usize {
        let Some(bottleneck) = &self.bottleneck else { return PIPE_BYTES.saturating_sub(self.bytes) };
        if self.writable_at.is_some_and(|at| at > now) {
            return 0;
        }
        let waiting = bottleneck.bytes_in(self.passed_at.since(now));
        let under_way = bottleneck.bytes_in(delay * 2) + bottleneck.queue_bytes + PIPE_BYTES;
        let unsent = (UNSENT_BYTES + bottleneck.queue_bytes).saturating_sub(waiting);
        unsent.min(under_way.saturating_sub(self.bytes))
    }

    /// When a sender that found no room is told that there is some.
    pub(super) fn writable_at(&self) -> Option<Instant> {
        self.writable_at
    }

    /// What the sender wanted to write did not all fit.
    pub(super) fn is_full(&mut self) {
        let Some(bottleneck) = &self.bottleneck else { return };
        let waits_then = bottleneck.time_for(bottleneck.queue_bytes + UNSENT_BYTES_WRITABLE);
        let at = self.passed_at.since_origin().saturating_sub(waits_then);
        self.writable_at = Some(Instant::from_origin(at));
    }

    /// Sends bytes that take `delay` from here.
    pub(super) fn send(&mut self, now: Instant, delay: Duration, bytes: &[u8]) {
        if self.closed || bytes.is_empty() {
            return;
        }
        self.bytes += bytes.len();
        let Some(bottleneck) = self.bottleneck else {
            self.queue.push_back((now + delay, Item::Bytes(bytes.to_vec())));
            return;
        };
        for segment in bytes.chunks(bottleneck.segment_bytes()) {
            self.passed_at = self.passed_at.max(now) + bottleneck.time_for(segment.len());
            self.queue.push_back((self.passed_at + delay, Item::Bytes(segment.to_vec())));
        }
    }

    pub(super) fn end(&mut self, at: Instant) {
        if !std::mem::replace(&mut self.closed, true) {
            self.queue.push_back((at, Item::End));
        }
    }

    /// A reset overtakes what was not read; of two the first counts.
    pub(super) fn reset(&mut self, at: Instant) {
        if matches!(self.queue.front(), Some((_, Item::Reset))) {
            return;
        }
        self.closed = true;
        self.bytes = 0;
        self.queue.clear();
        self.queue.push_back((at, Item::Reset));
    }

    /// When the next item is there to be read.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        self.queue.front().map(|(at, _)| *at).filter(|_| !self.clogged)
    }

    /// How many bytes were sent and not read.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether anything was sent that was not read.
    pub(super) fn is_unread(&self) -> bool {
        self.bytes > 0
    }

    /// Reads what has arrived by `now`, at most `max` bytes of it.
    pub(super) fn read(&mut self, now: Instant, max: usize) -> Option<Item> {
        self.ready_at().filter(|at| *at <= now)?;
        let (at, item) = self.queue.pop_front()?;
        let Item::Bytes(mut bytes) = item else { return Some(item) };
        if bytes.len() > max {
            let rest = bytes.split_off(max);
            self.queue.push_front((at, Item::Bytes(rest)));
        }
        self.bytes -= bytes.len();
        Some(Item::Bytes(bytes))
    }

    /// Changes the bytes that were sent last; false if nothing is under way.
    pub(super) fn tamper(&mut self, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let bytes = self.queue.iter_mut().rev().find_map(|(_, item)| match item {
            Item::Bytes(bytes) => Some(bytes),
            Item::End | Item::Reset => None,
        });
        let Some(bytes) = bytes else { return false };
        let before = bytes.len();
        change(bytes);
        self.bytes = self.bytes + bytes.len() - before;
        self.queue.retain(|(_, item)| !matches!(item, Item::Bytes(bytes) if bytes.is_empty()));
        true
    }

    /// Lets what was sent last overtake what was sent before it; false if there are no two.
    pub(super) fn reorder(&mut self) -> bool {
        let count = self.queue.len();
        if count < 2 || self.queue.iter().rev().take(2).any(|(_, item)| !matches!(item, Item::Bytes(_))) {
            return false;
        }
        self.queue.swap(count - 1, count - 2);
        true
    }
}
