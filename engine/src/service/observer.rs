//! What a rule's lanes report, written down and summed up to a state.
//!
//! Place in the flow: called by the threads that move data, which must not wait: what is to be written goes to the [journal](super::journal).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::journal::Journal;
use super::state::{Entry, LogLine, StoredGap, StoredWindow, Whose};
use super::workers::RuleAtWorker;
use crate::clock::{Clock, SystemClock};
use crate::error::Error;
use crate::metrics::{Lag, Metrics};
use crate::report::{LaneNote, Reporter, WindowCommitted};
use crate::runtime::{Observer, Started};
use crate::source::TopicPartition;

/// What a rule is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RuleState {
    /// All its lanes run.
    Running,
    /// It starts, or waits for a server that does not answer.
    Waiting,
    /// It runs, but a lane has stopped or waits for the store.
    Degraded,
    /// It was told to.
    Paused,
    /// It has ended, and asks for a hand.
    Failed,
    /// None of its topics exists.
    SourceMissing,
}

impl RuleState {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Running, Self::Waiting, Self::Degraded, Self::Paused, Self::Failed, Self::SourceMissing];

    /// Its name, as the API and the metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Degraded => "degraded",
            Self::Paused => "paused",
            Self::Failed => "failed",
            Self::SourceMissing => "source-missing",
        }
    }
}

/// What is known of a rule right now.
#[derive(Clone, Debug)]
pub struct Status {
    /// What it is doing.
    pub state: RuleState,
    /// Why, if that is not what it should be doing.
    pub reason: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// Since when, ms since 1970.
    pub since_ms: i64,
    /// Its counters while it runs.
    pub metrics: Option<Arc<Metrics>>,
    /// The version that it runs; 0 where nobody has said yet.
    pub version: i64,
    /// What it is doing at workers, by their names.
    pub elsewhere: BTreeMap<String, RuleAtWorker>,
    troubled: BTreeMap<TopicPartition, Trouble>,
}

/// Why a lane does not do what it should, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Trouble {
    why: String,
    help: Option<String>,
}

impl Status {
    /// Why each lane that does not do what it should does not.
    pub fn troubles(&self) -> impl Iterator<Item = (&TopicPartition, &str)> {
        self.troubled.iter().map(|(tp, trouble)| (tp, trouble.why.as_str()))
    }

    pub(super) fn new(state: RuleState, since_ms: i64) -> Self {
        Self { state, reason: None, help: None, since_ms, metrics: None, version: 0, elsewhere: BTreeMap::new(), troubled: BTreeMap::new() }
    }

    /// How far its lanes are behind, here and at workers; none while none runs.
    pub fn lag(&self, now_ms: i64) -> Option<Lag> {
        let own = self.metrics.as_ref().map(|metrics| metrics.lag(now_ms));
        let all = own.into_iter().chain(self.elsewhere.values().filter_map(RuleAtWorker::lag));
        all.reduce(Lag::and)
    }
}

/// One rule's observer. Lives as long as the rule, over many runs.
#[derive(Debug)]
pub struct RuleObserver {
    whose: Whose,
    version: i64,
    journal: Journal,
    clock: SystemClock,
    status: Mutex<Status>,
}

impl RuleObserver {
    /// Watches a version of a rule.
    pub fn new(whose: Whose, version: i64, journal: Journal, state: RuleState) -> Arc<Self> {
        let clock = SystemClock::new();
        let status = Mutex::new(Status::new(state, clock.wall_ms()));
        Arc::new(Self { whose, version, journal, clock, status })
    }

