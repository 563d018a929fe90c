//! What stands in the topics: a function of topic and offset, with an aborted transaction in the midst of each.

use catchment::verify::Gap;
use catchment_formats::GapCause;

use crate::broker::batches::{Batch, Origin, Record};
use crate::broker::cluster::Cluster;
use crate::kafka_cells::contents::Expected;
use crate::kafka_cells::data::{large_record, record};

/// Topics of one partition each. More than one, so that lanes pass a point at the same time, and so that there is a second time for what happens once a topic.
pub(super) const TOPICS: usize = 4;

/// Offsets of a topic: three windows of one second.
const OFFSETS: i64 = 150;

/// Records of a batch.
const BATCH: i64 = 10;

/// Where the aborted batch begins.
const ABORTED_AT: i64 = 60;

/// Its producer.
const PRODUCER: i64 = 77;

/// Bytes of a record that makes windows large. A window's fifty pass four parts of [`PART_BYTES`](super::bench::PART_BYTES), from where on it is an upload.
const LARGE_BYTES: usize = 7_000;

/// A topic's name.
pub(super) fn topic(n: usize) -> String {
    format!("t{n}")
}

/// Makes the topics and fills them, with large records or small ones.
pub(super) fn fill(cluster: &mut Cluster, large: bool) {
    for n in 0..TOPICS {
        cluster.make_topic(&topic(n), 1);
        let log = &mut cluster.partition(&topic(n), 0).log;
        while log.end() < OFFSETS {
            let next = log.end();
            let records: Vec<Record> = (next..(next + BATCH).min(OFFSETS)).map(|offset| content(n, offset, large)).collect();
            if next == ABORTED_AT {
                log.append(Batch::of(records).in_transaction(PRODUCER));
                log.append(Batch::marker(Origin::Abort(PRODUCER)));
            } else {
                log.append(Batch::of(records));
            }
        }
    }
}

/// The records of the topics differ, and so do those of the offsets.
fn content(topic: usize, offset: i64, large: bool) -> Record {
    let topic = i32::try_from(topic).expect("a small number");
    if large { large_record(i64::from(topic) * 1000 + offset, LARGE_BYTES) } else { record(topic, offset) }
}

/// A range that is missing: topic, partition, first offset, the one behind it, why.
pub(super) type Range = (String, i32, i64, i64, &'static str);

/// What must be listed as missing of a topic. Retention takes nothing here but what is pinned and not stored.
pub(super) fn missing(cluster: &mut Cluster, n: usize) -> Option<Range> {
    taken(n, cluster.partition(&topic(n), 0).log.start())
}

fn taken(n: usize, log_start: i64) -> Option<Range> {
    (log_start > 0).then(|| (topic(n), 0, 0, log_start, GapCause::Retention.as_str()))
}

/// The same of what `verify` has found.
pub(super) fn listed(gaps: &[Gap]) -> Vec<Range> {
    gaps.iter().map(|gap| (gap.topic.clone(), gap.partition, gap.from, gap.to, gap.cause)).collect()
}

/// What is visible in a topic.
pub(super) fn expected(cluster: &mut Cluster, n: usize) -> Expected {
    let mut expected = Expected::default();
    expected.add(0, cluster.partition(&topic(n), 0).log.visible());
    expected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(topic: &str, from: i64, to: i64, cause: GapCause) -> Gap {
        Gap { topic: topic.to_owned(), partition: 0, from, to, cause: cause.as_str(), key: "k".to_owned() }
    }

    #[test]
    fn what_retention_has_taken_is_to_be_listed_and_nothing_else() {
        let due: Vec<Range> = [0, 5].into_iter().enumerate().filter_map(|(n, start)| taken(n, start)).collect();
        assert_eq!(listed(&[gap("t1", 0, 5, GapCause::Retention)]), due);
        assert_ne!(listed(&[]), due, "not listed");
        let of_another_topic = gap("t0", 0, 5, GapCause::Retention);
        for wrong in [of_another_topic, gap("t1", 0, 6, GapCause::Retention), gap("t1", 0, 5, GapCause::Truncation)] {
            assert_ne!(listed(std::slice::from_ref(&wrong)), due, "{wrong:?}");
        }
    }
}
