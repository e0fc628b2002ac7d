//! A connector between a gateway and an app, both of which the fuzzer plays. The gateway has the right keys.
//!
//! ```text
//! options │ acts, each with what it needs
//! ```
//! As in `gateway.rs` all bytes of a stream are the same, and heads name their stream.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::app::{Answer, Server};
use super::input::Input;
use super::link::{FarEnd, Heard};
use super::rig::{ACTS_MAX, LONG, Rig};
use crate::auth::Doorman;
use crate::config::{ConnectorConfig, GatewayUrl, TargetUrl};
use crate::drive::Close;
use crate::http1::body::BodyKind;
use crate::http1::head::parse_request;
use crate::http1::hop::HostRule;
use crate::hub::ConnectorHub;
use crate::limits;
use crate::link::frame::{Frame, Hello, Peer, RequestNotes, ResetCode, Stats, put_peers};
use crate::link::handshake::{Verdict, verify};
use crate::machine::{Dial, Endpoint, Process};
use crate::seal::FixedIv;
use crate::sim::world::test_keys;
use crate::time::Instant;
use crate::websocket::Role;

/// Connections to the app that the fuzzer acts on.
const APPS_MAX: usize = 4;

/// Acts as the gateway and the app of a connector.
pub fn connector_connection(data: &[u8]) {
    let mut input = Input::new(data);
    let mut scene = Scene::new(input.byte());
    for _ in 0..ACTS_MAX {
        if input.is_empty() {
            break;
        }
        scene.step(&mut input);
        scene.settle();
        scene.look();
    }
    scene.finish();
}

struct Scene {
    rig: Rig,
    hub: Arc<ConnectorHub>,
    doorman: Mutex<Doorman>,
    /// Dials to the app succeed at once.
    opens_apps: bool,
    dials: Vec<(Instant, Dial)>,
    link: Option<Link>,
    /// How many there were.
    links: usize,
    apps: Vec<App>,
    /// What the app answered on each stream of the link.
    answers: BTreeMap<u32, Answer>,
    /// Nobody sent what the fuzzer made up.
    gateway_is_known: bool,
    apps_are_known: bool,
    drained: bool,
}

struct Link {
    wire: usize,
    /// None until the join was accepted.
    far: Option<FarEnd>,
    last_sent: Instant,
    opened_at: Instant,
    may_end: bool,
}

struct App {
    wire: usize,
    server: Server,
    /// It sends no more.
    ended: bool,
    /// What it last began has a length, of which so much is left; none for chunks or the end of the connection.
    left: Option<u64>,
}

impl Scene {
    fn new(options: u8) -> Self {
        let gateway = GatewayUrl::parse("http://gateway").expect("a host name");
        let target = TargetUrl::parse("http://app").expect("a host name");
        let keys = test_keys("a secret of this world", "K3 2P QX");
        let rule = if options & 2 == 0 { HostRule::Rewrite } else { HostRule::Preserve };
        let mut config = ConnectorConfig::new(keys, gateway, target)
            .name("office")
            .host_rule(rule)
            .sealing_with(Arc::new(FixedIv));
        if options & 4 != 0 {
            config = config.memory(limits::MEMORY_BYTES_MIN).expect("the least there may be");
        }
        let hub = ConnectorHub::new(config, [2; 32]);
        let mut rig = Rig::new();
        let supervisor = (hub.clone() as Arc<dyn Process>).supervisor().expect("a connector has one");
        rig.open(supervisor);
        let mut scene = Self {
            rig,
            hub,
            doorman: Mutex::default(),
            opens_apps: options & 1 == 0,
            dials: Vec::new(),
            link: None,
            links: 0,
            apps: Vec::new(),
            answers: BTreeMap::new(),
            gateway_is_known: true,
            apps_are_known: true,
            drained: false,
        };
        scene.settle();
        if options & 8 == 0 {
            scene.accept_link();
            scene.say_hello();
            scene.settle();
            scene.look();
        }
        scene
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(20) {
            0 => self.answer_a_dial(input),
            1 => self.answer_a_join(input),
            2..8 => self.gateway_says(input),
            8 => self.gateway_sends(input),
            9..15 => self.app_answers(input),
            15 => self.app_acts(input),
            16 => self.gateway_acts(input),
            17 | 18 => self.pass(input.one_of(&[1, 50, 900, 1100, 4000, 11_000, 20_000])),
            _ => match input.below(16) {
                0 => {
                    self.drained = true;
                    self.rig.drain(&*self.hub.clone());
                }
                1 => {
                    let hub = self.hub.clone();
                    self.rig.call(|cx| hub.ask_stats(cx));
                }
                2..6 => self.rig.limit_io(input.one_of(&[17, 333, 5000])),
                _ => self.rig.limit_io(limits::READ_BYTES),
            },
        }
    }

