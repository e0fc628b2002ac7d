//! How all TCP sockets are set up, and how they are let go of.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

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

/// Makes the close that follows a reset (RST), so that the peer does not take a part for the whole;
/// unix sockets have none.
pub fn resets(socket: &SockRef<'_>) {
    let _ = socket.set_linger(Some(Duration::ZERO));
}
