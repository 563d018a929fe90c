//! Multipart uploads that nobody will complete: rule R7, and what is left when a key stands.
//!
//! Place in the flow: around the publishing of an object. Before its key is pinned or opened, and at recovery, uploads of exactly that key are aborted
//! that no intent names and that are too old to be alive; a younger one may be a living owner's. But who opens an upload and never hears of it leaves
//! one that is young, and so does who dies; once the object stands nobody comes back to its key. So uploads of a key that stands are looked at once
//! more: those that are too old by now, those that an intent named and that were replaced, and those without a part. The others are looked at again
//! when they are too old, by the lane that has seen them, for as long as it lives.
//!
//! Guarantee: no abort takes a record away, in any guard class. An object is final, so that whoever still works on an upload of its key, be it a zombie
//! or, if this is one, the living owner, is told that the upload is gone, looks, and finds the object; the guard plays no part in that. And an upload
//! that has made an object is no upload any more, on all services but those that go on to list it and whose abort then takes the object's bytes
//! (Ceph's issue 60771, SeaweedFS's 11382): the probe at the start measures that ([`probe`](crate::store::probe)), and there no upload is aborted but
//! one that this process has opened and nobody else knows.
//!
//! It does not insist: what cannot be listed or aborted is tried again a few times; after that a lifecycle rule of the bucket removes it. Nor does it
//! hold a lane up: what takes longer than a moment is left to the next attempt.

use std::time::Duration;

use super::driver::{Exit, Lane};
use crate::clock::{self, Backoff};
use crate::crash::{self, Point};
use crate::store::{OpenUpload, StoreErrorKind};
use crate::strays::{Fate, Stray};

/// How often the uploads of a key that stands are asked for. Fewer would leave uploads behind a short refusal, more would ask for ever
/// where listing is not permitted, or where an upload never ages.
const SWEEPS_MAX: u32 = 5;

/// Attempts when a run has read everything: the process may end right after. One more than a refusal of three requests outlasts.
const LAST_SWEEPS: u32 = 4;

/// How long aborts may hold up a tidy. More makes it late, and with it whoever takes the lane over; less leaves them to the sweep behind it.
const BEFORE_TIDY_MAX: Duration = Duration::from_secs(3);

/// How long the lane may be away at one key. Its windows wait meanwhile.
const SWEEP_MAX: Duration = Duration::from_secs(10);

/// What an attempt at a key has left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    /// Uploads that may be alive for so many milliseconds more.
    Young(u64),
    /// What the store did not do.
    Refused,
}

impl Left {
    /// Of two uploads of one key.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Refused, _) | (_, Self::Refused) => Self::Refused,
            // One look is enough, when the youngest is too old.
            (Self::Young(one), Self::Young(two)) => Self::Young(one.max(two)),
            (Self::Nothing, left) | (left, Self::Nothing) => left,
        }
    }
}

/// What is left of an upload with parts that is not too old.
fn left_of_young(upload: &OpenUpload, age_max: u64) -> Left {
    Left::Young(age_max.saturating_sub(upload.age_ms) + 1)
}

/// What is left to do at a key, if that is known in time: in that of requests, which no other clock makes faster.
async fn within(longest: Duration, attempt: impl Future<Output = Left>) -> Left {
    tokio::time::timeout(longest, attempt).await.unwrap_or(Left::Refused)
}

