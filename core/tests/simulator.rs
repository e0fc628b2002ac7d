//! Whole deployments in a bad world, from seeds: see docs/simulation.md.
//!
//! ```text
//! GESHER_SEED=7 cargo test -p gesher-core --test simulator -- --nocapture          one seed, and its figures
//! GESHER_SEED=7 GESHER_SEEDS=9 cargo test …                                        nine, from that one on
//! GESHER_SEEDS=20000 cargo test --release -p gesher-core --test simulator          as many as one likes
//! ```

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "which seeds run is asked, and what they saw is told"
)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gesher_core::sim::chaos::{Seen, simulate};

/// How many seeds run unless it is said otherwise.
const SEEDS: u64 = 600;

/// What the seeds that run by default must have seen together, each at least this often.
const TIMES: u64 = 3;
const MUST_SEE: [(&str, &[&str]); 9] = [
    (
        "frame ",
        &[
            "HELLO", "REQUEST", "RESPONSE", "DATA", "END", "RESET", "WINDOW", "PING", "PONG", "GOAWAY",
            "PEERS?", "PEERS", "STATS?", "STATS",
        ],
    ),
    // What times out is a dial of a connector that is not ours: a rogue says it.
    ("reset ", &["cancelled", "refused", "target unreachable", "protocol error", "internal"]),
    ("rogue answers: ", &["TimesOut", "FailsInside", "WrongLength"]),
    ("answer ", &["400", "405", "408", "413", "414", "417", "431", "501", "502", "503", "504", "505", "508"]),
    ("join refused: ", &["secret", "clock", "replay", "pin", "rate", "locked", "seal"]),
    ("retry: ", &["on another connector", "delivered again", "forbidden", "nobody left"]),
    (
        "close ",
        &[
            "4000", "4001", "4002", "4003", "4004", "4005", "4006", "4007", "4008", "4009", "4010", "4011",
            "4012", "4013", "4014", "4015",
        ],
    ),
    (
        "trouble: ",
        &[
            "a clock steps",
            "a connector goes on",
            "a connector is drained",
            "a connector is frozen",
            "a connector is killed",
            "a join is replayed",
            "a link is throttled",
            "a link is throttled to a trickle",
            "a link: clog",
            "a link: cut",
            "a link: drop",
            "a link: flip",
            "a link: forget",
            "a link: reorder",
            "a link: repeat",
            "a link: reset",
            "a rogue joins",
            "a visitor is throttled",
            "a visitor is throttled to a trickle",
            "a visitor leaves",
            "a visitor sends no more after a request",
            "a visitor sends no more inside a request",
            "a visitor's connection clogs",
            "a visitor's connection is reset",
            "an app cannot be reached",
            "an app is down",
            "an app is throttled",
            "an app is throttled to a trickle",
            "an app takes long to accept",
            "an app's connections are reset",
            "an app's connections clog",
            "another PIN",
            "the gateway can be reached",
            "the gateway cannot be reached",
            "the gateway is drained",
            "the gateway is frozen",
            "the gateway is killed",
            "the gateway's clock steps",
            "wrong PINs",
            "wrong secrets",
        ],
    ),
    (
        "",
        &[
            "app half-closing",
            "app's connection closes",
            "app's connection half-closes",
            "app's connection resets",
            "app's connection waits",
            "app's connection waits for idle",
            "app's connection waits for send",
            "app's connection waits, reads nothing",
            "connector that joins waits for hello",
            "connector's link waits for hello",
            "connector's link waits for linger",
            "connector's link waits for ping",
            "connector's link waits for silence",
            "cut: half an answer",
            "cut: no answer",
            "gateway's link waits for hello",
            "gateway's link waits for linger",
            "gateway's link waits for peers",
            "gateway's link waits for ping",
            "gateway's link waits for silence",
            "disconnected: Dial(TimedOut)",
            "gave up: pin",
            "gave up: secret",
            "a visitor that sends no more is taken for gone",
            "interim 100",
            "interim 103",
            "joined in place of its ghost",
            "left: a newer link took its place",
            "left: a record does not verify",
            "left: a record is repeated, missing or out of order",
            "left: goodbye",
            "left: nothing arrived for 25 s",
            "left: the connection was lost",
            "no upgrade: connection",
            "supervisor closes",
            "supervisor waits for dial, reads nothing",
            "supervisor waits for sleep, reads nothing",
            "supervisor waits, reads nothing",
            "target down: no answer in time",
            "tunnel ended",
            "visitor's connection closes",
            "visitor's connection half-closes",
            "visitor's connection resets",
            "visitor's connection waits",
            "visitor's connection waits for body",
            "visitor's connection waits for gone, reads nothing",
            "visitor's connection waits for head",
            "visitor's connection waits for idle",
            "visitor's connection waits for linger",
            "visitor's connection waits for response",
            "visitor's connection waits for send",
        ],
    ),
];

/// A number that the environment gives.
fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number of seeds, or a seed"))
}

fn what_happened(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

/// What came of many seeds.
#[derive(Default)]
struct Sum {
    seen: Seen,
    took: Duration,
    /// Of all transcripts, in any order.
    hash: u64,
    failed: Vec<(u64, String)>,
}

#[test]
fn whatever_a_seed_draws_everyone_gets_what_is_right_or_can_tell() {
    let first = asked("GESHER_SEED");
    let count = asked("GESHER_SEEDS").unwrap_or(if first.is_some() { 1 } else { SEEDS });
    let first = first.unwrap_or(0);
    let next = AtomicU64::new(first);
    let sum = Mutex::new(Sum::default());
    let threads = std::thread::available_parallelism().map_or(2, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || !sum.lock().unwrap().failed.is_empty() {
                        return;
                    }
                    let outcome = catch_unwind(AssertUnwindSafe(|| simulate(seed)));
                    let mut sum = sum.lock().unwrap();
                    match outcome {
                        Ok(outcome) => {
                            sum.seen.add(&outcome.seen);
                            sum.took += outcome.took;
                            sum.hash = sum.hash.wrapping_add(outcome.hash);
                        }
                        Err(panic) => sum.failed.push((seed, what_happened(&*panic).to_owned())),
                    }
                }
            });
        }
    });
    let Sum { seen, took, hash, failed } = sum.into_inner().unwrap();
    if let Some((seed, why)) = failed.first() {
        panic!(
            "seed {seed}: {why}\nagain: GESHER_SEED={seed} cargo test -p gesher-core --test simulator -- --nocapture"
        );
    }
    if first == 0 && count >= SEEDS {
        let all =
            MUST_SEE.iter().flat_map(|(kind, names)| names.iter().map(move |name| format!("{kind}{name}")));
        let rare: Vec<_> = all.filter(|what| seen.count(what) < TIMES).collect();
        assert!(rare.is_empty(), "{count} seeds saw these less than {TIMES} times: {rare:?}");
    }
    // It takes an app that sends too much and a connection that is used again in the same instant.
    let (taken, all) = (seen.count("an app's excess was an answer"), seen.count("app too-much"));
    assert!(taken <= 1 + all / 100, "{taken} answers were what an app had sent in excess, {all} times");
    let hours = took.as_secs_f64() / 3600.0;
    println!("{seen}{count} seeds, {hours:.1} virtual hours, transcripts {hash:016x}");
}

#[test]
fn the_same_seed_always_has_the_same_transcript() {
    for seed in [0, 1, 2, 3, 5, 8, 13, 21] {
        assert_eq!(simulate(seed), simulate(seed));
    }
}
