//! Requests, from a visitor into a link and from a link to the app.

use std::io::Write;
use std::net::IpAddr;

use super::super::Violation;
use super::super::body::{BodyKind, Framing, request_framing};
use super::super::head::{Field, RequestHead, Target, Version, is_valid_authority, parse_request};
use super::names::{Names, Translation, host_of, put_forwarded};
use super::{
    Connection, HostRule, Name, elements, is_disguise, logs_connection_in, passable_protocols, put,
    put_content_length, put_field, room_for, says_who_asks,
};
use crate::limits;

/// What the gateway knows about a request that its head does not say.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The address at the other end of the connection.
    pub from: IpAddr,
    /// Whether the visitor came over TLS.
    pub https: bool,
    /// The name of this gateway in Via, a pseudonym (RFC 9110, 7.6.3): `gesher-1a2b`.
    pub via: &'a str,
    /// Whether the peer is a proxy whose forwarding fields are believed (`--trusted-proxy`).
    pub trusted: bool,
}

/// A request as it goes into a REQUEST frame.
#[derive(Clone, Debug)]
pub struct LinkRequest {
    /// The head, at most [`limits::LINK_HEAD_BYTES_MAX`], without hop-by-hop and framing fields.
    ///
    /// It says HTTP/1.1, whatever the visitor's version; but HTTP/1.0 if there is no Host, which only that allows.
    pub text: Vec<u8>,
    /// How the body crosses the link.
    pub kind: BodyKind,
    /// How the body is framed on the visitor's connection.
    pub framing: Framing,
    /// Whether it goes no further: the gateway answers an OPTIONS with `Max-Forwards: 0` itself (RFC 9110, 7.6.2).
    pub ends_here: bool,
    /// What the response depends on.
    pub facts: RequestFacts,
}

/// What the response to a visitor depends on.
#[derive(Clone, Debug)]
pub struct RequestFacts {
    /// The visitor's version.
    pub version: Version,
    /// Whether the connection may go on after the response: HTTP/1.1 without `Connection: close`.
    pub keep_alive: bool,
    /// Whether the method is HEAD.
    pub head: bool,
    /// Whether the visitor waits for a 100 before it sends the body; never without one.
    pub expects_continue: bool,
    /// Whether an answer of our own had better be a page than plain text, by Accept.
    pub accepts_html: bool,
    /// Whether the visitor said `TE: trailers`.
    pub te_trailers: bool,
    /// Whether it logs its connection in (NTLM, Negotiate).
    pub logs_in: bool,
    /// The protocols offered, joined by `, `; empty if no upgrade was asked for.
    pub upgrade: Vec<u8>,
}

/// A request as it goes to the app.
#[derive(Clone, Debug)]
pub struct TargetRequest {
    /// How its body is framed; empty for an upgrade without one.
    pub framing: Framing,
    /// What the response depends on.
    pub facts: TargetFacts,
}

/// What the response of the app depends on.
#[derive(Clone, Debug)]
pub struct TargetFacts {
    /// Whether the method is HEAD.
    pub head: bool,
    /// Whether the request may be sent twice (RFC 9110, 9.2.2).
    pub idempotent: bool,
    /// Whether the visitor waits for a 100 before it sends the body.
    pub expects_continue: bool,
    /// Whether it logs the app's connection in (NTLM, Negotiate).
    pub logs_in: bool,
    /// The protocols offered, joined by `, `; empty if no upgrade was asked for.
    pub upgrade: Vec<u8>,
    /// Whether the app is told the visitor's name for it in X-Forwarded-Host.
    pub tells_visitors_name: bool,
    /// Set if names are to be translated back.
    pub(super) names: Option<Names>,
}

impl TargetFacts {
    /// The host of the visitor's name for the app, if the app is told another one.
    pub fn visitors_host(&self) -> Option<&[u8]> {
        self.names.as_ref().map(|names| host_of(&names.visitor))
    }
}

