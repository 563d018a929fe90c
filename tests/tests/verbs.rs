//! Every verb as a process over one small backup: what it prints, as text and as JSON, agrees with what is stored and with docs/cli.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use catchment_tests::admin::Admin;
use catchment_tests::bed::{Bed, Place, RUN_LIMIT, unique};
use catchment_tests::generate::{Plan, Profile, fill};
use catchment_tests::openmetrics::{METRICS, metrics, scrape};
use catchment_tests::process::{Exit, Process, Program, binary};
use catchment_tests::s3::{Fault, Op};
use catchment_tests::services::{Kafka, Minio};
use serde_json::{Value, json};
use tempfile::TempDir;

const SEED: u64 = 7;

/// Records of each of the two partitions. Nothing else is in the topic, so offsets are sequence numbers.
const RECORDS: u64 = 300;

/// How long a stop may take on a machine that has other things to do. `outages` shows that it takes less than ten seconds.
const STOP: Duration = Duration::from_secs(60);

/// A topic of plain records, backed up into a directory.
struct Backup {
    topic: String,
    directory: TempDir,
    exit: Exit,
}

impl Backup {
    fn make(more: &[&str]) -> Self {
        let (topic, directory) = (filled_topic(), tempfile::tempdir().expect("a temporary directory"));
        let exit = backup(&topic, directory.path()).args(["--until-end"]).args(more).run(RUN_LIMIT);
        exit.assert_code(0);
        Self { topic, directory, exit }
    }

    fn path(&self) -> &str {
        self.directory.path().to_str().expect("a UTF-8 path")
    }

    fn url(&self) -> String {
        format!("file://{}/", self.path())
    }

    fn objects(&self) -> BTreeMap<String, u64> {
        files(self.directory.path())
    }
}

fn filled_topic() -> String {
    let (topic, kafka) = (unique("verbs"), Kafka::shared().bootstrap());
    Admin::new(kafka).create_topic(&topic, 2, &[]);
    fill(kafka, &Plan::plain(SEED, &topic, 2, 2 * RECORDS));
    topic
}

/// `catchment backup` into a directory, as a dynamic member: its group is empty as soon as it has left.
fn backup(topic: &str, directory: &Path) -> Program {
    let url = format!("file://{}/", directory.display());
    let kafka = Kafka::shared().bootstrap();
    Program::new(["backup", topic, "-b", kafka, "--to", &url, "--instance-id", "none"]).args(["--window", "1s"])
}

/// Keys and sizes of the data objects below a directory.
fn files(directory: &Path) -> BTreeMap<String, u64> {
    let (mut found, mut left) = (BTreeMap::new(), vec![directory.to_owned()]);
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(&next).expect("it can be listed").flatten() {
            let path = entry.path();
            if !path.is_dir() {
                let key = path.strip_prefix(directory).expect("it is below").to_str().expect("a UTF-8 path");
                found.insert(key.to_owned(), entry.metadata().expect("it is there").len());
            } else if entry.file_name() != "_catchment" {
                left.push(path);
            }
        }
    }
    found
}

fn catchment(args: &[&str]) -> Exit {
    Program::new(args).run(RUN_LIMIT)
}

#[track_caller]
fn stdout_of(args: &[&str]) -> String {
    let exit = catchment(args);
    exit.assert_code(0);
    exit.stdout
}

#[track_caller]
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("not JSON ({e}): {text}"))
}

#[track_caller]
fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

fn keys_and_sizes(objects: &Value) -> BTreeMap<String, u64> {
    let text = |o: &Value| o["key"].as_str().expect("a key").to_owned();
    list(objects).iter().map(|o| (text(o), o["bytes"].as_u64().expect("a size"))).collect()
}

/// Fails unless these rows of `ls -l --json` stand for all offsets of a partition, each once.
#[track_caller]
fn assert_tiled(objects: &[&Value]) {
    let mut at = 0;
    for object in objects {
        assert_eq!(object["start"], at, "{object}");
        assert_eq!(object["records"].as_u64(), object["end"].as_u64().map(|end| end - at), "{object}");
        assert_eq!((&object["missing"], &object["encoding"]), (&json!(0), &json!("parquet.zstd1.v1")), "{object}");
        at = object["end"].as_u64().expect("an end");
    }
    assert_eq!(at, RECORDS, "{objects:?}");
}

fn words(line: &str, count: usize) -> Vec<&str> {
    line.split_whitespace().take(count).collect()
}

