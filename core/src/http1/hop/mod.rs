//! What an intermediary does to heads between two hops (RFC 9110, 7.6), in four steps that each start from a head
//! parsed strictly and write a new one; nothing is ever patched.
//!
//! - What describes one connection stays on it: hop-by-hop fields and framing never cross a link, and are made anew
//!   from the [`BodyKind`](super::body::BodyKind) beside the head. So no peer, however hostile, can make the next
//!   one see another message boundary than we do.
//! - Everything else crosses unchanged and in order, but for what says who asked ([`request_to_link`]) and what the
//!   app is called ([`HostRule`]).
//!
//! ```text
//!  visitor ──▶ request_to_link ─── REQUEST ──▶ request_to_target ──▶ app
//!                   gateway          link          connector
//!  visitor ◀── response_to_visitor ◀── RESPONSE ── response_to_link ◀── app
//! ```
//!
//! ```
//! # fn main() -> Result<(), gesher_core::http1::Violation> {
//! use gesher_core::http1::head::{parse_request, parse_response};
//! use gesher_core::http1::hop::*;
//! use gesher_core::time::UnixSecs;
//!
//! let asked = b"POST /pay HTTP/1.1\r\nHost: shop.example\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
//!     X-Forwarded-For: ::1\r\nTransfer-Encoding: chunked\r\n\r\n";
//! let arrival = Arrival { from: [192, 0, 2, 7].into(), https: false, via: "gesher-1a2b", trusted: false };
//! let request = request_to_link(&parse_request(asked)?, &arrival)?;
//! assert_eq!(
//!     request.text,
//!     b"POST /pay HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n\
//!     X-Forwarded-Host: shop.example\r\nForwarded: for=192.0.2.7;host=\"shop.example\";proto=http\r\n\
//!     Via: 1.1 gesher-1a2b\r\n\r\n"
//! );
//!
//! let mut to_app = Vec::new();
//! let sent =
//!     request_to_target(&request.text, request.kind, &HostRule::Rewrite, "localhost:3000", &mut to_app)?;
//! assert!(to_app.starts_with(b"POST /pay HTTP/1.1\r\nHost: localhost:3000\r\nX-Forwarded-For: 192.0.2.7\r\n"));
//! assert!(to_app.ends_with(b"\r\nX-Original-Host: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n"));
//!
//! let answered = b"HTTP/1.1 303 See Other\r\nLocation: http://localhost:3000/thanks\r\nContent-Length: 0\r\n\
//!     Keep-Alive: timeout=5\r\n\r\n";
//! let response = response_to_link(&parse_response(answered)?, &sent.facts)?;
//! assert_eq!(response.text, b"HTTP/1.1 303 See Other\r\nLocation: http://shop.example/thanks\r\n\r\n");
//!
//! let mut to_visitor = Vec::new();
//! let now = UnixSecs(784_111_777);
//! response_to_visitor(&response.text, response.kind, &request.facts, false, now, &mut to_visitor)?;
//! assert_eq!(
//!     to_visitor,
//!     b"HTTP/1.1 303 See Other\r\nLocation: http://shop.example/thanks\r\n\
//!     Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n"
//! );
//! # Ok(())
//! # }
//! ```

pub mod hints;
mod names;
mod request;
mod response;

pub use self::request::{
    Arrival, LinkRequest, RequestFacts, TargetFacts, TargetRequest, request_to_link, request_to_target,
};
pub use self::response::{LinkResponse, VisitorResponse, response_to_link, response_to_visitor};

use std::io::Write;

use super::Violation;
use super::head::{Field, is_token, is_valid_authority, unveiled};
use crate::limits;

/// What the app is told that it is called (`--host-header`).
///
/// With the two that rewrite, an app believes to be called as the target is. So fields that name it are translated both
/// ways (see `names.rs`), and a request says one name: one whose Origin, Destination or If was translated says the
/// visitor's nowhere but in X-Original-Host, and the target's scheme everywhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostRule {
    /// The visitor's name; the target's if the visitor says none.
    Preserve,
    /// The target's authority. Requests that are not translated keep the visitor's in X-Forwarded-Host and Forwarded:
    /// some apps make the addresses of their pages from these.
    Rewrite,
    /// The target's authority, and never X-Forwarded-Host or `host` in Forwarded.
    RewriteAll,
    /// This authority. Nothing is translated.
    Fixed(String),
}

