//! The rules of docs/http.md, "Carrying", seen from outside: what goes into the four steps and what comes out.
#![allow(clippy::unwrap_used, reason = "what helps tests may panic as they do")]

use std::net::IpAddr;
use std::time::Duration;

use gesher_core::http1::Violation;
use gesher_core::http1::body::{BodyKind, Framing, request_framing, response_framing};
use gesher_core::http1::head::{Version, list_has, parse_request, parse_response};
use gesher_core::http1::hop::*;
use gesher_core::limits;
use gesher_core::time::UnixSecs;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const NOW: UnixSecs = UnixSecs(784_111_777);
const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
const TARGET: &str = "localhost:3000";

fn arrival() -> Arrival<'static> {
    Arrival { from: [192, 0, 2, 7].into(), https: false, via: "gesher-1a2b", trusted: false }
}

/// A head of these lines.
fn head(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}\r\n")).collect::<String>() + "\r\n"
}

fn try_to_link(lines: &[&str], arrival: &Arrival<'_>) -> Result<LinkRequest, Violation> {
    request_to_link(&parse_request(head(lines).as_bytes())?, arrival)
}

fn to_link(lines: &[&str]) -> LinkRequest {
    try_to_link(lines, &arrival()).unwrap()
}

fn lines(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8(text.to_owned()).unwrap();
    text.strip_suffix("\r\n\r\n").unwrap().split("\r\n").map(str::to_owned).collect()
}

/// The lines of a request head as it goes into the link, without those that are always added.
fn linked(asked: &[&str]) -> Vec<String> {
    let added = ["X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: http", "Via: 1.1 gesher-1a2b"];
    let ours = |line: &String| {
        added.contains(&line.as_str())
            || line.starts_with("X-Forwarded-Host: ")
            || line.starts_with("Forwarded: for=192.0.2.7;")
    };
    lines(&to_link(asked).text).into_iter().filter(|line| !ours(line)).collect()
}

fn try_to_target(text: &str, kind: BodyKind, rule: &HostRule) -> Result<(String, TargetRequest), Violation> {
    let mut out = b"before".to_vec();
    let result = request_to_target(text.as_bytes(), kind, rule, TARGET, &mut out);
    assert!(result.is_ok() || out == b"before", "an error writes nothing");
    Ok((String::from_utf8(out[6..].to_owned()).unwrap(), result?))
}

fn to_target(asked: &[&str], kind: BodyKind, rule: &HostRule) -> (String, TargetRequest) {
    try_to_target(&head(asked), kind, rule).unwrap()
}

fn facts_of(asked: &[&str], rule: &HostRule) -> TargetFacts {
    let kind = match asked.iter().any(|line| line.starts_with("Upgrade")) {
        true => BodyKind::Upgrade,
        false => BodyKind::None,
    };
    to_target(asked, kind, rule).1.facts
}

fn try_from_app(answered: &[&str], facts: &TargetFacts) -> Result<LinkResponse, Violation> {
    response_to_link(&parse_response(head(answered).as_bytes())?, facts)
}

fn from_app(answered: &[&str]) -> LinkResponse {
    try_from_app(answered, &facts_of(&["GET / HTTP/1.1", "Host: a"], &HostRule::Preserve)).unwrap()
}

fn try_to_visitor(
    text: &str,
    kind: BodyKind,
    asked: &[&str],
    close: bool,
) -> Result<(String, VisitorResponse), Violation> {
    let facts = to_link(asked).facts;
    let mut out = b"before".to_vec();
    let result = response_to_visitor(text.as_bytes(), kind, &facts, close, NOW, &mut out);
    assert!(result.is_ok() || out == b"before", "an error writes nothing");
    Ok((String::from_utf8(out[6..].to_owned()).unwrap(), result?))
}

const GET: &[&str] = &["GET / HTTP/1.1", "Host: a"];
const HEAD: &[&str] = &["HEAD / HTTP/1.1", "Host: a"];
const OLD: &[&str] = &["GET / HTTP/1.0", "Host: a"];
const WEBSOCKET: &[&str] = &["GET / HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket"];

// ---- A request into the link ---------------------------------------------------------------------------------------

#[test]
fn everything_that_is_not_of_one_hop_is_carried_in_order() {
    let asked = [
        "PATCH /a?b=%20&c HTTP/1.1",
        "aCCept: x/y",
        "Host: a.example:8080",
        "Cookie: a=b",
        "X-Twice: 1",
        "Trailer: X-Sum",
        "X-Twice: 2",
        "Content-Encoding: gzip",
        "Authorization: Basic eDp5",
        "X-Empty: ",
    ];
    assert_eq!(linked(&asked), asked);
}

#[test]
fn hop_by_hop_and_framing_fields_stay_on_their_hop() {
    let asked = [
        "POST / HTTP/1.1",
        "Host: a",
        "Connection: keep-alive, X-Mine, Cookie, Host, Authorization",
        "cookie: a=b",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic eDp5",
        "x-mine: 1",
        "TE: gzip",
        "Upgrade: websocket",
        "HTTP2-Settings: AAMAAABk",
        "Authorization: Basic eDp5",
        "Content-Length: 5",
    ];
    let kept = ["POST / HTTP/1.1", "Host: a", "cookie: a=b", "Authorization: Basic eDp5"];
    assert_eq!(linked(&asked), kept);
    assert_eq!(to_link(&asked).kind, BodyKind::Sized(5));
    let chunked = to_link(&["POST / HTTP/1.1", "Host: a", "transfer-encoding: Chunked"]);
    assert_eq!((chunked.kind, chunked.framing), (BodyKind::Unknown, Framing::Chunked));
    assert!(!String::from_utf8(chunked.text).unwrap().contains("hunked"));
}

#[test]
fn absolute_form_becomes_origin_form_and_its_authority_the_host() {
    for (line, expected) in [
        ("GET http://b:81/x?y HTTP/1.1", ["GET /x?y HTTP/1.1", "Host: b:81"]),
        ("GET HTTPS://b?y HTTP/1.1", ["GET /?y HTTP/1.1", "Host: b"]),
        ("GET http://b HTTP/1.1", ["GET / HTTP/1.1", "Host: b"]),
        ("OPTIONS * HTTP/1.1", ["OPTIONS * HTTP/1.1", "Host: a"]),
        ("OPTIONS http://b HTTP/1.1", ["OPTIONS * HTTP/1.1", "Host: b"]),
    ] {
        assert_eq!(linked(&[line, "Host: a"]), expected, "{line}");
    }
    let old = to_link(&["GET http://b/ HTTP/1.0"]);
    assert!(old.text.starts_with(b"GET / HTTP/1.1\r\nHost: b\r\n"));
}

