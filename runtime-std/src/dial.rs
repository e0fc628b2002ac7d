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

use gesher_core::drive::{Answer, DialStep, Dialling, Question};
use gesher_core::machine::DialFault;
use socket2::{Domain, SockAddr, Type};

use crate::conn::Connection;
use crate::serve::serve;
use crate::system::{Clock, Socket, connected, resolve, spawn};
use crate::threads::lock;

type Answers = Arc<Mutex<Vec<Result<Answer<Socket>, DialFault>>>>;

/// Opens a connection; none if nobody wants it any more.
pub(crate) fn dial(
    connection: &Arc<Connection>,
    mut dialling: Dialling<Socket>,
    clock: Clock,
) -> Option<Result<Socket, DialFault>> {
    let answers = Answers::default();
    loop {
        mem::take(&mut *lock(&answers)).into_iter().for_each(|answer| dialling.answered(answer));
        let now = clock.now().mono;
        match dialling.next(now) {
            DialStep::Over(result) => return Some(result),
            DialStep::Ask(question, left) => ask(connection, &answers, question, left),
            DialStep::Wait(_) if !connection.wants_dial() => return None,
            DialStep::Wait(_) if serve() => {}
            DialStep::Wait(at) => thread::park_timeout(at.since(now)),
        }
    }
}

/// Lets a thread find something out, and tell.
fn ask(connection: &Arc<Connection>, answers: &Answers, question: Question, left: Duration) {
    let (asker, told) = (Arc::clone(connection), Arc::clone(answers));
    let asked = spawn("dial", move || {
        let answer = answer(question, left);
        lock(&told).push(answer);
        asker.wake_reader();
    });
    if let Err(error) = asked {
        lock(answers).push(Err(error.into()));
        connection.wake_reader();
    }
}

fn answer(question: Question, left: Duration) -> Result<Answer<Socket>, DialFault> {
    Ok(match question {
        Question::Resolve { host, port } => Answer::Addresses(resolve(&host, port)?),
        Question::Connect(address) => Answer::Socket(connect(address, left)?),
        Question::ConnectUnix(path) => Answer::Socket(connect_unix(&path, left)?),
    })
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
