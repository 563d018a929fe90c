//! What keeps a run from going on, and what a lane remembers of it.
//!
//! Place in the flow: the end of a run. A fault that may pass leads back to recovery; one that met the lane twice at the same offset, or that
//! no waiting mends, stops it with the question that only an operator can answer.

use std::ops::Range;
use std::time::Duration;

use catchment_formats::GapCause;

use super::driver::{Exit, Lane};
use crate::config::OnGap;
use crate::encoding::LevelMemory;
use crate::error::{Code, Error, ErrorKind, codes};
use crate::faults::{Faults, QueueFault};
use crate::intent::Intent;
use crate::limits::SILENCES_MAX;
use crate::strays::Strays;

/// What a lane remembers from one recovery to the next.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Faults by position.
    pub(super) faults: Faults,
    /// Whether it has ever read the partition: what was permitted once will be again.
    pub(super) has_read: bool,
    /// Uploads that nobody will complete.
    pub(super) strays: Strays,
    /// The pin, by its time and nonce, of which no full copy can be on its way any more.
    outwaited: Option<(i64, String)>,
    /// When the run began that is going on or ended last, by the steady clock; none if it did not come to one.
    pub(super) run_began: Option<Duration>,
    /// The zstd level that its records have chosen.
    pub(super) level: LevelMemory,
}

impl History {
    /// Whether no full copy of what an intent pins can be on its way any more.
    pub(super) fn has_outwaited(&self, intent: &Intent) -> bool {
        self.outwaited.as_ref().is_some_and(|(at, nonce)| *at == intent.at && *nonce == intent.nonce)
    }

    /// From now on none can.
    pub(super) fn note_outwaited(&mut self, intent: &Intent) {
        self.outwaited = Some((intent.at, intent.nonce.clone()));
    }

    /// What was permitted once will be again: a right to the topic that is taken from a lane that has read it does not stop the lane, whatever
    /// it asks first.
    pub(super) fn excuse(&self, exit: Exit) -> Exit {
        match exit {
            Exit::Stopped(error) if self.has_read && error.kind == ErrorKind::Denied && error.code == codes::NOT_AUTHORISED => {
                Exit::Restart(error.to_string())
            }
            exit => exit,
        }
    }
}

/// A record for which there is no memory. Others may give theirs up: then it is waited for; what could not be held without them stops the lane.
fn too_large(bytes: usize, limit: usize, ever: usize) -> Error {
    let (kind, help) = match bytes <= ever {
        true => (ErrorKind::Retryable, "it is tried again as other rules end; raise --budget, or pause some"),
        false => (ErrorKind::Invalid, "raise --budget"),
    };
    Error::new(Code(430), kind, "a record is larger than the memory that the budget leaves for records")
        .with("record_bytes", bytes)
        .with("memory_bytes", limit)
        .help(help)
}

impl Lane {
    /// What a fault of the queue at `position` means for the lane.
    pub(super) async fn on_fault(&mut self, fault: QueueFault, position: i64, pinned: Option<&Intent>) -> Exit {
        self.env.metrics.queue_faults.inc();
        self.history.faults.note_read(position);
        let seen_before = self.history.faults.has_met(position, &fault);
        let why = format!("{fault:?} at offset {position}");
        match fault {
            QueueFault::Denied(cause) => {
                let kind = if self.history.has_read { ErrorKind::Retryable } else { ErrorKind::Denied };
                Error::new(Code(231), kind, "reading the topic is not permitted")
                    .because(cause)
                    .help("grant READ and DESCRIBE on the topic to this user; a lane that has read it before goes on by itself")
                    .into()
            }
            QueueFault::Corrupt(cause) if seen_before && self.env.rule.on_gap(GapCause::CorruptBatch) == OnGap::Halt => {
                Error::new(Code(428), ErrorKind::Corrupt, "a batch in Kafka is corrupt, and the rule says to halt")
                    .with("offset", position)
                    .because(cause)
                    .help("restore the partition from a replica, or set on_gap.corrupt_batch = \"continue\" to list it as a gap")
                    .into()
            }
            QueueFault::Truncated { cause, cut } => self.on_truncated(cut, cause, pinned).await,
            QueueFault::TooLarge { bytes, limit, ever } => {
                self.history.faults.note_no_room(position);
                too_large(bytes, limit, ever).with("offset", position).into()
            }
            QueueFault::OldFormat(cause) => Error::new(
                Code(431),
                ErrorKind::Corrupt,
                "the partition holds messages in a format before Kafka 0.11, which this client misreads",
            )
            .with("offset", position)
            .because(cause)
            .help("start the rule behind them (--start), or have the topic written anew in the format of today")
            .into(),
            QueueFault::Silent(_) if self.history.faults.silences_at(position) + 1 >= SILENCES_MAX => {
                match self.env.source.bounds(&self.lease.tp).await {
                    Ok(bounds) if bounds.stable_end > position => silent(position, bounds.stable_end).into(),
                    // Nothing is there to be read, or the cluster cannot be asked: then silence is no wonder.
                    Ok(_) | Err(_) => Exit::Restart(why),
                }
            }
            _ => {
                self.history.faults.note(position, fault);
                Exit::Restart(why)
            }
        }
    }

    /// Whether the rule says to list a corrupt batch and go on.
    pub(super) fn passes_corrupt(&self) -> bool {
        self.env.rule.on_gap(GapCause::CorruptBatch) == OnGap::Continue
    }

    /// Whether a batch in a range of the partition will be passed over.
    pub(super) fn skips_corrupt(&self, range: &Range<i64>) -> bool {
        self.passes_corrupt() && !self.history.faults.corrupt_twice(range).is_empty()
    }
}

fn silent(position: i64, stable_end: i64) -> Error {
    Error::new(Code(432), ErrorKind::Corrupt, "nothing arrives from a partition that has more")
        .with("offset", position)
        .with("readable_end", stable_end)
        .help("the client cannot read what lies there: messages in a format before Kafka 0.11, a batch that it takes for cut short, or an aborted transaction \
             that is too long for the time")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(kind: ErrorKind, code: Code) -> Exit {
        Exit::Stopped(Box::new(Error::new(code, kind, "refused")))
    }

    #[test]
    fn a_right_that_was_there_is_waited_for() {
        let mut history = History::default();
        assert!(matches!(history.excuse(stopped(ErrorKind::Denied, codes::NOT_AUTHORISED)), Exit::Stopped(_)), "it never was");
        history.has_read = true;
        assert!(matches!(history.excuse(stopped(ErrorKind::Denied, codes::NOT_AUTHORISED)), Exit::Restart(_)));
        assert!(matches!(history.excuse(stopped(ErrorKind::Denied, Code(403))), Exit::Stopped(_)), "a commit's refusal is another thing");
    }

    #[test]
    fn a_record_that_fits_without_neighbours_is_waited_for_and_stops_nothing() {
        assert!(matches!(Exit::from(too_large(50, 40, 60)), Exit::Restart(why) if why.contains("C0430")));
        assert!(matches!(Exit::from(too_large(61, 40, 60)), Exit::Stopped(error) if error.code == Code(430)));
    }
}
