//! Asking for the addresses of a name.

use std::net::{SocketAddr, ToSocketAddrs};

use gesher_core::machine::DialFault;

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
