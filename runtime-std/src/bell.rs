//! Where the two threads of a connection wait for each other, for wakes and for deadlines.
//!
//! A bell has a lock of its own, and nothing is done under it: so a connection's machine can ring another's bell while
//! it holds the lock of its own. Whatever is rung while nobody waits stays rung.
//! ```text
//!             writer busy      writer waits    writer blocked,    writer blocked,
//!                                              reader waits       reader reads
//! a wake      it will look     wakes it        wakes the reader   the watch, if the write goes on
//! a deadline  it will look     its own wait    the watch          the watch
//! ```

use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use crate::conn::Connection;
use crate::wait::{lock, wait};
use crate::watch::Watch;

/// A blocked write gets this long before the watch serves a wake in its place: most are over by then.
const GRACE: Duration = Duration::from_millis(20);

pub(crate) struct Bell {
    state: Mutex<State>,
    for_writer: Condvar,
    for_reader: Condvar,
    watch: Arc<Watch>,
    /// Whom the watch is to look at.
    connection: Weak<Connection>,
}

#[derive(Default)]
struct State {
    /// The sticky flag of the port.
    raised: bool,
    /// The writer has to look at the connection again.
    writer_told: bool,
    writer: Writer,
    /// The reader has to look at the connection again.
    reader_told: bool,
    reader_waits: bool,
    /// When the watch looks at the connection.
    watched_at: Option<Instant>,
    over: bool,
}

/// What the writer does.
#[derive(Clone, Copy, Default)]
enum Writer {
    /// Something, and then it looks at the bell.
    #[default]
    Busy,
    /// Waits, until then at the latest.
    Waits(Option<Instant>),
    /// Is blocked in a write, for nobody knows how long.
    Blocked,
}

impl Bell {
    pub(crate) fn new(watch: Arc<Watch>, connection: Weak<Connection>) -> Self {
        Self {
            state: Mutex::default(),
            for_writer: Condvar::new(),
            for_reader: Condvar::new(),
            watch,
            connection,
        }
    }

    /// Raises the flag and sees to it that somebody lets the machine run.
    pub(crate) fn raise(&self) {
        let mut state = lock(&self.state);
        if !std::mem::replace(&mut state.raised, true) {
            self.call(state);
        }
    }

    /// Lowers the flag; whether it was raised. To be called right before the machine runs.
    pub(crate) fn lower(&self) -> bool {
        std::mem::take(&mut lock(&self.state).raised)
    }

    /// The writer waits for a wake, for output, or until `until`; whether that is over.
    pub(crate) fn wait_to_write(&self, until: Option<Instant>) -> bool {
        let mut state = lock(&self.state);
        state.writer = Writer::Waits(until);
        let idle = |state: &mut State| !state.raised && !state.writer_told && !state.over;
        let (mut state, timed_out) = wait(&self.for_writer, state, until, idle);
        state.writer = Writer::Busy;
        state.writer_told = false;
        timed_out
    }

    /// The reader waits until it is told that input is wanted, or has to serve a wake in the writer's place.
    pub(crate) fn wait_to_read(&self) {
        let mut state = lock(&self.state);
        state.reader_waits = true;
        let idle = |state: &mut State| {
            let stands_in = state.raised && matches!(state.writer, Writer::Blocked);
            !stands_in && !state.reader_told && !state.over
        };
        (state, _) = wait(&self.for_reader, state, None, idle);
        state.reader_waits = false;
        state.reader_told = false;
    }

    /// Input is wanted again.
    pub(crate) fn tell_reader(&self) {
        let mut state = lock(&self.state);
        state.reader_told = true;
        if state.reader_waits {
            drop(state);
            self.for_reader.notify_one();
        }
    }

    /// Others let the machine run: there may be output, and another deadline.
    pub(crate) fn tell_writer(&self, output: bool, until: Option<Instant>) {
        let mut state = lock(&self.state);
        match state.writer {
            Writer::Busy => state.writer_told = true,
            Writer::Waits(known) if output || is_earlier(until, known) => {
                state.writer_told = true;
                drop(state);
                self.for_writer.notify_one();
            }
            Writer::Waits(_) => {}
            Writer::Blocked => self.look(&mut state, until),
        }
    }

    /// The writer is about to block; the machine's deadline is `until`. False if the connection is over.
    pub(crate) fn block(&self, until: Option<Instant>) -> bool {
        let mut state = lock(&self.state);
        state.writer = Writer::Blocked;
        self.look(&mut state, until);
        let goes_on = !state.over;
        if state.raised {
            self.call(state);
        }
        goes_on
    }

    /// The writer is back.
    pub(crate) fn unblock(&self) {
        let mut state = lock(&self.state);
        state.writer = Writer::Busy;
        if let Some(at) = state.watched_at.take() {
            self.watch.forget(at, &self.connection);
        }
    }