impl Lane {
    /// Rule R7: aborts uploads of exactly this key that no intent names and that are too old to be alive.
    pub(super) async fn abort_stale_uploads(&mut self, object_key: &str, named: Option<&str>) -> Result<(), Exit> {
        if !self.env.store.limits().multipart || !self.may_sweep() {
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

    /// Step 6, and an attempt at each key that stands. Cleaning up must not make a tidy late; but a run that has an end is over with its last tidy,
    /// whatever the lane would still do.
    pub(super) async fn tidy_and_sweep(&mut self) -> Result<(), Exit> {
        if let Some(until) = &self.env.until {
            let is_last = until.get(&self.lease.tp).is_none_or(|end| self.start >= *end);
            self.sweep().await;
            if is_last {
                self.sweep_at_end().await;
            }
            return self.tidy_window().await;
        }
        self.abort_replaced().await;
        self.tidy_window().await?;
        self.sweep().await;
        Ok(())
    }

    /// Behind a tidy nobody who takes the lane over comes back to a key whose upload was replaced: that it was is known to this process alone.
    pub(super) async fn abort_replaced(&mut self) {
        if !self.may_sweep() {
            return;
        }
        let enough = clock::now() + BEFORE_TIDY_MAX;
        let replaced: Vec<_> = self.history.strays.replaced().map(|(key, id)| (key.to_owned(), id.to_owned())).collect();
        for (key, id) in replaced {
            let left = enough.saturating_duration_since(clock::now());
            if within(left, self.abort_named(&key, &id)).await == Left::Nothing {
                self.history.strays.forget_replaced(&key, &id);
            }
        }
    }

    /// One attempt at each key that stands.
    pub(super) async fn sweep(&mut self) {
        let now = self.env.clock.steady();
        let due = self.history.strays.take_due(now);
        if !self.may_sweep() {
            return;
        }
        for mut stray in due {
            match within(SWEEP_MAX, self.sweep_key(&mut stray)).await {
                Left::Nothing => continue,
                Left::Young(wait) => stray.due = now + Duration::from_millis(wait),
                Left::Refused => {}
            }
            stray.sweeps += 1;
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

    /// Whether an upload that is open, or is listed as if it were, cannot have made an object. A look at the key before would not do: another
    /// process may complete the upload behind it.
    pub(super) fn may_sweep(&self) -> bool {
        self.env.rule.classes.forgets_completed
    }

    async fn sweep_key(&self, stray: &mut Stray) -> Left {
        // By its id, also where listing is not permitted.
        let mut left = Left::Nothing;
        for id in stray.replaced.clone() {
            let answer = self.abort_named(&stray.key, &id).await;
            if answer == Left::Nothing {
                stray.replaced.retain(|replaced| *replaced != id);
            }
            left = left.and(answer);
        }
        let age_max = self.env.rule.stale_upload_age_ms();
        let uploads = match self.env.store.list_uploads(&stray.key).await {
            Ok(uploads) => uploads,
            Err(e) => {
                tracing::warn!(key = stray.key, error = %e, "uploads behind an object could not be listed");
                return Left::Refused;
            }
        };
        for upload in &uploads {
            left = left.and(match stray.fate(upload, age_max) {
                Fate::Abort => self.try_abort(&stray.key, &upload.id).await,
                Fate::AbortWithoutParts => self.abort_without_parts(stray, upload, age_max).await,
            });
        }
        left
    }

    /// An upload that an intent named, and that nobody will complete.
    async fn abort_named(&self, object_key: &str, id: &str) -> Left {
        crash::point(Point::BeforeAbortReplaced);
        self.try_abort(object_key, id).await
    }

    async fn abort_without_parts(&self, stray: &Stray, upload: &OpenUpload, age_max: u64) -> Left {
        match self.env.store.list_parts(&stray.key, &upload.id).await {
            Ok(parts) if parts.is_empty() => self.try_abort(&stray.key, &upload.id).await,
            // Somebody works on it, or has died; rule R7 knows when.
            Ok(_) => left_of_young(upload, age_max),
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
    fn a_young_upload_is_looked_at_again_when_it_is_too_old() {
        let upload = OpenUpload { key: "k".into(), id: "u".into(), age_ms: 400 };
        assert_eq!(left_of_young(&upload, 1000), Left::Young(601));
    }

    #[test]
    fn a_refusal_comes_before_what_is_young_and_the_youngest_is_waited_for() {
        assert_eq!(Left::Young(3).and(Left::Young(5)).and(Left::Nothing), Left::Young(5));
        assert_eq!(Left::Nothing.and(Left::Nothing), Left::Nothing);
        assert_eq!([Left::Refused.and(Left::Young(3)), Left::Nothing.and(Left::Refused)], [Left::Refused; 2]);
    }
}
