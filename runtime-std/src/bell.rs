//! Where the two threads of a connection wait for each other, for wakes and for deadlines.
//!
//! A bell has a lock of its own, and nothing is done under it: so a connection's machine can ring another's bell while
//! it holds the lock of its own. Whatever is rung while nobody waits stays rung.
//!
//! | the writer | a wake, and a deadline, are served by |
//! | --- | --- |
//! | is busy | the writer, when it looks |
//! | waits | the writer, which is woken |
//! | is blocked in a write | the watch; a wake only if the write goes on |

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
            match state.writer {
                Writer::Busy => {}
                Writer::Waits(_) => self.wake_writer(state),
                Writer::Blocked => self.look(Instant::now().checked_add(GRACE)),
            }
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

    /// The reader waits until it is told that input is wanted.
    pub(crate) fn wait_to_read(&self) {
        let idle = |state: &mut State| !state.reader_told && !state.over;
        wait(&self.for_reader, lock(&self.state), None, idle).0.reader_told = false;
    }

    /// Input is wanted again.
    pub(crate) fn tell_reader(&self) {
        lock(&self.state).reader_told = true;
        self.for_reader.notify_one();
    }

    /// Others let the machine run: there may be output, and another deadline.
    pub(crate) fn tell_writer(&self, output: bool, until: Option<Instant>) {
        let mut state = lock(&self.state);
        match state.writer {
            Writer::Busy => state.writer_told = true,
            Writer::Waits(known) if output || is_earlier(until, known) => {
                state.writer_told = true;
                self.wake_writer(state);
            }
            Writer::Waits(_) => {}
            Writer::Blocked => self.look(until),
        }
    }

    /// The writer is about to block; the machine's deadline is `until`. False if the connection is over.
    pub(crate) fn block(&self, until: Option<Instant>) -> bool {
        let mut state = lock(&self.state);
        state.writer = Writer::Blocked;
        self.look(until);
        if state.raised {
            self.look(Instant::now().checked_add(GRACE));
        }
        !state.over
    }

    /// The writer is back.
    pub(crate) fn unblock(&self) {
        lock(&self.state).writer = Writer::Busy;
    }

    /// Whether the writer is blocked in a write.
    pub(crate) fn is_blocked(&self) -> bool {
        matches!(lock(&self.state).writer, Writer::Blocked)
    }

    /// The connection is over: nobody waits here any more. Whether the writer is blocked; it will not be later.
    pub(crate) fn end(&self) -> bool {
        let mut state = lock(&self.state);
        state.over = true;
        self.for_writer.notify_one();
        self.for_reader.notify_one();
        self.watch.forget(&self.connection);
        matches!(state.writer, Writer::Blocked)
    }

    /// Only after the lock is free, or the one who comes would meet it taken.
    fn wake_writer(&self, state: MutexGuard<'_, State>) {
        drop(state);
        self.for_writer.notify_one();
    }

    /// Lets the watch look at the connection at `at`.
    fn look(&self, at: Option<Instant>) {
        if let Some(at) = at {
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
    fn the_watch_looks_at_a_blocked_writer_at_the_earliest_deadline_or_soon_after_a_wake() {
        let bell = bell();
        let (sooner, later) = (from_now(LONG), from_now(LONG * 2));
        bell.tell_writer(true, sooner);
        assert_eq!(bell.watch.next(), None, "a busy writer looks itself");
        assert!(bell.block(later));
        assert_eq!(bell.watch.next(), later);
        bell.tell_writer(true, sooner);
        bell.tell_writer(true, later);
        assert_eq!(bell.watch.next(), sooner);
        bell.raise();
        assert!(bell.watch.next() < sooner);
        assert!(bell.end());
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
