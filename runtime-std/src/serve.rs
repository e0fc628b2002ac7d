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

/// Does `work` on a thread that serves whom it raises. Before it waits it has to call [`serve`], and if that served
/// anybody, to look once more at what it waits for.
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

/// Serves who is queued, and who is raised by that; whether there was anybody.
pub(crate) fn serve() -> bool {
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
    turns > 0
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::mpsc::{self, Sender};
    use std::time::Duration;

    use gesher_core::drive::{Flag, Start, StopHandle};
    use gesher_core::fault::Fault;
    use gesher_core::machine::{Cx, Io, Lost, Machine, PortId, Process, Want};

    use super::*;
    use crate::system::Clock;
    use crate::threads::{Threads, World};
    use crate::watch::Watching;

    const PATIENCE: Duration = Duration::from_secs(20);

    struct Nobody;

    impl Process for Nobody {
        fn supervisor(self: Arc<Self>) -> Option<Box<dyn Machine>> {
            None
        }
        fn accept(self: Arc<Self>, _: SocketAddr) -> Option<Box<dyn Machine>> {
            None
        }
        fn drain(&self, _: &mut Cx<'_>) {}
    }

    /// Tells its number, and whether the watch let it run.
    struct Numbered(usize, Sender<(usize, bool)>);

    impl Machine for Numbered {
        fn port(&self) -> PortId {
            PortId { index: self.0 as u32, generation: 0 }
        }
        fn advance(&mut self, _: &mut Cx<'_>, _: &mut Io) -> Result<Want, Fault> {
            self.1.send((self.0, thread::current().name() == Some("watch"))).unwrap();
            Ok(Want::default())
        }
        fn lost(&mut self, _: &mut Cx<'_>, _: Lost) {}
    }

    fn numbered(count: usize, watching: &Watching, told: &Sender<(usize, bool)>) -> Vec<Arc<Connection>> {
        let threads = Threads::new(Clock::start(), Arc::clone(&watching.watch));
        let world = World::new(Arc::new(Nobody), Arc::new(|_| {}), threads, count, StopHandle::default());
        let machine = |number| Box::new(Numbered(number, told.clone()));
        (0..count)
            .map(|number| Connection::new(Arc::clone(&world), machine(number), &Start::Supervisor))
            .collect()
    }

    #[test]
    fn who_is_raised_is_served_once_and_in_order_after_what_the_thread_does() {
        let ((told, heard), watching) = (mpsc::channel(), Watching::start().unwrap());
        let connections = numbered(3, &watching, &told);
        serving(|| {
            for number in [2, 0, 0, 2, 1] {
                connections[number].raise();
            }
            assert!(heard.try_recv().is_err(), "not before the thread is done with what it does");
        });
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [(2, false), (0, false), (1, false)]);
    }

    #[test]
    fn whom_a_thread_has_no_turn_left_for_the_watch_serves() {
        let ((told, heard), watching) = (mpsc::channel(), Watching::start().unwrap());
        let connections = numbered(TURNS_MAX + 1, &watching, &told);
        serving(|| connections.iter().for_each(Flag::raise));
        let mut served: Vec<_> = connections.iter().map(|_| heard.recv_timeout(PATIENCE).unwrap()).collect();
        served.sort();
        assert!(served.into_iter().eq((0..=TURNS_MAX).map(|number| (number, number == TURNS_MAX))));
    }
}
