//! Readers that share no code with Catchment: DuckDB, PyArrow, Polars and ClickHouse on Parquet, a decoder in Python on raw objects, and
//! another Kafka client's view of a topic. They run as programs, `tests/readers/*.py`.
//!
//! Their Python: `CATCHMENT_PYTHON`, which `scripts/test` sets, else the newest of the virtual environments that it has left in the cache.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::oracle::{Stored, Truth};
use crate::services::{Minio, cache};

/// The programs that read Parquet.
pub const PARQUET_READERS: [&str; 4] = ["duckdb", "pyarrow", "polars", "chdb"];

/// Where the objects lie.
#[derive(Clone, Copy, Debug)]
pub enum Objects<'a> {
    /// In a bucket.
    Bucket(&'a Minio, &'a str),
    /// Below a directory.
    Directory(&'a Path),
}

impl Objects<'_> {
    fn pass_to(self, command: &mut Command) {
        match self {
            Self::Bucket(server, bucket) => {
                command.args(["--endpoint", server.endpoint(), "--bucket", bucket]).envs(server.environment());
            }
            Self::Directory(directory) => {
                command.arg("--directory").arg(directory);
            }
        }
    }
}

/// The rows that DuckDB gives for the last of some statements, each a list.
///
/// # Panics
/// If it refuses them.
pub fn duckdb(statements: &str) -> serde_json::Value {
    const SCRIPT: &str = "import duckdb, json, sys; print(json.dumps(duckdb.sql(sys.argv[1]).fetchall(), default=str))";
    // The Python of the readers has the module.
    let out = Command::new(program("check_parquet.py").get_program()).args(["-c", SCRIPT, statements]).output().expect("Python runs");
    assert!(out.status.success(), "{statements}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{statements}: {e}: {}", String::from_utf8_lossy(&out.stdout)))
}

/// What one reader saw.
#[derive(Clone, Debug, Deserialize)]
pub struct ReaderView {
    /// The reader's version; of the broker's view, none.
    #[serde(default)]
    pub version: String,
    /// Rows, duplicates included.
    pub rows: u64,
    /// Different (partition, offset) among them.
    pub distinct: u64,
    /// SHA-256 of the digest file.
    pub digest: String,
    /// The digest file: see [`Stored::from_digest_file`].
    pub file: PathBuf,
}

/// What all readers saw.
#[derive(Clone, Debug, Deserialize)]
pub struct ParquetView {
    /// Parquet objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// By reader.
    pub readers: BTreeMap<String, ReaderView>,
}

/// What the raw decoder saw.
#[derive(Clone, Debug, Deserialize)]
pub struct RawView {
    /// Raw objects.
    pub objects: u64,
    /// Values that could be told apart.
    pub values: u64,
    /// Null values.
    pub nulls: u64,
    /// Bytes of values.
    pub value_bytes: u64,
}

/// Lets every reader read the Parquet objects below `prefix`. Digest files go to `out`.
///
/// # Panics
/// If a reader fails, or the readers differ from each other.
pub fn read_parquet(objects: Objects<'_>, prefix: &str, out: &Path) -> ParquetView {
    let mut command = program("check_parquet.py");
    objects.pass_to(&mut command);
    let view: ParquetView = run(command.args(["--prefix", prefix, "--out"]).arg(out));
    assert!(PARQUET_READERS.iter().all(|name| view.readers.contains_key(*name)), "a reader is missing: {view:?}");
    view
}

/// Fails unless each of the readers sees exactly the truth in the Parquet objects below `prefix`; returns how many objects they read.
#[track_caller]
pub fn assert_parquet_equals(truth: &Truth, objects: Objects<'_>, prefix: &str) -> u64 {
    let out = tempfile::tempdir().expect("a temporary directory");
    let view = read_parquet(objects, prefix, out.path());
    for (name, reader) in &view.readers {
        truth.assert_equals(&Stored::from_digest_file(&reader.file), name);
    }
    view.objects
}

/// Decodes the raw objects below `prefix`; `framing` is `len32`, `newline` or `none`. The lines of `raw_decode.py` go to `out`.
///
/// # Panics
/// If an object cannot be decoded.
pub fn decode_raw(objects: Objects<'_>, prefix: &str, framing: &str, out: &Path) -> RawView {
    let mut command = program("raw_decode.py");
    objects.pass_to(&mut command);
    run(command.args(["--framing", framing, "--prefix", prefix, "--out"]).arg(out))
}

/// Fails unless the raw objects below `prefix` hold exactly the truth's values in order; returns how many objects there were. With
/// framing `newline` no value may contain one.
#[track_caller]
pub fn assert_raw_equals(truth: &Truth, objects: Objects<'_>, prefix: &str, framing: &str) -> u64 {
    let out = tempfile::NamedTempFile::new().expect("a temporary file");
    let view = decode_raw(objects, prefix, framing, out.path());
    let text = std::fs::read_to_string(out.path()).expect("the decoder wrote it");
    let expected = truth.value_lines(framing == "len32");
    if let Some((n, (found, line))) = text.lines().zip(&expected).enumerate().find(|(_, (found, line))| found != line) {
        panic!("raw value {n} differs: found {found}, expected {line}");
    }
    assert_eq!(text.lines().count(), expected.len(), "raw values");
    view.objects
}

/// A topic as confluent-kafka sees it. Only for topics whose header names are all UTF-8: on others that client crashes.
pub fn read_topic(bootstrap: &str, topic: &str, out: &Path) -> ReaderView {
    run(program("oracle.py").args(["--bootstrap", bootstrap, "--topic", topic, "--out"]).arg(out))
}

/// A program of `tests/readers`.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("readers").join(name));
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    command
}

fn run<T: serde::de::DeserializeOwned>(command: &mut Command) -> T {
    let out = command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let said = || format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{command:?} failed ({}):\n{}", out.status, said());
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{command:?} said something else than expected ({e}):\n{}", said()))
}

/// The Python that has the readers, and what else `requirements.txt` names.
///
/// # Panics
/// If there is none.
pub fn python() -> PathBuf {
    if let Some(path) = std::env::var_os("CATCHMENT_PYTHON") {
        return path.into();
    }
    let built = |dir: &Path| std::fs::metadata(dir.join(".done")).and_then(|m| m.modified()).ok();
    std::fs::read_dir(cache().join("venv"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|dir| built(dir).is_some())
        .max_by_key(|dir| built(dir))
        .map(|dir| dir.join("bin/python"))
        .expect("no Python with the readers: run `scripts/test --prepare` once")
}
