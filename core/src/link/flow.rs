//! The window of one direction of a stream, as its receiver keeps it (docs/protocol.md, flow control).
//!
//! A window starts at what the peer was told ([`WINDOW_BYTES`], or [`WINDOW_BYTES_MIN`]). It becomes four times as wide,
//! up to [`WINDOW_BYTES_MAX`], when a whole window was consumed within two round trips, or within [`WINDOW_FAST`]: then
//! it, and not the reader, was what limited the stream. Of a window of at most [`EAGER_BYTES_MAX`] a quarter is enough:
//! over a long way the first windows are what takes time, and TCP itself only begins to send faster then.
//! What it grows by comes out of the process's pool. It shrinks, by credit that is withheld, to what it was at first when
//! the reader took nothing for [`SLOW_READER`], and to [`WINDOW_BYTES_MIN`] when the pool is nearly used up; then, or
//! with the exchange, the memory goes back.

use std::time::Duration;

use crate::hub::mailbox::Exchange;
use crate::limits::{SLOW_READER, WINDOW_BYTES, WINDOW_BYTES_MAX, WINDOW_BYTES_MIN, WINDOW_FAST};
use crate::time::Instant;

/// How much wider a window becomes at once.
const GROWTH: u32 = 4;
/// A window up to this widens once a quarter of it was taken fast.
const EAGER_BYTES_MAX: u32 = 4 * WINDOW_BYTES;
/// Credit is given in portions of a window: of a wide one a sixteenth, since what is not yet given back is missing from
/// the window, and where the window is what limits a stream, from its speed. Of a narrow one a quarter, but no more than
/// this: less is not worth a frame.
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
    /// When the time began within which enough has to be consumed; with the first byte, not with what that is waited for.
    round_began: Option<Instant>,
    round_consumed: u32,
    last_consumed: Instant,
}

impl RecvWindow {
    /// The window of a stream that begins: `first` bytes, which the lease of its exchange holds.
    pub(crate) fn new(first: u32, now: Instant) -> Self {
        Self {
            size: first,
            credit: first,
            pending: 0,
            round_began: None,
            round_consumed: 0,
            last_consumed: now,
        }
    }

    /// `count` bytes came; false if the peer had no credit for them.
    pub(crate) fn received(&mut self, count: usize, now: Instant) -> bool {
        self.round_began.get_or_insert(now);
        let left = u32::try_from(count).ok().and_then(|count| self.credit.checked_sub(count));
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }

    /// The reader took `count` bytes. Returns the credit to give now, if it is worth a frame. What the window grows or
    /// shrinks by, the lease of `exchange` does.
    pub(crate) fn consumed(
        &mut self,
        count: u32,
        now: Instant,
        round_trip: Duration,
        exchange: &Exchange,
    ) -> Option<u32> {
        self.pending = self.pending.saturating_add(count);
        self.round_consumed = self.round_consumed.saturating_add(count);
        let began = *self.round_began.get_or_insert(now);
        let fast = now.since(began) <= (round_trip * 2).max(WINDOW_FAST);
        let enough = if self.size <= EAGER_BYTES_MAX { self.size / 4 } else { self.size };
        if exchange.pool().is_scarce() {
            self.narrow(WINDOW_BYTES_MIN, exchange);
        } else if now.since(self.last_consumed) >= SLOW_READER {
            self.narrow(WINDOW_BYTES, exchange);
            self.begin_round(now);
        } else if fast && self.round_consumed >= enough {
            self.widen(exchange);
            self.begin_round(now);
        } else if !fast {
            self.begin_round(now);
        }
        self.last_consumed = now;
        if self.pending == 0 || self.pending < (self.size / 16).max(CREDIT_BYTES_MIN.min(self.size / 4)) {
            return None;
        }
        self.credit = self.credit.saturating_add(self.pending);
        Some(std::mem::take(&mut self.pending))
    }

