//! The connector's idle connections to the app.
//!
//! A connection that is idle stands in the list, and only the list says whether it is free: whoever takes it out owns
//! it, and an exchange, or the order to close, is left for it in the same moment. So an exchange is never handed to a
//! connection that has decided to close, and never left with one that is gone.
//!
//! A connection that an app logged in (NTLM, Negotiate) stands in a list of its own: it serves the visitor's connection on
//! which that was, and nobody else.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mailbox::Exchange;
use crate::limits::{TARGET_FIRST_BYTE, TARGET_IDLE_UNSAFE, TARGET_LOGINS_MAX};
use crate::machine::{Effects, PortId};
use crate::time::Instant;

/// The idle connections to the app.
#[derive(Debug, Default)]
pub(crate) struct IdleTargets {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Idle>,
    /// Those that are logged in, by the number of the visitor's connection.
    logins: BTreeMap<NonZeroU64, Idle>,
    /// How many new connections have waited for their first byte for [`TARGET_FIRST_BYTE`].
    starved: usize,
    /// What those that were taken out of the lists have to look for.
    orders: BTreeMap<PortId, Order>,
}

/// What a connection that was taken out of the list has to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Carry this exchange.
    Serve(Arc<Exchange>),
    /// Make room.
    Close,
}

#[derive(Debug)]
struct Idle {
    port: PortId,
    since: Instant,
    until: Instant,
}

impl IdleTargets {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This connection is free, and the app keeps it until then. Says until when to keep it: not as long while new ones
    /// are starved.
    pub(crate) fn add(&self, port: PortId, until: Instant, now: Instant) -> Instant {
        let state = &mut *self.lock();
        let until = if state.starved > 0 { until.min(now + TARGET_FIRST_BYTE) } else { until };
        state.idle.push(Idle { port, since: now, until });
        until
    }

    /// A new connection gets no byte: idle ones make room, in case the app serves one at a time. Not those that are logged
    /// in: to most apps they are no burden, and they would be lost whenever an answer takes its time.
    pub(crate) fn starve(&self, fx: &mut Effects) {
        let State { idle, orders, starved, .. } = &mut *self.lock();
        *starved += 1;
        for Idle { port, .. } in idle.drain(..) {
            orders.insert(port, Order::Close);
            fx.wake(port);
        }
    }

    /// One that was starved has its first byte, or is gone.
    pub(crate) fn feed(&self) {
        let starved = &mut self.lock().starved;
        *starved = starved.saturating_sub(1);
    }

    /// The same of a connection that is logged in for this visitor's. It takes the place of an older one; and of the one
    /// that has been idle longest, if there are [`TARGET_LOGINS_MAX`].
    pub(crate) fn add_login(
        &self,
        visitor: NonZeroU64,
        port: PortId,
        until: Instant,
        now: Instant,
        fx: &mut Effects,
    ) {
        let State { logins, orders, .. } = &mut *self.lock();
        let replaced = logins.insert(visitor, Idle { port, since: now, until });
        let surplus = if logins.len() > TARGET_LOGINS_MAX { oldest(logins) } else { None };
        for Idle { port, .. } in replaced.into_iter().chain(surplus) {
            orders.insert(port, Order::Close);
            fx.wake(port);
        }
    }

    /// Whether the connection still was free; it no longer is.
    pub(crate) fn remove(&self, port: PortId) -> bool {
        let State { idle, logins, .. } = &mut *self.lock();
        if let Some(place) = idle.iter().position(|other| other.port == port) {
            idle.remove(place);
            return true;
        }
        let visitor = logins.iter().find(|(_, other)| other.port == port).map(|(visitor, _)| *visitor);
        visitor.is_some_and(|visitor| logins.remove(&visitor).is_some())
    }

    /// Leaves `exchange` with the connection that is logged in for its visitor, else with the one that was used last, and
    /// says whom to wake. A request that must not be sent twice (`once`) only goes to one that was idle so shortly that the
    /// app has not closed it; a login is worth that risk, which the visitor would have without us too.
    pub(crate) fn assign(&self, exchange: &Arc<Exchange>, once: bool, now: Instant) -> Option<PortId> {
        let fresh =
            |idle: &mut Idle| now < idle.until && (!once || now.since(idle.since) < TARGET_IDLE_UNSAFE);
        let visitor = exchange.notes().visitor;
        let State { idle, logins, orders, .. } = &mut *self.lock();
        let login = visitor.filter(|visitor| logins.get(visitor).is_some_and(|idle| now < idle.until));
        let login = login.and_then(|visitor| logins.remove(&visitor));
        let Idle { port, .. } = login.or_else(|| idle.pop_if(fresh))?;
        orders.insert(port, Order::Serve(exchange.clone()));
        Some(port)
    }

    /// Takes what was left for a connection, if anything was.
    pub(crate) fn take(&self, port: PortId) -> Option<Order> {
        self.lock().orders.remove(&port)
    }
}

/// Takes out the one that has been idle longest.
fn oldest(logins: &mut BTreeMap<NonZeroU64, Idle>) -> Option<Idle> {
    let visitor = logins.iter().min_by_key(|(_, idle)| idle.since).map(|(visitor, _)| *visitor)?;
    logins.remove(&visitor)
}

#[cfg(test)]
mod tests {
    use super::super::admission::{Pool, Purpose};
    use super::super::mailbox::{FirstWindows, Inbox, LinkHead};
    use super::*;
    use crate::http1::body::BodyKind;
    use crate::limits::{TARGET_IDLE, TARGET_LOGIN_IDLE};
    use crate::link::frame::RequestNotes;

    const PORT: PortId = PortId { index: 1, generation: 1 };

