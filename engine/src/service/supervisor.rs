//! Runs each rule that is wanted, again and again, and tells it when to end.
//!
//! Place in the flow: between [`api`](super::api), which changes what is wanted, and [`runtime`], which runs one plan to its end. A rule is a
//! task of its own: what ends it, keeps it waiting or stops one of its lanes is its own matter.
//!
//! Before it connects, a rule waits for its turn and for room in the memory ([`rooms`](super::rooms)).
//!
//! What an end means: a server that does not answer is waited for, with growing pauses; a topic that does not exist is looked for; everything else fails
//! the rule until it is edited or resumed, since it would only fail again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::task::JoinHandle;

use super::definition;
use super::deletion::Deleted;
use super::journal::Journal;
use super::observer::{RuleObserver, RuleState, Status};
use super::own_files::OwnFiles;
use super::portable;
use super::rooms::Rooms;
use super::state::{Origin, RULE_UNKNOWN, State, StoredRule, Wanted, Whose};
use super::workers::Workers;
use crate::clock::{Backoff, SystemClock};
use crate::config::{Accept, BackupPlan, ByteSize, Config, RunOptions, StoreSettings};
use crate::error::{Error, ErrorKind, Result, codes};
use crate::metrics::Metrics;
use crate::pipeline::Outcome;
use crate::runtime::{self, Ending, Observer, Room};
use crate::source::kafka::errors::UNKNOWN_TOPIC;

/// The first and the longest pause before a rule that could not start is started again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long a rule must have run for its pauses to begin anew.
const RAN_WELL: Duration = Duration::from_secs(60);

/// A rule's run, and what it runs.
#[derive(Debug)]
pub(super) struct Running {
    version: i64,
    wanted: Wanted,
    stop: watch::Sender<Option<Ending>>,
    task: JoinHandle<()>,
}

/// A rule's place: one change of it at a time, and what it is doing for whoever asks meanwhile.
#[derive(Debug)]
pub(super) struct Slot {
    /// The run; whoever changes it holds this until the change is made.
    turn: Arc<Mutex<Option<Running>>>,
    observer: std::sync::Mutex<Arc<RuleObserver>>,
}

