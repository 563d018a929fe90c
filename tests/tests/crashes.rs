//! Kills and sleeps at every named point of the commit protocol: 0 lost, 0 duplicated, 0 altered.
//!
//! One cell alone:
//! `CRASH_CELL=after-pin.put.parquet.1st cargo test --release --workspace --test crashes -- a_kill_at_any_point --nocapture`, or, of a
//! sleeper, `CRASH_CELL=after-pin.put.parquet.A` with `a_sleeper_between`. A cell that fails prints the command.

use std::time::Duration;

use catchment_tests::crashes;
use catchment_tests::process::{binary, crashing_binary};

/// Random passages at which each point is met, beside the first and the second.
fn rounds() -> u32 {
    let full = std::env::var_os("CATCHMENT_TEST_FULL").is_some();
    std::env::var("CRASH_ROUNDS").ok().map_or(if full { 5 } else { 1 }, |n| n.parse().expect("CRASH_ROUNDS is a number"))
}

fn filter() -> String {
    std::env::var("CRASH_CELL").unwrap_or_default()
}

#[test]
fn a_kill_at_any_point_loses_nothing_and_stores_nothing_twice() {
    let report = crashes::run(&filter(), rounds());
    println!("{report}");
    println!("not run, since the protocol has no such point: {:?}", report.senseless);
    println!("slowest {:?}", report.slowest);
    report.failures.iter().for_each(|failure| println!("{failure}"));
    assert!(report.failures.is_empty(), "{} cells failed", report.failures.len());
    assert_eq!((report.lost, report.duplicated, report.altered, report.foreign), (0, 0, 0, 0));
    if filter().is_empty() {
        assert_eq!(report.shortfalls(), [""; 0]);
    }
    assert!(report.kills > 0 && report.compared > 0);
}

#[test]
fn a_sleeper_between_pin_and_tidy_wakes_past_its_session_and_does_no_harm() {
    let report = crashes::sleepers::run(&filter());
    println!("{report}");
    report.failures.iter().for_each(|failure| println!("{failure}"));
    assert!(report.failures.is_empty(), "{} cells failed", report.failures.len());
    assert_eq!((report.lost, report.duplicated, report.altered), (0, 0, 0));
    if filter().is_empty() {
        assert_eq!(report.shortfalls(), [""; 0]);
    }
    assert!(report.late.sleepers + report.unaware.sleepers > 0 && report.compared > 0);
}

#[test]
fn the_binary_that_is_shipped_has_no_crash_points() {
    // A point that every backup passes.
    let order = "before-pin:1";
    assert_eq!(crashes::comes_to_the_end(binary(), order), Ok(()));
    assert!(crashes::comes_to_the_end(crashing_binary(), order).is_err_and(|why| why.contains("signal: 9")));
}

/// They were claimed one after the other, five seconds each: with a thousand topics on COS a first start took more than an hour.
#[test]
fn topics_are_claimed_side_by_side_where_a_claim_must_stand_for_a_while() {
    let (apart, claims) = crashes::claims_apart(binary()).unwrap_or_else(|why| panic!("{why}"));
    assert!(claims > 1 && apart < Duration::from_secs(5) * (claims as u32 - 1) / 2, "{claims} claims within {apart:?}");
}

#[test]
fn an_order_that_arms_nothing_ends_the_process() {
    for wrong in ["", "after-pin", "after-pin:0", "nowhere:1", "after-pin:1:kill", "after-pin:1:stop:now"] {
        let ended = crashes::comes_to_the_end(crashing_binary(), wrong);
        assert!(ended.as_ref().is_err_and(|why| why.contains("exit status: 2")), "{wrong:?}: {ended:?}");
    }
}
