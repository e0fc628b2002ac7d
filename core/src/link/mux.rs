//! A joined link as either side runs it: records in and out, and the streams on them.
//!
//! ```text
//! read:   bytes ─ websocket ─ open ─ check the whole record ─ frames ─▶ exchanges (lanes), notices
//! write:  inbox ─▶ fresh: heads, credit, short bodies ─┐
//!                  bulk:  round robin by 16 KiB ───────┴▶ one record of about 16 KiB ─ seal ─ websocket ─▶ bytes
//! ```
//! Reading never waits for writing: what is owed to the peer is state, rendered when there is room.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;

use super::frame::{self, Frame, Hello, Peer, Stats};
use super::record::{RecordReader, RecordWriter};
use super::streams::{Notice, Stream, Streams};
use crate::buf::RecvBuf;
use crate::fault::{Fault, LinkFault};
use crate::hub::admission::Pool;
use crate::hub::mailbox::{Exchange, Failure, Inbox, Sends};
use crate::limits;
use crate::machine::{Cx, Effects, End, Io};
use crate::time::{Instant, Now, SleepWatch, Why};
use crate::websocket::{self, Message, Role};

/// After this many bytes of DATA a stream is bulk: it no longer overtakes others.
const BULK_BYTES: u64 = 64 * 1024;

/// A joined link.
pub(crate) struct Mux {
    role: Role,
    sends: Sends,
    reader: websocket::Reader,
    records_in: RecordReader,
    records_out: RecordWriter,
    rng: ChaCha20Rng,
    streams: Streams,
    fresh: VecDeque<u32>,
    bulk: VecDeque<u32>,
    /// Swapped with the inbox, so that neither allocates.
    ready: Vec<Arc<Exchange>>,
    received_before: u64,
    said_close: bool,
    sleep: SleepWatch,
}

impl Mux {
    /// A link whose join was just accepted. Says HELLO by [`Self::say_hello`].
    pub(crate) fn new(
        role: Role,
        records_in: RecordReader,
        records_out: RecordWriter,
        rng: ChaCha20Rng,
        inbox: Arc<Inbox>,
        pool: Arc<Pool>,
        now: Now,
    ) -> Self {
        Self {
            role,
            sends: match role {
                Role::Gateway => Sends::Requests,
                Role::Connector => Sends::Responses,
            },
            reader: websocket::Reader::new(role),
            records_in,
            records_out,
            rng,
            streams: Streams::new(role, inbox, pool, now.mono),
            fresh: VecDeque::new(),
            bulk: VecDeque::new(),
            ready: Vec::new(),
            received_before: 0,
            said_close: false,
            sleep: SleepWatch::default(),
        }
    }

    // ---- what the machine of a link says ---------------------------------------------------------------------------

    /// Introduces this side; a PING follows at once.
    pub(crate) fn say_hello(&mut self, hello: Hello) {
        self.streams.owed.hello = Some(hello);
        self.streams.owed.ping = true;
    }

    /// Opens and takes no new streams from now on; open ones may finish.
    pub(crate) fn say_go_away(&mut self, wait: Duration, reason: &'static str) {
        if !std::mem::replace(&mut self.streams.closing.said, true) {
            self.streams.owed.go_away = Some((wait, reason));
        }
    }

    /// Asks the gateway for its figures.
    pub(crate) fn ask_stats(&mut self) {
        self.streams.owed.ask_stats = true;
    }

    /// Answers with figures.
    pub(crate) fn say_stats(&mut self, stats: Stats) {
        self.streams.owed.stats = Some(Box::new(stats));
    }

    /// Asks the gateway for its connectors, unless that is under way.
    pub(crate) fn ask_peers(&mut self) {
        self.streams.ask_peers();
    }

    /// Whether a list of connectors is on its way out: the parts of two would be taken for one.
    pub(crate) fn says_peers(&self) -> bool {
        self.streams.owed.peers.is_some()
    }

    /// Sends the connectors, after [`Self::says_peers`] was false.
    pub(crate) fn say_peers(&mut self, peers: Arc<[Peer]>) {
        self.streams.owed.peers = Some((peers, 0));
    }

    /// The least of the last round trips; zero until there was one.
    pub(crate) fn round_trip(&self) -> Duration {
        self.streams.heartbeat.round_trip()
    }

    /// Whether the peer left a PING unanswered for [`limits::UNRESPONSIVE`] and says nothing else either.
    pub(crate) fn is_unresponsive(&self, now: Instant) -> bool {
        self.streams.heartbeat.is_unresponsive(now)
    }

    /// Whether either side said that there will be no new streams.
    pub(crate) fn is_going_away(&self) -> bool {
        self.streams.closing.said || self.streams.closing.heard
    }

