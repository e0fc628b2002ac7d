//! The joined connectors.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::super::input::Input;
use crate::hub::admission::{Purpose, Slot};
use crate::hub::mailbox::Inbox;
use crate::hub::registry::{Attached, Connector, Listed, Newcomer, Pick, Registry};
use crate::link::frame::Hello;
use crate::machine::{Effects, PortId};
use crate::time::UnixSecs;

const CONNECTORS_MAX: usize = 4;

/// What is known of one joined connector.
struct Known {
    connector: Arc<Connector>,
    instance: u8,
    epoch: u64,
    streams_max: u32,
    slots: Vec<Slot>,
    leaving: bool,
    /// How many others had a turn since, while it could have had one.
    passed_over: usize,
}

pub(super) fn connectors_join_and_leave(mut input: Input<'_>) {
    let registry = Registry::default();
    let (mut joined, mut gone, mut ports) = (Vec::<Known>::new(), Vec::<Known>::new(), 0);
    while !input.is_empty() {
        let mut fx = Effects::default();
        let version = version(&registry);
        match input.below(6) {
            0 | 1 => {
                ports += 1;
                attach(&registry, &mut joined, &mut gone, ports, &mut input, &mut fx);
            }
            2 if !joined.is_empty() => {
                let place = input.below(joined.len());
                registry.detach(&joined[place].connector, &mut fx);
                gone.push(joined.remove(place));
            }
            2 | 3 if !gone.is_empty() => {
                // A ghost has no place to give up.
                registry.detach(&gone[input.below(gone.len())].connector, &mut fx);
                assert!(self::version(&registry) == version && fx.wakes.is_empty());
            }
            3 if !joined.is_empty() => {
                let place = input.below(joined.len());
                joined[place].connector.leave();
                joined[place].leaving = true;
            }
            4 => pick(&registry, &mut joined, &mut input),
            _ => {
                let place = input.below(joined.len());
                if let Some(known) = joined.get_mut(place) {
                    known.slots.pop();
                }
            }
        }
        if self::version(&registry) != version {
            for Known { connector, .. } in joined.iter() {
                let port = connector.inbox.port();
                // A newcomer is just running.
                let is_told = fx.wakes.contains(&port);
                assert!(is_told == asks(port) || port.index == ports, "everyone who asks learns of it");
            }
            joined.iter_mut().for_each(|known| known.passed_over = 0);
        }
        check(&registry, &joined);
    }
}

fn version(registry: &Registry) -> u64 {
    let Listed::New(version, _) = registry.list_after(None) else { panic!("nobody holds lists") };
    version
}

/// Every other one asks for lists.
fn asks(port: PortId) -> bool {
    port.index.is_multiple_of(2)
}

fn attach(
    registry: &Registry,
    joined: &mut Vec<Known>,
    gone: &mut Vec<Known>,
    port: u32,
    input: &mut Input<'_>,
    fx: &mut Effects,
) {
    let (instance, epoch, streams_max) = (input.byte() % 6, u64::from(input.byte() % 4), input.byte() % 4);
    let hello = Hello {
        streams_max: streams_max.into(),
        instance: (instance > 0).then_some([instance; 16]),
        epoch,
        ..Hello::default()
    };
    let inbox = Inbox::new(PortId { index: port, generation: 1 });
    let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let newcomer = Newcomer { id: port.to_string(), from, now: UnixSecs(1), inbox };
    let place = joined.iter().position(|known| known.instance == instance);
    match registry.attach(hello, newcomer, CONNECTORS_MAX, fx) {
        Attached::Nameless => assert_eq!(instance, 0),
        Attached::Stale => assert!(place.is_some_and(|place| joined[place].epoch >= epoch)),
        Attached::Full => assert!(place.is_none() && joined.len() == CONNECTORS_MAX),
        Attached::Joined { connector, replaced } => {
            assert!(instance > 0 && replaced == place.is_some());
            connector.note_asks_peers(asks(connector.inbox.port()));
            let streams_max = streams_max.into();
            let slots = Vec::new();
            let known =
                Known { connector, instance, epoch, streams_max, slots, leaving: false, passed_over: 0 };
            match place {
                Some(place) => {
                    assert!(epoch > joined[place].epoch);
                    let ghost = std::mem::replace(&mut joined[place], known);
                    let told = fx.wakes.contains(&ghost.connector.inbox.port());
                    assert!(told && ghost.connector.is_replaced(), "a ghost is told");
                    gone.push(ghost);
                }
                None => joined.push(known),
            }
        }
    }
}

fn pick(registry: &Registry, joined: &mut [Known], input: &mut Input<'_>) {
    let not = input.coin().then(|| input.below(joined.len())).filter(|place| *place < joined.len());
    let takes = |place: usize, known: &Known| !known.leaving && not != Some(place);
    let has_room = |known: &Known| known.slots.len() < known.streams_max as usize;
    let candidates: Vec<usize> = (0..joined.len()).filter(|place| takes(*place, &joined[*place])).collect();
    let with_room: Vec<usize> =
        candidates.iter().copied().filter(|place| has_room(&joined[*place])).collect();
    let purpose = if input.coin() { Purpose::Short } else { Purpose::Long };
    match registry.pick(not.map(|place| &joined[place].connector), purpose) {
        Pick::Nobody => assert!(candidates.is_empty()),
        Pick::Busy => assert!(!candidates.is_empty() && with_room.is_empty()),
        Pick::Connector(connector, slot) => {
            let chosen = joined.iter().position(|known| Arc::ptr_eq(&known.connector, &connector));
            let chosen = chosen.expect("one that is joined");
            assert!(with_room.contains(&chosen));
            for place in with_room {
                joined[place].passed_over += 1;
            }
            // Who is left out on purpose loses a turn.
            for place in not.into_iter().chain([chosen]) {
                joined[place].passed_over = 0;
            }
            joined[chosen].slots.push(slot);
            let others = joined.len() - 1;
            assert!(joined.iter().all(|known| known.passed_over <= others), "everyone has a turn");
        }
    }
}

fn check(registry: &Registry, joined: &[Known]) {
    let (Listed::New(_, list), ids) = (registry.list_after(None), registry.ids()) else { panic!("no list") };
    assert!(list.iter().map(|peer| &peer.id).eq(&ids));
    let known: Vec<&str> = joined.iter().map(|known| known.connector.id.as_str()).collect();
    assert_eq!(ids, known);
    for (stats, known) in registry.stats().iter().zip(joined) {
        assert_eq!((stats.in_flight as usize, &stats.id), (known.slots.len(), &known.connector.id));
        assert!(!known.connector.is_replaced());
    }
}
