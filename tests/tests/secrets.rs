//! No secret is in anything that a service says: what its API answers and refuses, what its console shows, what its command line prints, what it counts and logs.
//!
//! The real binary, a real Kafka, the S3 server of the tests. Secrets stand in the config file and come by the API; a login and a store refuse theirs, so that
//! what is said of a refusal is looked at, too. What records hold is no secret of the service's, but is shown by one alone that was told to.

use std::path::Path;
use std::time::Instant;

use catchment_tests::bed::{Bed, Place};
use catchment_tests::generate::{Codec, Record, RecordProducer};
use catchment_tests::rules_service::{RulesService, stored};
use catchment_tests::s3::Fault;
use catchment_tests::services::Kafka;
use catchment_tests::three_ways::{Answer, ThreeWays, escaped};
use serde_json::{Value, json};

/// What each secret begins with.
const CANARY: &str = "hush-canary";

/// One that runs, one whose login is refused, one whose store refuses it.
const RULES: [&str; 3] = ["runs", "locked-out", "shut-out"];

/// Two of the config file, the first of which lets the service in, and one of the API.
const SOURCES: [&str; 3] = ["k", "locked", "made"];

/// The same.
const STORES: [&str; 3] = ["s", "shut", "made"];

/// Pages of the console.
const PAGES: [&str; 21] = [
    "/console",
    "/console/add",
    "/console/sources",
    "/console/sources/made/edit",
    "/console/stores",
    "/console/stores/made/edit",
    "/console/workers",
    "/console/tokens",
    "/console/load-tests",
    "/console/health",
    "/console/rules/runs",
    "/console/rules/runs/files",
    "/console/rules/locked-out",
    "/console/rules/locked-out/log",
    "/console/rules/locked-out/explain",
    "/console/rules/locked-out/edit",
    "/console/rules/locked-out/versions",
    "/console/rules/locked-out/rule.toml",
    "/console/rules/shut-out",
    "/console/rules/shut-out/log",
    "/console/rules/shut-out/files",
];

/// Calls at a time: those that wait for a refusal wait together.
const AT_ONCE: usize = 8;

fn secret(number: u32) -> String {
    format!("{CANARY}-{number}")
}

fn config(bed: &Bed) -> String {
    let (broker, open, shut) = (bed.broker(), bed.place.url("open/"), bed.place.url("shut/"));
    let (of_key, of_login, id, key) = (secret(1), secret(2), secret(3), secret(4));
    format!(
        "[kafka.k]\nbrokers = [\"{broker}\"]\nproperties = {{ \"ssl.key.password\" = \"{of_key}\" }}\n\
         [kafka.locked]\nbrokers = [\"{broker}\"]\nsasl = {{ mechanism = \"PLAIN\", username = \"u\", password = \"{of_login}\" }}\n\
         [store.s]\nurl = \"{open}\"\n\
         [store.shut]\nurl = \"{shut}\"\naccess_key_id = \"{id}\"\nsecret_access_key = \"{key}\"\n"
    )
}

fn login(mechanism: &str, password: Value) -> Value {
    json!({ "mechanism": mechanism, "username": "u", "password": password })
}

fn rule(name: &str, source: &str, store: &str, topic: &str) -> String {
    let to = json!({ "store": store, "prefix": format!("{name}/") });
    let reads = json!({ "kafka": source, "topics": [topic] });
    let group = format!("{name}-{topic}");
    json!({ "name": name, "source": reads, "to": to, "window": { "every": "1s" }, "group": group, "instance_id": "none" }).to_string()
}

/// The lines of a GET: one for each rule, connection or store that its path can name.
fn filled(path: &str, topic: &str) -> Vec<String> {
    let names: &[&str] = match path.split('/').nth(1) {
        _ if !path.contains("{name}") => &[""],
        Some("rules") => &RULES,
        Some("sources") => &SOURCES,
        _ => &STORES,
    };
    let query = if path.ends_with("/file") || path.ends_with("/file/content") { "?key=none" } else { "" };
    names.iter().map(|name| format!("GET {}{query}", path.replace("{name}", name).replace("{topic}", topic))).collect()
}

