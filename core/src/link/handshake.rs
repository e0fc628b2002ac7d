//! stub
/// stub
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {}
