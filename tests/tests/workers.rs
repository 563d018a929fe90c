//! Workers of a service: killed, cut off and started again, with the service away and back; nothing is lost or stored twice, and the service knows of all of it.
//!
//! The real binary, a real Kafka, the S3 server of the tests. Each worker reaches the service through a proxy of its own, and the store directly; so it does
//! Kafka, but for the worker that is cut off from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use catchment_tests::bed::{Bed, Place};
use catchment_tests::generate::{Codec, Profile, RecordProducer};
use catchment_tests::openmetrics::{page, scrape};
use catchment_tests::process::{Exit, Process, Program};
use catchment_tests::proxy::Proxy;
use catchment_tests::rules_service::{PATIENCE, RulesService, WINDOW};
use catchment_tests::services::{Kafka, KafkaOptions};
use serde_json::{Value, json};

const PARTITIONS: i32 = 6;

fn bed() -> Bed {
    Bed::new(Kafka::shared().bootstrap(), PARTITIONS, Place::in_process())
}

/// A worker, its state and its way to the service.
struct Worker {
    name: &'static str,
    dir: tempfile::TempDir,
    token: PathBuf,
    proxy: Proxy,
    environment: Vec<(String, String)>,
    /// None while there is none.
    process: Option<Process>,
}

impl Worker {
    fn start(service: &RulesService, bed: &Bed, name: &'static str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (proxy, environment) = (Proxy::start(service.address()), bed.place.environment());
        let mut worker = Self { name, dir, token: service.token_file(), proxy, environment, process: None };
        worker.start_again();
        worker.process_mut().wait_for_stderr("joined as", PATIENCE);
        worker
    }

    fn program(&self, state: &Path) -> Program {
        let join = format!("http://{}", self.proxy.address());
        let program = Program::new(["worker", "--join", &join, "--name", self.name, "--state"]);
        let program = program.args([state, Path::new("--token-file"), &self.token]).args(["--metrics", "127.0.0.1:0"]);
        program.envs(self.environment.clone())
    }

    fn start_again(&mut self) {
        self.process = Some(self.program(self.dir.path()).spawn());
    }

    fn process_mut(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    fn stop(&mut self) -> Exit {
        self.process.take().expect("it runs").terminate(Duration::from_secs(15))
    }

    /// Everything that lies in its state directory.
    fn state(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.dir.path()).expect("a directory").flatten();
        files.flat_map(|file| std::fs::read(file.path()).unwrap_or_default()).collect()
    }
}

/// Records that arrive in every partition, 20 ms of record time apart, about as fast as that, until it is ended.
struct Load {
    ended: Arc<AtomicBool>,
    sender: Option<JoinHandle<()>>,
}

