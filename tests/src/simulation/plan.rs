//! What a seed stands for: the group, the store, the topic, and how much goes wrong with them.

use std::time::Duration;

use catchment::commit::turns::Schedule;
use catchment::config::{GapPolicy, OnGap};
use catchment::store::memory::MemoryStore;
use catchment::store::{GuardClass, ObjectStore as _, StoreLimits, parts};
use catchment_formats::{Codec, Encoding, Format, Framing};

use crate::generate::Rng;

/// Which things happen to the world of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Kafka loses nothing but by retention and compaction, and nobody is frozen or cut off.
    Settled,
    /// All: also frozen and cut-off processes, truncation, corruption, topics made again, offsets that expire, hanging transactions.
    Every,
}

/// A lane that waits for its store takes no parts, and one thread that drives both cannot wait for the lane: the parts of the windows that
/// may be sealed by then must have room in its channel.
const PARTS_OF_A_WINDOW_MAX: u64 = 64;

/// Sessions of a group, in seconds: about the shortest that brokers permit, an old default, and today's.
const SESSIONS: [u64; 3] = [6, 10, 45];

/// The longest of them.
pub const SESSION_MAX: Duration = Duration::from_secs(SESSIONS[2]);

/// How long a process may be frozen or cut off, in sessions.
pub const ABSENCE_SESSIONS_MAX: u32 = 6;

/// The latest that a request takes effect, late or once more, after it was sent.
pub const LATE_MAX: Duration = Duration::from_secs(600);

/// Upload deadlines, in seconds; the shortest is the shortest that a rule may have. A publishing request is sent within a minute of its pin
/// (`PIN_AGE_MAX`), or six sessions of 45 s later if its process is frozen in between, and takes effect within ten minutes (`LATE_MAX`; a
/// slow one within two): 60 + 270 + 600 = 930 s, and every deadline is longer.
const UPLOAD_DEADLINES: [u64; 3] = [1_200, 2_400, 3_600];

/// Something that happens between two ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process dies.
    Crash,
    /// A process is frozen, or loses the coordinator.
    Absence,
    /// The group rebalances for no reason.
    Rebalance,
    /// Retention.
    Retention,
    /// Compaction.
    Compaction,
    /// A new leader lacks records.
    Truncation,
    /// A batch is corrupt.
    Corruption,
    /// The store is down, or refuses the credentials.
    Weather,
    /// The wall clock jumps.
    Jump,
    /// Uploads are aborted.
    Lifecycle,
    /// The topic is made again.
    Recreation,
    /// The group's offsets expire.
    Forgetting,
    /// A process is asked to stop.
    Stop,
    /// A transaction hangs or ends.
    Hang,
    /// A queue breaks off.
    Break,
}

impl Scope {
    /// What may happen; what stands twice is twice as likely.
    pub fn events(self) -> &'static [Event] {
        use Event::*;
        const EVERY: [Event; 24] = [
            Crash, Crash, Crash, Rebalance, Retention, Retention, Compaction, Weather, Jump, Jump, Lifecycle, Lifecycle, Lifecycle, Stop,
            Break, Absence, Absence, Truncation, Truncation, Truncation, Corruption, Recreation, Forgetting, Hang,
        ];
        match self {
            Self::Settled => &EVERY[..15],
            Self::Every => &EVERY,
        }
    }
}

