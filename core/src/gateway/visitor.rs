//! A visitor's connection: requests come in one after the other, each becomes an exchange.
//!
//! ```text
//!            ┌──────────────── keep-alive ────────────────┐
//!            ▼                                            │
//!   ┌─▶ reading a head ── request ──▶ carrying: request ──┤
//!   │        │  │                               response  └─ close ──▶ ending
//!   │   join │  └─ malformed, too late ─▶ our answer ────────────────────▲
//!   idle     ▼
//!          a link (see `link.rs`)
//! ```
//! While it is carried, request and response move at once. An upgrade request sends nothing after its head until the
//! final head; after a 101 both directions are opaque.

mod carrying;
mod entering;

use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::carrying::Carried;
use self::entering::Waiting;
use crate::event::{Event, RequestLine, RequestLog, Trouble};
use crate::fault::Fault;
use crate::http1::Violation;
use crate::http1::answer::Answer;
use crate::http1::head::{HeadKind, HeadScan, RequestHead};
use crate::http1::hop::{Arrival, LinkRequest, request_to_link};
use crate::hub::GatewayHub;
use crate::hub::admission::Slot;
use crate::hub::crowd::Rest;
use crate::hub::registry::Connector;
use crate::limits;
use crate::link::handshake::{self, LinkKeys, Verdict};
use crate::machine::{Cx, End, Io, Lost, PortId, RestWatch, SendWatch, Want};
use crate::time::{Now, Timers, Why};

/// What [`Visitor::advance`] came to.
pub(super) enum Turn {
    /// It goes on.
    Want(Want),
    /// It became a link.
    Joined(Box<LinkKeys>, Slot),
}

/// See the module.
pub(super) struct Visitor {
    hub: Arc<GatewayHub>,
    port: PortId,
    from: IpAddr,
    /// A number for this connection, from its first exchange on; none if many visitors may share it.
    number: Option<NonZeroU64>,
    /// The connector whose app logged this connection in, or offered to: it has the connection to the app that it did that
    /// for.
    keeps_to: Option<Arc<Connector>>,
    scan: HeadScan,
    /// A request for which there is no room yet.
    waiting: Option<Box<Waiting>>,
    carried: Option<Box<Carried>>,
    ending: Option<End>,
    timers: Timers,
    watch: SendWatch,
    rest: RestWatch,
    /// Body bytes between the decoder and the lane.
    scratch: Vec<u8>,
}

impl Visitor {
    pub(super) fn new(hub: Arc<GatewayHub>, port: PortId, from: IpAddr) -> Self {
        Self {
            hub,
            port,
            from,
            number: None,
            keeps_to: None,
            scan: HeadScan::default(),
            waiting: None,
            carried: None,
            ending: None,
            timers: Timers::default(),
            watch: SendWatch::default(),
            rest: RestWatch::default(),
            scratch: Vec::new(),
        }
    }

    pub(super) fn advance(&mut self, cx: &mut Cx<'_>, io: &mut Io) -> Result<Turn, Fault> {
        while self.ending.is_none() {
            let goes_on = match self.carried.take() {
                None if self.waiting.is_some() => match self.waiting.take() {
                    Some(waiting) => self.look_for_room(waiting, cx, io),
                    None => true,
                },
                None => match self.read_head(cx, io) {
                    Head::Goes => true,
                    Head::Waits => false,
                    Head::Joined(keys, waiting) => return Ok(Turn::Joined(keys, waiting)),
                },
                Some(carried) => self.carry(carried, cx, io)?,
            };
            if !goes_on {
                break;
            }
        }
        self.watch.check(&mut self.timers, self.hub.config.send_timeout, cx.now.mono, &io.output)?;
        let whole = self.ending.is_some()
            || self.carried.as_ref().map_or(io.input.is_empty(), |carried| carried.request_is_whole());
        let acknowledge = self.rest.check(&mut self.timers, whole, cx.now.mono, &io.input);
        Ok(Turn::Want(Want { acknowledge, ..self.want(io) }))
    }

    /// Whether it does nothing that others should wait for: it takes nothing of what waits for it, it sends nothing of a
    /// body, or no request is under way; a part of a head may have come.
    pub(super) fn rest(&self, io: &Io) -> Option<Rest> {
        let is_idle = self.carried.is_none() && self.waiting.is_none() && self.ending.is_none();
        let body_rests_since = self.carried.as_ref().and_then(|carried| carried.rests_since);
        let stalls_since = match (self.watch.waits_since(&io.output), body_rests_since) {
            (Some(output), Some(body)) => Some(output.min(body)),
            (output, body) => output.or(body),
        };
        stalls_since.map(Rest::Stalls).or(is_idle.then_some(Rest::Idle))
    }

    pub(super) fn lost(&mut self, cx: &mut Cx<'_>, why: Lost) {
        let trouble = if why == Lost::Dropped { Trouble::Stopped } else { Trouble::VisitorLeft };
        if let Some(carried) = self.carried.take() {
            self.abandon(carried, trouble, cx);
        }
        if let Some(waiting) = self.waiting.take() {
            self.abandon_waiting(*waiting, trouble, cx);
        }
    }

    fn want(&self, io: &Io) -> Want {
        let (read, end) = match &self.carried {
            _ if self.ending.is_some() => (false, self.ending),
            // A visitor who leaves is noticed, also while its request waits.
            None if self.waiting.is_some() => (io.input.len() < limits::REQUEST_LINE_BYTES_MAX, None),
            None => (io.output.len() < limits::HTTP_OUTPUT_BYTES, None),
            Some(carried) => (carried.reads(&io.input), carried.tunnel_is_done().then_some(End::HalfClose)),
        };
        Want { read, wake_at: self.timers.next(), end, ..Want::default() }
    }

