//! The threads of a membership: one that polls the group client, one that commits, and for patterns one that looks for new topics.
//!
//! Place in the flow: started by [`KafkaGroup::join`](super::group::KafkaGroup::join). The control thread serves the client's callbacks (and so
//! rebalances), notices what is fatal, renews leases and hands events out; it never waits for the pipeline.
//!
//! Guarantee: at the end leases die first, then the committer ends, then the client is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as K};
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind};
use crate::source::GroupEvent;

use super::assignments::Assignments;
use super::cluster::KafkaCluster;
use super::committer::{self, Work};
use super::errors::{GROUP_FAILED, INSTANCE_FENCED, client_error};
use super::group::GroupClient;
use super::heartbeat::{FirstHeartbeat, unserved};
use super::slot::Slot;
use super::topics::TopicPattern;

/// How long the control thread waits for an event: bounds how late an event is handed out and an end is seen.
const POLL: Duration = Duration::from_millis(100);

/// How often patterns are matched against the cluster's topics. Shorter: more metadata requests. Longer: a new topic waits.
const TOPICS_INTERVAL: Duration = Duration::from_secs(10);

/// How often in a row a topic must be absent before it leaves the subscription: metadata has hiccups, and leaving is a rebalance.
const ABSENCES: u32 = 3;

/// The control thread's belongings.
pub(super) struct Control {
    pub(super) cluster: Arc<KafkaCluster>,
    pub(super) client: Arc<GroupClient>,
    pub(super) assignments: Arc<Assignments>,
    pub(super) work: mpsc::Sender<Work>,
    pub(super) events: mpsc::Sender<GroupEvent>,
    pub(super) ends: Arc<AtomicBool>,
    /// While a membership of KIP-848 has not been seen to stand.
    pub(super) joins: Option<FirstHeartbeat>,
    pub(super) committer: Option<JoinHandle<()>>,
    /// Held until the client is closed: the name is in use until then.
    pub(super) _slot: Option<Slot>,
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(|e| Error::new(GROUP_FAILED, ErrorKind::Retryable, "a thread cannot be started").because(e))
}

impl Control {
    /// Subscribes and starts the committer, the control thread, and, for patterns, the thread that looks for new topics.
    pub(super) fn start(
        mut self,
        commits: mpsc::Receiver<Work>,
        patterns: Vec<TopicPattern>,
        selected: Vec<String>,
    ) -> Result<(JoinHandle<()>, Option<JoinHandle<()>>), Error> {
        if !selected.is_empty() {
            subscribe(&self.client, &selected).map_err(|e| client_error(&e))?;
        }
        let (client, assignments) = (Arc::clone(&self.client), Arc::clone(&self.assignments));
        self.committer = Some(thread("kafka-committer", move || committer::run(&client, &assignments, commits))?);
        let topics = if patterns.iter().any(|p| matches!(p, TopicPattern::Matching { .. })) {
            let (cluster, client, ends) = (Arc::clone(&self.cluster), Arc::clone(&self.client), Arc::clone(&self.ends));
            Some(thread("kafka-topics", move || follow_topics(&cluster, &client, &ends, &patterns, selected))?)
        } else {
            None
        };
        Ok((thread("kafka-control", move || self.run())?, topics))
    }

    fn run(mut self) {
        let mut failed = false;
        while !self.ends.load(Ordering::Acquire) {
            let polled = self.client.poll(POLL);
            if let Some(Err(e)) = polled {
                self.note(&e);
            }
            if !failed && let Err(error) = self.check() {
                failed = true;
                self.assignments.fail(error);
            }
            if !failed {
                self.assignments.renew();
            }
            let events = &self.events;
            self.assignments.hand_out(|event| match events.try_send(event) {
                // With the receiver gone, nobody wants to know.
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
                Err(mpsc::error::TrySendError::Full(event)) => Err(event),
            });
        }
        self.close();
    }

    /// Whether the client can go on.
    fn check(&mut self) -> Result<(), Error> {
        if let Some((code, reason)) = self.client.client().fatal_error() {
            return Err(fatal(code, &reason));
        }
        if let Some(joins) = &mut self.joins
            && joins.is_answered(&self.client)?
        {
            self.joins = None;
        }
        Ok(())
    }

    /// Leases first, then the committer, then the client.
    fn close(&mut self) {
        self.assignments.revoke_all();
        let _ = self.work.blocking_send(Work::End);
        if let Some(committer) = self.committer.take() {
            let _ = committer.join();
        }
        // A static member sends no LeaveGroup here, so its partitions wait for it until the session ends; a dynamic one leaves.
        // After a fatal error there is nothing to close.
        if self.client.close_queue().is_ok() {
            while !self.client.closed() {
                let _ = self.client.poll(POLL);
            }
        }
    }

    fn note(&mut self, error: &KafkaError) {
        if let Some(joins) = &mut self.joins {
            joins.note_error();
        }
        let code = error.rdkafka_error_code().unwrap_or(K::Fail);
        match code {
            K::GroupAuthorizationFailed | K::TopicAuthorizationFailed | K::UnknownTopicOrPartition => {
                tracing::warn!("{}", self.cluster.explain("following the group", code));
            }
            _ => tracing::warn!(code = ?code, "group client: {error}"),
        }
    }
}

fn fatal(code: K, reason: &str) -> Error {
    match code {
        K::FencedInstanceId => {
            Error::new(INSTANCE_FENCED, ErrorKind::Fenced, "another process has joined the group under this static member's name")
                .because(reason)
                .help("stop the other process, or give each its own property group.instance.id; if there is none, start this one again")
        }
        // Of all that the group client sends, only the heartbeat of KIP-848 is fatal where a broker has it switched off.
        K::UnsupportedFeature | K::UnsupportedVersion => unserved(reason),
        _ => Error::new(GROUP_FAILED, ErrorKind::Retryable, "the group client failed for good")
            .with("code", format!("{code:?}"))
            .because(reason)
            .help("start again: what is committed is kept, and the rule goes on from there"),
    }
}

fn subscribe(client: &GroupClient, topics: &[String]) -> Result<(), KafkaError> {
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    client.subscribe(&names)
}

/// Keeps the subscription in step with the topics that match.
fn follow_topics(cluster: &KafkaCluster, client: &GroupClient, ends: &AtomicBool, patterns: &[TopicPattern], mut current: Vec<String>) {
    let mut absences = 0;
    loop {
        std::thread::park_timeout(TOPICS_INTERVAL);
        if ends.load(Ordering::Acquire) {
            return;
        }
        let found = match cluster.select_blocking(patterns) {
            Ok(found) => found,
            Err(e) => {
                tracing::warn!("{e}");
                continue;
            }
        };
        absences = if current.iter().all(|t| found.contains(t)) { 0 } else { absences + 1 };
        if found == current || found.is_empty() || (absences > 0 && absences < ABSENCES) {
            continue;
        }
        match subscribe(client, &found) {
            Ok(()) => {
                tracing::info!(topics = ?found, "subscription changed");
                current = found;
            }
            Err(e) => tracing::warn!("the subscription cannot be changed: {e}"),
        }
    }
}
