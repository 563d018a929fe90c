//! The invariants of the commit protocol that are about order: PinnedFirst, OneIntent, and NoLoss of every commit.
//!
//! Asked of every cell: the broker has each commit that it ever accepted, whatever a script made it forget, and the store the moments from
//! which each object can have been visible, and surely was.

use std::collections::BTreeMap;
use std::time::Instant;

use catchment::commit::proof;
use catchment::intent::{CommitNote, Intent, is_same_topic};
use catchment::invariants::{Sight, missing_pinned, one_intent, pinned_first};
use catchment::store::key::Layout;
use catchment_formats::{LaneId, Missing, OffsetRange, Proof};

use super::contents::data_keys;
use super::store::HeldStore;
use crate::broker::offsets::Accepted;
use crate::no_loss::{Passed, passed_over};

/// A lane as a key names it: the topic's directory, which says the incarnation too, and the partition.
type Lane = (String, i32);

/// A lane's steps in the order in which they took effect, each with the number of forgettings before it.
type Steps = Vec<(Instant, u32, Sight)>;

/// Everything that is against the invariants.
pub(super) async fn broken(store: &HeldStore, accepted: &[Accepted]) -> Result<Vec<String>, String> {
    let mut lanes: BTreeMap<Lane, Steps> = BTreeMap::new();
    let intents: Vec<(&Accepted, Intent)> = accepted.iter().filter_map(|a| Some((a, intent_of(a)?))).collect();
    for (accepted, intent) in &intents {
        let pinned = Sight::Pinned { range: range_of(intent), key: intent.key.clone() };
        lanes.entry(lane_of(&intent.key)?).or_default().push((accepted.at, accepted.forgettings, pinned));
    }
    let (mut broken, mut objects) = (Vec::new(), Vec::new());
    for key in data_keys(store, "").await? {
        let proof = proof_of(store, &key).await?;
        let since = store.visible_since(&key).ok_or_else(|| format!("{key} is there and was never written"))?;
        broken.extend(unlisted(&proof, &key, &intents));
        let seen = store.seen_at(&key).ok_or_else(|| format!("{key} is there and was never seen"))?;
        objects.push((proof.lane.clone(), seen, proof.range));
        lanes.entry(lane_of(&key)?).or_default().push((since, 0, Sight::Visible { range: proof.range, key }));
    }
    broken.extend(lanes.into_iter().flat_map(|(lane, steps)| in_lane(&lane, steps)));
    broken.extend(lost(accepted, &objects));
    Ok(broken)
}

/// NoLoss of every commit, lane by lane: a partition of a topic, or of one that was made again under its name.
fn lost(accepted: &[Accepted], objects: &[(LaneId, Instant, OffsetRange)]) -> Vec<String> {
    let mut lanes: Vec<(&str, i32, Vec<Passed<Instant>>)> = Vec::new();
    for commit in accepted {
        let Some(passed) = Passed::of(commit.at, commit) else { continue };
        let is_of = |(topic, partition, commits): &&mut (&str, i32, Vec<Passed<Instant>>)| {
            let is_same = commits.first().is_some_and(|first| first.topic_hash == passed.topic_hash);
            is_same && (*topic, *partition) == (commit.topic.as_str(), commit.partition)
        };
        match lanes.iter_mut().find(is_of) {
            Some((.., commits)) => commits.push(passed),
            None => lanes.push((&commit.topic, commit.partition, vec![passed])),
        }
    }
    let judged = lanes.into_iter().flat_map(|(topic, partition, commits)| {
        let hash = commits.first().map(|first| first.topic_hash.clone()).unwrap_or_default();
        let is_its = |lane: &LaneId| (lane.topic.as_str(), lane.partition) == (topic, partition) && is_same_topic(&hash, &lane.topic_id);
        let its: Vec<_> = objects.iter().filter(|(lane, ..)| is_its(lane)).map(|(_, seen, range)| (*seen, *range)).collect();
        passed_over(&commits, &its).into_iter().map(move |violation| format!("{topic} {partition}: {violation} ({violation:?})"))
    });
    judged.collect()
}

fn intent_of(accepted: &Accepted) -> Option<Intent> {
    match CommitNote::parse(&accepted.commit.metadata) {
        Ok(CommitNote::Intent(intent)) => Some(*intent),
        _ => None,
    }
}

fn range_of(intent: &Intent) -> OffsetRange {
    OffsetRange::new(intent.start, intent.end)
}

fn lane_of(key: &str) -> Result<Lane, String> {
    let parsed = Layout::Hive.parse_key(key).ok_or_else(|| format!("{key} is not the key of a data object"))?;
    Ok((parsed.topic_path, parsed.partition))
}

