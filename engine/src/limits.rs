//! Every maximum of the engine, and the arithmetic that ties it to the memory budget.
//!
//! The budget covers four things and nothing else grows: records that librdkafka has fetched ahead, blocks, what encoders hold
//! of open row groups, and encoded bytes until the store has them. The fetch-ahead share is fixed when the clients are made;
//! the rest is counted by [`MemoryBudget`](crate::budget::MemoryBudget). Where many rules share one budget, what each of them takes
//! however little it does (threads, clients) is counted too: see [`SharedBytes`].

use std::time::Duration;

/// Default memory budget in bytes.
pub const BUDGET_DEFAULT: u64 = 512 << 20;

/// Smallest budget that is accepted: what the process takes at rest (30 MiB), and a part being filled beside one being sent. Half of it would work,
/// and take more than it was granted.
pub const BUDGET_MIN: u64 = 96 << 20;

/// The part of the budget that is never handed out, as a divisor: code, stacks, allocator slack, TLS, compression contexts.
/// Less would let the process pass its budget; more wastes what was granted.
const FIXED_SHARE: u64 = 3;

/// What is never handed out at least, in bytes: about what the process takes before its first record, and what two allocators' worth of
/// buffers of 1 MiB cost beyond their contents. Less lets a process with a small budget pass it; more leaves small budgets nothing.
const FIXED_BYTES_MIN: u64 = 56 << 20;

/// The part of the budget that librdkafka may fill with records fetched ahead, as a divisor.
/// Less starves the consumers between two fetches; more leaves windows too little.
const FETCH_SHARE: u64 = 6;

/// What a rule among others is never refused for blocks, encoders and parts, in bytes: a block that is filled, and what it turns into. Less would make
/// it wait for others with every record; more leaves room for fewer rules.
pub const RULE_BYTES_MIN: usize = 2 << 20;

/// What a rule among others takes however little it does: threads and clients, in bytes. Measured at just below 4 MiB. Less lets a process with many rules pass its
/// budget; more leaves room for fewer.
pub const RULE_BYTES_FIXED: u64 = 4 << 20;

/// The smallest response of a fetch, as it unfolds, in bytes: what `source/kafka/limits.rs` does not go below.
const FETCH_RESPONSE_BYTES_MIN: u64 = 1 << 20;

/// The smallest queue of a partition: as it is asked for, and as it can become with what a fetch overshoots, in bytes.
const FETCH_PARTITION_BYTES_MIN: (u64, u64) = (128 << 10, 640 << 10);

/// Encoded bytes at which a window goes to multipart. Below, a single PUT is one request instead of four.
pub const MULTIPART_BYTES_MIN: u64 = 64 << 20;

/// Encoded bytes at which a window may go to multipart under memory pressure: one full part.
pub const MULTIPART_BYTES_MIN_PRESSED: u64 = 16 << 20;

/// Sealed windows of one lane that may wait for the store. One is being published; another one lets the lane go on meanwhile.
/// More would only hold memory: the store is the bottleneck then.
pub const SEALED_WINDOWS_MAX: usize = 2;

/// Parts of one upload that are on the way at once. Fewer leave a fast store idle, more hold memory for no gain.
pub const PARTS_IN_FLIGHT_MAX: usize = 4;

/// Memory for blocks, encoders and parts of a lane that reads while it is its turn, in bytes: a full part beside what it is made of. Less would send smaller parts, more would have
/// fewer lanes read.
pub const SWEEP_BYTES_EACH: usize = 24 << 20;

/// Lanes that read at a time where they read in turns, at least and at most. Fewer would wait for brokers and stores one after the other, more only hold memory.
pub const SWEEP_READERS: (usize, usize) = (2, 16);

/// Messages that may wait between a consumer and a builder. A block is about 1 MiB, so this is the slack between the two.
pub const BLOCKS_QUEUED_MAX: usize = 4;

/// Events that may wait between a builder and a lane. More than the parts that any budget can hold, so that a builder
/// does not wait for one lane's store while another lane's windows are due.
pub const SEGMENT_EVENTS_MAX: usize = 256;

pub use crate::intent::{INTENT_BYTES_MAX, MISSING_RANGES_MAX};

/// How long an upload may be under way before others may think it dead.
pub const UPLOAD_DEADLINE_DEFAULT: Duration = Duration::from_secs(3_600);

/// A publishing request goes out within this of its pin, or the pin is repeated first. More, and a worker that was frozen could publish what
/// others have given up waiting for: the upload deadline covers the slowest request that is sent this long after its pin. Less, and a store
/// that is away costs commits.
pub const PIN_AGE_MAX: Duration = Duration::from_secs(60);

