//! What happens to a store in memory behind everybody's back.

use std::sync::Arc;

use catchment::store::memory::MemoryStore;
use catchment::store::{Guard, ObjectStore, Payload};

/// A store with the same objects but one: somebody has taken that away.
///
/// # Panics
/// If there are more objects than a page of a listing holds.
pub async fn without(store: &MemoryStore, gone: &str) -> Arc<MemoryStore> {
    let copy = MemoryStore::default();
    let page = store.list("", false, None).await.expect("the memory store lists");
    assert!(page.next.is_none(), "more objects than a page holds");
    for object in page.objects.iter().filter(|object| object.key != gone) {
        let bytes = store.get(&object.key, None).await.expect("the memory store answers").expect("it was listed");
        let metadata = store.head(&object.key).await.expect("the memory store answers").expect("it was listed").metadata;
        copy.put(&object.key, Payload::from_bytes(bytes), &metadata, Guard::IfAbsent).await.expect("the copy is new");
    }
    Arc::new(copy)
}
