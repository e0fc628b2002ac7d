//! Who has mail for a connection serves it: no thread is woken to do what this one can do itself.
//!
//! What a thread raised waits in a queue of its own until it has let go of what it works on. Then it lets each of these
//! machines run, unless another thread is just about that: whoever lets go of a connection looks at its flag once more.
//! ```text
//! raise:  flag ─▶ this thread's queue               let go:  unlock ─▶ fence ─▶ raised? ─▶ this thread's queue
//! serve:  fence ─▶ try to lock ─▶ turn, or leave it
//! ```
//! Of two fences one is first: either the one who raised gets the lock, or the one who had it sees the flag.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;

use crate::conn::Connection;

/// Turns that a thread serves before it comes back to what it is there for; the watch does the rest.
const TURNS_MAX: usize = 128;

thread_local! {
    /// Whom this thread serves next; none if it serves nobody.
    static NEXT: RefCell<Option<VecDeque<Arc<Connection>>>> = const { RefCell::new(None) };
}

/// Does `work` on a thread that serves whom it raises; it has to call [`serve`] before it waits.
pub(crate) fn serving(work: impl FnOnce()) {
    NEXT.set(Some(VecDeque::new()));
    work();
    serve();
}

/// Serves `connection` after what this thread does now; false if it serves nobody.
pub(crate) fn later(connection: &Arc<Connection>) -> bool {
    let queue = |next: &RefCell<Option<VecDeque<_>>>| {
        let mut next = next.borrow_mut();
        let Some(next) = &mut *next else { return false };
        if !next.back().is_some_and(|last| Arc::ptr_eq(last, connection)) {
            next.push_back(Arc::clone(connection));
        }
        true
    };
    // A thread that ends serves nobody.
    NEXT.try_with(queue).unwrap_or(false)
}

/// Serves who is queued, and who is raised by that.
pub(crate) fn serve() {
    let next = || NEXT.with_borrow_mut(|next| next.as_mut().and_then(VecDeque::pop_front));
    // Whoever else can run may have mail for the same one: then all of it is one turn and one write.
    if NEXT.with_borrow(|next| next.as_ref().is_some_and(|next| next.len() == 1)) {
        thread::yield_now();
    }
    let mut turns = 0;
    while let Some(connection) = next() {
        turns += 1;
        if turns <= TURNS_MAX { connection.serve() } else { connection.hand_to_watch() }
    }
}
