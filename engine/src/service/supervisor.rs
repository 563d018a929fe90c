//! Runs each rule that is wanted, again and again, and tells it when to end.
//!
//! Place in the flow: between [`api`](super::api), which changes what is wanted, and [`runtime`](crate::runtime), which runs one plan to its end. A rule is a
//! task of its own: what ends it, keeps it waiting or stops one of its lanes is its own matter.
//!
//! What an end means: a server that does not answer is waited for, with growing pauses; a topic that does not exist is looked for; everything else fails
//! the rule until it is edited or resumed, since it would only fail again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use super::definition;
use super::observer::{Journal, RuleObserver, RuleState, Status};
use super::state::{State, StoredRule, Wanted};
use crate::clock::{Backoff, SystemClock};
use crate::config::{Accept, BackupPlan, ByteSize, Config, RunOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::Outcome;
use crate::runtime::{self, Ending, Observer};

/// The first and the longest pause before a rule that could not start is started again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long a rule must have run for its pauses to begin anew.
const RAN_WELL: Duration = Duration::from_secs(60);

/// What rules have in common.
#[derive(Clone, Debug)]
pub struct Common {
    /// Kafka connections and stores of the config file.
    pub base: Config,
    /// Memory of a rule that does not say how much it takes.
    pub rule_budget: ByteSize,
}

/// A rule's task.
#[derive(Debug)]
struct Running {
    observer: Arc<RuleObserver>,
    stop: watch::Sender<Option<Ending>>,
    task: JoinHandle<()>,
}

/// All rules of the service.
#[derive(Debug)]
pub struct Supervisor {
    state: Arc<State>,
    journal: Journal,
    common: Common,
    /// By name. One change at a time: a rule is never started before it has ended.
    rules: Mutex<BTreeMap<String, Running>>,
}

impl Supervisor {
    /// Starts every rule that is wanted.
    ///
    /// # Errors
    /// `C0601`, or if no thread can be started.
    pub async fn start(state: Arc<State>, common: Common) -> Result<Arc<Self>> {
        let journal = Journal::start(Arc::clone(&state))?;
        let this = Arc::new(Self { state, journal, common, rules: Mutex::default() });
        for rule in this.state.rules()? {
            this.apply(&rule, Vec::new()).await;
        }
        Ok(this)
    }

    /// The connections and stores that rules may name now.
    ///
    /// # Errors
    /// `C0601`, or what is wrong with one that was created.
    pub fn config(&self) -> Result<Config, Vec<Error>> {
        definition::with_created(&self.common.base, &self.state.connections()?)
    }

    /// The plan that a body gives.
    ///
    /// # Errors
    /// Every problem of the body.
    pub fn plan(&self, name: &str, body: &str, accept: Vec<Accept>) -> Result<BackupPlan, Vec<Error>> {
        let options = RunOptions { until_end: false, accept };
        definition::plan(&self.config()?, name, body, self.common.rule_budget, options)
    }

    /// Makes a rule what it is wanted to be: ends what runs of it, closing its windows, and starts it in its current version.
    pub async fn apply(&self, rule: &StoredRule, accept: Vec<Accept>) {
        let mut rules = self.rules.lock().await;
        if let Some(running) = rules.remove(&rule.name) {
            end(running, Ending::Close).await;
        }
        let paused = rule.wanted == Wanted::Paused;
        let observer =
            RuleObserver::new(&rule.name, rule.version, self.journal.clone(), if paused { RuleState::Paused } else { RuleState::Waiting });
        let (stop, stopped) = watch::channel(None);
        let plan = self.plan(&rule.name, &rule.body, accept);
        let watched = Arc::clone(&observer);
        let task = match (paused, plan) {
            (true, _) => tokio::spawn(async {}),
            (false, Ok(plan)) => tokio::spawn(run(plan, watched, stopped)),
            (false, Err(errors)) => {
                watched.enter(RuleState::Failed, errors.first());
                tokio::spawn(async {})
            }
        };
        rules.insert(rule.name.clone(), Running { observer, stop, task });
    }

    /// Ends a rule for good.
    pub async fn remove(&self, name: &str) {
        if let Some(running) = self.rules.lock().await.remove(name) {
            end(running, Ending::Close).await;
        }
    }

    /// What a rule is doing; none if there is none.
    pub async fn status(&self, name: &str) -> Option<Status> {
        self.rules.lock().await.get(name).map(|running| running.observer.status())
    }

    /// What each rule is doing.
    pub async fn statuses(&self) -> BTreeMap<String, Status> {
        self.rules.lock().await.iter().map(|(name, running)| (name.clone(), running.observer.status())).collect()
    }

    /// Ends all rules at the same time, as their plans say.
    pub async fn stop(&self) {
        let rules = std::mem::take(&mut *self.rules.lock().await);
        let mut ending = tokio::task::JoinSet::new();
        for running in rules.into_values() {
            ending.spawn(end(running, Ending::AsPlanned));
        }
        ending.join_all().await;
    }
}

async fn end(running: Running, ending: Ending) {
    running.stop.send_replace(Some(ending));
    if let Err(failure) = running.task.await {
        tracing::error!("a rule's task has panicked: {failure}");
    }
}

/// Runs a plan until it is told to stop, or cannot go on.
async fn run(plan: BackupPlan, observer: Arc<RuleObserver>, mut stop: watch::Receiver<Option<Ending>>) {
    let clock = SystemClock::new();
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let began = crate::clock::now();
        let ended = once(&plan, &observer, &mut stop).await;
        if stop.borrow().is_some() {
            return;
        }
        let error = match ended {
            Ok(Outcome::Stopped | Outcome::ReachedEnd) => return,
            Ok(Outcome::Failed(error)) | Err(error) => error,
        };
        let state = state_after(&error);
        observer.enter(state, Some(&error));
        if state == RuleState::Failed {
            return;
        }
        if began.elapsed() >= RAN_WELL {
            backoff = Backoff::new(RETRY.0, RETRY.1);
        }
        tokio::select! {
            () = backoff.wait(&clock) => {}
            _ = stop.wait_for(Option::is_some) => return,
        }
    }
}

async fn once(plan: &BackupPlan, observer: &Arc<RuleObserver>, stop: &mut watch::Receiver<Option<Ending>>) -> Result<Outcome> {
    let opened = runtime::open_store(&plan.to.store, &plan.to.prefix).await?;
    runtime::backup(plan, opened, Arc::clone(observer) as Arc<dyn Observer>, stop).await
}

/// What becomes of a rule that has ended by an error.
fn state_after(error: &Error) -> RuleState {
    match error.kind {
        ErrorKind::Retryable | ErrorKind::Unreachable | ErrorKind::Denied => RuleState::Waiting,
        ErrorKind::NotFound => RuleState::SourceMissing,
        ErrorKind::Fenced | ErrorKind::Invalid | ErrorKind::Corrupt | ErrorKind::Asks | ErrorKind::Bug => RuleState::Failed,
    }
}
