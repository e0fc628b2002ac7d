//! Frames and records: the examples of docs/protocol.md, every rule, and encode then decode.

use std::num::NonZeroU64;

use gesher_core::fault::LinkFault;
use gesher_core::http1::body::BodyKind;
use gesher_core::limits::*;
use gesher_core::link::frame::{
    self, ConnectorStats, Frame, Hello, Peer, PeersCollector, RequestNotes, ResetCode, Stats, put_peers,
};
use gesher_core::link::record::RecordWriter;
use gesher_core::seal::{FixedIv, SealKey, Seals};
use gesher_core::time::UnixSecs;
use gesher_core::websocket::Role;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

fn put(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    frame.put(&mut out);
    out
}

fn parse(bytes: &[u8]) -> Result<Vec<Frame<'_>>, LinkFault> {
    let parsed = frame::parse(bytes).collect::<Result<Vec<_>, _>>();
    assert_eq!(frame::check(bytes), parsed.as_ref().map(drop).map_err(|fault| *fault));
    parsed
}

/// What is wrong with one frame.
fn fault(kind: u8, stream: u32, payload: &[u8]) -> Option<LinkFault> {
    parse(&raw(kind, stream, payload)).err()
}

fn raw(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind], &stream.to_be_bytes(), payload].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &(value.len() as u16).to_be_bytes()[..], value].concat()
}

