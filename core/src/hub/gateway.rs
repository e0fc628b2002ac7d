//! What the connections of a gateway share.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rand_core::RngCore;

use super::admission::{Pool, Slots};
use super::crowd::Crowd;
use super::ports::Ports;
use super::queue::Queue;
use super::registry::Registry;
use super::seeds::{Seed, Seeds};
use super::shares::Shares;
use crate::config::GatewayConfig;
use crate::gateway::GatewayConn;
use crate::limits;
use crate::link::frame::Stats;
use crate::link::handshake::Doorman;
use crate::machine::{Cx, Machine, Process};
use crate::time::Instant;

/// The hub of a gateway's process: hands out a machine for each accepted connection.
pub struct GatewayHub {
    pub(crate) config: GatewayConfig,
    pub(crate) ports: Ports,
    pub(crate) crowd: Crowd,
    pub(crate) seeds: Seeds,
    pub(crate) registry: Registry,
    pub(crate) doorman: Mutex<Doorman>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) shares: Arc<Shares>,
    pub(crate) queue: Queue,
    pub(crate) figures: Figures,
    /// Links that were let in and have not said HELLO.
    pub(crate) silent_links: Arc<Slots>,
    /// How this gateway calls itself in `Via`, to know its own loops.
    pub(crate) via: String,
    /// Names this process to its connectors, also when it is known by another id or address.
    pub(crate) instance: [u8; 16],
    connections: Arc<Slots>,
    draining: AtomicBool,
}

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) requests: AtomicU64,
    pub(crate) refusals: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
}

impl GatewayHub {
    /// A hub with these settings. All its randomness comes from `seed`, which must be as secret and as new as a key.
    pub fn new(config: GatewayConfig, seed: impl Into<Seed>) -> Arc<Self> {
        Self::with_seeds(config, Seeds::new(&seed.into()))
    }

    pub(crate) fn with_seeds(config: GatewayConfig, seeds: Seeds) -> Arc<Self> {
        let via = format!("gesher-{:04x}", seeds.number() & 0xffff);
        let mut instance = [0; 16];
        seeds.child().fill_bytes(&mut instance);
        Arc::new(Self {
            pool: Pool::new(config.memory_bytes),
            shares: Arc::default(),
            queue: Queue::default(),
            config,
            ports: Ports::default(),
            crowd: Crowd::default(),
            registry: Registry::default(),
            doorman: Mutex::default(),
            figures: Figures::default(),
            silent_links: Arc::default(),
            via,
            instance,
            seeds,
            connections: Arc::default(),
            draining: AtomicBool::new(false),
        })
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Notes that somebody at this address has proved the PIN.
    pub(crate) fn proved_pin(&self, from: IpAddr) {
        self.doorman.lock().unwrap_or_else(PoisonError::into_inner).proved(from.into());
    }

    /// The figures of this gateway. The runtime's clock has its origin at the start of the process.
    pub(crate) fn stats(&self, now: Instant) -> Stats {
        Stats {
            uptime_secs: now.since_origin().as_secs(),
            requests: self.figures.requests.load(Ordering::Relaxed),
            bytes_in: self.figures.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.figures.bytes_out.load(Ordering::Relaxed),
            refusals: self.figures.refusals.load(Ordering::Relaxed),
            connectors: self.registry.stats(),
        }
    }

    /// Whether nothing is held any more: no connection, no connector, no memory. For checks.
    pub fn is_at_rest(&self) -> bool {
        self.connections.taken() == 0
            && self.silent_links.taken() == 0
            && self.pool.used() == 0
            && self.registry.ids().is_empty()
    }
}

impl Process for GatewayHub {
    fn supervisor(self: Arc<Self>) -> Option<Box<dyn Machine>> {
        None
    }

    /// None if there are as many connections as there may be, or the gateway is about to stop.
    fn accept(self: Arc<Self>, from: SocketAddr) -> Option<Box<dyn Machine>> {
        if self.is_draining() {
            return None;
        }
        let slot = self.connections.take(limits::CONNECTIONS_MAX)?;
        Some(Box::new(GatewayConn::new(self, from.ip().to_canonical(), slot)))
    }

    fn make_room(&self, cx: &mut Cx<'_>) {
        self.crowd.make_room(cx.now.mono, cx.fx);
    }

    fn drain(&self, cx: &mut Cx<'_>) {
        self.draining.store(true, Ordering::Relaxed);
        self.ports.wake_all(cx.fx);
    }
}
