//! Multipart uploads that nobody will complete: rule R7, and what is left when a key stands.
//!
//! Place in the flow: around the publishing of an object. Before its key is pinned or opened, and at recovery, uploads of exactly that key
//! are aborted that no intent names and that are too old to be alive; a younger one may be a living owner's. But who opens an upload and
//! never hears of it leaves one that is young, and so does who dies; once the object stands nobody comes back to its key. So uploads of a
//! key that stands are looked at once more: those that are too old by now, those that an intent named and that were replaced, and those
//! without a part. If this lane alone can have made the object, its key is also looked at again when the young ones are too old.
//!
//! Guarantee: no abort takes a record away, in any guard class. An object is final, so that whoever still works on an upload of its key, be
//! it a zombie or, if this is one, the living owner, is told that the upload is gone, looks, and finds the object; the guard plays no part
//! in that. And the upload that made the object is never aborted: stores are known that go on to list it, and whose abort then takes the
//! object's bytes. An upload without a part can have made none; one with parts is only touched if another has replaced it or it is too old
//! to be alive.
//!
//! It does not insist: what cannot be listed or aborted is tried again a few times; after that a lifecycle rule of the bucket removes it.

use std::time::Duration;

use super::driver::{Exit, Lane};
use crate::clock::Backoff;
use crate::crash::{self, Point};
use crate::store::{OpenUpload, StoreErrorKind};

/// Keys that are remembered at a time. More are only left behind by a store that refuses every abort, which no repetition mends.
const STRAYS_MAX: usize = 64;

/// How often the uploads of a key that stands are asked for. Fewer would leave uploads behind a short refusal, more would ask for ever
/// where listing is not permitted.
const SWEEPS_MAX: u32 = 5;

/// Attempts when a run has read everything: the process may end right after.
const LAST_SWEEPS: u32 = 3;

/// Keys under which uploads may be open that are of no use.
#[derive(Debug, Default)]
pub(super) struct Strays(Vec<Stray>);

#[derive(Debug)]
struct Stray {
    key: String,
    /// An upload that an intent named, and that was not completed.
    replaced: Option<String>,
    /// Whether an object stands under the key.
    stands: bool,
    /// The upload that has made it, if one has.
    made_by: Option<String>,
    /// Whether nothing but a request of this lane can have made it.
    is_own: bool,
    /// When it is to be looked at next, on the steady clock.
    due: Duration,
    /// Attempts that the store refused.
    sweeps: u32,
}

/// What is to be done with an upload of a key that stands.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Spare,
    Abort,
    AbortWithoutParts,
}

/// What an attempt at a key has left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    /// Uploads that may be alive for so many milliseconds more.
    Young(u64),
    /// What the store did not do.
    Refused,
}

impl Strays {
    /// Uploads may be left open under this key.
    pub(super) fn expect(&mut self, object_key: &str, replaced: Option<String>) {
        if let Some(stray) = self.0.iter_mut().find(|stray| stray.key == object_key) {
            stray.replaced = stray.replaced.take().or(replaced);
            return;
        }
        let key = object_key.to_owned();
        self.keep(Stray { key, replaced, stands: false, made_by: None, is_own: false, due: Duration::ZERO, sweeps: 0 });
    }

    fn keep(&mut self, stray: Stray) {
        if self.0.len() == STRAYS_MAX {
            self.0.remove(0);
        }
        self.0.push(stray);
    }

    /// An object stands under this key. `made_by` is the upload that the last intent named: no other has been completed since. `is_own` if
    /// this lane was the first to pin the key's range: then no other upload of the key can have been completed at all.
    pub(super) fn note_standing(&mut self, object_key: &str, made_by: Option<&str>, is_own: bool) {
        for stray in self.0.iter_mut().filter(|stray| stray.key == object_key) {
            // What this lane knows of a key it knows, though it recovers meanwhile and finds its own object.
            (stray.stands, stray.is_own) = (true, is_own || stray.is_own);
            stray.made_by = made_by.map(str::to_owned);
        }
    }

    fn are_due(&self, now: Duration) -> bool {
        self.0.iter().any(|stray| stray.is_due(now))
    }

    /// Takes those out whose keys stand.
    fn take_due(&mut self, now: Duration) -> Vec<Stray> {
        self.0.extract_if(.., |stray| stray.is_due(now)).collect()
    }
}

