//! What the connections of one process share. Every lock in here is short, and no crypto, parsing or I/O happens
//! under one; none is taken under another.

pub(crate) mod admission;
mod connector;
pub(crate) mod crowd;
pub(crate) mod dials;
mod gateway;
pub(crate) mod mailbox;
mod naming;
pub(crate) mod ports;
pub(crate) mod queue;
pub(crate) mod registry;
pub(crate) mod seeds;
pub(crate) mod shares;
pub(crate) mod targets;

pub use self::connector::ConnectorHub;
pub use self::gateway::GatewayHub;
pub use self::seeds::Seed;
