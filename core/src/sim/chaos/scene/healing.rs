//! How everything heals and ends.

use super::Scene;
use super::callers::Caller;
use crate::sim::chaos::ask::Ask;

/// How long everything gets to heal: a connector that was refused tries again after 60 s, an app has 60 s to answer.
const HEALING_MS: u64 = 180_000;

/// A connector whose clock is off by more than a day, give or take what the gateway's is off, takes no time from the
/// gateway: somebody has to set it.
const CLOCK_HEALS_SECS: i64 = 82_800;

impl Scene {
    /// Everything heals, everyone is served, and nobody holds anything in the end.
    pub(super) fn heal(&mut self) {
        self.trouble("everything heals");
        self.network_heals();
        for slot in 0..self.slots.len() {
            if self.slots[slot].alive && self.slots[slot].frozen {
                self.world.set_frozen(&self.slots[slot].connector, false);
            }
            if !self.slots[slot].alive {
                self.start_connector(slot);
            }
            let connector = &self.slots[slot].connector;
            if self.world.skew_secs(connector).abs() > CLOCK_HEALS_SECS {
                self.world.set_skew(connector, 0);
            }
            self.world.set_app_up(&self.slots[slot].app, true);
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
            let ended = self.world.ended(caller.visitor);
            assert!(
                !caller.half_closes || ended == Some(true),
                "the connection of a visitor that sends no more stays open: {:?}, {ended:?}",
                caller.asks
            );
        }
        for (slot, before) in self.slots.iter().zip(before) {
            let served = self.world.requests(&slot.app).len() > before;
            assert!(served, "{} serves nothing although all is well", slot.connector);
        }
    }
}
