//! The parts of a request's way, each alone: `cargo bench -p gesher-core --bench parts`.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use gesher_core::http1::body::{Decoder, Encoder, Framing};
use gesher_core::http1::head::{HeadKind, HeadScan};
use gesher_core::link::frame::{self, Frame};
use gesher_core::seal::{CrateFernet, Fernet, Record, SealKey, Seals, token_len};
use gesher_core::time::UnixSecs;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const AT: UnixSecs = UnixSecs(1_700_000_000);
const RECORD_BYTES: usize = 16 * 1024;
/// What a browser sends.
const HEAD: &[u8] = b"GET /assets/app.js?v=3 HTTP/1.1\r\nHost: app.example.org\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: */*\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://app.example.org/\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef\r\n\
    Sec-Fetch-Dest: script\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: same-origin\r\n\r\n";

fn main() {
    divan::main();
}

fn key() -> SealKey {
    SealKey::from([7; 32])
}

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(1)
}

fn seal_records(bencher: Bencher, seals: &dyn Seals, count: usize) {
    let mut sealer = seals.sealer(&key(), rng());
    let plain = vec![7; RECORD_BYTES];
    let mut tokens = vec![vec![0; token_len(RECORD_BYTES)]; count];
    bencher.counter(BytesCount::new(count * RECORD_BYTES)).bench_local(|| {
        let mut records: Vec<Record<'_>> =
            tokens.iter_mut().map(|token| Record { plain: &plain, token }).collect();
        sealer.seal_all(AT, black_box(&mut records));
    });
}

#[divan::bench(args = [1, 4])]
fn seal_in_place(bencher: Bencher, records: usize) {
    seal_records(bencher, &Fernet, records);
}

#[divan::bench(args = [1, 4])]
fn seal_by_the_crate(bencher: Bencher, records: usize) {
    seal_records(bencher, &CrateFernet, records);
}

fn open_record(bencher: Bencher, seals: &dyn Seals, bytes: usize) {
    let mut token = Vec::new();
    seals.sealer(&key(), rng()).seal(AT, &vec![7; bytes], &mut token);
    let mut opener = seals.opener(&key());
    let mut plain = Vec::new();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        plain.clear();
        opener.open(black_box(&token), &mut plain)
    });
}

#[divan::bench(args = [128, RECORD_BYTES])]
fn open_in_place(bencher: Bencher, bytes: usize) {
    open_record(bencher, &Fernet, bytes);
}

#[divan::bench(args = [128, RECORD_BYTES])]
fn open_by_the_crate(bencher: Bencher, bytes: usize) {
    open_record(bencher, &CrateFernet, bytes);
}

#[divan::bench]
fn find_and_parse_a_head(bencher: Bencher) {
    bencher.counter(BytesCount::of_slice(HEAD)).bench(|| {
        let head = HeadScan::default().take(black_box(HEAD), HeadKind::Request);
        head.ok().flatten().and_then(|head| head.request().ok()).map(|head| head.fields.len())
    });
}

#[divan::bench(args = [100, 16_384])]
fn encode_and_decode_chunks(bencher: Bencher, chunk: usize) {
    const BODY_BYTES: usize = 256 * 1024;
    let body = vec![7; BODY_BYTES];
    let (mut wire, mut out) = (Vec::new(), Vec::new());
    bencher.counter(BytesCount::new(BODY_BYTES)).bench_local(|| {
        wire.clear();
        out.clear();
        let (mut encoder, mut decoder) = (Encoder::new(Framing::Chunked), Decoder::new(Framing::Chunked));
        for portion in body.chunks(chunk) {
            encoder.encode(portion, &mut wire).expect("chunked bodies have any length");
        }
        encoder.finish(b"", &mut wire).expect("chunked bodies have any length");
        decoder.decode(&wire, usize::MAX, &mut out)
    });
}

#[divan::bench]
fn put_and_parse_frames(bencher: Bencher) {
    const FRAMES: u32 = 100;
    let mut frames = Vec::new();
    bencher.counter(ItemsCount::new(FRAMES)).bench_local(|| {
        frames.clear();
        for stream in 1..=FRAMES {
            Frame::Data { stream, bytes: &[7; 100] }.put(&mut frames);
        }
        frame::check(&frames).map(|()| frame::parse(&frames).filter(Result::is_ok).count())
    });
}
