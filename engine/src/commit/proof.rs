//! Reads what an object says of itself: from its metadata, its footer, or the record beside it.
//!
//! The three places exist because metadata is fixed when a multipart upload is created, files have none, and raw objects have no
//! footer. Whoever asks gets one answer; none means that the object cannot prove whose it is.

use catchment_formats::Proof;
use catchment_formats::parquet::{TailProof, read_proof_from_tail};

use crate::proof::{PROOF_METADATA, of_size, of_whole, record_key};
use crate::store::key::Layout;
use crate::store::{CONTROL_BYTES_MAX, ObjectInfo, ObjectStore, StoreError, StoreErrorKind, StoreResult};

/// Bytes read from the end of a Parquet object for its footer. Enough for a few row groups, so that one request does.
const FOOTER_BYTES: u64 = 32 << 10;

/// HEADs a key and reads the object's proof. None: no object.
///
/// # Errors
/// If the store does not answer or refuses.
pub async fn look(store: &dyn ObjectStore, layout: &Layout, object_key: &str) -> StoreResult<Option<(ObjectInfo, Option<Proof>)>> {
    let Some(info) = store.head(object_key).await? else { return Ok(None) };
    let proof = read(store, layout, &info).await?;
    Ok(Some((info, proof)))
}

/// As [`look`], for whoever relies on what stands there: an object that was cut off on its way, or was damaged since, has another size than it was
/// written with, or another sum where the store shows one, and proves nothing.
///
/// # Errors
/// As [`look`].
pub async fn look_whole(store: &dyn ObjectStore, layout: &Layout, object_key: &str) -> StoreResult<Option<(ObjectInfo, Option<Proof>)>> {
    let found = look(store, layout, object_key).await?;
    Ok(found.map(|(info, proof)| {
        let whole = of_whole(&info, proof);
        (info, whole)
    }))
}

async fn read(store: &dyn ObjectStore, layout: &Layout, info: &ObjectInfo) -> StoreResult<Option<Proof>> {
    if let Some((_, text)) = info.metadata.iter().find(|(name, _)| name == PROOF_METADATA) {
        return Ok(serde_json::from_str(text).ok());
    }
    if info.key.ends_with(".parquet") {
        return footer(store, info).await;
    }
    record(store, layout, info).await
}

async fn footer(store: &dyn ObjectStore, info: &ObjectInfo) -> StoreResult<Option<Proof>> {
    let mut wanted = FOOTER_BYTES;
    // At most twice: the second time with the length that the footer itself names.
    for _ in 0..2 {
        let tail = info.size.saturating_sub(wanted)..info.size;
        let Some(bytes) = store.get(&info.key, Some(tail)).await? else {
            // One of the two answers is wrong, or the object has gone in between. What is found here decides whether a lane adopts an object,
            // publishes over its key or stops, in every guard class; on a contradiction each of these would be a guess. So both are asked again
            // until they agree; a store that shows an object for good and cannot give it is waited for, as one that is down.
            let contradiction = "a HEAD has just found the object, and a GET does not";
            return Err(StoreError::new(StoreErrorKind::Unknown, "GetObject", &info.key, contradiction));
        };
        match read_proof_from_tail(&bytes) {
            Ok(TailProof::Proof(proof)) => return Ok(Some(Proof { size: Some(info.size), ..*proof })),
            Ok(TailProof::NeedsBytes(bytes)) if bytes <= info.size => wanted = bytes,
            _ => break,
        }
    }
    Ok(None)
}

async fn record(store: &dyn ObjectStore, layout: &Layout, info: &ObjectInfo) -> StoreResult<Option<Proof>> {
    recorded(store, layout, &info.key, info.size).await
}

/// The record beside the object of this size that stands, or is to stand, under a key. It describes the object only if the sizes
/// agree: it is written before the object is.
///
/// # Errors
/// If the store does not answer or refuses.
pub async fn recorded(store: &dyn ObjectStore, layout: &Layout, object_key: &str, size: u64) -> StoreResult<Option<Proof>> {
    let Some(record_key) = record_key(layout, object_key) else { return Ok(None) };
    let Some(bytes) = store.get(&record_key, Some(0..CONTROL_BYTES_MAX)).await? else { return Ok(None) };
    Ok(of_size(serde_json::from_slice(&bytes).ok(), size))
}

