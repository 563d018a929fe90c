//! What a running backup shows: a line for each window in a pipe, one moving line on a terminal, messages on stderr.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::{LaneNote, Reporter, WindowCommitted};
use crate::runtime::{Observer, Started};
use crate::source::TopicPartition;

/// How often the moving line is drawn.
const TICK: Duration = Duration::from_millis(200);

/// How often a store that does not answer is mentioned, by the number of its failures: 1, 2, 4, 8, ...
fn is_worth_a_line(failures: u64) -> bool {
    failures.is_power_of_two()
}

/// The observer of the command line.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    totals: Mutex<Totals>,
}

#[derive(Debug, Default)]
struct Totals {
    objects: u64,
    records: u64,
    bytes: u64,
    failures: u64,
}

impl Progress {
    /// A moving line if stderr is a terminal.
    pub(super) fn new(quiet: bool) -> Self {
        let bar = (std::io::stderr().is_terminal() && !quiet).then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(TICK);
            bar.set_message("starting");
            bar
        });
        Self { bar, totals: Mutex::default() }
    }

    /// Ends the moving line.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let totals = self.totals();
        tracing::info!("{} objects, {} records, {} bytes", totals.objects, totals.records, totals.bytes);
    }

    fn totals(&self) -> std::sync::MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn message(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tracing::warn!("{text}")),
            None => tracing::warn!("{text}"),
        }
    }
}

impl Observer for Progress {
    fn started(&self, started: &Started) {
        tracing::info!(
            store = started.store,
            guard = started.classes,
            member = started.member.as_deref().unwrap_or("dynamic"),
            topics = started.topics.len(),
            partitions = started.partitions,
            "backup runs"
        );
    }
}

impl Reporter for Progress {
    fn window(&self, window: &WindowCommitted) {
        let mut totals = self.totals();
        totals.objects += 1;
        totals.records += window.records;
        totals.bytes += window.bytes;
        totals.failures = 0;
        if let Some(bar) = &self.bar {
            bar.set_message(format!(
                "{} objects, {} records, {:.1} MiB; last {} {}",
                totals.objects,
                totals.records,
                totals.bytes as f64 / (1024.0 * 1024.0),
                window.tp,
                window.range
            ));
        } else {
            let line = format!(
                "{} {} {} records {} bytes {} in {} ms {}\n",
                window.tp,
                window.range,
                window.records,
                window.bytes,
                window.reason.as_str(),
                window.delay_ms,
                window.key
            );
            // A reader that went away is no reason to stop a backup.
            let _ = std::io::stdout().write_all(line.as_bytes());
        }
    }

    fn lane(&self, tp: &TopicPartition, note: LaneNote<'_>) {
        match note {
            LaneNote::Waiting(error) => {
                let mut totals = self.totals();
                totals.failures += 1;
                let worth = is_worth_a_line(totals.failures);
                drop(totals);
                if worth {
                    self.message(&format!("{tp}: waiting for the store: {error}"));
                }
            }
            LaneNote::Restarted(why) => self.message(&format!("{tp}: starting again: {why}")),
            LaneNote::Recovering(intent) => {
                tracing::info!("{tp}: finishing the pinned window [{}, {}) as {}", intent.start, intent.end, intent.key);
            }
            LaneNote::Gap(gap) => {
                self.message(&format!("{tp}: GAP {} is missing ({}); it is listed in the next object", gap.range(), gap.cause().as_str()));
            }
            LaneNote::ResumedFromAnchor { anchor, position } => {
                self.message(&format!("{tp}: the group had no offset; going on at {position}, found from the anchor at {anchor}"));
            }
            LaneNote::AwaitingLog { position, log_end } => {
                self.message(&format!("{tp}: waiting until the log, which ends at {log_end}, has passed {position}"));
            }
            LaneNote::Outwaiting(left) => {
                self.message(&format!("{tp}: a full copy of the pinned window may still arrive; waiting {} s", left.as_secs()));
            }
            LaneNote::Stopped(error) => match &self.bar {
                Some(bar) => bar.suspend(|| tracing::error!("{tp}: stopped: {error}")),
                None => tracing::error!("{tp}: stopped: {error}"),
            },
            LaneNote::Finished => tracing::debug!("{tp}: read to its end"),
        }
    }
}
