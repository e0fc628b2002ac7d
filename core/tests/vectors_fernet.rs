//! Fernet's official vectors (<https://github.com/fernet/spec>: generate, verify, invalid), and what a seal promises.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use gesher_core::seal::{Fernet, FixedIv, Forged, SealKey, Seals, token_len};
use gesher_core::time::UnixSecs;
use proptest::prelude::*;

const SECRET: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
/// 1985-10-26T01:20:00-07:00.
const NOW: UnixSecs = UnixSecs(499_162_800);
/// Of NOW and the IV 00 01 … 0f; generate and verify have the same.
const TOKEN: &str =
    "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";

fn decode(base64: &str) -> Vec<u8> {
    URL_SAFE.decode(base64).expect("base64")
}

fn secret() -> SealKey {
    let key: [u8; 32] = decode(SECRET).try_into().expect("32 bytes");
    SealKey::from(key)
}

fn open(seals: &dyn Seals, token: &[u8]) -> Result<Vec<u8>, Forged> {
    let mut plain = Vec::new();
    let opened = seals.opener(&secret()).open(token, &mut plain);
    assert!(opened.is_ok() || plain.is_empty(), "a forged token left bytes behind");
    opened.map(|()| plain)
}

fn seal(seals: &dyn Seals, at: UnixSecs, plain: &[u8]) -> Vec<u8> {
    let mut token = Vec::new();
    seals.sealer(&secret()).seal(at, plain, &mut token);
    token
}

#[test]
fn the_generate_vector_is_the_first_token_with_fixed_ivs() {
    assert_eq!(URL_SAFE.encode(seal(&FixedIv, NOW, b"hello")), TOKEN);
}

#[test]
fn the_verify_vector_opens() {
    assert_eq!(open(&Fernet, &decode(TOKEN)), Ok(b"hello".to_vec()));
}

#[test]
fn the_invalid_vectors_do_not_open() {
    for (why, token) in [
        (
            "incorrect mac",
            "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykQUFBQUFBQUFBQQ==",
        ),
        ("too short", "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPA=="),
        (
            "payload size not multiple of block size",
            "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPOm73QeoCk9uGib28Xe5vz6oxq5nmxbx_v7mrfyudzUm",
        ),
        (
            "payload padding error",
            "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0ODz4LEpdELGQAad7aNEHbf-JkLPIpuiYRLQ3RtXatOYREu2FWke6CnJNYIbkuKNqOhw==",
        ),
        (
            "incorrect IV (causes padding error)",
            "gAAAAAAdwJ6xBQECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAkLhFLHpGtDBRLRTZeUfWgHSv49TF2AUEZ1TIvcZjK1zQ==",
        ),
    ] {
        assert_eq!(open(&Fernet, &decode(token)), Err(Forged), "{why}");
    }
}

/// Two invalid vectors are about time, which a link does not judge: what makes a token fresh is its number.
#[test]
fn the_vectors_with_a_wrong_time_open() {
    for (why, token) in [
        (
            "far-future TS (unacceptable clock skew)",
            "gAAAAAAdwStRAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAnja1xKYyhd-Y6mSkTOyTGJmw2Xc2a6kBd-iX9b_qXQcw==",
        ),
        (
            "expired TTL",
            "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==",
        ),
    ] {
        assert_eq!(open(&Fernet, &decode(token)), Ok(vec![]), "{why}");
    }
}

/// The one invalid vector that is left is invalid base64: there is none around a token in binary form.
#[test]
fn a_token_in_base64_does_not_open() {
    assert_eq!(open(&Fernet, TOKEN.as_bytes()), Err(Forged));
}

#[test]
fn fixed_ivs_make_the_same_tokens_again_and_never_two_alike() {
    let (mut first, mut second) = (FixedIv.sealer(&secret()), FixedIv.sealer(&secret()));
    let mut tokens: [Vec<u8>; 4] = Default::default();
    let [a, b, c, d] = &mut tokens;
    first.seal(NOW, b"hello", a);
    first.seal(NOW, b"hello", b);
    second.seal(NOW, b"hello", c);
    second.seal(NOW, b"hello", d);
    assert_eq!((&*a, &*b), (&*c, &*d));
    assert_ne!(a, b);
}

proptest! {
    #[test]
    fn each_way_of_sealing_opens_the_tokens_of_the_other(
        plain in prop::collection::vec(any::<u8>(), 0..2000),
        at: u64,
    ) {
        for (seals, opens) in [
            (&Fernet as &dyn Seals, &FixedIv as &dyn Seals),
            (&FixedIv, &Fernet),
            (&Fernet, &Fernet),
        ] {
            let token = seal(seals, UnixSecs(at), &plain);
            prop_assert_eq!(token.len(), token_len(plain.len()));
            let opened = open(opens, &token);
            prop_assert_eq!(opened.as_ref(), Ok(&plain));
        }
    }

    #[test]
    fn a_changed_token_never_opens(
        plain in prop::collection::vec(any::<u8>(), 0..200),
        place: prop::sample::Index,
        change in 1u8..,
    ) {
        let mut token = seal(&Fernet, NOW, &plain);
        let place = place.index(token.len());
        token[place] ^= change;
        prop_assert_eq!(open(&Fernet, &token), Err(Forged));
    }

    #[test]
    fn a_token_that_lost_or_gained_bytes_never_opens(
        plain in prop::collection::vec(any::<u8>(), 0..200),
        length: prop::sample::Index,
        more in prop::collection::vec(any::<u8>(), 1..64),
    ) {
        let token = seal(&Fernet, NOW, &plain);
        prop_assert_eq!(open(&Fernet, &token[..length.index(token.len())]), Err(Forged));
        prop_assert_eq!(open(&Fernet, &[&token[..], &more].concat()), Err(Forged));
        prop_assert_eq!(open(&Fernet, &[&more[..], &token].concat()), Err(Forged));
    }

    #[test]
    fn bytes_that_were_never_sealed_never_open(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        blocks in 0usize..8,
    ) {
        prop_assert_eq!(open(&Fernet, &bytes), Err(Forged));
        bytes.resize(token_len(blocks * 16), 0);
        bytes[0] = 0x80;
        prop_assert_eq!(open(&Fernet, &bytes), Err(Forged));
    }
}
