//! The REST surface over a socket: its form, its refusals, its description held against it by schemathesis, and its log as it grows.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use catchment_tests::bed::{Bed, Place};
use catchment_tests::openmetrics::{METRICS, metrics};
use catchment_tests::readers::python;
use catchment_tests::rules_service::{PATIENCE, RulesService};
use catchment_tests::services::{Kafka, Minio};
use serde_json::{Value, json};

/// What a service answers.
struct Answer {
    status: u16,
    head: String,
    text: String,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value))
    }

    /// The code of a problem, which every refusal is.
    fn code(&self) -> &str {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{} {}", self.head, self.body);
        assert_eq!(self.body["status"], self.status, "{}", self.body);
        assert!(self.body["help"].is_string(), "a problem without a next step: {}", self.body);
        self.body["code"].as_str().expect("a code")
    }
}

fn connect(service: &RulesService, line: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
    let address = service.address().strip_prefix("http://").expect("plain HTTP");
    let mut stream = TcpStream::connect(address).expect("the service listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
        .expect("the service listens");
    stream
}

fn ask_with(service: &RulesService, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut text = Vec::new();
    connect(service, line, headers, body).read_to_end(&mut text).expect("an answer");
    let text = String::from_utf8(text).expect("an answer in UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), text: body.to_owned(), body: serde_json::from_str(body).unwrap_or(Value::Null) }
}

fn ask(service: &RulesService, line: &str, body: &Value) -> Answer {
    let token = format!("Bearer {}", service.token());
    let body = if body.is_null() { String::new() } else { body.to_string() };
    ask_with(service, line, &[("Authorization", &token)], &body)
}

fn bed() -> Bed {
    Bed::new(Kafka::shared().bootstrap(), 1, Place::in_process())
}

#[test]
fn every_refusal_is_a_problem_with_a_code_and_a_next_step() {
    let bed = bed();
    let service = RulesService::start(&bed);
    let rule = |keys: Value| {
        let mut body = json!({ "name": "r", "source": { "topics": [bed.topic] }, "instance_id": "none" });
        body.as_object_mut().expect("an object").extend(keys.as_object().cloned().expect("an object"));
        body
    };
    let is = |line: &str, body: &Value, status: u16, code: &str| {
        let answer = ask(&service, line, body);
        assert_eq!((answer.status, answer.code()), (status, code), "{line} {body}: {}", answer.body);
    };
    assert_eq!(ask(&service, "POST /api/v1/rules", &rule(json!({}))).status, 201);
    is("POST /api/v1/rules", &rule(json!({})), 409, "C0603");
    is("POST /api/v1/rules", &rule(json!({ "name": "s" })), 409, "C0615");
    is("POST /api/v1/rules", &rule(json!({ "name": "s", "group": "catchment-r", "to": { "prefix": "s/" } })), 409, "C0621");
    is("POST /api/v1/rules", &rule(json!({ "name": "s", "windows": {} })), 422, "C0104");
    is("POST /api/v1/rules", &json!([]), 422, "C0105");
    is("GET /api/v1/rules/none", &Value::Null, 404, "C0602");
    is("GET /api/v1/rules/%ff", &Value::Null, 400, "C0619");
    is("GET /api/v1/rules/r/log?limit=0", &Value::Null, 400, "C0619");
    is("GET /api/v1/rules/r/log?limit=x", &Value::Null, 400, "C0619");
    is("GET /api/v1/rules/r/log?after=1&before=9", &Value::Null, 400, "C0619");
    is("GET /api/v1/rules/r/windows?befor=3", &Value::Null, 400, "C0619");
    is("GET /api/v1/rules/r/file?key=../state.db", &Value::Null, 400, "C0619");
    is("GET /api/v1/rules/r/file/content?key=x", &Value::Null, 403, "C0620");
    is("POST /api/v1/rules/r/resume", &json!({ "accept": ["all"] }), 400, "C0619");
    is("POST /api/v1/rules/r/rollback", &json!({}), 400, "C0619");
    is("GET /api/v1/rules/r/verify", &Value::Null, 404, "C0502");
    is("DELETE /api/v1/rules/none", &Value::Null, 404, "C0602");
    is("GET /api/v1/sources/none", &Value::Null, 404, "C0612");
    is("PUT /api/v1/stores/none", &json!({ "url": "file:///x/" }), 404, "C0612");
    is("PUT /api/v1/sources/k", &json!({ "brokers": ["h:1"] }), 404, "C0612");
    is("PUT /api/v1/workers/W", &json!({ "id": "1" }), 400, "C0619");
    is("PUT /api/v1/workers/w", &json!({ "id": "no-id" }), 400, "C0619");
    is("POST /api/v1/workers/w/reports", &json!({ "id": "1", "reports": [] }), 404, "C0660");
    assert_eq!(ask(&service, "PUT /api/v1/workers/w", &json!({ "id": "1" })).status, 200);
    is("PUT /api/v1/workers/w", &json!({ "id": "2" }), 409, "C0664");
    let reports = json!([{ "number": 1, "rule": "r" }, { "number": 3, "rule": "r" }]);
    is("POST /api/v1/workers/w/reports", &json!({ "id": "1", "reports": reports }), 422, "C0661");
    is("PATCH /api/v1/rules/r", &Value::Null, 405, "C0617");
    is("GET /api/v1/nothing", &Value::Null, 404, "C0607");
    is("GET /nothing", &Value::Null, 404, "C0607");
    let large = json!({ "name": "large", "source": { "topics": ["x".repeat(2 << 20)] } });
    assert_eq!(ask(&service, "POST /api/v1/rules", &large).status, 413);
    let token = format!("Bearer {}", service.token());
    let broken = ask_with(&service, "POST /api/v1/rules", &[("Authorization", &token)], "{");
    assert_eq!((broken.status, broken.code()), (400, "C0103"));
    let stale =
        ask_with(&service, "PUT /api/v1/rules/r", &[("Authorization", &token), ("If-Match", "\"7\"")], &rule(json!({})).to_string());
    assert_eq!((stale.status, stale.code()), (412, "C0604"));
    for authorization in ["", "Bearer", "Bearer x", "Basic eDp4"] {
        let answer = ask_with(&service, "GET /api/v1/rules", &[("Authorization", authorization)], "");
        assert_eq!((answer.status, answer.code()), (401, "C0606"), "{authorization}");
    }
    let description = ask(&service, "GET /api/v1/openapi.json", &Value::Null).body;
    for (path, item) in description["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("methods").keys() {
            let line = format!("{} /api/v1{}", method.to_uppercase(), path.replace(['{', '}'], ""));
            assert_eq!(ask_with(&service, &line, &[], "").status, 401, "{line}");
        }
    }
    assert_eq!(ask_with(&service, "GET /api/v1/openapi.json", &[], "").status, 401);
    assert_eq!(ask(&service, "GET /livez", &Value::Null).status, 200);
    assert_eq!(ask(&service, "GET /readyz", &Value::Null).status, 200);
    let shown = ask(&service, "GET /api/v1/rules/r", &Value::Null);
    assert_eq!(shown.header("etag"), Some("\"1\""));
}

#[test]
fn a_deletion_says_what_goes_and_what_stays() {
    let mut bed = bed();
    bed.fill(25);
    let mut service = RulesService::start(&bed);
    let topic = bed.topic.clone();
    service.done(&["create", &topic, &service.rule(&bed, "window = { every = \"1s\" }\nto = { prefix = \"kept/\" }")]);
    bed.await_committed(&mut [service.process_mut()], PATIENCE);
    service.await_window(&topic, 1);
    let deleted = ask(&service, &format!("DELETE /api/v1/rules/{topic}"), &Value::Null);
    assert_eq!((deleted.status, &deleted.body["rule"]), (200, &json!(topic)));
    let told =
        |list: &str| deleted.body[list].as_array().map(|all| all.iter().map(|one| one.to_string()).collect::<String>()).unwrap_or_default();
    assert!(told("stays").contains("all objects below") && told("stays").contains("kept/"), "{}", deleted.body);
    // Its member is a dynamic one, which has left the group when the rule has ended.
    assert!(told("gone").contains(&bed.group()) && told("gone").contains("the claim on the directory"), "{}", deleted.body);
    assert_eq!(deleted.body["left_behind"], json!([]));
    assert!(!bed.place.data_keys("kept/").is_empty());
}

#[test]
fn a_connection_is_edited_from_the_version_that_was_seen_and_leads_no_rule_elsewhere() {
    let bed = bed();
    let service = RulesService::start(&bed);
    let token = format!("Bearer {}", service.token());
    let put = |version: &str, body: &Value| {
        ask_with(&service, "PUT /api/v1/sources/more", &[("Authorization", &token), ("If-Match", version)], &body.to_string())
    };
    let login = json!({ "mechanism": "PLAIN", "username": "u", "password": "hush-canary" });
    let made = ask(&service, "POST /api/v1/sources", &json!({ "name": "more", "brokers": [bed.broker()], "sasl": login }));
    assert_eq!((made.status, made.header("etag")), (201, Some("\"1\"")), "{}", made.body);
    let shown = ask(&service, "GET /api/v1/sources/more", &Value::Null);
    assert_eq!((shown.header("etag"), &shown.body["body"]["sasl"]["password"]), (Some("\"1\""), &json!("***")));
    // Sent back as it was shown, it keeps its secret.
    let mut body = shown.body["body"].clone();
    body["sasl"]["username"] = json!("v");
    let edited = put("\"1\"", &body);
    assert_eq!((edited.status, edited.header("etag"), &edited.body["body"]["sasl"]["username"]), (200, Some("\"2\""), &json!("v")));
    let stale = put("\"1\"", &body);
    assert_eq!((stale.status, stale.code()), (412, "C0604"));
    let rule = json!({ "name": "r", "source": { "kafka": "more", "topics": [bed.topic] }, "instance_id": "none" });
    assert_eq!(ask(&service, "POST /api/v1/rules", &rule).status, 201);
    body["properties"] = json!({ "client.id": "x" });
    assert_eq!(put("\"2\"", &body).status, 200, "settings change under a rule");
    body["brokers"] = json!(["127.0.0.1:1"]);
    let moved = put("\"3\"", &body);
    assert_eq!((moved.status, moved.code()), (409, "C0618"), "{}", moved.body);
    let elsewhere =
        put("\"3\"", &json!({ "brokers": [bed.broker()], "sasl": { "mechanism": "SCRAM-SHA-256", "username": "u", "password": "***" } }));
    assert_eq!(
        (elsewhere.status, elsewhere.code()),
        (422, "C0105"),
        "a secret that is not shown is not sent in another way: {}",
        elsewhere.body
    );
    let nothing_to_keep = put("\"3\"", &json!({ "brokers": [bed.broker()], "tls": { "key_password": "***" } }));
    assert_eq!((nothing_to_keep.status, nothing_to_keep.code()), (422, "C0105"));
    let renamed = put("\"3\"", &json!({ "name": "other", "brokers": [bed.broker()] }));
    assert_eq!((renamed.status, renamed.code()), (422, "C0105"));
    let audit = ask(&service, "GET /api/v1/audit", &Value::Null);
    let entries = audit.body.as_array().into_iter().flatten().filter(|entry| entry["action"] == "redefine kafka");
    let details: Vec<Value> = entries.filter_map(|entry| serde_json::from_str(entry["detail"].as_str()?).ok()).collect();
    let changed = |key: &str, before: Value, after: Value| json!({ "name": "more", "differences": [{ "key": key, "before": before, "after": after }] });
    assert_eq!(details, [changed("properties.client.id", Value::Null, json!("x")), changed("sasl.username", json!("u"), json!("v"))]);
    assert!(audit.text.contains("sasl.password") && !audit.text.contains("hush-canary"), "{}", audit.text);
    assert_eq!(ask(&service, "GET /api/v1/sources/more", &Value::Null).header("etag"), Some("\"3\""));
}

#[test]
fn objects_are_looked_into_and_downloaded_if_values_may_be_shown() {
    let mut bed = bed();
    bed.fill(25);
    let mut service = RulesService::start_with(&bed, &["--show-values"]);
    let topic = bed.topic.clone();
    service.done(&["create", &topic, &service.rule(&bed, "window = { every = \"1s\" }")]);
    bed.await_committed(&mut [service.process_mut()], PATIENCE);
    let key = bed.place.data_keys("").into_iter().next().expect("an object");
    let escaped = key.replace('+', "%2B").replace('=', "%3D");
    let shown = ask(&service, &format!("GET /api/v1/rules/{topic}/file?key={escaped}&rows=3"), &Value::Null);
    assert_eq!(shown.body["rows"].as_array().map(Vec::len), Some(3), "{}", shown.body);
    assert_eq!(shown.body["proof"]["lane"]["topic"], topic, "{}", shown.body);
    let token = format!("Bearer {}", service.token());
    let mut bytes = Vec::new();
    let line = format!("GET /api/v1/rules/{topic}/file/content?key={escaped}");
    connect(&service, &line, &[("Authorization", &token)], "").read_to_end(&mut bytes).expect("an answer");
    assert!(bytes.ends_with(&bed.place.get(&key)), "not the object's bytes");
    let sample = ask(&service, &format!("GET /api/v1/sources/k/topics/{topic}/records?limit=4"), &Value::Null);
    assert_eq!(sample.body.as_array().map(Vec::len), Some(4), "{}", sample.body);
    let extent = ask(&service, &format!("GET /api/v1/sources/k/topics/{topic}"), &Value::Null);
    assert_eq!(extent.body["records"], 25, "{}", extent.body);
}

#[test]
fn a_log_is_sent_as_it_grows_and_from_where_it_was_left() {
    let bed = bed();
    let service = RulesService::start(&bed);
    let topic = bed.topic.clone();
    service.done(&["create", &topic, &service.rule(&bed, "")]);
    service.await_state(&topic, "running");
    let token = format!("Bearer {}", service.token());
    let line = format!("GET /api/v1/rules/{topic}/log/follow");
    let stream = connect(&service, &line, &[("Authorization", &token), ("Last-Event-ID", "0")], "");
    let mut events = BufReader::new(stream).lines();
    let mut next = |wanted: &str| {
        let began = Instant::now();
        loop {
            let line = events.next().expect("the stream goes on").expect("a line");
            if line.starts_with("data: ") && line.contains(wanted) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "no {wanted:?}");
        }
    };
    next("running: 1 topic(s)");
    service.done(&["pause", &topic]);
    service.done(&["resume", &topic]);
    next("running: 1 topic(s)");
}

