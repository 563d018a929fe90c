//! Multipart uploads: who opened each, who has seen it since faults stopped, and which of them must be gone in the end.
//!
//! The protocol promises less than that none stays open (rule R7; `engine/src/commit/sweep.rs`): a lane knows uploads by their exact key,
//! and only while it lives. An upload is *due* to be aborted if its owner was told its id since faults stopped and did not try to pin it,
//! or if a lane that still lives was shown it since then and has made the object of its key, whose range nobody had pinned before: at once
//! if it has no part, else when it is older than the upload deadline. What is left but not due:
//!
//! * its key does not stand: the topic is gone, or nothing of its range is left;
//! * its key stands, and no lane lives that has seen it; or that lane has found the range pinned, so that the upload may have made the
//!   object; or the store refused that lane until it gave up.
//!
//! Nobody comes back to these: a lifecycle rule of the bucket removes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use catchment::source::TopicPartition;
use catchment::store::key::Layout;
use catchment::store::{ObjectStore as _, OpenUpload};
use serde::Serialize;
use tokio::time::Instant;

use super::process::Process;
use super::story::Story;

/// How long a lane may take to notice that an upload has become too old: it looks after its house every few seconds.
const NOTICE: Duration = Duration::from_secs(60);

/// From one look at what is left to the next.
const LOOK: Duration = Duration::from_secs(10);

/// What became of uploads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UploadCounts {
    /// Open when the process died that had opened them.
    pub orphaned: u64,
    /// Aborted by another process than that.
    pub swept: u64,
    /// Open in the end, and not due.
    pub left: u64,
}

impl UploadCounts {
    /// All of another count.
    pub fn merge(&mut self, other: &Self) {
        self.orphaned += other.orphaned;
        self.swept += other.swept;
        self.left += other.left;
    }
}

#[derive(Debug)]
struct Opened {
    /// Number of the process.
    by: u64,
    /// Whether the process has learnt of it since faults stopped, and no intent can name it.
    known: bool,
}

/// What is known of every upload that is open.
#[derive(Debug, Default)]
pub struct UploadBook {
    opened: BTreeMap<String, Opened>,
    /// By upload: which process was shown it since faults stopped, and when.
    shown: BTreeMap<String, Vec<(u64, u64)>>,
    /// Keys of the objects that were made of ranges that nobody had pinned before: by which process, and when.
    made: BTreeMap<String, (u64, u64)>,
    counts: UploadCounts,
}

impl UploadBook {
    /// A process has opened an upload.
    pub fn open(&mut self, id: &str, by: u64) {
        self.opened.insert(id.to_owned(), Opened { by, known: false });
    }

    /// A process has learnt, since faults stopped, of an upload that it has opened.
    pub fn know(&mut self, id: &str) {
        self.opened.entry(id.to_owned()).and_modify(|opened| opened.known = true);
    }

    /// A process asks the group to take an intent that names an upload. Whatever it is answered, the group may have it.
    pub fn name(&mut self, id: &str) {
        self.opened.entry(id.to_owned()).and_modify(|opened| opened.known = false);
    }

    /// A process has made the object of a key whose range nobody had pinned before.
    pub fn stand(&mut self, key: &str, by: u64, order: u64) {
        self.made.insert(key.to_owned(), (by, order));
    }

    /// An upload is an object now.
    pub fn complete(&mut self, id: &str) {
        self.opened.remove(id);
    }

    /// An upload was aborted; by no process, if by a lifecycle rule.
    pub fn abort(&mut self, id: &str, by: Option<u64>) {
        let opened = self.opened.remove(id);
        self.counts.swept += u64::from(opened.is_some_and(|opened| by.is_some_and(|by| by != opened.by)));
    }

    /// A process was shown uploads by a listing.
    pub fn show(&mut self, to: u64, order: u64, listed: &[OpenUpload]) {
        for upload in listed {
            self.shown.entry(upload.id.clone()).or_default().push((to, order));
        }
    }

    /// A process has died.
    pub fn orphan(&mut self, process: u64) {
        self.counts.orphaned += self.opened.values().filter(|opened| opened.by == process).count() as u64;
    }

    /// What became of uploads so far.
    pub fn counts(&self) -> UploadCounts {
        self.counts
    }

