//! The connector's idle connections to the app.
//!
//! A connection that is idle stands in the list, and only the list says whether it is free: whoever takes it out owns
//! it, and an exchange is left for it in the same moment. So an exchange is never handed to a connection that has
//! decided to close, and never left with one that is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mailbox::Exchange;
use crate::limits::TARGET_IDLE_UNSAFE;
use crate::machine::PortId;
use crate::time::Instant;

/// The idle connections to the app.
#[derive(Debug, Default)]
pub(crate) struct IdleTargets {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Idle>,
    /// What those that were taken out of the list have to look for.
    assigned: BTreeMap<PortId, Arc<Exchange>>,
}

#[derive(Debug)]
struct Idle {
    port: PortId,
    since: Instant,
    until: Instant,
}

impl IdleTargets {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This connection is free, and the app keeps it until then.
    pub(crate) fn add(&self, port: PortId, until: Instant, now: Instant) {
        self.lock().idle.push(Idle { port, since: now, until });
    }

    /// Whether the connection still was free; it no longer is.
    pub(crate) fn remove(&self, port: PortId) -> bool {
        let idle = &mut self.lock().idle;
        let place = idle.iter().position(|other| other.port == port);
        place.map(|place| idle.remove(place)).is_some()
    }

    /// Leaves `exchange` with the connection that was used last, and says whom to wake. A request that must not be
    /// sent twice (`once`) only goes to one that was idle so shortly that the app has not closed it.
    pub(crate) fn assign(&self, exchange: &Arc<Exchange>, once: bool, now: Instant) -> Option<PortId> {
        let fresh =
            |idle: &mut Idle| now < idle.until && (!once || now.since(idle.since) < TARGET_IDLE_UNSAFE);
        let State { idle, assigned } = &mut *self.lock();
        let Idle { port, .. } = idle.pop_if(fresh)?;
        assigned.insert(port, exchange.clone());
        Some(port)
    }

    /// Takes the exchange that was left for a connection, if one was.
    pub(crate) fn take(&self, port: PortId) -> Option<Arc<Exchange>> {
        self.lock().assigned.remove(&port)
    }
}

#[cfg(test)]
mod tests {
    use super::super::admission::{Pool, Purpose};
    use super::super::mailbox::{FirstWindows, Inbox};
    use super::*;
    use crate::limits::TARGET_IDLE;

    const PORT: PortId = PortId { index: 1, generation: 1 };

    fn exchange() -> Arc<Exchange> {
        let lease = Pool::new(1).reserve(1, Purpose::Short).unwrap();
        let windows = FirstWindows { to_link: 0, to_http: 0 };
        Exchange::new(Inbox::new(PortId { index: 0, generation: 1 }), None, windows, lease)
    }

    #[test]
    fn an_exchange_is_left_with_an_idle_connection_or_not_at_all() {
        let (targets, now) = (IdleTargets::default(), Instant::default());
        assert_eq!(targets.assign(&exchange(), false, now), None);
        targets.add(PORT, now + TARGET_IDLE, now);
        assert_eq!(targets.assign(&exchange(), false, now), Some(PORT));
        assert!(!targets.remove(PORT), "it is spoken for");
        assert!(targets.take(PORT).is_some() && targets.take(PORT).is_none());
        targets.add(PORT, now + TARGET_IDLE, now);
        assert!(targets.remove(PORT));
        assert_eq!(targets.assign(&exchange(), false, now), None);
        assert!(targets.take(PORT).is_none());
    }

    #[test]
    fn what_must_not_be_sent_twice_only_goes_to_a_fresh_connection() {
        let (targets, now) = (IdleTargets::default(), Instant::default());
        targets.add(PORT, now + TARGET_IDLE, now);
        let later = now + TARGET_IDLE_UNSAFE;
        assert_eq!(targets.assign(&exchange(), true, later), None);
        assert_eq!(
            targets.assign(&exchange(), false, now + TARGET_IDLE),
            None,
            "nothing goes to a stale one"
        );
        assert_eq!(targets.assign(&exchange(), false, later), Some(PORT));
    }
}
