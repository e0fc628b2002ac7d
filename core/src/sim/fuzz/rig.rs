//! A process under test: its machines on made-up sockets whose other ends the fuzzer holds, and a clock that it sets.
//!
//! Whatever the fuzzer does, [`Rig`] checks of every machine that
//! - being called again with nothing changed changes nothing;
//! - its buffers stay within what `docs/protocol.md`, 5, says;
//! - its deadlines are not in the past, and nobody spins.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::MemoryBound;
use crate::drive::{Close, Conn, Outside, Todo};
use crate::event::Event;
use crate::limits;
use crate::machine::{Cx, Dial, DialFault, Effects, Machine, PortId, Process};
use crate::time::{Instant, Now, UnixSecs};

/// What the civil clock says at the start: 2026-01-01T00:00:00Z.
const EPOCH: u64 = 1_767_225_600;
/// Acts that are taken from one input: a longer one tells nothing new.
pub(super) const ACTS_MAX: usize = 300;
/// Everything that waits for anything has waited long enough after this.
pub(super) const LONG: Duration = Duration::from_secs(15 * 60);
/// Turns without time passing after which something spins.
const TURNS_MAX: usize = 100_000;

/// See the module.
pub(super) struct Rig {
    outside: Arc<Outdoors>,
    wires: Vec<Wire>,
    dials: Vec<Dial>,
    /// The most that a machine reads or writes at once.
    io_bytes_max: usize,
}

/// What the machines of a process ask of the outside.
#[derive(Default)]
struct Outdoors {
    now: Mutex<Instant>,
    mail: Mutex<Effects>,
    /// What happened, to be shown when something is wrong.
    events: Mutex<Vec<Event>>,
}

impl Outside for Outdoors {
    fn now(&self) -> Now {
        let mono = *lock(&self.now);
        Now { mono, unix: UnixSecs(EPOCH + mono.since_origin().as_secs()) }
    }

    fn wake(&self, port: PortId) {
        lock(&self.mail).wakes.push(port);
    }

    fn dial(&self, dial: Dial) {
        lock(&self.mail).dials.push(dial);
    }

    fn event(&self, event: Event) {
        lock(&self.events).push(event);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One machine on its socket.
struct Wire {
    conn: Option<Conn>,
    woken: bool,
    todo: Todo,
    /// What was sent to the machine and not read by it, and whether FIN follows.
    inbound: Vec<u8>,
    ends: bool,
    /// What it sent and nobody has looked at.
    outbound: Vec<u8>,
    /// Whether the other end takes what is sent.
    takes: bool,
    closed: Option<Close>,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self {
            outside: Arc::default(),
            wires: Vec::new(),
            dials: Vec::new(),
            io_bytes_max: limits::READ_BYTES,
        }
    }

    /// No machine reads or writes more at once from now on.
    pub(super) fn limit_io(&mut self, bytes: usize) {
        self.io_bytes_max = bytes.clamp(1, limits::READ_BYTES);
    }

    pub(super) fn now(&self) -> Now {
        self.outside.now()
    }

    /// Runs a machine on a new socket.
    pub(super) fn open(&mut self, machine: Box<dyn Machine>) -> usize {
        self.wires.push(Wire {
            conn: Some(Conn::new(machine, self.outside.clone())),
            woken: true,
            todo: Todo::default(),
            inbound: Vec::new(),
            ends: false,
            outbound: Vec::new(),
            takes: true,
            closed: None,
        });
        self.wires.len() - 1
    }

    /// What was asked to be dialled since somebody looked.
    pub(super) fn take_dials(&mut self) -> Vec<Dial> {
        std::mem::take(&mut self.dials)
    }

    /// A dial fails.
    pub(super) fn refuse(&mut self, dial: Dial) {
        Conn::could_not_open(dial.machine, self.outside.clone(), DialFault::Refused);
        self.deliver();
    }

    /// Calls something of the process itself.
    pub(super) fn call(&mut self, call: impl FnOnce(&mut Cx<'_>)) {
        let mut fx = Effects::default();
        call(&mut Cx { now: self.now(), fx: &mut fx });
        fx.dials.drain(..).for_each(|dial| self.outside.dial(dial));
        fx.wakes.drain(..).for_each(|port| self.outside.wake(port));
        fx.events.drain(..).for_each(|event| self.outside.event(event));
        self.deliver();
    }

    pub(super) fn drain(&mut self, process: &dyn Process) {
        self.call(|cx| process.drain(cx));
        self.settle();
    }

    pub(super) fn send(&mut self, wire: usize, bytes: &[u8]) {
        let wire = &mut self.wires[wire];
        if wire.conn.is_some() && !wire.ends {
            wire.inbound.extend_from_slice(bytes);
        }
    }

    /// The other end sends no more (FIN).
    pub(super) fn end(&mut self, wire: usize) {
        self.wires[wire].ends = true;
    }

    /// The other end resets.
    pub(super) fn reset(&mut self, wire: usize) {
        let wire = &mut self.wires[wire];
        if let Some(conn) = &mut wire.conn {
            conn.broke();
            wire.woken = true;
        }
    }

    /// Whether the other end takes what is sent to it.
    pub(super) fn set_taking(&mut self, wire: usize, takes: bool) {
        self.wires[wire].takes = takes;
    }

    /// Whether everything gets through to a machine, and from it.
    pub(super) fn is_open(&self, wire: usize) -> bool {
        let wire = &self.wires[wire];
        wire.conn.is_some() && wire.takes && !wire.ends
    }

    /// What happened so far.
    pub(super) fn events(&self) -> Vec<Event> {
        lock(&self.outside.events).clone()
    }

    /// What came out since somebody looked.
    pub(super) fn take_output(&mut self, wire: usize) -> Vec<u8> {
        std::mem::take(&mut self.wires[wire].outbound)
    }

    /// How the machine let go of its socket; none if it has not.
    pub(super) fn closed(&self, wire: usize) -> Option<Close> {
        self.wires[wire].closed
    }

    pub(super) fn all_closed(&self) -> bool {
        self.wires.iter().all(|wire| wire.closed.is_some())
    }

    // ---- running ---------------------------------------------------------------------------------------------------

    /// Lets everyone act who can, without time passing.
    pub(super) fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            self.deliver();
            let mut acted = false;
            for wire in 0..self.wires.len() {
                acted |= self.turn(wire);
            }
            if !acted {
                return self.check_rest();
            }
        }
        let todos: Vec<Todo> = self.wires.iter().map(|wire| wire.todo).collect();
        panic!("something spins: {todos:?}");
    }

