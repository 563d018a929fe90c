//! A worker: runs the rules of a server on another machine, and tells it what comes of them.
//!
//! Place in the flow: in the process of `catchment worker`, around a [supervisor](super::supervisor) of its own. Every few seconds it asks the server what to run,
//! keeps that in its [state](super::state), has the supervisor make it so, and sends what rules have reported since. On the other side stand
//! [`workers`](super::workers).
//!
//! Guarantees: a server that is away changes nothing: what it told last goes on, also over restarts of the worker. What rules report waits in the state, and is
//! sent until the server says that it is written down. Nothing here takes part in the promise: a worker is one more process of each rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::observer::Status;
use super::orders::{ConnectionOrder, RuleOrder, RuleSet};
use super::state::{Origin, Request, State, StoredConnection, StoredRule, Taken};
use super::supervisor::Supervisor;
use super::workers::{Contact, Delivered, Delivery, Orders, RuleAtWorker};
use crate::config::Accept;
use crate::error::{ErrorKind, Result};

/// From one contact to the next. Shorter: a server with many rules has more to do. Longer: changes and reports come later.
const INTERVAL: Duration = Duration::from_secs(2);

/// Batches between two questions: who does not ask counts as gone.
const BATCHES_AT_ONCE: usize = 8;

/// Bytes and number of reports in one call: far below what a call may have.
const BATCH: (usize, u32) = (256 << 10, 500);

/// Bytes of reasons and lanes in one contact, so that it stays below what a call may have.
const SAID_MAX: usize = 256 << 10;

/// Lanes of a rule that are named.
const LANES_MAX: usize = 256;

/// Bytes of a reason that are said.
const REASON_MAX: usize = 1 << 10;

/// The server, however it is reached.
pub trait Server {
    /// Says what this worker is doing, and asks what to run.
    fn meet(&self, worker: &str, contact: &Contact) -> impl Future<Output = Result<Orders>>;

    /// Sends reports.
    fn report(&self, worker: &str, delivery: &Delivery) -> impl Future<Output = Result<Delivered>>;
}

/// What is to become of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    rule: String,
    /// It begins anew although what runs is what is wanted.
    anew: bool,
    /// Somebody has resumed it: it begins anew if it does not run well.
    resumed: bool,
    accept: Vec<Accept>,
}

/// A worker of a server.
#[derive(Debug)]
pub struct Worker<S> {
    name: String,
    id: String,
    state: Arc<State>,
    supervisor: Arc<Supervisor>,
    server: S,
    /// What the server told last, in this process.
    revision: Option<String>,
    /// Why the last contact failed.
    trouble: Option<String>,
}

impl<S: Server> Worker<S> {
    /// A worker that has not asked yet.
    ///
    /// # Errors
    /// `C0601`.
    pub fn new(name: String, state: Arc<State>, supervisor: Arc<Supervisor>, server: S) -> Result<Self> {
        let id = state.identity()?;
        Ok(Self { name, id, state, supervisor, server, revision: None, trouble: None })
    }

