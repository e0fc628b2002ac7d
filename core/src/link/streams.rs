//! The streams of one link, and what every frame that comes in does to them.
//!
//! Order of a stream in each direction: head(s), DATA*, END. A stream is over when both sides said END, or one said
//! RESET; frames for a stream that is over are ignored, since they were under way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::flow::RecvWindow;
use super::frame::{Frame, Hello, Peer, PeersCollector, RequestNotes, ResetCode, Stats};
use crate::fault::LinkFault;
use crate::http1::body::{BodyKind, is_valid_trailers};
use crate::hub::admission::{Pool, Purpose, exchange_bytes};
use crate::hub::mailbox::{Exchange, Failure, FirstWindows, Inbox, LinkHead};
use crate::limits::{self, WINDOW_BYTES};
use crate::machine::{Cx, Effects};
use crate::time::{Instant, Timers, Why};
use crate::websocket::Role;

/// RESETs that may wait to be sent for streams that were refused: a peer opens no more than these at once, and for those
/// that it has given up itself none is owed.
const OWED_RESETS_MAX: usize = limits::STREAMS_MAX as usize;
const WRONG_LENGTH: &str = "a body of another length than announced";
const NO_MEMORY: &str = "out of memory";

/// What came over a link that concerns more than one stream.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The peer introduced itself.
    Hello(Hello),
    /// A new exchange, its head already delivered.
    Request {
        /// The exchange.
        exchange: Arc<Exchange>,
        /// Its request may be sent twice (RFC 9110, 9.2.2).
        idempotent: bool,
    },
    /// The connector asks for the gateway's connectors.
    PeersAsked,
    /// The gateway's connectors, whole.
    Peers(Vec<Peer>),
    /// The connector asks for figures.
    StatsAsked,
    /// The gateway's figures.
    Stats(Box<Stats>),
    /// The peer opens, or takes, no new streams.
    GoAway,
}

/// The streams of one link, and what is owed to the peer.
pub(crate) struct Streams {
    role: Role,
    pub(super) inbox: Arc<Inbox>,
    pub(super) pool: Arc<Pool>,
    pub(super) open: BTreeMap<u32, Stream>,
    /// The highest stream that was opened.
    pub(super) highest: u32,
    /// RESETs that came.
    resets: u32,
    pub(super) heard_hello: bool,
    /// The peer's first window of each stream.
    peer_window: u32,
    /// What came of a list that was asked for.
    peers: Option<PeersCollector>,
    pub(super) closing: Closing,
    pub(super) owed: Owed,
    pub(super) heartbeat: Heartbeat,
    pub(super) flood: Flood,
    pub(super) timers: Timers,
}

/// One stream.
pub(super) struct Stream {
    pub(super) exchange: Arc<Exchange>,
    pub(super) window: RecvWindow,
    /// Body bytes still to come, where the head said how many.
    expected: Option<u64>,
    /// The final head came.
    got_head: bool,
    pub(super) got_end: bool,
    pub(super) sent_end: bool,
    /// DATA bytes sent.
    pub(super) sent: u64,
    /// It stands in the queue of bulk streams.
    pub(super) in_bulk: bool,
}

impl Stream {
    pub(super) fn new(exchange: Arc<Exchange>, now: Instant) -> Self {
        Self {
            window: RecvWindow::new(exchange.window(), now),
            exchange,
            expected: None,
            got_head: false,
            got_end: false,
            sent_end: false,
            sent: 0,
            in_bulk: false,
        }
    }

    fn take_head(&mut self, kind: BodyKind) {
        self.got_head = true;
        self.expected = match kind {
            BodyKind::None => Some(0),
            BodyKind::Sized(length) => Some(length),
            _ => None,
        };
    }

    /// Whether `count` more bytes are within what the head said.
    fn expects(&mut self, count: usize) -> bool {
        match &mut self.expected {
            None => true,
            Some(left) => match left.checked_sub(count as u64) {
                Some(rest) => {
                    *left = rest;
                    true
                }
                None => false,
            },
        }
    }
}

/// How far the end of a link has come.
#[derive(Default)]
pub(super) struct Closing {
    /// This side said GOAWAY.
    pub(super) said: bool,
    /// The peer did.
    pub(super) heard: bool,
    /// The peer sent a WebSocket Close.
    pub(super) closed: bool,
}

