//! Properties of the machines, in whole deployments: whatever way bytes are cut, whoever leaves, whatever breaks.
//!
//! The simulator itself checks two properties at every step: calling `advance` again changes nothing unless it said
//! so, and when nobody acts any more nobody has anything left to do, so no wake-up was lost. It also panics when
//! something spins, when an app gets anything malformed, and, in `come_to_rest`, when somebody holds something after
//! everyone has left.

use std::collections::BTreeMap;
use std::fmt;

use gesher_core::http1::body::{Decoder, Framing, response_framing};
use gesher_core::http1::head::{HeadKind, HeadScan, parse_response};
use gesher_core::limits;
use gesher_core::sim::{Act, AppRequest, LinkTrouble, Sealing, Visitor, Way, World};
use proptest::prelude::*;

/// A quarter of what proptest runs by itself; PROPTEST_CASES asks for more.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig {
        cases: usual.cases.div_ceil(4),
        max_shrink_iters: 4_000,
        failure_persistence: None,
        ..usual
    }
}

// ---- what visitors get ---------------------------------------------------------------------------------------------

/// Bytes that are shown as text, and not all of them.
#[derive(Clone, PartialEq, Eq)]
struct Bytes(Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bytes(bytes) = self;
        write!(f, "{} B \"{}\"", bytes.len(), bytes[..bytes.len().min(400)].escape_ascii())
    }
}

/// A response as its visitor reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Response {
    status: u16,
    head: String,
    body: Bytes,
    trailers: Bytes,
    whole: bool,
}

/// Reads the responses to requests with these methods as strictly as everything here.
fn responses(mut bytes: &[u8], methods: &[&str], ended: bool) -> Vec<Response> {
    let mut responses = Vec::new();
    let mut methods = methods.iter();
    let mut method = methods.next();
    while !bytes.is_empty() {
        let found = HeadScan::default().find(bytes, HeadKind::Response).expect("a well-formed head");
        let Some(length) = found else { break };
        let head = parse_response(&bytes[..length]).expect("a well-formed head");
        let asked = method.expect("no more responses than requests");
        let mut framing = response_framing(&head, asked.as_bytes()).expect("well-formed framing");
        if head.status == 101 {
            framing = Framing::UntilClose;
        }
        if head.status >= 200 {
            method = methods.next();
        }
        let mut decoder = Decoder::new(framing);
        let mut body = Vec::new();
        let consumed = decoder.decode(&bytes[length..], usize::MAX, &mut body).expect("a well-formed body");
        if ended {
            let _ = decoder.end_of_input();
        }
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        let trailers = Bytes(decoder.take_trailers());
        let (whole, body) = (decoder.is_done(), Bytes(body));
        responses.push(Response { status: head.status, head: text, body, trailers, whole });
        bytes = &bytes[length + consumed..];
    }
    responses
}

/// Bytes that belong to exchange `id` and no other.
fn pattern(id: usize, length: usize) -> Vec<u8> {
    (0..length).map(|place| (place % 251) as u8 ^ (place / 65_536 + 31 * id) as u8).collect()
}

fn ok(body: &[u8]) -> Vec<Act> {
    let head = format!("HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: {}\r\n\r\n", body.len());
    vec![Act::Send([head.as_bytes(), body].concat())]
}