#[test]
fn ls_names_every_lane_and_every_object() {
    let backup = Backup::make(&[]);
    let objects = parsed(&stdout_of(&["ls", "-l", "--json", &backup.url()]));
    assert_eq!(keys_and_sizes(&objects), backup.objects());
    let lanes = parsed(&stdout_of(&["ls", "--json", &backup.url()]));
    assert_eq!(list(&lanes).len(), 2, "{lanes}");
    let table = stdout_of(&["ls", &backup.url()]);
    for (partition, lane) in list(&lanes).iter().enumerate() {
        let own: Vec<&Value> = list(&objects).iter().filter(|o| o["partition"] == partition).collect();
        assert_tiled(&own);
        let bytes: u64 = own.iter().filter_map(|o| o["bytes"].as_u64()).sum();
        for (field, expected) in [("start", 0), ("end", RECORDS), ("records", RECORDS), ("bytes", bytes), ("missing", 0), ("unreadable", 0)]
        {
            assert_eq!(lane[field], expected, "{field}: {lane}");
        }
        assert_eq!((&lane["topic"], &lane["objects"]), (&json!(backup.topic), &json!(own.len())), "{lane}");
        let row = [&backup.topic, &partition.to_string(), &own.len().to_string(), "0", "300", "300"];
        assert!(table.lines().any(|line| words(line, 6) == row), "{row:?} is not in:\n{table}");
    }
    let table = stdout_of(&["ls", "-l", backup.path()]);
    assert_eq!(table.lines().count(), backup.objects().len() + 1, "a head and a line for each object:\n{table}");
    for object in list(&objects) {
        let row = ["start", "end", "records"].map(|field| object[field].to_string());
        let key = object["key"].as_str().expect("a key");
        assert!(table.lines().any(|line| line.ends_with(key) && words(line, 3) == row), "{row:?} {key} is not in:\n{table}");
    }
}

/// Bytes as `show --json` has them.
fn as_json(bytes: Option<&Vec<u8>>) -> Value {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    bytes.map_or(Value::Null, |b| std::str::from_utf8(b).map_or_else(|_| json!({ "hex": hex(b) }), |text| json!(text)))
}

/// The record at an offset as `show --json` has it.
fn row_of(topic: &str, partition: i32, offset: u64) -> Value {
    let record = Profile::plain().record(SEED, topic, partition, offset);
    let header = |(name, value): &(Vec<u8>, Option<Vec<u8>>)| json!({ "name": as_json(Some(name)), "value": as_json(value.as_ref()) });
    json!({
        "offset": offset,
        "timestamp": record.timestamp,
        "timestamp_type": 0,
        "key": as_json(record.key.as_ref()),
        "value": as_json(record.value.as_ref()),
        "headers": record.headers.iter().map(header).collect::<Vec<_>>(),
    })
}

/// The first object of partition 1 that does not begin at its beginning: its row of `ls`, its first offset and its path.
fn an_object(backup: &Backup) -> (Value, u64, String) {
    let objects = parsed(&stdout_of(&["ls", "-l", "--json", &backup.url()]));
    let object = list(&objects).iter().find(|o| o["partition"] == 1 && o["start"] != 0).expect("a second object");
    let path = format!("{}/{}", backup.path(), object["key"].as_str().expect("a key"));
    (object.clone(), object["start"].as_u64().expect("an offset"), path)
}

#[test]
fn show_prints_an_objects_proof_and_its_first_records() {
    let backup = Backup::make(&[]);
    let (object, start, path) = an_object(&backup);
    let shown = parsed(&stdout_of(&["show", &format!("file://{path}"), "--json", "-n", "20"]));
    let proof = &shown["proof"];
    let of_lane = [&proof["lane"]["rule"], &proof["lane"]["topic"], &proof["lane"]["partition"]];
    assert_eq!(of_lane, [&json!(backup.topic), &json!(backup.topic), &json!(1)], "{proof}");
    assert_eq!([&proof["counts"]["records"], &shown["bytes"]], [&object["records"], &object["bytes"]], "{shown}");
    let rows: Vec<Value> = (start..start + 20).map(|offset| row_of(&backup.topic, 1, offset)).collect();
    assert_eq!(shown["rows"], json!(rows));
    let text = stdout_of(&["show", &path]);
    let range = format!("offsets   [{start}, {})", object["end"]);
    for line in [range, format!("records   {} (0 without a value)", object["records"]), "encoding  parquet.zstd1.v1".to_owned()] {
        assert!(text.contains(&line), "no {line:?} in:\n{text}");
    }
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(" key=")).collect();
    assert_eq!(lines.len(), 10, "ten records unless told otherwise:\n{text}");
    for (offset, line) in (start..).zip(lines) {
        assert!(line.starts_with(&format!("{offset} 2023-11-14T22:13:2")) && line.contains(" value="), "{line}");
    }
}

