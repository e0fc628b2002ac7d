//! Sockets on smol.
