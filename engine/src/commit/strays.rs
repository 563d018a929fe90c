//! Multipart uploads that nobody will complete: rule R7, and what is left when a key stands.
//!
//! Place in the flow: around the publishing of an object. Before its key is pinned or opened, and at recovery, uploads of exactly that key
//! are aborted that no intent names and that are too old to be alive; a younger one may be a living owner's. Once an object stands under
//! the key, what is still open there is of no use to anybody, however young it is: the object is final, and to whoever still sends parts or
//! a Complete the store says that the upload is gone, which makes it look and find the object. Most of these come from a
//! CreateMultipartUpload whose answer was lost.
//!
//! It does not insist: what cannot be listed or aborted is tried again a few times; after that a lifecycle rule of the bucket removes it.

use std::time::Duration;

use super::driver::{Exit, Lane};
use crate::clock::Backoff;

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
    /// An upload that is known by its id.
    known: Option<String>,
    /// Whether an object stands under the key.
    stands: bool,
    sweeps: u32,
}

impl Strays {
    /// Uploads may be left open under this key.
    pub(super) fn expect(&mut self, object_key: &str, known: Option<String>) {
        if let Some(stray) = self.0.iter_mut().find(|stray| stray.key == object_key) {
            stray.known = stray.known.take().or(known);
            return;
        }
        if self.0.len() == STRAYS_MAX {
            self.0.remove(0);
        }
        self.0.push(Stray { key: object_key.to_owned(), known, stands: false, sweeps: 0 });
    }

    fn note_standing(&mut self, object_key: &str) {
        self.0.iter_mut().filter(|stray| stray.key == object_key).for_each(|stray| stray.stands = true);
    }

    /// Takes those out whose keys stand.
    fn take_due(&mut self) -> Vec<Stray> {
        self.0.extract_if(.., |stray| stray.stands).collect()
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
        for upload in uploads {
            let is_stale = upload.age_ms > age_max && Some(upload.id.as_str()) != named;
            are_left |= !(is_stale && self.abort(object_key, &upload.id).await);
        }
        if are_left {
            self.history.strays.expect(object_key, None);
        }
        Ok(())
    }

    /// An object stands under the key: whatever else is open there goes.
    pub(super) async fn sweep(&mut self, object_key: &str) {
        self.history.strays.note_standing(object_key);
        self.sweep_due().await;
    }

    /// One attempt at each key that stands.
    pub(super) async fn sweep_due(&mut self) {
        for mut stray in self.history.strays.take_due() {
            stray.sweeps += 1;
            if !self.is_swept(&stray).await && stray.sweeps < SWEEPS_MAX {
                self.history.strays.0.push(stray);
            }
        }
    }

    /// Attempts while anything is due, but not for long.
    pub(super) async fn sweep_at_end(&mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
        for _ in 0..LAST_SWEEPS {
            if !self.history.strays.0.iter().any(|stray| stray.stands) {
                return;
            }
            backoff.wait(&*self.env.clock).await;
            self.sweep_due().await;
        }
    }

    async fn is_swept(&self, stray: &Stray) -> bool {
        let mut is_swept = match &stray.known {
            Some(id) => self.abort(&stray.key, id).await,
            None => true,
        };
        match self.env.store.list_uploads(&stray.key).await {
            Ok(uploads) => {
                for upload in uploads {
                    is_swept &= self.abort(&stray.key, &upload.id).await;
                }
            }
            Err(e) => {
                tracing::warn!(key = stray.key, error = %e, "uploads behind an object could not be listed");
                is_swept = false;
            }
        }
        is_swept
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
        assert!(strays.take_due().is_empty());
        strays.note_standing("0");
        strays.note_standing("7");
        let due: Vec<_> = strays.take_due().into_iter().map(|stray| (stray.key, stray.known)).collect();
        assert_eq!(due, [("7".to_owned(), Some("upload 7".to_owned()))]);
        assert_eq!(strays.0.len(), STRAYS_MAX - 1);
    }
}
