//! What the connections of a process share, against simple models of it.
//!
//! ```text
//! which │ operations, each with what it needs
//! ```

mod lanes;
mod locks;
mod places;
mod registry;

use super::input::Input;

/// Runs operations on one table of a hub and on a model of it, which have to agree.
pub fn hub(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(8) {
        0 => registry::connectors_join_and_leave(input),
        1 => lanes::an_exchange(input),
        2 => locks::signatures(input),
        3 => locks::lockouts(input),
        4 => locks::buckets(input),
        5 => places::pool(input),
        6 => places::ports(input),
        _ => places::idle_targets(input),
    }
}
