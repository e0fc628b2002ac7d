//! Captures of simulated deployments, run again.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use super::format::Entries;
use super::*;
use crate::config::GatewayConfig;
use crate::fault::Fault;
use crate::machine::{Cx, Effects, Io, Lost, Machine, PortId, Process, Want};
use crate::seal::{Fernet, Opener, SealKey, Sealer, Seals};
use crate::secret::{Keys, Pin, Secret};
use crate::sim::{Act, Joiner, LinkTrouble, Sealing, Visitor, Way, World};
use crate::time::{Instant, Now};

const BODY: &str = "what a visitor sent, in plain";

fn ask(world: &mut World, request: &str) -> Visitor {
    let visitor = world.visit();
    world.send(visitor, request);
    world.run_ms(200);
    visitor
}

/// A deployment that sees a bit of everything: joins that are refused, requests, a body each way, an app that is down, a
/// link that is cut, a visitor that breaks the rules and one that leaves, and an end in good order.
fn deployment(sealing: Sealing) -> World {
    let mut world = World::new("captured", 5, 10, sealing);
    world.capture_all(u64::MAX);
    world.start_gateway(|config| config);
    world.start_app("app", |request| match request.target.as_str() {
        "/big" => vec![
            Act::send("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n"),
            Act::Send((0..300_000u32).map(|place| place as u8).collect()),
        ],
        "/upgrade" => vec![
            Act::send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"),
            Act::Echo,
        ],
        _ => vec![Act::AwaitBody, Act::send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")],
    });
    let wrong = Joiner { secret: "another secret", ..Joiner::default() };
    world.start_connector_as(wrong, "stranger", "app", |config| config);
    world.start_connector("office", "app", |config| config.name("office"));
    world.run_ms(300);
    ask(&mut world, "GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
    let body = format!("POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len());
    ask(&mut world, &body);
    ask(&mut world, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    let upgraded =
        ask(&mut world, "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    world.send(upgraded, "over and back");
    world.run_ms(100);
    world.leave(upgraded);
    ask(&mut world, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    world.set_app_up("app", false);
    world.run_ms(6000);
    ask(&mut world, "GET /down HTTP/1.1\r\nHost: a\r\n\r\n");
    world.set_app_up("app", true);
    let cut = world.visit();
    world.send(cut, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    world.run_ms(10);
    world.run_until(std::time::Duration::from_secs(1), |world| {
        world.try_trouble("office", LinkTrouble::FlipBit(Way::ToGateway))
    });
    world.run_ms(5000);
    ask(&mut world, "GET /again HTTP/1.1\r\nHost: a\r\n\r\n");
    world.come_to_rest();
    world
}

/// Runs a capture again; returns what it shows.
fn replay(file: &[u8]) -> (String, Result<Summary, ReplayError>) {
    let mut transcript = String::new();
    let result = match Replay::open(file) {
        Ok(replay) => replay.run(|lines| transcript += lines),
        Err(why) => Err(why.into()),
    };
    (transcript, result)
}

#[test]
fn machines_run_over_a_capture_decide_what_they_decided() {
    for sealing in [Sealing::Fernet, Sealing::FixedIv] {
        let world = deployment(sealing);
        for (name, lines) in [
            (
                "gateway",
                &["| auth          refused: secret", "GET /big", "| done          GET /down 502"][..],
            ),
            ("office", &["| join          joined as id-1", "GET /upgrade", "a record does not verify"]),
            ("stranger", &["> gateway       GET /_connect_tunnel", "gives up: secret"]),
        ] {
            let (transcript, result) = replay(&world.capture(name));
            let summary = result.unwrap_or_else(|why| panic!("{name}: {why}\n{transcript}"));
            assert!(
                summary.calls > 10 && summary.connections > 0 && summary.stopped.is_none(),
                "{summary:?}"
            );
            for line in lines {
                assert!(transcript.contains(line), "{name}: {line}\n{transcript}");
            }
        }
    }
}

#[test]
fn a_replay_shows_what_a_reviewer_can_follow() {
    let mut world = World::new("captured", 6, 10, Sealing::Fernet);
    world.capture_all(u64::MAX);
    world.start_gateway(|config| config);
    world.start_app("app", |_| vec![Act::send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")]);
    world.start_connector("office", "app", |config| config.name("office"));
    world.run_ms(200);
    ask(&mut world, "GET /report HTTP/1.1\r\nHost: a\r\n\r\n");
    world.come_to_rest();
    let both = ["gateway", "office"].map(|name| replay(&world.capture(name)).0).join("\n");
    insta::assert_snapshot!(both);
}

/// A way of sealing that lets a test see its keys.
#[derive(Debug, Clone, Default)]
struct Spied(Arc<Mutex<Vec<Vec<u8>>>>);

impl Seals for Spied {
    fn sealer(&self, key: &SealKey, rng: ChaCha20Rng) -> Box<dyn Sealer> {
        self.0.lock().unwrap().push(key.0.to_vec());
        Fernet.sealer(key, rng)
    }

    fn opener(&self, key: &SealKey) -> Box<dyn Opener> {
        self.0.lock().unwrap().push(key.0.to_vec());
        Fernet.opener(key)
    }
}

/// Where these bytes stand in the file: as they are, in hex, or in base64 of either alphabet at any place in a group of
/// three.
fn found(file: &[u8], bytes: &[u8]) -> bool {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![bytes.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for shift in 0..3 {
        for alphabet in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let text = alphabet.encode([&vec![0; shift], bytes].concat());
            // The characters at the ends also have bits of their neighbours.
            forms.push(text.as_bytes()[(shift * 8).div_ceil(6)..text.len() - 1].to_vec());
        }
    }
    forms.iter().any(|form| file.windows(form.len()).any(|window| window == form))
}

#[test]
fn a_capture_holds_no_secret() {
    let Joiner { secret, pin, .. } = Joiner::default();
    let pin = Pin::parse(pin).unwrap();
    let keys = Keys::derive(&Secret::new(secret.as_bytes().to_vec()).unwrap(), &pin);
    let spied = Spied::default();
    let mut world = World::new("captured", 7, 10, Sealing::Fernet);
    world.capture_all(u64::MAX);
    world.start_gateway(|config| config.sealing_with(Arc::new(spied.clone())));
    world.start_app("app", |_| {
        vec![Act::AwaitBody, Act::send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")]
    });
    world.start_connector("office", "app", |config| config.sealing_with(Arc::new(spied.clone())));
    world.run_ms(200);
    let body = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len());
    ask(&mut world, &body);
    let mut hidden = spied.0.lock().unwrap().clone();
    assert_eq!(hidden.len(), 4, "two halves at either end");
    hidden.extend([keys.sign, keys.join, keys.mix].map(|key| key.to_vec()));
    hidden.extend([secret.as_bytes().to_vec(), pin.as_str().as_bytes().to_vec()]);
    hidden.extend(world.secret_seeds().iter().map(|seed| seed.to_vec()));
    for name in ["gateway", "office"] {
        let file = world.capture(name);
        assert!(found(&file, BODY.as_bytes()), "what is in the file is found");
        for bytes in &hidden {
            assert!(!found(&file, bytes), "{name}: {bytes:?}");
        }
    }
}

fn small_capture() -> Vec<u8> {
    let mut world = World::new("captured", 8, 10, Sealing::FixedIv);
    world.capture_all(u64::MAX);
    world.start_gateway(|config| config);
    world.start_app("app", |_| vec![Act::send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")]);
    world.start_connector("office", "app", |config| config);
    world.run_ms(100);
    ask(&mut world, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    world.capture("gateway")
}

/// Where each entry begins, and where the last one ends.
fn offsets(file: &[u8]) -> Vec<u64> {
    let mut entries = Entries::open(file).unwrap();
    let mut offsets = Vec::new();
    while let Some((offset, _)) = entries.next().unwrap() {
        offsets.push(offset);
    }
    offsets.push(file.len() as u64);
    offsets
}

#[test]
fn a_capture_that_is_cut_anywhere_is_replayed_up_to_there_and_the_place_is_told() {
    let file = small_capture();
    let offsets = offsets(&file);
    for end in 0..file.len() {
        let (transcript, result) = replay(&file[..end]);
        let begun = offsets.iter().rfind(|offset| **offset <= end as u64);
        match (begun, result) {
            (None, Err(ReplayError::Read(ReadError::NotACapture | ReadError::OtherFormat))) => {}
            (Some(17), Err(ReplayError::Read(ReadError::NotACapture))) if end == 17 => {}
            (Some(offset), Ok(_)) if *offset == end as u64 => {}
            (Some(offset), Err(ReplayError::Read(ReadError::Truncated(at)))) if at == *offset => {}
            (_, other) => panic!("cut at {end}: {other:?}\n{transcript}"),
        }
    }
}

#[test]
fn a_capture_with_a_flipped_bit_is_told_with_the_entry_it_is_in() {
    let file = small_capture();
    let offsets = offsets(&file);
    for place in 0..file.len() {
        let mut flipped = file.clone();
        flipped[place] ^= 1 << (place % 8);
        let entry = offsets.iter().rfind(|offset| **offset <= place as u64);
        match (entry, replay(&flipped).1) {
            (None, Err(ReplayError::Read(ReadError::NotACapture | ReadError::OtherFormat))) => {}
            (
                Some(entry),
                Err(ReplayError::Read(ReadError::Corrupt(offset) | ReadError::Truncated(offset))),
            ) if offset == *entry => {}
            (_, other) => panic!("flipped at {place}: {other:?}"),
        }
    }
}

/// The payloads of a file's entries.
fn payloads(file: &[u8]) -> Vec<Vec<u8>> {
    offsets(file).windows(2).map(|ends| file[ends[0] as usize + 8..ends[1] as usize].to_vec()).collect()
}

#[test]
fn a_decision_that_is_another_is_told_with_its_place() {
    let file = small_capture();
    let mut payloads = payloads(&file);
    let changed = payloads.len() / 2;
    let last = payloads[changed].len() - 1;
    payloads[changed][last] ^= 1;
    match replay(&file_of(&payloads)).1 {
        Err(ReplayError::Differs(difference)) => assert_eq!(difference.offset, offsets(&file)[changed]),
        other => panic!("{other:?}"),
    }
}

/// What a file says can be anything; who replays it must not come to harm.
#[test]
fn hostile_captures_end_in_an_error_or_in_order_and_never_in_a_panic() {
    let original = payloads(&small_capture());
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let mut draw = |below: usize| rng.next_u64() as usize % below;
    let mut ended_well = 0;
    for _ in 0..4_000 {
        let mut payloads = original.clone();
        for _ in 0..=draw(3) {
            let entry = draw(payloads.len());
            match draw(6) {
                0 => {
                    payloads.remove(entry);
                }
                1 => payloads.insert(draw(original.len()), original[draw(original.len())].clone()),
                2 => payloads[entry].truncate(1),
                3 => payloads.swap(entry, original.len() / 2),
                _ => {
                    let place = draw(payloads[entry].len());
                    payloads[entry][place] = draw(256) as u8;
                }
            }
            if payloads.len() < original.len() {
                payloads.push(original[1].clone());
            }
        }
        ended_well += usize::from(replay(&file_of(&payloads)).1.is_ok());
    }
    assert!(ended_well < 4_000, "some of them are noticed");
}

#[test]
fn a_capture_that_is_full_stops_and_the_service_goes_on() {
    let mut world = World::new("captured", 10, 10, Sealing::FixedIv);
    world.capture_all(2000);
    world.start_gateway(|config| config);
    world.start_app("app", |_| vec![Act::send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")]);
    world.start_connector("office", "app", |config| config);
    world.run_ms(200);
    for _ in 0..20 {
        let visitor = ask(&mut world, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(world.received(visitor).ends_with(b"ok"));
    }
    let file = world.capture("gateway");
    assert!((1000..=2000).contains(&file.len()), "{} bytes", file.len());
    let (transcript, result) = replay(&file);
    assert_eq!(result.unwrap().stopped.as_deref(), Some("it has reached its limit"));
    assert!(transcript.ends_with("the capture ends here: it has reached its limit\n"), "{transcript}");
    world.come_to_rest();
}

/// Takes so many writes.
struct Disk(usize);

impl io::Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn any_gateway(recorder: Arc<Recorder>) -> Arc<dyn Process> {
    let keys = Keys::derive(&Secret::new(b"s".to_vec()).unwrap(), &Pin::parse("ABC123").unwrap());
    gateway(GatewayConfig::new(keys), [1; 32], [2; 32], recorder)
}

#[test]
fn a_full_disk_stops_the_capture_and_is_told_once() {
    let told = Arc::new(AtomicUsize::new(0));
    let count = told.clone();
    let recorder = Recorder::new(Box::new(Disk(3)), u64::MAX, move |why| {
        assert!(matches!(why, Stop::Failed(_)), "{why}");
        count.fetch_add(1, Ordering::Relaxed);
    });
    let process = any_gateway(recorder);
    let from = SocketAddr::from(([192, 0, 2, 1], 4000));
    let mut machines: Vec<_> = (0..3).map(|_| process.clone().accept(from).unwrap()).collect();
    let mut fx = Effects::default();
    for machine in &mut machines {
        let (mut cx, mut io) = (Cx { now: Now::default(), fx: &mut fx }, Io::default());
        assert!(machine.advance(&mut cx, &mut io).unwrap().read);
    }
    assert_eq!(told.load(Ordering::Relaxed), 1);
}

/// A process whose machines panic.
struct Broken;

impl Process for Broken {
    fn supervisor(self: Arc<Self>) -> Option<Box<dyn Machine>> {
        None
    }
    fn accept(self: Arc<Self>, _: SocketAddr) -> Option<Box<dyn Machine>> {
        Some(Box::new(Broken))
    }
    fn drain(&self, _: &mut Cx<'_>) {}
}

impl Machine for Broken {
    fn port(&self) -> PortId {
        PortId { index: 0, generation: 0 }
    }
    fn advance(&mut self, _: &mut Cx<'_>, _: &mut Io) -> Result<Want, Fault> {
        panic!("a bug")
    }
    fn lost(&mut self, _: &mut Cx<'_>, _: Lost) {}
}

#[test]
fn the_call_that_panics_is_in_the_file_and_so_is_what_follows() {
    let file = Arc::new(Mutex::new(Vec::new()));
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let recorder = Recorder::new(Box::new(Shared(file.clone())), u64::MAX, |_| {});
    let healthy = any_gateway(recorder.clone());
    let broken = record::wrap(Arc::new(Broken), recorder);
    let from = SocketAddr::from(([192, 0, 2, 1], 4000));
    let mut machine = broken.accept(from).unwrap();
    let now = Now { mono: Instant::from_origin(std::time::Duration::from_millis(7)), ..Now::default() };
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let (mut fx, mut io) = (Effects::default(), Io::default());
        io.input.push(b"what it cannot take");
        let _ = machine.advance(&mut Cx { now, fx: &mut fx }, &mut io);
    }));
    assert!(panics.is_err());
    assert!(healthy.accept(from).is_some(), "others go on");
    let file = file.lock().unwrap().clone();
    assert!(found(&file, b"what it cannot take"));
    // The machine that runs in its place now does not panic, which is what somebody who mended the bug wants to see.
    let (transcript, result) = replay(&file);
    assert!(transcript.contains("the call that follows panicked"), "{transcript}");
    match result {
        Err(ReplayError::Differs(difference)) => {
            assert_eq!((difference.at.as_millis(), difference.peer.as_str()), (7, "visitor-1"));
            assert_eq!(difference.what, "it panicked, and now it does not");
        }
        other => panic!("{other:?}"),
    }
}
