//! To show one object, that object alone is read, and of a large one only what its first records need.

use std::ops::Range;

use bytes::Bytes;

use super::*;
use crate::error::codes;
use crate::store::StoreResult;
use crate::store::layer::StoreLayer;
use crate::verify::rows::{self, Limits};

/// A store that remembers what was read of it.
#[derive(Debug)]
struct Watched {
    store: Arc<dyn ObjectStore>,
    read: Mutex<Vec<(String, u64)>>,
}

impl Watched {
    fn place(backup: &Backup) -> (Place, Arc<Self>) {
        let watched = Arc::new(Self { store: Arc::clone(&backup.store), read: Mutex::default() });
        (Place::new(Arc::clone(&watched) as Arc<dyn ObjectStore>, ""), watched)
    }

    /// Keys that were read, and how many bytes of the object.
    fn taken(&self, key: &str) -> (Vec<String>, u64) {
        let read = std::mem::take(&mut *self.read.lock().unwrap());
        let bytes = read.iter().filter(|(of, _)| of == key).map(|(_, bytes)| bytes).sum();
        (read.into_iter().map(|(of, _)| of).filter(|of| of != key).collect(), bytes)
    }
}

impl StoreLayer for Watched {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.store
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>) -> BoxFuture<'a, StoreResult<Option<Bytes>>> {
        Box::pin(async move {
            let found = self.store.get(key, range).await?;
            let bytes = found.as_ref().map_or(0, |found| found.len() as u64);
            self.read.lock().unwrap().push((key.to_owned(), bytes));
            Ok(found)
        })
    }

    fn list<'a>(&'a self, _: &'a str, _: bool, _: Option<&'a str>) -> BoxFuture<'a, StoreResult<crate::store::ListPage>> {
        unreachable!("one object needs no listing")
    }
}

const LARGE: Limits = Limits { whole: 0, beginning: 1 << 20, group: 1 << 20 };

#[tokio::test]
async fn no_other_object_is_read_than_the_one_that_is_shown() {
    for encoding in ENCODINGS {
        for backup in [Backup::in_memory(encoding), Backup::in_files(encoding)] {
            let backup = backup.filled().await;
            backup.write("_catchment/anchors/r/orders-0.json", br#"{"key":null,"E":5}"#, &Metadata::new()).await;
            let key = backup.keys[1].clone();
            let (place, watched) = Watched::place(&backup);
            let shown = rows::first(&place, &key, 7).await.unwrap();
            assert!(shown.proof.is_some() && shown.rows.len() == shown.lines.len() && !shown.rows.is_empty(), "{encoding}");
            let (others, _) = watched.taken(&key);
            assert!(others.iter().all(|of| of.starts_with("_catchment/objects/")), "{encoding}: {others:?}");
            let by_parts = rows::first_within(&place, &key, 7, LARGE).await.unwrap();
            assert_eq!(by_parts.rows, shown.rows, "{encoding}");
            assert_eq!(
                rows::first_within(&place, &key, 1_000, LARGE).await.unwrap().rows,
                rows::first(&place, &key, 1_000).await.unwrap().rows
            );
        }
    }
}

#[tokio::test]
async fn first_records_that_take_too_much_are_not_read() {
    for (encoding, limits) in [(Encoding::PARQUET_ZSTD1, Limits { group: 16, ..LARGE }), (RAW_LEN32, Limits { beginning: 16, ..LARGE })] {
        let backup = Backup::in_memory(encoding).filled().await;
        let key = backup.keys[0].clone();
        let (place, watched) = Watched::place(&backup);
        let error = rows::first_within(&place, &key, 5, limits).await.unwrap_err();
        assert_eq!(error.code, codes::TOO_LARGE_TO_SHOW, "{encoding}: {error}");
        let (_, bytes) = watched.taken(&key);
        let size = backup.bytes(&key).await.len() as u64;
        // Of a Parquet object this small the footer's request takes the whole.
        assert!(encoding == Encoding::PARQUET_ZSTD1 && bytes <= size || bytes <= 16, "{encoding}: {bytes} of {size}");
    }
}