/// Makes the head of a visitor's request ready for the link: hop-by-hop and framing fields out, the target in
/// origin-form, and the fields in that say who asked.
///
/// Unless the peer is trusted, whatever it says in forwarding fields is dropped, so an app can believe them all.
/// X-Original-Host is dropped from everyone, and so is a spelling with `_` of a name that matters (`X_Forwarded_For`,
/// `Content_Length`): CGI and its heirs cannot tell it from the real one.
///
/// # Errors
/// What [`request_framing`] finds wrong; [`Violation::Loop`] if the request has passed this gateway
/// [`limits::VIA_OWN_MAX`] times before; [`Violation::HeadTooLarge`] if it outgrows
/// [`limits::LINK_HEAD_BYTES_MAX`]; [`Violation::TooManyFields`] if Connection names more than
/// [`limits::CONNECTION_OPTIONS_MAX`].
pub fn request_to_link(head: &RequestHead<'_>, arrival: &Arrival<'_>) -> Result<LinkRequest, Violation> {
    let framing = request_framing(head)?;
    let connection = Connection::of(&head.fields)?;
    let is_http11 = head.version == Version::Http11;
    let has_body = !matches!(framing, Framing::Empty | Framing::Sized(0));
    let may_upgrade = connection.upgrade && is_http11;
    let upgrade = if may_upgrade { passable_protocols(&head.fields) } else { Vec::new() };
    let target = head.origin();
    let said_host = head.get("host");
    let host = target.authority.or(said_host);

    let mut text = Vec::with_capacity(head.method.len() + head.target.len() + room_for(&head.fields));
    let version: &[u8] = if host.is_some() { b"HTTP/1.1" } else { b"HTTP/1.0" };
    put_request_line(&mut text, head, &target, version);
    if let (None, Some(host)) = (said_host, host) {
        put_field(&mut text, b"Host", host);
    }
    let (mut seen, mut ends_here) = (Seen::default(), false);
    for field in &head.fields {
        let name = Name::of(field.name);
        seen.note(name, field.value, arrival.via);
        if connection.names(field.name) || !may_pass(name, field.name, arrival.trusted, is_http11) {
            continue;
        }
        match name {
            Name::Host => put_field(&mut text, field.name, host.unwrap_or(field.value)),
            Name::MaxForwards if head.method == b"OPTIONS" => {
                ends_here |= put_max_forwards(&mut text, field);
            }
            _ => put_field(&mut text, field.name, field.value),
        }
        seen.proto |= name == Name::ForwardedProto;
        seen.forwarded_host |= name == Name::ForwardedHost;
    }
    if seen.via_own >= limits::VIA_OWN_MAX {
        return Err(Violation::Loop);
    }
    let believed = Believed { fields: &head.fields, connection: &connection, trusted: arrival.trusted };
    put_forwarding(&mut text, &believed, &seen, arrival, host.filter(|host| !host.is_empty()));
    put(&mut text, &[b"Via: ", if is_http11 { b"1.1 " } else { b"1.0 " }, arrival.via.as_bytes(), b"\r\n"]);
    let te_trailers = seen.te_trailers && is_http11;
    if te_trailers {
        put_field(&mut text, b"TE", b"trailers");
    }
    if !upgrade.is_empty() {
        put_field(&mut text, b"Upgrade", &upgrade);
    }
    text.extend_from_slice(b"\r\n");
    if text.len() > limits::LINK_HEAD_BYTES_MAX {
        return Err(Violation::HeadTooLarge);
    }

    let (kind, framing) = match framing {
        _ if !upgrade.is_empty() => match framing {
            Framing::Sized(bytes @ 1..) => (BodyKind::UpgradeSized(bytes), framing),
            Framing::Chunked => (BodyKind::UpgradeChunked, framing),
            _ => (BodyKind::Upgrade, Framing::Empty),
        },
        Framing::Empty => (BodyKind::None, framing),
        Framing::Sized(bytes) => (BodyKind::Sized(bytes), framing),
        Framing::Chunked | Framing::UntilClose => (BodyKind::Unknown, framing),
    };
    let facts = RequestFacts {
        version: head.version,
        keep_alive: is_http11 && !connection.close,
        head: head.method == b"HEAD",
        expects_continue: seen.expect && is_http11 && has_body,
        accepts_html: seen.html > 0 && seen.html >= seen.plain,
        te_trailers,
        logs_in: seen.logs_in,
        upgrade,
    };
    Ok(LinkRequest { text, kind, framing, ends_here, facts })
}

