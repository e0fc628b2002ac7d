//! A deployment in which things happen: who is there, what is drawn, and how time passes.

mod callers;
mod checks;
mod deeds;
mod healing;
mod moves;
mod network;

use std::collections::BTreeMap;
use std::time::Duration;

use self::callers::Caller;
use super::ask::{Ask, serve};
use super::dice::Dice;
use super::model::Weather;
use super::referee::Referee;
use super::rogue::Rogue;
use super::seen::Seen;
use crate::sim::{Joiner, Sealing, World};
use crate::time::Instant;

const PINS: [&str; 4] = ["K3 2P QX", "A7BCDE", "ZZ9YX8", "Q2W3E4"];

/// For this long after a trouble something may still fail because of it: links are silent for 25 s before they end.
const AFTERMATH: Duration = Duration::from_secs(60);

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
    gateway_is_hidden: bool,
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
    body_timeout: Duration,
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
    /// It serves badly as long as the network is not mended.
    impaired: bool,
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
            // Not drawn: what else a seed draws stays as it is.
            body_timeout: Duration::from_secs([5, 20, 60][(seed % 3) as usize]),
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
            gateway_is_hidden: false,
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
                impaired: false,
            });
            scene.start_connector(number - 1);
        }
        scene.run(2_000);
        scene
    }

    fn start_gateway(&mut self) {
        let Options { gateway_memory, body_max, body_timeout, response_timeout, send_timeout, .. } =
            self.options;
        let joiner = Joiner { pin: self.pin, ..Joiner::default() };
        self.gateways += 1;
        self.world.start_gateway_as(joiner, |config| {
            let config = config.body_timeout(body_timeout);
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
            Some(bytes) => config.memory(bytes).expect("enough").watches_peers(true),
            None => config.watches_peers(true),
        });
        (state.connector, state.alive, state.frozen, state.left) = (name, true, false, false);
    }

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

    fn trouble(&mut self, what: &str) {
        self.seen.note(format!("trouble: {what}"));
        self.troubled_at = Some(self.world.now());
    }

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
        let is_unwell = |slot: &Slot| slot.frozen && slot.alive || !slot.up || slot.impaired;
        if self.slots.iter().any(is_unwell) || rogues_before || self.gateway_is_hidden {
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

    /// What was seen.
    pub(super) fn seen(&mut self) -> Seen {
        let mut seen = std::mem::take(&mut self.seen);
        if let Some(referee) = &self.world.referee {
            seen.add(&referee.all_seen());
        }
        seen
    }
}
