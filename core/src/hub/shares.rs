//! How much of the memory each visitor's address holds, so that whoever holds most gets no more first where room runs
//! short.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::auth::lockout::Source;

/// What the exchanges of each address hold, in bytes. Only exchanges that began when memory was no longer plenty are
/// counted: before that it does not matter who has it.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<Source, usize>,
    /// All of it together.
    total: usize,
}

/// What one exchange holds; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Arc<Shares>,
    source: Source,
    bytes: usize,
}

impl Shares {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what an exchange of a visitor holds; none for an address that speaks for many.
    pub(crate) fn hold(self: &Arc<Self>, from: IpAddr, bytes: usize) -> Option<Share> {
        let source = one_visitor(from)?;
        let state = &mut *self.lock();
        *state.held.entry(source).or_default() += bytes;
        state.total += bytes;
        Some(Share { shares: Arc::clone(self), source, bytes })
    }

    /// Whether this address holds more than it would if all that hold something, and one more, had equal parts.
    pub(crate) fn is_large(&self, from: IpAddr) -> bool {
        let Some(source) = one_visitor(from) else { return false };
        let State { held, total } = &*self.lock();
        held.get(&source).is_some_and(|own| *own > total / (held.len() + 1))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let State { held, total } = &mut *self.shares.lock();
        *total -= self.bytes;
        if let Some(bytes) = held.get_mut(&self.source) {
            *bytes -= self.bytes;
            if *bytes == 0 {
                held.remove(&self.source);
            }
        }
    }
}

/// The source that counts for a visitor; none if its address may be a proxy's, which speaks for many visitors: until
/// proxies can be named, that is every loopback, private and link-local one.
fn one_visitor(from: IpAddr) -> Option<Source> {
    let speaks_for_many = match from.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    };
    (!speaks_for_many).then(|| from.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn whoever_holds_more_than_an_equal_part_holds_much_and_all_of_it_comes_back() {
        let shares = Arc::new(Shares::default());
        let [large, small, new] = ["203.0.113.1", "203.0.113.2", "203.0.113.3"].map(address);
        let held = (shares.hold(large, 700), shares.hold(small, 100), shares.hold(large, 200));
        assert!(shares.is_large(large) && !shares.is_large(small) && !shares.is_large(new));
        drop(held);
        assert!(!shares.is_large(large) && shares.lock().held.is_empty());
    }

    #[test]
    fn a_lone_holder_holds_much_since_others_may_come() {
        let shares = Arc::new(Shares::default());
        let _held = shares.hold(address("203.0.113.1"), 1);
        assert!(shares.is_large(address("203.0.113.1")));
    }

    #[test]
    fn addresses_that_speak_for_many_never_hold_much() {
        let shares = Arc::new(Shares::default());
        let many = ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.1.1", "::1", "fd00::1", "fe80::1"];
        for from in many.into_iter().chain(["::ffff:10.0.0.1"]) {
            assert!(shares.hold(address(from), 1000).is_none(), "{from}");
            assert!(!shares.is_large(address(from)), "{from}");
        }
    }
}
