//! The protocol core of Gesher: pure state machines, no I/O.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod auth;
pub mod buf;
pub mod config;
mod connector;
pub mod drive;
pub mod event;
pub mod fault;
mod gateway;
pub mod http1;
pub mod hub;
pub mod limits;
pub mod link;
pub mod machine;
pub mod seal;
pub mod secret;
#[cfg(feature = "sim")]
pub mod sim;
pub mod time;
pub mod websocket;
