//! The connector's machines: one without a connection that keeps the process joined, the link to the gateway, and
//! the connections to the app.
//!
//! ```text
//!   Supervisor ── dials ──▶ ConnectorLink ── exchanges ──▶ idle TargetConn, or a dial of a new one
//!        ▲                        │
//!        └─────── reports ────────┘
//! ```

mod link;
mod supervisor;
mod target;

pub(crate) use self::supervisor::{Report, Supervisor};
