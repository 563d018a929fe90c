//! Multipart uploads that nobody will complete: rule R7, and what is left when a key stands.
//!
//! Place in the flow: around the publishing of an object. Before its key is pinned or opened, and at recovery, uploads of exactly that key are aborted
//! that no intent names and that are too old to be alive; a younger one may be a living owner's. But who opens an upload and never hears of it leaves
//! one that is young, and so does who dies; once the object stands nobody comes back to its key. So uploads of a key that stands are looked at once
//! more: those that are too old by now, those that an intent named and that were replaced, and those without a part. If this lane alone can have made
//! the object, its key is also looked at again when the young ones are too old.
//!
//! Guarantee: no abort takes a record away, in any guard class. An object is final, so that whoever still works on an upload of its key, be it a zombie
//! or, if this is one, the living owner, is told that the upload is gone, looks, and finds the object; the guard plays no part in that. And the upload
//! that made the object is never aborted: stores are known that go on to list it, and whose abort then takes the object's bytes. Which one that is, is
//! known if the store has told this lane so, or if the one that the intent names is not listed any more; while it is not known, none is touched that has
//! parts or that an intent named.
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
/// where listing is not permitted, or where an upload never ages.
const SWEEPS_MAX: u32 = 5;

/// Attempts when a run has read everything: the process may end right after. One more than a refusal of three requests outlasts.
const LAST_SWEEPS: u32 = 4;

/// Uploads of one key that are remembered as replaced. Each is one recovery more that could not finish what it found; the oldest are left to their age.
const REPLACED_MAX: usize = 16;

/// Keys under which uploads may be open that are of no use.
#[derive(Debug, Default)]
pub(super) struct Strays(Vec<Stray>);

#[derive(Debug)]
struct Stray {
    key: String,
    /// Uploads that intents named, and that were not completed.
    replaced: Vec<String>,
    /// Whether an object stands under the key.
    stands: bool,
    /// The upload that has made it, if one has.
    made_by: Option<String>,
    /// Whether that is known for sure: the store said so to this lane, or nobody else can have.
    is_sure: bool,
    /// Whether nothing but a request of this lane can have made it.
    is_own: bool,
    /// When it is to be looked at next, on the steady clock.
    due: Duration,
    /// Attempts that were made.
    sweeps: u32,
}

