//! The world: actors, the pipes between them, and time.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use super::app::{Act, AppConn, AppRequest, Handler};
use super::pipe::{Item, Pipe};
use super::transcript::{Said, Sealed, Talk, TapSeals, Transcript};
use crate::config::{ConnectorConfig, GatewayConfig, GatewayUrl, TargetUrl};
use crate::drive::{Close, Conn, Outside};
use crate::event::Event;
use crate::hub::{ConnectorHub, GatewayHub};
use crate::machine::{Cx, Dial, DialFault, Effects, Endpoint, PortId, Process};
use crate::seal::{Fernet, FixedIv, SharedSeals};
use crate::secret::{Keys, Pin, Secret};
use crate::time::{Instant, Now, UnixSecs, Why};

/// What the civil clock of a world says at its start: 2026-01-01T00:00:00Z.
const EPOCH: u64 = 1_767_225_600;
/// A read takes at most this much, as from a socket.
const READ_BYTES: usize = 64 * 1024;
/// Turns without time passing after which something spins.
const TURNS_MAX: usize = 1_000_000;

/// How the records of a world are sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sealing {
    /// As in production.
    Fernet,
    /// The same tokens with IVs that repeat from run to run.
    FixedIv,
}

/// A trouble on the way from or to a connector's link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkTrouble {
    /// Flips one bit of what is under way to the gateway.
    FlipBit,
    /// Repeats what was last sent to the gateway.
    Repeat,
    /// Cuts off the second half of what was last sent to the gateway, and the connection.
    Cut,
    /// Resets the connection, at both ends.
    Reset,
    /// Swallows everything from now on, without telling anyone.
    Clog,
}

/// A scripted visitor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Visitor(usize);

/// See the module [`crate::sim`].
pub struct World {
    clock: Arc<Clock>,
    sealing: Sealing,
    link_delay: Duration,
    rng: ChaCha20Rng,
    processes: Vec<ProcessState>,
    ends: Vec<End>,
    apps: BTreeMap<String, App>,
    dials: Vec<(Instant, usize, Dial)>,
    transcript: Transcript,
    visitors: usize,
}

struct Clock(AtomicU64);

struct ProcessState {
    name: String,
    process: Arc<dyn Process>,
    outside: Arc<SimOutside>,
    sealed: Sealed,
    alive: bool,
}

struct App {
    handler: Handler,
    up: bool,
}

/// What a process of the world asks of the outside.
struct SimOutside {
    clock: Arc<Clock>,
    /// How far its civil clock is off, in seconds.
    skew_secs: AtomicI64,
    mail: Mutex<Effects>,
}

impl Outside for SimOutside {
    fn now(&self) -> Now {
        let mono = self.clock.now();
        let unix = EPOCH + mono.since_origin().as_secs();
        Now { mono, unix: UnixSecs(unix.saturating_add_signed(self.skew_secs.load(Ordering::Relaxed))) }
    }

    fn wake(&self, port: PortId) {
        self.mail().wakes.push(port);
    }

    fn dial(&self, dial: Dial) {
        self.mail().dials.push(dial);
    }

    fn event(&self, event: Event) {
        self.mail().events.push(event);
    }
}

impl SimOutside {
    fn mail(&self) -> std::sync::MutexGuard<'_, Effects> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock {
    fn now(&self) -> Instant {
        Instant::from_origin(Duration::from_nanos(self.0.load(Ordering::Relaxed)))
    }

    fn set(&self, now: Instant) {
        let nanos = u64::try_from(now.since_origin().as_nanos()).unwrap_or(u64::MAX);
        self.0.store(nanos, Ordering::Relaxed);
    }
}

/// One end of a connection.
struct End {
    name: String,
    /// The other end; a supervisor has none.
    peer: Option<usize>,
    /// How long what is sent from here takes.
    delay: Duration,
    inbound: Pipe,
    actor: Actor,
    /// What is said on the connection, kept at the end that asks.
    talk: Talk,
    asks: bool,
}

enum Actor {
    Machine(MachineState),
    Visitor { received: Vec<u8>, reading: bool, ended: bool, reset: bool },
    App { app: String, conn: Box<AppConn>, wait_until: Option<Instant>, stop_until: Option<Instant> },
    Gone,
}

