//! The objects of a lane held against each other, by the invariants.

use std::collections::BTreeMap;

use catchment_formats::{LaneId, OffsetRange, Proof};

use super::Place;
use super::listing::{Listed, Listing};
use super::report::{Damage, DamageKind, Gap, Report};
use crate::invariants::{self, Extent, Violation};

/// An object after it was read.
#[derive(Debug)]
pub struct LaneObject {
    /// Its place in the listing.
    pub index: usize,
    /// Its proof, if it has one that can be read.
    pub proof: Option<Proof>,
    /// What is wrong with it on its own.
    pub damage: Vec<Damage>,
    /// What of it could not be checked.
    pub notes: Vec<String>,
    /// Whether its records could be read.
    pub readable: bool,
}

/// What tells lanes apart before their proofs are read: directory, topic, partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneKey {
    /// The topic's directory.
    pub directory: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// The objects of one lane, by their first offsets.
#[derive(Debug)]
pub struct Lane {
    /// Which lane.
    pub key: LaneKey,
    /// Its objects, in the order of their names' offsets.
    pub objects: Vec<(Listed, LaneObject)>,
}

impl LaneKey {
    /// The lane of a listed object.
    pub fn of(listing: &Listing, listed: &Listed) -> Self {
        let directory = match listing.owner_of(&listed.key) {
            Some((directory, _)) => directory,
            None => guessed_directory(listing, listed),
        };
        Self { directory, topic: listed.topic.clone(), partition: listed.partition }
    }
}

/// Without an owner record the topic's directory is the first piece of the key that bears the topic's name, in any of its
/// incarnations. Where a layout names it otherwise, the prefix that was asked for is taken for it.
fn guessed_directory(listing: &Listing, listed: &Listed) -> String {
    let prefix = listing.control_of(&listed.key).map_or("", |control| &control.prefix);
    let file = listed.key.rsplit('/').next().unwrap_or_default();
    let topic = file.split('+').next().unwrap_or_default();
    let mut end = prefix.len();
    for piece in listed.key[prefix.len()..].split_inclusive('/') {
        end += piece.len();
        let name = piece.trim_end_matches('/');
        let is_topic = name.strip_prefix(topic).is_some_and(|rest| rest.is_empty() || rest.starts_with('~'));
        if is_topic && piece.ends_with('/') {
            return listed.key[..end - 1].to_owned();
        }
    }
    listing.prefix.trim_end_matches('/').to_owned()
}

/// Sorts objects into lanes.
pub fn group(listing: &Listing, objects: Vec<LaneObject>) -> Vec<Lane> {
    let mut lanes: BTreeMap<LaneKey, Vec<(Listed, LaneObject)>> = BTreeMap::new();
    for object in objects {
        let listed = listing.objects[object.index].clone();
        lanes.entry(LaneKey::of(listing, &listed)).or_default().push((listed, object));
    }
    let mut lanes: Vec<Lane> = lanes.into_iter().map(|(key, objects)| Lane { key, objects }).collect();
    lanes.iter_mut().for_each(Lane::sort);
    lanes
}

impl Lane {
    fn sort(&mut self) {
        self.objects.sort_by(|(a, _), (b, _)| (a.start, &a.key).cmp(&(b.start, &b.key)));
    }

    /// Adds objects that were not listed at first.
    pub fn add(&mut self, objects: Vec<(Listed, LaneObject)>) {
        self.objects.extend(objects);
        self.sort();
    }

    /// Ranges that no object stands for.
    pub fn holes(&self, place: &Place, listing: &Listing) -> Vec<OffsetRange> {
        if self.is_part(place) {
            return Vec::new();
        }
        let violations = invariants::gapless(self.start(listing).ok(), &self.extents());
        let range = |violation: Violation| match violation {
            Violation::Hole { range, .. } => Some(range),
            _ => None,
        };
        violations.into_iter().filter_map(range).collect()
    }

    /// Checks the lane and adds what it found to the report.
    pub fn check(&self, place: &Place, listing: &Listing, report: &mut Report) {
        report.lanes += 1;
        let id = self.id();
        for (listed, object) in &self.objects {
            report.damage.extend(object.damage.iter().cloned());
            report.notes.extend(object.notes.iter().cloned());
            if let Some(proof) = &object.proof {
                report.records = report.records.saturating_add(proof.counts.records);
                let is_owned = listing.owner_of(&listed.key).is_some();
                check_name(listed, proof, id, is_owned, report);
                check_owner(listing, listed, proof, report);
                report.gaps.extend(gaps(listed, proof));
            }
        }
        self.check_tiles(place, listing, report);
    }