impl HostRule {
    /// Reads `preserve`, `rewrite`, `rewrite-all` or an authority (`HOST[:PORT]`).
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "preserve" => Some(HostRule::Preserve),
            "rewrite" => Some(HostRule::Rewrite),
            "rewrite-all" => Some(HostRule::RewriteAll),
            "" => None,
            _ => is_valid_authority(text.as_bytes()).then(|| HostRule::Fixed(text.to_owned())),
        }
    }

    /// What [`Self::parse`] reads.
    pub fn as_str(&self) -> &str {
        match self {
            HostRule::Preserve => "preserve",
            HostRule::Rewrite => "rewrite",
            HostRule::RewriteAll => "rewrite-all",
            HostRule::Fixed(authority) => authority,
        }
    }

    /// Whether fields that name the app are translated.
    fn translates(&self) -> bool {
        matches!(self, HostRule::Rewrite | HostRule::RewriteAll)
    }
}

/// The fields that need care at a hop, by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Name {
    Accept,
    /// Where else the app is: not there, to visitors.
    AltSvc,
    /// Never taken for hop-by-hop, whatever Connection says.
    Authorization,
    /// WWW-Authenticate.
    Challenge,
    Connection,
    ContentLength,
    Date,
    Expect,
    Forwarded,
    ForwardedFor,
    ForwardedHost,
    /// X-Forwarded-Port, X-Forwarded-Scheme and X-Forwarded-Ssl: parts of the visitor's name for the app.
    ForwardedPart,
    ForwardedProto,
    Host,
    /// The condition of WebDAV, which names resources.
    If,
    KeepAlive,
    /// Links to pages.
    Link,
    /// Location, Content-Location and Access-Control-Allow-Origin: they name the app.
    Location,
    MaxForwards,
    /// Proxy-Connection, Proxy-Authorization and HTTP2-Settings: they concern the sender's own connection. Proxy: no
    /// field at all, but what CGI makes of it tells many programs where to send their own requests.
    NextHop,
    /// X-Original-Host: the connector alone says it.
    OriginalHost,
    /// Cookie: never taken for hop-by-hop either.
    Protected,
    /// The page that asks.
    Referer,
    Refresh,
    /// Origin and Destination: they name the app, or a resource of it, and an app may compare them with its own name.
    Site,
    SetCookie,
    Te,
    TransferEncoding,
    Upgrade,
    Via,
    /// Nothing to us.
    Other,
}

impl Name {
    fn of(name: &[u8]) -> Self {
        let candidates: &[(&str, Name)] = match name.len() {
            2 => &[("te", Name::Te), ("if", Name::If)],
            3 => &[("via", Name::Via)],
            4 => &[("host", Name::Host), ("date", Name::Date), ("link", Name::Link)],
            5 => &[("proxy", Name::NextHop)],
            6 => &[
                ("accept", Name::Accept),
                ("cookie", Name::Protected),
                ("origin", Name::Site),
                ("expect", Name::Expect),
            ],
            7 => &[
                ("referer", Name::Referer),
                ("upgrade", Name::Upgrade),
                ("refresh", Name::Refresh),
                ("alt-svc", Name::AltSvc),
            ],
            8 => &[("location", Name::Location)],
            9 => &[("forwarded", Name::Forwarded)],
            10 => &[
                ("connection", Name::Connection),
                ("set-cookie", Name::SetCookie),
                ("keep-alive", Name::KeepAlive),
            ],
            11 => &[("destination", Name::Site)],
            12 => &[("max-forwards", Name::MaxForwards)],
            13 => &[("authorization", Name::Authorization)],
            14 => &[("content-length", Name::ContentLength), ("http2-settings", Name::NextHop)],
            15 => &[
                ("x-forwarded-for", Name::ForwardedFor),
                ("x-original-host", Name::OriginalHost),
                ("x-forwarded-ssl", Name::ForwardedPart),
            ],
            16 => &[
                ("content-location", Name::Location),
                ("x-forwarded-host", Name::ForwardedHost),
                ("x-forwarded-port", Name::ForwardedPart),
                ("proxy-connection", Name::NextHop),
                ("www-authenticate", Name::Challenge),
            ],
            17 => {
                &[("transfer-encoding", Name::TransferEncoding), ("x-forwarded-proto", Name::ForwardedProto)]
            }
            18 => &[("x-forwarded-scheme", Name::ForwardedPart)],
            19 => &[("proxy-authorization", Name::NextHop)],
            27 => &[("access-control-allow-origin", Name::Location)],
            _ => return Name::Other,
        };
        // The first letter settles it for most names.
        let first = name[0].to_ascii_lowercase();
        let found = candidates
            .iter()
            .find(|(known, _)| known.as_bytes()[0] == first && name.eq_ignore_ascii_case(known.as_bytes()));
        found.map_or(Name::Other, |(_, found)| *found)
    }

