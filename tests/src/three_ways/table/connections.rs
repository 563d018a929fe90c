//! Actions on Kafka connections and stores.

use super::super::row::Before::{Nothing, Source, Standing, Store};
use super::super::row::Check::{Answer, Connection};
use super::super::row::Console::{Asks, Form, Shows};
use super::super::row::{Row, row};

pub(super) const CONNECTIONS: &[Row] = &[
    row("sources", Standing("k"), &["sources"], ("GET /sources", ""), Shows("/console/sources", "<code>{name}</code>"), &[Answer(&[])])
        .only("k"),
    row(
        "show-source",
        Standing("k"),
        &["show-source", "k"],
        ("GET /sources/{name}", ""),
        Shows("/console/sources", "<code>{name}</code>"),
        &[Answer(&[])],
    ),
    row(
        "create-source",
        Nothing,
        &["create-source", "{name}", "{file}"],
        ("POST /sources", r#"{"name":"{name}","brokers":["127.0.0.1:1"],"properties":{"client.id":"x"}}"#),
        Form("/console/sources", &[("name", "{name}"), ("brokers", "127.0.0.1:1"), ("properties", "client.id=x")]),
        &[Connection("sources")],
    )
    .with_file("[kafka.{name}]\nbrokers = [\"127.0.0.1:1\"]\nproperties = { \"client.id\" = \"x\" }\n"),
    row(
        "edit-source",
        Source,
        &["edit-source", "{name}", "{file}", "--version", "1"],
        ("PUT /sources/{name}", r#"{"brokers":["127.0.0.1:2"]}"#),
        Form("/console/sources/{name}/edit", &[("version", "1"), ("go", "save"), ("brokers", "127.0.0.1:2")]),
        &[Connection("sources")],
    )
    .with_file("[kafka.{name}]\nbrokers = [\"127.0.0.1:2\"]\n"),
    row(
        "test-source",
        Standing("k"),
        &["test-source", "k"],
        ("POST /sources/{name}/test", ""),
        Asks("/console/sources/{name}/test", &[], "{cluster}"),
        // Other tests make topics meanwhile.
        &[Answer(&["took_ms", "topics"])],
    ),
    row(
        "delete-source",
        Source,
        &["delete-source", "{name}"],
        ("DELETE /sources/{name}", ""),
        Form("/console/sources/{name}/delete", &[]),
        &[Connection("sources")],
    ),
    row(
        "topics",
        Standing("k"),
        &["topics", "k", "{topic}"],
        ("GET /sources/{name}/topics?search={topic}", ""),
        Asks("/console/add", draft!("2", "search", ("search", "{topic}")), "value=\"{name}\""),
        &[Answer(&[])],
    ),
    row(
        "topic",
        Standing("k"),
        &["topic", "k", "{topic}"],
        ("GET /sources/{name}/topics/{topic}", ""),
        Asks("/console/add", draft!("2", "search", ("search", "{topic}")), "<td class=\"number\">{records}</td>"),
        &[Answer(&["records_last_hour"])],
    ),
    row(
        "records",
        Standing("k"),
        &["records", "k", "{topic}", "--limit", "3"],
        ("GET /sources/{name}/topics/{topic}/records?limit=3", ""),
        Asks("/console/add", draft!("2", "sample", ("topics", "{topic}")), "<td class=\"number\">{offset}</td>"),
        &[Answer(&[])],
    ),
    row("stores", Standing("s"), &["stores"], ("GET /stores", ""), Shows("/console/stores", "<code>{name}</code>"), &[Answer(&[])])
        .only("s"),
    row(
        "show-store",
        Standing("s"),
        &["show-store", "s"],
        ("GET /stores/{name}", ""),
        Shows("/console/stores", "<code>{name}</code>"),
        &[Answer(&[])],
    ),
    row(
        "create-store",
        Nothing,
        &["create-store", "{name}", "{file}"],
        ("POST /stores", r#"{"name":"{name}","url":"file://{dir}/{name}/"}"#),
        Form("/console/stores", &[("name", "{name}"), ("url", "file://{dir}/{name}/")]),
        &[Connection("stores")],
    )
    .with_file("[store.{name}]\nurl = \"file://{dir}/{name}/\"\n"),
    row(
        "edit-store",
        Store,
        &["edit-store", "{name}", "{file}", "--version", "1"],
        ("PUT /stores/{name}", r#"{"url":"file://{dir}/{name}-moved/"}"#),
        Form("/console/stores/{name}/edit", &[("version", "1"), ("go", "save"), ("url", "file://{dir}/{name}-moved/")]),
        &[Connection("stores")],
    )
    .with_file("[store.{name}]\nurl = \"file://{dir}/{name}-moved/\"\n"),
    row(
        "probe-store",
        Standing("s"),
        &["probe-store", "s"],
        ("POST /stores/{name}/probe", ""),
        Asks("/console/stores/{name}/test", &[], "<code>{store}</code>"),
        &[Answer(&[])],
    ),
    row(
        "probe-store-below",
        Standing("s"),
        &["probe-store", "s", "--prefix", "s/"],
        ("POST /stores/{name}/probe?prefix=s/", ""),
        Asks("/console/add", draft!("3", "probe", ("topics", "{topic}")), "<code>{store}</code>"),
        &[Answer(&[])],
    ),
    row(
        "delete-store",
        Store,
        &["delete-store", "{name}"],
        ("DELETE /stores/{name}", ""),
        Form("/console/stores/{name}/delete", &[]),
        &[Connection("stores")],
    ),
];
