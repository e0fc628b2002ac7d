//! WebSocket framing of links (RFC 6455): a [`Reader`] that judges each frame by its header before it keeps anything
//! of it, and writers that append to the output.
//!
//! However the bytes are cut, the same messages and the same fault come out; whatever they are, nothing panics, and
//! kept are at most [`MESSAGE_BYTES_MAX`] bytes. Links use less than the RFC allows:
//! ```text
//! gateway ▶ connector   82 05 48656c6c6f             FIN and binary, 5 bytes, "Hello"
//! connector ▶ gateway   82 85 37fa213d 7f9f4d5158    the same, masked with 37fa213d
//!
//! binary             at most 131,200 bytes in at most 64 fragments, none of them empty
//! close, ping, pong  at most 125 bytes, also between fragments
//! faults             text, reserved bits and opcodes, lengths in a longer form than they need
//! ```
//! A message as a gateway reads it:
//! ```
//! use gesher_core::buf::RecvBuf;
//! use gesher_core::websocket::{Message, Reader, Role};
//!
//! let mut input = RecvBuf::default();
//! input.push(b"\x82\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
//! let mut reader = Reader::new(Role::Gateway);
//! assert_eq!(reader.next(&mut input), Ok(Some(Message::Binary(b"Hello"))));
//! assert_eq!(reader.next(&mut input), Ok(None));
//! ```

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;
use sha1::{Digest, Sha1};

use crate::buf::RecvBuf;
use crate::fault::LinkFault;
use crate::limits::{FRAGMENTS_MAX, MESSAGE_BYTES_MAX};

/// The header of a frame: two bytes, the longest form of a length, a masking key (RFC 6455, 5.2).
const HEADER_BYTES_MAX: usize = 2 + 8 + 4;
/// What the payload of a control frame may have (RFC 6455, 5.5).
const CONTROL_BYTES_MAX: usize = 125;
/// An idle reader keeps no more memory than this.
const IDLE_BYTES: usize = 4 * 1024;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// A side of a link. What a connector sends is masked, what a gateway sends is not (RFC 6455, 5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The server of the upgrade.
    Gateway,
    /// The client of the upgrade.
    Connector,
}

