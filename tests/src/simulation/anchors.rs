//! What anchors said, which requests for one came to nothing, and when the group forgot its offsets: whether something that a lane knew was known to the group
//! alone.
//!
//! A lane that finds its log cut says so to the group at once, and then to its anchor, which outlives the group's offsets. While the store refuses the
//! anchor, or does not answer, the group alone knows. If the process is asked to stop before that ends, and the offsets expire before the next one comes, nobody can know: that,
//! and no less, is what [`AnchorBook::never_had`] answers.

use std::time::Duration;

use catchment_formats::{GapCause, Missing};

/// How long before a stop the last request for an anchor may have left that came to nothing, so that it is the stop which has ended the attempts: longer than a
/// process is frozen (six sessions of 45 s), and than a request and the pause behind it take.
const BEFORE_STOP_MAX: Duration = Duration::from_secs(600);

#[derive(Debug)]
struct Written {
    /// When, among commits and writes.
    order: u64,
    partition: i32,
    missing: Vec<Missing>,
}

/// A request for an anchor that was refused, or not answered while its process lived.
#[derive(Debug)]
struct Vain {
    order: u64,
    partition: i32,
    /// When, since the beginning.
    at: Duration,
}

/// The group's offsets were forgotten.
#[derive(Clone, Copy, Debug)]
pub struct Forgetting {
    /// When, among commits and writes.
    pub order: u64,
    /// When everybody was asked to stop before that, since the beginning.
    pub stopped_at: Duration,
}

/// What is known of anchors.
#[derive(Debug, Default)]
pub struct AnchorBook {
    written: Vec<Written>,
    vain: Vec<Vain>,
    forgettings: Vec<Forgetting>,
}

impl AnchorBook {
    /// The anchor of a partition was written, and says that this is missing.
    pub fn write(&mut self, order: u64, partition: i32, missing: Vec<Missing>) {
        self.written.push(Written { order, partition, missing });
    }

    /// The store is asked to give or to take the anchor of a partition: in vain, until it has answered.
    pub fn ask(&mut self, order: u64, partition: i32, at: Duration) {
        self.vain.push(Vain { order, partition, at });
    }

    /// It has done what it was asked for then.
    pub fn answer(&mut self, order: u64) {
        self.vain.retain(|asked| asked.order != order);
    }

    /// The group has forgotten its offsets.
    pub fn forget(&mut self, forgetting: Forgetting) {
        self.forgettings.push(forgetting);
    }

    /// When it has, in order.
    pub fn forgettings(&self) -> &[Forgetting] {
        &self.forgettings
    }

    /// Whether an anchor said of a range, before some time, that a topic that is gone had left it.
    pub fn was_left(&self, range: (i64, i64), before: u64) -> bool {
        let left = Missing(range.0, range.1, GapCause::TopicRecreated);
        self.written.iter().any(|anchor| anchor.order < before && anchor.missing.contains(&left))
    }

    /// Whether no anchor of a partition said that this is missing before the group forgot it, which had known it since some time, because the store
    /// refused the anchor until everybody was asked to stop.
    pub fn never_had(&self, partition: i32, gap: Missing, since: u64, forgetting: Forgetting) -> bool {
        let then = since..forgetting.order;
        let was_written = self
            .written
            .iter()
            .any(|anchor| anchor.partition == partition && then.contains(&anchor.order) && anchor.missing.contains(&gap));
        let mut of_lane = self.vain.iter().filter(|vain| vain.partition == partition && then.contains(&vain.order));
        !was_written && of_lane.any(|vain| vain.at + BEFORE_STOP_MAX >= forgetting.stopped_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_store_refused_until_the_stop_was_known_to_the_group_alone() {
        let (gap, stop) = (Missing(3, 5, GapCause::Truncation), Duration::from_secs(3_600));
        let forgetting = Forgetting { order: 20, stopped_at: stop };
        let vain = |order, partition, at| {
            let mut book = AnchorBook::default();
            book.ask(order, partition, at);
            book
        };
        assert!(vain(12, 0, stop).never_had(0, gap, 10, forgetting));
        assert!(!AnchorBook::default().never_had(0, gap, 10, forgetting), "nobody asked for it");
        assert!(!vain(12, 1, stop).never_had(0, gap, 10, forgetting), "another lane's");
        assert!(!vain(9, 0, stop).never_had(0, gap, 10, forgetting), "before it was known");
        assert!(!vain(21, 0, stop).never_had(0, gap, 10, forgetting), "it was forgotten by then");
        assert!(!vain(12, 0, Duration::from_secs(2_999)).never_had(0, gap, 10, forgetting), "there was time enough before the stop");
        for (order, partition, missing, never) in [(13, 0, gap, false), (9, 0, gap, true), (13, 1, gap, true)] {
            let mut book = vain(12, 0, stop);
            book.write(order, partition, vec![missing]);
            assert_eq!(book.never_had(0, gap, 10, forgetting), never, "written at {order}");
        }
        let mut book = vain(12, 0, stop);
        book.answer(12);
        assert!(!book.never_had(0, gap, 10, forgetting), "the store did as it was asked");
        let mut book = vain(12, 0, stop);
        book.write(13, 0, Vec::new());
        assert!(book.never_had(0, gap, 10, forgetting), "an anchor that does not list it");
    }

    #[test]
    fn what_a_topic_that_is_gone_left_is_known_from_when_an_anchor_says_so() {
        let mut book = AnchorBook::default();
        book.write(7, 0, vec![Missing(3, 5, GapCause::TopicRecreated), Missing(5, 6, GapCause::Truncation)]);
        assert_eq!([((3, 5), 8), ((3, 5), 7), ((5, 6), 8)].map(|(range, before)| book.was_left(range, before)), [true, false, false]);
    }
}
