//! What becomes of requests where memory, or room on a connector, runs short: they wait, in order, and whoever holds most
//! lets others go first. Each conversation runs with real Fernet and with fixed IVs, and leaves nobody holding anything.
//! The transcripts are too long to be kept.

use gesher_core::config::GatewayConfig;
use gesher_core::limits;
use gesher_core::sim::{Act, Visitor, World, conversation};

fn as_usual<T>(config: T) -> T {
    config
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: example.org\r\n\r\n")
}

fn ok(body: &str) -> Vec<Act> {
    vec![Act::send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))]
}

fn ask(world: &mut World, request: impl AsRef<[u8]>) -> Visitor {
    let visitor = world.visit();
    world.send(visitor, request);
    visitor
}

/// The head and the body of what a visitor got.
fn got(world: &mut World, visitor: Visitor) -> (String, String) {
    let text = String::from_utf8(world.received(visitor)).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
    (head.to_owned(), body.to_owned())
}

/// The status and the body.
fn answer(world: &mut World, visitor: Visitor) -> (u16, String) {
    let (head, body) = got(world, visitor);
    (head[9..12].parse().expect("a status"), body)
}

fn count(world: &mut World, what: &str) -> usize {
    world.transcript().matches(what).count()
}

fn targets(world: &World, app: &str) -> Vec<String> {
    world.requests(app).iter().map(|request| format!("{} {}", request.method, request.target)).collect()
}

/// The least memory that a gateway may have.
const LITTLE_BYTES: usize = limits::MEMORY_BYTES_MIN;

fn with_little_memory(config: GatewayConfig) -> GatewayConfig {
    config.memory(LITTLE_BYTES).expect("the least that may be set")
}

/// A gateway with little memory before an app that takes its time.
fn start_narrow(world: &mut World, answers_after_ms: u64) {
    world.start_gateway(with_little_memory);
    world.start_app("target-1", move |request| match request.target.as_str() {
        "/upgrade" => vec![
            Act::send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"),
            Act::Echo,
        ],
        target => [vec![Act::WaitMs(answers_after_ms)], ok(target)].concat(),
    });
    world.start_connector("connector-1", "target-1", as_usual);
    world.run_ms(200);
}

const UPGRADE: &str =
    "GET /upgrade HTTP/1.1\r\nHost: example.org\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";

#[test]
fn a_crowd_waits_its_turn_in_order_and_everyone_is_served() {
    conversation("a crowd before a gateway with little memory", 70, 20, |world| {
        start_narrow(world, 100);
        let crowd: Vec<Visitor> = (0..300).map(|number| ask(world, get(&format!("/{number}")))).collect();
        world.run_ms(9_000);
        for (number, visitor) in crowd.into_iter().enumerate() {
            assert_eq!(answer(world, visitor), (200, format!("/{number}")));
        }
        let sent = world.transcript();
        let sent = sent.split("REQUEST x").skip(1).filter_map(|request| {
            let target = request.split_once("GET ")?.1;
            target.split(' ').next()
        });
        let order: Vec<String> = (0..300).map(|number| format!("/{number},")).collect();
        assert_eq!(sent.collect::<Vec<_>>(), order, "in the order in which they came");
        assert_eq!(count(world, "no room"), 0);
    });
}

#[test]
fn whoever_waits_in_vain_for_room_gets_a_503_after_10_seconds_and_one_line_says_how_many() {
    conversation("an app that holds all there is", 71, 20, |world| {
        start_narrow(world, 20_000);
        let crowd: Vec<Visitor> = (0..300).map(|_| ask(world, get("/slow"))).collect();
        world.run_ms(9_000);
        let leaves = crowd[299];
        assert!(world.received(leaves).is_empty(), "it waits");
        world.leave(leaves);
        world.run_ms(2_000);
        let refused = crowd[298];
        let (head, _) = got(world, refused);
        assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nRetry-After: 2"), "{head}");
        assert_eq!(count(world, "no room"), 1);
        world.run_ms(12_000);
        assert_eq!(answer(world, crowd[0]), (200, "/slow".into()), "those who had room are served");
        assert_eq!(
            targets(world, "target-1").len(),
            count(world, "GET /slow 200"),
            "no other reached the app"
        );
    });
}

#[test]
fn upgrades_leave_room_for_short_requests() {
    conversation("as many upgrades as there is room for", 72, 20, |world| {
        start_narrow(world, 0);
        let rest: Vec<Visitor> = (0..300).map(|_| ask(world, UPGRADE)).collect();
        world.run_ms(1_000);
        let upgraded = rest.iter().filter(|visitor| !world.received(**visitor).is_empty()).count();
        assert!((1..300).contains(&upgraded), "{upgraded} are upgraded, the others wait");
        for _ in 0..3 {
            let visitor = ask(world, get("/page"));
            world.run_ms(100);
            assert_eq!(answer(world, visitor), (200, "/page".into()), "and pages are served beside them");
        }
        world.run_ms(11_000);
        assert_eq!(count(world, "GET /upgrade 503"), 300 - upgraded);
    });
}

#[test]
fn whoever_holds_most_of_what_is_short_lets_others_go_first() {
    conversation("one visitor that holds nearly all", 73, 20, |world| {
        start_narrow(world, 3_000);
        world.set_address(66);
        for _ in 0..300 {
            ask(world, get("/greedy"));
        }
        world.run_ms(1_000);
        let before = targets(world, "target-1").len();
        world.set_address(7);
        let modest = ask(world, get("/modest"));
        world.run_ms(3_200);
        assert_eq!(answer(world, modest), (200, "/modest".into()));
        let others = targets(world, "target-1");
        let place = others.iter().position(|target| target == "GET /modest").expect("it came");
        assert_eq!(place, before, "before all that waited");
    });
}

#[test]
fn what_a_connector_has_no_memory_for_waits_and_is_not_lost() {
    conversation("a connector with little memory", 74, 20, |world| {
        world.start_gateway(as_usual);
        world.start_app("target-1", |request| [vec![Act::WaitMs(500)], ok(&request.target)].concat());
        world.start_connector("connector-1", "target-1", |config| {
            config.memory(LITTLE_BYTES).expect("the least that may be set")
        });
        world.run_ms(200);
        let crowd: Vec<Visitor> = (0..600).map(|number| ask(world, get(&format!("/{number}")))).collect();
        world.run_ms(9_000);
        for (number, visitor) in crowd.into_iter().enumerate() {
            assert_eq!(answer(world, visitor), (200, format!("/{number}")));
        }
        assert!(count(world, "RESET") > 0, "the connector refused some");
        assert_eq!(targets(world, "target-1").len(), 600, "and none was asked twice");
    });
}
