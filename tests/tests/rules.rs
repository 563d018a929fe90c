//! Rules of a service: created, edited, paused, sealed and deleted while records arrive, and killed; nothing is lost or stored twice.
//!
//! The real binary, a real Kafka, the S3 server of the tests; every action by the command line, which uses the API.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catchment_tests::bed::{Bed, Place};
use catchment_tests::process::Program;
use catchment_tests::rules_service::{PATIENCE, RulesService};
use catchment_tests::services::Kafka;
use serde_json::json;

fn bed() -> Bed {
    Bed::new(Kafka::shared().bootstrap(), 2, Place::in_process())
}

const WINDOW: &str = "window = { every = \"1s\" }";

#[test]
fn a_rule_goes_on_over_edits_pauses_seals_and_kills_without_losing_or_repeating_a_record() {
    let mut bed = bed();
    bed.fill(300);
    let mut service = RulesService::start(&bed);
    let topic = bed.topic.clone();
    let file = service.rule(&bed, WINDOW);
    let file = file.as_str();
    assert_eq!(service.done(&["create", &topic, file])["version"], 1);
    service.await_state(&topic, "running");
    bed.fill(200);
    service.rule(&bed, "window = { every = \"1h\" }");
    let edited = service.done(&["edit", &topic, file, "--version", "1"]);
    assert_eq!(edited["version"], 2);
    bed.fill(200);
    service.await_state(&topic, "running");
    service.kill_and_start();
    service.await_state(&topic, "running");
    service.done(&["seal", &topic]);
    service.await_window(&topic, 2);
    service.done(&["pause", &topic]);
    service.await_state(&topic, "paused");
    bed.fill(100);
    service.kill_and_start();
    assert_eq!(service.await_state(&topic, "paused")["version"], 2, "a pause outlives the process");
    service.rule(&bed, WINDOW);
    service.done(&["edit", &topic, file]);
    service.done(&["resume", &topic]);
    service.await_state(&topic, "running");
    bed.await_committed(&mut [service.process_mut()], PATIENCE);
    bed.assert_complete("by rules");
    let windows = service.done(&["windows", &topic]);
    assert!(!windows.as_array().expect("a list").is_empty());
    assert_eq!(service.done(&["gaps", &topic]), json!([]));
    service.stop().assert_code(0);
}

struct WhenDropped<'a>(&'a AtomicBool);

impl Drop for WhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a script does to a rule while records come all the time: nothing waits until the step before it has come to rest.
#[test]
fn edits_pauses_seals_and_kills_on_top_of_each_other_under_a_steady_load_lose_and_repeat_nothing() {
    const ROUNDS: usize = 4;
    let mut bed = bed();
    bed.fill(100);
    let mut service = RulesService::start(&bed);
    let topic = bed.topic.clone();
    let file = service.rule(&bed, WINDOW);
    service.done(&["create", &topic, &file]);
    service.await_state(&topic, "running");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also when a step fails: the load would be waited for without end.
        let over = WhenDropped(&is_over);
        let load = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                bed.fill(20);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        for (step, act) in ["edit", "kill", "pause", "kill", "resume", "seal", "kill"].repeat(ROUNDS).into_iter().enumerate() {
            match act {
                "edit" => {
                    let seconds = 2 + step % 3;
                    let file = service.rule_named(&topic, &topic, &format!("window = {{ every = \"{seconds}s\" }}"));
                    service.done(&["edit", &topic, &file]);
                }
                "kill" => service.kill_and_start(),
                act => drop(service.done(&[act, &topic])),
            }
            // Some windows are pinned then, some are open, and some acts meet one that is not done.
            std::thread::sleep(Duration::from_millis(150 * (step as u64 % 5)));
        }
        drop(over);
        load.join().expect("the load");
    });
    service.await_state(&topic, "running");
    bed.await_committed(&mut [service.process_mut()], PATIENCE);
    bed.assert_complete("by a rule that was never left alone");
    assert_eq!(service.done(&["gaps", &topic]), json!([]));
    assert!(service.done(&["show", &topic])["version"].as_u64() > Some(ROUNDS as u64), "each edit is a version");
    service.stop().assert_code(0);
}

