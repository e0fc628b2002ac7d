//! Heads: every row of the tables in docs/http.md, and that neither how the bytes are cut nor a second parser makes a
//! difference.

use gesher_core::http1::Violation;
use gesher_core::http1::body::{Framing, request_framing, response_framing};
use gesher_core::http1::head::{
    Field, HeadKind, HeadScan, RequestHead, Target, Version, WholeHead, is_token, is_valid_authority,
    list_has, parse_request, parse_response,
};
use gesher_core::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, REQUEST_LINE_BYTES_MAX};
use proptest::prelude::*;
use proptest::sample::select;

/// What a request comes to: none if more input is needed.
fn judge_request(input: &[u8]) -> Result<Option<Framing>, Violation> {
    let Some(length) = HeadScan::default().find(input, HeadKind::Request)? else { return Ok(None) };
    request_framing(&parse_request(&input[..length])?).map(Some)
}

/// What a response of an app comes to.
fn judge_response(input: &[u8]) -> Result<Option<Framing>, Violation> {
    let Some(head) = HeadScan::default().take(input, HeadKind::AppResponse)? else { return Ok(None) };
    response_framing(&head.response()?, b"GET").map(Some)
}

/// Status, reason and fields of a whole response head of an app, each in a line, and whether it was taken only from one.
fn read_response(input: &str) -> Result<(String, bool), Violation> {
    let whole = WholeHead::scan(input.as_bytes(), HeadKind::AppResponse)?;
    let head = whole.response()?;
    let mut text = format!("{} {}\n", head.status, String::from_utf8_lossy(head.reason));
    for Field { name, value } in head.fields {
        text += &format!("{}: {}\n", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
    }
    Ok((text, whole.is_lax()))
}

/// A request with these fields after its Host.
fn with(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// A request for this target.
fn to(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn every_row_of_the_table_of_requests_is_answered_as_it_says() {
    use Violation as V;
    let head = |line: &str| format!("{line}\r\nHost: a\r\n\r\n");
    let rows: Vec<(String, u16, Violation)> = vec![
        // Transfer-Encoding that ends in chunked but has more.
        (with("Transfer-Encoding: gzip, chunked\r\n"), 501, V::TransferEncodingUnsupported),
        (
            with("Transfer-Encoding: gzip\r\nTransfer-Encoding: Chunked\r\n"),
            501,
            V::TransferEncodingUnsupported,
        ),
        (with("Transfer-Encoding: identity, chunked\r\n"), 501, V::TransferEncodingUnsupported),
        // … that says too little, or too much.
        (with("Transfer-Encoding: gzip\r\n"), 400, V::TransferEncoding),
        (with("Transfer-Encoding:\r\n"), 400, V::TransferEncoding),
        (with("Transfer-Encoding: identity\r\n"), 400, V::TransferEncoding),
        (with("Transfer-Encoding: chunked, gzip\r\n"), 400, V::TransferEncoding),
        (with("Transfer-Encoding: chunked, chunked\r\n"), 400, V::TransferEncoding),
        (with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400, V::TransferEncoding),
        (with("Transfer-Encoding: chunked;a=b\r\n"), 400, V::TransferEncoding),
        (with("Transfer-Encoding: gzip;a=b, chunked\r\n"), 400, V::TransferEncoding),
        (with("Transfer-Encoding: , chunked\r\n"), 400, V::TransferEncoding),
        (with("Transfer-Encoding: chunked,\r\n"), 400, V::TransferEncoding),
        (with("Transfer-Encoding: xchunked\r\n"), 400, V::TransferEncoding),
        (with("Transfer-Encoding: \"chunked\"\r\n"), 400, V::TransferEncoding),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(), 400, V::TransferEncoding),
        (with("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), 400, V::TwoFramings),
        (with("content-length: 1\r\ntransfer-encoding: gzip\r\n"), 400, V::TwoFramings),
        // Content-Length.
        (with("Content-Length: 1, 1\r\n"), 400, V::ContentLength),
        (with("Content-Length: 1\r\nContent-Length: 1\r\n"), 400, V::ContentLength),
        (with("Content-Length: +1\r\n"), 400, V::ContentLength),
        (with("Content-Length: -1\r\n"), 400, V::ContentLength),
        (with("Content-Length:\r\n"), 400, V::ContentLength),
        (with("Content-Length: 0x1\r\n"), 400, V::ContentLength),
        (with("Content-Length: 1 1\r\n"), 400, V::ContentLength),
        (with("Content-Length: 10000000000000000000\r\n"), 400, V::ContentLength),
        // Lines.
        ("GET / HTTP/1.1\nHost: a\r\n\r\n".into(), 400, V::BareLineEnd),
        ("GET / HTTP/1.1\rHost: a\r\n\r\n".into(), 400, V::BareLineEnd),
        (with("A: b\n"), 400, V::BareLineEnd),
        (with("A: b\rC: d\r\n"), 400, V::BareLineEnd),
        (with("A: b\r\r\n"), 400, V::BareLineEnd),
        (with("A: b\r\n\n"), 400, V::BareLineEnd),
        ("\n".into(), 400, V::BareLineEnd),
        (with("A: b\r\n c\r\n"), 400, V::ObsFold),
        (with("\tA: b\r\n"), 400, V::ObsFold),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n".into(), 400, V::ObsFold),
        (with("A : b\r\n"), 400, V::SpaceBeforeColon),
        (with("A\t: b\r\n"), 400, V::SpaceBeforeColon),
        (with("A b: c\r\n"), 400, V::SpaceBeforeColon),
        (with("A: b\0\r\n"), 400, V::FieldValue),
        (with("A: \x0B\r\n"), 400, V::FieldValue),
        (with("A: \x7F\r\n"), 400, V::FieldValue),
        (with(": b\r\n"), 400, V::FieldName),
        (with("A\r\n"), 400, V::FieldName),
        (with("A\0: b\r\n"), 400, V::FieldName),
        (with("(A): b\r\n"), 400, V::FieldName),
        (with("Ä: b\r\n"), 400, V::FieldName),
        (format!("\r\n\r\n{}", with("")), 400, V::LeadingBlankLines),
        // Host.
        ("GET / HTTP/1.1\r\n\r\n".into(), 400, V::NoHost),
        ("GET http://a/ HTTP/1.1\r\n\r\n".into(), 400, V::NoHost),
        (with("Host: a\r\n"), 400, V::TwoHosts),
        ("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n".into(), 400, V::TwoHosts),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n".into(), 400, V::InvalidHost),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), 400, V::InvalidHost),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), 400, V::InvalidHost),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".into(), 400, V::InvalidHost),
        ("GET / HTTP/1.0\r\nHost: a:b\r\n\r\n".into(), 400, V::InvalidHost),
        // Targets.
        (to("GET", "*"), 400, V::RequestTarget),
        (to("GET", "a"), 400, V::RequestTarget),
        (to("GET", "a:80"), 400, V::RequestTarget),
        (to("GET", "ftp://a/"), 400, V::RequestTarget),
        (to("GET", "http:///a"), 400, V::RequestTarget),
        (to("GET", "http://u@a/"), 400, V::RequestTarget),
        (to("GET", "http://u:p@a/"), 400, V::RequestTarget),
        (to("GET", "/a#b"), 400, V::RequestTarget),
        (to("GET", "/a b"), 400, V::RequestTarget),
        (to("GET", ""), 400, V::RequestTarget),
        (to("GET", "/\x7F"), 400, V::RequestTarget),
        (to("GET", "/\t"), 400, V::RequestTarget),
        (to("GET", "/ä"), 400, V::RequestTarget),
        // Methods.
        (to("G(T", "/"), 400, V::Method),
        (to("G\0T", "/"), 400, V::Method),
        (to("CONNECT", "a:443"), 405, V::MethodNotAllowed),
        (to("TRACE", "/"), 405, V::MethodNotAllowed),
        // Sizes.
        (to("GET", &format!("/{}", "a".repeat(REQUEST_LINE_BYTES_MAX))), 414, V::RequestLineTooLong),
        (with(&format!("A: {}\r\n", "b".repeat(HEAD_BYTES_MAX))), 431, V::HeadTooLarge),
        (with(&"A: b\r\n".repeat(HEAD_FIELDS_MAX)), 431, V::TooManyFields),
        // Versions.
        (head("GET / HTTP/2.0"), 505, V::Version),
        (head("GET / HTTP/3.1"), 505, V::Version),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505, V::Version),
        (head("GET /"), 400, V::NotHttp),
        (head("GET / HTTP/0.9"), 400, V::NotHttp),
        (head("GET / http/1.1"), 400, V::NotHttp),
        (head("GET / HTTP/1.10"), 400, V::NotHttp),
        (head("GET / HTTP/1.1 "), 400, V::NotHttp),
        ("SSH-2.0-OpenSSH_9.9\r\n".into(), 400, V::NotHttp),
        ("\x16\x03\x01".into(), 400, V::NotHttp),
        (" GET".into(), 400, V::NotHttp),
        ("\0".into(), 400, V::NotHttp),
        // Expect.
        (with("Expect: 100-continue, more\r\n"), 417, V::Expectation),
        (with("Expect: 200-ok\r\n"), 417, V::Expectation),
        (with("Expect:\r\n"), 417, V::Expectation),
    ];
    for (input, status, violation) in rows {
        let shown = &input[..input.floor_char_boundary(100)];
        assert_eq!(judge_request(input.as_bytes()), Err(violation), "{shown:?}");
        assert_eq!(violation.status(), status, "{shown:?}");
    }
}

#[test]
fn what_time_and_the_end_of_a_connection_break_has_its_status() {
    for (violation, status) in [
        (Violation::HeadTimedOut, 408),
        (Violation::BodyTimedOut, 408),
        (Violation::HeadIncomplete, 400),
        (Violation::BodyIncomplete, 400),
        (Violation::Loop, 508),
        (Violation::UnaskedUpgrade, 502),
    ] {
        assert_eq!(violation.status(), status, "{violation}");
    }
}

#[test]
fn requests_within_the_rules_are_taken() {
    let line = format!("/{}", "a".repeat(REQUEST_LINE_BYTES_MAX - "GET / HTTP/1.1".len()));
    let padding = HEAD_BYTES_MAX - with("A: \r\n").len();
    let rows: Vec<(String, Framing)> = vec![
        (to("GET", "/"), Framing::Empty),
        (to("GET", "//b/c?d=http://e/"), Framing::Empty),
        (to("M-SEARCH", "/~%20|<>\"{}"), Framing::Empty),
        (to("OPTIONS", "*"), Framing::Empty),
        (to("GET", "http://b"), Framing::Empty),
        (to("GET", "HTTPS://[::1]:8/a?b"), Framing::Empty),
        (to("GET", &line), Framing::Empty),
        (with(&format!("A: {}\r\n", "b".repeat(padding))), Framing::Empty),
        (with(&"A: b\r\n".repeat(HEAD_FIELDS_MAX - 1)), Framing::Empty),
        (format!("\r\n{}", with("")), Framing::Empty),
        ("GET / HTTP/1.0\r\n\r\n".into(), Framing::Empty),
        ("GET / HTTP/1.7\r\nHost: a\r\n\r\n".into(), Framing::Empty),
        (with("Expect: 100-Continue\r\n"), Framing::Empty),
        (with("A:\r\nB: \t \r\nC: \u{e4}\t\u{fc}\r\n"), Framing::Empty),
        (with("Content-Length: 0\r\n"), Framing::Sized(0)),
        (with("content-length: \t007 \r\n"), Framing::Sized(7)),
        (with("Content-Length: 9999999999999999999\r\n"), Framing::Sized(9_999_999_999_999_999_999)),
        ("POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\n".into(), Framing::Sized(3)),
        (with("Transfer-Encoding: chunked\r\n"), Framing::Chunked),
        (with("TRANSFER-ENCODING:\t cHUNKED \r\n"), Framing::Chunked),
    ];
    for (input, framing) in rows {
        let shown = &input[..input.floor_char_boundary(100)];
        assert_eq!(judge_request(input.as_bytes()), Ok(Some(framing)), "{shown:?}");
    }
}

#[test]
fn responses_are_judged_with_the_same_care() {
    use Violation as V;
    let ok = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    let rows: Vec<(String, Violation)> = vec![
        ("HTTQ".into(), V::StatusLine),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n".into(), V::StatusLine),
        ("ICY 200 OK\r\n\r\n".into(), V::StatusLine),
        ("HTTP/2.0 200 OK\r\n\r\n".into(), V::StatusLine),
        ("HTTP/1.1\r\n\r\n".into(), V::StatusLine),
        ("HTTP/1.1  200 OK\r\n\r\n".into(), V::StatusLine),
        ("HTTP/1.1 20 OK\r\n\r\n".into(), V::StatusLine),
        ("HTTP/1.1 2000 OK\r\n\r\n".into(), V::StatusLine),
        ("HTTP/1.1 +20 OK\r\n\r\n".into(), V::StatusLine),
        ("HTTP/1.1 200 O\0\r\n\r\n".into(), V::StatusLine),
        (format!("HTTP/1.1 200 {}", "a".repeat(REQUEST_LINE_BYTES_MAX)), V::StatusLine),
        ("HTTP/1.1 099 Low\r\n\r\n".into(), V::Status),
        ("HTTP/1.1 600 High\r\n\r\n".into(), V::Status),
        ("HTTP/1.1 200 OK\rA: b\r\n\r\n".into(), V::BareLineEnd),
        (ok("A: b\r\r\n"), V::BareLineEnd),
        (ok("A: b\rC: d\r\n"), V::BareLineEnd),
        (ok("A: b\r\n c\r\n"), V::ObsFold),
        (ok("A: b\n c\n"), V::ObsFold),
        (ok(" : b\r\n"), V::ObsFold),
        (ok("A b: c\r\n"), V::SpaceBeforeColon),
        (ok("A \r\n"), V::SpaceBeforeColon),
        (ok("A \n: b\r\n"), V::SpaceBeforeColon),
        (ok("Content-Length : 1\r\n"), V::SpaceBeforeColon),
        (ok("content-length\t: 1\n"), V::SpaceBeforeColon),
        (ok("Transfer-Encoding \t : chunked\r\n"), V::SpaceBeforeColon),
        (ok("A: \0\r\n"), V::FieldValue),
        (ok(": b\r\n"), V::FieldName),
        (ok("A\r\n"), V::FieldName),
        (ok(&"A: b\r\n".repeat(HEAD_FIELDS_MAX + 1)), V::TooManyFields),
        (ok(&format!("A: {}\r\n", "b".repeat(HEAD_BYTES_MAX))), V::HeadTooLarge),
        (ok("Content-Length: 1, 1\r\n"), V::ContentLength),
        (ok("Content-Length: 1\r\nContent-Length: 1\r\n"), V::ContentLength),
        (ok("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), V::TwoFramings),
        (ok("Transfer-Encoding: gzip\r\n"), V::TransferEncoding),
        (ok("Transfer-Encoding: gzip, chunked\r\n"), V::TransferEncodingUnsupported),
        (ok("Transfer-Encoding: identity, chunked\r\n"), V::TransferEncodingUnsupported),
        (ok("Transfer-Encoding: chunked, identity\r\n"), V::TransferEncoding),
        (ok("Transfer-Encoding: identity;q=1\r\n"), V::TransferEncoding),
        (ok("Transfer-Encoding: identity,\r\n"), V::TransferEncoding),
        (ok("Transfer-Encoding: identity\r\nContent-Length: 1\r\n"), V::TwoFramings),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into(), V::TransferEncoding),
        ("HTTP/1.1 304 OK\r\nContent-Length: x\r\n\r\n".into(), V::ContentLength),
    ];
    for (input, violation) in rows {
        let shown = &input[..input.floor_char_boundary(100)];
        assert_eq!(judge_response(input.as_bytes()), Err(violation), "{shown:?}");
    }
    for violation in [V::StatusLine, V::Status, V::UnaskedUpgrade] {
        assert_eq!(violation.status(), 502);
    }
}

#[test]
fn a_careless_app_is_read_as_it_meant_it_and_nobody_else_is() {
    let taken = [
        ("HTTP/1.0 200 OK\nA: b\nC:d \n\n", "200 OK\nA: b\nC: d\n"),
        // busybox httpd writes the first line, and a CGI program the others.
        ("HTTP/1.0 200 OK\r\nContent-Type: text/html\n\n", "200 OK\nContent-Type: text/html\n"),
        ("HTTP/1.1 200\nA: b\r\n\r\n", "200 \nA: b\n"),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\n", "200 OK\nA: b\n"),
        ("HTTP/1.1 200 OK\n\r\n", "200 OK\n"),
        ("HTTP/1.1 200 OK\r\nServer : x\r\nA\t \t: b: c\r\nD :\r\n\r\n", "200 OK\nServer: x\nA: b: c\nD: \n"),
        (
            "HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length-Of : 2\n\n",
            "200 OK\nContent-Length: 1\nContent-Length-Of: 2\n",
        ),
    ];
    for (input, read) in taken {
        assert_eq!(read_response(input), Ok((read.to_owned(), true)), "{input:?}");
        assert!(parse_response(input.as_bytes()).is_err(), "what crosses a link is strict: {input:?}");
        for end in 1..input.len() {
            let partly = HeadScan::default().find(&input.as_bytes()[..end], HeadKind::AppResponse);
            assert_eq!(partly, Ok(None), "{:?}", &input[..end]);
        }
    }
    let strict = "HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
    assert_eq!(read_response(strict), Ok(("200 OK\nA: b\n".to_owned(), false)));
}

#[test]
fn a_body_without_any_coding_lasts_until_the_app_closes() {
    for coding in ["identity", "Identity", "identity, identity", "identity\r\nTransfer-Encoding: identity"] {
        for version in ["1.0", "1.1"] {
            let head = format!("HTTP/{version} 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n");
            assert_eq!(judge_response(head.as_bytes()), Ok(Some(Framing::UntilClose)), "{head:?}");
            let head = parse_response(head.as_bytes()).unwrap();
            assert_eq!(response_framing(&head, b"HEAD"), Ok(Framing::Empty));
        }
    }
}

#[test]
fn an_empty_port_is_taken_off_a_host() {
    let host = |host: &str, target: &str| {
        let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let head = parse_request(text.as_bytes())?;
        let authority = head.origin().authority.or(head.get("host")).unwrap();
        Ok(String::from_utf8(authority.to_vec()).unwrap())
    };
    for (said, meant) in [
        ("shop.example:", "shop.example"),
        ("[::1]:", "[::1]"),
        ("127.0.0.1: ", "127.0.0.1"),
        ("a:80", "a:80"),
    ] {
        assert_eq!(host(said, "/"), Ok(meant.to_owned()));
        assert_eq!(host("other", &format!("http://{}/a", said.trim())), Ok(meant.to_owned()));
        assert_eq!(host("other", &format!("https://{}?a", said.trim())), Ok(meant.to_owned()));
    }
    for bad in [":", "a::", "a:80:", "[::1]::", "::1:", "u@a:", "a :"] {
        assert_eq!(host(bad, "/"), Err(Violation::InvalidHost), "{bad}");
        assert!(host("other", &format!("http://{bad}/")).is_err(), "{bad}");
    }
}

#[test]
fn a_response_says_its_status_and_reason() {
    let parse = |line: &str| {
        let text = format!("{line}\r\n\r\n");
        let head = parse_response(text.as_bytes()).unwrap();
        (head.version, head.status, String::from_utf8_lossy(head.reason).into_owned())
    };
    assert_eq!(parse("HTTP/1.1 200"), (Version::Http11, 200, "".into()));
    assert_eq!(parse("HTTP/1.1 100 "), (Version::Http11, 100, "".into()));
    assert_eq!(parse("HTTP/1.0 404 Not Found"), (Version::Http10, 404, "Not Found".into()));
    assert_eq!(parse("HTTP/1.9 599 \t ä "), (Version::Http11, 599, "\t ä ".into()));
}

#[test]
fn an_absolute_target_is_taken_apart_for_its_origin_form() {
    let origin = |method: &'static str, target: &'static str| {
        let (method, target) = (method.as_bytes(), target.as_bytes());
        RequestHead { method, target, version: Version::Http11, fields: Vec::new() }.origin()
    };
    let absolute = |authority: &'static str, path: &'static str| Target {
        authority: Some(authority.as_bytes()),
        path: path.as_bytes(),
    };
    assert_eq!(origin("GET", "http://a/b?c"), absolute("a", "/b?c"));
    assert_eq!(origin("GET", "hTTps://a:8?x/y"), absolute("a:8", "?x/y"));
    assert_eq!(origin("GET", "http://a"), absolute("a", "/"));
    assert_eq!(origin("OPTIONS", "http://a"), absolute("a", "*"));
    assert_eq!(origin("OPTIONS", "http://a/"), absolute("a", "/"));
    assert_eq!(origin("OPTIONS", "*"), Target { authority: None, path: b"*" });
    assert_eq!(origin("GET", "/http://a/"), Target { authority: None, path: b"/http://a/" });
}

#[test]
fn an_authority_is_a_host_and_perhaps_a_port() {
    for good in
        ["a", "a.b-c_d", "127.0.0.1", "a:0", "a:65535", "[::1]", "[::ffff:1.2.3.4]:80", "a%20b", "xn--a."]
    {
        assert!(is_valid_authority(good.as_bytes()), "{good}");
    }
    let bad = [
        "",
        ":80",
        "a:",
        "a:65536",
        "a:+80",
        "a:000080",
        "a:b",
        "a:80:80",
        "::1",
        "[::1",
        "::1]",
        "[::1]80",
        "[]",
        "[::1%25eth0]",
        "[v1.a]",
        "[a]",
        "[::1]]",
        "u@a",
        "a/",
        "a?",
        "a#",
        "a b",
        "a,b",
        "a\\b",
        "a%2",
        "a%zz",
        "ä",
        "a\0",
        "[[::1]]",
        "[::1]:",
    ];
    for bad in bad {
        assert!(!is_valid_authority(bad.as_bytes()), "{bad}");
    }
}

#[test]
fn fields_are_found_in_any_case_and_order_is_kept() {
    let text = with("Set: a\r\nCONNECTION: close , Upgrade\r\nset:  b \r\nconnection:x\r\n");
    let head = parse_request(text.as_bytes()).unwrap();
    assert_eq!(head.get("SET"), Some(&b"a"[..]));
    assert_eq!(head.all("set").collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(head.get("sets"), None);
    assert_eq!(head.fields[0], Field { name: b"Host", value: b"a" });
    for (token, held) in
        [("close", true), ("upgrade", true), ("X", true), ("up", false), ("close , Upgrade", false)]
    {
        assert_eq!(list_has(&head.fields, "Connection", token), held, "{token}");
    }
    assert!(is_token(b"a-b") && !is_token(b"") && !is_token(b"a b"));
}

#[test]
fn what_is_no_whole_head_or_more_than_one_is_not_parsed() {
    let text = with("");
    for input in [&text.as_bytes()[..text.len() - 1], [text.as_bytes(), b"x"].concat().as_slice(), b""] {
        assert_eq!(parse_request(input).unwrap_err(), Violation::HeadIncomplete);
    }
}

#[test]
fn the_limits_are_judged_before_more_is_buffered() {
    let refused_after = |start: &str, endless: &str| {
        let input = [start, &endless.repeat(2 * HEAD_BYTES_MAX / endless.len())].concat();
        let mut scan = HeadScan::default();
        (1..=input.len())
            .find(|&length| scan.find(&input.as_bytes()[..length], HeadKind::Request).is_err())
            .unwrap()
    };
    assert_eq!(refused_after("", "A"), REQUEST_LINE_BYTES_MAX + 1);
    let line = "GET / HTTP/1.1\r\n";
    assert_eq!(refused_after(line, "A"), HEAD_BYTES_MAX);
    assert_eq!(
        refused_after(line, "A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n"),
        line.len() + 34 * HEAD_FIELDS_MAX + 1
    );
}

/// Text near enough to heads that both sides of each rule are met.
fn near_heads() -> impl Strategy<Value = Vec<u8>> {
    let pieces: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"GET ",
        b"/a?b",
        b"http://a",
        b"*",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b" HTTP/2.0",
        b"\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b"Host: a",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"A",
        b": ",
        b":",
        b" ",
        b"\t",
        b"\xff",
        b"\0",
        b"#",
    ];
    let piece = prop_oneof![8 => select(pieces.to_vec()).prop_map(<[u8]>::to_vec), 1 => any::<u8>().prop_map(|b| vec![b])];
    let start = select(vec![&b""[..], b"GET / HTTP/1.1\r\nHost: a\r\n", b"HTTP/1.1 200 OK\r\n", b"\r\n"]);
    (start, prop::collection::vec(piece, 0..12))
        .prop_map(|(start, pieces)| [start.to_vec(), pieces.concat()].concat())
}

/// A whole head that mostly passes.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let field = ("[A-Za-z-]{1,8}", "[ \t]{0,2}", "[ -~\t]{0,12}", "[ \t]{0,2}");
    (
        select(vec!["GET", "POST", "OPTIONS", "a!"]),
        "(/[!-~]{0,9}|http://[a-z]{1,4}[?/]?|\\*)",
        0..3,
        prop::collection::vec(field, 0..8),
    )
        .prop_map(|(method, target, minor, fields)| {
            let lines = fields
                .iter()
                .map(|(name, before, value, after)| format!("{name}:{before}{value}{after}\r\n"));
            format!("{method} {target} HTTP/1.{minor}\r\nHost: a\r\n{}\r\n", lines.collect::<String>())
                .into_bytes()
        })
}

fn kinds() -> impl Strategy<Value = HeadKind> {
    select(vec![HeadKind::Request, HeadKind::Response, HeadKind::AppResponse])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_split_of_the_bytes_comes_to_the_same(
        input in near_heads(),
        kind in kinds(),
        steps in prop::collection::vec(1usize..9, 1..8),
    ) {
        let whole = HeadScan::default().find(&input, kind);
        for steps in [&[1][..], &steps] {
            let (mut scan, mut length, mut found) = (HeadScan::default(), 0, Ok(None));
            for step in steps.iter().cycle() {
                if found != Ok(None) || length == input.len() {
                    break;
                }
                length = (length + step).min(input.len());
                found = scan.find(&input[..length], kind);
                // Calling again with nothing new changes nothing.
                prop_assert_eq!(scan.find(&input[..length], kind), found);
            }
            prop_assert_eq!(found, whole);
        }
    }

    #[test]
    fn no_bytes_make_a_parser_panic(input in prop_oneof![near_heads(), prop::collection::vec(any::<u8>(), 0..300)]) {
        if let Ok(head) = parse_request(&input) {
            prop_assert!(is_token(head.method));
            _ = (head.origin(), request_framing(&head));
        }
        if let Ok(head) = parse_response(&input) {
            prop_assert!((100..=599).contains(&head.status));
            _ = response_framing(&head, b"GET");
        }
        _ = (is_valid_authority(&input), judge_request(&input), judge_response(&input));
    }

    #[test]
    fn httparse_reads_what_we_take_in_the_same_way(input in prop_oneof![4 => heads(), 1 => near_heads()]) {
        let length = HeadScan::default().find(&input, HeadKind::Request);
        if let Ok(Some(length)) = length && let Ok(head) = parse_request(&input[..length]) {
            let mut headers = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
            let mut other = httparse::Request::new(&mut headers);
            match other.parse(&input) {
                Ok(status) => prop_assert_eq!(status, httparse::Status::Complete(length)),
                // It knows no 1.2.
                Err(error) => {
                    prop_assert_eq!(error, httparse::Error::Version);
                    return Ok(());
                }
            }
            prop_assert_eq!(other.method.map(str::as_bytes), Some(head.method));
            prop_assert_eq!(other.path.map(str::as_bytes), Some(head.target));
            prop_assert_eq!(other.headers.len(), head.fields.len());
            for (theirs, ours) in other.headers.iter().zip(&head.fields) {
                let is_same = theirs.value == ours.value;
                let has_empty_port = ours.is("host") && theirs.value.strip_suffix(b":") == Some(ours.value);
                prop_assert!(theirs.name.as_bytes() == ours.name && (is_same || has_empty_port));
            }
        }
    }
}
