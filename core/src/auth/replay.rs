//! The memory of signatures: no join counts twice, whatever the gateway's clock does.
//!
//! ```text
//!        refused (clock)    │  acceptable: 30 s either way  │    refused (clock)
//! ──────────────────────────┼───────────────┼───────────────┼────────────────────▶ time signed
//!   forgotten: too old      │       the joining clock       │
//! ```
//! A signature is remembered until its time + [`limits::CLOCK_SKEW_SECS_MAX`] has passed on the *joining clock*, which
//! never goes back: what was forgotten stays too old for ever. When the table is full, joins are refused and nothing is
//! forgotten early.

use std::collections::BTreeSet;

use crate::limits;
use crate::time::{Instant, Now, UnixSecs};

/// How many forgotten signatures one call clears away: more than it adds, and few enough to hold a lock for.
const CLEARED_PER_CALL_MAX: usize = 32;

/// Remembers accepted signatures; at most [`limits::REPLAY_ENTRIES_MAX`].
#[derive(Debug)]
pub struct ReplayTable {
    /// In the order in which they may be forgotten.
    seen: BTreeSet<(UnixSecs, [u8; 32])>,
    clock: Clock,
    places: usize,
}

/// Why a signature does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfresh {
    /// It was seen before, or may have been seen and forgotten.
    Seen,
    /// There is no room to remember it.
    Full,
}

impl Default for ReplayTable {
    fn default() -> Self {
        Self::with_places(limits::REPLAY_ENTRIES_MAX)
    }
}

impl ReplayTable {
    /// Makes an empty table for this many signatures.
    pub fn with_places(places: usize) -> Self {
        Self { seen: BTreeSet::new(), clock: Clock::default(), places }
    }

    /// The joining clock: the civil clock while that goes forward. After it was set back, the highest time seen goes on
    /// at half speed until it has been caught up with: a small step heals by itself, and after a big one connectors
    /// can still join, by this clock's time, and signatures are still forgotten.
    pub fn clock(&mut self, now: Now) -> UnixSecs {
        self.clock.read(now)
    }

    /// Remembers a signature that verified, and `time`, which it signs.
    ///
    /// Returns [`Unfresh::Seen`] for a replay. The caller has checked that `time` is near [`Self::clock`]; if the clock
    /// has passed it since, the signature may have been forgotten already and counts as seen.
    pub fn check_and_insert(
        &mut self,
        time: UnixSecs,
        signature: &[u8; 32],
        now: Now,
    ) -> Result<(), Unfresh> {
        let clock = self.clock(now);
        self.forget(clock);
        if is_past(time, clock) || self.seen.contains(&(time, *signature)) {
            return Err(Unfresh::Seen);
        }
        if self.seen.len() >= self.places {
            return Err(Unfresh::Full);
        }
        self.seen.insert((time, *signature));
        Ok(())
    }

    fn forget(&mut self, clock: UnixSecs) {
        for _ in 0..CLEARED_PER_CALL_MAX {
            match self.seen.first() {
                Some((time, _)) if is_past(*time, clock) => self.seen.pop_first(),
                _ => break,
            };
        }
    }
}

/// Whether a join that signs `time` is too old by `clock`.
fn is_past(time: UnixSecs, clock: UnixSecs) -> bool {
    time.0.saturating_add(limits::CLOCK_SKEW_SECS_MAX) < clock.0
}

/// A civil clock that never goes back.
#[derive(Debug, Default)]
struct Clock {
    highest: UnixSecs,
    /// When the civil clock said so.
    at: Instant,
}

