//! What a state of the model holds: the log, the group's memory and the store of each lane, and what each worker knows.
//!
//! Everything is a small number, so that all states of a bounded setting can be visited. Offsets count from 0; a directory is 0 until
//! compaction or retention takes the record that names it, then 1; bytes are a function of range, gap and reading, as the encoder's are of
//! the records. Time is one bit: whether the upload deadline has passed since a pin or since an upload was opened.

/// An offset of a lane.
pub type Offset = u8;

/// Everything at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    /// The instances of the program.
    pub workers: Vec<Worker>,
    /// The partitions, with all that Kafka and the store know of them.
    pub lanes: Vec<Lane>,
    /// What may still go wrong.
    pub left: Faults,
}

/// How often each thing may happen in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Faults {
    /// A worker dies.
    pub crashes: u8,
    /// A worker is frozen past its session.
    pub pauses: u8,
    /// A request or its answer is lost, or refused for a while.
    pub errors: u8,
    /// The upload deadline passes although nobody waits for it: the store is away, or all stand still.
    pub outages: u8,
    /// Kafka compacts a partition.
    pub compactions: u8,
    /// Kafka's retention moves a partition's log start.
    pub retentions: u8,
    /// Kafka forgets the group's offsets.
    pub expiries: u8,
    /// The group's memory of a lane goes back by one commit (assumption A2 fails).
    pub regressions: u8,
    /// The store's lifecycle rule aborts an upload.
    pub lost_uploads: u8,
    /// The store lists fewer parts of an upload than it has.
    pub short_lists: u8,
}

/// One partition of the rule, as Kafka and the store know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// First offset that Kafka still has.
    pub log_start: Offset,
    /// Whether the log was compacted: a reading gives other bytes than before.
    pub compacted: bool,
    /// What the group remembers.
    pub committed: Option<Commit>,
    /// What it remembered before; kept only where the group's memory may go back.
    pub previous: Option<Commit>,
    /// The end that the lane's anchor names.
    pub anchor: Offset,
    /// What is visible.
    pub objects: Vec<Object>,
    /// Multipart uploads; a place in the list is an id.
    pub uploads: Vec<Upload>,
    /// Requests that nobody waits for and that may still take effect, each any number of times.
    pub requests: Vec<Request>,
    /// Accepted intents and objects, in the order in which they came to be.
    pub sights: Vec<Seen>,
}

/// Where an object stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// First offset of its range.
    pub start: Offset,
    /// Its directory.
    pub directory: u8,
}

/// What an object's bytes are a function of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Content {
    /// End of its range.
    pub end: Offset,
    /// What it lacks because Kafka lacked it.
    pub gap: Option<(Offset, Offset)>,
    /// Whether the records were read from a compacted log.
    pub reading: bool,
}

/// A visible object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Object {
    /// Where it stands.
    pub key: Key,
    /// Its bytes when it became visible.
    pub first: Content,
    /// Its bytes now.
    pub now: Content,
}

/// A committed offset and its metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Commit {
    /// P.
    pub position: Offset,
    /// What the metadata says.
    pub note: Note,
}

/// The metadata of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Note {
    /// Nothing is pinned; the next object starts here.
    Tidy(Offset),
    /// A range is pinned.
    Intent(Intent),
}

/// A pinned range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Intent {
    /// The object's key.
    pub key: Key,
    /// End of the range.
    pub end: Offset,
    /// What the object will lack.
    pub gap: Option<(Offset, Offset)>,
    /// The upload that lacks only its Complete.
    pub upload: Option<u8>,
    /// Whether the upload deadline has passed since it was pinned.
    pub old: bool,
}

/// A multipart upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Upload {
    /// Its key.
    pub key: Key,
    /// What its parts amount to, once all are there.
    pub content: Option<Content>,
    /// What became of it.
    pub fate: Fate,
    /// Whether the upload deadline has passed since it was opened.
    pub old: bool,
}

impl Upload {
    /// An id that nobody knows.
    pub const FREE: Self = Self { key: Key { start: 0, directory: 0 }, content: None, fate: Fate::Gone, old: false };

    /// Whether all its parts are there and it lacks only its Complete.
    pub fn is_whole(&self) -> bool {
        self.fate == Fate::Open && self.content.is_some()
    }

    /// It is no more. Its age does not matter then, but tells it from an id that nobody knows.
    pub fn end(&mut self, fate: Fate) {
        (self.fate, self.content, self.old) = (fate, None, true);
    }
}

/// What became of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// Parts and a Complete are taken.
    Open,
    /// A Complete was taken; the upload is gone and the object is not there yet.
    Completing,
    /// Its object became visible.
    Completed,
    /// Aborted, lost, or completed in vain.
    Gone,
    /// Gone, although it was young and an intent named it: somebody else aborted it.
    Robbed,
}

/// A publishing request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Request {
    /// The key that it would make visible.
    pub key: Key,
    /// What it is.
    pub body: Body,
    /// Whether a racy guard may already have let it pass, because the key was free when it was sent.
    pub passed: bool,
}

/// The two ways to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Body {
    /// PutObject.
    Put(Content),
    /// CompleteMultipartUpload of all parts.
    Complete(u8),
    /// The same of all parts but the last. Only a mutant sends it.
    CompleteFewer(u8),
}

impl Body {
    /// The upload that this completes.
    pub fn upload(self) -> Option<u8> {
        match self {
            Self::Put(_) => None,
            Self::Complete(id) | Self::CompleteFewer(id) => Some(id),
        }
    }
}

