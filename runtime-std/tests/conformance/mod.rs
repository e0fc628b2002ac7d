//! What every runtime must do, on real loopback sockets, with toy machines.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod connections;
mod crowd;
mod dials;
mod frozen;
mod stopping;
mod toys;
