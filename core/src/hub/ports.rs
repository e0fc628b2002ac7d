//! Names for connections: places that are reused, with generations that tell the users of a place apart.

use std::sync::{Mutex, PoisonError};

use crate::machine::{Effects, PortId};

/// The ports of one process.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    /// How often each place was opened, and whether it is.
    places: Vec<(u32, bool)>,
    free: Vec<u32>,
}

impl Ports {
    /// A port that no other connection has.
    pub(crate) fn open(&self) -> PortId {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let index = slots.free.pop().unwrap_or_else(|| {
            slots.places.push((0, false));
            u32::try_from(slots.places.len() - 1).expect("fewer connections than 2^32")
        });
        let place = &mut slots.places[index as usize];
        *place = (place.0.wrapping_add(1), true);
        PortId { index, generation: place.0 }
    }

    /// The connection of `port` is gone. Closing it twice does nothing.
    pub(crate) fn close(&self, port: PortId) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = slots.places.get_mut(port.index as usize)
            && *place == (port.generation, true)
        {
            place.1 = false;
            slots.free.push(port.index);
        }
    }

    /// Wakes every connection.
    pub(crate) fn wake_all(&self, fx: &mut Effects) {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, (generation, open)) in (0u32..).zip(&slots.places) {
            if *open {
                fx.wake(PortId { index, generation: *generation });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_reused_under_another_generation() {
        let ports = Ports::default();
        let first = ports.open();
        let second = ports.open();
        assert_ne!(first, second);
        ports.close(first);
        ports.close(first);
        let third = ports.open();
        assert_eq!(third.index, first.index);
        assert_ne!(third, first);
        let mut fx = Effects::default();
        ports.wake_all(&mut fx);
        assert_eq!(fx.wakes, [third, second]);
    }
}
