//! No sealing: tokens that are as long as Fernet's and hide and prove nothing. **For simulation only**, where many bytes
//! have to cross a link in little time.

use rand_chacha::ChaCha20Rng;

use super::{Forged, Opener, Record, SealKey, Sealer, Seals, token_len};
use crate::time::UnixSecs;

/// Where the plaintext begins: after version, time and IV.
const START: usize = 1 + 8 + 16;
/// How long what stands in an HMAC's place is.
const MAC_BYTES: usize = 32;
const BLOCK_BYTES: usize = 16;

/// Seals nothing: whoever listens reads along, whoever is in between writes along. **For simulation only.**
#[derive(Clone, Copy, Default, Debug)]
pub struct Plain;

impl Seals for Plain {
    fn sealer(&self, _key: &SealKey, _rng: ChaCha20Rng) -> Box<dyn Sealer> {
        Box::new(Plain)
    }

    fn opener(&self, _key: &SealKey) -> Box<dyn Opener> {
        Box::new(Plain)
    }
}

impl Sealer for Plain {
    fn seal_all(&mut self, _at: UnixSecs, records: &mut [Record<'_>]) {
        for Record { plain, token } in records {
            assert_eq!(token.len(), token_len(plain.len()), "the place for a token");
            let (text, padding) = token[START..].split_at_mut(plain.len());
            text.copy_from_slice(plain);
            padding.fill(u8::try_from(padding.len() - MAC_BYTES).expect("at most a block"));
        }
    }
}

impl Opener for Plain {
    fn open(&mut self, token: &[u8], out: &mut Vec<u8>) -> Result<(), Forged> {
        let padding = token.last().map(|count| usize::from(*count)).ok_or(Forged)?;
        let end = token.len().checked_sub(MAC_BYTES + padding).ok_or(Forged)?;
        if !(1..=BLOCK_BYTES).contains(&padding) || token_len(end.saturating_sub(START)) != token.len() {
            return Err(Forged);
        }
        out.extend_from_slice(token.get(START..end).ok_or(Forged)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_and_what_has_another_length_does_not() {
        for length in 0..=33 {
            let (mut token, mut plain) = (Vec::new(), Vec::new());
            Plain.seal(UnixSecs(1), &vec![7; length], &mut token);
            assert_eq!(Plain.open(&token, &mut plain), Ok(()));
            assert_eq!(plain, vec![7; length]);
            assert_eq!(Plain.open(&token[..token.len() - 1], &mut plain), Err(Forged));
            assert_eq!(Plain.open(&token[..length], &mut plain), Err(Forged));
        }
    }
}
