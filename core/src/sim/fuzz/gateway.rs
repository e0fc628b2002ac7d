//! A gateway between visitors and connectors, all of whom the fuzzer plays. Connectors join with the right keys.
//!
//! ```text
//! options │ acts, each with what it needs
//! ```
//! What a connector sends on a stream is all one byte, which depends on the stream and which its response's head names;
//! the same of a visitor's requests. So a byte that comes to the wrong place is seen, as long as nobody sends what the
//! fuzzer made up.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::input::Input;
use super::link::{FarEnd, Heard};
use super::rig::{ACTS_MAX, LONG, Rig};
use super::visitor::{Client, Received};
use crate::config::GatewayConfig;
use crate::drive::Close;
use crate::http1::body::BodyKind;
use crate::http1::head::{HeadKind, HeadScan, parse_request};
use crate::hub::GatewayHub;
use crate::limits;
use crate::link::frame::{Frame, Hello, ResetCode};
use crate::link::handshake::{JoinAttempt, JoinOutcome};
use crate::machine::Process;
use crate::seal::FixedIv;
use crate::sim::world::test_keys;
use crate::time::Instant;
use crate::websocket::Role;

const VISITORS_MAX: usize = 4;
const CONNECTORS_MAX: usize = 3;

/// Acts as visitors and connectors of a gateway.
pub fn gateway_connection(data: &[u8]) {
    let mut input = Input::new(data);
    let mut scene = Scene::new(input.byte());
    for _ in 0..ACTS_MAX {
        if input.is_empty() {
            break;
        }
        scene.step(&mut input);
        scene.rig.settle();
        scene.look();
    }
    scene.finish();
}

struct Scene {
    rig: Rig,
    hub: Arc<GatewayHub>,
    visitors: Vec<Visitor>,
    connectors: Vec<Connector>,
    /// The streams whose final response somebody got.
    answered: BTreeSet<Vec<u8>>,
    memory_bytes: u64,
    /// Nobody sent what the fuzzer made up.
    visitors_are_known: bool,
    connectors_are_known: bool,
}

struct Visitor {
    wire: usize,
    client: Client,
    ended: bool,
}

struct Connector {
    wire: usize,
    far: FarEnd,
    instance: u8,
    /// When it last sent something.
    last_sent: Instant,
    joined_at: Instant,
    /// The link may end, whatever the gateway does.
    may_end: bool,
}

impl Scene {
    fn new(options: u8) -> Self {
        let keys = test_keys("a secret of this world", "K3 2P QX");
        let mut config = GatewayConfig::new(keys).sealing_with(Arc::new(FixedIv));
        if options & 1 != 0 {
            config = config.memory(limits::MEMORY_BYTES_MIN).expect("the least there may be");
        }
        if options & 2 != 0 {
            config = config.body_max(10_000);
        }
        if options & 4 != 0 {
            config = config.connectors_max(1).expect("one is enough");
        }
        let memory_bytes = config.memory_bound().pool_bytes as u64;
        Self {
            rig: Rig::new(),
            hub: GatewayHub::new(config, [1; 32]),
            visitors: Vec::new(),
            connectors: Vec::new(),
            answered: BTreeSet::new(),
            memory_bytes,
            visitors_are_known: true,
            connectors_are_known: true,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..3 => self.visitor_asks(input),
            3 => self.visitor_sends(input),
            4 => self.visitor_acts(input),
            5 => self.connector_joins(input),
            6..11 => self.connector_says(input),
            11 => self.connector_sends(input),
            12 => self.connector_acts(input),
            13 | 14 => {
                self.rig
                    .pass(Duration::from_millis(input.one_of(&[1, 50, 1000, 4000, 11_000, 20_000, 40_000])));
                let now = self.rig.now().mono;
                for connector in &mut self.connectors {
                    let late = !connector.far.has_said_hello()
                        && now.since(connector.joined_at) >= limits::HELLO_TIME;
                    connector.may_end |= late || now.since(connector.last_sent) >= limits::SILENCE;
                }
            }
            _ => match input.below(16) {
                0 => self.rig.drain(&*self.hub.clone()),
                1..6 => self.rig.limit_io(input.one_of(&[17, 333, 5000])),
                _ => self.rig.limit_io(limits::READ_BYTES),
            },
        }
    }