    /// Whether it may be closed: no new streams, none open, and all said. Who said GOAWAY leaves it to the peer: a
    /// REQUEST may have crossed it, which is to come back as refused and not to be lost.
    pub(crate) fn is_done(&self) -> bool {
        self.said_close
            || self.streams.closing.closed
            || (self.streams.closing.heard
                && self.streams.open.is_empty()
                && self.streams.owed.go_away.is_none()
                && self.streams.heard_hello)
    }

    /// The next deadline of this link.
    pub(crate) fn next_deadline(&self) -> Option<(Instant, Why)> {
        self.streams.timers.next()
    }

    /// The link is gone: so are its exchanges.
    pub(crate) fn fail_all(&mut self, fx: &mut Effects) {
        for exchange in self.streams.inbox.close() {
            exchange.fail(Failure::LinkLost, fx);
        }
        for stream in std::mem::take(&mut self.streams.open).into_values() {
            stream.exchange.fail(Failure::LinkLost, fx);
        }
    }

    // ---- reading ---------------------------------------------------------------------------------------------------

    /// Acts on the records that arrived whole, up to a turn's budget; true if there may be more.
    pub(crate) fn read(
        &mut self,
        cx: &mut Cx<'_>,
        input: &mut RecvBuf,
        notices: &mut Vec<Notice>,
    ) -> Result<bool, Fault> {
        self.keep_time(cx.now, input)?;
        let before = input.len();
        // Nothing follows a Close (RFC 6455, 5.5.1).
        while !self.streams.closing.closed {
            if before - input.len() >= limits::TURN_BYTES {
                return Ok(true);
            }
            match self.reader.next(input)? {
                None => break,
                Some(Message::Binary(token)) => {
                    let frames = self.records_in.open(token)?;
                    frame::check(frames)?;
                    for frame in frame::parse(frames) {
                        self.streams.take_in(frame?, cx, notices)?;
                    }
                }
                Some(Message::Ping(payload)) => {
                    self.streams.flood.control(cx.now.mono)?;
                    self.streams.owed.websocket_pong = Some(payload.to_vec());
                }
                Some(Message::Pong) => self.streams.flood.control(cx.now.mono)?,
                Some(Message::Close(code)) => {
                    self.streams.closing.closed = true;
                    if let Some(fault) = code.and_then(LinkFault::from_close_code) {
                        return Err(Fault::Told(fault));
                    }
                }
            }
        }
        let open = !self.streams.open.is_empty() || !self.is_going_away();
        if (self.streams.closing.closed || input.ended()) && open {
            return Err(LinkFault::Lost.into());
        }
        Ok(false)
    }

    fn keep_time(&mut self, both: Now, input: &RecvBuf) -> Result<(), LinkFault> {
        let now = both.mono;
        if self.sleep.woke(both) && self.streams.heard_hello {
            // The link may be long gone: the sooner it is asked the better.
            self.streams.heartbeat.outstanding = None;
            self.streams.owed.ping = true;
        }
        if input.received() != self.received_before {
            self.received_before = input.received();
            self.streams.timers.set(Why::Silence, now + limits::SILENCE);
            self.streams.heartbeat.heard_at = now;
            self.streams.timers.clear(Why::Quiet);
        }
        if self.streams.timers.is_due(Why::Silence, now) {
            return Err(LinkFault::Silent);
        }
        if self.streams.timers.is_due(Why::Hello, now) {
            return Err(LinkFault::Hello);
        }
        if self.streams.timers.is_due(Why::Ping, now) {
            self.streams.timers.clear(Why::Ping);
            self.streams.owed.ping = true;
        }
        if self.streams.timers.is_due(Why::Quiet, now) {
            self.streams.timers.clear(Why::Quiet);
            self.streams.owed.ping |= !self.is_unresponsive(now);
        }
        Ok(())
    }

    // ---- writing ---------------------------------------------------------------------------------------------------

    /// Seals what there is to send, as long as little enough waits for the socket.
    pub(crate) fn write(&mut self, cx: &mut Cx<'_>, io: &mut Io) {
        if self.said_close {
            // Nothing follows a Close (RFC 6455, 5.5.1); what still waits is lost with the link.
            return;
        }
        self.collect(cx.now.mono, cx.fx);
        while io.output.len() + self.records_out.whole_bytes() < limits::LINK_OUTPUT_BYTES {
            self.put_owed(cx.now.mono);
            while self.records_out.len() < limits::RECORD_FILL_BYTES {
                if let Some(stream) = self.fresh.pop_front() {
                    self.serve(stream, false, cx);
                } else if let Some(stream) = self.bulk.pop_front() {
                    self.serve(stream, true, cx);
                } else {
                    break;
                }
            }
            if self.records_out.is_empty() {
                break;
            }
            self.records_out.end_record();
        }
        if io.output.len() < limits::LINK_OUTPUT_BYTES
            && let Some(payload) = self.streams.owed.websocket_pong.take()
        {
            websocket::write_pong(self.role, &payload, &mut self.rng, io.output.tail());
        }
        self.records_out.seal(cx.now.unix, self.role, &mut self.rng, io.output.tail());
    }