/// What was seen of a lane, for the invariants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seen {
    /// Whether an intent was accepted; else an object became visible.
    pub pinned: bool,
    /// The key.
    pub key: Key,
    /// End of the range.
    pub end: Offset,
    /// What is missing.
    pub gap: Option<(Offset, Offset)>,
    /// Whether the group's memory went back behind this intent: it binds nobody who comes next, and the object may become visible all the same.
    pub forgotten: bool,
}

/// One instance of the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Worker {
    /// Whether its process runs.
    pub life: Life,
    /// What the coordinator makes of its commits.
    pub member: Member,
    /// What it does for each lane.
    pub tasks: Vec<Task>,
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Life {
    /// It does not.
    #[default]
    Down,
    /// It does.
    Live,
    /// It is frozen, with all that it knows.
    Paused,
}

/// What the group's coordinator makes of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Member {
    /// It has not joined.
    #[default]
    Out,
    /// A member of the current generation.
    Current,
    /// A member of an earlier generation that was thrown out and has not heard of it: a zombie.
    Stale,
}

/// What a worker does for one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Task {
    /// What it is about to do.
    pub step: Step,
    /// P.
    pub position: Offset,
    /// S.
    pub start: Offset,
    /// Whether the group does not know P and S yet.
    pub untidied: bool,
    /// Whether the key of the first pin of this assignment was looked at.
    pub checked: bool,
    /// The range to be pinned, or that is.
    pub intent: Option<Intent>,
    /// What would be sent.
    pub body: Option<Content>,
    /// The upload of the open window.
    pub upload: Option<u8>,
    /// Whether the intent's upload is to be completed by fewer parts than were pinned. Only a mutant does that.
    pub fewer: bool,
    /// Whether the lane was revoked. Only mutants go on then.
    pub dead: bool,
}

/// What a lane's task is about to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Nothing: the lane is not this worker's.
    #[default]
    None,
    /// Ask the group for the lane's offset (R1).
    Fetch,
    /// Find its place from anchor and objects: the group knows nothing.
    Walk,
    /// Read records from the position and close a window at some offset.
    Reading,
    /// HEAD the key of the first pin (R2).
    Check,
    /// Commit the intent.
    Pin,
    /// Send the PUT or the Complete.
    Send,
    /// Wait for the answer; whether the key was free when the request was sent.
    Sent(bool),
    /// HEAD the key, because the answer was not a success.
    Look(Failure),
    /// HEAD the key of an intent that was read (R3).
    Recover,
    /// ListParts of the intent's upload (R5a).
    Parts,
    /// Keep looking: the upload is gone, its object may be on its way.
    Gone,
    /// Read the intent's range again (R5b); whether a Complete of its upload has had its time, and nothing else is waited for.
    ReadAgain(bool),
    /// Pin the intent again, which only the lane's owner can, and abort its upload (R5c); the same.
    GiveUp(bool),
    /// Wait until no full copy can be on its way any more (R5c).
    Outwait,
    /// A commit was refused and the lane dropped.
    Refused,
    /// The lane asks the operator.
    Stopped,
}

/// Why a publishing request did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    /// The guard refused it.
    Exists,
    /// A conflicting request was under way.
    Conflict,
    /// The upload does not exist.
    NoSuchUpload,
    /// A permission was missing.
    Denied,
    /// Nobody knows what became of it.
    Unknown,
}

impl Task {
    /// A task that knows nothing but what it is about to do.
    pub fn at(step: Step) -> Self {
        Self { step, ..Self::default() }
    }

    /// The request that this task has on its way.
    pub fn request(&self) -> Option<Request> {
        let (Step::Sent(passed), Some(intent)) = (self.step, self.intent) else { return None };
        let body = match (intent.upload, self.body) {
            (Some(upload), _) if self.fewer => Body::CompleteFewer(upload),
            (Some(upload), _) => Body::Complete(upload),
            (None, Some(content)) => Body::Put(content),
            (None, None) => return None,
        };
        Some(Request { key: intent.key, body, passed })
    }
}

impl Lane {
    /// The object under a key.
    pub fn object(&self, key: Key) -> Option<&Object> {
        self.objects.iter().find(|o| o.key == key)
    }

    /// What the store has of an upload.
    pub fn upload(&self, id: u8) -> &Upload {
        &self.uploads[usize::from(id)]
    }

    /// The upload, to be changed.
    pub fn upload_mut(&mut self, id: u8) -> &mut Upload {
        &mut self.uploads[usize::from(id)]
    }

    /// The directory that a window from `start` gets if its records are read now.
    pub fn directory(&self, start: Offset) -> u8 {
        u8::from(self.compacted || self.log_start > start)
    }

    /// The intent that the group remembers.
    pub fn open_intent(&self) -> Option<Intent> {
        match self.committed?.note {
            Note::Intent(intent) => Some(intent),
            Note::Tidy(_) => None,
        }
    }

    /// Whether a Complete was taken and has not shown its effect.
    pub fn is_completing(&self) -> bool {
        self.uploads.iter().any(|upload| upload.fate == Fate::Completing)
    }

    /// Notes what was seen, once.
    pub fn see(&mut self, seen: Seen) {
        if !self.sights.contains(&seen) {
            self.sights.push(seen);
        }
    }
}

impl State {
    /// The same state up to the names of workers and lanes: the smallest of all that differ in names only.
    pub fn canonical(mut self) -> Self {
        self.workers.sort_unstable();
        if self.lanes.len() < 2 {
            return self;
        }
        let mut swapped = self.clone();
        swapped.lanes.swap(0, 1);
        swapped.workers.iter_mut().for_each(|worker| worker.tasks.swap(0, 1));
        swapped.workers.sort_unstable();
        self.min(swapped)
    }
}
