//! What happens to connections on their way, other than to the bytes of links: how fast they are, whether anything
//! passes, who is reached, and who is cut off.

use super::{Actor, Dialling, End, Visitor, World};
use crate::machine::{Dial, Endpoint};
use crate::sim::pipe::Bottleneck;

impl World {
    /// A connector's link carries so many bits a second each way from now on, and so do those after it.
    pub(in crate::sim) fn throttle_link(&mut self, connector: &str, bits_per_sec: u64) {
        self.note_trouble(&format!("{connector} <-> gateway: {bits_per_sec} bit/s"));
        let process = self.process(connector);
        self.processes[process].bottleneck = Some(throttle(bits_per_sec));
        if let Some(link) = self.newest_link(connector) {
            self.set_bottleneck(link, Some(throttle(bits_per_sec)));
        }
    }

    /// A visitor's connection carries so many bits a second each way from now on.
    pub(in crate::sim) fn throttle_visitor(&mut self, visitor: Visitor, bits_per_sec: u64) {
        self.note_trouble(&format!("{} <-> gateway: {bits_per_sec} bit/s", self.ends[visitor.0].name));
        self.set_bottleneck(visitor.0, Some(throttle(bits_per_sec)));
    }

    /// The connections to an app, and those after them, carry so many bits a second each way from now on.
    pub(in crate::sim) fn throttle_app(&mut self, app: &str, bits_per_sec: u64) {
        self.note_trouble(&format!("connector <-> {app}: {bits_per_sec} bit/s"));
        self.app(app).bottleneck = Some(throttle(bits_per_sec));
        for end in self.connections_of(app) {
            self.set_bottleneck(end, Some(throttle(bits_per_sec)));
        }
    }

    /// Everything is as fast as it was.
    pub(in crate::sim) fn unthrottle_all(&mut self) {
        self.note_trouble("everything is fast again");
        self.processes.iter_mut().for_each(|process| process.bottleneck = self.bottleneck);
        self.apps.values_mut().for_each(|app| app.bottleneck = None);
        for end in 0..self.ends.len() {
            let bottleneck = self.bottleneck.filter(|_| self.ends[end].captured.is_some());
            if self.ends[end].asks {
                self.set_bottleneck(end, bottleneck);
            }
        }
    }

    /// The narrowest place of a connection, by one of its ends.
    pub(super) fn set_bottleneck(&mut self, end: usize, bottleneck: Option<Bottleneck>) {
        let now = self.clock.now();
        for end in self.both_ends(end) {
            let End { inbound, delay, .. } = &mut self.ends[end];
            inbound.set_bottleneck(bottleneck, now, *delay);
        }
    }

    /// Somebody on the way resets a visitor's connection, at both ends.
    pub(in crate::sim) fn reset_visitor(&mut self, visitor: Visitor) {
        self.note_trouble(&format!("{} <-> gateway: reset", self.ends[visitor.0].name));
        self.reset_connection(visitor.0);
    }

    /// Somebody on the way resets all connections to an app, at both ends. False if there are none.
    pub(in crate::sim) fn reset_app(&mut self, app: &str) -> bool {
        self.trouble_app(app, "reset", Self::reset_connection)
    }

    pub(super) fn reset_connection(&mut self, end: usize) {
        let now = self.clock.now();
        for end in self.both_ends(end) {
            let inbound = &mut self.ends[end].inbound;
            inbound.clogged = false;
            inbound.reset(now);
        }
    }

    /// Nothing passes between a visitor and the gateway any more, without anyone being told.
    pub(in crate::sim) fn clog_visitor(&mut self, visitor: Visitor) {
        self.note_trouble(&format!("{} <-> gateway: nothing passes any more", self.ends[visitor.0].name));
        self.clog(visitor.0);
    }

    /// The same on the connections that an app has now. False if there are none.
    pub(in crate::sim) fn clog_app(&mut self, app: &str) -> bool {
        self.trouble_app(app, "nothing passes any more", Self::clog)
    }

    /// Something happens to each connection that an app has; false if there are none.
    fn trouble_app(&mut self, app: &str, what: &str, happens: fn(&mut Self, usize)) -> bool {
        let ends = self.connections_of(app);
        if !ends.is_empty() {
            self.note_trouble(&format!("connector <-> {app}: {what}"));
        }
        ends.iter().for_each(|end| happens(self, *end));
        !ends.is_empty()
    }

    pub(super) fn clog(&mut self, end: usize) {
        for end in self.both_ends(end) {
            self.ends[end].inbound.clogged = true;
        }
    }

    /// Whether connectors that dial the gateway reach it; if not, nobody answers them.
    pub(in crate::sim) fn set_gateway_reachable(&mut self, reachable: bool) {
        let can = if reachable { "can" } else { "cannot" };
        self.note_trouble(&format!("connectors {can} reach the gateway"));
        self.gateway_is_hidden = !reachable;
    }

    /// When a dial ends, and how.
    pub(super) fn dialling(&self, process: usize, dial: Dial) -> Dialling {
        let Endpoint::Tcp { host, .. } = &dial.to else { panic!("a world has no unix sockets") };
        let takes = match &self.apps.get(host) {
            Some(app) => app.dial_time,
            None if host == "gateway" && self.gateway_is_hidden => dial.timeout,
            None if host == "gateway" => self.link_delay * 2,
            None => Default::default(),
        };
        let at = self.clock.now() + takes.min(dial.timeout);
        Dialling { at, process, answered: takes < dial.timeout, dial }
    }

    /// The ends of the connections to an app that are open at the app.
    fn connections_of(&self, app: &str) -> Vec<usize> {
        let is_of_app =
            |end: &usize| matches!(&self.ends[*end].actor, Actor::App { app: name, .. } if name == app);
        (0..self.ends.len()).filter(is_of_app).collect()
    }

    fn both_ends(&self, end: usize) -> impl Iterator<Item = usize> + use<> {
        [Some(end), self.ends[end].peer].into_iter().flatten()
    }
}

/// The usual narrow place.
fn throttle(bits_per_sec: u64) -> Bottleneck {
    Bottleneck { bits_per_sec, queue_bytes: 64 * 1024 }
}
