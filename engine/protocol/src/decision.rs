//! The decisions of the commit protocol: what a failed publish means, what is found under a key, what to do next, and what a position, a pin's age and a
//! log's start say. Pure.

use std::time::Duration;

use catchment_formats::{GapCause, LaneId, Missing, Proof};

use crate::intent::Intent;
use crate::store::StoreErrorKind;

/// What stands under the key of an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing.
    Absent,
    /// The pinned range of the same lane: ours, whoever sent it.
    Ours,
    /// The same lane and start, but another end. It cannot happen while the fence holds.
    OtherEnd(i64),
    /// Another lane's object, or one that does not say whose it is.
    Foreign(String),
}

/// Compares what an object says of itself with an intent of `lane`.
pub fn compare(intent: &Intent, lane: &LaneId, stored: Option<&Proof>) -> Finding {
    let Some(proof) = stored else {
        return Finding::Foreign("the object has no readable proof".into());
    };
    if !proof.lane.is_same_lane(lane) {
        return Finding::Foreign(format!("the object belongs to {:?}", proof.lane));
    }
    if proof.range.start != intent.start {
        return Finding::Foreign(format!("the object's range is {}", proof.range));
    }
    if proof.range.end == intent.end { Finding::Ours } else { Finding::OtherEnd(proof.range.end) }
}

/// What to do next with a pinned window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is visible, and its end is this.
    Settled(i64),
    /// HEAD the key.
    Look,
    /// Wait, then send the same request again.
    Repeat,
    /// The upload is gone: read the range again and publish it anew.
    Rebuild,
    /// Wait, name what is missing, then HEAD the key.
    AwaitPermission,
    /// Stop the lane: the key is taken by something else.
    StopForeign(String),
    /// Stop the lane and keep the intent: the store refuses this request for good.
    StopRefused,
}

/// Judges the answer to PutObject or CompleteMultipartUpload (step 5 of the protocol).
pub fn after_publish(answer: Result<(), StoreErrorKind>, end: i64) -> Next {
    match answer {
        Ok(()) => Next::Settled(end),
        Err(StoreErrorKind::Denied) => Next::AwaitPermission,
        Err(StoreErrorKind::Invalid | StoreErrorKind::NotFound) => Next::StopRefused,
        Err(StoreErrorKind::Exists | StoreErrorKind::Conflict | StoreErrorKind::NoSuchUpload | StoreErrorKind::Unknown) => Next::Look,
    }
}

/// Judges what was found after a publish that did not answer with success.
pub fn after_look(answer: StoreErrorKind, finding: &Finding, intent: &Intent) -> Next {
    match finding {
        Finding::Ours => Next::Settled(intent.end),
        Finding::OtherEnd(end) => Next::Settled(*end),
        Finding::Foreign(why) => Next::StopForeign(why.clone()),
        Finding::Absent => match answer {
            // The upload cannot be completed any more, or a conflict took it: another upload or PUT of the same range.
            StoreErrorKind::NoSuchUpload | StoreErrorKind::Conflict if intent.upload.is_some() => Next::Rebuild,
            _ => Next::Repeat,
        },
    }
}

/// What Kafka has lost of an intent's range since it was pinned, by where its log starts now (rule R5c). None: nothing but what the intent lists.
pub fn lost_since_pin(intent: &Intent, position: i64, log_start: i64) -> Option<Missing> {
    let log_start = log_start.min(intent.end);
    let lost = log_start > position && !is_listed(&intent.missing, position, log_start);
    lost.then_some(Missing(position, log_start, GapCause::Retention))
}

fn is_listed(missing: &[Missing], from: i64, to: i64) -> bool {
    let mut at = from;
    for m in missing.iter().filter(|m| m.is_of_this_log()) {
        if m.0 <= at && m.1 > at {
            at = m.1;
        }
    }
    at >= to
}

/// Known missing ranges and one more at the beginning of what is read, without an overlap. What lies before it, or is of an earlier incarnation,
/// stays.
pub fn with_gap(missing: &[Missing], gap: Missing) -> Vec<Missing> {
    let (mut known, rest): (Vec<Missing>, Vec<Missing>) = missing.iter().copied().partition(|m| m.1 <= gap.0 || !m.is_of_this_log());
    known.push(gap);
    known.extend(rest.iter().filter(|m| m.1 > gap.1).map(|m| Missing(m.0.max(gap.1), m.1, m.2)));
    known
}

/// Where the ranges that truncations took begin, if they reach up to `position`; else `position`. Ranges ascend.
pub fn truncated_from(missing: &[Missing], position: i64) -> i64 {
    let cut = missing.iter().rev().filter(|m| m.2 == GapCause::Truncation);
    cut.fold(position, |from, m| if m.1 >= from { from.min(m.0) } else { from })
}

/// The lowest offset below `position` whose record is known to be another one than was read, by what the next two objects list as missing; the position if
/// there is none.
pub fn written_anew_from(missing: &[Missing], pending: &[Missing], position: i64) -> i64 {
    truncated_from(missing, position).min(truncated_from(pending, position))
}