struct MachineState {
    process: usize,
    conn: Box<Conn>,
    woken: bool,
    reads: bool,
    writes: bool,
    wake_at: Option<(Instant, Why)>,
}

impl World {
    /// An empty world. Everything drawn in it comes from `seed`; what crosses a link takes `link_ms` one way.
    pub fn new(title: &str, seed: u64, link_ms: u64, sealing: Sealing) -> Self {
        let mut transcript = Transcript::default();
        transcript.title(title, seed, link_ms);
        Self {
            clock: Arc::new(Clock(AtomicU64::new(0))),
            sealing,
            link_delay: Duration::from_millis(link_ms),
            rng: ChaCha20Rng::seed_from_u64(seed),
            processes: Vec::new(),
            ends: Vec::new(),
            apps: BTreeMap::new(),
            dials: Vec::new(),
            transcript,
            visitors: 0,
        }
    }

    // ---- who there is ----------------------------------------------------------------------------------------------

    /// Starts the gateway; `adapt` changes its settings.
    pub fn start_gateway(&mut self, adapt: impl FnOnce(GatewayConfig) -> GatewayConfig) {
        self.start_gateway_with("K3 2P QX", adapt);
    }

    /// The same with another PIN than the connectors have.
    pub fn start_gateway_with(&mut self, pin: &str, adapt: impl FnOnce(GatewayConfig) -> GatewayConfig) {
        let (seals, sealed) = self.seals();
        let config = adapt(GatewayConfig::new(test_keys("a secret of this world", pin)).sealing_with(seals));
        let hub = GatewayHub::new(config, self.draw());
        self.add_process("gateway", hub, sealed);
    }

    /// Starts a connector for the app `target`; `adapt` changes its settings.
    pub fn start_connector(
        &mut self,
        name: &str,
        target: &str,
        adapt: impl FnOnce(ConnectorConfig) -> ConnectorConfig,
    ) {
        self.start_connector_with(name, target, "a secret of this world", 0, adapt);
    }

    /// The same with another secret, or a clock that is `skew_secs` ahead.
    pub fn start_connector_with(
        &mut self,
        name: &str,
        target: &str,
        secret: &str,
        skew_secs: i64,
        adapt: impl FnOnce(ConnectorConfig) -> ConnectorConfig,
    ) {
        let (seals, sealed) = self.seals();
        let gateway = GatewayUrl::parse("http://gateway").expect("a host name");
        let target = TargetUrl::parse(&format!("http://{target}")).expect("apps have host names");
        let keys = test_keys(secret, "K32PQX");
        let config = adapt(ConnectorConfig::new(keys, gateway, target).name(name).sealing_with(seals));
        let hub = ConnectorHub::new(config, self.draw());
        let process = self.add_process(name, hub.clone(), sealed);
        let state = &self.processes[process];
        state.outside.skew_secs.store(skew_secs, Ordering::Relaxed);
        if let Some(machine) = (hub as Arc<dyn Process>).supervisor() {
            let conn = Conn::new(machine, state.outside.clone());
            self.add_machine(process, conn, None, Duration::ZERO, false);
        }
    }

    /// Starts an app that answers each request with these acts.
    pub fn start_app(&mut self, name: &str, handler: impl FnMut(&AppRequest) -> Vec<Act> + 'static) {
        self.apps.insert(name.to_owned(), App { handler: Box::new(handler), up: true });
    }

    /// Whether an app takes connections.
    pub fn set_app_up(&mut self, name: &str, up: bool) {
        self.apps.get_mut(name).expect("an app of this world").up = up;
    }

    /// A process dies: its kernel closes what it had open.
    pub fn kill(&mut self, name: &str) {
        self.note_trouble(&format!("{name} is killed"));
        let process = self.process(name);
        self.processes[process].alive = false;
        for end in 0..self.ends.len() {
            if matches!(&self.ends[end].actor, Actor::Machine(machine) if machine.process == process) {
                self.let_go(end, Close::Quietly);
            }
        }
        self.dials.retain(|(_, of, _)| *of != process);
        *self.processes[process].outside.mail() = Effects::default();
    }

