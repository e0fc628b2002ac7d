//! What takes more than a call when it happens.

use super::moves::Trouble;
use super::{PINS, Scene, Slot};
use crate::sim::chaos::ask::Ask;
use crate::sim::{Joiner, LinkTrouble, Way};

impl Scene {
    pub(super) fn restart_gateway(&mut self) {
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

    pub(super) fn orphan_callers(&mut self) {
        for caller in &mut self.callers {
            caller.orphaned |= caller.gateway == self.gateways;
        }
    }

    pub(super) fn link_trouble(&mut self, trouble: Trouble) {
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
    pub(super) fn loop_back(&mut self) {
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
    pub(super) fn replay(&mut self) {
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
    pub(super) fn burglars(&mut self) {
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

    pub(super) fn slot(&mut self, fits: impl Fn(&Slot) -> bool) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.slots.len()).filter(|slot| fits(&self.slots[*slot])).collect();
        (!fitting.is_empty()).then(|| fitting[self.dice.below(fitting.len())])
    }
}
