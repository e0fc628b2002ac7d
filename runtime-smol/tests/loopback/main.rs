//! The runtime on real loopback sockets, with toy machines.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod connections;
mod dials;
mod stopping;
mod toys;
