//! The loop that sends: waits until a record is due, makes it, hands it to the client; begins and ends transactions.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::delivery::Acknowledgements;
use super::{Figures, Produced, Progress};
use crate::failure::{Failure, Result};
use crate::latency::Latencies;
use crate::load::Load;
use crate::manifest::Ledger;
use crate::payload::Payloads;
use crate::records::mix;
use crate::schedule::Schedule;
use crate::topic::Topic;

/// How long the cluster may take for what it is asked once: to begin with transactions, to end one.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long records may be under way without one being acknowledged. Longer than librdkafka's own `message.timeout.ms`.
const SILENCE: Duration = Duration::from_secs(330);

/// A pause while the client's queue is full, or while acknowledgements are waited for.
const PAUSE: Duration = Duration::from_millis(1);

/// Sends one load.
pub(super) struct Sender<'a> {
    producer: &'a BaseProducer<Acknowledgements>,
    topic: &'a Topic,
    load: &'a Load,
    progress: &'a Progress,
    began: Duration,
    schedule: Schedule,
    payloads: Payloads,
    ledger: Ledger,
    key: String,
    transactions: Transactions,
    behind: Duration,
}

/// What is counted of transactions.
struct Transactions {
    ended: u64,
    aborted: u64,
    open_records: u64,
    open_bytes: u64,
    committed_records: u64,
    committed_bytes: u64,
    latencies: Latencies,
}

/// Whether a transaction is aborted: by chance, and the same for each production with this seed.
fn is_aborted(seed: u64, transaction: u64, share: f64) -> bool {
    let chance = (mix(seed ^ mix(transaction.wrapping_add(1))) >> 11) as f64 / (1_u64 << 53) as f64;
    chance < share
}

impl<'a> Sender<'a> {
    pub(super) fn new(producer: &'a BaseProducer<Acknowledgements>, topic: &'a Topic, load: &'a Load, progress: &'a Progress) -> Self {
        Self {
            producer,
            topic,
            load,
            progress,
            began: Duration::ZERO,
            schedule: Schedule::new(load.rate),
            payloads: Payloads::new(load.seed, load.sizes),
            ledger: Ledger::new(topic.partitions),
            key: String::new(),
            transactions: Transactions {
                ended: 0,
                aborted: 0,
                open_records: 0,
                open_bytes: 0,
                committed_records: 0,
                committed_bytes: 0,
                latencies: Latencies::new(),
            },
            behind: Duration::ZERO,
        }
    }

    /// Sends everything and waits until it is acknowledged.
    pub(super) fn run(mut self) -> Result<Produced> {
        if self.load.transaction_records.is_some() {
            self.retried("begin with transactions", || self.producer.init_transactions(PATIENCE))?;
        }
        self.began = self.acknowledgements().now();
        while let Some(due) = self.next_due() {
            self.send_next(due)?;
            if self.load.transaction_records.is_some_and(|records| self.transactions.open_records >= records) {
                self.end_transaction()?;
            }
        }
        if self.load.transaction_records.is_some() && self.transactions.open_records > 0 {
            self.end_transaction()?;
        }
        self.drain()?;
        if self.progress.is_cancelled.load(Ordering::Relaxed) {
            return Err(Failure::new("the load was ended early"));
        }
        self.finish()
    }

