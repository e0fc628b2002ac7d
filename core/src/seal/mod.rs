//! Sealing: what turns the plaintext of a record into a token and back.
//!
//! A way of sealing is a *value* ([`Seals`]) that is passed in with the configuration: the real one is
//! [`Fernet`], the simulator passes one with fixed IVs. No feature switches security off.

mod fernet;
#[cfg(feature = "sim")]
mod fixed;

pub use self::fernet::Fernet;
#[cfg(feature = "sim")]
pub use self::fixed::FixedIv;

use std::fmt;
use std::sync::Arc;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::time::UnixSecs;

/// The key of one direction of one link: bytes 0 to 15 sign, 16 to 31 encrypt (the Fernet spec's order).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SealKey(pub(crate) [u8; 32]);

impl From<[u8; 32]> for SealKey {
    fn from(key: [u8; 32]) -> Self {
        Self(key)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

/// A token did not verify. Nothing else is told, so that nothing else can leak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forged;

/// A way of sealing: makes the two halves for a key.
pub trait Seals: Send + Sync + fmt::Debug {
    /// The half that seals what this side sends.
    fn sealer(&self, key: &SealKey) -> Box<dyn Sealer>;
    /// The half that opens what the other side sent.
    fn opener(&self, key: &SealKey) -> Box<dyn Opener>;
}

/// How a configuration holds a way of sealing.
pub type SharedSeals = Arc<dyn Seals>;

/// Seals the records of one direction.
pub trait Sealer: Send {
    /// Appends the token of `plain` to `out`: exactly [`token_len`] bytes. `at` goes into it as its time.
    fn seal(&mut self, at: UnixSecs, plain: &[u8], out: &mut Vec<u8>);
}

/// Opens the records of one direction.
pub trait Opener: Send {
    /// Appends the plaintext of `token` to `out`; on [`Forged`] nothing is appended.
    ///
    /// The time in the token is authenticated but not judged: order and freshness come from the link's own keys and
    /// the sequence number.
    fn open(&mut self, token: &[u8], out: &mut Vec<u8>) -> Result<(), Forged>;
}

/// How long the token of `plain_len` bytes is: version, time, IV, padded ciphertext, HMAC.
pub const fn token_len(plain_len: usize) -> usize {
    1 + 8 + 16 + (plain_len / 16 + 1) * 16 + 32
}
