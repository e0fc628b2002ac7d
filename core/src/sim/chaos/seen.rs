//! What happened in simulations, counted: so that nobody takes for checked what never came up.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

/// How often what was seen.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Seen(BTreeMap<String, u64>);

impl Seen {
    pub(super) fn note(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    pub(super) fn note_times(&mut self, what: String, times: u64) {
        *self.0.entry(what).or_default() += times;
    }

    /// How often this was seen.
    pub fn count(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// Adds what was seen elsewhere.
    pub fn add(&mut self, other: &Seen) {
        for (what, count) in &other.0 {
            *self.0.entry(what.clone()).or_default() += count;
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(what, count)| writeln!(f, "{count:>9}  {what}"))
    }
}

/// What tells one run from another: the first bytes of the SHA-256 of its transcript.
pub(super) fn hash(transcript: &str) -> u64 {
    let digest = Sha256::digest(transcript);
    let (first, _) = digest.split_first_chunk().expect("a hash has 32 bytes");
    u64::from_be_bytes(*first)
}
