//! From the model's small numbers to the engine's types: what the model asks here is decided by the code that runs in production.

use catchment::decision::{self, Finding, Next};
use catchment::intent::{CommitNote, Intent as RealIntent, Tidy, UploadNote, VERSION};
use catchment::store::StoreErrorKind;
use catchment_formats::{Counts, Digest, GapCause, LaneId, Missing, OffsetRange, Proof};

use super::state::{Content, Failure, Intent, Key, Lane, Note, Offset};

/// The lane's identity.
pub(super) fn lane_id(l: usize) -> LaneId {
    let (rule, cluster, topic) = (String::new(), String::new(), String::new());
    LaneId { rule, cluster, topic, topic_id: "0".into(), partition: i32::try_from(l).expect("few lanes") }
}

/// A range of offsets.
pub(super) fn range(start: Offset, end: Offset) -> OffsetRange {
    OffsetRange::new(start.into(), end.into())
}

/// A gap as an intent and a proof list it.
pub(super) fn missing(gap: Option<(Offset, Offset)>) -> Vec<Missing> {
    gap.iter().map(|(from, to)| Missing((*from).into(), (*to).into(), GapCause::Retention)).collect()
}

/// A key's text: its directory and its first offset.
pub(super) fn key_text(key: Key) -> String {
    format!("{}/{}", key.directory, key.start)
}

fn small(number: i64) -> Offset {
    Offset::try_from(number).expect("the model's offsets are small")
}

fn parse_key(text: &str) -> Key {
    let (directory, start) = text.split_once('/').expect("a key of the model");
    Key { start: start.parse().expect("an offset"), directory: directory.parse().expect("a directory") }
}

fn gap_of(missing: &[Missing]) -> Option<(Offset, Offset)> {
    missing.first().map(|m| (small(m.0), small(m.1)))
}

fn real_intent(intent: &Intent) -> RealIntent {
    RealIntent {
        v: VERSION,
        start: intent.key.start.into(),
        end: intent.end.into(),
        missing: missing(intent.gap),
        key: key_text(intent.key),
        enc: String::new(),
        t: String::new(),
        d: String::new(),
        at: i64::from(!intent.old),
        nonce: String::new(),
        last: None,
        pending: Vec::new(),
        end_last: None,
        upload: intent.upload.map(|id| UploadNote { id: id.to_string(), parts: 1, bytes: 1, digest: String::new() }),
    }
}

/// A commit's metadata, printed and parsed by the engine: recovery knows no more than that text says.
pub(super) fn read_note(note: &Note) -> Note {
    let real = match note {
        Note::Tidy(start) => CommitNote::Tidy(Tidy {
            v: VERSION,
            t: String::new(),
            d: String::new(),
            start: (*start).into(),
            missing: Vec::new(),
            last: None,
        }),
        Note::Intent(intent) => CommitNote::Intent(Box::new(real_intent(intent))),
    };
    match CommitNote::parse(&real.print()).expect("the engine reads what it prints") {
        CommitNote::Tidy(tidy) => Note::Tidy(small(tidy.start)),
        CommitNote::Intent(intent) => Note::Intent(Intent {
            key: parse_key(&intent.key),
            end: small(intent.end),
            gap: gap_of(&intent.missing),
            upload: intent.upload.map(|upload| upload.id.parse().expect("an id of the model")),
            old: intent.at == 0,
        }),
    }
}

fn proof(l: usize, key: Key, content: &Content) -> Proof {
    Proof {
        lane: lane_id(l),
        range: range(key.start, content.end),
        missing: missing(content.gap),
        counts: Counts::default(),
        digest: Digest { values: 0, rest: 0 },
        encoding: String::new(),
        size: None,
    }
}

/// What a HEAD of the intent's key finds.
pub(super) fn look(lane: &Lane, l: usize, intent: &Intent) -> Finding {
    let Some(object) = lane.object(intent.key) else { return Finding::Absent };
    decision::compare(&real_intent(intent), &lane_id(l), Some(&proof(l, object.key, &object.now)))
}

/// What follows an answer to a publishing request.
pub(super) fn after_publish(answer: Result<(), Failure>, end: Offset) -> Next {
    decision::after_publish(answer.map_err(kind), end.into())
}

/// What follows a HEAD after a request that did not succeed.
pub(super) fn after_look(failure: Failure, finding: &Finding, intent: &Intent) -> Next {
    decision::after_look(kind(failure), finding, &real_intent(intent))
}

/// What Kafka has lost of an intent's range since it was pinned: the gap as it is now, if it is larger than the intent's.
pub(super) fn lost_since_pin(intent: &Intent, position: Offset, log_start: Offset) -> Option<(Offset, Offset)> {
    let real = real_intent(intent);
    let gap = decision::lost_since_pin(&real, position.into(), log_start.into())?;
    gap_of(&decision::with_gap(&real.missing, gap))
}

/// The end of a settled range.
pub(super) fn settled_end(end: i64) -> Offset {
    small(end)
}

fn kind(failure: Failure) -> StoreErrorKind {
    match failure {
        Failure::Exists => StoreErrorKind::Exists,
        Failure::Conflict => StoreErrorKind::Conflict,
        Failure::NoSuchUpload => StoreErrorKind::NoSuchUpload,
        Failure::Denied => StoreErrorKind::Denied,
        Failure::Unknown => StoreErrorKind::Unknown,
    }
}
