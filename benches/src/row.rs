//! A row of the table: one format, one record size and one topic codec, over all of its rounds.
//!
//! Its place: between the rounds of [`measure`](crate::measure) and what [`report`](crate::report) prints. The names of its fields are a contract with
//! scripts that read the JSON: fields are added, never renamed.

use std::collections::BTreeMap;
use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use crate::GIB;
use crate::cost::Cost;
use crate::figures::{Spread, rounded, steady};
use crate::floor::Floored;
use crate::roles::Roles;

/// What objects hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ValueEnum)]
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
}

/// What a row is about.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is written.
    pub format: Format,
    /// About how large a record's value is.
    pub record_bytes: usize,
    /// The codec of the topic's batches.
    pub topic_codec: String,
    /// The topic.
    pub topic: String,
}

/// What one round cost.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// The engine.
    pub engine: Cost,
    /// The bare drain.
    pub drain: Cost,
    /// The floor and its parts.
    pub floor: Floored,
    /// Records of the topic, and of the objects.
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

    fn drain_s(&self) -> f64 {
        self.per_gib(self.drain.cpu_s)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (engine, floor, drain) = (self.engine_s(), self.floor.cpu_s_per_gib, self.drain_s());
        write!(f, "engine {engine:.2}, floor {floor:.2}, drain {drain:.2} CPU-s/GiB, engine/floor {:.2}", engine / floor)
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
    /// What reads the topic.
    pub source: &'static str,
    /// The codec of the topic's batches.
    pub topic_codec: String,
    /// The topic, which is still there: it can be named for another run.
    pub topic: String,
    /// The scheme of the store's address.
    pub store: String,
    /// The engine.
    pub engine_cpu_s_per_gib: f64,
    /// The floor.
    pub floor_cpu_s_per_gib: f64,
    /// The bare drain.
    pub drain_cpu_s_per_gib: f64,
    /// Engine by floor.
    pub ratio: f64,
    /// Its lowest and highest.
    pub ratio_range: [f64; 2],
    /// The distance of the two.
    pub spread: f64,
    /// Engine by drain.
    pub ratio_to_drain: f64,
    /// Its lowest and highest.
    pub ratio_to_drain_range: [f64; 2],
    /// Megabytes (10^6) of values for a second of the engine's CPU time.
    pub mb_s_per_core: f64,
    /// The engine's peak memory: the highest of all rounds, those that do not count included.
    pub peak_rss_mib: f64,
    /// The same of the drain.
    pub drain_peak_rss_mib: f64,
    /// Page faults of the engine without a disk, per GiB of values.
    pub minor_faults_per_gib: f64,
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
    /// Of these rounds.
    ///
    /// # Panics
    /// If there are none.
    pub fn of(case: &Case, store: &str, rounds: &[Round]) -> Self {
        let kept = steady(rounds, |round| round.floor.cpu_s_per_gib);
        let median = |of: &dyn Fn(&Round) -> f64| Spread::of(kept.iter().map(|round| of(round))).median;
        let ratio = Spread::of_ratios(kept.iter().map(|round| (round.engine_s(), round.floor.cpu_s_per_gib)));
        let to_drain = Spread::of_ratios(kept.iter().map(|round| (round.engine_s(), round.drain_s())));
        let peak = |of: fn(&Round) -> f64| Spread::of(rounds.iter().map(of)).high;
        let engine = median(&Round::engine_s);
        Self {
            format: case.format,
            codec: if case.format.is_compressed() { "zstd-1" } else { "none" },
            record_bytes: case.record_bytes,
            value_bytes_mean: rounded(median(&|round| round.value_bytes as f64 / round.records as f64)),
            source: "librdkafka",
            topic_codec: case.topic_codec.clone(),
            topic: case.topic.clone(),
            store: store.to_owned(),
            engine_cpu_s_per_gib: rounded(engine),
            floor_cpu_s_per_gib: rounded(median(&|round| round.floor.cpu_s_per_gib)),
            drain_cpu_s_per_gib: rounded(median(&Round::drain_s)),
            ratio: rounded(ratio.median),
            ratio_range: [rounded(ratio.low), rounded(ratio.high)],
            spread: rounded(ratio.width()),
            ratio_to_drain: rounded(to_drain.median),
            ratio_to_drain_range: [rounded(to_drain.low), rounded(to_drain.high)],
            mb_s_per_core: rounded(GIB / 1e6 / engine),
            peak_rss_mib: rounded(peak(|round| round.engine.peak_mib)),
            drain_peak_rss_mib: rounded(peak(|round| round.drain.peak_mib)),
            minor_faults_per_gib: median(&|round| round.per_gib(round.engine.minor_faults as f64)).round(),
            roles: roles(&kept),
            floor_parts: floor_parts(&kept),
            rounds: rounds.len(),
            dropped: rounds.len() - kept.len(),
        }
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
        Case { format: Format::Parquet, record_bytes: 1024, topic_codec: "lz4".into(), topic: "t".into() }
    }

    /// A round over two GiB of records of 1,000 bytes.
    fn round(engine_s: f64, floor_s: f64, drain_s: f64) -> Round {
        let value_bytes = 2 << 30;
        let roles = Roles::from([("builder".into(), engine_s), ("main".into(), 0.5)]);
        Round {
            engine: Cost { cpu_s: 2.0 * engine_s, peak_mib: 100.0 * engine_s, minor_faults: 2000, roles },
            drain: Cost { cpu_s: 2.0 * drain_s, peak_mib: 70.0, ..Cost::default() },
            floor: Floored { cpu_s_per_gib: floor_s, parts: Parts { compression: 1.8, loopback: 0.15, copies: 0.05 } },
            records: value_bytes / 1000,
            value_bytes,
        }
    }

    #[test]
    fn a_row_is_the_median_of_the_rounds_that_count() {
        let rounds = [round(3.0, 2.0, 2.5), round(9.0, 3.0, 3.0), round(3.3, 2.1, 2.5), round(2.8, 2.0, 2.5)];
        let row = Row::of(&case(), "s3", &rounds);
        assert_eq!((row.rounds, row.dropped), (4, 1), "the second floor has moved");
        assert_eq!((row.engine_cpu_s_per_gib, row.floor_cpu_s_per_gib, row.drain_cpu_s_per_gib), (3.0, 2.0, 2.5));
        assert_eq!((row.ratio, row.ratio_range, row.spread), (1.5, [1.4, 1.571], 0.171));
        assert_eq!((row.ratio_to_drain, row.ratio_to_drain_range), (1.2, [1.12, 1.32]));
        assert_eq!((row.peak_rss_mib, row.minor_faults_per_gib), (900.0, 1000.0), "memory of the dropped round counts");
        assert!((row.mb_s_per_core - 357.914).abs() < 1e-9, "{}", row.mb_s_per_core);
    }

    #[test]
    fn what_no_role_has_is_named() {
        let row = Row::of(&case(), "s3", &[round(3.0, 2.0, 2.5)]);
        assert_eq!(row.roles, Roles::from([("builder".into(), 1.5), ("main".into(), 0.25), ("unseen".into(), 1.25)]));
    }

    #[test]
    fn a_role_that_most_rounds_have_not_seen_took_nothing() {
        let mut seen = round(3.0, 2.0, 2.5);
        seen.engine.roles.insert("probe".into(), 0.1);
        let row = Row::of(&case(), "s3", &[round(3.0, 2.0, 2.5), seen, round(3.0, 2.0, 2.5)]);
        assert_eq!(row.roles["probe"], 0.0);
    }

    #[test]
    fn the_floor_is_held_against_its_parts() {
        let parts = |floor_s| Row::of(&case(), "file", &[round(3.0, floor_s, 2.5)]).floor_parts;
        assert_eq!((parts(2.0).sum, parts(2.0).floor_to_sum, parts(2.0).within_a_tenth), (2.0, 1.0, true));
        assert_eq!((parts(2.3).floor_to_sum, parts(2.3).within_a_tenth), (1.15, false));
        assert_eq!((parts(1.7).floor_to_sum, parts(1.7).within_a_tenth), (0.85, false));
    }
}
