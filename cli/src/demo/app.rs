//! The demo's app: a small web server with something of everything that a tunnel has to carry.
//!
//! | path | answers |
//! | --- | --- |
//! | `/` | a page that shows the rest |
//! | `/events` | an event stream, one event a second |
//! | `/ws` | a WebSocket that echoes |
//! | `POST /upload` | how many bytes came, and their SHA-256 |
//! | `/headers` | the request's head as it arrived |
//! | `/slow?seconds=3` | the same answer, later |
//! | `/bytes/N`, `/bytes/N?chunked` | N bytes, at most 1 GiB, with a length or in chunks |
//!
//! Every answer has an `X-Demo-App` field with the app's number. It listens on loopback only, takes at most
//! [`CONNECTIONS_MAX`] connections with a thread each, and keeps no body in memory.

use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::http::Head;
use super::websocket::{Message, WebSocket, accept};

/// The page at `/`.
pub(crate) const PAGE: &str = include_str!("page.html");

/// The page brings all it needs, and may talk to nobody but the app.
const PAGE_FIELDS: &str = "Content-Type: text/html; charset=utf-8\r\n\
    Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    img-src data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'\r\n";
const TEXT: &str = "Content-Type: text/plain; charset=utf-8\r\n";
const JSON: &str = "Content-Type: application/json\r\n";

const CONNECTIONS_MAX: usize = 256;
const IDLE: Duration = Duration::from_secs(60);
const SEND: Duration = Duration::from_secs(5 * 60);
const BYTES_MAX: u64 = 1 << 30;
const SLOW_SECS_MAX: u64 = 30;
/// An event stream ends after an hour; browsers open the next one by themselves.
const EVENTS_MAX: u32 = 3600;
const BLOCK_BYTES: usize = 16 * 1024;

/// Starts the app with this number on a free port of 127.0.0.1; it runs until the process ends.
pub(crate) fn start(number: u8) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::Builder::new().name(format!("app-{number}")).spawn(move || accept_all(&listener, number))?;
    Ok(address)
}

/// Byte `offset` and those after it of what `/bytes/N` sends: no two blocks look alike to a tunnel that mixes them up.
pub(crate) fn fill_pattern(offset: u64, block: &mut [u8]) {
    for (byte, at) in block.iter_mut().zip(offset..) {
        *byte = (at % 251) as u8;
    }
}

/// The digest in hexadecimal.
pub(crate) fn sha256_hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn accept_all(listener: &TcpListener, app: u8) {
    let open = Arc::new(());
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of descriptors, most likely: they come back as connections end.
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        if Arc::strong_count(&open) > CONNECTIONS_MAX {
            continue;
        }
        let place = open.clone();
        let serve = move || {
            let _ = Connection::new(stream, app).and_then(|mut connection| connection.serve());
            drop(place);
        };
        // Without a thread for it the connection closes: the closure that owns it is dropped.
        let _ = thread::Builder::new().spawn(serve);
    }
}

struct Connection {
    app: u8,
    from: BufReader<TcpStream>,
    to: TcpStream,
}

