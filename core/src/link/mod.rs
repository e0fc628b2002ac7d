//! The link protocol, version 2: joining, records, frames, streams (docs/protocol.md).

pub mod frame;
pub mod handshake;
pub mod record;