#[cfg(test)]
mod tests {
    use catchment_formats::{Counts, Digest, Encoding, GapCause, LaneId, Missing, OffsetRange, segment_encoder};

    use super::*;
    use crate::proof::metadata;
    use crate::store::memory::MemoryStore;
    use crate::store::{Guard, Metadata, Payload};

    const RAW_KEY: &str = "orders/dt=2026-11-22/hour=5/orders+3+00000000000000000010.bin";
    const PARQUET_KEY: &str = "orders/dt=2026-11-22/hour=5/orders+3+00000000000000000010.parquet";

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

    async fn put(store: &MemoryStore, key: &str, bytes: &[u8], metadata: Metadata) {
        store.put(key, Payload::from_bytes(bytes.to_vec()), &metadata, Guard::Overwrite).await.expect("a store in memory takes it");
    }

    async fn found(store: &MemoryStore, key: &str) -> Option<Proof> {
        look(store, &Layout::Hive, key).await.expect("a store in memory answers").and_then(|(_, proof)| proof)
    }

    #[tokio::test]
    async fn metadata_comes_first_and_the_record_counts_only_for_its_size() {
        let store = MemoryStore::default();
        assert_eq!(found(&store, RAW_KEY).await, None, "no object");
        put(&store, RAW_KEY, b"12345", vec![]).await;
        assert_eq!(found(&store, RAW_KEY).await, None, "no proof");
        let record = record_key(&Layout::Hive, RAW_KEY).expect("a key of the layout");
        assert_eq!(record, "_catchment/objects/orders/3/00000000000000000010.json");
        assert_eq!(record_key(&Layout::Hive, "other"), None);
        put(&store, &record, proof("raw.none.none.v1").to_json().as_bytes(), vec![]).await;
        assert_eq!(found(&store, RAW_KEY).await, Some(proof("raw.none.none.v1")));
        assert_eq!(recorded(&store, &Layout::Hive, RAW_KEY, 6).await.unwrap(), None, "written for another attempt");
        let other = Proof { range: OffsetRange::new(10, 15), ..proof("raw.none.none.v1") };
        put(&store, RAW_KEY, b"12345", metadata(&other)).await;
        assert_eq!(found(&store, RAW_KEY).await, Some(other));
        put(&store, RAW_KEY, b"12345", vec![("other".into(), "x".into()), (PROOF_METADATA.into(), "{".into())]).await;
        assert_eq!(found(&store, RAW_KEY).await, None, "what is not readable is not looked for elsewhere");
    }

    #[tokio::test]
    async fn an_object_that_was_cut_off_proves_nothing() {
        let store = MemoryStore::default();
        let whole = proof("raw.none.none.v1");
        let looked = async || look_whole(&store, &Layout::Hive, RAW_KEY).await.expect("a store in memory answers");
        assert_eq!(looked().await, None, "no object");
        put(&store, RAW_KEY, b"12345", metadata(&whole)).await;
        assert_eq!(looked().await.and_then(|(_, proof)| proof), Some(whole.clone()));
        put(&store, RAW_KEY, b"1234", metadata(&whole)).await;
        assert!(matches!(looked().await, Some((info, None)) if info.size == 4), "it stands, and is not what it says");
        put(&store, RAW_KEY, b"1234", metadata(&Proof { size: None, ..whole })).await;
        assert!(matches!(looked().await, Some((_, Some(_)))), "one that does not name a size");
    }

    #[tokio::test]
    async fn a_footer_is_found_however_long_it_is() {
        let store = MemoryStore::default();
        for ranges in [0, 5_000] {
            let mut encoder = segment_encoder(&Encoding::PARQUET_ZSTD1, &lane(), 10);
            let (mut bytes, missing) = (Vec::new(), vec![Missing(10, 11, GapCause::Retention); ranges]);
            let proof = encoder.finish(20, &missing, &mut bytes);
            put(&store, PARQUET_KEY, &bytes, vec![]).await;
            assert_eq!(found(&store, PARQUET_KEY).await, Some(Proof { size: Some(bytes.len() as u64), ..proof }), "{ranges} ranges");
            assert_eq!(ranges > 0, bytes.len() as u64 > 2 * FOOTER_BYTES, "one is read in one piece, the other in two");
        }
        put(&store, PARQUET_KEY, b"PAR1\xff\xff\x00\x00PAR1", vec![]).await;
        assert_eq!(found(&store, PARQUET_KEY).await, None, "a footer longer than its object");
    }
}
