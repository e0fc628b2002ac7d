//! Joining: how a connection between two parties who share a secret and a PIN becomes a link with keys of its own.
//!
//! Both sides end with the same two new keys, or with none. Neither secret nor PIN crosses the wire, nothing that was
//! captured can be used again, and what was captured stays closed even if secret and PIN leak later.
//! ```text
//! connector                                                                             gateway
//!   │ GET /_connect_tunnel · Gesher-Seal: fernet                                           │
//!   │ Authorization: Gesher <seconds>.<ephemeral key>.<signature>. · X-Join-Code: <proof>  │
//!   ├─────────────────────────────────────────────────────────────────────────────────────▶│ verify
//!   │                                    101 · Gesher-Seal: fernet                         │
//!   │                                    Gesher-Accept: <ephemeral key>.<MAC>              │
//!   │◀─────────────────────────────────────────────────────────────────────────────────────┤ Accepted
//!   │ judge: Joined                                                                        │
//! ```
//! or a refusal with a `Gesher-Refusal` field, or 426 with a `Gesher-Missing` field. `docs/protocol.md`, 2, has it byte
//! for byte.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand_core::{CryptoRng, RngCore};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret, X25519_BASEPOINT_BYTES};
use zeroize::Zeroizing;

pub use crate::auth::Doorman;
use crate::auth::lockout::Source;
use crate::auth::{Turned, signature};
use crate::http1::head::{RequestHead, ResponseHead, Version, list_has};
use crate::limits;
use crate::seal::SealKey;
use crate::secret::{Keys, Verdicts, expand, extract};
use crate::time::{Now, UnixSecs};
use crate::websocket::accept_key;

/// Where joins are taken.
const PATH: &[u8] = b"/_connect_tunnel";
/// The WebSocket subprotocol, which names the version of the link protocol.
const PROTOCOL: &str = "gesher.v2";
/// The one way of sealing that both sides know.
const SEAL: &str = "fernet";
/// The name of the credential that signs a join: there is one secret, which has none.
const NAME: &str = "";
/// A list of ways of sealing longer than this is malformed: there is one, and there may be a few.
const SEALS_BYTES_MAX: usize = 256;
/// The last second of the year 9999, after which there are no HTTP dates.
const DATE_SECS_MAX: u64 = 253_402_300_799;

/// Why a gateway refuses a join: the word in its `Gesher-Refusal` field.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// The signature is wrong, or the join is malformed.
    Secret,
    /// The join's time is more than [`limits::CLOCK_SKEW_SECS_MAX`] from the gateway's.
    Clock,
    /// The signature was seen before.
    Replay,
    /// The proof that the PIN is known is wrong.
    Pin,
    /// Too many joins from this address were refused, or there is no room for one more right now.
    Rate,
    /// Too many wrong PINs came from this address.
    Locked,
    /// Too many wrong PINs came from everywhere, and nobody has joined from this address yet.
    Guessed,
    /// No way of sealing in common.
    Seal,
}

impl Refusal {
    const ALL: [Refusal; 8] = [
        Refusal::Secret,
        Refusal::Clock,
        Refusal::Replay,
        Refusal::Pin,
        Refusal::Rate,
        Refusal::Locked,
        Refusal::Guessed,
        Refusal::Seal,
    ];

    /// The word in the `Gesher-Refusal` field.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Secret => "secret",
            Refusal::Clock => "clock",
            Refusal::Replay => "replay",
            Refusal::Pin => "pin",
            Refusal::Rate => "rate",
            Refusal::Locked => "locked",
            Refusal::Guessed => "guessed",
            Refusal::Seal => "seal",
        }
    }

    /// Reads the word in a `Gesher-Refusal` field.
    pub fn parse(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.as_str().as_bytes() == word)
    }

    /// The status that goes with it. `seal` is a 403: the join is well-formed, and repeating it does not help.
    pub fn status(self) -> u16 {
        match self {
            Refusal::Secret | Refusal::Clock | Refusal::Replay | Refusal::Seal => 403,
            Refusal::Pin => 401,
            Refusal::Rate | Refusal::Locked | Refusal::Guessed => 429,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Secret => "wrong secret: gateway and connector need the same one",
            Refusal::Clock => "the clocks of gateway and connector differ too much: set them",
            Refusal::Replay => "this join was used before: sign a new one",
            Refusal::Pin => "wrong PIN: give the one that the gateway printed at its start",
            Refusal::Rate => "too many refused joins from this address: wait a little",
            Refusal::Locked => {
                "too many wrong PINs from this address: joining is closed to it for some minutes"
            }
            Refusal::Guessed => {
                "too many wrong PINs in all: for now only addresses from which somebody has joined may join"
            }
            Refusal::Seal => "no way of sealing in common: update the older side",
        })
    }
}

/// What of the upgrade did not arrive with a join that was signed rightly: the word in the `Gesher-Missing` field of a
/// 426. A proxy in between dropped it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Missing {
    /// The request is HTTP/1.0, in which there are no upgrades (RFC 9110, 7.8).
    Http11,
    /// `Connection: Upgrade`.
    Connection,
    /// `Upgrade: websocket`.
    Upgrade,
    /// `Sec-WebSocket-Version: 13`.
    Version,
    /// A `Sec-WebSocket-Key` of 16 bytes.
    Key,
    /// `Sec-WebSocket-Protocol: gesher.v2`.
    Protocol,
}

impl Missing {
    const ALL: [Missing; 6] = [
        Missing::Http11,
        Missing::Connection,
        Missing::Upgrade,
        Missing::Version,
        Missing::Key,
        Missing::Protocol,
    ];

    /// The word in the `Gesher-Missing` field.
    pub fn as_str(self) -> &'static str {
        match self {
            Missing::Http11 => "http11",
            Missing::Connection => "connection",
            Missing::Upgrade => "upgrade",
            Missing::Version => "version",
            Missing::Key => "key",
            Missing::Protocol => "protocol",
        }
    }

    /// Reads the word in a `Gesher-Missing` field.
    pub fn parse(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|missing| missing.as_str().as_bytes() == word)
    }
}

impl fmt::Display for Missing {
    /// Says what the proxy in between has to pass on, in nginx's words where it needs to be told.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Missing::Http11 => "a proxy in between speaks HTTP/1.0 (nginx: 'proxy_http_version 1.1')",
            Missing::Connection => {
                "a proxy in between drops 'Connection: Upgrade' (nginx: 'proxy_set_header Connection \"upgrade\"')"
            }
            Missing::Upgrade => {
                "a proxy in between drops 'Upgrade: websocket' (nginx: 'proxy_set_header Upgrade $http_upgrade')"
            }
            Missing::Version => "a proxy in between drops 'Sec-WebSocket-Version: 13': let it pass WebSockets on",
            Missing::Key => "a proxy in between drops 'Sec-WebSocket-Key': let it pass WebSockets on",
            Missing::Protocol => "a proxy in between drops 'Sec-WebSocket-Protocol': let it pass that on",
        })
    }
}

/// The keys of one link, new for every link; they seal what goes from connector to gateway and back.
#[derive(Debug)]
pub struct LinkKeys {
    /// From connector to gateway.
    pub c2g: SealKey,
    /// From gateway to connector.
    pub g2c: SealKey,
}

impl LinkKeys {
    /// No keys: for a link that a replay opens without them.
    fn none() -> Box<Self> {
        Box::new(Self { c2g: SealKey([0; 32]), g2c: SealKey([0; 32]) })
    }
}

// ---- The gateway's side --------------------------------------------------------------------------------------------

/// What a gateway makes of a join.
#[derive(Debug)]
#[must_use]
pub enum Verdict {
    /// It comes from somebody who knows secret and PIN; the connection becomes a link.
    Accepted(Accepted),
    /// It is refused; the response goes out and the connection closes.
    Refused {
        /// All of it.
        response: Vec<u8>,
        /// Why.
        refusal: Refusal,
    },
    /// It is signed rightly, but came without what makes an upgrade; the response (426) goes out and the connection
    /// closes.
    UpgradeRequired {
        /// All of it.
        response: Vec<u8>,
        /// The first part that is missing.
        missing: Missing,
    },
}

