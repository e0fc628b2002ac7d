//! Responses, from the app into a link and from a link to the visitor.

use std::time::Duration;

use super::super::Violation;
use super::super::answer::put_date;
use super::super::body::{BodyKind, Framing, response_framing};
use super::super::head::{ResponseHead, Version, parse_response};
use super::names::Names;
use super::{
    Connection, Name, RequestFacts, TargetFacts, accepted_protocols, advertised_protocols, elements,
    logs_connection_in, put, put_content_length, put_field, room_for,
};
use crate::limits;
use crate::time::UnixSecs;

/// A response as it goes into a RESPONSE frame.
#[derive(Clone, Debug)]
pub struct LinkResponse {
    /// The head, at most [`limits::LINK_HEAD_BYTES_MAX`], without hop-by-hop and framing fields; but a response to
    /// HEAD and a 304 keep their Content-Length, since no body says it.
    pub text: Vec<u8>,
    /// How the body crosses the link.
    pub kind: BodyKind,
    /// How the body is framed on the app's connection.
    pub framing: Framing,
    /// Whether the app's connection can serve another request after this.
    pub keep_alive: bool,
    /// Whether the app offers to log the connection in (NTLM, Negotiate), or does.
    pub logs_in: bool,
    /// How long it may be idle until then: what the app's Keep-Alive says, less a second for a request on its way.
    pub idle_max: Option<Duration>,
    /// 100 to 599; below 200 another head follows, but for 101.
    pub status: u16,
}

/// A response as it went to the visitor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VisitorResponse {
    /// 100 to 599; below 200 another head follows, but for 101.
    pub status: u16,
    /// How the body is to be framed.
    pub framing: Framing,
    /// Whether the visitor's connection can serve another request after this.
    pub keep_alive: bool,
    /// Whether the app offers to log the connection in (NTLM, Negotiate), or does.
    pub logs_in: bool,
}

/// Makes the head of an app's response ready for the link: hop-by-hop and framing fields out, and the names
/// translated back if the request's were.
///
/// # Errors
/// What [`response_framing`] finds wrong; a 101 that nobody asked for, or to another protocol than those offered;
/// [`Violation::HeadTooLarge`] if it outgrows [`limits::LINK_HEAD_BYTES_MAX`] by being translated;
/// [`Violation::TooManyFields`] if Connection names more than [`limits::CONNECTION_OPTIONS_MAX`].
pub fn response_to_link(head: &ResponseHead<'_>, facts: &TargetFacts) -> Result<LinkResponse, Violation> {
    let framing = response_framing(head, if facts.head { b"HEAD" } else { b"GET" })?;
    let connection = Connection::of(&head.fields)?;
    let is_upgrade = head.status == 101;
    let protocols = protocols_of(head, &facts.upgrade)?;
    let keeps_length = has_length_without_body(head.status, facts.head);
    if keeps_length {
        check_length(head)?;
    }

    let mut text = Vec::with_capacity(room_for(&head.fields));
    put_status_line(&mut text, head);
    let (mut idle_max, mut logs_in) = (None, false);
    let translation = facts.names.as_ref().map(Names::to_visitor);
    for field in &head.fields {
        let name = Name::of(field.name);
        logs_in |= name == Name::Challenge && logs_connection_in(field.value);
        match (name, &translation) {
            (Name::KeepAlive, _) => idle_max = idle_max.or(idle_time(field.value)),
            (Name::ContentLength, _) if !keeps_length => {}
            _ if name.is_hop_by_hop() || connection.names(field.name) => {}
            (Name::AltSvc, Some(_)) => {}
            (Name::Location | Name::Link | Name::Refresh | Name::SetCookie, Some(translation)) => {
                put(&mut text, &[field.name, b": "]);
                match name {
                    Name::Link => _ = translation.put_references(&mut text, field.value),
                    Name::Refresh => translation.put_refresh(&mut text, field.value),
                    Name::SetCookie => translation.put_cookie(&mut text, field.value),
                    _ => _ = translation.put_uri(&mut text, field.value),
                }
                text.extend_from_slice(b"\r\n");
            }
            _ => put_field(&mut text, field.name, field.value),
        }
    }
    if !protocols.is_empty() {
        put_field(&mut text, b"Upgrade", &protocols);
    }
    text.extend_from_slice(b"\r\n");
    if text.len() > limits::LINK_HEAD_BYTES_MAX {
        return Err(Violation::HeadTooLarge);
    }

    let (kind, framing) = match framing {
        _ if is_upgrade => (BodyKind::Upgrade, Framing::UntilClose),
        Framing::Empty => (BodyKind::None, framing),
        Framing::Sized(bytes) => (BodyKind::Sized(bytes), framing),
        Framing::Chunked | Framing::UntilClose => (BodyKind::Unknown, framing),
    };
    let persists = connection.keep_alive || head.version == Version::Http11; // RFC 9112, 9.3
    let keep_alive = persists && !connection.close && framing != Framing::UntilClose;
    Ok(LinkResponse { text, kind, framing, keep_alive, logs_in, idle_max, status: head.status })
}

