//! Fernet by the `fernet` crate: the reference that every other way of sealing is compared with.
//!
//! A token is in binary form; the base64 around it in the Fernet spec would cost a third of the bandwidth:
//! ```text
//! 80 │ time, u64 │ IV, 16 bytes │ AES-128-CBC of plaintext and PKCS#7 padding │ HMAC-SHA-256 of all before it
//! ```
//! The crate speaks base64 on both sides, and draws the IVs itself from the operating system. Nothing is kept between
//! two calls but the key, so that an idle link holds no buffer here.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use zeroize::Zeroizing;

use super::{Forged, Opener, SealKey, Sealer, Seals, token_len};
use crate::time::UnixSecs;

/// The first byte of every token.
pub(super) const VERSION: u8 = 0x80;

/// Seals with Fernet: AES-128-CBC, then HMAC-SHA-256 (<https://github.com/fernet/spec>).
#[derive(Clone, Copy, Default, Debug)]
pub struct Fernet;

impl Seals for Fernet {
    fn sealer(&self, key: &SealKey) -> Box<dyn Sealer> {
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
    fn seal(&mut self, at: UnixSecs, plain: &[u8], out: &mut Vec<u8>) {
        let token = self.0.encrypt_at_time(plain, at.0);
        URL_SAFE.decode_vec(token, out).expect("the crate's tokens are base64");
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

/// Whether `token` has the first byte and a length of a token: cheaper to see than a wrong HMAC.
fn is_plausible(token: &[u8]) -> bool {
    const SHORTEST: usize = token_len(0);
    token.first() == Some(&VERSION) && token.len() >= SHORTEST && (token.len() - SHORTEST).is_multiple_of(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_whatever_its_time() {
        let key = SealKey([7; 32]);
        for at in [0, 1_700_000_000, u64::MAX] {
            let (mut token, mut plain) = (Vec::new(), Vec::new());
            Fernet.sealer(&key).seal(UnixSecs(at), b"hello", &mut token);
            assert_eq!(Fernet.opener(&key).open(&token, &mut plain), Ok(()), "{at}");
            assert_eq!(plain, b"hello");
        }
    }

    #[test]
    fn tokens_and_plaintexts_are_appended() {
        let key = SealKey([7; 32]);
        let mut token = b"before".to_vec();
        Fernet.sealer(&key).seal(UnixSecs(0), b"hello", &mut token);
        assert_eq!((&token[..6], token.len()), (&b"before"[..], 6 + token_len(5)));
        let mut plain = b"before".to_vec();
        assert_eq!(Fernet.opener(&key).open(&token[6..], &mut plain), Ok(()));
        assert_eq!(plain, b"beforehello");
    }

    #[test]
    fn two_tokens_of_the_same_plaintext_differ() {
        let mut sealer = Fernet.sealer(&SealKey([7; 32]));
        let (mut first, mut second) = (Vec::new(), Vec::new());
        sealer.seal(UnixSecs(0), b"hello", &mut first);
        sealer.seal(UnixSecs(0), b"hello", &mut second);
        assert_ne!(first, second);
    }
}
