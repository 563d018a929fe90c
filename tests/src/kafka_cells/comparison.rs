//! Comparing what a cell's runs have stored with what the script made visible, and what the group has with where the log ends.

use std::sync::Arc;

use catchment::intent::CommitNote;
use catchment::store::ObjectStore;
use catchment::verify::{Place, verify};

use super::Check;
use super::bench::{Bench, GROUP, TOPIC};
use super::contents::{Expected, compare};
use crate::broker::cluster::Cluster;
use crate::broker::offsets::Commit;

impl Bench {
    /// What is visible now.
    pub(crate) fn expected(&self) -> Expected {
        self.script(|cluster| {
            let mut expected = Expected::default();
            for (number, partition) in (0..).zip(&cluster.topics[TOPIC].partitions) {
                expected.add(number, partition.log.visible());
            }
            expected
        })
    }

    /// Compares everything that is visible now with what is stored; nothing may be missing.
    pub(crate) async fn compare(&mut self) -> Check {
        self.compare_with(self.expected(), &[]).await
    }

    /// Compares what is stored with what is expected, less these gaps, which must be listed: (partition, from, to, cause). Verifies the objects
    /// by the invariants too, and that the group has nothing left to do.
    pub(crate) async fn compare_with(&mut self, expected: Expected, gaps: &[(i32, i64, i64, &str)]) -> Check {
        self.compare_unfinished(expected, gaps).await?;
        self.script(ends_and_commits).iter().find_map(|(end, commit)| undone(*end, commit.as_ref())).map_or(Ok(()), Err)
    }

    /// The same where the group has something left to do.
    async fn compare_unfinished(&mut self, mut expected: Expected, gaps: &[(i32, i64, i64, &str)]) -> Check {
        for (partition, from, to, _) in gaps {
            expected.without(*partition, *from, *to);
        }
        self.compare_below("", &expected).await?;
        self.verify(gaps).await
    }

    /// Compares what is stored by the lane of partition 0 when it has stopped: everything up to `end`, which is committed, and nothing behind it.
    pub(crate) async fn compare_stopped(&mut self, end: i64) -> Check {
        let mut expected = self.expected();
        expected.without(0, end, i64::MAX);
        self.compare_stopped_with(expected, end).await
    }

    /// The same where the log does not show any more what was stored.
    pub(crate) async fn compare_stopped_with(&mut self, expected: Expected, end: i64) -> Check {
        let commit = self.group(|group| group.offsets.get(TOPIC, 0).cloned());
        undone(end, commit.as_ref()).map_or(Ok(()), Err)?;
        self.compare_unfinished(expected, &[]).await
    }

    /// Compares what is stored below a prefix.
    pub(crate) async fn compare_below(&mut self, prefix: &str, expected: &Expected) -> Check {
        let difference = compare(&*self.store, prefix, expected).await?;
        let count = |list: &[(i32, i64)]| list.len() as u64;
        self.tally.compared += expected.len() as u64;
        self.tally.lost += count(&difference.lost);
        self.tally.duplicated += count(&difference.duplicated);
        self.tally.altered += count(&difference.altered);
        self.tally.foreign += count(&difference.foreign);
        if difference.is_none() { Ok(()) } else { Err(difference.to_string()) }
    }

    /// The objects by the invariants, and their gaps.
    pub(crate) async fn verify(&self, gaps: &[(i32, i64, i64, &str)]) -> Check {
        let place = Place::new(Arc::clone(&self.store) as Arc<dyn ObjectStore>, "");
        let report = verify(&place, None, |_| ()).await.map_err(|e| format!("verify: {e}"))?;
        if !report.damage.is_empty() {
            return Err(format!("verify found damage: {:?}", report.damage));
        }
        let listed: Vec<_> = report.gaps.iter().map(|g| (g.partition, g.from, g.to, g.cause)).collect();
        if listed != gaps {
            return Err(format!("the gaps are {listed:?} and should be {gaps:?}"));
        }
        Ok(())
    }
}

/// Where each partition ends for a reader, and what the group has of it.
fn ends_and_commits(cluster: &mut Cluster) -> Vec<(i64, Option<Commit>)> {
    let ends: Vec<i64> = cluster.topics.get(TOPIC).map_or(Vec::new(), |t| t.partitions.iter().map(|p| p.log.stable_end()).collect());
    let offsets = &cluster.groups.group(GROUP).offsets;
    (0..).zip(ends).map(|(partition, end)| (end, offsets.get(TOPIC, partition).cloned())).collect()
}

/// What is left to do in a partition that ends here, if anything is.
fn undone(end: i64, commit: Option<&Commit>) -> Option<String> {
    let is_done = |commit: &Commit| commit.offset == end && matches!(CommitNote::parse(&commit.metadata), Ok(CommitNote::Tidy(_)));
    (!commit.is_some_and(is_done)).then(|| format!("the partition ends at {end}, and the group has {commit:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_done_when_its_end_is_committed_and_nothing_is_pinned() {
        let commit = |offset, metadata: &str| Some(Commit { offset, leader_epoch: 0, metadata: metadata.to_owned() });
        let tidy = r#"{"v":1,"t":"","d":"","S":40}"#;
        let pin = r#"{"v":1,"S":40,"E":50,"missing":[],"key":"k","enc":"parquet","t":"","d":"","at":0,"nonce":""}"#;
        assert_eq!(undone(50, commit(50, tidy).as_ref()), None);
        for (offset, metadata) in [(49, tidy), (51, tidy), (50, pin), (50, "")] {
            assert!(undone(50, commit(offset, metadata).as_ref()).is_some(), "{offset} {metadata}");
        }
        assert!(undone(50, None).is_some());
    }
}
