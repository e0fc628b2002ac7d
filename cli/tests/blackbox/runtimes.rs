//! That it makes no difference which runtime carries the connections, and what they cost in memory.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::app::{app, fingerprint};
use crate::gesher::Server;
use crate::http::Head;
use crate::process::{PATIENCE, Process};
use crate::visitor::{get, send};

/// The runtimes of this build.
const RUNTIMES: &[&str] = &[
    #[cfg(feature = "smol")]
    "smol",
    #[cfg(feature = "std")]
    "std",
];

#[test]
fn gateways_and_connectors_talk_to_each_other_whatever_their_runtimes() {
    let app = app(|exchange| {
        let digest = fingerprint(&mut exchange.body())?;
        exchange.respond("200 OK", "", digest.as_bytes())
    });
    let body = (0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>();
    let digest = fingerprint(&mut &body[..]).unwrap();
    for gateway in RUNTIMES {
        let server = Server::with(&format!("--runtime {gateway}"));
        for connector in RUNTIMES {
            let _client = server.join(format!("http://{app}"), &format!("--runtime {connector}"));
            let answer = send(server.address, "POST", "/", body.len() as u64, &mut &body[..]).unwrap();
            assert_eq!(
                answer.answer().unwrap().text().unwrap(),
                (200, digest.clone()),
                "{gateway}, {connector}"
            );
        }
    }
}

#[test]
fn an_idle_process_and_a_hundred_idle_visitors_cost_little_memory() {
    let app = app(|exchange| exchange.respond("200 OK", "", b"hello"));
    for runtime in RUNTIMES {
        let server = Server::with(&format!("--runtime {runtime}"));
        let client = server.join(format!("http://{app}"), &format!("--runtime {runtime}"));
        assert_eq!(get(server.address, "/").unwrap().0, 200);
        let is_at_most = |process: &Process, kib: u64, when: &str| {
            comes_down_to(process, kib, &format!("{runtime}: {when}"));
        };
        is_at_most(&server.process, 3 * 1024, "the gateway is idle");
        is_at_most(&client, 3 * 1024, "the connector is idle");
        let _visitors: Vec<_> = (0..100)
            .map(|_| {
                use std::io::{BufReader, Read, Write};
                let mut stream = TcpStream::connect(server.address).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.write_all(b"GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n").unwrap();
                let mut stream = BufReader::new(stream);
                let mut text = String::new();
                let head = Head::read_response(&mut stream).unwrap();
                head.body(&mut stream).unwrap().read_to_string(&mut text).unwrap();
                assert_eq!(text, "hello");
                stream
            })
            .collect();
        is_at_most(&server.process, 12 * 1024, "the gateway has a hundred visitors");
        is_at_most(&client, 12 * 1024, "the connector has served a hundred visitors");
        // Argon2 needs 7 MiB; twice that would be one block for each of its two runs.
        assert!(server.process.kib("VmHWM") - server.process.kib("RssFile") <= 13 * 1024, "{runtime}");
    }
}

#[cfg(all(feature = "jemalloc", target_env = "gnu"))]
#[test]
fn the_memory_of_many_who_do_not_read_goes_back_to_the_system() {
    let large = vec![b'x'; 1 << 20];
    let app = app(move |exchange| exchange.respond("200 OK", "", &large));
    for runtime in RUNTIMES {
        let server = Server::with(&format!("--runtime {runtime}"));
        let _client = server.join(format!("http://{app}"), &format!("--runtime {runtime}"));
        let visitors: Vec<_> = (0..100).map(|_| crate::visitor::ask(server.address, "/").unwrap()).collect();
        let start = Instant::now();
        while server.process.kib("RssAnon") < 16 * 1024 {
            assert!(start.elapsed() < PATIENCE, "{runtime}: little waits for them");
            thread::sleep(Duration::from_millis(100));
        }
        drop(visitors);
        // The C library keeps the stacks of threads that have ended.
        let stacks_kib = if *runtime == "std" { 6 * 1024 } else { 0 };
        comes_down_to(&server.process, 4 * 1024 + stacks_kib, runtime);
    }
}

/// Waits until a process has no more memory than this: what is free goes back to the system within some 10 s.
fn comes_down_to(process: &Process, kib: u64, when: &str) {
    let start = Instant::now();
    while process.kib("RssAnon") > kib {
        assert!(start.elapsed() < PATIENCE, "{when}: {} KiB", process.kib("RssAnon"));
        thread::sleep(Duration::from_millis(100));
    }
}
