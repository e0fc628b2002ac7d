//! Connections as threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gesher_core::drive::{self, Carrier, Start};
use gesher_core::machine::Machine;
use gesher_core::time::Now;

use crate::conn::{Connection, cut_all};
use crate::system::{Clock, Socket};
use crate::watch::Watch;

/// How many connections a process may have where [`connections_max`](drive::Options::connections_max) does not say: each
/// has one or two threads.
pub const CONNECTIONS_MAX: usize = 512;

/// What the connections of one process share.
pub(crate) type World = drive::World<Threads>;

/// Runs each connection in threads of its own.
pub(crate) struct Threads {
    pub(crate) clock: Clock,
    pub(crate) watch: Arc<Watch>,
    over: AtomicBool,
}

impl Threads {
    pub(crate) fn new(clock: Clock, watch: Arc<Watch>) -> Self {
        Self { clock, watch, over: AtomicBool::new(false) }
    }
}

impl Carrier for Threads {
    type Flag = Connection;
    type Socket = Socket;
    const CONNECTIONS_MAX: usize = CONNECTIONS_MAX;

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn carry(&self, world: Arc<World>, machine: Box<dyn Machine>, start: Start<Socket>) {
        let connection = Connection::new(world, machine, &start);
        // Looked at after its port was opened: so either this sees it, or `cut` does.
        if self.over.load(Ordering::SeqCst) {
            connection.cut();
        } else {
            connection.start(start, self.clock);
        }
    }

    /// Resets them; their machines are told.
    fn cut(&self, world: &World) {
        self.over.store(true, Ordering::SeqCst);
        cut_all(&world.flags());
    }
}

/// No lock here guards what a panic could leave half done, so one that a panic poisoned is taken over.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
