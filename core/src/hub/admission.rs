//! Room for exchanges: one pool of memory a process, and places on a connector.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::http1::body::BodyKind;
use crate::limits::{EXCHANGE_BYTES, MAILBOX_BYTES_MIN, WINDOW_BYTES};

/// The memory of all exchanges of a process (`--memory`), in bytes: credit that was given and not used, what waits in
/// lanes, and heads.
///
/// Who finds it nearly full depends on what the memory is for ([`Purpose`]): what only makes an exchange faster stops
/// first, then what may hold its memory for long, and requests that are soon over last.
///
/// ```text
/// 0 ─────────── ¼ ─────────── ½ ─────────── ¾ ─────────── all
///   first windows of 64 KiB   │             │
///   wider windows, full lanes ┘             │
///   uploads and upgrades ───────────────────┘
///   short requests ───────────────────────────────────────┘
/// ```
#[derive(Debug)]
pub(crate) struct Pool {
    total: usize,
    used: AtomicUsize,
}

/// What memory is for, which says how much of a pool has to stay free for others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// An exchange that is soon over: a request without a body, or with a short one.
    Short,
    /// An exchange that may rest for long: an upload, or an upgraded connection.
    Long,
    /// More speed for an exchange that has what it needs.
    Speed,
}

impl Purpose {
    /// What the memory of an exchange is for whose request has such a body.
    pub(crate) fn of(body: BodyKind) -> Self {
        match body {
            BodyKind::None => Purpose::Short,
            BodyKind::Sized(bytes) if bytes <= WINDOW_BYTES.into() => Purpose::Short,
            _ => Purpose::Long,
        }
    }

    /// How much of a pool of `total` bytes may be used with this.
    fn ceiling(self, total: usize) -> usize {
        match self {
            Purpose::Short => total,
            Purpose::Long => total / 4 * 3,
            Purpose::Speed => total / 2,
        }
    }
}

/// What an exchange sets aside when it begins, in bytes: for its state, for the `window` that the peer may use, for what
/// may wait in the lane to the link, if there is one, and for texts.
pub(crate) fn exchange_bytes(window: u32, lane: bool, text_bytes: usize) -> usize {
    EXCHANGE_BYTES + window as usize + if lane { MAILBOX_BYTES_MIN } else { 0 } + text_bytes
}

impl Pool {
    pub(crate) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { total, used: AtomicUsize::new(0) })
    }

    /// Sets `bytes` aside, if so much is free for this purpose.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize, purpose: Purpose) -> Option<Lease> {
        self.take(bytes, purpose).then(|| Lease { pool: self.clone(), bytes })
    }

    /// Sets `bytes` aside for a wider window: at most a quarter of what is free.
    pub(crate) fn borrow(self: &Arc<Self>, bytes: usize) -> Option<Lease> {
        let free = self.total.saturating_sub(self.used());
        if bytes > free / 4 { None } else { self.reserve(bytes, Purpose::Speed) }
    }

    /// Whether less than a quarter is set aside: an exchange may begin with a window of
    /// [`crate::limits::WINDOW_BYTES`].
    pub(crate) fn is_roomy(&self) -> bool {
        self.used() < self.total / 4
    }

    /// Whether more than three quarters are set aside.
    pub(crate) fn is_scarce(&self) -> bool {
        self.used() > self.total / 4 * 3
    }

    /// How many bytes there are in all. For checks.
    #[cfg(feature = "sim")]
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// What is set aside, in bytes.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Counts `bytes` as set aside, if so much is free for this purpose; [`Self::put`] has to follow.
    pub(crate) fn take(&self, bytes: usize, purpose: Purpose) -> bool {
        let ceiling = purpose.ceiling(self.total);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= ceiling)
        });
        taken.is_ok()
    }

    /// Gives back what was taken.
    pub(crate) fn put(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Memory set aside; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Arc<Pool>,
    bytes: usize,
}

impl Lease {
    /// The pool that it is of.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Adds what `other`, which is of the same pool, holds to this.
    pub(crate) fn absorb(&mut self, mut other: Lease) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Adds `bytes` that were taken of its pool.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Gives `bytes` of it back, or all if it holds less.
    pub(crate) fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.pool.put(bytes);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.put(self.bytes);
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
        let mut first = pool.reserve(40, Purpose::Short).unwrap();
        assert!(pool.reserve(61, Purpose::Short).is_none());
        assert!(pool.borrow(16).is_none(), "a quarter of 60 is 15");
        first.absorb(pool.borrow(10).unwrap());
        assert_eq!(pool.used(), 50);
        first.give_back(20);
        assert_eq!(pool.used(), 30);
        drop(first);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn what_rests_leaves_a_quarter_to_short_requests_and_speed_leaves_half() {
        let pool = Pool::new(100);
        let fills = |purpose| {
            let mut leases = Vec::new();
            leases.extend(std::iter::from_fn(|| pool.reserve(1, purpose)));
            leases
        };
        let speed = fills(Purpose::Speed);
        assert_eq!((pool.used(), pool.is_roomy(), pool.is_scarce()), (50, false, false));
        let long = fills(Purpose::Long);
        assert_eq!((pool.used(), pool.is_scarce()), (75, false));
        let short = fills(Purpose::Short);
        assert_eq!((pool.used(), pool.is_scarce()), (100, true));
        drop((speed, long, short));
        assert!(pool.is_roomy());
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
