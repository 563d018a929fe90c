//! A report as one HTML file: nothing is loaded from anywhere, and it can be read without scripts, with a screen reader, in light and in dark.

use askama::Template;

use super::chart::{self, Line};
use super::{Comparison, Mode, Report};
use crate::failure::{Failure, Result};
use crate::latency::LatencySummary;
use crate::sampling::Sample;
use crate::units::{read_ms, read_number, read_size};

/// Most moments in the table.
const ROWS_MAX: usize = 300;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    passed: bool,
    verdict: String,
    command: String,
    facts: Vec<(&'static str, String)>,
    load: Vec<(&'static str, String)>,
    environment: Vec<(&'static str, String)>,
    latencies: Vec<(&'static str, LatencyCells)>,
    latency_note: &'static str,
    /// SVG, escaped where it is drawn.
    charts: String,
    moments: Vec<Moment>,
    every_nth: usize,
    comparison: Option<Comparison>,
}

/// A histogram as cells.
struct LatencyCells {
    count: String,
    cells: [String; 6],
}

/// A sample as cells.
struct Moment {
    cells: [String; 5],
}

/// A report as a page, compared with another one if there is one.
///
/// # Errors
/// If the page cannot be made.
pub fn page(report: &Report, other: Option<&Report>) -> Result<String> {
    let every_nth = report.samples.len().div_ceil(ROWS_MAX).max(1);
    let rate_note =
        "Counted from when each record was due by the rate: a record that had to wait for the broker is late, and is not left out.";
    let send_note =
        "There was no rate, so nothing was due: counted from when each record was sent. What the sender itself waited is not in it.";
    let page = Page {
        report,
        passed: report.verdict.passed,
        verdict: report.verdict.text(),
        command: report.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
        facts: facts(report),
        load: load(report),
        environment: environment(report),
        latencies: latencies(report),
        latency_note: if report.produced.is_scheduled { rate_note } else { send_note },
        charts: charts(report),
        moments: report.samples.iter().step_by(every_nth).map(moment).collect(),
        every_nth,
        comparison: other.map(|other| Comparison::of(report, other)),
    };
    page.render().map_err(|e| Failure::new("the report's page cannot be made").because(e))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(throughput) = report.throughput {
        facts.push(("Throughput", format!("{}/s of values", read_size(throughput.bytes_per_s))));
        facts.push(("Records", format!("{}/s", read_number(throughput.records_per_s.round()))));
        facts.push(("Time", format!("{} s", read_number(throughput.seconds))));
        facts.push(("CPU for a GiB", format!("{} s", read_number(throughput.cpu_s_per_gib))));
        facts.push(("Size stored", format!("{:.1} % of the values", throughput.stored_share * 100.0)));
    }
    facts.push(("CPU time", format!("{} s", read_number(report.cost.cpu_s))));
    facts.push(("Peak memory", read_size(report.cost.peak_rss_bytes as f64)));
    facts.push(("Objects", format!("{}, {}", read_number(report.verdict.objects as f64), read_size(report.verdict.object_bytes as f64))));
    facts
}

fn load(report: &Report) -> Vec<(&'static str, String)> {
    let (load, sent) = (&report.load, &report.produced);
    let transactions = match load.transaction_records {
        Some(records) => format!("{records} records each; {} of {} aborted", sent.aborted_transactions, sent.transactions),
        None => "none".to_owned(),
    };
    let mode = match report.mode {
        Mode::Drain => "after everything was sent",
        Mode::Live => "while it was sent",
    };
    vec![
        ("Backed up", mode.to_owned()),
        ("Brokers", if report.brokers.is_empty() { "not known".to_owned() } else { report.brokers.join(", ") }),
        ("Topic", format!("{}, {} partitions", load.topic, load.partitions)),
        ("Records sent", format!("{}, {} of values", read_number(sent.records as f64), read_size(sent.bytes as f64))),
        ("Committed", format!("{}, {} of values", read_number(sent.committed_records as f64), read_size(sent.committed_bytes as f64))),
        ("Bytes of a record", load.record_bytes.clone()),
        ("Keys", load.keys.clone()),
        ("Codec", load.codec.clone()),
        ("Rate", load.rate.clone().unwrap_or_else(|| "as fast as possible".to_owned())),
        ("Transactions", transactions),
        ("Sent in", format!("{} s, at most {} behind its schedule", read_number(sent.seconds), read_ms(sent.behind_ms))),
        ("Seed", load.seed.to_string()),
    ]
}

fn environment(report: &Report) -> Vec<(&'static str, String)> {
    let here = &report.environment;
    vec![
        ("Began", report.began.clone()),
        ("Processor", here.cpu.clone()),
        ("Cores", here.cores.to_string()),
        ("Memory", read_size(here.memory_bytes as f64)),
        ("Kernel", here.kernel.clone()),
        ("catchment", here.catchment.clone()),
        ("catchment-loadtest", format!("{}, librdkafka {}", here.loadtest, here.librdkafka)),
    ]
}

fn latencies(report: &Report) -> Vec<(&'static str, LatencyCells)> {
    let cells = |l: LatencySummary| LatencyCells {
        count: read_number(l.count as f64),
        cells: [l.mean_ms, l.p50_ms, l.p90_ms, l.p99_ms, l.p999_ms, l.max_ms].map(read_ms),
    };
    let rows = [("Record to acknowledgement", report.produced.latency), ("End of a transaction", report.produced.transaction_latency)];
    let mut rows: Vec<_> = rows.into_iter().filter_map(|(name, found)| Some((name, cells(found?)))).collect();
    let mut delays = crate::latency::Latencies::new();
    report.window_delay_ms.iter().for_each(|ms| delays.add(std::time::Duration::from_millis(*ms)));
    rows.extend(delays.summary().map(|found| ("Window's close to its object", cells(found))));
    rows
}

fn charts(report: &Report) -> String {
    let series = |value: fn(&Sample) -> Option<f64>| -> Vec<(f64, f64)> {
        report.samples.iter().filter_map(|sample| Some((sample.at_s, value(sample)?))).collect()
    };
    let mut charts = String::new();
    if report.throughput.is_some() {
        let points = series(|s| s.read_bytes_per_s);
        charts += &chart::line(&Line { id: "throughput", title: "Read from Kafka", points, show: |v| format!("{}/s", read_size(v)) });
        let points = series(|s| s.lag_records.map(|lag| lag as f64));
        charts +=
            &chart::line(&Line { id: "lag", title: "Committed records that are not stored yet", points, show: |v| read_number(v.round()) });
    }
    let points = series(|s| Some(s.cpu_percent));
    charts += &chart::line(&Line { id: "cpu", title: "CPU of the backup (100 % is one core)", points, show: |v| format!("{v:.0} %") });
    let points = series(|s| Some(s.rss_bytes as f64));
    charts += &chart::line(&Line { id: "rss", title: "Resident memory of the backup", points, show: read_size });
    charts + &chart::sizes("objects", "Objects by size", &report.object_bytes)
}

fn moment(sample: &Sample) -> Moment {
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    Moment {
        cells: [
            format!("{:.1} s", sample.at_s),
            or_unknown(sample.read_bytes_per_s.map(|bytes| format!("{}/s", read_size(bytes)))),
            or_unknown(sample.lag_records.map(|lag| read_number(lag as f64))),
            format!("{:.0} %", sample.cpu_percent),
            read_size(sample.rss_bytes as f64),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn nothing_of_a_report_becomes_markup() {
        let mut report = example();
        let evil = "<script>alert('\"&')</script>";
        report.load.topic = evil.to_owned();
        report.command.push(evil.to_owned());
        report.environment.cpu = evil.to_owned();
        report.verdict.passed = false;
        report.verdict.faults.push(evil.to_owned());
        let mut other = example();
        other.began = evil.to_owned();
        other.environment.kernel = evil.to_owned();
        let html = page(&report.honest(), Some(&other)).expect("a page");
        assert!(!html.contains("<script") && html.matches("alert(").count() >= 6, "{html}");
    }

    #[test]
    fn a_page_stands_alone_and_can_be_read_by_everybody() {
        let html = page(&example(), None).expect("a page");
        for wanted in [
            "<!doctype html>",
            "<html lang=\"en\">",
            "prefers-color-scheme",
            "Read from Kafka",
            "Objects by size",
            "p99.9",
            "8.00 GiB",
            "a:9092, b:9092",
        ] {
            assert!(html.contains(wanted), "{wanted}");
        }
        for from_elsewhere in ["http://", "https://", "src=", "<link", "@import", "url("] {
            assert!(!html.contains(from_elsewhere), "{from_elsewhere}");
        }
        assert_eq!(html.matches("<svg").count(), html.matches("role=\"img\"").count());
        assert_eq!(html.matches("<svg").count(), 5);
    }

    #[test]
    fn a_page_of_a_run_that_was_not_verified_shows_no_throughput() {
        let mut report = example();
        report.verdict.passed = false;
        report.verdict.faults.push("3 committed records are missing".to_owned());
        let html = page(&report.honest(), None).expect("a page");
        assert!(html.contains("3 committed records are missing"), "{html}");
        assert!(!html.contains("Throughput") && !html.contains("Read from Kafka") && !html.contains("KiB/s"), "{html}");
    }

    #[test]
    fn a_comparison_is_a_table_of_differences() {
        let mut other = example();
        other.cost.cpu_s *= 2.0;
        let html = page(&example(), Some(&other)).expect("a page");
        assert!(html.contains("-50.0 %"), "{html}");
        assert!(!page(&example(), None).expect("a page").contains("-50.0 %"));
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!([quoted("--to"), quoted("a b"), quoted("it's"), quoted("")], ["--to", "'a b'", "'it'\\''s'", "''"]);
    }
}
