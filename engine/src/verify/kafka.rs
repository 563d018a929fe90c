//! Objects held against the topic: every record that Kafka still has, field by field.
//!
//! What Kafka has dropped since cannot be compared and is noted: by retention everything below an offset, by compaction single records that
//! have a key. Of a topic that is not compacted, and of records without a key in any case, what Kafka does not have is extra.

use std::sync::Arc;

use catchment_formats::{LaneId, Proof};

use super::comparison::Comparison;
use super::joined;
use super::lanes::Lane;
use super::listing::Listed;
use super::report::Damage;
use super::spool::Spool;
use crate::error::{Error, ErrorKind, Result, codes};
use crate::source::{Source, TopicPartition};
use crate::store::ObjectStore;

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Found {
    /// Differences.
    pub damage: Vec<Damage>,
    /// What could not be compared.
    pub notes: Vec<String>,
    /// Records of Kafka that were compared.
    pub compared: u64,
    /// Records with keys that the objects hold and Kafka does not.
    pub dropped: u64,
}

/// Compares the objects of a lane with Kafka.
///
/// # Errors
/// If the store or Kafka does not answer, or this is not the cluster the objects come from.
pub async fn compare(store: Arc<dyn ObjectStore>, source: Arc<dyn Source>, lane: &Lane) -> Result<Found> {
    let mut found = Found::default();
    let Some(id) = lane.id().cloned() else {
        found.notes.push(format!("{}/{}: no object of it can be read, so none was compared", lane.key.topic, lane.key.partition));
        return Ok(found);
    };
    if !is_same_topic(&*source, &id).await? {
        found.notes.push(format!("{}: the topic was created again since, so it was not compared", id.topic));
        return Ok(found);
    }
    let tp = TopicPartition { topic: id.topic.as_str().into(), partition: id.partition };
    let log_start = source.bounds(&tp).await?.start;
    let mut policy = Policy { source: Arc::clone(&source), topic: id.topic.clone(), may_drop: None };
    for (listed, object) in &lane.objects {
        let Some(proof) = object.proof.clone().filter(|p| object.readable && p.lane == id && p.range.start == listed.start) else {
            continue;
        };
        if proof.range.end <= log_start {
            found.notes.push(format!("{tp}: Kafka has nothing below offset {log_start} any more; what is older was not compared"));
            continue;
        }
        let Some(spool) = Spool::fetch(&*store, &listed.key, listed.size).await? else { continue };
        let pair = Arc::new(Pair { listed: listed.clone(), proof, spool });
        let mut of_object = compare_object(&source, &tp, &pair, log_start, true).await?;
        if of_object.dropped > 0 && !policy.may_drop().await {
            of_object = compare_object(&source, &tp, &pair, log_start, false).await?;
        }
        found.add(of_object);
    }
    if found.dropped > 0 {
        found.notes.push(format!(
            "{tp}: Kafka does not have {} record(s) any more that the objects hold, all with keys: compaction drops such",
            found.dropped
        ));
    }
    Ok(found)
}

impl Found {
    fn add(&mut self, other: Self) {
        self.damage.extend(other.damage);
        self.notes.extend(other.notes);
        self.compared += other.compared;
        self.dropped += other.dropped;
    }
}

/// Whether the topic is the one that was backed up; false if it was created again.
///
/// # Errors
/// If this is not the cluster the objects come from, or the topic is gone.
async fn is_same_topic(source: &dyn Source, id: &LaneId) -> Result<bool> {
    let told = |message: &str| {
        Error::new(codes::COMPARE, ErrorKind::Invalid, message)
            .with("topic", &id.topic)
            .help("compare with the cluster that was backed up, or leave out -b")
    };
    if source.cluster_id() != id.cluster {
        return Err(told("the objects come from another cluster").with("objects", &id.cluster).with("broker", source.cluster_id()));
    }
    let Some(topic) = source.topic(&id.topic).await? else {
        return Err(told("the topic does not exist any more"));
    };
    Ok(topic.id == id.topic_id || topic.id == "0" || id.topic_id == "0")
}

/// An object that was fetched, and what it says of itself.
struct Pair {
    listed: Listed,
    proof: Proof,
    spool: Spool,
}

/// Compares on a thread of its own: it waits for Kafka.
async fn compare_object(source: &Arc<dyn Source>, tp: &TopicPartition, pair: &Arc<Pair>, log_start: i64, may_drop: bool) -> Result<Found> {
    let (source, tp, pair) = (Arc::clone(source), tp.clone(), Arc::clone(pair));
    let run = move || Comparison::new(&pair.listed, &pair.proof, log_start, may_drop).run(&*source, &tp, &pair.spool);
    joined(Some(tokio::task::spawn_blocking(run).await))
}

/// Whether the topic is compacted: asked once, and only if Kafka lacks a record.
struct Policy {
    source: Arc<dyn Source>,
    topic: String,
    may_drop: Option<bool>,
}

impl Policy {
    /// A cluster that cannot or will not say is taken for one that compacts.
    async fn may_drop(&mut self) -> bool {
        match self.may_drop {
            Some(known) => known,
            None => *self.may_drop.insert(self.source.is_compacted(&self.topic).await.ok().flatten().unwrap_or(true)),
        }
    }
}
