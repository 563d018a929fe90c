//! Every action on rules, connections and stores by the command line, and what comes of it: the real binary, a real Kafka, the S3 server of the tests.

use std::time::{Duration, Instant};

use catchment_tests::bed::{Bed, Place};
use catchment_tests::process::Process;
use catchment_tests::rules_service::{self, PATIENCE, RulesService, WINDOW, config_of};
use catchment_tests::s3::{Config, Logged, Op, Personality};
use catchment_tests::services::Kafka;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

fn bed() -> Bed {
    Bed::new(Kafka::shared().bootstrap(), 2, Place::in_process())
}

/// A bed, a service, and a rule that has stored 120 records.
fn stored() -> (Bed, RulesService, String) {
    rules_service::stored(bed(), 120, &[])
}

fn names(list: &Value, key: &str) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|item| item[key].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_rule_is_verified_and_damage_is_told() {
    let (bed, service, topic) = stored();
    let sound = service.done(&["verify", &topic, "--compare"]);
    assert_eq!((&sound["state"], &sound["report"]["compared"], &sound["report"]["gaps"]), (&json!("sound"), &json!(120), &json!([])));
    let key = bed.place.data_keys("").into_iter().next().expect("an object");
    bed.place.put(&key, b"no parquet".to_vec());
    let exit = service.run(&["verify", &topic]);
    exit.assert_code(4);
    let found: Value = serde_json::from_str(&exit.stdout).expect("a report");
    assert_eq!(found["state"], "damaged", "{found}");
    assert!(found["report"]["damage"].as_array().is_some_and(|damage| damage.iter().any(|d| d["key"].as_str() == Some(&key))), "{found}");
    assert_eq!(service.done(&["show", &topic])["state"], "running", "a verification changes nothing");
}

#[test]
fn versions_are_rolled_back_and_rules_are_cloned() {
    let (bed, service, topic) = stored();
    service.done(&["edit", &topic, &service.rule(&bed, "window = { every = \"7s\" }")]);
    let back = service.done(&["rollback", &topic, "1"]);
    assert_eq!((&back["version"], &back["body"]["window"]["every"]), (&json!(3), &json!("1s")));
    service.run(&["rollback", &topic, "9"]).assert_code(3);
    assert_eq!(service.done(&["versions", &topic]).as_array().map(Vec::len), Some(3));
    let exit = service.run(&["clone", &topic, "copy"]);
    exit.assert_code(2);
    assert!(exit.stderr.contains("C0615"), "the same topic in the same directory: {}", exit.stderr);
    let file = service.rule_named("copy", &topic, "to = { prefix = \"copy/\" }\nwindow = { every = \"1s\" }");
    let copy = service.done(&["clone", &topic, "copy", &file]);
    assert_eq!((&copy["name"], &copy["version"], &copy["body"]["to"]["prefix"]), (&json!("copy"), &json!(1), &json!("copy/")));
    service.await_window("copy", 1);
    let audit = service.done(&["audit", &topic]);
    let edits: Vec<&Value> = audit.as_array().into_iter().flatten().filter(|entry| entry["action"] == "edit").collect();
    assert_eq!(edits.len(), 2, "{audit}");
    assert!(edits.iter().all(|edit| edit["detail"].as_str().is_some_and(|detail| detail.contains("window.every"))), "{audit}");
}

