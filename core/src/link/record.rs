//! Records: what is sealed at once, and carried by one binary WebSocket message.
//!
//! A record opens only in its place: with the key of its link and direction, and with the number that comes next.
//! So nothing can be read, changed, repeated, reordered or dropped on the way without the link ending, and nothing of
//! a record that is wrong is acted on.
//! ```text
//! plaintext   sequence number, u64 │ frames                 at most 131,072 bytes; the first number is 0
//! token       80 │ time │ IV │ ciphertext │ HMAC            see the module seal
//! message     WebSocket header │ token                      see the module websocket
//! ```
//! A writer gathers frames where they will be sealed, and a reader hands them out where they were opened.

use rand_chacha::ChaCha20Rng;

use crate::fault::LinkFault;
use crate::limits::{MESSAGE_BYTES_MAX, RECORD_PLAIN_BYTES_MAX};
use crate::seal::{Forged, Opener, Record, Sealer, token_len};
use crate::time::UnixSecs;
use crate::websocket::{self, Role};

const SEQUENCE_BYTES: usize = 8;
/// A buffer that grew beyond a record of common length is not kept.
const KEPT_BYTES: usize = 20 * 1024;

const _: () = assert!(token_len(RECORD_PLAIN_BYTES_MAX) <= MESSAGE_BYTES_MAX);

/// Opens the records of one direction.
pub struct RecordReader {
    opener: Box<dyn Opener>,
    next: u64,
    plain: Vec<u8>,
}

impl RecordReader {
    /// A reader that expects record 0.
    pub fn new(opener: Box<dyn Opener>) -> Self {
        Self { opener, next: 0, plain: Vec::new() }
    }

    /// The frames in the record that `token` seals, without the sequence number; they were not looked at.
    ///
    /// # Errors
    /// After a fault the link has to end.
    /// - [`LinkFault::Forged`]: changed on the way, or sealed with another key.
    /// - [`LinkFault::RecordLength`]: no sequence number, or over [`RECORD_PLAIN_BYTES_MAX`].
    /// - [`LinkFault::Sequence`]: repeated, reordered, or one before it is missing.
    pub fn open(&mut self, token: &[u8]) -> Result<&[u8], LinkFault> {
        clear(&mut self.plain);
        self.opener.open(token, &mut self.plain).map_err(|Forged| LinkFault::Forged)?;
        if self.plain.len() > RECORD_PLAIN_BYTES_MAX {
            return Err(LinkFault::RecordLength);
        }
        let (sequence, frames) = self.plain.split_first_chunk().ok_or(LinkFault::RecordLength)?;
        if u64::from_be_bytes(*sequence) != self.next {
            return Err(LinkFault::Sequence);
        }
        self.next += 1;
        Ok(frames)
    }
}

/// Gathers frames and seals them as the records of one direction.
pub struct RecordWriter {
    sealer: Box<dyn Sealer>,
    next: u64,
    /// The plaintext to be, from its sequence number on.
    plain: Vec<u8>,
    /// Plaintexts that are whole, to be sealed at once.
    whole: Vec<Vec<u8>>,
    /// How many bytes are whole.
    whole_bytes: usize,
    /// An empty buffer for the record after this one.
    spare: Vec<u8>,
}

impl RecordWriter {
    /// A writer that begins with record 0.
    pub fn new(sealer: Box<dyn Sealer>) -> Self {
        let (whole, spare) = (Vec::new(), Vec::new());
        Self { sealer, next: 0, plain: vec![0; SEQUENCE_BYTES], whole, whole_bytes: 0, spare }
    }

    /// Where frames are appended. Only append: the sequence number lies in front of them. What is in here has to stay
    /// within [`RECORD_PLAIN_BYTES_MAX`].
    pub fn frames(&mut self) -> &mut Vec<u8> {
        &mut self.plain
    }

    /// How many bytes of frames the record to be has.
    pub fn len(&self) -> usize {
        self.plain.len() - SEQUENCE_BYTES
    }

    /// Whether the record to be has no frames.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes of plaintext are whole and not sealed yet.
    pub fn whole_bytes(&self) -> usize {
        self.whole_bytes
    }

    /// The record to be is whole: what is appended from now on goes into the next one.
    ///
    /// # Panics
    /// If the plaintext is over [`RECORD_PLAIN_BYTES_MAX`]: the peer would end the link.
    pub fn end_record(&mut self) {
        assert!(self.plain.len() <= RECORD_PLAIN_BYTES_MAX, "a record is too long");
        self.next += 1;
        self.whole_bytes += self.plain.len();
        let mut next = std::mem::take(&mut self.spare);
        next.reserve(KEPT_BYTES.min(self.plain.len()));
        next.extend_from_slice(&self.next.to_be_bytes());
        self.whole.push(std::mem::replace(&mut self.plain, next));
    }

