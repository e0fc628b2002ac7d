//! WebSocket (RFC 6455) for the demo's app and its visitor: text and binary messages, fragments, pings, close.
//! ```text
//! 81 05 "Hello"               a whole text message from a server
//! 81 85 37fa213d 7f9f4d5158   the same from a client, masked
//! ```

use std::io::{self, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;
use sha1::{Digest, Sha1};

use super::http::invalid;

/// A message over this is refused with 1009.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What a server answers to a `Sec-WebSocket-Key` (RFC 6455, 4.2.2).
pub(crate) fn accept(key: &str) -> String {
    STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")))
}

/// One side of an open WebSocket.
pub(crate) struct WebSocket<R, W> {
    from: R,
    to: W,
    /// A client masks what it sends, and a server does not.
    masks: Option<ChaCha20Rng>,
    /// The first fragments of a message: its opcode and what came so far.
    partial: Option<(u8, Vec<u8>)>,
}

/// What the peer said. Pings are answered on the way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    /// The end; it was answered.
    Close,
}

enum Broken {
    Io(io::Error),
    /// The peer broke a rule: the status code to close with.
    Rule(u16),
}

impl From<io::Error> for Broken {
    fn from(why: io::Error) -> Self {
        Broken::Io(why)
    }
}

struct Frame {
    last: bool,
    opcode: u8,
    payload: Vec<u8>,
}

impl<R: Read, W: Write> WebSocket<R, W> {
    pub(crate) fn server(from: R, to: W) -> Self {
        Self { from, to, masks: None, partial: None }
    }

    pub(crate) fn client(from: R, to: W, masks: ChaCha20Rng) -> Self {
        Self { from, to, masks: Some(masks), partial: None }
    }

    /// Waits for the next message. A peer that breaks a rule is told so, and that is an error.
    pub(crate) fn receive(&mut self) -> io::Result<Message> {
        match self.next() {
            Ok(message) => Ok(message),
            Err(Broken::Io(why)) => Err(why),
            Err(Broken::Rule(code)) => {
                self.send(true, CLOSE, &code.to_be_bytes())?;
                Err(invalid(format!("the peer broke WebSocket's rules ({code})")))
            }
        }
    }

    pub(crate) fn send_text(&mut self, text: &str) -> io::Result<()> {
        self.send(true, TEXT, text.as_bytes())
    }

    pub(crate) fn send_binary(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send(true, BINARY, bytes)
    }

    /// Sends one binary message in as many fragments as there are parts.
    pub(crate) fn send_fragments(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        for (index, part) in parts.iter().enumerate() {
            let opcode = if index == 0 { BINARY } else { CONTINUATION };
            self.send(index + 1 == parts.len(), opcode, part)?;
        }
        Ok(())
    }

    pub(crate) fn send_ping(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send(true, PING, bytes)
    }

    /// Says goodbye (1000); the peer's goodbye is what comes back.
    pub(crate) fn send_close(&mut self) -> io::Result<()> {
        self.send(true, CLOSE, &1000u16.to_be_bytes())
    }

    fn next(&mut self) -> Result<Message, Broken> {
        loop {
            let Frame { last, opcode, payload } = self.read_frame()?;
            let (kind, message) = match (opcode, self.partial.take()) {
                (CLOSE, _) => {
                    self.send(true, CLOSE, payload.get(..2).unwrap_or_default())?;
                    return Ok(Message::Close);
                }
                (PING, partial) => {
                    self.partial = partial;
                    self.send(true, PONG, &payload)?;
                    continue;
                }
                (PONG, partial) => {
                    self.partial = partial;
                    return Ok(Message::Pong(payload));
                }
                (TEXT | BINARY, None) => (opcode, payload),
                (CONTINUATION, Some((kind, mut message))) => {
                    if message.len() + payload.len() > MESSAGE_BYTES_MAX {
                        return Err(Broken::Rule(1009));
                    }
                    message.extend_from_slice(&payload);
                    (kind, message)
                }
                _ => return Err(Broken::Rule(1002)),
            };
            match (last, kind) {
                (false, _) => self.partial = Some((kind, message)),
                (true, TEXT) => {
                    return String::from_utf8(message).map(Message::Text).map_err(|_| Broken::Rule(1007));
                }
                (true, _) => return Ok(Message::Binary(message)),
            }
        }
    }

