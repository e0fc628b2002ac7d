//! Carrying a request and its response, from its exchange to the log's line; both move at once.
//!
//! ```text
//! launch ─▶ carry ─▶ pump_response ─▶ pump_request ─▶ overdue? ─▶ both whole? ─▶ the next head
//!            ▲            └─▶ try_again, or give_up: an answer of ours, or a cut     │
//!            └─────────────────────────────────────────────────────────── else ◀─────┘
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Visitor;
use super::entering::Pending;
use crate::buf::RecvBuf;
use crate::event::{Event, RequestLine, RequestLog, Trouble};
use crate::fault::Fault;
use crate::http1::Violation;
use crate::http1::answer::Answer;
use crate::http1::body::{BodyKind, Decoder, Encoder, Framing};
use crate::http1::hop::{RequestFacts, response_to_visitor};
use crate::hub::admission::{Lease, Pool, Purpose, Slot};
use crate::hub::mailbox::{Exchange, Failure, LinkHead};
use crate::hub::registry::Connector;
use crate::hub::shares::Share;
use crate::limits;
use crate::link::frame::ResetCode;
use crate::machine::{Cx, End, Io};
use crate::time::{Instant, Now, Why};

/// A request on its way, and its response.
pub(super) struct Carried {
    pub(super) exchange: Arc<Exchange>,
    pub(super) connector: Arc<Connector>,
    pub(super) _slot: Slot,
    pub(super) _share: Option<Share>,
    pub(super) facts: RequestFacts,
    /// What another connector would need, as long as it may have it.
    pub(super) again: Option<Again>,
    /// It is given to another connector no more, unless that refuses it.
    pub(super) is_second: bool,
    /// Frames the body of a request that asks for an upgrade, as it crosses the link, until it is whole.
    pub(super) before_tunnel: Option<Encoder>,
    pub(super) request: Request,
    pub(super) response: Response,
    pub(super) log: Box<RequestLog>,
    pub(super) began: Instant,
    /// When it stops waiting for room, if it had to.
    pub(super) until: Option<Instant>,
    /// Body bytes in the output whose credit has not gone back.
    pub(super) unreported: usize,
    /// The connection ends after this.
    pub(super) close: bool,
    /// The visitor does not wait for a 100.
    pub(super) sends: bool,
    /// Since when the visitor has sent nothing of the body, which is waited for.
    pub(super) rests_since: Option<Instant>,
    /// The lane has no room: nothing is read.
    pub(super) blocked: bool,
}

/// A request that may be given to another connector.
pub(super) struct Again {
    pub(super) head: LinkHead,
    /// What was sent of the body; only kept while all of it is here and nothing shows that the app had any of it.
    pub(super) body: Vec<u8>,
    /// The memory of `body`.
    lease: Option<Lease>,
    /// The trailers, once the request is whole.
    pub(super) end: Option<Vec<u8>>,
    /// It changes nothing at the app, and may be sent again even if the app had it: GET, HEAD, OPTIONS.
    is_safe: bool,
}

pub(super) enum Request {
    /// An upgrade was asked for, and the body before it is whole: nothing is read until the final head.
    AwaitsUpgrade,
    Body(Decoder),
    /// No more of it is wanted, although it was not whole: what comes is discarded.
    Stopped,
    Done,
}

pub(super) enum Response {
    Awaited,
    Body(Encoder),
    /// The same, after a 101.
    Tunnel(Encoder),
    Done,
    /// The opaque direction to the visitor has ended; the other one may go on.
    TunnelDone,
}

impl Request {
    pub(super) fn of(kind: BodyKind, framing: Framing) -> Self {
        match framing {
            _ if kind == BodyKind::Upgrade => Request::AwaitsUpgrade,
            Framing::Empty => Request::Done,
            _ => Request::Body(Decoder::new(framing)),
        }
    }
}

/// Why a response comes no further.
enum Stop {
    Trouble(Trouble),
    /// Another connector may have the request.
    TryAgain(Failure),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Stop::Trouble(trouble)
    }
}

/// More than the framing of a chunk and the last chunk take together: a size of 16 digits, 0, and five line ends.
const CHUNK_BYTES: usize = 32;

impl Response {
    fn is_tunnel(&self) -> bool {
        matches!(self, Response::Tunnel(_) | Response::TunnelDone)
    }
}

impl Visitor {
    pub(super) fn is_too_long(&self, body_bytes: u64) -> bool {
        self.hub.config.body_bytes_max.is_some_and(|max| body_bytes > max)
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
            Err(Stop::Trouble(trouble)) => return self.give_up(carried, trouble, cx, io),
            Err(Stop::TryAgain(failure)) => return self.try_again(carried, failure, cx, io),
        };
        let sent = match self.pump_request(&mut carried, cx, io) {
            Ok(sent) => sent,
            Err(trouble) => return self.give_up(carried, trouble, cx, io),
        };
        if let Some(trouble) = self.overdue(&mut carried, moved || sent, sent, cx.now.mono, io) {
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
        self.timers.clear_all();
        self.scratch = Vec::new();
        self.log(carried, None, cx);
        Ok(true)
    }

