//! What a simulation left in its store, held against the ledger and the invariants of the commit protocol.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use catchment::commit::control::Owner;
use catchment::intent::{CommitNote, note_hash};
use catchment::invariants::final_bytes;
use catchment::store::key::{ControlKeys, Layout, TopicName};
use catchment::store::memory::MemoryStore;
use catchment::store::{GuardClass, ObjectStore};
use catchment_formats::Proof;
use crc_fast::CrcAlgorithm;
use serde::Serialize;

use super::lane_judge::LaneJudge;
use super::ledger::{Lane, Ledger};
use super::legacy::Legacy;
use super::process::TOPIC;
use super::store::is_control;
use super::world::{World, Writing};
use crate::scripted::group::Accepted;

/// What is wrong with a backup, of how much. No findings: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Records that are stored once, as they were.
    pub compared: u64,
    /// Records that should be stored and are not, or not as they were last, where nobody can know better.
    pub excused: u64,
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

    pub(super) fn find(&mut self, what: String) {
        self.findings.push(what);
    }
}

/// An object as it stands at the end.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) key: String,
    pub(super) proof: Proof,
    pub(super) body: Bytes,
    /// When its key first had a content, among commits and writes; none if nobody wrote it.
    pub(super) visible_at: Option<u64>,
    /// When its key got the content that it has; the end of all if nobody wrote it.
    pub(super) written_at: u64,
}

/// By the topic's id and the partition.
type Lanes = BTreeMap<(String, i32), Vec<Stored>>;

/// Judges a store.
pub async fn judge(world: &World, store: &Arc<MemoryStore>, ledger: &Ledger, accepted: &[Accepted], forgotten_at: &[u64]) -> Verdict {
    let mut verdict = Verdict::default();
    let writings = world.writings();
    let mut lanes = Lanes::new();
    for object in objects(store, &writings, &mut verdict).await {
        lanes.entry((object.proof.lane.topic_id.clone(), object.proof.lane.partition)).or_default().push(object);
    }
    lanes.values_mut().for_each(|objects| objects.sort_by_key(|o| o.proof.range.start));
    judge_finality(&mut verdict, &writings, &lanes, ledger);
    judge_notes(&mut verdict, ledger, accepted);
    for (place, id) in ledger.incarnations().iter().enumerate() {
        let owner = owner(store, id).await;
        for (of, partition) in ledger.lanes().keys().filter(|(of, _)| of == id) {
            let court = Court { world, ledger, accepted, forgotten_at, writings: &writings, lanes: &lanes, partition: *partition };
            let owned = owner.as_ref().and_then(|o| o.start.get(partition).copied());
            court.judge(&mut verdict, (of, place), owned);
        }
    }
    for key in ledger.lanes().keys() {
        lanes.remove(key);
    }
    for (lane, objects) in lanes {
        verdict.find(format!("objects of a lane that never was: {lane:?}: {}", objects.len()));
    }
    verdict
}

/// Whatever the group has accepted is a note of a lane that there was: nothing that a judge of lanes would pass over.
fn judge_notes(verdict: &mut Verdict, ledger: &Ledger, accepted: &[Accepted]) {
    let hashes: Vec<String> = ledger.incarnations().iter().map(|id| note_hash(id)).collect();
    for Accepted { order, commit, .. } in accepted {
        match CommitNote::parse(&commit.metadata) {
            Ok(note) if hashes.iter().any(|hash| hash == note.topic_hash()) => {}
            Ok(note) => verdict.find(format!("commit {order} is of a topic that never was: {note:?}")),
            Err(e) => verdict.find(format!("commit {order} is no note: {e:?}: {commit:?}")),
        }
    }
}

