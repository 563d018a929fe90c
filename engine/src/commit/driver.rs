//! A lane's life: recover, then follow the partition window by window, until the lane is revoked or must stop.
//!
//! Place in the flow: one task for each lane. It is the only one that asks for commits of its lane, and it takes one step at a
//! time, so that the order of the protocol is the order of the code. When the lane is revoked the task is dropped wherever it
//! stands; whatever it had sent may still take effect, and the next owner's recovery accounts for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catchment_formats::{Encoding, GapCause, LaneId};
use crossbeam_channel::Sender;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::clock::{Backoff, Clock};
use crate::commit::control::Anchor;
use crate::commit::publish::Assembly;
use crate::commit::recover::Resume;
use crate::config::{Accept, OnGap};
use crate::consumer::{ConsumerCommand, ConsumerShared};
use crate::error::{Code, Error, ErrorKind, codes};
use crate::intent::{CommitNote, Tidy, VERSION};
use crate::lane::LaneLease;
use crate::limits::{ANCHOR_INTERVAL, RECOMMIT_INTERVAL, SEGMENT_EVENTS_MAX, TIDY_DELAY_MAX};
use crate::metrics::Metrics;
use crate::reader::RunStart;
use crate::report::{LaneNote, Reporter, WindowCommitted};
use crate::rule::Rule;
use crate::segment::{Run, SealedSegment, SegmentEvent};
use crate::source::{CommitError, Committed, Group, QueueFault, Source, TopicPartition};
use crate::store::{Guard, Metadata, ObjectStore, Payload};
use crate::topics::{TopicClaim, TopicClaims};

/// What all lanes of a rule share.
#[derive(Debug)]
pub struct LaneEnv {
    /// The rule.
    pub rule: Rule,
    /// Where records come from.
    pub source: Arc<dyn Source>,
    /// Where progress is committed.
    pub group: Arc<dyn Group>,
    /// Where objects go.
    pub store: Arc<dyn ObjectStore>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What the consumers share.
    pub shared: Arc<ConsumerShared>,
    /// The consumer threads.
    pub consumers: Vec<ConsumerPort>,
    /// Claims of the rule's topics.
    pub claims: TopicClaims,
    /// Bounds the parts on their way, over all lanes.
    pub parts_in_flight: Arc<Semaphore>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Tells the operator.
    pub reporter: Arc<dyn Reporter>,
    /// Where each partition's run ends, if the process is to end there.
    pub until: HashMap<TopicPartition, i64>,
    /// Numbers runs.
    pub runs: AtomicU64,
    /// Lanes that have an object or an intent on its way.
    pub publishing: AtomicUsize,
    /// Committed positions.
    pub progress: Progress,
    /// The queue of a partition that is still open, by partition.
    pub open_queues: Mutex<HashMap<TopicPartition, oneshot::Receiver<()>>>,
    /// The anchor of every lane that lived in this process, by its key; written at the end.
    pub anchors: Mutex<HashMap<String, Anchor>>,
}

impl LaneEnv {
    /// Writes all anchors, a few at a time. What fails stays as it was: an older anchor is a lower bound too.
    pub async fn write_anchors(&self) {
        let anchors: Vec<_> = self.anchors.lock().unwrap_or_else(PoisonError::into_inner).drain().collect();
        let mut writes = tokio::task::JoinSet::new();
        for (key, anchor) in anchors {
            if writes.len() >= ANCHORS_IN_FLIGHT_MAX {
                writes.join_next().await;
            }
            let store = Arc::clone(&self.store);
            writes.spawn(async move {
                let body = Payload::from_bytes(serde_json::to_vec(&anchor).expect("an anchor is plain JSON"));
                let none = Metadata::new();
                let write = store.put(&key, body, &none, Guard::Overwrite);
                if !matches!(tokio::time::timeout(ANCHOR_DEADLINE, write).await, Ok(Ok(_))) {
                    tracing::warn!(key, "the anchor was not written");
                }
            });
        }
        while writes.join_next().await.is_some() {}
    }
}

