//! The window of one direction of a stream, as its receiver keeps it (docs/protocol.md, flow control).
//!
//! A window starts at [`WINDOW_BYTES`] and doubles, up to [`WINDOW_BYTES_MAX`], when a whole window was consumed
//! within two round trips, or within [`WINDOW_FAST`]: then it, and not the reader, was what limited the stream. What it
//! grows by comes out of the process's pool. It shrinks to what it was at first, by credit that is withheld, when the
//! reader took nothing for [`SLOW_READER`] or the pool is nearly used up; then, or with the stream, the memory goes back.

use std::sync::Arc;
use std::time::Duration;

use crate::hub::admission::{Lease, Pool};
use crate::limits::{SLOW_READER, WINDOW_BYTES, WINDOW_BYTES_MAX, WINDOW_FAST};
use crate::time::Instant;

/// Less credit than this is not worth a frame. Of a wide window a sixteenth is: what is not yet given back is missing
/// from the window, and where the window is what limits a stream, from its speed.
const CREDIT_BYTES_MIN: u32 = WINDOW_BYTES / 4;

/// What a peer may still send on a stream, and when it may send more.
#[derive(Debug)]
pub(crate) struct RecvWindow {
    /// How much may be under way or unread at once.
    size: u32,
    /// What the peer may still send.
    credit: u32,
    /// Consumed, not yet granted again.
    pending: u32,
    /// When the window's worth of bytes that is being consumed began.
    round_began: Instant,
    round_consumed: u32,
    last_consumed: Instant,
    /// What the window is wider than it was at first.
    borrowed: Option<Lease>,
}