#[test]
fn an_old_request_without_host_says_so_by_its_version_and_gets_the_targets() {
    let request = to_link(&["GET / HTTP/1.0", "Expect: 100-continue"]);
    assert_eq!(
        lines(&request.text),
        [
            "GET / HTTP/1.0",
            "X-Forwarded-For: 192.0.2.7",
            "X-Forwarded-Proto: http",
            "Forwarded: for=192.0.2.7;proto=http",
            "Via: 1.0 gesher-1a2b"
        ]
    );
    let text = String::from_utf8(request.text).unwrap();
    let (out, _) = try_to_target(&text, request.kind, &HostRule::Preserve).unwrap();
    assert!(out.starts_with("GET / HTTP/1.1\r\nHost: localhost:3000\r\n"), "{out}");
}

#[test]
fn what_strangers_say_in_forwarding_fields_is_dropped() {
    let asked = [
        "GET / HTTP/1.1",
        "Host: a",
        "X-Forwarded-For: 127.0.0.1",
        "x_forwarded_for: 127.0.0.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: b",
        "X-Forwarded_Prefix: /x",
        "Forwarded: for=127.0.0.1",
        "X-Real-IP: 127.0.0.1",
        "X_Real-IP: 127.0.0.1",
        "True-Client-IP: 127.0.0.1",
        "CF-Connecting-IP: 127.0.0.1",
        "X-Original-Host: b",
        "x_original_host: b",
        "X-Forward: kept",
        "Via: 1.0 fred",
    ];
    assert_eq!(linked(&asked), ["GET / HTTP/1.1", "Host: a", "X-Forward: kept", "Via: 1.0 fred"]);
}

#[test]
fn what_trusted_proxies_say_in_forwarding_fields_is_believed_and_appended_to() {
    let asked = [
        "GET / HTTP/1.1",
        "Host: inner",
        "X-Forwarded-For: 198.51.100.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: outer",
        "X-Real-IP: 198.51.100.1",
        "X_Real_IP: 203.0.113.1",
        "X-Original-Host: forged",
        "Forwarded: for=198.51.100.1",
        "X-Forwarded-For: 198.51.100.2, 198.51.100.3",
        "X-Forwarded-For: ",
    ];
    let from: IpAddr = "2001:db8::1".parse().unwrap();
    let request = try_to_link(&asked, &Arrival { from, trusted: true, ..arrival() }).unwrap();
    assert_eq!(
        lines(&request.text),
        [
            "GET / HTTP/1.1",
            "Host: inner",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: outer",
            "X-Real-IP: 198.51.100.1",
            "X-Forwarded-For: 198.51.100.1, 198.51.100.2, 198.51.100.3, 2001:db8::1",
            "Forwarded: for=198.51.100.1, for=\"[2001:db8::1]\";host=\"inner\";proto=http",
            "Via: 1.1 gesher-1a2b",
        ]
    );
}

#[test]
fn what_connection_names_is_removed_before_ours_is_added() {
    let asked = [
        "GET / HTTP/1.1",
        "Host: a",
        "Connection: X-Forwarded-For, x-forwarded-proto, Forwarded, X-Forwarded-Host, Via",
        "X-Forwarded-For: 198.51.100.1",
        "X-Forwarded-Proto: gopher",
        "Forwarded: for=198.51.100.1",
    ];
    let request = try_to_link(&asked, &Arrival { trusted: true, https: true, ..arrival() }).unwrap();
    assert_eq!(
        lines(&request.text),
        [
            "GET / HTTP/1.1",
            "Host: a",
            "X-Forwarded-For: 192.0.2.7",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: a",
            "Forwarded: for=192.0.2.7;host=\"a\";proto=https",
            "Via: 1.1 gesher-1a2b",
        ]
    );
}

#[test]
fn an_ipv4_visitor_on_a_listener_for_both_families_is_an_ipv4_visitor() {
    let from: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
    assert_eq!(try_to_link(GET, &Arrival { from, ..arrival() }).unwrap().text, to_link(GET).text);
}

#[test]
fn a_request_that_passed_too_often_is_a_loop() {
    let via = |ours: usize| format!("Via: 1.1 x, {}", vec!["1.1 gesher-1a2b (c)"; ours].join(" ,"));
    let asked =
        |via: &str| try_to_link(&["GET / HTTP/1.1", "Host: a", "Via: 1.1 gesher-1a2b", via], &arrival());
    assert!(asked(&via(limits::VIA_OWN_MAX - 2)).is_ok());
    assert_eq!(asked(&via(limits::VIA_OWN_MAX - 1)).err(), Some(Violation::Loop));
    assert!(asked("Via: 1.1 gesher-1a2c, gesher-1a2b, 1.1 gesher-1a2bb, 1.1 x (gesher-1a2b)").is_ok());
}

#[test]
fn a_head_that_outgrows_its_frame_is_refused() {
    let asked = |spare: usize| {
        let field = format!("X: {}", "a".repeat(limits::LINK_HEAD_BYTES_MAX - spare));
        try_to_link(&["GET / HTTP/1.1", "Host: a", &field], &arrival())
    };
    assert!(asked(512).is_ok());
    assert_eq!(asked(64).err(), Some(Violation::HeadTooLarge));
}

#[test]
fn an_upgrade_is_offered_only_if_it_is_one() {
    let kind_with = |line: &str, fields: &[&str]| {
        let request = to_link(&[&[line, "Host: a"], fields].concat());
        let offered = lines(&request.text).into_iter().find(|line| line.starts_with("Upgrade: "));
        assert_eq!(offered.is_some(), !request.facts.upgrade.is_empty());
        (request.kind, offered.unwrap_or_default())
    };
    let (get, connection) = ("GET / HTTP/1.1", "Connection: x, UPGRADE");
    let websocket = "Upgrade: WebSocket";
    assert_eq!(kind_with(get, &[connection, websocket]), (BodyKind::Upgrade, websocket.into()));
    assert_eq!(
        kind_with(get, &[connection, "Upgrade: h2c, a/1", websocket, "Content-Length: 0"]),
        (BodyKind::Upgrade, "Upgrade: a/1, WebSocket".into())
    );
    assert_eq!(kind_with(get, &[websocket]), (BodyKind::None, String::new()));
    assert_eq!(
        kind_with(get, &[connection, "Upgrade: h2c, TLS/1.2, HTTP/2.0"]),
        (BodyKind::None, String::new())
    );
    assert_eq!(kind_with("GET / HTTP/1.0", &[connection, websocket]), (BodyKind::None, String::new()));
    for (framing, kind) in [
        ("Content-Length: 1", BodyKind::UpgradeSized(1)),
        ("Transfer-Encoding: chunked", BodyKind::UpgradeChunked),
    ] {
        let found = kind_with("POST / HTTP/1.1", &[connection, websocket, framing]);
        assert_eq!(found, (kind, websocket.into()), "the body first");
    }
}