    fn read_frame(&mut self) -> Result<Frame, Broken> {
        let [first, second] = self.read_array()?;
        let (last, opcode) = (first & 0x80 != 0, first & 0x0F);
        let masked = second & 0x80 != 0;
        let length = match second & 0x7F {
            126 => u16::from_be_bytes(self.read_array()?).into(),
            127 => u64::from_be_bytes(self.read_array()?),
            short => short.into(),
        };
        let is_control = opcode & 0x8 != 0;
        let reserved = first & 0x70 != 0;
        // Masked is what comes from a client, and clients are those who mask.
        if reserved || masked == self.masks.is_some() || is_control && (!last || length > 125) {
            return Err(Broken::Rule(1002));
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= MESSAGE_BYTES_MAX);
        let length = length.ok_or(Broken::Rule(1009))?;
        let mask = if masked { self.read_array()? } else { [0; 4] };
        let mut payload = vec![0; length];
        self.from.read_exact(&mut payload)?;
        apply_mask(mask, &mut payload);
        Ok(Frame { last, opcode, payload })
    }

    fn read_array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn send(&mut self, last: bool, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let masked = if self.masks.is_some() { 0x80 } else { 0 };
        let mut frame = vec![if last { 0x80 } else { 0 } | opcode];
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(length @ ..=125), _) => frame.push(masked | length),
            (_, Ok(length)) => {
                frame.push(masked | 126);
                frame.extend(length.to_be_bytes());
            }
            _ => {
                frame.push(masked | 127);
                frame.extend((payload.len() as u64).to_be_bytes());
            }
        }
        let mut mask = [0; 4];
        if let Some(masks) = &mut self.masks {
            masks.fill_bytes(&mut mask);
            frame.extend(mask);
        }
        let start = frame.len();
        frame.extend_from_slice(payload);
        apply_mask(mask, &mut frame[start..]);
        self.to.write_all(&frame)
    }
}

fn apply_mask(mask: [u8; 4], payload: &mut [u8]) {
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;

    fn client_says(bytes: &[u8]) -> (io::Result<Message>, Vec<u8>) {
        let mut said = Vec::new();
        let heard = WebSocket::server(bytes, &mut said).receive();
        (heard, said)
    }

    #[test]
    fn the_examples_of_rfc_6455_are_understood() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(client_says(&masked).0.unwrap(), Message::Text("Hello".into()));
        let fragments: &[u8] = &[0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
        let mut client = WebSocket::client(fragments, io::sink(), ChaCha20Rng::from_seed([7; 32]));
        assert_eq!(client.receive().unwrap(), Message::Text("Hello".into()));
    }

    #[test]
    fn what_one_side_sends_the_other_receives() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let sent = vec![0xA5; length];
            let mut wire = Vec::new();
            let masks = ChaCha20Rng::from_seed([7; 32]);
            WebSocket::client(io::empty(), &mut wire, masks).send_binary(&sent).unwrap();
            assert_eq!(client_says(&wire).0.unwrap(), Message::Binary(sent));
        }
    }

    #[test]
    fn a_ping_between_fragments_is_answered_and_disturbs_nothing() {
        let mut wire = Vec::new();
        let mut client = WebSocket::client(io::empty(), &mut wire, ChaCha20Rng::from_seed([7; 32]));
        client.send(false, TEXT, b"Hel").unwrap();
        client.send_ping(b"?").unwrap();
        client.send(true, CONTINUATION, b"lo").unwrap();
        let (heard, said) = client_says(&wire);
        assert_eq!(heard.unwrap(), Message::Text("Hello".into()));
        assert_eq!(said, [0x80 | PONG, 1, b'?']);
    }

    #[test]
    fn a_broken_rule_is_answered_with_its_code() {
        for (bytes, code) in [
            (&[0x81, 0x05][..], 1002u16),                     // not masked
            (&[0xC1, 0x80, 0, 0, 0, 0], 1002),                // a reserved bit
            (&[0x80, 0x80, 0, 0, 0, 0], 1002),                // continues nothing
            (&[0x83, 0x80, 0, 0, 0, 0], 1002),                // an unknown opcode
            (&[0x09, 0x80, 0, 0, 0, 0], 1002),                // a ping in fragments
            (&[0x81, 0x81, 0, 0, 0, 0, 0xFF], 1007),          // not UTF-8
            (&[0x82, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0], 1009), // too long
        ] {
            let (heard, said) = client_says(bytes);
            assert!(heard.is_err());
            assert_eq!(said, [&[0x80 | CLOSE, 2][..], &code.to_be_bytes()].concat(), "{bytes:x?}");
        }
    }

    #[test]
    fn a_close_is_answered_with_its_code() {
        let (heard, said) = client_says(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8]);
        assert_eq!(heard.unwrap(), Message::Close);
        assert_eq!(said, [0x88, 2, 0x03, 0xE8]);
    }
}