/// Whether a pin is so young that nobody can have given its requests up: by the wall clock, which may have been set, and by the time since this process saw
/// it accepted, which may have stood still while the machine slept. Both must say so.
pub fn is_young(pinned_at_ms: i64, wall_ms: i64, since_accepted: Duration, age_max: Duration) -> bool {
    let age = wall_ms.saturating_sub(pinned_at_ms);
    since_accepted <= age_max && (0..=millis(age_max)).contains(&age)
}

/// How long a request of a pin may still be on its way, by the wall clocks of this machine and of the one that has pinned it, which may lie this far apart.
pub fn on_its_way_for(pinned_at_ms: i64, wall_ms: i64, deadline: Duration, clocks_apart: Duration) -> Duration {
    let until = pinned_at_ms.saturating_add(millis(deadline)).saturating_add(millis(clocks_apart));
    Duration::from_millis(u64::try_from(until.saturating_sub(wall_ms)).unwrap_or(0))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use catchment_formats::{Counts, Digest, OffsetRange};

    use super::*;
    use crate::intent::{UploadNote, VERSION};

    fn lane(topic: &str) -> LaneId {
        LaneId { rule: "r".into(), cluster: "c".into(), topic: topic.into(), topic_id: "0".into(), partition: 1 }
    }

    fn intent(upload: bool) -> Intent {
        Intent {
            v: VERSION,
            start: 10,
            end: 20,
            missing: vec![],
            key: "k".into(),
            enc: "parquet.zstd1.v1".into(),
            t: String::new(),
            d: String::new(),
            at: 0,
            nonce: String::new(),
            last: None,
            pending: vec![],
            end_last: None,
            upload: upload.then(|| UploadNote { id: "u".into(), parts: 1, bytes: 1, digest: String::new() }),
        }
    }

    fn proof(topic: &str, start: i64, end: i64) -> Proof {
        Proof {
            lane: lane(topic),
            range: OffsetRange::new(start, end),
            missing: vec![],
            counts: Counts::default(),
            digest: Digest { values: 0, rest: 0 },
            encoding: "parquet.zstd1.v1".into(),
            size: None,
        }
    }

    #[test]
    fn only_lane_start_and_end_make_an_object_ours() {
        let mine = lane("a");
        assert_eq!(compare(&intent(false), &mine, Some(&proof("a", 10, 20))), Finding::Ours);
        assert_eq!(compare(&intent(false), &mine, Some(&proof("a", 10, 25))), Finding::OtherEnd(25));
        assert!(matches!(compare(&intent(false), &mine, Some(&proof("a", 11, 20))), Finding::Foreign(_)));
        assert!(matches!(compare(&intent(false), &mine, Some(&proof("b", 10, 20))), Finding::Foreign(_)));
        let upgraded = LaneId { topic_id: "5".repeat(32), ..lane("a") };
        assert_eq!(compare(&intent(false), &upgraded, Some(&proof("a", 10, 20))), Finding::Ours, "written when the broker had no UUIDs");
        assert!(matches!(compare(&intent(false), &mine, None), Finding::Foreign(_)));
    }

    #[test]
    fn what_retention_took_since_a_pin_is_what_the_intent_does_not_list() {
        let missing = |from, to| Missing(from, to, GapCause::Retention);
        let with = |list: &[Missing]| Intent { missing: list.to_vec(), ..intent(false) };
        assert_eq!(lost_since_pin(&with(&[]), 12, 12), None);
        assert_eq!(lost_since_pin(&with(&[]), 12, 15), Some(missing(12, 15)));
        assert_eq!(lost_since_pin(&with(&[]), 12, 50), Some(missing(12, 20)), "what lies behind the range is the next one's");
        assert_eq!(lost_since_pin(&with(&[missing(12, 15)]), 12, 15), None);
        assert_eq!(lost_since_pin(&with(&[missing(12, 13), missing(13, 15)]), 12, 15), None, "listed in two pieces");
        assert_eq!(lost_since_pin(&with(&[missing(12, 13), missing(14, 15)]), 12, 15), Some(missing(12, 15)), "a hole between them");
    }

    #[test]
    fn a_gap_at_the_beginning_swallows_what_it_covers_and_cuts_what_it_meets() {
        let missing = |from, to| Missing(from, to, GapCause::CorruptBatch);
        let gap = Missing(0, 10, GapCause::Retention);
        assert_eq!(with_gap(&[missing(2, 4), missing(8, 12), missing(15, 16)], gap), [gap, missing(10, 12), missing(15, 16)]);
        assert_eq!(with_gap(&[], gap), [gap]);
        assert_eq!(with_gap(&[missing(4, 10)], gap), [gap], "what ends with the gap is in it");
        let gap = Missing(20, 30, GapCause::Retention);
        let before = [Missing(5, 20, GapCause::Truncation), Missing(0, 25, GapCause::TopicRecreated)];
        assert_eq!(with_gap(&before, gap), [before[0], before[1], gap], "nobody else remembers these");
    }

    #[test]
    fn truncations_that_reach_the_position_say_from_where_it_was_written_anew() {
        let cut = |from, to| Missing(from, to, GapCause::Truncation);
        let other = |from, to| Missing(from, to, GapCause::Retention);
        assert_eq!(truncated_from(&[], 20), 20);
        assert_eq!(truncated_from(&[cut(5, 12), cut(12, 20)], 20), 5, "one behind the other");
        assert_eq!(truncated_from(&[cut(5, 11), cut(12, 20)], 20), 12, "a hole between them");
        assert_eq!(truncated_from(&[cut(5, 19)], 20), 20, "it does not reach the position");
        assert_eq!(truncated_from(&[cut(5, 25)], 20), 5);
        assert_eq!(truncated_from(&[other(5, 20)], 20), 20, "lost, not written anew");
        assert_eq!(truncated_from(&[cut(5, 20), cut(12, 20)], 20), 5, "the one that begins first");
    }

    #[test]
    fn only_ranges_without_a_hole_between_them_list_a_loss() {
        let missing = |from, to| Missing(from, to, GapCause::Retention);
        assert!(is_listed(&[missing(0, 5), missing(5, 9)], 0, 9));
        assert!(!is_listed(&[missing(0, 5), missing(6, 9)], 0, 9));
        assert!(!is_listed(&[Missing(0, 9, GapCause::TopicRecreated)], 0, 9), "those were another log's");
        assert!(!is_listed(&[missing(1, 9)], 0, 9) && !is_listed(&[missing(0, 9)], 0, 10));
        assert!(is_listed(&[missing(0, 20), missing(3, 5)], 0, 20), "a range within another one takes nothing back");
    }

    #[test]
    fn no_failed_answer_is_taken_for_success_or_failure_without_a_look() {
        use StoreErrorKind as K;
        for kind in [K::Exists, K::Conflict, K::NoSuchUpload, K::Unknown] {
            assert_eq!(after_publish(Err(kind), 20), Next::Look);
        }
        assert_eq!(after_publish(Err(K::Denied), 20), Next::AwaitPermission);
        assert_eq!(after_publish(Err(K::Invalid), 20), Next::StopRefused);
        assert_eq!(after_publish(Ok(()), 20), Next::Settled(20));
    }

    #[test]
    fn an_absent_object_is_sent_again_and_a_lost_upload_is_rebuilt() {
        use StoreErrorKind as K;
        assert_eq!(after_look(K::Unknown, &Finding::Absent, &intent(true)), Next::Repeat);
        assert_eq!(after_look(K::NoSuchUpload, &Finding::Absent, &intent(true)), Next::Rebuild);
        assert_eq!(after_look(K::Conflict, &Finding::Absent, &intent(true)), Next::Rebuild);
        assert_eq!(after_look(K::Conflict, &Finding::Absent, &intent(false)), Next::Repeat);
        assert_eq!(after_look(K::Exists, &Finding::OtherEnd(7), &intent(false)), Next::Settled(7));
        assert!(matches!(after_look(K::Exists, &Finding::Foreign("x".into()), &intent(false)), Next::StopForeign(_)));
    }

    #[test]
    fn what_the_intent_lists_and_what_is_pending_say_from_where_the_log_was_written_anew() {
        let cut = |from, to| Missing(from, to, GapCause::Truncation);
        assert_eq!(written_anew_from(&[cut(9, 20)], &[cut(7, 20)], 20), 7);
        assert_eq!(written_anew_from(&[cut(6, 20)], &[], 20), 6);
    }

    #[test]
    fn a_pin_is_young_only_if_both_clocks_say_so() {
        let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
        assert!(is_young(1_000, 1_000, Duration::ZERO, minute) && is_young(1_000, 61_000, minute, minute));
        assert!(!is_young(1_000, 61_001, second, minute), "old by the wall clock");
        assert!(!is_young(1_000, 999, second, minute), "a clock that was set back says nothing");
        assert!(!is_young(1_000, 1_000, minute + Duration::from_nanos(1), minute), "old by the clock that is never set");
        assert!(is_young(0, i64::MAX, second, Duration::MAX), "no limit at all");
    }

    #[test]
    fn a_request_is_on_its_way_until_its_deadline_by_the_slower_clock() {
        let for_ms = |pinned, now| on_its_way_for(pinned, now, Duration::from_secs(10), Duration::from_secs(5)).as_millis();
        assert_eq!((for_ms(1_000, 1_000), for_ms(1_000, 15_999), for_ms(1_000, 16_000), for_ms(1_000, 50_000)), (15_000, 1, 0, 0));
        assert_eq!(for_ms(1_000, 0), 16_000, "the other clock goes first");
        assert_eq!(on_its_way_for(i64::MAX, 0, Duration::MAX, Duration::MAX), Duration::from_millis(i64::MAX as u64));
    }
}