/// What a link cares about of what arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// A whole message, unmasked and put together: 1 to [`MESSAGE_BYTES_MAX`] bytes.
    Binary(&'a [u8]),
    /// Wants a pong with the same payload, at most 125 bytes.
    Ping(&'a [u8]),
    /// An answer to a ping, or none's: its payload is of no use.
    Pong,
    /// The peer says no more; its code, if it gave one. What follows is nobody's.
    Close(Option<u16>),
}

/// Reads messages out of the bytes that arrive at one side of a link.
///
/// After a fault the link has to end: what follows in the input has no meaning.
#[derive(Debug)]
pub struct Reader {
    role: Role,
    /// The binary message so far, unmasked; when it is whole it stays until the next call.
    message: Vec<u8>,
    /// How many of its fragments have begun; 0 between messages.
    fragments: u32,
    /// What is still to come of the last of them.
    fragment: Option<Fragment>,
    control: [u8; CONTROL_BYTES_MAX],
}

#[derive(Debug)]
struct Fragment {
    left: usize,
    /// Turned to where the payload is.
    key: [u8; 4],
    is_last: bool,
}

impl Reader {
    /// A reader for what arrives at the side `role`.
    pub fn new(role: Role) -> Self {
        Self { role, message: Vec::new(), fragments: 0, fragment: None, control: [0; CONTROL_BYTES_MAX] }
    }

    /// What is kept of a message that is not whole. For checks.
    #[cfg(feature = "sim")]
    pub(crate) fn held_bytes(&self) -> usize {
        self.message.capacity()
    }

    /// The next message; none if more bytes are needed. Consumes what it could use of `input`.
    ///
    /// # Errors
    /// The faults that [`LinkFault`] names after WebSocket, and [`LinkFault::MessageTooLong`].
    pub fn next<'a>(&'a mut self, input: &'a mut RecvBuf) -> Result<Option<Message<'a>>, LinkFault> {
        if self.fragments == 0 {
            self.message.clear();
        }
        loop {
            if let Some(fragment) = &mut self.fragment {
                // Most messages are one frame that is here whole: it stays where it lies.
                if self.fragments == 1 && self.message.is_empty() && fragment.is_whole_in(input) {
                    let payload = input.take(fragment.left);
                    mask(payload, fragment.key);
                    (self.fragment, self.fragments) = (None, 0);
                    return Ok(Some(Message::Binary(payload)));
                }
                fragment.take(input, &mut self.message);
                if fragment.left > 0 {
                    break;
                }
                let is_last = fragment.is_last;
                self.fragment = None;
                if is_last {
                    self.fragments = 0;
                    return Ok(Some(Message::Binary(&self.message)));
                }
            }
            let Some(header) = Header::parse(input.unread(), self.role)? else { break };
            if header.opcode & 0x8 == 0 {
                self.begin(&header)?;
                input.consume(header.len);
            } else if input.len() < header.len + header.payload {
                break;
            } else {
                input.consume(header.len);
                return self.take_control(&header, input).map(Some);
            }
        }
        if self.fragments == 0 && self.message.capacity() > IDLE_BYTES {
            self.message = Vec::new();
        }
        Ok(None)
    }

    fn begin(&mut self, header: &Header) -> Result<(), LinkFault> {
        let is_first = self.fragments == 0;
        if is_first != (header.opcode == BINARY) || header.payload == 0 || self.fragments == FRAGMENTS_MAX {
            return Err(LinkFault::WebSocketFragments);
        }
        if header.payload > MESSAGE_BYTES_MAX - self.message.len() {
            return Err(LinkFault::MessageTooLong);
        }
        self.fragments += 1;
        self.fragment = Some(Fragment { left: header.payload, key: header.key, is_last: header.is_last });
        Ok(())
    }

    fn take_control(&mut self, header: &Header, input: &mut RecvBuf) -> Result<Message<'_>, LinkFault> {
        let payload = &mut self.control[..header.payload];
        payload.copy_from_slice(&input.unread()[..header.payload]);
        input.consume(header.payload);
        mask(payload, header.key);
        match (header.opcode, &*payload) {
            (PING, payload) => Ok(Message::Ping(payload)),
            (PONG, _) => Ok(Message::Pong),
            (_, []) => Ok(Message::Close(None)),
            (_, [_]) => Err(LinkFault::WebSocketControl),
            (_, [high, low, ..]) => Ok(Message::Close(Some(u16::from_be_bytes([*high, *low])))),
        }
    }
}

impl Fragment {
    /// Whether it ends a message and all that is still to come of it has arrived.
    fn is_whole_in(&self, input: &RecvBuf) -> bool {
        self.is_last && self.left <= input.len()
    }

    /// Moves what has arrived of the payload to the end of `message`.
    fn take(&mut self, input: &mut RecvBuf, message: &mut Vec<u8>) {
        let count = self.left.min(input.len());
        message.reserve_exact(self.left);
        let start = message.len();
        message.extend_from_slice(&input.unread()[..count]);
        input.consume(count);
        mask(&mut message[start..], self.key);
        self.key.rotate_left(count % 4);
        self.left -= count;
    }
}

/// Appends binary messages of these lengths; `fill` writes all their payloads where they lie, and there they are masked.
pub fn write_binary(
    role: Role,
    rng: &mut ChaCha20Rng,
    out: &mut Vec<u8>,
    payload_lens: impl Iterator<Item = usize> + Clone,
    fill: impl FnOnce(&mut [&mut [u8]]),
) {
    let begun = out.len();
    out.reserve(payload_lens.clone().map(|len| HEADER_BYTES_MAX + len).sum());
    let place = |len| {
        let header_at = out.len();
        let key = put_header(role, BINARY, len, rng, out);
        let header_len = out.len() - header_at;
        out.resize(out.len() + len, 0);
        (header_len, len, key)
    };
    let places: Vec<(usize, usize, [u8; 4])> = payload_lens.clone().map(place).collect();
    let mut rest = &mut out[begun..];
    let cut = |(header_len, len, _): &(usize, usize, [u8; 4])| {
        let (payload, after) = std::mem::take(&mut rest)[*header_len..].split_at_mut(*len);
        rest = after;
        payload
    };
    let mut payloads: Vec<&mut [u8]> = places.iter().map(cut).collect();
    fill(&mut payloads);
    for (payload, (.., key)) in payloads.into_iter().zip(places) {
        mask(payload, key);
    }
}

