//! From a request's head to its exchange: a connector, memory, and, where there is no room, a turn to wait for.
//!
//! ```text
//! begin ─▶ enter ── room ──▶ launch ─▶ carrying
//!            │ ▲                          │
//!            │ └─ rung, 100 ms passed     └─ refused: nothing reached an app ─▶ wait
//!            ▼                                                                   │
//!          wait ◀────────────────────────────────────────────────────────────────┘
//!            └─ 10 s passed, too many wait, the visitor left ─▶ turned away
//! ```

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Visitor;
use super::carrying::{Again, Carried, OwnAnswer, Request, Response, answer};
use crate::event::{Event, RequestLog, Trouble};
use crate::http1::answer::Answer;
use crate::http1::body::{BodyKind, Encoder, Framing};
use crate::http1::hop::{LinkRequest, RequestFacts};
use crate::hub::admission::{Lease, Purpose, Slot, exchange_bytes};
use crate::hub::mailbox::{Exchange, FirstWindows, LinkHead};
use crate::hub::queue::{Line, Ticket};
use crate::hub::registry::{Connector, Pick};
use crate::hub::shares::Share;
use crate::limits::{self, WINDOW_BYTES, WINDOW_BYTES_MIN};
use crate::link::frame::RequestNotes;
use crate::machine::{Cx, End, Io};
use crate::time::{Instant, Why};

/// A request that no connector has.
pub(super) struct Pending {
    pub(super) again: Again,
    pub(super) request: Request,
    pub(super) facts: RequestFacts,
    pub(super) log: Box<RequestLog>,
    pub(super) began: Instant,
    /// See [`Carried`].
    pub(super) sends: bool,
    /// See [`Carried`].
    pub(super) close: bool,
    /// When it stops waiting, once it has begun to.
    pub(super) until: Option<Instant>,
}

/// A request that waits for room.
pub(super) struct Waiting {
    pending: Box<Pending>,
    ticket: Ticket,
    until: Instant,
    /// It was its turn when it looked last.
    is_first: bool,
    /// How often the queue had rung then; none before it looked.
    rings: Option<u64>,
}

/// What a request has once there is room for it.
struct Admitted {
    connector: Arc<Connector>,
    slot: Slot,
    lease: Lease,
    share: Option<Share>,
    windows: FirstWindows,
    notes: RequestNotes,
}

/// Why a request is not admitted.
pub(super) enum Barred {
    /// There is no room at the moment.
    Full,
    /// There is no use in waiting.
    For(Trouble),
}

impl Pending {
    /// What the request's memory is for.
    pub(super) fn purpose(&self) -> Purpose {
        Purpose::of(self.again.head.kind)
    }

    /// Whether nothing of the request is still to come from the visitor.
    fn is_whole(&self) -> bool {
        match &self.request {
            Request::Done | Request::AwaitsUpgrade => true,
            Request::Body(_) => self.again.head.kind == BodyKind::Sized(0),
            Request::Stopped => false,
        }
    }
}

impl Visitor {
    /// A request came: it gets an exchange, waits for one, or is turned away.
    pub(super) fn begin(&mut self, request: LinkRequest, log: Box<RequestLog>, cx: &mut Cx<'_>, io: &mut Io) {
        self.hub.figures.requests.fetch_add(1, Ordering::Relaxed);
        let LinkRequest { text, kind, framing, facts, ends_here } = request;
        let pending = Box::new(Pending {
            again: Again::new(LinkHead { kind, text }),
            request: Request::of(kind, framing),
            sends: !facts.expects_continue,
            close: !facts.keep_alive,
            facts,
            log,
            began: cx.now.mono,
            until: None,
        });
        if ends_here {
            return self.answer_as_last_hop(pending, cx, io);
        }
        if let Framing::Sized(length) = framing
            && self.is_too_long(length)
        {
            return self.turn_away(pending, Trouble::BodyTooLong, cx, io);
        }
        let line = self.line(&pending);
        if line == Line::Patient || !self.hub.queue.is_empty(line) {
            return self.wait(pending, cx, io);
        }
        self.begin_again(pending, cx, io);
    }

    /// The request gets an exchange, or it waits. If it had one before, nothing of it reached an app.
    pub(super) fn begin_again(&mut self, pending: Box<Pending>, cx: &mut Cx<'_>, io: &mut Io) {
        match self.enter(pending, None, cx) {
            Ok(()) => {}
            Err((pending, Barred::Full)) => self.wait(pending, cx, io),
            Err((pending, Barred::For(trouble))) => self.turn_away(pending, trouble, cx, io),
        }
    }

    /// Where the request waits, if it has to.
    fn line(&self, pending: &Pending) -> Line {
        if self.holds_much() { Line::Patient } else { Line::of(pending.purpose()) }
    }

    /// Whether room is short, and this visitor holds more of it than others.
    fn holds_much(&self) -> bool {
        self.hub.pool.is_scarce() && self.hub.shares.is_large(self.from)
    }