    fn acknowledgements(&self) -> &'a Acknowledgements {
        self.producer.context()
    }

    /// Time since the first record could be sent.
    fn now(&self) -> Duration {
        self.acknowledgements().now().saturating_sub(self.began)
    }

    /// Waits for the next record's time, and answers it; none if it was the last one.
    fn next_due(&mut self) -> Option<Duration> {
        let (until, sent, due) = (self.load.until, &self.schedule, self.schedule.due());
        let is_over = |at: Duration| sent.records() >= until.records || sent.bytes() >= until.bytes || at >= until.duration;
        let is_cancelled = self.progress.is_cancelled.load(Ordering::Relaxed);
        if is_cancelled || is_over(self.now().max(due.unwrap_or_default())) {
            return None;
        }
        let Some(due) = due else { return Some(self.now()) };
        loop {
            match due.checked_sub(self.now()) {
                Some(early) if !early.is_zero() => std::thread::sleep(early),
                _ => break,
            }
        }
        self.behind = self.behind.max(self.now().saturating_sub(due));
        Some(due)
    }

    fn send_next(&mut self, due: Duration) -> Result<()> {
        let in_transactions = self.load.transaction_records.is_some();
        if in_transactions && self.transactions.open_records == 0 {
            self.retried("begin", || self.producer.begin_transaction())?;
        }
        let partition = self.load.keys.place(self.load.seed, self.schedule.records(), self.topic.partitions, &mut self.key);
        let is_aborted = in_transactions && is_aborted(self.load.seed, self.transactions.ended, self.load.aborted_share);
        let value = self.payloads.value(partition, self.ledger.next(partition), is_aborted);
        let bytes = value.len() as u64;
        let key = self.load.keys.are_there().then_some(self.key.as_str());
        let opaque = usize::try_from((self.began + due).as_nanos()).unwrap_or(usize::MAX);
        hand_over(self.producer, &self.topic.name, partition, key, value, opaque)?;
        self.ledger.sent(partition);
        self.schedule.advance(bytes);
        self.transactions.open_records += 1;
        self.transactions.open_bytes += bytes;
        if self.acknowledgements().are_commits {
            self.progress.committed.store(self.acknowledgements().acknowledged(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits until nothing is under way.
    fn drain(&self) -> Result<()> {
        let (mut acknowledged, mut heard) = (0, Instant::now());
        while self.producer.in_flight_count() > 0 {
            check(self.acknowledgements())?;
            let now_acknowledged = self.acknowledgements().acknowledged();
            if now_acknowledged > acknowledged {
                (acknowledged, heard) = (now_acknowledged, Instant::now());
            }
            if heard.elapsed() > SILENCE {
                return Err(self.refused("no record was acknowledged any more", None));
            }
            std::thread::sleep(PAUSE);
        }
        check(self.acknowledgements())
    }

    /// Ends the open transaction. Records of one that is aborted are in the log by then: that is what a reader must not take.
    fn end_transaction(&mut self) -> Result<()> {
        let full = self.now();
        self.drain()?;
        let is_aborted = is_aborted(self.load.seed, self.transactions.ended, self.load.aborted_share);
        match is_aborted {
            true => self.retried("abort", || self.producer.abort_transaction(PATIENCE))?,
            false => self.retried("commit", || self.producer.commit_transaction(PATIENCE))?,
        }
        self.ledger.end_transaction(is_aborted);
        let latency = self.now().saturating_sub(full);
        let counts = &mut self.transactions;
        counts.latencies.add(latency);
        counts.ended += 1;
        counts.aborted += u64::from(is_aborted);
        let (records, bytes) = (std::mem::take(&mut counts.open_records), std::mem::take(&mut counts.open_bytes));
        if !is_aborted {
            counts.committed_records += records;
            counts.committed_bytes += bytes;
            self.progress.committed.fetch_add(records, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Calls again while the client says that this may help.
    fn retried(&self, what: &str, call: impl Fn() -> KafkaResult<()>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match call() {
                Ok(()) => return Ok(()),
                Err(KafkaError::Transaction(e)) if e.is_retriable() && Instant::now() < deadline => std::thread::sleep(100 * PAUSE),
                Err(e) => return Err(self.refused(&format!("a transaction: cannot {what}"), Some(e.to_string()))),
            }
        }
    }

    fn refused(&self, what: &str, cause: Option<String>) -> Failure {
        let said = [cause, self.acknowledgements().last_error()].into_iter().flatten().collect::<Vec<_>>();
        let failure =
            Failure::new(what).help("look at the brokers' logs; the topic holds a part of the load, so use another one next time");
        if said.is_empty() { failure } else { failure.because(said.join("; ")) }
    }

    fn finish(self) -> Result<Produced> {
        let acknowledgements = self.acknowledgements();
        let (seconds, sent) = (self.now().as_secs_f64(), &self.schedule);
        if acknowledgements.acknowledged() != sent.records() {
            let (acknowledged, records) = (acknowledgements.acknowledged(), sent.records());
            return Err(self.refused(&format!("{acknowledged} of {records} records were acknowledged"), None));
        }
        let (committed_records, committed_bytes) = match self.load.transaction_records {
            Some(_) => (self.transactions.committed_records, self.transactions.committed_bytes),
            None => (sent.records(), sent.bytes()),
        };
        self.progress.committed.store(committed_records, Ordering::Relaxed);
        let figures = Figures {
            records: sent.records(),
            bytes: sent.bytes(),
            committed_records,
            committed_bytes,
            transactions: self.transactions.ended,
            aborted_transactions: self.transactions.aborted,
            seconds,
            is_scheduled: self.load.rate.is_some(),
            behind_ms: self.behind.as_secs_f64() * 1000.0,
            latency: acknowledgements.latencies().summary(),
            transaction_latency: self.transactions.latencies.summary(),
        };
        Ok(Produced { manifest: self.ledger.into_manifest(&self.topic.name, self.load.seed, self.topic.is_empty), figures })
    }
}

/// Fails if a record was not taken.
fn check(acknowledgements: &Acknowledgements) -> Result<()> {
    match acknowledgements.failure() {
        Some(why) => Err(Failure::new("the cluster did not take a record").because(why).help(
            "is it larger than max.message.bytes of the topic allows, or may this user not Write? What was sent so far stays in the topic",
        )),
        None => Ok(()),
    }
}

/// Gives a record to the client; waits while its queue is full.
fn hand_over(
    producer: &BaseProducer<Acknowledgements>,
    topic: &str,
    partition: i32,
    key: Option<&str>,
    value: &str,
    due: usize,
) -> Result<()> {
    loop {
        let record = BaseRecord { partition: Some(partition), key, payload: Some(value), ..BaseRecord::with_opaque_to(topic, due) };
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                check(producer.context())?;
                std::thread::sleep(PAUSE);
            }
            Err((e, _)) => {
                check(producer.context())?;
                return Err(Failure::new("the client did not take a record").because(e).help("check the properties that -X sets"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_transactions_are_aborted_as_the_share_says() {
        let aborted = |seed: u64, share: f64| (0..10_000).filter(|n| is_aborted(seed, *n, share)).count();
        assert_eq!((aborted(1, 0.0), aborted(1, 1.0)), (0, 10_000));
        let quarter = aborted(1, 0.25);
        assert!(quarter.abs_diff(2500) < 200, "{quarter}");
        let list = |seed: u64| (0..100).map(|n| is_aborted(seed, n, 0.5)).collect::<Vec<_>>();
        assert!(list(1) == list(1) && list(1) != list(2));
    }
}
