//! Lines to a slow reader without ever waiting for it.
//!
//! Whoever logs only appends to a list under a short lock; one thread puts the lines into words and writes them out. So
//! a terminal that is stopped (Ctrl-S), a full pipe or a slow disk never stops a connection, and memory stays bounded: what
//! does not fit is dropped, counted, and the count is written when there is room again. An output that is closed is not an
//! error: whoever closed it does not want the lines.
//! ```text
//! connections > line() > [ list, 256 KiB ] > thread > stderr
//! ```

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What may wait: some 2,000 request lines.
const BUFFER_BYTES_MAX: usize = 256 * 1024;
/// Lines are collected this long, so that at thousands a second they share a write and a wake-up.
const COLLECT: Duration = Duration::from_millis(5);
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
    waiting: Mutex<Waiting<L>>,
    changed: Condvar,
}

struct Waiting<L> {
    lines: Vec<L>,
    bytes: usize,
    dropped: u64,
    /// The writer waits for a line.
    idle: bool,
    /// Nothing follows: write at once and end.
    finishing: bool,
    /// The writer has ended.
    ended: bool,
}

impl<L: Line> LineWriter<L> {
    /// Starts the thread that writes to `out`.
    pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let waiting =
            Waiting { lines: Vec::new(), bytes: 0, dropped: 0, idle: false, finishing: false, ended: false };
        let shared = Arc::new(Shared { waiting: Mutex::new(waiting), changed: Condvar::new() });
        let for_thread = shared.clone();
        thread::Builder::new().name("log".into()).spawn(move || for_thread.write_to(out))?;
        Ok(Self { shared })
    }

    /// Hands over one line.
    pub(crate) fn line(&self, line: L) {
        let mut waiting = self.shared.lock();
        let bytes = waiting.bytes + line.bytes();
        if bytes > BUFFER_BYTES_MAX {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes = bytes;
        waiting.lines.push(line);
        if waiting.idle {
            self.shared.changed.notify_all();
        }
    }

    /// Writes out what is left, for at most a second.
    pub(crate) fn finish(&self) {
        let mut waiting = self.shared.lock();
        waiting.finishing = true;
        self.shared.changed.notify_all();
        let _ = self.shared.changed.wait_timeout_while(waiting, FINISH, |waiting| !waiting.ended);
    }
}

impl<L: Line> Drop for LineWriter<L> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl<L: Line> Shared<L> {
    /// A panic elsewhere does not end the log: the list is whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Waiting<L>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut out: impl Write) {
        let (mut batch, mut text) = (Vec::new(), String::new());
        while let Some(dropped) = self.next_batch(&mut batch) {
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
            text.clear();
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Waits for lines, takes them all, and says how many had been dropped; none when no more will come.
    fn next_batch(&self, batch: &mut Vec<L>) -> Option<u64> {
        let mut waiting = self.lock();
        waiting.idle = true;
        let wait = self.changed.wait_while(waiting, |waiting| waiting.lines.is_empty() && !waiting.finishing);
        waiting = wait.unwrap_or_else(PoisonError::into_inner);
        waiting.idle = false;
        let wait = self.changed.wait_timeout_while(waiting, COLLECT, |waiting| !waiting.finishing);
        (waiting, _) = wait.unwrap_or_else(PoisonError::into_inner);
        if waiting.lines.is_empty() {
            return None;
        }
        std::mem::swap(&mut waiting.lines, batch);
        waiting.bytes = 0;
        Some(std::mem::take(&mut waiting.dropped))
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
        let lines = LineWriter::start(gate).unwrap();
        for number in 0..1000 {
            lines.line(number.to_string());
        }
        drop(lines);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert!(text.lines().eq((0..1000).map(|number| number.to_string())));
    }

    #[test]
    fn a_reader_that_stopped_costs_bounded_memory_and_learns_what_it_missed() {
        let (gate, opener, written) = gate();
        let lines = LineWriter::start(gate).unwrap();
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
        let lines = LineWriter::start(Closed).unwrap();
        lines.line("nobody reads this".to_owned());
        lines.finish();
        assert!(lines.shared.lock().ended);
    }
}
