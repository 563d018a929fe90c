//! What a rule will make of its topics in a day: objects, requests, bytes; and the window that makes objects large enough.
//!
//! Place in the flow: beside the other questions; asked by `backup --dry-run` and by the console's review of a rule. Guarantees: it is arithmetic on what was written
//! in the last hour and on a sample of records, weighed and encoded as the rule would. Does not: know a day's rhythm, or what another process stores already.

use std::time::Duration;

use catchment_formats::{Block, Encoding, LaneId, RecordView, segment_encoder};
use serde::Serialize;

use crate::config::{BackupPlan, Span};
use crate::encoding::LaneEncoding;
use crate::limits::{ANCHOR_INTERVAL, MULTIPART_BYTES_MIN, pipeline_bytes};
use crate::store::parts::PART_BYTES;

/// Below this, readers spend their time on opening objects.
const SMALL_BYTES: f64 = (16 << 20) as f64;

const DAY: Duration = Duration::from_secs(86_400);

const HOURS: f64 = 24.0;

/// Windows that people think in, in minutes: what is advised is one of them.
const WINDOWS: [u64; 9] = [1, 5, 15, 30, 60, 120, 360, 720, 1_440];

/// What an anchor asks of the store: it is written, and the owner record is read.
const REQUESTS_AN_ANCHOR: f64 = 2.0;

/// What records weigh, by a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Weight {
    /// Key, value and headers of a record, bytes on average.
    pub record_bytes: f64,
    /// What a record adds to an object, bytes on average.
    pub stored_bytes: f64,
    /// What an object takes beside its records, bytes.
    pub object_bytes: f64,
}

/// A topic and what was written to it lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// Its name.
    pub topic: String,
    /// Its partitions.
    pub partitions: usize,
    /// Those of them that were written in the last hour.
    pub busy: usize,
    /// Records that it holds.
    pub records: i64,
    /// Records of the last hour, by their timestamps.
    pub records_an_hour: i64,
    /// What they weigh; null if none of them could be read.
    pub weight: Option<Weight>,
}

/// What a rule makes of its topics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outlook {
    /// The topics that were looked at. The others are taken to be like them.
    pub topics: Vec<Traffic>,
    /// How many there are.
    pub of_topics: usize,
    /// Objects a day.
    pub objects_a_day: f64,
    /// Requests to the store a day.
    pub requests_a_day: f64,
    /// Keys, values and headers, bytes a day.
    pub bytes_a_day: f64,
    /// What is stored of them, bytes a day.
    pub stored_bytes_a_day: f64,
    /// An object as it is stored, bytes on average.
    pub object_bytes: f64,
    /// Whether objects are so small that readers are slow.
    pub small: bool,
    /// The shortest window with which they would not be.
    pub window_advised: Option<String>,
    /// Why no window makes them large enough.
    pub obstacle: Option<Obstacle>,
    /// Bytes that the open windows of that length take together, if that is more than the budget has for them.
    pub held_bytes: Option<u64>,
}

/// What keeps objects small, whatever the window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// `max_bytes` closes windows early.
    MaxBytes,
    /// What is written is spread over too many partitions.
    Partitions,
    /// Too little is written.
    Traffic,
}

/// What of a rule decides how many objects there are.
#[derive(Clone, Copy, Debug)]
struct Shape {
    every: Duration,
    max_bytes: f64,
}

/// What a day brings, in one shape.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Day {
    objects: f64,
    bytes: f64,
    stored: f64,
    anchors: f64,
}

