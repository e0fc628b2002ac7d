//! stub
/// stub
#[derive(Debug)]
pub struct Keys;
