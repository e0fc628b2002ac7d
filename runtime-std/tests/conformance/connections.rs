//! What a connection does between its first byte and its last.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use gesher_core::fault::Fault;
use gesher_core::machine::{End, Lost, PortId, Want};
use gesher_core::time::Why;
use socket2::SockRef;

use super::toys::{PATIENCE, READ, Toys, echo, ending, script, start, start_all};
use crate::runtime::Options;

/// Bytes that show where they belong.
fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 251) as u8).collect()
}

#[test]
fn everything_sent_comes_back() {
    let (toys, news) = Toys::new(echo);
    let running = start(toys);
    let mut stream = running.connect();
    let sent = pattern(8 << 20);
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    writing.join().unwrap();
    assert!(back == sent);
    assert_eq!(news.lost(), Lost::Ended);
}

#[test]
fn many_connections_are_served_at_once() {
    let (toys, _news) = Toys::new(echo);
    let running = start(toys);
    let mut streams: Vec<_> = (0..200).map(|_| running.connect()).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        write!(stream, "{number:04}").unwrap();
    }
    for (number, stream) in streams.iter_mut().enumerate().rev() {
        let mut back = [0; 4];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, *format!("{number:04}").as_bytes());
    }
}

#[test]
fn thousands_of_short_connections_are_served_and_end() {
    const EACH: usize = 250;
    const AT_ONCE: usize = 8;
    let (toys, news) = Toys::new(echo);
    let running = start(toys);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                for _ in 0..EACH {
                    let mut stream = running.connect();
                    stream.write_all(b"short").unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                    let mut back = String::new();
                    stream.read_to_string(&mut back).unwrap();
                    assert_eq!(back, "short");
                }
            });
        }
    });
    assert!((0..AT_ONCE * EACH).all(|_| news.lost() == Lost::Ended));
}

#[test]
fn more_connections_than_there_may_be_are_closed_at_once() {
    let (toys, news) = Toys::new(echo);
    let options = Options { connections_max: Some(2), signals: false, ..Options::default() };
    let running = start_all([toys], options);
    let mut streams = [running.connect(), running.connect()];
    for stream in &mut streams {
        stream.write_all(b"ping").unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
    }
    assert_eq!(running.connect().read(&mut [0]).unwrap(), 0);
    let [first, mut second] = streams;
    drop(first);
    assert_eq!(news.lost(), Lost::Ended);
    // The machine heard of its end; its place may be free a moment later.
    let mut third = running.connect();
    while third.write_all(b"ping").and_then(|()| third.read_exact(&mut [0; 4])).is_err() {
        third = running.connect();
    }
    second.write_all(b"ping").unwrap();
    second.read_exact(&mut [0; 4]).unwrap();
}

#[test]
fn a_half_closed_peer_still_gets_its_answer() {
    let (toys, news) = Toys::new(|port, lost| {
        script(port, lost, |_, io| {
            if !io.input.ended() {
                return Ok(READ);
            }
            let answer = format!("{} bytes", io.input.len());
            io.output.tail().extend_from_slice(answer.as_bytes());
            Ok(ending(End::Close))
        })
    });
    let running = start(toys);
    let mut stream = running.connect();
    stream.write_all(b"question").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "8 bytes");
    assert_eq!(news.lost(), Lost::Ended);
}

#[test]
fn a_machine_that_half_closed_still_hears_its_peer() {
    let (told, heard) = mpsc::channel();
    let (toys, _news) = Toys::new(move |port, lost| {
        let told = told.clone();
        let mut said = false;
        script(port, lost, move |_, io| {
            if !said {
                io.output.tail().extend_from_slice(b"all I say");
                said = true;
            }
            if io.input.ended() {
                told.send(io.input.unread().to_vec()).unwrap();
                return Ok(ending(End::Close));
            }
            Ok(ending(End::HalfClose))
        })
    });
    let running = start(toys);
    let mut stream = running.connect();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "all I say");
    stream.write_all(b"and yet").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), b"and yet");
}

