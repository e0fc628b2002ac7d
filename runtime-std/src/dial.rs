//! Opening connections: names, several addresses, one time for all of it.
//!
//! Resolving and connecting block, and nothing ends them early; so each has a thread of its own, which nobody waits for
//! once its answer is not wanted. Addresses are tried in the order the resolver gave them. Each has a head start before
//! the next, unless it fails; the first that answers is taken (RFC 8305, 5).

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};
use std::vec;

use gesher_core::machine::{DialFault, Endpoint};
use socket2::{Domain, SockAddr, Type};

use crate::socket::Socket;
use crate::system::{connected, more_telling, resolve, without_resolver};
use crate::threads::spawn;

/// The head start of an address before the next (RFC 8305, 8).
const HEAD_START: Duration = Duration::from_millis(250);

/// For whom a connection is opened.
pub(crate) trait Dialler: Send + Sync + 'static {
    /// Waits until it is rung, or until `until`; does not, and says so, if nobody wants the connection any more.
    fn wait(&self, until: Instant) -> bool;

    /// Rings.
    fn ring(&self);
}

/// Opens a connection to `to` within `timeout`, resolving included; none if nobody wants it any more.
pub(crate) fn dial(
    dialler: Arc<impl Dialler>,
    to: Endpoint,
    timeout: Duration,
) -> Option<Result<Socket, DialFault>> {
    let mut dialling = Dialling::new(dialler, timeout);
    let left = dialling.left();
    match to {
        Endpoint::Unix { path } => dialling.ask(move || Answer::Connected(connect_unix(&path, left))),
        Endpoint::Tcp { host, port } => match without_resolver(&host, port) {
            Some(addresses) => dialling.addresses = addresses.into_iter(),
            None => dialling.ask(move || Answer::Addresses(resolve(&host, port))),
        },
    }
    dialling.first_to_answer()
}

/// What a thread found out.
enum Answer {
    Addresses(Result<Vec<SocketAddr>, DialFault>),
    Connected(io::Result<Socket>),
}

struct Dialling<D> {
    dialler: Arc<D>,
    until: Instant,
    tell: Sender<Answer>,
    answers: Receiver<Answer>,
    /// Threads that have not answered.
    under_way: usize,
    /// What was not tried.
    addresses: vec::IntoIter<SocketAddr>,
    /// Until when the last one has its head start.
    head_start: Instant,
    /// What the failures said so far.
    fault: Option<DialFault>,
}

impl<D: Dialler> Dialling<D> {
    fn new(dialler: Arc<D>, timeout: Duration) -> Self {
        let (tell, answers) = mpsc::channel();
        let now = Instant::now();
        // A time that the clock cannot tell is over sooner than anybody notices.
        let until = now.checked_add(timeout).unwrap_or(now + Duration::from_secs(24 * 60 * 60));
        Self {
            dialler,
            until,
            tell,
            answers,
            under_way: 0,
            addresses: Vec::new().into_iter(),
            head_start: now,
            fault: None,
        }
    }

    /// What is left of the time; never none, which system calls take for ever.
    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }

    /// Lets a thread find something out.
    fn ask(&mut self, question: impl FnOnce() -> Answer + Send + 'static) {
        let (dialler, tell) = (Arc::clone(&self.dialler), self.tell.clone());
        self.under_way += 1;
        let asked = spawn("dial".into(), move || {
            let _ = tell.send(question());
            dialler.ring();
        });
        if let Err(error) = asked {
            let _ = self.tell.send(Answer::Connected(Err(error)));
        }
    }

    fn first_to_answer(mut self) -> Option<Result<Socket, DialFault>> {
        loop {
            while let Ok(answer) = self.answers.try_recv() {
                self.under_way -= 1;
                match answer {
                    Answer::Connected(Ok(socket)) => return Some(Ok(socket)),
                    Answer::Connected(Err(error)) => {
                        self.fault = Some(more_telling(self.fault, &error));
                        self.head_start = Instant::now();
                    }
                    Answer::Addresses(Ok(addresses)) => self.addresses = addresses.into_iter(),
                    Answer::Addresses(Err(why)) => return Some(Err(why)),
                }
            }
            let now = Instant::now();
            if now >= self.until {
                return Some(Err(DialFault::TimedOut));
            }
            let more = self.addresses.len() > 0;
            if more && now >= self.head_start {
                self.head_start = now + HEAD_START;
                let left = self.left();
                if let Some(address) = self.addresses.next() {
                    self.ask(move || Answer::Connected(connect(address, left)));
                }
            } else if !more && self.under_way == 0 {
                return Some(Err(self.fault.unwrap_or(DialFault::NoSuchName)));
            } else if !self.dialler.wait(if more { self.until.min(self.head_start) } else { self.until }) {
                return None;
            }
        }
    }
}

fn connect(address: SocketAddr, left: Duration) -> io::Result<Socket> {
    let socket = TcpStream::connect_timeout(&address, left)?;
    connected(&socket)?;
    Ok(socket.into())
}

/// A unix socket whose backlog is full lets us wait as long as we would for a write.
fn connect_unix(path: &str, left: Duration) -> io::Result<Socket> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(left))?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_write_timeout(None)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread::{self, Thread};

    use super::*;

    /// A test that dials.
    struct Parked(Thread);

    impl Dialler for Parked {
        fn wait(&self, until: Instant) -> bool {
            thread::park_timeout(until.saturating_duration_since(Instant::now()));
            true
        }
        fn ring(&self) {
            self.0.unpark();
        }
    }

    fn first_to_answer(addresses: Vec<SocketAddr>) -> Result<Socket, DialFault> {
        let mut dialling = Dialling::new(Arc::new(Parked(thread::current())), Duration::from_secs(20));
        dialling.addresses = addresses.into_iter();
        dialling.first_to_answer().expect("the dialler never gives up")
    }

    /// Bound and not listening (it refuses), or listening with a backlog of one.
    fn bound(listening: bool) -> (socket2::Socket, SocketAddr) {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        if listening {
            socket.listen(0).unwrap();
        }
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    #[test]
    fn an_address_that_refuses_or_says_nothing_makes_way_for_the_next() {
        let (_refusing, refuses) = bound(false);
        let (_silent, says_nothing) = bound(true);
        let mut filling = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&says_nothing, Duration::from_millis(100)) {
            filling.push(stream);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let began = Instant::now();
        first_to_answer(vec![refuses, says_nothing, listener.local_addr().unwrap()]).unwrap();
        assert!(began.elapsed() >= HEAD_START);
        listener.accept().unwrap();
    }

    #[test]
    fn a_refusal_says_more_than_other_failures() {
        let (_refusing, refuses) = bound(false);
        // Multicast is not for TCP: no way there.
        let unreachable = (Ipv4Addr::new(224, 0, 0, 1), 1).into();
        for addresses in [vec![refuses, unreachable], vec![unreachable, refuses]] {
            assert_eq!(first_to_answer(addresses).err(), Some(DialFault::Refused));
        }
        assert_eq!(first_to_answer(vec![unreachable]).err(), Some(DialFault::Unreachable));
        assert_eq!(first_to_answer(vec![]).err(), Some(DialFault::NoSuchName));
    }
}
