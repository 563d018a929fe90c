//! What is to be sent: the flags of a production, checked against each other.

use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};
use crate::keys::Keys;
use crate::payload::Sizes;
use crate::units::{Rate, Size, span};

/// The codecs of librdkafka.
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Flags that say what is sent.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Load")]
pub struct LoadArgs {
    /// Partitions of the topic [default: those it has, or 8 if it is made]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=100_000))]
    pub partitions: Option<i32>,
    /// Bytes of a record's value, about: a size, or a range such as 200..10KiB
    #[arg(long, value_name = "SIZE", default_value = "1KiB")]
    pub record_bytes: Sizes,
    /// Keys: none, unique, or how many different ones
    #[arg(long, value_name = "KEYS", default_value = "unique")]
    pub keys: Keys,
    /// Codec of the batches
    #[arg(long, value_name = "CODEC", default_value = "none", value_parser = CODECS)]
    pub codec: String,
    /// How fast: 5000/s in records, or 20MiB/s in bytes of values [default: as fast as possible]
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Rate>,
    /// Stop after so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub records: Option<u64>,
    /// Stop after so many bytes of values
    #[arg(long, value_name = "SIZE")]
    pub bytes: Option<Size>,
    /// Stop after this time
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub duration: Option<Duration>,
    /// Send in transactions of so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub transaction_records: Option<u64>,
    /// Abort about so many transactions in a hundred
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, requires = "transaction_records")]
    pub abort_percent: f64,
    /// Seed of the values, for one production of a topic [default: another one each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// What is to be sent, checked.
#[derive(Clone, Debug)]
pub struct Load {
    /// Bytes of the values.
    pub sizes: Sizes,
    /// Keys of the records.
    pub keys: Keys,
    /// Codec of the batches.
    pub codec: String,
    /// How fast.
    pub rate: Option<Rate>,
    /// When it ends: at the first of these that is reached.
    pub until: Amount,
    /// Records in a transaction, if there are transactions.
    pub transaction_records: Option<u64>,
    /// Share of transactions that are aborted, from 0 to 1.
    pub aborted_share: f64,
    /// Seed of the values.
    pub seed: u64,
}

/// How much is sent at most.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Records.
    pub records: u64,
    /// Bytes of values.
    pub bytes: u64,
    /// Time.
    pub duration: Duration,
}

impl LoadArgs {
    /// The load that the flags describe.
    ///
    /// # Errors
    /// If they do not say when it ends, or do not go together.
    pub fn load(&self) -> Result<Load> {
        if self.records.is_none() && self.bytes.is_none() && self.duration.is_none() {
            return Err(Failure::usage("nothing says how much is sent").help("add --records N, --bytes SIZE or --duration SPAN"));
        }
        if self.bytes.is_some_and(|bytes| bytes.0 == 0) || self.duration.is_some_and(|duration| duration.is_zero()) {
            return Err(Failure::usage("a load test without a record tests nothing").help("ask for more than 0"));
        }
        if !(0.0..=100.0).contains(&self.abort_percent) {
            return Err(Failure::usage(format!("--abort-percent {} is not between 0 and 100", self.abort_percent)));
        }
        Ok(Load {
            sizes: self.record_bytes,
            keys: self.keys,
            codec: self.codec.clone(),
            rate: self.rate,
            until: Amount {
                records: self.records.unwrap_or(u64::MAX),
                bytes: self.bytes.map_or(u64::MAX, |bytes| bytes.0),
                duration: self.duration.unwrap_or(Duration::MAX),
            },
            transaction_records: self.transaction_records,
            aborted_share: self.abort_percent / 100.0,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
        })
    }
}

/// The load as reports have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadSummary {
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: i32,
    /// Bytes of a value.
    pub record_bytes: String,
    /// Keys.
    pub keys: String,
    /// Codec of the batches.
    pub codec: String,
    /// The rate, if there is one.
    pub rate: Option<String>,
    /// Records in a transaction, if there are any.
    pub transaction_records: Option<u64>,
    /// Transactions in a hundred that are aborted.
    pub abort_percent: f64,
    /// The seed.
    pub seed: u64,
}

impl Load {
    /// The load as reports have it.
    pub fn summary(&self, topic: &str, partitions: i32) -> LoadSummary {
        LoadSummary {
            topic: topic.to_owned(),
            partitions,
            record_bytes: self.sizes.to_string(),
            keys: self.keys.to_string(),
            codec: self.codec.clone(),
            rate: self.rate.map(|rate| rate.to_string()),
            transaction_records: self.transaction_records,
            abort_percent: self.aborted_share * 100.0,
            seed: self.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn load(line: &str) -> Result<Load, String> {
        let words = std::iter::once("load").chain(line.split_whitespace());
        Cli::try_parse_from(words).map_err(|e| e.to_string())?.load.load().map_err(|e| e.to_string())
    }

    #[test]
    fn flags_become_a_load() {
        let load = load("--records 10 --bytes 1MiB --rate 5MiB/s --keys 7 --transaction-records 3 --abort-percent 25 --seed 4")
            .expect("it is one");
        assert_eq!((load.until.records, load.until.bytes, load.until.duration), (10, 1 << 20, Duration::MAX));
        assert_eq!((load.rate, load.keys, load.seed), (Some(Rate::Bytes(5 << 20)), Keys::Distinct(7), 4));
        assert_eq!((load.transaction_records, load.aborted_share), (Some(3), 0.25));
        assert_eq!(load.summary("t", 4).record_bytes, "1KiB");
    }

    #[test]
    fn a_load_without_a_seed_gets_another_one_each_time() {
        let seeds: Vec<u64> = (0..3).map(|_| load("--records 1").expect("it is one").seed).collect();
        assert!(seeds[0] != seeds[1] || seeds[1] != seeds[2], "{seeds:?}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (line, reason) in [
            ("", "how much"),
            ("--duration 0s", "0"),
            ("--bytes 0", "0"),
            ("--records 0", "records"),
            ("--records 1 --abort-percent 10", "transaction-records"),
            ("--records 1 --transaction-records 5 --abort-percent 101", "between"),
            ("--records 1 --codec brotli", "codec"),
            ("--records 1 --rate 5", "rate"),
            ("--records 1 --record-bytes 5", "record"),
            ("--records 1 --keys some", "keys"),
            ("--records 1 --partitions 0", "partitions"),
            ("--duration 5", "span"),
        ] {
            let refused = load(line).expect_err(line);
            assert!(refused.contains(reason), "{line}: {refused}");
        }
    }
}