    /// Asks for the first time, before rules are started. Returns what is to be changed once they are.
    ///
    /// # Errors
    /// What the server refuses. One that is away is none: what it told last is known.
    pub async fn join(&mut self) -> Result<Vec<Change>> {
        match self.ask().await {
            Ok(changes) => {
                tracing::info!("joined as {}", self.name);
                Ok(changes)
            }
            Err(error) if matches!(error.kind, ErrorKind::Unreachable | ErrorKind::Retryable) => {
                let known = self.state.ask(State::rules).await?.len();
                tracing::warn!("the server is away, so {known} rule(s) run as it told last: {error}");
                self.trouble = Some(error.to_string());
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Goes on asking and reporting.
    pub async fn follow(&mut self) {
        loop {
            let outcome = self.turn().await;
            self.tell(outcome.err().map(|error| error.to_string()));
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn turn(&mut self) -> Result<()> {
        let changes = self.ask().await?;
        self.make_so(changes);
        self.deliver_some().await.map(drop)
    }

    /// Says once what is wrong, and once that it is over.
    fn tell(&mut self, trouble: Option<String>) {
        match (&self.trouble, &trouble) {
            (before, Some(now)) if before.as_ref() != Some(now) => tracing::warn!("rules go on as the server told last: {now}"),
            (Some(_), None) => tracing::info!("the server is there again"),
            _ => {}
        }
        self.trouble = trouble;
    }

    /// Asks what to run, and keeps it. Returns what is to be changed.
    async fn ask(&mut self) -> Result<Vec<Change>> {
        let contact =
            Contact { id: self.id.clone(), revision: self.revision.clone(), rules: said(self.supervisor.own_statuses(), now_ms()) };
        let orders = self.server.meet(&self.name, &contact).await?;
        let Some(set) = orders.set else { return Ok(Vec::new()) };
        for withheld in &set.withheld {
            tracing::warn!(rule = withheld.rule, "the server runs this rule alone: {}", withheld.reason);
        }
        let changes = self.take(set).await?;
        self.revision = Some(orders.revision);
        Ok(changes)
    }

    async fn take(&self, set: RuleSet) -> Result<Vec<Change>> {
        let before = self.state.ask(State::taken).await?;
        let changes = changes(&before, &set.rules);
        let rules: Vec<Taken> = set.rules.into_iter().map(taken).collect();
        let connection = |c: ConnectionOrder| StoredConnection { kind: c.kind, name: c.name, body: c.body.to_string(), version: 1 };
        let connections: Vec<StoredConnection> = set.connections.into_iter().map(connection).collect();
        self.state.ask(move |state| state.take(&rules, &connections)).await?;
        Ok(changes)
    }

    /// Has rules become what they should be, each on its own: one whose store does not answer takes long to end.
    pub fn make_so(&self, changes: Vec<Change>) {
        for Change { rule, anew, resumed, accept } in changes {
            let supervisor = Arc::clone(&self.supervisor);
            let is_unwell = supervisor.own_status(&rule).is_none_or(|status| !status.is_well());
            let anew = anew || resumed && (!accept.is_empty() || is_unwell);
            tokio::spawn(async move {
                if let Err(error) = supervisor.apply(&rule, accept, anew).await {
                    tracing::error!(rule, "what the server told could not be done: {error}");
                }
            });
        }
    }

    /// Sends what rules have reported, in its order, until the server has all of it.
    ///
    /// # Errors
    /// `C0601`; those of the server.
    pub async fn deliver(&self) -> Result<()> {
        while self.deliver_some().await? {}
        Ok(())
    }

    /// Sends some of them. False: the server has all, or takes none now.
    async fn deliver_some(&self) -> Result<bool> {
        for _ in 0..BATCHES_AT_ONCE {
            let reports = self.state.ask(|state| state.undelivered(BATCH.0, BATCH.1)).await?;
            let Some(first) = reports.first().map(|report| report.number) else { return Ok(false) };
            let delivery = Delivery { id: self.id.clone(), reports };
            let Delivered { delivered } = self.server.report(&self.name, &delivery).await?;
            if delivered < first {
                // It has taken none of them, and says no reason: next time.
                return Ok(false);
            }
            self.state.ask(move |state| state.delivered(delivered)).await?;
        }
        Ok(true)
    }
}

fn now_ms() -> i64 {
    super::changes::now_ms()
}

/// What differs from what was told before. What lies in requests that are older than this worker's knowledge of the rule is not its matter.
fn changes(before: &BTreeMap<String, Taken>, rules: &[RuleOrder]) -> Vec<Change> {
    let plain = |rule: &str| Change { rule: rule.to_owned(), anew: false, resumed: false, accept: Vec::new() };
    let told: BTreeSet<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
    let gone = before.keys().filter(|name| !told.contains(name.as_str())).map(|name| plain(name));
    let now = rules.iter().filter_map(|rule| {
        let Some(known) = before.get(&rule.name) else { return Some(plain(&rule.name)) };
        let after = taken(rule.clone());
        // One does not hide another: who was away for a moment may have missed several. Another rule of the name counts from the beginning.
        let heard = if known.rule.created_ms == after.rule.created_ms { known.request } else { 0 };
        let missed: Vec<&Request> = rule.requests.iter().filter(|request| request.number > heard).collect();
        // Another rule of its name, or another history of it: its version alone does not tell.
        let other = known.rule.created_ms != after.rule.created_ms
            || known.rule.version == after.rule.version && known.rule.body != after.rule.body;
        let accept = missed.iter().flat_map(|request| &request.accept).filter_map(|word| word.parse().ok()).collect();
        let anew = other || missed.iter().any(|request| request.seal);
        let change = Change { anew, resumed: missed.iter().any(|request| !request.seal), accept, ..plain(&rule.name) };
        (*known != after).then_some(change)
    });
    gone.chain(now).collect()
}

fn taken(order: RuleOrder) -> Taken {
    let RuleOrder { name, version, created_ms, wanted, body, moved_from, request, .. } = order;
    Taken { rule: StoredRule { name, version, wanted, origin: Origin::Api, created_ms, body: body.to_string() }, moved_from, request }
}

/// What the server is told of the rules here, as far as it fits into one call.
fn said(statuses: BTreeMap<String, Status>, now_ms: i64) -> BTreeMap<String, RuleAtWorker> {
    let mut room = SAID_MAX;
    let mut fitting = |text: String| {
        let fits = text.len() <= REASON_MAX.min(room);
        room -= if fits { text.len() } else { 0 };
        fits.then_some(text)
    };
    let one = |(name, status): (String, Status)| {
        let lanes = status.metrics.as_ref().map(|metrics| metrics.lanes()).unwrap_or_default();
        let lag = status.metrics.as_ref().map(|metrics| metrics.lag(now_ms));
        let rule = RuleAtWorker {
            version: status.version,
            state: status.state,
            // One that is too long is in the log.
            reason: status.reason.map(|reason| fitting(reason).unwrap_or_else(|| "see its log".to_owned())),
            help: status.help.and_then(&mut fitting),
            since_ms: status.since_ms,
            lanes: lanes.into_iter().take(LANES_MAX).map_while(|lane| fitting(lane.tp.to_string())).collect(),
            lag_records: lag.map(|lag| lag.records),
            lag_seconds: lag.map(|lag| lag.seconds),
            time_to_loss_seconds: lag.and_then(|lag| lag.loss_seconds),
        };
        (name, rule)
    };
    statuses.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests;
