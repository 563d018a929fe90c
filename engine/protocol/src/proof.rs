//! What an object says of itself: the form in which metadata holds it, and when it needs a record beside the object. Pure.

use catchment_formats::{Counts, Digest, GapCause, LaneId, Missing, OffsetRange, Proof};

use crate::intent::Intent;
use crate::key::{ControlKeys, Layout};
use crate::store::{Metadata, ObjectInfo};

/// Name of the user metadata that holds a proof.
pub const PROOF_METADATA: &str = "catchment-proof";

/// Name of the user metadata that holds the CRC-64/XZ of the object's bytes, in decimal digits.
pub const SUM_METADATA: &str = "catchment-crc64";

/// The user metadata of an object that is written in one request: its proof, and the sum of its bytes, which a store that shows one of its own (COS) can
/// be compared with by who has not sent them.
pub fn metadata_with_sum(proof: &Proof, crc64: u64) -> Metadata {
    let mut metadata = metadata(proof);
    if !metadata.is_empty() {
        metadata.push((SUM_METADATA.into(), crc64.to_string()));
    }
    metadata
}

/// The proof alone.
pub fn metadata(proof: &Proof) -> Metadata {
    let text = serde_json::to_string(proof).expect("a proof holds nothing that JSON cannot");
    // Stores take 2 KB of metadata. A proof with many missing ranges stays where it always is: footer or record.
    let mut metadata = Metadata::new();
    if fits_metadata(&text) {
        metadata.push((PROOF_METADATA.into(), text));
    }
    metadata
}

fn fits_metadata(text: &str) -> bool {
    text.len() <= 1_800 && text.bytes().all(|b| (0x20..0x7f).contains(&b))
}

/// Whether a proof needs a record of its own beside the object.
pub fn needs_record(proof: &Proof, multipart: bool, store_has_metadata: bool) -> bool {
    let is_raw = proof.encoding.starts_with("raw.");
    is_raw && (multipart || !store_has_metadata || metadata(proof).is_empty())
}

/// Whether somebody who publishes what an intent pins may write a record beside it. What its records are is not known; what is known is the longest
/// proof that they can give, with one range more for what was lost behind the pin.
pub fn may_need_record(intent: &Intent, lane: &LaneId, store_has_metadata: bool) -> bool {
    let lost = Missing(i64::MAX, i64::MAX, GapCause::TopicRecreated);
    let longest = Proof {
        lane: lane.clone(),
        range: OffsetRange::new(intent.start, intent.end),
        missing: intent.missing.iter().copied().chain([lost]).collect(),
        counts: Counts {
            records: u64::MAX,
            null_values: u64::MAX,
            value_bytes: u64::MAX,
            key_bytes: u64::MAX,
            header_bytes: u64::MAX,
            timestamp_min: Some(i64::MIN),
            timestamp_max: Some(i64::MIN),
        },
        digest: Digest { values: u64::MAX, rest: u64::MAX },
        encoding: intent.enc.clone(),
        size: Some(u64::MAX),
    };
    needs_record(&longest, intent.upload.is_some(), store_has_metadata)
}

/// The key of the record beside an object.
pub fn record_key(layout: &Layout, object_key: &str) -> Option<String> {
    let parsed = layout.parse_key(object_key)?;
    Some(ControlKeys::of_path(&parsed.topic_path).object(parsed.partition, parsed.start))
}

/// Whether the bytes that the store has are those that were sent, as far as it and the object's metadata say.
pub fn has_sum_of_sent(info: &ObjectInfo) -> bool {
    let sent = info.metadata.iter().find(|(name, _)| name == SUM_METADATA).and_then(|(_, text)| text.parse().ok());
    info.crc64.zip(sent).is_none_or(|(stored, sent): (u64, u64)| stored == sent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::{CommitNote, UploadNote};

    #[test]
    fn metadata_holds_what_every_store_takes() {
        let small = proof("raw.none.none.v1");
        assert_eq!(metadata(&small), [(PROOF_METADATA.to_owned(), small.to_json())]);
        assert_eq!(metadata(&with_missing("raw.none.none.v1", 100)), []);
        assert_eq!(metadata(&Proof { encoding: "r\u{e9}".into(), ..proof("") }), []);
        assert!(fits_metadata(&"~".repeat(1_800)) && fits_metadata(" ") && !fits_metadata(&"~".repeat(1_801)));
        assert!(!fits_metadata("\u{7f}") && !fits_metadata("\u{1f}"));
    }

    #[test]
    fn only_a_raw_object_that_cannot_hold_its_proof_needs_a_record() {
        assert!(!needs_record(&proof("parquet.zstd1.v1"), true, false), "it has a footer");
        assert!(!needs_record(&proof("raw.none.none.v1"), false, true));
        assert!(needs_record(&proof("raw.none.none.v1"), true, true), "metadata is fixed before the proof is known");
        assert!(needs_record(&proof("raw.none.none.v1"), false, false));
        assert!(needs_record(&with_missing("raw.none.none.v1", 100), false, true), "it does not fit");
    }

    /// A record that comes late is awaited before another one is written; who has none is not waited for.
    #[test]
    fn an_intent_tells_whether_there_may_be_a_record() {
        let intent = |enc: &str, ranges: usize| {
            let text = r#"{"v":1,"S":10,"E":20,"key":"k","enc":"ENC","t":"0","d":"0","at":0,"nonce":"n"}"#.replace("ENC", enc);
            let Ok(CommitNote::Intent(intent)) = CommitNote::parse(&text) else { panic!("an intent") };
            Intent { missing: vec![Missing(i64::MAX - 1, i64::MAX, GapCause::CorruptBatch); ranges], ..*intent }
        };
        let raw = intent("raw.none.none.v1", 0);
        assert!(!may_need_record(&raw, &lane(), true) && may_need_record(&raw, &lane(), false));
        assert!(!may_need_record(&intent("parquet.zstd1.v1", 16), &lane(), false), "it has a footer");
        let upload = Some(UploadNote { id: "u".into(), parts: 2, bytes: 9, digest: "d".into() });
        assert!(may_need_record(&Intent { upload, ..raw }, &lane(), true), "metadata is fixed before the proof is known");
        let long = LaneId { topic: "t".repeat(249), ..lane() };
        assert!(!may_need_record(&intent("raw.none.none.v1", 8), &long, true));
        assert!(may_need_record(&intent("raw.none.none.v1", 40), &long, true), "what it lists may not fit");
    }
}