    /// The watch came by; whether the writer is blocked.
    pub(crate) fn is_blocked(&self) -> bool {
        let mut state = lock(&self.state);
        state.watched_at = None;
        matches!(state.writer, Writer::Blocked)
    }

    /// The connection is over: nobody waits here any more. Whether the writer is blocked; it will not be later.
    pub(crate) fn end(&self) -> bool {
        let mut state = lock(&self.state);
        state.over = true;
        self.for_writer.notify_one();
        self.for_reader.notify_one();
        matches!(state.writer, Writer::Blocked)
    }

    /// Calls whoever can serve the flag; only after the lock is free, or the one who comes would meet it taken.
    fn call(&self, mut state: MutexGuard<'_, State>) {
        match state.writer {
            Writer::Busy => {}
            Writer::Waits(_) => {
                drop(state);
                self.for_writer.notify_one();
            }
            Writer::Blocked if state.reader_waits => {
                drop(state);
                self.for_reader.notify_one();
            }
            Writer::Blocked => self.look(&mut state, Instant::now().checked_add(GRACE)),
        }
    }

    /// Lets the watch look at the connection at `at`, if it would not do so earlier.
    fn look(&self, state: &mut State, at: Option<Instant>) {
        if let Some(at) = at
            && is_earlier(Some(at), state.watched_at)
        {
            if let Some(later) = state.watched_at.replace(at) {
                self.watch.forget(later, &self.connection);
            }
            self.watch.look(at, &self.connection);
        }
    }
}

/// Whether a deadline is earlier than another; none is later than any.
fn is_earlier(deadline: Option<Instant>, other: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| other.is_none_or(|other| deadline < other))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn bell() -> Bell {
        Bell::new(Arc::default(), Weak::new())
    }

    fn from_now(time: Duration) -> Option<Instant> {
        Instant::now().checked_add(time)
    }

    #[test]
    fn what_is_rung_while_nobody_waits_stays_rung() {
        let bell = bell();
        bell.raise();
        assert!(!bell.wait_to_write(None));
        assert!(bell.lower() && !bell.lower());
        bell.tell_writer(true, None);
        assert!(!bell.wait_to_write(None));
        bell.tell_reader();
        bell.wait_to_read();
        assert!(bell.wait_to_write(from_now(Duration::ZERO)), "nothing is left");
    }

    #[test]
    fn no_wake_from_another_thread_is_lost() {
        const LETTERS: usize = 20_000;
        let (bell, sent, seen) = (bell(), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                for letter in 1..=LETTERS {
                    sent.store(letter, Ordering::Release);
                    bell.raise();
                    // Most letters meet a writer that is about to wait.
                    while letter % 2 == 0 && seen.load(Ordering::Acquire) < letter {
                        thread::yield_now();
                    }
                }
            });
            while seen.load(Ordering::Acquire) < LETTERS {
                assert!(!bell.wait_to_write(from_now(LONG)));
                while bell.lower() {
                    seen.store(sent.load(Ordering::Acquire), Ordering::Release);
                }
            }
        });
    }

    #[test]
    fn a_reader_that_waits_stands_in_for_a_blocked_writer() {
        for blocked_first in [true, false] {
            let bell = bell();
            thread::scope(|scope| {
                let reader = scope.spawn(|| bell.wait_to_read());
                if blocked_first {
                    assert!(bell.block(None));
                    bell.raise();
                } else {
                    bell.raise();
                    assert!(bell.block(None));
                }
                reader.join().unwrap();
            });
        }
    }

    #[test]
    fn only_an_earlier_deadline_or_output_makes_a_writer_look_again() {
        let bell = bell();
        let until = from_now(LONG);
        thread::scope(|scope| {
            let writer = scope.spawn(|| bell.wait_to_write(until));
            while !matches!(lock(&bell.state).writer, Writer::Waits(_)) {
                thread::yield_now();
            }
            bell.tell_writer(false, None);
            bell.tell_writer(false, until);
            assert!(!lock(&bell.state).writer_told);
            bell.tell_writer(false, from_now(LONG / 2));
            assert!(!writer.join().unwrap());
        });
    }

    #[test]
    fn the_watch_looks_only_while_the_writer_is_blocked_and_at_the_earliest_deadline() {
        let bell = bell();
        let (sooner, later) = (from_now(LONG), from_now(LONG * 2));
        assert!(bell.block(later));
        bell.tell_writer(true, sooner);
        bell.tell_writer(true, later);
        assert_eq!(bell.watch.next(), sooner);
        bell.unblock();
        assert_eq!(bell.watch.next(), None);
        bell.tell_writer(true, sooner);
        assert_eq!(bell.watch.next(), None);
    }

    #[test]
    fn at_the_end_nobody_waits_or_blocks() {
        let bell = bell();
        assert!(bell.block(None));
        assert!(bell.end());
        bell.unblock();
        assert!(!bell.wait_to_write(None));
        bell.wait_to_read();
        assert!(!bell.block(None));
    }
}
