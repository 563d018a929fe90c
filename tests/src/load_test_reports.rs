//! A directory of load tests as `catchment-loadtest` leaves them behind, for tests of what a service makes of it: none was run for it.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

/// The load test that was verified.
pub const VERIFIED: &str = "2026-01-02";

/// The one that was not.
pub const UNVERIFIED: &str = "2026-01-03";

/// The one whose report is none.
pub const BROKEN: &str = "2026-01-04";

/// The directory.
#[derive(Debug)]
pub struct LoadTestReports {
    directory: TempDir,
}

fn report(verdict: &Value) -> String {
    let report = json!({
        "version": 1,
        "began": "2026-01-02T03:04:05Z",
        "brokers": ["127.0.0.1:9092"],
        "environment": { "cores": 2, "cpu": "A CPU", "kernel": "6.1", "catchment": "catchment 0.1.0", "librdkafka": "2.12.1" },
        "mode": "drain",
        "load": { "topic": "orders", "partitions": 4, "record_bytes": "1KiB", "keys": "unique", "codec": "none", "rate": null },
        "produced": {
            "committed_records": 1_000_000, "committed_bytes": 1_073_741_824,
            "latency": { "p50_ms": 1.5, "p99_ms": 9.0, "p999_ms": 20.0, "max_ms": 30.0 },
        },
        "verdict": verdict,
        "cost": { "cpu_s": 2.5, "peak_rss_bytes": 94_371_840 },
        "throughput": { "seconds": 4.0, "records_per_s": 250_000.0, "bytes_per_s": 268_435_456.0, "cpu_s_per_gib": 2.5 },
    });
    report.to_string()
}

impl LoadTestReports {
    /// Writes them.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn write() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (verified, unverified) =
            (json!({ "passed": true, "objects": 2 }), json!({ "passed": false, "faults": ["3 committed records are missing"] }));
        let reports = [(VERIFIED, report(&verified)), (UNVERIFIED, report(&unverified)), (BROKEN, "{\n  \"version\": one\n}".to_owned())];
        for (name, report) in reports {
            put(&directory.path().join(name), &report);
        }
        Self { directory }
    }

    /// Where they are.
    ///
    /// # Panics
    /// If that is no text.
    pub fn path(&self) -> &str {
        self.directory.path().to_str().expect("a path in UTF-8")
    }
}

fn put(directory: &Path, report: &str) {
    std::fs::create_dir(directory).expect("a directory");
    std::fs::write(directory.join("report.json"), report).expect("a report");
    std::fs::write(directory.join("report.html"), "<!doctype html><title>Load test</title>").expect("a page");
}
