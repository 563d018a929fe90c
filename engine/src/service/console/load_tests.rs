//! Load tests: listed, compared two by two, and what is typed to make one.
//!
//! Place in the flow: shows what [`load_tests`](crate::service::load_tests) has read, and hands on the page that a load test has written. None is started
//! here: that is a program of its own.
//!
//! Guarantees: what was not verified has no throughput on any page. A page that a load test has written is downloaded, and never shown under this address:
//! it has styles of its own, which the policy of these pages forbids, and a file that somebody has put there could have scripts.

use std::path::Path;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use super::catalogue::Texts;
use super::context::Page;
use super::elsewhere::{Elsewhere, deeds, quoted};
use super::refusal::{Refusal, shown};
use super::show::{self, Moment};
use super::words::{self, Badge};
use crate::service::api::{self, OfPath, OfQuery, Service};
use crate::service::load_tests::{Latency, Listed, LoadTest};

mod comparison;

/// The name of the next load test's directory, for whoever types the command to replace.
const NEXT: &str = "NAME";

#[derive(Template)]
#[template(path = "console/load_tests.html")]
struct LoadTestsPage {
    p: Page,
    /// None if the service was given none.
    directory: Option<String>,
    tests: Vec<Row>,
    /// How many of how many are listed, if not all of them are.
    part: Option<String>,
    /// Those that can be compared.
    names: Vec<String>,
    command: String,
    elsewhere: Elsewhere,
}

struct Row {
    name: String,
    problem: Option<String>,
    began: Option<Moment>,
    brokers: Vec<String>,
    records: String,
    verified: Badge,
    fault: Option<String>,
    throughput: String,
    p50: String,
    p99: String,
    peak_memory: String,
    has_page: bool,
}

#[derive(Template)]
#[template(path = "console/comparison.html")]
struct ComparisonPage {
    p: Page,
    heads: [Head; 2],
    unlike: Vec<comparison::Condition>,
    figures: Vec<comparison::Figure>,
    command: String,
    elsewhere: Elsewhere,
}

/// One of two.
struct Head {
    which: &'static str,
    row: Row,
}

/// Which two.
#[derive(Debug, Deserialize)]
pub(super) struct Two {
    run: String,
    with: String,
}

/// What is known, or a dash.
fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "–".to_owned())
}

fn number(n: u64) -> String {
    show::count(i64::try_from(n).unwrap_or(i64::MAX))
}

fn milliseconds(t: &Texts, ms: f64) -> String {
    if ms >= 1_000.0 { show::span(t, ms / 1_000.0) } else { format!("{ms:.2} {}", t.of_load_tests.milliseconds) }
}

fn throughput(t: &Texts, test: &LoadTest) -> Option<String> {
    let throughput = test.throughput?;
    let (bytes, records) = (throughput.bytes_per_s?, throughput.records_per_s?);
    Some(t.fill(t.of_load_tests.throughput_of, &[&show::size(bytes), &show::count(records.round() as i64)]))
}

fn row(t: &Texts, test: LoadTest) -> Row {
    let latency = |of: fn(Latency) -> Option<f64>| or_dash(test.latency.and_then(of).map(|ms| milliseconds(t, ms)));
    Row {
        began: test.began_ms.map(show::moment),
        records: or_dash(test.records.map(number)),
        verified: words::verified(t, test.verified),
        throughput: or_dash(throughput(t, &test)),
        p50: latency(|latency| latency.p50_ms),
        p99: latency(|latency| latency.p99_ms),
        peak_memory: or_dash(test.peak_rss_bytes.map(|bytes| show::size(bytes as f64))),
        has_page: test.has_page,
        name: test.name,
        problem: test.problem,
        brokers: test.brokers,
        fault: test.faults.into_iter().next(),
    }
}

