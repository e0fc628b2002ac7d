//! What well-formed messages look like on either side of the tunnel, byte for byte.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::Signal;

use crate::app::{Exchange, app, standard};
use crate::gesher::{Server, Tunnel};
use crate::process::PATIENCE;
use crate::wire::{Wire, masked, own_answer};

/// A tunnel to an app of which all connections are seen; the answers are a closure, and what it read goes into a
/// channel.
fn told(
    answer: impl Fn(&mut Exchange) -> io::Result<String> + Send + Sync + 'static,
) -> (Tunnel, Receiver<String>) {
    let (tell, told) = channel();
    let address = app(move |exchange| {
        let read = answer(exchange);
        tell.send(read.as_ref().map_or_else(|why| format!("{why}"), Clone::clone)).unwrap();
        read.map(drop)
    });
    (Tunnel::to(format!("http://{address} --host-header preserve")), told)
}

/// What every request has when it reaches the app, after the visitor's own fields.
const FORWARDED: &str = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: gateway.test\r\n\
    Forwarded: for=127.0.0.1;host=\"gateway.test\";proto=http\r\nVia: 1.1 gesher-*\r\n\
    X-Original-Host: gateway.test\r\n";

fn raw_body(exchange: &mut Exchange, until: &[u8]) -> io::Result<String> {
    let mut raw = Vec::new();
    while !raw.ends_with(until) {
        let mut byte = [0];
        exchange.from.read_exact(&mut byte)?;
        raw.push(byte[0]);
    }
    Ok(masked(&[&exchange.head.bytes[..], &raw].concat()))
}

#[test]
fn pipelined_requests_reach_the_app_one_at_a_time_and_are_answered_in_order() {
    let open = AtomicUsize::new(0);
    let (tunnel, told) = told(move |exchange| {
        assert_eq!(open.fetch_add(1, Ordering::SeqCst), 0, "the one before is not answered yet");
        let mut body = String::new();
        exchange.body().read_to_string(&mut body)?;
        let answer = format!("{} {body}", exchange.path());
        open.fetch_sub(1, Ordering::SeqCst);
        exchange.respond("200 OK", "", answer.as_bytes())?;
        Ok(answer)
    });
    let mut wire = Wire::to(tunnel.address());
    let mut requests = String::new();
    for number in 0..20 {
        requests += &match number % 3 {
            0 => format!("GET /{number} HTTP/1.1\r\nHost: gateway.test\r\n\r\n"),
            1 => format!("POST /{number} HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 4\r\n\r\nbody"),
            _ => format!(
                "PUT /{number} HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
            ),
        };
    }
    wire.send(requests + "GET /last HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n");
    for number in 0..20 {
        let body = format!("/{number} {}", if number % 3 == 0 { "" } else { "body" });
        let length = body.len();
        wire.expect(&body, &format!("HTTP/1.1 200 OK\r\nDate: *\r\nContent-Length: {length}\r\n\r\n{body}"));
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), body);
    }
    wire.expect_last(
        "last",
        "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Length: 6\r\nConnection: close\r\n\r\n/last ",
    );
}

