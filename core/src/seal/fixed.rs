//! Fernet with IVs that are counted up: **for simulation only**, so that a conversation is the same byte for byte
//! each time it is run.
//!
//! A predictable IV gives away whether two plaintexts begin alike, and lets whoever chooses one test guesses about
//! another. The tokens themselves are valid: [`super::Fernet`] opens them, and is what opens them here.

use rand_chacha::ChaCha20Rng;

use super::fernet::FernetSealer;
use super::{Fernet, Opener, SealKey, Sealer, Seals};

/// The first IV, 00 01 … 0f: the one of the Fernet spec's own vector.
const FIRST_IV: u128 = 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f;

/// Seals as [`Fernet`] does but for the IV, which is counted up from 00 01 … 0f. **For simulation only.**
#[derive(Clone, Copy, Default, Debug)]
pub struct FixedIv;

impl Seals for FixedIv {
    fn sealer(&self, key: &SealKey, _rng: ChaCha20Rng) -> Box<dyn Sealer> {
        let mut next = FIRST_IV;
        Box::new(FernetSealer::new(key, move |iv: &mut [u8]| {
            iv.copy_from_slice(&next.to_be_bytes());
            next = next.wrapping_add(1);
        }))
    }

    fn opener(&self, key: &SealKey) -> Box<dyn Opener> {
        Fernet.opener(key)
    }
}
