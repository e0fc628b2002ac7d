//! Much data, slow readers, and small events: everything streams, and memory stays bounded.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use crate::app::{app, fingerprint, noise, standard};
use crate::gesher::Tunnel;
use crate::process::PATIENCE;
use crate::visitor::{ask, get, send};

const MIB: u64 = 1 << 20;

/// Sends `count` bytes up and down and looks at every one of them.
fn both_ways(tunnel: &Tunnel, count: u64) {
    let wanted = fingerprint(&mut noise(count)).unwrap();
    let asked = send(tunnel.address(), "POST", "/upload", count, &mut noise(count)).unwrap();
    assert_eq!(asked.answer().unwrap().text().unwrap(), (200, wanted.clone()));
    let answer = ask(tunnel.address(), &format!("/bytes/{count}")).unwrap().answer().unwrap();
    assert_eq!(answer.fingerprint().unwrap(), wanted);
}

/// Checks the most memory that the two processes ever had, and prints it.
fn peaks_under(tunnel: &Tunnel, most_mib: u64, of: &str) {
    let (server, client) = (tunnel.server.process.peak_mib(), tunnel.client.peak_mib());
    eprintln!("{of}: peak memory of the server {server} MiB, of the client {client} MiB");
    assert!(server < most_mib && client < most_mib, "{of}: server {server} MiB, client {client} MiB");
}

#[test]
fn large_bodies_arrive_right_and_are_never_held() {
    let tunnel = Tunnel::to(format!("http://{}", app(standard)));
    let start = Instant::now();
    both_ways(&tunnel, 64 * MIB);
    eprintln!("64 MiB up and 64 MiB down in {:.1} s", start.elapsed().as_secs_f64());
    peaks_under(&tunnel, 48, "one large body");
}

#[test]
fn eight_large_bodies_at_once_share_bounded_memory() {
    let tunnel = Tunnel::to(format!("http://{}", app(standard)));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| both_ways(&tunnel, 16 * MIB));
        }
    });
    peaks_under(&tunnel, 96, "eight bodies");
}

/// No clock decides this: an app that must see its event acknowledged before it writes the next would wait for ever.
#[test]
fn an_event_is_at_the_visitor_before_the_app_writes_the_next() {
    const EVENTS: u32 = 50;
    let (acknowledge, acknowledged) = channel::<()>();
    let (wrote, written) = channel();
    let acknowledged = Mutex::new(acknowledged);
    let address = app(move |exchange| {
        let acknowledged = acknowledged.lock().unwrap();
        exchange.start("200 OK", "Content-Type: text/event-stream\r\nConnection: close\r\n")?;
        for number in 0..EVENTS {
            wrote.send(Instant::now()).unwrap();
            exchange.to.write_all(format!("data: {number}\n\n").as_bytes())?;
            acknowledged.recv_timeout(PATIENCE).map_err(io::Error::other)?;
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    });
    let tunnel = Tunnel::to(format!("http://{address}"));
    let mut answer = ask(tunnel.address(), "/events").unwrap().answer().unwrap();
    let mut lines = answer.lines().unwrap();
    let mut delays = Vec::new();
    for number in 0..EVENTS {
        assert_eq!(lines.next().unwrap().unwrap(), format!("data: {number}"));
        delays.push(written.recv().unwrap().elapsed());
        assert_eq!(lines.next().unwrap().unwrap(), "");
        acknowledge.send(()).unwrap();
    }
    delays.sort();
    eprintln!("an event from app to visitor: median {:?}, longest {:?}", delays[25], delays[49]);
}

#[test]
fn a_visitor_who_stops_reading_stalls_nobody_and_costs_bounded_memory() {
    let (ended, app_ended) = channel();
    let address = app(move |exchange| {
        let result = standard(exchange);
        if exchange.path() == "/bytes/536870912" {
            ended.send(result.is_err()).unwrap();
        }
        result
    });
    let tunnel = Tunnel::to(format!("http://{address}"));
    let stalled = ask(tunnel.address(), "/bytes/536870912").unwrap();
    both_ways(&tunnel, 8 * MIB);
    for _ in 0..50 {
        assert_eq!(get(tunnel.address(), "/").unwrap(), (200, "hello\n".into()));
    }
    peaks_under(&tunnel, 64, "a reader that stopped");
    // Its leaving reaches the app, which had not been able to send all.
    drop(stalled);
    assert!(app_ended.recv_timeout(PATIENCE).unwrap());
    tunnel.server.process.line("the visitor left");
}

#[test]
fn an_upload_that_nobody_reads_stalls_nobody() {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let address = app(move |exchange| {
        if exchange.path() == "/later" {
            released.lock().unwrap().recv_timeout(PATIENCE).map_err(io::Error::other)?;
            exchange.head.target = "/upload".into();
        }
        standard(exchange)
    });
    let tunnel = Tunnel::to(format!("http://{address}"));
    thread::scope(|scope| {
        let later = scope.spawn(|| send(tunnel.address(), "POST", "/later", 64 * MIB, &mut noise(64 * MIB)));
        both_ways(&tunnel, 4 * MIB);
        release.send(()).unwrap();
        let answer = later.join().unwrap().unwrap().answer().unwrap();
        assert_eq!(answer.text().unwrap(), (200, fingerprint(&mut noise(64 * MIB)).unwrap()));
    });
    peaks_under(&tunnel, 64, "an app that did not read");
}
