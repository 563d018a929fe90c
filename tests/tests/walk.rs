//! The tutorial's way through a service, from nothing to a backup that is verified and queried: by the API and by the command line. By the console it is in
//! `console.rs`; the query that the console shows is asked here.
//!
//! The real binary, a real Kafka, a directory as the store, DuckDB.

use std::path::{Path, PathBuf};

use catchment_tests::bed::{Bed, Place};
use catchment_tests::readers::duckdb;
use catchment_tests::rules_service::RulesService;
use catchment_tests::services::Kafka;
use catchment_tests::three_ways::scene::{is_over, list, until};
use catchment_tests::three_ways::{ThreeWays, escaped};
use serde_json::{Value, json};

const RECORDS: u64 = 240;

/// A service that knows a Kafka and a directory, records in a topic, and somebody who is logged in.
struct Walk {
    bed: Bed,
    lake: tempfile::TempDir,
    ways: ThreeWays,
}

impl Walk {
    fn begin() -> Self {
        let mut bed = Bed::new(Kafka::shared().bootstrap(), 2, Place::in_process());
        bed.fill(RECORDS);
        let lake = tempfile::tempdir().expect("a directory");
        let config = format!("[kafka.k]\nbrokers = [\"{}\"]\n[store.lake]\nurl = \"file://{}/\"\n", bed.broker(), lake.path().display());
        let ways = ThreeWays::at(RulesService::start_on(&config, &bed, &[]));
        Self { bed, lake, ways }
    }

    /// All records are stored, the rule is verified, and its objects give as many rows.
    fn assert_stored(&self, name: &str, verified: &Value) {
        assert_eq!((&verified["state"], &verified["report"]["compared"]), (&json!("sound"), &json!(RECORDS)), "{verified}");
        let objects = self.lake.path().join(&self.bed.topic).join("**/*.parquet");
        let rows =
            duckdb(&format!("SELECT count(*), count(DISTINCT (kafka_partition, kafka_offset)) FROM read_parquet('{}')", objects.display()));
        assert_eq!(rows, json!([[RECORDS, RECORDS]]), "{name}");
    }

    fn await_stored(&self, name: &str) -> Value {
        let windows = || self.ways.ask(&format!("GET /rules/{name}/windows"), "").json();
        let stored = |windows: &Value| list(windows).iter().filter_map(|window| window["records"].as_u64()).sum::<u64>();
        until("all records are stored", windows, |windows| stored(windows) == RECORDS)
    }
}

/// The statements of DuckDB on a file's page, without what HTML makes of them.
fn statements(page: &str) -> Vec<String> {
    let shown =
        page.split("<h3>DuckDB</h3>").nth(1).and_then(|rest| rest.split("<code>").nth(1)).and_then(|rest| rest.split("</code>").next());
    let text = shown.unwrap_or_else(|| panic!("no query in {page}")).replace("&#39;", "'");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn by_the_api_and_the_query_of_the_console() {
    let walk = Walk::begin();
    let topic = &walk.bed.topic;
    let ask = |line: &str, body: &str| walk.ways.ask(line, body).json();
    let body = json!({ "name": topic, "source": { "topics": [topic] }, "window": { "every": "1s" } });
    assert!(ask("POST /sources/k/test", "")["cluster"].is_string());
    assert_eq!(ask("POST /rules", &body.to_string())["version"], 1);
    let windows = walk.await_stored(topic);
    ask(&format!("POST /rules/{topic}/verify"), r#"{"compare":true}"#);
    let verified = until("its end", || ask(&format!("GET /rules/{topic}/verify"), ""), is_over);
    walk.assert_stored(topic, &verified);
    let key = windows[0]["key"].as_str().expect("a key");
    let page = walk.ways.page(&format!("/console/rules/{topic}/file?key={}", escaped(key))).text();
    let [of_file, of_hour] = &statements(&page)[..] else { panic!("two statements: {page}") };
    let object: PathBuf = walk.lake.path().join(key);
    assert!(of_file.contains(&object.display().to_string()), "{of_file}");
    for statement in [of_file, of_hour] {
        let rows = duckdb(statement);
        assert!(!list(&rows).is_empty() && list(&rows).len() <= 10, "{statement}: {rows}");
    }
}

#[test]
fn by_the_command_line() {
    let walk = Walk::begin();
    let topic = walk.bed.topic.as_str();
    let service = walk.ways.service();
    let file = service.dir().join("walk.toml");
    std::fs::write(&file, format!("[rule.{topic}]\nsource = {{ topics = [\"{topic}\"] }}\nwindow = {{ every = \"1s\" }}\n"))
        .expect("a file");
    let file: &str = Path::to_str(&file).expect("a path in UTF-8");
    assert_eq!(service.done(&["create", topic, file])["version"], 1);
    walk.await_stored(topic);
    walk.assert_stored(topic, &service.done(&["verify", topic, "--compare"]));
    assert!(!list(&service.done(&["files", topic])["directories"]).is_empty());
}
