//! The connector's idle connections to the app.
//!
//! A connection that is idle stands in the list, and only the list says whether it is free: whoever takes it out owns
//! it. So an exchange is never handed to a connection that has decided to close.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mailbox::Exchange;
use crate::limits::TARGET_IDLE_UNSAFE;
use crate::machine::PortId;
use crate::time::Instant;

/// Where the next exchange for one connection is left.
#[derive(Debug)]
pub(crate) struct TargetSlot {
    pub(crate) port: PortId,
    next: Mutex<Option<Arc<Exchange>>>,
}

impl TargetSlot {
    pub(crate) fn new(port: PortId) -> Arc<Self> {
        Arc::new(Self { port, next: Mutex::new(None) })
    }

    /// Takes the exchange that was left here, if one was.
    pub(crate) fn take(&self) -> Option<Arc<Exchange>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The idle connections to the app.
#[derive(Debug, Default)]
pub(crate) struct IdleTargets {
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    slot: Arc<TargetSlot>,
    since: Instant,
    until: Instant,
}

impl IdleTargets {
    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This connection is free, and the app keeps it until then.
    pub(crate) fn add(&self, slot: Arc<TargetSlot>, until: Instant, now: Instant) {
        self.lock().push(Idle { slot, since: now, until });
    }

    /// Whether the connection still was free; it no longer is.
    pub(crate) fn remove(&self, slot: &Arc<TargetSlot>) -> bool {
        let mut idle = self.lock();
        let place = idle.iter().position(|other| Arc::ptr_eq(&other.slot, slot));
        place.map(|place| idle.remove(place)).is_some()
    }

    /// Leaves `exchange` with the connection that was used last, and says whom to wake. A request that must not be
    /// sent twice (`once`) only goes to one that was idle so shortly that the app has not closed it.
    pub(crate) fn assign(&self, exchange: &Arc<Exchange>, once: bool, now: Instant) -> Option<PortId> {
        let fresh =
            |idle: &mut Idle| now < idle.until && (!once || now.since(idle.since) < TARGET_IDLE_UNSAFE);
        let Idle { slot, .. } = self.lock().pop_if(fresh)?;
        *slot.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(exchange.clone());
        Some(slot.port)
    }
}