/// How far the clocks of two machines may lie apart that both reach the store: S3 and its likes refuse requests whose time is off by more than a quarter of an
/// hour. Less, and one machine could think a pin of the other too old to matter while its request is on its way; more only makes recovery wait longer after a
/// pause of that length.
pub const CLOCKS_APART_MAX: Duration = Duration::from_secs(1_800);

/// How long a log end below a position may last before it counts as truncation: a new leader's high watermark lags.
pub const LOG_END_WAIT: Duration = Duration::from_secs(60);

/// How long a partition that is being read may give nothing, not even its end. A broker that cannot be reached is waited for elsewhere; shorter
/// would take a slow one for a client that is stuck.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How often a partition may be silent at the same offset while the cluster says that there is more. Each time it is opened anew and waited for twice
/// as long, for it may also be that the client reads over an aborted transaction, of which it shows nothing. Fewer would stop a lane for one that
/// is long; more would leave one that the client cannot read without an answer for hours.
pub const SILENCES_MAX: usize = 4;

/// How long a topic may be unknown to the cluster before it counts as deleted: a broker that starts learns of its topics late.
pub const TOPIC_ABSENT_WAIT: Duration = Duration::from_secs(60);

/// How long a stop waits for windows that are pinned. With the anchors and the leaving of the group a stop takes less than 10 s.
pub const STOP_DEADLINE: Duration = Duration::from_secs(4);

/// How long the anchors may take at a stop.
pub const STOP_ANCHORS_DEADLINE: Duration = Duration::from_millis(1_500);

/// A tidy follows its publish within this, unless the next pin carries it.
pub const TIDY_DELAY_MAX: Duration = Duration::from_secs(10);

/// How often an anchor is renewed.
pub const ANCHOR_INTERVAL: Duration = Duration::from_secs(3_600);

/// How often the offset of an idle lane is committed again, since brokers forget offsets that are not.
pub const RECOMMIT_INTERVAL: Duration = Duration::from_secs(86_400);

/// Bytes that librdkafka may hold in records fetched ahead.
pub fn fetch_bytes(budget: u64) -> u64 {
    budget / FETCH_SHARE
}

/// What a reader of so many partitions asks for when it has the least, in bytes.
pub fn fetch_bytes_least(partitions: u32) -> u64 {
    FETCH_RESPONSE_BYTES_MIN + u64::from(partitions) * FETCH_PARTITION_BYTES_MIN.0
}

/// What that can become, in bytes.
pub fn fetch_bytes_min(partitions: u32) -> u64 {
    FETCH_RESPONSE_BYTES_MIN + u64::from(partitions) * FETCH_PARTITION_BYTES_MIN.1
}

/// Bytes that blocks, encoders and parts share.
pub fn pipeline_bytes(budget: u64) -> u64 {
    budget - fetch_bytes(budget) - fixed_bytes(budget)
}

/// Bytes that are never handed out.
fn fixed_bytes(budget: u64) -> u64 {
    let shared = budget - fetch_bytes(budget);
    // The smallest budgets keep room for two parts, at the cost of the reserve.
    (budget / FIXED_SHARE).max(FIXED_BYTES_MIN).min(shared.saturating_sub(2 * MULTIPART_BYTES_MIN_PRESSED))
}

/// What the rules of one process share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedBytes {
    /// For blocks, encoders and parts of all of them.
    pub pipelines: u64,
    /// For what all of them fetch ahead.
    pub fetch: u64,
    /// The same, and what the process itself leaves of what is never handed out: threads, clients and the smallest fetches come out of this first.
    pub aside: u64,
}

impl SharedBytes {
    /// What a budget comes to.
    pub fn of(budget: u64) -> Self {
        let fetch = fetch_bytes(budget);
        Self { pipelines: pipeline_bytes(budget), fetch, aside: fetch + fixed_bytes(budget).saturating_sub(FIXED_BYTES_MIN) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_stay_within_the_budget() {
        for budget in [BUDGET_MIN, 128 << 20, BUDGET_DEFAULT, 8 << 30] {
            assert!(fetch_bytes(budget) + pipeline_bytes(budget) < budget);
            assert!(pipeline_bytes(budget) >= 2 * MULTIPART_BYTES_MIN_PRESSED, "a part being filled and one being sent fit");
            let shared = SharedBytes::of(budget);
            assert!(shared.pipelines + shared.aside <= budget && shared.fetch <= shared.aside);
        }
    }
}