/// Final: a key that was visible keeps its bytes, but for the cases of rule A3, which leave an object of the same range.
fn judge_finality(verdict: &mut Verdict, writings: &BTreeMap<String, Vec<Writing>>, lanes: &Lanes, ledger: &Ledger) {
    let of = |crc64: u64| format!("{crc64:016x}");
    let standing: BTreeMap<&String, (Option<&Lane>, &Stored)> =
        lanes.iter().flat_map(|(id, objects)| objects.iter().map(move |object| (&object.key, (ledger.lanes().get(id), object)))).collect();
    for key in standing.keys().filter(|key| !writings.contains_key(**key)) {
        verdict.find(format!("{key} was not written by anybody"));
    }
    let (mut earlier, mut later) = (BTreeMap::new(), BTreeMap::new());
    for (key, contents) in writings.iter().filter(|(key, _)| !is_control(key)) {
        earlier.extend(contents.first().map(|first| (key.clone(), of(first.crc64))));
        let Some((lane, object)) = standing.get(key) else { continue };
        judge_copies(verdict, (*lane, object), contents);
        let unexcused = unexcused(*lane, object, contents);
        later.extend(unexcused.or(contents.first().map(|first| first.crc64)).map(|crc64| (key.clone(), of(crc64))));
    }
    for violation in final_bytes(&earlier, &later) {
        verdict.altered += 1;
        verdict.find(violation.to_string());
    }
}

/// The sum of the first content of a key that it must not have got: by a request, or behind everybody's back.
fn unexcused(lane: Option<&Lane>, Stored { proof, body, .. }: &Stored, contents: &[Writing]) -> Option<u64> {
    let is_excused = |again: &Writing| lane.is_some_and(|lane| lane.may_repeat_differently(proof.range, again.order));
    let written = contents.iter().skip(1).find(|again| !is_excused(again)).map(|again| again.crc64);
    let stands = crc_fast::checksum(CrcAlgorithm::Crc64Xz, body);
    written.or((contents.last().map(|last| last.crc64) != Some(stands)).then_some(stands))
}

/// Rules R5c: a copy that lists more as missing never replaces one that holds it.
fn judge_copies(verdict: &mut Verdict, (lane, object): (Option<&Lane>, &Stored), contents: &[Writing]) {
    let covers = |copy: &Writing, offset| copy.missing.iter().any(|gap| gap.covers(offset));
    for [copy, again] in contents.array_windows() {
        let held =
            |offset: &i64| lane.is_some_and(|lane| lane.versions.contains_key(offset)) && !covers(copy, *offset) && covers(again, *offset);
        if let Some(offset) = (object.proof.range.start..object.proof.range.end).find(held) {
            verdict.altered += 1;
            verdict.find(format!("{} was written again without offset {offset}", object.key));
        }
    }
}

/// What the judges of the lanes of one partition need.
struct Court<'a> {
    world: &'a World,
    ledger: &'a Ledger,
    accepted: &'a [Accepted],
    forgotten_at: &'a [u64],
    writings: &'a BTreeMap<String, Vec<Writing>>,
    lanes: &'a Lanes,
    partition: i32,
}