#[test]
fn a_100_comes_from_the_app_and_an_early_refusal_comes_without_one() {
    let (tunnel, told) = told(|exchange| {
        if exchange.path() != "/" {
            let status = exchange.path()[1..].replace('-', " ");
            exchange.respond(&status, "", b"no")?;
            // Nothing of the body ever comes.
            let mut rest = Vec::new();
            let _ = exchange.from.read_to_end(&mut rest);
            return Ok(format!("{} bytes", rest.len()));
        }
        let before = exchange.from.buffer().len();
        exchange.to.write_all(b"HTTP/1.1 100 Continue\r\nX-Mine: yes\r\n\r\n")?;
        let mut body = String::new();
        exchange.body().read_to_string(&mut body)?;
        exchange.respond("200 OK", "", body.as_bytes())?;
        Ok(format!("{before} then {body}, {:?}", exchange.head.field("expect")))
    });
    let ask = |path| {
        let mut wire = Wire::to(tunnel.address());
        wire.send(format!(
            "POST {path} HTTP/1.1\r\nHost: gateway.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        ));
        wire
    };
    let mut wire = ask("/");
    wire.expect("100", "HTTP/1.1 100 Continue\r\nX-Mine: yes\r\n\r\n");
    wire.send("body");
    wire.expect("200", "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "0 then body, Some(\"100-continue\")");

    for (path, status) in [
        ("/417-Expectation-Failed", "417 Expectation Failed"),
        ("/413-Content-Too-Large", "413 Content Too Large"),
        ("/401-Unauthorized", "401 Unauthorized"),
    ] {
        let mut wire = ask(path);
        let answer =
            format!("HTTP/1.1 {status}\r\nDate: *\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        wire.expect_last(path, &answer);
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "0 bytes", "{path}");
    }
}

#[test]
fn an_http_1_0_visitor_gets_no_chunks_and_no_interim_responses_and_is_closed_at_the_end() {
    let address = app(|exchange| {
        exchange.to.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
        if exchange.path() == "/head" {
            let head = exchange.head.bytes.clone();
            return exchange.respond("200 OK", "", &head);
        }
        exchange.start("200 OK", "Transfer-Encoding: chunked\r\n")?;
        exchange.to.write_all(b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nT: t\r\n\r\n")
    });
    let tunnel = Tunnel::to(format!("http://{address}"));
    for keep in ["", "Connection: keep-alive\r\n"] {
        let mut wire = Wire::to(tunnel.address());
        wire.send(format!("GET / HTTP/1.0\r\n{keep}\r\nGET /smuggled HTTP/1.0\r\n\r\n"));
        wire.expect_last("chunked", "HTTP/1.1 200 OK\r\nDate: *\r\nConnection: close\r\n\r\nhello world");
    }
    // The app gets 1.1 with its own name, and learns that the visitor spoke 1.0.
    let mut wire = Wire::to(tunnel.address());
    wire.send("GET /head HTTP/1.0\r\nExpect: 100-continue\r\nTE: trailers\r\n\r\n");
    let head = format!(
        "GET /head HTTP/1.1\r\nHost: {address}\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n\
         Forwarded: for=127.0.0.1;proto=http\r\nVia: 1.0 gesher-*\r\n\r\n"
    );
    let length = head.replace('*', "1a2b").len();
    let answer =
        format!("HTTP/1.1 200 OK\r\nDate: *\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{head}");
    wire.expect_last("its head", &answer);
}

#[test]
fn trailers_and_chunks_cross_both_ways_without_what_has_no_business_there() {
    let (tunnel, told) = told(|exchange| {
        let seen = raw_body(exchange, b"\r\n\r\n")?;
        exchange.start("200 OK", "Transfer-Encoding: chunked\r\nTrailer: Digest\r\n")?;
        exchange
            .to
            .write_all(b"3;ext=1\r\nabc\r\n0\r\nDigest: d\r\nSet-Cookie: a=1\r\nContent-Length: 9\r\n\r\n")?;
        Ok(seen)
    });
    let mut wire = Wire::to(tunnel.address());
    wire.send(
        "POST / HTTP/1.1\r\nHost: gateway.test\r\nTE: trailers, deflate\r\nTrailer: Sum\r\n\
         Transfer-Encoding: Chunked\r\n\r\n5;name=\"value\"\r\nhello\r\n000\r\nSum: s\r\n\
         X-Forwarded-For: ::1\r\nAuthorization: none\r\ntransfer_encoding: gzip\r\nHost: other\r\n\r\n",
    );
    wire.expect(
        "the response",
        "HTTP/1.1 200 OK\r\nTrailer: Digest\r\nDate: *\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n0\r\nDigest: d\r\n\r\n",
    );
    let expected = format!(
        "POST / HTTP/1.1\r\nHost: gateway.test\r\nTrailer: Sum\r\n{FORWARDED}TE: trailers\r\nConnection: TE\r\n\
         Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nSum: s\r\n\r\n"
    );
    let seen = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(seen, expected);
}

#[test]
fn early_hints_pass_at_once_and_the_final_response_follows() {
    let (go_on, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let address = app(move |exchange| {
        exchange.to.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")?;
        wait.lock().unwrap().recv_timeout(PATIENCE).map_err(io::Error::other)?;
        exchange.respond("200 OK", "", b"hello")
    });
    let tunnel = Tunnel::to(format!("http://{address}"));
    let mut wire = Wire::to(tunnel.address());
    wire.send("GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    wire.expect("103", "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n");
    go_on.send(()).unwrap();
    wire.expect("200", "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Length: 5\r\n\r\nhello");
}

#[test]
fn an_answer_in_the_middle_of_an_upload_is_read_whole() {
    let address = app(standard);
    let tunnel = Tunnel::to(format!("http://{address}"));
    for _ in 0..20 {
        let mut wire = Wire::to(tunnel.address());
        wire.send("POST /too-large HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 1000000000\r\n\r\n");
        // The visitor looks at no answer before it has sent this much.
        wire.send(vec![b'x'; 200_000]);
        wire.expect_last(
            "413",
            "HTTP/1.1 413 Content Too Large\r\nDate: *\r\nContent-Length: 10\r\nConnection: close\r\n\r\ntoo large\n",
        );
    }
}

#[test]
fn a_visitor_that_writes_4_mib_before_it_reads_gets_the_early_answer() {
    let body = vec![b'x'; 4 << 20];
    let server = Server::with("--max-body 1M");
    let address = app(|exchange| {
        // Not a byte of the body is read.
        let status = if exchange.path() == "/no" { "401 Unauthorized" } else { "413 Content Too Large" };
        exchange.respond(status, "", b"not that")
    });
    let client = server.join(format!("http://{address}"), "");
    let other = Tunnel::to(format!("http://{address}"));
    let own = own_answer("413 Content Too Large", "The request's body is too long.", "Connection: close\r\n");
    let end = "Date: *\r\nContent-Length: 8\r\nConnection: close\r\n\r\nnot that";
    for nth in 0..10 {
        for (what, gateway, head, expected) in [
            ("the app's 401", other.address(), "POST /no", format!("HTTP/1.1 401 Unauthorized\r\n{end}")),
            ("the app's 413", other.address(), "POST /", format!("HTTP/1.1 413 Content Too Large\r\n{end}")),
            ("the gateway's 413", server.address, "POST /", own.clone()),
        ] {
            let mut wire = Wire::to(gateway);
            let length = body.len();
            wire.send(format!("{head} HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: {length}\r\n\r\n"));
            wire.send(&body);
            wire.expect_last(&format!("{what}, {nth}"), &expected);
        }
    }
    drop(client);
}

#[test]
fn an_app_hears_soon_that_a_visitor_closed_while_it_had_nothing_to_say() {
    let (tell, gone) = channel();
    let tell = Mutex::new(tell);
    let address = app(move |exchange| {
        if exchange.path() == "/events" {
            exchange.start("200 OK", "Content-Type: text/event-stream\r\nContent-Length: 1000\r\n")?;
        }
        // It waits until it hears something, as an app on an event loop does.
        let end = exchange.from.fill_buf().map(<[u8]>::len).unwrap_or(0);
        tell.lock().unwrap().send(end).map_err(io::Error::other)
    });
    let tunnel = Tunnel::to(format!("http://{address}"));
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (path, fields) in [("/events", ""), ("/poll", ""), ("/upgrade", upgrade)] {
        let mut wire = Wire::to(tunnel.address());
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: gateway.test\r\n{fields}\r\n"));
        drop(wire);
        assert_eq!(gone.recv_timeout(PATIENCE), Ok(0), "{path}");
        tunnel.server.process.line(&format!("GET {path} "));
    }
}

#[test]
fn responses_without_a_body_end_with_their_heads() {
    let address = app(|exchange| {
        let (status, fields) = match exchange.path() {
            "/204" => ("204 No Content", ""),
            "/304" => ("304 Not Modified", "ETag: \"e\"\r\nContent-Length: 5\r\n"),
            "/chunked" => ("200 OK", "Transfer-Encoding: chunked\r\n"),
            "/unknown" => ("200 OK", ""),
            _ => ("200 OK", "Content-Length: 5\r\n"),
        };
        exchange.start(status, fields)
    });
    let tunnel = Tunnel::to(format!("http://{address}"));
    let mut wire = Wire::to(tunnel.address());
    for (request, answer) in [
        ("GET /204", "204 No Content\r\nDate: *\r\n\r\n"),
        ("GET /304", "304 Not Modified\r\nETag: \"e\"\r\nContent-Length: 5\r\nDate: *\r\n\r\n"),
        ("HEAD /304", "304 Not Modified\r\nETag: \"e\"\r\nContent-Length: 5\r\nDate: *\r\n\r\n"),
        ("HEAD /sized", "200 OK\r\nContent-Length: 5\r\nDate: *\r\n\r\n"),
        ("HEAD /chunked", "200 OK\r\nDate: *\r\n\r\n"),
        ("HEAD /unknown", "200 OK\r\nDate: *\r\n\r\n"),
        ("HEAD /204", "204 No Content\r\nDate: *\r\n\r\n"),
    ] {
        wire.send(format!("{request} HTTP/1.1\r\nHost: gateway.test\r\n\r\n"));
        wire.expect(request, &format!("HTTP/1.1 {answer}"));
    }
}

#[test]
fn a_body_over_max_body_is_a_413_whether_announced_or_not() {
    let server = Server::with("--max-body 100K");
    let address = app(standard);
    let client = server.join(format!("http://{address}"), "");
    let answer =
        own_answer("413 Content Too Large", "The request's body is too long.", "Connection: close\r\n");
    let post = "POST /upload HTTP/1.1\r\nHost: gateway.test\r\n";
    let most = 100 * 1024;

    let mut wire = Wire::to(server.address);
    wire.send(format!("{post}Content-Length: {}\r\n\r\n", most + 1));
    wire.expect_last("announced", &answer);
    let mut wire = Wire::to(server.address);
    wire.send(format!("{post}Content-Length: 9999999999999999999\r\n\r\n"));
    wire.expect_last("the longest that can be announced", &answer);
    let mut wire = Wire::to(server.address);
    let body = "x".repeat(most + 1);
    wire.send(format!(
        "{post}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n{body}",
        body.len()
    ));
    wire.expect_last("not announced", &answer);

    for framing in
        [format!("Content-Length: {most}\r\n\r\n"), format!("Transfer-Encoding: chunked\r\n\r\n{most:x}\r\n")]
    {
        let end = if framing.contains("chunked") { "\r\n0\r\n\r\n" } else { "" };
        let mut wire = Wire::to(server.address);
        wire.send(format!("{post}{framing}{}{end}", &body[..most]));
        wire.expect(
            "as long as it may be",
            "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Length: 71\r\n\r\n102400 ",
        );
    }
    drop(client);
}

#[test]
fn an_app_that_says_nothing_for_the_response_timeout_is_a_504_and_one_that_says_102_is_not() {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let server = Server::with("--response-timeout 1s");
    let address = app(move |exchange| {
        if exchange.path() == "/slow" {
            // Three quarters of a second, three times: never a whole one without a word.
            for _ in 0..3 {
                thread::sleep(std::time::Duration::from_millis(750));
                exchange.to.write_all(b"HTTP/1.1 102 Processing\r\n\r\n")?;
            }
            return exchange.respond("200 OK", "", b"done");
        }
        released.lock().unwrap().recv_timeout(PATIENCE).map_err(io::Error::other)?;
        exchange.respond("200 OK", "", b"too late")
    });
    let _client = server.join(format!("http://{address}"), "");
    let mut wire = Wire::to(server.address);
    wire.send("GET /never HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    wire.expect("504", &own_answer("504 Gateway Timeout", "The app did not answer in time.", ""));
    release.send(()).unwrap();
    wire.send("GET /slow HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    for _ in 0..3 {
        wire.expect("102", "HTTP/1.1 102 Processing\r\n\r\n");
    }
    wire.expect("200", "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Length: 4\r\n\r\ndone");
    server.process.line("GET /never 504 ");
}

#[test]
fn with_rewrite_app_and_browser_each_see_their_own_names() {
    let own = Arc::<Mutex<String>>::default();
    let address = {
        let own = own.clone();
        app(move |exchange| {
            let here = own.lock().unwrap().clone();
            let host = here.split(':').next().unwrap();
            let names = ["host", "origin", "referer", "destination", "x-forwarded-host", "x-original-host"];
            let seen = names.map(|name| exchange.head.field(name).unwrap_or("-"));
            let seen = seen.join(" ");
            let fields = format!(
                "Location: http://{here}/there?a=b\r\nContent-Location: http://{here}\r\n\
                 Access-Control-Allow-Origin: http://{here}\r\n\
                 Set-Cookie: a=1; Domain={host}; Path=/\r\nSet-Cookie: b=2; Path=/; domain=.{host}; HttpOnly\r\n\
                 Set-Cookie: c=3; Domain=elsewhere.test\r\nLink: <http://{here}/>\r\n\
                 Alt-Svc: h3=\":443\"\r\nRefresh: 0; url=//{here}1/\r\n"
            );
            exchange.respond("302 Found", &fields, seen.as_bytes())
        })
    };
    *own.lock().unwrap() = address.to_string();
    let tunnel = Tunnel::to(format!("http://{address} --host-header rewrite"));
    let ask = |fields: &str| {
        let mut wire = Wire::to(tunnel.address());
        wire.send(format!("GET / HTTP/1.1\r\nHost: shop.test:8000\r\n{fields}\r\n"));
        wire
    };
    let translated = |seen: String| {
        format!(
            "HTTP/1.1 302 Found\r\nLocation: http://shop.test:8000/there?a=b\r\n\
             Content-Location: http://shop.test:8000\r\nAccess-Control-Allow-Origin: http://shop.test:8000\r\n\
             Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=2; Path=/; HttpOnly\r\n\
             Set-Cookie: c=3; Domain=elsewhere.test\r\nLink: <http://shop.test:8000/>\r\n\
             Refresh: 0; url=//{address}1/\r\nDate: *\r\nContent-Length: {}\r\n\r\n{seen}",
            seen.len()
        )
    };
    let mut wire = ask("Origin: https://shop.test:8000\r\nReferer: http://shop.test:8000/page?x\r\n");
    let own = format!("{address} http://{address} http://{address}/page?x - - shop.test:8000");
    wire.expect("its own", &translated(own));
    let mut wire = ask("Destination: http://shop.test:8000/b\r\n");
    wire.expect("a resource", &translated(format!("{address} - - http://{address}/b - shop.test:8000")));
    let mut wire = ask("Origin: http://shop.test\r\nReferer: http://other.test:8000/\r\n");
    let others = "http://shop.test http://other.test:8000/ - shop.test:8000 shop.test:8000";
    wire.expect("others", &translated(format!("{address} {others}")));
}

/// An app that answers once on each connection and closes it when a second request comes; it tells the connection's
/// number and the request's method.
fn forgetful_app() -> (SocketAddr, Receiver<(usize, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (stream, tell): (_, Sender<_>) = (stream.unwrap(), tell.clone());
            thread::spawn(move || {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let mut method = || {
                    let method = lines.next()?.split(' ').next()?.to_owned();
                    lines.find(String::is_empty).map(|_| method)
                };
                let Some(first) = method() else { return };
                let _ = tell.send((number, first));
                let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                let Some(second) = method() else { return };
                let _ = tell.send((number, second));
                let _ = stream.shutdown(Shutdown::Both);
            });
        }
    });
    (address, told)
}

#[test]
fn a_kept_connection_that_the_app_closes_costs_a_get_nothing_and_a_post_a_502() {
    let (address, told) = forgetful_app();
    let tunnel = Tunnel::to(format!("http://{address}"));
    let mut wire = Wire::to(tunnel.address());
    let ok = "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Length: 0\r\n\r\n";
    let mut ask = |method: &str, answer: &str| {
        wire.send(format!("{method} / HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n\r\n"));
        wire.expect(method, answer);
        told.try_iter().collect::<Vec<_>>()
    };
    let get = |number| (number, "GET".to_owned());
    let post = |number| (number, "POST".to_owned());
    assert_eq!(ask("GET", ok), [get(0)]);
    // Once on the connection that was kept, and once more on a fresh one.
    assert_eq!(ask("GET", ok), [get(0), get(1)]);
    let lost =
        own_answer("502 Bad Gateway", "The app broke off, or answered with something that is not HTTP.", "");
    assert_eq!(ask("POST", &lost), [post(1)]);
    assert_eq!(ask("POST", ok), [post(2)]);
}

#[test]
fn bytes_after_a_response_are_never_taken_for_the_next_one() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                while lines.find(String::is_empty).is_some() {
                    let poison = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngoodHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
                    let _ = (&stream).write_all(poison);
                }
            });
        }
    });
    let tunnel = Tunnel::to(format!("http://{address}"));
    let mut wire = Wire::to(tunnel.address());
    for _ in 0..5 {
        wire.send("GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
        wire.expect("good", "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Length: 4\r\n\r\ngood");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 5);
}

