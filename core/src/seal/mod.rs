//! Sealing: what turns the plaintext of a record into a token and back.
//!
//! A way of sealing is a *value* ([`Seals`]) that is passed in with the configuration: the real one is
//! [`Fernet`], the simulator passes one with fixed IVs. No feature switches security off.
//!
//! There are two ways of making the same tokens, which prove each other right: [`Fernet`] from the primitives, in
//! place, and [`CrateFernet`] by the `fernet` crate, the reference.

mod crate_fernet;
mod fernet;
#[cfg(feature = "sim")]
mod fixed;
#[cfg(feature = "sim")]
mod plain;

pub use self::crate_fernet::CrateFernet;
pub use self::fernet::Fernet;
#[cfg(feature = "sim")]
pub use self::fixed::FixedIv;
#[cfg(feature = "sim")]
pub use self::plain::Plain;

use std::fmt;
use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
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
    /// The half that seals what this side sends. Whatever it draws comes from `rng`, which is its own.
    fn sealer(&self, key: &SealKey, rng: ChaCha20Rng) -> Box<dyn Sealer>;
    /// The half that opens what the other side sent.
    fn opener(&self, key: &SealKey) -> Box<dyn Opener>;
}

/// How a configuration holds a way of sealing.
pub type SharedSeals = Arc<dyn Seals>;

/// A plaintext, and the place for its token: [`token_len`] bytes of anything.
#[derive(Debug)]
pub struct Record<'a> {
    /// What is sealed.
    pub plain: &'a [u8],
    /// Where its token is written.
    pub token: &'a mut [u8],
}

/// Seals the records of one direction.
pub trait Sealer: Send {
    /// Seals these records, in their order; `at` goes into their tokens as their time. Several at once may be faster
    /// than one after the other.
    ///
    /// # Panics
    /// If a place for a token does not have [`token_len`] bytes.
    fn seal_all(&mut self, at: UnixSecs, records: &mut [Record<'_>]);

    /// Seals one record; its token is appended to `out`.
    fn seal(&mut self, at: UnixSecs, plain: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + token_len(plain.len()), 0);
        self.seal_all(at, &mut [Record { plain, token: &mut out[start..] }]);
    }
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
