//! Somebody between connector and gateway, and connectors that should not be let in.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::app::{app, standard};
use crate::gesher::{SECRET, Server, client, command, joined};
use crate::process::Process;
use crate::relay::{Way, relay};
use crate::visitor::{get, send};

/// What base64 makes of a text wherever it stands: the part that does not depend on its neighbours, at each of the
/// three alignments.
fn base64_parts(text: &str) -> impl Iterator<Item = String> {
    (0..3).map(move |before| {
        let padded = [&b"\0\0"[..before], text.as_bytes()].concat();
        let coded = STANDARD.encode(padded).trim_end_matches('=').to_owned();
        let (first, whole) = ([0, 2, 3][before], coded.len() - 1);
        coded[first..whole].to_owned()
    })
}

#[test]
fn nothing_of_a_request_and_no_key_shows_on_the_wire() {
    let address = app(|exchange| {
        let mut body = String::new();
        exchange.body().read_to_string(&mut body)?;
        exchange.respond("200 OK", "X-Answer: an-answering-field\r\n", b"the-body-of-the-answer")
    });
    let server = Server::start();
    let capture = Arc::<Mutex<[Vec<u8>; 2]>>::default();
    let tapped = {
        let capture = capture.clone();
        relay(server.address, move |_, way, bytes| capture.lock().unwrap()[way as usize].extend(&*bytes))
    };
    let _client = joined(&mut client(tapped, &server.pin, format!("http://{address}"), ""));

    let body = "the-body-of-the-request";
    let target = "/a-telling-path?a-telling-query";
    let asked = send(server.address, "POST", target, body.len() as u64, &mut body.as_bytes()).unwrap();
    assert_eq!(asked.answer().unwrap().text().unwrap(), (200, "the-body-of-the-answer".into()));

    let (first, last) = server.pin.split_at(3);
    let mut hidden: Vec<String> = [
        "a-telling-path",
        "a-telling-query",
        "gateway.test",
        "the-body-of-the-request",
        "an-answering-field",
        "the-body-of-the-answer",
        SECRET,
        &server.pin,
        &format!("{first}-{last}"),
        &format!("{first} {last}"),
    ]
    .map(str::to_owned)
    .into();
    for text in [SECRET, &server.pin, &server.pin.to_lowercase()] {
        hidden.extend(base64_parts(text));
    }
    let capture = capture.lock().unwrap();
    for bytes in &*capture {
        assert!(bytes.len() > 300, "the link does not go through the relay");
        let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
        for needle in &hidden {
            assert!(!text.contains(&needle.to_ascii_lowercase()), "{needle}");
        }
    }
    // The search finds what is there.
    let joins = String::from_utf8_lossy(&capture[Way::ToGateway as usize]).to_ascii_lowercase();
    assert!(joins.starts_with("get /_connect_tunnel http/1.1\r\n") && joins.contains("gesher.v2"), "{joins}");
    assert!(STANDARD.encode(format!("xy{SECRET}z")).contains(&base64_parts(SECRET).nth(2).unwrap()));
}

#[test]
fn a_changed_bit_ends_the_link_and_the_connector_joins_again() {
    for (way, notices) in [(Way::ToGateway, "server"), (Way::ToConnector, "client")] {
        let server = Server::start();
        let armed = Arc::new(AtomicBool::new(false));
        let tampering = {
            let armed = armed.clone();
            relay(server.address, move |_, chunk, bytes| {
                if chunk == way && armed.swap(false, Ordering::SeqCst) {
                    *bytes.last_mut().unwrap() ^= 0x10;
                }
            })
        };
        let client = joined(&mut client(tampering, &server.pin, format!("http://{}", app(standard)), ""));
        assert_eq!(get(server.address, "/").unwrap(), (200, "hello\n".into()));

        armed.store(true, Ordering::SeqCst);
        // Nothing wrong is answered: the link ends, and no other connector could take over.
        let status = get(server.address, "/").unwrap().0;
        assert!(matches!(status, 502 | 503), "{status}");
        let noticed = if notices == "server" { &server.process } else { &client };
        noticed.line("a record does not verify");
        client.lines("requests go to the app from now on", 2);
        assert_eq!(get(server.address, "/").unwrap(), (200, "hello\n".into()));
    }
}

