//! The primitives against their RFCs, and the vectors of `docs/protocol.md` against what a user of the core can see.
#![allow(clippy::unwrap_used)]

use gesher_core::auth::signature;
use gesher_core::http1::head::{parse_request, parse_response};
use gesher_core::link::handshake::{Doorman, JoinAttempt, JoinOutcome, Verdict, is_join, verify};
use gesher_core::secret::{Keys, Pin, Secret};
use gesher_core::time::{Instant, Now, UnixSecs};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sha2::Sha256;
use std::sync::Mutex;
use x25519_dalek::{PublicKey, StaticSecret};

const VECTORS: &str = include_str!("vectors/joining.txt");

fn vector(name: &str) -> String {
    let (_, value) =
        VECTORS.lines().filter_map(|line| line.split_once(" = ")).find(|(n, _)| *n == name).unwrap();
    value.replace("\\r", "\r").replace("\\n", "\n")
}

fn unhex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex}");
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn unhex32(hex: &str) -> [u8; 32] {
    unhex(hex).try_into().unwrap()
}

/// RFC 4231, 4.2 to 4.8: key, data, HMAC-SHA-256 (of 4.6 the first 128 bits).
#[test]
fn hmac_is_that_of_rfc_4231() {
    for (key, data, mac) in [
        (
            vec![0x0b; 20],
            b"Hi There".to_vec(),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe".to_vec(),
            b"what do ya want for nothing?".to_vec(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            vec![0xaa; 20],
            vec![0xdd; 50],
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        ),
        (
            (1..=25).collect(),
            vec![0xcd; 50],
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        ),
        (vec![0x0c; 20], b"Test With Truncation".to_vec(), "a3b6167473100ee06e0c796c2955552b"),
        (
            vec![0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First".to_vec(),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            vec![0xaa; 131],
            b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to \
              be hashed before being used by the HMAC algorithm."
                .to_vec(),
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ] {
        let mut hmac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        hmac.update(&data);
        assert!(hmac.finalize().into_bytes().starts_with(&unhex(mac)), "{mac}");
        // HMAC pads a key with zeros to a block, so that a short key is also one of 32 bytes.
        if key.len() <= 32 {
            let mut padded = [0; 32];
            padded[..key.len()].copy_from_slice(&key);
            assert!(signature::sign(&padded, &data).starts_with(&unhex(mac)), "{mac}");
        }
    }
}

/// RFC 5869, A.1 to A.3: IKM, salt, info, PRK, OKM.
#[test]
fn hkdf_is_that_of_rfc_5869() {
    for (ikm, salt, info, prk, okm) in [
        (
            vec![0x0b; 22],
            (0x00..=0x0c).collect::<Vec<u8>>(),
            (0xf0..=0xf9).collect::<Vec<u8>>(),
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            (0x00..=0x4f).collect(),
            (0x60..=0xaf).collect(),
            (0xb0..=0xff).collect(),
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09\
             da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            vec![0x0b; 22],
            Vec::new(),
            Vec::new(),
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ] {
        let (extracted, hkdf) = Hkdf::<Sha256>::extract(Some(&salt), &ikm);
        assert_eq!(extracted.as_slice(), unhex(prk));
        let mut expanded = vec![0; okm.len() / 2];
        hkdf.expand(&info, &mut expanded).unwrap();
        assert_eq!(expanded, unhex(okm));
    }
}

/// RFC 7748, 5.2 and 6.1.
#[test]
fn x25519_is_that_of_rfc_7748() {
    for (scalar, u, out) in [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ] {
        let shared = StaticSecret::from(unhex32(scalar)).diffie_hellman(&PublicKey::from(unhex32(u)));
        assert_eq!(shared.to_bytes(), unhex32(out));
    }
    let alice =
        StaticSecret::from(unhex32("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
    let bob = StaticSecret::from(unhex32("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
    let (alice_public, bob_public) = (PublicKey::from(&alice), PublicKey::from(&bob));
    let public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
    assert_eq!(alice_public.to_bytes(), unhex32(public));
    let public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
    assert_eq!(bob_public.to_bytes(), unhex32(public));
    let shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
    assert_eq!(alice.diffie_hellman(&bob_public).to_bytes(), unhex32(shared));
    assert_eq!(bob.diffie_hellman(&alice_public).to_bytes(), unhex32(shared));
}

/// The points of order 1, 2, 4 and 8 (RFC 7748, 6.1, has implementations look for the zeros they give).
#[test]
fn keys_of_low_order_are_told_by_their_zeros() {
    for u in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        let shared = StaticSecret::from([0x42; 32]).diffie_hellman(&PublicKey::from(unhex32(u)));
        assert!(!shared.was_contributory(), "{u}");
    }
}

#[test]
fn the_keys_of_the_vectors_are_exchanged_as_rfc_7748_says() {
    let secret = |name| StaticSecret::from(unhex32(&vector(name)));
    let (connector, gateway) = (secret("connector private"), secret("gateway private"));
    assert_eq!(PublicKey::from(&connector).to_bytes(), unhex32(&vector("connector public")));
    let shared = connector.diffie_hellman(&PublicKey::from(&gateway));
    assert_eq!(shared.to_bytes(), unhex32(&vector("shared")));
}

#[test]
fn a_whole_join_is_that_of_the_vectors() {
    let secret = Secret::new(vector("secret").into_bytes()).unwrap();
    let keys = Keys::derive(&secret, &Pin::parse(&vector("pin typed")).unwrap());
    let time = UnixSecs(vector("seconds").parse().unwrap());
    let mut connector_rng = ChaCha20Rng::from_seed(unhex32(&vector("connector seed")));
    let mut gateway_rng = ChaCha20Rng::from_seed(unhex32(&vector("gateway seed")));

    let (attempt, request) = JoinAttempt::new(&keys, time, &vector("host"), "", &mut connector_rng);
    assert_eq!(String::from_utf8(request.clone()).unwrap(), vector("request"));
    let head = parse_request(&request).unwrap();
    assert!(is_join(&head));
    let now = Now { mono: Instant::default(), unix: time };
    let doorman = Mutex::new(Doorman::default());
    let from = "192.0.2.1".parse().unwrap();
    let Verdict::Accepted(accepted) = verify(&head, &keys, now, from, &doorman, &mut gateway_rng) else {
        panic!("refused")
    };
    let (response, _) = accepted.into_parts();
    assert_eq!(String::from_utf8(response.clone()).unwrap(), vector("response"));
    let outcome = attempt.judge(&parse_response(&response).unwrap());
    assert!(matches!(outcome, JoinOutcome::Joined(_)));
}

#[test]
fn the_documentation_has_every_vector() {
    let docs = include_str!("../../docs/protocol.md");
    for (name, _) in VECTORS.lines().filter_map(|line| line.split_once(" = ")) {
        for line in vector(name).lines() {
            assert!(docs.contains(line), "{name}: {line}");
        }
    }
}
