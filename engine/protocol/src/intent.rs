//! The metadata string of a lane's OffsetCommit: a tidy, or an intent.
//!
//! Place in the flow: written by the commit protocol, read at recovery. An intent binds whoever reads it: the range, the key
//! and the encoding never change once it was accepted (rule R6). Both forms are JSON with a version, so that a foreign commit, an
//! older build and a newer build can be told apart.

use catchment_formats::Missing;
use serde::{Deserialize, Serialize};

use crate::position::LastRead;
use crate::store::Part;

/// The version that this build writes, and the only one that it reads.
pub const VERSION: u32 = 1;

/// Missing ranges an intent can name; one more closes the window before it.
pub const MISSING_RANGES_MAX: usize = 16;

/// Longest metadata of an OffsetCommit that we send, in bytes. Brokers allow 4,096 by default.
pub const INTENT_BYTES_MAX: usize = 3_000;

/// What a committed offset's metadata says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitNote {
    /// Nothing is pinned.
    Tidy(Tidy),
    /// A range is pinned and perhaps not visible yet.
    Intent(Box<Intent>),
}

/// Nothing is pinned: the committed offset is the position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tidy {
    /// [`VERSION`].
    pub v: u32,
    /// Hash of the topic's UUID.
    pub t: String,
    /// Hash of the destination: endpoint, bucket, prefix and layout.
    pub d: String,
    /// Start of the next object: the end of the last one, or the lane's start.
    #[serde(rename = "S")]
    pub start: i64,
    /// Ranges that the next object must list as missing, where nothing else will remember them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// The last record that was read before the committed offset, where the commit's own leader epoch does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRead>,
}

/// A window whose range, key and encoding are decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// [`VERSION`].
    pub v: u32,
    /// Start of the object's range.
    #[serde(rename = "S")]
    pub start: i64,
    /// End of the object's range.
    #[serde(rename = "E")]
    pub end: i64,
    /// Ranges that the object will not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// The whole key, below the store's prefix.
    pub key: String,
    /// The encoding's text form.
    pub enc: String,
    /// Hash of the topic's UUID.
    pub t: String,
    /// Hash of the destination.
    pub d: String,
    /// When it was pinned, in milliseconds of the wall clock.
    pub at: i64,
    /// Tells two pins apart in logs.
    pub nonce: String,
    /// The last record that was read before the committed offset, where the commit's own leader epoch does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRead>,
    /// Ranges that the object after this one must list as missing: found after the pin, and lost with records that were read before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Missing>,
    /// The last record that was read before the range's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_last: Option<LastRead>,
    /// A multipart upload that lacks only its Complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<UploadNote>,
}

/// A multipart upload, named so that another process can complete it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadNote {
    /// The store's id of the upload.
    pub id: String,
    /// Number of parts.
    pub parts: u32,
    /// Bytes of all parts.
    pub bytes: u64,
    /// Digest over the sorted lines `number:size:etag`.
    pub digest: String,
}

/// Why a commit's metadata is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteError {
    /// Empty: somebody committed with a plain client.
    Empty,
    /// Not parsable.
    Foreign,
    /// Written by another version.
    Version(u32),
}

impl Intent {
    /// The upload that it names.
    pub fn upload_id(&self) -> Option<&str> {
        self.upload.as_ref().map(|upload| upload.id.as_str())
    }

    /// What the object lists of what lies before `position`, and so before the object, or is of an earlier incarnation: ranges that nobody can
    /// find by reading.
    pub fn missing_before(&self, position: i64) -> impl Iterator<Item = Missing> {
        self.missing.iter().filter(move |m| m.1 <= position || !m.is_of_this_log()).copied()
    }
}

impl CommitNote {
    /// Parses a commit's metadata.
    ///
    /// # Errors
    /// If it is empty, foreign or of another version.
    pub fn parse(metadata: &str) -> Result<Self, NoteError> {
        if metadata.is_empty() {
            return Err(NoteError::Empty);
        }
        let value: serde_json::Value = serde_json::from_str(metadata).map_err(|_| NoteError::Foreign)?;
        let version = value.get("v").and_then(serde_json::Value::as_u64).ok_or(NoteError::Foreign)?;
        if version != u64::from(VERSION) {
            return Err(NoteError::Version(u32::try_from(version).unwrap_or(u32::MAX)));
        }
        if value.get("E").is_none() {
            return serde_json::from_value(value).map(Self::Tidy).map_err(|_| NoteError::Foreign);
        }
        let intent: Intent = serde_json::from_value(value).map_err(|_| NoteError::Foreign)?;
        if intent.start < 0 || intent.end < intent.start {
            return Err(NoteError::Foreign);
        }
        Ok(Self::Intent(Box::new(intent)))
    }