    /// Moves the response towards the visitor; whether anything moved or was granted.
    fn pump_response(&mut self, carried: &mut Carried, cx: &mut Cx<'_>, io: &mut Io) -> Result<bool, Stop> {
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
                if carried.may_try_again(failure) {
                    return Err(Stop::TryAgain(failure));
                }
                return Err(trouble_of(failure).into());
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
                    return Err(Trouble::BadResponse.into());
                }
            };
            let count = self.scratch.len();
            encoder.put(&mut self.scratch, &mut io.output).map_err(|_| Trouble::BadResponse)?;
            carried.unreported += count;
            carried.log.bytes_out += count as u64;
            self.hub.figures.bytes_out.fetch_add(count as u64, Ordering::Relaxed);
            if let Some(trailers) = taken.end {
                encoder.finish(&trailers, io.output.tail()).map_err(|_| Trouble::BadResponse)?;
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
                .map_err(|rule| {
                    let (id, line) = (carried.log.id, line_of(&carried.log));
                    cx.fx.events.push(Event::BadResponse { rule: Some(rule), id, line });
                    Trouble::BadResponse
                })?;
        carried.again = None;
        let logs_in = carried.facts.logs_in || response.logs_in || self.keeps_to.is_some();
        if logs_in && self.number.is_some() {
            self.keeps_to = Some(carried.connector.clone());
        }
        match response.status {
            CONTINUE => carried.sends = true,
            SWITCHING_PROTOCOLS => {
                if carried.before_tunnel.is_none() {
                    carried.request = Request::Body(Decoder::new(Framing::UntilClose));
                }
                carried.response = Response::Tunnel(Encoder::new(Framing::UntilClose));
                carried.log.status = Some(response.status);
                carried.close = true;
                self.timers.clear_all();
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
            let wraps = carried.before_tunnel.is_some();
            let room = carried.exchange.room_of(if wraps { 2 * CHUNK_BYTES } else { 1 });
            self.scratch.clear();
            let bytes = if wraps { room.bytes().saturating_sub(CHUNK_BYTES) } else { room.bytes() };
            let taken = decoder.take(&mut io.input, bytes, &mut self.scratch);
            let consumed = taken.map_err(|rule| self.broke_rule(&carried.log, rule, cx))?;
            carried.blocked = room.bytes() == 0;
            if consumed == 0 && !decoder.is_done() {
                if carried.blocked || !io.input.ended() {
                    return Ok(moved);
                }
                decoder.end_of_input().map_err(|rule| self.broke_rule(&carried.log, rule, cx))?;
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
            if let Some(encoder) = &mut carried.before_tunnel {
                let plain = std::mem::take(&mut self.scratch);
                // A decoder counts as well: no body is longer or shorter than it said.
                encoder.encode(&plain, &mut self.scratch).map_err(|_| Trouble::VisitorBroke)?;
                if decoder.is_done() {
                    encoder.finish(&[], &mut self.scratch).map_err(|_| Trouble::VisitorBroke)?;
                }
            }
            carried.exchange.post_data(room, &mut self.scratch, cx.fx);
            if decoder.is_done() && carried.before_tunnel.take().is_some() {
                match carried.response {
                    Response::Awaited => carried.request = Request::AwaitsUpgrade,
                    Response::Tunnel(_) | Response::TunnelDone => {
                        *decoder = Decoder::new(Framing::UntilClose);
                        continue;
                    }
                    Response::Body(_) | Response::Done => {
                        carried.request = Request::Done;
                        carried.exchange.post_end(Vec::new(), cx.fx);
                    }
                }
                return Ok(true);
            }
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

    fn broke_rule(&self, log: &RequestLog, rule: Violation, cx: &mut Cx<'_>) -> Trouble {
        let line = Some(line_of(log));
        cx.fx.events.push(Event::BadRequest { id: log.id, from: self.from, rule, line });
        Trouble::VisitorBroke
    }

    /// Sets the deadlines of an exchange anew where something moved, and says which one has passed.
    ///
    /// Before the final head either the visitor is waited for or the app is, and the time of one alone runs. The app's begins
    /// once it has the whole request, and runs before that while it takes nothing of what waits for it.
    fn overdue(
        &mut self,
        carried: &mut Carried,
        moved: bool,
        sent: bool,
        now: Instant,
        io: &Io,
    ) -> Option<Trouble> {
        let is_awaited = matches!(carried.response, Response::Awaited);
        let has_body = matches!(carried.request, Request::Body(_));
        let waits_for_visitor = has_body && carried.sends && !carried.blocked;
        carried.rests_since = match carried.rests_since {
            _ if !waits_for_visitor || carried.response.is_tunnel() => None,
            Some(since) if !sent => Some(since),
            _ => Some(now),
        };
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

    /// Gives the request to another connector. That happens once, but for one that was refused, of which no app had
    /// anything: it may wait until there is room.
    fn try_again(
        &mut self,
        mut carried: Box<Carried>,
        failure: Failure,
        cx: &mut Cx<'_>,
        io: &mut Io,
    ) -> Result<bool, Fault> {
        let Some(again) = carried.again.take() else {
            return self.give_up(carried, trouble_of(failure), cx, io);
        };
        carried.log.connector = Some(Arc::clone(&carried.connector.label));
        let Carried { connector, request, facts, log, began, until, sends, close, .. } = *carried;
        let pending = Box::new(Pending { again, request, facts, log, began, until, sends, close });
        if failure == Failure::Reset(ResetCode::Refused) {
            connector.refused(pending.purpose());
            self.begin_again(pending, cx, io);
            return Ok(true);
        }
        match self.enter(pending, Some(&connector), cx) {
            Ok(()) => {
                if let Some(carried) = &mut self.carried {
                    carried.is_second = true;
                }
            }
            Err((pending, _)) => self.turn_away(pending, trouble_of(failure), cx, io),
        }
        Ok(true)
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
            self.timers.clear_all();
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

    /// The exchange is over: a line in the log, and perhaps room for one that waits.
    fn log(&self, carried: Box<Carried>, trouble: Option<Trouble>, cx: &mut Cx<'_>) {
        {
            let Carried { mut log, connector, began, .. } = *carried;
            log.connector = Some(Arc::clone(&connector.label));
            log.took = cx.now.mono.since(began);
            log.trouble = trouble;
            cx.fx.events.push(Event::Request(log));
        }
        self.hub.queue.ring(cx.fx);
    }
}

impl Again {
    pub(super) fn new(head: LinkHead) -> Self {
        let safe = [&b"GET "[..], b"HEAD ", b"OPTIONS "];
        let is_empty = matches!(head.kind, BodyKind::None | BodyKind::Sized(0));
        let is_safe = is_empty && safe.iter().any(|method| head.text.starts_with(method));
        let end = (head.kind == BodyKind::None).then(Vec::new);
        Self { head, body: Vec::new(), lease: None, end, is_safe }
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
            Failure::Reset(ResetCode::Refused) => true,
            _ if self.is_second => false,
            Failure::NeverSealed => true,
            Failure::Reset(ResetCode::TargetUnreachable) => true,
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

fn line_of(log: &RequestLog) -> RequestLine {
    RequestLine { method: log.method.clone(), target: log.target.clone() }
}

fn trouble_of(failure: Failure) -> Trouble {
    match failure {
        Failure::LinkLost | Failure::NeverSealed => Trouble::LinkLost,
        Failure::Reset(ResetCode::Refused) | Failure::NoMemory => Trouble::Busy,
        Failure::Reset(ResetCode::TargetUnreachable) => Trouble::TargetUnreachable,
        Failure::Reset(ResetCode::TargetTimedOut) => Trouble::TargetTimedOut,
        Failure::Reset(ResetCode::ProtocolError) => Trouble::BadResponse,
        Failure::Reset(ResetCode::Cancelled | ResetCode::Internal) => Trouble::TargetBroke,
    }
}

/// Our own answer to a request that came to nothing.
pub(super) fn answer(trouble: Trouble, facts: &RequestFacts, id: u64, close: bool) -> OwnAnswer {
    /// Long enough for a connector to be back: it dials again within 1.5 s.
    const RETRY_AFTER_SECS: u32 = 2;
    let (status, kind) = match trouble {
        Trouble::NoConnector => (503, "Nothing serves this address at the moment."),
        Trouble::Busy => (503, "Too much is going on at the moment."),
        Trouble::LinkLost => (502, "The connection to the app was lost."),
        Trouble::TargetUnreachable => (502, "The app cannot be reached."),
        Trouble::ResponseTimedOut | Trouble::TargetTimedOut => (504, "The app did not answer in time."),
        Trouble::TargetBroke | Trouble::BadResponse => {
            (502, "The app broke off, or answered with something that is not HTTP.")
        }
        Trouble::BodyTooLong => (413, "The request's body is too long."),
        Trouble::VisitorStalled => (408, "The request stopped before it was whole."),
        Trouble::VisitorBroke | Trouble::VisitorLeft => (400, "The request is malformed."),
        Trouble::Stopped => (503, "The gateway is being stopped."),
    };
    let answer = Answer { close, ..Answer::new(status, kind, id) }.for_request(facts);
    OwnAnswer(Answer { retry_after: (status == 503).then_some(RETRY_AFTER_SECS), ..answer })
}

pub(super) struct OwnAnswer(pub(super) Answer);

impl OwnAnswer {
    /// Writes it and returns its status.
    pub(super) fn put(self, now: Now, io: &mut Io) -> u16 {
        self.0.write(now.unix, io.output.tail());
        self.0.status
    }
}
