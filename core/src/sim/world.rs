//! The world: actors, the pipes between them, and time.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use super::app::{Act, App, AppConn, AppRequest};
use super::chaos::Referee;
use super::pipe::{Bottleneck, Item, PIPE_BYTES, Pipe};
use super::tap::{Sealed, TapSeals};
use crate::capture::{self, Recorder, Replay, ReplayError};
use crate::config::{ConnectorConfig, GatewayConfig, GatewayUrl, TargetUrl};
use crate::drive::{Close, Conn, Outside, Todo};
use crate::event::Event;
use crate::hub::seeds::Seeds;
use crate::hub::{ConnectorHub, GatewayHub};
use crate::limits;
use crate::machine::{Cx, Dial, DialFault, Effects, Endpoint, PortId, Process};
use crate::seal::{Fernet, FixedIv, Plain, SharedSeals};
use crate::secret::{Keys, Pin, Secret};
use crate::time::{Instant, Now, UnixSecs, Why};
use crate::transcript::{Said, Talk, Transcript};

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
    /// Not at all; and of what is sent nothing is shown or kept. For many bytes.
    Plain,
}

/// A trouble on a connector's link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkTrouble {
    /// Flips one bit of what was last sent this way.
    FlipBit(Way),
    /// Flips the bit of this number, counted around, of what was last sent this way.
    FlipBitAt(Way, usize),
    /// Swallows what was last sent this way.
    Drop(Way),
    /// Lets what was last sent this way overtake what was sent before it.
    Reorder(Way),
    /// Repeats what was last sent this way.
    Repeat(Way),
    /// Cuts off the second half of what was last sent this way, and ends the connection there (FIN).
    Cut(Way),
    /// Resets the connection, at both ends.
    Reset,
    /// Swallows everything from now on, without telling anyone.
    Clog,
    /// The same, but the connector is told at once (RST): a connection that a NAT forgot.
    Forget,
}

/// A way that bytes take over a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From the connector to the gateway.
    ToGateway,
    /// From the gateway to the connector.
    ToConnector,
}

/// What a connector knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Joiner {
    /// The secret; the gateway's unless said otherwise.
    pub secret: &'static str,
    /// The PIN; the gateway's unless said otherwise.
    pub pin: &'static str,
    /// How far its civil clock is ahead, in seconds.
    pub skew_secs: i64,
}

impl Default for Joiner {
    fn default() -> Self {
        Self { secret: "a secret of this world", pin: "K3 2P QX", skew_secs: 0 }
    }
}

/// A scripted visitor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Visitor(usize);

/// See the module [`crate::sim`].
pub struct World {
    clock: Arc<Clock>,
    sealing: Sealing,
    link_delay: Duration,
    bottleneck: Option<Bottleneck>,
    rng: ChaCha20Rng,
    processes: Vec<ProcessState>,
    ends: Vec<End>,
    apps: BTreeMap<String, App>,
    dials: Vec<(Instant, usize, Dial)>,
    transcript: Transcript,
    visitors: usize,
    /// The most that a machine reads or writes at once.
    io_bytes_max: usize,
    /// Each read and write takes some number of bytes up to the above, drawn anew each time.
    ragged: bool,
    /// How long what crosses between visitors and gateway, and connectors and apps, takes one way.
    near_delay: Duration,
    /// The address of whom comes next.
    address: u8,
    /// How many lines of the transcript a failure shows; none for all.
    tail: Option<usize>,
    /// Who looks on, in a simulation.
    pub(super) referee: Option<Box<Referee>>,
    /// What is shown after the bytes that it is about.
    later: Vec<(usize, Event)>,
    /// What is captured of processes, with their names; none captures nothing.
    captures: Option<Vec<(String, Tape)>>,
    capture_bytes_max: u64,
    /// What keys and IVs of captured processes come from.
    #[cfg(test)]
    secret_seeds: Vec<[u8; 32]>,
}

/// A capture in memory.
#[derive(Clone, Default)]
struct Tape(Arc<Mutex<Vec<u8>>>);

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Clock(AtomicU64);

struct ProcessState {
    name: String,
    process: Arc<dyn Process>,
    outside: Arc<SimOutside>,
    sealed: Sealed,
    alive: bool,
    /// It does not run, as after SIGSTOP.
    frozen: bool,
    address: u8,
    is_at_rest: Box<dyn Fn() -> bool>,
    /// How much memory its exchanges hold, in bytes.
    lent: Box<dyn Fn() -> usize>,
    connector: Option<Arc<ConnectorHub>>,
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
    /// Everything that was sent from here, if it is a connector's end of a link: what a listener on the way has.
    captured: Option<Vec<u8>>,
    /// It may join: it is a connector's, or of somebody who knows secret and PIN.
    may_join: bool,
}

enum Actor {
    Machine(MachineState),
    Visitor(VisitorState),
    App { app: String, conn: Box<AppConn>, wait_until: Option<Instant>, stop_until: Option<Instant> },
    Gone,
}

struct MachineState {
    process: usize,
    conn: Box<Conn>,
    woken: bool,
    /// What it said last.
    todo: Todo,
}

#[derive(Default)]
struct VisitorState {
    /// What its kernel did not take yet, and whether FIN follows.
    unsent: Vec<u8>,
    /// What it sends after that, and that does not matter.
    fill: u64,
    ends: bool,
    received: Vec<u8>,
    stopped: bool,
    ended: bool,
    reset: bool,
    /// What its kernel took in all.
    sent: usize,
    reads: Option<Pace>,
    sends: Option<Pace>,
}

/// So many bytes every so often.
#[derive(Clone, Copy)]
struct Pace {
    bytes: usize,
    every: Duration,
    next: Instant,
}

impl Pace {
    fn new(bytes: usize, every_ms: u64, now: Instant) -> Option<Self> {
        Some(Self { bytes: bytes.max(1), every: Duration::from_millis(every_ms.max(1)), next: now })
    }

    /// How many bytes may move now.
    fn room(pace: &Option<Self>, now: Instant) -> usize {
        pace.map_or(usize::MAX, |pace| if pace.next <= now { pace.bytes } else { 0 })
    }