    /// Says goodbye, once, when [`Self::is_done`].
    pub(crate) fn close(&mut self, cx: &mut Cx<'_>, io: &mut Io) -> End {
        const NORMAL_CLOSURE: u16 = 1000;
        // No stream is open; an exchange that comes from now on need not wait until the link is gone.
        self.fail_all(cx.fx);
        self.say_close(NORMAL_CLOSURE, io);
        // Credit may be on its way here, and a plain close with unread input destroys what is on its way there.
        End::Linger
    }

    /// Tells the peer why the link ends; none if there is no use in it.
    pub(crate) fn close_for(&mut self, fault: Fault, io: &mut Io) -> Option<()> {
        let Fault::Link(fault) = fault else { return None };
        self.say_close(fault.close_code()?, io);
        Some(())
    }

    fn say_close(&mut self, code: u16, io: &mut Io) {
        if !std::mem::replace(&mut self.said_close, true) {
            websocket::write_close(self.role, code, &mut self.rng, io.output.tail());
        }
    }

    /// Takes the exchanges that have something to send out of the inbox.
    fn collect(&mut self, now: Instant, fx: &mut Effects) {
        let mut ready = std::mem::take(&mut self.ready);
        self.streams.inbox.swap(&mut ready);
        for exchange in ready.drain(..) {
            let stream = match exchange.stream() {
                Some(stream) => stream,
                None if self.is_going_away() || self.streams.highest == limits::STREAM_ID_MAX => {
                    if !self.is_going_away() {
                        self.say_go_away(Duration::ZERO, "no streams left");
                    }
                    exchange.fail(Failure::NeverSealed, fx);
                    continue;
                }
                None => {
                    self.streams.highest += 1;
                    self.streams.timers.set_once(Why::Quiet, now + limits::QUIET);
                    exchange.number(self.streams.highest);
                    self.streams.open.insert(self.streams.highest, Stream::new(exchange, now));
                    self.streams.highest
                }
            };
            self.fresh.push_back(stream);
        }
        self.ready = ready;
    }

    /// Puts the next portion of a stream into the record; `bulk` is whether it has its turn among the bulk streams.
    fn serve(&mut self, id: u32, bulk: bool, cx: &mut Cx<'_>) {
        let Some(stream) = self.streams.open.get_mut(&id) else { return };
        stream.in_bulk &= !bulk;
        let overtakes = stream.sent < BULK_BYTES && !stream.in_bulk;
        let data_max = if bulk || overtakes { limits::DATA_BYTES_MAX } else { 0 };
        let frames = self.records_out.frames();
        let drained = stream.exchange.drain(id, self.sends, data_max, frames, cx.fx);
        stream.sent += drained.data_bytes as u64;
        stream.sent_end |= drained.ended;
        if drained.consumed > 0 && !stream.got_end && !drained.reset {
            let round_trip = self.streams.heartbeat.round_trip();
            let (window, exchange) = (&mut stream.window, &stream.exchange);
            if let Some(credit) = window.consumed(drained.consumed, cx.now.mono, round_trip, exchange) {
                Frame::Window { stream: id, credit }.put(frames);
            }
        }
        if drained.reset || (stream.sent_end && stream.got_end) {
            self.streams.open.remove(&id);
        } else if drained.more && !stream.in_bulk {
            stream.in_bulk = true;
            self.bulk.push_back(id);
        }
    }

