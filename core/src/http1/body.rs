//! The framing of bodies: what a head says about its body, and the codecs between that and plain bytes. A body has
//! one length or the message is refused, and no framing byte that came in goes out again: framing is made anew.
//!
//! ```
//! use gesher_core::http1::body::{Decoder, Encoder, Framing};
//!
//! let mut decoder = Decoder::new(Framing::Chunked);
//! let mut body = Vec::new();
//! let input = b"5;ignored\r\nhello\r\n0\r\nDigest: x\r\n\r\nwhat follows";
//! assert_eq!(decoder.decode(input, usize::MAX, &mut body), Ok(34));
//! assert_eq!((&body[..], decoder.is_done()), (&b"hello"[..], true));
//! let trailers = decoder.take_trailers();
//!
//! let mut encoder = Encoder::new(Framing::Chunked);
//! let mut output = Vec::new();
//! encoder.encode(&body, &mut output).unwrap();
//! encoder.finish(&trailers, &mut output).unwrap();
//! assert_eq!(output, b"5\r\nhello\r\n0\r\nDigest: x\r\n\r\n");
//! ```

use super::Violation;
use super::head::{Bounds, Field, HeadKind, HeadScan, RequestHead, ResponseHead, Version};
use super::head::{is_field_lines, is_token, is_value_byte, list, parse_fields, unveiled, values};
use crate::buf::{RecvBuf, SendBuf};
use crate::limits;

/// How a body crosses a link (docs/protocol.md, REQUEST and RESPONSE).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyKind {
    /// There is none.
    None,
    /// This many bytes.
    Sized(u64),
    /// As many as come before END.
    Unknown,
    /// Opaque bytes both ways after a 101; of a request, one without a body.
    Upgrade,
    /// A request that asks for an upgrade behind a body of this many bytes: first those, then, after a 101, opaque ones.
    UpgradeSized(u64),
    /// The same behind a body of unknown length, which crosses the link in chunks (RFC 9112, 7.1) to tell where it ends.
    UpgradeChunked,
}

impl BodyKind {
    /// Whether a request of this kind asks for an upgrade.
    pub fn is_upgrade(self) -> bool {
        matches!(self, BodyKind::Upgrade | BodyKind::UpgradeSized(_) | BodyKind::UpgradeChunked)
    }

    /// How the body that comes before an upgrade crosses the link; none if there is no such body.
    pub(crate) fn before_upgrade(self) -> Option<Framing> {
        match self {
            BodyKind::UpgradeSized(bytes) => Some(Framing::Sized(bytes)),
            BodyKind::UpgradeChunked => Some(Framing::Chunked),
            BodyKind::None | BodyKind::Sized(_) | BodyKind::Unknown | BodyKind::Upgrade => None,
        }
    }
}

/// How a body is framed on an HTTP/1.1 connection (RFC 9112, 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// There is none.
    Empty,
    /// Content-Length.
    Sized(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// Everything until the connection ends; after an upgrade too.
    UntilClose,
}

/// How the body of a request is framed: without a field that says so, there is none.
///
/// # Errors
/// Whatever leaves a body's length open is refused, since the app might read another one (RFC 9112, 6.3 and 11.2).
pub fn request_framing(head: &RequestHead<'_>) -> Result<Framing, Violation> {
    Ok(stated_framing(&head.fields, head.version)?.unwrap_or(Framing::Empty))
}

/// How the body of a response to `request_method` is framed. What a 101 switches to is no body: it gives
/// [`Framing::Empty`]. `identity` as the only transfer coding says nothing, as it did in RFC 2616, 4.4: such a body lasts
/// until the connection ends.
///
/// # Errors
/// The same as for requests, also where the response has no body.
pub fn response_framing(head: &ResponseHead<'_>, request_method: &[u8]) -> Result<Framing, Violation> {
    let is_identity = values(&head.fields, "content-length").next().is_none()
        && values(&head.fields, "transfer-encoding").next().is_some()
        && list(&head.fields, "transfer-encoding").all(|coding| coding.eq_ignore_ascii_case(b"identity"));
    let stated = if is_identity { None } else { stated_framing(&head.fields, head.version)? };
    let has_body = request_method != b"HEAD" && !matches!(head.status, 100..=199 | 204 | 304);
    Ok(if has_body { stated.unwrap_or(Framing::UntilClose) } else { Framing::Empty })
}