/// Whether a secret is in the service's state: else there is nothing to keep to itself.
fn is_kept(state: &Path) -> bool {
    let files = std::fs::read_dir(state).expect("the directory of the state").flatten();
    let mut contents = files.filter_map(|file| std::fs::read(file.path()).ok());
    contents.any(|bytes| bytes.windows(CANARY.len()).any(|part| part == CANARY.as_bytes()))
}

/// A service, and all that it has said.
struct Said {
    ways: ThreeWays,
    /// What was asked, and what was said.
    texts: Vec<(String, String)>,
    /// How much was answered with what was asked for.
    answered: usize,
}

impl Said {
    fn hear(&mut self, what: &str, answer: &Answer) {
        self.answered += usize::from(answer.status / 100 == 2);
        self.texts.push((format!("{what}: {}", answer.status), format!("{}\n{}", answer.head, answer.text())));
    }

    /// Makes calls of the API. Returns their statuses.
    fn calls(&mut self, calls: &[(String, String)]) -> Vec<u16> {
        let mut statuses = Vec::new();
        for some in calls.chunks(AT_ONCE) {
            let ways = &self.ways;
            let answers: Vec<Answer> = std::thread::scope(|scope| {
                let asked: Vec<_> = some.iter().map(|(line, body)| scope.spawn(move || ways.try_to(line, body))).collect();
                asked.into_iter().map(|call| call.join().expect("an answer")).collect()
            });
            for ((line, _), answer) in some.iter().zip(&answers) {
                self.hear(line, answer);
                statuses.push(answer.status);
            }
        }
        statuses
    }

    fn form(&mut self, path: &str, fields: &[(&str, &str)]) {
        let fields: Vec<(&str, String)> = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let answer = self.ways.form(path, path, &fields);
        self.hear(path, &answer);
    }

    /// `catchment rule ARGS...`
    fn command(&mut self, args: &[&str]) {
        let exit = self.ways.service().run(args);
        self.answered += usize::from(exit.code() == Some(0));
        self.texts.push((format!("catchment rule {}", args.join(" ")), exit.stdout + &exit.stderr));
    }

    /// A file of this text.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.ways.service().dir().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// Defines a connection and a store and gives both other secrets; and the rules.
    fn define(&mut self, bed: &Bed) {
        let source = |n: u32| json!({ "name": "made", "brokers": [bed.broker()], "sasl": login("SCRAM-SHA-256", json!(secret(n))) });
        let store = |n: u32| {
            let (url, key, token) = (bed.place.url("made/"), secret(n), secret(n + 1));
            json!({ "name": "made", "url": url, "access_key_id": "test", "secret_access_key": key, "session_token": token })
        };
        let connections =
            [("POST /sources", source(5)), ("PUT /sources/made", source(6)), ("POST /stores", store(7)), ("PUT /stores/made", store(9))];
        let rules = [("runs", "k", "s"), ("locked-out", "locked", "s"), ("shut-out", "k", "shut")];
        let rules = rules.map(|(name, source, store)| ("POST /rules", rule(name, source, store, &bed.topic)));
        let connections = connections.map(|(line, body)| (line, body.to_string()));
        for (line, body) in connections.into_iter().chain(rules) {
            let statuses = self.calls(&[(line.to_owned(), body)]);
            assert!(statuses[0] / 100 == 2, "{line}: {statuses:?}");
        }
    }

    /// Waits until one rule has stored something, and the others have said why they cannot.
    fn await_rules(&self) {
        let service = self.ways.service();
        service.await_window("runs", 1);
        for (rule, area) in [("locked-out", "C02"), ("shut-out", "C03")] {
            service.until(&["show", rule], |shown| shown["reason"].as_str().is_some_and(|reason| reason.contains(area)));
        }
    }

