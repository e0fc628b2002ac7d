//! Time as an argument: the core never asks a clock, it is told.
//!
//! Two times travel together in [`Now`]: a monotonic [`Instant`] for deadlines, and [`UnixSecs`] for what crosses
//! the wire. Deadlines of one connection live in a [`Timers`] table, and each carries the reason ([`Why`]) that logs
//! and transcripts show.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// A point on a monotonic clock whose origin the runtime chose, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The instant `since_origin` after the runtime's origin; past 584 years it stays at the end of time.
    pub fn from_origin(since_origin: Duration) -> Self {
        Self(u64::try_from(since_origin.as_nanos()).unwrap_or(u64::MAX))
    }

    /// How long after the origin this is.
    pub fn since_origin(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// How long after `earlier` this is; zero if it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at the end of time.
    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(Self::from_origin(wait).0))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0 / 1000;
        write!(f, "{}.{:03} ms", micros / 1000, micros % 1000)
    }
}

/// Seconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct UnixSecs(pub u64);

/// What the clocks say, read once by the driver before it calls into the core.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Monotonic: for deadlines and durations.
    pub mono: Instant,
    /// Civil: for signatures, tokens and `Date`.
    pub unix: UnixSecs,
}

/// Notices that the machine slept: civil time went on and monotonic time did not. A clock that was set forward looks the
/// same, and does no harm.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SleepWatch {
    last: Option<Now>,
}

impl SleepWatch {
    /// Less than this is a clock that was corrected.
    const SLEEP_SECS_MIN: u64 = 5;

    /// Whether the machine slept since this was last called.
    pub(crate) fn woke(&mut self, now: Now) -> bool {
        self.last.replace(now).is_some_and(|last| {
            let civil_secs = now.unix.0.saturating_sub(last.unix.0);
            civil_secs.saturating_sub(now.mono.since(last.mono).as_secs()) >= Self::SLEEP_SECS_MIN
        })
    }
}

/// Why a deadline was set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Why {
    /// A request head has to be complete.
    Head,
    /// A request body has to move.
    Body,
    /// An idle keep-alive connection closes.
    Idle,
    /// A new connection to the app has to bring its first byte, or idle ones make room.
    FirstByte,
    /// Waiting output has to be taken.
    Send,
    /// A visitor that sends no more has to be sent something.
    Gone,
    /// What came of a message is acknowledged, since the rest has not come.
    Rest,
    /// A closing connection stops reading what is still on its way.
    Linger,
    /// Room for a request that waits is looked for.
    Room,
    /// The app has to take or send a byte before its final head.
    Response,
    /// More informational responses of the app are read.
    Interim,
    /// A page of the app that may refuse a name has come far enough to be judged.
    Page,
    /// A new link has to say HELLO, or a handshake to be answered.
    Hello,
    /// The next PING is due.
    Ping,
    /// Nothing came over the link for a while: its peer is asked, or known not to answer.
    Quiet,
    /// Nothing came over the link for too long.
    Silence,
    /// The next snapshot of PEERS may be sent.
    Peers,
    /// The connector dials again.
    Dial,
    /// The connector looks whether the machine slept.
    Sleep,
    /// What is open has had its time to finish.
    Drain,
}

impl Why {
    const COUNT: usize = Why::Drain as usize + 1;
    const ALL: [Why; Why::COUNT] = [
        Why::Head,
        Why::Body,
        Why::Idle,
        Why::FirstByte,
        Why::Send,
        Why::Gone,
        Why::Rest,
        Why::Linger,
        Why::Room,
        Why::Response,
        Why::Interim,
        Why::Page,
        Why::Hello,
        Why::Ping,
        Why::Quiet,
        Why::Silence,
        Why::Peers,
        Why::Dial,
        Why::Sleep,
        Why::Drain,
    ];
}

/// The deadlines of one connection: at most one for each reason.
#[derive(Clone, Debug, Default)]
pub struct Timers {
    /// A bit for each reason that has one.
    set: u32,
    at: [Instant; Why::COUNT],
}

impl Timers {
    /// Sets the deadline for `why`, in place of an earlier one for the same reason.
    pub fn set(&mut self, why: Why, at: Instant) {
        self.set |= 1 << why as u32;
        self.at[why as usize] = at;
    }

    /// Sets the deadline for `why` unless one is set already.
    pub fn set_once(&mut self, why: Why, at: Instant) {
        if !self.is_set(why) {
            self.set(why, at);
        }
    }

    /// Forgets the deadline for `why`.
    pub fn clear(&mut self, why: Why) {
        self.set &= !(1 << why as u32);
    }

    /// Forgets all deadlines.
    pub fn clear_all(&mut self) {
        self.set = 0;
    }

    /// Whether a deadline for `why` is set.
    pub fn is_set(&self, why: Why) -> bool {
        self.set & 1 << why as u32 != 0
    }

    /// Whether the deadline for `why` has come; it stays set until cleared or set anew.
    pub fn is_due(&self, why: Why, now: Instant) -> bool {
        self.is_set(why) && self.at[why as usize] <= now
    }

    /// The earliest deadline and its reason.
    pub fn next(&self) -> Option<(Instant, Why)> {
        let (mut rest, mut earliest) = (self.set, None);
        while rest != 0 {
            let why = Why::ALL[rest.trailing_zeros() as usize];
            rest &= rest - 1;
            let deadline = (self.at[why as usize], why);
            earliest = Some(earliest.map_or(deadline, |other| deadline.min(other)));
        }
        earliest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_comes_first_with_its_reason() {
        let mut timers = Timers::default();
        let origin = Instant::default();
        timers.set(Why::Ping, origin + Duration::from_secs(10));
        timers.set(Why::Silence, origin + Duration::from_secs(25));
        assert_eq!(timers.next(), Some((origin + Duration::from_secs(10), Why::Ping)));
        timers.clear(Why::Ping);
        assert_eq!(timers.next(), Some((origin + Duration::from_secs(25), Why::Silence)));
        assert!(!timers.is_due(Why::Silence, origin + Duration::from_secs(24)));
        assert!(timers.is_due(Why::Silence, origin + Duration::from_secs(25)));
    }

    #[test]
    fn a_machine_that_slept_is_told_from_one_whose_clock_was_set_back() {
        let at = |mono_secs, unix_secs| Now {
            mono: Instant::from_origin(Duration::from_secs(mono_secs)),
            unix: UnixSecs(unix_secs),
        };
        let mut watch = SleepWatch::default();
        assert!(!watch.woke(at(0, 1000)));
        assert!(!watch.woke(at(60, 1061)), "time went on");
        assert!(watch.woke(at(61, 2000)));
        assert!(!watch.woke(at(62, 2001)), "it is told once");
        assert!(!watch.woke(at(63, 1000)));
    }

    #[test]
    fn every_reason_has_a_slot_of_its_own() {
        for (slot, why) in Why::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, slot);
        }
    }
}
