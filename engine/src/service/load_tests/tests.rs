//! Directories of reports: whole ones, broken ones, and ones that lead elsewhere.

use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;

/// A report as the program writes it, with a field that is not known here.
fn content() -> Value {
    json!({
        "version": 1,
        "began": "2026-01-02T03:04:05Z",
        "command": ["catchment-loadtest", "run"],
        "brokers": ["a:9092", "me:hunter2@b:9092"],
        "environment": { "cores": 2, "cpu": "a CPU", "memory_bytes": 1, "kernel": "6.1", "catchment": "catchment 0.1.0", "loadtest": "0.1.0", "librdkafka": "2.12.1" },
        "mode": "drain",
        "load": { "topic": "orders", "partitions": 4, "record_bytes": "1KiB", "keys": "unique", "codec": "zstd", "rate": null, "transaction_records": 100, "abort_percent": 10.0, "seed": 7 },
        "produced": {
            "records": 1100, "committed_records": 1000, "committed_bytes": 1_048_576, "is_scheduled": false,
            "latency": { "count": 1100, "mean_ms": 2.0, "p50_ms": 1.5, "p90_ms": 3.0, "p99_ms": 9.0, "p999_ms": 20.0, "max_ms": 30.0 },
            "transaction_latency": null,
        },
        "verdict": { "passed": true, "faults": [], "payloads_read_from": "objects", "objects": 2, "object_bytes": 300_000 },
        "cost": { "cpu_s": 1.5, "peak_rss_bytes": 94_371_840 },
        "throughput": { "seconds": 4.0, "records_per_s": 250.0, "bytes_per_s": 262_144.0, "cpu_s_per_gib": 1536.0, "stored_share": 0.3 },
        "object_bytes": [100_000, 200_000],
        "samples": [{ "at_s": 1.0, "read_bytes_per_s": 1e6 }],
        "later": { "than": ["this"] },
    })
}

/// A directory of load tests.
struct Ground {
    dir: tempfile::TempDir,
    tests: LoadTests,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tests = dir.path().join("tests");
        std::fs::create_dir(&tests).unwrap();
        Self { tests: LoadTests::of(Some(&tests)), dir }
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.dir.path().join("tests").join(below)
    }

    fn put(&self, name: &str, report: &str) {
        std::fs::create_dir_all(self.path(name)).unwrap();
        std::fs::write(self.path(name).join(REPORT), report).unwrap();
    }

    /// What a report with this text is shown as.
    async fn shown(&self, report: &str) -> LoadTest {
        self.put("a", report);
        self.tests.one("a").await.unwrap()
    }

    async fn names(&self) -> Vec<String> {
        self.tests.list().await.unwrap().newest.into_iter().map(|test| test.name).collect()
    }
}

#[tokio::test]
async fn a_report_is_shown_as_it_was_written() {
    let ground = Ground::new();
    let found = ground.shown(&content().to_string()).await;
    let latency = Latency { p50_ms: Some(1.5), p99_ms: Some(9.0), p999_ms: Some(20.0), max_ms: Some(30.0) };
    let throughput =
        Throughput { seconds: Some(4.0), records_per_s: Some(250.0), bytes_per_s: Some(262_144.0), cpu_s_per_gib: Some(1536.0) };
    let text = |text: &str| Some(text.to_owned());
    let expected = LoadTest {
        name: "a".to_owned(),
        began_ms: Some(1_767_323_045_000),
        verified: true,
        brokers: vec!["a:9092".to_owned(), "***@b:9092".to_owned()],
        topic: text("orders"),
        partitions: Some(4),
        mode: text("drain"),
        record_bytes: text("1KiB"),
        keys: text("unique"),
        codec: text("zstd"),
        transaction_records: Some(100),
        records: Some(1000),
        bytes: Some(1 << 20),
        latency: Some(latency),
        throughput: Some(throughput),
        cpu_s: Some(1.5),
        peak_rss_bytes: Some(90 << 20),
        objects: Some(2),
        object_bytes: Some(300_000),
        cores: Some(2),
        cpu: text("a CPU"),
        kernel: text("6.1"),
        catchment: text("catchment 0.1.0"),
        librdkafka: text("2.12.1"),
        ..LoadTest::default()
    };
    assert_eq!(found, expected);
    std::fs::write(ground.path("a").join(PAGE), "<p>").unwrap();
    assert!(ground.tests.one("a").await.unwrap().has_page);
    let (page, size) = ground.tests.page("a").await.unwrap();
    assert_eq!((io::read_to_string(page).unwrap().as_str(), size), ("<p>", 3));
}

