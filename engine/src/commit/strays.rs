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

/// Keys that are remembered at a time. More are only left behind by a store that refuses every abort, which no repetition mends.
const STRAYS_MAX: usize = 64;

/// How often the uploads of a key that stands are asked for. Fewer would leave uploads behind a short refusal, more would ask for ever
/// where listing is not permitted, or where an upload never ages.
const SWEEPS_MAX: u32 = 5;

/// Attempts when a run has read everything: the process may end right after. One more than a refusal of three requests outlasts.
const LAST_SWEEPS: u32 = 4;

/// Uploads of one key that are remembered as replaced. Each is one recovery more that could not finish what it found; the oldest are left to their age.
const REPLACED_MAX: usize = 16;

/// How long aborts may hold up a tidy. More makes it late, and with it whoever takes the lane over; less leaves them to the sweep behind it.
const BEFORE_TIDY_MAX: Duration = Duration::from_secs(3);

/// How long the lane may be away at one key. Its windows wait meanwhile.
const SWEEP_MAX: Duration = Duration::from_secs(10);

/// Keys under which uploads may be open that are of no use.
#[derive(Debug, Default)]
pub(super) struct Strays(Vec<Stray>);

#[derive(Debug)]
struct Stray {
    key: String,
    /// Uploads that intents named, and that nobody will complete.
    replaced: Vec<String>,
    /// Whether an object stands under the key.
    stands: bool,
    /// When it is to be looked at next, on the steady clock.
    due: Duration,
    /// Attempts that were made.
    sweeps: u32,
}

/// What is to be done with an upload of a key that stands.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
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
            stray.note_replaced(replaced);
            return;
        }
        let (key, replaced) = (object_key.to_owned(), replaced.into_iter().collect());
        self.keep(Stray { key, replaced, stands: false, due: Duration::ZERO, sweeps: 0 });
    }

    fn keep(&mut self, stray: Stray) {
        if self.0.len() == STRAYS_MAX {
            self.0.remove(0);
        }
        self.0.push(stray);
    }

    /// An object stands under this key.
    pub(super) fn note_standing(&mut self, object_key: &str) {
        self.0.iter_mut().filter(|stray| stray.key == object_key).for_each(|stray| stray.stands = true);
    }

    /// Whether an upload that an intent named is of no use any more, and known to this process alone.
    pub(super) fn have_replaced(&self) -> bool {
        self.replaced().next().is_some()
    }

    /// Whether some would soon be forgotten: a backlog of small windows leaves no time between two tidies.
    pub(super) fn are_many(&self) -> bool {
        2 * self.0.len() >= STRAYS_MAX
    }

    /// Uploads of keys that stand which intents named.
    fn replaced(&self) -> impl Iterator<Item = (&str, &str)> {
        let standing = self.0.iter().filter(|stray| stray.stands);
        standing.flat_map(|stray| stray.replaced.iter().map(|id| (stray.key.as_str(), id.as_str())))
    }

    fn forget_replaced(&mut self, object_key: &str, id: &str) {
        for stray in self.0.iter_mut().filter(|stray| stray.key == object_key) {
            stray.replaced.retain(|replaced| replaced != id);
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
            // One look is enough, when the youngest is too old.
            (Self::Young(one), Self::Young(two)) => Self::Young(one.max(two)),
            (Self::Nothing, left) | (left, Self::Nothing) => left,
        }
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

    fn fate(&self, upload: &OpenUpload, age_max: u64) -> Fate {
        if self.replaced.contains(&upload.id) || upload.age_ms > age_max { Fate::Abort } else { Fate::AbortWithoutParts }
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
        let due: Vec<_> = strays.take_due(Duration::ZERO).into_iter().map(|stray| (stray.key, stray.replaced)).collect();
        assert_eq!(due, [("7".to_owned(), vec!["upload 7".to_owned()])]);
        assert_eq!(strays.0.len(), STRAYS_MAX - 1);
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
        assert!(strays.have_replaced());
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
    fn a_young_upload_is_looked_at_again_when_it_is_too_old() {
        assert_eq!(left_of_young(&upload("u", 400), 1000), Left::Young(601));
        let waiting = Stray { due: Duration::from_secs(5), ..stray() };
        assert!(!waiting.is_due(Duration::from_secs(4)) && waiting.is_due(Duration::from_secs(5)));
        assert!(!Stray { stands: false, ..waiting }.is_due(Duration::from_secs(5)));
    }

    #[test]
    fn a_refusal_comes_before_what_is_young_and_the_youngest_is_waited_for() {
        assert_eq!(Left::Young(3).and(Left::Young(5)).and(Left::Nothing), Left::Young(5));
        assert_eq!(Left::Nothing.and(Left::Nothing), Left::Nothing);
        assert_eq!([Left::Refused.and(Left::Young(3)), Left::Nothing.and(Left::Refused)], [Left::Refused; 2]);
    }

    #[test]
    fn an_upload_that_may_be_alive_is_spared_unless_it_is_empty_or_was_replaced() {
        let fate = |id: &str, age_ms| stray().fate(&upload(id, age_ms), 1000);
        assert_eq!([fate("replaced", 0), fate("other", 1001)], [Fate::Abort, Fate::Abort]);
        assert_eq!(fate("other", 1000), Fate::AbortWithoutParts);
    }
}
