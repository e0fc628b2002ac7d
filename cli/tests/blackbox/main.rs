//! The built program over real sockets, with real programs behind it and in front of it.
//!
//! ```text
//! curl, chromium, WebSockets, sockets > gesher server = relay = gesher client > nginx, Python, an app of the tests
//! ```
//! A test whose program is missing says so and passes, except under `CI=true`; so does one that takes half a minute,
//! except also under `GESHER_SLOW_TESTS=1`.
#![cfg(target_os = "linux")] // Peak memory is read from /proc, and each server has an address of its own in 127/8.
#![allow(clippy::unwrap_used)]

mod app;
mod gesher;
/// The demo's HTTP: it shares nothing with the core's.
#[allow(dead_code)]
#[path = "../../src/demo/http.rs"]
mod http;
mod outside;
mod process;
mod relay;
mod visitor;
mod wire;

mod browser;
mod bulk;
#[cfg(feature = "capture")]
mod capture;
mod carrying;
mod crowd;
mod failover;
mod hostile;
mod interop;
mod logins;
mod malformed;
mod messages;
mod names;
mod runtimes;
mod sites;
mod websockets;
