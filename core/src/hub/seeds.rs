//! Randomness without asking for it: one seed a process, from the runtime, and one child generator a machine.
//!
//! A process that is captured has two: what decides (ids, how long to wait, masks) comes from one that the capture has,
//! and keys and IVs from another, which nobody has.

use std::sync::{Mutex, PoisonError};

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

/// Makes the generators of a process.
pub(crate) struct Seeds {
    deciding: Mutex<ChaCha20Rng>,
    /// What keys and IVs come from, if from something else.
    secret: Option<Mutex<ChaCha20Rng>>,
}

impl Seeds {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { deciding: Mutex::new(ChaCha20Rng::from_seed(seed)), secret: None }
    }

    /// Two seeds that have nothing to do with each other.
    #[cfg(feature = "capture")]
    pub(crate) fn apart(secret: [u8; 32], deciding: [u8; 32]) -> Self {
        Self { secret: Some(Mutex::new(ChaCha20Rng::from_seed(secret))), ..Self::new(deciding) }
    }

    /// A generator of its own for one machine, for what is no secret.
    pub(crate) fn child(&self) -> ChaCha20Rng {
        child(&self.deciding)
    }

    /// The same for keys and IVs.
    pub(crate) fn secret_child(&self) -> ChaCha20Rng {
        child(self.secret.as_ref().unwrap_or(&self.deciding))
    }

    /// A number that nobody guesses.
    pub(crate) fn number(&self) -> u64 {
        self.deciding.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}

fn child(parent: &Mutex<ChaCha20Rng>) -> ChaCha20Rng {
    let mut seed = [0; 32];
    parent.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut seed);
    ChaCha20Rng::from_seed(seed)
}
