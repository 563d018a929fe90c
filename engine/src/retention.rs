//! How long the topics of a running backup keep their records, asked for from time to time: what `time_to_data_loss` is counted from.
//!
//! Place in the flow: beside the lanes, in the [`pipeline`](crate::pipeline). Nothing waits for it and nothing depends on it; who may not ask for a
//! topic's settings is not told how long it has.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::commit::env::LaneEnv;

/// How often topics are looked for that were not asked for yet.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How long an answer holds, or a refusal: a topic's settings change by hand.
const ANSWER_HOLDS: Duration = Duration::from_secs(3_600);

/// Asks for as long as the pipeline runs.
pub(crate) async fn watch(env: &LaneEnv) {
    let mut asked: HashMap<Arc<str>, Duration> = HashMap::new();
    loop {
        env.clock.sleep(LOOK_INTERVAL).await;
        for topic in env.progress.topics() {
            let now = env.clock.steady();
            if asked.get(&topic).is_some_and(|at| now.saturating_sub(*at) < ANSWER_HOLDS) {
                continue;
            }
            match env.source.retention_ms(&topic).await {
                Ok(ms) => env.metrics.note_retention(&topic, ms),
                Err(e) => tracing::debug!(%topic, error = %e, "its retention is not known"),
            }
            asked.insert(topic, now);
        }
    }
}
