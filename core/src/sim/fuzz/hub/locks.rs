//! What a gateway remembers of joins.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::super::input::Input;
use crate::auth::lockout::{Buckets, Guesses, Lockouts, Source};
use crate::auth::replay::{ReplayTable, Unfresh};
use crate::limits::{
    CLOCK_SKEW_SECS_MAX, GUESSES_MAX, GUESSES_WINDOW, JOIN_BURST, JOIN_REFILL, LOCKOUT_FAILURES,
    LOCKOUT_TIME, LOCKOUT_WINDOW,
};
use crate::time::{Instant, Now, UnixSecs};

const START: u64 = 1_767_225_600;

/// Moves a clock on, by anything from nothing to some minutes.
fn pass(now: &mut Instant, input: &mut Input<'_>) {
    let step = u64::from(input.byte());
    *now = *now + Duration::from_millis(step * step * 20);
}

/// No signature counts twice, whatever the civil clock does.
pub(super) fn signatures(mut input: Input<'_>) {
    let places = input.below(16) + 1;
    let mut table = ReplayTable::with_places(places);
    let mut seen = BTreeSet::new();
    let (mut mono, mut before) = (Instant::default(), UnixSecs(0));
    while !input.is_empty() {
        pass(&mut mono, &mut input);
        let skew = i64::from(input.byte() as i8) * 3;
        let unix = UnixSecs((START + mono.since_origin().as_secs()).saturating_add_signed(skew));
        let now = Now { mono, unix };
        let clock = table.clock(now);
        assert!(clock >= before && clock >= unix, "it never goes back");
        before = clock;
        let time = UnixSecs(clock.0.saturating_add_signed(i64::from(input.byte() as i8)));
        let signature = [input.byte() % 4; 32];
        let is_past = |time: UnixSecs| time.0 + CLOCK_SKEW_SECS_MAX < clock.0;
        let live = seen.iter().filter(|(time, _)| !is_past(*time)).count();
        let expected = match () {
            () if is_past(time) || seen.contains(&(time, signature)) => Err(Unfresh::Seen),
            () if live >= places => Err(Unfresh::Full),
            () => Ok(()),
        };
        assert_eq!(table.check_and_insert(time, &signature, now), expected);
        if expected.is_ok() {
            seen.insert((time, signature));
        }
    }
}

/// Four hosts: two of one network, one of another, and one with an IPv6 address.
fn source(input: &mut Input<'_>) -> (usize, Source) {
    let addresses = [[192, 0, 2, 1], [192, 0, 2, 2], [198, 51, 100, 3]].map(IpAddr::from);
    let v6 = IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, u16::from(input.byte())]);
    let which = input.below(4);
    (which, addresses.get(which).copied().unwrap_or(v6).into())
}

/// Whoever fails five times within two minutes is locked out for ten; with room for everyone, nobody else is. After
/// sixty failures within a minute only those may join who have proved the PIN, as far as there was room to note them.
pub(super) fn lockouts(mut input: Input<'_>) {
    let places = input.below(6);
    let mut lockouts = Lockouts::with_places(places);
    let mut failures: [Vec<Instant>; 4] = Default::default();
    let mut closed_until = [Instant::default(); 4];
    let (mut guesses, mut guessed) = (Guesses::with_places(places), Vec::new());
    let mut proved: Vec<Source> = Vec::new();
    let mut now = Instant::default();
    while !input.is_empty() {
        pass(&mut now, &mut input);
        let (which, from) = source(&mut input);
        guessed.retain(|at| now.since(*at) < GUESSES_WINDOW);
        let is_open = guessed.len() < GUESSES_MAX || proved.contains(&from);
        assert_eq!(guesses.closed_for(from, now).is_none(), is_open);
        if which == 3 && input.coin() {
            guesses.proved(from);
            if proved.len() < places && !proved.contains(&from) {
                proved.push(from);
            }
        }
        guesses.failed(now);
        guessed.push(now);
        let closed = closed_until[which] > now;
        let found = lockouts.closed_for(from, now);
        if places >= 4 {
            assert_eq!(found, closed.then(|| closed_until[which].since(now)));
        }
        assert!(found.is_some() || !closed, "nobody shakes off his own failures");
        lockouts.failed(from, now);
        if found.is_some() {
            continue;
        }
        failures[which].retain(|at| now.since(*at) < LOCKOUT_WINDOW);
        failures[which].push(now);
        if failures[which].len() >= LOCKOUT_FAILURES as usize {
            failures[which].clear();
            closed_until[which] = now + LOCKOUT_TIME;
            assert!(lockouts.closed_for(from, now).is_some());
        }
    }
}

/// Ten tokens, and one more every six seconds; who shares a bucket has no more than that.
pub(super) fn buckets(mut input: Input<'_>) {
    let full = JOIN_REFILL * JOIN_BURST;
    let places = input.below(6);
    let mut buckets = Buckets::with_places(places);
    // What is in each bucket, in the time that it takes to come.
    let mut level = [full; 4];
    let mut now = Instant::default();
    while !input.is_empty() {
        let before = now;
        pass(&mut now, &mut input);
        level.iter_mut().for_each(|level| *level = full.min(*level + now.since(before)));
        let (which, from) = source(&mut input);
        let taken = buckets.take(from, now);
        if places >= 4 {
            let wait = JOIN_REFILL.saturating_sub(level[which]);
            assert_eq!(taken, if wait.is_zero() { Ok(()) } else { Err(wait) });
        }
        assert!(taken.is_err() || level[which] >= JOIN_REFILL, "no more than there are");
        if taken.is_ok() {
            level[which] -= JOIN_REFILL;
        }
    }
}
