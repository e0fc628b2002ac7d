//! Exchanges for which a connection to the app has to be opened: only so many are opened at a time, and the others take
//! the next one that is open, or free again.
//!
//! A crowd of short requests so shares few connections, where each would else have opened one of its own; and an app whose
//! queue of new connections is short loses none of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mailbox::Exchange;
use crate::limits::TARGET_DIALS_MAX;

/// The dials of a connector to its app.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    under_way: u32,
    /// In the order in which they came. Each holds its memory, so that there are no more than memory allows.
    waiting: VecDeque<Arc<Exchange>>,
}

impl Dials {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is no connection for this exchange: it comes back if one is to be dialled for it, and else waits.
    pub(crate) fn ask(&self, exchange: Arc<Exchange>) -> Option<Arc<Exchange>> {
        let State { under_way, waiting } = &mut *self.lock();
        if *under_way == TARGET_DIALS_MAX {
            waiting.push_back(exchange);
            return None;
        }
        *under_way += 1;
        Some(exchange)
    }

    /// A dial is over, whatever became of it: the next exchange to dial for, if one waits.
    pub(crate) fn over(&self) -> Option<Arc<Exchange>> {
        let state = &mut *self.lock();
        let next = state.next();
        if next.is_none() {
            state.under_way = state.under_way.saturating_sub(1);
        }
        next
    }

    /// A connection is free: the next exchange that it may carry, if one waits.
    pub(crate) fn next(&self) -> Option<Arc<Exchange>> {
        self.lock().next()
    }
}

impl State {
    /// The first that was not given up meanwhile.
    fn next(&mut self) -> Option<Arc<Exchange>> {
        std::iter::from_fn(|| self.waiting.pop_front()).find(|exchange| !exchange.is_given_up())
    }
}

#[cfg(test)]
mod tests {
    use super::super::admission::{Pool, Purpose};
    use super::super::mailbox::{Failure, FirstWindows, Inbox};
    use super::*;
    use crate::link::frame::ResetCode;
    use crate::machine::{Effects, PortId};

    fn exchange() -> Arc<Exchange> {
        let lease = Pool::new(1).reserve(1, Purpose::Short).unwrap();
        let windows = FirstWindows { to_link: 0, to_http: 0 };
        Exchange::new(Inbox::new(PortId { index: 0, generation: 1 }), None, windows, lease)
    }

    #[test]
    fn only_so_many_are_dialled_for_and_the_others_take_what_comes_in_order() {
        let dials = Dials::default();
        for _ in 0..TARGET_DIALS_MAX {
            assert!(dials.ask(exchange()).is_some());
        }
        let waiting: Vec<_> = (0..4).map(|_| exchange()).collect();
        for exchange in &waiting {
            assert!(dials.ask(exchange.clone()).is_none());
        }
        waiting[1].fail(Failure::Reset(ResetCode::Cancelled), &mut Effects::default());
        assert!(dials.next().is_some_and(|next| Arc::ptr_eq(&next, &waiting[0])), "a connection is free");
        assert!(dials.over().is_some_and(|next| Arc::ptr_eq(&next, &waiting[2])), "one was given up");
        assert!(dials.over().is_some_and(|next| Arc::ptr_eq(&next, &waiting[3])));
        assert!(dials.over().is_none() && dials.next().is_none());
        assert!(dials.ask(exchange()).is_some(), "one is over for which none followed");
        assert!(dials.ask(exchange()).is_none());
    }
}
