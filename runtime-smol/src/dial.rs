//! Opening connections: names, several addresses, one time for all of it.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use async_io::{Async, Timer};
use gesher_core::drive::{self, Answer, DialStep, Question};
use gesher_core::machine::DialFault;
use gesher_runtime_std::system::{Clock, Socket, connected, resolve};

/// A unix socket whose backlog is full says so at once instead of letting us wait; so we ask again after this.
const UNIX_BACKLOG_WAIT: Duration = Duration::from_millis(10);

/// A connection on its way.
pub(crate) type Dialling = Pending<Result<Socket, DialFault>>;

type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Asks what `dialling` wants to know, all at once, until that is over.
pub(crate) fn dial(mut dialling: drive::Dialling<Socket>, clock: Clock) -> Dialling {
    let mut under_way = Vec::<Pending<Result<Answer<Socket>, DialFault>>>::new();
    let mut timer = None;
    Box::pin(poll_fn(move |cx| {
        loop {
            under_way.retain_mut(|asked| match asked.as_mut().poll(cx) {
                Poll::Ready(answer) => {
                    dialling.answered(answer);
                    false
                }
                Poll::Pending => true,
            });
            match dialling.next(clock.now().mono) {
                DialStep::Over(result) => return Poll::Ready(result),
                DialStep::Ask(question, _) => under_way.push(Box::pin(answer(question))),
                DialStep::Wait(until) => {
                    let timer = timer.insert(clock.instant(until).map_or_else(Timer::never, Timer::at));
                    ready!(Pin::new(timer).poll(cx));
                }
            }
        }
    }))
}

async fn answer(question: Question) -> Result<Answer<Socket>, DialFault> {
    Ok(match question {
        Question::Resolve { host, port } => {
            Answer::Addresses(smol::unblock(move || resolve(&host, port)).await?)
        }
        Question::Connect(address) => Answer::Socket(connect(address).await?),
        Question::ConnectUnix(path) => Answer::Socket(connect_unix(&path).await?),
    })
}

/// Takes the socket out of the reactor that waited for it to be connected.
async fn connect(address: SocketAddr) -> io::Result<Socket> {
    let socket = Async::<TcpStream>::connect(address).await?.into_inner()?;
    connected(&socket)?;
    Ok(socket.into())
}

/// The same of a unix socket.
async fn connect_unix(path: &str) -> io::Result<Socket> {
    loop {
        match Async::<UnixStream>::connect(path).await {
            // async-io takes "try again" for "under way" and then finds no peer.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                Timer::after(UNIX_BACKLOG_WAIT).await;
            }
            socket => return Ok(socket?.into_inner()?.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use gesher_core::machine::Endpoint;
    use socket2::{Domain, Type};

    use super::*;

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
        let answers = listener.local_addr().unwrap();
        let clock = Clock::start();
        let to = Endpoint::Tcp { host: "app.example".into(), port: 80 };
        let mut dialling = drive::Dialling::new(to, clock.now().mono + Duration::from_secs(60));
        assert!(matches!(dialling.next(clock.now().mono), DialStep::Ask(Question::Resolve { .. }, _)));
        dialling.answered(Ok(Answer::Addresses(vec![refuses, says_nothing, answers])));
        smol::block_on(dial(dialling, clock)).unwrap();
        assert!(listener.accept().is_ok());
    }
}