#[test]
fn a_rule_that_moves_goes_on_in_the_new_place_also_after_a_restart() {
    let mut bed = bed();
    bed.fill(200);
    let mut service = RulesService::start(&bed);
    let topic = bed.topic.clone();
    let file = service.rule(&bed, WINDOW);
    let file = file.as_str();
    service.done(&["create", &topic, file]);
    service.await_window(&topic, 1);
    service.done(&["pause", &topic]);
    service.rule(&bed, &format!("{WINDOW}\nto = {{ prefix = \"moved/\" }}"));
    assert_eq!(service.done(&["edit", &topic, file])["version"], 2);
    service.kill_and_start();
    service.done(&["resume", &topic]);
    bed.fill(200);
    service.await_state(&topic, "running");
    service.await_window(&topic, 2);
    bed.await_committed(&mut [service.process_mut()], PATIENCE);
    assert!(!bed.place.data_keys("moved/").is_empty());
    bed.truth().assert_equals(&bed.place.stored(""), "in one of the two places");
    service.rule(&bed, &format!("{WINDOW}\ngroup = \"another\""));
    service.run(&["edit", &topic, file]).assert_code(2);
    assert_eq!(service.done(&["show", &topic])["version"], 2);
}

#[test]
fn what_is_wrong_is_refused_with_its_code_and_changes_nothing() {
    let bed = bed();
    let service = RulesService::start(&bed);
    let refused = |args: &[&str], code: i32, words: &[&str]| {
        let exit = service.run(args);
        exit.assert_code(code);
        for word in words {
            assert!(exit.stderr.contains(word), "no {word:?} in {}", exit.stderr);
        }
    };
    refused(&["show", "none"], 3, &["C0602", "help:"]);
    let file = service.rule(&bed, "window = { every = \"3d\" }");
    let file = file.as_str();
    refused(&["create", &bed.topic, file], 2, &["C0106", "help:"]);
    service.rule(&bed, WINDOW);
    assert_eq!(service.done(&["list", "--json"]), json!([]));
    service.done(&["create", &bed.topic, file]);
    refused(&["create", &bed.topic, file], 2, &["C0603"]);
    service.rule(&bed, "window = { every = \"2s\" }");
    refused(&["edit", &bed.topic, file, "--version", "7"], 2, &["C0604"]);
    assert_eq!(service.done(&["show", &bed.topic])["version"], 1);
    let state = service.dir().join("state");
    let second = Program::new(["serve", "--listen", "127.0.0.1:0", "--state"]).args([&state]).run(PATIENCE);
    assert!(second.code() != Some(0) && second.stderr.contains("C0601"), "two services on one state: {}", second.stderr);
    let stranger = service.dir().join("stranger");
    std::fs::write(&stranger, "x").expect("a file");
    let stranger = stranger.to_str().expect("a path in UTF-8");
    let exit = Program::new(["rule", "list", "--service", service.address(), "--token-file", stranger]).run(PATIENCE);
    exit.assert_code(1);
    assert!(exit.stderr.contains("C0606"), "{}", exit.stderr);
    service.done(&["delete", &bed.topic]);
    assert_eq!(service.done(&["list", "--json"]), json!([]));
}

#[test]
fn a_rule_whose_topic_or_store_is_missing_says_so_and_holds_up_no_other() {
    let mut bed = bed();
    bed.fill(50);
    let service = RulesService::start(&bed);
    let file = service.dir().join("missing.toml");
    std::fs::write(&file, "[rule.missing]\nsource = { topics = [\"no-such-topic\"] }\ninstance_id = \"none\"\n").expect("a config file");
    service.done(&["create", "missing", file.to_str().expect("a path in UTF-8")]);
    let file = service.rule(&bed, WINDOW);
    service.done(&["create", &bed.topic, &file]);
    let shown = service.await_state("missing", "source-missing");
    assert!(shown["reason"].as_str().is_some_and(|reason| reason.contains("C0203")), "{shown}");
    service.await_state(&bed.topic, "running");
    let log = service.done(&["log", "missing"]);
    assert!(log.as_array().is_some_and(|lines| lines.iter().any(|line| line["code"] == "C0203")), "{log}");
}
