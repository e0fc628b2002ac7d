//! SIGINT and SIGTERM as bytes in a pipe: one byte, one wish to stop.

use std::future::poll_fn;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use async_io::Async;
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};

/// Receives signals until dropped; afterwards they do nothing.
pub(crate) struct Signals {
    received: Async<UnixStream>,
    registered: Vec<SigId>,
}

impl Signals {
    /// Begins to receive.
    pub(crate) fn new() -> io::Result<Self> {
        let (received, sent) = UnixStream::pair()?;
        let mut signals = Self { received: Async::new(received)?, registered: Vec::new() };
        for signal in [SIGINT, SIGTERM] {
            signals.registered.push(pipe::register(signal, sent.try_clone()?)?);
        }
        Ok(signals)
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&self) -> io::Result<()> {
        loop {
            match self.received.get_ref().read(&mut [0]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll_fn(|cx| self.received.poll_readable(cx)).await?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map(|_| ()),
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            unregister(id);
        }
    }
}
