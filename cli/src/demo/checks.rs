//! What `gesher demo --once` sends through, and what has to come back.
//! ```text
//! ✓ page                   200, 12945 B, as the app has it, in 3 ms
//! ✗ WebSocket              no WebSocket, but status 502, after 2 ms
//! ```

use std::io::{self, Write};
use std::time::Instant;

use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};

use super::app::{self, PAGE};
use super::visitor::{Response, Visitor};
use super::websocket::Message;

type Check = fn(Visitor, ChaCha20Rng) -> io::Result<String>;

const CHECKS: [(&str, Check); 9] = [
    ("page", page),
    ("header fields", fields),
    ("upload", upload),
    ("upload in chunks", upload_in_chunks),
    ("download", download),
    ("download in chunks", download_in_chunks),
    ("event stream", event_stream),
    ("WebSocket", websocket),
    ("both connectors serve", both_serve),
];

const MIB: usize = 1024 * 1024;

/// Runs all checks and prints a line for each as it is done; true if all was right.
pub(crate) fn run(visitor: Visitor, random: &ChaCha20Rng, out: &mut impl Write) -> bool {
    let mut wrong = 0;
    for (name, check) in CHECKS {
        let start = Instant::now();
        let result = check(visitor, random.clone());
        wrong += usize::from(result.is_err());
        print(out, name, &result, start);
    }
    let total = CHECKS.len();
    let _ = match wrong {
        0 => writeln!(out, "\nAll {total} were right."),
        _ => writeln!(out, "\n{wrong} of {total} went wrong."),
    };
    wrong == 0
}

/// A line of the report.
pub(crate) fn print(out: &mut impl Write, name: &str, result: &io::Result<String>, start: Instant) {
    let ms = start.elapsed().as_millis();
    let _ = match result {
        Ok(text) => writeln!(out, "✓ {name:<22} {text}, in {ms} ms"),
        Err(why) => writeln!(out, "✗ {name:<22} {why}, after {ms} ms"),
    };
}

fn page(visitor: Visitor, _: ChaCha20Rng) -> io::Result<String> {
    let bytes = ok(visitor.get("/", "")?)?.bytes()?;
    ensure(bytes == PAGE.as_bytes(), || format!("{} B came, but not the page", bytes.len()))?;
    Ok(format!("200, {} B, as the app has it", bytes.len()))
}

fn fields(visitor: Visitor, _: ChaCha20Rng) -> io::Result<String> {
    let sent = "X-Demo: one\r\nX-Demo: two, three\r\nCookie: a=b; c=d\r\n";
    let seen = ok(visitor.get("/headers?q=%20x", sent)?)?.bytes()?;
    let seen = String::from_utf8_lossy(&seen);
    for line in ["GET /headers?q=%20x HTTP/1.1", "X-Demo: one", "X-Demo: two, three", "Cookie: a=b; c=d"] {
        ensure(seen.lines().any(|seen| seen == line), || format!("'{line}' did not reach the app"))?;
    }
    Ok("the app saw them as they were sent".into())
}

fn upload(visitor: Visitor, _: ChaCha20Rng) -> io::Result<String> {
    let body = pattern(MIB);
    let length = format!("Content-Length: {MIB}\r\n");
    came_whole(visitor.send("POST", "/upload", &length, &body)?, &body)
}

fn upload_in_chunks(visitor: Visitor, _: ChaCha20Rng) -> io::Result<String> {
    let body = pattern(MIB);
    let mut framed = Vec::new();
    for chunk in body.chunks(50_000) {
        framed.extend(format!("{:x}\r\n", chunk.len()).bytes());
        framed.extend_from_slice(chunk);
        framed.extend(b"\r\n");
    }
    framed.extend(b"0\r\n\r\n");
    came_whole(visitor.send("PUT", "/upload", "Transfer-Encoding: chunked\r\n", &framed)?, &body)
}

fn download(visitor: Visitor, _: ChaCha20Rng) -> io::Result<String> {
    let response = ok(visitor.get(&format!("/bytes/{MIB}"), "")?)?;
    ensure(response.head.field("content-length") == Some(&MIB.to_string()), || "its length is lost".into())?;
    same_pattern(response)
}

fn download_in_chunks(visitor: Visitor, _: ChaCha20Rng) -> io::Result<String> {
    let response = ok(visitor.get(&format!("/bytes/{MIB}?chunked"), "")?)?;
    ensure(response.head.lists("transfer-encoding", "chunked"), || "it did not come in chunks".into())?;
    same_pattern(response)
}

fn event_stream(visitor: Visitor, _: ChaCha20Rng) -> io::Result<String> {
    let response = ok(visitor.get("/events", "Accept: text/event-stream\r\n")?)?;
    let event = response.text_until("\n\n")?;
    ensure(event.starts_with("id: 1\ndata: {"), || "what came is not its first event".into())?;
    Ok("the first event came while the stream stays open".into())
}