#[test]
fn show_prints_the_values_of_a_raw_object() {
    let backup = Backup::make(&["--format", "raw", "--framing", "len32", "--codec", "gzip", "--level", "4"]);
    let (_, start, path) = an_object(&backup);
    assert!(path.ends_with(".bin.gz"), "{path}");
    let shown = parsed(&stdout_of(&["show", &path, "--json", "-n", "3"]));
    let rows: Vec<Value> = (start..start + 3).map(|offset| json!({ "value": row_of(&backup.topic, 1, offset)["value"] })).collect();
    assert_eq!(shown["rows"], json!(rows));
    assert_eq!(shown["proof"]["encoding"], "raw.len32.gzip4.v1", "{shown}");
}

#[test]
fn ls_and_show_read_a_bucket() {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::minio(Minio::shared()));
    bed.fill(200);
    bed.backup_all(&[]);
    let Place::Minio(bucket, environment) = &bed.place else { panic!("the bed stands on MinIO") };
    let answer = |args: &[&str]| {
        let exit = Program::new(args).envs(environment.clone()).run(RUN_LIMIT);
        exit.assert_code(0);
        parsed(&exit.stdout)
    };
    let objects = answer(&["ls", "-l", "--json", &bucket.url("")]);
    let mut stored = bucket.list("");
    stored.retain(|key, _| !key.contains("_catchment/"));
    assert_eq!(keys_and_sizes(&objects), stored.iter().map(|(key, object)| (key.clone(), object.size)).collect());
    let (key, object) = stored.last_key_value().expect("an object");
    let shown = answer(&["show", &bucket.url(key), "--json", "-n", "1"]);
    assert_eq!(shown["bytes"], object.size, "{shown}");
    let first = shown["proof"]["range"]["start"].as_u64().or_else(|| shown["proof"]["range"][0].as_u64()).expect("a first offset");
    assert_eq!(shown["rows"], json!([row_of(&bed.topic, 0, first)]));
}

fn names(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn the_report_of_verify_has_the_fields_that_the_book_shows() {
    let backup = Backup::make(&[]);
    let (object, ..) = an_object(&backup);
    std::fs::remove_file(backup.directory.path().join(object["key"].as_str().expect("a key"))).expect("it is there");
    let exit = catchment(&["verify", &backup.url(), "-b", Kafka::shared().bootstrap(), "--json"]);
    exit.assert_code(4);
    let (report, book) = (parsed(&exit.stdout), page("docs/cli.md"));
    let example = book.split_once("```json\n").and_then(|(_, rest)| rest.split_once("```")).expect("docs/cli.md shows a report").0;
    let example = parsed(example);
    assert_eq!(names(&report), names(&example));
    assert_eq!(names(&report["damage"][0]), names(&example["damage"][0]));
    assert_eq!(report["damage"][0]["kind"], "hole", "{report}");
    let left = 2 * RECORDS - object["records"].as_u64().expect("a number");
    assert_eq!((report["records"].as_u64(), report["compared"].as_u64()), (Some(left), Some(left)), "{report}");
}

/// A page of the book.
fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The text below a heading, up to the next one of its rank or a higher one.
#[track_caller]
fn chapter<'a>(book: &'a str, heading: &str) -> &'a str {
    let (_, rest) = book.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("there is no chapter {heading}"));
    rest.split("\n## ").next().unwrap_or_default()
}

/// The rows of a chapter's tables that list keys.
fn key_rows(chapter: &str) -> impl Iterator<Item = &str> {
    let tables = chapter.split("\n\n").filter(|table| table.trim_start().starts_with("| key |"));
    tables.flat_map(str::lines).filter(|line| line.starts_with("| `"))
}

/// Every key in a file: literal secrets are canaries.
const EVERY_KEY: &str = r#"
[kafka.prod]
brokers = ["one:9092", "two:9092"]
preset = "msk"
sasl = { mechanism = "SCRAM-SHA-512", username = "me", password = "canary-1" }
tls = { ca = "/etc/ca.pem", certificate = "/etc/c.pem", key = "/etc/k.pem", key_password = "env:KEY_PASSWORD", verify = false }
properties = { "client.id" = "backup-1", "ssl.keystore.password" = "canary-2" }
[kafka.tokens]
brokers = "three:9092"
[kafka.tokens.sasl]
mechanism = "OAUTHBEARER"
token_endpoint = "https://id.example/token"
client_id = "backup"
client_secret = "canary-3"
scope = "kafka"
[store.lake]
url = "s3://lake/kafka/?region=eu-west-1"
access_key_id = "canary-4"
secret_access_key = "file:/run/secrets/key"
session_token = "canary-5"
[rule.orders]
source = { kafka = "prod", topics = ["orders", "^pay\\..*"], start = "@2026-11-22" }
window = { every = "10m", by = "arrival" }
format = { kind = "raw", framing = "len32", codec = "gzip", level = 9 }
to = { store = "lake", prefix = "p", layout = "tencent", instance = "ckafka-1" }
max_bytes = "256MiB"
budget = "128MiB"
on_gap = { retention = "halt", truncation = "continue", corrupt_batch = "continue", topic_recreated = "continue" }
on_stop = "close"
group = "readers"
instance_id = "one"
upload_deadline = "2h"
metrics = "127.0.0.1:9464"
[rule.single]
source = { kafka = "tokens", topics = "single" }
to = { layout = "tencent", instance = "ckafka-2", topic_id = "topic-3" }
"#;

