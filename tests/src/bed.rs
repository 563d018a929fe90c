//! One topic, one place to store it in and one rule: what a test of the whole program stands on.
//!
//! A bed knows the command line, the oracle and what is stored, so that a test says only what goes wrong and what must come of it.
//!
//! Not done here: the objects are read by the formats library, not by the independent readers; those have tests of their own.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use catchment::store::open::open;
use catchment::store::{Guard, Metadata, ObjectStore, Payload};
use catchment_formats::parquet::ParquetDecoder;
use catchment_formats::{Block, ValueLayout};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::admin::Admin;
use crate::bucket::Bucket;
use crate::gate::Gate;
use crate::generate::{Filled, Plan, Profile, continue_fill};
use crate::oracle::{Stored, Truth};
use crate::process::{Exit, Process, Program};
use crate::s3::{Config, Fault, Op, Personality, S3Server};
use crate::services::Minio;

/// How long a run that is to reach an end may take.
pub const RUN_LIMIT: Duration = Duration::from_secs(300);

/// Where objects go.
#[derive(Debug)]
pub enum Place {
    /// A bucket of a MinIO, reached at this endpoint.
    Minio(Bucket, Vec<(String, String)>),
    /// The server in this process.
    InProcess(S3Server, Runtime),
}

impl Place {
    /// A new bucket of `server`.
    pub fn minio(server: &Minio) -> Self {
        Self::Minio(Bucket::create(server, &unique("bed")), server.environment())
    }

    /// A new bucket of `server`, which the program under test reaches at another `endpoint`.
    pub fn minio_behind(server: &Minio, endpoint: &str) -> Self {
        let mut environment = server.environment();
        for (_, value) in environment.iter_mut().filter(|(name, _)| name == "AWS_ENDPOINT_URL") {
            *value = format!("http://{endpoint}");
        }
        Self::Minio(Bucket::create(server, &unique("bed")), environment)
    }

    /// A server of the test's own in this process.
    pub fn in_process() -> Self {
        Self::in_process_like(Config::new(Personality::Minio))
    }

    /// The same with a server of another kind, reached as `s3://`.
    pub fn in_process_like(config: Config) -> Self {
        let runtime = Runtime::new().expect("a runtime can be made");
        let server = runtime.block_on(S3Server::start(config)).expect("a loopback port can be had");
        Self::InProcess(server, runtime)
    }

    /// From now on no data object is taken: a pinned window stays pinned. Only for a server in this process.
    pub fn refuse_data(&self) {
        self.server().state().set_faults(|request| match request.op {
            Op::PutObject | Op::CompleteMultipartUpload if !request.key.contains("_catchment/") => Fault::refused(503, "SlowDown"),
            _ => Fault::default(),
        });
    }

    /// From now on no write of a data object below a prefix is answered until the gate opens. Only for a server in this process.
    pub fn hold_data(&self, prefix: &'static str) -> Gate {
        let gate = Gate::default();
        let held = gate.clone();
        self.server().state().set_faults(move |request| match request.op {
            Op::PutObject | Op::UploadPart | Op::CompleteMultipartUpload
                if request.key.starts_with(prefix) && !request.key.contains("_catchment/") =>
            {
                Fault { held: Some(held.clone()), ..Fault::default() }
            }
            _ => Fault::default(),
        });
        gate
    }

    /// Ends [`refuse_data`](Self::refuse_data).
    pub fn accept_data(&self) {
        self.server().state().set_faults(|_| Fault::default());
    }

    /// Writes an object as a foreign hand would, over what stands there. Only for a server in this process.
    pub fn put(&self, key: &str, bytes: Vec<u8>) {
        let (store, runtime) = self.client();
        let none = Metadata::new();
        let put = store.put(key, Payload::from_bytes(bytes), &none, Guard::Overwrite);
        runtime.block_on(put).unwrap_or_else(|e| panic!("{key}: {e}"));
    }

