//! The control objects of one store prefix: who owns which topic's directory and where its lanes start, and the anchors.

use std::collections::BTreeMap;

use catchment_formats::LaneId;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::place::{CONTROL, Place};
use crate::error::Result;
use crate::store::{CONTROL_BYTES_MAX, ListPage, ObjectStore, StoreErrorKind, StoreResult};

/// An owner record, as far as it matters here.
#[derive(Clone, Debug, Deserialize)]
pub struct Owner {
    /// The rule's name.
    pub rule: String,
    /// The cluster's id.
    pub cluster: String,
    /// The topic's UUID, or `0`.
    pub topic_id: String,
    /// Where partitions start; an absent one started at its earliest offset.
    pub start: BTreeMap<i32, i64>,
}

impl Owner {
    /// Whether an object of this lane may stand in the owner's directory. A broker without topic UUIDs cannot tell.
    pub fn may_write(&self, lane: &LaneId) -> bool {
        let same_topic = self.topic_id == lane.topic_id || self.topic_id == "0" || lane.topic_id == "0";
        self.rule == lane.rule && self.cluster == lane.cluster && same_topic
    }
}

/// An anchor: a lower bound of where a lane stands.
#[derive(Clone, Debug, Deserialize)]
pub struct Anchor {
    /// Key of the lane's last object then, below the control prefix; none before the first.
    pub key: Option<String>,
}

/// The control objects below one prefix.
#[derive(Clone, Debug)]
pub struct Control {
    /// What stands before `_catchment/`: empty, or ending with a slash.
    pub prefix: String,
    /// Owners by the path of the topic's directory below the prefix.
    pub owners: BTreeMap<String, Owner>,
    /// Anchors, by their own keys.
    pub anchors: BTreeMap<String, Anchor>,
}

impl Control {
    /// Reads the control objects below `prefix`. What is not readable is left out and noted: it is no damage to data.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn read(place: &Place, prefix: &str, notes: &mut Vec<String>) -> Result<Self> {
        let mut control = Self::none_at(prefix);
        control.read_owners(place, notes).await?;
        control.read_anchors(place, "", notes).await?;
        Ok(control)
    }

    /// The same with the anchors of one rule alone. The owners are all there: they tell which directories are whose.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn of_rule(place: &Place, prefix: &str, rule: &str, notes: &mut Vec<String>) -> Result<Self> {
        let mut control = Self::none_at(prefix);
        control.read_owners(place, notes).await?;
        control.read_anchors(place, &format!("{rule}/"), notes).await?;
        Ok(control)
    }

    /// No control objects below `prefix`.
    pub(super) fn none_at(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), owners: BTreeMap::new(), anchors: BTreeMap::new() }
    }

    async fn read_owners(&mut self, place: &Place, notes: &mut Vec<String>) -> Result<()> {
        let owners = format!("{}{CONTROL}owners/", self.prefix);
        for key in keys(&*place.store, &owners).await? {
            let path = key[owners.len()..].trim_end_matches(".json").replace("%2F", "/");
            if let Some(owner) = parse(place, &key, notes).await? {
                self.owners.insert(path, owner);
            }
        }
        Ok(())
    }

    async fn read_anchors(&mut self, place: &Place, below: &str, notes: &mut Vec<String>) -> Result<()> {
        for key in keys(&*place.store, &format!("{}{CONTROL}anchors/{below}", self.prefix)).await? {
            if let Some(anchor) = parse(place, &key, notes).await? {
                self.anchors.insert(key, anchor);
            }
        }
        Ok(())
    }

    /// The directories that belong to a rule, as keys of the store, each with its trailing slash; none that lies in another one of them.
    pub fn directories_of(&self, rule: &str) -> Vec<String> {
        let mut outermost: Vec<String> = Vec::new();
        let own = self.owners.iter().filter(|(_, owner)| owner.rule == rule);
        let mut directories: Vec<String> = own.map(|(path, _)| format!("{}{path}/", self.prefix)).collect();
        directories.sort();
        for directory in directories {
            if outermost.last().is_none_or(|last| !directory.starts_with(last.as_str())) {
                outermost.push(directory);
            }
        }
        outermost
    }

    /// Whether control objects stand below `prefix`. Not being allowed to look counts as no, and is noted.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn stands_at(place: &Place, prefix: &str, notes: &mut Vec<String>) -> Result<bool> {
        match place.store.list(&format!("{prefix}{CONTROL}"), true, None).await {
            Ok(page) => Ok(page != ListPage::default()),
            Err(e) if e.kind == StoreErrorKind::Denied => {
                notes.push(format!("control objects were not looked for at {:?}: {e}", place.url_of(prefix)));
                Ok(false)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// The owner of the directory that holds `key`, with the directory's path.
    pub fn owner_of(&self, key: &str) -> Option<(&str, &Owner)> {
        let below = key.strip_prefix(&self.prefix)?;
        self.owners
            .iter()
            .map(|(path, owner)| (path.as_str(), owner))
            .filter(|(path, _)| below.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
            // A directory may stand in another one, if somebody's template wants it so: the nearest one is meant.
            .max_by_key(|(path, _)| path.len())
    }

    /// Keys at which the proof of the object at `key` may stand: its topic's directory is one of those above it.
    pub fn proof_records(&self, key: &str, partition: i32, start: i64) -> Vec<String> {
        let Some(below) = key.strip_prefix(&self.prefix) else { return Vec::new() };
        let record = |path: &str| format!("{}{CONTROL}objects/{}/{partition}/{start:020}.json", self.prefix, path.replace('/', "%2F"));
        if let Some((path, _)) = self.owner_of(key) {
            return vec![record(path)];
        }
        below.match_indices('/').map(|(at, _)| record(&below[..at])).collect()
    }
}

async fn keys(store: &dyn ObjectStore, prefix: &str) -> StoreResult<Vec<String>> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(prefix, false, after.as_deref()).await?;
        keys.extend(page.objects.into_iter().map(|o| o.key).filter(|k| k.ends_with(".json")));
        after = page.next;
        if after.is_none() {
            return Ok(keys);
        }
    }
}

async fn parse<T: DeserializeOwned>(place: &Place, key: &str, notes: &mut Vec<String>) -> Result<Option<T>> {
    let Some(bytes) = place.store.get(key, Some(0..CONTROL_BYTES_MAX)).await? else { return Ok(None) };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(e) => {
            notes.push(format!("the control object {key} is not readable: {e}"));
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_directory_owns() {
        let owner = |rule: &str| Owner { rule: rule.to_owned(), cluster: "c".to_owned(), topic_id: "0".to_owned(), start: BTreeMap::new() };
        let owners = [("a", "outer"), ("a/b", "inner"), ("a/bc", "other")].map(|(path, rule)| (path.to_owned(), owner(rule)));
        let control = Control { prefix: "p/".to_owned(), owners: owners.into(), anchors: BTreeMap::new() };
        assert_eq!(control.directories_of("inner"), ["p/a/b/"]);
        let one = Control { owners: control.owners.keys().map(|path| (path.clone(), owner("one"))).collect(), ..control.clone() };
        assert_eq!(one.directories_of("one"), ["p/a/"], "the others lie in it");
        let rule = |key: &str| control.owner_of(key).map(|(_, owner)| owner.rule.as_str());
        assert_eq!(rule("p/a/b/dt=x/o"), Some("inner"));
        assert_eq!(rule("p/a/dt=x/o"), Some("outer"));
        assert_eq!(rule("p/a/bd/o"), Some("outer"));
        assert_eq!(rule("p/ab/o"), None);
    }
}