#[test]
fn what_a_rule_does_is_explained_and_its_files_are_listed() {
    let (bed, service, topic) = stored();
    let explained = service.done(&["explain", &topic]);
    assert_eq!(explained["topics"], json!([{ "name": topic, "partitions": 2 }]));
    assert_eq!(explained["group"], format!("catchment-{topic}"));
    assert!(explained["example_keys"][0].as_str().is_some_and(|key| key.starts_with(&format!("{topic}/dt="))), "{explained}");
    assert!(explained["toml"].as_str().is_some_and(|toml| toml.contains("every = \"1s\"")), "{explained}");
    let files = service.done(&["files", &topic]);
    assert!(
        names(&json!([]), "").is_empty() && files["directories"].as_array().is_some_and(|d| d.contains(&json!(format!("{topic}/")))),
        "{files}"
    );
    let mut directory = format!("{topic}/");
    for _ in 0..2 {
        let page = service.done(&["files", &topic, &directory]);
        directory = page["directories"][0].as_str().expect("a directory by date, then by hour").to_owned();
    }
    let keys = names(&service.done(&["files", &topic, &directory])["objects"], "key");
    assert!(!keys.is_empty());
    assert!(keys.iter().all(|key| bed.place.data_keys("").contains(key)), "{keys:?}");
}

#[test]
fn a_rule_that_is_deleted_and_created_again_at_once_runs_once() {
    let (bed, service, topic) = stored();
    let file = service.rule(&bed, WINDOW);
    for _ in 0..3 {
        std::thread::scope(|scope| {
            let deleting = scope.spawn(|| service.run(&["delete", &topic]));
            // Refused while the old one stands; afterwards it waits for its end.
            while service.run(&["create", &topic, &file]).code() != Some(0) {}
            deleting.join().expect("it ends").assert_code(0);
        });
        service.await_state(&topic, "running");
    }
    service.done(&["pause", &topic]);
    service.await_state(&topic, "paused");
    // Refused while a run that nobody knows of is a member.
    bed.admin.delete_group(&format!("catchment-{topic}"));
}

