//! A way of sealing that lets transcripts show what was sealed.

use std::sync::{Arc, Mutex, PoisonError};

use rand_chacha::ChaCha20Rng;

use crate::seal::{Opener, Record, SealKey, Sealer, Seals, SharedSeals};
use crate::time::UnixSecs;

/// The plaintexts of the records that were sealed since someone looked.
pub(super) type Sealed = Arc<Mutex<Vec<Vec<u8>>>>;

/// A way of sealing that notes what it seals.
#[derive(Debug)]
pub(super) struct TapSeals {
    inner: SharedSeals,
    sealed: Sealed,
}

impl TapSeals {
    pub(super) fn new(inner: SharedSeals, sealed: Sealed) -> Self {
        Self { inner, sealed }
    }
}

impl Seals for TapSeals {
    fn sealer(&self, key: &SealKey, rng: ChaCha20Rng) -> Box<dyn Sealer> {
        Box::new(TapSealer { inner: self.inner.sealer(key, rng), sealed: self.sealed.clone() })
    }

    fn opener(&self, key: &SealKey) -> Box<dyn Opener> {
        self.inner.opener(key)
    }
}

struct TapSealer {
    inner: Box<dyn Sealer>,
    sealed: Sealed,
}

impl Sealer for TapSealer {
    fn seal_all(&mut self, at: UnixSecs, records: &mut [Record<'_>]) {
        let plains = records.iter().map(|record| record.plain.to_vec());
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner).extend(plains);
        self.inner.seal_all(at, records);
    }
}
