//! Workers: processes on other machines that run the rules of this service, too.
//!
//! Place in the flow: a [worker](super::worker) asks every few seconds what to run and says what it is doing; both come here by the [API](super::api). What it
//! reports goes into the [state](super::state) as if it had happened here. Who reads which partition is decided by Kafka, and what is stored by the commit
//! protocol: a worker is one more process of the same rule, and nothing here takes part in the promise.
//!
//! Guarantees: a report is written down once, however often it is sent; a worker that is away changes nothing and loses nothing but its say. Who is present is
//! known in memory alone: after a restart it is known again once each has asked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::changes::now_ms;
use super::observer::{RuleState, Status};
use super::orders::{RuleSet, revision_of};
use super::state::{Report, State, StoredWorker};
use super::supervisor::Supervisor;
use crate::config::Accept;
use crate::error::{Code, Error, ErrorKind, Result};
use crate::metrics::Lag;

/// Another worker has this name.
pub const WORKER_NAME_TAKEN: Code = Code(664);

/// How long a worker that says nothing is taken for present. Shorter: one that is busy loses its name. Longer: one that lost its state waits for its own name.
const PRESENT_FOR: Duration = Duration::from_secs(15);

/// How long one that is absent is remembered in memory.
const REMEMBERED_FOR: Duration = Duration::from_secs(3_600);

/// After so many reports of a rule its oldest ones are forgotten, as the journal does.
const PRUNE_AFTER: usize = 1_000;

/// What a worker is doing with a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RuleAtWorker {
    /// The version that it runs.
    pub version: i64,
    /// What it is doing.
    pub state: RuleState,
    /// Why, if that is not what it should be doing.
    pub reason: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// Since when, ms since 1970.
    pub since_ms: i64,
    /// The partitions that it reads, as `topic/partition`; the first ones if they are many.
    pub lanes: Vec<String>,
    /// Records between its positions and the ends last seen; null while it does not run.
    pub lag_records: Option<i64>,
    /// Age of the last record read by its partition that is furthest behind, in seconds; null while it does not run.
    pub lag_seconds: Option<f64>,
    /// Until retention takes a record that it has not read, in seconds, if it reads no more; none where nobody knows.
    #[serde(default)]
    pub time_to_loss_seconds: Option<f64>,
}

impl RuleAtWorker {
    pub(super) fn lag(&self) -> Option<Lag> {
        Some(Lag { records: self.lag_records?, seconds: self.lag_seconds?, loss_seconds: self.time_to_loss_seconds })
    }

    /// Whether it only starts.
    fn starts(&self) -> bool {
        self.state == RuleState::Waiting && self.reason.is_none()
    }
}

/// What a worker says when it asks what to run.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// What tells it from others of its name: made at its first start, and kept in its state.
    #[schema(min_length = 1, max_length = 64, pattern = "^[0-9a-zA-Z]+$")]
    pub id: String,
    /// The revision that it has; null if it has none.
    #[serde(default)]
    pub revision: Option<String>,
    /// What it is doing, by rule.
    #[serde(default)]
    pub rules: BTreeMap<String, RuleAtWorker>,
}

/// What a worker is told.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Orders {
    /// Stands for what is to run.
    pub revision: String,
    /// The number of the last report that was written down.
    pub delivered: i64,
    /// What is to run; null if the worker has this revision.
    pub set: Option<RuleSet>,
}

/// Reports of a worker.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// The id of its contacts.
    pub id: String,
    /// What happened, with numbers that follow each other.
    pub reports: Vec<Report>,
}

/// What became of reports.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Delivered {
    /// The number of the last one that is written down: it and those before it need not be sent again.
    pub delivered: i64,
}

/// A worker as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Worker)]
pub struct WorkerView {
    /// Its name.
    pub name: String,
    /// Whether it has asked within the last quarter of a minute.
    pub present: bool,
    /// When it asked last, ms since 1970.
    pub seen_ms: i64,
    /// The number of its last report that was written down.
    pub delivered: i64,
    /// Reports that it has forgotten because the server was away for too long.
    pub lost: i64,
    /// What it said it was doing, by rule.
    pub rules: BTreeMap<String, RuleAtWorker>,
}

/// A worker that has asked since this process began.
#[derive(Debug)]
struct Seen {
    id: String,
    at: tokio::time::Instant,
    at_ms: i64,
    rules: BTreeMap<String, RuleAtWorker>,
}

impl Seen {
    fn is_present(&self) -> bool {
        self.at.elapsed() < PRESENT_FOR
    }
}

