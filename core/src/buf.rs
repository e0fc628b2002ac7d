//! The two buffers of a connection, which belong to the caller: a machine reads the one and appends to the other; and
//! the queue of bytes between two machines.

use std::collections::VecDeque;

use crate::limits::HTTP_OUTPUT_BYTES;

/// Bytes that arrived and were not consumed yet.
#[derive(Debug, Default)]
pub struct RecvBuf {
    bytes: Vec<u8>,
    start: usize,
    ended: bool,
    received: u64,
}

impl RecvBuf {
    /// Appends what was just read from the transport.
    pub fn push(&mut self, read: &[u8]) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start > 0 && self.bytes.len() + read.len() > self.bytes.capacity() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(read);
        self.received += read.len() as u64;
    }

    /// Takes in what was just read; where nothing else is unread it is not copied but swapped in, until
    /// [`Self::give_back`]. Whether it was.
    pub fn borrow(&mut self, read: &mut Vec<u8>) -> bool {
        let swapped = self.is_empty();
        if swapped {
            self.received += read.len() as u64;
            self.start = 0;
            std::mem::swap(&mut self.bytes, read);
        } else {
            self.push(read);
        }
        swapped
    }

    /// Gives back the memory that was borrowed, and keeps a copy of what is still unread.
    pub fn give_back(&mut self, read: &mut Vec<u8>) {
        let rest = self.unread().to_vec();
        self.start = 0;
        *read = std::mem::replace(&mut self.bytes, rest);
    }

    /// All the bytes that ever arrived.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The peer said that it sends no more (FIN).
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether the peer said that it sends no more; what it sent before may still be unread.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The unread bytes.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The unread bytes, to be changed in place (unmasking, opening).
    pub fn unread_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    /// How many bytes are unread.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether nothing is unread.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Marks `count` bytes as read.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "consumed more than there is");
        self.start += count;
    }

    /// Marks `count` bytes as read and lends them once more, to be changed in place.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn take(&mut self, count: usize) -> &mut [u8] {
        let begun = self.start;
        self.consume(count);
        &mut self.bytes[begun..self.start]
    }

    /// Moves all that is unread into `out`, which is empty, by swapping the memory of both; false if it has to be copied,
    /// since what was read already lies in front of it, or is too little to be worth the memory that it lies in.
    pub(crate) fn swap_out(&mut self, out: &mut Vec<u8>) -> bool {
        let swaps = self.start == 0 && self.bytes.len() >= self.bytes.capacity() / 2;
        if swaps {
            std::mem::swap(&mut self.bytes, out);
            self.bytes.clear();
        }
        swaps
    }

    /// Gives the memory back if nothing is unread: an idle connection holds none.
    pub fn release(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
            self.start = 0;
        }
    }
}

/// Bytes that wait for the transport to take them.
#[derive(Debug, Default)]
pub struct SendBuf {
    bytes: Vec<u8>,
    start: usize,
    taken: u64,
}

impl SendBuf {
    /// Where output is appended. Only append: what is there already was promised.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        &mut self.bytes
    }

    /// Appends `bytes`, which are left empty; where nothing waits they are not copied, but take the place of what was
    /// there.
    pub(crate) fn append(&mut self, bytes: &mut Vec<u8>) {
        let tail = self.tail();
        if tail.is_empty() {
            *tail = std::mem::take(bytes);
        } else {
            tail.append(bytes);
        }
    }

    /// The bytes that wait.
    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The transport took `count` bytes.
    ///
    /// # Panics
    /// If fewer wait.
    pub fn take(&mut self, count: usize) {
        assert!(count <= self.len(), "the transport took more than there is");
        self.start += count;
        self.taken += count as u64;
    }

    /// All the bytes that the transport ever took.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Forgets what waits: the transport takes no more.
    pub fn discard(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }

    /// Gives the memory back if nothing waits: an idle connection holds none.
    pub fn release(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
            self.start = 0;
        }
    }
}

/// Bytes on their way from one machine to another, in the portions they came in, so that passing a portion on copies
/// nothing and a long queue is never moved.
#[derive(Debug, Default)]
pub(crate) struct ByteQueue {
    portions: VecDeque<Vec<u8>>,
    /// How much of the first portion is gone.
    start: usize,
    len: usize,
}