    fn was_shown(&self, id: &str, to: u64, since: u64) -> bool {
        self.shown.get(id).is_some_and(|shown| shown.iter().any(|(process, order)| *process == to && *order >= since))
    }
}

impl Story {
    /// Time passes until no upload is due, or until those that are should long be gone; these are named.
    pub(super) async fn await_sweeping(&mut self) -> Vec<String> {
        let plan = &self.world().plan;
        let window = Duration::from_millis(plan.window_ms.unsigned_abs());
        let patience = plan.upload_deadline.max(2 * window) + NOTICE;
        let began = Instant::now();
        loop {
            let open = self.open_uploads().await;
            let mut due = Vec::new();
            for upload in &open {
                if self.is_due(upload) {
                    due.push(format!("{} of {} is still open", upload.id, upload.key));
                }
            }
            if due.is_empty() || began.elapsed() > patience {
                self.world().uploads(|book| book.counts.left = (open.len() - due.len()) as u64);
                return due;
            }
            tokio::time::sleep(LOOK).await;
            self.see_to_processes().await;
        }
    }

    async fn open_uploads(&self) -> Vec<OpenUpload> {
        let mut open = Vec::new();
        for key in self.shared.store.open_uploads() {
            open.extend(self.shared.store.list_uploads(&key).await.unwrap_or_default());
        }
        open
    }

    fn is_due(&self, upload: &OpenUpload) -> bool {
        let is_known = self.world().uploads(|book| book.opened.get(&upload.id).is_some_and(|opened| opened.known));
        is_known || self.slots.iter().filter_map(|slot| slot.process.as_ref()).any(|process| self.is_answerable(process, upload))
    }

    /// Whether a lane that a process has now has made the object of an upload's key, and was shown the upload.
    fn is_answerable(&self, process: &Process, upload: &OpenUpload) -> bool {
        let Some(parsed) = Layout::Hive.parse_key(&upload.key) else { return false };
        let tp = TopicPartition { topic: Arc::from(parsed.topic), partition: parsed.partition };
        let Some(since) = process.member.leased_at(&tp) else { return false };
        self.world().uploads(|book| {
            let has_made = book.made.get(&upload.key).is_some_and(|(by, order)| *by == process.life && *order >= since);
            has_made && book.was_shown(&upload.id, process.life, since)
        })
    }
}

#[cfg(test)]
mod tests {
    use catchment::store::{Guard, Metadata};

    use super::*;
    use crate::simulation::plan::{Plan, Scope};
    use crate::simulation::world::World;

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_stays_is_named_if_it_was_due_and_counted_if_not() {
        let world = World::new(Plan::of(1, Scope::Settled), false);
        world.calm_down();
        let mut story = Story::new(Arc::new(world)).await;
        let id = story.shared.store.create_upload("k", &Metadata::new(), Guard::IfAbsent).await.expect("the memory store takes it");
        story.world().uploads(|book| {
            book.open(&id, 1);
            book.know(&id);
        });
        assert_eq!(story.await_sweeping().await, ["upload-1 of k is still open"]);
        story.world().uploads(|book| book.open(&id, 1));
        assert_eq!(story.await_sweeping().await, [""; 0]);
        assert_eq!(story.world().uploads(|book| book.counts().left), 1);
    }

    #[test]
    fn what_dies_with_a_process_and_what_another_one_aborts_is_counted() {
        let mut book = UploadBook::default();
        ["a", "b", "c", "d"].iter().for_each(|id| book.open(id, 1));
        book.complete("a");
        book.orphan(1);
        book.abort("b", Some(2));
        book.abort("c", None);
        book.abort("d", Some(1));
        book.abort("d", Some(2));
        assert_eq!(book.counts(), UploadCounts { orphaned: 3, swept: 1, left: 0 });
    }

    #[test]
    fn an_upload_was_shown_to_whom_it_was_listed_and_not_before() {
        let mut book = UploadBook::default();
        book.show(4, 17, &[OpenUpload { key: "k".into(), id: "u".into(), age_ms: 1 }]);
        assert_eq!([(4, 17), (4, 18), (5, 17)].map(|(to, since)| book.was_shown("u", to, since)), [true, false, false]);
    }
}
