//! Heads: every byte is checked as it arrives, and a head is parsed once, when it is whole. What passed has one
//! reading: CRLF line ends, token names, no control bytes, one Host, a target in a known form. Only an app may be
//! careless about two of these, line ends and white space before a colon: what it meant is written anew before it
//! goes on.
//!
//! ```
//! use gesher_core::http1::Violation;
//! use gesher_core::http1::head::{HeadKind, HeadScan, parse_request};
//!
//! let mut scan = HeadScan::default();
//! assert_eq!(scan.find(b"GET /a?b HT", HeadKind::Request), Ok(None));
//! let input = b"GET /a?b HTTP/1.1\r\nHost: example.com\r\n\r\nwhat follows";
//! assert_eq!(scan.find(input, HeadKind::Request), Ok(Some(40)));
//!
//! let head = parse_request(&input[..40]).unwrap();
//! assert_eq!((head.method, head.target), (&b"GET"[..], &b"/a?b"[..]));
//! assert_eq!(head.get("host"), Some(&b"example.com"[..]));
//!
//! // A TLS hello is refused at its first byte.
//! assert_eq!(HeadScan::default().find(b"\x16", HeadKind::Request), Err(Violation::NotHttp));
//! ```

use std::net::Ipv6Addr;

use super::Violation;
use crate::limits;

/// The version of a message; everything 1.x with x ≥ 1 is 1.1 (RFC 9110, 2.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// One field line; the value without surrounding white space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// A token, in the case it was sent in.
    pub name: &'a [u8],
    /// Visible ASCII, spaces, tabs and bytes 0x80 to 0xFF. A request's Host has no empty port.
    pub value: &'a [u8],
}

impl Field<'_> {
    /// Whether this is a line of the field `name`, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// A request head, borrowed from the bytes it was parsed from.
#[derive(Clone, Debug)]
pub struct RequestHead<'a> {
    /// A token; methods are case-sensitive.
    pub method: &'a [u8],
    /// As it was sent: origin-form, absolute-form or `*`.
    pub target: &'a [u8],
    /// The version.
    pub version: Version,
    /// All field lines in order.
    pub fields: Vec<Field<'a>>,
}

impl<'a> RequestHead<'a> {
    /// The value of the first line of `name`, in any case.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The values of all lines of `name`, in any case.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        values(&self.fields, name)
    }

    /// The target taken apart into what replaces Host and what goes out in origin-form.
    pub fn origin(&self) -> Target<'a> {
        match split_absolute(self.target) {
            Some((authority, b"")) => {
                let path: &[u8] = if self.method == b"OPTIONS" { b"*" } else { b"/" };
                Target { authority: Some(authority), path }
            }
            Some((authority, path)) => Target { authority: Some(authority), path },
            None => Target { authority: None, path: self.target },
        }
    }
}

/// A request target on its way to origin-form (RFC 9112, 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target<'a> {
    /// The authority of an absolute-form, which replaces Host.
    pub authority: Option<&'a [u8]>,
    /// Path and query. `*` for an OPTIONS of the whole server (RFC 9112, 3.2.4); of `http://a?x` it is `?x`, which
    /// needs a `/` before it.
    pub path: &'a [u8],
}

/// A response head, borrowed from the bytes it was parsed from.
#[derive(Clone, Debug)]
pub struct ResponseHead<'a> {
    /// 100 to 599.
    pub status: u16,
    /// May be empty.
    pub reason: &'a [u8],
    /// The version.
    pub version: Version,
    /// All field lines in order.
    pub fields: Vec<Field<'a>>,
}

impl<'a> ResponseHead<'a> {
    /// The value of the first line of `name`, in any case.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The values of all lines of `name`, in any case.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        values(&self.fields, name)
    }
}

/// Which head is expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadKind {
    /// From a visitor; one CRLF may come before it (RFC 9112, 2.2).
    Request,
    /// From a link, or a gateway's answer to a join.
    Response,
    /// From an app. A bare LF ends a line too (RFC 9112, 2.2), and white space before a colon is no part of the name
    /// (RFC 9112, 5.1), unless the field frames the body: servers disagree about whether such a field counts.
    AppResponse,
}