impl Outlook {
    /// From the traffic of some topics of so many.
    pub fn new(topics: Vec<Traffic>, of_topics: usize, plan: &BackupPlan) -> Self {
        let shape = Shape { every: plan.window.every.to_duration(), max_bytes: plan.max_bytes.bytes() as f64 };
        let day = Day::of(&topics, of_topics, shape);
        let small = day.is_small();
        let advised = if small { advised(&topics, of_topics, shape) } else { None };
        // Below the size of a part nothing leaves a window before it closes.
        let busy = topics.iter().map(|traffic| traffic.busy as f64).sum::<f64>() * share(&topics, of_topics);
        let held = busy * SMALL_BYTES;
        let is_too_much = advised.is_some() && held > pipeline_bytes(plan.budget.bytes()) as f64;
        Self {
            objects_a_day: day.objects,
            requests_a_day: day.requests(),
            bytes_a_day: day.bytes,
            stored_bytes_a_day: day.stored,
            object_bytes: day.object_bytes(),
            small,
            obstacle: if small && advised.is_none() { Some(obstacle(&topics, of_topics, shape)) } else { None },
            window_advised: advised,
            held_bytes: is_too_much.then_some(held as u64),
            topics,
            of_topics,
        }
    }
}

/// How many topics each of those that were looked at stands for.
fn share(topics: &[Traffic], of_topics: usize) -> f64 {
    of_topics as f64 / topics.len().max(1) as f64
}

fn advised(topics: &[Traffic], of_topics: usize, shape: Shape) -> Option<String> {
    let longer = WINDOWS.into_iter().map(|minutes| Duration::from_secs(60 * minutes)).filter(|every| *every > shape.every);
    let mut large = longer.filter(|every| !Day::of(topics, of_topics, Shape { every: *every, ..shape }).is_small());
    large.next().map(|every| Span::secs(every.as_secs()).to_string())
}

fn obstacle(topics: &[Traffic], of_topics: usize, shape: Shape) -> Obstacle {
    let longest = Shape { every: DAY.max(shape.every), max_bytes: f64::INFINITY };
    let of_one_partition = |traffic: &Traffic| Traffic { busy: traffic.busy.min(1), ..traffic.clone() };
    let together: Vec<Traffic> = topics.iter().map(of_one_partition).collect();
    if !Day::of(topics, of_topics, longest).is_small() {
        Obstacle::MaxBytes
    } else if !Day::of(&together, of_topics, longest).is_small() {
        Obstacle::Partitions
    } else {
        Obstacle::Traffic
    }
}

impl Day {
    fn of(topics: &[Traffic], of_topics: usize, shape: Shape) -> Self {
        let looked_at = topics.iter().map(|traffic| Self::of_topic(traffic, shape)).fold(Self::default(), |a, b| Self {
            objects: a.objects + b.objects,
            bytes: a.bytes + b.bytes,
            stored: a.stored + b.stored,
            anchors: a.anchors + b.anchors,
        });
        let all = share(topics, of_topics);
        Self {
            objects: looked_at.objects * all,
            bytes: looked_at.bytes * all,
            stored: looked_at.stored * all,
            anchors: looked_at.anchors * all,
        }
    }

    /// A window without records makes no object, and one that has more than fits makes one more each time.
    fn of_topic(traffic: &Traffic, shape: Shape) -> Self {
        let weight = traffic.weight.unwrap_or_default();
        let records = traffic.records_an_hour as f64 * HOURS;
        let bytes = records * weight.record_bytes;
        let windows = (DAY.as_secs_f64() / shape.every.as_secs_f64() * traffic.busy as f64).min(records);
        let of_a_window = if windows > 0.0 { (bytes / windows / shape.max_bytes).ceil().max(1.0) } else { 0.0 };
        let objects = (windows * of_a_window).min(records);
        Self {
            objects,
            bytes,
            stored: records * weight.stored_bytes + objects * weight.object_bytes,
            // Every lane renews its anchor, also one that has nothing to do.
            anchors: traffic.partitions as f64 * DAY.as_secs_f64() / ANCHOR_INTERVAL.as_secs_f64(),
        }
    }

    fn object_bytes(&self) -> f64 {
        if self.objects > 0.0 { self.stored / self.objects } else { 0.0 }
    }

