//! Who can be woken: the connections of a process, found by their flags.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::machine::PortId;

/// What a connection is woken by: sticky, so that raising it while nobody waits is not lost.
pub trait Flag: Send + Sync + 'static {
    /// Raises the flag and lets its connection run, from any thread and whatever else that thread holds.
    fn raise(self: &Arc<Self>);
}

/// The flags of the connections of one process.
pub(super) struct Flags<F>(Mutex<Table<F>>);

struct Table<F> {
    slots: Vec<Option<(u32, Arc<F>)>>,
    open: usize,
}

impl<F> Default for Flags<F> {
    fn default() -> Self {
        Self(Mutex::new(Table { slots: Vec::new(), open: 0 }))
    }
}

impl<F: Flag> Flags<F> {
    /// Opens a port; from now on it can be woken.
    pub(super) fn open(&self, port: PortId, flag: Arc<F>) {
        let mut table = self.lock();
        let index = port.index as usize;
        if table.slots.len() <= index {
            table.slots.resize_with(index + 1, || None);
        }
        if table.slots[index].replace((port.generation, flag)).is_none() {
            table.open += 1;
        }
    }

    /// Closes a port, unless its place has a new owner already.
    pub(super) fn close(&self, port: PortId) {
        let mut table = self.lock();
        let slot = table.slots.get_mut(port.index as usize);
        let closed = slot.and_then(|slot| slot.take_if(|(generation, _)| *generation == port.generation));
        if closed.is_some() {
            table.open -= 1;
        }
        // What it was the last to hold is dropped after the lock is.
        drop(table);
    }

    /// Raises the flag of a port; one that is gone is ignored.
    pub(super) fn wake(&self, port: PortId) {
        let flag = match self.lock().slots.get(port.index as usize) {
            Some(Some((generation, flag))) if *generation == port.generation => Arc::clone(flag),
            _ => return,
        };
        flag.raise();
    }

    /// All flags.
    pub(super) fn all(&self) -> Vec<Arc<F>> {
        self.lock().slots.iter().flatten().map(|(_, flag)| Arc::clone(flag)).collect()
    }

    /// How many ports are open.
    pub(super) fn count(&self) -> usize {
        self.lock().open
    }

    /// Nothing under this lock can be left half done, so one that a panic poisoned is taken over.
    fn lock(&self) -> MutexGuard<'_, Table<F>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const OLD: PortId = PortId { index: 3, generation: 7 };
    const NEW: PortId = PortId { index: 3, generation: 8 };

    #[derive(Default)]
    struct Raised(AtomicBool);

    impl Flag for Raised {
        fn raise(self: &Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_wake_for_a_connection_that_is_gone_does_not_reach_the_next_in_its_place() {
        let (flags, flag) = (Flags::default(), Arc::<Raised>::default());
        flags.open(OLD, Arc::default());
        flags.close(OLD);
        flags.open(NEW, Arc::clone(&flag));
        flags.wake(OLD);
        assert!(!flag.0.load(Ordering::Relaxed));
        flags.wake(NEW);
        assert!(flag.0.load(Ordering::Relaxed));
    }

    #[test]
    fn closing_late_does_not_close_the_next_in_its_place() {
        let (flags, flag) = (Flags::default(), Arc::<Raised>::default());
        flags.open(OLD, Arc::default());
        flags.open(NEW, Arc::clone(&flag));
        flags.close(OLD);
        assert_eq!(flags.count(), 1);
        assert!(Arc::ptr_eq(&flags.all()[0], &flag));
        flags.close(NEW);
        assert_eq!(flags.count(), 0);
    }
}
