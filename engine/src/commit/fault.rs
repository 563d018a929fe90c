//! What keeps a run from going on, and what a lane remembers of it.
//!
//! Place in the flow: the end of a run. A fault that may pass leads back to recovery; one that met the lane twice at the same offset, or that
//! no waiting mends, stops it with the question that only an operator can answer.

use std::ops::Range;
use std::time::Duration;

use catchment_formats::GapCause;

use super::driver::{Exit, Lane};
use super::strays::Strays;
use crate::config::OnGap;
use crate::error::{Code, Error, ErrorKind, codes};
use crate::intent::Intent;
use crate::limits::SILENCES_MAX;
use crate::source::QueueFault;

/// How long a lane waits before it asks again for a record that the budget has no room for: at first, and at most. Each time the client fetches the record
/// anew, and what was pinned with it is read from its start. Shorter costs that more often, longer keeps the lane behind when there is room again.
const ROOM_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));

/// What a lane remembers from one recovery to the next.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Faults by position: the same fault twice is not a passing one.
    faults: Vec<(i64, QueueFault)>,
    /// Whether it has ever read the partition: what was permitted once will be again.
    pub(super) has_read: bool,
    /// Uploads that nobody will complete.
    pub(super) strays: Strays,
    /// The pin, by its time and nonce, of which no full copy can be on its way any more.
    pub(super) outwaited: Option<(i64, String)>,
    /// The offset at which there was no room for a record, and how often in a row.
    no_room: Option<(i64, u32)>,
    /// When the run began that is going on or ended last, by the steady clock; none if it did not come to one.
    pub(super) run_began: Option<Duration>,
}

impl History {
    /// Faults that are remembered: two for each corrupt batch that a pinned window may hold. Fewer, and a window with more of them would never
    /// come to its end, the first being forgotten when the last is met.
    const FAULTS_MAX: usize = 4_096;

    fn note(&mut self, position: i64, fault: QueueFault) {
        if self.faults.len() == Self::FAULTS_MAX {
            self.faults.remove(0);
        }
        self.faults.push((position, fault));
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

    /// How often the partition was silent at the same offset, from this one on: each time it is waited for twice as long.
    pub(super) fn silences_from(&self, position: i64) -> u32 {
        let later = self.faults.iter().filter(|(at, f)| *at >= position && matches!(f, QueueFault::Silent(_)));
        later.map(|(at, _)| self.silences_at(*at)).max().and_then(|silences| u32::try_from(silences).ok()).unwrap_or_default()
    }

    /// How often the partition was silent at this offset.
    fn silences_at(&self, position: i64) -> usize {
        self.faults.iter().filter(|(at, f)| *at == position && matches!(f, QueueFault::Silent(_))).count()
    }

    fn note_no_room(&mut self, position: i64) {
        let before = self.no_room.filter(|(at, _)| *at == position).map_or(0, |(_, times)| times);
        self.no_room = Some((position, before.saturating_add(1)));
    }

    /// The partition was read up to here: there was room for what lies before.
    pub(super) fn note_read(&mut self, position: i64) {
        self.no_room = self.no_room.filter(|(at, _)| *at >= position);
    }

    /// How long to wait before a run from this offset on, which meets the record again that there was no room for. However far the lane gets until then, the
    /// wait grows: it is the record that ends the run.
    pub(super) fn room_wait(&self, position: i64) -> Duration {
        let times = self.no_room.filter(|(at, _)| *at >= position).map_or(0, |(_, times)| times);
        match times.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => ROOM_WAIT.0.saturating_mul(2_u32.saturating_pow(doublings)).min(ROOM_WAIT.1),
        }
    }

    /// The offsets of a range at which a batch was corrupt twice. A lane remembers all of them for as long as it lives; those that it has passed say nothing
    /// of what it reads now.
    pub(super) fn corrupt_twice(&self, range: &Range<i64>) -> Vec<i64> {
        let of_range = self.faults.iter().filter(|(at, f)| matches!(f, QueueFault::Corrupt(_)) && range.contains(at));
        let mut corrupt: Vec<i64> = of_range.map(|(at, _)| *at).collect();
        corrupt.sort_unstable();
        corrupt.chunk_by(|one, other| one == other).filter(|same| same.len() > 1).map(|same| same[0]).collect()
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
        self.history.note_read(position);
        let seen_before =
            self.history.faults.iter().any(|(at, f)| *at == position && std::mem::discriminant(f) == std::mem::discriminant(&fault));
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
                self.history.note_no_room(position);
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
            QueueFault::Silent(_) if self.history.silences_at(position) + 1 >= SILENCES_MAX => {
                match self.env.source.bounds(&self.lease.tp).await {
                    Ok(bounds) if bounds.stable_end > position => silent(position, bounds.stable_end).into(),
                    // Nothing is there to be read, or the cluster cannot be asked: then silence is no wonder.
                    Ok(_) | Err(_) => Exit::Restart(why),
                }
            }
            _ => {
                self.history.note(position, fault);
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
        self.passes_corrupt() && !self.history.corrupt_twice(range).is_empty()
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
    fn silence_counts_by_offset() {
        let mut history = History::default();
        for (position, fault) in
            [(5, QueueFault::Silent(String::new())), (5, QueueFault::Other(String::new())), (6, QueueFault::Silent(String::new()))]
        {
            history.note(position, fault);
        }
        history.note(6, QueueFault::Silent(String::new()));
        assert_eq!((history.silences_at(5), history.silences_at(6), history.silences_at(7)), (1, 2, 0));
        assert_eq!((history.silences_from(0), history.silences_from(6), history.silences_from(7)), (2, 2, 0));
    }

    #[test]
    fn a_batch_that_was_passed_over_says_nothing_of_another_range() {
        let mut history = History::default();
        for position in [3, 3, 20, 20, 24, 25, 25] {
            history.note(position, QueueFault::Corrupt(String::new()));
        }
        history.note(24, QueueFault::Other(String::new()));
        assert_eq!(history.corrupt_twice(&(20..25)), [20], "once is not enough, nor is another fault, and a range ends before its end");
        assert!(history.corrupt_twice(&(4..20)).is_empty());
        assert_eq!(history.corrupt_twice(&(0..i64::MAX)), [3, 20, 25]);
    }

    #[test]
    fn a_record_without_room_is_waited_for_twice_as_long_each_time_and_two_minutes_at_most() {
        let mut history = History::default();
        assert_eq!(history.room_wait(0), Duration::ZERO);
        let waits: Vec<u64> = (0..10)
            .map(|_| {
                history.note_no_room(7);
                history.room_wait(3).as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 120, 120, 120]);
        assert_eq!((history.room_wait(7).as_secs(), history.room_wait(8).as_secs()), (120, 0), "it is not met behind its offset");
        history.note_read(7);
        assert_eq!(history.room_wait(7).as_secs(), 120, "what was read ends before it");
        history.note_read(8);
        assert_eq!(history.room_wait(0), Duration::ZERO, "it was read");
        history.note_no_room(9);
        assert_eq!(history.room_wait(0).as_secs(), 1, "another record");
    }

    #[test]
    fn a_record_that_fits_without_neighbours_is_waited_for_and_stops_nothing() {
        assert!(matches!(Exit::from(too_large(50, 40, 60)), Exit::Restart(why) if why.contains("C0430")));
        assert!(matches!(Exit::from(too_large(61, 40, 60)), Exit::Stopped(error) if error.code == Code(430)));
    }
}
