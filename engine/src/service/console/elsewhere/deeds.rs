//! The table: what each page shows and does, as command line and API have it.

use serde_json::{Value, json};

use super::super::catalogue::Texts;
use super::super::context::Page;
use super::{Deed, Elsewhere};
use crate::config::is_name;
use crate::https::escaped;
use crate::service::definition::{self, Kind};

/// The name of what is new in an example.
const EXAMPLE: &str = "other";

fn all(p: &Page, deeds: impl IntoIterator<Item = Deed>) -> Elsewhere {
    deeds.into_iter().map(|deed| deed.shown(&p.origin)).collect()
}

/// A command of `catchment rule` that is named as its call is, on a rule.
fn on_rule(what: &'static str, word: &str, name: &str, method: &'static str, below: &str) -> Deed {
    Deed::new(what, "rule", &[word, name], method, format!("/rules/{name}{below}"))
}

/// A word that a command takes for no flag, whatever it begins with.
fn no_flag<'a>(words: &[&'a str], word: &'a str) -> Vec<&'a str> {
    let dashes = if word.starts_with('-') { &["--"][..] } else { &[] };
    [words, dashes, &[word]].concat()
}

/// A body with its name, as the API takes something new.
fn named(name: &str, mut body: Value) -> Value {
    if let Value::Object(fields) = &mut body {
        fields.insert("name".to_owned(), name.into());
    }
    body
}

/// The list of rules.
pub(in super::super) fn rules(p: &Page) -> Elsewhere {
    all(p, [Deed::new(p.t.rules, "rule", &["list"], "GET", "/rules")])
}

/// What a rule's own page may offer at a moment.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Offered {
    /// Pausing and closing windows, else resuming.
    pub(in super::super) runs: bool,
    /// Resuming although it runs: it has failed, or a lane has stopped.
    pub(in super::super) asks: bool,
    /// The end of a verification.
    pub(in super::super) verifies: bool,
}

/// A rule's own page.
pub(in super::super) fn rule(p: &Page, name: &str, offered: Offered) -> Elsewhere {
    let Offered { runs, asks, verifies } = offered;
    let deeds = [
        Some(on_rule(p.t.overview, "show", name, "GET", "")),
        runs.then(|| on_rule(p.t.pause, "pause", name, "POST", "/pause")),
        (!runs || asks).then(|| on_rule(p.t.resume, "resume", name, "POST", "/resume")),
        runs.then(|| on_rule(p.t.seal, "seal", name, "POST", "/seal")),
        Some(on_rule(p.t.verify, "verify", name, "POST", "/verify")),
        verifies.then(|| on_rule(p.t.verify_cancel, "cancel-verification", name, "DELETE", "/verify")),
        Some(on_rule(p.t.windows, "windows", name, "GET", "/windows")),
        Some(on_rule(p.t.gaps, "gaps", name, "GET", "/gaps")),
    ];
    all(p, deeds.into_iter().flatten())
}

/// The review of a new rule, whose file the page shows. A name that is none makes no command.
pub(in super::super) fn review(p: &Page, name: &str, body: Value) -> Elsewhere {
    if !is_name(name) {
        return Elsewhere::new();
    }
    let (file, body) = (format!("{name}.toml"), named(name, body));
    let by_file =
        |what: &'static str, word: &str, path: &str| Deed::new(what, "rule", &[word, name, &file], "POST", path).with_body(body.clone());
    all(p, [by_file(p.t.explain, "preview", "/preview"), by_file(p.t.create_rule, "create", "/rules")])
}

/// An edit of a version of a rule.
pub(in super::super) fn edit(p: &Page, name: &str, version: i64, body: &str) -> Elsewhere {
    let file = format!("{name}.toml");
    let deed = Deed::new(p.t.save, "rule", &["edit", name, &file], "PUT", format!("/rules/{name}")).if_version(version);
    let deed = deed.reading(&file, definition::to_toml("rule", name, body).ok());
    all(p, [deed.with_body(serde_json::from_str(body).unwrap_or_default())])
}

/// A rule's versions, and the way back to an earlier one if there is one.
pub(in super::super) fn versions(p: &Page, name: &str, earlier: Option<i64>) -> Elsewhere {
    let back = earlier.map(|version| {
        let number = version.to_string();
        let deed = Deed::new(p.t.roll_back, "rule", &["rollback", name, &number], "POST", format!("/rules/{name}/rollback"));
        deed.with_body(json!({ "version": version }))
    });
    all(p, std::iter::once(on_rule(p.t.versions, "versions", name, "GET", "/versions")).chain(back))
}