#[test]
fn a_visitor_that_sends_no_more_still_gets_its_answer() {
    let address = app(standard);
    let tunnel = Tunnel::to(format!("http://{address}"));
    let mut wire = Wire::to(tunnel.address());
    wire.send("GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    wire.finish();
    wire.expect_last("the answer", "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Length: 6\r\n\r\nhello\n");
}

#[test]
fn a_gateway_that_drains_closes_idle_visitors_and_says_so_to_the_others() {
    let (release, released) = channel::<()>();
    let (tell, asked) = channel();
    let released = Mutex::new(released);
    let address = app(move |exchange| {
        if exchange.path() == "/wait" {
            tell.send(()).unwrap();
            released.lock().unwrap().recv_timeout(PATIENCE).map_err(io::Error::other)?;
        }
        exchange.respond("200 OK", "", b"hello")
    });
    let mut tunnel = Tunnel::to(format!("http://{address}"));
    let (mut idle, mut busy) = (Wire::to(tunnel.address()), Wire::to(tunnel.address()));
    idle.send("GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    idle.expect("before", "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Length: 5\r\n\r\nhello");
    busy.send(
        "GET /wait HTTP/1.1\r\nHost: gateway.test\r\n\r\nGET /more HTTP/1.1\r\nHost: gateway.test\r\n\r\n",
    );
    asked.recv_timeout(PATIENCE).unwrap();
    tunnel.server.process.signal(Signal::TERM);
    idle.expect_last("idle", "");
    release.send(()).unwrap();
    busy.expect_last(
        "busy",
        "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    );
    assert_eq!(tunnel.server.process.end(), Some(0));
}
