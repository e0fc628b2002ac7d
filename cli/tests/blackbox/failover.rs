//! Connectors and gateways that die, freeze or leave while visitors ask and ask: who notices.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::app::app;
use crate::gesher::Server;
use crate::http::Head;
use crate::outside::{is_slow_welcome, own_address};
use crate::process::{PATIENCE, Process};
use crate::visitor::get;

const VISITORS: usize = 8;
/// Several reads long, so that a connector may be lost in the middle of an answer.
const ANSWER_BYTES: usize = 100_000;

/// A gateway, three connectors, and an app for each; the apps note together what they were asked, and how often.
struct Site {
    server: Server,
    clients: Vec<Process>,
    seen: Arc<Mutex<HashMap<String, usize>>>,
}

impl Site {
    fn start() -> Self {
        let server = Server::with("-q");
        let seen = Arc::<Mutex<HashMap<String, usize>>>::default();
        let clients = (0..3).map(|number| {
            let seen = seen.clone();
            let address = app(move |exchange| {
                io::copy(&mut exchange.body(), &mut io::sink())?;
                let target = exchange.head.target.clone();
                *seen.lock().unwrap().entry(target.clone()).or_default() += 1;
                // Its work: so there is always something under way.
                thread::sleep(Duration::from_millis(2));
                exchange.respond("200 OK", &format!("X-App: {number}\r\n"), &answer(&target))
            });
            server.join(format!("http://{address}"), &format!("--name app-{number}"))
        });
        let clients = clients.collect();
        Self { server, clients, seen }
    }

    /// Lets visitors ask until `disturb`, which is called in the midst of it, has returned, and for a while after.
    fn under_load(&mut self, disturb: impl FnOnce(&mut Self)) -> Vec<Asked> {
        const WARM: usize = 300;
        const AFTER: usize = 600;
        let (count, end_at) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        let address = self.server.address;
        thread::scope(|scope| {
            let visitors: Vec<_> = (0..VISITORS)
                .map(|number| {
                    scope.spawn({
                        let (count, end_at) = (&count, &end_at);
                        move || visit(address, number, count, end_at)
                    })
                })
                .collect();
            let start = Instant::now();
            while count.load(Ordering::SeqCst) < WARM {
                assert!(start.elapsed() < PATIENCE, "the load does not move");
                thread::yield_now();
            }
            disturb(self);
            end_at.store(count.load(Ordering::SeqCst) + AFTER, Ordering::SeqCst);
            visitors.into_iter().flat_map(|visitor| visitor.join().unwrap()).collect()
        })
    }

    fn seen(&self, asked: &Asked) -> usize {
        self.seen.lock().unwrap().get(&asked.target).copied().unwrap_or(0)
    }
}

/// What the app answers to this target: no two look alike.
fn answer(target: &str) -> Vec<u8> {
    target.bytes().cycle().take(ANSWER_BYTES).collect()
}

/// A request of the load, and what became of it.
struct Asked {
    visitor: usize,
    is_get: bool,
    target: String,
    outcome: Outcome,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Whole,
    Status(u16),
    /// Cut; whether any of the response had come.
    Cut {
        begun: bool,
    },
}

/// GETs and POSTs in turn on one connection, or on a new one where it ended.
fn visit(address: SocketAddr, visitor: usize, count: &AtomicUsize, end_at: &AtomicUsize) -> Vec<Asked> {
    let mut all = Vec::new();
    let mut connection = None;
    while count.fetch_add(1, Ordering::SeqCst) < end_at.load(Ordering::SeqCst) {
        let is_get = all.len() % 2 == 0;
        let target = format!("/{visitor}/{}", all.len());
        let from = connection.get_or_insert_with(|| {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
            BufReader::new(stream)
        });
        let outcome = ask(from, is_get, &target);
        if !matches!(outcome, Outcome::Whole | Outcome::Status(_)) {
            connection = None;
        }
        all.push(Asked { visitor, is_get, target, outcome });
    }
    all
}

fn ask(from: &mut BufReader<TcpStream>, is_get: bool, target: &str) -> Outcome {
    let (method, rest) = match is_get {
        true if target.len().is_multiple_of(2) => ("GET", "\r\n"),
        // The same to the app, but not to a parser.
        true => ("GET", "Content-Length: 0\r\n\r\n"),
        false => ("POST", "Content-Length: 5\r\n\r\nhello"),
    };
    let request = format!("{method} {target} HTTP/1.1\r\nHost: gateway.test\r\n{rest}");
    if from.get_mut().write_all(request.as_bytes()).is_err() {
        return Outcome::Cut { begun: false };
    }
    if !from.fill_buf().is_ok_and(|start| !start.is_empty()) {
        return Outcome::Cut { begun: false };
    }
    let cut = Outcome::Cut { begun: true };
    let Ok(head) = Head::read_response(from) else { return cut };
    let mut body = Vec::new();
    if head.body(from).unwrap().read_to_end(&mut body).is_err() {
        return cut;
    }
    if head.status != 200 {
        return Outcome::Status(head.status);
    }
    assert!(body == answer(target), "{target}: an answer with wrong bytes");
    Outcome::Whole
}

