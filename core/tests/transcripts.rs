//! Whole conversations, as transcripts that read like a protocol trace. Each runs with real Fernet and with fixed IVs,
//! says in code what visitors and apps must see, and leaves nobody holding anything.
//!
//! `INSTA_UPDATE=always cargo test -p gesher-core --test transcripts` takes new transcripts over; read what changed.

use std::time::Duration;

use gesher_core::config::GatewayConfig;
use gesher_core::http1::hop::HostRule;
use gesher_core::limits;
use gesher_core::sim::{Act, AppRequest, Joiner, LinkTrouble, PIPE_BYTES, Visitor, Way, World, conversation};
use insta::assert_snapshot;

// ---- what most conversations begin with and look at ----------------------------------------------------------------

fn as_usual<T>(config: T) -> T {
    config
}

/// A gateway, an app and a connector that has joined.
fn start(world: &mut World, handler: impl FnMut(&AppRequest) -> Vec<Act> + 'static) {
    world.start_gateway(as_usual);
    world.start_app("target-1", handler);
    world.start_connector("connector-1", "target-1", as_usual);
    world.run_ms(200);
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: example.org\r\n\r\n")
}

fn post(target: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST {target} HTTP/1.1\r\nHost: example.org\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A whole response with this body.
fn ok(body: impl AsRef<[u8]>) -> Vec<Act> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    vec![Act::Send([head.as_bytes(), body].concat())]
}

/// Bytes of which no two portions are alike.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place % 251) as u8 ^ (place / 65_536) as u8).collect()
}

/// A visitor that has sent this.
fn ask(world: &mut World, request: impl AsRef<[u8]>) -> Visitor {
    let visitor = world.visit();
    world.send(visitor, request);
    visitor
}

/// What a visitor got: the first head, and what came after it.
#[derive(Debug)]
struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn has(&self, field: &str) -> bool {
        self.head.split("\r\n").any(|line| line.eq_ignore_ascii_case(field))
    }
}

fn got(world: &mut World, visitor: Visitor) -> Got {
    let bytes = world.received(visitor);
    let end = bytes.windows(4).position(|end| end == b"\r\n\r\n").expect("a whole head") + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is text");
    Got { status: head[9..12].parse().expect("a status"), head, body: bytes[end..].to_vec() }
}

/// The status and body of a response with a body.
fn answer(world: &mut World, visitor: Visitor) -> (u16, String) {
    let got = got(world, visitor);
    (got.status, String::from_utf8(got.body).expect("a body of text"))
}

fn count(world: &mut World, what: &str) -> usize {
    world.transcript().matches(what).count()
}

fn targets(world: &World, app: &str) -> Vec<String> {
    world.requests(app).iter().map(|request| format!("{} {}", request.method, request.target)).collect()
}

// ---- joining -------------------------------------------------------------------------------------------------------

#[test]
fn a_connector_joins_and_is_served_from_then_on() {
    assert_snapshot!(conversation("a connector joins", 1, 20, |world| {
        world.start_gateway(as_usual);
        let early = ask(world, get("/"));
        world.run_ms(10);
        let refused = got(world, early);
        assert_eq!(refused.status, 503);
        assert!(refused.has("Retry-After: 2"), "{}", refused.head);

        world.start_app("target-1", |_| ok("hello"));
        world.start_connector("connector-1", "target-1", as_usual);
        world.run_ms(200);
        world.send(early, get("/again"));
        world.run_ms(100);
        assert_eq!(answer(world, early), (200, "hello".into()), "on the same connection");
        assert_eq!(targets(world, "target-1"), ["GET /again"]);
    }));
}

#[test]
fn a_wrong_secret_is_refused_and_the_connector_gives_up() {
    assert_snapshot!(conversation("a wrong secret", 2, 20, |world| {
        world.start_gateway(as_usual);
        let joiner = Joiner { secret: "another secret", ..Joiner::default() };
        world.start_connector_as(joiner, "connector-1", "target-1", as_usual);
        world.run_ms(300_000);
        assert_eq!(count(world, "> gateway       GET /_connect_tunnel"), 1, "it does not try again");
        assert_eq!(count(world, "gesher-refusal secret"), 1);
        assert_eq!(count(world, "connector-1 | join          gives up: secret"), 1);
    }));
}

#[test]
fn a_wrong_pin_is_refused_and_the_connector_gives_up() {
    assert_snapshot!(conversation("a wrong PIN", 3, 20, |world| {
        world.start_gateway(as_usual);
        let joiner = Joiner { pin: "WR2NG", ..Joiner::default() };
        world.start_connector_as(joiner, "connector-1", "target-1", as_usual);
        world.run_ms(300_000);
        assert_eq!(count(world, "> gateway       GET /_connect_tunnel"), 1, "it does not try again");
        assert_eq!(count(world, "gesher-refusal pin"), 1);
        assert_eq!(count(world, "connector-1 | join          gives up: pin"), 1);
    }));
}

#[test]
fn a_connector_with_a_wrong_clock_signs_again_with_the_gateways_time() {
    assert_snapshot!(conversation("a clock that is five minutes slow", 4, 20, |world| {
        world.start_gateway(as_usual);
        world.start_app("target-1", |_| ok("hello"));
        let joiner = Joiner { skew_secs: -300, ..Joiner::default() };
        world.start_connector_as(joiner, "connector-1", "target-1", as_usual);
        world.run_ms(300);
        assert_eq!(count(world, "gesher-refusal clock"), 1);
        assert_eq!(count(world, "connector-1 | clock         300 s behind the gateway's"), 1);
        let visitor = ask(world, get("/"));
        world.run_ms(100);
        assert_eq!(answer(world, visitor), (200, "hello".into()));
    }));
}

#[test]
fn a_clock_that_is_set_right_later_does_not_lock_a_connector_out() {
    assert_snapshot!(conversation("a clock that is set right after joining", 5, 20, |world| {
        world.start_gateway(as_usual);
        world.start_app("target-1", |_| ok("hello"));
        let joiner = Joiner { skew_secs: -86_400, ..Joiner::default() };
        world.start_connector_as(joiner, "connector-1", "target-1", as_usual);
        world.run_ms(300);
        world.set_skew("connector-1", 0);
        world.trouble("connector-1", LinkTrouble::Reset);
        world.run_ms(2_000);
        let visitor = ask(world, get("/"));
        world.run_ms(100);
        assert_eq!(answer(world, visitor), (200, "hello".into()));
    }));
}

#[test]
fn a_connector_whose_machine_wakes_from_sleep_dials_at_once() {
    assert_snapshot!(conversation("a machine that sleeps for 8 hours", 56, 20, |world| {
        start(world, |_| ok("hello"));
        world.kill("gateway");
        world.run_ms(600_000);
        world.start_gateway(as_usual);
        // Civil time goes on while a machine sleeps, and monotonic time does not.
        world.set_skew("connector-1", 8 * 3600);
        world.run_ms(2_200);
        let visitor = ask(world, get("/"));
        world.run_ms(100);
        assert_eq!(answer(world, visitor), (200, "hello".into()));
    }));
}

#[test]
fn a_link_that_breaks_before_it_joined_counts_as_an_attempt() {
    assert_snapshot!(conversation("a link that breaks before HELLO", 55, 20, |world| {
        world.start_gateway(as_usual);
        world.start_connector("connector-1", "target-1", as_usual);
        for attempt in 1..=3 {
            while count(world, "HELLO connector-1") < attempt {
                world.run_ms(10);
            }
            world.trouble("connector-1", LinkTrouble::Reset);
            world.run_ms(1);
            assert_eq!(count(world, &format!("(attempt {attempt})")), 1);
        }
        world.run_ms(2_000);
        assert_eq!(count(world, "joined as"), 1);
    }));
}

#[test]
fn many_wrong_joins_from_an_address_keep_no_connector_out_that_comes_from_there() {
    assert_snapshot!(conversation("many wrong joins", 6, 20, |world| {
        world.start_gateway(as_usual);
        world.start_app("target-1", |_| ok("hello"));
        let wrong = "GET /_connect_tunnel HTTP/1.1\r\nHost: gateway\r\nAuthorization: Gesher 1.a.b\r\n\r\n";
        for nth in 1..=limits::JOIN_BURST + 1 {
            let stranger = ask(world, wrong);
            world.run_ms(1);
            let (status, refusal) = if nth <= limits::JOIN_BURST { (403, "secret") } else { (429, "rate") };
            let refused = got(world, stranger);
            assert_eq!(refused.status, status);
            assert!(refused.has(&format!("Gesher-Refusal: {refusal}")), "{}", refused.head);
        }
        world.start_connector("connector-1", "target-1", as_usual);
        world.run_ms(200);
        assert_eq!(count(world, "gesher-refusal rate · retry-after 6"), 1, "the stranger alone");
        let visitor = ask(world, get("/"));
        world.run_ms(100);
        assert_eq!(answer(world, visitor), (200, "hello".into()), "it joined at once");
    }));
}

#[test]
fn five_wrong_pins_from_an_address_close_joining_to_it() {
    assert_snapshot!(conversation("five wrong PINs", 7, 20, |world| {
        world.start_gateway(as_usual);
        world.start_app("target-1", |_| ok("hello"));
        let joiner = Joiner { pin: "WR2NG", ..Joiner::default() };
        for guess in 1..=limits::LOCKOUT_FAILURES {
            world.start_connector_as(joiner, &format!("guess-{guess}"), "target-1", as_usual);
            world.run_ms(100);
        }
        assert_eq!(count(world, "gesher-refusal pin"), 5);
        world.start_connector("connector-1", "target-1", as_usual);
        world.run_ms(70_000);
        assert_eq!(count(world, "gesher-refusal locked · retry-after"), 2);
        assert_eq!(count(world, "joined as"), 0, "not even with the right PIN");
    }));
}

#[test]
fn a_full_gateway_says_so_and_has_room_once_somebody_left() {
    assert_snapshot!(conversation("a full gateway", 8, 20, |world| {
        world.start_gateway(|config: GatewayConfig| config.connectors_max(1).unwrap());
        for name in ["target-1", "target-2"] {
            world.start_app(name, move |_| ok(name));
        }
        world.start_connector("connector-1", "target-1", as_usual);
        world.run_ms(200);
        world.start_connector("connector-2", "target-2", as_usual);
        world.run_ms(200);
        let first = ask(world, get("/"));
        world.run_ms(100);
        assert_eq!(answer(world, first), (200, "target-1".into()));
        assert_eq!(count(world, "connector-2 | dial          the gateway is full"), 1);
        world.drain("connector-1");
        world.run_ms(2_000);
        let second = ask(world, get("/"));
        world.run_ms(100);
        assert_eq!(answer(world, second), (200, "target-2".into()));
    }));
}

#[test]
fn a_replayed_join_is_refused_and_never_becomes_a_peer() {
    assert_snapshot!(conversation("a replayed join", 9, 20, |world| {
        start(world, |_| ok("hello"));
        let captured = world.captured("connector-1");
        let end = captured.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let (join, records) = captured.split_at(end);
        let replay = ask(world, join);
        world.run_ms(100);
        let refused = got(world, replay);
        assert_eq!(refused.status, 403);
        assert!(refused.has("Gesher-Refusal: replay"), "{}", refused.head);

        // A gateway that was started anew remembers no signatures; but its part of the keys is another one.
        world.kill("connector-1");
        world.kill("gateway");
        world.start_gateway(as_usual);
        let replay = ask(world, join);
        world.run_ms(100);
        let accepted = got(world, replay);
        assert_eq!((accepted.status, accepted.body), (101, Vec::new()), "a gateway does not speak first");
        world.send(replay, records);
        world.run_ms(100);
        const FORGED: [u8; 2] = 4006u16.to_be_bytes();
        assert_eq!(world.received(replay), [0x88, 2, FORGED[0], FORGED[1]], "HELLO does not open");
        assert_eq!(world.ended(replay), Some(true));
        let visitor = ask(world, get("/"));
        world.run_ms(100);
        assert_eq!(got(world, visitor).status, 503, "nobody joined");
    }));
}

