//! What is looked at after each move.

use super::Scene;
use super::callers::Caller;
use crate::limits;
use crate::sim::chaos::ask::{Upload, parse_target};
use crate::sim::chaos::model::{Line, check_delivery, deliveries_max};

impl Scene {
    pub(super) fn line(&self, place: usize) -> Line {
        let caller = &self.callers[place];
        Line {
            ended: self.world.ended(caller.visitor),
            slow: caller.slow,
            stalls: caller.stalls,
            broken: caller.broken,
            orphaned: caller.orphaned,
            unheard_for: self.world.unheard_for(caller.visitor),
            tunnelled: (caller.tunnelled, caller.tunnel_done),
            asked: caller.asked,
        }
    }

    pub(super) fn check_caller(&mut self, place: usize) {
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
    pub(super) fn check_held(&self, place: usize) {
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

    pub(super) fn check_apps(&mut self) {
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
}
