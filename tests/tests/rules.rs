//! Rules of a service: created, edited, paused, sealed and deleted while records arrive, and killed; nothing is lost or stored twice.
//!
//! The real binary, a real Kafka, the S3 server of the tests; every action by the command line, which uses the API.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use catchment_tests::bed::{Bed, Place};
use catchment_tests::process::{Exit, Process, Program};
use catchment_tests::services::Kafka;
use serde_json::{Value, json};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service and where its state lies.
struct Service {
    dir: tempfile::TempDir,
    /// None while there is none.
    process: Option<Process>,
    address: String,
    config: PathBuf,
}

impl Service {
    fn start(bed: &Bed) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("catchment.toml");
        let text = format!(
            "[kafka.k]\nbrokers = [\"{}\"]\nproperties = {{ \"session.timeout.ms\" = \"6000\" }}\n[store.s]\nurl = \"{}\"\n",
            bed.broker(),
            bed.place.url("")
        );
        std::fs::write(&config, text).expect("a config file");
        let (process, address) = Self::spawn(dir.path(), &config, bed);
        Self { dir, process: Some(process), address, config }
    }

    fn spawn(dir: &Path, config: &Path, bed: &Bed) -> (Process, String) {
        let state = dir.join("state");
        let mut process = Program::new(["serve", "--listen", "127.0.0.1:0", "--state"])
            .args([&state])
            .args([Path::new("--config"), config])
            .envs(bed.place.environment())
            .spawn();
        let said = process.wait_for_stderr("the API is at ", PATIENCE);
        let address = said.split_once("the API is at ").and_then(|(_, rest)| rest.split_once("/api/v1")).expect("an address").0;
        let address = address.to_owned();
        (process, address)
    }

    /// SIGKILL, and a new process on the same state.
    fn kill_and_start(&mut self, bed: &Bed) {
        self.process.take().expect("it runs").kill();
        let (process, address) = Self::spawn(self.dir.path(), &self.config, bed);
        (self.process, self.address) = (Some(process), address);
    }

    /// A config file with this rule.
    fn rule(&self, bed: &Bed, keys: &str) -> PathBuf {
        let file = self.dir.path().join("rule.toml");
        let text = format!("[rule.{0}]\nsource = {{ topics = [\"{0}\"] }}\ninstance_id = \"none\"\n{keys}\n", bed.topic);
        std::fs::write(&file, text).expect("a config file");
        file
    }

    fn run(&self, args: &[&str]) -> Exit {
        let token = self.dir.path().join("state/token");
        let token = token.to_str().expect("a path in UTF-8");
        Program::new([&["rule"], args, &["--service", &self.address, "--token-file", token]].concat()).run(PATIENCE)
    }

    /// The answer to an action that succeeds.
    fn done(&self, args: &[&str]) -> Value {
        let exit = self.run(args);
        exit.assert_code(0);
        serde_json::from_str(&exit.stdout).unwrap_or(Value::Null)
    }

    /// Waits until a rule is in this state.
    fn await_state(&self, rule: &str, state: &str) -> Value {
        let began = Instant::now();
        loop {
            let shown = self.done(&["show", rule]);
            if shown["state"] == state {
                return shown;
            }
            assert!(began.elapsed() < PATIENCE, "not {state}: {shown}; {}", self.process.as_ref().expect("it runs").stderr());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn bed() -> Bed {
    Bed::new(Kafka::shared().bootstrap(), 2, Place::in_process())
}

const WINDOW: &str = "window = { every = \"1s\" }";

#[test]
fn a_rule_goes_on_over_edits_pauses_seals_and_kills_without_losing_or_repeating_a_record() {
    let mut bed = bed();
    bed.fill(300);
    let mut service = Service::start(&bed);
    let topic = bed.topic.clone();
    let file = service.rule(&bed, WINDOW);
    let file = file.to_str().expect("a path in UTF-8");
    assert_eq!(service.done(&["create", &topic, file])["version"], 1);
    service.await_state(&topic, "running");
    bed.fill(200);
    service.rule(&bed, "window = { every = \"1h\" }");
    let edited = service.done(&["edit", &topic, file, "--version", "1"]);
    assert_eq!(edited["version"], 2);
    bed.fill(200);
    service.await_state(&topic, "running");
    service.kill_and_start(&bed);
    service.await_state(&topic, "running");
    service.done(&["seal", &topic]);
    await_window(&service, &topic, 2);
    service.done(&["pause", &topic]);
    service.await_state(&topic, "paused");
    bed.fill(100);
    service.kill_and_start(&bed);
    assert_eq!(service.await_state(&topic, "paused")["version"], 2, "a pause outlives the process");
    service.rule(&bed, WINDOW);
    service.done(&["edit", &topic, file]);
    service.done(&["resume", &topic]);
    service.await_state(&topic, "running");
    bed.await_committed(&mut [service.process.as_mut().expect("it runs")], PATIENCE);
    bed.assert_complete("by rules");
    let windows = service.done(&["windows", &topic]);
    assert!(!windows.as_array().expect("a list").is_empty());
    assert_eq!(service.done(&["gaps", &topic]), json!([]));
    service.process.take().expect("it runs").terminate(Duration::from_secs(10)).assert_code(0);
}

/// Waits until an object of this version stands.
fn await_window(service: &Service, topic: &str, version: i64) {
    let began = Instant::now();
    loop {
        let windows = service.done(&["windows", topic]);
        if windows.as_array().is_some_and(|windows| windows.iter().any(|window| window["version"] == version)) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "no window of version {version}: {windows}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_rule_that_moves_goes_on_in_the_new_place_also_after_a_restart() {
    let mut bed = bed();
    bed.fill(200);
    let mut service = Service::start(&bed);
    let topic = bed.topic.clone();
    let file = service.rule(&bed, WINDOW);
    let file = file.to_str().expect("a path in UTF-8");
    service.done(&["create", &topic, file]);
    await_window(&service, &topic, 1);
    service.done(&["pause", &topic]);
    service.rule(&bed, &format!("{WINDOW}\nto = {{ prefix = \"moved/\" }}"));
    assert_eq!(service.done(&["edit", &topic, file])["version"], 2);
    service.kill_and_start(&bed);
    service.done(&["resume", &topic]);
    bed.fill(200);
    service.await_state(&topic, "running");
    await_window(&service, &topic, 2);
    bed.await_committed(&mut [service.process.as_mut().expect("it runs")], PATIENCE);
    assert!(!bed.place.data_keys("moved/").is_empty());
    bed.truth().assert_equals(&bed.place.stored(""), "in one of the two places");
    service.rule(&bed, &format!("{WINDOW}\ngroup = \"another\""));
    service.run(&["edit", &topic, file]).assert_code(2);
    assert_eq!(service.done(&["show", &topic])["version"], 2);
}

#[test]
fn what_is_wrong_is_refused_with_its_code_and_changes_nothing() {
    let bed = bed();
    let service = Service::start(&bed);
    let refused = |args: &[&str], code: i32, words: &[&str]| {
        let exit = service.run(args);
        exit.assert_code(code);
        for word in words {
            assert!(exit.stderr.contains(word), "no {word:?} in {}", exit.stderr);
        }
    };
    refused(&["show", "none"], 3, &["C0602", "help:"]);
    let file = service.rule(&bed, "window = { every = \"3d\" }");
    let file = file.to_str().expect("a path in UTF-8");
    refused(&["create", &bed.topic, file], 2, &["C0106", "help:"]);
    service.rule(&bed, WINDOW);
    assert_eq!(service.done(&["list", "--json"]), json!([]));
    service.done(&["create", &bed.topic, file]);
    refused(&["create", &bed.topic, file], 2, &["C0603"]);
    service.rule(&bed, "window = { every = \"2s\" }");
    refused(&["edit", &bed.topic, file, "--version", "7"], 2, &["C0604"]);
    assert_eq!(service.done(&["show", &bed.topic])["version"], 1);
    let state = service.dir.path().join("state");
    let second = Program::new(["serve", "--listen", "127.0.0.1:0", "--state"]).args([&state]).run(PATIENCE);
    assert!(second.code() != Some(0) && second.stderr.contains("C0601"), "two services on one state: {}", second.stderr);
    let stranger = service.dir.path().join("stranger");
    std::fs::write(&stranger, "x").expect("a file");
    let stranger = stranger.to_str().expect("a path in UTF-8");
    let exit = Program::new(["rule", "list", "--service", &service.address, "--token-file", stranger]).run(PATIENCE);
    exit.assert_code(1);
    assert!(exit.stderr.contains("C0606"), "{}", exit.stderr);
    service.done(&["delete", &bed.topic]);
    assert_eq!(service.done(&["list", "--json"]), json!([]));
}

#[test]
fn a_rule_whose_topic_or_store_is_missing_says_so_and_holds_up_no_other() {
    let mut bed = bed();
    bed.fill(50);
    let service = Service::start(&bed);
    let file = service.dir.path().join("missing.toml");
    std::fs::write(&file, "[rule.missing]\nsource = { topics = [\"no-such-topic\"] }\ninstance_id = \"none\"\n").expect("a config file");
    service.done(&["create", "missing", file.to_str().expect("a path in UTF-8")]);
    let file = service.rule(&bed, WINDOW);
    service.done(&["create", &bed.topic, file.to_str().expect("a path in UTF-8")]);
    let shown = service.await_state("missing", "source-missing");
    assert!(shown["reason"].as_str().is_some_and(|reason| reason.contains("C0203")), "{shown}");
    service.await_state(&bed.topic, "running");
    let log = service.done(&["log", "missing"]);
    assert!(log.as_array().is_some_and(|lines| lines.iter().any(|line| line["code"] == "C0203")), "{log}");
}
