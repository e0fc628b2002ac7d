//! The connectors that are joined, and whose turn it is.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::admission::{Purpose, Slot, Slots};
use super::mailbox::Inbox;
use crate::limits::{self, WIDE_STREAMS_MAX};
use crate::link::frame::{ConnectorStats, Hello, Peer};
use crate::machine::{Effects, PortId};
use crate::time::UnixSecs;

/// One joined link of a connector, as the gateway knows it.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) id: String,
    pub(crate) name: String,
    /// What people know it by: its name, or its id if it has none.
    pub(crate) label: Arc<str>,
    pub(crate) inbox: Arc<Inbox>,
    /// The window that the connector grants each stream at first, in bytes.
    pub(crate) window: u32,
    from: IpAddr,
    since: UnixSecs,
    instance: [u8; 16],
    link: u32,
    epoch: u64,
    streams_max: u32,
    /// The exchanges that are open on it, short ones and others.
    slots: [Arc<Slots>; 2],
    /// How many of each it is believed to have room for: any number, until it refuses one.
    room: [AtomicU32; 2],
    requests: AtomicU64,
    round_trip_micros: AtomicU32,
    /// It takes no new exchanges.
    leaving: AtomicBool,
    /// It does not answer just now.
    unresponsive: AtomicBool,
    /// It asks for the next list of connectors.
    asks_peers: AtomicBool,
    /// Another link has taken its place: its machine ends when it sees this.
    replaced: AtomicBool,
}

impl Connector {
    /// No new exchanges go to it from now on.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether another link has taken its place.
    pub(crate) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Relaxed)
    }

    /// Notes the latest round trip.
    pub(crate) fn note_round_trip(&self, round_trip: std::time::Duration) {
        let micros = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX);
        self.round_trip_micros.store(micros, Ordering::Relaxed);
    }

    /// Notes whether it answers.
    pub(crate) fn note_unresponsive(&self, is_so: bool) {
        self.unresponsive.store(is_so, Ordering::Relaxed);
    }

    /// It refused an exchange: it has no room for more of this kind than are open beside that.
    pub(crate) fn refused(&self, purpose: Purpose) {
        let kind = kind(purpose);
        let others = self.slots[kind].taken().saturating_sub(1);
        self.room[kind].store(others.max(1), Ordering::Relaxed);
    }

    /// Whether few enough exchanges are open on it for one more to begin with a wide window.
    pub(crate) fn is_roomy(&self) -> bool {
        self.slots.iter().map(|slots| slots.taken()).sum::<u32>() < WIDE_STREAMS_MAX
    }

    /// Room for one more exchange of this kind.
    fn take(&self, purpose: Purpose) -> Option<Slot> {
        let kind = kind(purpose);
        let others = self.slots[1 - kind].taken();
        let room = self.room[kind].load(Ordering::Relaxed);
        self.slots[kind].take(room.min(self.streams_max.saturating_sub(others)))
    }

    /// Notes whether it asks for the next list of connectors, before the list is looked at.
    pub(crate) fn note_asks_peers(&self, is_so: bool) {
        self.asks_peers.store(is_so, Ordering::SeqCst);
    }

    fn peer(&self) -> Peer {
        Peer {
            id: self.id.clone(),
            name: self.name.clone(),
            address: self.from.to_string(),
            since: self.since,
        }
    }

    fn port(&self) -> PortId {
        self.inbox.port()
    }
}

/// The place of what an exchange's memory is for.
fn kind(purpose: Purpose) -> usize {
    usize::from(purpose != Purpose::Short)
}

/// The joined connectors of a gateway.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    joined: Vec<Arc<Connector>>,
    /// Who comes next.
    turn: usize,
    /// How often `joined` changed.
    version: u64,
    /// The list of this version, once somebody asked for it.
    list: Option<Arc<[Peer]>>,
    /// The lists that somebody still sends, and this one.
    lists: Vec<Weak<[Peer]>>,
}

/// What the gateway knows of a link whose HELLO just opened.
#[derive(Debug)]
pub(crate) struct Newcomer {
    /// The id that it gets.
    pub(crate) id: String,
    pub(crate) from: IpAddr,
    pub(crate) now: UnixSecs,
    pub(crate) inbox: Arc<Inbox>,
}

