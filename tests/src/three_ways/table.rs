//! The table of all actions: what each is by command line, API and console, and what must come to the same.
//!
//! Texts have places for what differs from attempt to attempt: `{name}` of the rule, connection or store, `{topic}`, `{file}` (the config file that the command
//! takes), `{out}` (a new file), `{dir}`, and of the rule that is only looked at `{key}`, `{directory}` and `{piece}` of an object, `{key%}` and
//! `{directory%}` escaped for a query.

use super::row::Before::{Edited, Nothing, Open, Paused, Rule, Standing, Stored};
use super::row::Check::{Answer, NoRule, Verified, Windows};
use super::row::Console::{Asks, Form, Same, Shows};
use super::row::{Check, Console, Row, row};

/// What the fresh rules are.
pub const FRESH: &str = r#"{"name":"{name}","source":{"kafka":"k","topics":["{topic}"]},"to":{"store":"s","prefix":"{name}/"},"window":{"every":"1s"},"instance_id":"none"}"#;

/// The same with a window that stays open.
pub const FRESH_OPEN: &str = r#"{"name":"{name}","source":{"kafka":"k","topics":["{topic}"]},"to":{"store":"s","prefix":"{name}/"},"window":{"every":"24h","by":"arrival"},"instance_id":"none"}"#;

/// What an edit makes of one.
pub const EDITED: &str =
    r#"{"source":{"kafka":"k","topics":["{topic}"]},"to":{"store":"s","prefix":"{name}/"},"window":{"every":"2s"},"instance_id":"none"}"#;

const EDITED_FILE: &str = "[rule.{name}]\nsource = { kafka = \"k\", topics = [\"{topic}\"] }\nto = { store = \"s\", prefix = \"{name}/\" }\nwindow = { every = \"2s\" }\ninstance_id = \"none\"\n";

/// A rule of which everything can be said in the console's form.
const NEW: &str =
    r#"{"name":"{name}","source":{"kafka":"k","topics":["{topic}"]},"to":{"store":"s","prefix":"{name}/"},"window":{"every":"1s"}}"#;

const NEW_FILE: &str = "[rule.{name}]\nsource = { kafka = \"k\", topics = [\"{topic}\"] }\nto = { store = \"s\", prefix = \"{name}/\" }\nwindow = { every = \"1s\" }\n";

const SET: &str = r#"{"rules":{"{name}":{"source":{"kafka":"k","topics":["{topic}"]},"to":{"store":"s","prefix":"{name}/"},"window":{"every":"2s"},"instance_id":"none"}}}"#;

/// The form of a new rule, on one of its screens.
macro_rules! draft {
    ($step:literal, $go:literal $(, $more:expr)*) => {
        &[
            ("step", $step),
            ("go", $go),
            ("name", "{name}"),
            ("store", "s"),
            ("every", "1s"),
            ("by", "record-time"),
            ("kind", "parquet"),
            ("framing", "newline"),
            ("codec", "zstd"),
            ("source", "k"),
            ("start", "earliest"),
            ("layout", "hive"),
            ("prefix", "{name}/"),
            $($more,)*
        ]
    };
}

mod connections;
mod service;

