//! Sockets for the machines of `gesher-core`, on blocking threads of the standard library: one a connection, a second
//! one for a socket that was full, and no async crate in the tree. For small programs and small machines;
//! `gesher-runtime-smol` has the same interface and serves many more connections.
//!
//! ```text
//! accept ──▶ Process::accept ──▶ ┐ ┌─ its reader: dial, read ─────────────────▶ ┐
//! Outside::dial ───────────────▶ ├─┤  its writer: the full socket has room ────▶ ├─ a turn: Mutex<Conn>
//! supervisor ──────────────────▶ ┘ │  any thread that has mail for it ─────────▶ │  advance, write
//!                                  └─ the watch, one a run: a deadline ────────▶ ┘
//! ```
//! A connection's machine runs in whichever thread has something for it, under the connection's lock; reads and writes
//! happen outside of it, and nothing but a read and a wait for room or for the end blocks. Mail wakes no thread: who
//! has some for another connection lets that run too, once it has let go of its own. If another thread is about it,
//! that one sees the mail. So no thread ever waits for another connection, and no peer holds up a connection for good.
//!
//! Whoever finds that the connection is over shuts its socket down, and that ends reads and waits. Nothing polls.
//!
//! The reader reads one buffer ahead (16 KiB; 64 KiB of bulk) and keeps it while its machine wants no input; what follows
//! waits in the kernel. So a reset is noticed also then, unless that buffer has something in it and nothing is written:
//! then only once its machine moves.
//!
//! A gateway that hangs up on everyone, stopped before it began:
//! ```
//! use std::net::{Ipv4Addr, SocketAddr};
//! use std::sync::Arc;
//!
//! use gesher_core::machine::{Cx, Machine, Process};
//! use gesher_runtime_std::{Options, Service, StopHandle, Stopped, bind, run};
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
mod run;
mod serve;
pub mod system;
mod threads;
mod watch;

pub use gesher_core::drive::{Options, StopHandle, Stopped};
pub use run::run;
pub use system::{Listener, Service, bind, bind_everywhere, raise_descriptor_limit, seed};
pub use threads::CONNECTIONS_MAX;
