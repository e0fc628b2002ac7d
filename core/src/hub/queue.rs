//! Requests for which there is no room: they wait for their turn, in order.
//!
//! There are lines, since what one request waits for need not be what keeps another out:
//! ```text
//!   short requests  ────────▶ ┐
//!   uploads and upgrades ───▶ ├─ whoever is first in its line is rung when something ends, and looks again
//!   whoever holds most ─────▶ ┘   (the last line only goes on while the line it left is empty)
//! ```
//! Who waits looks for itself: a ticket only says whose turn it is. Whoever leaves the queue rings those who are first
//! then, so that one who goes on lets the next one look.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::admission::Purpose;
use crate::limits::{NO_ROOM_SAID_EVERY, WAITING_MAX};
use crate::machine::{Effects, PortId};
use crate::time::Instant;

/// The requests of a gateway that wait for room.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    lines: Mutex<Lines>,
    /// How many wait in all; read without the lock.
    count: AtomicUsize,
    /// How often the first were rung.
    rings: AtomicU64,
    /// How many were turned away and not spoken of.
    turned_away: AtomicU64,
    /// In milliseconds, one more than the clock says: when it was spoken of last; 0 if never.
    said_at: AtomicU64,
}

#[derive(Debug, Default)]
struct Lines {
    next: u64,
    lines: [BTreeMap<u64, PortId>; Line::COUNT],
}

/// Where a request waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Line {
    /// For memory that any request may have.
    Short,
    /// For memory that what rests may have.
    Long,
    /// Until others had theirs: its visitor holds more than its share.
    Patient,
}

impl Line {
    const COUNT: usize = Line::Patient as usize + 1;

    /// The line for memory of this kind.
    pub(crate) fn of(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Short => Line::Short,
            Purpose::Long | Purpose::Speed => Line::Long,
        }
    }
}

/// A place in a line.
#[derive(Debug)]
pub(crate) struct Ticket {
    line: Line,
    number: u64,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody waits in this line.
    pub(crate) fn is_empty(&self, line: Line) -> bool {
        self.count.load(Ordering::Relaxed) == 0 || self.lock().lines[line as usize].is_empty()
    }

    /// The last place in a line, for the request of this port; none if as many wait as may.
    pub(crate) fn enter(&self, line: Line, port: PortId) -> Option<Ticket> {
        let state = &mut *self.lock();
        if self.count.load(Ordering::Relaxed) >= WAITING_MAX {
            return None;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        state.next += 1;
        state.lines[line as usize].insert(state.next, port);
        Some(Ticket { line, number: state.next })
    }

    /// Whether this one lets others look first.
    pub(crate) fn is_patient(&self, ticket: &Ticket) -> bool {
        ticket.line == Line::Patient
    }

    /// Whether it is the turn of this one.
    pub(crate) fn is_first(&self, ticket: &Ticket) -> bool {
        let first = self.lock().lines[ticket.line as usize].first_key_value().map(|(number, _)| *number);
        first == Some(ticket.number)
    }

    /// It waits no more. Rings whoever is first now.
    pub(crate) fn leave(&self, ticket: Ticket, fx: &mut Effects) {
        if self.lock().lines[ticket.line as usize].remove(&ticket.number).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        self.ring(fx);
    }

    /// Something has ended: whoever is first may find room.
    pub(crate) fn ring(&self, fx: &mut Effects) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.rings.fetch_add(1, Ordering::Relaxed);
            for line in &self.lock().lines {
                if let Some((_, port)) = line.first_key_value() {
                    fx.wake(*port);
                }
            }
        }
    }

    /// How often the first were rung: whoever looked after the last time need not look again.
    pub(crate) fn rings(&self) -> u64 {
        self.rings.load(Ordering::Relaxed)
    }

    /// A request was turned away for want of room; how many were since this was last told, once a while.
    pub(crate) fn turn_away(&self, now: Instant) -> Option<u64> {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        let now_ms = now.since_origin().as_millis() as u64 + 1;
        let said_at = self.said_at.load(Ordering::Relaxed);
        if said_at != 0 && now_ms < said_at + NO_ROOM_SAID_EVERY.as_millis() as u64 {
            return None;
        }
        self.said_at.store(now_ms, Ordering::Relaxed);
        Some(self.turned_away.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(index: u32) -> PortId {
        PortId { index, generation: 1 }
    }

    #[test]
    fn each_line_is_in_order_and_who_leaves_rings_the_next() {
        let (queue, mut fx) = (Queue::default(), Effects::default());
        let first = queue.enter(Line::Short, port(1)).unwrap();
        let second = queue.enter(Line::Short, port(2)).unwrap();
        let upload = queue.enter(Line::Long, port(3)).unwrap();
        assert!(queue.is_first(&first) && !queue.is_first(&second) && queue.is_first(&upload));
        queue.ring(&mut fx);
        assert_eq!(std::mem::take(&mut fx.wakes), [port(1), port(3)]);
        queue.leave(first, &mut fx);
        assert_eq!(std::mem::take(&mut fx.wakes), [port(2), port(3)]);
        assert!(queue.is_first(&second));
        queue.leave(second, &mut fx);
        queue.leave(upload, &mut fx);
        assert!([Line::Short, Line::Long, Line::Patient].into_iter().all(|line| queue.is_empty(line)));
        fx.wakes.clear();
        queue.ring(&mut fx);
        assert_eq!(fx.wakes, []);
    }

    #[test]
    fn whoever_leaves_in_the_middle_leaves_the_order_of_the_others() {
        let (queue, mut fx) = (Queue::default(), Effects::default());
        let [first, second, third] = [1, 2, 3].map(|index| queue.enter(Line::Short, port(index)).unwrap());
        queue.leave(second, &mut fx);
        queue.leave(first, &mut fx);
        assert!(queue.is_first(&third));
    }

    #[test]
    fn only_so_many_wait() {
        let queue = Queue::default();
        let tickets: Vec<_> = (0..).map_while(|index| queue.enter(Line::Long, port(index))).collect();
        assert_eq!(tickets.len(), WAITING_MAX);
        assert!(queue.enter(Line::Short, port(0)).is_none());
    }

    #[test]
    fn who_was_turned_away_is_told_once_a_while_with_a_count() {
        let (queue, begun) = (Queue::default(), Instant::default());
        assert_eq!(queue.turn_away(begun), Some(1));
        assert_eq!((queue.turn_away(begun), queue.turn_away(begun)), (None, None));
        assert_eq!(queue.turn_away(begun + NO_ROOM_SAID_EVERY), Some(3));
    }
}
