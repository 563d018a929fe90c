//! Writes down what rules report, on a thread of its own.
//!
//! Place in the flow: between the [observers](super::observer), whose threads must not wait, and the [state](super::state). What is written is also said
//! on stderr. The queue is bounded: if the disk, or who reads stderr, is too slow, entries are dropped and counted, and the log says so; the objects say
//! the same for ever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::state::{Entry, State};
use crate::error::{Error, ErrorKind, Result, codes};

/// What may wait to be written: hours of windows.
const QUEUED_MAX: usize = 16 << 10;

/// What is written in one transaction at most.
const BATCH_MAX: usize = 512;

/// After so many entries of a rule its oldest ones are forgotten: often enough for little more than what is kept, seldom enough to cost nothing.
const PRUNE_AFTER: u64 = 1_000;

/// How long the end of the process waits for what is still to be written.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

enum Message {
    Entry(Entry),
    /// Answered once everything before it is written.
    Flush(Sender<()>),
}

/// Writes down what rules report. Its thread ends with the last clone.
#[derive(Clone, Debug)]
pub struct Journal {
    queue: Sender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Journal {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(state: Arc<State>) -> Result<Self> {
        let (queue, messages) = bounded(QUEUED_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer { state, dropped: Arc::clone(&dropped), dropped_said: 0, since_pruned: BTreeMap::new() };
        let thread = std::thread::Builder::new().name("journal".into());
        thread
            .spawn(move || writer.run(&messages))
            .map_err(|e| Error::new(codes::THREAD, ErrorKind::Retryable, "a thread cannot be started").because(e))?;
        Ok(Self { queue, dropped })
    }

    /// Hands something over. Never waits.
    pub(super) fn put(&self, entry: Entry) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Message::Entry(entry)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was handed over is written, or for as long as an end may take. Blocks.
    pub(super) fn flush(&self) {
        let (done, written) = bounded(1);
        if self.queue.send_timeout(Message::Flush(done), FLUSH_DEADLINE).is_err() || written.recv_timeout(FLUSH_DEADLINE).is_err() {
            tracing::warn!("not all that rules have reported was written down");
        }
    }
}

/// The thread's own.
struct Writer {
    state: Arc<State>,
    dropped: Arc<AtomicU64>,
    dropped_said: u64,
    since_pruned: BTreeMap<String, u64>,
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(first) = messages.recv() {
            let (mut entries, mut flushed) = (Vec::new(), Vec::new());
            for message in std::iter::once(first).chain(messages.try_iter().take(BATCH_MAX - 1)) {
                match message {
                    Message::Entry(entry) => entries.push(entry),
                    Message::Flush(done) => flushed.push(done),
                }
            }
            self.write(&entries);
            for done in flushed {
                // Whoever has stopped waiting needs no answer.
                let _ = done.try_send(());
            }
        }
    }

    fn write(&mut self, entries: &[Entry]) {
        entries.iter().for_each(say);
        if let Err(e) = self.state.write(entries) {
            tracing::warn!(error = %e, entries = entries.len(), "what rules reported could not be written down");
        }
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > self.dropped_said {
            tracing::warn!(entries = dropped - self.dropped_said, "the disk is too slow: what rules reported was dropped");
            self.dropped_said = dropped;
        }
        for entry in entries {
            *self.since_pruned.entry(entry.rule().to_owned()).or_default() += 1;
        }
        let due: Vec<String> = self.since_pruned.iter().filter(|(_, n)| **n >= PRUNE_AFTER).map(|(rule, _)| rule.clone()).collect();
        for rule in due {
            self.since_pruned.remove(&rule);
            if let Err(e) = self.state.prune(&rule) {
                tracing::warn!(error = %e, rule, "old entries could not be forgotten");
            }
        }
    }
}

/// The same as a message of the process: who keeps its stderr has everything there, too.
fn say(entry: &Entry) {
    let rule = entry.rule();
    match entry {
        Entry::Window(_, w) => {
            let window = format!("[{}, {})", w.start, w.end);
            let (topic, partition, key) = (w.topic.as_str(), w.partition, w.key.as_str());
            tracing::info!(rule, topic, partition, window, key, records = w.records, bytes = w.bytes, reason = w.reason, "stored");
        }
        // Its line says it.
        Entry::Gap(..) => {}
        Entry::Line(_, line) => {
            let (topic, partition, code) = (line.topic.as_deref(), line.partition, line.code.as_deref());
            match line.level.as_str() {
                "error" => tracing::error!(rule, topic, partition, code, "{}", line.text),
                "warn" => tracing::warn!(rule, topic, partition, code, "{}", line.text),
                _ => tracing::info!(rule, topic, partition, code, "{}", line.text),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{LogLine, Origin, StoredWindow};
    use super::*;

    /// The messages of a call as `--log-format json` has them.
    fn heard(call: impl FnOnce()) -> Vec<serde_json::Value> {
        #[derive(Clone, Default)]
        struct Ear(Arc<std::sync::Mutex<Vec<u8>>>);
        impl std::io::Write for Ear {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let ear = Ear::default();
        let written = Arc::clone(&ear.0);
        let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || ear.clone()).finish();
        tracing::subscriber::with_default(log, call);
        let bytes = written.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn what_is_said_names_rule_topic_partition_and_window() {
        let line = LogLine {
            id: 0,
            at_ms: 1,
            level: "warn".into(),
            topic: Some("t".into()),
            partition: Some(3),
            code: Some("C0301".into()),
            text: "waiting".into(),
            worker: None,
        };
        let window = StoredWindow {
            id: 0,
            version: 1,
            topic: "t".into(),
            partition: 3,
            start: 5,
            end: 9,
            key: "k".into(),
            bytes: 7,
            records: 4,
            reason: "clock".into(),
            late: 0,
            delay_ms: 1,
            at_ms: 1,
            worker: None,
        };
        let lines = heard(|| {
            say(&Entry::Line("r".into(), line));
            say(&Entry::Window("r".into(), window));
        });
        for line in &lines {
            assert_eq!(
                (line["rule"].as_str(), line["topic"].as_str(), line["partition"].as_i64()),
                (Some("r"), Some("t"), Some(3)),
                "{line}"
            );
        }
        assert_eq!((&lines[0]["level"], &lines[0]["code"], &lines[0]["message"]), (&"WARN".into(), &"C0301".into(), &"waiting".into()));
        assert_eq!((&lines[1]["window"], &lines[1]["records"], &lines[1]["key"]), (&"[5, 9)".into(), &4.into(), &"k".into()));
    }

    #[test]
    fn what_was_handed_over_is_written_when_a_flush_returns() {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(State::open(&dir.path().join("state.db")).unwrap());
        state.create("a", "{}", Origin::Api, "me", 1).unwrap();
        let journal = Journal::start(Arc::clone(&state)).unwrap();
        for n in 0..2_000 {
            let line =
                LogLine { id: 0, at_ms: n, level: "info".into(), topic: None, partition: None, code: None, text: "x".into(), worker: None };
            journal.put(Entry::Line("a".into(), line));
        }
        journal.flush();
        assert_eq!(state.log("a", Some(0), 10_000).unwrap().len(), 2_000);
    }
}
