//! Visitors, and what they say when.

use super::Scene;
use crate::sim::Visitor;
use crate::sim::chaos::ask::{Ask, Body, Kind, Malformed, pattern};
use crate::sim::chaos::model::Answers;
use crate::time::Instant;

/// A visitor.
pub(super) struct Caller {
    pub(super) visitor: Visitor,
    pub(super) asks: Vec<Ask>,
    pub(super) answers: Answers,
    pub(super) asked: usize,
    /// When something was last asked.
    pub(super) since: Instant,
    pub(super) pipelines: bool,
    /// It sends no more (FIN) after its last request.
    pub(super) half_closes: bool,
    pub(super) reads: bool,
    pub(super) slow: bool,
    /// Nothing passed for a while.
    pub(super) stalls: bool,
    /// Somebody on the way reset its connection.
    pub(super) broken: bool,
    pub(super) left: bool,
    pub(super) orphaned: bool,
    /// The run of the gateway that it is connected with.
    pub(super) gateway: usize,
    pub(super) tunnelled: usize,
    pub(super) tunnel_bytes: usize,
    pub(super) tunnel_done: bool,
    pub(super) over: bool,
}

impl Caller {
    pub(super) fn waits(&self) -> bool {
        !self.left && !self.over && !self.answers.closing && self.answers.at < self.asks.len()
    }
}

impl Scene {
    pub(super) fn caller(&mut self) -> Option<&mut Caller> {
        let place = self.dice.below(self.callers.len());
        self.callers.get_mut(place).filter(|caller| !caller.left && !caller.over)
    }

    pub(super) fn visit(&mut self) {
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
        if let Some(last) = asks.iter().position(|ask| ask.stops) {
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

    pub(super) fn call(&mut self, asks: Vec<Ask>, pipelines: bool) {
        let caller = Caller {
            visitor: self.world.visit(),
            answers: Answers::default(),
            asked: 0,
            since: self.world.now(),
            pipelines,
            half_closes: self.dice.chance(1, 5),
            reads: true,
            slow: asks.iter().any(|ask| ask.upload_bytes() > 60_000),
            stalls: false,
            broken: false,
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
    pub(super) fn go_on(&mut self, place: usize) {
        let Self { world, callers, dice, seen, .. } = self;
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
            if ask.stops || ask.fault.is_some_and(Malformed::ends) {
                seen.note("trouble: a visitor sends no more inside a request");
                world.send_end(caller.visitor);
            } else if caller.half_closes && ask.fault.is_none() && caller.asked == caller.asks.len() {
                seen.note("trouble: a visitor sends no more after a request");
                world.send_end(caller.visitor);
                caller.tunnel_done = true;
            }
            if ask.fault.is_some() {
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
}
