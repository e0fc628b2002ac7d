//! Whole exchanges between a gateway's and a connector's machines in memory, without a socket:
//! `cargo bench -p gesher-core --bench exchange`. The app behind is a string.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use gesher_core::config::{ConnectorConfig, GatewayConfig, GatewayUrl, TargetUrl};
use gesher_core::drive::{Conn, Outside};
use gesher_core::event::Event;
use gesher_core::hub::{ConnectorHub, GatewayHub};
use gesher_core::machine::{Dial, Machine, PortId, Process};
use gesher_core::secret::{Keys, Pin, Secret};
use gesher_core::time::{Now, UnixSecs};

const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nHost: app.example.org\r\n\r\n";

fn main() {
    divan::main();
}

#[divan::bench]
fn a_small_request(bencher: Bencher) {
    let mut deployment = Deployment::new(128);
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| deployment.exchange());
}

#[divan::bench]
fn a_request_of_10_kib(bencher: Bencher) {
    let mut deployment = Deployment::new(10 * 1024);
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| deployment.exchange());
}

#[divan::bench]
fn a_download_of_1_mib(bencher: Bencher) {
    let mut deployment = Deployment::new(1 << 20);
    bencher.counter(BytesCount::new(1usize << 20)).bench_local(|| deployment.exchange());
}

/// What a process asks of the outside; time stands still.
#[derive(Default)]
struct Mail {
    woken: Mutex<BTreeSet<PortId>>,
    dials: Mutex<Vec<Dial>>,
}

impl Outside for Mail {
    fn now(&self) -> Now {
        Now { unix: UnixSecs(1_700_000_000), ..Now::default() }
    }

    fn wake(&self, port: PortId) {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
    }

    fn dial(&self, dial: Dial) {
        self.dials.lock().unwrap_or_else(PoisonError::into_inner).push(dial);
    }

    fn event(&self, event: Event) {
        black_box(event);
    }
}

impl Mail {
    fn take_woken(&self, port: PortId) -> bool {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).remove(&port)
    }

    fn take_dial(&self) -> Option<Box<dyn Machine>> {
        self.dials.lock().unwrap_or_else(PoisonError::into_inner).pop().map(|dial| dial.machine)
    }
}

/// One end of a connection that is in memory.
struct End {
    conn: Conn,
    mail: Arc<Mail>,
    arrived: Vec<u8>,
}

impl End {
    fn new(machine: Box<dyn Machine>, mail: &Arc<Mail>) -> Self {
        mail.wake(machine.port());
        Self { conn: Conn::new(machine, mail.clone()), mail: mail.clone(), arrived: Vec::new() }
    }

    /// Lets the machine run if there is a reason; what it sends is appended to `out`. Whether there was one.
    fn turn(&mut self, out: &mut Vec<u8>) -> bool {
        let mut acted = false;
        while self.mail.take_woken(self.conn.port()) || !self.arrived.is_empty() {
            acted = true;
            let mut todo = self.conn.advance_on(&mut self.arrived);
            loop {
                let count = self.conn.output().len();
                out.extend_from_slice(self.conn.output());
                self.conn.sent(count);
                if !todo.write && !todo.again {
                    break;
                }
                todo = self.conn.advance();
            }
        }
        acted
    }
}

struct Deployment {
    visitor: End,
    gateway_link: End,
    connector_link: End,
    target: Option<End>,
    connector: Arc<Mail>,
    /// What the visitor and the app got.
    to_visitor: Vec<u8>,
    to_app: Vec<u8>,
    answer: Vec<u8>,
}

impl Deployment {
    fn new(answer_bytes: usize) -> Self {
        let keys = || {
            let secret = Secret::new(b"a secret of the benchmark".to_vec()).expect("not empty");
            Keys::derive(&secret, &Pin::parse("K32PQX").expect("a PIN"))
        };
        let from = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let gateway_hub = GatewayHub::new(GatewayConfig::new(keys()), [1; 32]);
        let (gateway, connector) = (Arc::new(Mail::default()), Arc::new(Mail::default()));
        let url = GatewayUrl::parse("http://gateway").expect("a URL");
        let target = TargetUrl::parse("http://app").expect("a URL");
        let connector_hub = ConnectorHub::new(ConnectorConfig::new(keys(), url, target), [2; 32]);
        let supervisor = (connector_hub as Arc<dyn Process>).supervisor().expect("a connector has one");
        let mut supervisor = End::new(supervisor, &connector);
        supervisor.turn(&mut Vec::new());
        let accept = || {
            End::new((gateway_hub.clone() as Arc<dyn Process>).accept(from).expect("there is room"), &gateway)
        };
        let mut deployment = Self {
            visitor: accept(),
            gateway_link: accept(),
            connector_link: End::new(connector.take_dial().expect("the supervisor dials"), &connector),
            target: None,
            connector,
            to_visitor: Vec::new(),
            to_app: Vec::new(),
            answer: format!("HTTP/1.1 200 OK\r\nContent-Length: {answer_bytes}\r\n\r\n").into_bytes(),
        };
        deployment.answer.resize(deployment.answer.len() + answer_bytes, b'x');
        deployment.settle();
        // The supervisor has no more to do while the link lasts; it would dial again if it were dropped.
        std::mem::forget(supervisor);
        deployment
    }

    /// One request and its whole answer.
    fn exchange(&mut self) -> usize {
        self.to_visitor.clear();
        self.visitor.arrived.extend_from_slice(REQUEST);
        self.settle();
        assert!(self.to_visitor.len() >= self.answer.len(), "the answer came whole");
        self.to_visitor.len()
    }

    fn settle(&mut self) {
        loop {
            let mut acted = self.visitor.turn(&mut self.to_visitor);
            acted |= self.gateway_link.turn(&mut self.connector_link.arrived);
            acted |= self.connector_link.turn(&mut self.gateway_link.arrived);
            if let Some(machine) = self.connector.take_dial() {
                self.target = Some(End::new(machine, &self.connector));
            }
            if let Some(target) = &mut self.target {
                acted |= target.turn(&mut self.to_app);
                if !self.to_app.is_empty() {
                    self.to_app.clear();
                    target.arrived.extend_from_slice(&self.answer);
                    acted = true;
                }
            }
            if !acted {
                return;
            }
        }
    }
}
