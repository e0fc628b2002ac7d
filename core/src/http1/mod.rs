//! HTTP/1.1 as a careful intermediary speaks it (RFC 9110, RFC 9112): strict parsing, exact framing, hop-by-hop care.

pub mod answer;
pub mod body;
pub mod head;
pub mod hop;

/// stub
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {}