/// What is to be said as soon as there is room.
#[derive(Default)]
pub(super) struct Owed {
    pub(super) hello: Option<Hello>,
    pub(super) websocket_pong: Option<Vec<u8>>,
    pub(super) pong: Option<[u8; 8]>,
    pub(super) ping: bool,
    pub(super) go_away: Option<(Duration, &'static str)>,
    pub(super) ask_stats: bool,
    pub(super) stats: Option<Box<Stats>>,
    pub(super) ask_peers: bool,
    /// A list, and how much of it is out.
    pub(super) peers: Option<(Arc<[Peer]>, usize)>,
    pub(super) resets: BTreeMap<u32, (ResetCode, &'static str)>,
}

impl Streams {
    pub(super) fn new(role: Role, inbox: Arc<Inbox>, pool: Arc<Pool>, now: Instant) -> Self {
        let mut timers = Timers::default();
        timers.set(Why::Hello, now + limits::HELLO_TIME);
        timers.set(Why::Silence, now + limits::SILENCE);
        Self {
            role,
            inbox,
            pool,
            open: BTreeMap::new(),
            highest: 0,
            resets: 0,
            heard_hello: false,
            peer_window: 0,
            peers: None,
            closing: Closing::default(),
            owed: Owed::default(),
            heartbeat: Heartbeat::default(),
            flood: Flood::default(),
            timers,
        }
    }

    /// Asks for the gateway's connectors, unless that is under way.
    pub(super) fn ask_peers(&mut self) {
        self.owed.ask_peers |= self.peers.is_none();
        self.peers.get_or_insert_default();
    }

    /// Acts on one frame of a record that was checked whole.
    pub(super) fn take_in(
        &mut self,
        frame: Frame<'_>,
        cx: &mut Cx<'_>,
        notices: &mut Vec<Notice>,
    ) -> Result<(), LinkFault> {
        let now = cx.now.mono;
        if self.heard_hello == matches!(frame, Frame::Hello(_)) {
            return Err(LinkFault::Hello);
        }
        match frame {
            Frame::Hello(hello) => {
                self.heard_hello = true;
                self.timers.clear(Why::Hello);
                self.peer_window = hello.window;
                notices.push(Notice::Hello(hello));
            }
            Frame::Request { stream, kind, notes, head } => {
                self.request(stream, notes, (kind, head), cx, notices)?
            }
            Frame::Response { stream, kind, head } => self.response(stream, kind, head, cx.fx)?,
            Frame::Data { stream, bytes } => self.data(stream, bytes, cx)?,
            Frame::End { stream, trailers } => self.end(stream, trailers, cx.fx)?,
            Frame::Reset { stream, code, .. } => {
                self.known(stream)?;
                // How many streams are given up is for visitors to choose, who must not be able to end a link. But each
                // side says it at most once for each.
                self.resets += 1;
                if self.resets > self.highest {
                    return Err(LinkFault::Flood);
                }
                self.owed.resets.remove(&stream);
                if let Some(stream) = self.open.remove(&stream) {
                    stream.exchange.fail(Failure::Reset(code), cx.fx);
                }
            }
            Frame::Window { stream, credit } => {
                if self.known(stream)?.is_some_and(|stream| !stream.exchange.grant(credit, cx.fx)) {
                    return Err(LinkFault::CreditOverflow);
                }
            }
            Frame::Ping(payload) => {
                self.flood.control(now)?;
                self.owed.pong = Some(payload);
            }
            Frame::Pong(payload) => {
                self.flood.control(now)?;
                self.heartbeat.answered(payload, now);
            }
            Frame::GoAway { .. } => {
                self.flood.control(now)?;
                self.closing.heard = true;
                notices.push(Notice::GoAway);
            }
            Frame::Peers(part) => {
                self.flood.control(now)?;
                self.only_from(Role::Gateway)?;
                // Nothing is kept of what was not asked for.
                let Some(collector) = &mut self.peers else { return Ok(()) };
                if let Some(peers) = collector.add(&part)? {
                    self.peers = None;
                    notices.push(Notice::Peers(peers));
                }
            }
            Frame::PeersAsk => {
                self.flood.control(now)?;
                self.only_from(Role::Connector)?;
                notices.push(Notice::PeersAsked);
            }
            Frame::StatsAsk => {
                self.flood.control(now)?;
                self.only_from(Role::Connector)?;
                notices.push(Notice::StatsAsked);
            }
            Frame::Stats(stats) => {
                self.flood.control(now)?;
                self.only_from(Role::Gateway)?;
                notices.push(Notice::Stats(Box::new(stats)));
            }
            Frame::Unknown => self.flood.control(now)?,
        }
        Ok(())
    }

    fn request(
        &mut self,
        stream: u32,
        notes: RequestNotes,
        (kind, head): (BodyKind, &[u8]),
        cx: &mut Cx<'_>,
        notices: &mut Vec<Notice>,
    ) -> Result<(), LinkFault> {
        self.only_from(Role::Gateway)?;
        if stream <= self.highest {
            return Err(LinkFault::StreamOrder);
        }
        self.highest = stream;
        let windows = FirstWindows {
            to_link: notes.response_credit.unwrap_or(self.peer_window),
            to_http: notes.body_credit.unwrap_or(if kind == BodyKind::None { 0 } else { WINDOW_BYTES }),
        };
        if windows.to_http > WINDOW_BYTES {
            return Err(LinkFault::OverCredit);
        }
        let bytes = exchange_bytes(windows.to_http, true, head.len());
        let room = self.pool.reserve(bytes, Purpose::of(kind));
        let refusal = match room {
            _ if self.closing.said => "going away",
            _ if self.open.len() >= limits::STREAMS_MAX as usize => "too many streams",
            None => NO_MEMORY,
            Some(lease) => {
                let exchange = Exchange::new(self.inbox.clone(), None, windows, lease);
                exchange.opened(stream);
                let head = LinkHead { kind, text: head.to_vec() };
                let idempotent = head.is_idempotent();
                exchange.deliver_request(head, notes, cx.fx);
                let mut opened = Stream::new(exchange.clone(), cx.now.mono);
                opened.take_head(kind);
                self.open.insert(stream, opened);
                notices.push(Notice::Request { exchange, idempotent });
                return Ok(());
            }
        };
        if self.owed.resets.len() == OWED_RESETS_MAX {
            return Err(LinkFault::Flood);
        }
        self.owed.resets.insert(stream, (ResetCode::Refused, refusal));
        Ok(())
    }

    fn response(&mut self, id: u32, kind: BodyKind, head: &[u8], fx: &mut Effects) -> Result<(), LinkFault> {
        self.only_from(Role::Connector)?;
        let Some(stream) = self.known(id)? else { return Ok(()) };
        if stream.got_head {
            return Err(LinkFault::StreamOrder);
        }
        // `HTTP/1.1 1xx`, but for 101, is not the final head (RFC 9110, 15.2).
        let interim = head.get(9..12).is_some_and(|status| status[0] == b'1' && status != b"101");
        if interim && kind != BodyKind::None {
            return Err(LinkFault::StreamOrder);
        }
        if !interim {
            stream.take_head(kind);
        }
        if stream.exchange.deliver_head(LinkHead { kind, text: head.to_vec() }, interim, fx) {
            return Ok(());
        }
        self.give_up(id, Failure::NoMemory, (ResetCode::Cancelled, NO_MEMORY), fx)
    }

    fn data(&mut self, id: u32, bytes: &[u8], cx: &mut Cx<'_>) -> Result<(), LinkFault> {
        let Some(stream) = self.known(id)? else { return Ok(()) };
        if !stream.got_head || stream.got_end {
            return Err(LinkFault::StreamOrder);
        }
        if !stream.window.received(bytes.len(), cx.now.mono) {
            return Err(LinkFault::OverCredit);
        }
        if stream.expects(bytes.len()) {
            stream.exchange.deliver_data(bytes, cx.fx);
            return Ok(());
        }
        self.refuse_body(id, WRONG_LENGTH, cx.fx)
    }

    fn end(&mut self, id: u32, trailers: &[u8], fx: &mut Effects) -> Result<(), LinkFault> {
        let Some(stream) = self.known(id)? else { return Ok(()) };
        if !stream.got_head || stream.got_end {
            return Err(LinkFault::StreamOrder);
        }
        if stream.expected.is_some_and(|left| left > 0) {
            return self.refuse_body(id, WRONG_LENGTH, fx);
        }
        // They go out as they are: anything but whole field lines could be taken for another message.
        if !is_valid_trailers(trailers) {
            return self.refuse_body(id, "malformed trailers", fx);
        }
        stream.got_end = true;
        if !stream.exchange.deliver_end(trailers, fx) {
            return self.give_up(id, Failure::NoMemory, (ResetCode::Cancelled, NO_MEMORY), fx);
        }
        if stream.sent_end {
            self.open.remove(&id);
        }
        Ok(())
    }

    /// A body is not what its head said, or its trailers are none: the stream ends, the link goes on.
    fn refuse_body(&mut self, id: u32, why: &'static str, fx: &mut Effects) -> Result<(), LinkFault> {
        let failure = Failure::Reset(ResetCode::ProtocolError);
        self.give_up(id, failure, (ResetCode::ProtocolError, why), fx)
    }

    /// Ends a stream for both sides; the link goes on.
    fn give_up(
        &mut self,
        id: u32,
        failure: Failure,
        reset: (ResetCode, &'static str),
        fx: &mut Effects,
    ) -> Result<(), LinkFault> {
        if let Some(stream) = self.open.remove(&id) {
            stream.exchange.fail(failure, fx);
        }
        if self.owed.resets.len() == OWED_RESETS_MAX {
            return Err(LinkFault::Flood);
        }
        self.owed.resets.insert(id, reset);
        Ok(())
    }

    /// The stream, if it is open; none if it is over; a fault if it never was opened.
    fn known(&mut self, stream: u32) -> Result<Option<&mut Stream>, LinkFault> {
        if stream > self.highest {
            return Err(LinkFault::FrameStream);
        }
        Ok(self.open.get_mut(&stream))
    }

    /// Some frames only go one way.
    fn only_from(&self, sender: Role) -> Result<(), LinkFault> {
        if self.role == sender { Err(LinkFault::FrameStream) } else { Ok(()) }
    }
}

/// PING, PONG and the round trip.
#[derive(Default)]
pub(super) struct Heartbeat {
    pub(super) outstanding: Option<([u8; 8], Instant)>,
    /// The last round trips, and how many there were in all.
    last: [Duration; 8],
    count: usize,
    /// When anything arrived last.
    pub(super) heard_at: Instant,
}

impl Heartbeat {
    /// The least of the last eight; zero until there was one.
    pub(super) fn round_trip(&self) -> Duration {
        self.last.iter().take(self.count).min().copied().unwrap_or(Duration::ZERO)
    }

    /// Whether the peer was asked [`limits::UNRESPONSIVE`] ago and has not said anything since.
    pub(super) fn is_unresponsive(&self, now: Instant) -> bool {
        let silent = |asked_at| self.heard_at <= asked_at && now >= asked_at + limits::UNRESPONSIVE;
        self.outstanding.is_some_and(|(_, asked_at)| silent(asked_at))
    }

    fn answered(&mut self, payload: [u8; 8], now: Instant) {
        if let Some((asked, at)) = self.outstanding
            && asked == payload
        {
            self.outstanding = None;
            self.last[self.count % self.last.len()] = now.since(at);
            self.count = self.count.wrapping_add(1);
        }
    }
}

/// Ends links that send more control frames than anyone needs.
#[derive(Default)]
pub(super) struct Flood {
    began: Instant,
    controls: u32,
}

impl Flood {
    pub(super) fn control(&mut self, now: Instant) -> Result<(), LinkFault> {
        if now.since(self.began) >= Duration::from_secs(1) {
            *self = Self { began: now, controls: 0 };
        }
        self.controls += 1;
        if self.controls > limits::CONTROL_FRAMES_PER_SEC_MAX { Err(LinkFault::Flood) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::PortId;
    use crate::time::Now;

    /// A connector's side of a link, with one request on stream 1 whose body has come.
    fn with_a_request(fx: &mut Effects) -> (Streams, Arc<Exchange>) {
        let inbox = Inbox::new(PortId { index: 1, generation: 1 });
        let mut streams = Streams::new(Role::Connector, inbox, Pool::new(1 << 20), Instant::default());
        let mut notices = Vec::new();
        let head = b"POST / HTTP/1.1\r\nHost: a\r\n\r\n";
        for frame in [
            Frame::Hello(Hello::default()),
            Frame::Request { stream: 1, kind: BodyKind::Unknown, notes: RequestNotes::default(), head },
            Frame::Data { stream: 1, bytes: b"hello" },
        ] {
            streams.take_in(frame, &mut Cx { now: Now::default(), fx }, &mut notices).unwrap();
        }
        let Some(Notice::Request { exchange, .. }) = notices.pop() else { panic!("no request came") };
        (streams, exchange)
    }

    #[test]
    fn trailers_from_a_peer_that_are_no_field_lines_end_their_stream_and_nothing_else() {
        let smuggled = b"A: b\r\n\r\nGET /other HTTP/1.1\r\nHost: a\r\n\r\n";
        for (trailers, is_taken) in [(&b"Digest: x\r\n"[..], true), (smuggled, false), (b"A: b", false)] {
            let mut fx = Effects::default();
            let (mut streams, exchange) = with_a_request(&mut fx);
            let mut cx = Cx { now: Now::default(), fx: &mut fx };
            let end = Frame::End { stream: 1, trailers };
            assert_eq!(streams.take_in(end, &mut cx, &mut Vec::new()), Ok(()));
            let taken = exchange.take(usize::MAX, &mut Vec::new());
            let refused = BTreeMap::from([(1, (ResetCode::ProtocolError, "malformed trailers"))]);
            if is_taken {
                assert_eq!((taken.end, taken.failure), (Some(trailers.to_vec()), None));
                assert!(streams.open.contains_key(&1) && streams.owed.resets.is_empty());
            } else {
                let failure = Some(Failure::Reset(ResetCode::ProtocolError));
                assert_eq!((taken.end, taken.failure), (None, failure));
                assert_eq!((streams.open.len(), streams.owed.resets), (0, refused));
            }
        }
    }

    #[test]
    fn a_request_says_with_what_credit_its_body_and_its_response_begin() {
        let mut fx = Effects::default();
        let (mut streams, earlier) = with_a_request(&mut fx);
        let mut cx = Cx { now: Now::default(), fx: &mut fx };
        let request = |stream, body_credit| Frame::Request {
            stream,
            kind: BodyKind::Unknown,
            notes: RequestNotes { response_credit: Some(3), body_credit, ..RequestNotes::default() },
            head: b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        };
        let before = streams.pool.used();
        let mut notices = Vec::new();
        assert_eq!(streams.take_in(request(2, Some(4)), &mut cx, &mut notices), Ok(()));
        let Some(Notice::Request { exchange, .. }) = notices.pop() else { panic!("no request came") };
        assert_eq!((earlier.room().bytes(), exchange.room().bytes()), (0, 3));
        assert!(streams.pool.used() - before < 64 * 1024, "it sets aside what may come");
        assert_eq!(streams.take_in(Frame::Data { stream: 2, bytes: b"body" }, &mut cx, &mut notices), Ok(()));
        let more = Frame::Data { stream: 2, bytes: b"!" };
        assert_eq!(streams.take_in(more, &mut cx, &mut notices), Err(LinkFault::OverCredit));
        let too_wide = request(3, Some(WINDOW_BYTES + 1));
        assert_eq!(streams.take_in(too_wide, &mut cx, &mut notices), Err(LinkFault::OverCredit));
    }

    #[test]
    fn a_peer_may_reset_each_stream_but_none_twice() {
        let mut fx = Effects::default();
        let (mut streams, _) = with_a_request(&mut fx);
        let mut take =
            |frame| streams.take_in(frame, &mut Cx { now: Now::default(), fx: &mut fx }, &mut Vec::new());
        let reset = |stream| Frame::Reset { stream, code: ResetCode::Cancelled, reason: "gone" };
        assert_eq!(take(reset(1)), Ok(()));
        for stream in 2..50_000 {
            let (notes, head) = (RequestNotes::default(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(take(Frame::Request { stream, kind: BodyKind::None, notes, head }), Ok(()));
            assert_eq!(take(reset(stream)), Ok(()));
        }
        assert_eq!(take(reset(1)), Err(LinkFault::Flood));
    }

    #[test]
    fn what_the_peer_has_given_up_is_not_refused_as_well() {
        let mut fx = Effects::default();
        let (mut streams, _) = with_a_request(&mut fx);
        streams.pool = Pool::new(0);
        let mut take =
            |frame| streams.take_in(frame, &mut Cx { now: Now::default(), fx: &mut fx }, &mut Vec::new());
        for stream in 2..2 + 2 * limits::STREAMS_MAX {
            let (notes, head) = (RequestNotes::default(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(take(Frame::Request { stream, kind: BodyKind::None, notes, head }), Ok(()));
            if stream % 2 == 0 {
                assert_eq!(take(Frame::Reset { stream, code: ResetCode::Cancelled, reason: "gone" }), Ok(()));
            }
        }
        assert_eq!(streams.owed.resets.len(), limits::STREAMS_MAX as usize);
    }
}
