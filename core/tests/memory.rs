//! What a later image of a gateway's memory gives to who has captured the joins: no private key of a link that has ended.
#![cfg(target_os = "linux")] // The image is /proc/self/mem.
#![allow(clippy::unwrap_used, clippy::disallowed_types, clippy::disallowed_methods)] // The core has no files; the test has.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use gesher_core::auth::signature;
use gesher_core::config::GatewayConfig;
use gesher_core::http1::head::parse_response;
use gesher_core::hub::{GatewayHub, Seed};
use gesher_core::link::handshake::JoinAttempt;
use gesher_core::machine::{Cx, Effects, Io, Lost, Process};
use gesher_core::secret::{Keys, Pin, Secret};
use gesher_core::time::{Now, UnixSecs};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use x25519_dalek::{StaticSecret, X25519_BASEPOINT_BYTES};

/// More memory than a derivation takes.
const DERIVATION_BYTES: usize = 12 << 20;
/// Random bytes have more different ones in 32 than this; text, pointers and numbers have fewer.
const DIFFERENT_BYTES_MIN: usize = 24;
/// How many keys in a row are looked for in what a generator gives.
const KEYS_OF_A_GENERATOR: usize = 4;

fn keys() -> Keys {
    let keys = Keys::derive(
        &Secret::new(b"correct horse battery staple".to_vec()).unwrap(),
        &Pin::parse("K7QM2X").unwrap(),
    );
    // What the derivation leaves looks random: less to try.
    black_box(vec![1_u8; DERIVATION_BYTES]);
    keys
}

fn urandom() -> [u8; 32] {
    let mut bytes = [0; 32];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

fn public(private: [u8; 32]) -> [u8; 32] {
    StaticSecret::from(private).diffie_hellman(&X25519_BASEPOINT_BYTES.into()).to_bytes()
}

/// Has a link begin and end at the gateway. Returns the gateway's public key, as the wire showed it.
fn link(hub: &std::sync::Arc<GatewayHub>) -> [u8; 32] {
    let now = Now { unix: UnixSecs(1_767_225_600), ..Now::default() };
    let mut rng = ChaCha20Rng::from_seed(urandom());
    let (_, join) = JoinAttempt::new(&keys(), now.unix, "gateway", "", &mut rng);
    let (mut fx, mut io) = (Effects::default(), Io::default());
    let mut machine = hub.clone().accept("192.0.2.1:1000".parse().unwrap()).unwrap();
    io.input.push(&join);
    let cx = &mut Cx { now, fx: &mut fx };
    machine.advance(cx, &mut io).unwrap();
    let answer = io.output.waiting().to_vec();
    let end = answer.windows(4).position(|at| at == b"\r\n\r\n").unwrap() + 4;
    let head = parse_response(&answer[..end]).unwrap();
    let accept = head.get("gesher-accept").unwrap();
    machine.lost(cx, Lost::Ended);
    signature::decode(&accept[..43]).unwrap()
}

/// An image of this process's memory, in a file: what looks through it is not in it.
fn image() -> File {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image");
    let memory = File::open("/proc/self/mem").unwrap();
    let mut image = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    let mut page = [0; 4096];
    for line in fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        for at in (start..end).step_by(page.len()) {
            let length = memory.read_at(&mut page, at).unwrap_or(0);
            image.write_all(&page[..length]).unwrap();
        }
    }
    image
}

/// The public keys whose private keys can be had from the image: as they are, as what a generator gives whose key is
/// there, or as what one gives that comes of such a generator.
fn found(image: &File, publics: &BTreeSet<[u8; 32]>) -> BTreeSet<[u8; 32]> {
    let (mut found, mut tried) = (BTreeSet::new(), BTreeSet::new());
    let mut page = [0; 4096 + 32];
    for at in (0..image.metadata().unwrap().len()).step_by(4096) {
        let length = image.read_at(&mut page, at).unwrap();
        for window in page[..length].windows(32).step_by(8) {
            let window: [u8; 32] = window.try_into().unwrap();
            let different = window.iter().collect::<BTreeSet<_>>().len();
            if different < DIFFERENT_BYTES_MIN || !tried.insert(window) {
                continue;
            }
            let mut private = vec![window];
            let mut generator = ChaCha20Rng::from_seed(window);
            for _ in 0..KEYS_OF_A_GENERATOR {
                let mut out = [0; 32];
                generator.fill_bytes(&mut out);
                private.push(out);
                ChaCha20Rng::from_seed(out).fill_bytes(&mut out);
                private.push(out);
            }
            found.extend(private.into_iter().map(public).filter(|public| publics.contains(public)));
        }
    }
    found
}

#[test]
fn a_memory_image_of_a_gateway_gives_no_private_key_of_a_link_that_has_ended() {
    let seed = Seed::fill(|bytes| File::open("/dev/urandom")?.read_exact(bytes)).unwrap();
    let hub = GatewayHub::new(GatewayConfig::new(keys()), seed);
    let ended: BTreeSet<[u8; 32]> = (0..6).map(|_| link(&hub)).collect();
    assert_eq!(ended.len(), 6);

    // Two keys that are there, so that it shows that they would be found: one as it is, and one in a generator.
    let there = Box::new(urandom());
    let generator = Box::new(ChaCha20Rng::from_seed(urandom()));
    let mut given = [0; 32];
    generator.clone().fill_bytes(&mut given);
    let controls = BTreeSet::from([public(*there), public(given)]);
    given.fill(0);
    let all = ended.union(&controls).copied().collect();
    assert_eq!(found(&image(), &all), controls);
    black_box((there, generator, hub));
}
