//! Carrying a request and its response, from choosing a connector to the log's line; both move at once.
//!
//! ```text
//! begin ─▶ carry ─▶ pump_response ─▶ pump_request ─▶ overdue? ─▶ both whole? ─▶ the next head
//!            ▲            └─▶ try_again, or give_up: an answer of ours, or a cut     │
//!            └─────────────────────────────────────────────────────────── else ◀─────┘
//! ```

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Visitor;
use crate::buf::RecvBuf;
use crate::event::{Event, RequestLog, Trouble};
use crate::fault::Fault;
use crate::http1::Violation;
use crate::http1::answer::Answer;
use crate::http1::body::{BodyKind, Decoder, Encoder, Framing};
use crate::http1::hop::{LinkRequest, RequestFacts, response_to_visitor};
use crate::hub::admission::{Lease, Pool, Purpose, Slot, exchange_bytes};
use crate::hub::mailbox::{Exchange, Failure, FirstWindows, LinkHead};
use crate::hub::registry::{Connector, Pick};
use crate::limits::{self, WINDOW_BYTES};
use crate::link::frame::{RequestNotes, ResetCode};
use crate::machine::{Cx, End, Io};
use crate::time::{Instant, Now, Timers, Why};

/// A request on its way, and its response.
pub(super) struct Carried {
    exchange: Arc<Exchange>,
    connector: Arc<Connector>,
    _slot: Slot,
    facts: RequestFacts,
    /// What another connector would need, as long as it may have it.
    again: Option<Again>,
    request: Request,
    response: Response,
    log: Box<RequestLog>,
    began: Instant,
    /// Body bytes in the output whose credit has not gone back.
    unreported: usize,
    /// The connection ends after this.
    close: bool,
    /// The visitor does not wait for a 100.
    sends: bool,
    /// The lane has no room: nothing is read.
    blocked: bool,
}

/// A request that may be tried once more, on another connector.
struct Again {
    head: LinkHead,
    /// What was sent of the body; only kept while all of it is here and nothing shows that the app had any of it.
    body: Vec<u8>,
    /// The memory of `body`.
    lease: Option<Lease>,
    /// The trailers, once the request is whole.
    end: Option<Vec<u8>>,
    /// It changes nothing at the app, and may be sent again even if the app had it: GET, HEAD, OPTIONS.
    is_safe: bool,
}

enum Request {
    /// An upgrade was asked for: nothing is read until the final head.
    AwaitsUpgrade,
    Body(Decoder),
    /// No more of it is wanted, although it was not whole: what comes is discarded.
    Stopped,
    Done,
}

enum Response {
    Awaited,
    Body(Encoder),
    /// The same, after a 101.
    Tunnel(Encoder),
    Done,
    /// The opaque direction to the visitor has ended; the other one may go on.
    TunnelDone,
}

impl Response {
    fn is_tunnel(&self) -> bool {
        matches!(self, Response::Tunnel(_) | Response::TunnelDone)
    }
}

impl Visitor {
    // ---- beginning an exchange -------------------------------------------------------------------------------------

    pub(super) fn begin(&mut self, request: LinkRequest, log: Box<RequestLog>, cx: &mut Cx<'_>, io: &mut Io) {
        self.hub.figures.requests.fetch_add(1, Ordering::Relaxed);
        if request.ends_here {
            return self.answer_as_last_hop(&request, log, cx, io);
        }
        let began = cx.now.mono;
        let (connector, slot, lease) = match self.admit(&request) {
            Ok(admitted) => admitted,
            Err(trouble) => return self.turn_away(trouble, &request, log, cx, io),
        };
        let LinkRequest { text, kind, framing, facts, ends_here: _ } = request;
        let windows = FirstWindows { to_link: connector.window, to_http: WINDOW_BYTES };
        let exchange = Exchange::new(connector.inbox.clone(), Some(self.port), windows, lease);
        let head = LinkHead { kind, text };
        let again = (kind != BodyKind::Upgrade).then(|| Again::new(&head));
        let request = match framing {
            _ if kind == BodyKind::Upgrade => Request::AwaitsUpgrade,
            Framing::Empty => Request::Done,
            _ => Request::Body(Decoder::new(framing)),
        };
        exchange.post_request(head, self.notes(), cx.fx);
        if matches!(request, Request::Done) {
            exchange.post_end(Vec::new(), cx.fx);
        }
        self.carried = Some(Box::new(Carried {
            exchange,
            connector,
            _slot: slot,
            sends: !facts.expects_continue,
            close: !facts.keep_alive,
            facts,
            again,
            request,
            response: Response::Awaited,
            log,
            began,
            unreported: 0,
            blocked: false,
        }));
    }

