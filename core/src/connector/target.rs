//! A connection to the app, and the exchanges that it carries one after the other.
//!
//! ```text
//!            ┌────────────────── keep-alive ───────────────────┐
//!            ▼                                                 │
//!   dialled ─┬─▶ carrying: request ─▶ app, response ─▶ link ───┤
//!            │                                                 └── close, cut ──▶ over
//!   idle ────┘◀── in the hub's list of idle connections; any byte or FIN ends it ──▲
//! ```

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{Event, RequestLine};
use crate::fault::Fault;
use crate::http1::Violation;
use crate::http1::body::{BodyKind, Decoder, Encoder, Framing, WrongLength};
use crate::http1::head::{HeadKind, HeadScan, ResponseHead};
use crate::http1::hop::hints::{self, NameHint};
use crate::http1::hop::{HostRule, TargetFacts, request_to_target, response_to_link};
use crate::hub::ConnectorHub;
use crate::hub::admission::Slot;
use crate::hub::mailbox::{Exchange, LinkHead};
use crate::hub::targets::Order;
use crate::limits;
use crate::link::frame::ResetCode;
use crate::machine::{Cx, Dial, End, Io, Lost, Machine, PortId, RestWatch, SendWatch, Want};
use crate::time::{Instant, Timers, Why};

/// See the module.
pub(crate) struct TargetConn {
    hub: Arc<ConnectorHub>,
    port: PortId,
    stage: Stage,
    /// It has carried an exchange before: the app may have closed it meanwhile.
    reused: bool,
    /// It is new, and the hub knows that it has waited long for its first byte.
    starves: bool,
    /// The app has offered to log it in, or does so: it is its visitor's and nobody else's.
    logged_in: bool,
    /// Its first exchange was sent to the app before, on another connection: it may have had it, so that no other
    /// connector gets it.
    sent_before: bool,
    /// It is being dialled, as one of those that are at a time.
    in_turn: bool,
    timers: Timers,
    watch: SendWatch,
    rest: RestWatch,
    /// Body bytes on their way between lane and buffer.
    scratch: Vec<u8>,
    _place: Slot,
}

enum Stage {
    /// In the hub's list of idle connections, or just taken out of it.
    Idle,
    /// An exchange whose head is still to be written.
    Taken(Arc<Exchange>),
    Carrying(Box<Carrying>),
    Ending(End),
}

/// An exchange on its way.
struct Carrying {
    exchange: Arc<Exchange>,
    /// The request's, to send it once more, and for people.
    head: LinkHead,
    facts: TargetFacts,
    again: Again,
    /// Finds the end of the body of a request that asks for an upgrade, until that has come.
    before_tunnel: Option<Decoder>,
    request: Request,
    response: Response,
    /// Body bytes in the output whose credit has not gone back.
    unreported: usize,
    interims: Interims,
    /// The app's connection may carry another exchange after this one.
    keep_alive: bool,
    /// How long it may be idle then, if the app said so.
    idle_max: Option<Duration>,
    /// The lane to the link has no room, or an informational response waits: nothing is read.
    blocked: bool,
    /// The body is looked at for a sign that the app minds its name.
    look: Option<Look>,
}

/// When a request may be sent once more: it has no body, and nothing of its answer came.
#[derive(Clone, Copy, Default)]
struct Again {
    /// If the app closed its connection, which was used before, under it.
    if_closed: bool,
    /// If the app refused the visitor's name, which it said.
    if_refused: bool,
}

/// How a body is looked at.
struct Look {
    status: u16,
    /// How many more bytes are.
    left: usize,
}

enum Request {
    Body(Encoder),
    Done,
}

enum Response {
    Head(HeadScan),
    Body(Decoder),
    Done,
    /// After a 101: what the app sends is opaque.
    Tunnel(Decoder),
    /// The app sends no more through the tunnel; the other direction may go on.
    TunnelDone,
}

/// Paces informational responses: without a bound an app could keep a link busy with nothing else.
#[derive(Default)]
struct Interims {
    began: Instant,
    count: u32,
    bytes: usize,
    /// One waits until then.
    next_at: Option<Instant>,
}

impl Interims {
    /// Whether one of `bytes` may be taken now; else when is in `next_at`.
    fn take(&mut self, bytes: usize, now: Instant) -> bool {
        const SECOND: Duration = Duration::from_secs(1);
        if self.count == 0 || self.began + SECOND <= now {
            *self = Self { began: now, ..Self::default() };
        }
        let fits = self.count < limits::INTERIM_RESPONSES_PER_SEC_MAX
            && self.bytes + bytes <= limits::INTERIM_BYTES_PER_SEC_MAX;
        self.next_at = (!fits).then_some(self.began + SECOND);
        if fits {
            self.count += 1;
            self.bytes += bytes;
        }
        fits
    }
}