/// Takes the framing off a body as it arrives. Holds no byte of the body and at most
/// [`limits::TRAILER_BYTES_MAX`] of trailers, however the input is cut.
///
/// ```text
///             ┌──────────────────────────────────────────────┐
///             ▼                                              │
///   ──▶ digits of the size ──[extensions]──▶ LF ──▶ data ──▶ CR LF
///                                            └─ size 0 ──▶ trailers ──▶ done
/// ```
#[derive(Debug)]
pub struct Decoder {
    state: State,
    trailers: Vec<u8>,
    scan: HeadScan,
}

/// What the next byte of a body is.
#[derive(Clone, Copy, Debug)]
enum State {
    /// None of it.
    Done,
    /// One of this many.
    Sized(u64),
    UntilClose,
    /// A digit of a chunk's size, or what ends the digits.
    Size {
        size: u64,
        digits: u32,
    },
    /// White space before a `;`, or what follows that.
    Extension {
        size: u64,
        length: usize,
        began: bool,
    },
    SizeLf {
        size: u64,
    },
    /// One of this many that are left of a chunk.
    Data(u64),
    DataCr,
    DataLf,
    Trailers,
}

impl Decoder {
    /// A decoder at the first byte of a body.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Empty | Framing::Sized(0) => State::Done,
            Framing::Sized(length) => State::Sized(length),
            Framing::Chunked => State::CHUNK,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, trailers: Vec::new(), scan: HeadScan::of_fields() }
    }

    /// Appends at most `room` bytes of the body to `out` and returns how many bytes of `input` it is done with; those
    /// are not to be given again. Framing needs no room. 0 means that more input or more room is needed, or that the
    /// body is whole.
    ///
    /// # Errors
    /// The framing is broken: nobody knows where the next message begins, so the connection has to end.
    pub fn decode(&mut self, input: &[u8], room: usize, out: &mut Vec<u8>) -> Result<usize, Violation> {
        let full_at = out.len().saturating_add(room);
        let mut consumed = 0;
        loop {
            let step = self.step(&input[consumed..], full_at - out.len(), out)?;
            if step == 0 {
                return Ok(consumed);
            }
            consumed += step;
        }
    }

    /// The same on what is unread, which is consumed; where all of it is body, its memory and not a copy goes into `out`,
    /// which is empty.
    pub(crate) fn take(
        &mut self,
        input: &mut RecvBuf,
        room: usize,
        out: &mut Vec<u8>,
    ) -> Result<usize, Violation> {
        let count = input.len();
        let is_body = count <= room && count as u64 <= self.state.opaque();
        if count == 0 || !is_body || !input.swap_out(out) {
            let consumed = self.decode(input.unread(), room, out)?;
            input.consume(consumed);
            return Ok(consumed);
        }
        self.state = self.state.after_opaque(count as u64);
        Ok(count)
    }

    /// Whether the body is whole.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The connection sends no more: what lasts until then is whole now.
    ///
    /// # Errors
    /// [`Violation::BodyIncomplete`]: what came must not be taken for a whole body.
    pub fn end_of_input(&mut self) -> Result<(), Violation> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(Violation::BodyIncomplete),
        }
    }

    /// The trailers of a whole body as they go into END: lines `Name: value`, each with its CRLF, without the names
    /// that have no business there ([RFC 9110, 6.5.1]). Empty if there are none.
    ///
    /// [RFC 9110, 6.5.1]: https://www.rfc-editor.org/rfc/rfc9110#section-6.5.1
    pub fn take_trailers(&mut self) -> Vec<u8> {
        if self.is_done() { std::mem::take(&mut self.trailers) } else { Vec::new() }
    }

    /// Consumes some of `rest`, or nothing if it cannot.
    fn step(&mut self, rest: &[u8], room: usize, out: &mut Vec<u8>) -> Result<usize, Violation> {
        let Some(&byte) = rest.first() else { return Ok(0) };
        let (consumed, next) = match self.state {
            State::Done => (0, State::Done),
            state @ (State::UntilClose | State::Sized(_) | State::Data(_)) => {
                let copied = copy(rest, state.opaque(), room, out);
                (copied, state.after_opaque(copied as u64))
            }
            State::Trailers => return self.read_trailers(rest),
            framing => (1, framing.after(byte)?),
        };
        self.state = next;
        Ok(consumed)
    }

    /// Gathers the trailers until they are whole.
    fn read_trailers(&mut self, rest: &[u8]) -> Result<usize, Violation> {
        if self.trailers.is_empty() && rest.starts_with(b"\r\n") {
            self.state = State::Done;
            return Ok(2);
        }
        let held = self.trailers.len();
        let taken = rest.len().min(TRAILERS.bytes_max - held);
        self.trailers.extend_from_slice(&rest[..taken]);
        let found = self.scan.find_within(&self.trailers, HeadKind::Request, TRAILERS);
        let Some(end) = found.map_err(|_| Violation::Trailers)? else { return Ok(taken) };
        self.trailers = carried_trailers(&self.trailers[..end])?;
        self.state = State::Done;
        // Had the end been among those held, it would have been found then.
        Ok(end - held)
    }
}