    /// What goes beside the head of a request: whose connection it came on. Behind a proxy that are many.
    fn notes(&mut self) -> RequestNotes {
        if self.number.is_none() && !self.from.to_canonical().is_loopback() {
            self.number = NonZeroU64::new(self.hub.seeds.number());
        }
        RequestNotes { visitor: self.number }
    }

    /// Finds a connector and sets the memory of an exchange aside.
    fn admit(&self, request: &LinkRequest) -> Result<(Arc<Connector>, Slot, Lease), Trouble> {
        if self.hub.is_draining() {
            return Err(Trouble::Stopped);
        }
        if let Framing::Sized(length) = request.framing
            && self.is_too_long(length)
        {
            return Err(Trouble::BodyTooLong);
        }
        let (connector, slot) = match self.hub.registry.pick(None) {
            Pick::Connector(connector, slot) => (connector, slot),
            Pick::Busy => return Err(Trouble::Busy),
            Pick::Nobody => return Err(Trouble::NoConnector),
        };
        let lease = self.reserve(request.kind, request.text.len()).ok_or(Trouble::Busy)?;
        Ok((connector, slot, lease))
    }

    /// Sets the memory of an exchange aside: its head a second time for another try, and as a line of the log.
    fn reserve(&self, kind: BodyKind, head_bytes: usize) -> Option<Lease> {
        let bytes = exchange_bytes(WINDOW_BYTES, kind != BodyKind::None, 3 * head_bytes);
        self.hub.pool.reserve(bytes, Purpose::of(kind))
    }

    fn is_too_long(&self, body_bytes: u64) -> bool {
        self.hub.config.body_bytes_max.is_some_and(|max| body_bytes > max)
    }

    /// Answers a request that no connector gets.
    fn turn_away(
        &mut self,
        trouble: Trouble,
        request: &LinkRequest,
        mut log: Box<RequestLog>,
        cx: &mut Cx<'_>,
        io: &mut Io,
    ) {
        let close = self.closes_after(request);
        log.status = Some(answer(trouble, &request.facts, log.id, close).put(cx.now, io));
        log.trouble = Some(trouble);
        self.end_unsent(log, close, cx);
    }

    /// Answers an OPTIONS that was to come no further than this.
    fn answer_as_last_hop(
        &mut self,
        request: &LinkRequest,
        mut log: Box<RequestLog>,
        cx: &mut Cx<'_>,
        io: &mut Io,
    ) {
        let close = self.closes_after(request);
        let answer = Answer { close, ..Answer::to_options(log.id) }.for_request(&request.facts);
        log.status = Some(OwnAnswer(answer).put(cx.now, io));
        self.end_unsent(log, close, cx);
    }

    /// Whether the connection ends with our own answer to a request of which no body was read.
    fn closes_after(&self, request: &LinkRequest) -> bool {
        let whole = matches!(request.framing, Framing::Empty | Framing::Sized(0));
        !whole || !request.facts.keep_alive || self.hub.is_draining()
    }

    fn end_unsent(&mut self, log: Box<RequestLog>, close: bool, cx: &mut Cx<'_>) {
        cx.fx.events.push(Event::Request(log));
        if close {
            self.end_with(End::Linger);
        }
    }

    // ---- carrying --------------------------------------------------------------------------------------------------

