//! What touches the system, which every runtime needs: listening, sockets, names
//! and addresses, signals, clocks, random bytes, descriptors. `gesher-runtime-smol` builds on it too.

mod clock;
mod listen;
mod process;
mod resolve;
mod service;
mod signals;
mod socket;

pub use clock::Clock;
pub use listen::{ACCEPT_PAUSE, Listener, bind, bind_everywhere, next_may_be_well};
pub use process::{raise_descriptor_limit, seed};
pub use resolve::resolve;
pub use service::Service;
pub use signals::Signals;
pub use socket::{Socket, connected, prepare};
