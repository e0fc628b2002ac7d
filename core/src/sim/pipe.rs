//! One direction of a TCP-like connection: bytes never vanish or change their order; they take time, and no more are
//! under way than the two kernels would hold.

use std::collections::VecDeque;

use crate::time::Instant;

/// How many bytes are under way or unread in one direction of a connection: what two socket buffers hold together.
pub const PIPE_BYTES: usize = 256 * 1024;

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
}

impl Pipe {
    /// How many bytes the sender may still write.
    pub(super) fn room(&self) -> usize {
        PIPE_BYTES.saturating_sub(self.bytes)
    }

    pub(super) fn send(&mut self, at: Instant, bytes: &[u8]) {
        if self.closed || bytes.is_empty() {
            return;
        }
        self.bytes += bytes.len();
        self.queue.push_back((at, Item::Bytes(bytes.to_vec())));
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