/// Writes the response that came over a link to the visitor: framing made anew, Date added if it is missing.
///
/// The text is parsed as strictly as a stranger's and cannot split a response or frame another body than `kind`
/// says. To an HTTP/1.0 visitor a 1xx is not written at all, and a body of unknown length lasts until the
/// connection ends. `close` ends the connection after this response, whatever the visitor wished. On an error
/// nothing was written.
///
/// # Errors
/// What [`parse_response`] finds wrong, a second head or bytes after it included; framing fields, or a body where
/// the status or the method has none; a 101 that nobody asked for, or to another protocol than those offered.
pub fn response_to_visitor(
    text: &[u8],
    kind: BodyKind,
    facts: &RequestFacts,
    close: bool,
    now: UnixSecs,
    out: &mut Vec<u8>,
) -> Result<VisitorResponse, Violation> {
    let head = parse_response(text)?;
    let status = head.status;
    let is_upgrade = status == 101;
    if is_upgrade != (kind == BodyKind::Upgrade) {
        return Err(Violation::UnaskedUpgrade);
    }
    let protocols = protocols_of(&head, &facts.upgrade)?;
    let framing = visitor_framing(&head, kind, facts)?;
    check_framing_fields(&head, facts)?;

    let is_final = status >= 200;
    let may_go_on = facts.keep_alive && !close;
    let keep_alive = may_go_on && framing != Framing::UntilClose;
    if !is_final && facts.version == Version::Http10 {
        return Ok(VisitorResponse { status, framing, keep_alive, logs_in: false }); // RFC 9110, 15.2
    }
    out.reserve(text.len() + 128);
    put_status_line(out, &head);
    let (mut dated, mut logs_in) = (false, false);
    for field in &head.fields {
        let name = Name::of(field.name);
        if !name.is_hop_by_hop() {
            put_field(out, field.name, field.value);
            dated |= name == Name::Date;
            logs_in |= name == Name::Challenge && logs_connection_in(field.value);
        }
    }
    if is_final && !dated {
        put_date(out, now);
    }
    match framing {
        Framing::Sized(bytes) => put_content_length(out, bytes),
        Framing::Chunked => put_field(out, b"Transfer-Encoding", b"chunked"),
        Framing::Empty | Framing::UntilClose => {}
    }
    let says_upgrade = !protocols.is_empty() && facts.version == Version::Http11;
    match (says_upgrade, is_final && !keep_alive) {
        (true, true) => put_field(out, b"Connection", b"Upgrade, close"),
        (true, false) => put_field(out, b"Connection", b"Upgrade"),
        (false, true) => put_field(out, b"Connection", b"close"),
        (false, false) => {}
    }
    if says_upgrade {
        put_field(out, b"Upgrade", &protocols);
    }
    out.extend_from_slice(b"\r\n");
    Ok(VisitorResponse { status, framing, keep_alive, logs_in })
}