    fn is_small(&self) -> bool {
        self.objects > 0.0 && self.stored > 0.0 && self.object_bytes() < SMALL_BYTES
    }

    /// One PutObject an object; or an upload, whose key is looked at before and after, and which is created and completed beside its parts.
    fn requests(&self) -> f64 {
        let each = self.object_bytes();
        let an_object = if each < MULTIPART_BYTES_MIN as f64 { 1.0 } else { 4.0 + (each / PART_BYTES as f64).ceil() };
        self.objects * an_object + self.anchors * REQUESTS_AN_ANCHOR
    }
}

/// Records of one partition, to be weighed.
pub(super) struct Scale {
    encoding: LaneEncoding,
    block: Block,
    /// The block with the first record alone.
    first: Block,
    bytes: usize,
    end: i64,
}

impl Scale {
    pub(super) fn new(encoding: LaneEncoding) -> Self {
        let empty = || Block::new(encoding.value_layout());
        let (block, first) = (empty(), empty());
        Self { encoding, block, first, bytes: 0, end: 0 }
    }

    /// Puts one more on. False once there are enough.
    pub(super) fn put(&mut self, record: &RecordView<'_>) -> bool {
        if self.first.rows() == 0 {
            self.first.push(record);
        }
        self.block.push(record);
        let of = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        self.bytes += of(record.key) + of(record.value) + record.headers.as_bytes().len();
        self.end = record.offset + 1;
        !self.block.is_full()
    }

    /// What a record weighs; none if there was no record.
    pub(super) fn weight(&self) -> Option<Weight> {
        let rows = self.block.rows() as f64;
        if rows == 0.0 {
            return None;
        }
        let encoding = self.encoding.of_window(Some(&self.block));
        let (all, one) = (self.encoded(&encoding, &self.block), self.encoded(&encoding, &self.first));
        let stored_bytes = if rows > 1.0 { (all - one).max(0.0) / (rows - 1.0) } else { one };
        Some(Weight { record_bytes: self.bytes as f64 / rows, stored_bytes, object_bytes: (one - stored_bytes).max(0.0) })
    }

