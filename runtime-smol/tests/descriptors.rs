//! Without descriptors, accepting pauses. A program of its own: the limit is its process's.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use gesher_core::fault::Fault;
use gesher_core::machine::{Cx, End, Io, Lost, Machine, PortId, Process, Want};
use gesher_runtime_smol::{Options, Service, StopHandle, Stopped, bind, run};
use rustix::process::{Resource, Rlimit, setrlimit};

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

    let mut taken = Vec::new();
    let full = loop {
        match File::open("/dev/null") {
            Ok(file) => taken.push(file),
            Err(error) => break error,
        }
    };
    assert_eq!(full.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
    taken.pop();
    let waiting = TcpStream::connect(address).unwrap();
    assert_eq!(accepted.recv_timeout(Duration::from_millis(250)), Err(mpsc::RecvTimeoutError::Timeout));
    drop(taken);
    let from = accepted.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(from, waiting.local_addr().unwrap());
    drop((first, waiting));
    stop.stop();
    assert_eq!(running.join().map_err(|_| io::ErrorKind::Other).unwrap().unwrap(), Stopped::Drained);
}
