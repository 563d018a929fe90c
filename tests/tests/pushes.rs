//! Metrics that are pushed by OTLP: the program's pushes say what its `/metrics` says, and a collector that is away holds nothing up.

use std::path::Path;
use std::time::{Duration, Instant};

use catchment_tests::bed::{Bed, Place, RUN_LIMIT};
use catchment_tests::collector::{Collector, Push, samples_of};
use catchment_tests::openmetrics::scrape;
use catchment_tests::process::Program;
use catchment_tests::rules_service::{PATIENCE, RulesService};
use catchment_tests::services::Kafka;

const RECORDS: u64 = 300;

const WRITTEN: &str = "catchment_records_written_total";

/// How long a stop may take on a machine that has other things to do. `outages` shows that it takes less than ten seconds.
const STOP: Duration = Duration::from_secs(60);

fn bed() -> Bed {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 2, Place::in_process());
    bed.fill(RECORDS);
    bed
}

/// Whether a push has all of the records.
fn has_all(series: &str) -> impl Fn(&Push) -> bool {
    move |push| push.samples.get(series) == Some(&(RECORDS as f64))
}

/// Whether a push says the same as a page: the same series, and for all that only counts the same values.
fn agrees(push: &Push, page: &str) -> bool {
    let page = samples_of(page);
    let counts = |series: &str| series.contains("_total") || series.contains("_count");
    page.keys().eq(push.samples.keys()) && page.iter().all(|(series, value)| !counts(series) || push.samples[series] == *value)
}

/// Waits until a push says the same as the page.
#[track_caller]
fn assert_agree(collector: &Collector, mut page: impl FnMut() -> String) -> Push {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = page();
        match collector.last() {
            Some(push) if agrees(&push, &page) => return push,
            last => assert!(Instant::now() < deadline, "never the same: {last:#?}\n{page}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_backup_pushes_what_it_shows() {
    let (bed, collector) = (bed(), Collector::start());
    let mut process = bed.backup(&["--start", "0", "--metrics", "127.0.0.1:0"]).envs(collector.environment()).spawn();
    collector.until(RUN_LIMIT, has_all(WRITTEN));
    let push = assert_agree(&collector, || scrape(&mut process));
    assert_eq!(push.headers["content-type"], "application/x-protobuf");
    assert_eq!(push.headers["api-key"], "hush-canary");
    for (name, value) in [("service.name", "catchment"), ("service.instance.id", "one"), ("deployment.environment", "test")] {
        assert_eq!(push.resource[name], value, "{:?}", push.resource);
    }
    let exit = process.terminate(STOP);
    exit.assert_code(0);
    assert!(exit.stderr.contains("metrics are pushed to http://127.0.0.1:") && !exit.stderr.contains("hush"), "{}", exit.stderr);
}

#[test]
fn the_last_values_are_pushed_at_the_end() {
    let (bed, collector) = (bed(), Collector::start());
    // The next push would come in an hour.
    let rare = [("OTEL_METRIC_EXPORT_INTERVAL", "3600000")];
    let exit = bed.backup(&["--until-end"]).envs(collector.environment()).envs(rare).run(RUN_LIMIT);
    exit.assert_code(0);
    let last = collector.last().expect("one push");
    for series in [WRITTEN, "catchment_records_read_total"] {
        assert!(has_all(series)(&last), "{series}: {last:#?}");
    }
}

#[test]
fn a_service_pushes_what_all_of_its_rules_count() {
    let (bed, collector) = (bed(), Collector::start());
    let mut service = RulesService::start_in(&bed, collector.environment());
    service.done(&["create", "r", &service.rule_named("r", &bed.topic, "window = { every = \"1s\" }")]);
    let series = format!("{WRITTEN}{{rule=\"r\"}}");
    collector.until(PATIENCE, has_all(&series));
    let push = collector.until(PATIENCE, |push| push.samples.contains_key("catchment_rule_state{rule=\"r\",state=\"running\"}"));
    assert_eq!(push.samples["catchment_rule_state{rule=\"r\",state=\"running\"}"], 1.0);
    service.stop().assert_code(0);
    assert!(has_all(&series)(&collector.last().expect("the last push")), "its last values, too");
}

#[test]
fn a_worker_pushes_what_the_rules_count_that_it_runs() {
    let (bed, collector) = (bed(), Collector::start());
    let mut service = RulesService::start_with(&bed, &["--no-run"]);
    service.done(&["create", "r", &service.rule_named("r", &bed.topic, "window = { every = \"1s\" }")]);
    let state = tempfile::tempdir().expect("a directory");
    let program = Program::new(["worker", "--name", "one", "--metrics", "127.0.0.1:0", "--join", service.address(), "--state"]);
    let program = program.args([state.path(), Path::new("--token-file"), &service.token_file()]);
    let mut worker = program.envs(bed.place.environment()).envs(collector.environment()).spawn();
    let series = format!("{WRITTEN}{{rule=\"r\"}}");
    collector.until(PATIENCE, has_all(&series));
    let push = assert_agree(&collector, || scrape(&mut worker));
    assert_eq!(push.samples["catchment_rule_state{rule=\"r\",state=\"running\"}"], 1.0, "{push:#?}");
    let exit = worker.terminate(STOP);
    exit.assert_code(0);
    assert!(has_all(&series)(&collector.last().expect("the last push")), "its last values, too");
    assert!(exit.stderr.contains("metrics are pushed to http://127.0.0.1:") && !exit.stderr.contains("hush"), "{}", exit.stderr);
    service.stop().assert_code(0);
}

#[test]
fn a_collector_that_is_away_is_warned_of_once_and_holds_nothing_up() {
    let bed = bed();
    let away = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_METRIC_EXPORT_INTERVAL", "100")];
    let mut process = bed.backup(&[]).envs(away).spawn();
    process.wait_for_stderr("could not be pushed", RUN_LIMIT);
    let deadline = Instant::now() + RUN_LIMIT;
    while bed.place.data_keys("").is_empty() {
        assert!(process.poll().is_none(), "{}", process.stderr());
        assert!(Instant::now() < deadline, "no object: {}", process.stderr());
        std::thread::sleep(Duration::from_millis(100));
    }
    let exit = process.terminate(STOP);
    exit.assert_code(0);
    assert_eq!(exit.stderr.matches("could not be pushed").count(), 1, "{}", exit.stderr);
}

#[test]
fn what_cannot_be_a_collector_ends_the_start_of_who_asks_for_one() {
    for (name, text) in
        [("OTEL_EXPORTER_OTLP_ENDPOINT", "hush-canary:4318"), ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://a:hush-canary@b/")]
    {
        let asked = [(name, text), ("OTEL_METRICS_EXPORTER", "otlp")];
        let exit = Program::new(["backup", "t", "-b", "127.0.0.1:1", "--to", "file:///tmp/none/"]).envs(asked).run(RUN_LIMIT);
        exit.assert_code(2);
        assert!(exit.stderr.contains("C0114") && exit.stderr.contains(name) && !exit.stderr.contains("hush"), "{}", exit.stderr);
    }
}

#[test]
fn variables_for_other_programs_are_warned_of() {
    let others = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    let exit = bed().backup(&["--until-end"]).envs(others).run(RUN_LIMIT);
    exit.assert_code(0);
    assert!(exit.stderr.contains("no metrics are pushed") && exit.stderr.contains("OTEL_EXPORTER_OTLP_PROTOCOL"), "{}", exit.stderr);
}
