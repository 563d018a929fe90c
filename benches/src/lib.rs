//! What the engine costs, beside the least that the same work can cost on the same machine in the same run.
//!
//! Everything is reported as a ratio to a floor that was measured in the same run; absolute times of shared machines mean little. The command
//! is `ratio` (`bin/ratio.rs`); the benches of `benches/` show single stages.
//!
//! | module | its part |
//! |---|---|
//! | [`floor`] | the least work on the same records, in one thread, and its parts, each alone |
//! | [`drain`] | the bare client: librdkafka's batch API with zstd-1 pages and no output |
//! | [`measure`] | a round: engine, floor and drain in turn, verified |
//! | [`in_process`] | the engine within this program, where the shipped one cannot be asked |
//! | [`synthetic`], [`member`], [`null_store`] | a source without a broker, its group, and a store that keeps nothing |
//! | [`proofs`] | what the objects of such a run say that they hold, and whether it was given |
//! | [`scale`], [`cores`] | what a second core is worth, and how a process is kept to some |
//! | [`cost`], [`roles`], [`allocations`] | what a process cost, and which of its threads |
//! | [`figures`] | medians of pairs, spread, rounds that do not count |
//! | [`row`], [`report`] | what is printed |
//! | [`stages`] | the stages behind the client, for the benches and for counts of instructions |
//! | [`engine`], [`broker`], [`machine`] | the binary, a broker to throw away, and where it all ran |

pub mod allocations;
pub mod broker;
pub mod cores;
pub mod cost;
pub mod drain;
pub mod engine;
pub mod figures;
pub mod floor;
pub mod in_process;
pub mod machine;
pub mod measure;
pub mod member;
pub mod null_store;
pub mod proofs;
pub mod report;
pub mod roles;
pub mod row;
pub mod scale;
pub mod stages;
pub mod synthetic;

use std::fmt;
use std::process::ExitCode;

/// Why there is no figure, in one line.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// What was asked for cannot be measured: something is not there that whoever asks has to name or to start.
    Asked(String),
    /// It was tried and went wrong. A figure of a failure is worth nothing, so there is none.
    Tried(String),
}

impl Failure {
    /// What a command ends with: 2 as for a command line that is not understood, 1 for everything else.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Asked(_) => 2,
            Self::Tried(_) => 1,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Asked(why) | Self::Tried(why)) = self;
        f.write_str(why)
    }
}

/// Bytes of a GiB, in which everything is given.
pub const GIB: f64 = (1_u64 << 30) as f64;
