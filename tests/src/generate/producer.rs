//! Sends generated records: plain, in any codec, or in transactions that commit and abort.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};

use super::{Profile, Record, Rng};
use crate::native::{self, Refusal};
use crate::oracle::Place;

/// How long a broker may take for anything before the test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a producer compresses its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// zstd.
    Zstd,
}

impl Codec {
    /// All of Kafka's.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// Its name in a client's configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Gets a token from somewhere, for listeners that take tokens.
pub type TokenSource = Box<dyn Fn() -> Result<OAuthToken, Box<dyn std::error::Error>> + Send + Sync>;

/// Counts what the broker did not take.
#[derive(Default)]
struct Deliveries {
    token: Option<TokenSource>,
    failed: AtomicU64,
    /// Set while a transaction is aborted: its records fail on purpose.
    aborting: std::sync::atomic::AtomicBool,
    reason: std::sync::Mutex<Option<String>>,
    /// Partition, offset and ticket of what was sent with one.
    places: std::sync::Mutex<Vec<(Place, usize)>>,
}

/// The ticket of records whose places nobody wants to know.
const NO_TICKET: usize = usize::MAX;

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.token.as_ref().ok_or("the test gave no source of tokens")?()
    }

    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: rdkafka::error::KafkaError, _: &str) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        match result {
            Ok(message) if ticket != NO_TICKET => {
                self.places.lock().expect("no holder panics").push(((message.partition(), message.offset()), ticket));
            }
            Err((error, _)) if !self.aborting.load(Ordering::Relaxed) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                self.reason.lock().expect("no holder panics").get_or_insert_with(|| error.to_string());
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// A producer that loses nothing in silence: whatever the broker refuses fails the next [`flush`](Self::flush).
#[expect(missing_debug_implementations, reason = "the client has none")]
pub struct RecordProducer {
    client: BaseProducer<Deliveries>,
}

impl RecordProducer {
    /// An idempotent producer with `codec`.
    pub fn new(bootstrap: &str, codec: Codec) -> Self {
        Self::of(&settings(bootstrap, codec))
    }

    /// A transactional producer; whoever had this id before is fenced.
    pub fn transactional(bootstrap: &str, codec: Codec, id: &str) -> Self {
        let mut config = settings(bootstrap, codec);
        config.set("transactional.id", id);
        let producer = Self::of(&config);
        producer.client.init_transactions(PATIENCE).expect("the transaction coordinator answers");
        producer
    }

    /// A producer with settings of the test's own, for listeners and accounts.
    pub fn of(config: &ClientConfig) -> Self {
        Self::create(config, None)
    }

    /// The same with tokens, for mechanism OAUTHBEARER.
    pub fn with_tokens(config: &ClientConfig, source: TokenSource) -> Self {
        Self::create(config, Some(source))
    }

    fn create(config: &ClientConfig, token: Option<TokenSource>) -> Self {
        let context = Deliveries { token, ..Deliveries::default() };
        Self { client: config.create_with_context(context).unwrap_or_else(|e| panic!("cannot make a producer: {e}")) }
    }

    /// Queues one record; waits while the queue is full.
    pub fn send(&self, topic: &str, partition: i32, record: &Record) {
        self.send_with(topic, partition, record, NO_TICKET);
    }

    fn send_with(&self, topic: &str, partition: i32, record: &Record, ticket: usize) {
        loop {
            match native::produce(&self.client, topic, partition, record, ticket) {
                Ok(()) => break,
                Err(Refusal::QueueFull) => self.client.poll(Duration::from_millis(5)),
                Err(Refusal::Other(e)) => panic!("cannot send to {topic}/{partition}: {e}"),
            }
        }
        self.client.poll(Duration::ZERO);
    }

    /// Waits until the broker has everything.
    ///
    /// # Panics
    /// If it refused a record, with its first reason.
    pub fn flush(&self) {
        self.client.flush(PATIENCE).unwrap_or_else(|e| panic!("the broker did not take everything: {e}"));
        self.check();
    }

    /// Where the broker says it has put what was sent with a ticket, since this was asked before.
    fn take_places(&self) -> Vec<(Place, usize)> {
        let places = std::mem::take(&mut *self.client.context().places.lock().expect("no holder panics"));
        assert!(places.iter().all(|((_, offset), _)| *offset >= 0), "the broker took a record and did not say where");
        places
    }

    /// Like [`flush`](Self::flush), with a time limit and an answer instead of a panic: for tests of wrong secrets.
    pub fn try_flush(&self, limit: Duration) -> Result<(), String> {
        self.client.flush(limit).map_err(|e| e.to_string())?;
        let failed = self.client.context().failed.load(Ordering::Relaxed);
        if failed == 0 { Ok(()) } else { Err(format!("{failed} records refused")) }
    }

    fn check(&self) {
        let context = self.client.context();
        let failed = context.failed.load(Ordering::Relaxed);
        let reason = context.reason.lock().expect("no holder panics").clone().unwrap_or_default();
        assert!(failed == 0, "the broker refused {failed} records, the first with: {reason}");
    }

    /// Opens a transaction.
    pub fn begin(&self) {
        self.client.context().aborting.store(false, Ordering::Relaxed);
        self.client.begin_transaction().expect("a transaction begins");
    }

    /// Commits the open transaction.
    pub fn commit(&self) {
        self.client.commit_transaction(PATIENCE).expect("a transaction commits");
        self.check();
    }

    /// Aborts the open transaction, its records sent or not. To leave aborted records in the log, flush first.
    pub fn abort(&self) {
        self.client.context().aborting.store(true, Ordering::Relaxed);
        self.client.abort_transaction(PATIENCE).expect("a transaction aborts");
        while self.client.in_flight_count() > 0 {
            self.client.poll(Duration::from_millis(5)); // reports of purged records, while they still count as meant
        }
    }
}

fn settings(bootstrap: &str, codec: Codec) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("compression.codec", codec.as_str())
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .set("batch.size", "262144")
        .set("queue.buffering.max.kbytes", "131072")
        // More than the broker takes, which counts a batch as it is compressed.
        .set("message.max.bytes", "67108864");
    config
}