    fn moved(pace: &mut Option<Self>, now: Instant) {
        if let Some(pace) = pace {
            pace.next = now + pace.every;
        }
    }
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
            bottleneck: None,
            rng: ChaCha20Rng::seed_from_u64(seed),
            processes: Vec::new(),
            ends: Vec::new(),
            apps: BTreeMap::new(),
            dials: Vec::new(),
            transcript,
            visitors: 0,
            io_bytes_max: READ_BYTES,
            ragged: false,
            near_delay: Duration::ZERO,
            address: 1,
            tail: None,
            referee: None,
            later: Vec::new(),
            captures: None,
            capture_bytes_max: u64::MAX,
            #[cfg(test)]
            secret_seeds: Vec::new(),
        }
    }

    /// Links that are opened from now on have a round trip of this, carry so many bits a second each way, and pass a
    /// router that holds one round trip's worth of them (64 KiB at least): the usual advice for the size of its queue.
    pub fn set_links(&mut self, round_trip: Duration, bits_per_sec: u64) {
        const QUEUE_BYTES_MIN: u128 = 64 * 1024;
        let worth = round_trip.as_nanos() * u128::from(bits_per_sec) / (8 * 1_000_000_000);
        let queue_bytes = usize::try_from(worth.max(QUEUE_BYTES_MIN)).unwrap_or(usize::MAX);
        self.link_delay = round_trip / 2;
        self.bottleneck = Some(Bottleneck { bits_per_sec, queue_bytes });
    }

    /// Captures every process that is started from now on (see the module [`crate::capture`]), up to so many bytes each.
    pub fn capture_all(&mut self, bytes_max: u64) {
        self.captures = Some(Vec::new());
        self.capture_bytes_max = bytes_max;
    }

    /// The capture of a process: of the last of this name.
    ///
    /// # Panics
    /// If it was not captured.
    pub fn capture(&self, name: &str) -> Vec<u8> {
        self.captures().rfind(|(captured, _)| *captured == name).expect("a captured process").1
    }

    /// All captures, with the names of their processes.
    pub fn captures(&self) -> impl DoubleEndedIterator<Item = (&str, Vec<u8>)> {
        let copy = |tape: &Tape| tape.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.captures.iter().flatten().map(move |(name, tape)| (name.as_str(), copy(tape)))
    }

    #[cfg(test)]
    pub(crate) fn secret_seeds(&self) -> &[[u8; 32]] {
        &self.secret_seeds
    }

    fn recorder(&mut self, name: &str) -> Option<Arc<Recorder>> {
        let tape = Tape::default();
        self.captures.as_mut()?.push((name.to_owned(), tape.clone()));
        Some(Recorder::new(Box::new(tape), self.capture_bytes_max, |_| {}))
    }

    /// How long the world has been there.
    pub fn elapsed(&self) -> Duration {
        self.clock.now().since_origin()
    }

    // ---- who there is ----------------------------------------------------------------------------------------------

    /// Starts the gateway; `adapt` changes its settings.
    pub fn start_gateway(&mut self, adapt: impl FnOnce(GatewayConfig) -> GatewayConfig) {
        self.start_gateway_as(Joiner::default(), adapt);
    }

    /// The same with another secret or PIN, or a wrong clock.
    pub fn start_gateway_as(
        &mut self,
        Joiner { secret, pin, skew_secs }: Joiner,
        adapt: impl FnOnce(GatewayConfig) -> GatewayConfig,
    ) {
        let (seals, sealed) = self.seals();
        let config = adapt(GatewayConfig::new(test_keys(secret, pin)).sealing_with(seals));
        let seed = self.draw();
        let (process, hub) = match self.recorder("gateway") {
            None => {
                let hub = GatewayHub::new(config, seed);
                (hub.clone() as Arc<dyn Process>, hub)
            }
            Some(recorder) => {
                let deciding = self.draw();
                #[cfg(test)]
                self.secret_seeds.push(seed);
                capture::gateway_and_hub(config, Seeds::apart(seed, deciding), deciding, recorder)
            }
        };
        let is_at_rest = Box::new({
            let hub = hub.clone();
            move || hub.is_at_rest()
        });
        let pool = hub.pool.clone();
        let lent = Box::new(move || pool.used());
        let process = self.add_process("gateway", process, is_at_rest, lent, sealed);
        self.processes[process].outside.skew_secs.store(skew_secs, Ordering::Relaxed);
    }

    /// Starts a connector for the app `target`; `adapt` changes its settings.
    pub fn start_connector(
        &mut self,
        name: &str,
        target: &str,
        adapt: impl FnOnce(ConnectorConfig) -> ConnectorConfig,
    ) {
        self.start_connector_as(Joiner::default(), name, target, adapt);
    }

    /// The same with another secret or PIN, or a wrong clock.
    pub fn start_connector_as(
        &mut self,
        joiner: Joiner,
        name: &str,
        target: &str,
        adapt: impl FnOnce(ConnectorConfig) -> ConnectorConfig,
    ) {
        let (seals, sealed) = self.seals();
        let gateway = GatewayUrl::parse("http://gateway").expect("a host name");
        let target = TargetUrl::parse(&format!("http://{target}")).expect("apps have host names");
        let keys = test_keys(joiner.secret, joiner.pin);
        let config = adapt(ConnectorConfig::new(keys, gateway, target).name(name).sealing_with(seals));
        let seed = self.draw();
        let (as_process, hub) = match self.recorder(name) {
            None => {
                let hub = ConnectorHub::new(config, seed);
                (hub.clone() as Arc<dyn Process>, hub)
            }
            Some(recorder) => {
                let deciding = self.draw();
                #[cfg(test)]
                self.secret_seeds.push(seed);
                capture::connector_and_hub(config, Seeds::apart(seed, deciding), deciding, recorder)
            }
        };
        let is_at_rest = Box::new({
            let hub = hub.clone();
            move || hub.is_at_rest()
        });
        let pool = hub.pool.clone();
        let lent = Box::new(move || pool.used());
        let process = self.add_process(name, as_process.clone(), is_at_rest, lent, sealed);
        self.processes[process].connector = Some(hub.clone());
        let state = &self.processes[process];
        state.outside.skew_secs.store(joiner.skew_secs, Ordering::Relaxed);
        if let Some(machine) = as_process.supervisor() {
            let conn = Conn::new(machine, state.outside.clone());
            self.add_machine(process, conn, None, Duration::ZERO, false);
        }
    }

    /// Starts an app that answers each request with these acts.
    pub fn start_app(&mut self, name: &str, handler: impl FnMut(&AppRequest) -> Vec<Act> + 'static) {
        let app = App {
            handler: Box::new(handler),
            up: true,
            dial_time: Duration::ZERO,
            keeps_bodies: true,
            requests: Vec::new(),
        };
        self.apps.insert(name.to_owned(), app);
    }

    fn app(&mut self, name: &str) -> &mut App {
        self.apps.get_mut(name).expect("an app of this world")
    }

    /// Whether an app takes connections.
    pub fn set_app_up(&mut self, name: &str, up: bool) {
        self.app(name).up = up;
    }

    /// An app only counts the bodies that it gets from now on.
    pub fn forget_bodies(&mut self, name: &str) {
        self.app(name).keeps_bodies = false;
    }

    /// How long an app lets those wait who connect.
    pub fn set_app_dial_ms(&mut self, name: &str, ms: u64) {
        self.app(name).dial_time = Duration::from_millis(ms);
    }

    /// The requests that an app got, in the order in which their heads came.
    pub fn requests(&self, app: &str) -> &[AppRequest] {
        &self.apps.get(app).expect("an app of this world").requests
    }

    /// How many connections an app has that somebody holds the other end of.
    pub fn app_connections(&self, app: &str) -> usize {
        let is_held =
            |end: &End| end.peer.is_some_and(|peer| matches!(self.ends[peer].actor, Actor::Machine(_)));
        let of_app = |end: &&End| matches!(&end.actor, Actor::App { app: name, .. } if name == app);
        self.ends.iter().filter(of_app).filter(|end| is_held(end)).count()
    }

    /// Sets the civil clock of a process so many seconds ahead.
    pub fn set_skew(&mut self, name: &str, skew_secs: i64) {
        self.note_trouble(&format!("the clock of {name} is {skew_secs} s ahead"));
        let process = self.process(name);
        self.processes[process].outside.skew_secs.store(skew_secs, Ordering::Relaxed);
        // A machine sees it when it is called next; here all are, so that what they do is done at a known moment.
        for end in &mut self.ends {
            if let Actor::Machine(machine) = &mut end.actor
                && machine.process == process
            {
                machine.woken = true;
            }
        }
    }

    /// Whether a process holds nothing any more: see [`GatewayHub::is_at_rest`] and [`ConnectorHub::is_at_rest`].
    pub fn is_at_rest(&self, name: &str) -> bool {
        (self.processes[self.process(name)].is_at_rest)()
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

    /// Asks for the gateway's figures, as a person at a connector does.
    pub(super) fn ask_stats(&mut self, connector: &str) {
        let process = self.process(connector);
        let state = &self.processes[process];
        let mut fx = Effects::default();
        let hub = state.connector.as_ref().expect("a connector");
        hub.ask_stats(&mut Cx { now: state.outside.now(), fx: &mut fx });
        state.outside.mail().wakes.append(&mut fx.wakes);
        self.deliver(process, None);
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

    /// Whether a process of this name runs.
    pub fn is_alive(&self, name: &str) -> bool {
        self.processes.iter().any(|state| state.name == name && state.alive)
    }

    /// How much memory the exchanges of a process hold, in bytes.
    pub(super) fn lent(&self, name: &str) -> usize {
        (self.processes[self.process(name)].lent)()
    }

    /// Whether a connector has ended by itself, as one that gives up does.
    pub(super) fn has_ended(&self, connector: &str) -> bool {
        let process = self.process(connector);
        !self.ends.iter().any(|end| {
            let is_of_process = matches!(&end.actor, Actor::Machine(machine) if machine.process == process);
            is_of_process && end.peer.is_none() && !end.asks
        })
    }

    /// A process stands still (SIGSTOP), or goes on.
    pub fn set_frozen(&mut self, name: &str, frozen: bool) {
        self.note_trouble(&format!("{name} {}", if frozen { "stands still" } else { "goes on" }));
        let process = self.process(name);
        self.processes[process].frozen = frozen;
    }

    fn process(&self, name: &str) -> usize {
        let place = self.processes.iter().rposition(|state| state.name == name && state.alive);
        place.expect("a process of this world")
    }

    fn add_process(
        &mut self,
        name: &str,
        process: Arc<dyn Process>,
        is_at_rest: Box<dyn Fn() -> bool>,
        lent: Box<dyn Fn() -> usize>,
        sealed: Sealed,
    ) -> usize {
        let clock = self.clock.clone();
        let outside = Arc::new(SimOutside { clock, skew_secs: AtomicI64::new(0), mail: Mutex::default() });
        let name = name.to_owned();
        self.processes.push(ProcessState {
            name,
            process,
            outside,
            sealed,
            alive: true,
            frozen: false,
            address: self.address,
            is_at_rest,
            lent,
            connector: None,
        });
        self.processes.len() - 1
    }

    fn seals(&self) -> (SharedSeals, Sealed) {
        let inner: SharedSeals = match self.sealing {
            Sealing::Fernet => Arc::new(Fernet),
            Sealing::FixedIv => Arc::new(FixedIv),
            Sealing::Plain => return (Arc::new(Plain), Sealed::default()),
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
        let actor = Actor::Visitor(VisitorState::default());
        let visitor = self.ends.len();
        self.ends.push(End::new(name, None, self.near_delay, actor, true));
        if self.is_alive("gateway") {
            self.accept(visitor, self.near_delay);
        } else {
            self.ends[visitor].inbound.reset(self.clock.now());
        }
        Visitor(visitor)
    }

    /// The same by somebody who knows secret and PIN, and may join.
    pub(super) fn visit_as_insider(&mut self) -> Visitor {
        let visitor = self.visit();
        self.ends[visitor.0].may_join = true;
        visitor
    }

    /// From where those come who come from now on.
    pub(super) fn set_address(&mut self, last_octet: u8) {
        self.address = last_octet;
    }

    /// A visitor sends; what its kernel does not take waits until it does.
    pub fn send(&mut self, visitor: Visitor, bytes: impl AsRef<[u8]>) {
        if let Actor::Visitor(state) = &mut self.ends[visitor.0].actor {
            state.unsent.extend_from_slice(bytes.as_ref());
            self.visitor_sends(visitor.0);
        }
    }

    /// A visitor sends so many bytes that do not matter, as fast as its kernel takes them.
    pub fn send_fill(&mut self, visitor: Visitor, bytes: u64) {
        if let Actor::Visitor(state) = &mut self.ends[visitor.0].actor {
            state.fill = bytes;
            self.visitor_sends(visitor.0);
        }
    }

    /// A visitor sends no more (FIN).
    pub fn send_end(&mut self, visitor: Visitor) {
        if let Actor::Visitor(state) = &mut self.ends[visitor.0].actor {
            state.ends = true;
            self.visitor_sends(visitor.0);
        }
    }

    /// How many bytes of a visitor its kernel has not taken.
    pub fn unsent(&self, visitor: Visitor) -> usize {
        match &self.ends[visitor.0].actor {
            Actor::Visitor(state) => state.unsent.len(),
            _ => 0,
        }
    }

    /// A visitor is gone (RST).
    pub fn leave(&mut self, visitor: Visitor) {
        let name = self.ends[visitor.0].name.clone();
        self.note_trouble(&format!("{name} leaves"));
        self.let_go(visitor.0, Close::Reset);
    }

    /// Whether a visitor reads what comes.
    pub fn set_reading(&mut self, visitor: Visitor, read: bool) {
        if let Actor::Visitor(state) = &mut self.ends[visitor.0].actor {
            state.stopped = !read;
        }
    }

    /// A visitor reads at most so many bytes every so many milliseconds.
    pub fn read_slowly(&mut self, visitor: Visitor, bytes: usize, every_ms: u64) {
        let now = self.clock.now();
        if let Actor::Visitor(state) = &mut self.ends[visitor.0].actor {
            state.reads = Pace::new(bytes, every_ms, now);
        }
    }

    /// A visitor sends at most so many bytes every so many milliseconds.
    pub fn send_slowly(&mut self, visitor: Visitor, bytes: usize, every_ms: u64) {
        let now = self.clock.now();
        if let Actor::Visitor(state) = &mut self.ends[visitor.0].actor {
            state.sends = Pace::new(bytes, every_ms, now);
        }
    }

    /// Takes what a visitor got since the last time.
    pub fn received(&mut self, visitor: Visitor) -> Vec<u8> {
        match &mut self.ends[visitor.0].actor {
            Actor::Visitor(state) => std::mem::take(&mut state.received),
            _ => Vec::new(),
        }
    }

    /// Whether a visitor's connection was ended by the gateway: none if not, else whether in good order (FIN).
    pub fn ended(&self, visitor: Visitor) -> Option<bool> {
        match self.ends[visitor.0].actor {
            Actor::Visitor(VisitorState { reset: true, .. }) => Some(false),
            Actor::Visitor(VisitorState { ended: true, .. }) => Some(true),
            _ => None,
        }
    }

    // ---- troubles --------------------------------------------------------------------------------------------------

    /// Whether [`Self::trouble`] would find a link and, if bytes are to be changed, some on their way.
    pub fn may_trouble(&self, connector: &str, trouble: LinkTrouble) -> bool {
        let Some(link) = self.newest_link(connector) else { return false };
        let Some(gateway) = self.ends[link].peer else { return false };
        let end = match trouble {
            LinkTrouble::FlipBit(way)
            | LinkTrouble::FlipBitAt(way, _)
            | LinkTrouble::Drop(way)
            | LinkTrouble::Reorder(way)
            | LinkTrouble::Repeat(way)
            | LinkTrouble::Cut(way) => match way {
                Way::ToGateway => gateway,
                Way::ToConnector => link,
            },
            LinkTrouble::Reset | LinkTrouble::Clog | LinkTrouble::Forget => return true,
        };
        self.ends[end].inbound.is_unread()
    }

    /// Something happens to the newest link of a connector.
    ///
    /// # Panics
    /// If it cannot.
    pub fn trouble(&mut self, connector: &str, trouble: LinkTrouble) {
        assert!(self.try_trouble(connector, trouble), "{connector} has a link, and something is under way");
    }

    /// The same; false if the connector has no link, or nothing is under way that could be changed.
    pub fn try_trouble(&mut self, connector: &str, trouble: LinkTrouble) -> bool {
        let Some(link) = self.newest_link(connector) else { return false };
        let gateway = self.ends[link].peer.expect("a link has two ends");
        let now = self.clock.now();
        let end_of = |way| match way {
            Way::ToGateway => (gateway, format!("{connector} > gateway")),
            Way::ToConnector => (link, format!("gateway > {connector}")),
        };
        let both = (gateway, format!("{connector} <-> gateway"));
        let (where_to, what) = match trouble {
            LinkTrouble::FlipBit(way) | LinkTrouble::FlipBitAt(way, _) => {
                (end_of(way), "one bit is flipped on the way")
            }
            LinkTrouble::Drop(way) => (end_of(way), "what is on the way is swallowed"),
            LinkTrouble::Reorder(way) => (end_of(way), "what is on the way comes in another order"),
            LinkTrouble::Repeat(way) => (end_of(way), "what is on the way comes twice"),
            LinkTrouble::Cut(way) => (end_of(way), "cut off half-way"),
            LinkTrouble::Reset => (both, "reset"),
            LinkTrouble::Clog => (both, "nothing passes any more"),
            LinkTrouble::Forget => (both, "nothing passes any more, and the connector is told so"),
        };
        let (end, place) = where_to;
        let inbound = &mut self.ends[end].inbound;
        let tampered = match trouble {
            LinkTrouble::FlipBit(_) => inbound.tamper(|bytes| {
                let place = bytes.len() / 2;
                bytes[place] ^= 1;
            }),
            LinkTrouble::FlipBitAt(_, bit) => inbound.tamper(|bytes| {
                let place = bit % (bytes.len() * 8);
                bytes[place / 8] ^= 1 << (place % 8);
            }),
            LinkTrouble::Drop(_) => inbound.tamper(Vec::clear),
            LinkTrouble::Reorder(_) => inbound.reorder(),
            LinkTrouble::Repeat(_) => inbound.tamper(|bytes| bytes.extend_from_within(..)),
            LinkTrouble::Cut(_) => inbound.tamper(|bytes| bytes.truncate(bytes.len() / 2)),
            LinkTrouble::Reset | LinkTrouble::Clog | LinkTrouble::Forget => true,
        };
        if !tampered {
            return false;
        }
        match trouble {
            LinkTrouble::FlipBit(_)
            | LinkTrouble::FlipBitAt(..)
            | LinkTrouble::Drop(_)
            | LinkTrouble::Reorder(_)
            | LinkTrouble::Repeat(_) => {}
            LinkTrouble::Cut(_) => inbound.end(now + self.link_delay),
            LinkTrouble::Reset => {
                for end in [gateway, link] {
                    let inbound = &mut self.ends[end].inbound;
                    inbound.clogged = false;
                    inbound.reset(now);
                }
            }
            LinkTrouble::Clog => {
                inbound.clogged = true;
                self.ends[link].inbound.clogged = true;
            }
            LinkTrouble::Forget => {
                inbound.clogged = true;
                self.ends[link].inbound.clogged = true;
                let machine = self.machine(link);
                machine.conn.broke();
                machine.woken = true;
            }
        }
        self.note_trouble(&format!("{place}: {what}"));
        true
    }

    /// What was clogged passes again.
    pub fn unclog_all(&mut self) {
        self.note_trouble("everything passes again");
        for end in &mut self.ends {
            end.inbound.clogged = false;
        }
    }

    /// What a listener on the way has of a connector's newest link: everything that the connector sent, its join first.
    pub fn captured(&self, connector: &str) -> Vec<u8> {
        let link = self.newest_link(connector).expect("the connector has a link");
        self.ends[link].captured.clone().unwrap_or_default()
    }

    /// The end of a connector's newest link to which bytes go this way, if what was last sent this way is a record.
    pub(super) fn joined_link(&self, connector: &str, way: Way) -> Option<usize> {
        let link = self.newest_link(connector)?;
        let gateway = self.ends[link].peer?;
        let (end, by_gateway) = match way {
            Way::ToConnector => (link, true),
            Way::ToGateway => (gateway, false),
        };
        self.referee.as_ref().is_some_and(|referee| referee.has_greeted(gateway, by_gateway)).then_some(end)
    }

    /// Whether somebody still holds this end of a connection.
    pub(super) fn is_held(&self, end: usize) -> bool {
        !matches!(self.ends[end].actor, Actor::Gone)
    }

    /// The same, if it has a link.
    pub(super) fn try_captured(&self, connector: &str) -> Option<Vec<u8>> {
        self.ends[self.newest_link(connector)?].captured.clone()
    }

    fn newest_link(&self, connector: &str) -> Option<usize> {
        let process = self.process(connector);
        let is_link = |end: &End| {
            let of_process = matches!(&end.actor, Actor::Machine(machine) if machine.process == process);
            of_process && end.captured.is_some() && end.peer.is_some()
        };
        self.ends.iter().rposition(is_link)
    }

    /// No machine reads or writes more than so many bytes at once from now on: bytes are cut anywhere.
    pub fn limit_io(&mut self, bytes: usize) {
        self.io_bytes_max = bytes.clamp(1, READ_BYTES);
    }

    /// Each read and write of a machine takes some number of bytes, drawn anew each time.
    pub fn make_ragged(&mut self) {
        self.ragged = true;
    }

    /// Between visitors and the gateway, and connectors and their apps, bytes take so long one way.
    pub fn set_near_delay_ms(&mut self, ms: u64) {
        self.near_delay = Duration::from_millis(ms);
    }

    /// A failure shows the last lines of the transcript only.
    pub fn show_tail(&mut self, lines: usize) {
        self.tail = Some(lines);
    }

    fn io_bytes(&mut self) -> usize {
        const SOME: u32 = 16;
        if !self.ragged {
            return self.io_bytes_max;
        }
        let max = if self.rng.next_u32().is_multiple_of(SOME) { 16 } else { self.io_bytes_max };
        1 + self.rng.next_u32() as usize % max
    }

    fn note_trouble(&mut self, what: &str) {
        self.transcript.trouble(self.clock.now(), what);
    }

    // ---- time ------------------------------------------------------------------------------------------------------

    /// What a right civil clock says.
    pub(super) fn unix_now(&self) -> UnixSecs {
        UnixSecs(EPOCH + self.clock.now().since_origin().as_secs())
    }

    /// What the civil clock of a process says.
    pub(super) fn civil_now(&self, name: &str) -> UnixSecs {
        self.processes[self.process(name)].outside.now().unix
    }

    /// What the virtual clock says.
    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Lets so many virtual milliseconds pass.
    pub fn run_ms(&mut self, ms: u64) {
        self.run_until(Duration::from_millis(ms), |_| false);
    }

    /// Lets time pass until something is so, and at most this long; false if it never was. Asks at each moment at which
    /// anything happened.
    pub fn run_until(&mut self, at_most: Duration, mut is_so: impl FnMut(&mut Self) -> bool) -> bool {
        let until = self.clock.now() + at_most;
        loop {
            self.settle();
            if is_so(self) {
                return true;
            }
            match self.next_moment() {
                Some(next) if next <= until => self.clock.set(next),
                _ => break,
            }
        }
        self.clock.set(until);
        false
    }

    /// Everyone leaves or is asked to stop, and after a while nobody holds anything any more.
    ///
    /// # Panics
    /// If somebody does.
    pub fn come_to_rest(&mut self) {
        /// Whatever is clogged is silent for 25 s.
        const LONG_ENOUGH_MS: u64 = 60_000;
        for end in 0..self.ends.len() {
            if matches!(self.ends[end].actor, Actor::Visitor(_)) {
                self.leave(Visitor(end));
            }
        }
        let alive = self.processes.iter().filter(|state| state.alive);
        let names: Vec<String> = alive.map(|state| state.name.clone()).collect();
        for name in &names {
            self.drain(name);
        }
        self.run_ms(LONG_ENOUGH_MS);
        for name in names {
            assert!(self.is_at_rest(&name), "{name} holds something");
        }
    }

    /// The transcript so far.
    pub fn transcript(&mut self) -> String {
        self.transcript.text()
    }

    /// Lets everyone act who can, without time passing.
    fn settle(&mut self) {
        let mut last = 0;
        for _ in 0..TURNS_MAX {
            let mut acted = self.open_dials();
            for end in 0..self.ends.len() {
                if self.turn(end) {
                    (acted, last) = (true, end);
                }
            }
            if !acted {
                if self.referee.is_some() {
                    self.check_deadlines();
                    self.check_memory();
                }
                return self.check_rest();
            }
        }
        let End { name, peer, .. } = &self.ends[last];
        let peer = peer.map_or("nobody", |peer| &self.ends[peer].name);
        panic!("something spins: last {name}, connected with {peer}");
    }

    fn next_moment(&self) -> Option<Instant> {
        let now = self.clock.now();
        let ends = self.ends.iter().flat_map(|end| {
            let writable = |_| self.ends[end.peer?].inbound.writable_at();
            let (reads, own) = match &end.actor {
                Actor::Machine(machine) if self.processes[machine.process].frozen => (false, None),
                Actor::Machine(machine) => {
                    let room = Some(()).filter(|()| machine.todo.write).and_then(writable);
                    let wakes = [machine.todo.wake_at.map(|(at, _)| at), room];
                    (machine.todo.read, wakes.into_iter().flatten().filter(|at| *at > now).min())
                }
                Actor::Visitor(state) => {
                    let sends = state.sends.filter(|_| !state.unsent.is_empty()).map(|pace| pace.next);
                    let reads = state.reads.filter(|_| !state.stopped).map(|pace| pace.next);
                    (!state.stopped, sends.into_iter().chain(reads).filter(|at| *at > now).min())
                }
                Actor::App { wait_until, stop_until, .. } => {
                    (true, wait_until.iter().chain(stop_until).min().copied())
                }
                Actor::Gone => (true, None),
            };
            [end.inbound.ready_at().filter(|_| reads), own]
        });
        let dials = self.dials.iter().map(|(at, process, _)| {
            let frozen = self.processes[*process].frozen;
            Some(*at).filter(|_| !frozen)
        });
        ends.chain(dials).flatten().filter(|at| *at > now).min()
    }

    fn turn(&mut self, end: usize) -> bool {
        match &self.ends[end].actor {
            Actor::Machine(_) => self.turn_machine(end),
            Actor::Visitor(_) => self.turn_visitor(end),
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
        let room = self.ends[end].peer.is_some() && self.room(end) > 0;
        let arrived = self.ends[end].inbound.ready_at().is_some_and(|at| at <= now);
        let Actor::Machine(machine) = &mut self.ends[end].actor else { return false };
        if self.processes[machine.process].frozen {
            return false;
        }
        let due = machine.todo.wake_at.filter(|(at, _)| *at <= now);
        let todo = machine.todo;
        if !(machine.woken || due.is_some() || (todo.read && arrived) || (todo.write && room)) {
            return false;
        }
        if let Some((_, why)) = due {
            self.show_deadline(end, why);
        }
        loop {
            let todo = self.advance(end);
            if let Some(how) = todo.close {
                self.let_go(end, how);
                return true;
            }
            let mut moved = todo.again;
            if todo.write {
                let mut output = self.machine(end).conn.output().to_vec();
                output.truncate(self.io_bytes());
                let count = self.put(end, &output);
                self.machine(end).conn.sent(count);
                moved |= count > 0;
            }
            self.show_later();
            if todo.shutdown {
                self.put_end(end);
                self.machine(end).conn.has_shut_down();
                moved = true;
            }
            let io_bytes = self.io_bytes();
            if todo.read
                && let Some(item) = self.ends[end].inbound.read(now, io_bytes)
            {
                let conn = &mut self.machine(end).conn;
                match item {
                    Item::Bytes(bytes) => conn.received(&bytes),
                    Item::End => conn.ended(),
                    Item::Reset => conn.broke(),
                }
                moved = true;
            }
            moved |= self.machine(end).woken;
            if !moved {
                return true;
            }
        }
    }

    /// Calls `advance`, and once more to see that this changes nothing.
    fn advance(&mut self, end: usize) -> Todo {
        let machine = self.machine(end);
        machine.woken = false;
        let process = machine.process;
        let todo = machine.conn.advance();
        machine.todo = todo;
        self.note_state(end, todo);
        self.deliver(process, Some(end));
        if !todo.again && todo.close.is_none() && !self.machine(end).woken {
            self.check_advance(end, "is called again");
        }
        todo
    }

    fn note_state(&mut self, end: usize, todo: Todo) {
        let End { peer, asks, captured, talk, name, .. } = &self.ends[end];
        let is_link = peer.is_some_and(|peer| self.ends[peer].talk.is_link);
        let role = match (*peer, name == "gateway") {
            (None, _) if !asks => "supervisor",
            (_, true) if is_link => "gateway's link",
            (_, true) => "visitor's connection",
            _ if captured.is_some() => {
                if talk.is_link {
                    "connector's link"
                } else {
                    "connector that joins"
                }
            }
            _ => "app's connection",
        };
        if let Some(referee) = &mut self.referee {
            referee.state(role, &todo);
        }
    }

    /// Time may pass now: nobody has anything left to do, so calling a machine changes nothing. If it does, a wake-up
    /// was lost.
    fn check_rest(&mut self) {
        for end in 0..self.ends.len() {
            if let Actor::Machine(machine) = &self.ends[end].actor
                && !self.processes[machine.process].frozen
            {
                self.check_advance(end, "was left alone");
            }
        }
    }

    /// # Panics
    /// If somebody owes something and would never be called again.
    fn check_deadlines(&self) {
        for End { name, peer, actor, asks, captured, .. } in &self.ends {
            let Actor::Machine(machine) = actor else { continue };
            let MachineState { process, todo, .. } = machine;
            if self.processes[*process].frozen {
                continue;
            }
            let is_link = captured.is_some() || peer.is_some_and(|peer| self.ends[peer].talk.is_link);
            let is_supervisor = peer.is_none() && !*asks && *name != "gateway";
            let has_link = |end: &End| {
                let of_process = matches!(&end.actor, Actor::Machine(other) if other.process == *process);
                of_process && end.captured.is_some()
            };
            let is_dialled = |(_, of, dial): &(Instant, usize, Dial)| {
                of == process && dial.to.to_string().starts_with("gateway")
            };
            let is_alone =
                is_supervisor && !self.ends.iter().any(has_link) && !self.dials.iter().any(is_dialled);
            let is_refused = peer.is_none() && *asks;
            let owes = (todo.write && !is_refused) || is_link || is_alone;
            let peer = peer.map_or("nobody", |peer| &self.ends[peer].name);
            assert!(
                !owes || todo.wake_at.is_some(),
                "deadlines: a machine of {name} (connected with {peer}) owes something and has none: {todo:?}"
            );
        }
    }

    /// # Panics
    /// If a connection holds more than the bound that `gesher check` prints has for one.
    fn check_memory(&self) {
        for End { name, actor, .. } in &self.ends {
            let Actor::Machine(machine) = actor else { continue };
            let (input, output) = machine.conn.held();
            // A link seals what it gathered at once: all that may wait, and one record more.
            let most = (limits::RECEIVE_BUFFER_BYTES, limits::SEND_BUFFER_BYTES + limits::MESSAGE_BYTES_MAX);
            assert!(
                input <= most.0 && output <= most.1,
                "memory: a connection of {name} holds {input} B unread and {output} B unsent, of {most:?}"
            );
        }
    }

    /// Whether something is on its way to a visitor, or the connection has ended.
    pub(super) fn is_answered(&self, visitor: Visitor) -> bool {
        let End { inbound, .. } = &self.ends[visitor.0];
        inbound.bytes() > 0 || inbound.closed || self.ended(visitor).is_some()
    }

    /// How many bytes of what a visitor sent the gateway has read.
    pub(super) fn taken(&self, visitor: Visitor) -> usize {
        let unread = self.ends[visitor.0].peer.map_or(0, |peer| self.ends[peer].inbound.bytes());
        match &self.ends[visitor.0].actor {
            Actor::Visitor(state) => state.sent.saturating_sub(unread),
            _ => 0,
        }
    }

    /// # Panics
    /// If a machine that has nothing to do does something, or has something else to do than it said.
    fn check_advance(&mut self, end: usize, when: &str) {
        let machine = self.machine(end);
        let process = machine.process;
        let (before, waiting) = (machine.todo, machine.conn.output().len());
        let after = machine.conn.advance();
        let wrote = machine.conn.output().len() != waiting;
        let fx = std::mem::take(&mut *self.processes[process].outside.mail());
        let idle = fx.wakes.is_empty() && fx.dials.is_empty() && fx.events.is_empty();
        if before != after || wrote || !idle {
            let name = &self.ends[end].name;
            let peer = self.ends[end].peer.map_or("nobody", |peer| &self.ends[peer].name);
            panic!(
                "a machine of {name} (connected with {peer}) acts when it {when}:\n{before:?}\n{after:?}\n{fx:?}"
            );
        }
    }

    fn machine(&mut self, end: usize) -> &mut MachineState {
        match &mut self.ends[end].actor {
            Actor::Machine(machine) => machine,
            _ => unreachable!("only called for machines"),
        }
    }

    fn show_deadline(&mut self, end: usize, why: Why) {
        if matches!(why, Why::Ping | Why::Peers | Why::Linger | Why::Sleep) {
            return;
        }
        let peer = self.ends[end].peer.map(|peer| self.ends[peer].name.as_str()).unwrap_or_default();
        let what = format!("{why:?} {peer}").to_ascii_lowercase();
        let name = &self.ends[end].name;
        self.transcript.decided(self.clock.now(), name, "deadline", what.trim_end());
    }

    /// Shows that requests are done.
    fn show_later(&mut self) {
        for (process, event) in std::mem::take(&mut self.later) {
            self.transcript.event(self.clock.now(), &self.processes[process].name, &event);
        }
    }

    /// Carries out what a process asked for; `end` is the connection whose machine was called.
    fn deliver(&mut self, process: usize, end: Option<usize>) {
        let now = self.clock.now();
        let state = &self.processes[process];
        let Effects { wakes, dials, events } = std::mem::take(&mut *state.outside.mail());
        let sealed = std::mem::take(&mut *state.sealed.lock().unwrap_or_else(PoisonError::into_inner));
        if !state.alive {
            return;
        }
        if let Some(end) = end
            && let Some(peer) = self.ends[end].peer
        {
            let gateway = if self.ends[end].asks { peer } else { end };
            for plain in sealed {
                if let Some(referee) = &mut self.referee {
                    referee.record(gateway, end == gateway, &plain);
                }
                self.transcript.record(now, &self.ends[end].name, &self.ends[peer].name, gateway, &plain);
            }
        }
        for event in events {
            if let Some(referee) = &mut self.referee {
                let by_stranger =
                    end.and_then(|end| self.ends[end].peer).is_some_and(|peer| !self.ends[peer].may_join);
                referee.event(now, &self.processes[process].name, &event, by_stranger);
            }
            match event {
                Event::Request(_) => self.later.push((process, event)),
                _ => self.transcript.event(now, &self.processes[process].name, &event),
            }
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
            let delay = match &dial.to {
                Endpoint::Tcp { host, .. } if host == "gateway" => self.link_delay * 2,
                Endpoint::Tcp { host, .. } => self.apps.get(host).map_or(Duration::ZERO, |app| app.dial_time),
                Endpoint::Unix { .. } => panic!("a world has no unix sockets"),
            };
            self.dials.push((now + delay, process, dial));
        }
    }

    fn open_dials(&mut self) -> bool {
        let now = self.clock.now();
        let may_open = |process: usize| !self.processes[process].frozen;
        let is_due = |(at, process, _): &(Instant, usize, Dial)| *at <= now && may_open(*process);
        let Some(place) = self.dials.iter().position(is_due) else { return false };
        let (_, process, Dial { to, machine, .. }) = self.dials.remove(place);
        let outside = self.processes[process].outside.clone();
        let Endpoint::Tcp { host, .. } = &to else { panic!("a world has no unix sockets") };
        let gateway_is_up = self.is_alive("gateway");
        let app_is_up = self.apps.get(host).is_some_and(|app| app.up);
        if host == "gateway" && gateway_is_up {
            let end = self.add_machine(process, Conn::new(machine, outside), None, self.link_delay, true);
            self.ends[end].captured = Some(Vec::new());
            self.ends[end].may_join = true;
            self.accept(end, self.link_delay);
            for end in [Some(end), self.ends[end].peer].into_iter().flatten() {
                self.ends[end].inbound.bottleneck = self.bottleneck;
            }
        } else if app_is_up {
            let end = self.add_machine(process, Conn::new(machine, outside), None, self.near_delay, true);
            let actor =
                Actor::App { app: host.clone(), conn: Box::default(), wait_until: None, stop_until: None };
            let peer = self.ends.len();
            self.ends.push(End::new(host.clone(), Some(end), self.near_delay, actor, false));
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
        let machine = MachineState { process, conn, woken: true, todo: Todo::default() };
        self.ends.push(End::new(name, peer, delay, Actor::Machine(machine), asks));
        self.ends.len() - 1
    }

    /// The gateway takes the connection whose other end is `caller`, or closes it.
    fn accept(&mut self, caller: usize, delay: Duration) {
        let process = self.process("gateway");
        let address = match &self.ends[caller].actor {
            Actor::Machine(machine) => self.processes[machine.process].address,
            _ => self.address,
        };
        let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, address)), 40_000);
        let state = &self.processes[process];
        let accepted =
            state.process.clone().accept(from).map(|machine| Conn::new(machine, state.outside.clone()));
        match accepted {
            Some(conn) => {
                let end = self.add_machine(process, conn, Some(caller), delay, false);
                self.ends[caller].peer = Some(end);
            }
            None => {
                let name = self.ends[caller].name.clone();
                self.transcript.sent(self.clock.now(), "gateway", &name, "reset");
                self.ends[caller].inbound.reset(self.clock.now() + delay);
            }
        }
    }

    /// One end is closed, or reset.
    fn let_go(&mut self, end: usize, how: Close) {
        let now = self.clock.now();
        let actor = std::mem::replace(&mut self.ends[end].actor, Actor::Gone);
        let reset = how == Close::Reset || self.ends[end].inbound.is_unread();
        if let Some(peer) = self.ends[end].peer {
            let at = now + self.ends[end].delay;
            let was_open = !self.ends[peer].inbound.closed && !matches!(self.ends[peer].actor, Actor::Gone);
            if reset {
                self.ends[peer].inbound.reset(at);
            } else {
                self.ends[peer].inbound.end(at);
            }
            if was_open {
                let (name, peer) = (self.ends[end].name.clone(), self.ends[peer].name.clone());
                self.transcript.sent(now, &name, &peer, if reset { "reset" } else { "end" });
            }
        }
        if !self.ends[end].inbound.clogged {
            self.ends[end].inbound = Pipe::default();
        }
        if let Actor::Machine(machine) = actor {
            let process = machine.process;
            drop(machine);
            self.deliver(process, None);
        }
        self.show_later();
    }

    // ---- bytes -----------------------------------------------------------------------------------------------------

    /// How many bytes may be sent from `end`.
    fn room(&self, end: usize) -> usize {
        let End { peer, delay, .. } = &self.ends[end];
        peer.map_or(PIPE_BYTES, |peer| self.ends[peer].inbound.room(self.clock.now(), *delay))
    }

    /// Sends from `end` what its peer's pipe takes; returns how much.
    fn put(&mut self, end: usize, bytes: &[u8]) -> usize {
        let now = self.clock.now();
        // Whom the gateway did not take learns it later; until then his kernel takes what he sends.
        let Some(peer) = self.ends[end].peer else { return bytes.len() };
        let delay = self.ends[end].delay;
        let count = bytes.len().min(self.room(end));
        let inbound = &mut self.ends[peer].inbound;
        if count < bytes.len() {
            inbound.is_full();
        }
        let bytes = &bytes[..count];
        inbound.send(now, delay, bytes);
        if self.sealing == Sealing::Plain {
            return count;
        }
        if let Some(captured) = &mut self.ends[end].captured {
            captured.extend_from_slice(bytes);
        }
        let (from, to) = (self.ends[end].name.clone(), self.ends[peer].name.clone());
        let asks = self.ends[end].asks;
        let is_visitor = matches!(self.ends[end].actor, Actor::Visitor(_));
        let talk = &mut self.ends[if asks { end } else { peer }].talk;
        if is_visitor && talk.is_link && count > 0 {
            self.transcript.sent(now, &from, &to, &format!("{count} B on a link that is not its own"));
        }
        if asks {
            talk.request(bytes);
        } else {
            talk.response(bytes);
        }
        let lines = std::mem::take(&mut talk.lines);
        for said in lines {
            match said {
                Said::Line(line) => self.transcript.sent(now, &from, &to, &line),
                Said::Body(bytes) => self.transcript.body(now, &from, &to, &bytes),
                Said::Accepted(signature) => {
                    if let (Some(referee), Actor::Machine(gateway)) =
                        (&mut self.referee, &self.ends[end].actor)
                    {
                        referee.accepted(gateway.process, signature);
                    }
                    self.transcript.decided(now, &from, "auth", "accepted: in time, first use, proof right")
                }
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
        let sent = self.visitor_sends(end);
        let now = self.clock.now();
        let End { inbound, actor: Actor::Visitor(state), .. } = &mut self.ends[end] else { return sent };
        let room = Pace::room(&state.reads, now);
        if state.stopped || room == 0 {
            return sent;
        }
        match inbound.read(now, room) {
            None => return sent,
            Some(Item::Bytes(bytes)) => {
                Pace::moved(&mut state.reads, now);
                state.received.extend(bytes);
            }
            Some(Item::End) => state.ended = true,
            Some(Item::Reset) => state.reset = true,
        }
        true
    }

    /// Sends what a visitor's kernel takes.
    fn visitor_sends(&mut self, end: usize) -> bool {
        let now = self.clock.now();
        let room = self.room(end);
        let Actor::Visitor(state) = &mut self.ends[end].actor else { return false };
        let room = room.min(Pace::room(&state.sends, now));
        if room == 0 {
            return false;
        }
        let mut bytes = std::mem::take(&mut state.unsent);
        let filled = if bytes.is_empty() { state.fill.min(READ_BYTES as u64) } else { 0 };
        state.fill -= filled;
        bytes.resize(bytes.len() + filled as usize, 0);
        let ends = state.ends && bytes.is_empty();
        let count = self.put(end, &bytes[..bytes.len().min(room)]);
        bytes.drain(..count);
        let Actor::Visitor(state) = &mut self.ends[end].actor else { return false };
        state.unsent = bytes;
        state.sent += count;
        if count > 0 {
            Pace::moved(&mut state.sends, now);
        }
        if ends {
            state.ends = false;
            self.put_end(end);
        }
        count > 0 || ends
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
                conn.received(&bytes, self.apps.get_mut(app).expect("an app of this world"));
            }
            Item::End => conn.ended = true,
            Item::Reset => {
                self.ends[end].actor = Actor::Gone;
            }
        }
        true
    }

    fn app_acts(&mut self, end: usize) -> bool {
        let now = self.clock.now();
        let room = self.room(end);
        let Actor::App { app, conn, wait_until, stop_until } = &mut self.ends[end].actor else {
            return false;
        };
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
            Act::Fill(left) if *left > 0 => {
                let portion = room.min(READ_BYTES).min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= portion as u64;
                self.put(end, &vec![0; portion]);
                return portion > 0;
            }
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
            Some(Act::Fill(_)) => {}
            Some(Act::WaitMs(ms)) => *wait_until = Some(now + Duration::from_millis(ms)),
            Some(Act::StopReadingMs(ms)) => *stop_until = Some(now + Duration::from_millis(ms)),
            Some(Act::AwaitBody) => {
                let request = conn.last(&self.apps[app.as_str()]);
                if !request.body.is_empty() {
                    let what = crate::transcript::portion(&request.body);
                    let name = self.ends[end].name.clone();
                    self.transcript.decided(now, &name, "body", &format!("whole: {what}"));
                }
            }
            Some(Act::Echo) => conn.echo = true,
            Some(Act::Mirror) => {
                conn.mirror = true;
                conn.reflect(&self.apps[app.as_str()]);
            }
            Some(Act::Finish) => self.put_end(end),
            Some(Act::Close) => self.let_go(end, Close::Quietly),
            Some(Act::Reset) => self.let_go(end, Close::Reset),
            None => {}
        }
        true
    }
}