#[test]
fn a_link_that_never_says_hello_ends_after_five_seconds() {
    assert_snapshot!(conversation("a link without HELLO", 56, 20, |world| {
        start(world, |_| ok("hello"));
        let captured = world.captured("connector-1");
        let end = captured.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        world.kill("connector-1");
        world.kill("gateway");
        world.start_gateway(as_usual);
        let replay = ask(world, &captured[..end]);
        world.run_ms(4_900);
        assert_eq!((got(world, replay).status, world.ended(replay)), (101, None));
        world.run_ms(200);
        assert!(world.ended(replay).is_some(), "it was told why");
        world.run_ms(limits::LINGER_STRETCH.as_millis() as u64);
        assert!(world.is_at_rest("gateway"), "it holds no place any more");
    }));
}

// ---- requests and responses ----------------------------------------------------------------------------------------

#[test]
fn a_get_is_answered() {
    assert_snapshot!(conversation("a GET", 10, 20, |world| {
        start(world, |_| {
            vec![Act::send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
                 Connection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 5\r\n\r\nhello",
            )]
        });
        let visitor = ask(
            world,
            "GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nX-Forwarded-For: 203.0.113.9\r\nCookie: a=1\r\n\
             Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\r\n",
        );
        world.run_ms(100);
        let got = got(world, visitor);
        assert_eq!((got.status, got.body.as_slice()), (200, &b"hello"[..]));
        assert!(got.head.contains("\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"), "{}", got.head);
        assert!(!got.head.contains("X-Hop"), "{}", got.head);
        let head = &world.requests("target-1")[0].head;
        assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nCookie: a=1\r\n"), "{head}");
        assert!(head.contains("\r\nX-Forwarded-For: 192.0.2.1\r\n"), "{head}");
        assert!(!head.contains("X-Hop") && !head.contains("203.0.113.9"), "{head}");
    }));
}

#[test]
fn a_slow_app_holds_the_visitor_back_and_gets_all_of_the_body_in_the_end() {
    const BODY_BYTES: usize = 2 * 1024 * 1024;
    assert_snapshot!(conversation("a POST to an app that stops reading", 11, 20, |world| {
        start(world, |_| {
            [vec![Act::StopReadingMs(10_000), Act::WaitMs(10_000), Act::AwaitBody], ok("thanks")].concat()
        });
        let visitor = ask(world, post("/upload", &pattern(BODY_BYTES)));
        world.run_ms(9_000);
        // The app's first read and its kernel; a window at the connector and what waits there for the app; what waits
        // at the gateway for the link, and one read; and the visitor's own kernel.
        let window = limits::WINDOW_BYTES as usize;
        let bound = 64 * 1024
            + PIPE_BYTES
            + 16 * window
            + limits::HTTP_OUTPUT_BYTES
            + limits::MAILBOX_BYTES
            + 64 * 1024
            + PIPE_BYTES;
        let taken = BODY_BYTES - world.unsent(visitor);
        assert!(taken <= bound, "{taken} B were taken, at most {bound} B have a place");
        let before = world.unsent(visitor);
        world.run_ms(500);
        assert_eq!(world.unsent(visitor), before, "nothing more is taken");
        world.run_ms(2_000);
        assert_eq!(answer(world, visitor), (200, "thanks".into()));
        let request = &world.requests("target-1")[0];
        assert!(request.whole && request.body == pattern(BODY_BYTES));
    }));
}

