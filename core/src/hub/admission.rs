//! Who may come in: one pool of memory a process, and room for exchanges on a connector.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The memory for the windows of all exchanges of a process (`--memory`), in bytes.
#[derive(Debug)]
pub(crate) struct Pool {
    total: usize,
    used: AtomicUsize,
}

impl Pool {
    pub(crate) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { total, used: AtomicUsize::new(0) })
    }

    /// Sets `bytes` aside, if so much is free.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Lease> {
        self.reserve_of(bytes, self.total)
    }

    /// Sets `bytes` aside for a wider window: at most a quarter of what is free.
    pub(crate) fn borrow(self: &Arc<Self>, bytes: usize) -> Option<Lease> {
        let free = self.total.saturating_sub(self.used());
        if bytes > free / 4 { None } else { self.reserve_of(bytes, self.total) }
    }

    /// Whether more than three quarters are set aside.
    pub(crate) fn is_scarce(&self) -> bool {
        self.used() > self.total / 4 * 3
    }

    /// What is set aside, in bytes.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn reserve_of(self: &Arc<Self>, bytes: usize, total: usize) -> Option<Lease> {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|used| *used <= total)
            })
            .ok()
            .map(|_| Lease { pool: self.clone(), bytes })
    }
}

/// Memory set aside; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Arc<Pool>,
    bytes: usize,
}

impl Lease {
    /// Adds what `other` holds to this.
    pub(crate) fn absorb(&mut self, mut other: Lease) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Gives `bytes` of it back, or all if it holds less.
    pub(crate) fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.pool.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The exchanges that are open on one connector, up to a bound.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    taken: AtomicU32,
}

impl Slots {
    /// One more, unless there are `max` already.
    pub(crate) fn take(self: &Arc<Self>, max: u32) -> Option<Slot> {
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < max).then_some(taken + 1))
            .ok()
            .map(|_| Slot { slots: self.clone() })
    }

    /// How many there are.
    pub(crate) fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Room for one exchange; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_never_lends_more_than_it_has_and_gets_all_of_it_back() {
        let pool = Pool::new(100);
        let mut first = pool.reserve(60).unwrap();
        assert!(pool.reserve(41).is_none());
        assert!(pool.borrow(11).is_none(), "a quarter of 40 is 10");
        first.absorb(pool.borrow(10).unwrap());
        assert_eq!(pool.used(), 70);
        drop(first);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn slots_are_bounded_and_come_back() {
        let slots = Arc::new(Slots::default());
        let first = slots.take(1).unwrap();
        assert!(slots.take(1).is_none());
        drop(first);
        assert_eq!(slots.taken(), 0);
    }
}
