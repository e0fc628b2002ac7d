//! WebSocket framing as a link reads and writes it.
//!
//! ```text
//! role │ seed of the cuts │ what arrives
//! ```

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::input::{Input, pieces};
use crate::buf::RecvBuf;
use crate::fault::LinkFault;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::websocket::{Message, Reader, Role, write_binary, write_close, write_ping, write_pong};

/// Reads bytes as one side of a link, cut in several ways, and reads what was written of what it heard.
pub fn websocket(data: &[u8]) {
    let mut input = Input::new(data);
    let role = if input.coin() { Role::Gateway } else { Role::Connector };
    let seed = input.byte();
    let bytes = input.rest();
    let whole = hear(role, [bytes]);
    assert_eq!(hear(role, pieces(bytes, 0)), whole, "byte by byte");
    assert_eq!(hear(role, pieces(bytes, seed)), whole, "cut anywhere");
    say_again(role, seed, &whole.said);
}

#[derive(PartialEq, Debug)]
struct Heard {
    said: Vec<Said>,
    fault: Option<LinkFault>,
}

#[derive(Clone, PartialEq, Debug)]
enum Said {
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

impl From<Message<'_>> for Said {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Binary(bytes) => {
                assert!((1..=MESSAGE_BYTES_MAX).contains(&bytes.len()));
                Said::Binary(bytes.to_vec())
            }
            Message::Ping(payload) => Said::Ping(payload.to_vec()),
            Message::Pong => Said::Pong,
            Message::Close(code) => Said::Close(code),
        }
    }
}

fn hear<'a>(role: Role, pieces: impl IntoIterator<Item = &'a [u8]>) -> Heard {
    let (mut reader, mut input, mut said) = (Reader::new(role), RecvBuf::default(), Vec::new());
    let mut unheard = 0;
    for piece in pieces {
        input.push(piece);
        unheard += piece.len();
        loop {
            let before = input.len();
            let message = reader.next(&mut input).map(|message| message.map(Said::from));
            unheard -= before - input.len();
            match message {
                Ok(None) => break,
                Ok(Some(message)) => said.push(message),
                Err(fault) => return Heard { said, fault: Some(fault) },
            }
            assert!(before > input.len(), "a message has bytes");
        }
        // A control frame waits whole in the input: a header of 14 bytes at most, and 125 of payload.
        assert!(input.len() < 14 + 125, "what could be used was used");
        assert!(reader.held_bytes() <= MESSAGE_BYTES_MAX, "no more is kept than one message");
    }
    assert_eq!(unheard, input.len());
    Heard { said, fault: None }
}

/// Whatever was heard can be said by the other side, and is heard again.
fn say_again(role: Role, seed: u8, said: &[Said]) {
    let speaker = if role == Role::Gateway { Role::Connector } else { Role::Gateway };
    let (mut rng, mut out) = (ChaCha20Rng::seed_from_u64(seed.into()), Vec::new());
    let mut expected = Vec::new();
    for message in said {
        match message {
            Said::Binary(bytes) => {
                write_binary(speaker, &mut rng, &mut out, std::iter::once(bytes.len()), |places| {
                    places[0].copy_from_slice(bytes);
                });
            }
            Said::Ping(payload) => write_ping(speaker, payload, &mut rng, &mut out),
            Said::Pong => write_pong(speaker, b"", &mut rng, &mut out),
            Said::Close(code) => write_close(speaker, code.unwrap_or(1000), &mut rng, &mut out),
        }
        expected.push(match message {
            Said::Close(code) => Said::Close(Some(code.unwrap_or(1000))),
            other => other.clone(),
        });
    }
    assert_eq!(hear(role, pieces(&out, seed)), Heard { said: expected, fault: None });
}