    fn begin_round(&mut self, now: Instant) {
        self.round_began = Some(now);
        self.round_consumed = 0;
    }

    /// Withholds credit until the window is no wider than `floor`.
    fn narrow(&mut self, floor: u32, exchange: &Exchange) {
        let withheld = self.pending.min(self.size.saturating_sub(floor));
        self.pending -= withheld;
        self.size -= withheld;
        exchange.narrowed(withheld);
    }

    /// Grows as far as the pool lends.
    fn widen(&mut self, exchange: &Exchange) {
        let most = (self.size.saturating_mul(GROWTH)).min(WINDOW_BYTES_MAX);
        for size in [most, self.size.saturating_mul(2).min(most)] {
            let more = size - self.size;
            if more > 0
                && let Some(lease) = exchange.pool().borrow(more as usize)
            {
                exchange.widened(lease);
                self.pending = self.pending.saturating_add(more);
                self.size = size;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::hub::admission::{Pool, Purpose};
    use crate::hub::mailbox::{FirstWindows, Inbox};
    use crate::machine::PortId;

    const ROUND_TRIP: Duration = Duration::from_millis(10);

    /// An exchange with a first window of that size, and another of one byte for the rest.
    fn exchange(pool: &Arc<Pool>, first: u32) -> Arc<Exchange> {
        let lease = pool.reserve(first as usize, Purpose::Short).unwrap();
        let windows = FirstWindows { to_link: 0, to_http: first };
        Exchange::new(Inbox::new(PortId { index: 1, generation: 1 }), None, windows, lease)
    }

    /// A pool of which this much is free beyond a window of [`WINDOW_BYTES`].
    fn with_window(free: u32) -> (Arc<Pool>, Arc<Exchange>, RecvWindow) {
        let pool = Pool::new((WINDOW_BYTES + free) as usize);
        let exchange = exchange(&pool, WINDOW_BYTES);
        (pool, exchange, RecvWindow::new(WINDOW_BYTES, Instant::default()))
    }

    /// All that may come comes, and is consumed after that time.
    fn round(window: &mut RecvWindow, now: &mut Instant, took: Duration, exchange: &Exchange) -> Option<u32> {
        let all = window.credit;
        assert!(window.received(all as usize, *now));
        *now = *now + took;
        window.consumed(all, *now, ROUND_TRIP, exchange)
    }

    #[test]
    fn credit_comes_back_as_bytes_are_consumed_and_never_before() {
        let (_pool, exchange, mut window) = with_window(2 * WINDOW_BYTES);
        let now = Instant::default();
        assert!(window.received(WINDOW_BYTES as usize, now));
        assert!(!window.received(1, now), "no credit is left");
        assert_eq!(window.consumed(100, now, ROUND_TRIP, &exchange), None, "not worth a frame");
        let granted = window.consumed(WINDOW_BYTES / 4, now, ROUND_TRIP, &exchange);
        assert_eq!(granted, Some(WINDOW_BYTES / 4 + 100));
        assert!(window.received(WINDOW_BYTES as usize / 4 + 100, now));
        assert!(!window.received(1, now));
    }

    #[test]
    fn a_window_becomes_four_times_as_wide_when_it_was_what_limited_the_stream() {
        let (pool, exchange, mut window) = with_window(1 << 30);
        let mut now = Instant::default();
        assert_eq!(round(&mut window, &mut now, ROUND_TRIP, &exchange), Some(4 * WINDOW_BYTES));
        assert_eq!(pool.used(), 4 * WINDOW_BYTES as usize);
        drop(exchange);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn a_quarter_of_a_first_window_taken_fast_widens_it_and_of_a_wide_one_all_of_it() {
        let (_pool, exchange, mut window) = with_window(1 << 30);
        let now = Instant::default();
        for (size, widens_at) in [(WINDOW_BYTES, 4), (4 * WINDOW_BYTES, 4), (16 * WINDOW_BYTES, 1)] {
            let enough = size / widens_at;
            assert_eq!((window.size, window.received(enough as usize, now)), (size, true));
            window.consumed(enough - 1, now, ROUND_TRIP, &exchange);
            assert_eq!(window.size, size);
            window.consumed(1, now, ROUND_TRIP, &exchange);
            assert_eq!(window.size, GROWTH * size);
        }
    }

    #[test]
    fn a_round_begins_with_the_first_byte_and_not_while_that_is_waited_for() {
        let (_pool, exchange, mut window) = with_window(1 << 30);
        let mut now = Instant::default() + ROUND_TRIP * 50;
        round(&mut window, &mut now, ROUND_TRIP, &exchange);
        assert_eq!(window.size, 4 * WINDOW_BYTES);
    }

    #[test]
    fn of_a_wide_window_a_sixteenth_is_kept_back_and_of_a_narrow_one_a_quarter() {
        let (_pool, exchange, mut window) = with_window(1 << 30);
        let mut now = Instant::default();
        while window.size < WINDOW_BYTES_MAX {
            round(&mut window, &mut now, ROUND_TRIP, &exchange);
        }
        let mut narrow = RecvWindow::new(WINDOW_BYTES_MIN, now);
        for (window, part) in [(&mut window, WINDOW_BYTES_MAX / 16), (&mut narrow, WINDOW_BYTES_MIN / 4)] {
            assert!(window.received(part as usize, now));
            now = now + ROUND_TRIP * 3;
            assert_eq!(window.consumed(part - 1, now, ROUND_TRIP, &exchange), None);
            assert_eq!(window.consumed(1, now, ROUND_TRIP, &exchange), Some(part));
        }
    }

    #[test]
    fn a_window_stays_when_the_reader_is_what_is_slow_or_the_pool_is_small() {
        let mut now = Instant::default();
        let (_rich, exchange, mut slow) = with_window(1 << 30);
        assert_eq!(round(&mut slow, &mut now, ROUND_TRIP * 3, &exchange), Some(WINDOW_BYTES));
        let (_poor, exchange, mut fast) = with_window(WINDOW_BYTES / 2);
        assert_eq!(round(&mut fast, &mut now, ROUND_TRIP, &exchange), Some(WINDOW_BYTES));
    }

    #[test]
    fn over_a_short_way_a_window_grows_until_it_lasts_as_long_as_sealing_and_opening_may() {
        let (_pool, exchange, mut window) = with_window(1 << 30);
        let mut now = Instant::default();
        // A reader that takes this much within the time that counts as fast.
        let fast = 5 * WINDOW_BYTES;
        for _ in 0..10 {
            let all = window.credit;
            assert!(window.received(all as usize, now));
            now = now + WINDOW_FAST * all / fast;
            window.consumed(all, now, Duration::from_micros(100), &exchange);
        }
        assert_eq!(window.size, 16 * WINDOW_BYTES);
    }

    #[test]
    fn a_wide_window_shrinks_when_its_reader_stops_or_memory_is_scarce() {
        for (scarce, floor) in [(false, WINDOW_BYTES), (true, WINDOW_BYTES_MIN)] {
            let (pool, exchange, mut window) = with_window(31 * WINDOW_BYTES);
            let mut now = Instant::default();
            round(&mut window, &mut now, ROUND_TRIP, &exchange);
            assert_eq!(window.size, 4 * WINDOW_BYTES);
            let others = scarce.then(|| pool.reserve(24 * WINDOW_BYTES as usize, Purpose::Short).unwrap());
            let wait = if scarce { Duration::ZERO } else { SLOW_READER };
            assert_eq!(round(&mut window, &mut now, wait, &exchange), Some(floor));
            drop(others);
            assert_eq!(pool.used(), floor as usize, "the rest went back");
            assert!(!window.received(floor as usize + 1, now));
        }
    }
}
