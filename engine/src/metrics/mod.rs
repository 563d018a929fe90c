//! Counters and gauges of the process, in the text form that Prometheus reads.
//!
//! Names are a contract: dashboards and alerts use them. Stages count on handles that are made once, so that counting neither locks nor
//! allocates; what can be read off the running lanes is read when it is asked for ([`runs`]); requests to the store are
//! counted where they are made ([`requests`]).

use std::sync::Arc;

use catchment_formats::GapCause;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::budget::MemoryBudget;
use crate::report::WindowCommitted;
use crate::segment::Run;
use crate::source::TopicPartition;
use crate::window::CloseReason;

pub mod page;
pub mod requests;
pub mod runs;

pub use page::Page;
pub use requests::RequestMetrics;
use runs::Runs;
pub use runs::{Lag, LanePosition, Progress};

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One label with one of a few values.
type Label = [(&'static str, &'static str); 1];

/// Upper ends of the buckets of a window's commit delay: from 10 ms to 40 minutes.
fn delay_buckets() -> impl Iterator<Item = f64> {
    exponential_buckets(0.01, 4.0, 10)
}

/// Everything the process counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    runs: Arc<Runs>,
    requests: Arc<RequestMetrics>,
    format: &'static str,
    records_written: Counter,
    bytes_written: Counter,
    objects_committed: Family<Label, Counter>,
    windows: Family<Label, Counter>,
    early_closes: Family<Label, Counter>,
    late_records: Counter,
    gaps: Family<Label, Counter>,
    commit_delay: Histogram,
    /// Multipart uploads that are open now.
    pub open_uploads: Gauge,
    /// Uploads aborted that were of no use: stale, replaced, or without a part under a key that stands.
    pub uploads_aborted: Counter,
    /// OffsetCommits sent again.
    pub commit_retries: Counter,
    /// Lanes that dropped what was open and recovered.
    pub lane_restarts: Counter,
    /// Lanes that stopped.
    pub lanes_stopped: Counter,
    /// Events other than records and ends.
    pub queue_faults: Counter,
    /// Objects of a pinned start with another end: must stay 0.
    pub adopted_ends: Counter,
    /// Times the group's offset was behind a stored object.
    pub group_regressions: Counter,
    /// Intents written in another encoding than they name.
    pub reencoded: Counter,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new(format: &'static str, budget: &Arc<MemoryBudget>, requests: Arc<RequestMetrics>) -> Self {
        let mut registry = Registry::with_prefix("catchment");
        let r = &mut registry;
        let runs = Arc::new(Runs::new(budget));
        r.register_collector(Box::new(Arc::clone(&runs)));
        requests.register(r);
        let commit_delay = Histogram::new(delay_buckets());
        r.register("window_commit_delay_seconds", "From a window's close to its object", commit_delay.clone());
        Self {
            records_written: registered(r, "records_written", "Records in committed objects"),
            bytes_written: registered(r, "written_bytes", "Bytes of committed objects"),
            objects_committed: registered(r, "objects_committed", "Committed objects"),
            windows: registered(r, "windows", "Windows that became objects, by how: written or recovered"),
            early_closes: registered(r, "early_closes", "Windows closed before their time"),
            late_records: registered(r, "late_records", "Records older than their window's slot"),
            gaps: registered(r, "gaps", "Ranges of offsets that could not be stored"),
            open_uploads: registered(r, "open_uploads", "Multipart uploads under way"),
            uploads_aborted: registered(r, "uploads_aborted", "Multipart uploads of no use that were aborted"),
            commit_retries: registered(r, "commit_retries", "OffsetCommits sent again"),
            lane_restarts: registered(r, "lane_restarts", "Lanes that recovered while running"),
            lanes_stopped: registered(r, "lanes_stopped", "Lanes that stopped"),
            queue_faults: registered(r, "queue_faults", "Fetch events other than records and ends"),
            adopted_ends: registered(r, "adopted_ends", "Objects whose end was not the pinned one"),
            group_regressions: registered(r, "group_regressions", "Group offsets behind a stored object"),
            reencoded: registered(r, "reencoded", "Pinned windows written in another encoding than they name"),
            commit_delay,
            runs,
            requests,
            format,
            registry,
        }
    }

    /// Counters of the requests to the store.
    pub fn requests(&self) -> &RequestMetrics {
        &self.requests
    }

    /// Follows a run for lag and records read.
    pub fn track(&self, tp: &TopicPartition, run: &Arc<Run>) {
        self.runs.track(tp, run);
    }

    /// How long a topic keeps a record; none: for ever, or nobody knows.
    pub fn note_retention(&self, topic: &Arc<str>, ms: Option<i64>) {
        self.runs.note_retention(topic, ms);
    }

    /// How far the running lanes are behind.
    pub fn lag(&self, now_ms: i64) -> Lag {
        self.runs.lag(now_ms)
    }

    /// What the running lanes have read, and how far they are behind.
    pub fn progress(&self, now_ms: i64) -> Progress {
        self.runs.progress(now_ms)
    }

    /// Bytes of the memory budget that are taken, and how many there are.
    pub fn memory(&self) -> (usize, usize) {
        self.runs.memory()
    }

    /// Where each running lane stands.
    pub fn lanes(&self) -> Vec<LanePosition> {
        self.runs.lanes()
    }

    /// Counts a window that was written.
    pub fn window(&self, window: &WindowCommitted) {
        self.records_written.inc_by(window.records);
        self.bytes_written.inc_by(window.bytes);
        self.objects_committed.get_or_create(&[("format", self.format)]).inc();
        self.windows.get_or_create(&[("outcome", "written")]).inc();
        self.late_records.inc_by(window.late);
        if matches!(window.reason, CloseReason::Size | CloseReason::Pressure) {
            self.early_closes.get_or_create(&[("reason", window.reason.as_str())]).inc();
        }
        self.commit_delay.observe(window.delay_ms.max(0) as f64 / 1000.0);
    }

    /// Counts a pinned window that was finished without reading Kafka again.
    pub fn recovered(&self) {
        self.windows.get_or_create(&[("outcome", "recovered")]).inc();
    }

    /// Counts a gap.
    pub fn gap(&self, cause: GapCause) {
        self.gaps.get_or_create(&[("cause", cause.as_str())]).inc();
    }

    /// What this pipeline counts, as a part of a [`Page`].
    pub fn text(&self, now_ms: i64) -> String {
        self.runs.set_now(now_ms);
        text_of(&self.registry)
    }

    /// The page of a process that runs nothing else, of the type [`CONTENT_TYPE`].
    pub fn render(&self, now_ms: i64) -> String {
        let mut page = Page::default();
        page.add(&self.text(now_ms), None);
        page.add(&build_text(), None);
        page.finish()
    }
}

