//! What a running backup shows: a line for each window on stdout where that is a pipe or a file, a moving line on stderr where that is a
//! terminal, messages on stderr.
//!
//! Whoever reads may read slowly, or not at all for a while: a pager, a terminal that was stopped, a full disk. The threads that move data
//! must not wait for that, so they only leave what is to be shown in a queue, and a thread of its own shows it.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use indicatif::{ProgressBar, ProgressStyle};
use tracing::Level;

use super::output::LogFormat;
use crate::error::{Error, ErrorKind, Result, codes};
use crate::report::{LaneNote, Reporter, WindowCommitted};
use crate::runtime::{Observer, Started};
use crate::source::TopicPartition;

/// How often the moving line is drawn.
const TICK: Duration = Duration::from_millis(200);

/// What may wait to be shown. That is hours of windows and some 20 MB; beyond it lines are dropped and counted.
const QUEUED_MAX: usize = 64 << 10;

/// How long the end waits for the reader. With everything else a stop takes less than 10 s.
const FINISH_WAIT: Duration = Duration::from_millis(300);

/// How often a store that does not answer is mentioned, by the number of its failures: 1, 2, 4, 8, ...
fn is_worth_a_line(failures: u64) -> bool {
    failures.is_power_of_two()
}

/// How a backup is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// No moving line.
    pub quiet: bool,
    /// The form of messages and lines.
    pub form: LogFormat,
}

/// Something to show.
#[derive(Debug)]
enum Shown {
    Window { line: String, summary: String },
    Message(Level, TopicPartition, String),
    End,
}

/// The observer of the command line.
#[derive(Debug)]
pub(super) struct Progress {
    rule: String,
    form: LogFormat,
    queue: Sender<Shown>,
    queued_max: usize,
    dropped: Arc<AtomicU64>,
    /// Is disconnected once all is shown.
    shown: Receiver<()>,
    totals: Mutex<Totals>,
}

#[derive(Debug, Default)]
struct Totals {
    objects: u64,
    records: u64,
    bytes: u64,
    failures: u64,
}

/// Where things are shown. One thread has it.
struct Screen {
    rule: String,
    form: LogFormat,
    lines: Option<Box<dyn Write + Send>>,
    bar: Option<ProgressBar>,
}

impl Screen {
    fn of_process(rule: &str, Manner { quiet, form }: Manner) -> Self {
        let stdout = std::io::stdout();
        let lines = (!stdout.is_terminal()).then(|| Box::new(stdout) as Box<dyn Write + Send>);
        Self { rule: rule.to_owned(), form, lines, bar: (std::io::stderr().is_terminal() && !quiet).then(moving_line) }
    }

    fn show(&mut self, queue: &Receiver<Shown>, dropped: &AtomicU64) {
        loop {
            match queue.recv() {
                Ok(Shown::Window { line, summary }) => self.window(&line, summary),
                Ok(Shown::Message(level, tp, text)) => self.shown(|| say(&self.rule, self.form, level, &tp, &text)),
                Ok(Shown::End) | Err(_) => break,
            }
            if queue.is_empty() {
                self.mention(dropped);
            }
        }
        self.mention(dropped);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn window(&mut self, line: &str, summary: String) {
        // A reader that went away is no reason to stop a backup.
        if self.lines.as_mut().is_some_and(|lines| lines.write_all(line.as_bytes()).and_then(|()| lines.flush()).is_err()) {
            self.lines = None;
        }
        if let Some(bar) = &self.bar {
            bar.set_message(summary);
        }
    }

    /// A message, with the moving line out of its way.
    fn shown(&self, say: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }

    fn mention(&self, dropped: &AtomicU64) {
        match dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            n => self.shown(|| tracing::warn!("{n} lines were not shown: the output is read too slowly; nothing else was lost")),
        }
    }
}

/// A message about a lane. A reader of JSON has what it is about in keys of its own, others before the text.
fn say(rule: &str, form: LogFormat, level: Level, tp: &TopicPartition, text: &str) {
    let (topic, partition) = (&*tp.topic, tp.partition);
    match (form, level) {
        (LogFormat::Json, Level::ERROR) => tracing::error!(rule, topic, partition, "{text}"),
        (LogFormat::Json, Level::WARN) => tracing::warn!(rule, topic, partition, "{text}"),
        (LogFormat::Json, _) => tracing::info!(rule, topic, partition, "{text}"),
        (LogFormat::Text, Level::ERROR) => tracing::error!("{tp}: {text}"),
        (LogFormat::Text, Level::WARN) => tracing::warn!("{tp}: {text}"),
        (LogFormat::Text, _) => tracing::info!("{tp}: {text}"),
    }
}

