//! A link as the connector runs it.
//!
//! ```text
//! dialled ──▶ joining: request, 101, accept proof ──▶ HELLOs ──▶ joined ──▶ done (GOAWAY, nothing open) ──▶ Close
//!    └─────────────────┴── refused, no gateway, impostor ──▶ told to the supervisor ◀── lost ──┘
//! ```

use std::sync::Arc;

use super::supervisor::{LinkEnd, Report};
use super::target::TargetConn;
use crate::event::{Disconnect, Event};
use crate::fault::{Fault, LinkFault};
use crate::http1::head::{HeadKind, HeadScan};
use crate::hub::ConnectorHub;
use crate::hub::mailbox::Inbox;
use crate::hub::seeds::clear_stack;
use crate::limits;
use crate::link::frame::Hello;
use crate::link::handshake::{JoinAttempt, JoinOutcome, LinkKeys};
use crate::link::mux::Mux;
use crate::link::record::{RecordReader, RecordWriter};
use crate::link::streams::Notice;
use crate::machine::{Cx, End, Io, Lost, Machine, PortId, Want};
use crate::time::{Instant, Now, Timers, UnixSecs, Why};
use crate::websocket::Role;

/// See the module.
pub(crate) struct ConnectorLink {
    hub: Arc<ConnectorHub>,
    port: PortId,
    epoch: u64,
    /// How far ahead of this machine's clock the join is signed, if the last refusal taught that: for this link alone,
    /// until the gateway has proved itself.
    taught_secs: Option<i64>,
    stage: Stage,
    notices: Vec<Notice>,
    /// The gateway's HELLO came.
    joined: bool,
    end: Option<LinkEnd>,
    /// The supervisor knows how it ended.
    told: bool,
}

enum Stage {
    /// The join is to be sent, by this deadline answered.
    Dialled(Timers),
    /// Its answer is awaited. The time is this machine's when it was signed.
    Joining {
        attempt: Box<JoinAttempt>,
        scan: HeadScan,
        signed_at: UnixSecs,
        timers: Timers,
    },
    Linked(Box<Mux>),
    /// It broke; the gateway is told why, until then.
    Breaking(Fault, Timers),
    /// Nothing more is to be had here.
    Over,
}

impl ConnectorLink {
    /// A link that is about to be dialled.
    pub(crate) fn new(hub: Arc<ConnectorHub>, taught_secs: Option<i64>, now: Instant) -> Self {
        let mut timers = Timers::default();
        timers.set(Why::Hello, now + limits::JOIN_TIME * 2);
        Self {
            port: hub.ports.open(),
            epoch: hub.next_epoch(),
            taught_secs,
            hub,
            stage: Stage::Dialled(timers),
            notices: Vec::new(),
            joined: false,
            end: None,
            told: false,
        }
    }

    fn send_join(&mut self, timers: Timers, now: Now, io: &mut Io) {
        let config = &self.hub.config;
        let offset_secs = self.taught_secs.unwrap_or(self.hub.clock_offset_secs());
        let (attempt, request) = JoinAttempt::new(
            &config.keys,
            UnixSecs(now.unix.0.saturating_add_signed(offset_secs)),
            &config.gateway.authority,
            &config.gateway.prefix,
            &mut self.hub.seeds.for_keys(),
        );
        io.output.tail().extend_from_slice(&request);
        self.stage = Stage::Joining {
            attempt: Box::new(attempt),
            scan: HeadScan::default(),
            signed_at: now.unix,
            timers,
        };
    }

    /// Judges the answer once its head is there; none while it is not.
    fn read_answer(&mut self, cx: &mut Cx<'_>, io: &mut Io) -> Option<Result<Box<LinkKeys>, LinkEnd>> {
        let Stage::Joining { scan, timers, .. } = &mut self.stage else { return None };
        let not_http = Some(Err(LinkEnd::new(Disconnect::NotHttp)));
        let head = match scan.take(io.input.unread(), HeadKind::Response) {
            Ok(Some(head)) => head,
            Ok(None) if io.input.ended() || timers.is_due(Why::Hello, cx.now.mono) => {
                return Some(Err(LinkEnd::new(Disconnect::NoAnswer)));
            }
            Ok(None) => return None,
            Err(_) => return not_http,
        };
        let length = head.len();
        let Ok(head) = head.response() else { return not_http };
        let Stage::Joining { attempt, signed_at, .. } = std::mem::replace(&mut self.stage, Stage::Over)
        else {
            return None;
        };
        let outcome = attempt.judge(&head);
        io.input.consume(length);
        Some(match outcome {
            JoinOutcome::Joined(keys) => Ok(keys),
            JoinOutcome::Refused { refusal, gateway_time, retry_after } => Err(LinkEnd {
                why: Disconnect::Refused(refusal),
                retry_after,
                clocks: gateway_time.map(|theirs| (signed_at, theirs)),
            }),
            JoinOutcome::UpgradeMissing(missing) => Err(LinkEnd::new(Disconnect::UpgradeMissing(missing))),
            JoinOutcome::NotGateway(status, retry_after) => {
                Err(LinkEnd { retry_after, ..LinkEnd::new(Disconnect::NotGateway(status)) })
            }
            JoinOutcome::Impostor => Err(LinkEnd::new(Disconnect::Impostor)),
        })
    }

    fn begin_link(&mut self, keys: &LinkKeys, now: Now) {
        let hub = &self.hub;
        let mut mux = Mux::new(
            Role::Connector,
            RecordReader::new(hub.config.seals.opener(&keys.g2c)),
            RecordWriter::new(hub.config.seals.sealer(&keys.c2g, hub.seeds.for_ivs())),
            hub.seeds.child(),
            Inbox::new(self.port),
            hub.pool.clone(),
            now,
        );
        mux.say_hello(Hello {
            streams_max: hub.targets_max(),
            window: limits::WINDOW_BYTES,
            name: hub.config.name.clone(),
            instance: Some(hub.instance),
            link: 0,
            epoch: self.epoch,
            ..Hello::default()
        });
        self.stage = Stage::Linked(Box::new(mux));
    }

