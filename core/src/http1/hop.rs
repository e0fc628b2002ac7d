//! stub
/// stub
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostRule {
    /// stub
    Preserve,
    /// stub
    Rewrite,
    /// stub
    Fixed(String),
}