/// Searches for the end of a head in input that grows, looking at each byte once. Whatever breaks a rule of its line
/// is refused at that byte, a start line at its end at the latest.
#[derive(Default, Debug)]
pub struct HeadScan {
    stage: Stage,
    searched: usize,
    /// Where the current line begins.
    line: usize,
    fields: usize,
    /// Something was taken that only an app may send.
    is_lax: bool,
}

/// Where the next byte belongs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Stage {
    /// Before the start line.
    #[default]
    Start,
    StartLine,
    /// At the first byte of a field line, or of the blank line.
    LineStart,
    Name,
    /// In the white space between a name and its colon.
    BeforeColon,
    Value,
    /// Behind the blank line.
    Done,
}

/// How much a head may hold.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) bytes_max: usize,
    pub(super) fields_max: usize,
}

/// A head from a visitor or an app.
const RECEIVED: Bounds = Bounds { bytes_max: limits::HEAD_BYTES_MAX, fields_max: limits::HEAD_FIELDS_MAX };
/// The same after an intermediary added its fields: what a link carries is parsed as well.
const CARRIED: Bounds =
    Bounds { bytes_max: limits::LINK_HEAD_BYTES_MAX, fields_max: limits::HEAD_FIELDS_MAX + FIELDS_ADDED_MAX };
/// Forwarding fields, Via, Host, Date and what describes the body: each at most once.
const FIELDS_ADDED_MAX: usize = 16;

impl HeadScan {
    /// The length of the head that `input` begins with, its blank line and a leading CRLF included; none if more
    /// input is needed. `input` is all that is unread from the head's first byte on, so it grows from call to call.
    ///
    /// # Errors
    /// Judged before more is buffered: 414, 431, and every breach of a line's grammar.
    pub fn find(&mut self, input: &[u8], kind: HeadKind) -> Result<Option<usize>, Violation> {
        self.find_within(input, kind, RECEIVED)
    }