#[tokio::test]
async fn nothing_that_was_not_verified_has_a_throughput_even_if_its_file_says_one() {
    let ground = Ground::new();
    for verdict in [json!({ "passed": false }), json!({}), json!({ "passed": true, "faults": ["3 committed records are missing"] })] {
        let mut report = content();
        report["verdict"] = verdict;
        let found = ground.shown(&report.to_string()).await;
        assert_eq!((found.problem, found.verified, found.throughput), (None, false, None), "{report}");
        assert_eq!(found.records, Some(1000), "the rest is known");
    }
    let found = ground.shown("{}").await;
    assert_eq!(found, LoadTest { name: "a".to_owned(), ..LoadTest::default() }, "what is missing is not known");
}

#[tokio::test]
async fn a_broken_report_is_named_with_file_line_and_column() {
    let ground = Ground::new();
    for (text, line, why) in [
        ("{\n  \"version\": 1,\n  \"cost\": { \"cpu_s\": nonsense }\n}", 3, "expected ident"),
        ("{\n  \"load\": { \"partitions\": \"four\" }\n}", 2, "invalid type: string \"four\", expected u64"),
        ("{ \"brokers\": \"a:9092\" }", 1, "invalid type: string \"a:9092\", expected a list of texts"),
        ("{", 1, "EOF while parsing an object"),
        ("", 1, "EOF while parsing a value"),
        ("{} {}", 1, "trailing characters"),
    ] {
        let found = ground.shown(text).await;
        let problem = found.problem.clone().unwrap();
        let place = problem.strip_prefix(&format!("a/report.json:{line}:")).and_then(|rest| rest.strip_suffix(&format!(": {why}")));
        assert!(place.is_some_and(|column| column.parse::<u32>().is_ok()), "{text}: {problem}");
        assert_eq!(found, LoadTest { name: "a".to_owned(), problem: Some(problem), ..LoadTest::default() });
    }
    let later = ground.shown("{ \"version\": 2 }").await.problem;
    assert_eq!(later.as_deref(), Some("a/report.json: it is of version 2, and version 1 is read here"));
    std::fs::write(ground.path("a").join(REPORT), b"{ \"mode\": \"\xff\" }").unwrap();
    assert!(ground.tests.one("a").await.unwrap().problem.is_some_and(|problem| problem.starts_with("a/report.json:1:")));
    let deep = "[".repeat(1 << 20);
    assert!(ground.shown(&format!("{{ \"later\": {deep}")).await.problem.is_some());
}

#[tokio::test]
async fn texts_are_short_and_steer_nobody() {
    let ground = Ground::new();
    let mut report = content();
    report["load"]["topic"] = json!("\u{1b}[2J\n".to_owned() + &"é".repeat(1000));
    report["brokers"] = json!(vec!["x".repeat(300); 50]);
    report["verdict"] = json!({ "faults": vec!["y"; 100_000] });
    report["began"] = json!("yesterday");
    let found = ground.shown(&report.to_string()).await;
    let topic = found.topic.unwrap();
    assert!(topic.starts_with("\\u{1b}[2J\\né") && topic.ends_with('…') && topic.chars().count() < 220, "{topic}");
    assert_eq!((found.brokers.len(), found.brokers[0].chars().count(), found.faults.len()), (10, 201, 10));
    assert_eq!(found.began_ms, None);
    // A user that is longer than what is shown is still left out.
    report["brokers"] = json!([format!("{}@b:1", "hunter2".repeat(100))]);
    assert_eq!(ground.shown(&report.to_string()).await.brokers, ["***@b:1"]);
}

