//! Frames: the messages inside a record, read without copying and written straight into the record.
//!
//! What [`parse`] yields keeps every limit of its kind, so that whoever acts on it need not look again; [`check`] runs
//! over a whole record before anything of it is acted on.
//! ```text
//! length, u24 │ type, u8 │ stream, u32 │ payload          all numbers big-endian; the length is the payload's
//!   00 00 05  │    03    │ 00 00 00 07 │ "Hello"          DATA on stream 7
//!   00 00 04  │    06    │ 00 00 00 07 │ 00 00 40 00      WINDOW on stream 7: 16,384 bytes more
//! ```
//! HELLO, REQUEST, PEERS and STATS carry TLVs (type u8, length u16, value). Frames and TLVs of unknown types are skipped, a
//! TLV that is missing stands for zero or nothing, and of one that comes twice the last counts.

use std::num::NonZeroU64;
use std::{fmt, iter, mem};

use crate::fault::LinkFault;
use crate::http1::body::BodyKind;
use crate::limits::{
    CREDIT_BYTES_MAX, DATA_BYTES_MAX, LINK_HEAD_BYTES_MAX, NAME_BYTES_MAX, PEERS_MAX, PEERS_PART_BYTES_MAX,
    REASON_BYTES_MAX, RECORD_PLAIN_BYTES_MAX, REQUEST_NOTES_BYTES_MAX, STATS_BYTES_MAX, TRAILER_BYTES_MAX,
};
use crate::time::UnixSecs;

/// The version of the protocol that HELLO names.
const VERSION: u8 = 2;
const HEADER_BYTES: usize = 8;

// A record, less its sequence number, can hold the largest frame of every kind.
const _: () = {
    let room = RECORD_PLAIN_BYTES_MAX - 8 - HEADER_BYTES;
    assert!(9 + 2 + REQUEST_NOTES_BYTES_MAX + LINK_HEAD_BYTES_MAX <= room);
    assert!(DATA_BYTES_MAX <= room);
    assert!(TRAILER_BYTES_MAX <= room);
    assert!(4 + REASON_BYTES_MAX <= room);
    assert!(PEERS_PART_BYTES_MAX <= room);
    assert!(STATS_BYTES_MAX <= room);
};

mod kind {
    pub(super) const HELLO: u8 = 0;
    pub(super) const REQUEST: u8 = 1;
    pub(super) const RESPONSE: u8 = 2;
    pub(super) const DATA: u8 = 3;
    pub(super) const END: u8 = 4;
    pub(super) const RESET: u8 = 5;
    pub(super) const WINDOW: u8 = 6;
    pub(super) const PING: u8 = 7;
    pub(super) const PONG: u8 = 8;
    pub(super) const GO_AWAY: u8 = 9;
    pub(super) const PEERS: u8 = 10;
    pub(super) const STATS: u8 = 11;
}