    /// Seals the records that are whole, each as one message at the end of `out`.
    pub fn seal(&mut self, at: UnixSecs, role: Role, rng: &mut ChaCha20Rng, out: &mut Vec<u8>) {
        let lens = self.whole.iter().map(|plain| token_len(plain.len()));
        websocket::write_binary(role, rng, out, lens, |tokens| {
            let pairs = self.whole.iter().zip(tokens);
            let mut records: Vec<Record<'_>> = pairs.map(|(plain, token)| Record { plain, token }).collect();
            self.sealer.seal_all(at, &mut records);
        });
        for mut plain in self.whole.drain(..) {
            clear(&mut plain);
            self.spare = plain;
        }
        self.whole_bytes = 0;
    }
}

/// Empties a buffer, and gives memory back beyond what a record commonly needs.
fn clear(plain: &mut Vec<u8>) {
    plain.clear();
    plain.shrink_to(KEPT_BYTES);
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;
    use crate::buf::RecvBuf;
    use crate::seal::{Fernet, SealKey, Seals};
    use crate::websocket::{Message, Reader};

    const AT: UnixSecs = UnixSecs(1_700_000_000);

    fn key() -> SealKey {
        SealKey([7; 32])
    }

    fn reader() -> RecordReader {
        RecordReader::new(Fernet.opener(&key()))
    }

    /// The token of a plaintext that no writer makes.
    fn token(plain: &[u8]) -> Vec<u8> {
        let mut token = Vec::new();
        Fernet.sealer(&key(), ChaCha20Rng::seed_from_u64(2)).seal(AT, plain, &mut token);
        token
    }

    fn numbered(sequence: u64, frames: &[u8]) -> Vec<u8> {
        token(&[&sequence.to_be_bytes(), frames].concat())
    }

    #[test]
    fn records_open_in_the_order_in_which_they_were_sealed() {
        for (from, to) in [(Role::Connector, Role::Gateway), (Role::Gateway, Role::Connector)] {
            let mut writer = RecordWriter::new(Fernet.sealer(&key(), ChaCha20Rng::seed_from_u64(2)));
            let mut rng = ChaCha20Rng::seed_from_u64(1);
            let mut out = Vec::new();
            for frames in [&b"first"[..], b"", b"third"] {
                writer.frames().extend_from_slice(frames);
                assert_eq!((writer.len(), writer.is_empty()), (frames.len(), frames.is_empty()));
                writer.end_record();
                assert!(writer.is_empty());
            }
            writer.seal(AT, from, &mut rng, &mut out);
            let mut input = RecvBuf::default();
            input.push(&out);
            let (mut messages, mut records) = (Reader::new(to), reader());
            for frames in [&b"first"[..], b"", b"third"] {
                let Ok(Some(Message::Binary(token))) = messages.next(&mut input) else {
                    panic!("no message")
                };
                assert_eq!(records.open(token), Ok(frames));
            }
            assert!(input.is_empty());
        }
    }

    #[test]
    fn a_repeated_record_is_refused() {
        let mut reader = reader();
        let token = numbered(0, b"frames");
        assert_eq!(reader.open(&token), Ok(&b"frames"[..]));
        assert_eq!(reader.open(&token), Err(LinkFault::Sequence));
    }

    #[test]
    fn a_record_that_comes_too_early_is_refused() {
        let mut reader = reader();
        assert_eq!(reader.open(&numbered(1, b"frames")), Err(LinkFault::Sequence));
        assert_eq!(reader.open(&numbered(0, b"frames")), Ok(&b"frames"[..]));
        assert_eq!(reader.open(&numbered(2, b"frames")), Err(LinkFault::Sequence));
    }

    #[test]
    fn a_record_of_the_other_direction_is_refused() {
        let mut reader = RecordReader::new(Fernet.opener(&SealKey([8; 32])));
        assert_eq!(reader.open(&numbered(0, b"frames")), Err(LinkFault::Forged));
    }

    #[test]
    fn a_record_has_a_whole_number_and_no_more_than_the_limit() {
        assert_eq!(reader().open(&token(&[0; 7])), Err(LinkFault::RecordLength));
        assert_eq!(reader().open(&token(&[0; 8])), Ok(&[][..]));
        assert_eq!(reader().open(&token(&[0; RECORD_PLAIN_BYTES_MAX])).map(<[u8]>::len), Ok(131_064));
        assert_eq!(reader().open(&token(&[0; RECORD_PLAIN_BYTES_MAX + 1])), Err(LinkFault::RecordLength));
    }

    #[test]
    fn neither_side_keeps_the_memory_of_a_long_record() {
        let mut writer = RecordWriter::new(Fernet.sealer(&key(), ChaCha20Rng::seed_from_u64(2)));
        let mut reader = reader();
        writer.frames().resize(RECORD_PLAIN_BYTES_MAX, 0);
        let mut out = Vec::new();
        writer.end_record();
        writer.seal(AT, Role::Gateway, &mut ChaCha20Rng::seed_from_u64(1), &mut out);
        assert!(writer.plain.capacity() <= KEPT_BYTES);
        const HEADER_BYTES: usize = 10;
        assert!(reader.open(&out[HEADER_BYTES..]).is_ok());
        assert!(reader.open(&numbered(1, b"frames")).is_ok());
        assert!(reader.plain.capacity() <= KEPT_BYTES);
    }
}
