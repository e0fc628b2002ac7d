//! How a run ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::runtime::{Options, Stopped};
use gesher_core::machine::{End, Lost, Want};
use signal_hook::consts::SIGTERM;
use signal_hook::low_level::raise;

use super::toys::{READ, SUPERVISOR, Toys, echo, ending, script, start, start_all};

/// Asks for an echo, so that the connection is known to be served.
fn ping(stream: &mut TcpStream) {
    stream.write_all(b"ping").unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
}

#[test]
fn what_is_open_finishes_and_nothing_new_is_accepted() {
    let (toys, news) = Toys::new(echo);
    let running = start(toys);
    let mut stream = running.connect();
    ping(&mut stream);
    running.stop.stop();
    news.drained();
    assert_eq!(TcpStream::connect(running.address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    ping(&mut stream);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(news.lost(), Lost::Ended);
    assert_eq!(running.join(), Stopped::Drained);
}

#[test]
fn machines_hear_that_their_process_drains() {
    let (toys, _news) = Toys::new(|_, _| unreachable!("nothing connects"));
    let draining = toys.draining.clone();
    let toys = toys.with_supervisor(|lost| {
        script(SUPERVISOR, lost, move |_, _| {
            Ok(Want { end: draining.load(Ordering::Acquire).then_some(End::Close), ..READ })
        })
    });
    let running = start(toys);
    running.stop.stop();
    assert_eq!(running.join(), Stopped::Drained);
}

#[test]
fn asked_twice_it_cuts_what_is_open() {
    let (toys, news) = Toys::new(echo);
    let running = start(toys);
    let mut stream = running.connect();
    ping(&mut stream);
    running.stop.stop();
    news.drained();
    running.stop.stop();
    assert_eq!(running.join(), Stopped::Cut);
    assert_eq!(news.lost(), Lost::Dropped);
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn what_is_open_is_cut_when_the_time_is_over() {
    let (toys, news) = Toys::new(echo);
    let drain = Duration::from_millis(30);
    let running = start_all([toys], Options { drain, signals: false, ..Options::default() });
    let mut stream = running.connect();
    ping(&mut stream);
    running.stop.stop();
    assert_eq!(running.join(), Stopped::Cut);
    assert_eq!(news.lost(), Lost::Dropped);
}

#[test]
fn a_supervisor_that_ends_takes_all_services_with_it_once_its_own_is_done() {
    let (first, _) = Toys::new(echo);
    let first_drains = first.draining.clone();
    let (second, news) = Toys::new(|_, _| unreachable!("nothing connects"));
    let second = second.with_supervisor(|lost| script(SUPERVISOR, lost, |_, _| Ok(ending(End::Close))));
    let running = start_all([first, second], Options { signals: false, ..Options::default() });
    assert_eq!(news.lost(), Lost::Ended);
    assert_eq!(running.join(), Stopped::Ended);
    assert!(first_drains.load(Ordering::Acquire));
}

#[test]
fn a_supervisor_that_panics_ends_its_process() {
    let (toys, news) = Toys::new(|_, _| unreachable!("nothing connects"));
    let toys = toys.with_supervisor(|lost| script(SUPERVISOR, lost, |_, _| panic!("as asked")));
    let running = start(toys);
    assert_eq!(news.lost(), Lost::Dropped);
    assert_eq!(running.join(), Stopped::Ended);
}

#[test]
fn the_first_signal_drains_and_the_second_cuts() {
    let (toys, news) = Toys::new(echo);
    let running = start_all([toys], Options::default());
    let mut stream = running.connect();
    // Served, so it runs and has its signals.
    ping(&mut stream);
    raise(SIGTERM).unwrap();
    news.drained();
    ping(&mut stream);
    raise(SIGTERM).unwrap();
    assert_eq!(running.join(), Stopped::Cut);
    assert_eq!(news.lost(), Lost::Dropped);
}
