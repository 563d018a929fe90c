//! A whole object, as `catchment verify` meets it in a bucket.
//!
//! An input is the proof in the object's metadata, a newline, and the object; without such a proof all of it is a Parquet object.

use std::sync::Arc;

use catchment::store::key::{KeyParts, Layout, TopicName};
use catchment::store::memory::MemoryStore;
use catchment::store::{Guard, Metadata, ObjectStore as _, Payload};
use catchment::verify::{Place, verify};
use catchment_formats::{Encoding, Proof};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime without I/O");
}

/// Whatever stands in the bucket, verifying ends with a report.
pub(crate) fn run(input: &[u8]) {
    let (proof, object) = split(input);
    let encoding = proof.as_ref().and_then(|proof| proof.encoding.parse().ok()).unwrap_or(Encoding::PARQUET_ZSTD1);
    let (partition, start) = proof.as_ref().map_or((3, 990), |proof| (proof.lane.partition.max(0), proof.range.start.max(0)));
    let topic = TopicName::new("orders");
    let parts = KeyParts { topic: &topic, partition, timestamp_ms: Some(1_700_000_000_000), window_ms: 300_000 };
    let key = Layout::Hive.object_key(&parts, start, encoding.extension());
    let metadata: Metadata = proof.iter().map(|proof| ("catchment-proof".to_owned(), proof.to_json())).collect();
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let store = Arc::new(MemoryStore::default());
            if store.put(&key, Payload::from_bytes(object.to_vec()), &metadata, Guard::Overwrite).await.is_ok() {
                verify(&Place::new(store, ""), None, |_| {}).await.expect("a store in memory answers");
            }
        });
    });
}

fn split(input: &[u8]) -> (Option<Proof>, &[u8]) {
    let parsed = input.iter().position(|byte| *byte == b'\n').and_then(|end| {
        let proof = Proof::from_json(std::str::from_utf8(&input[..end]).ok()?).ok()?;
        Some((Some(proof), &input[end + 1..]))
    });
    parsed.unwrap_or((None, input))
}
