//! Keeps a connector joined: decides when to dial the gateway, and when to give up.
//!
//! ```text
//!            ┌──── wait: 0.5 to 1.5 s; later up to 30 s; 60 s; 150 s; as the gateway says ──┐
//!            ▼                                                                              │
//!   start ─▶ dial ──▶ link ──▶ reports: joined … ended ─────────────────────────────────────┘
//!                                         └── secret or PIN refused, never joined: gives up
//! ```

use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;

use super::link::ConnectorLink;
use crate::event::{Disconnect, Event};
use crate::fault::Fault;
use crate::hub::ConnectorHub;
use crate::limits;
use crate::link::handshake::Refusal;
use crate::machine::{Cx, Dial, End, Io, Lost, Machine, PortId, Want};
use crate::time::{Instant, SleepWatch, Timers, UnixSecs, Why};

/// What a link tells the supervisor.
#[derive(Debug)]
pub(crate) enum Report {
    /// The gateway took this connector under this id.
    Joined(String),
    /// The link is gone, or was not to be had.
    Ended(LinkEnd),
}

/// How a link ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LinkEnd {
    pub(crate) why: Disconnect,
    /// How long the gateway asked to be left alone.
    pub(crate) retry_after: Option<Duration>,
    /// What the gateway's clock said when this one's said the second.
    pub(crate) clocks: Option<(UnixSecs, UnixSecs)>,
}

impl LinkEnd {
    pub(crate) fn new(why: Disconnect) -> Self {
        Self { why, retry_after: None, clocks: None }
    }
}

/// See the module.
pub(crate) struct Supervisor {
    hub: Arc<ConnectorHub>,
    rng: ChaCha20Rng,
    timers: Timers,
    /// A link lives or is being dialled.
    linked: bool,
    ever_joined: bool,
    /// The link that lives has joined.
    joined: bool,
    /// How many times in a row joining failed.
    attempt: u32,
    /// Since when there is no link.
    alone_since: Instant,
    /// The last dial ended because of the clock: once more so is a refusal like others, and waits like them.
    clock_refused: bool,
    sleep: SleepWatch,
    gave_up: bool,
}

impl Supervisor {
    pub(crate) fn new(hub: Arc<ConnectorHub>) -> Self {
        let rng = hub.seeds.child();
        Self {
            hub,
            rng,
            timers: Timers::default(),
            linked: false,
            ever_joined: false,
            joined: false,
            attempt: 0,
            alone_since: Instant::default(),
            clock_refused: false,
            sleep: SleepWatch::default(),
            gave_up: false,
        }
    }

    fn dial(&mut self, cx: &mut Cx<'_>) {
        self.timers.clear(Why::Dial);
        self.linked = true;
        let to = self.hub.config.gateway.endpoint().clone();
        let machine = Box::new(ConnectorLink::new(self.hub.clone(), cx.now.mono));
        cx.fx.dials.push(Dial { to, timeout: limits::JOIN_TIME, machine });
    }

    fn link_ended(&mut self, end: LinkEnd, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        if std::mem::take(&mut self.linked) && self.attempt == 0 {
            self.alone_since = now;
        }
        let had_joined = std::mem::take(&mut self.joined);
        self.attempt = if had_joined { 0 } else { self.attempt.saturating_add(1) };
        let clock_was_refused = std::mem::take(&mut self.clock_refused);
        if let (Disconnect::Refused(Refusal::Clock), Some((ours, theirs))) = (end.why, end.clocks) {
            // Freshness rests on the ephemeral keys: a wrong clock must not keep a small machine out. Every refusal
            // teaches anew: a clock may be set while we run, and anybody in between can forge one answer.
            let behind_secs = self.hub.learn_time(ours, theirs);
            self.clock_refused = true;
            if !clock_was_refused {
                if behind_secs.unsigned_abs() > limits::CLOCK_SKEW_SECS_MAX {
                    cx.fx.events.push(Event::ClockOff { behind_secs });
                }
                self.timers.set(Why::Dial, now);
                return;
            }
        }
        if let Disconnect::Refused(refusal @ (Refusal::Secret | Refusal::Pin)) = end.why
            && !self.ever_joined
        {
            self.gave_up = true;
            cx.fx.events.push(Event::GaveUp { refusal });
            return;
        }
        if self.hub.is_draining() {
            return;
        }
        let again_in = self.wait(end, now);
        self.timers.set(Why::Dial, now + again_in);
        cx.fx.events.push(Event::Disconnected { why: end.why, again_in, attempt: self.attempt });
    }

    /// How long until the next dial.
    fn wait(&mut self, end: LinkEnd, now: Instant) -> Duration {
        let is_pin = end.why == Disconnect::Refused(Refusal::Pin);
        if let Some(asked) = end.retry_after {
            let most = if is_pin { limits::LOCKOUT_TIME } else { limits::REDIAL_REFUSED };
            return asked.clamp(limits::REDIAL_MIN, most);
        }
        if is_pin {
            return limits::REDIAL_PIN;
        }
        if let Disconnect::Refused(Refusal::Secret | Refusal::Seal) = end.why {
            return limits::REDIAL_REFUSED;
        }
        // Half of it for certain and once more at random: many connectors do not return in one moment.
        let alone = now.since(self.alone_since);
        let base = if alone < limits::REDIAL_FAST_FOR {
            limits::REDIAL_MIN
        } else {
            // From 1 s to 20 s within the next few minutes: one and a half of it is the longest wait.
            let over = alone - limits::REDIAL_FAST_FOR;
            (limits::REDIAL_MIN + over / 10).min(limits::REDIAL_MAX * 2 / 3)
        };
        let spread = u64::try_from(base.as_millis()).unwrap_or(u64::MAX).max(1);
        base / 2 + Duration::from_millis(self.rng.next_u64() % spread.saturating_add(1))
    }
}

impl Machine for Supervisor {
    fn port(&self) -> PortId {
        self.hub.supervisor_port()
    }

    fn advance(&mut self, cx: &mut Cx<'_>, _io: &mut Io) -> Result<Want, Fault> {
        for report in self.hub.take_reports() {
            match report {
                Report::Joined(id) => {
                    self.ever_joined = true;
                    self.joined = true;
                    self.attempt = 0;
                    cx.fx.events.push(Event::Connected { id });
                }
                Report::Ended(end) => self.link_ended(end, cx),
            }
        }
        let over = self.gave_up || self.hub.is_draining();
        if over && !self.linked {
            return Ok(Want { end: Some(End::Close), ..Want::default() });
        }
        if self.sleep.woke(cx.now) && !self.linked {
            self.timers.clear(Why::Dial);
        }
        if !self.linked && (!self.timers.is_set(Why::Dial) || self.timers.is_due(Why::Dial, cx.now.mono)) {
            self.dial(cx);
        }
        if self.linked || self.timers.is_due(Why::Sleep, cx.now.mono) {
            self.timers.clear(Why::Sleep);
        }
        if !self.linked {
            self.timers.set_once(Why::Sleep, cx.now.mono + limits::SLEEP_LOOK_EVERY);
        }
        Ok(Want { wake_at: self.timers.next(), ..Want::default() })
    }

    fn lost(&mut self, _cx: &mut Cx<'_>, _why: Lost) {
        self.hub.ports.close(self.port());
    }
}
