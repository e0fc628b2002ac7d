//! The gateway's connections: each is a visitor's until a join makes it a link.

mod link;
mod visitor;

use std::net::IpAddr;
use std::sync::Arc;

use self::link::GatewayLink;
use self::visitor::{Turn, Visitor};
use crate::fault::Fault;
use crate::hub::GatewayHub;
use crate::hub::admission::Slot;
use crate::hub::crowd::{Rest, Stay};
use crate::hub::seeds::clear_stack;
use crate::machine::{Cx, End, Io, Lost, Machine, PortId, Want};

/// One connection that the gateway accepted.
pub(crate) struct GatewayConn {
    hub: Arc<GatewayHub>,
    port: PortId,
    from: IpAddr,
    stage: Stage,
    stay: Arc<Stay>,
    _slot: Slot,
}

enum Stage {
    Visitor(Box<Visitor>),
    Link(Box<GatewayLink>),
}

impl GatewayConn {
    pub(crate) fn new(hub: Arc<GatewayHub>, from: IpAddr, slot: Slot) -> Self {
        let port = hub.ports.open();
        let visitor = Visitor::new(hub.clone(), port, from);
        let stay = hub.crowd.enter(port);
        Self { hub, port, from, stage: Stage::Visitor(Box::new(visitor)), stay, _slot: slot }
    }
}

impl Machine for GatewayConn {
    fn port(&self) -> PortId {
        self.port
    }

    fn advance(&mut self, cx: &mut Cx<'_>, io: &mut Io) -> Result<Want, Fault> {
        if let Stage::Visitor(visitor) = &mut self.stage {
            match visitor.advance(cx, io)? {
                Turn::Want(want) => {
                    let rest = visitor.rest(io);
                    let end = match rest {
                        _ if !self.stay.note(rest, cx.now.mono) => want.end,
                        Some(Rest::Idle) => Some(End::Close),
                        _ => Some(End::Abort),
                    };
                    return Ok(Want { end, ..want });
                }
                Turn::Joined(keys, waiting) => {
                    let link =
                        GatewayLink::new(self.hub.clone(), self.port, self.from, &keys, waiting, cx.now);
                    self.stage = Stage::Link(Box::new(link));
                    self.stay.note(None, cx.now.mono);
                    drop(keys);
                    clear_stack();
                }
            }
        }
        match &mut self.stage {
            Stage::Link(link) => link.advance(cx, io),
            Stage::Visitor(_) => Ok(Want::default()),
        }
    }

    fn lost(&mut self, cx: &mut Cx<'_>, why: Lost) {
        match &mut self.stage {
            Stage::Visitor(visitor) => visitor.lost(cx, why),
            Stage::Link(link) => link.lost(cx),
        }
        self.hub.crowd.leave(self.port);
        self.hub.ports.close(self.port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::GatewayConfig;
    use crate::limits;
    use crate::machine::{Effects, Process};
    use crate::secret::tests::own_keys;
    use crate::time::{Now, Why};

    #[test]
    fn a_visitor_that_does_not_take_its_answer_makes_room_after_a_while() {
        let hub = GatewayHub::new(GatewayConfig::new(own_keys()), [1; 32]);
        let mut machine = Arc::clone(&hub).accept(([192, 0, 2, 1], 50_000).into()).unwrap();
        let (mut io, mut now) = (Io::default(), Now::default());
        io.input.push(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut ends = Vec::new();
        for _ in 0..2 {
            let mut fx = Effects::default();
            machine.advance(&mut Cx { now, fx: &mut fx }, &mut io).unwrap();
            assert!(!io.output.is_empty());
            hub.make_room(&mut Cx { now, fx: &mut fx });
            let want = machine.advance(&mut Cx { now, fx: &mut fx }, &mut io).unwrap();
            ends.push((fx.wakes.len(), want.end));
            now.mono = now.mono + limits::STALL;
        }
        assert_eq!(ends, [(0, None), (1, Some(End::Abort))]);
        machine.lost(&mut Cx { now, fx: &mut Effects::default() }, Lost::Ended);
    }

    #[test]
    fn a_visitor_that_waits_for_a_piece_to_be_acknowledged_sends_the_next_one_soon() {
        let hub = GatewayHub::new(GatewayConfig::new(own_keys()), [1; 32]);
        let mut machine = hub.accept(([192, 0, 2, 1], 50_000).into()).unwrap();
        let (mut fx, mut io, mut now) = (Effects::default(), Io::default(), Now::default());
        let mut advance = |io: &mut Io, now: Now| machine.advance(&mut Cx { now, fx: &mut fx }, io).unwrap();
        assert!(!advance(&mut io, now).acknowledge);
        io.input.push(b"GET / HTTP/1.1\r\nHo");
        let want = advance(&mut io, now);
        now.mono = now.mono + limits::REST_WAIT;
        assert_eq!((want.acknowledge, want.wake_at), (false, Some((now.mono, Why::Rest))));
        assert!(advance(&mut io, now).acknowledge);
        io.input.push(b"st: a\r\n\r\n");
        assert!(!advance(&mut io, now).acknowledge, "the head is whole, and has no body");
        machine.lost(&mut Cx { now, fx: &mut fx }, Lost::Ended);
    }
}
