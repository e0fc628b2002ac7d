//! Heads, on all their way: from a visitor to the app, and from an app to the visitor.
//!
//! ```text
//! options │ seed of the cuts │ a request's head │ a response's head
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::input::{Input, pieces};
use crate::http1::body::{BodyKind, Framing, request_framing, response_framing};
use crate::http1::head::{
    Field, HeadKind, HeadScan, RequestHead, Version, WholeHead, is_token, is_valid_authority, list_has,
    parse_request, parse_response, values,
};
use crate::http1::hop::{
    Arrival, HostRule, LinkRequest, RequestFacts, TargetFacts, request_to_link, request_to_target,
    response_to_link, response_to_visitor,
};
use crate::limits;
use crate::time::UnixSecs;

const VIA: &str = "gesher-1a2b";
const TARGET: &str = "app.lan:3000";

/// Reads bytes as a request's head and a response's, and carries both over all hops.
pub fn http_head(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.byte();
    let seed = input.byte();
    let bytes = input.rest();
    let asked = Asked::new(options);
    let length = find(bytes, HeadKind::Request, seed).unwrap_or(0);
    let carried = parse_request(&bytes[..length]).ok().and_then(|head| {
        check_lines(&bytes[..length], &head.fields);
        check_request(&bytes[..length], &head);
        carry_request(&head, &asked)
    });
    // Without a request that passes, what follows is the answer to one that does.
    let (rest, (method, facts, target_facts)) = match carried {
        Some(carried) => (&bytes[length..], carried),
        None => {
            let head =
                parse_request(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
                    .expect("a request");
            (bytes, carry_request(&head, &asked).expect("it passes"))
        }
    };
    let Some(length) = find(rest, HeadKind::AppResponse, seed) else { return };
    carry_response(&rest[..length], &method, &facts, &target_facts, options & 0x80 != 0);
}

/// What a request is carried with.
struct Asked {
    from: IpAddr,
    trusted: bool,
    https: bool,
    rule: HostRule,
}

impl Asked {
    fn new(options: u8) -> Self {
        let v4 = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
        Self {
            from: if options & 1 == 0 { v4 } else { IpAddr::V6(Ipv6Addr::LOCALHOST) },
            trusted: options & 2 != 0,
            https: options & 4 != 0,
            rule: match options >> 3 & 3 {
                0 => HostRule::Rewrite,
                1 => HostRule::RewriteAll,
                2 => HostRule::Preserve,
                _ => HostRule::Fixed("fixed.example:81".into()),
            },
        }
    }
}

/// Where a head ends, however its bytes are cut.
fn find(bytes: &[u8], kind: HeadKind, seed: u8) -> Option<usize> {
    let whole = HeadScan::default().find(bytes, kind);
    let (mut scan, mut arrived, mut cut) = (HeadScan::default(), 0, Ok(None));
    for piece in pieces(bytes, seed) {
        arrived += piece.len();
        cut = scan.find(&bytes[..arrived], kind);
        if cut != Ok(None) {
            break;
        }
    }
    assert_eq!(cut, whole, "cuts change nothing");
    if whole.is_err() {
        assert!(scan.find(bytes, kind).is_err(), "what was refused stays refused");
    }
    whole.ok().flatten()
}

/// The fields are those that splitting at CRLF and colon gives.
fn check_lines(head: &[u8], fields: &[Field<'_>]) {
    let text = head.strip_prefix(b"\r\n").unwrap_or(head);
    let text = text.strip_suffix(b"\r\n\r\n").expect("a head ends with a blank line");
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.windows(2).position(|at| at == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    assert_eq!(lines.len() - 1, fields.len(), "a field a line");
    for (line, field) in lines[1..].iter().zip(fields) {
        let colon = line.iter().position(|byte| *byte == b':').expect("a field line has a colon");
        let mut value = line[colon + 1..].trim_ascii();
        if field.is("host") && value != field.value {
            value = value.strip_suffix(b":").expect("only an empty port is taken off a Host");
        }
        assert_eq!((&line[..colon], value), (field.name, field.value));
        assert!(is_token(field.name) && !field.value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
}

/// The same where an app was careless: once line ends are all CRLF and the white space before colons is gone, it is what a
/// strict reader takes.
fn check_lax_lines(head: &[u8], fields: &[Field<'_>]) {
    let mut strict = Vec::new();
    for (index, line) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\n").expect("a head ends with a line's end");
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line.iter().position(|byte| *byte == b':').filter(|_| index > 0) {
            Some(colon) => strict.extend([line[..colon].trim_ascii_end(), &line[colon..]].concat()),
            None => strict.extend_from_slice(line),
        }
        strict.extend_from_slice(b"\r\n");
    }
    let parsed = parse_response(&strict).expect("a strict reader takes what was meant");
    assert_eq!(parsed.fields, fields);
}

/// Another parser, which is laxer, takes it as well and for the same; and it is what it says it is.
fn check_request(bytes: &[u8], head: &RequestHead<'_>) {
    let mut fields = [httparse::EMPTY_HEADER; limits::HEAD_FIELDS_MAX + 16];
    let mut other = httparse::Request::new(&mut fields);
    match other.parse(bytes) {
        // It knows no 1.2, which is to be read as 1.1.
        Err(httparse::Error::Version) => assert_eq!(head.version, Version::Http11),
        parsed => {
            assert_eq!(parsed, Ok(httparse::Status::Complete(bytes.len())));
            assert_eq!(other.method.map(str::as_bytes), Some(head.method));
            assert_eq!(other.path.map(str::as_bytes), Some(head.target));
            assert_eq!(other.headers.len(), head.fields.len());
        }
    }
    let hosts: Vec<_> = head.all("host").collect();
    assert!(hosts.len() == 1 || hosts.is_empty() && head.version == Version::Http10);
    assert!(hosts.iter().all(|host| is_valid_authority(host)));
    assert!(head.target.iter().all(u8::is_ascii_graphic));
}

/// Carries a request to the app; none if it is refused at the first hop, after which no other may refuse it.
fn carry_request(head: &RequestHead<'_>, asked: &Asked) -> Option<(Vec<u8>, RequestFacts, TargetFacts)> {
    let arrival = Arrival { from: asked.from, https: asked.https, via: VIA, trusted: asked.trusted };
    let link = request_to_link(head, &arrival).ok()?;
    check_carried_request(head, &link, asked);
    let mut to_app = Vec::new();
    let sent = request_to_target(&link.text, link.kind, &asked.rule, TARGET, &mut to_app);
    let sent = sent.unwrap_or_else(|rule| panic!("what one hop lets pass the next one takes: {rule}"));
    check_at_app(&to_app, &link, sent.framing, &asked.rule);
    Some((head.method.to_vec(), link.facts, sent.facts))
}

fn check_carried_request(head: &RequestHead<'_>, link: &LinkRequest, asked: &Asked) {
    assert!(link.text.len() <= limits::LINK_HEAD_BYTES_MAX);
    let carried = parse_request(&link.text).expect("a head that crosses the link is one");
    check_lines(&link.text, &carried.fields);
    assert_eq!(carried.method, head.method);
    assert!(matches!(carried.target, [b'/', ..] | b"*"), "in origin-form");
    check_hop_by_hop(&carried.fields, link.kind.is_upgrade());
    assert!(values(&carried.fields, "te").all(|value| value == b"trailers"));
    assert!(values(&carried.fields, "content-length").next().is_none(), "framed anew");
    let via = values(&carried.fields, "via").last().expect("our own Via");
    assert!(via.ends_with(VIA.as_bytes()));
    let from = asked.from.to_string();
    let forwarded: Vec<_> = values(&carried.fields, "x-forwarded-for").collect();
    let [forwarded] = forwarded[..] else { panic!("who asks is said once: {forwarded:?}") };
    assert!(if asked.trusted { forwarded.ends_with(from.as_bytes()) } else { forwarded == from.as_bytes() });
    for field in &carried.fields {
        let folded =
            field.name.to_ascii_lowercase().iter().map(|b| if *b == b'_' { b'-' } else { *b }).collect();
        let folded: Vec<u8> = folded;
        let says_who = folded.starts_with(b"x-forwarded") || folded == b"forwarded" || folded == b"x-real-ip";
        assert!(!says_who || folded == field.name.to_ascii_lowercase(), "no disguise");
        assert!(asked.trusted || folded != b"x-real-ip", "a stranger says nothing of who asks");
    }
    let framing = request_framing(head).expect("it was carried");
    let expected = match (framing, link.kind.is_upgrade()) {
        (Framing::Empty, false) => BodyKind::None,
        (Framing::Sized(length), false) => BodyKind::Sized(length),
        (_, false) => BodyKind::Unknown,
        (Framing::Empty | Framing::Sized(0), true) => BodyKind::Upgrade,
        (Framing::Sized(length), true) => BodyKind::UpgradeSized(length),
        (_, true) => BodyKind::UpgradeChunked,
    };
    assert_eq!(link.kind, expected);
}

/// The app reads one request with one framing, which is the one that we think it has.
fn check_at_app(to_app: &[u8], link: &LinkRequest, framing: Framing, rule: &HostRule) {
    let head = parse_request(to_app).expect("an app gets a well-formed head");
    check_lines(to_app, &head.fields);
    let hosts: Vec<_> = head.all("host").collect();
    let [host] = hosts[..] else { panic!("one Host: {hosts:?}") };
    match rule {
        HostRule::Rewrite | HostRule::RewriteAll => assert_eq!(host, TARGET.as_bytes()),
        HostRule::Fixed(fixed) => assert_eq!(host, fixed.as_bytes()),
        HostRule::Preserve => {}
    }
    assert_eq!(request_framing(&head), Ok(framing));
    assert!(head.all("x-original-host").count() <= 1, "the visitor's name is said once");
    if *rule == HostRule::RewriteAll {
        assert!(head.get("x-forwarded-host").is_none());
    }
    for field in head.fields.iter().filter(|field| field.name.contains(&b'_')) {
        let name = String::from_utf8_lossy(field.name).replace('_', "-").to_ascii_lowercase();
        assert!(!["content-length", "transfer-encoding", "x-original-host"].contains(&name.as_str()));
    }
    let expected = match link.kind {
        BodyKind::None | BodyKind::Upgrade => Framing::Empty,
        BodyKind::Sized(length) | BodyKind::UpgradeSized(length) => Framing::Sized(length),
        BodyKind::Unknown | BodyKind::UpgradeChunked => Framing::Chunked,
    };
    assert_eq!(framing, expected);
    assert_eq!(head.get("upgrade").is_some(), link.kind.is_upgrade());
}

fn check_hop_by_hop(fields: &[Field<'_>], upgrade: bool) {
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "http2-settings"] {
        assert!(values(fields, name).next().is_none(), "{name} stays on its hop");
    }
    let mut protocols = values(fields, "upgrade");
    assert_eq!(protocols.next().is_some(), upgrade);
    assert!(protocols.next().is_none());
}

/// Carries a response to the visitor; what the connector lets pass the gateway takes.
fn carry_response(
    bytes: &[u8],
    method: &[u8],
    facts: &RequestFacts,
    target_facts: &TargetFacts,
    close: bool,
) {
    let whole = WholeHead::scan(bytes, HeadKind::AppResponse).expect("it was found");
    let Ok(head) = whole.response() else { return };
    if whole.is_lax() {
        check_lax_lines(bytes, &head.fields);
    } else {
        check_lines(bytes, &head.fields);
        assert_eq!(parse_response(bytes).map(|head| head.fields), Ok(head.fields.clone()));
    }
    let Ok(link) = response_to_link(&head, target_facts) else { return };
    assert!(link.text.len() <= limits::LINK_HEAD_BYTES_MAX);
    let carried = parse_response(&link.text).expect("a head that crosses the link is one");
    check_lines(&link.text, &carried.fields);
    assert_eq!((carried.status, link.status), (head.status, head.status));
    check_hop_by_hop(&carried.fields, carried.get("upgrade").is_some());
    assert!(head.status >= 200 || carried.get("upgrade").is_some() == (head.status == 101));
    let mut to_visitor = Vec::new();
    let answered =
        response_to_visitor(&link.text, link.kind, facts, close, UnixSecs(1_767_225_600), &mut to_visitor);
    let answered =
        answered.unwrap_or_else(|rule| panic!("what one hop lets pass the next one takes: {rule}"));
    if to_visitor.is_empty() {
        return assert!(facts.version == Version::Http10 && head.status < 200, "only a 1xx is left out");
    }
    let seen = parse_response(&to_visitor).expect("a visitor gets a well-formed head");
    check_lines(&to_visitor, &seen.fields);
    assert_eq!(seen.status, head.status);
    let framing = response_framing(&seen, method).expect("with one framing");
    if seen.status != 101 {
        assert_eq!(framing, answered.framing, "which is the one that we think it has");
    }
    assert!(seen.status < 200 || values(&seen.fields, "date").next().is_some());
    let says_close = list_has(&seen.fields, "connection", "close");
    let names_protocols = seen.get("upgrade").is_some();
    assert_eq!(names_protocols, list_has(&seen.fields, "connection", "upgrade"), "RFC 9110, 7.8");
    assert!(seen.status < 200 || says_close != answered.keep_alive);
}
