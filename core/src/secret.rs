//! The secret, the PIN, and the keys made of them: zeroised when dropped, and never printed.
//!
//! ```text
//! secret ──Argon2id──▶ root ─┬─Expand "gesher.v2 sign"──▶ K_sign   the signature on a join
//!                            └─Expand "gesher.v2 pin"───▶ salt
//!                                                          │
//! PIN ─────────────────Argon2id───────────────────────────▶ P ─┬─Expand "gesher.v2 join"──▶ K_join  the proof
//!                                                              └─Expand "gesher.v2 mix"───▶ K_mix   into every link
//! ```
//! Whoever has only the secret can sign, and has to spend an Argon2id run on each PIN that he tries; whoever has only a
//! capture has to spend one on each secret. `docs/protocol.md`, 1, has a vector for every value.

use std::fmt;
use std::sync::Arc;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use hkdf::Hkdf;
use rand_core::{CryptoRng, RngCore};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::auth::signature;
use crate::limits;

/// Argon2id's memory, in KiB. OWASP's Password Storage Cheat Sheet rates m = 7 MiB, t = 5, p = 1 as strong as its
/// settings with more memory, and 7 MiB is what a router has to spare at its start.
const ARGON2_KIB: u32 = 7 * 1024;
/// Argon2id's passes over that memory.
const ARGON2_PASSES: u32 = 5;
/// Argon2id's lanes: one, so that a machine with one core is no slower than another.
const ARGON2_LANES: u32 = 1;

/// What the characters of a PIN are drawn from: no 0, 1, I and O, which people mistake for one another.
const PIN_ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
/// The fewest characters of a PIN.
const PIN_CHARS_MIN: usize = 4;
/// The most characters of a PIN.
const PIN_CHARS_MAX: usize = 64;

/// What all of one circle of trust share: 1 to [`limits::SECRET_BYTES_MAX`] bytes of any kind.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over; they are zeroised with it, also when they are refused.
    pub fn new(bytes: Vec<u8>) -> Result<Self, SecretError> {
        let bytes = Zeroizing::new(bytes);
        match bytes.len() {
            0 => Err(SecretError::Empty),
            1..=limits::SECRET_BYTES_MAX => Ok(Self(bytes)),
            _ => Err(SecretError::TooLong),
        }
    }

    /// Whether it is shorter than [`limits::SECRET_BYTES_GOOD`], so that guessing it may pay.
    pub fn is_short(&self) -> bool {
        self.0.len() < limits::SECRET_BYTES_GOOD
    }

    /// Makes a secret that cannot be guessed: 32 random bytes in base64url, 43 characters.
    pub fn generate(rng: &mut (impl RngCore + CryptoRng)) -> String {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *bytes);
        signature::encode(&*bytes)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a secret is not usable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SecretError {
    /// There are no bytes in it.
    Empty,
    /// It has more than [`limits::SECRET_BYTES_MAX`] bytes: a wrong file.
    TooLong,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretError::Empty => f.write_str("the secret is empty: make one with 'gesher keygen'"),
            SecretError::TooLong => {
                let kib = limits::SECRET_BYTES_MAX / 1024;
                write!(
                    f,
                    "the secret is longer than {kib} KiB: give the file that 'gesher keygen' was written to"
                )
            }
        }
    }
}

impl std::error::Error for SecretError {}

/// What a gateway prints and a connector is told: 4 to 64 ASCII letters and digits, in upper case.
pub struct Pin(Zeroizing<String>);

impl Pin {
    /// Reads one as people type it: in either case, with spaces and hyphens anywhere.
    pub fn parse(text: &str) -> Result<Self, PinError> {
        // All the room at once: growing would leave copies behind.
        let mut pin = Zeroizing::new(String::with_capacity(text.len()));
        for c in text.chars().filter(|c| !matches!(c, ' ' | '-')) {
            if !c.is_ascii_alphanumeric() {
                return Err(PinError::Character);
            }
            pin.push(c.to_ascii_uppercase());
        }
        match pin.len() {
            PIN_CHARS_MIN..=PIN_CHARS_MAX => Ok(Self(pin)),
            ..PIN_CHARS_MIN => Err(PinError::TooShort),
            _ => Err(PinError::TooLong),
        }
    }

    /// Draws [`limits::PIN_CHARS`] characters, each of 32 equally likely ones: 30 bits in all.
    pub fn random(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        let mut bytes = Zeroizing::new([0; limits::PIN_CHARS]);
        rng.fill_bytes(&mut *bytes);
        let mut pin = Zeroizing::new(String::with_capacity(limits::PIN_CHARS));
        for byte in bytes.iter() {
            // 32 divides 256: no character is likelier than another.
            pin.push(char::from(PIN_ALPHABET[usize::from(byte % 32)]));
        }
        Self(pin)
    }

