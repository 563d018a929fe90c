//! `catchment-loadtest`: fills a topic. The benches use the same records.

use clap::{Parser, Subcommand};

/// Load for Kafka topics.
#[derive(Debug, Parser)]
#[command(name = "catchment-loadtest", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Fill a new topic of 8 partitions
    Produce {
        /// Topic, which must not exist
        topic: String,
        /// Bootstrap brokers
        #[arg(short, long, default_value = "127.0.0.1:9092")]
        brokers: String,
        /// Bytes of a record's value, about
        #[arg(long, default_value_t = 1024)]
        bytes: usize,
        /// MiB of values in all
        #[arg(long, default_value_t = 1024)]
        mib: u64,
        /// Codec of the batches: none, gzip, snappy, lz4, zstd
        #[arg(long, default_value = "none")]
        codec: String,
    },
}

fn main() {
    let Cli { verb: Verb::Produce { topic, brokers, bytes, mib, codec } } = Cli::parse();
    let records = catchment_loadtest::fill(&brokers, &topic, bytes, mib, &codec);
    println!("{records} records in {topic}");
}
