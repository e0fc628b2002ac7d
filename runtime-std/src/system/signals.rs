//! SIGINT and SIGTERM as bytes in a pipe: one byte, one wish to stop.

use std::io;
use std::os::unix::net::UnixStream;

use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};

/// Receives signals until dropped; afterwards they do nothing.
pub struct Signals {
    received: UnixStream,
    registered: Vec<SigId>,
}

impl Signals {
    /// Begins to receive.
    ///
    /// # Errors
    /// If the system has no descriptors left, or does not let signals be caught.
    pub fn new() -> io::Result<Self> {
        let (received, sent) = UnixStream::pair()?;
        let mut signals = Self { received, registered: Vec::new() };
        for signal in [SIGINT, SIGTERM] {
            signals.registered.push(pipe::register(signal, sent.try_clone()?)?);
        }
        Ok(signals)
    }

    /// Where a byte comes out for each signal; ends when this is dropped.
    ///
    /// # Errors
    /// If the system has no descriptors left.
    pub fn bytes(&self) -> io::Result<UnixStream> {
        self.received.try_clone()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            unregister(id);
        }
    }
}