/// Why an exchange cannot go on: what the gateway is told, and what people are.
struct Broken {
    code: ResetCode,
    reason: &'static str,
    /// What the app did: which rule it broke, or none if it closed.
    by_app: Option<Option<Violation>>,
    /// The app refused the visitor's name.
    is_refusal: bool,
}

impl Broken {
    fn by_app(rule: Violation) -> Self {
        let by_app = Some(Some(rule));
        Self { code: ResetCode::ProtocolError, reason: rule.as_str(), by_app, is_refusal: false }
    }

    fn closed_early() -> Self {
        let by_app = Some(None);
        Self { code: ResetCode::Internal, reason: "the app broke off", by_app, is_refusal: false }
    }

    fn cancelled() -> Self {
        Self { code: ResetCode::Cancelled, reason: "cancelled", by_app: None, is_refusal: false }
    }

    fn refused() -> Self {
        Self { is_refusal: true, ..Self::cancelled() }
    }

    fn by_gateway(reason: &'static str) -> Self {
        Self { code: ResetCode::ProtocolError, reason, by_app: None, is_refusal: false }
    }
}

fn wrong_length(_: WrongLength) -> Broken {
    Broken::by_gateway("a body of another length than announced")
}

impl TargetConn {
    /// Hands an exchange to an idle connection to the app, or to a new one.
    pub(super) fn serve(hub: &Arc<ConnectorHub>, exchange: Arc<Exchange>, idempotent: bool, cx: &mut Cx<'_>) {
        match hub.idle.assign(&exchange, !idempotent, cx.now.mono) {
            Some(port) => cx.fx.wake(port),
            None => {
                if let Some(exchange) = hub.dials.ask(exchange) {
                    Self::dial_in_turn(hub, exchange, cx);
                }
            }
        }
    }

    /// Opens a connection for `exchange` as one of those that may be opened at a time.
    fn dial_in_turn(hub: &Arc<ConnectorHub>, exchange: Arc<Exchange>, cx: &mut Cx<'_>) {
        let mut next = Some(exchange);
        while let Some(exchange) = next.take() {
            if !Self::open(hub, exchange, false, true, cx) {
                next = hub.dials.over();
            }
        }
    }

    /// Opens a new connection to the app for `exchange`, which has waited already.
    fn dial(hub: &Arc<ConnectorHub>, exchange: Arc<Exchange>, sent_before: bool, cx: &mut Cx<'_>) {
        Self::open(hub, exchange, sent_before, false, cx);
    }

    /// Whether there was a place for a connection.
    fn open(
        hub: &Arc<ConnectorHub>,
        exchange: Arc<Exchange>,
        sent_before: bool,
        in_turn: bool,
        cx: &mut Cx<'_>,
    ) -> bool {
        let Some(place) = hub.targets.take(hub.targets_max()) else {
            let code = if sent_before { ResetCode::Internal } else { ResetCode::Refused };
            exchange.reset(code, "as many connections to the app as there may be", cx.fx);
            return false;
        };
        let port = hub.ports.open();
        exchange.attach_http(port);
        let machine = Box::new(Self {
            hub: hub.clone(),
            port,
            stage: Stage::Taken(exchange),
            reused: false,
            starves: false,
            logged_in: false,
            sent_before,
            in_turn,
            timers: Timers::default(),
            watch: SendWatch::default(),
            rest: RestWatch::default(),
            scratch: Vec::new(),
            _place: place,
        });
        let to = hub.config.target.endpoint().clone();
        cx.fx.dials.push(Dial { to, timeout: limits::TARGET_DIAL_TIME, machine });
        true
    }

    /// The dial is over: another may begin.
    fn is_dialled(&mut self, cx: &mut Cx<'_>) {
        if std::mem::take(&mut self.in_turn)
            && let Some(exchange) = self.hub.dials.over()
        {
            Self::dial_in_turn(&self.hub, exchange, cx);
        }
    }

    // ---- between exchanges -----------------------------------------------------------------------------------------

