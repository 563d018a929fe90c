//! Instances that are killed or frozen in every phase of a window, while records arrive: nothing is lost, stored twice or
//! altered, and no object changes once it is visible.
//!
//! Real Kafka, the real binary, and the harness's S3 service as a process of its own, so that its objects, its request log and
//! every version of every key outlive the kills, and so that a request whose client is dead still takes effect, late. Two
//! instances of one rule; a producer that never stops, with transactions of which every other one is aborted. Each strike
//! aims at a phase of one lane: the lane's requests are delayed until it is there, its owner gets SIGKILL, and what was hit is
//! read from the state right after. Now and then an instance is asked to leave instead, and comes back. A run fails unless it has hit
//! each of its phases as often as its plan says, and unless an instance that is gone or asleep had its lanes taken over by the other one.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use catchment_formats::parquet::ParquetDecoder;
use catchment_formats::{Block, ValueLayout};
use catchment_tests::admin::Admin;
use catchment_tests::generate::{Codec, Profile, RecordProducer};
use catchment_tests::oracle::{Stored, Truth};
use catchment_tests::phases::{Dump, Hits, Note, Phase, S3Process, Watch};
use catchment_tests::process::{Exit, Process, Program};
use catchment_tests::s3::{FaultRule, Op};
use catchment_tests::services::Kafka;
use sha2::{Digest, Sha256};

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a lane may take to come into the phase that is aimed at, before another lane is tried.
const AIM: Duration = Duration::from_secs(20);

/// How long an instance may take to stop.
const STOP: Duration = Duration::from_secs(15);

/// How late a request may take effect whose client fell asleep, in milliseconds: longer than a session and a recovery.
const LATE_MS: u64 = 18_000;

const PREFIX: &str = "kills/";

/// What a run is like.
#[derive(Clone, Copy, Debug)]
struct Plan {
    name: &'static str,
    /// For `s3server`: personality and class of both operations.
    personality: &'static str,
    class: &'static str,
    objects: Objects,
}

/// SIGKILLs of a run, at least.
const KILLS_MIN: u32 = 25;

/// Hits that each phase needs in a run.
const HITS_MIN: u32 = 3;

/// Aimed kills after which a run gives up: its phases cannot be hit.
const STRIKES_MAX: u32 = 60;

/// What the windows become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Objects {
    /// Parquet of one second of the whole mixture.
    Small,
    /// Raw of 24 MiB: one PUT, but more than sockets hold, so that it can be interrupted half-way.
    Large,
    /// Raw of 68 MiB: a multipart upload.
    Multipart,
}

impl Plan {
    fn phases(&self) -> Vec<Phase> {
        let mut phases = vec![Phase::Open, Phase::Pinned, Phase::Published, Phase::Untidied];
        if self.objects == Objects::Multipart {
            phases.insert(1, Phase::PartsUploaded);
        }
        phases
    }

    fn partitions(&self) -> i32 {
        if self.is_raw() { 2 } else { 6 }
    }

    fn is_raw(&self) -> bool {
        self.objects != Objects::Small
    }

    /// Large records of a partition that wait to be stored, at most: surely more than a window, or it would never close.
    fn ahead_max(&self) -> i64 {
        match self.objects {
            Objects::Small => i64::MAX,
            Objects::Large => 90,
            Objects::Multipart => 220,
        }
    }

    /// The request that makes a window visible.
    fn publish(&self) -> Op {
        if self.objects == Objects::Multipart { Op::CompleteMultipartUpload } else { Op::PutObject }
    }

