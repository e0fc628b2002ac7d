//! Threads end with their connections. A program of its own: it counts its process's threads.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gesher_core::fault::Fault;
use gesher_core::machine::{Cx, End, Io, Lost, Machine, PortId, Process, Want};
use gesher_runtime_std::{Options, Service, StopHandle, Stopped, bind, run};

#[derive(Default)]
struct Hosts(AtomicU32);

/// Says one byte, and then keeps its connection until the peer ends it.
struct Host {
    port: PortId,
    said: bool,
}

impl Machine for Host {
    fn port(&self) -> PortId {
        self.port
    }
    fn advance(&mut self, _: &mut Cx<'_>, io: &mut Io) -> Result<Want, Fault> {
        if !std::mem::replace(&mut self.said, true) {
            io.output.tail().push(b'!');
        }
        Ok(Want { read: true, end: io.input.ended().then_some(End::Close), ..Want::default() })
    }
    fn lost(&mut self, _: &mut Cx<'_>, _: Lost) {}
}

impl Process for Hosts {
    fn supervisor(self: Arc<Self>) -> Option<Box<dyn Machine>> {
        None
    }
    fn accept(self: Arc<Self>, _: SocketAddr) -> Option<Box<dyn Machine>> {
        let index = self.0.fetch_add(1, Ordering::Relaxed);
        Some(Box::new(Host { port: PortId { index, generation: 0 }, said: false }))
    }
    fn drain(&self, _: &mut Cx<'_>) {}
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Threads take a moment to go.
fn become_again(count: usize) {
    let since = Instant::now();
    while threads() != count {
        assert!(since.elapsed() < Duration::from_secs(20), "{} threads, not {count}", threads());
        thread::yield_now();
    }
}

#[test]
fn no_thread_outlives_its_connection_or_its_run() {
    let before = threads();
    let listeners = vec![bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap()];
    let address = listeners[0].local_addr();
    let service = Service { process: Arc::new(Hosts::default()), listeners, on_event: Arc::new(|_| {}) };
    let stop = StopHandle::default();
    let options = Options { stop: stop.clone(), ..Options::default() };
    let running = thread::spawn(move || run(vec![service], options));
    let guest = || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stream
    };
    drop(guest());
    // The run, its signals, its watch and its listener.
    become_again(before + 4);

    let guests: Vec<_> = (0..20).map(|_| guest()).collect();
    become_again(before + 4 + guests.len());
    drop(guests);
    become_again(before + 4);

    // What is cut ends too, whatever it waits for.
    let mut guests: Vec<_> = (0..20).map(|_| guest()).collect();
    guests[0].write_all(b"unread").unwrap();
    stop.stop();
    stop.stop();
    assert_eq!(running.join().unwrap().unwrap(), Stopped::Cut);
    become_again(before);
}