impl Clock {
    fn read(&mut self, now: Now) -> UnixSecs {
        let passed = now.mono.since(self.at).as_secs() / 2;
        let least = UnixSecs(self.highest.0.saturating_add(passed));
        if now.unix < least {
            return least;
        }
        *self = Self { highest: now.unix, at: now.mono };
        now.unix
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const START: u64 = 1_767_225_600;

    /// `secs` after the start, with a civil clock that is off by `off`.
    fn at_off(secs: u64, off: i64) -> Now {
        Now {
            mono: Instant::from_origin(Duration::from_secs(secs)),
            unix: UnixSecs((START + secs).saturating_add_signed(off)),
        }
    }

    fn at(secs: u64) -> Now {
        at_off(secs, 0)
    }

    #[test]
    fn a_signature_counts_once() {
        let mut table = ReplayTable::default();
        let time = UnixSecs(START);
        assert_eq!(table.check_and_insert(time, &[1; 32], at(0)), Ok(()));
        assert_eq!(table.check_and_insert(time, &[2; 32], at(0)), Ok(()));
        for secs in [0, 1, 30, 31, 60, 3600] {
            assert_eq!(table.check_and_insert(time, &[1; 32], at(secs)), Err(Unfresh::Seen), "{secs}");
        }
    }

    #[test]
    fn a_signature_from_a_clock_ahead_is_remembered_as_long_as_it_would_be_taken() {
        let mut table = ReplayTable::default();
        let time = UnixSecs(START + 30);
        assert_eq!(table.check_and_insert(time, &[1; 32], at(0)), Ok(()));
        assert_eq!(table.check_and_insert(time, &[1; 32], at(60)), Err(Unfresh::Seen));
        assert_eq!(table.seen.len(), 1);
        let _ = table.check_and_insert(UnixSecs(START + 61), &[2; 32], at(61));
        assert_eq!(table.seen.len(), 1, "forgotten once nobody would take it");
    }

    #[test]
    fn a_clock_set_back_revives_nothing() {
        let mut table = ReplayTable::default();
        let time = UnixSecs(START);
        assert_eq!(table.check_and_insert(time, &[1; 32], at(0)), Ok(()));
        table.check_and_insert(UnixSecs(START + 100), &[2; 32], at(100)).unwrap();
        assert_eq!(table.seen.len(), 1, "the first is forgotten");
        for back in [90, 100, 3600] {
            assert_eq!(
                table.check_and_insert(time, &[1; 32], at_off(101, -back)),
                Err(Unfresh::Seen),
                "{back}"
            );
        }
    }

    #[test]
    fn the_joining_clock_never_goes_back_and_never_stands_still() {
        let mut table = ReplayTable::default();
        assert_eq!(table.clock(at(10)), UnixSecs(START + 10));
        assert_eq!(table.clock(at_off(10, -3600)), UnixSecs(START + 10));
        assert_eq!(table.clock(at_off(110, -3600)), UnixSecs(START + 60), "half speed");
        assert_eq!(table.clock(at_off(8000, -3600)), UnixSecs(START + 4400), "caught up with");
        assert_eq!(table.clock(at(8000)), UnixSecs(START + 8000));
    }

    #[test]
    fn a_full_table_refuses_and_forgets_nothing_early() {
        let mut table = ReplayTable::with_places(3);
        for signature in 0..3 {
            table.check_and_insert(UnixSecs(START), &[signature; 32], at(0)).unwrap();
        }
        assert_eq!(table.check_and_insert(UnixSecs(START + 30), &[9; 32], at(30)), Err(Unfresh::Full));
        assert_eq!(table.check_and_insert(UnixSecs(START), &[0; 32], at(30)), Err(Unfresh::Seen));
        assert_eq!(table.check_and_insert(UnixSecs(START + 31), &[9; 32], at(31)), Ok(()));
    }

    #[test]
    fn one_call_clears_a_bounded_number() {
        let mut table = ReplayTable::default();
        for signature in 0..100 {
            table.check_and_insert(UnixSecs(START), &[signature; 32], at(0)).unwrap();
        }
        table.check_and_insert(UnixSecs(START + 99), &[0; 32], at(99)).unwrap();
        assert_eq!(table.seen.len(), 100 - CLEARED_PER_CALL_MAX + 1);
    }
}
