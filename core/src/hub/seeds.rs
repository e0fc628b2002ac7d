//! Randomness without asking for it: one seed a process, from the runtime, and generators made of it.
//!
//! What decides (ids, how long to wait, masks) is no secret, and comes from one [`ChaCha20Rng`], of which each machine has
//! a child. Keys come from an [`ErasingRng`]: what it gave cannot be computed again, also not by who has a later image of
//! the process's memory. A process that is captured has two seeds, and its capture has the one of what decides.
//! ```text
//! Seed ──▶ ErasingRng ─┬─▶ what decides ──▶ a child a machine
//!                      ├─▶ ephemeral keys: an ErasingRng a join
//!                      └─▶ IVs: a child a link
//! ```

use std::fmt;
use std::hint::black_box;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, RngCore, SeedableRng, impls};
use zeroize::{Zeroize, Zeroizing};

/// How deep below its caller's frame [`clear_stack`] overwrites: what a key exchange and the setting of two ciphers use.
const STACK_BYTES: usize = 16 * 1024;

/// 32 bytes, as new and as secret as a key, of which all the randomness of a process is made. They stay in one place,
/// and are overwritten when they were used.
pub struct Seed(Box<[u8; 32]>);

impl Seed {
    /// Has them written to where they stay.
    ///
    /// # Errors
    /// What `fill` fails with.
    pub fn fill<E>(fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Self, E> {
        let mut seed = Self(Box::new([0; 32]));
        fill(&mut seed.0)?;
        Ok(seed)
    }

    /// The bytes, for what else is to be made of them.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Seed {
    fn from(bytes: [u8; 32]) -> Self {
        Self(Box::new(bytes))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// A generator that erases its own past: after each output its key is replaced by more output, of which the old key
/// cannot be computed ("fast key erasure").
pub(crate) struct ErasingRng {
    /// In one place, whoever owns it.
    stream: Box<ChaCha20Rng>,
}

impl ErasingRng {
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        Self { stream: Box::new(ChaCha20Rng::from_seed(*seed)) }
    }

    /// 32 bytes for a generator of another kind.
    fn draw(&mut self) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0; 32]);
        self.fill_bytes(&mut *bytes);
        bytes
    }

    /// Writes the new state over the old one, with the block that it has in store.
    fn restart(&mut self, key: &[u8; 32]) {
        *self.stream = ChaCha20Rng::from_seed(*key);
        // Somebody may look: the compiler is not to spare the writing.
        black_box(&*self.stream);
    }
}

impl RngCore for ErasingRng {
    fn next_u32(&mut self) -> u32 {
        impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        let mut key = Zeroizing::new([0; 32]);
        self.stream.fill_bytes(dest);
        self.stream.fill_bytes(&mut *key);
        self.restart(&key);
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(dest);
        Ok(())
    }
}

impl CryptoRng for ErasingRng {}

impl Drop for ErasingRng {
    fn drop(&mut self) {
        self.restart(&[0; 32]);
    }
}

impl fmt::Debug for ErasingRng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ErasingRng(..)")
    }
}

/// Overwrites what the calls that just returned left on the stack: copies of keys, and of the states of ciphers that do
/// not erase themselves.
#[inline(never)]
pub(crate) fn clear_stack() {
    let mut dead = [0_u8; STACK_BYTES];
    black_box(&mut dead);
}

/// Makes the generators of a process.
pub(crate) struct Seeds {
    deciding: Mutex<ChaCha20Rng>,
    secret: Mutex<ErasingRng>,
}

impl Seeds {
    pub(crate) fn new(seed: &Seed) -> Self {
        let mut secret = ErasingRng::new(seed.bytes());
        let deciding = ChaCha20Rng::from_seed(*secret.draw());
        Self { deciding: Mutex::new(deciding), secret: Mutex::new(secret) }
    }

    /// Two seeds that have nothing to do with each other.
    #[cfg(feature = "capture")]
    pub(crate) fn apart(secret: &Seed, deciding: [u8; 32]) -> Self {
        let deciding = ChaCha20Rng::from_seed(deciding);
        Self { deciding: Mutex::new(deciding), secret: Mutex::new(ErasingRng::new(secret.bytes())) }
    }