    // ---- visitors --------------------------------------------------------------------------------------------------

    /// One of the visitors, who may only now come; none if the gateway does not let him in.
    fn visitor(&mut self, input: &mut Input<'_>) -> Option<usize> {
        let which = input.below(VISITORS_MAX);
        if which < self.visitors.len() && self.rig.closed(self.visitors[which].wire).is_none() {
            return Some(which);
        }
        let wire = self.accept()?;
        let visitor = Visitor { wire, client: Client::default(), ended: false };
        if which < self.visitors.len() {
            self.visitors[which] = visitor;
            Some(which)
        } else {
            self.visitors.push(visitor);
            Some(self.visitors.len() - 1)
        }
    }

    fn accept(&mut self) -> Option<usize> {
        let from = SocketAddr::from(([192, 0, 2, 1], 40_000));
        let machine = (self.hub.clone() as Arc<dyn Process>).accept(from)?;
        let wire = self.rig.open(machine);
        self.rig.settle();
        Some(wire)
    }

    /// A well-formed request, or more of its body.
    fn visitor_asks(&mut self, input: &mut Input<'_>) {
        let Some(which) = self.visitor(input) else { return };
        let (kind, count) = (input.below(12), usize::from(input.byte()));
        let value = marker_of_visitor(which);
        let body = |count: usize| String::from_utf8(vec![value; count]).expect("ASCII");
        let start = |method: &str| format!("{method} /x HTTP/1.1\r\nHost: a\r\nX-Visitor: {which}\r\n");
        let many = count * 300;
        let bytes = match kind {
            _ if !self.visitors[which].client.is_between_requests() => body(many),
            0..3 => start("GET") + "\r\n",
            3 => start("HEAD") + "\r\n",
            4 => start("POST") + &format!("Content-Length: {count}\r\n\r\n{}", body(count)),
            5 => start("PUT") + &format!("Content-Length: {many}\r\n\r\n{}", body(many / 2)),
            6 => {
                let chunk = format!("{:x}\r\n{}\r\n", count + 1, body(count + 1));
                start("POST") + &format!("Transfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\nA: b\r\n\r\n")
            }
            7 => start("GET") + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            8 => format!("GET /x HTTP/1.0\r\nX-Visitor: {which}\r\n\r\n"),
            9 => start("POST") + &format!("Expect: 100-continue\r\nContent-Length: {many}\r\n\r\n"),
            10 => start("GET") + "Connection: close\r\n\r\n",
            _ => start("OPTIONS") + "TE: trailers\r\nConnection: TE\r\n\r\n",
        };
        self.send_as_visitor(which, bytes.as_bytes());
    }

    fn visitor_sends(&mut self, input: &mut Input<'_>) {
        let Some(which) = self.visitor(input) else { return };
        self.visitors_are_known = false;
        self.send_as_visitor(which, input.long_bytes());
    }

    fn send_as_visitor(&mut self, which: usize, bytes: &[u8]) {
        let visitor = &mut self.visitors[which];
        if !visitor.ended {
            visitor.client.asks(bytes);
            self.rig.send(visitor.wire, bytes);
        }
    }

    fn visitor_acts(&mut self, input: &mut Input<'_>) {
        let Some(which) = self.visitor(input) else { return };
        let wire = self.visitors[which].wire;
        match input.below(4) {
            0 => {
                self.visitors[which].ended = true;
                self.rig.end(wire);
            }
            1 => self.rig.reset(wire),
            2 => self.rig.set_taking(wire, false),
            _ => self.rig.set_taking(wire, true),
        }
    }