/// Who works for this service.
#[derive(Debug, Default)]
pub struct Workers {
    /// Whether this process runs no rules itself.
    alone: AtomicBool,
    seen: Mutex<BTreeMap<String, Seen>>,
    /// Reports of each rule since its old ones were forgotten.
    since_pruned: Mutex<BTreeMap<String, usize>>,
}

impl Workers {
    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether workers alone run rules.
    pub(super) fn run_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    /// A worker is here.
    ///
    /// # Errors
    /// `C0664` if another one of its name is present.
    fn enter(&self, name: &str, id: &str, rules: BTreeMap<String, RuleAtWorker>, at_ms: i64) -> Result<()> {
        let mut seen = self.seen();
        if seen.get(name).is_some_and(|other| other.id != id && other.is_present()) {
            return Err(Error::new(WORKER_NAME_TAKEN, ErrorKind::Invalid, "another worker has this name")
                .with("worker", name)
                .help("give each worker a --name of its own; one that has lost its state waits for a quarter of a minute"));
        }
        seen.retain(|_, worker| worker.at.elapsed() < REMEMBERED_FOR);
        seen.insert(name.to_owned(), Seen { id: id.to_owned(), at: crate::clock::now(), at_ms, rules });
        Ok(())
    }

    /// The workers that were here within the last hour, and whether each is here now.
    pub(super) fn presence(&self) -> BTreeMap<String, bool> {
        let is_remembered = |(_, worker): &(&String, &Seen)| worker.at.elapsed() < REMEMBERED_FOR;
        self.seen().iter().filter(is_remembered).map(|(name, worker)| (name.clone(), worker.is_present())).collect()
    }

    /// What a rule is doing here and at the workers that are present.
    pub(super) fn joined(&self, rule: &str, mut own: Status) -> Status {
        let present = |(name, worker): (&String, &Seen)| Some((name.clone(), worker.rules.get(rule)?.clone()));
        let elsewhere: BTreeMap<String, RuleAtWorker> =
            self.seen().iter().filter(|(_, worker)| worker.is_present()).filter_map(present).collect();
        let waits_for_workers = self.run_alone() && own.state == RuleState::Waiting;
        match elsewhere.is_empty() {
            true if waits_for_workers => {
                let help = "start one: `catchment worker --join URL --token-file FILE`";
                (own.reason, own.help) = (Some("no worker runs it".to_owned()), Some(help.to_owned()));
                own
            }
            true => own,
            false => join(own, !waits_for_workers, elsewhere),
        }
    }

    /// Counts reports, and names the rules whose old ones are to be forgotten.
    fn due_to_prune(&self, reports: &[Report]) -> Vec<String> {
        let mut since = self.since_pruned.lock().unwrap_or_else(PoisonError::into_inner);
        for report in reports {
            *since.entry(report.rule.clone()).or_default() += 1;
        }
        let due: Vec<String> = since.iter().filter(|(_, count)| **count >= PRUNE_AFTER).map(|(rule, _)| rule.clone()).collect();
        since.retain(|rule, _| !due.contains(rule));
        due
    }
}

/// How grave a state is where nothing runs.
fn gravity(state: RuleState) -> u8 {
    match state {
        RuleState::Failed => 5,
        RuleState::SourceMissing => 4,
        RuleState::Degraded => 3,
        RuleState::Waiting => 2,
        RuleState::Running => 1,
        RuleState::Paused => 0,
    }
}