    /// Moves both directions as far as they go; true if the exchange is over and the next head may be read.
    pub(super) fn carry(
        &mut self,
        mut carried: Box<Carried>,
        cx: &mut Cx<'_>,
        io: &mut Io,
    ) -> Result<bool, Fault> {
        let moved = match self.pump_response(&mut carried, cx, io) {
            Ok(moved) => moved,
            Err(trouble) => return self.give_up(carried, trouble, cx, io),
        };
        let sent = match self.pump_request(&mut carried, cx, io) {
            Ok(sent) => sent,
            Err(trouble) => return self.give_up(carried, trouble, cx, io),
        };
        if let Some(trouble) = self.overdue(&carried, moved || sent, sent, cx.now.mono, io) {
            return self.give_up(carried, trouble, cx, io);
        }
        match (&carried.response, &carried.request) {
            (Response::Done, Request::Done | Request::Stopped) => {}
            (Response::TunnelDone, Request::Done | Request::Stopped) => {}
            (Response::Done, _) => {
                // The answer came before the request was whole: no more of it is wanted.
                carried.exchange.reset(ResetCode::Cancelled, "answered before the request was whole", cx.fx);
                carried.close = true;
            }
            _ => {
                self.carried = Some(carried);
                return Ok(false);
            }
        }
        let whole = matches!(carried.request, Request::Done);
        if carried.close || matches!(carried.response, Response::TunnelDone) {
            self.end_with(if whole && io.input.is_empty() { End::Close } else { End::Linger });
        }
        self.timers = Timers::default();
        self.scratch = Vec::new();
        self.log(carried, None, cx);
        Ok(true)
    }

    /// Moves the response towards the visitor; whether anything moved or was granted.
    fn pump_response(
        &mut self,
        carried: &mut Carried,
        cx: &mut Cx<'_>,
        io: &mut Io,
    ) -> Result<bool, Trouble> {
        let mut moved = false;
        while io.output.len() < limits::HTTP_OUTPUT_BYTES && !carried.response_is_done() {
            self.scratch.clear();
            let room = limits::HTTP_OUTPUT_BYTES - io.output.len();
            let mut taken = carried.exchange.take(room, &mut self.scratch);
            moved |= taken.granted;
            if taken.granted {
                // The app takes the body: it is not to get it twice.
                carried.again = None;
            }
            if taken.is_empty() && self.scratch.is_empty() {
                break;
            }
            moved = true;
            if let Some(failure) = taken.failure {
                if carried.may_try_again(failure) && self.try_again(carried, cx) {
                    continue;
                }
                return Err(trouble_of(failure));
            }
            if let Some(interim) = taken.interim.take() {
                self.put_head(carried, &interim, cx, io)?;
            }
            if let Some(head) = taken.head.take() {
                self.put_head(carried, &head, cx, io)?;
            }
            let (Response::Body(encoder) | Response::Tunnel(encoder)) = &mut carried.response else {
                if self.scratch.is_empty() && taken.end.is_none() {
                    continue;
                } else {
                    return Err(Trouble::TargetBroke);
                }
            };
            let count = self.scratch.len();
            encoder.put(&mut self.scratch, &mut io.output).map_err(|_| Trouble::TargetBroke)?;
            carried.unreported += count;
            carried.log.bytes_out += count as u64;
            self.hub.figures.bytes_out.fetch_add(count as u64, Ordering::Relaxed);
            if let Some(trailers) = taken.end {
                encoder.finish(&trailers, io.output.tail()).map_err(|_| Trouble::TargetBroke)?;
                carried.response = match carried.response {
                    Response::Tunnel(_) => Response::TunnelDone,
                    _ => Response::Done,
                };
            }
        }
        let consumed = carried.unreported.saturating_sub(io.output.len());
        carried.unreported -= consumed;
        carried.exchange.consumed(consumed, cx.fx);
        Ok(moved)
    }

