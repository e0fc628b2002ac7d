//! Connections that machines ask for.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::runtime::{Options, Stopped};
use gesher_core::machine::{Cx, DialFault, End, Endpoint, Io, Lost, Want};
use gesher_core::time::Why;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

use super::toys::{PATIENCE, READ, Toys, ending, start, start_all};

/// Dials, says hello, collects what comes until the peer ends: how that ended, and what came.
fn say_hello(to: Endpoint, timeout: Duration) -> (Lost, Vec<u8>) {
    let (told, answer) = mpsc::channel();
    let mut said = false;
    let step = move |_: &mut Cx<'_>, io: &mut Io| {
        if !std::mem::replace(&mut said, true) {
            io.output.tail().extend_from_slice(b"hello");
        }
        told.send(io.input.unread().to_vec()).unwrap();
        Ok(if io.input.ended() { ending(End::Close) } else { READ })
    };
    let (toys, news) = Toys::dialling(to, timeout, step);
    let running = start(toys);
    let why = news.lost();
    // The supervisor ended, and so does the process.
    assert_eq!(running.join(), Stopped::Ended);
    (why, answer.try_iter().last().unwrap_or_default())
}

fn tcp(host: &str, port: u16) -> Endpoint {
    Endpoint::Tcp { host: host.into(), port }
}

/// Answers one hello in a thread.
fn greet<S: Read + Write>(accept: impl FnOnce() -> S + Send + 'static) {
    thread::spawn(move || {
        let mut stream = accept();
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"hello yourself").unwrap();
    });
}

/// A listener whose backlog is full, so that connecting to it goes on and on, and what fills it.
fn unresponsive() -> (Socket, SocketAddr, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut filling = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        filling.push(stream);
    }
    (socket, address, filling)
}

#[test]
fn addresses_and_localhost_are_reached_whichever_family_listens() {
    let v4 = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let v6 = || TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    for (listener, host) in [(v4(), "127.0.0.1"), (v4(), "localhost"), (v6(), "::1"), (v6(), "LocalHost")] {
        let port = listener.local_addr().unwrap().port();
        greet(move || listener.accept().unwrap().0);
        assert_eq!(say_hello(tcp(host, port), PATIENCE), (Lost::Ended, b"hello yourself".to_vec()));
    }
}

#[test]
fn unix_sockets_are_reached() {
    let path = std::env::temp_dir().join(format!("gesher-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    greet(move || listener.accept().unwrap().0);
    let to = Endpoint::Unix { path: path.to_str().unwrap().into() };
    let greeted = say_hello(to.clone(), PATIENCE);
    assert_eq!(greeted, (Lost::Ended, b"hello yourself".to_vec()));

    // The file is still there, but nothing listens; and then it is gone.
    assert_eq!(say_hello(to.clone(), PATIENCE).0, Lost::Dial(DialFault::Refused));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(say_hello(to, PATIENCE).0, Lost::Dial(DialFault::Refused));
}

#[test]
fn an_abort_ends_a_unix_socket_although_its_peer_takes_nothing() {
    let path = std::env::temp_dir().join(format!("gesher-abort-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let mut full_at = None;
    let step = move |cx: &mut Cx<'_>, io: &mut Io| {
        // Fills the socket, and then some.
        if io.output.len() < 64 * 1024 {
            io.output.tail().resize(1 << 20, 0);
            full_at = Some(cx.now.mono + Duration::from_millis(100));
        }
        let full_at = full_at.unwrap();
        let end = (full_at <= cx.now.mono).then_some(End::Abort);
        Ok(Want { wake_at: Some((full_at, Why::Send)), end, ..READ })
    };
    let endpoint = Endpoint::Unix { path: path.to_str().unwrap().into() };
    let (toys, news) = Toys::dialling(endpoint, PATIENCE, step);
    let _running = start(toys);
    let (app, _) = listener.accept().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(news.lost(), Lost::Ended);
    let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    assert_eq!(
        poll(&mut [PollFd::new(&app, PollFlags::empty())], Some(&timeout)),
        Ok(1),
        "nobody has it any more"
    );
}

#[test]
fn a_port_where_nothing_listens_refuses() {
    // Bound but not listening, so that nobody else gets it.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    for host in ["127.0.0.1", "localhost"] {
        assert_eq!(say_hello(tcp(host, port), PATIENCE).0, Lost::Dial(DialFault::Refused));
    }
}

#[test]
fn a_dial_ends_when_its_time_is_over() {
    let (_socket, address, _filling) = unresponsive();
    let (began, timeout) = (Instant::now(), Duration::from_millis(50));
    let why = say_hello(tcp("127.0.0.1", address.port()), timeout).0;
    assert_eq!(why, Lost::Dial(DialFault::TimedOut));
    assert!((timeout..PATIENCE).contains(&began.elapsed()));
}

#[test]
fn a_name_that_does_not_resolve_is_told_as_such() {
    assert_eq!(say_hello(tcp("no such name", 80), PATIENCE).0, Lost::Dial(DialFault::NoSuchName));
}

#[test]
fn stopping_gives_up_a_dial_that_nobody_could_use_any_more() {
    let (_socket, address, _filling) = unresponsive();
    let (toys, news) = Toys::dialling(tcp("127.0.0.1", address.port()), PATIENCE * 10, |_, _| Ok(READ));
    let running = start(toys);
    running.stop.stop();
    assert_eq!(news.lost(), Lost::Dropped);
    assert_eq!(running.join(), Stopped::Drained);
}

#[test]
fn an_early_answer_is_heard_although_the_peer_then_resets() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        stream.read_exact(&mut [0; 100_000]).unwrap();
        stream.write_all(b"too much").unwrap();
        // Closing with unread input resets.
    });
    let (told, answer) = mpsc::channel();
    let step = move |_: &mut Cx<'_>, io: &mut Io| {
        if io.output.len() < 1_000_000 {
            io.output.tail().extend_from_slice(&[b'x'; 1_000_000]);
        }
        told.send(io.input.unread().to_vec()).unwrap();
        Ok(READ)
    };
    let (toys, news) = Toys::dialling(tcp("127.0.0.1", port), PATIENCE, step);
    let _running = start(toys);
    assert_eq!(news.lost(), Lost::Reset);
    assert_eq!(answer.try_iter().last().unwrap(), b"too much");
}

#[test]
fn a_dial_fails_where_there_is_no_room_for_it() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = tcp("127.0.0.1", listener.local_addr().unwrap().port());
    let (toys, news) = Toys::dialling(to, PATIENCE, |_, _| Ok(READ));
    // The supervisor has the only place.
    let options = Options { connections_max: Some(1), signals: false, ..Options::default() };
    let running = start_all([toys], options);
    assert_eq!(news.lost(), Lost::Dial(DialFault::Unreachable));
    assert_eq!(running.join(), Stopped::Ended);
}
