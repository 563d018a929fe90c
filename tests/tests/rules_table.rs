//! Every action on rules, connections, stores and tokens, executed by command line, API and console against one service, and the state that comes of it compared; and
//! nothing that the three offer is missing from the table of `tests/src/three_ways/table.rs`.
//!
//! The real binary, a real Kafka, the S3 server of the tests. Changes are made on a fresh rule by each way; what only looks, looks at the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use catchment_tests::bed::{Bed, Place};
use catchment_tests::services::Kafka;
use catchment_tests::three_ways::offered::offered;
use catchment_tests::three_ways::row::{Before, Check, Console, Row};
use catchment_tests::three_ways::scene::{RECORDS, Scene, is_over, list, until};
use catchment_tests::three_ways::table::{EDITED, ELSEWHERE, FRESH, FRESH_OPEN, rows};
use catchment_tests::three_ways::{Answer, ThreeWays, Way, as_html, escaped};
use crc_fast::CrcAlgorithm;
use serde_json::{Value, json};

/// Attempts at a time.
const AT_ONCE: usize = 6;

/// An action by one way.
struct Attempt<'a> {
    scene: &'a Scene,
    row: &'a Row,
    way: Way,
    name: String,
}

impl Attempt<'_> {
    fn ways(&self) -> &ThreeWays {
        &self.scene.ways
    }

    fn dir(&self) -> &Path {
        self.ways().service().dir()
    }

    /// A text of the table with what its places stand for.
    fn text(&self, text: &str) -> String {
        let key = &self.scene.key;
        let (directory, piece) = key.rsplit_once('/').map_or(("", key.as_str()), |(directory, piece)| (directory, piece));
        let file = |kind: &str| self.dir().join(format!("{}.{kind}", self.name)).display().to_string();
        let directory = format!("{directory}/");
        let places = [
            ("{name}", self.name.clone()),
            ("{topic}", self.scene.topic.clone()),
            ("{file}", file("toml")),
            ("{out}", file(&format!("{}.{}", self.row.action, self.way.word()))),
            ("{dir}", self.dir().display().to_string()),
            ("{key%}", escaped(key)),
            ("{key}", key.clone()),
            ("{directory%}", escaped(&directory)),
            ("{directory}", directory),
            ("{piece}", piece.to_owned()),
        ];
        places.iter().fold(text.to_owned(), |text, (place, value)| text.replace(place, value))
    }

    fn fields(&self, fields: &'static [(&'static str, &'static str)]) -> Vec<(&'static str, String)> {
        fields.iter().map(|(name, value)| (*name, self.text(value))).collect()
    }

    fn ask(&self, line: &str, body: &str) -> Value {
        self.ways().ask(&self.text(line), &self.text(body)).json()
    }

    fn prepare(&self) {
        match self.row.before {
            Before::Nothing | Before::Standing(_) => {}
            Before::Source => drop(self.ask("POST /sources", r#"{"name":"{name}","brokers":["127.0.0.1:1"]}"#)),
            Before::Store => drop(self.ask("POST /stores", r#"{"name":"{name}","url":"file://{dir}/{name}/"}"#)),
            Before::Token => drop(self.ask("POST /tokens", r#"{"name":"{name}"}"#)),
            Before::Open => {
                self.ask("POST /rules", FRESH_OPEN);
                let line = format!("catchment_records_read_total{{rule=\"{}\"}} {RECORDS}", self.name);
                until("every record is read", || self.ways().metrics(), |page| page.lines().any(|found| found == line));
            }
            before => {
                self.ask("POST /rules", FRESH);
                match before {
                    Before::Paused => drop(self.ask("POST /rules/{name}/pause", "")),
                    Before::Edited => drop(self.ask("PUT /rules/{name}", EDITED)),
                    Before::Stored => self.scene.await_stored(&self.name, RECORDS),
                    _ => {}
                }
            }
        }
    }

    /// Executes the action. Returns what it answered, null where its way answers nothing.
    fn act(&self) -> Value {
        let (template, body) = self.row.call;
        match (self.way, self.row.console) {
            (Way::CommandLine, _) => self.command(),
            (Way::Api, _) => self.picked(&self.ways().call(template, &self.text(template), &self.text(body))),
            (Way::Console, Console::None(_)) => Value::Null,
            (Way::Console, Console::Form(path, fields)) => {
                let answer = self.ways().form(path, &self.text(path), &self.fields(fields));
                assert_eq!(answer.status, 303, "{path}: {}", answer.text());
                Value::Null
            }
            (Way::Console, Console::Says(path, fields)) => {
                let page = self.ways().form(path, &self.text(path), &self.fields(fields));
                assert!(page.status == 200 && !page.text().contains("id=\"problems\""), "{path}: {}", page.status);
                Value::Null
            }
            (Way::Console, Console::Asks(path, fields, shown)) => {
                let page = self.ways().form(path, &self.text(path), &self.fields(fields));
                self.as_shown(&page, shown)
            }
            (Way::Console, Console::Shows(path, shown)) => self.as_shown(&self.ways().page(&self.text(path)), shown),
            (Way::Console, Console::Same(path)) => self.picked(&self.ways().page(&self.text(path))),
        }
    }

    fn command(&self) -> Value {
        if !self.row.file.is_empty() {
            std::fs::write(self.text("{file}"), self.text(self.row.file)).expect("a config file");
        }
        let args: Vec<String> = self.row.command.iter().map(|word| self.text(word)).collect();
        let printed = self.ways().command(&args.iter().map(String::as_str).collect::<Vec<_>>());
        match self.row.command.contains(&"{out}") {
            true => digest(&std::fs::read(self.text("{out}")).expect("the file that was written")),
            false => self.only(printed),
        }
    }

    /// The part of an answer that counts: of a list one element, of bytes their digest.
    fn picked(&self, answer: &Answer) -> Value {
        assert_eq!(answer.status / 100, 2, "{}: {}", self.row.action, answer.text());
        match answer.header("content-type") {
            "application/json" => self.only(answer.json()),
            _ => digest(&answer.body),
        }
    }

    fn only(&self, answer: Value) -> Value {
        let name = self.text(self.row.only);
        match answer {
            Value::Array(mut all) if !name.is_empty() => {
                all.retain(|one| one["name"] == name.as_str());
                assert_eq!(all.len(), 1, "{}: {name} is listed once", self.row.action);
                Value::Array(all)
            }
            answer => answer,
        }
    }

    /// What the API answers, each part of which the page shows.
    fn as_shown(&self, page: &Answer, shown: &str) -> Value {
        let (line, body) = self.row.call;
        let (answer, html) = (self.only(self.ask(line, body)), page.text());
        assert_eq!(page.status, 200, "{html}");
        assert!(!html.contains("id=\"problems\""), "{}: {html}", self.row.action);
        let parts: Vec<&Value> = answer.as_array().map_or_else(|| vec![&answer], |all| all.iter().collect());
        assert!(!parts.is_empty(), "{}: there is nothing to be shown", self.row.action);
        for part in parts {
            let fill = |text: String, (key, value): (&String, &Value)| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                text.replace(&format!("{{{key}}}"), &as_html(&value))
            };
            let wanted = self.text(&part.as_object().into_iter().flatten().fold(shown.to_owned(), fill));
            assert!(html.contains(&wanted), "{}: no {wanted} in {html}", self.row.action);
        }
        answer
    }

    /// The states that are compared.
    fn state(&self, answer: &Value) -> Value {
        self.row.after.iter().map(|check| self.checked(*check, answer)).collect()
    }

    fn checked(&self, check: Check, answer: &Value) -> Value {
        match check {
            Check::Answer(but) => without(answer.clone(), but),
            Check::Rule(state) => self.rule(&self.name, state),
            Check::Copy => self.rule(&format!("{}-copy", self.name), "running"),
            Check::NoRule => {
                assert_eq!(self.ways().try_to(&self.text("GET /rules/{name}"), "").status, 404);
                json!({ "audit": self.audit(&self.name) })
            }
            Check::Windows => {
                let windows = until("windows", || self.ask("GET /rules/{name}/windows", ""), |windows| !list(windows).is_empty());
                list(&windows).iter().map(|w| json!([w["start"], w["end"], w["records"], w["reason"]])).collect()
            }
            Check::Verified => {
                let found = until("its end", || self.ask("GET /rules/{name}/verify", ""), is_over);
                let report = &found["report"];
                assert_eq!((&found["state"], &report["compared"]), (&json!("sound"), &json!(RECORDS)), "{found}");
                json!([found["state"], report["records"], report["compared"], report["gaps"], report["damage"]])
            }
            Check::Connection(kind) => {
                let found = self.ways().try_to(&self.text(&format!("GET /{kind}/{{name}}")), "");
                let body = if found.status == 404 { Value::Null } else { found.json() };
                json!({ "connection": body, "audit": self.audit(&self.name) })
            }
            Check::Token => {
                let all = self.ask("GET /tokens", "");
                let is_there = list(&all).iter().any(|token| token["name"] == self.name.as_str());
                json!({ "is_there": is_there, "audit": self.audit(&self.name) })
            }
            Check::Noted(action) => {
                let audit = self.ask("GET /audit?limit=1000", "");
                json!(list(&audit).iter().any(|entry| entry["action"] == action && self.is_mine(entry)))
            }
        }
    }

    fn rule(&self, name: &str, state: &str) -> Value {
        let rule = self.scene.await_state(name, state);
        let versions = self.ways().ask(&format!("GET /rules/{name}/versions"), "").json();
        let versions: Vec<Value> = list(&versions).iter().map(|version| without(version.clone(), &["at_ms"])).collect();
        let rule = without(rule, &["since_ms", "created_ms", "lag_records", "lag_seconds", "time_to_loss_seconds"]);
        json!({ "rule": rule, "versions": versions, "audit": self.audit(name) })
    }

    /// The audit but for who and when; who is held to the way, where the action leaves a trace.
    fn audit(&self, name: &str) -> Vec<Value> {
        let entries = self.scene.audit(name);
        let newest = entries.first().unwrap_or(&Value::Null);
        let leaves_none = matches!(self.row.action, "preview" | "diff" | "verify");
        assert!(leaves_none || self.is_mine(newest), "{} by {:?}: {newest}", self.row.action, self.way);
        entries.into_iter().map(|entry| json!([entry["action"], entry["rule"], entry["detail"]])).collect()
    }

    fn is_mine(&self, entry: &Value) -> bool {
        entry["who"].as_str().is_some_and(|who| who.contains("console") == (self.way == Way::Console))
    }

    /// From nothing to what is compared, in which the attempt's own name has no part; none where this way does not have it.
    fn run(&self) -> Option<Value> {
        if let (Way::Console, Console::None(reason)) = (self.way, self.row.console) {
            assert!(!reason.is_empty(), "{}: why does the console not have it?", self.row.action);
            return None;
        }
        self.prepare();
        let state = self.state(&self.act());
        if matches!(self.row.before, Before::Standing(_)) {
            return Some(state);
        }
        // Room for others: what is to be compared was looked at.
        for name in [self.name.clone(), format!("{}-copy", self.name)] {
            self.ways().try_to(&format!("DELETE /rules/{name}"), "");
        }
        let text = state.to_string().replace(&self.name, "NAME");
        Some(serde_json::from_str(&text).expect("it was JSON"))
    }
}

fn digest(bytes: &[u8]) -> Value {
    json!({ "bytes": bytes.len(), "crc": crc_fast::checksum(CrcAlgorithm::Crc64Xz, bytes) })
}

/// A value without these keys; of a list, each of its elements.
fn without(mut value: Value, keys: &[&str]) -> Value {
    match &mut value {
        Value::Object(fields) => fields.retain(|key, _| !keys.contains(&key.as_str())),
        Value::Array(all) => all.iter_mut().for_each(|one| *one = without(one.take(), keys)),
        _ => {}
    }
    value
}

/// What came of each action by each way that has it.
fn outcomes(scene: &Scene) -> BTreeMap<&'static str, BTreeMap<Way, Value>> {
    let attempts = rows().flat_map(|row| Way::ALL.map(|way| (row, way)));
    let (queue, done) = (Mutex::new(attempts.collect::<Vec<_>>()), Mutex::new(BTreeMap::<_, BTreeMap<_, _>>::new()));
    let next = || queue.lock().expect("no holder panics").pop();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((row, way)) = next() {
                    let outcome = Attempt { scene, row, way, name: scene.name_for(row, way) }.run();
                    let mut done = done.lock().expect("no holder panics");
                    done.entry(row.action).or_default().extend(outcome.map(|outcome| (way, outcome)));
                }
            });
        }
    });
    done.into_inner().expect("no holder panics")
}

