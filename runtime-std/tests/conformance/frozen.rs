//! Peers that take nothing any more, with both directions full, or that are gone from one moment to the next.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use gesher_core::fault::Fault;
use gesher_core::machine::{Cx, End, Io, Lost, PortId, Want};
use gesher_core::time::Why;
use socket2::SockRef;

use super::toys::{News, PATIENCE, READ, Running, Toys, ending, script, start};

/// When nothing moves for this long, nothing will.
const STILL: Duration = Duration::from_millis(200);

/// Keeps the output full.
fn flood(io: &mut Io) {
    if io.output.len() < 64 * 1024 {
        io.output.tail().extend_from_slice(&[b'~'; 64 * 1024]);
    }
}

/// A run whose first connection floods its peer, who takes nothing; any further one wakes it. When this returns, all
/// that fits is on its way to the peer, and if the machine takes no `input` also what fits on its way from there.
fn frozen(
    input: bool,
    mut step: impl FnMut(&mut Cx<'_>, &mut Io) -> Result<Want, Fault> + Send + 'static,
) -> (Running, News, TcpStream) {
    let (moved, moves) = mpsc::channel();
    let frozen = Mutex::new(None);
    let first = Mutex::new(Some(move |cx: &mut Cx<'_>, io: &mut Io| {
        let _ = moved.send(io.output.taken());
        step(cx, io)
    }));
    let (toys, news) = Toys::new(move |port, lost| match first.lock().unwrap().take() {
        Some(step) => {
            *frozen.lock().unwrap() = Some(port);
            script(port, lost, step)
        }
        None => {
            let frozen = *frozen.lock().unwrap();
            script(port, lost, move |cx, _| {
                cx.fx.wakes.extend(frozen);
                Ok(ending(End::Close))
            })
        }
    });
    let running = start(toys);
    let mut stream = running.connect();
    stream.set_write_timeout(Some(STILL)).unwrap();
    while !input && stream.write(&[b'~'; 64 * 1024]).is_ok() {}
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    comes_to_rest(&moves);
    (running, news, stream)
}

/// Waits until no more bytes are taken.
fn comes_to_rest(moves: &Receiver<u64>) {
    let (mut taken, mut since) = (0, Instant::now());
    while since.elapsed() < STILL {
        if let Ok(now) = moves.recv_timeout(STILL)
            && now != taken
        {
            (taken, since) = (now, Instant::now());
        }
    }
}

/// How what comes ends.
fn end_of(mut stream: TcpStream) -> Option<ErrorKind> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(error.kind()),
        }
    }
}

#[test]
fn a_peer_that_froze_is_let_go_of_when_its_time_is_over() {
    // Enough to freeze in, also on a busy machine.
    const TIME: Duration = Duration::from_secs(2);
    let peers = [true, false].map(|read| {
        let (mut taken, mut until) = (0, None);
        frozen(read, move |cx, io| {
            flood(io);
            if io.output.taken() != taken || until.is_none() {
                (taken, until) = (io.output.taken(), Some(cx.now.mono + TIME));
            }
            match until {
                Some(until) if until <= cx.now.mono => Err(Fault::TimedOut),
                _ => Ok(Want { read, wake_at: until.map(|until| (until, Why::Send)), ..READ }),
            }
        })
    });
    for (_running, news, stream) in peers {
        assert_eq!(news.lost(), Lost::Ended);
        assert_eq!(end_of(stream), Some(ErrorKind::ConnectionReset));
    }
}

#[test]
fn mail_reaches_a_connection_whose_peer_froze() {
    let woken = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&woken);
    let (running, news, stream) = frozen(true, move |_, io| {
        flood(io);
        Ok(if ends.load(Ordering::Acquire) { ending(End::Abort) } else { READ })
    });
    woken.store(true, Ordering::Release);
    running.connect();
    assert_eq!((news.lost(), news.lost()), (Lost::Ended, Lost::Ended));
    assert_eq!(end_of(stream), Some(ErrorKind::ConnectionReset));
}

#[test]
fn a_peer_that_froze_holds_up_nobody_who_stops() {
    let (running, news, stream) = frozen(false, |_, io| {
        flood(io);
        Ok(Want { read: io.input.is_empty(), ..READ })
    });
    running.stop.stop();
    news.drained();
    running.stop.stop();
    assert_eq!(running.join(), crate::runtime::Stopped::Cut);
    assert_eq!(news.lost(), Lost::Dropped);
    assert_eq!(end_of(stream), Some(ErrorKind::ConnectionReset));
}