    /// Waits in the hub's list for the next exchange, after one of `visitor`. `idle_max` is what the app said.
    fn rest(&mut self, idle_max: Option<Duration>, visitor: Option<NonZeroU64>, cx: &mut Cx<'_>) {
        let most = if self.logged_in { limits::TARGET_LOGIN_IDLE } else { limits::TARGET_IDLE };
        let now = cx.now.mono;
        let mut until = now + idle_max.unwrap_or(most).min(most);
        self.reused = true;
        self.scratch = Vec::new();
        self.timers.clear_all();
        if !self.logged_in
            && let Some(exchange) = self.hub.dials.next()
        {
            return self.stage = Stage::Taken(exchange);
        }
        self.stage = Stage::Idle;
        match visitor {
            _ if !self.logged_in => until = self.hub.idle.add(self.port, until, now),
            Some(visitor) => self.hub.idle.add_login(visitor, self.port, until, now, cx.fx),
            // The next request on the visitor's connection may be somebody else's.
            None => self.stage = Stage::Ending(End::Close),
        }
        self.timers.set(Why::Idle, until);
    }

    /// Notices that a new connection brings no byte: an app that serves one at a time may wait on an idle one.
    fn watch_first_byte(&mut self, cx: &mut Cx<'_>, io: &Io) {
        let waits = !self.reused && matches!(self.stage, Stage::Carrying(_)) && io.input.received() == 0;
        if !waits {
            self.timers.clear(Why::FirstByte);
            self.stop_starving();
        } else if !self.starves {
            self.timers.set_once(Why::FirstByte, cx.now.mono + limits::TARGET_FIRST_BYTE);
            if self.timers.is_due(Why::FirstByte, cx.now.mono) {
                self.timers.clear(Why::FirstByte);
                self.starves = true;
                self.hub.idle.starve(cx.fx);
            }
        }
    }

    fn stop_starving(&mut self) {
        if std::mem::take(&mut self.starves) {
            self.hub.idle.feed();
        }
    }

    /// Looks whether there is an exchange, or a reason to close.
    fn look(&mut self, cx: &mut Cx<'_>, io: &Io) {
        match self.hub.idle.take(self.port) {
            Some(Order::Serve(exchange)) => return self.stage = Stage::Taken(exchange),
            Some(Order::Close) => return self.stage = Stage::Ending(End::Close),
            None => {}
        }
        let stale = !io.input.is_empty() || io.input.ended();
        let over = stale || self.hub.is_draining() || self.timers.is_due(Why::Idle, cx.now.mono);
        // Whoever takes it out of the list owns it: if it is out already, an exchange is on its way here.
        if over && self.hub.idle.remove(self.port) {
            self.stage = Stage::Ending(End::Close);
        }
    }

    /// Writes the request's head and begins to carry.
    fn begin(&mut self, exchange: Arc<Exchange>, cx: &mut Cx<'_>, io: &mut Io) {
        exchange.attach_http(self.port);
        if !io.input.is_empty() || io.input.ended() {
            // The app closed, or spoke out of turn, before anything was sent: a fresh connection has it.
            self.stage = Stage::Ending(End::Close);
            return if self.reused {
                Self::dial(&self.hub, exchange, false, cx);
            } else {
                self.give_up(&exchange, None, Broken::closed_early(), cx);
            };
        }
        let Some(head) = exchange.take_head() else {
            // It was given up before it began.
            return self.stage = Stage::Ending(End::Close);
        };
        let (rule, authority) = (self.hub.host_rule(), &self.hub.config.target.authority);
        match request_to_target(&head.text, head.kind, rule, authority, io.output.tail()) {
            Err(_) => self.give_up(&exchange, None, Broken::by_gateway("malformed request head"), cx),
            Ok(request) => {
                // Of an empty body only the END comes, which a second try may already have behind it.
                let body = !matches!(head.kind, BodyKind::None | BodyKind::Sized(0));
                let before_tunnel = head.kind.before_upgrade().map(Decoder::new);
                // Nothing follows an upgrade request without a body before its 101.
                let is_whole = !body || head.kind == BodyKind::Upgrade;
                let framing =
                    if head.kind == BodyKind::Upgrade { Framing::UntilClose } else { request.framing };
                let if_closed = self.reused && is_whole && head.is_idempotent();
                let translates = request.facts.visitors_host().is_some();
                let says_name = translates && request.facts.tells_visitors_name;
                let if_refused = says_name && head.kind == BodyKind::None && head.text.starts_with(b"GET ");
                self.timers.clear_all();
                self.logged_in |= request.facts.logs_in;
                self.stage = Stage::Carrying(Box::new(Carrying {
                    exchange,
                    head,
                    facts: request.facts,
                    again: Again { if_closed, if_refused },
                    before_tunnel,
                    request: if body { Request::Body(Encoder::new(framing)) } else { Request::Done },
                    response: Response::Head(HeadScan::default()),
                    unreported: 0,
                    interims: Interims::default(),
                    keep_alive: true,
                    idle_max: None,
                    blocked: false,
                    look: None,
                }));
            }
        }
    }

