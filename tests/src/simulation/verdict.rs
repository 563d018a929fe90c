//! What a simulation left in its store, held against the ledger and the invariants of the commit protocol.

use std::collections::BTreeMap;
use std::sync::Arc;

use catchment::commit::control::Owner;
use catchment::intent::{CommitNote, note_hash};
use catchment::invariants::{Extent, Sight, gapless, missing_within, no_duplicate, no_loss, one_intent, pinned_first};
use catchment::store::key::{ControlKeys, Layout, TopicName};
use catchment::store::memory::MemoryStore;
use catchment::store::{GuardClass, ObjectStore};
use catchment_formats::parquet::ParquetDecoder;
use catchment_formats::raw::{RawDecoder, RawItem};
use catchment_formats::{Block, Encoding, Format, OffsetRange, Proof, ValueLayout};
use serde::Serialize;

use super::ledger::{Lane, Ledger, Taken};
use super::legacy::Legacy;
use super::process::TOPIC;
use super::world::{World, Writing};
use crate::oracle::{RecordHash, view_hash};
use crate::scripted::group::Accepted;

/// What is wrong with a backup. All empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Records that are not stored and need be.
    pub lost: u64,
    /// Records stored more than once.
    pub duplicated: u64,
    /// Records or objects that are not what they were.
    pub altered: u64,
    /// What is wrong, in words.
    pub findings: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, what: String) {
        self.findings.push(what);
    }
}

/// An object as it stands at the end.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) key: String,
    pub(super) proof: Proof,
    body: bytes::Bytes,
}

/// Judges a store.
pub async fn judge(world: &World, store: &Arc<MemoryStore>, ledger: &Ledger, accepted: &[Accepted], forgotten_at: &[u64]) -> Verdict {
    let mut verdict = Verdict::default();
    let writings = world.writings();
    let mut lanes: BTreeMap<(String, i32), Vec<Stored>> = BTreeMap::new();
    for (key, proof, body) in objects(store, &mut verdict).await {
        lanes.entry((proof.lane.topic_id.clone(), proof.lane.partition)).or_default().push(Stored { key, proof, body });
    }
    lanes.values_mut().for_each(|objects| objects.sort_by_key(|o| o.proof.range.start));
    for ((id, partition), lane) in ledger.lanes() {
        let key = (id.clone(), *partition);
        let objects = lanes.get(&key).map_or(&[][..], Vec::as_slice);
        let place = ledger.incarnations().iter().position(|of| of == id).unwrap_or_default();
        let later = &ledger.incarnations()[place + 1..];
        let objects_of = |id: &String| lanes.get(&(id.clone(), *partition)).map_or(&[][..], Vec::as_slice);
        // An object that lands after the next lane has asked for it is listed as missing all the same.
        let stood = |asked_at: u64| {
            let writings = &writings;
            move |key: &str| writings.get(key).and_then(|w| w.first()).is_some_and(|first| first.order < asked_at)
        };
        let asked_at = |place: usize| {
            first_of(accepted, *partition, &ledger.incarnations()[place + 1..]).min(world.asked_at(*partition, ledger.gone_at(place)))
        };
        let legacy_of = |(n, id): (usize, &String)| Legacy::of(id, *partition, accepted, stood(asked_at(n)));
        let all: Vec<Legacy> = ledger.incarnations().iter().enumerate().map(legacy_of).collect();
        let owner = owner(store, id, place == 0).await;
        let mut judge = LaneJudge { lane, objects, verdict: &mut verdict, name: format!("{partition} of {id}") };
        // What the lane started from. Where nothing guards the owner record, it may say something older in the end: a claim that was on its way
        // for minutes overwrites the one that stands.
        let hash = note_hash(id);
        let first = first_start(accepted, *partition, &hash);
        let owned = owner.as_ref().and_then(|o| o.start.get(partition).copied());
        let start = if world.plan.class == GuardClass::C { first.or(owned) } else { owned.or(first) };
        judge.invariants(start, &all[..place]);
        judge.records(start.unwrap_or_default(), id == ledger.current(), &world.walks(*partition));
        judge.writings(&writings);
        judge.sights(&writings, accepted, *partition, &hash, forgotten_at);
        // Whoever asks after the topic has gone may take the new log's end for the old one's; nothing of the old one can be lost by that.
        let while_it_stood: Vec<Accepted> = accepted.iter().filter(|a| a.order < ledger.gone_at(place)).cloned().collect();
        judge.committed(&while_it_stood, *partition, &hash, forgotten_at);
        let later_objects: Vec<&Stored> = later.iter().flat_map(objects_of).collect();
        // Whoever is refused by the group asks in vain: what the next lane must list is what it found before its first commit.
        let taken_over_at = first_of(accepted, *partition, later);
        let legacy = Legacy::of(id, *partition, accepted, stood(taken_over_at));
        judge.left(&legacy, &all[place + 1..], &later_objects, taken_over_at, forgotten_at);
    }
    for key in ledger.lanes().keys() {
        lanes.remove(key);
    }
    for (lane, objects) in lanes {
        verdict.find(format!("objects of a lane that never was: {lane:?}: {}", objects.len()));
    }
    verdict
}

