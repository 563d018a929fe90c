//! A rule as the running lanes see it: settings that do not change while they run.

use std::time::Duration;

use catchment_formats::{Encoding, GapCause};

use crate::config::{Accept, GapPolicy, OnGap};
use crate::error::{Code, Error, ErrorKind, Result};
use crate::intent::{CommitNote, note_hash};
use crate::store::key::{KeyParts, Layout, TopicName};
use crate::store::probe::GuardClasses;
use crate::store::{Guard, GuardClass, ObjectStore};
use crate::window::WindowPolicy;

/// A rule's settings.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Its consumer group.
    pub group: String,
    /// How objects are encoded.
    pub encoding: Encoding,
    /// Whether the zstd level follows from each lane's records; until that is known it is that of `encoding`.
    pub auto_level: bool,
    /// How directories are named.
    pub layout: Layout,
    /// When windows close.
    pub window: WindowPolicy,
    /// What to do about missing records.
    pub on_gap: GapPolicy,
    /// The operator's answers to the questions of stopped lanes, for this run.
    pub accept: Vec<Accept>,
    /// Hashes of the destinations that the rule was moved away from.
    pub moved_from: Vec<String>,
    /// How long an upload may be under way before others may think it dead.
    pub upload_deadline: Duration,
    /// Hash of endpoint, bucket, prefix and layout.
    pub destination_hash: String,
    /// What the store's guards are worth.
    pub classes: GuardClasses,
}

impl Rule {
    /// The hash that notes carry of a destination.
    pub fn hash_destination(store: &dyn ObjectStore, layout: &Layout) -> String {
        Self::hash_of(&store.identity(), layout)
    }

    /// The same of a store with this identity.
    pub fn hash_of(identity: &str, layout: &Layout) -> String {
        note_hash(&format!("{identity}|{layout}"))
    }

    /// The key of an object.
    pub fn object_key(&self, topic: &TopicName, partition: i32, start: i64, directory_ms: Option<i64>, extension: &str) -> String {
        let parts = KeyParts { topic, partition, timestamp_ms: directory_ms, window_ms: self.window.every_ms };
        self.layout.object_key(&parts, start, extension)
    }

    /// Whether the store's guards are atomic, for both ways to publish.
    pub fn has_atomic_guards(&self) -> bool {
        self.classes.put == GuardClass::A && self.classes.complete == GuardClass::A
    }

    /// Whether the operator answered so, for this run or by a standing policy on gaps.
    pub fn accepts(&self, answer: Accept) -> bool {
        let standing = match answer {
            Accept::Truncation => self.on_gap.truncation == OnGap::Continue,
            Accept::TopicRecreated => self.on_gap.topic_recreated == OnGap::Continue,
            Accept::ForeignCommit | Accept::Destination => false,
        };
        standing || self.accept.contains(&answer)
    }

    /// Whether a lane may go on from a note that was written for another destination.
    ///
    /// # Errors
    /// If nobody accepted that, or asked for a move away from there; or a window is pinned to the old destination.
    pub fn check_destination(&self, note: &CommitNote) -> Result<()> {
        if note.destination_hash() == self.destination_hash {
            return Ok(());
        }
        let was_moved = self.moved_from.iter().any(|from| from == note.destination_hash());
        if !was_moved && !self.accepts(Accept::Destination) {
            let error = Error::new(Code(422), ErrorKind::Asks, "the destination is not the one that this rule has written to");
            return Err(
                error.help("restore the old --to, --layout and prefix; or start once with --accept destination to go on in the new place")
            );
        }
        match note {
            CommitNote::Tidy(_) => Ok(()),
            CommitNote::Intent(_) => Err(Error::new(Code(426), ErrorKind::Asks, "a window is pinned to the old destination")
                .help("run the old settings once with --until-end, then start with --accept destination")),
        }
    }

    /// What the rule says of a gap.
    pub fn on_gap(&self, cause: GapCause) -> OnGap {
        match cause {
            GapCause::Retention => self.on_gap.retention,
            GapCause::Truncation => self.on_gap.truncation,
            GapCause::CorruptBatch => self.on_gap.corrupt_batch,
            GapCause::TopicRecreated => self.on_gap.topic_recreated,
            GapCause::OperatorSkip => OnGap::Continue,
        }
    }

    /// Data objects are never overwritten on purpose; stores without a guard are told nothing by this.
    pub fn guard(&self) -> Guard {
        Guard::IfAbsent
    }

    /// Age at which an upload of this rule that no intent names may be aborted.
    pub fn stale_upload_age_ms(&self) -> u64 {
        stale_upload_age_ms(self.upload_deadline, Duration::from_millis(u64::try_from(self.window.every_ms).unwrap_or_default()))
    }
}

/// Age in milliseconds at which an upload that no intent names may be aborted (rule R7), by the rule's upload deadline and the length of its windows.
pub fn stale_upload_age_ms(upload_deadline: Duration, every: Duration) -> u64 {
    u64::try_from(upload_deadline.max(every.saturating_mul(2)).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WindowBy;
    use crate::intent::{Tidy, VERSION};

    fn rule(moved_from: &[&str]) -> Rule {
        Rule {
            name: "r".to_owned(),
            group: "catchment-r".to_owned(),
            encoding: "parquet.zstd1.v1".parse().unwrap(),
            auto_level: false,
            layout: Layout::Hive,
            window: WindowPolicy { every_ms: 1_000, by: WindowBy::RecordTime, bytes_max: 1 << 20 },
            on_gap: GapPolicy { retention: OnGap::Halt, truncation: OnGap::Halt, corrupt_batch: OnGap::Halt, topic_recreated: OnGap::Halt },
            accept: Vec::new(),
            moved_from: moved_from.iter().map(|hash| (*hash).to_owned()).collect(),
            upload_deadline: crate::limits::UPLOAD_DEADLINE_DEFAULT,
            destination_hash: "now".to_owned(),
            classes: GuardClasses::UNKNOWN,
        }
    }

    #[test]
    fn an_upload_is_stale_after_its_deadline_and_two_windows() {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3_600));
        assert_eq!(stale_upload_age_ms(hour, minute), 3_600_000);
        assert_eq!(stale_upload_age_ms(minute, hour), 7_200_000);
        assert_eq!(stale_upload_age_ms(Duration::MAX, Duration::MAX), u64::MAX);
        let rule = rule(&[]);
        assert_eq!(rule.stale_upload_age_ms(), stale_upload_age_ms(rule.upload_deadline, Duration::from_secs(1)));
    }

    #[test]
    fn a_move_is_from_the_places_that_were_left_and_from_no_other() {
        let note =
            |d: &str| CommitNote::Tidy(Tidy { v: VERSION, t: "t".to_owned(), d: d.to_owned(), start: 5, missing: Vec::new(), last: None });
        let rule = rule(&["left"]);
        rule.check_destination(&note("now")).unwrap();
        rule.check_destination(&note("left")).unwrap();
        assert_eq!(rule.check_destination(&note("another")).unwrap_err().code, Code(422));
        let accepting = Rule { accept: vec![Accept::Destination], ..rule };
        accepting.check_destination(&note("another")).unwrap();
    }
}