    /// Asks a process to stop in good order, as a signal does.
    pub fn drain(&mut self, name: &str) {
        self.note_trouble(&format!("{name} is asked to stop"));
        let process = self.process(name);
        let state = &self.processes[process];
        let mut fx = Effects::default();
        state.process.drain(&mut Cx { now: state.outside.now(), fx: &mut fx });
        state.outside.mail().wakes.append(&mut fx.wakes);
        self.deliver(process, None);
    }

    fn process(&self, name: &str) -> usize {
        let place = self.processes.iter().rposition(|state| state.name == name && state.alive);
        place.expect("a process of this world")
    }

    fn add_process(&mut self, name: &str, process: Arc<dyn Process>, sealed: Sealed) -> usize {
        let clock = self.clock.clone();
        let outside = Arc::new(SimOutside { clock, skew_secs: AtomicI64::new(0), mail: Mutex::default() });
        self.processes.push(ProcessState { name: name.to_owned(), process, outside, sealed, alive: true });
        self.processes.len() - 1
    }

    fn seals(&self) -> (SharedSeals, Sealed) {
        let inner: SharedSeals = match self.sealing {
            Sealing::Fernet => Arc::new(Fernet),
            Sealing::FixedIv => Arc::new(FixedIv),
        };
        let sealed = Sealed::default();
        (Arc::new(TapSeals::new(inner, sealed.clone())), sealed)
    }

    fn draw(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        seed
    }

    // ---- visitors --------------------------------------------------------------------------------------------------

    /// A visitor connects to the gateway.
    pub fn visit(&mut self) -> Visitor {
        self.visitors += 1;
        let name = format!("visitor-{}", self.visitors);
        let actor = Actor::Visitor { received: Vec::new(), reading: true, ended: false, reset: false };
        let visitor = self.ends.len();
        self.ends.push(End::new(name, None, Duration::ZERO, actor, true));
        self.accept(visitor, Duration::ZERO);
        Visitor(visitor)
    }

    /// A visitor sends.
    pub fn send(&mut self, visitor: Visitor, bytes: impl AsRef<[u8]>) {
        self.put(visitor.0, bytes.as_ref());
    }

    /// A visitor sends no more (FIN).
    pub fn send_end(&mut self, visitor: Visitor) {
        self.put_end(visitor.0);
    }

    /// A visitor is gone (RST).
    pub fn leave(&mut self, visitor: Visitor) {
        let name = self.ends[visitor.0].name.clone();
        self.note_trouble(&format!("{name} leaves"));
        self.let_go(visitor.0, Close::Reset);
    }

    /// Whether a visitor reads what comes.
    pub fn set_reading(&mut self, visitor: Visitor, read: bool) {
        if let Actor::Visitor { reading, .. } = &mut self.ends[visitor.0].actor {
            *reading = read;
        }
    }

    /// Takes what a visitor got since the last time.
    pub fn received(&mut self, visitor: Visitor) -> Vec<u8> {
        match &mut self.ends[visitor.0].actor {
            Actor::Visitor { received, .. } => std::mem::take(received),
            _ => Vec::new(),
        }
    }

    /// Whether a visitor's connection was ended by the gateway: none if not, else whether in good order (FIN).
    pub fn ended(&self, visitor: Visitor) -> Option<bool> {
        match self.ends[visitor.0].actor {
            Actor::Visitor { reset: true, .. } => Some(false),
            Actor::Visitor { ended: true, .. } => Some(true),
            _ => None,
        }
    }

    // ---- troubles --------------------------------------------------------------------------------------------------

