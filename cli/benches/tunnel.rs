//! The built program against direct access to the same app, side by side, on this machine:
//! `cargo bench -p gesher --bench tunnel`. What nginx does as a plain proxy is shown too, if it is installed.
//!
//! App, program and load share the cores, so look at the ratios: each round measures all ways one after the other, and
//! the medians of the rounds are printed.
#![cfg(target_os = "linux")] // CPU time is read from /proc.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../tests/blackbox/gesher.rs"]
mod gesher;
#[allow(dead_code)]
#[path = "../tests/blackbox/outside.rs"]
mod outside;
#[allow(dead_code)]
#[path = "../tests/blackbox/process.rs"]
mod process;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use crate::gesher::Tunnel;
use crate::outside::{Folder, own_address};
use crate::process::Process;

const ROUNDS: usize = 3;
const SAMPLE: Duration = Duration::from_secs(2);
const BULK_BYTES: usize = 64 * 1024 * 1024;

/// What is measured: its name, and how.
const LOADS: [(&str, Load); 7] = [
    ("requests/s, 128 B, 1 connection", Load::Requests { path: "/128", connections: 1 }),
    ("requests/s, 128 B, 64 connections", Load::Requests { path: "/128", connections: 64 }),
    ("requests/s, 10 KiB, 64 connections", Load::Requests { path: "/10240", connections: 64 }),
    ("new connections/s, 16 at a time", Load::Connections { at_once: 16 }),
    ("MB/s down, 1 stream", Load::Down { streams: 1 }),
    ("MB/s down, 8 streams", Load::Down { streams: 8 }),
    ("MB/s up, 1 stream", Load::Up { streams: 1 }),
];

fn main() {
    // `cargo test --benches` only wants to know that it can be built.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let app = serve();
    let tunnel = Tunnel::to(app);
    let folder = Folder::new();
    let nginx = nginx(&folder, app);
    let mut ways = vec![("direct", app, Vec::new())];
    ways.push(("gesher", tunnel.address(), vec![&tunnel.server.process, &tunnel.client]));
    if let Some((process, address)) = &nginx {
        ways.push(("nginx", *address, vec![process]));
    }
    println!("{:<36} {:>8} {:>12} {:>9} {:>12}", "", "way", "median", "x direct", "CPU");
    for (name, load) in LOADS {
        let mut samples = vec![Vec::new(); ways.len()];
        for _ in 0..ROUNDS {
            for ((_, address, processes), samples) in ways.iter().zip(&mut samples) {
                let cpu_before: f64 = processes.iter().map(|process| cpu_seconds(process)).sum();
                let amount = load.run(*address);
                let cpu: f64 = processes.iter().map(|process| cpu_seconds(process)).sum::<f64>() - cpu_before;
                samples.push((amount / SAMPLE.as_secs_f64(), cpu / amount));
            }
        }
        let direct = median(samples[0].iter().map(|(rate, _)| *rate));
        for ((way, ..), samples) in ways.iter().zip(&samples) {
            let rate = median(samples.iter().map(|(rate, _)| *rate));
            let cpu = match median(samples.iter().map(|(_, cpu)| *cpu)) {
                0.0 => String::new(),
                each if load.is_bulk() => format!("{:.2} s/GB", each * 1000.0),
                each => format!("{:.1} µs", each * 1e6),
            };
            println!("{name:<36} {way:>8} {rate:>12.0} {:>9.2} {cpu:>12}", rate / direct);
        }
    }
    let peak = [&tunnel.server.process, &tunnel.client].map(Process::peak_mib);
    println!("\npeak memory: gateway {} MiB, connector {} MiB", peak[0], peak[1]);
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// User and system time so far.
fn cpu_seconds(process: &Process) -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / TICKS_PER_SECOND
}

/// nginx as a plain proxy with keep-alive to the app.
fn nginx(folder: &Folder, app: SocketAddr) -> Option<(Process, SocketAddr)> {
    let address = own_address();
    let http = format!(
        "keepalive_requests 1000000;\n\
         upstream app {{ server {app}; keepalive 128; keepalive_requests 1000000; }}\n\
         server {{ listen {address} backlog=1024; location / {{\n\
           proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
           proxy_request_buffering off; proxy_max_temp_file_size 0;\n\
         }} }}"
    );
    outside::nginx(folder, &http).map(|process| (process, address))
}

