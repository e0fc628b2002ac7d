//! Connections as threads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use gesher_core::drive::{self, Carrier, Start};
use gesher_core::machine::Machine;
use gesher_core::time::Now;

use crate::conn::{Connection, cut_all};
use crate::system::{Clock, Socket};
use crate::watch::Watch;

/// The stack of every thread. No more than 24 KiB of it were seen in use, 32 with the backtrace of a panic; what is not
/// used is not there.
const STACK_BYTES: usize = 128 * 1024;

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
}

/// Resets all connections of a process, and every one that it still opens; their machines are told.
pub(crate) fn cut(world: &World) {
    world.carrier().over.store(true, Ordering::SeqCst);
    cut_all(&world.flags());
}

/// Starts a thread with a small stack.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    // One type for all work: what the standard library makes of each is 2 KB of program.
    let work: Box<dyn FnOnce() + Send> = Box::new(work);
    thread::Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(work)
}
