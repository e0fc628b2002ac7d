//! Whole deployments, with the bytes as their dice: who comes, what is asked and answered, what goes wrong and when.
//!
//! ```text
//! seed │ delay of the links │ most bytes at once │ connectors │ steps, each with what it needs
//! ```
//! The body of a request, and that of its response, are made of its name, which both heads carry.

use std::collections::BTreeMap;

use super::input::Input;
use super::visitor::{Client, Received};
use crate::limits;
use crate::sim::{Act, AppRequest, LinkTrouble, Sealing, Visitor, Way, World};

const STEPS_MAX: usize = 60;
const VISITORS_MAX: usize = 6;
const CONNECTORS: [&str; 3] = ["connector-1", "connector-2", "connector-3"];
/// Longer than what keeps a request waiting by turns: 25 s until a silent link ends, 30 s until the next dial, 60 s for
/// the app; and than the 75 s until an idle visitor is let go.
const WHILE_MS: u64 = 120_000;

/// Lets a deployment live through what the bytes say, heals it, and lets it come to rest.
pub fn conversation(data: &[u8]) {
    let mut input = Input::new(data);
    let mut story = Story::new(&mut input);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        story.step(&mut input);
        story.look();
    }
    story.heal();
    story.world.come_to_rest();
}

struct Story {
    world: World,
    visitors: Vec<Guest>,
    /// Who of gateway and connectors lives.
    gateway: bool,
    connectors: BTreeMap<&'static str, bool>,
    asked: usize,
}

struct Guest {
    visitor: Visitor,
    client: Client,
    /// The names of its requests, in their order, and how long the body of a whole response from the app is.
    asked: Vec<(String, usize)>,
    /// How many of them have a final response.
    answered: usize,
    /// It said that it sends no more, or left.
    silent: bool,
    gone: bool,
    /// Its gateway was killed: what came by then may be anything's part.
    orphaned: bool,
    /// What is left to send of a body.
    rest: Vec<u8>,
}

impl Story {
    fn new(input: &mut Input<'_>) -> Self {
        let (seed, delay_ms, io_bytes) =
            (input.byte(), input.byte(), input.one_of(&[0, 0, 0, 23, 700, 9000]));
        let mut world = World::new("a fuzzed conversation", seed.into(), delay_ms.into(), Sealing::FixedIv);
        if io_bytes > 0 {
            world.limit_io(io_bytes);
        }
        world.start_app("app", answer);
        let mut story =
            Self { world, visitors: Vec::new(), gateway: false, connectors: BTreeMap::new(), asked: 0 };
        story.start("gateway", input);
        for name in &CONNECTORS[..=input.below(CONNECTORS.len())] {
            story.start(name, input);
        }
        story.world.run_ms(u64::from(delay_ms) * 8);
        story
    }

    /// Starts a process that is not there.
    fn start(&mut self, name: &'static str, input: &mut Input<'_>) {
        let scarce = input.byte() > 230;
        const LEAST: &str = "the least there may be";
        if name == "gateway" {
            if !std::mem::replace(&mut self.gateway, true) {
                self.world.start_gateway(|config| match scarce {
                    true => config.memory(limits::MEMORY_BYTES_MIN).expect(LEAST),
                    false => config,
                });
            }
        } else if !self.connectors.insert(name, true).unwrap_or(false) {
            self.world.start_connector(name, "app", |config| match scarce {
                true => config.memory(limits::MEMORY_BYTES_MIN).expect(LEAST),
                false => config,
            });
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..5 => self.ask(input),
            5 => self.go_on(input),
            6 => self.act(input),
            7..10 => self.world.run_ms(input.one_of(&[1, 7, 50, 300, 2500])),
            10 => self.world.run_ms(input.one_of(&[6000, 11_000, 30_000, 76_000])),
            11 | 12 => self.trouble_a_link(input),
            13 => self.trouble_a_process(input),
            14 => match input.below(4) {
                0 => self.world.set_app_up("app", false),
                1 => self.world.set_app_dial_ms("app", u64::from(input.byte()) * 40),
                _ => {
                    self.world.set_app_up("app", true);
                    self.world.set_app_dial_ms("app", 0);
                }
            },
            _ => self.world.limit_io(input.one_of(&[23, 700, 9000, limits::READ_BYTES])),
        }
    }

