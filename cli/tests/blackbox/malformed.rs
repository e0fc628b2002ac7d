//! The tables of docs/http.md, row by row: what is refused, how the answer reads, and who learns of it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use crate::app::{app, standard};
use crate::gesher::{Server, Tunnel};
use crate::process::PATIENCE;
use crate::visitor::get;
use crate::wire::{Wire, own_answer};

/// More than one read of the gateway's takes: an answer that comes with a plain close would be destroyed by it.
const UNREAD: usize = 128 * 1024;

/// An app that notes the targets it was asked for, and the log.
fn noting_app() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let noted = seen.clone();
    let address = app(move |exchange| {
        noted.lock().unwrap().push(exchange.head.target.clone());
        standard(exchange)
    });
    (address, seen)
}

/// A refused head: what is sent, the status line after `HTTP/1.1 `, and the rule as the log says it.
struct Row(Vec<u8>, &'static str, &'static str);

fn row(sent: impl AsRef<[u8]>, status: &'static str, rule: &'static str) -> Row {
    Row(sent.as_ref().to_owned(), status, rule)
}

/// A GET with these lines after its Host.
fn get_with(lines: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET /seen HTTP/1.1\r\nHost: gateway.test\r\n", lines.as_ref(), b"\r\n"].concat()
}

fn target(target: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET ", target.as_ref(), b" HTTP/1.1\r\nHost: gateway.test\r\n\r\n"].concat()
}

const BAD: &str = "400 Bad Request";
const TOO_LARGE: &str = "431 Request Header Fields Too Large";
const NO_VERSION: &str = "505 HTTP Version Not Supported";