fn written(directory: &TempDir, name: &str, text: &str) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, text).expect("the directory is writable");
    path.to_str().expect("a UTF-8 path").to_owned()
}

#[test]
fn config_print_gives_a_file_of_the_same_meaning_without_secrets() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = written(&directory, "every.toml", EVERY_KEY);
    let printed = stdout_of(&["config", "print", &file]);
    assert!(!printed.contains("canary"), "{printed}");
    for line in [
        "password = \"***\"",
        "key_password = \"env:KEY_PASSWORD\"",
        "secret_access_key = \"file:/run/secrets/key\"",
        "verify = false",
        "scope = \"kafka\"",
        "start = \"@1795305600000\"",
        "every = \"10m\"",
        "by = \"arrival\"",
        "framing = \"len32\"",
        "level = 9",
        "prefix = \"p/\"",
        "topic_id = \"topic-3\"",
        "max_bytes = \"256MiB\"",
        "budget = \"128MiB\"",
        "retention = \"halt\"",
        "truncation = \"continue\"",
        "on_stop = \"close\"",
        "group = \"readers\"",
        "instance_id = \"one\"",
        "upload_deadline = \"2h\"",
        "metrics = \"127.0.0.1:9464\"",
    ] {
        assert!(printed.lines().any(|l| l == line), "no {line} in:\n{printed}");
    }
    let again = written(&directory, "printed.toml", &printed);
    assert_eq!(stdout_of(&["config", "print", &again]), printed);
    let one = stdout_of(&["config", "print", &again, "--rule", "single"]);
    assert!(printed.ends_with(&one) && one.contains("[rule.single]") && !one.contains("orders"), "{one}");
}

#[test]
fn config_print_writes_out_the_defaults_of_the_book() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let text = "[kafka.k]\nbrokers = \"one:9092\"\n[store.s]\nurl = \"file:///s/\"\n[rule.r]\nsource = { topics = \"t\" }\n";
    let printed = stdout_of(&["config", "print", &written(&directory, "least.toml", text)]);
    let printed = parsed_lines(&printed);
    let book = page("docs/config.md");
    let mut compared = 0;
    for section in ["rule.NAME", "rule.source", "rule.window", "rule.format", "rule.to", "rule.on_gap"] {
        for row in key_rows(chapter(&book, &format!("`{section}`"))) {
            let cells: Vec<&str> = row.split(" | ").collect();
            // The default stands in code, perhaps after the unit; prose means that there is none.
            let default = cells[2].trim_end_matches(" |").rsplit(", ").find_map(|d| d.split('`').nth(1).filter(|_| d.starts_with('`')));
            let key = cells[0].trim_start_matches("| `").trim_end_matches('`');
            if let (Some(default), Some(value)) = (default, printed.get(key)) {
                assert_eq!(value, &default.replace("NAME", "r"), "{section}.{key}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 12, "the table is read: {compared} defaults");
}

/// `key = "value"` lines; no key of a least file stands twice with another meaning.
fn parsed_lines(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once(" = ")).map(|(key, value)| (key, value.trim_matches('"'))).collect()
}

#[test]
fn config_check_names_every_problem_with_its_place() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let good = catchment(&["config", "check", &written(&directory, "good.toml", EVERY_KEY)]);
    good.assert_code(0);
    assert!(good.stdout.contains("2 rule(s), no problem"), "{}", good.stdout);
    let text = "[kafka.k]\nbrokers = \"one:9092\"\ntsl = {}\n[store.s]\nurl = \"file:///s/\"\n[rule.r]\nsource = { topics = \"t\", start = \"noon\" }\n\
                window = { every = \"5\" }\n";
    let bad = written(&directory, "bad.toml", text);
    let exit = catchment(&["config", "check", &bad]);
    exit.assert_code(2);
    for (code, place) in [("C0104", "3:1"), ("C0105", "7:34"), ("C0105", "8:20")] {
        assert!(exit.stderr.contains(&format!("error[{code}]")), "no {code} in: {}", exit.stderr);
        assert!(exit.stderr.contains(&format!("{bad}:{place}\n")), "no {place} in: {}", exit.stderr);
    }
    assert_eq!(exit.stderr.matches("error[").count(), 3, "{}", exit.stderr);
    let two = EVERY_KEY.replace("level = 9", "level = 10").replace("\"topic-3\"", "\"a/b\"");
    let exit = catchment(&["config", "check", &written(&directory, "two.toml", &two)]);
    exit.assert_code(2);
    assert!(["orders", "single"].iter().all(|rule| exit.stderr.contains(rule)), "both rules are wrong: {}", exit.stderr);
}

fn keys_of_schema(section: &str, schema: &Value, found: &mut BTreeSet<String>) {
    for (name, key) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{section}.{name}");
        keys_of_schema(&path, key, found);
        found.insert(path);
    }
}