#[test]
fn a_big_download_arrives_whole_and_waits_in_the_kernel_and_not_with_us() {
    const BYTES: usize = 64 << 20;
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let (toys, _news) = Toys::new(move |port, lost| {
        let (mut at, most) = (0, Arc::clone(&most));
        script(port, lost, move |_, io| {
            while at < BYTES && io.output.len() < 64 * 1024 {
                let chunk: Vec<u8> = (at..at + 16 * 1024).map(|at| (at % 251) as u8).collect();
                io.output.tail().extend_from_slice(&chunk);
                at += chunk.len();
            }
            most.fetch_max(io.output.len(), Ordering::Relaxed);
            Ok(Want { end: (at == BYTES).then_some(End::Close), ..READ })
        })
    });
    let running = start(toys);
    let mut stream = running.connect();
    let (mut at, mut buffer) = (0, vec![0; 10_007]);
    loop {
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        assert!(
            buffer[..count].iter().enumerate().all(|(offset, byte)| *byte == ((at + offset) % 251) as u8)
        );
        at += count;
    }
    assert_eq!(at, BYTES);
    assert!(seen.load(Ordering::Relaxed) <= 80 * 1024);
}

#[test]
fn what_a_machine_does_not_want_stays_in_the_kernel_until_it_is_woken() {
    let open = Arc::new(AtomicBool::new(false));
    let sleeper = Arc::new(Mutex::new(None));
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let (toys, _news) = Toys::new(move |port, lost| {
        let (open, sleeper, most) = (Arc::clone(&open), Arc::clone(&sleeper), Arc::clone(&most));
        if sleeper.lock().unwrap().is_some() {
            // The second connection opens the gate of the first.
            return script(port, lost, move |cx, _| {
                open.store(true, Ordering::Release);
                cx.fx.wakes.extend(*sleeper.lock().unwrap());
                Ok(READ)
            });
        }
        *sleeper.lock().unwrap() = Some(port);
        let mut total = 0;
        script(port, lost, move |_, io| {
            if !open.load(Ordering::Acquire) {
                most.fetch_max(io.input.len(), Ordering::Relaxed);
                return Ok(Want { read: io.input.is_empty(), ..READ });
            }
            total += io.input.len();
            io.input.consume(io.input.len());
            if io.input.ended() {
                io.output.tail().extend_from_slice(&total.to_be_bytes());
                return Ok(ending(End::Close));
            }
            Ok(READ)
        })
    });
    let running = start(toys);
    let mut stream = running.connect();
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let (mut sent, chunk) = (0, vec![0; 64 * 1024]);
    while let Ok(count) = stream.write(&chunk) {
        sent += count;
        assert!(sent < 1 << 30, "the kernel took everything");
    }
    assert!(seen.load(Ordering::Relaxed) <= 64 * 1024);
    let _opener = running.connect();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut total = [0; size_of::<usize>()];
    stream.read_exact(&mut total).unwrap();
    assert_eq!(usize::from_be_bytes(total), sent);
}

#[test]
fn a_machine_that_always_asks_again_is_called_again_and_starves_nobody() {
    let enough = Arc::new(AtomicBool::new(false));
    let (first, ends) = (AtomicBool::new(true), Arc::clone(&enough));
    let (toys, news) = Toys::new(move |port, lost| {
        if !first.swap(false, Ordering::Relaxed) {
            return echo(port, lost);
        }
        let ends = Arc::clone(&ends);
        script(port, lost, move |_, _| {
            let end = ends.load(Ordering::Relaxed).then_some(End::Close);
            Ok(Want { again: end.is_none(), end, ..READ })
        })
    });
    let running = start(toys);
    let _busy = running.connect();
    let mut stream = running.connect();
    for _ in 0..100 {
        stream.write_all(b"ping").unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
    }
    enough.store(true, Ordering::Relaxed);
    assert_eq!(news.lost(), Lost::Ended);
}