/// Writes the request that came over a link to the app: Host by the rule, the visitor's name for the app in
/// X-Original-Host whatever the rule, framing made anew.
///
/// The text is parsed as strictly as a stranger's, so a hostile gateway reaches nothing that a visitor could not;
/// the target of the request never decides where it goes. On an error nothing was written.
///
/// # Errors
/// What [`parse_request`] finds wrong, a second head or bytes after it included; framing fields; an upgrade without
/// a protocol that may pass.
pub fn request_to_target(
    text: &[u8],
    kind: BodyKind,
    rule: &HostRule,
    target_authority: &str,
    out: &mut Vec<u8>,
) -> Result<TargetRequest, Violation> {
    let head = parse_request(text)?;
    let is_upgrade = kind.is_upgrade();
    let upgrade = if is_upgrade { passable_protocols(&head.fields) } else { Vec::new() };
    if is_upgrade && upgrade.is_empty() {
        return Err(Violation::UnaskedUpgrade);
    }
    let target = head.origin();
    let said_host = head.get("host");
    let came = target.authority.or(said_host);
    let mut said = Said::default();
    for field in &head.fields {
        said.note(field)?;
    }
    let host = match rule {
        HostRule::Preserve => came.unwrap_or(target_authority.as_bytes()),
        HostRule::Rewrite | HostRule::RewriteAll => target_authority.as_bytes(),
        HostRule::Fixed(authority) => authority.as_bytes(),
    };
    let visitor = said.visitor.or(came).filter(|authority| !authority.is_empty());
    let translation = visitor
        .filter(|_| rule.translates())
        .map(|visitor| Translation::to_target(said.https, visitor, host));
    let is_targets = said.site && translation.is_some_and(|translation| names_target(&head, translation));
    let tells_visitors_name = !is_targets && *rule != HostRule::RewriteAll;

    out.reserve(text.len() + 128);
    put_request_line(out, &head, &target, b"HTTP/1.1");
    if said_host.is_none() {
        put_field(out, b"Host", host);
    }
    for field in &head.fields {
        let name = Name::of(field.name);
        match (name, translation) {
            (Name::Host, _) => put_field(out, field.name, host),
            (Name::OriginalHost, _) => {}
            (Name::ForwardedHost, _) if !tells_visitors_name => {}
            (Name::ForwardedPart, _) if is_targets => {}
            (Name::ForwardedProto, _) if is_targets => put_field(out, field.name, b"http"),
            (Name::Forwarded, _) if !tells_visitors_name => {
                put(out, &[field.name, b": "]);
                put_forwarded(out, field.value, is_targets);
                out.extend_from_slice(b"\r\n");
            }
            (Name::Site | Name::Referer | Name::If, Some(translation)) => {
                put(out, &[field.name, b": "]);
                put_site(out, name, field.value, translation);
                out.extend_from_slice(b"\r\n");
            }
            (Name::Other, _) if is_disguise(field.name) => {}
            _ if name.is_hop_by_hop() => {}
            _ => put_field(out, field.name, field.value),
        }
    }
    if let Some(visitor) = visitor {
        put_field(out, b"X-Original-Host", visitor);
    }
    let framing = put_connection(out, kind, &upgrade, said.te_trailers);
    out.extend_from_slice(b"\r\n");

    let facts = TargetFacts {
        head: head.method == b"HEAD",
        idempotent: matches!(head.method, b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE"),
        expects_continue: said.expect && !matches!(framing, Framing::Empty | Framing::Sized(0)),
        logs_in: said.logs_in,
        upgrade,
        tells_visitors_name: tells_visitors_name && said.forwarded_host,
        names: visitor.filter(|_| rule.translates()).map(|visitor| Names {
            visitor_https: said.https,
            visitor: visitor.to_owned(),
            target: host.to_owned(),
        }),
    };
    Ok(TargetRequest { framing, facts })
}

/// Whether a field by which an app recognizes itself is to be translated: then the request names the target throughout.
fn names_target(head: &RequestHead<'_>, translation: Translation<'_>) -> bool {
    let mut unused = Vec::new();
    head.fields.iter().any(|field| match Name::of(field.name) {
        name @ (Name::Site | Name::If) => put_site(&mut unused, name, field.value, translation),
        _ => false,
    })
}

/// Writes a value that may name the app; returns whether it was translated.
fn put_site(out: &mut Vec<u8>, name: Name, value: &[u8], translation: Translation<'_>) -> bool {
    match name {
        Name::If => translation.put_references(out, value),
        _ => translation.put_uri(out, value),
    }
}

/// The request line, with the target in origin-form (RFC 9112, 3.2.1).
fn put_request_line(out: &mut Vec<u8>, head: &RequestHead<'_>, target: &Target<'_>, version: &[u8]) {
    let slash: &[u8] = if target.path.starts_with(b"?") { b"/" } else { b"" };
    put(out, &[head.method, b" ", slash, target.path, b" ", version, b"\r\n"]);
}

/// Whether a field of a visitor's request crosses the link as it is.
fn may_pass(name: Name, spelled: &[u8], trusted: bool, is_http11: bool) -> bool {
    match name {
        Name::ContentLength | Name::OriginalHost => false,
        Name::Expect => is_http11, // RFC 9110, 10.1.1: to be ignored in HTTP/1.0
        Name::Forwarded | Name::ForwardedFor => false, // what is believed of them goes into ours
        Name::Other if is_disguise(spelled) => false,
        _ if name.is_hop_by_hop() => false,
        _ => trusted || !says_who_asks(spelled),
    }
}

/// Writes Max-Forwards one less; returns whether it is 0 already. One that is no number is passed on as it is.
fn put_max_forwards(out: &mut Vec<u8>, field: &Field<'_>) -> bool {
    let hops = Some(field.value).filter(|value| value.iter().all(u8::is_ascii_digit) && !value.is_empty());
    let Some(hops) = hops else {
        put_field(out, field.name, field.value);
        return false;
    };
    let hops = std::str::from_utf8(hops).ok().and_then(|digits| digits.parse().ok()).unwrap_or(u32::MAX);
    write!(out, "Max-Forwards: {}\r\n", hops.saturating_sub(1)).expect("a Vec takes all that is written");
    hops == 0
}

/// What the fields of a visitor's request said, as far as it matters here.
#[derive(Debug, Default)]
struct Seen {
    expect: bool,
    te_trailers: bool,
    logs_in: bool,
    /// X-Forwarded-Proto was believed.
    proto: bool,
    /// X-Forwarded-Host was believed.
    forwarded_host: bool,
    /// How often our own name stands in Via.
    via_own: usize,
    /// The weight of text/html in Accept, in thousandths.
    html: u16,
    /// The weight of what plain text would match.
    plain: u16,
}

impl Seen {
    fn note(&mut self, name: Name, value: &[u8], via: &str) {
        match name {
            Name::Expect => self.expect = true,
            Name::Te => self.te_trailers |= asks_for_trailers(value),
            Name::Authorization => self.logs_in |= logs_connection_in(value),
            Name::Via => self.via_own += elements(value).filter(|hop| is_hop_of(hop, via)).count(),
            Name::Accept => {
                for range in elements(value) {
                    self.note_range(range);
                }
            }
            _ => {}
        }
    }

    fn note_range(&mut self, range: &[u8]) {
        let mut parts = range.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let media = parts.next().unwrap_or_default();
        let is = |known: &str| media.eq_ignore_ascii_case(known.as_bytes());
        let best = match () {
            () if is("text/html") => &mut self.html,
            () if is("text/plain") || is("text/*") || is("*/*") => &mut self.plain,
            () => return,
        };
        let weight = parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
        *best = (*best).max(weight.map_or(1000, thousandths));
    }
}

/// A weight (RFC 9110, 12.4.2) in thousandths; 0 if it is none.
fn thousandths(weight: &[u8]) -> u16 {
    match weight {
        [b'1', ..] => 1000,
        [b'0', b'.', digits @ ..] => (0..3).fold(0, |sum, place| {
            let digit = digits.get(place).filter(|digit| digit.is_ascii_digit());
            sum * 10 + digit.map_or(0, |digit| u16::from(digit - b'0'))
        }),
        _ => 0,
    }
}

fn asks_for_trailers(te: &[u8]) -> bool {
    elements(te).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// Whether an element of Via was left by `pseudonym`: `1.1 gesher-1a2b (comment)`.
fn is_hop_of(element: &[u8], pseudonym: &str) -> bool {
    let mut words = element.split(|b| matches!(b, b' ' | b'\t')).filter(|word| !word.is_empty());
    words.nth(1) == Some(pseudonym.as_bytes())
}

/// The forwarding fields of a request that are to be appended to.
struct Believed<'a> {
    fields: &'a [Field<'a>],
    connection: &'a Connection<'a>,
    trusted: bool,
}