    /// The head that `input` begins with, as [`Self::find`] finds it; the scan is ready for the next one then.
    pub fn take<'a>(&mut self, input: &'a [u8], kind: HeadKind) -> Result<Option<WholeHead<'a>>, Violation> {
        let found = self.find(input, kind)?;
        Ok(found.map(|length| {
            let is_lax = std::mem::take(self).is_lax;
            WholeHead { bytes: &input[..length], is_lax }
        }))
    }

    /// A scan of field lines without a start line: trailers.
    pub(super) fn of_fields() -> Self {
        Self { stage: Stage::LineStart, ..Self::default() }
    }

    pub(super) fn find_within(
        &mut self,
        input: &[u8],
        kind: HeadKind,
        bounds: Bounds,
    ) -> Result<Option<usize>, Violation> {
        let window = &input[..input.len().min(bounds.bytes_max)];
        match self.scan(window, kind, bounds.fields_max)? {
            None if window.len() == bounds.bytes_max => Err(Violation::HeadTooLarge),
            found => Ok(found),
        }
    }

    fn scan(&mut self, input: &[u8], kind: HeadKind, fields_max: usize) -> Result<Option<usize>, Violation> {
        while self.stage != Stage::Done {
            let Some(&byte) = input.get(self.searched) else { return Ok(None) };
            let moved = match (self.stage, byte) {
                (Stage::Start, _) => self.start(input, byte, kind)?,
                (Stage::StartLine, _) => self.start_line(input, kind)?,
                (Stage::LineStart, b'\r' | b'\n') => self.end_line(input, kind, Stage::Done)?,
                (Stage::LineStart, _) => self.line_start(byte, fields_max)?,
                (Stage::Name, _) => self.name(input, kind)?,
                (Stage::BeforeColon, _) => self.before_colon(input)?,
                (Stage::Value | Stage::Done, _) => self.value(input, kind)?,
            };
            if !moved {
                return Ok(None);
            }
        }
        Ok(Some(self.searched))
    }

    // Each step says whether it got anywhere.

    fn start(&mut self, input: &[u8], byte: u8, kind: HeadKind) -> Result<bool, Violation> {
        match (kind, byte) {
            (HeadKind::Response | HeadKind::AppResponse, _) => {
                let name = &input[..input.len().min(HTTP_NAME.len())];
                if !HTTP_NAME.starts_with(name) {
                    return Err(Violation::StatusLine);
                }
                if name.len() < HTTP_NAME.len() {
                    return Ok(false);
                }
            }
            (HeadKind::Request, b'\r' | b'\n') if self.line > 0 => return Err(Violation::LeadingBlankLines),
            (HeadKind::Request, b'\r' | b'\n') => return self.end_line(input, kind, Stage::Start),
            (HeadKind::Request, _) if !is_token_byte(byte) => return Err(Violation::NotHttp),
            (HeadKind::Request, _) => {}
        }
        self.stage = Stage::StartLine;
        Ok(true)
    }

    fn start_line(&mut self, input: &[u8], kind: HeadKind) -> Result<bool, Violation> {
        let (stop, too_long) = match kind {
            HeadKind::Request => {
                (self.skip_text(input, |byte| matches!(byte, b' '..=b'~')), Violation::RequestLineTooLong)
            }
            HeadKind::Response | HeadKind::AppResponse => {
                (self.skip_text(input, is_value_byte), Violation::StatusLine)
            }
        };
        let line = &input[self.line..self.searched];
        if line.len() > limits::REQUEST_LINE_BYTES_MAX {
            return Err(too_long);
        }
        match (stop, kind) {
            (None, _) => return Ok(false),
            (Some(b'\r' | b'\n'), _) => {}
            (Some(_), HeadKind::Request) if line.contains(&b' ') => return Err(Violation::RequestTarget),
            (Some(_), HeadKind::Request) => return Err(Violation::Method),
            (Some(_), _) => return Err(Violation::StatusLine),
        }
        // Judged before the scan moves on, so that what was refused stays refused.
        match kind {
            _ if line_end(&input[self.searched..], kind) == Ok(None) => {}
            HeadKind::Request => _ = parse_request_line(line)?,
            HeadKind::Response | HeadKind::AppResponse => _ = parse_status_line(line)?,
        }
        self.end_line(input, kind, Stage::LineStart)
    }

    fn line_start(&mut self, first: u8, fields_max: usize) -> Result<bool, Violation> {
        if matches!(first, b' ' | b'\t') {
            return Err(Violation::ObsFold);
        }
        if self.fields == fields_max {
            return Err(Violation::TooManyFields);
        }
        self.fields += 1;
        self.stage = Stage::Name;
        Ok(true)
    }

    fn name(&mut self, input: &[u8], kind: HeadKind) -> Result<bool, Violation> {
        match self.skip(input, is_token_byte) {
            None => Ok(false),
            Some(b':') if self.searched > self.line => {
                self.searched += 1;
                self.stage = Stage::Value;
                Ok(true)
            }
            Some(b' ' | b'\t')
                if kind == HeadKind::AppResponse && !is_framing(&input[self.line..self.searched]) =>
            {
                self.is_lax = true;
                self.stage = Stage::BeforeColon;
                Ok(true)
            }
            Some(b' ' | b'\t') => Err(Violation::SpaceBeforeColon),
            Some(_) => Err(Violation::FieldName),
        }
    }

    fn before_colon(&mut self, input: &[u8]) -> Result<bool, Violation> {
        match self.skip(input, |byte| matches!(byte, b' ' | b'\t')) {
            None => Ok(false),
            Some(b':') => {
                self.searched += 1;
                self.stage = Stage::Value;
                Ok(true)
            }
            Some(_) => Err(Violation::SpaceBeforeColon),
        }
    }

    fn value(&mut self, input: &[u8], kind: HeadKind) -> Result<bool, Violation> {
        match self.skip_text(input, is_value_byte) {
            None => Ok(false),
            Some(b'\r' | b'\n') => self.end_line(input, kind, Stage::LineStart),
            Some(_) => Err(Violation::FieldValue),
        }
    }

    /// Moves behind the bytes of a class; what is next, if it is there already.
    #[inline]
    fn skip(&mut self, input: &[u8], is_of_class: impl Fn(u8) -> bool) -> Option<u8> {
        let rest = &input[self.searched..];
        let length = rest.iter().position(|&byte| !is_of_class(byte)).unwrap_or(rest.len());
        self.searched += length;
        rest.get(length).copied()
    }

    /// The same for a class that visible ASCII and space belong to, as most of a value is: of those eight at a time.
    #[inline]
    fn skip_text(&mut self, input: &[u8], is_of_class: impl Fn(u8) -> bool) -> Option<u8> {
        let (words, _) = input[self.searched..].as_chunks();
        self.searched += 8 * words.iter().take_while(|word| is_plain(**word)).count();
        self.skip(input, is_of_class)
    }

    /// Moves behind the end of a line at hand; not before its LF is there.
    fn end_line(&mut self, input: &[u8], kind: HeadKind, next: Stage) -> Result<bool, Violation> {
        let Some(length) = line_end(&input[self.searched..], kind)? else { return Ok(false) };
        self.is_lax |= length == 1;
        self.searched += length;
        self.line = self.searched;
        self.stage = next;
        Ok(true)
    }
}