/// What is typed to make one.
fn command(directory: Option<&Path>) -> String {
    let out = directory.unwrap_or(Path::new("load-tests")).join(NEXT);
    let out = quoted(&out.display().to_string());
    format!("catchment-loadtest run -b localhost:9092 --to file:///tmp/loadtest/ --rate 5000/s --duration 1m --out {out}")
}

/// What is typed for a page that compares two.
fn report_command(directory: &Path, this: &str, other: &str) -> String {
    let [this, other] = [this, other].map(|name| quoted(&directory.join(name).join("report.json").display().to_string()));
    format!("catchment-loadtest report {this} --compare {other} -o comparison.html")
}

/// Lists them.
pub(super) async fn list(State(service): State<Service>, p: Page) -> Result<Response, Refusal> {
    let directory = service.load_tests.directory();
    let listed = if directory.is_some() { service.load_tests.list().await? } else { Listed::default() };
    let numbers = [listed.newest.len(), listed.all].map(|n| n.to_string());
    let part = || p.t.fill(p.t.of_load_tests.newest_of_all, &numbers.each_ref().map(String::as_str));
    let readable = listed.newest.iter().filter(|test| test.problem.is_none());
    let names: Vec<String> = readable.map(|test| test.name.clone()).collect();
    Ok(shown(&LoadTestsPage {
        directory: directory.map(|directory| directory.display().to_string()),
        part: (listed.all > listed.newest.len()).then(part),
        command: command(directory),
        elsewhere: deeds::load_tests(&p, names.first().map(String::as_str)),
        tests: listed.newest.into_iter().map(|test| row(p.t, test)).collect(),
        names,
        p,
    }))
}

/// Compares two.
pub(super) async fn compare(State(service): State<Service>, p: Page, OfQuery(two): OfQuery<Two>) -> Result<Response, Refusal> {
    let (this, other) = (service.load_tests.one(&two.run).await?, service.load_tests.one(&two.with).await?);
    let (t, directory) = (p.t, service.load_tests.directory().unwrap_or(Path::new("")));
    Ok(shown(&ComparisonPage {
        unlike: comparison::unlike(t, &this, &other),
        figures: comparison::figures(t, &this, &other),
        command: report_command(directory, &this.name, &other.name),
        elsewhere: deeds::comparison(&p, [&this.name, &other.name]),
        heads: [Head { which: t.of_load_tests.this_one, row: row(t, this) }, Head { which: t.of_load_tests.other_one, row: row(t, other) }],
        p,
    }))
}

/// The page that a load test has written, as a download.
pub(super) async fn report(service: State<Service>, name: OfPath<String>) -> Result<Response, Refusal> {
    Ok(api::load_tests::download(service, name).await?)
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::{CHINESE, ENGLISH};
    use super::*;

    /// The book's command lines are read by the program that they call, so these are, too.
    #[test]
    fn what_is_typed_stands_in_the_book() {
        let book = include_str!("../../../../docs/loadtest.md");
        let directory = Path::new("/var/lib/catchment/load-tests");
        assert!(book.contains(&format!("$ {}\n", command(Some(directory)))), "{}", command(Some(directory)));
        let report = report_command(directory, "after", "before");
        assert!(book.contains(&format!("$ {report}\n")), "{report}");
        assert!(command(Some(Path::new("/a b"))).ends_with("--out '/a b/NAME'"));
        assert!(command(None).ends_with("--out load-tests/NAME"));
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let row = row(&ENGLISH, LoadTest { name: "a".to_owned(), ..LoadTest::default() });
        let cells = [row.records, row.throughput, row.p50, row.p99, row.peak_memory];
        assert_eq!((cells, row.verified.word, row.began, row.fault), (["–"; 5].map(str::to_owned), "not verified", None, None));
    }

    #[test]
    fn latencies_have_their_unit() {
        assert_eq!([0.31, 12.0, 1_500.0].map(|ms| milliseconds(&ENGLISH, ms)), ["0.31 ms", "12.00 ms", "1.5 s"]);
        assert_eq!(milliseconds(&CHINESE, 3.0), "3.00 毫秒");
    }
}
