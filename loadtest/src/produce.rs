//! Sends a load to a topic: on schedule, with keys and transactions, and measures each record from the time at which it was due.
//!
//! Place: `catchment-loadtest produce`, and the first half of `run`. One thread sends, another takes the acknowledgements in, so that a
//! wait of the sender does not make an acknowledgement look late.
//!
//! Guarantees: with idempotence, so that the topic has each record once and in order; what is answered was acknowledged record by record, and each
//! transaction was committed or aborted. Whatever else happens is an error, and then there is no manifest.

mod delivery;
mod sender;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;
use serde::{Deserialize, Serialize};

use self::delivery::Acknowledgements;
use self::sender::Sender;
use crate::failure::{Failure, Result};
use crate::latency::LatencySummary;
use crate::load::Load;
use crate::manifest::Manifest;
use crate::topic::{Cluster, Topic};

/// Longest wait of the thread that takes acknowledgements before it looks whether it is to end.
const POLL: Duration = Duration::from_millis(50);

/// How far a production is, for whoever watches it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Records that are acknowledged, and committed where there are transactions.
    pub committed: AtomicU64,
    /// Set to end it early; what comes of it then is of no use.
    pub is_cancelled: AtomicBool,
}

/// What came of a production.
#[derive(Clone, Debug)]
pub struct Produced {
    /// What a backup must hold.
    pub manifest: Manifest,
    /// Its figures.
    pub figures: Figures,
}

/// Figures of a production.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Records sent, aborted ones included.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Records that were committed.
    pub committed_records: u64,
    /// Bytes of their values.
    pub committed_bytes: u64,
    /// Transactions, aborted ones included.
    pub transactions: u64,
    /// Transactions that were aborted.
    pub aborted_transactions: u64,
    /// From the first record to the last acknowledgement.
    pub seconds: f64,
    /// Whether latencies count from a schedule; else from when a record was sent.
    pub is_scheduled: bool,
    /// How late a record was sent at worst, in milliseconds.
    pub behind_ms: f64,
    /// From when a record was due to its acknowledgement.
    pub latency: Option<LatencySummary>,
    /// From when a transaction's last record was sent to its end.
    pub transaction_latency: Option<LatencySummary>,
}

/// Sends a load.
///
/// # Errors
/// If the cluster does not take all of it.
pub fn produce(cluster: &Cluster, topic: &Topic, load: &Load, progress: &Progress) -> Result<Produced> {
    let acknowledgements = Acknowledgements::new(load.transaction_records.is_none());
    let producer: BaseProducer<Acknowledgements> = config(cluster, load).create_with_context(acknowledgements).map_err(unusable)?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let poll = || {
            while !is_over.load(Ordering::Relaxed) {
                producer.poll(POLL);
            }
        };
        let poller = std::thread::Builder::new().name("acknowledgements".into()).spawn_scoped(scope, poll);
        poller.map_err(|e| Failure::new("a thread cannot be started").because(e).help("check ulimit -u"))?;
        let _ending = Ending(&is_over);
        Sender::new(&producer, topic, load, progress).run()
    })
}

/// Ends the other thread however the sender ends.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn config(cluster: &Cluster, load: &Load) -> ClientConfig {
    let largest = (load.sizes.max + 65_536).max(1_000_000).to_string();
    let mut config = cluster.config_over(&[
        ("linger.ms", "5"),
        ("batch.size", "262144"),
        ("queue.buffering.max.messages", "1000000"),
        ("queue.buffering.max.kbytes", "262144"),
        ("message.max.bytes", largest.as_str()),
        ("transaction.timeout.ms", "120000"),
    ]);
    config.set("enable.idempotence", "true").set("compression.codec", &load.codec);
    match load.transaction_records {
        Some(_) => config.set("transactional.id", format!("catchment-loadtest-{:016x}", load.seed)),
        None => config.remove("transaction.timeout.ms"),
    };
    config
}

fn unusable(cause: KafkaError) -> Failure {
    Failure::usage("the producer cannot be made").because(cause).help("check the properties that -X sets")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Keys;
    use crate::load::Amount;
    use crate::payload::Sizes;

    fn load(transaction_records: Option<u64>) -> Load {
        Load {
            sizes: Sizes { min: 100, max: 4 << 20 },
            keys: Keys::None,
            codec: "lz4".to_owned(),
            rate: None,
            until: Amount { records: 10, bytes: u64::MAX, duration: Duration::from_secs(60) },
            transaction_records,
            aborted_share: 0.0,
            seed: 0x2a,
        }
    }

    #[test]
    fn properties_of_the_caller_win_but_for_what_the_figures_rest_on() {
        let cluster = Cluster::new("a:1", vec![("linger.ms".to_owned(), "99".to_owned())]).expect("it is not ours");
        let plain = config(&cluster, &load(None));
        assert_eq!((plain.get("linger.ms"), plain.get("compression.codec")), (Some("99"), Some("lz4")));
        assert_eq!((plain.get("enable.idempotence"), plain.get("transactional.id")), (Some("true"), None));
        assert_eq!(plain.get("message.max.bytes"), Some("4259840"));
        let transactional = config(&cluster, &load(Some(5)));
        assert_eq!(transactional.get("transactional.id"), Some("catchment-loadtest-000000000000002a"));
    }

    #[test]
    fn librdkafka_takes_the_properties() {
        let cluster = Cluster::new("127.0.0.1:1", Vec::new()).expect("no property is ours");
        for transaction_records in [None, Some(5)] {
            let made: Result<BaseProducer, _> = config(&cluster, &load(transaction_records)).create();
            assert!(made.is_ok(), "{:?}", made.err());
        }
    }
}