    fn locked(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now.
    pub fn status(&self) -> Status {
        Status { version: self.version, ..self.locked().clone() }
    }

    /// Its counters while it runs.
    pub(super) fn metrics(&self) -> Option<Arc<Metrics>> {
        self.locked().metrics.clone()
    }

    /// The rule comes into a state, and that is written down.
    pub fn enter(&self, state: RuleState, error: Option<&Error>) {
        let now = self.clock.wall_ms();
        {
            let mut status = self.locked();
            let (reason, help) = (error.map(ToString::to_string), error.and_then(|error| error.help.clone()));
            *status = Status { reason, help, ..Status::new(state, now) };
        }
        let (level, text) = match error {
            Some(error) => (if state == RuleState::Waiting { "warn" } else { "error" }, error.to_string()),
            None => ("info", state.as_str().to_owned()),
        };
        self.line(level, None, error.map(|e| e.code.to_string()), text);
    }

    fn line(&self, level: &str, tp: Option<&TopicPartition>, code: Option<String>, text: String) {
        let line = LogLine {
            id: 0,
            at_ms: self.clock.wall_ms(),
            level: level.to_owned(),
            topic: tp.map(|tp| tp.topic.to_string()),
            partition: tp.map(|tp| tp.partition),
            code,
            text,
            worker: None,
        };
        self.journal.put(Entry::Line(self.whose.clone(), line));
    }

    /// Whether that is something else than what was known.
    fn trouble(&self, tp: &TopicPartition, why: Option<String>, help: Option<String>) -> bool {
        let mut status = self.locked();
        let now = why.map(|why| Trouble { why, help });
        let before = match &now {
            Some(now) => status.troubled.insert(tp.clone(), now.clone()),
            None => status.troubled.remove(tp),
        };
        let is_new = before != now;
        if !matches!(status.state, RuleState::Running | RuleState::Degraded) {
            return is_new;
        }
        let first = status.troubled.iter().next();
        let (reason, help) = (first.map(|(tp, t)| format!("{tp}: {}", t.why)), first.and_then(|(_, t)| t.help.clone()));
        let state = if reason.is_some() { RuleState::Degraded } else { RuleState::Running };
        if state != status.state {
            status.since_ms = self.clock.wall_ms();
        }
        (status.state, status.reason, status.help) = (state, reason, help);
        is_new
    }
}

impl Reporter for RuleObserver {
    fn window(&self, window: &WindowCommitted) {
        self.trouble(&window.tp, None, None);
        let small = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let stored = StoredWindow {
            id: 0,
            version: self.version,
            topic: window.tp.topic.to_string(),
            partition: window.tp.partition,
            start: window.range.start,
            end: window.range.end,
            key: window.key.clone(),
            bytes: small(window.bytes),
            records: small(window.records),
            reason: window.reason.as_str().to_owned(),
            late: small(window.late),
            delay_ms: window.delay_ms,
            at_ms: self.clock.wall_ms(),
            worker: None,
        };
        self.journal.put(Entry::Window(self.whose.clone(), stored));
    }

    fn lane(&self, tp: &TopicPartition, note: LaneNote<'_>) {
        match note {
            LaneNote::Waiting(error) => {
                let error = Error::from(error.clone());
                // It is repeated for as long as the store is away.
                if self.trouble(tp, Some(format!("waiting for the store: {error}")), error.help.clone()) {
                    self.line("warn", Some(tp), Some(error.code.to_string()), format!("waiting for the store: {error}"));
                }
            }
            LaneNote::Stopped(error) => {
                self.trouble(tp, Some(error.to_string()), error.help.clone());
                let next = error.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
                self.line("error", Some(tp), Some(error.code.to_string()), format!("{error}{next}"));
            }
            LaneNote::Gap(gap) => {
                let (range, cause) = (gap.range(), gap.cause().as_str().to_owned());
                self.line("warn", Some(tp), None, format!("gap: {range} is missing ({cause})"));
                let gap = StoredGap {
                    topic: tp.topic.to_string(),
                    partition: tp.partition,
                    start: range.start,
                    end: range.end,
                    cause,
                    at_ms: self.clock.wall_ms(),
                };
                self.journal.put(Entry::Gap(self.whose.clone(), gap));
            }
            LaneNote::Restarted(why) => self.line("warn", Some(tp), None, format!("starting again: {why}")),
            LaneNote::Panicked(error) => self.line("error", Some(tp), Some(error.code.to_string()), error.to_string()),
            LaneNote::Recovering(intent) => {
                let text = format!("finishing the pinned window [{}, {}) as {}", intent.start, intent.end, intent.key);
                self.line("info", Some(tp), None, text);
            }
            LaneNote::ResumedFromAnchor { anchor, position } => {
                let text = format!("the group had no offset; going on at {position}, found from the anchor at {anchor}");
                self.line("warn", Some(tp), None, text);
            }
            LaneNote::AwaitingLog { position, log_end } => {
                let text = format!("the log ends at {log_end}, before {position}, which was backed up; waiting for it");
                self.trouble(tp, Some(text.clone()), None);
                self.line("warn", Some(tp), None, text);
            }
            LaneNote::Outwaiting(time) => {
                self.line("info", Some(tp), None, format!("waiting {} s for a full copy that may be on its way", time.as_secs()));
            }
            LaneNote::Finished => self.line("info", Some(tp), None, "all that was asked for is read".to_owned()),
        }
    }
}

impl Observer for RuleObserver {
    fn started(&self, started: &Started) {
        let now = self.clock.wall_ms();
        {
            let mut status = self.locked();
            *status = Status { metrics: Some(Arc::clone(&started.metrics)), ..Status::new(RuleState::Running, now) };
        }
        let text = format!("running: {} topic(s), {} partition(s), to {}", started.topics.len(), started.partitions, started.store);
        self.line("info", None, None, text);
    }
}
