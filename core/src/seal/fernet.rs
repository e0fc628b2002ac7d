//! Fernet made in place from its primitives.
//!
//! A token is in binary form; the base64 around it in the Fernet spec would cost a third of the bandwidth:
//! ```text
//! 80 │ time, u64 │ IV, 16 bytes │ AES-128-CBC of plaintext and PKCS#7 padding │ HMAC-SHA-256 of all before it
//! ```
//! CBC makes each block wait for the one before it, and a processor's AES unit idle meanwhile. So the records of a
//! backlog are encrypted in lockstep: a block of each, then the next of each. What comes out is the same.

use std::hint::black_box;

use aes::Aes128;
use aes::cipher::consts::U16;
use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockBackend, BlockClosure, BlockDecrypt, BlockEncrypt, BlockSizeUser, KeyInit};
use hmac::{Hmac, Mac};
use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;
use sha2::Sha256;

use super::{Forged, Opener, Record, SealKey, Sealer, Seals, token_len};
use crate::time::UnixSecs;

/// The first byte of every token.
const VERSION: u8 = 0x80;
const BLOCK_BYTES: usize = 16;
const HMAC_BYTES: usize = 32;
/// Version, time and IV.
const HEAD_BYTES: usize = 1 + 8 + BLOCK_BYTES;
/// Records that are encrypted in lockstep.
const LANES: usize = 4;
/// Blocks that are decrypted at once: what the AES unit of a processor has on its way.
const WIDE_BLOCKS: usize = 8;

type Block = GenericArray<u8, U16>;

/// Seals with Fernet: AES-128-CBC, then HMAC-SHA-256 (<https://github.com/fernet/spec>).
#[derive(Clone, Copy, Default, Debug)]
pub struct Fernet;

impl Seals for Fernet {
    fn sealer(&self, key: &SealKey, mut rng: ChaCha20Rng) -> Box<dyn Sealer> {
        Box::new(FernetSealer::new(key, move |iv: &mut [u8]| rng.fill_bytes(iv)))
    }

    fn opener(&self, key: &SealKey) -> Box<dyn Opener> {
        let (cipher, mac) = ciphers(key);
        Box::new(FernetOpener { cipher, mac })
    }
}

/// Both ciphers with their keys set. AES overwrites its round keys on drop; for HMAC see [`forget`].
fn ciphers(SealKey(key): &SealKey) -> (Aes128, Hmac<Sha256>) {
    let (sign, encrypt) = key.split_at(BLOCK_BYTES);
    (
        Aes128::new(GenericArray::from_slice(encrypt)),
        Mac::new_from_slice(sign).expect("HMAC takes keys of any length"),
    )
}

/// Writes another key's state over that of a link which ends: the crate does not erase it.
fn forget(mac: &mut Hmac<Sha256>) {
    *mac = Mac::new_from_slice(&[0; BLOCK_BYTES]).expect("HMAC takes keys of any length");
    // Somebody may look: the compiler is not to spare the writing.
    black_box(&*mac);
}

/// Seals with IVs from wherever `draw_iv` has them.
pub(super) struct FernetSealer<F> {
    cipher: Aes128,
    mac: Hmac<Sha256>,
    draw_iv: F,
}

impl<F: FnMut(&mut [u8]) + Send> FernetSealer<F> {
    pub(super) fn new(key: &SealKey, draw_iv: F) -> Self {
        let (cipher, mac) = ciphers(key);
        Self { cipher, mac, draw_iv }
    }

    /// Writes all of a token but what needs a cipher: head, plaintext, padding.
    fn lay_out(&mut self, at: UnixSecs, Record { plain, token }: &mut Record<'_>) {
        assert_eq!(token.len(), token_len(plain.len()), "the place for a token has another length");
        let (head, rest) = token.split_at_mut(HEAD_BYTES);
        head[0] = VERSION;
        head[1..9].copy_from_slice(&at.0.to_be_bytes());
        (self.draw_iv)(&mut head[9..]);
        let (text, padding) = rest.split_at_mut(plain.len());
        text.copy_from_slice(plain);
        // PKCS#7: as many bytes as are missing, each of that value; never none (RFC 5652, 6.3).
        let missing = BLOCK_BYTES - plain.len() % BLOCK_BYTES;
        padding[..missing].fill(u8::try_from(missing).expect("at most a block"));
    }
}

