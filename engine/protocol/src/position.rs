//! Where a lane stands in its partition: the partition, the last record that was read, what the group has committed. Pure.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One partition of a topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The last record that was read before a position: what tells whether the log behind the position is still the one that was read.
///
/// The record's leader epoch is that of the position only right behind the record: what lies between, control records and holes of
/// compaction, may be of a later epoch. So a fetch is opened at the record's end, and a record that shows between there and the position has
/// been written since. As JSON `[end, epoch]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(i64, i32)", into = "(i64, i32)")]
pub struct LastRead {
    /// The offset behind it.
    pub end: i64,
    /// Its leader epoch, -1 if not known.
    pub epoch: i32,
}

impl LastRead {
    /// The record at `offset`.
    #[inline]
    pub fn of(offset: i64, epoch: i32) -> Self {
        Self { end: offset + 1, epoch }
    }

    /// Nothing is known of what was read before `position`.
    #[inline]
    pub fn unknown(position: i64) -> Self {
        Self { end: position, epoch: -1 }
    }

    /// The epoch to commit with a position, -1 if it is not known.
    #[inline]
    pub fn epoch_at(self, position: i64) -> i32 {
        if self.end == position { self.epoch } else { -1 }
    }

    /// Itself, if its epoch is known.
    #[inline]
    pub fn known(self) -> Option<Self> {
        (self.epoch >= 0).then_some(self)
    }

    /// What a note must say, because the commit's own leader epoch cannot.
    #[inline]
    pub fn before(self, position: i64) -> Option<Self> {
        self.known().filter(|last| last.end < position)
    }

    /// The same, if it is of use to who reads from `position` on in a log that starts at `log_start`.
    #[inline]
    #[must_use]
    pub fn within(self, log_start: i64, position: i64) -> Self {
        self.known().filter(|last| (log_start..=position).contains(&last.end)).unwrap_or(Self::unknown(position))
    }
}

impl From<(i64, i32)> for LastRead {
    fn from((end, epoch): (i64, i32)) -> Self {
        Self { end, epoch }
    }
}

impl From<LastRead> for (i64, i32) {
    fn from(last: LastRead) -> Self {
        (last.end, last.epoch)
    }
}

/// What the group knows of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the record before it, -1 if not known.
    pub leader_epoch: i32,
    /// The commit's metadata string; bytes that are not UTF-8 come replaced.
    pub metadata: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(end: i64, epoch: i32) -> LastRead {
        LastRead { end, epoch }
    }

    #[test]
    fn an_epoch_is_that_of_the_position_right_behind_its_record_alone() {
        assert_eq!((LastRead::of(6, 3), LastRead::unknown(7)), (last(7, 3), last(7, -1)));
        assert_eq!([last(7, 3).epoch_at(7), last(7, 3).epoch_at(8), last(7, 3).epoch_at(6), last(7, -1).epoch_at(7)], [3, -1, -1, -1]);
        assert_eq!([last(7, 0).known(), last(7, -1).known()], [Some(last(7, 0)), None]);
    }

    #[test]
    fn a_note_says_only_what_the_commits_own_epoch_cannot() {
        assert_eq!(last(7, 3).before(8), Some(last(7, 3)));
        assert_eq!([last(7, 3).before(7), last(7, 3).before(6), last(7, -1).before(8)], [None; 3]);
    }

    #[test]
    fn what_lies_outside_the_log_or_behind_the_position_is_of_no_use() {
        for (known, log_start, position) in [(last(7, 3), 7, 9), (last(7, 3), 0, 7), (last(7, 3), 7, 7)] {
            assert_eq!(known.within(log_start, position), known, "{log_start} to {position}");
        }
        for (of_no_use, log_start, position) in [(last(7, 3), 8, 9), (last(7, 3), 0, 6), (last(7, -1), 0, 9)] {
            assert_eq!(of_no_use.within(log_start, position), LastRead::unknown(position), "{log_start} to {position}");
        }
    }

    #[test]
    fn as_text_it_is_what_notes_hold() {
        assert_eq!(serde_json::to_string(&last(7, 3)).unwrap(), "[7,3]");
        assert_eq!(serde_json::from_str::<LastRead>("[7,-1]").unwrap(), last(7, -1));
        let tp = TopicPartition { topic: "orders".into(), partition: 3 };
        assert_eq!((tp.to_string(), format!("{tp:?}")), ("orders/3".to_owned(), "orders/3".to_owned()));
    }
}
