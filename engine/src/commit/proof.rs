//! Reads what an object says of itself: from its metadata, its footer, or the record beside it.
//!
//! The three places exist because metadata is fixed when a multipart upload is created, files have none, and raw objects have no
//! footer. Whoever asks gets one answer; none means that the object cannot prove whose it is.

use catchment_formats::Proof;
use catchment_formats::parquet::{TailProof, read_proof_from_tail};

use crate::store::key::{ControlKeys, Layout};
use crate::store::{CONTROL_BYTES_MAX, Metadata, ObjectInfo, ObjectStore, StoreError, StoreErrorKind, StoreResult};

/// Name of the user metadata that holds a proof.
pub const PROOF_METADATA: &str = "catchment-proof";

/// Bytes read from the end of a Parquet object for its footer. Enough for a few row groups, so that one request does.
const FOOTER_BYTES: u64 = 32 << 10;

/// The user metadata of an object that is written in one request.
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

/// The key of the record beside an object.
pub fn record_key(layout: &Layout, object_key: &str) -> Option<String> {
    let parsed = layout.parse_key(object_key)?;
    Some(ControlKeys::of_path(&parsed.topic_path).object(parsed.partition, parsed.start))
}

/// HEADs a key and reads the object's proof. None: no object.
///
/// # Errors
/// If the store does not answer or refuses.
pub async fn look(store: &dyn ObjectStore, layout: &Layout, object_key: &str) -> StoreResult<Option<(ObjectInfo, Option<Proof>)>> {
    let Some(info) = store.head(object_key).await? else { return Ok(None) };
    let proof = read(store, layout, &info).await?;
    Ok(Some((info, proof)))
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
    let proof: Option<Proof> = serde_json::from_slice(&bytes).ok();
    Ok(proof.filter(|p| p.size == Some(size)))
}
