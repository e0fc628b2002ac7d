//! A deployment in which things happen: who is there, what may happen next, and how it all ends.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ask::{Ask, Body, Kind, Upload, parse_target, pattern, serve};
use super::dice::Dice;
use super::model::{Answers, Line, Weather, check_delivery, deliveries_max};
use super::referee::Referee;
use super::rogue::{DEEDS, Rogue};
use super::seen::Seen;
use crate::limits;
use crate::sim::world::test_keys;
use crate::sim::{Joiner, LinkTrouble, Sealing, Visitor, Way, World};
use crate::time::Instant;

const PINS: [&str; 4] = ["K3 2P QX", "A7BCDE", "ZZ9YX8", "Q2W3E4"];
/// For this long after a trouble something may still fail because of it: links are silent for 25 s before they end.
const AFTERMATH: Duration = Duration::from_secs(60);
/// How long everything gets to heal: a connector that was refused tries again after 60 s, an app has 60 s to answer.
const HEALING_MS: u64 = 180_000;

/// See the module.
pub(super) struct Scene {
    pub(super) world: World,
    dice: Dice,
    options: Options,
    callers: Vec<Caller>,
    asks: BTreeMap<usize, Ask>,
    slots: Vec<Slot>,
    /// Each connector gets a name of its own.
    started: usize,
    pin: &'static str,
    gateways: usize,
    troubled_at: Option<Instant>,
    /// When somebody last left in good order, or was not there.
    left_at: Option<Instant>,
    rogues: Vec<Rogue>,
    /// What somebody on the way has of joins.
    captures: Vec<Vec<u8>>,
    strangers: usize,
    /// Links that were tampered with, by the end that gets it.
    tampered: Vec<usize>,
    /// How far each delivery to an app was looked at.
    looked_at: BTreeMap<(usize, usize), (usize, bool)>,
    deliveries: BTreeMap<usize, usize>,
    seen: Seen,
}

/// What is drawn once.
#[derive(Debug)]
struct Options {
    steps: usize,
    gateway_memory: Option<usize>,
    connector_memory: Option<usize>,
    body_max: Option<usize>,
    response_timeout: Duration,
    send_timeout: Duration,
}

/// A place for a connector, with its app.
struct Slot {
    app: String,
    connector: String,
    alive: bool,
    frozen: bool,
    up: bool,
    /// Its connector is gone.
    left: bool,
}

/// A visitor.
struct Caller {
    visitor: Visitor,
    asks: Vec<Ask>,
    answers: Answers,
    asked: usize,
    /// When something was last asked.
    since: Instant,
    pipelines: bool,
    reads: bool,
    slow: bool,
    left: bool,
    orphaned: bool,
    /// The run of the gateway that it is connected with.
    gateway: usize,
    tunnelled: usize,
    tunnel_bytes: usize,
    tunnel_done: bool,
    over: bool,
}

impl Caller {
    fn waits(&self) -> bool {
        !self.left && !self.over && !self.answers.closing && self.answers.at < self.asks.len()
    }
}

/// Something that may happen next.
#[derive(Clone, Copy, Debug)]
enum Move {
    Visit,
    Bulk,
    Wait(usize),
    StopReading,
    GoOnReading,
    Leave,
    Link(Trouble),
    Unclog,
    KillConnector,
    DrainConnector,
    StartConnector,
    Freeze,
    Thaw,
    AppDown,
    AppUp,
    AppIsSlow,
    KillGateway,
    DrainGateway,
    FreezeGateway,
    ClockStep,
    GatewayClockStep,
    Loop,
    Replay,
    Rogue,
    Burglars,
    AskStats,
}

#[derive(Clone, Copy, Debug)]
enum Trouble {
    Flip,
    Repeat,
    Drop,
    Reorder,
    Cut,
    Reset,
    Clog,
    Forget,
}