/// Lanes that may pass the limit of lines at the same moment.
const ROOM_FOR_THE_END: usize = 64;

fn moving_line() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(TICK);
    bar.set_message("starting");
    bar
}

impl Progress {
    /// Shows on this process's stdout and stderr.
    ///
    /// # Errors
    /// C0120 if the thread cannot be started.
    pub(super) fn new(rule: &str, manner: Manner) -> Result<Self> {
        Self::on(Screen::of_process(rule, manner), QUEUED_MAX)
    }

    fn on(mut screen: Screen, queued_max: usize) -> Result<Self> {
        // Lines stop at `queued_max`; the end still has room then.
        let (queue, waiting) = crossbeam_channel::bounded(queued_max + ROOM_FOR_THE_END);
        let (alive, shown) = crossbeam_channel::bounded(0);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&dropped);
        let (rule, form) = (screen.rule.clone(), screen.form);
        let show = move || {
            let _alive: Sender<()> = alive;
            screen.show(&waiting, &count);
        };
        std::thread::Builder::new().name("screen".into()).spawn(show).map_err(|e| {
            Error::new(codes::THREAD, ErrorKind::Retryable, "a thread cannot be started").because(e).help("check ulimit -u")
        })?;
        Ok(Self { rule, form, queue, queued_max, dropped, shown, totals: Mutex::default() })
    }

    fn show(&self, shown: Shown) {
        // Never waits: whoever calls this has data to move.
        if self.queue.len() >= self.queued_max || self.queue.try_send(shown).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends the moving line, and waits a moment for what is not shown yet.
    pub(super) fn finish(&self) {
        // The thread ends by itself if the queue is gone.
        let _ = self.queue.try_send(Shown::End);
        if self.shown.recv_timeout(FINISH_WAIT) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            tracing::warn!("the output is read too slowly: {} lines were not shown", self.queue.len());
        }
        let totals = self.totals();
        tracing::info!("{} objects, {} records, {} bytes", totals.objects, totals.records, totals.bytes);
    }

    fn totals(&self) -> std::sync::MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn message(&self, level: Level, tp: &TopicPartition, text: String) {
        self.show(Shown::Message(level, tp.clone(), text));
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

/// A window as a line of stdout.
fn line_of(rule: &str, form: LogFormat, window: &WindowCommitted) -> String {
    let (tp, reason) = (&window.tp, window.reason.as_str());
    if form == LogFormat::Json {
        let line = serde_json::json!({
            "rule": rule,
            "topic": &*tp.topic,
            "partition": tp.partition,
            "window": window.range.to_string(),
            "records": window.records,
            "bytes": window.bytes,
            "reason": reason,
            "delay_ms": window.delay_ms,
            "key": window.key,
        });
        return format!("{line}\n");
    }
    let WindowCommitted { range, records, bytes, delay_ms, key, .. } = window;
    format!("{tp} {range} {records} records {bytes} bytes {reason} in {delay_ms} ms {key}\n")
}

impl Reporter for Progress {
    fn window(&self, window: &WindowCommitted) {
        let mut totals = self.totals();
        totals.objects += 1;
        totals.records += window.records;
        totals.bytes += window.bytes;
        totals.failures = 0;
        let summary = format!(
            "{} objects, {} records, {:.1} MiB; last {} {}",
            totals.objects,
            totals.records,
            totals.bytes as f64 / (1024.0 * 1024.0),
            window.tp,
            window.range
        );
        drop(totals);
        self.show(Shown::Window { line: line_of(&self.rule, self.form, window), summary });
    }

    fn lane(&self, tp: &TopicPartition, note: LaneNote<'_>) {
        match note {
            LaneNote::Waiting(error) => {
                let mut totals = self.totals();
                totals.failures += 1;
                let worth = is_worth_a_line(totals.failures);
                drop(totals);
                if worth {
                    let told = Error::from(error.clone());
                    let next = told.help.unwrap_or_default();
                    self.message(Level::WARN, tp, format!("waiting for the store: {}: {error}; {next}", told.code));
                }
            }
            LaneNote::Restarted(why) => self.message(Level::WARN, tp, format!("starting again: {why}")),
            LaneNote::Panicked(error) => self.message(Level::ERROR, tp, error.to_string()),
            LaneNote::Recovering(intent) => {
                let text = format!("finishing the pinned window [{}, {}) as {}", intent.start, intent.end, intent.key);
                self.message(Level::INFO, tp, text);
            }
            LaneNote::Gap(gap) => {
                self.message(
                    Level::WARN,
                    tp,
                    format!("GAP {} is missing ({}); it is listed in the next object", gap.range(), gap.cause().as_str()),
                );
            }
            LaneNote::ResumedFromAnchor { anchor, position } => {
                self.message(
                    Level::WARN,
                    tp,
                    format!("the group had no offset; going on at {position}, found from the anchor at {anchor}"),
                );
            }
            LaneNote::AwaitingLog { position, log_end } => {
                self.message(Level::WARN, tp, format!("waiting until the log, which ends at {log_end}, has passed {position}"));
            }
            LaneNote::Outwaiting(left) => {
                self.message(Level::WARN, tp, format!("a full copy of the pinned window may still arrive; waiting {} s", left.as_secs()));
            }
            LaneNote::Stopped(error) => self.message(Level::ERROR, tp, format!("stopped: {error}")),
            LaneNote::Finished => tracing::debug!("{tp}: read to its end"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{StoreError, StoreErrorKind};
    use crate::window::CloseReason;

    /// Takes nothing until the gate is opened.
    struct Slow {
        gate: Receiver<()>,
        taken: Arc<Mutex<String>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.gate.recv();
            self.taken.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn tp() -> TopicPartition {
        TopicPartition { topic: "orders".into(), partition: 3 }
    }

    fn window(start: i64) -> WindowCommitted {
        WindowCommitted {
            tp: tp(),
            range: catchment_formats::OffsetRange::new(start, start + 1),
            key: format!("orders/{start}"),
            bytes: 7,
            records: 1,
            value_bytes: 1,
            reason: CloseReason::Clock,
            late: 0,
            missing: Vec::new(),
            delay_ms: 5,
            requests: 1,
        }
    }

    #[test]
    fn a_reader_that_stands_still_holds_nobody_up_and_what_is_dropped_is_counted() {
        let (open, gate) = crossbeam_channel::bounded(0);
        let taken = Arc::new(Mutex::new(String::new()));
        let lines = Some(Box::new(Slow { gate, taken: Arc::clone(&taken) }) as Box<dyn Write + Send>);
        let screen = Screen { rule: "r".into(), form: LogFormat::Text, lines, bar: None };
        let progress = Progress::on(screen, 10).unwrap();
        // Would stand still for ever if this thread waited for the reader.
        (0..100).for_each(|start| progress.window(&window(start)));
        let dropped = progress.dropped.load(Ordering::Relaxed);
        assert!((89..=90).contains(&dropped), "ten wait, and one may be on its way: {dropped}");
        drop(open);
        progress.finish();
        // It waits for the screen for a moment only. This ends when that thread has.
        let _ended = progress.shown.recv();
        let shown = taken.lock().unwrap().lines().count() as u64;
        assert_eq!(shown + dropped, 100);
        assert_eq!(progress.dropped.load(Ordering::Relaxed), 0, "it was mentioned");
        assert_eq!(progress.totals().objects, 100, "and counted all the same");
    }

    #[test]
    fn a_store_that_is_waited_for_is_named_with_its_code_and_the_next_step() {
        let (queue, waiting) = crossbeam_channel::bounded(10);
        let (_alive, shown) = crossbeam_channel::bounded(0);
        let (rule, form) = ("r".to_owned(), LogFormat::Text);
        let progress = Progress { rule, form, queue, queued_max: 10, dropped: Arc::default(), shown, totals: Mutex::default() };
        let error = StoreError::new(StoreErrorKind::Denied, "PutObject", "k", "HTTP 403 AccessDenied");
        progress.lane(&tp(), LaneNote::Waiting(&error));
        let Ok(Shown::Message(Level::WARN, about, text)) = waiting.try_recv() else { panic!("a message") };
        assert_eq!(about, tp());
        for part in ["waiting for the store", "C0301", "AccessDenied", "grant PutObject"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