/// One state of many: that of all if they agree. Where some run, what the others lack makes it degraded; where none does, the gravest counts.
fn join(mut own: Status, counts: bool, elsewhere: BTreeMap<String, RuleAtWorker>) -> Status {
    let here = RuleAtWorker {
        version: 0,
        state: own.state,
        reason: own.reason.clone(),
        help: own.help.clone(),
        since_ms: own.since_ms,
        lanes: Vec::new(),
        lag_records: None,
        lag_seconds: None,
        time_to_loss_seconds: None,
    };
    let here = counts.then_some((None, &here));
    let all: Vec<(Option<&String>, &RuleAtWorker)> =
        here.into_iter().chain(elsewhere.iter().map(|(name, rule)| (Some(name), rule))).collect();
    let runs = all.iter().any(|(_, rule)| matches!(rule.state, RuleState::Running | RuleState::Degraded));
    // While some run, one that only starts is no trouble.
    let graver = |(_, rule): &&(Option<&String>, &RuleAtWorker)| if runs && rule.starts() { 0 } else { gravity(rule.state) };
    let Some((who, worst)) = all.iter().max_by_key(graver) else { return own };
    let agree = all.iter().all(|(_, rule)| rule.state == worst.state);
    let still = all.iter().find(|(_, rule)| own.state == RuleState::Paused && rule.state != RuleState::Paused);
    let state = match worst.state {
        // It was told to pause, and somebody has not heard or finished it yet.
        _ if still.is_some() => RuleState::Degraded,
        state if agree || !runs || state == RuleState::Running => state,
        _ => RuleState::Degraded,
    };
    let who = still.map_or(*who, |(who, _)| *who);
    let told = match (still, &worst.reason) {
        (Some((_, rule)), _) => Some(format!("it is still {}", rule.state.as_str())),
        (None, Some(reason)) => Some(reason.clone()),
        (None, None) if state != worst.state => Some(worst.state.as_str().to_owned()),
        (None, None) => None,
    };
    let reason = told.map(|told| who.map_or(told.clone(), |who| format!("worker {who}: {told}")));
    let since_ms = all.iter().filter(|(_, rule)| rule.state == state).map(|(_, rule)| rule.since_ms).min().unwrap_or(worst.since_ms);
    let help = worst.help.clone();
    (own.state, own.reason, own.help, own.since_ms) = (state, reason, help, since_ms);
    own.elsewhere = elsewhere;
    own
}

impl Supervisor {
    /// Leaves all rules to workers. To be said before the start.
    pub fn leave_to_workers(&self) {
        self.workers().alone.store(true, Ordering::Relaxed);
    }

    /// Hears a worker, and tells it what to run.
    ///
    /// # Errors
    /// `C0601`, `C0664`.
    pub async fn meet(&self, name: &str, contact: Contact) -> Result<Orders> {
        let (Contact { id, revision: known, rules }, at_ms) = (contact, now_ms());
        self.workers().enter(name, &id, rules, at_ms)?;
        let worker = name.to_owned();
        let delivered = self.state().ask(move |state| state.meet_worker(&id, &worker, at_ms)).await?;
        let set = self.rule_set().await?;
        let revision = revision_of(&set);
        let set = Some(set).filter(|_| known.as_ref() != Some(&revision));
        Ok(Orders { revision, delivered, set })
    }

    /// Writes down what a worker reports, each report once.
    ///
    /// # Errors
    /// `C0601`, `C0660`, `C0661`.
    pub async fn take_reports(&self, name: &str, delivery: Delivery) -> Result<Delivered> {
        let due = self.workers().due_to_prune(&delivery.reports);
        let name = name.to_owned();
        let take = move |state: &State| {
            let delivered = state.take_reports(&delivery.id, &name, &delivery.reports, now_ms())?;
            due.iter().try_for_each(|rule| state.prune(rule))?;
            Ok(Delivered { delivered })
        };
        self.state().ask(take).await
    }

    /// All workers that are remembered, by name.
    ///
    /// # Errors
    /// `C0601`.
    pub async fn all_workers(&self) -> Result<Vec<WorkerView>> {
        let stored = self.state().ask(State::workers).await?;
        let seen = self.workers().seen();
        Ok(stored.into_values().map(|worker| shown(worker, &seen)).collect())
    }

    /// Asks workers to begin a rule anew: see [`State::request_anew`].
    pub(super) async fn ask_workers(&self, rule: &str, seal: bool, accept: &[Accept]) -> Result<()> {
        let (rule, accept) = (rule.to_owned(), accept.iter().map(ToString::to_string).collect::<Vec<_>>());
        self.state().ask(move |state| state.request_anew(&rule, seal, &accept, now_ms())).await
    }
}