/// A join that passed every check. Only [`verify`] makes one.
#[derive(Debug)]
pub struct Accepted {
    head: Vec<u8>,
    /// In one place: a value that moves leaves copies.
    keys: Box<LinkKeys>,
}

impl Accepted {
    /// The 101, which is all that goes out before the first record, and the link's keys.
    pub fn into_parts(self) -> (Vec<u8>, Box<LinkKeys>) {
        (self.head, self.keys)
    }
}

/// Whether a request is meant as a join: `/_connect_tunnel` with `Authorization: Gesher …`, whatever its method and
/// query. Such a request must not be carried to an app; anything else at this path is an ordinary public request.
pub fn is_join(head: &RequestHead<'_>) -> bool {
    path(head.target) == PATH && head.all("authorization").any(|value| credentials(value).is_some())
}

/// Judges a join, in this order:
///
/// | check | else |
/// | --- | --- |
/// | well-formed | 403 secret; 429 rate once too many came from this address |
/// | signature right | the same |
/// | time within [`limits::CLOCK_SKEW_SECS_MAX`] of the joining clock | 403 clock |
/// | upgrade complete | 426 |
/// | a known way of sealing offered | 403 seal |
/// | joining is not closed to this address | 429 locked |
/// | nor to all that have not joined before | 429 guessed |
/// | signature not seen before, and room to remember it | 403 replay, 429 rate |
/// | proof right; a wrong one counts towards a lockout | 401 pin |
/// | key exchange not degenerate | 403 secret |
///
/// Strangers learn nothing beyond the signature, and nothing that they send changes what becomes of a join with a right
/// one. 426 and `seal` come before the signature is remembered, so that a join
/// that could not have succeeded is not used up. The doorman's lock is never held for an HMAC, and is taken over if
/// another thread panicked while it had it.
pub fn verify(
    head: &RequestHead<'_>,
    keys: &Keys,
    now: Now,
    from: IpAddr,
    doorman: &Mutex<Doorman>,
    rng: &mut (impl RngCore + CryptoRng),
) -> Verdict {
    let from = Source::from(from);
    let clock = lock(doorman).clock(now);
    let signed = Join::signed_rightly(head, keys);
    let signed = signed.ok_or_else(|| Denied::from(lock(doorman).turn_away(from, now)));
    let judged = signed.and_then(|join| {
        if join.time.0.abs_diff(clock.0) > limits::CLOCK_SKEW_SECS_MAX {
            return Err(Refusal::Clock.into());
        }
        let websocket_key = usable_upgrade(head)?;
        let seal = join.takes_seal()?;
        let proof_is_right = keys.settle(signature::verify(&keys.join, &join.proved, &join.proof));
        lock(doorman).admit(from, now, join.time, &join.signature, proof_is_right)?;
        join.accept(keys, websocket_key, seal, rng)
    });
    match judged {
        Ok(accepted) => Verdict::Accepted(accepted),
        Err(Denied::Turned(Turned { refusal, wait })) => {
            let retry_after_secs = wait.map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
            Verdict::Refused { response: refusal_response(refusal, clock, retry_after_secs), refusal }
        }
        Err(Denied::Missing(missing)) => {
            Verdict::UpgradeRequired { response: upgrade_response(missing, clock), missing }
        }
    }
}

/// Writes a refusal: a complete response that closes the connection. `now` goes into its `Date`, by which a connector
/// whose clock is wrong signs again; `Retry-After` is only written with a 429.
pub fn refusal_response(refusal: Refusal, now: UnixSecs, retry_after_secs: Option<u64>) -> Vec<u8> {
    let status = match refusal.status() {
        401 => "401 Unauthorized",
        429 => "429 Too Many Requests",
        _ => "403 Forbidden",
    };
    let mut fields = format!("Gesher-Refusal: {}\r\nConnection: close\r\n", refusal.as_str());
    match (refusal, retry_after_secs) {
        // A 401 has to say how to authenticate (RFC 9110, 15.5.2).
        (Refusal::Pin, _) => fields.push_str("WWW-Authenticate: Gesher\r\n"),
        (refusal, Some(secs)) if refusal.status() == 429 => {
            fields.push_str(&format!("Retry-After: {secs}\r\n"))
        }
        _ => {}
    }
    response(status, now, &fields, &refusal.to_string())
}

/// A 426 has to say to what (RFC 9110, 15.5.22).
fn upgrade_response(missing: Missing, now: UnixSecs) -> Vec<u8> {
    let missing_word = missing.as_str();
    let fields =
        format!("Gesher-Missing: {missing_word}\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n");
    response("426 Upgrade Required", now, &fields, &missing.to_string())
}

fn response(status: &str, now: UnixSecs, fields: &str, text: &str) -> Vec<u8> {
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now.0.min(DATE_SECS_MAX)));
    let length = text.len() + 1;
    format!(
        "HTTP/1.1 {status}\r\nDate: {date}\r\n{fields}Cache-Control: no-store\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{text}\n"
    )
    .into_bytes()
}

/// Why a join does not become a link.
enum Denied {
    Turned(Turned),
    Missing(Missing),
}

impl From<Turned> for Denied {
    fn from(turned: Turned) -> Self {
        Denied::Turned(turned)
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Denied::Turned(refusal.into())
    }
}

impl From<Missing> for Denied {
    fn from(missing: Missing) -> Self {
        Denied::Missing(missing)
    }
}

/// A join in its parts: the texts as they came, since they are what is signed, and what they stand for.
struct Join<'a> {
    time: UnixSecs,
    key: PublicKey,
    signature: [u8; 32],
    proof: [u8; 32],
    signature_text: &'a [u8],
    seals: &'a [u8],
    /// What `proof` is made of.
    proved: Vec<u8>,
    /// What `signature` is made of: the same, and the proof.
    signed: Vec<u8>,
}

impl<'a> Join<'a> {
    /// None if it is malformed, or somebody signed it who does not have the secret.
    fn signed_rightly(head: &RequestHead<'a>, keys: &Keys) -> Option<Self> {
        let join = Self::parse(head)?;
        keys.settle(signature::verify(&keys.sign, &join.signed, &join.signature)).then_some(join)
    }

    /// One spelling of each part, each field once, and no body: the first byte after the head is the link's.
    fn parse(head: &RequestHead<'a>) -> Option<Self> {
        let bodyless = head.all("transfer-encoding").next().is_none()
            && head.all("content-length").all(|length| length == b"0");
        if head.method != b"GET" || path_and_query(head.target) != PATH || !bodyless {
            return None;
        }
        let mut parts = credentials(once(head.all("authorization"))?)?.split(|byte| *byte == b'.');
        let (seconds, key_text, signature_text) = (parts.next()?, parts.next()?, parts.next()?);
        let name = parts.next().filter(|name| name.is_empty())?;
        if parts.next().is_some() {
            return None;
        }
        let seals = once(head.all("gesher-seal")).filter(|seals| is_seal_list(seals))?;
        let proof_text = once(head.all("x-join-code"))?;
        let proved = proved_text(seconds, seals, key_text, name);
        Some(Self {
            time: parse_seconds(seconds)?,
            key: signature::decode::<32>(key_text)?.into(),
            signature: signature::decode(signature_text)?,
            proof: signature::decode(proof_text)?,
            signature_text,
            seals,
            signed: signed_text(&proved, proof_text),
            proved,
        })
    }