/// S of a lane's first commit.
fn first_start(accepted: &[Accepted], partition: i32, topic_hash: &str) -> Option<i64> {
    let notes = accepted.iter().filter(|a| a.tp.partition == partition).filter_map(|a| CommitNote::parse(&a.commit.metadata).ok());
    notes.filter(|note| note.topic_hash() == topic_hash).map(|note| note.start()).next()
}

/// The order of the first commit of any of some incarnations; the end of all if there is none.
fn first_of(accepted: &[Accepted], partition: i32, incarnations: &[String]) -> u64 {
    let hashes: Vec<String> = incarnations.iter().map(|id| note_hash(id)).collect();
    let is_of = |a: &&Accepted| {
        a.tp.partition == partition && CommitNote::parse(&a.commit.metadata).is_ok_and(|note| hashes.iter().any(|h| h == note.topic_hash()))
    };
    accepted.iter().find(is_of).map_or(u64::MAX, |a| a.order)
}

async fn owner(store: &MemoryStore, id: &str, is_first: bool) -> Option<Owner> {
    let name = if is_first { TopicName::new(TOPIC) } else { TopicName::later(TOPIC, id) };
    let found = store.get(&ControlKeys::new(&Layout::Hive, &name).owner(), None).await;
    serde_json::from_slice(&found.ok()??).ok()
}

/// Every data object with its proof.
async fn objects(store: &Arc<MemoryStore>, verdict: &mut Verdict) -> Vec<(String, Proof, bytes::Bytes)> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = store.list("", false, after.as_deref()).await.expect("the memory store lists");
        for info in page.objects.iter().filter(|o| !o.key.starts_with("_catchment/")) {
            let seen = catchment::commit::proof::look(&**store, &Layout::Hive, &info.key).await.expect("the memory store answers");
            let body = store.get(&info.key, None).await.expect("the memory store answers").unwrap_or_default();
            match seen {
                Some((_, Some(proof))) => found.push((info.key.clone(), proof, body)),
                _ => verdict.find(format!("{} has no proof", info.key)),
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return found,
        }
    }
}

struct LaneJudge<'a> {
    lane: &'a Lane,
    objects: &'a [Stored],
    verdict: &'a mut Verdict,
    name: String,
}