/// What [`fill`] is to send. The topic exists already.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seed of the records and of the aborts.
    pub seed: u64,
    /// The topic.
    pub topic: String,
    /// Its partitions 0 to this number less one get records.
    pub partitions: i32,
    /// Records to send in all, aborted ones included.
    pub records: u64,
    /// What they look like.
    pub profile: Profile,
    /// Codecs, in turn for each run of a thousand records.
    pub codecs: Vec<Codec>,
    /// Of a thousand runs, how many are sent in a transaction.
    pub transactions: u64,
    /// Of a thousand transactions, how many are aborted.
    pub aborts: u64,
}

impl Plan {
    /// The whole mixture: four codecs and none, a transactional producer in a fifth of the runs, every third one aborted.
    pub fn mixed(seed: u64, topic: &str, partitions: i32, records: u64) -> Self {
        Self {
            seed,
            topic: topic.to_owned(),
            partitions,
            records,
            profile: Profile::mixed(),
            codecs: Codec::ALL.to_vec(),
            transactions: 200,
            aborts: 333,
        }
    }

    /// Plain events without compression or transactions.
    pub fn plain(seed: u64, topic: &str, partitions: i32, records: u64) -> Self {
        Self { profile: Profile::plain(), codecs: vec![Codec::None], transactions: 0, ..Self::mixed(seed, topic, partitions, records) }
    }
}

/// How a run of records ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Sent without a transaction.
    Plain,
    /// In a transaction that committed.
    Committed,
    /// In a transaction that aborted.
    Aborted,
}

/// What [`fill`] sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Records that a `read_committed` consumer must see.
    pub visible: u64,
    /// Records of aborted transactions.
    pub aborted: u64,
    /// Bytes of the visible values.
    pub value_bytes: u64,
    /// The next sequence number of each partition.
    pub next_sequence: Vec<u64>,
    /// Place and sequence number of each visible record, as the broker told whoever sent it.
    pub places: Vec<(Place, u64)>,
}

impl Filled {
    fn note(&mut self, producer: &RecordProducer) {
        self.places.extend(producer.take_places().into_iter().map(|(place, sequence)| (place, sequence as u64)));
    }
}

/// Records in one run of one codec. Small enough that a run with aborts leaves many transactions in each partition.
const RUN: u64 = 1000;

/// Sends the records of `plan` and waits until the broker has them all.
pub fn fill(bootstrap: &str, plan: &Plan) -> Filled {
    let mut filled = Filled { next_sequence: vec![0; usize::try_from(plan.partitions).expect("partitions >= 0")], ..Filled::default() };
    continue_fill(bootstrap, plan, &mut filled);
    filled
}

/// Sends as many records again, on from the sequence numbers of an earlier fill.
pub fn continue_fill(bootstrap: &str, plan: &Plan, filled: &mut Filled) {
    let plain: Vec<_> = plan.codecs.iter().map(|codec| RecordProducer::new(bootstrap, *codec)).collect();
    let transactional = (plan.transactions > 0)
        .then(|| RecordProducer::transactional(bootstrap, plan.codecs[0], &format!("fill-{}-{:x}", plan.topic, plan.seed)));
    let mut rng = Rng::new(plan.seed ^ 0x7472_616e_7361_6374);
    let mut sent = 0;
    while sent < plan.records {
        let count = RUN.min(plan.records - sent);
        let turn = usize::try_from(sent / RUN).expect("a count fits") % plain.len();
        match &transactional {
            Some(producer) if rng.below(1000) < plan.transactions => {
                let aborted = rng.below(1000) < plan.aborts;
                producer.begin();
                send_run(producer, plan, filled, sent, count, if aborted { Outcome::Aborted } else { Outcome::Committed });
                producer.flush();
                if aborted {
                    producer.abort();
                    drop(producer.take_places());
                } else {
                    producer.commit();
                    filled.note(producer);
                }
            }
            _ => send_run(&plain[turn], plan, filled, sent, count, Outcome::Plain),
        }
        sent += count;
    }
    for producer in &plain {
        producer.flush();
        filled.note(producer);
    }
}

fn send_run(producer: &RecordProducer, plan: &Plan, filled: &mut Filled, sent: u64, count: u64, outcome: Outcome) {
    let partitions = u64::try_from(plan.partitions).expect("partitions >= 0");
    for n in sent..sent + count {
        let partition = i32::try_from(n % partitions).expect("a partition fits");
        let next = &mut filled.next_sequence[partition.unsigned_abs() as usize];
        let record = plan.profile.record(plan.seed, &plan.topic, partition, *next);
        let ticket = usize::try_from(*next).expect("a count fits");
        *next += 1;
        producer.send_with(&plan.topic, partition, &record, ticket);
        if outcome == Outcome::Aborted {
            filled.aborted += 1;
        } else {
            filled.visible += 1;
            filled.value_bytes += record.value.map_or(0, |v| v.len() as u64);
        }
    }
}
