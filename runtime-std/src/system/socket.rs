//! The sockets of connections: how they are set up, used, and let go of.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use gesher_core::drive::Close;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, poll};
#[cfg(target_os = "linux")]
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, connect_unspec, recv, send};
use socket2::{Domain, SockRef, TcpKeepalive};

/// A peer that is gone without a word is found out after a minute and a half.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// Beyond this, what waits, waits with us, where heads overtake bodies.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 128 * 1024;

/// Sets what all TCP sockets have in common; what is accepted inherits it from its listener. A system that lacks one
/// of these works without.
pub fn prepare(socket: &SockRef<'_>) {
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&KEEPALIVE);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES);
}

/// Takes in a socket that was connected.
///
/// # Errors
/// If it is connected to itself: a free port of this machine may be chosen as our own (RFC 9293, 3.5), so nothing
/// listens there.
pub fn connected(socket: &TcpStream) -> io::Result<()> {
    if socket.local_addr()? == socket.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    prepare(&SockRef::from(socket));
    Ok(())
}

/// What a connection's bytes go through: a TCP socket or a unix socket.
pub struct Socket(socket2::Socket);

impl<S: Into<socket2::Socket>> From<S> for Socket {
    fn from(socket: S) -> Self {
        Self(socket.into())
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Socket {
    /// Appends what is there, as far as `into` has spare capacity; it waits for that if the socket blocks.
    ///
    /// # Errors
    /// As the system says: `WouldBlock`, `ConnectionReset`.
    pub fn read(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        let (count, _) = recv(&self.0, spare_capacity(into), RecvFlags::empty())?;
        Ok(count)
    }

    /// Writes what fits; never waits.
    ///
    /// # Errors
    /// As the system says: `WouldBlock`, `BrokenPipe`, `ConnectionReset`.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(&self.0, bytes, SendFlags::DONTWAIT)?)
    }

    /// Waits until something can be written, or never will be; it may also come back for nothing.
    pub fn wait_for_room(&self) {
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None);
    }

    /// Waits until the connection is over both ways: shut down, reset, or let go of. Elsewhere than on Linux it does not
    /// wait, since there a reset of our own ends no wait.
    pub fn wait_for_end(&self) {
        #[cfg(target_os = "linux")]
        while poll(&mut [PollFd::new(&self.0, PollFlags::empty())], None) == Err(Errno::INTR) {}
    }

    /// Sends no more (FIN).
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn shut_down(&self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    /// Acknowledges what was received, if that was not done yet. Only Linux can be told to.
    pub fn acknowledge(&self) {
        #[cfg(target_os = "linux")]
        let _ = self.0.set_tcp_quickack(true);
    }

    /// Whether the transport broke (a reset arrived). Says so once.
    pub fn is_broken(&self) -> bool {
        !matches!(self.0.take_error(), Ok(None))
    }

    /// Makes the close that follows a reset (RST), so that the peer does not take a part for the whole; unix sockets have
    /// none.
    pub fn reset(&self) {
        let _ = self.0.set_linger(Some(Duration::ZERO));
    }

    /// Ends the calls that block others, who then close the socket.
    ///
    /// A reset must not be announced by an orderly end (FIN), which the peer would take for the end of the message.
    /// Linux resets when it is asked to disconnect. Elsewhere the close does, and until then only the receiving side is
    /// shut down, which sends nothing; a writer that waits for room comes back once there is some. Unix sockets know no
    /// resets.
    pub fn let_go(&self, how: Close) {
        let mut side = Shutdown::Both;
        if how == Close::Reset {
            self.reset();
            let is_unix = || self.0.domain().is_ok_and(|domain| domain == Domain::UNIX);
            if connect_unspec(&self.0).is_err() && !is_unix() {
                side = Shutdown::Read;
            }
        }
        let _ = self.0.shutdown(side);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_socket_that_was_told_to_acknowledges_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = Socket::from(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        socket.0.set_tcp_quickack(false).unwrap();
        assert!(!socket.0.tcp_quickack().unwrap());
        socket.acknowledge();
        assert!(socket.0.tcp_quickack().unwrap());
    }
}