/// The running build, as a part of a [`Page`].
pub fn build_text() -> String {
    let mut registry = Registry::with_prefix("catchment");
    registry.register("build", "The running build", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    text_of(&registry)
}

/// A registry's families, without an end.
pub(crate) fn text_of(registry: &Registry) -> String {
    let mut text = String::new();
    encode_registry(&mut text, registry).expect("a string takes all text");
    text
}

fn registered<M: prometheus_client::registry::Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use catchment_formats::LaneId;

    use super::*;
    use crate::store::{RequestObserver as _, StoreErrorKind};

    fn metrics() -> Metrics {
        let requests = Arc::new(RequestMetrics::default());
        Metrics::new("parquet", &MemoryBudget::new(100), requests)
    }

    #[test]
    fn what_was_counted_is_shown_with_its_labels() {
        let metrics = metrics();
        metrics.gap(GapCause::Retention);
        metrics.requests().request("PutObject", 200, Duration::from_millis(3));
        metrics.requests().retry("PutObject", StoreErrorKind::Unknown);
        let text = metrics.render(0);
        for line in [
            "catchment_gaps_total{cause=\"retention\"} 1",
            "catchment_store_requests_total{op=\"PutObject\",code=\"200\"} 1",
            "catchment_store_retries_total{op=\"PutObject\",reason=\"unknown\"} 1",
            "catchment_store_request_duration_seconds_count{op=\"PutObject\"} 1",
            "catchment_memory_budget_bytes 100",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
        assert!(text.contains("catchment_build_info{version="), "{text}");
    }

    #[test]
    fn lag_is_that_of_living_runs_and_what_was_read_stays_counted() {
        use std::sync::atomic::Ordering::Relaxed;
        let metrics = metrics();
        let tp = TopicPartition { topic: Arc::from("t"), partition: 0 };
        let lane = LaneId { rule: "r".into(), cluster: "c".into(), topic: "t".into(), topic_id: "0".into(), partition: 0 };
        let run = Run::new(1, lane.clone(), 10);
        metrics.track(&tp, &run);
        run.log_end.store(15, Relaxed);
        run.last_timestamp.store(4_000, Relaxed);
        run.records_read.store(7, Relaxed);
        let text = metrics.render(6_500);
        for line in ["catchment_lag_records 5", "catchment_lag_seconds 2.5", "catchment_records_read_total 7"] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
        metrics.track(&tp, &Run::new(2, lane, 15));
        let text = metrics.render(6_500);
        assert!(!text.contains("time_to_data_loss"), "nobody knows how long: {text}");
        for line in ["catchment_lag_records 0", "catchment_lag_seconds 0.0", "catchment_records_read_total 7"] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn what_was_read_stays_counted_when_a_lane_has_gone() {
        let metrics = metrics();
        let lane = LaneId { rule: "r".into(), cluster: "c".into(), topic: "t".into(), topic_id: "0".into(), partition: 0 };
        for read in [7, 5] {
            let run = Run::new(1, lane.clone(), 10);
            metrics.track(&TopicPartition { topic: Arc::from("t"), partition: 0 }, &run);
            run.records_read.fetch_add(read, std::sync::atomic::Ordering::Relaxed);
        }
        assert_eq!(metrics.progress(0).records, 12);
    }

    #[test]
    fn the_time_to_a_loss_is_that_of_the_lane_that_is_nearest_to_it() {
        use std::sync::atomic::Ordering::Relaxed;
        let metrics = metrics();
        let lane = LaneId { rule: "r".into(), cluster: "c".into(), topic: "t".into(), topic_id: "0".into(), partition: 0 };
        let runs: Vec<_> = [("t", 0), ("t", 1), ("kept", 0)]
            .into_iter()
            .map(|(topic, partition)| {
                let run = Run::new(1, LaneId { topic: topic.into(), partition, ..lane.clone() }, 10);
                metrics.track(&TopicPartition { topic: Arc::from(topic), partition }, &run);
                run
            })
            .collect();
        let shows = |value: &str| {
            let (text, line) = (metrics.render(60_000), format!("catchment_time_to_data_loss_seconds {value}"));
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        };
        metrics.note_retention(&Arc::from("t"), Some(100_000));
        shows("100.0");
        // Behind: the next record may be as old as the last one that was read.
        runs[1].log_end.store(15, Relaxed);
        runs[1].last_timestamp.store(20_000, Relaxed);
        shows("60.0");
        // Further behind, but nobody knows how long that topic is kept.
        runs[2].log_end.store(15, Relaxed);
        runs[2].last_timestamp.store(1, Relaxed);
        shows("60.0");
        metrics.note_retention(&Arc::from("t"), Some(30_000));
        shows("0.0");
        metrics.note_retention(&Arc::from("t"), None);
        assert!(!metrics.render(60_000).contains("time_to_data_loss"));
    }
}