    // ---- connectors ------------------------------------------------------------------------------------------------

    fn connector_joins(&mut self, input: &mut Input<'_>) {
        let (instance, epoch, says_hello) = (input.byte() % 3 + 1, input.byte(), input.byte());
        if self.connectors.len() == CONNECTORS_MAX {
            return;
        }
        let Some(wire) = self.accept() else { return };
        let now = self.rig.now();
        // A join is a signature, which counts once: each has a generator of its own.
        let mut rng = ChaCha20Rng::seed_from_u64(wire as u64);
        let keys = test_keys("a secret of this world", "K3 2P QX");
        let (attempt, join) = JoinAttempt::new(&keys, now.unix, "gateway", "", &mut rng);
        self.rig.send(wire, &join);
        self.rig.settle();
        let answer = self.rig.take_output(wire);
        let mut scan = HeadScan::default();
        let head = scan.take(&answer, HeadKind::Response).expect("a well-formed answer");
        let Some(head) = head else { return };
        let (length, head) = (head.len(), head.response().expect("a well-formed answer"));
        let JoinOutcome::Joined(keys) = attempt.judge(&head) else {
            // Joins of one address come one in six seconds.
            return assert!(matches!(head.status, 429 | 503), "a right join is accepted");
        };
        let far = FarEnd::new(Role::Connector, &keys);
        let at = now.mono;
        self.connectors.push(Connector { wire, far, instance, last_sent: at, joined_at: at, may_end: false });
        let which = self.connectors.len() - 1;
        self.hear(which, &answer[length..]);
        if says_hello < 240 {
            self.say_hello(which, epoch, says_hello);
        }
    }

    fn say_hello(&mut self, which: usize, epoch: u8, options: u8) {
        let instance = self.connectors[which].instance;
        let hello = Hello {
            streams_max: if options & 1 == 0 { limits::STREAMS_MAX } else { u32::from(options % 7) },
            window: if options & 2 == 0 { limits::WINDOW_BYTES } else { u32::from(options) * 7 },
            name: "office".into(),
            instance: (options & 0x1c != 0x1c).then_some([instance; 16]),
            epoch: u64::from(epoch),
            ..Hello::default()
        };
        // Of two links of one connector one ends.
        let of_same = |connector: &&mut Connector| connector.instance == instance;
        if self.connectors.iter_mut().filter(of_same).count() > 1 {
            self.connectors.iter_mut().filter(of_same).for_each(|connector| connector.may_end = true);
        }
        let mut frames = Vec::new();
        self.connectors[which].far.say(&Frame::Hello(hello), true, &mut frames);
        self.send_record(which, &frames);
    }

    /// One record with some frames, which are as they should be unless the fuzzer insists.
    fn connector_says(&mut self, input: &mut Input<'_>) {
        if self.connectors.is_empty() {
            return;
        }
        let which = input.below(self.connectors.len());
        let mut frames = Vec::new();
        for _ in 0..=input.below(4) {
            let connector = &mut self.connectors[which];
            let insists = input.byte() > 230;
            let streams = &connector.far.streams;
            let place = input.below(streams.len().min(256));
            let stream = streams.keys().rev().nth(place).copied().unwrap_or(1);
            if insists {
                self.connectors_are_known = false;
            }
            say_one(&mut connector.far, which, stream, insists, input, &mut frames);
        }
        self.send_record(which, &frames);
    }

    /// A record, or bytes, that the fuzzer made up.
    fn connector_sends(&mut self, input: &mut Input<'_>) {
        if self.connectors.is_empty() {
            return;
        }
        let which = input.below(self.connectors.len());
        self.connectors_are_known = false;
        self.connectors[which].may_end = true;
        if input.coin() {
            let mut frames = Vec::new();
            self.connectors[which].far.say_anything(input.long_bytes(), &mut frames);
            self.send_record(which, &frames);
        } else {
            self.connectors[which].far.broke_rules = true;
            self.rig.send(self.connectors[which].wire, input.bytes());
        }
    }

