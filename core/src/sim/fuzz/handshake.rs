//! Joining, between a hostile connector and a gateway, and between a connector and a hostile gateway.
//!
//! Two real joins, and the two answers to them, are changed: bytes, lines, and lines of the one in the other. They may
//! still count, for not all of a head is signed (a proxy adds fields); but only with what was signed for one of them.
//! ```text
//! who │ clock's offset │ which join │ changes: kind, line, place, bytes …
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, OnceLock};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::input::Input;
use crate::auth::Doorman;
use crate::http1::body::{Framing, response_framing};
use crate::http1::head::{HeadKind, HeadScan, parse_request, parse_response};
use crate::limits::CLOCK_SKEW_SECS_MAX;
use crate::link::handshake::{JoinAttempt, JoinOutcome, LinkKeys, Refusal, Verdict, is_join, verify};
use crate::secret::Keys;
use crate::sim::world::test_keys;
use crate::time::{Instant, Now, UnixSecs};

const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const SIGNED_AT: u64 = 1_767_225_600;
const CHANGES_MAX: usize = 8;

/// Joins with heads, and judges answers, that were changed on the way.
pub fn handshake(data: &[u8]) {
    let mut input = Input::new(data);
    if input.coin() { judge_an_answer(input) } else { verify_a_join(input) }
}

/// The keys of the circle, and those of somebody with the secret and another PIN.
fn keys() -> (Keys, Keys) {
    (test_keys("a secret of this world", "K3 2P QX"), test_keys("a secret of this world", "AAAA AA"))
}

/// One of two joins, the same each time.
fn attempt(which: usize) -> (JoinAttempt, Vec<u8>) {
    let mut rng = ChaCha20Rng::seed_from_u64(which as u64);
    JoinAttempt::new(&keys().0, UnixSecs(SIGNED_AT), "gateway.example", "", &mut rng)
}

/// A join, and what a gateway answers to it.
struct Original {
    join: Vec<u8>,
    answer: Vec<u8>,
    keys: Box<LinkKeys>,
}

fn originals() -> &'static [Original; 2] {
    static ORIGINALS: OnceLock<[Original; 2]> = OnceLock::new();
    ORIGINALS.get_or_init(|| {
        [0, 1].map(|which| {
            let join = attempt(which).1;
            let verdict = verdict(&join, &keys().0, SIGNED_AT, &Mutex::default());
            let Some(Verdict::Accepted(accepted)) = verdict else { panic!("a right join is accepted") };
            let (answer, keys) = accepted.into_parts();
            Original { join, answer, keys }
        })
    })
}

/// What a gateway with these keys says; none if the head is none, or no join.
fn verdict(head: &[u8], keys: &Keys, unix: u64, doorman: &Mutex<Doorman>) -> Option<Verdict> {
    let head = parse_request(head).ok().filter(is_join)?;
    let now = Now { mono: Instant::default(), unix: UnixSecs(unix) };
    Some(verify(&head, keys, now, FROM, doorman, &mut ChaCha20Rng::seed_from_u64(9)))
}

fn verify_a_join(mut input: Input<'_>) {
    let offset = i64::from(input.byte() as i8);
    let now = SIGNED_AT.saturating_add_signed(offset);
    let which = input.below(2);
    let originals = originals();
    let head = changed(&originals[which].join, &originals[1 - which].join, input);
    let (right, wrong) = keys();
    let with_another_pin = verdict(&head, &wrong, now, &Mutex::default());
    assert!(!matches!(with_another_pin, Some(Verdict::Accepted(_))), "nobody joins with another PIN");

    let doorman = Mutex::default();
    let Some(verdict_of_first) = verdict(&head, &right, now, &doorman) else {
        return assert_ne!(head, originals[which].join);
    };
    match verdict_of_first {
        Verdict::Accepted(accepted) => {
            assert!(offset.unsigned_abs() <= CLOCK_SKEW_SECS_MAX, "in time");
            let signed =
                originals.iter().position(|original| signed_parts(&head) == signed_parts(&original.join));
            let signed = signed.expect("only what was signed for one join is accepted");
            let again = verdict(&head, &right, now, &doorman);
            let refused = matches!(again, Some(Verdict::Refused { refusal: Refusal::Replay, .. }));
            assert!(refused, "no join counts twice");
            let (answer, keys) = accepted.into_parts();
            check_answer(&answer);
            let answer = parse_response(&answer).expect("an answer is a head");
            match attempt(signed).0.judge(&answer) {
                JoinOutcome::Joined(joined) => assert!(same(&joined, &keys), "both have the same keys"),
                // The WebSocket key is not signed: who changes it only breaks the upgrade.
                outcome => {
                    assert!(matches!(outcome, JoinOutcome::Impostor) && head != originals[signed].join)
                }
            }
        }
        Verdict::Refused { response, refusal } => {
            check_answer(&response);
            assert!(head != originals[which].join || refusal == Refusal::Clock);
        }
        Verdict::UpgradeRequired { response, .. } => {
            check_answer(&response);
            assert_ne!(head, originals[which].join);
        }
    }
}

