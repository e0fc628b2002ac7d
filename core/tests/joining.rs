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

const DAY_SECS: i64 = 86_400;
/// What the clocks of a world say at its start.
const START: i64 = 1_767_225_600;

#[test]
fn a_board_without_a_clock_joins_by_the_gateways_time() {
    let mut world = world("1970");
    world.start_gateway(|config| config);
    let board = Joiner { skew_secs: -START, ..Joiner::default() };
    world.start_connector_as(board, "board", "target-1", |config| config);
    world.run_ms(500);
    assert_eq!(count(&mut world, "joined as"), 1, "{}", world.transcript());
    assert_eq!(count(&mut world, "gesher-refusal clock"), 1);
    // What it learnt then is proved, and needs no second refusal.
    world.kill("gateway");
    world.start_gateway(|config| config);
    world.run_ms(5_000);
    assert_eq!((count(&mut world, "joined as"), count(&mut world, "gesher-refusal clock")), (2, 1));
}

#[test]
fn clocks_more_than_a_day_apart_are_said_and_nothing_is_signed_for_the_other() {
    let mut world = world("two days");
    world.start_gateway(|config| config);
    let late = Joiner { skew_secs: 2 * DAY_SECS, ..Joiner::default() };
    world.start_connector_as(late, "late", "target-1", |config| config);
    world.run_ms(10 * 60_000);
    assert_eq!(count(&mut world, "again in 60000 ms"), 10);
    assert_eq!(count(&mut world, "gesher-refusal clock"), 10, "one join a minute");
    assert_eq!(count(&mut world, "-48 h behind the gateway; again"), 10, "{}", world.transcript());
    world.set_skew("late", 0);
    world.run_ms(61_000);
    assert_eq!(count(&mut world, "joined as"), 1);
}

#[test]
fn a_gateway_whose_clock_cannot_be_right_is_told_from_one_that_differs() {
    let mut world = world("a gateway of 2024");
    world.start_gateway_as(Joiner { skew_secs: -500 * DAY_SECS, ..Joiner::default() }, |config| config);
    world.start_connector("connector-1", "target-1", |config| config);
    world.run_ms(1_000);
    assert_eq!(count(&mut world, "the gateway's clock looks wrong; again in 60000 ms"), 1);
    assert_eq!(count(&mut world, "joined as"), 0);
}

#[test]
fn a_connector_that_was_told_full_may_not_stay() {
    let mut world = world("full");
    world.start_gateway(|config| config.connectors_max(1).unwrap());
    world.start_connector("first", "target-1", |config| config);
    world.run_ms(200);
    world.start_connector("second", "target-1", |config| config);
    world.run_ms(90);
    // Its HELLO is on its way, and it will not hear that it is to go.
    world.set_frozen("second", true);
    world.run_ms(4_900);
    assert_eq!(count(&mut world, "gateway     > second        end"), 0);
    world.run_ms(300);
    assert_eq!(count(&mut world, "gateway     > second        end"), 1, "{}", world.transcript());
}