fn websocket(visitor: Visitor, random: ChaCha20Rng) -> io::Result<String> {
    let mut socket = visitor.websocket("/ws", random)?;
    let expect = |sent: Message, came: Message| ensure(sent == came, || "an echo differs".into());
    for size in [0, 1, 125, 126, 65_535, 65_536, MIB] {
        let sent = pattern(size);
        socket.send_binary(&sent)?;
        expect(Message::Binary(sent), socket.receive()?)?;
    }
    socket.send_text("שלום, bridge")?;
    expect(Message::Text("שלום, bridge".into()), socket.receive()?)?;
    socket.send_fragments(&[b"in ", b"three ", b"parts"])?;
    expect(Message::Binary(b"in three parts".to_vec()), socket.receive()?)?;
    socket.send_ping(b"still there?")?;
    expect(Message::Pong(b"still there?".to_vec()), socket.receive()?)?;
    socket.send_close()?;
    expect(Message::Close, socket.receive()?)?;
    Ok("9 echoes from 0 B to 1 MiB, a pong, a goodbye".into())
}

fn both_serve(visitor: Visitor, _: ChaCha20Rng) -> io::Result<String> {
    let mut served = [0u32; 2];
    for _ in 0..8 {
        let response = ok(visitor.get("/headers", "")?)?;
        match response.head.field("x-demo-app") {
            Some("1") => served[0] += 1,
            Some("2") => served[1] += 1,
            _ => return Err(io::Error::other("an answer does not say which app it is from")),
        }
        response.bytes()?;
    }
    let [first, second] = served;
    ensure(first > 0 && second > 0, || format!("one got {first} requests and the other {second}"))?;
    Ok(format!("one got {first} requests, the other {second}"))
}

fn pattern(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    app::fill_pattern(0, &mut bytes);
    bytes
}

fn ok(response: Response) -> io::Result<Response> {
    ensure(response.head.status == 200, || format!("status {}", response.head.status))?;
    Ok(response)
}

fn came_whole(response: Response, sent: &[u8]) -> io::Result<String> {
    let answer = ok(response)?.bytes()?;
    let sha256 = app::sha256_hex(Sha256::new_with_prefix(sent));
    let expected = format!("\"bytes\":{},\"sha256\":\"{sha256}\"", sent.len());
    let answer = String::from_utf8_lossy(&answer);
    ensure(answer.contains(&expected), || {
        format!("other bytes reached the app: {}", answer.trim().escape_debug())
    })?;
    Ok(format!("200, {} B, SHA-256 {}… on both sides", sent.len(), &sha256[..8]))
}

fn same_pattern(response: Response) -> io::Result<String> {
    let bytes = response.bytes()?;
    ensure(bytes == pattern(MIB), || format!("{} B came, and not the right ones", bytes.len()))?;
    Ok(format!("200, {MIB} B, all of them right"))
}

fn ensure(right: bool, why: impl FnOnce() -> String) -> io::Result<()> {
    if right { Ok(()) } else { Err(io::Error::other(why())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
    use std::thread;

    /// Passes each connection to the next of `apps`, bytes unchanged.
    fn relay(apps: Vec<SocketAddr>) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for (stream, app) in listener.incoming().zip(apps.iter().cycle()) {
                let (visitor, app) = (stream.unwrap(), TcpStream::connect(app).unwrap());
                let pipes = [(visitor.try_clone().unwrap(), app.try_clone().unwrap()), (app, visitor)];
                for (mut from, mut to) in pipes {
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Write);
                    });
                }
            }
        });
        address
    }

    fn report(to: SocketAddr) -> (bool, String) {
        let mut report = Vec::new();
        let right = run(Visitor { to }, &ChaCha20Rng::from_seed([7; 32]), &mut report);
        (right, String::from_utf8(report).unwrap())
    }

    #[test]
    fn all_is_right_with_two_apps_behind_a_relay() {
        let (right, report) = report(relay(vec![app::start(1).unwrap(), app::start(2).unwrap()]));
        assert!(right, "{report}");
        assert_eq!(report.matches('✓').count(), CHECKS.len(), "{report}");
        assert!(report.contains("one got 4 requests, the other 4"), "{report}");
    }

    #[test]
    fn one_connector_without_requests_is_wrong() {
        let (right, report) = report(app::start(1).unwrap());
        assert!(!right, "{report}");
        assert!(report.contains("✗ both connectors serve  one got 8 requests and the other 0"), "{report}");
        assert!(report.ends_with("\n1 of 9 went wrong.\n"), "{report}");
    }

    #[test]
    fn nobody_there_is_wrong_without_waiting() {
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let (right, report) = report(nobody);
        assert!(!right);
        assert_eq!(report.matches('✗').count(), CHECKS.len(), "{report}");
    }
}