/// One frame. `Debug` shows heads and bodies as they are: it is for tests, not for logs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    /// Introduces a side; the first frame each way.
    Hello(Hello),
    /// Opens a stream.
    Request {
        /// From 1.
        stream: u32,
        /// How the body comes.
        kind: BodyKind,
        /// What the gateway knows of the request that its head does not say.
        notes: RequestNotes,
        /// The head as HTTP/1.1 text, at most [`LINK_HEAD_BYTES_MAX`] bytes; not looked at here.
        head: &'a [u8],
    },
    /// Answers on a stream, perhaps after interim answers.
    Response {
        /// From 1.
        stream: u32,
        /// How the body comes.
        kind: BodyKind,
        /// The head as HTTP/1.1 text, at most [`LINK_HEAD_BYTES_MAX`] bytes; not looked at here.
        head: &'a [u8],
    },
    /// A piece of a body or of an upgraded connection.
    Data {
        /// From 1.
        stream: u32,
        /// 1 to [`DATA_BYTES_MAX`] bytes.
        bytes: &'a [u8],
    },
    /// The sender's last on a stream.
    End {
        /// From 1.
        stream: u32,
        /// At most [`TRAILER_BYTES_MAX`] bytes; usually none.
        trailers: &'a [u8],
    },
    /// Gives a stream up.
    Reset {
        /// From 1.
        stream: u32,
        /// Why.
        code: ResetCode,
        /// Why, for people; at most [`REASON_BYTES_MAX`] bytes, as the peer chose them: whoever prints it escapes it.
        reason: &'a str,
    },
    /// Gives credit.
    Window {
        /// From 1.
        stream: u32,
        /// Bytes of DATA, at least 1.
        credit: u32,
    },
    /// Wants a PONG with the same payload.
    Ping([u8; 8]),
    /// Answers a PING.
    Pong([u8; 8]),
    /// No new streams; open ones may finish.
    GoAway {
        /// How long the sender waits for them, in milliseconds.
        wait_ms: u32,
        /// Why, for people; at most [`REASON_BYTES_MAX`] bytes, as the peer chose them: whoever prints it escapes it.
        reason: &'a str,
    },
    /// The connector asks for the list of connectors, as soon as it is another than the last one.
    PeersAsk,
    /// A part of the list of connectors; [`put_peers`] writes and [`PeersCollector`] reads them.
    Peers(PeersPart<'a>),
    /// Asks for STATS.
    StatsAsk,
    /// The figures of the sender.
    Stats(Stats),
    /// A frame of a later version, to be ignored.
    Unknown,
}

/// The frames of a record, one after the other; ends after the first fault.
///
/// # Errors
/// - [`LinkFault::Frame`]: cut short, a length that its type does not have, or over a limit.
/// - [`LinkFault::FrameStream`]: stream 0 where a stream belongs, or the other way round.
/// - [`LinkFault::Hello`]: a HELLO of another version.
/// - [`LinkFault::CreditOverflow`]: a HELLO with a window, or a REQUEST with credit, beyond 2^31 - 1.
pub fn parse(mut frames: &[u8]) -> impl Iterator<Item = Result<Frame<'_>, LinkFault>> {
    iter::from_fn(move || {
        if frames.is_empty() {
            return None;
        }
        let mut bytes = Bytes(frames);
        let frame = Frame::take(&mut bytes);
        frames = if frame.is_ok() { bytes.0 } else { &[] };
        Some(frame)
    })
}

/// Whether every frame of a record parses. Copies nothing but what HELLO and STATS hold.
///
/// # Errors
/// The first fault of [`parse`].
pub fn check(frames: &[u8]) -> Result<(), LinkFault> {
    parse(frames).try_for_each(|frame| frame.map(drop))
}

