//! Verifications of a rule's destination, one at a time: what `catchment verify` does, in the service.
//!
//! Place in the flow: started by an API call, which does not wait for it; the last result of each rule is kept in the [state](super::state). Only reads. Memory
//! is that of one verification, whoever asks for how many.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::changes::now_ms;
use super::state::{State, StoredVerification, VerificationState};
use crate::config::BackupPlan;
use crate::error::{Code, Error, ErrorKind, Result};
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
    running: Mutex<BTreeSet<String>>,
}

impl Verifications {
    /// None runs yet.
    pub fn new(state: Arc<State>) -> Arc<Self> {
        Arc::new(Self { state, turn: Semaphore::new(1), running: Mutex::default() })
    }

    fn running(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to verify everything below a rule's prefix; with `compare`, record by record against Kafka. It waits for others to end.
    ///
    /// # Errors
    /// `C0616` if this rule is being verified; `C0601`.
    pub async fn begin(self: &Arc<Self>, plan: BackupPlan, compare: bool) -> Result<StoredVerification> {
        if !self.running().insert(plan.rule.clone()) {
            return Err(Error::new(VERIFYING, ErrorKind::Invalid, "the rule is being verified")
                .with("rule", &plan.rule)
                .help("GET its verify until it has ended"));
        }
        let begun = StoredVerification::begun(now_ms());
        if let Err(e) = self.keep(&plan.rule, &begun).await {
            self.running().remove(&plan.rule);
            return Err(e);
        }
        let (this, verification) = (Arc::clone(self), begun.clone());
        tokio::spawn(async move {
            // A panic in it is its end, too.
            let _running = Running(&this, plan.rule.clone());
            let _turn = this.turn.acquire().await;
            let (rule, ended) = (plan.rule.clone(), ended(verification, verify(&plan, compare).await));
            if let Err(e) = this.state.ask(move |state| state.end_verification(&rule, &ended)).await {
                tracing::warn!(rule = plan.rule, error = %e, "the result of a verification could not be kept");
            }
        });
        Ok(begun)
    }

    async fn keep(&self, rule: &str, verification: &StoredVerification) -> Result<()> {
        let (rule, verification) = (rule.to_owned(), verification.clone());
        self.state.ask(move |state| state.put_verification(&rule, &verification)).await
    }
}

/// A rule that is being verified, until this is dropped.
struct Running<'a>(&'a Verifications, String);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running().remove(&self.1);
    }
}

async fn verify(plan: &BackupPlan, compare: bool) -> Result<Report> {
    let place = runtime::open_place(&plan.to).await?;
    let source = match compare {
        true => Some(KafkaCluster::connect(plan.kafka.clone(), FETCH).await? as Arc<dyn Source>),
        false => None,
    };
    crate::verify::verify(&place, source, |_| {}).await
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
    use super::*;
    use crate::error::codes;
    use crate::verify::DamageKind;

    #[test]
    fn nothing_is_called_sound_that_was_not_read_to_its_end() {
        let state = |result| ended(StoredVerification::begun(1), result).state;
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
