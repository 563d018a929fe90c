//! Multipart uploads that nobody will complete: rule R7, and what is left when a key stands.
//!
//! Place in the flow: around the publishing of an object. Before its key is pinned or opened, and at recovery, uploads of exactly that key
//! are aborted that no intent names and that are too old to be alive; a younger one may be a living owner's. But who opens an upload and
//! never hears of it leaves one that is young, and once the object stands nobody comes back to its key. So uploads of a key that stands
//! are looked at once more: those that are too old by now, those that an intent named and that were replaced, and those without a part.
//!
//! Guarantee: no abort takes a record away, in any guard class. An object is final, so that whoever still works on an upload of its key, be
//! it a zombie or, if this is one, the living owner, is told that the upload is gone, looks, and finds the object; the guard plays no part in
//! that. And the upload that made the object is never aborted: stores are known that go on to list it, and whose abort then takes the object's
//! bytes. An upload without a part can have made none; one with parts is only touched if another has replaced it or it is too old to be alive.
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
    sweeps: u32,
}

/// What is to be done with an upload of a key that stands.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Spare,
    Abort,
    AbortWithoutParts,
}

impl Strays {
    /// Uploads may be left open under this key.
    pub(super) fn expect(&mut self, object_key: &str, replaced: Option<String>) {
        if let Some(stray) = self.0.iter_mut().find(|stray| stray.key == object_key) {
            stray.replaced = stray.replaced.take().or(replaced);
            return;
        }
        if self.0.len() == STRAYS_MAX {
            self.0.remove(0);
        }
        self.0.push(Stray { key: object_key.to_owned(), replaced, stands: false, made_by: None, sweeps: 0 });
    }

    /// An object stands under this key. `made_by` is the upload that the last intent named: no other has been completed since.
    pub(super) fn note_standing(&mut self, object_key: &str, made_by: Option<&str>) {
        for stray in self.0.iter_mut().filter(|stray| stray.key == object_key) {
            stray.stands = true;
            stray.made_by = made_by.map(str::to_owned);
        }
    }

    /// Whether an upload that an intent named is of no use any more, and known to this process alone.
    pub(super) fn have_replaced(&self) -> bool {
        self.0.iter().any(|stray| stray.stands && stray.replaced.is_some())
    }

    fn are_due(&self) -> bool {
        self.0.iter().any(|stray| stray.stands)
    }

    /// Takes those out whose keys stand.
    fn take_due(&mut self) -> Vec<Stray> {
        self.0.extract_if(.., |stray| stray.stands).collect()
    }
}

impl Stray {
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

    /// Step 6, and an attempt at each key that stands. Cleaning up must not make a tidy late; but a run that has an end is over with its last
    /// tidy, and behind a tidy nobody who takes the lane over comes back to a key whose upload was replaced.
    pub(super) async fn tidy_and_sweep(&mut self) -> Result<(), Exit> {
        if self.env.until.is_some() || self.history.strays.have_replaced() {
            self.sweep().await;
            return self.tidy_window().await;
        }
        self.tidy_window().await?;
        self.sweep().await;
        Ok(())
    }

    /// One attempt at each key that stands.
    pub(super) async fn sweep(&mut self) {
        for mut stray in self.history.strays.take_due() {
            stray.sweeps += 1;
            if !self.is_swept(&mut stray).await && stray.sweeps < SWEEPS_MAX {
                self.history.strays.0.push(stray);
            }
        }
    }

    /// Attempts while anything is due, but not for long.
    pub(super) async fn sweep_at_end(&mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
        for _ in 0..LAST_SWEEPS {
            if !self.history.strays.are_due() {
                return;
            }
            backoff.wait(&*self.env.clock).await;
            self.sweep().await;
        }
    }

    async fn is_swept(&self, stray: &mut Stray) -> bool {
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
                return false;
            }
        };
        let mut is_swept = true;
        for upload in &uploads {
            is_swept &= match stray.fate(upload, age_max) {
                Fate::Spare => true,
                Fate::Abort => self.abort(&stray.key, &upload.id).await,
                Fate::AbortWithoutParts => self.abort_without_parts(&stray.key, &upload.id).await,
            };
        }
        is_swept
    }

    async fn abort_replaced(&self, object_key: &str, id: &str) -> bool {
        crash::point(Point::BeforeAbortReplaced);
        self.abort(object_key, id).await
    }

    async fn abort_without_parts(&self, object_key: &str, id: &str) -> bool {
        match self.env.store.list_parts(object_key, id).await {
            Ok(parts) if parts.is_empty() => self.abort(object_key, id).await,
            // Somebody works on it, or has died; rule R7 knows when.
            Ok(_) => true,
            Err(e) if e.kind == StoreErrorKind::NoSuchUpload => true,
            Err(e) => {
                tracing::warn!(key = object_key, error = %e, "parts of an upload behind an object could not be listed");
                false
            }
        }
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
        assert!(strays.take_due().is_empty() && !strays.are_due());
        strays.note_standing("0", None);
        strays.note_standing("7", Some("another"));
        let due: Vec<_> = strays.take_due().into_iter().map(|stray| (stray.key, stray.replaced, stray.made_by)).collect();
        assert_eq!(due, [("7".to_owned(), Some("upload 7".to_owned()), Some("another".to_owned()))]);
        assert_eq!(strays.0.len(), STRAYS_MAX - 1);
    }

    /// A lane that had the next window at hand pinned it first, and with the process went the knowledge of the upload.
    #[test]
    fn an_upload_that_was_replaced_is_due_from_when_its_key_stands_until_it_is_swept() {
        let mut strays = Strays::default();
        strays.expect("plain", None);
        strays.note_standing("plain", None);
        strays.expect("k", Some("replaced".into()));
        assert!(!strays.have_replaced(), "it may be wanted until its range stands by another one");
        strays.note_standing("k", Some("made"));
        assert!(strays.have_replaced());
        drop(strays.take_due());
        assert!(!strays.have_replaced());
    }

    #[test]
    fn the_upload_that_made_the_object_is_spared_and_one_that_may_be_alive_unless_it_is_empty() {
        let stray = Stray { key: "k".into(), replaced: Some("replaced".into()), stands: true, made_by: Some("made".into()), sweeps: 0 };
        let fate = |id: &str, age_ms| stray.fate(&OpenUpload { key: "k".into(), id: id.into(), age_ms }, 1000);
        assert_eq!([fate("made", 0), fate("made", 5000)], [Fate::Spare, Fate::Spare]);
        assert_eq!([fate("replaced", 0), fate("other", 1001)], [Fate::Abort, Fate::Abort]);
        assert_eq!(fate("other", 1000), Fate::AbortWithoutParts);
        let both = Stray { made_by: Some("replaced".into()), ..stray };
        assert_eq!(both.fate(&OpenUpload { key: "k".into(), id: "replaced".into(), age_ms: 5000 }, 1000), Fate::Spare);
    }
}