/// Anchors written at once when the process ends. More would be throttled, fewer take longer than a stop may.
const ANCHORS_IN_FLIGHT_MAX: usize = 16;

/// How long one anchor may take when the process ends.
const ANCHOR_DEADLINE: Duration = Duration::from_secs(1);

/// A consumer thread, as lanes see it.
#[derive(Clone, Debug)]
pub struct ConsumerPort {
    /// Commands.
    pub commands: Sender<ConsumerCommand>,
    /// Wakes the thread.
    pub wake: Sender<()>,
}

/// What the lanes of this process have reached.
#[derive(Debug, Default)]
pub struct Progress {
    positions: Mutex<HashMap<TopicPartition, i64>>,
    stopped: Mutex<HashMap<TopicPartition, Error>>,
    /// Rises with every change.
    pub changes: tokio::sync::watch::Sender<u64>,
}

impl Progress {
    /// Notes a committed position.
    pub fn note(&self, tp: &TopicPartition, position: i64) {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).insert(tp.clone(), position);
        self.changes.send_modify(|n| *n += 1);
    }

    /// Notes that a lane stopped, or, with none, that it lives again or is somebody else's.
    fn note_stop(&self, tp: &TopicPartition, error: Option<Error>) {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) => stopped.insert(tp.clone(), error),
            None => stopped.remove(tp),
        };
        drop(stopped);
        self.changes.send_modify(|n| *n += 1);
    }

    /// Errors of the lanes that have stopped.
    pub fn stopped(&self) -> Vec<Error> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The last committed position.
    pub fn get(&self, tp: &TopicPartition) -> Option<i64> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).get(tp).copied()
    }
}

/// Why a lane leaves what it was doing.
#[derive(Debug)]
pub enum Exit {
    /// The lane was revoked.
    Dead,
    /// Drop everything and recover again.
    Restart(String),
    /// Stop the lane, keep its state in Kafka as it is, and tell the operator.
    Stopped(Box<Error>),
}

impl From<Error> for Exit {
    /// What passes by itself is tried again from the start of the recovery; all else stops the lane.
    fn from(error: Error) -> Self {
        match error.kind {
            ErrorKind::Retryable | ErrorKind::Unreachable => Self::Restart(error.to_string()),
            _ => Self::Stopped(Box::new(error)),
        }
    }
}

/// One lane.
#[derive(Debug)]
pub struct Lane {
    pub(super) env: Arc<LaneEnv>,
    pub(super) lease: Arc<LaneLease>,
    pub(super) id: LaneId,
    pub(super) claim: TopicClaim,
    /// P: the committed offset. Nothing visible lies between `start` and this.
    pub(super) position: i64,
    /// S: start of the next object.
    pub(super) start: i64,
    pub(super) leader_epoch: i32,
    /// Key of the last object.
    pub(super) last_key: Option<String>,
    /// Whether P and S are not in the group yet: since when.
    pub(super) untidied: Option<Duration>,
    /// Whether the key of the first pin of this assignment was looked at (rule R2).
    pub(super) first_key_checked: bool,
    read_back: bool,
    /// Where the log ended when it was found shorter than the position, if the operator said to wait.
    pub(super) truncated_at: Option<i64>,
    anchor_written: Option<Duration>,
    committed_at: Duration,
    /// Faults by position: the same fault twice is not a passing one.
    pub(super) faults: Vec<(i64, QueueFault)>,
}