/// What a join did.
#[derive(Debug)]
pub(crate) enum Attached {
    /// It is in.
    Joined {
        connector: Arc<Connector>,
        /// It took the place of an older link of the same connector.
        replaced: bool,
    },
    /// The connector has a newer link already, or this HELLO was seen before.
    Stale,
    /// There are as many connectors as there may be.
    Full,
    /// HELLO did not say who it is.
    Nameless,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connector in whose HELLO opened under its link's own keys. An older link of the same connector is
    /// replaced at once, so that a connector never waits for its own ghost.
    pub(crate) fn attach(
        &self,
        hello: Hello,
        Newcomer { id, from, now, inbox }: Newcomer,
        connectors_max: usize,
        fx: &mut Effects,
    ) -> Attached {
        let Some(instance) = hello.instance else { return Attached::Nameless };
        let state = &mut *self.lock();
        let same = |other: &Connector| other.instance == instance && other.link == hello.link;
        let place = state.joined.iter().position(|other| same(other));
        if place.is_some_and(|place| state.joined[place].epoch >= hello.epoch) {
            return Attached::Stale;
        }
        if place.is_none() && state.joined.len() >= connectors_max {
            return Attached::Full;
        }
        let label = if hello.name.is_empty() { &id } else { &hello.name };
        let connector = Arc::new(Connector {
            label: label.as_str().into(),
            id,
            name: hello.name,
            inbox,
            window: hello.window,
            from,
            since: now,
            instance,
            link: hello.link,
            epoch: hello.epoch,
            streams_max: hello.streams_max,
            slots: Default::default(),
            room: [AtomicU32::new(u32::MAX), AtomicU32::new(u32::MAX)],
            requests: AtomicU64::new(0),
            round_trip_micros: AtomicU32::new(0),
            leaving: AtomicBool::new(false),
            unresponsive: AtomicBool::new(false),
            asks_peers: AtomicBool::new(false),
            replaced: AtomicBool::new(false),
        });
        match place {
            Some(place) => {
                let ghost = std::mem::replace(&mut state.joined[place], connector.clone());
                ghost.replaced.store(true, Ordering::Relaxed);
                fx.wake(ghost.port());
            }
            None => state.joined.push(connector.clone()),
        }
        state.changed(fx);
        Attached::Joined { connector, replaced: place.is_some() }
    }

    /// The link of this connector is gone.
    pub(crate) fn detach(&self, connector: &Arc<Connector>, fx: &mut Effects) {
        let state = &mut *self.lock();
        if let Some(place) = state.joined.iter().position(|other| Arc::ptr_eq(other, connector)) {
            state.joined.remove(place);
            if state.turn > place {
                state.turn -= 1;
            }
            state.changed(fx);
        }
    }

    /// The connector that `home` is a link of, if it answers, stays and has room for one more exchange of this kind; else
    /// the next one in turn.
    pub(crate) fn pick_for(&self, home: &Connector, purpose: Purpose) -> Pick {
        let same = |connector: &&Arc<Connector>| {
            connector.instance == home.instance
                && !connector.leaving.load(Ordering::Relaxed)
                && !connector.unresponsive.load(Ordering::Relaxed)
        };
        if let Some(connector) = self.lock().joined.iter().find(same)
            && let Some(slot) = connector.take(purpose)
        {
            connector.requests.fetch_add(1, Ordering::Relaxed);
            return Pick::Connector(connector.clone(), slot);
        }
        self.pick(None, purpose)
    }

    /// The next connector in turn that takes exchanges and has room for one more of this kind, other than `not`; one that
    /// does not answer just now only if no other takes it.
    pub(crate) fn pick(&self, not: Option<&Arc<Connector>>, purpose: Purpose) -> Pick {
        let state = &mut *self.lock();
        let count = state.joined.len();
        let mut any = false;
        for all in [false, true] {
            for step in 0..count {
                let place = (state.turn + step) % count;
                let connector = &state.joined[place];
                if !all && connector.unresponsive.load(Ordering::Relaxed)
                    || connector.leaving.load(Ordering::Relaxed)
                    || not.is_some_and(|not| Arc::ptr_eq(not, connector))
                {
                    continue;
                }
                any = true;
                if let Some(slot) = connector.take(purpose) {
                    connector.requests.fetch_add(1, Ordering::Relaxed);
                    let connector = connector.clone();
                    state.turn = place + 1;
                    return Pick::Connector(connector, slot);
                }
            }
        }
        if any { Pick::Busy } else { Pick::Nobody }
    }