    /// Gives the request an exchange if there is room for it, with another connector than `not`.
    pub(super) fn enter(
        &mut self,
        pending: Box<Pending>,
        not: Option<&Arc<Connector>>,
        cx: &mut Cx<'_>,
    ) -> Result<(), (Box<Pending>, Barred)> {
        match self.admit(&pending, not) {
            Ok(admitted) => self.launch(pending, admitted, cx).map_err(|pending| (pending, Barred::Full)),
            Err(barred) => Err((pending, barred)),
        }
    }

    /// Finds a connector and sets the memory of an exchange aside.
    fn admit(&self, pending: &Pending, not: Option<&Arc<Connector>>) -> Result<Admitted, Barred> {
        let (purpose, head) = (pending.purpose(), &pending.again.head);
        if self.hub.is_draining() {
            return Err(Barred::For(Trouble::Stopped));
        }
        let picked = match &self.keeps_to {
            Some(home) if not.is_none() => self.hub.registry.pick_for(home, purpose),
            _ => self.hub.registry.pick(not, purpose),
        };
        let (connector, slot) = match picked {
            Pick::Connector(connector, slot) => (connector, slot),
            Pick::Busy => return Err(Barred::Full),
            Pick::Nobody => return Err(Barred::For(Trouble::NoConnector)),
        };
        let (narrow, kind) = (Some(WINDOW_BYTES_MIN), head.kind);
        let response_credit = narrow.filter(|_| kind.is_upgrade() || !self.hub.pool.is_roomy());
        let body_credit = match kind {
            BodyKind::None => None,
            BodyKind::Sized(bytes) if bytes <= WINDOW_BYTES_MIN.into() => narrow,
            BodyKind::Upgrade => narrow,
            BodyKind::Sized(_) | BodyKind::Unknown | BodyKind::UpgradeSized(_) | BodyKind::UpgradeChunked => {
                narrow.filter(|_| !connector.is_roomy())
            }
        };
        // What the connector allows may be less.
        let body_credit = body_credit.map(|bytes| bytes.min(connector.window));
        let windows = FirstWindows {
            to_link: body_credit.unwrap_or(connector.window),
            to_http: response_credit.unwrap_or(WINDOW_BYTES),
        };
        let notes = RequestNotes { visitor: None, response_credit, body_credit, id: pending.log.id };
        // The head a second time for another try, and as a line of the log.
        let bytes = exchange_bytes(windows.to_http, head.kind != BodyKind::None, 3 * head.text.len());
        let lease = self.hub.pool.reserve(bytes, purpose).ok_or(Barred::Full)?;
        let share = if self.hub.pool.is_roomy() { None } else { self.hub.shares.hold(self.from, bytes) };
        Ok(Admitted { connector, slot, lease, share, windows, notes })
    }

    /// Begins the exchange with what there is of the request; gives that back if there is no room for it.
    fn launch(
        &mut self,
        pending: Box<Pending>,
        admitted: Admitted,
        cx: &mut Cx<'_>,
    ) -> Result<(), Box<Pending>> {
        let Admitted { connector, slot, lease, share, windows, mut notes } = admitted;
        notes.visitor = self.number();
        let exchange = Exchange::new(connector.inbox.clone(), Some(self.port), windows, lease);
        let mut body = pending.again.body.clone();
        let room = exchange.room();
        if room.bytes() < body.len() {
            drop(room);
            return Err(pending);
        }
        let Pending { again, request, facts, log, began, sends, close, until } = *pending;
        exchange.post_request(again.head.clone(), notes, cx.fx);
        exchange.post_data(room, &mut body, cx.fx);
        if let Some(trailers) = &again.end {
            exchange.post_end(trailers.clone(), cx.fx);
        }
        self.timers.clear_all();
        self.carried = Some(Box::new(Carried {
            exchange,
            connector,
            _slot: slot,
            _share: share,
            before_tunnel: again.head.kind.before_upgrade().map(Encoder::new),
            again: (!again.head.kind.is_upgrade()).then_some(again),
            is_second: false,
            facts,
            request,
            response: Response::Awaited,
            log,
            began,
            until,
            unreported: 0,
            close,
            sends,
            rests_since: None,
            blocked: false,
        }));
        Ok(())
    }

    /// A number for the connection that the request came on; none where many visitors may share it.
    fn number(&mut self) -> Option<NonZeroU64> {
        if self.number.is_none() && !self.from.to_canonical().is_loopback() {
            self.number = NonZeroU64::new(self.hub.seeds.number());
        }
        self.number
    }

    // ---- waiting ---------------------------------------------------------------------------------------------------

    /// Takes the last place in the line.
    fn wait(&mut self, mut pending: Box<Pending>, cx: &mut Cx<'_>, io: &mut Io) {
        let until = *pending.until.get_or_insert(cx.now.mono + limits::WAIT_FOR_ROOM);
        match self.hub.queue.enter(self.line(&pending), self.port) {
            Some(ticket) => {
                self.waiting =
                    Some(Box::new(Waiting { pending, ticket, until, is_first: false, rings: None }))
            }
            None => self.turn_away(pending, Trouble::Busy, cx, io),
        }
    }

