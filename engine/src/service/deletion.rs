//! What a rule that is deleted gives up beside itself: its consumer group, and the owner records of its topics' directories.
//!
//! Place in the flow: called by the [supervisor](super::supervisor) when the rule is forgotten and its run has ended, before another rule of its name may begin.
//!
//! Guarantees: no object is touched. An owner record is released only if it names this rule, this group and this cluster. What cannot be given up, since a
//! server does not answer or refuses, keeps nothing from being deleted, and is named in the answer and in the audit.
//!
//! A static member does not leave its group; the broker does that for it when its session has ended. So a group that still has members is tried again for a
//! while, as long as no rule reads in it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::changes::now_ms;
use super::state::State;
use super::supervisor::Supervisor;
use crate::clock::{Clock, SystemClock};
use crate::commit::control::{self, Owner};
use crate::config::BackupPlan;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime;
use crate::source::Source as _;
use crate::source::kafka::errors::{GROUP_HAS_MEMBERS, REQUEST_FAILED};
use crate::source::kafka::{KafkaCluster, ReadShare};
use crate::store::ObjectStore;
use crate::store::url::StoreUrl;

/// Memory of the client that deletes a group.
const SHARE: ReadShare = ReadShare { bytes: 8 << 20, partitions: 1 };

/// How long each server may take. Whoever deletes a rule waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often, and how many times, a group that has members is tried again: longer than sessions last.
const RETRY: (Duration, u32) = (Duration::from_secs(10), 12);

/// The control objects that say who owns what.
const OWNERS: &str = "_catchment/owners/";

/// What became of a rule that was deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Deleted {
    /// The rule.
    pub rule: String,
    /// What is gone.
    pub gone: Vec<String>,
    /// What stays, as it is meant to.
    pub stays: Vec<String>,
    /// What should be gone and is still there.
    pub left_behind: Vec<LeftBehind>,
    /// Where the consumer group stood.
    pub offsets: Vec<LastOffset>,
}

/// Something that could not be given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LeftBehind {
    /// What.
    pub what: String,
    /// Why, and what to do about it.
    pub why: String,
}

/// An offset that the group had committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LastOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl Deleted {
    fn of(rule: &str) -> Self {
        let gone = vec!["the rule and its versions".to_owned(), "its windows, gaps, log and verification in this service".to_owned()];
        Self { rule: rule.to_owned(), gone, stays: vec!["the audit".to_owned()], ..Self::default() }
    }

    fn left(&mut self, what: impl Into<String>, why: &Error) {
        let help = why.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        self.left_behind.push(LeftBehind { what: what.into(), why: format!("{why}{help}") });
    }

    fn group(&mut self, group: &str, outcome: Result<Vec<LastOffset>>) {
        let what = format!("the consumer group {group}");
        match outcome {
            Ok(offsets) => {
                self.gone.push(what);
                self.offsets = offsets;
            }
            Err(why) => self.left(what, &why),
        }
    }

    fn owners(&mut self, outcome: Result<Vec<String>>) {
        match outcome {
            Ok(topics) => self.gone.extend(topics.into_iter().map(|topic| format!("the claim on the directory of topic {topic}"))),
            Err(why) => self.left("the owner records beside the objects", &why),
        }
    }
}

/// Gives up what a rule with this plan has; the cluster is answered if its group must be tried again.
async fn release(rule: &str, plan: Result<BackupPlan, Vec<Error>>) -> (Deleted, Option<(Arc<KafkaCluster>, BackupPlan)>) {
    let mut deleted = Deleted::of(rule);
    let plan = match plan {
        Ok(plan) => plan,
        Err(errors) => {
            let unknown = Error::new(REQUEST_FAILED, ErrorKind::Invalid, "where the rule has read and written is not known any more");
            deleted.left("its consumer group and the owner records beside its objects", errors.first().unwrap_or(&unknown));
            return (deleted, None);
        }
    };
    deleted.stays.push(format!("all objects below {}", shown(&plan)));
    let cluster = match within(KafkaCluster::connect(plan.kafka.clone(), SHARE)).await {
        Ok(cluster) => cluster,
        Err(why) => {
            deleted.group(&plan.group, Err(why.clone()));
            // Without the cluster's id nobody knows whether they are this rule's.
            deleted.owners(Err(why));
            return (deleted, None);
        }
    };
    let group = within(delete_group(&cluster, &plan.group)).await;
    let again = group.as_ref().is_err_and(|e| e.code == GROUP_HAS_MEMBERS);
    deleted.group(&plan.group, group);
    deleted.owners(within(release_owners(&plan, cluster.cluster_id())).await);
    (deleted, again.then_some((cluster, plan)))
}

