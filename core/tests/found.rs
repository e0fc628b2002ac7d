//! What the fuzzer found and a whole deployment shows.

use std::collections::BTreeSet;

use gesher_core::sim::{Act, Sealing, World};

/// A world in which all requests get this response.
fn world(title: &str, response: Vec<u8>) -> World {
    let mut world = World::new(title, 7, 20, Sealing::FixedIv);
    world.start_gateway(|config| config);
    world.start_app("app", move |_request| vec![Act::send(&response)]);
    world.start_connector("connector-1", "app", |config| config);
    world
}

/// It was idle for 75 s and could not be closed, and the deadline that said so stayed: a loop at full speed until the
/// connection was cut after 5 minutes. (A world panics if somebody spins.)
#[test]
fn a_visitor_that_takes_no_answer_costs_no_time_while_it_is_idle() {
    const LONG: usize = 310_000;
    let mut response = format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n").into_bytes();
    response.resize(response.len() + LONG, b'x');
    let mut world = world("an idle visitor that takes nothing", response);
    world.run_ms(200);
    let visitor = world.visit();
    world.set_reading(visitor, false);
    world.send(visitor, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    world.run_ms(80_000);
    assert_eq!(world.ended(visitor), None);
    world.run_ms(6 * 60_000);
    world.set_reading(visitor, true);
    world.run_ms(1);
    assert_eq!(world.ended(visitor), Some(false), "cut after 5 minutes");
    world.come_to_rest();
}

/// GOAWAY came before HELLO, which is a breach of the protocol.
#[test]
fn a_gateway_that_drains_greets_a_connector_before_it_says_goodbye() {
    let mut endings = BTreeSet::new();
    for drained_at in 41..120 {
        let mut world = world("drained while a connector joins", Vec::new());
        world.run_ms(drained_at);
        world.drain("gateway");
        world.run_ms(300);
        let transcript = world.transcript();
        let ending =
            transcript.lines().find(|line| line.contains("| dial")).expect("the link ended").to_owned();
        endings.insert(ending[30..].split(';').next().unwrap_or_default().trim().to_owned());
        world.come_to_rest();
    }
    let endings: Vec<_> = endings.iter().map(String::as_str).collect();
    assert_eq!(endings, ["no answer", "the gateway goes away"]);
}

/// It closed its link with the gateway's credit unread, and the kernel's reset destroyed what was still on its way.
/// (Seed 996 of the simulator.)
#[test]
fn a_connector_that_stops_loses_nothing_of_a_response_that_it_has_sent() {
    const LONG: usize = 1_200_000;
    let mut response = format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n").into_bytes();
    response.resize(response.len() + LONG, b'x');
    for drained_at in (41..200).step_by(7) {
        let mut world = world("a connector that stops", response.clone());
        world.run_ms(200);
        let visitor = world.visit();
        world.send(visitor, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        world.read_slowly(visitor, 10_000, 1);
        world.run_ms(drained_at);
        world.drain("connector-1");
        world.run_ms(3_000);
        let received = world.received(visitor);
        assert!(
            received.ends_with(&[b'x'; LONG]),
            "drained after {drained_at} ms: {} B came",
            received.len()
        );
        world.come_to_rest();
    }
}

/// GOAWAY overtook the REQUEST, and the connector, which had nothing to do, closed the link in between. (Seed 3064 of
/// the simulator.)
#[test]
fn a_gateway_that_drains_sends_what_has_begun_before_it_says_goodbye() {
    let mut world = world("drained while a link is full", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
    world.run_ms(200);
    world.set_frozen("connector-1", true);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n";
    let visitors = [(); 8].map(|()| {
        let visitor = world.visit();
        world.send(visitor, [head.as_bytes(), &[b'x'; 65_536]].concat());
        visitor
    });
    world.run_ms(1);
    let last = world.visit();
    world.send(last, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    world.run_ms(1);
    world.drain("gateway");
    world.run_ms(1);
    world.set_frozen("connector-1", false);
    world.run_ms(2_000);
    for visitor in visitors.into_iter().chain([last]) {
        assert!(world.received(visitor).starts_with(b"HTTP/1.1 204"));
    }
    let transcript = world.transcript();
    let place = |what: &str| transcript.find(what).expect("it was sealed");
    assert!(place("REQUEST x9") < place("GOAWAY"), "{transcript}");
    world.come_to_rest();
}

/// It said PING before HELLO, and the connector had to end the link. (Seed 41 of the simulator.)
#[test]
fn a_gateway_whose_clock_is_set_says_hello_before_it_asks_whether_a_link_is_alive() {
    for set_at in 41..120 {
        let mut world = world("a clock is set while a connector joins", Vec::new());
        world.run_ms(set_at);
        world.set_skew("gateway", 20);
        world.run_ms(300);
        let transcript = world.transcript();
        assert!(transcript.contains("| join          joined"), "set after {set_at} ms: {transcript}");
        assert!(!transcript.contains("| dial"), "set after {set_at} ms: {transcript}");
        world.come_to_rest();
    }
}

/// The connector closed at once, and a request that crossed its GOAWAY was lost. (Seed 38 of the simulator.)
#[test]
fn a_request_that_crosses_the_goodbye_of_a_connector_goes_to_another_one() {
    let mut world = world("a request crosses a GOAWAY", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
    world.start_connector("connector-2", "app", |config| config);
    world.run_ms(200);
    world.drain("connector-1");
    let visitors = [(); 2].map(|()| {
        let visitor = world.visit();
        world.send(visitor, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        visitor
    });
    world.run_ms(300);
    for visitor in visitors {
        assert!(world.received(visitor).starts_with(b"HTTP/1.1 204"));
    }
    assert!(world.transcript().contains("| leave         connector-1: goodbye"));
    world.come_to_rest();
}