    /// Everything that the API lets look at or try; a log that is followed has no end.
    fn look(&mut self, topic: &str) {
        let description = self.ways.ask("GET /openapi.json", "").json();
        let paths = description["paths"].as_object().expect("paths").iter();
        let gets = paths.filter(|(path, item)| item["get"].is_object() && !path.ends_with("/log/follow"));
        let gets = gets.flat_map(|(path, _)| filled(path, topic)).chain(["GET /openapi.json".to_owned()]);
        let tests = SOURCES.map(|name| format!("POST /sources/{name}/test"));
        let probes = STORES.map(|name| format!("POST /stores/{name}/probe"));
        let lines = gets.chain(tests).chain(probes).map(|line| (line, String::new()));
        let previews = [("locked", "s"), ("made", "made"), ("k", "shut")];
        let previews = previews.map(|(source, store)| ("POST /preview".to_owned(), rule("preview", source, store, topic)));
        let calls: Vec<(String, String)> = lines.chain(previews).collect();
        assert!(calls.iter().all(|(line, _)| !line.contains('{')), "a path has another part: {calls:?}");
        self.calls(&calls);
        self.texts.push(("the metrics".to_owned(), self.ways.metrics()));
    }

    /// Bodies with secrets that cannot be taken.
    fn be_refused(&mut self, bed: &Bed) {
        let (hushed, brokers, url) = (secret(99), json!([bed.broker()]), bed.place.url("made/"));
        let bodies = [
            ("PUT /sources/made", json!({ "brokers": brokers, "sasl": login("none", json!(hushed)) })),
            ("PUT /sources/made", json!({ "brokers": brokers, "sasl": login("PLAIN", json!([hushed])) })),
            ("PUT /sources/made", json!({ "brokers": 1, "properties": { "ssl.key.password": hushed } })),
            ("PUT /sources/made", json!({ "brokers": ["127.0.0.1:1"], "sasl": login("SCRAM-SHA-256", json!("***")) })),
            ("POST /sources", json!({ "name": "Bad", "brokers": brokers, "sasl": login("PLAIN", json!(hushed)) })),
            ("PUT /stores/made", json!({ "url": "nonsense", "access_key_id": hushed, "secret_access_key": hushed })),
            ("PUT /stores/made", json!({ "url": url, "secret_access_key": hushed })),
            ("POST /stores", json!({ "name": "made", "url": url, "access_key_id": hushed, "secret_access_key": hushed })),
        ];
        let cut = format!("{{\"name\":\"cut\",\"sasl\":{{\"password\":\"{hushed}\"");
        let bodies = bodies.into_iter().map(|(line, body)| (line.to_owned(), body.to_string()));
        let calls: Vec<(String, String)> = bodies.chain([("POST /sources".to_owned(), cut)]).collect();
        let statuses = self.calls(&calls);
        assert!(statuses.iter().all(|status| status / 100 == 4), "{statuses:?}");
    }

    /// Pages, tries, and forms that are refused with secrets typed in them.
    fn browse(&mut self, bed: &Bed) {
        // What needs the store or the login that refuse is refused, too; nothing leads to the login of the console.
        const SHOWN_MIN: usize = PAGES.len() - 2;
        let mut shown = 0;
        for path in PAGES {
            let page = self.ways.page(path);
            shown += usize::from(page.status == 200);
            self.hear(path, &page);
        }
        assert!(shown >= SHOWN_MIN, "only {shown} of {} pages", PAGES.len());
        let (broker, hushed) = (bed.broker(), secret(98));
        let typed = hushed.as_str();
        self.form("/console/sources/locked/test", &[]);
        self.form("/console/stores/shut/test", &[]);
        let edit = [("version", "2"), ("go", "test"), ("brokers", broker), ("mechanism", "SCRAM-SHA-256"), ("username", "u")];
        self.form("/console/sources/made/edit", &edit);
        let stale = [("version", "1"), ("go", "save"), ("brokers", broker), ("mechanism", "PLAIN"), ("username", "u"), ("password", typed)];
        self.form("/console/sources/made/edit", &stale);
        let bad = [("name", "Bad"), ("brokers", broker), ("mechanism", "PLAIN"), ("username", "u"), ("password", typed)];
        self.form("/console/sources", &bad);
        let bad = [("name", "Bad"), ("url", "nonsense"), ("secret_access_key", typed), ("session_token", typed)];
        self.form("/console/stores", &bad);
    }