    fn put_head(
        &mut self,
        carried: &mut Carried,
        head: &LinkHead,
        cx: &mut Cx<'_>,
        io: &mut Io,
    ) -> Result<(), Trouble> {
        const CONTINUE: u16 = 100;
        const SWITCHING_PROTOCOLS: u16 = 101;
        let incomplete = matches!(carried.request, Request::Body(_));
        let close = carried.close || incomplete || self.hub.is_draining();
        let response =
            response_to_visitor(&head.text, head.kind, &carried.facts, close, cx.now.unix, io.output.tail())
                .map_err(|_| Trouble::TargetBroke)?;
        carried.again = None;
        match response.status {
            CONTINUE => carried.sends = true,
            SWITCHING_PROTOCOLS => {
                carried.request = Request::Body(Decoder::new(Framing::UntilClose));
                carried.response = Response::Tunnel(Encoder::new(Framing::UntilClose));
                carried.log.status = Some(response.status);
                carried.close = true;
                self.timers = Timers::default();
            }
            102..200 => {}
            status => {
                carried.log.status = Some(status);
                carried.close |= !response.keep_alive;
                carried.response = Response::Body(Encoder::new(response.framing));
                if matches!(carried.request, Request::AwaitsUpgrade) {
                    // No upgrade: the request was whole all along.
                    carried.request = Request::Done;
                    carried.exchange.post_end(Vec::new(), cx.fx);
                }
            }
        }
        Ok(())
    }

    /// Moves the request towards the connector; whether anything moved.
    fn pump_request(&mut self, carried: &mut Carried, cx: &mut Cx<'_>, io: &mut Io) -> Result<bool, Trouble> {
        if matches!(carried.request, Request::Body(_)) && carried.exchange.stopped() {
            carried.request = Request::Stopped;
            carried.close = true;
        }
        if matches!(carried.request, Request::Stopped) {
            // Whoever writes all of a request before it reads takes the answer once that is read.
            io.input.consume(io.input.len());
        }
        let Request::Body(decoder) = &mut carried.request else { return Ok(false) };
        let mut moved = false;
        loop {
            let room = carried.exchange.room();
            self.scratch.clear();
            let taken = decoder.take(&mut io.input, room.bytes(), &mut self.scratch);
            let consumed = taken.map_err(|rule| self.broke_rule(carried.log.id, rule, cx))?;
            carried.blocked = room.bytes() == 0;
            if consumed == 0 && !decoder.is_done() {
                if carried.blocked || !io.input.ended() {
                    return Ok(moved);
                }
                decoder.end_of_input().map_err(|rule| self.broke_rule(carried.log.id, rule, cx))?;
            }
            moved = true;
            carried.sends = true;
            carried.log.bytes_in += self.scratch.len() as u64;
            // What an upgraded connection carries is no body.
            if !carried.response.is_tunnel() && self.is_too_long(carried.log.bytes_in) {
                return Err(Trouble::BodyTooLong);
            }
            self.hub.figures.bytes_in.fetch_add(self.scratch.len() as u64, Ordering::Relaxed);
            if let Some(again) = &mut carried.again
                && !again.keep(&self.scratch, &self.hub.pool)
            {
                carried.again = None;
            }
            carried.exchange.post_data(room, &mut self.scratch, cx.fx);
            if decoder.is_done() {
                let trailers = decoder.take_trailers();
                if let Some(again) = &mut carried.again {
                    again.end = Some(trailers.clone());
                }
                carried.exchange.post_end(trailers, cx.fx);
                carried.request = Request::Done;
                return Ok(true);
            }
        }
    }

    fn broke_rule(&self, id: u64, rule: Violation, cx: &mut Cx<'_>) -> Trouble {
        cx.fx.events.push(Event::BadRequest { id, from: self.from, rule });
        Trouble::VisitorBroke
    }

    /// Sets the deadlines of an exchange anew where something moved, and says which one has passed.
    ///
    /// Before the final head either the visitor is waited for or the app is, and the time of one alone runs. The app's begins
    /// once it has the whole request, and runs before that while it takes nothing of what waits for it.
    fn overdue(
        &mut self,
        carried: &Carried,
        moved: bool,
        sent: bool,
        now: Instant,
        io: &Io,
    ) -> Option<Trouble> {
        let is_awaited = matches!(carried.response, Response::Awaited);
        let has_body = matches!(carried.request, Request::Body(_));
        let waits_for_visitor = has_body && carried.sends && !carried.blocked;
        // What waits to be taken has a time of its own; and what a tunnel carries is the app's to judge.
        let may_be_gone =
            io.input.ended() && io.output.is_empty() && !has_body && !carried.response.is_tunnel();
        let config = &self.hub.config;
        for (why, runs, begins_anew, wait, trouble) in [
            (Why::Body, is_awaited && waits_for_visitor, sent, config.body_timeout, Trouble::VisitorStalled),
            (
                Why::Response,
                is_awaited && !waits_for_visitor,
                moved,
                config.response_timeout,
                Trouble::ResponseTimedOut,
            ),
            (Why::Gone, may_be_gone, false, limits::VISITOR_GONE, Trouble::VisitorLeft),
        ] {
            if !runs {
                self.timers.clear(why);
            } else if begins_anew {
                self.timers.set(why, now + wait);
            } else {
                self.timers.set_once(why, now + wait);
                if self.timers.is_due(why, now) {
                    return Some(trouble);
                }
            }
        }
        None
    }

