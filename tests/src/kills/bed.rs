//! A rule with its topic, its store and two instances, which are started, killed, frozen and asked to leave: and the waiting for what must come of that.
//!
//! Place in the flow: [`survives_kills`](super::survives_kills) and [`survives_sleepers`](super::survives_sleepers) drive it; what it stored in the end is
//! compared in `comparison`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use super::plan::Plan;
use super::{PREFIX, STOP};
use crate::admin::Admin;
use crate::phases::{Dump, Note, Phase, S3Process, Watch};
use crate::process::{Exit, Process, Program};
use crate::s3::{FaultRule, Op};
use crate::services::Kafka;

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long a lane may take to come into the phase that is aimed at, before another lane is tried.
const AIM: Duration = Duration::from_secs(40);

/// A rule with its topic, its store and its instances.
pub(super) struct Bed {
    pub(super) plan: Plan,
    pub(super) kafka: &'static Kafka,
    pub(super) topic: String,
    pub(super) store: S3Process,
    pub(super) watch: Watch,
    pub(super) instances: Vec<Option<Process>>,
    pub(super) said: Vec<String>,
}

impl Bed {
    pub(super) fn new(plan: Plan, s3server: &str) -> Self {
        let kafka = Kafka::shared();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is past 1970");
        let topic = format!("{}-{:x}", plan.name, now.as_millis());
        Admin::new(kafka.bootstrap()).create_mixed_topic(&topic, plan.partitions());
        let arguments = ["--personality", plan.personality, "--class-put", plan.class, "--class-complete", plan.class];
        let store = S3Process::start(Path::new(s3server), plan.bucket(), &arguments);
        let watch = Watch::new(kafka.bootstrap(), &format!("catchment-{topic}"), &topic, plan.partitions(), PREFIX);
        Self { plan, kafka, topic, store, watch, instances: vec![None, None], said: Vec::new() }
    }

    pub(super) fn url(&self, directory: &str) -> String {
        let (scheme, region) = if self.plan.personality == "cos" { ("cos", "ap-guangzhou") } else { ("s3", "us-east-1") };
        format!("{scheme}://{}/{PREFIX}{directory}?region={region}&endpoint={}", self.plan.bucket(), self.store.endpoint())
    }

    pub(super) fn program(&self, verb: &str, subject: &str, more: &[&str]) -> Program {
        let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY"];
        Program::new([verb, subject, "-b", self.kafka.bootstrap()]).args(more).envs(keys.map(|k| (k, "test")))
    }

    pub(super) fn backup(&self, more: &[&str]) -> Program {
        let session = ["-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=500"];
        self.program("backup", &self.topic, &["--to", &self.url("")]).args(self.plan.arguments()).args(session).args(more)
    }

    /// Starts every instance that does not run.
    pub(super) fn start_all(&mut self) {
        for n in 0..self.instances.len() {
            if self.instances[n].is_none() {
                self.instances[n] = Some(self.backup(&[]).spawn());
            }
        }
    }

    pub(super) fn instance(&mut self, n: usize) -> &mut Process {
        self.instances[n].as_mut().expect("the instance runs")
    }

    pub(super) fn kill(&mut self, n: usize) {
        let process = self.instances[n].take().expect("the instance runs");
        self.keep(process.kill());
    }

    pub(super) fn keep(&mut self, exit: Exit) {
        self.said.push(exit.stderr);
    }

    /// Which instance has which lane, once the group is stable. An instance is known by the slot that it has locked, a member by its
    /// static name, which ends with the slot.
    pub(super) fn owners(&self) -> BTreeMap<i32, usize> {
        let slots: Vec<_> = self.instances.iter().map(|i| i.as_ref().and_then(slot)).collect();
        let of = |member: &str| slots.iter().position(|slot| slot.as_ref().is_some_and(|s| is_member_of_slot(member, s)));
        self.watch.owners().into_iter().filter_map(|(lane, member)| Some((lane, of(&member)?))).collect()
    }

    pub(super) fn await_owner(&self, lane: i32) -> usize {
        self.await_some(&format!("an owner of lane {lane}"), |bed| bed.owners().remove(&lane))
    }

    /// Waits for an answer.
    pub(super) fn await_some<T>(&self, what: &str, ask: impl Fn(&Self) -> Option<T>) -> T {
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
    pub(super) fn await_takeover(&self, heir: usize, lane: i32, windows: usize) {
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
    pub(super) fn leave_and_rejoin(&mut self, lane: i32) {
        let leaver = self.await_owner(lane);
        let exit = self.instances[leaver].take().expect("the instance runs").terminate(STOP);
        exit.assert_code(0);
        self.keep(exit);
        self.await_takeover(1 - leaver, lane, 1);
        self.start_all();
        self.await_some(&format!("lane of instance {leaver}, which is back"), |bed| bed.owners().into_values().find(|o| *o == leaver));
    }

    pub(super) fn stderrs(&self) -> String {
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
    pub(super) fn await_phase(&self, phase: Phase, lane: i32, orphans: &BTreeSet<String>) -> Option<(Note, Dump)> {
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
    pub(super) fn strike(&mut self, phase: Phase, lane: i32, ms: u64) -> Option<Phase> {
        let owner = self.await_owner(lane);
        let orphans = self.orphans(lane);
        self.delay(phase, lane, ms);
        let (note, _) = self.await_phase(phase, lane, &orphans)?;
        if self.owners().get(&lane).is_some_and(|now| *now != owner) {
            return None; // the lane has moved meanwhile
        }
        if phase == Phase::Untidied {
            self.stop_before_answer(owner, &note);
        }
        self.kill(owner);
        let note = self.watch.note(lane);
        let hit = self.watch.phase(lane, note.as_ref(), &self.store.dump(), &orphans);
        self.delay(Phase::Idle, lane, 0);
        Some(hit)
    }
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

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
