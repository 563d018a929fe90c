//! Control objects: who owns a topic's directory, and where a lane stood when it last said so.
//!
//! An *owner record* is written before any lane of a topic first commits; it fixes where every partition starts. An *anchor* outlives
//! the group's offsets, which brokers forget. Both lie below `_catchment/` and are overwritten, never deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use catchment_formats::Missing;
use serde::{Deserialize, Serialize};

use crate::clock::{Backoff, Clock};
use crate::error::{Code, Error, ErrorKind, Result};
use crate::source::LastRead;
use crate::store::key::ControlKeys;
use crate::store::{CONTROL_BYTES_MAX, Guard, Metadata, ObjectStore, Payload, StoreErrorKind, StoreResult};

/// How long a claim must stand before it counts where the store's guard is not known to be atomic.
const CLAIM_WAIT: Duration = Duration::from_secs(5);

/// Who writes into a topic's directory, and from which offsets on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Version of the record.
    pub v: u32,
    /// The rule's name.
    pub rule: String,
    /// The consumer group.
    pub group: String,
    /// The cluster's id.
    pub cluster: String,
    /// The topic's name.
    pub topic: String,
    /// The topic's UUID, or `0`.
    pub topic_id: String,
    /// Where each partition starts; a partition that is absent starts at its earliest offset.
    pub start: BTreeMap<i32, i64>,
    /// Whether the owner has given the directory up.
    #[serde(default)]
    pub released: bool,
}

impl Owner {
    /// Whether two records name the same deployment.
    pub fn is_same_deployment(&self, other: &Self) -> bool {
        (&self.rule, &self.group, &self.cluster) == (&other.rule, &other.group, &other.cluster)
    }

    /// Whether the topic is the same incarnation; brokers without topic UUIDs cannot tell.
    pub fn is_same_topic(&self, topic_id: &str) -> bool {
        self.topic_id == topic_id || self.topic_id == "0" || topic_id == "0"
    }
}

/// A lane's last known end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Version of the record.
    pub v: u32,
    /// Key of the last object; none before the first.
    pub key: Option<String>,
    /// The end of that object, or the lane's start: a lower bound.
    #[serde(rename = "E")]
    pub end: i64,
    /// The topic's UUID, or `0`.
    pub topic_id: String,
    /// Ranges that an object behind `end` must list as missing, where nothing but the group's note remembers them. Objects that list them
    /// already may stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// The last record that was read before `end`, if its leader epoch is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRead>,
}

/// Reads a control object. None: absent.
///
/// # Errors
/// If the store refuses, or the object is not what it must be.
pub async fn read<T: serde::de::DeserializeOwned>(store: &dyn ObjectStore, key: &str) -> Result<Option<T>> {
    let found = store.get(key, Some(0..CONTROL_BYTES_MAX)).await.map_err(|e| Error::from(e).with("store", store.url()))?;
    let Some(bytes) = found else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        Error::new(Code(410), ErrorKind::Corrupt, "a control object is not readable")
            .with("store", store.url())
            .with("key", key)
            .because(e)
            .help("restore the object from a version of the bucket, or move it away if the directory is empty")
    })
}

/// Writes a control object, again and again until the store has answered.
///
/// # Errors
/// If the store refuses for good, or permission is missing.
pub async fn write<T: Serialize + Sync>(store: &dyn ObjectStore, clock: &dyn Clock, key: &str, value: &T) -> StoreResult<()> {
    put(store, clock, key, value, Guard::Overwrite).await
}

async fn put<T: Serialize + Sync>(store: &dyn ObjectStore, clock: &dyn Clock, key: &str, value: &T, guard: Guard) -> StoreResult<()> {
    let body = Payload::from_bytes(serde_json::to_vec(value).expect("control objects hold nothing that JSON cannot"));
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    for attempt in 1.. {
        match store.put(key, body.clone(), &Metadata::new(), guard).await {
            Ok(_) => break,
            // Equal bytes under the key, or a refusal because they stand there: an unknown outcome is simply repeated.
            Err(e) if e.kind == StoreErrorKind::Unknown && attempt < 8 => backoff.wait(clock).await,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Writes `owner` and makes sure that it is the one that stands. Returns what stands, which may be somebody else's.
///
/// A record where there was none is written with the guard, whatever that is worth: a claim that was on its way for minutes would overwrite the
/// start vector that lanes have gone by since. Unless guards are `atomic`, the claim must also stand for a while before it counts: longer than
/// the moment in which two that saw nothing pass each other.
///
/// # Errors
/// If the store refuses.
pub async fn claim(
    store: &dyn ObjectStore,
    clock: &dyn Clock,
    keys: &ControlKeys,
    owner: &Owner,
    guard: Guard,
    atomic: bool,
) -> Result<Owner> {
    let owner_key = keys.owner();
    match put(store, clock, &owner_key, owner, guard).await {
        Ok(()) => {}
        // Somebody was first, perhaps an attempt of ours whose answer was lost: what stands says who.
        Err(e) if guard == Guard::IfAbsent && matches!(e.kind, StoreErrorKind::Exists | StoreErrorKind::Conflict) => {}
        Err(e) => return Err(Error::from(e).with("store", store.url())),
    }
    if guard == Guard::Overwrite || !atomic {
        clock.sleep(CLAIM_WAIT).await;
    }
    read(store, &owner_key).await?.ok_or_else(|| owner_gone(store, keys))
}

/// The error for an owner record that was written and does not stand.
pub fn owner_gone(store: &dyn ObjectStore, keys: &ControlKeys) -> Error {
    Error::new(Code(411), ErrorKind::Fenced, "the owner record was written and is not there")
        .with("store", store.url())
        .with("key", keys.owner())
        .help("check that the credentials may write below _catchment/ and that nobody deletes there, then start again")
}

/// The error for a directory that somebody else owns.
pub fn foreign_owner(store: &dyn ObjectStore, keys: &ControlKeys, standing: &Owner) -> Error {
    Error::new(Code(412), ErrorKind::Fenced, "the topic's directory belongs to another rule or deployment")
        .with("store", store.url())
        .with("topic", &standing.topic)
        .with("owner", format!("rule {} of group {} on cluster {}", standing.rule, standing.group, standing.cluster))
        .with("key", keys.owner())
        .help("use another prefix (--to), or the owner's rule name (--rule) to continue its backup")
}
