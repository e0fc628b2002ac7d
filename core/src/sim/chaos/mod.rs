//! Simulations from a seed: a whole deployment in a bad world, with checkers.
//!
//! [`simulate`] draws everything from one number: how many connectors there are and what settings they have, who asks
//! for what, and what goes wrong when. In the end everything heals and has to come to rest. It panics when anything is
//! not as docs/http.md, docs/protocol.md or docs/security.md promise; docs/simulation.md says how to read that.

mod ask;
mod dice;
mod model;
mod reader;
mod referee;
mod rogue;
mod scene;
mod seen;

use std::time::Duration;

pub(in crate::sim) use self::referee::Referee;
pub use self::seen::Seen;

/// What came of a simulation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Names its transcript: the same seed always has the same.
    pub hash: u64,
    /// How much virtual time passed.
    pub took: Duration,
    /// What happened in it.
    pub seen: Seen,
}

/// Runs the simulation of this seed.
///
/// # Panics
/// If anything is not as it must be. The last lines of the transcript go to the standard error.
pub fn simulate(seed: u64) -> Outcome {
    let mut scene = scene::Scene::new(seed);
    scene.play();
    let hash = seen::hash(&scene.world.transcript());
    Outcome { hash, took: scene.world.now().since_origin(), seen: scene.seen() }
}
