//! SIGINT and SIGTERM as bytes in a pipe: one byte, one wish to stop.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;

use gesher_core::drive::StopHandle;
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};

use super::process::spawn;

/// Takes signals for wishes to stop until dropped; afterwards they do nothing.
pub struct Signals(Vec<SigId>);

impl Signals {
    /// Asks `stop` for each signal from now on, on a thread that ends when this is dropped.
    ///
    /// # Errors
    /// If the system has no descriptors or threads left, or does not let signals be caught.
    pub fn obey(stop: StopHandle) -> io::Result<Self> {
        let (received, sent) = UnixStream::pair()?;
        let mut signals = Self(Vec::new());
        for signal in [SIGINT, SIGTERM] {
            signals.0.push(pipe::register(signal, sent.try_clone()?)?);
        }
        spawn("signals", move || obey(received, &stop))?;
        Ok(signals)
    }
}

impl Drop for Signals {
    /// The pipe ends with the last who writes to it.
    fn drop(&mut self) {
        for id in self.0.drain(..) {
            unregister(id);
        }
    }
}

fn obey(mut signals: UnixStream, stop: &StopHandle) {
    loop {
        match signals.read(&mut [0]) {
            Ok(1..) => stop.stop(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
        }
    }
}
