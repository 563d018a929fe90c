//! What an object says of itself, wherever it says it: metadata, footer, or the record beside it.

use bytes::Bytes;
use catchment_formats::Proof;
use catchment_formats::parquet::{FOOTER_BYTES_MAX, read_proof};

use super::listing::{Listed, Listing};
use crate::commit::proof::PROOF_METADATA;
use crate::error::Result;
use crate::store::{CONTROL_BYTES_MAX, Metadata, ObjectStore};

/// Bytes fetched from an object's end for its footer. A footer takes about 2 KB for each row group of 64 MiB, so this is one
/// request for nearly all objects; a larger footer costs a second one.
const TAIL_BYTES: u64 = 64 << 10;

/// The proof in an object's metadata: none, not readable, or the proof.
pub fn in_metadata(metadata: &Metadata) -> Option<Result<Proof, String>> {
    let (_, text) = metadata.iter().find(|(name, _)| name == PROOF_METADATA)?;
    Some(Proof::from_json(text).map_err(|e| e.to_string()))
}

/// The proof in the record beside an object.
///
/// # Errors
/// If the store does not answer.
pub async fn in_record(store: &dyn ObjectStore, listing: &Listing, object: &Listed) -> Result<Option<Result<Proof, String>>> {
    let Some(control) = listing.control_of(&object.key) else { return Ok(None) };
    for key in control.proof_records(&object.key, object.partition, object.start) {
        if let Some(bytes) = store.get(&key, Some(0..CONTROL_BYTES_MAX)).await? {
            let text = String::from_utf8_lossy(&bytes);
            return Ok(Some(Proof::from_json(&text).map_err(|e| format!("{key}: {e}"))));
        }
    }
    Ok(None)
}

/// The proof in a Parquet object's footer, by reading its end alone.
///
/// # Errors
/// If the store does not answer.
pub async fn in_footer(store: &dyn ObjectStore, object: &Listed) -> Result<Result<Proof, String>> {
    let mut tail = tail_of(store, object, TAIL_BYTES).await?;
    if let Some(footer) =
        footer_bytes(&tail).filter(|footer| *footer > tail.len() as u64 && *footer <= object.size.min(FOOTER_BYTES_MAX + 8))
    {
        tail = tail_of(store, object, footer).await?;
    }
    Ok(read_proof(&tail).map_err(|e| e.to_string()))
}

async fn tail_of(store: &dyn ObjectStore, object: &Listed, bytes: u64) -> Result<Bytes> {
    let range = object.size.saturating_sub(bytes)..object.size;
    Ok(store.get(&object.key, Some(range)).await?.unwrap_or_default())
}

/// Length of the footer with its own length and the magic number, as the last eight bytes say it.
fn footer_bytes(tail: &[u8]) -> Option<u64> {
    let (length, magic) = tail.last_chunk::<8>()?.split_at(4);
    (magic == b"PAR1").then(|| u64::from(u32::from_le_bytes(length.try_into().expect("four bytes"))) + 8)
}

/// The proof of an object without reading the object.
///
/// # Errors
/// If the store does not answer.
pub async fn look(store: &dyn ObjectStore, listing: &Listing, object: &Listed) -> Result<Result<Proof, String>> {
    if object.extension == "parquet" {
        return in_footer(store, object).await;
    }
    let info = store.head(&object.key).await?;
    if let Some(proof) = info.and_then(|info| in_metadata(&info.metadata)) {
        return Ok(proof);
    }
    Ok(in_record(store, listing, object).await?.unwrap_or_else(|| Err("it has no proof".to_owned())))
}