#[test]
fn a_peer_that_thaws_gets_all_of_it() {
    const BYTES: u64 = 64 << 20;
    let (_running, news, mut stream) = frozen(true, |_, io| {
        io.input.consume(io.input.len());
        if io.output.taken() + (io.output.len() as u64) < BYTES {
            flood(io);
            return Ok(READ);
        }
        Ok(if io.input.ended() { ending(End::Close) } else { ending(End::HalfClose) })
    });
    stream.shutdown(Shutdown::Write).unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let (mut count, mut all) = (1, 0);
    while count > 0 {
        count = stream.read(&mut buffer).unwrap();
        all += count as u64;
    }
    assert_eq!(all, BYTES);
    assert_eq!(news.lost(), Lost::Ended);
}

#[test]
fn a_reset_is_noticed_whatever_goes_on() {
    fn reset(stream: TcpStream) {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    // With both directions full, whether input is wanted or not.
    for read in [true, false] {
        let (_running, news, stream) = frozen(read, move |_, io| {
            flood(io);
            Ok(Want { read, ..READ })
        });
        reset(stream);
        assert_eq!(news.lost(), Lost::Reset);
    }
    // After a half-close, and while it lingers.
    for end in [End::HalfClose, End::Linger] {
        let (toys, news) = Toys::new(move |port, lost| script(port, lost, move |_, _| Ok(ending(end))));
        let running = start(toys);
        let mut stream = running.connect();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        reset(stream);
        assert_eq!(news.lost(), Lost::Reset);
    }
    // After the peer's half-close, while there is nothing to tell it.
    let (toys, news) = Toys::new(|port, lost| {
        let mut said = false;
        script(port, lost, move |_, io| {
            if io.input.ended() && !std::mem::replace(&mut said, true) {
                io.output.tail().push(b'!');
            }
            Ok(READ)
        })
    });
    let running = start(toys);
    let mut stream = running.connect();
    stream.shutdown(Shutdown::Write).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    reset(stream);
    assert_eq!(news.lost(), Lost::Reset);
}

/// What one of two connections has for the other.
#[derive(Default)]
struct Mail {
    bytes: Vec<u8>,
    ended: bool,
}

/// Two connections that pass on to each other what they get, with room for 64 KiB each way.
fn relay() -> (Toys, News) {
    const ROOM: usize = 64 * 1024;
    #[derive(Default)]
    struct Pair {
        ports: Vec<PortId>,
        to: [Mail; 2],
    }
    let pair = Arc::new(Mutex::new(Pair::default()));
    Toys::new(move |port, lost| {
        let pair = Arc::clone(&pair);
        let me = pair.lock().unwrap().ports.len();
        pair.lock().unwrap().ports.push(port);
        script(port, lost, move |cx, io| {
            let mut pair = pair.lock().unwrap();
            let there = &mut pair.to[1 - me];
            let count = io.input.len().min(ROOM - there.bytes.len());
            there.bytes.extend_from_slice(&io.input.unread()[..count]);
            io.input.consume(count);
            let heard_all = io.input.ended() && io.input.is_empty();
            let news = count > 0 || heard_all && !std::mem::replace(&mut there.ended, heard_all);

            let here = &mut pair.to[me];
            let count = here.bytes.len().min(ROOM.saturating_sub(io.output.len()));
            io.output.tail().extend(here.bytes.drain(..count));
            let sent_all = here.ended && here.bytes.is_empty();
            if (news || count > 0) && pair.ports.len() == 2 {
                cx.fx.wake(pair.ports[1 - me]);
            }
            let end = match (sent_all, heard_all) {
                (true, true) => Some(End::Close),
                (true, false) => Some(End::HalfClose),
                (false, _) => None,
            };
            Ok(Want { read: io.input.is_empty(), end, ..READ })
        })
    })
}

#[test]
fn what_two_connections_pass_on_to_each_other_gets_going_again_after_all_of_it_was_stuck() {
    const BYTES: usize = 32 << 20;
    let (toys, news) = relay();
    let running = start(toys);
    let mut stream = running.connect();
    let mut other = running.connect();
    // Sends back what it gets, and takes nothing more before that is out.
    let echo = thread::spawn(move || {
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match other.read(&mut buffer).unwrap() {
                0 => return other.shutdown(Shutdown::Write).unwrap(),
                count => other.write_all(&buffer[..count]).unwrap(),
            }
        }
    });
    let bytes: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
    stream.set_write_timeout(Some(STILL)).unwrap();
    let mut sent = 0;
    while let Ok(count) = stream.write(&bytes[sent..]) {
        sent += count;
    }
    assert!(sent < BYTES, "nothing got stuck");
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut back = stream.try_clone().unwrap();
    let reading = thread::spawn(move || {
        let mut all = Vec::new();
        back.read_to_end(&mut all).unwrap();
        all
    });
    stream.write_all(&bytes[sent..]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(reading.join().unwrap() == bytes);
    echo.join().unwrap();
    assert_eq!((news.lost(), news.lost()), (Lost::Ended, Lost::Ended));
}
