//! Which layers are to see which guard's absence, the cheapest first.

use std::fmt;

/// A layer, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Seeds of the simulation, until one ends badly.
    Simulation(u32),
    /// Cells of the Kafka rows whose id contains this.
    KafkaCells(&'static str),
    /// Cells of the S3 server whose id contains this.
    S3Cells(&'static str),
}

impl Layer {
    /// What `sabotaged` is told.
    pub fn arguments(self) -> [String; 2] {
        match self {
            Self::Simulation(seeds) => ["simulation".into(), seeds.to_string()],
            Self::KafkaCells(filter) => ["kafka-cells".into(), filter.into()],
            Self::S3Cells(filter) => ["s3-cells".into(), filter.into()],
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simulation(_) => f.write_str("simulation"),
            Self::KafkaCells(filter) => write!(f, "kafka cells {filter}"),
            Self::S3Cells(filter) => write!(f, "s3 cells {filter}"),
        }
    }
}

/// A guard and who sees its absence.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The switch's name in `catchment::sabotage`.
    pub switch: &'static str,
    /// Tried in this order until one finds something.
    pub layers: &'static [Layer],
}

const fn case(switch: &'static str, layers: &'static [Layer]) -> Case {
    Case { switch, layers }
}

/// As many as find each guard's absence with room to spare.
const SEEDS: Layer = Layer::Simulation(400);

/// For what needs a coincidence: the group's offsets are forgotten behind a window that stands.
const MORE_SEEDS: Layer = Layer::Simulation(1_200);

/// All of them.
pub const CASES: [Case; 17] = [
    case("pin", &[SEEDS]),
    case("pin-first", &[SEEDS]),
    case("old-pin", &[Layer::KafkaCells("k19.pin-again")]),
    case("unknown-answer", &[SEEDS]),
    case("comparison", &[Layer::S3Cells("PutObject/conflict")]),
    case("tidy-last", &[SEEDS]),
    case("offset-behind", &[SEEDS]),
    case("leader-epoch", &[Layer::KafkaCells("k5.")]),
    case("topic-identity", &[SEEDS]),
    case("first-look", &[MORE_SEEDS]),
    case("retention-gap", &[SEEDS]),
    case("pinned-range", &[SEEDS]),
    case("window-tail", &[SEEDS]),
    case("batch-checksum", &[Layer::KafkaCells("k15.bit")]),
    case("committed", &[Layer::KafkaCells("k11.")]),
    case("gone-upload", &[Layer::S3Cells("CompleteMultipartUpload/not-found")]),
    case("reset", &[Layer::KafkaCells("k6.")]),
];

#[cfg(test)]
mod tests {
    use catchment::sabotage::Switch;

    use super::*;

    #[test]
    fn every_switch_has_a_case() {
        let names: Vec<_> = Switch::ALL.iter().map(|(name, _)| *name).collect();
        assert_eq!(CASES.map(|case| case.switch).to_vec(), names);
    }
}
