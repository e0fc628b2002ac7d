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
    /// What the last refusal said of the clocks: how far the gateway's is ahead, in seconds. The next dial takes it, and
    /// no other: refusals are not authenticated.
    taught_secs: Option<i64>,
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
            taught_secs: None,
            sleep: SleepWatch::default(),
            gave_up: false,
        }
    }

    fn dial(&mut self, cx: &mut Cx<'_>) {
        self.timers.clear(Why::Dial);
        self.linked = true;
        let to = self.hub.config.gateway.endpoint().clone();
        let machine = Box::new(ConnectorLink::new(self.hub.clone(), self.taught_secs.take(), cx.now.mono));
        cx.fx.dials.push(Dial { to, timeout: limits::JOIN_TIME, machine });
    }

    fn link_ended(&mut self, mut end: LinkEnd, cx: &mut Cx<'_>) {
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
            match taught(ours, theirs) {
                Ok(secs) => {
                    self.taught_secs = Some(secs);
                    self.clock_refused = true;
                    if !clock_was_refused {
                        self.timers.set(Why::Dial, now);
                        return;
                    }
                }
                Err(why) => end.why = why,
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
        if let Disconnect::Refused(Refusal::Secret | Refusal::Seal)
        | Disconnect::GatewayClock
        | Disconnect::ClocksApart { .. } = end.why
        {
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

/// How far the gateway's clock is ahead of ours, in seconds, if its time may be signed; else which clock looks wrong.
fn taught(ours: UnixSecs, theirs: UnixSecs) -> Result<i64, Disconnect> {
    let ahead_secs = theirs.0.cast_signed().saturating_sub(ours.0.cast_signed());
    if theirs <= limits::CLOCK_EARLIEST {
        Err(Disconnect::GatewayClock)
    } else if ours < limits::CLOCK_EARLIEST || ahead_secs.unsigned_abs() <= limits::CLOCK_TAUGHT_SECS_MAX {
        Ok(ahead_secs)
    } else {
        Err(Disconnect::ClocksApart { behind_hours: ahead_secs / 3600 })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConnectorConfig, GatewayUrl, TargetUrl};
    use crate::link::handshake::refusal_response;
    use crate::machine::Effects;
    use crate::secret::tests::own_keys;
    use crate::time::Now;

    const NOON: u64 = 1_767_225_600;
    const HOUR: u64 = 3600;
    const FIXED: UnixSecs = limits::CLOCK_EARLIEST;

    #[test]
    fn a_time_may_be_signed_if_it_is_near_or_this_clock_cannot_be_right() {
        let (noon, day) = (UnixSecs(NOON), limits::CLOCK_TAUGHT_SECS_MAX);
        for (ours, theirs, taught_secs) in [
            (noon, UnixSecs(NOON + 312), Ok(312)),
            (noon, UnixSecs(NOON - day), Ok(-86_400)),
            (noon, UnixSecs(NOON + day), Ok(86_400)),
            (noon, UnixSecs(NOON + day + 1), Err(Disconnect::ClocksApart { behind_hours: 24 })),
            (noon, UnixSecs(NOON - day - 1), Err(Disconnect::ClocksApart { behind_hours: -24 })),
            (noon, UnixSecs(u64::MAX), Err(Disconnect::GatewayClock)),
            (noon, UnixSecs(0), Err(Disconnect::GatewayClock)),
            (noon, FIXED, Err(Disconnect::GatewayClock)),
            (UnixSecs(FIXED.0 + 1), UnixSecs(FIXED.0 + 2), Ok(1)),
            (UnixSecs(0), noon, Ok(NOON.cast_signed())),
            (UnixSecs(FIXED.0 - 1), UnixSecs(NOON * 2), Ok((NOON * 2 - FIXED.0 + 1).cast_signed())),
            (UnixSecs(FIXED.0 - 1), FIXED, Err(Disconnect::GatewayClock)),
            (UnixSecs(u64::MAX), noon, Err(Disconnect::ClocksApart { behind_hours: 0 })),
        ] {
            if ours.0 == u64::MAX || theirs.0 == u64::MAX {
                assert!(taught(ours, theirs).is_err(), "no panic");
                continue;
            }
            assert_eq!(taught(ours, theirs), taught_secs, "{ours:?} {theirs:?}");
        }
    }

    /// A connector, and somebody in between who answers whatever it dials.
    struct Between {
        supervisor: Supervisor,
        fx: Effects,
        now: Now,
    }

    impl Between {
        fn new() -> Self {
            let (gateway, target) = (GatewayUrl::parse("gateway").unwrap(), TargetUrl::parse("app").unwrap());
            let hub = ConnectorHub::new(ConnectorConfig::new(own_keys(), gateway, target), [1; 32]);
            let now = Now { unix: UnixSecs(NOON), ..Now::default() };
            Self { supervisor: Supervisor::new(hub), fx: Effects::default(), now }
        }

        /// The second of the join that comes next, which gets this answer; none if none comes by now.
        fn signed(&mut self, answer: &[u8]) -> Option<u64> {
            let cx = &mut Cx { now: self.now, fx: &mut self.fx };
            self.supervisor.advance(cx, &mut Io::default()).unwrap();
            let mut link = cx.fx.dials.pop()?.machine;
            let mut io = Io::default();
            link.advance(cx, &mut io).unwrap();
            let join = String::from_utf8(io.output.waiting().to_vec()).unwrap();
            io.input.push(answer);
            link.advance(cx, &mut io).unwrap();
            link.lost(cx, Lost::Ended);
            self.supervisor.advance(cx, &mut Io::default()).unwrap();
            let (_, seconds) = join.split_once("Gesher ").unwrap();
            seconds.split_once('.').unwrap().0.parse().ok()
        }

        fn pass(&mut self, secs: u64) {
            self.now.mono = self.now.mono + Duration::from_secs(secs);
            self.now.unix.0 += secs;
        }
    }

    fn clock_says(secs: u64) -> Vec<u8> {
        refusal_response(Refusal::Clock, UnixSecs(secs), None)
    }

    #[test]
    fn a_forged_time_is_signed_once_and_not_kept() {
        let mut between = Between::new();
        assert_eq!(between.signed(&clock_says(NOON + 12 * HOUR)), Some(NOON));
        // At once; and what answers this one has no MAC.
        let busy = b"HTTP/1.1 503 Busy\r\n\r\n";
        assert_eq!(between.signed(busy), Some(NOON + 12 * HOUR));
        assert_eq!(between.signed(busy), None);
        between.pass(2);
        assert_eq!(between.signed(busy), Some(NOON + 2), "by its own clock");
        assert_eq!(between.supervisor.hub.clock_offset_secs(), 0);
        assert!(!between.fx.events.iter().any(|event| matches!(event, Event::ClockOff { .. })));
    }

    #[test]
    fn forged_times_far_from_now_are_never_signed() {
        let mut between = Between::new();
        for far in [NOON + 25 * HOUR, NOON - 25 * HOUR, 10 * NOON, 0] {
            let now = between.now.unix.0;
            assert_eq!(between.signed(&clock_says(far)), Some(now));
            between.pass(59);
            assert_eq!(between.signed(b""), None, "it waits a minute");
            between.pass(1);
        }
        let now = between.now.unix.0;
        assert_eq!(between.signed(b""), Some(now));
        let said = between.fx.events.iter().filter_map(|event| match event {
            Event::Disconnected { why, again_in, .. } => Some((*why, again_in.as_secs())),
            _ => None,
        });
        let apart = |behind_hours| (Disconnect::ClocksApart { behind_hours }, 60);
        let said: Vec<_> = said.take(4).collect();
        assert_eq!(said[..2], [apart(25), apart(-25)]);
        assert_eq!(said[3], (Disconnect::GatewayClock, 60));
    }
}