    fn takes_seal(&self) -> Result<&'static str, Refusal> {
        let known = self.seals.split(|byte| *byte == b',').any(|seal| seal == SEAL.as_bytes());
        if known { Ok(SEAL) } else { Err(Refusal::Seal) }
    }

    /// The gateway's half of the key exchange.
    fn accept(
        self,
        keys: &Keys,
        websocket_key: &[u8],
        seal: &str,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Accepted, Denied> {
        let ephemeral = new_key(rng);
        let own_key = signature::encode(&public(&ephemeral));
        let offer = offer_text(&self.signed, self.signature_text);
        let th = transcript_hash(&offer, seal.as_bytes(), own_key.as_bytes());
        // Only who knows secret and PIN can have sent a degenerate key.
        let (mac, link_keys) = agree(&keys.mix, &ephemeral, &self.key, &th).ok_or(Refusal::Secret)?;
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\
             Gesher-Seal: {seal}\r\nGesher-Accept: {own_key}.{}\r\n\r\n",
            accept_key(websocket_key),
            signature::encode(&mac),
        );
        Ok(Accepted { head: head.into_bytes(), keys: link_keys })
    }
}

/// Returns the WebSocket key, or the first part of an upgrade that is missing (RFC 6455, 4.2.1).
fn usable_upgrade<'a>(head: &RequestHead<'a>) -> Result<&'a [u8], Missing> {
    if head.version != Version::Http11 {
        return Err(Missing::Http11);
    }
    if !list_has(&head.fields, "connection", "upgrade") {
        return Err(Missing::Connection);
    }
    if !list_has(&head.fields, "upgrade", "websocket") {
        return Err(Missing::Upgrade);
    }
    if once(head.all("sec-websocket-version")) != Some(b"13") {
        return Err(Missing::Version);
    }
    let key = once(head.all("sec-websocket-key")).filter(|key| is_websocket_key(key)).ok_or(Missing::Key)?;
    if !list_has(&head.fields, "sec-websocket-protocol", PROTOCOL) {
        return Err(Missing::Protocol);
    }
    Ok(key)
}

fn is_websocket_key(key: &[u8]) -> bool {
    key.len() == 24 && STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// `fernet` or `other,fernet`: names of lower-case letters, digits, hyphens and dots, with commas between.
fn is_seal_list(seals: &[u8]) -> bool {
    let is_name_byte = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    seals.len() <= SEALS_BYTES_MAX
        && seals.split(|byte| *byte == b',').all(|name| !name.is_empty() && name.iter().all(is_name_byte))
}

/// Decimal digits without a leading zero; a clock that begins in 1970 says 0.
fn parse_seconds(digits: &[u8]) -> Option<UnixSecs> {
    if digits.first() == Some(&b'0') && digits != b"0" {
        return None;
    }
    parse_decimal(digits).map(UnixSecs)
}

fn parse_decimal(digits: &[u8]) -> Option<u64> {
    // `parse` would take a sign.
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

/// What follows the scheme `Gesher` in an Authorization field; none for another scheme. Schemes are case-insensitive
/// (RFC 9110, 11.1).
fn credentials(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(6)?;
    let ends = matches!(rest.first(), None | Some(b' ' | b'\t'));
    (scheme.eq_ignore_ascii_case(b"gesher") && ends).then(|| rest.trim_ascii())
}

fn path(target: &[u8]) -> &[u8] {
    path_and_query(target).split(|byte| *byte == b'?').next().unwrap_or_default()
}

/// The target without the scheme and authority of its absolute-form.
fn path_and_query(target: &[u8]) -> &[u8] {
    for scheme in [&b"http://"[..], b"https://"] {
        if let Some((start, rest)) = target.split_at_checked(scheme.len())
            && start.eq_ignore_ascii_case(scheme)
        {
            let slash = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            return &rest[slash..];
        }
    }
    target
}

fn lock(doorman: &Mutex<Doorman>) -> MutexGuard<'_, Doorman> {
    doorman.lock().unwrap_or_else(PoisonError::into_inner)
}

// ---- The connector's side ------------------------------------------------------------------------------------------

/// A join that was sent and not answered yet. It is good for one answer.
pub struct JoinAttempt {
    /// In one place: a value that moves leaves copies.
    ephemeral: Box<StaticSecret>,
    mix: Zeroizing<[u8; 32]>,
    verdicts: Option<Arc<dyn Verdicts>>,
    offer: Vec<u8>,
    websocket_accept: String,
}

/// What a connector makes of the answer to its join.
#[derive(Debug)]
#[must_use]
pub enum JoinOutcome {
    /// It comes from somebody who knows secret and PIN, and was made for this very join. The gateway in turn counts the
    /// connector as joined once its first record opens.
    Joined(Box<LinkKeys>),
    /// The gateway refused.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Its clock, from `Date`.
        gateway_time: Option<UnixSecs>,
        /// When to try again, from `Retry-After`; at most [`limits::LOCKOUT_TIME`].
        retry_after: Option<Duration>,
    },
    /// A proxy in between does not pass the upgrade on: what of it is missing at the gateway.
    UpgradeMissing(Missing),
    /// The answer comes from something that is no gateway, or from something in between: its status, and when to try
    /// again.
    NotGateway(u16, Option<Duration>),
    /// It claims to be a gateway and does not know secret and PIN, or somebody in between changed its answer.
    Impostor,
}

impl JoinAttempt {
    /// Signs a join with `time` and returns its head with it, all of which goes out first. `host` is the gateway's
    /// authority, `prefix` what a reverse proxy expects before the path, without a final slash.
    pub fn new(
        keys: &Keys,
        time: UnixSecs,
        host: &str,
        prefix: &str,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> (Self, Vec<u8>) {
        // What is signed is as good as any answer of the keys: without them it would be another.
        keys.settle(true);
        let ephemeral = new_key(rng);
        let mut nonce = [0; 16];
        rng.fill_bytes(&mut nonce);
        let websocket_key = STANDARD.encode(nonce);
        let own_key = signature::encode(&public(&ephemeral));
        let seconds = time.0.to_string();
        let proved = proved_text(seconds.as_bytes(), SEAL.as_bytes(), own_key.as_bytes(), NAME.as_bytes());
        let proof = signature::encode(&signature::sign(&keys.join, &proved));
        let signed = signed_text(&proved, proof.as_bytes());
        let signature = signature::encode(&signature::sign(&keys.sign, &signed));
        let head = format!(
            "GET {prefix}/_connect_tunnel HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {websocket_key}\r\n\
             Sec-WebSocket-Protocol: {PROTOCOL}\r\nGesher-Seal: {SEAL}\r\n\
             Authorization: Gesher {seconds}.{own_key}.{signature}.{NAME}\r\nX-Join-Code: {proof}\r\n\r\n"
        );
        let attempt = Self {
            ephemeral,
            mix: Zeroizing::new(keys.mix),
            verdicts: keys.verdicts.clone(),
            offer: offer_text(&signed, signature.as_bytes()),
            websocket_accept: accept_key(websocket_key.as_bytes()),
        };
        (attempt, head.into_bytes())
    }

    /// Judges the answer. Only a 101 is authenticated; a refusal may come from anyone in between.
    pub fn judge(self, response: &ResponseHead<'_>) -> JoinOutcome {
        let only = |name| once(response.all(name));
        if response.status == 101 && response.all("gesher-accept").next().is_some() {
            let verdicts = self.verdicts.clone();
            let keys = self.joined(response);
            let joined = verdicts.map_or(keys.is_some(), |verdicts| verdicts.settle(keys.is_some()));
            let keys = joined.then(|| keys.unwrap_or_else(LinkKeys::none));
            return keys.map_or(JoinOutcome::Impostor, JoinOutcome::Joined);
        }
        let retry_after = only("retry-after")
            .and_then(parse_decimal)
            .map(|secs| Duration::from_secs(secs).min(limits::LOCKOUT_TIME));
        if let Some(refusal) = only("gesher-refusal").and_then(Refusal::parse) {
            let gateway_time = only("date").and_then(parse_date);
            return JoinOutcome::Refused { refusal, gateway_time, retry_after };
        }
        match only("gesher-missing").and_then(Missing::parse) {
            Some(missing) if response.status == 426 => JoinOutcome::UpgradeMissing(missing),
            _ => JoinOutcome::NotGateway(response.status, retry_after),
        }
    }

    /// The connector's half of the key exchange.
    fn joined(self, response: &ResponseHead<'_>) -> Option<Box<LinkKeys>> {
        let only = |name| once(response.all(name));
        let upgraded = list_has(&response.fields, "connection", "upgrade")
            && list_has(&response.fields, "upgrade", "websocket")
            && only("sec-websocket-accept") == Some(self.websocket_accept.as_bytes())
            && only("sec-websocket-protocol") == Some(PROTOCOL.as_bytes())
            && response.all("sec-websocket-extensions").next().is_none();
        let seal = only("gesher-seal").filter(|seal| *seal == SEAL.as_bytes())?;
        let accept = only("gesher-accept")?;
        let dot = accept.iter().position(|byte| *byte == b'.').filter(|_| upgraded)?;
        let (peer_key, mac) = (&accept[..dot], signature::decode::<32>(&accept[dot + 1..])?);
        let peer = PublicKey::from(signature::decode::<32>(peer_key)?);
        let th = transcript_hash(&self.offer, seal, peer_key);
        let (expected, link_keys) = agree(&self.mix, &self.ephemeral, &peer, &th)?;
        bool::from(expected.ct_eq(&mac)).then_some(link_keys)
    }
}

impl fmt::Debug for JoinAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinAttempt(..)")
    }
}