    /// Whether it is shorter than [`limits::PIN_CHARS_GOOD`], which a fixed PIN should not be: with the secret and a
    /// capture it can be found in days.
    pub fn is_short(&self) -> bool {
        self.0.len() < limits::PIN_CHARS_GOOD
    }

    /// Its characters, for the one place that prints them: the gateway's start.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(..)")
    }
}

/// Why a PIN is not usable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PinError {
    /// It has fewer than 4 characters.
    TooShort,
    /// It has more than 64 characters.
    TooLong,
    /// A character that is no ASCII letter, digit, space or hyphen.
    Character,
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PinError::TooShort => write!(f, "the PIN is too short: give at least {PIN_CHARS_MIN} characters"),
            PinError::TooLong => write!(f, "the PIN is too long: give at most {PIN_CHARS_MAX} characters"),
            PinError::Character => {
                f.write_str("the PIN has a character that no PIN has: give letters and digits")
            }
        }
    }
}

impl std::error::Error for PinError {}

/// The keys that a secret and a PIN stand for.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Keys {
    /// K_sign: signs joins.
    pub(crate) sign: [u8; 32],
    /// K_join: proves that the PIN is known.
    pub(crate) join: [u8; 32],
    /// K_mix: goes into the keys of every link, so that who knows neither secret nor PIN cannot pose as a gateway.
    pub(crate) mix: [u8; 32],
    /// Who notes what the keys decide, or decides in their place.
    #[zeroize(skip)]
    pub(crate) verdicts: Option<Arc<dyn Verdicts>>,
}

/// What only the keys can decide, as a capture notes it and a replay says it again.
pub(crate) trait Verdicts: Send + Sync {
    /// The keys found something right, or not. Returns what is to count.
    fn settle(&self, is_right: bool) -> bool;
}

impl Keys {
    /// Runs Argon2id twice over one block of 7 MiB, which is zeroised and freed before this returns; some 30 ms.
    pub fn derive(secret: &Secret, pin: &Pin) -> Self {
        let mut memory = Zeroizing::new(vec![Block::default(); ARGON2_KIB as usize]);
        let root = stretch(&secret.0, b"gesher.v2", &mut memory);
        let salt = expand(&root, &[b"gesher.v2 pin"]);
        let pin = stretch(pin.as_str().as_bytes(), &salt[..16], &mut memory);
        Self {
            sign: *expand(&root, &[b"gesher.v2 sign"]),
            join: *expand(&pin, &[b"gesher.v2 join"]),
            mix: *expand(&pin, &[b"gesher.v2 mix"]),
            verdicts: None,
        }
    }

    /// No keys: whatever they would decide is decided by `verdicts`.
    #[cfg(feature = "capture")]
    pub(crate) fn none(verdicts: Arc<dyn Verdicts>) -> Self {
        Self { sign: [0; 32], join: [0; 32], mix: [0; 32], verdicts: Some(verdicts) }
    }

    /// What counts of a check that was made with these keys.
    pub(crate) fn settle(&self, is_right: bool) -> bool {
        self.verdicts.as_ref().map_or(is_right, |verdicts| verdicts.settle(is_right))
    }

    /// The same keys again, so that a simulation derives each only once.
    #[cfg(feature = "sim")]
    pub(crate) fn duplicate(&self) -> Self {
        Self { sign: self.sign, join: self.join, mix: self.mix, verdicts: self.verdicts.clone() }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// HKDF-Extract with SHA-256 (RFC 5869, 2.2).
pub(crate) fn extract(salt: &[u8; 32], ikm: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let (mut prk, _) = Hkdf::<Sha256>::extract(Some(salt), ikm);
    let out = Zeroizing::new(prk.into());
    prk.as_mut_slice().zeroize();
    out
}

/// HKDF-Expand with SHA-256 to 32 bytes (RFC 5869, 2.3); `info` is all its parts, one after the other.
pub(crate) fn expand(prk: &[u8; 32], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    let hkdf = Hkdf::<Sha256>::from_prk(prk).expect("32 bytes are as long as the hash");
    hkdf.expand_multi_info(info, &mut *out).expect("32 bytes are less than 255 hashes");
    out
}

/// Argon2id, version 0x13, to 32 bytes (RFC 9106).
fn stretch(password: &[u8], salt: &[u8], memory: &mut [Block]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    let params = Params::new(ARGON2_KIB, ARGON2_PASSES, ARGON2_LANES, Some(32)).expect("constants in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(password, salt, &mut *out, memory)
        .expect("a salt of 9 or 16 bytes, a password under 4 GiB, and memory of the size asked for");
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;
    use std::sync::OnceLock;

    /// The vectors of `docs/protocol.md`, which `core/tests/vectors/make.py` computes without any of this code.
    pub(crate) fn vector(name: &str) -> String {
        include_str!("../tests/vectors/joining.txt")
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))
            .unwrap_or_else(|| panic!("no vector {name}"))
            .replace("\\r", "\r")
            .replace("\\n", "\n")
    }

    pub(crate) fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The keys of the vectors; derived once, since Argon2id is slow.
    pub(crate) fn keys() -> &'static Keys {
        static KEYS: OnceLock<Keys> = OnceLock::new();
        KEYS.get_or_init(|| {
            let secret = Secret::new(vector("secret").into_bytes()).unwrap();
            Keys::derive(&secret, &Pin::parse(&vector("pin typed")).unwrap())
        })
    }

