//! Rounds: the engine, the floor and, of a topic, the bare drain in turn, each a process of its own, and what was stored read back.
//!
//! Its place: between the command line and the rows. It guarantees that every round it answers was verified, that each engine began with an empty
//! group and an empty directory, and that figures of one round are of one stretch of time. The engine is the shipped program, unless the source or
//! the store is one that only this program has: then it is the [same engine in a process of ours](crate::in_process).
//!
//! What it does not do: nothing is deleted on brokers and on stores that were named; topics, groups and objects stay there, under names that begin
//! with `ratio-`.

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
use crate::in_process::{Allocations, HARNESS, Input, Ran, Work};
use crate::row::{Case, Format, Round, Row};

/// MiB of records of memory in a run that counts allocations: they are the same for every record.
const COUNTED_MIB: u64 = 256;

/// Where the engine writes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Nowhere: the bytes are taken and counted.
    Null,
    /// A store by its address. What is written stays.
    Named(String),
    /// A directory of our own. What a round has written goes as soon as it was verified.
    Own(PathBuf),
}

impl Target {
    /// The scheme of its address.
    pub fn scheme(&self) -> &str {
        match self {
            Self::Null => "null",
            Self::Named(url) => url.split_once("://").map_or("", |(scheme, _)| scheme),
            Self::Own(_) => "file",
        }
    }

    /// The address of a directory in it, if it has any.
    fn below(&self, name: &str) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Named(url) => Some(below(url, name)),
            Self::Own(directory) => Some(format!("file://{}/{name}/", directory.display())),
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
    programs: Programs,
    /// Keeps names of this run from those of others.
    run: String,
}

impl Bench {
    /// With this engine.
    ///
    /// # Errors
    /// If this program's own path is not known.
    pub fn new(engine: Engine) -> Result<Self, Failure> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { engine, programs: Programs::new()?, run: format!("{:x}", since.as_millis()) })
    }

    /// A new topic with so many MiB of values.
    ///
    /// # Errors
    /// If the brokers do not take them.
    pub fn fill(&self, brokers: &str, record_bytes: usize, codec: &str, mib: u64) -> Result<String, Failure> {
        let topic = format!("ratio-{}-{record_bytes}-{codec}", self.run);
        let mut command = self.programs.at("fill", brokers, &topic);
        command.args(["--record-bytes", &record_bytes.to_string(), "--codec", codec, "--mib", &mib.to_string()]);
        cost::run(&mut command)?;
        Ok(topic)
    }

    /// The row of this number over so many rounds; with `count`, calls of the allocator are counted in one run more. Each round is told on standard
    /// error as soon as it is over.
    ///
    /// # Errors
    /// If anything fails in any of them: the others would say nothing about why.
    pub fn row(&self, number: usize, case: &Case, target: &Target, rounds: u32, count: bool) -> Result<Row, Failure> {
        let rule = |round: &str| format!("ratio-{}-{number}-{}-{}-{round}", self.run, case.format.name(), case.record_bytes);
        let rounds = (1..=rounds).map(|n| self.round(case, target, &rule(&n.to_string()), n)).collect::<Result<Vec<_>, _>>()?;
        let counted = if count { self.count(case, target, &rule("count"))? } else { None };
        Ok(Row::of(case, target.scheme(), &rounds, counted.as_ref()))
    }

    /// Each round is a rule of its own and goes to a directory of its own.
    fn round(&self, case: &Case, target: &Target, rule: &str, n: u32) -> Result<Round, Failure> {
        let (engine, ran) = self.run_engine(case, target, rule)?;
        let floor = self.programs.floor(case.record_bytes, case.format)?;
        let drained = match &case.from {
            Input::Topic { brokers, topic } => Some(answer::<Drained>(&mut self.programs.at("drain", brokers, topic))?),
            Input::Records { .. } => None,
        };
        let (records, value_bytes) = given(ran.as_ref(), drained.as_ref().map(|(_, drained)| drained))?;
        if let Some(to) = target.below(rule) {
            self.engine.verify(&to, records)?;
            target.forget(rule);
        }
        let round = Round { engine, drain: drained.map(|(cost, _)| cost), floor, records, value_bytes };
        let (format, source, store) = (case.format.name(), case.source().name(), target.scheme());
        eprintln!("{format} {} B, {}, {source} to {store}, round {n}: {round}", case.record_bytes, case.topic_codec);
        Ok(round)
    }

    /// The shipped program where it can do it; else what a process of ours has done.
    fn run_engine(&self, case: &Case, target: &Target, rule: &str) -> Result<(Cost, Option<Ran>), Failure> {
        let to = target.below(rule);
        if let (Input::Topic { brokers, topic }, Some(to)) = (&case.from, &to) {
            return Ok((self.engine.backup(brokers, topic, rule, to, case.format)?, None));
        }
        let work = Work { from: case.from.clone(), format: case.format, to, rule: rule.to_owned(), cpus: None, count: false };
        self.programs.engine(&work).map(|(cost, ran)| (cost, Some(ran)))
    }

    /// Counts calls of the allocator, in a process of ours whatever the store.
    fn count(&self, case: &Case, target: &Target, rule: &str) -> Result<Option<Allocations>, Failure> {
        let from = match case.from.clone() {
            Input::Records { record_bytes, mib } => Input::Records { record_bytes, mib: mib.min(COUNTED_MIB) },
            topic @ Input::Topic { .. } => topic,
        };
        let to = target.below(rule);
        let (_, ran) = self.programs.engine(&Work { from, format: case.format, to, rule: rule.to_owned(), cpus: None, count: true })?;
        target.forget(rule);
        Ok(ran.allocations)
    }
}

