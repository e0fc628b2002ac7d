//! The fuzzer's end of a link: it has the right keys, so what it sends is opened and acted on, whatever it is. What
//! comes back is held against every rule of `docs/protocol.md`, 4.

use std::collections::BTreeMap;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::buf::RecvBuf;
use crate::http1::body::{BodyKind, is_valid_trailers};
use crate::http1::head::{parse_request, parse_response};
use crate::limits;
use crate::link::frame::{Frame, Hello, RequestNotes, check, parse};
use crate::link::handshake::LinkKeys;
use crate::link::record::{RecordReader, RecordWriter};
use crate::seal::{FixedIv, Seals};
use crate::time::UnixSecs;
use crate::websocket::{Message, Reader, Role};

/// See the module.
pub(super) struct FarEnd {
    /// Whose part the fuzzer plays.
    role: Role,
    reader: Reader,
    arrived: RecvBuf,
    records_in: RecordReader,
    records_out: RecordWriter,
    rng: ChaCha20Rng,
    /// What the fuzzer said in its HELLO.
    said_hello: Option<Hello>,
    heard_hello: bool,
    said_go_away: bool,
    heard_go_away: bool,
    heard_close: bool,
    /// The payloads of PINGs that the fuzzer sent.
    pings: Vec<[u8; 8]>,
    /// The PING that came last.
    pub(super) ping: Option<[u8; 8]>,
    /// How often STATS was asked for, and answered.
    peers_asked: bool,
    stats_asked: usize,
    stats_heard: usize,
    pub(super) streams: BTreeMap<u32, Stream>,
    highest: u32,
    /// The fuzzer sent what no honest peer sends; the link may end any time.
    pub(super) broke_rules: bool,
    /// It sent more DATA than there was credit for.
    overran: bool,
}

/// One stream, as both sides have said so far.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) said: Direction,
    pub(super) heard: Direction,
}

/// What went one way on a stream.
#[derive(Default)]
pub(super) struct Direction {
    pub(super) head: Option<Vec<u8>>,
    kind: Option<BodyKind>,
    /// DATA bytes, and how many the other side gave credit for.
    pub(super) bytes: u64,
    pub(super) credit: u64,
    pub(super) ended: bool,
    pub(super) reset: bool,
}

impl Direction {
    fn with_credit(credit: u32) -> Self {
        Self { credit: credit.into(), ..Self::default() }
    }

    /// Whether so much DATA may come now.
    fn may_send(&self, count: usize) -> bool {
        let bytes = self.bytes + count as u64;
        let fits = match self.kind {
            None | Some(BodyKind::None) => false,
            Some(BodyKind::Sized(length)) => bytes <= length,
            Some(_) => true,
        };
        fits && bytes <= self.credit && !self.ended && !self.reset
    }

    /// Whether so much DATA would be well, if there were credit for it.
    fn would_overrun(&self, count: usize) -> bool {
        self.kind.is_some() && !self.ended && !self.reset && self.bytes + count as u64 > self.credit
    }

    /// Whether nothing more of a body can come.
    pub(super) fn is_whole(&self) -> bool {
        self.ended || matches!(self.kind, Some(BodyKind::None | BodyKind::Sized(_))) && self.may_end()
    }

    fn may_end(&self) -> bool {
        let whole = match self.kind {
            None => false,
            Some(BodyKind::Sized(length)) => self.bytes == length,
            Some(_) => true,
        };
        whole && !self.ended && !self.reset
    }
}

impl Stream {
    pub(super) fn is_over(&self) -> bool {
        self.said.reset || self.heard.reset || self.said.ended && self.heard.ended
    }
}

impl FarEnd {
    pub(super) fn new(role: Role, keys: &LinkKeys) -> Self {
        let (from_peer, to_peer) = match role {
            Role::Gateway => (&keys.c2g, &keys.g2c),
            Role::Connector => (&keys.g2c, &keys.c2g),
        };
        let rng = || ChaCha20Rng::seed_from_u64(5);
        Self {
            role,
            reader: Reader::new(role),
            arrived: RecvBuf::default(),
            records_in: RecordReader::new(FixedIv.opener(from_peer)),
            records_out: RecordWriter::new(FixedIv.sealer(to_peer, rng())),
            rng: rng(),
            said_hello: None,
            heard_hello: false,
            said_go_away: false,
            heard_go_away: false,
            heard_close: false,
            pings: Vec::new(),
            ping: None,
            peers_asked: false,
            stats_asked: 0,
            stats_heard: 0,
            streams: BTreeMap::new(),
            highest: 0,
            broke_rules: false,
            overran: false,
        }
    }