impl Scene {
    /// Draws a deployment and starts it.
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let sealing = if dice.chance(1, 8) { Sealing::Fernet } else { Sealing::FixedIv };
        let link_ms = dice.pick(&[0, 1, 5, 20, 20, 100, 300]);
        let mut world = World::new("a simulation", seed, link_ms, sealing);
        world.show_tail(400);
        world.referee = Some(Box::new(Referee::default()));
        world.set_near_delay_ms(dice.pick(&[0, 0, 1, 10, 50]));
        if dice.chance(1, 2) {
            world.limit_io(dice.pick(&[1_000, 4_096, 20_000, 65_536]));
            world.make_ragged();
        }
        let memory = |dice: &mut Dice| dice.chance(1, 6).then(|| dice.between(1 << 20, 2 << 20));
        let options = Options {
            steps: dice.between(5, 60),
            gateway_memory: memory(&mut dice),
            connector_memory: memory(&mut dice),
            body_max: dice.chance(1, 8).then(|| dice.size(usize::MAX)),
            response_timeout: Duration::from_secs(dice.pick(&[5, 20, 60])),
            send_timeout: Duration::from_secs(dice.pick(&[10, 60, 300])),
        };
        let connectors = dice.between(1, 5);
        let mut scene = Self {
            world,
            dice,
            options,
            callers: Vec::new(),
            asks: BTreeMap::new(),
            slots: Vec::new(),
            started: 0,
            pin: PINS[0],
            gateways: 0,
            troubled_at: None,
            left_at: None,
            rogues: Vec::new(),
            captures: Vec::new(),
            strangers: 0,
            tampered: Vec::new(),
            looked_at: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            seen: Seen::default(),
        };
        scene.start_gateway();
        for number in 1..=connectors {
            let app = format!("app-{number}");
            scene.world.start_app(&app, serve);
            scene.slots.push(Slot {
                app,
                connector: String::new(),
                alive: false,
                frozen: false,
                up: true,
                left: true,
            });
            scene.start_connector(number - 1);
        }
        scene.run(2_000);
        scene
    }

    fn start_gateway(&mut self) {
        let Options { gateway_memory, body_max, response_timeout, send_timeout, .. } = self.options;
        let joiner = Joiner { pin: self.pin, ..Joiner::default() };
        self.gateways += 1;
        self.world.start_gateway_as(joiner, |config| {
            let config = config.response_timeout(response_timeout).send_timeout(send_timeout);
            let config = match gateway_memory {
                Some(bytes) => config.memory(bytes).expect("enough"),
                None => config,
            };
            match body_max {
                Some(bytes) => config.body_max(bytes as u64),
                None => config,
            }
        });
    }

    fn start_connector(&mut self, slot: usize) {
        self.started += 1;
        let name = format!("connector-{}", self.started);
        let joiner = Joiner { pin: self.pin, ..Joiner::default() };
        let memory = self.options.connector_memory;
        let state = &mut self.slots[slot];
        self.world.start_connector_as(joiner, &name, &state.app, |config| match memory {
            Some(bytes) => config.memory(bytes).expect("enough"),
            None => config,
        });
        (state.connector, state.alive, state.frozen, state.left) = (name, true, false, false);
    }

    // ---- what happens ----------------------------------------------------------------------------------------------

    /// Lets everything happen, and then heal.
    pub(super) fn play(&mut self) {
        for _ in 0..self.options.steps {
            let choices = self.moves();
            let choice = self.dice.weighted(&choices);
            self.happens(choice);
            self.check();
        }
        self.heal();
    }

    /// What may happen next, each with its weight, in an order that never changes.
    fn moves(&self) -> Vec<(usize, Move)> {
        let gateway = self.world.is_alive("gateway");
        let waits = [1, 20, 300, 3_000, 30_000].map(|ms| (if ms < 3_000 { 8 } else { 2 }, Move::Wait(ms)));
        let mut moves = vec![
            (40, Move::Visit),
            (1, Move::Bulk),
            (3, Move::StopReading),
            (4, Move::GoOnReading),
            (3, Move::Leave),
            (2, Move::Unclog),
            (1, Move::KillConnector),
            (1, Move::DrainConnector),
            (2, Move::StartConnector),
            (1, Move::Freeze),
            (2, Move::Thaw),
            (1, Move::AppDown),
            (2, Move::AppUp),
            (1, Move::AppIsSlow),
            (1, Move::ClockStep),
            (1, Move::Loop),
            (2, Move::Replay),
            (3, Move::Rogue),
            (1, Move::Burglars),
            (2, Move::AskStats),
        ];
        moves.extend(waits);
        if gateway {
            moves.extend([
                (1, Move::KillGateway),
                (1, Move::DrainGateway),
                (1, Move::FreezeGateway),
                (1, Move::GatewayClockStep),
            ]);
        }
        let troubles = [
            Trouble::Flip,
            Trouble::Repeat,
            Trouble::Drop,
            Trouble::Reorder,
            Trouble::Cut,
            Trouble::Reset,
            Trouble::Clog,
            Trouble::Forget,
        ];
        moves.extend(troubles.map(|trouble| {
            let is_subtle =
                matches!(trouble, Trouble::Flip | Trouble::Repeat | Trouble::Drop | Trouble::Reorder);
            (if is_subtle { 2 } else { 1 }, Move::Link(trouble))
        }));
        moves
    }

    fn happens(&mut self, choice: Move) {
        match choice {
            Move::Visit => self.visit(),
            Move::Bulk => {
                // Long enough for the widest windows that there is memory for.
                let tag = self.asks.len() + 1;
                let ask = Ask { upload: Upload::Sized(6_000_000), ..Ask::plain(tag, "POST") };
                self.asks.insert(tag, ask.clone());
                self.call(vec![ask], false);
            }
            Move::Wait(ms) => {
                let ms = self.dice.between(ms / 2, ms * 2) as u64;
                self.run(ms);
            }
            Move::StopReading | Move::GoOnReading => {
                let reads = matches!(choice, Move::GoOnReading);
                if let Some(caller) = self.caller() {
                    (caller.reads, caller.slow) = (reads, true);
                    let visitor = caller.visitor;
                    self.world.set_reading(visitor, reads);
                }
            }
            Move::Leave => {
                if let Some(caller) = self.caller() {
                    caller.left = true;
                    let visitor = caller.visitor;
                    self.world.leave(visitor);
                    self.seen.note("trouble: a visitor leaves");
                }
            }
            Move::Link(trouble) => self.link_trouble(trouble),
            Move::Unclog => self.world.unclog_all(),
            Move::KillConnector => {
                if let Some(slot) = self.slot(|slot| slot.alive) {
                    self.trouble("a connector is killed");
                    self.slots[slot].alive = false;
                    self.slots[slot].left = true;
                    self.world.kill(&self.slots[slot].connector);
                }
            }
            Move::DrainConnector => {
                if let Some(slot) = self.slot(|slot| slot.alive && !slot.frozen) {
                    self.seen.note("trouble: a connector is drained");
                    self.left_at = Some(self.world.now());
                    self.slots[slot].alive = false;
                    self.slots[slot].left = true;
                    self.world.drain(&self.slots[slot].connector);
                }
            }
            Move::StartConnector => {
                if let Some(slot) = self.slot(|slot| !slot.alive) {
                    self.start_connector(slot);
                }
            }
            Move::Freeze => {
                if let Some(slot) = self.slot(|slot| slot.alive && !slot.frozen) {
                    self.trouble("a connector is frozen");
                    self.slots[slot].frozen = true;
                    self.world.set_frozen(&self.slots[slot].connector, true);
                }
            }
            Move::Thaw => {
                if let Some(slot) = self.slot(|slot| slot.alive && slot.frozen) {
                    self.trouble("a connector goes on");
                    self.slots[slot].frozen = false;
                    self.world.set_frozen(&self.slots[slot].connector, false);
                }
            }
            Move::AppDown | Move::AppUp => {
                let up = matches!(choice, Move::AppUp);
                if let Some(slot) = self.slot(|slot| slot.up != up) {
                    self.trouble(if up { "an app is up again" } else { "an app is down" });
                    self.slots[slot].up = up;
                    self.world.set_app_up(&self.slots[slot].app, up);
                }
            }
            Move::AppIsSlow => {
                let slot = self.dice.below(self.slots.len());
                let ms = self.dice.pick(&[0, 0, 100, 3_000]);
                self.world.set_app_dial_ms(&self.slots[slot].app, ms);
                self.seen.note("trouble: an app takes long to accept");
            }
            Move::KillGateway => {
                self.trouble("the gateway is killed");
                self.world.kill("gateway");
                self.orphan_callers();
                let away_ms = self.dice.pick(&[0, 10, 1_000, 40_000]);
                self.run(away_ms);
                self.restart_gateway();
            }
            Move::DrainGateway => {
                self.trouble("the gateway is drained");
                self.world.drain("gateway");
                let ms = self.dice.pick(&[0, 100, 15_000]);
                self.run(ms);
                self.world.kill("gateway");
                self.orphan_callers();
                self.restart_gateway();
            }
            Move::FreezeGateway => {
                self.trouble("the gateway is frozen");
                self.world.set_frozen("gateway", true);
                let ms = self.dice.pick(&[100, 5_000, 40_000]) as usize;
                self.run(ms as u64);
                self.world.set_frozen("gateway", false);
                self.trouble("the gateway goes on");
            }
            Move::GatewayClockStep => {
                self.trouble("the gateway's clock steps");
                let secs = self.dice.pick(&[-3_600, -20, 0, 20, 3_600]);
                self.world.set_skew("gateway", secs);
            }
            Move::Loop => self.loop_back(),
            Move::Replay => self.replay(),
            Move::Rogue if !self.world.is_alive("gateway") => {}
            Move::Rogue => {
                self.trouble("a rogue joins");
                let deed = self.dice.pick(&DEEDS);
                let seed = self.dice.below(usize::MAX) as u64;
                let keys = test_keys(Joiner::default().secret, self.pin);
                let now = self.world.civil_now("gateway");
                self.world.set_address(50);
                self.rogues.push(Rogue::new(deed, seed, &keys, now, &mut self.world));
                self.world.set_address(1);
                self.seen.note(format!("rogue {deed:?}"));
            }
            Move::Burglars => self.burglars(),
            Move::AskStats => {
                if let Some(slot) = self.slot(|slot| slot.alive && !slot.frozen) {
                    self.world.ask_stats(&self.slots[slot].connector);
                }
            }
            Move::ClockStep => {
                if let Some(slot) = self.slot(|slot| slot.alive) {
                    self.trouble("a clock steps");
                    let secs = self.dice.pick(&[-100_000, -31, -5, 0, 5, 31, 100_000]);
                    self.world.set_skew(&self.slots[slot].connector, secs);
                }
            }
        }
    }

    fn restart_gateway(&mut self) {
        self.trouble("the gateway is started again");
        if self.dice.chance(1, 4) {
            // Who knows the old PIN only is started anew.
            self.pin = PINS[self.gateways % PINS.len()];
            self.seen.note("trouble: another PIN");
            for slot in 0..self.slots.len() {
                if self.slots[slot].alive {
                    self.world.kill(&self.slots[slot].connector);
                    self.slots[slot].alive = false;
                }
            }
            self.start_gateway();
            for slot in 0..self.slots.len() {
                self.start_connector(slot);
            }
        } else {
            self.start_gateway();
        }
    }

    fn orphan_callers(&mut self) {
        for caller in &mut self.callers {
            caller.orphaned |= caller.gateway == self.gateways;
        }
    }

    fn trouble(&mut self, what: &str) {
        self.seen.note(format!("trouble: {what}"));
        self.troubled_at = Some(self.world.now());
    }

    fn link_trouble(&mut self, trouble: Trouble) {
        let Some(slot) = self.slot(|slot| slot.alive) else { return };
        let way = if self.dice.chance(1, 2) { Way::ToGateway } else { Way::ToConnector };
        let bit = self.dice.below(usize::MAX);
        let deed = match trouble {
            Trouble::Flip => LinkTrouble::FlipBitAt(way, bit),
            Trouble::Repeat => LinkTrouble::Repeat(way),
            Trouble::Drop => LinkTrouble::Drop(way),
            Trouble::Reorder => LinkTrouble::Reorder(way),
            Trouble::Cut => LinkTrouble::Cut(way),
            Trouble::Reset => LinkTrouble::Reset,
            Trouble::Clog => LinkTrouble::Clog,
            Trouble::Forget => LinkTrouble::Forget,
        };
        if matches!(
            trouble,
            Trouble::Flip | Trouble::Repeat | Trouble::Drop | Trouble::Reorder | Trouble::Cut
        ) {
            // What was just asked is on its way then.
            self.run(1);
        }
        let link = self.world.joined_link(&self.slots[slot].connector, way);
        // Two that swap are in order again when they have swapped twice.
        if link.is_some_and(|link| self.tampered.contains(&link)) {
            return;
        }
        if self.world.try_trouble(&self.slots[slot].connector, deed) {
            self.trouble(&format!("a link: {trouble:?}").to_lowercase());
            let changes =
                matches!(trouble, Trouble::Flip | Trouble::Repeat | Trouble::Drop | Trouble::Reorder);
            self.tampered.extend(link.filter(|_| changes));
        }
    }

    /// A request that has been here before.
    fn loop_back(&mut self) {
        let heads = self.slots.iter().flat_map(|slot| self.world.requests(&slot.app).last());
        let vias = heads.filter_map(|request| {
            request.head.split("\r\n").find_map(|line| line.strip_prefix("Via: ")).map(str::to_owned)
        });
        let Some(via) = vias.reduce(|_, via| via) else { return };
        // It knows itself by a name that it drew at its start.
        if self.gateways == 1 {
            let tag = self.asks.len() + 1;
            let ask = Ask { via: Some(via), ..Ask::plain(tag, "GET") };
            self.asks.insert(tag, ask.clone());
            self.call(vec![ask], false);
        }
    }

    /// Somebody who listened sends what he has of a join, whole.
    fn replay(&mut self) {
        for slot in &self.slots {
            if slot.alive && self.captures.len() < 8 {
                self.captures.extend(self.world.try_captured(&slot.connector));
            }
        }
        if self.captures.is_empty() {
            return;
        }
        let place = self.dice.below(self.captures.len());
        self.seen.note("trouble: a join is replayed");
        self.strangers += 1;
        self.world.set_address(100 + (self.strangers % 100) as u8);
        let stranger = self.world.visit();
        self.world.set_address(1);
        let bytes = self.captures[place].clone();
        self.world.send(stranger, bytes);
    }

    /// Several try to get in without the PIN, or without the secret.
    fn burglars(&mut self) {
        let joiner = if self.dice.chance(1, 2) {
            self.seen.note("trouble: wrong PINs");
            Joiner { pin: "WR2NG", ..Joiner::default() }
        } else {
            self.seen.note("trouble: wrong secrets");
            Joiner { secret: "another secret", pin: self.pin, ..Joiner::default() }
        };
        self.world.set_address(99);
        for _ in 0..self.dice.between(1, 14) {
            self.started += 1;
            self.world.start_connector_as(
                joiner,
                &format!("burglar-{}", self.started),
                "nowhere",
                |config| config,
            );
        }
        self.world.set_address(1);
    }

    fn slot(&mut self, fits: impl Fn(&Slot) -> bool) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.slots.len()).filter(|slot| fits(&self.slots[*slot])).collect();
        (!fitting.is_empty()).then(|| fitting[self.dice.below(fitting.len())])
    }

    // ---- visitors --------------------------------------------------------------------------------------------------

    fn caller(&mut self) -> Option<&mut Caller> {
        let place = self.dice.below(self.callers.len());
        self.callers.get_mut(place).filter(|caller| !caller.left && !caller.over)
    }

    fn visit(&mut self) {
        let count = self.dice.weighted(&[(5, 1), (3, 2), (1, 6)]);
        let asks = (0..count).map(|_| {
            let tag = self.asks.len() + 1;
            let ask = Ask::draw(tag, &mut self.dice);
            self.asks.insert(tag, ask.clone());
            ask
        });
        let mut asks: Vec<Ask> = asks.collect();
        // Nothing is pipelined after an upgrade: it would be a part of the tunnel.
        if let Some(last) = asks.iter().position(|ask| matches!(ask.kind, Kind::Echo | Kind::Denied)) {
            asks.truncate(last + 1);
        }
        let pipelines = self.dice.chance(1, 2);
        self.call(asks, pipelines);
        let visitor = self.callers[self.callers.len() - 1].visitor;
        let pace = (self.dice.pick(&[1, 100, 5_000]), self.dice.pick(&[1, 20, 300]));
        match self.dice.weighted(&[(10, 0), (1, 1), (1, 2)]) {
            1 => self.world.read_slowly(visitor, pace.0 * 20, pace.1),
            2 => self.world.send_slowly(visitor, pace.0 * 20, pace.1),
            _ => return,
        }
        if let Some(caller) = self.callers.last_mut() {
            caller.slow = true;
        }
    }

    fn call(&mut self, asks: Vec<Ask>, pipelines: bool) {
        let caller = Caller {
            visitor: self.world.visit(),
            answers: Answers::default(),
            asked: 0,
            since: self.world.now(),
            pipelines,
            reads: true,
            slow: asks.iter().any(|ask| ask.upload_bytes() > 60_000),
            left: false,
            orphaned: false,
            gateway: self.gateways,
            tunnelled: 0,
            tunnel_bytes: self.dice.size(500_000),
            tunnel_done: false,
            over: false,
            asks,
        };
        self.callers.push(caller);
        self.go_on(self.callers.len() - 1);
    }

    /// A visitor says what it has to say next.
    fn go_on(&mut self, place: usize) {
        let Self { world, callers, dice, .. } = self;
        let caller = &mut callers[place];
        if caller.left || caller.over || world.ended(caller.visitor).is_some() {
            return;
        }
        while caller.asked < caller.asks.len()
            && !caller.answers.closing
            && (caller.pipelines || caller.answers.at == caller.asked)
        {
            let ask = &caller.asks[caller.asked];
            world.send(caller.visitor, [ask.head(), ask.body(dice)].concat());
            caller.asked += 1;
            caller.since = world.now();
            if let Some(fault) = ask.fault {
                if fault.ends() {
                    world.send_end(caller.visitor);
                }
                caller.asks.truncate(caller.asked);
            }
        }
        if caller.answers.is_tunnel() && !caller.tunnel_done {
            let tag = caller.asks[caller.answers.at].tag;
            let left = caller.tunnel_bytes - caller.tunnelled;
            let count = dice.between(0, left + 1);
            world.send(caller.visitor, pattern(tag, Body::Tunnel, caller.tunnelled, count));
            caller.tunnelled += count;
            if count == left {
                world.send_end(caller.visitor);
                caller.tunnel_done = true;
            }
        }
    }

    // ---- time and checks -------------------------------------------------------------------------------------------

    fn run(&mut self, ms: u64) {
        let rogues_before = self.rogues.iter().any(|rogue| rogue.is_there(&self.world));
        // Now and then somebody looks at what is held: it may be gone at the end.
        const LOOKS: u64 = 8;
        for look in 0..LOOKS {
            self.world.run_ms(ms * (look + 1) / LOOKS - ms * look / LOOKS);
            (0..self.callers.len()).for_each(|place| self.check_held(place));
        }
        let now = self.world.now();
        // Somebody on the way can make a refusal, and a connector that was never let in gives up.
        for slot in &mut self.slots {
            if slot.alive && self.world.has_ended(&slot.connector) {
                (slot.alive, slot.left) = (false, true);
            }
        }
        if self.slots.iter().any(|slot| slot.left) {
            self.left_at = Some(now);
        }
        let is_unwell = |slot: &Slot| slot.frozen && slot.alive || !slot.up;
        if self.slots.iter().any(is_unwell) || rogues_before {
            self.troubled_at = Some(now);
        }
    }

    fn weather(&self, since: Instant) -> Weather {
        let is_near = |at: Option<Instant>| at.is_some_and(|at| at + AFTERMATH >= since);
        let Options { gateway_memory, connector_memory, body_max, .. } = self.options;
        let scarce = gateway_memory.is_some() || connector_memory.is_some();
        let leaving = is_near(self.left_at);
        Weather { leaving, troubled: is_near(self.troubled_at), scarce, body_max }
    }

    fn check(&mut self) {
        let now = self.world.unix_now();
        for rogue in &mut self.rogues {
            rogue.go_on(now, &mut self.world, &mut self.seen);
        }
        for place in 0..self.callers.len() {
            self.check_caller(place);
            self.go_on(place);
        }
        self.check_apps();
        if let Some(lost_at) = self.world.referee.as_ref().and_then(|referee| referee.link_lost_at) {
            let is_near = self.troubled_at.is_some_and(|at| at + AFTERMATH >= lost_at);
            assert!(is_near, "a link ended that nobody had troubled");
        }
    }

    fn line(&self, place: usize) -> Line {
        let caller = &self.callers[place];
        Line {
            ended: self.world.ended(caller.visitor),
            slow: caller.slow,
            orphaned: caller.orphaned,
            tunnelled: (caller.tunnelled, caller.tunnel_done),
            asked: caller.asked,
        }
    }

    fn check_caller(&mut self, place: usize) {
        if self.callers[place].over {
            return;
        }
        let weather = self.weather(self.callers[place].since);
        let line = self.line(place);
        let caller = &mut self.callers[place];
        let bytes = self.world.received(caller.visitor);
        caller.answers.received(&bytes, &caller.asks, line, &weather, &mut self.seen);
        self.check_held(place);
        let caller = &mut self.callers[place];
        caller.over = caller.left;
        if line.ended.is_some() && !caller.left {
            caller.over = true;
            caller.answers.ended(&caller.asks, line, &weather, &mut self.seen);
        }
    }

    /// Of a body that a visitor sends the gateway holds what its mailbox and its buffers may hold, and no more.
    fn check_held(&self, place: usize) {
        let Caller { visitor, asks, asked: 1, orphaned: false, left: false, .. } = &self.callers[place]
        else {
            return;
        };
        let (Some(ask), Some(referee)) = (asks.first(), &self.world.referee) else { return };
        let (Upload::Sized(_), Some(carried)) = (ask.upload, referee.carried.get(&ask.tag)) else { return };
        let body_taken = self.world.taken(*visitor).saturating_sub(ask.head().len());
        let held = body_taken.saturating_sub(*carried);
        let most = limits::MAILBOX_BYTES + 2 * limits::READ_BYTES;
        // Once it is answered the rest is read and thrown away.
        let answers = &self.callers[place].answers;
        let is_stopped = answers.at > 0 || answers.has_begun() || self.world.is_answered(*visitor);
        assert!(is_stopped || held <= most, "memory: {held} B of request {} are held, of {most} B", ask.tag);
    }

    fn check_apps(&mut self) {
        for (place, slot) in self.slots.iter().enumerate() {
            for (number, request) in self.world.requests(&slot.app).iter().enumerate() {
                let is_new = !self.looked_at.contains_key(&(place, number));
                let (from, done) = self.looked_at.entry((place, number)).or_default();
                if *done {
                    continue;
                }
                let (tag, ..) = parse_target(&request.target).expect("apps have looked");
                let ask = self.asks.get(&tag).expect("an app gets what was asked for");
                if is_new {
                    let count = self.deliveries.entry(tag).or_default();
                    *count += 1;
                    let most = deliveries_max(ask);
                    assert!(*count <= most, "request {tag} was delivered {count} times: {ask:?}");
                    if *count > 1 {
                        self.seen.note("retry: delivered again");
                    }
                }
                check_delivery(ask, request, *from);
                (*from, *done) = (request.body.len(), request.whole);
            }
        }
    }

    // ---- the end ---------------------------------------------------------------------------------------------------

    /// Everything heals, everyone is served, and nobody holds anything in the end.
    fn heal(&mut self) {
        self.trouble("everything heals");
        self.world.unclog_all();
        for slot in 0..self.slots.len() {
            if self.slots[slot].alive && self.slots[slot].frozen {
                self.world.set_frozen(&self.slots[slot].connector, false);
            }
            if !self.slots[slot].alive {
                self.start_connector(slot);
            }
            self.world.set_app_up(&self.slots[slot].app, true);
            self.world.set_app_dial_ms(&self.slots[slot].app, 0);
        }
        for rogue in &self.rogues {
            self.world.leave(rogue.visitor);
        }
        for caller in &self.callers {
            self.world.set_reading(caller.visitor, true);
            self.world.read_slowly(caller.visitor, usize::MAX, 1);
            self.world.send_slowly(caller.visitor, usize::MAX, 1);
        }
        for round in 0.. {
            self.run(HEALING_MS / 30);
            self.check();
            for slot in 0..self.slots.len() {
                if !self.slots[slot].alive {
                    self.start_connector(slot);
                }
            }
            // Whoever asked six apps that say nothing waits for six times as long as one may be silent.
            if round >= 30 && (round > 100 || self.callers.iter().all(|caller| !caller.waits())) {
                break;
            }
        }
        for place in 0..self.callers.len() {
            let line = self.line(place);
            let Caller { answers, asks, left, .. } = &self.callers[place];
            if !left {
                answers.is_served(asks, line);
            }
        }
        for end in &self.tampered {
            assert!(!self.world.is_held(*end), "a link goes on although its bytes were changed on the way");
        }
        self.check_fresh();
        for caller in &mut self.callers {
            caller.left = true;
            self.world.leave(caller.visitor);
        }
        self.run(10_000);
        let connectors = self.slots.iter().map(|slot| slot.connector.as_str());
        for name in connectors.chain(["gateway"]) {
            let lent = self.world.lent(name);
            assert!(lent == 0, "{name} holds something: {lent} B for exchanges of which there are none");
        }
        self.world.come_to_rest();
    }

    /// Every connector serves.
    fn check_fresh(&mut self) {
        let before: Vec<usize> = self.slots.iter().map(|slot| self.world.requests(&slot.app).len()).collect();
        let first = self.callers.len();
        for _ in 0..self.slots.len() {
            let tag = self.asks.len() + 1;
            let ask = Ask::plain(tag, "POST");
            self.asks.insert(tag, ask.clone());
            self.call(vec![ask], false);
            self.run(3_000);
        }
        self.check();
        for caller in &self.callers[first..] {
            assert_eq!(
                caller.answers.answered_by_apps, 1,
                "a fresh request is not served: {:?}",
                caller.asks
            );
        }
        for (slot, before) in self.slots.iter().zip(before) {
            let served = self.world.requests(&slot.app).len() > before;
            assert!(served, "{} serves nothing although all is well", slot.connector);
        }
    }

    /// What was seen.
    pub(super) fn seen(&mut self) -> Seen {
        let mut seen = std::mem::take(&mut self.seen);
        if let Some(referee) = &self.world.referee {
            seen.add(&referee.all_seen());
        }
        seen
    }
}
