//! The framing of bodies, against a decoder that sees all the input at once.
//!
//! ```text
//! framing │ seed of the cuts │ room │ what arrives
//! ```

use super::input::{Input, pieces};
use crate::http1::Violation;
use crate::http1::body::{Decoder, Encoder, Framing, is_forbidden_trailer, is_valid_trailers};
use crate::http1::head::is_token;
use crate::limits;

/// Decodes bytes as a body: at once, byte by byte, cut anywhere with little room, and naively.
pub fn http_body(data: &[u8]) {
    let mut input = Input::new(data);
    let framing = match input.below(4) {
        0 => Framing::Chunked,
        1 => Framing::Sized(u64::from(input.byte())),
        2 => Framing::UntilClose,
        _ => Framing::Empty,
    };
    let seed = input.byte();
    let room = usize::from(input.byte()) + 1;
    let bytes = input.rest();

    let whole = decode(framing, [bytes], usize::MAX);
    assert_eq!(decode(framing, pieces(bytes, 0), usize::MAX), whole, "byte by byte");
    assert_eq!(decode(framing, pieces(bytes, seed), room), whole, "cut anywhere, with little room");
    match (framing, naive(framing, bytes)) {
        (_, Some((length, body, trailers))) => {
            assert_eq!((whole.consumed, whole.violation), (Some(length), None));
            assert_eq!((&whole.body, &whole.trailers), (&body, &trailers));
            encode_again(&whole);
        }
        (Framing::UntilClose, None) => assert_eq!((&whole.body[..], whole.consumed), (bytes, None)),
        (_, None) => assert_eq!(whole.consumed, None, "what is no whole body is not taken for one"),
    }
    if whole.consumed.is_none() && framing != Framing::UntilClose {
        assert!(whole.at_end.is_err(), "a part is not taken for the whole");
    }
}

#[derive(PartialEq, Debug)]
struct Decoded {
    body: Vec<u8>,
    /// How long the whole body was in its framing.
    consumed: Option<usize>,
    trailers: Vec<u8>,
    violation: Option<Violation>,
    /// What the end of the connection makes of it.
    at_end: Result<(), Violation>,
}

fn decode<'a>(framing: Framing, pieces: impl IntoIterator<Item = &'a [u8]>, room: usize) -> Decoded {
    let mut decoder = Decoder::new(framing);
    let (mut body, mut unread, mut consumed, mut violation) = (Vec::new(), Vec::new(), 0, None);
    'pieces: for piece in pieces {
        unread.extend_from_slice(piece);
        loop {
            let before = body.len();
            match decoder.decode(&unread, room, &mut body) {
                Ok(0) => break,
                Ok(count) => {
                    assert!(body.len() - before <= room, "no more than there is room for");
                    unread.drain(..count);
                    consumed += count;
                }
                Err(rule) => {
                    violation = Some(rule);
                    break 'pieces;
                }
            }
        }
    }
    let is_done = decoder.is_done();
    let at_end = decoder.end_of_input();
    let trailers = if is_done { decoder.take_trailers() } else { Vec::new() };
    // What came before a breach, and how it was cut there, is nobody's: the connection ends.
    if violation.is_some() {
        body.clear();
    }
    Decoded { body, consumed: is_done.then_some(consumed), trailers, violation, at_end }
}

/// How long the body is in its framing, the body, and its trailers; none if it is not whole or not well-formed.
fn naive(framing: Framing, bytes: &[u8]) -> Option<(usize, Vec<u8>, Vec<u8>)> {
    match framing {
        Framing::Empty => Some((0, Vec::new(), Vec::new())),
        Framing::Sized(length) => {
            let body = bytes.get(..usize::try_from(length).ok()?)?;
            Some((body.len(), body.to_vec(), Vec::new()))
        }
        Framing::UntilClose => None,
        Framing::Chunked => naive_chunks(bytes),
    }
}

/// RFC 9112, 7.1, as its grammar reads.
fn naive_chunks(bytes: &[u8]) -> Option<(usize, Vec<u8>, Vec<u8>)> {
    let (mut rest, mut body) = (bytes, Vec::new());
    loop {
        let (line, after) = split_line(rest)?;
        rest = after;
        let size = naive_size(line)?;
        if size == 0 {
            break;
        }
        let (data, after) = rest.split_at_checked(usize::try_from(size).ok()?)?;
        body.extend_from_slice(data);
        rest = after.strip_prefix(b"\r\n")?;
    }
    let (length, trailers) = naive_trailers(rest)?;
    Some((bytes.len() - rest.len() + length, body, trailers))
}

/// 1 to 16 digits, and perhaps white space, a semicolon and anything.
fn naive_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extension) = line.split_at(digits);
    let is_extension = extension.trim_ascii_start().starts_with(b";")
        && extension.iter().all(is_text)
        && extension.len() <= limits::CHUNK_EXTENSION_BYTES_MAX;
    let is_size = (1..=16).contains(&digits.len()) && (extension.is_empty() || is_extension);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_size)?;
    u64::from_str_radix(digits, 16).ok()
}

/// How long the trailers are with their blank line, and what of them is kept.
fn naive_trailers(lines: &[u8]) -> Option<(usize, Vec<u8>)> {
    let (mut rest, mut count, mut kept) = (lines, 0, Vec::new());
    loop {
        let (line, after) = split_line(rest)?;
        let length = lines.len() - rest.len();
        rest = after;
        if line.is_empty() {
            let fits =
                count <= limits::HEAD_FIELDS_MAX && length.max(kept.len()) <= limits::TRAILER_BYTES_MAX;
            return fits.then(|| (lines.len() - rest.len(), kept));
        }
        count += 1;
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if !is_token(name) || !value.iter().all(is_text) {
            return None;
        }
        if !is_forbidden_trailer(name) {
            kept.extend_from_slice(&[name, b": ", value.trim_ascii(), b"\r\n"].concat());
            let folded = name.to_ascii_lowercase();
            let misleads = [&b"host"[..], b"content-length", b"transfer-encoding", b"cookie", b"set-cookie"];
            assert!(!misleads.contains(&&folded[..]), "it would mislead");
        }
    }
}

fn is_text(byte: &u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// Up to the first CR or LF, which has to be a CRLF.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    Some((&bytes[..end], bytes[end..].strip_prefix(b"\r\n")?))
}

/// What was decoded is the same after it was framed anew.
fn encode_again(whole: &Decoded) {
    assert!(is_valid_trailers(&whole.trailers));
    let (mut encoder, mut wire) = (Encoder::new(Framing::Chunked), Vec::new());
    for piece in whole.body.chunks(97) {
        encoder.encode(piece, &mut wire).expect("chunks take any length");
    }
    encoder.finish(&whole.trailers, &mut wire).expect("chunks end anywhere");
    let again = decode(Framing::Chunked, [&wire[..]], usize::MAX);
    assert_eq!((&again.body, &again.trailers), (&whole.body, &whole.trailers));
    assert_eq!(again.consumed, Some(wire.len()));
}
