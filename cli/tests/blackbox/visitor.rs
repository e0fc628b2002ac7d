//! Visitors that are sockets: for what curl cannot do, or not at the right moment.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::app::fingerprint;
use crate::http::Head;
use crate::process::PATIENCE;

/// A request that was sent; its answer is still to be read.
pub(crate) struct Asked(BufReader<TcpStream>);

/// An answer whose head has come.
pub(crate) struct Answer {
    pub(crate) head: Head,
    from: BufReader<TcpStream>,
}

/// Sends a request without a body on a connection of its own.
pub(crate) fn ask(to: SocketAddr, target: &str) -> io::Result<Asked> {
    send(to, "GET", target, 0, &mut io::empty())
}

/// Sends a request with this body on a connection of its own.
pub(crate) fn send(
    to: SocketAddr,
    method: &str,
    target: &str,
    length: u64,
    body: &mut impl Read,
) -> io::Result<Asked> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let framing = if method == "GET" { String::new() } else { format!("Content-Length: {length}\r\n") };
    let head =
        format!("{method} {target} HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n{framing}\r\n");
    stream.write_all(head.as_bytes())?;
    io::copy(body, &mut stream)?;
    Ok(Asked(BufReader::new(stream)))
}

/// Sends a request without a body and returns the status and the body of its answer.
pub(crate) fn get(to: SocketAddr, target: &str) -> io::Result<(u16, String)> {
    ask(to, target)?.answer()?.text()
}

impl Asked {
    pub(crate) fn answer(mut self) -> io::Result<Answer> {
        Ok(Answer { head: Head::read_response(&mut self.0)?, from: self.0 })
    }
}

impl Answer {
    pub(crate) fn text(mut self) -> io::Result<(u16, String)> {
        let mut text = String::new();
        self.head.body(&mut self.from)?.read_to_string(&mut text)?;
        Ok((self.head.status, text))
    }

    /// Length and SHA-256 of the body.
    pub(crate) fn fingerprint(mut self) -> io::Result<String> {
        fingerprint(&mut self.head.body(&mut self.from)?)
    }

    /// The body as lines.
    pub(crate) fn lines(&mut self) -> io::Result<impl Iterator<Item = io::Result<String>>> {
        Ok(BufReader::with_capacity(1, self.head.body(&mut self.from)?).lines())
    }
}
