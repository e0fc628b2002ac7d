//! Who may not join for a while: [`Lockouts`] after wrong PINs from one address, [`Guesses`] after many from everywhere;
//! and [`Buckets`], after which strangers are told to wait.
//!
//! Lockouts and buckets count by [`Source`] and are bounded, and neither lets anyone push another's entry out or shake off his own:
//! ```text
//! has the source an entry?  ──yes──▶ that one, until it lapses
//!           │ no
//! is there a live shared entry of its network, or is the table full?  ──yes──▶ the shared one
//!           │ no
//!           └──▶ a new entry
//! ```
//! Entries go only when they lapse. An attacker with addresses enough to fill a table shares one entry with the other
//! newcomers of *his* network; the rest of the world is in another one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::limits;
use crate::time::Instant;

/// How many lapsed entries one call clears away: more than it adds, and few enough to hold a lock for.
const CLEARED_PER_CALL_MAX: usize = 32;

/// Where joins come from: an IPv4 address, or the /64 of an IPv6 address, within which a host picks freely.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Source(IpAddr);

impl From<IpAddr> for Source {
    /// An IPv4 address is the same when written as an IPv6 one (`::ffff:192.0.2.1`).
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address => address,
        })
    }
}

impl Source {
    /// One of 256 groups of networks: an IPv4 /16 and an IPv6 /32, what one holder usually gets, are always in one.
    fn network(self) -> u8 {
        match self.0 {
            IpAddr::V4(address) => address.octets()[..2].iter().fold(0, |group, octet| group ^ octet),
            IpAddr::V6(address) => address.octets()[..4].iter().fold(0, |group, octet| group ^ octet),
        }
    }
}

/// Counts wrong proofs under right signatures: [`limits::LOCKOUT_FAILURES`] within [`limits::LOCKOUT_WINDOW`] close
/// joining to their source for [`limits::LOCKOUT_TIME`]. Only who has the secret can make one.
#[derive(Debug, Default)]
pub struct Lockouts {
    table: Table<Failures>,
}

#[derive(Debug)]
enum Failures {
    /// When they happened; fewer than [`limits::LOCKOUT_FAILURES`].
    Counted(Vec<Instant>),
    /// There were too many: closed until the entry lapses.
    Closed,
}

impl Default for Failures {
    fn default() -> Self {
        Failures::Counted(Vec::new())
    }
}

impl Lockouts {
    /// Makes an empty table for this many sources.
    pub fn with_places(places: usize) -> Self {
        Self { table: Table::with_places(places) }
    }

    /// For how much longer joining is closed to `from`; none if it is open.
    pub fn closed_for(&self, from: Source, now: Instant) -> Option<Duration> {
        match self.table.get(from, now) {
            Some(Entry { value: Failures::Closed, lapses_at }) => Some(lapses_at.since(now)),
            _ => None,
        }
    }

    /// Counts a wrong proof.
    pub fn failed(&mut self, from: Source, now: Instant) {
        self.table.update(from, now, |entry| {
            // Failing while closed does not prolong it.
            let Failures::Counted(failures) = &mut entry.value else { return };
            failures.retain(|at| now.since(*at) < limits::LOCKOUT_WINDOW);
            failures.push(now);
            if failures.len() < limits::LOCKOUT_FAILURES as usize {
                entry.lapses_at = now + limits::LOCKOUT_WINDOW;
            } else {
                *entry = Entry { value: Failures::Closed, lapses_at: now + limits::LOCKOUT_TIME };
            }
        });
    }
}

/// Counts wrong proofs from everywhere: after [`limits::GUESSES_MAX`] within [`limits::GUESSES_WINDOW`] only those who
/// have proved the PIN may join, until the first of them is that long ago.
#[derive(Debug)]
pub struct Guesses {
    /// When the latest wrong proofs came; at most [`limits::GUESSES_MAX`].
    latest: VecDeque<Instant>,
    /// Who has proved the PIN since the start. Entries never go: a source that finds it full counts as one that has not.
    proved: BTreeSet<Source>,
    places: usize,
}

