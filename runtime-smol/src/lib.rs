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

mod accept;
mod conn;
mod dial;
mod flag;
mod reactor;
mod run;
mod tasks;

pub use gesher_core::drive::{Options, StopHandle, Stopped};
pub use gesher_runtime_std::system::{
    Listener, Service, bind, bind_everywhere, raise_descriptor_limit, seed,
};
pub use run::run;
