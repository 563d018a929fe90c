//! A store that keeps nothing of what is backed up: it takes every byte, counts it, and forgets it.
//!
//! Its place: behind the pipeline, for rows that leave the store out. Control objects (below `_catchment/`) are small and are kept whole. Of an
//! object it keeps the size, the metadata, and the last 64 KiB of each of its parts: enough to read the proof of what it was given, from wherever
//! that stands.
//!
//! Guarantee: guards, uploads and listings are those of a store in memory. What it does not do: an object cannot be read from but for its end.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use catchment::store::layer::StoreLayer;
use catchment::store::memory::MemoryStore;
use catchment::store::{BoxFuture, Guard, Metadata, ObjectInfo, ObjectStore, Part, Payload, StoreResult};

/// What begins the keys of control objects.
pub const CONTROL: &str = "_catchment/";

/// Bytes that are kept of a part's end. A footer is a tenth of that.
const KEPT_BYTES: usize = 64 << 10;

/// A store that keeps nothing.
#[derive(Debug, Default)]
pub struct NullStore {
    /// Control objects, and of others what is kept.
    kept: MemoryStore,
    /// How large each object was.
    sizes: Mutex<BTreeMap<String, u64>>,
}

impl NullStore {
    fn sizes(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn size_of(&self, key: &str) -> Option<u64> {
        self.sizes().get(key).copied()
    }

    fn note(&self, key: &str, bytes: u64) {
        self.sizes().insert(key.to_owned(), bytes);
    }
}

fn is_control(key: &str) -> bool {
    key.starts_with(CONTROL)
}

/// The end of a body, as a copy: what was sent is given back at once.
fn end_of(body: &Payload) -> Payload {
    let mut wanted = KEPT_BYTES;
    let mut pieces = Vec::new();
    for chunk in body.chunks().iter().rev() {
        let piece = &chunk[chunk.len().saturating_sub(wanted)..];
        wanted -= piece.len();
        pieces.push(piece);
        if wanted == 0 {
            break;
        }
    }
    pieces.reverse();
    Payload::new(vec![Bytes::from(pieces.concat())], body.crc64())
}

impl StoreLayer for NullStore {
    fn inner(&self) -> &dyn ObjectStore {
        &self.kept
    }

    fn put<'a>(&'a self, key: &'a str, body: Payload, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        if is_control(key) {
            return self.kept.put(key, body, metadata, guard);
        }
        Box::pin(async move {
            let etag = self.kept.put(key, end_of(&body), metadata, guard).await?;
            self.note(key, body.len());
            Ok(etag)
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Option<ObjectInfo>>> {
        Box::pin(async move {
            let found = self.kept.head(key).await?;
            Ok(found.map(|info| ObjectInfo { size: self.size_of(key).unwrap_or(info.size), ..info }))
        })
    }

    /// A range is counted from the end of what is kept. One that begins before that comes without its beginning.
    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>) -> BoxFuture<'a, StoreResult<Option<Bytes>>> {
        Box::pin(async move {
            let Some(size) = self.size_of(key) else { return self.kept.get(key, range).await };
            let Some(kept) = self.kept.head(key).await? else { return Ok(None) };
            let (gone, range) = (size.saturating_sub(kept.size), range.unwrap_or(0..size));
            self.kept.get(key, Some(range.start.saturating_sub(gone)..range.end.saturating_sub(gone))).await
        })
    }

    fn upload_part<'a>(&'a self, key: &'a str, upload: &'a str, number: u32, body: Payload) -> BoxFuture<'a, StoreResult<Part>> {
        if is_control(key) {
            return self.kept.upload_part(key, upload, number, body);
        }
        Box::pin(async move {
            let part = self.kept.upload_part(key, upload, number, end_of(&body)).await?;
            Ok(Part { size: body.len(), ..part })
        })
    }

    fn complete_upload<'a>(&'a self, key: &'a str, upload: &'a str, parts: &'a [Part], guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        if is_control(key) {
            return self.kept.complete_upload(key, upload, parts, guard);
        }
        Box::pin(async move {
            let etag = self.kept.complete_upload(key, upload, parts, guard).await?;
            self.note(key, parts.iter().map(|part| part.size).sum());
            Ok(etag)
        })
    }
}

