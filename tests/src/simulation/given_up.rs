//! Stories without chance of rule R5c: a window is pinned with an upload that cannot be completed as it stands, Kafka gives less of it when it is
//! read again, and so the upload is to be given up. Told by tests, and by an engine that does so without asking, or does not wait for a Complete
//! behind an atomic guard.

use catchment::intent::{CommitNote, Intent};
use catchment::source::CommitError;
use catchment::store::{Guard, ObjectStore as _, Payload};

use super::directed::Directed;
use super::full_copy::{FullCopy, not_adopted, pinned, published_early};
use super::on_simulated_time;
use super::plan::Plan;
use crate::scripted::group::Fate;

/// What is wrong in the end, where the lane is another one's by now: who has lost it must leave the upload alone.
///
/// # Panics
/// If there is no runtime to be had, or the window is not pinned as it should be.
pub fn by_zombie() -> Vec<String> {
    on_simulated_time(lane_is_lost())
}

/// What is wrong in the end, where a Complete was taken before and shows late.
///
/// # Panics
/// As [`by_zombie`].
pub fn complete_shows_late() -> Vec<String> {
    on_simulated_time(object_shows_late())
}

/// Who has lost its lane since it read the intent learns that before it touches the upload.
async fn lane_is_lost() -> Vec<String> {
    let (mut directed, intent) = overtaken().await;
    directed.group.set_commits(|_| Fate::refused(CommitError::StaleMember("given to another one".into())));
    directed.start().await;
    directed.pass(600).await;
    let open = directed.shared.store.list_uploads(&intent.key).await.expect("the memory store lists");
    if open.iter().any(|open| Some(open.id.as_str()) == intent.upload_id()) {
        return Vec::new();
    }
    vec![format!("the upload of a pinned window was given up by who has lost its lane; open are {open:?}")]
}

/// Nothing less is published before the object may have shown; then it has precedence, although the guard would have refused it behind less.
async fn object_shows_late() -> Vec<String> {
    let copy = FullCopy::of(in_parts()).await;
    let (mut directed, _) = overtaken().await;
    directed.start().await;
    directed.pass(90).await;
    if let Some(early) = published_early(&directed) {
        return vec![early];
    }
    copy.land(&*directed.shared.store, Guard::IfAbsent).await;
    directed.pass(600).await;
    not_adopted(&directed, &copy).await
}

/// Windows of several parts, behind an atomic guard.
fn in_parts() -> Plan {
    Plan { part_bytes: 256, ..Directed::plan() }
}

/// A window of `[20, 25)` is pinned with an upload that has one part more than was pinned, so that it is not completed as it stands; retention has
/// passed its beginning, and the process is dead. Its intent.
async fn overtaken() -> (Directed, Intent) {
    let directed = pinned(in_parts()).await;
    let note = directed.group.committed(&directed.tp()).expect("a note").metadata;
    let Ok(CommitNote::Intent(intent)) = CommitNote::parse(&note) else { panic!("nothing is pinned: {note}") };
    let upload = intent.upload.as_ref().expect("an upload is pinned");
    let put = directed.shared.store.upload_part(&intent.key, &upload.id, upload.parts + 1, Payload::from_bytes("x"));
    put.await.expect("the upload is open");
    directed.shared.cluster.change(&directed.tp(), |log| log.retain_from(23));
    (directed, *intent)
}