impl Connection {
    fn new(stream: TcpStream, app: u8) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_write_timeout(Some(SEND))?;
        Ok(Self { app, from: BufReader::with_capacity(BLOCK_BYTES, stream.try_clone()?), to: stream })
    }

    fn serve(&mut self) -> io::Result<()> {
        while let Some(head) = Head::read_request(&mut self.from)? {
            self.answer(&head)?;
            if head.lists("connection", "close") {
                break;
            }
        }
        Ok(())
    }

    fn answer(&mut self, head: &Head) -> io::Result<()> {
        if head.lists("expect", "100-continue") {
            self.to.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
        let reads = matches!(head.method.as_str(), "GET" | "HEAD");
        if path == "/upload" {
            return self.upload(head);
        }
        io::copy(&mut head.body(&mut self.from)?, &mut io::sink())?;
        match path {
            "/headers" => self.respond(head, "200 OK", TEXT, &head.bytes),
            _ if !reads => self.respond(head, "405 Method Not Allowed", "Allow: GET, HEAD\r\n", b""),
            "/" => self.respond(head, "200 OK", PAGE_FIELDS, PAGE.as_bytes()),
            "/events" => self.events(head),
            "/ws" => self.echo(head),
            "/slow" => self.slow(head, query),
            _ => match path.strip_prefix("/bytes/") {
                Some(count) => self.bytes(head, count, query),
                None => self.respond(head, "404 Not Found", TEXT, b"The demo's app has no such page.\n"),
            },
        }
    }

    fn upload(&mut self, head: &Head) -> io::Result<()> {
        let mut body = head.body(&mut self.from)?;
        let (mut digest, mut bytes) = (Sha256::new(), 0u64);
        let mut block = [0; BLOCK_BYTES];
        loop {
            match body.read(&mut block)? {
                0 => break,
                read => {
                    digest.update(&block[..read]);
                    bytes += read as u64;
                }
            }
        }
        if !matches!(head.method.as_str(), "POST" | "PUT") {
            return self.respond(head, "405 Method Not Allowed", "Allow: POST, PUT\r\n", b"");
        }
        let (app, sha256) = (self.app, sha256_hex(digest));
        let answer = format!("{{\"app\":{app},\"bytes\":{bytes},\"sha256\":\"{sha256}\"}}\n");
        self.respond(head, "200 OK", JSON, answer.as_bytes())
    }

    fn events(&mut self, head: &Head) -> io::Result<()> {
        let fields = "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n";
        self.start("200 OK", fields)?;
        if head.method == "HEAD" {
            return Ok(());
        }
        for number in 1..=EVENTS_MAX {
            let time = humantime::format_rfc3339_millis(SystemTime::now());
            let app = self.app;
            let event =
                format!("id: {number}\ndata: {{\"n\":{number},\"app\":{app},\"time\":\"{time}\"}}\n\n");
            self.chunk(event.as_bytes())?;
            thread::sleep(Duration::from_secs(1));
        }
        self.chunk(b"")
    }

    fn echo(&mut self, head: &Head) -> io::Result<()> {
        let key = head.field("sec-websocket-key").filter(|_| head.lists("upgrade", "websocket"));
        let Some(key) = key else {
            let fields = format!("{TEXT}Upgrade: websocket\r\n");
            return self.respond(head, "426 Upgrade Required", &fields, b"A WebSocket lives here.\n");
        };
        let accept = accept(key);
        let fields =
            format!("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n");
        self.start("101 Switching Protocols", &fields)?;
        self.to.set_read_timeout(None)?;
        let mut socket = WebSocket::server(&mut self.from, &mut self.to);
        loop {
            match socket.receive()? {
                Message::Text(text) => socket.send_text(&text)?,
                Message::Binary(bytes) => socket.send_binary(&bytes)?,
                Message::Pong(_) => {}
                // What follows is no HTTP any more.
                Message::Close => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
    }

    fn slow(&mut self, head: &Head, query: &str) -> io::Result<()> {
        let asked = query.strip_prefix("seconds=").and_then(|secs| secs.parse().ok());
        let secs = asked.unwrap_or(3).min(SLOW_SECS_MAX);
        thread::sleep(Duration::from_secs(secs));
        self.respond(head, "200 OK", TEXT, format!("That took {secs} s.\n").as_bytes())
    }

    fn bytes(&mut self, head: &Head, count: &str, query: &str) -> io::Result<()> {
        let Some(count) = count.parse().ok().filter(|count| *count <= BYTES_MAX) else {
            return self.respond(
                head,
                "400 Bad Request",
                TEXT,
                b"/bytes/N: N is a number up to 1073741824.\n",
            );
        };
        let chunked = query == "chunked";
        let framing =
            if chunked { "Transfer-Encoding: chunked".into() } else { format!("Content-Length: {count}") };
        self.start("200 OK", &format!("Content-Type: application/octet-stream\r\n{framing}\r\n"))?;
        if head.method == "HEAD" {
            return Ok(());
        }
        let mut block = [0; BLOCK_BYTES];
        let mut sent = 0u64;
        while sent < count {
            let size = (count - sent).min(BLOCK_BYTES as u64) as usize;
            fill_pattern(sent, &mut block[..size]);
            if chunked {
                self.chunk(&block[..size])?
            } else {
                self.to.write_all(&block[..size])?
            }
            sent += size as u64;
        }
        if chunked { self.chunk(b"") } else { Ok(()) }
    }

    /// A whole answer in one write.
    fn respond(&mut self, head: &Head, status: &str, fields: &str, body: &[u8]) -> io::Result<()> {
        let length = body.len();
        let mut answer = self.head(status, &format!("{fields}Content-Length: {length}\r\n")).into_bytes();
        if head.method != "HEAD" {
            answer.extend_from_slice(body);
        }
        self.to.write_all(&answer)
    }

    /// A head alone.
    fn start(&mut self, status: &str, fields: &str) -> io::Result<()> {
        let head = self.head(status, fields);
        self.to.write_all(head.as_bytes())
    }

    fn head(&self, status: &str, fields: &str) -> String {
        let app = self.app;
        format!("HTTP/1.1 {status}\r\nX-Demo-App: {app}\r\nCache-Control: no-store\r\n{fields}\r\n")
    }

    /// One chunk; the empty one is the last.
    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.to.write_all(&chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::visitor::{Response, Visitor};
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    fn visitor() -> Visitor {
        Visitor { to: start(1).unwrap() }
    }

    fn text(response: Response) -> (u16, String) {
        (response.head.status, String::from_utf8(response.bytes().unwrap()).unwrap())
    }

    #[test]
    fn the_page_brings_all_it_needs() {
        let response = visitor().get("/", "").unwrap();
        assert_eq!(response.head.field("x-demo-app"), Some("1"));
        assert!(response.head.field("content-security-policy").unwrap().starts_with("default-src 'none'"));
        assert_eq!(text(response), (200, PAGE.to_owned()));
        for elsewhere in ["src=\"http", "href=\"http", "url(http", "@import"] {
            assert!(!PAGE.contains(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn an_upload_is_counted_and_hashed_whatever_its_framing() {
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let answer = format!("{{\"app\":1,\"bytes\":3,\"sha256\":\"{sha256}\"}}\n");
        let visitor = visitor();
        for (framing, body) in [
            ("Content-Length: 3\r\n", &b"abc"[..]),
            ("Transfer-Encoding: chunked\r\n", b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
            ("Content-Length: 3\r\nExpect: 100-continue\r\n", b"abc"),
        ] {
            let response = visitor.send("POST", "/upload", framing, body).unwrap();
            assert_eq!(text(response), (200, answer.clone()));
        }
    }

    #[test]
    fn events_come_one_by_one() {
        let response = visitor().get("/events", "").unwrap();
        assert_eq!(response.head.field("content-type"), Some("text/event-stream"));
        let event = response.text_until("\n\n").unwrap();
        assert!(event.starts_with("id: 1\ndata: {\"n\":1,\"app\":1,\"time\":\""), "{event}");
    }

    #[test]
    fn a_websocket_echoes() {
        let mut socket = visitor().websocket("/ws", ChaCha20Rng::from_seed([7; 32])).unwrap();
        socket.send_text("hello").unwrap();
        assert_eq!(socket.receive().unwrap(), Message::Text("hello".into()));
        socket.send_close().unwrap();
        assert_eq!(socket.receive().unwrap(), Message::Close);
        assert_eq!(text(visitor().get("/ws", "").unwrap()).0, 426);
    }

    #[test]
    fn bytes_are_as_many_as_asked_for() {
        let visitor = visitor();
        for target in ["/bytes/40000", "/bytes/40000?chunked"] {
            let mut pattern = vec![0; 40_000];
            fill_pattern(0, &mut pattern);
            assert_eq!(visitor.get(target, "").unwrap().bytes().unwrap(), pattern);
        }
        assert_eq!(text(visitor.get("/bytes/0", "").unwrap()), (200, String::new()));
        for too_many in ["/bytes/1073741825", "/bytes/-1", "/bytes/", "/bytes/x"] {
            assert_eq!(visitor.get(too_many, "").unwrap().head.status, 400, "{too_many}");
        }
    }

    #[test]
    fn the_head_is_shown_as_it_arrived() {
        let (status, seen) = text(visitor().send("PATCH", "/headers?a=b", "X-Odd:  y \r\n", b"").unwrap());
        assert_eq!(status, 200);
        assert!(seen.starts_with("PATCH /headers?a=b HTTP/1.1\r\nHost: 127.0.0.1:"), "{seen}");
        assert!(seen.ends_with("\r\nX-Odd:  y \r\n\r\n"), "{seen}");
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        let visitor = visitor();
        assert_eq!(visitor.get("/nothing", "").unwrap().head.status, 404);
        assert_eq!(visitor.send("DELETE", "/", "", b"").unwrap().head.status, 405);
        assert_eq!(visitor.get("/upload", "").unwrap().head.status, 405);
        assert_eq!(text(visitor.get("/slow?seconds=0", "").unwrap()), (200, "That took 0 s.\n".into()));
    }
}
