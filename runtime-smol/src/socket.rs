//! The sockets of connections.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

use gesher_runtime_std::system::resets;
use socket2::SockRef;

use crate::reactor::Watch;

/// What a connection's bytes go through; it never blocks.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// A supervisor's: nothing comes, and what is written is gone.
    Nowhere,
}

impl Socket {
    /// Lets `watch` tell of its edges.
    pub(crate) fn watch(&self, watch: &Watch) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => watch.socket(socket),
            Socket::Unix(socket) => watch.socket(socket),
            Socket::Nowhere => Ok(()),
        }
    }

    /// Reads what is there.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(into),
            Socket::Unix(socket) => socket.read(into),
            Socket::Nowhere => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes what fits.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write(bytes),
            Socket::Unix(socket) => socket.write(bytes),
            Socket::Nowhere => Ok(bytes.len()),
        }
    }

    /// Sends no more (FIN).
    pub(crate) fn shut_down(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Socket::Unix(socket) => socket.shutdown(Shutdown::Write),
            Socket::Nowhere => Ok(()),
        }
    }

    /// Makes the close that follows a reset (RST); unix sockets have none.
    pub(crate) fn reset(&self) {
        if let Socket::Tcp(socket) = self {
            resets(&SockRef::from(socket));
        }
    }

    /// Whether the transport broke (a reset arrived). Says so once.
    pub(crate) fn is_broken(&self) -> bool {
        let error = match self {
            Socket::Tcp(socket) => socket.take_error(),
            Socket::Unix(socket) => socket.take_error(),
            Socket::Nowhere => Ok(None),
        };
        !matches!(error, Ok(None))
    }
}
