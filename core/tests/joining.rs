//! Who joins, who is refused, and when a connector tries again: in virtual time, over minutes and hours.
#![allow(clippy::unwrap_used)]

use gesher_core::sim::{Act, Joiner, Sealing, World};

fn world(title: &str) -> World {
    let mut world = World::new(title, 9, 20, Sealing::FixedIv);
    world.start_app("target-1", |_| vec![Act::send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")]);
    world
}

/// How often this is in the transcript.
fn count(world: &mut World, what: &str) -> usize {
    world.transcript().matches(what).count()
}

#[test]
fn connectors_with_yesterdays_pin_do_not_close_joining_to_their_address() {
    let mut world = world("yesterday's PIN");
    world.start_gateway(|config| config);
    for nth in 1..=3 {
        world.start_connector(&format!("old-{nth}"), "target-1", |config| config);
    }
    world.run_ms(1_000);
    assert_eq!(count(&mut world, "joined as"), 3);
    world.kill("gateway");
    let today = Joiner { pin: "N3W P1N", ..Joiner::default() };
    world.start_gateway_as(today, |config| config);
    world.run_ms(20 * 60_000);
    assert_eq!(count(&mut world, "gesher-refusal locked"), 0);
    assert_eq!(count(&mut world, "gesher-refusal pin"), 3 * 8, "each every 150 s");
    world.start_connector_as(today, "new", "target-1", |config| config);
    world.run_ms(1_000);
    assert_eq!(count(&mut world, "joined as"), 4, "{}", world.transcript());
}