#[test]
fn trailers_are_asked_for_again_if_the_visitor_can_have_them() {
    for (version, te, expected) in
        [("1.1", "gzip, Trailers", true), ("1.1", "gzip", false), ("1.0", "trailers", false)]
    {
        let asked = [&format!("GET / HTTP/{version}"), "Host: a", &format!("TE: {te}")];
        let request = to_link(&asked);
        assert_eq!(request.facts.te_trailers, expected);
        let text = String::from_utf8(request.text).unwrap();
        assert_eq!(text.contains("TE: trailers\r\n"), expected);
        let (out, _) = try_to_target(&text, request.kind, &HostRule::Preserve).unwrap();
        assert_eq!(out.contains("TE: trailers\r\nConnection: TE\r\n"), expected);
    }
}

#[test]
fn the_facts_say_what_the_response_depends_on() {
    let facts = |line: &str, field: &str| to_link(&[line, "Host: a", field, "Content-Length: 1"]).facts;
    let (get, old) = ("GET / HTTP/1.1", "GET / HTTP/1.0");
    assert!(facts(get, "X: y").keep_alive);
    assert!(!facts(get, "Connection: foo, Close").keep_alive);
    assert!(!facts(old, "Connection: keep-alive").keep_alive);
    assert!(facts("HEAD / HTTP/1.1", "X: y").head && !facts(get, "X: y").head);
    assert!(facts(get, "Expect: 100-Continue").expects_continue);
    assert!(!facts(old, "Expect: 100-continue").expects_continue);
    assert!(!to_link(&[get, "Host: a", "Expect: 100-continue"]).facts.expects_continue);
    assert_eq!(facts(old, "X: y").version, Version::Http10);
}

#[test]
fn a_page_is_for_those_who_ask_for_pages() {
    for (accept, html) in [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
        ("Text/HTML", true),
        ("text/html;q=0.5, text/plain;q=0.4", true),
        ("text/html;q=0.4, text/plain; Q=0.45", false),
        ("text/html;q=0", false),
        ("*/*", false),
        ("application/json", false),
        ("text/html;q=x, text/plain", false),
    ] {
        let request = to_link(&["GET / HTTP/1.1", "Host: a", &format!("Accept: {accept}")]);
        assert_eq!(request.facts.accepts_html, html, "{accept}");
    }
}

// ---- A request to the app ------------------------------------------------------------------------------------------

#[test]
fn framing_is_made_anew_from_the_kind() {
    let asked = ["POST / HTTP/1.1", "Host: a", "X: y"];
    for (kind, ours, framing) in [
        (BodyKind::None, "", Framing::Empty),
        (BodyKind::Sized(0), "Content-Length: 0\r\n", Framing::Sized(0)),
        (BodyKind::Sized(70), "Content-Length: 70\r\n", Framing::Sized(70)),
        (BodyKind::Unknown, "Transfer-Encoding: chunked\r\n", Framing::Chunked),
    ] {
        let (out, request) = to_target(&asked, kind, &HostRule::Preserve);
        assert_eq!(out, format!("POST / HTTP/1.1\r\nHost: a\r\nX: y\r\nX-Original-Host: a\r\n{ours}\r\n"));
        assert_eq!(request.framing, framing);
    }
    let asked = ["GET / HTTP/1.1", "Host: a", "Upgrade: h2c, websocket", "TE: trailers"];
    let (out, request) = to_target(&asked, BodyKind::Upgrade, &HostRule::Preserve);
    let ours = "TE: trailers\r\nConnection: Upgrade, TE\r\nUpgrade: websocket\r\n";
    assert_eq!(out, format!("GET / HTTP/1.1\r\nHost: a\r\nX-Original-Host: a\r\n{ours}\r\n"));
    assert_eq!((request.framing, request.facts.upgrade), (Framing::Empty, b"websocket".to_vec()));
}

#[test]
fn a_hostile_gateway_cannot_smuggle() {
    let refused = |text: &str, kind| {
        assert!(try_to_target(text, kind, &HostRule::Preserve).is_err(), "{text:?}");
    };
    let get = "GET / HTTP/1.1\r\nHost: a\r\n";
    for text in [
        format!("{get}\r\n{get}\r\n"),
        format!("{get}\r\nx"),
        format!("{get}Content-Length: 5\r\n\r\n"),
        format!("{get}content-length: 0\r\n\r\n"),
        format!("{get}Transfer-Encoding: chunked\r\n\r\n"),
        format!("{get}X: y\r\n folded\r\n\r\n"),
        format!("{get}X: y\nContent-Length: 5\r\n\r\n"),
        format!("{get}X: y\rz\r\n\r\n"),
        format!("{get}Host: b\r\n\r\n"),
        "GET / HTTP/1.1\r\n\r\n".into(),
        "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n".into(),
        get.into(),
        String::new(),
    ] {
        refused(&text, BodyKind::None);
        refused(&text, BodyKind::Unknown);
    }
    refused(&format!("{get}\r\n"), BodyKind::Upgrade);
    refused(&format!("{get}Upgrade: h2c\r\n\r\n"), BodyKind::Upgrade);
    let text = format!("{get}Connection: Upgrade\r\nUpgrade: websocket\r\nKeep-Alive: x\r\n\r\n");
    let (out, _) = try_to_target(&text, BodyKind::None, &HostRule::Preserve).unwrap();
    assert_eq!(out, format!("{get}X-Original-Host: a\r\n\r\n"));
}

#[test]
fn host_is_what_the_rule_says_and_the_target_never_decides_where_to_dial() {
    let fixed = HostRule::Fixed("fixed:1".into());
    for (asked, preserved, visitor) in [
        (&["GET /x HTTP/1.1", "Host: a"][..], "a", Some("a")),
        (&["GET http://b/x HTTP/1.1", "Host: a"], "b", Some("b")),
        (&["GET /x HTTP/1.0"], TARGET, None),
    ] {
        for (rule, host) in [
            (&HostRule::Preserve, preserved),
            (&HostRule::Rewrite, TARGET),
            (&HostRule::RewriteAll, TARGET),
            (&fixed, "fixed:1"),
        ] {
            let (out, _) = to_target(asked, BodyKind::None, rule);
            let original =
                visitor.map(|visitor| format!("X-Original-Host: {visitor}\r\n")).unwrap_or_default();
            assert_eq!(out, format!("GET /x HTTP/1.1\r\nHost: {host}\r\n{original}\r\n"));
        }
    }
}

/// The lines of a request as the app gets it, which a visitor of `host` sent with these fields.
fn at_app(host: &str, fields: &[&str], https: bool, rule: &HostRule) -> Vec<String> {
    let host = format!("Host: {host}");
    let asked = [&["POST /x HTTP/1.1", host.as_str()], fields].concat();
    let request = try_to_link(&asked, &Arrival { https, ..arrival() }).unwrap();
    let text = String::from_utf8(request.text).unwrap();
    lines(try_to_target(&text, request.kind, rule).unwrap().0.as_bytes())
}

