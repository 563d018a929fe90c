//! `catchment-loadtest` as a process: with a real Kafka and the program under test, what it reports, and that it passes nothing that is not right.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use catchment::service::load_tests::{LoadTest, LoadTests};
use catchment_tests::bed::unique;
use catchment_tests::process::{Exit, Program, bench_binary, binary};
use catchment_tests::services::Kafka;
use serde_json::Value;
use tempfile::TempDir;

/// How long a run may take.
const LIMIT: Duration = Duration::from_secs(180);

/// Where nothing listens.
const NOWHERE: &str = "127.0.0.1:1";

/// Directories of one test.
struct Place {
    root: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { root: tempfile::tempdir().expect("a temporary directory") }
    }

    fn url(&self) -> String {
        format!("file://{}/", self.root.path().join("store").display())
    }

    fn out(&self, name: &str) -> PathBuf {
        self.root.path().join("out").join(name)
    }

    fn report(&self) -> Value {
        let text = std::fs::read_to_string(self.out("report.json")).expect("a report was written");
        serde_json::from_str(&text).expect("it is JSON")
    }

    fn html(&self) -> String {
        std::fs::read_to_string(self.out("report.html")).expect("a page was written")
    }

    /// `catchment-loadtest run` with a load of these words, and flags of the backup.
    fn run(&self, load: &str, flags: &str) -> Exit {
        let (url, out) = (self.url(), self.root.path().join("out"));
        let program = loadtest(["run", "-b", Kafka::shared().bootstrap(), "--to", &url, "--out"]).args([out.as_os_str()]);
        let program = program.args([OsStr::new("--catchment"), binary().as_os_str()]).args(load.split_whitespace());
        program.args(["--"]).args(flags.split_whitespace()).run(LIMIT)
    }
}

fn loadtest<const N: usize>(words: [&str; N]) -> Program {
    Program::of(&bench_binary("catchment-loadtest"), words)
}

/// A load test as a service shows it.
fn shown(directory: &Path, name: &str) -> LoadTest {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
    runtime.block_on(LoadTests::of(Some(directory)).one(name)).expect("the directory can be read")
}