/// A failed test shows how it came to that.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = self.transcript.text();
            let lines = text.lines().count();
            for line in text.lines().skip(self.tail.map_or(0, |tail| lines.saturating_sub(tail))) {
                eprintln!("{line}");
            }
        }
    }
}

impl End {
    fn new(name: String, peer: Option<usize>, delay: Duration, actor: Actor, asks: bool) -> Self {
        let (inbound, talk) = (Pipe::default(), Talk::default());
        Self { name, peer, delay, inbound, actor, talk, asks, captured: None, may_join: false }
    }
}

/// Runs a conversation twice, with real Fernet and with fixed IVs, and returns the one transcript of both; and once more
/// captured, to replay what each process got.
///
/// # Panics
/// If the two differ, somebody holds something after everyone has left, or a replay decides something else.
pub fn conversation(title: &str, seed: u64, link_ms: u64, run: impl Fn(&mut World)) -> String {
    let [fernet, fixed] = [Sealing::Fernet, Sealing::FixedIv].map(|sealing| {
        let mut world = World::new(title, seed, link_ms, sealing);
        run(&mut world);
        let transcript = world.transcript();
        world.come_to_rest();
        transcript
    });
    assert_eq!(fernet, fixed, "how records are sealed changes nothing else");
    // What decides is drawn from another seed there, so that waits are others.
    let mut world = World::new(title, seed, link_ms, Sealing::Fernet);
    world.capture_all(u64::MAX);
    run(&mut world);
    world.come_to_rest();
    for (name, file) in world.captures() {
        let mut shown = String::new();
        let replayed = Replay::open(file.as_slice()).map_err(ReplayError::from);
        let replayed = replayed.and_then(|replay| replay.run(|lines| shown += lines));
        assert!(replayed.is_ok(), "{name}: {replayed:?}\n{shown}");
    }
    fixed
}

/// The keys of a world; deriving them takes a while, so each pair of secret and PIN is derived once.
pub(super) fn test_keys(secret: &str, pin: &str) -> Keys {
    static DERIVED: Mutex<BTreeMap<(String, String), Keys>> = Mutex::new(BTreeMap::new());
    let mut derived = DERIVED.lock().unwrap_or_else(PoisonError::into_inner);
    let derive = || {
        let secret = Secret::new(secret.as_bytes().to_vec()).expect("not empty");
        Keys::derive(&secret, &Pin::parse(pin).expect("a PIN of this world"))
    };
    derived.entry((secret.to_owned(), pin.to_owned())).or_insert_with(derive).duplicate()
}
