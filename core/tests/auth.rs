//! What must hold of joining whatever arrives, whatever the clocks do, and whoever floods.
#![allow(clippy::unwrap_used)]

use gesher_core::auth::lockout::{Buckets, Lockouts, Source};
use gesher_core::auth::replay::ReplayTable;
use gesher_core::http1::head::{Field, RequestHead, Version};
use gesher_core::limits;
use gesher_core::link::handshake::{Doorman, Verdict, is_join, verify};
use gesher_core::secret::{Keys, Pin, Secret};
use gesher_core::time::{Instant, Now, UnixSecs};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let secret = Secret::new(b"correct horse battery staple".to_vec()).unwrap();
        Keys::derive(&secret, &Pin::parse("K7QM2X").unwrap())
    })
}

fn source(host: u8) -> Source {
    IpAddr::from(Ipv4Addr::new(192, 0, 2, host)).into()
}

fn seconds(secs: u64) -> Instant {
    Instant::from_origin(Duration::from_secs(secs))
}

proptest! {
    /// A civil clock that jumps at will does not make the table take a signature twice.
    #[test]
    fn no_signature_is_taken_twice_whatever_the_clock_does(
        steps in prop::collection::vec((0..40u64, 0..300u64, -40..40i64, 0..4u8), 1..200),
    ) {
        let mut table = ReplayTable::with_places(8);
        let mut taken = BTreeSet::new();
        let (mut mono, mut clock_before) = (0, UnixSecs(0));
        for (passed, unix, skew, signature) in steps {
            mono += passed;
            let now = Now { mono: seconds(mono), unix: UnixSecs(1000 + unix) };
            let clock = table.clock(now);
            prop_assert!(clock >= clock_before && clock >= now.unix);
            clock_before = clock;
            let time = UnixSecs(clock.0.saturating_add_signed(skew));
            if clock.0.abs_diff(time.0) > limits::CLOCK_SKEW_SECS_MAX {
                continue;
            }
            if table.check_and_insert(time, &[signature; 32], now).is_ok() {
                prop_assert!(taken.insert((time, signature)), "{signature} at {time:?}");
            }
        }
    }

    /// A table with room for two sources never opens a door early, whoever else fails.
    #[test]
    fn a_lockout_lasts_its_time_whoever_else_fails(
        steps in prop::collection::vec((0..60u64, 0..8u8), 1..300),
    ) {
        let mut lockouts = Lockouts::with_places(2);
        let mut now = 0;
        let mut closed_until: BTreeMap<u8, u64> = BTreeMap::new();
        for (passed, host) in steps {
            now += passed;
            lockouts.failed(source(host), seconds(now));
            for host in 0..8 {
                let closed = lockouts.closed_for(source(host), seconds(now));
                let until = closed_until.entry(host).or_default();
                prop_assert!(now >= *until || closed.is_some(), "{host} at {now}");
                if let Some(left) = closed {
                    *until = (*until).max(now + left.as_secs());
                    prop_assert!(left <= limits::LOCKOUT_TIME);
                }
            }
        }
    }

    /// Over any time no source gets more than the burst and what came back, in a full table too.
    #[test]
    fn a_source_never_gets_more_tokens_than_there_are(
        steps in prop::collection::vec((0..4u64, 0..6u8), 1..300),
    ) {
        let mut buckets = Buckets::with_places(3);
        let mut now = 0;
        let mut granted: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
        for (passed, host) in steps {
            now += passed;
            if buckets.take(source(host), seconds(now)).is_ok() {
                granted.entry(host).or_default().push(now);
            }
        }
        let burst = u64::from(limits::JOIN_BURST);
        for times in granted.values() {
            for (first, from) in times.iter().enumerate() {
                for (last, to) in times.iter().enumerate().skip(first) {
                    let most = burst + (to - from) / limits::JOIN_REFILL.as_secs() + 1;
                    prop_assert!((last - first + 1) as u64 <= most);
                }
            }
        }
    }

    /// Whoever does not know the secret is refused, whatever he sends, and nothing panics.
    #[test]
    fn arbitrary_fields_are_refused(
        credentials in prop_oneof![
            "[0-9]{0,21}\\.[A-Za-z0-9_-]{42,44}\\.[A-Za-z0-9_-]{42,44}",
            "1767225600\\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]\\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]",
            "\\PC{0,100}",
        ],
        proof in prop_oneof!["[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]", "\\PC{0,50}"],
        seals in prop_oneof!["fernet", "[a-z,]{0,10}", "\\PC{0,10}"],
        target in prop_oneof!["/_connect_tunnel", "\\PC{0,30}"],
        unix in prop_oneof![Just(1_767_225_600), any::<u64>()],
    ) {
        let authorization = format!("Gesher {credentials}");
        let field = |name: &'static str, value| Field { name: name.as_bytes(), value };
        let head = RequestHead {
            method: b"GET",
            target: target.as_bytes(),
            version: Version::Http11,
            fields: vec![
                field("Connection", b"Upgrade"),
                field("Upgrade", b"websocket"),
                field("Authorization", authorization.as_bytes()),
                field("X-Join-Code", proof.as_bytes()),
                field("Gesher-Seal", seals.as_bytes()),
            ],
        };
        prop_assert!(is_join(&head) || target != "/_connect_tunnel");
        let now = Now { mono: Instant::default(), unix: UnixSecs(unix) };
        let doorman = Mutex::new(Doorman::default());
        let mut rng = ChaCha20Rng::from_seed([0; 32]);
        let verdict = verify(&head, keys(), now, [192, 0, 2, 1].into(), &doorman, &mut rng);
        let refused = matches!(verdict, Verdict::Refused { .. });
        prop_assert!(refused);
    }
}
