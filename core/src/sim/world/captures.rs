//! Captures of the processes of a world (see [`crate::capture`]).

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use super::World;
use crate::capture::Recorder;

/// A capture in memory.
#[derive(Clone, Default)]
pub(super) struct Tape(Arc<Mutex<Vec<u8>>>);

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl World {
    /// Captures every process that is started from now on (see the module [`crate::capture`]), up to so many bytes each.
    pub fn capture_all(&mut self, bytes_max: u64) {
        self.captures = Some(Vec::new());
        self.capture_bytes_max = bytes_max;
    }

    /// The capture of a process: of the last of this name.
    ///
    /// # Panics
    /// If it was not captured.
    pub fn capture(&self, name: &str) -> Vec<u8> {
        self.captures().rfind(|(captured, _)| *captured == name).expect("a captured process").1
    }

    /// All captures, with the names of their processes.
    pub fn captures(&self) -> impl DoubleEndedIterator<Item = (&str, Vec<u8>)> {
        let copy = |tape: &Tape| tape.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.captures.iter().flatten().map(move |(name, tape)| (name.as_str(), copy(tape)))
    }

    #[cfg(test)]
    pub(crate) fn secret_seeds(&self) -> &[[u8; 32]] {
        &self.secret_seeds
    }

    pub(super) fn recorder(&mut self, name: &str) -> Option<Arc<Recorder>> {
        let tape = Tape::default();
        self.captures.as_mut()?.push((name.to_owned(), tape.clone()));
        Some(Recorder::new(Box::new(tape), self.capture_bytes_max, |_| {}))
    }
}