/// Appends a ping.
///
/// # Panics
/// If `payload` has more than 125 bytes.
pub fn write_ping(role: Role, payload: &[u8], rng: &mut ChaCha20Rng, out: &mut Vec<u8>) {
    put_control(role, PING, payload, rng, out);
}

/// Appends the answer to a ping with this payload.
///
/// # Panics
/// If `payload` has more than 125 bytes; one that was read has not.
pub fn write_pong(role: Role, payload: &[u8], rng: &mut ChaCha20Rng, out: &mut Vec<u8>) {
    put_control(role, PONG, payload, rng, out);
}

/// Appends a Close with this code (RFC 6455, 7.4) and no reason.
pub fn write_close(role: Role, code: u16, rng: &mut ChaCha20Rng, out: &mut Vec<u8>) {
    put_control(role, CLOSE, &code.to_be_bytes(), rng, out);
}

/// The `Sec-WebSocket-Accept` that answers the value `key` of a `Sec-WebSocket-Key` (RFC 6455, 4.2.2).
pub fn accept_key(key: &[u8]) -> String {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// The header of a frame (RFC 6455, 5.2).
struct Header {
    is_last: bool,
    opcode: u8,
    /// All zeros, which change nothing, if the frame is not masked.
    key: [u8; 4],
    /// How long the header is.
    len: usize,
    /// How long the payload is.
    payload: usize,
}

impl Header {
    /// The header that `bytes` begin with, if all of it is there. A fault is told as soon as it can be seen.
    fn parse(bytes: &[u8], role: Role) -> Result<Option<Self>, LinkFault> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let (is_last, reserved, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0f);
        let (is_masked, short) = (second & 0x80 != 0, second & 0x7f);
        match opcode {
            _ if reserved != 0 => return Err(LinkFault::WebSocketFrame),
            CONTINUATION | BINARY => {}
            TEXT => return Err(LinkFault::WebSocketText),
            CLOSE | PING | PONG if is_last && usize::from(short) <= CONTROL_BYTES_MAX => {}
            CLOSE | PING | PONG => return Err(LinkFault::WebSocketControl),
            _ => return Err(LinkFault::WebSocketFrame),
        }
        if is_masked != (role == Role::Gateway) {
            return Err(LinkFault::WebSocketMask);
        }
        let Some((payload, rest)) = Self::payload_len(short, rest)? else { return Ok(None) };
        let (key, rest) = match rest.split_first_chunk() {
            _ if !is_masked => ([0; 4], rest),
            Some((key, rest)) => (*key, rest),
            None => return Ok(None),
        };
        Ok(Some(Self { is_last, opcode, key, len: bytes.len() - rest.len(), payload }))
    }

    /// The length that `short` stands for, or what follows it, and what is behind that.
    fn payload_len(short: u8, rest: &[u8]) -> Result<Option<(usize, &[u8])>, LinkFault> {
        let long = match short {
            126 => rest.split_first_chunk().map(|(len, rest)| (u16::from_be_bytes(*len).into(), 126, rest)),
            127 => rest.split_first_chunk().map(|(len, rest)| (u64::from_be_bytes(*len), 1 << 16, rest)),
            short => Some((short.into(), 0, rest)),
        };
        let Some((len, least, rest)) = long else { return Ok(None) };
        if len < least || len >> 63 != 0 {
            return Err(LinkFault::WebSocketFrame);
        }
        match usize::try_from(len) {
            Ok(len) if len <= MESSAGE_BYTES_MAX => Ok(Some((len, rest))),
            _ => Err(LinkFault::MessageTooLong),
        }
    }
}

