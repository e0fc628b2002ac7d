//! WebSocket framing: the examples of RFC 6455, every rule of docs/protocol.md, and any cut of the bytes.

use gesher_core::buf::RecvBuf;
use gesher_core::fault::LinkFault;
use gesher_core::limits::{FRAGMENTS_MAX, MESSAGE_BYTES_MAX};
use gesher_core::websocket::{self, Message, Reader, Role};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

#[derive(Clone, PartialEq, Debug)]
enum Got {
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

type Heard = (Vec<Got>, Option<LinkFault>);

/// What `role` hears when the pieces arrive one after the other.
fn hear<'a>(role: Role, pieces: impl IntoIterator<Item = &'a [u8]>) -> Heard {
    let (mut reader, mut input, mut got) = (Reader::new(role), RecvBuf::default(), Vec::new());
    for piece in pieces {
        input.push(piece);
        loop {
            got.push(match reader.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Message::Binary(bytes))) => Got::Binary(bytes.to_vec()),
                Ok(Some(Message::Ping(payload))) => Got::Ping(payload.to_vec()),
                Ok(Some(Message::Pong)) => Got::Pong,
                Ok(Some(Message::Close(code))) => Got::Close(code),
                Err(fault) => return (got, Some(fault)),
            });
        }
    }
    (got, None)
}

/// What a connector hears: nothing is masked there, which makes bytes easy to write down.
fn fault(bytes: &[u8]) -> Option<LinkFault> {
    hear(Role::Connector, [bytes]).1
}

fn binary(bytes: &[u8]) -> Heard {
    (vec![Got::Binary(bytes.to_vec())], None)
}

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(1)
}