impl<'a> Frame<'a> {
    /// Appends the frame. Texts over their limit are cut; keeping the other limits is the caller's part.
    /// [`Frame::Unknown`] appends nothing.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Frame::Hello(hello) => put_frame(out, kind::HELLO, 0, |out| hello.put(out)),
            Frame::Request { stream, kind, notes, head } => put_frame(out, kind::REQUEST, *stream, |out| {
                put_body_kind(out, *kind);
                notes.put(out);
                out.extend_from_slice(head);
            }),
            Frame::Response { stream, kind, head } => put_frame(out, kind::RESPONSE, *stream, |out| {
                put_body_kind(out, *kind);
                out.extend_from_slice(head);
            }),
            Frame::Data { stream, bytes } => put_bytes(out, kind::DATA, *stream, bytes),
            Frame::End { stream, trailers } => put_bytes(out, kind::END, *stream, trailers),
            Frame::Reset { stream, code, reason } => put_frame(out, kind::RESET, *stream, |out| {
                out.push(*code as u8);
                out.extend_from_slice(cut(reason, REASON_BYTES_MAX).as_bytes());
            }),
            Frame::Window { stream, credit } => put_bytes(out, kind::WINDOW, *stream, &credit.to_be_bytes()),
            Frame::Ping(payload) => put_bytes(out, kind::PING, 0, payload),
            Frame::Pong(payload) => put_bytes(out, kind::PONG, 0, payload),
            Frame::GoAway { wait_ms, reason } => put_frame(out, kind::GO_AWAY, 0, |out| {
                out.extend_from_slice(&wait_ms.to_be_bytes());
                out.extend_from_slice(cut(reason, REASON_BYTES_MAX).as_bytes());
            }),
            Frame::PeersAsk => put_bytes(out, kind::PEERS, 0, &[]),
            Frame::Peers(part) => put_frame(out, kind::PEERS, 0, |out| {
                out.push(part.more.into());
                out.extend_from_slice(part.entries);
            }),
            Frame::StatsAsk => put_bytes(out, kind::STATS, 0, &[]),
            Frame::Stats(stats) => put_frame(out, kind::STATS, 0, |out| stats.put(out)),
            Frame::Unknown => {}
        }
    }

    /// Takes the frame that `bytes` begin with.
    fn take(bytes: &mut Bytes<'a>) -> Result<Self, LinkFault> {
        let [a, b, c, kind] = bytes.array()?;
        let stream = u32::from_be_bytes(bytes.array()?);
        let length = u32::from_be_bytes([0, a, b, c]);
        let payload = Bytes(bytes.slice(usize::try_from(length).map_err(|_| LinkFault::Frame)?)?);
        match kind {
            kind::REQUEST..=kind::WINDOW if stream == 0 => Err(LinkFault::FrameStream),
            kind::REQUEST..=kind::WINDOW => Self::of_stream(kind, stream, payload),
            kind::HELLO..=kind::STATS if stream != 0 => Err(LinkFault::FrameStream),
            kind::HELLO..=kind::STATS => Self::of_link(kind, payload),
            _ => Ok(Frame::Unknown),
        }
    }

    fn of_stream(kind: u8, stream: u32, mut payload: Bytes<'a>) -> Result<Self, LinkFault> {
        match kind {
            kind::REQUEST => {
                let kind = take_body_kind(&mut payload)?;
                let notes = RequestNotes::take(&mut payload)?;
                Ok(Frame::Request { stream, kind, notes, head: payload.up_to(LINK_HEAD_BYTES_MAX)? })
            }
            kind::RESPONSE => {
                let kind = take_body_kind(&mut payload)?;
                Ok(Frame::Response { stream, kind, head: payload.up_to(LINK_HEAD_BYTES_MAX)? })
            }
            kind::DATA => match payload.up_to(DATA_BYTES_MAX)? {
                [] => Err(LinkFault::Frame),
                bytes => Ok(Frame::Data { stream, bytes }),
            },
            kind::END => Ok(Frame::End { stream, trailers: payload.up_to(TRAILER_BYTES_MAX)? }),
            kind::RESET => {
                let [code] = payload.array()?;
                Ok(Frame::Reset { stream, code: ResetCode::from_byte(code), reason: payload.reason()? })
            }
            _ => match u32::from_be_bytes(exactly(payload.0)?) {
                0 => Err(LinkFault::Frame),
                credit => Ok(Frame::Window { stream, credit }),
            },
        }
    }

    fn of_link(kind: u8, mut payload: Bytes<'a>) -> Result<Self, LinkFault> {
        match kind {
            kind::HELLO => Hello::parse(payload).map(Frame::Hello),
            kind::PING => exactly(payload.0).map(Frame::Ping),
            kind::PONG => exactly(payload.0).map(Frame::Pong),
            kind::GO_AWAY => {
                let wait_ms = u32::from_be_bytes(payload.array()?);
                Ok(Frame::GoAway { wait_ms, reason: payload.reason()? })
            }
            kind::PEERS if payload.0.is_empty() => Ok(Frame::PeersAsk),
            kind::PEERS => PeersPart::parse(payload).map(Frame::Peers),
            _ if payload.0.is_empty() => Ok(Frame::StatsAsk),
            _ => Stats::parse(payload).map(Frame::Stats),
        }
    }
}

