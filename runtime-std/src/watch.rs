//! The watch: one thread a run, for deadlines, since the threads of connections may be blocked in system calls; and for what
//! is raised by a thread that serves nobody.
//!
//! At the time that was asked for it lets the connection's machine run; where that ends the connection, the socket is shut
//! down, and its threads come back.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::conn::Connection;
use crate::serve::{serve, serving};
use crate::system::spawn;
use crate::threads::lock;

#[derive(Default)]
pub(crate) struct Watch {
    /// When to look at whom, each once and in no order: there are some hundreds at most.
    due: Mutex<Vec<(Instant, Weak<Connection>)>>,
    over: AtomicBool,
    /// Looks at what is due after it is known here, so that nobody who finds none need wake it.
    keeper: OnceLock<Thread>,
}

impl Watch {
    /// Looks at `connection` at `at`, or earlier if it was to do so already.
    pub(crate) fn look(&self, at: Instant, connection: &Arc<Connection>) {
        let mut due = lock(&self.due);
        let next = next(&due);
        match due.iter_mut().find(|(_, known)| is(known, connection)) {
            Some((known, _)) => *known = at.min(*known),
            None => due.push((at, Arc::downgrade(connection))),
        }
        drop(due);
        if next.is_none_or(|next| at < next) {
            self.keeper.get().inspect(|keeper| keeper.unpark());
        }
    }

    /// Does not look at `connection` any more.
    pub(crate) fn forget(&self, connection: &Connection) {
        lock(&self.due).retain(|(_, known)| !is(known, connection));
    }

    fn keep(&self) {
        let _ = self.keeper.set(thread::current());
        while !self.over.load(Ordering::Acquire) {
            let mut all = lock(&self.due);
            let next = next(&all);
            let left = next.map(|at| at.saturating_duration_since(Instant::now()));
            if left != Some(Duration::ZERO) {
                drop(all);
                left.map_or_else(thread::park, thread::park_timeout);
                continue;
            }
            let due: Vec<_> = all.extract_if(.., |(at, _)| Some(*at) == next).collect();
            drop(all);
            for connection in due.iter().filter_map(|(_, connection)| connection.upgrade()) {
                connection.look_after();
            }
            serve();
        }
    }
}

fn next(due: &[(Instant, Weak<Connection>)]) -> Option<Instant> {
    due.iter().map(|(at, _)| *at).min()
}

fn is(known: &Weak<Connection>, connection: &Connection) -> bool {
    ptr::eq(known.as_ptr(), connection)
}

/// The thread that keeps the watch, for as long as this lives.
pub(crate) struct Watching {
    pub(crate) watch: Arc<Watch>,
    thread: Option<JoinHandle<()>>,
}

impl Watching {
    pub(crate) fn start() -> io::Result<Self> {
        let watch = Arc::<Watch>::default();
        let keeper = Arc::clone(&watch);
        let thread = Some(spawn("watch", move || serving(|| keeper.keep()))?);
        Ok(Self { watch, thread })
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.watch.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
