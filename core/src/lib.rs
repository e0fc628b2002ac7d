//! The protocol core of Gesher: pure state machines, no I/O.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod auth;
pub mod buf;
pub mod config;
pub mod drive;
pub mod event;
pub mod fault;
pub mod http1;
pub mod limits;
pub mod link;
pub mod machine;
pub mod seal;
pub mod secret;
pub mod time;
pub mod websocket;
