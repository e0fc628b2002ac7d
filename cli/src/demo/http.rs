//! As much HTTP/1.1 as the demo's app and its visitor need: heads up to a bound, bodies as [`Read`].
//!
//! Blocking, small and apart from the core on purpose: what is shown to work is not checked with its own code.

use std::io::{self, BufRead, Read};

/// What a head may have; the tunnel between adds some fields to what it lets through.
const HEAD_BYTES_MAX: u64 = 128 * 1024;
const FIELDS_MAX: usize = 256;
/// The line before a chunk.
const CHUNK_LINE_BYTES_MAX: u64 = 1024;

/// A request's or a response's head.
#[derive(Debug)]
pub(crate) struct Head {
    /// Empty in a response.
    pub(crate) method: String,
    /// Empty in a response.
    pub(crate) target: String,
    /// 0 in a request.
    pub(crate) status: u16,
    /// As it was sent.
    pub(crate) bytes: Vec<u8>,
    fields: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// Reads a request's; none if the peer closed instead.
    pub(crate) fn read_request(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some(bytes) = read_head(from)? else { return Ok(None) };
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut parsed = httparse::Request::new(&mut fields);
        parsed.parse(&bytes).map_err(invalid)?;
        let method = parsed.method.unwrap_or_default().to_owned();
        let target = parsed.path.unwrap_or_default().to_owned();
        let fields = owned(parsed.headers);
        Ok(Some(Self { method, target, status: 0, bytes, fields }))
    }

    /// Reads a final response's.
    pub(crate) fn read_response(from: &mut impl BufRead) -> io::Result<Self> {
        loop {
            let bytes = read_head(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
            let mut parsed = httparse::Response::new(&mut fields);
            parsed.parse(&bytes).map_err(invalid)?;
            let status = parsed.code.unwrap_or_default();
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let fields = owned(parsed.headers);
            return Ok(Self { method: String::new(), target: String::new(), status, bytes, fields });
        }
    }

    /// The first value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// Whether a field that is a list names `token`.
    pub(crate) fn lists(&self, name: &str, token: &str) -> bool {
        let listed = |value: &str| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(token));
        self.field(name).is_some_and(listed)
    }

    /// The body that follows, whole or in part.
    pub(crate) fn body<'a, R: BufRead>(&self, from: &'a mut R) -> io::Result<Body<'a, R>> {
        let left = if self.lists("transfer-encoding", "chunked") {
            Left::ChunkLine
        } else if let Some(length) = self.field("content-length") {
            Left::Sized(length.parse().map_err(invalid)?)
        } else if self.status == 0 || matches!(self.status, 101 | 204 | 304) {
            Left::Sized(0)
        } else {
            Left::UntilClose
        };
        Ok(Body { from, left })
    }
}

/// A body; reading gives its bytes without their framing, as soon as there are any.
#[derive(Debug)]
pub(crate) struct Body<'a, R> {
    from: &'a mut R,
    left: Left,
}

#[derive(Clone, Copy, Debug)]
enum Left {
    /// Without framing: this many bytes.
    Sized(u64),
    /// A line with a chunk's size comes next.
    ChunkLine,
    /// This many bytes of a chunk, then its line end.
    Chunk(u64),
    UntilClose,
}

impl<R: BufRead> Read for Body<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Left::ChunkLine = self.left {
            self.left = self.next_chunk()?;
        }
        let most = match self.left {
            Left::Sized(left) | Left::Chunk(left) => {
                into.len().min(usize::try_from(left).unwrap_or(usize::MAX))
            }
            Left::ChunkLine | Left::UntilClose => into.len(),
        };
        if most == 0 {
            return Ok(0);
        }
        let read = self.from.read(&mut into[..most])?;
        match &mut self.left {
            Left::Sized(_) | Left::Chunk(_) if read == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Left::Sized(left) => *left -= read as u64,
            Left::Chunk(left) if *left == read as u64 => {
                read_line(self.from)?;
                self.left = Left::ChunkLine;
            }
            Left::Chunk(left) => *left -= read as u64,
            Left::ChunkLine | Left::UntilClose => {}
        }
        Ok(read)
    }
}

impl<R: BufRead> Body<'_, R> {
    /// Reads a chunk's size; after the last one also the trailers, and then nothing is left.
    fn next_chunk(&mut self) -> io::Result<Left> {
        let line = read_line(self.from)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).map_err(invalid)?;
        if size > 0 {
            return Ok(Left::Chunk(size));
        }
        while !read_line(self.from)?.is_empty() {}
        Ok(Left::Sized(0))
    }
}

pub(crate) fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// A head with its blank line; none if the peer closed before its first byte.
fn read_head(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut from = from.take(HEAD_BYTES_MAX);
    let mut head = Vec::new();
    loop {
        let line = head.len();
        if from.read_until(b'\n', &mut head)? == 0 {
            return if head.is_empty() { Ok(None) } else { Err(invalid("a head is cut off or too long")) };
        }
        if line > 0 && &head[line..] == b"\r\n" {
            return Ok(Some(head));
        }
    }
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.take(CHUNK_LINE_BYTES_MAX).read_line(&mut line)?;
    line.strip_suffix("\r\n")
        .map(str::to_owned)
        .ok_or_else(|| invalid("a line of a body is cut off or too long"))
}

fn owned(fields: &[httparse::Header<'_>]) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|field| (field.name.to_owned(), field.value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(mut message: &[u8]) -> io::Result<String> {
        let head = Head::read_request(&mut message)?.unwrap();
        let mut text = String::new();
        head.body(&mut message)?.read_to_string(&mut text)?;
        Ok(text + "|" + std::str::from_utf8(message).unwrap())
    }

    #[test]
    fn a_body_ends_where_its_framing_says() {
        for (message, body) in [
            ("GET / HTTP/1.1\r\n\r\nnext", "|next"),
            ("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcnext", "abc|next"),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: t\r\n\r\nnext",
                "abc0123456789|next",
            ),
        ] {
            assert_eq!(body_of(message.as_bytes()).unwrap(), body);
        }
    }

    #[test]
    fn what_is_cut_or_malformed_is_an_error() {
        for message in [
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
            "GET / HTTP/1.1\r\ncontent-length: 3\r\n\r\nab",
            "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab",
            "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\ng\r\n",
            "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n11111111111111111\r\n",
        ] {
            assert!(body_of(message.as_bytes()).is_err(), "{message}");
        }
    }

    #[test]
    fn a_head_has_a_bound() {
        let endless = io::BufReader::new(io::repeat(b'a'));
        assert!(Head::read_request(&mut { endless }).is_err());
    }
}
