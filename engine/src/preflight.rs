//! What can refuse a start, asked before anything is written or the group joined: a start that is refused leaves nothing behind.
//!
//! Place in the flow: between [`runtime`](crate::runtime)'s connections and its first write (the probe of the store). The claims of
//! [`topics`](crate::topics) ask all of this again, for topics that come later and for whoever claims at the same time. Nothing here
//! is promised to hold a moment later.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::commit::control::{self, Owner};
use crate::config::{Accept, BackupPlan, ByteSize, OnGap, StartPoint};
use crate::error::{Error, ErrorKind, Result, codes};
use crate::intent::VERSION;
use crate::source::{Source, TopicInfo};
use crate::store::key::{ControlKeys, Layout, TopicName};
use crate::store::{ObjectStore, parts};
use crate::topics::{start_vector, topic_recreated};

/// Owner records asked for at a time. Each is one small request; more would only meet the store's rate limits sooner.
const OWNERS_AT_ONCE: usize = 16;

/// Looks at the size of windows, and at every topic: the length of its keys, who owns its directory, and whether its first start can be had.
///
/// # Errors
/// `C0106` for windows that no object can hold, `C0316` for keys that are too long, `C0412` for a directory of somebody else, `C0421` for a topic that was created again and nobody
/// accepted that, `C0429` for a start behind a partition's end; or if store or cluster do not answer.
pub async fn check(
    plan: &BackupPlan,
    layout: &Layout,
    store: &Arc<dyn ObjectStore>,
    source: &dyn Source,
    topics: &[TopicInfo],
) -> Result<()> {
    check_size(plan, &**store)?;
    let ours = Owner {
        v: VERSION,
        rule: plan.rule.clone(),
        group: plan.group.clone(),
        cluster: source.cluster_id().to_owned(),
        topic: String::new(),
        topic_id: "0".to_owned(),
        start: BTreeMap::new(),
        released: false,
    };
    for some in topics.chunks(OWNERS_AT_ONCE) {
        for (topic, owner) in owners(layout, store, some).await? {
            match owner {
                Some((keys, owner)) if !owner.is_same_deployment(&ours) => return Err(control::foreign_owner(&**store, &keys, &owner)),
                Some((_, owner)) if owner.is_same_topic(&topic.id) => {}
                Some(_) => refuse_recreated(plan, layout, store, topic).await?,
                None => refuse_start(plan, source, topic).await?,
            }
        }
    }
    Ok(())
}

/// A window of which no object can be made would be read, pinned, sent and refused. An object may be larger than what was read of it, so twice its size must fit.
fn check_size(plan: &BackupPlan, store: &dyn ObjectStore) -> Result<()> {
    let most = ByteSize(parts::object_bytes_max(&store.limits()) / 2);
    if plan.max_bytes.bytes() <= most.bytes() {
        return Ok(());
    }
    Err(Error::new(codes::CONFIG_RELATION, ErrorKind::Invalid, "windows may become larger than an object of this store can be")
        .with("max_bytes", plan.max_bytes)
        .with("most", most)
        .help(format!("set max_bytes to {most} or less; its default is far below")))
}

/// A topic, its control keys, and who owns its directory.
type Standing<'a> = (&'a TopicInfo, Option<(ControlKeys, Owner)>);

/// Who owns the directories of these topics; released ones belong to nobody.
async fn owners<'a>(layout: &Layout, store: &Arc<dyn ObjectStore>, topics: &'a [TopicInfo]) -> Result<Vec<Standing<'a>>> {
    let mut asked = tokio::task::JoinSet::new();
    for (index, topic) in topics.iter().enumerate() {
        let name = TopicName::new(&topic.name);
        layout.check_length(&name, &store.limits())?;
        let (store, keys) = (Arc::clone(store), ControlKeys::new(layout, &name));
        asked.spawn(async move { control::read::<Owner>(&*store, &keys.owner()).await.map(|owner| (index, keys, owner)) });
    }
    let mut owners = Vec::new();
    while let Some(answer) = asked.join_next().await {
        let (index, keys, owner) = answer.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()))?;
        owners.push((&topics[index], owner.filter(|owner| !owner.released).map(|owner| (keys, owner))));
    }
    Ok(owners)
}