    fn run_link(&mut self, cx: &mut Cx<'_>, io: &mut Io) -> Result<Want, Fault> {
        let Stage::Linked(mux) = &mut self.stage else { return Ok(Want::default()) };
        let again = mux.read(cx, &mut io.input, &mut self.notices)?;
        for notice in self.notices.drain(..) {
            match notice {
                Notice::Hello(hello) if !hello.id.is_empty() => {
                    self.joined = true;
                    self.hub.report(Report::Joined(hello.id), cx.fx);
                }
                // The gateway is full; its GOAWAY says so.
                Notice::Hello(_) => {}
                Notice::Request { exchange, idempotent } => {
                    TargetConn::serve(&self.hub, exchange, idempotent, cx)
                }
                Notice::Peers(peers) => cx.fx.events.push(Event::Peers(peers)),
                Notice::Stats(stats) => cx.fx.events.push(Event::Stats(stats)),
                Notice::GoAway => {
                    let why = if self.joined { Disconnect::GoAway } else { Disconnect::Full };
                    self.end = Some(LinkEnd::new(why));
                }
                // This only comes to a gateway, which the streams have checked.
                Notice::StatsAsked | Notice::PeersAsked => {}
            }
        }
        if self.hub.is_draining() {
            mux.say_go_away(self.hub.config.drain, "the connector stops");
        }
        if self.joined && self.hub.take_stats_wanted() {
            mux.ask_stats();
        }
        // Each list is asked for, so that a slow reader is sent no more of them than it reads.
        if self.joined && self.hub.config.watches_peers {
            mux.ask_peers();
        }
        mux.write(cx, io);
        let end = mux.is_done().then(|| mux.close(cx, io));
        Ok(Want { read: !again, wake_at: mux.next_deadline(), again, end, ..Want::default() })
    }
}

impl ConnectorLink {
    /// Ends the link for a fault at once; the gateway is told why, if there is use in it.
    fn break_off(&mut self, fault: Fault, cx: &mut Cx<'_>, io: &mut Io) -> Result<Want, Fault> {
        self.end = Some(LinkEnd::new(Disconnect::Link(fault)));
        let Stage::Linked(mux) = &mut self.stage else { return Err(fault) };
        mux.fail_all(cx.fx);
        mux.close_for(fault, io).ok_or(fault)?;
        let mut timers = Timers::default();
        timers.set(Why::Linger, cx.now.mono + limits::FAREWELL);
        self.stage = Stage::Breaking(fault, timers);
        self.tell(Disconnect::Link(fault), cx);
        self.advance(cx, io)
    }

    /// Tells the supervisor, once, how the link ended; `otherwise` if nothing better is known.
    fn tell(&mut self, otherwise: Disconnect, cx: &mut Cx<'_>) {
        if !std::mem::replace(&mut self.told, true) {
            let end = self.end.take().unwrap_or(LinkEnd::new(otherwise));
            self.hub.report(Report::Ended(end), cx.fx);
        }
    }
}

impl Machine for ConnectorLink {
    fn port(&self) -> PortId {
        self.port
    }

    fn advance(&mut self, cx: &mut Cx<'_>, io: &mut Io) -> Result<Want, Fault> {
        match &mut self.stage {
            Stage::Dialled(_) | Stage::Joining { .. } if self.hub.is_draining() => {
                self.stage = Stage::Over;
            }
            Stage::Dialled(timers) => {
                let timers = timers.clone();
                self.send_join(timers, cx.now, io);
                clear_stack();
            }
            Stage::Joining { .. } | Stage::Linked(_) | Stage::Breaking(..) | Stage::Over => {}
        }
        match self.read_answer(cx, io) {
            None => {}
            Some(Ok(keys)) => {
                if let Some(offset_secs) = self.taught_secs.take() {
                    self.hub.keep_offset(offset_secs);
                    if offset_secs.unsigned_abs() > limits::CLOCK_SKEW_SECS_MAX {
                        cx.fx.events.push(Event::ClockOff { behind_secs: offset_secs });
                    }
                }
                self.begin_link(&keys, cx.now);
                drop(keys);
                clear_stack();
            }
            Some(Err(end)) => {
                self.end = Some(end);
                self.stage = Stage::Over;
            }
        }
        match &self.stage {
            Stage::Linked(_) => self.run_link(cx, io).or_else(|fault| self.break_off(fault, cx, io)),
            Stage::Breaking(fault, timers) if timers.is_due(Why::Linger, cx.now.mono) => Err(*fault),
            Stage::Breaking(_, timers) => {
                Ok(Want { wake_at: timers.next(), end: Some(End::Linger), ..Want::default() })
            }
            Stage::Over => Ok(Want { end: Some(End::Close), ..Want::default() }),
            Stage::Dialled(timers) | Stage::Joining { timers, .. } => {
                Ok(Want { read: true, wake_at: timers.next(), ..Want::default() })
            }
        }
    }

    fn lost(&mut self, cx: &mut Cx<'_>, why: Lost) {
        let otherwise = match (why, &self.stage) {
            (Lost::Dial(fault), _) => Disconnect::Dial(fault),
            (_, Stage::Linked(_)) => Disconnect::Link(LinkFault::Lost.into()),
            _ => Disconnect::NoAnswer,
        };
        if let Stage::Linked(mux) = &mut self.stage {
            mux.fail_all(cx.fx);
        }
        self.tell(otherwise, cx);
        self.hub.ports.close(self.port);
    }
}