    /// A request waits: connectors that refused some may have room for somewhat more of its kind by now.
    pub(crate) fn expect_room(&self, purpose: Purpose) {
        for connector in &self.lock().joined {
            let kind = kind(purpose);
            let room = connector.room[kind].load(Ordering::Relaxed);
            if connector.slots[kind].taken() >= room {
                connector.room[kind].store(room.saturating_add(1 + room / 16), Ordering::Relaxed);
            }
        }
    }

    /// Who is joined, if that is another list than the one of the version that is `known`. All who ask share it.
    pub(crate) fn list_after(&self, known: Option<u64>) -> Listed {
        let state = &mut *self.lock();
        if known == Some(state.version) {
            return Listed::Same;
        }
        if state.list.is_none() {
            state.lists.retain(|list| list.strong_count() > 0);
            if state.lists.len() == limits::PEERS_LISTS_MAX {
                return Listed::Later;
            }
            let list = state.joined.iter().map(|connector| connector.peer()).collect();
            state.lists.push(Arc::downgrade(state.list.insert(list)));
        }
        state.list.as_ref().map_or(Listed::Later, |list| Listed::New(state.version, Arc::clone(list)))
    }

    /// Who is joined. For checks.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.lock().joined.iter().map(|connector| connector.id.clone()).collect()
    }

    /// The figures of all connectors.
    pub(crate) fn stats(&self) -> Vec<ConnectorStats> {
        let stats = |connector: &Arc<Connector>| ConnectorStats {
            id: connector.id.clone(),
            requests: connector.requests.load(Ordering::Relaxed),
            in_flight: connector.slots.iter().map(|slots| slots.taken()).sum(),
            round_trip_micros: connector.round_trip_micros.load(Ordering::Relaxed),
        };
        self.lock().joined.iter().map(stats).collect()
    }
}

impl State {
    /// Every connector that asks learns of it.
    fn changed(&mut self, fx: &mut Effects) {
        self.version += 1;
        self.list = None;
        for connector in self.joined.iter().filter(|connector| connector.asks_peers.load(Ordering::SeqCst)) {
            fx.wake(connector.port());
        }
    }
}

/// What there is for somebody who asks for the list of connectors.
#[derive(Debug)]
pub(crate) enum Listed {
    /// The list that is known.
    Same,
    /// Too many older lists are still on their way to somebody slow.
    Later,
    /// Another one, with its version.
    New(u64, Arc<[Peer]>),
}

/// Who serves an exchange.
#[derive(Debug)]
pub(crate) enum Pick {
    /// This one, in this place.
    Connector(Arc<Connector>, Slot),
    /// There are connectors, and all have as many exchanges as they take.
    Busy,
    /// There are none.
    Nobody,
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn hello(instance: u8, epoch: u64) -> Hello {
        Hello { streams_max: 2, window: 1, instance: Some([instance; 16]), epoch, ..Hello::default() }
    }

    fn attach(registry: &Registry, hello: Hello, port: u32, fx: &mut Effects) -> Attached {
        let inbox = Inbox::new(PortId { index: port, generation: 1 });
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let newcomer = Newcomer { id: port.to_string(), from, now: UnixSecs(1), inbox };
        registry.attach(hello, newcomer, 3, fx)
    }