impl<F> Drop for FernetSealer<F> {
    fn drop(&mut self) {
        forget(&mut self.mac);
    }
}

impl<F: FnMut(&mut [u8]) + Send> Sealer for FernetSealer<F> {
    fn seal_all(&mut self, at: UnixSecs, records: &mut [Record<'_>]) {
        for record in &mut *records {
            self.lay_out(at, record);
        }
        for group in records.chunks_mut(LANES) {
            encrypt_in_lockstep(&self.cipher, group);
        }
        for Record { token, .. } in records {
            let (signed, tag) = token.split_at_mut(token.len() - HMAC_BYTES);
            tag.copy_from_slice(&self.mac.clone().chain_update(signed).finalize().into_bytes());
        }
    }
}

/// What of a record is not encrypted yet, and the block that goes into its next one.
#[derive(Default)]
struct Lane<'a> {
    rest: &'a mut [[u8; BLOCK_BYTES]],
    last: u128,
}

/// Encrypts at most [`LANES`] tokens that were laid out: as long as the shortest lasts, then on with the others.
fn encrypt_in_lockstep(cipher: &Aes128, records: &mut [Record<'_>]) {
    let mut lanes: [Lane<'_>; LANES] = Default::default();
    let mut open = records.len();
    for (lane, record) in lanes.iter_mut().zip(records) {
        *lane = Lane::new(record.token);
    }
    while open > 0 {
        if open == LANES {
            cipher.encrypt_with_backend(Lockstep(&mut lanes));
        } else {
            for lane in &mut lanes[..open] {
                cipher.encrypt_with_backend(Lockstep(std::array::from_mut(lane)));
            }
        }
        lanes.sort_unstable_by_key(|lane| lane.rest.is_empty());
        open = lanes.iter().filter(|lane| !lane.rest.is_empty()).count();
    }
}

/// CBC over as many blocks of each lane as the shortest has. As a closure that the cipher calls once, so that all of it
/// is compiled for the AES unit that the processor has.
struct Lockstep<'a, 'b, const N: usize>(&'a mut [Lane<'b>; N]);

impl<const N: usize> BlockSizeUser for Lockstep<'_, '_, N> {
    type BlockSize = U16;
}

impl<const N: usize> BlockClosure for Lockstep<'_, '_, N> {
    #[inline(always)]
    fn call<B: BlockBackend<BlockSize = U16>>(self, backend: &mut B) {
        let Self(lanes) = self;
        let steps = lanes.iter().map(|lane| lane.rest.len()).min().unwrap_or(0);
        let mut blocks: [u128; N] = std::array::from_fn(|lane| lanes[lane].last);
        let mut rests = lanes.each_mut().map(|lane| {
            let (now, later) = std::mem::take(&mut lane.rest).split_at_mut(steps);
            lane.rest = later;
            now.iter_mut()
        });
        for _ in 0..steps {
            for (last, rest) in blocks.iter_mut().zip(&mut rests) {
                let Some(bytes) = rest.next() else { return };
                let mut block: Block = (*last ^ u128::from_ne_bytes(*bytes)).to_ne_bytes().into();
                backend.proc_block((&mut block).into());
                *bytes = block.into();
                *last = u128::from_ne_bytes(*bytes);
            }
        }
        for (lane, last) in lanes.iter_mut().zip(blocks) {
            lane.last = last;
        }
    }
}

impl<'a> Lane<'a> {
    fn new(token: &'a mut [u8]) -> Self {
        let end = token.len() - HMAC_BYTES;
        let (head, ciphertext) = token[..end].split_at_mut(HEAD_BYTES);
        let iv = head.last_chunk().expect("the IV ends the head");
        Self { last: u128::from_ne_bytes(*iv), rest: ciphertext.as_chunks_mut().0 }
    }
}

struct FernetOpener {
    cipher: Aes128,
    mac: Hmac<Sha256>,
}

impl Drop for FernetOpener {
    fn drop(&mut self) {
        forget(&mut self.mac);
    }
}

impl Opener for FernetOpener {
    fn open(&mut self, token: &[u8], out: &mut Vec<u8>) -> Result<(), Forged> {
        if !is_plausible(token) {
            return Err(Forged);
        }
        // Nothing of the token is looked at before this, and the comparison takes the same time for any tag.
        let (signed, tag) = token.split_at(token.len() - HMAC_BYTES);
        self.mac.clone().chain_update(signed).verify_slice(tag).map_err(|_| Forged)?;
        let start = out.len();
        let (head, ciphertext) = signed.split_at(HEAD_BYTES);
        let iv = head.last_chunk().expect("the IV ends the head");
        decrypt(&self.cipher, iv, ciphertext.as_chunks().0, out);
        match padding(&out[start..]) {
            Some(padding) => {
                out.truncate(out.len() - padding);
                Ok(())
            }
            None => {
                out.truncate(start);
                Err(Forged)
            }
        }
    }
}

/// Appends what `ciphertext` decrypts to; unlike encrypting, the blocks do not wait for each other.
fn decrypt(cipher: &Aes128, iv: &[u8; BLOCK_BYTES], ciphertext: &[[u8; BLOCK_BYTES]], out: &mut Vec<u8>) {
    out.reserve(ciphertext.as_flattened().len());
    let mut last = u128::from_ne_bytes(*iv);
    for portion in ciphertext.chunks(WIDE_BLOCKS) {
        let mut wide = [Block::default(); WIDE_BLOCKS];
        let wide = &mut wide[..portion.len()];
        for (block, bytes) in wide.iter_mut().zip(portion) {
            *block = (*bytes).into();
        }
        cipher.decrypt_blocks(wide);
        let mut plain = [[0; BLOCK_BYTES]; WIDE_BLOCKS];
        for ((plain, block), bytes) in plain.iter_mut().zip(wide).zip(portion) {
            *plain = (u128::from_ne_bytes((*block).into()) ^ last).to_ne_bytes();
            last = u128::from_ne_bytes(*bytes);
        }
        out.extend_from_slice(plain[..portion.len()].as_flattened());
    }
}

/// How long the padding is; none if it is not PKCS#7. A token with a right HMAC was made by who knows the key, so what
/// this tells is told to nobody else.
fn padding(plain: &[u8]) -> Option<usize> {
    let last = *plain.last()?;
    let count = usize::from(last);
    let padding = plain.len().checked_sub(count).map(|start| &plain[start..])?;
    ((1..=BLOCK_BYTES).contains(&count) && padding.iter().all(|byte| *byte == last)).then_some(count)
}

/// Whether `token` has the first byte and a length of a token: cheaper to see than a wrong HMAC.
pub(super) fn is_plausible(token: &[u8]) -> bool {
    const SHORTEST: usize = token_len(0);
    token.first() == Some(&VERSION) && token.len() >= SHORTEST && (token.len() - SHORTEST).is_multiple_of(16)
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    fn rng() -> ChaCha20Rng {
        ChaCha20Rng::seed_from_u64(1)
    }

    #[test]
    fn a_token_opens_whatever_its_time() {
        let key = SealKey([7; 32]);
        for at in [0, 1_700_000_000, u64::MAX] {
            let (mut token, mut plain) = (Vec::new(), Vec::new());
            Fernet.sealer(&key, rng()).seal(UnixSecs(at), b"hello", &mut token);
            assert_eq!(Fernet.opener(&key).open(&token, &mut plain), Ok(()), "{at}");
            assert_eq!(plain, b"hello");
        }
    }

    #[test]
    fn tokens_and_plaintexts_are_appended() {
        let key = SealKey([7; 32]);
        let mut token = b"before".to_vec();
        Fernet.sealer(&key, rng()).seal(UnixSecs(0), b"hello", &mut token);
        assert_eq!((&token[..6], token.len()), (&b"before"[..], 6 + token_len(5)));
        let mut plain = b"before".to_vec();
        assert_eq!(Fernet.opener(&key).open(&token[6..], &mut plain), Ok(()));
        assert_eq!(plain, b"beforehello");
    }

    #[test]
    fn two_tokens_of_the_same_plaintext_differ() {
        let mut sealer = Fernet.sealer(&SealKey([7; 32]), rng());
        let (mut first, mut second) = (Vec::new(), Vec::new());
        sealer.seal(UnixSecs(0), b"hello", &mut first);
        sealer.seal(UnixSecs(0), b"hello", &mut second);
        assert_ne!(first, second);
    }
}