    // ---- what the fuzzer says --------------------------------------------------------------------------------------

    /// Seals frames as one record.
    pub(super) fn seal(&mut self, frames: &[u8]) -> Vec<u8> {
        let frames = &frames[..frames.len().min(limits::RECORD_PLAIN_BYTES_MAX - 8)];
        let mut bytes = Vec::new();
        self.records_out.frames().extend_from_slice(frames);
        self.records_out.end_record();
        self.records_out.seal(UnixSecs(0), self.role, &mut self.rng, &mut bytes);
        bytes
    }

    /// Puts a frame if an honest peer would send it, or if the fuzzer insists.
    pub(super) fn say(&mut self, frame: &Frame<'_>, insists: bool, frames: &mut Vec<u8>) {
        let overruns = self.overruns(frame);
        let is_honest = self.note_said(frame);
        if is_honest || insists {
            self.overran |= overruns;
            frame.put(frames);
            self.broke_rules |= !is_honest;
            self.note_hello(frame);
        }
    }

    /// Whether a frame is DATA beyond the credit of a stream that is open on both sides.
    fn overruns(&self, frame: &Frame<'_>) -> bool {
        let Frame::Data { stream, bytes } = frame else { return false };
        let open = self.streams.get(stream).filter(|stream| !stream.is_over());
        open.is_some_and(|stream| stream.said.would_overrun(bytes.len()))
    }

    /// What the fuzzer may still send on all streams: the other side has promised to keep it.
    pub(super) fn promised(&self) -> u64 {
        let open = self.streams.values().filter(|stream| !stream.is_over() && !stream.said.ended);
        open.map(|Stream { said, .. }| said.credit - said.bytes).sum()
    }

    fn note_hello(&mut self, frame: &Frame<'_>) {
        if let Frame::Hello(hello) = frame {
            self.said_hello.get_or_insert_with(|| hello.clone());
        }
    }

    /// Puts frames as they are, right or wrong.
    pub(super) fn say_anything(&mut self, anything: &[u8], frames: &mut Vec<u8>) {
        frames.extend_from_slice(anything);
        for frame in parse(anything) {
            let is_honest = frame.as_ref().is_ok_and(|frame| self.note_said(frame));
            self.broke_rules |= !is_honest;
            let _ = frame.map(|frame| self.note_hello(&frame));
        }
    }

