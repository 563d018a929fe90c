//! What was pinned, what became visible and what was committed of each lane, in the order in which it took effect, held against the protocol's invariants.
//!
//! Broker and store number what happens in them together: a commit when the coordinator accepts it, an object when it first becomes visible.

use std::collections::BTreeMap;

use catchment::commit::proof;
use catchment::intent::{CommitNote, Intent};
use catchment::invariants::{Sight, Violation, missing_pinned, one_intent, pinned_first};
use catchment::store::ObjectStore;
use catchment::store::key::Layout;
use catchment_formats::{Missing, OffsetRange};

use crate::broker::offsets::Accepted;
use crate::no_loss::{Passed, passed_over};
use crate::s3::Version;

/// A data object.
pub(super) struct Object {
    /// When it first became visible.
    order: u64,
    key: String,
    range: OffsetRange,
    missing: Vec<Missing>,
}

/// The data objects below a prefix with what their proofs say, out of all versions that a store had.
pub(super) async fn objects(
    store: &dyn ObjectStore,
    prefix: &str,
    versions: &BTreeMap<String, Vec<Version>>,
) -> Result<Vec<Object>, String> {
    let mut objects = Vec::new();
    for (key, versions) in versions.iter().filter(|(key, _)| key.starts_with(prefix)) {
        let found = proof::look(store, &Layout::Hive, key).await.map_err(|e| format!("{key}: {e}"))?;
        let proof = found.and_then(|(_, proof)| proof).ok_or_else(|| format!("{key} has no proof"))?;
        objects.push(Object { order: versions[0].order, key: key.clone(), range: proof.range, missing: proof.missing });
    }
    Ok(objects)
}

/// The intents among what a group has accepted for a partition.
pub(super) fn intents<'a>(accepted: impl Iterator<Item = (u64, &'a str)>) -> Vec<(u64, Intent)> {
    let notes = accepted.filter_map(|(order, metadata)| Some((order, CommitNote::parse(metadata).ok()?)));
    let intents = notes.filter_map(|(order, note)| match note {
        CommitNote::Intent(intent) => Some((order, *intent)),
        CommitNote::Tidy(_) => None,
    });
    intents.collect()
}

/// NoLoss, of every commit that was accepted for one lane.
pub(super) fn lost(accepted: &[Accepted], objects: &[Object]) -> Vec<Violation> {
    let commits: Vec<Passed<u64>> = accepted.iter().filter_map(|accepted| Passed::of(accepted.order, accepted)).collect();
    let objects: Vec<(u64, OffsetRange)> = objects.iter().map(|object| (object.order, object.range)).collect();
    passed_over(&commits, &objects)
}

/// PinnedFirst, with what objects lack, and OneIntent, for one lane.
pub(super) fn broken(pins: &[(u64, Intent)], objects: &[Object]) -> Vec<Violation> {
    let range = |intent: &Intent| OffsetRange::new(intent.start, intent.end);
    let pinned = pins.iter().map(|(order, i)| (*order, Sight::Pinned { range: range(i), key: i.key.clone() }));
    let visible = objects.iter().map(|o| (o.order, Sight::Visible { range: o.range, key: o.key.clone() }));
    let sights: Vec<Sight> = pinned.chain(visible).collect::<BTreeMap<u64, Sight>>().into_values().collect();
    let accepted: Vec<_> = pins.iter().map(|(_, i)| (range(i), i.missing.clone())).collect();
    let lacking = objects.iter().filter_map(|o| missing_pinned(o.range, &o.missing, &accepted));
    pinned_first(&sights).into_iter().chain(one_intent(&sights)).chain(lacking).collect()
}

#[cfg(test)]
mod tests {
    use catchment_formats::GapCause;

    use super::*;
    use crate::broker::offsets::{Commit, Shown};

    fn pin(order: u64, start: i64, end: i64, missing: &[Missing]) -> (u64, Intent) {
        let missing = serde_json::to_string(missing).expect("plain ranges");
        let note = format!(
            r#"{{"v":1,"S":{start},"E":{end},"missing":{missing},"key":"t0/k{start}","enc":"parquet","t":"","d":"","at":0,"nonce":""}}"#
        );
        intents([(order, note.as_str())].into_iter()).swap_remove(0)
    }

    fn object(order: u64, start: i64, end: i64, missing: &[Missing]) -> Object {
        Object { order, key: format!("t0/k{start}"), range: OffsetRange::new(start, end), missing: missing.to_vec() }
    }

    #[test]
    fn what_was_pinned_first_and_once_breaks_nothing() {
        let gap = [Missing(3, 5, GapCause::Retention)];
        let pins = [pin(0, 0, 10, &[]), pin(1, 0, 10, &[]), pin(3, 10, 20, &gap)];
        assert_eq!(broken(&pins, &[object(2, 0, 10, &[]), object(4, 10, 20, &gap)]), []);
        assert_eq!(intents([(0, r#"{"v":1,"t":"","d":"","S":10}"#), (1, "")].into_iter()), [], "a tidy pins nothing");
    }

    #[test]
    fn what_was_not_pinned_or_twice_or_lacks_more_is_seen() {
        let (gap, first) = ([Missing(3, 5, GapCause::Retention)], pin(1, 0, 10, &[]));
        assert_eq!(broken(std::slice::from_ref(&first), &[object(0, 0, 10, &[])]), [Violation::NotPinned { sight: 0 }]);
        let range = OffsetRange::new(0, 10);
        assert_eq!(broken(std::slice::from_ref(&first), &[object(2, 0, 10, &gap)]), [Violation::MissingNotPinned { range }]);
        assert_eq!(broken(&[first, pin(2, 0, 9, &[])], &[]), [Violation::TwoIntents { first: 0, second: 1 }]);
    }

    #[test]
    fn a_commit_past_what_was_visible_by_then_is_seen() {
        let commit = |order, offset: i64| Accepted {
            at: std::time::Instant::now(),
            order,
            forgettings: 0,
            topic: "t0".to_owned(),
            partition: 0,
            commit: Commit { offset, leader_epoch: 0, metadata: format!(r#"{{"v":1,"t":"","d":"","S":{offset}}}"#) },
            shown: Shown { topic_id: "0".to_owned(), offsets: (0..20).collect() },
        };
        let objects = [object(2, 0, 10, &[]), object(5, 10, 20, &[])];
        assert_eq!(lost(&[commit(0, 0), commit(3, 10), commit(6, 20)], &objects), []);
        let violation = Violation::CommittedPastVisible { committed: 20, visible_end: 10 };
        assert_eq!(lost(&[commit(0, 0), commit(4, 20)], &objects), [violation]);
    }
}