    /// The metadata string.
    pub fn print(&self) -> String {
        let text = match self {
            Self::Tidy(tidy) => serde_json::to_string(tidy),
            Self::Intent(intent) => serde_json::to_string(intent),
        };
        text.expect("notes hold nothing that JSON cannot")
    }

    /// Hash of the topic's UUID.
    pub fn topic_hash(&self) -> &str {
        match self {
            Self::Tidy(tidy) => &tidy.t,
            Self::Intent(intent) => &intent.t,
        }
    }

    /// What the object behind the committed offset, or behind the intent's range, must list as missing.
    pub fn pending(&self) -> &[Missing] {
        match self {
            Self::Tidy(tidy) => &tidy.missing,
            Self::Intent(intent) => &intent.pending,
        }
    }

    /// The last record that was read before the committed offset, where the commit's own leader epoch does not say.
    pub fn last(&self) -> Option<LastRead> {
        match self {
            Self::Tidy(tidy) => tidy.last,
            Self::Intent(intent) => intent.last,
        }
    }

    /// Hash of the destination.
    pub fn destination_hash(&self) -> &str {
        match self {
            Self::Tidy(tidy) => &tidy.d,
            Self::Intent(intent) => &intent.d,
        }
    }

    /// Start of the next object, or of the pinned one.
    pub fn start(&self) -> i64 {
        match self {
            Self::Tidy(tidy) => tidy.start,
            Self::Intent(intent) => intent.start,
        }
    }
}

/// Whether a note's topic hash may be that of a topic. A broker that had no UUIDs when the note was written, or has none now, cannot tell.
pub fn is_same_topic(hash: &str, topic_id: &str) -> bool {
    topic_id == "0" || hash == note_hash(topic_id) || hash == note_hash("0")
}

/// A short hash for notes: 16 hex digits of CRC-64. It tells honest mistakes apart; it is no seal.
pub fn note_hash(text: &str) -> String {
    format!("{:016x}", crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Xz, text.as_bytes()))
}

