//! A thousand rules in one process, a hundred of them running, within one memory budget; one whose store answers nothing holds up no other.
//!
//! The real binary, a real Kafka, the S3 server of the tests.

use catchment_tests::many_rules::{ManyRules, PREFIX, Size};
use serde_json::json;

const BUDGET_MIB: u64 = 1024;

const SIZE: Size = Size { running: 100, paused: 450, missing: 450, records: 25, stalled_records: 700 };

/// Rounds of records; each rule gets 50 records in each.
const ROUNDS: usize = 16;

#[test]
fn a_thousand_rules_a_hundred_of_them_with_traffic_keep_to_one_budget_and_a_stalled_one_starves_none() {
    let mut scene = ManyRules::new(SIZE, &format!("{BUDGET_MIB}MiB"));
    scene.create();
    for _ in 0..ROUNDS {
        scene.send_round();
    }
    scene.await_stored();
    scene.await_states();
    let stalled = scene.bed.topic.clone();
    assert_eq!(scene.windowed(&stalled), 0, "the store has answered it nothing");
    scene.send_round();
    scene.await_stored();
    let report = scene.bed.verify(PREFIX, false);
    assert_eq!((&report["damage"], &report["gaps"], &report["records"]), (&json!([]), &json!([]), &json!(scene.sent_in_all())), "{report}");
    for topic in scene.topics.clone().iter().step_by(20) {
        scene.assert_complete(topic);
    }
    scene.gate.open();
    let held = scene.bed.truth().len() as u64;
    scene.until("the stalled rule goes on", |scene| {
        let windowed = scene.windowed(&stalled);
        (windowed < held).then(|| format!("{windowed} of {held} records"))
    });
    scene.assert_complete(&stalled);
    let process = scene.service.process_mut();
    let (peak, threads, files) = (process.memory_peak_bytes(), process.threads(), process.open_files());
    println!("peak {} MiB of {BUDGET_MIB}, {threads} threads, {files} open files, {:.0} s of CPU", peak >> 20, process.cpu_seconds());
    assert!(peak <= (BUDGET_MIB * 6 / 5) << 20, "peak {} MiB of {BUDGET_MIB}", peak >> 20);
    scene.service.stop().assert_code(0);
}
