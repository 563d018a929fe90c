//! Every store does what the trait says: memory, files, and S3 services of each personality and guard class.

use std::sync::Arc;

use catchment::store::file::FileStore;
use catchment::store::memory::MemoryStore;
use catchment::store::open::{OpenOptions, StaticCredentials, open};
use catchment::store::{GuardClass, ObjectStore};
use catchment_tests::store_conformance::Subject;

fn subject(store: Arc<dyn ObjectStore>, put: GuardClass, complete: GuardClass) -> Subject {
    Subject { store, put, complete, page_entries_max: 1000 }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    subject(Arc::new(MemoryStore::default()), GuardClass::A, GuardClass::A).conforms().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    subject(Arc::new(store), GuardClass::A, GuardClass::A).conforms().await;
}

/// A MinIO that the harness has started, named by `CATCHMENT_TEST_MINIO=http://host:port` with its keys in
/// `CATCHMENT_TEST_MINIO_KEY` and `_SECRET`, and a bucket in `_BUCKET`.
#[tokio::test(flavor = "multi_thread")]
async fn minio() {
    let var = |name: &str| std::env::var(format!("CATCHMENT_TEST_MINIO{name}"));
    let Ok(endpoint) = var("") else {
        assert!(std::env::var_os("CI").is_none(), "CATCHMENT_TEST_MINIO is not set");
        return;
    };
    let credentials = StaticCredentials {
        access_key: var("_KEY").unwrap_or_else(|_| "minioadmin".into()),
        secret_key: var("_SECRET").unwrap_or_else(|_| "minioadmin".into()),
        session_token: None,
    };
    let options = OpenOptions { credentials: Some(credentials), ..OpenOptions::default() };
    let bucket = var("_BUCKET").unwrap_or_else(|_| "catchment".into());
    let run = fastrand::u32(..);
    let store = open(&format!("s3://{bucket}/conformance-{run:08x}/?endpoint={endpoint}"), &options).await.unwrap();
    subject(store, GuardClass::A, GuardClass::A).conforms().await;
}