    /// Looks whether it is the turn of the request that waits, and whether there is room; true if it waits no more.
    pub(super) fn look_for_room(&mut self, mut waiting: Box<Waiting>, cx: &mut Cx<'_>, io: &mut Io) -> bool {
        let now = cx.now.mono;
        if io.input.ended() {
            self.timers.set_once(Why::Gone, now + limits::VISITOR_GONE);
        }
        if self.timers.is_due(Why::Gone, now) {
            self.stop_waiting(*waiting, Trouble::VisitorLeft, cx, io);
            return true;
        }
        if now >= waiting.until || self.hub.is_draining() {
            let trouble = if self.hub.is_draining() { Trouble::Stopped } else { Trouble::Busy };
            self.stop_waiting(*waiting, trouble, cx, io);
            return true;
        }
        // What was freed may have rung nobody: whoever is first also looks by itself.
        let is_due = self.timers.is_due(Why::Room, now);
        let rings = Some(self.hub.queue.rings());
        let is_rung = waiting.rings != rings;
        waiting.rings = rings;
        if waiting.is_first && is_due {
            self.hub.registry.expect_room(waiting.pending.purpose());
        }
        if (is_rung || is_due) && self.hub.queue.is_first(&waiting.ticket) && self.may_look(&waiting) {
            match self.enter(waiting.pending, None, cx) {
                Ok(()) => {
                    self.hub.queue.leave(waiting.ticket, cx.fx);
                    return true;
                }
                Err((pending, Barred::For(trouble))) => {
                    waiting.pending = pending;
                    self.stop_waiting(*waiting, trouble, cx, io);
                    return true;
                }
                Err((pending, Barred::Full)) => waiting.pending = pending,
            }
        }
        let is_first = self.hub.queue.is_first(&waiting.ticket);
        if is_first && (!waiting.is_first || is_due) {
            self.timers.set(Why::Room, waiting.until.min(now + limits::LOOK_FOR_ROOM_EVERY));
        } else {
            self.timers.set_once(Why::Room, waiting.until);
        }
        waiting.is_first = is_first;
        self.waiting = Some(waiting);
        false
    }

    /// Whether the first of its line may take room: whoever holds much lets the others look first.
    fn may_look(&self, waiting: &Waiting) -> bool {
        let others = Line::of(waiting.pending.purpose());
        !self.hub.queue.is_patient(&waiting.ticket) || self.hub.queue.is_empty(others) && !self.holds_much()
    }

    fn stop_waiting(&mut self, waiting: Waiting, trouble: Trouble, cx: &mut Cx<'_>, io: &mut Io) {
        self.hub.queue.leave(waiting.ticket, cx.fx);
        self.turn_away(waiting.pending, trouble, cx, io);
    }

    /// The visitor's connection is gone while its request waits.
    pub(super) fn abandon_waiting(&mut self, waiting: Waiting, trouble: Trouble, cx: &mut Cx<'_>) {
        self.hub.queue.leave(waiting.ticket, cx.fx);
        let mut pending = waiting.pending;
        pending.log.trouble = Some(trouble);
        self.log_unsent(pending, cx);
    }

    // ---- answers of our own ----------------------------------------------------------------------------------------

    /// Answers an OPTIONS that was to come no further than this.
    fn answer_as_last_hop(&mut self, pending: Box<Pending>, cx: &mut Cx<'_>, io: &mut Io) {
        let close = self.closes_after(&pending);
        let answer = Answer { close, ..Answer::to_options(pending.log.id) }.for_request(&pending.facts);
        self.end_unsent(pending, OwnAnswer(answer), cx, io);
    }

    /// Whether the connection ends with our own answer to a request that no connector has.
    fn closes_after(&self, pending: &Pending) -> bool {
        !pending.is_whole() || pending.close || self.hub.is_draining()
    }

    fn end_unsent(&mut self, mut pending: Box<Pending>, answer: OwnAnswer, cx: &mut Cx<'_>, io: &mut Io) {
        let close = answer.0.close;
        pending.log.status = Some(answer.put(cx.now, io));
        self.timers.clear_all();
        if close {
            self.end_with(End::Linger);
        }
        self.log_unsent(pending, cx);
    }

    fn log_unsent(&self, pending: Box<Pending>, cx: &mut Cx<'_>) {
        let Pending { mut log, began, .. } = *pending;
        log.took = cx.now.mono.since(began);
        cx.fx.events.push(Event::Request(log));
    }

    /// Answers a request that no connector gets.
    pub(super) fn turn_away(
        &mut self,
        mut pending: Box<Pending>,
        trouble: Trouble,
        cx: &mut Cx<'_>,
        io: &mut Io,
    ) {
        pending.log.trouble = Some(trouble);
        if trouble == Trouble::VisitorLeft {
            // Nobody reads an answer.
            self.end_with(End::Close);
            self.log_unsent(pending, cx);
        } else {
            let close = self.closes_after(&pending);
            let answer = answer(trouble, &pending.facts, pending.log.id, close);
            self.end_unsent(pending, answer, cx, io);
        }
        if trouble == Trouble::Busy
            && let Some(count) = self.hub.queue.turn_away(cx.now.mono)
        {
            cx.fx.events.push(Event::NoRoom { count });
        }
    }
}
