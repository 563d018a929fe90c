//! What one cell stands on: a broker, a store and the processes that run against them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use catchment::store::open::open;
use catchment::store::{GuardClass, ObjectStore};
use catchment::verify::{Place, verify};
use kafka_protocol::messages::ApiKey;
use serde_json::Value;
use tokio::runtime::Handle;

use super::pins;
use super::visible::{self, TOPICS, topic};
use crate::broker::Broker;
use crate::broker::cluster::Cluster;
use crate::broker::faults::{self as kafka, Act, When, is_pin};
use crate::broker::offsets::Accepted;
use crate::kafka_cells::bench::{GROUP, QUICK};
use crate::kafka_cells::contents::compare;
use crate::process::{Exit, Program, crashing_binary};
use crate::s3::{Config, Fault, Op, Personality, S3Server, State};
use crate::scripted::order::Order;
use crate::sockets::is_all_read;

/// How long a process may take that is to end or to be killed.
pub(crate) const RUN_LIMIT: Duration = Duration::from_secs(120);

/// How often requests that a process had sent are looked at until they have taken effect, 5 ms apart. Some scenarios hold answers back for ever.
const SETTLING_LOOKS: u32 = 200;

/// How often in a row nothing must be on its way: between a request's reading and its effect a server may be without processor.
const QUIET_LOOKS: u32 = 4;

/// How long processes wait for a Complete that may show late. In the store of these tests none does, once its requests are done.
const COMPLETE_WAIT: Duration = Duration::from_secs(2);

/// The size of a part in these tests. Four make a window an upload.
pub(crate) const PART_BYTES: u64 = 64 << 10;

/// How objects are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    Put,
    Multipart,
}

/// What objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Parquet,
    Raw,
}

/// Which kind of object a cell makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) sending: Sending,
    pub(crate) format: Format,
}

impl Form {
    /// All four.
    pub(crate) const ALL: [Self; 4] = [
        Self { sending: Sending::Put, format: Format::Parquet },
        Self { sending: Sending::Put, format: Format::Raw },
        Self { sending: Sending::Multipart, format: Format::Parquet },
        Self { sending: Sending::Multipart, format: Format::Raw },
    ];

    /// Its name in a cell's id.
    pub(crate) fn name(self) -> &'static str {
        match (self.sending, self.format) {
            (Sending::Put, Format::Parquet) => "put.parquet",
            (Sending::Put, Format::Raw) => "put.raw",
            (Sending::Multipart, Format::Parquet) => "multipart.parquet",
            (Sending::Multipart, Format::Raw) => "multipart.raw",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self.format {
            Format::Parquet => &["--format", "parquet"],
            Format::Raw => &["--format", "raw", "--framing", "len32", "--codec", "none"],
        }
    }
}

/// What a comparison counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Compared {
    pub(crate) records: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) altered: u64,
    pub(crate) foreign: u64,
}

impl Compared {
    /// A failure, unless there is no difference.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        if self.records == 0 {
            return Err("nothing was compared".to_owned());
        }
        if (self.lost, self.duplicated, self.altered, self.foreign) == (0, 0, 0, 0) { Ok(()) } else { Err(format!("{self:?}")) }
    }
}

/// The bench.
pub(crate) struct Bench<'a> {
    handle: &'a Handle,
    broker: Broker,
    server: S3Server,
    form: Form,
    lists_completed: bool,
}

impl<'a> Bench<'a> {
    /// Full topics, an empty store.
    pub(crate) fn new(handle: &'a Handle, form: Form, class: GuardClass) -> Self {
        Self::with_listing(handle, form, class, false)
    }

    /// The same on a store that may list uploads that were completed.
    pub(crate) fn with_listing(handle: &'a Handle, form: Form, class: GuardClass, lists_completed: bool) -> Self {
        let order = Order::default();
        let config = Config { part_bytes_min: Some(PART_BYTES), lists_completed, order: order.clone(), ..Config::new(Personality::Minio) };
        let config = config.guards(class, class);
        let (broker, server) =
            handle.block_on(async { (Broker::start(1).await, S3Server::start(config).await.expect("a loopback port can be had")) });
        broker.with(|cluster| {
            visible::fill(cluster, form.sending == Sending::Multipart);
            cluster.groups.group(GROUP).offsets.order = order;
        });
        Self { handle, broker, server, form, lists_completed }
    }

    /// Whether the store lists uploads that were completed, so that nobody may clean up what is open under a key that stands.
    pub(crate) fn lists_completed(&self) -> bool {
        self.lists_completed
    }

    /// The store's inside.
    pub(crate) fn store_state(&self) -> &Arc<State> {
        self.server.state()
    }

    /// What a script does to the brokers.
    pub(super) fn script<T>(&self, change: impl FnOnce(&mut Cluster) -> T) -> T {
        self.broker.with(change)
    }

    /// A client of the store, beside those of the processes.
    pub(super) fn open_store(&self) -> Result<Arc<dyn ObjectStore>, String> {
        self.wait_for(open(&self.server.url("", ""), &self.server.options())).map_err(|e| e.to_string())
    }

