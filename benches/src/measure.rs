//! Rounds on a real topic and store: the engine, the floor and the bare drain in turn, each a process of its own, and what was stored read back.
//!
//! Its place: between the command line and the rows. It guarantees that every round it answers was verified, that each engine began with an empty group
//! and an empty directory, and that figures of one round are of one stretch of time.
//!
//! What it does not do: nothing is deleted on brokers and on stores that were named; topics, groups and objects stay there, under names that begin with
//! `ratio-`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use catchment_loadtest::run::below;
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::cost::{self, Cost};
use crate::drain::Drained;
use crate::engine::Engine;
use crate::floor::Floored;
use crate::row::{Case, Round, Row};

/// Where the engine writes to.
#[derive(Clone, Debug)]
pub enum Target {
    /// A store by its address. What is written stays.
    Named(String),
    /// A directory of our own. What a round has written goes as soon as it was verified.
    Own(PathBuf),
}

impl Target {
    /// The scheme of its address.
    pub fn scheme(&self) -> &str {
        match self {
            Self::Named(url) => url.split_once("://").map_or("", |(scheme, _)| scheme),
            Self::Own(_) => "file",
        }
    }

    /// The address of a directory in it.
    fn below(&self, name: &str) -> String {
        match self {
            Self::Named(url) => below(url, name),
            Self::Own(directory) => format!("file://{}/{name}/", directory.display()),
        }
    }

    fn forget(&self, name: &str) {
        if let Self::Own(directory) = self {
            // What stays takes room until the end of the run, and goes then.
            let _ = std::fs::remove_dir_all(directory.join(name));
        }
    }
}

/// What all rows of a run have in common.
#[derive(Debug)]
pub struct Bench {
    engine: Engine,
    /// This program: its other verbs are what runs beside the engine.
    program: PathBuf,
    brokers: String,
    target: Target,
    /// Keeps names of this run from those of others.
    run: String,
}

impl Bench {
    /// With these brokers and this store.
    ///
    /// # Errors
    /// If this program's own path is not known.
    pub fn new(engine: Engine, brokers: String, target: Target) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|e| Failure::Asked(format!("this program does not know where it lies: {e}")))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { engine, program, brokers, target, run: format!("{:x}", since.as_millis()) })
    }

    /// A new topic with so many MiB of values.
    ///
    /// # Errors
    /// If the brokers do not take them.
    pub fn fill(&self, record_bytes: usize, codec: &str, mib: u64) -> Result<String, Failure> {
        let topic = format!("ratio-{}-{record_bytes}-{codec}", self.run);
        let mut command = self.own("fill", &topic);
        command.args(["--record-bytes", &record_bytes.to_string(), "--codec", codec, "--mib", &mib.to_string()]);
        cost::run(&mut command)?;
        Ok(topic)
    }

    /// A row over so many rounds. Each round is told on standard error as soon as it is over.
    ///
    /// # Errors
    /// If anything fails in any of them: the others would say nothing about why.
    pub fn row(&self, case: &Case, rounds: u32) -> Result<Row, Failure> {
        let rounds = (1..=rounds).map(|n| self.round(case, n)).collect::<Result<Vec<_>, _>>()?;
        Ok(Row::of(case, self.target.scheme(), &rounds))
    }

    /// Each round is a rule of its own and goes to a directory of its own.
    fn round(&self, case: &Case, n: u32) -> Result<Round, Failure> {
        let Case { format, record_bytes, topic_codec, topic } = case;
        let rule = format!("ratio-{}-{}-{record_bytes}-{topic_codec}-{n}", self.run, format.name());
        let to = self.target.below(&rule);
        let engine = self.engine.backup(&self.brokers, topic, &rule, &to, *format)?;
        let mut command = Command::new(&self.program);
        command.args(["floor", "--record-bytes", &record_bytes.to_string(), "--format", format.name()]);
        let (_, floor): (Cost, Floored) = answer(&mut command)?;
        let (drain, drained): (Cost, Drained) = answer(&mut self.own("drain", topic))?;
        if drained.records == 0 {
            return Err(Failure::Asked(format!("the topic {topic} is empty")));
        }
        self.engine.verify(&to, drained.records)?;
        self.target.forget(&rule);
        let round = Round { engine, drain, floor, records: drained.records, value_bytes: drained.value_bytes };
        eprintln!("{} {record_bytes} B, {topic_codec}, round {n}: {round}", format.name());
        Ok(round)
    }

    fn own(&self, verb: &str, topic: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args([verb, "--brokers", &self.brokers, "--topic", topic]);
        command
    }
}

/// Runs a verb that prints one value as JSON.
fn answer<T: DeserializeOwned>(command: &mut Command) -> Result<(Cost, T), Failure> {
    let (cost, said) = cost::run(command)?;
    let value = serde_json::from_str(&said).map_err(|e| Failure::Tried(format!("{command:?} answers {said:?}: {e}")))?;
    Ok((cost, value))
}

/// A directory for what goes with the run. On the cache's disk, as that of the tests: a temporary directory may lie in memory.
///
/// # Errors
/// If none can be made.
pub fn scratch() -> Result<tempfile::TempDir, Failure> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/catchment"));
    let cache = std::env::var_os("CATCHMENT_CACHE").map(PathBuf::from).or_else(home).unwrap_or_else(std::env::temp_dir);
    let run = cache.join("run");
    std::fs::create_dir_all(&run)
        .and_then(|()| run.canonicalize())
        .and_then(|run| tempfile::Builder::new().prefix("ratio-").tempdir_in(run))
        .map_err(|e| Failure::Asked(format!("no directory can be made in {}: {e}; set CATCHMENT_CACHE", run.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_go_to_directories_below_the_target() {
        let below = |url: &str| Target::Named(url.into()).below("r-1");
        assert_eq!(below("s3://bucket"), "s3://bucket/r-1/");
        assert_eq!(below("s3://bucket/a/?region=x"), "s3://bucket/a/r-1/?region=x");
        assert_eq!(Target::Own("/tmp/x".into()).below("r-1"), "file:///tmp/x/r-1/");
        assert_eq!((Target::Named("cos://b/".into()).scheme(), Target::Own("/x".into()).scheme()), ("cos", "file"));
    }

    #[test]
    fn only_our_own_directory_is_emptied() {
        let directory = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (ours, theirs) = (made("r-1"), made("r-2"));
        Target::Own(directory.path().to_owned()).forget("r-1");
        Target::Named(format!("file://{}", directory.path().display())).forget("r-2");
        assert!(!ours.exists() && theirs.exists());
    }

    #[test]
    fn what_a_verb_answers_is_read() {
        let (_, drained): (Cost, Drained) =
            answer(Command::new("echo").arg(r#"{"records": 3, "value_bytes": 30, "compressed_bytes": 9}"#)).unwrap();
        assert_eq!(drained, Drained { records: 3, value_bytes: 30, compressed_bytes: 9 });
        assert!(matches!(answer::<Drained>(Command::new("echo").arg("3")), Err(Failure::Tried(_))));
    }
}
