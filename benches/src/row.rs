//! A row of the table: one source, one store, one format, one record size and one topic codec, over all of its rounds.
//!
//! Its place: between the rounds of [`measure`](crate::measure) and what [`report`](crate::report) prints. The names of its fields are a contract with
//! scripts that read the JSON: fields are added, never renamed.

use std::collections::BTreeMap;
use std::fmt;

use catchment_formats::{Codec, Encoding, Framing};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::GIB;
use crate::cost::Cost;
use crate::figures::{Spread, rounded, steady};
use crate::floor::Floored;
use crate::in_process::{Allocations, Input};
use crate::roles::Roles;

/// What records come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// librdkafka, which reads a topic of real brokers
    Librdkafka,
    /// Memory, without brokers and client
    Synthetic,
}

impl Source {
    /// As it is written on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Librdkafka => "librdkafka",
            Self::Synthetic => "synthetic",
        }
    }
}

/// What objects hold.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Parquet with zstd level 1
    Parquet,
    /// Raw values, told apart by their lengths, not compressed
    Raw,
}

impl Format {
    /// As it is written on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Raw => "raw",
        }
    }

    /// Whether pages are compressed.
    pub fn is_compressed(self) -> bool {
        self == Self::Parquet
    }

    /// As the engine names it.
    pub fn encoding(self) -> Encoding {
        match self {
            Self::Parquet => Encoding::PARQUET_ZSTD1,
            Self::Raw => Encoding { format: catchment_formats::Format::Raw(Framing::Len32), codec: Codec::None },
        }
    }
}

/// What a row is about.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is read.
    pub from: Input,
    /// The codec of the topic's batches; none where there are no batches.
    pub topic_codec: String,
    /// What is written.
    pub format: Format,
    /// About how large a record's value is.
    pub record_bytes: usize,
}

impl Case {
    /// What records come from.
    pub fn source(&self) -> Source {
        match self.from {
            Input::Topic { .. } => Source::Librdkafka,
            Input::Records { .. } => Source::Synthetic,
        }
    }

    fn topic(&self) -> Option<String> {
        match &self.from {
            Input::Topic { topic, .. } => Some(topic.clone()),
            Input::Records { .. } => None,
        }
    }
}

/// What one round cost.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// The engine.
    pub engine: Cost,
    /// The bare drain, of a topic.
    pub drain: Option<Cost>,
    /// The floor and its parts.
    pub floor: Floored,
    /// Records that were given, and that the objects hold.
    pub records: u64,
    /// Bytes of their values.
    pub value_bytes: u64,
}

impl Round {
    fn per_gib(&self, of_all: f64) -> f64 {
        of_all * GIB / self.value_bytes as f64
    }

    fn engine_s(&self) -> f64 {
        self.per_gib(self.engine.cpu_s)
    }

    fn drain_s(&self) -> Option<f64> {
        self.drain.as_ref().map(|drain| self.per_gib(drain.cpu_s))
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (engine, floor) = (self.engine_s(), self.floor.cpu_s_per_gib);
        write!(f, "engine {engine:.2}, floor {floor:.2}")?;
        if let Some(drain) = self.drain_s() {
            write!(f, ", drain {drain:.2}")?;
        }
        write!(f, " CPU-s/GiB, engine/floor {:.2}", engine / floor)
    }
}

/// The floor's parts as they are printed, in CPU seconds per GiB of values.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FloorParts {
    /// zstd alone.
    pub compression: f64,
    /// The loopback network alone.
    pub loopback: f64,
    /// Checksums and copies alone.
    pub copies: f64,
    /// What they take together.
    pub sum: f64,
    /// The floor by that sum, the median of the rounds.
    pub floor_to_sum: f64,
    /// Whether that is 1, give or take a tenth: if it is not, the floor is not what it says.
    pub within_a_tenth: bool,
}