    /// Whether an honest peer would say this now. What the other side may act on counts as said.
    fn note_said(&mut self, frame: &Frame<'_>) -> bool {
        if self.said_hello.is_some() == matches!(frame, Frame::Hello(_)) {
            return false;
        }
        let window = self.said_hello.as_ref().map_or(0, |hello| hello.window);
        match frame {
            // Whether it was said shows later.
            Frame::Hello(hello) => return self.role == Role::Gateway || hello.instance.is_some(),
            Frame::Request { stream, kind, head, notes } => {
                if self.role != Role::Gateway || *stream <= self.highest {
                    return false;
                }
                self.highest = *stream;
                let credit = notes.body_credit.unwrap_or(limits::WINDOW_BYTES);
                let mut said = Direction::with_credit(credit);
                (said.head, said.kind) = (Some(head.to_vec()), Some(*kind));
                let heard = Direction::with_credit(notes.response_credit.unwrap_or(window));
                self.streams.insert(*stream, Stream { said, heard });
                if credit > limits::WINDOW_BYTES {
                    return false;
                }
                return !self.said_go_away;
            }
            Frame::Response { stream, kind, head } => {
                let is_interim = head.get(9) == Some(&b'1') && head.get(9..12) != Some(b"101");
                let Some(stream) = self.streams.get_mut(stream) else { return false };
                let said = &mut stream.said;
                if self.role != Role::Connector || said.kind.is_some() || said.reset {
                    return false;
                }
                if is_interim {
                    return *kind == BodyKind::None;
                }
                (said.head, said.kind) = (Some(head.to_vec()), Some(*kind));
            }
            Frame::Data { stream, bytes } => {
                let Some(stream) = self.streams.get_mut(stream) else { return false };
                if !stream.said.may_send(bytes.len()) {
                    return false;
                }
                stream.said.bytes += bytes.len() as u64;
            }
            Frame::End { stream, trailers } => {
                let Some(stream) = self.streams.get_mut(stream) else { return false };
                if !stream.said.may_end() || !is_valid_trailers(trailers) {
                    return false;
                }
                stream.said.ended = true;
            }
            Frame::Reset { stream, .. } => {
                let Some(stream) = self.streams.get_mut(stream) else { return false };
                if std::mem::replace(&mut stream.said.reset, true) {
                    return false;
                }
            }
            Frame::Window { stream, credit } => {
                let Some(stream) = self.streams.get_mut(stream) else { return false };
                let heard = &mut stream.heard;
                if heard.credit - heard.bytes + u64::from(*credit) > limits::CREDIT_BYTES_MAX.into() {
                    return false;
                }
                heard.credit += u64::from(*credit);
            }
            Frame::Ping(payload) => self.pings.push(*payload),
            Frame::Pong(_) | Frame::Unknown => {}
            Frame::GoAway { .. } => self.said_go_away = true,
            Frame::PeersAsk if self.role == Role::Connector => self.peers_asked = true,
            Frame::StatsAsk if self.role == Role::Connector => self.stats_asked += 1,
            Frame::Peers(_) | Frame::Stats(_) => return self.role == Role::Gateway,
            Frame::PeersAsk | Frame::StatsAsk => return false,
        }
        true
    }

    pub(super) fn has_said_hello(&self) -> bool {
        self.said_hello.is_some()
    }

    pub(super) fn is_going_away(&self) -> bool {
        self.said_go_away || self.heard_go_away || self.heard_close
    }

    /// Whether the other side has to end the link, and has not said so.
    pub(super) fn must_end(&self) -> bool {
        self.overran && !self.heard_close
    }

    // ---- what the fuzzer hears -------------------------------------------------------------------------------------

