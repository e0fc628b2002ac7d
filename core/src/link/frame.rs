//! stub
/// stub
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {}
/// stub
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stats {}
