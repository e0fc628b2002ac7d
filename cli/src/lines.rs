//! Lines to a slow reader without ever waiting for it.
//!
//! Whoever logs only appends to a list under a short lock; one thread puts the lines into words and writes them out. So
//! a terminal that is stopped (Ctrl-S), a full pipe or a slow disk never stops a connection, and memory stays bounded: what
//! does not fit is dropped, counted, and the count is written when there is room again. An output that is closed is not an
//! error: whoever closed it does not want the lines.
//! ```text
//! connections > line() > [ list, 256 KiB ] > thread > stderr
//! ```
//! Waking the thread costs more than a line. So it gathers what comes within some milliseconds, and as long as lines go on
//! coming it looks by itself and nobody wakes it.

use std::io::{self, Write};
use std::panic;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What may wait: some 2,000 request lines.
const BUFFER_BYTES_MAX: usize = 256 * 1024;
/// From here on lines are not gathered any longer.
const BUFFER_BYTES_FULL: usize = BUFFER_BYTES_MAX / 2;
/// How long lines are gathered where nobody watches them come.
pub(crate) const GATHER: Duration = Duration::from_millis(10);
/// What was logged last gets this long to be written at the end.
const FINISH: Duration = Duration::from_secs(1);

/// What becomes a line.
pub(crate) trait Line: Send + 'static {
    /// How much memory it takes, about.
    fn bytes(&self) -> usize;
    /// Appends it, without its line end.
    fn put(self, out: &mut String);
}

/// Where lines go. Dropping it writes out what is left.
pub(crate) struct LineWriter<L: Line> {
    shared: Arc<Shared<L>>,
}

struct Shared<L> {
    gather: Duration,
    waiting: Mutex<Waiting<L>>,
    changed: Condvar,
}

struct Waiting<L> {
    lines: Vec<L>,
    bytes: usize,
    dropped: u64,
    /// The writer sleeps until the next line.
    idle: bool,
    /// Somebody waits until all is written.
    flushing: bool,
    /// Nothing follows: write at once and end.
    finishing: bool,
    /// The writer has ended.
    ended: bool,
}

impl<L: Line> LineWriter<L> {
    /// Starts the thread that writes to `out` what came within `gather`; with zero each line at once.
    pub(crate) fn start(out: impl Write + Send + 'static, gather: Duration) -> io::Result<Self> {
        let shared = Arc::new(Shared { gather, waiting: Mutex::default(), changed: Condvar::new() });
        let for_thread = shared.clone();
        thread::Builder::new().name("log".into()).spawn(move || for_thread.write_to(out))?;
        Ok(Self { shared })
    }

    /// Hands over one line.
    pub(crate) fn line(&self, line: L) {
        let mut waiting = self.shared.lock();
        let before = waiting.bytes;
        let bytes = before + line.bytes();
        if bytes > BUFFER_BYTES_MAX {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes = bytes;
        waiting.lines.push(line);
        let fills = before < BUFFER_BYTES_FULL && bytes >= BUFFER_BYTES_FULL;
        if std::mem::take(&mut waiting.idle) || fills {
            drop(waiting);
            self.shared.changed.notify_all();
        }
    }

    /// Writes out what was logged so far, for at most a second.
    pub(crate) fn flush(&self) {
        self.shared.hurry(|waiting| waiting.flushing = true, |waiting| waiting.flushing && !waiting.ended);
    }

    /// Writes out what is left, for at most a second. Nothing follows.
    pub(crate) fn finish(&self) {
        self.shared.hurry(|waiting| waiting.finishing = true, |waiting| !waiting.ended);
    }

    /// From now on a panic of any thread first has what was logged before it written out: it may end the process.
    pub(crate) fn flush_at_panics(self: &Arc<Self>)
    where
        L: Send,
    {
        let (lines, next) = (Arc::downgrade(self), panic::take_hook());
        panic::set_hook(Box::new(move |panic| {
            if let Some(lines) = lines.upgrade() {
                lines.flush();
            }
            next(panic);
        }));
    }
}

impl<L: Line> Drop for LineWriter<L> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl<L> Default for Waiting<L> {
    fn default() -> Self {
        let (flushing, finishing) = (false, false);
        Self { lines: Vec::new(), bytes: 0, dropped: 0, idle: false, flushing, finishing, ended: false }
    }
}

impl<L> Waiting<L> {
    /// What waits, if anything does, is to be written at once.
    fn presses(&self) -> bool {
        self.finishing || self.flushing || self.bytes >= BUFFER_BYTES_FULL
    }
}

impl<L: Line> Shared<L> {
    /// A panic elsewhere does not end the log: the list is whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Waiting<L>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says so, and waits for it, at most [`FINISH`].
    fn hurry(&self, say: impl FnOnce(&mut Waiting<L>), until: impl FnMut(&mut Waiting<L>) -> bool) {
        let mut waiting = self.lock();
        say(&mut waiting);
        self.changed.notify_all();
        drop(self.changed.wait_timeout_while(waiting, FINISH, until));
    }

