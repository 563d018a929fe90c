//! What a rule that is deleted gives up beside itself: its consumer group, the uploads that it has left unfinished, and the owner records of its topics' directories.
//!
//! Place in the flow: called for the [supervisor](super::supervisor) when the rule is forgotten and its run has ended, before another rule of its name may begin.
//! When that is, and what is written down of it, is the matter of [`releases`](super::releases).
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
use super::orphans::{Claim, Own, abort_uploads};
use crate::clock::{self, Clock, SystemClock};
use crate::commit::control::{self, Owner};
use crate::config::{BackupPlan, Destination};
use crate::error::{Code, Error, ErrorKind, Result};
use crate::intent::{CommitNote, Intent};
use crate::limits::CLOCKS_APART_MAX;
use crate::rule::stale_upload_age_ms;
use crate::runtime;
use crate::source::kafka::errors::{GROUP_HAS_MEMBERS, REQUEST_FAILED};
use crate::source::kafka::{KafkaCluster, ReadShare};
use crate::source::{Committed, Source as _, TopicPartition};
use crate::store::ObjectStore;
use crate::store::key::Layout;
use crate::store::url::StoreUrl;

/// Memory of the client that deletes a group.
const SHARE: ReadShare = ReadShare { bytes: 8 << 20, partitions: 1 };

/// How long each server may take. Whoever deletes a rule waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long looking for what uploads are left at a place may take.
const UPLOADS_PATIENCE: Duration = Duration::from_secs(30);

/// The group of a rule that is deleted has a window pinned whose requests may still be on their way.
pub const WINDOW_PINNED: Code = Code(624);

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

/// What was given up of a topic's directory.
#[derive(Debug)]
struct Released {
    topic: String,
    /// How many unfinished uploads were aborted.
    uploads: Result<u64>,
}

impl Deleted {
    fn of(rule: &str) -> Self {
        let gone = vec!["the rule and its versions".to_owned(), "its windows, gaps, log and verification in this service".to_owned()];
        Self { rule: rule.to_owned(), gone, stays: vec!["the audit".to_owned()], ..Self::default() }
    }

    /// Of a rule that is forgotten and has given up nothing, for this reason.
    pub(super) fn with_all_left(rule: &str, why: &Error) -> Self {
        let mut deleted = Self::of(rule);
        deleted.left("its consumer group and the owner records beside its objects", why);
        deleted
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

    fn owners(&mut self, at: &str, outcome: Result<Vec<Released>>) {
        match outcome {
            Ok(released) => released.into_iter().for_each(|released| self.directory(at, released)),
            Err(why) => self.left(format!("the owner records beside the objects{at}"), &why),
        }
    }

    fn directory(&mut self, at: &str, Released { topic, uploads }: Released) {
        match uploads {
            Ok(0) => {}
            Ok(n) => self.gone.push(format!("{n} unfinished uploads of topic {topic}{at}")),
            Err(why) => self.left(format!("unfinished uploads of topic {topic}{at}"), &why),
        }
        self.gone.push(format!("the claim on the directory of topic {topic}{at}"));
    }
}

/// What a rule has had, and how to get at it.
pub(super) struct Kept {
    cluster: Arc<KafkaCluster>,
    /// As it was in the end.
    pub(super) plan: BackupPlan,
    /// Places that it wrote to before; or why one of them is not known any more.
    left: Vec<Result<Destination>>,
    /// Every layout that it has written by: a place may have been written by several.
    layouts: Vec<Layout>,
}

impl Kept {
    fn new(cluster: Arc<KafkaCluster>, plan: BackupPlan, left: Vec<Result<Destination>>) -> Self {
        let all = std::iter::once(&plan.to).chain(left.iter().flatten());
        let layouts = all.filter_map(|to| to.layout.to_layout().ok()).collect();
        Self { cluster, plan, left, layouts }
    }