#[test]
fn a_deletion_ends_the_uploads_that_a_killed_service_has_left() {
    // A service that lists uploads by a prefix.
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::in_process_like(Config::new(Personality::Aws)));
    bed.fill_large(300);
    let mut service = RulesService::start(&bed);
    let topic = bed.topic.clone();
    service.done(&["create", &topic, &service.rule(&bed, "window = { every = \"1h\" }")]);
    let is_of_data = |part: &Logged| part.op == Op::UploadPart && part.status == 200 && !part.key.contains("_catchment/");
    let began = Instant::now();
    while !bed.place.server().state().log().iter().any(is_of_data) {
        assert!(began.elapsed() < PATIENCE, "no part was uploaded: {}", service.process_mut().stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
    service.kill();
    // Nobody runs the rule again, or its lane would clean up behind itself; and what is left is too old to be somebody's.
    service.start_again(&["--no-run"]);
    bed.place.server().state().backdate_uploads(Duration::from_secs(3 * 3600));
    let left: Vec<String> = bed.place.open_uploads().into_iter().map(|(_, id)| id).collect();
    assert!(!left.is_empty(), "who is killed leaves an upload");
    service.done(&["delete", &topic]);
    // The group goes when the session of the killed member has ended; the uploads after it.
    let released =
        service.until(&["audit", &topic], |audit| last_release(audit).is_some_and(|release| release["left_behind"] == json!([])));
    let gone = &last_release(&released).expect("what became of it")["gone"];
    assert!(gone.to_string().contains("unfinished uploads of topic"), "{gone}");
    assert_eq!(bed.place.open_uploads(), []);
    let aborted = bed.place.server().state().log().into_iter().filter(|logged| logged.op == Op::AbortMultipartUpload);
    let aborted: Vec<String> = aborted.filter_map(|logged| logged.upload).collect();
    assert!(left.iter().all(|id| aborted.contains(id)), "{left:?} {aborted:?}");
}

/// What the audit says last of what a deleted rule gave up.
fn last_release(audit: &Value) -> Option<Value> {
    let releases = audit.as_array().into_iter().flatten().filter(|entry| entry["action"] == "release");
    let latest = releases.max_by_key(|entry| entry["at_ms"].as_i64())?;
    serde_json::from_str(latest["detail"].as_str()?).ok()
}

#[test]
fn sets_of_rules_are_compared_and_applied() {
    let (bed, service, topic) = stored();
    let file = service.dir().join("set.toml");
    let set = format!(
        "[rule.{topic}]\nsource = {{ topics = [\"{topic}\"] }}\ninstance_id = \"none\"\nwindow = {{ every = \"2s\" }}\n\
         [rule.second]\nsource = {{ topics = [\"{topic}\"] }}\ninstance_id = \"none\"\nto = {{ prefix = \"second/\" }}\n"
    );
    std::fs::write(&file, set).expect("a config file");
    let file = file.to_str().expect("a path in UTF-8");
    let told = service.done(&["diff", file]);
    assert_eq!(names(&told, "action"), ["create", "edit"], "{told}");
    let edit = &told.as_array().expect("a list")[1];
    assert_eq!(edit["differences"], json!([{ "key": "window.every", "before": "1s", "after": "2s" }]));
    assert_eq!(names(&service.done(&["list", "--json"]), "name"), [topic.as_str()], "a diff changes nothing");
    assert_eq!(names(&service.done(&["apply", file]), "action"), ["create", "edit"]);
    assert_eq!(names(&service.done(&["apply", file]), "action"), ["keep", "keep"]);
    service.await_state("second", "running");
    let only = service.rule(&bed, "window = { every = \"2s\" }");
    assert_eq!(names(&service.done(&["apply", &only, "--prune"]), "action"), ["keep", "delete"]);
    assert_eq!(names(&service.done(&["list", "--json"]), "name"), [topic.as_str()]);
    std::fs::write(
        file,
        "[rule.bad]\nsource = { topics = [\"x\"] }\nwindow = { every = \"3d\" }\n[rule.good]\nsource = { topics = [\"y\"] }\n",
    )
    .expect("a config file");
    let exit = service.run(&["apply", file]);
    exit.assert_code(2);
    assert!(exit.stderr.contains("C0106"), "{}", exit.stderr);
    assert_eq!(names(&service.done(&["list", "--json"]), "name"), [topic.as_str()], "all or none");
}

#[test]
fn connections_and_stores_are_created_tried_and_forgotten() {
    let mut bed = bed();
    bed.fill(40);
    let service = RulesService::start(&bed);
    let file = service.dir().join("more.toml");
    let text = format!(
        "[kafka.more]\nbrokers = [\"{}\"]\nproperties = {{ \"ssl.key.password\" = \"hush-canary\" }}\n[kafka.none]\nbrokers = [\"127.0.0.1:1\"]\n\
         [store.here]\nurl = \"file://{}/\"\n",
        bed.broker(),
        service.dir().join("objects").display()
    );
    std::fs::write(&file, text).expect("a config file");
    let file = file.to_str().expect("a path in UTF-8");
    let made = service.run(&["create-source", "more", file]);
    made.assert_code(0);
    assert!(!made.stdout.contains("hush-canary") && !service.run(&["sources"]).stdout.contains("hush-canary"), "{}", made.stdout);
    service.run(&["create-source", "more", file]).assert_code(2);
    assert_eq!(names(&service.done(&["sources"]), "name"), ["k", "more"]);
    let reached = service.done(&["test-source", "more"]);
    assert!(reached["topics"].as_u64().is_some_and(|topics| topics >= 1) && reached["cluster"].is_string(), "{reached}");
    service.done(&["create-source", "none", file]);
    service.run(&["test-source", "none"]).assert_code(1);
    assert_eq!(service.done(&["topics", "more", &bed.topic]), json!([{ "name": bed.topic, "partitions": 2 }]));
    assert_eq!(names(&service.done(&["topics", "more", &format!("^{}$", bed.topic)]), "name"), [bed.topic.as_str()]);
    service.done(&["create-store", "here", file]);
    let probed = service.done(&["probe-store", "here"]);
    assert_eq!((&probed["put"], &probed["complete"]), (&json!("A"), &json!("A")), "{probed}");
    assert!(probed["permissions"].as_array().is_some_and(|all| all.len() == 9 && all.iter().all(|p| p["allowed"] == true)), "{probed}");
    let rule = service.rule(&bed, "to = { store = \"here\" }\nwindow = { every = \"1s\" }");
    let rule = std::fs::read_to_string(&rule).expect("the rule").replace("topics", "kafka = \"more\", topics");
    std::fs::write(service.dir().join("rule.toml"), rule).expect("a config file");
    service.done(&["create", &bed.topic, service.dir().join("rule.toml").to_str().expect("a path in UTF-8")]);
    let exit = service.run(&["delete-store", "here"]);
    exit.assert_code(2);
    assert!(exit.stderr.contains("C0618") && exit.stderr.contains(&bed.topic), "{}", exit.stderr);
    service.await_window(&bed.topic, 1);
    service.done(&["delete", &bed.topic]);
    for action in [["delete-store", "here"], ["delete-source", "more"], ["delete-source", "none"]] {
        service.done(&action);
    }
    service.run(&["delete-source", "k"]).assert_code(3);
    assert_eq!(names(&service.done(&["sources"]), "name"), ["k"]);
}

/// Has a service read its files again.
fn hang_up(process: &Process) {
    kill(Pid::from_raw(process.pid()), Signal::SIGHUP).expect("it lives");
}

/// What the audit says that somebody has done, newest first: the action and its detail.
fn done_by(audit: &Value, who: &str) -> Vec<(String, Value)> {
    let of_them = audit.as_array().into_iter().flatten().filter(|entry| entry["who"] == who);
    let detail = |entry: &Value| -> Value { serde_json::from_str(entry["detail"].as_str().unwrap_or("null")).unwrap_or_default() };
    of_them.map(|entry| (entry["action"].as_str().expect("an action").to_owned(), detail(entry))).collect()
}

#[test]
fn what_a_hangup_changes_of_connections_stands_in_the_audit_without_their_secrets() {
    let bed = bed();
    let config = |password: &str, store: &str| {
        let login = format!("{{ mechanism = \"PLAIN\", username = \"u\", password = \"{password}\" }}");
        format!("{}[kafka.l]\nbrokers = [\"h:1\"]\nsasl = {login}\n[store.{store}]\nurl = \"file:///{store}/\"\n", config_of(&bed))
    };
    let mut service = RulesService::start_on(&config("hush-canary-1", "old"), &bed, &[]);
    assert!(done_by(&service.done(&["audit"]), "file").is_empty(), "what a service begins with is no change");
    std::fs::write(service.config(), config("hush-canary-2", "new")).expect("a config file");
    hang_up(service.process_mut());
    let audit = service.until(&["audit"], |audit| done_by(audit, "file").len() == 3);
    let changed = |name: &str, key: &str, before: Value, after: Value| {
        let difference = json!({ "key": key, "before": before, "after": after });
        json!({ "name": name, "differences": [difference] })
    };
    let wanted = [
        ("forget store".to_owned(), changed("old", "url", json!("file:///old/"), Value::Null)),
        ("define store".to_owned(), changed("new", "url", Value::Null, json!("file:///new/"))),
        ("redefine kafka".to_owned(), changed("l", "sasl.password", json!("***"), json!("***"))),
    ];
    assert_eq!(done_by(&audit, "file"), wanted);
    assert!(!audit.to_string().contains("hush-canary"), "{audit}");
    std::fs::write(service.config(), config("hush-canary-2", "old")).expect("a config file");
    hang_up(service.process_mut());
    let audit = service.until(&["audit"], |audit| done_by(audit, "file").len() > 3);
    let actions: Vec<String> = done_by(&audit, "file").into_iter().map(|(action, _)| action).collect();
    assert_eq!(
        actions,
        ["define store", "forget store", "forget store", "define store", "redefine kafka"],
        "what differs from the last reading"
    );
}

#[test]
fn rules_of_files_are_taken_over_at_a_hangup_and_changed_nowhere_else() {
    let mut bed = bed();
    bed.fill(30);
    let mut service = RulesService::start(&bed);
    let rules = service.dir().join("rules.d");
    std::fs::create_dir(&rules).expect("a directory");
    let write = |every: &str| {
        let text = format!(
            "[rule.of-file]\nsource = {{ topics = [\"{}\"] }}\ninstance_id = \"none\"\nwindow = {{ every = \"{every}\" }}\n",
            bed.topic
        );
        std::fs::write(rules.join("a.toml"), text).expect("a rule");
    };
    write("1s");
    hang_up(service.process_mut());
    service.until(&["list", "--json"], |rules| names(rules, "name") == ["of-file"]);
    service.await_state("of-file", "running");
    service.await_window("of-file", 1);
    let file = service.rule_named("of-file", &bed.topic, "window = { every = \"9s\" }");
    for args in [vec!["edit", "of-file", &file], vec!["delete", "of-file"]] {
        let exit = service.run(&args);
        exit.assert_code(2);
        assert!(exit.stderr.contains("C0614"), "{}", exit.stderr);
    }
    service.done(&["pause", "of-file"]);
    write("3s");
    hang_up(service.process_mut());
    let edited = service.until(&["show", "of-file"], |rule| rule["version"] == 2);
    assert_eq!((&edited["state"], &edited["origin"]), (&json!("paused"), &json!("file")));
    write("3d");
    hang_up(service.process_mut());
    service.process_mut().wait_for_stderr("C0106", PATIENCE);
    assert_eq!(service.done(&["show", "of-file"])["version"], 2, "what is wrong changes nothing");
    service.done(&["resume", "of-file"]);
    std::fs::remove_file(rules.join("a.toml")).expect("it is there");
    hang_up(service.process_mut());
    // It is an orphan first, and then its run ends.
    let orphan = service.until(&["show", "of-file"], |rule| rule["origin"] == "orphan" && rule["state"] == "paused");
    assert_eq!(orphan["wanted"], json!("running"));
    write("3s");
    hang_up(service.process_mut());
    service.until(&["show", "of-file"], |rule| rule["origin"] == "file" && rule["state"] == "running");
    std::fs::remove_file(rules.join("a.toml")).expect("it is there");
    hang_up(service.process_mut());
    service.until(&["show", "of-file"], |rule| rule["origin"] == "orphan");
    service.done(&["delete", "of-file"]);
    assert_eq!(service.done(&["list", "--json"]), json!([]));
    let by_file = done_by(&service.done(&["audit", "of-file"]), "file");
    let actions: Vec<&str> = by_file.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(actions, ["orphan", "take over", "orphan", "edit", "create"]);
    assert_eq!(by_file[3].1, json!([{ "key": "window.every", "before": "1s", "after": "3s" }]));
    assert!(!bed.place.data_keys("").is_empty(), "its objects stay");
}

#[test]
fn a_log_is_followed_and_a_state_is_copied_and_put_back() {
    let (_bed, mut service, topic) = stored();
    let follower = service.command(&["log", &topic, "--follow"]).spawn();
    let began = Instant::now();
    while !follower.stdout().contains("running: 1 topic(s)") {
        assert!(began.elapsed() < PATIENCE, "nothing was followed: {}", follower.stderr());
        service.done(&["pause", &topic]);
        service.done(&["resume", &topic]);
        service.await_state(&topic, "running");
    }
    follower.kill();
    let copied = service.done(&["copy-state"]);
    let copy = copied["file"].as_str().expect("a file").to_owned();
    service.done(&["delete", &topic]);
    assert_eq!(service.done(&["list", "--json"]), json!([]));
    service.stop().assert_code(0);
    service.start_again(&["--restore", &copy]);
    assert_eq!(names(&service.done(&["list", "--json"]), "name"), [topic.as_str()]);
    service.await_state(&topic, "running");
}
