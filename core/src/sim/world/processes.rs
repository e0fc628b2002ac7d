//! The processes of a world: how they start, stop, stand still and die.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Actor, Clock, ProcessState, Sealing, World};
use crate::capture;
use crate::config::{ConnectorConfig, GatewayConfig, GatewayUrl, TargetUrl};
use crate::drive::{Close, Conn, Outside};
use crate::event::Event;
use crate::hub::seeds::Seeds;
use crate::hub::{ConnectorHub, GatewayHub};
use crate::machine::{Cx, Dial, Effects, PortId, Process};
use crate::seal::{Fernet, FixedIv, Plain, SharedSeals};
use crate::secret::{Keys, Pin, Secret};
use crate::sim::tap::{Sealed, TapSeals};
use crate::time::{Now, UnixSecs};

/// What the civil clock of a world says at its start: 2026-01-01T00:00:00Z.
pub(super) const EPOCH: u64 = 1_767_225_600;

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

/// What a process of the world asks of the outside.
pub(super) struct SimOutside {
    pub(super) clock: Arc<Clock>,
    /// How far its civil clock is off, in seconds.
    pub(super) skew_secs: AtomicI64,
    pub(super) mail: Mutex<Effects>,
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
    pub(super) fn mail(&self) -> std::sync::MutexGuard<'_, Effects> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
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
                capture::gateway_and_hub(config, Seeds::apart(&seed.into(), deciding), deciding, recorder)
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
                capture::connector_and_hub(config, Seeds::apart(&seed.into(), deciding), deciding, recorder)
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

    /// How many seconds the civil clock of a process is ahead.
    pub(crate) fn skew_secs(&self, name: &str) -> i64 {
        self.processes[self.process(name)].outside.skew_secs.load(Ordering::Relaxed)
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
        self.dials.retain(|dialling| dialling.process != process);
        *self.processes[process].outside.mail() = Effects::default();
    }

    /// Asks for the gateway's figures, as a person at a connector does.
    pub(in crate::sim) fn ask_stats(&mut self, connector: &str) {
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
        self.tell(name, |process, cx| process.drain(cx));
    }

    /// Asks a process to let go of connections, as a runtime does when descriptors run out.
    pub fn make_room(&mut self, name: &str) {
        self.note_trouble(&format!("{name} has no room for connections"));
        self.tell(name, |process, cx| process.make_room(cx));
    }

    fn tell(&mut self, name: &str, what: impl FnOnce(&dyn Process, &mut Cx<'_>)) {
        let process = self.process(name);
        let state = &self.processes[process];
        let mut fx = Effects::default();
        what(&*state.process, &mut Cx { now: state.outside.now(), fx: &mut fx });
        state.outside.mail().wakes.append(&mut fx.wakes);
        self.deliver(process, None);
    }

    /// Whether a process of this name runs.
    pub fn is_alive(&self, name: &str) -> bool {
        self.processes.iter().any(|state| state.name == name && state.alive)
    }

    /// How much memory the exchanges of a process hold, in bytes.
    pub(in crate::sim) fn lent(&self, name: &str) -> usize {
        (self.processes[self.process(name)].lent)()
    }

    /// Whether a connector has ended by itself, as one that gives up does.
    pub(in crate::sim) fn has_ended(&self, connector: &str) -> bool {
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

    pub(super) fn process(&self, name: &str) -> usize {
        let place = self.processes.iter().rposition(|state| state.name == name && state.alive);
        place.expect("a process of this world")
    }

    /// What the civil clock of a process says.
    pub(in crate::sim) fn civil_now(&self, name: &str) -> UnixSecs {
        self.processes[self.process(name)].outside.now().unix
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
            bottleneck: self.bottleneck,
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
}

/// The keys of a world; deriving them takes a while, so each pair of secret and PIN is derived once.
pub(in crate::sim) fn test_keys(secret: &str, pin: &str) -> Keys {
    static DERIVED: Mutex<BTreeMap<(String, String), Keys>> = Mutex::new(BTreeMap::new());
    let mut derived = DERIVED.lock().unwrap_or_else(PoisonError::into_inner);
    let derive = || {
        let secret = Secret::new(secret.as_bytes().to_vec()).expect("not empty");
        Keys::derive(&secret, &Pin::parse(pin).expect("a PIN of this world"))
    };
    derived.entry((secret.to_owned(), pin.to_owned())).or_insert_with(derive).duplicate()
}
