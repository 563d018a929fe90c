//! Planted damage: a backup in which nothing is wrong, one thing in it or about it that is, and what the judge makes of that.

use std::sync::Arc;

use catchment::commit::proof::metadata;
use catchment::intent::{CommitNote, Intent, Tidy, VERSION, note_hash};
use catchment::source::{Committed, Source as _};
use catchment::store::memory::MemoryStore;
use catchment::store::{Guard, Metadata, ObjectStore, Payload};
use catchment_formats::parquet::ParquetDecoder;
use catchment_formats::{Block, Codec, Encoding, Format, Framing, GapCause, LaneId, Missing, RecordView, ValueLayout, segment_encoder};

use super::directed::Directed;
use super::ledger::{KnownEpochs, Ledger, Version};
use super::plan::Plan;
use super::process::TOPIC;
use super::verdict::{Verdict, judge};
use crate::scripted::group::Accepted;

/// Records of the backup; five make an object.
const RECORDS: i64 = 40;

/// Where the values of raw objects are whole, each in its frame.
const RAW: Encoding = Encoding { format: Format::Raw(Framing::Len32), codec: Codec::None };

/// All that is judged.
struct Case {
    directed: Directed,
    store: Arc<MemoryStore>,
    ledger: Ledger,
    accepted: Vec<Accepted>,
    keys: Vec<String>,
}

impl Case {
    async fn of(plan: Plan) -> Self {
        let mut directed = Directed::planned(plan, RECORDS);
        directed.start().await;
        directed.pass(30).await;
        directed.stop().await;
        assert_eq!(directed.committed(), RECORDS);
        let info = directed.shared.cluster.topic(TOPIC).await.expect("the cluster answers").expect("the topic is there");
        let mut ledger = Ledger::default();
        ledger.incarnate(&info.id, 1);
        ledger.look(&directed.shared.world, &directed.shared.cluster, &directed.tp());
        let (store, accepted) = (Arc::clone(&directed.shared.store), directed.group.accepted());
        let keys = directed.objects().await.into_iter().map(|(key, _)| key).collect();
        let case = Self { directed, store, ledger, accepted, keys };
        let verdict = case.verdict().await;
        assert!(verdict.is_good() && case.keys.len() == 8, "{verdict:?} {:?}", case.keys);
        case
    }

    async fn new() -> Self {
        Self::of(Directed::plan()).await
    }

    async fn verdict(&self) -> Verdict {
        judge(&self.directed.shared.world, &self.store, &self.ledger, &self.accepted, &[]).await
    }

    /// Fails unless the judge says this.
    async fn assert_found(&self, parts: &[&str]) -> Verdict {
        let verdict = self.verdict().await;
        for part in parts {
            assert!(verdict.findings.iter().any(|finding| finding.contains(part)), "{part:?} is not in {:#?}", verdict.findings);
        }
        verdict
    }

    async fn body(&self, key: &str) -> Vec<u8> {
        self.store.get(key, None).await.expect("the memory store answers").expect("it stands").to_vec()
    }

    async fn metadata(&self, key: &str) -> Metadata {
        self.store.head(key).await.expect("the memory store answers").expect("it stands").metadata
    }

    /// Behind everybody's back.
    async fn put(&self, key: &str, body: Vec<u8>, metadata: &Metadata) {
        self.store.put(key, Payload::from_bytes(body), metadata, Guard::Overwrite).await.expect("the memory store takes it");
    }

    /// The same objects but one.
    async fn remove(&mut self, gone: &str) {
        let copy = MemoryStore::default();
        for object in self.store.list("", false, None).await.expect("the memory store lists").objects.iter().filter(|o| o.key != gone) {
            let (body, metadata) = (self.body(&object.key).await, self.metadata(&object.key).await);
            copy.put(&object.key, Payload::from_bytes(body), &metadata, Guard::IfAbsent).await.expect("the copy is new");
        }
        self.store = Arc::new(copy);
    }

    /// The object of a key written anew as the object of `lane`, with a value changed or without, and with something listed as missing.
    async fn forge(&self, key: &str, lane: impl Fn(&mut LaneId), value: Option<&[u8]>, missing: &[Missing]) -> (Vec<u8>, Metadata) {
        self.forge_without(key, lane, value, missing, |offset| missing.iter().any(|m| m.covers(offset))).await
    }

