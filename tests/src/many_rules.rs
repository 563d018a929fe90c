//! A thousand rules in one service: a hundred that run and get records, one of them behind a store that answers nothing, and nine hundred that do not run.
//!
//! The rules that run have a topic each and write below one prefix, so that one `verify` sees them all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::admin::Admin;
use crate::bed::{Bed, Place, unique};
use crate::gate::Gate;
use crate::generate::{Codec, Profile, RecordProducer};
use crate::oracle::Truth;
use crate::rules_service::RulesService;
use crate::services::Kafka;

/// Where rules write that are not stalled.
pub const PREFIX: &str = "many/";

/// Where the stalled one writes.
const STALLED_PREFIX: &str = "stalled/";

const PARTITIONS: i32 = 2;

/// How long anything may take that must come about.
const PATIENCE: Duration = Duration::from_secs(300);

/// How many rules there are.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// That run.
    pub running: usize,
    /// That are paused.
    pub paused: usize,
    /// Whose topics do not exist.
    pub missing: usize,
    /// Records of each running rule in each round.
    pub records: u64,
    /// Records of 350 KiB on average of the stalled one.
    pub stalled_records: u64,
}

/// The service, its rules and their topics.
#[expect(missing_debug_implementations, reason = "the admin client has none")]
pub struct ManyRules {
    /// The topic of the stalled rule, and the place of all of them.
    pub bed: Bed,
    /// The service.
    pub service: RulesService,
    /// Opened, the store answers the stalled rule.
    pub gate: Gate,
    /// Topics of the others that run; rules are named after them.
    pub topics: Vec<String>,
    producer: RecordProducer,
    /// Records sent to each partition of each topic.
    sent: u64,
    size: Size,
}

impl ManyRules {
    /// Topics, a service with this budget, and no rule yet. The topic of the stalled rule is full.
    pub fn new(size: Size, budget: &str) -> Self {
        let broker = Kafka::shared().bootstrap();
        let mut bed = Bed::new(broker, PARTITIONS, Place::in_process());
        bed.fill_large(size.stalled_records);
        let gate = bed.place.hold_data(STALLED_PREFIX);
        let (admin, name) = (Admin::new(broker), unique("many"));
        let topics: Vec<String> = (1..size.running).map(|n| format!("{name}-{n}")).collect();
        topics.iter().for_each(|topic| admin.create_topic(topic, PARTITIONS, &[]));
        let service = RulesService::start_with(&bed, &["--budget", budget]);
        let producer = RecordProducer::new(broker, Codec::Lz4);
        Self { bed, service, gate, topics, producer, sent: 0, size }
    }

    /// Creates all rules through the API: those that run one by one, the others as a set.
    pub fn create(&self) {
        self.create_running(&self.bed.topic, STALLED_PREFIX, "5s");
        self.topics.iter().for_each(|topic| self.create_running(topic, PREFIX, "2s"));
        let others: Vec<String> = (0..self.size.paused + self.size.missing).map(|n| format!("other-{n}")).collect();
        for names in others.chunks(100) {
            let rules: BTreeMap<&str, Value> = names.iter().map(|name| (name.as_str(), keys(name, PREFIX, "1m"))).collect();
            let (status, answer) = self.service.call("POST /apply", &json!({ "rules": rules }));
            assert_eq!(status, 200, "{answer}");
        }
        for name in others.iter().take(self.size.paused) {
            let (status, answer) = self.service.call(&format!("POST /rules/{name}/pause"), &Value::Null);
            assert_eq!(status, 202, "{answer}");
        }
    }

    fn create_running(&self, topic: &str, prefix: &str, every: &str) {
        let mut rule = keys(topic, prefix, every);
        rule["name"] = json!(topic);
        let (status, answer) = self.service.call("POST /rules", &rule);
        assert_eq!(status, 201, "{answer}");
    }

    /// Sends records to every topic but the stalled rule's.
    pub fn send_round(&mut self) {
        let profile = Profile::plain();
        for topic in &self.topics {
            for partition in 0..PARTITIONS {
                for sequence in self.sent..self.sent + self.size.records {
                    self.producer.send(topic, partition, &profile.record(7, topic, partition, sequence));
                }
            }
        }
        self.producer.flush();
        self.sent += self.size.records;
    }

    /// Records in all topics but the stalled rule's.
    pub fn sent_in_all(&self) -> u64 {
        self.topics.len() as u64 * self.sent_to_each()
    }

    fn sent_to_each(&self) -> u64 {
        self.sent * u64::from(PARTITIONS.unsigned_abs())
    }

    /// Waits until the windows of all rules but the stalled one hold everything.
    ///
    /// # Panics
    /// If that does not come about.
    pub fn await_stored(&mut self) {
        let wanted = self.sent_to_each();
        let mut open = self.topics.clone();
        self.until("everything is stored", |this| {
            open.retain(|topic| this.windowed(topic) < wanted);
            open.first().map(|topic| format!("{} rules lack records, such as {topic}: {} of {wanted}", open.len(), this.windowed(topic)))
        });
    }

    /// Records in a rule's windows.
    pub fn windowed(&self, rule: &str) -> u64 {
        let (status, windows) = self.service.call(&format!("GET /rules/{rule}/windows?limit=1000"), &Value::Null);
        assert_eq!(status, 200, "{windows}");
        windows.as_array().expect("a list").iter().map(|window| window["records"].as_u64().expect("a number")).sum()
    }

    /// Waits until as many rules as there should be are in each state.
    ///
    /// # Panics
    /// If that does not come about.
    pub fn await_states(&mut self) {
        let Size { running, paused, missing, .. } = self.size;
        let wanted = BTreeMap::from([("paused", paused), ("running", running), ("source-missing", missing)]);
        let wanted: BTreeMap<String, usize> = wanted.into_iter().map(|(state, count)| (state.to_owned(), count)).collect();
        self.until("all are in their states", |this| {
            let states = this.states();
            (states != wanted).then(|| format!("{states:?}"))
        });
    }

    fn states(&self) -> BTreeMap<String, usize> {
        let (status, rules) = self.service.call("GET /rules", &Value::Null);
        assert_eq!(status, 200, "{rules}");
        let mut states = BTreeMap::new();
        for rule in rules.as_array().expect("a list") {
            // A rule whose store does not answer may say so.
            let state = rule["state"].as_str().expect("a state").replace("degraded", "running");
            *states.entry(state).or_default() += 1;
        }
        states
    }

    /// Fails unless the objects of a topic hold exactly its records.
    #[track_caller]
    pub fn assert_complete(&self, topic: &str) {
        let stored = self.bed.place.stored_where("", |key| key.contains(&format!("{topic}/")));
        Truth::read(self.bed.broker(), topic).assert_equals(&stored, topic);
    }

    /// Waits until `lack` says that nothing is lacking.
    ///
    /// # Panics
    /// With what is lacking, if that does not come about.
    pub fn until(&mut self, what: &str, mut lack: impl FnMut(&Self) -> Option<String>) {
        let began = Instant::now();
        while let Some(lacking) = lack(self) {
            let ended = self.service.process_mut().poll();
            assert!(ended.is_none(), "the service ended: {ended:?}");
            assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}, {lacking}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

fn keys(topic: &str, prefix: &str, every: &str) -> Value {
    json!({
        "source": { "topics": [topic] },
        "instance_id": "none",
        "window": { "every": every },
        "to": { "prefix": prefix },
    })
}
