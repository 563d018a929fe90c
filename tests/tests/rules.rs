//! Rules of a service: created, edited, paused, sealed and deleted while records arrive, and killed; nothing is lost or stored twice.
//!
//! The real binary, a real Kafka, the S3 server of the tests; every action by the command line, which uses the API.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catchment_tests::bed::{Bed, Place};
use catchment_tests::gate::Gate;
use catchment_tests::process::Program;
use catchment_tests::rules_service::{PATIENCE, RulesService, WINDOW, config_of, stored};
use catchment_tests::s3::Fault;
use catchment_tests::services::Kafka;
use catchment_tests::three_ways::ThreeWays;
use catchment_tests::three_ways::scene::until;
use serde_json::{Value, json};

fn bed() -> Bed {
    Bed::new(Kafka::shared().bootstrap(), 2, Place::in_process())
}

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

/// Does something while records come all the time.
fn under_load(bed: &mut Bed, act: impl FnOnce()) {
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
        act();
        drop(over);
        load.join().expect("the load");
    });
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
    under_load(&mut bed, || {
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
    let (mut bed, mut service, topic) = stored(bed(), 200, &[]);
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

/// The windows of a partition in the order of their offsets.
fn windows_of(windows: &Value, partition: i32) -> Vec<&Value> {
    let mut of: Vec<&Value> = windows.as_array().into_iter().flatten().filter(|window| window["partition"] == partition).collect();
    of.sort_by_key(|window| window["start"].as_i64());
    of
}

#[test]
fn a_prefix_and_a_layout_that_are_edited_under_load_hold_from_the_next_window_on() {
    let mut bed = bed();
    bed.fill(100);
    let ways = ThreeWays::at(RulesService::start(&bed));
    let (service, topic) = (ways.service(), bed.topic.clone());
    // By arrival: by the time of the records, which is long past, a window closes as soon as nothing comes.
    service.done(&["create", &topic, &service.rule(&bed, "window = { every = \"24h\", by = \"arrival\" }")]);
    let read = format!("catchment_records_read_total{{rule=\"{topic}\"}} 100");
    until("windows are open", || ways.metrics(), |page| page.lines().any(|line| line == read));
    assert_eq!(bed.place.data_keys(""), Vec::<String>::new(), "nothing is due");
    under_load(&mut bed, || {
        let keys = "window = { every = \"5s\" }\nto = { prefix = \"moved/\", layout = \"confluent\" }";
        assert_eq!(service.done(&["edit", &topic, &service.rule_named(&topic, &topic, keys)])["version"], 2);
        service.await_window(&topic, 2);
    });
    bed.await_committed(&mut [], 2 * PATIENCE);
    let truth = bed.truth();
    let records = |windows: &Value| windows.as_array().into_iter().flatten().filter_map(|window| window["records"].as_u64()).sum::<u64>();
    // An object stands a moment before its window is written down.
    let windows = service.until(&["windows", &topic, "--limit", "1000"], |windows| records(windows) == truth.len() as u64);
    for partition in 0..2 {
        let of = windows_of(&windows, partition);
        let lies_in = |window: &Value, directory: &str| window["key"].as_str().is_some_and(|key| key.starts_with(directory));
        let (first, later) = of.split_first().expect("the one that was open");
        assert_eq!((&first["version"], &first["start"], &first["reason"]), (&json!(1), &json!(0), &json!("stop")), "{first}");
        assert!(lies_in(first, &format!("{topic}/dt=")), "{first}");
        let moved = format!("topics/{topic}/partition={partition}/");
        assert!(!later.is_empty() && later.iter().all(|window| window["version"] == 2 && lies_in(window, &moved)), "{later:?}");
        assert!(of.windows(2).all(|two| two[0]["end"] == two[1]["start"]), "{of:?}");
    }
    let (all, moved) = (bed.place.data_keys(""), bed.place.data_keys("moved/topics/"));
    assert_eq!(all.len(), moved.len() + 2, "{all:?}");
    truth.assert_equals(&bed.place.stored(""), "in two places and two layouts");
    bed.verify(&format!("{topic}/"), true);
    let sound = service.done(&["verify", &topic, "--compare"]);
    assert_eq!((&sound["state"], &sound["report"]["gaps"]), (&json!("sound"), &json!([])), "{sound}");
    assert_eq!(service.done(&["gaps", &topic]), json!([]));
}

/// Of each record that says who owns a topic's directory, whether it was given up.
fn claims(bed: &Bed) -> Vec<bool> {
    let owners: Vec<String> = bed.place.keys().into_iter().filter(|key| key.contains("_catchment/owners/")).collect();
    let read = |key: &String| serde_json::from_slice::<Value>(&bed.place.get(key)).expect("JSON");
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
    let is_homeless = |shown: &Value| shown["reason"].as_str().is_some_and(|reason| reason.contains("C0302"));
    let shown = service.until(&["show", "homeless"], |shown| shown["state"] == "waiting" && is_homeless(shown));
    assert!(shown["help"].as_str().is_some_and(|help| !help.is_empty()), "what to do is said: {shown}");
    let log = service.done(&["log", "missing"]);
    assert!(log.as_array().is_some_and(|lines| lines.iter().any(|line| line["code"] == "C0203")), "{log}");
    service.done(&["resume", "missing"]);
    let audit = service.done(&["audit", "missing"]);
    assert_eq!((&audit[0]["action"], &audit[0]["detail"]), (&json!("resume"), &Value::Null), "who starts it again is known: {audit}");
}

/// A store that refuses everything is waited for, and said so where one looks: the rule is degraded until it is back.
#[test]
fn a_rule_whose_store_refuses_is_degraded_until_it_takes_again() {
    let (mut bed, mut service, topic) = stored(bed(), 50, &[]);
    bed.place.server().state().set_denied(true);
    bed.fill(100);
    let shown = service.await_state(&topic, "degraded");
    assert!(shown["reason"].as_str().is_some_and(|reason| reason.contains("store")), "{shown}");
    bed.place.server().state().set_denied(false);
    service.await_state(&topic, "running");
    bed.await_committed(&mut [service.process_mut()], PATIENCE);
    bed.assert_complete("after the store was back");
}

/// The store takes connections and never answers, from before the service starts.
#[test]
fn a_store_that_never_answers_holds_up_no_start_no_other_rule_and_no_stop() {
    let (mut bed, files) = (bed(), tempfile::tempdir().expect("a directory"));
    bed.fill(100);
    let config = format!("{}[store.files]\nurl = \"file://{}/\"\n", config_of(&bed), files.path().display());
    let mut service = RulesService::start_on(&config, &bed, &[]);
    let topic = bed.topic.clone();
    let to = |store: &str| format!("{WINDOW}\nto = {{ store = \"{store}\" }}");
    service.done(&["create", &topic, &service.rule(&bed, &to("s"))]);
    bed.await_committed(&mut [service.process_mut()], PATIENCE);
    service.stop().assert_code(0);
    bed.fill(50);
    let gate = Gate::default();
    let held = gate.clone();
    bed.place.server().state().set_faults(move |_| Fault { held: Some(held.clone()), ..Fault::default() });
    service.start_again(&[]);
    let mut ways = ThreeWays::at(service);
    let service = ways.service();
    assert_eq!(service.done(&["show", &topic])["state"], "waiting");
    for page in ["/console".to_owned(), format!("/console/rules/{topic}")] {
        assert_eq!(ways.page(&page).status, 200, "{page}");
    }
    service.done(&["create", "files", &service.rule_named("files", &topic, &to("files"))]);
    service.await_window("files", 1);
    // When its first request was given up, and repeated as long as reads are.
    let has_reason = |shown: &Value| shown["reason"].as_str().is_some_and(|reason| reason.contains("C0303"));
    let shown = service.until_within(3 * PATIENCE, &["show", &topic], has_reason);
    assert!(shown["state"] == "waiting" && shown["help"].is_string(), "{shown}");
    ways.service_mut().stop().assert_code(0);
    gate.open();
    ways.service_mut().start_again(&[]);
    ways.service().await_state(&topic, "running");
    bed.await_committed(&mut [ways.service_mut().process_mut()], PATIENCE);
    bed.assert_complete("after a store that never answered");
}