    /// Waits for something that brokers or store do.
    pub(super) fn wait_for<T>(&self, what: impl Future<Output = T>) -> T {
        self.handle.block_on(what)
    }

    /// The store does what it is asked from now on.
    pub(crate) fn take_everything(&self) {
        self.store_state().set_faults(|_| Fault::default());
    }

    /// Waits until brokers and store have read everything that was sent to them, and the store has done and written down what it was asked for, but for
    /// what a scenario holds back for ever. A process that is stopped or killed may have a commit on its way.
    pub(crate) fn settle(&self) {
        let mut servers: Vec<SocketAddr> = self.broker.addresses().iter().filter_map(|address| address.parse().ok()).collect();
        servers.push(self.server.address());
        let mut quiet = 0;
        // Counted in looks: while this process stands still, its servers do nothing either.
        for _ in 0..SETTLING_LOOKS {
            quiet = if self.store_state().in_progress() == 0 && is_all_read(&servers) { quiet + 1 } else { 0 };
            if quiet == QUIET_LOOKS {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The coordinator gives a static member up, and says nothing to it any more, neither to its heartbeats nor to its commits.
    pub(crate) fn give_up_silently(&self, instance: &'static str) {
        self.broker.with(|cluster| {
            for api in [ApiKey::Heartbeat, ApiKey::OffsetCommit] {
                cluster.add_fault(kafka::Fault::always(When::Member(api, instance), Act::Silence));
            }
            cluster.groups.group(GROUP).end_session(instance);
        });
    }

    /// The coordinator answers everybody again.
    pub(crate) fn tell_everybody(&self) {
        self.broker.with(Cluster::end_faults);
    }

    /// A backup of all topics to their ends by a static member.
    pub(crate) fn program(&self, instance: &str) -> Program {
        self.program_of(crashing_binary(), instance)
    }

    /// The same by another binary.
    pub(crate) fn program_of(&self, binary: &Path, instance: &str) -> Program {
        self.program_to(binary, &self.server.url("", ""), instance)
    }

    /// The same into another store.
    pub(crate) fn program_to(&self, binary: &Path, url: &str, instance: &str) -> Program {
        let topics: Vec<String> = (0..TOPICS).map(topic).collect();
        let brokers =
            self.broker.with(|cluster| cluster.nodes.iter().map(|n| format!("{}:{}", n.host, n.port)).collect::<Vec<_>>().join(","));
        let rule = GROUP.strip_prefix("catchment-").expect("a group is named after its rule");
        let args = ["-b", &brokers, "--to", url, "--rule", rule, "--window", "1s", "--instance-id", instance, "--until-end"];
        let properties = QUICK.iter().flat_map(|(name, value)| ["-X".to_owned(), format!("{name}={value}")]);
        Program::of(binary, ["backup"])
            .args(topics)
            .args(args)
            .args(properties)
            .args(self.form.arguments())
            .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")])
            .envs([("CATCHMENT_CRASH_PART_BYTES", PART_BYTES.to_string())])
            .envs([("CATCHMENT_CRASH_COMPLETE_WAIT_MS", COMPLETE_WAIT.as_millis().to_string())])
    }

    /// Runs a backup with a point armed, until it is dead.
    pub(crate) fn run(&self, order: &str, instance: &str) -> Exit {
        self.armed(order, instance).run(RUN_LIMIT)
    }

    /// A backup with a point armed.
    pub(crate) fn armed(&self, order: &str, instance: &str) -> Program {
        self.program(instance).envs([("CATCHMENT_CRASH", order)])
    }

    /// Another process goes on to the end.
    pub(crate) fn finish(&self) -> Result<(), String> {
        let exit = self.program("member-1").run(RUN_LIMIT);
        if exit.code() == Some(0) { Ok(()) } else { Err(format!("the next run ended with {}: {}", exit.status, tail(&exit.stderr))) }
    }

    /// Keys that are pinned now, at most one of a topic.
    pub(crate) fn pinned_keys(&self) -> Vec<String> {
        self.broker.with(|cluster| {
            let notes = (0..TOPICS).filter_map(|n| cluster.groups.group(GROUP).offsets.get(&topic(n), 0).map(|c| c.metadata.clone()));
            let pins = notes.filter(|note| is_pin(note)).filter_map(|note| serde_json::from_str::<Value>(&note).ok());
            pins.filter_map(|note| note["key"].as_str().map(str::to_owned)).collect()
        })
    }

    /// Uploads that the group's intents name now.
    pub(crate) fn named_uploads(&self) -> BTreeSet<String> {
        self.broker.with(|cluster| {
            let offsets = &cluster.groups.group(GROUP).offsets;
            let notes = (0..TOPICS).filter_map(|n| Some((0, offsets.get(&topic(n), 0)?.metadata.as_str())));
            pins::intents(notes).into_iter().filter_map(|(_, intent)| intent.upload_id().map(str::to_owned)).collect()
        })
    }

    /// Whether a request came that would make this key visible.
    pub(crate) fn was_asked_to_publish(&self, key: &str) -> bool {
        let publishes = |op| matches!(op, Op::PutObject | Op::CompleteMultipartUpload);
        self.store_state().log().iter().any(|request| request.key == key && publishes(request.op))
    }

    /// When owner records were first written, in milliseconds since the store's start.
    pub(crate) fn claims(&self) -> Vec<u64> {
        let log = self.store_state().log();
        log.iter().filter(|r| r.op == Op::PutObject && r.key.contains("_catchment/owners/")).map(|r| r.begun_ms).collect()
    }

    /// How often a data object was written again with the bytes that stood.
    pub(crate) fn rewritten(&self) -> u64 {
        let versions = self.store_state().versions();
        versions.iter().filter(|(key, _)| !key.contains("_catchment/")).map(|(_, versions)| versions.len() as u64 - 1).sum()
    }

    /// Compares what is stored with what is visible, and asks the invariants: no object changed or went, each was pinned before it became
    /// visible, and under one intent; nothing is damaged, what is listed as missing is what retention has taken and nothing else, the group has
    /// everything and nothing is pinned.
    pub(crate) fn compare(&self) -> Result<Compared, String> {
        let changed = self.store_state().changed_keys();
        if !changed.is_empty() {
            return Err(format!(
                "objects changed after they were visible: {:#?}",
                changed.iter().map(|key| self.history_of(key)).collect::<Vec<_>>()
            ));
        }
        let store = self.open_store()?;
        self.ask_invariants(&*store)?;
        self.compare_in(store)
    }

    /// What became of a key: its contents, and the requests for it but for parts.
    pub(super) fn history_of(&self, key: &str) -> String {
        let state = self.store_state();
        let versions = state.versions().remove(key).unwrap_or_default();
        let log = state.log();
        let asked = log.iter().filter(|r| r.key == key && r.op != Op::UploadPart);
        let asked = asked.map(|r| format!("{} ms {:?} {} -> {}", r.begun_ms, r.op, r.upload.as_deref().unwrap_or(""), r.status));
        format!("{key}: {versions:?}; {}", asked.collect::<Vec<_>>().join(", "))
    }

    fn ask_invariants(&self, store: &dyn ObjectStore) -> Result<(), String> {
        let versions = self.store_state().versions();
        for topic in (0..TOPICS).map(topic) {
            let accepted: Vec<Accepted> = self.broker.with(|cluster| {
                let accepted = cluster.groups.group(GROUP).offsets.accepted().iter();
                accepted.filter(|accepted| accepted.topic == topic).cloned().collect()
            });
            let pins = pins::intents(accepted.iter().map(|accepted| (accepted.order, accepted.commit.metadata.as_str())));
            let objects = self.handle.block_on(pins::objects(store, &format!("{topic}/"), &versions))?;
            if let Some(violation) = pins::broken(&pins, &objects).into_iter().chain(pins::lost(&accepted, &objects)).next() {
                return Err(format!("{topic}: {violation}; pinned {pins:?}"));
            }
        }
        Ok(())
    }

    /// The same of another store, but for what only this one and its broker remember.
    pub(crate) fn compare_in(&self, store: Arc<dyn ObjectStore>) -> Result<Compared, String> {
        let mut sum = Compared::default();
        for n in 0..TOPICS {
            let expected = self.broker.with(|cluster| visible::expected(cluster, n));
            let found = self.handle.block_on(compare(&*store, &format!("{}/", topic(n)), &expected))?;
            sum.records += expected.len() as u64;
            sum.lost += found.lost.len() as u64;
            sum.duplicated += found.duplicated.len() as u64;
            sum.altered += found.altered.len() as u64;
            sum.foreign += found.foreign.len() as u64;
        }
        sum.verdict()?;
        let place = Place::new(store, "");
        let report = self.handle.block_on(verify(&place, None, |_| ())).map_err(|e| format!("verify: {e}"))?;
        let missing: Vec<_> = self.broker.with(|cluster| (0..TOPICS).filter_map(|n| visible::missing(cluster, n)).collect());
        if !report.damage.is_empty() || visible::listed(&report.gaps) != missing {
            return Err(format!("verify found {:?}, gaps {:?}, which should be {missing:?}", report.damage, report.gaps));
        }
        match self.broker.with(is_committed) {
            true => Ok(sum),
            false => Err("the group does not have everything".to_owned()),
        }
    }
}

/// Whether the group has everything that is visible, with nothing pinned.
fn is_committed(cluster: &mut Cluster) -> bool {
    let ends: BTreeMap<String, i64> = (0..TOPICS).map(|n| (topic(n), cluster.partition(&topic(n), 0).log.stable_end())).collect();
    let offsets = &cluster.groups.group(GROUP).offsets;
    ends.iter().all(|(topic, end)| offsets.get(topic, 0).is_some_and(|c| c.offset >= *end && !is_pin(&c.metadata)))
}

/// The last lines that a process said.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
