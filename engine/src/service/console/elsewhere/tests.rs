//! What pages show of the command line and of the API, read as a shell does.

use serde_json::json;

use super::super::catalogue::Language;
use super::deeds::Offered;
use super::*;
use crate::cli::call_of;
use crate::service::api;
use crate::service::definition::{self, Kind};

/// A rule whose texts are as bad as they can be.
const RULE: &str = r#"{"source":{"kafka":"k","topics":["^it's"]},"to":{"store":"s","prefix":"$(x) \"y\" `z`\\/"}}"#;

/// A page of somebody who came by this name.
fn page_at(host: &str) -> Page {
    Page::at(Language::English, host)
}

/// Everything that pages show.
fn all(p: &Page) -> Vec<Same> {
    let body = || serde_json::from_str(RULE).unwrap();
    let connection = json!({ "brokers": ["h:1"], "sasl": { "mechanism": "PLAIN", "username": "u", "password": "***" } });
    let of_pages = [
        deeds::rules(p),
        deeds::rule(p, "orders", Offered { runs: true, asks: true, verifies: true }),
        deeds::rule(p, "orders", Offered { runs: false, asks: false, verifies: false }),
        deeds::review(p, "orders", body()),
        deeds::edit(p, "orders", 3, RULE),
        deeds::versions(p, "orders", Some(2)),
        deeds::clone(p, "orders", "orders-2", "it's/"),
        deeds::delete(p, "orders"),
        deeds::explain(p, "orders"),
        deeds::log(p, "orders"),
        deeds::files(p, "orders", "", None),
        deeds::files(p, "orders", "-t/dt=1 $x/", Some("-t/a'b")),
        deeds::file(p, "orders", "-t/-a+0+1.parquet", true),
        deeds::connections(p, Kind::Kafka, Some("k")),
        deeds::connections(p, Kind::Store, Some("s")),
        deeds::connection(p, Kind::Kafka, "k", 4, &connection),
        deeds::connection(p, Kind::Store, "s", 5, &json!({ "url": "s3://lake/a b/" })),
        deeds::workers(p),
        deeds::tokens(p, true),
        deeds::health(p, "orders"),
        deeds::health(p, "no name"),
        deeds::load_tests(p, Some("before")),
        deeds::comparison(p, ["after", "before"]),
    ];
    of_pages.into_iter().flatten().collect()
}

/// The words of a line as a shell makes them. Nothing that it would take for something else stands outside of quotes.
pub(in crate::service::console) fn words(line: &str) -> Vec<String> {
    let line = line.replace(TOKEN, "-H TOKEN").replace("\\\n", " ");
    let (mut words, mut word, mut is_quoted) = (Vec::new(), None::<String>, false);
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match (is_quoted, c) {
            (_, '\'') => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            (false, '\\') => word.get_or_insert_default().extend(rest.next()),
            (false, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => {
                assert!(is_quoted || !"\"$`&;|<>()*?#~!{}[]".contains(c), "{c} means something to a shell: {line}");
                word.get_or_insert_default().push(c);
            }
        }
    }
    assert!(!is_quoted, "a quote is not closed: {line}");
    words.extend(word);
    words
}

/// A call as curl makes it.
#[derive(Debug, PartialEq)]
struct Called {
    method: String,
    url: String,
    version: Option<i64>,
    body: Option<Value>,
}

fn called(line: &str) -> Called {
    assert_eq!(line.matches(TOKEN).count(), 1, "{line}");
    let mut words = words(line).into_iter();
    assert_eq!(words.next().as_deref(), Some("curl"), "{line}");
    let mut called = Called { method: "GET".to_owned(), url: String::new(), version: None, body: None };
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} has no value: {line}"));
        match word.as_str() {
            "-X" => called.method = value(),
            "-H" => {
                if let Some(version) = value().strip_prefix("If-Match: ") {
                    called.version = Some(version.trim_matches('"').parse().unwrap());
                }
            }
            "--data" => called.body = Some(serde_json::from_str(&value()).unwrap()),
            "-o" => drop(value()),
            "-N" => {}
            url => called.url = url.to_owned(),
        }
    }
    called
}

/// What a command calls. The file that it names is the one that is shown with it, or that of the rule.
fn called_by(same: &Same, dir: &std::path::Path) -> Option<Called> {
    let in_dir = |word: String| match word.strip_suffix(".toml") {
        Some(name) => {
            let shown = same.file.as_ref().map(|(file, text)| {
                assert_eq!(*file, word, "the file that is shown is the one that is read");
                text.clone()
            });
            let text = shown.unwrap_or_else(|| definition::to_toml("rule", name, RULE).unwrap());
            let path = dir.join(&word);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        }
        None => word,
    };
    let words: Vec<String> = words(&same.command).into_iter().map(in_dir).collect();
    let (method, path, body, version) = call_of(&words)?;
    // What a body says that says nothing.
    let is_nothing = |value: &Value| *value == json!(false) || *value == json!([]);
    let body = body.filter(|body| !body.as_object().is_some_and(|fields| fields.values().all(is_nothing)));
    Some(Called { method: method.to_owned(), url: format!("/api/v1{path}"), version, body })
}

#[test]
fn every_command_is_understood_and_makes_the_call_that_stands_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for host in ["127.0.0.1:8520", "rules.example:9000"] {
        let (p, is_default) = (page_at(host), host == "127.0.0.1:8520");
        for same in all(&p) {
            assert_eq!(same.command.contains(&format!("--service {}", p.origin)), !is_default, "{}", same.command);
            let shown = called(&same.call);
            // Tokens are asked for by other means, too: only that such a line is understood is seen here.
            let Some(made) = called_by(&same, dir.path()) else { continue };
            assert_eq!(shown, Called { url: format!("{}{}", p.origin, made.url), ..made }, "{}", same.command);
            compared += 1;
        }
    }
    assert!(compared > 60, "{compared}");
}

#[test]
fn every_call_is_one_that_the_api_describes() {
    let api = serde_json::to_value(api::described()).unwrap();
    let paths = api["paths"].as_object().unwrap();
    for same in all(&page_at("127.0.0.1:8520")) {
        let call = called(&same.call);
        let address = call.url.strip_prefix("http://127.0.0.1:8520/api/v1").unwrap();
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let fits = |template: &str| {
            let (wanted, given) = (template.split('/'), path.split('/'));
            wanted.clone().count() == given.clone().count()
                && wanted.zip(given).all(|(wanted, given)| wanted == given || wanted.starts_with('{'))
        };
        let method = call.method.to_lowercase();
        let operation = paths.iter().filter(|(template, _)| fits(template)).find_map(|(_, item)| item.get(&method));
        let operation = operation.unwrap_or_else(|| panic!("no such call: {}", same.call));
        assert!(call.body.is_none() || operation["requestBody"].is_object(), "it takes no body: {}", same.call);
        let known: Vec<&str> = operation["parameters"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
        for parameter in query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split('=').next().unwrap()) {
            assert!(known.contains(&parameter), "it takes no {parameter}: {}", same.call);
        }
    }
}

#[test]
fn what_no_name_can_be_makes_no_command() {
    let p = page_at("127.0.0.1:8520");
    assert!(deeds::clone(&p, "orders", "No Name", "").is_empty() && deeds::review(&p, "$(x)", json!({})).is_empty());
}

#[test]
fn a_shell_takes_a_word_as_it_is_meant() {
    for word in ["orders", "", "it's", "a b", "$(x)", "\"", "\\", "'", "-t/dt=1/"] {
        assert_eq!(words(&quoted(word)), [word], "{word:?}");
    }
}
