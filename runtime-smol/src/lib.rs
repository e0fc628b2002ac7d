//! Sockets for the machines of `gesher-core`, on smol: one thread, one task a connection.
//!
//! It moves bytes and waits, and decides nothing: that one slow or hostile peer stalls nobody, that no wake-up is
//! lost, that a panic costs one connection and that an idle connection holds no buffer is what it guarantees.
//!
//! ```text
//! run ── listen: accept ──▶ Process::accept ──▶ ┐
//!    └── supervisor ──────────────────────────▶ ├─▶ a task: Connection { Conn, Socket, Port, Timer }
//!        Outside::dial ──▶ resolve, connect ──▶ ┘         advance, write, shut down, read, or wait
//! ```
//! A gateway that hangs up on everyone, stopped before it began:
//! ```
//! use std::net::{Ipv4Addr, SocketAddr};
//! use std::sync::Arc;
//!
//! use gesher_core::machine::{Cx, Machine, Process};
//! use gesher_runtime_smol::{Options, Service, StopHandle, Stopped, bind, run};
//!
//! struct Closed;
//! impl Process for Closed {
//!     fn supervisor(self: Arc<Self>) -> Option<Box<dyn Machine>> {
//!         None
//!     }
//!     fn accept(self: Arc<Self>, _from: SocketAddr) -> Option<Box<dyn Machine>> {
//!         None
//!     }
//!     fn drain(&self, _cx: &mut Cx<'_>) {}
//! }
//!
//! let listeners = vec![bind((Ipv4Addr::LOCALHOST, 0).into())?];
//! let service = Service { process: Arc::new(Closed), listeners, on_event: Arc::new(|_event| {}) };
//! let stop = StopHandle::default();
//! stop.stop();
//! assert_eq!(run(vec![service], Options { stop, ..Options::default() })?, Stopped::Drained);
//! # Ok::<(), std::io::Error>(())
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod conn;
mod dial;
mod listen;
mod ports;
mod run;
mod signals;
mod socket;
mod stop;
mod system;
mod world;

pub use listen::{Listener, bind, bind_everywhere};
pub use run::{Options, Service, Stopped, run};
pub use stop::StopHandle;
pub use system::{raise_descriptor_limit, seed};