#[test]
fn config_schema_has_the_keys_of_the_book_and_no_others() {
    let schema = parsed(&stdout_of(&["config", "schema"]));
    let mut in_schema = BTreeSet::new();
    for kind in ["kafka", "store", "rule"] {
        keys_of_schema(kind, &schema["properties"][kind]["additionalProperties"], &mut in_schema);
    }
    let (book, mut in_book) = (page("docs/config.md"), BTreeSet::new());
    for chapter in book.split("\n## `").skip(1) {
        let section = chapter.split('`').next().unwrap_or_default().trim_end_matches(".NAME");
        in_book.extend(key_rows(chapter).filter_map(|row| row.split('`').nth(1)).map(|key| format!("{section}.{key}")));
    }
    assert!(in_book.len() > 40, "the tables are read: {in_book:?}");
    assert_eq!(in_schema, in_book);
}

#[test]
fn completions_are_there_for_every_shell_of_the_help() {
    let help = stdout_of(&["completions", "--help"]);
    let values = help.split_once("[possible values: ").and_then(|(_, rest)| rest.split_once(']')).expect("the help names shells").0;
    let shells: BTreeSet<&str> = values.split(", ").collect();
    let book = page("docs/cli.md");
    let in_book = chapter(&book, "completions").split('`').nth(1).and_then(|c| c.rsplit(' ').next()).expect("the book names shells");
    assert_eq!(shells, in_book.split('|').collect());
    for shell in shells {
        let script = stdout_of(&["completions", shell]);
        for word in ["backup", "verify", "until-end", "window-by"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
        if shell == "bash" {
            assert_bash_parses(&script);
        }
    }
}

fn assert_bash_parses(script: &str) {
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("bash runs");
    bash.stdin.take().expect("stdin is piped").write_all(script.as_bytes()).expect("bash reads");
    assert!(bash.wait().expect("bash ends").success());
}

#[test]
fn the_version_names_the_kafka_client_and_the_features() {
    for args in [&["--version"][..], &["backup", "-V"]] {
        let version = stdout_of(args);
        assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
        assert!(version.contains("librdkafka 2.") && version.contains("features: kafka, s3"), "{version}");
    }
}

/// `--flag`s in the first column of a chapter's tables.
fn flags_of_book(chapter: &str) -> BTreeSet<String> {
    let cells = chapter.lines().filter_map(|line| line.strip_prefix("| `-")?.split(" | ").next());
    cells
        .flat_map(|cell| cell.split('`'))
        .filter_map(|code| Some(format!("--{}", code.split_once("--").or(code.split_once('-'))?.1)))
        .collect()
}

/// `--flag`s at the beginning of the lines of a help text.
fn flags_of_help(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = lines.filter_map(|line| line.split([' ', ',', '=', '.']).find(|word| word.starts_with("--")));
    words.map(str::to_owned).collect()
}

#[test]
fn the_help_of_each_verb_names_the_flags_of_the_book_and_no_others() {
    let book = page("docs/cli.md");
    let common = flags_of_book(chapter(&book, "Flags of every verb"));
    assert!(common.contains("--log-format") && common.contains("--quiet"), "the table is read: {common:?}");
    for verb in ["demo", "backup", "verify", "ls", "show", "completions"] {
        let expected: BTreeSet<String> = flags_of_book(chapter(&book, verb)).union(&common).cloned().collect();
        assert_eq!(flags_of_help(&stdout_of(&[verb, "--help"])), expected, "{verb}");
    }
}

/// Scrapes until a metric without labels has this value.
fn scrape_until(process: &mut Process, metric: &str, value: impl Display) -> String {
    let (line, deadline) = (format!("{metric} {value}"), Instant::now() + RUN_LIMIT);
    loop {
        let text = scrape(process);
        if text.lines().any(|l| l == line) {
            return text;
        }
        assert!(Instant::now() < deadline, "never {line}: {text}{}", process.stderr());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The table of docs/metrics.md, as [`METRICS`] has it.
fn metrics_of_book() -> BTreeSet<String> {
    let code = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let (book, mut found) = (page("docs/metrics.md"), BTreeSet::new());
    for row in book.lines().filter(|line| line.starts_with("| `catchment_")) {
        let cells: Vec<&str> = row.trim_start_matches("| ").split(" | ").collect();
        let kind = cells[1].split(',').next().unwrap_or_default().trim_end_matches('s');
        let mut labels = code(cells[1]);
        labels.extend((kind == "histogram").then(|| "le".to_owned()));
        found.extend(code(cells[0]).iter().map(|name| format!("{name} {kind} {}", labels.join(" ")).trim_end().to_owned()));
    }
    found
}

#[test]
fn the_book_explains_every_metric() {
    assert_eq!(metrics_of_book(), METRICS.map(str::to_owned).into());
}

#[test]
fn metrics_keep_their_names_and_tell_what_a_backup_does() {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 2, Place::in_process());
    bed.fill(2 * RECORDS);
    // A gap, windows that grow too large and a store that refuses at first: what counts accidents is there once there is one.
    bed.admin.delete_records(&bed.topic, 0, 10);
    bed.admin.set_topic_settings(&bed.topic, &[("retention.ms", "3153600000000")]);
    bed.place.refuse_data();
    let mut process = bed.backup(&["--start", "0", "--max-bytes", "8KiB", "--metrics", "127.0.0.1:0"]).spawn();
    process.wait_for_stderr("waiting for the store", RUN_LIMIT);
    bed.place.accept_data();
    let written = 2 * RECORDS - 10;
    scrape_until(&mut process, "catchment_records_written_total", written);
    // How long the topic is kept is asked for beside all else: here a hundred years, and nothing is behind.
    let text = scrape_until(&mut process, "catchment_time_to_data_loss_seconds", "3153600000.0");
    process.terminate(STOP).assert_code(0);
    assert_eq!(metrics(&text), METRICS.map(str::to_owned).into());
    let stored = bed.place.data_keys("");
    let bytes: usize = stored.iter().map(|key| bed.place.get(key).len()).sum();
    for (metric, value) in [
        ("records_read_total", written),
        ("lag_records", 0),
        ("gaps_total{cause=\"retention\"}", 1),
        ("objects_committed_total{format=\"parquet\"}", stored.len() as u64),
        ("windows_total{outcome=\"written\"}", stored.len() as u64),
        ("written_bytes_total", bytes as u64),
    ] {
        assert!(text.lines().any(|l| l == format!("catchment_{metric} {value}")), "{metric} is not {value}:\n{text}");
    }
}

#[test]
fn a_pipe_gets_one_line_for_each_window_and_messages_go_elsewhere() {
    let backup = Backup::make(&[]);
    assert!(backup.exit.stderr.contains("backup runs"), "{}", backup.exit.stderr);
    assert_windows_are_told(&backup);
    let quiet = Backup::make(&["-q"]);
    assert_eq!(quiet.exit.stderr, "");
    assert_windows_are_told(&quiet);
}

#[track_caller]
fn assert_windows_are_told(backup: &Backup) {
    let told = backup.exit.stdout.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let bytes = words.iter().position(|word| *word == "bytes").map(|at| words[at - 1]).unwrap_or_else(|| panic!("no size: {line}"));
        (words[words.len() - 1].to_owned(), bytes.parse::<u64>().unwrap_or_else(|_| panic!("no size: {line}")))
    });
    assert_eq!(told.collect::<BTreeMap<_, _>>(), backup.objects(), "{}", backup.exit.stdout);
    assert_eq!(backup.exit.stdout.lines().count(), backup.objects().len());
}