/// This program: its other verbs are what runs beside the engine.
#[derive(Debug)]
pub struct Programs(PathBuf);

impl Programs {
    /// Finds it.
    ///
    /// # Errors
    /// If this program's own path is not known.
    pub fn new() -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|e| Failure::Asked(format!("this program does not know where it lies: {e}")))?;
        Ok(Self(program))
    }

    /// What the engine cost within a process of ours, and what it did.
    ///
    /// # Errors
    /// If it failed, or what was stored is not what was given.
    pub fn engine(&self, work: &Work) -> Result<(Cost, Ran), Failure> {
        let work = serde_json::to_string(work).map_err(|e| Failure::Tried(e.to_string()))?;
        let (mut cost, ran): (Cost, Ran) = answer(Command::new(&self.0).args(["engine", &work]))?;
        // What was prepared and checked is no part of it.
        (cost.cpu_s, cost.minor_faults) = (ran.cpu_s, ran.minor_faults);
        cost.roles.remove(HARNESS);
        Ok((cost, ran))
    }

    fn floor(&self, record_bytes: usize, format: Format) -> Result<Floored, Failure> {
        let mut command = Command::new(&self.0);
        command.args(["floor", "--record-bytes", &record_bytes.to_string(), "--format", format.name()]);
        answer(&mut command).map(|(_, floor)| floor)
    }

    fn at(&self, verb: &str, brokers: &str, topic: &str) -> Command {
        let mut command = Command::new(&self.0);
        command.args([verb, "--brokers", brokers, "--topic", topic]);
        command
    }
}

/// Records, and bytes of their values, that were given: what the run itself has compared with its proofs, and what a drain of the topic has found.
fn given(ran: Option<&Ran>, drained: Option<&Drained>) -> Result<(u64, u64), Failure> {
    let held = ran.map(|ran| (ran.records, ran.value_bytes));
    let drained = drained.map(|drained| (drained.records, drained.value_bytes));
    match (held, drained) {
        (Some((0, _)) | None, Some((0, _)) | None) => Err(Failure::Asked("there is no record".to_owned())),
        (Some(held), Some(drained)) if held != drained => {
            Err(Failure::Tried(format!("the topic has {drained:?} records and bytes of values, what was stored has {held:?}")))
        }
        (_, Some(given)) | (Some(given), None) => Ok(given),
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
        assert_eq!(below("s3://bucket").as_deref(), Some("s3://bucket/r-1/"));
        assert_eq!(below("s3://bucket/a/?region=x").as_deref(), Some("s3://bucket/a/r-1/?region=x"));
        assert_eq!(Target::Own("/tmp/x".into()).below("r-1").as_deref(), Some("file:///tmp/x/r-1/"));
        assert_eq!(Target::Null.below("r-1"), None);
        assert_eq!(
            [Target::Named("cos://b/".into()), Target::Own("/x".into()), Target::Null].each_ref().map(Target::scheme),
            ["cos", "file", "null"]
        );
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
    fn what_was_stored_is_held_against_what_a_drain_has_found() {
        let ran = |records| Ran { records, value_bytes: 30, cpu_s: 0.0, minor_faults: 0, wall_s: 0.0, allocations: None };
        let drained = |records| Drained { records, value_bytes: 30, compressed_bytes: 9 };
        assert_eq!(given(Some(&ran(3)), None), Ok((3, 30)));
        assert_eq!(given(None, Some(&drained(3))), Ok((3, 30)), "the shipped program's output is verified by itself");
        assert_eq!(given(Some(&ran(3)), Some(&drained(3))), Ok((3, 30)));
        for differing in [(2, 3), (3, 2), (0, 3), (3, 0)] {
            let (held, topic) = differing;
            assert!(matches!(given(Some(&ran(held)), Some(&drained(topic))), Err(Failure::Tried(_))), "{differing:?}");
        }
        assert!(matches!(given(None, Some(&drained(0))), Err(Failure::Asked(_))), "an empty topic");
    }

    #[test]
    fn what_a_verb_answers_is_read() {
        let (_, drained): (Cost, Drained) =
            answer(Command::new("echo").arg(r#"{"records": 3, "value_bytes": 30, "compressed_bytes": 9}"#)).unwrap();
        assert_eq!(drained, Drained { records: 3, value_bytes: 30, compressed_bytes: 9 });
        assert!(matches!(answer::<Drained>(Command::new("echo").arg("3")), Err(Failure::Tried(_))));
    }
}
