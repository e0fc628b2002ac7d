//! Entries of a capture, written and read.

use std::fmt;
use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::fault::Fault;
use crate::machine::{Effects, Want};
use crate::time::{Instant, Now, UnixSecs};

/// What a file begins with: its last number is the format's.
pub(super) const MAGIC: &[u8; 17] = b"gesher capture 1\n";
const MAGIC_NAME: &[u8] = b"gesher capture ";
/// Length and check.
const HEADER_BYTES: usize = 8;
/// An entry: what one turn of a machine works off at most, several times.
pub(super) const ENTRY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Answers in an entry: records are no shorter than 73 bytes, and a turn reads half a MiB at most.
const ANSWERS_MAX: u64 = 16 * 1024;
/// Civil time that can be written as a date: the end of the year 9999.
const UNIX_SECS_MAX: u64 = 253_402_300_799;

pub(super) mod kind {
    pub(in super::super) const START: u8 = 0;
    pub(in super::super) const SUPERVISOR: u8 = 1;
    pub(in super::super) const ACCEPT: u8 = 2;
    pub(in super::super) const CALL: u8 = 3;
    pub(in super::super) const LOST: u8 = 4;
    pub(in super::super) const DRAIN: u8 = 5;
    pub(in super::super) const STOP: u8 = 6;
    pub(in super::super) const ROOM: u8 = 7;
}

/// What the keys said, where a machine asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// A check was right, or not.
    Checked(bool),
    /// A token that did not verify.
    Forged,
    /// A record.
    Opened(Vec<u8>),
}

/// The hash of what a call decided.
pub(super) type Decision = [u8; 8];
/// A call that panicked.
pub(super) const PANICKED: Decision = [0; 8];

/// Gathers what a call decides.
#[derive(Clone, Default)]
pub(super) struct Decides(Sha256);

impl Decides {
    /// It sealed this record.
    pub(super) fn sealed(&mut self, plain: &[u8]) {
        self.0.update((plain.len() as u64).to_be_bytes());
        self.0.update(plain);
    }

    /// It left this behind. `output` is what was appended; of a machine that has to do with keys only its length counts,
    /// since a replay has none.
    pub(super) fn left(
        mut self,
        result: Option<&Result<Want, Fault>>,
        fx: &Effects,
        output: &[u8],
        has_keys: bool,
    ) -> Decision {
        let dials: Vec<_> =
            fx.dials.iter().map(|dial| (&dial.to, dial.timeout, dial.machine.port())).collect();
        let length = output.len();
        self.0.update(format!("{result:?} {:?} {dials:?} {:?} {length} ", fx.wakes, fx.events));
        if !has_keys {
            self.0.update(output);
        }
        let mut decision = [0; 8];
        decision.copy_from_slice(&self.0.finalize()[..8]);
        // Eight zeros say something else.
        decision[7] |= u8::from(decision == PANICKED);
        decision
    }
}

// ---- writing -------------------------------------------------------------------------------------------------------

/// An entry that is being written.
#[derive(Debug, Default)]
pub(super) struct Draft(Vec<u8>);

impl Draft {
    pub(super) fn new(kind: u8) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.push(kind);
        Self(bytes)
    }

    pub(super) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub(super) fn number(mut self, mut number: u64) -> Self {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8)
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        self.number(bytes.len() as u64).raw(bytes)
    }

    pub(super) fn now(self, now: Now, last: &mut Now) -> Self {
        let nanos = |now: Now| u64::try_from(now.mono.since_origin().as_nanos()).unwrap_or(u64::MAX);
        let past = std::mem::replace(last, now);
        let change = |to: u64, from: u64| zigzag(to.wrapping_sub(from) as i64);
        self.number(change(nanos(now), nanos(past))).number(change(now.unix.0, past.unix.0))
    }

    pub(super) fn answers(self, answers: &[Answer]) -> Self {
        answers.iter().fold(self.number(answers.len() as u64), |draft, answer| match answer {
            Answer::Checked(is_right) => draft.byte(u8::from(*is_right)),
            Answer::Forged => draft.byte(2),
            Answer::Opened(plain) => draft.byte(3).bytes(plain),
        })
    }

    /// The entry as it stands in the file; none if it is longer than an entry may be.
    pub(super) fn finish(mut self) -> Option<Vec<u8>> {
        let length = self.0.len() - HEADER_BYTES;
        if length > ENTRY_BYTES_MAX {
            return None;
        }
        let check = check(&self.0[HEADER_BYTES..]);
        self.0[..4].copy_from_slice(&u32::try_from(length).ok()?.to_be_bytes());
        self.0[4..HEADER_BYTES].copy_from_slice(&check);
        Some(self.0)
    }
}

/// A file with these entries: kinds and bodies. What is too long for one is left out.
#[cfg(feature = "sim")]
pub(crate) fn file_of<T: AsRef<[u8]>>(payloads: &[T]) -> Vec<u8> {
    let draft = |payload: &[u8]| Draft([&[0; HEADER_BYTES], payload].concat());
    let entries = payloads.iter().filter_map(|payload| draft(payload.as_ref()).finish());
    [MAGIC.to_vec(), entries.collect::<Vec<_>>().concat()].concat()
}