/// Appends the header of an unfragmented frame; what follows has to be masked with the key that comes back.
fn put_header(role: Role, opcode: u8, payload: usize, rng: &mut ChaCha20Rng, out: &mut Vec<u8>) -> [u8; 4] {
    const FIN: u8 = 0x80;
    let mask_bit = match role {
        Role::Gateway => 0,
        Role::Connector => 0x80,
    };
    out.push(FIN | opcode);
    match (u8::try_from(payload), u16::try_from(payload)) {
        (Ok(len @ ..=125), _) => out.push(mask_bit | len),
        (_, Ok(len)) => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(payload as u64).to_be_bytes());
        }
    }
    let mut key = [0; 4];
    if role == Role::Connector {
        rng.fill_bytes(&mut key);
        out.extend_from_slice(&key);
    }
    key
}

fn put_control(role: Role, opcode: u8, payload: &[u8], rng: &mut ChaCha20Rng, out: &mut Vec<u8>) {
    assert!(payload.len() <= CONTROL_BYTES_MAX, "a control frame is too long");
    let key = put_header(role, opcode, payload.len(), rng, out);
    let start = out.len();
    out.extend_from_slice(payload);
    mask(&mut out[start..], key);
}

/// Masks or unmasks in place (RFC 6455, 5.3), eight bytes at a time.
fn mask(bytes: &mut [u8], key: [u8; 4]) {
    if key == [0; 4] {
        return;
    }
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_core::SeedableRng;

    use super::*;

    fn read(reader: &mut Reader, bytes: &[u8]) -> Result<usize, LinkFault> {
        let mut input = RecvBuf::default();
        input.push(bytes);
        let mut messages = 0;
        while reader.next(&mut input)?.is_some() {
            messages += 1;
        }
        Ok(messages)
    }

    #[test]
    fn the_accept_value_is_the_one_of_the_rfc() {
        // RFC 6455, 1.3
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn masking_by_words_is_masking_by_bytes() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        for len in 0..40 {
            let mut bytes: Vec<u8> = (0..len).collect();
            mask(&mut bytes, key);
            let one_by_one: Vec<u8> = (0..len).map(|i| i ^ key[usize::from(i) % 4]).collect();
            assert_eq!(bytes, one_by_one);
        }
    }

    #[test]
    fn an_idle_reader_has_given_its_memory_back() {
        let mut out = Vec::new();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        write_binary(Role::Connector, &mut rng, &mut out, std::iter::once(MESSAGE_BYTES_MAX), |payloads| {
            payloads[0].fill(7)
        });
        let mut reader = Reader::new(Role::Gateway);
        assert_eq!(read(&mut reader, &out), Ok(1));
        assert!(reader.message.capacity() <= IDLE_BYTES);
    }

    /// Headers as they might come, and anything.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let header =
            (prop::sample::select(vec![0x00, 0x02, 0x80, 0x82, 0x89]), any::<u8>(), any::<[u8; 12]>())
                .prop_map(|(first, second, rest)| [&[first, second][..], &rest].concat());
        let long = any::<[u8; 4]>()
            .prop_map(|[a, b, c, d]| [&[2, 0xff, 0, 0, 0, 0, 0, a & 1, b, c, d], &[0; 99][..]].concat());
        prop::collection::vec(prop_oneof![header, long, prop::collection::vec(any::<u8>(), 0..200)], 0..40)
            .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn whatever_arrives_no_more_than_the_limit_is_kept(bytes in stream(), role in prop::bool::ANY) {
            let mut reader = Reader::new(if role { Role::Gateway } else { Role::Connector });
            for piece in bytes.chunks(50) {
                if read(&mut reader, piece).is_err() {
                    break;
                }
                prop_assert!(reader.message.capacity() <= MESSAGE_BYTES_MAX);
            }
        }
    }
}
