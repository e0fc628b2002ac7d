//! Bodies: every row of docs/http.md about framing, and codecs that are the same however the bytes are cut.

use gesher_core::http1::Violation;
use gesher_core::http1::body::{Decoder, Encoder, Framing, WrongLength, is_valid_trailers, response_framing};
use gesher_core::http1::head::parse_response;
use gesher_core::limits::{CHUNK_EXTENSION_BYTES_MAX, HEAD_FIELDS_MAX, TRAILER_BYTES_MAX};
use proptest::prelude::*;
use proptest::sample::select;

/// What a decoder made of some input.
#[derive(PartialEq, Eq, Debug)]
struct Decoded {
    body: Vec<u8>,
    /// Bytes of the input that belong to the body, if it is whole.
    consumed: Option<usize>,
    trailers: Vec<u8>,
    violation: Option<Violation>,
}

/// Decodes with input that arrives in `steps` and an output that has `rooms`, each over and over.
fn decode(framing: Framing, input: &[u8], steps: &[usize], rooms: &[usize]) -> Decoded {
    let mut decoder = Decoder::new(framing);
    let (mut body, mut consumed, mut arrived, mut violation) = (Vec::new(), 0, 0, None);
    let (mut steps, mut rooms) = (steps.iter().cycle(), rooms.iter().cycle());
    while !decoder.is_done() && violation.is_none() {
        let room = *rooms.next().expect("a cycle has no end");
        let mut out = Vec::new();
        let took = decoder.decode(&input[consumed..arrived], room, &mut out);
        assert!(out.len() <= room);
        body.extend_from_slice(&out);
        match took {
            Ok(0) if arrived == input.len() && room > 0 => break,
            Ok(0) => {
                arrived = arrived.saturating_add(*steps.next().expect("a cycle has no end")).min(input.len())
            }
            Ok(n) => consumed += n,
            Err(error) => violation = Some(error),
        }
    }
    let consumed = decoder.is_done().then_some(consumed);
    Decoded { body, consumed, trailers: decoder.take_trailers(), violation }
}

fn decode_whole(framing: Framing, input: &[u8]) -> Decoded {
    decode(framing, input, &[usize::MAX], &[usize::MAX])
}

fn chunked(input: &[u8]) -> Decoded {
    decode_whole(Framing::Chunked, input)
}

#[test]
fn trailers_from_a_link_go_out_without_what_has_no_business_there() {
    let hostile =
        b"X-Sum: 1\r\nContent-Length: 5\r\nTransfer_Encoding: chunked\r\nSet-Cookie: a=b\r\nHost: evil\r\n\
        Authorization: x\r\nX_Original_Host: evil\r\nDigest: y\r\n";
    let mut out = Vec::new();
    Encoder::new(Framing::Chunked).finish(hostile, &mut out).unwrap();
    assert_eq!(out, b"0\r\nX-Sum: 1\r\nDigest: y\r\n\r\n");
}

