//! The world: actors, the pipes between them, and time.

mod apps;
mod captures;
mod checks;
mod connections;
mod links;
mod machines;
mod network;
mod processes;
mod time;
mod visitors;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use self::captures::Tape;
pub use self::links::{LinkTrouble, Way};
pub use self::processes::Joiner;
use self::processes::SimOutside;
pub(super) use self::processes::test_keys;
use self::visitors::VisitorState;
use super::app::{App, AppConn};
use super::chaos::Referee;
use super::pipe::{Bottleneck, Pipe};
use super::tap::Sealed;
use crate::capture::{Replay, ReplayError};
use crate::drive::{Conn, Todo};
use crate::event::Event;
use crate::hub::ConnectorHub;
use crate::machine::{Dial, Process};
use crate::time::Instant;
use crate::transcript::{Talk, Transcript};

/// A read takes at most this much, as from a socket.
const READ_BYTES: usize = 64 * 1024;

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
    dials: Vec<Dialling>,
    /// Connectors that dial the gateway get no answer.
    gateway_is_hidden: bool,
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
    /// Visitors come through a proxy beside the gateway.
    proxied: bool,
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

/// A connection that somebody opens.
struct Dialling {
    /// When it is open, or is not.
    at: Instant,
    process: usize,
    /// Somebody answered in time.
    answered: bool,
    dial: Dial,
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
    /// The narrowest place of its links.
    bottleneck: Option<Bottleneck>,
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
    /// What was just read.
    read: Vec<u8>,
    /// What it said last.
    todo: Todo,
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
            gateway_is_hidden: false,
            transcript,
            visitors: 0,
            io_bytes_max: READ_BYTES,
            ragged: false,
            near_delay: Duration::ZERO,
            address: 1,
            proxied: false,
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

    /// How long the world has been there.
    pub fn elapsed(&self) -> Duration {
        self.clock.now().since_origin()
    }

    /// The transcript so far.
    pub fn transcript(&mut self) -> String {
        self.transcript.text()
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

    fn draw(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        seed
    }

    fn machine(&mut self, end: usize) -> &mut MachineState {
        match &mut self.ends[end].actor {
            Actor::Machine(machine) => machine,
            _ => unreachable!("only called for machines"),
        }
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
