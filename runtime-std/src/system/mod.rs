//! What touches the system, which every runtime needs: listening, sockets, names
//! and addresses, signals, clocks, random bytes, descriptors. `gesher-runtime-smol` builds on it too.

mod clock;
mod listen;
mod process;
mod resolve;
mod signals;
mod socket;

pub use clock::Clock;
pub use listen::{ACCEPT_PAUSE, Listener, Service, bind, bind_everywhere, next_may_be_well};
pub(crate) use process::spawn;
pub use process::{raise_descriptor_limit, seed};
pub use resolve::resolve;
pub use signals::Signals;
pub use socket::{Socket, connected, prepare};