impl ByteQueue {
    /// Portions grow to this before another begins: what a socket is given at once.
    const PORTION_BYTES: usize = HTTP_OUTPUT_BYTES;
    /// What follows a portion of this size is bulk, and gets its memory at once.
    const BULK_BYTES: usize = 8 * 1024;

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.len += bytes.len();
        match self.portions.back_mut() {
            Some(last) if last.len() + bytes.len() <= Self::PORTION_BYTES => {
                if last.len() >= Self::BULK_BYTES {
                    last.reserve_exact(Self::PORTION_BYTES - last.len());
                }
                last.extend_from_slice(bytes);
            }
            _ => self.portions.push_back(bytes.to_vec()),
        }
    }

    /// Moves the first portion, but at most `room` bytes of it, into `out`, which is empty.
    pub(crate) fn pop(&mut self, room: usize, out: &mut Vec<u8>) {
        debug_assert!(out.is_empty(), "what is popped does not mix with what was there");
        let Some(first) = self.portions.front_mut() else { return };
        let count = room.min(first.len() - self.start);
        self.len -= count;
        if self.start == 0 && count == first.len() {
            std::mem::swap(first, out);
            self.portions.pop_front();
            return;
        }
        out.extend_from_slice(&first[self.start..self.start + count]);
        self.start += count;
        if self.start == first.len() {
            self.start = 0;
            self.portions.pop_front();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_read_in_order_whatever_was_consumed_between() {
        let mut buf = RecvBuf::default();
        buf.push(b"abc");
        buf.consume(2);
        buf.push(b"def");
        assert_eq!(buf.unread(), b"cdef");
        buf.consume(4);
        buf.release();
        buf.push(b"g");
        assert_eq!(buf.unread(), b"g");
    }

    #[test]
    fn a_released_buffer_still_knows_that_the_peer_ended() {
        let mut buf = RecvBuf::default();
        buf.end();
        buf.release();
        assert!(buf.ended());
    }

    #[test]
    fn what_is_appended_leaves_in_order_and_is_counted() {
        let mut buf = SendBuf::default();
        buf.tail().extend_from_slice(b"hello");
        buf.take(4);
        buf.tail().extend_from_slice(b" there");
        assert_eq!(buf.waiting(), b"o there");
        buf.take(7);
        assert_eq!((buf.is_empty(), buf.taken()), (true, 11));
    }

    #[test]
    fn what_is_unread_is_swapped_out_if_it_fills_its_memory() {
        let (mut buf, mut out) = (RecvBuf::default(), Vec::new());
        let mut read = b"whole".to_vec();
        let memory = read.as_ptr();
        assert!(buf.borrow(&mut read) && buf.swap_out(&mut out));
        assert_eq!((&out[..], out.as_ptr(), buf.is_empty()), (&b"whole"[..], memory, true));
        buf.give_back(&mut read);
        assert!(read.is_empty());

        buf.push(b"head, body");
        buf.consume(6);
        assert!(!buf.swap_out(&mut Vec::new()), "there is a head in front of it");
        let (mut buf, mut roomy) = (RecvBuf::default(), Vec::with_capacity(100));
        roomy.extend_from_slice(b"little");
        assert!(buf.borrow(&mut roomy) && !buf.swap_out(&mut Vec::new()));
        assert_eq!(buf.unread(), b"little");
    }

    #[test]
    fn what_is_appended_is_moved_in_only_where_nothing_waits() {
        let mut buf = SendBuf::default();
        let mut first = b"first".to_vec();
        let memory = first.as_ptr();
        buf.append(&mut first);
        assert_eq!((buf.waiting(), buf.waiting().as_ptr()), (&b"first"[..], memory));
        assert_eq!(first.capacity(), 0, "what nobody needs any more is not kept");
        buf.take(2);
        buf.append(&mut b", second".to_vec());
        assert_eq!((buf.waiting(), buf.taken()), (&b"rst, second"[..], 2));
    }

    #[test]
    fn a_queue_gives_its_bytes_in_order_whatever_the_room() {
        let mut queue = ByteQueue::default();
        for portion in [&b"abc"[..], &[b'd'; 20_000], &[b'e'; 60_000], b"fgh"] {
            queue.push(portion);
        }
        let (mut all, mut room) = (Vec::new(), 1);
        while !queue.is_empty() {
            let mut out = Vec::new();
            queue.pop(room, &mut out);
            assert!(!out.is_empty() && out.len() <= room);
            all.extend(out);
            room += 1000;
        }
        assert_eq!((all.len(), &all[..4], &all[80_002..]), (80_006, &b"abcd"[..], &b"efgh"[..]));
    }
}