/// Runs a lane until it is revoked or stops.
pub async fn run(env: Arc<LaneEnv>, lease: Arc<LaneLease>) {
    let outcome = tokio::select! {
        biased;
        () = lease.dead() => Exit::Dead,
        exit = live(Arc::clone(&env), Arc::clone(&lease)) => exit,
    };
    if let Exit::Stopped(error) = outcome {
        env.metrics.lanes_stopped.inc();
        let error = error.with("topic", &lease.tp.topic).with("partition", lease.tp.partition);
        env.reporter.lane(&lease.tp, LaneNote::Stopped(&error));
        env.progress.note_stop(&lease.tp, Some(error));
        // The lease stays, so that no other member takes the partition over with the same question.
        lease.dead().await;
        env.progress.note_stop(&lease.tp, None);
    }
}

async fn live(env: Arc<LaneEnv>, lease: Arc<LaneLease>) -> Exit {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    let mut faults = Vec::new();
    loop {
        let mut lane = match Lane::begin(Arc::clone(&env), Arc::clone(&lease)).await {
            Ok(lane) => lane,
            Err(Exit::Restart(why)) => {
                env.reporter.lane(&lease.tp, LaneNote::Restarted(&why));
                backoff.wait(&*env.clock).await;
                continue;
            }
            Err(exit) => return exit,
        };
        lane.faults = std::mem::take(&mut faults);
        let began = env.clock.steady();
        let exit = lane.pass().await;
        let Exit::Restart(why) = exit else { return exit };
        env.metrics.lane_restarts.inc();
        env.reporter.lane(&lease.tp, LaneNote::Restarted(&why));
        faults = std::mem::take(&mut lane.faults);
        if env.clock.steady().saturating_sub(began) > Duration::from_secs(60) {
            backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        }
        backoff.wait(&*env.clock).await;
    }
}

impl Lane {
    async fn begin(env: Arc<LaneEnv>, lease: Arc<LaneLease>) -> Result<Self, Exit> {
        let claim = env.claims.claim(&env, &lease.tp).await?;
        let id = LaneId {
            rule: env.rule.name.clone(),
            cluster: env.source.cluster_id().to_owned(),
            topic: lease.tp.topic.to_string(),
            topic_id: claim.topic_id.clone(),
            partition: lease.tp.partition,
        };
        let committed_at = env.clock.steady();
        Ok(Self {
            env,
            lease,
            id,
            claim,
            position: 0,
            start: 0,
            leader_epoch: -1,
            last_key: None,
            untidied: None,
            first_key_checked: false,
            read_back: false,
            truncated_at: None,
            anchor_written: None,
            committed_at,
            faults: Vec::new(),
        })
    }

    /// One recovery and the run that follows it.
    async fn pass(&mut self) -> Exit {
        let resume = match self.recover().await {
            Ok(resume) => resume,
            Err(exit) => return exit,
        };
        self.env.progress.note(&self.lease.tp, self.position);
        self.keep_anchor().await;
        match self.follow(resume).await {
            Ok(()) => {
                // The run read all that was asked for; the lane stays, idle, until the process ends.
                self.lease.dead().await;
                Exit::Dead
            }
            Err(exit) => exit,
        }
    }

    async fn follow(&mut self, resume: Resume) -> Result<(), Exit> {
        let (run, mut events) = self.start_run(&resume).await?;
        let _abandon = AbandonOnDrop(Arc::clone(&run));
        let mut pinned = resume.intent;
        let mut assembly = Assembly::new(self, pinned.as_ref());
        let mut pressure = self.env.shared.pressure.subscribe();
        loop {
            let housekeeping = self.env.clock.sleep(Duration::from_secs(5));
            let event = tokio::select! {
                biased;
                event = events.recv() => event.ok_or_else(|| Exit::Restart("the run ended without a word".into()))?,
                Ok(()) = pressure.changed() => {
                    assembly.ship_early(self).await?;
                    continue;
                }
                () = housekeeping => {
                    self.keep_house().await?;
                    continue;
                }
            };
            match event {
                SegmentEvent::Part(part, directory_ms) => assembly.add(self, part, directory_ms).await?,
                SegmentEvent::Sealed(sealed) => {
                    let done = std::mem::replace(&mut assembly, Assembly::new(self, None));
                    self.commit_segment(done, *sealed, pinned.take()).await?;
                    run.sealed.fetch_sub(1, Ordering::Relaxed);
                    self.wake_consumer();
                    if events.is_empty() || self.untidied_for() > TIDY_DELAY_MAX {
                        self.tidy().await?;
                    }
                    self.keep_anchor().await;
                }
                SegmentEvent::Empty { position, leader_epoch } => {
                    self.position = self.position.max(position);
                    self.leader_epoch = leader_epoch;
                    self.untidied.get_or_insert(self.env.clock.steady());
                    self.tidy().await?;
                }
                SegmentEvent::Fault { fault, position } => return Err(self.on_fault(fault, position)),
                SegmentEvent::Finished => {
                    self.tidy().await?;
                    self.env.reporter.lane(&self.lease.tp, LaneNote::Finished);
                    return Ok(());
                }
            }
        }
    }