#[test]
fn every_row_about_chunks_is_refused_as_the_table_says() {
    use Violation as V;
    let extension = |bytes| format!("1;{}\r\na", "e".repeat(bytes));
    let rows: Vec<(String, Violation)> = vec![
        ("\r\n".into(), V::ChunkSize),
        (";a\r\n".into(), V::ChunkSize),
        ("x\r\n".into(), V::ChunkSize),
        ("0x1\r\n".into(), V::ChunkSize),
        ("+1\r\n".into(), V::ChunkSize),
        ("-1\r\n".into(), V::ChunkSize),
        (" 1\r\n".into(), V::ChunkSize),
        ("1_0\r\n".into(), V::ChunkSize),
        ("00000000000000001".into(), V::ChunkSize),
        ("fffffffffffffffff".into(), V::ChunkSize),
        ("1\na".into(), V::BareLineEnd),
        ("1\ra".into(), V::BareLineEnd),
        ("1;a\na".into(), V::BareLineEnd),
        ("1;a\r\r\n".into(), V::BareLineEnd),
        ("1\r\nab".into(), V::ChunkEnd),
        ("1\r\na\n".into(), V::ChunkEnd),
        ("1\r\na\rb".into(), V::ChunkEnd),
        ("1\r\na1\r\n".into(), V::ChunkEnd),
        ("1 \r\na".into(), V::ChunkExtensions),
        ("1 a\r\n".into(), V::ChunkExtensions),
        ("1;\0\r\n".into(), V::ChunkExtensions),
        (extension(CHUNK_EXTENSION_BYTES_MAX), V::ChunkExtensions),
        (format!("1{};", " ".repeat(CHUNK_EXTENSION_BYTES_MAX)), V::ChunkExtensions),
        ("0\r\nA\r\n".into(), V::Trailers),
        ("0\r\nA : b\r\n\r\n".into(), V::Trailers),
        ("0\r\nA: b\n\r\n".into(), V::Trailers),
        ("0\r\nA: b\r\n c\r\n\r\n".into(), V::Trailers),
        ("0\r\nA: \0".into(), V::Trailers),
        ("0\r\n\n".into(), V::Trailers),
        (format!("0\r\n{}\r\n", "A: b\r\n".repeat(HEAD_FIELDS_MAX + 1)), V::Trailers),
        (format!("0\r\nA: {}\r\n\r\n", "b".repeat(TRAILER_BYTES_MAX)), V::Trailers),
    ];
    for (input, violation) in rows {
        let shown = &input[..input.len().min(100)];
        assert_eq!(chunked(input.as_bytes()).violation, Some(violation), "{shown:?}");
        assert_eq!(violation.status(), 400, "{shown:?}");
    }
    assert_eq!(chunked(extension(CHUNK_EXTENSION_BYTES_MAX - 1).as_bytes()).violation, None);
}

#[test]
fn chunks_are_read_with_any_size_that_is_allowed() {
    let input = b"0000000000000003\r\nabc\r\nA;x=\"y;z\" ; w\r\n0123456789\r\n1 \t;x\r\n!\r\n00\r\n\r\nnext";
    let decoded = chunked(input);
    assert_eq!(decoded.body, b"abc0123456789!");
    assert_eq!(decoded.consumed, Some(input.len() - b"next".len()));
    assert_eq!(chunked(b"ffffffffffffffff\r\nab").body, b"ab");
}

#[test]
fn trailers_are_rendered_in_one_form_without_those_that_mislead() {
    let input =
        b"0\r\nA:b\r\nContent-Length: 1\r\nX_Forwarded_For: c\r\nD: \t e \r\nSET-COOKIE: f\r\ng:\r\n\r\nnext";
    let decoded = chunked(input);
    assert_eq!(decoded.trailers, b"A: b\r\nD: e\r\ng: \r\n");
    assert_eq!(decoded.consumed, Some(input.len() - b"next".len()));
    assert!(is_valid_trailers(&decoded.trailers));
    assert_eq!(chunked(b"0\r\nHost: a\r\n\r\n").trailers, b"");
}

#[test]
fn trailers_grow_to_their_limit_and_no_further() {
    let trailers = |bytes: usize| format!("A: {}\r\n", "b".repeat(bytes - "A: \r\n".len()));
    let longest = trailers(TRAILER_BYTES_MAX);
    assert_eq!(chunked(format!("0\r\n{longest}\r\n").as_bytes()).trailers, longest.as_bytes());
    assert!(is_valid_trailers(longest.as_bytes()));
    assert!(!is_valid_trailers(trailers(TRAILER_BYTES_MAX + 1).as_bytes()));
    // Without its space a line is shorter than what a link carries.
    let tight = longest.replace(": ", ":b");
    assert_eq!(chunked(format!("0\r\n{tight}\r\n").as_bytes()).violation, Some(Violation::Trailers));
}

