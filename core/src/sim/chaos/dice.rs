//! Everything that is drawn comes from one seed.

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

/// See the module.
pub(super) struct Dice(ChaCha20Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        // The world draws from the seed itself: this is another stream.
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        rng.set_stream(1);
        Self(rng)
    }

    /// A number from 0 on below `count`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        (self.0.next_u64() % count.max(1) as u64) as usize
    }

    /// A number from `low` on, below `high`.
    pub(super) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high.saturating_sub(low))
    }

    /// True `times` in `of`.
    pub(super) fn chance(&mut self, times: usize, of: usize) -> bool {
        self.below(of) < times
    }

    /// One of these.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// One of these, each as likely as its weight says.
    pub(super) fn weighted<T: Copy>(&mut self, choices: &[(usize, T)]) -> T {
        let mut left = self.below(choices.iter().map(|(weight, _)| weight).sum());
        for (weight, choice) in choices {
            if left < *weight {
                return *choice;
            }
            left -= weight;
        }
        choices[0].1
    }

    /// How long something is, in bytes: mostly little, sometimes much.
    pub(super) fn size(&mut self, max: usize) -> usize {
        let below = self.weighted(&[(2, 1), (4, 100), (4, 20_000), (2, 200_000), (1, 1_500_000)]);
        self.below(below.min(max) + 1)
    }
}