    async fn start_run(&mut self, resume: &Resume) -> Result<(Arc<Run>, mpsc::Receiver<SegmentEvent>), Exit> {
        let tp = self.lease.tp.clone();
        let before = self.env.open_queues.lock().unwrap_or_else(PoisonError::into_inner).remove(&tp);
        if let Some(closed) = before {
            // An error means that the sender is gone, which is what is waited for.
            let _ = closed.await;
        }
        let waker = self.port().wake.clone();
        let wake = Arc::new(move || {
            let _ = waker.try_send(());
        });
        let corrupt_skipped = match self.skips_corrupt() {
            true => Some(self.env.source.bounds(&tp).await?.stable_end),
            false => None,
        };
        let queue = self.env.source.open(&tp, resume.position, self.leader_epoch, wake)?;
        let (events, received) = mpsc::channel(SEGMENT_EVENTS_MAX);
        let (closed, closing) = oneshot::channel();
        self.env.open_queues.lock().unwrap_or_else(PoisonError::into_inner).insert(tp.clone(), closing);
        let run = Run::new(self.env.runs.fetch_add(1, Ordering::Relaxed), self.id.clone(), resume.position);
        let start = RunStart {
            run: Arc::clone(&run),
            lease: Arc::clone(&self.lease),
            queue,
            start: resume.start,
            position: resume.position,
            encoding: self.encoding(),
            missing: resume.missing.clone(),
            pinned: resume.pinned_range(),
            until: self.env.until.get(&tp).copied(),
            corrupt_skipped,
            events,
            closed,
        };
        self.env.metrics.track(&self.lease.tp, &run);
        let command = ConsumerCommand::Start(Box::new(start));
        // A full channel means a consumer that is busy; the runtime's other lanes must not wait for it.
        let commands = self.port().commands.clone();
        let _ = tokio::task::spawn_blocking(move || commands.send(command)).await;
        self.wake_consumer();
        Ok((run, received))
    }

    fn port(&self) -> &ConsumerPort {
        let spread = self.lease.tp.topic.bytes().fold(0_usize, |sum, b| sum.wrapping_add(b as usize));
        let lane = spread.wrapping_add(usize::try_from(self.lease.tp.partition).unwrap_or_default());
        &self.env.consumers[lane % self.env.consumers.len()]
    }

    pub(super) fn wake_consumer(&self) {
        let _ = self.port().wake.try_send(());
    }

    fn encoding(&self) -> Encoding {
        self.env.rule.encoding
    }

    /// The key of the object that starts at `start`.
    pub(super) fn key(&self, start: i64, directory_ms: Option<i64>, extension: &str) -> String {
        self.env.rule.object_key(&self.claim.name, self.lease.tp.partition, start, directory_ms, extension)
    }