impl RecvWindow {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            size: WINDOW_BYTES,
            credit: WINDOW_BYTES,
            pending: 0,
            round_began: now,
            round_consumed: 0,
            last_consumed: now,
            borrowed: None,
        }
    }

    /// `count` bytes came; false if the peer had no credit for them.
    pub(crate) fn received(&mut self, count: usize) -> bool {
        let left = u32::try_from(count).ok().and_then(|count| self.credit.checked_sub(count));
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }

    /// The reader took `count` bytes. Returns the credit to give now, if it is worth a frame.
    pub(crate) fn consumed(
        &mut self,
        count: u32,
        now: Instant,
        round_trip: Duration,
        pool: &Arc<Pool>,
    ) -> Option<u32> {
        self.pending = self.pending.saturating_add(count);
        self.round_consumed = self.round_consumed.saturating_add(count);
        let slow = now.since(std::mem::replace(&mut self.last_consumed, now)) >= SLOW_READER;
        if slow || pool.is_scarce() {
            self.narrow();
        } else if self.round_consumed >= self.size {
            if now.since(self.round_began) <= (round_trip * 2).max(WINDOW_FAST)
                && self.size < WINDOW_BYTES_MAX
            {
                self.widen(pool);
            }
            self.round_began = now;
            self.round_consumed = 0;
        }
        if self.pending < (self.size / 16).max(CREDIT_BYTES_MIN) {
            return None;
        }
        self.credit = self.credit.saturating_add(self.pending);
        Some(std::mem::take(&mut self.pending))
    }

    /// Withholds credit until the window is what it was at first.
    fn narrow(&mut self) {
        let withheld = self.pending.min(self.size - WINDOW_BYTES);
        self.pending -= withheld;
        self.size -= withheld;
        if let Some(borrowed) = &mut self.borrowed {
            borrowed.give_back(withheld as usize);
        }
    }

    fn widen(&mut self, pool: &Arc<Pool>) {
        let Some(lease) = pool.borrow(self.size as usize) else { return };
        match &mut self.borrowed {
            Some(borrowed) => borrowed.absorb(lease),
            None => self.borrowed = Some(lease),
        }
        self.pending = self.pending.saturating_add(self.size);
        self.size *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(10);

    #[test]
    fn credit_comes_back_as_bytes_are_consumed_and_never_before() {
        let pool = Pool::new(0);
        let now = Instant::default();
        let mut window = RecvWindow::new(now);
        assert!(window.received(WINDOW_BYTES as usize));
        assert!(!window.received(1), "no credit is left");
        assert_eq!(window.consumed(100, now, ROUND_TRIP, &pool), None, "not worth a frame");
        assert_eq!(window.consumed(WINDOW_BYTES / 4, now, ROUND_TRIP, &pool), Some(WINDOW_BYTES / 4 + 100));
        assert!(window.received(WINDOW_BYTES as usize / 4 + 100));
        assert!(!window.received(1));
    }

    #[test]
    fn a_window_doubles_when_it_was_what_limited_the_stream() {
        let pool = Pool::new(16 * WINDOW_BYTES as usize);
        let now = Instant::default();
        let mut window = RecvWindow::new(now);
        assert!(window.received(WINDOW_BYTES as usize));
        let granted = window.consumed(WINDOW_BYTES, now + ROUND_TRIP, ROUND_TRIP, &pool);
        assert_eq!(
            granted,
            Some(2 * WINDOW_BYTES),
            "what was consumed, and the second half of the new window"
        );
        assert_eq!(pool.used(), WINDOW_BYTES as usize);
        drop(window);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn of_a_wide_window_no_more_than_a_sixteenth_is_kept_back() {
        let pool = Pool::new(1 << 30);
        let now = Instant::default();
        let mut window = RecvWindow::new(now);
        while window.size < WINDOW_BYTES_MAX {
            let all = window.credit;
            assert!(window.received(all as usize));
            window.consumed(all, now, ROUND_TRIP, &pool);
        }
        let sixteenth = WINDOW_BYTES_MAX / 16;
        assert!(window.received(2 * sixteenth as usize));
        assert_eq!(window.consumed(sixteenth - 1, now, ROUND_TRIP, &pool), None);
        assert_eq!(window.consumed(1, now, ROUND_TRIP, &pool), Some(sixteenth));
    }

    #[test]
    fn a_window_stays_when_the_reader_is_what_is_slow_or_the_pool_is_small() {
        let now = Instant::default();
        let rich = Pool::new(1 << 30);
        let mut slow = RecvWindow::new(now);
        assert!(slow.received(WINDOW_BYTES as usize));
        assert_eq!(slow.consumed(WINDOW_BYTES, now + ROUND_TRIP * 3, ROUND_TRIP, &rich), Some(WINDOW_BYTES));
        let poor = Pool::new(3 * WINDOW_BYTES as usize);
        let mut fast = RecvWindow::new(now);
        assert!(fast.received(WINDOW_BYTES as usize));
        assert_eq!(fast.consumed(WINDOW_BYTES, now, ROUND_TRIP, &poor), Some(WINDOW_BYTES));
    }

    #[test]
    fn over_a_short_way_a_window_grows_until_it_lasts_as_long_as_sealing_and_opening_may() {
        let pool = Pool::new(1 << 30);
        let (mut now, mut window) = (Instant::default(), RecvWindow::new(Instant::default()));
        // A reader that takes this much within the time that counts as fast.
        let fast = 5 * WINDOW_BYTES;
        for _ in 0..10 {
            let all = window.credit;
            assert!(window.received(all as usize));
            now = now + WINDOW_FAST * all / fast;
            window.consumed(all, now, Duration::from_micros(100), &pool);
        }
        assert_eq!(window.size, 8 * WINDOW_BYTES);
    }

    #[test]
    fn a_wide_window_shrinks_when_its_reader_stops_or_memory_is_scarce() {
        for scarce in [false, true] {
            let pool = Pool::new(16 * WINDOW_BYTES as usize);
            let now = Instant::default();
            let mut window = RecvWindow::new(now);
            assert!(window.received(WINDOW_BYTES as usize));
            assert_eq!(window.consumed(WINDOW_BYTES, now, ROUND_TRIP, &pool), Some(2 * WINDOW_BYTES));
            assert!(window.received(2 * WINDOW_BYTES as usize));
            let others = scarce.then(|| pool.reserve(12 * WINDOW_BYTES as usize).unwrap());
            let later = if scarce { now } else { now + SLOW_READER };
            assert_eq!(window.consumed(2 * WINDOW_BYTES, later, ROUND_TRIP, &pool), Some(WINDOW_BYTES));
            drop(others);
            assert_eq!(pool.used(), 0, "what it had grown by went back");
            assert!(!window.received(WINDOW_BYTES as usize + 1));
        }
    }
}
