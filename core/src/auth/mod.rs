//! The first three locks on joining, and who is kept from them: signatures, the replay table, lockouts, buckets.
//!
//! The [`Doorman`] is the part of it that remembers. A join passes him twice, each time for a few table operations, so
//! that the lock he is kept under is never held for an HMAC:
//! ```text
//! knock: closed to this source? a token left?  ──▶  form, clock, signature  ──▶  admit: new? proof right?
//!        locked, rate                               secret, clock, seal          replay, pin
//! ```

pub mod lockout;
pub mod replay;
pub mod signature;

use std::fmt;
use std::time::Duration;

use self::lockout::{Buckets, Lockouts, Source};
use self::replay::{ReplayTable, Unfresh};
use crate::limits;
use crate::link::handshake::Refusal;
use crate::time::{Now, UnixSecs};

/// What a gateway remembers of joins.
#[derive(Default)]
pub struct Doorman {
    replay: ReplayTable,
    lockouts: Lockouts,
    buckets: Buckets,
}

/// A join is refused, and when it may be worth trying again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Turned {
    pub(crate) refusal: Refusal,
    pub(crate) wait: Option<Duration>,
}

impl From<Refusal> for Turned {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, wait: None }
    }
}

impl Doorman {
    /// The clock by which joins are judged ([`ReplayTable::clock`]).
    pub(crate) fn clock(&mut self, now: Now) -> UnixSecs {
        self.replay.clock(now)
    }

    /// Lets a join be looked at: takes a token, which only [`Self::admit`] gives back.
    pub(crate) fn knock(&mut self, from: Source, now: Now) -> Result<(), Turned> {
        self.stop_if_closed(from, now)?;
        self.buckets.take(from, now.mono).map_err(|wait| Turned { refusal: Refusal::Rate, wait: Some(wait) })
    }

    /// Lets a join in whose signature was right, and remembers it in any case.
    ///
    /// A wrong proof counts as a failure. All of it is one step, so that wrong proofs that come at the same time are not
    /// answered beyond the number that closes the door.
    pub(crate) fn admit(
        &mut self,
        from: Source,
        now: Now,
        time: UnixSecs,
        signature: &[u8; 32],
        proof_is_right: bool,
    ) -> Result<(), Turned> {
        self.stop_if_closed(from, now)?;
        self.replay.check_and_insert(time, signature, now).map_err(|unfresh| match unfresh {
            Unfresh::Seen => Refusal::Replay.into(),
            Unfresh::Full => {
                let wait = Duration::from_secs(limits::CLOCK_SKEW_SECS_MAX);
                Turned { refusal: Refusal::Rate, wait: Some(wait) }
            }
        })?;
        if !proof_is_right {
            self.lockouts.failed(from, now.mono);
            return Err(Refusal::Pin.into());
        }
        self.buckets.give_back(from, now.mono);
        Ok(())
    }

    fn stop_if_closed(&self, from: Source, now: Now) -> Result<(), Turned> {
        match self.lockouts.closed_for(from, now.mono) {
            Some(wait) => Err(Turned { refusal: Refusal::Locked, wait: Some(wait) }),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Doorman {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doorman").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn guesses_sent_at_the_same_time_are_no_more_guesses() {
        let (mut doorman, now) = (Doorman::default(), Now::default());
        let from = Source::from(IpAddr::from(Ipv4Addr::LOCALHOST));
        for _ in 0..limits::JOIN_BURST {
            assert_eq!(doorman.knock(from, now), Ok(()));
        }
        let answers = (0..10).map(|guess| doorman.admit(from, now, now.unix, &[guess; 32], false));
        let answers = answers.map(|answer| answer.unwrap_err().refusal).collect::<Vec<_>>();
        assert_eq!(answers[..5], [Refusal::Pin; 5]);
        assert_eq!(answers[5..], [Refusal::Locked; 5]);
        assert_eq!(doorman.admit(from, now, now.unix, &[99; 32], true).unwrap_err().refusal, Refusal::Locked);
    }

    #[test]
    fn without_room_to_remember_it_a_join_is_refused() {
        let mut doorman = Doorman { replay: ReplayTable::with_places(1), ..Doorman::default() };
        let (from, now) = (Source::from(IpAddr::from(Ipv4Addr::LOCALHOST)), Now::default());
        assert_eq!(doorman.admit(from, now, now.unix, &[1; 32], true), Ok(()));
        let full = Turned { refusal: Refusal::Rate, wait: Some(Duration::from_secs(30)) };
        assert_eq!(doorman.admit(from, now, now.unix, &[2; 32], true), Err(full));
        assert_eq!(doorman.admit(from, now, now.unix, &[1; 32], true).unwrap_err(), Refusal::Replay.into());
    }
}
