//! The tests' own app: what it answers is a closure, a thread for each connection.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock};
use std::thread;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};
use tungstenite::WebSocket;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;

use crate::http::{Body, Head};

/// Serves on loopback until the tests end, and returns where.
pub(crate) fn app(answer: impl Fn(&mut Exchange) -> io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    app_at("127.0.0.1:0".parse().unwrap(), answer)
}

pub(crate) fn app_at(
    address: SocketAddr,
    answer: impl Fn(&mut Exchange) -> io::Result<()> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, answer) = (stream.unwrap(), answer.clone());
            thread::spawn(move || serve(stream, &*answer));
        }
    });
    address
}

fn serve(stream: TcpStream, answer: &dyn Fn(&mut Exchange) -> io::Result<()>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut from = BufReader::new(stream.try_clone()?);
    while let Some(head) = Head::read_request(&mut from)? {
        let mut exchange = Exchange { head, from, to: stream.try_clone()? };
        answer(&mut exchange)?;
        from = exchange.from;
    }
    Ok(())
}

/// One request, to be answered; an error closes the connection.
pub(crate) struct Exchange {
    pub(crate) head: Head,
    pub(crate) from: BufReader<TcpStream>,
    pub(crate) to: TcpStream,
}

impl Exchange {
    pub(crate) fn path(&self) -> &str {
        self.head.target.split('?').next().unwrap()
    }

    pub(crate) fn body(&mut self) -> Body<'_, BufReader<TcpStream>> {
        self.head.body(&mut self.from).unwrap()
    }

    pub(crate) fn respond(&mut self, status: &str, fields: &str, body: &[u8]) -> io::Result<()> {
        self.start(status, &format!("{fields}Content-Length: {}\r\n", body.len()))?;
        if self.head.method == "HEAD" { Ok(()) } else { self.to.write_all(body) }
    }

    pub(crate) fn start(&mut self, status: &str, fields: &str) -> io::Result<()> {
        self.to.write_all(format!("HTTP/1.1 {status}\r\n{fields}\r\n").as_bytes())
    }

    /// Answers the upgrade to a WebSocket and sends back whatever comes.
    fn echo(&mut self) -> io::Result<()> {
        let key = derive_accept_key(self.head.field("sec-websocket-key").unwrap().as_bytes());
        self.start(
            "101 Switching Protocols",
            &format!("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {key}\r\n"),
        )?;
        let mut socket = WebSocket::from_raw_socket(self.to.try_clone()?, Role::Server, None);
        while let Ok(message) = socket.read() {
            if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
                break;
            }
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

/// `/upload`: length and SHA-256 of what came; `/bytes/N`: N bytes of [`noise`]; `/head`: the request's head; `/ws`: an
/// echo; `/too-large`: a 413 before the body was read; `/garbage`: no HTTP.
pub(crate) fn standard(exchange: &mut Exchange) -> io::Result<()> {
    match exchange.path().to_owned().as_str() {
        "/upload" => {
            let answer = fingerprint(&mut exchange.body());
            exchange.respond("200 OK", "", answer?.as_bytes())
        }
        "/head" => {
            let head = exchange.head.bytes.clone();
            exchange.respond("200 OK", "Content-Type: text/plain\r\n", &head)
        }
        "/ws" => exchange.echo(),
        "/too-large" => {
            exchange.respond("413 Content Too Large", "Connection: close\r\n", b"too large\n")?;
            exchange.to.shutdown(std::net::Shutdown::Write)?;
            // A close with unread input would make the kernel send a reset that destroys the answer.
            io::copy(&mut exchange.from, &mut io::sink())?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        "/garbage" => {
            exchange.to.write_all(b"SSH-2.0-OpenSSH_9.2\r\n")?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        path => match path.strip_prefix("/bytes/").map(|count| count.parse::<u64>().unwrap()) {
            Some(count) => {
                exchange.start("200 OK", &format!("Content-Length: {count}\r\n"))?;
                io::copy(&mut noise(count), &mut exchange.to).map(drop)
            }
            None => exchange.respond("200 OK", "", b"hello\n"),
        },
    }
}

/// Length and SHA-256 of all that comes.
pub(crate) fn fingerprint(from: &mut impl Read) -> io::Result<String> {
    let (mut digest, mut length) = (Sha256::new(), 0);
    let mut block = vec![0; 64 * 1024];
    loop {
        match from.read(&mut block)? {
            0 => return Ok(format!("{length} {:x}", digest.finalize())),
            read => {
                digest.update(&block[..read]);
                length += read;
            }
        }
    }
}

/// Bytes that do not compress, and of which no two parts within a MiB look alike.
pub(crate) fn noise(count: u64) -> impl Read {
    static BLOCK: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut block = vec![0; (1 << 20) + 7];
        ChaCha20Rng::from_seed([1; 32]).fill_bytes(&mut block);
        block
    });
    Noise { block: &BLOCK, at: 0 }.take(count)
}

struct Noise {
    block: &'static [u8],
    at: usize,
}

impl Read for Noise {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = (&self.block[self.at..]).read(into)?;
        self.at = (self.at + read) % self.block.len();
        Ok(read)
    }
}