#[test]
fn with_rewrite_the_page_that_asks_is_the_targets_if_it_was_the_visitors() {
    let source = |host: &str, field: &str| {
        let asked = ["GET / HTTP/1.1", &format!("Host: {host}"), field];
        lines(to_target(&asked, BodyKind::None, &HostRule::Rewrite).0.as_bytes()).swap_remove(2)
    };
    let ours = "Origin: http://localhost:3000";
    assert_eq!(source("a.example", "Origin: https://a.example"), ours);
    assert_eq!(source("a.example:443", "Origin: https://A.example"), ours);
    assert_eq!(source("a.example", "Origin: http://a.example:80"), ours);
    assert_eq!(source("a:81", "Referer: http://a:81/b?c"), "Referer: http://localhost:3000/b?c");
    for foreign in [
        "Origin: https://evil.example",
        "Origin: https://a.example.evil.example",
        "Origin: https://a.example:444",
        "Origin: null",
        "Referer: https://evil.example/https://a.example/",
        "Referer: https://a.example@evil.example/",
    ] {
        assert_eq!(source("a.example", foreign), foreign);
    }
}

#[test]
fn a_request_whose_origin_was_translated_says_the_targets_name_and_scheme_throughout() {
    let fields = ["Origin: https://shop.example", "Referer: https://shop.example/cart"];
    for rule in [HostRule::Rewrite, HostRule::RewriteAll] {
        assert_eq!(
            at_app("shop.example", &fields, true, &rule),
            [
                "POST /x HTTP/1.1",
                "Host: localhost:3000",
                "Origin: http://localhost:3000",
                "Referer: http://localhost:3000/cart",
                "X-Forwarded-For: 192.0.2.7",
                "X-Forwarded-Proto: http",
                "Forwarded: for=192.0.2.7;proto=http",
                "Via: 1.1 gesher-1a2b",
                "X-Original-Host: shop.example",
            ]
        );
    }
}

#[test]
fn a_request_that_names_a_resource_of_the_app_says_the_targets_name_throughout() {
    for (field, translated) in [
        ("Destination: http://shop.example/b.txt", "Destination: http://localhost:3000/b.txt"),
        (
            "If: <http://shop.example/a> (<urn:uuid:1>) </b> ([\"http://shop.example\"])",
            "If: <http://localhost:3000/a> (<urn:uuid:1>) </b> ([\"http://shop.example\"])",
        ),
    ] {
        let sent = at_app("shop.example", &[field], false, &HostRule::Rewrite);
        assert!(sent.iter().any(|line| line == translated), "{sent:?}");
        assert!(!sent.iter().any(|line| line.starts_with("X-Forwarded-Host")), "{sent:?}");
        assert!(sent.iter().any(|line| line == "Forwarded: for=192.0.2.7;proto=http"), "{sent:?}");
    }
}

#[test]
fn a_request_that_nothing_was_translated_of_keeps_the_visitors_name_and_scheme() {
    for fields in [
        &[][..],
        &["Referer: https://shop.example/"],
        &["Origin: null"],
        &["Origin: https://other.example"],
        &["Origin: https://shop.example.evil"],
        &["Destination: /b.txt"],
        &["If: (<urn:uuid:1>)"],
    ] {
        let sent = at_app("shop.example", fields, true, &HostRule::Rewrite);
        for line in [
            "Host: localhost:3000",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: shop.example",
            "Forwarded: for=192.0.2.7;host=\"shop.example\";proto=https",
            "X-Original-Host: shop.example",
        ] {
            assert!(sent.iter().any(|sent| sent == line), "{line} for {fields:?}: {sent:?}");
        }
    }
}

#[test]
fn with_rewrite_all_no_request_says_the_visitors_name_but_as_the_original_one() {
    let sent = at_app("shop.example", &[], true, &HostRule::RewriteAll);
    assert!(sent.iter().any(|line| line == "X-Forwarded-Proto: https"), "{sent:?}");
    assert!(sent.iter().any(|line| line == "Forwarded: for=192.0.2.7;proto=https"), "{sent:?}");
    let visitors: Vec<_> = sent.iter().filter(|line| line.contains("shop.example")).collect();
    assert_eq!(visitors, ["X-Original-Host: shop.example"]);
}

#[test]
fn with_preserve_and_with_a_value_nothing_is_translated() {
    let fields = [
        "Origin: https://shop.example",
        "Referer: https://shop.example/",
        "Destination: https://shop.example/",
        "If: <https://shop.example/> (<urn:x>)",
    ];
    for (rule, host) in
        [(HostRule::Preserve, "Host: shop.example"), (HostRule::Fixed("fixed:1".into()), "Host: fixed:1")]
    {
        let sent = at_app("shop.example", &fields, true, &rule);
        let ours = [
            "X-Forwarded-For: 192.0.2.7",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: shop.example",
            "Forwarded: for=192.0.2.7;host=\"shop.example\";proto=https",
            "Via: 1.1 gesher-1a2b",
            "X-Original-Host: shop.example",
        ];
        assert_eq!(sent, [&["POST /x HTTP/1.1", host], &fields[..], &ours].concat());
    }
}

#[test]
fn whatever_a_hostile_gateway_says_of_names_the_app_hears_one_original_and_no_contradiction() {
    let asked = [
        "POST / HTTP/1.1",
        "Host: inner",
        "X-Original-Host: evil",
        "X_Original_Host: evil",
        "X-Forwarded-Host: a b",
        "X-Forwarded-Host: shop.example, evil",
        "X-Forwarded-Port: 8443",
        "X-Forwarded-Ssl: on",
        "X-Forwarded-Scheme: https",
        "X-Forwarded-Proto: https",
        "Forwarded: host=evil, for=x;host=evil;proto=https",
        "X-Forwarded-Host: evil",
        "Origin: http://shop.example",
    ];
    assert_eq!(
        lines(to_target(&asked, BodyKind::None, &HostRule::Rewrite).0.as_bytes()),
        [
            "POST / HTTP/1.1",
            "Host: localhost:3000",
            "X-Forwarded-Proto: http",
            "Forwarded: for=x;proto=http",
            "Origin: http://localhost:3000",
            "X-Original-Host: shop.example",
        ]
    );
}

#[test]
fn the_visitors_name_is_the_first_that_was_forwarded_or_the_host() {
    for (fields, visitor) in [
        (&["X-Forwarded-Host: shop.example, proxy"][..], "shop.example"),
        (&["X-Forwarded-Host: a b"], "inner"),
        (&["X-Original-Host: evil"], "inner"),
        (&[], "inner"),
    ] {
        let origin = format!("Origin: http://{visitor}");
        let asked = [&["GET / HTTP/1.1", "Host: inner", origin.as_str()], fields].concat();
        let sent = lines(to_target(&asked, BodyKind::None, &HostRule::Rewrite).0.as_bytes());
        assert!(sent.iter().any(|line| line == "Origin: http://localhost:3000"), "{sent:?}");
        assert_eq!(sent.last().unwrap(), &format!("X-Original-Host: {visitor}"));
    }
}

