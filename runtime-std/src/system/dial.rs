//! Where a dial goes, and why it failed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use gesher_core::machine::DialFault;

/// The addresses of `host` that nobody has to be asked for: its own, if it is one, and those of `localhost`.
pub fn without_resolver(host: &str, port: u16) -> Option<Vec<SocketAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(vec![(Ipv6Addr::LOCALHOST, port).into(), (Ipv4Addr::LOCALHOST, port).into()]);
    }
    host.parse::<IpAddr>().ok().map(|address| vec![(address, port).into()])
}

/// Asks the system's resolver; this may block for long.
///
/// # Errors
/// [`DialFault::NoSuchName`] if the resolver says so.
pub fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, DialFault> {
    match (host, port).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.collect()),
        // What the resolver itself says has no number; what the system says to the resolver has.
        Err(error) if error.raw_os_error().is_none() => Err(DialFault::NoSuchName),
        Err(_) => Err(DialFault::Unreachable),
    }
}

/// What a failed attempt says.
pub fn fault_of(error: &io::Error) -> DialFault {
    match error.kind() {
        // A unix socket's file that is gone was removed by who listened there.
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => DialFault::Refused,
        io::ErrorKind::TimedOut => DialFault::TimedOut,
        _ => DialFault::Unreachable,
    }
}