fn of_visitor(number: u64) -> RequestNotes {
    RequestNotes { visitor: NonZeroU64::new(number), ..RequestNotes::default() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// ---- the examples of docs/protocol.md ------------------------------------------------------------------------------

/// The bytes in `docs/protocol.md`: all words of hexadecimal pairs, but for what follows a `;`.
fn documented() -> String {
    let lines = include_str!("../../docs/protocol.md").lines();
    let words = lines.flat_map(|line| line.split(';').next().unwrap_or_default().split_whitespace());
    let is_hex = |word: &&str| {
        word.len().is_multiple_of(2) && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    words.filter(is_hex).collect()
}

/// Checks that the documentation has these bytes too, which come back without their blanks.
fn example(bytes: &str) -> String {
    let bytes = bytes.replace(' ', "");
    assert!(documented().contains(&bytes), "docs/protocol.md lacks {bytes}");
    bytes
}

#[test]
fn frames_are_the_bytes_of_the_examples() {
    let connector = Hello {
        streams_max: 1024,
        window: 65_536,
        name: "office".into(),
        instance: Some([0xa5; 16]),
        epoch: 1,
        ..Hello::default()
    };
    let gateway = Hello {
        streams_max: 1024,
        window: 65_536,
        instance: Some([0x5a; 16]),
        id: "7f3a09c2".into(),
        ..Hello::default()
    };
    let stats = Stats {
        uptime_secs: 3600,
        requests: 42,
        bytes_in: 1000,
        bytes_out: 65_536,
        refusals: 1,
        connectors: vec![ConnectorStats {
            id: "7f3a09c2".into(),
            requests: 42,
            in_flight: 3,
            round_trip_micros: 20_500,
        }],
    };
    let get = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let ok = b"HTTP/1.1 200 OK\r\n\r\n";
    for (frame, bytes) in [
        (
            Frame::Hello(connector),
            "000030 00 00000000  02 00000400 00010000  01 0006 6f6666696365 \
             02 0010 a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5  04 0008 0000000000000001",
        ),
        (
            Frame::Hello(gateway),
            "000027 00 00000000  02 00000400 00010000  02 0010 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a  06 0008 3766336130396332",
        ),
        (
            Frame::Request { stream: 1, kind: BodyKind::None, notes: RequestNotes::default(), head: get },
            "000026 01 00000001  00 0000 \
             474554202f20485454502f312e310d0a486f73743a20612e6578616d706c650d0a0d0a",
        ),
        (
            Frame::Request { stream: 3, kind: BodyKind::Unknown, notes: of_visitor(0x00c0_ffee), head: get },
            "000031 01 00000003  02 000b  01 0008 0000000000c0ffee \
             474554202f20485454502f312e310d0a486f73743a20612e6578616d706c650d0a0d0a",
        ),
        (
            Frame::Response { stream: 1, kind: BodyKind::Sized(5), head: ok },
            "00001c 02 00000001  01 0000000000000005  485454502f312e3120323030204f4b0d0a0d0a",
        ),
        (Frame::Data { stream: 1, bytes: b"Hello" }, "000005 03 00000001  48656c6c6f"),
        (Frame::End { stream: 1, trailers: b"" }, "000000 04 00000001"),
        (
            Frame::Reset { stream: 2, code: ResetCode::TargetUnreachable, reason: "connection refused" },
            "000013 05 00000002  03  636f6e6e656374696f6e2072656675736564",
        ),
        (Frame::Window { stream: 1, credit: 16_384 }, "000004 06 00000001  00004000"),
        (Frame::Ping(*b"01234567"), "000008 07 00000000  3031323334353637"),
        (Frame::Pong(*b"01234567"), "000008 08 00000000  3031323334353637"),
        (
            Frame::GoAway { wait_ms: 10_000, reason: "stopping" },
            "00000c 09 00000000  00002710  73746f7070696e67",
        ),
        (Frame::PeersAsk, "000000 0a 00000000"),
        (Frame::StatsAsk, "000000 0b 00000000"),
        (
            Frame::Stats(stats),
            "00005e 0b 00000000  01 0008 0000000000000e10  02 0008 000000000000002a \
             03 0008 00000000000003e8  04 0008 0000000000010000  05 0008 0000000000000001 \
             07 0024  01 0008 3766336130396332  02 0008 000000000000002a  03 0004 00000003 \
             04 0004 00005014",
        ),
    ] {
        assert_eq!(hex(&put(&frame)), example(bytes), "{frame:?}");
        assert_eq!(parse(&put(&frame)), Ok(vec![frame]));
    }
}

#[test]
fn a_list_of_connectors_is_the_bytes_of_the_example() {
    let peer = Peer {
        id: "7f3a09c2".into(),
        name: "office".into(),
        address: "192.0.2.7".into(),
        since: UnixSecs(1_700_000_000),
    };
    let mut out = Vec::new();
    assert_eq!(put_peers(&[peer], &mut out), 1);
    let bytes = "00002f 0a 00000000  00  01 002b  01 0008 3766336130396332  02 0006 6f6666696365 \
                 03 0009 3139322e302e322e37  04 0008 000000006553f100";
    assert_eq!(hex(&out), example(bytes));
}

#[test]
fn a_record_is_the_bytes_of_the_example() {
    let key: [u8; 32] = std::array::from_fn(|index| index as u8);
    let mut writer = RecordWriter::new(FixedIv.sealer(&SealKey::from(key), ChaCha20Rng::seed_from_u64(2)));
    Frame::Data { stream: 1, bytes: b"Hello" }.put(writer.frames());
    Frame::End { stream: 1, trailers: b"" }.put(writer.frames());
    assert_eq!(
        hex(writer.frames()),
        example("0000000000000000 0000050300000001 48656c6c6f 0000000400000001")
    );
    let mut out = Vec::new();
    writer.end_record();
    writer.seal(UnixSecs(1_700_000_000), Role::Gateway, &mut ChaCha20Rng::seed_from_u64(1), &mut out);
    let bytes = "82 59  80 000000006553f100  000102030405060708090a0b0c0d0e0f \
                 538b8c0118c76850ad229f92c21a3ca4c166bf35badd746922d5007858acc751 \
                 d846361847b842ff21d825f5905354892f602ca1eab9c0b4b92d754933fb6849";
    assert_eq!(hex(&out), example(bytes));
}

// ---- every rule ----------------------------------------------------------------------------------------------------

#[test]
fn a_frame_that_is_cut_anywhere_is_a_fault() {
    let frame = raw(3, 1, b"Hello");
    for end in 1..frame.len() {
        assert_eq!(parse(&frame[..end]), Err(LinkFault::Frame), "{end}");
    }
}

#[test]
fn frames_of_a_stream_and_of_the_link_are_not_confused() {
    for kind in 1..=6 {
        assert_eq!(fault(kind, 0, &[0; 8]), Some(LinkFault::FrameStream), "{kind}");
    }
    for kind in [0, 7, 8, 9, 10, 11] {
        assert_eq!(fault(kind, 1, &[0; 8]), Some(LinkFault::FrameStream), "{kind}");
    }
}

#[test]
fn lengths_that_a_kind_of_frame_does_not_have_are_faults() {
    for (kind, payload) in [
        (0, &[][..]),
        (0, &[2, 0, 0, 4, 0, 0, 1, 0]),
        (1, &[]),
        (1, &[1, 0, 0, 0]),
        (2, &[]),
        (3, &[]),
        (5, &[]),
        (6, &[0, 0, 1]),
        (6, &[0, 0, 0, 0, 1]),
        (7, &[0; 7]),
        (8, &[0; 9]),
        (9, &[0; 3]),
        (11, &[1]),
    ] {
        let stream = u32::from((1..=6).contains(&kind));
        assert_eq!(fault(kind, stream, payload), Some(LinkFault::Frame), "{kind} {payload:02x?}");
    }
}

#[test]
fn limits_are_kept_to_the_byte() {
    for (kind, start, max) in [
        (1, &[0, 0, 0][..], LINK_HEAD_BYTES_MAX),
        (2, &[1, 0, 0, 0, 0, 0, 0, 0, 9], LINK_HEAD_BYTES_MAX),
        (3, &[], DATA_BYTES_MAX),
        (4, &[], TRAILER_BYTES_MAX),
        (5, &[1], REASON_BYTES_MAX),
        (9, &[0, 0, 0, 0], REASON_BYTES_MAX),
    ] {
        let stream = u32::from(kind != 9);
        let payload = |len| [start, &vec![b'a'; len]].concat();
        assert_eq!(fault(kind, stream, &payload(max)), None, "{kind}");
        assert_eq!(fault(kind, stream, &payload(max + 1)), Some(LinkFault::Frame), "{kind}");
    }
}

#[test]
fn long_lists_and_figures_are_faults() {
    let skipped = |len| tlv(99, &vec![0; len - 3]);
    let part = |len: usize| [vec![0], skipped(len - 1)].concat();
    assert_eq!(fault(10, 0, &part(PEERS_PART_BYTES_MAX)), None);
    assert_eq!(fault(10, 0, &part(PEERS_PART_BYTES_MAX + 1)), Some(LinkFault::Frame));
    assert_eq!(fault(11, 0, &skipped(STATS_BYTES_MAX)), None);
    assert_eq!(fault(11, 0, &[skipped(STATS_BYTES_MAX - 2), skipped(3)].concat()), Some(LinkFault::Frame));
}

#[test]
fn nobody_gives_a_credit_of_nothing() {
    assert_eq!(fault(6, 1, &[0; 4]), Some(LinkFault::Frame));
}

#[test]
fn an_unknown_kind_of_body_is_a_fault() {
    assert_eq!(fault(1, 1, &[4, 0, 0]), Some(LinkFault::Frame));
    assert_eq!(fault(2, 1, &[255]), Some(LinkFault::Frame));
}

#[test]
fn a_reason_is_utf8() {
    assert_eq!(fault(5, 1, b"\x01\xff"), Some(LinkFault::Frame));
    assert_eq!(fault(9, 0, b"\0\0\0\0\xff"), Some(LinkFault::Frame));
}

#[test]
fn an_unknown_reset_code_counts_as_internal() {
    for code in [0, 6, 7, 255] {
        let reset = Frame::Reset { stream: 1, code: ResetCode::Internal, reason: "" };
        assert_eq!(parse(&raw(5, 1, &[code])), Ok(vec![reset]));
    }
}

#[test]
fn frames_of_unknown_types_are_skipped_whatever_their_stream() {
    let record = [raw(12, 0, b"new"), raw(255, 7, &[]), raw(4, 1, &[])].concat();
    let end = Frame::End { stream: 1, trailers: b"" };
    assert_eq!(parse(&record), Ok(vec![Frame::Unknown, Frame::Unknown, end]));
}

#[test]
fn nothing_comes_after_a_fault() {
    let record = [raw(4, 1, &[]), raw(3, 1, &[]), raw(4, 1, &[])].concat();
    let frames: Vec<_> = frame::parse(&record).collect();
    assert_eq!(frames, [Ok(Frame::End { stream: 1, trailers: b"" }), Err(LinkFault::Frame)]);
}

const HELLO: &[u8] = &[2, 0, 0, 4, 0, 0, 1, 0, 0];

#[test]
fn a_hello_of_another_version_is_told_apart() {
    for version in [0, 1, 3] {
        assert_eq!(fault(0, 0, &[version]), Some(LinkFault::Hello));
    }
}

#[test]
fn a_hello_keeps_to_its_rules() {
    let with = |kind, value: &[u8]| fault(0, 0, &[HELLO, &tlv(kind, value)].concat());
    assert_eq!(with(1, &[b'a'; NAME_BYTES_MAX]), None);
    assert_eq!(with(99, &[0; 1000]), None);
    for (kind, value) in [
        (1, &[b'a'; NAME_BYTES_MAX + 1][..]),
        (1, b"\xff"),
        (1, b"line\nfeed"),
        (1, "\u{9b}31m".as_bytes()),
        (2, &[0; 15]),
        (2, &[0; 17]),
        (3, &[0; 8]),
        (4, &[0; 4]),
        (6, b"\x1b[2J"),
    ] {
        assert_eq!(with(kind, value), Some(LinkFault::Frame), "{kind} {value:02x?}");
    }
    assert_eq!(fault(0, 0, &[HELLO, &tlv(1, b"office")[..8]].concat()), Some(LinkFault::Frame));
    assert_eq!(fault(0, 0, &[2, 0, 0, 4, 0, 0x80, 0, 0, 0]), Some(LinkFault::CreditOverflow));
}

#[test]
fn a_hello_never_shows_its_instance() {
    let hello = Hello { instance: Some([0xa5; 16]), ..Hello::default() };
    let shown = format!("{:?} {:#?}", hello, Frame::Hello(hello.clone()));
    assert!(!shown.contains("165") && !shown.contains("a5"), "{shown}");
}

#[test]
fn entries_of_lists_keep_to_their_rules() {
    let peer = |entry: &[u8]| fault(10, 0, &[vec![0], tlv(1, entry)].concat());
    let connector = |entry: &[u8]| fault(11, 0, &tlv(7, entry));
    assert_eq!((peer(&[]), connector(&[])), (None, None));
    assert_eq!((peer(&tlv(99, b"new")), connector(&tlv(99, b"new"))), (None, None));
    for entry in [tlv(1, b"\0"), tlv(2, b"\xff"), tlv(3, &[b'a'; 65]), tlv(4, &[0; 4]), vec![1, 0, 9]] {
        assert_eq!(peer(&entry), Some(LinkFault::Frame), "{entry:02x?}");
    }
    for entry in [tlv(1, b"\0"), tlv(2, &[0; 4]), tlv(3, &[0; 8]), tlv(4, &[]), vec![1, 0, 9]] {
        assert_eq!(connector(&entry), Some(LinkFault::Frame), "{entry:02x?}");
    }
    assert_eq!(fault(10, 0, &[2]), Some(LinkFault::Frame));
    assert_eq!(fault(11, 0, &tlv(1, &[0; 4])), Some(LinkFault::Frame));
}

#[test]
fn of_a_tlv_that_comes_twice_the_last_counts() {
    let record = raw(0, 0, &[HELLO, &tlv(1, b"first"), &tlv(1, b"last")].concat());
    let hello = Hello { streams_max: 1024, window: 65_536, name: "last".into(), ..Hello::default() };
    assert_eq!(parse(&record), Ok(vec![Frame::Hello(hello)]));
}

#[test]
fn what_a_request_says_beside_its_head_keeps_to_its_rules() {
    let request = |notes: &[u8]| {
        let length = (notes.len() as u16).to_be_bytes();
        raw(1, 7, &[&[0], &length[..], notes, b"head"].concat())
    };
    let of = |notes: &[u8]| match parse(&request(notes)).map(|mut frames| frames.pop()) {
        Ok(Some(Frame::Request { notes, head: b"head", .. })) => Ok(notes.visitor.map_or(0, NonZeroU64::get)),
        Ok(other) => panic!("{other:?}"),
        Err(fault) => Err(fault),
    };
    let visitor = |number: u64| tlv(1, &number.to_be_bytes());
    assert_eq!(of(b""), Ok(0));
    assert_eq!(of(&visitor(0)), Ok(0));
    assert_eq!(of(&visitor(u64::MAX)), Ok(u64::MAX));
    assert_eq!(of(&[visitor(1), tlv(200, b"later"), visitor(2)].concat()), Ok(2));
    assert_eq!(of(&tlv(200, &[0; REQUEST_NOTES_BYTES_MAX - 3])), Ok(0));
    assert_eq!(of(&tlv(200, &[0; REQUEST_NOTES_BYTES_MAX - 2])), Err(LinkFault::Frame));
    assert_eq!(of(&[tlv(2, &CREDIT_BYTES_MAX.to_be_bytes()), tlv(3, &[0; 4])].concat()), Ok(0));
    for credit in [2, 3] {
        let too_much = tlv(credit, &(CREDIT_BYTES_MAX + 1).to_be_bytes());
        assert_eq!(of(&too_much), Err(LinkFault::CreditOverflow));
        assert_eq!(of(&tlv(credit, &[0; 3])), Err(LinkFault::Frame));
    }
    assert_eq!(of(&tlv(1, &[0; 7])), Err(LinkFault::Frame));
    assert_eq!(of(&[visitor(1), tlv(1, b"")].concat()), Err(LinkFault::Frame));
    assert_eq!(of(b"\x01"), Err(LinkFault::Frame));
    assert_eq!(of(b"\x01\0\x09\0\0\0\0\0\0\0\x01"), Err(LinkFault::Frame));
    for length in [0, 1] {
        assert_eq!(
            fault(1, 7, &[0, 0, 0][..1 + length]),
            Some(LinkFault::Frame),
            "no length of what it says"
        );
    }
    assert_eq!(fault(1, 7, b"\0\0\x05head"), Some(LinkFault::Frame), "longer than what there is");
}

#[test]
fn texts_over_their_limit_are_cut_between_characters() {
    let long = "é".repeat(200);
    let reset = put(&Frame::Reset { stream: 1, code: ResetCode::Refused, reason: &long[..] });
    let cut = Frame::Reset { stream: 1, code: ResetCode::Refused, reason: &long[..REASON_BYTES_MAX] };
    assert_eq!(parse(&reset), Ok(vec![cut]));
    let name = format!("a{long}");
    let hello = put(&Frame::Hello(Hello { name: name.clone(), ..Hello::default() }));
    let cut = Hello { name: name[..NAME_BYTES_MAX - 1].into(), ..Hello::default() };
    assert_eq!(parse(&hello), Ok(vec![Frame::Hello(cut)]));
}

#[test]
fn figures_name_as_many_connectors_as_fit() {
    let connector = ConnectorStats { id: "7f3a09c2".into(), requests: 1, ..ConnectorStats::default() };
    let frame = put(&Frame::Stats(Stats { connectors: vec![connector.clone(); 5000], ..Stats::default() }));
    let Frame::Stats(stats) = parse(&frame).unwrap().remove(0) else { panic!("not the figures") };
    assert_eq!(stats.connectors, vec![connector; (STATS_BYTES_MAX - 5 * 11) / 39]);
}

// ---- lists of connectors -------------------------------------------------------------------------------------------

fn peer(number: usize) -> Peer {
    Peer { id: format!("{number:08x}"), since: UnixSecs(number as u64), ..Peer::default() }
}

/// What comes out of the parts that records carry; each record holds `before` bytes already.
fn carried(mut peers: &[Peer], before: usize) -> Result<Option<Vec<Peer>>, LinkFault> {
    let mut collector = PeersCollector::default();
    loop {
        let mut record = vec![0; before];
        let taken = put_peers(peers, &mut record);
        assert!(record.len() <= RECORD_PLAIN_BYTES_MAX / 2);
        peers = &peers[taken..];
        let Frame::Peers(part) = parse(&record[before..])?.remove(0) else { panic!("not a part") };
        if let Some(list) = collector.add(&part)? {
            assert!(peers.is_empty());
            return Ok(Some(list));
        }
    }
}

#[test]
fn a_list_of_nobody_is_a_part_too() {
    assert_eq!(carried(&[], 0), Ok(Some(vec![])));
}

#[test]
fn a_part_is_not_written_where_no_entry_fits() {
    let mut record = vec![0; RECORD_PLAIN_BYTES_MAX / 2 - 20];
    let before = record.clone();
    assert_eq!(put_peers(&[peer(1)], &mut record), 0);
    assert_eq!(record, before);
}

#[test]
fn a_list_has_at_most_4000_entries() {
    let most: Vec<_> = (0..PEERS_MAX).map(peer).collect();
    assert_eq!(carried(&most, 0), Ok(Some(most.clone())));
    let over: Vec<_> = (0..PEERS_MAX + 1).map(peer).collect();
    assert_eq!(carried(&over, 0), Err(LinkFault::Frame));
}

#[test]
fn after_a_whole_list_a_new_one_begins() {
    let mut collector = PeersCollector::default();
    for number in 0..3 {
        let mut record = Vec::new();
        put_peers(&[peer(number)], &mut record);
        let Frame::Peers(part) = parse(&record).unwrap().remove(0) else { panic!("not a part") };
        assert_eq!(collector.add(&part), Ok(Some(vec![peer(number)])));
    }
}

// ---- any content ---------------------------------------------------------------------------------------------------

fn bytes(range: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = &'static [u8]> {
    prop::collection::vec(any::<u8>(), range).prop_map(|bytes| &*bytes.leak())
}

fn reason() -> impl Strategy<Value = &'static str> {
    "\\PC{0,60}".prop_map(|text| &*text.leak())
}

fn name() -> impl Strategy<Value = String> {
    "\\PC{0,16}"
}

fn body() -> impl Strategy<Value = BodyKind> {
    prop_oneof![
        Just(BodyKind::None),
        any::<u64>().prop_map(BodyKind::Sized),
        Just(BodyKind::Unknown),
        Just(BodyKind::Upgrade),
        any::<u64>().prop_map(BodyKind::UpgradeSized),
        Just(BodyKind::UpgradeChunked),
    ]
}

fn code() -> impl Strategy<Value = ResetCode> {
    use ResetCode::*;
    prop::sample::select(vec![Cancelled, Refused, TargetUnreachable, TargetTimedOut, ProtocolError, Internal])
}

fn hello() -> impl Strategy<Value = Hello> {
    let numbers = (any::<u32>(), 0..=CREDIT_BYTES_MAX, any::<u32>(), any::<u64>());
    (numbers, name(), any::<Option<[u8; 16]>>(), name()).prop_map(
        |((streams_max, window, link, epoch), name, instance, id)| Hello {
            streams_max,
            window,
            name,
            instance,
            link,
            epoch,
            id,
        },
    )
}

fn stats() -> impl Strategy<Value = Stats> {
    let connector =
        (name(), any::<(u64, u32, u32)>()).prop_map(|(id, (requests, in_flight, round_trip_micros))| {
            ConnectorStats { id, requests, in_flight, round_trip_micros }
        });
    (any::<(u64, u64, u64, u64, u64)>(), prop::collection::vec(connector, 0..5)).prop_map(
        |((uptime_secs, requests, bytes_in, bytes_out, refusals), connectors)| Stats {
            uptime_secs,
            requests,
            bytes_in,
            bytes_out,
            refusals,
            connectors,
        },
    )
}

fn any_frame() -> impl Strategy<Value = Frame<'static>> {
    let stream = || 1..=u32::MAX;
    let credit = || prop::option::of(0..=CREDIT_BYTES_MAX);
    prop_oneof![
        hello().prop_map(Frame::Hello),
        (stream(), body(), any::<u64>(), [credit(), credit()], bytes(0..300)).prop_map(
            |(stream, kind, visitor, [response_credit, body_credit], head)| {
                let notes = RequestNotes { response_credit, body_credit, id: visitor, ..of_visitor(visitor) };
                Frame::Request { stream, kind, notes, head }
            }
        ),
        (stream(), body(), bytes(0..300)).prop_map(|(stream, kind, head)| Frame::Response {
            stream,
            kind,
            head
        }),
        (stream(), bytes(1..300)).prop_map(|(stream, bytes)| Frame::Data { stream, bytes }),
        (stream(), bytes(0..300)).prop_map(|(stream, trailers)| Frame::End { stream, trailers }),
        (stream(), code(), reason()).prop_map(|(stream, code, reason)| Frame::Reset { stream, code, reason }),
        (stream(), stream()).prop_map(|(stream, credit)| Frame::Window { stream, credit }),
        any::<[u8; 8]>().prop_map(Frame::Ping),
        any::<[u8; 8]>().prop_map(Frame::Pong),
        (any::<u32>(), reason()).prop_map(|(wait_ms, reason)| Frame::GoAway { wait_ms, reason }),
        Just(Frame::PeersAsk),
        Just(Frame::StatsAsk),
        stats().prop_map(Frame::Stats),
    ]
}

proptest! {
    #[test]
    fn frames_come_back_as_they_were_put(frames in prop::collection::vec(any_frame(), 0..8)) {
        let mut record = Vec::new();
        frames.iter().for_each(|frame| frame.put(&mut record));
        prop_assert_eq!(parse(&record), Ok(frames));
    }

    #[test]
    fn a_record_that_is_cut_inside_a_frame_is_a_fault(
        frames in prop::collection::vec(any_frame(), 1..4),
        cut: prop::sample::Index,
    ) {
        let mut record = Vec::new();
        let ends: Vec<_> = frames.iter().map(|frame| { frame.put(&mut record); record.len() }).collect();
        let cut = cut.index(record.len());
        let is_whole = cut == 0 || ends.contains(&cut);
        prop_assert_eq!(parse(&record[..cut]).map(drop), if is_whole { Ok(()) } else { Err(LinkFault::Frame) });
    }

    #[test]
    fn what_parses_can_be_put_again(
        kind in 0u8..14,
        stream in 0u32..3,
        payload in prop::collection::vec(prop_oneof![0u8..5, any::<u8>()], 0..60),
    ) {
        let record = raw(kind, stream, &payload);
        if let Ok(frames) = parse(&record) {
            let mut again = Vec::new();
            frames.iter().filter(|frame| **frame != Frame::Unknown).for_each(|frame| frame.put(&mut again));
            let known: Vec<_> = frames.into_iter().filter(|frame| *frame != Frame::Unknown).collect();
            prop_assert_eq!(parse(&again), Ok(known));
        }
    }

    #[test]
    fn lists_of_connectors_come_back_as_they_were_put(
        names in prop::collection::vec((name(), name(), name()), 0..800),
        before in 0usize..60_000,
    ) {
        let peers: Vec<_> = names
            .into_iter()
            .enumerate()
            .map(|(index, (id, name, address))| Peer { id, name, address, since: UnixSecs(index as u64) })
            .collect();
        prop_assert_eq!(carried(&peers, before), Ok(Some(peers)));
    }
}

#[test]
fn the_documentation_has_every_code_of_a_close() {
    let docs = include_str!("../../docs/protocol.md");
    let known = (4000..5000).filter_map(|code| Some((code, LinkFault::from_close_code(code)?)));
    let lines: Vec<String> = known.map(|(code, fault)| format!("| {code} | {fault} |")).collect();
    assert_eq!(lines.len(), 16);
    for line in lines {
        assert!(docs.contains(&line), "docs/protocol.md lacks {line}");
    }
}