    /// How old an upload must be to be nobody's any more.
    fn age_max_ms(&self) -> u64 {
        stale_upload_age_ms(self.plan.upload_deadline.to_duration(), self.plan.window.every.to_duration())
    }
}

/// Gives up what a rule with this plan has, and what it has at places that it has left; answered again if its group must be tried again.
pub(super) async fn release(rule: &str, plan: Result<BackupPlan, Vec<Error>>, left: Vec<Result<Destination>>) -> (Deleted, Option<Kept>) {
    let plan = match plan {
        Ok(plan) => plan,
        Err(errors) => {
            let unknown = Error::new(REQUEST_FAILED, ErrorKind::Invalid, "where the rule has read and written is not known any more");
            return (Deleted::with_all_left(rule, errors.first().unwrap_or(&unknown)), None);
        }
    };
    let mut deleted = Deleted::of(rule);
    deleted.stays.push(format!("all objects below {}", shown(&plan.to)));
    let cluster = match within(PATIENCE, KafkaCluster::connect(plan.kafka.clone(), SHARE)).await {
        Ok(cluster) => cluster,
        Err(why) => {
            deleted.group(&plan.group, Err(why.clone()));
            // Without the cluster's id nobody knows whether they are this rule's.
            deleted.owners("", Err(why));
            return (deleted, None);
        }
    };
    let kept = Kept::new(cluster, plan, left);
    let again = give_up(&mut deleted, &kept).await;
    (deleted, again.then_some(kept))
}

/// The group first: whoever is still a member of it, as a worker that has not heard of the deletion, may write below what the owner records claim. True: it
/// is to be tried again.
pub(super) async fn give_up(deleted: &mut Deleted, kept: &Kept) -> bool {
    let group = within(PATIENCE, delete_group(&kept.cluster, &kept.plan)).await;
    let refused = group.as_ref().err().cloned();
    deleted.group(&kept.plan.group, group);
    if let Some(why) = refused {
        deleted.owners("", Err(why.clone()));
        return is_passing(why.code);
    }
    deleted.owners("", release_at(kept, &kept.plan.to, PATIENCE).await);
    // All of them together may take as long as the last one: whoever deletes the rule waits.
    let enough = clock::now() + PATIENCE;
    for left in &kept.left {
        match left {
            Ok(to) => {
                let released = release_at(kept, to, enough.saturating_duration_since(clock::now())).await;
                if released.as_ref().is_ok_and(|released| !released.is_empty()) {
                    deleted.stays.push(format!("all objects below {}", shown(to)));
                }
                deleted.owners(&format!(", below {}", shown(to)), released);
            }
            Err(why) => deleted.left("the owner records at a place that it has left", why),
        }
    }
    false
}

/// Whether what keeps a group from being deleted goes by itself.
fn is_passing(code: Code) -> bool {
    matches!(code, GROUP_HAS_MEMBERS | WINDOW_PINNED)
}

/// Refuses a group that has a window pinned whose requests may still be on their way: with the group goes the knowledge of what they are to store.
fn check_pins(group: &str, offsets: &[(TopicPartition, Committed)], deadline_ms: i64, now_ms: i64) -> Result<()> {
    let is_young = |intent: &Intent| intent.at.saturating_add(deadline_ms) > now_ms;
    let pinned =
        offsets.iter().find(|(_, at)| matches!(CommitNote::parse(&at.metadata), Ok(CommitNote::Intent(intent)) if is_young(&intent)));
    let Some((tp, _)) = pinned else { return Ok(()) };
    Err(Error::new(WINDOW_PINNED, ErrorKind::Retryable, "a window of the rule is pinned and may still be stored")
        .with("group", group)
        .with("partition", tp)
        .help(
            "create the rule again, and it finishes that window; or delete the group by Kafka's own tools after the rule's upload_deadline",
        ))
}

/// Where a rule writes, without secrets.
fn shown(to: &Destination) -> String {
    let address = match StoreUrl::parse(&to.store.url) {
        Ok(StoreUrl::Bucket(bucket)) => bucket.shown(),
        Ok(StoreUrl::File(path)) => format!("file://{}/", path.display().to_string().trim_end_matches('/')),
        Err(_) => String::new(),
    };
    format!("{address}{}", to.prefix)
}

/// A server that takes too long counts as one that does not answer.
async fn within<T>(longest: Duration, asked: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(longest, asked).await.unwrap_or_else(|_| {
        Err(Error::new(REQUEST_FAILED, ErrorKind::Unreachable, "there was no answer in time").help("delete it by the server's own tools"))
    })
}

async fn delete_group(cluster: &KafkaCluster, plan: &BackupPlan) -> Result<Vec<LastOffset>> {
    let offsets = cluster.group_offsets(&plan.group).await?;
    let deadline = plan.upload_deadline.to_duration() + CLOCKS_APART_MAX;
    check_pins(&plan.group, &offsets, i64::try_from(deadline.as_millis()).unwrap_or(i64::MAX), now_ms())?;
    cluster.delete_group(&plan.group).await?;
    let last =
        |(tp, at): (TopicPartition, Committed)| LastOffset { topic: tp.topic.to_string(), partition: tp.partition, offset: at.offset };
    Ok(offsets.into_iter().map(last).collect())
}

/// Gives up the claims of one place, and then what uploads are left there: these take what time they need, and keep no claim.
async fn release_at(kept: &Kept, to: &Destination, longest: Duration) -> Result<Vec<Released>> {
    let Kept { cluster, plan, .. } = kept;
    let mine = Claimant { rule: &plan.rule, group: &plan.group, cluster: cluster.cluster_id() };
    let (store, claims) = within(longest, async {
        let store = runtime::open_store(&to.store, &to.prefix).await?.store;
        let claims = release_in(&*store, &SystemClock::new(), mine).await?;
        Ok((store, claims))
    })
    .await?;
    let own = Own { layouts: &kept.layouts, age_max_ms: kept.age_max_ms() };
    let (enough, now) = (clock::now() + UPLOADS_PATIENCE, u64::try_from(now_ms()).unwrap_or_default());
    let mut released = Vec::new();
    for claim in claims {
        let left = enough.saturating_duration_since(clock::now());
        let uploads = within(left, abort_uploads(&store, own, &claim, now)).await;
        released.push(Released { topic: claim.topic, uploads });
    }
    Ok(released)
}

/// Who claims directories.
#[derive(Clone, Copy)]
struct Claimant<'a> {
    rule: &'a str,
    group: &'a str,
    cluster: &'a str,
}

