//! Fernet's official vectors (<https://github.com/fernet/spec>: generate, verify, invalid), and what a seal promises.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use gesher_core::seal::{CrateFernet, Fernet, FixedIv, Forged, Record, SealKey, Seals, token_len};
use gesher_core::time::UnixSecs;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

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
    seals.sealer(&secret(), ChaCha20Rng::seed_from_u64(2)).seal(at, plain, &mut token);
    token
}

#[test]
fn the_generate_vector_is_the_first_token_with_fixed_ivs() {
    assert_eq!(URL_SAFE.encode(seal(&FixedIv, NOW, b"hello")), TOKEN);
}

#[test]
fn the_verify_vector_opens() {
    assert_eq!(open(&Fernet, &decode(TOKEN)), Ok(b"hello".to_vec()));
    assert_eq!(open(&CrateFernet, &decode(TOKEN)), Ok(b"hello".to_vec()));
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
        assert_eq!(open(&CrateFernet, &decode(token)), Err(Forged), "{why}");
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
        assert_eq!(open(&CrateFernet, &decode(token)), Ok(vec![]), "{why}");
    }
}

/// The one invalid vector that is left is invalid base64: there is none around a token in binary form.
#[test]
fn a_token_in_base64_does_not_open() {
    assert_eq!(open(&Fernet, TOKEN.as_bytes()), Err(Forged));
}

#[test]
fn fixed_ivs_make_the_same_tokens_again_and_never_two_alike() {
    let (mut first, mut second) = (
        FixedIv.sealer(&secret(), ChaCha20Rng::seed_from_u64(2)),
        FixedIv.sealer(&secret(), ChaCha20Rng::seed_from_u64(2)),
    );
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

/// The tokens of several records, sealed at once.
fn seal_all(seals: &dyn Seals, plains: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut tokens: Vec<Vec<u8>> = plains.iter().map(|plain| vec![0; token_len(plain.len())]).collect();
    let pairs = plains.iter().zip(&mut tokens);
    let mut records: Vec<Record<'_>> = pairs.map(|(plain, token)| Record { plain, token }).collect();
    seals.sealer(&secret(), ChaCha20Rng::seed_from_u64(2)).seal_all(NOW, &mut records);
    tokens
}

proptest! {
    #[test]
    fn fernet_in_place_and_the_crate_open_each_others_tokens(
        plains in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..11)
    ) {
        for (from, to) in [(&Fernet as &dyn Seals, &CrateFernet as &dyn Seals), (&CrateFernet, &Fernet)] {
            for (plain, token) in plains.iter().zip(seal_all(from, &plains)) {
                prop_assert_eq!(open(to, &token), Ok(plain.clone()));
            }
        }
    }

    #[test]
    fn records_that_are_sealed_at_once_are_the_same_as_one_after_the_other(
        plains in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..11)
    ) {
        let mut sealer = FixedIv.sealer(&secret(), ChaCha20Rng::seed_from_u64(2));
        let one_by_one: Vec<Vec<u8>> = plains
            .iter()
            .map(|plain| {
                let mut token = Vec::new();
                sealer.seal(NOW, plain, &mut token);
                token
            })
            .collect();
        prop_assert_eq!(seal_all(&FixedIv, &plains), one_by_one);
    }

    #[test]
    fn both_judge_a_changed_token_alike(
        plain in prop::collection::vec(any::<u8>(), 0..100),
        place in any::<prop::sample::Index>(),
        change in 1..=255u8,
        cut in 0..40usize,
    ) {
        let mut token = seal(&Fernet, NOW, &plain);
        let place = place.index(token.len());
        token[place] ^= change;
        token.truncate(token.len() - cut);
        prop_assert_eq!(open(&Fernet, &token), Err(Forged));
        prop_assert_eq!(open(&CrateFernet, &token), Err(Forged));
    }
}