impl Load {
    fn on(bed: &Bed) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (topic, broker, shared) = (bed.topic.clone(), bed.broker().to_owned(), Arc::clone(&ended));
        let sender = std::thread::spawn(move || {
            let (producer, profile) = (RecordProducer::new(&broker, Codec::Lz4), Profile::plain());
            for sequence in 0.. {
                if shared.load(Ordering::Relaxed) {
                    return;
                }
                for partition in 0..PARTITIONS {
                    producer.send(&topic, partition, &profile.record(11, &topic, partition, sequence));
                }
                producer.flush();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { ended, sender: Some(sender) }
    }

    fn end(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            sender.join().expect("every record is taken");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// All windows that the service knows of.
fn windows(service: &RulesService, rule: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let before = all.last().map(|window| format!("&before={}", window["id"])).unwrap_or_default();
        let (status, page) = service.call(&format!("GET /rules/{rule}/windows?limit=1000{before}"), &Value::Null);
        assert_eq!(status, 200, "{page}");
        let page = page.as_array().cloned().expect("a list");
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// The partitions whose windows each worker has reported since there were so many.
fn partitions(service: &RulesService, rule: &str, since: usize) -> BTreeMap<String, BTreeSet<i64>> {
    let mut found: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    let all = windows(service, rule);
    for window in &all[..all.len().saturating_sub(since)] {
        let worker = window["worker"].as_str().unwrap_or("the service").to_owned();
        found.entry(worker).or_default().insert(window["partition"].as_i64().expect("a number"));
    }
    found
}

#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> Result<(), String>) {
    let began = Instant::now();
    while let Err(lacking) = is_so() {
        assert!(began.elapsed() < 2 * PATIENCE, "{what}: {lacking}");
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// Where the group stands, over all partitions.
fn committed(bed: &Bed) -> i64 {
    (0..PARTITIONS)
        .filter_map(|partition| bed.admin.group_offset(&bed.group(), &bed.topic, partition))
        .map(|found| found.offset.max(0))
        .sum()
}

/// Closes all open windows. A partition that moves from one process to another between their seals is closed by the next one.
fn seal_until_all_is_stored(service: &RulesService, bed: &Bed) {
    let mut looks = 0;
    until("a seal has closed all windows", || {
        if looks % 40 == 0 {
            service.done(&["seal", &bed.topic]);
        }
        looks += 1;
        let (now, end) = (committed(bed), (0..PARTITIONS).map(|partition| bed.admin.log_range(&bed.topic, partition).1).sum::<i64>());
        if now >= end { Ok(()) } else { Err(format!("{now} of {end}")) }
    });
}

/// What the service says of a worker.
fn worker_of(service: &RulesService, name: &str) -> Value {
    let workers = service.done(&["workers"]);
    workers.as_array().into_iter().flatten().find(|worker| worker["name"] == name).cloned().unwrap_or_default()
}

/// Waits until a worker has stored more. What it had stored before, and reports now, does not count.
fn await_more_windows(service: &RulesService, rule: &str, worker: &str) {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let is_more = |window: &Value| window["worker"] == worker && window["at_ms"].as_i64().is_some_and(|at| at > now_ms);
    until("it has windows again", || if windows(service, rule).iter().any(is_more) { Ok(()) } else { Err(format!("none since {now_ms}")) });
}

#[test]
fn three_workers_one_killed_one_cut_off_and_the_service_killed_lose_nothing_and_repeat_nothing() {
    let bed = bed();
    let mut service = RulesService::start_with(&bed, &["--no-run"]);
    let topic = bed.topic.clone();
    let [mut one, mut two, mut three] = ["one", "two", "three"].map(|name| Worker::start(&service, &bed, name));
    let mut load = Load::on(&bed);
    service.done(&["create", &topic, &service.rule(&bed, WINDOW)]);
    until("all three have windows", || {
        let found = partitions(&service, &topic, 0);
        if found.len() == 3 { Ok(()) } else { Err(format!("{found:?}")) }
    });
    one.kill();
    two.proxy.hang();
    let known = windows(&service, &topic).len();
    until("the third one has taken over some of the first one's partitions", || {
        let found = partitions(&service, &topic, known).remove("three").unwrap_or_default();
        if found.len() >= 3 { Ok(()) } else { Err(format!("{found:?}")) }
    });
    service.kill();
    one.start_again();
    one.process_mut().wait_for_stderr("the server is away, so 1 rule(s) run", PATIENCE);
    let then = committed(&bed);
    until("workers go on without the service", || {
        let now = committed(&bed);
        if now > then + 500 { Ok(()) } else { Err(format!("{then}, {now}")) }
    });
    service.start_again(&["--no-run"]);
    for worker in [&one, &two, &three] {
        worker.proxy.lead_to(service.address());
    }
    two.proxy.cut();
    two.proxy.resume();
    let known = windows(&service, &topic).len();
    until("windows of all three arrive again", || {
        let found = partitions(&service, &topic, known);
        if found.len() == 3 { Ok(()) } else { Err(format!("{found:?}")) }
    });
    // Away from everything, with windows open, and back past its session: what it goes on with is somebody else's.
    three.process_mut().freeze();
    let known = windows(&service, &topic).len();
    until("the others have all of its partitions", || {
        let others: BTreeSet<i64> =
            partitions(&service, &topic, known).into_iter().filter(|(name, _)| name != "three").flat_map(|(_, of)| of).collect();
        if others.len() == PARTITIONS as usize { Ok(()) } else { Err(format!("{others:?}")) }
    });
    three.process_mut().thaw();
    await_more_windows(&service, &topic, "three");
    load.end();
    bed.await_committed(&mut [one.process_mut(), two.process_mut(), three.process_mut()], 2 * PATIENCE);
    for worker in [&mut one, &mut two, &mut three] {
        worker.stop().assert_code(0);
    }
    bed.assert_complete("by three workers");
    assert_windows_are_known(&bed, &service, &topic);
    assert_eq!(service.done(&["gaps", &topic]), json!([]));
    for name in ["one", "two", "three"] {
        assert_eq!(worker_of(&service, name)["lost"], 0, "{name}");
    }
}

/// A broker that advertises a proxy, so that all clients come by it.
fn kafka_behind_a_proxy() -> (Kafka, Proxy) {
    // Where the broker listens is not known before it does.
    let proxy = Proxy::start("127.0.0.1:1");
    let advertised = ("advertised.listeners".to_owned(), format!("PLAINTEXT://{}", proxy.address()));
    let kafka = Kafka::start(KafkaOptions { properties: vec![advertised], ..KafkaOptions::default() });
    proxy.lead_to(kafka.bootstrap());
    (kafka, proxy)
}

/// Its service and its store answer it: it says what it lacks, and might publish what is somebody else's by now.
#[test]
fn a_worker_that_is_cut_off_from_kafka_alone_says_so_and_another_takes_over() {
    let (_kafka, proxy) = kafka_behind_a_proxy();
    let bed = Bed::new(&proxy.address(), PARTITIONS, Place::in_process());
    let service = RulesService::start_with(&bed, &["--no-run"]);
    let topic = bed.topic.clone();
    let [mut one, mut two] = ["one", "two"].map(|name| Worker::start(&service, &bed, name));
    let mut load = Load::on(&bed);
    service.done(&["create", &topic, &service.rule(&bed, WINDOW)]);
    until("both have windows", || {
        let found = partitions(&service, &topic, 0);
        if found.len() == 2 { Ok(()) } else { Err(format!("{found:?}")) }
    });
    proxy.strand(two.process_mut().pid());
    let known = windows(&service, &topic).len();
    until("the other one has all partitions", || {
        let found = partitions(&service, &topic, known).remove("one").unwrap_or_default();
        if found.len() == PARTITIONS as usize { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let does_say_so =
        |reason: &Value, who: &str| reason.as_str().is_some_and(|why| why.starts_with(&format!("{who}Kafka does not answer: ")));
    until("the service knows that it is there, and why it does nothing", || {
        let (worker, shown) = (worker_of(&service, "two"), service.done(&["show", &topic]));
        let rule = &worker["rules"][&topic];
        let is_told = worker["present"] == true && rule["state"] == "degraded" && does_say_so(&rule["reason"], "");
        let is_shown = shown["state"] == "degraded" && does_say_so(&shown["reason"], "worker two: ");
        if is_told && is_shown { Ok(()) } else { Err(format!("{worker} {shown}")) }
    });
    proxy.resume();
    await_more_windows(&service, &topic, "two");
    until("all is well again", || {
        let shown = service.done(&["show", &topic]);
        if shown["state"] == "running" { Ok(()) } else { Err(shown.to_string()) }
    });
    load.end();
    bed.await_committed(&mut [one.process_mut(), two.process_mut()], 2 * PATIENCE);
    for worker in [&mut one, &mut two] {
        worker.stop().assert_code(0);
    }
    bed.assert_complete("by two workers, one of them cut off from Kafka for longer than its session");
    assert_windows_are_known(&bed, &service, &topic);
    assert_eq!(service.done(&["gaps", &topic]), json!([]));
}

/// Each object is a window of the log, once. What was committed in the moment of the kill may lack: one window of each partition of the worker that was killed.
fn assert_windows_are_known(bed: &Bed, service: &RulesService, rule: &str) {
    let objects: BTreeSet<String> = bed.place.data_keys("").into_iter().collect();
    let listed = windows(service, rule);
    let key = |window: &Value| window["key"].as_str().expect("a key").to_owned();
    let known: BTreeSet<String> = listed.iter().map(key).collect();
    assert_eq!(known.len(), listed.len(), "a window stands twice in the log");
    let foreign: Vec<&String> = known.iter().filter(|key| !objects.iter().any(|object| object.ends_with(key.as_str()))).collect();
    assert!(foreign.is_empty(), "windows without an object: {foreign:?}");
    let missing: Vec<&String> = objects.iter().filter(|object| !known.iter().any(|key| object.ends_with(key.as_str()))).collect();
    assert!(missing.len() <= 3, "objects that the log does not know: {missing:?}");
}

#[test]
fn a_worker_that_starts_while_the_service_is_away_goes_on() {
    let mut bed = bed();
    bed.fill(120);
    let mut service = RulesService::start_with(&bed, &["--no-run"]);
    let topic = bed.topic.clone();
    let shown = {
        service.done(&["create", &topic, &service.rule(&bed, WINDOW)]);
        service.await_state(&topic, "waiting")
    };
    assert_eq!(shown["reason"], "no worker runs it", "{shown}");
    let mut worker = Worker::start(&service, &bed, "one");
    service.await_state(&topic, "running");
    bed.await_committed(&mut [worker.process_mut()], PATIENCE);
    service.kill();
    worker.kill();
    bed.fill(180);
    worker.start_again();
    bed.await_committed(&mut [worker.process_mut()], PATIENCE);
    let metrics = scrape(worker.process_mut());
    let written = format!("catchment_records_written_total{{rule=\"{topic}\"");
    assert!(metrics.lines().any(|line| line.starts_with(&written)) && metrics.contains("catchment_rule_state"), "{metrics}");
    for probe in ["/livez", "/readyz"] {
        assert_eq!(page(worker.process_mut(), probe), (200, "ok".to_owned()), "without its service, too: {probe}");
    }
    service.start_again(&["--no-run"]);
    worker.proxy.lead_to(service.address());
    until("what was stored meanwhile is known", || {
        let records: i64 = windows(&service, &topic).iter().map(|window| window["records"].as_i64().expect("a number")).sum();
        if records == 300 { Ok(()) } else { Err(format!("{records} of 300 records")) }
    });
    let shown = service.await_state(&topic, "running");
    assert_eq!(shown["workers"]["one"]["version"], 1, "{shown}");
    bed.assert_complete("by a worker without its service");
    worker.stop().assert_code(0);
    service.stop().assert_code(0);
}

/// A config file with a rule whose processes keep their partitions over a seal: static members, by the slots of this machine.
fn static_rule(service: &RulesService, name: &str, keys: &str) -> String {
    let file = service.dir().join("static.toml");
    std::fs::write(&file, format!("[rule.{name}]\nsource = {{ topics = [\"{name}\"] }}\n{keys}\n")).expect("a config file");
    file.to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn pauses_edits_seals_and_deletions_reach_workers_beside_a_service_that_runs_the_rule_too() {
    let mut bed = bed();
    bed.fill(200);
    let mut service = RulesService::start(&bed);
    let topic = bed.topic.clone();
    let file = static_rule(&service, &topic, WINDOW);
    service.done(&["create", &topic, &file]);
    let mut worker = Worker::start(&service, &bed, "one");
    service.until(&["show", &topic], |shown| shown["state"] == "running" && shown["workers"]["one"]["state"] == "running");
    service.done(&["pause", &topic]);
    let paused = service.await_state(&topic, "paused");
    assert_eq!(paused["workers"]["one"]["state"], "paused", "{paused}");
    let then = committed(&bed);
    bed.fill(300);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(committed(&bed), then, "somebody reads a rule that is paused");
    static_rule(&service, &topic, "window = { every = \"1h\" }");
    assert_eq!(service.done(&["edit", &topic, &file])["version"], 2);
    service.done(&["resume", &topic]);
    let both = |shown: &Value| {
        shown["state"] == "running" && shown["workers"]["one"]["version"] == 2 && shown["workers"]["one"]["state"] == "running"
    };
    service.until(&["show", &topic], both);
    until("both read some of the partitions", || {
        let lanes = service.done(&["show", &topic])["workers"]["one"]["lanes"].as_array().map_or(0, Vec::len);
        if (1..PARTITIONS as usize).contains(&lanes) { Ok(()) } else { Err(format!("the worker reads {lanes}")) }
    });
    // Windows of an hour stay open until they are sealed, at the worker too.
    std::thread::sleep(Duration::from_secs(3));
    seal_until_all_is_stored(&service, &bed);
    // Whose seal closes a window is chance: what one has open may go to the other before it hears of the seal. So until the worker has closed one.
    let mut looks = 0;
    until("the worker's windows of the new version are known", || {
        looks += 1;
        if looks % 40 == 0 {
            bed.fill(60);
            std::thread::sleep(Duration::from_secs(2));
            service.done(&["seal", &topic]);
        }
        let all = windows(&service, &topic);
        let of_worker = |window: &Value| window["worker"] == "one" && window["version"] == 2;
        if all.iter().any(of_worker) { Ok(()) } else { Err(format!("{all:?}")) }
    });
    seal_until_all_is_stored(&service, &bed);
    bed.assert_complete("by a service and its worker");
    service.done(&["delete", &topic]);
    until("the worker has forgotten the rule", || match &worker_of(&service, "one")["rules"] {
        Value::Object(rules) if rules.is_empty() => Ok(()),
        other => Err(other.to_string()),
    });
    worker.stop().assert_code(0);
    service.stop().assert_code(0);
}

#[test]
fn what_may_not_work_together_is_refused_and_says_why() {
    let bed = bed();
    let service = RulesService::start_with(&bed, &["--no-run"]);
    let worker = Worker::start(&service, &bed, "one");
    let elsewhere = tempfile::tempdir().expect("a directory");
    let refused = worker.program(elsewhere.path()).run(PATIENCE);
    refused.assert_code(2);
    assert!(refused.stderr.contains("C0664") && refused.stderr.contains("--name"), "{}", refused.stderr);
    let same_state = worker.program(worker.dir.path()).run(PATIENCE);
    assert!(same_state.code() != Some(0) && same_state.stderr.contains("C0601"), "{}", same_state.stderr);
    let stranger = elsewhere.path().join("token");
    std::fs::write(&stranger, "x").expect("a file");
    let join = ["worker", "--join", service.address(), "--name", "two", "--state"];
    let exit = Program::new(join).args([elsewhere.path(), Path::new("--token-file"), &stranger]).run(PATIENCE);
    exit.assert_code(1);
    assert!(exit.stderr.contains("C0606"), "{}", exit.stderr);
}

#[test]
fn a_secret_in_a_connection_stays_with_the_service() {
    let bed = bed();
    let config = format!(
        "[kafka.k]\nbrokers = [\"{}\"]\nsasl = {{ mechanism = \"PLAIN\", username = \"u\", password = \"canary-hush\" }}\n[store.s]\nurl = \"{}\"\n",
        bed.broker(),
        bed.place.url("")
    );
    let service = RulesService::start_on(&config, &bed, &["--no-run"]);
    let mut worker = Worker::start(&service, &bed, "one");
    service.done(&["create", &bed.topic, &service.rule(&bed, WINDOW)]);
    let shown = service.await_state(&bed.topic, "failed");
    assert!(shown["reason"].as_str().is_some_and(|reason| reason.contains("C0662")), "{shown}");
    let said = worker.process_mut().wait_for_stderr("the server runs this rule alone", PATIENCE);
    assert!(said.contains("C0662"), "{said}");
    let (state, canary) = (worker.state(), b"canary-hush");
    assert!(!state.windows(canary.len()).any(|bytes| bytes == canary), "the secret lies in the worker's state");
    assert!(!worker.process_mut().stderr().contains("canary-hush"));
}