    fn on_fault(&mut self, fault: QueueFault, position: i64) -> Exit {
        self.env.metrics.queue_faults.inc();
        let seen_before = self.faults.iter().any(|(at, f)| *at == position && std::mem::discriminant(f) == std::mem::discriminant(&fault));
        let why = format!("{fault:?} at offset {position}");
        match fault {
            QueueFault::Denied(cause) => Error::new(Code(231), ErrorKind::Denied, "reading the topic is not permitted")
                .because(cause)
                .help("grant READ and DESCRIBE on the topic to this user; the lane goes on by itself at the next start")
                .into(),
            QueueFault::Corrupt(cause) if seen_before && self.env.rule.on_gap(GapCause::CorruptBatch) == OnGap::Halt => {
                Error::new(Code(428), ErrorKind::Corrupt, "a batch in Kafka is corrupt, and the rule says to halt")
                    .with("offset", position)
                    .because(cause)
                    .help("restore the partition from a replica, or set on_gap.corrupt_batch = \"continue\" to list it as a gap")
                    .into()
            }
            QueueFault::Truncated(cause) if !self.env.rule.accepts(Accept::Truncation) => Error::new(
                codes::LOG_TRUNCATED,
                ErrorKind::Asks,
                "the partition ends before what was backed up: its log was truncated",
            )
            .with("position", position)
            .because(cause)
            .help("to wait until the log has passed the position, listing the difference as a gap, start once with --accept truncation")
            .into(),
            _ => {
                self.faults.push((position, fault));
                Exit::Restart(why)
            }
        }
    }

    /// The same batch failed twice, and the rule says to list it and go on.
    fn skips_corrupt(&self) -> bool {
        let corrupt: Vec<i64> = self.faults.iter().filter(|(_, f)| matches!(f, QueueFault::Corrupt(_))).map(|(at, _)| *at).collect();
        let twice = corrupt.iter().any(|at| corrupt.iter().filter(|other| *other == at).count() > 1);
        twice && self.env.rule.on_gap(GapCause::CorruptBatch) == OnGap::Continue
    }

    /// How long the group has not known what is durable.
    fn untidied_for(&self) -> Duration {
        self.untidied.map_or(Duration::ZERO, |since| self.env.clock.steady().saturating_sub(since))
    }

    /// Step 6: the group learns what is durable.
    pub(super) async fn tidy(&mut self) -> Result<(), Exit> {
        if self.untidied.is_some() {
            let note = CommitNote::Tidy(self.tidy_note());
            self.commit(&note).await?;
            self.untidied = None;
            self.env.progress.note(&self.lease.tp, self.position);
        }
        Ok(())
    }

    pub(super) fn tidy_note(&self) -> Tidy {
        Tidy { v: VERSION, t: self.claim.topic_hash.clone(), d: self.env.rule.destination_hash.clone(), start: self.start }
    }

    /// One OffsetCommit of P with `note`, by rule A1, repeated while its fate is unknown.
    pub(super) async fn commit(&mut self, note: &CommitNote) -> Result<(), Exit> {
        match self.try_commit(note).await? {
            Ok(()) => Ok(()),
            Err(CommitError::MetadataTooLarge) => Err(refused("the broker's offset.metadata.max.bytes is too small for an intent").into()),
            Err(e) => Err(refused(&e.to_string()).into()),
        }
    }

