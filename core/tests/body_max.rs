//! `--max-body`, in whole deployments: it holds for the bodies of requests, and for nothing else.
#![allow(clippy::unwrap_used)]

use gesher_core::sim::{Act, Sealing, World};

/// A world whose gateway takes bodies of at most 10 bytes, and whose app waits for all of one; what a visitor gets who
/// sends `first`, and `second` later.
fn answer(first: &str, second: &str) -> String {
    let mut world = World::new("bodies of 10 bytes", 7, 20, Sealing::FixedIv);
    world.start_gateway(|config| config.body_max(10));
    world.start_app("app", |request| match request.target.as_str() {
        "/echo" => {
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
            vec![Act::send(head), Act::Echo]
        }
        _ => vec![Act::AwaitBody, Act::send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole")],
    });
    world.start_connector("connector-1", "app", |config| config);
    world.run_ms(200);
    let visitor = world.visit();
    world.send(visitor, first);
    world.run_ms(200);
    world.send(visitor, second);
    world.run_ms(200);
    String::from_utf8(world.received(visitor)).unwrap()
}

#[test]
fn a_body_within_the_limit_reaches_the_app_and_a_longer_one_is_answered_with_413() {
    for (framing, body, status) in [
        ("Content-Length: 10", "0123456789", "200"),
        ("Content-Length: 11", "0123456789a", "413"),
        ("Transfer-Encoding: chunked", "a\r\n0123456789\r\n0\r\n\r\n", "200"),
        ("Transfer-Encoding: chunked", "6\r\n012345\r\n5\r\n6789a\r\n0\r\n\r\n", "413"),
    ] {
        let got = answer(&format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"), body);
        assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{framing}: {got}");
    }
}

#[test]
fn what_an_upgraded_connection_carries_is_no_body() {
    let carried = "as much as anyone likes";
    let got =
        answer("GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", carried);
    assert!(got.starts_with("HTTP/1.1 101 ") && got.ends_with(carried), "{got}");
}