/// A copy of a rule. A name that is none makes no command.
pub(in super::super) fn clone(p: &Page, name: &str, new: &str, prefix: &str) -> Elsewhere {
    if !is_name(new) {
        return Elsewhere::new();
    }
    let (file, over) = (format!("{new}.toml"), json!({ "to": { "prefix": prefix } }));
    let deed = Deed::new(p.t.clone, "rule", &["clone", name, new, &file], "POST", format!("/rules/{name}/clone"));
    let deed = deed.reading(&file, definition::to_toml("rule", new, &over.to_string()).ok());
    all(p, [deed.with_body(named(new, over))])
}

/// A rule's end.
pub(in super::super) fn delete(p: &Page, name: &str) -> Elsewhere {
    all(p, [on_rule(p.t.delete_rule, "delete", name, "DELETE", "")])
}

/// What a rule does.
pub(in super::super) fn explain(p: &Page, name: &str) -> Elsewhere {
    all(p, [on_rule(p.t.explain, "explain", name, "GET", "/explain")])
}

/// A rule's log.
pub(in super::super) fn log(p: &Page, name: &str) -> Elsewhere {
    let live = Deed::new(p.t.log_live, "rule", &["log", name, "--follow"], "GET", format!("/rules/{name}/log/follow"));
    all(p, [on_rule(p.t.log, "log", name, "GET", "/log"), live.with_options(&["-N"])])
}

/// A page of a directory of a rule.
pub(in super::super) fn files(p: &Page, name: &str, directory: &str, after: Option<&str>) -> Elsewhere {
    let after_flag = after.map(|after| format!("--after={after}"));
    let words: Vec<&str> = ["files", name].into_iter().chain(after_flag.as_deref()).collect();
    let words = if directory.is_empty() { words } else { no_flag(&words, directory) };
    let given = [("directory", Some(directory).filter(|directory| !directory.is_empty())), ("after", after)];
    let given: Vec<String> = given.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", escaped(value?)))).collect();
    let query = if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) };
    all(p, [Deed::new(p.t.files, "rule", &words, "GET", format!("/rules/{name}/files{query}"))])
}

/// An object of a rule, and its bytes where they are given out.
pub(in super::super) fn file(p: &Page, name: &str, key: &str, is_given_out: bool) -> Elsewhere {
    let piece = key.rsplit('/').next().unwrap_or(key);
    let query = format!("?key={}", escaped(key));
    let shown = Deed::new(p.t.proof, "rule", &no_flag(&["file", name], key), "GET", format!("/rules/{name}/file{query}"));
    let to = format!("./{piece}");
    let bytes = || {
        let words = [no_flag(&["download", name], key), vec![to.as_str()]].concat();
        Deed::new(p.t.download, "rule", &words, "GET", format!("/rules/{name}/file/content{query}")).with_options(&["-o", &to])
    };
    all(p, std::iter::once(shown).chain(is_given_out.then(bytes)))
}

/// How connections of a kind are called: by commands one and all, and by the API.
fn kind_words(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Kafka => ("source", "/sources"),
        Kind::Store => ("store", "/stores"),
    }
}

/// What is tried of a connection.
fn trial(t: &Texts, kind: Kind, name: &str) -> Deed {
    let (what, word, path) = match kind {
        Kind::Kafka => (t.test_connection, "test-source", format!("/sources/{name}/test")),
        Kind::Store => (t.probe_store, "probe-store", format!("/stores/{name}/probe")),
    };
    Deed::new(what, "rule", &[word, name], "POST", path)
}

/// A command that takes a connection's table from a file.
fn from_file(what: &'static str, kind: Kind, word: &str, name: &str, body: &Value) -> Deed {
    let ((one, path), file) = (kind_words(kind), format!("{name}.toml"));
    let (method, path) = if word == "create" { ("POST", path.to_owned()) } else { ("PUT", format!("{path}/{name}")) };
    let text = definition::to_toml(kind.section(), name, &body.to_string()).ok();
    Deed::new(what, "rule", &[&format!("{word}-{one}"), name, &file], method, path).reading(&file, text)
}

