//! Which layers are to see which guard's absence, the cheapest first.

use std::fmt;

/// A layer, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Seeds of the simulation, until one ends badly.
    Simulation(u32),
    /// A story of the simulation, without chance, by its name ([`crate::simulation::STORIES`]).
    Story(&'static str),
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
            Self::Story(name) => ["story".into(), name.into()],
            Self::KafkaCells(filter) => ["kafka-cells".into(), filter.into()],
            Self::S3Cells(filter) => ["s3-cells".into(), filter.into()],
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simulation(_) => f.write_str("simulation"),
            Self::Story(name) => write!(f, "story {name}"),
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
    /// What its absence does, as the layer that sees it says so: a part of the finding. Several, where it depends on the seed which comes first.
    pub findings: &'static [&'static str],
    /// Tried in this order until one finds one of these.
    pub layers: &'static [Layer],
}

const fn case(switch: &'static str, findings: &'static [&'static str], layers: &'static [Layer]) -> Case {
    Case { switch, findings, layers }
}

/// PinnedFirst is broken.
const UNPINNED: &[&str] = &["became visible before its intent was accepted"];

/// Gapless is broken.
const HOLE: &[&str] = &["no object stands for"];

/// A record that was visible is not stored.
const LOST: &[&str] = &["is lost"];

/// Nothing is stored wrongly but what nobody may see: records of aborted transactions, or that damage has made.
const FOREIGN: &[&str] = &["0 lost, 0 duplicated, 0 altered"];

/// A full copy that has precedence comes too late.
const EARLY: &[&str] = &["less was published before a full copy"];

/// As many as find each guard's absence with room to spare.
const SEEDS: Layer = Layer::Simulation(400);

/// All of them.
pub const CASES: [Case; 21] = [
    case("pin", UNPINNED, &[SEEDS]),
    case("pin-first", UNPINNED, &[SEEDS]),
    case("old-pin", &["it was not to be seen that the window was pinned again"], &[Layer::KafkaCells("k19.pin-again")]),
    case("unknown-answer", HOLE, &[SEEDS]),
    case("comparison", HOLE, &[Layer::S3Cells("PutObject/conflict")]),
    case("tidy-last", &["no object stands for", "but the objects end at"], &[SEEDS]),
    case("offset-behind", LOST, &[SEEDS]),
    case("leader-epoch", &["not stopped with C0423"], &[Layer::KafkaCells("k5.")]),
    case("topic-identity", &["is lost", "is altered"], &[SEEDS]),
    case("first-look", &["is stored 2 times"], &[Layer::Story("went-back")]),
    case("retention-gap", LOST, &[SEEDS]),
    case("pinned-range", &["two intents were accepted for one start"], &[SEEDS]),
    case("window-tail", LOST, &[SEEDS]),
    case("batch-checksum", FOREIGN, &[Layer::KafkaCells("k15.bit")]),
    case("committed", FOREIGN, &[Layer::KafkaCells("k11.")]),
    case("gone-upload", HOLE, &[Layer::S3Cells("CompleteMultipartUpload/not-found")]),
    case("full-copy", EARLY, &[Layer::Story("full-copy")]),
    case("give-up-unasked", &["was given up by who has lost its lane"], &[Layer::Story("zombie-gives-up")]),
    case("wait-behind-guard", EARLY, &[Layer::Story("late-complete")]),
    case("lane-lock", &["a commit of a lane that was revoked was accepted"], &[Layer::Story("dead-lane")]),
    case("reset", &["the gaps are [] and should be"], &[Layer::KafkaCells("k6.")]),
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

    #[test]
    fn every_story_is_there() {
        let layers = CASES.iter().flat_map(|case| case.layers);
        let told = layers.filter_map(|layer| if let Layer::Story(name) = layer { Some(name) } else { None });
        for name in told {
            assert!(crate::simulation::STORIES.iter().any(|(known, _)| known == name), "{name}");
        }
    }
}
