//! A producer that never stops: records of every kind, and transactions of which every other one is aborted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::PREFIX;
use super::bed::Bed;
use super::plan::Plan;
use crate::generate::{Codec, Profile, RecordProducer};
use crate::phases::Watch;

/// A thread that sends records until it is told to stop.
pub(super) struct Producing {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, u64)>,
}

impl Producing {
    pub(super) fn start(bed: &Bed) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (plan, bootstrap, topic) = (bed.plan, bed.kafka.bootstrap().to_owned(), bed.topic.clone());
        let watch = Watch::new(&bootstrap, &format!("catchment-{topic}"), &topic, plan.partitions(), PREFIX);
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || Sender::new(plan, &bootstrap, topic, watch).run(&told));
        Self { stop, thread }
    }

    /// How many records were committed, and how many aborted.
    pub(super) fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the producer does not panic")
    }
}

struct Sender {
    plan: Plan,
    topic: String,
    profile: Profile,
    plain: Vec<RecordProducer>,
    transactional: RecordProducer,
    watch: Watch,
    sequences: Vec<u64>,
}

impl Sender {
    /// From one turn to the next.
    const TURN: Duration = Duration::from_millis(100);
    /// Records of a turn for each partition.
    const RECORDS: u64 = 5;
    /// A transaction every so many turns.
    const TRANSACTION_TURNS: u64 = 7;

    fn new(plan: Plan, bootstrap: &str, topic: String, watch: Watch) -> Self {
        let now = jiff::Timestamp::now().as_millisecond();
        let codecs = if plan.is_raw() { &Codec::ALL[..1] } else { &Codec::ALL };
        Self {
            profile: plan.profile().with_times(now, 18_000),
            plain: codecs.iter().map(|codec| RecordProducer::new(bootstrap, *codec)).collect(),
            transactional: RecordProducer::transactional(bootstrap, Codec::None, &topic),
            sequences: vec![0; usize::try_from(plan.partitions()).expect("partitions >= 0")],
            plan,
            topic,
            watch,
        }
    }

    fn run(mut self, told: &AtomicBool) -> (u64, u64) {
        let (mut sent, mut aborted, mut turn) = (0, 0, 0_u64);
        let began = Instant::now();
        while !told.load(Ordering::Relaxed) {
            let producer = usize::try_from(turn).expect("a count fits") % self.plain.len();
            sent += self.send(Some(producer));
            if turn % Self::TRANSACTION_TURNS == 0 {
                self.transactional.begin();
                let in_transaction = self.send(None);
                self.transactional.flush();
                if turn % (2 * Self::TRANSACTION_TURNS) == 0 {
                    self.transactional.abort();
                    aborted += in_transaction;
                } else {
                    self.transactional.commit();
                    sent += in_transaction;
                }
            }
            turn += 1;
            let due = Self::TURN * u32::try_from(turn).expect("a run is short");
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        self.plain.iter().for_each(RecordProducer::flush);
        (sent, aborted)
    }

    fn send(&mut self, plain: Option<usize>) -> u64 {
        let notes = if self.plan.is_raw() { self.watch.notes() } else { BTreeMap::new() };
        let mut count = 0;
        for partition in 0..self.plan.partitions() {
            let stored = notes.get(&partition).map_or(0, |n| n.position);
            if self.plan.is_raw() && self.watch.log_end(partition) - stored > self.plan.ahead_max() {
                continue;
            }
            for _ in 0..Self::RECORDS {
                let next = &mut self.sequences[partition.unsigned_abs() as usize];
                let record = self.profile.record(11, &self.topic, partition, *next);
                *next += 1;
                plain.map_or(&self.transactional, |n| &self.plain[n]).send(&self.topic, partition, &record);
                count += 1;
            }
        }
        count
    }
}