#[tokio::test]
async fn a_report_that_is_too_large_is_not_read() {
    let ground = Ground::new();
    ground.put("a", "{}");
    File::options().write(true).open(ground.path("a").join(REPORT)).unwrap().set_len(REPORT_BYTES_MAX + 1).unwrap();
    let problem = ground.tests.one("a").await.unwrap().problem;
    assert_eq!(problem.as_deref(), Some("a/report.json: it has more than 32 MiB"));
}

#[tokio::test]
async fn the_newest_are_listed_first_and_not_more_than_a_page_of_them() {
    let ground = Ground::new();
    let began = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for n in 0..105_u64 {
        let name = format!("run-{:03}", (n * 2) % 105);
        ground.put(&name, "{}");
        let report = File::options().write(true).open(ground.path(&name).join(REPORT)).unwrap();
        report.set_modified(began + Duration::from_secs((n * 2) % 105)).unwrap();
    }
    std::fs::create_dir(ground.path("is-running")).unwrap();
    std::fs::write(ground.path("README"), "not a load test").unwrap();
    ground.put("has space", "{}");
    let listed = ground.tests.list().await.unwrap();
    assert_eq!((listed.all, listed.newest.len()), (105, 100));
    let names: Vec<&str> = listed.newest.iter().map(|test| test.name.as_str()).collect();
    assert_eq!((names[0], names[1], names[99]), ("run-104", "run-103", "run-005"));
    assert!(ground.tests.one("run-000").await.unwrap().problem.is_none(), "each is shown by its name");
}

#[tokio::test]
async fn nothing_leads_out_of_the_directory() {
    let ground = Ground::new();
    let outside = ground.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    for file in [REPORT, PAGE] {
        std::fs::write(outside.join(file), "{ \"load\": { \"topic\": \"secret\" } }").unwrap();
    }
    std::fs::create_dir(ground.path("links")).unwrap();
    for file in [REPORT, PAGE] {
        symlink(outside.join(file), ground.path("links").join(file)).unwrap();
    }
    symlink(&outside, ground.path("link")).unwrap();
    std::fs::create_dir_all(ground.path("directory").join(REPORT)).unwrap();
    std::fs::create_dir(ground.path("pipe")).unwrap();
    nix::unistd::mkfifo(&ground.path("pipe").join(REPORT), Mode::S_IRWXU).unwrap();
    for name in ["links", "link", "directory", "pipe"] {
        let found = ground.tests.one(name).await.unwrap();
        assert!(found.problem.is_some() && found.topic.is_none() && !found.has_page, "{found:?}");
        assert_eq!(ground.tests.page(name).await.unwrap_err().code, LOAD_TEST_UNKNOWN, "{name}");
    }
    let long = "a".repeat(101);
    for name in ["..", ".", "", "../outside", "links/../../outside", "/etc", "a\0b", "-x", ".hidden", "é", long.as_str()] {
        assert!(!is_name(name), "{name}");
        assert_eq!(ground.tests.one(name).await.unwrap_err().code, LOAD_TEST_UNKNOWN, "{name}");
        assert_eq!(ground.tests.page(name).await.unwrap_err().code, LOAD_TEST_UNKNOWN, "{name}");
    }
    let listed: Vec<String> = ground.tests.list().await.unwrap().newest.iter().map(|test| format!("{test:?}")).collect();
    assert!(listed.len() == 4 && listed.iter().all(|test| !test.contains("secret")), "{listed:?}");
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_an_error_with_a_next_step() {
    let ground = Ground::new();
    std::fs::write(ground.path("file"), "").unwrap();
    let none = LoadTests::default();
    for (tests, help) in [
        (none, "start it with"),
        (LoadTests::of(Some(&ground.path("none"))), "make the directory"),
        (LoadTests::of(Some(&ground.path("file"))), "make the directory"),
    ] {
        let error = tests.list().await.unwrap_err();
        assert!(error.code == LOAD_TESTS_UNREADABLE && error.help.as_ref().is_some_and(|said| said.contains(help)), "{error:?}");
    }
    assert_eq!(ground.names().await, Vec::<String>::new());
}