    /// Opens all that came, and holds it against the rules. Hands out heads and portions of bodies.
    pub(super) fn hear(&mut self, bytes: &[u8], mut heard: impl FnMut(u32, Heard<'_>)) {
        self.arrived.push(bytes);
        loop {
            let frames = match self.reader.next(&mut self.arrived) {
                Ok(None) => return,
                Ok(Some(Message::Binary(token))) => {
                    self.records_in.open(token).expect("records open in their order").to_vec()
                }
                Ok(Some(Message::Close(_))) => {
                    self.heard_close = true;
                    continue;
                }
                Ok(Some(Message::Ping(_) | Message::Pong)) => continue,
                Err(fault) => panic!("what a link sends is well-formed: {fault}"),
            };
            assert!(!self.heard_close, "nothing comes after Close");
            assert!(!frames.is_empty() && check(&frames).is_ok(), "what a link sends parses");
            for frame in parse(&frames).flatten() {
                self.note_heard(&frame);
                match frame {
                    Frame::Request { stream, head, .. } | Frame::Response { stream, head, .. } => {
                        heard(stream, Heard::Head(head));
                    }
                    Frame::Data { stream, bytes } => heard(stream, Heard::Data(bytes)),
                    _ => {}
                }
            }
        }
    }

    fn note_heard(&mut self, frame: &Frame<'_>) {
        assert_eq!(self.heard_hello, !matches!(frame, Frame::Hello(_)), "HELLO comes first, and once");
        match frame {
            Frame::Hello(hello) => {
                self.heard_hello = true;
                assert_eq!((hello.window, hello.streams_max), (limits::WINDOW_BYTES, limits::STREAMS_MAX));
                assert!(hello.instance.is_some());
            }
            Frame::Request { stream, kind, head, notes } => self.heard_request(*stream, *kind, *notes, head),
            Frame::Response { stream, kind, head } => self.heard_response(*stream, *kind, head),
            Frame::Data { stream, bytes } => {
                let heard = &mut self.stream(*stream).heard;
                assert!(
                    heard.may_send(bytes.len()),
                    "DATA within credit and length, behind a head: {stream}"
                );
                heard.bytes += bytes.len() as u64;
            }
            Frame::End { stream, trailers } => {
                let heard = &mut self.stream(*stream).heard;
                assert!(
                    heard.may_end() && is_valid_trailers(trailers),
                    "END once, of a whole body: {stream}"
                );
                heard.ended = true;
            }
            Frame::Reset { stream, .. } => {
                let heard = &mut self.stream(*stream).heard;
                assert!(!std::mem::replace(&mut heard.reset, true), "RESET once: {stream}");
            }
            Frame::Window { stream, credit } => {
                let broke_rules = self.broke_rules;
                let Stream { said, heard } = self.stream(*stream);
                assert!(!heard.reset, "no credit after a RESET: {stream}");
                said.credit += u64::from(*credit);
                let open = said.credit.saturating_sub(said.bytes);
                assert!(
                    broke_rules || open <= limits::WINDOW_BYTES_MAX.into(),
                    "a window has an end: {stream}"
                );
            }
            Frame::Ping(payload) => self.ping = Some(*payload),
            Frame::Pong(payload) => {
                assert!(self.broke_rules || self.pings.contains(payload), "PONG answers a PING");
            }
            Frame::GoAway { .. } => {
                assert!(!std::mem::replace(&mut self.heard_go_away, true), "GOAWAY once");
            }
            Frame::Peers(_) => {
                assert_eq!(self.role, Role::Connector);
                assert!(self.broke_rules || self.peers_asked, "PEERS for who asked");
            }
            Frame::Stats(_) => {
                self.stats_heard += 1;
                assert_eq!(self.role, Role::Connector);
                assert!(self.broke_rules || self.stats_heard <= self.stats_asked, "STATS as it is asked for");
            }
            Frame::PeersAsk | Frame::StatsAsk => assert_eq!(self.role, Role::Gateway),
            Frame::Unknown => panic!("a frame that there is not"),
        }
    }

    fn heard_request(&mut self, stream: u32, kind: BodyKind, notes: RequestNotes, head: &[u8]) {
        assert_eq!(self.role, Role::Connector);
        // One that was given up before it was sealed leaves a gap.
        assert!(stream > self.highest, "streams are opened one after the other");
        assert!(!self.heard_go_away, "no new streams after GOAWAY");
        let hello = self.said_hello.clone().unwrap_or_default();
        let open = self.streams.values().filter(|stream| !stream.is_over()).count();
        assert!(self.broke_rules || open < hello.streams_max as usize, "no more streams than were offered");
        parse_request(head).expect("a head that crosses the link is one");
        self.highest = stream;
        let credit = notes.body_credit.unwrap_or(hello.window);
        assert!(credit <= hello.window, "no more than the connector allows");
        let mut heard = Direction::with_credit(credit);
        (heard.head, heard.kind) = (Some(head.to_vec()), Some(kind));
        let said = Direction::with_credit(notes.response_credit.unwrap_or(limits::WINDOW_BYTES));
        self.streams.insert(stream, Stream { said, heard });
    }

    fn heard_response(&mut self, stream: u32, kind: BodyKind, head: &[u8]) {
        assert_eq!(self.role, Role::Gateway);
        let status = parse_response(head).expect("a head that crosses the link is one").status;
        let heard = &mut self.stream(stream).heard;
        assert!(
            heard.kind.is_none() && !heard.reset,
            "one final head, and nothing before it but 1xx: {stream}"
        );
        if matches!(status, 100..200) && status != 101 {
            return assert_eq!(kind, BodyKind::None);
        }
        (heard.head, heard.kind) = (Some(head.to_vec()), Some(kind));
    }

    /// A stream that was opened.
    fn stream(&mut self, stream: u32) -> &mut Stream {
        self.streams.get_mut(&stream).expect("a stream that was opened")
    }
}

/// What came over a link, for whoever looks into it.
pub(super) enum Heard<'a> {
    Head(&'a [u8]),
    Data(&'a [u8]),
}
