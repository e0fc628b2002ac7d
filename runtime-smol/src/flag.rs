//! What a task is woken by: a few sticky bits.
//!
//! A bit that is set while nobody waits stays set, so no wake-up is lost:
//! ```text
//! whoever has mail, or saw readiness   the task
//! post, set                            register its waker
//!                                      take, advance, …
//!                                      set again? then go on, else sleep
//! ```

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// There is mail.
pub(crate) const RAISED: u8 = 1;
/// There is something to read: bytes, an end or an error.
pub(crate) const READABLE: u8 = 1 << 1;
/// There is room to write.
pub(crate) const WRITABLE: u8 = 1 << 2;
/// The peer sends no more.
pub(crate) const ENDED: u8 = 1 << 3;
/// The transport may be broken.
pub(crate) const BROKEN: u8 = 1 << 4;
/// The timer fired.
pub(crate) const DUE: u8 = 1 << 5;

/// Sticky bits with at most one task that waits for them.
#[derive(Default)]
pub(crate) struct Flag {
    bits: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

impl gesher_core::drive::Flag for Flag {
    fn raise(self: &Arc<Self>) {
        self.set(RAISED);
    }
}

impl Flag {
    /// Sets bits and wakes who waits for them, from any thread.
    pub(crate) fn set(&self, bits: u8) {
        // Whoever set them first does the waking; the task looks at them after it left its waker.
        if self.bits.fetch_or(bits, Ordering::AcqRel) & bits != bits
            && let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner)
        {
            waker.wake_by_ref();
        }
    }

    /// Clears those bits, and says which of them were set.
    pub(crate) fn take(&self, bits: u8) -> u8 {
        // Most are not, and to see that costs less than to clear them.
        if self.has(bits) { self.bits.fetch_and(!bits, Ordering::AcqRel) & bits } else { 0 }
    }

    /// Whether any of those bits is set.
    pub(crate) fn has(&self, bits: u8) -> bool {
        self.bits.load(Ordering::Acquire) & bits != 0
    }

    /// Leaves the waker of the task that waits; to be called before the bits are looked at.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut known = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *known {
            Some(known) => known.clone_from(waker),
            None => *known = Some(waker.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::task::Poll;
    use std::thread;

    use super::*;

    #[test]
    fn a_bit_stays_set_until_it_is_taken() {
        let flag = Flag::default();
        flag.set(RAISED | READABLE);
        flag.set(RAISED);
        assert_eq!(flag.take(RAISED | DUE), RAISED);
        assert_eq!(flag.take(RAISED), 0);
        assert!(flag.has(READABLE));
    }

    #[test]
    fn no_wake_from_another_thread_is_lost() {
        const LETTERS: usize = 100_000;
        let (flag, sent, seen) = (Flag::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                for letter in 1..=LETTERS {
                    sent.store(letter, Ordering::Release);
                    flag.set(RAISED);
                    // Most letters meet a task that is about to sleep.
                    while letter % 2 == 0 && seen.load(Ordering::Acquire) < letter {
                        thread::yield_now();
                    }
                }
            });
            smol::future::block_on(poll_fn(|cx| {
                flag.register(cx.waker());
                while flag.take(RAISED) != 0 {
                    seen.store(sent.load(Ordering::Acquire), Ordering::Release);
                }
                let all_came = seen.load(Ordering::Acquire) == LETTERS;
                if all_came { Poll::Ready(()) } else { Poll::Pending }
            }));
        });
        assert!(!flag.has(RAISED));
    }
}