/// The length of the end of a line that `rest` begins with; none if its LF is not there yet.
fn line_end(rest: &[u8], kind: HeadKind) -> Result<Option<usize>, Violation> {
    match (rest, kind) {
        ([b'\r'], _) => Ok(None),
        ([b'\r', b'\n', ..], _) => Ok(Some(2)),
        ([b'\n', ..], HeadKind::AppResponse) => Ok(Some(1)),
        _ => Err(Violation::BareLineEnd),
    }
}

/// The bytes of one whole head, which passed the scan: there is no other way to have one.
#[derive(Clone, Copy, Debug)]
pub struct WholeHead<'a> {
    bytes: &'a [u8],
    /// It has bare LFs, or white space before a colon.
    is_lax: bool,
}

impl<'a> WholeHead<'a> {
    /// Scans `head`, which has to be one whole head and nothing else. What a link carries, which is somewhat larger than
    /// what was received, is taken too.
    pub fn scan(head: &'a [u8], kind: HeadKind) -> Result<Self, Violation> {
        let mut scan = HeadScan::default();
        match scan.find_within(head, kind, CARRIED)? {
            Some(length) if length == head.len() => Ok(Self { bytes: head, is_lax: scan.is_lax }),
            _ => Err(Violation::HeadIncomplete),
        }
    }

    /// How many bytes it has, its blank line and a leading CRLF included.
    #[allow(clippy::len_without_is_empty, reason = "a head is never empty")]
    pub fn len(self) -> usize {
        self.bytes.len()
    }

    /// Whether it has what only an app may send ([`HeadKind::AppResponse`]). Another reader may have seen its end
    /// elsewhere, so no other response is to follow on its connection.
    pub fn is_lax(self) -> bool {
        self.is_lax
    }

    /// Parses it as a request's. Checks all that is not framing (see [`super::body::request_framing`]).
    pub fn request(self) -> Result<RequestHead<'a>, Violation> {
        let (line, fields) = self.parse_lines()?;
        let (method, target, version) = parse_request_line(line)?;
        let mut head = RequestHead { method, target, version, fields };
        check_host(&mut head)?;
        if list(&head.fields, "expect").any(|element| !element.eq_ignore_ascii_case(b"100-continue")) {
            return Err(Violation::Expectation);
        }
        Ok(head)
    }

    /// Parses it as a response's. Checks all that is not framing (see [`super::body::response_framing`]).
    pub fn response(self) -> Result<ResponseHead<'a>, Violation> {
        let (line, fields) = self.parse_lines()?;
        let (version, status, reason) = parse_status_line(line)?;
        Ok(ResponseHead { status, reason, version, fields })
    }

    /// The start line and the fields.
    fn parse_lines(self) -> Result<(&'a [u8], Vec<Field<'a>>), Violation> {
        if self.is_lax {
            return parse_lax_lines(self.bytes).ok_or(Violation::HeadIncomplete);
        }
        let head = self.bytes.strip_prefix(b"\r\n").unwrap_or(self.bytes);
        let end = head.iter().position(|&byte| byte == b'\r').ok_or(Violation::HeadIncomplete)?;
        let (line, lines) = head.split_at(end);
        Ok((line, parse_fields(&lines[b"\r\n".len()..])?))
    }
}

/// Scans and parses a whole request head.
pub fn parse_request(head: &[u8]) -> Result<RequestHead<'_>, Violation> {
    WholeHead::scan(head, HeadKind::Request)?.request()
}

