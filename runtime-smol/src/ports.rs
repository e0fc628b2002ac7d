//! Who can be woken: a sticky flag a connection, found by its port.
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

use gesher_core::machine::PortId;

/// A sticky flag with at most one task that waits for it.
#[derive(Default)]
pub(crate) struct Flag {
    raised: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Flag {
    /// Raises the flag and wakes who waits for it, from any thread.
    pub(crate) fn raise(&self) {
        // Whoever raised it first does the waking; the task checks the flag after it left its waker.
        if !self.raised.swap(true, Ordering::AcqRel)
            && let Some(waker) = &*lock(&self.waker)
        {
            waker.wake_by_ref();
        }
    }

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

/// The flags of the connections of one process.
#[derive(Default)]
pub(crate) struct Ports(Mutex<Table>);

#[derive(Default)]
struct Table {
    slots: Vec<Option<(u32, Arc<Flag>)>>,
    open: usize,
}

impl Ports {
    /// Opens a port; from now on it can be woken.
    pub(crate) fn open(&self, port: PortId) -> Arc<Flag> {
        let flag = Arc::<Flag>::default();
        let mut table = lock(&self.0);
        let index = port.index as usize;
        if table.slots.len() <= index {
            table.slots.resize_with(index + 1, || None);
        }
        if table.slots[index].replace((port.generation, Arc::clone(&flag))).is_none() {
            table.open += 1;
        }
        flag
    }

    /// Closes a port, unless its place has a new owner already.
    pub(crate) fn close(&self, port: PortId) {
        let mut table = lock(&self.0);
        let slot = table.slots.get_mut(port.index as usize);
        if slot.and_then(|slot| slot.take_if(|(generation, _)| *generation == port.generation)).is_some() {
            table.open -= 1;
        }
    }

    /// Raises the flag of a port; one that is gone is ignored.
    pub(crate) fn wake(&self, port: PortId) {
        let flag = match lock(&self.0).slots.get(port.index as usize) {
            Some(Some((generation, flag))) if *generation == port.generation => Arc::clone(flag),
            _ => return,
        };
        flag.raise();
    }

    /// Raises every flag.
    pub(crate) fn wake_all(&self) {
        let flags: Vec<_> = lock(&self.0).slots.iter().flatten().map(|(_, flag)| Arc::clone(flag)).collect();
        flags.iter().for_each(|flag| flag.raise());
    }

    /// Whether no port is open.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).open == 0
    }
}

/// Nothing under these locks can be left half done, so one that a panic poisoned is taken over.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::task::Poll;
    use std::thread;

    use super::*;

    const OLD: PortId = PortId { index: 3, generation: 7 };
    const NEW: PortId = PortId { index: 3, generation: 8 };

    #[test]
    fn a_flag_stays_raised_until_it_is_lowered() {
        let flag = Flag::default();
        flag.raise();
        flag.raise();
        assert!(flag.is_raised());
        assert!(flag.lower());
        assert!(!flag.lower());
    }

    #[test]
    fn no_wake_from_another_thread_is_lost() {
        const LETTERS: usize = 100_000;
        let (flag, sent, seen) = (Flag::default(), AtomicUsize::new(0), AtomicUsize::new(0));
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

    #[test]
    fn a_wake_for_a_connection_that_is_gone_does_not_reach_the_next_in_its_place() {
        let ports = Ports::default();
        ports.open(OLD);
        ports.close(OLD);
        let flag = ports.open(NEW);
        ports.wake(OLD);
        assert!(!flag.is_raised());
        ports.wake(NEW);
        assert!(flag.is_raised());
    }

    #[test]
    fn closing_late_does_not_close_the_next_in_its_place() {
        let ports = Ports::default();
        ports.open(OLD);
        let flag = ports.open(NEW);
        ports.close(OLD);
        assert!(!ports.is_empty());
        ports.wake_all();
        assert!(flag.is_raised());
        ports.close(NEW);
        assert!(ports.is_empty());
    }
}