/// Connections or stores: all of them, a new one, and how one is tried, as the first of them.
pub(in super::super) fn connections(p: &Page, kind: Kind, first: Option<&str>) -> Elsewhere {
    let (t, (_, path)) = (p.t, kind_words(kind));
    let (list, new, words, body) = match kind {
        Kind::Kafka => (t.of_service.sources, t.of_service.new_source, ["sources"], json!({ "brokers": ["HOST:9092"] })),
        Kind::Store => (t.of_service.stores, t.of_service.new_store, ["stores"], json!({ "url": "s3://BUCKET/PREFIX/" })),
    };
    let create = from_file(new, kind, "create", EXAMPLE, &body).with_body(named(EXAMPLE, body));
    all(p, [Deed::new(list, "rule", &words, "GET", path), create].into_iter().chain(first.map(|name| trial(t, kind, name))))
}

/// A connection or a store that can be edited; of its secrets the body has the masks, which keep them.
pub(in super::super) fn connection(p: &Page, kind: Kind, name: &str, version: i64, body: &Value) -> Elsewhere {
    let (t, (one, path)) = (p.t, kind_words(kind));
    let path = format!("{path}/{name}");
    all(
        p,
        [
            Deed::new(t.settings, "rule", &[&format!("show-{one}"), name], "GET", path.clone()),
            from_file(t.save, kind, "edit", name, body).if_version(version).with_body(body.clone()),
            trial(t, kind, name),
            Deed::new(t.delete, "rule", &[&format!("delete-{one}"), name], "DELETE", path),
        ],
    )
}

/// The command that edits a connection from a file.
pub(in super::super) fn edit_by_command(p: &Page, kind: Kind, name: &str) -> String {
    from_file(p.t.save, kind, "edit", name, &Value::Null).shown(&p.origin).command
}

/// Workers.
pub(in super::super) fn workers(p: &Page) -> Elsewhere {
    all(p, [Deed::new(p.t.of_service.workers, "rule", &["workers"], "GET", "/workers")])
}

/// Further tokens: all of them, and for whoever may, a new one and the end of one.
pub(in super::super) fn tokens(p: &Page, may_change: bool) -> Elsewhere {
    let t = &p.t.of_service;
    let changes = || {
        let add = Deed::new(t.new_token, "token", &["add", EXAMPLE], "POST", "/tokens").with_body(json!({ "name": EXAMPLE }));
        [add, Deed::new(t.remove_token, "token", &["remove", EXAMPLE], "DELETE", format!("/tokens/{EXAMPLE}"))]
    };
    let list = Deed::new(t.tokens, "token", &["ls"], "GET", "/tokens");
    all(p, std::iter::once(list).chain(may_change.then(changes).into_iter().flatten()))
}

/// The audit, of one rule or of all, and a copy of the state.
pub(in super::super) fn health(p: &Page, rule: &str) -> Elsewhere {
    let t = &p.t.of_service;
    let audit = match is_name(rule) {
        true => Deed::new(t.audit, "rule", &["audit", rule], "GET", format!("/audit?rule={rule}")),
        false => Deed::new(t.audit, "rule", &["audit"], "GET", "/audit"),
    };
    all(p, [audit, Deed::new(t.copy_state, "rule", &["copy-state"], "POST", "/state/copy")])
}

/// Load tests: all of them, and one, as the first of them, with its page.
pub(in super::super) fn load_tests(p: &Page, first: Option<&str>) -> Elsewhere {
    let t = &p.t.of_load_tests;
    let list = Deed::new(t.load_tests, "rule", &["load-tests"], "GET", "/load-tests");
    let page = first.map(|name| {
        let (to, path) = (format!("./{name}.html"), format!("/load-tests/{name}/report"));
        Deed::new(t.download_report, "rule", &["load-test", name, "--report", &to], "GET", path).with_options(&["-o", &to])
    });
    all(p, std::iter::once(list).chain(page))
}

/// Two load tests, each for itself: the comparison is the console's.
pub(in super::super) fn comparison(p: &Page, [this, other]: [&str; 2]) -> Elsewhere {
    let t = &p.t.of_load_tests;
    let one = |what, name: &str| Deed::new(what, "rule", &["load-test", name], "GET", format!("/load-tests/{name}"));
    all(p, [one(t.this_one, this), one(t.other_one, other)])
}
