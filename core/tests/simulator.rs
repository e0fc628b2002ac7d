//! Whole deployments in a bad world, from seeds: see docs/simulation.md.
//!
//! ```text
//! GESHER_SEED=7 cargo test -p gesher-core --test simulator -- --nocapture          one seed, and its figures
//! GESHER_SEEDS=20000 cargo test --release -p gesher-core --test simulator          as many as one likes
//! ```

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gesher_core::sim::chaos::{Seen, simulate};

/// How many seeds run unless it is said otherwise.
const SEEDS: u64 = 400;

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
    failed: Vec<(u64, String)>,
}

#[test]
fn whatever_a_seed_draws_everyone_gets_what_is_right_or_can_tell() {
    let (first, count) = match (asked("GESHER_SEED"), asked("GESHER_SEEDS")) {
        (Some(seed), _) => (seed, 1),
        (None, count) => (0, count.unwrap_or(SEEDS)),
    };
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
                        }
                        Err(panic) => sum.failed.push((seed, what_happened(&*panic).to_owned())),
                    }
                }
            });
        }
    });
    let Sum { seen, took, failed } = sum.into_inner().unwrap();
    if let Some((seed, why)) = failed.first() {
        panic!(
            "seed {seed}: {why}\nagain: GESHER_SEED={seed} cargo test -p gesher-core --test simulator -- --nocapture"
        );
    }
    println!("{seen}{count} seeds, {:.1} virtual hours", took.as_secs_f64() / 3600.0);
}

#[test]
fn the_same_seed_always_has_the_same_transcript() {
    for seed in [0, 1, 2, 3, 5, 8, 13, 21] {
        assert_eq!(simulate(seed), simulate(seed));
    }
}
