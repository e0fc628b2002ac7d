//! Without descriptors, accepting pauses. A program of its own: the limit is its process's.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::runtime::{Options, Service, StopHandle, Stopped, bind, run};
use gesher_core::fault::Fault;
use gesher_core::machine::{Cx, End, Io, Lost, Machine, PortId, Process, Want};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Socket, Type};

/// Tells who came.
struct Doorkeeper(mpsc::Sender<SocketAddr>);

/// Keeps its connection until the peer ends it.
struct Guest;

impl Machine for Guest {
    fn port(&self) -> PortId {
        PortId { index: 0, generation: 0 }
    }
    fn advance(&mut self, _: &mut Cx<'_>, io: &mut Io) -> Result<Want, Fault> {
        Ok(Want { read: true, end: io.input.ended().then_some(End::Close), ..Want::default() })
    }
    fn lost(&mut self, _: &mut Cx<'_>, _: Lost) {}
}

impl Process for Doorkeeper {
    fn supervisor(self: Arc<Self>) -> Option<Box<dyn Machine>> {
        None
    }
    fn accept(self: Arc<Self>, from: SocketAddr) -> Option<Box<dyn Machine>> {
        self.0.send(from).unwrap();
        Some(Box::new(Guest))
    }
    fn drain(&self, _: &mut Cx<'_>) {}
}

/// What this process used of the processors.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn who_waits_while_there_are_no_descriptors_is_accepted_once_there_are() {
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).unwrap();
    let (told, accepted) = mpsc::channel();
    let listeners = vec![bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap()];
    let address = listeners[0].local_addr();
    let service = Service { process: Arc::new(Doorkeeper(told)), listeners, on_event: Arc::new(|_| {}) };
    let stop = StopHandle::default();
    let options = Options { stop: stop.clone(), ..Options::default() };
    let running = thread::spawn(move || run(vec![service], options));

    // Served once, so it has all descriptors of its own.
    let first = TcpStream::connect(address).unwrap();
    accepted.recv_timeout(Duration::from_secs(20)).unwrap();

    let waiting = [(); 2].map(|()| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
    let mut taken = Vec::new();
    let full = loop {
        match File::open("/dev/null") {
            Ok(file) => taken.push(file),
            Err(error) => break error,
        }
    };
    assert_eq!(full.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
    waiting.iter().for_each(|socket| socket.connect(&address.into()).unwrap());
    let expected = waiting.each_ref().map(|socket| socket.local_addr().unwrap().as_socket().unwrap());
    let before = cpu_time();
    let mut came = Vec::new();
    while let Ok(from) = accepted.recv_timeout(Duration::from_millis(250)) {
        came.push(from);
    }
    assert!(cpu_time() - before < Duration::from_millis(50), "it spins");
    // A thread that was blocked in accept had a descriptor for it.
    assert!(came.len() <= 1);
    drop(taken);
    while came.len() < expected.len() {
        came.push(accepted.recv_timeout(Duration::from_secs(20)).unwrap());
    }
    assert_eq!(came, expected);
    drop((first, waiting));
    stop.stop();
    assert_eq!(running.join().map_err(|_| io::ErrorKind::Other).unwrap().unwrap(), Stopped::Drained);
}