    fn write_to(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        while let Some(dropped) = self.next_batch(&mut batch) {
            let mut text = String::with_capacity(batch.iter().map(Line::bytes).sum());
            for line in batch.drain(..) {
                line.put(&mut text);
                text.push('\n');
            }
            let _ = out.write_all(text.as_bytes());
            if dropped > 0 {
                let _ = writeln!(
                    out,
                    "gesher: {dropped} log lines were dropped: they came faster than they could be written"
                );
            }
            let _ = out.flush();
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Waits for lines, takes them all, and says how many had been dropped; none when no more will come.
    fn next_batch(&self, batch: &mut Vec<L>) -> Option<u64> {
        let mut waiting = self.lock();
        loop {
            let wait = self.changed.wait_timeout_while(waiting, self.gather, |waiting| !waiting.presses());
            (waiting, _) = wait.unwrap_or_else(PoisonError::into_inner);
            if !waiting.lines.is_empty() {
                std::mem::swap(&mut waiting.lines, batch);
                waiting.bytes = 0;
                return Some(std::mem::take(&mut waiting.dropped));
            }
            if waiting.finishing {
                return None;
            }
            if std::mem::take(&mut waiting.flushing) {
                self.changed.notify_all();
            }
            // A rest: the memory of a crowd's lines is not kept.
            (*batch, waiting.lines) = (Vec::new(), Vec::new());
            waiting.idle = true;
            let wait =
                self.changed.wait_while(waiting, |waiting| waiting.lines.is_empty() && !waiting.presses());
            waiting = wait.unwrap_or_else(PoisonError::into_inner);
            waiting.idle = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    impl Line for String {
        fn bytes(&self) -> usize {
            self.len()
        }
        fn put(self, out: &mut String) {
            out.push_str(&self);
        }
    }

    /// Takes what is written only when the test lets it.
    struct Gate {
        open: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.open.recv();
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (Gate, mpsc::Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (opener, open) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        (Gate { open, written: written.clone() }, opener, written)
    }

    #[test]
    fn what_was_logged_is_written_in_order_before_the_end() {
        let (gate, opener, written) = gate();
        drop(opener);
        let lines = LineWriter::start(gate, GATHER).unwrap();
        for number in 0..1000 {
            lines.line(number.to_string());
        }
        drop(lines);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert!(text.lines().eq((0..1000).map(|number| number.to_string())));
    }

    /// Tells each write.
    struct Told(mpsc::Sender<String>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told(gather: Duration) -> (Arc<LineWriter<String>>, mpsc::Receiver<String>) {
        let (tell, told) = mpsc::channel();
        (Arc::new(LineWriter::start(Told(tell), gather).unwrap()), told)
    }

    const LONG: Duration = Duration::from_secs(3600);
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn what_comes_within_a_moment_is_written_at_once_and_where_somebody_watches_each_line_is() {
        let (gathered, written) = told(LONG);
        for line in ["a", "b", "c"] {
            gathered.line(line.to_owned());
        }
        gathered.flush();
        assert_eq!(written.try_iter().collect::<Vec<_>>(), ["a\nb\nc\n"]);
        gathered.line("d".to_owned());
        drop(gathered);
        assert_eq!(written.try_iter().collect::<Vec<_>>(), ["d\n"]);

        let (watched, written) = told(Duration::ZERO);
        for line in ["a", "b", "c"] {
            watched.line(line.to_owned());
            assert_eq!(written.recv_timeout(PATIENCE).unwrap(), format!("{line}\n"));
        }
    }

    #[test]
    fn a_list_that_fills_is_written_before_its_time() {
        let (gathered, written) = told(LONG);
        let line = "x".repeat(1024);
        for _ in 0..BUFFER_BYTES_FULL / 1024 {
            gathered.line(line.clone());
        }
        assert_eq!(written.recv_timeout(PATIENCE).unwrap().lines().count(), BUFFER_BYTES_FULL / 1024);
    }

    #[test]
    fn what_was_logged_before_a_panic_is_written_before_anything_else_happens() {
        let (gathered, written) = told(LONG);
        gathered.flush_at_panics();
        let logging = gathered.clone();
        let panicked = thread::spawn(move || {
            logging.line("the last words".to_owned());
            panic!("as the test wants");
        });
        assert!(panicked.join().is_err());
        assert_eq!(written.try_iter().collect::<Vec<_>>(), ["the last words\n"]);
    }

    #[test]
    fn a_reader_that_stopped_costs_bounded_memory_and_learns_what_it_missed() {
        let (gate, opener, written) = gate();
        let lines = LineWriter::start(gate, GATHER).unwrap();
        let line = "x".repeat(1023);
        for _ in 0..2048 {
            lines.line(line.clone());
        }
        assert!(lines.shared.lock().bytes <= BUFFER_BYTES_MAX);
        drop(opener);
        drop(lines);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let (kept, notes): (Vec<_>, Vec<_>) = text.lines().partition(|written| *written == line);
        let dropped = |note: &&str| note.split(' ').nth(1).and_then(|count| count.parse::<usize>().ok());
        let dropped: usize = notes.iter().map(|note| dropped(note).unwrap()).sum();
        assert!(dropped > 0);
        assert_eq!(kept.len() + dropped, 2048, "{notes:?}");
    }

    #[test]
    fn a_closed_output_is_no_error() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let lines = LineWriter::start(Closed, GATHER).unwrap();
        lines.line("nobody reads this".to_owned());
        lines.finish();
        assert!(lines.shared.lock().ended);
    }
}
