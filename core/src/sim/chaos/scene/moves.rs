//! What may happen next.

use super::Scene;
use super::network::{FAULTS, Fault};
use crate::sim::Joiner;
use crate::sim::chaos::ask::{Ask, Upload};
use crate::sim::chaos::rogue::{DEEDS, Rogue};
use crate::sim::world::test_keys;

/// Something that may happen next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Move {
    Visit,
    Bulk,
    Wait(usize),
    StopReading,
    GoOnReading,
    Leave,
    Link(Trouble),
    Network(Fault),
    NetworkHeals,
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
pub(super) enum Trouble {
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
    /// What may happen next, each with its weight, in an order that never changes.
    pub(super) fn moves(&self) -> Vec<(usize, Move)> {
        let gateway = self.world.is_alive("gateway");
        let waits = [1, 20, 300, 3_000, 30_000].map(|ms| (if ms < 3_000 { 8 } else { 2 }, Move::Wait(ms)));
        let mut moves = vec![
            (40, Move::Visit),
            (1, Move::Bulk),
            (3, Move::StopReading),
            (4, Move::GoOnReading),
            (3, Move::Leave),
            (8, Move::NetworkHeals),
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
        moves.extend(FAULTS.map(|fault| (1, Move::Network(fault))));
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

    pub(super) fn happens(&mut self, choice: Move) {
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
            Move::Network(fault) => self.network_fails(fault),
            Move::NetworkHeals => self.network_heals(),
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
                    let secs = self.dice.pick(&[-100_000, -80_000, -31, -5, 0, 5, 31, 80_000, 100_000]);
                    self.world.set_skew(&self.slots[slot].connector, secs);
                }
            }
        }
    }
}