/// The protocols that a response names: the one that a 101 switches to, or those that could be asked for.
///
/// # Errors
/// If a 101 names none, or one that was not offered.
fn protocols_of(head: &ResponseHead<'_>, offered: &[u8]) -> Result<Vec<u8>, Violation> {
    match head.status {
        101 => accepted_protocols(&head.fields, offered),
        status => Ok(advertised_protocols(status, &head.fields)),
    }
}

/// How the body of a response is framed for the visitor (RFC 9112, 6.3).
///
/// # Errors
/// If `kind` says that there is a body where there can be none.
fn visitor_framing(
    head: &ResponseHead<'_>,
    kind: BodyKind,
    facts: &RequestFacts,
) -> Result<Framing, Violation> {
    let without_body = facts.head || head.status < 200 || matches!(head.status, 204 | 304);
    match kind {
        BodyKind::Upgrade => Ok(Framing::UntilClose),
        BodyKind::UpgradeSized(_) | BodyKind::UpgradeChunked => Err(Violation::UnaskedUpgrade),
        BodyKind::None if without_body => Ok(Framing::Empty),
        BodyKind::None => Ok(Framing::Sized(0)),
        _ if without_body => Err(Violation::ContentLength),
        BodyKind::Sized(bytes) => Ok(Framing::Sized(bytes)),
        BodyKind::Unknown if facts.version == Version::Http10 => Ok(Framing::UntilClose),
        BodyKind::Unknown => Ok(Framing::Chunked),
    }
}

/// # Errors
/// A link frames by itself: fields that frame could only be there to contradict it, but for the Content-Length of
/// a body that is not sent.
fn check_framing_fields(head: &ResponseHead<'_>, facts: &RequestFacts) -> Result<(), Violation> {
    for field in &head.fields {
        match Name::of(field.name) {
            Name::TransferEncoding => return Err(Violation::TransferEncoding),
            Name::ContentLength if !has_length_without_body(head.status, facts.head) => {
                return Err(Violation::ContentLength);
            }
            Name::ContentLength => check_length(head)?,
            _ => {}
        }
    }
    Ok(())
}

/// Whether a Content-Length only says what a body would have been long (RFC 9110, 8.6).
fn has_length_without_body(status: u16, is_head: bool) -> bool {
    status == 304 || is_head && status >= 200 && status != 204
}

/// # Errors
/// If there is more than one Content-Length, or it is not of 1 to 19 digits.
fn check_length(head: &ResponseHead<'_>) -> Result<(), Violation> {
    let mut lines = head.fields.iter().filter(|field| Name::of(field.name) == Name::ContentLength);
    match (lines.next(), lines.next()) {
        (None, _) => Ok(()),
        (Some(field), None)
            if matches!(field.value.len(), 1..=19) && field.value.iter().all(u8::is_ascii_digit) =>
        {
            Ok(())
        }
        _ => Err(Violation::ContentLength),
    }
}

fn put_status_line(out: &mut Vec<u8>, head: &ResponseHead<'_>) {
    let digit = |place: u16| b'0' + (head.status / place % 10) as u8;
    put(out, &[b"HTTP/1.1 ", &[digit(100), digit(10), digit(1)], b" ", head.reason, b"\r\n"]);
}

/// What `Keep-Alive: timeout=5, max=100` allows.
fn idle_time(keep_alive: &[u8]) -> Option<Duration> {
    let timeout = elements(keep_alive).find_map(|parameter| {
        let (name, value) = parameter.split_at_checked(8)?;
        if name.eq_ignore_ascii_case(b"timeout=") { Some(value) } else { None }
    })?;
    let secs: u64 = std::str::from_utf8(timeout).ok()?.parse().ok()?;
    Some(Duration::from_secs(secs.saturating_sub(1)))
}