impl Default for Guesses {
    fn default() -> Self {
        Self::with_places(limits::ADDRESSES_MAX)
    }
}

impl Guesses {
    /// Remembers at most this many sources.
    pub fn with_places(places: usize) -> Self {
        Self { latest: VecDeque::new(), proved: BTreeSet::new(), places }
    }

    /// For how much longer `from` may not join; none if it may.
    pub fn closed_for(&self, from: Source, now: Instant) -> Option<Duration> {
        if self.latest.len() < limits::GUESSES_MAX || self.proved.contains(&from) {
            return None;
        }
        let opens_at = *self.latest.front()? + limits::GUESSES_WINDOW;
        (now < opens_at).then(|| opens_at.since(now))
    }

    /// Counts a wrong proof.
    pub fn failed(&mut self, now: Instant) {
        if self.latest.len() >= limits::GUESSES_MAX {
            self.latest.pop_front();
        }
        self.latest.push_back(now);
    }

    /// Notes that `from` has proved the PIN.
    pub fn proved(&mut self, from: Source) {
        if self.proved.len() < self.places {
            self.proved.insert(from);
        }
    }
}

/// A bucket of [`limits::JOIN_BURST`] tokens for each source; one comes back every [`limits::JOIN_REFILL`].
///
/// A bucket is nothing but the time at which it will be full again, which is when its entry lapses.
#[derive(Debug, Default)]
pub struct Buckets {
    table: Table<()>,
}

impl Buckets {
    /// Makes an empty table for this many sources.
    pub fn with_places(places: usize) -> Self {
        Self { table: Table::with_places(places) }
    }

    /// Takes a token, or says how long it takes until there is one.
    pub fn take(&mut self, from: Source, now: Instant) -> Result<(), Duration> {
        let full_in = self.table.get(from, now).map_or(Duration::ZERO, |entry| entry.lapses_at.since(now));
        let wait = (full_in + limits::JOIN_REFILL).saturating_sub(limits::JOIN_REFILL * limits::JOIN_BURST);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.table.update(from, now, |entry| {
            entry.lapses_at = entry.lapses_at.max(now) + limits::JOIN_REFILL;
        });
        Ok(())
    }
}

/// Entries by source, at most `places`, and a shared one for each group of networks.
#[derive(Debug)]
struct Table<V> {
    own: BTreeMap<Source, Entry<V>>,
    /// The sources in `own` in the order in which their entries lapse.
    lapses: BTreeSet<(Instant, Source)>,
    shared: BTreeMap<u8, Entry<V>>,
    places: usize,
}

#[derive(Debug, Default)]
struct Entry<V> {
    value: V,
    lapses_at: Instant,
}

impl<V> Entry<V> {
    fn is_live(&self, now: Instant) -> bool {
        now < self.lapses_at
    }
}

impl<V: Default> Default for Table<V> {
    fn default() -> Self {
        Self::with_places(limits::ADDRESSES_MAX)
    }
}

impl<V: Default> Table<V> {
    fn with_places(places: usize) -> Self {
        Self { own: BTreeMap::new(), lapses: BTreeSet::new(), shared: BTreeMap::new(), places }
    }

    /// The live entry that counts for `from`.
    fn get(&self, from: Source, now: Instant) -> Option<&Entry<V>> {
        let own = self.own.get(&from).filter(|entry| entry.is_live(now));
        own.or_else(|| self.shared.get(&from.network()).filter(|entry| entry.is_live(now)))
    }

    /// Changes the entry that counts for `from`, a fresh one if there is none.
    fn update(&mut self, from: Source, now: Instant, change: impl FnOnce(&mut Entry<V>)) {
        self.clear_lapsed(now);
        if self.shares(from, now) {
            let entry = self.shared.entry(from.network()).or_default();
            if !entry.is_live(now) {
                *entry = Entry::default();
            }
            change(entry);
            return;
        }
        let old = self.own.remove(&from);
        if let Some(entry) = &old {
            self.lapses.remove(&(entry.lapses_at, from));
        }
        let mut entry = old.filter(|entry| entry.is_live(now)).unwrap_or_default();
        change(&mut entry);
        if entry.is_live(now) {
            self.lapses.insert((entry.lapses_at, from));
            self.own.insert(from, entry);
        }
    }

