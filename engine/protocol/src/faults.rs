//! Why a lane's queue ended, and what a lane remembers of it from one run to the next. Pure.
//!
//! Place in the flow: a fault that met the lane twice at the same offset is no passing one; what it means is decided by whoever asks.

use std::ops::Range;
use std::time::Duration;

use crate::position::LastRead;

/// How long a lane waits before it asks again for a record that the budget has no room for: at first, and at most. Each time the client fetches the record
/// anew, and what was pinned with it is read from its start. Shorter costs that more often, longer keeps the lane behind when there is room again.
const ROOM_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));

/// Why a queue cannot go on as if nothing had happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueFault {
    /// The position is outside the log (retention, truncation, another topic).
    OutOfRange(String),
    /// A batch whose checksum or structure is wrong.
    Corrupt(String),
    /// The log was truncated below the position (by leader epoch).
    Truncated {
        /// What the client says.
        cause: String,
        /// The last record that both logs have, as far as it is known: where it ends, and its epoch.
        cut: Option<LastRead>,
    },
    /// A record that the memory budget cannot hold.
    TooLarge {
        /// Bytes of its key, value and headers.
        bytes: usize,
        /// Bytes that there are for it.
        limit: usize,
        /// Bytes that there would be if no other rule were there.
        ever: usize,
    },
    /// A message of a format before Kafka 0.11, which the client misreads.
    OldFormat(String),
    /// The client gives nothing although it was asked to read.
    Silent(String),
    /// Reading is not permitted.
    Denied(String),
    /// The topic or partition is gone.
    Gone(String),
    /// Anything else that the client reports.
    Other(String),
}

/// Faults by position: the same fault twice is not a passing one.
#[derive(Debug, Default)]
pub struct Faults {
    list: Vec<(i64, QueueFault)>,
    /// The offset at which there was no room for a record, and how often in a row.
    no_room: Option<(i64, u32)>,
}

impl Faults {
    /// Faults that are remembered: two for each corrupt batch that a pinned window may hold. Fewer, and a window with more of them would never
    /// come to its end, the first being forgotten when the last is met.
    const FAULTS_MAX: usize = 4_096;

    /// The queue has ended with this fault at this offset.
    pub fn note(&mut self, position: i64, fault: QueueFault) {
        if self.list.len() == Self::FAULTS_MAX {
            self.list.remove(0);
        }
        self.list.push((position, fault));
    }

    /// Whether a fault of this kind was met at this offset before.
    pub fn has_met(&self, position: i64, fault: &QueueFault) -> bool {
        self.list.iter().any(|(at, f)| *at == position && std::mem::discriminant(f) == std::mem::discriminant(fault))
    }

    /// How often the partition was silent at the same offset, from this one on: each time it is waited for twice as long.
    pub fn silences_from(&self, position: i64) -> u32 {
        let later = self.list.iter().filter(|(at, f)| *at >= position && matches!(f, QueueFault::Silent(_)));
        later.map(|(at, _)| self.silences_at(*at)).max().and_then(|silences| u32::try_from(silences).ok()).unwrap_or_default()
    }

    /// How often the partition was silent at this offset.
    pub fn silences_at(&self, position: i64) -> usize {
        self.list.iter().filter(|(at, f)| *at == position && matches!(f, QueueFault::Silent(_))).count()
    }

    /// There was no room for the record at this offset.
    pub fn note_no_room(&mut self, position: i64) {
        let before = self.no_room.filter(|(at, _)| *at == position).map_or(0, |(_, times)| times);
        self.no_room = Some((position, before.saturating_add(1)));
    }

    /// The partition was read up to here: there was room for what lies before.
    pub fn note_read(&mut self, position: i64) {
        self.no_room = self.no_room.filter(|(at, _)| *at >= position);
    }

    /// How long to wait before a run from this offset on, which meets the record again that there was no room for. However far the lane gets until then, the
    /// wait grows: it is the record that ends the run.
    pub fn room_wait(&self, position: i64) -> Duration {
        let times = self.no_room.filter(|(at, _)| *at >= position).map_or(0, |(_, times)| times);
        match times.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => ROOM_WAIT.0.saturating_mul(2_u32.saturating_pow(doublings)).min(ROOM_WAIT.1),
        }
    }

    /// The offsets of a range at which a batch was corrupt twice. A lane remembers all of them for as long as it lives; those that it has passed say nothing
    /// of what it reads now.
    pub fn corrupt_twice(&self, range: &Range<i64>) -> Vec<i64> {
        let of_range = self.list.iter().filter(|(at, f)| matches!(f, QueueFault::Corrupt(_)) && range.contains(at));
        let mut corrupt: Vec<i64> = of_range.map(|(at, _)| *at).collect();
        corrupt.sort_unstable();
        corrupt.chunk_by(|one, other| one == other).filter(|same| same.len() > 1).map(|same| same[0]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_by_offset() {
        let mut history = Faults::default();
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
        let mut history = Faults::default();
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
        let mut history = Faults::default();
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
    fn a_fault_is_met_again_only_at_its_offset_and_of_its_kind() {
        let mut faults = Faults::default();
        faults.note(5, QueueFault::Corrupt("once".into()));
        let met = |position, fault| faults.has_met(position, &fault);
        assert!(met(5, QueueFault::Corrupt("again".into())));
        assert!(!met(6, QueueFault::Corrupt("once".into())) && !met(5, QueueFault::Other("once".into())));
    }

    #[test]
    fn of_too_many_faults_the_first_are_forgotten() {
        let mut faults = Faults::default();
        let note = |faults: &mut Faults, position| faults.note(position, QueueFault::Silent(String::new()));
        (0..Faults::FAULTS_MAX as i64).for_each(|position| note(&mut faults, position));
        assert_eq!((faults.list.len(), faults.silences_at(0)), (Faults::FAULTS_MAX, 1));
        note(&mut faults, -1);
        assert_eq!((faults.list.len(), faults.silences_at(0), faults.silences_at(1)), (Faults::FAULTS_MAX, 0, 1));
    }
}
