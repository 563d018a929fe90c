//! What everything in a simulation shares: chance, the trace, the tally, and the weather of the store.
//!
//! One thread, one source of chance, and a clock that only moves when nobody has anything to do: the order of events, and so the trace,
//! is a function of the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catchment_formats::{GapCause, Missing};
use crc_fast::{CrcAlgorithm, Digest as Crc};
use tokio::time::Instant;

use super::anchors::AnchorBook;
use super::faults::{Fault, Tally};
use super::plan::Plan;
use super::unmet::Unmet;
use super::uploads::UploadBook;
use crate::generate::Rng;
use crate::scripted::order::Order;

/// How long a store is down at most.
pub const HOUR: Duration = Duration::from_secs(3_600);

/// Who asks in this last part of an hour's outage has gone on asking: no back-off is as long.
const LAST_OF_AN_OUTAGE: Duration = Duration::from_secs(60);

/// A visible object's bytes, as they were once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writing {
    /// When, among commits and writes.
    pub order: u64,
    /// CRC-64/XZ of the object's bytes.
    pub crc64: u64,
    /// What it lists as missing.
    pub missing: Vec<Missing>,
}

struct Inner {
    rng: Rng,
    crc: Crc,
    lines: u64,
    kept: Option<Vec<String>>,
    tally: Tally,
    /// What processes had under way when they were killed.
    crashes: BTreeMap<&'static str, u64>,
    bugs: Vec<String>,
    /// When a lane found its place behind its anchor, by partition.
    walks: Vec<(i32, u64)>,
    /// When a lane said that it found something of a topic that is gone, by partition.
    asks: Vec<(i32, u64)>,
    /// Gaps that lanes have told, by partition, and how often the topic had been made again by then.
    gaps: BTreeSet<(i32, usize, i64, i64, GapCause)>,
    /// Hashes of the ids that the topic got when it was made again.
    incarnations: Vec<String>,
    /// Hashes of the topics that the group has a commit of.
    committed: BTreeSet<String>,
    anchors: AnchorBook,
    /// Every content that a key has had, each other than the one before it.
    writings: BTreeMap<String, Vec<Writing>>,
    uploads: UploadBook,
    unmet: Unmet,
    denied_until: Instant,
    /// Since when the store is down, and until when.
    down: (Instant, Instant),
    /// How often the store has begun to refuse everything, by what it does so for.
    outages: BTreeMap<Fault, u64>,
    /// Which operations have felt which outage.
    outages_felt: BTreeSet<(Fault, u64, &'static str)>,
    /// Queues that broke off, by process and partition, and that it has not opened again.
    broken: BTreeSet<(u64, i32)>,
    wall_shift_ms: i64,
    /// Until when the wall clock is far off, and by how much.
    leap: (Instant, i64),
    jumped: bool,
}

/// Shared by all parts of one simulation.
pub struct World {
    /// The settings.
    pub plan: Plan,
    /// Numbers commits and writes together.
    pub order: Order,
    began: Instant,
    calm: std::sync::atomic::AtomicBool,
    inner: Mutex<Inner>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World({})", self.plan.seed)
    }
}

