//! Listening: sockets that are bound before anything runs.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use gesher_core::drive;
use socket2::{Domain, Protocol, SockRef, Type};

use super::socket::prepare;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Without descriptors or memory, accepting pauses this long.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A process to run, and what it listens on.
pub type Service = drive::Service<Listener>;

/// A bound, listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// The address it is bound to, with the port that the system chose if it was to.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The socket itself; it blocks.
    pub fn into_socket(self) -> TcpListener {
        self.socket
    }
}

/// Whether accepting failed for one connection only (it was gone before), or was interrupted: the next one may be well.
pub fn next_may_be_well(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}

/// Binds `address` and listens; an IPv6 address takes IPv6 only, so that an IPv4 one can be bound beside it.
///
/// # Errors
/// As the system says: `AddrInUse`, `PermissionDenied`, `AddrNotAvailable`.
pub fn bind(address: SocketAddr) -> io::Result<Listener> {
    listen(address, true)
}

/// Binds `port` on all addresses, IPv6 and IPv4; port 0 takes one free port for both.
///
/// # Errors
/// As the system says: `AddrInUse`, `PermissionDenied`.
pub fn bind_everywhere(port: u16) -> io::Result<Vec<Listener>> {
    let listener = match listen((Ipv6Addr::UNSPECIFIED, port).into(), false) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
            // This machine has no IPv6.
            listen((Ipv4Addr::UNSPECIFIED, port).into(), true)
        }
        listener => listener,
    };
    Ok(vec![listener?])
}

fn listen(address: SocketAddr, only_v6: bool) -> io::Result<Listener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // What is left of an earlier run (TIME-WAIT) keeps nobody from binding; a socket that listens does.
    socket.set_reuse_address(true)?;
    prepare(&SockRef::from(&socket));
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let socket = TcpListener::from(socket);
    let address = socket.local_addr()?;
    Ok(Listener { socket, address })
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn all_addresses_share_one_port() {
        let listeners = bind_everywhere(0).unwrap();
        let port = listeners[0].local_addr().port();
        assert_ne!(port, 0);
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        if listeners[0].local_addr().is_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        }
    }

    #[test]
    fn a_port_in_use_is_refused_as_such() {
        let port = bind_everywhere(0).unwrap().remove(0);
        let again = bind_everywhere(port.local_addr().port()).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn both_families_can_be_bound_side_by_side() {
        // Somebody else may have the other family's port, but not every time.
        let both = (0..8).any(|_| {
            let v6 = bind((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
            bind((Ipv4Addr::UNSPECIFIED, v6.local_addr().port()).into()).is_ok()
        });
        assert!(both);
    }

    #[test]
    fn what_is_accepted_inherits_how_its_listener_was_set_up() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let _client = TcpStream::connect(listener.local_addr()).unwrap();
        let (accepted, _) = listener.socket.accept().unwrap();
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap());
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(accepted.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), 3);
        #[cfg(target_os = "linux")]
        assert_eq!(accepted.tcp_notsent_lowat().unwrap(), 128 * 1024);
    }
}
