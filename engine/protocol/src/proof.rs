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
fn has_sum_of_sent(info: &ObjectInfo) -> bool {
    let sent = info.metadata.iter().find(|(name, _)| name == SUM_METADATA).and_then(|(_, text)| text.parse().ok());
    info.crc64.zip(sent).is_none_or(|(stored, sent): (u64, u64)| stored == sent)
}

/// What an object says of itself, if it is the object that was sent: one that was cut off on its way, or was damaged since, has another size than it was written
/// with, or another sum where the store shows one, and proves nothing.
pub fn of_whole(info: &ObjectInfo, proof: Option<Proof>) -> Option<Proof> {
    proof.filter(|proof| proof.size.is_none_or(|size| size == info.size) && has_sum_of_sent(info))
}

/// What a record beside an object says, if it was written for an object of this size: another attempt's may lie there.
pub fn of_size(proof: Option<Proof>, size: u64) -> Option<Proof> {
    proof.filter(|proof| proof.size == Some(size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::{CommitNote, UploadNote};

    fn lane() -> LaneId {
        LaneId { rule: "r".into(), cluster: "c".into(), topic: "orders".into(), topic_id: "0".into(), partition: 3 }
    }

    fn proof(encoding: &str) -> Proof {
        Proof {
            lane: lane(),
            range: OffsetRange::new(10, 20),
            missing: vec![],
            counts: Counts::default(),
            digest: Digest { values: 0, rest: 0 },
            encoding: encoding.into(),
            size: Some(5),
        }
    }

    fn with_missing(encoding: &str, ranges: usize) -> Proof {
        Proof { missing: vec![Missing(10, 11, GapCause::Retention); ranges], ..proof(encoding) }
    }

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

    fn info(size: u64, crc64: Option<u64>, metadata: Metadata) -> ObjectInfo {
        ObjectInfo { key: "k".into(), size, etag: "e".into(), metadata, crc64 }
    }

    #[test]
    fn only_an_object_of_its_size_and_sum_is_whole() {
        let whole = |size, crc64, sum: Option<&str>, said: Option<u64>| {
            let metadata = sum.map(|sum| (SUM_METADATA.to_owned(), sum.to_owned())).into_iter().collect();
            of_whole(&info(size, crc64, metadata), Some(Proof { size: said, ..proof("raw.none.none.v1") })).is_some()
        };
        assert!(whole(5, None, None, Some(5)) && whole(5, Some(7), None, Some(5)) && whole(5, None, Some("7"), Some(5)));
        assert!(whole(5, Some(7), Some("7"), Some(5)) && whole(4, None, None, None), "what is not said is not doubted");
        assert!(!whole(4, None, None, Some(5)) && !whole(6, Some(7), Some("7"), Some(5)), "another size");
        assert!(!whole(5, Some(8), Some("7"), Some(5)), "another sum");
        assert!(whole(5, Some(8), Some("x"), Some(5)), "what is no number says nothing");
        assert_eq!(of_whole(&info(5, None, Metadata::new()), None), None);
    }

    #[test]
    fn a_record_counts_for_the_size_that_it_was_written_for() {
        let of = |size, said| of_size(Some(Proof { size: said, ..proof("raw.none.none.v1") }), size).is_some();
        assert_eq!([of(5, Some(5)), of(6, Some(5)), of(5, None)], [true, false, false]);
        assert_eq!(of_size(None, 5), None);
    }

    #[test]
    fn a_sum_goes_with_a_proof_alone_and_a_record_has_the_lanes_place() {
        let small = proof("raw.none.none.v1");
        let sum = (SUM_METADATA.to_owned(), "7".to_owned());
        assert_eq!(metadata_with_sum(&small, 7), [metadata(&small), vec![sum]].concat());
        assert_eq!(metadata_with_sum(&with_missing("raw.none.none.v1", 100), 7), [], "no proof, no sum");
        let key = "orders/dt=2026-11-22/hour=5/orders+3+00000000000000000010.bin";
        assert_eq!(record_key(&Layout::Hive, key).as_deref(), Some("_catchment/objects/orders/3/00000000000000000010.json"));
        assert_eq!(record_key(&Layout::Hive, "other"), None);
    }
}