    // ---- carrying --------------------------------------------------------------------------------------------------

    /// Moves both directions as far as they go.
    fn carry(&mut self, mut carrying: Box<Carrying>, cx: &mut Cx<'_>, io: &mut Io) {
        // The response first: a 101 opens the other direction.
        let moved =
            self.pump_response(&mut carrying, cx, io).and_then(|()| self.pump_request(&mut carrying, cx, io));
        if let Err(broken) = moved {
            let is_closed = io.input.is_empty() && io.input.ended();
            let Again { if_closed, if_refused } = carrying.again;
            return if broken.is_refusal && if_refused || is_closed && if_closed {
                self.try_again(*carrying, cx);
            } else {
                self.give_up(&carrying.exchange, Some(&carrying.head), broken, cx);
            };
        }
        match (&carrying.response, &carrying.request) {
            (Response::Done, Request::Done) => {
                let is_clean = io.output.is_empty() && io.input.is_empty() && !io.input.ended();
                if carrying.keep_alive && is_clean && !self.hub.is_draining() {
                    self.rest(carrying.idle_max, carrying.exchange.notes().visitor, cx);
                } else {
                    self.stage = Stage::Ending(End::Close);
                }
            }
            (Response::Done, Request::Body(_)) => {
                // An early answer. After its END a RESET only means *send no more* (docs/protocol.md).
                carrying.exchange.reset(ResetCode::Cancelled, "answered before the request was whole", cx.fx);
                self.stage = Stage::Ending(End::Abort);
            }
            (Response::TunnelDone, Request::Done) => self.stage = Stage::Ending(End::Close),
            _ => {
                match carrying.interims.next_at {
                    Some(at) => self.timers.set(Why::Interim, at),
                    None => self.timers.clear(Why::Interim),
                }
                self.stage = Stage::Carrying(carrying);
            }
        }
    }

    /// Moves the request towards the app.
    fn pump_request(&mut self, carrying: &mut Carrying, cx: &mut Cx<'_>, io: &mut Io) -> Result<(), Broken> {
        loop {
            self.scratch.clear();
            // Before a 101 the app would take opaque bytes for another request.
            let room = match carrying.response {
                Response::Head(_)
                    if !carrying.facts.upgrade.is_empty() && carrying.before_tunnel.is_none() =>
                {
                    0
                }
                _ => limits::HTTP_OUTPUT_BYTES.saturating_sub(io.output.len()),
            };
            let taken = carrying.exchange.take(room, &mut self.scratch);
            let response_is_wanted =
                matches!(carrying.response, Response::Done | Response::TunnelDone) || !taken.stopped;
            if taken.failure.is_some() || !response_is_wanted {
                return Err(Broken::cancelled());
            }
            let moved = self.put_before_tunnel(carrying, taken.end.is_some(), io)?;
            match &mut carrying.request {
                _ if moved && self.scratch.is_empty() && taken.end.is_none() => {}
                _ if self.scratch.is_empty() && taken.end.is_none() => break,
                // The END of a request without a body, or of an upgrade that was not granted.
                Request::Done if self.scratch.is_empty() => continue,
                Request::Done => return Err(Broken::by_gateway("a body that was not announced")),
                Request::Body(encoder) => {
                    carrying.unreported += self.scratch.len();
                    encoder.put(&mut self.scratch, &mut io.output).map_err(wrong_length)?;
                    if let Some(trailers) = taken.end {
                        encoder.finish(&trailers, io.output.tail()).map_err(wrong_length)?;
                        carrying.request = Request::Done;
                    }
                }
            }
        }
        let consumed = carrying.unreported.saturating_sub(io.output.len());
        carrying.unreported -= consumed;
        carrying.exchange.consumed(consumed, cx.fx);
        Ok(())
    }