impl State {
    const CHUNK: Self = State::Size { size: 0, digits: 0 };

    /// How many of the next bytes are body, whatever they are.
    fn opaque(self) -> u64 {
        match self {
            State::UntilClose => u64::MAX,
            State::Sized(left) | State::Data(left) => left,
            _ => 0,
        }
    }

    /// What comes after `count` of those.
    fn after_opaque(self, count: u64) -> Self {
        match self {
            State::Sized(left) if left == count => State::Done,
            State::Sized(left) => State::Sized(left - count),
            State::Data(left) if left == count => State::DataCr,
            State::Data(left) => State::Data(left - count),
            state => state,
        }
    }

    /// What comes after `byte` in the framing of chunks (RFC 9112, 7.1).
    fn after(self, byte: u8) -> Result<Self, Violation> {
        match (self, byte) {
            (State::Size { digits: CHUNK_SIZE_DIGITS_MAX, .. }, _) if byte.is_ascii_hexdigit() => {
                Err(Violation::ChunkSize)
            }
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                Ok(State::Size { size: size << 4 | hex_value(byte), digits: digits + 1 })
            }
            (State::Size { digits: 0, .. }, _) => Err(Violation::ChunkSize),
            (State::Size { size, .. } | State::Extension { size, began: true, .. }, b'\r') => {
                Ok(State::SizeLf { size })
            }
            (State::Size { size, .. }, b';' | b' ' | b'\t') => {
                Ok(State::Extension { size, length: 1, began: byte == b';' })
            }
            (State::Size { .. } | State::Extension { .. }, b'\n') => Err(Violation::BareLineEnd),
            (State::Size { .. }, _) => Err(Violation::ChunkSize),
            (State::Extension { size, length, began }, _) => {
                let is_allowed =
                    if began { is_value_byte(byte) } else { matches!(byte, b';' | b' ' | b'\t') };
                if !is_allowed || length == limits::CHUNK_EXTENSION_BYTES_MAX {
                    return Err(Violation::ChunkExtensions);
                }
                Ok(State::Extension { size, length: length + 1, began: began || byte == b';' })
            }
            (State::SizeLf { size: 0 }, b'\n') => Ok(State::Trailers),
            (State::SizeLf { size }, b'\n') => Ok(State::Data(size)),
            (State::SizeLf { .. }, _) => Err(Violation::BareLineEnd),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::CHUNK),
            (State::DataCr | State::DataLf, _) => Err(Violation::ChunkEnd),
            // No framing.
            (State::Done | State::Sized(_) | State::UntilClose | State::Data(_) | State::Trailers, _) => {
                Ok(self)
            }
        }
    }
}

/// Puts framing around a body as it goes out, and keeps it to the length that its head says.
#[derive(Debug)]
pub struct Encoder {
    /// What may still come; `Empty` after the end.
    framing: Framing,
}

/// A body is longer or shorter than its head says. What was sent of it must not be taken for a whole one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongLength;

impl Encoder {
    /// An encoder at the first byte of a body.
    pub fn new(framing: Framing) -> Self {
        Self { framing }
    }

    /// Appends `data` in its framing to `out`: one chunk a call, none for no data, which would end the body.
    ///
    /// # Errors
    /// The body would be longer than its head says; nothing is appended.
    pub fn encode(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), WrongLength> {
        self.count(data.len())?;
        if self.framing == Framing::Chunked && !data.is_empty() {
            push_hex(data.len(), out);
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(data);
            out.extend_from_slice(b"\r\n");
        } else {
            out.extend_from_slice(data);
        }
        Ok(())
    }

    /// The same on `data` that is not needed any more: without chunks its memory may become the output's.
    pub(crate) fn put(&mut self, data: &mut Vec<u8>, out: &mut SendBuf) -> Result<(), WrongLength> {
        if self.framing == Framing::Chunked {
            return self.encode(data, out.tail());
        }
        self.count(data.len())?;
        out.append(data);
        Ok(())
    }