/// Scans and parses a whole response head, as it crosses a link or reaches a visitor.
pub fn parse_response(head: &[u8]) -> Result<ResponseHead<'_>, Violation> {
    WholeHead::scan(head, HeadKind::Response)?.response()
}

/// The values of all lines of `name`, in any case.
pub fn values<'a>(fields: &[Field<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |field| field.is(name)).map(|field| field.value)
}

/// The elements of all lines of `name` as one comma-separated list, without surrounding white space
/// (RFC 9110, 5.6.1). Empty ones are kept; quoted strings are not known.
pub fn list<'a>(fields: &[Field<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    values(fields, name).flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
}

/// Whether any line of `name` holds `token` as an element of its list, in any case.
pub fn list_has(fields: &[Field<'_>], name: &str, token: &str) -> bool {
    list(fields, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether `bytes` are a token (RFC 9110, 5.6.2).
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// Whether `bytes` are a host name, an IPv4 address or an IPv6 address in brackets, and perhaps a port of 1 to 5
/// digits (RFC 3986, 3.2). Stricter than the grammar: no user information, no empty name or port, and no comma,
/// which is what joining two Host lines leaves.
pub fn is_valid_authority(bytes: &[u8]) -> bool {
    let (host, port) = match bytes.iter().rposition(|&byte| byte == b':') {
        // Colons inside brackets belong to the address.
        Some(colon) if !bytes.ends_with(b"]") => (&bytes[..colon], Some(&bytes[colon + 1..])),
        _ => (bytes, None),
    };
    is_host(host) && port.is_none_or(is_port)
}

/// Whether `text` is what trailers on a link are: at most [`limits::HEAD_FIELDS_MAX`] lines `Name: value` with their
/// CRLFs and without a blank line, under the same rules as the lines of a head.
pub(super) fn is_field_lines(text: &[u8]) -> bool {
    let mut scan = HeadScan::of_fields();
    scan.scan(text, HeadKind::Request, limits::HEAD_FIELDS_MAX) == Ok(None)
        && scan.stage == Stage::LineStart
        && scan.searched == text.len()
}

/// Parses field lines that a scan has passed, to the blank line.
pub(super) fn parse_fields(lines: &[u8]) -> Result<Vec<Field<'_>>, Violation> {
    /// Most heads have fewer: clearing room for the others takes longer than parsing.
    const COMMON: usize = 24;
    let parsed = parse_fields_into(lines, &mut [httparse::EMPTY_HEADER; COMMON]);
    let parsed = match parsed {
        Err(httparse::Error::TooManyHeaders) => {
            parse_fields_into(lines, &mut [httparse::EMPTY_HEADER; CARRIED.fields_max])
        }
        parsed => parsed,
    };
    // The scan is the stricter one; where the two should ever differ, both have to agree.
    parsed.ok().flatten().ok_or(Violation::FieldName)
}

fn parse_fields_into<'a>(
    lines: &'a [u8],
    room: &mut [httparse::Header<'a>],
) -> Result<Option<Vec<Field<'a>>>, httparse::Error> {
    let field =
        |line: &httparse::Header<'a>| Field { name: line.name.as_bytes(), value: line.value.trim_ascii() };
    Ok(match httparse::parse_headers(lines, room)? {
        httparse::Status::Complete((_, headers)) => Some(headers.iter().map(field).collect()),
        httparse::Status::Partial => None,
    })
}

/// The start line and the fields of a head that the scan has passed and that has what only an app may send.
fn parse_lax_lines(head: &[u8]) -> Option<(&[u8], Vec<Field<'_>>)> {
    let mut lines = head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let start = lines.next()?;
    let fields = lines.take_while(|line| !line.is_empty()).map(|line| {
        let (name, value) = line.split_at(line.iter().position(|&byte| byte == b':')?);
        Some(Field { name: name.trim_ascii_end(), value: value[1..].trim_ascii() })
    });
    Some((start, fields.collect::<Option<_>>()?))
}

/// Whether a field of this name says how long the body is.
fn is_framing(name: &[u8]) -> bool {
    [&b"content-length"[..], b"transfer-encoding"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

const HTTP_NAME: &[u8] = b"HTTP/";

/// Method, target and version (RFC 9112, 3).
fn parse_request_line(line: &[u8]) -> Result<(&[u8], &[u8], Version), Violation> {
    let is_space = |&byte: &u8| byte == b' ';
    let first = line.iter().position(is_space).ok_or(Violation::NotHttp)?;
    let last = line.iter().rposition(is_space).filter(|&last| last > first).ok_or(Violation::NotHttp)?;
    let (method, target, version) = (&line[..first], &line[first + 1..last], &line[last + 1..]);
    if !is_token(method) {
        return Err(Violation::Method);
    }
    let version = match parse_version(version).ok_or(Violation::NotHttp)? {
        (0, _) => return Err(Violation::NotHttp),
        (1, 0) => Version::Http10,
        (1, _) => Version::Http11,
        _ => return Err(Violation::Version),
    };
    if matches!(method, b"CONNECT" | b"TRACE") {
        return Err(Violation::MethodNotAllowed);
    }
    if is_target(method, target) { Ok((method, target, version)) } else { Err(Violation::RequestTarget) }
}

/// Version, status and reason (RFC 9112, 4). Servers leave out the reason and often the space before it.
fn parse_status_line(line: &[u8]) -> Result<(Version, u16, &[u8]), Violation> {
    let (version, rest) = line.split_at_checked(b"HTTP/1.1".len()).ok_or(Violation::StatusLine)?;
    let version = match parse_version(version) {
        Some((1, 0)) => Version::Http10,
        Some((1, _)) => Version::Http11,
        _ => return Err(Violation::StatusLine),
    };
    let (digits, reason) = match rest {
        [b' ', a, b, c] => ([a, b, c], &b""[..]),
        [b' ', a, b, c, b' ', reason @ ..] => ([a, b, c], reason),
        _ => return Err(Violation::StatusLine),
    };
    if !digits.iter().all(|digit| digit.is_ascii_digit()) {
        return Err(Violation::StatusLine);
    }
    let status = digits.into_iter().fold(0, |status, digit| status * 10 + u16::from(*digit - b'0'));
    if (100..=599).contains(&status) { Ok((version, status, reason)) } else { Err(Violation::Status) }
}

/// Major and minor version of exactly `HTTP/d.d`.
fn parse_version(bytes: &[u8]) -> Option<(u8, u8)> {
    match bytes.strip_prefix(HTTP_NAME)? {
        [major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9'] => Some((major - b'0', minor - b'0')),
        _ => None,
    }
}

/// Checks that there is one Host, and takes an empty port off it.
fn check_host(head: &mut RequestHead<'_>) -> Result<(), Violation> {
    let mut hosts = head.fields.iter_mut().filter(|field| field.is("host"));
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(Violation::TwoHosts),
        (Some(host), None) => {
            host.value = without_empty_port(host.value);
            if is_valid_authority(host.value) { Ok(()) } else { Err(Violation::InvalidHost) }
        }
        (None, None) if head.version == Version::Http10 => Ok(()),
        (None, None) => Err(Violation::NoHost),
    }
}

/// `a:` is `a` (RFC 3986, 3.2.3), and many a server does not know it.
fn without_empty_port(authority: &[u8]) -> &[u8] {
    authority.strip_suffix(b":").filter(|host| is_host(host)).unwrap_or(authority)
}

/// Whether `target` is in a form that this method may have (RFC 9112, 3.2).
fn is_target(method: &[u8], target: &[u8]) -> bool {
    if !target.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'#') {
        return false;
    }
    match target {
        b"*" => method == b"OPTIONS",
        [b'/', ..] => true,
        _ => split_absolute(target).is_some_and(|(authority, _)| is_valid_authority(authority)),
    }
}

/// Authority, without an empty port, and the rest of an absolute-form; the rest is empty or begins with `/` or `?`.
fn split_absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_scheme =
        |scheme: &&[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let scheme = [&b"http://"[..], b"https://"].into_iter().find(is_scheme)?;
    let rest = &target[scheme.len()..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    Some((without_empty_port(authority), rest))
}

fn is_host(host: &[u8]) -> bool {
    match host {
        [b'[', address @ .., b']'] => {
            str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
        }
        _ => is_reg_name(host),
    }
}

/// A registered name (RFC 3986, 3.2.2), which an IPv4 address is as well.
fn is_reg_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'%', [a, b, after @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => after,
            (
                b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';'
                | b'=',
                _,
            ) => after,
            (byte, _) if byte.is_ascii_alphanumeric() => after,
            _ => return false,
        };
    }
    !name.is_empty()
}

fn is_port(digits: &[u8]) -> bool {
    // `parse` would take a sign.
    digits.iter().all(u8::is_ascii_digit)
        && str::from_utf8(digits).is_ok_and(|text| text.len() <= 5 && text.parse::<u16>().is_ok())
}

/// A field's name in lower case with a `-` for every sign: CGI and its heirs cannot tell `_` from `-`, and some servers make
/// `_` of every sign (lighttpd).
pub(super) fn unveiled(name: &[u8]) -> Vec<u8> {
    name.iter()
        .map(|byte| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' })
        .collect()
}

/// RFC 9110, 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    const TABLE: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            let b = byte as u8;
            table[byte] = b.is_ascii_alphanumeric()
                || matches!(b, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
            byte += 1;
        }
        table
    };
    TABLE[usize::from(byte)]
}

