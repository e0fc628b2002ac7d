//! An exchange between an HTTP side and a link, both of which do as their machines would, in any order.

use std::sync::Arc;

use super::super::input::Input;
use crate::http1::body::BodyKind;
use crate::hub::admission::{Pool, Purpose};
use crate::hub::mailbox::{Exchange, Failure, FirstWindows, Inbox, LinkHead, Sends};
use crate::limits::{CREDIT_BYTES_MAX, DATA_BYTES_MAX, MAILBOX_BYTES, MAILBOX_BYTES_MIN};
use crate::link::frame::{Frame, ResetCode, parse};
use crate::machine::{Effects, PortId};

const HTTP: PortId = PortId { index: 1, generation: 1 };
const LINK: PortId = PortId { index: 2, generation: 1 };
const STREAM: u32 = 7;

/// One exchange, and all that either side knows of it.
struct Model {
    inbox: Arc<Inbox>,
    pool: Arc<Pool>,
    exchange: Arc<Exchange>,
    fx: Effects,
    /// Bytes posted to the link and drained by it; their values count up.
    posted: u64,
    drained: u64,
    /// What the peer granted in all.
    credit: u64,
    /// The HTTP side found no room and waits to be rung.
    starved: bool,
    sent_head: bool,
    posted_end: bool,
    drained_end: bool,
    reset: bool,
    drained_reset: bool,
    /// Bytes delivered to the HTTP side and taken by it.
    delivered: u64,
    taken: u64,
    delivered_end: bool,
    taken_end: bool,
    /// The link gave up, after END or before.
    failed: bool,
    /// The link was rung and has not served the exchange.
    queued: bool,
    /// The link served it and was told that there is more.
    more: bool,
}

pub(super) fn an_exchange(mut input: Input<'_>) {
    let inbox = Inbox::new(LINK);
    let credit = u32::from(input.byte()) << 9;
    let pool = Pool::new(usize::from(input.byte()) << 11 | 1);
    let lease = pool.reserve(1, Purpose::Short).expect("there is room for one");
    let windows = FirstWindows { to_link: credit, to_http: 0 };
    let exchange = Exchange::new(inbox.clone(), Some(HTTP), windows, lease);
    exchange.opened(STREAM);
    let mut model = Model {
        inbox,
        pool,
        exchange,
        fx: Effects::default(),
        posted: 0,
        drained: 0,
        credit: credit.into(),
        starved: false,
        sent_head: false,
        posted_end: false,
        drained_end: false,
        reset: false,
        drained_reset: false,
        delivered: 0,
        taken: 0,
        delivered_end: false,
        taken_end: false,
        failed: false,
        queued: false,
        more: false,
    };
    while !input.is_empty() {
        let (what, amount) = (input.below(9), usize::from(input.byte()) << 8 | 1);
        match what {
            0 => model.post(amount),
            1 => model.post_end(),
            2 => model.take(amount),
            3 => model.reset(),
            4 => model.deliver(amount.min(DATA_BYTES_MAX)),
            5 => model.deliver_end(),
            6 => model.grant(amount),
            7 => model.drain(amount),
            _ => model.fail(),
        }
    }
    model.finish();
}

fn value(place: u64) -> u8 {
    (place % 251) as u8
}

fn values(from: u64, count: usize) -> Vec<u8> {
    (from..from + count as u64).map(value).collect()
}

impl Model {
    /// What rang since the last operation.
    fn rang(&mut self, port: PortId) -> bool {
        std::mem::take(&mut self.fx.wakes).contains(&port)
    }

    fn over(&self) -> bool {
        self.posted_end || self.reset || self.failed
    }

    fn post(&mut self, amount: usize) {
        if self.over() {
            return;
        }
        if !std::mem::replace(&mut self.sent_head, true) {
            let head = LinkHead { kind: BodyKind::Unknown, text: b"POST / HTTP/1.1\r\n\r\n".to_vec() };
            self.exchange.post_head(head, &mut self.fx);
            return self.rung();
        }
        let room = self.exchange.room();
        let waiting = (self.posted - self.drained) as usize;
        let credit = (self.credit - self.posted) as usize;
        let wanted = MAILBOX_BYTES.saturating_sub(waiting).min(credit);
        let own = MAILBOX_BYTES_MIN.saturating_sub(waiting).min(wanted);
        let used = 1 + waiting.saturating_sub(MAILBOX_BYTES_MIN);
        let is_lent = used + wanted - own <= self.pool.total() / 2;
        assert_eq!(room.bytes(), if is_lent { wanted } else { own });
        self.starved = room.bytes() == 0;
        let count = room.bytes().min(amount);
        if count > 0 {
            self.exchange.post_data(room, &mut values(self.posted, count), &mut self.fx);
            self.posted += count as u64;
            self.rung();
        }
    }

    fn post_end(&mut self) {
        if self.over() || !self.sent_head {
            return;
        }
        self.exchange.post_end(Vec::new(), &mut self.fx);
        self.posted_end = true;
        self.rung();
    }