/// `/3/1000` asks for 1,000 bytes of exchange 3, `/3/1000/chunked` for the same in chunks.
fn serve(request: &AppRequest) -> Vec<Act> {
    let mut parts = request.target.split('/').skip(1);
    let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    let (id, length) = (number(), number());
    let body = pattern(id, length);
    let mut acts = vec![Act::AwaitBody];
    match parts.next() {
        Some("chunked") => {
            acts.push(Act::send("HTTP/1.1 200 OK\r\nDate: today\r\nTransfer-Encoding: chunked\r\n\r\n"));
            for chunk in body.chunks(5_000) {
                acts.push(Act::Send([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()));
            }
            acts.push(Act::send("0\r\nDigest: x\r\n\r\n"));
        }
        Some("early") => acts = ok(&body),
        Some("interim") => {
            acts.push(Act::send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"));
            acts.extend(ok(&body));
        }
        Some("echo") => {
            acts = vec![
                Act::send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"),
                Act::Echo,
            ]
        }
        Some("close") => {
            acts.push(Act::send("HTTP/1.1 200 OK\r\nDate: today\r\n\r\n"));
            acts.extend([Act::Send(body), Act::Close]);
        }
        _ => acts.extend(ok(&body)),
    }
    acts
}

fn world() -> World {
    let mut world = World::new("a property", 7, 5, Sealing::FixedIv);
    world.start_gateway(|config| config);
    world.start_app("app", serve);
    world.start_connector("connector-1", "app", |config| config);
    world.run_ms(50);
    world
}

// ---- bytes cut anywhere --------------------------------------------------------------------------------------------

/// One request of a pipeline: its method and its bytes.
fn request(id: usize) -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let head = |method: &str, target: String, fields: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: example.org\r\nTE: trailers\r\n{fields}\r\n")
            .into_bytes()
    };
    let kinds = prop::sample::select(vec!["", "/chunked", "/interim", "/close"]);
    let size = prop_oneof![Just(0), 0..100usize, 0..40_000usize];
    let get = (kinds.clone(), size.clone())
        .prop_map(move |(kind, size)| ("GET", head("GET", format!("/{id}/{size}{kind}"), "")));
    let headless = (kinds.clone(), 0..1000usize)
        .prop_map(move |(kind, size)| ("HEAD", head("HEAD", format!("/{id}/{size}{kind}"), "")));
    let sized = (kinds.clone(), size.clone(), size.clone()).prop_map(move |(kind, size, length)| {
        let fields = format!("Content-Length: {length}\r\n");
        ("POST", [head("POST", format!("/{id}/{size}{kind}"), &fields), pattern(id, length)].concat())
    });
    let chunked = (kinds, size.clone(), size, 1..3_000usize).prop_map(move |(kind, size, length, chunk)| {
        let mut bytes = head("PUT", format!("/{id}/{size}{kind}"), "Transfer-Encoding: chunked\r\n");
        for chunk in pattern(id, length).chunks(chunk) {
            bytes.extend([format!("{:X};x=y\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        }
        bytes.extend(b"0\r\nChecksum: 1\r\n\r\n");
        ("PUT", bytes)
    });
    prop_oneof![3 => get, 1 => headless, 2 => sized, 2 => chunked]
}

/// What may follow the last request: nothing, an upgrade and what it carries, or something that is no request.
fn last() -> impl Strategy<Value = Vec<u8>> {
    let upgrade = "GET /9/0/echo HTTP/1.1\r\nHost: example.org\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nopaque\r\n\r\n\x00\x01";
    prop::sample::select(vec![
        "",
        upgrade,
        "GET /9/9 HTTP/1.1\r\nHost: example.org\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "GET /9/9 HTTP/1.1\nHost: example.org\n\n",
        "\x16\x03\x01\x02\x00\x01\x00",
        "POST /9/9 HTTP/1.1\r\nHost: example.org\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
    ])
    .prop_map(|text| text.as_bytes().to_vec())
}

prop_compose! {
    fn pipeline()(
        requests in (request(0), request(1), request(2), request(3)),
        count in 0..=4usize,
        last in last(),
    ) -> (Vec<&'static str>, Bytes) {
        let (a, b, c, d) = requests;
        let mut methods: Vec<&'static str> = Vec::new();
        let mut bytes = Vec::new();
        for (method, request) in [a, b, c, d].into_iter().take(count) {
            methods.push(method);
            bytes.extend(request);
        }
        methods.push("GET");
        bytes.extend(last);
        (methods, Bytes(bytes))
    }
}

/// What came of a pipeline: at the visitor, and at the app.
fn outcome(
    methods: &[&str],
    Bytes(bytes): &Bytes,
    cuts: &[(usize, u64)],
    io_bytes: Option<usize>,
) -> (Vec<Response>, Vec<AppRequest>, Option<bool>) {
    let mut world = world();
    if let Some(bytes) = io_bytes {
        world.limit_io(bytes);
    }
    let visitor = world.visit();
    let mut rest = bytes.as_slice();
    for (at, pause_ms) in cuts {
        let (portion, after) = rest.split_at(at % (rest.len() + 1));
        world.send(visitor, portion);
        world.run_ms(*pause_ms);
        rest = after;
    }
    world.send(visitor, rest);
    world.run_ms(1_500);
    let ended = world.ended(visitor);
    let responses = responses(&world.received(visitor), methods, ended == Some(true));
    // How much of a request that breaks off reaches the app depends on when it does.
    let requests = world.requests("app").iter().filter(|request| request.whole).cloned().collect();
    world.come_to_rest();
    (responses, requests, ended)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_same_bytes_cut_anywhere_give_the_same_result(
        (methods, bytes) in pipeline(),
        cuts in prop::collection::vec((any::<usize>(), 0..4u64), 1..12),
    ) {
        let whole = outcome(&methods, &bytes, &[], None);
        prop_assert!(whole.0.iter().all(|response| response.whole || response.status == 101), "{:?}", whole.0);
        prop_assert_eq!(outcome(&methods, &bytes, &cuts, None), whole);
    }

    #[test]
    fn however_little_is_read_and_written_at_once_the_bytes_are_the_same_in_the_end(
        (methods, bytes) in pipeline(),
        io_bytes in prop_oneof![2 => 1..20usize, 1 => 20..2_000usize],
    ) {
        let whole = outcome(&methods, &bytes, &[], None);
        prop_assert_eq!(outcome(&methods, &bytes, &[], Some(io_bytes)), whole);
    }
}

// ---- what crosses a link -------------------------------------------------------------------------------------------

/// What one side of a stream has sent.
#[derive(Default)]
struct Sent {
    heads: u32,
    data: u64,
    credit: u64,
    first: u64,
    ended: bool,
    reset: bool,
}

/// Reads a transcript as a referee: the order of frames on every stream, and that no DATA goes beyond the credit.
fn check_streams(transcript: &str) {
    let mut streams: BTreeMap<(&str, bool), Sent> = BTreeMap::new();
    for line in transcript.lines().filter(|line| line.contains("{ ")) {
        let by_gateway = line.split_whitespace().nth(1) == Some("gateway");
        let (_, frames) = line.split_once("{ ").expect("a record");
        for frame in frames.trim_end_matches(" }").split(" · ") {
            let mut words = frame.split(' ');
            let (kind, stream) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            if !matches!(kind, "REQUEST" | "RESPONSE" | "DATA" | "END" | "RESET" | "WINDOW") {
                continue;
            }
            let opened = streams.contains_key(&(stream, true));
            assert!(opened || kind == "REQUEST", "a stream begins with REQUEST: {line}");
            let first = |what: &str| {
                let (bytes, _) = frame.split_once(&format!(" B {what} at first"))?;
                bytes.rsplit(' ').next()?.parse::<u64>().ok()
            };
            let mut number =
                || words.next().and_then(|word| word.trim_start_matches('+').parse::<u64>().ok());
            if kind == "WINDOW" {
                streams.entry((stream, !by_gateway)).or_default().credit += number().expect("credit");
                continue;
            }
            let sent = streams.entry((stream, by_gateway)).or_default();
            assert!(!sent.reset, "nothing follows a RESET: {line}");
            match kind {
                "RESET" => sent.reset = true,
                _ if sent.ended => panic!("nothing but RESET and WINDOW follows an END: {line}"),
                "REQUEST" => {
                    assert!(by_gateway && sent.heads == 0, "one REQUEST, by the gateway: {line}");
                    sent.heads += 1;
                    sent.first = first("of the body").unwrap_or(limits::WINDOW_BYTES.into());
                    let answered = streams.entry((stream, false)).or_default();
                    answered.first = first("of the response").unwrap_or(limits::WINDOW_BYTES.into());
                }
                "RESPONSE" => {
                    assert!(!by_gateway && sent.data == 0, "heads come before data: {line}");
                    sent.heads += 1;
                }
                "DATA" => {
                    sent.data += number().expect("a length");
                    assert!(sent.heads > 0, "data comes after a head: {line}");
                    let credit = sent.first + sent.credit;
                    assert!(sent.data <= credit, "{} B for {credit} B of credit: {line}", sent.data);
                }
                _ => {
                    assert!(sent.heads > 0, "an end comes after a head: {line}");
                    sent.ended = true;
                }
            }
        }
    }
}

// ---- whatever happens ----------------------------------------------------------------------------------------------

/// Something that happens in a world of two connectors.
#[derive(Clone, Debug)]
enum Deed {
    /// A new visitor asks for so many bytes.
    Get(usize, &'static str),
    /// A new visitor sends so many bytes, and asks for so many.
    Post(usize, usize, &'static str),
    /// So many new visitors send as much as a first window takes, and while the links are busy with that another one
    /// comes and leaves.
    Burst(usize),
    /// A visitor, of those there are, reads no more, or goes on, or leaves.
    Stop(usize),
    GoOn(usize),
    Leave(usize),
    WaitMs(u64),
    Trouble(usize, LinkTrouble),
    /// A connector dies, and another takes its place.
    Kill(usize),
    /// A connector is asked to stop, and another is started.
    Drain(usize),
    /// An app takes no connections, or does again.
    Down(usize),
    Up(usize),
    /// An app takes so long to take a connection.
    Dial(usize, u64),
}

/// What visitors do, and slow apps.
fn deed_of_visitors() -> impl Strategy<Value = Deed> {
    let size = || prop_oneof![2 => 0..100usize, 2 => 0..30_000usize, 1 => 0..900_000usize];
    let get = prop::sample::select(vec!["", "/chunked", "/interim", "/close", "/echo"]);
    let post = prop::sample::select(vec!["", "/chunked", "/early"]);
    let wait = prop_oneof![4 => 0..40u64, 2 => 0..2_000u64];
    prop_oneof![
        6 => (size(), get).prop_map(|(asks, kind)| Deed::Get(asks, kind)),
        6 => (size(), size(), post).prop_map(|(sends, asks, kind)| Deed::Post(sends, asks, kind)),
        1 => (1..20usize).prop_map(Deed::Burst),
        2 => any::<usize>().prop_map(Deed::Stop),
        2 => any::<usize>().prop_map(Deed::GoOn),
        3 => any::<usize>().prop_map(Deed::Leave),
        9 => wait.prop_map(Deed::WaitMs),
        1 => (0..2usize, 0..100u64).prop_map(|(app, ms)| Deed::Dial(app, ms)),
    ]
}

/// The same, and everything that can go wrong.
fn deed() -> impl Strategy<Value = Deed> {
    let way = || prop::sample::select(vec![Way::ToGateway, Way::ToConnector]);
    let trouble = prop_oneof![
        way().prop_map(LinkTrouble::FlipBit),
        way().prop_map(LinkTrouble::Repeat),
        way().prop_map(LinkTrouble::Cut),
        Just(LinkTrouble::Reset),
        Just(LinkTrouble::Clog),
        Just(LinkTrouble::Forget),
    ];
    prop_oneof![
        30 => deed_of_visitors(),
        1 => (0..30_000u64).prop_map(Deed::WaitMs),
        3 => (0..2usize, trouble).prop_map(|(connector, trouble)| Deed::Trouble(connector, trouble)),
        1 => (0..2usize).prop_map(Deed::Kill),
        1 => (0..2usize).prop_map(Deed::Drain),
        1 => (0..2usize).prop_map(Deed::Down),
        1 => (0..2usize).prop_map(Deed::Up),
    ]
}

/// What a visitor asked for.
struct Asked {
    visitor: Visitor,
    method: &'static str,
    target: String,
    sent: Vec<u8>,
    expected: Vec<u8>,
    left: bool,
    /// It did not read for a while.
    stopped: bool,
}

const APPS: [&str; 2] = ["app-1", "app-2"];

/// A world in which things happen.
struct Scene {
    world: World,
    asked: Vec<Asked>,
    /// The names of the connectors, and how many there have been.
    connectors: [String; 2],
    started: usize,
}

impl Scene {
    fn new(seed: u64, io_bytes: usize) -> Self {
        let mut world = World::new("whatever happens", seed, 5, Sealing::FixedIv);
        world.limit_io(io_bytes);
        world.start_gateway(|config| config);
        let mut scene = Self { world, asked: Vec::new(), connectors: Default::default(), started: 0 };
        for (place, app) in APPS.into_iter().enumerate() {
            scene.world.start_app(app, serve);
            scene.start_connector(place);
        }
        scene.world.run_ms(50);
        scene
    }

    fn start_connector(&mut self, place: usize) {
        self.started += 1;
        let name = format!("connector-{}", self.started);
        self.world.start_connector(&name, APPS[place], |config| config);
        self.connectors[place] = name;
    }

    fn ask(&mut self, method: &'static str, sends: Option<usize>, asks: usize, kind: &str) {
        let id = self.asked.len();
        let target = format!("/{id}/{asks}{kind}");
        let sent = pattern(id + 1, sends.unwrap_or(0));
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: example.org\r\n");
        let expected = pattern(id, asks);
        match sends {
            Some(length) => request += &format!("Content-Length: {length}\r\n"),
            None if kind == "/echo" => request += "Connection: Upgrade\r\nUpgrade: echo\r\n",
            None => {}
        }
        let visitor = self.world.visit();
        self.world.send(visitor, request + "\r\n");
        self.world.send(visitor, &sent);
        if kind == "/echo" {
            self.world.send(visitor, &expected);
            self.world.send_end(visitor);
        }
        self.asked.push(Asked { visitor, method, target, sent, expected, left: false, stopped: false });
    }

    fn visitor(&mut self, place: usize) -> Option<&mut Asked> {
        let count = self.asked.len();
        self.asked.get_mut(place % count.max(1)).filter(|asked| !asked.left)
    }

    fn happens(&mut self, deed: &Deed) {
        match deed {
            Deed::Get(size, kind) => self.ask("GET", None, *size, kind),
            Deed::Post(sends, asks, kind) => self.ask("POST", Some(*sends), *asks, kind),
            Deed::Burst(count) => {
                for _ in 0..*count {
                    self.ask("POST", Some(60_000), 0, "");
                }
                self.world.run_ms(1);
                self.ask("POST", Some(3), 0, "");
                self.world.run_ms(1);
                self.happens(&Deed::Leave(self.asked.len() - 1));
            }
            Deed::Stop(place) | Deed::GoOn(place) => {
                if let Some(asked) = self.visitor(*place) {
                    asked.stopped = true;
                    let visitor = asked.visitor;
                    self.world.set_reading(visitor, matches!(deed, Deed::GoOn(_)));
                }
            }
            Deed::Leave(place) => {
                if let Some(asked) = self.visitor(*place) {
                    asked.left = true;
                    let visitor = asked.visitor;
                    self.world.leave(visitor);
                }
            }
            Deed::WaitMs(ms) => self.world.run_ms(*ms),
            Deed::Trouble(place, trouble) => {
                self.world.try_trouble(&self.connectors[*place], *trouble);
            }
            Deed::Kill(place) => {
                self.world.kill(&self.connectors[*place]);
                self.start_connector(*place);
            }
            Deed::Drain(place) => {
                self.world.drain(&self.connectors[*place]);
                self.start_connector(*place);
            }
            Deed::Down(app) => self.world.set_app_up(APPS[*app], false),
            Deed::Up(app) => self.world.set_app_up(APPS[*app], true),
            Deed::Dial(app, ms) => self.world.set_app_dial_ms(APPS[*app], *ms),
        }
    }

    /// Everything heals, and everyone who waits gets something.
    fn heal(&mut self) {
        for app in APPS {
            self.world.set_app_up(app, true);
        }
        for asked in &self.asked {
            self.world.set_reading(asked.visitor, true);
        }
        self.world.run_ms(120_000);
    }

    /// Every request got one right response, or, if there were troubles, a clean error or a cut connection; and no app
    /// got anything twice.
    fn check(&mut self, troubles: bool) {
        for asked in &self.asked {
            let Asked { visitor, method, target, sent, expected, left, stopped } = asked;
            let is_early = target.ends_with("/early");
            let ended = self.world.ended(*visitor);
            let bytes = self.world.received(*visitor);
            // What was to go through a tunnel that was not granted is no request.
            let got = responses(&bytes, &[method, "GET"], ended == Some(true));
            let answered = match got.iter().find(|got| got.status >= 200 || got.status == 101) {
                Some(response @ Response { status: 200 | 101, body: Bytes(body), .. }) => {
                    assert!(expected.starts_with(body), "{method} {target}: a wrong byte");
                    let whole = response.whole && body.len() == expected.len();
                    assert!(
                        whole || *left || ended == Some(false),
                        "{method} {target}: neither whole nor cut"
                    );
                    whole
                }
                Some(response) => {
                    let known = matches!(response.status, 502..=504);
                    assert!(
                        known && (response.whole || ended == Some(false)),
                        "{method} {target}: {response:?}"
                    );
                    false
                }
                None => {
                    // Who sends no more is taken for gone where the answer does not come for a while.
                    let is_gone = troubles && target.ends_with("/echo") && ended == Some(true);
                    assert!(*left || ended == Some(false) || is_gone, "{method} {target}: no answer");
                    false
                }
            };
            let seen = APPS.into_iter().flat_map(|app| self.world.requests(app));
            let seen: Vec<_> = seen.filter(|request| request.target == *target).collect();
            assert!(
                seen.iter().all(|request| sent.starts_with(&request.body)),
                "{method} {target}: a wrong byte"
            );
            if *method == "POST" {
                assert!(seen.len() <= 1, "{method} {target}: {} times", seen.len());
                let has_all = |request: &&AppRequest| request.whole && request.body == *sent;
                assert!(!answered || is_early || seen.iter().any(has_all), "{method} {target}: not whole");
            }
            // Who does not read may lose an early answer.
            let may_lose_it = is_early && *stopped;
            assert!(troubles || answered || *left || may_lose_it, "{method} {target}: not served");
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_happens_everyone_gets_what_is_right_or_can_tell(
        deeds in prop::collection::vec(deed(), 1..40),
        io_bytes in prop_oneof![2 => Just(usize::MAX), 1 => 700..70_000usize],
        seed in any::<u64>(),
    ) {
        let mut scene = Scene::new(seed, io_bytes);
        for deed in &deeds {
            scene.happens(deed);
        }
        scene.heal();
        scene.check(true);
        check_streams(&scene.world.transcript());
        scene.world.come_to_rest();
    }

    #[test]
    fn visitors_alone_harm_nobody_else(
        deeds in prop::collection::vec(deed_of_visitors(), 1..40),
        io_bytes in prop_oneof![2 => Just(usize::MAX), 1 => 700..70_000usize],
        seed in any::<u64>(),
    ) {
        let mut scene = Scene::new(seed, io_bytes);
        for deed in &deeds {
            scene.happens(deed);
        }
        scene.heal();
        scene.check(false);
        let transcript = scene.world.transcript();
        prop_assert!(!transcript.contains("| leave") && !transcript.contains("| dial"), "no link ended");
        check_streams(&transcript);
        scene.world.come_to_rest();
    }
}

// ---- strangers -----------------------------------------------------------------------------------------------------

/// Bytes that may be a part of HTTP, or of nothing.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let text = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HEAD / HTTP/1.0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
        "Host: a\r\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "Connection: Upgrade\r\nUpgrade: echo\r\n",
        "Expect: 100-continue\r\n",
        "\r\n",
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "hello",
        "GET /_connect_tunnel HTTP/1.1\r\nHost: a\r\nAuthorization: Gesher 1.a.b\r\n\r\n",
    ]);
    prop_oneof![
        8 => text.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..30),
        1 => (any::<u8>(), 1..100_000usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        10 => piece().prop_map(Act::Send),
        2 => (0..3_000u64).prop_map(Act::WaitMs),
        1 => (0..3_000u64).prop_map(Act::StopReadingMs),
        1 => Just(Act::AwaitBody),
        1 => Just(Act::Finish),
        1 => Just(Act::Close),
        1 => Just(Act::Reset),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_visitor_may_send_anything(
        pieces in prop::collection::vec((piece(), 0..3_000u64), 1..20),
        end in any::<bool>(),
    ) {
        let mut world = world();
        let visitor = world.visit();
        for (bytes, pause_ms) in &pieces {
            world.send(visitor, bytes);
            world.run_ms(*pause_ms);
        }
        if end {
            world.send_end(visitor);
        }
        world.run_ms(200_000);
        let received = Bytes(world.received(visitor));
        let Bytes(bytes) = &received;
        prop_assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 "), "{:?}", received);
        prop_assert!(world.ended(visitor).is_some(), "nobody waits for ever: {:?}", received);
        world.come_to_rest();
    }

    #[test]
    fn an_app_may_answer_anything(acts in prop::collection::vec(act(), 0..12), io_bytes in 100..70_000usize) {
        let mut world = World::new("an app of any kind", 7, 5, Sealing::FixedIv);
        world.start_gateway(|config| config);
        world.start_app("app", move |_| acts.clone());
        world.start_connector("connector-1", "app", |config| config);
        world.limit_io(io_bytes);
        world.run_ms(50);
        let upgrade = "Connection: Upgrade\r\nUpgrade: echo\r\n";
        for (method, fields) in [("GET", ""), ("HEAD", ""), ("POST", "Content-Length: 5\r\n"), ("GET", upgrade)] {
            let visitor = world.visit();
            world.send(visitor, format!("{method} / HTTP/1.1\r\nHost: example.org\r\n{fields}\r\n"));
            world.send(visitor, if method == "POST" { "hello" } else { "" });
            world.run_ms(70_000);
            let ended = world.ended(visitor);
            let responses = responses(&world.received(visitor), &[method], ended == Some(true));
            match responses.last() {
                Some(last) if last.status == 101 => {}
                Some(last) => prop_assert!(last.whole || ended == Some(false) || world.app_connections("app") > 0),
                None => prop_assert_eq!(ended, Some(false)),
            }
        }
        world.come_to_rest();
    }
}

#[test]
fn a_visitor_that_asks_without_reading_is_held_back() {
    let mut world = World::new("a visitor that asks and asks", 7, 5, Sealing::FixedIv);
    world.start_gateway(|config| config);
    let visitor = world.visit();
    world.set_reading(visitor, false);
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(40_000);
    world.send(visitor, &requests);
    world.run_ms(1_000);
    let unsent = world.unsent(visitor);
    assert!(unsent > requests.len() / 2, "{unsent} B of {} B were not taken", requests.len());
    world.set_reading(visitor, true);
    world.run_ms(1_000);
    let methods = vec!["GET"; 40_000];
    assert_eq!(
        responses(&world.received(visitor), &methods, false).len(),
        40_000,
        "and gets all its answers"
    );
    world.come_to_rest();
}