impl Believed<'_> {
    /// Writes what the fields of this name say, as the beginning of one list.
    fn put(&self, out: &mut Vec<u8>, wanted: Name) {
        if !self.trusted {
            return;
        }
        let lines = self.fields.iter().filter(|field| Name::of(field.name) == wanted);
        for field in lines.filter(|field| !field.value.is_empty() && !self.connection.names(field.name)) {
            put(out, &[field.value, b", "]);
        }
    }
}

/// Who asked, under which name, and how: the de-facto fields and the standard one (RFC 7239).
fn put_forwarding(
    out: &mut Vec<u8>,
    believed: &Believed<'_>,
    seen: &Seen,
    arrival: &Arrival<'_>,
    host: Option<&[u8]>,
) {
    let from = arrival.from.to_canonical(); // a listener for both families shows IPv4 as ::ffff:192.0.2.7
    let scheme: &[u8] = if arrival.https { b"https" } else { b"http" };
    out.extend_from_slice(b"X-Forwarded-For: ");
    believed.put(out, Name::ForwardedFor);
    let begun = out.len();
    write!(out, "{from}").expect("a Vec takes all that is written");
    let from_text = begun..out.len();
    out.extend_from_slice(b"\r\n");
    if !seen.proto {
        put_field(out, b"X-Forwarded-Proto", scheme);
    }
    if let Some(host) = host.filter(|_| !seen.forwarded_host) {
        put_field(out, b"X-Forwarded-Host", host);
    }
    out.extend_from_slice(b"Forwarded: ");
    believed.put(out, Name::Forwarded);
    let quotes: [&[u8]; 2] = if from.is_ipv4() { [b"", b""] } else { [b"\"[", b"]\""] };
    put(out, &[b"for=", quotes[0]]);
    out.extend_from_within(from_text);
    out.extend_from_slice(quotes[1]);
    if let Some(host) = host {
        put(out, &[b";host=\"", host, b"\""]);
    }
    put(out, &[b";proto=", scheme, b"\r\n"]);
}