/// Prints a figure that people want, not a program. Not eprintln!: the output of a test that passes is not shown.
fn say(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "MEASURED: {text}");
}

#[test]
fn a_killed_connector_costs_no_get_that_had_not_begun_and_no_post_that_was_not_under_way() {
    let mut site = Site::start();
    let asked = site.under_load(|site| site.clients[1].signal(Signal::KILL));
    site.server.process.line("(app-1) is gone: ");

    let failed: Vec<_> = asked.iter().filter(|asked| asked.outcome != Outcome::Whole).collect();
    let posts = failed.iter().filter(|asked| !asked.is_get).count();
    let delivered = failed.iter().filter(|asked| !asked.is_get && site.seen(asked) == 1).count();
    say(format_args!(
        "kill -9 of one of three connectors: of {} requests {} GETs were cut in their response, and {posts} POSTs \
         failed, of which the app had seen {delivered}",
        asked.len(),
        failed.len() - posts
    ));
    for asked in &failed {
        let Asked { target, outcome, .. } = asked;
        let may_be = match outcome {
            Outcome::Cut { begun } => *begun,
            // The app may have had it: it is not for us to send it again.
            Outcome::Status(502) => !asked.is_get,
            _ => false,
        };
        assert!(may_be, "{} {target}: {outcome:?}", if asked.is_get { "GET" } else { "POST" });
    }
    // Only what was under way at that moment: of no visitor more than one.
    for visitor in 0..VISITORS {
        assert!(failed.iter().filter(|asked| asked.visitor == visitor).count() <= 1, "visitor {visitor}");
    }
    for asked in &asked {
        let seen = site.seen(asked);
        let allowed = match (&asked.outcome, asked.is_get) {
            (Outcome::Whole, true) => 1..=2,
            (Outcome::Whole, false) | (Outcome::Cut { .. }, _) => 1..=1,
            (Outcome::Status(_), _) => 0..=1,
        };
        assert!(allowed.contains(&seen), "{}: {:?}, seen {seen} times", asked.target, asked.outcome);
    }
}

#[test]
fn connectors_that_leave_and_come_one_after_the_other_cost_nobody_anything() {
    let mut site = Site::start();
    let asked = site.under_load(|site| {
        for number in [0, 1] {
            site.clients[number].signal(Signal::TERM);
            assert_eq!(site.clients[number].end(), Some(0));
        }
    });
    for asked in &asked {
        assert_eq!((&asked.outcome, site.seen(asked)), (&Outcome::Whole, 1), "{}", asked.target);
    }
}

/// A connector that does not answer any more, and is not gone either: its machine hangs, or the network swallows all.
#[test]
fn a_frozen_connector_is_out_after_25_s_and_back_by_itself() {
    if !is_slow_welcome() {
        return;
    }
    let mut site = Site::start();
    let mut out = Duration::ZERO;
    let asked = site.under_load(|site| {
        let start = Instant::now();
        site.clients[2].signal(Signal::STOP);
        site.server.process.line("(app-2) is gone: nothing arrived for 25 s");
        out = start.elapsed();
    });
    say(format_args!("a frozen connector was out after {:.1} s", out.as_secs_f64()));
    for asked in &asked {
        let may_be = match &asked.outcome {
            Outcome::Whole => true,
            Outcome::Cut { begun } => *begun,
            Outcome::Status(status) => !asked.is_get && *status == 502,
        };
        assert!(may_be, "{}: {:?}", asked.target, asked.outcome);
    }
    let failed = asked.iter().filter(|asked| asked.outcome != Outcome::Whole).count();
    assert!(failed <= VISITORS, "{failed} failed");

    site.clients[2].signal(Signal::CONT);
    let start = Instant::now();
    site.clients[2].lines("requests go to the app from now on", 2);
    say(format_args!("it was back {:.1} s after it went on", start.elapsed().as_secs_f64()));
    let apps = (0..30).map(|_| who(site.server.address));
    assert_eq!(apps.filter(|app| app == "2").count(), 10);
}

/// Which app answers.
fn who(address: SocketAddr) -> String {
    let answer = crate::visitor::ask(address, "/who").unwrap().answer().unwrap();
    let app = answer.head.field("x-app").unwrap().to_owned();
    assert_eq!(answer.text().unwrap().0, 200);
    app
}

#[test]
fn a_gateway_that_was_away_for_a_second_has_its_connectors_back() {
    let (address, settings) = (own_address(), "--pin KZ7QM3XW9TRN");
    let mut server = Server::at(address, settings);
    let app = app(|exchange| exchange.respond("200 OK", "", b"hello"));
    let clients: Vec<_> = (0..3).map(|_| server.join(format!("http://{app}"), "")).collect();
    server.process.signal(Signal::KILL);
    server.process.end();
    for client in &clients {
        client.line("lost the gateway: ");
    }
    // The outage itself.
    thread::sleep(Duration::from_secs(1));
    let server = Server::at(address, settings);
    let start = Instant::now();
    for client in &clients {
        client.lines("requests go to the app from now on", 2);
    }
    say(format_args!(
        "after 1 s without a gateway three connectors were back in {:.2} s",
        start.elapsed().as_secs_f64()
    ));
    assert_eq!(get(server.address, "/").unwrap(), (200, "hello".into()));
}
