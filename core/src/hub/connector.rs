//! What the connections of a connector share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rand_core::RngCore;

use super::admission::{Pool, Slots};
use super::dials::Dials;
use super::naming::Naming;
use super::ports::Ports;
use super::seeds::{Seed, Seeds};
use super::targets::IdleTargets;
use crate::config::ConnectorConfig;
use crate::connector::{Report, Supervisor};
use crate::http1::hop::HostRule;
use crate::limits;
use crate::machine::{Cx, Effects, Machine, PortId, Process};

/// The hub of a connector's process: hands out the supervisor, which dials everything else.
pub struct ConnectorHub {
    pub(crate) config: ConnectorConfig,
    pub(crate) ports: Ports,
    pub(crate) seeds: Seeds,
    pub(crate) pool: Arc<Pool>,
    pub(crate) idle: IdleTargets,
    /// What is known of how the app takes its names.
    pub(crate) naming: Naming,
    pub(crate) dials: Dials,
    /// Connections to the app.
    pub(crate) targets: Arc<Slots>,
    /// How many of them there may be.
    targets_max: AtomicU32,
    /// Names this process to the gateway, so that a new link replaces its own ghost; nobody else learns it.
    pub(crate) instance: [u8; 16],
    epoch: AtomicU64,
    /// What is to be added to this machine's clock to get the gateway's, in seconds; only what a gateway has proved.
    clock_offset_secs: AtomicI64,
    supervisor: PortId,
    reports: Mutex<Vec<Report>>,
    stats_wanted: AtomicBool,
    draining: AtomicBool,
}

impl ConnectorHub {
    /// A hub with these settings. All its randomness comes from `seed`, which must be as secret and as new as a key.
    pub fn new(config: ConnectorConfig, seed: impl Into<Seed>) -> Arc<Self> {
        Self::with_seeds(config, Seeds::new(&seed.into()))
    }

    pub(crate) fn with_seeds(config: ConnectorConfig, seeds: Seeds) -> Arc<Self> {
        let mut instance = [0; 16];
        seeds.child().fill_bytes(&mut instance);
        let ports = Ports::default();
        Arc::new(Self {
            pool: Pool::new(config.memory_bytes),
            config,
            supervisor: ports.open(),
            ports,
            seeds,
            idle: IdleTargets::default(),
            naming: Naming::default(),
            dials: Dials::default(),
            targets: Arc::default(),
            targets_max: AtomicU32::new(limits::STREAMS_MAX),
            instance,
            epoch: AtomicU64::new(0),
            clock_offset_secs: AtomicI64::new(0),
            reports: Mutex::default(),
            stats_wanted: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        })
    }

    /// How many connections to the app there may be, and so how many streams.
    pub(crate) fn targets_max(&self) -> u32 {
        self.targets_max.load(Ordering::Relaxed)
    }

    /// Asks the gateway for its figures; they come as [`crate::event::Event::Stats`], if there is a link.
    pub fn ask_stats(&self, cx: &mut Cx<'_>) {
        self.stats_wanted.store(true, Ordering::Relaxed);
        self.ports.wake_all(cx.fx);
    }

    /// What the app is told that it is called, by what is known of it.
    pub(crate) fn host_rule(&self) -> &HostRule {
        match &self.config.host_rule {
            HostRule::Rewrite if self.naming.refuses_visitors_name() => &HostRule::RewriteAll,
            rule => rule,
        }
    }

    pub(crate) fn take_stats_wanted(&self) -> bool {
        self.stats_wanted.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn supervisor_port(&self) -> PortId {
        self.supervisor
    }

    /// Tells the supervisor what became of a link.
    pub(crate) fn report(&self, report: Report, fx: &mut Effects) {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
        fx.wake(self.supervisor);
    }

    pub(crate) fn take_reports(&self) -> Vec<Report> {
        std::mem::take(&mut *self.reports.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of the next dial.
    pub(crate) fn next_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What is to be added to this machine's clock to get the gateway's, in seconds, as far as it is known.
    pub(crate) fn clock_offset_secs(&self) -> i64 {
        self.clock_offset_secs.load(Ordering::Relaxed)
    }

    /// The gateway took a join that was signed so many seconds ahead of this machine's clock, and proved itself.
    pub(crate) fn keep_offset(&self, secs: i64) {
        self.clock_offset_secs.store(secs, Ordering::Relaxed);
    }

    /// Whether nothing is held any more: no connection to the app and no memory. For checks.
    pub fn is_at_rest(&self) -> bool {
        self.targets.taken() == 0 && self.pool.used() == 0
    }
}

impl Process for ConnectorHub {
    fn supervisor(self: Arc<Self>) -> Option<Box<dyn Machine>> {
        Some(Box::new(Supervisor::new(self)))
    }

    fn carries(&self, connections_max: usize) {
        let targets = connections_max.saturating_sub(limits::CONNECTIONS_KEPT).max(1);
        let targets = u32::try_from(targets).unwrap_or(u32::MAX).min(limits::STREAMS_MAX);
        self.targets_max.store(targets, Ordering::Relaxed);
    }

    /// A connector listens nowhere.
    fn accept(self: Arc<Self>, _from: SocketAddr) -> Option<Box<dyn Machine>> {
        None
    }

    fn drain(&self, cx: &mut Cx<'_>) {
        self.draining.store(true, Ordering::Relaxed);
        self.ports.wake_all(cx.fx);
    }
}
