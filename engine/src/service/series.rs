//! How fast each rule reads and how far it is behind, over the last half hour: what charts show.
//!
//! Place in the flow: beside the [supervisor](super::supervisor), whose rules' counters it looks at every few seconds. In memory alone: it begins anew with
//! the process, and metrics are there for longer times. Bounded by the number of rules, about 14 KB each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use utoipa::ToSchema;

use super::changes::now_ms;
use super::supervisor::Supervisor;
use crate::metrics::{Metrics, Progress};

/// From one look to the next.
const INTERVAL: Duration = Duration::from_secs(5);

/// Looks that are kept of a rule: half an hour.
const POINTS_MAX: usize = 360;

/// A rule at one moment.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, ToSchema)]
pub struct Point {
    /// When, ms since 1970.
    pub at_ms: i64,
    /// Records read in a second, on average since the point before.
    pub records_per_second: f64,
    /// Bytes of their keys, values and headers.
    pub bytes_per_second: f64,
    /// Records between the positions and the ends last seen.
    pub lag_records: i64,
    /// Age of the last record read by the partition that is furthest behind, in seconds.
    pub lag_seconds: f64,
}

/// The points of all rules.
#[derive(Debug, Default)]
pub struct Series {
    rules: Mutex<BTreeMap<String, Track>>,
}

/// One rule's points.
#[derive(Debug, Default)]
struct Track {
    points: VecDeque<Point>,
    /// What was counted when, by which run.
    last: Option<(i64, Progress, Arc<Metrics>)>,
}

impl Track {
    /// Rates need two looks at the same run; the first one of a run is remembered only.
    fn look(&mut self, at_ms: i64, metrics: Option<&Arc<Metrics>>) {
        let Some(metrics) = metrics else {
            self.last = None;
            return;
        };
        let now = metrics.progress(at_ms);
        let before = self.last.replace((at_ms, now, Arc::clone(metrics))).filter(|(_, _, run)| Arc::ptr_eq(run, metrics));
        if let Some((then_ms, then, _)) = before.filter(|(then_ms, ..)| *then_ms < at_ms) {
            let seconds = (at_ms - then_ms) as f64 / 1000.0;
            let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
            self.points.push_back(Point {
                at_ms,
                records_per_second: rate(now.records, then.records),
                bytes_per_second: rate(now.bytes, then.bytes),
                lag_records: now.lag.records,
                lag_seconds: now.lag.seconds,
            });
        }
        if self.points.len() > POINTS_MAX {
            self.points.pop_front();
        }
    }
}

impl Series {
    fn rules(&self) -> MutexGuard<'_, BTreeMap<String, Track>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A rule's points, oldest first; none of a rule that does not run, or has just begun to.
    pub fn of(&self, rule: &str) -> Vec<Point> {
        self.rules().get(rule).map(|track| track.points.iter().copied().collect()).unwrap_or_default()
    }

    /// Looks at all rules again and again.
    pub async fn watch(&self, supervisor: &Supervisor) {
        loop {
            self.look(now_ms(), &supervisor.running());
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Looks at each rule once. One that is gone is forgotten.
    fn look(&self, at_ms: i64, running: &BTreeMap<String, Option<Arc<Metrics>>>) {
        let mut rules = self.rules();
        rules.retain(|name, _| running.contains_key(name));
        for (name, metrics) in running {
            rules.entry(name.clone()).or_default().look(at_ms, metrics.as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use catchment_formats::LaneId;

    use super::*;
    use crate::budget::MemoryBudget;
    use crate::metrics::RequestMetrics;
    use crate::segment::Run;
    use crate::source::TopicPartition;

    fn running() -> (Arc<Metrics>, Arc<Run>) {
        let metrics = Arc::new(Metrics::new("parquet", &MemoryBudget::new(100), Arc::new(RequestMetrics::default())));
        let lane = LaneId { rule: "r".into(), cluster: "c".into(), topic: "t".into(), topic_id: "0".into(), partition: 0 };
        let run = Run::new(1, lane, 0);
        metrics.track(&TopicPartition { topic: Arc::from("t"), partition: 0 }, &run);
        (metrics, run)
    }

    #[test]
    fn rates_are_those_between_two_looks_at_one_run() {
        let (series, (metrics, run)) = (Series::default(), running());
        let rules = [("r".to_owned(), Some(metrics))].into();
        series.look(1_000, &rules);
        assert_eq!(series.of("r"), [], "one look gives no rate");
        run.records_read.store(50, Relaxed);
        series.look(6_000, &rules);
        assert_eq!(series.of("r").iter().map(|p| (p.at_ms, p.records_per_second)).collect::<Vec<_>>(), [(6_000, 10.0)]);
        series.look(11_000, &[("r".to_owned(), Some(running().0))].into());
        assert_eq!(series.of("r").len(), 1, "another run counts from 0 again");
        series.look(16_000, &[("r".to_owned(), None)].into());
        assert_eq!(series.of("r").len(), 1, "what was seen stays");
        series.look(21_000, &BTreeMap::new());
        assert_eq!(series.of("r"), [], "the rule is gone");
    }

    #[test]
    fn half_an_hour_is_kept() {
        let (series, (metrics, _run)) = (Series::default(), running());
        let rules = [("r".to_owned(), Some(metrics))].into();
        (0..2 * POINTS_MAX as i64).for_each(|n| series.look(n * 5_000, &rules));
        assert_eq!(series.of("r").len(), POINTS_MAX);
        assert_eq!(series.of("r").last().map(|p| p.at_ms), Some((2 * POINTS_MAX as i64 - 1) * 5_000));
    }
}