fn shown(worker: StoredWorker, seen: &BTreeMap<String, Seen>) -> WorkerView {
    let StoredWorker { name, delivered, lost, seen_ms, .. } = worker;
    match seen.get(&name) {
        Some(now) => WorkerView { present: now.is_present(), seen_ms: now.at_ms, rules: now.rules.clone(), name, delivered, lost },
        None => WorkerView { present: false, seen_ms, rules: BTreeMap::new(), name, delivered, lost },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_worker(state: RuleState, reason: Option<&str>) -> RuleAtWorker {
        let reason = reason.map(str::to_owned);
        RuleAtWorker {
            version: 1,
            state,
            reason,
            help: None,
            since_ms: 5,
            lanes: Vec::new(),
            lag_records: Some(3),
            lag_seconds: Some(0.5),
            time_to_loss_seconds: Some(60.0),
        }
    }

    fn workers(rules: &[(&str, RuleState, Option<&str>)]) -> Workers {
        let workers = Workers::default();
        for (name, state, reason) in rules {
            let rules = BTreeMap::from([("r".to_owned(), at_worker(*state, *reason))]);
            workers.enter(name, &format!("id{name}"), rules, 1).unwrap();
        }
        workers
    }

    fn state_of(own: RuleState, rules: &[(&str, RuleState, Option<&str>)]) -> (RuleState, Option<String>) {
        let joined = workers(rules).joined("r", Status::new(own, 1));
        (joined.state, joined.reason)
    }

    #[tokio::test(start_paused = true)]
    async fn a_rules_state_joins_what_all_say() {
        use RuleState::{Degraded, Failed, Paused, Running, Waiting};
        let why = |text: &str| Some(text.to_owned());
        assert_eq!(state_of(Running, &[]), (Running, None));
        assert_eq!(state_of(Running, &[("a", Running, None), ("b", Running, None)]), (Running, None));
        assert_eq!(state_of(Running, &[("a", Waiting, None)]), (Running, None), "one that starts is no trouble");
        assert_eq!(state_of(Running, &[("a", Waiting, Some("C0201"))]), (Degraded, why("worker a: C0201")));
        assert_eq!(state_of(Running, &[("a", Running, None), ("b", Failed, Some("x"))]), (Degraded, why("worker b: x")));
        assert_eq!(state_of(Failed, &[("a", Failed, Some("x")), ("b", Failed, Some("y"))]).0, Failed);
        assert_eq!(state_of(Waiting, &[("a", Failed, Some("x"))]), (Failed, why("worker a: x")));
        assert_eq!(state_of(Paused, &[("a", Paused, None)]), (Paused, None));
        assert_eq!(state_of(Paused, &[("a", Running, None), ("b", Paused, None)]), (Degraded, why("worker a: it is still running")));
    }

    #[tokio::test(start_paused = true)]
    async fn without_rules_here_workers_say_what_they_do_and_somebody_must() {
        let workers = workers(&[("a", RuleState::Running, None)]);
        workers.alone.store(true, Ordering::Relaxed);
        let own = || Status::new(RuleState::Waiting, 1);
        let joined = workers.joined("r", own());
        assert_eq!((joined.state, joined.lag(0).map(|lag| lag.records)), (RuleState::Running, Some(3)));
        assert_eq!(workers.joined("other", own()).reason.as_deref(), Some("no worker runs it"));
        tokio::time::advance(PRESENT_FOR).await;
        let joined = workers.joined("r", own());
        assert_eq!((joined.state, joined.reason.as_deref()), (RuleState::Waiting, Some("no worker runs it")), "it has gone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_one_workers_until_it_is_gone() {
        let workers = workers(&[("a", RuleState::Running, None)]);
        let enter = |id: &str| workers.enter("a", id, BTreeMap::new(), 1).map_err(|e| e.code);
        assert_eq!(enter("other"), Err(WORKER_NAME_TAKEN));
        assert_eq!(enter("ida"), Ok(()), "it may restart");
        tokio::time::advance(PRESENT_FOR).await;
        assert_eq!(enter("other"), Ok(()));
        assert_eq!(enter("ida"), Err(WORKER_NAME_TAKEN));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_has_gone_is_told_of_for_an_hour() {
        let workers = workers(&[("a", RuleState::Running, None)]);
        let is = |present: bool| BTreeMap::from([("a".to_owned(), present)]);
        assert_eq!(workers.presence(), is(true));
        tokio::time::advance(PRESENT_FOR).await;
        assert_eq!(workers.presence(), is(false));
        workers.enter("a", "ida", BTreeMap::new(), 2).unwrap();
        assert_eq!(workers.presence(), is(true), "it is back");
        // Nobody else asks meanwhile.
        tokio::time::advance(REMEMBERED_FOR).await;
        assert_eq!(workers.presence(), BTreeMap::new());
    }

    #[test]
    fn old_reports_of_a_rule_are_forgotten_now_and_then() {
        let workers = Workers::default();
        let reports =
            |count: usize| vec![Report { number: 1, rule: "r".into(), created_ms: None, window: None, gap: None, line: None }; count];
        assert_eq!(workers.due_to_prune(&reports(PRUNE_AFTER - 1)), [] as [&str; 0]);
        assert_eq!(workers.due_to_prune(&reports(1)), ["r"]);
        assert_eq!(workers.due_to_prune(&reports(1)), [] as [&str; 0]);
    }
}
