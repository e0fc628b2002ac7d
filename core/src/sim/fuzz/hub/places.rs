//! Memory, ports, and idle connections to the app.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::input::Input;
use crate::hub::admission::{Lease, Pool, Purpose, Slots};
use crate::hub::mailbox::{Exchange, FirstWindows, Inbox};
use crate::hub::ports::Ports;
use crate::hub::targets::IdleTargets;
use crate::limits::TARGET_IDLE_UNSAFE;
use crate::machine::{Effects, PortId};
use crate::time::Instant;

/// A pool lends what it has and gets all of it back; slots as well.
pub(super) fn pool(mut input: Input<'_>) {
    let total = usize::from(input.byte()) * 4;
    let pool = Pool::new(total);
    let mut leases: Vec<(Lease, usize)> = Vec::new();
    let slots = std::sync::Arc::new(Slots::default());
    let mut taken = Vec::new();
    while !input.is_empty() {
        let (what, bytes) = (input.below(7), usize::from(input.byte()));
        let used = leases.iter().map(|(_, bytes)| bytes).sum::<usize>();
        match what {
            0 | 1 => {
                let free = total - used;
                let purpose = [Purpose::Short, Purpose::Long, Purpose::Speed][input.below(3)];
                // None where more is in use than this purpose may have: then not even nothing is lent.
                let (lease, room) = match purpose {
                    _ if what == 1 => {
                        let room = (total / 2).checked_sub(used).map(|room| room.min(free / 4));
                        (pool.borrow(bytes), room)
                    }
                    Purpose::Short => (pool.reserve(bytes, purpose), Some(free)),
                    Purpose::Long => (pool.reserve(bytes, purpose), (total / 4 * 3).checked_sub(used)),
                    Purpose::Speed => (pool.reserve(bytes, purpose), (total / 2).checked_sub(used)),
                };
                let expected = room.is_some_and(|room| bytes <= room);
                assert_eq!(lease.is_some(), expected, "{purpose:?}: {bytes} of {room:?}");
                leases.extend(lease.map(|lease| (lease, bytes)));
            }
            2 => _ = leases.pop(),
            3 => {
                if let Some((lease, held)) = leases.last_mut() {
                    lease.give_back(bytes);
                    *held = held.saturating_sub(bytes);
                }
            }
            4 if leases.len() > 1 => {
                if let (Some((other, bytes)), Some((lease, held))) = (leases.pop(), leases.last_mut()) {
                    lease.absorb(other);
                    *held += bytes;
                }
            }
            5 => taken.extend(slots.take(5)),
            _ => _ = taken.pop(),
        }
        let used = leases.iter().map(|(_, bytes)| bytes).sum::<usize>();
        assert_eq!((pool.used(), pool.is_scarce()), (used, used > total / 4 * 3));
        assert_eq!(pool.is_roomy(), used < total / 4);
        assert!(slots.taken() as usize == taken.len() && taken.len() <= 5);
    }
    drop((leases, taken));
    assert_eq!((pool.used(), slots.taken()), (0, 0));
}

/// No two connections ever have the same port, and all that are open are woken.
pub(super) fn ports(mut input: Input<'_>) {
    let ports = Ports::default();
    let (mut open, mut all) = (Vec::new(), BTreeSet::new());
    while !input.is_empty() {
        match input.below(3) {
            0 => {
                let port = ports.open();
                assert!(all.insert(port), "a port is nobody else's");
                open.push(port);
            }
            1 if !open.is_empty() => ports.close(open.swap_remove(input.below(open.len()))),
            _ => all.iter().filter(|port| !open.contains(port)).for_each(|port| ports.close(*port)),
        }
        let mut fx = Effects::default();
        ports.wake_all(&mut fx);
        fx.wakes.sort_unstable();
        open.sort_unstable();
        assert_eq!(fx.wakes, open);
    }
}

/// An exchange is left with an idle connection that is fresh enough, with the one used last, and found there once.
pub(super) fn idle_targets(mut input: Input<'_>) {
    let targets = IdleTargets::default();
    let lease = Pool::new(1).reserve(1, Purpose::Short).expect("there is room for one");
    let windows = FirstWindows { to_link: 0, to_http: 0 };
    let exchange = Exchange::new(Inbox::new(PortId { index: 0, generation: 1 }), None, windows, lease);
    let mut idle: Vec<(PortId, Instant, Instant)> = Vec::new();
    let mut assigned = BTreeSet::new();
    let mut now = Instant::default();
    while !input.is_empty() {
        let port = PortId { index: u32::from(input.byte() % 4), generation: 1 };
        let is_idle = idle.iter().any(|(other, ..)| *other == port);
        match input.below(5) {
            0 if !is_idle && !assigned.contains(&port) => {
                let until = now + Duration::from_millis(u64::from(input.byte()) * 20);
                targets.add(port, until, now);
                idle.push((port, now, until));
            }
            1 => {
                assert_eq!(targets.remove(port), is_idle);
                idle.retain(|(other, ..)| *other != port);
            }
            2 => {
                let once = input.coin();
                let last = idle.last().copied().filter(|(_, since, until)| {
                    now < *until && (!once || now.since(*since) < TARGET_IDLE_UNSAFE)
                });
                let found = targets.assign(&exchange, once, now);
                assert_eq!(found, last.map(|(port, ..)| port));
                if let Some(port) = found {
                    idle.pop();
                    assigned.insert(port);
                }
            }
            3 => assert_eq!(targets.take(port).is_some(), assigned.remove(&port)),
            _ => now = now + Duration::from_millis(u64::from(input.byte()) * 10),
        }
    }
}
