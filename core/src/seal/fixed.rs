//! Fernet with IVs that are counted up: **for simulation only**, so that a conversation is the same byte for byte
//! each time it is run.
//!
//! A predictable IV gives away whether two plaintexts begin alike, and lets whoever chooses one test guesses about
//! another. The tokens themselves are valid: [`super::Fernet`] opens them, and is what opens them here.

use aes::Aes128;
use cbc::cipher::{BlockEncryptMut, KeyIvInit, block_padding::Pkcs7};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::fernet::VERSION;
use super::{Fernet, Opener, SealKey, Sealer, Seals, token_len};
use crate::time::UnixSecs;

/// The first IV, 00 01 … 0f: the one of the Fernet spec's own vector.
const FIRST_IV: u128 = 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f;
const HMAC_BYTES: usize = 32;

/// Seals as [`Fernet`] does but for the IV, which is counted up from 00 01 … 0f. **For simulation only.**
#[derive(Clone, Copy, Default, Debug)]
pub struct FixedIv;

impl Seals for FixedIv {
    fn sealer(&self, key: &SealKey) -> Box<dyn Sealer> {
        Box::new(FixedSealer { key: key.clone(), iv: FIRST_IV })
    }

    fn opener(&self, key: &SealKey) -> Box<dyn Opener> {
        Fernet.opener(key)
    }
}

struct FixedSealer {
    key: SealKey,
    iv: u128,
}

impl Sealer for FixedSealer {
    fn seal(&mut self, at: UnixSecs, plain: &[u8], out: &mut Vec<u8>) {
        let iv = self.iv.to_be_bytes();
        self.iv = self.iv.wrapping_add(1);
        let start = out.len();
        out.push(VERSION);
        out.extend_from_slice(&at.0.to_be_bytes());
        out.extend_from_slice(&iv);
        let ciphertext = out.len();
        out.extend_from_slice(plain);
        out.resize(start + token_len(plain.len()) - HMAC_BYTES, 0);
        let (sign, encrypt) = self.key.0.split_at(16);
        cbc::Encryptor::<Aes128>::new_from_slices(encrypt, &iv)
            .expect("key and IV have 16 bytes")
            .encrypt_padded_mut::<Pkcs7>(&mut out[ciphertext..], plain.len())
            .expect("token_len counts the padding");
        let mut mac = Hmac::<Sha256>::new_from_slice(sign).expect("HMAC takes keys of any length");
        mac.update(&out[start..]);
        out.extend_from_slice(&mac.finalize().into_bytes());
    }
}
