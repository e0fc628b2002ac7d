//! Who of the visitors has nothing under way, and for how long: they make room where it runs out, so that no number of
//! idle visitors keeps a connector out.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::machine::{Effects, PortId};
use crate::time::Instant;

/// The visitors of a gateway.
#[derive(Debug, Default)]
pub(crate) struct Crowd(Mutex<Vec<Option<Arc<Stay>>>>);

/// One of them. Written by its machine, read where room is needed.
#[derive(Debug)]
pub(crate) struct Stay {
    port: PortId,
    /// In milliseconds, one more than the clock says; 0 while something is under way.
    idle_since: AtomicU64,
    leaves: AtomicBool,
}

impl Crowd {
    /// A connection came; it counts as busy until it says otherwise.
    pub(crate) fn enter(&self, port: PortId) -> Arc<Stay> {
        let stay = Arc::new(Stay { port, idle_since: AtomicU64::new(0), leaves: AtomicBool::new(false) });
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

    /// Lets go of those who have been idle longest: one in 256, so that a flood does not search at each connection.
    pub(crate) fn make_room(&self, fx: &mut Effects) {
        let places = self.lock();
        let count = 1 + places.len() / 256;
        let mut idle: Vec<_> =
            places.iter().flatten().filter_map(|stay| Some((stay.idle_since()?, stay))).collect();
        if idle.len() > count {
            idle.select_nth_unstable_by_key(count, |(since, stay)| (*since, stay.port));
            idle.truncate(count);
        }
        for (_, stay) in idle {
            stay.leaves.store(true, Ordering::Relaxed);
            fx.wake(stay.port);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Arc<Stay>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stay {
    /// Notes whether nothing is under way; true if the visitor then has to make room.
    pub(crate) fn note(&self, idle: bool, now: Instant) -> bool {
        match (idle, self.idle_since.load(Ordering::Relaxed)) {
            (true, 0) => self.idle_since.store(now.since_origin().as_millis() as u64 + 1, Ordering::Relaxed),
            (true, _) | (false, 0) => {}
            (false, _) => self.idle_since.store(0, Ordering::Relaxed),
        }
        idle && self.leaves.load(Ordering::Relaxed)
    }

    /// None if it is busy, or leaves already.
    fn idle_since(&self) -> Option<u64> {
        let since = self.idle_since.load(Ordering::Relaxed);
        (since != 0 && !self.leaves.load(Ordering::Relaxed)).then_some(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
        assert!(!first.note(true, at(10)) && !later.note(true, at(20)) && !busy.note(false, at(30)));
        assert!(!first.note(true, at(40)), "since when it was idle does not move");
        let mut fx = Effects::default();
        crowd.make_room(&mut fx);
        assert_eq!(fx.wakes, [port(2)]);
        assert!(first.note(true, at(50)) && !later.note(true, at(50)));
        crowd.make_room(&mut fx);
        crowd.make_room(&mut fx);
        assert_eq!(fx.wakes, [port(2), port(1)], "each is asked once");
        crowd.leave(port(0));
        crowd.make_room(&mut fx);
        assert_eq!(fx.wakes.len(), 2);
    }

    #[test]
    fn whose_request_came_meanwhile_is_served_first() {
        let crowd = Crowd::default();
        let visitor = crowd.enter(port(0));
        visitor.note(true, at(10));
        crowd.make_room(&mut Effects::default());
        assert!(!visitor.note(false, at(20)));
        assert!(visitor.note(true, at(30)));
    }

    #[test]
    fn many_make_room_at_once_where_there_are_many() {
        let crowd = Crowd::default();
        let visitors: Vec<_> = (0..1024).map(|index| crowd.enter(port(index))).collect();
        for (visitor, ms) in visitors.iter().zip(0..) {
            visitor.note(true, at(ms));
        }
        let mut fx = Effects::default();
        crowd.make_room(&mut fx);
        fx.wakes.sort();
        assert_eq!(fx.wakes, (0..5).map(port).collect::<Vec<_>>());
    }
}
