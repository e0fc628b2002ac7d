//! A connector's link, as the gateway runs it.
//!
//! ```text
//! 101 ──▶ waits for HELLO ──▶ joined ──▶ done (GOAWAY and nothing open) ──▶ Close
//!              └──────── replaced, silent, broken: its exchanges are lost ──────▲
//! ```

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::event::Event;
use crate::fault::{Fault, LinkFault};
use crate::hub::GatewayHub;
use crate::hub::admission::Slot;
use crate::hub::mailbox::Inbox;
use crate::hub::registry::{Attached, Connector, Listed, Newcomer};
use crate::limits;
use crate::link::frame::Hello;
use crate::link::handshake::LinkKeys;
use crate::link::mux::Mux;
use crate::link::record::{RecordReader, RecordWriter};
use crate::link::streams::Notice;
use crate::machine::{Cx, End, Io, PortId, Want};
use crate::time::{Now, Timers, Why};
use crate::websocket::Role;

/// See the module.
pub(super) struct GatewayLink {
    hub: Arc<GatewayHub>,
    from: IpAddr,
    mux: Mux,
    inbox: Arc<Inbox>,
    /// Its place among the links without HELLO.
    waiting: Option<Slot>,
    /// Once it joined.
    connector: Option<Arc<Connector>>,
    notices: Vec<Notice>,
    /// Which list of connectors the peer was sent last.
    peers_version: Option<u64>,
    /// It asked for another one.
    peers_asked: bool,
    timers: Timers,
    broke: Option<Fault>,
}

impl GatewayLink {
    pub(super) fn new(
        hub: Arc<GatewayHub>,
        port: PortId,
        from: IpAddr,
        keys: &LinkKeys,
        waiting: Slot,
        now: Now,
    ) -> Self {
        let inbox = Inbox::new(port);
        let seals = &hub.config.seals;
        let mux = Mux::new(
            Role::Gateway,
            RecordReader::new(seals.opener(&keys.c2g)),
            RecordWriter::new(seals.sealer(&keys.g2c, hub.seeds.for_ivs())),
            hub.seeds.child(),
            inbox.clone(),
            hub.pool.clone(),
            now,
        );
        Self {
            hub,
            from,
            mux,
            inbox,
            waiting: Some(waiting),
            connector: None,
            notices: Vec::new(),
            peers_version: None,
            peers_asked: false,
            timers: Timers::default(),
            broke: None,
        }
    }

    pub(super) fn advance(&mut self, cx: &mut Cx<'_>, io: &mut Io) -> Result<Want, Fault> {
        if self.broke.is_none() {
            match self.run(cx, io) {
                Ok(want) => return Ok(want),
                Err(fault) => self.break_off(fault, cx, io)?,
            }
        }
        match self.broke {
            Some(fault) if self.timers.is_due(Why::Linger, cx.now.mono) => Err(fault),
            _ => Ok(Want { wake_at: self.timers.next(), end: Some(End::Linger), ..Want::default() }),
        }
    }

    /// Ends the link for a fault at once; the peer is told why, if there is use in it.
    fn break_off(&mut self, fault: Fault, cx: &mut Cx<'_>, io: &mut Io) -> Result<(), Fault> {
        self.broke = Some(fault);
        self.leave(cx);
        self.timers.clear_all();
        self.timers.set(Why::Linger, cx.now.mono + limits::FAREWELL);
        self.mux.close_for(fault, io).ok_or(fault)
    }

    fn run(&mut self, cx: &mut Cx<'_>, io: &mut Io) -> Result<Want, Fault> {
        if self.connector.as_ref().is_some_and(|connector| connector.is_replaced()) {
            // Nobody may be there to take what waits for it.
            return Err(LinkFault::Replaced.into());
        }
        let again = self.mux.read(cx, &mut io.input, &mut self.notices)?;
        for notice in std::mem::take(&mut self.notices) {
            self.notice(notice, cx)?;
        }
        // HELLO comes first: until then there is nobody to say it to.
        if self.hub.is_draining() && self.waiting.is_none() {
            self.mux.say_go_away(self.hub.config.drain, "the gateway stops");
        }
        if let Some(connector) = &self.connector {
            connector.note_round_trip(self.mux.round_trip());
            connector.note_unresponsive(self.mux.is_unresponsive(cx.now.mono));
            connector.note_asks_peers(self.peers_asked);
            self.tell_peers(cx.now);
        }
        self.mux.write(cx, io);
        // Who was told that there is no room has no reason to stay, and may not keep the connection, not even by taking
        // nothing of what it is told.
        if self.timers.is_due(Why::Drain, cx.now.mono) {
            self.timers.clear(Why::Drain);
            self.timers.set(Why::Linger, cx.now.mono + limits::FAREWELL);
        } else if self.timers.is_due(Why::Linger, cx.now.mono) {
            return Err(LinkFault::Silent.into());
        }
        let is_over = self.mux.is_done() || self.timers.is_set(Why::Linger);
        let end = is_over.then(|| self.mux.close(cx, io));
        let wake_at = self.mux.next_deadline().into_iter().chain(self.timers.next()).min();
        Ok(Want { read: !again, wake_at, again, end, ..Want::default() })
    }