    /// Gives the request to another connector, once.
    fn try_again(&mut self, carried: &mut Carried, cx: &mut Cx<'_>) -> bool {
        let Some(Again { head, mut body, end, .. }) = carried.again.take() else { return false };
        let Pick::Connector(connector, slot) = self.hub.registry.pick(Some(&carried.connector)) else {
            return false;
        };
        let Some(lease) = self.reserve(head.kind, head.text.len()) else { return false };
        let windows = FirstWindows { to_link: connector.window, to_http: WINDOW_BYTES };
        carried.exchange = Exchange::new(connector.inbox.clone(), Some(self.port), windows, lease);
        (carried.connector, carried._slot) = (connector, slot);
        carried.exchange.post_request(head, self.notes(), cx.fx);
        let room = carried.exchange.room();
        if room.bytes() < body.len() {
            return false;
        }
        carried.exchange.post_data(room, &mut body, cx.fx);
        if let Some(trailers) = end {
            carried.exchange.post_end(trailers, cx.fx);
        }
        true
    }

    /// The exchange cannot be finished: with an answer of ours if the response has not begun, else with a cut that
    /// the visitor cannot take for a whole response.
    fn give_up(
        &mut self,
        mut carried: Box<Carried>,
        trouble: Trouble,
        cx: &mut Cx<'_>,
        io: &mut Io,
    ) -> Result<bool, Fault> {
        carried.exchange.reset(ResetCode::Cancelled, trouble.as_str(), cx.fx);
        let has_begun = !matches!(carried.response, Response::Awaited);
        if trouble == Trouble::VisitorLeft && !has_begun {
            // Nobody reads an answer.
            self.end_with(End::Close);
        } else if !has_begun {
            let whole = matches!(carried.request, Request::Done | Request::AwaitsUpgrade);
            let close = carried.close || !whole || trouble == Trouble::VisitorBroke;
            let status = answer(trouble, &carried.facts, carried.log.id, close).put(cx.now, io);
            carried.log.status = Some(status);
            self.timers = Timers::default();
            if close {
                self.end_with(End::Linger);
            }
        }
        self.log(carried, Some(trouble), cx);
        if has_begun { Err(Fault::Cut) } else { Ok(true) }
    }

    /// The visitor's connection is gone.
    pub(super) fn abandon(&self, carried: Box<Carried>, trouble: Trouble, cx: &mut Cx<'_>) {
        carried.exchange.reset(ResetCode::Cancelled, "the visitor left", cx.fx);
        self.log(carried, Some(trouble), cx);
    }

    fn log(&self, carried: Box<Carried>, trouble: Option<Trouble>, cx: &mut Cx<'_>) {
        let Carried { mut log, connector, began, .. } = *carried;
        log.connector = Some(Arc::clone(&connector.label));
        log.took = cx.now.mono.since(began);
        log.trouble = trouble;
        cx.fx.events.push(Event::Request(log));
    }
}

impl Again {
    fn new(head: &LinkHead) -> Self {
        let safe = [&b"GET "[..], b"HEAD ", b"OPTIONS "];
        let is_empty = matches!(head.kind, BodyKind::None | BodyKind::Sized(0));
        let is_safe = is_empty && safe.iter().any(|method| head.text.starts_with(method));
        let end = (head.kind == BodyKind::None).then(Vec::new);
        Self { head: head.clone(), body: Vec::new(), lease: None, end, is_safe }
    }

