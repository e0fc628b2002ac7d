//! Readiness and time: what the run's thread waits for when no task can go on.
//!
//! Every socket is registered once, for its edges, and what happens to it is noted in its [`Flag`]. So a wait costs one
//! system call, however many connections there are; async-io would register a socket again for each wait, and set a
//! timer of the kernel for each of its own (16 system calls a small request instead of 6, see docs/performance.md).
//! ```text
//! Watch::of(socket) ─▶ mio ─▶ an edge      ─▶ ┐
//! Watch::wake_at    ─▶ timers ─▶ it is time ─▶ ├─▶ Flag::set ─▶ the task ─▶ executor ─▶ block_on
//! another thread    ─▶ Flag::set, Waker ────▶ ┘
//! ```

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Token};
use smol::Executor;

use crate::flag::{BROKEN, DUE, ENDED, Flag, READABLE, WRITABLE};

/// Who rings when another thread wakes the run.
const BELL: Token = Token(usize::MAX);
/// Edges that are taken from the kernel at once.
const EVENTS: usize = 1024;
/// Tasks that run before sockets are looked at again.
const TICKS: usize = 256;

/// The run's own half: the thread that waits.
pub(crate) struct Driver {
    poll: mio::Poll,
    reactor: Arc<Reactor>,
}

/// The half that connections know.
pub(crate) struct Reactor {
    registry: mio::Registry,
    bell: mio::Waker,
    /// The thread waits, or is about to.
    waits: AtomicBool,
    /// There is something to do.
    rung: AtomicBool,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    flags: Vec<Option<Arc<Flag>>>,
    free: Vec<usize>,
    timers: BTreeSet<(Instant, usize)>,
}

/// A flag that is told of one socket's edges and of one timer, until this is dropped.
pub(crate) struct Watch {
    reactor: Arc<Reactor>,
    flag: Arc<Flag>,
    index: usize,
    /// When the timer fires.
    fires_at: Option<Instant>,
}

impl Driver {
    /// # Errors
    /// If the system has no descriptors left.
    pub(crate) fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let reactor = Arc::new(Reactor {
            registry: poll.registry().try_clone()?,
            bell: mio::Waker::new(poll.registry(), BELL)?,
            waits: AtomicBool::new(false),
            rung: AtomicBool::new(false),
            watched: Mutex::default(),
        });
        Ok(Self { poll, reactor })
    }

    pub(crate) fn reactor(&self) -> &Arc<Reactor> {
        &self.reactor
    }

    /// Runs `future` to its end on this thread, and the tasks of `executor` beside it, and waits for readiness and time
    /// in between.
    pub(crate) fn block_on<T>(mut self, executor: &Executor<'_>, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let waker = Waker::from(Arc::clone(&self.reactor));
        let mut cx = Context::from_waker(&waker);
        let mut events = Events::with_capacity(EVENTS);
        loop {
            // What rings from here on may have been missed below; what rang before is why it runs.
            self.reactor.rung.store(false, Ordering::SeqCst);
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            let all_ran = (0..TICKS).any(|_| !executor.try_tick());
            self.reactor.waits.store(true, Ordering::SeqCst);
            {
                // While this is pending, whoever gives the executor something to do rings.
                let more = pin!(executor.tick());
                let idle =
                    all_ran && more.poll(&mut cx).is_pending() && !self.reactor.rung.load(Ordering::SeqCst);
                let left = if idle { self.reactor.time_left() } else { Some(Duration::ZERO) };
                // Interrupted by a signal: as if nothing had happened.
                if self.poll.poll(&mut events, left).is_err() {
                    events.clear();
                }
            }
            self.reactor.waits.store(false, Ordering::SeqCst);
            self.reactor.note(&events);
        }
    }
}

impl Reactor {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the next timer.
    fn time_left(&self) -> Option<Duration> {
        let next = self.lock().timers.first().map(|(at, _)| *at);
        next.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Tells the flags what happened and what is due.
    fn note(&self, events: &Events) {
        let mut watched = self.lock();
        for event in events {
            if let Some(Some(flag)) = watched.flags.get(event.token().0) {
                flag.set(bits(event));
            }
        }
        if watched.timers.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some((_, index)) = watched.timers.first().copied().filter(|(at, _)| *at <= now) {
            watched.timers.pop_first();
            if let Some(Some(flag)) = watched.flags.get(index) {
                flag.set(DUE);
            }
        }
    }
}

impl Wake for Reactor {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::SeqCst) && self.waits.load(Ordering::SeqCst) {
            // It fails only where the system is out of memory; then a timer or an edge is what wakes.
            let _ = self.bell.wake();
        }
    }
}

impl Watch {
    /// Tells `flag`.
    pub(crate) fn new(reactor: &Arc<Reactor>, flag: Arc<Flag>) -> Self {
        let mut watched = reactor.lock();
        let index = watched.free.pop().unwrap_or(watched.flags.len());
        if index == watched.flags.len() {
            watched.flags.push(None);
        }
        watched.flags[index] = Some(Arc::clone(&flag));
        drop(watched);
        Self { reactor: Arc::clone(reactor), flag, index, fires_at: None }
    }

    /// Watches a socket, which must not block, for as long as it is open.
    ///
    /// # Errors
    /// If the system lacks memory for it.
    pub(crate) fn socket(&self, socket: &impl AsRawFd) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.reactor.registry.register(&mut SourceFd(&socket.as_raw_fd()), Token(self.index), interest)
    }

    /// Sets [`DUE`] at `at`, or at the earlier time that is set already: most deadlines move away before they are
    /// reached, and a timer that fires early is harmless.
    pub(crate) fn wake_at(&mut self, at: Instant) {
        if self.fires_at.is_none_or(|fires_at| at < fires_at) {
            let mut watched = self.reactor.lock();
            if let Some(later) = self.fires_at.replace(at) {
                watched.timers.remove(&(later, self.index));
            }
            watched.timers.insert((at, self.index));
        }
    }

    /// Waits until one of `bits` of its flag is set, and takes them.
    pub(crate) async fn wait(&mut self, bits: u8) {
        poll_fn(|cx| {
            self.flag.register(cx.waker());
            let fired = bits & DUE != 0 && self.fired();
            if self.flag.take(bits) != 0 || fired { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Whether the timer fired since it was set.
    pub(crate) fn fired(&mut self) -> bool {
        let fired = self.flag.take(DUE) != 0;
        if fired {
            self.fires_at = None;
        }
        fired
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.reactor.lock();
        if let Some(at) = self.fires_at {
            watched.timers.remove(&(at, self.index));
        }
        // An edge that is still on its way meets the next flag in this place, which looks for itself what it means.
        let flag = watched.flags[self.index].take();
        watched.free.push(self.index);
        drop(watched);
        drop(flag);
    }
}

fn bits(event: &Event) -> u8 {
    [
        (event.is_readable(), READABLE),
        (event.is_writable(), WRITABLE),
        (event.is_read_closed(), READABLE | ENDED),
        (event.is_error(), READABLE | WRITABLE | BROKEN),
    ]
    .into_iter()
    .filter(|(happened, _)| *happened)
    .fold(0, |bits, (_, bit)| bits | bit)
}
