//! `catchment backup --dry-run`: what the rule would make of its topics in a day, and what that costs. Reads Kafka by no group, and writes nothing.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::json;

use super::open::block_on;
use super::output::LogFormat;
use super::{Outcome, output};
use crate::config::{BackupPlan, ByteSize};
use crate::service::inspection::{Inspector, Obstacle, Outlook, example_key};
use crate::text::one_line;

/// Topics that are looked at. Each takes three small requests for each of up to 256 partitions, and up to a megabyte of records.
const TOPICS_MAX: usize = 20;

/// Looks, and prints it: as JSON, if messages are.
///
/// # Errors
/// If the cluster does not answer, or there is no such topic.
pub(super) fn main(plan: &BackupPlan, form: LogFormat) -> Outcome {
    let outlook = block_on(async { Ok(Inspector::default().outlook(plan, TOPICS_MAX).await?) })?;
    let key = outlook.topics.first().map(|traffic| example_key(plan, &traffic.topic)).transpose()?;
    match form {
        LogFormat::Json => output::print_json(&json!({ "group": plan.group, "example_key": key, "outlook": outlook }))?,
        LogFormat::Text => output::print(human(plan, &outlook, key.as_deref()))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn human(plan: &BackupPlan, outlook: &Outlook, key: Option<&str>) -> String {
    let mut text = topics(outlook);
    let _ = writeln!(
        text,
        "\na day     {} of keys, values and headers, about {} as {}{}",
        bytes(outlook.bytes_a_day),
        bytes(outlook.stored_bytes_a_day),
        plan.encoding,
        if plan.auto_level { ", or level 2 or 3 where a partition's records choose it" } else { "" }
    );
    let _ = writeln!(
        text,
        "objects   about {:.0} a day with windows of {}, {} each; {:.0} requests to the store",
        outlook.objects_a_day,
        plan.window.every,
        bytes(outlook.object_bytes),
        outlook.requests_a_day
    );
    if let Some(key) = key {
        let _ = writeln!(text, "key       {}", one_line(key));
    }
    let _ = writeln!(text, "group     {}", one_line(&plan.group));
    text += &advice(outlook);
    text + "Nothing was written, and no group was joined. A day is taken to be 24 times the last hour, by the records' timestamps.\n"
}

fn topics(outlook: &Outlook) -> String {
    if outlook.topics.is_empty() {
        return "no topic matches now\n".to_owned();
    }
    let head = ["topic", "partitions", "busy", "records", "in the last hour", "bytes each"];
    let rows = outlook.topics.iter().map(|traffic| {
        let weight = traffic.weight.map_or_else(|| "-".to_owned(), |weight| format!("{:.0}", weight.record_bytes));
        let counts = [traffic.partitions as i64, traffic.busy as i64, traffic.records, traffic.records_an_hour].map(|n| n.to_string());
        [vec![traffic.topic.clone()], counts.to_vec(), vec![weight]].concat()
    });
    let mut text = output::table(&head, &rows.collect::<Vec<_>>());
    if outlook.of_topics > outlook.topics.len() {
        let _ = writeln!(text, "and {} more topics, taken to be like these", outlook.of_topics - outlook.topics.len());
    }
    for unknown in outlook.topics.iter().filter(|traffic| traffic.weight.is_none() && traffic.records_an_hour > 0) {
        let _ =
            writeln!(text, "no record of {} could be read: how many bytes it has is not known, and not counted", one_line(&unknown.topic));
    }
    text
}

/// What to do about small objects.
fn advice(outlook: &Outlook) -> String {
    let mut text = String::new();
    if let Some(window) = &outlook.window_advised {
        let _ = writeln!(text, "small     readers are slow with so small objects; they would be large enough with --window {window}");
    }
    if let Some(obstacle) = outlook.obstacle {
        let remedy = match obstacle {
            Obstacle::MaxBytes => "a larger --max-bytes would",
            Obstacle::Partitions => "fewer partitions would",
            Obstacle::Traffic => "too little is written",
        };
        let _ = writeln!(text, "small     readers are slow with so small objects, and no window makes them large enough: {remedy}");
    }
    if let Some(held) = outlook.held_bytes {
        let _ = writeln!(
            text,
            "memory    open windows of that length take about {} together, more than the budget has for them: raise --budget, or share the partitions between processes",
            bytes(held as f64)
        );
    }
    text
}

fn bytes(bytes: f64) -> String {
    output::size(ByteSize(bytes.max(0.0) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::inspection::{Traffic, Weight};

    fn plan() -> BackupPlan {
        let config = crate::config::Config::parse(
            "[kafka.k]\nbrokers = [\"h:1\"]\n[store.s]\nurl = \"file:///tmp/x/\"\n[rule.orders.source]\nkafka = \"k\"\ntopics = [\"orders\"]\n[rule.orders.to]\nstore = \"s\"\n",
            "c.toml",
        );
        BackupPlan::new(&config.unwrap(), crate::config::Overrides::default(), crate::config::RunOptions::default()).unwrap()
    }

    fn outlook(records_an_hour: i64, of_topics: usize) -> Outlook {
        let weight = Some(Weight { record_bytes: 1_024.0, stored_bytes: 256.0, object_bytes: 0.0 });
        let traffic = Traffic { topic: "orders".into(), partitions: 12, busy: 6, records: 5_000, records_an_hour, weight };
        Outlook::new(vec![traffic], of_topics, &plan())
    }

    #[test]
    fn it_says_what_a_day_costs_and_which_window_is_long_enough() {
        let text = human(&plan(), &outlook(1_200_000, 1), Some("orders/dt=2026-01-01/x.parquet"));
        for part in [
            "orders          12     6     5000           1200000        1024",
            "about 1728 a day with windows of 5m",
            "--window 30m",
            "catchment-orders",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("more topics") && !text.contains("memory"), "{text}");
    }

    #[test]
    fn a_level_that_the_records_choose_is_said_to_be_theirs() {
        let fixed = human(&plan(), &outlook(10, 1), None);
        assert!(fixed.contains("as parquet.zstd1.v1\n"), "{fixed}");
        let auto = human(&BackupPlan { auto_level: true, ..plan() }, &outlook(10, 1), None);
        assert!(auto.contains("as parquet.zstd1.v1, or level 2 or 3 where"), "{auto}");
    }

    #[test]
    fn what_was_not_looked_at_and_what_no_window_helps_is_said() {
        let text = human(&plan(), &outlook(10, 3), None);
        assert!(text.contains("and 2 more topics") && text.contains("too little is written"), "{text}");
        assert!(!human(&plan(), &outlook(0, 1), None).contains("small  "), "nothing is known of a silent topic");
    }

    #[test]
    fn windows_that_the_budget_cannot_hold_open_are_named() {
        let text = human(&plan(), &outlook(1_200_000, 5), None);
        assert!(text.contains("--window 30m") && text.contains("take about 480 MiB together"), "{text}");
    }

    #[test]
    fn what_is_not_known_is_not_taken_for_nothing() {
        let traffic = Traffic { topic: "t".into(), partitions: 1, busy: 1, records: 9, records_an_hour: 9, weight: None };
        let text = human(&plan(), &Outlook::new(vec![traffic], 1, &plan()), None);
        assert!(text.contains("no record of t could be read"), "{text}");
        assert!(human(&plan(), &Outlook::new(Vec::new(), 0, &plan()), None).starts_with("no topic matches now"));
    }
}