    /// Lets time pass. A dial that takes too long is given up.
    fn pass(&mut self, ms: u64) {
        const STEP_MS: u64 = 4000;
        for step in (0..ms).step_by(STEP_MS as usize) {
            self.rig.pass(Duration::from_millis(STEP_MS.min(ms - step)));
            self.settle();
            let now = self.rig.now().mono;
            let is_late = |(at, dial): &mut (Instant, Dial)| now.since(*at) >= dial.timeout;
            for (_, dial) in self.dials.extract_if(.., is_late) {
                self.rig.refuse(dial);
            }
            if let Some(link) = &mut self.link {
                let said_hello = link.far.as_ref().is_some_and(FarEnd::has_said_hello);
                let late = !said_hello && now.since(link.opened_at) >= limits::HELLO_TIME;
                link.may_end |= late || now.since(link.last_sent) >= limits::SILENCE;
            }
        }
    }

    /// Lets everyone act, and opens what was dialled if that is how it goes.
    fn settle(&mut self) {
        loop {
            self.rig.settle();
            let mut opened = false;
            for dial in self.rig.take_dials() {
                if self.opens_apps && is_to_app(&dial) {
                    self.open_app(dial);
                    opened = true;
                } else {
                    self.dials.push((self.rig.now().mono, dial));
                }
            }
            if !opened {
                return;
            }
        }
    }

    fn open_app(&mut self, dial: Dial) {
        let wire = self.rig.open(dial.machine);
        self.apps.push(App { wire, server: Server::default(), ended: false, left: None });
    }

    fn answer_a_dial(&mut self, input: &mut Input<'_>) {
        if self.dials.is_empty() {
            return;
        }
        let (at, dial) = self.dials.remove(input.below(self.dials.len()));
        match (input.below(4), is_to_app(&dial)) {
            (0, _) => self.rig.refuse(dial),
            (_, true) => self.open_app(dial),
            (1, false) => self.open_link(dial),
            (_, false) => {
                self.dials.push((at, dial));
                self.accept_link();
                self.say_hello();
            }
        }
    }

    // ---- the gateway -----------------------------------------------------------------------------------------------

    /// Opens the connection of a link; its join is not answered yet.
    fn open_link(&mut self, dial: Dial) {
        let at = self.rig.now().mono;
        let wire = self.rig.open(dial.machine);
        self.link = Some(Link { wire, far: None, last_sent: at, opened_at: at, may_end: false });
        // Streams are numbered anew.
        self.links += 1;
        self.answers.clear();
        self.rig.settle();
    }

    /// Lets the connector join, if it dials.
    fn accept_link(&mut self) {
        let Some(place) = self.dials.iter().position(|(_, dial)| !is_to_app(dial)) else { return };
        let (_, dial) = self.dials.remove(place);
        self.open_link(dial);
        self.accept_join();
    }

    fn accept_join(&mut self) {
        let Some(link) = self.link.as_mut().filter(|link| link.far.is_none()) else { return };
        let join = self.rig.take_output(link.wire);
        let Ok(head) = parse_request(&join) else { return };
        let keys = test_keys("a secret of this world", "K3 2P QX");
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let verdict = verify(&head, &keys, self.rig.now(), from, &self.doorman, &mut rng);
        let Verdict::Accepted(accepted) = verdict else { panic!("a right join is accepted: {verdict:?}") };
        let (answer, keys) = accepted.into_parts();
        self.rig.send(link.wire, &answer);
        link.far = Some(FarEnd::new(Role::Gateway, &keys));
        (link.last_sent, link.opened_at) = (self.rig.now().mono, self.rig.now().mono);
    }

    fn say_hello(&mut self) {
        let hello = Hello {
            streams_max: limits::STREAMS_MAX,
            window: limits::WINDOW_BYTES,
            id: "1a2b".into(),
            ..Hello::default()
        };
        self.say(|far, frames| far.say(&Frame::Hello(hello), false, frames));
    }