/// Why a stream was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResetCode {
    /// The sender has no more use for it.
    Cancelled = 1,
    /// It was never acted on, and may be tried elsewhere.
    Refused,
    /// The app could not be reached.
    TargetUnreachable,
    /// The app did not answer in time.
    TargetTimedOut,
    /// What came over it broke the rules.
    ProtocolError,
    /// Anything else.
    Internal,
}

impl ResetCode {
    /// What to tell a person.
    pub fn as_str(self) -> &'static str {
        match self {
            ResetCode::Cancelled => "cancelled",
            ResetCode::Refused => "refused",
            ResetCode::TargetUnreachable => "target unreachable",
            ResetCode::TargetTimedOut => "target timed out",
            ResetCode::ProtocolError => "protocol error",
            ResetCode::Internal => "internal error",
        }
    }

    /// A code of a later version ends its stream all the same: it counts as internal, and the link goes on.
    fn from_byte(code: u8) -> Self {
        match code {
            1 => ResetCode::Cancelled,
            2 => ResetCode::Refused,
            3 => ResetCode::TargetUnreachable,
            4 => ResetCode::TargetTimedOut,
            5 => ResetCode::ProtocolError,
            _ => ResetCode::Internal,
        }
    }
}

/// How a side introduces itself. A connector gives name, instance, link and epoch, a gateway its instance
/// and the id it gave.
///
/// `Debug` does not show the instance: who knows a connector's could take its place.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// Streams that the sender lets be open at once.
    pub streams_max: u32,
    /// The first window of each stream towards the sender, in bytes; at most [`CREDIT_BYTES_MAX`].
    pub window: u32,
    /// What people call the connector: at most [`NAME_BYTES_MAX`] bytes without control characters.
    pub name: String,
    /// Drawn once for each process.
    pub instance: Option<[u8; 16]>,
    /// Which of the process's links this is.
    pub link: u32,
    /// Up by one at each dial: the higher replaces the lower.
    pub epoch: u64,
    /// What the gateway calls the connector: as `name`.
    pub id: String,
}

impl Hello {
    const NAME: u8 = 1;
    const INSTANCE: u8 = 2;
    const LINK: u8 = 3;
    const EPOCH: u8 = 4;
    // 5 is kept for routes.
    const ID: u8 = 6;

    fn put(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(&self.streams_max.to_be_bytes());
        out.extend_from_slice(&self.window.to_be_bytes());
        put_text(out, Self::NAME, &self.name);
        if let Some(instance) = &self.instance {
            put_tlv(out, Self::INSTANCE, instance);
        }
        if self.link != 0 {
            put_tlv(out, Self::LINK, &self.link.to_be_bytes());
        }
        if self.epoch != 0 {
            put_tlv(out, Self::EPOCH, &self.epoch.to_be_bytes());
        }
        put_text(out, Self::ID, &self.id);
    }

    fn parse(mut bytes: Bytes<'_>) -> Result<Self, LinkFault> {
        if bytes.array()? != [VERSION] {
            return Err(LinkFault::Hello);
        }
        let mut hello = Self {
            streams_max: u32::from_be_bytes(bytes.array()?),
            window: credit(bytes.array()?)?,
            ..Self::default()
        };
        while let Some((kind, value)) = bytes.tlv()? {
            match kind {
                Self::NAME => hello.name = name(value)?.to_owned(),
                Self::INSTANCE => hello.instance = Some(exactly(value)?),
                Self::LINK => hello.link = u32::from_be_bytes(exactly(value)?),
                Self::EPOCH => hello.epoch = u64::from_be_bytes(exactly(value)?),
                Self::ID => hello.id = name(value)?.to_owned(),
                _ => {}
            }
        }
        Ok(hello)
    }
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("streams_max", &self.streams_max)
            .field("window", &self.window)
            .field("name", &self.name)
            .field("instance", &self.instance.map(|_| ".."))
            .field("link", &self.link)
            .field("epoch", &self.epoch)
            .field("id", &self.id)
            .finish()
    }
}