#[test]
fn chunks_and_trailers_cross_both_ways() {
    assert_snapshot!(conversation("chunks and trailers", 12, 20, |world| {
        start(world, |_| {
            vec![
                Act::AwaitBody,
                Act::send(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Digest\r\n\r\n6\r\nfirst \r\n",
                ),
                Act::WaitMs(50),
                Act::send("6;ext=1\r\nsecond\r\n0\r\nDigest: xyz\r\nContent-Length: 7\r\n\r\n"),
            ]
        });
        let visitor = ask(
            world,
            "POST /up HTTP/1.1\r\nHost: example.org\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        );
        world.run_ms(30);
        world.send(visitor, "2;x\r\nde\r\n0\r\nChecksum: 1\r\nHost: evil.example\r\n\r\n");
        world.run_ms(65);
        let first = got(world, visitor);
        assert_eq!((first.status, first.body.as_slice()), (200, &b"6\r\nfirst \r\n"[..]), "not held back");
        assert!(first.has("Transfer-Encoding: chunked"), "{}", first.head);
        world.run_ms(100);
        assert_eq!(world.received(visitor), b"6\r\nsecond\r\n0\r\nDigest: xyz\r\n\r\n");
        assert_eq!(world.ended(visitor), None, "the connection goes on");
        let request = &world.requests("target-1")[0];
        assert!(request.whole);
        assert_eq!((request.body.as_slice(), request.trailers.as_str()), (&b"abcde"[..], "Checksum: 1\r\n"));
    }));
}

#[test]
fn responses_that_have_no_body_end_with_their_heads() {
    assert_snapshot!(conversation("HEAD, 204 and 304", 13, 20, |world| {
        start(world, |request| {
            vec![Act::send(match request.target.as_str() {
                "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: \"a\"\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            })]
        });
        let visitor = ask(world, get("/head").replace("GET", "HEAD"));
        world.run_ms(100);
        let head = got(world, visitor);
        assert!(head.status == 200 && head.has("Content-Length: 1000") && head.body.is_empty(), "{head:?}");
        world.send(visitor, get("/204"));
        world.run_ms(100);
        let none = got(world, visitor);
        assert!(
            none.status == 204 && !none.head.contains("Content-Length") && none.body.is_empty(),
            "{none:?}"
        );
        world.send(visitor, get("/304"));
        world.run_ms(100);
        let same = got(world, visitor);
        assert!(same.status == 304 && same.has("Content-Length: 1000") && same.body.is_empty(), "{same:?}");
        world.send(visitor, get("/empty"));
        world.run_ms(100);
        let empty = got(world, visitor);
        assert!(empty.status == 200 && empty.has("Content-Length: 0") && empty.body.is_empty(), "{empty:?}");
        assert_eq!(world.app_connections("target-1"), 1, "one connection served them all");
    }));
}

#[test]
fn a_request_with_an_empty_body_reaches_the_app_whole() {
    assert_snapshot!(conversation("bodies of no bytes", 14, 20, |world| {
        start(world, |_| [vec![Act::AwaitBody], ok("thanks")].concat());
        let visitor = ask(world, post("/sized", b""));
        world.run_ms(100);
        assert_eq!(answer(world, visitor), (200, "thanks".into()));
        world.send(
            visitor,
            "POST /chunked HTTP/1.1\r\nHost: example.org\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nDigest: x\r\n\r\n",
        );
        world.run_ms(100);
        assert_eq!(answer(world, visitor), (200, "thanks".into()));
        let requests = world.requests("target-1");
        assert!(requests.iter().all(|request| request.whole && request.body.is_empty()));
        assert_eq!(requests[1].trailers, "Digest: x\r\n");
        assert_eq!(world.app_connections("target-1"), 1, "nothing was broken off");
    }));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    assert_snapshot!(conversation("three requests at once", 15, 20, |world| {
        start(world, |request| {
            let wait = if request.target == "/slow" { 100 } else { 0 };
            [vec![Act::WaitMs(wait)], ok(request.target.clone())].concat()
        });
        let visitor = ask(world, [get("/slow"), get("/b"), get("/c")].concat());
        world.run_ms(500);
        let all = String::from_utf8(world.received(visitor)).unwrap();
        let bodies: Vec<&str> =
            all.split("HTTP/1.1 200 OK").skip(1).map(|one| one.rsplit("\r\n").next().unwrap()).collect();
        assert_eq!(bodies, ["/slow", "/b", "/c"]);
        assert_eq!(targets(world, "target-1"), ["GET /slow", "GET /b", "GET /c"]);
    }));
}

#[test]
fn an_http_10_visitor_gets_neither_chunks_nor_interim_responses() {
    assert_snapshot!(conversation("an HTTP/1.0 visitor", 16, 20, |world| {
        start(world, |_| {
            vec![Act::send(
                "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n\
                 HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            )]
        });
        let visitor = ask(world, "GET / HTTP/1.0\r\n\r\n");
        world.run_ms(100);
        let got = got(world, visitor);
        assert_eq!((got.status, got.body.as_slice()), (200, &b"hello"[..]));
        assert_eq!(world.ended(visitor), Some(true), "the end of the connection ends the body");
        assert!(world.requests("target-1")[0].head.starts_with("GET / HTTP/1.1\r\nHost: target-1\r\n"));
    }));
}

#[test]
fn a_visitor_that_expects_a_100_gets_it_from_the_app() {
    assert_snapshot!(conversation("Expect: 100-continue", 17, 20, |world| {
        start(world, |_| {
            [vec![Act::send("HTTP/1.1 100 Continue\r\n\r\n"), Act::AwaitBody], ok("thanks")].concat()
        });
        let visitor = ask(
            world,
            "POST /up HTTP/1.1\r\nHost: example.org\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        );
        world.run_ms(100);
        assert_eq!(got(world, visitor).status, 100);
        world.send(visitor, "hello");
        world.run_ms(100);
        assert_eq!(answer(world, visitor), (200, "thanks".into()));
        assert_eq!(world.requests("target-1")[0].body, b"hello");
    }));
}

#[test]
fn an_app_may_tell_how_an_upload_goes_on_as_often_as_it_likes() {
    const BODY_BYTES: usize = 4 << 20;
    assert_snapshot!(conversation("an upload whose app tells its progress", 72, 20, |world| {
        start(world, |_| {
            let mut acts = Vec::new();
            for _ in 0..BODY_BYTES / (64 * 1024) {
                acts.extend([
                    Act::send("HTTP/1.1 102 Processing\r\nProgress: 64K\r\n\r\n"),
                    Act::WaitMs(100),
                ]);
            }
            [acts, vec![Act::AwaitBody], ok("thanks")].concat()
        });
        let visitor = ask(world, post("/upload", &pattern(BODY_BYTES)));
        world.run_ms(7_000);
        let got = String::from_utf8(world.received(visitor)).unwrap();
        assert_eq!(got.matches("HTTP/1.1 102 Processing\r\n").count(), BODY_BYTES / (64 * 1024));
        assert!(got.ends_with("thanks"), "{got}");
    }));
}

#[test]
fn informational_responses_that_come_too_fast_wait_and_none_is_a_502() {
    const COUNT: usize = 2 * limits::INTERIM_RESPONSES_PER_SEC_MAX as usize + 1;
    // Not kept: there is a line for each.
    conversation("a flood of informational responses", 73, 20, |world| {
        start(world, |request| {
            let interim = match request.target.as_str() {
                "/many" => "HTTP/1.1 102 Processing\r\n\r\n".into(),
                _ => format!("HTTP/1.1 103 Early Hints\r\nLink: </{}>\r\n\r\n", "a".repeat(10_000)),
            };
            let count = if request.target == "/many" { COUNT } else { 201 };
            [vec![Act::send(interim.repeat(count))], ok("done")].concat()
        });
        for target in ["/many", "/large"] {
            let visitor = ask(world, get(target));
            world.run_ms(2_000);
            let got = String::from_utf8(world.received(visitor)).unwrap();
            assert!(got.starts_with("HTTP/1.1 10") && !got.contains("200 OK"), "{target}: it waits");
            world.run_ms(200);
            let got = String::from_utf8(world.received(visitor)).unwrap();
            assert!(got.ends_with("done"), "{target}");
        }
    });
}

#[test]
fn a_100_arrives_whatever_follows_it_at_once() {
    assert_snapshot!(conversation("a 100 and a 102 in one piece", 74, 20, |world| {
        start(world, |_| {
            let both = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
            [vec![Act::send(both), Act::AwaitBody], ok("thanks")].concat()
        });
        let visitor = ask(
            world,
            "POST /up HTTP/1.1\r\nHost: example.org\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        );
        world.run_ms(100);
        assert!(world.received(visitor).starts_with(b"HTTP/1.1 100 "));
        world.send(visitor, "hello");
        world.run_ms(100);
        assert!(world.received(visitor).ends_with(b"thanks"));
    }));
}

#[test]
fn a_final_answer_instead_of_a_100_ends_the_connection() {
    assert_snapshot!(conversation("an answer instead of a 100", 57, 20, |world| {
        start(world, |_| vec![Act::send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")]);
        let visitor = ask(
            world,
            "POST /up HTTP/1.1\r\nHost: example.org\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        );
        world.run_ms(100);
        let got = got(world, visitor);
        assert_eq!((got.status, got.body.as_slice()), (403, &b"no"[..]));
        assert!(got.has("Connection: close"), "whether the body still comes is anyone's guess: {}", got.head);
        assert_eq!(world.ended(visitor), Some(true));
    }));
}

// ---- upgrades ------------------------------------------------------------------------------------------------------

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[test]
fn an_upgraded_connection_is_opaque_both_ways_and_ends_one_way_at_a_time() {
    assert_snapshot!(conversation("a WebSocket", 18, 20, |world| {
        start(world, |_| {
            vec![
                Act::send(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nwelcome",
                ),
                Act::Echo,
            ]
        });
        let visitor = ask(world, [UPGRADE, "early"].concat());
        world.run_ms(100);
        let got = got(world, visitor);
        assert_eq!(got.status, 101);
        assert!(got.has("Connection: Upgrade") && got.has("Upgrade: websocket"), "{}", got.head);
        assert_eq!(got.body, b"welcomeearly");
        world.send(visitor, b"\x81\x00GET / HTTP/1.1\r\n\r\n");
        world.run_ms(100);
        assert_eq!(world.received(visitor), b"\x81\x00GET / HTTP/1.1\r\n\r\n");
        // No idle limit of ours.
        world.run_ms(90_000);
        world.send(visitor, "last words");
        world.send_end(visitor);
        assert_eq!(world.ended(visitor), None);
        world.run_ms(100);
        assert_eq!(world.received(visitor), b"last words", "the other way was still open");
        assert_eq!(world.ended(visitor), Some(true));
        assert_eq!(world.app_connections("target-1"), 0);
    }));
}

#[test]
fn the_app_may_be_the_first_to_end_an_upgraded_connection() {
    assert_snapshot!(conversation("an app that ends its half first", 19, 20, |world| {
        start(world, |_| {
            vec![
                Act::send(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                ),
                Act::send("goodbye"),
                Act::Finish,
            ]
        });
        let visitor = ask(world, UPGRADE);
        world.run_ms(100);
        assert_eq!(got(world, visitor).body, b"goodbye");
        assert_eq!(world.ended(visitor), Some(true), "FIN came");
        world.send(visitor, "still here");
        world.run_ms(100);
        assert_eq!(world.app_connections("target-1"), 1, "and the other way is open");
        world.send_end(visitor);
        world.run_ms(100);
        assert_eq!(world.app_connections("target-1"), 0);
    }));
}

#[test]
fn an_upgrade_that_the_app_refuses_leaves_an_ordinary_connection() {
    assert_snapshot!(conversation("an upgrade that is refused", 20, 20, |world| {
        start(world, |request| match request.target.as_str() {
            "/chat" => vec![Act::send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")],
            _ => ok("hello"),
        });
        let visitor = ask(world, UPGRADE);
        world.run_ms(100);
        assert_eq!(answer(world, visitor), (403, "no".into()));
        world.send(visitor, get("/"));
        world.run_ms(100);
        assert_eq!(answer(world, visitor), (200, "hello".into()));
        assert_eq!(world.app_connections("target-1"), 1, "one connection served both");
    }));
}

/// Asks for an upgrade behind a body that is framed so.
fn upgrade_with(framing: &str, body: &str) -> String {
    format!(
        "POST /exec HTTP/1.1\r\nHost: example.org\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n{framing}\r\n\r\n{body}"
    )
}

const SWITCHES: &str = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

#[test]
fn a_request_with_a_body_may_ask_for_an_upgrade() {
    assert_snapshot!(conversation("upgrades behind a body", 75, 20, |world| {
        start(world, |_| vec![Act::AwaitBody, Act::send(SWITCHES), Act::Echo]);
        for (framing, body, rest) in [
            ("Content-Length: 10", "{\"Tty\"", ":1} early"),
            ("Transfer-Encoding: chunked", "6\r\n{\"Tty\"\r\n4", "\r\n:1} \r\n0\r\nA: b\r\n\r\nearly"),
        ] {
            let visitor = ask(world, upgrade_with(framing, body));
            world.run_ms(100);
            assert!(world.received(visitor).is_empty(), "the body comes first");
            world.send(visitor, rest);
            world.run_ms(100);
            let got = got(world, visitor);
            assert_eq!((got.status, got.body.as_slice()), (101, &b"early"[..]));
            world.send(visitor, "ls\n");
            world.run_ms(100);
            assert_eq!(world.received(visitor), b"ls\n");
            world.send_end(visitor);
            world.run_ms(100);
            assert_eq!((world.ended(visitor), world.app_connections("target-1")), (Some(true), 0));
        }
        let requests = world.requests("target-1");
        let head = |nth: usize| requests[nth].head.to_ascii_lowercase();
        assert!(requests.iter().all(|request| request.whole));
        assert_eq!([&requests[0].body[..], &requests[1].body[..]], [b"{\"Tty\":1} "; 2]);
        assert!(head(0).contains("\r\nupgrade: tcp\r\n") && head(0).contains("\r\ncontent-length: 10\r\n"));
        assert!(
            head(1).contains("\r\nupgrade: tcp\r\n")
                && head(1).contains("\r\ntransfer-encoding: chunked\r\n")
        );
    }));
}

#[test]
fn an_upgrade_behind_a_long_body_flows_through_its_windows() {
    const BODY_BYTES: usize = 500_000;
    // Not kept: what matters is that all of it arrives.
    conversation("an upgrade behind a long body", 76, 20, |world| {
        start(world, |_| vec![Act::StopReadingMs(3_000), Act::AwaitBody, Act::send(SWITCHES), Act::Echo]);
        let body = pattern(BODY_BYTES);
        for chunk in [None, Some(1), Some(100), Some(70_000)] {
            let framed = match chunk {
                None => body.clone(),
                Some(size) => {
                    let count = if size == 1 { 20_000 } else { BODY_BYTES };
                    let chunks = body[..count].chunks(size);
                    let framed =
                        chunks.map(|one| [format!("{:x}\r\n", one.len()).as_bytes(), one, b"\r\n"].concat());
                    [framed.collect::<Vec<_>>().concat(), b"0\r\n\r\n".to_vec()].concat()
                }
            };
            let framing = match chunk {
                None => format!("Content-Length: {BODY_BYTES}"),
                Some(_) => "Transfer-Encoding: chunked".into(),
            };
            let visitor = ask(world, upgrade_with(&framing, ""));
            world.send(visitor, framed);
            world.send(visitor, "into the tunnel");
            world.run_ms(6_000);
            let got = got(world, visitor);
            assert_eq!((got.status, got.body.as_slice()), (101, &b"into the tunnel"[..]), "{chunk:?}");
            let request = world.requests("target-1").last().unwrap();
            assert!(request.whole && body.starts_with(&request.body), "{chunk:?}");
            world.send_end(visitor);
            world.run_ms(100);
        }
    });
}

#[test]
fn an_upgrade_behind_a_body_that_is_refused_leaves_an_ordinary_connection() {
    assert_snapshot!(conversation("an upgrade behind a body is refused", 77, 20, |world| {
        start(world, |request| match request.target.as_str() {
            "/exec" => {
                vec![Act::AwaitBody, Act::send("HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\nno")]
            }
            _ => ok("hello"),
        });
        for asked in [
            upgrade_with("Content-Length: 2", "{}"),
            upgrade_with("Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r\n"),
        ] {
            let visitor = ask(world, asked);
            world.run_ms(100);
            assert_eq!(answer(world, visitor), (409, "no".into()));
            world.send(visitor, get("/"));
            world.run_ms(100);
            assert_eq!(answer(world, visitor), (200, "hello".into()));
            assert_eq!(world.app_connections("target-1"), 1, "one connection served both");
        }
    }));
}

#[test]
fn a_101_that_comes_before_the_body_is_whole_opens_the_tunnel_behind_it() {
    assert_snapshot!(conversation("a 101 before the body", 78, 20, |world| {
        start(world, |_| vec![Act::send(SWITCHES), Act::AwaitBody, Act::Echo]);
        for (framing, rest) in
            [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")]
        {
            let visitor = ask(world, upgrade_with(framing, ""));
            world.run_ms(100);
            assert_eq!(got(world, visitor).status, 101);
            world.send(visitor, rest);
            world.run_ms(100);
            world.send(visitor, "there");
            world.run_ms(100);
            assert_eq!(world.received(visitor), b"there");
            assert_eq!(world.requests("target-1").last().unwrap().body, b"hello");
            world.send_end(visitor);
            world.run_ms(100);
            assert_eq!((world.ended(visitor), world.app_connections("target-1")), (Some(true), 0));
        }
    }));
}

#[test]
fn an_early_answer_to_an_upgrade_behind_a_body_ends_the_connection() {
    assert_snapshot!(conversation("an answer before the body of an upgrade", 79, 20, |world| {
        start(world, |_| vec![Act::send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")]);
        let visitor = ask(world, upgrade_with("Content-Length: 10", "hello"));
        world.run_ms(100);
        let got = got(world, visitor);
        assert_eq!((got.status, got.body.as_slice()), (403, &b"no"[..]));
        assert!(got.has("Connection: close"), "{}", got.head);
        assert_eq!((world.ended(visitor), world.app_connections("target-1")), (Some(true), 0));
        let short = ask(world, upgrade_with("Content-Length: 10", "hello"));
        world.send_end(short);
        world.run_ms(100);
        assert!(world.ended(short).is_some(), "half a body is none");
    }));
}

// ---- who serves ----------------------------------------------------------------------------------------------------

fn start_many(world: &mut World, count: u32) {
    world.start_gateway(as_usual);
    for nth in 1..=count {
        let target = format!("target-{nth}");
        world.start_app(&target, {
            let target = target.clone();
            move |_| [vec![Act::AwaitBody], ok(target.clone())].concat()
        });
        world.start_connector(&format!("connector-{nth}"), &target, as_usual);
        world.run_ms(1);
    }
    world.run_ms(200);
}

#[test]
fn connectors_take_turns() {
    assert_snapshot!(conversation("three connectors take turns", 21, 20, |world| {
        start_many(world, 3);
        let visitor = world.visit();
        let mut served = Vec::new();
        for _ in 0..6 {
            world.send(visitor, get("/"));
            world.run_ms(50);
            served.push(answer(world, visitor).1);
        }
        assert_eq!(served, ["target-1", "target-2", "target-3", "target-1", "target-2", "target-3"]);
    }));
}

#[test]
fn a_connector_that_watches_gets_each_list_of_connectors_and_others_get_none() {
    assert_snapshot!(conversation("one of two connectors watches who is joined", 26, 20, |world| {
        world.start_gateway(as_usual);
        for (name, watches) in [("connector-1", true), ("connector-2", false)] {
            world.start_app(name, |_request| Vec::new());
            world.start_connector(name, name, |config| config.watches_peers(watches));
            world.run_ms(500);
        }
        world.run_ms(1000);
        world.drain("connector-2");
        world.run_ms(2000);
    }));
}

#[test]
fn what_reached_no_app_goes_to_another_connector() {
    assert_snapshot!(conversation("an app that is down beside one that is up", 22, 20, |world| {
        start_many(world, 2);
        world.set_app_up("target-1", false);
        let visitor = ask(world, post("/pay", b"100 coins"));
        world.run_ms(200);
        assert_eq!(answer(world, visitor), (200, "target-2".into()));
        assert_eq!(world.requests("target-2")[0].body, b"100 coins");
    }));
}

#[test]
fn what_was_never_sealed_goes_to_another_connector() {
    assert_snapshot!(conversation("a link that is full and then lost", 53, 20, |world| {
        start_many(world, 1);
        // Nothing passes, and in the end the link's socket takes no more.
        world.trouble("connector-1", LinkTrouble::Clog);
        let uploads = [0; 6].map(|_| ask(world, post("/upload", &pattern(60_000))));
        world.run_ms(100);
        let pays = ask(world, post("/pay", b"100 coins"));
        world.run_ms(100);
        world.start_app("target-2", |_| [vec![Act::AwaitBody], ok("target-2")].concat());
        world.start_connector("connector-2", "target-2", as_usual);
        world.run_ms(200);
        world.trouble("connector-1", LinkTrouble::Reset);
        world.run_ms(200);
        assert_eq!(answer(world, pays), (200, "target-2".into()));
        assert_eq!(world.requests("target-2")[0].body, b"100 coins");
        for visitor in uploads {
            assert_eq!(got(world, visitor).status, 502, "of what was sealed nobody knows whether it arrived");
        }
    }));
}

#[test]
fn a_get_survives_the_loss_of_a_connector_and_a_post_does_not() {
    assert_snapshot!(conversation("a link is lost beside another one", 23, 20, |world| {
        start_many(world, 2);
        let silent = |_: &AppRequest| vec![Act::WaitMs(60_000)];
        world.start_app("target-1", silent);
        let asks = ask(world, get("/report"));
        world.run_ms(30);
        world.trouble("connector-1", LinkTrouble::Reset);
        world.run_ms(100);
        assert_eq!(answer(world, asks), (200, "target-2".into()));
        world.run_ms(2_000);

        let pays = ask(world, post("/pay", b"100 coins"));
        world.run_ms(30);
        world.trouble("connector-1", LinkTrouble::Reset);
        world.run_ms(100);
        let got = got(world, pays);
        assert_eq!(got.status, 502);
        assert_eq!(targets(world, "target-1"), ["GET /report", "POST /pay"]);
        assert_eq!(targets(world, "target-2"), ["GET /report"], "what an app may have had goes to no other");
    }));
}

// ---- what goes wrong -----------------------------------------------------------------------------------------------

/// A connector's link breaks, the one way or the other, and the connector is back.
fn lose(world: &mut World, killed: bool) {
    if killed {
        world.kill("connector-1");
    } else {
        world.trouble("connector-1", LinkTrouble::Reset);
    }
    world.run_ms(100);
}

fn come_back(world: &mut World, killed: bool) {
    if killed {
        world.start_connector("connector-1", "target-1", as_usual);
    }
    world.run_ms(2_000);
}

#[test]
fn a_connector_lost_before_the_response_is_a_502() {
    assert_snapshot!(conversation("a connector is lost before the response", 24, 20, |world| {
        start(world, |_| [vec![Act::WaitMs(500)], ok("late")].concat());
        for killed in [false, true] {
            let visitor = ask(world, get("/"));
            world.run_ms(100);
            lose(world, killed);
            assert_eq!(got(world, visitor).status, 502);
            assert_eq!(world.ended(visitor), None, "the visitor's connection is whole");
            assert_eq!(world.app_connections("target-1"), 0, "nobody waits for the app");
            come_back(world, killed);
        }
    }));
}

#[test]
fn a_connector_lost_during_the_response_cuts_it() {
    assert_snapshot!(conversation("a connector is lost during the response", 25, 20, |world| {
        start(world, |_| {
            vec![
                Act::send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
                Act::WaitMs(500),
                Act::send("world"),
            ]
        });
        for killed in [false, true] {
            let visitor = ask(world, get("/"));
            world.run_ms(100);
            lose(world, killed);
            assert_eq!(answer(world, visitor), (200, "hello".into()));
            assert_eq!(world.ended(visitor), Some(false), "a visitor can tell it from a whole response");
            assert_eq!(world.app_connections("target-1"), 0);
            come_back(world, killed);
        }
    }));
}

#[test]
fn a_connector_lost_after_the_response_takes_nothing_of_it_away() {
    assert_snapshot!(conversation("a connector is lost after the response", 26, 20, |world| {
        start(world, |_| ok(pattern(400_000)));
        for killed in [false, true] {
            let visitor = ask(world, get("/"));
            world.run_ms(45);
            world.set_reading(visitor, false);
            world.run_ms(1_000);
            lose(world, killed);
            world.set_reading(visitor, true);
            world.run_ms(100);
            let got = got(world, visitor);
            assert_eq!(got.status, 200);
            assert!(got.body == pattern(400_000), "what was delivered whole stays whole");
            assert_eq!(world.ended(visitor), None);
            come_back(world, killed);
        }
    }));
}

#[test]
fn an_app_that_is_down_is_a_502_at_once() {
    assert_snapshot!(conversation("an app that is down", 27, 20, |world| {
        start(world, |_| ok("hello"));
        world.set_app_up("target-1", false);
        let visitor = ask(world, get("/"));
        world.run_ms(50);
        let refused = got(world, visitor);
        assert_eq!(refused.status, 502);
        let text = String::from_utf8(refused.body).unwrap();
        assert!(text.contains("The app cannot be reached.") && !text.contains("target"), "{text}");
        world.set_app_up("target-1", true);
        world.send(visitor, get("/"));
        world.run_ms(100);
        assert_eq!(answer(world, visitor), (200, "hello".into()), "on the same connection");
    }));
}

#[test]
fn an_app_that_is_not_http_or_breaks_off_is_a_502() {
    assert_snapshot!(conversation("apps that break the rules", 28, 20, |world| {
        start(world, |request| match request.target.as_str() {
            "/not-http" => vec![Act::send("SSH-2.0-OpenSSH_9.6\r\n\r\n")],
            "/two-lengths" => {
                vec![Act::send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")]
            }
            "/unasked-101" => vec![Act::send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")],
            "/closes" => vec![Act::Close],
            "/resets" => vec![Act::Reset],
            "/half-a-head" => vec![Act::send("HTTP/1.1 200 OK\r\nContent-"), Act::Close],
            "/too-long" => vec![Act::send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more")],
            _ => vec![
                Act::send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
                Act::WaitMs(10),
                Act::Close,
            ],
        });
        for target in ["/not-http", "/two-lengths", "/unasked-101", "/closes", "/resets", "/half-a-head"] {
            let visitor = ask(world, get(target));
            world.run_ms(100);
            let got = got(world, visitor);
            assert_eq!(got.status, 502, "{target}");
            assert!(String::from_utf8(got.body).unwrap().contains("The app broke off"), "{target}");
        }
        let whole = ask(world, get("/too-long"));
        world.run_ms(100);
        assert_eq!(answer(world, whole), (200, "hello".into()));
        let cut = ask(world, get("/too-short"));
        world.run_ms(100);
        assert_eq!(answer(world, cut), (200, "hello".into()));
        assert_eq!(world.ended(cut), Some(false));
        assert_eq!(world.app_connections("target-1"), 0, "none of these connections is used again");
    }));
}

#[test]
fn a_careless_app_is_understood_and_each_of_its_connections_used_once() {
    assert_snapshot!(conversation(
        "apps with bare LFs, white space before colons, and no coding",
        57,
        20,
        |world| {
            start(world, |request| match request.target.as_str() {
                "/cgi" => vec![Act::send("HTTP/1.0 200 OK\r\nContent-Type: text/plain\n\nhello"), Act::Close],
                "/device" => vec![
                    Act::send(
                        "HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nServer : x\nContent-Length: 5\n\nhello",
                    ),
                    Act::WaitMs(30),
                    // Another reader sees a head go on where this one saw its end.
                    Act::send("X: y\n\nHTTP/1.1 200 OK\nContent-Length: 8\n\nsmuggled"),
                ],
                "/identity" => {
                    vec![Act::send("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello"), Act::Close]
                }
                _ => ok("next"),
            });
            for target in ["/cgi", "/device", "/identity"] {
                let visitor = ask(world, get(target));
                // The answer is whole, and what follows it is still on its way.
                world.run_ms(70);
                let next = ask(world, get("/next"));
                world.run_ms(200);
                assert_eq!(answer(world, next), (200, "next".into()), "after {target}");
                let got = String::from_utf8(world.received(visitor).to_vec()).unwrap();
                let got = got.replace("HTTP/1.1 100 Continue\r\n\r\n", "");
                let (head, body) = got.split_once("\r\n\r\n").unwrap();
                assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{got}");
                assert!(!head.replace("\r\n", "").contains('\n'), "CRLF is sent on: {got}");
                assert!(["hello", "5\r\nhello\r\n0\r\n\r\n"].contains(&body), "{got}");
                assert_eq!(head.contains("\r\nServer: x\r\n"), target == "/device", "{got}");
            }
        }
    ));
}

#[test]
fn a_response_that_lasts_until_the_app_closes_is_whole_after_a_fin_and_cut_after_a_reset() {
    assert_snapshot!(conversation("responses without a length", 29, 20, |world| {
        start(world, |request| {
            let end = if request.target == "/fin" { Act::Close } else { Act::Reset };
            vec![Act::send("HTTP/1.1 200 OK\r\n\r\nhello"), Act::WaitMs(100), end]
        });
        let whole = ask(world, get("/fin"));
        world.run_ms(300);
        assert_eq!(answer(world, whole), (200, "5\r\nhello\r\n0\r\n\r\n".into()));
        assert_eq!(world.ended(whole), None);
        let cut = ask(world, get("/rst"));
        world.run_ms(300);
        assert_eq!(answer(world, cut), (200, "5\r\nhello\r\n".into()), "no last chunk");
        assert_eq!(world.ended(cut), Some(false));
    }));
}

#[test]
fn a_record_that_was_changed_on_the_way_ends_the_link_and_is_not_acted_on() {
    let ways = [Way::ToConnector, Way::ToGateway];
    for (name, trouble) in [
        ("flipped", LinkTrouble::FlipBit as fn(Way) -> LinkTrouble),
        ("repeated", LinkTrouble::Repeat),
        ("cut", LinkTrouble::Cut),
    ] {
        let transcript = conversation(&format!("records that are {name}"), 30, 20, |world| {
            start(world, |_| ok("hello"));
            for way in ways {
                let before = world.requests("target-1").len();
                let visitor = ask(world, post("/pay", b"100 coins"));
                // The request is on its way, or its response is.
                world.run_ms(if way == Way::ToConnector { 10 } else { 30 });
                world.trouble("connector-1", trouble(way));
                world.run_ms(2_000);
                let asked = world.requests("target-1").len() - before;
                let status = got(world, visitor).status;
                match (name, way) {
                    (_, Way::ToConnector) => assert_eq!((status, asked), (502, 0)),
                    // The first of the two was right, and with it the response was whole.
                    ("repeated", Way::ToGateway) => assert_eq!((status, asked), (200, 1)),
                    (_, Way::ToGateway) => assert_eq!((status, asked), (502, 1)),
                }
                let again = ask(world, get("/"));
                world.run_ms(100);
                assert_eq!(answer(world, again), (200, "hello".into()), "the connector joined again");
            }
        });
        assert_snapshot!(format!("records_that_are_{name}"), transcript);
    }
}

#[test]
fn a_connector_replaces_its_own_ghost_at_once() {
    assert_snapshot!(conversation("a link that a NAT forgot", 31, 20, |world| {
        start(world, |request| match request.target.as_str() {
            "/slow" => vec![Act::WaitMs(60_000)],
            _ => ok("hello"),
        });
        let [asks, pays] =
            [get("/").into_bytes(), post("/slow", b"100 coins")].map(|asked| ask(world, asked));
        world.run_ms(10);
        world.trouble("connector-1", LinkTrouble::Forget);
        world.run_ms(1_500);
        assert_eq!(count(world, "in place of its older link"), 1);
        assert_eq!(got(world, pays).status, 502, "the ghost's exchanges end with it, long before 25 s");
        world.run_ms(100);
        assert_eq!(answer(world, asks), (200, "hello".into()), "and what may be tried again is");
        assert_eq!(targets(world, "target-1"), ["GET /"]);
    }));
}

#[test]
fn a_ghost_whose_output_is_clogged_is_replaced_as_well() {
    assert_snapshot!(conversation("a ghost that is full", 32, 20, |world| {
        start(world, |_| [vec![Act::AwaitBody], ok("hello")].concat());
        world.trouble("connector-1", LinkTrouble::Clog);
        let visitors: Vec<Visitor> = (0..8).map(|_| ask(world, post("/upload", &pattern(60_000)))).collect();
        world.run_ms(1_000);
        world.trouble("connector-1", LinkTrouble::Forget);
        world.run_ms(2_000);
        assert_eq!(count(world, "in place of its older link"), 1);
        for visitor in visitors {
            assert_eq!(got(world, visitor).status, 502);
        }
    }));
}

#[test]
fn a_silent_link_ends_after_25_seconds() {
    assert_snapshot!(conversation("a link on which nothing passes any more", 33, 20, |world| {
        start(world, |_| ok("hello"));
        world.trouble("connector-1", LinkTrouble::Clog);
        let visitor = ask(world, get("/"));
        world.run_ms(24_900);
        assert!(world.received(visitor).is_empty());
        world.run_ms(100);
        assert_eq!(got(world, visitor).status, 502);
        world.run_ms(2_000);
        let again = ask(world, get("/"));
        world.run_ms(100);
        assert_eq!(answer(world, again), (200, "hello".into()), "the connector joined again");
    }));
}

/// (Seed 4896 of the simulator.)
#[test]
fn a_connection_that_the_app_closes_under_an_upgrade_request_costs_nothing() {
    assert_snapshot!(conversation("an app closes a connection that an upgrade meets", 63, 20, |world| {
        let mut nth = 0;
        start(world, move |_| {
            nth += 1;
            match nth {
                1 => ok("hello"),
                2 => vec![Act::Close],
                _ => vec![
                    Act::send(
                        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
                    ),
                    Act::Echo,
                ],
            }
        });
        let visitor = world.visit();
        world.send(visitor, get("/"));
        world.run_ms(100);
        assert_eq!(answer(world, visitor), (200, "hello".into()));
        world.send(
            visitor,
            "GET /up HTTP/1.1\r\nHost: example.org\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
        );
        world.run_ms(200);
        assert!(world.received(visitor).starts_with(b"HTTP/1.1 101 "), "once more on a fresh connection");
        assert_eq!(targets(world, "target-1"), ["GET /", "GET /up", "GET /up"]);
        world.send(visitor, "to the app and back");
        world.run_ms(200);
        assert!(world.received(visitor).ends_with(b"to the app and back"));
    }));
}

#[test]
fn what_an_app_may_have_had_goes_to_no_other_app_when_it_cannot_be_reached_again() {
    assert_snapshot!(conversation("an app closes under a DELETE and is gone", 62, 20, |world| {
        start_many(world, 1);
        world.start_app("target-1", |request| match request.method.as_str() {
            "DELETE" => vec![Act::Close],
            _ => ok("target-1"),
        });
        let first = ask(world, get("/"));
        world.run_ms(100);
        assert_eq!(answer(world, first), (200, "target-1".into()));
        world.start_app("target-2", |_| ok("target-2"));
        world.start_connector("connector-2", "target-2", as_usual);
        world.run_ms(200);
        let second = ask(world, get("/"));
        world.run_ms(100);
        let deletes = |world: &World, app| {
            world.requests(app).iter().filter(|request| request.method == "DELETE").count()
        };
        world.set_app_up("target-1", false);
        let visitors: Vec<Visitor> = (0..2)
            .map(|_| {
                let visitor = ask(world, "DELETE /1 HTTP/1.1\r\nHost: example.org\r\n\r\n");
                world.run_ms(100);
                visitor
            })
            .collect();
        assert_eq!(got(world, second).status, 200);
        let mut statuses: Vec<_> = visitors.into_iter().map(|visitor| got(world, visitor).status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 502], "each connector got one of them");
        assert_eq!((deletes(world, "target-1"), deletes(world, "target-2")), (1, 1));
    }));
}

#[test]
fn a_connector_that_does_not_answer_is_passed_over_until_it_does() {
    assert_snapshot!(conversation("a connector that freezes for a while", 61, 20, |world| {
        start_many(world, 2);
        world.set_frozen("connector-1", true);
        let waits = ask(world, get("/"));
        world.run_ms(5_100);
        let others: Vec<Visitor> = (0..4).map(|_| ask(world, get("/"))).collect();
        world.run_ms(100);
        for visitor in others {
            assert_eq!(answer(world, visitor), (200, "target-2".into()));
        }
        world.set_frozen("connector-1", false);
        world.run_ms(100);
        assert_eq!(answer(world, waits), (200, "target-1".into()), "it was late, and is whole");
        let both: Vec<Visitor> = (0..2).map(|_| ask(world, get("/"))).collect();
        world.run_ms(100);
        let mut answers: Vec<_> = both.into_iter().map(|visitor| answer(world, visitor).1).collect();
        answers.sort();
        assert_eq!(answers, ["target-1", "target-2"]);
    }));
}

// ---- side by side --------------------------------------------------------------------------------------------------

#[test]
fn a_slow_visitor_delays_nobody_else() {
    const BIG: usize = 900 * 1024;
    assert_snapshot!(conversation("a slow visitor beside a fast one", 34, 20, |world| {
        start(world, |request| match request.target.as_str() {
            "/big" => ok(pattern(BIG)),
            _ => ok("hello"),
        });
        let slow = world.visit();
        world.set_reading(slow, false);
        world.send(slow, get("/big"));
        world.run_ms(5_000);
        let sent = |world: &mut World| {
            let transcript = world.transcript();
            transcript.lines().filter(|line| line.contains("DATA x1")).count()
        };
        let before = sent(world);
        let fast = ask(world, get("/small"));
        world.run_ms(50);
        assert_eq!(answer(world, fast), (200, "hello".into()), "in one round trip");
        world.send(fast, get("/big"));
        world.run_ms(1_000);
        assert!(got(world, fast).body == pattern(BIG));
        assert_eq!(sent(world), before, "nothing more was sent to the slow one");
        world.set_reading(slow, true);
        world.run_ms(2_000);
        assert!(got(world, slow).body == pattern(BIG), "which has all of it in the end");
    }));
}

#[test]
fn two_large_responses_share_a_link_evenly_and_a_small_one_overtakes_them() {
    const BIG: usize = 700 * 1024;
    assert_snapshot!(conversation("two exchanges at once", 35, 20, |world| {
        start(world, |request| match request.target.as_str() {
            "/small" => ok("hello"),
            _ => ok(pattern(BIG)),
        });
        let first = ask(world, get("/first"));
        let second = ask(world, get("/second"));
        world.run_ms(60);
        let small = ask(world, get("/small"));
        world.run_ms(61);
        assert_eq!(
            answer(world, small),
            (200, "hello".into()),
            "a round trip, and what the kernels had before"
        );
        let [one, other] = [first, second].map(|visitor| world.received(visitor).len());
        assert!(one > 0 && one.abs_diff(other) <= 64 * 1024, "{one} B and {other} B");
        world.run_ms(1_000);
        for (visitor, head) in [(first, one), (second, other)] {
            let rest = world.received(visitor);
            assert!(head + rest.len() > BIG && pattern(BIG).ends_with(&rest));
        }
    }));
}

// ---- when someone leaves or is too early ---------------------------------------------------------------------------

#[test]
fn an_answer_before_the_request_is_whole_is_delivered_and_ends_the_connection() {
    assert_snapshot!(conversation("a 413 before the body is whole", 36, 20, |world| {
        start(world, |_| {
            vec![Act::send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo much")]
        });
        let visitor =
            ask(world, "POST /upload HTTP/1.1\r\nHost: example.org\r\nContent-Length: 3000000\r\n\r\n");
        for _ in 0..10 {
            world.send(visitor, vec![b'x'; 1_000]);
            world.run_ms(20);
        }
        let got = got(world, visitor);
        assert_eq!((got.status, got.body.as_slice()), (413, &b"too much"[..]));
        assert!(got.has("Connection: close"), "{}", got.head);
        assert_eq!(
            world.ended(visitor),
            Some(true),
            "what still comes is read, so that no reset destroys the answer"
        );
        assert_eq!(world.app_connections("target-1"), 0);
        world.run_ms(3_000);
        assert_eq!(world.ended(visitor), Some(true));
    }));
}

#[test]
fn an_early_answer_that_takes_its_time_arrives_whole() {
    assert_snapshot!(conversation("a long early answer", 37, 20, |world| {
        start(world, |_| {
            vec![
                Act::send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo "),
                Act::WaitMs(100),
                Act::send("much"),
            ]
        });
        let visitor =
            ask(world, "POST /upload HTTP/1.1\r\nHost: example.org\r\nContent-Length: 3000000\r\n\r\n");
        for _ in 0..20 {
            world.send(visitor, vec![b'x'; 1_000]);
            world.run_ms(20);
        }
        assert_eq!(answer(world, visitor), (413, "too much".into()));
        assert_eq!(world.ended(visitor), Some(true));
    }));
}

#[test]
fn an_early_answer_reaches_a_visitor_that_writes_all_of_its_body_before_it_reads() {
    const BODY_BYTES: usize = 4 << 20;
    assert_snapshot!(conversation("4 MiB that are written before a 413 is read", 71, 20, |world| {
        start(world, |_| {
            vec![
                Act::StopReadingMs(60_000),
                Act::send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 300000\r\n\r\n"),
                Act::Send(pattern(300_000)),
            ]
        });
        let visitor = world.visit();
        world.set_reading(visitor, false);
        world.send(visitor, post("/upload", &pattern(BODY_BYTES)));
        world.run_ms(2_000);
        assert_eq!(world.unsent(visitor), 0, "all of it is read, although nobody wants it");
        world.set_reading(visitor, true);
        world.run_ms(1_000);
        let got = got(world, visitor);
        assert!(
            got.status == 413 && got.body == pattern(300_000) && got.has("Connection: close"),
            "{}",
            got.head
        );
        assert_eq!(world.ended(visitor), Some(true));
    }));
}

#[test]
fn a_visitor_that_leaves_takes_its_exchange_along() {
    assert_snapshot!(conversation("a visitor leaves during the response", 38, 20, |world| {
        start(world, |_| {
            vec![Act::send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"), Act::WaitMs(60_000)]
        });
        let visitor = ask(world, get("/"));
        world.run_ms(100);
        assert_eq!(answer(world, visitor), (200, "hello".into()));
        assert_eq!(world.app_connections("target-1"), 1);
        world.leave(visitor);
        world.run_ms(50);
        assert_eq!(world.app_connections("target-1"), 0, "the app's connection is closed, not kept");
        assert!(world.is_at_rest("connector-1"));
    }));
}

#[test]
fn a_visitor_that_leaves_while_the_app_is_being_dialled_never_bothers_it() {
    assert_snapshot!(conversation("a visitor leaves while the app is dialled", 39, 20, |world| {
        start(world, |_| ok("hello"));
        world.set_app_dial_ms("target-1", 200);
        let visitor = ask(world, post("/pay", b"100 coins"));
        world.run_ms(100);
        world.leave(visitor);
        world.run_ms(500);
        assert_eq!(world.requests("target-1").len(), 0);
        assert!(world.is_at_rest("connector-1"));
    }));
}

#[test]
fn a_visitor_that_leaves_before_its_request_was_sealed_does_not_harm_the_link() {
    assert_snapshot!(conversation("a visitor leaves while the link is busy", 40, 20, |world| {
        start(world, |_| [vec![Act::AwaitBody], ok("hello")].concat());
        // Uploads that fill the link: its socket takes no more for a moment.
        let uploads: Vec<Visitor> = (0..6).map(|_| ask(world, post("/upload", &pattern(60_000)))).collect();
        world.run_ms(1);
        let hasty = [UPGRADE.to_owned(), get("/hasty")].map(|asked| ask(world, asked));
        world.run_ms(1);
        for visitor in hasty {
            world.leave(visitor);
        }
        world.run_ms(1_000);
        for visitor in uploads {
            assert_eq!(answer(world, visitor), (200, "hello".into()));
        }
        assert_eq!(count(world, "leave "), 0, "the link lives");
    }));
}

#[test]
fn a_visitor_that_sends_no_more_still_gets_its_answer() {
    assert_snapshot!(conversation("a visitor that half-closes", 41, 20, |world| {
        start(world, |_| [vec![Act::WaitMs(100)], ok("hello")].concat());
        let whole = ask(world, get("/"));
        world.send_end(whole);
        world.run_ms(300);
        assert_eq!(answer(world, whole), (200, "hello".into()));
        assert_eq!(world.ended(whole), Some(true));
        let half = ask(world, "POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 10\r\n\r\nhello");
        world.send_end(half);
        world.run_ms(300);
        assert_eq!(got(world, half).status, 400, "but half a request is none");
        assert_eq!(world.ended(half), Some(true));
    }));
}

#[test]
fn a_visitor_that_closes_while_the_app_is_quiet_is_told_to_the_app_after_two_seconds() {
    assert_snapshot!(conversation("visitors that close while the app is quiet", 64, 20, |world| {
        start(world, |request| match request.target.as_str() {
            "/events" => vec![
                Act::send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n"),
                Act::WaitMs(60_000),
            ],
            _ => vec![Act::WaitMs(60_000)],
        });
        // One waits for the next event, one for an answer, one for a 101 and one for the answer to an upload.
        let upgrade = [UPGRADE, "early"].concat();
        for (nth, request) in
            [get("/events").into(), get("/poll").into(), upgrade.into(), post("/report", b"all of it")]
                .into_iter()
                .enumerate()
        {
            let visitor = ask(world, request);
            world.run_ms(3_000);
            assert_eq!((world.app_connections("target-1"), world.ended(visitor)), (1, None), "nobody leaves");
            world.send_end(visitor);
            world.run_ms(1_900);
            assert_eq!(
                (world.app_connections("target-1"), world.ended(visitor)),
                (1, None),
                "perhaps it listens"
            );
            world.run_ms(150);
            assert_eq!(world.app_connections("target-1"), 0, "its app waits for nobody");
            let has_begun = !world.received(visitor).is_empty();
            assert_eq!(world.ended(visitor), Some(!has_begun), "a part is not taken for the whole");
            assert_eq!(count(world, "by connector-1: the visitor left"), nth + 1);
        }
    }));
}

#[test]
fn a_visitor_that_sends_no_more_has_all_of_an_answer_that_goes_on() {
    assert_snapshot!(conversation("an answer in pieces to a visitor that half-closes", 65, 20, |world| {
        start(world, |_| {
            let mut acts = vec![Act::send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")];
            for _ in 0..8 {
                acts.extend([Act::WaitMs(1_900), Act::send("x")]);
            }
            acts
        });
        let visitor = ask(world, get("/"));
        world.send_end(visitor);
        world.run_ms(16_000);
        assert_eq!(answer(world, visitor), (200, "xxxxxxxx".into()));
        assert_eq!(world.ended(visitor), Some(true));
    }));
}

#[test]
fn a_visitor_that_sends_no_more_may_read_as_slowly_as_any_other() {
    assert_snapshot!(conversation("a slow reader that half-closes", 66, 20, |world| {
        start(world, |_| ok(pattern(1_000_000)));
        let visitor = ask(world, get("/"));
        world.send_end(visitor);
        world.set_reading(visitor, false);
        world.run_ms(10_000);
        world.set_reading(visitor, true);
        world.run_ms(1_000);
        let got = got(world, visitor);
        assert!(got.status == 200 && got.body == pattern(1_000_000));
        assert_eq!(world.ended(visitor), Some(true));
    }));
}

#[test]
fn a_malformed_request_is_refused_and_no_app_sees_it() {
    assert_snapshot!(conversation("a malformed request", 42, 20, |world| {
        start(world, |_| ok("hello"));
        let visitor = ask(
            world,
            "POST /smuggle HTTP/1.1\r\nHost: example.org\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        // What is still on its way is read: a reset would destroy the answer.
        for _ in 0..5 {
            world.send(visitor, get("/smuggled"));
            world.run_ms(100);
        }
        let got = got(world, visitor);
        assert_eq!(got.status, 400);
        assert!(got.has("Connection: close"), "{}", got.head);
        assert_eq!(world.ended(visitor), Some(true));
        world.send_end(visitor);
        world.run_ms(10);
        assert_eq!(world.requests("target-1").len(), 0);
    }));
}

#[test]
fn a_refused_head_request_gets_no_body_as_soon_as_its_method_has_come() {
    assert_snapshot!(conversation("malformed HEAD requests", 58, 20, |world| {
        start(world, |_| ok("hello"));
        let long = format!("HEAD /{} HTTP/1.1\r\n", "a".repeat(limits::REQUEST_LINE_BYTES_MAX));
        let large = format!("HEAD / HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(limits::HEAD_BYTES_MAX));
        let of = |fields: &str| format!("HEAD / HTTP/1.1\r\nHost: example.org\r\n{fields}\r\n");
        let refused = [
            (400, "HEAD \0".to_owned()),
            (400, "\r\nHEAD / HTTP/1.1\r\n\r\n".to_owned()),
            (400, of("Content-Length: +1\r\n")),
            (408, "HEAD ".to_owned()),
            (414, long),
            (417, of("Expect: more\r\n")),
            (431, large),
            (501, of("Transfer-Encoding: gzip, chunked\r\n")),
            (505, "HEAD / HTTP/2.0\r\n".to_owned()),
            // After the head, and so by a method that is known.
            (400, of("Transfer-Encoding: chunked\r\n") + "x"),
        ];
        for (status, request) in refused {
            let visitor = ask(world, request);
            world.run_ms(if status == 408 { 10_100 } else { 100 });
            let got = got(world, visitor);
            assert_eq!((got.status, &*got.body), (status, &b""[..]), "{}", got.head);
            assert!(
                got.head.contains("\r\nContent-Length: "),
                "the length of what a GET would get: {}",
                got.head
            );
            world.send_end(visitor);
        }
        for request in ["HEAD", "HEAD\0", "head / HTTP/1.1\r\n\r\n", "HEADS / HTTP/1.1\r\n\r\n"] {
            let visitor = ask(world, request);
            world.run_ms(10_100);
            assert_ne!(got(world, visitor).body, b"", "{request:?} is another method, or may become one");
            world.send_end(visitor);
        }
        assert_eq!(world.requests("target-1").len(), 0);
    }));
}

/// The page of Rails for a host that it does not know, as long as in Rails 8.
fn blocked_hosts(host: &str) -> Vec<u8> {
    let style = "a".repeat(6400);
    let body = format!(
        "<style>{style}</style><h1>Blocked hosts: {host}</h1><pre>config.hosts &lt;&lt; &quot;{host}&quot;</pre>"
    );
    let head = "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html; charset=utf-8\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Starts an app whose connector rewrites its name.
fn start_rewriting(world: &mut World, handler: impl FnMut(&AppRequest) -> Vec<Act> + 'static) {
    world.start_gateway(as_usual);
    world.start_app("target-1", handler);
    world.start_connector("connector-1", "target-1", |config| config.host_rule(HostRule::Rewrite));
    world.run_ms(200);
}

#[test]
fn an_app_that_refuses_the_visitors_name_is_asked_once_more_without_it_and_never_hears_it_again() {
    assert_snapshot!(conversation("an app like Rails", 31, 20, |world| {
        start_rewriting(world, |request| match request.head.contains("X-Forwarded-Host") {
            true => {
                let page = blocked_hosts("example.org");
                let (first, second) = page.split_at(3000);
                vec![Act::send(first), Act::WaitMs(300), Act::send(second)]
            }
            false => ok("hello"),
        });
        let posts = ask(world, post("/form", b"a=b"));
        world.run_ms(500);
        assert_eq!(got(world, posts).status, 403, "a POST is not sent twice");
        assert_eq!(count(world, "refuses the visitor's name"), 1);

        let gets = ask(world, get("/"));
        world.run_ms(500);
        assert_eq!(answer(world, gets), (200, "hello".into()));
        assert_eq!(targets(world, "target-1"), ["POST /form", "GET /"]);
    }));
}

#[test]
fn requests_that_are_refused_for_the_visitors_name_at_once_are_all_asked_once_more() {
    assert_snapshot!(conversation("an app like Rails, twice at once", 32, 20, |world| {
        start_rewriting(world, |request| match request.head.contains("X-Forwarded-Host") {
            true => vec![Act::WaitMs(50), Act::Send(blocked_hosts("example.org"))],
            false => ok("hello"),
        });
        let visitors = [ask(world, get("/1")), ask(world, get("/2"))];
        world.run_ms(500);
        for visitor in visitors {
            assert_eq!(answer(world, visitor), (200, "hello".into()));
        }
        assert_eq!(world.requests("target-1").len(), 4);
        assert_eq!(count(world, "refuses the visitor's name"), 1, "it is said once");
    }));
}

#[test]
fn another_403_goes_on_as_it_is_and_waits_a_second_at_most() {
    assert_snapshot!(conversation("other refusals", 33, 20, |world| {
        let head = |length: usize| {
            format!("HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n")
        };
        start_rewriting(world, move |request| match request.target.as_str() {
            "/short" => vec![Act::send(head(2) + "no")],
            "/slow" => vec![Act::send(head(4) + "no"), Act::WaitMs(5000), Act::send("no")],
            "/cut" => vec![Act::send(head(4) + "no"), Act::Reset],
            "/long" => vec![Act::send(head(1 << 20)), Act::Fill(20_000), Act::WaitMs(9000), Act::Reset],
            // The page that says that Host itself is not known, which asking again would not change.
            _ => vec![Act::Send(blocked_hosts("localhost:3000"))],
        });
        let short = ask(world, get("/short"));
        world.run_ms(100);
        assert_eq!(answer(world, short), (403, "no".into()));
        let slow = ask(world, get("/slow"));
        world.run_ms(900);
        assert!(world.received(slow).is_empty());
        world.run_ms(300);
        assert_eq!(answer(world, slow), (403, "no".into()), "what there is");
        let cut = ask(world, get("/cut"));
        world.run_ms(100);
        assert_eq!(got(world, cut).status, 502);
        let long = ask(world, get("/long"));
        world.run_ms(200);
        assert_eq!(got(world, long).status, 403);
        let host = ask(world, get("/host"));
        world.run_ms(100);
        assert_eq!(got(world, host).status, 403);
        assert_eq!(world.requests("target-1").len(), 5);
        assert_eq!(count(world, "refuses the visitor's name"), 0);
    }));
}

#[test]
fn an_app_that_minds_its_name_is_noticed_once() {
    assert_snapshot!(conversation("an app that shows how it is called", 34, 20, |world| {
        let send = |status: &str, media: &str, body: &str| {
            let length = body.len();
            vec![Act::send(format!(
                "HTTP/1.1 {status} x\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n\r\n{body}"
            ))]
        };
        start_rewriting(world, move |request| match request.target.as_str() {
            "/image" => send("200", "image/png", "http://target-1/"),
            "/other" => send("200", "application/json", "{\"tarball\":\"http://target-11/a.tgz\"}"),
            "/vite" => send("403", "text/plain", "Blocked request. This host (\"x\") is not allowed."),
            _ => send("200", "application/json", "{\"tarball\":\"http://target-1/a.tgz\"}"),
        });
        let visitor = world.visit();
        for (target, hints) in
            [("/image", 0), ("/other", 0), ("/json", 1), ("/json", 1), ("/vite", 2), ("/vite", 2)]
        {
            world.send(visitor, get(target));
            world.run_ms(100);
            assert_eq!(count(world, "minds its name"), hints, "{target}");
        }
    }));
}

#[test]
fn options_that_may_go_no_further_are_answered_by_the_gateway() {
    assert_snapshot!(conversation("OPTIONS to the gateway", 30, 20, |world| {
        start(world, |_| ok("app"));
        let options =
            |hops: &str| format!("OPTIONS /x HTTP/1.1\r\nHost: example.org\r\nMax-Forwards: {hops}\r\n\r\n");
        let visitor = ask(world, options("0"));
        world.run_ms(100);
        let gateways = got(world, visitor);
        assert_eq!(gateways.status, 200);
        assert!(gateways.has("Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"), "{}", gateways.head);
        assert!(world.requests("target-1").is_empty());

        world.send(visitor, options("1"));
        world.run_ms(100);
        assert_eq!(answer(world, visitor), (200, "app".into()), "on the same connection");
        let head = &world.requests("target-1")[0].head;
        assert!(head.contains("\r\nMax-Forwards: 0\r\n"), "{head}");
    }));
}

#[test]
fn a_body_that_breaks_the_rules_half_way_is_refused() {
    assert_snapshot!(conversation("a malformed chunk", 43, 20, |world| {
        start(world, |_| [vec![Act::AwaitBody], ok("hello")].concat());
        let visitor = ask(
            world,
            "POST /up HTTP/1.1\r\nHost: example.org\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        );
        world.run_ms(50);
        world.send(visitor, "xyz\r\n");
        world.run_ms(100);
        assert_eq!(got(world, visitor).status, 400);
        assert_eq!(world.ended(visitor), Some(true));
        assert!(!world.requests("target-1")[0].whole, "the app can tell that it is not whole");
        assert_eq!(world.app_connections("target-1"), 0);
    }));
}

// ---- stopping in good order ----------------------------------------------------------------------------------------

#[test]
fn a_gateway_that_drains_finishes_what_is_open_and_starts_nothing() {
    assert_snapshot!(conversation("a gateway is asked to stop", 45, 20, |world| {
        start(world, |_| {
            vec![
                Act::send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
                Act::WaitMs(500),
                Act::send("world"),
            ]
        });
        let idle = world.visit();
        let visitor = ask(world, get("/"));
        world.run_ms(100);
        world.drain("gateway");
        world.run_ms(10);
        assert_eq!(world.ended(idle), Some(true), "nobody waits for an idle connection");
        let late = world.visit();
        world.run_ms(1_000);
        assert_eq!(answer(world, visitor), (200, "helloworld".into()));
        assert_eq!(world.ended(visitor), Some(true));
        assert_eq!(world.ended(late), Some(false));
        assert!(world.is_at_rest("gateway"));
    }));
}

#[test]
fn a_gateway_that_drains_turns_requests_away() {
    assert_snapshot!(conversation("a request to a gateway that stops", 46, 20, |world| {
        start(world, |_| ok("hello"));
        let half = ask(world, "GET / HTTP/1.1\r\n");
        world.run_ms(10);
        world.drain("gateway");
        world.run_ms(100);
        world.send(half, "Host: example.org\r\n\r\n");
        world.run_ms(100);
        let refused = got(world, half);
        assert_eq!(refused.status, 503);
        assert!(refused.has("Connection: close") && refused.has("Retry-After: 2"), "{}", refused.head);
        assert_eq!(world.requests("target-1").len(), 0);
    }));
}

#[test]
fn a_connector_that_drains_finishes_what_is_open_and_gets_nothing_new() {
    assert_snapshot!(conversation("a connector is asked to stop", 47, 20, |world| {
        start_many(world, 2);
        world.start_app("target-1", |_| [vec![Act::WaitMs(500)], ok("late")].concat());
        let visitor = ask(world, get("/"));
        world.run_ms(100);
        world.drain("connector-1");
        // One request is on its way to connector-1 when it says goodbye; it is given to the other one.
        let others: Vec<Visitor> = (0..3).map(|_| ask(world, get("/"))).collect();
        world.run_ms(1_000);
        assert_eq!(answer(world, visitor), (200, "late".into()));
        for other in others {
            assert_eq!(answer(world, other), (200, "target-2".into()));
        }
        assert_eq!(world.requests("target-1").len(), 1);
        assert!(world.is_at_rest("connector-1"));
    }));
}

#[test]
fn connectors_come_back_to_a_gateway_that_was_killed() {
    assert_snapshot!(conversation("a gateway is killed", 54, 20, |world| {
        start(world, |_| [vec![Act::WaitMs(500)], ok("hello")].concat());
        let visitor = ask(world, get("/"));
        world.run_ms(100);
        world.kill("gateway");
        world.run_ms(2_000);
        assert!(world.received(visitor).is_empty() && world.ended(visitor).is_some());
        world.start_gateway(as_usual);
        world.run_ms(2_000);
        let again = ask(world, get("/"));
        world.run_ms(1_000);
        assert_eq!(answer(world, again), (200, "hello".into()));
    }));
}

// ---- time ----------------------------------------------------------------------------------------------------------

#[test]
fn an_app_that_does_not_answer_is_a_504() {
    assert_snapshot!(conversation("an app that does not answer", 48, 20, |world| {
        world.start_gateway(|config: GatewayConfig| config.response_timeout(Duration::from_secs(5)));
        world.start_app("target-1", |_| vec![Act::WaitMs(60_000)]);
        world.start_connector("connector-1", "target-1", as_usual);
        world.run_ms(200);
        let visitor = ask(world, get("/"));
        world.run_ms(4_900);
        assert!(world.received(visitor).is_empty());
        world.run_ms(200);
        assert_eq!(got(world, visitor).status, 504);
        assert_eq!(world.app_connections("target-1"), 0, "nobody waits for the app");
    }));
}

#[test]
fn a_request_that_stalls_is_a_408() {
    assert_snapshot!(conversation("a request that stalls", 49, 20, |world| {
        start(world, |_| [vec![Act::AwaitBody], ok("hello")].concat());
        let head = ask(world, "GET / HTTP/1.1\r\nHost: exa");
        let body = ask(world, "POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 10\r\n\r\nhello");
        world.run_ms(59_900);
        assert_eq!(world.ended(body), None, "an upload may rest");
        world.run_ms(200);
        for visitor in [head, body] {
            let got = got(world, visitor);
            assert_eq!(got.status, 408);
            assert!(got.has("Connection: close"), "{}", got.head);
            assert_eq!(world.ended(visitor), Some(true));
        }
    }));
}

/// A gateway with short times, and an app that does as it is asked.
fn start_impatient(world: &mut World, handler: impl FnMut(&AppRequest) -> Vec<Act> + 'static) {
    world.start_gateway(|config: GatewayConfig| {
        config.body_timeout(Duration::from_secs(20)).response_timeout(Duration::from_secs(5))
    });
    world.start_app("target-1", handler);
    world.start_connector("connector-1", "target-1", as_usual);
    world.run_ms(200);
}

#[test]
fn while_the_gateway_waits_for_the_body_the_app_owes_nothing() {
    assert_snapshot!(conversation("a body that rests longer than an app may", 67, 20, |world| {
        start_impatient(world, |request| match request.target.as_str() {
            "/late" => vec![Act::AwaitBody, Act::WaitMs(60_000)],
            _ => [vec![Act::AwaitBody, Act::WaitMs(4_900)], ok("thanks")].concat(),
        });
        let head = "HTTP/1.1\r\nHost: example.org\r\nContent-Length: 10\r\n\r\nhello";
        let rests = ask(world, format!("POST /slow {head}"));
        let late = ask(world, format!("POST /late {head}"));
        world.run_ms(19_900);
        assert!(world.received(rests).is_empty(), "no 504 that blames the app");
        for visitor in [rests, late] {
            world.send(visitor, "world");
        }
        // Its time begins anew when it has all of the request.
        world.run_ms(5_100);
        assert_eq!(answer(world, rests), (200, "thanks".into()));
        let got = got(world, late);
        assert_eq!(got.status, 504);
        assert_eq!(
            count(world, "(--response-timeout)"),
            2,
            "in the gateway's line, and in what it tells the connector"
        );
    }));
}

#[test]
fn an_app_that_takes_nothing_of_what_waits_for_it_is_a_504_and_not_a_408() {
    assert_snapshot!(conversation("an app that reads nothing of a long body", 68, 20, |world| {
        start_impatient(world, |_| vec![Act::StopReadingMs(60_000), Act::WaitMs(60_000)]);
        let visitor = ask(world, post("/upload", &pattern(2_000_000)));
        world.run_ms(4_900);
        assert!(world.received(visitor).is_empty());
        world.run_ms(1_000);
        assert_eq!(got(world, visitor).status, 504);
    }));
}

#[test]
fn a_visitor_that_waits_for_no_100_is_waited_for_once_it_sends() {
    assert_snapshot!(conversation("Expect, and a body without a 100", 69, 20, |world| {
        start_impatient(world, |_| [vec![Act::AwaitBody], ok("thanks")].concat());
        let head =
            "POST / HTTP/1.1\r\nHost: example.org\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n";
        let [waits, sends] = [head.to_owned(), head.to_owned() + "hello"].map(|asked| ask(world, asked));
        world.run_ms(5_100);
        assert_eq!(got(world, waits).status, 504, "the app says neither 100 nor anything else");
        world.run_ms(14_800);
        assert!(world.received(sends).is_empty());
        world.run_ms(300);
        assert_eq!(got(world, sends).status, 408);
    }));
}

#[test]
fn after_the_final_head_a_body_may_rest_as_long_as_it_likes() {
    assert_snapshot!(conversation("a body that rests inside a response", 70, 20, |world| {
        start(world, |_| {
            vec![Act::send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), Act::Mirror]
        });
        let visitor = ask(world, "POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 10\r\n\r\nhello");
        world.run_ms(600_000);
        world.send(visitor, "world");
        world.run_ms(100);
        let got = got(world, visitor);
        assert_eq!((got.status, got.body.as_slice()), (200, &b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"[..]));
    }));
}

#[test]
fn where_places_run_out_whose_body_rests_makes_room_and_whose_body_comes_does_not() {
    assert_snapshot!(conversation("bodies that rest where places run out", 71, 20, |world| {
        start(world, |request| match request.target.as_str() {
            "/mirror" => {
                vec![Act::send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), Act::Mirror]
            }
            _ => vec![Act::WaitMs(60_000)],
        });
        let upload =
            |path| format!("POST {path} HTTP/1.1\r\nHost: example.org\r\nContent-Length: 100\r\n\r\nhello");
        let answered = ask(world, upload("/mirror"));
        let unanswered = ask(world, upload("/wait"));
        let comes = ask(world, upload("/mirror"));
        let waits = ask(world, get("/wait"));
        let is_open = |world: &World| [answered, unanswered, comes, waits].map(|v| world.ended(v).is_none());
        world.make_room("gateway");
        world.run_ms(4_000);
        assert_eq!(is_open(world), [true; 4], "a pause is no rest");
        world.send(comes, "world");
        world.run_ms(2_000);
        world.make_room("gateway");
        world.run_ms(100);
        assert_eq!(is_open(world), [false, true, true, true], "the longest first");
        world.make_room("gateway");
        world.run_ms(100);
        assert_eq!(is_open(world), [false, false, true, true]);
        world.make_room("gateway");
        world.run_ms(100);
        assert_eq!(is_open(world), [false, false, true, true], "whoever waits for the app is waited for");
    }));
}

#[test]
fn an_idle_visitor_is_let_go_after_75_seconds() {
    assert_snapshot!(conversation("an idle visitor", 50, 20, |world| {
        world.start_gateway(as_usual);
        let visitor = ask(world, get("/"));
        world.run_ms(74_900);
        assert_eq!((got(world, visitor).status, world.ended(visitor)), (503, None));
        world.run_ms(200);
        assert_eq!(world.ended(visitor), Some(true));
    }));
}

#[test]
fn a_connection_to_the_app_is_used_again_while_it_is_fresh() {
    assert_snapshot!(conversation("an app's connection is used again", 51, 20, |world| {
        start(world, |_| ok("hello"));
        let visitor = world.visit();
        let ask_again = |world: &mut World, request: &[u8]| {
            world.send(visitor, request);
            world.run_ms(100);
            assert_eq!(answer(world, visitor), (200, "hello".into()));
        };
        ask_again(world, get("/1").as_bytes());
        world.run_ms(3_000);
        ask_again(world, get("/2").as_bytes());
        assert_eq!(count(world, "connector-1 > target-1      end"), 0);
        assert_eq!(world.app_connections("target-1"), 1, "used after 3 s");
        world.run_ms(2_000);
        ask_again(world, &post("/3", b"100 coins"));
        assert_eq!(world.app_connections("target-1"), 2, "but not by a POST after 2 s");
        world.run_ms(4_100);
        assert_eq!(world.app_connections("target-1"), 0, "and after 4 s nobody keeps it");
    }));
}

#[test]
fn an_app_that_serves_one_connection_at_a_time_keeps_nobody_waiting_for_an_idle_one() {
    assert_snapshot!(conversation("an app that serves one connection at a time", 62, 20, |world| {
        start(world, |request| match request.target.as_str() {
            "/slow" => [vec![Act::WaitMs(600)], ok("slow")].concat(),
            _ => ok("hello"),
        });
        world.serve_one_at_a_time("target-1");
        // What comes meanwhile needs a connection of its own, and the first one lies idle when it is done.
        let slow = ask(world, get("/slow"));
        world.run_ms(100);
        let other = ask(world, get("/"));
        world.run_ms(900);
        assert_eq!(answer(world, slow), (200, "slow".into()));
        assert_eq!(answer(world, other), (200, "hello".into()), "soon after the first one is done");
        // What may not be sent twice goes out on a new one, while the last one lies idle.
        world.run_ms(1_500);
        let third = ask(world, post("/", b"hello"));
        world.run_ms(400);
        assert_eq!(answer(world, third), (200, "hello".into()));
        world.run_ms(1_000);
        let fourth = ask(world, get("/"));
        world.run_ms(60);
        assert_eq!(answer(world, fourth), (200, "hello".into()), "on one that is kept again");
    }));
}

/// An app that logs connections in by NTLM, and takes all that comes on one later to be of the same person.
fn ntlm() -> impl FnMut(&AppRequest) -> Vec<Act> {
    let mut connections = std::collections::BTreeMap::new();
    move |request| {
        let state = connections.entry(request.connection).or_insert("nobody");
        let credentials = request.head.lines().find_map(|line| line.strip_prefix("Authorization: NTLM "));
        *state = match (credentials, *state) {
            (Some("hello"), _) => "challenged",
            (Some("alice"), "challenged") => "alice",
            (Some(_), _) => "nobody",
            (None, known) => known,
        };
        let denied = |challenges: &str| {
            vec![Act::send(format!("HTTP/1.1 401 Unauthorized\r\n{challenges}Content-Length: 0\r\n\r\n"))]
        };
        match *state {
            "nobody" => {
                denied("WWW-Authenticate: Basic realm=\"a, b\"\r\nWWW-Authenticate: Bearer, ntlm\r\n")
            }
            "challenged" => denied("WWW-Authenticate: NTLM challenge\r\n"),
            name => ok(format!("hello {name}")),
        }
    }
}

/// Asks with these credentials; the last status that came.
fn ask_as(world: &mut World, visitor: Visitor, credentials: &str) -> u16 {
    let before = world.received(visitor).len();
    world.send(visitor, format!("GET / HTTP/1.1\r\nHost: example.org\r\n{credentials}\r\n"));
    world.run_ms(200);
    let got = String::from_utf8(world.received(visitor)[before..].to_vec()).expect("a response of text");
    assert_eq!(got.contains("hello alice"), got.starts_with("HTTP/1.1 200 "), "{got}");
    got[9..12].parse().expect("a status")
}

fn log_in(world: &mut World, visitor: Visitor) -> [u16; 3] {
    ["", "Authorization: NTLM hello\r\n", "Authorization: NTLM alice\r\n"]
        .map(|credentials| ask_as(world, visitor, credentials))
}

#[test]
fn a_connection_that_an_app_logged_in_is_its_visitors_and_nobody_elses() {
    assert_snapshot!(conversation("two visitors of an app that logs connections in", 59, 20, |world| {
        start(world, ntlm());
        world.start_connector("connector-2", "target-1", as_usual);
        world.start_connector("connector-3", "target-1", as_usual);
        world.run_ms(200);
        let (alice, other) = (world.visit(), world.visit());
        assert_eq!(log_in(world, alice), [401, 401, 200]);
        // Longer than other connections are kept, and while connectors take turns.
        for wait_ms in [0, 5_000, 60_000] {
            world.run_ms(wait_ms);
            assert_eq!(ask_as(world, other, ""), 401, "nobody else is alice, after {wait_ms} ms");
            assert_eq!(ask_as(world, alice, ""), 200, "alice still is, after {wait_ms} ms");
        }
        world.send(alice, post("/", b"hello"));
        world.run_ms(200);
        assert!(world.received(alice).ends_with(b"hello alice"), "not only what may be sent twice");
        world.send_end(alice);
        for _ in 0..6 {
            assert_eq!(ask_as(world, other, ""), 401, "nor when she has left");
        }
        world.run_ms(80_000);
        assert_eq!(world.app_connections("target-1"), 0, "nobody comes back to them");
    }));
}

#[test]
fn a_login_outlives_its_link_and_ends_with_the_connection_to_the_app() {
    assert_snapshot!(conversation("a login, a link and a connection to the app", 60, 20, |world| {
        start(world, ntlm());
        let alice = world.visit();
        assert_eq!(log_in(world, alice), [401, 401, 200]);
        world.trouble("connector-1", LinkTrouble::Reset);
        world.run_ms(2_000);
        assert_eq!(ask_as(world, alice, ""), 200);
        world.run_ms(70_000);
        assert_eq!(ask_as(world, alice, ""), 200, "as long as her connection to the gateway may be idle");
        world.kill("connector-1");
        world.start_connector("connector-1", "target-1", as_usual);
        world.run_ms(500);
        assert_eq!(ask_as(world, alice, ""), 401, "it is another connection");
        assert_eq!(log_in(world, alice), [401, 401, 200]);
    }));
}

#[test]
fn behind_a_proxy_a_connection_that_may_be_logged_in_serves_once() {
    assert_snapshot!(conversation("visitors that share a connection", 61, 20, |world| {
        world.put_proxy_before_gateway();
        start(world, ntlm());
        let proxy = world.visit();
        assert_eq!(log_in(world, proxy), [401, 401, 401]);
        assert_eq!(world.app_connections("target-1"), 0);
        for pair in world.requests("target-1").windows(2) {
            assert_ne!(pair[0].connection, pair[1].connection);
        }
    }));
}

#[test]
fn a_connection_that_the_app_closes_under_a_get_costs_nothing_and_under_a_post_is_a_502() {
    assert_snapshot!(conversation("an app closes a connection that is used again", 52, 20, |world| {
        let mut nth = 0;
        start(world, move |_| {
            nth += 1;
            // The second and the fifth request meet a connection that the app is about to close.
            if nth == 2 || nth == 5 { vec![Act::Close] } else { ok("hello") }
        });
        let visitor = world.visit();
        for request in [get("/1"), get("/2")] {
            world.send(visitor, request);
            world.run_ms(100);
            assert_eq!(answer(world, visitor), (200, "hello".into()));
        }
        assert_eq!(
            targets(world, "target-1"),
            ["GET /1", "GET /2", "GET /2"],
            "once more on a fresh connection"
        );
        world.send(visitor, get("/3"));
        world.run_ms(100);
        assert_eq!(answer(world, visitor), (200, "hello".into()));
        world.send(visitor, post("/pay", b"100 coins"));
        world.run_ms(100);
        assert_eq!(got(world, visitor).status, 502);
        assert_eq!(targets(world, "target-1").len(), 5, "a POST is never sent twice");
    }));
}