/// Fails unless each line is a JSON object with a level and a message; returns the messages.
#[track_caller]
fn json_messages(text: &str) -> Vec<String> {
    let message = |line: &str| {
        let event = parsed(line);
        assert!(event["level"].is_string() && event["message"].is_string(), "{line}");
        event["message"].as_str().unwrap_or_default().to_owned()
    };
    text.lines().map(message).collect()
}

#[test]
fn messages_are_one_json_object_a_line_if_asked() {
    let backup = Backup::make(&["--log-format", "json"]);
    let messages = json_messages(&backup.exit.stderr);
    assert!(messages.iter().any(|message| message == "backup runs"), "{messages:?}");
    let told = backup.exit.stdout.lines().map(|line| {
        let window = parsed(line);
        assert!(
            window["rule"].is_string() && window["topic"].is_string() && window["partition"].is_i64() && window["window"].is_string(),
            "{line}"
        );
        (window["key"].as_str().unwrap_or_default().to_owned(), window["bytes"].as_u64().unwrap_or_default())
    });
    assert_eq!(told.collect::<BTreeMap<_, _>>(), backup.objects(), "{}", backup.exit.stdout);
}

#[test]
fn an_error_is_one_json_object_too_if_asked() {
    let json = [("CATCHMENT_LOG_FORMAT", "json")];
    for (args, code, named) in [(&["ls", "/no/such/directory"][..], 3, "C0502"), (&["backup", "--windw"], 2, "C0101")] {
        let exit = Program::new(args).envs(json).run(RUN_LIMIT);
        exit.assert_code(code);
        let messages = json_messages(&exit.stderr);
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert_eq!(parsed(&exit.stderr)["code"], named, "{}", exit.stderr);
    }
}