#[test]
fn a_panic_costs_its_connection_and_no_other() {
    struct Double;
    impl Drop for Double {
        fn drop(&mut self) {
            panic!("while the machine goes");
        }
    }
    let (toys, news) = Toys::new(|port, lost| {
        let mut double = Some(Double);
        script(port, lost, move |_, io| {
            match io.input.unread() {
                b"panic" => panic!("as asked"),
                b"safe" => std::mem::forget(double.take()),
                _ => {}
            }
            io.output.tail().extend_from_slice(io.input.unread());
            io.input.consume(io.input.len());
            Ok(READ)
        })
    });
    let running = start(toys);
    let mut other = running.connect();
    let mut stream = running.connect();
    stream.write_all(b"panic").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(news.lost(), Lost::Dropped);
    other.write_all(b"safe").unwrap();
    other.read_exact(&mut [0; 4]).unwrap();
    running.connect();
}

#[test]
fn mail_from_other_connections_always_wakes() {
    const LETTERS: usize = 20_000;
    #[derive(Default)]
    struct Pair {
        ports: Vec<PortId>,
        mail: [usize; 2],
    }
    let hub = Arc::new(Mutex::new(Pair::default()));
    let (toys, news) = Toys::new(move |port, lost| {
        let hub = Arc::clone(&hub);
        let me = hub.lock().unwrap().ports.len();
        hub.lock().unwrap().ports.push(port);
        script(port, lost, move |cx, io| {
            let mut pair = hub.lock().unwrap();
            // The second connection starts when its client says so; then each letter is answered by the next.
            if me == 1 && !io.input.is_empty() {
                io.input.consume(io.input.len());
                pair.mail[1] = 1;
            }
            let letter = std::mem::take(&mut pair.mail[me]);
            if letter > 0 && letter <= LETTERS {
                pair.mail[1 - me] = letter + 1;
                cx.fx.wake(pair.ports[1 - me]);
            }
            Ok(Want { end: (letter >= LETTERS).then_some(End::Close), ..READ })
        })
    });
    let running = start(toys);
    let _first = running.connect();
    let mut second = running.connect();
    second.write_all(b"x").unwrap();
    assert_eq!((news.lost(), news.lost()), (Lost::Ended, Lost::Ended));
}

#[test]
fn mail_always_wakes_also_while_what_was_read_is_not_wanted() {
    const LETTERS: usize = 20_000;
    #[derive(Default)]
    struct Gate {
        guest: Option<PortId>,
        granted: usize,
        taken: usize,
    }
    let gate = Arc::new(Mutex::new(Gate::default()));
    let (toys, news) = Toys::new(move |port, lost| {
        let gate = Arc::clone(&gate);
        if gate.lock().unwrap().guest.is_some() {
            // The second connection lets the first one read once more whenever it did; it says so once each time.
            return script(port, lost, move |cx, io| {
                io.input.consume(io.input.len());
                let mut gate = gate.lock().unwrap();
                if gate.granted == gate.taken {
                    gate.granted += 1;
                    cx.fx.wakes.extend(gate.guest);
                }
                Ok(READ)
            });
        }
        gate.lock().unwrap().guest = Some(port);
        script(port, lost, move |_, io| {
            let mut gate = gate.lock().unwrap();
            if !io.input.is_empty() && gate.taken < gate.granted {
                io.input.consume(io.input.len());
                gate.taken += 1;
            }
            let end = (gate.taken == LETTERS).then_some(End::Abort);
            Ok(Want { read: io.input.is_empty() && gate.taken < gate.granted, end, ..READ })
        })
    });
    let running = start(toys);
    for mut stream in [running.connect(), running.connect()] {
        thread::spawn(move || while stream.write_all(&[b'x'; 16 * 1024]).is_ok() {});
    }
    assert_eq!(news.lost(), Lost::Ended);
}

