//! Opening connections: names, several addresses, one time for all of it.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use async_io::{Async, Timer};
use gesher_core::drive::{Attempt, Attempts};
use gesher_core::machine::{DialFault, Endpoint};
use gesher_runtime_std::system::{Clock, Socket, connected, fault_of, resolve, without_resolver};
use smol::future;

/// A unix socket whose backlog is full says so at once instead of letting us wait; so we ask again after this.
const UNIX_BACKLOG_WAIT: Duration = Duration::from_millis(10);

/// A connection on its way.
pub(crate) type Dialling = Pin<Box<dyn Future<Output = Result<Socket, DialFault>> + Send>>;

type Connecting = Pin<Box<dyn Future<Output = io::Result<Async<TcpStream>>> + Send>>;

/// Opens a connection to `to` within `timeout`, resolving included.
pub(crate) fn dial(to: Endpoint, timeout: Duration, clock: Clock) -> Dialling {
    Box::pin(future::or(open(to, clock), async move {
        Timer::after(timeout).await;
        Err(DialFault::TimedOut)
    }))
}

async fn open(to: Endpoint, clock: Clock) -> Result<Socket, DialFault> {
    match to {
        Endpoint::Tcp { host, port } => {
            first_to_answer(addresses(host, port).await?, clock).await.and_then(released)
        }
        Endpoint::Unix { path } => open_unix(&path).await.and_then(released),
    }
}

/// Takes a socket out of the reactor that waited for it to be connected.
fn released<S: Into<Socket>>(socket: Async<S>) -> Result<Socket, DialFault> {
    socket.into_inner().map(Into::into).map_err(|error| fault_of(&error))
}

async fn addresses(host: String, port: u16) -> Result<Vec<SocketAddr>, DialFault> {
    match without_resolver(&host, port) {
        Some(addresses) => Ok(addresses),
        None => smol::unblock(move || resolve(&host, port)).await,
    }
}

async fn first_to_answer(addresses: Vec<SocketAddr>, clock: Clock) -> Result<Async<TcpStream>, DialFault> {
    let mut attempts = Attempts::new(addresses);
    let mut under_way = Vec::<Connecting>::new();
    let mut head_start = Timer::never();
    poll_fn(|cx| {
        let mut answer = None;
        under_way.retain_mut(|connecting| match connecting.as_mut().poll(cx) {
            Poll::Ready(Ok(socket)) => {
                answer = Some(socket);
                false
            }
            Poll::Ready(Err(error)) => {
                attempts.failed(fault_of(&error));
                false
            }
            Poll::Pending => true,
        });
        if let Some(socket) = answer {
            return Poll::Ready(Ok(socket));
        }
        match attempts.next(clock.now().mono) {
            Attempt::Failed(why) => return Poll::Ready(Err(why)),
            Attempt::Connect(address) => {
                under_way.push(Box::pin(connect(address)));
                cx.waker().wake_by_ref();
            }
            Attempt::Wait(until) => {
                head_start =
                    until.and_then(|until| clock.instant(until)).map_or_else(Timer::never, Timer::at);
                if Pin::new(&mut head_start).poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
        }
        Poll::Pending
    })
    .await
}

async fn connect(address: SocketAddr) -> io::Result<Async<TcpStream>> {
    let socket = Async::<TcpStream>::connect(address).await?;
    connected(socket.get_ref())?;
    Ok(socket)
}

async fn open_unix(path: &str) -> Result<Async<UnixStream>, DialFault> {
    loop {
        match Async::<UnixStream>::connect(path).await {
            Ok(socket) => return Ok(socket),
            // async-io takes "try again" for "under way" and then finds no peer.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                Timer::after(UNIX_BACKLOG_WAIT).await;
            }
            Err(error) => return Err(fault_of(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

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
        let socket =
            smol::block_on(first_to_answer(vec![refuses, says_nothing, answers], Clock::start())).unwrap();
        assert_eq!(socket.get_ref().peer_addr().unwrap(), answers);
    }
}