impl Claimant<'_> {
    fn claims(self, owner: &Owner) -> bool {
        !owner.released && (owner.rule.as_str(), owner.group.as_str(), owner.cluster.as_str()) == (self.rule, self.group, self.cluster)
    }
}

/// Puts tombstones in the place of a deployment's owner records; answers what they claimed.
async fn release_in(store: &dyn ObjectStore, clock: &dyn Clock, mine: Claimant<'_>) -> Result<Vec<Claim>> {
    let (mut claims, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(OWNERS, false, after.as_deref()).await?;
        for owner_key in page.objects.into_iter().map(|object| object.key) {
            // One that cannot be read is nobody's to give up.
            let Ok(Some(owner)) = control::read::<Owner>(store, &owner_key).await else { continue };
            if mine.claims(&owner) {
                let topic = owner.topic.clone();
                control::write(store, clock, &owner_key, &Owner { released: true, ..owner }).await?;
                claims.push(Claim { owner_key, topic });
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(claims);
        }
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
        let mine = Claimant { rule: "r", group: "g", cluster: "c" };
        let topics = async || {
            let claims = release_in(&store, &clock, mine).await.unwrap();
            claims.into_iter().map(|claim| claim.topic).collect::<Vec<_>>()
        };
        assert_eq!(topics().await, ["topic-of-r-g-c"]);
        let mut released = Vec::new();
        for n in 0..deployments.len() {
            let standing: Owner = control::read(&store, &format!("{OWNERS}{n}.json")).await.unwrap().unwrap();
            assert_eq!(standing.start[&0], 7);
            released.push(standing.released);
        }
        assert_eq!(released, [true, false, false, false]);
        assert!(topics().await.is_empty(), "it is given up already");
    }

    #[test]
    fn a_group_with_a_window_that_may_still_be_stored_is_kept() {
        let tp = TopicPartition { topic: "t".into(), partition: 3 };
        let note = |at: i64| format!(r#"{{"v":1,"S":10,"E":20,"key":"k","enc":"raw.none.none.v1","t":"0","d":"0","at":{at},"nonce":"n"}}"#);
        let held = |metadata: String| vec![(tp.clone(), Committed { offset: 10, leader_epoch: -1, metadata })];
        let check = |offsets: &[(TopicPartition, Committed)]| check_pins("g", offsets, 60_000, 1_000_000);
        let error = check(&held(note(950_000))).unwrap_err();
        assert_eq!(error.code, WINDOW_PINNED);
        assert!(is_passing(error.code) && error.to_string().contains("t/3"), "{error}");
        check(&held(note(930_000))).expect("what it has sent has landed");
        check(&held(r#"{"v":1,"t":"0","d":"0","S":10}"#.to_owned())).expect("nothing is pinned");
        check(&held(String::new())).expect("nobody's note");
    }

    #[test]
    fn what_is_left_behind_is_named_with_its_reason() {
        let away = || Error::new(REQUEST_FAILED, ErrorKind::Unreachable, "the broker is away").help("wait");
        let mut deleted = Deleted::of("r");
        deleted.group("g", Err(away()));
        deleted.owners("", Ok(vec![Released { topic: "t".to_owned(), uploads: Ok(2) }]));
        assert_eq!(deleted.left_behind.len(), 1);
        assert!(deleted.gone.contains(&"2 unfinished uploads of topic t".to_owned()), "{deleted:?}");
        let LeftBehind { what, why } = &deleted.left_behind[0];
        assert!(what.contains("group g") && why.contains("the broker is away") && why.ends_with("; wait"), "{deleted:?}");
        assert!(deleted.gone.iter().any(|gone| gone.contains("topic t")) && !deleted.gone.iter().any(|gone| gone.contains("group")));
        let offsets = vec![LastOffset { topic: "t".to_owned(), partition: 0, offset: 5 }];
        deleted.group("g", Ok(offsets.clone()));
        assert_eq!(deleted.offsets, offsets);
        deleted.owners("", Ok(vec![Released { topic: "s".to_owned(), uploads: Err(away()) }]));
        assert!(deleted.left_behind[1].what.contains("uploads of topic s") && deleted.gone.iter().any(|gone| gone.contains("topic s")));
    }

    #[tokio::test]
    async fn a_rule_that_is_not_understood_any_more_is_deleted_all_the_same() {
        let gone = Error::new(REQUEST_FAILED, ErrorKind::Invalid, "no such connection");
        let (deleted, again) = release("r", Err(vec![gone]), Vec::new()).await;
        assert!(again.is_none() && deleted.left_behind[0].why.contains("no such connection"), "{deleted:?}");
    }
}
