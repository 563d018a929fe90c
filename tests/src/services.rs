//! Real services on loopback, through the scripts of `tests/services`.
//!
//! Two ways to have one. `shared()` is one server for all tests: the one that an environment variable names, else the one that
//! `scripts/test` started, else one that this test binary starts and that ends with it. `start()` is a server of the test's own
//! on free ports, for tests that kill, freeze, reconfigure or fill it; it ends, with its data, when the value is dropped, or
//! when the process goes in whatever way (a watcher beside the server sees to that).
//!
//! Not done here: nothing is skipped. What cannot be started panics with the script's own words.

mod kafka;
mod minio;
mod token;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use kafka::{Kafka, KafkaOptions, KafkaVersion, Listener};
pub use minio::Minio;
use tempfile::TempDir;
pub use token::TokenEndpoint;

/// The directory that `scripts/test` started the shared services in: `kafka/`, `kafka3/` and `minio/` in it.
const SERVICES_VARIABLE: &str = "CATCHMENT_TEST_SERVICES";

/// What the scripts print: `KEY=VALUE` lines.
type Settings = BTreeMap<String, String>;

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("services")
}

/// The directory for everything big that outlives a run; the scripts know it under the same variable.
pub fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/catchment");
    std::env::var_os("CATCHMENT_CACHE").map_or_else(home, PathBuf::from)
}

/// A directory for one server's data. On the cache's disk: a temporary directory may lie in memory.
fn server_dir(name: &str) -> TempDir {
    let run = cache().join("run");
    std::fs::create_dir_all(&run).unwrap_or_else(|e| panic!("cannot create {}: {e}", run.display()));
    tempfile::Builder::new().prefix(name).tempdir_in(&run).unwrap_or_else(|e| panic!("cannot create a directory in {}: {e}", run.display()))
}

/// The directory of a service that `scripts/test` started, if it did.
fn shared_dir(name: &str) -> Option<PathBuf> {
    std::env::var_os(SERVICES_VARIABLE).map(|dir| Path::new(&dir).join(name))
}

/// Runs a service script to its end and returns the settings that it printed.
///
/// # Panics
/// If the script fails, with what it said.
fn script(name: &str, verb: &str, dir: &Path, more: &[String]) -> Settings {
    let out = Command::new("bash")
        .arg(scripts().join(name))
        .args([verb, "--dir"])
        .arg(dir)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("cannot run {name}: {e}"));
    assert!(out.status.success(), "{name} {verb} failed ({}):\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    parse_settings(&String::from_utf8_lossy(&out.stdout))
}

fn parse_settings(text: &str) -> Settings {
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn read_settings(dir: &Path) -> Settings {
    let path = dir.join("env");
    parse_settings(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display())))
}

/// One server, as its script's directory shows it.
#[derive(Debug)]
struct Server {
    script: &'static str,
    dir: PathBuf,
    settings: Settings,
    /// Present when the server is ours to end.
    owned: Option<TempDir>,
}

impl Server {
    /// Attaches to a server that somebody else started and will end.
    fn attach(script: &'static str, dir: PathBuf) -> Self {
        let settings = read_settings(&dir);
        Self { script, dir, settings, owned: None }
    }

    fn start(script_name: &'static str, prefix: &str, mut options: Vec<String>) -> Self {
        let owned = server_dir(prefix);
        options.extend(["--owner".to_owned(), std::process::id().to_string()]);
        let settings = script(script_name, "up", owned.path(), &options);
        Self { script: script_name, dir: owned.path().to_owned(), settings, owned: Some(owned) }
    }

    fn setting(&self, key: &str) -> &str {
        self.settings.get(key).unwrap_or_else(|| panic!("{} printed no {key}", self.script))
    }

    /// Runs a verb that changes the server's life; only its owner may.
    fn control(&self, verb: &str, more: &[String]) {
        assert!(self.owned.is_some(), "{} {verb}: a shared server is not one test's to {verb}; use start()", self.script);
        script(self.script, verb, &self.dir, more);
    }

    /// The process's id at this moment.
    fn pid(&self) -> i32 {
        let path = self.dir.join("pid");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{} does not run: {e}", self.script));
        text.trim().parse().expect("a pid file holds a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.owned.is_none() {
            return;
        }
        if std::thread::panicking() {
            for log in ["kafka.log", "minio.log"] {
                if let Ok(text) = std::fs::read_to_string(self.dir.join(log)) {
                    let lines: Vec<_> = text.lines().collect();
                    eprintln!("end of {log}:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
                }
            }
        }
        // Not `script`: a panic in a drop would hide the test's own.
        let _ = Command::new("bash").arg(scripts().join(self.script)).args(["kill", "--dir"]).arg(&self.dir).output();
    }
}
