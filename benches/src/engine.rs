//! The engine's binary: where it is, and how a round calls it.
//!
//! Which binary: `CATCHMENT_BIN` if it is set; else the one that Cargo builds now, if Cargo runs this, so that a stale one is not measured by mistake; else
//! the one beside this program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;
use crate::cost::{self, Cost};
use crate::row::Format;

/// Names the binary.
const VARIABLE: &str = "CATCHMENT_BIN";

/// The engine that is measured.
#[derive(Clone, Debug)]
pub struct Engine {
    binary: PathBuf,
}

impl Engine {
    /// Finds or builds it.
    ///
    /// # Errors
    /// If it is not there.
    pub fn find() -> Result<Self, Failure> {
        let named = std::env::var_os(VARIABLE).map(PathBuf::from);
        let binary = match (named, std::env::var_os("CARGO")) {
            (Some(named), _) => named,
            (None, Some(cargo)) => build(Path::new(&cargo))?,
            (None, None) => beside()?,
        };
        if binary.is_file() {
            return Ok(Self { binary });
        }
        Err(Failure::Asked(format!(
            "there is no engine at {}: build it (cargo build --release) or name it by {VARIABLE}",
            binary.display()
        )))
    }

    /// Backs up a topic from its beginning to its end as it is now, in one window a partition.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn backup(&self, brokers: &str, topic: &str, rule: &str, to: &str, format: Format) -> Result<Cost, Failure> {
        let mut command = Command::new(&self.binary);
        command.args(["backup", topic, "-b", brokers, "--rule", rule, "--to", to, "--format", format.name()]);
        command.args(["--window", "24h", "--until-end", "-q"]);
        if !format.is_compressed() {
            command.args(["--codec", "none", "--framing", "len32"]);
        }
        cost::run(&mut command).map(|(cost, _)| cost)
    }

    /// Reads everything back. No figure counts whose output is not whole.
    ///
    /// # Errors
    /// If anything is damaged or missing, or there are not so many records.
    pub fn verify(&self, to: &str, records: u64) -> Result<(), Failure> {
        let (_, said) = cost::run(Command::new(&self.binary).args(["verify", to, "--json"]))?;
        whole(&said, records)
    }
}

/// Whether a verification's report names so many records and nothing else.
fn whole(report: &str, records: u64) -> Result<(), Failure> {
    let wrong = |what: &str| Err(Failure::Tried(format!("{what}: {}", report.trim())));
    let Ok(read) = serde_json::from_str::<serde_json::Value>(report) else { return wrong("verify prints no report") };
    let nothing = |name: &str| read[name].as_array().is_some_and(Vec::is_empty);
    if read["records"].as_u64() != Some(records) {
        wrong(&format!("the topic has {records} records, what was stored has not"))
    } else if !nothing("damage") || !nothing("gaps") {
        wrong("what was stored is damaged or has gaps")
    } else {
        Ok(())
    }
}

fn beside() -> Result<PathBuf, Failure> {
    let this =
        std::env::current_exe().map_err(|e| Failure::Asked(format!("this program does not know where it lies: {e}; set {VARIABLE}")))?;
    Ok(this.with_file_name("catchment"))
}

/// Builds the engine as the workspace's tests do, so that its dependencies are not built twice.
fn build(cargo: &Path) -> Result<PathBuf, Failure> {
    let out = Command::new(cargo)
        .args(["build", "--release", "--workspace", "--bin", "catchment", "--message-format=json"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| Failure::Asked(format!("cargo cannot be run ({e}): name the engine by {VARIABLE}")))?;
    let messages = String::from_utf8_lossy(&out.stdout);
    match executable(&messages) {
        Some(binary) if out.status.success() => Ok(binary),
        _ => Err(Failure::Asked(format!("the engine does not build: name one by {VARIABLE}"))),
    }
}

/// The engine's path in what Cargo says.
fn executable(messages: &str) -> Option<PathBuf> {
    let read = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok();
    let ours = |message: &serde_json::Value| message["target"]["name"] == "catchment";
    messages.lines().filter_map(read).filter(ours).find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_report_counts() {
        let report = |records: u64, damage: &str, gaps: &str| format!(r#"{{"records": {records}, "damage": {damage}, "gaps": {gaps}}}"#);
        assert_eq!(whole(&report(7, "[]", "[]"), 7), Ok(()));
        for bad in [report(6, "[]", "[]"), report(7, "[{}]", "[]"), report(7, "[]", "[{}]"), r#"{"records": 7}"#.into(), String::new()] {
            assert!(matches!(whole(&bad, 7), Err(Failure::Tried(_))), "{bad}");
        }
    }

    #[test]
    fn the_engine_is_told_from_the_library_of_its_name() {
        let messages = r#"
            {"reason":"compiler-artifact","target":{"name":"catchment","kind":["lib"]},"executable":null}
            {"reason":"compiler-artifact","target":{"name":"catchment","kind":["bin"]},"executable":"/t/release/catchment"}
            {"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages), Some("/t/release/catchment".into()));
        assert_eq!(executable("warning: nothing"), None);
    }
}