fn parse_date(value: &[u8]) -> Option<UnixSecs> {
    let date = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    Some(UnixSecs(date.duration_since(UNIX_EPOCH).ok()?.as_secs()))
}

// ---- Both sides ----------------------------------------------------------------------------------------------------

/// The one value of a field; none if there is no such field or more than one.
fn once<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// What the proof is made of.
fn proved_text(seconds: &[u8], seals: &[u8], key: &[u8], name: &[u8]) -> Vec<u8> {
    [b"gesher.v2 connect", seconds, seals, key, name].join(&b'\n')
}

/// What the signature is made of. It covers the proof: a proof that somebody in between changed is no wrong PIN.
fn signed_text(proved: &[u8], proof: &[u8]) -> Vec<u8> {
    [proved, proof].join(&b'\n')
}

/// What of a join goes into the transcript: all that counts.
fn offer_text(signed: &[u8], signature: &[u8]) -> Vec<u8> {
    [signed, signature].join(&b'\n')
}

/// Hashes all that both sides said.
fn transcript_hash(offer: &[u8], seal: &[u8], gateway_key: &[u8]) -> [u8; 32] {
    Sha256::digest([offer, seal, gateway_key].join(&b'\n')).into()
}

/// An ephemeral key, which is overwritten when it is dropped.
fn new_key(rng: &mut (impl RngCore + CryptoRng)) -> Box<StaticSecret> {
    let mut bytes = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut *bytes);
    Box::new(StaticSecret::from(*bytes))
}

/// The public half of a key (RFC 7748, 6.1), which is made once and thrown away. The crate's own way goes over Edwards
/// curves, which nothing else here needs.
fn public(own: &StaticSecret) -> [u8; 32] {
    own.diffie_hellman(&X25519_BASEPOINT_BYTES.into()).to_bytes()
}

