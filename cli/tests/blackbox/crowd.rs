//! Several connectors, and their coming and going.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::process::Signal;

use crate::app::app;
use crate::gesher::Server;
use crate::outside::own_address;
use crate::process::{PATIENCE, Process};
use crate::visitor::{ask, get, send};

/// Apps that answer with their number; `/wait` says that it was asked and waits to be released.
struct Apps {
    asked: Receiver<usize>,
    release: Sender<()>,
    addresses: Vec<SocketAddr>,
}

impl Apps {
    fn start(count: usize) -> Self {
        let ((say_asked, asked), (release, released)) = (channel(), channel::<()>());
        let released = Arc::new(Mutex::new(released));
        let addresses = (0..count).map(|number| {
            let (say_asked, released) = (say_asked.clone(), released.clone());
            app(move |exchange| {
                if exchange.path() == "/wait" {
                    say_asked.send(number).unwrap();
                    released.lock().unwrap().recv_timeout(PATIENCE).map_err(io::Error::other)?;
                }
                exchange.respond("200 OK", "", number.to_string().as_bytes())
            })
        });
        Self { addresses: addresses.collect(), asked, release }
    }

    fn join(&self, server: &Server) -> Vec<Process> {
        let join = |(number, app)| server.join(format!("http://{app}"), &format!("--name app-{number}"));
        self.addresses.iter().enumerate().map(join).collect()
    }
}

/// Who answers the next `count` requests, all of which must be answered well.
fn who(server: &Server, count: usize) -> Vec<String> {
    let one = |_| {
        let (status, who) = get(server.address, "/").unwrap();
        assert_eq!(status, 200, "{who}");
        who
    };
    (0..count).map(one).collect()
}

#[test]
fn requests_take_turns_and_a_killed_connector_costs_none() {
    let server = Server::start();
    let apps = Apps::start(3);
    let mut clients = apps.join(&server);
    let turns = who(&server, 9);
    assert_eq!(turns[..3].iter().collect::<BTreeSet<_>>().len(), 3, "{turns:?}");
    assert!(turns[..3] == turns[3..6] && turns[3..6] == turns[6..], "{turns:?}");

    clients[1].signal(Signal::KILL);
    // Whether or not the gateway knows yet.
    who(&server, 10);
    assert_eq!(clients[1].end(), None);
    server.process.line("(app-1) is gone: the connection was lost");
    for _ in 0..10 {
        let answer = send(server.address, "POST", "/", 3, &mut &b"abc"[..]).unwrap().answer().unwrap();
        let (status, who) = answer.text().unwrap();
        assert!(status == 200 && who != "1", "{status} from {who}");
    }
}

#[test]
fn a_connector_gets_in_among_more_idle_visitors_than_there_are_descriptors() {
    let server = Server::with_descriptors(256);
    let idle: Vec<_> = (0..316).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let apps = Apps::start(1);
    let _clients = apps.join(&server);
    assert_eq!(who(&server, 1), ["0"]);
    drop(idle);
}

#[test]
fn a_connector_that_is_told_to_stop_finishes_what_is_open() {
    let server = Server::start();
    let apps = Apps::start(2);
    let mut clients = apps.join(&server);
    let open = ask(server.address, "/wait").unwrap();
    let busy = apps.asked.recv_timeout(PATIENCE).unwrap();
    clients[busy].signal(Signal::TERM);
    // Those who ask notice nothing; and soon it gets nothing new.
    let (start, other) = (Instant::now(), (1 - busy).to_string());
    while who(&server, 2).iter().any(|who| *who != other) {
        assert!(start.elapsed() < PATIENCE, "a connector that stops still gets requests");
    }
    assert!(who(&server, 10).iter().all(|who| *who == other));
    apps.release.send(()).unwrap();
    assert_eq!(open.answer().unwrap().text().unwrap(), (200, busy.to_string()));
    assert_eq!(clients[busy].end(), Some(0));
    server.process.line(&format!("(app-{busy}) left"));
}

#[test]
fn a_gateway_that_is_told_to_stop_finishes_what_is_open() {
    let mut server = Server::start();
    let apps = Apps::start(1);
    let clients = apps.join(&server);
    let open = ask(server.address, "/wait").unwrap();
    apps.asked.recv_timeout(PATIENCE).unwrap();
    server.process.signal(Signal::TERM);
    stops_listening(server.address);
    apps.release.send(()).unwrap();
    assert_eq!(open.answer().unwrap().text().unwrap(), (200, "0".into()));
    assert_eq!(server.process.end(), Some(0));
    clients[0].line("the gateway is going away");
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Server::with("--drain 1h");
    let apps = Apps::start(1);
    let _clients = apps.join(&server);
    let open = ask(server.address, "/wait").unwrap();
    apps.asked.recv_timeout(PATIENCE).unwrap();
    server.process.signal(Signal::INT);
    stops_listening(server.address);
    server.process.signal(Signal::INT);
    server.process.end();
    server.process.line("what was still open was cut off");
    assert!(open.answer().is_err());
    apps.release.send(()).unwrap();
}

/// Tries to connect until nobody listens any more.
fn stops_listening(address: SocketAddr) {
    let start = Instant::now();
    while TcpStream::connect(address).is_ok() {
        assert!(start.elapsed() < PATIENCE, "it goes on listening");
    }
}

#[test]
fn a_gateway_that_starts_again_with_its_pin_has_its_connectors_back() {
    let (address, pin) = (own_address(), "--pin KZ7QM3XW9TRN");
    let mut server = Server::at(address, pin);
    let apps = Apps::start(1);
    let clients = apps.join(&server);
    assert_eq!(who(&server, 1), ["0"]);
    server.process.signal(Signal::KILL);
    server.process.end();
    clients[0].line("lost the gateway: ");
    let server = Server::at(address, pin);
    clients[0].lines("requests go to the app from now on", 2);
    assert_eq!(who(&server, 1), ["0"]);
}

/// Before it had ever joined it would have ended; now somebody relies on it.
#[test]
fn a_connector_that_had_joined_outlives_a_gateway_with_a_new_pin() {
    let address = own_address();
    let mut server = Server::at(address, "");
    let client = server.join("1", "");
    server.process.signal(Signal::KILL);
    server.process.end();
    let _server = Server::at(address, "--pin KZ7QM3XW9TRN");
    let line = client.line("refused: wrong PIN (");
    assert!(line.contains("the next in 150.0 s") || line.contains("next try in 150.0 s"), "{line}");
}