impl Slot {
    fn observer(&self) -> Arc<RuleObserver> {
        Arc::clone(&self.observer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// All rules of the service.
#[derive(Debug)]
pub struct Supervisor {
    state: Arc<State>,
    journal: Journal,
    base: RwLock<Config>,
    budget: ByteSize,
    rooms: Arc<Rooms>,
    own: OwnFiles,
    slots: std::sync::Mutex<BTreeMap<String, Arc<Slot>>>,
    /// Held from the look at what other rules write until a rule is written down: of two that would share a directory one must see the other.
    writing: Mutex<()>,
    /// Other processes that run rules of this one.
    workers: Workers,
    /// Whether everything is to end.
    ended: watch::Sender<bool>,
    /// Whether rules run: not before all of them were started, and not any more once they are to end.
    open: AtomicBool,
}

impl Supervisor {
    /// No rule runs yet. `base` is the config file; all rules together keep to `budget`.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(state: Arc<State>, base: Config, budget: ByteSize) -> Result<Arc<Self>> {
        let (journal, base) = (Journal::start(Arc::clone(&state))?, RwLock::new(base));
        let rooms = Rooms::new(budget);
        let (slots, workers) = (std::sync::Mutex::default(), Workers::default());
        let own = OwnFiles::of(&state);
        Ok(Arc::new(Self {
            state,
            journal,
            base,
            budget,
            rooms,
            own,
            slots,
            writing: Mutex::default(),
            workers,
            ended: watch::Sender::new(false),
            open: AtomicBool::new(false),
        }))
    }

    /// Starts every rule that is wanted, and goes on with what deleted ones have not given up yet.
    ///
    /// # Errors
    /// `C0601`.
    pub async fn start(self: &Arc<Self>) -> Result<()> {
        self.open.store(true, Ordering::Release);
        self.resume_releases().await?;
        for rule in self.state.ask(State::rules).await? {
            self.apply(&rule.name, Vec::new(), false).await?;
        }
        Ok(())
    }

    /// The connections and stores that rules may name now.
    ///
    /// # Errors
    /// `C0601`.
    pub async fn config(&self) -> Result<Config> {
        let created = self.state.ask(State::connections).await?;
        Ok(definition::with_created(&self.base(), &created, &self.own))
    }

    /// The connections, stores and rules of the config file as it was last read.
    pub fn base(&self) -> Config {
        self.base.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The config file was read again. Rules that run go on with what they have until something else ends them.
    pub fn set_base(&self, base: Config) {
        *self.base.write().unwrap_or_else(PoisonError::into_inner) = base;
    }

    /// The plan that a body gives.
    ///
    /// # Errors
    /// Every problem of the body.
    pub async fn plan(&self, name: &str, body: &str, accept: Vec<Accept>) -> Result<BackupPlan, Vec<Error>> {
        self.plan_in(&self.config().await?, name, body, accept)
    }

    /// The plan of a rule as it stands.
    ///
    /// # Errors
    /// `C0601`, `C0602`; every problem of its body, such as a connection that is gone.
    pub async fn plan_of_rule(&self, name: &str) -> Result<BackupPlan, Vec<Error>> {
        let rule = self.rule(name).await?;
        self.plan(name, &rule.body, Vec::new()).await
    }

    pub(super) fn plan_in(&self, config: &Config, name: &str, body: &str, accept: Vec<Accept>) -> Result<BackupPlan, Vec<Error>> {
        let plan = definition::plan(config, name, body, self.budget, RunOptions { accept, ..RunOptions::default() })?;
        self.check_place(&plan.to.store, &plan.to.prefix)?;
        Ok(plan)
    }

    /// Refuses a place in the service's own state, but for one below a store that the config file has there.
    ///
    /// # Errors
    /// `C0657`.
    pub(super) fn check_place(&self, store: &StoreSettings, prefix: &str) -> Result<()> {
        let of_file = self.base.read().unwrap_or_else(PoisonError::into_inner).stores.values().any(|one| one.url == store.url);
        self.own.check_place(store, prefix, of_file)
    }

    /// What no connection and no rule may lead to.
    pub(super) fn own_files(&self) -> &OwnFiles {
        &self.own
    }

    pub(super) fn state(&self) -> &Arc<State> {
        &self.state
    }

    pub(super) fn workers(&self) -> &Workers {
        &self.workers
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, name: &str) -> Arc<Slot> {
        let new = || {
            let observer = RuleObserver::new(name.into(), 0, self.journal.clone(), RuleState::Waiting);
            Arc::new(Slot { turn: Arc::default(), observer: std::sync::Mutex::new(observer) })
        };
        Arc::clone(self.slots().entry(name.to_owned()).or_insert_with(new))
    }

    /// A rule's place, which nobody else changes until the turn is given back. One that was taken out of the map meanwhile is nobody's any more.
    pub(super) async fn take_turn(&self, name: &str) -> (Arc<Slot>, OwnedMutexGuard<Option<Running>>) {
        loop {
            let slot = self.slot(name);
            let turn = Arc::clone(&slot.turn).lock_owned().await;
            if self.slots().get(name).is_some_and(|standing| Arc::ptr_eq(standing, &slot)) {
                return (slot, turn);
            }
        }
    }

    /// Takes a rule's place away, whose turn the caller has.
    pub(super) fn forget_slot(&self, name: &str) {
        drop(self.slots().remove(name));
    }

    /// Takes a place away that was only made for this turn. One that a rule runs in stays; a rule that is about to begin makes itself another one.
    pub(super) fn forget_unused(&self, name: &str, turn: &OwnedMutexGuard<Option<Running>>) {
        if turn.is_none() {
            self.forget_slot(name);
        }
    }

    /// Lets nobody else write a rule down for as long as it is held.
    pub(super) async fn writing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.writing.lock().await
    }

    /// Makes a rule what it is wanted to be: if something else runs, or if it is to run `anew`, that is ended with its windows closed. Goes on to its end
    /// although whoever asked for it has gone.
    ///
    /// # Errors
    /// `C0601`.
    pub async fn apply(self: &Arc<Self>, name: &str, accept: Vec<Accept>, anew: bool) -> Result<()> {
        let (this, name) = (Arc::clone(self), name.to_owned());
        finished(tokio::spawn(async move { this.reconcile(&name, accept, anew).await })).await
    }

    async fn reconcile(&self, name: &str, accept: Vec<Accept>, anew: bool) -> Result<()> {
        let (slot, mut turn) = self.take_turn(name).await;
        if !self.open.load(Ordering::Acquire) {
            return Ok(());
        }
        // Read now: somebody else may have changed it while this change waited.
        let wanted = name.to_owned();
        let rule = match self.state.ask(move |state| state.rule(&wanted)).await {
            Ok(rule) => rule,
            Err(error) if error.code == RULE_UNKNOWN => {
                // A server has deleted it that this process works for.
                if let Some(running) = turn.take() {
                    end(running, Ending::Close).await;
                }
                drop(self.slots().remove(name));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let as_wanted = turn.as_ref().is_some_and(|running| (running.version, running.wanted) == (rule.version, rule.runs()));
        if as_wanted && !anew {
            return Ok(());
        }
        if let Some(running) = turn.take() {
            end(running, Ending::Close).await;
        }
        *turn = Some(self.begin(&slot, &rule, accept).await);
        Ok(())
    }

    async fn begin(&self, slot: &Slot, rule: &StoredRule, accept: Vec<Accept>) -> Running {
        let state = if rule.runs() == Wanted::Paused { RuleState::Paused } else { RuleState::Waiting };
        let whose = Whose { rule: rule.name.clone(), created_ms: Some(rule.created_ms) };
        let observer = RuleObserver::new(whose, rule.version, self.journal.clone(), state);
        *slot.observer.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&observer);
        // A version that writes elsewhere than one before it was asked for: its runs need not ask again of what was left, however often they start.
        let asked = rule.clone();
        let moved_from = self.state.ask(move |state| state.left_destinations(&asked)).await.unwrap_or_default();
        let (stop, stopped) = watch::channel(None);
        let task = match (rule.runs(), self.plan(&rule.name, &rule.body, accept).await) {
            (Wanted::Paused, _) => tokio::spawn(async {}),
            (Wanted::Running, Ok(plan)) if self.workers.run_alone() => {
                if let Err(error) = portable::check(&plan) {
                    observer.enter(RuleState::Failed, Some(&error));
                }
                tokio::spawn(async {})
            }
            (Wanted::Running, Ok(plan)) => {
                let plan = BackupPlan { options: RunOptions { moved_from, ..plan.options.clone() }, ..plan };
                tokio::spawn(guarded(plan, Arc::clone(&self.rooms), observer, stopped))
            }
            (Wanted::Running, Err(errors)) => {
                observer.enter(RuleState::Failed, errors.first());
                tokio::spawn(async {})
            }
        };
        Running { version: rule.version, wanted: rule.runs(), stop, task }
    }

    /// Ends a rule and forgets it, and gives up its consumer group and its owner records. Answers what goes, what stays, and what could not be given up.
    ///
    /// # Errors
    /// `C0601`, `C0602`, `C0614`.
    pub async fn remove(self: &Arc<Self>, name: &str, origin: Origin, who: &str, at_ms: i64) -> Result<Deleted> {
        let (this, name, who) = (Arc::clone(self), name.to_owned(), who.to_owned());
        finished(tokio::spawn(async move {
            this.rule(&name).await?;
            let (_slot, mut turn) = this.take_turn(&name).await;
            // Gone if another deletion was faster: then the place is nobody's.
            let StoredRule { body, .. } = this.rule(&name).await.inspect_err(|_| this.forget_unused(&name, &turn))?;
            let plan = this.plan(&name, &body, Vec::new()).await;
            // Forgotten first: if that fails, it goes on.
            let of = name.clone();
            let gone = this.state.ask(move |state| state.delete(&of, origin, &who, at_ms)).await?;
            if let Some(running) = turn.take() {
                end(running, Ending::Close).await;
            }
            // Within the turn: a new rule of this name begins with nothing of the old one half given up.
            let deleted = this.release(&gone, plan).await;
            this.forget_slot(&name);
            Ok(deleted)
        }))
        .await
    }

    /// What a rule is doing, here and at workers; none if there is none.
    pub fn status(&self, name: &str) -> Option<Status> {
        self.own_status(name).map(|own| self.workers.joined(name, own))
    }

    /// What each rule is doing, here and at workers.
    pub fn statuses(&self) -> BTreeMap<String, Status> {
        self.own_statuses().into_iter().map(|(name, own)| (name.clone(), self.workers.joined(&name, own))).collect()
    }

    /// What a rule is doing in this process.
    pub(super) fn own_status(&self, name: &str) -> Option<Status> {
        self.slots().get(name).map(|slot| slot.observer().status())
    }

    /// What each rule is doing in this process.
    pub(super) fn own_statuses(&self) -> BTreeMap<String, Status> {
        self.slots().iter().map(|(name, slot)| (name.clone(), slot.observer().status())).collect()
    }

    /// The counters of each rule; none of one that does not run.
    pub(super) fn running(&self) -> BTreeMap<String, Option<Arc<Metrics>>> {
        self.slots().iter().map(|(name, slot)| (name.clone(), slot.observer().metrics())).collect()
    }

    /// Waits until everything is to end.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        // The sender is the supervisor's own.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Ends all rules at the same time, as their plans say. None starts any more. Who gives up what a deleted rule had stops, and goes on at the next start.
    pub async fn stop(&self) {
        self.open.store(false, Ordering::Release);
        self.ended.send_replace(true);
        let slots: Vec<Arc<Slot>> = self.slots().values().cloned().collect();
        let mut ending = tokio::task::JoinSet::new();
        for slot in slots {
            ending.spawn(async move {
                if let Some(running) = slot.turn.lock().await.take() {
                    end(running, Ending::AsPlanned).await;
                }
            });
        }
        ending.join_all().await;
        let journal = self.journal.clone();
        // A panic of the flush leaves only its lines unwritten.
        let _ = tokio::task::spawn_blocking(move || journal.flush()).await;
    }
}

/// The result of a change that goes on without its caller.
async fn finished<T>(change: JoinHandle<Result<T>>) -> Result<T> {
    change.await.unwrap_or_else(|failure| {
        Err(Error::new(codes::PART_ENDED, ErrorKind::Bug, "a change of a rule has ended by itself").because(failure))
    })
}

async fn end(running: Running, ending: Ending) {
    running.stop.send_replace(Some(ending));
    if let Err(failure) = running.task.await {
        tracing::error!("a rule's task has panicked: {failure}");
    }
}

/// Runs a plan; a bug in it is the rule's end, and shown as such.
async fn guarded(plan: BackupPlan, rooms: Arc<Rooms>, observer: Arc<RuleObserver>, stop: watch::Receiver<Option<Ending>>) {
    if let Err(failure) = tokio::spawn(run(plan, rooms, Arc::clone(&observer), stop)).await {
        let error = Error::new(codes::PART_ENDED, ErrorKind::Bug, "the rule's run has ended by itself").because(failure);
        observer.enter(RuleState::Failed, Some(&error.help("resume it, and report this with the service's log")));
    }
}

/// Runs a plan until it is told to stop, or cannot go on.
///
/// What the operator answered holds for the first run that has started: what comes later is another question.
async fn run(mut plan: BackupPlan, rooms: Arc<Rooms>, observer: Arc<RuleObserver>, mut stop: watch::Receiver<Option<Ending>>) {
    let clock = SystemClock::new();
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let room = tokio::select! {
            room = rooms.enter(&plan, &observer) => room,
            _ = stop.wait_for(Option::is_some) => return,
        };
        let began = crate::clock::now();
        let ended = once(&plan, room, &observer, &mut stop).await;
        if stop.borrow().is_some() {
            return;
        }
        let error = match ended {
            Ok(Outcome::Stopped | Outcome::ReachedEnd) => return,
            Ok(Outcome::Failed(error)) | Err(error) => error,
        };
        let state = state_after(&error);
        forget_answers(&mut plan, observer.status().metrics.is_some());
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

/// An answer of the operator's is for the question that was asked: once a run has started with it, another run asks again.
fn forget_answers(plan: &mut BackupPlan, has_started: bool) {
    if has_started {
        plan.options.accept.clear();
    }
}

async fn once(plan: &BackupPlan, room: Room, observer: &Arc<RuleObserver>, stop: &mut watch::Receiver<Option<Ending>>) -> Result<Outcome> {
    let opened = runtime::open_store(&plan.to.store, &plan.to.prefix).await?;
    runtime::backup_among(plan, opened, room, Arc::clone(observer) as Arc<dyn Observer>, stop).await
}

/// What becomes of a rule that has ended by an error.
fn state_after(error: &Error) -> RuleState {
    match error.kind {
        ErrorKind::NotFound if error.code == UNKNOWN_TOPIC => RuleState::SourceMissing,
        // A bucket may be made, a permission granted.
        ErrorKind::Retryable | ErrorKind::Unreachable | ErrorKind::Denied | ErrorKind::NotFound => RuleState::Waiting,
        ErrorKind::Fenced | ErrorKind::Invalid | ErrorKind::Corrupt | ErrorKind::Asks | ErrorKind::Bug => RuleState::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deletion_that_comes_second_leaves_no_place_behind() {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(State::open(&dir.path().join("state.db")).unwrap());
        let supervisor = Supervisor::new(Arc::clone(&state), Config::default(), "128MiB".parse().unwrap()).unwrap();
        state.create("a", "{}", Origin::Api, "me", 1).unwrap();
        // The first one has its turn, and the second waits for it.
        let (slot, turn) = supervisor.take_turn("a").await;
        let this = Arc::clone(&supervisor);
        let second = tokio::spawn(async move { this.remove("a", Origin::Api, "me", 2).await });
        let began = crate::clock::now();
        while Arc::strong_count(&slot.turn) < 3 {
            assert!(began.elapsed() < Duration::from_secs(30), "it never waits");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        state.delete("a", Origin::Api, "me", 2).unwrap();
        supervisor.forget_slot("a");
        drop(turn);
        assert_eq!(second.await.unwrap().unwrap_err().code, RULE_UNKNOWN);
        assert_eq!(supervisor.statuses().len(), 0, "a place of a rule that is not there");
    }

    #[test]
    fn an_answer_holds_for_the_first_run_that_has_started() {
        let base = Config::parse("[kafka.k]\nbrokers = [\"h:1\"]\n[store.s]\nurl = \"file:///x/\"\n", "base").unwrap();
        let options =
            RunOptions { accept: vec![Accept::Destination, Accept::Truncation], moved_from: vec!["left".into()], ..RunOptions::default() };
        let body = "{\"source\":{\"topics\":[\"t\"]}}";
        let mut plan = definition::plan(&base, "r", body, "128MiB".parse().unwrap(), options.clone()).unwrap();
        forget_answers(&mut plan, false);
        assert_eq!(plan.options, options, "it was not asked yet");
        forget_answers(&mut plan, true);
        assert_eq!(plan.options, RunOptions { accept: Vec::new(), ..options }, "a move was written down, and stays");
    }
}
