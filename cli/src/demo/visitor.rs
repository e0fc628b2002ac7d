//! A visitor of the demo: a small blocking HTTP/1.1 client, with a bound on every wait.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;

use super::http::Head;
use super::websocket::{WebSocket, accept};

/// Nothing on this machine takes longer to connect, to take a byte, or to send one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends requests to one address, each on a connection of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitor {
    pub(crate) to: SocketAddr,
}

/// A response whose body is still to be read.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) head: Head,
    from: BufReader<TcpStream>,
}

impl Visitor {
    /// A request without a body.
    pub(crate) fn get(&self, target: &str, fields: &str) -> io::Result<Response> {
        self.send("GET", target, fields, &[])
    }

    /// A request with these framing fields and this body as it goes out.
    pub(crate) fn send(&self, method: &str, target: &str, fields: &str, body: &[u8]) -> io::Result<Response> {
        let mut stream = TcpStream::connect_timeout(&self.to, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let host = self.to;
        let mut message = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n").into_bytes();
        message.extend_from_slice(body);
        stream.write_all(&message)?;
        let mut from = BufReader::new(stream);
        Ok(Response { head: Head::read_response(&mut from)?, from })
    }

    /// Opens a WebSocket.
    pub(crate) fn websocket(
        &self,
        target: &str,
        masks: ChaCha20Rng,
    ) -> io::Result<WebSocket<BufReader<TcpStream>, TcpStream>> {
        const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
        let fields = format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
        );
        let Response { head, from } = self.get(target, &fields)?;
        if head.status != 101 {
            return Err(io::Error::other(format!("no WebSocket, but status {}", head.status)));
        }
        if head.field("sec-websocket-accept") != Some(&accept(KEY)) {
            return Err(io::Error::other("the upgrade was answered for another key"));
        }
        let to = from.get_ref().try_clone()?;
        Ok(WebSocket::client(from, to, masks))
    }
}

impl Response {
    /// The whole body.
    pub(crate) fn bytes(mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.head.body(&mut self.from)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The body's text up to and with the first `end`.
    pub(crate) fn text_until(mut self, end: &str) -> io::Result<String> {
        let mut body = self.head.body(&mut self.from)?;
        let (mut text, mut byte) = (String::new(), [0]);
        while !text.ends_with(end) {
            body.read_exact(&mut byte)?;
            text.push(char::from(byte[0]));
        }
        Ok(text)
    }
}