    /// Key and id of each open multipart upload of a data object. Only for a server in this process.
    pub fn open_uploads(&self) -> Vec<(String, String)> {
        self.server().state().open_uploads().into_iter().filter(|(key, _)| !key.contains("_catchment/")).collect()
    }

    /// Aborts them, as a bucket's lifecycle rule would.
    pub fn abort_uploads(&self) {
        let (store, runtime) = self.client();
        for (key, id) in self.open_uploads() {
            runtime.block_on(store.abort_upload(&key, &id)).unwrap_or_else(|e| panic!("{key}: {e}"));
        }
    }

    fn client(&self) -> (Arc<dyn ObjectStore>, &Runtime) {
        let Self::InProcess(server, runtime) = self else { panic!("a bucket of MinIO has a client of its own") };
        let store = runtime.block_on(open(&server.url("", ""), &server.options()));
        (store.unwrap_or_else(|e| panic!("the server's own address: {e}")), runtime)
    }

    /// The server in this process.
    ///
    /// # Panics
    /// If it is a MinIO.
    pub fn server(&self) -> &S3Server {
        match self {
            Self::InProcess(server, _) => server,
            Self::Minio(..) => panic!("only the server in this process has faults and a log"),
        }
    }

    /// The address of a prefix.
    pub fn url(&self, prefix: &str) -> String {
        match self {
            Self::Minio(bucket, _) => bucket.url(prefix),
            Self::InProcess(server, _) => server.url(prefix, ""),
        }
    }

    /// What a program needs to know to write there.
    pub fn environment(&self) -> Vec<(String, String)> {
        match self {
            Self::Minio(_, environment) => environment.clone(),
            Self::InProcess(..) => {
                [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")].map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec()
            }
        }
    }

    /// All keys, control objects included.
    pub fn keys(&self) -> BTreeSet<String> {
        match self {
            Self::Minio(bucket, _) => bucket.list("").into_keys().collect(),
            Self::InProcess(server, _) => server.state().versions().into_keys().collect(),
        }
    }

    /// The keys of data objects below a prefix.
    pub fn data_keys(&self, prefix: &str) -> Vec<String> {
        self.keys().into_iter().filter(|key| key.starts_with(prefix) && !key.contains("_catchment/")).collect()
    }

    /// An object's bytes.
    pub fn get(&self, key: &str) -> Bytes {
        match self {
            Self::Minio(bucket, _) => bucket.get(key).into(),
            Self::InProcess(server, _) => server.state().object(key).unwrap_or_else(|| panic!("{key} is not there")),
        }
    }

    /// Every record of the Parquet objects below a prefix.
    pub fn stored(&self, prefix: &str) -> Stored {
        self.stored_where(prefix, |_| true)
    }

    /// Every record of the Parquet objects below a prefix whose keys are wanted.
    pub fn stored_where(&self, prefix: &str, is_wanted: impl Fn(&str) -> bool) -> Stored {
        let mut stored = Stored::default();
        for key in self.data_keys(prefix).iter().filter(|key| key.ends_with(".parquet") && is_wanted(key)) {
            let mut decoder = ParquetDecoder::new(self.get(key)).unwrap_or_else(|e| panic!("{key}: {e}"));
            let partition = decoder.proof().lane.partition;
            let mut block = Block::new(ValueLayout::Plain);
            while decoder.next_block(&mut block).unwrap_or_else(|e| panic!("{key}: {e}")) {
                block.iter().for_each(|record| stored.push_view(partition, &record));
            }
        }
        stored
    }
}

/// A topic, a place and a rule of their own.
#[expect(missing_debug_implementations, reason = "the admin client has none")]
pub struct Bed {
    /// The topic.
    pub topic: String,
    /// The rule; its group is `catchment-` and this.
    pub rule: String,
    /// Where objects go.
    pub place: Place,
    /// The cluster.
    pub admin: Admin,
    broker: String,
    partitions: i32,
    plan: Plan,
    filled: Filled,
}

impl Bed {
    /// A topic with no records yet on the broker at `bootstrap`.
    pub fn new(bootstrap: &str, partitions: i32, place: Place) -> Self {
        let topic = unique("t");
        Admin::new(bootstrap).create_mixed_topic(&topic, partitions);
        Self::of_topic(bootstrap, &topic, partitions, place)
    }