#[cfg(test)]
mod tests {
    use catchment::store::StoreErrorKind;

    use super::*;

    const KEY: &str = "orders/dt=2026-11-22/hour=5/orders+3+00000000000000000010.parquet";

    /// As the pipeline sees it.
    fn store() -> Box<dyn ObjectStore> {
        Box::new(NullStore::default())
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    /// Bytes by which each place can be told.
    fn bytes(len: usize) -> Bytes {
        (0..len).map(|n| (n / 251) as u8 ^ (n % 251) as u8).collect::<Vec<u8>>().into()
    }

    #[test]
    fn an_object_has_its_size_and_its_end_and_is_kept_from_being_written_again() {
        block_on(async {
            let (store, body, metadata) = (store(), bytes(1 << 20), vec![("a".to_owned(), "b".to_owned())]);
            // In chunks, the last of which is smaller than what is kept.
            let payload = Payload::new(vec![body.slice(..1_000_000), body.slice(1_000_000..)], 7);
            store.put(KEY, payload.clone(), &metadata, Guard::IfAbsent).await.unwrap();
            let info = store.head(KEY).await.unwrap().unwrap();
            assert_eq!((info.size, info.metadata), (1 << 20, metadata.clone()));
            let end = (1 << 20) - 60_000..1 << 20;
            assert_eq!(store.get(KEY, Some(end.clone())).await.unwrap().unwrap(), body.slice(end.start as usize..end.end as usize));
            let all = store.get(KEY, None).await.unwrap().unwrap();
            assert_eq!(all, body.slice(body.len() - KEPT_BYTES..), "the rest is gone");
            let again = store.put(KEY, payload, &metadata, Guard::IfAbsent).await.unwrap_err();
            assert_eq!(again.kind, StoreErrorKind::Exists);
        });
    }

    #[test]
    fn an_upload_has_the_size_of_its_parts_and_the_end_of_the_last_ones() {
        block_on(async {
            let (store, body) = (store(), bytes(300_000));
            let upload = store.create_upload(KEY, &Metadata::new(), Guard::IfAbsent).await.unwrap();
            let mut parts = Vec::new();
            // The last one is smaller than what is kept of it.
            for (number, range) in [(1, 0..200_000), (2, 200_000..299_000), (3, 299_000..300_000)] {
                parts.push(store.upload_part(KEY, &upload, number, Payload::from_bytes(body.slice(range))).await.unwrap());
            }
            assert_eq!(parts.iter().map(|part| part.size).collect::<Vec<_>>(), [200_000, 99_000, 1_000]);
            store.complete_upload(KEY, &upload, &parts, Guard::IfAbsent).await.unwrap();
            assert_eq!(store.head(KEY).await.unwrap().unwrap().size, 300_000);
            let end = store.get(KEY, Some(240_000..300_000)).await.unwrap().unwrap();
            assert_eq!(end, body.slice(240_000..), "of the last two");
            assert!(store.list_uploads(KEY).await.unwrap().is_empty());
        });
    }

    #[test]
    fn control_objects_are_kept_whole() {
        block_on(async {
            let (store, body, key) = (store(), bytes(200_000), "_catchment/owners/orders.json");
            store.put(key, Payload::from_bytes(body.clone()), &Metadata::new(), Guard::Overwrite).await.unwrap();
            assert_eq!(store.get(key, None).await.unwrap().unwrap(), body);
            assert_eq!(store.get(key, Some(5..10)).await.unwrap().unwrap(), body.slice(5..10));
        });
    }
}