    /// Whether fields of this name go no further than the next hop (RFC 9110, 7.6.1).
    fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Name::Connection
                | Name::KeepAlive
                | Name::NextHop
                | Name::Te
                | Name::TransferEncoding
                | Name::Upgrade
        )
    }

    /// Whether `Connection` cannot take fields of this name away.
    fn is_protected(self) -> bool {
        matches!(self, Name::Host | Name::ContentLength | Name::Authorization | Name::Protected)
    }
}

/// What the `Connection` fields of a head say together.
#[derive(Debug, Default)]
struct Connection<'a> {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    /// Names of fields that are hop-by-hop by nothing but this.
    named: Vec<&'a [u8]>,
}

impl<'a> Connection<'a> {
    /// # Errors
    /// [`Violation::TooManyFields`] if more are named than [`limits::CONNECTION_OPTIONS_MAX`]: each is looked
    /// up for each field, and a stranger chooses both numbers.
    fn of(fields: &[Field<'a>]) -> Result<Self, Violation> {
        let mut connection = Self::default();
        let lines = fields.iter().filter(|field| field.is("connection"));
        for option in lines.flat_map(|field| elements(field.value)) {
            let name = Name::of(option);
            if option.eq_ignore_ascii_case(b"close") {
                connection.close = true;
            } else if name == Name::KeepAlive {
                connection.keep_alive = true;
            } else if name == Name::Upgrade {
                connection.upgrade = true;
            } else if name.is_hop_by_hop() || name.is_protected() {
                continue;
            } else if connection.named.len() == limits::CONNECTION_OPTIONS_MAX {
                return Err(Violation::TooManyFields);
            } else {
                connection.named.push(option);
            }
        }
        Ok(connection)
    }

    /// Whether the field `name` was named.
    fn names(&self, name: &[u8]) -> bool {
        self.named.iter().any(|named| named.eq_ignore_ascii_case(name))
    }
}

/// The protocols that the `Upgrade` fields of a head name and that may pass, joined by `, `; empty if none.
///
/// HTTP and TLS in whatever version, h2 and h2c, don't: inside them requests would pass that no rule here ever sees.
fn passable_protocols(fields: &[Field<'_>]) -> Vec<u8> {
    const TUNNELS: [&[u8]; 4] = [b"h2c", b"h2", b"http", b"tls"];
    named_protocols(fields, |name| !TUNNELS.iter().any(|known| name.eq_ignore_ascii_case(known)))
}

/// The protocols that a final response names, as it may be asked for next: those that may pass, or with a 426 all, since
/// it is nothing without them (RFC 9110, 7.8 and 15.5.22).
fn advertised_protocols(status: u16, fields: &[Field<'_>]) -> Vec<u8> {
    match status {
        ..200 => Vec::new(),
        426 => named_protocols(fields, |_| true),
        _ => passable_protocols(fields),
    }
}

fn named_protocols(fields: &[Field<'_>], may_pass: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut protocols = Vec::new();
    let lines = fields.iter().filter(|field| field.is("upgrade"));
    for protocol in lines.flat_map(|field| elements(field.value)) {
        let mut parts = protocol.splitn(2, |b| *b == b'/');
        let name = parts.next().unwrap_or_default();
        if is_token(name) && parts.next().is_none_or(is_token) && may_pass(name) {
            let comma: &[u8] = if protocols.is_empty() { b"" } else { b", " };
            put(&mut protocols, &[comma, protocol]);
        }
    }
    protocols
}

/// What a 101 names, if it was asked for; `offered` is what [`passable_protocols`] said of the request.
///
/// # Errors
/// [`Violation::UnaskedUpgrade`] if no protocol is named or one that was not offered.
fn accepted_protocols(fields: &[Field<'_>], offered: &[u8]) -> Result<Vec<u8>, Violation> {
    let accepted = passable_protocols(fields);
    let was_offered = |protocol| elements(offered).any(|offer| offer.eq_ignore_ascii_case(protocol));
    if accepted.is_empty() || !elements(&accepted).all(was_offered) {
        return Err(Violation::UnaskedUpgrade);
    }
    Ok(accepted)
}

/// Whether credentials or challenges are of a scheme that logs a connection in, and not a request: whatever comes on it
/// later is taken to be of the same person (RFC 4559, 6; MS-NTHT).
fn logs_connection_in(value: &[u8]) -> bool {
    const SCHEMES: [&[u8]; 3] = [b"ntlm", b"negotiate", b"nego2"];
    elements(value).any(|element| {
        let scheme = element.split(|b| matches!(b, b' ' | b'\t')).next().unwrap_or_default();
        SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known))
    })
}

/// Whether a field says where a request came from, under which name or how.
fn says_who_asks(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [b"forwarded", b"x-real-ip", b"true-client-ip", b"cf-connecting-ip"];
    const PREFIX: &[u8] = b"x-forwarded";
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
        || name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Whether a request's field is another one in disguise: CGI and its heirs cannot tell it from one that frames, routes,
/// authenticates or says who asks ([`unveiled`]).
fn is_disguise(name: &[u8]) -> bool {
    if name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') {
        return false;
    }
    let name = unveiled(name);
    Name::of(&name) != Name::Other || name == b"content-type" || says_who_asks(&name)
}

/// The elements of a list, without white space around them; empty ones are left out (RFC 9110, 5.6.1).
fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put(out, &[name, b": ", value, b"\r\n"]);
}

fn put_content_length(out: &mut Vec<u8>, bytes: u64) {
    write!(out, "Content-Length: {bytes}\r\n").expect("a Vec takes all that is written");
}

/// Room for a head like this one and what is added to it, so that it is written without growing.
fn room_for(fields: &[Field<'_>]) -> usize {
    fields.iter().map(|field| field.name.len() + field.value.len() + 4).sum::<usize>() + 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_rule_is_a_word_or_an_authority() {
        assert_eq!(HostRule::parse("preserve"), Some(HostRule::Preserve));
        assert_eq!(HostRule::parse("rewrite"), Some(HostRule::Rewrite));
        assert_eq!(HostRule::parse("rewrite-all"), Some(HostRule::RewriteAll));
        assert_eq!(HostRule::parse("app.lan:81"), Some(HostRule::Fixed("app.lan:81".into())));
        for text in ["", "a b", "a\r\nb", "a/b"] {
            assert_eq!(HostRule::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_field_that_needs_care_is_known_in_any_case_and_no_other() {
        use Name::*;
        let known = [
            (Accept, "accept"),
            (AltSvc, "alt-svc"),
            (Connection, "connection"),
            (ContentLength, "content-length"),
            (Date, "date"),
            (Expect, "expect"),
            (Forwarded, "forwarded"),
            (ForwardedFor, "x-forwarded-for"),
            (ForwardedHost, "x-forwarded-host"),
            (ForwardedPart, "x-forwarded-port"),
            (ForwardedPart, "x-forwarded-scheme"),
            (ForwardedPart, "x-forwarded-ssl"),
            (ForwardedProto, "x-forwarded-proto"),
            (Host, "host"),
            (If, "if"),
            (KeepAlive, "keep-alive"),
            (Link, "link"),
            (Location, "location"),
            (Location, "content-location"),
            (Location, "access-control-allow-origin"),
            (MaxForwards, "max-forwards"),
            (NextHop, "proxy"),
            (NextHop, "proxy-connection"),
            (NextHop, "proxy-authorization"),
            (NextHop, "http2-settings"),
            (OriginalHost, "x-original-host"),
            (Protected, "cookie"),
            (Authorization, "authorization"),
            (Challenge, "www-authenticate"),
            (Referer, "referer"),
            (Refresh, "refresh"),
            (Site, "origin"),
            (Site, "destination"),
            (SetCookie, "set-cookie"),
            (Te, "te"),
            (TransferEncoding, "transfer-encoding"),
            (Upgrade, "upgrade"),
            (Via, "via"),
        ];
        for (name, spelled) in known {
            assert_eq!(Name::of(spelled.as_bytes()), name, "{spelled}");
            assert_eq!(Name::of(spelled.to_ascii_uppercase().as_bytes()), name, "{spelled}");
            let other = spelled.replace(&spelled[1..2], "%");
            assert_eq!(Name::of(other.as_bytes()), Other, "{other}");
        }
        assert_eq!(Name::of(b""), Other);
    }

    #[test]
    fn connection_names_fields_in_any_case_but_never_protected_ones() {
        let line = |value| Field { name: b"cOnnection", value };
        let fields = [line(&b"Host, X-Hop,,close"[..]), line(b"Cookie,AUTHORIZATION , content-length")];
        let connection = Connection::of(&fields).unwrap();
        assert!(connection.close && !connection.keep_alive && !connection.upgrade);
        assert!(connection.names(b"x-hop"));
        for name in ["host", "cookie", "authorization", "content-length"] {
            assert!(!connection.names(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn schemes_that_log_a_connection_in_are_known_in_any_list() {
        for value in [
            "NTLM",
            "negotiate",
            "NTLM TlRMTVNTUAAB=",
            "Nego2\tx",
            "Basic realm=\"a, b\", NTLM",
            "Bearer,Negotiate abc==,Digest realm=x",
            ", ,NEGOTIATE",
        ] {
            assert!(logs_connection_in(value.as_bytes()), "{value}");
        }
        for value in
            ["", "Basic bnRsbQ==", "NTLMv2", "Digest realm=NTLM", "Bearer NTLM", "Basic realm=\"NTLM\""]
        {
            assert!(!logs_connection_in(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn connection_names_only_so_many_fields() {
        let list = |count: usize| vec!["x"; count].join(",");
        let of =
            |list: &str| Connection::of(&[Field { name: b"connection", value: list.as_bytes() }]).map(drop);
        assert_eq!(of(&list(limits::CONNECTION_OPTIONS_MAX)), Ok(()));
        assert_eq!(of(&list(limits::CONNECTION_OPTIONS_MAX + 1)), Err(Violation::TooManyFields));
    }

    #[test]
    fn protocols_that_carry_http_are_never_offered() {
        let offered =
            |value: &str| passable_protocols(&[Field { name: b"upgrade", value: value.as_bytes() }]);
        assert_eq!(offered("h2,h2c, WebSocket,HTTP/2.0 , tls/1.2, TLS, x/1"), b"WebSocket, x/1");
        assert_eq!(offered("H2C, http, x/1/2, a b, /1, x/"), b"");
    }

    #[test]
    fn a_name_with_other_signs_is_no_disguise_unless_it_could_pass_for_one_that_matters() {
        for disguise in [
            "Transfer_Encoding",
            "content_length",
            "CONTENT_TYPE",
            "Keep_Alive",
            "Proxy_Authorization",
            "Proxy_Connection",
            "HTTP2_Settings",
            "X_Forwarded-For",
            "X-Forwarded_Anything",
            "X_Real_IP",
            "x_original-host",
            "Max_Forwards",
        ] {
            for sign in ["_", ".", "!", "~"] {
                assert!(is_disguise(disguise.replace('_', sign).as_bytes()), "{disguise} with {sign}");
            }
            assert!(!is_disguise(disguise.replace('_', "-").as_bytes()), "{disguise}");
        }
        for harmless in ["session_id", "X_Api_Key", "X.Api.Key", "_", "", "Host_", "content__length"] {
            assert!(!is_disguise(harmless.as_bytes()), "{harmless}");
        }
    }
}