    /// Something happens to the newest link of a connector.
    pub fn trouble(&mut self, connector: &str, trouble: LinkTrouble) {
        let process = self.process(connector);
        let is_link = |end: &End| {
            end.asks
                && end.talk.is_link
                && matches!(&end.actor, Actor::Machine(machine) if machine.process == process)
        };
        let link = self.ends.iter().rposition(is_link).expect("the connector has a link");
        let gateway = self.ends[link].peer.expect("a link has two ends");
        let now = self.clock.now();
        let inbound = &mut self.ends[gateway].inbound;
        match trouble {
            LinkTrouble::FlipBit => inbound.tamper(|bytes| {
                let place = bytes.len() / 2;
                bytes[place] ^= 1;
            }),
            LinkTrouble::Repeat => inbound.tamper(|bytes| bytes.extend_from_within(..)),
            LinkTrouble::Cut => {
                inbound.tamper(|bytes| bytes.truncate(bytes.len() / 2));
                inbound.end(now + self.link_delay);
            }
            LinkTrouble::Reset => {
                inbound.reset(now);
                self.ends[link].inbound.reset(now);
            }
            LinkTrouble::Clog => {
                inbound.clogged = true;
                self.ends[link].inbound.clogged = true;
            }
        }
        let what = match trouble {
            LinkTrouble::FlipBit => "one bit flipped on the way to the gateway",
            LinkTrouble::Repeat => "repeated on the way to the gateway",
            LinkTrouble::Cut => "cut in the middle",
            LinkTrouble::Reset => "reset",
            LinkTrouble::Clog => "nothing passes any more",
        };
        self.note_trouble(&format!("{connector} <-> gateway: {what}"));
    }

    fn note_trouble(&mut self, what: &str) {
        self.transcript.trouble(self.clock.now(), what);
    }

    // ---- time ------------------------------------------------------------------------------------------------------

    /// Lets so many virtual milliseconds pass.
    pub fn run_ms(&mut self, ms: u64) {
        let until = self.clock.now() + Duration::from_millis(ms);
        loop {
            self.settle();
            match self.next_moment() {
                Some(next) if next <= until => self.clock.set(next),
                _ => break,
            }
        }
        self.clock.set(until);
    }

    /// The transcript so far.
    pub fn transcript(&mut self) -> String {
        self.transcript.text()
    }