impl Court<'_> {
    /// Judges the partition's lane of one incarnation. `owned` is its start by the owner record.
    fn judge(&self, verdict: &mut Verdict, (id, place): (&String, usize), owned: Option<i64>) {
        let lane = &self.ledger.lanes()[&(id.clone(), self.partition)];
        let later = &self.ledger.incarnations()[place + 1..];
        let all: Vec<Legacy> = (0..self.ledger.incarnations().len()).map(|n| self.legacy(n, self.asked_at(n))).collect();
        let mut judge = LaneJudge::new(lane, self.objects(id), verdict, (id, self.partition), self.accepted);
        // What the lane started from. Where nothing guards the owner record, it may say something older in the end: a claim that was on its
        // way for minutes overwrites the one that stands.
        let first = judge.first_start();
        let start = if self.world.plan.class == GuardClass::C { first.or(owned) } else { owned.or(first) };
        // A topic that was gone when it was claimed, or before its first commit came, has no lane, and where it began was asked of the next one.
        let was_there = judge.has_begun(self.ledger.gone_at(place));
        if let Some(start) = start.filter(|start| was_there && *start > lane.retained_to()) {
            judge.find(format_args!("the lane starts at {start}, behind the beginning of the log"));
        }
        judge.invariants(start, &all[..place]);
        let known = judge.known_epochs(&self.world.walks(self.partition));
        let forgotten = self.world.anchors(|book| judge.forgotten_cuts(self.partition, book));
        judge.records(start.unwrap_or_default(), id == self.ledger.current(), &known, &forgotten);
        judge.sights(self.forgotten_at);
        judge.committed(self.ledger.gone_at(place));
        judge.committed_last(self.ledger.gone_at(place), self.forgotten_at);
        let later_objects: Vec<&Stored> = later.iter().flat_map(|id| self.objects(id)).collect();
        // Whoever is refused by the group asks in vain: what the next lane must list is what it found before its first commit.
        let taken_over_at = self.first_commit_of(later);
        if taken_over_at < u64::MAX {
            let legacy = self.legacy(place, taken_over_at);
            let was_anchored = |range, before| self.world.anchors(|book| book.was_left(range, before));
            let unlisted: Vec<_> = legacy.unlisted(&later_objects, taken_over_at, self.forgotten_at, was_anchored).collect();
            judge.left(&unlisted, &all[place + 1..]);
        }
    }

    fn objects(&self, id: &str) -> &[Stored] {
        self.lanes.get(&(id.to_owned(), self.partition)).map_or(&[], Vec::as_slice)
    }

    /// When the lanes that follow one first asked for what it leaves.
    fn asked_at(&self, place: usize) -> u64 {
        let found = self.world.asked_at(self.partition, self.ledger.gone_at(place));
        self.first_commit_of(&self.ledger.incarnations()[place + 1..]).min(found)
    }

    /// What the lane of an incarnation leaves to those that ask at some time. An object that lands after that is listed as missing all the
    /// same.
    fn legacy(&self, place: usize, asked_at: u64) -> Legacy {
        let stood = |key: &str| self.writings.get(key).and_then(|w| w.first()).is_some_and(|first| first.order < asked_at);
        Legacy::of(&self.ledger.incarnations()[place], self.partition, self.accepted, stood)
    }

    /// The order of the first commit of any of some incarnations; the end of all if there is none.
    fn first_commit_of(&self, incarnations: &[String]) -> u64 {
        let hashes: Vec<String> = incarnations.iter().map(|id| note_hash(id)).collect();
        let is_of = |a: &&Accepted| {
            a.tp.partition == self.partition
                && CommitNote::parse(&a.commit.metadata).is_ok_and(|note| hashes.iter().any(|h| h == note.topic_hash()))
        };
        self.accepted.iter().find(is_of).map_or(u64::MAX, |a| a.order)
    }
}

/// The owner record of an incarnation. The first one that was claimed has the topic's own name, whichever it was.
async fn owner(store: &MemoryStore, id: &str) -> Option<Owner> {
    for name in [TopicName::new(TOPIC), TopicName::later(TOPIC, id)] {
        let found = store.get(&ControlKeys::new(&Layout::Hive, &name).owner(), None).await.expect("the memory store answers");
        let owner = found.and_then(|record| serde_json::from_slice::<Owner>(&record).ok());
        if let Some(owner) = owner.filter(|owner| owner.topic_id == id) {
            return Some(owner);
        }
    }
    None
}

/// Every data object with its proof.
async fn objects(store: &Arc<MemoryStore>, writings: &BTreeMap<String, Vec<Writing>>, verdict: &mut Verdict) -> Vec<Stored> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = store.list("", false, after.as_deref()).await.expect("the memory store lists");
        for info in page.objects.into_iter().filter(|o| !is_control(&o.key)) {
            let seen = catchment::commit::proof::look(&**store, &Layout::Hive, &info.key).await.expect("the memory store answers");
            let body = store.get(&info.key, None).await.expect("the memory store answers").unwrap_or_default();
            let contents = writings.get(&info.key).map(Vec::as_slice).unwrap_or_default();
            let (visible_at, written_at) = (contents.first().map(|w| w.order), contents.last().map_or(u64::MAX, |w| w.order));
            match seen {
                Some((_, Some(proof))) => found.push(Stored { key: info.key, proof, body, visible_at, written_at }),
                _ => verdict.find(format!("{} has no proof", info.key)),
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return found,
        }
    }
}
