//! The outside world of one process's machines: clocks, wakes, dials, and the tasks that carry connections.

use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use async_io::Async;
use gesher_core::drive::{Outside, deliver};
use gesher_core::event::Event;
use gesher_core::machine::{Cx, Dial, Effects, Machine, PortId, Process};
use gesher_core::time::{Instant as CoreInstant, Now, UnixSecs};
use smol::Executor;

use crate::conn::{Contained, Start};
use crate::dial::dial;
use crate::ports::{Flag, Ports};
use crate::run::Service;
use crate::socket::Socket;
use crate::stop::StopHandle;

/// What the connections of one process share. Each process has its own, since ports are named per process.
pub(crate) struct World {
    me: Weak<World>,
    origin: Instant,
    process: Arc<dyn Process>,
    on_event: Arc<dyn Fn(Event) + Send + Sync>,
    /// Weak, since its tasks hold this world: the run alone decides how long it lives.
    executor: Weak<Executor<'static>>,
    ports: Ports,
    /// Connections that have a socket.
    connected: AtomicUsize,
    supervisor_ended: AtomicBool,
    draining: AtomicBool,
    stop: StopHandle,
}

impl World {
    pub(crate) fn new(service: &Service, executor: &Arc<Executor<'static>>, stop: &StopHandle) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            origin: Instant::now(),
            process: Arc::clone(&service.process),
            on_event: Arc::clone(&service.on_event),
            executor: Arc::downgrade(executor),
            ports: Ports::default(),
            connected: AtomicUsize::new(0),
            supervisor_ended: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            stop: stop.clone(),
        })
    }

    /// Starts the process's supervisor, if it has one.
    pub(crate) fn start(&self) {
        if let Some(machine) = Arc::clone(&self.process).supervisor() {
            self.carry(machine, Start::Supervisor);
        }
    }

    /// Takes in a connection that was accepted, if the process wants it.
    pub(crate) fn welcome(&self, stream: TcpStream, from: SocketAddr) {
        // A dual-stack listener shows IPv4 peers as IPv6 ones; who limits by address must not see two.
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let process = Arc::clone(&self.process);
        // A panic costs this connection and not those to come.
        if let Ok(socket) = Async::new(stream)
            && let Ok(Some(machine)) = catch_unwind(AssertUnwindSafe(|| process.accept(from)))
        {
            self.carry(machine, Start::Connected(Socket::Tcp(socket)));
        }
    }

    /// Tells the process to start nothing new; once.
    pub(crate) fn drain(&self) {
        if !self.draining.swap(true, Ordering::AcqRel) {
            let mut fx = Effects::default();
            self.process.drain(&mut Cx { now: self.now(), fx: &mut fx });
            deliver(&mut fx, self);
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Whether the process is over because its supervisor ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.supervisor_ended.load(Ordering::Acquire)
    }

    /// Whether nothing is left: no connection, no dial, no supervisor.
    pub(crate) fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// Whether a dial under way has lost its purpose: the process drains and no connection could make use of it.
    pub(crate) fn gives_up_dials(&self) -> bool {
        self.is_draining() && self.connected.load(Ordering::Acquire) == 0
    }

    /// Lets every task look again at what it waits for.
    pub(crate) fn wake_all(&self) {
        self.ports.wake_all();
    }

    /// When `at` is by the system's clock; none if that is further away than it can say.
    pub(crate) fn instant(&self, at: CoreInstant) -> Option<Instant> {
        self.origin.checked_add(at.since_origin())
    }

    /// Runs a machine in a task of its own; once the run is over the machine is told so instead.
    fn carry(&self, machine: Box<dyn Machine>, start: Start) {
        let Some(me) = self.me.upgrade() else { return };
        let connection = Contained::new(me, machine, start);
        if let Some(executor) = self.executor.upgrade() {
            executor.spawn(connection).detach();
        }
    }
}

impl Outside for World {
    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { mono: CoreInstant::from_origin(self.origin.elapsed()), unix: UnixSecs(unix.as_secs()) }
    }

    fn wake(&self, port: PortId) {
        self.ports.wake(port);
    }

    fn dial(&self, to: Dial) {
        self.carry(to.machine, Start::Dialling(dial(to.to, to.timeout)));
    }

    fn event(&self, event: Event) {
        (self.on_event)(event);
    }
}

/// What a machine is to its process, for as long as it runs: its open port, and what else counts it.
pub(crate) struct Place {
    pub(crate) world: Arc<World>,
    pub(crate) flag: Arc<Flag>,
    port: PortId,
    role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Supervisor,
    Dialling,
    Connected,
}

impl Place {
    pub(crate) fn new(world: Arc<World>, port: PortId, role: Role) -> Self {
        let flag = world.ports.open(port);
        let mut place = Self { world, flag, port, role };
        if role == Role::Connected {
            place.is_connected();
        }
        place
    }

    /// It has a socket now.
    pub(crate) fn is_connected(&mut self) {
        self.role = Role::Connected;
        self.world.connected.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.world.ports.close(self.port);
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