/// A row of the table. Times are CPU seconds per GiB of values, medians of the rounds that count.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What is written.
    pub format: Format,
    /// How it is compressed.
    pub codec: &'static str,
    /// About how large a record's value is.
    pub record_bytes: usize,
    /// How large it is on average.
    pub value_bytes_mean: f64,
    /// What records come from.
    pub source: Source,
    /// The codec of the topic's batches.
    pub topic_codec: String,
    /// The topic, which is still there: it can be named for another run. None for records of memory.
    pub topic: Option<String>,
    /// The scheme of the store's address; `null` for the one that keeps nothing.
    pub store: String,
    /// The engine.
    pub engine_cpu_s_per_gib: f64,
    /// The floor.
    pub floor_cpu_s_per_gib: f64,
    /// The bare drain; none where there is no topic to drain.
    pub drain_cpu_s_per_gib: Option<f64>,
    /// Engine by floor.
    pub ratio: f64,
    /// Its lowest and highest.
    pub ratio_range: [f64; 2],
    /// The distance of the two.
    pub spread: f64,
    /// Engine by drain.
    pub ratio_to_drain: Option<f64>,
    /// Its lowest and highest.
    pub ratio_to_drain_range: Option<[f64; 2]>,
    /// Megabytes (10^6) of values for a second of the engine's CPU time.
    pub mb_s_per_core: f64,
    /// The engine's peak memory: the highest of all rounds, those that do not count included.
    pub peak_rss_mib: f64,
    /// The same of the drain.
    pub drain_peak_rss_mib: Option<f64>,
    /// Page faults of the engine without a disk, per GiB of values.
    pub minor_faults_per_gib: f64,
    /// Calls of the allocator for a record, where they were counted: in a run of its own, which is no round.
    pub allocations_per_record: Option<f64>,
    /// The same by the role of threads.
    pub allocations_by_role: Option<BTreeMap<String, f64>>,
    /// The engine by the role of its threads; `unseen` is what no look at them has caught.
    pub roles: Roles,
    /// The floor's parts.
    pub floor_parts: FloorParts,
    /// Rounds that were measured.
    pub rounds: usize,
    /// Those of them that do not count, since the floor had moved.
    pub dropped: usize,
}

impl Row {
    /// Of these rounds, and of what was counted beside them.
    ///
    /// # Panics
    /// If there are none.
    pub fn of(case: &Case, store: &str, rounds: &[Round], counted: Option<&Allocations>) -> Self {
        let kept = steady(rounds, |round| round.floor.cpu_s_per_gib);
        let median = |of: &dyn Fn(&Round) -> f64| Spread::of(kept.iter().map(|round| of(round))).median;
        let ratio = Spread::of_ratios(kept.iter().map(|round| (round.engine_s(), round.floor.cpu_s_per_gib)));
        let drained: Vec<(f64, f64)> = kept.iter().filter_map(|round| Some((round.engine_s(), round.drain_s()?))).collect();
        let to_drain = (!drained.is_empty()).then(|| Spread::of_ratios(drained.iter().copied()));
        let drain_s = (!drained.is_empty()).then(|| Spread::of(drained.iter().map(|(_, drain)| *drain)).median);
        let peak = |of: fn(&Round) -> f64| Spread::of(rounds.iter().map(of)).high;
        let engine = median(&Round::engine_s);
        Self {
            format: case.format,
            codec: if case.format.is_compressed() { "zstd-1" } else { "none" },
            record_bytes: case.record_bytes,
            value_bytes_mean: rounded(median(&|round| round.value_bytes as f64 / round.records as f64)),
            source: case.source(),
            topic_codec: case.topic_codec.clone(),
            topic: case.topic(),
            store: store.to_owned(),
            engine_cpu_s_per_gib: rounded(engine),
            floor_cpu_s_per_gib: rounded(median(&|round| round.floor.cpu_s_per_gib)),
            drain_cpu_s_per_gib: drain_s.map(rounded),
            ratio: rounded(ratio.median),
            ratio_range: [rounded(ratio.low), rounded(ratio.high)],
            spread: rounded(ratio.width()),
            ratio_to_drain: to_drain.map(|ratio| rounded(ratio.median)),
            ratio_to_drain_range: to_drain.map(|ratio| [rounded(ratio.low), rounded(ratio.high)]),
            mb_s_per_core: rounded(GIB / 1e6 / engine),
            peak_rss_mib: rounded(peak(|round| round.engine.peak_mib)),
            drain_peak_rss_mib: rounds.iter().filter_map(|round| Some(round.drain.as_ref()?.peak_mib)).reduce(f64::max).map(rounded),
            minor_faults_per_gib: median(&|round| round.per_gib(round.engine.minor_faults as f64)).round(),
            allocations_per_record: counted.map(|counted| counted.of(counted.calls.values().sum())),
            allocations_by_role: counted
                .map(|counted| counted.calls.iter().map(|(role, calls)| (role.clone(), counted.of(*calls))).collect()),
            roles: roles(&kept),
            floor_parts: floor_parts(&kept),
            rounds: rounds.len(),
            dropped: rounds.len() - kept.len(),
        }
    }
}

