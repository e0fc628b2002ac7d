//! Signatures on joins: HMAC-SHA256, compared in constant time, written as base64url in the one way there is.
//!
//! ```text
//! 32 bytes ──▶ 43 characters of A–Z a–z 0–9 - _, no padding, the 2 spare bits zero
//! ```
//! Decoding takes nothing else: were there two spellings of one signature, a join could be sent twice.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Makes the HMAC-SHA256 of `text` (RFC 2104).
pub fn sign(key: &[u8; 32], text: &[u8]) -> [u8; 32] {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    hmac.update(text);
    hmac.finalize().into_bytes().into()
}

/// Whether `mac` is the HMAC-SHA256 of `text`; takes equally long wherever the two differ.
#[must_use]
pub fn verify(key: &[u8; 32], text: &[u8], mac: &[u8; 32]) -> bool {
    sign(key, text).ct_eq(mac).into()
}

/// Writes bytes as base64url without padding (RFC 4648, 5).
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads exactly `N` bytes from base64url without padding; none for any spelling but that of [`encode`].
pub fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    // The length first: a stranger's text is not decoded to find out that it is too long.
    if text.len() != N.checked_mul(4)?.div_ceil(3) {
        return None;
    }
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_text_verify() {
        let mac = sign(&[1; 32], b"text");
        assert!(verify(&[1; 32], b"text", &mac));
        assert!(!verify(&[2; 32], b"text", &mac));
        assert!(!verify(&[1; 32], b"texts", &mac));
        for bit in 0..256 {
            let mut flipped = mac;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify(&[1; 32], b"text", &flipped), "bit {bit}");
        }
    }

    #[test]
    fn what_was_encoded_decodes_and_nothing_else_does() {
        let bytes: [u8; 32] = std::array::from_fn(|i| 0xf7_u8.wrapping_mul(i as u8));
        let text = encode(&bytes);
        assert_eq!((text.len(), decode(text.as_bytes())), (43, Some(bytes)));
        for wrong in [
            format!("{text}="),
            text[1..].to_owned(),
            format!("{text}A"),
            format!("+{}", &text[1..]),
            format!(" {}", &text[1..]),
            format!("{}\n", &text[..42]),
            String::new(),
        ] {
            assert_eq!(decode::<32>(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn spare_bits_have_to_be_zero() {
        let text = encode(&[0; 32]);
        assert!(text.ends_with('A'));
        let accepted = (b'A'..=b'Z')
            .filter(|last| decode::<32>(&[&text.as_bytes()[..42], &[*last]].concat()).is_some())
            .collect::<Vec<_>>();
        // Four of 64 last characters have zeros in the spare bits; these are the ones among the capitals.
        assert_eq!(accepted, b"AEIMQUY");
    }
}