/// The digest of an upload's parts.
pub fn parts_digest(parts: &[Part]) -> String {
    let mut lines: Vec<_> = parts.iter().map(|p| (p.number, format!("{}:{}:{}\n", p.number, p.size, p.etag))).collect();
    lines.sort();
    note_hash(&lines.into_iter().map(|(_, line)| line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use catchment_formats::GapCause;
    use proptest::prelude::*;

    use super::*;

    fn intent(missing: usize, key: String) -> Intent {
        Intent {
            v: VERSION,
            start: i64::MAX - 1,
            end: i64::MAX,
            missing: (0..missing).map(|_| Missing(i64::MAX - 1, i64::MAX, GapCause::TopicRecreated)).collect(),
            key,
            enc: "raw.newline.zstd22.v1".into(),
            t: note_hash("t"),
            d: note_hash("d"),
            at: i64::MAX,
            nonce: "0123456789abcdef".into(),
            last: Some(LastRead { end: i64::MAX, epoch: i32::MAX }),
            pending: vec![Missing(i64::MAX - 1, i64::MAX, GapCause::Truncation)],
            end_last: Some(LastRead { end: i64::MAX, epoch: i32::MAX }),
            upload: None,
        }
    }

    #[test]
    fn the_largest_intent_without_an_upload_fits() {
        let note = CommitNote::Intent(Box::new(intent(MISSING_RANGES_MAX, "k".repeat(1024))));
        assert!(note.print().len() <= INTENT_BYTES_MAX, "{}", note.print().len());
    }

    #[test]
    fn what_an_intent_lists_of_before_its_range_cannot_be_found_by_reading() {
        let missing = |from, to, cause| Missing(from, to, cause);
        let before = missing(5, 10, GapCause::Truncation);
        let elsewhere = missing(30, 40, GapCause::TopicRecreated);
        let within = missing(12, 15, GapCause::Retention);
        let listed = Intent { missing: vec![before, elsewhere, within], ..intent(0, "k".into()) };
        assert_eq!(listed.missing_before(10).collect::<Vec<_>>(), [before, elsewhere], "what ends where it begins lies before it");
        assert_eq!(listed.missing_before(9).collect::<Vec<_>>(), [elsewhere], "another log's offsets are none of this one's");
        let upload = UploadNote { id: "u".into(), parts: 1, bytes: 1, digest: String::new() };
        assert_eq!(Intent { upload: Some(upload), ..listed.clone() }.upload_id(), Some("u"));
        assert_eq!(listed.upload_id(), None);
    }

    #[test]
    fn foreign_metadata_is_told_apart() {
        assert_eq!(CommitNote::parse(""), Err(NoteError::Empty));
        assert_eq!(CommitNote::parse("consumer-7"), Err(NoteError::Foreign));
        assert_eq!(CommitNote::parse("{\"v\":2,\"S\":1}"), Err(NoteError::Version(2)));
        assert_eq!(CommitNote::parse("{\"v\":1,\"S\":1}"), Err(NoteError::Foreign));
        assert_eq!(CommitNote::parse("{\"v\":1,\"S\":1,\"t\":\"\",\"d\":\"\",\"x\":1}"), Err(NoteError::Foreign));
    }

    #[test]
    fn a_topic_without_an_id_is_like_any_other() {
        assert!(is_same_topic(&note_hash("a"), "a") && is_same_topic(&note_hash("0"), "a") && is_same_topic(&note_hash("a"), "0"));
        assert!(!is_same_topic(&note_hash("a"), "b"));
    }

    #[test]
    fn a_range_that_runs_backwards_or_from_below_zero_is_foreign() {
        let parse = |start, end| CommitNote::parse(&CommitNote::Intent(Box::new(Intent { start, end, ..intent(0, "k".into()) })).print());
        assert!(parse(0, 0).is_ok());
        for (start, end) in [(-1, 5), (5, 4), (-1, -2)] {
            assert_eq!(parse(start, end), Err(NoteError::Foreign), "{start} to {end}");
        }
    }

    #[test]
    fn a_note_tells_what_it_was_written_with() {
        let (last, missing) = (Some(LastRead { end: 7, epoch: 3 }), Missing(7, 9, GapCause::Retention));
        let tidy = Tidy { v: VERSION, t: "topic".into(), d: "place".into(), start: 9, missing: vec![missing], last };
        let intent = Intent { t: "topic".into(), d: "place".into(), start: 9, pending: vec![missing], last, ..intent(1, "k".into()) };
        for note in [CommitNote::Tidy(tidy), CommitNote::Intent(Box::new(intent))] {
            assert_eq!((note.topic_hash(), note.destination_hash(), note.start()), ("topic", "place", 9));
            assert_eq!((note.pending(), note.last()), (&[missing][..], last));
        }
    }

    /// Row P12 of the failure matrix: what a group holds when a build is replaced by another one. The first lines are as the first builds wrote them, before there
    /// was any of the fields that may be absent.
    #[test]
    fn notes_of_earlier_builds_are_read_and_written_alike() {
        let tidy = r#"{"v":1,"t":"a","d":"b","S":7}"#;
        let pinned = r#"{"v":1,"S":7,"E":9,"key":"k","enc":"parquet.zstd1.v1","t":"a","d":"b","at":5,"nonce":"n"}"#;
        let latest = concat!(
            r#"{"v":1,"S":7,"E":9,"missing":[[7,8,"retention"]],"key":"k","enc":"parquet.zstd1.v1","t":"a","d":"b","at":5,"nonce":"n","#,
            r#""last":[7,3],"pending":[[9,10,"truncation"]],"end_last":[9,4],"upload":{"id":"u","parts":2,"bytes":30,"digest":"x"}}"#
        );
        for text in [tidy, r#"{"v":1,"t":"a","d":"b","S":7,"missing":[[5,7,"truncation"]],"last":[5,3]}"#, pinned, latest] {
            let note = CommitNote::parse(text).unwrap_or_else(|why| panic!("{why:?}: {text}"));
            assert_eq!((note.start(), note.topic_hash(), note.destination_hash()), (7, "a", "b"), "{text}");
            assert_eq!(note.print(), text, "an older build must be able to read it");
        }
        for text in [tidy, pinned, latest] {
            let later = text.replacen("\"v\":1", "\"v\":2", 1).replace("}", ",\"new\":true}");
            assert_eq!(CommitNote::parse(&later), Err(NoteError::Version(2)), "whatever a later version may add: {later}");
        }
    }

    #[test]
    fn hashes_stay_what_committed_notes_hold() {
        assert_eq!(note_hash("123456789"), "995dc9bbdf1939fa", "the check value of CRC-64/XZ");
        let part = |number, size, etag: &str| Part { number, size, etag: etag.into() };
        let parts = [part(2, 20, "b"), part(1, 10, "a")];
        assert_eq!(parts_digest(&parts), note_hash("1:10:a\n2:20:b\n"), "in the order of their numbers");
    }

    proptest! {
        #[test]
        fn print_and_parse_agree(start in 0_i64..1 << 40, len in 0_i64..1 << 40, key in "\\PC{0,80}", upload in any::<bool>()) {
            let mut intent = intent(2, key);
            (intent.start, intent.end) = (start, start + len);
            intent.upload = upload.then(|| UploadNote { id: "u".into(), parts: 3, bytes: 9, digest: "d".into() });
            let note = CommitNote::Intent(Box::new(intent));
            prop_assert_eq!(CommitNote::parse(&note.print()), Ok(note));
        }

        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC{0,200}") {
            let _ = CommitNote::parse(&text);
        }
    }
}