/// An unmasked fragment of zeros in the shortest form.
fn zeros(first: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![first];
    match len {
        0..126 => frame.push(len as u8),
        126..65_536 => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.resize(frame.len() + len, 0);
    frame
}

// ---- RFC 6455, 5.7 -------------------------------------------------------------------------------------------------

/// The RFC's text messages with the opcode of a binary one; as they stand they are faults.
#[test]
fn a_single_frame_is_a_message() {
    assert_eq!(hear(Role::Connector, [&b"\x82\x05Hello"[..]]), binary(b"Hello"));
    let masked = b"\x82\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(hear(Role::Gateway, [&masked[..]]), binary(b"Hello"));
    assert_eq!(fault(b"\x81\x05Hello"), Some(LinkFault::WebSocketText));
    let masked_text = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(hear(Role::Gateway, [&masked_text[..]]), (vec![], Some(LinkFault::WebSocketText)));
}

#[test]
fn fragments_are_put_together() {
    assert_eq!(hear(Role::Connector, [&b"\x02\x03Hel\x80\x02lo"[..]]), binary(b"Hello"));
    assert_eq!(fault(b"\x01\x03Hel\x80\x02lo"), Some(LinkFault::WebSocketText));
}

#[test]
fn pings_and_pongs_are_heard() {
    assert_eq!(hear(Role::Connector, [&b"\x89\x05Hello"[..]]), (vec![Got::Ping(b"Hello".to_vec())], None));
    let pong = b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(hear(Role::Gateway, [&pong[..]]), (vec![Got::Pong], None));
}

#[test]
fn lengths_of_256_and_65536_have_their_own_forms() {
    for (header, len) in
        [(&b"\x82\x7e\x01\x00"[..], 256), (b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 65_536)]
    {
        let payload = vec![7; len];
        assert_eq!(hear(Role::Connector, [header, &payload]), binary(&payload));
        let mut written = Vec::new();
        websocket::write_binary(Role::Gateway, &mut rng(), &mut written, std::iter::once(len), |payloads| {
            payloads[0].copy_from_slice(&payload)
        });
        assert_eq!(written, [header, &payload].concat());
    }
}

// ---- every rule ----------------------------------------------------------------------------------------------------

#[test]
fn reserved_bits_and_unknown_opcodes_are_faults() {
    for first in [0xc2, 0xa2, 0x92, 0xc9, 0xc1, 0x83, 0x87, 0x8b, 0x8f, 0x03, 0x0f] {
        assert_eq!(fault(&[first, 0x01, 0]), Some(LinkFault::WebSocketFrame), "{first:02x}");
    }
}

#[test]
fn lengths_in_a_longer_form_than_they_need_are_faults() {
    for header in [
        &b"\x82\x7e\x00\x00"[..],
        b"\x82\x7e\x00\x7d",
        b"\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x05",
        b"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff",
        b"\x82\x7f\x80\x00\x00\x00\x00\x01\x00\x00",
    ] {
        assert_eq!(fault(header), Some(LinkFault::WebSocketFrame), "{header:02x?}");
    }
}

#[test]
fn only_a_connector_masks() {
    assert_eq!(fault(b"\x82\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), Some(LinkFault::WebSocketMask));
    for unmasked in [&b"\x82\x05Hello"[..], b"\x89\x00", b"\x88\x00"] {
        assert_eq!(hear(Role::Gateway, [unmasked]), (vec![], Some(LinkFault::WebSocketMask)));
    }
}

#[test]
fn a_message_over_the_limit_is_known_by_its_header() {
    assert_eq!(hear(Role::Connector, [&zeros(0x82, MESSAGE_BYTES_MAX)[..]]), binary(&[0; MESSAGE_BYTES_MAX]));
    let over = zeros(0x82, MESSAGE_BYTES_MAX + 1);
    assert_eq!(fault(&over[..10]), Some(LinkFault::MessageTooLong));
    assert_eq!(fault(b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"), Some(LinkFault::MessageTooLong));
}

#[test]
fn the_limit_is_over_all_fragments() {
    let half = zeros(0x02, MESSAGE_BYTES_MAX / 2);
    let whole = [&half[..], &zeros(0x80, MESSAGE_BYTES_MAX / 2)].concat();
    assert_eq!(hear(Role::Connector, [&whole[..]]), binary(&[0; MESSAGE_BYTES_MAX]));
    let header = zeros(0x80, MESSAGE_BYTES_MAX / 2 + 1);
    assert_eq!(fault(&[&half[..], &header[..10]].concat()), Some(LinkFault::MessageTooLong));
}

#[test]
fn a_message_has_at_most_64_fragments() {
    let begun = |count: u32| [b"\x02\x01a".to_vec(), b"\x00\x01a".repeat(count as usize - 1)].concat();
    let most = [begun(FRAGMENTS_MAX - 1), b"\x80\x01a".to_vec()].concat();
    assert_eq!(hear(Role::Connector, [&most[..]]), binary(&[b'a'; FRAGMENTS_MAX as usize]));
    assert_eq!(fault(&begun(FRAGMENTS_MAX)), None);
    let over = [begun(FRAGMENTS_MAX), b"\x80\x01a".to_vec()].concat();
    assert_eq!(fault(&over), Some(LinkFault::WebSocketFragments));
}

#[test]
fn no_fragment_is_empty_and_none_is_out_of_order() {
    for (why, bytes) in [
        ("an empty message", &b"\x82\x00"[..]),
        ("an empty first fragment", b"\x02\x00\x80\x01a"),
        ("an empty last fragment", b"\x02\x01a\x80\x00"),
        ("a continuation of nothing", b"\x80\x01a"),
        ("a continuation after the last", b"\x02\x01a\x80\x01a\x80\x01a"),
        ("a message inside another", b"\x02\x01a\x82\x01a"),
    ] {
        assert_eq!(fault(bytes), Some(LinkFault::WebSocketFragments), "{why}");
    }
}

#[test]
fn control_frames_may_come_between_fragments() {
    let heard = hear(Role::Connector, [&b"\x02\x03Hel\x89\x01p\x8a\x00\x80\x02lo\x88\x02\x03\xe8"[..]]);
    let ping = Got::Ping(b"p".to_vec());
    assert_eq!(heard, (vec![ping, Got::Pong, Got::Binary(b"Hello".to_vec()), Got::Close(Some(1000))], None));
}

#[test]
fn a_control_frame_is_short_and_whole() {
    assert_eq!(hear(Role::Connector, [&zeros(0x89, 125)[..]]), (vec![Got::Ping(vec![0; 125])], None));
    for bytes in [&b"\x89\x7e\x00\x7e"[..], b"\x88\x7f", b"\x8a\x7e", b"\x09\x01p", b"\x0a\x00", b"\x08\x00"]
    {
        assert_eq!(fault(bytes), Some(LinkFault::WebSocketControl), "{bytes:02x?}");
    }
}

#[test]
fn a_close_has_a_whole_code_or_none() {
    for (bytes, code) in
        [(&b"\x88\x00"[..], None), (b"\x88\x02\x03\xe8", Some(1000)), (b"\x88\x05\x03\xf3bye", Some(1011))]
    {
        assert_eq!(hear(Role::Connector, [bytes]), (vec![Got::Close(code)], None));
    }
    assert_eq!(fault(b"\x88\x01\x03"), Some(LinkFault::WebSocketControl));
}

// ---- any cut, any content ------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Said {
    Binary(Vec<u8>),
    Fragments(Vec<Vec<u8>>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16),
    Anything(Vec<u8>),
}

fn said() -> impl Strategy<Value = Said> {
    let bytes = |range| prop::collection::vec(any::<u8>(), range);
    prop_oneof![
        4 => bytes(1..300).prop_map(Said::Binary),
        1 => bytes(65_530..65_550).prop_map(Said::Binary),
        4 => prop::collection::vec(bytes(1..140), 2..5).prop_map(Said::Fragments),
        2 => bytes(0..126).prop_map(Said::Ping),
        2 => bytes(0..126).prop_map(Said::Pong),
        1 => any::<u16>().prop_map(Said::Close),
        1 => bytes(0..30).prop_map(Said::Anything),
    ]
}

fn write(role: Role, said: &Said, rng: &mut ChaCha20Rng, out: &mut Vec<u8>) {
    match said {
        Said::Binary(bytes) => {
            websocket::write_binary(role, rng, out, std::iter::once(bytes.len()), |payloads| {
                payloads[0].copy_from_slice(bytes)
            });
        }
        Said::Fragments(fragments) => {
            for (index, bytes) in fragments.iter().enumerate() {
                let start = out.len();
                websocket::write_binary(role, rng, out, std::iter::once(bytes.len()), |payloads| {
                    payloads[0].copy_from_slice(bytes)
                });
                let fin = if index + 1 == fragments.len() { 0x80 } else { 0 };
                out[start] = fin | if index == 0 { 2 } else { 0 };
            }
        }
        Said::Ping(payload) => websocket::write_ping(role, payload, rng, out),
        Said::Pong(payload) => websocket::write_pong(role, payload, rng, out),
        Said::Close(code) => websocket::write_close(role, *code, rng, out),
        Said::Anything(bytes) => out.extend_from_slice(bytes),
    }
}

fn expected(said: &Said) -> Got {
    match said {
        Said::Binary(bytes) | Said::Anything(bytes) => Got::Binary(bytes.clone()),
        Said::Fragments(fragments) => Got::Binary(fragments.concat()),
        Said::Ping(payload) => Got::Ping(payload.clone()),
        Said::Pong(_) => Got::Pong,
        Said::Close(code) => Got::Close(Some(*code)),
    }
}

fn sides() -> impl Strategy<Value = (Role, Role)> {
    prop::sample::select(vec![(Role::Gateway, Role::Connector), (Role::Connector, Role::Gateway)])
}

proptest! {
    #[test]
    fn what_one_side_writes_the_other_hears(said in prop::collection::vec(said(), 0..10), (from, to) in sides()) {
        let said: Vec<_> = said.into_iter().filter(|said| !matches!(said, Said::Anything(_))).collect();
        let mut bytes = Vec::new();
        said.iter().for_each(|said| write(from, said, &mut rng(), &mut bytes));
        prop_assert_eq!(hear(to, [&bytes[..]]), (said.iter().map(expected).collect(), None));
    }

    #[test]
    fn any_cut_of_the_bytes_gives_the_same_messages_and_the_same_fault(
        said in prop::collection::vec(said(), 0..6),
        (from, to) in sides(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut bytes = Vec::new();
        said.iter().for_each(|said| write(from, said, &mut rng(), &mut bytes));
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
        prop_assert_eq!(hear(to, pieces), hear(to, [&bytes[..]]));
    }

    #[test]
    fn even_bytes_that_come_one_by_one_give_the_same(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        (_, to) in sides(),
    ) {
        prop_assert_eq!(hear(to, bytes.chunks(1)), hear(to, [&bytes[..]]));
    }
}