    /// Sends a record of what `put` puts.
    fn say(&mut self, put: impl FnOnce(&mut FarEnd, &mut Vec<u8>)) {
        let Some(Link { wire, far: Some(far), last_sent, .. }) = &mut self.link else { return };
        let mut frames = Vec::new();
        put(far, &mut frames);
        let record = far.seal(&frames);
        self.rig.send(*wire, &record);
        *last_sent = self.rig.now().mono;
    }

    /// Answers a join as a gateway does, or with anything.
    fn answer_a_join(&mut self, input: &mut Input<'_>) {
        if input.below(4) > 0 {
            self.accept_join();
            return self.say_hello();
        }
        let Some(link) = &mut self.link else { return };
        link.may_end = true;
        match &mut link.far {
            None => self.rig.send(link.wire, input.long_bytes()),
            Some(far) => {
                far.broke_rules = true;
                self.gateway_is_known = false;
                self.rig.send(link.wire, input.bytes());
            }
        }
    }

    /// One record with some frames, which are as they should be unless the fuzzer insists.
    fn gateway_says(&mut self, input: &mut Input<'_>) {
        let count = input.below(4);
        let mut insisted = false;
        self.say(|far, frames| {
            for _ in 0..=count {
                let insists = input.byte() > 230;
                insisted |= insists;
                say_one(far, insists, input, frames);
            }
        });
        if insisted {
            self.gateway_is_known = false;
        }
    }

    /// A record that the fuzzer made up.
    fn gateway_sends(&mut self, input: &mut Input<'_>) {
        self.gateway_is_known = false;
        self.say(|far, frames| far.say_anything(input.long_bytes(), frames));
    }

    fn gateway_acts(&mut self, input: &mut Input<'_>) {
        let Some(link) = &mut self.link else { return };
        match input.below(4) {
            0 => self.rig.end(link.wire),
            1 => self.rig.reset(link.wire),
            2 => return self.rig.set_taking(link.wire, false),
            _ => return self.rig.set_taking(link.wire, true),
        }
        link.may_end = true;
    }

    // ---- the app ---------------------------------------------------------------------------------------------------

    /// One of the newest connections to the app.
    fn app(&self, input: &mut Input<'_>) -> Option<usize> {
        let back = input.below(APPS_MAX.min(self.apps.len()));
        self.apps.len().checked_sub(back + 1)
    }

