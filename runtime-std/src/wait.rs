//! Locks and waiting, the same everywhere: no lock here guards what a panic could leave half done, so one that a panic
//! poisoned is taken over.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits as long as it is `idle`, until `until` at the latest; whether that was reached.
pub(crate) fn wait<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    until: Option<Instant>,
    idle: impl FnMut(&mut T) -> bool,
) -> (MutexGuard<'a, T>, bool) {
    match until.map(|until| until.saturating_duration_since(Instant::now())) {
        None => (condvar.wait_while(guard, idle).unwrap_or_else(PoisonError::into_inner), false),
        Some(left) => {
            let waited = condvar.wait_timeout_while(guard, left, idle);
            let (guard, result) = waited.unwrap_or_else(PoisonError::into_inner);
            (guard, result.timed_out())
        }
    }
}