    fn send_record(&mut self, which: usize, frames: &[u8]) {
        let connector = &mut self.connectors[which];
        connector.last_sent = self.rig.now().mono;
        let record = connector.far.seal(frames);
        self.rig.send(connector.wire, &record);
    }

    fn connector_acts(&mut self, input: &mut Input<'_>) {
        if self.connectors.is_empty() {
            return;
        }
        let which = input.below(self.connectors.len());
        let connector = &mut self.connectors[which];
        match input.below(5) {
            0 => self.rig.end(connector.wire),
            1 => self.rig.reset(connector.wire),
            2 => return self.rig.set_taking(connector.wire, false),
            3 => return self.rig.set_taking(connector.wire, true),
            _ if self.rig.closed(connector.wire).is_some() => {
                // Its place is free for another one, and its streams are nobody's from now on.
                self.connectors_are_known = false;
                self.connectors.remove(which);
                return;
            }
            _ => {}
        }
        connector.may_end = true;
    }

    // ---- what comes out --------------------------------------------------------------------------------------------

    fn look(&mut self) {
        for which in 0..self.connectors.len() {
            let output = self.rig.take_output(self.connectors[which].wire);
            self.hear(which, &output);
            let connector = &self.connectors[which];
            let excused = connector.may_end || connector.far.broke_rules || connector.far.is_going_away();
            if self.rig.closed(connector.wire).is_some() {
                assert!(excused, "a link with an honest connector was cut: {:?}", self.rig.events());
            }
            let must_end = connector.far.must_end() && self.rig.is_open(connector.wire);
            assert!(!must_end, "more is taken than there was credit for");
        }
        let open = self.connectors.iter().filter(|connector| self.rig.is_open(connector.wire));
        let promised: u64 = open.map(|connector| connector.far.promised()).sum();
        assert!(promised <= self.memory_bytes, "more credit than memory: {promised} B");
        for which in 0..self.visitors.len() {
            let visitor = &mut self.visitors[which];
            let output = self.rig.take_output(visitor.wire);
            let mut responses = Vec::new();
            visitor.client.hear(&output, |received| responses.push(received));
            match self.rig.closed(visitor.wire) {
                Some(Close::Quietly) => responses.extend(visitor.client.ended()),
                _ => responses.extend(visitor.client.part().cloned()),
            }
            for received in responses {
                self.check_response(&received);
            }
        }
    }

    fn hear(&mut self, which: usize, bytes: &[u8]) {
        let known = self.visitors_are_known;
        let mut visitors = std::collections::BTreeMap::new();
        for (stream, state) in &self.connectors[which].far.streams {
            visitors.insert(*stream, state.heard.head.clone());
        }
        self.connectors[which].far.hear(bytes, |stream, heard| match heard {
            Heard::Head(head) => _ = visitors.insert(stream, Some(head.to_vec())),
            Heard::Data(bytes) if known => {
                let head = visitors.get(&stream).cloned().flatten().expect("DATA behind a head");
                let head = parse_request(&head).expect("a head that crosses the link is one");
                let visitor = head.get("x-visitor").expect("every request has it");
                let visitor = usize::from(visitor[0] - b'0');
                assert!(
                    bytes.iter().all(|byte| *byte == marker_of_visitor(visitor)),
                    "another visitor's bytes"
                );
            }
            Heard::Data(_) => {}
        });
    }