#[test]
fn trailers_from_a_link_are_whole_field_lines() {
    for good in ["", "A: b\r\n", "A: b\r\nC:\r\n"] {
        assert!(is_valid_trailers(good.as_bytes()), "{good:?}");
    }
    for bad in [
        "\r\n",
        "A: b",
        "A: b\r\n\r\n",
        "A: b\r\n\r\nGET / HTTP/1.1\r\n",
        "A b: c\r\n",
        "A: b\n",
        "A: b\r\n ",
    ] {
        assert!(!is_valid_trailers(bad.as_bytes()), "{bad:?}");
    }
}

#[test]
fn what_is_sent_forever_is_refused_at_its_limit() {
    let refused_after = |start: &[u8], endless: &[u8]| {
        let mut decoder = Decoder::new(Framing::Chunked);
        let mut out = Vec::new();
        assert_eq!(decoder.decode(start, 0, &mut out), Ok(start.len()));
        let refused = endless.iter().cycle().position(|&byte| decoder.decode(&[byte], 0, &mut out).is_err());
        assert_eq!(out.capacity(), 0);
        refused.unwrap()
    };
    assert_eq!(refused_after(b"", b"0"), 16);
    assert_eq!(refused_after(b"1;", b"e"), CHUNK_EXTENSION_BYTES_MAX - 1);
    assert_eq!(refused_after(b"0\r\n", b"A"), TRAILER_BYTES_MAX + 1);
    assert_eq!(refused_after(b"0\r\nA: ", b"b"), TRAILER_BYTES_MAX + 1 - b"A: ".len());
    assert_eq!(refused_after(b"0\r\n", b"A: b\r\n"), HEAD_FIELDS_MAX * b"A: b\r\n".len());
}

#[test]
fn framing_needs_no_room() {
    let mut decoder = Decoder::new(Framing::Chunked);
    let mut out = Vec::new();
    assert_eq!(decoder.decode(b"1\r\na", 0, &mut out), Ok(3));
    assert_eq!(decoder.decode(b"a\r\n0\r\nA: b\r\n\r\n", 0, &mut out), Ok(0));
    assert_eq!(decoder.decode(b"a", 1, &mut out), Ok(1));
    assert_eq!(decoder.decode(b"\r\n0\r\nA: b\r\n\r\nnext", 0, &mut out), Ok(13));
    assert!(decoder.is_done());
    assert_eq!(decoder.decode(b"next", 9, &mut out), Ok(0));
    assert_eq!((&out[..], decoder.take_trailers()), (&b"a"[..], b"A: b\r\n".to_vec()));
}

#[test]
fn a_body_is_whole_at_its_length_and_at_nothing_less() {
    for framing in [Framing::Empty, Framing::Sized(0)] {
        let mut decoder = Decoder::new(framing);
        assert!(decoder.is_done());
        assert_eq!(decoder.decode(b"next", 9, &mut Vec::new()), Ok(0));
        assert_eq!(decoder.end_of_input(), Ok(()));
    }
    let whole = decode_whole(Framing::Sized(3), b"abcnext");
    assert_eq!((&whole.body[..], whole.consumed), (&b"abc"[..], Some(3)));
    for (framing, input) in [
        (Framing::Sized(3), &b"ab"[..]),
        (Framing::Chunked, b""),
        (Framing::Chunked, b"2\r\na"),
        (Framing::Chunked, b"1\r\na\r\n"),
        (Framing::Chunked, b"0\r\n"),
        (Framing::Chunked, b"0\r\nA: b\r\n"),
    ] {
        let mut decoder = Decoder::new(framing);
        assert_eq!(decoder.decode(input, 9, &mut Vec::new()), Ok(input.len()));
        assert_eq!(decoder.end_of_input(), Err(Violation::BodyIncomplete), "{input:?}");
        assert_eq!(decoder.take_trailers(), b"");
    }
}

#[test]
fn a_body_until_close_is_whole_when_the_connection_ends() {
    let mut decoder = Decoder::new(Framing::UntilClose);
    let mut out = Vec::new();
    assert_eq!(decoder.decode(b"abc", 2, &mut out), Ok(2));
    assert!(!decoder.is_done());
    assert_eq!((decoder.end_of_input(), decoder.is_done()), (Ok(()), true));
    assert_eq!(out, b"ab");
}

