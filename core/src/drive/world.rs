//! The outside world of one process's machines: wakes, dials, and who carries connections.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use super::conn::{Conn, Outside, deliver};
use super::dial::Dialling;
use super::flags::{Flag, Flags};
use super::stop::StopHandle;
use crate::event::Event;
use crate::machine::{Cx, Dial, DialFault, Effects, Machine, PortId, Process};
use crate::time::Now;

/// How a runtime carries connections: by tasks, or by threads.
pub trait Carrier: Send + Sync + Sized + 'static {
    /// What a connection is woken by.
    type Flag: Flag;
    /// What a connection's bytes go through.
    type Socket;

    /// How many connections a process may have where [`super::Options::connections_max`] does not say.
    const CONNECTIONS_MAX: usize;

    /// Reads the clocks; the monotonic one begins with the process.
    fn now(&self) -> Now;

    /// Runs a machine with a [`Place`] of its own, which is open when this returns; once the run is over, or where
    /// the system does not let it begin, the machine is told so instead.
    fn carry(&self, world: Arc<World<Self>>, machine: Box<dyn Machine>, start: Start<Self::Socket>);

    /// The run is over: ends the connections of `world`, and every one that it still opens.
    fn cut(&self, world: &World<Self>);
}

/// How a connection begins.
pub enum Start<S> {
    /// Without a socket, for good.
    Supervisor,
    /// It has to be opened.
    Dial(Dialling<S>),
    /// It was accepted.
    Accepted(S),
}

/// What the connections of one process share. Each process has its own, since ports are named per process.
pub struct World<C: Carrier> {
    me: Weak<Self>,
    process: Arc<dyn Process>,
    on_event: Arc<dyn Fn(Event) + Send + Sync>,
    carrier: C,
    pub(super) connections_max: usize,
    flags: Flags<C::Flag>,
    /// Connections that have a socket.
    connected: AtomicUsize,
    supervisor_ended: AtomicBool,
    draining: AtomicBool,
    stop: StopHandle,
}

impl<C: Carrier> World<C> {
    /// The world of `process`, without any connection. `on_event` is told everything that happens, where it happens; it
    /// should not block. `connections_max` is how many connections there may be at once, whoever opened them. `stop` is
    /// rung when something may have come to its end.
    pub fn new(
        process: Arc<dyn Process>,
        on_event: Arc<dyn Fn(Event) + Send + Sync>,
        carrier: C,
        connections_max: usize,
        stop: StopHandle,
    ) -> Arc<Self> {
        process.carries(connections_max);
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            process,
            on_event,
            carrier,
            connections_max,
            flags: Flags::default(),
            connected: AtomicUsize::new(0),
            supervisor_ended: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            stop,
        })
    }

    /// Starts the process's supervisor, if it has one.
    pub(super) fn start(&self) {
        if let Some(machine) = Arc::clone(&self.process).supervisor() {
            self.carry(machine, Start::Supervisor);
        }
    }

    /// Takes in a connection that was accepted, if there is room and the process wants it; else closes it. Where room
    /// runs out the process is asked to make some ([`Process::make_room`]), and this says so: those who make it have to
    /// run before the next one comes.
    pub fn welcome(&self, socket: C::Socket, from: SocketAddr) -> bool {
        // From the last sixteenth on: who comes now, or next, may be a connector.
        let crowded = self.flags.count() >= self.connections_max - self.connections_max.div_ceil(16);
        if crowded {
            self.tell(|process, cx| process.make_room(cx));
        }
        if self.is_full() {
            return crowded;
        }
        // A dual-stack listener shows IPv4 peers as IPv6 ones; who limits by address must not see two.
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let process = Arc::clone(&self.process);
        // A panic costs this connection and not those to come.
        if let Ok(Some(machine)) = catch_unwind(AssertUnwindSafe(|| process.accept(from))) {
            self.carry(machine, Start::Accepted(socket));
        }
        crowded
    }

    /// Tells the process to start nothing new; once.
    pub(super) fn drain(&self) {
        if !self.draining.swap(true, Ordering::AcqRel) {
            self.tell(|process, cx| process.drain(cx));
        }
    }

    /// Whether the process was told to start nothing new.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Whether the process is over because its supervisor ended.
    pub(super) fn has_ended(&self) -> bool {
        self.supervisor_ended.load(Ordering::Acquire)
    }

    /// Whether nothing is left: no connection, no dial, no supervisor.
    pub(super) fn is_empty(&self) -> bool {
        self.flags.count() == 0
    }

    /// Whether a dial under way has lost its purpose: the process drains and no connection could make use of it.
    pub fn gives_up_dials(&self) -> bool {
        self.is_draining() && self.connected.load(Ordering::Acquire) == 0
    }

    /// Lets every connection look again at what it waits for.
    pub(super) fn wake_all(&self) {
        self.flags.all().iter().for_each(Flag::raise);
    }

    /// The flags of all connections.
    pub fn flags(&self) -> Vec<Arc<C::Flag>> {
        self.flags.all()
    }

    /// Who carries the connections.
    pub fn carrier(&self) -> &C {
        &self.carrier
    }

    fn tell(&self, what: impl FnOnce(&dyn Process, &mut Cx<'_>)) {
        let mut fx = Effects::default();
        what(&*self.process, &mut Cx { now: self.now(), fx: &mut fx });
        deliver(&mut fx, self);
    }

    fn is_full(&self) -> bool {
        self.flags.count() >= self.connections_max
    }

    fn carry(&self, machine: Box<dyn Machine>, start: Start<C::Socket>) {
        if let Some(me) = self.me.upgrade() {
            self.carrier.carry(me, machine, start);
        }
    }
}