    /// The lane by its proofs: the one that most of them name.
    pub fn id(&self) -> Option<&LaneId> {
        let mut votes: Vec<(&LaneId, usize)> = Vec::new();
        for proof in self.objects.iter().filter_map(|(listed, object)| object.proof.as_ref().filter(|p| names_agree(listed, p))) {
            match votes.iter_mut().find(|(id, _)| *id == &proof.lane) {
                Some((_, count)) => *count += 1,
                None => votes.push((&proof.lane, 1)),
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(id, _)| id)
    }

    fn check_tiles(&self, place: &Place, listing: &Listing, report: &mut Report) {
        let extents = self.extents();
        let mut violations = invariants::no_duplicate(&extents);
        if self.is_part(place) {
            report.notes.push(format!("{} is a part of the topic's directory, so holes were not looked for", place.url()));
        } else {
            let start = self.start(listing).map_err(|why| report.notes.push(why)).ok();
            violations.extend(invariants::gapless(start, &extents));
        }
        for violation in violations {
            self.report(&violation, report);
        }
    }

    fn extents(&self) -> Vec<Extent> {
        self.objects.iter().map(|(listed, object)| extent(listed, object)).collect()
    }

    /// Whether only a part of the topic's directory is looked at: it holds a part of its objects, and what lies between them may stand
    /// beside it.
    fn is_part(&self, place: &Place) -> bool {
        place.prefix.len() > self.key.directory.len() + 1
    }

    /// Where the lane starts by the owner record; else why that is not known.
    fn start(&self, listing: &Listing) -> Result<i64, String> {
        let LaneKey { topic, partition, .. } = &self.key;
        let owner = self.objects.first().and_then(|(first, _)| listing.owner_of(&first.key));
        let Some((_, owner)) = owner else {
            return Err(format!("no owner record of topic {topic} is in reach, so where its partitions start was not checked"));
        };
        let told =
            || format!("{topic}/{partition} came after the rule's first start and began at its earliest offset, which is recorded nowhere");
        owner.start.get(partition).copied().ok_or_else(told)
    }

    fn report(&self, violation: &Violation, report: &mut Report) {
        let key = |index: usize| self.objects[index].0.key.as_str();
        let LaneKey { topic, partition, .. } = &self.key;
        match violation {
            Violation::Duplicate { first, second } => {
                report.damaged(key(*second), DamageKind::Duplicate, format!("it stands for the same range as {}", key(*first)));
            }
            Violation::Overlap { first, second, shared } => {
                report.damaged(key(*second), DamageKind::Overlap, format!("it shares the offsets {shared} with {}", key(*first)));
            }
            Violation::Hole { before: Some(next), range } => {
                report.damaged(key(*next), DamageKind::Hole, format!("before it no object of {topic}/{partition} stands for {range}"));
            }
            Violation::EarlyStart { first, start } => {
                report.damaged(key(*first), DamageKind::EarlyStart, format!("{topic}/{partition} starts at {start} by its owner record"));
            }
            other => report.damaged(&self.key.directory, DamageKind::Hole, other.to_string()),
        }
    }
}

/// What an object stands for. The end of one that is damaged, or is another's, is not known; it still takes its place.
fn extent(listed: &Listed, object: &LaneObject) -> Extent {
    let proof = object.proof.as_ref().filter(|p| p.range.start == listed.start && names_agree(listed, p));
    Extent { start: listed.start, end: proof.map(|p| p.range.end) }
}

fn names_agree(listed: &Listed, proof: &Proof) -> bool {
    proof.lane.topic == listed.topic && proof.lane.partition == listed.partition
}

fn check_name(listed: &Listed, proof: &Proof, id: Option<&LaneId>, is_owned: bool, report: &mut Report) {
    if !names_agree(listed, proof) || proof.range.start != listed.start {
        let told = format!("{}/{} from {}", proof.lane.topic, proof.lane.partition, proof.range.start);
        report.damaged(&listed.key, DamageKind::Misplaced, format!("its proof is that of {told}"));
    } else if let Some(id) = id.filter(|id| **id != proof.lane && !is_owned) {
        let lane = &proof.lane;
        let told = format!("rule {} on cluster {}, topic id {}", lane.rule, lane.cluster, lane.topic_id);
        report.damaged(
            &listed.key,
            DamageKind::Foreign,
            format!("it is of {told}; the lane's others are of rule {} on cluster {}, topic id {}", id.rule, id.cluster, id.topic_id),
        );
    }
}

fn check_owner(listing: &Listing, listed: &Listed, proof: &Proof, report: &mut Report) {
    if let Some((_, owner)) = listing.owner_of(&listed.key).filter(|(_, owner)| !owner.may_write(&proof.lane)) {
        let lane = &proof.lane;
        let told = format!("it is of rule {} on cluster {}, topic id {}", lane.rule, lane.cluster, lane.topic_id);
        let owns = format!("rule {} on cluster {}, topic id {}", owner.rule, owner.cluster, owner.topic_id);
        report.damaged(&listed.key, DamageKind::Foreign, format!("{told}; the directory belongs to {owns}"));
    }
}

fn gaps(listed: &Listed, proof: &Proof) -> Vec<Gap> {
    let gap = |m: &catchment_formats::Missing| Gap {
        topic: listed.topic.clone(),
        partition: listed.partition,
        from: m.0,
        to: m.1,
        cause: m.2.as_str(),
        key: listed.key.clone(),
    };
    proof.missing.iter().map(gap).collect()
}