impl LaneJudge<'_> {
    fn find(&mut self, what: impl std::fmt::Display) {
        let text = format!("{}: {what}", self.name);
        self.verdict.find(text);
    }

    fn invariants(&mut self, start: Option<i64>, legacies: &[Legacy]) {
        let extents: Vec<Extent> = self.objects.iter().map(|o| o.proof.range.into()).collect();
        for violation in no_duplicate(&extents).into_iter().chain(gapless(start, &extents)) {
            self.find(format_args!("{violation} ({violation:?})"));
        }
        for object in self.objects {
            for violation in missing_within(object.proof.range, &object.proof.missing) {
                self.find(format_args!("{}: {violation}", object.key));
            }
            for gap in &object.proof.missing {
                if !self.lane.explains(*gap) && !legacies.iter().any(|legacy| legacy.explains(*gap)) {
                    self.find(format_args!("{}: nothing explains the gap {gap:?}", object.key));
                }
            }
        }
    }

    /// Every record from the lane's start on once, unaltered, or excused. Of an incarnation that is gone, what was not read is gone with it.
    fn records(&mut self, start: i64, is_current: bool, walks: &[u64]) {
        let mut stored: BTreeMap<i64, Vec<RecordHash>> = BTreeMap::new();
        for object in self.objects {
            let encoding: Encoding = object.proof.encoding.parse().expect("a proof names its encoding");
            match encoding.format {
                Format::Parquet => {
                    if let Err(e) = parquet(object, &mut stored) {
                        self.find(format_args!("{}: {e}", object.key));
                    }
                }
                Format::Raw(_) => self.raw(object, &encoding, &mut stored),
            }
        }
        let end = self.objects.iter().map(|o| o.proof.range.end).max().unwrap_or_default();
        let lane = self.lane;
        for (offset, versions) in &lane.versions {
            let is_listed = self.objects.iter().any(|o| o.proof.missing.iter().any(|m| m.covers(*offset)));
            let due = lane.due(*offset).filter(|due| *offset >= start && !is_listed && due.taken != Some(Taken::Compaction));
            // What was cut away from the lane of a topic that is gone is its legacy.
            let due = due.filter(|_| is_current || (*offset < end && !lane.was_cut(*offset))).filter(|_| !lane.hides(*offset, walks));
            match stored.remove(offset).as_deref() {
                None | Some([]) => {
                    if due.is_some() {
                        self.verdict.lost += 1;
                        self.find(format_args!("offset {offset} is lost"));
                    }
                }
                // What a new leader wrote where an older record was stored must be listed. Whoever made the topic again did not ask for that.
                Some([one]) if is_current && due.is_some_and(|due| due.hash != *one) && versions.iter().any(|v| v.hash == *one) => {
                    self.verdict.lost += 1;
                    self.find(format_args!("offset {offset} was written anew, and that is lost"));
                }
                Some([one]) if versions.iter().any(|v| v.hash == *one) => {}
                Some([_]) => {
                    self.verdict.altered += 1;
                    self.find(format_args!("offset {offset} is altered"));
                }
                Some(many) => {
                    self.verdict.duplicated += 1;
                    self.find(format_args!("offset {offset} is stored {} times", many.len()));
                }
            }
        }
        for offset in stored.keys() {
            self.verdict.altered += 1;
            self.find(format_args!("offset {offset} never was"));
        }
    }

    /// A raw object's values are those of its range, in order. Which offset each had follows from that.
    fn raw(&mut self, object: &Stored, encoding: &Encoding, stored: &mut BTreeMap<i64, Vec<RecordHash>>) {
        let mut decoder = match RawDecoder::new(&object.body[..], encoding) {
            Ok(decoder) => decoder,
            Err(e) => return self.find(format_args!("{}: {e}", object.key)),
        };
        let lane = self.lane;
        let due = lane
            .versions
            .range(object.proof.range.start..object.proof.range.end)
            .filter(|(offset, _)| !object.proof.missing.iter().any(|m| m.covers(**offset)));
        for (offset, versions) in due {
            let value = match decoder.next_item() {
                Ok(Some(RawItem::Value(value))) => Some(value.to_vec()),
                Ok(Some(RawItem::Null)) => None,
                Ok(None) => return self.find(format_args!("{} ends before offset {offset}", object.key)),
                Err(e) => return self.find(format_args!("{}: {e}", object.key)),
            };
            match versions.iter().find(|v| v.value == value) {
                Some(version) => stored.entry(*offset).or_default().push(version.hash),
                None => return self.find(format_args!("{}: the value of offset {offset} is another", object.key)),
            }
        }
        if !matches!(decoder.next_item(), Ok(None)) {
            self.find(format_args!("{} goes on behind its last value", object.key));
        }
    }

    /// Final: a key that was visible keeps its bytes, but for the cases of rule A3.
    fn writings(&mut self, writings: &BTreeMap<String, Vec<Writing>>) {
        for object in self.objects {
            let distinct = writings.get(&object.key).map_or(0, Vec::len);
            if distinct == 0 || (distinct > 1 && !self.lane.may_repeat_differently) {
                self.verdict.altered += u64::from(distinct > 1);
                self.find(format_args!("{} had {distinct} different contents", object.key));
            }
        }
    }

    /// PinnedFirst and OneIntent, between two forgettings of the group's offsets.
    fn sights(
        &mut self,
        writings: &BTreeMap<String, Vec<Writing>>,
        accepted: &[Accepted],
        partition: i32,
        topic_hash: &str,
        forgotten_at: &[u64],
    ) {
        let mut sights: Vec<(u64, Sight)> = Vec::new();
        for commit in accepted.iter().filter(|a| a.tp.partition == partition) {
            if let Ok(CommitNote::Intent(intent)) = CommitNote::parse(&commit.commit.metadata)
                && intent.t == topic_hash
            {
                sights.push((commit.order, Sight::Pinned { range: OffsetRange::new(intent.start, intent.end), key: intent.key.clone() }));
            }
        }
        for object in self.objects {
            let first = writings.get(&object.key).and_then(|w| w.first());
            sights.extend(first.map(|w| (w.order, Sight::Visible { range: object.proof.range, key: object.key.clone() })));
        }
        sights.sort_by_key(|(order, _)| *order);
        for violation in pinned_first(&sights.iter().map(|(_, s)| s.clone()).collect::<Vec<_>>()) {
            self.find(format_args!("{violation} ({violation:?})"));
        }
        let age = |order: u64| forgotten_at.iter().filter(|at| **at <= order).count();
        for forgettings in 0..=forgotten_at.len() {
            let of_age: Vec<Sight> = sights.iter().filter(|(order, _)| age(*order) == forgettings).map(|(_, s)| s.clone()).collect();
            for violation in one_intent(&of_age) {
                self.find(format_args!("{violation} ({violation:?})"));
            }
        }
    }

    /// What a lane that is gone had pinned, or was to list, is stored, or the next one lists it.
    fn left(&mut self, legacy: &Legacy, heirs: &[Legacy], later: &[&Stored], asked_at: u64, forgotten_at: &[u64]) {
        let unlisted = legacy.unlisted(later, asked_at, forgotten_at).filter(|_| asked_at < u64::MAX);
        // What the next lane was to list and could not either is its own legacy.
        for (from, to) in unlisted.filter(|range| !heirs.iter().any(|heir| heir.leaves(*range))) {
            self.verdict.lost += 1;
            self.find(format_args!("the topic was made again, and nothing says that [{from}, {to}) is lost"));
        }
    }

    /// NoLoss, of the last commit.
    fn committed(&mut self, accepted: &[Accepted], partition: i32, topic_hash: &str, forgotten_at: &[u64]) {
        let of_lane = |a: &&Accepted| {
            a.tp.partition == partition && CommitNote::parse(&a.commit.metadata).is_ok_and(|note| note.topic_hash() == topic_hash)
        };
        let last = accepted.iter().rev().find(of_lane).filter(|a| forgotten_at.last().is_none_or(|at| a.order >= *at));
        let Some(last) = last else { return };
        let extents: Vec<Extent> = self.objects.iter().map(|o| o.proof.range.into()).collect();
        let lane = self.lane;
        let is_visible = |range: OffsetRange| lane.shows(range.start..range.end);
        let start = accepted.iter().find(of_lane).map_or(0, |a| a.commit.offset);
        if let Some(violation) = no_loss(last.commit.offset, start, &extents, is_visible) {
            self.find(format_args!("{violation} ({violation:?})"));
        }
    }
}

fn parquet(object: &Stored, stored: &mut BTreeMap<i64, Vec<RecordHash>>) -> Result<(), catchment_formats::FormatError> {
    let mut decoder = ParquetDecoder::new(object.body.clone())?;
    let partition = object.proof.lane.partition;
    let mut block = Block::new(ValueLayout::Plain);
    while decoder.next_block(&mut block)? {
        for record in block.iter() {
            stored.entry(record.offset).or_default().push(view_hash(partition, &record));
        }
    }
    Ok(())
}