    /// Lets everyone act who can, without time passing.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let mut acted = self.open_dials();
            for end in 0..self.ends.len() {
                acted |= self.turn(end);
            }
            if !acted {
                return;
            }
        }
        panic!("something spins:\n{}", self.transcript());
    }

    fn next_moment(&self) -> Option<Instant> {
        let now = self.clock.now();
        let ends = self.ends.iter().flat_map(|end| {
            let (reads, own) = match &end.actor {
                Actor::Machine(machine) => (machine.reads, machine.wake_at.map(|(at, _)| at)),
                Actor::Visitor { reading, .. } => (*reading, None),
                Actor::App { wait_until, stop_until, .. } => {
                    (true, wait_until.iter().chain(stop_until).min().copied())
                }
                Actor::Gone => (true, None),
            };
            [end.inbound.ready_at().filter(|_| reads), own]
        });
        let dials = self.dials.iter().map(|(at, ..)| Some(*at));
        ends.chain(dials).flatten().filter(|at| *at > now).min()
    }

    fn turn(&mut self, end: usize) -> bool {
        match &self.ends[end].actor {
            Actor::Machine(_) => self.turn_machine(end),
            Actor::Visitor { .. } => self.turn_visitor(end),
            Actor::App { .. } => self.turn_app(end),
            Actor::Gone => {
                // Whatever comes for someone who is gone is answered with a reset.
                let item = self.ends[end].inbound.read(self.clock.now(), usize::MAX);
                if matches!(item, Some(Item::Bytes(_))) {
                    self.let_go(end, Close::Reset);
                }
                item.is_some()
            }
        }
    }

    // ---- machines --------------------------------------------------------------------------------------------------

    fn turn_machine(&mut self, end: usize) -> bool {
        let now = self.clock.now();
        let room = self.ends[end].peer.is_none_or(|peer| self.ends[peer].inbound.room() > 0);
        let arrived = self.ends[end].inbound.ready_at().is_some_and(|at| at <= now);
        let Actor::Machine(machine) = &mut self.ends[end].actor else { return false };
        let due = machine.wake_at.filter(|(at, _)| *at <= now);
        if !(machine.woken || due.is_some() || (machine.reads && arrived) || (machine.writes && room)) {
            return false;
        }
        machine.woken = false;
        machine.wake_at = None;
        let process = machine.process;
        if let Some((_, why)) = due {
            self.show_deadline(end, why);
        }
        loop {
            let Actor::Machine(machine) = &mut self.ends[end].actor else { return true };
            let todo = machine.conn.advance();
            (machine.reads, machine.writes, machine.wake_at) = (todo.read, todo.write, todo.wake_at);
            let output = machine.conn.output().to_vec();
            self.deliver(process, Some(end));
            if let Some(how) = todo.close {
                self.let_go(end, how);
                return true;
            }
            let mut moved = todo.again;
            if todo.write {
                let count = self.put(end, &output);
                self.machine(end).conn.sent(count);
                moved |= count > 0;
            }
            if todo.shutdown {
                self.put_end(end);
                self.machine(end).conn.has_shut_down();
                moved = true;
            }
            if todo.read
                && let Some(item) = self.ends[end].inbound.read(now, READ_BYTES)
            {
                let conn = &mut self.machine(end).conn;
                match item {
                    Item::Bytes(bytes) => conn.received(&bytes),
                    Item::End => conn.ended(),
                    Item::Reset => conn.broke(),
                }
                moved = true;
            }
            let machine = self.machine(end);
            moved |= std::mem::take(&mut machine.woken);
            if !moved {
                return true;
            }
        }
    }

    fn machine(&mut self, end: usize) -> &mut MachineState {
        match &mut self.ends[end].actor {
            Actor::Machine(machine) => machine,
            _ => unreachable!("only called during a machine's turn"),
        }
    }

    fn show_deadline(&mut self, end: usize, why: Why) {
        if matches!(why, Why::Ping | Why::Peers | Why::Linger) {
            return;
        }
        let peer = self.ends[end].peer.map(|peer| self.ends[peer].name.as_str()).unwrap_or_default();
        let what = format!("{why:?} {peer}").to_ascii_lowercase();
        let name = &self.ends[end].name;
        self.transcript.decided(self.clock.now(), name, "deadline", what.trim_end());
    }

    /// Carries out what a process asked for; `end` is the connection whose machine was called.
    fn deliver(&mut self, process: usize, end: Option<usize>) {
        let now = self.clock.now();
        let state = &self.processes[process];
        let Effects { wakes, dials, events } = std::mem::take(&mut *state.outside.mail());
        let sealed = std::mem::take(&mut *state.sealed.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(end) = end
            && let Some(peer) = self.ends[end].peer
        {
            let gateway = if self.ends[end].asks { peer } else { end };
            for plain in sealed {
                self.transcript.record(now, &self.ends[end].name, &self.ends[peer].name, gateway, &plain);
            }
        }
        for event in events {
            self.transcript.event(now, &self.processes[process].name, &event);
        }
        for end in &mut self.ends {
            if let Actor::Machine(machine) = &mut end.actor
                && machine.process == process
                && wakes.contains(&machine.conn.port())
            {
                machine.woken = true;
            }
        }
        for dial in dials {
            // A wake for it may come before it is open: it is advanced then anyway.
            let delay = if self.is_gateway(&dial.to) { self.link_delay } else { Duration::ZERO };
            self.dials.push((now + delay * 2, process, dial));
        }
    }

    fn is_gateway(&self, to: &Endpoint) -> bool {
        matches!(to, Endpoint::Tcp { host, .. } if host == "gateway")
    }

    fn open_dials(&mut self) -> bool {
        let now = self.clock.now();
        let Some(place) = self.dials.iter().position(|(at, ..)| *at <= now) else { return false };
        let (_, process, Dial { to, machine, .. }) = self.dials.remove(place);
        let outside = self.processes[process].outside.clone();
        let Endpoint::Tcp { host, .. } = &to else { panic!("a world has no unix sockets") };
        let gateway_is_up = self.processes.iter().any(|state| state.name == "gateway" && state.alive);
        let app_is_up = self.apps.get(host).is_some_and(|app| app.up);
        if self.is_gateway(&to) && gateway_is_up {
            let end = self.add_machine(process, Conn::new(machine, outside), None, self.link_delay, true);
            self.accept(end, self.link_delay);
        } else if app_is_up {
            let end = self.add_machine(process, Conn::new(machine, outside), None, Duration::ZERO, true);
            let actor =
                Actor::App { app: host.clone(), conn: Box::default(), wait_until: None, stop_until: None };
            let peer = self.ends.len();
            self.ends.push(End::new(host.clone(), Some(end), Duration::ZERO, actor, false));
            self.ends[end].peer = Some(peer);
        } else {
            Conn::could_not_open(machine, outside, DialFault::Refused);
            self.deliver(process, None);
        }
        true
    }

    fn add_machine(
        &mut self,
        process: usize,
        conn: Conn,
        peer: Option<usize>,
        delay: Duration,
        asks: bool,
    ) -> usize {
        let name = self.processes[process].name.clone();
        let conn = Box::new(conn);
        let machine = MachineState { process, conn, woken: true, reads: false, writes: false, wake_at: None };
        self.ends.push(End::new(name, peer, delay, Actor::Machine(machine), asks));
        self.ends.len() - 1
    }

    /// The gateway takes the connection whose other end is `caller`, or closes it.
    fn accept(&mut self, caller: usize, delay: Duration) {
        let process = self.process("gateway");
        let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 40_000);
        let state = &self.processes[process];
        let accepted =
            state.process.clone().accept(from).map(|machine| Conn::new(machine, state.outside.clone()));
        match accepted {
            Some(conn) => {
                let end = self.add_machine(process, conn, Some(caller), delay, false);
                self.ends[caller].peer = Some(end);
            }
            None => self.ends[caller].inbound.reset(self.clock.now() + delay),
        }
    }

    /// One end is closed, or reset.
    fn let_go(&mut self, end: usize, how: Close) {
        let now = self.clock.now();
        let actor = std::mem::replace(&mut self.ends[end].actor, Actor::Gone);
        let reset = how == Close::Reset || self.ends[end].inbound.is_unread();
        if let Some(peer) = self.ends[end].peer {
            let at = now + self.ends[end].delay;
            let was_open = !self.ends[peer].inbound.closed;
            if reset {
                self.ends[peer].inbound.reset(at);
            } else {
                self.ends[peer].inbound.end(at);
            }
            if was_open && !self.ends[end].is_link(&self.ends) {
                let (name, peer) = (self.ends[end].name.clone(), self.ends[peer].name.clone());
                self.transcript.sent(now, &name, &peer, if reset { "reset" } else { "end" });
            }
        }
        self.ends[end].inbound = Pipe::default();
        if let Actor::Machine(machine) = actor {
            let process = machine.process;
            drop(machine);
            self.deliver(process, None);
        }
    }

    // ---- bytes -----------------------------------------------------------------------------------------------------

    /// Sends from `end` what its peer's pipe takes; returns how much.
    fn put(&mut self, end: usize, bytes: &[u8]) -> usize {
        let now = self.clock.now();
        let Some(peer) = self.ends[end].peer else { return 0 };
        let at = now + self.ends[end].delay;
        let count = bytes.len().min(self.ends[peer].inbound.room());
        let bytes = &bytes[..count];
        self.ends[peer].inbound.send(at, bytes);
        let (from, to) = (self.ends[end].name.clone(), self.ends[peer].name.clone());
        let asks = self.ends[end].asks;
        let talk = &mut self.ends[if asks { end } else { peer }].talk;
        if asks {
            talk.request(bytes);
        } else {
            talk.response(bytes);
        }
        for said in talk.lines.drain(..) {
            match said {
                Said::Line(line) => self.transcript.sent(now, &from, &to, &line),
                Said::Body(bytes) => self.transcript.body(now, &from, &to, &bytes),
            }
        }
        count
    }

    fn put_end(&mut self, end: usize) {
        let now = self.clock.now();
        let Some(peer) = self.ends[end].peer else { return };
        let at = now + self.ends[end].delay;
        if !self.ends[peer].inbound.closed {
            let (from, to) = (self.ends[end].name.clone(), self.ends[peer].name.clone());
            self.transcript.sent(now, &from, &to, "end");
        }
        self.ends[peer].inbound.end(at);
    }

    // ---- scripts ---------------------------------------------------------------------------------------------------

    fn turn_visitor(&mut self, end: usize) -> bool {
        let now = self.clock.now();
        let End { inbound, actor: Actor::Visitor { received, reading: true, ended, reset }, .. } =
            &mut self.ends[end]
        else {
            return false;
        };
        match inbound.read(now, usize::MAX) {
            None => return false,
            Some(Item::Bytes(bytes)) => received.extend(bytes),
            Some(Item::End) => *ended = true,
            Some(Item::Reset) => *reset = true,
        }
        true
    }

    fn turn_app(&mut self, end: usize) -> bool {
        let read = self.app_reads(end);
        let acted = self.app_acts(end);
        read || acted
    }

    fn app_reads(&mut self, end: usize) -> bool {
        let now = self.clock.now();
        let End { inbound, actor: Actor::App { app, conn, stop_until, .. }, .. } = &mut self.ends[end] else {
            return false;
        };
        if stop_until.is_some_and(|until| until > now) {
            return false;
        }
        *stop_until = None;
        let Some(item) = inbound.read(now, READ_BYTES) else { return false };
        match item {
            Item::Bytes(bytes) => {
                let app = self.apps.get_mut(app).expect("an app of this world");
                let back = conn.received(&bytes, &mut app.handler);
                self.put(end, &back);
            }
            Item::End if conn.echo => self.put_end(end),
            Item::End => conn.ended = true,
            Item::Reset => {
                self.ends[end].actor = Actor::Gone;
            }
        }
        true
    }

    fn app_acts(&mut self, end: usize) -> bool {
        let now = self.clock.now();
        let room = self.ends[end].peer.map_or(0, |peer| self.ends[peer].inbound.room());
        let Actor::App { conn, wait_until, stop_until, .. } = &mut self.ends[end].actor else { return false };
        if wait_until.is_some_and(|until| until > now) {
            return false;
        }
        *wait_until = None;
        let body_is_whole = conn.has_body();
        let Some(act) = conn.acts.front_mut() else {
            let over = std::mem::take(&mut conn.ended);
            if over {
                self.let_go(end, Close::Quietly);
            }
            return over;
        };
        match act {
            Act::AwaitBody if !body_is_whole => return false,
            Act::Send(bytes) if bytes.len() > room => {
                if room == 0 {
                    return false;
                }
                let portion: Vec<u8> = bytes.drain(..room).collect();
                self.put(end, &portion);
                return true;
            }
            _ => {}
        }
        match conn.acts.pop_front() {
            Some(Act::Send(bytes)) => {
                self.put(end, &bytes);
            }
            Some(Act::WaitMs(ms)) => *wait_until = Some(now + Duration::from_millis(ms)),
            Some(Act::StopReadingMs(ms)) => *stop_until = Some(now + Duration::from_millis(ms)),
            Some(Act::AwaitBody) => {
                let body = std::mem::take(&mut conn.body_bytes);
                let what = super::transcript::portion(&body);
                let name = self.ends[end].name.clone();
                self.transcript.decided(now, &name, "body", &format!("whole: {what}"));
            }
            Some(Act::Echo) => conn.echo = true,
            Some(Act::Close) => self.let_go(end, Close::Quietly),
            Some(Act::Reset) => self.let_go(end, Close::Reset),
            None => {}
        }
        true
    }
}

