//! A connector gone bad: it knows secret and PIN, joins, and then breaks the rules of the link in one way.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::seen::Seen;
use crate::auth::signature;
use crate::buf::RecvBuf;
use crate::http1::body::BodyKind;
use crate::http1::head::{HeadKind, HeadScan};
use crate::limits::WINDOW_BYTES;
use crate::link::frame::{self, Frame, Hello, ResetCode};
use crate::link::handshake::{JoinAttempt, JoinOutcome, LinkKeys};
use crate::link::record::{RecordReader, RecordWriter};
use crate::seal::{FixedIv, Record, Seals, token_len};
use crate::secret::Keys;
use crate::sim::{Visitor, World};
use crate::time::UnixSecs;
use crate::websocket::{self, Message, Role};

/// What a rogue does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Deed {
    NoUpgrade,
    NoSealInCommon,
    NoHello,
    TwoHellos,
    ReservedBits,
    NoMask,
    Text,
    Fragment,
    LongControl,
    LongMessage,
    Forgery,
    Gap,
    ShortRecord,
    BadFrame,
    UnknownStream,
    WindowTooWide,
    Flood,
    /// These wait for a request.
    OverCredit,
    TwoHeads,
    WrongLength,
    TimesOut,
    FailsInside,
}

pub(super) const DEEDS: [Deed; 22] = [
    Deed::NoUpgrade,
    Deed::NoSealInCommon,
    Deed::NoHello,
    Deed::TwoHellos,
    Deed::ReservedBits,
    Deed::NoMask,
    Deed::Text,
    Deed::Fragment,
    Deed::LongControl,
    Deed::LongMessage,
    Deed::Forgery,
    Deed::Gap,
    Deed::ShortRecord,
    Deed::BadFrame,
    Deed::UnknownStream,
    Deed::WindowTooWide,
    Deed::Flood,
    Deed::OverCredit,
    Deed::TwoHeads,
    Deed::WrongLength,
    Deed::TimesOut,
    Deed::FailsInside,
];

/// See the module.
pub(super) struct Rogue {
    pub(super) visitor: Visitor,
    deed: Deed,
    stage: Stage,
    input: RecvBuf,
    rng: ChaCha20Rng,
}

enum Stage {
    Joining(Box<JoinAttempt>),
    Joined(Box<Joined>),
    Over,
}

struct Joined {
    reader: websocket::Reader,
    opens: RecordReader,
    seals: RecordWriter,
}

impl Rogue {
    /// A rogue that asks to join.
    pub(super) fn new(deed: Deed, seed: u64, keys: &Keys, now: UnixSecs, world: &mut World) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let (attempt, request) = JoinAttempt::new(keys, now, "gateway", "", &mut rng);
        let mut request = String::from_utf8(request).expect("a join is text");
        match deed {
            Deed::NoUpgrade => request = request.replace("Connection: Upgrade\r\n", ""),
            Deed::NoSealInCommon => {
                let key = signature::encode(&[9; 32]);
                let mac = |key, text: &str| signature::encode(&signature::sign(key, text.as_bytes()));
                let proved = format!("gesher.v2 connect\n{}\nrot13\n{key}\n", now.0);
                let proof = mac(&keys.join, &proved);
                let (before, _) = request.split_once("Gesher-Seal").expect("a join names its seals");
                request = format!(
                    "{before}Gesher-Seal: rot13\r\nAuthorization: Gesher {}.{key}.{}.\r\nX-Join-Code: {proof}\r\n\r\n",
                    now.0,
                    mac(&keys.sign, &format!("{proved}\n{proof}")),
                );
            }
            _ => {}
        }
        let visitor = world.visit_as_insider();
        world.send(visitor, request);
        let stage = Stage::Joining(Box::new(attempt));
        Self { visitor, deed, stage, input: RecvBuf::default(), rng }
    }

    /// Whether it does harm to requests that come to it.
    pub(super) fn is_there(&self, world: &World) -> bool {
        world.ended(self.visitor).is_none()
    }

    /// Goes on with what it does.
    pub(super) fn go_on(&mut self, now: UnixSecs, world: &mut World, seen: &mut Seen) {
        self.input.push(&world.received(self.visitor));
        if matches!(self.stage, Stage::Joining(_)) {
            self.join(now, world, seen);
        }
        let mut out = Vec::new();
        let Stage::Joined(joined) = &mut self.stage else { return };
        let Joined { reader, opens, seals, .. } = &mut **joined;
        while let Ok(Some(message)) = reader.next(&mut self.input) {
            match message {
                Message::Binary(token) => {
                    let Ok(frames) = opens.open(token) else { continue };
                    for frame in frame::parse(frames) {
                        if let Ok(Frame::Request { stream, .. }) = frame {
                            answer(self.deed, stream, seals.frames());
                            seen.note(format!("rogue answers: {:?}", self.deed));
                            seals.end_record();
                        }
                    }
                }
                Message::Close(code) => seen.note(format!("close {}", code.unwrap_or(0))),
                Message::Ping(_) | Message::Pong => {}
            }
        }
        if !seals.is_empty() {
            seals.end_record();
        }
        seals.seal(now, Role::Connector, &mut self.rng, &mut out);
        world.send(self.visitor, out);
    }

    fn join(&mut self, now: UnixSecs, world: &mut World, seen: &mut Seen) {
        let Ok(Some(length)) = HeadScan::default().find(self.input.unread(), HeadKind::Response) else {
            return;
        };
        let head = self.input.unread()[..length].to_vec();
        self.input.consume(length);
        let Stage::Joining(attempt) = std::mem::replace(&mut self.stage, Stage::Over) else { return };
        let response = crate::http1::head::parse_response(&head).expect("a gateway answers with HTTP");
        let keys = match attempt.judge(&response) {
            JoinOutcome::Joined(keys) => keys,
            _ => return seen.note("a rogue is refused"),
        };
        let mut seals = RecordWriter::new(FixedIv.sealer(&keys.c2g, self.rng.clone()));
        let hello = Hello {
            streams_max: 8,
            window: if self.deed == Deed::WindowTooWide { u32::MAX } else { WINDOW_BYTES },
            name: "rogue".into(),
            instance: Some([self.deed as u8; 16]),
            epoch: now.0,
            ..Hello::default()
        };
        if self.deed != Deed::NoHello {
            Frame::Hello(hello.clone()).put(seals.frames());
            break_frames(self.deed, hello, seals.frames());
        }
        let opens = RecordReader::new(FixedIv.opener(&keys.g2c));
        let mut out = Vec::new();
        if !seals.is_empty() {
            seals.end_record();
            seals.seal(now, Role::Connector, &mut self.rng, &mut out);
        }
        break_messages(self.deed, &keys, &mut self.rng, &mut out);
        world.send(self.visitor, out);
        self.stage =
            Stage::Joined(Box::new(Joined { reader: websocket::Reader::new(Role::Connector), opens, seals }));
    }
}

