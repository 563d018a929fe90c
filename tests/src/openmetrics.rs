//! The text that Prometheus reads, taken apart: which metrics a page has, of which types and with which labels.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::process::Process;

/// How long a process may take to say where it serves.
const PATIENCE: Duration = Duration::from_secs(60);

/// Names, types and labels of the metrics: dashboards and alerts use them, so a change here is a change for users.
pub const METRICS: [&str; 28] = [
    "catchment_adopted_ends_total counter",
    "catchment_build_info info version",
    "catchment_commit_retries_total counter",
    "catchment_early_closes_total counter reason",
    "catchment_gaps_total counter cause",
    "catchment_group_regressions_total counter",
    "catchment_lag_records gauge",
    "catchment_lag_seconds gauge",
    "catchment_lane_restarts_total counter",
    "catchment_lanes_stopped_total counter",
    "catchment_late_records_total counter",
    "catchment_memory_budget_bytes gauge",
    "catchment_memory_used_bytes gauge",
    "catchment_objects_committed_total counter format",
    "catchment_open_uploads gauge",
    "catchment_queue_faults_total counter",
    "catchment_read_bytes_total counter",
    "catchment_records_read_total counter",
    "catchment_records_written_total counter",
    "catchment_reencoded_total counter",
    "catchment_store_request_duration_seconds histogram op le",
    "catchment_store_requests_total counter op code",
    "catchment_store_retries_total counter op reason",
    "catchment_time_to_data_loss_seconds gauge",
    "catchment_uploads_aborted_total counter",
    "catchment_window_commit_delay_seconds histogram le",
    "catchment_windows_total counter outcome",
    "catchment_written_bytes_total counter",
];

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A sample's name and its labels' names, if the line is one.
fn sample(line: &str) -> Option<(&str, Vec<&str>)> {
    let (series, value) = line.rsplit_once(' ')?;
    value.parse::<f64>().ok()?;
    let (name, labels) = match series.split_once('{') {
        None => (series, Vec::new()),
        Some((name, rest)) => (name, rest.strip_suffix('}')?.split(',').map(label).collect::<Option<_>>()?),
    };
    is_name(name).then_some((name, labels))
}

fn label(text: &str) -> Option<&str> {
    let (name, value) = text.split_once('=')?;
    let value = value.strip_prefix('"')?.strip_suffix('"')?;
    (is_name(name) && !value.contains(['"', '\\'])).then_some(name)
}

/// The family of a sample: its name without the ending that its type adds.
fn family_of<'a>(name: &'a str, types: &BTreeMap<&str, &str>) -> &'a str {
    let endings = ["_total", "_info", "_bucket", "_sum", "_count"];
    endings.iter().find_map(|ending| name.strip_suffix(ending)).filter(|family| types.contains_key(family)).unwrap_or(name)
}

/// What is served, as [`METRICS`] has it.
///
/// # Panics
/// On a line that is not OpenMetrics's text form, or if a family stands twice.
#[track_caller]
pub fn metrics(text: &str) -> BTreeSet<String> {
    let (mut types, mut found) = (BTreeMap::new(), BTreeMap::new());
    let lines = text.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("cut short: {text}")).lines();
    for line in lines.filter(|line| !line.starts_with("# HELP ")) {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            assert!(types.insert(name, kind).is_none(), "{name} twice");
            continue;
        }
        let (name, labels) = sample(line).unwrap_or_else(|| panic!("not a sample: {line:?}"));
        let family = family_of(name, &types);
        let kind = *types.get(family).unwrap_or_else(|| panic!("no type of {name}"));
        let shown = if kind == "histogram" { family } else { name };
        let known: &mut Vec<&str> = found.entry((shown, kind)).or_default();
        known.extend(labels.into_iter().filter(|label| !known.contains(label)).collect::<Vec<_>>());
    }
    found.into_iter().map(|((name, kind), labels)| format!("{name} {kind} {}", labels.join(" ")).trim_end().to_owned()).collect()
}

/// `/metrics` of a running process, which was told to serve them on any port.
///
/// # Panics
/// If it does not.
pub fn scrape(process: &mut Process) -> String {
    let (status, page) = page(process, "/metrics");
    assert_eq!(status, 200, "{page}");
    page
}

/// Status and body of a page beside them.
///
/// # Panics
/// If there is no answer.
pub fn page(process: &mut Process, path: &str) -> (u16, String) {
    let line = process.wait_for_stderr("metrics at http://", PATIENCE);
    let address = line.split_once("http://").and_then(|(_, rest)| rest.split_once("/metrics")).expect("an address").0;
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
    let status = head.strip_prefix("HTTP/1.0 ").and_then(|rest| rest.get(..3)).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status: {head}")), body.to_owned())
}