async fn proof_of(store: &HeldStore, key: &str) -> Result<Proof, String> {
    let found = proof::look(store, &Layout::Hive, key).await.map_err(|e| e.to_string())?;
    found.and_then(|(_, proof)| proof).ok_or_else(|| format!("{key} has no proof"))
}

/// What an object lacks although no pin says so.
fn unlisted(proof: &Proof, key: &str, intents: &[(&Accepted, Intent)]) -> Option<String> {
    let of_key = intents.iter().filter(|(_, intent)| intent.key == key);
    let pinned: Vec<(OffsetRange, Vec<Missing>)> = of_key.map(|(_, intent)| (range_of(intent), intent.missing.clone())).collect();
    missing_pinned(proof.range, &proof.missing, &pinned).map(|violation| format!("{key}: {violation}"))
}

/// What a lane did against its order. A group that has forgotten a pin may accept another one of the same start.
fn in_lane(lane: &Lane, mut steps: Steps) -> Vec<String> {
    steps.sort_by_key(|(at, ..)| *at);
    let sights: Vec<Sight> = steps.iter().map(|(.., sight)| sight.clone()).collect();
    let mut violations = pinned_first(&sights);
    let ages: std::collections::BTreeSet<u32> = steps.iter().map(|(_, age, _)| *age).collect();
    for age in ages {
        let of_age: Vec<Sight> = steps.iter().filter(|(_, of, _)| *of == age).map(|(.., sight)| sight.clone()).collect();
        violations.extend(one_intent(&of_age));
    }
    violations.into_iter().map(|violation| format!("{lane:?}: {violation} ({violation:?})")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use catchment::intent::note_hash;

    use super::*;
    use crate::broker::offsets::{Commit, Shown};

    const KEY: &str = "t/dt=2025-11-24/hour=16/t+0+00000000000000000000.parquet";

    fn steps(of: &[(u64, u32, Sight)]) -> Steps {
        let began = Instant::now();
        of.iter().map(|(at, age, sight)| (began + Duration::from_millis(*at), *age, sight.clone())).collect()
    }

    fn pinned(end: i64) -> Sight {
        Sight::Pinned { range: OffsetRange::new(0, end), key: KEY.to_owned() }
    }

    #[test]
    fn the_order_is_that_of_time() {
        let visible = Sight::Visible { range: OffsetRange::new(0, 50), key: KEY.to_owned() };
        let lane = lane_of(KEY).expect("a key");
        assert_eq!(lane, ("t".to_owned(), 0));
        assert_eq!(in_lane(&lane, steps(&[(2, 0, visible.clone()), (1, 0, pinned(50))])), [""; 0]);
        assert_eq!(in_lane(&lane, steps(&[(1, 0, visible.clone()), (2, 0, pinned(50))])).len(), 1, "visible before its pin");
        assert_eq!(in_lane(&lane, steps(&[(1, 0, pinned(50)), (2, 0, pinned(60))])).len(), 1, "two ends of one start");
        assert_eq!(in_lane(&lane, steps(&[(1, 0, pinned(50)), (2, 1, pinned(60))])), [""; 0], "the first one is forgotten");
    }

    #[test]
    fn a_commit_past_what_was_seen_by_then_is_told() {
        let began = Instant::now();
        let after = |ms| began + Duration::from_millis(ms);
        let commit = |at, partition, offset: i64| Accepted {
            at: after(at),
            order: 0,
            forgettings: 0,
            topic: "t".to_owned(),
            partition,
            commit: Commit { offset, leader_epoch: 0, metadata: format!(r#"{{"v":1,"t":"{}","d":"","S":0}}"#, note_hash("i")) },
            shown: Shown { topic_id: "i".to_owned(), offsets: (0..60).collect() },
        };
        let lane = |topic_id: &str, partition| LaneId {
            rule: "r".to_owned(),
            cluster: "c".to_owned(),
            topic: "t".to_owned(),
            topic_id: topic_id.to_owned(),
            partition,
        };
        let object = |topic_id, partition, at| (lane(topic_id, partition), after(at), OffsetRange::new(0, 50));
        let commits = [commit(0, 0, 0), commit(0, 1, 0), commit(2, 0, 50), commit(4, 1, 50)];
        assert_eq!(lost(&commits, &[object("i", 0, 1), object("i", 1, 3)]), [""; 0]);
        assert_eq!(lost(&commits, &[object("i", 0, 3), object("i", 1, 3)]).len(), 1, "seen too late");
        assert_eq!(lost(&commits, &[object("i", 0, 1)]).len(), 1, "another partition's object");
        assert_eq!(lost(&commits, &[object("i", 0, 1), object("j", 1, 3)]).len(), 1, "another topic's object");
    }
}