fn check(payload: &[u8]) -> [u8; 4] {
    let mut check = [0; 4];
    check.copy_from_slice(&Sha256::digest(payload)[..4]);
    check
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

// ---- reading -------------------------------------------------------------------------------------------------------

/// Why a file cannot be read on.
#[derive(Debug)]
pub enum ReadError {
    /// It is no capture.
    NotACapture,
    /// It is a capture of another format, which this program does not know.
    OtherFormat,
    /// It ends inside the entry that begins at this byte.
    Truncated(u64),
    /// The entry that begins at this byte is not what was written.
    Corrupt(u64),
    /// The system does not let it be read.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::NotACapture => f.write_str("this is no capture"),
            ReadError::OtherFormat => {
                f.write_str("this capture has a format that this version does not know")
            }
            ReadError::Truncated(offset) => write!(f, "the file ends inside the entry at byte {offset}"),
            ReadError::Corrupt(offset) => write!(f, "the entry at byte {offset} is not what was written"),
            ReadError::Io(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}

/// Reads a file entry by entry. What it holds is one entry.
pub(super) struct Entries<R> {
    reader: R,
    /// Where the next entry begins.
    next: u64,
    payload: Vec<u8>,
}

impl<R: Read> Entries<R> {
    pub(super) fn open(mut reader: R) -> Result<Self, ReadError> {
        let mut magic = Vec::new();
        let limit = MAGIC.len() as u64;
        reader.by_ref().take(limit).read_to_end(&mut magic).map_err(ReadError::Io)?;
        match magic.as_slice() {
            found if found == MAGIC => Ok(Self { reader, next: limit, payload: Vec::new() }),
            found if found.starts_with(MAGIC_NAME) => Err(ReadError::OtherFormat),
            _ => Err(ReadError::NotACapture),
        }
    }

    /// The next entry and where it begins; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Fields<'_>)>, ReadError> {
        let offset = self.next;
        let header = self.read(HEADER_BYTES)?;
        if header.is_empty() {
            return Ok(None);
        }
        let Some((length, checked)) = header.split_first_chunk().filter(|(_, rest)| rest.len() == 4) else {
            return Err(ReadError::Truncated(offset));
        };
        let (length, checked) = (u32::from_be_bytes(*length) as usize, checked.to_vec());
        if length == 0 || length > ENTRY_BYTES_MAX {
            return Err(ReadError::Corrupt(offset));
        }
        if self.read(length)?.len() < length {
            return Err(ReadError::Truncated(offset));
        }
        if check(&self.payload)[..] != checked {
            return Err(ReadError::Corrupt(offset));
        }
        self.next += (HEADER_BYTES + length) as u64;
        Ok(Some((offset, Fields(&self.payload))))
    }

    /// Memory grows with what is there, not with what a header says.
    fn read(&mut self, length: usize) -> Result<&[u8], ReadError> {
        self.payload.clear();
        self.reader.by_ref().take(length as u64).read_to_end(&mut self.payload).map_err(ReadError::Io)?;
        Ok(&self.payload)
    }
}

/// The fields of an entry; none where it is not what it should be.
#[derive(Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        self.raw(1).map(|byte| byte[0])
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            number |= bits << shift;
            if (bits << shift) >> shift != bits {
                return None;
            }
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn size(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    pub(super) fn raw(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.size()?;
        self.raw(count)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// Takes in how much time passed.
    pub(super) fn now(&mut self, last: &mut Now) -> Option<Now> {
        let nanos = u64::try_from(last.mono.since_origin().as_nanos()).ok()?;
        let nanos = nanos.checked_add_signed(unzigzag(self.number()?))?;
        let secs = last.unix.0.checked_add_signed(unzigzag(self.number()?))?;
        if secs > UNIX_SECS_MAX {
            return None;
        }
        let mono = Instant::from_origin(std::time::Duration::from_nanos(nanos));
        *last = Now { mono, unix: UnixSecs(secs) };
        Some(*last)
    }

    pub(super) fn answers(&mut self) -> Option<Vec<Answer>> {
        let count = self.number().filter(|count| *count <= ANSWERS_MAX)?;
        let mut answers = Vec::new();
        for _ in 0..count {
            answers.push(match self.byte()? {
                0 => Answer::Checked(false),
                1 => Answer::Checked(true),
                2 => Answer::Forged,
                3 => Answer::Opened(self.bytes()?.to_vec()),
                _ => return None,
            });
        }
        Some(answers)
    }

    pub(super) fn decision(&mut self) -> Option<Decision> {
        self.raw(8)?.try_into().ok()
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let numbers = [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX];
        let answers = [
            Answer::Checked(false),
            Answer::Checked(true),
            Answer::Forged,
            Answer::Opened(b"plain".to_vec()),
        ];
        let nows = [(5, 9), (3, 9), (1 << 50, 0), (0, UNIX_SECS_MAX)].map(|(nanos, secs)| Now {
            mono: Instant::from_origin(std::time::Duration::from_nanos(nanos)),
            unix: UnixSecs(secs),
        });
        let mut draft = Draft::new(7).answers(&answers).bytes(b"text");
        let (mut written, mut read) = (Now::default(), Now::default());
        for now in nows {
            draft = draft.now(now, &mut written);
        }
        for number in numbers {
            draft = draft.number(number);
        }
        let file = [&MAGIC[..], &draft.finish().unwrap()].concat();
        let mut entries = Entries::open(file.as_slice()).unwrap();
        let (offset, mut fields) = entries.next().unwrap().unwrap();
        assert_eq!((offset, fields.byte()), (17, Some(7)));
        assert_eq!(fields.answers().unwrap(), answers);
        assert_eq!(fields.text(), Some("text"));
        for now in nows {
            assert_eq!(fields.now(&mut read), Some(now));
        }
        assert_eq!(numbers.map(|_| fields.number().unwrap()), numbers);
        assert_eq!(fields.end(), Some(()));
        assert!(entries.next().unwrap().is_none());
    }
}
