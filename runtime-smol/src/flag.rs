//! What a task is woken by: a sticky flag.
//!
//! A flag that is raised while nobody waits stays raised, so no wake-up is lost:
//! ```text
//! whoever has mail                    the task
//! post, raise                         register its waker
//!                                     lower, advance, …
//!                                     raised again? then go on, else sleep
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// A sticky flag with at most one task that waits for it.
#[derive(Default)]
pub(crate) struct Flag {
    raised: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl gesher_core::drive::Flag for Flag {
    /// Raises the flag and wakes who waits for it, from any thread.
    fn raise(self: &Arc<Self>) {
        // Whoever raised it first does the waking; the task checks the flag after it left its waker.
        if !self.raised.swap(true, Ordering::AcqRel)
            && let Some(waker) = &*lock(&self.waker)
        {
            waker.wake_by_ref();
        }
    }
}

impl Flag {
    /// Lowers the flag; whether it was raised.
    pub(crate) fn lower(&self) -> bool {
        self.raised.swap(false, Ordering::AcqRel)
    }

    /// Whether the flag is raised.
    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// Leaves the waker of the task that waits; to be called before the flag is looked at.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut known = lock(&self.waker);
        match &mut *known {
            Some(known) => known.clone_from(waker),
            None => *known = Some(waker.clone()),
        }
    }
}

/// Nothing under this lock can be left half done, so one that a panic poisoned is taken over.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::task::Poll;
    use std::thread;

    use gesher_core::drive::Flag as _;

    use super::*;

    #[test]
    fn a_flag_stays_raised_until_it_is_lowered() {
        let flag = Arc::<Flag>::default();
        flag.raise();
        flag.raise();
        assert!(flag.is_raised());
        assert!(flag.lower());
        assert!(!flag.lower());
    }

    #[test]
    fn no_wake_from_another_thread_is_lost() {
        const LETTERS: usize = 100_000;
        let (flag, sent, seen) = (Arc::<Flag>::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                for letter in 1..=LETTERS {
                    sent.store(letter, Ordering::Release);
                    flag.raise();
                    // Most letters meet a task that is about to sleep.
                    while letter % 2 == 0 && seen.load(Ordering::Acquire) < letter {
                        thread::yield_now();
                    }
                }
            });
            smol::future::block_on(poll_fn(|cx| {
                flag.register(cx.waker());
                while flag.lower() {
                    seen.store(sent.load(Ordering::Acquire), Ordering::Release);
                }
                let all_came = seen.load(Ordering::Acquire) == LETTERS;
                if all_came { Poll::Ready(()) } else { Poll::Pending }
            }));
        });
        assert!(!flag.is_raised());
    }
}
