//! Randomness without asking for it: one seed a process, from the runtime, and one child generator a machine.

use std::sync::{Mutex, PoisonError};

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

/// Makes the generators of a process.
pub(crate) struct Seeds(Mutex<ChaCha20Rng>);

impl Seeds {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(Mutex::new(ChaCha20Rng::from_seed(seed)))
    }

    /// A generator of its own for one machine.
    pub(crate) fn child(&self) -> ChaCha20Rng {
        let mut seed = [0; 32];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut seed);
        ChaCha20Rng::from_seed(seed)
    }

    /// A number that nobody guesses.
    pub(crate) fn number(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}
