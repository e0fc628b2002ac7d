//! Opening connections: names, several addresses, one time for all of it.
//!
//! Resolving and connecting block, and nothing ends them early; so each has a thread of its own, which nobody waits for
//! once its answer is not wanted.

use std::io;
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use gesher_core::drive::{Attempt, Attempts};
use gesher_core::machine::{DialFault, Endpoint};
use socket2::{Domain, SockAddr, Type};

use crate::conn::Connection;
use crate::system::{Clock, Socket, connected, fault_of, resolve, without_resolver};
use crate::threads::spawn;
use crate::wait::lock;

/// What a thread found out.
enum Answer {
    Addresses(Result<Vec<SocketAddr>, DialFault>),
    Connected(io::Result<Socket>),
}

type Answers = Arc<Mutex<Vec<Answer>>>;

/// Opens a connection to `to` within `timeout`, resolving included; none if nobody wants it any more.
pub(crate) fn dial(
    connection: &Arc<Connection>,
    to: Endpoint,
    timeout: Duration,
    clock: Clock,
) -> Option<Result<Socket, DialFault>> {
    let until = clock.now().mono + timeout;
    let answers = Answers::default();
    let ask = |question: Box<dyn FnOnce() -> Answer + Send>| ask(connection, &answers, question);
    // None as long as there are no addresses to choose from.
    let mut attempts = None;
    match to {
        Endpoint::Unix { path } => ask(Box::new(move || Answer::Connected(connect_unix(&path, timeout)))),
        Endpoint::Tcp { host, port } => match without_resolver(&host, port) {
            Some(addresses) => attempts = Some(Attempts::new(addresses)),
            None => ask(Box::new(move || Answer::Addresses(resolve(&host, port)))),
        },
    }
    loop {
        for answer in mem::take(&mut *lock(&answers)) {
            match (answer, &mut attempts) {
                (Answer::Connected(Ok(socket)), _) => return Some(Ok(socket)),
                (Answer::Connected(Err(error)), Some(attempts)) => attempts.failed(fault_of(&error)),
                (Answer::Connected(Err(error)), None) => return Some(Err(fault_of(&error))),
                (Answer::Addresses(Ok(addresses)), _) => attempts = Some(Attempts::new(addresses)),
                (Answer::Addresses(Err(why)), _) => return Some(Err(why)),
            }
        }
        let now = clock.now().mono;
        if until <= now {
            return Some(Err(DialFault::TimedOut));
        }
        match attempts.as_mut().map_or(Attempt::Wait(None), |attempts| attempts.next(now)) {
            Attempt::Failed(why) => return Some(Err(why)),
            Attempt::Connect(address) => {
                ask(Box::new(move || Answer::Connected(connect(address, until.since(now)))));
            }
            Attempt::Wait(at) => {
                if !connection.wants_dial() {
                    return None;
                }
                thread::park_timeout(at.map_or(until, |at| at.min(until)).since(now));
            }
        }
    }
}

/// Lets a thread find something out, and tell.
fn ask(connection: &Arc<Connection>, answers: &Answers, question: Box<dyn FnOnce() -> Answer + Send>) {
    let (asker, told) = (Arc::clone(connection), Arc::clone(answers));
    let asked = spawn("dial", move || {
        let answer = question();
        lock(&told).push(answer);
        asker.wake_reader();
    });
    if let Err(error) = asked {
        lock(answers).push(Answer::Connected(Err(error)));
        connection.wake_reader();
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
