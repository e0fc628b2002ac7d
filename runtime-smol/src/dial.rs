//! Opening connections: names, several addresses, one time for all of it.
//!
//! Addresses are tried in the order the resolver gave them. Each has a head start before the next, unless it fails;
//! the first that answers is taken (RFC 8305, 5):
//! ```text
//!   0 ms  [::1]:8080      refused
//!   0 ms  127.0.0.1:8080  connected
//! ```

use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use async_io::{Async, Timer};
use gesher_core::machine::{DialFault, Endpoint};
use gesher_runtime_std::system::{connected, fault_of, more_telling, resolve, without_resolver};
use smol::future;

use crate::socket::Socket;

/// The head start of an address before the next (RFC 8305, 8).
const HEAD_START: Duration = Duration::from_millis(250);
/// A unix socket whose backlog is full says so at once instead of letting us wait; so we ask again after this.
const UNIX_BACKLOG_WAIT: Duration = Duration::from_millis(10);

/// A connection on its way.
pub(crate) type Dialling = Pin<Box<dyn Future<Output = Result<Socket, DialFault>> + Send>>;

type Attempt = Pin<Box<dyn Future<Output = io::Result<Async<TcpStream>>> + Send>>;

/// Opens a connection to `to` within `timeout`, resolving included.
pub(crate) fn dial(to: Endpoint, timeout: Duration) -> Dialling {
    Box::pin(future::or(open(to), async move {
        Timer::after(timeout).await;
        Err(DialFault::TimedOut)
    }))
}

async fn open(to: Endpoint) -> Result<Socket, DialFault> {
    match to {
        Endpoint::Tcp { host, port } => {
            first_to_answer(addresses(host, port).await?).await.and_then(released).map(Socket::Tcp)
        }
        Endpoint::Unix { path } => open_unix(&path).await.and_then(released).map(Socket::Unix),
    }
}

/// Takes a socket out of the reactor that waited for it to be connected.
fn released<S>(socket: Async<S>) -> Result<S, DialFault> {
    socket.into_inner().map_err(|error| fault_of(&error))
}

async fn addresses(host: String, port: u16) -> Result<Vec<SocketAddr>, DialFault> {
    match without_resolver(&host, port) {
        Some(addresses) => Ok(addresses),
        None => smol::unblock(move || resolve(&host, port)).await,
    }
}

async fn first_to_answer(addresses: Vec<SocketAddr>) -> Result<Async<TcpStream>, DialFault> {
    let mut addresses = addresses.into_iter();
    let mut attempts = Vec::<Attempt>::new();
    let mut head_start = Timer::never();
    let mut fault = None;
    poll_fn(|cx| {
        loop {
            let before = attempts.len();
            let mut answer = None;
            attempts.retain_mut(|attempt| match attempt.as_mut().poll(cx) {
                Poll::Ready(Ok(socket)) => {
                    answer = Some(socket);
                    false
                }
                Poll::Ready(Err(error)) => {
                    fault = Some(more_telling(fault, &error));
                    false
                }
                Poll::Pending => true,
            });
            if let Some(socket) = answer {
                return Poll::Ready(Ok(socket));
            }
            let others = attempts.len();
            if others == before
                && others > 0
                && (addresses.len() == 0 || Pin::new(&mut head_start).poll(cx).is_pending())
            {
                return Poll::Pending;
            }
            match addresses.next() {
                Some(address) => {
                    attempts.push(Box::pin(connect(address)));
                    head_start = Timer::after(HEAD_START);
                }
                None if others == 0 => return Poll::Ready(Err(fault.unwrap_or(DialFault::NoSuchName))),
                None => return Poll::Pending,
            }
        }
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
        let socket = smol::block_on(first_to_answer(vec![refuses, says_nothing, answers])).unwrap();
        assert_eq!(socket.get_ref().peer_addr().unwrap(), answers);
    }

    #[test]
    fn a_refusal_says_more_than_other_failures() {
        let (_refusing, refuses) = bound(false);
        // Multicast is not for TCP: no way there.
        let unreachable = (Ipv4Addr::new(224, 0, 0, 1), 1).into();
        for addresses in [vec![refuses, unreachable], vec![unreachable, refuses]] {
            assert_eq!(smol::block_on(first_to_answer(addresses)).err(), Some(DialFault::Refused));
        }
        assert_eq!(smol::block_on(first_to_answer(vec![unreachable])).err(), Some(DialFault::Unreachable));
    }
}