    /// The object of a key without the record at an offset, and nothing says so.
    async fn hollow(&self, key: &str, without: i64) {
        let (body, described) = self.forge_without(key, |_| (), None, &[], |offset| offset == without).await;
        self.put(key, body, &described).await;
    }

    async fn forge_without(
        &self,
        key: &str,
        lane: impl Fn(&mut LaneId),
        value: Option<&[u8]>,
        missing: &[Missing],
        without: impl Fn(i64) -> bool,
    ) -> (Vec<u8>, Metadata) {
        let mut decoder = ParquetDecoder::new(bytes::Bytes::from(self.body(key).await)).expect("it is sound");
        let (mut block, mut forged, mut body) = (Block::new(ValueLayout::Plain), Block::new(ValueLayout::Plain), Vec::new());
        let (mut of, range) = (decoder.proof().lane.clone(), decoder.proof().range);
        lane(&mut of);
        assert!(decoder.next_block(&mut block).expect("it is sound"));
        for record in block.iter().filter(|r| !without(r.offset)) {
            let value = value.filter(|_| record.offset == range.start + 1).or(record.value);
            forged.push(&RecordView { value, ..record });
        }
        let mut encoder = segment_encoder(&Encoding::PARQUET_ZSTD1, &of, range.start);
        encoder.append(&forged, &mut body);
        let proof = encoder.finish(range.end, missing, &mut body);
        let described = metadata(&proof);
        (body, described)
    }