/// What a gateway knows of a request that its head does not say.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct RequestNotes {
    /// A number for the visitor's connection, drawn at random; none if many visitors may share the connection.
    pub visitor: Option<NonZeroU64>,
    /// How many bytes of the response the connector may send before it is granted more; at most [`CREDIT_BYTES_MAX`].
    /// None stands for the window of the gateway's HELLO.
    pub response_credit: Option<u32>,
    /// How many bytes of the request's body the gateway sends before it is granted more; at most what the connector's
    /// HELLO allows, for which none stands.
    pub body_credit: Option<u32>,
    /// The number by which the gateway's log names the request; 0 is none.
    pub id: u64,
}

impl RequestNotes {
    const VISITOR: u8 = 1;
    const RESPONSE_CREDIT: u8 = 2;
    const BODY_CREDIT: u8 = 3;
    const ID: u8 = 4;

    fn put(self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0, 0]);
        if let Some(visitor) = self.visitor {
            put_tlv(out, Self::VISITOR, &visitor.get().to_be_bytes());
        }
        if let Some(credit) = self.response_credit {
            put_tlv(out, Self::RESPONSE_CREDIT, &credit.to_be_bytes());
        }
        if let Some(credit) = self.body_credit {
            put_tlv(out, Self::BODY_CREDIT, &credit.to_be_bytes());
        }
        if self.id != 0 {
            put_tlv(out, Self::ID, &self.id.to_be_bytes());
        }
        let length = u16::try_from(out.len() - start - 2).expect("a few numbers");
        out[start..start + 2].copy_from_slice(&length.to_be_bytes());
    }

    fn take(bytes: &mut Bytes<'_>) -> Result<Self, LinkFault> {
        let length = usize::from(u16::from_be_bytes(bytes.array()?));
        if length > REQUEST_NOTES_BYTES_MAX {
            return Err(LinkFault::Frame);
        }
        let mut entries = Bytes(bytes.slice(length)?);
        let mut notes = Self::default();
        while let Some((kind, value)) = entries.tlv()? {
            match kind {
                Self::VISITOR => notes.visitor = NonZeroU64::new(u64::from_be_bytes(exactly(value)?)),
                Self::RESPONSE_CREDIT => notes.response_credit = Some(credit(exactly(value)?)?),
                Self::BODY_CREDIT => notes.body_credit = Some(credit(exactly(value)?)?),
                Self::ID => notes.id = u64::from_be_bytes(exactly(value)?),
                _ => {}
            }
        }
        Ok(notes)
    }
}

/// A connector as others see it; texts are at most [`NAME_BYTES_MAX`] bytes without control characters.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Peer {
    /// What the gateway calls it.
    pub id: String,
    /// What it calls itself.
    pub name: String,
    /// Where its link comes from.
    pub address: String,
    /// When it joined.
    pub since: UnixSecs,
}

impl Peer {
    /// A TLV of this type in PEERS is a connector.
    const ENTRY: u8 = 1;

    const ID: u8 = 1;
    const NAME: u8 = 2;
    const ADDRESS: u8 = 3;
    const SINCE: u8 = 4;

    fn put(&self, out: &mut Vec<u8>) {
        put_text(out, Self::ID, &self.id);
        put_text(out, Self::NAME, &self.name);
        put_text(out, Self::ADDRESS, &self.address);
        put_tlv(out, Self::SINCE, &self.since.0.to_be_bytes());
    }

    /// Hands every text to `text` with its type; what comes back is the time.
    fn read<'a>(entry: &'a [u8], mut text: impl FnMut(u8, &'a str)) -> Result<UnixSecs, LinkFault> {
        let mut since = UnixSecs::default();
        let mut entry = Bytes(entry);
        while let Some((kind, value)) = entry.tlv()? {
            match kind {
                Self::ID | Self::NAME | Self::ADDRESS => text(kind, name(value)?),
                Self::SINCE => since = UnixSecs(u64::from_be_bytes(exactly(value)?)),
                _ => {}
            }
        }
        Ok(since)
    }

