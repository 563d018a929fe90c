//! A lane's life: [recover](super::recover), then [follow](super::follow) the partition window by window, until the lane is revoked or must stop.
//!
//! Place in the flow: one task for each lane. It is the only one that asks for commits of its lane, and it takes one step at a
//! time, so that the order of the protocol is the order of the code. When the lane is revoked the task is dropped wherever it
//! stands; whatever it had sent may still take effect, and the next owner's recovery accounts for it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use catchment_formats::{LaneId, Missing};
use futures_util::FutureExt as _;

use crate::clock::Backoff;
use crate::commit::env::LaneEnv;
use crate::commit::fault::History;
use crate::crash::{self, Point};
use crate::error::{Error, ErrorKind, codes};
use crate::intent::CommitNote;
use crate::lane::LaneLease;
use crate::limits::RECOMMIT_INTERVAL;
use crate::panics::{self, PanicLog};
use crate::report::{LaneNote, WindowCommitted};
use crate::segment::SealedSegment;
use crate::sights::Sights;
use crate::source::LastRead;
use crate::topics::TopicClaim;

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

/// How often a lane sees to what is due. Less often, and tidies come late; more often costs wake-ups.
pub(super) const HOUSE_INTERVAL: Duration = Duration::from_secs(5);

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
    /// The last record that was read before `position`.
    pub(super) last: LastRead,
    /// Key of the last object.
    pub(super) last_key: Option<String>,
    /// Whether P and S are not in the group yet: since when.
    pub(super) untidied: Option<Duration>,
    /// The end that the anchor named before this assignment, once it was asked for.
    pub(super) anchored: Option<i64>,
    /// When this process last pinned a window of this assignment.
    pub(super) pinned_at: Option<Duration>,
    /// Whether the key of the first pin of this assignment was looked at (rule R2).
    pub(super) first_key_checked: bool,
    pub(super) read_back: bool,
    /// What the next object must list as missing and only the group's note remembers.
    pub(super) pending: Vec<Missing>,
    /// What the pinned object lists of what lies before it.
    pub(super) pinned_missing: Vec<Missing>,
    /// Up to here what retention took was told.
    pub(super) gap_told_to: i64,
    /// What was seen of the current window.
    pub(super) sights: Sights,
    pub(super) anchor_written: Option<Duration>,
    pub(super) committed_at: Duration,
    pub(super) history: History,
}

/// Runs a lane until it is revoked or stops. A panic is the lane's own: the others have no part in it.
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
    let (mut history, mut panics) = (History::default(), PanicLog::default());
    loop {
        let ended = AssertUnwindSafe(pass_once(&env, &lease, &mut history)).catch_unwind().await;
        let exit = ended.unwrap_or_else(|panic| after_panic(&env, &lease, &mut panics, &*panic));
        let Exit::Restart(why) = exit else { return exit };
        env.reporter.lane(&lease.tp, LaneNote::Restarted(&why));
        if history.run_began.take().is_some_and(|began| env.clock.steady().saturating_sub(began) > Duration::from_secs(60)) {
            backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        }
        backoff.wait(&*env.clock).await;
    }
}

/// A lane from its recovery to what ends it. The next one has nothing of it but its history.
async fn pass_once(env: &Arc<LaneEnv>, lease: &Arc<LaneLease>, history: &mut History) -> Exit {
    let mut lane = match Lane::begin(Arc::clone(env), Arc::clone(lease)).await {
        Ok(lane) => lane,
        Err(exit) => return history.excuse(exit),
    };
    lane.history = std::mem::take(history);
    // What a panic leaves behind half done belongs to the lane alone and is dropped with it; what lanes share is behind locks that mend themselves. Its history is
    // notes, each true by itself: without them uploads that it had replaced would stay, and what was waited for be waited for again.
    let ended = AssertUnwindSafe(lane.pass()).catch_unwind().await;
    *history = std::mem::take(&mut lane.history);
    let exit = history.excuse(ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    if matches!(exit, Exit::Restart(_)) {
        env.metrics.lane_restarts.inc();
    }
    exit
}

/// A lane that has panicked knows nothing that it could go on from. The next one begins with what the group and the store know, as after any other end: a lane
/// waits for one thing at a time, so that no commit of it is on its way, and for whatever it had sent to the store recovery accounts. One that panics where it did
/// before stops; what it had pinned stays pinned, for the recovery of whoever comes next.
fn after_panic(env: &LaneEnv, lease: &LaneLease, panics: &mut PanicLog, panic: &(dyn Any + Send)) -> Exit {
    let error = Error::new(codes::PART_ENDED, ErrorKind::Bug, "a lane's task has panicked")
        .with("rule", &env.rule.name)
        .because(panics::said(panic))
        .help("start again: it goes on where it was, without loss or repetition; and report this with the log");
    if !panics.may_begin_again(env.progress.get(&lease.tp), env.clock.steady()) {
        return Exit::Stopped(Box::new(error));
    }
    env.metrics.lane_restarts.inc();
    env.reporter.lane(&lease.tp, LaneNote::Panicked(&error));
    Exit::Restart("its task has panicked".to_owned())
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
            last: LastRead::unknown(0),
            last_key: None,
            untidied: None,
            anchored: None,
            pinned_at: None,
            first_key_checked: false,
            read_back: false,
            pending: Vec::new(),
            pinned_missing: Vec::new(),
            gap_told_to: 0,
            sights: Sights::default(),
            anchor_written: None,
            committed_at,
            history: History::default(),
        })
    }

    /// One recovery and the run that follows it.
    async fn pass(&mut self) -> Exit {
        let resume = match self.recover().await {
            Ok(resume) => resume,
            Err(exit) => return exit,
        };
        self.env.progress.note(&self.lease.tp, self.position);
        if let Err(exit) = self.keep_anchor().await {
            return exit;
        }
        if let Err(exit) = self.await_room(&resume).await {
            return exit;
        }
        self.history.run_began = Some(self.env.clock.steady());
        match self.follow_in_turns(resume).await {
            Ok(()) => {
                // The last run read all that was asked for; the lane stays, idle, until the process ends.
                self.lease.dead().await;
                Exit::Dead
            }
            Err(exit) => exit,
        }
    }

    /// Step 6 after a window that was settled.
    pub(super) async fn tidy_window(&mut self) -> Result<(), Exit> {
        if self.untidied.is_some() {
            crash::point(Point::BeforeTidy);
            self.tidy().await?;
            crash::point(Point::AfterTidy);
        }
        Ok(())
    }

    /// The key of the object that starts at `start`.
    pub(super) fn key(&self, start: i64, directory_ms: Option<i64>, extension: &str) -> String {
        self.env.rule.object_key(&self.claim.name, self.lease.tp.partition, start, directory_ms, extension)
    }

    /// A gap is said at once: counted, logged, reported.
    pub(super) fn tell_gap(&self, gap: Missing) {
        self.env.metrics.gap(gap.cause());
        self.env.reporter.lane(&self.lease.tp, LaneNote::Gap(gap));
    }

    /// What is due from time to time. An intent that is open is never written over.
    pub(super) async fn keep_house(&mut self, pinned: bool) -> Result<(), Exit> {
        if pinned {
            return Ok(());
        }
        if self.untidied_for() > Duration::ZERO {
            self.tidy().await?;
        }
        if self.env.clock.steady().saturating_sub(self.committed_at) >= RECOMMIT_INTERVAL {
            let note = CommitNote::Tidy(self.tidy_note());
            self.commit(&note).await?;
        }
        self.sweep().await;
        self.keep_anchor().await
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
