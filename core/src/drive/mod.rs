//! What runs machines: everything about it that neither waits nor touches a socket, so that two runtimes need not write
//! it twice.
//!
//! # A connection
//! A runtime moves bytes between a socket and a [`Conn`] and waits; it decides nothing:
//! ```text
//! loop {
//!     let todo = conn.advance();           // effects are delivered in here
//!     if todo.write     { write conn.output(), then conn.wrote(what came of it) }
//!     if todo.shutdown  { shut the socket's sending side, then conn.shut(what came of it) }
//!     if todo.acknowledge { acknowledge what was received, if the system can be told to }
//!     if let Some(how) = todo.close { close or reset the socket; drop the Conn }
//!     if todo.again     { let others run, then go on }
//!     if todo.read      { read, then conn.heard(what came of it), which advances }
//!     otherwise wait: readable (if todo.read), writable (if todo.write), woken, todo.wake_at
//! }
//! ```
//! A socket error is told by [`Conn::broke`]. Dropping a `Conn` tells its machine, also while unwinding.
//!
//! # A process
//! What the connections of a process share is its [`World`]. The runtime gives it a [`Carrier`], which reads the clocks
//! and carries connections by tasks or by threads:
//! ```text
//! Run::start, then ask Run::next what to do: close listeners, wait, or stop
//!   a socket was accepted ─▶ World::welcome ─▶ ┐
//!   Run::start, a supervisor ────────────────▶ ├─▶ Carrier::carry: a task, or threads, with a Place
//!   Effects::dials ──────────────────────────▶ ┘
//!   Effects::wakes ─▶ Flag::raise, on any thread
//! ```

mod attempts;
mod conn;
mod dial;
mod flags;
mod run;
mod stop;
mod world;

pub use conn::{Close, Conn, Outside, Todo, Wrote};
pub use dial::{Answer, DialStep, Dialling, Question};
pub use flags::Flag;
pub use run::{Next, Options, Run, Service, Stopped};
pub use stop::StopHandle;
pub use world::{Carrier, Place, Start, World};