    fn reset(&mut self) {
        if self.reset || self.failed {
            return;
        }
        self.exchange.reset(ResetCode::Cancelled, "no more", &mut self.fx);
        self.reset = true;
        if !self.posted_end {
            self.drained = self.posted;
        }
        self.rung();
    }

    /// Whoever posts rings the link, once until it has looked.
    fn rung(&mut self) {
        assert_eq!(self.rang(LINK), !self.queued);
        self.queued = true;
    }

    fn take(&mut self, room: usize) {
        let mut data = Vec::new();
        let taken = self.exchange.take(room, &mut data);
        assert!(data.len() <= room);
        assert_eq!(data, values(self.taken, data.len()), "in order, and nothing else");
        self.taken += data.len() as u64;
        assert!(taken.stopped == self.failed && self.taken <= self.delivered);
        if taken.end.is_some() {
            assert!(self.delivered_end && self.taken == self.delivered, "the end comes last");
            assert!(!std::mem::replace(&mut self.taken_end, true), "and once");
        }
        if taken.failure.is_some() {
            assert!(self.failed && !self.delivered_end, "what was delivered whole stays valid");
        }
        self.exchange.consumed(data.len(), &mut self.fx);
        if self.rang(LINK) {
            assert!(!std::mem::replace(&mut self.queued, true));
        }
    }

    fn deliver(&mut self, count: usize) {
        if self.delivered_end || self.failed || self.drained_reset {
            return;
        }
        self.exchange.deliver_data(&values(self.delivered, count), &mut self.fx);
        self.delivered += count as u64;
        assert!(self.rang(HTTP));
    }

    fn deliver_end(&mut self) {
        if self.delivered_end || self.failed || self.drained_reset {
            return;
        }
        assert!(self.exchange.deliver_end(b"", &mut self.fx));
        self.delivered_end = true;
        assert!(self.rang(HTTP));
    }

    fn grant(&mut self, amount: usize) {
        if self.failed {
            return;
        }
        let credit = u32::try_from(amount << 8).expect("16 bits and 8");
        let fits = self.credit - self.posted + u64::from(credit) <= CREDIT_BYTES_MAX.into();
        assert_eq!(self.exchange.grant(credit, &mut self.fx), fits);
        if fits {
            self.credit += u64::from(credit);
            assert!(self.rang(HTTP));
            self.starved = false;
        }
    }

    /// The link serves the exchange, if it was rung or was told that there is more.
    fn drain(&mut self, data_max: usize) {
        if !(self.queued || self.more) || self.failed || self.drained_reset {
            return;
        }
        self.inbox.swap(&mut Vec::new());
        let mut frames = Vec::new();
        let drained = self.exchange.drain(STREAM, Sends::Requests, data_max, &mut frames, &mut self.fx);
        (self.queued, self.more) = (false, drained.more);
        let mut data_bytes = 0;
        for frame in parse(&frames) {
            match frame.expect("what a link sends parses") {
                Frame::Request { .. } => assert!(self.sent_head && !self.drained_end),
                Frame::Data { bytes, .. } => {
                    assert_eq!(bytes, values(self.drained, bytes.len()), "in order, and nothing else");
                    self.drained += bytes.len() as u64;
                    data_bytes += bytes.len();
                    assert!(!self.drained_end && self.drained <= self.posted && self.posted <= self.credit);
                }
                Frame::End { .. } => {
                    assert!(self.posted_end && self.drained == self.posted, "the end comes last");
                    assert!(!std::mem::replace(&mut self.drained_end, true), "and once");
                }
                Frame::Reset { .. } => {
                    assert!(self.reset && self.drained_end == self.posted_end);
                    self.drained_reset = true;
                }
                other => panic!("nobody posted {other:?}"),
            }
        }
        assert!(data_bytes == drained.data_bytes && data_bytes <= data_max.min(DATA_BYTES_MAX));
        assert_eq!(drained.reset, self.drained_reset);
        let rang = self.rang(HTTP);
        if self.starved && data_bytes > 0 && self.credit > self.posted {
            assert!(rang, "who waits for room is rung");
            self.starved = false;
        }
    }

    fn fail(&mut self) {
        if self.failed {
            return;
        }
        self.exchange.fail(Failure::LinkLost, &mut self.fx);
        self.failed = true;
        self.drained = self.posted;
        if !self.delivered_end {
            self.delivered = self.taken;
        }
        assert!(self.rang(HTTP) && self.exchange.room().bytes() == 0);
    }

    /// What is left comes out, on both sides.
    fn finish(&mut self) {
        let mut turns = 0;
        while (self.queued || self.more) && !self.failed && !self.drained_reset {
            self.drain(usize::MAX);
            turns += 1;
            assert!(turns <= MAILBOX_BYTES / DATA_BYTES_MAX + 8, "each turn gets somewhere");
        }
        assert!(self.failed || self.reset || self.drained == self.posted);
        assert_eq!(self.pool.used(), 1, "nothing waits that would need memory");
        self.take(usize::MAX);
        while self.taken < self.delivered {
            self.take(usize::MAX);
        }
        self.take(1);
        assert!(self.taken_end == self.delivered_end);
    }
}