impl World {
    /// The world of a plan. With `keep`, the trace's lines are kept, not just their sum.
    pub fn new(plan: Plan, keep: bool) -> Self {
        let now = Instant::now();
        let inner = Inner {
            rng: Rng::new(plan.seed),
            crc: Crc::new(CrcAlgorithm::Crc64Xz),
            lines: 0,
            kept: keep.then(Vec::new),
            tally: Tally::default(),
            crashes: BTreeMap::new(),
            bugs: Vec::new(),
            walks: Vec::new(),
            asks: Vec::new(),
            gaps: BTreeSet::new(),
            incarnations: Vec::new(),
            committed: BTreeSet::new(),
            anchors: AnchorBook::default(),
            writings: BTreeMap::new(),
            uploads: UploadBook::default(),
            unmet: Unmet::default(),
            denied_until: now,
            down: (now, now),
            outages: BTreeMap::new(),
            outages_felt: BTreeSet::new(),
            broken: BTreeSet::new(),
            wall_shift_ms: 0,
            leap: (now, 0),
            jumped: false,
        };
        Self { plan, order: Order::default(), began: now, calm: false.into(), inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number below `n`.
    pub fn below(&self, n: u64) -> u64 {
        self.inner().rng.below(n)
    }

    /// A number in `[0, 1)`.
    pub fn fraction(&self) -> f64 {
        self.inner().rng.fraction()
    }

    /// True so many times of a thousand; never once faults have stopped.
    pub fn strikes(&self, per_mille: u64) -> bool {
        !self.is_calm() && self.below(1000) < per_mille
    }

    /// A span between two others.
    pub fn between(&self, low: Duration, high: Duration) -> Duration {
        let spread = u64::try_from((high - low).as_millis()).unwrap_or(u64::MAX);
        low + Duration::from_millis(self.below(spread + 1))
    }

    /// No fault from now on.
    pub fn calm_down(&self) {
        self.calm.store(true, std::sync::atomic::Ordering::Relaxed);
        let mut inner = self.inner();
        (inner.denied_until, inner.down, inner.leap.0) = (self.began, (self.began, self.began), self.began);
    }

    /// Whether faults have stopped.
    pub fn is_calm(&self) -> bool {
        self.calm.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Writes a line into the trace.
    pub fn trace(&self, line: fmt::Arguments<'_>) {
        let line = format!("{:>10} {line}", self.elapsed().as_millis());
        let mut inner = self.inner();
        inner.crc.update(line.as_bytes());
        inner.crc.update(b"\n");
        inner.lines += 1;
        if let Some(kept) = &mut inner.kept {
            kept.push(line);
        }
    }

    /// The trace: CRC-64/XZ of its bytes, the number of its lines, and the lines if they were kept.
    pub fn traced(&self) -> (u64, u64, Vec<String>) {
        let inner = self.inner();
        (inner.crc.clone().finalize(), inner.lines, inner.kept.clone().unwrap_or_default())
    }

    /// A fault was felt.
    pub fn feel(&self, fault: Fault) {
        self.inner().tally.add(fault);
        self.trace(format_args!("felt {fault:?}"));
    }

    /// A process was killed with these operations under way.
    pub fn note_crash(&self, process: u64, acts: &[&'static str]) {
        self.trace(format_args!("p{process} is killed in {acts:?}"));
        let mut inner = self.inner();
        for act in acts {
            *inner.crashes.entry(act).or_default() += 1;
        }
    }

    /// In which operations processes were killed, and how often.
    pub fn crashes(&self) -> BTreeMap<&'static str, u64> {
        self.inner().crashes.clone()
    }

    /// A process did what none may do.
    pub fn note_bug(&self, what: String) {
        self.trace(format_args!("bug: {what}"));
        self.inner().bugs.push(what);
    }

    /// What processes did that none may do.
    pub fn bugs(&self) -> Vec<String> {
        self.inner().bugs.clone()
    }

    /// A lane whose offset the group had forgotten went from its anchor over objects that it had not written itself.
    pub fn note_walk(&self, partition: i32) {
        let order = self.order.next();
        self.inner().walks.push((partition, order));
    }

    /// When that was, for a partition.
    pub fn walks(&self, partition: i32) -> Vec<u64> {
        self.inner().walks.iter().filter(|(of, _)| *of == partition).map(|(_, order)| *order).collect()
    }

    /// A lane says that records are missing. What retention and truncations took is felt by that, each gap once, however often it is told
    /// before an object lists it; of a topic that is gone it says that the lane has asked for what that left.
    pub fn note_gap(&self, partition: i32, gap: Missing) {
        let order = self.order.next();
        let is_new = {
            let mut inner = self.inner();
            if !gap.is_of_this_log() {
                inner.asks.push((partition, order));
            }
            let incarnation = inner.incarnations.len();
            inner.gaps.insert((partition, incarnation, gap.0, gap.1, gap.2))
        };
        match gap.cause() {
            GapCause::Retention if is_new => self.feel(Fault::Retention),
            GapCause::Truncation if is_new => self.feel(Fault::Truncation),
            _ => {}
        }
    }

    /// The topic was made again.
    pub fn note_recreation(&self, topic_hash: String) {
        self.inner().incarnations.push(topic_hash);
    }

    /// A lane of a topic of this hash knows that the group has taken a commit of it. The first one that goes on with a topic that was made
    /// again feels that.
    pub fn note_commit(&self, topic_hash: &str) {
        let is_first = {
            let mut inner = self.inner();
            let goes_on = !inner.committed.is_empty() && inner.incarnations.iter().any(|hash| hash == topic_hash);
            inner.committed.insert(topic_hash.to_owned()) && goes_on
        };
        if is_first {
            self.feel(Fault::Recreated);
        }
    }

    /// The anchor of a partition was written, and says that this is missing.
    pub fn note_anchor(&self, partition: i32, missing: Vec<Missing>) {
        let order = self.order.next();
        self.inner().anchors.write(order, partition, missing);
    }

    /// The store is asked to give or to take the anchor of a partition; by this number it is known that it did.
    pub fn note_asked_anchor(&self, partition: i32) -> u64 {
        let (order, at) = (self.order.next(), self.elapsed());
        self.inner().anchors.ask(order, partition, at);
        order
    }

    /// Looks up what is known of anchors, or enters it. Not to be called from within.
    pub fn anchors<T>(&self, act: impl FnOnce(&mut AnchorBook) -> T) -> T {
        act(&mut self.inner().anchors)
    }

    /// When that first was for a partition, after `gone_at`; the end of all if it never was.
    pub fn asked_at(&self, partition: i32, gone_at: u64) -> u64 {
        let inner = self.inner();
        inner.asks.iter().filter(|(of, order)| *of == partition && *order > gone_at).map(|(_, order)| *order).min().unwrap_or(u64::MAX)
    }

    /// How often each fault was felt.
    pub fn tally(&self) -> Tally {
        self.inner().tally.clone()
    }

    /// An object under `_catchment/` changes as it likes; any other must never change.
    pub fn note_writing(&self, key: &str, crc64: u64, missing: Vec<Missing>) {
        let order = self.order.next();
        let mut inner = self.inner();
        let writings = inner.writings.entry(key.to_owned()).or_default();
        if writings.last().is_none_or(|last| last.crc64 != crc64) {
            writings.push(Writing { order, crc64, missing });
        }
    }

    /// Every content that each key has had, in order.
    pub fn writings(&self) -> BTreeMap<String, Vec<Writing>> {
        self.inner().writings.clone()
    }

    /// Looks up what is known of uploads, or enters it. Not to be called from within.
    pub fn uploads<T>(&self, act: impl FnOnce(&mut UploadBook) -> T) -> T {
        act(&mut self.inner().uploads)
    }

    /// Looks up what nobody has met yet, or enters it. Not to be called from within.
    pub fn unmet<T>(&self, act: impl FnOnce(&mut Unmet) -> T) -> T {
        act(&mut self.inner().unmet)
    }

    /// Credentials are refused for this long.
    pub fn deny(&self, span: Duration) {
        let mut inner = self.inner();
        inner.denied_until = Instant::now() + span;
        *inner.outages.entry(Fault::Denied).or_default() += 1;
    }

    /// The store is down for this long.
    pub fn take_store_down(&self, span: Duration) {
        let mut inner = self.inner();
        let now = Instant::now();
        inner.down = (now, now + span);
        for fault in [Fault::StoreDown, Fault::StoreDownAnHour] {
            *inner.outages.entry(fault).or_default() += 1;
        }
    }

    /// What the store refuses everything for now.
    pub fn weather(&self) -> Option<Fault> {
        let (now, inner) = (Instant::now(), self.inner());
        match () {
            () if now < inner.down.1 && now.duration_since(inner.down.0) >= HOUR - LAST_OF_AN_OUTAGE => Some(Fault::StoreDownAnHour),
            () if now < inner.down.1 => Some(Fault::StoreDown),
            () if now < inner.denied_until => Some(Fault::Denied),
            () if now < inner.leap.0 => Some(Fault::ClockJumped),
            () => None,
        }
    }

    /// A request of this operation was refused for the weather's sake. An outage is felt once by each operation, however long it lasts.
    pub fn feel_weather(&self, fault: Fault, op: &'static str) {
        let is_new = {
            let mut inner = self.inner();
            let outage = inner.outages.get(&fault).copied().unwrap_or_default();
            inner.outages_felt.insert((fault, outage, op))
        };
        if is_new {
            self.feel(fault);
        }
    }

    /// A process has met the end of a partition's queue that broke off, or could not open one.
    pub fn note_broken(&self, life: u64, partition: i32) {
        self.inner().broken.insert((life, partition));
    }

    /// A process has opened a partition: the queue that had broken off is felt by that.
    pub fn note_opened(&self, life: u64, partition: i32) {
        let was_broken = self.inner().broken.remove(&(life, partition));
        if was_broken {
            self.feel(Fault::QueueBroken);
        }
    }

    /// Moves the wall clock, for good. The store goes by another one, and does not mind.
    pub fn jump(&self, by_ms: i64) {
        let mut inner = self.inner();
        inner.wall_shift_ms += by_ms;
        inner.jumped = true;
    }

    /// Sets the wall clock so far from the store's, for good.
    pub fn set_clock(&self, shift_ms: i64) {
        let by_ms = shift_ms - self.inner().wall_shift_ms;
        self.jump(by_ms);
    }

    /// The wall clock is far off for this long, and the store refuses requests that are dated by it.
    pub fn leap(&self, shift_ms: i64, span: Duration) {
        let mut inner = self.inner();
        inner.leap = (Instant::now() + span, shift_ms);
        inner.jumped = true;
        *inner.outages.entry(Fault::ClockJumped).or_default() += 1;
    }

    /// The wall clock, ms since 1970. A jump is felt when somebody looks.
    pub fn wall_ms(&self, start_ms: i64) -> i64 {
        let jumped = std::mem::take(&mut self.inner().jumped);
        if jumped {
            self.feel(Fault::ClockJumped);
        }
        let inner = self.inner();
        let shift_ms = if Instant::now() < inner.leap.0 { inner.leap.1 } else { inner.wall_shift_ms };
        start_ms + shift_ms + i64::try_from(self.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}