#[test]
fn no_field_in_disguise_reaches_an_app_from_a_visitor_or_a_gateway() {
    let disguised = [
        "Transfer_Encoding: chunked",
        "Content_Length: 5",
        "Content.Length: 5",
        "CONTENT_TYPE: text/plain",
        "Proxy_Authorization: x",
        "Keep_Alive: x",
        "X_Forwarded-Host: evil",
        "Proxy: http://evil/",
    ];
    let asked = [&["POST / HTTP/1.1", "Host: a", "X_Api_Key: kept"], &disguised[..]].concat();
    let kept = ["POST / HTTP/1.1", "Host: a", "X_Api_Key: kept"];
    assert_eq!(linked(&asked), kept);
    let (out, _) = to_target(&asked, BodyKind::None, &HostRule::Preserve);
    assert_eq!(lines(out.as_bytes()), [&kept[..], &["X-Original-Host: a"]].concat());
}

#[test]
fn max_forwards_counts_down_for_options_alone() {
    let forwarded = |method: &str, value: &str| {
        let field = format!("Max-Forwards: {value}");
        let request = to_link(&[&format!("{method} / HTTP/1.1"), "Host: a", &field]);
        let text = String::from_utf8(request.text).unwrap();
        let sent = text.split("\r\n").find_map(|line| line.strip_prefix("Max-Forwards: ")).map(str::to_owned);
        (sent.unwrap(), request.ends_here)
    };
    assert_eq!(forwarded("OPTIONS", "10"), ("9".into(), false));
    assert_eq!(forwarded("OPTIONS", "1"), ("0".into(), false));
    assert!(forwarded("OPTIONS", "0").1 && forwarded("OPTIONS", "000").1);
    assert_eq!(forwarded("OPTIONS", "99999999999999999999"), ("4294967294".into(), false));
    for odd in ["", "-1", "1, 2", "x"] {
        assert_eq!(forwarded("OPTIONS", odd), (odd.into(), false));
    }
    for method in ["GET", "POST", "options"] {
        assert_eq!(forwarded(method, "0"), ("0".into(), false));
    }
}

#[test]
fn the_target_facts_say_what_may_be_sent_twice() {
    for (method, idempotent) in
        [("GET", true), ("PUT", true), ("DELETE", true), ("POST", false), ("PATCH", false), ("get", false)]
    {
        let facts = facts_of(&[&format!("{method} / HTTP/1.1"), "Host: a"], &HostRule::Preserve);
        assert_eq!((facts.idempotent, facts.head), (idempotent, false), "{method}");
    }
    assert!(facts_of(HEAD, &HostRule::Preserve).head);
    let asked = ["POST / HTTP/1.1", "Host: a", "Expect: 100-continue"];
    assert!(to_target(&asked, BodyKind::Unknown, &HostRule::Preserve).1.facts.expects_continue);
}

// ---- A response into the link --------------------------------------------------------------------------------------

#[test]
fn a_response_is_carried_in_order_without_what_is_of_one_hop() {
    let response = from_app(&[
        "HTTP/1.0 299 Quite \u{e9}",
        "set-cookie: a=1; Domain=localhost",
        "Connection: X-Mine, keep-alive",
        "Set-Cookie: b=2",
        "X-Mine: 1",
        "Keep-Alive: max=5, Timeout=5",
        "Upgrade: h2c",
        "Location: http://localhost:3000/",
        "Content-Length: 7",
    ]);
    let expected = [
        "HTTP/1.1 299 Quite \u{e9}",
        "set-cookie: a=1; Domain=localhost",
        "Set-Cookie: b=2",
        "Location: http://localhost:3000/",
    ];
    assert_eq!(lines(&response.text), expected);
    assert_eq!(
        (response.kind, response.framing, response.status),
        (BodyKind::Sized(7), Framing::Sized(7), 299)
    );
    assert_eq!((response.keep_alive, response.idle_max), (true, Some(Duration::from_secs(4))));
}

#[test]
fn the_apps_connection_serves_again_only_if_its_response_has_an_end() {
    let keep_alive = |answered: &[&str]| from_app(answered).keep_alive;
    assert!(keep_alive(&["HTTP/1.1 200 OK", "Content-Length: 0"]));
    assert!(keep_alive(&["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"]));
    assert!(keep_alive(&["HTTP/1.1 304 Not Modified"]));
    assert!(!keep_alive(&["HTTP/1.1 200 OK"]));
    assert!(!keep_alive(&["HTTP/1.1 200 OK", "Content-Length: 0", "Connection: CLOSE"]));
    assert!(!keep_alive(&["HTTP/1.0 200 OK", "Content-Length: 0"]));
    assert_eq!(from_app(&["HTTP/1.1 200 OK"]).kind, BodyKind::Unknown);
    for (value, secs) in [("timeout=0", Some(0)), ("timeout=99999999999999999999", None), ("max=5", None)] {
        let response = from_app(&["HTTP/1.1 204 No Content", &format!("Keep-Alive: {value}")]);
        assert_eq!(response.idle_max, secs.map(Duration::from_secs), "{value}");
    }
}

#[test]
fn only_responses_to_head_and_304_keep_their_length_as_a_field() {
    let kept = |asked: &[&str], status: &str| {
        let facts = facts_of(asked, &HostRule::Preserve);
        let response = try_from_app(&[&format!("HTTP/1.1 {status} x"), "Content-Length: 7"], &facts).unwrap();
        (response.kind, String::from_utf8(response.text).unwrap().contains("Content-Length: 7\r\n"))
    };
    assert_eq!(kept(HEAD, "200"), (BodyKind::None, true));
    assert_eq!(kept(GET, "304"), (BodyKind::None, true));
    assert_eq!(kept(GET, "200"), (BodyKind::Sized(7), false));
    for status in ["204", "103"] {
        assert_eq!(kept(GET, status), (BodyKind::None, false));
        assert_eq!(kept(HEAD, status), (BodyKind::None, false));
    }
    let facts = facts_of(HEAD, &HostRule::Preserve);
    for lengths in [&["Content-Length: 7", "Content-Length: 7"][..], &["Content-Length: -1"]] {
        let answered = [&["HTTP/1.1 200 OK"], lengths].concat();
        assert_eq!(try_from_app(&answered, &facts).err(), Some(Violation::ContentLength));
    }
}

