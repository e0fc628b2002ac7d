//! Without descriptors, accepting pauses; and they allow fewer connections than a runtime does. A program of its own: the limit is its process's.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::runtime::{Options, Service, StopHandle, Stopped, bind, run};
use gesher_core::config::GatewayConfig;
use gesher_core::fault::Fault;
use gesher_core::hub::GatewayHub;
use gesher_core::machine::{Cx, End, Io, Lost, Machine, PortId, Process, Want};
use gesher_core::secret::{Keys, Pin, Secret};
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

/// Descriptors of this process, for one test at a time.
const DESCRIPTORS: u64 = 128;

fn limited() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let limit = Some(DESCRIPTORS);
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
    alone
}

#[test]
fn where_descriptors_are_few_idle_visitors_make_room_before_there_are_none() {
    const PATIENCE: Duration = Duration::from_secs(20);
    let _alone = limited();
    // As if this process had few: what the gateway finds taken is left to the visitors, who are in it as well.
    let taken: Vec<_> = (0..72).map(|_| File::open("/dev/null").unwrap()).collect();
    let keys = Keys::derive(&Secret::new(b"between us".to_vec()).unwrap(), &Pin::parse("K7QM2X").unwrap());
    let listeners = vec![bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap()];
    let address = listeners[0].local_addr();
    let process = GatewayHub::new(GatewayConfig::new(keys), [1; 32]);
    let service = Service { process, listeners, on_event: Arc::new(|_| {}) };
    let stop = StopHandle::default();
    let options = Options { stop: stop.clone(), signals: false, ..Options::default() };
    let running = thread::spawn(move || run(vec![service], options));
    let status = || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let _ = stream.read_to_string(&mut answer);
        answer.split(' ').nth(1).map(str::to_owned)
    };
    assert_eq!(status().as_deref(), Some("503"));
    drop(taken);
    let visitors: Vec<_> = (0..60).map(|_| TcpStream::connect(address).unwrap()).collect();
    let since = Instant::now();
    while status().as_deref() != Some("503") {
        assert!(since.elapsed() < PATIENCE, "nobody makes room");
    }
    drop(visitors);
    stop.stop();
    assert_eq!(running.join().unwrap().unwrap(), Stopped::Drained);
}

#[test]
fn who_waits_while_there_are_no_descriptors_is_accepted_once_there_are() {
    let _alone = limited();
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