impl Left {
    /// Of two uploads of one key.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Refused, _) | (_, Self::Refused) => Self::Refused,
            (Self::Young(one), Self::Young(two)) => Self::Young(one.min(two)),
            (Self::Nothing, left) | (left, Self::Nothing) => left,
        }
    }
}

impl Stray {
    fn is_due(&self, now: Duration) -> bool {
        self.stands && self.due <= now
    }

    /// What is left of an upload with parts that is not too old. Who may have made the object is not waited for.
    fn left_of_young(&self, upload: &OpenUpload, age_max: u64) -> Left {
        if self.is_own { Left::Young(age_max.saturating_sub(upload.age_ms) + 1) } else { Left::Nothing }
    }

    fn fate(&self, upload: &OpenUpload, age_max: u64) -> Fate {
        let is = |id: &Option<String>| id.as_deref() == Some(upload.id.as_str());
        if is(&self.made_by) {
            Fate::Spare
        } else if is(&self.replaced) || upload.age_ms > age_max {
            Fate::Abort
        } else {
            Fate::AbortWithoutParts
        }
    }
}

impl Lane {
    /// Rule R7: aborts uploads of exactly this key that no intent names and that are too old to be alive.
    pub(super) async fn abort_stale_uploads(&mut self, object_key: &str, named: Option<&str>) -> Result<(), Exit> {
        if !self.env.store.limits().multipart {
            return Ok(());
        }
        let age_max = self.env.rule.stale_upload_age_ms();
        let uploads = match self.env.store.list_uploads(object_key).await {
            Ok(uploads) => uploads,
            Err(e) => {
                // Cleaning up is worth a request, not a stop.
                tracing::warn!(key = object_key, error = %e, "open uploads could not be listed");
                self.history.strays.expect(object_key, None);
                return Ok(());
            }
        };
        let mut are_left = false;
        for upload in uploads.into_iter().filter(|upload| Some(upload.id.as_str()) != named) {
            are_left |= upload.age_ms <= age_max || !self.abort(object_key, &upload.id).await;
        }
        if are_left {
            self.history.strays.expect(object_key, None);
        }
        Ok(())
    }

    /// Step 6, and an attempt at each key that stands. Cleaning up must not make a tidy late; but a run that has an end is over with its
    /// last tidy.
    pub(super) async fn tidy_and_sweep(&mut self) -> Result<(), Exit> {
        if self.env.until.is_some() {
            self.sweep().await;
            return self.tidy_window().await;
        }
        self.tidy_window().await?;
        self.sweep().await;
        Ok(())
    }

    /// One attempt at each key that stands.
    pub(super) async fn sweep(&mut self) {
        let now = self.env.clock.steady();
        for mut stray in self.history.strays.take_due(now) {
            match self.sweep_key(&mut stray).await {
                Left::Nothing => continue,
                Left::Young(wait) => stray.due = now + Duration::from_millis(wait),
                Left::Refused => stray.sweeps += 1,
            }
            if stray.sweeps < SWEEPS_MAX {
                self.history.strays.keep(stray);
            }
        }
    }

    /// Attempts while anything is due, but not for long.
    pub(super) async fn sweep_at_end(&mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
        for _ in 0..LAST_SWEEPS {
            if !self.history.strays.are_due(self.env.clock.steady()) {
                return;
            }
            backoff.wait(&*self.env.clock).await;
            self.sweep().await;
        }
    }

    async fn sweep_key(&self, stray: &mut Stray) -> Left {
        // By its id, also where listing is not permitted.
        if let Some(id) = stray.replaced.clone().filter(|id| stray.made_by.as_ref() != Some(id))
            && self.abort_replaced(&stray.key, &id).await
        {
            stray.replaced = None;
        }
        let age_max = self.env.rule.stale_upload_age_ms();
        let uploads = match self.env.store.list_uploads(&stray.key).await {
            Ok(uploads) => uploads,
            Err(e) => {
                tracing::warn!(key = stray.key, error = %e, "uploads behind an object could not be listed");
                return Left::Refused;
            }
        };
        let mut left = Left::Nothing;
        for upload in &uploads {
            left = left.and(match stray.fate(upload, age_max) {
                Fate::Spare => Left::Nothing,
                Fate::Abort => self.try_abort(&stray.key, &upload.id).await,
                Fate::AbortWithoutParts => self.abort_without_parts(stray, upload, age_max).await,
            });
        }
        left
    }

