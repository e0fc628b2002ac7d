//! Who of the visitors rests, and for how long: has nothing under way, or does not do its part. They make room where it
//! runs out, so that no number of them keeps a connector out.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits;
use crate::machine::{Effects, PortId};
use crate::time::Instant;

/// The visitors of a gateway.
#[derive(Debug, Default)]
pub(crate) struct Crowd(Mutex<Vec<Option<Arc<Stay>>>>);

/// One of them. Written by its machine, read where room is needed.
#[derive(Debug)]
pub(crate) struct Stay {
    port: PortId,
    /// From when on it may have to make room, as [`mark`] has it; 0 while it is busy.
    rests_from: AtomicU64,
    leaves: AtomicBool,
}

impl Crowd {
    /// A connection came; it counts as busy until it says otherwise.
    pub(crate) fn enter(&self, port: PortId) -> Arc<Stay> {
        let stay = Arc::new(Stay { port, rests_from: AtomicU64::new(0), leaves: AtomicBool::new(false) });
        let mut places = self.lock();
        let index = port.index as usize;
        if places.len() <= index {
            places.resize(index + 1, None);
        }
        places[index] = Some(Arc::clone(&stay));
        stay
    }

    /// It is gone; to be told before its port is closed.
    pub(crate) fn leave(&self, port: PortId) {
        if let Some(place) = self.lock().get_mut(port.index as usize) {
            *place = None;
        }
    }

    /// Lets go of those who have rested longest: one in 256, so that a flood does not search at each connection.
    pub(crate) fn make_room(&self, now: Instant, fx: &mut Effects) {
        let places = self.lock();
        let count = 1 + places.len() / 256;
        let mut resting: Vec<_> =
            places.iter().flatten().filter_map(|stay| Some((stay.rests_from(now)?, stay))).collect();
        if resting.len() > count {
            resting.select_nth_unstable_by_key(count, |(from, stay)| (*from, stay.port));
            resting.truncate(count);
        }
        for (_, stay) in resting {
            stay.leaves.store(true, Ordering::Relaxed);
            fx.wake(stay.port);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Arc<Stay>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a visitor may have to make room.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rest {
    /// Nothing is under way.
    Idle,
    /// Something is, and it has waited for the visitor to take or send since then: it makes room after [`limits::STALL`].
    Stalls(Instant),
}

impl Stay {
    /// Notes whether the visitor rests; true if it then has to make room.
    pub(crate) fn note(&self, rest: Option<Rest>, now: Instant) -> bool {
        let (before, now) = (self.rests_from.load(Ordering::Relaxed), mark(now));
        let from = match rest {
            None => 0,
            // Since when it is idle does not move.
            Some(Rest::Idle) if (1..=now).contains(&before) => before,
            Some(Rest::Idle) => now,
            Some(Rest::Stalls(since)) => mark(since + limits::STALL),
        };
        if from != before {
            self.rests_from.store(from, Ordering::Relaxed);
        }
        (1..=now).contains(&from) && self.leaves.load(Ordering::Relaxed)
    }

    /// None if it does not rest, or leaves already.
    fn rests_from(&self, now: Instant) -> Option<u64> {
        let from = self.rests_from.load(Ordering::Relaxed);
        ((1..=mark(now)).contains(&from) && !self.leaves.load(Ordering::Relaxed)).then_some(from)
    }
}

/// A time as one number, which is not 0.
fn mark(at: Instant) -> u64 {
    at.since_origin().as_millis() as u64 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const IDLE: Option<Rest> = Some(Rest::Idle);

    fn port(index: u32) -> PortId {
        PortId { index, generation: 1 }
    }

    fn at(ms: u64) -> Instant {
        Instant::from_origin(Duration::from_millis(ms))
    }

    #[test]
    fn who_has_been_idle_longest_makes_room_first_and_who_is_busy_never_does() {
        let crowd = Crowd::default();
        let [busy, later, first] = [0, 1, 2].map(|index| crowd.enter(port(index)));
        assert!(!first.note(IDLE, at(10)) && !later.note(IDLE, at(20)) && !busy.note(None, at(30)));
        assert!(!first.note(IDLE, at(40)), "since when it was idle does not move");
        let mut fx = Effects::default();
        crowd.make_room(at(1000), &mut fx);
        assert_eq!(fx.wakes, [port(2)]);
        assert!(first.note(IDLE, at(50)) && !later.note(IDLE, at(50)));
        crowd.make_room(at(1000), &mut fx);
        crowd.make_room(at(1000), &mut fx);
        assert_eq!(fx.wakes, [port(2), port(1)], "each is asked once");
        crowd.leave(port(0));
        crowd.make_room(at(1000), &mut fx);
        assert_eq!(fx.wakes.len(), 2);
    }

    #[test]
    fn who_takes_nothing_of_what_waits_makes_room_like_an_idle_one_after_a_while() {
        let crowd = Crowd::default();
        let [stalled, idle, reads] = [0, 1, 2].map(|index| crowd.enter(port(index)));
        let stall_ms = limits::STALL.as_millis() as u64;
        let stalls = |since| Some(Rest::Stalls(at(since)));
        stalled.note(stalls(10), at(10));
        idle.note(IDLE, at(stall_ms + 20));
        reads.note(stalls(10), at(10));
        assert!(!reads.note(stalls(stall_ms), at(stall_ms)), "it took something");
        let mut fx = Effects::default();
        crowd.make_room(at(stall_ms + 9), &mut fx);
        assert_eq!(fx.wakes, [], "not yet");
        for _ in 0..3 {
            crowd.make_room(at(stall_ms + 30), &mut fx);
        }
        assert_eq!(fx.wakes, [port(0), port(1)], "longest first");
        assert!(stalled.note(stalls(10), at(stall_ms + 30)));
        assert!(!stalled.note(stalls(stall_ms + 40), at(stall_ms + 40)), "it goes on");
    }

    #[test]
    fn whose_request_came_meanwhile_is_served_first() {
        let crowd = Crowd::default();
        let visitor = crowd.enter(port(0));
        visitor.note(IDLE, at(10));
        crowd.make_room(at(1000), &mut Effects::default());
        assert!(!visitor.note(None, at(20)));
        assert!(visitor.note(IDLE, at(30)));
    }

    #[test]
    fn many_make_room_at_once_where_there_are_many() {
        let crowd = Crowd::default();
        let visitors: Vec<_> = (0..1024).map(|index| crowd.enter(port(index))).collect();
        for (visitor, ms) in visitors.iter().zip(0..) {
            visitor.note(IDLE, at(ms));
        }
        let mut fx = Effects::default();
        crowd.make_room(at(1000), &mut fx);
        fx.wakes.sort();
        assert_eq!(fx.wakes, (0..5).map(port).collect::<Vec<_>>());
    }
}