fn refused_heads(via: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |status, rule, heads: Vec<Vec<u8>>| {
        rows.extend(heads.into_iter().map(|head| row(head, status, rule)));
    };
    let fields =
        |lines: &[&str]| lines.iter().map(|line| get_with(format!("{line}\r\n"))).collect::<Vec<_>>();
    let targets = |targets: &[&str]| targets.iter().map(target).collect::<Vec<_>>();
    let heads = |heads: &[&str]| heads.iter().map(|head| head.as_bytes().to_owned()).collect::<Vec<_>>();

    add(
        "501 Not Implemented",
        "a transfer coding besides chunked",
        fields(&[
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: gzip\r\ntransfer-encoding: CHUNKED",
            "Transfer-Encoding: identity,chunked",
        ]),
    );
    let no_chunks = "GET /seen HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    add(BAD, "malformed Transfer-Encoding", heads(&[no_chunks]));
    add(
        BAD,
        "malformed Transfer-Encoding",
        fields(&[
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: chunked, gzip",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked;a=b",
            "Transfer-Encoding: , chunked",
            "Transfer-Encoding: chunked,",
            "Transfer-Encoding:",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: \"chunked\"",
        ]),
    );
    add(
        BAD,
        "both Transfer-Encoding and Content-Length",
        fields(&[
            "Transfer-Encoding: chunked\r\nContent-Length: 3",
            "Content-Length: 0\r\nTransfer-Encoding: chunked",
            "Content-Length: 3\r\nTransfer-Encoding: gzip",
        ]),
    );
    add(
        BAD,
        "malformed Content-Length",
        fields(&[
            "Content-Length: 3, 3",
            "Content-Length: +3",
            "Content-Length: -3",
            "Content-Length: 3\r\nContent-Length: 3",
            "Content-Length: 3\r\ncontent-length: 4",
            "Content-Length: 00000000000000000003",
            "Content-Length:",
            "Content-Length: 3 3",
            "Content-Length: 0x3",
            "Content-Length: 3.0",
        ]),
    );
    add(
        BAD,
        "a line does not end in CRLF",
        heads(&[
            "GET /seen HTTP/1.1\nHost: gateway.test\n\n",
            "GET /seen HTTP/1.1\r\nHost: gateway.test\n\r\n",
            "GET /seen HTTP/1.1\r\nHost: gateway.test\r\n\n",
            "GET /seen HTTP/1.1\rHost: gateway.test\r\r",
            "GET /seen HTTP/1.1\r\nHost: gateway.test\r\r\n\r\n",
        ]),
    );
    add(BAD, "a folded field line", fields(&["A: b\r\n c", "A: b\r\n\tc"]));
    add(BAD, "a folded field line", heads(&["GET /seen HTTP/1.1\r\n Host: gateway.test\r\n\r\n"]));
    add(
        BAD,
        "white space before a colon",
        fields(&["Content-Length : 3", "A\t: b", "A b: c", "Transfer-Encoding : chunked"]),
    );
    add(BAD, "malformed field name", fields(&[": b", "A(: b", "colon\u{e9}", "nothing", "A\u{e9}: b"]));
    add(BAD, "a control byte in a field value", fields(&["A: b\0c", "A: \u{1}", "A: b\u{7f}", "A: b\u{b}"]));
    add(BAD, "blank lines before the request", vec![[b"\r\n\r\n", &*get_with("")].concat()]);
    add(BAD, "no Host", heads(&["GET /seen HTTP/1.1\r\n\r\n", "GET http://a/seen HTTP/1.1\r\n\r\n"]));
    add(BAD, "more than one Host", fields(&["Host: gateway.test", "host: other.test"]));
    add(
        BAD,
        "malformed Host",
        ["", "a@b", "a,b", "a/b", "a::", "a:80:", "a:b", "a:65536", ":80", "a b", "[::1", "[g::]", "a\u{e9}"]
            .map(|host| format!("GET /seen HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes())
            .into(),
    );
    add(
        BAD,
        "malformed request target",
        targets(&[
            "seen",
            "*",
            "ftp://gateway.test/seen",
            "gateway.test:80",
            "http:///seen",
            "http://a@gateway.test/seen",
            "https://gateway.test:x/seen",
            "/seen#part",
            "/s een",
            "/s\teen",
            "/\u{e9}",
            "/\u{7f}",
            "",
        ]),
    );
    add(BAD, "malformed method", heads(&["G@T /seen HTTP/1.1\r\nHost: gateway.test\r\n\r\n"]));
    add(BAD, "not an HTTP/1.1 request", heads(&[" /seen HTTP/1.1\r\nHost: gateway.test\r\n\r\n"]));
    add(
        BAD,
        "not an HTTP/1.1 request",
        heads(&[
            "GET /seen\r\n",
            "GET /seen HTTP/0.9\r\nHost: gateway.test\r\n\r\n",
            "GET /seen http/1.1\r\nHost: gateway.test\r\n\r\n",
            "GET /seen HTTP/1.10\r\nHost: gateway.test\r\n\r\n",
            "GET /seen HTTP/1\r\nHost: gateway.test\r\n\r\n",
            "GET /seen HTTP/1.1 \r\nHost: gateway.test\r\n\r\n",
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "hello\r\n",
        ]),
    );
    add(
        "405 Method Not Allowed",
        "method not allowed",
        heads(&[
            "CONNECT gateway.test:80 HTTP/1.1\r\nHost: gateway.test\r\n\r\n",
            "TRACE /seen HTTP/1.1\r\nHost: gateway.test\r\n\r\n",
        ]),
    );
    add("414 URI Too Long", "the request line is too long", vec![target("/".repeat(16 * 1024))]);
    add(
        "417 Expectation Failed",
        "an expectation other than 100-continue",
        fields(&["Expect: 200-ok", "Expect: 100-continue, more", "Expect:"]),
    );
    add(TOO_LARGE, "the head is too large", vec![get_with(format!("A: {}\r\n", "b".repeat(64 * 1024)))]);
    add(TOO_LARGE, "too many fields", vec![get_with("A: b\r\n".repeat(200))]);
    let names = (0..33).map(|n| format!("x{n}")).collect::<Vec<_>>().join(", ");
    add(TOO_LARGE, "too many fields", fields(&[&format!("Connection: {names}")]));
    let grows = format!("GET /seen HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(40_000));
    add(TOO_LARGE, "the head is too large", heads(&[&grows]));
    add(
        NO_VERSION,
        "HTTP version not supported",
        heads(&[
            "GET /seen HTTP/2.0\r\nHost: gateway.test\r\n\r\n",
            "GET /seen HTTP/3.1\r\nHost: gateway.test\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ]),
    );
    let circle = format!("Via: 1.1 {via}, 1.0 {via}\r\nVia: HTTP/1.1 {via} (again), 1.1 other, 1.1 {via}");
    add("508 Loop Detected", "the request runs in a circle", fields(&[&circle]));
    rows
}

/// What the answer says of a rule.
fn sentence(rule: &str) -> String {
    let (first, rest) = rule.split_at(1);
    format!("{}{rest}.", first.to_uppercase())
}

#[test]
fn every_malformed_head_is_answered_whole_and_no_app_sees_it() {
    let (address, seen) = noting_app();
    let tunnel = Tunnel::to(format!("http://{address}"));
    let (_, head) = get(tunnel.address(), "/head").unwrap();
    let via = head.lines().find_map(|line| line.strip_prefix("Via: 1.1 ")).unwrap();

    let rows = refused_heads(via);
    for (number, Row(sent, status, rule)) in rows.iter().enumerate() {
        let mut wire = Wire::to(tunnel.address());
        let what = format!("{:?}", String::from_utf8_lossy(&sent[..sent.len().min(100)]));
        // Of what comes after it nothing is read as a request, and all of it stays unread.
        wire.send(
            [&sent[..], b"GET /smuggled HTTP/1.1\r\nHost: gateway.test\r\n\r\n", &[b'x'; UNREAD]].concat(),
        );
        let allow = if status.starts_with("405") {
            "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
        } else {
            ""
        };
        let expected = own_answer(status, &sentence(rule), &format!("{allow}Connection: close\r\n"));
        wire.expect_last(&what, &expected);
        let line = tunnel.server.process.lines("refused what 127.0.0.1 sent: ", number + 1).pop().unwrap();
        assert!(line.contains(&format!("sent: {rule} (")) && line.contains("id "), "{what}: {line}");
    }
    assert_eq!(get(tunnel.address(), "/end").unwrap().0, 200);
    assert_eq!(*seen.lock().unwrap(), ["/head", "/end"]);
}

#[test]
fn a_head_that_is_not_whole_is_a_400_when_the_visitor_ends_and_a_408_after_10_s() {
    let (address, seen) = noting_app();
    let tunnel = Tunnel::to(format!("http://{address}"));
    for part in ["G", "GET /seen HTTP/1.1\r\nHost: gateway.test\r\n", "\r\n", "GET /seen HTTP/1.1\r"] {
        let mut wire = Wire::to(tunnel.address());
        wire.send(part);
        wire.finish();
        let answer = own_answer(BAD, "The connection ended inside a head.", "Connection: close\r\n");
        wire.expect_last(part, &answer);
    }
    let mut wire = Wire::to(tunnel.address());
    wire.send("GET /seen HTTP/1.1\r\nHost: gateway.test\r\n");
    let answer = own_answer("408 Request Timeout", "The head took too long.", "Connection: close\r\n");
    wire.expect_last("a slow head", &answer);
    assert_eq!(get(tunnel.address(), "/end").unwrap().0, 200);
    assert_eq!(*seen.lock().unwrap(), ["/end"]);
}

/// An answer's id is the one in the log.
#[test]
fn the_id_in_an_answer_is_the_one_in_the_log() {
    let server = Server::start();
    let mut wire = Wire::to(server.address);
    wire.send("hello\r\n");
    let answer = String::from_utf8(wire.rest().unwrap()).unwrap();
    let (_, id) = answer.trim_end().rsplit_once("id ").unwrap();
    server.process.line(&format!("not an HTTP/1.1 request (id {id})"));
}

/// An app that reads bodies and tells whether each was whole.
fn judging_app() -> (SocketAddr, Receiver<bool>) {
    let (tell, told) = channel();
    let address = app(move |exchange| {
        let read = io::copy(&mut exchange.body(), &mut io::sink());
        tell.send(read.is_ok()).unwrap();
        read?;
        exchange.respond("200 OK", "", b"")
    });
    (address, told)
}

fn refused_chunks() -> Vec<(Vec<u8>, &'static str)> {
    let mut rows: Vec<(Vec<u8>, &str)> = Vec::new();
    let mut add = |rule, bodies: &[&str]| {
        rows.extend(bodies.iter().map(|body| (body.as_bytes().to_owned(), rule)));
    };
    let long = |length| "e".repeat(length);
    add(
        "malformed chunk size",
        &["\r\n", "g\r\n", "0x3\r\nabc\r\n", "-3\r\nabc\r\n", "+3\r\nabc\r\n", " 3\r\nabc\r\n", ";a\r\n"],
    );
    add("malformed chunk size", &["00000000000000003\r\nabc\r\n", "3\r\nabc\r\nx\r\n", "3x\r\nabc\r\n"]);
    add(
        "a chunk is not as long as it said",
        &["3\r\nabcd\r\n", "3\r\nab\r\n0\r\n\r\n", "3\r\nabc\n0\r\n\r\n"],
    );
    add("a chunk is not as long as it said", &["3\r\nabc\rx", "3\r\nabc0\r\n\r\n"]);
    add("chunk extensions are malformed or too long", &["3;a\0\r\n", "3 x\r\n"]);
    add("chunk extensions are malformed or too long", &[&format!("3;{}\r\nabc\r\n", long(1024))]);
    add("a line does not end in CRLF", &["3\nabc\r\n", "3\rabc\r\n", "3;a\nabc\r\n", "0\n\n"]);
    add("trailers are malformed or too long", &[&format!("0\r\nA: {}\r\n\r\n", long(8 * 1024))]);
    add("trailers are malformed or too long", &[&format!("0\r\n{}\r\n", "A: b\r\n".repeat(201))]);
    add(
        "trailers are malformed or too long",
        &["0\r\nA : b\r\n\r\n", "0\r\nnothing\r\n\r\n", "0\r\n A: b\r\n\r\n"],
    );
    add("trailers are malformed or too long", &["0\r\nA: b\n\n", "0\r\nA: \0\r\n\r\n"]);
    rows
}

const CHUNKED: &str = "POST /upload HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn every_malformed_body_is_a_400_and_no_app_has_it_whole() {
    let (address, was_whole) = judging_app();
    let tunnel = Tunnel::to(format!("http://{address}"));
    let answer = own_answer(BAD, "The request is malformed.", "Connection: close\r\n");
    let mut rows = refused_chunks();
    let after = |sent: &[u8]| [CHUNKED.as_bytes(), sent].concat();
    for (sent, rule) in &mut rows {
        *sent = after(sent);
        let mut wire = Wire::to(tunnel.address());
        // A first chunk is taken, so that the app has seen the head; the rest stays unread.
        wire.send([CHUNKED.as_bytes(), b"5\r\nhello\r\n", &sent[CHUNKED.len()..], &[b'x'; UNREAD]].concat());
        wire.expect_last(rule, &answer);
        tunnel.server.process.line(rule);
    }
    let refused = tunnel.server.process.lines("refused what 127.0.0.1 sent: ", rows.len());
    for (line, (sent, rule)) in refused.iter().zip(&rows) {
        assert!(line.contains(rule), "{:?}: {line}", String::from_utf8_lossy(sent));
    }
    // The connection ends inside.
    let sized = "POST /upload HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 5\r\n\r\n";
    for part in
        [sized.to_owned(), format!("{sized}hell"), CHUNKED.to_owned(), format!("{CHUNKED}5\r\nhello\r\n")]
    {
        let mut wire = Wire::to(tunnel.address());
        wire.send(&part);
        wire.finish();
        wire.expect_last(&part, &answer);
    }
    tunnel.server.process.lines("sent: the connection ended inside a body (POST /upload, id ", 4);
    // Some were refused before the app was asked at all; none of those that it saw was whole, but for this one.
    let mut wire = Wire::to(tunnel.address());
    wire.send(format!("{CHUNKED}5\r\nhello\r\n0\r\n\r\n"));
    wire.expect("a whole body", "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(was_whole.try_iter().filter(|whole| *whole).count(), 1);
}

#[test]
fn a_body_that_breaks_the_rules_after_the_response_began_is_cut() {
    let address = app(|exchange| {
        exchange.start("200 OK", "Content-Length: 100\r\n")?;
        exchange.to.write_all(b"the beginning")?;
        io::copy(&mut exchange.body(), &mut io::sink()).map(drop)
    });
    let tunnel = Tunnel::to(format!("http://{address}"));
    let mut wire = Wire::to(tunnel.address());
    wire.send(format!("{CHUNKED}5\r\nhello\r\n"));
    let head = "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Length: 100\r\nConnection: close\r\n\r\nthe beginning";
    wire.expect("the beginning", head);
    wire.send("no size\r\n");
    assert_eq!(wire.rest().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_body_that_stalls_for_the_body_timeout_is_a_408() {
    let (address, was_whole) = judging_app();
    let server = Server::with("--body-timeout 1s");
    let _client = server.join(format!("http://{address}"), "");
    let mut wire = Wire::to(server.address);
    wire.send(format!("{CHUNKED}5\r\nhello\r\n"));
    let answer = own_answer(
        "408 Request Timeout",
        "The request stopped before it was whole.",
        "Connection: close\r\n",
    );
    wire.expect_last("a body that stalls", &answer);
    server.process.line("(--body-timeout)");
    assert!(!was_whole.recv_timeout(PATIENCE).unwrap());
}

/// A refused response: what the app sends, and the rule as the connector's log says it.
fn refused_responses() -> Vec<(String, &'static str)> {
    let mut rows = Vec::new();
    let mut add = |rule, responses: Vec<String>| rows.extend(responses.into_iter().map(|sent| (sent, rule)));
    let with = |lines: &[&str]| {
        lines.iter().map(|lines| format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nhello")).collect::<Vec<_>>()
    };
    let plain = |sent: &[&str]| sent.iter().map(|sent| format!("{sent}\r\n\r\n")).collect::<Vec<_>>();

    add(
        "malformed status line",
        plain(&[
            "SSH-2.0-OpenSSH_9.2",
            "HTTP/2.0 200 OK",
            "HTTP/2 200",
            "HTTP/0.9 200 OK",
            "http/1.1 200 OK",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 2x0 OK",
            "HTTP/1.1 200OK",
            "HTTP/1.1",
            "ICY 200 OK",
            "<html>",
        ]),
    );
    add("a status outside 100 to 599", plain(&["HTTP/1.1 600 Many", "HTTP/1.1 099 Few", "HTTP/1.1 999"]));
    add(
        "an upgrade that was not asked for",
        plain(&["HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket"]),
    );
    add("too many fields", {
        let names = (0..33).map(|n| format!("x{n}")).collect::<Vec<_>>().join(", ");
        with(&[&format!("Connection: {names}"), &"A: b\r\n".repeat(201)])
    });
    add("the head is too large", with(&[&format!("A: {}", "b".repeat(64 * 1024))]));
    add("a line does not end in CRLF", with(&["A: b\rContent-Length: 5", "A: b\r\r"]));
    add("a folded field line", with(&["A: b\r\n c", "A: b\n c"]));
    add(
        "white space before a colon",
        with(&["Content-Length : 5", "Transfer-Encoding\t: chunked", "A b: c", "A "]),
    );
    add("malformed field name", with(&[": b", "nothing", "A\u{e9}: b"]));
    add("a control byte in a field value", with(&["A: b\0c", "A: b\u{7f}"]));
    add("a transfer coding besides chunked", with(&["Transfer-Encoding: gzip, chunked"]));
    add(
        "malformed Transfer-Encoding",
        with(&["Transfer-Encoding: gzip", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding:"]),
    );
    add("malformed Transfer-Encoding", vec!["HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into()]);
    add(
        "both Transfer-Encoding and Content-Length",
        with(&[
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
        ]),
    );
    add(
        "malformed Content-Length",
        with(&["Content-Length: 5, 5", "Content-Length: +5", "Content-Length: 5\r\nContent-Length: 5"]),
    );
    add("malformed Content-Length", plain(&["HTTP/1.1 304 Not Modified\r\nContent-Length: x"]));
    add("malformed Content-Length", plain(&["HTTP/1.1 204 No Content\r\nContent-Length: 1, 1"]));
    rows
}

const BROKE: &str = "The app broke off, or answered with something that is not HTTP.";

#[test]
fn every_malformed_response_is_a_502_and_the_visitors_connection_goes_on() {
    let rows = refused_responses();
    let responses: Vec<String> = rows.iter().map(|(sent, _)| sent.clone()).collect();
    let (tell, told) = channel();
    let address = app(move |exchange| {
        let number: usize = exchange.path()[1..].parse().unwrap();
        exchange.to.write_all(responses[number].as_bytes())?;
        // The app would go on: it is the connector that ends this.
        let end = io::copy(&mut exchange.from, &mut io::sink());
        tell.send(end.map_err(|why| why.kind())).unwrap();
        Err(io::ErrorKind::ConnectionAborted.into())
    });
    let tunnel = Tunnel::to(format!("http://{address}"));
    let mut wire = Wire::to(tunnel.address());
    let answer = own_answer("502 Bad Gateway", BROKE, "");
    for (number, (sent, rule)) in rows.iter().enumerate() {
        let what = format!("{rule}: {:?}", &sent[..sent.len().min(100)]);
        wire.send(format!("GET /{number} HTTP/1.1\r\nHost: gateway.test\r\n\r\n"));
        wire.expect(&what, &answer);
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Err(io::ErrorKind::ConnectionReset), "{what}");
        let line = tunnel.client.lines("the app broke the rules of HTTP: ", number + 1).pop().unwrap();
        let (said, id) = line.split_once(" (id ").unwrap();
        let expected = format!("GET /{number}: the app broke the rules of HTTP: {rule}");
        assert!(said.ends_with(&expected), "{what}: {line}");
        let line = tunnel.server.process.line(&format!("GET /{number} 502 "));
        assert!(line.ends_with(&format!("breaks the rules (id {id}")), "{what}: on both sides, not {line}");
    }
}

#[test]
fn a_response_of_a_careless_app_is_sent_on_as_it_was_meant() {
    let responses = [
        "HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6\r\nA: b\n\nhello",
        "HTTP/1.1 200 OK\nServer: x\nA: b\n\nhello",
        "HTTP/1.1 200 OK\r\nServer : x\r\nA \t: b\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nServer: x\r\nA: b\r\nTransfer-Encoding: identity\r\n\r\nhello",
    ];
    let address = app(move |exchange| {
        let number: usize = exchange.path()[1..].parse().unwrap();
        exchange.to.write_all(responses[number].as_bytes())?;
        Err(io::ErrorKind::ConnectionAborted.into())
    });
    let tunnel = Tunnel::to(format!("http://{address}"));
    let mut wire = Wire::to(tunnel.address());
    for (number, response) in responses.iter().enumerate() {
        wire.send(format!("GET /{number} HTTP/1.1\r\nHost: gateway.test:\r\n\r\n"));
        let server = if number == 0 { "BaseHTTP/0.6" } else { "x" };
        wire.expect(
            response,
            &format!(
                "HTTP/1.1 200 OK\r\nServer: {server}\r\nA: b\r\nDate: *\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5\r\nhello\r\n0\r\n\r\n"
            ),
        );
    }
}

#[test]
fn an_upgrade_that_was_not_asked_for_in_this_form_is_a_502() {
    let address = app(|exchange| {
        let upgrade = match exchange.path() {
            "/other" => "Upgrade: irc\r\n",
            "/several" => "Upgrade: websocket, irc\r\n",
            _ => "",
        };
        exchange.start("101 Switching Protocols", &format!("Connection: Upgrade\r\n{upgrade}"))?;
        io::copy(&mut exchange.from, &mut io::sink()).map(drop)
    });
    let tunnel = Tunnel::to(format!("http://{address}"));
    let mut wire = Wire::to(tunnel.address());
    for path in ["/other", "/several", "/none"] {
        wire.send(format!(
            "GET {path} HTTP/1.1\r\nHost: gateway.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        ));
        wire.expect(path, &own_answer("502 Bad Gateway", BROKE, ""));
    }
    tunnel.client.lines("rules of HTTP: an upgrade that was not asked for", 3);
}

#[test]
fn an_app_that_ends_before_it_has_answered_is_a_502() {
    let (seen, told) = channel::<()>();
    let told = Mutex::new(told);
    let address = app(move |exchange| {
        match exchange.path() {
            "/part" => exchange.to.write_all(b"HTTP/1.1 200 OK\r\nContent-Le")?,
            "/interim" => {
                exchange.to.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
                // What is reset drops a 103 that is still on its way.
                told.lock().unwrap().recv_timeout(PATIENCE).map_err(io::Error::other)?;
            }
            _ => {}
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    });
    let tunnel = Tunnel::to(format!("http://{address}"));
    let mut wire = Wire::to(tunnel.address());
    for path in ["/nothing", "/part", "/interim"] {
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: gateway.test\r\n\r\n"));
        if path == "/interim" {
            wire.expect(path, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
            seen.send(()).unwrap();
        }
        wire.expect(path, &own_answer("502 Bad Gateway", BROKE, ""));
    }
    tunnel.client.lines("the app closed the connection before it had answered", 3);
}

#[test]
fn a_response_body_that_breaks_the_rules_is_cut_and_never_looks_whole() {
    let bodies = refused_chunks();
    let sent: Vec<Vec<u8>> = bodies.iter().map(|(body, _)| body.clone()).collect();
    let (go_on, told) = channel::<()>();
    let told = Mutex::new(told);
    let address = app(move |exchange| {
        let number: usize = exchange.path()[1..].parse().unwrap();
        exchange.start("200 OK", "Transfer-Encoding: chunked\r\n")?;
        exchange.to.write_all(b"5\r\nhello\r\n")?;
        told.lock().unwrap().recv_timeout(PATIENCE).map_err(io::Error::other)?;
        exchange.to.write_all(&sent[number])?;
        io::copy(&mut exchange.from, &mut io::sink()).map(drop)
    });
    let tunnel = Tunnel::to(format!("http://{address}"));
    for (number, (sent, rule)) in bodies.iter().enumerate() {
        let what = format!("{rule}: {:?}", String::from_utf8_lossy(&sent[..sent.len().min(60)]));
        let mut wire = Wire::to(tunnel.address());
        wire.send(format!("GET /{number} HTTP/1.1\r\nHost: gateway.test\r\n\r\n"));
        wire.expect(&what, "HTTP/1.1 200 OK\r\nDate: *\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        go_on.send(()).unwrap();
        let rest = wire.rest();
        assert_eq!(rest.unwrap_err().kind(), io::ErrorKind::ConnectionReset, "{what}");
        let line = tunnel.client.lines("the app broke the rules of HTTP: ", number + 1).pop().unwrap();
        assert!(line.contains(rule), "{what}: {line}");
    }
}
