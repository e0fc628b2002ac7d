//! The sockets of connections.

use std::io::{self, Read as _};
use std::net::Shutdown;

use gesher_core::drive::Close;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SendFlags, connect_unspec, send};
use socket2::SockRef;

use crate::system::resets;

/// What a connection's bytes go through: a TCP socket or a unix socket, which blocks.
pub(crate) struct Socket(socket2::Socket);

impl<S: Into<socket2::Socket>> From<S> for Socket {
    fn from(socket: S) -> Self {
        Self(socket.into())
    }
}

impl Socket {
    /// Waits for what comes.
    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(into)
    }

    /// Writes what fits; never waits.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(&self.0, bytes, SendFlags::DONTWAIT)?)
    }

    /// Waits until something can be written, or never will be; it may also come back for nothing.
    pub(crate) fn wait_for_room(&self) {
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None);
    }

    /// Sends no more (FIN).
    pub(crate) fn shut_down(&self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    /// Ends the calls that block others, who then close the socket.
    ///
    /// A reset must not be announced by an orderly end (FIN), which the peer would take for the end of the message.
    /// Linux resets when it is asked to disconnect. Elsewhere the close does, and until then only the receiving side is
    /// shut down, which sends nothing; a writer that waits for room comes back once there is some.
    pub(crate) fn let_go(&self, how: Close) {
        let mut side = Shutdown::Both;
        if how == Close::Reset {
            resets(&SockRef::from(&self.0));
            if connect_unspec(&self.0).is_err() {
                side = Shutdown::Read;
            }
        }
        let _ = self.0.shutdown(side);
    }
}
