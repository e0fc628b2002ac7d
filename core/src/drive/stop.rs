//! Asking a run to stop, from any thread.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Stops one run as signals do, from any thread and at any time, also before it began.
#[derive(Clone, Default)]
pub struct StopHandle(Arc<Asked>);

#[derive(Default)]
struct Asked {
    times: AtomicU32,
    bell: Mutex<Option<Bell>>,
}

type Bell = Arc<dyn Fn() + Send + Sync>;

impl StopHandle {
    /// Asks once more: the first time what is open may finish, the second time everything ends at once.
    pub fn stop(&self) {
        self.0.times.fetch_add(1, Ordering::AcqRel);
        self.ring();
    }

    /// How often it was asked.
    pub fn times(&self) -> u32 {
        self.0.times.load(Ordering::Acquire)
    }

    /// Lets the run look again at whether it is over.
    pub fn ring(&self) {
        let bell = self.0.bell.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(bell) = bell {
            bell();
        }
    }

    /// Calls `bell` at each ring from now on. Whoever begins to wait looks at [`StopHandle::times`] after this.
    pub fn on_ring(&self, bell: impl Fn() + Send + Sync + 'static) {
        *self.0.bell.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(bell));
    }
}