    fn notice(&mut self, notice: Notice, cx: &mut Cx<'_>) -> Result<(), Fault> {
        match notice {
            Notice::Hello(hello) => self.attach(hello, cx),
            Notice::StatsAsked => {
                self.mux.say_stats(self.hub.stats(cx.now.mono));
                Ok(())
            }
            Notice::PeersAsked => {
                self.peers_asked = true;
                Ok(())
            }
            Notice::GoAway => {
                if let Some(connector) = &self.connector {
                    connector.leave();
                    self.hub.queue.ring(cx.fx);
                }
                Ok(())
            }
            // These only come to a connector, which the streams have checked.
            Notice::Request { .. } | Notice::Peers(_) | Notice::Stats(_) => Ok(()),
        }
    }

    fn attach(&mut self, hello: Hello, cx: &mut Cx<'_>) -> Result<(), Fault> {
        self.waiting = None;
        // Its first record opened: this is no copy of somebody's join.
        self.hub.proved_pin(self.from);
        let id = format!("{:08x}", self.hub.seeds.number() as u32);
        let newcomer = Newcomer { id, from: self.from, now: cx.now.unix, inbox: self.inbox.clone() };
        let attached = self.hub.registry.attach(hello, newcomer, self.hub.config.connectors_max, cx.fx);
        match attached {
            Attached::Joined { connector, replaced } => {
                cx.fx.events.push(Event::Joined {
                    id: connector.id.clone(),
                    name: connector.name.clone(),
                    from: self.from,
                    replaced,
                });
                self.say_hello(connector.id.clone());
                self.connector = Some(connector);
                self.hub.queue.ring(cx.fx);
            }
            Attached::Full => {
                self.say_hello(String::new());
                self.mux.say_go_away(Duration::ZERO, "the gateway has as many connectors as it takes");
                self.timers.set(Why::Drain, cx.now.mono + limits::HELLO_TIME);
            }
            Attached::Stale | Attached::Nameless => {
                return Err(LinkFault::Hello.into());
            }
        }
        Ok(())
    }

    fn say_hello(&mut self, id: String) {
        self.mux.say_hello(Hello {
            streams_max: limits::STREAMS_MAX,
            window: limits::WINDOW_BYTES,
            id,
            instance: Some(self.hub.instance),
            ..Hello::default()
        });
    }

    /// Sends the list of connectors that was asked for once there is another one, at most once a second.
    fn tell_peers(&mut self, now: Now) {
        if self.timers.is_due(Why::Peers, now.mono) {
            self.timers.clear(Why::Peers);
        }
        if !self.peers_asked || self.timers.is_set(Why::Peers) || self.mux.says_peers() {
            return;
        }
        match self.hub.registry.list_after(self.peers_version) {
            // Whoever changes it wakes who asks.
            Listed::Same => return,
            Listed::Later => {}
            Listed::New(version, peers) => {
                self.peers_version = Some(version);
                self.peers_asked = false;
                self.mux.say_peers(peers);
            }
        }
        self.timers.set(Why::Peers, now.mono + limits::PEERS_EVERY);
    }

    pub(super) fn lost(&mut self, cx: &mut Cx<'_>) {
        self.leave(cx);
    }

    /// Gives everything up that is held in the hub; once is enough.
    fn leave(&mut self, cx: &mut Cx<'_>) {
        if let Some(connector) = self.connector.take() {
            self.hub.registry.detach(&connector, cx.fx);
            self.hub.queue.ring(cx.fx);
            let why = match self.broke {
                None if !self.mux.is_done() => Some(LinkFault::Lost.into()),
                broke => broke,
            };
            cx.fx.events.push(Event::Left { id: connector.id.clone(), name: connector.name.clone(), why });
        }
        self.mux.fail_all(cx.fx);
    }
}
