//! Opening a connection: whom to ask for what, and when to give up.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::attempts::{Attempt, Attempts};
use crate::machine::{DialFault, Endpoint};
use crate::time::Instant;

/// A dial under way, which ends with a socket `S` or with why there is none. The runtime asks, and tells what it heard:
/// ```text
/// next ─▶ Ask: resolve, connect; each for itself, nobody waits for it ─▶ answered ─▶ next …
///      ─▶ Wait for an answer, until then
///      ─▶ Over
/// ```
#[derive(Debug)]
pub struct Dialling<S> {
    until: Instant,
    /// What is asked before anything else.
    first: Option<Question>,
    /// None as long as there are no addresses to choose from.
    attempts: Option<Attempts>,
    over: Option<Result<S, DialFault>>,
}

/// What a dial does next.
#[derive(PartialEq, Eq, Debug)]
pub enum DialStep<S> {
    /// Finds this out, beside what is under way. Nobody wants to know any more after that time.
    Ask(Question, Duration),
    /// Waits for an answer, until then at the latest.
    Wait(Instant),
    /// It has its socket, or failed.
    Over(Result<S, DialFault>),
}

/// What the system is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// The addresses of a name.
    Resolve {
        /// The name.
        host: String,
        /// The port of each address.
        port: u16,
    },
    /// A connection to this address.
    Connect(SocketAddr),
    /// A connection to the unix socket at this path.
    ConnectUnix(String),
}

/// What the system answers.
#[derive(Debug)]
pub enum Answer<S> {
    /// What a name resolved to.
    Addresses(Vec<SocketAddr>),
    /// It is connected.
    Socket(S),
}

impl<S> Dialling<S> {
    /// Nothing was asked yet; `until` is the end of it, resolving included.
    pub fn new(to: Endpoint, until: Instant) -> Self {
        let (first, attempts) = match to {
            Endpoint::Unix { path } => (Some(Question::ConnectUnix(path)), None),
            Endpoint::Tcp { host, port } => match without_resolver(&host, port) {
                Some(addresses) => (None, Some(Attempts::new(addresses))),
                None => (Some(Question::Resolve { host, port }), None),
            },
        };
        Self { until, first, attempts, over: None }
    }

    /// What to do now; to be asked again after it was done.
    pub fn next(&mut self, now: Instant) -> DialStep<S> {
        if let Some(result) = self.over.take() {
            return DialStep::Over(result);
        }
        if self.until <= now {
            return DialStep::Over(Err(DialFault::TimedOut));
        }
        if let Some(question) = self.first.take() {
            return DialStep::Ask(question, self.until.since(now));
        }
        match self.attempts.as_mut().map_or(Attempt::Wait(None), |attempts| attempts.next(now)) {
            Attempt::Connect(address) => DialStep::Ask(Question::Connect(address), self.until.since(now)),
            Attempt::Wait(at) => DialStep::Wait(at.map_or(self.until, |at| at.min(self.until))),
            Attempt::Failed(why) => DialStep::Over(Err(why)),
        }
    }

    /// What came of a question.
    pub fn answered(&mut self, answer: Result<Answer<S>, DialFault>) {
        match (answer, &mut self.attempts) {
            (Ok(Answer::Addresses(addresses)), _) => self.attempts = Some(Attempts::new(addresses)),
            (Ok(Answer::Socket(socket)), _) => self.over = Some(Ok(socket)),
            (Err(why), Some(attempts)) => attempts.failed(why),
            (Err(why), None) => self.over = Some(Err(why)),
        }
    }
}

/// The addresses of `host` that nobody has to be asked for: its own, if it is one, and those of `localhost`.
fn without_resolver(host: &str, port: u16) -> Option<Vec<SocketAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(vec![(Ipv6Addr::LOCALHOST, port).into(), (Ipv4Addr::LOCALHOST, port).into()]);
    }
    host.parse::<IpAddr>().ok().map(|address| vec![(address, port).into()])
}

/// What a failed attempt says.
impl From<io::Error> for DialFault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A unix socket's file that is gone was removed by who listened there.
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => DialFault::Refused,
            io::ErrorKind::TimedOut => DialFault::TimedOut,
            _ => DialFault::Unreachable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn dialling(to: Endpoint) -> Dialling<&'static str> {
        Dialling::new(to, Instant::default() + TIMEOUT)
    }

    fn tcp(host: &str) -> Dialling<&'static str> {
        dialling(Endpoint::Tcp { host: host.into(), port: 80 })
    }

    fn connect(address: impl Into<IpAddr>) -> DialStep<&'static str> {
        DialStep::Ask(Question::Connect((address, 80).into()), TIMEOUT)
    }

    #[test]
    fn the_resolver_is_asked_for_names_only_and_then_their_addresses_are_tried() {
        let now = Instant::default();
        assert_eq!(tcp("::1").next(now), connect(Ipv6Addr::LOCALHOST));
        let mut local = tcp("LocalHost");
        assert_eq!(local.next(now), connect(Ipv6Addr::LOCALHOST));
        local.answered(Err(DialFault::Refused));
        assert_eq!(local.next(now), connect(Ipv4Addr::LOCALHOST));
        local.answered(Ok(Answer::Socket("connected")));
        assert_eq!(local.next(now), DialStep::Over(Ok("connected")));

        let mut named = tcp("app.example");
        let host = "app.example".into();
        assert_eq!(named.next(now), DialStep::Ask(Question::Resolve { host, port: 80 }, TIMEOUT));
        assert_eq!(named.next(now), DialStep::Wait(now + TIMEOUT));
        named.answered(Ok(Answer::Addresses(vec![(Ipv4Addr::LOCALHOST, 80).into()])));
        assert_eq!(named.next(now), connect(Ipv4Addr::LOCALHOST));
        named.answered(Err(DialFault::Unreachable));
        assert_eq!(named.next(now), DialStep::Over(Err(DialFault::Unreachable)));
    }

    #[test]
    fn where_there_is_nothing_else_to_try_a_failure_is_the_end() {
        let now = Instant::default();
        let mut unix = dialling(Endpoint::Unix { path: "app.sock".into() });
        assert_eq!(unix.next(now), DialStep::Ask(Question::ConnectUnix("app.sock".into()), TIMEOUT));
        unix.answered(Err(io::Error::from(io::ErrorKind::NotFound).into()));
        assert_eq!(unix.next(now), DialStep::Over(Err(DialFault::Refused)));

        let mut unknown = tcp("nowhere.example");
        unknown.next(now);
        unknown.answered(Err(DialFault::NoSuchName));
        assert_eq!(unknown.next(now), DialStep::Over(Err(DialFault::NoSuchName)));
    }

    #[test]
    fn a_dial_has_one_time_for_all_of_it() {
        let late = Instant::default() + TIMEOUT;
        let just_before = Instant::default() + (TIMEOUT - Duration::from_millis(1));
        let mut silent = tcp("localhost");
        silent.next(Instant::default());
        silent.next(just_before);
        assert_eq!(silent.next(just_before), DialStep::Wait(late), "no head start goes beyond it");
        assert_eq!(silent.next(late), DialStep::Over(Err(DialFault::TimedOut)));
        silent.answered(Ok(Answer::Socket("just in time")));
        assert_eq!(silent.next(late), DialStep::Over(Ok("just in time")));
    }
}