    fn shares(&self, from: Source, now: Instant) -> bool {
        let full = self.own.len() >= self.places;
        !self.own.contains_key(&from)
            && (full || self.shared.get(&from.network()).is_some_and(|entry| entry.is_live(now)))
    }

    fn clear_lapsed(&mut self, now: Instant) {
        for _ in 0..CLEARED_PER_CALL_MAX {
            match self.lapses.first().copied() {
                Some((lapses_at, from)) if lapses_at <= now => {
                    self.lapses.pop_first();
                    self.own.remove(&from);
                }
                _ => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        address.parse::<IpAddr>().unwrap().into()
    }

    fn at(millis: u64) -> Instant {
        Instant::from_origin(Duration::from_millis(millis))
    }

    fn fail(lockouts: &mut Lockouts, from: Source, times: u32, now: Instant) {
        (0..times).for_each(|_| lockouts.failed(from, now));
    }

    #[test]
    fn five_failures_within_two_minutes_close_joining_for_ten() {
        let (mut lockouts, from) = (Lockouts::default(), source("192.0.2.1"));
        for secs in [0, 30, 60, 90] {
            lockouts.failed(from, at(secs * 1000));
            assert_eq!(lockouts.closed_for(from, at(secs * 1000)), None);
        }
        lockouts.failed(from, at(119_999));
        assert_eq!(lockouts.closed_for(from, at(119_999)), Some(limits::LOCKOUT_TIME));
        assert_eq!(lockouts.closed_for(source("192.0.2.2"), at(119_999)), None, "a neighbour");
        assert_eq!(lockouts.closed_for(from, at(719_998)), Some(Duration::from_millis(1)));
        assert_eq!(lockouts.closed_for(from, at(719_999)), None);
        fail(&mut lockouts, from, 4, at(720_000));
        assert_eq!(lockouts.closed_for(from, at(720_000)), None, "counting starts anew");
    }

    #[test]
    fn failures_two_minutes_apart_do_not_add_up() {
        let (mut lockouts, from) = (Lockouts::default(), source("192.0.2.1"));
        for minute in 0..100 {
            lockouts.failed(from, at(minute * 30_000));
            assert_eq!(lockouts.closed_for(from, at(minute * 30_000)), None, "minute {minute}");
        }
    }

    #[test]
    fn failing_while_closed_prolongs_nothing() {
        let (mut lockouts, from) = (Lockouts::default(), source("192.0.2.1"));
        fail(&mut lockouts, from, 5, at(0));
        fail(&mut lockouts, from, 5, at(300_000));
        assert_eq!(lockouts.closed_for(from, at(600_000)), None);
    }

    #[test]
    fn a_v6_host_cannot_leave_its_64_nor_a_v4_host_its_address() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }

    #[test]
    fn ten_tokens_in_a_burst_and_one_more_every_six_seconds() {
        let (mut buckets, from) = (Buckets::default(), source("192.0.2.1"));
        for _ in 0..10 {
            assert_eq!(buckets.take(from, at(0)), Ok(()));
        }
        assert_eq!(buckets.take(from, at(0)), Err(Duration::from_secs(6)));
        assert_eq!(buckets.take(source("192.0.2.2"), at(0)), Ok(()), "a neighbour");
        assert_eq!(buckets.take(from, at(5_999)), Err(Duration::from_millis(1)));
        assert_eq!(buckets.take(from, at(6_000)), Ok(()));
        assert_eq!(buckets.take(from, at(6_000)), Err(Duration::from_secs(6)));
        let tokens = (0..99).take_while(|_| buckets.take(from, at(600_000)).is_ok()).count();
        assert_eq!(tokens, 10, "a bucket holds no more");
    }

    #[test]
    fn sixty_guesses_within_a_minute_leave_joining_to_those_who_proved_the_pin() {
        let mut guesses = Guesses::default();
        let (known, stranger) = (source("192.0.2.1"), source("192.0.2.2"));
        guesses.proved(known);
        for guess in 0..60 {
            assert_eq!(guesses.closed_for(stranger, at(guess * 1000)), None, "{guess}");
            guesses.failed(at(guess * 1000));
        }
        assert_eq!(guesses.closed_for(stranger, at(59_000)), Some(Duration::from_secs(1)));
        assert_eq!(guesses.closed_for(known, at(59_000)), None);
        assert_eq!(guesses.closed_for(stranger, at(59_999)), Some(Duration::from_millis(1)));
        assert_eq!(guesses.closed_for(stranger, at(60_000)), None);
        guesses.failed(at(60_000));
        assert_eq!(guesses.closed_for(stranger, at(60_000)), Some(Duration::from_secs(1)), "in any minute");
        assert_eq!(guesses.latest.len(), limits::GUESSES_MAX);
    }

    #[test]
    fn who_proved_the_pin_is_not_pushed_out_by_others_who_did() {
        let mut guesses = Guesses::with_places(2);
        for host in 1..=9 {
            guesses.proved(source(&format!("192.0.2.{host}")));
        }
        (0..60).for_each(|_| guesses.failed(at(0)));
        let may_join = |host: &u8| guesses.closed_for(source(&format!("192.0.2.{host}")), at(0)).is_none();
        assert_eq!((1..=9).filter(may_join).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_full_table_pushes_nobody_out_and_frees_nobody() {
        let mut lockouts = Lockouts::with_places(100);
        let (neighbour, attacker) = (source("198.51.100.1"), source("2001:db8::"));
        fail(&mut lockouts, neighbour, 5, at(0));
        fail(&mut lockouts, attacker, 5, at(0));
        for subnet in 1..1000 {
            fail(&mut lockouts, source(&format!("2001:db8:{subnet:x}::")), 4, at(1));
        }
        assert!(lockouts.table.own.len() <= 100 && lockouts.table.shared.len() == 1);
        for locked in [neighbour, attacker] {
            assert!(lockouts.closed_for(locked, at(599_999)).is_some(), "{locked:?}");
        }
        assert!(
            lockouts.closed_for(source("2001:db8:ffff::"), at(1)).is_some(),
            "the attacker's newcomers share"
        );
        assert_eq!(lockouts.closed_for(source("203.0.113.1"), at(1)), None, "another network's don't");
    }

    #[test]
    fn room_in_the_table_frees_nobody_from_a_shared_lockout() {
        let mut lockouts = Lockouts::with_places(1);
        fail(&mut lockouts, source("192.0.2.1"), 1, at(0));
        fail(&mut lockouts, source("192.0.2.2"), 5, at(0));
        // The one entry has lapsed; the shared lockout has not.
        fail(&mut lockouts, source("198.51.100.1"), 1, at(130_000));
        assert!(lockouts.closed_for(source("192.0.2.2"), at(130_000)).is_some());
        assert_eq!(lockouts.closed_for(source("192.0.2.2"), at(600_000)), None);
    }

    #[test]
    fn a_full_table_of_buckets_stops_only_the_network_that_filled_it() {
        let mut buckets = Buckets::with_places(100);
        let subnets = || (0..1000).map(|subnet| source(&format!("2001:db8:{subnet:x}::")));
        let granted = subnets().filter(|from| buckets.take(*from, at(0)).is_ok()).count();
        assert_eq!(granted, 110, "100 of their own and a shared bucket");
        assert_eq!(buckets.take(source("198.51.100.1"), at(0)), Ok(()));
    }

    #[test]
    fn lapsed_entries_make_room() {
        let mut buckets = Buckets::with_places(2);
        for (from, millis) in [("192.0.2.1", 0), ("192.0.2.2", 0), ("192.0.2.3", 6_000), ("192.0.2.4", 6_000)]
        {
            buckets.take(source(from), at(millis)).unwrap();
        }
        assert!(buckets.table.shared.is_empty());
        assert_eq!(buckets.table.own.len(), buckets.table.lapses.len());
    }
}
