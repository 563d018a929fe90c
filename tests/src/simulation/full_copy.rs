//! Stories without chance of rule R5c: a window is pinned, Kafka gives less of it when it is read again, and the copy that was sent before lands late.
//! Told by tests, and by an engine that does not wait for that copy.

use std::time::Duration;

use bytes::Bytes;
use catchment::store::{Guard, GuardClass, Metadata, ObjectStore, Payload};
use catchment_formats::Proof;
use tokio::time::Instant;

use super::directed::Directed;
use super::on_simulated_time;
use super::plan::Plan;

/// What is wrong in the end, where retention takes a part of the window.
///
/// # Panics
/// If there is no runtime to be had, or the window is not pinned as it should be.
pub fn run() -> Vec<String> {
    on_simulated_time(lands_at_the_last_moment(|directed| directed.shared.cluster.change(&directed.tp(), |log| log.retain_from(23))))
}

/// `[0, 20)` is stored, a window of `[20, 25)` is pinned, and the process is dead.
///
/// # Panics
/// If it is not so.
pub async fn pinned(plan: Plan) -> Directed {
    let mut directed = Directed::planned(plan, 20);
    directed.start().await;
    directed.pass(30).await;
    assert_eq!(directed.committed(), 20);
    directed.append(20);
    let intent = directed.kill_when_pinned().await;
    assert_eq!((intent.start, intent.end), (20, 25));
    directed
}

/// Where nothing guards a key.
pub fn unguarded() -> Plan {
    Plan { class: GuardClass::C, ..Directed::plan() }
}

/// The object of the pinned window, as whoever pinned it would have sent it.
#[derive(Clone, Debug)]
pub struct FullCopy {
    /// Its key.
    pub key: String,
    /// What it says of itself.
    pub proof: Proof,
    body: Bytes,
    metadata: Metadata,
}

impl FullCopy {
    /// Taken from a twin of the story, in which nothing is lost.
    ///
    /// # Panics
    /// If the twin does not store the window.
    pub async fn of(plan: Plan) -> Self {
        let mut twin = pinned(plan).await;
        twin.start().await;
        twin.pass(300).await;
        let store = &twin.shared.store;
        let (key, proof) = twin.objects().await.into_iter().find(|(_, proof)| proof.range.start == 20).expect("the pinned window");
        let body = store.get(&key, None).await.expect("the memory store answers").expect("its bytes");
        let metadata = store.head(&key).await.expect("the memory store answers").expect("its metadata").metadata;
        Self { key, proof, body, metadata }
    }

    /// It takes effect in a store.
    ///
    /// # Panics
    /// If the store does not take it.
    pub async fn land(&self, store: &dyn ObjectStore, guard: Guard) {
        store.put(&self.key, Payload::from_bytes(self.body.clone()), &self.metadata, guard).await.expect("nothing keeps it from that");
    }
}

/// The window is pinned where nothing guards keys, and gives less when it is read again; the copy that was pinned lands just before it is too old for that.
/// What is wrong in the end: anything but that this copy stands, with nothing missing.
///
/// # Panics
/// If the window is not pinned as it should be.
pub async fn lands_at_the_last_moment(spoil: impl Fn(&Directed)) -> Vec<String> {
    let copy = FullCopy::of(unguarded()).await;
    let mut directed = pinned(unguarded()).await;
    let deadline = Instant::now() + directed.shared.world.plan.upload_deadline;
    spoil(&directed);
    directed.start().await;
    tokio::time::sleep_until(deadline - Duration::from_millis(10)).await;
    let early = published_early(&directed);
    copy.land(&*directed.shared.store, Guard::Overwrite).await;
    directed.pass(600).await;
    early.into_iter().chain(not_adopted(&directed, &copy).await).collect()
}

/// Whether the lane has gone on before the full copy landed.
pub fn published_early(directed: &Directed) -> Option<String> {
    let committed = directed.committed();
    (committed != 20).then(|| format!("less was published before a full copy could have landed: the group has committed {committed}"))
}

/// What is wrong after the full copy has landed and the lane has gone on.
///
/// # Panics
/// If an object does not say what it is.
pub async fn not_adopted(directed: &Directed, copy: &FullCopy) -> Vec<String> {
    let (objects, missing) = (directed.objects().await, directed.missing().await);
    let standing = objects.iter().find(|(key, _)| *key == copy.key).map(|(_, proof)| proof);
    let mut findings = Vec::new();
    if standing != Some(&copy.proof) {
        findings.push(format!("what stands is not the full copy: {objects:?}"));
    }
    if directed.committed() != 40 || !missing.is_empty() {
        findings.push(format!("the group has committed {} of 40, and {missing:?} is listed", directed.committed()));
    }
    findings
}
