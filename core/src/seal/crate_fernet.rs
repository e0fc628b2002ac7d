//! Fernet by the `fernet` crate: the reference that every other way of sealing is compared with.
//!
//! The crate speaks base64 on both sides, and draws the IVs itself from the operating system. Nothing is kept between
//! two calls but the key, so that an idle link holds no buffer here.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroizing;

use super::fernet::is_plausible;
use super::{Forged, Opener, Record, SealKey, Sealer, Seals};
use crate::time::UnixSecs;

/// Seals with the `fernet` crate.
#[derive(Clone, Copy, Default, Debug)]
pub struct CrateFernet;

impl Seals for CrateFernet {
    fn sealer(&self, key: &SealKey, _rng: ChaCha20Rng) -> Box<dyn Sealer> {
        Box::new(Half::new(key))
    }

    fn opener(&self, key: &SealKey) -> Box<dyn Opener> {
        Box::new(Half::new(key))
    }
}

/// One direction of a link; the crate zeroises its key on drop.
struct Half(fernet::Fernet);

impl Half {
    fn new(key: &SealKey) -> Self {
        let key = Zeroizing::new(URL_SAFE.encode(key.0));
        Self(fernet::Fernet::new(&key).expect("base64 of 32 bytes is a Fernet key"))
    }
}

impl Sealer for Half {
    fn seal_all(&mut self, at: UnixSecs, records: &mut [Record<'_>]) {
        for Record { plain, token } in records {
            let base64 = self.0.encrypt_at_time(plain, at.0);
            let len = URL_SAFE.decode_slice(base64, token).expect("the crate's tokens are base64");
            assert_eq!(len, token.len(), "the place for a token is too long");
        }
    }
}

impl Opener for Half {
    fn open(&mut self, token: &[u8], out: &mut Vec<u8>) -> Result<(), Forged> {
        /// The crate refuses tokens from more than 60 s ahead of the time it is told. This is the latest that does
        /// not overflow there; a TTL would add a number from the token before it is verified.
        const ANY_TIME: u64 = u64::MAX - 60;
        if !is_plausible(token) {
            return Err(Forged);
        }
        let plain = self.0.decrypt_at_time(&URL_SAFE.encode(token), None, ANY_TIME).map_err(|_| Forged)?;
        out.extend_from_slice(&plain);
        Ok(())
    }
}