/// Paths that ask a cluster or a store, and the one whose answer has no end.
const ASKING: &str = "/log/follow$|/explain$|/preview$|/test$|/topics|/probe$";

/// Holds a service against a description of it by schemathesis.
fn assert_holds(service: &RulesService, description: &Value, args: &[&str]) {
    let file = service.dir().join("openapi.json");
    std::fs::write(&file, description.to_string()).expect("a file");
    let out = Command::new(python())
        .args(["-m", "schemathesis.cli", "run"])
        .arg(&file)
        .args(["--url", &format!("{}/api/v1", service.address())])
        .args(["--header", &format!("Authorization: Bearer {}", service.token())])
        // What a schema cannot say, a refusal does: whether names are defined, and keys go together. Valid bodies are what the other tests send.
        .args(["--exclude-checks", "positive_data_acceptance", "--seed", "1", "--no-color"])
        .args(args)
        .current_dir(service.dir())
        .output()
        .expect("schemathesis runs");
    let said = format!("{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{said}");
    assert!(said.contains("passed"), "{said}");
}

#[test]
fn the_description_holds_under_schemathesis() {
    let bed = bed();
    // Rules that are made up find no broker, and what asks one says so, with 502.
    let config = format!("[kafka.k]\nbrokers = [\"127.0.0.1:1\"]\n[store.s]\nurl = \"{}\"\n", bed.place.url(""));
    let service = RulesService::start_on(&config, &bed, &[]);
    let description = ask(&service, "GET /api/v1/openapi.json", &Value::Null).body;
    assert_holds(&service, &description, &["--exclude-path-regex", ASKING, "--max-examples", "15", "--request-timeout", "30"]);
}