#[test]
fn every_action_comes_to_the_same_by_command_line_api_and_console() {
    let began = Instant::now();
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::in_process());
    let mut scene = Scene::prepare(&mut bed);
    let outcomes = outcomes(&scene);
    for row in rows() {
        let by_way = &outcomes[row.action];
        let ways = if matches!(row.console, Console::None(_)) { 2 } else { 3 };
        assert_eq!(by_way.len(), ways, "{}: {:?}", row.action, by_way.keys());
        let expected = &by_way[&Way::CommandLine];
        for (way, found) in by_way {
            assert_eq!(found, expected, "{} by {way:?} and by the command line", row.action);
        }
    }
    for way in Way::ALL {
        let deleted = format!("delete-{}-{}/", way.word(), bed.topic);
        assert!(!bed.place.data_keys(&deleted).is_empty(), "the objects of a rule that is deleted stay: {deleted}");
    }
    scene.ways.form("/console/logout", "/console/logout", &[]);
    assert_eq!(scene.ways.page("/console").status, 303, "nobody is logged in any more");
    let (offered, executed) = (offered(&scene.ways), scene.ways.executed());
    let elsewhere: BTreeSet<String> = ELSEWHERE.iter().map(|(what, _)| (*what).to_owned()).collect();
    let missing: Vec<&String> = offered.iter().filter(|what| !executed.contains(*what) && !elsewhere.contains(*what)).collect();
    assert!(missing.is_empty(), "the table lacks {missing:?}");
    let unknown: Vec<&String> = executed.iter().chain(&elsewhere).filter(|what| !offered.contains(*what)).collect();
    assert!(unknown.is_empty(), "nothing offers {unknown:?}");
    scene.ways.service_mut().stop().assert_code(0);
    eprintln!("{} actions by three ways in {:?}", rows().count(), began.elapsed());
}