    /// Takes the body of a request that asks for an upgrade out of what came, and leaves what is the tunnel's; whether
    /// there was any of it. `ends` says that no more comes.
    fn put_before_tunnel(
        &mut self,
        carrying: &mut Carrying,
        ends: bool,
        io: &mut Io,
    ) -> Result<bool, Broken> {
        let Carrying { before_tunnel: Some(decoder), request: Request::Body(encoder), .. } = carrying else {
            return Ok(false);
        };
        let mut came = std::mem::take(&mut self.scratch);
        let taken = decoder
            .decode(&came, usize::MAX, &mut self.scratch)
            .map_err(|_| Broken::by_gateway("a body in malformed chunks"))?;
        carrying.unreported += taken;
        encoder.put(&mut self.scratch, &mut io.output).map_err(wrong_length)?;
        self.scratch.clear();
        if !decoder.is_done() {
            return if ends { Err(wrong_length(WrongLength)) } else { Ok(taken > 0) };
        }
        encoder.finish(&decoder.take_trailers(), io.output.tail()).map_err(wrong_length)?;
        carrying.before_tunnel = None;
        carrying.request = match carrying.response {
            Response::Head(_) | Response::Tunnel(_) | Response::TunnelDone => {
                Request::Body(Encoder::new(Framing::UntilClose))
            }
            // It was not granted.
            Response::Body(_) | Response::Done => Request::Done,
        };
        came.drain(..taken);
        if !came.is_empty() && matches!(carrying.response, Response::Head(_)) {
            return Err(Broken::by_gateway("bytes of a tunnel before its 101"));
        }
        self.scratch = came;
        Ok(true)
    }

