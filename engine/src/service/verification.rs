//! Verifications of what rules have written, one at a time: what `catchment verify` does, in the service, of a rule's own directories.
//!
//! Place in the flow: asked for by an API call, which does not wait for it; the last result of each rule is kept in the [state](super::state). Only reads. Memory
//! is that of one verification, whoever asks for how many: the others wait in the order in which they were asked for. One that is cancelled, or whose rule is
//! deleted, reads no further object.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};

use super::changes::now_ms;
use super::state::{State, StoredVerification, VerificationState};
use crate::config::BackupPlan;
use crate::error::{Code, Error, ErrorKind, Result, codes};
use crate::runtime;
use crate::source::Source;
use crate::source::kafka::{KafkaCluster, ReadShare};
use crate::verify::Report;

/// The rule is being verified.
pub const VERIFYING: Code = Code(616);

/// Memory for the fetch queues of a comparison, shared by the lanes that are compared at a time.
const FETCH: ReadShare = ReadShare { bytes: 64 << 20, partitions: 4 };

/// Damages and gaps of a report that are kept at most.
const LISTED_MAX: usize = 1_000;

/// All verifications of the service.
#[derive(Debug)]
pub struct Verifications {
    state: Arc<State>,
    turn: Semaphore,
    under_way: Mutex<BTreeMap<String, Arc<UnderWay>>>,
}

/// One that waits or runs. Whoever takes it out of the map says how it has ended.
#[derive(Debug)]
struct UnderWay {
    began_ms: i64,
    cancelled: watch::Sender<bool>,
}