    // ---- visitors --------------------------------------------------------------------------------------------------

    /// One of the visitors, who may only now come; none if there is nobody to come to.
    fn guest(&mut self, input: &mut Input<'_>) -> Option<usize> {
        let which = input.below(VISITORS_MAX);
        if which < self.visitors.len() && !self.visitors[which].gone {
            return Some(which);
        }
        if !self.gateway {
            return None;
        }
        let guest = Guest {
            visitor: self.world.visit(),
            client: Client::default(),
            asked: Vec::new(),
            answered: 0,
            silent: false,
            gone: false,
            orphaned: false,
            rest: Vec::new(),
        };
        if which < self.visitors.len() {
            self.visitors[which] = guest;
            return Some(which);
        }
        self.visitors.push(guest);
        Some(self.visitors.len() - 1)
    }

    fn ask(&mut self, input: &mut Input<'_>) {
        let Some(which) = self.guest(input) else { return };
        let (how, behaviour, size) = (input.below(7), input.below(BEHAVIOURS), input.byte());
        let guest = &mut self.visitors[which];
        if guest.silent || !guest.rest.is_empty() || !guest.client.is_between_requests() {
            return;
        }
        self.asked += 1;
        let name = format!("{}-{behaviour}-{size}", self.asked);
        let body = body_of(&name, size);
        let length = body.len();
        let start = |method: &str| format!("{method} /{name} HTTP/1.1\r\nHost: a\r\n");
        let (head, body) = match how {
            0..3 => (start("GET") + "\r\n", Vec::new()),
            3 => (start("POST") + &format!("Content-Length: {length}\r\n\r\n"), body),
            4 => {
                let chunks = [format!("{length:x}\r\n").as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
                let chunks = if length == 0 { b"0\r\n\r\n".to_vec() } else { chunks };
                (start("PUT") + "Transfer-Encoding: chunked\r\n\r\n", chunks)
            }
            5 => (start("GET") + "Connection: Upgrade\r\nUpgrade: echo\r\n\r\n", Vec::new()),
            _ => (start("HEAD") + "\r\n", Vec::new()),
        };
        // Part of a body comes later.
        let now = body.len() * input.below(4).min(3) / 3;
        let is_empty = how == 6 || behaviour == 12 || behaviour == 15 && how != 5;
        guest.asked.push((name, if is_empty { 0 } else { length }));
        guest.rest = body[now..].to_vec();
        let bytes = [head.as_bytes(), &body[..now]].concat();
        guest.client.asks(&bytes);
        self.world.send(guest.visitor, bytes);
    }

    /// The rest of a body.
    fn go_on(&mut self, input: &mut Input<'_>) {
        let Some(which) = self.guest(input) else { return };
        let guest = &mut self.visitors[which];
        if !guest.silent {
            let rest = std::mem::take(&mut guest.rest);
            guest.client.asks(&rest);
            self.world.send(guest.visitor, rest);
        }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let Some(which) = self.guest(input) else { return };
        let guest = &mut self.visitors[which];
        match input.below(4) {
            0 => {
                guest.silent = true;
                self.world.send_end(guest.visitor);
            }
            1 => {
                (guest.silent, guest.gone) = (true, true);
                self.world.leave(guest.visitor);
            }
            2 => self.world.set_reading(guest.visitor, false),
            _ => self.world.set_reading(guest.visitor, true),
        }
    }

    // ---- troubles --------------------------------------------------------------------------------------------------

    fn trouble_a_link(&mut self, input: &mut Input<'_>) {
        let name = input.one_of(&CONNECTORS);
        let way = if input.coin() { Way::ToGateway } else { Way::ToConnector };
        let trouble = match input.below(6) {
            0 => LinkTrouble::FlipBit(way),
            1 => LinkTrouble::Repeat(way),
            2 => LinkTrouble::Cut(way),
            3 => LinkTrouble::Reset,
            4 => LinkTrouble::Clog,
            _ => LinkTrouble::Forget,
        };
        let lives = self.connectors.get(name).copied().unwrap_or(false);
        if lives && self.world.may_trouble(name, trouble) {
            self.world.trouble(name, trouble);
        }
    }

    fn trouble_a_process(&mut self, input: &mut Input<'_>) {
        let name = input.one_of(&["gateway", CONNECTORS[0], CONNECTORS[1], CONNECTORS[2]]);
        let lives = match name {
            "gateway" => self.gateway,
            _ => self.connectors.get(name).copied().unwrap_or(false),
        };
        match input.below(4) {
            0 if lives => {
                self.world.kill(name);
                match name {
                    "gateway" => {
                        self.gateway = false;
                        self.visitors.iter_mut().for_each(|guest| guest.orphaned = true);
                    }
                    _ => _ = self.connectors.insert(name, false),
                }
            }
            1 if lives && name != "gateway" => {
                self.world.drain(name);
                self.connectors.insert(name, false);
            }
            2 if lives => self.world.set_skew(name, i64::from(input.byte() as i8) * 5),
            _ => self.start(name, input),
        }
    }

    // ---- what must hold --------------------------------------------------------------------------------------------

    fn look(&mut self) {
        for guest in &mut self.visitors {
            let bytes = self.world.received(guest.visitor);
            let mut responses = Vec::new();
            guest.client.hear(&bytes, |received| responses.push(received));
            if self.world.ended(guest.visitor) == Some(true) && !guest.orphaned {
                responses.extend(guest.client.ended());
            }
            if self.world.ended(guest.visitor).is_some() {
                (guest.silent, guest.gone) = (true, true);
            }
            for received in responses {
                guest.check(&received);
            }
            if let Some(part) = guest.client.part().cloned() {
                guest.check_part(&part);
            }
        }
    }

    /// Everything works again, and after long enough everyone has an answer or knows that there is none.
    fn heal(&mut self) {
        let mut nothing = Input::new(b"");
        self.world.limit_io(limits::READ_BYTES);
        self.world.set_app_up("app", true);
        self.world.set_app_dial_ms("app", 0);
        self.start("gateway", &mut nothing);
        for name in CONNECTORS {
            self.start(name, &mut nothing);
        }
        for guest in &mut self.visitors {
            self.world.set_reading(guest.visitor, true);
        }
        // Requests on one connection wait for each other.
        for _ in 0..self.asked + 2 {
            self.world.run_ms(WHILE_MS);
            self.look();
            if self.visitors.iter().all(Guest::is_done) {
                break;
            }
        }
        assert!(self.visitors.iter().all(Guest::is_done), "a visitor waits for ever");
        self.check_app();
        // And it is served as if nothing had been.
        let visitor = self.world.visit();
        self.world.send(visitor, "GET /0-0-9 HTTP/1.1\r\nHost: a\r\n\r\n");
        self.world.run_ms(10_000);
        let mut client = Client::default();
        client.asks(b"GET /0-0-9 HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut bodies = Vec::new();
        client.hear(&self.world.received(visitor), |received| bodies.push(received.body));
        assert_eq!(bodies, [body_of("0-0-9", 9)], "a healed deployment serves");
    }

    /// What the app got is what was sent, and it got nothing twice that it must not.
    fn check_app(&self) {
        let mut times = BTreeMap::new();
        for request in self.world.requests("app") {
            let (name, size) = name_and_size(request);
            let body = body_of(&name, size);
            assert!(body.starts_with(&request.body), "another request's bytes");
            if request.whole && matches!(request.method.as_str(), "POST" | "PUT") {
                assert_eq!(request.body.len(), body.len(), "a part is taken for the whole");
            }
            let times = times.entry(name).or_insert(0);
            *times += 1;
            assert!(*times == 1 || request.method != "POST", "a POST reaches the app twice");
        }
    }
}

impl Guest {
    /// Whether it waits for nothing, but perhaps for what comes after a 101.
    fn is_done(&self) -> bool {
        self.gone || self.client.is_in_tunnel()
    }

    /// A response that is whole answers the next request, and is what the app sent.
    fn check(&mut self, received: &Received) {
        self.check_part(received);
        let asked = self.asked.get(self.answered);
        self.answered += 1;
        if let (Some((name, length)), Some(of)) = (asked, &received.stream) {
            assert_eq!(name.as_bytes(), of, "responses come in the order of their requests");
            // Who breaks a tunnel off and who ends it cannot be told apart.
            let is_whole = received.body.len() == *length || received.is_tunnel;
            assert!(is_whole, "a part is taken for the whole: {name}");
        }
    }

    fn check_part(&self, received: &Received) {
        let Some(name) = &received.stream else { return };
        let name = String::from_utf8_lossy(name);
        assert!(self.asked.iter().any(|(own, _)| *own == name), "another visitor's response");
        let size = name.rsplit('-').next().and_then(|size| size.parse().ok()).unwrap_or(0);
        assert!(body_of(&name, size).starts_with(&received.body), "another response's bytes");
    }
}

fn name_and_size(request: &AppRequest) -> (String, u8) {
    let name = request.target.trim_start_matches('/').to_owned();
    let size = name.rsplit('-').next().and_then(|size| size.parse().ok()).unwrap_or(0);
    (name, size)
}

/// Up to 120 KiB that only this request and its response are made of.
fn body_of(name: &str, size: u8) -> Vec<u8> {
    let length = usize::from(size).pow(2) * 2;
    name.bytes().chain([b' ']).cycle().take(length).collect()
}

const BEHAVIOURS: usize = 16;

/// What the app does, as the name of the request says.
fn answer(request: &AppRequest) -> Vec<Act> {
    let (name, size) = name_and_size(request);
    let behaviour: usize = name.split('-').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0);
    let body = if request.method == "HEAD" { Vec::new() } else { body_of(&name, size) };
    let length = body_of(&name, size).len();
    let head = |status: &str, more: &str| format!("HTTP/1.1 {status}\r\nX-Stream: {name}\r\n{more}\r\n");
    let sized = |more: &str| head("200 OK", &format!("Content-Length: {length}\r\n{more}"));
    let whole = Act::Send([sized("").as_bytes(), &body].concat());
    let half = Act::Send([sized("").as_bytes(), &body[..body.len() / 2]].concat());
    let until_close = Act::Send([head("200 OK", "Connection: close\r\n").as_bytes(), &body].concat());
    match behaviour {
        0 | 1 => vec![Act::AwaitBody, whole],
        2 => vec![whole],
        3 => {
            let chunks = body.chunks(9000).map(|chunk| {
                Act::Send([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
            });
            let begin = Act::send(head("200 OK", "Transfer-Encoding: chunked\r\n"));
            let all: Vec<Act> = match request.method.as_str() {
                "HEAD" => vec![begin],
                _ => [begin].into_iter().chain(chunks).chain([Act::send("0\r\n\r\n")]).collect(),
            };
            all.into_iter().flat_map(|act| [act, Act::WaitMs(3)]).collect()
        }
        4 => vec![Act::Close],
        5 => vec![Act::Reset],
        6 => vec![half, Act::WaitMs(20), Act::Close],
        7 => vec![half, Act::WaitMs(20), Act::Reset],
        8 => vec![Act::AwaitBody, until_close, Act::Close],
        9 => vec![until_close, Act::WaitMs(20), Act::Reset],
        10 => vec![Act::WaitMs(70_000), whole],
        11 => vec![Act::send("\0garbage")],
        12 => vec![Act::AwaitBody, Act::send(head("204 No Content", ""))],
        13 => vec![Act::send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), Act::WaitMs(5), whole],
        14 => vec![Act::StopReadingMs(3000), Act::AwaitBody, whole],
        _ if request.head.contains("Upgrade: echo") => {
            let granted = "Connection: Upgrade\r\nUpgrade: echo\r\n";
            let begin = [head("101 Switching Protocols", granted).as_bytes(), &body].concat();
            vec![Act::Send(begin), Act::Echo, Act::WaitMs(500), Act::Finish]
        }
        _ => vec![Act::AwaitBody, Act::send(head("304 Not Modified", ""))],
    }
}
