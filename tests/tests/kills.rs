//! Instances that are killed or frozen in every phase of a window, while records arrive: `tests/src/kills/`. Nothing is lost, stored twice or altered, and no
//! object changes once it is visible.

use catchment_tests::kills::plan::{Objects, Plan};
use catchment_tests::kills::sleep::Sleep;
use catchment_tests::kills::{survives_kills, survives_sleepers};

const S3SERVER: &str = env!("CARGO_BIN_EXE_s3server");

#[test]
fn kills_with_single_puts_behind_an_atomic_guard() {
    survives_kills(Plan { name: "put-a", ..Plan::SMALL }, S3SERVER);
}

#[test]
fn kills_with_single_puts_behind_a_racy_guard() {
    survives_kills(Plan { name: "put-b", personality: "cos", class: "B", ..Plan::SMALL }, S3SERVER);
}

#[test]
fn kills_with_single_puts_without_a_guard() {
    survives_kills(Plan { name: "put-c", class: "C", ..Plan::SMALL }, S3SERVER);
}

#[test]
fn kills_in_a_sweep() {
    survives_kills(Plan { name: "put-sweep", schedule: "sweep", ..Plan::SMALL }, S3SERVER);
}

#[test]
fn kills_with_multipart_uploads_behind_an_atomic_guard() {
    survives_kills(Plan { name: "parts-a", ..Plan::MULTIPART }, S3SERVER);
}

#[test]
fn kills_with_multipart_uploads_behind_a_racy_guard() {
    survives_kills(Plan { name: "parts-b", personality: "cos", class: "B", ..Plan::MULTIPART }, S3SERVER);
}

#[test]
fn kills_with_multipart_uploads_without_a_guard() {
    survives_kills(Plan { name: "parts-c", class: "C", ..Plan::MULTIPART }, S3SERVER);
}

#[test]
fn a_sleeper_with_a_large_window_wakes_behind_an_atomic_guard() {
    let plan = Plan { name: "sleep-large-a", objects: Objects::Large, ..Plan::SMALL };
    survives_sleepers(plan, &[Sleep::Open, Sleep::HalfSent], S3SERVER);
}

#[test]
fn a_sleeper_with_a_large_window_wakes_without_a_guard() {
    let plan = Plan { name: "sleep-large-c", class: "C", objects: Objects::Large, ..Plan::SMALL };
    survives_sleepers(plan, &[Sleep::HalfSent], S3SERVER);
}

#[test]
fn a_sleeper_wakes_behind_an_atomic_guard() {
    survives_sleepers(Plan { name: "sleep-a", ..Plan::SMALL }, &[Sleep::UnderWay, Sleep::Published], S3SERVER);
}

#[test]
fn a_sleeper_wakes_without_a_guard() {
    survives_sleepers(Plan { name: "sleep-c", class: "C", ..Plan::SMALL }, &[Sleep::Open, Sleep::UnderWay, Sleep::Published], S3SERVER);
}