impl Verifications {
    /// None runs yet.
    pub fn new(state: Arc<State>) -> Arc<Self> {
        Arc::new(Self { state, turn: Semaphore::new(1), under_way: Mutex::default() })
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<String, Arc<UnderWay>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to verify what a rule has written; with `compare`, record by record against Kafka. It waits for others to end.
    ///
    /// # Errors
    /// `C0616` if this rule is being verified; `C0601`.
    pub async fn begin(self: &Arc<Self>, plan: BackupPlan, compare: bool) -> Result<StoredVerification> {
        let queued = StoredVerification::queued(now_ms());
        let this_one = Arc::new(UnderWay { began_ms: queued.began_ms, cancelled: watch::Sender::new(false) });
        if !self.enter(&plan.rule, &this_one) {
            return Err(Error::new(VERIFYING, ErrorKind::Invalid, "the rule is being verified")
                .with("rule", &plan.rule)
                .help("GET its verify until it has ended, or DELETE it"));
        }
        let left = Left { all: Arc::clone(self), rule: plan.rule.clone(), this_one };
        self.keep(&plan.rule, &queued).await?;
        if *left.this_one.cancelled.borrow() {
            // Somebody was faster than its being written down.
            let problem = Some("it was cancelled".to_owned());
            let ended = StoredVerification { state: VerificationState::Unfinished, ended_ms: Some(now_ms()), problem, ..queued };
            self.end(&plan.rule, ended.clone()).await;
            return Ok(ended);
        }
        tokio::spawn(left.follow(plan, compare, queued.clone()));
        Ok(queued)
    }

    /// False if there is one already.
    fn enter(&self, rule: &str, one: &Arc<UnderWay>) -> bool {
        let mut under_way = self.under_way();
        let is_free = !under_way.contains_key(rule);
        if is_free {
            under_way.insert(rule.to_owned(), Arc::clone(one));
        }
        is_free
    }

    /// Takes this one out of the map; false if somebody else has.
    fn leave(&self, rule: &str, one: &Arc<UnderWay>) -> bool {
        let mut under_way = self.under_way();
        let is_there = under_way.get(rule).is_some_and(|standing| Arc::ptr_eq(standing, one));
        if is_there {
            under_way.remove(rule);
        }
        is_there
    }

    async fn in_turn(&self, plan: &BackupPlan, compare: bool, began_ms: i64) -> Result<Report> {
        let _turn = self.turn.acquire().await;
        let rule = plan.rule.clone();
        self.state.ask(move |state| state.run_verification(&rule, began_ms)).await?;
        verify(plan, compare).await
    }

    /// Ends the verification of a rule that waits or runs, and answers how it is kept.
    ///
    /// # Errors
    /// `C0502` if there is none.
    pub async fn cancel(&self, rule: &str, who: &str) -> Result<StoredVerification> {
        let Some(one) = self.under_way().remove(rule) else {
            return Err(Error::new(codes::NOTHING_THERE, ErrorKind::NotFound, "the rule is not being verified")
                .with("rule", rule)
                .help("GET its verify says how the last one has ended"));
        };
        one.cancelled.send_replace(true);
        let problem = Some(format!("it was cancelled by {who}"));
        let ended = StoredVerification {
            state: VerificationState::Unfinished,
            ended_ms: Some(now_ms()),
            problem,
            ..StoredVerification::queued(one.began_ms)
        };
        self.end(rule, ended.clone()).await;
        Ok(ended)
    }

    async fn end(&self, rule: &str, ended: StoredVerification) {
        let of = rule.to_owned();
        if let Err(e) = self.state.ask(move |state| state.end_verification(&of, &ended)).await {
            tracing::warn!(rule, error = %e, "the result of a verification could not be kept");
        }
    }

    async fn keep(&self, rule: &str, verification: &StoredVerification) -> Result<()> {
        let (rule, verification) = (rule.to_owned(), verification.clone());
        self.state.ask(move |state| state.put_verification(&rule, &verification)).await
    }
}

/// Takes a verification out of the map when it is dropped: a panic is its end, too.
struct Left {
    all: Arc<Verifications>,
    rule: String,
    this_one: Arc<UnderWay>,
}

impl Left {
    async fn follow(self, plan: BackupPlan, compare: bool, verification: StoredVerification) {
        let mut cancelled = self.this_one.cancelled.subscribe();
        let result = tokio::select! {
            result = self.all.in_turn(&plan, compare, verification.began_ms) => result,
            // Whoever has cancelled it has said so. What it was doing is dropped where it stands.
            _ = cancelled.wait_for(|cancelled| *cancelled) => return,
        };
        if self.all.leave(&self.rule, &self.this_one) {
            self.all.end(&self.rule, ended(verification, result)).await;
        }
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.all.leave(&self.rule, &self.this_one);
    }
}

async fn verify(plan: &BackupPlan, compare: bool) -> Result<Report> {
    let place = runtime::open_place(&plan.to).await?;
    let source = match compare {
        true => Some(KafkaCluster::connect(plan.kafka.clone(), FETCH).await? as Arc<dyn Source>),
        false => None,
    };
    crate::verify::verify_rule(&place, &plan.rule, source, |_| {}).await
}

fn ended(begun: StoredVerification, result: Result<Report>) -> StoredVerification {
    let ended = StoredVerification { ended_ms: Some(now_ms()), ..begun };
    match result {
        Ok(mut report) => {
            shorten(&mut report);
            let state = match (&report.failure, report.damage.is_empty()) {
                (_, false) => VerificationState::Damaged,
                (Some(_), true) => VerificationState::Unfinished,
                (None, true) => VerificationState::Sound,
            };
            let problem = report.failure.as_ref().map(ToString::to_string);
            StoredVerification { state, report: serde_json::to_string(&report).ok(), problem, ..ended }
        }
        Err(error) => StoredVerification { state: VerificationState::Unfinished, problem: Some(error.to_string()), ..ended },
    }
}

/// Leaves so much of a report as is kept and shown; a note says how much more there was.
fn shorten(report: &mut Report) {
    let (damage, gaps) = (report.damage.len(), report.gaps.len());
    if damage > LISTED_MAX || gaps > LISTED_MAX {
        report.damage.truncate(LISTED_MAX);
        report.gaps.truncate(LISTED_MAX);
        report.notes.push(format!("{damage} damages and {gaps} gaps were found; the first {LISTED_MAX} of each are listed"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::definition;
    use super::super::state::Origin;
    use super::*;
    use crate::config::{Config, RunOptions};
    use crate::verify::DamageKind;

    fn plan(name: &str) -> BackupPlan {
        let base = Config::parse("[kafka.k]\nbrokers = [\"h:1\"]\n[store.s]\nurl = \"file:///none/such/\"\n", "base").unwrap();
        let body = "{\"source\":{\"topics\":[\"t\"]}}";
        definition::plan(&base, name, body, "128MiB".parse().unwrap(), RunOptions::default()).unwrap()
    }

    #[tokio::test]
    async fn one_runs_at_a_time_and_whoever_waits_can_be_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(State::open(&dir.path().join("state.db")).unwrap());
        let verifications = Verifications::new(Arc::clone(&state));
        for rule in ["a", "b"] {
            state.create(rule, "{}", Origin::Api, "me", 1).unwrap();
        }
        let of = |rule: &str| state.verification(rule).unwrap().unwrap();
        let turn = verifications.turn.acquire().await.unwrap();
        verifications.begin(plan("a"), false).await.unwrap();
        verifications.begin(plan("b"), false).await.unwrap();
        assert_eq!(verifications.begin(plan("b"), false).await.unwrap_err().code, VERIFYING);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert_eq!((of("a").state, of("b").state), (VerificationState::Queued, VerificationState::Queued));
        let cancelled = verifications.cancel("b", "me").await.unwrap();
        assert_eq!((cancelled.state, cancelled.problem.as_deref()), (VerificationState::Unfinished, Some("it was cancelled by me")));
        assert_eq!(of("b"), cancelled);
        assert_eq!(verifications.cancel("b", "me").await.unwrap_err().code, codes::NOTHING_THERE);
        drop(turn);
        while !verifications.under_way().is_empty() || of("a").state == VerificationState::Running {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(of("a").problem.is_some_and(|problem| problem.contains("directory")), "{:?}", of("a"));
        assert_eq!(of("b"), cancelled, "it has not run");
        verifications.begin(plan("b"), false).await.unwrap();
    }

    #[test]
    fn nothing_is_called_sound_that_was_not_read_to_its_end() {
        let state = |result| ended(StoredVerification::queued(1), result).state;
        assert_eq!(state(Ok(Report::default())), VerificationState::Sound);
        let failure = Error::new(codes::COMPARE_READ, ErrorKind::Unreachable, "x");
        let mut report = Report { failure: Some(failure.clone()), ..Report::default() };
        assert_eq!(state(Ok(report.clone())), VerificationState::Unfinished);
        report.damaged("k", DamageKind::Hole, "x");
        assert_eq!(state(Ok(report)), VerificationState::Damaged);
        assert_eq!(state(Err(failure)), VerificationState::Unfinished);
    }

    #[test]
    fn a_long_report_is_shortened_and_says_so() {
        let mut report = Report::default();
        (0..2 * LISTED_MAX).for_each(|_| report.damaged("k", DamageKind::Hole, "x"));
        shorten(&mut report);
        assert_eq!((report.damage.len(), report.notes.len()), (LISTED_MAX, 1));
        assert!(report.notes[0].starts_with("2000 damages"), "{:?}", report.notes);
    }
}
