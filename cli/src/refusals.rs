//! Refused joins, of which strangers can cause any number: one line a minute for each reason, with how many there were.
//!
//! ```text
//! the first ──▶ its line, at once      those of the next minute ──▶ counted, and one line once it is over
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use gesher_core::link::handshake::Refusal;

/// A reason has one line within this.
const EVERY: Duration = Duration::from_secs(60);

/// What was refused and not said yet.
#[derive(Default)]
pub(crate) struct Refusals(BTreeMap<Refusal, Counted>);

struct Counted {
    /// When its line was written.
    said_at: SystemTime,
    /// How many came since then.
    count: u64,
    last_from: IpAddr,
}

/// Joins that were counted and are to be said now.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Told {
    pub(crate) refusal: Refusal,
    pub(crate) count: u64,
    pub(crate) last_from: IpAddr,
}

impl Refusals {
    /// Counts a refused join. Returns whether it has a line of its own: the first of its kind for a while.
    pub(crate) fn note(&mut self, refusal: Refusal, from: IpAddr, now: SystemTime) -> bool {
        let fresh = Counted { said_at: now, count: 0, last_from: from };
        match self.0.get_mut(&refusal) {
            Some(counted) if counted.count > 0 || !is_over(counted.said_at, now) => {
                counted.count += 1;
                counted.last_from = from;
                false
            }
            _ => {
                self.0.insert(refusal, fresh);
                true
            }
        }
    }

    /// Takes what is to be said by now; at the end that is everything.
    pub(crate) fn take(&mut self, now: SystemTime, at_the_end: bool) -> Vec<Told> {
        let due = self
            .0
            .iter_mut()
            .filter(|(_, counted)| counted.count > 0 && (at_the_end || is_over(counted.said_at, now)));
        due.map(|(refusal, counted)| {
            counted.said_at = now;
            Told {
                refusal: *refusal,
                count: std::mem::take(&mut counted.count),
                last_from: counted.last_from,
            }
        })
        .collect()
    }

    /// Whether anything waits to be said.
    pub(crate) fn is_pending(&self) -> bool {
        self.0.values().any(|counted| counted.count > 0)
    }
}

/// A clock that was set back ends a minute as well.
fn is_over(said_at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(said_at).map_or(true, |passed| passed >= EVERY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_777_629_600 + secs)
    }

    #[test]
    fn a_flood_is_a_line_at_once_and_one_a_minute() {
        let mut refusals = Refusals::default();
        let (mut own, mut told) = (0, Vec::new());
        for nth in 0..20_000 {
            let now = at(nth / 100);
            told.extend(refusals.take(now, false));
            own += u32::from(refusals.note(Refusal::Secret, FROM, now));
        }
        assert_eq!(own, 1);
        let counts: Vec<u64> = told.iter().map(|told| told.count).collect();
        assert_eq!(counts, [5999, 6000, 6000]);
        told.extend(refusals.take(at(200), true));
        assert_eq!(told.iter().map(|told| told.count).sum::<u64>(), 19_999, "none is lost");
        assert!(!refusals.is_pending() && refusals.take(at(400), true).is_empty());
    }

    #[test]
    fn each_reason_has_its_own_lines_and_a_rare_one_has_all() {
        let mut refusals = Refusals::default();
        assert!(refusals.note(Refusal::Secret, FROM, at(0)));
        assert!(refusals.note(Refusal::Pin, FROM, at(1)));
        assert!(refusals.note(Refusal::Pin, FROM, at(61)));
        assert!(!refusals.note(Refusal::Pin, FROM, at(62)));
        assert_eq!(refusals.take(at(120), false), []);
        let told = Told { refusal: Refusal::Pin, count: 1, last_from: FROM };
        assert_eq!(refusals.take(at(121), false), [told]);
        assert!(refusals.note(Refusal::Secret, FROM, SystemTime::UNIX_EPOCH), "a clock that was set back");
    }
}