    fn parse(entry: &[u8]) -> Result<Self, LinkFault> {
        let mut peer = Self::default();
        peer.since = Self::read(entry, |kind, text| match kind {
            Self::ID => peer.id = text.to_owned(),
            Self::NAME => peer.name = text.to_owned(),
            _ => peer.address = text.to_owned(),
        })?;
        Ok(peer)
    }
}

/// A part of the list of connectors, as it lies in a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeersPart<'a> {
    more: bool,
    entries: &'a [u8],
}

impl<'a> PeersPart<'a> {
    fn parse(mut bytes: Bytes<'a>) -> Result<Self, LinkFault> {
        if bytes.0.len() > PEERS_PART_BYTES_MAX {
            return Err(LinkFault::Frame);
        }
        let more = match bytes.array()? {
            [0] => false,
            [1] => true,
            _ => return Err(LinkFault::Frame),
        };
        let part = Self { more, entries: bytes.0 };
        part.entries().try_for_each(|entry| Peer::read(entry?, |_, _| {}).map(drop))?;
        Ok(part)
    }

    fn entries(&self) -> impl Iterator<Item = Result<&'a [u8], LinkFault>> + use<'a> {
        let mut bytes = Bytes(self.entries);
        iter::from_fn(move || bytes.tlv().transpose())
            .filter(|entry| !matches!(entry, Ok((kind, _)) if *kind != Peer::ENTRY))
            .map(|entry| entry.map(|(_, value)| value))
    }
}

/// Appends one part of PEERS with as many of `peers` as fit, and returns how many. An empty list is a part too; a part
/// that would have no entry although there are some is not written.
///
/// A part is at most [`PEERS_PART_BYTES_MAX`] bytes and leaves half of the record to the RESETs that may be owed.
pub fn put_peers(peers: &[Peer], out: &mut Vec<u8>) -> usize {
    let room =
        (RECORD_PLAIN_BYTES_MAX / 2).saturating_sub(out.len() + HEADER_BYTES).min(PEERS_PART_BYTES_MAX);
    let start = out.len();
    let mut taken = 0;
    put_frame(out, kind::PEERS, 0, |out| {
        let payload = out.len();
        out.push(0);
        taken = put_while(out, payload + room, peers, |peer, out| {
            put_nested(out, Peer::ENTRY, |out| peer.put(out));
        });
        out[payload] = (taken < peers.len()).into();
    });
    if taken == 0 && !peers.is_empty() {
        out.truncate(start);
    }
    taken
}

/// Puts the parts of PEERS together.
#[derive(Debug, Default)]
pub struct PeersCollector {
    peers: Vec<Peer>,
}

impl PeersCollector {
    /// Takes one more part; the list, if it is the last.
    ///
    /// # Errors
    /// [`LinkFault::Frame`] if the list has more than [`PEERS_MAX`] entries.
    pub fn add(&mut self, part: &PeersPart<'_>) -> Result<Option<Vec<Peer>>, LinkFault> {
        for entry in part.entries() {
            if self.peers.len() == PEERS_MAX {
                return Err(LinkFault::Frame);
            }
            self.peers.push(Peer::parse(entry?)?);
        }
        Ok(if part.more { None } else { Some(mem::take(&mut self.peers)) })
    }
}

/// The figures of a process.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Stats {
    /// How long it has run.
    pub uptime_secs: u64,
    /// Requests that came.
    pub requests: u64,
    /// Body bytes from visitors.
    pub bytes_in: u64,
    /// Body bytes to visitors.
    pub bytes_out: u64,
    /// Malformed requests and joins that were refused.
    pub refusals: u64,
    /// The connectors that are joined; as many as fit into [`STATS_BYTES_MAX`].
    pub connectors: Vec<ConnectorStats>,
}

impl Stats {
    const UPTIME: u8 = 1;
    const REQUESTS: u8 = 2;
    const BYTES_IN: u8 = 3;
    const BYTES_OUT: u8 = 4;
    const REFUSALS: u8 = 5;
    // 6 is kept for the latency histogram.
    const CONNECTOR: u8 = 7;