/// The topic is another incarnation than the one in its directory: fine if that was accepted, now or before.
async fn refuse_recreated(plan: &BackupPlan, layout: &Layout, store: &Arc<dyn ObjectStore>, topic: &TopicInfo) -> Result<()> {
    let later = ControlKeys::new(layout, &TopicName::later(&topic.name, &topic.id));
    let accepted = plan.options.accept.contains(&Accept::TopicRecreated) || plan.on_gap.topic_recreated == OnGap::Continue;
    match accepted || control::read::<Owner>(&**store, &later.owner()).await?.is_some() {
        true => Ok(()),
        false => Err(topic_recreated(topic)),
    }
}

/// Offsets are the only starts that a topic may not have.
async fn refuse_start(plan: &BackupPlan, source: &dyn Source, topic: &TopicInfo) -> Result<()> {
    match plan.start {
        StartPoint::Offset(_) | StartPoint::Offsets(_) => start_vector(source, topic, &plan.start).await.map(drop),
        StartPoint::Earliest | StartPoint::Latest | StartPoint::Time(_) | StartPoint::Ago(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides, RunOptions};
    use crate::source::{LogBounds, PartitionQueue, TopicPartition, Wake};
    use crate::store::key::Template;
    use crate::store::memory::MemoryStore;
    use crate::store::{BoxFuture, Guard, Metadata, Payload, StoreLimits};

    /// A cluster whose partitions hold the offsets 10 to 19.
    #[derive(Debug)]
    struct Cluster(&'static str);

    impl Source for Cluster {
        fn cluster_id(&self) -> &str {
            self.0
        }

        fn open(&self, _: &TopicPartition, _: i64, _: i32, _: Wake) -> Result<Box<dyn PartitionQueue>, Error> {
            unreachable!("nothing is read before a start")
        }

        fn expect_partitions(&self, _: usize) {}

        fn bounds<'a>(&'a self, _: &'a TopicPartition) -> BoxFuture<'a, Result<LogBounds, Error>> {
            Box::pin(async { Ok(LogBounds { start: 10, stable_end: 20, end: 20 }) })
        }

        fn offsets_for_time<'a>(&'a self, _: &'a [TopicPartition], _: i64) -> BoxFuture<'a, Result<Vec<Option<i64>>, Error>> {
            unreachable!("a time is never refused")
        }

        fn topic<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<TopicInfo>, Error>> {
            unreachable!("the topics are handed in")
        }

        fn is_compacted<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<bool>, Error>> {
            unreachable!("this does not matter to a backup")
        }

        fn topics<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<String>, Error>> {
            unreachable!("the topics are handed in")
        }
    }

    fn plan(rule: &str, start: StartPoint, accept: &[Accept]) -> BackupPlan {
        let file = format!(
            "[kafka.k]\nbrokers = \"h:1\"\n[store.s]\nurl = \"file:///x/\"\n[rule.{rule}]\nsource = {{ topics = [\"a\", \"b\"] }}\n"
        );
        let plan = BackupPlan::new(&Config::parse(&file, "f").unwrap(), Overrides::default(), RunOptions::default()).unwrap();
        BackupPlan { start, options: RunOptions { accept: accept.to_vec(), ..plan.options }, ..plan }
    }

    fn topics(id: &str) -> [TopicInfo; 2] {
        ["a", "b"].map(|name| TopicInfo { name: name.into(), id: id.into(), partitions: 2 })
    }

    /// A store in which topic `b`, of the id `1`, belongs to a rule on cluster `c`.
    async fn owned_by(rule: &str, released: bool) -> Arc<dyn ObjectStore> {
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::default());
        let owner = serde_json::json!({ "v": 1, "rule": rule, "group": format!("catchment-{rule}"), "cluster": "c", "topic": "b",
            "topic_id": "1", "start": {}, "released": released });
        let key = ControlKeys::new(&Layout::Hive, &TopicName::new("b")).owner();
        store.put(&key, Payload::from_bytes(owner.to_string()), &Metadata::new(), Guard::Overwrite).await.unwrap();
        store
    }

    /// The code of the refusal, if it is one. Asking writes nothing.
    async fn ask(store: &Arc<dyn ObjectStore>, cluster: &'static str, id: &str, plan: &BackupPlan) -> Option<u16> {
        let before = store.list("", false, None).await.unwrap();
        let result = check(plan, &Layout::Hive, store, &Cluster(cluster), &topics(id)).await;
        assert_eq!(store.list("", false, None).await.unwrap(), before);
        result.err().map(|e| e.code.0)
    }

    #[tokio::test]
    async fn a_directory_of_somebody_else_is_refused() {
        let plan = plan("r", StartPoint::Earliest, &[]);
        assert_eq!(ask(&owned_by("r", false).await, "c", "1", &plan).await, None);
        assert_eq!(ask(&owned_by("r", false).await, "another", "1", &plan).await, Some(412));
        assert_eq!(ask(&owned_by("other", false).await, "c", "1", &plan).await, Some(412));
        assert_eq!(ask(&owned_by("other", true).await, "c", "1", &plan).await, None, "given up");
    }

    #[tokio::test]
    async fn a_topic_that_was_created_again_asks_unless_that_was_accepted() {
        let store = owned_by("r", false).await;
        assert_eq!(ask(&store, "c", "2", &plan("r", StartPoint::Earliest, &[])).await, Some(codes::TOPIC_RECREATED.0));
        assert_eq!(ask(&store, "c", "2", &plan("r", StartPoint::Earliest, &[Accept::TopicRecreated])).await, None);
        let mut standing = plan("r", StartPoint::Earliest, &[]);
        standing.on_gap.topic_recreated = OnGap::Continue;
        assert_eq!(ask(&store, "c", "2", &standing).await, None, "accepted for good");
        let later = ControlKeys::new(&Layout::Hive, &TopicName::later("b", "2")).owner();
        let owner = store.get(&ControlKeys::new(&Layout::Hive, &TopicName::new("b")).owner(), None).await.unwrap().unwrap();
        store.put(&later, Payload::from_bytes(owner), &Metadata::new(), Guard::Overwrite).await.unwrap();
        assert_eq!(ask(&store, "c", "2", &plan("r", StartPoint::Earliest, &[])).await, None, "accepted before");
    }

    #[tokio::test]
    async fn a_start_that_no_partition_has_is_refused_while_the_directory_is_nobodys() {
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::default());
        assert_eq!(ask(&store, "c", "1", &plan("r", StartPoint::Offset(20), &[])).await, None);
        assert_eq!(ask(&store, "c", "1", &plan("r", StartPoint::Offset(21), &[])).await, Some(429));
        assert_eq!(ask(&store, "c", "1", &plan("r", StartPoint::Offsets([(1, 21)].into()), &[])).await, Some(429));
        let mine = plan("r", StartPoint::Offset(21), &[]);
        let one = topics("1").into_iter().filter(|topic| &*topic.name == "b").collect::<Vec<_>>();
        check(&mine, &Layout::Hive, &owned_by("r", false).await, &Cluster("c"), &one).await.expect("only the first run starts there");
    }

    #[tokio::test]
    async fn windows_that_no_object_can_hold_are_refused() {
        let limits = StoreLimits { equal_parts: true, ..MemoryStore::default().limits() };
        let (equal, growing): (Arc<dyn ObjectStore>, Arc<dyn ObjectStore>) =
            (Arc::new(MemoryStore::new(limits)), Arc::new(MemoryStore::default()));
        // 10,000 parts of 16 MiB are 156 GiB.
        for (gib, refused) in [(1, false), (78, false), (79, true), (5 << 10, true)] {
            let plan = BackupPlan { max_bytes: ByteSize(gib << 30), ..plan("r", StartPoint::Earliest, &[]) };
            assert_eq!(ask(&equal, "c", "1", &plan).await, refused.then_some(106), "{gib} GiB");
            assert_eq!(ask(&growing, "c", "1", &plan).await, None, "{gib} GiB");
        }
    }

    #[tokio::test]
    async fn keys_that_are_too_long_are_refused() {
        let long = ["t".repeat(249)].map(|name| TopicInfo { name: name.as_str().into(), id: "1".into(), partitions: 1 });
        let deep = Layout::Template(Template::parse(&format!("{}/{{topic}}", "d/".repeat(400) + "d")).unwrap());
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::default());
        let error = check(&plan("r", StartPoint::Earliest, &[]), &deep, &store, &Cluster("c"), &long).await.unwrap_err();
        assert_eq!(error.code.0, 316);
    }
}