/// The description with names for its paths that there are, and one that there is not; and with a rule that can be previewed.
fn with_what_there_is(mut description: Value, rule: &str, topic: &str) -> Value {
    for (path, item) in description["paths"].as_object_mut().expect("paths") {
        let operations = item.as_object_mut().into_iter().flatten();
        let parameters = operations.filter_map(|(_, operation)| operation.get_mut("parameters")?.as_array_mut());
        for parameter in parameters.flatten().filter(|parameter| parameter["in"] == "path") {
            let known = match (parameter["name"].as_str(), path.split('/').nth(1)) {
                (Some("topic"), _) => topic,
                (_, Some("sources")) => "k",
                (_, Some("stores")) => "s",
                // That of a rule would go on for ever.
                _ if path.ends_with("/follow") => "none",
                _ => rule,
            };
            parameter["schema"] = json!({ "type": "string", "enum": [known, "there-is-none"] });
        }
    }
    let example = json!({ "name": "previewed", "source": { "kafka": "k", "topics": [topic] }, "to": { "store": "s" } });
    description["paths"]["/preview"]["post"]["requestBody"]["content"]["application/json"]["example"] = example;
    description
}

#[test]
fn the_description_of_what_asks_kafka_and_the_store_holds_under_schemathesis() {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::minio(Minio::shared()));
    bed.fill(25);
    let service = RulesService::start(&bed);
    let topic = bed.topic.clone();
    service.done(&["create", &topic, &service.rule(&bed, "")]);
    let description = with_what_there_is(ask(&service, "GET /api/v1/openapi.json", &Value::Null).body, &topic, &topic);
    // Each call makes a client of Kafka, and a probe 300 requests to the store: so few of each.
    let few = ["--phases", "examples,fuzzing", "--max-examples", "6", "--request-timeout", "120"];
    assert_holds(&service, &description, &[&["--include-path-regex", ASKING][..], &few].concat());
}