    /// Keeps what is sent of the body; false if it is too much to be worth it.
    fn keep(&mut self, sent: &[u8], pool: &Arc<Pool>) -> bool {
        if sent.is_empty() {
            return true;
        }
        if self.body.len() + sent.len() > limits::KEPT_BODY_BYTES {
            return false;
        }
        let Some(lease) = pool.reserve(sent.len(), Purpose::Speed) else { return false };
        match &mut self.lease {
            Some(earlier) => earlier.absorb(lease),
            None => self.lease = Some(lease),
        }
        self.body.extend_from_slice(sent);
        true
    }
}

impl Carried {
    /// Whether another connector may have the request: nothing of it reached an app, or it changes nothing there.
    fn may_try_again(&self, failure: Failure) -> bool {
        match failure {
            Failure::NeverSealed => true,
            Failure::Reset(ResetCode::Refused | ResetCode::TargetUnreachable) => true,
            Failure::LinkLost => self.again.as_ref().is_some_and(|again| again.is_safe),
            Failure::Reset(_) | Failure::NoMemory => false,
        }
    }

    /// Whether the visitor is read from.
    pub(super) fn reads(&self, input: &RecvBuf) -> bool {
        match self.request {
            Request::Body(_) => !self.blocked,
            Request::Stopped => true,
            // What comes early waits, but not much of it; a visitor who leaves is noticed.
            Request::AwaitsUpgrade | Request::Done => input.len() < limits::REQUEST_LINE_BYTES_MAX,
        }
    }

    /// Whether the opaque direction to the visitor has ended, and the other one may go on.
    pub(super) fn tunnel_is_done(&self) -> bool {
        matches!(self.response, Response::TunnelDone)
    }

    /// Whether nothing more of the request is to come; of what an upgraded connection carries nobody knows.
    pub(super) fn request_is_whole(&self) -> bool {
        !matches!(self.request, Request::Body(_)) || self.response.is_tunnel()
    }

    fn response_is_done(&self) -> bool {
        matches!(self.response, Response::Done | Response::TunnelDone)
    }
}

fn trouble_of(failure: Failure) -> Trouble {
    match failure {
        Failure::LinkLost | Failure::NeverSealed => Trouble::LinkLost,
        Failure::Reset(ResetCode::Refused) | Failure::NoMemory => Trouble::Busy,
        Failure::Reset(ResetCode::TargetUnreachable) => Trouble::TargetUnreachable,
        Failure::Reset(ResetCode::TargetTimedOut) => Trouble::TargetTimedOut,
        Failure::Reset(ResetCode::Cancelled | ResetCode::ProtocolError | ResetCode::Internal) => {
            Trouble::TargetBroke
        }
    }
}

/// Our own answer to a request that came to nothing.
fn answer(trouble: Trouble, facts: &RequestFacts, id: u64, close: bool) -> OwnAnswer {
    /// Long enough for a connector to be back: it dials again within 1.5 s.
    const RETRY_AFTER_SECS: u32 = 2;
    let (status, kind) = match trouble {
        Trouble::NoConnector => (503, "Nothing serves this address at the moment."),
        Trouble::Busy => (503, "Too much is going on at the moment."),
        Trouble::LinkLost => (502, "The connection to the app was lost."),
        Trouble::TargetUnreachable => (502, "The app cannot be reached."),
        Trouble::ResponseTimedOut | Trouble::TargetTimedOut => (504, "The app did not answer in time."),
        Trouble::TargetBroke => (502, "The app broke off, or answered with something that is not HTTP."),
        Trouble::BodyTooLong => (413, "The request's body is too long."),
        Trouble::VisitorStalled => (408, "The request stopped before it was whole."),
        Trouble::VisitorBroke | Trouble::VisitorLeft => (400, "The request is malformed."),
        Trouble::Stopped => (503, "The gateway is being stopped."),
    };
    let answer = Answer { close, ..Answer::new(status, kind, id) }.for_request(facts);
    OwnAnswer(Answer { retry_after: (status == 503).then_some(RETRY_AFTER_SECS), ..answer })
}

struct OwnAnswer(Answer);

impl OwnAnswer {
    /// Writes it and returns its status.
    fn put(self, now: Now, io: &mut Io) -> u16 {
        self.0.write(now.unix, io.output.tail());
        self.0.status
    }
}
