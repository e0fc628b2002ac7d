//! Which address of a name to try, and when.

use std::net::SocketAddr;
use std::time::Duration;
use std::vec;

use crate::machine::DialFault;
use crate::time::Instant;

/// The head start of an address before the next (RFC 8305, 8).
const HEAD_START: Duration = Duration::from_millis(250);

/// Tries addresses in the order the resolver gave them. Each has a head start before the next, unless it fails; the
/// first that answers is taken, which the runtime does (RFC 8305, 5):
/// ```text
///   0 ms  [::1]:8080      refused
///   0 ms  127.0.0.1:8080  connected
/// ```
#[derive(Debug)]
pub(super) struct Attempts {
    addresses: vec::IntoIter<SocketAddr>,
    under_way: usize,
    /// Until when the last one has its head start; none if it failed.
    head_start: Option<Instant>,
    /// What the failures said so far.
    fault: Option<DialFault>,
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Attempt {
    /// Connects to this address, beside what is under way.
    Connect(SocketAddr),
    /// Waits for what is under way, until then at the latest.
    Wait(Option<Instant>),
    /// Nothing answered.
    Failed(DialFault),
}

impl Attempts {
    /// Nothing is tried yet.
    pub(super) fn new(addresses: Vec<SocketAddr>) -> Self {
        Self { addresses: addresses.into_iter(), under_way: 0, head_start: None, fault: None }
    }

    /// What to do now; to be asked again after it was done.
    pub(super) fn next(&mut self, now: Instant) -> Attempt {
        let head_start = self.head_start.filter(|until| now < *until);
        let address = if head_start.is_none() { self.addresses.next() } else { None };
        if let Some(address) = address {
            self.under_way += 1;
            self.head_start = Some(now + HEAD_START);
            return Attempt::Connect(address);
        }
        if self.under_way == 0 {
            return Attempt::Failed(self.fault.unwrap_or(DialFault::NoSuchName));
        }
        Attempt::Wait(head_start.filter(|_| self.addresses.len() > 0))
    }

    /// One of those under way failed.
    pub(super) fn failed(&mut self, why: DialFault) {
        self.under_way = self.under_way.saturating_sub(1);
        self.head_start = None;
        // That nothing listens says more than that there is no way.
        self.fault = self.fault.filter(|known| *known == DialFault::Refused).or(Some(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn address(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    #[test]
    fn an_address_that_refuses_or_says_nothing_makes_way_for_the_next() {
        let mut attempts = Attempts::new(vec![address(1), address(2), address(3)]);
        let now = Instant::default();
        assert_eq!(attempts.next(now), Attempt::Connect(address(1)));
        attempts.failed(DialFault::Refused);
        assert_eq!(attempts.next(now), Attempt::Connect(address(2)));
        let later = now + HEAD_START;
        assert_eq!(attempts.next(now), Attempt::Wait(Some(later)));
        assert_eq!(attempts.next(later), Attempt::Connect(address(3)));
        assert_eq!(attempts.next(later), Attempt::Wait(None), "nothing is left to be tried");
    }

    #[test]
    fn a_refusal_says_more_than_other_failures() {
        let failing = |faults: &[DialFault]| {
            let mut attempts = Attempts::new(vec![address(1); faults.len()]);
            for fault in faults {
                attempts.next(Instant::default());
                attempts.failed(*fault);
            }
            attempts.next(Instant::default())
        };
        let (refused, unreachable) = (DialFault::Refused, DialFault::Unreachable);
        assert_eq!(failing(&[refused, unreachable]), Attempt::Failed(refused));
        assert_eq!(failing(&[unreachable, refused]), Attempt::Failed(refused));
        assert_eq!(failing(&[unreachable]), Attempt::Failed(unreachable));
        assert_eq!(failing(&[]), Attempt::Failed(DialFault::NoSuchName));
    }
}
