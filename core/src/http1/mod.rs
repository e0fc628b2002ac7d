//! HTTP/1.1 as a careful intermediary speaks it (RFC 9110, RFC 9112): strict parsing, exact framing, hop-by-hop care.

use std::fmt;

pub mod answer;
pub mod body;
pub mod head;
pub mod hop;

/// The rule of HTTP that a message broke (docs/http.md). What two parsers could read in two ways is refused, never
/// repaired. No variant carries bytes from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    // ---- heads ----
    /// The connection ended inside a head.
    HeadIncomplete,
    /// A head was not complete within [`crate::limits::HEAD_TIME`].
    HeadTimedOut,
    /// A request line over [`crate::limits::REQUEST_LINE_BYTES_MAX`].
    RequestLineTooLong,
    /// A head over [`crate::limits::HEAD_BYTES_MAX`].
    HeadTooLarge,
    /// More than [`crate::limits::HEAD_FIELDS_MAX`] field lines.
    TooManyFields,
    /// A line that ends in anything but CRLF: a bare LF, or a CR without one.
    BareLineEnd,
    /// More than one CRLF before a request line.
    LeadingBlankLines,
    /// A field name that is empty or no token, or a line without a colon.
    FieldName,
    /// NUL or another control byte in a field value.
    FieldValue,
    /// A line that begins with white space (RFC 9112, 5.2).
    ObsFold,
    /// White space in a field name or between it and the colon (RFC 9112, 5.1).
    SpaceBeforeColon,

    // ---- requests ----
    /// No HTTP/1.x request: HTTP/0.9, no version, a TLS hello, garbage.
    NotHttp,
    /// A method that is no token.
    Method,
    /// CONNECT or TRACE.
    MethodNotAllowed,
    /// A target in none of the forms that the method may have, or with a byte that no target may have.
    RequestTarget,
    /// A major version other than 1, the preface of HTTP/2 included.
    Version,
    /// HTTP/1.1 without Host.
    NoHost,
    /// More than one Host.
    TwoHosts,
    /// A Host that is no `host[:port]`.
    InvalidHost,
    /// An expectation other than `100-continue`.
    Expectation,
    /// This gateway's own Via as often as [`crate::limits::VIA_OWN_MAX`]: the request runs in a circle.
    Loop,

    // ---- bodies ----
    /// Codings besides chunked, which comes last.
    TransferEncodingUnsupported,
    /// A Transfer-Encoding that leaves the body's length open: not chunked at the end or chunked twice; with
    /// parameters, malformed, or in HTTP/1.0.
    TransferEncoding,
    /// Both Transfer-Encoding and Content-Length: the classic of request smuggling (RFC 9112, 11.2).
    TwoFramings,
    /// A Content-Length that is not one line of 1 to 19 digits.
    ContentLength,
    /// A chunk size that is not 1 to 16 hexadecimal digits.
    ChunkSize,
    /// A chunk without CRLF after its data.
    ChunkEnd,
    /// Extensions of a chunk over [`crate::limits::CHUNK_EXTENSION_BYTES_MAX`], or malformed.
    ChunkExtensions,
    /// Trailers over [`crate::limits::TRAILER_BYTES_MAX`], or malformed.
    Trailers,
    /// The connection ended inside a body.
    BodyIncomplete,
    /// A body did not move for the time that the gateway gives it (`--body-timeout`).
    BodyTimedOut,

    // ---- responses ----
    /// What the app sent does not begin with a status line of HTTP/1.x.
    StatusLine,
    /// A status outside 100 to 599.
    Status,
    /// A 101 that nobody asked for, or to a protocol that was not offered.
    UnaskedUpgrade,
}

impl Violation {
    /// The status that answers a request with this violation. A response with any of them is a 502.
    pub fn status(self) -> u16 {
        match self {
            Violation::HeadIncomplete
            | Violation::BareLineEnd
            | Violation::LeadingBlankLines
            | Violation::FieldName
            | Violation::FieldValue
            | Violation::ObsFold
            | Violation::SpaceBeforeColon
            | Violation::NotHttp
            | Violation::Method
            | Violation::RequestTarget
            | Violation::NoHost
            | Violation::TwoHosts
            | Violation::InvalidHost
            | Violation::TransferEncoding
            | Violation::TwoFramings
            | Violation::ContentLength
            | Violation::ChunkSize
            | Violation::ChunkEnd
            | Violation::ChunkExtensions
            | Violation::Trailers
            | Violation::BodyIncomplete => 400,
            Violation::MethodNotAllowed => 405,
            Violation::HeadTimedOut | Violation::BodyTimedOut => 408,
            Violation::RequestLineTooLong => 414,
            Violation::Expectation => 417,
            Violation::HeadTooLarge | Violation::TooManyFields => 431,
            Violation::TransferEncodingUnsupported => 501,
            Violation::StatusLine | Violation::Status | Violation::UnaskedUpgrade => 502,
            Violation::Version => 505,
            Violation::Loop => 508,
        }
    }

    /// What to tell a person.
    pub fn as_str(self) -> &'static str {
        match self {
            Violation::HeadIncomplete => "the connection ended inside a head",
            Violation::HeadTimedOut => "the head took too long",
            Violation::RequestLineTooLong => "the request line is too long",
            Violation::HeadTooLarge => "the head is too large",
            Violation::TooManyFields => "too many fields",
            Violation::BareLineEnd => "a line does not end in CRLF",
            Violation::LeadingBlankLines => "blank lines before the request",
            Violation::FieldName => "malformed field name",
            Violation::FieldValue => "a control byte in a field value",
            Violation::ObsFold => "a folded field line",
            Violation::SpaceBeforeColon => "white space before a colon",
            Violation::NotHttp => "not an HTTP/1.1 request",
            Violation::Method => "malformed method",
            Violation::MethodNotAllowed => "method not allowed",
            Violation::RequestTarget => "malformed request target",
            Violation::Version => "HTTP version not supported",
            Violation::NoHost => "no Host",
            Violation::TwoHosts => "more than one Host",
            Violation::InvalidHost => "malformed Host",
            Violation::Expectation => "an expectation other than 100-continue",
            Violation::Loop => "the request runs in a circle",
            Violation::TransferEncodingUnsupported => "a transfer coding besides chunked",
            Violation::TransferEncoding => "malformed Transfer-Encoding",
            Violation::TwoFramings => "both Transfer-Encoding and Content-Length",
            Violation::ContentLength => "malformed Content-Length",
            Violation::ChunkSize => "malformed chunk size",
            Violation::ChunkEnd => "a chunk is not as long as it said",
            Violation::ChunkExtensions => "chunk extensions are malformed or too long",
            Violation::Trailers => "trailers are malformed or too long",
            Violation::BodyIncomplete => "the connection ended inside a body",
            Violation::BodyTimedOut => "the body stalled",
            Violation::StatusLine => "malformed status line",
            Violation::Status => "a status outside 100 to 599",
            Violation::UnaskedUpgrade => "an upgrade that was not asked for",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
