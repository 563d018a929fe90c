//! What stands in the topics: a function of topic and offset, with an aborted transaction in the midst of each.

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

/// What is visible in a topic.
pub(super) fn expected(cluster: &mut Cluster, n: usize) -> Expected {
    let mut expected = Expected::default();
    expected.add(0, cluster.partition(&topic(n), 0).log.visible());
    expected
}