/// Breaks a rule of frames.
fn break_frames(deed: Deed, hello: Hello, frames: &mut Vec<u8>) {
    match deed {
        Deed::TwoHellos => Frame::Hello(hello).put(frames),
        Deed::BadFrame => frames.extend([0, 0, 3, 7, 0, 0, 0, 0, 1, 2, 3]),
        Deed::UnknownStream => Frame::Data { stream: 9_999, bytes: b"x" }.put(frames),
        Deed::Flood => (0..1_001).for_each(|_| Frame::Ping([0; 8]).put(frames)),
        _ => {}
    }
}

/// Breaks a rule of messages or records.
fn break_messages(deed: Deed, keys: &LinkKeys, rng: &mut ChaCha20Rng, out: &mut Vec<u8>) {
    let mut seal = |plain: &[u8], out: &mut Vec<u8>| {
        let mut sealer = FixedIv.sealer(&keys.c2g, rng.clone());
        websocket::write_binary(
            Role::Connector,
            rng,
            out,
            std::iter::once(token_len(plain.len())),
            |tokens| {
                sealer.seal_all(UnixSecs(0), &mut [Record { plain, token: &mut *tokens[0] }]);
            },
        );
    };
    match deed {
        Deed::ReservedBits => out.extend([0xc2, 0x80, 0, 0, 0, 0]),
        Deed::NoMask => out.extend([0x82, 0x01, 0]),
        Deed::Text => out.extend([0x81, 0x81, 0, 0, 0, 0, b'x']),
        Deed::Fragment => out.extend([0x80, 0x81, 0, 0, 0, 0, b'x']),
        Deed::LongControl => out.extend([0x89, 0xfe, 0, 126, 0, 0, 0, 0]),
        Deed::LongMessage => out.extend([0x82, 0xff, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0]),
        Deed::Forgery => out.extend([0x82, 0x81, 0, 0, 0, 0, b'x']),
        Deed::Gap => seal(&[0, 0, 0, 0, 0, 0, 0, 5], out),
        Deed::ShortRecord => seal(&[0, 0, 0], out),
        _ => {}
    }
}

/// Answers a request, wrongly.
fn answer(deed: Deed, stream: u32, frames: &mut Vec<u8>) {
    let head = b"HTTP/1.1 200 OK\r\nX-Tag: rogue\r\n\r\n";
    match deed {
        Deed::OverCredit => {
            Frame::Response { stream, kind: BodyKind::Sized(1 << 20), head }.put(frames);
            (0..5).for_each(|_| Frame::Data { stream, bytes: &[b'x'; 16_384] }.put(frames));
        }
        Deed::TwoHeads => {
            Frame::Response { stream, kind: BodyKind::Sized(1), head }.put(frames);
            Frame::Response { stream, kind: BodyKind::Sized(1), head }.put(frames);
        }
        Deed::WrongLength => {
            Frame::Response { stream, kind: BodyKind::Sized(1), head }.put(frames);
            Frame::Data { stream, bytes: b"xx" }.put(frames);
        }
        Deed::TimesOut => {
            Frame::Reset { stream, code: ResetCode::TargetTimedOut, reason: "it takes too long" }.put(frames);
        }
        _ => Frame::Reset { stream, code: ResetCode::Internal, reason: "a rogue" }.put(frames),
    }
}