const RULES: &[Row] = &[
    row(
        "create",
        Nothing,
        &["create", "{name}", "{file}"],
        ("POST /rules", NEW),
        Form("/console/add", draft!("4", "next", ("topics", "{topic}"))),
        &[Check::Rule("running")],
    )
    .with_file(NEW_FILE),
    row(
        "preview",
        Nothing,
        &["preview", "{name}", "{file}"],
        ("POST /preview", NEW),
        Asks("/console/add", draft!("3", "next", ("topics", "{topic}")), "[rule.{name}"),
        &[Answer(&["example_keys"]), NoRule],
    )
    .with_file(NEW_FILE),
    row(
        "edit",
        Rule,
        &["edit", "{name}", "{file}", "--version", "1"],
        ("PUT /rules/{name}", EDITED),
        Form("/console/rules/{name}/edit", &[("version", "1"), ("go", "save"), ("body", EDITED)]),
        &[Check::Rule("running")],
    )
    .with_file(EDITED_FILE),
    row(
        "clone",
        Rule,
        &["clone", "{name}", "{name}-copy", "{file}"],
        ("POST /rules/{name}/clone", r#"{"name":"{name}-copy","to":{"store":"s","prefix":"{name}-copy/"}}"#),
        Form("/console/rules/{name}/clone", &[("new", "{name}-copy"), ("prefix", "{name}-copy/")]),
        &[Check::Copy],
    )
    .with_file("[rule.{name}-copy]\nto = { store = \"s\", prefix = \"{name}-copy/\" }\n"),
    row(
        "pause",
        Rule,
        &["pause", "{name}"],
        ("POST /rules/{name}/pause", ""),
        Form("/console/rules/{name}/pause", &[]),
        &[Check::Rule("paused")],
    ),
    row(
        "resume",
        Paused,
        &["resume", "{name}", "--accept", "destination"],
        ("POST /rules/{name}/resume", r#"{"accept":["destination"]}"#),
        Form("/console/rules/{name}/resume", &[("accept", "destination")]),
        &[Check::Rule("running")],
    ),
    row(
        "seal",
        Open,
        &["seal", "{name}"],
        ("POST /rules/{name}/seal", ""),
        Form("/console/rules/{name}/seal", &[]),
        &[Windows, Check::Rule("running")],
    ),
    row(
        "verify",
        Stored,
        &["verify", "{name}", "--compare"],
        ("POST /rules/{name}/verify", r#"{"compare":true}"#),
        Form("/console/rules/{name}/verify", &[("compare", "yes")]),
        &[Verified, Check::Rule("running")],
    ),
    row(
        "roll-back",
        Edited,
        &["rollback", "{name}", "1"],
        ("POST /rules/{name}/rollback", r#"{"version":1}"#),
        Form("/console/rules/{name}/rollback", &[("version", "1")]),
        &[Check::Rule("running")],
    ),
    row(
        "delete",
        Stored,
        &["delete", "{name}"],
        ("DELETE /rules/{name}", ""),
        Form("/console/rules/{name}/delete", &[("confirm", "{name}")]),
        &[NoRule],
    ),
    row(
        "diff",
        Rule,
        &["diff", "{file}"],
        ("POST /diff", SET),
        Console::None("sets of rules are for repositories of files; Edit shows what one rule's edit changes before it is saved"),
        &[Answer(&[]), Check::Rule("running")],
    )
    .with_file(EDITED_FILE),
    row(
        "apply",
        Rule,
        &["apply", "{file}"],
        ("POST /apply", SET),
        Console::None("sets of rules are for repositories of files; the console makes the same changes rule by rule"),
        &[Answer(&[]), Check::Rule("running")],
    )
    .with_file(EDITED_FILE),
];

/// What is only looked at: the same rule by all ways.
const LOOKS: &[Row] = &[
    // Its name is the first one behind this one.
    row(
        "list",
        Standing(""),
        &["list", "--json", "--after", "shared", "--limit", "1"],
        ("GET /rules?after=shared&limit=1", ""),
        Shows("/console?q={name}", "<code>{name}</code>"),
        &[Answer(&[])],
    )
    .only("{name}"),
    row(
        "show",
        Standing(""),
        &["show", "{name}"],
        ("GET /rules/{name}", ""),
        Shows("/console/rules/{name}", "<dd>{version}</dd>"),
        &[Answer(&[])],
    ),
    row(
        "explain",
        Standing(""),
        &["explain", "{name}"],
        ("GET /rules/{name}/explain", ""),
        Shows("/console/rules/{name}/explain", "<code>{group}</code>"),
        &[Answer(&["example_keys"])],
    ),
    row(
        "versions",
        Standing(""),
        &["versions", "{name}"],
        ("GET /rules/{name}/versions", ""),
        Shows("/console/rules/{name}/versions", "id=\"version-{version}\""),
        &[Answer(&[])],
    ),
    row(
        "windows",
        Standing(""),
        &["windows", "{name}", "--before", "1000000000", "--limit", "2"],
        ("GET /rules/{name}/windows?before=1000000000&limit=2", ""),
        Shows("/console/rules/{name}?before=1000000000", "<code>[{start}, {end})</code>"),
        &[Answer(&[])],
    ),
    row(
        "gaps",
        Standing(""),
        &["gaps", "{name}"],
        ("GET /rules/{name}/gaps", ""),
        Shows("/console/rules/{name}", "<code>[{start}, {end})</code>"),
        &[Answer(&[])],
    ),
    row(
        "log",
        Standing(""),
        &["log", "{name}", "--before", "1000000000", "--limit", "2"],
        ("GET /rules/{name}/log?before=1000000000&limit=2", ""),
        Shows("/console/rules/{name}/log?before=1000000000", "<samp lang=\"en\">{text}</samp>"),
        &[Answer(&[])],
    ),
    row(
        "log-on",
        Standing(""),
        &["log", "{name}", "--after", "0", "--limit", "3"],
        ("GET /rules/{name}/log?after=0&limit=3", ""),
        Shows("/console/rules/{name}/log", "<samp lang=\"en\">{text}</samp>"),
        &[Answer(&[])],
    ),
    row(
        "series",
        Standing(""),
        &["series", "{name}"],
        ("GET /rules/{name}/series", ""),
        Same("/console/rules/{name}/series"),
        &[Answer(&[])],
    ),
    row(
        "verification",
        Standing(""),
        &["verification", "{name}"],
        ("GET /rules/{name}/verify", ""),
        Shows("/console/rules/{name}", "<span class=\"badge good\" id=\"verification\">"),
        &[Answer(&[])],
    ),
    row(
        "files",
        Standing(""),
        &["files", "{name}", "{directory}"],
        ("GET /rules/{name}/files?directory={directory%}", ""),
        Shows("/console/rules/{name}/files?directory={directory%}", "{piece}"),
        &[Answer(&[])],
    ),
    row(
        "file",
        Standing(""),
        &["file", "{name}", "{key}", "--rows", "2"],
        ("GET /rules/{name}/file?key={key%}&rows=2", ""),
        Shows("/console/rules/{name}/file?key={key%}", "<code>{url}</code>"),
        &[Answer(&[])],
    ),
    row(
        "download",
        Standing(""),
        &["download", "{name}", "{key}", "{out}"],
        ("GET /rules/{name}/file/content?key={key%}", ""),
        Same("/console/rules/{name}/file/content?key={key%}"),
        &[Answer(&[])],
    ),
    row(
        "audit",
        Standing(""),
        &["audit", "{name}", "--limit", "3"],
        ("GET /audit?rule={name}&limit=3", ""),
        // In the page's own words, which begin as the names of these actions do: paused, edited, resumed.
        Shows("/console/health?rule={name}", "<td>{action}"),
        &[Answer(&[])],
    ),
];

/// All actions.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    RULES.iter().chain(LOOKS).chain(connections::CONNECTIONS).chain(service::SERVICE)
}

/// What there is and is not in the table, each with the reason.
pub const ELSEWHERE: &[(&str, &str)] = &[
    (
        "GET /rules/{name}/log/follow",
        "it has no end: tests/tests/api.rs and tests/tests/rules_actions.rs follow it, as does the console's log",
    ),
    ("DELETE /rules/{name}/verify", UNDER_WAY),
    ("rule cancel-verification", UNDER_WAY),
    ("form /console/rules/{name}/verify/cancel", UNDER_WAY),
    ("PUT /workers/{name}", BY_WORKERS),
    ("POST /workers/{name}/reports", BY_WORKERS),
];

const UNDER_WAY: &str =
    "a verification of a few records ends before anybody can cancel it: engine/src/service/verification.rs holds its turn to do so";
const BY_WORKERS: &str = "workers call it, nobody else: tests/tests/workers.rs, tests/tests/api.rs";