/// RFC 9110, 5.5: visible ASCII, space, tab and obs-text.
pub(super) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7F)
}

/// Whether eight bytes are all visible ASCII or spaces.
fn is_plain(bytes: [u8; 8]) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let word = u64::from_ne_bytes(bytes);
    let delete = word ^ (0x7F * EACH);
    // The highest bit of a byte is set if it was over 0x7F, or borrowed since it was under 0x20, or is 0x7F.
    (word | word.wrapping_sub(0x20 * EACH) | delete.wrapping_sub(EACH)) & (0x80 * EACH) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bytes_are_plain_if_each_of_them_is() {
        for byte in 0..=255 {
            for place in 0..8 {
                for others in [b' ', b'~'] {
                    let mut bytes = [others; 8];
                    bytes[place] = byte;
                    assert_eq!(is_plain(bytes), matches!(byte, b' '..=b'~'), "{byte} at {place}");
                }
            }
        }
    }

    #[test]
    fn the_bytes_of_a_token_are_those_of_the_rfc() {
        let tokens: Vec<u8> = (0..=255).filter(|&byte| is_token_byte(byte)).collect();
        let rfc = b"!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~";
        assert_eq!(tokens, rfc);
    }

    #[test]
    fn a_scan_of_fields_ends_at_their_blank_line() {
        let scan = |text: &[u8]| HeadScan::of_fields().find_within(text, HeadKind::Request, RECEIVED);
        assert_eq!(scan(b"A: b\r\n\r\nrest"), Ok(Some(8)));
        assert_eq!(scan(b"\r\nrest"), Ok(Some(2)));
        assert_eq!(scan(b"A: b\r\n"), Ok(None));
    }

    #[test]
    fn field_lines_are_whole_lines_and_nothing_else() {
        for text in [&b""[..], b"A: b\r\n", b"A:\r\nB: c\r\n"] {
            assert!(is_field_lines(text), "{text:?}");
        }
        for text in [
            &b"A: b"[..],
            b"A: b\r",
            b"A: b\r\n\r",
            b"A: b\r\n\r\n",
            b"\r\n",
            b"A: b\n",
            b" A: b\r\n",
            b"A\r\n",
        ] {
            assert!(!is_field_lines(text), "{text:?}");
        }
    }

    #[test]
    fn what_a_link_carries_may_hold_more_than_what_was_received() {
        let lines = "A: b\r\n".repeat(limits::HEAD_FIELDS_MAX + FIELDS_ADDED_MAX);
        let head = format!("HTTP/1.1 200\r\n{lines}\r\n");
        assert_eq!(
            HeadScan::default().find(head.as_bytes(), HeadKind::Response),
            Err(Violation::TooManyFields)
        );
        let fields = parse_response(head.as_bytes()).unwrap().fields.len();
        assert_eq!(fields, limits::HEAD_FIELDS_MAX + FIELDS_ADDED_MAX);
        let head = format!("HTTP/1.1 200\r\n{lines}A: b\r\n\r\n");
        assert_eq!(parse_response(head.as_bytes()).unwrap_err(), Violation::TooManyFields);
    }
}