    fn bucket(&self) -> &'static str {
        if self.personality == "cos" { "bucket-1250000000" } else { "bucket" }
    }

    /// The whole mixture, or incompressible records of 64 KiB to 2 MiB.
    fn profile(&self) -> Profile {
        if self.is_raw() {
            Profile { huge_values_per_million: 1_000_000, binary_values: 1000, null_values: 10, ..Profile::mixed() }
        } else {
            Profile::mixed()
        }
    }

    fn arguments(&self) -> Vec<&'static str> {
        let raw = ["--format", "raw", "--framing", "len32", "--codec", "none", "--window", "1h", "--max-bytes"];
        match self.objects {
            Objects::Small => vec!["--window", "1s"],
            Objects::Large => [&raw[..], &["24MiB"]].concat(),
            Objects::Multipart => [&raw[..], &["68MiB"]].concat(),
        }
    }
}

/// A rule with its topic, its store and its instances.
struct Bed {
    plan: Plan,
    kafka: &'static Kafka,
    topic: String,
    store: S3Process,
    watch: Watch,
    instances: Vec<Option<Process>>,
    said: Vec<String>,
}

impl Bed {
    fn new(plan: Plan, s3server: &str) -> Self {
        let kafka = Kafka::shared();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is past 1970");
        let topic = format!("{}-{:x}", plan.name, now.as_millis());
        Admin::new(kafka.bootstrap()).create_mixed_topic(&topic, plan.partitions());
        let arguments = ["--personality", plan.personality, "--class-put", plan.class, "--class-complete", plan.class];
        let store = S3Process::start(Path::new(s3server), plan.bucket(), &arguments);
        let watch = Watch::new(kafka.bootstrap(), &format!("catchment-{topic}"), &topic, plan.partitions(), PREFIX);
        Self { plan, kafka, topic, store, watch, instances: vec![None, None], said: Vec::new() }
    }

    fn url(&self, directory: &str) -> String {
        let (scheme, region) = if self.plan.personality == "cos" { ("cos", "ap-guangzhou") } else { ("s3", "us-east-1") };
        format!("{scheme}://{}/{PREFIX}{directory}?region={region}&endpoint={}", self.plan.bucket(), self.store.endpoint())
    }

    fn program(&self, verb: &str, subject: &str, more: &[&str]) -> Program {
        let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY"];
        Program::new([verb, subject, "-b", self.kafka.bootstrap()]).args(more).envs(keys.map(|k| (k, "test")))
    }

    fn backup(&self, more: &[&str]) -> Program {
        let session = ["-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=500"];
        self.program("backup", &self.topic, &["--to", &self.url("")]).args(self.plan.arguments()).args(session).args(more)
    }

    /// Starts every instance that does not run.
    fn start_all(&mut self) {
        for n in 0..self.instances.len() {
            if self.instances[n].is_none() {
                self.instances[n] = Some(self.backup(&[]).spawn());
            }
        }
    }

    fn instance(&mut self, n: usize) -> &mut Process {
        self.instances[n].as_mut().expect("the instance runs")
    }

    fn kill(&mut self, n: usize) {
        let process = self.instances[n].take().expect("the instance runs");
        self.keep(process.kill());
    }

    fn keep(&mut self, exit: Exit) {
        self.said.push(exit.stderr);
    }

    /// Which instance has which lane, once the group is stable. An instance is known by the slot that it has locked, a member by its
    /// static name, which ends with the slot.
    fn owners(&self) -> BTreeMap<i32, usize> {
        let slots: Vec<_> = self.instances.iter().map(|i| i.as_ref().and_then(slot)).collect();
        let of = |member: &str| slots.iter().position(|slot| slot.as_ref().is_some_and(|s| is_member_of_slot(member, s)));
        self.watch.owners().into_iter().filter_map(|(lane, member)| Some((lane, of(&member)?))).collect()
    }

    fn await_owner(&self, lane: i32) -> usize {
        self.await_some(&format!("an owner of lane {lane}"), |bed| bed.owners().remove(&lane))
    }