#[test]
fn metrics_of_all_rules_stand_on_one_page_for_who_has_the_token() {
    let mut bed = bed();
    bed.admin.set_topic_settings(&bed.topic, &[("retention.ms", "3153600000000")]);
    bed.fill(100);
    let service = RulesService::start(&bed);
    let keys = "window = { every = \"1s\" }";
    for (rule, topic) in [("first", bed.topic.as_str()), ("second", "there-is-no-such-topic")] {
        service.done(&["create", rule, &service.rule_named(rule, topic, keys)]);
    }
    let refused = ask_with(&service, "GET /metrics", &[], "");
    assert_eq!((refused.status, refused.code()), (401, "C0606"));
    let (deadline, written) = (Instant::now() + PATIENCE, "catchment_records_written_total{rule=\"first\"} 100");
    let page = loop {
        let page = ask(&service, "GET /metrics", &Value::Null).text;
        let is_all = page.contains(written) && page.contains("time_to_data_loss") && page.contains("state=\"source-missing\"} 1");
        if is_all {
            break page;
        }
        assert!(Instant::now() < deadline, "{page}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let found = metrics(&page);
    // What counts accidents has no sample before there is one; the rest has the label of its rule.
    let accidents = ["catchment_early_closes_total", "catchment_gaps_total", "catchment_store_retries_total"];
    for metric in METRICS.iter().filter(|metric| !accidents.iter().any(|accident| metric.starts_with(accident))) {
        let (name, labels) = metric.split_at(metric.match_indices(' ').nth(1).map_or(metric.len(), |(at, _)| at));
        let expected = if name.starts_with("catchment_build_info") { (*metric).to_owned() } else { format!("{name} rule{labels}") };
        assert!(found.contains(&expected), "no {expected} among {found:?}");
    }
    assert!(found.contains("catchment_rule_state gauge rule state"), "{found:?}");
    for (rule, state) in [("first", "running"), ("second", "source-missing")] {
        let line = format!("catchment_rule_state{{rule=\"{rule}\",state=\"{state}\"}} 1");
        assert!(page.lines().any(|l| l == line), "no {line}\n{page}");
    }
}