#[test]
fn a_deadline_wakes_in_time_also_if_it_moved_nearer() {
    const SOON: Duration = Duration::from_millis(30);
    let (toys, _news) = Toys::new(|port, lost| {
        let mut at = None;
        script(port, lost, move |cx, io| {
            if io.input.unread() == b"far" {
                io.input.consume(3);
                io.output.tail().extend_from_slice(b"set");
            }
            if io.input.is_empty() {
                return Ok(Want { wake_at: Some((cx.now.mono + PATIENCE * 10, Why::Idle)), ..READ });
            }
            let at = *at.get_or_insert(cx.now.mono + SOON);
            if at <= cx.now.mono {
                io.output.tail().extend_from_slice(b"now");
                return Ok(ending(End::Linger));
            }
            Ok(Want { wake_at: Some((at, Why::Ping)), ..READ })
        })
    });
    let running = start(toys);
    let mut stream = running.connect();
    stream.write_all(b"far").unwrap();
    stream.read_exact(&mut [0; 3]).unwrap();
    let began = Instant::now();
    stream.write_all(b"near").unwrap();
    stream.read_exact(&mut [0; 3]).unwrap();
    assert!((SOON..PATIENCE).contains(&began.elapsed()));
}

#[test]
fn a_deadline_that_moved_away_wakes_in_the_end() {
    const STEP: Duration = Duration::from_millis(20);
    let (toys, _news) = Toys::new(|port, lost| {
        let mut at = None;
        script(port, lost, move |cx, io| {
            let moved = io.input.len() as u32;
            let at = *at.get_or_insert(cx.now.mono) + STEP * (1 + moved);
            if at <= cx.now.mono && moved > 0 {
                io.output.tail().extend_from_slice(b"now");
                return Ok(ending(End::Linger));
            }
            Ok(Want { wake_at: Some((at, Why::Idle)), again: at <= cx.now.mono, ..READ })
        })
    });
    let running = start(toys);
    let mut stream = running.connect();
    stream.write_all(b"xx").unwrap();
    stream.read_exact(&mut [0; 3]).unwrap();
}

#[test]
fn a_lingering_close_delivers_the_answer_although_input_is_unread() {
    let (toys, news) = Toys::new(|port, lost| {
        script(port, lost, |_, io| {
            io.output.tail().extend_from_slice(&[b'.'; 100_000]);
            Ok(Want { read: false, ..ending(End::Linger) })
        })
    });
    let running = start(toys);
    let mut stream = running.connect();
    stream.write_all(&[b'x'; 200_000]).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.len(), 100_000);
    drop(stream);
    assert_eq!(news.lost(), Lost::Ended);
}

#[test]
fn an_abort_and_a_fault_are_seen_as_resets() {
    for fault in [false, true] {
        let (toys, news) = Toys::new(move |port, lost| {
            script(port, lost, move |_, io| match (io.input.is_empty(), fault) {
                (true, _) => Ok(READ),
                (false, true) => Err(Fault::Cut),
                (false, false) => Ok(ending(End::Abort)),
            })
        });
        let running = start(toys);
        let mut stream = running.connect();
        stream.write_all(b"x").unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(news.lost(), Lost::Ended);
    }
}

#[test]
fn a_reset_is_noticed_also_while_no_input_is_wanted() {
    for read in [true, false] {
        let (seen, accepted) = mpsc::channel();
        let (toys, news) = Toys::new(move |port, lost| {
            let seen = seen.clone();
            script(port, lost, move |_, _| {
                seen.send(()).unwrap();
                Ok(Want { read, ..READ })
            })
        });
        let running = start(toys);
        let stream = running.connect();
        accepted.recv_timeout(PATIENCE).unwrap();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        assert_eq!(news.lost(), Lost::Reset);
    }
}