    fn command_line(&mut self) {
        let hushed = secret(97);
        let sasl = format!("{{ mechanism = \"PLAIN\", username = \"u\", password = [\"{hushed}\"] }}");
        let wrong = self.file("wrong.toml", &format!("[kafka.made]\nbrokers = [\"h:1\"]\nsasl = {sasl}\n"));
        let cut = self.file("cut.toml", &format!("[kafka.made]\nsasl = {{ password = \"{hushed}\n"));
        for args in [
            &["list"][..],
            &["list", "--json"],
            &["show", "locked-out"],
            &["log", "locked-out"],
            &["log", "shut-out"],
            &["explain", "locked-out"],
            &["versions", "locked-out"],
            &["audit"],
            &["sources"],
            &["show-source", "made"],
            &["test-source", "locked"],
            &["stores"],
            &["show-store", "made"],
            &["probe-store", "shut"],
            &["edit-source", "made", wrong.as_str()],
            &["edit-source", "made", cut.as_str()],
        ] {
            self.command(args);
        }
    }

    /// What the audit says of the changes of this kind.
    fn changes(&self, action: &str) -> Vec<Value> {
        let audit = self.ways.ask("GET /audit?limit=1000", "").json();
        let entries = audit.as_array().into_iter().flatten().filter(|entry| entry["action"] == action);
        entries.map(|entry| serde_json::from_str(entry["detail"].as_str().expect("a detail")).expect("JSON")).collect()
    }

    fn end(&mut self) {
        let exit = self.ways.service_mut().stop();
        exit.assert_code(0);
        self.texts.push(("the service".to_owned(), exit.stdout + &exit.stderr));
    }
}

#[test]
fn no_output_of_a_service_has_a_secret() {
    let began = Instant::now();
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::in_process());
    bed.fill(25);
    bed.place.server().state().set_faults(|request| match request.access_key.starts_with(CANARY) {
        true => Fault::refused(403, "InvalidAccessKeyId"),
        false => Fault::default(),
    });
    let service = RulesService::start_on(&config(&bed), &bed, &["--show-values", "--budget", "1GiB"]);
    let mut said = Said { ways: ThreeWays::at(service), texts: Vec::new(), answered: 0 };
    said.define(&bed);
    said.await_rules();
    said.look(&bed.topic);
    said.be_refused(&bed);
    said.browse(&bed);
    said.command_line();
    let changed = |keys: &[&str]| {
        let differences: Vec<Value> = keys.iter().map(|key| json!({ "key": key, "before": "***", "after": "***" })).collect();
        [json!({ "name": "made", "differences": differences })]
    };
    assert_eq!(said.changes("redefine kafka"), changed(&["sasl.password"]), "that it was changed is told");
    assert_eq!(said.changes("redefine store"), changed(&["secret_access_key", "session_token"]));
    said.end();

    for (what, text) in &said.texts {
        assert!(!text.contains(CANARY), "{what}: a secret is in {text}");
    }
    assert!(is_kept(&said.ways.service().dir().join("state")), "there are secrets that could be told");
    let named = ["locked", "shut", "made", "locked-out", "shut-out"].map(|name| format!("\"name\":\"{name}\""));
    let others = ["\"password\":\"***\"", "sasl.password", "catchment_rule_state", "the API is at"].map(str::to_owned);
    for sign in named.iter().chain(&others) {
        assert!(said.texts.iter().any(|(_, text)| text.contains(sign)), "nothing says {sign}");
    }
    assert!(said.answered >= 60, "only {} of {} were no refusals", said.answered, said.texts.len());
    eprintln!("{} texts, {} of them no refusals, without a secret; {:?}", said.texts.len(), said.answered, began.elapsed());
}

