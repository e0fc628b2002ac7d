//! What can go wrong, and whose fault it was. No variant carries bytes from outside.

use std::fmt;

/// Why a connection had to end before its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The peer of a link broke the link protocol, or somebody between changed its bytes.
    Link(LinkFault),
    /// The peer of a link said that this side did, in its Close. Nothing proves that it was the peer who said so.
    Told(LinkFault),
    /// A message could not be finished; the connection is cut so that the other side can tell.
    Cut,
    /// The other side took or sent nothing for too long.
    TimedOut,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Link(fault) => fault.fmt(f),
            Fault::Told(fault) => write!(f, "the other side ended it: {fault}"),
            Fault::Cut => f.write_str("a message could not be finished"),
            Fault::TimedOut => f.write_str("nothing moved for too long"),
        }
    }
}

impl From<LinkFault> for Fault {
    fn from(fault: LinkFault) -> Self {
        Fault::Link(fault)
    }
}

/// A breach of the link protocol (docs/protocol.md). Each ends the link, and nothing of the record is acted on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkFault {
    /// A WebSocket frame with reserved bits, an unknown opcode, or a length not in its shortest form.
    WebSocketFrame,
    /// A frame that should be masked is not, or the other way round.
    WebSocketMask,
    /// A text message: links carry binary ones only.
    WebSocketText,
    /// Fragments out of order, empty, or more than [`crate::limits::FRAGMENTS_MAX`].
    WebSocketFragments,
    /// A control frame that is fragmented or over 125 bytes.
    WebSocketControl,
    /// A message over [`crate::limits::MESSAGE_BYTES_MAX`].
    MessageTooLong,
    /// A token that does not verify.
    Forged,
    /// A record whose number is not the next one: repeated, reordered or dropped.
    Sequence,
    /// A plaintext over [`crate::limits::RECORD_PLAIN_BYTES_MAX`] or without a sequence number.
    RecordLength,
    /// A frame that does not parse.
    Frame,
    /// A frame on a stream on which it must not be.
    FrameStream,
    /// The first frame was not a HELLO of version 2, or there were two.
    Hello,
    /// DATA beyond the credit given.
    OverCredit,
    /// Credit beyond 2^31 - 1.
    CreditOverflow,
    /// DATA, END or a head where the stream's order forbids it.
    StreamOrder,
    /// More control frames a second than anyone needs, or more resets than streams.
    Flood,
    /// Nothing arrived for [`crate::limits::SILENCE`].
    Silent,
    /// The connection ended without a Close.
    Lost,
    /// A newer link of the same connector took its place.
    Replaced,
}

impl LinkFault {
    const ALL: [LinkFault; LinkFault::Replaced as usize + 1] = [
        LinkFault::WebSocketFrame,
        LinkFault::WebSocketMask,
        LinkFault::WebSocketText,
        LinkFault::WebSocketFragments,
        LinkFault::WebSocketControl,
        LinkFault::MessageTooLong,
        LinkFault::Forged,
        LinkFault::Sequence,
        LinkFault::RecordLength,
        LinkFault::Frame,
        LinkFault::FrameStream,
        LinkFault::Hello,
        LinkFault::OverCredit,
        LinkFault::CreditOverflow,
        LinkFault::StreamOrder,
        LinkFault::Flood,
        LinkFault::Silent,
        LinkFault::Lost,
        LinkFault::Replaced,
    ];
    /// The first code for private use (RFC 6455, 7.4.2).
    const FIRST_CLOSE_CODE: u16 = 4000;

    /// The code of the WebSocket Close that tells the peer; none if there is no use in telling.
    pub fn close_code(self) -> Option<u16> {
        match self {
            LinkFault::Silent | LinkFault::Lost | LinkFault::Replaced => None,
            _ => Some(Self::FIRST_CLOSE_CODE + self as u16),
        }
    }

    /// What a peer's Close with this code tells.
    pub fn from_close_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.close_code() == Some(code))
    }

    /// What to tell a person.
    pub fn as_str(self) -> &'static str {
        match self {
            LinkFault::WebSocketFrame => "malformed WebSocket frame",
            LinkFault::WebSocketMask => "WebSocket masking is wrong",
            LinkFault::WebSocketText => "a text message on a link",
            LinkFault::WebSocketFragments => "WebSocket fragments are wrong",
            LinkFault::WebSocketControl => "malformed WebSocket control frame",
            LinkFault::MessageTooLong => "a message is too long",
            LinkFault::Forged => "a record does not verify",
            LinkFault::Sequence => "a record is repeated, missing or out of order",
            LinkFault::RecordLength => "a record has a wrong length",
            LinkFault::Frame => "malformed frame",
            LinkFault::FrameStream => "a frame on the wrong stream",
            LinkFault::Hello => "no HELLO, a second one, or one of another version",
            LinkFault::OverCredit => "more data than there was credit for",
            LinkFault::CreditOverflow => "credit overflow",
            LinkFault::StreamOrder => "frames of a stream out of order",
            LinkFault::Flood => "too many control frames or resets",
            LinkFault::Silent => "nothing arrived for 25 s",
            LinkFault::Lost => "the connection was lost",
            LinkFault::Replaced => "a newer link took its place",
        }
    }
}

impl fmt::Display for LinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_place_and_a_code_of_its_own() {
        for (place, fault) in LinkFault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, place);
            if let Some(code) = fault.close_code() {
                assert_eq!(LinkFault::from_close_code(code), Some(fault));
            }
        }
        assert_eq!(LinkFault::from_close_code(1000), None);
    }
}
