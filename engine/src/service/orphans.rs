//! Multipart uploads that a deleted rule has left unfinished.
//!
//! Place in the flow: called by [`deletion`](super::deletion) once the rule's group is gone and its claims are given up.
//!
//! Guarantees: no object is touched. What is aborted is an upload of a key that one of the rule's layouts gives in a directory that it owned, and one too old to be
//! alive (rule R7): another rule, of this service or of another, may have its own directories between these, and no listing says whose an upload is. A younger
//! one is named. Where an upload that has made an object goes on being listed, nothing is aborted, since that may take the object's bytes (as in the
//! [sweep](crate::commit)).
//!
//! A service that lists uploads of one exact key alone (MinIO) names none here, nor does one that does not permit it; there the server's own rule ends them.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::source::kafka::errors::REQUEST_FAILED;
use crate::store::key::{ControlKeys, Layout};
use crate::store::{ObjectStore, OpenUpload, StoreErrorKind, probe};

/// A claim that was given up.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    /// Key of the owner record.
    pub(super) owner_key: String,
    /// The topic whose directory it was.
    pub(super) topic: String,
}

/// By what uploads are told from those of others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own<'a> {
    /// Every layout that the rule has written by.
    pub(super) layouts: &'a [Layout],
    /// Older ones are nobody's any more.
    pub(super) age_max_ms: u64,
}

/// Aborts the uploads in the directory of a claim. Answers how many.
///
/// # Errors
/// If they could not be listed, or not all of them be aborted.
pub(super) async fn abort_uploads(store: &Arc<dyn ObjectStore>, own: Own<'_>, claim: &Claim, now_ms: u64) -> Result<u64> {
    let listed = match store.list_uploads_below(&directory_of(&claim.owner_key)).await {
        // Cleaning up is worth a request, and no right of its own.
        Err(e) if e.kind == StoreErrorKind::Denied => return Ok(0),
        listed => listed?,
    };
    let orphans: Vec<OpenUpload> = listed.into_iter().filter(|upload| is_of(own.layouts, &upload.key, claim)).collect();
    let (old, young): (Vec<_>, Vec<_>) = orphans.iter().partition(|upload| upload.age_ms > own.age_max_ms);
    if !old.is_empty() && !probe::classes(store, now_ms).await?.forgets_completed {
        return Err(kept("this service goes on listing uploads that have made an object, and an abort may take its bytes", orphans.len()));
    }
    let mut why = None;
    for orphan in &old {
        why = store.abort_upload(&orphan.key, &orphan.id).await.err().or(why);
    }
    match why {
        Some(why) => Err(Error::from(why).with("uploads", old.len())),
        None if young.is_empty() => Ok(old.len() as u64),
        None => Err(kept("they are too young to be known for dead", young.len()).with("aborted", old.len())),
    }
}

fn kept(why: &str, uploads: usize) -> Error {
    Error::new(REQUEST_FAILED, ErrorKind::Invalid, why).with("uploads", uploads).help("give the bucket a rule that ends unfinished uploads")
}

/// The directory that an owner record is about.
fn directory_of(owner_key: &str) -> String {
    let name = owner_key.rsplit('/').next().unwrap_or_default();
    format!("{}/", name.strip_suffix(".json").unwrap_or(name).replace("%2F", "/"))
}

/// Whether a key is one that the rule gives to this topic in the directory of this claim: below it another rule may have a directory of its own.
fn is_of(layouts: &[Layout], key: &str, claim: &Claim) -> bool {
    layouts
        .iter()
        .filter_map(|layout| layout.parse_key(key))
        .any(|parsed| parsed.topic == claim.topic && ControlKeys::of_path(&parsed.topic_path).owner() == claim.owner_key)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::key::Template;
    use crate::store::memory::MemoryStore;
    use crate::store::{Guard, Metadata};

    async fn open_keys(store: &Arc<dyn ObjectStore>) -> Vec<String> {
        store.list_uploads_below("").await.unwrap().into_iter().map(|upload| upload.key).collect()
    }

    #[tokio::test]
    async fn old_uploads_of_the_rules_own_keys_are_aborted_and_no_others() {
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::default());
        let own = [
            "t/dt=2026-11-22/hour=5/t+0+00000000000000000000.parquet",
            "t/dt=unknown/hour=0/t+1+00000000000000000007.parquet",
            "t/20261122050000/t+1+00000000000000000009.parquet",
        ];
        let others = [
            "t/dt=2026-11-22/hour=5/s+0+00000000000000000000.parquet",
            "t/u/dt=2026-11-22/hour=5/u+0+00000000000000000000.parquet",
            "t/notes.txt",
            "tt/dt=2026-11-22/hour=5/tt+0+00000000000000000000.parquet",
        ];
        for key in own.iter().chain(&others) {
            store.create_upload(key, &Metadata::new(), Guard::IfAbsent).await.unwrap();
        }
        // What the rule wrote by before it was edited.
        let layouts = [Layout::Hive, Layout::Template(Template::parse("{topic}/{yyyy}").unwrap())];
        let claim = Claim { owner_key: ControlKeys::of_path("t").owner(), topic: "t".to_owned() };
        let abort = async |age_max_ms| abort_uploads(&store, Own { layouts: &layouts, age_max_ms }, &claim, 0).await;
        let refused = abort(3_600_000).await.unwrap_err();
        assert!(refused.to_string().contains("too young"), "{refused}");
        assert_eq!(open_keys(&store).await.len(), own.len() + others.len(), "the young are spared");
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!((abort(1).await.unwrap(), abort(1).await.unwrap()), (3, 0));
        let left = open_keys(&store).await;
        assert_eq!(left.len(), others.len(), "{left:?}");
        assert!(others.iter().all(|other| left.contains(&(*other).to_owned())), "{left:?}");
    }

    #[test]
    fn an_owner_record_names_its_directory() {
        for path in ["t", "topics/a.b", "ckafka-1/topic~0a"] {
            assert_eq!(directory_of(&ControlKeys::of_path(path).owner()), format!("{path}/"));
        }
    }
}
