//! Planted damage: a backup in which nothing is wrong, one thing in it or about it that is, and what the judge makes of that.

mod case;

use std::sync::Arc;
use std::time::Duration;

use catchment::intent::{CommitNote, Intent, Tidy, VERSION, note_hash};
use catchment::source::Committed;
use catchment::store::Metadata;
use catchment_formats::{Codec, Encoding, Format, Framing, GapCause, Missing};

use case::{Case, RECORDS};

use super::anchors::Forgetting;
use super::directed::Directed;
use super::ledger::Version;
use super::plan::Plan;
use super::process::TOPIC;
use crate::scripted::group::Accepted;

/// Where the values of raw objects are whole, each in its frame.
const RAW: Encoding = Encoding { format: Format::Raw(Framing::Len32), codec: Codec::None };

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
async fn a_cut_that_the_group_alone_knew_of_is_excused_if_the_store_refused_its_anchor_until_the_stop() {
    let (gap, stop) = (Missing(30, RECORDS, GapCause::Truncation), Duration::from_secs(3_600));
    for (is_refused, is_written, is_excused) in [(true, false, true), (false, false, false), (true, true, false)] {
        let mut case = Case::new().await;
        let world = Arc::clone(&case.directed.shared.world);
        let (order, known) = (world.order.next(), world.order.next());
        let lane = case.ledger.lane(0);
        lane.truncate(30..RECORDS, RECORDS, order, 1);
        let anew = Version { hash: [9; 32], value: None, is_due: true, taken: None, since: order, until: u64::MAX, taken_at: u64::MAX };
        lane.versions.entry(35).or_default().push(anew);
        let Intent { t, d, .. } = case.intent().1;
        let note = CommitNote::Tidy(Tidy { v: VERSION, t, d, start: RECORDS, missing: vec![gap], last: None });
        let commit = Committed { offset: RECORDS, leader_epoch: 1, metadata: note.print() };
        case.accepted.push(Accepted { order: known, member: 1, generation: 1, tp: case.directed.tp(), commit });
        world.anchors(|book| {
            if is_refused {
                book.ask(world.order.next(), 0, stop);
            }
            if is_written {
                book.write(world.order.next(), 0, vec![gap]);
            }
            book.forget(Forgetting { order: world.order.next(), stopped_at: stop });
        });
        let found = case.verdict().await.findings;
        assert_eq!(found.is_empty(), is_excused, "{found:?}");
        assert!(is_excused || found[0].contains("offset 35 was written anew, and that is lost"), "{found:?}");
    }
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
