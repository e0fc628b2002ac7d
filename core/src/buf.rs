//! The two buffers of a connection. They belong to the caller: a machine reads the one and appends to the other.

/// Bytes that arrived and were not consumed yet.
#[derive(Debug, Default)]
pub struct RecvBuf {
    bytes: Vec<u8>,
    start: usize,
    ended: bool,
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

    /// Gives the memory back if nothing is unread: an idle connection holds none.
    pub fn release(&mut self) {
        if self.is_empty() {
            *self = Self { ended: self.ended, ..Self::default() };
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
}