    /// The same, for a configuration of its own.
    pub(crate) fn own_keys() -> Keys {
        Keys { sign: keys().sign, join: keys().join, mix: keys().mix, verdicts: None }
    }

    #[test]
    fn every_key_is_that_of_the_vectors() {
        let mut memory = vec![Block::default(); ARGON2_KIB as usize];
        let root = stretch(vector("secret").as_bytes(), b"gesher.v2", &mut memory);
        let salt = expand(&root, &[b"gesher.v2 pin"]);
        let p = stretch(vector("pin").as_bytes(), &salt[..16], &mut memory);
        for (name, value) in [
            ("root", &root[..]),
            ("pin salt", &salt[..16]),
            ("P", &p[..]),
            ("K_sign", &keys().sign[..]),
            ("K_join", &keys().join[..]),
            ("K_mix", &keys().mix[..]),
        ] {
            assert_eq!(hex(value), vector(name), "{name}");
        }
    }

    #[test]
    fn a_secret_has_bytes_but_not_too_many() {
        assert_eq!(Secret::new(Vec::new()).unwrap_err(), SecretError::Empty);
        assert_eq!(Secret::new(vec![0; limits::SECRET_BYTES_MAX + 1]).unwrap_err(), SecretError::TooLong);
        assert!(!Secret::new(vec![0; limits::SECRET_BYTES_MAX]).unwrap().is_short());
        assert!(Secret::new(vec![b'x'; limits::SECRET_BYTES_GOOD - 1]).unwrap().is_short());
        assert!(!Secret::new(vec![b'x'; limits::SECRET_BYTES_GOOD]).unwrap().is_short());
    }

    #[test]
    fn a_generated_secret_is_32_bytes_in_base64url() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let (first, second) = (Secret::generate(&mut rng), Secret::generate(&mut rng));
        assert_ne!(first, second);
        assert!(signature::decode::<32>(first.as_bytes()).is_some());
    }

    #[test]
    fn a_pin_is_the_same_however_it_is_typed() {
        for text in ["K7QM2X", "k7qm2x", "K7Q-M2X", " k7 q m-2x "] {
            assert_eq!(Pin::parse(text).unwrap().as_str(), "K7QM2X", "{text}");
        }
    }

    #[test]
    fn a_pin_is_4_to_64_letters_and_digits() {
        for (text, error) in [
            ("", PinError::TooShort),
            ("a-b c", PinError::TooShort),
            ("ABC!", PinError::Character),
            ("abcdé", PinError::Character),
            ("abc\td", PinError::Character),
            (&"a".repeat(65), PinError::TooLong),
        ] {
            assert_eq!(Pin::parse(text).unwrap_err(), error, "{text}");
        }
        assert!(Pin::parse("abc4").is_ok_and(|pin| pin.is_short()));
        assert!(Pin::parse(&"a".repeat(10)).is_ok_and(|pin| !pin.is_short()));
        assert!(Pin::parse(&"a".repeat(64)).is_ok());
    }

    #[test]
    fn random_pins_use_every_character_about_equally() {
        let mut rng = ChaCha20Rng::from_seed([2; 32]);
        let mut counts = [0u32; 128];
        for _ in 0..3200 {
            let pin = Pin::random(&mut rng);
            assert_eq!(Pin::parse(pin.as_str()).unwrap().as_str(), pin.as_str());
            assert_eq!(pin.as_str().len(), limits::PIN_CHARS);
            pin.as_str().bytes().for_each(|b| counts[usize::from(b)] += 1);
        }
        // 600 are expected of each; six deviations are 145.
        assert!(PIN_ALPHABET.iter().all(|b| counts[usize::from(*b)].abs_diff(600) < 145), "{counts:?}");
    }

    #[test]
    fn what_is_secret_is_not_printed() {
        let secret = Secret::new(b"hunter2".to_vec()).unwrap();
        let pin = Pin::parse("HUNTER2").unwrap();
        assert_eq!(format!("{secret:?} {pin:?} {:?}", keys()), "Secret(..) Pin(..) Keys(..)");
    }
}
