//! The link protocol, version 2: joining, records, frames, streams (docs/protocol.md).

pub(crate) mod flow;
pub mod frame;
pub mod handshake;
pub(crate) mod mux;
pub mod record;
pub(crate) mod streams;