/// What a refused command line says to a terminal, which `script` makes.
fn on_a_terminal(args: &str, no_color: Option<&str>) -> String {
    let mut script = Command::new("script");
    script.args(["-qec", &format!("'{}' {args}", binary().display()), "/dev/null"]).env_remove("NO_COLOR").stdin(Stdio::null());
    let out = script.envs(no_color.map(|value| ("NO_COLOR", value))).output().expect("script runs");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(said.contains("C0101"), "{said}");
    said
}

#[test]
fn colour_comes_on_a_terminal_and_when_it_is_asked_for() {
    const ESCAPE: char = '\x1b';
    let refused = |more: &[&str], variables: &[(&str, &str)]| {
        let exit = Program::new(["backup", "--windw"]).args(more).envs(variables.iter().copied()).run(RUN_LIMIT);
        exit.assert_code(2);
        exit.stderr
    };
    assert!(!refused(&[], &[]).contains(ESCAPE), "a pipe gets none");
    assert!(refused(&["--color", "always"], &[("NO_COLOR", "1")]).contains(ESCAPE), "a flag is stronger than a variable");
    assert!(on_a_terminal("backup --windw", None).contains(ESCAPE), "a terminal gets colour");
    assert!(on_a_terminal("backup --windw", Some("")).contains(ESCAPE), "an empty NO_COLOR is none");
    assert!(!on_a_terminal("backup --windw", Some("1")).contains(ESCAPE), "NO_COLOR");
    assert!(!on_a_terminal("backup --color never --windw", None).contains(ESCAPE), "--color never");
    assert!(!on_a_terminal("backup --windw --color=never", None).contains(ESCAPE), "--color=never");
}

/// Runs what follows on a terminal that `script` makes, wide enough for its longest line.
const ON_A_TERMINAL: [&str; 3] =
    ["bash", "-c", "unset NO_COLOR; TERM=xterm exec script -qec \"stty rows 24 cols 200; exec ${0@Q} ${*@Q}\" /dev/null"];

#[test]
fn a_terminal_shows_one_moving_line_instead_of_a_line_for_each_window() {
    const REDRAWN: &str = "\r\x1b[2K";
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::in_process());
    bed.fill(RECORDS);
    // Slow enough for the line to be drawn between two windows.
    bed.place.server().state().set_faults(|request| match request.op {
        Op::PutObject if !request.key.contains("_catchment/") => Fault { before: Duration::from_millis(500), ..Fault::default() },
        _ => Fault::default(),
    });
    let exit = bed.backup(&["--until-end"]).within(&ON_A_TERMINAL).run(RUN_LIMIT);
    exit.assert_code(0);
    let windows = bed.place.data_keys("").len();
    assert!(windows >= 5, "{RECORDS} records of 20 ms in windows of 1 s: {windows}");
    let drawn: Vec<_> = exit.stdout.split(REDRAWN).collect();
    assert!(drawn.len() > 2 * windows, "drawn {} times: {}", drawn.len(), exit.stdout);
    assert!(drawn.iter().any(|line| line.contains("starting")), "{}", exit.stdout);
    let after = |objects: usize| drawn.iter().any(|line| line.contains(&format!(" {objects} objects, ")) && line.contains("MiB; last "));
    assert!((1..windows).all(after), "each window is shown while the next one is written: {}", exit.stdout);
    assert!(!exit.stdout.contains(".parquet"), "a line for each window is for pipes and files: {}", exit.stdout);
    bed.assert_complete("on a terminal");
}

/// Stops a backup whose windows are open and have every record.
fn stop_with_open_windows(topic: &str, directory: &Path, more: &[&str]) -> Exit {
    let windows = ["--window", "24h", "--window-by", "arrival", "--metrics", "127.0.0.1:0"];
    let kafka = Kafka::shared().bootstrap();
    let to = format!("file://{}/", directory.display());
    let args = ["backup", topic, "-b", kafka, "--to", &to, "--instance-id", "none"];
    let mut process = Program::new(args).args(windows).args(more).spawn();
    scrape_until(&mut process, "catchment_records_read_total", 2 * RECORDS);
    assert!(files(directory).is_empty(), "the windows are open");
    let exit = process.terminate(STOP);
    exit.assert_code(0);
    exit
}

#[test]
fn on_stop_says_what_becomes_of_open_windows() {
    let (topic, directory) = (filled_topic(), tempfile::tempdir().expect("a temporary directory"));
    stop_with_open_windows(&topic, directory.path(), &[]);
    assert_eq!(files(directory.path()), BTreeMap::new(), "dropped unless told otherwise");
    let exit = stop_with_open_windows(&topic, directory.path(), &["--on-stop", "close"]);
    assert_eq!(exit.stdout.lines().filter(|line| line.contains(" stop ")).count(), 2, "{}", exit.stdout);
    let path = directory.path().to_str().expect("a UTF-8 path");
    let report = parsed(&stdout_of(&["verify", path, "-b", Kafka::shared().bootstrap(), "--json"]));
    assert_eq!((&report["objects"], &report["compared"]), (&json!(2), &json!(2 * RECORDS)), "{report}");
}

