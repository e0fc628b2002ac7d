//! What happens to links on their way.

use super::{Actor, End, World};

/// A trouble on a connector's link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkTrouble {
    /// Flips one bit of what was last sent this way.
    FlipBit(Way),
    /// Flips the bit of this number, counted around, of what was last sent this way.
    FlipBitAt(Way, usize),
    /// Swallows what was last sent this way.
    Drop(Way),
    /// Lets what was last sent this way overtake what was sent before it.
    Reorder(Way),
    /// Repeats what was last sent this way.
    Repeat(Way),
    /// Cuts off the second half of what was last sent this way, and ends the connection there (FIN).
    Cut(Way),
    /// Resets the connection, at both ends.
    Reset,
    /// Swallows everything from now on, without telling anyone.
    Clog,
    /// The same, but the connector is told at once (RST): a connection that a NAT forgot.
    Forget,
}

/// A way that bytes take over a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From the connector to the gateway.
    ToGateway,
    /// From the gateway to the connector.
    ToConnector,
}

impl World {
    /// Whether [`Self::trouble`] would find a link and, if bytes are to be changed, some on their way.
    pub fn may_trouble(&self, connector: &str, trouble: LinkTrouble) -> bool {
        let Some(link) = self.newest_link(connector) else { return false };
        let Some(gateway) = self.ends[link].peer else { return false };
        let end = match trouble {
            LinkTrouble::FlipBit(way)
            | LinkTrouble::FlipBitAt(way, _)
            | LinkTrouble::Drop(way)
            | LinkTrouble::Reorder(way)
            | LinkTrouble::Repeat(way)
            | LinkTrouble::Cut(way) => match way {
                Way::ToGateway => gateway,
                Way::ToConnector => link,
            },
            LinkTrouble::Reset | LinkTrouble::Clog | LinkTrouble::Forget => return true,
        };
        self.ends[end].inbound.is_unread()
    }

    /// Something happens to the newest link of a connector.
    ///
    /// # Panics
    /// If it cannot.
    pub fn trouble(&mut self, connector: &str, trouble: LinkTrouble) {
        assert!(self.try_trouble(connector, trouble), "{connector} has a link, and something is under way");
    }

    /// The same; false if the connector has no link, or nothing is under way that could be changed.
    pub fn try_trouble(&mut self, connector: &str, trouble: LinkTrouble) -> bool {
        let Some(link) = self.newest_link(connector) else { return false };
        let gateway = self.ends[link].peer.expect("a link has two ends");
        let now = self.clock.now();
        let end_of = |way| match way {
            Way::ToGateway => (gateway, format!("{connector} > gateway")),
            Way::ToConnector => (link, format!("gateway > {connector}")),
        };
        let both = (gateway, format!("{connector} <-> gateway"));
        let (where_to, what) = match trouble {
            LinkTrouble::FlipBit(way) | LinkTrouble::FlipBitAt(way, _) => {
                (end_of(way), "one bit is flipped on the way")
            }
            LinkTrouble::Drop(way) => (end_of(way), "what is on the way is swallowed"),
            LinkTrouble::Reorder(way) => (end_of(way), "what is on the way comes in another order"),
            LinkTrouble::Repeat(way) => (end_of(way), "what is on the way comes twice"),
            LinkTrouble::Cut(way) => (end_of(way), "cut off half-way"),
            LinkTrouble::Reset => (both, "reset"),
            LinkTrouble::Clog => (both, "nothing passes any more"),
            LinkTrouble::Forget => (both, "nothing passes any more, and the connector is told so"),
        };
        let (end, place) = where_to;
        let inbound = &mut self.ends[end].inbound;
        let tampered = match trouble {
            LinkTrouble::FlipBit(_) => inbound.tamper(|bytes| {
                let place = bytes.len() / 2;
                bytes[place] ^= 1;
            }),
            LinkTrouble::FlipBitAt(_, bit) => inbound.tamper(|bytes| {
                let place = bit % (bytes.len() * 8);
                bytes[place / 8] ^= 1 << (place % 8);
            }),
            LinkTrouble::Drop(_) => inbound.tamper(Vec::clear),
            LinkTrouble::Reorder(_) => inbound.reorder(),
            LinkTrouble::Repeat(_) => inbound.tamper(|bytes| bytes.extend_from_within(..)),
            LinkTrouble::Cut(_) => inbound.tamper(|bytes| bytes.truncate(bytes.len() / 2)),
            LinkTrouble::Reset | LinkTrouble::Clog | LinkTrouble::Forget => true,
        };
        if !tampered {
            return false;
        }
        match trouble {
            LinkTrouble::FlipBit(_)
            | LinkTrouble::FlipBitAt(..)
            | LinkTrouble::Drop(_)
            | LinkTrouble::Reorder(_)
            | LinkTrouble::Repeat(_) => {}
            LinkTrouble::Cut(_) => inbound.end(now + self.link_delay),
            LinkTrouble::Reset => self.reset_connection(link),
            LinkTrouble::Clog => self.clog(link),
            LinkTrouble::Forget => {
                self.clog(link);
                let machine = self.machine(link);
                machine.conn.broke();
                machine.woken = true;
            }
        }
        self.note_trouble(&format!("{place}: {what}"));
        true
    }

    /// What was clogged passes again.
    pub fn unclog_all(&mut self) {
        self.note_trouble("everything passes again");
        for end in &mut self.ends {
            end.inbound.clogged = false;
        }
    }

    /// What a listener on the way has of a connector's newest link: everything that the connector sent, its join first.
    pub fn captured(&self, connector: &str) -> Vec<u8> {
        let link = self.newest_link(connector).expect("the connector has a link");
        self.ends[link].captured.clone().unwrap_or_default()
    }

    /// The end of a connector's newest link to which bytes go this way, if what was last sent this way is a record.
    pub(in crate::sim) fn joined_link(&self, connector: &str, way: Way) -> Option<usize> {
        let link = self.newest_link(connector)?;
        let gateway = self.ends[link].peer?;
        let (end, by_gateway) = match way {
            Way::ToConnector => (link, true),
            Way::ToGateway => (gateway, false),
        };
        self.referee.as_ref().is_some_and(|referee| referee.has_greeted(gateway, by_gateway)).then_some(end)
    }

    /// Whether somebody still holds this end of a connection.
    pub(in crate::sim) fn is_held(&self, end: usize) -> bool {
        !matches!(self.ends[end].actor, Actor::Gone)
    }

    /// The same, if it has a link.
    pub(in crate::sim) fn try_captured(&self, connector: &str) -> Option<Vec<u8>> {
        self.ends[self.newest_link(connector)?].captured.clone()
    }

    pub(super) fn newest_link(&self, connector: &str) -> Option<usize> {
        let process = self.process(connector);
        let is_link = |end: &End| {
            let of_process = matches!(&end.actor, Actor::Machine(machine) if machine.process == process);
            of_process && end.captured.is_some() && end.peer.is_some()
        };
        self.ends.iter().rposition(is_link)
    }
}