    /// Counts bytes that are about to be sent.
    fn count(&mut self, bytes: usize) -> Result<(), WrongLength> {
        match &mut self.framing {
            Framing::Sized(left) => *left = left.checked_sub(bytes as u64).ok_or(WrongLength)?,
            Framing::Empty if bytes > 0 => return Err(WrongLength),
            Framing::Empty | Framing::Chunked | Framing::UntilClose => {}
        }
        Ok(())
    }

    /// Ends the body. `trailers` are lines that [`is_valid_trailers`], and go out only with chunks; of those that a link
    /// brought, names that have no business there are left out, whatever its other end should have done.
    ///
    /// # Errors
    /// The body is shorter than its head says.
    pub fn finish(&mut self, trailers: &[u8], out: &mut Vec<u8>) -> Result<(), WrongLength> {
        match self.framing {
            Framing::Sized(1..) => return Err(WrongLength),
            Framing::Chunked => {
                out.extend_from_slice(b"0\r\n");
                put_allowed_trailers(trailers, out);
                out.extend_from_slice(b"\r\n");
            }
            Framing::Empty | Framing::Sized(0) | Framing::UntilClose => {}
        }
        self.framing = Framing::Empty;
        Ok(())
    }
}

/// Whether `text` may be the trailers of an END frame: none or some lines `Name: value`, each with its CRLF, under
/// the rules of field lines; at most [`limits::TRAILER_BYTES_MAX`].
pub fn is_valid_trailers(text: &[u8]) -> bool {
    text.len() <= limits::TRAILER_BYTES_MAX && is_field_lines(text)
}

/// 64 bits.
const CHUNK_SIZE_DIGITS_MAX: u32 = 16;

/// Trailers with the blank line that ends them.
const TRAILERS: Bounds =
    Bounds { bytes_max: limits::TRAILER_BYTES_MAX + b"\r\n".len(), fields_max: limits::HEAD_FIELDS_MAX };

/// Names that are dropped from trailers, since they frame, route, authenticate, say who asks, or steer what was
/// processed before they come.
const NO_TRAILERS: [&str; 39] = [
    "age",
    "authorization",
    "cache-control",
    "cf-connecting-ip",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "http2-settings",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "vary",
    "via",
    "www-authenticate",
    "x-original-host",
    "x-real-ip",
];
/// The same for all names that begin so.
const NO_TRAILER_PREFIXES: [&str; 2] = ["proxy-", "x-forwarded-"];