impl Allocations {
    /// So many calls for a record, to six digits behind the point: there may be few.
    fn of(&self, calls: u64) -> f64 {
        (calls as f64 / self.records.max(1) as f64 * 1e6).round() / 1e6
    }
}

/// Medians by role. A role that a round has not seen took nothing in it.
fn roles(rounds: &[&Round]) -> Roles {
    let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (n, round) in rounds.iter().enumerate() {
        let unseen = round.engine.cpu_s - round.engine.roles.values().sum::<f64>();
        let seen = round.engine.roles.iter().map(|(role, cpu_s)| (role.as_str(), *cpu_s));
        for (role, cpu_s) in seen.chain([("unseen", unseen.max(0.0))]) {
            all.entry(role).or_insert_with(|| vec![0.0; rounds.len()])[n] = round.per_gib(cpu_s);
        }
    }
    all.into_iter().map(|(role, times)| (role.to_owned(), rounded(Spread::of(times).median))).collect()
}

fn floor_parts(rounds: &[&Round]) -> FloorParts {
    let median = |of: fn(&Floored) -> f64| rounded(Spread::of(rounds.iter().map(|round| of(&round.floor))).median);
    let floor_to_sum = median(Floored::to_parts);
    FloorParts {
        compression: median(|floor| floor.parts.compression),
        loopback: median(|floor| floor.parts.loopback),
        copies: median(|floor| floor.parts.copies),
        sum: median(|floor| floor.parts.sum()),
        floor_to_sum,
        within_a_tenth: (floor_to_sum - 1.0).abs() <= 0.1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::Parts;

    fn case() -> Case {
        let from = Input::Topic { brokers: "h:1".into(), topic: "t".into() };
        Case { from, topic_codec: "lz4".into(), format: Format::Parquet, record_bytes: 1024 }
    }

    /// A round over two GiB of records of 1,000 bytes.
    fn round(engine_s: f64, floor_s: f64, drain_s: f64) -> Round {
        let value_bytes = 2 << 30;
        let roles = Roles::from([("builder".into(), engine_s), ("main".into(), 0.5)]);
        Round {
            engine: Cost { cpu_s: 2.0 * engine_s, peak_mib: 100.0 * engine_s, minor_faults: 2000, roles },
            drain: Some(Cost { cpu_s: 2.0 * drain_s, peak_mib: 70.0, ..Cost::default() }),
            floor: Floored { cpu_s_per_gib: floor_s, parts: Parts { compression: 1.8, loopback: 0.15, copies: 0.05 } },
            records: value_bytes / 1000,
            value_bytes,
        }
    }

    #[test]
    fn a_row_is_the_median_of_the_rounds_that_count() {
        let rounds = [round(3.0, 2.0, 2.5), round(9.0, 3.0, 3.0), round(3.3, 2.1, 2.5), round(2.8, 2.0, 2.5)];
        let row = Row::of(&case(), "s3", &rounds, None);
        assert_eq!((row.rounds, row.dropped), (4, 1), "the second floor has moved");
        assert_eq!((row.engine_cpu_s_per_gib, row.floor_cpu_s_per_gib, row.drain_cpu_s_per_gib), (3.0, 2.0, Some(2.5)));
        assert_eq!((row.ratio, row.ratio_range, row.spread), (1.5, [1.4, 1.571], 0.171));
        assert_eq!((row.ratio_to_drain, row.ratio_to_drain_range, row.drain_peak_rss_mib), (Some(1.2), Some([1.12, 1.32]), Some(70.0)));
        assert_eq!((row.peak_rss_mib, row.minor_faults_per_gib), (900.0, 1000.0), "memory of the dropped round counts");
        assert!((row.mb_s_per_core - 357.914).abs() < 1e-9, "{}", row.mb_s_per_core);
    }

    #[test]
    fn what_no_role_has_is_named() {
        let row = Row::of(&case(), "s3", &[round(3.0, 2.0, 2.5)], None);
        assert_eq!(row.roles, Roles::from([("builder".into(), 1.5), ("main".into(), 0.25), ("unseen".into(), 1.25)]));
    }

    #[test]
    fn a_role_that_most_rounds_have_not_seen_took_nothing() {
        let mut seen = round(3.0, 2.0, 2.5);
        seen.engine.roles.insert("probe".into(), 0.1);
        let row = Row::of(&case(), "s3", &[round(3.0, 2.0, 2.5), seen, round(3.0, 2.0, 2.5)], None);
        assert_eq!(row.roles["probe"], 0.0);
    }

    #[test]
    fn records_of_memory_are_not_drained() {
        let case = Case { from: Input::Records { record_bytes: 1024, mib: 1 }, topic_codec: "none".into(), ..case() };
        let round = Round { drain: None, ..round(3.0, 2.0, 2.5) };
        assert_eq!(round.to_string(), "engine 3.00, floor 2.00 CPU-s/GiB, engine/floor 1.50");
        let row = Row::of(&case, "null", &[round], None);
        assert_eq!((row.source, row.topic, row.ratio), (Source::Synthetic, None, 1.5));
        assert_eq!(
            (row.drain_cpu_s_per_gib, row.ratio_to_drain, row.ratio_to_drain_range, row.drain_peak_rss_mib),
            (None, None, None, None)
        );
    }

    #[test]
    fn allocations_are_for_a_record() {
        let counted = Allocations { records: 1_000_000, calls: [("builder".into(), 3_000_000), ("main".into(), 7)].into() };
        let row = Row::of(&case(), "null", &[round(3.0, 2.0, 2.5)], Some(&counted));
        assert_eq!(row.allocations_per_record, Some(3.000_007));
        assert_eq!(row.allocations_by_role, Some(BTreeMap::from([("builder".to_owned(), 3.0), ("main".to_owned(), 0.000_007)])));
    }

    #[test]
    fn formats_are_those_that_the_shipped_program_is_told() {
        let names = [Format::Parquet, Format::Raw].map(|format| format.encoding().to_string());
        assert_eq!(names, ["parquet.zstd1.v1", "raw.len32.none.v1"]);
    }

    #[test]
    fn the_floor_is_held_against_its_parts() {
        let parts = |floor_s| Row::of(&case(), "file", &[round(3.0, floor_s, 2.5)], None).floor_parts;
        assert_eq!((parts(2.0).sum, parts(2.0).floor_to_sum, parts(2.0).within_a_tenth), (2.0, 1.0, true));
        assert_eq!((parts(2.3).floor_to_sum, parts(2.3).within_a_tenth), (1.15, false));
        assert_eq!((parts(1.7).floor_to_sum, parts(1.7).within_a_tenth), (0.85, false));
    }
}
