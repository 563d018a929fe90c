//! A store whose parts are small, so that a test's small windows become multipart uploads.
//!
//! Only the advertised sizes of a part differ: from them follows when a window becomes an upload, as everywhere. Requests pass unchanged; the store must
//! take such parts.

use std::sync::Arc;

use crate::store::layer::StoreLayer;
use crate::store::{ObjectStore, StoreLimits};

/// The variable that gives the size of a part, in bytes.
const VARIABLE: &str = "CATCHMENT_CRASH_PART_BYTES";

#[derive(Debug)]
struct SmallParts {
    inner: Arc<dyn ObjectStore>,
    part_bytes: u64,
}

/// `store` with parts of the size that the environment asks for; as it is, if it asks for none.
pub(crate) fn with_parts_of_env(store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    match std::env::var(VARIABLE) {
        Ok(text) => {
            let part_bytes = text.parse().unwrap_or_else(|e| panic!("{VARIABLE}={text}: {e}"));
            Arc::new(SmallParts { inner: store, part_bytes })
        }
        Err(_) => store,
    }
}

impl StoreLayer for SmallParts {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.inner
    }

    fn limits(&self) -> StoreLimits {
        StoreLimits { part_bytes: self.part_bytes, part_bytes_min: self.part_bytes, ..self.inner.limits() }
    }
}