/// The Parquet objects below a directory.
fn objects(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("it can be listed").flatten() {
        let path = entry.path();
        if path.is_dir() {
            objects(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
}

#[test]
fn a_load_in_transactions_is_backed_up_verified_and_reported() {
    let place = Place::new();
    let load = "--records 6000 --rate 3000/s --record-bytes 200..3KiB --keys 50 --codec zstd --partitions 3 \
                --transaction-records 100 --abort-percent 30 --seed 11";
    let exit = place.run(&format!("{load} --topic {}", unique("load")), "--window 1m");
    exit.assert_code(0);
    assert!(exit.stdout.contains("verified") && exit.stdout.contains("/s of values"), "{}", exit.stdout);
    let report = place.report();
    let (produced, verdict) = (&report["produced"], &report["verdict"]);
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"));
    let aborted = number(&produced["aborted_transactions"]);
    assert!((1..60).contains(&aborted) && number(&produced["transactions"]) == 60, "{produced}");
    assert_eq!(number(&produced["committed_records"]), 6000 - 100 * aborted);
    assert_eq!(verdict["passed"], true);
    assert_eq!(verdict["payloads_read_from"], "objects");
    assert_eq!(number(&verdict["payloads"]["found"]), 6000 - 100 * aborted);
    assert_eq!((number(&verdict["payloads"]["aborted"]), number(&verdict["payloads"]["missing"])), (0, 0));
    assert_eq!(number(&produced["latency"]["count"]), 6000);
    // 6000 records at 3000 in a second are due over two seconds.
    assert!(produced["seconds"].as_f64().is_some_and(|seconds| seconds >= 1.9), "{produced}");
    assert!(report["throughput"]["bytes_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{report}");
    assert!(number(&report["cost"]["peak_rss_bytes"]) > 10 << 20, "{}", report["cost"]);
    assert_eq!(report["object_bytes"].as_array().map(|list| list.len() as u64), verdict["objects"].as_u64());
    let html = place.html();
    assert!(html.contains("verified: ") && html.contains("<svg"), "{html}");
    let shown = shown(place.root.path(), "out");
    assert_eq!((shown.problem, shown.verified, shown.records), (None, true, Some(6000 - 100 * aborted)));
    assert_eq!((shown.brokers.join(","), shown.has_page), (Kafka::shared().bootstrap().to_owned(), true));
    assert_eq!((shown.partitions, shown.codec.as_deref(), shown.transaction_records), (Some(3), Some("zstd"), Some(100)));
    let (latency, throughput) = (shown.latency.expect("latencies"), shown.throughput.expect("a throughput"));
    assert_eq!(latency.p99_ms, produced["latency"]["p99_ms"].as_f64());
    assert_eq!(throughput.bytes_per_s, report["throughput"]["bytes_per_s"].as_f64());
    assert!(shown.began_ms.is_some() && shown.cpu_s.is_some() && shown.peak_rss_bytes.is_some() && shown.objects.is_some());
    assert!(shown.catchment.is_some_and(|program| program.contains("catchment")) && shown.librdkafka.is_some());
}

#[test]
fn a_live_backup_of_raw_objects_is_verified_by_way_of_the_topic() {
    let place = Place::new();
    let exit = place.run("--duration 4s --rate 500/s --keys none --partitions 2 --live", "--format raw --framing newline --window 1s");
    exit.assert_code(0);
    let report = place.report();
    assert_eq!((&report["mode"], &report["verdict"]["payloads_read_from"]), (&Value::from("live"), &Value::from("topic")));
    assert_eq!(report["verdict"]["records"], report["produced"]["committed_records"]);
    let samples = report["samples"].as_array().expect("a list");
    assert!(samples.len() >= 3, "a sample in a second: {samples:?}");
    assert!(samples.iter().any(|sample| sample["read_bytes_per_s"].as_f64().is_some_and(|rate| rate > 0.0)), "{samples:?}");
}

#[test]
fn a_backup_that_lacks_an_object_or_a_byte_passes_no_verification() {
    let place = Place::new();
    place.run("--records 2000 --partitions 2", "--window 1h").assert_code(0);
    let verify = || {
        let mut stored: Vec<_> = std::fs::read_dir(place.root.path().join("store")).expect("it is there").flatten().collect();
        let rule = stored.pop().expect("the run has a directory of its own");
        let url = format!("file://{}/", rule.path().display());
        let program =
            loadtest(["verify", &url, "-b", Kafka::shared().bootstrap(), "--manifest"]).args([place.out("manifest.json").as_os_str()]);
        program.args([OsStr::new("--catchment"), binary().as_os_str()]).run(LIMIT)
    };
    verify().assert_code(0);
    let mut found = Vec::new();
    objects(&place.root.path().join("store"), &mut found);
    assert_eq!(found.len(), 2, "an object for each partition: {found:?}");
    let kept = std::fs::read(&found[0]).expect("it can be read");
    std::fs::remove_file(&found[0]).expect("it can be removed");
    let exit = verify();
    exit.assert_code(1);
    assert!(exit.stdout.contains("NOT verified") && exit.stdout.contains("1000 committed records are missing"), "{}", exit.stdout);
    assert!(!exit.stdout.contains("/s"), "no throughput: {}", exit.stdout);
    let mut damaged = kept.clone();
    damaged[kept.len() / 2] ^= 1;
    std::fs::write(&found[0], damaged).expect("it can be written");
    let exit = verify();
    exit.assert_code(1);
    assert!(exit.stdout.contains("catchment verify finds damage"), "{}", exit.stdout);
    std::fs::write(&found[0], kept).expect("it can be written");
    verify().assert_code(0);
}

#[test]
fn two_runs_are_compared_on_one_page() {
    let place = Place::new();
    place.run("--records 500 --partitions 1", "").assert_code(0);
    let (report, page) = (place.out("report.json"), place.out("comparison.html"));
    let words = [OsStr::new("report"), report.as_os_str(), OsStr::new("--compare"), report.as_os_str(), OsStr::new("-o"), page.as_os_str()];
    Program::of(&bench_binary("catchment-loadtest"), words).run(LIMIT).assert_code(0);
    let html = std::fs::read_to_string(page).expect("a page was written");
    assert!(html.contains("Beside another run") && html.contains("+0.0 %"), "{html}");
}

#[test]
fn what_cannot_be_done_is_said_without_a_panic() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = format!("file://{}/", directory.path().display());
    let catchment = binary().to_str().expect("a UTF-8 path");
    for (words, code, reason) in [
        (vec!["produce", "t", "-b", NOWHERE, "--records", "1"], 1, "does not answer"),
        (vec!["produce", "t", "-b", NOWHERE], 2, "how much"),
        (vec!["run", "-b", NOWHERE, "--to", &url, "--records", "1", "--catchment", "/nowhere/catchment"], 2, "--catchment"),
        (vec!["run", "-b", NOWHERE, "--to", &url, "--records", "1", "--catchment", "/bin/true"], 2, "is not catchment"),
        (vec!["verify", &url, "--manifest", "/nowhere/manifest.json", "--catchment", catchment], 1, "manifest"),
        (vec!["report", "/nowhere/report.json"], 1, "report"),
        (vec!["report"], 2, "Usage"),
    ] {
        let exit = Program::of(&bench_binary("catchment-loadtest"), &words).current_dir(directory.path()).run(LIMIT);
        assert_eq!(exit.code(), Some(code), "{words:?}: {}", exit.stderr);
        assert!(exit.stderr.contains(reason) && !exit.stderr.contains("panicked"), "{words:?}: {}", exit.stderr);
    }
}

#[test]
fn every_command_line_of_the_documentation_is_understood() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/loadtest.md");
    let text = std::fs::read_to_string(page).expect("the page is there");
    let mut verbs = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("$ catchment-loadtest ")) {
        // What stands behind two dashes is the backup's.
        let words: Vec<&str> = line.split_whitespace().take_while(|word| *word != "--").collect();
        Program::of(&bench_binary("catchment-loadtest"), &words).args(["--help"]).run(LIMIT).assert_code(0);
        verbs.insert(words[0].to_owned());
    }
    assert_eq!(verbs, ["produce", "report", "run", "verify"].map(str::to_owned).into());
}
