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
    /// It runs, but a lane has stopped or waits for the store, or no broker answers.
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
    /// Why no broker answers.
    silence: Option<Trouble>,
}

/// Why something does not do what it should, and what to do about it.
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
        let (elsewhere, troubled) = (BTreeMap::new(), BTreeMap::new());
        Self { state, reason: None, help: None, since_ms, metrics: None, version: 0, elsewhere, troubled, silence: None }
    }

    /// Whether the rule does what it was told, as far as it is known.
    pub(super) fn is_well(&self) -> bool {
        matches!(self.state, RuleState::Running | RuleState::Paused)
    }

    /// The state of a rule that runs, by what troubles it. What hides all lanes comes first.
    fn sum_up(&mut self, now_ms: i64) {
        if !matches!(self.state, RuleState::Running | RuleState::Degraded) {
            return;
        }
        let of_lane = self.troubled.iter().next().map(|(tp, t)| (format!("{tp}: {}", t.why), t.help.clone()));
        let first = self.silence.as_ref().map(|t| (t.why.clone(), t.help.clone())).or(of_lane);
        let state = if first.is_some() { RuleState::Degraded } else { RuleState::Running };
        if state != self.state {
            (self.state, self.since_ms) = (state, now_ms);
        }
        (self.reason, self.help) = first.map_or((None, None), |(why, help)| (Some(why), help));
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
        status.sum_up(self.clock.wall_ms());
        before != now
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

    fn brokers(&self, silence: Option<&Error>) {
        let was_silent = {
            let mut status = self.locked();
            let now = silence.map(|error| Trouble { why: format!("Kafka does not answer: {error}"), help: error.help.clone() });
            let before = std::mem::replace(&mut status.silence, now);
            status.sum_up(self.clock.wall_ms());
            before.is_some()
        };
        match silence {
            Some(error) => self.line("warn", None, Some(error.code.to_string()), format!("Kafka does not answer: {error}")),
            None if was_silent => self.line("info", None, None, "Kafka answers again".to_owned()),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use catchment_formats::{GapCause, Missing, OffsetRange};

    use super::super::state::{Origin, State};
    use super::*;
    use crate::error::ErrorKind;
    use crate::source::kafka::errors::REQUEST_FAILED;
    use crate::store::{StoreError, StoreErrorKind};
    use crate::window::CloseReason;

    /// A rule in its seventh version, watched from when it begins to start, and where what it reports is written down.
    struct Watched {
        observer: Arc<RuleObserver>,
        state: Arc<State>,
        _dir: tempfile::TempDir,
    }

    impl Watched {
        fn begin() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let state = Arc::new(State::open(&dir.path().join("state.db")).unwrap());
            state.create("r", "{}", Origin::Api, "me", 1).unwrap();
            let journal = Journal::start(Arc::clone(&state)).unwrap();
            Self { observer: RuleObserver::new("r".into(), 7, journal, RuleState::Waiting), state, _dir: dir }
        }

        /// What it is doing, and why.
        fn now(&self) -> (RuleState, Option<String>) {
            let Status { state, reason, .. } = self.observer.status();
            (state, reason)
        }

        /// Levels and texts of the log.
        fn log(&self) -> Vec<(String, String)> {
            self.observer.journal.flush();
            self.state.log("r", Some(0), 100).unwrap().into_iter().map(|line| (line.level, line.text)).collect()
        }
    }

    fn lane(partition: i32) -> TopicPartition {
        TopicPartition { topic: Arc::from("t"), partition }
    }

    fn window(partition: i32) -> WindowCommitted {
        WindowCommitted {
            tp: lane(partition),
            range: OffsetRange::new(4, 9),
            key: "t/t+0+4.parquet".to_owned(),
            bytes: 50,
            records: 5,
            value_bytes: 40,
            reason: CloseReason::Clock,
            late: 2,
            missing: Vec::new(),
            delay_ms: 30,
            requests: 1,
        }
    }

    fn stopped(why: &'static str) -> Error {
        Error::new(REQUEST_FAILED, ErrorKind::Asks, why).help("say what is right")
    }

    #[test]
    fn a_rule_is_degraded_by_each_lane_in_trouble_until_that_lane_stores_something() {
        let watched = Watched::begin();
        let observer = &watched.observer;
        observer.enter(RuleState::Running, None);
        observer.lane(&lane(1), LaneNote::Stopped(&stopped("one")));
        observer.lane(&lane(2), LaneNote::AwaitingLog { position: 9, log_end: 5 });
        let (state, why) = watched.now();
        assert!(state == RuleState::Degraded && why.as_ref().is_some_and(|why| why.starts_with("t/1: ")), "{why:?}");
        assert_eq!(observer.status().help.as_deref(), Some("say what is right"));
        assert_eq!(observer.status().troubles().map(|(tp, _)| tp.partition).collect::<Vec<_>>(), [1, 2]);
        observer.window(&window(0));
        assert_eq!(watched.now(), (RuleState::Degraded, why), "another lane's window mends nothing");
        observer.window(&window(1));
        let (state, why) = watched.now();
        assert!(state == RuleState::Degraded && why.is_some_and(|why| why.starts_with("t/2: ")), "the other trouble is left");
        observer.window(&window(2));
        assert_eq!(watched.now(), (RuleState::Running, None));
        assert_eq!(observer.status().help, None);
    }

    #[test]
    fn a_store_that_stays_away_is_written_down_once_and_again_when_that_is_new() {
        let watched = Watched::begin();
        let observer = &watched.observer;
        observer.enter(RuleState::Running, None);
        let away = StoreError::new(StoreErrorKind::Unknown, "PutObject", "k", "HTTP 503 SlowDown");
        let lines = || watched.log().into_iter().filter(|(level, text)| level == "warn" && text.contains("SlowDown")).count();
        (0..50).for_each(|_| observer.lane(&lane(0), LaneNote::Waiting(&away)));
        assert_eq!((lines(), watched.now().0), (1, RuleState::Degraded));
        observer.lane(&lane(1), LaneNote::Waiting(&away));
        assert_eq!(lines(), 2, "another lane is another trouble");
        observer.window(&window(0));
        observer.lane(&lane(0), LaneNote::Waiting(&away));
        assert_eq!(lines(), 3, "it had answered in between");
    }

    #[test]
    fn what_an_ended_run_still_says_does_not_change_what_the_rule_is_and_is_written_down() {
        let watched = Watched::begin();
        let observer = &watched.observer;
        observer.enter(RuleState::Running, None);
        observer.lane(&lane(0), LaneNote::Stopped(&stopped("before")));
        let ends = [(RuleState::Paused, None), (RuleState::Failed, Some(stopped("it ended"))), (RuleState::Waiting, Some(stopped("away")))];
        for (partition, (state, error)) in (1..).zip(ends) {
            observer.enter(state, error.as_ref());
            let entered = watched.now();
            assert_eq!(entered, (state, error.map(|error| error.to_string())));
            assert_eq!(observer.status().troubles().count(), 0, "the lanes of a run go with it");
            observer.lane(&lane(0), LaneNote::Stopped(&stopped("late")));
            observer.window(&window(partition));
            assert_eq!(watched.now(), entered, "a lane that ends late is no trouble of the rule");
        }
        let levels: Vec<String> = watched.log().into_iter().filter(|(_, text)| !text.contains("late")).map(|(level, _)| level).collect();
        assert_eq!(levels, ["info", "error", "info", "error", "warn"], "running, a lane, paused, failed, waiting");
        let mut stored: Vec<i32> = watched.state.windows("r", i64::MAX, 9).unwrap().into_iter().map(|window| window.partition).collect();
        stored.sort_unstable();
        assert_eq!(stored, [1, 2, 3]);
    }

    #[test]
    fn windows_and_gaps_are_written_down_as_they_were_reported() {
        let watched = Watched::begin();
        watched.observer.window(&window(3));
        watched.observer.lane(&lane(3), LaneNote::Gap(Missing(9, 12, GapCause::Retention)));
        let log = watched.log();
        assert!(log.iter().any(|(level, text)| level == "warn" && text.contains("[9, 12) is missing (retention)")), "{log:?}");
        let found = watched.state.windows("r", i64::MAX, 9).unwrap().remove(0);
        assert_eq!((found.version, found.topic.as_str(), found.partition, found.start, found.end), (7, "t", 3, 4, 9));
        assert_eq!((found.key.as_str(), found.bytes, found.records, found.late, found.delay_ms), ("t/t+0+4.parquet", 50, 5, 2, 30));
        assert_eq!((found.reason.as_str(), found.worker), ("clock", None));
        let gap = watched.state.gaps("r").unwrap().remove(0);
        assert_eq!((gap.topic.as_str(), gap.partition, gap.start, gap.end, gap.cause.as_str()), ("t", 3, 9, 12, "retention"));
    }

    #[test]
    fn a_rule_without_a_broker_that_answers_is_degraded_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(State::open(&dir.path().join("state.db")).unwrap());
        state.create("r", "{}", Origin::Api, "me", 1).unwrap();
        let observer = RuleObserver::new("r".into(), 1, Journal::start(Arc::clone(&state)).unwrap(), RuleState::Waiting);
        let now = || {
            let Status { state, reason, help, .. } = observer.status();
            (state, reason.unwrap_or_default(), help)
        };
        let away = Error::new(REQUEST_FAILED, ErrorKind::Unreachable, "no answer in time").help("look at the brokers");
        observer.brokers(Some(&away));
        assert_eq!(now().0, RuleState::Waiting, "it does not run yet");
        observer.enter(RuleState::Running, None);
        observer.brokers(None);
        assert_eq!(now().0, RuleState::Running);
        observer.brokers(Some(&away));
        let (is, why, help) = now();
        assert!(why.starts_with("Kafka does not answer: ") && why.contains("C0202"), "{why}");
        assert_eq!((is, help.as_deref()), (RuleState::Degraded, Some("look at the brokers")));
        let tp = TopicPartition { topic: Arc::from("t"), partition: 3 };
        observer.lane(&tp, LaneNote::Stopped(&away));
        assert_eq!(now().1, why, "it is why the lanes stand still");
        observer.brokers(None);
        let (is, of_lane, _) = now();
        assert!(is == RuleState::Degraded && of_lane.starts_with("t/3: "), "{of_lane}");
        observer.journal.flush();
        let log = state.log("r", None, 100).unwrap();
        let said = |text: &str| log.iter().filter(|line| line.text.starts_with(text)).count();
        assert_eq!((said("Kafka does not answer"), said("Kafka answers again")), (2, 1), "{log:?}");
    }
}
