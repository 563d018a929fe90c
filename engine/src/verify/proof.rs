//! What an object says of itself, wherever it says it: metadata, footer, or the record beside it.

use std::sync::Arc;

use bytes::Bytes;
use catchment_formats::Proof;
use catchment_formats::parquet::{FOOTER_BYTES_MAX, read_proof};

use super::control::Control;
use super::listing::{Listed, Listing};
use super::place::Place;
use crate::blocking::blocking;
use crate::error::Result;
use crate::proof::PROOF_METADATA;
use crate::store::{CONTROL_BYTES_MAX, Metadata, ObjectStore, StoreErrorKind};

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

/// The same without having listed anything: wherever above the object control objects may stand. The place's own come first; what must not be read there
/// holds none.
///
/// # Errors
/// If the store does not answer.
pub async fn in_record_above(place: &Place, object: &Listed) -> Result<Option<Result<Proof, String>>> {
    let exact = Place::new(Arc::clone(&place.store), object.key.clone());
    let above = exact.prefixes_above().into_iter().filter(|prefix| *prefix != place.prefix);
    for prefix in std::iter::once(place.prefix.as_str()).chain(above) {
        for key in Control::none_at(prefix).proof_records(&object.key, object.partition, object.start) {
            match place.store.get(&key, Some(0..CONTROL_BYTES_MAX)).await {
                Ok(Some(bytes)) => return Ok(Some(Proof::from_json(&String::from_utf8_lossy(&bytes)).map_err(|e| format!("{key}: {e}")))),
                Ok(None) => {}
                Err(e) if e.kind == StoreErrorKind::Denied => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(None)
}

/// The proof in a Parquet object's footer, by reading its end alone.
///
/// # Errors
/// If the store does not answer.
pub async fn in_footer(store: &dyn ObjectStore, object: &Listed) -> Result<Result<Proof, String>> {
    Ok(in_tail(footer(store, object).await?).await)
}

/// The proof in the last bytes of a Parquet object.
///
/// # Errors
/// Why there is none.
pub async fn in_tail(tail: Bytes) -> Result<Proof, String> {
    // A footer has up to 64 MiB, whose parsing would hold up others.
    blocking(move || read_proof(&tail).map_err(|e| e.to_string())).await
}

/// The last bytes of a Parquet object, with its whole footer if it has one of a length that is read.
///
/// # Errors
/// If the store does not answer.
pub async fn footer(store: &dyn ObjectStore, object: &Listed) -> Result<Bytes> {
    let tail = tail_of(store, object, TAIL_BYTES).await?;
    let longer = footer_bytes(&tail).filter(|footer| *footer > tail.len() as u64 && *footer <= object.size.min(FOOTER_BYTES_MAX + 8));
    match longer {
        Some(footer) => tail_of(store, object, footer).await,
        None => Ok(tail),
    }
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
