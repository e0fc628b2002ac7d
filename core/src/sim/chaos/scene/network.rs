//! What goes wrong with connections on their way, other than with links: all of it lasts until somebody mends it.

use super::Scene;
use crate::sim::LinkTrouble;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// A link, a visitor's connection, or those to an app carry little.
    ThrottleLink,
    ThrottleVisitor,
    ThrottleApp,
    /// Somebody on the way resets a visitor's connection, or those to an app.
    ResetVisitor,
    ResetApp,
    /// Nothing passes, and nobody is told.
    ClogVisitor,
    ClogApp,
    /// An app answers no dial in time.
    AppUnreachable,
    /// Connectors that dial the gateway get no answer; one of them has to dial.
    GatewayUnreachable,
}

pub(super) const FAULTS: [Fault; 9] = [
    Fault::ThrottleLink,
    Fault::ThrottleVisitor,
    Fault::ThrottleApp,
    Fault::ResetVisitor,
    Fault::ResetApp,
    Fault::ClogVisitor,
    Fault::ClogApp,
    Fault::AppUnreachable,
    Fault::GatewayUnreachable,
];

/// So slow that much takes longer than somebody waits …
const TRICKLE_BITS_PER_SEC: u64 = 50_000;
/// … and so fast that nothing does.
const BROAD_BITS_PER_SEC: u64 = 4_000_000;
/// Longer than any dial may take.
const UNREACHABLE_MS: u64 = 60_000;

impl Scene {
    /// Something goes wrong, if there is somebody with whom it can.
    pub(super) fn network_fails(&mut self, fault: Fault) {
        match fault {
            Fault::ThrottleLink => {
                let Some(slot) = self.slot(|slot| slot.alive) else { return };
                let bits_per_sec = self.bandwidth(slot, "a link is throttled");
                self.world.throttle_link(&self.slots[slot].connector, bits_per_sec);
            }
            Fault::ThrottleApp => {
                let slot = self.dice.below(self.slots.len());
                let bits_per_sec = self.bandwidth(slot, "an app is throttled");
                self.world.throttle_app(&self.slots[slot].app, bits_per_sec);
            }
            Fault::ResetApp => {
                let slot = self.dice.below(self.slots.len());
                if self.world.reset_app(&self.slots[slot].app) {
                    self.trouble("an app's connections are reset");
                }
            }
            Fault::ClogApp => {
                let slot = self.dice.below(self.slots.len());
                if self.world.clog_app(&self.slots[slot].app) {
                    self.trouble("an app's connections clog");
                    self.slots[slot].impaired = true;
                }
            }
            Fault::AppUnreachable => {
                let slot = self.dice.below(self.slots.len());
                self.trouble("an app cannot be reached");
                self.slots[slot].impaired = true;
                self.world.set_app_dial_ms(&self.slots[slot].app, UNREACHABLE_MS);
            }
            Fault::GatewayUnreachable => {
                self.trouble("the gateway cannot be reached");
                self.gateway_is_hidden = true;
                self.world.set_gateway_reachable(false);
                if let Some(slot) = self.slot(|slot| slot.alive) {
                    self.world.try_trouble(&self.slots[slot].connector, LinkTrouble::Reset);
                }
            }
            Fault::ThrottleVisitor | Fault::ResetVisitor | Fault::ClogVisitor => self.visitor_fails(fault),
        }
    }

    fn visitor_fails(&mut self, fault: Fault) {
        let is_broad = self.dice.chance(1, 2);
        let Some(caller) = self.caller() else { return };
        let visitor = caller.visitor;
        match fault {
            Fault::ThrottleVisitor if is_broad => {
                self.world.throttle_visitor(visitor, BROAD_BITS_PER_SEC);
                self.seen.note("trouble: a visitor is throttled");
            }
            Fault::ThrottleVisitor => {
                caller.slow = true;
                self.world.throttle_visitor(visitor, TRICKLE_BITS_PER_SEC);
                self.seen.note("trouble: a visitor is throttled to a trickle");
            }
            Fault::ResetVisitor => {
                caller.broken = true;
                self.world.reset_visitor(visitor);
                self.seen.note("trouble: a visitor's connection is reset");
            }
            _ => {
                (caller.slow, caller.stalls) = (true, true);
                self.world.clog_visitor(visitor);
                self.seen.note("trouble: a visitor's connection clogs");
            }
        }
    }

    /// How fast something of a connector's is from now on.
    fn bandwidth(&mut self, slot: usize, what: &str) -> u64 {
        if self.dice.chance(1, 2) {
            self.seen.note(format!("trouble: {what}"));
            return BROAD_BITS_PER_SEC;
        }
        self.trouble(&format!("{what} to a trickle"));
        self.slots[slot].impaired = true;
        TRICKLE_BITS_PER_SEC
    }

    /// The network is as good as it can be.
    pub(super) fn network_heals(&mut self) {
        self.world.unclog_all();
        self.world.unthrottle_all();
        if std::mem::take(&mut self.gateway_is_hidden) {
            self.trouble("the gateway can be reached");
            self.world.set_gateway_reachable(true);
        }
        for slot in &mut self.slots {
            slot.impaired = false;
            self.world.set_app_dial_ms(&slot.app, 0);
        }
    }
}
