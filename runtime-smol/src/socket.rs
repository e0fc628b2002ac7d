//! The sockets of connections.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::task::{Context, Poll};

use async_io::Async;
use gesher_runtime_std::system::resets;
use socket2::SockRef;

/// What a connection's bytes go through.
pub(crate) enum Socket {
    Tcp(Async<TcpStream>),
    Unix(Async<UnixStream>),
    /// A supervisor's: nothing comes, and what is written is gone.
    Nowhere,
}

impl Socket {
    /// Reads what is there; never waits.
    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.get_ref().read(into),
            Socket::Unix(socket) => socket.get_ref().read(into),
            Socket::Nowhere => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes what fits; never waits.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.get_ref().write(bytes),
            Socket::Unix(socket) => socket.get_ref().write(bytes),
            Socket::Nowhere => Ok(bytes.len()),
        }
    }

    /// Sends no more (FIN).
    pub(crate) fn shut_down(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.get_ref().shutdown(Shutdown::Write),
            Socket::Unix(socket) => socket.get_ref().shutdown(Shutdown::Write),
            Socket::Nowhere => Ok(()),
        }
    }

    /// Makes the close that follows a reset (RST); unix sockets have none.
    pub(crate) fn reset(&self) {
        if let Socket::Tcp(socket) = self {
            resets(&SockRef::from(socket.get_ref()));
        }
    }

    /// Whether the transport broke (a reset arrived). Says so once.
    pub(crate) fn is_broken(&self) -> bool {
        let error = match self {
            Socket::Tcp(socket) => socket.get_ref().take_error(),
            Socket::Unix(socket) => socket.get_ref().take_error(),
            Socket::Nowhere => Ok(None),
        };
        !matches!(error, Ok(None))
    }

    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(socket) => socket.poll_readable(cx),
            Socket::Unix(socket) => socket.poll_readable(cx),
            Socket::Nowhere => Poll::Pending,
        }
    }

    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(socket) => socket.poll_writable(cx),
            Socket::Unix(socket) => socket.poll_writable(cx),
            Socket::Nowhere => Poll::Pending,
        }
    }
}