    fn put_owed(&mut self, now: Instant) {
        let Streams { owed, heartbeat, timers, open, .. } = &mut self.streams;
        let frames = self.records_out.frames();
        if let Some(hello) = owed.hello.take() {
            Frame::Hello(hello).put(frames);
        }
        if let Some(payload) = owed.pong.take() {
            Frame::Pong(payload).put(frames);
        }
        if owed.ping && heartbeat.outstanding.is_none() {
            owed.ping = false;
            let mut payload = [0; 8];
            self.rng.fill_bytes(&mut payload);
            heartbeat.outstanding = Some((payload, now));
            Frame::Ping(payload).put(frames);
            timers.set(Why::Ping, now + limits::PING_EVERY);
            timers.set(Why::Quiet, now + limits::UNRESPONSIVE);
        }
        // A peer that has no streams closes when it hears it: what has begun goes out before.
        if owed.go_away.is_some()
            && open.values().all(|stream| stream.exchange.is_known())
            && let Some((wait, reason)) = owed.go_away.take()
        {
            let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
            Frame::GoAway { wait_ms, reason }.put(frames);
        }
        if std::mem::take(&mut owed.ask_stats) {
            Frame::StatsAsk.put(frames);
        }
        if let Some(stats) = owed.stats.take() {
            Frame::Stats(*stats).put(frames);
        }
        if std::mem::take(&mut owed.ask_peers) {
            Frame::PeersAsk.put(frames);
        }
        if let Some((peers, sent)) = &mut owed.peers {
            *sent += frame::put_peers(&peers[*sent..], frames);
            if *sent == peers.len() {
                owed.peers = None;
            }
        }
        while frames.len() < limits::RECORD_FILL_BYTES
            && let Some((stream, (code, reason))) = owed.resets.pop_first()
        {
            Frame::Reset { stream, code, reason }.put(frames);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;
    use crate::machine::PortId;
    use crate::seal::{Fernet, SealKey, Seals};

    /// One side of a link, with one key for both directions.
    fn mux(role: Role) -> Mux {
        let (key, rng) = (SealKey([7; 32]), || ChaCha20Rng::seed_from_u64(1));
        let (records_in, records_out) =
            (RecordReader::new(Fernet.opener(&key)), RecordWriter::new(Fernet.sealer(&key, rng())));
        let inbox = Inbox::new(PortId { index: 1, generation: 1 });
        let mut mux =
            Mux::new(role, records_in, records_out, rng(), inbox, Pool::new(1 << 20), Now::default());
        mux.streams.heard_hello = true;
        mux
    }

    #[test]
    fn a_list_of_connectors_goes_out_whole_when_it_was_asked_for_and_before_another_one() {
        let (mut gateway, mut connector) = (mux(Role::Gateway), mux(Role::Connector));
        let mut fx = Effects::default();
        let mut cx = Cx { now: Now::default(), fx: &mut fx };
        let mut pass = |from: &mut Mux, to: &mut Mux| {
            let (mut io, mut arrived, mut notices) = (Io::default(), RecvBuf::default(), Vec::new());
            from.write(&mut cx, &mut io);
            arrived.push(io.output.waiting());
            to.read(&mut cx, &mut arrived, &mut notices).unwrap();
            notices
        };
        let list: Arc<[Peer]> = vec![Peer { id: "a".repeat(60), ..Peer::default() }; 1000].into();
        let mut lists = Vec::new();
        for asks in [false, true, true] {
            if asks {
                connector.ask_peers();
                connector.ask_peers();
                let asked = pass(&mut connector, &mut gateway);
                assert!(matches!(asked[..], [Notice::PeersAsked]), "{asked:?}");
            }
            gateway.say_peers(Arc::clone(&list));
            while gateway.says_peers() {
                for notice in pass(&mut gateway, &mut connector) {
                    let Notice::Peers(peers) = notice else { panic!("{notice:?}") };
                    lists.push(peers);
                }
            }
        }
        assert_eq!(lists, [&list[..], &list[..]], "nothing is kept of the one that was not asked for");
        assert_eq!(Arc::strong_count(&list), 1, "nor of what is out");
    }

    #[test]
    fn nothing_follows_a_close() {
        let mut mux = mux(Role::Gateway);
        let (mut fx, mut io) = (Effects::default(), Io::default());
        let mut cx = Cx { now: Now::default(), fx: &mut fx };
        mux.streams.closing.heard = true;
        mux.say_go_away(Duration::ZERO, "goes");
        mux.write(&mut cx, &mut io);
        assert!(mux.is_done());
        mux.close(&mut cx, &mut io);
        let written = io.output.len();
        mux.streams.owed.pong = Some([1; 8]);
        mux.streams.owed.websocket_pong = Some(b"pong".to_vec());
        mux.write(&mut cx, &mut io);
        assert_eq!((io.output.len(), mux.is_done()), (written, true));
    }

    /// A machine that reads on does something when it is called again. (Seed 1214 of the simulator.)
    #[test]
    fn nothing_that_follows_a_close_is_looked_at() {
        let (mut connector, mut fx, mut arrived) =
            (mux(Role::Connector), Effects::default(), RecvBuf::default());
        connector.streams.closing.heard = true;
        let mut bytes = Vec::new();
        websocket::write_close(Role::Gateway, 1000, &mut ChaCha20Rng::seed_from_u64(1), &mut bytes);
        bytes.extend(b"whatever");
        arrived.push(&bytes);
        for _ in 0..2 {
            let mut cx = Cx { now: Now::default(), fx: &mut fx };
            assert_eq!(connector.read(&mut cx, &mut arrived, &mut Vec::new()), Ok(false));
        }
        assert!(connector.is_done());
    }
}
