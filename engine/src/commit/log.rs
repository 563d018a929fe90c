//! The log behind a lane: whether it reaches as far as what was backed up, and what becomes of a log that was cut (rule A5).
//!
//! Guarantee: a log that is short is waited for, then asked about, never reset over; what a truncation took is remembered by the group's note
//! until an object lists it.

use std::time::Duration;

use catchment_formats::{GapCause, Missing};

use super::driver::{Exit, Lane};
use crate::clock::Backoff;
use crate::config::Accept;
use crate::decision::truncated_from;
use crate::error::{Error, ErrorKind, codes};
use crate::intent::Intent;
use crate::limits::LOG_END_WAIT;
use crate::report::LaneNote;
use crate::source::{LastRead, LogBounds};

/// A log that is too short, for how long, and how short it was.
struct ShortLog {
    since: Option<Duration>,
    lowest: i64,
}

impl Default for ShortLog {
    fn default() -> Self {
        Self { since: None, lowest: i64::MAX }
    }
}

impl Lane {
    /// The partition's extent, once its readable end has reached `offset` (rule A5: wait, then ask). `pinned` is the intent that is open.
    pub(super) async fn bounds_reaching(&mut self, offset: i64, pinned: Option<&Intent>) -> Result<LogBounds, Exit> {
        let mut short = ShortLog::default();
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            match self.env.source.bounds(&self.lease.tp).await {
                Ok(bounds) if bounds.stable_end >= offset => return Ok(bounds),
                // A transaction that hangs holds the readable end back for as long as it hangs; the records are there.
                Ok(bounds) if bounds.end >= offset => short.since = None,
                Ok(bounds) => self.await_log(&mut short, offset, &bounds, pinned).await?,
                Err(e) if matches!(e.kind, ErrorKind::Retryable | ErrorKind::Unreachable) => {
                    tracing::warn!(error = %e, "the partition's extent is not known yet");
                    // A broker that has just come back may lag like a new leader.
                    short.since = None;
                }
                Err(e) => return Err(e.into()),
            }
            backoff.wait(&*self.env.clock).await;
        }
    }

    /// A log that ends below what was backed up: a lagging high watermark for a while, a truncated log after that.
    async fn await_log(&mut self, short: &mut ShortLog, offset: i64, bounds: &LogBounds, pinned: Option<&Intent>) -> Result<(), Exit> {
        let now = self.env.clock.steady();
        let since = *short.since.get_or_insert(now);
        short.lowest = short.lowest.min(bounds.end);
        if now.saturating_sub(since) > LOG_END_WAIT {
            // The log of a topic that was created again says nothing of this lane's.
            self.check_topic().await?;
            if !self.env.rule.accepts(Accept::Truncation) {
                return Err(truncated(offset, bounds.end).into());
            }
            // Remembered before anything else: the process may end while it waits, and the log pass the position while nobody looks.
            // What both logs have is not known; the next fetch is opened where they were the same for sure, and finds out.
            if self.lose_from(short.lowest, pinned) {
                self.note_again(pinned).await?;
            }
            self.env.reporter.lane(&self.lease.tp, LaneNote::AwaitingLog { position: offset, log_end: bounds.end });
        }
        Ok(())
    }

    /// The client found by the leader's epoch that the log was cut and written anew.
    pub(super) async fn on_truncated(&mut self, cut: Option<LastRead>, cause: String, pinned: Option<&Intent>) -> Exit {
        let cut = match cut {
            Some(cut) => cut,
            // The leader knows nothing of the epoch that was asked for: it is another log, wherever it ends.
            None => match self.env.source.bounds(&self.lease.tp).await {
                Ok(bounds) => LastRead::unknown(bounds.start.min(self.position)),
                Err(e) => return e.into(),
            },
        };
        let log_end = cut.end;
        // Above the position nothing is visible yet: what was read is dropped, and read again as it is now.
        if log_end < self.position {
            if let Err(exit) = self.check_topic().await {
                return exit;
            }
            if !self.env.rule.accepts(Accept::Truncation) {
                return Exit::from(truncated(self.position, log_end).because(cause));
            }
            self.lose_from(log_end, pinned);
        }
        if log_end <= self.position {
            self.last = cut.within(0, self.position);
        }
        if let Err(exit) = self.note_again(pinned).await {
            return exit;
        }
        Exit::Restart(format!("the log was truncated to {log_end}: {cause}"))
    }

    /// The records that stand in the log from here to the position are not the ones that were backed up. The group is to remember that at
    /// once: the log may have passed the position by the time of the next recovery, and nothing would tell. False if it does already.
    fn lose_from(&mut self, log_end: i64, pinned: Option<&Intent>) -> bool {
        let listed = pinned.map_or(self.position, |intent| truncated_from(&intent.missing, self.position));
        let gap = Missing(log_end, truncated_from(&self.pending, listed), GapCause::Truncation);
        if gap.0 >= gap.1 {
            return false;
        }
        self.tell_gap(gap);
        self.pending.push(gap);
        self.pending.sort_by_key(|m| m.0);
        true
    }

    /// The group's note, with what is pending now. An intent stays what it is; what was lost with records before it is for the next object.
    async fn note_again(&mut self, pinned: Option<&Intent>) -> Result<(), Exit> {
        match pinned {
            Some(intent) => self.pin(&Intent { pending: self.pending.clone(), ..intent.clone() }).await?,
            None => {
                self.untidied = Some(self.env.clock.steady());
                self.tidy().await?;
            }
        }
        // The group may forget its note before the next object is made.
        self.anchor_written = None;
        self.keep_anchor().await
    }
}

fn truncated(position: i64, log_end: i64) -> Error {
    Error::new(codes::LOG_TRUNCATED, ErrorKind::Asks, "the partition ends before what was backed up: its log was truncated")
        .with("position", position)
        .with("log_end", log_end)
        .help("to wait until the log has passed the position, listing the difference as a gap, start once with --accept truncation")
}