/// What of a join is signed, as it was written.
fn signed_parts(head: &[u8]) -> Option<[Vec<u8>; 3]> {
    let head = parse_request(head).ok()?;
    let only = |name| {
        let mut values = head.all(name);
        values.next().filter(|_| values.next().is_none()).map(<[u8]>::to_vec)
    };
    let scheme = b"gesher".len();
    let credentials = only("authorization")?.get(scheme..)?.trim_ascii().to_vec();
    Some([credentials, only("x-join-code")?, only("gesher-seal")?])
}

/// A whole response and nothing behind it.
fn check_answer(answer: &[u8]) {
    let end = HeadScan::default().find(answer, HeadKind::Response).ok().flatten().expect("a head");
    let head = parse_response(&answer[..end]).expect("a well-formed one");
    let body = (answer.len() - end) as u64;
    let expected = if head.status == 101 { Framing::Empty } else { Framing::Sized(body) };
    assert_eq!(response_framing(&head, b"GET"), Ok(expected));
}

fn judge_an_answer(mut input: Input<'_>) {
    let which = input.below(2);
    let originals = originals();
    let Original { answer, keys, .. } = &originals[which];
    let given = changed(answer, &originals[1 - which].answer, input);
    let Ok(head) = parse_response(&given) else { return assert_ne!(&given, answer) };
    match attempt(which).0.judge(&head) {
        JoinOutcome::Joined(joined) => {
            let original = parse_response(answer).expect("an answer is a head");
            for name in ["gesher-accept", "gesher-seal", "sec-websocket-accept"] {
                assert!(head.all(name).eq(original.all(name)), "{name} is that of this join");
            }
            assert!(head.status == 101 && same(&joined, keys), "both have the same keys");
        }
        _ => assert_ne!(&given, answer),
    }
}

fn same(a: &LinkKeys, b: &LinkKeys) -> bool {
    (a.c2g.0, a.g2c.0) == (b.c2g.0, b.g2c.0)
}

/// A head after some changes, with lines of another one.
fn changed(original: &[u8], other: &[u8], mut input: Input<'_>) -> Vec<u8> {
    let lines_of = |head: &[u8]| -> Vec<Vec<u8>> {
        let text = head.strip_suffix(b"\r\n\r\n").unwrap_or(head);
        text.split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec())
            .collect()
    };
    let (mut lines, others) = (lines_of(original), lines_of(other));
    for _ in 0..CHANGES_MAX {
        if input.is_empty() {
            break;
        }
        let kind = input.below(9);
        let number = input.below(lines.len());
        let place = input.below(lines[number].len() + 1);
        let line = &mut lines[number];
        match kind {
            0 if place < line.len() => line[place] ^= input.byte().max(1),
            1 => _ = line.splice(place..place, input.bytes().iter().copied()),
            2 => _ = line.drain(place..(place + input.below(8)).min(line.len())),
            3 if place < line.len() => line[place] ^= 0x20,
            4 => *line = others[number % others.len()].clone(),
            5 => *line = input.bytes().to_vec(),
            6 => {
                let again = line.clone();
                lines.push(again);
            }
            7 if number > 0 => _ = lines.remove(number),
            8 => lines.push(input.bytes().to_vec()),
            _ => {}
        }
    }
    [&lines.join(&b"\r\n"[..])[..], b"\r\n\r\n"].concat()
}