#[test]
fn a_dry_run_says_what_a_day_costs_and_writes_nothing() {
    let (topic, kafka) = (unique("dry"), Kafka::shared().bootstrap());
    let (admin, directory) = (Admin::new(kafka), tempfile::tempdir().expect("a temporary directory"));
    // By the broker's clock: everything was written in the last hour.
    admin.create_topic(&topic, 3, &[("message.timestamp.type", "LogAppendTime")]);
    fill(kafka, &Plan::plain(SEED, &topic, 2, 2 * RECORDS));
    let url = format!("file://{}/", directory.path().display());
    let dry_run = |topic: &str, form: &str| {
        Program::new(["backup", topic, "-b", kafka, "--to", &url, "--window", "5m", "--dry-run", "--log-format", form]).run(RUN_LIMIT)
    };
    let exit = dry_run(&topic, "text");
    exit.assert_code(0);
    for part in [topic.as_str(), "about 576 a day with windows of 5m", "720 requests", "Nothing was written, and no group was joined"] {
        assert!(exit.stdout.contains(part), "no {part} in: {}", exit.stdout);
    }
    let told = parsed(&dry_run(&topic, "json").stdout);
    let outlook = &told["outlook"];
    let traffic = &outlook["topics"][0];
    assert_eq!((&traffic["partitions"], &traffic["busy"]), (&json!(3), &json!(2)), "{told}");
    assert_eq!((&traffic["records"], &traffic["records_an_hour"]), (&json!(2 * RECORDS), &json!(2 * RECORDS)), "{told}");
    assert_eq!((&outlook["objects_a_day"], &outlook["small"]), (&json!(576.0), &json!(true)), "two busy partitions, 288 windows: {told}");
    let bytes = |of: &Value| of.as_f64().expect("a number");
    assert!(bytes(&traffic["weight"]["stored_bytes"]) > 0.0 && bytes(&outlook["bytes_a_day"]) > 0.0, "{told}");
    assert!(told["example_key"].as_str().is_some_and(|key| key.contains(&topic)), "{told}");
    assert_eq!(std::fs::read_dir(directory.path()).expect("it can be listed").count(), 0, "something was written");
    let group = told["group"].as_str().expect("a group");
    assert!((0..2).all(|partition| admin.group_offset(group, &topic, partition).is_none()), "something was committed");
    let exit = dry_run(&unique("none"), "text");
    exit.assert_code(3);
    assert!(exit.stderr.contains("error[C0203]"), "{}", exit.stderr);
}

/// Code 5 takes as long as a broker is waited for: `docs.rs` and `refusals.rs` have it.
#[test]
fn every_reading_verb_ends_with_the_code_of_its_failure() {
    let backup = Backup::make(&[]);
    let stranger = written(&backup.directory, "notes.txt", "no object");
    let (_, _, object) = an_object(&backup);
    std::fs::write(&object, "PAR1 no more").expect("it can be overwritten");
    let empty = tempfile::tempdir().expect("a temporary directory");
    let (empty, path) = (empty.path().to_str().expect("a UTF-8 path").to_owned(), backup.path());
    for (args, code, error) in [
        (&["ls", path, "--rows", "3"][..], 2, "C0101"),
        (&["show", &stranger], 2, "C0502"),
        (&["ls", "gopher://b/p/"], 2, "C0310"),
        (&["verify", path, "--config", "/no/such/file"], 3, "C0102"),
        (&["ls", &empty], 3, "C0502"),
        (&["show", &format!("{path}/none+0+00000000000000000000.parquet")], 3, "C0502"),
        (&["verify", path], 4, "C0501"),
        (&["show", &object], 4, "C0503"),
    ] {
        let exit = catchment(args);
        exit.assert_code(code);
        assert!(exit.stderr.contains(&format!("error[{error}]")), "{args:?}: no {error} in: {}", exit.stderr);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure_and_a_full_disk_is_one() {
    let print = |stdout: Stdio| Command::new(binary()).args(["config", "schema"]).stdout(stdout).output().expect("it runs");
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    drop(reader);
    let left = print(writer.into());
    assert!(left.status.success() && left.stderr.is_empty(), "{left:?}");
    let full = print(std::fs::File::options().write(true).open("/dev/full").expect("Linux has it").into());
    assert_eq!(full.status.code(), Some(1), "{full:?}");
    assert!(String::from_utf8_lossy(&full.stderr).contains("C0110"), "{full:?}");
}