    /// Waits for an answer.
    fn await_some<T>(&self, what: &str, ask: impl Fn(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask(self) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{}: no {what}: {:?}{}", self.topic, self.watch.owners(), self.stderrs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until `heir` has every lane, those of an instance that is gone or sleeps, and then has stored so many windows of this one.
    fn await_takeover(&self, heir: usize, lane: i32, windows: usize) {
        let lanes = usize::try_from(self.plan.partitions()).expect("partitions >= 0");
        self.await_some(&format!("takeover by instance {heir}"), |bed| {
            let owners = bed.owners();
            (owners.len() == lanes && owners.values().all(|owner| *owner == heir)).then_some(())
        });
        // Nobody else can commit any more: what the group says from here on is the heir's.
        let starts = RefCell::new(BTreeSet::new());
        self.await_some(&format!("{windows} windows of lane {lane} by its heir {heir}"), |bed| {
            starts.borrow_mut().extend(bed.watch.note(lane).map(|n| n.start));
            (starts.borrow().len() > windows).then_some(())
        });
    }

    /// SIGTERM to the owner of a lane, which ends well; the other one takes all lanes over, and gives some back when it returns.
    fn leave_and_rejoin(&mut self, lane: i32) {
        let leaver = self.await_owner(lane);
        let exit = self.instances[leaver].take().expect("the instance runs").terminate(STOP);
        exit.assert_code(0);
        self.keep(exit);
        self.await_takeover(1 - leaver, lane, 1);
        self.start_all();
        self.await_some(&format!("lane of instance {leaver}, which is back"), |bed| bed.owners().into_values().find(|o| *o == leaver));
    }

    fn stderrs(&self) -> String {
        self.instances.iter().flatten().map(|p| format!("\n--- an instance\n{}", tail(&p.stderr()))).collect()
    }

    /// What delays the requests of a lane so that it stays in `phase` for a while. A little delay on all others.
    fn delay(&self, phase: Phase, lane: i32, ms: u64) {
        let publish = FaultRule { op: Some(self.plan.publish()), key: Some(self.watch.file_name(lane)), ..FaultRule::default() };
        let mut rules = match phase {
            Phase::Pinned => vec![FaultRule { before_ms: ms, ..publish }],
            Phase::Published | Phase::Untidied => vec![FaultRule { after_ms: ms, ..publish }],
            // The first parts pass, the others hold the pin back.
            Phase::PartsUploaded => vec![FaultRule { op: Some(Op::UploadPart), skip: 2, before_ms: ms, ..publish }],
            Phase::Open | Phase::Idle => vec![],
        };
        rules.push(FaultRule {
            op: Some(self.plan.publish()),
            key: Some("dt=".into()),
            before_ms: 20,
            after_ms: 20,
            ..FaultRule::default()
        });
        self.store.set_rules(&rules);
    }

    fn orphans(&self, lane: i32) -> BTreeSet<String> {
        self.store.dump().uploads_with_parts(&self.watch.file_name(lane))
    }

    /// Waits until the lane has come into `phase` with a window that was not pinned before. None if that takes too long.
    fn await_phase(&self, phase: Phase, lane: i32, orphans: &BTreeSet<String>) -> Option<(Note, Dump)> {
        let before = self.watch.note(lane).filter(|n| n.pinned.is_some()).map_or(-1, |n| n.start);
        let deadline = Instant::now() + AIM;
        while Instant::now() < deadline {
            // The group first: the log, which is large, only when the lane may be there.
            let note = self.watch.note(lane);
            let fits = note.as_ref().is_some_and(|n| match phase {
                Phase::Pinned | Phase::Published | Phase::Untidied => n.pinned.is_some() && n.start > before,
                _ => n.pinned.is_none(),
            });
            if let Some(note) = note.filter(|_| fits) {
                let dump = self.store.dump();
                let seen = self.watch.phase(lane, Some(&note), &dump, orphans);
                // Untidied is reached from published, with the instance stopped in between.
                if seen == phase || (seen == Phase::Published && phase == Phase::Untidied) {
                    return Some((note, dump));
                }
            }
            std::thread::sleep(Duration::from_millis(if phase == Phase::PartsUploaded { 40 } else { 8 }));
        }
        None
    }

    /// Stops an instance before an answer reaches it, and waits for the answer: the store has said yes, and nobody has heard.
    fn stop_before_answer(&mut self, owner: usize, note: &Note) {
        self.instance(owner).freeze();
        let object_key = self.watch.whole_key(note.pinned.as_ref().expect("a pinned window"));
        let deadline = Instant::now() + PATIENCE;
        while !self.store.dump().is_answered(&object_key) {
            assert!(Instant::now() < deadline, "{object_key} is not answered");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// One SIGKILL. What it hit, if the lane came into the phase and its owner was the one that was killed.
    fn strike(&mut self, phase: Phase, lane: i32, ms: u64) -> Option<Phase> {
        let owner = self.await_owner(lane);
        let orphans = self.orphans(lane);
        self.delay(phase, lane, ms);
        let (note, _) = self.await_phase(phase, lane, &orphans)?;
        if phase == Phase::Untidied {
            self.stop_before_answer(owner, &note);
        }
        self.kill(owner);
        let note = self.watch.note(lane);
        let hit = self.watch.phase(lane, note.as_ref(), &self.store.dump(), &orphans);
        self.delay(Phase::Idle, lane, 0);
        Some(hit)
    }

    /// Ends the run: all instances stop, one last one reads to the end, and everything is compared.
    fn finish(&mut self, producer: Producing) -> Figures {
        let (sent, aborted) = producer.stop();
        self.store.set_rules(&[]);
        for n in 0..self.instances.len() {
            if let Some(process) = self.instances[n].take() {
                let exit = process.terminate(STOP);
                exit.assert_code(0);
                self.keep(exit);
            }
        }
        let exit = self.backup(&["--until-end"]).run(Duration::from_secs(120));
        exit.assert_code(0);
        self.keep(exit);
        let verify = self.program("verify", &self.url(&format!("{}/", self.topic)), &["--json"]).run(Duration::from_secs(120));
        verify.assert_code(0);
        let report: serde_json::Value = serde_json::from_str(&verify.stdout).expect("verify prints JSON");
        assert_eq!((report["damage"].as_array().map(Vec::len), report["gaps"].as_array().map(Vec::len)), (Some(0), Some(0)), "{report}");
        let dump = self.store.dump();
        let rewritten = self.check_versions(&dump);
        let truth = Truth::read(self.kafka.bootstrap(), &self.topic);
        assert_eq!(truth.len() as u64, sent, "the broker shows what was sent and committed");
        if self.plan.is_raw() {
            self.compare_raw(&truth, &dump)
        } else {
            self.compare_parquet(&truth, &dump)
        }
        let alarm = self.said.iter().find(|said| said.contains("has another end"));
        assert!(alarm.is_none(), "two ends for one start: {}", alarm.map_or("", |s| s));
        Figures { records: sent, aborted, objects: dump.data().count(), rewritten }
    }

    /// No data object changed or went after it was visible. Returns how often one was written again with the same bytes.
    fn check_versions(&self, dump: &Dump) -> usize {
        let mut rewritten = 0;
        for (key, versions) in dump.data() {
            assert!(versions.iter().all(|v| *v == versions[0] && !v.deleted), "{key} changed: {versions:?}");
            rewritten += versions.len() - 1;
        }
        assert!(self.plan.class != "A" || rewritten == 0, "an atomic guard let {rewritten} second writes through");
        rewritten
    }

    fn compare_parquet(&self, truth: &Truth, dump: &Dump) {
        let mut stored = Stored::default();
        for (key, _) in dump.data() {
            let (partition, _) = place(key);
            let mut decoder = ParquetDecoder::new(Bytes::from(self.store.get(key))).unwrap_or_else(|e| panic!("{key}: {e}"));
            let mut block = Block::new(ValueLayout::Plain);
            while decoder.next_block(&mut block).unwrap_or_else(|e| panic!("{key}: {e}")) {
                block.iter().for_each(|record| stored.push_view(partition, &record));
            }
        }
        truth.assert_equals(&stored, &self.topic);
    }

    /// The values by a decoder of the test's own: a length, big-endian, -1 for null, and the bytes.
    fn compare_raw(&self, truth: &Truth, dump: &Dump) {
        let keys: BTreeMap<(i32, i64), &String> = dump.data().map(|(key, _)| (place(key), key)).collect();
        let mut found = Vec::new();
        let mut indices = BTreeMap::<i32, u64>::new();
        for ((partition, _), key) in keys {
            let object = self.store.get(key);
            let mut rest = object.as_slice();
            while let Some((len, tail)) = rest.split_first_chunk::<4>() {
                let len = usize::try_from(i32::from_be_bytes(*len)).ok();
                let (value, tail) = tail.split_at_checked(len.unwrap_or(0)).unwrap_or_else(|| panic!("{key} is torn"));
                let sum = len.map_or_else(|| "null".to_owned(), |_| Sha256::digest(value).iter().map(|b| format!("{b:02x}")).collect());
                let index = indices.entry(partition).or_default();
                found.push(format!("{partition} {index} {sum}"));
                *index += 1;
                rest = tail;
            }
            assert!(rest.is_empty(), "{key} is torn");
        }
        let expected = truth.value_lines(true);
        let differs = found.iter().zip(&expected).find(|(f, e)| f != e);
        assert!(differs.is_none(), "a value differs: {differs:?}");
        assert_eq!(found.len(), expected.len(), "values lost or stored twice at the end");
    }
}

/// What a run came to.
#[derive(Debug)]
#[expect(dead_code, reason = "printed")]
struct Figures {
    records: u64,
    aborted: u64,
    objects: usize,
    rewritten: usize,
}

/// The slot that an instance has locked: the number before `.lock` in the name of the file.
fn slot(process: &Process) -> Option<String> {
    let files = std::fs::read_dir(format!("/proc/{}/fd", process.pid())).ok()?;
    let paths = files.filter_map(|f| std::fs::read_link(f.ok()?.path()).ok());
    let names = paths.filter_map(|path| path.file_name()?.to_str()?.strip_suffix(".lock").map(str::to_owned));
    names.filter(|name| name.starts_with("catchment-")).find_map(|name| Some(name.rsplit_once('-')?.1.to_owned()))
}

/// A static member's id is its name, which ends with the slot, and a UUID.
fn is_member_of_slot(member: &str, slot: &str) -> bool {
    const UUID_CHARS: usize = 36;
    member.len().checked_sub(UUID_CHARS + 1).and_then(|end| member.get(..end)).is_some_and(|name| name.ends_with(&format!("-{slot}")))
}

/// Partition and start in a data object's key.
fn place(key: &str) -> (i32, i64) {
    let name = key.rsplit('/').next().unwrap_or_default();
    let mut words = name.split('+').skip(1);
    let mut number = || words.next().and_then(|w| w.split('.').next()).and_then(|w| w.parse::<i64>().ok());
    match (number(), number()) {
        (Some(partition), Some(start)) => (i32::try_from(partition).expect("a partition fits"), start),
        _ => panic!("{key} is no data object's key"),
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// A thread that sends records until it is told to stop.
struct Producing {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, u64)>,
}

impl Producing {
    fn start(bed: &Bed) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (plan, bootstrap, topic) = (bed.plan, bed.kafka.bootstrap().to_owned(), bed.topic.clone());
        let watch = Watch::new(&bootstrap, &format!("catchment-{topic}"), &topic, plan.partitions(), PREFIX);
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || Sender::new(plan, &bootstrap, topic, watch).run(&told));
        Self { stop, thread }
    }

    /// How many records were committed, and how many aborted.
    fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the producer does not panic")
    }
}

struct Sender {
    plan: Plan,
    topic: String,
    profile: Profile,
    plain: Vec<RecordProducer>,
    transactional: RecordProducer,
    watch: Watch,
    sequences: Vec<u64>,
}

impl Sender {
    /// From one turn to the next.
    const TURN: Duration = Duration::from_millis(100);
    /// Records of a turn for each partition.
    const RECORDS: u64 = 5;
    /// A transaction every so many turns.
    const TRANSACTION_TURNS: u64 = 7;

    fn new(plan: Plan, bootstrap: &str, topic: String, watch: Watch) -> Self {
        let now = jiff::Timestamp::now().as_millisecond();
        let codecs = if plan.is_raw() { &Codec::ALL[..1] } else { &Codec::ALL };
        Self {
            profile: plan.profile().with_times(now, 18_000),
            plain: codecs.iter().map(|codec| RecordProducer::new(bootstrap, *codec)).collect(),
            transactional: RecordProducer::transactional(bootstrap, Codec::None, &topic),
            sequences: vec![0; usize::try_from(plan.partitions()).expect("partitions >= 0")],
            plan,
            topic,
            watch,
        }
    }

    fn run(mut self, told: &AtomicBool) -> (u64, u64) {
        let (mut sent, mut aborted, mut turn) = (0, 0, 0_u64);
        let began = Instant::now();
        while !told.load(Ordering::Relaxed) {
            let producer = usize::try_from(turn).expect("a count fits") % self.plain.len();
            sent += self.send(Some(producer));
            if turn % Self::TRANSACTION_TURNS == 0 {
                self.transactional.begin();
                let in_transaction = self.send(None);
                self.transactional.flush();
                if turn % (2 * Self::TRANSACTION_TURNS) == 0 {
                    self.transactional.abort();
                    aborted += in_transaction;
                } else {
                    self.transactional.commit();
                    sent += in_transaction;
                }
            }
            turn += 1;
            let due = Self::TURN * u32::try_from(turn).expect("a run is short");
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        self.plain.iter().for_each(RecordProducer::flush);
        (sent, aborted)
    }

    fn send(&mut self, plain: Option<usize>) -> u64 {
        let notes = if self.plan.is_raw() { self.watch.notes() } else { BTreeMap::new() };
        let mut count = 0;
        for partition in 0..self.plan.partitions() {
            let stored = notes.get(&partition).map_or(0, |n| n.position);
            if self.plan.is_raw() && self.watch.log_end(partition) - stored > self.plan.ahead_max() {
                continue;
            }
            for _ in 0..Self::RECORDS {
                let next = &mut self.sequences[partition.unsigned_abs() as usize];
                let record = self.profile.record(11, &self.topic, partition, *next);
                *next += 1;
                plain.map_or(&self.transactional, |n| &self.plain[n]).send(&self.topic, partition, &record);
                count += 1;
            }
        }
        count
    }
}

/// Two instances, aimed SIGKILLs and more beside them, then the comparison.
fn survives_kills(plan: Plan) {
    let began = Instant::now();
    let mut bed = Bed::new(plan, env!("CARGO_BIN_EXE_s3server"));
    let producer = Producing::start(&bed);
    bed.start_all();
    let (mut hits, mut kills, mut misses, mut turn, mut leaves) = (Hits::default(), 0, 0, 0, 0);
    let phases = plan.phases();
    let rare = |hits: &Hits| phases.iter().copied().min_by_key(|p| hits.of(*p)).expect("there are phases");
    while kills < KILLS_MIN || hits.of(rare(&hits)) < HITS_MIN {
        assert!(misses < 12 && hits.total() < STRIKES_MAX, "the phases cannot be hit; {misses} misses\n{hits}{}", bed.stderrs());
        let lane = turn % plan.partitions();
        turn += 1;
        let phase = rare(&hits);
        // Short and long delays: a late request takes effect before the window's recovery looks, and after.
        let Some(hit) = bed.strike(phase, lane, if turn % 2 == 0 { 1500 } else { 4000 }) else {
            misses += 1;
            continue;
        };
        hits.add(phase, hit);
        println!("{}: {:.1?}: aimed at {phase} of lane {lane}, hit {hit}", plan.name, began.elapsed());
        kills += 1;
        match turn % 8 {
            // The other one too: nobody is left.
            1 => {
                for n in 0..bed.instances.len() {
                    if bed.instances[n].is_some() {
                        bed.kill(n);
                        kills += 1;
                    }
                }
            }
            // Away for longer than its session: the other one takes its lanes over, and gives some back later.
            4 => {
                let heir = bed.instances.iter().position(Option::is_some).expect("one instance was not killed");
                bed.await_takeover(heir, lane, 1);
            }
            // The same by SIGTERM, once both run again.
            6 | 7 if leaves * 16 < turn => {
                bed.start_all();
                bed.leave_and_rejoin(lane);
                leaves += 1;
            }
            _ => {}
        }
        bed.start_all();
    }
    assert!(leaves > 0, "in {turn} turns nobody was asked to leave");
    let struck = began.elapsed();
    let figures = bed.finish(producer);
    report(&format!(
        "{}: {kills} SIGKILLs and {leaves} SIGTERMs in {struck:.0?}, {misses} misses; {figures:?}; 0 lost, 0 duplicated, 0 altered; took {:.0?}\n{hits}",
        plan.name,
        began.elapsed()
    ));
}

/// Says how often each phase was hit: what a passing test prints is swallowed, what it writes is not.
fn report(text: &str) {
    writeln!(std::io::stderr().lock(), "{text}").expect("stderr can be written");
}

/// How an instance is caught in its sleep.
#[derive(Clone, Copy, Debug)]
enum Sleep {
    /// With an open window: it wakes, seals it and wants to pin it.
    Open,
    /// With half of a pinned window sent: it wakes and sends the rest.
    HalfSent,
    /// With the whole of a pinned window under way, if it is small: it takes effect when another instance has long finished the window.
    UnderWay,
    /// With a window that is visible and an answer that comes in its sleep.
    Published,
}

impl Sleep {
    fn phase(self) -> Phase {
        match self {
            Self::Open => Phase::Open,
            Self::HalfSent | Self::UnderWay => Phase::Pinned,
            Self::Published => Phase::Published,
        }
    }

    /// What is done to the one request of the lane that is caught; all others pass.
    fn rule(self, bed: &Bed, lane: i32) -> Vec<FaultRule> {
        let one = FaultRule { op: Some(Op::PutObject), key: Some(bed.watch.file_name(lane)), count: Some(1), ..FaultRule::default() };
        match self {
            Self::Open => vec![],
            Self::HalfSent => vec![FaultRule { body_rate: Some(6 << 20), ..one }],
            Self::UnderWay => vec![FaultRule { before_ms: LATE_MS, ..one }],
            Self::Published => vec![FaultRule { after_ms: 3_000, ..one }],
        }
    }
}

impl Bed {
    /// Freezes the owner of the lane when it is where `sleep` wants it. None if it was not caught there.
    fn freeze(&mut self, sleep: Sleep, lane: i32) -> Option<(usize, Note)> {
        let owner = self.await_owner(lane);
        self.store.set_rules(&sleep.rule(self, lane));
        let none = BTreeSet::new();
        let (note, _) = self.await_phase(sleep.phase(), lane, &none)?;
        self.instance(owner).freeze();
        std::thread::sleep(Duration::from_millis(150));
        let still = self.watch.note(lane);
        if still.as_ref() == Some(&note) && self.watch.phase(lane, still.as_ref(), &self.store.dump(), &none) == sleep.phase() {
            return Some((owner, note));
        }
        self.instance(owner).thaw();
        None
    }
}

/// Two instances, one of which sleeps past its session in each of these ways while the other finishes its windows, and wakes.
fn survives_sleepers(plan: Plan, sleeps: &[Sleep]) {
    let began = Instant::now();
    let mut bed = Bed::new(plan, env!("CARGO_BIN_EXE_s3server"));
    let producer = Producing::start(&bed);
    bed.start_all();
    for (n, sleep) in sleeps.iter().copied().enumerate() {
        let lane = i32::try_from(n).expect("a count fits") % plan.partitions();
        let caught = (0..6).find_map(|_| bed.freeze(sleep, lane));
        let (sleeper, note) = caught.unwrap_or_else(|| panic!("no instance could be caught {sleep:?}{}", bed.stderrs()));
        let slept = Instant::now();
        // The frozen window, and a further one.
        bed.await_takeover(1 - sleeper, lane, 2);
        if matches!(sleep, Sleep::UnderWay) {
            std::thread::sleep(Duration::from_millis(LATE_MS + 1000).saturating_sub(slept.elapsed()));
        }
        let slept = slept.elapsed();
        bed.instance(sleeper).thaw();
        // It finds that it is no member any more and joins anew: then it has lanes again.
        bed.await_some(&format!("lane of the sleeper of {sleep:?}, which woke"), |bed| bed.owners().into_values().find(|o| *o == sleeper));
        println!("{}: {sleep:?} for {slept:.1?} at {note:?}", plan.name);
    }
    let figures = bed.finish(producer);
    report(&format!("{}: {figures:?}; 0 lost, 0 duplicated, 0 altered; took {:.0?}", plan.name, began.elapsed()));
}

const SMALL: Plan = Plan { name: "put", personality: "minio", class: "A", objects: Objects::Small };
const MULTIPART: Plan = Plan { name: "parts", objects: Objects::Multipart, ..SMALL };

#[test]
fn kills_with_single_puts_behind_an_atomic_guard() {
    survives_kills(Plan { name: "put-a", ..SMALL });
}

#[test]
fn kills_with_single_puts_behind_a_racy_guard() {
    survives_kills(Plan { name: "put-b", personality: "cos", class: "B", ..SMALL });
}

#[test]
fn kills_with_single_puts_without_a_guard() {
    survives_kills(Plan { name: "put-c", class: "C", ..SMALL });
}

#[test]
fn kills_with_multipart_uploads_behind_an_atomic_guard() {
    survives_kills(Plan { name: "parts-a", ..MULTIPART });
}

#[test]
fn kills_with_multipart_uploads_behind_a_racy_guard() {
    survives_kills(Plan { name: "parts-b", personality: "cos", class: "B", ..MULTIPART });
}

#[test]
fn kills_with_multipart_uploads_without_a_guard() {
    survives_kills(Plan { name: "parts-c", class: "C", ..MULTIPART });
}

#[test]
fn a_sleeper_with_a_large_window_wakes_behind_an_atomic_guard() {
    let plan = Plan { name: "sleep-large-a", objects: Objects::Large, ..SMALL };
    survives_sleepers(plan, &[Sleep::Open, Sleep::HalfSent]);
}

#[test]
fn a_sleeper_with_a_large_window_wakes_without_a_guard() {
    let plan = Plan { name: "sleep-large-c", class: "C", objects: Objects::Large, ..SMALL };
    survives_sleepers(plan, &[Sleep::HalfSent]);
}

#[test]
fn a_sleeper_wakes_behind_an_atomic_guard() {
    survives_sleepers(Plan { name: "sleep-a", ..SMALL }, &[Sleep::UnderWay, Sleep::Published]);
}

#[test]
fn a_sleeper_wakes_without_a_guard() {
    survives_sleepers(Plan { name: "sleep-c", class: "C", ..SMALL }, &[Sleep::Open, Sleep::UnderWay, Sleep::Published]);
}