    fn put(&self, out: &mut Vec<u8>) {
        let end = out.len() + STATS_BYTES_MAX;
        for (kind, number) in [
            (Self::UPTIME, self.uptime_secs),
            (Self::REQUESTS, self.requests),
            (Self::BYTES_IN, self.bytes_in),
            (Self::BYTES_OUT, self.bytes_out),
            (Self::REFUSALS, self.refusals),
        ] {
            put_tlv(out, kind, &number.to_be_bytes());
        }
        put_while(out, end, &self.connectors, |connector, out| {
            put_nested(out, Self::CONNECTOR, |out| connector.put(out));
        });
    }

    fn parse(mut bytes: Bytes<'_>) -> Result<Self, LinkFault> {
        if bytes.0.len() > STATS_BYTES_MAX {
            return Err(LinkFault::Frame);
        }
        let mut stats = Self::default();
        while let Some((kind, value)) = bytes.tlv()? {
            let number = match kind {
                Self::UPTIME => &mut stats.uptime_secs,
                Self::REQUESTS => &mut stats.requests,
                Self::BYTES_IN => &mut stats.bytes_in,
                Self::BYTES_OUT => &mut stats.bytes_out,
                Self::REFUSALS => &mut stats.refusals,
                Self::CONNECTOR => {
                    stats.connectors.push(ConnectorStats::parse(value)?);
                    continue;
                }
                _ => continue,
            };
            *number = u64::from_be_bytes(exactly(value)?);
        }
        Ok(stats)
    }
}

/// The figures of one connector.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ConnectorStats {
    /// What the gateway calls it; at most [`NAME_BYTES_MAX`] bytes without control characters.
    pub id: String,
    /// Requests that it was given.
    pub requests: u64,
    /// How many of them are open.
    pub in_flight: u32,
    /// The least of its last round trips.
    pub round_trip_micros: u32,
}

impl ConnectorStats {
    const ID: u8 = 1;
    const REQUESTS: u8 = 2;
    const IN_FLIGHT: u8 = 3;
    const ROUND_TRIP: u8 = 4;

    fn put(&self, out: &mut Vec<u8>) {
        put_text(out, Self::ID, &self.id);
        put_tlv(out, Self::REQUESTS, &self.requests.to_be_bytes());
        put_tlv(out, Self::IN_FLIGHT, &self.in_flight.to_be_bytes());
        put_tlv(out, Self::ROUND_TRIP, &self.round_trip_micros.to_be_bytes());
    }

    fn parse(entry: &[u8]) -> Result<Self, LinkFault> {
        let mut stats = Self::default();
        let mut entry = Bytes(entry);
        while let Some((kind, value)) = entry.tlv()? {
            match kind {
                Self::ID => stats.id = name(value)?.to_owned(),
                Self::REQUESTS => stats.requests = u64::from_be_bytes(exactly(value)?),
                Self::IN_FLIGHT => stats.in_flight = u32::from_be_bytes(exactly(value)?),
                Self::ROUND_TRIP => stats.round_trip_micros = u32::from_be_bytes(exactly(value)?),
                _ => {}
            }
        }
        Ok(stats)
    }
}

// ---- reading -------------------------------------------------------------------------------------------------------

/// What is left to read of a record, a payload or a value.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], LinkFault> {
        let (array, rest) = self.0.split_first_chunk().ok_or(LinkFault::Frame)?;
        self.0 = rest;
        Ok(*array)
    }

    fn slice(&mut self, len: usize) -> Result<&'a [u8], LinkFault> {
        let (slice, rest) = self.0.split_at_checked(len).ok_or(LinkFault::Frame)?;
        self.0 = rest;
        Ok(slice)
    }

    fn tlv(&mut self) -> Result<Option<(u8, &'a [u8])>, LinkFault> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let [kind, high, low] = self.array()?;
        Ok(Some((kind, self.slice(u16::from_be_bytes([high, low]).into())?)))
    }

    /// All that is left, if it is not over `limit`.
    fn up_to(self, limit: usize) -> Result<&'a [u8], LinkFault> {
        if self.0.len() <= limit { Ok(self.0) } else { Err(LinkFault::Frame) }
    }

    fn reason(self) -> Result<&'a str, LinkFault> {
        str::from_utf8(self.up_to(REASON_BYTES_MAX)?).map_err(|_| LinkFault::Frame)
    }
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], LinkFault> {
    bytes.try_into().map_err(|_| LinkFault::Frame)
}

