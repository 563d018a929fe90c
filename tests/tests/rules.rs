//! Rules of a service: created, edited, paused, sealed and deleted while records arrive, and killed; nothing is lost or stored twice.
//!
//! The real binary, a real Kafka, the S3 server of the tests; every action by the command line, which uses the API.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catchment_tests::bed::{Bed, Place};
use catchment_tests::process::Program;
use catchment_tests::rules_service::{PATIENCE, RulesService, config_of};
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

/// Kafka forgets the offsets of a group without members after some days. A pause may be longer.
#[test]
fn a_pause_outlives_the_offsets_of_the_group() {
    let mut bed = bed();
    bed.fill(200);
    let mut service = RulesService::start(&bed);
    let topic = bed.topic.clone();
    service.done(&["create", &topic, &service.rule(&bed, WINDOW)]);
    service.await_state(&topic, "running");
    bed.await_committed(&mut [service.process_mut()], PATIENCE);
    service.done(&["pause", &topic]);
    service.await_state(&topic, "paused");
    let before = bed.place.data_keys("");
    bed.admin.delete_group(&bed.group());
    assert!((0..2).all(|partition| bed.admin.group_offset(&bed.group(), &topic, partition).is_none()), "nothing is left of the group");
    bed.fill(100);
    service.kill_and_start();
    service.await_state(&topic, "paused");
    service.done(&["resume", &topic]);
    bed.await_committed(&mut [service.process_mut()], PATIENCE);
    bed.assert_complete("after the pause");
    assert!(before.iter().all(|key| bed.place.data_keys("").contains(key)), "what was stored stays");
    assert_eq!(service.done(&["gaps", &topic]), json!([]));
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
    assert_eq!(claims(&bed), [false, false], "it has both places");
    service.done(&["delete", &topic]);
    service.until(&["audit", &topic], |_| claims(&bed) == [true, true]);
}

/// Of each record that says who owns a topic's directory, whether it was given up.
fn claims(bed: &Bed) -> Vec<bool> {
    let owners: Vec<String> = bed.place.keys().into_iter().filter(|key| key.contains("_catchment/owners/")).collect();
    let read = |key: &String| serde_json::from_slice::<serde_json::Value>(&bed.place.get(key)).expect("JSON");
    owners.iter().map(|key| read(key)["released"] == true).collect()
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
    let gone = bed.place.url("").replacen("://bucket/", "://no-such-bucket/", 1);
    let service = RulesService::start_on(&format!("{}[store.gone]\nurl = \"{gone}\"\n", config_of(&bed)), &bed, &[]);
    let homeless = service.rule_named("homeless", &bed.topic, "to = { store = \"gone\" }");
    service.done(&["create", "homeless", &homeless]);
    let file = service.dir().join("missing.toml");
    let missing = "[rule.missing]\nsource = { topics = [\"no-such-topic\"] }\nto = { store = \"s\" }\ninstance_id = \"none\"\n";
    std::fs::write(&file, missing).expect("a config file");
    service.done(&["create", "missing", file.to_str().expect("a path in UTF-8")]);
    let file = service.rule(&bed, &format!("{WINDOW}\nto = {{ store = \"s\" }}"));
    service.done(&["create", &bed.topic, &file]);
    let shown = service.await_state("missing", "source-missing");
    assert!(shown["reason"].as_str().is_some_and(|reason| reason.contains("C0203")), "{shown}");
    service.await_state(&bed.topic, "running");
    let is_homeless = |shown: &serde_json::Value| shown["reason"].as_str().is_some_and(|reason| reason.contains("C0302"));
    let shown = service.until(&["show", "homeless"], |shown| shown["state"] == "waiting" && is_homeless(shown));
    assert!(shown["help"].as_str().is_some_and(|help| !help.is_empty()), "what to do is said: {shown}");
    let log = service.done(&["log", "missing"]);
    assert!(log.as_array().is_some_and(|lines| lines.iter().any(|line| line["code"] == "C0203")), "{log}");
}

/// A store that refuses everything is waited for, and said so where one looks: the rule is degraded until it is back.
#[test]
fn a_rule_whose_store_refuses_is_degraded_until_it_takes_again() {
    let mut bed = bed();
    bed.fill(50);
    let mut service = RulesService::start(&bed);
    let topic = bed.topic.clone();
    service.done(&["create", &topic, &service.rule(&bed, WINDOW)]);
    bed.await_committed(&mut [service.process_mut()], PATIENCE);
    service.await_state(&topic, "running");
    bed.place.server().state().set_denied(true);
    bed.fill(100);
    let shown = service.await_state(&topic, "degraded");
    assert!(shown["reason"].as_str().is_some_and(|reason| reason.contains("store")), "{shown}");
    bed.place.server().state().set_denied(false);
    service.await_state(&topic, "running");
    bed.await_committed(&mut [service.process_mut()], PATIENCE);
    bed.assert_complete("after the store was back");
}