    /// The first intent that the group has accepted behind the first object, and its place.
    fn intent(&self) -> (usize, Intent) {
        let found = self.accepted.iter().enumerate().filter_map(|(n, a)| match CommitNote::parse(&a.commit.metadata) {
            Ok(CommitNote::Intent(intent)) if intent.start > 0 => Some((n, *intent)),
            _ => None,
        });
        found.min_by_key(|(n, _)| *n).expect("windows were pinned")
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_stored_twice_or_altered_is_seen() {
    let mut case = Case::new().await;
    let (body, described) = case.forge(&case.keys[1], |_| (), Some(b"changed"), &[]).await;
    case.put(&case.keys[1], body, &described).await;
    let verdict = case.assert_found(&["offset 6 is altered", "has changed since it was visible"]).await;
    assert_eq!((verdict.altered, verdict.lost, verdict.duplicated), (2, 0, 0), "{verdict:?}");

    case.put(&case.keys[1], case.body(&case.keys[2]).await, &case.metadata(&case.keys[2]).await).await;
    let verdict = case.assert_found(&["two objects stand for", "no object stands for", "is stored 2 times", "offset 5 is lost"]).await;
    assert_eq!((verdict.lost, verdict.duplicated), (5, 5), "{verdict:?}");

    let gone = case.keys[1].clone();
    case.remove(&gone).await;
    let verdict = case.assert_found(&["no object stands for", "offset 5 is lost", "has changed since it was visible"]).await;
    assert_eq!((verdict.lost, verdict.duplicated), (5, 0), "{verdict:?}");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_or_says_nothing_is_seen() {
    let case = Case::new().await;
    let (key, body) = (&case.keys[3], case.body(&case.keys[3]).await);
    case.put(key, body[..body.len() - 1].to_vec(), &case.metadata(key).await).await;
    case.assert_found(&[&format!("{key}: "), "offset 15 is lost"]).await;
    case.put(key, b"nothing".to_vec(), &Metadata::new()).await;
    case.assert_found(&[&format!("{key} has no proof")]).await;
}

#[tokio::test(start_paused = true)]
async fn objects_of_nobody_and_records_that_never_were_are_seen() {
    let mut case = Case::new().await;
    let (body, described) = case.forge(&case.keys[1], |lane| lane.topic_id = "7".repeat(32), None, &[]).await;
    let key = case.keys[1].replace(TOPIC, "others");
    case.put(&key, body, &described).await;
    case.assert_found(&["objects of a lane that never was", &format!("{key} was not written by anybody")]).await;
    case.ledger.lane(0).versions.remove(&7);
    case.assert_found(&["offset 7 never was"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_listed_as_missing_must_be_within_pinned_and_explained() {
    let mut case = Case::new().await;
    let gap = Missing(6, 7, GapCause::CorruptBatch);
    let (body, described) = case.forge(&case.keys[1], |_| (), None, &[gap]).await;
    case.put(&case.keys[1], body, &described).await;
    case.assert_found(&["lacks records that no accepted intent lists", "nothing explains the gap"]).await;

    case.ledger.lane(0).corrupt(6..7, true, 0);
    let (n, intent) = case.intent();
    case.accepted[n].commit.metadata = CommitNote::Intent(Box::new(Intent { missing: vec![gap], ..intent })).print();
    let verdict = case.verdict().await;
    assert_eq!(verdict.findings.len(), 1, "only that its bytes have changed: {verdict:?}");

    let (body, described) = case.forge(&case.keys[1], |_| (), None, &[Missing(2, 3, GapCause::CorruptBatch)]).await;
    case.put(&case.keys[1], body, &described).await;
    case.assert_found(&["a missing range lies outside its object's range"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_new_leader_wrote_over_a_stored_record_must_be_listed() {
    let mut case = Case::new().await;
    let anew = Version { hash: [9; 32], value: None, is_due: true, taken: None, since: 0, until: u64::MAX, taken_at: u64::MAX };
    case.ledger.lane(0).versions.entry(8).or_default().push(anew);
    case.assert_found(&["offset 8 was written anew, and that is lost"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_content_is_seen_unless_something_took_a_record_of_it() {
    let mut case = Case::new().await;
    case.directed.shared.world.note_writing(&case.keys[2], 1, Vec::new());
    case.assert_found(&[&format!("{} has changed since it was visible", case.keys[2])]).await;
    for offsets in [5..10, 15..20] {
        case.ledger.lane(0).corrupt(offsets, true, 0);
    }
    assert!(!case.verdict().await.is_good(), "other objects of the lane have lost records, this one has not");
    case.ledger.lane(0).corrupt(14..15, true, u64::MAX);
    assert!(!case.verdict().await.is_good(), "it was taken after the second content was written");
    case.ledger.lane(0).corrupt(14..15, true, 0);
    assert!(case.verdict().await.is_good());
    let gone = case.keys[2].clone();
    case.remove(&gone).await;
    case.assert_found(&["has changed since it was visible"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_holds_less_must_not_replace_one_that_holds_more() {
    let mut case = Case::new().await;
    let world = Arc::clone(&case.directed.shared.world);
    case.ledger.lane(0).retain_from(13, world.order.next());
    world.note_writing(&case.keys[2], 1, vec![Missing(10, 13, GapCause::Retention)]);
    case.assert_found(&[&format!("{} was written again without offset 10", case.keys[2])]).await;
}

#[tokio::test(start_paused = true)]
async fn what_happened_after_an_object_was_written_explains_no_gap_in_it() {
    for (order, is_explained) in [(0, true), (u64::MAX, false)] {
        for cause in [GapCause::Retention, GapCause::Truncation, GapCause::CorruptBatch] {
            let mut case = Case::new().await;
            let lane = case.ledger.lane(0);
            match cause {
                GapCause::Retention => lane.retain_from(7, order),
                GapCause::Truncation => lane.truncate(5..7, 7, order, 1),
                _ => lane.corrupt(5..7, true, order),
            }
            let gap = Missing(5, 7, cause);
            let (body, described) = case.forge(&case.keys[1], |_| (), None, &[gap]).await;
            case.put(&case.keys[1], body, &described).await;
            let found = case.verdict().await.findings.iter().any(|finding| finding.contains("nothing explains the gap"));
            assert_eq!(found, !is_explained, "{gap:?} at {order}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_taken_after_its_object_was_written_has_to_be_in_it() {
    for (order, lost) in [(0, 0), (u64::MAX, 1)] {
        let mut case = Case::new().await;
        case.hollow(&case.keys[1], 6).await;
        case.ledger.lane(0).compact(6, order);
        assert_eq!(case.verdict().await.lost, lost, "compacted at {order}");
    }
    for (order, lost) in [(0, 0), (u64::MAX, 1)] {
        let mut case = Case::new().await;
        case.hollow(&case.keys[1], 6).await;
        case.ledger.lane(0).truncate(6..RECORDS, RECORDS, order, 1);
        assert_eq!(case.verdict().await.lost, lost, "cut at {order}");
    }
}

#[tokio::test(start_paused = true)]
async fn pins_that_come_late_or_differ_are_seen() {
    let mut case = Case::new().await;
    let (n, intent) = case.intent();
    let order = std::mem::replace(&mut case.accepted[n].order, u64::MAX);
    case.assert_found(&["visible before its intent was accepted"]).await;
    case.accepted[n].order = order;
    let other = CommitNote::Intent(Box::new(Intent { end: intent.end + 1, ..intent })).print();
    let again = Accepted { commit: Committed { metadata: other, ..case.accepted[n].commit.clone() }, ..case.accepted[n].clone() };
    case.accepted.insert(n + 1, again);
    case.assert_found(&["two intents were accepted for one start"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_past_what_was_visible_is_seen_though_it_became_visible_later() {
    let mut case = Case::new().await;
    let (n, _) = case.intent();
    case.accepted[n].commit.offset = RECORDS;
    case.assert_found(&[&format!("commit {}: the group has committed {RECORDS}, but the objects end at 5", case.accepted[n].order)]).await;

    let mut case = Case::new().await;
    case.directed.append(5);
    case.ledger.look(&case.directed.shared.world, &case.directed.shared.cluster, &case.directed.tp());
    let last = case.accepted.last_mut().expect("there are commits");
    last.commit.offset = RECORDS + 5;
    let verdict = case.assert_found(&["the group has committed 45, but the objects end at 40", "offset 40 is lost"]).await;
    assert_eq!(verdict.lost, 5, "{verdict:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_begins_before_its_start_is_seen() {
    let case = Case::new().await;
    let key = "_catchment/owners/events.json";
    let owner = String::from_utf8(case.body(key).await).expect("it is JSON").replace("{\"0\":0}", "{\"0\":3}");
    case.put(key, owner.into_bytes(), &Metadata::new()).await;
    case.assert_found(&["the first object begins before the lane's start 3"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_begins_behind_the_beginning_of_the_log_is_seen() {
    let mut case = Case::new().await;
    let gone = case.keys[0].clone();
    case.remove(&gone).await;
    let key = "_catchment/owners/events.json";
    let owner = String::from_utf8(case.body(key).await).expect("it is JSON").replace("{\"0\":0}", "{\"0\":5}");
    case.put(key, owner.into_bytes(), &Metadata::new()).await;
    case.assert_found(&["the lane starts at 5, behind the beginning of the log"]).await;
}

#[tokio::test(start_paused = true)]
async fn commits_that_are_nobodys_notes_are_seen() {
    let mut case = Case::new().await;
    let (n, _) = case.intent();
    case.accepted[n].commit.metadata = String::new();
    case.accepted[n + 1].commit.metadata = case.accepted[n + 1].commit.metadata.replace("\"t\":\"", "\"t\":\"7");
    let orders = [case.accepted[n].order, case.accepted[n + 1].order];
    case.assert_found(&[&format!("commit {} is no note", orders[0]), &format!("commit {} is of a topic that never was", orders[1])]).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_lane_of_a_topic_that_is_gone_had_pinned_must_be_listed() {
    let mut case = Case::new().await;
    let (world, tp) = (Arc::clone(&case.directed.shared.world), case.directed.tp());
    let (_, intent) = case.intent();
    let pinned = Intent { start: RECORDS, end: RECORDS + 5, key: "none".into(), ..intent.clone() };
    let next = Tidy { v: VERSION, t: note_hash("another"), d: intent.d.clone(), start: 0, missing: Vec::new(), last: None };
    let mut commit = |offset, note: CommitNote| {
        let commit = Committed { offset, leader_epoch: -1, metadata: note.print() };
        case.accepted.push(Accepted { order: world.order.next(), member: 1, generation: 1, tp: tp.clone(), commit });
    };
    commit(RECORDS, CommitNote::Intent(Box::new(pinned)));
    case.ledger.delete(world.order.next());
    case.ledger.incarnate("another", 1);
    commit(0, CommitNote::Tidy(next));
    let verdict = case.assert_found(&["nothing says that [40, 45) is lost"]).await;
    assert_eq!((verdict.lost, verdict.findings.len()), (1, 1), "{verdict:?}");
}

/// Where the last value of a raw object begins, with its length before it.
fn last_frame(body: &[u8]) -> usize {
    let (mut at, mut last) = (0, 0);
    while at < body.len() {
        last = at;
        at += 4 + usize::try_from(i32::from_be_bytes(body[at..at + 4].try_into().expect("four bytes"))).unwrap_or(0);
    }
    last
}

#[tokio::test(start_paused = true)]
async fn raw_values_that_differ_lack_or_are_too_many_are_seen() {
    let case = Case::of(Plan { encoding: RAW, ..Directed::plan() }).await;
    let (key, body) = (&case.keys[2], case.body(&case.keys[2]).await);
    let (described, last) = (case.metadata(key).await, last_frame(&body));
    let mut other = body.clone();
    *other.last_mut().expect("it holds values") ^= 1;
    for (bytes, finding) in [
        (other, "the value of offset 14 is another"),
        (body[..last].to_vec(), "ends before offset 14"),
        (body[..body.len() - 1].to_vec(), "offset 14 is lost"),
        ([&body[..], &body[last..]].concat(), "goes on behind its last value"),
    ] {
        case.put(key, bytes, &described).await;
        case.assert_found(&[finding, &format!("{key} has changed")]).await;
    }
}

#[test]
fn what_showed_when_a_commit_was_accepted_is_told_from_what_came_and_went() {
    let mut ledger = Ledger::default();
    ledger.incarnate("topic", 1);
    let lane = ledger.lane(0);
    let version = |since| Version { hash: [1; 32], value: None, is_due: true, taken: None, since, until: u64::MAX, taken_at: u64::MAX };
    (0..3).for_each(|offset| lane.versions.entry(offset).or_default().push(version(0)));
    lane.compact(0, 10);
    assert_eq!([9, 10].map(|order| lane.showed(0..1, order)), [true, false], "compaction took it");
    lane.truncate(1..3, 2, 20, 1);
    (1..3).for_each(|offset| lane.versions.entry(offset).or_default().push(version(20)));
    assert_eq!([19, 21].map(|order| lane.showed(1..2, order)), [true, false], "what was read is written anew, and is listed");
    assert_eq!([19, 21].map(|order| lane.showed(2..3, order)), [true, true], "nobody had read what stood there before");
    lane.retain_from(3, 25);
    assert!(lane.showed(2..3, 30), "what nobody read must be listed, too");
}

#[test]
fn a_cut_is_hidden_only_while_nobody_knew_a_later_epoch() {
    let mut ledger = Ledger::default();
    ledger.incarnate("topic", 1);
    let lane = ledger.lane(0);
    let version = Version { hash: [1; 32], value: None, is_due: true, taken: None, since: 0, until: u64::MAX, taken_at: u64::MAX };
    lane.truncate(0..2, 1, 10, 3);
    lane.versions.entry(0).or_default().push(version);
    let known = |blind: &[(u64, u64)], epochs: &[(u64, i32)]| KnownEpochs { blind: blind.to_vec(), epochs: epochs.to_vec() };
    assert!(!lane.hides(0, |_, _| false, &known(&[], &[])), "it had only to read on");
    assert!(lane.hides(0, |_, _| false, &known(&[(20, 30)], &[(5, 2), (12, 2)])), "the offsets were forgotten before anybody read of it");
    assert!(!lane.hides(0, |_, _| false, &known(&[(20, 30)], &[(12, 3)])), "it had read of the new leader before");
    assert!(!lane.hides(0, |_, _| false, &known(&[(4, 9)], &[])), "it knew an epoch again before the cut");
    assert!(!lane.hides(1, |_, _| false, &known(&[(20, 30)], &[])), "nobody had read so far, or it would be stored");
    assert!(lane.hides(1, |_, _| true, &known(&[(20, 30)], &[])));
    lane.retain_from(1, 25);
    assert!(lane.hides(0, |_, _| false, &known(&[], &[(26, 3)])), "retention came first");
    assert!(!lane.hides(0, |_, _| false, &known(&[], &[(24, 3)])));
}