    /// As [`commit`](Self::commit), but answers a refusal that the caller may be able to mend.
    pub(super) async fn try_commit(&mut self, note: &CommitNote) -> Result<Result<(), CommitError>, Exit> {
        let commit = Committed { offset: self.position, leader_epoch: self.leader_epoch, metadata: note.print() };
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            match self.env.group.commit(&self.lease, commit.clone()).await {
                Ok(()) => break,
                Err(CommitError::LaneDead) => return Err(Exit::Dead),
                Err(CommitError::StaleMember(why)) => return Err(Exit::Restart(format!("the group refused the commit: {why}"))),
                Err(CommitError::RebalanceInProgress | CommitError::Unknown(_)) => {
                    self.env.metrics.commit_retries.inc();
                    backoff.wait(&*self.env.clock).await;
                }
                Err(CommitError::InstanceFenced) => return Err(fenced().into()),
                Err(e @ (CommitError::MetadataTooLarge | CommitError::Refused(_))) => return Ok(Err(e)),
            }
        }
        self.committed_at = self.env.clock.steady();
        self.read_back(&commit).await?;
        Ok(Ok(()))
    }

    /// The first commit is read back: a broker or proxy might drop the metadata, and then nothing here would hold.
    async fn read_back(&mut self, commit: &Committed) -> Result<(), Exit> {
        if std::mem::replace(&mut self.read_back, true) {
            return Ok(());
        }
        let stored = self.env.group.fetch(&self.lease.tp).await?;
        if stored.is_some_and(|s| s.offset == commit.offset && s.metadata == commit.metadata) {
            return Ok(());
        }
        Err(Error::new(Code(402), ErrorKind::Invalid, "the broker does not keep the metadata of committed offsets")
            .help("exactly-once needs offset metadata; check proxies between here and the broker")
            .into())
    }

    async fn keep_house(&mut self) -> Result<(), Exit> {
        if self.untidied_for() > Duration::ZERO {
            self.tidy().await?;
        }
        if self.env.clock.steady().saturating_sub(self.committed_at) >= RECOMMIT_INTERVAL {
            let note = CommitNote::Tidy(self.tidy_note());
            self.commit(&note).await?;
        }
        self.keep_anchor().await;
        Ok(())
    }

    /// Writes the anchor when it is due. A failure is retried at the next occasion: an older anchor is a lower bound too.
    async fn keep_anchor(&mut self) {
        let (anchor_key, anchor) = self.anchor();
        self.env.anchors.lock().unwrap_or_else(PoisonError::into_inner).insert(anchor_key, anchor);
        let now = self.env.clock.steady();
        if self.anchor_written.is_none_or(|at| now.saturating_sub(at) >= ANCHOR_INTERVAL) {
            match self.write_anchor().await {
                Ok(()) => self.anchor_written = Some(now),
                Err(e) => tracing::warn!(tp = %self.lease.tp, error = %e, "the anchor was not written"),
            }
        }
    }

    fn anchor(&self) -> (String, Anchor) {
        let anchor = Anchor { v: VERSION, key: self.last_key.clone(), end: self.start, topic_id: self.claim.topic_id.clone() };
        (self.claim.keys.anchor(&self.env.rule.name, self.lease.tp.partition), anchor)
    }

    async fn write_anchor(&self) -> crate::store::StoreResult<()> {
        let (anchor_key, anchor) = self.anchor();
        super::control::write(&*self.env.store, &*self.env.clock, &anchor_key, &anchor).await
    }

    pub(super) fn report_window(&self, sealed: &SealedSegment, key: &str, requests: u32) {
        let window = WindowCommitted {
            tp: self.lease.tp.clone(),
            range: sealed.proof.range,
            key: key.to_owned(),
            bytes: sealed.proof.size.unwrap_or_default(),
            records: sealed.proof.counts.records,
            value_bytes: sealed.proof.counts.value_bytes,
            reason: sealed.tail.reason,
            late: sealed.tail.late,
            missing: sealed.tail.missing.clone(),
            delay_ms: self.env.clock.wall_ms() - sealed.tail.closed_wall_ms,
            requests,
        };
        self.env.metrics.window(&window);
        self.env.reporter.window(&window);
    }
}

struct AbandonOnDrop(Arc<Run>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Relaxed);
    }
}

fn refused(cause: &str) -> Error {
    Error::new(codes::COMMIT_REFUSED, ErrorKind::Denied, "the group coordinator refuses the commit")
        .because(cause)
        .help("grant READ on the group and raise offset.metadata.max.bytes to 4096 if it was lowered, then start again")
}

fn fenced() -> Error {
    Error::new(codes::MEMBER_FENCED, ErrorKind::Fenced, "another process has this member's group.instance.id")
        .help("stop the other process, or give this one its own --instance-id")
}
