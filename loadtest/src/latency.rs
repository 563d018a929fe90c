//! Latencies in an HdrHistogram, corrected for coordinated omission.
//!
//! A sender that waits for a slow broker sends fewer records while it is slow, and what it does not send is not measured: the coordinated omission.
//! Here each record is measured from the time at which it was due by the [`Schedule`](crate::schedule::Schedule), however late it was sent; so a
//! pause of the broker shows in every record that should have been sent meanwhile, and nothing need be made up afterwards.
//!
//! Without a rate nothing is due: records are then measured from when they were sent, and the report says so.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest latency that is told apart; longer ones count as this.
const LONGEST: Duration = Duration::from_secs(3600);

/// Significant digits: an error of 0.1 %.
const DIGITS: u8 = 3;

/// Latencies so far.
#[derive(Clone, Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    /// None yet.
    pub fn new() -> Self {
        let longest = u64::try_from(LONGEST.as_micros()).unwrap_or(u64::MAX);
        Self { histogram: Histogram::new_with_bounds(1, longest, DIGITS).expect("the bounds are of a histogram") }
    }

    /// Adds a record that was due and was acknowledged then, both counted from the start.
    pub fn record(&mut self, due: Duration, acknowledged: Duration) {
        self.add(acknowledged.saturating_sub(due));
    }

    /// Adds a latency.
    pub fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.min(LONGEST).as_micros()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(micros.max(1));
    }

    /// Its figures, if there are any.
    pub fn summary(&self) -> Option<LatencySummary> {
        let quantile = |q: f64| self.histogram.value_at_quantile(q) as f64 / 1000.0;
        (!self.histogram.is_empty()).then(|| LatencySummary {
            count: self.histogram.len(),
            mean_ms: self.histogram.mean() / 1000.0,
            p50_ms: quantile(0.5),
            p90_ms: quantile(0.9),
            p99_ms: quantile(0.99),
            p999_ms: quantile(0.999),
            max_ms: self.histogram.max() as f64 / 1000.0,
        })
    }
}

/// Figures of a histogram, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// How many were measured.
    pub count: u64,
    /// Their mean.
    pub mean_ms: f64,
    /// Half of them were shorter.
    pub p50_ms: f64,
    /// Nine in ten.
    pub p90_ms: f64,
    /// Ninety-nine in a hundred.
    pub p99_ms: f64,
    /// 999 in a thousand.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Schedule;
    use crate::units::Rate;

    fn near(found: f64, expected: f64) -> bool {
        (found - expected).abs() <= expected * 0.002
    }

    /// A broker that answers in 1 ms, but for one pause of a second, in ten seconds at 1000 records in a second.
    fn paused(measured_from: impl Fn(Duration, Duration) -> Duration) -> LatencySummary {
        let (mut schedule, mut latencies) = (Schedule::new(Some(Rate::Records(1000))), Latencies::new());
        let pause = Duration::from_secs(4)..Duration::from_secs(5);
        while schedule.records() < 10_000 {
            let due = schedule.due().expect("there is a rate");
            let sent = if pause.contains(&due) { pause.end } else { due };
            latencies.record(measured_from(due, sent), sent + Duration::from_millis(1));
            schedule.advance(100);
        }
        latencies.summary().expect("there are latencies")
    }

    #[test]
    fn a_pause_shows_in_every_record_that_was_due_meanwhile() {
        let corrected = paused(|due, _| due);
        assert!(near(corrected.p50_ms, 1.0) && near(corrected.max_ms, 1001.0), "{corrected:?}");
        // One in ten was due within the pause; of these one in ten waited for more than 900 ms.
        assert!(near(corrected.p99_ms, 901.0), "{corrected:?}");
        let naive = paused(|_, sent| sent);
        assert!(near(naive.p999_ms, 1.0) && near(naive.max_ms, 1.0), "measured from the sending, the pause is not seen: {naive:?}");
    }

    #[test]
    fn extremes_are_kept_within_the_bounds() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.summary(), None);
        latencies.record(Duration::from_secs(5), Duration::from_secs(4));
        latencies.add(Duration::MAX);
        let summary = latencies.summary().expect("there are two");
        assert_eq!(summary.count, 2);
        assert!(near(summary.max_ms, 3_600_000.0) && near(summary.p50_ms, 0.001), "{summary:?}");
    }
}