    fn visitor(number: u64) -> NonZeroU64 {
        NonZeroU64::new(number).unwrap()
    }

    /// One of a visitor's connection with this number; 0 if many share it.
    fn exchange_of(number: u64) -> Arc<Exchange> {
        let (exchange, head) = (exchange(), LinkHead { kind: BodyKind::None, text: Vec::new() });
        exchange.deliver_request(
            head,
            RequestNotes { visitor: NonZeroU64::new(number), ..RequestNotes::default() },
            &mut Effects::default(),
        );
        exchange
    }

    fn exchange() -> Arc<Exchange> {
        let lease = Pool::new(1).reserve(1, Purpose::Short).unwrap();
        let windows = FirstWindows { to_link: 0, to_http: 0 };
        Exchange::new(Inbox::new(PortId { index: 0, generation: 1 }), None, windows, lease)
    }

    #[test]
    fn an_exchange_is_left_with_an_idle_connection_or_not_at_all() {
        let (targets, now) = (IdleTargets::default(), Instant::default());
        assert_eq!(targets.assign(&exchange(), false, now), None);
        targets.add(PORT, now + TARGET_IDLE, now);
        assert_eq!(targets.assign(&exchange(), false, now), Some(PORT));
        assert!(!targets.remove(PORT), "it is spoken for");
        assert!(targets.take(PORT).is_some() && targets.take(PORT).is_none());
        targets.add(PORT, now + TARGET_IDLE, now);
        assert!(targets.remove(PORT));
        assert_eq!(targets.assign(&exchange(), false, now), None);
        assert!(targets.take(PORT).is_none());
    }

    #[test]
    fn a_connection_that_is_logged_in_serves_its_visitor_and_nobody_else() {
        let (targets, now) = (IdleTargets::default(), Instant::default());
        let mut fx = Effects::default();
        targets.add_login(visitor(7), PORT, now + TARGET_LOGIN_IDLE, now, &mut fx);
        let later = now + TARGET_IDLE;
        for number in [0, 8] {
            assert_eq!(targets.assign(&exchange_of(number), false, later), None, "{number}");
        }
        assert_eq!(targets.assign(&exchange_of(7), false, now + TARGET_LOGIN_IDLE), None, "it is stale");
        assert_eq!(targets.assign(&exchange_of(7), true, later), Some(PORT));
        assert!(!targets.remove(PORT), "it is spoken for");
        assert!(matches!(targets.take(PORT), Some(Order::Serve(_))));
        assert_eq!(targets.assign(&exchange_of(7), false, later), None);
        targets.add_login(visitor(7), PORT, now + TARGET_LOGIN_IDLE, now, &mut fx);
        assert!(targets.remove(PORT));
        assert_eq!(fx.wakes, []);
    }

    #[test]
    fn idle_connections_make_room_for_new_ones_that_get_no_byte() {
        let (targets, now) = (IdleTargets::default(), Instant::default());
        let port = |index| PortId { index, generation: 1 };
        let (mut fx, until) = (Effects::default(), now + TARGET_IDLE);
        targets.add(port(1), until, now);
        targets.add(port(2), until, now);
        targets.add_login(visitor(7), port(3), until, now, &mut fx);
        targets.starve(&mut fx);
        assert_eq!(fx.wakes, [port(1), port(2)]);
        for closed in [port(1), port(2)] {
            assert!(!targets.remove(closed) && matches!(targets.take(closed), Some(Order::Close)));
        }
        assert!(targets.remove(port(3)), "a login stays");
        assert_eq!(targets.add(port(4), until, now), now + TARGET_FIRST_BYTE);
        assert_eq!(targets.assign(&exchange(), false, now + TARGET_FIRST_BYTE), None);
        assert_eq!(targets.assign(&exchange(), false, now), Some(port(4)), "it may still be used");
        targets.feed();
        assert_eq!(targets.add(port(5), until, now), until);
    }

    #[test]
    fn only_so_many_logins_are_kept_and_one_of_each_visitor() {
        let (targets, now) = (IdleTargets::default(), Instant::default());
        let port = |index| PortId { index, generation: 1 };
        let mut fx = Effects::default();
        let until = now + TARGET_LOGIN_IDLE;
        targets.add_login(visitor(1), port(0), until, now, &mut fx);
        targets.add_login(visitor(1), port(1), until, now, &mut fx);
        assert_eq!(fx.wakes, [port(0)]);
        for index in 2..=TARGET_LOGINS_MAX as u32 {
            targets.add_login(visitor(index.into()), port(index), until, now + TARGET_IDLE, &mut fx);
        }
        assert_eq!(fx.wakes, [port(0)]);
        targets.add_login(visitor(9999), port(9999), until, now + TARGET_IDLE, &mut fx);
        assert_eq!(fx.wakes, [port(0), port(1)]);
        for closed in [port(0), port(1)] {
            assert!(!targets.remove(closed));
            assert!(matches!(targets.take(closed), Some(Order::Close)));
        }
        assert_eq!(targets.lock().logins.len(), TARGET_LOGINS_MAX);
    }

    #[test]
    fn what_must_not_be_sent_twice_only_goes_to_a_fresh_connection() {
        let (targets, now) = (IdleTargets::default(), Instant::default());
        targets.add(PORT, now + TARGET_IDLE, now);
        let later = now + TARGET_IDLE_UNSAFE;
        assert_eq!(targets.assign(&exchange(), true, later), None);
        assert_eq!(
            targets.assign(&exchange(), false, now + TARGET_IDLE),
            None,
            "nothing goes to a stale one"
        );
        assert_eq!(targets.assign(&exchange(), false, later), Some(PORT));
    }
}