impl<C: Carrier> Outside for World<C> {
    fn now(&self) -> Now {
        self.carrier.now()
    }

    fn wake(&self, port: PortId) {
        self.flags.wake(port);
    }

    fn dial(&self, to: Dial) {
        match self.me.upgrade() {
            Some(me) if self.is_full() => Conn::could_not_open(to.machine, me, DialFault::Unreachable),
            _ => {
                let dialling = Dialling::new(to.to, self.now().mono + to.timeout);
                self.carry(to.machine, Start::Dial(dialling));
            }
        }
    }

    fn event(&self, event: Event) {
        (self.on_event)(event);
    }
}

/// What a machine is to its process, for as long as it runs: its open port, and what else counts it.
pub struct Place<C: Carrier> {
    world: Arc<World<C>>,
    port: PortId,
    role: Role,
}

#[derive(PartialEq, Eq)]
enum Role {
    Supervisor,
    Dialling,
    Connected,
}

impl<C: Carrier> Place<C> {
    /// Opens the port of a machine, which is woken by `flag` from now on.
    pub fn new(world: Arc<World<C>>, port: PortId, flag: Arc<C::Flag>, start: &Start<C::Socket>) -> Self {
        world.flags.open(port, flag);
        let mut place = Self { world, port, role: Role::Dialling };
        match start {
            Start::Supervisor => place.role = Role::Supervisor,
            Start::Dial(..) => {}
            Start::Accepted(_) => place.is_connected(),
        }
        place
    }

    /// It has a socket now.
    pub fn is_connected(&mut self) {
        if self.role != Role::Connected {
            self.role = Role::Connected;
            self.world.connected.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether it has yet to get its socket.
    pub fn is_dialling(&self) -> bool {
        self.role == Role::Dialling
    }

    /// Where it is.
    pub fn world(&self) -> &World<C> {
        &self.world
    }
}

impl<C: Carrier> Drop for Place<C> {
    fn drop(&mut self) {
        self.world.flags.close(self.port);
        match self.role {
            Role::Supervisor => self.world.supervisor_ended.store(true, Ordering::Release),
            Role::Dialling => {}
            Role::Connected => drop(self.world.connected.fetch_sub(1, Ordering::AcqRel)),
        }
        if self.role == Role::Supervisor || self.world.is_draining() {
            self.world.stop.ring();
        }
    }
}