    async fn abort_replaced(&self, object_key: &str, id: &str) -> bool {
        crash::point(Point::BeforeAbortReplaced);
        self.abort(object_key, id).await
    }

    async fn abort_without_parts(&self, stray: &Stray, upload: &OpenUpload, age_max: u64) -> Left {
        match self.env.store.list_parts(&stray.key, &upload.id).await {
            Ok(parts) if parts.is_empty() => self.try_abort(&stray.key, &upload.id).await,
            // Somebody works on it, or has died; rule R7 knows when.
            Ok(_) => stray.left_of_young(upload, age_max),
            Err(e) if e.kind == StoreErrorKind::NoSuchUpload => Left::Nothing,
            Err(e) => {
                tracing::warn!(key = stray.key, error = %e, "parts of an upload behind an object could not be listed");
                Left::Refused
            }
        }
    }

    async fn try_abort(&self, object_key: &str, id: &str) -> Left {
        if self.abort(object_key, id).await { Left::Nothing } else { Left::Refused }
    }

    async fn abort(&self, object_key: &str, id: &str) -> bool {
        match self.env.store.abort_upload(object_key, id).await {
            Ok(()) => {
                self.env.metrics.uploads_aborted.inc();
                true
            }
            Err(e) => {
                tracing::warn!(key = object_key, error = %e, "an upload that is of no use was not aborted");
                false
            }
        }
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
        strays.note_standing("0", None, true);
        strays.note_standing("7", Some("another"), true);
        let due: Vec<_> = strays.take_due(Duration::ZERO).into_iter().map(|stray| (stray.key, stray.replaced, stray.made_by)).collect();
        assert_eq!(due, [("7".to_owned(), Some("upload 7".to_owned()), Some("another".to_owned()))]);
        assert_eq!(strays.0.len(), STRAYS_MAX - 1);
    }

    fn stray() -> Stray {
        let (replaced, made_by) = (Some("replaced".into()), Some("made".into()));
        Stray { key: "k".into(), replaced, stands: true, made_by, is_own: true, due: Duration::ZERO, sweeps: 0 }
    }

    #[test]
    fn a_young_upload_is_waited_for_if_it_cannot_have_made_the_object() {
        let upload = OpenUpload { key: "k".into(), id: "u".into(), age_ms: 400 };
        let own = stray();
        assert_eq!(own.left_of_young(&upload, 1000), Left::Young(601));
        assert_eq!(Stray { is_own: false, ..stray() }.left_of_young(&upload, 1000), Left::Nothing);
        let mut strays = Strays::default();
        strays.expect("k", None);
        for is_own in [true, false] {
            strays.note_standing("k", None, is_own);
        }
        assert!(strays.0[0].is_own, "a recovery that finds its lane's own object takes nothing back");
        let waiting = Stray { due: Duration::from_secs(5), ..stray() };
        assert!(!waiting.is_due(Duration::from_secs(4)) && waiting.is_due(Duration::from_secs(5)));
        assert!(!Stray { stands: false, ..own }.is_due(Duration::from_secs(5)));
    }

    #[test]
    fn a_refusal_comes_before_what_is_young_and_the_oldest_of_these_first() {
        assert_eq!(Left::Young(5).and(Left::Young(3)).and(Left::Nothing), Left::Young(3));
        assert_eq!(Left::Nothing.and(Left::Nothing), Left::Nothing);
        assert_eq!([Left::Refused.and(Left::Young(3)), Left::Nothing.and(Left::Refused)], [Left::Refused; 2]);
    }

    #[test]
    fn the_upload_that_made_the_object_is_spared_and_one_that_may_be_alive_unless_it_is_empty() {
        let stray = stray();
        let fate = |id: &str, age_ms| stray.fate(&OpenUpload { key: "k".into(), id: id.into(), age_ms }, 1000);
        assert_eq!([fate("made", 0), fate("made", 5000)], [Fate::Spare, Fate::Spare]);
        assert_eq!([fate("replaced", 0), fate("other", 1001)], [Fate::Abort, Fate::Abort]);
        assert_eq!(fate("other", 1000), Fate::AbortWithoutParts);
        let both = Stray { made_by: Some("replaced".into()), ..stray };
        assert_eq!(both.fate(&OpenUpload { key: "k".into(), id: "replaced".into(), age_ms: 5000 }, 1000), Fate::Spare);
    }
}
