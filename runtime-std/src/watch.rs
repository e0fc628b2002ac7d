//! The watch: one thread a run, for deadlines, since the threads of connections may be blocked in system calls; and for what
//! is raised by a thread that serves nobody.
//!
//! At the time that was asked for it lets the connection's machine run; where that ends the connection, the socket is shut
//! down, and its threads come back.

use std::io;
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::conn::Connection;
use crate::serve::{serve, serving};
use crate::system::spawn;
use crate::wait::{lock, wait};

#[derive(Default)]
pub(crate) struct Watch {
    rounds: Mutex<Rounds>,
    changed: Condvar,
}

#[derive(Default)]
struct Rounds {
    /// When to look at whom, each once and in no order: there are some hundreds at most.
    due: Vec<(Instant, Weak<Connection>)>,
    over: bool,
}

impl Rounds {
    fn next(&self) -> Option<Instant> {
        self.due.iter().map(|(at, _)| *at).min()
    }
}

impl Watch {
    /// Looks at `connection` at `at`, or earlier if it was to do so already.
    pub(crate) fn look(&self, at: Instant, connection: &Arc<Connection>) {
        let mut rounds = lock(&self.rounds);
        let next = rounds.next();
        match rounds.due.iter_mut().find(|(_, known)| is(known, connection)) {
            Some((known, _)) => *known = at.min(*known),
            None => rounds.due.push((at, Arc::downgrade(connection))),
        }
        if next.is_none_or(|next| at < next) {
            self.changed.notify_one();
        }
    }

    /// Does not look at `connection` any more.
    pub(crate) fn forget(&self, connection: &Connection) {
        lock(&self.rounds).due.retain(|(_, known)| !is(known, connection));
    }

    fn keep(&self) {
        let mut rounds = lock(&self.rounds);
        while !rounds.over {
            let next = rounds.next();
            if next.is_some_and(|at| at <= Instant::now()) {
                let due = rounds.due.extract_if(.., |(at, _)| Some(*at) == next).collect::<Vec<_>>();
                drop(rounds);
                for connection in due.iter().filter_map(|(_, connection)| connection.upgrade()) {
                    connection.look_after();
                }
                serve();
                rounds = lock(&self.rounds);
            } else {
                let idle = |rounds: &mut Rounds| !rounds.over && rounds.next() == next;
                (rounds, _) = wait(&self.changed, rounds, next, idle);
            }
        }
    }
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
        lock(&self.watch.rounds).over = true;
        self.watch.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