/// One simulation's settings, all of them drawn from its seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Which things happen.
    pub scope: Scope,
    /// What the store's guards are worth.
    pub class: GuardClass,
    /// Whether members have names.
    pub is_static: bool,
    /// Processes at most.
    pub processes: usize,
    /// Partitions of the topic.
    pub partitions: i32,
    /// Length of a window's slot, in milliseconds.
    pub window_ms: i64,
    /// Bytes at which a window closes.
    pub window_bytes: u64,
    /// Bytes of an upload's first parts: small ones make uploads of small windows.
    pub part_bytes: u64,
    /// Bytes for blocks, encoders and parts. The least has room for few blocks of the smallest size, so that windows are closed for want of it.
    pub memory: usize,
    /// How objects are encoded.
    pub encoding: Encoding,
    /// What the rule says of gaps.
    pub on_gap: GapPolicy,
    /// Requests to the store that fail, per mille.
    pub store_faults: u64,
    /// Commits and questions that fail, per mille.
    pub kafka_faults: u64,
    /// Things that happen to the world, per mille of its ticks.
    pub events: u64,
    /// Whether records may be gone or changed before they are read, by anything but retention: then values alone prove nothing.
    pub loses_records: bool,
    /// Ticks before faults stop.
    pub ticks: u64,
    /// How long the group keeps a member that it does not hear.
    pub session: Duration,
    /// The rule's `upload_deadline`.
    pub upload_deadline: Duration,
    /// How the lanes of a process share its memory.
    pub schedule: Schedule,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64, scope: Scope) -> Self {
        let mut rng = Rng::new(seed ^ 0x51_41);
        let mut pick = |n| rng.below(n);
        let raw = pick(4) == 0;
        let plan = Self {
            seed,
            scope,
            class: [GuardClass::A, GuardClass::B, GuardClass::C][pick(3) as usize],
            is_static: pick(2) == 0,
            processes: 1 + pick(3) as usize,
            partitions: 1 + pick(3) as i32,
            window_ms: [1_000, 5_000, 30_000, 120_000][pick(4) as usize],
            window_bytes: [2 << 10, 8 << 10, 64 << 10][pick(3) as usize],
            part_bytes: [256, 1 << 10, 16 << 20][pick(3) as usize],
            memory: [128 << 10, 128 << 10, 256 << 10, 1 << 20, 32 << 20][pick(5) as usize],
            encoding: match (raw, pick(2)) {
                (true, 0) => Encoding { format: Format::Raw(Framing::Len32), codec: Codec::None },
                (true, _) => Encoding { format: Format::Raw(Framing::Len32), codec: Codec::Zstd(1) },
                (false, _) => Encoding::PARQUET_ZSTD1,
            },
            on_gap: GapPolicy {
                retention: OnGap::Continue,
                truncation: OnGap::Continue,
                corrupt_batch: OnGap::Continue,
                topic_recreated: OnGap::Continue,
            },
            store_faults: [30, 120, 300][pick(3) as usize],
            kafka_faults: [20, 80, 200][pick(3) as usize],
            events: [60, 150, 300][pick(3) as usize],
            loses_records: !raw,
            ticks: 60 + pick(60),
            session: Duration::from_secs(SESSIONS[pick(3) as usize]),
            upload_deadline: Duration::from_secs(UPLOAD_DEADLINES[pick(3) as usize]),
            schedule: match pick(5) {
                0 => Schedule::Sweep { readers: 1 + pick(2) as usize },
                _ => Schedule::Stream,
            },
        };
        Self { part_bytes: plan.part_bytes.max(plan.window_bytes / PARTS_OF_A_WINDOW_MAX), ..plan }
    }

    /// An empty store with parts of the plan's size.
    pub fn store(&self) -> MemoryStore {
        let limits = MemoryStore::default().limits();
        MemoryStore::new(StoreLimits { part_bytes: self.part_bytes.min(parts::PART_BYTES), ..limits })
    }

    /// How long a process may be frozen or cut off.
    pub fn absence_max(&self) -> Duration {
        self.session * ABSENCE_SESSIONS_MAX
    }
}

#[cfg(test)]
mod tests {
    use catchment::limits::PIN_AGE_MAX;

    use super::*;

    #[test]
    fn every_upload_deadline_is_longer_than_a_request_can_take() {
        for seed in 0..200 {
            let plan = Plan::of(seed, Scope::Every);
            assert!(PIN_AGE_MAX + plan.absence_max() + LATE_MAX < plan.upload_deadline, "{plan:?}");
        }
    }
}