    /// The same with a topic that was made already and is empty: for brokers that make topics in their own way.
    pub fn of_topic(bootstrap: &str, topic: &str, partitions: i32, place: Place) -> Self {
        Self {
            rule: topic.to_owned(),
            plan: Plan::plain(7, topic, partitions, 0),
            filled: Filled { next_sequence: vec![0; usize::try_from(partitions).expect("partitions >= 0")], ..Filled::default() },
            topic: topic.to_owned(),
            place,
            admin: Admin::new(bootstrap),
            broker: bootstrap.to_owned(),
            partitions,
        }
    }

    /// The cluster's address.
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// The rule's group.
    pub fn group(&self) -> String {
        format!("catchment-{}", self.rule)
    }

    /// Sends so many plain records, 20 ms of record time apart within a partition.
    pub fn fill(&mut self, records: u64) {
        self.plan.records = records;
        continue_fill(&self.broker, &self.plan, &mut self.filled);
    }

    /// Sends so many records of 64 KiB to 1 MiB, 350 KiB on average, that do not compress, with the same record times.
    pub fn fill_large(&mut self, records: u64) {
        let profile = Profile { huge_values_per_million: 1_000_000, binary_values: 1000, value_bytes_max: 1 << 20, ..Profile::plain() };
        continue_fill(&self.broker, &Plan { profile, records, ..self.plan.clone() }, &mut self.filled);
    }

    /// `catchment backup` into the place, windows of one second, as a dynamic member: its group is empty as soon as it has left.
    pub fn backup(&self, more: &[&str]) -> Program {
        self.backup_to("", more)
    }

    /// As [`backup`](Self::backup), below a prefix.
    pub fn backup_to(&self, prefix: &str, more: &[&str]) -> Program {
        let member: &[&str] = if more.contains(&"--instance-id") { &[] } else { &["--instance-id", "none"] };
        self.program(prefix, &[member, more].concat())
    }

    /// As [`backup`](Self::backup), as the static member that the program makes of itself.
    pub fn backup_static(&self, more: &[&str]) -> Program {
        self.program("", more)
    }

    fn program(&self, prefix: &str, more: &[&str]) -> Program {
        let url = self.place.url(prefix);
        let mut args = vec!["backup", &self.topic, "-b", &self.broker, "--to", &url];
        for (flag, value) in [("--rule", self.rule.as_str()), ("--window", "1s")] {
            if !more.contains(&flag) {
                args.extend([flag, value]);
            }
        }
        Program::new(args).args(more).envs(self.place.environment())
    }

    /// Backs up everything that is there, and fails unless that succeeds.
    #[track_caller]
    pub fn backup_all(&self, more: &[&str]) -> Exit {
        let exit = self.backup(more).args(["--until-end"]).run(RUN_LIMIT);
        exit.assert_code(0);
        exit
    }

    /// Runs until it stops by itself, and fails unless it stops with this exit code and error code and stores nothing.
    #[track_caller]
    pub fn assert_stops(&self, more: &[&str], code: i32, error: &str) -> Exit {
        let before = self.place.data_keys("");
        let exit = self.backup(more).args(["--until-end"]).run(RUN_LIMIT);
        exit.assert_code(code);
        assert!(exit.stderr.contains(error), "no {error} in: {}", exit.stderr);
        assert_eq!(self.place.data_keys(""), before, "nothing is stored by a lane that stops");
        exit
    }

    /// What the group has committed for a partition.
    #[track_caller]
    pub fn offset(&self, partition: i32) -> (i64, Value) {
        let found = self.admin.group_offset(&self.group(), &self.topic, partition).expect("the group has an offset");
        let note = serde_json::from_str(&found.metadata).unwrap_or_default();
        (found.offset, note)
    }