#[test]
fn a_101_counts_only_if_it_was_asked_for() {
    let facts = facts_of(&["GET / HTTP/1.1", "Host: a", "Upgrade: a/1, websocket"], &HostRule::Preserve);
    let answered = |upgrade: &str| {
        let answered = ["HTTP/1.1 101 x", "Connection: Upgrade", "X: y", upgrade];
        try_from_app(&answered, &facts)
    };
    let response = answered("Upgrade: WebSocket").unwrap();
    assert_eq!((response.kind, response.framing), (BodyKind::Upgrade, Framing::UntilClose));
    assert_eq!(lines(&response.text), ["HTTP/1.1 101 x", "X: y", "Upgrade: WebSocket"]);
    assert!(!response.keep_alive);
    for upgrade in ["Upgrade: b", "Upgrade: websocket, b", "Upgrade: ", "X: websocket"] {
        assert_eq!(answered(upgrade).err(), Some(Violation::UnaskedUpgrade), "{upgrade}");
    }
    let unasked = facts_of(GET, &HostRule::Preserve);
    let answered = try_from_app(&["HTTP/1.1 101 x", "Upgrade: websocket"], &unasked);
    assert_eq!(answered.err(), Some(Violation::UnaskedUpgrade));
}

#[test]
fn a_final_response_may_say_which_protocols_it_takes() {
    let to_visitor = |status: &str, upgrade: &str, asked: &[&str], close| {
        let facts = facts_of(GET, &HostRule::Preserve);
        let upgrade = format!("Upgrade: {upgrade}");
        let answered = [status, "Connection: upgrade", upgrade.as_str(), "Content-Length: 0"];
        let response = try_from_app(&answered, &facts).unwrap();
        let text = String::from_utf8(response.text).unwrap();
        try_to_visitor(&text, response.kind, asked, close).unwrap().0
    };
    let (required, ok) = ("HTTP/1.1 426 x", "HTTP/1.1 200 x");
    for (status, upgrade, said) in [
        (required, "websocket", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        (required, "TLS/1.2, HTTP/2.0", "Connection: Upgrade\r\nUpgrade: TLS/1.2, HTTP/2.0\r\n"),
        (ok, "h2c, foo/1, h2", "Connection: Upgrade\r\nUpgrade: foo/1\r\n"),
        (ok, "h2,h2c", ""),
        (required, "a b", ""),
    ] {
        let out = to_visitor(status, upgrade, GET, false);
        assert_eq!(out, format!("{status}\r\n{DATE}Content-Length: 0\r\n{said}\r\n"), "{upgrade}");
    }
    let closing = to_visitor(required, "websocket", GET, true);
    assert!(closing.ends_with("Connection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"), "{closing}");
    let old = to_visitor(required, "websocket", OLD, false);
    assert!(old.ends_with("\r\nConnection: close\r\n\r\n") && !old.contains("Upgrade"), "{old}");
}

#[test]
fn with_rewrite_the_app_is_called_what_the_visitor_calls_it() {
    let asked = ["GET / HTTP/1.1", "Host: inner", "X-Forwarded-Host: a.example", "X-Forwarded-Proto: https"];
    let facts = facts_of(&asked, &HostRule::RewriteAll);
    let answered = |field: &str| {
        let response = try_from_app(&["HTTP/1.1 302 Found", field], &facts).unwrap();
        lines(&response.text).pop().unwrap()
    };
    for name in ["Location", "Content-Location", "Access-Control-Allow-Origin"] {
        let translated = answered(&format!("{name}: HTTP://LOCALHOST:3000"));
        assert_eq!(translated, format!("{name}: https://a.example"));
    }
    assert_eq!(answered("Location: http://localhost:3000/a?b#c"), "Location: https://a.example/a?b#c");
    assert_eq!(answered("Location: https://localhost:3000/a"), "Location: https://a.example/a");
    assert_eq!(answered("Location: //localhost:3000/x"), "Location: //a.example/x");
    assert_eq!(answered("Refresh: 0; url=http://localhost:3000/n"), "Refresh: 0; url=https://a.example/n");
    assert_eq!(
        answered("Link: <http://localhost:3000/a>; rel=x; title=\"<http://localhost:3000/>\", </b>"),
        "Link: <https://a.example/a>; rel=x; title=\"<http://localhost:3000/>\", </b>"
    );
    assert_eq!(answered("Alt-Svc: h3=\":3000\""), "HTTP/1.1 302 Found");
    assert_eq!(answered("Set-Cookie: a=b; domain = .LocalHost ; Path=/"), "Set-Cookie: a=b; Path=/");
    for other in [
        "Location: http://localhost/",
        "Location: https://localhost:30001/",
        "Location: http://localhost:3000.evil.example/",
        "Location: //localhost:3000.evil.example/",
        "Location: /a",
        "Access-Control-Allow-Origin: *",
        "Link: <http://localhost:30001/>",
        "Refresh: 0; url=http://localhost:3000@evil.example/",
        "Set-Cookie: domain=localhost; Domain=a.localhost;;Path=/",
    ] {
        assert_eq!(answered(other), other);
    }
}

#[test]
fn without_a_name_from_the_visitor_nothing_is_translated_back() {
    let facts = facts_of(&["GET / HTTP/1.0"], &HostRule::Rewrite);
    let answered = ["HTTP/1.1 302 Found", "Location: http://localhost:3000/"];
    assert_eq!(lines(&try_from_app(&answered, &facts).unwrap().text), answered);
}

// ---- A response to the visitor -------------------------------------------------------------------------------------

#[test]
fn a_response_is_framed_for_the_visitors_version() {
    let ok = "HTTP/1.1 200 OK\r\nX: y\r\n";
    for (asked, kind, ours, framing, keep_alive) in [
        (GET, BodyKind::Sized(5), "Content-Length: 5\r\n", Framing::Sized(5), true),
        (GET, BodyKind::Sized(0), "Content-Length: 0\r\n", Framing::Sized(0), true),
        (GET, BodyKind::None, "Content-Length: 0\r\n", Framing::Sized(0), true),
        (GET, BodyKind::Unknown, "Transfer-Encoding: chunked\r\n", Framing::Chunked, true),
        (HEAD, BodyKind::None, "", Framing::Empty, true),
        (OLD, BodyKind::Sized(5), "Content-Length: 5\r\nConnection: close\r\n", Framing::Sized(5), false),
        (OLD, BodyKind::Unknown, "Connection: close\r\n", Framing::UntilClose, false),
    ] {
        let (out, response) = try_to_visitor(&format!("{ok}\r\n"), kind, asked, false).unwrap();
        assert_eq!(out, format!("{ok}{DATE}{ours}\r\n"));
        assert_eq!(response, VisitorResponse { status: 200, framing, keep_alive, logs_in: false });
    }
}

#[test]
fn the_apps_own_date_is_kept() {
    let text = "HTTP/1.1 204 No Content\r\ndate: Mon, 07 Nov 1994 08:49:37 GMT\r\n\r\n";
    assert_eq!(try_to_visitor(text, BodyKind::None, GET, false).unwrap().0, text);
}

#[test]
fn a_connection_that_ends_says_so_with_the_final_head() {
    let text = "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n";
    let (out, response) = try_to_visitor(text, BodyKind::None, GET, true).unwrap();
    let expected =
        format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n{DATE}Connection: close\r\n\r\n");
    assert_eq!((out, response.keep_alive), (expected, false));
    let (out, response) = try_to_visitor("HTTP/1.1 100 \r\n\r\n", BodyKind::None, GET, true).unwrap();
    assert_eq!((out.as_str(), response.framing), ("HTTP/1.1 100 \r\n\r\n", Framing::Empty));
}

#[test]
fn an_old_visitor_sees_no_interim_response() {
    let text = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let (out, response) = try_to_visitor(text, BodyKind::None, OLD, false).unwrap();
    assert_eq!((out.as_str(), response.status, response.framing), ("", 103, Framing::Empty));
    assert_eq!(try_to_visitor(text, BodyKind::None, GET, false).unwrap().0, text);
}

#[test]
fn an_upgrade_reaches_only_a_visitor_that_offered_it() {
    let text = "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nX: y\r\n\r\n";
    let (out, response) = try_to_visitor(text, BodyKind::Upgrade, WEBSOCKET, true).unwrap();
    assert_eq!(out, "HTTP/1.1 101 x\r\nX: y\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let expected =
        VisitorResponse { status: 101, framing: Framing::UntilClose, keep_alive: false, logs_in: false };
    assert_eq!(response, expected);
    let other = text.replace("websocket", "other");
    let ok = text.replace("101", "200");
    for (text, kind, asked) in [
        (text, BodyKind::Upgrade, GET),
        (text, BodyKind::None, WEBSOCKET),
        (&other, BodyKind::Upgrade, WEBSOCKET),
        (&ok, BodyKind::Upgrade, WEBSOCKET),
    ] {
        assert_eq!(try_to_visitor(text, kind, asked, false).err(), Some(Violation::UnaskedUpgrade));
    }
}

#[test]
fn a_hostile_connector_cannot_split_a_response() {
    let ok = "HTTP/1.1 200 OK\r\n";
    for text in [
        format!("{ok}\r\n{ok}\r\n"),
        format!("{ok}\r\n<html>"),
        format!("{ok}Content-Length: 5\r\n\r\n"),
        format!("{ok}Transfer-Encoding: chunked\r\n\r\n"),
        format!("{ok}X: y\nSet-Cookie: a=b\r\n\r\n"),
        format!("{ok}X: y\rz\r\n\r\n"),
        format!("{ok} folded: y\r\n\r\n"),
        "HTTP/1.1 99 x\r\n\r\n".into(),
        "HTTP/1.1 200 a\rb\r\n\r\n".into(),
        "HTTP/2.0 200 OK\r\n\r\n".into(),
        ok.into(),
        String::new(),
    ] {
        for kind in [BodyKind::None, BodyKind::Sized(5), BodyKind::Unknown] {
            assert!(try_to_visitor(&text, kind, GET, false).is_err(), "{text:?}");
        }
    }
    let text = format!("{ok}Connection: X\r\nKeep-Alive: timeout=9\r\nUpgrade: h2c\r\nX: y\r\n\r\n");
    let (out, _) = try_to_visitor(&text, BodyKind::Sized(5), GET, false).unwrap();
    assert_eq!(out, format!("{ok}X: y\r\n{DATE}Content-Length: 5\r\n\r\n"));
}

#[test]
fn a_body_where_there_can_be_none_is_refused() {
    for (asked, status) in [(HEAD, 200), (GET, 204), (GET, 304), (GET, 103)] {
        let text = format!("HTTP/1.1 {status} x\r\n\r\n");
        for kind in [BodyKind::Sized(0), BodyKind::Sized(5), BodyKind::Unknown] {
            let refused = try_to_visitor(&text, kind, asked, false);
            assert_eq!(refused.err(), Some(Violation::ContentLength), "{status}");
        }
        assert!(try_to_visitor(&text, BodyKind::None, asked, false).is_ok());
    }
    let text = "HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(try_to_visitor(text, BodyKind::None, HEAD, false).err(), Some(Violation::ContentLength));
}

// ---- Whatever comes ------------------------------------------------------------------------------------------------

const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "transfer-encoding",
    "content-length",
    "http2-settings",
    "te",
    "upgrade",
];

/// Field lines of which most mean something to an intermediary.
fn fields() -> impl Strategy<Value = Vec<String>> {
    let known = vec![
        "Connection: close",
        "Connection: Upgrade, X-Hop",
        "connection: te, x-forwarded-for, Host,, content-length",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: x",
        "Proxy-Authorization: x",
        "HTTP2-Settings: x",
        "TE: trailers, gzip",
        "Upgrade: h2c, websocket",
        "Upgrade: HTTP/2.0",
        "Content-Length: 0",
        "Content-Length: 12",
        "Transfer-Encoding: chunked",
        "transfer_encoding: chunked",
        "Expect: 100-continue",
        "X-Hop: 1",
        "X-Forwarded-For: 127.0.0.1",
        "X_Forwarded_For: 127.0.0.1",
        "X-Forwarded-Host: b",
        "X-Forwarded-Proto: https",
        "Forwarded: for=x",
        "Via: 1.1 gesher-1a2b",
        "Origin: http://a.example",
        "Destination: http://a.example/b",
        "If: <http://a.example/b> (<urn:x>)",
        "X-Original-Host: a.example",
        "Refresh: 0; url=http://localhost:3000/x",
        "Link: <http://localhost:3000/x>; a=\"<\"",
        "Alt-Svc: clear",
        "Location: http://localhost:3000/x",
        "Set-Cookie: a=b; Domain=localhost",
        "Host: b",
        "Date: x",
    ];
    let known = subsequence(known, 0..10)
        .prop_shuffle()
        .prop_map(|lines| lines.into_iter().map(str::to_owned).collect::<Vec<_>>());
    let others = proptest::collection::vec("[A-Za-z_-]{1,12}:[ \t]?[ -~\u{e9}]{0,20}", 0..4);
    (known, others).prop_map(|(known, others)| [known, others].concat())
}

fn requests() -> impl Strategy<Value = String> {
    let methods = select(vec!["GET", "HEAD", "POST", "OPTIONS", "x"]);
    let targets = select(vec!["/", "/a?b", "*", "http://b", "https://b:1?x", "http://b/c", "//b/c"]);
    let versions = select(vec!["1.0", "1.1"]);
    let hosts = select(vec!["Host: a.example", "Host: a.example:80", "Host: ", "X: y"]);
    (methods, targets, versions, hosts, fields()).prop_map(|(method, target, version, host, fields)| {
        format!("{method} {target} HTTP/{version}\r\n{host}\r\n{}\r\n", head_of(&fields))
    })
}

fn responses() -> impl Strategy<Value = String> {
    let statuses = select(vec![100, 101, 103, 200, 204, 302, 304, 426, 599]);
    (statuses, select(vec!["1.0", "1.1"]), fields()).prop_map(|(status, version, fields)| {
        format!("HTTP/{version} {status} x\r\n{}\r\n", head_of(&fields))
    })
}

fn head_of(fields: &[String]) -> String {
    fields.iter().map(|line| format!("{line}\r\n")).collect()
}

fn kinds() -> impl Strategy<Value = BodyKind> {
    prop_oneof![
        Just(BodyKind::None),
        Just(BodyKind::Unknown),
        Just(BodyKind::Upgrade),
        Just(BodyKind::UpgradeChunked),
        any::<u32>().prop_map(|bytes| BodyKind::Sized(bytes.into())),
        any::<u32>().prop_map(|bytes| BodyKind::UpgradeSized(bytes.into())),
    ]
}

fn rules() -> impl Strategy<Value = HostRule> {
    select(vec![HostRule::Preserve, HostRule::Rewrite, HostRule::RewriteAll, HostRule::Fixed("fixed".into())])
}

/// What reached the app is one request, framed as we said.
fn check_target(out: &[u8], request: &TargetRequest, kind: BodyKind) {
    let sent = parse_request(out).expect("the app gets what we would accept");
    assert_eq!(sent.version, Version::Http11);
    assert_eq!(request_framing(&sent), Ok(request.framing));
    assert_eq!(sent.get("upgrade").is_some(), kind.is_upgrade());
    assert_eq!(out.windows(4).position(|w| w == b"\r\n\r\n"), Some(out.len() - 4));
}

/// What reached the visitor is one response, framed as we said.
fn check_visitor(out: &[u8], response: &VisitorResponse, asked: &RequestFacts) {
    if out.is_empty() {
        assert!(response.status < 200 && asked.version == Version::Http10);
        return;
    }
    let sent = parse_response(out).expect("the visitor gets what we would accept");
    let seen = response_framing(&sent, if asked.head { b"HEAD" } else { b"GET" }).unwrap();
    let expected = if response.status == 101 { Framing::Empty } else { response.framing };
    assert_eq!((seen, sent.status), (expected, response.status));
    let names_protocols = sent.get("upgrade").is_some();
    assert!(sent.status >= 200 || names_protocols == (response.status == 101));
    assert_eq!(names_protocols, list_has(&sent.fields, "connection", "upgrade"));
    assert!(sent.status < 200 || sent.get("date").is_some());
    assert_eq!(out.windows(4).position(|w| w == b"\r\n\r\n"), Some(out.len() - 4));
}

proptest! {
    // Most heads break a rule before they come to what is checked here.
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_a_visitor_may_send_passes_both_hops_and_nothing_of_a_hop_survives(
        asked in requests(), trusted: bool, rule in rules(),
    ) {
        let Ok(head) = parse_request(asked.as_bytes()) else { return Ok(()) };
        let Ok(request) = request_to_link(&head, &Arrival { trusted, ..arrival() }) else { return Ok(()) };
        let linked = parse_request(&request.text).expect("the link carries what we would accept");
        for field in &linked.fields {
            let name = String::from_utf8(field.name.to_ascii_lowercase()).unwrap();
            let ours = match name.as_str() {
                "te" => request.facts.te_trailers && field.value == b"trailers",
                "upgrade" => request.kind.is_upgrade() && field.value == request.facts.upgrade,
                name => !HOP_BY_HOP.contains(&name),
            };
            prop_assert!(ours, "{name} survived");
            prop_assert!(!name.contains("x_forwarded"));
        }
        for name in ["x-forwarded-for", "forwarded"] {
            prop_assert_eq!(linked.all(name).count(), 1);
        }
        let mut out = Vec::new();
        let sent = request_to_target(&request.text, request.kind, &rule, TARGET, &mut out);
        check_target(&out, &sent.expect("the connector takes what the gateway makes"), request.kind);
        let sent = parse_request(&out).unwrap();
        prop_assert!(sent.all("x-original-host").count() <= 1);
        let is_targets = ["origin", "destination"].iter().any(|name| {
            sent.get(name).is_some_and(|value| value.starts_with(b"http://localhost:3000"))
        });
        prop_assert!(!is_targets || sent.get("x-forwarded-host").is_none(), "one name");
        prop_assert!(rule != HostRule::RewriteAll || sent.get("x-forwarded-host").is_none());
    }

    #[test]
    fn whatever_a_gateway_sends_the_app_gets_one_request(
        text in requests(), more in "(|x|GET / HTTP/1.1\r\nHost: a\r\n\r\n)", kind in kinds(), rule in rules(),
    ) {
        let mut out = Vec::new();
        let sent = request_to_target((text + &more).as_bytes(), kind, &rule, TARGET, &mut out);
        match sent {
            Ok(request) => check_target(&out, &request, kind),
            Err(_) => prop_assert!(out.is_empty()),
        }
        prop_assert!(more.is_empty() || out.is_empty());
    }

    #[test]
    fn what_an_app_may_answer_passes_both_hops(
        asked in requests(), answered in responses(), rule in rules(), close: bool,
    ) {
        let Ok(head) = parse_request(asked.as_bytes()) else { return Ok(()) };
        let Ok(request) = request_to_link(&head, &arrival()) else { return Ok(()) };
        let sent = request_to_target(&request.text, request.kind, &rule, TARGET, &mut Vec::new()).unwrap();
        let Ok(head) = parse_response(answered.as_bytes()) else { return Ok(()) };
        let Ok(response) = response_to_link(&head, &sent.facts) else { return Ok(()) };
        let mut out = Vec::new();
        let done = response_to_visitor(&response.text, response.kind, &request.facts, close, NOW, &mut out);
        check_visitor(&out, &done.expect("the gateway takes what the connector makes"), &request.facts);
    }

    #[test]
    fn whatever_a_connector_sends_the_visitor_gets_one_response(
        asked in requests(), text in responses(), more in "(|x|HTTP/1.1 200 OK\r\n\r\n)", kind in kinds(),
    ) {
        let Ok(head) = parse_request(asked.as_bytes()) else { return Ok(()) };
        let Ok(request) = request_to_link(&head, &arrival()) else { return Ok(()) };
        let mut out = Vec::new();
        let text = text + &more;
        match response_to_visitor(text.as_bytes(), kind, &request.facts, false, NOW, &mut out) {
            Ok(response) => check_visitor(&out, &response, &request.facts),
            Err(_) => prop_assert!(out.is_empty()),
        }
        prop_assert!(more.is_empty() || out.is_empty());
    }
}
