//! A store that holds one object between its pin and its publishing, for the demo.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::store::layer::StoreLayer;
use crate::store::{BoxFuture, Guard, Metadata, ObjectStore, Payload, StoreResult};

/// Objects that are published before one is held.
const FREE_OBJECTS: u32 = 4;

/// Passes everything through, but for one object: when it is to be published, a file is made and the request never sent.
#[derive(Debug)]
pub(super) struct HeldStore {
    inner: Arc<dyn ObjectStore>,
    file: PathBuf,
    published: AtomicU32,
}

impl HeldStore {
    /// Holds an object of `inner` and makes `file` when it does.
    pub(super) fn new(inner: Arc<dyn ObjectStore>, file: PathBuf) -> Self {
        Self { inner, file, published: AtomicU32::new(0) }
    }
}

impl StoreLayer for HeldStore {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.inner
    }

    fn put<'a>(&'a self, key: &'a str, body: Payload, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        let is_data = !key.starts_with("_catchment/");
        if is_data && self.published.fetch_add(1, Ordering::Relaxed) >= FREE_OBJECTS {
            // If the file cannot be made nobody will notice the hold, and the demo says that it gave up.
            let _ = std::fs::write(&self.file, key);
            return Box::pin(std::future::pending());
        }
        self.inner.put(key, body, metadata, guard)
    }
}