    /// Starts a backup whose windows the store does not take, kills it when partition 0 has one pinned, and returns the intent.
    pub fn leave_intent(&self, more: &[&str]) -> Value {
        self.place.refuse_data();
        let mut process = self.backup(more).spawn();
        let pinned = self.await_intent(&mut process);
        process.kill();
        self.place.accept_data();
        pinned
    }

    /// Waits until partition 0 has a window pinned, and returns the intent.
    ///
    /// # Panics
    /// If the program ends first, or after a minute.
    pub fn await_intent(&self, process: &mut Process) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let found = self.admin.group_offset(&self.group(), &self.topic, 0);
            if let Some(note) = found.and_then(|o| serde_json::from_str::<Value>(&o.metadata).ok()).filter(|note| note.get("E").is_some()) {
                return note;
            }
            let ended = process.poll();
            assert!(ended.is_none() && Instant::now() < deadline, "no window was pinned ({ended:?}): {}", process.stderr());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the group has every record, with nothing pinned.
    ///
    /// # Panics
    /// If the program ends first, or after `limit`.
    pub fn await_committed(&self, processes: &mut [&mut Process], limit: Duration) {
        let deadline = Instant::now() + limit;
        let done = |partition| {
            let end = self.admin.log_range(&self.topic, partition).1;
            let found = self.admin.group_offset(&self.group(), &self.topic, partition);
            found.is_some_and(|o| o.offset >= end && !o.metadata.contains("\"E\":"))
        };
        while !(0..self.partitions).all(done) {
            for process in &mut *processes {
                let ended = process.poll();
                assert!(ended.is_none(), "it ended ({ended:?}): {}", process.stderr());
            }
            assert!(
                Instant::now() < deadline,
                "not committed within {limit:?}: {}",
                processes.iter().map(|p| p.stderr()).collect::<String>()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The truth about the topic as it is now.
    pub fn truth(&self) -> Truth {
        Truth::read(&self.broker, &self.topic)
    }

    /// Fails unless the place holds every record of the topic once, and `verify` with Kafka finds nothing wrong.
    #[track_caller]
    pub fn assert_complete(&self, what: &str) {
        self.truth().assert_equals(&self.place.stored(""), what);
        let report = self.verify("", true);
        assert_eq!(report["gaps"], Value::Array(Vec::new()), "{what}: {report}");
    }

    /// `catchment verify --json` of a prefix; fails if there is damage.
    #[track_caller]
    pub fn verify(&self, prefix: &str, with_kafka: bool) -> Value {
        let url = self.place.url(prefix);
        let program = Program::new(["verify", &url, "--json"]).envs(self.place.environment());
        let program = if with_kafka { program.args(["-b", &self.broker]) } else { program };
        let exit = program.run(RUN_LIMIT);
        exit.assert_code(0);
        serde_json::from_str(&exit.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {}", exit.stdout))
    }

    /// Fails unless the gaps that `verify` lists are exactly these: (partition, from, to), all of one cause.
    #[track_caller]
    pub fn assert_gaps(&self, cause: &str, expected: &[(i64, i64, i64)]) -> Value {
        let report = self.verify("", false);
        let gaps: Vec<_> = report["gaps"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|gap| {
                assert_eq!(gap["cause"], cause, "{gap}");
                let number = |name: &str| gap[name].as_i64().expect("a number");
                (number("partition"), number("from"), number("to"))
            })
            .collect();
        assert_eq!(gaps, expected, "{report}");
        report
    }
}

/// A name that no earlier run used.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    format!("{prefix}-{:x}-{}", now.as_micros(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Writes a config file of one rule key, for what has no flag: `on_gap = { corrupt_batch = "continue" }`.
pub fn config_file(dir: &Path, bed: &Bed, line: &str) -> String {
    let path = dir.join("catchment.toml");
    std::fs::write(&path, format!("[rule.{}]\n{line}\n", bed.rule)).expect("the directory is writable");
    path.to_str().expect("a UTF-8 path").to_owned()
}
