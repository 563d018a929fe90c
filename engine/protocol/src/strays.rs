//! Keys under which multipart uploads may be open that nobody will complete: which they are, and when to look at them.
//!
//! Place in the flow: what a sweep works off, remembered by a lane from one recovery to the next. Guarantee: bounded; a key is not due before an
//! object stands under it. It asks the store nothing; what it forgets, with its process or because there are too many, is left to rule R7 or to a lifecycle rule of
//! the bucket.

use std::time::Duration;

use crate::store::OpenUpload;

/// Keys that are remembered at a time. More are only left behind by a store that refuses every abort, which no repetition mends.
const STRAYS_MAX: usize = 64;

/// Uploads of one key that are remembered as replaced. Each is one recovery more that could not finish what it found; the oldest are left to their age.
const REPLACED_MAX: usize = 16;

/// Keys under which uploads may be open that are of no use.
#[derive(Debug, Default)]
pub struct Strays(Vec<Stray>);

/// One of them.
#[derive(Debug)]
pub struct Stray {
    /// The key.
    pub key: String,
    /// Uploads that intents named, and that nobody will complete.
    pub replaced: Vec<String>,
    /// Whether an object stands under the key.
    stands: bool,
    /// When it is to be looked at next, on the steady clock.
    pub due: Duration,
    /// Attempts that were made.
    pub sweeps: u32,
}

/// What is to be done with an upload of a key that stands.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is aborted.
    Abort,
    /// It may be alive: it is aborted only if it has no part.
    AbortWithoutParts,
}

impl Strays {
    /// Uploads may be left open under this key.
    pub fn expect(&mut self, object_key: &str, replaced: Option<String>) {
        if let Some(stray) = self.0.iter_mut().find(|stray| stray.key == object_key) {
            stray.note_replaced(replaced);
            return;
        }
        let (key, replaced) = (object_key.to_owned(), replaced.into_iter().collect());
        self.keep(Stray { key, replaced, stands: false, due: Duration::ZERO, sweeps: 0 });
    }

    /// Remembers one; the oldest is forgotten for it if there are too many.
    pub fn keep(&mut self, stray: Stray) {
        if self.0.len() == STRAYS_MAX {
            self.0.remove(0);
        }
        self.0.push(stray);
    }

    /// An object stands under this key.
    pub fn note_standing(&mut self, object_key: &str) {
        self.0.iter_mut().filter(|stray| stray.key == object_key).for_each(|stray| stray.stands = true);
    }

    /// Whether an upload that an intent named is of no use any more, and known to this process alone.
    pub fn have_replaced(&self) -> bool {
        self.replaced().next().is_some()
    }

    /// Whether some would soon be forgotten: a backlog of small windows leaves no time between two tidies.
    pub fn are_many(&self) -> bool {
        2 * self.0.len() >= STRAYS_MAX
    }

    /// Uploads of keys that stand which intents named.
    pub fn replaced(&self) -> impl Iterator<Item = (&str, &str)> {
        let standing = self.0.iter().filter(|stray| stray.stands);
        standing.flat_map(|stray| stray.replaced.iter().map(|id| (stray.key.as_str(), id.as_str())))
    }

    /// This upload is gone.
    pub fn forget_replaced(&mut self, object_key: &str, id: &str) {
        for stray in self.0.iter_mut().filter(|stray| stray.key == object_key) {
            stray.replaced.retain(|replaced| replaced != id);
        }
    }

    /// Whether any key that stands is to be looked at.
    pub fn are_due(&self, now: Duration) -> bool {
        self.0.iter().any(|stray| stray.is_due(now))
    }

    /// Takes those out whose keys stand.
    pub fn take_due(&mut self, now: Duration) -> Vec<Stray> {
        self.0.extract_if(.., |stray| stray.is_due(now)).collect()
    }
}

impl Stray {
    fn note_replaced(&mut self, id: Option<String>) {
        let Some(id) = id.filter(|id| !self.replaced.contains(id)) else { return };
        if self.replaced.len() == REPLACED_MAX {
            self.replaced.remove(0);
        }
        self.replaced.push(id);
    }