/// The first element of a list, if it is an authority.
fn first_authority(list: &[u8]) -> Option<&[u8]> {
    elements(list).next().filter(|authority| is_valid_authority(authority))
}

/// What the fields of a request from a link say, as far as it matters at the connector.
#[derive(Debug, Default)]
struct Said<'a> {
    expect: bool,
    te_trailers: bool,
    logs_in: bool,
    /// What the visitor calls the app, if X-Forwarded-Host tells.
    visitor: Option<&'a [u8]>,
    /// There is an X-Forwarded-Host.
    forwarded_host: bool,
    /// There is an Origin, a Destination or an If.
    site: bool,
    https: bool,
}

impl<'a> Said<'a> {
    /// # Errors
    /// A link frames by itself: fields that frame could only be there to contradict it.
    fn note(&mut self, field: &Field<'a>) -> Result<(), Violation> {
        match Name::of(field.name) {
            Name::ContentLength => return Err(Violation::ContentLength),
            Name::TransferEncoding => return Err(Violation::TransferEncoding),
            Name::Expect => self.expect = true,
            Name::Te => self.te_trailers |= asks_for_trailers(field.value),
            Name::Authorization => self.logs_in |= logs_connection_in(field.value),
            Name::Site | Name::If => self.site = true,
            Name::ForwardedHost => {
                self.forwarded_host = true;
                self.visitor = self.visitor.or(first_authority(field.value));
            }
            Name::ForwardedProto => {
                self.https |= elements(field.value).next().is_some_and(|p| p.eq_ignore_ascii_case(b"https"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The fields for the app's connection alone, and how the body is framed on it.
fn put_connection(out: &mut Vec<u8>, kind: BodyKind, upgrade: &[u8], te_trailers: bool) -> Framing {
    if te_trailers {
        put_field(out, b"TE", b"trailers");
    }
    match (kind.is_upgrade(), te_trailers) {
        (true, false) => put_field(out, b"Connection", b"Upgrade"),
        (true, true) => put_field(out, b"Connection", b"Upgrade, TE"),
        (false, true) => put_field(out, b"Connection", b"TE"),
        (false, false) => {}
    }
    if kind.is_upgrade() {
        put_field(out, b"Upgrade", upgrade);
    }
    match kind {
        BodyKind::None | BodyKind::Upgrade => Framing::Empty,
        BodyKind::Sized(bytes) | BodyKind::UpgradeSized(bytes) => {
            put_content_length(out, bytes);
            Framing::Sized(bytes)
        }
        BodyKind::Unknown | BodyKind::UpgradeChunked => {
            put_field(out, b"Transfer-Encoding", b"chunked");
            Framing::Chunked
        }
    }
}