    /// Lets time pass, from one deadline to the next.
    pub(super) fn pass(&mut self, wait: Duration) {
        let until = self.now().mono + wait;
        loop {
            self.settle();
            let deadlines = self.wires.iter().filter_map(|wire| wire.todo.wake_at);
            match deadlines.map(|(at, _)| at).min() {
                Some(next) if next <= until => *lock(&self.outside.now) = next,
                _ => break,
            }
        }
        *lock(&self.outside.now) = until;
        self.settle();
    }

    fn turn(&mut self, place: usize) -> bool {
        let now = self.now().mono;
        let wire = &mut self.wires[place];
        let Some(conn) = &mut wire.conn else { return false };
        let due = wire.todo.wake_at.is_some_and(|(at, _)| at <= now);
        let reads = wire.todo.read && (wire.ends || !wire.inbound.is_empty());
        let writes = wire.todo.write && wire.takes;
        if !(wire.woken || due || reads || writes || wire.todo.again) {
            return false;
        }
        if reads {
            let count = wire.inbound.len().min(self.io_bytes_max);
            match count {
                0 => conn.ended(),
                _ => conn.received(&wire.inbound[..count]),
            }
            wire.inbound.drain(..count);
        }
        wire.woken = false;
        let todo = conn.advance();
        wire.todo = todo;
        let (received, waiting) = conn.held();
        assert!(received <= limits::RECEIVE_BUFFER_BYTES, "{received} B were read and not worked off");
        assert!(waiting <= SENT_BYTES_MAX, "{waiting} B wait for the socket");
        self.deliver();
        if !todo.again && todo.close.is_none() && !self.wires[place].woken {
            self.check_advance(place);
        }
        self.write(place, todo);
        true
    }

    /// Does what the machine wants of its socket.
    fn write(&mut self, place: usize, todo: Todo) {
        let wire = &mut self.wires[place];
        let Some(conn) = &mut wire.conn else { return };
        if todo.write && wire.takes {
            let count = conn.output().len().min(self.io_bytes_max);
            wire.outbound.extend_from_slice(&conn.output()[..count]);
            conn.sent(count);
            wire.woken = true;
        }
        if todo.shutdown {
            conn.has_shut_down();
            wire.woken = true;
        }
        if todo.close.is_some() {
            wire.closed = todo.close;
            wire.conn = None;
            wire.todo = Todo::default();
            self.deliver();
        }
    }

    /// Being called again with nothing changed changes nothing.
    fn check_advance(&mut self, place: usize) {
        let wire = &mut self.wires[place];
        let Some(conn) = &mut wire.conn else { return };
        let waiting = conn.output().len();
        let todo = conn.advance();
        assert_eq!(
            (todo, conn.output().len()),
            (wire.todo, waiting),
            "a machine acts when it is called again"
        );
        let mail = std::mem::take(&mut *lock(&self.outside.mail));
        assert!(mail.wakes.is_empty() && mail.dials.is_empty(), "a machine acts when it is called again");
    }

    /// Nobody has anything left to do until time passes.
    fn check_rest(&mut self) {
        let now = self.now().mono;
        for place in 0..self.wires.len() {
            self.check_advance(place);
            let due = self.wires[place].todo.wake_at.filter(|(at, _)| *at <= now);
            assert_eq!(due, None, "a deadline in the past");
        }
    }

    fn deliver(&mut self) {
        let Effects { wakes, dials, .. } = std::mem::take(&mut *lock(&self.outside.mail));
        for wire in &mut self.wires {
            if let Some(conn) = &wire.conn {
                wire.woken |= wakes.contains(&conn.port());
            }
        }
        self.dials.extend(dials);
    }
}

/// What a connection of any kind can have waiting for its socket: the output, and for a link one more record.
const SENT_BYTES_MAX: usize = limits::SEND_BUFFER_BYTES + MemoryBound::LINK_BYTES / 4;
