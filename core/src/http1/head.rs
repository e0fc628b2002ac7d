//! Heads.

/// The version of a message; everything 1.x with x ≥ 1 is 1.1 (RFC 9110, 2.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// One field line; the value without surrounding white space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// A token, in the case it was sent in.
    pub name: &'a [u8],
    /// Visible ASCII, spaces, tabs and bytes 0x80 to 0xFF.
    pub value: &'a [u8],
}

/// A request head, borrowed from the bytes it was parsed from.
#[derive(Clone, Debug)]
pub struct RequestHead<'a> {
    /// A token; methods are case-sensitive.
    pub method: &'a [u8],
    /// As it was sent: origin-form, absolute-form or `*`.
    pub target: &'a [u8],
    /// The version.
    pub version: Version,
    /// All field lines in order.
    pub fields: Vec<Field<'a>>,
}

/// A response head, borrowed from the bytes it was parsed from.
#[derive(Clone, Debug)]
pub struct ResponseHead<'a> {
    /// 100 to 599.
    pub status: u16,
    /// May be empty.
    pub reason: &'a [u8],
    /// The version.
    pub version: Version,
    /// All field lines in order.
    pub fields: Vec<Field<'a>>,
}
