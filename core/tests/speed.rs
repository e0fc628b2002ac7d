//! How fast a link is, in virtual time and so exactly: `cargo test -p gesher-core --test speed`. What the tables mean is
//! in docs/performance.md; `INSTA_UPDATE=always` takes new ones over.
//!
//! Links have a rate, a round trip and a queue in front of the narrowest place; sealing takes no time.

use std::fmt::Write as _;
use std::time::Duration;

use gesher_core::limits::WINDOW_BYTES_MAX;
use gesher_core::sim::{Act, Sealing, Visitor, World};
use insta::assert_snapshot;

const RATES: [(&str, u64); 3] =
    [("10 Mbit/s", 10_000_000), ("100 Mbit/s", 100_000_000), ("1 Gbit/s", 1_000_000_000)];
const ROUND_TRIPS_MS: [u64; 4] = [1, 20, 100, 300];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Down,
    Up,
}

/// A link of this kind, and bulk transfers over it.
struct Scene {
    world: World,
    round_trip: Duration,
    bits_per_sec: u64,
    bulk: Vec<Visitor>,
    /// What has come down.
    received: u64,
}

impl Scene {
    fn new(bits_per_sec: u64, round_trip_ms: u64) -> Self {
        let round_trip = Duration::from_millis(round_trip_ms);
        let mut world = World::new("speed", 1, 0, Sealing::Plain);
        world.set_links(round_trip, bits_per_sec);
        world.start_gateway(|config| config);
        world.start_app("app", |request| match (request.method.as_str(), request.target.as_str()) {
            ("POST", _) => vec![Act::AwaitBody],
            (_, "/bulk") => {
                vec![
                    Act::send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", u64::MAX / 2)),
                    Act::Fill(u64::MAX / 2),
                ]
            }
            _ => vec![Act::send(format!("HTTP/1.1 200 OK\r\nContent-Length: 128\r\n\r\n{:128}", "small"))],
        });
        world.forget_bodies("app");
        world.start_connector("connector", "app", |config| config);
        world.run_ms(round_trip_ms * 10);
        Self { world, round_trip, bits_per_sec, bulk: Vec::new(), received: 0 }
    }

    /// Starts so many endless transfers.
    fn start(&mut self, count: usize, way: Way) {
        for _ in 0..count {
            let visitor = self.world.visit();
            match way {
                Way::Down => self.world.send(visitor, "GET /bulk HTTP/1.1\r\nHost: a\r\n\r\n"),
                Way::Up => {
                    let length = u64::MAX / 2;
                    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
                    self.world.send(visitor, head);
                    self.world.send_fill(visitor, length);
                }
            }
            self.bulk.push(visitor);
        }
    }

    /// Lets time pass, in which all transfers go on, until something is so.
    fn run_until(&mut self, at_most: Duration, mut is_so: impl FnMut(&mut World) -> bool) -> bool {
        let Self { world, bulk, received, .. } = self;
        world.run_until(at_most, |world| {
            *received += bulk.iter().map(|visitor| world.received(*visitor).len() as u64).sum::<u64>();
            is_so(world)
        })
    }

    /// How many body bytes have come through.
    fn carried(&self) -> u64 {
        let up: u64 = self.world.requests("app").iter().map(|request| request.body_bytes).sum();
        self.received + up
    }

    /// Lets the transfers go on until they get no faster, and returns the share of the link that they have then.
    fn share(&mut self) -> f64 {
        /// Windows grow 256-fold at most, and by half a round trip each time.
        const SLICES_MAX: usize = 40;
        let slice = self.round_trip.max(Duration::from_nanos(16_000_000 * 1_000_000_000 / self.bits_per_sec));
        let full = slice.as_secs_f64() * self.bits_per_sec as f64 / 8.0;
        let mut shares: Vec<f64> = Vec::new();
        while shares.len() < SLICES_MAX {
            let before = self.carried();
            self.run_until(slice, |_| false);
            shares.push((self.carried() - before) as f64 / full);
            if let [.., before, first, second] = shares[..]
                && before > 0.0
                && first < before * 1.01
                && second < before * 1.01
            {
                return (first + second) / 2.0;
            }
        }
        panic!("it never stops to get faster or slower: {shares:?}");
    }

    /// The median and the worst time of small requests, one after the other on one connection.
    fn small_requests(&mut self) -> (Duration, Duration) {
        const REQUESTS: u32 = 15;
        let visitor = self.world.visit();
        let mut times = Vec::new();
        for request in 0..REQUESTS {
            let begun = self.world.elapsed();
            self.world.send(visitor, "GET /small HTTP/1.1\r\nHost: a\r\n\r\n");
            let came = self.run_until(Duration::from_secs(60), |world| !world.received(visitor).is_empty());
            assert!(came, "an answer");
            times.push(self.world.elapsed() - begun);
            // Each meets what is under way at another moment.
            self.run_until(self.round_trip * (request + 1) / REQUESTS, |_| false);
        }
        times.sort();
        (times[times.len() / 2], times[times.len() - 1])
    }
}

#[test]
fn one_stream_reaches_what_its_window_covers_of_a_link() {
    let mut table = String::from("share of the link         one stream     sixteen streams   a window\n");
    table += "rate        round trip    down     up     down     up       covers\n";
    for (name, bits_per_sec) in RATES {
        for round_trip_ms in ROUND_TRIPS_MS {
            let _ = write!(table, "{name:<11} {round_trip_ms:>7} ms");
            let covered = f64::from(WINDOW_BYTES_MAX) * 8.0 * 1000.0 / (bits_per_sec * round_trip_ms) as f64;
            for (streams, way) in [(1, Way::Down), (1, Way::Up), (16, Way::Down), (16, Way::Up)] {
                let mut scene = Scene::new(bits_per_sec, round_trip_ms);
                scene.start(streams, way);
                let share = scene.share();
                let _ = write!(table, "   {:>3.0} %", share * 100.0);
                let least = if streams == 1 { covered.min(1.0) * 0.8 } else { 0.8 };
                assert!(share >= least, "{streams} streams have {share:.3}:\n{table}");
            }
            let covers = if covered < 1.0 { format!("{:.0} %", covered * 100.0) } else { "all".into() };
            let _ = writeln!(table, "   {covers:>10}");
        }
    }
    assert_snapshot!(table);
}

#[test]
fn a_small_request_beside_bulk_waits_for_no_more_than_what_the_network_holds() {
    let mut table =
        String::from("a small request, ms          alone        beside 8 down      beside 8 up\n");
    table += "rate        round trip   median  worst   median  worst   median  worst\n";
    for (name, bits_per_sec) in RATES {
        for round_trip_ms in [20, 100] {
            let _ = write!(table, "{name:<11} {round_trip_ms:>7} ms");
            let mut alone = None;
            for bulk in [None, Some(Way::Down), Some(Way::Up)] {
                let mut scene = Scene::new(bits_per_sec, round_trip_ms);
                if let Some(way) = bulk {
                    scene.start(8, way);
                    scene.share();
                }
                let (median, worst) = scene.small_requests();
                let _ = write!(
                    table,
                    "   {:>6.1} {:>6.1}",
                    median.as_secs_f64() * 1e3,
                    worst.as_secs_f64() * 1e3
                );
                let (name_of_case, alone) = ((name, round_trip_ms), *alone.get_or_insert(worst));
                if name_of_case == ("100 Mbit/s", 20) {
                    assert!(
                        worst <= alone + scene.round_trip * 3,
                        "three round trips more at most:\n{table}"
                    );
                }
            }
            table += "\n";
        }
    }
    assert_snapshot!(table);
}