/// What the fields say of the body's length, if anything (RFC 9112, 6).
fn stated_framing(fields: &[Field<'_>], version: Version) -> Result<Option<Framing>, Violation> {
    let has_codings = values(fields, "transfer-encoding").next().is_some();
    let mut lengths = values(fields, "content-length");
    match (has_codings, lengths.next(), lengths.next()) {
        (false, None, _) => Ok(None),
        (false, Some(length), None) => Ok(Some(Framing::Sized(parse_length(length)?))),
        (false, Some(_), Some(_)) => Err(Violation::ContentLength),
        (true, Some(_), _) => Err(Violation::TwoFramings),
        (true, None, _) if version == Version::Http10 => Err(Violation::TransferEncoding),
        (true, None, _) => check_codings(fields).map(|()| Some(Framing::Chunked)),
    }
}

/// Whether the transfer coding is chunked and nothing else.
fn check_codings(fields: &[Field<'_>]) -> Result<(), Violation> {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let codings = || list(fields, "transfer-encoding");
    let chunked = codings().filter(|coding| is_chunked(coding)).count();
    // A parameter makes an element no token.
    if chunked != 1 || !codings().last().is_some_and(is_chunked) || !codings().all(is_token) {
        return Err(Violation::TransferEncoding);
    }
    if codings().count() == 1 { Ok(()) } else { Err(Violation::TransferEncodingUnsupported) }
}

/// 19 digits always fit.
fn parse_length(digits: &[u8]) -> Result<u64, Violation> {
    if !matches!(digits.len(), 1..=19) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Violation::ContentLength);
    }
    Ok(digits.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

/// Copies as much as there is, may come and has room.
fn copy(rest: &[u8], left: u64, room: usize, out: &mut Vec<u8>) -> usize {
    let length = rest.len().min(room).min(usize::try_from(left).unwrap_or(usize::MAX));
    out.extend_from_slice(&rest[..length]);
    length
}

/// Trailers as a link carries them, from the lines that came and their blank line.
fn carried_trailers(lines: &[u8]) -> Result<Vec<u8>, Violation> {
    let mut text = Vec::with_capacity(lines.len());
    put_trailers(&parse_fields(lines)?, &mut text);
    // Each line may have grown by a space.
    if text.len() <= limits::TRAILER_BYTES_MAX { Ok(text) } else { Err(Violation::Trailers) }
}

/// Trailers as they go out, from the lines of a link.
fn put_allowed_trailers(lines: &[u8], out: &mut Vec<u8>) {
    if lines.is_empty() {
        return;
    }
    // Whoever took them from the link has checked them; what cannot be read goes nowhere.
    if let Ok(fields) = parse_fields(&[lines, b"\r\n"].concat()) {
        put_trailers(&fields, out);
    }
}

fn put_trailers(fields: &[Field<'_>], out: &mut Vec<u8>) {
    for field in fields.iter().filter(|field| !is_forbidden_trailer(field.name)) {
        for part in [field.name, b": ", field.value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}

pub(crate) fn is_forbidden_trailer(name: &[u8]) -> bool {
    let name = unveiled(name);
    NO_TRAILERS.iter().any(|forbidden| name == forbidden.as_bytes())
        || NO_TRAILER_PREFIXES.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}

fn hex_value(digit: u8) -> u64 {
    char::from(digit).to_digit(16).map_or(0, u64::from)
}

fn push_hex(number: usize, out: &mut Vec<u8>) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4);
    out.extend((0..digits).rev().map(|place| b"0123456789abcdef"[(number >> (4 * place)) & 0xF]));
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMINGS: [Framing; 5] =
        [Framing::Empty, Framing::Sized(9), Framing::Sized(40), Framing::UntilClose, Framing::Chunked];

    #[test]
    fn what_is_taken_over_is_what_would_be_copied() {
        let text = b"8\r\nchunked!\r\n0\r\n\r\nand what follows";
        for (framing, step) in
            FRAMINGS.iter().flat_map(|framing| (1..=text.len()).map(|step| (*framing, step)))
        {
            for room in [1, 4, 100] {
                let (mut copies, mut takes) = (Decoder::new(framing), Decoder::new(framing));
                let (mut unread, mut input) = (Vec::new(), RecvBuf::default());
                for piece in text.chunks(step) {
                    unread.extend_from_slice(piece);
                    input.push(piece);
                    loop {
                        let (mut copied, mut taken) = (Vec::new(), Vec::new());
                        let consumed = copies.decode(&unread, room, &mut copied).unwrap();
                        assert_eq!(takes.take(&mut input, room, &mut taken), Ok(consumed));
                        unread.drain(..consumed);
                        assert_eq!((taken, input.unread()), (copied, &unread[..]));
                        assert_eq!(takes.is_done(), copies.is_done());
                        if consumed == 0 {
                            break;
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_handed_over_is_framed_like_what_is_copied() {
        for (framing, waits) in FRAMINGS.iter().flat_map(|framing| [(*framing, false), (*framing, true)]) {
            let (mut copies, mut hands) = (Encoder::new(framing), Encoder::new(framing));
            let (mut copied, mut output) = (Vec::new(), SendBuf::default());
            for data in [&b"hello"[..], b"", b"body", b"more"] {
                let expected = copies.encode(data, &mut copied);
                assert_eq!(hands.put(&mut data.to_vec(), &mut output), expected, "{framing:?}");
                assert_eq!(output.waiting(), copied);
                if !waits {
                    output.take(output.len());
                    copied.clear();
                }
            }
        }
    }

    #[test]
    fn a_chunk_size_is_written_in_the_shortest_lower_case() {
        for number in [1, 9, 10, 15, 16, 255, 256, 0xabcdef, usize::MAX] {
            let mut text = Vec::new();
            push_hex(number, &mut text);
            assert_eq!(text, format!("{number:x}").into_bytes());
        }
    }

    #[test]
    fn nineteen_digits_fit_and_twenty_are_refused() {
        assert_eq!(parse_length(b"9999999999999999999"), Ok(9_999_999_999_999_999_999));
        assert_eq!(parse_length(b"00000000000000000001"), Err(Violation::ContentLength));
    }

    #[test]
    fn trailers_that_would_mislead_are_known_in_any_spelling() {
        for name in [
            "Host",
            "TRANSFER-ENCODING",
            "x_forwarded_for",
            "content.length",
            "X-Forwarded-Anything",
            "Proxy-Authorization",
        ] {
            assert!(is_forbidden_trailer(name.as_bytes()), "{name}");
        }
        for name in ["Grpc-Status", "Digest", "Server-Timing", "X-Forwarded", "Proxied"] {
            assert!(!is_forbidden_trailer(name.as_bytes()), "{name}");
        }
    }
}