    // ---- reading a head --------------------------------------------------------------------------------------------

    fn read_head(&mut self, cx: &mut Cx<'_>, io: &mut Io) -> Head {
        let now = cx.now.mono;
        if io.output.len() >= limits::HTTP_OUTPUT_BYTES {
            // Whoever asks and asks has to take the answers as well.
            self.timers.clear(Why::Idle);
            self.timers.clear(Why::Head);
            return Head::Waits;
        }
        if io.input.is_empty() {
            self.timers.set_once(Why::Idle, now + limits::VISITOR_IDLE);
            if io.input.ended() || self.hub.is_draining() || self.timers.is_due(Why::Idle, now) {
                self.timers.clear(Why::Idle);
                self.ending = Some(End::Close);
            }
            return Head::Waits;
        }
        self.timers.clear(Why::Idle);
        self.timers.set_once(Why::Head, now + limits::HEAD_TIME);
        let head = match self.scan.take(io.input.unread(), HeadKind::Request) {
            Ok(Some(head)) => head,
            Ok(None) if io.input.ended() => return self.refuse(Violation::HeadIncomplete, cx, io),
            Ok(None) if self.timers.is_due(Why::Head, now) => {
                return self.refuse(Violation::HeadTimedOut, cx, io);
            }
            Ok(None) => return Head::Waits,
            Err(violation) => return self.refuse(violation, cx, io),
        };
        self.timers.clear(Why::Head);
        let length = head.len();
        let parsed = head.request().and_then(|head| {
            if handshake::is_join(&head) {
                return Ok(Parsed::Join(self.judge_join(&head, cx.now)));
            }
            let arrival = Arrival { from: self.from, https: false, via: &self.hub.via, trusted: false };
            let request = request_to_link(&head, &arrival)?;
            Ok(Parsed::Request(request, head.method.to_vec(), head.target.to_vec()))
        });
        match parsed {
            Err(violation) => self.refuse(violation, cx, io),
            Ok(Parsed::Join(joined)) => {
                io.input.consume(length);
                self.join(joined, cx, io)
            }
            Ok(Parsed::Request(request, method, target)) => {
                io.input.consume(length);
                let log = Box::new(RequestLog {
                    id: self.hub.seeds.number(),
                    from: self.from,
                    method,
                    target,
                    status: None,
                    bytes_in: 0,
                    bytes_out: 0,
                    took: Default::default(),
                    connector: None,
                    trouble: None,
                });
                self.begin(request, log, cx, io);
                Head::Goes
            }
        }
    }

    /// A request that breaks the rules: nothing of it reaches an app.
    fn refuse(&mut self, violation: Violation, cx: &mut Cx<'_>, io: &mut Io) -> Head {
        self.hub.figures.refusals.fetch_add(1, Ordering::Relaxed);
        let id = self.hub.seeds.number();
        let line = RequestLine::of(io.input.unread());
        cx.fx.events.push(Event::BadRequest { id, from: self.from, rule: violation, line });
        let request = io.input.unread();
        let head = request.strip_prefix(b"\r\n").unwrap_or(request).starts_with(b"HEAD ");
        Answer { head, ..Answer::from_violation(violation, id) }.write(cx.now.unix, io.output.tail());
        self.end_with(End::Linger);
        Head::Waits
    }

    fn end_with(&mut self, end: End) {
        self.ending = Some(end);
        self.timers.clear_all();
    }

    fn judge_join(&self, head: &RequestHead<'_>, now: Now) -> Option<(Verdict, Slot)> {
        let waiting = self.hub.silent_links.take(limits::LINKS_WITHOUT_HELLO_MAX)?;
        let rng = &mut self.hub.seeds.for_keys();
        Some((
            handshake::verify(head, &self.hub.config.keys, now, self.from, &self.hub.doorman, rng),
            waiting,
        ))
    }

    fn join(&mut self, judged: Option<(Verdict, Slot)>, cx: &mut Cx<'_>, io: &mut Io) -> Head {
        const SOON_SECS: u64 = 1;
        let response = match judged {
            Some((Verdict::Accepted(accepted), waiting)) => {
                let (response, keys) = accepted.into_parts();
                io.output.tail().extend_from_slice(&response);
                return Head::Joined(keys, waiting);
            }
            Some((Verdict::Refused { response, refusal }, _)) => {
                self.hub.figures.refusals.fetch_add(1, Ordering::Relaxed);
                cx.fx.events.push(Event::JoinRefused { from: self.from, refusal });
                response
            }
            Some((Verdict::UpgradeRequired { response, missing }, _)) => {
                cx.fx.events.push(Event::UpgradeMissing { from: self.from, missing });
                response
            }
            // As many links as there may be are between their 101 and their HELLO.
            None => handshake::refusal_response(handshake::Refusal::Rate, cx.now.unix, Some(SOON_SECS)),
        };
        io.output.tail().extend_from_slice(&response);
        self.end_with(End::Linger);
        Head::Waits
    }
}

/// What reading a head came to.
enum Head {
    /// A request, or an answer to one: go on.
    Goes,
    /// More input is needed, or the connection ends.
    Waits,
    Joined(Box<LinkKeys>, Slot),
}

enum Parsed {
    Join(Option<(Verdict, Slot)>),
    Request(LinkRequest, Vec<u8>, Vec<u8>),
}