    fn is_due(&self, now: Duration) -> bool {
        self.stands && self.due <= now
    }

    /// What becomes of an upload of this key, once the key stands: `age_max` is the age, in milliseconds, of one that cannot be alive any more.
    pub fn fate(&self, upload: &OpenUpload, age_max: u64) -> Fate {
        if self.replaced.contains(&upload.id) || upload.age_ms > age_max { Fate::Abort } else { Fate::AbortWithoutParts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_that_stand_are_swept_and_the_oldest_are_forgotten() {
        let mut strays = Strays::default();
        for n in 0..=STRAYS_MAX {
            strays.expect(&n.to_string(), None);
            strays.expect(&n.to_string(), Some(format!("upload {n}")));
        }
        assert_eq!(strays.0.len(), STRAYS_MAX);
        assert!(strays.take_due(Duration::ZERO).is_empty() && !strays.are_due(Duration::ZERO));
        strays.note_standing("0");
        strays.note_standing("7");
        assert!(strays.are_due(Duration::ZERO));
        let due: Vec<_> = strays.take_due(Duration::ZERO).into_iter().map(|stray| (stray.key, stray.replaced)).collect();
        assert_eq!(due, [("7".to_owned(), vec!["upload 7".to_owned()])]);
        assert_eq!(strays.0.len(), STRAYS_MAX - 1);
        strays.0.truncate(STRAYS_MAX / 2);
        assert!(strays.are_many());
        strays.0.truncate(STRAYS_MAX / 2 - 1);
        assert!(!strays.are_many());
    }

    /// A lane that had the next window at hand pinned it first, and with the process went the knowledge of the upload.
    #[test]
    fn uploads_that_were_replaced_are_due_from_when_their_key_stands_until_they_are_gone() {
        let mut strays = Strays::default();
        strays.expect("plain", None);
        strays.note_standing("plain");
        for id in ["one", "two", "one"] {
            strays.expect("k", Some(id.into()));
        }
        assert!(!strays.have_replaced(), "they may be wanted until their range stands");
        strays.note_standing("k");
        assert_eq!(strays.replaced().collect::<Vec<_>>(), [("k", "one"), ("k", "two")]);
        strays.forget_replaced("k", "one");
        assert_eq!(strays.replaced().collect::<Vec<_>>(), [("k", "two")]);
        strays.forget_replaced("k", "two");
        assert!(!strays.have_replaced());
    }

    #[test]
    fn only_so_many_are_remembered_of_one_key() {
        let mut strays = Strays::default();
        (0..=REPLACED_MAX).for_each(|n| strays.expect("k", Some(n.to_string())));
        strays.note_standing("k");
        assert_eq!((strays.replaced().count(), strays.replaced().next()), (REPLACED_MAX, Some(("k", "1"))));
    }

    fn upload(id: &str, age_ms: u64) -> OpenUpload {
        OpenUpload { key: "k".into(), id: id.into(), age_ms }
    }

    fn stray() -> Stray {
        Stray { key: "k".into(), replaced: vec!["replaced".into()], stands: true, due: Duration::ZERO, sweeps: 0 }
    }

    #[test]
    fn a_key_is_due_when_it_stands_and_its_time_has_come() {
        let waiting = Stray { due: Duration::from_secs(5), ..stray() };
        assert!(!waiting.is_due(Duration::from_secs(4)) && waiting.is_due(Duration::from_secs(5)));
        assert!(!Stray { stands: false, ..waiting }.is_due(Duration::from_secs(5)));
    }

    #[test]
    fn an_upload_that_may_be_alive_is_spared_unless_it_is_empty_or_was_replaced() {
        let fate = |id: &str, age_ms| stray().fate(&upload(id, age_ms), 1000);
        assert_eq!([fate("replaced", 0), fate("other", 1001)], [Fate::Abort, Fate::Abort]);
        assert_eq!(fate("other", 1000), Fate::AbortWithoutParts);
    }
}