impl End {
    fn new(name: String, peer: Option<usize>, delay: Duration, actor: Actor, asks: bool) -> Self {
        Self { name, peer, delay, inbound: Pipe::default(), actor, talk: Talk::default(), asks }
    }

    fn is_link(&self, ends: &[End]) -> bool {
        self.talk.is_link || self.peer.is_some_and(|peer| ends[peer].talk.is_link)
    }
}

/// Runs a conversation twice, with real Fernet and with fixed IVs, and returns the one transcript of both.
///
/// # Panics
/// If the two differ.
pub fn conversation(title: &str, seed: u64, link_ms: u64, run: impl Fn(&mut World)) -> String {
    let [fernet, fixed] = [Sealing::Fernet, Sealing::FixedIv].map(|sealing| {
        let mut world = World::new(title, seed, link_ms, sealing);
        run(&mut world);
        world.transcript()
    });
    assert_eq!(fernet, fixed, "how records are sealed changes nothing else");
    fixed
}

/// The keys of a world; deriving them takes a while, so each pair of secret and PIN is derived once.
fn test_keys(secret: &str, pin: &str) -> Keys {
    Keys::derive(
        &Secret::new(secret.as_bytes().to_vec()).expect("not empty"),
        &Pin::parse(pin).expect("a PIN of this world"),
    )
}