    /// A generator of its own for one machine, for what is no secret.
    pub(crate) fn child(&self) -> ChaCha20Rng {
        let mut seed = [0; 32];
        self.deciding().fill_bytes(&mut seed);
        ChaCha20Rng::from_seed(seed)
    }

    /// A generator for the ephemeral key of one join.
    pub(crate) fn for_keys(&self) -> ErasingRng {
        ErasingRng::new(&self.draw())
    }

    /// A generator for the IVs of one direction of a link, which nobody foresees and everybody gets to see.
    pub(crate) fn for_ivs(&self) -> ChaCha20Rng {
        ChaCha20Rng::from_seed(*self.draw())
    }

    /// A number that nobody guesses.
    pub(crate) fn number(&self) -> u64 {
        self.deciding().next_u64()
    }

    fn draw(&self) -> Zeroizing<[u8; 32]> {
        self.secret.lock().unwrap_or_else(PoisonError::into_inner).draw()
    }

    fn deciding(&self) -> MutexGuard<'_, ChaCha20Rng> {
        self.deciding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state of a generator, as an image of the memory has it.
    fn image(rng: &ErasingRng) -> ErasingRng {
        ErasingRng { stream: rng.stream.clone() }
    }

    /// All that comes out of a state within the first bytes, whether it is asked for much or little at a time.
    fn all_of(mut rng: ErasingRng) -> Vec<u8> {
        let mut out = vec![0; 4096];
        image(&rng).fill_bytes(&mut out);
        for _ in 0..64 {
            out.extend_from_slice(&*rng.draw());
        }
        out
    }

    fn has(all: &[u8], part: &[u8]) -> bool {
        all.windows(part.len()).any(|window| window == part)
    }

    #[test]
    fn a_later_state_does_not_have_what_came_out_before() {
        let mut rng = ErasingRng::new(&[7; 32]);
        let before = image(&rng);
        let drawn: Vec<_> = (0..6).map(|_| rng.draw()).collect();
        assert!(drawn.iter().all(|key| has(&all_of(image(&before)), &**key)), "the early one has it all");
        let later = all_of(image(&rng));
        assert!(!drawn.iter().any(|key| has(&later, &**key)));
        // Nor does the block that it has in store hold any of it.
        let mut rest = rng.stream.clone();
        rest.set_word_pos(0);
        let mut from_its_start = vec![0; 4096];
        rest.fill_bytes(&mut from_its_start);
        assert!(!drawn.iter().any(|key| has(&from_its_start, &**key)));
    }

    #[test]
    fn a_later_image_of_a_process_gives_no_key_of_a_join_that_was() {
        let seeds = Seeds::new(&[7; 32].into());
        let keys: Vec<[u8; 32]> = (0..6)
            .map(|_| {
                let mut key = [0; 32];
                seeds.for_keys().fill_bytes(&mut key);
                seeds.for_ivs();
                seeds.child();
                seeds.number();
                key
            })
            .collect();
        let secret = image(&seeds.secret.lock().unwrap());
        let mut deciding = seeds.deciding().clone();
        deciding.set_word_pos(0);
        let mut found = all_of(image(&secret));
        let mut decided = vec![0; 4096];
        deciding.fill_bytes(&mut decided);
        found.extend_from_slice(&decided);
        // Each output of either, as a key or as the seed of a generator whose first output is one.
        let seeds_of_keys: Vec<[u8; 32]> =
            found.windows(32).step_by(4).map(|w| w.try_into().unwrap()).collect();
        for seed in &seeds_of_keys {
            let mut key = [0; 32];
            ChaCha20Rng::from_seed(*seed).fill_bytes(&mut key);
            assert!(!keys.contains(seed) && !keys.contains(&key));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_and_another_gives_another() {
        let first = |seed: u8| *ErasingRng::new(&[seed; 32]).draw();
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
        let mut rng = ErasingRng::new(&[1; 32]);
        assert_ne!(rng.draw(), rng.draw());
        assert_ne!(rng.next_u64(), rng.next_u64());
    }

    #[test]
    fn nothing_of_it_is_printed() {
        let (seed, rng) = (Seed::from([0xab; 32]), ErasingRng::new(&[0xab; 32]));
        assert_eq!(format!("{seed:?} {rng:?}"), "Seed(..) ErasingRng(..)");
    }
}
