//! Pinned windows whose uploads must be given up (rule R5c): retention has taken the beginning of each, and its upload has a part more than was
//! pinned, so that it cannot be completed as it stands.
//!
//! Time has passed since they were pinned: by the clocks of all machines no request of whoever pinned them can be on its way any more. So a
//! recovery need not wait for one, as a real one might for more than an hour. How long it waits, and for what, the stories of the simulation show
//! (`tests/src/simulation/full_copy.rs`).

use std::time::{Duration, Instant};

use catchment::intent::{CommitNote, Intent};
use catchment::limits::{CLOCKS_APART_MAX, UPLOAD_DEADLINE_DEFAULT};
use catchment::store::Payload;

use super::bench::Bench;
use super::visible::{TOPICS, topic};
use crate::broker::cluster::Cluster;
use crate::broker::offsets::Commit;
use crate::kafka_cells::bench::GROUP;
use crate::s3::{Fault, Op};

/// How many offsets of each topic retention takes: few, so that what is left of a window is an upload again.
const TAKEN: i64 = 5;

/// How much older pins become: from this age on nobody waits for their requests.
const AGE: Duration = UPLOAD_DEADLINE_DEFAULT.saturating_add(CLOCKS_APART_MAX);

/// Overtakes what is pinned of every topic. Whoever pinned it is dead, and no Complete of its may come through until its uploads are given up.
pub(super) fn overtake(bench: &Bench<'_>) -> Result<(), String> {
    let named = bench.named_uploads();
    bench.store_state().set_faults(move |request| {
        let is_named = request.upload.as_ref().is_some_and(|id| named.contains(id));
        if request.op == Op::CompleteMultipartUpload && is_named { Fault::refused(503, "SlowDown") } else { Fault::default() }
    });
    let intents: Result<Vec<Intent>, String> = bench.script(|cluster| (0..TOPICS).map(|n| overtake_topic(cluster, &topic(n))).collect());
    let store = bench.open_store()?;
    for intent in intents? {
        let upload = intent.upload.as_ref().ok_or_else(|| format!("no upload is pinned: {intent:?}"))?;
        let put = store.upload_part(&intent.key, &upload.id, upload.parts + 1, Payload::from_bytes("x"));
        bench.wait_for(put).map_err(|e| format!("the store did not take a part more: {e}"))?;
    }
    Ok(())
}

/// The pin of a topic's first window grows old, and retention takes the window's beginning. What was pinned.
fn overtake_topic(cluster: &mut Cluster, topic: &str) -> Result<Intent, String> {
    let offsets = &mut cluster.groups.group(GROUP).offsets;
    let commit = offsets.get(topic, 0).cloned().ok_or_else(|| format!("the group has nothing of {topic}"))?;
    let Ok(CommitNote::Intent(mut intent)) = CommitNote::parse(&commit.metadata) else {
        return Err(format!("nothing is pinned of {topic}: {commit:?}"));
    };
    // Of a later window retention would also take what is stored, and what is missing would be another range.
    if commit.offset != 0 || intent.end <= TAKEN {
        return Err(format!("it is not the first window of {topic} that is pinned: {commit:?}"));
    }
    intent.at -= i64::try_from(AGE.as_millis()).expect("some hours");
    let old = Commit { metadata: CommitNote::Intent(intent.clone()).print(), ..commit };
    offsets.set(topic, 0, old, Instant::now());
    cluster.partition(topic, 0).log.delete_before(TAKEN);
    Ok(*intent)
}
