//! The first three locks on joining, and who is kept from them: signatures, the replay table, lockouts, buckets.
//!
//! The [`Doorman`] is the part of it that remembers. He sees a join after its HMACs were made, for a few table
//! operations, so that the lock he is kept under is never held for one. Whoever does not have the secret touches nothing
//! but a bucket of his own kind: he cannot keep out who does, not even from the same address.
//! ```text
//! form, signature  ──wrong──▶  turn_away: a token left?  secret, rate
//!        │ right
//!        ▼
//! clock, upgrade, seal  ──▶  admit: closed to this source, or to strangers? new? proof right?
//! clock, 426, seal           locked, guessed, replay, pin
//! ```

pub mod lockout;
pub mod replay;
pub mod signature;

use std::fmt;
use std::time::Duration;

use self::lockout::{Buckets, Guesses, Lockouts, Source};
use self::replay::{ReplayTable, Unfresh};
use crate::limits;
use crate::link::handshake::Refusal;
use crate::time::{Now, UnixSecs};

/// What a gateway remembers of joins.
#[derive(Default)]
pub struct Doorman {
    replay: ReplayTable,
    lockouts: Lockouts,
    guesses: Guesses,
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

    /// Answers a join that is malformed or whose signature is wrong: takes a token of its source, if there is one.
    pub(crate) fn turn_away(&mut self, from: Source, now: Now) -> Turned {
        match self.buckets.take(from, now.mono) {
            Ok(()) => Refusal::Secret.into(),
            Err(wait) => Turned { refusal: Refusal::Rate, wait: Some(wait) },
        }
    }

    /// Lets a join in whose signature was right, and remembers it, unless joining is closed to its source.
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
            self.guesses.failed(now.mono);
            return Err(Refusal::Pin.into());
        }
        Ok(())
    }

    /// Notes that a link from there has proved the PIN: by its first record, since a join can be copied.
    pub(crate) fn proved(&mut self, from: Source) {
        self.guesses.proved(from);
    }

    fn stop_if_closed(&self, from: Source, now: Now) -> Result<(), Turned> {
        let closed = |refusal, wait| Turned { refusal, wait: Some(wait) };
        if let Some(wait) = self.lockouts.closed_for(from, now.mono) {
            return Err(closed(Refusal::Locked, wait));
        }
        self.guesses.closed_for(from, now.mono).map_or(Ok(()), |wait| Err(closed(Refusal::Guessed, wait)))
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
        let answers = (0..10).map(|guess| doorman.admit(from, now, now.unix, &[guess; 32], false));
        let answers = answers.map(|answer| answer.unwrap_err().refusal).collect::<Vec<_>>();
        assert_eq!(answers[..5], [Refusal::Pin; 5]);
        assert_eq!(answers[5..], [Refusal::Locked; 5]);
        assert_eq!(doorman.admit(from, now, now.unix, &[99; 32], true).unwrap_err().refusal, Refusal::Locked);
    }

    #[test]
    fn guesses_from_everywhere_at_the_same_time_are_no_more_than_sixty() {
        let (mut doorman, now) = (Doorman::default(), Now::default());
        let home = Source::from(IpAddr::from([192, 0, 2, 1]));
        doorman.proved(home);
        let answers = (0..1500).map(|guess: u32| {
            let [_, _, a, b] = guess.to_be_bytes();
            let from = Source::from(IpAddr::from([198, 51, a, b]));
            let signature = std::array::from_fn(|i| if i % 2 == 0 { a } else { b });
            doorman.admit(from, now, now.unix, &signature, false).unwrap_err().refusal
        });
        let answers = answers.collect::<Vec<_>>();
        assert_eq!(answers[..60], [Refusal::Pin; 60]);
        assert_eq!(answers[60..], [Refusal::Guessed; 1440]);
        assert_eq!(doorman.admit(home, now, now.unix, &[1; 32], true), Ok(()), "it proved the PIN");
        let stranger = Source::from(IpAddr::from([203, 0, 113, 1]));
        let right = doorman.admit(stranger, now, now.unix, &[2; 32], true);
        assert_eq!(right.unwrap_err().refusal, Refusal::Guessed, "the answer does not tell a right one");
        let later = Now { mono: now.mono + limits::GUESSES_WINDOW, ..now };
        assert_eq!(doorman.admit(stranger, later, now.unix, &[2; 32], true), Ok(()), "and it is not used up");
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