#[derive(Clone, Copy)]
enum Load {
    Requests { path: &'static str, connections: usize },
    Connections { at_once: usize },
    Down { streams: usize },
    Up { streams: usize },
}

impl Load {
    /// How much was done in [`SAMPLE`]: requests, or megabytes.
    fn run(self, to: SocketAddr) -> f64 {
        match self {
            Load::Requests { path, connections } => repeat(connections, || {
                let mut connection = Connection::open(to);
                move || {
                    connection.get(path);
                    1
                }
            }) as f64,
            Load::Connections { at_once } => repeat(at_once, || {
                move || {
                    Connection::open(to).get("/128");
                    1
                }
            }) as f64,
            Load::Down { streams } => megabytes(repeat(streams, || {
                let mut connection = Connection::open(to);
                move || connection.get(&format!("/{BULK_BYTES}"))
            })),
            Load::Up { streams } => megabytes(repeat(streams, || {
                let mut connection = Connection::open(to);
                let body = vec![7; BULK_BYTES];
                move || {
                    connection.post(&body);
                    BULK_BYTES as u64
                }
            })),
        }
    }

    fn is_bulk(self) -> bool {
        matches!(self, Load::Down { .. } | Load::Up { .. })
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Runs as many workers at once until the sample's time is over; the sum of what they did, scaled to exactly that time.
fn repeat<W: FnMut() -> u64>(workers: usize, worker: impl Fn() -> W + Sync) -> u64 {
    let (over, done, nanos) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut work = worker();
                let start = Instant::now();
                while !over.load(Ordering::Relaxed) {
                    done.fetch_add(work(), Ordering::Relaxed);
                }
                nanos.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
            });
        }
        thread::sleep(SAMPLE);
        over.store(true, Ordering::Relaxed);
    });
    let each = nanos.load(Ordering::Relaxed) as f64 / workers as f64;
    (done.load(Ordering::Relaxed) as f64 * SAMPLE.as_nanos() as f64 / each) as u64
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::with_capacity(64 * 1024, stream))
    }

    /// Reads the whole answer; the length of its body.
    fn get(&mut self, path: &str) -> u64 {
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        self.answer()
    }

    fn post(&mut self, body: &[u8]) {
        let head = format!("POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n", body.len());
        self.0.get_mut().write_all(head.as_bytes()).unwrap();
        self.0.get_mut().write_all(body).unwrap();
        self.answer();
    }

    fn answer(&mut self) -> u64 {
        let (status, length) = read_head(&mut self.0).expect("an answer");
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        discard(&mut self.0, length);
        length
    }
}

/// The first line of a head, and its Content-Length; none at the end of the connection.
fn read_head(from: &mut impl BufRead) -> Option<(String, u64)> {
    let mut first = String::new();
    let mut line = String::new();
    let mut length = 0;
    loop {
        line.clear();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => return Some((first, length)),
            text if first.is_empty() => first = text.to_owned(),
            text => {
                let (name, value) = text.split_once(':').unwrap();
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().unwrap();
                }
            }
        }
    }
}

fn discard(from: &mut impl BufRead, length: u64) {
    assert_eq!(io::copy(&mut from.take(length), &mut io::sink()).unwrap(), length);
}

/// The app: `GET /N` answers with N bytes, `POST` takes a body. A thread a connection.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve_one(stream));
        }
    });
    address
}

fn serve_one(stream: TcpStream) {
    let block = vec![b'x'; 64 * 1024];
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::with_capacity(64 * 1024, stream);
    while let Some((first, length)) = read_head(&mut stream) {
        discard(&mut stream, length);
        let path = first.split_whitespace().nth(1).unwrap_or_default();
        let mut left: usize = path.trim_start_matches('/').parse().unwrap_or(0);
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n").into_bytes();
        let first = left.min(block.len());
        answer.extend_from_slice(&block[..first]);
        left -= first;
        let mut sent = stream.get_mut().write_all(&answer);
        while left > 0 && sent.is_ok() {
            let count = left.min(block.len());
            sent = stream.get_mut().write_all(&block[..count]);
            left -= count;
        }
        if sent.is_err() {
            return;
        }
    }
}