    /// A well-formed answer, more of one, or anything.
    fn app_answers(&mut self, input: &mut Input<'_>) {
        let Some(which) = self.app(input) else { return };
        let (what, amount) = (input.below(14), u64::from(input.byte()));
        let app = &mut self.apps[which];
        if app.ended {
            return;
        }
        if what == 13 {
            self.apps_are_known = false;
            return self.rig.send(app.wire, input.long_bytes());
        }
        let Some(request) = app.server.waits() else { return };
        let value = marker_of_answer(request.stream.unwrap_or(0));
        let body = |count: u64| String::from_utf8(vec![value; count as usize]).expect("ASCII");
        let (is_head, asks_for_upgrade) = (request.method == b"HEAD", request.asks_for_upgrade);
        let mut whole = false;
        let (bytes, body_bytes) = match what {
            _ if request.answer.began => match app.left {
                Some(left) => {
                    let count = left.min(amount * 100);
                    app.left = Some(left - count);
                    whole = left == count;
                    (body(count), count)
                }
                None if what == 0 => {
                    whole = true;
                    (String::from("0\r\n\r\n"), 0)
                }
                None => (format!("{:x}\r\n{}\r\n", amount + 1, body(amount + 1)), amount + 1),
            },
            0 | 1 => {
                whole = true;
                let sent = if is_head { 0 } else { amount };
                (format!("HTTP/1.1 200 OK\r\nContent-Length: {amount}\r\n\r\n{}", body(sent)), sent)
            }
            2 | 3 if !is_head => {
                request.answer.began = true;
                app.left = Some(amount * 300 + 1);
                // A page that may refuse a name waits at the connector for its body.
                let refusal = "403 Forbidden\r\nContent-Type: text/html";
                let status = if amount % 2 == 1 { refusal } else { "200 OK" };
                (format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", amount * 300 + 1), 0)
            }
            4 | 5 if !is_head => {
                request.answer.began = true;
                app.left = None;
                (String::from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), 0)
            }
            6 => {
                whole = true;
                (String::from("HTTP/1.1 204 No Content\r\nKeep-Alive: timeout=3\r\n\r\n"), 0)
            }
            7 => {
                whole = true;
                (String::from("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"), 0)
            }
            8 => (String::from("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), 0),
            9 => (String::from("HTTP/1.1 100 Continue\r\n\r\n"), 0),
            10 if asks_for_upgrade => {
                // What follows is opaque: made of markers too.
                app.server.upgrades();
                app.left = Some(u64::MAX);
                let head =
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                (head.to_owned() + &body(amount), amount)
            }
            11 if !is_head => {
                whole = true;
                let head = "HTTP/1.1 500 Oops\r\nConnection: close\r\nContent-Length: ";
                (format!("{head}{amount}\r\n\r\n{}", body(amount)), amount)
            }
            12 if !is_head => {
                // Until the connection ends, which makes it whole.
                request.answer.began = true;
                app.left = Some(u64::MAX);
                (format!("HTTP/1.0 200 OK\r\n\r\n{}", body(amount)), amount)
            }
            _ => {
                whole = true;
                (String::from("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), 0)
            }
        };
        if let Some(request) = app.server.waits() {
            request.answer.body_bytes += body_bytes;
        }
        if whole {
            app.server.answered();
        }
        self.rig.send(app.wire, bytes.as_bytes());
    }

    fn app_acts(&mut self, input: &mut Input<'_>) {
        let Some(which) = self.app(input) else { return };
        let app = &mut self.apps[which];
        match input.below(4) {
            0 => {
                app.ended = true;
                if app.left.is_some_and(|left| left > u64::MAX / 2) {
                    app.server.answered();
                }
                self.rig.end(app.wire);
            }
            1 => {
                app.ended = true;
                self.rig.reset(app.wire);
            }
            2 => self.rig.set_taking(app.wire, false),
            _ => self.rig.set_taking(app.wire, true),
        }
    }

    // ---- what comes out --------------------------------------------------------------------------------------------

    fn look(&mut self) {
        for app in &mut self.apps {
            let output = self.rig.take_output(app.wire);
            let known = self.gateway_is_known;
            app.server.hear(self.links, &output, |stream, bytes| {
                let marker = marker_of_request(stream.unwrap_or(0));
                assert!(!known || bytes.iter().all(|byte| *byte == marker), "another exchange's bytes");
            });
            if self.apps_are_known {
                app.server.check_turns();
            }
            if self.rig.closed(app.wire) == Some(Close::Quietly) {
                app.server.ended();
            }
        }
        self.look_at_link();
    }

    fn look_at_link(&mut self) {
        let Some(link) = &mut self.link else { return };
        let known = self.gateway_is_known && self.apps_are_known;
        if let Some(far) = &mut link.far {
            let output = self.rig.take_output(link.wire);
            far.hear(&output, |stream, heard| {
                if let Heard::Data(bytes) = heard {
                    let marker = marker_of_answer(stream);
                    assert!(!known || bytes.iter().all(|byte| *byte == marker), "another exchange's bytes");
                }
            });
        }
        for app in &mut self.apps {
            if let Some((stream, answer)) = app.server.answer(self.links) {
                // A request that was tried again is still known to the connection that did not answer it.
                let known = self.answers.entry(stream).or_default();
                if !known.whole {
                    *known = answer;
                }
            }
        }
        let far = link.far.as_ref();
        for (stream, state) in far.iter().flat_map(|far| &far.streams) {
            if known && state.heard.ended {
                let answer = self.answers.get(stream).copied().unwrap_or_default();
                let expected = Answer { whole: true, body_bytes: state.heard.bytes, ..answer };
                assert_eq!(answer, expected, "a part is taken for the whole: {stream}");
            }
        }
        let must_end = far.is_some_and(FarEnd::must_end) && self.rig.is_open(link.wire);
        assert!(!must_end, "more is taken than there was credit for");
        if self.rig.closed(link.wire).is_some() {
            let excused = far.is_none_or(|far| far.broke_rules || far.is_going_away());
            let excused = excused || link.may_end || self.drained;
            assert!(excused, "a link with an honest gateway was cut: {:?}", self.rig.events());
            self.link = None;
        }
    }

    /// Nobody does anything any more: all comes to its end by itself, and nothing is held.
    fn finish(&mut self) {
        self.rig.limit_io(limits::READ_BYTES);
        self.rig.drain(&*self.hub.clone());
        self.drained = true;
        if let Some(link) = &mut self.link {
            link.may_end = true;
        }
        let mut dials: Vec<Dial> = self.dials.drain(..).map(|(_, dial)| dial).collect();
        while !dials.is_empty() || !self.rig.all_closed() {
            dials.drain(..).for_each(|dial| self.rig.refuse(dial));
            self.rig.pass(LONG);
            dials = self.rig.take_dials();
            assert!(self.rig.all_closed() || !dials.is_empty(), "a connection never ends");
        }
        self.look();
        assert!(self.hub.is_at_rest(), "something is held");
    }
}

fn is_to_app(dial: &Dial) -> bool {
    matches!(&dial.to, Endpoint::Tcp { host, .. } if host == "app")
}

fn marker_of_request(stream: u32) -> u8 {
    b'a' + (stream % 26) as u8
}

fn marker_of_answer(stream: u32) -> u8 {
    b'A' + (stream % 26) as u8
}

/// One frame from a gateway.
fn say_one(far: &mut FarEnd, insists: bool, input: &mut Input<'_>, frames: &mut Vec<u8>) {
    let (what, amount) = (input.below(18), input.byte());
    let open = far.streams.len();
    let stream = far.streams.keys().rev().nth(input.below(open.min(256))).copied().unwrap_or(1);
    let next = far.streams.keys().last().map_or(1, |last| last.saturating_add(1));
    let lengths = [1, 300, 4096, limits::DATA_BYTES_MAX];
    let bytes = vec![marker_of_request(stream); lengths[usize::from(amount % 4)]];
    let frame = match what {
        0..6 => {
            let (start, kind) = match amount % 11 {
                0..3 => ("GET /x HTTP/1.1\r\n", BodyKind::None),
                3 => ("HEAD /x HTTP/1.1\r\n", BodyKind::None),
                4 => ("POST /x HTTP/1.1\r\n", BodyKind::Sized(u64::from(amount) * 300)),
                5 => ("POST /x HTTP/1.1\r\n", BodyKind::Unknown),
                6 => ("GET /x HTTP/1.1\r\nUpgrade: websocket\r\n", BodyKind::Upgrade),
                7 => ("PUT /x HTTP/1.1\r\nExpect: 100-continue\r\n", BodyKind::Sized(300)),
                8 => ("POST /x HTTP/1.1\r\nUpgrade: websocket\r\n", BodyKind::UpgradeSized(300)),
                9 => ("POST /x HTTP/1.1\r\nUpgrade: websocket\r\n", BodyKind::UpgradeChunked),
                _ => ("OPTIONS * HTTP/1.1\r\nTE: trailers\r\n", BodyKind::None),
            };
            let head = format!("{start}Host: a\r\nX-Forwarded-Host: a\r\nX-Stream: {next}\r\n\r\n");
            // A few visitors, and proxies among them, whose connections the app may log in.
            let credit = (amount & 0x08 != 0).then_some(limits::WINDOW_BYTES_MIN);
            let notes = RequestNotes {
                visitor: NonZeroU64::new(u64::from(amount >> 4 & 3)),
                response_credit: credit.filter(|_| amount & 0x04 != 0),
                body_credit: credit,
                ..RequestNotes::default()
            };
            far.say(&Frame::Request { stream: next, kind, notes, head: head.as_bytes() }, insists, frames);
            if amount & 0x80 == 0 && kind == BodyKind::None {
                far.say(&Frame::End { stream: next, trailers: b"" }, insists, frames);
            }
            return;
        }
        6..9 => Frame::Data { stream, bytes: &bytes },
        9 | 10 => {
            let trailers: &[u8] = if amount & 7 == 0 { b"Digest: x\r\n" } else { b"" };
            Frame::End { stream, trailers }
        }
        11 => {
            let codes = [ResetCode::Cancelled, ResetCode::Refused, ResetCode::ProtocolError];
            Frame::Reset { stream, code: codes[usize::from(amount) % codes.len()], reason: "no more" }
        }
        12 => Frame::Window { stream, credit: u32::from(amount) * u32::from(amount) * 97 + 1 },
        13 => Frame::Ping([amount; 8]),
        14 => Frame::Pong(far.ping.unwrap_or([amount; 8])),
        15 if amount > 200 => Frame::GoAway { wait_ms: 10_000, reason: "goes" },
        15 => {
            let peers = vec![Peer { id: "1a2b".into(), ..Peer::default() }; usize::from(amount % 3)];
            put_peers(&peers, frames);
            return;
        }
        16 => Frame::Stats(Stats::default()),
        _ => Frame::Window { stream, credit: limits::WINDOW_BYTES },
    };
    far.say(&frame, insists, frames);
}