/// Where a rule writes, without secrets.
fn shown(plan: &BackupPlan) -> String {
    let address = match StoreUrl::parse(&plan.to.store.url) {
        Ok(StoreUrl::Bucket(bucket)) => bucket.shown(),
        Ok(StoreUrl::File(path)) => format!("file://{}/", path.display().to_string().trim_end_matches('/')),
        Err(_) => String::new(),
    };
    format!("{address}{}", plan.to.prefix)
}

/// A server that takes too long counts as one that does not answer.
async fn within<T>(asked: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
        Err(Error::new(REQUEST_FAILED, ErrorKind::Unreachable, "there was no answer in time").help("delete it by the server's own tools"))
    })
}

async fn delete_group(cluster: &KafkaCluster, group: &str) -> Result<Vec<LastOffset>> {
    let offsets = cluster.delete_group(group).await?;
    Ok(offsets.into_iter().map(|(topic, partition, offset)| LastOffset { topic, partition, offset }).collect())
}

async fn release_owners(plan: &BackupPlan, cluster: &str) -> Result<Vec<String>> {
    let store = runtime::open_store(&plan.to.store, &plan.to.prefix).await?.store;
    release_in(&*store, &SystemClock::new(), &plan.rule, &plan.group, cluster).await
}

/// Puts tombstones in the place of a deployment's owner records; answers their topics.
async fn release_in(store: &dyn ObjectStore, clock: &dyn Clock, rule: &str, group: &str, cluster: &str) -> Result<Vec<String>> {
    let (mut topics, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(OWNERS, false, after.as_deref()).await?;
        for key in page.objects.into_iter().map(|object| object.key) {
            // One that cannot be read is nobody's to give up.
            let Ok(Some(owner)) = control::read::<Owner>(store, &key).await else { continue };
            let is_own = (owner.rule.as_str(), owner.group.as_str(), owner.cluster.as_str()) == (rule, group, cluster);
            if is_own && !owner.released {
                let topic = owner.topic.clone();
                control::write(store, clock, &key, &Owner { released: true, ..owner }).await?;
                topics.push(topic);
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(topics);
        }
    }
}

impl Supervisor {
    /// Gives up what a rule had that was deleted, and writes down what became of it. Nobody may begin a rule of this name meanwhile.
    pub(super) async fn release(self: &Arc<Self>, rule: &str, plan: Result<BackupPlan, Vec<Error>>, who: &str) -> Deleted {
        let (deleted, again) = release(rule, plan).await;
        self.note_release(who, &deleted).await;
        if let Some((cluster, plan)) = again {
            let (this, who) = (Arc::clone(self), who.to_owned());
            tokio::spawn(async move { this.release_group_later(cluster, plan, who).await });
        }
        deleted
    }

    async fn note_release(&self, who: &str, deleted: &Deleted) {
        let (who, rule) = (who.to_owned(), deleted.rule.clone());
        let detail = serde_json::to_string(deleted).unwrap_or_default();
        if let Err(e) = self.state().ask(move |state| state.note(&who, "release", Some(&rule), Some(&detail), now_ms())).await {
            tracing::warn!(error = %e, "what a deleted rule has given up could not be written down");
        }
    }

    /// Tries a group again whose last member's session has not ended yet, unless a rule reads in it by now.
    async fn release_group_later(self: &Arc<Self>, cluster: Arc<KafkaCluster>, plan: BackupPlan, who: String) {
        for _ in 0..RETRY.1 {
            tokio::time::sleep(RETRY.0).await;
            let (_slot, _turn) = self.take_turn(&plan.rule).await;
            let (is_free, is_new) = self.is_free(&plan).await;
            let outcome = if is_free { Some(within(delete_group(&cluster, &plan.group)).await) } else { None };
            if !is_new {
                // Nobody's: it was made to keep others from beginning.
                self.forget_slot(&plan.rule);
            }
            match outcome {
                Some(Err(e)) if e.code == GROUP_HAS_MEMBERS => {}
                Some(outcome) => {
                    let mut deleted = Deleted { rule: plan.rule.clone(), ..Deleted::default() };
                    deleted.group(&plan.group, outcome);
                    return self.note_release(&who, &deleted).await;
                }
                None => return,
            }
        }
    }

    /// Whether no rule reads in the group of a rule that was deleted; and whether there is a rule of its name.
    async fn is_free(&self, gone: &BackupPlan) -> (bool, bool) {
        let (Ok(config), Ok(rules)) = (self.config().await, self.state().ask(State::rules).await) else { return (false, true) };
        let is_new = rules.iter().any(|rule| rule.name == gone.rule);
        let reads_there = |plan: &BackupPlan| plan.group == gone.group && plan.kafka.brokers == gone.kafka.brokers;
        let is_free = !is_new && !self.plans_of(&config, rules.iter()).values().any(reads_there);
        (is_free, is_new)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::store::memory::MemoryStore;

    fn owner(rule: &str, group: &str, cluster: &str) -> Owner {
        Owner {
            v: 1,
            rule: rule.to_owned(),
            group: group.to_owned(),
            cluster: cluster.to_owned(),
            topic: format!("topic-of-{rule}-{group}-{cluster}"),
            topic_id: "0".to_owned(),
            start: BTreeMap::from([(0, 7)]),
            released: false,
        }
    }

    #[tokio::test]
    async fn a_claim_is_given_up_by_its_owner_alone_and_keeps_its_start() {
        let (store, clock) = (MemoryStore::default(), SystemClock::new());
        let deployments = [("r", "g", "c"), ("s", "g", "c"), ("r", "h", "c"), ("r", "g", "d")];
        for (n, (rule, group, cluster)) in deployments.iter().enumerate() {
            control::write(&store, &clock, &format!("{OWNERS}{n}.json"), &owner(rule, group, cluster)).await.unwrap();
        }
        assert_eq!(release_in(&store, &clock, "r", "g", "c").await.unwrap(), ["topic-of-r-g-c"]);
        let mut released = Vec::new();
        for n in 0..deployments.len() {
            let standing: Owner = control::read(&store, &format!("{OWNERS}{n}.json")).await.unwrap().unwrap();
            assert_eq!(standing.start[&0], 7);
            released.push(standing.released);
        }
        assert_eq!(released, [true, false, false, false]);
        assert!(release_in(&store, &clock, "r", "g", "c").await.unwrap().is_empty(), "it is given up already");
    }

    #[test]
    fn what_is_left_behind_is_named_with_its_reason() {
        let away = || Error::new(REQUEST_FAILED, ErrorKind::Unreachable, "the broker is away").help("wait");
        let mut deleted = Deleted::of("r");
        deleted.group("g", Err(away()));
        deleted.owners(Ok(vec!["t".to_owned()]));
        assert_eq!(deleted.left_behind.len(), 1);
        let LeftBehind { what, why } = &deleted.left_behind[0];
        assert!(what.contains("group g") && why.contains("the broker is away") && why.ends_with("; wait"), "{deleted:?}");
        assert!(deleted.gone.iter().any(|gone| gone.contains("topic t")) && !deleted.gone.iter().any(|gone| gone.contains("group")));
        let offsets = vec![LastOffset { topic: "t".to_owned(), partition: 0, offset: 5 }];
        deleted.group("g", Ok(offsets.clone()));
        assert_eq!(deleted.offsets, offsets);
    }

    #[tokio::test]
    async fn a_rule_that_is_not_understood_any_more_is_deleted_all_the_same() {
        let gone = Error::new(REQUEST_FAILED, ErrorKind::Invalid, "no such connection");
        let (deleted, again) = release("r", Err(vec![gone])).await;
        assert!(again.is_none() && deleted.left_behind[0].why.contains("no such connection"), "{deleted:?}");
    }
}