/// Makes the gateway's MAC and the link's keys; none if the exchange gives all zeros, which a peer can force by a key
/// of low order (RFC 7748, 6.1).
fn agree(
    mix: &[u8; 32],
    own: &StaticSecret,
    peer: &PublicKey,
    th: &[u8; 32],
) -> Option<([u8; 32], Box<LinkKeys>)> {
    let shared = own.diffie_hellman(peer);
    if !shared.was_contributory() {
        return None;
    }
    let prk = extract(mix, shared.as_bytes());
    let mac = signature::sign(&expand(&prk, &[b"gesher.v2 accept", th]), th);
    let keys = Box::new(LinkKeys {
        c2g: SealKey(*expand(&prk, &[b"gesher.v2 c2g", th])),
        g2c: SealKey(*expand(&prk, &[b"gesher.v2 g2c", th])),
    });
    Some((mac, keys))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::{parse_request, parse_response};
    use crate::secret::tests::{hex, keys, vector};
    use crate::time::Instant;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    const START: u64 = 1_767_225_600;
    const HOME: &str = "192.0.2.1";

    /// `secs` after the start.
    fn at(secs: u64) -> Now {
        Now { mono: Instant::from_origin(Duration::from_secs(secs)), unix: UnixSecs(START + secs) }
    }

    fn seeded(name: &str) -> ChaCha20Rng {
        let hex = vector(name);
        ChaCha20Rng::from_seed(std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..][..2], 16).unwrap()))
    }

    /// A gateway with the keys of the vectors, and with a source of joins.
    struct Gateway {
        doorman: Mutex<Doorman>,
        rng: ChaCha20Rng,
        joins_rng: ChaCha20Rng,
    }

    /// A response without its body; all of it if it has no blank line.
    fn head_of(response: &[u8]) -> &[u8] {
        let end = response.windows(4).position(|at| at == b"\r\n\r\n");
        end.map_or(response, |end| &response[..end + 4])
    }

    impl Gateway {
        fn new() -> Self {
            let (rng, joins_rng) = (seeded("gateway seed"), seeded("connector seed"));
            Self { doorman: Mutex::default(), rng, joins_rng }
        }

        fn judge_from(&mut self, from: &str, now: Now, join: &[u8]) -> Verdict {
            let head = parse_request(join).unwrap();
            assert!(is_join(&head));
            verify(&head, keys(), now, from.parse().unwrap(), &self.doorman, &mut self.rng)
        }

        /// The word of the refusal, the missing part, or `accepted`.
        fn says(&mut self, from: &str, now: Now, join: &[u8]) -> &'static str {
            match self.judge_from(from, now, join) {
                Verdict::Accepted(_) => "accepted",
                Verdict::Refused { refusal, response } => {
                    let head = parse_response(head_of(&response)).unwrap();
                    assert_eq!(head.get("gesher-refusal"), Some(refusal.as_str().as_bytes()));
                    assert_eq!(head.status, refusal.status());
                    refusal.as_str()
                }
                Verdict::UpgradeRequired { missing, .. } => missing.as_str(),
            }
        }

        /// A new join, signed with these keys at this time.
        fn join(&mut self, keys: &Keys, now: Now) -> Vec<u8> {
            self.attempt(keys, now).1
        }

        fn attempt(&mut self, keys: &Keys, now: Now) -> (JoinAttempt, Vec<u8>) {
            JoinAttempt::new(keys, now.unix, "tunnel.example.org", "", &mut self.joins_rng)
        }
    }

    fn wrong_pin() -> Keys {
        Keys { sign: keys().sign, join: [1; 32], mix: [2; 32], verdicts: None }
    }

    fn wrong_secret() -> Keys {
        Keys { sign: [0; 32], join: [1; 32], mix: [2; 32], verdicts: None }
    }

    /// A join signed rightly over parts that no connector of ours sends.
    fn odd_join(seconds: &str, seals: &str, key: &str) -> Vec<u8> {
        named_join(seconds, seals, key, "")
    }

    fn named_join(seconds: &str, seals: &str, key: &str, name: &str) -> Vec<u8> {
        let proved = proved_text(seconds.as_bytes(), seals.as_bytes(), key.as_bytes(), name.as_bytes());
        let proof = signature::encode(&signature::sign(&keys().join, &proved));
        let signed = signed_text(&proved, proof.as_bytes());
        let signature = signature::encode(&signature::sign(&keys().sign, &signed));
        let credentials = format!("{seconds}.{key}.{signature}.{name}");
        vector("request")
            .replace("Seal: fernet", &format!("Seal: {seals}"))
            .replace(&between(&vector("request"), "Authorization: Gesher "), &credentials)
            .replace(&between(&vector("request"), "X-Join-Code: "), &proof)
            .into_bytes()
    }

    /// The rest of the line after `start`.
    fn between(text: &str, start: &str) -> String {
        text.split_once(start).unwrap().1.split_once("\r\n").unwrap().0.to_owned()
    }

    fn replaced(join: &[u8], from: &str, to: &str) -> Vec<u8> {
        let text = std::str::from_utf8(join).unwrap();
        assert!(text.contains(from), "{from}");
        text.replace(from, to).into_bytes()
    }

    #[test]
    fn a_whole_join_is_that_of_the_vectors() {
        let mut gateway = Gateway::new();
        let (attempt, join) = gateway.attempt(keys(), at(0));
        assert_eq!(String::from_utf8(join.clone()).unwrap(), vector("request"));
        let Verdict::Accepted(accepted) = gateway.judge_from(HOME, at(0), &join) else { panic!("refused") };
        let (head, at_gateway) = accepted.into_parts();
        assert_eq!(String::from_utf8(head.clone()).unwrap(), vector("response"));
        let JoinOutcome::Joined(at_connector) = attempt.judge(&parse_response(head_of(&head)).unwrap())
        else {
            panic!("not joined")
        };
        for keys in [at_gateway, at_connector] {
            assert_eq!((hex(&keys.c2g.0), hex(&keys.g2c.0)), (vector("K_c2g"), vector("K_g2c")));
        }
    }

    #[test]
    fn every_step_of_the_key_exchange_is_that_of_the_vectors() {
        let own = StaticSecret::random_from_rng(seeded("gateway seed"));
        assert_eq!(hex(&public(&own)), vector("gateway public"));
        let peer = PublicKey::from(public(&StaticSecret::random_from_rng(seeded("connector seed"))));
        assert_eq!(hex(peer.as_bytes()), vector("connector public"));
        let key = signature::encode(peer.as_bytes());
        let proved = proved_text(vector("seconds").as_bytes(), b"fernet", key.as_bytes(), b"");
        assert_eq!(proved, vector("proved").as_bytes());
        assert_eq!(signature::encode(&signature::sign(&keys().join, &proved)), vector("proof"));
        let signed = signed_text(&proved, vector("proof").as_bytes());
        assert_eq!(signed, vector("signed").as_bytes());
        assert_eq!(signature::encode(&signature::sign(&keys().sign, &signed)), vector("signature"));
        let offer = offer_text(&signed, vector("signature").as_bytes());
        let th = transcript_hash(&offer, b"fernet", &vector("transcript").as_bytes()[offer.len() + 8..]);
        assert_eq!(hex(&th), vector("th"));
        let shared = own.diffie_hellman(&peer);
        assert_eq!(hex(shared.as_bytes()), vector("shared"));
        let prk = extract(&keys().mix, shared.as_bytes());
        assert_eq!(hex(&*prk), vector("prk"));
        let accept = expand(&prk, &[b"gesher.v2 accept", &th]);
        assert_eq!(hex(&*accept), vector("K_accept"));
        assert_eq!(signature::encode(&signature::sign(&accept, &th)), vector("MAC"));
    }

    #[test]
    fn every_word_reads_back() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::parse(refusal.as_str().as_bytes()), Some(refusal));
        }
        for missing in Missing::ALL {
            assert_eq!(Missing::parse(missing.as_str().as_bytes()), Some(missing));
        }
        assert_eq!((Refusal::parse(b"Secret"), Refusal::parse(b""), Missing::parse(b"")), (None, None, None));
    }

    #[test]
    fn a_wrong_secret_is_refused() {
        let mut gateway = Gateway::new();
        let join = gateway.join(&wrong_secret(), at(0));
        assert_eq!(gateway.says(HOME, at(0), &join), "secret");
    }

    #[test]
    fn a_malformed_join_is_refused() {
        let good = vector("request").into_bytes();
        let line = |name: &str| format!("{name}: {}\r\n", between(&vector("request"), &format!("{name}: ")));
        let twice = |name: &str| (line(name), line(name) + &line(name));
        let without = |name: &str| (line(name), String::new());
        let (seconds, signature, proof) = (vector("seconds"), vector("signature"), vector("proof"));
        let changes = [
            ("GET".into(), "POST".into()),
            ("/_connect_tunnel".into(), "/_connect_tunnel?a".into()),
            ("Host".into(), "Content-Length: 1\r\nHost".into()),
            ("Host".into(), "Transfer-Encoding: chunked\r\nHost".into()),
            twice("Authorization"),
            twice("X-Join-Code"),
            twice("Gesher-Seal"),
            without("X-Join-Code"),
            without("Gesher-Seal"),
            ("Seal: fernet".into(), "Seal: fernet,".into()),
            ("Seal: fernet".into(), "Seal: x, fernet".into()),
            ("Seal: fernet".into(), format!("Seal: {}", "a".repeat(SEALS_BYTES_MAX + 1))),
            (seconds.clone(), format!("0{seconds}")),
            (seconds.clone(), format!("+{seconds}")),
            (seconds.clone(), "18446744073709551616".into()),
            (seconds, String::new()),
            (signature.clone(), format!("{signature}=")),
            (signature.clone(), format!("{signature}.")),
            (format!("{signature}."), signature.clone()),
            (format!("{signature}."), format!("{signature}.office")),
            (format!(".{signature}."), ".".into()),
            (proof.clone(), proof[1..].into()),
        ];
        for (from, to) in changes {
            let join = replaced(&good, &from, &to);
            assert_eq!(Gateway::new().says(HOME, at(0), &join), "secret", "{from:?} -> {to:?}");
        }
        for same in [("Gesher 1", "gesher  1"), ("Host", "Content-Length: 0\r\nHost")] {
            assert_eq!(Gateway::new().says(HOME, at(0), &replaced(&good, same.0, same.1)), "accepted");
        }
        let odd = odd_join(&format!("0{START}"), "fernet", &"A".repeat(43));
        assert_eq!(Gateway::new().says(HOME, at(0), &odd), "secret", "signed, but with a leading zero");
        let named = named_join(&START.to_string(), "fernet", &"A".repeat(43), "office");
        assert_eq!(Gateway::new().says(HOME, at(0), &named), "secret", "signed, but nobody has that name");
    }

    #[test]
    fn a_join_whose_proof_was_changed_on_the_way_is_no_wrong_pin_and_locks_nobody_out() {
        let mut gateway = Gateway::new();
        for other in 0..6 {
            let kept_back = String::from_utf8(gateway.join(keys(), at(other))).unwrap();
            let proof = between(&kept_back, "X-Join-Code: ");
            let changed = replaced(kept_back.as_bytes(), &proof, &signature::encode(&[other as u8; 32]));
            assert_eq!(gateway.says(HOME, at(other), &changed), "secret", "{other}");
            assert_eq!(gateway.says(HOME, at(other), kept_back.as_bytes()), "accepted", "{other}");
        }
        let other_pin = String::from_utf8(gateway.join(&wrong_pin(), at(7))).unwrap();
        let right = String::from_utf8(gateway.join(keys(), at(7))).unwrap();
        let mixed = right
            .replace(&between(&right, "X-Join-Code: "), &between(&other_pin, "X-Join-Code: "))
            .into_bytes();
        assert_eq!(gateway.says(HOME, at(7), &mixed), "secret", "the proof of another join");
    }

    #[test]
    fn a_clock_may_be_off_by_thirty_seconds_and_no_more() {
        for (signed_at, says) in [(69, "clock"), (70, "accepted"), (130, "accepted"), (131, "clock")] {
            let mut gateway = Gateway::new();
            let join = gateway.join(keys(), at(signed_at));
            assert_eq!(gateway.says(HOME, at(100), &join), says, "{signed_at}");
        }
        for seconds in ["0", "1", "18446744073709551615"] {
            let odd = odd_join(seconds, "fernet", &"A".repeat(43));
            assert_eq!(Gateway::new().says(HOME, at(0), &odd), "clock", "{seconds}");
        }
        let mut gateway = Gateway::new();
        let stranger = gateway.join(&wrong_secret(), at(31));
        assert_eq!(gateway.says(HOME, at(0), &stranger), "secret", "which does not tell the time");
    }

    #[test]
    fn a_connector_with_a_wrong_clock_joins_by_the_gateways() {
        let mut gateway = Gateway::new();
        let (attempt, join) = gateway.attempt(keys(), at(0));
        let Verdict::Refused { response, .. } = gateway.judge_from(HOME, at(312), &join) else {
            panic!("not refused")
        };
        let JoinOutcome::Refused { refusal: Refusal::Clock, gateway_time: Some(time), retry_after: None } =
            attempt.judge(&parse_response(head_of(&response)).unwrap())
        else {
            panic!("no time")
        };
        assert_eq!(time, at(312).unix);
        let again = gateway.join(keys(), Now { unix: time, ..at(0) });
        assert_eq!(gateway.says(HOME, at(312), &again), "accepted");
    }

    #[test]
    fn a_replayed_join_is_refused_also_after_the_clock_was_set_back() {
        let mut gateway = Gateway::new();
        let first = gateway.join(keys(), at(0));
        assert_eq!(gateway.says(HOME, at(0), &first), "accepted");
        assert_eq!(gateway.says("198.51.100.1", at(30), &first), "replay");
        let later = gateway.join(keys(), at(100));
        assert_eq!(gateway.says(HOME, at(100), &later), "accepted");
        let set_back = Now { mono: at(101).mono, unix: at(0).unix };
        assert_eq!(gateway.says(HOME, set_back, &first), "clock", "forgotten, but too old for ever");
        assert_eq!(gateway.says(HOME, set_back, &later), "replay");
    }

    #[test]
    fn a_clock_set_back_keeps_no_connector_out() {
        let mut gateway = Gateway::new();
        let join = gateway.join(keys(), at(100_000));
        assert_eq!(gateway.says(HOME, at(100_000), &join), "accepted");
        let set_back = Now { mono: at(100_001).mono, unix: at(0).unix };
        let (attempt, join) = gateway.attempt(keys(), set_back);
        let Verdict::Refused { response, .. } = gateway.judge_from(HOME, set_back, &join) else {
            panic!("not refused")
        };
        let JoinOutcome::Refused { gateway_time: Some(time), .. } =
            attempt.judge(&parse_response(head_of(&response)).unwrap())
        else {
            panic!("no time")
        };
        let again = gateway.join(keys(), Now { unix: time, ..set_back });
        assert_eq!(gateway.says(HOME, set_back, &again), "accepted");
    }

    #[test]
    fn five_wrong_pins_close_joining_to_their_address_only() {
        let mut gateway = Gateway::new();
        for _ in 0..5 {
            let join = gateway.join(&wrong_pin(), at(0));
            assert_eq!(gateway.says("2001:db8::1", at(0), &join), "pin");
        }
        let right = gateway.join(keys(), at(1));
        assert_eq!(gateway.says("2001:db8::2", at(1), &right), "locked", "another address of the /64");
        assert_eq!(
            gateway.says("2001:db8:0:1::1", at(1), &right),
            "accepted",
            "another /64, and not used up"
        );
        let right = gateway.join(keys(), at(600));
        assert_eq!(gateway.says("2001:db8::1", at(599), &right), "locked");
        assert_eq!(gateway.says("2001:db8::1", at(600), &right), "accepted");
    }

    #[test]
    fn a_lockout_says_how_long_it_lasts() {
        let mut gateway = Gateway::new();
        for _ in 0..5 {
            let join = gateway.join(&wrong_pin(), at(0));
            let _ = gateway.judge_from(HOME, at(0), &join);
        }
        let (attempt, join) = gateway.attempt(keys(), at(100));
        let Verdict::Refused { response, .. } = gateway.judge_from(HOME, at(100), &join) else {
            panic!("not refused")
        };
        let JoinOutcome::Refused { refusal: Refusal::Locked, retry_after, .. } =
            attempt.judge(&parse_response(head_of(&response)).unwrap())
        else {
            panic!("not locked")
        };
        assert_eq!(retry_after, Some(Duration::from_secs(500)));
    }

    #[test]
    fn only_wrong_proofs_under_right_and_new_signatures_lock_out() {
        let mut gateway = Gateway::new();
        let wrong = gateway.join(&wrong_pin(), at(0));
        assert_eq!(gateway.says(HOME, at(0), &wrong), "pin");
        for _ in 0..4 {
            assert_eq!(gateway.says(HOME, at(0), &wrong), "replay");
            let join = gateway.join(&wrong_secret(), at(0));
            assert_eq!(gateway.says(HOME, at(0), &join), "secret");
        }
        let right = gateway.join(keys(), at(30));
        assert_eq!(gateway.says(HOME, at(30), &right), "accepted");
    }

    #[test]
    fn strangers_are_told_to_wait_once_they_came_too_often() {
        let mut gateway = Gateway::new();
        let malformed = replaced(vector("request").as_bytes(), "Seal: fernet", "Seal: fernet,");
        for nth in 0..10 {
            let stranger = gateway.join(&wrong_secret(), at(0));
            let stranger = if nth % 2 == 0 { &stranger } else { &malformed };
            assert_eq!(gateway.says(HOME, at(0), stranger), "secret");
        }
        let stranger = gateway.join(&wrong_secret(), at(0));
        assert_eq!(gateway.says(HOME, at(0), &stranger), "rate");
        assert_eq!(gateway.says(HOME, at(5), &malformed), "rate");
        assert_eq!(gateway.says("198.51.100.1", at(5), &stranger), "secret");
        assert_eq!(gateway.says(HOME, at(6), &stranger), "secret");
        assert_eq!(gateway.says(HOME, at(6), &stranger), "rate");
    }

    #[test]
    fn nothing_that_strangers_send_changes_what_becomes_of_a_join_with_a_right_signature() {
        let (mut flooded, mut quiet) = (Gateway::new(), Gateway::new());
        for nth in 0..1000 {
            // From the same address, as behind a proxy; before and after it was told to wait.
            let stranger = flooded.join(&wrong_secret(), at(nth / 20));
            let _ = flooded.judge_from(HOME, at(nth / 20), &stranger);
            if nth % 50 != 0 {
                continue;
            }
            let now = at(nth / 20);
            let no_upgrade = |join: Vec<u8>| replaced(&join, "Upgrade: websocket\r\n", "");
            let right = quiet.join(keys(), now);
            for join in [
                quiet.join(keys(), at(nth / 20 + 31)),
                no_upgrade(quiet.join(keys(), now)),
                odd_join(&now.unix.0.to_string(), "other", &"A".repeat(43)),
                right.clone(),
                right,
            ] {
                assert_eq!(flooded.says(HOME, now, &join), quiet.says(HOME, now, &join), "{nth}");
            }
        }
    }

    #[test]
    fn many_wrong_pins_from_everywhere_leave_joining_to_addresses_that_proved_it() {
        let mut gateway = Gateway::new();
        lock(&gateway.doorman).proved(Source::from(HOME.parse::<IpAddr>().unwrap()));
        for guess in 0..100 {
            let join = gateway.join(&wrong_pin(), at(0));
            let says = if guess < 60 { "pin" } else { "guessed" };
            assert_eq!(gateway.says(&format!("198.51.100.{guess}"), at(0), &join), says);
        }
        let right = gateway.join(keys(), at(1));
        assert_eq!(gateway.says("203.0.113.1", at(1), &right), "guessed");
        assert_eq!(gateway.says(HOME, at(1), &right), "accepted", "it was not used up");
        let wrong = gateway.join(&wrong_pin(), at(1));
        assert_eq!(gateway.says(HOME, at(1), &wrong), "pin", "it is served, and told");
        let right = gateway.join(keys(), at(61));
        assert_eq!(gateway.says("203.0.113.1", at(61), &right), "accepted", "a minute later");
    }

    #[test]
    fn an_unknown_way_of_sealing_is_refused_and_a_known_one_is_found() {
        let key = signature::encode(&[9; 32]);
        let now = START.to_string();
        for (seals, says) in
            [("chacha20", "seal"), ("fernet2,afernet", "seal"), ("chacha20,fernet", "accepted")]
        {
            assert_eq!(Gateway::new().says(HOME, at(0), &odd_join(&now, seals, &key)), says, "{seals}");
        }
    }

    #[test]
    fn the_first_check_that_fails_is_the_one_that_answers() {
        let mut gateway = Gateway::new();
        let no_upgrade = |join: Vec<u8>| replaced(&join, "Upgrade: websocket\r\n", "");
        let stale = gateway.join(&wrong_secret(), at(31));
        assert_eq!(gateway.says(HOME, at(0), &no_upgrade(stale)), "secret", "before the clock");
        let stale = gateway.join(keys(), at(31));
        assert_eq!(gateway.says(HOME, at(0), &no_upgrade(stale)), "clock", "before the upgrade");
        let stranger = gateway.join(&wrong_secret(), at(0));
        assert_eq!(gateway.says(HOME, at(0), &no_upgrade(stranger)), "secret", "before the upgrade");
        let other_seal = odd_join(&START.to_string(), "other", &signature::encode(&[9; 32]));
        assert_eq!(gateway.says(HOME, at(0), &no_upgrade(other_seal.clone())), "upgrade", "before the seal");
        let wrong = gateway.join(&wrong_pin(), at(0));
        assert_eq!(gateway.says(HOME, at(0), &no_upgrade(wrong.clone())), "upgrade", "before the proof");
        assert_eq!(
            gateway.says(HOME, at(0), &replaced(&other_seal, "Code: ", "Code: A")),
            "secret",
            "form first"
        );
        assert_eq!(gateway.says(HOME, at(0), &wrong), "pin");
        assert_eq!(gateway.says(HOME, at(0), &wrong), "replay", "before the proof");
        for _ in 0..4 {
            let wrong = gateway.join(&wrong_pin(), at(0));
            assert_eq!(gateway.says(HOME, at(0), &wrong), "pin");
        }
        assert_eq!(gateway.says(HOME, at(0), &wrong), "locked", "before replays");
        assert_eq!(gateway.says(HOME, at(0), &no_upgrade(wrong)), "upgrade", "before the lockout");
        let stale = gateway.join(keys(), at(31));
        assert_eq!(gateway.says(HOME, at(0), &stale), "clock", "before the lockout");
    }

    #[test]
    fn a_join_without_its_upgrade_says_what_is_missing_and_is_not_used_up() {
        let good = vector("request").into_bytes();
        for (from, to, missing) in [
            ("HTTP/1.1", "HTTP/1.0", Missing::Http11),
            ("Connection: Upgrade\r\n", "", Missing::Connection),
            ("Connection: Upgrade", "Connection: close", Missing::Connection),
            ("Upgrade: websocket\r\n", "", Missing::Upgrade),
            ("Sec-WebSocket-Version: 13\r\n", "", Missing::Version),
            ("Version: 13", "Version: 8", Missing::Version),
            ("Sec-WebSocket-Key: ", "X: ", Missing::Key),
            ("Sec-WebSocket-Key: K", "Sec-WebSocket-Key: KKKKK", Missing::Key),
            ("Sec-WebSocket-Protocol: gesher.v2\r\n", "", Missing::Protocol),
        ] {
            let mut gateway = Gateway::new();
            let (attempt, _) = gateway.attempt(keys(), at(0));
            let verdict = gateway.judge_from(HOME, at(0), &replaced(&good, from, to));
            let Verdict::UpgradeRequired { response, missing: said } = verdict else { panic!("{from}") };
            assert_eq!(said, missing);
            let head = parse_response(head_of(&response)).unwrap();
            assert!(head.status == 426 && head.get("upgrade") == Some(b"websocket"));
            assert!(matches!(attempt.judge(&head), JoinOutcome::UpgradeMissing(told) if told == missing));
            assert_eq!(gateway.says(HOME, at(0), &good), "accepted");
        }
    }

    #[test]
    fn what_proxies_do_to_an_upgrade_is_no_matter() {
        let good = vector("request").into_bytes();
        for (from, to) in [
            ("Connection: Upgrade", "connection: keep-alive, upgrade"),
            ("Upgrade: websocket", "upgrade: WebSocket"),
            ("GET /", "GET http://tunnel.example.org/"),
            ("Host", "Sec-WebSocket-Extensions: permessage-deflate\r\nVia: 1.1 proxy\r\nHost"),
        ] {
            assert_eq!(Gateway::new().says(HOME, at(0), &replaced(&good, from, to)), "accepted", "{to}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_in_a_join_never_gives_other_keys() {
        let good = vector("request").into_bytes();
        let secret_parts = vector("request").find("Gesher 1").unwrap() + "Gesher ".len();
        let mut harmless = 0;
        for bit in 0..good.len() * 8 {
            let mut join = good.clone();
            join[bit / 8] ^= 1 << (bit % 8);
            let Ok(head) = parse_request(&join) else { continue };
            let mut gateway = Gateway::new();
            let (attempt, _) = gateway.attempt(keys(), at(0));
            let verdict =
                verify(&head, keys(), at(0), HOME.parse().unwrap(), &gateway.doorman, &mut gateway.rng);
            let Verdict::Accepted(accepted) = verdict else { continue };
            // The case of names, white space, Host, the WebSocket key: nothing that the keys hang on.
            let is_case = good[bit / 8].is_ascii_alphabetic() && bit % 8 == 5;
            let is_space = good[bit / 8].is_ascii_whitespace();
            assert!(bit / 8 < secret_parts || is_case || is_space, "byte {}", bit / 8);
            let (head, at_gateway) = accepted.into_parts();
            if let JoinOutcome::Joined(at_connector) = attempt.judge(&parse_response(head_of(&head)).unwrap())
            {
                assert_eq!((at_gateway.c2g.0, at_gateway.g2c.0), (at_connector.c2g.0, at_connector.g2c.0));
                harmless += 1;
            }
        }
        assert!(harmless > 0);
    }

    #[test]
    fn a_flipped_bit_in_what_is_signed_is_always_refused() {
        let good = vector("request");
        for start in ["Authorization: Gesher ", "X-Join-Code: ", "Gesher-Seal: "] {
            let from = good.find(start).unwrap() + start.len();
            for bit in from * 8..(from + between(&good, start).len()) * 8 {
                let mut join = good.clone().into_bytes();
                join[bit / 8] ^= 1 << (bit % 8);
                let Ok(head) = parse_request(&join) else { continue };
                let mut gateway = Gateway::new();
                let verdict =
                    verify(&head, keys(), at(0), HOME.parse().unwrap(), &gateway.doorman, &mut gateway.rng);
                assert!(matches!(verdict, Verdict::Refused { .. }), "bit {bit} of {start}");
            }
        }
    }

    /// What the connector of the vectors makes of an answer.
    fn outcome(answer: &[u8]) -> JoinOutcome {
        Gateway::new().attempt(keys(), at(0)).0.judge(&parse_response(head_of(answer)).unwrap())
    }

    #[test]
    fn an_impostor_is_dropped() {
        let good = vector("response").into_bytes();
        assert!(matches!(outcome(&good), JoinOutcome::Joined(_)));
        let accept = format!("Gesher-Accept: {}\r\n", between(&vector("response"), "Gesher-Accept: "));
        for (from, to) in [
            (vector("MAC").as_str(), signature::encode(&[0; 32]).as_str()),
            (&vector("MAC"), ""),
            (&accept, &accept.repeat(2)),
            ("Gesher-Accept: ", "Gesher-Accept: ."),
            ("Seal: fernet", "Seal: chacha20"),
            ("Gesher-Seal: fernet\r\n", ""),
            ("Accept: Ba0", "Accept: Bb0"),
            ("gesher.v2", "gesher.v3"),
            ("Sec-WebSocket-Protocol: gesher.v2\r\n", ""),
            ("Upgrade: websocket\r\n", ""),
            ("Gesher-Seal", "Sec-WebSocket-Extensions: permessage-deflate\r\nGesher-Seal"),
        ] {
            let answer = replaced(&good, from, to);
            assert!(matches!(outcome(&answer), JoinOutcome::Impostor), "{from:?} -> {to:?}");
        }
    }

    #[test]
    fn a_gateway_that_knows_the_secret_but_not_the_pin_is_an_impostor() {
        let mut gateway = Gateway::new();
        let (attempt, join) = gateway.attempt(keys(), at(0));
        let keys = Keys { sign: keys().sign, join: keys().join, mix: [7; 32], verdicts: None };
        let head = parse_request(&join).unwrap();
        let verdict = verify(&head, &keys, at(0), HOME.parse().unwrap(), &gateway.doorman, &mut gateway.rng);
        let Verdict::Accepted(accepted) = verdict else { panic!("refused") };
        let answer = attempt.judge(&parse_response(head_of(&accepted.into_parts().0)).unwrap());
        assert!(matches!(answer, JoinOutcome::Impostor));
    }

    #[test]
    fn the_answer_to_another_join_is_an_impostors() {
        let mut gateway = Gateway::new();
        let _first = gateway.attempt(keys(), at(0));
        let (second, _) = gateway.attempt(keys(), at(0));
        let answer = vector("response").into_bytes();
        assert!(matches!(second.judge(&parse_response(head_of(&answer)).unwrap()), JoinOutcome::Impostor));
    }

    #[test]
    fn a_flipped_bit_in_the_answer_never_gives_other_keys() {
        let good = vector("response").into_bytes();
        for bit in 0..good.len() * 8 {
            let mut answer = good.clone();
            answer[bit / 8] ^= 1 << (bit % 8);
            let Ok(head) = parse_response(head_of(&answer)) else { continue };
            if let JoinOutcome::Joined(link) = Gateway::new().attempt(keys(), at(0)).0.judge(&head) {
                assert_eq!((hex(&link.c2g.0), hex(&link.g2c.0)), (vector("K_c2g"), vector("K_g2c")), "{bit}");
            }
        }
    }

    #[test]
    fn a_key_of_low_order_is_refused_by_both_sides() {
        let zero = signature::encode(&[0; 32]);
        let join = odd_join(&START.to_string(), "fernet", &zero);
        assert_eq!(Gateway::new().says(HOME, at(0), &join), "secret");

        // An all-zero exchange gives keys that anyone with K_mix can make: the MAC alone would not catch it.
        let offer = vector("transcript").split_at(vector("transcript").len() - 51).0.to_owned();
        let th = transcript_hash(offer.as_bytes(), b"fernet", zero.as_bytes());
        let prk = extract(&keys().mix, &[0; 32]);
        let mac = signature::sign(&expand(&prk, &[b"gesher.v2 accept", &th]), &th);
        let accept = between(&vector("response"), "Gesher-Accept: ");
        let forged = format!("{zero}.{}", signature::encode(&mac));
        let answer = replaced(vector("response").as_bytes(), &accept, &forged);
        assert!(matches!(outcome(&answer), JoinOutcome::Impostor));
    }

    #[test]
    fn an_answer_without_our_fields_comes_from_something_in_between() {
        for (answer, status, wait) in [
            ("HTTP/1.1 200 OK\r\n\r\n", 200, None),
            ("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\n", 503, Some(7)),
            ("HTTP/1.1 503 Busy\r\nRetry-After: 18446744073709551615\r\n\r\n", 503, Some(600)),
            ("HTTP/1.1 503 Busy\r\nRetry-After: -1\r\n\r\n", 503, None),
            ("HTTP/1.1 403 Forbidden\r\nGesher-Refusal: nonsense\r\n\r\n", 403, None),
            ("HTTP/1.1 426 Upgrade Required\r\n\r\n", 426, None),
            ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", 101, None),
        ] {
            let JoinOutcome::NotGateway(said, after) = outcome(answer.as_bytes()) else { panic!("{answer}") };
            assert_eq!((said, after), (status, wait.map(Duration::from_secs)), "{answer}");
        }
    }

    #[test]
    fn refusals_are_whole_responses() {
        for refusal in Refusal::ALL {
            let response = refusal_response(refusal, UnixSecs(u64::MAX), Some(3));
            let text = String::from_utf8(response.clone()).unwrap();
            let (_, body) = text.split_once("\r\n\r\n").unwrap();
            let head = parse_response(head_of(&response)).unwrap();
            assert_eq!(head.get("content-length"), Some(body.len().to_string().as_bytes()));
            assert_eq!(head.get("connection"), Some(&b"close"[..]));
            assert_eq!(head.get("cache-control"), Some(&b"no-store"[..]));
            assert_eq!(head.get("retry-after").is_some(), refusal.status() == 429);
            assert_eq!(head.get("www-authenticate").is_some(), refusal.status() == 401);
            assert_eq!(body, format!("{refusal}\n"));
        }
        let expected = "HTTP/1.1 429 Too Many Requests\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
             Gesher-Refusal: rate\r\nConnection: close\r\nRetry-After: 6\r\nCache-Control: no-store\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: 56\r\n\r\n\
             too many refused joins from this address: wait a little\n";
        let response = refusal_response(Refusal::Rate, UnixSecs(START), Some(6));
        assert_eq!(String::from_utf8(response).unwrap(), expected);
    }

    #[test]
    fn a_join_is_told_from_a_public_request() {
        let head = |target: &str, authorization: &str| {
            format!("HEAD {target} HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n\r\n")
        };
        for (target, authorization, join) in [
            ("/_connect_tunnel", "Gesher 1.a.b", true),
            ("/_connect_tunnel?x", "gesher", true),
            ("/_connect_tunnel", "Basic x\r\nAuthorization: Gesher y", true),
            ("HTTP://a/_connect_tunnel", "Gesher x", true),
            ("/_connect_tunnel", "Basic Gesher", false),
            ("/_connect_tunnel", "Gesherx", false),
            ("/_connect_tunnel/", "Gesher x", false),
            ("/edge/_connect_tunnel", "Gesher x", false),
            ("/", "Gesher x", false),
            ("http://a", "Gesher x", false),
        ] {
            let text = head(target, authorization);
            let parsed = parse_request(text.as_bytes()).unwrap();
            assert_eq!(is_join(&parsed), join, "{target} {authorization}");
        }
    }

    #[test]
    fn a_prefix_goes_before_the_path() {
        let (_, head) =
            JoinAttempt::new(keys(), UnixSecs(START), "a:8000", "/edge", &mut seeded("connector seed"));
        assert!(head.starts_with(b"GET /edge/_connect_tunnel HTTP/1.1\r\nHost: a:8000\r\n"));
    }

    #[test]
    fn a_poisoned_lock_is_taken_over() {
        let mut gateway = Gateway::new();
        let doorman = &gateway.doorman;
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = doorman.lock().unwrap();
            panic!("while holding the lock");
        }));
        assert!(panicked.is_err() && gateway.doorman.is_poisoned());
        let join = gateway.join(keys(), at(0));
        assert_eq!(gateway.says(HOME, at(0), &join), "accepted");
    }
}