    /// Moves the response towards the link.
    fn pump_response(&mut self, carrying: &mut Carrying, cx: &mut Cx<'_>, io: &mut Io) -> Result<(), Broken> {
        loop {
            let goes_on = match &mut carrying.response {
                Response::Done | Response::TunnelDone => false,
                Response::Head(_) => self.take_head(carrying, cx, io)?,
                Response::Body(_) | Response::Tunnel(_) => self.pump_body(carrying, cx, io)?,
            };
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// Takes one head; false if it is not whole yet.
    fn take_head(&mut self, carrying: &mut Carrying, cx: &mut Cx<'_>, io: &mut Io) -> Result<bool, Broken> {
        const SWITCHING_PROTOCOLS: u16 = 101;
        let Response::Head(scan) = &mut carrying.response else { return Ok(false) };
        let Some(head) = scan.take(io.input.unread(), HeadKind::AppResponse).map_err(Broken::by_app)? else {
            return if io.input.ended() { Err(Broken::closed_early()) } else { Ok(false) };
        };
        let (length, is_lax) = (head.len(), head.is_lax());
        let head = head.response().map_err(Broken::by_app)?;
        let is_interim = head.status < 200 && head.status != SWITCHING_PROTOCOLS;
        carrying.blocked = is_interim && !carrying.interims.take(length, cx.now.mono);
        if carrying.blocked {
            return Ok(false);
        }
        let response = response_to_link(&head, &carrying.facts).map_err(Broken::by_app)?;
        if response.status == 403 && hints::is_readable(&head) {
            let body = &io.input.unread()[length..];
            if !self.judge_refusal(carrying, response.framing, body, io.input.ended(), cx)? {
                return Ok(false);
            }
        }
        carrying.look = self.look_into(&head, &carrying.facts);
        io.input.consume(length);
        carrying.again = Again::default();
        carrying.keep_alive &= !is_lax;
        self.logged_in |= response.logs_in;
        let head = LinkHead { kind: response.kind, text: response.text };
        match response.status {
            SWITCHING_PROTOCOLS => {
                carrying.keep_alive = false;
                carrying.response = Response::Tunnel(Decoder::new(Framing::UntilClose));
                carrying.exchange.post_head(head, cx.fx);
            }
            100..200 => {
                carrying.response = Response::Head(HeadScan::default());
                carrying.exchange.post_interim(head, cx.fx);
            }
            _ => {
                carrying.keep_alive &= response.keep_alive;
                carrying.idle_max = response.idle_max;
                if !carrying.facts.upgrade.is_empty() && carrying.before_tunnel.is_none() {
                    // It was not granted: the gateway says END, and the request is whole.
                    carrying.request = Request::Done;
                }
                carrying.response = Response::Body(Decoder::new(response.framing));
                carrying.exchange.post_head(head, cx.fx);
            }
        }
        Ok(true)
    }

    /// Whether a 403 may go on to the visitor; not while it may still turn out to refuse the visitor's name, which was
    /// said for the sake of other apps.
    ///
    /// # Errors
    /// It does, and the request may be sent once more, without that.
    fn judge_refusal(
        &mut self,
        carrying: &Carrying,
        framing: Framing,
        body: &[u8],
        ended: bool,
        cx: &mut Cx<'_>,
    ) -> Result<bool, Broken> {
        let now = cx.now.mono;
        let Some(host) = carrying.facts.visitors_host().filter(|_| carrying.facts.tells_visitors_name) else {
            return Ok(true);
        };
        if hints::is_blocked_hosts_page(body, host) {
            if self.hub.naming.learn_refusal() {
                cx.fx.events.push(Event::VisitorsNameRefused);
            }
            return if carrying.again.if_refused { Err(Broken::refused()) } else { Ok(true) };
        }
        let is_whole = match framing {
            Framing::Empty => true,
            Framing::Sized(length) => body.len() as u64 >= length,
            Framing::Chunked => body.ends_with(b"0\r\n\r\n"),
            Framing::UntilClose => false,
        };
        self.timers.set_once(Why::Page, now + limits::NAME_PAGE_TIME);
        let is_enough = is_whole || ended || body.len() >= limits::NAME_PAGE_BYTES;
        let goes_on = is_enough || self.timers.is_due(Why::Page, now);
        if goes_on {
            self.timers.clear(Why::Page);
        }
        Ok(goes_on)
    }

    /// How the body of a final response is to be looked at, if at all.
    fn look_into(&self, head: &ResponseHead<'_>, facts: &TargetFacts) -> Option<Look> {
        let is_refusal = hints::may_be_refusal(head.status);
        let translates = matches!(self.hub.config.host_rule, HostRule::Rewrite | HostRule::RewriteAll);
        // What was said of it already is not said twice.
        let is_known =
            head.status == 403 && facts.tells_visitors_name && self.hub.naming.refuses_visitors_name();
        let is_worth_it = is_refusal && !is_known || translates && (200..300).contains(&head.status);
        if !is_worth_it || !self.hub.naming.may_look(is_refusal) || !hints::is_readable(head) {
            return None;
        }
        self.hub.naming.count_look(is_refusal);
        let left = if is_refusal { limits::NAME_PAGE_BYTES } else { limits::NAME_HINT_BYTES };
        Some(Look { status: head.status, left })
    }

    /// Looks at the next piece of a body; what two pieces share is overlooked.
    fn look_at_body(&self, look: &mut Option<Look>, cx: &mut Cx<'_>) {
        let Some(Look { status, left }) = look else { return };
        let seen = &self.scratch[..self.scratch.len().min(*left)];
        *left -= seen.len();
        let hint = match hints::may_be_refusal(*status) {
            true => hints::refusal(*status, seen),
            false => hints::names_authority(seen, self.hub.config.target.authority.as_bytes())
                .then_some(NameHint::SendsVisitorsToItself),
        };
        if hint.is_some() || *left == 0 {
            *look = None;
        }
        if let Some(hint) = hint.filter(|hint| self.hub.naming.give(*hint)) {
            cx.fx.events.push(Event::MindsName { hint, rule: self.hub.host_rule().clone() });
        }
    }

    /// Moves body bytes; false if it can go no further now.
    fn pump_body(&mut self, carrying: &mut Carrying, cx: &mut Cx<'_>, io: &mut Io) -> Result<bool, Broken> {
        let (Response::Body(decoder) | Response::Tunnel(decoder)) = &mut carrying.response else {
            return Ok(false);
        };
        if !decoder.is_done() {
            let room = carrying.exchange.room();
            carrying.blocked = room.bytes() == 0;
            self.scratch.clear();
            let consumed =
                decoder.take(&mut io.input, room.bytes(), &mut self.scratch).map_err(Broken::by_app)?;
            self.look_at_body(&mut carrying.look, cx);
            carrying.exchange.post_data(room, &mut self.scratch, cx.fx);
            if consumed == 0 && !decoder.is_done() {
                if carrying.blocked || !io.input.ended() {
                    return Ok(false);
                }
                decoder.end_of_input().map_err(|_| Broken::closed_early())?;
            }
        }
        if decoder.is_done() {
            carrying.exchange.post_end(decoder.take_trailers(), cx.fx);
            let tunnel = matches!(carrying.response, Response::Tunnel(_));
            carrying.response = if tunnel { Response::TunnelDone } else { Response::Done };
        }
        Ok(true)
    }

    /// The app closed an idle connection just as the request went out, or refused a name: once more on a fresh one.
    fn try_again(&mut self, Carrying { exchange, head, .. }: Carrying, cx: &mut Cx<'_>) {
        exchange.put_back(head);
        Self::dial(&self.hub, exchange, true, cx);
        self.stage = Stage::Ending(End::Close);
    }

    /// Ends an exchange that cannot go on. `head` is its request's, if that was taken.
    fn give_up(
        &mut self,
        exchange: &Arc<Exchange>,
        head: Option<&LinkHead>,
        broken: Broken,
        cx: &mut Cx<'_>,
    ) {
        if let Some(rule) = broken.by_app {
            let waiting = exchange.take_head();
            let line = head.or(waiting.as_ref()).and_then(|head| RequestLine::of(&head.text));
            let (id, line) = (exchange.id(), line.unwrap_or_default());
            cx.fx.events.push(Event::BadResponse { rule, id, line });
        }
        exchange.reset(broken.code, broken.reason, cx.fx);
        self.stage = Stage::Ending(End::Abort);
    }

    fn want(&self) -> Want {
        let wake_at = self.timers.next();
        match &self.stage {
            Stage::Ending(end) => Want { wake_at, end: Some(*end), ..Want::default() },
            Stage::Idle | Stage::Taken(_) => Want { read: true, wake_at, ..Want::default() },
            Stage::Carrying(carrying) => {
                let tunnel = matches!(carrying.response, Response::Tunnel(_) | Response::TunnelDone);
                let half = tunnel && matches!(carrying.request, Request::Done);
                Want {
                    read: !carrying.blocked,
                    wake_at,
                    end: half.then_some(End::HalfClose),
                    ..Want::default()
                }
            }
        }
    }
}

impl Machine for TargetConn {
    fn port(&self) -> PortId {
        self.port
    }

    fn advance(&mut self, cx: &mut Cx<'_>, io: &mut Io) -> Result<Want, Fault> {
        self.is_dialled(cx);
        if io.input.received() > 0 {
            self.stop_starving();
        }
        if matches!(self.stage, Stage::Idle) {
            self.look(cx, io);
        }
        loop {
            match std::mem::replace(&mut self.stage, Stage::Idle) {
                Stage::Taken(exchange) => self.begin(exchange, cx, io),
                other => self.stage = other,
            }
            match std::mem::replace(&mut self.stage, Stage::Idle) {
                Stage::Carrying(carrying) => self.carry(carrying, cx, io),
                other => self.stage = other,
            }
            // Done with one exchange, it may have taken the next that waits.
            if !matches!(self.stage, Stage::Taken(_)) {
                break;
            }
        }
        self.watch_first_byte(cx, io);
        self.watch.check(&mut self.timers, limits::SEND_TIMEOUT, cx.now.mono, &io.output)?;
        let whole = match &self.stage {
            Stage::Carrying(carrying) => !matches!(carrying.response, Response::Head(_) | Response::Body(_)),
            Stage::Idle | Stage::Taken(_) | Stage::Ending(_) => true,
        };
        let acknowledge = self.rest.check(&mut self.timers, whole, cx.now.mono, &io.input);
        Ok(Want { acknowledge, ..self.want() })
    }

    fn lost(&mut self, cx: &mut Cx<'_>, why: Lost) {
        self.is_dialled(cx);
        self.stop_starving();
        match std::mem::replace(&mut self.stage, Stage::Ending(End::Abort)) {
            Stage::Taken(exchange) => match why {
                Lost::Dial(fault) => {
                    let target = self.hub.config.target.endpoint().clone();
                    cx.fx.events.push(Event::TargetDown { target, why: fault });
                    let code =
                        if self.sent_before { ResetCode::Internal } else { ResetCode::TargetUnreachable };
                    exchange.reset(code, "the app cannot be reached", cx.fx);
                }
                Lost::Dropped => self.give_up(&exchange, None, Broken::cancelled(), cx),
                _ if self.reused => Self::dial(&self.hub, exchange, false, cx),
                _ => self.give_up(&exchange, None, Broken::closed_early(), cx),
            },
            Stage::Carrying(carrying) => match why {
                Lost::Reset if carrying.again.if_closed => self.try_again(*carrying, cx),
                Lost::Dropped => {
                    self.give_up(&carrying.exchange, Some(&carrying.head), Broken::cancelled(), cx)
                }
                _ => self.give_up(&carrying.exchange, Some(&carrying.head), Broken::closed_early(), cx),
            },
            Stage::Idle => {
                if !self.hub.idle.remove(self.port)
                    && let Some(Order::Serve(exchange)) = self.hub.idle.take(self.port)
                {
                    Self::dial(&self.hub, exchange, false, cx);
                }
            }
            Stage::Ending(_) => {}
        }
        self.hub.ports.close(self.port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConnectorConfig, GatewayUrl, TargetUrl};
    use crate::hub::admission::{Pool, Purpose};
    use crate::hub::mailbox::{FirstWindows, Inbox};
    use crate::link::frame::RequestNotes;
    use crate::machine::Effects;
    use crate::secret::tests::own_keys;
    use crate::time::Now;

    fn hub_and_exchange() -> (Arc<ConnectorHub>, Arc<Exchange>) {
        let (gateway, target) = (GatewayUrl::parse("gateway").unwrap(), TargetUrl::parse("app").unwrap());
        let hub = ConnectorHub::new(ConnectorConfig::new(own_keys(), gateway, target), [1; 32]);
        let lease = Pool::new(1000).reserve(1, Purpose::Short).unwrap();
        let windows = FirstWindows { to_link: 1000, to_http: 0 };
        let exchange = Exchange::new(Inbox::new(hub.ports.open()), None, windows, lease);
        (hub, exchange)
    }

    #[test]
    fn an_app_that_waits_for_its_head_to_be_acknowledged_sends_the_body_soon() {
        let (hub, exchange) = hub_and_exchange();
        let (mut fx, mut io, mut now) = (Effects::default(), Io::default(), Now::default());
        let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
        let head = LinkHead { kind: BodyKind::None, text };
        exchange.deliver_request(head, RequestNotes::default(), &mut fx);
        TargetConn::serve(&hub, exchange, true, &mut Cx { now, fx: &mut fx });
        let mut machine = fx.dials.pop().unwrap().machine;
        let mut advance = |io: &mut Io, now: Now| machine.advance(&mut Cx { now, fx: &mut fx }, io).unwrap();
        advance(&mut io, now);
        now.mono = now.mono + limits::REST_WAIT;
        assert!(!advance(&mut io, now).acknowledge, "it has said nothing yet");
        io.input.push(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
        let want = advance(&mut io, now);
        now.mono = now.mono + limits::REST_WAIT;
        assert_eq!((want.acknowledge, want.wake_at), (false, Some((now.mono, Why::Rest))));
        assert!(advance(&mut io, now).acknowledge);
        io.input.push(b"hi");
        assert!(!advance(&mut io, now).acknowledge);
    }

    #[test]
    fn what_a_gateway_sends_behind_the_body_of_an_upgrade_before_its_101_reaches_no_app() {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        for (kind, body) in [
            (BodyKind::UpgradeSized(5), format!("hello{smuggled}")),
            (BodyKind::UpgradeChunked, format!("5\r\nhello\r\n0\r\n\r\n{smuggled}")),
            (BodyKind::UpgradeChunked, format!("5\r\nhello{smuggled}")),
        ] {
            let (hub, exchange) = hub_and_exchange();
            let (mut fx, mut io) = (Effects::default(), Io::default());
            let mut cx = Cx { now: Now::default(), fx: &mut fx };
            let text = b"POST / HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\n\r\n".to_vec();
            exchange.deliver_request(LinkHead { kind, text }, RequestNotes::default(), cx.fx);
            exchange.deliver_data(body.as_bytes(), cx.fx);
            TargetConn::serve(&hub, exchange, true, &mut cx);
            let mut machine = cx.fx.dials.pop().unwrap().machine;
            let want = machine.advance(&mut cx, &mut io).unwrap();
            assert_eq!(want.end, Some(End::Abort), "{kind:?}");
            let sent = io.output.waiting();
            assert!(!sent.windows(9).any(|bytes| bytes == b"/smuggled"), "{}", sent.escape_ascii());
            machine.lost(&mut cx, Lost::Ended);
        }
    }

    #[test]
    fn what_follows_an_upgrade_request_reaches_the_app_after_its_101() {
        let (hub, exchange) = hub_and_exchange();
        let (mut fx, mut io) = (Effects::default(), Io::default());
        let mut cx = Cx { now: Now::default(), fx: &mut fx };
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\n\r\n".to_vec();
        let head = LinkHead { kind: BodyKind::Upgrade, text };
        exchange.deliver_request(head, RequestNotes::default(), cx.fx);
        exchange.deliver_data(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", cx.fx);
        TargetConn::serve(&hub, exchange, true, &mut cx);
        let mut machine = cx.fx.dials.pop().unwrap().machine;
        machine.advance(&mut cx, &mut io).unwrap();
        assert!(io.output.waiting().starts_with(b"GET / ") && io.output.waiting().ends_with(b"echo\r\n\r\n"));
        io.input.push(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        machine.advance(&mut cx, &mut io).unwrap();
        assert!(io.output.waiting().ends_with(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"));
        machine.lost(&mut cx, Lost::Ended);
    }
}