#[test]
fn a_response_is_framed_by_its_status_its_fields_and_the_method() {
    let sized = "Content-Length: 5\r\n";
    let coded = "Transfer-Encoding: chunked\r\n";
    for (method, status, fields, framing) in [
        ("GET", 200, sized, Framing::Sized(5)),
        ("GET", 200, coded, Framing::Chunked),
        ("GET", 200, "", Framing::UntilClose),
        ("POST", 404, "", Framing::UntilClose),
        ("HEAD", 200, sized, Framing::Empty),
        ("HEAD", 200, coded, Framing::Empty),
        ("head", 200, sized, Framing::Sized(5)),
        ("GET", 100, "", Framing::Empty),
        ("GET", 101, "", Framing::Empty),
        ("GET", 103, sized, Framing::Empty),
        ("GET", 204, sized, Framing::Empty),
        ("GET", 304, sized, Framing::Empty),
        ("GET", 205, "Content-Length: 0\r\n", Framing::Sized(0)),
    ] {
        let text = format!("HTTP/1.1 {status} X\r\n{fields}\r\n");
        let head = parse_response(text.as_bytes()).unwrap();
        assert_eq!(response_framing(&head, method.as_bytes()), Ok(framing), "{method} {status} {fields:?}");
    }
    let head = parse_response(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
    assert_eq!(response_framing(&head, b"GET"), Ok(Framing::UntilClose));
}

#[test]
fn an_encoder_keeps_a_body_to_its_length() {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(Framing::Sized(3));
    assert_eq!(encoder.encode(b"ab", &mut out), Ok(()));
    assert_eq!(encoder.finish(b"", &mut out), Err(WrongLength));
    assert_eq!(encoder.encode(b"cd", &mut out), Err(WrongLength));
    assert_eq!(encoder.encode(b"c", &mut out), Ok(()));
    assert_eq!(encoder.finish(b"A: b\r\n", &mut out), Ok(()));
    assert_eq!(out, b"abc");

    let mut encoder = Encoder::new(Framing::Empty);
    assert_eq!(encoder.encode(b"", &mut out), Ok(()));
    assert_eq!(encoder.encode(b"d", &mut out), Err(WrongLength));
    assert_eq!(encoder.finish(b"", &mut out), Ok(()));
    assert_eq!(out, b"abc");
}

#[test]
fn nothing_follows_the_end_of_a_body() {
    for framing in [Framing::Empty, Framing::Sized(0), Framing::Chunked, Framing::UntilClose] {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(framing);
        assert_eq!(encoder.finish(b"", &mut out), Ok(()));
        let ended = out.clone();
        assert_eq!(encoder.encode(b"a", &mut out), Err(WrongLength));
        assert_eq!(encoder.finish(b"", &mut out), Ok(()));
        assert_eq!(out, ended);
    }
}

#[test]
fn no_data_is_no_chunk() {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(Framing::Chunked);
    encoder.encode(b"", &mut out).unwrap();
    encoder.encode(&[b'a'; 26], &mut out).unwrap();
    encoder.finish(b"A: b\r\n", &mut out).unwrap();
    assert_eq!(out, [b"1a\r\n", &[b'a'; 26][..], b"\r\n0\r\nA: b\r\n\r\n"].concat());
}

/// The plainest reading of RFC 9112, 7.1, of input that is all there: body, rest. None if it is not whole or broken.
fn naive(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    fn line(rest: &[u8]) -> Option<(&str, &[u8])> {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(&rest[..end]).ok()?;
        (!line.contains(|c: char| c.is_control() && c != '\t')).then_some((line, &rest[end + 2..]))
    }
    let mut body = Vec::new();
    loop {
        let (size, after) = line(rest)?;
        let digits = size.split(';').next()?;
        let digits = if size.contains(';') { digits.trim_end_matches([' ', '\t']) } else { digits };
        if digits.len() > 16 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let size = u64::from_str_radix(digits, 16).ok()? as usize;
        rest = after;
        if size == 0 {
            break;
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest[size..].strip_prefix(b"\r\n")?;
    }
    loop {
        let (field, after) = line(rest)?;
        rest = after;
        if field.is_empty() {
            return Some((body, rest));
        }
        let name = field.split_once(':')?.0;
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) || name.is_empty() {
            return None;
        }
    }
}

/// Text near enough to chunks that both sides of each rule are met.
fn near_chunks() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "3\r\nabc\r\n",
        "1\r\n!\r\n",
        "00a;x=y\r\n0123456789\r\n",
        "2 ;x\r\nab\r\n",
        "0\r\n",
        "0\r\n\r\n",
        "\r\n",
        "A: b\r\n",
        "A:\r\n",
        "0",
        "1",
        "f",
        ";x",
        " ",
        "\r",
        "\n",
        "a",
        "\t",
        "fffffffffffffffff",
        ":",
    ];
    let piece = select(pieces.to_vec());
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat().into_bytes())
}