#[test]
fn a_join_that_is_replayed_is_refused() {
    let server = Server::start();
    let join = Arc::<Mutex<Vec<u8>>>::default();
    let tapped = {
        let join = join.clone();
        relay(server.address, move |_, way, bytes| {
            if way == Way::ToGateway {
                join.lock().unwrap().extend(&*bytes);
            }
        })
    };
    let _client = joined(&mut client(tapped, &server.pin, "1", ""));
    let join = join.lock().unwrap();
    let end = join.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;

    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(&join[..end]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\ngesher-refusal: replay\r\n"), "{answer}");
    server.process.line("refused a join from 127.0.0.1: this join was seen before");
}

#[test]
fn a_wrong_secret_or_pin_ends_the_connector_with_3_and_one_line() {
    let server = Server::start();
    let wrong_pin = if server.pin.starts_with('A') { "B22222" } else { "A22222" };
    for (secret, pin, why) in [
        ("another-secret-of-some-length", &*server.pin, "wrong secret: use the very secret"),
        (SECRET, wrong_pin, "wrong PIN: the PIN is printed by the gateway"),
    ] {
        let line = format!("client --gateway http://{} --pin {pin}", server.address);
        let output = command(&line).env("GESHER_SECRET", secret).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        let said = format!("gesher: the gateway at http://{} refused: {why}", server.address);
        assert!(stderr.starts_with(&said) && stderr.lines().count() == 1, "{stderr}");
    }
    server.process.line("refused a join from 127.0.0.1: wrong secret");
    server.process.line("refused a join from 127.0.0.1: right secret, but wrong PIN");
}

#[test]
fn a_pin_may_be_typed_as_it_was_heard() {
    let server = Server::start();
    let (first, last) = server.pin.split_at(3);
    let heard = format!("{first}-{last}").to_lowercase();
    joined(&mut client(server.address, &heard, "1", ""));
}

/// The first answer is forged and has a time that is 5 minutes off. The connector signs one join with it, which the gateway
/// refuses.
#[test]
fn a_forged_time_costs_a_connector_one_attempt() {
    let server = Server::start();
    let forged = Arc::new(AtomicUsize::new(0));
    let forging = {
        let forged = forged.clone();
        relay(server.address, move |connection, way, bytes| {
            if (connection, way) == (0, Way::ToConnector) && forged.fetch_add(1, Ordering::SeqCst) == 0 {
                let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(300));
                *bytes = format!(
                    "HTTP/1.1 403 Forbidden\r\nDate: {date}\r\nGesher-Refusal: clock\r\n\
                     Content-Length: 0\r\nConnection: close\r\n\r\n"
                )
                .into_bytes();
            }
        })
    };
    let client = Process::start("client", &mut client(forging, &server.pin, "1", ""));
    client.line("refused: the clocks differ by more than 30 s");
    client.line("requests go to the app from now on");
    server.process.line("its clock and ours differ by more than 30 s");
}

/// How many requests are given up is for visitors to choose: no limit of a link may depend on it.
#[test]
fn visitors_who_leave_in_masses_end_no_link() {
    const LEAVE: usize = 12_000;
    let address = app(|exchange| {
        if exchange.path() == "/" {
            return standard(exchange);
        }
        exchange.start("200 OK", "Content-Length: 100\r\n")?;
        exchange.to.write_all(b"the beginning")?;
        // Until the connector closes, because the visitor has left.
        io::copy(&mut exchange.from, &mut io::sink())?;
        Err(io::ErrorKind::ConnectionAborted.into())
    });
    let server = Server::with("-q");
    let client = server.join(format!("http://{address}"), "");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..LEAVE / 4 {
                    let mut stream = TcpStream::connect(server.address).unwrap();
                    stream.write_all(b"GET /long HTTP/1.1\r\nHost: gateway.test\r\n\r\n").unwrap();
                    // A close with the rest unread is a reset.
                    stream.read_exact(&mut [0]).unwrap();
                }
            });
        }
    });
    assert_eq!(get(server.address, "/").unwrap(), (200, "hello\n".into()));
    assert!(!client.text().contains("lost the gateway"));
}