/// What a record's key, value and header begin with.
const CONTENT: &str = "record-canary";

/// What each way tells of the first records of an object, and of the last ones of a topic.
fn records_told(ways: &ThreeWays, topic: &str, key: &str) -> Vec<(&'static str, String)> {
    let fields = [("step", "2"), ("go", "sample"), ("name", "r"), ("store", "s"), ("source", "k"), ("topics", topic)];
    let sample = ways.form("/console/add", "/console/add", &fields.map(|(name, value)| (name, value.to_owned()))).text();
    assert!(sample.contains("sample-caption"), "no records were asked for: {sample}");
    let command = |args: &[&str]| {
        let exit = ways.service().run(args);
        exit.assert_code(0);
        exit.stdout
    };
    let escaped = escaped(key);
    vec![
        ("an object by the API", ways.ask(&format!("GET /rules/{topic}/file?key={escaped}&rows=9"), "").text()),
        ("an object by the console", ways.page(&format!("/console/rules/{topic}/file?key={escaped}")).text()),
        ("an object by the command line", command(&["file", topic, key, "--rows", "9"])),
        ("a topic by the API", ways.ask(&format!("GET /sources/k/topics/{topic}/records?limit=9"), "").text()),
        ("a topic by the console", sample),
        ("a topic by the command line", command(&["records", "k", topic, "--limit", "9"])),
    ]
}

/// An object's bytes as the API, the console and the command line give them away; none where they do not.
fn downloads(ways: &ThreeWays, topic: &str, key: &str) -> [Option<Vec<u8>>; 3] {
    let of = |answer: Answer| (answer.status == 200).then_some(answer.body);
    let path = format!("/rules/{topic}/file/content?key={}", escaped(key));
    let file = ways.service().dir().join("downloaded");
    ways.service().run(&["download", topic, key, file.to_str().expect("UTF-8")]);
    [of(ways.try_to(&format!("GET {path}"), "")), of(ways.page(&format!("/console{path}"))), std::fs::read(file).ok()]
}

#[test]
fn what_records_hold_is_shown_by_a_service_that_was_told_to_and_by_no_other() {
    let bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::in_process());
    let content = |part: &str| Some(format!("{CONTENT}-{part}").into_bytes());
    let headers = vec![(b"trace".to_vec(), content("header"))];
    let producer = RecordProducer::new(bed.broker(), Codec::None);
    producer.send(&bed.topic, 0, &Record { key: content("key"), value: content("value"), headers, timestamp: 1_700_000_000_000 });
    producer.flush();
    let (bed, service, topic) = stored(bed, 2, &[]);
    let key = bed.place.data_keys("").remove(0);
    let ways = ThreeWays::at(service);
    for (way, text) in records_told(&ways, &topic, &key) {
        assert!(!text.contains(CONTENT), "{way}: {text}");
    }
    assert_eq!(downloads(&ways, &topic, &key), [None, None, None]);
    let mut service = ways.into_service();
    service.stop().assert_code(0);
    service.start_again(&["--show-values"]);
    let ways = ThreeWays::at(service);
    for (way, text) in records_told(&ways, &topic, &key) {
        assert!(["key", "value"].iter().all(|part| text.contains(&format!("{CONTENT}-{part}"))), "{way}: {text}");
    }
    let all = Some(bed.place.get(&key).to_vec());
    assert_eq!(downloads(&ways, &topic, &key), [all.clone(), all.clone(), all]);
}