fn steps() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..9, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_split_and_any_room_decode_to_the_same(
        input in prop_oneof![
            near_chunks(),
            near_chunks().prop_map(|chunks| [&chunks[..], b"0\r\nA: b\r\nHost: c\r\n\r\nnext"].concat()),
            prop::collection::vec(any::<u8>(), 0..100),
        ],
        framing in prop_oneof![
            6 => Just(Framing::Chunked),
            1 => (0u64..20).prop_map(Framing::Sized),
            1 => Just(Framing::UntilClose),
            1 => Just(Framing::Empty),
        ],
        steps in steps(),
        rooms in prop::collection::vec(0usize..9, 1..6),
    ) {
        let rooms = [&rooms[..], &[1]].concat();
        let whole = decode_whole(framing, &input);
        prop_assert_eq!(&decode(framing, &input, &[1], &[usize::MAX]), &whole);
        prop_assert_eq!(&decode(framing, &input, &[1], &[1]), &whole);
        prop_assert_eq!(&decode(framing, &input, &steps, &rooms), &whole);
        prop_assert_eq!(&decode(framing, &input, &[usize::MAX], &rooms), &whole);
    }

    #[test]
    fn a_naive_decoder_comes_to_the_same(input in near_chunks()) {
        let decoded = chunked(&input);
        match naive(&input) {
            Some((body, rest)) => {
                prop_assert_eq!(decoded.consumed, Some(input.len() - rest.len()));
                prop_assert_eq!(decoded.body, body);
            }
            None => prop_assert_eq!(decoded.consumed, None),
        }
    }

    #[test]
    fn what_was_encoded_decodes_to_itself(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..6),
        fields in prop::collection::vec(("X-[a-z]{1,4}", "[!-~]{0,9}"), 0..4),
        steps in steps(),
        rooms in steps(),
    ) {
        let trailers: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        prop_assert!(is_valid_trailers(trailers.as_bytes()));
        let body = pieces.concat();
        for framing in [Framing::Chunked, Framing::Sized(body.len() as u64), Framing::UntilClose] {
            let mut encoder = Encoder::new(framing);
            let mut wire = Vec::new();
            for piece in &pieces {
                encoder.encode(piece, &mut wire).unwrap();
            }
            encoder.finish(trailers.as_bytes(), &mut wire).unwrap();
            let decoded = decode(framing, &wire, &steps, &rooms);
            prop_assert_eq!(decoded.violation, None);
            prop_assert_eq!(&decoded.body, &body);
            prop_assert_eq!(decoded.consumed, (framing != Framing::UntilClose).then_some(wire.len()));
            let expected = if framing == Framing::Chunked { trailers.as_bytes() } else { b"" };
            prop_assert_eq!(decoded.trailers, expected);
        }
    }

    #[test]
    fn whatever_is_valid_as_trailers_decodes_as_trailers(text in near_chunks()) {
        let decoded = chunked(&[b"0\r\n", &text[..], b"\r\n"].concat());
        let is_all = decoded.consumed == Some(b"0\r\n\r\n".len() + text.len());
        prop_assert_eq!(is_valid_trailers(&text), is_all);
    }
}