fn credit(bytes: [u8; 4]) -> Result<u32, LinkFault> {
    let credit = u32::from_be_bytes(bytes);
    if credit > CREDIT_BYTES_MAX { Err(LinkFault::CreditOverflow) } else { Ok(credit) }
}

/// A text that reaches logs and pages: short, UTF-8, without control characters.
fn name(bytes: &[u8]) -> Result<&str, LinkFault> {
    let text = str::from_utf8(Bytes(bytes).up_to(NAME_BYTES_MAX)?).map_err(|_| LinkFault::Frame)?;
    if text.contains(char::is_control) { Err(LinkFault::Frame) } else { Ok(text) }
}

fn take_body_kind(bytes: &mut Bytes<'_>) -> Result<BodyKind, LinkFault> {
    match bytes.array()? {
        [0] => Ok(BodyKind::None),
        [1] => Ok(BodyKind::Sized(u64::from_be_bytes(bytes.array()?))),
        [2] => Ok(BodyKind::Unknown),
        [3] => Ok(BodyKind::Upgrade),
        [4] => Ok(BodyKind::UpgradeSized(u64::from_be_bytes(bytes.array()?))),
        [5] => Ok(BodyKind::UpgradeChunked),
        _ => Err(LinkFault::Frame),
    }
}

// ---- writing -------------------------------------------------------------------------------------------------------

fn put_frame(out: &mut Vec<u8>, kind: u8, stream: u32, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, kind]);
    out.extend_from_slice(&stream.to_be_bytes());
    payload(out);
    let length = u32::try_from(out.len() - start - HEADER_BYTES).expect("a frame fits into a record");
    out[start..start + 3].copy_from_slice(&length.to_be_bytes()[1..]);
}

fn put_bytes(out: &mut Vec<u8>, kind: u8, stream: u32, payload: &[u8]) {
    put_frame(out, kind, stream, |out| out.extend_from_slice(payload));
}

fn put_body_kind(out: &mut Vec<u8>, kind: BodyKind) {
    match kind {
        BodyKind::None => out.push(0),
        BodyKind::Sized(length) => {
            out.push(1);
            out.extend_from_slice(&length.to_be_bytes());
        }
        BodyKind::Unknown => out.push(2),
        BodyKind::Upgrade => out.push(3),
        BodyKind::UpgradeSized(length) => {
            out.push(4);
            out.extend_from_slice(&length.to_be_bytes());
        }
        BodyKind::UpgradeChunked => out.push(5),
    }
}

fn put_tlv(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    put_nested(out, kind, |out| out.extend_from_slice(value));
}

/// A text as a TLV, cut to what [`name`] takes; an empty one is left out.
fn put_text(out: &mut Vec<u8>, kind: u8, text: &str) {
    if !text.is_empty() {
        put_tlv(out, kind, cut(text, NAME_BYTES_MAX).as_bytes());
    }
}

fn put_nested(out: &mut Vec<u8>, kind: u8, value: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[kind, 0, 0]);
    value(out);
    let length = u16::try_from(out.len() - start - 3).expect("a TLV holds a few names and numbers");
    out[start + 1..start + 3].copy_from_slice(&length.to_be_bytes());
}

/// Appends items as long as `out` stays within `end`; returns how many.
fn put_while<T>(out: &mut Vec<u8>, end: usize, items: &[T], put: impl Fn(&T, &mut Vec<u8>)) -> usize {
    for (index, item) in items.iter().enumerate() {
        let before = out.len();
        put(item, out);
        if out.len() > end {
            out.truncate(before);
            return index;
        }
    }
    items.len()
}

/// As much of `text` as fits into `limit` bytes without cutting a character.
fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}