    /// A visitor gets the bytes of the stream that answers him, all of them if it is whole, and nobody else does.
    fn check_response(&mut self, received: &Received) {
        let Some(name) = received.stream.clone().filter(|_| self.connectors_are_known) else { return };
        let text = String::from_utf8(name.clone()).expect("two numbers");
        let (which, stream) = text.split_once('.').expect("two numbers");
        let which: usize = which.parse().expect("a number");
        let stream: u32 = stream.parse().expect("a number");
        let value = marker_of_stream(which, stream);
        assert!(received.body.iter().all(|byte| *byte == value), "another exchange's bytes");
        let said = &self.connectors[which].far.streams[&stream].said;
        assert!(received.body.len() as u64 <= said.bytes);
        if received.whole {
            assert!(
                said.is_whole() && received.body.len() as u64 == said.bytes,
                "a part is taken for the whole"
            );
            assert!(self.answered.insert(name), "a response comes twice");
        }
    }

    /// Nobody does anything any more: all comes to its end by itself, and nothing is held.
    fn finish(&mut self) {
        self.rig.limit_io(limits::READ_BYTES);
        self.rig.pass(LONG);
        self.connectors.iter_mut().for_each(|connector| connector.may_end = true);
        self.look();
        assert!(self.rig.all_closed(), "a connection never ends");
        assert!(self.hub.is_at_rest(), "something is held");
    }
}

fn marker_of_visitor(which: usize) -> u8 {
    b"vwxy"[which % VISITORS_MAX]
}

fn marker_of_stream(which: usize, stream: u32) -> u8 {
    (which as u32 * 85 + stream % 85 + 1) as u8
}

/// One frame from a connector.
fn say_one(
    far: &mut FarEnd,
    which: usize,
    stream: u32,
    insists: bool,
    input: &mut Input<'_>,
    frames: &mut Vec<u8>,
) {
    let kinds =
        [BodyKind::None, BodyKind::Sized(300), BodyKind::Sized(40_000), BodyKind::Unknown, BodyKind::Upgrade];
    let (what, amount) = (input.below(16), input.byte());
    let bytes = vec![
        marker_of_stream(which, stream);
        [1, 300, 4096, limits::DATA_BYTES_MAX][usize::from(amount % 4)]
    ];
    let frame = match what {
        0..4 => {
            let statuses = [
                "200 OK",
                "204",
                "304 Not Modified",
                "100 Continue",
                "103",
                "101 Switching Protocols",
                "500",
            ];
            let status = statuses[usize::from(amount) % statuses.len()];
            let upgrade = if status.starts_with("101") { "Upgrade: websocket\r\n" } else { "" };
            let head = format!("HTTP/1.1 {status}\r\n{upgrade}X-Stream: {which}.{stream}\r\n\r\n");
            let kind = match status.as_bytes() {
                [b'1', b'0', b'1', ..] => BodyKind::Upgrade,
                [b'1', ..] => BodyKind::None,
                _ => input.one_of(&kinds),
            };
            return far.say(&Frame::Response { stream, kind, head: head.as_bytes() }, insists, frames);
        }
        4..8 => Frame::Data { stream, bytes: &bytes },
        8 | 9 => {
            let trailers: &[u8] = if amount & 7 == 0 { b"Digest: x\r\n" } else { b"" };
            Frame::End { stream, trailers }
        }
        10 => {
            let codes =
                [ResetCode::Cancelled, ResetCode::Refused, ResetCode::TargetUnreachable, ResetCode::Internal];
            Frame::Reset { stream, code: codes[usize::from(amount) % codes.len()], reason: "no more" }
        }
        11 => Frame::Window { stream, credit: u32::from(amount) * u32::from(amount) * 97 + 1 },
        12 => Frame::Ping([amount; 8]),
        13 => Frame::Pong(far.ping.unwrap_or([amount; 8])),
        14 if amount > 200 => Frame::GoAway { wait_ms: 10_000, reason: "goes" },
        14 if amount % 2 == 1 => Frame::PeersAsk,
        14 => Frame::StatsAsk,
        _ if amount > 250 => Frame::Hello(Hello::default()),
        _ => Frame::Window { stream, credit: limits::WINDOW_BYTES },
    };
    far.say(&frame, insists, frames);
}