    fn picked(registry: &Registry) -> (String, Slot) {
        match registry.pick(None, Purpose::Short) {
            Pick::Connector(connector, slot) => (connector.id.clone(), slot),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn connectors_take_turns_and_a_full_one_is_passed_over() {
        let registry = Registry::default();
        let mut fx = Effects::default();
        for port in 1..=3 {
            attach(&registry, hello(u8::try_from(port).unwrap(), 1), port, &mut fx);
        }
        let turns: Vec<_> = (0..6).map(|_| picked(&registry)).collect();
        let ids: Vec<_> = turns.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["1", "2", "3", "1", "2", "3"]);
        assert!(matches!(registry.pick(None, Purpose::Short), Pick::Busy));
        drop(turns);
        assert!(matches!(registry.pick(None, Purpose::Short), Pick::Connector(..)));
    }

    #[test]
    fn one_that_does_not_answer_is_passed_over_until_nobody_else_is_left() {
        let registry = Registry::default();
        let mut fx = Effects::default();
        let joined: Vec<_> = (1..=2)
            .map(|port| match attach(&registry, hello(u8::try_from(port).unwrap(), 1), port, &mut fx) {
                Attached::Joined { connector, .. } => connector,
                other => panic!("{other:?}"),
            })
            .collect();
        joined[0].note_unresponsive(true);
        let turns: Vec<_> = (0..3).map(|_| picked(&registry)).collect();
        assert_eq!(turns.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["2", "2", "1"]);
        drop(turns);
        joined[0].note_unresponsive(false);
        let turns: Vec<_> = (0..2).map(|_| picked(&registry)).collect();
        assert_eq!(turns.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["2", "1"]);
    }

    #[test]
    fn one_that_refused_gets_no_more_than_it_had_and_slowly_more_again() {
        let registry = Registry::default();
        let hello = Hello { streams_max: 100, ..hello(1, 1) };
        let Attached::Joined { connector, .. } = attach(&registry, hello, 1, &mut Effects::default()) else {
            panic!()
        };
        let fill = |purpose| {
            let picked = || match registry.pick(None, purpose) {
                Pick::Connector(_, slot) => Some(slot),
                _ => None,
            };
            std::iter::from_fn(picked).collect::<Vec<_>>()
        };
        let mut uploads = fill(Purpose::Long);
        assert_eq!(uploads.len(), 100);
        uploads.truncate(20);
        connector.refused(Purpose::Long);
        uploads.pop();
        assert!(fill(Purpose::Long).is_empty());
        assert_eq!(fill(Purpose::Short).len(), 81, "what is short has room of its own");
        for more in [2, 2, 2] {
            registry.expect_room(Purpose::Long);
            let taken = fill(Purpose::Long);
            assert_eq!(taken.len(), more);
            uploads.extend(taken);
        }
    }

    #[test]
    fn a_higher_epoch_replaces_the_older_link_and_an_equal_one_is_stale() {
        let registry = Registry::default();
        let mut fx = Effects::default();
        let Attached::Joined { connector: ghost, .. } = attach(&registry, hello(7, 1), 1, &mut fx) else {
            panic!()
        };
        assert!(matches!(attach(&registry, hello(7, 1), 2, &mut fx), Attached::Stale));
        assert!(matches!(
            attach(&registry, hello(7, 2), 2, &mut fx),
            Attached::Joined { replaced: true, .. }
        ));
        assert!(ghost.is_replaced());
        assert_eq!(registry.ids().len(), 1);
        registry.detach(&ghost, &mut fx);
        assert_eq!(registry.ids().len(), 1, "the ghost has no place to give up");
    }

    #[test]
    fn all_who_ask_share_one_list_and_who_does_not_ask_is_not_woken() {
        let (registry, mut fx) = (Registry::default(), Effects::default());
        let join = |port: u8, fx: &mut Effects| match attach(&registry, hello(port, 1), port.into(), fx) {
            Attached::Joined { connector, .. } => connector,
            other => panic!("{other:?}"),
        };
        let first = join(1, &mut fx);
        join(2, &mut fx);
        let list = |known| match registry.list_after(known) {
            Listed::New(version, list) => (version, list),
            other => panic!("{other:?}"),
        };
        let ((version, one), (_, same)) = (list(None), list(None));
        assert!(Arc::ptr_eq(&one, &same) && one.len() == 2);
        assert!(matches!(registry.list_after(Some(version)), Listed::Same));
        fx.wakes.clear();
        first.note_asks_peers(true);
        join(3, &mut fx);
        assert_eq!(fx.wakes, [first.port()]);
        assert_eq!(list(Some(version)).1.len(), 3);
    }

    #[test]
    fn slow_readers_hold_a_few_lists_at_most() {
        let (registry, mut fx) = (Registry::default(), Effects::default());
        let mut held = Vec::new();
        for epoch in 1..=10 {
            attach(&registry, hello(1, epoch), 1, &mut fx);
            if let Listed::New(_, list) = registry.list_after(None) {
                held.push(list);
            }
        }
        assert_eq!(held.len(), limits::PEERS_LISTS_MAX);
        held.pop();
        assert!(matches!(registry.list_after(None), Listed::New(_, list) if list.len() == 1));
    }

    #[test]
    fn nobody_serves_when_all_are_leaving() {
        let registry = Registry::default();
        let mut fx = Effects::default();
        let Attached::Joined { connector, .. } = attach(&registry, hello(1, 1), 1, &mut fx) else { panic!() };
        assert!(matches!(registry.pick(Some(&connector), Purpose::Short), Pick::Nobody));
        connector.leave();
        assert!(matches!(registry.pick(None, Purpose::Short), Pick::Nobody));
    }
}