    /// Bytes of an object of these records.
    fn encoded(&self, encoding: &Encoding, block: &Block) -> f64 {
        let nobody = LaneId { rule: "dry-run".into(), cluster: String::new(), topic: "sample".into(), topic_id: "0".into(), partition: 0 };
        let mut object: Vec<u8> = Vec::new();
        let mut encoder = segment_encoder(encoding, &nobody, 0);
        encoder.append(block, &mut object);
        encoder.finish(self.end, &[], &mut object);
        object.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use catchment_formats::{HeadersView, TimestampType};

    fn traffic(busy: usize, records_an_hour: i64, stored_bytes: f64) -> Traffic {
        let weight = Weight { record_bytes: 1_000.0, stored_bytes, object_bytes: 0.0 };
        Traffic { topic: "t".into(), partitions: 8, busy, records: 1, records_an_hour, weight: Some(weight) }
    }

    fn shape(minutes: u64) -> Shape {
        Shape { every: Duration::from_secs(60 * minutes), max_bytes: (1_u64 << 30) as f64 }
    }

    /// Each of the eight partitions has an anchor, which is renewed every hour by two requests.
    const ANCHORS: f64 = 8.0 * 24.0;

    #[test]
    fn a_partition_that_is_written_makes_an_object_a_window() {
        let day = Day::of(&[traffic(4, 100_000, 250.0)], 1, shape(5));
        assert_eq!((day.objects, day.bytes, day.stored), (4.0 * 288.0, 2.4e9, 6e8));
        assert_eq!(day.requests(), 4.0 * 288.0 + ANCHORS * 2.0);
        assert_eq!(Day::of(&[traffic(4, 1, 250.0)], 1, shape(5)).objects, 24.0, "no more objects than records");
        let silent = Day::of(&[traffic(0, 0, 0.0)], 1, shape(5));
        assert_eq!(silent, Day { anchors: ANCHORS, ..Day::default() });
        assert!(!silent.is_small() && silent.object_bytes() == 0.0, "nothing is known of a silent topic");
    }

    #[test]
    fn topics_that_were_not_looked_at_are_like_those_that_were() {
        let one = Day::of(&[traffic(4, 100_000, 250.0)], 1, shape(5));
        let ten = Day::of(&[traffic(4, 100_000, 250.0)], 10, shape(5));
        assert_eq!((ten.objects, ten.stored, ten.anchors), (10.0 * one.objects, 10.0 * one.stored, 10.0 * one.anchors));
        assert_eq!(Day::of(&[], 0, shape(5)), Day::default());
    }

    #[test]
    fn windows_of_many_bytes_are_several_objects_and_large_ones_are_sent_in_parts() {
        // 24 GB an hour in one partition: 22.35 times a gibibyte of values each hour, stored in a quarter of that.
        let day = Day::of(&[traffic(1, 24_000_000, 250.0)], 1, shape(60));
        assert_eq!(day.objects, 23.0 * 24.0);
        let parts = (day.object_bytes() / PART_BYTES as f64).ceil();
        assert_eq!(day.requests(), day.objects * (4.0 + parts) + ANCHORS * 2.0);
        assert!(!day.is_small());
    }

    #[test]
    fn the_window_that_is_advised_is_the_shortest_that_makes_no_small_objects() {
        // 25 MB an hour in one partition.
        let topics = [traffic(1, 100_000, 250.0)];
        assert!(Day::of(&topics, 1, shape(5)).is_small());
        assert_eq!(advised(&topics, 1, shape(5)).as_deref(), Some("1h"));
    }

    #[test]
    fn what_keeps_objects_small_is_named_where_no_window_helps() {
        let of = |busy, records_an_hour, max_bytes| {
            let (topics, shape) = ([traffic(busy, records_an_hour, 250.0)], Shape { max_bytes, ..shape(5) });
            assert_eq!(advised(&topics, 1, shape), None);
            obstacle(&topics, 1, shape)
        };
        assert_eq!(of(1, 100_000, 1e6), Obstacle::MaxBytes);
        assert_eq!(of(8, 10_000, 1e9), Obstacle::Partitions);
        assert_eq!(of(8, 10, 1e9), Obstacle::Traffic);
    }

    #[test]
    fn records_are_weighed_as_they_would_be_stored() {
        let mut scale = Scale::new(LaneEncoding::fixed(Encoding::PARQUET_ZSTD1));
        assert_eq!(scale.weight(), None);
        let value = [b'x'; 1_000];
        for offset in 0..500 {
            let record = RecordView {
                offset,
                timestamp: 0,
                timestamp_type: TimestampType::Create,
                key: Some(b"key"),
                value: Some(&value),
                headers: HeadersView::default(),
            };
            assert!(scale.put(&record));
        }
        let weight = scale.weight().unwrap();
        assert_eq!(weight.record_bytes, 1_003.0);
        assert!(weight.stored_bytes < 30.0, "the same letter a thousand times: {weight:?}");
        assert!(weight.object_bytes > 300.0, "a footer: {weight:?}");
    }

    #[test]
    fn records_are_weighed_at_the_level_that_they_choose() {
        use crate::encoding::tests::{documents, record};
        let stored = |encoding| {
            let mut scale = Scale::new(encoding);
            (0..).zip(documents()).for_each(|(offset, value)| assert!(scale.put(&record(offset, &value))));
            scale.weight().unwrap().stored_bytes
        };
        let level = |text: &str| stored(LaneEncoding::fixed(text.parse().unwrap()));
        let chosen = stored(LaneEncoding::new(Encoding::PARQUET_ZSTD1, true, &Arc::default()));
        assert_eq!(chosen, level("parquet.zstd3.v1"));
        assert!(chosen < level("parquet.zstd1.v1"));
    }
}