/// Who can have made an object that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// This lane was the first to pin the key's range: no upload but the one that it names can have been completed at all.
    OnlyThisLane,
    /// The store has said so in answer to this lane's request.
    ThisLane,
    /// It was found. An intent names an upload, and whoever pinned the range before may have completed another one.
    Somebody,
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
            stray.note_replaced(replaced);
            return;
        }
        let (key, replaced) = (object_key.to_owned(), replaced.into_iter().collect());
        self.keep(Stray { key, replaced, stands: false, made_by: None, is_sure: false, is_own: false, due: Duration::ZERO, sweeps: 0 });
    }

    fn keep(&mut self, stray: Stray) {
        if self.0.len() == STRAYS_MAX {
            self.0.remove(0);
        }
        self.0.push(stray);
    }

    /// The object of an intent stands under this key, by the upload that the intent named, if it named one.
    pub(super) fn note_standing(&mut self, object_key: &str, named: Option<&str>, maker: Maker) {
        for stray in self.0.iter_mut().filter(|stray| stray.key == object_key) {
            stray.stands = true;
            // What this lane knows of a key it knows, though it recovers meanwhile and finds its own object.
            stray.is_own |= maker == Maker::OnlyThisLane;
            stray.is_sure |= maker != Maker::Somebody;
            // An intent that was pinned again without its upload says nothing of it; one name too many only spares an upload.
            stray.made_by = named.map(str::to_owned).or(stray.made_by.take());
        }
    }

    /// Whether an upload that an intent named is of no use any more, and known to this process alone.
    pub(super) fn have_replaced(&self) -> bool {
        self.0.iter().any(|stray| stray.stands && stray.is_sure && stray.of_no_use().next().is_some())
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

    /// Uploads that were replaced, and did not make the object after all.
    fn of_no_use(&self) -> impl Iterator<Item = &String> {
        self.replaced.iter().filter(|id| self.made_by.as_ref() != Some(id))
    }

    fn is_due(&self, now: Duration) -> bool {
        self.stands && self.due <= now
    }

    /// What is left of an upload with parts that is not too old. Who may have made the object is not waited for.
    fn left_of_young(&self, upload: &OpenUpload, age_max: u64) -> Left {
        if self.is_own { Left::Young(age_max.saturating_sub(upload.age_ms) + 1) } else { Left::Nothing }
    }

    /// An upload that has made an object is no longer open, but for the stores that go on to list it: of these nobody can say.
    fn conclude(&mut self, open: &[OpenUpload]) {
        let is_gone = |id: &String| !open.iter().any(|upload| upload.id == *id);
        self.is_sure |= self.made_by.as_ref().is_some_and(is_gone);
    }

    fn fate(&self, upload: &OpenUpload, age_max: u64) -> Fate {
        let is_replaced = self.replaced.contains(&upload.id);
        if self.made_by.as_ref() == Some(&upload.id) || (is_replaced && !self.is_sure) {
            Fate::Spare
        } else if self.is_sure && (is_replaced || upload.age_ms > age_max) {
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

    /// Step 6, and an attempt at each key that stands. Cleaning up must not make a tidy late; but a run that has an end is over with its last tidy.
    pub(super) async fn tidy_and_sweep(&mut self) -> Result<(), Exit> {
        if self.env.until.is_some() {
            self.sweep().await;
            return self.tidy_window().await;
        }
        self.abort_replaced().await;
        self.tidy_window().await?;
        self.sweep().await;
        Ok(())
    }

    /// Behind a tidy nobody who takes the lane over comes back to a key whose upload was replaced: that it was is known to this process alone.
    pub(super) async fn abort_replaced(&mut self) {
        let mut strays = std::mem::take(&mut self.history.strays);
        for stray in strays.0.iter_mut().filter(|stray| stray.stands && stray.is_sure) {
            self.abort_what_is_of_no_use(stray).await;
        }
        self.history.strays = strays;
    }

    /// One attempt at each key that stands.
    pub(super) async fn sweep(&mut self) {
        let now = self.env.clock.steady();
        for mut stray in self.history.strays.take_due(now) {
            match self.sweep_key(&mut stray).await {
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

    async fn sweep_key(&self, stray: &mut Stray) -> Left {
        // By its id, also where listing is not permitted.
        let mut left = if stray.is_sure { self.abort_what_is_of_no_use(stray).await } else { Left::Nothing };
        let age_max = self.env.rule.stale_upload_age_ms();
        let uploads = match self.env.store.list_uploads(&stray.key).await {
            Ok(uploads) => uploads,
            Err(e) => {
                tracing::warn!(key = stray.key, error = %e, "uploads behind an object could not be listed");
                return Left::Refused;
            }
        };
        stray.conclude(&uploads);
        for upload in &uploads {
            left = left.and(match stray.fate(upload, age_max) {
                Fate::Spare => Left::Nothing,
                Fate::Abort => self.try_abort(&stray.key, &upload.id).await,
                Fate::AbortWithoutParts => self.abort_without_parts(stray, upload, age_max).await,
            });
        }
        left
    }

    /// Uploads that were replaced, once each; the store's refusals stay with the stray.
    async fn abort_what_is_of_no_use(&self, stray: &mut Stray) -> Left {
        let mut left = Left::Nothing;
        for id in stray.of_no_use().cloned().collect::<Vec<_>>() {
            crash::point(Point::BeforeAbortReplaced);
            let answer = self.try_abort(&stray.key, &id).await;
            if answer == Left::Nothing {
                stray.replaced.retain(|replaced| *replaced != id);
            }
            left = left.and(answer);
        }
        left
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
        strays.note_standing("0", None, Maker::OnlyThisLane);
        strays.note_standing("7", Some("another"), Maker::OnlyThisLane);
        strays.note_standing("7", None, Maker::Somebody);
        let due: Vec<_> = strays.take_due(Duration::ZERO).into_iter().map(|stray| (stray.key, stray.replaced, stray.made_by)).collect();
        assert_eq!(due, [("7".to_owned(), vec!["upload 7".to_owned()], Some("another".to_owned()))]);
        assert_eq!(strays.0.len(), STRAYS_MAX - 1);
    }

    /// A lane that had the next window at hand pinned it first, and with the process went the knowledge of the upload.
    #[test]
    fn uploads_that_were_replaced_are_due_from_when_their_key_stands_until_it_is_swept() {
        let mut strays = Strays::default();
        strays.expect("plain", None);
        strays.note_standing("plain", None, Maker::OnlyThisLane);
        for id in ["one", "two", "one", "made"] {
            strays.expect("k", Some(id.into()));
        }
        assert!(!strays.have_replaced(), "they may be wanted until their range stands by another one");
        strays.note_standing("k", Some("made"), Maker::Somebody);
        assert!(!strays.have_replaced(), "or one of them may have been completed after all");
        strays.note_standing("k", Some("made"), Maker::ThisLane);
        assert!(strays.have_replaced());
        assert_eq!(strays.0[1].of_no_use().collect::<Vec<_>>(), ["one", "two"]);
        drop(strays.take_due(Duration::ZERO));
        assert!(!strays.have_replaced());
    }

    fn stray() -> Stray {
        let (replaced, made_by) = (vec!["replaced".into()], Some("made".into()));
        Stray { key: "k".into(), replaced, stands: true, made_by, is_sure: true, is_own: true, due: Duration::ZERO, sweeps: 0 }
    }

    #[test]
    fn a_young_upload_is_waited_for_if_it_cannot_have_made_the_object() {
        let upload = OpenUpload { key: "k".into(), id: "u".into(), age_ms: 400 };
        let own = stray();
        assert_eq!(own.left_of_young(&upload, 1000), Left::Young(601));
        assert_eq!(Stray { is_own: false, ..stray() }.left_of_young(&upload, 1000), Left::Nothing);
        let mut strays = Strays::default();
        strays.expect("k", None);
        for maker in [Maker::OnlyThisLane, Maker::Somebody] {
            strays.note_standing("k", None, maker);
        }
        assert!(strays.0[0].is_own, "a recovery that finds its lane's own object takes nothing back");
        let waiting = Stray { due: Duration::from_secs(5), ..stray() };
        assert!(!waiting.is_due(Duration::from_secs(4)) && waiting.is_due(Duration::from_secs(5)));
        assert!(!Stray { stands: false, ..own }.is_due(Duration::from_secs(5)));
    }

    #[test]
    fn a_refusal_comes_before_what_is_young_and_the_youngest_is_waited_for() {
        assert_eq!(Left::Young(3).and(Left::Young(5)).and(Left::Nothing), Left::Young(5));
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
    #[test]
    fn while_nobody_knows_what_made_the_object_no_upload_is_touched_that_may_have() {
        let open = |ids: &[&str]| ids.iter().map(|id| OpenUpload { key: "k".into(), id: (*id).into(), age_ms: 5000 }).collect::<Vec<_>>();
        let found = || Stray { is_sure: false, ..stray() };
        let fates = |stray: &Stray| open(&["made", "replaced", "other"]).iter().map(|upload| stray.fate(upload, 1000)).collect::<Vec<_>>();
        let mut listed = found();
        listed.conclude(&open(&["made", "replaced"]));
        assert_eq!(fates(&listed), [Fate::Spare, Fate::Spare, Fate::AbortWithoutParts]);
        let mut gone = found();
        gone.conclude(&open(&["replaced"]));
        assert_eq!(fates(&gone), [Fate::Spare, Fate::Abort, Fate::Abort]);
        let mut unnamed = Stray { made_by: None, ..found() };
        unnamed.conclude(&open(&[]));
        assert!(!unnamed.is_sure, "an intent that names none says nothing of them");
    }
}
