//! Actions on the service itself: its state, its workers, its further tokens, its load tests.

use super::super::row::Before::{Nothing, Standing, Token};
use super::super::row::Check::{self, Answer, Noted};
use super::super::row::Console::{Form, Same, Says, Shows};
use super::super::row::{Row, row};
use crate::load_test_reports::VERIFIED;

pub(super) const SERVICE: &[Row] = &[
    row("copy-state", Nothing, &["copy-state"], ("POST /state/copy", ""), Form("/console/health/copy", &[]), &[Noted("copy the state")]),
    // Whether it is still present depends on when it is looked at.
    row(
        "workers",
        Standing("w"),
        &["workers"],
        ("GET /workers", ""),
        Shows("/console/workers", "<code>{name}</code>"),
        &[Answer(&["present"])],
    )
    .only("w"),
    row(
        "tokens",
        Standing("t"),
        &["token", "ls", "--json"],
        ("GET /tokens", ""),
        Shows("/console/tokens", "<code>{name}</code>"),
        &[Answer(&[])],
    )
    .only("t"),
    row(
        "make-token",
        Nothing,
        &["token", "add", "{name}"],
        ("POST /tokens", r#"{"name":"{name}"}"#),
        Says("/console/tokens", &[("name", "{name}")]),
        &[Check::Token],
    ),
    row(
        "remove-token",
        Token,
        &["token", "remove", "{name}"],
        ("DELETE /tokens/{name}", ""),
        Form("/console/tokens/{name}/delete", &[]),
        &[Check::Token],
    ),
    row(
        "load-tests",
        Standing(VERIFIED),
        &["load-tests"],
        ("GET /load-tests", ""),
        Shows("/console/load-tests", "<code>{name}</code>"),
        &[Answer(&[])],
    )
    .only(VERIFIED),
    row(
        "load-test",
        Standing(VERIFIED),
        &["load-test", "{name}"],
        ("GET /load-tests/{name}", ""),
        Shows("/console/load-tests", "<code>{name}</code>"),
        &[Answer(&[])],
    ),
    row(
        "load-test-report",
        Standing(VERIFIED),
        &["load-test", "{name}", "--report", "{out}"],
        ("GET /load-tests/{name}/report", ""),
        Same("/console/load-tests/{name}/report"),
        &[Answer(&[])],
    ),
];
