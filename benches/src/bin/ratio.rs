//! `ratio`: what the engine costs, as ratios to the floor and to the bare drain that were measured in the same run: on a real topic and store, or
//! without either of them.
//!
//! This is the command line alone: what is measured and how is in the library. It ends with 2 if it cannot do what was asked, with 1 if something
//! failed while it was measured, and never prints a figure whose output was not read back, or, where nothing was kept, proven by what it was given.
//!
//! Whatever runs beside the engine is a process of its own, too: this program again, with a verb that is not for people. So this process stays small
//! (a child's peak memory is never below its parent's), and an allocator warmed by one measurement serves no other.

use std::io::Write as _;
use std::panic::UnwindSafe;
use std::process::ExitCode;

use catchment_benches::Failure;
use catchment_benches::allocations::Counting;
use catchment_benches::broker::Broker;
use catchment_benches::drain::{drain, greet};
use catchment_benches::engine::Engine;
use catchment_benches::floor::Floor;
use catchment_benches::in_process::{self, Input};
use catchment_benches::measure::{Bench, Target, scratch};
use catchment_benches::report::Report;
use catchment_benches::row::{Case, Format, Row, Source};
use catchment_benches::scale::Scale;
use catchment_loadtest::fill;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What batches of a topic may be compressed with.
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// The stores that need no address.
const NULL: &str = "null";

const FILE: &str = "file";

/// What the engine costs, beside the physical floor and the bare drain, measured in turn
#[derive(Debug, Parser)]
#[command(name = "ratio", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Args, Debug)]
struct Options {
    /// Bootstrap brokers [default: a Kafka that goes with the run, by tests/services/kafka.sh]
    #[arg(short, long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// What records come from
    #[arg(long, value_name = "SOURCE,...", value_enum, value_delimiter = ',', default_values_t = [Source::Librdkafka])]
    source: Vec<Source>,
    /// Store, with credentials by the usual variables; `file`: a directory of the run; `null`: keeps nothing; may be repeated
    #[arg(long, value_name = "URL", default_values_t = [FILE.to_owned()])]
    to: Vec<String>,
    /// Rounds of each row
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// MiB of values in a topic, or made in memory
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    mib: u64,
    /// About how large a record's value is
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [100_u32, 1024, 10_240], value_parser = clap::value_parser!(u32).range(64..=1 << 20))]
    record_bytes: Vec<u32>,
    /// What is written
    #[arg(long, value_name = "FORMAT,...", value_enum, value_delimiter = ',', default_values_t = [Format::Parquet, Format::Raw])]
    formats: Vec<Format>,
    /// What the topic's batches are compressed with
    #[arg(long, value_name = "CODEC,...", value_delimiter = ',', default_values_t = ["none".to_owned()], value_parser = CODECS)]
    codec: Vec<String>,
    /// A topic that is there already, from another run; needs one --record-bytes and one --codec, which have to be the topic's
    #[arg(long)]
    topic: Option<String>,
    /// Count calls of the allocator for a record, in one run more for each row
    #[arg(long)]
    allocations: bool,
    /// Measure instead how much faster two CPUs are than one, from memory to a store that keeps nothing
    #[arg(long, conflicts_with_all = ["brokers", "source", "to", "codec", "topic", "allocations"])]
    scale: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What runs beside the engine, each with one line of JSON as its answer.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Fills a topic
    #[command(hide = true)]
    Fill {
        #[command(flatten)]
        place: Place,
        #[arg(long)]
        record_bytes: usize,
        #[arg(long)]
        codec: String,
        #[arg(long)]
        mib: u64,
    },
    /// Drains a topic
    #[command(hide = true)]
    Drain {
        #[command(flatten)]
        place: Place,
    },
    /// Measures the floor and its parts
    #[command(hide = true)]
    Floor {
        #[arg(long)]
        record_bytes: usize,
        #[arg(long, value_enum)]
        format: Format,
    },
    /// Runs the engine within this program
    #[command(hide = true)]
    Engine {
        /// What it is to do, as JSON
        work: String,
    },
}

#[derive(Args, Debug)]
struct Place {
    #[arg(long)]
    brokers: String,
    #[arg(long)]
    topic: String,
}

fn main() -> ExitCode {
    let Cli { options, verb } = Cli::parse();
    let done = match verb {
        Some(verb) => without_panic(|| verb.run()),
        None => options.run(),
    };
    let printed = done.and_then(|text| writeln!(std::io::stdout(), "{text}").map_err(|e| Failure::Tried(format!("cannot print: {e}"))));
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ratio: {failure}");
            failure.exit_code()
        }
    }
}

/// The floor and the filling of a topic panic where they cannot go on, as benches may. Here that is a failure like any other.
fn without_panic<T>(work: impl FnOnce() -> Result<T, Failure> + UnwindSafe) -> Result<T, Failure> {
    std::panic::set_hook(Box::new(|_| {}));
    std::panic::catch_unwind(work).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Failure::Tried(said.unwrap_or("something has panicked").to_owned()))
    })
}

impl Verb {
    fn run(self) -> Result<String, Failure> {
        let failed = |e: rdkafka::error::KafkaError| Failure::Tried(e.to_string());
        match self {
            Self::Fill { place: Place { brokers, topic }, record_bytes, codec, mib } => {
                greet(&brokers).map_err(failed)?;
                Ok(fill(&brokers, &topic, record_bytes, mib, &codec).to_string())
            }
            Self::Drain { place: Place { brokers, topic } } => Ok(json(&drain(&brokers, &topic).map_err(failed)?)),
            Self::Floor { record_bytes, format } => Ok(json(&Floor::new(record_bytes, format.is_compressed()).measure())),
            Self::Engine { work } => {
                let work = serde_json::from_str(&work).map_err(|e| Failure::Asked(format!("this is nothing to do: {e}")))?;
                in_process::run(&work).map(|ran| json(&ran))
            }
        }
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain values serialise")
}

impl Options {
    /// What one option asks of others.
    fn check(&self) -> Result<(), clap::Error> {
        let reads_topic = self.source == [Source::Librdkafka];
        if self.topic.is_some() && (!reads_topic || self.brokers.is_none() || self.record_bytes.len() != 1 || self.codec.len() != 1) {
            let why = "--topic needs -b, one --record-bytes and one --codec: those that the topic was filled with; and no other --source\n";
            return Err(Cli::command().error(ErrorKind::MissingRequiredArgument, why));
        }
        Ok(())
    }

    fn run(self) -> Result<String, Failure> {
        self.check().unwrap_or_else(|e| e.exit());
        let words: Vec<String> = std::env::args().skip(1).collect();
        let command = format!("ratio {}", words.join(" "));
        if self.scale {
            let sizes: Vec<usize> = self.sizes().collect();
            let scale = Scale::measure(&self.formats, &sizes, self.mib, self.rounds, command)?;
            return Ok(if self.json { scale.json() } else { scale.table() });
        }
        let bench = Bench::new(Engine::find()?)?;
        // Dropped in reverse order: the broker ends before its data go.
        let scratch = scratch()?;
        let (brokers, _broker) = match &self.brokers {
            Some(brokers) => (brokers.clone(), None),
            None if !self.source.contains(&Source::Librdkafka) => (String::new(), None),
            None => Broker::start(&scratch.path().join("kafka")).map(|broker| (broker.address().to_owned(), Some(broker)))?,
        };
        let target = |word: &String| match word.as_str() {
            NULL => Target::Null,
            FILE => Target::Own(scratch.path().join("store")),
            url => Target::Named(url.to_owned()),
        };
        let targets: Vec<Target> = self.to.iter().map(target).collect();
        let report = Report::of(self.rows(&bench, &brokers, &targets)?, command, self.mib);
        Ok(if self.json { report.json() } else { report.table() })
    }

    fn sizes(&self) -> impl Iterator<Item = usize> {
        self.record_bytes.iter().map(|bytes| *bytes as usize)
    }

    /// A topic is filled once for each size and codec, and every format of every store reads it.
    fn rows(&self, bench: &Bench, brokers: &str, targets: &[Target]) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        for source in &self.source {
            for (codec, record_bytes) in self.topics(*source) {
                let from = match source {
                    Source::Librdkafka => self.topic(bench, brokers, record_bytes, codec)?,
                    Source::Synthetic => Input::Records { record_bytes, mib: self.mib },
                };
                for (target, format) in targets.iter().flat_map(|target| self.formats.iter().map(move |format| (target, *format))) {
                    let case = Case { from: from.clone(), topic_codec: codec.to_owned(), format, record_bytes };
                    rows.push(bench.row(rows.len(), &case, target, self.rounds, self.allocations)?);
                }
            }
        }
        Ok(rows)
    }

    /// Codecs and sizes of topics. Records of memory have no codec.
    fn topics(&self, source: Source) -> Vec<(&str, usize)> {
        let codecs: Vec<&str> = match source {
            Source::Librdkafka => self.codec.iter().map(String::as_str).collect(),
            Source::Synthetic => vec!["none"],
        };
        codecs.into_iter().flat_map(|codec| self.sizes().map(move |bytes| (codec, bytes))).collect()
    }

    fn topic(&self, bench: &Bench, brokers: &str, record_bytes: usize, codec: &str) -> Result<Input, Failure> {
        let topic = self.topic.clone().map_or_else(|| bench.fill(brokers, record_bytes, codec, self.mib), Ok)?;
        Ok(Input::Topic { brokers: brokers.to_owned(), topic })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &str) -> Result<Options, clap::Error> {
        Cli::try_parse_from(std::iter::once("ratio").chain(words.split_whitespace())).map(|cli| cli.options)
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn all_rows_are_measured_unless_fewer_are_asked_for() {
        let all = options("--json").unwrap();
        assert_eq!((&all.record_bytes[..], &all.formats[..]), (&[100, 1024, 10_240][..], &[Format::Parquet, Format::Raw][..]));
        assert_eq!((&all.codec[..], all.rounds, all.json), (&["none".to_owned()][..], 3, true));
        assert_eq!((&all.source[..], &all.to[..]), (&[Source::Librdkafka][..], &[FILE.to_owned()][..]));
        let few = options("-b h:1 --to s3://b/ --rounds 5 --mib 64 --record-bytes 1024 --formats raw --codec lz4,zstd").unwrap();
        assert_eq!((&few.record_bytes[..], &few.formats[..], few.codec.len(), few.mib), (&[1024][..], &[Format::Raw][..], 2, 64));
    }

    #[test]
    fn what_cannot_be_measured_is_refused_as_a_mistake_of_the_command_line() {
        for words in [
            "--rounds 0",
            "--mib 0",
            "--mib many",
            "--record-bytes 10",
            "--formats avro",
            "--codec brotli",
            "--bytes 100",
            "--source redpanda",
        ] {
            assert_eq!(options(words).expect_err(words).exit_code(), 2, "{words}");
        }
    }

    #[test]
    fn every_source_goes_to_every_store() {
        let all =
            options("--source synthetic,librdkafka --to null --to s3://b/ --codec none,lz4 --record-bytes 100,1024 --allocations").unwrap();
        assert_eq!((&all.to[..], all.allocations), (&["null".to_owned(), "s3://b/".to_owned()][..], true));
        assert_eq!(all.topics(Source::Librdkafka), [("none", 100), ("none", 1024), ("lz4", 100), ("lz4", 1024)]);
        assert_eq!(all.topics(Source::Synthetic), [("none", 100), ("none", 1024)], "no batches, no codec");
    }

    #[test]
    fn what_two_cpus_are_worth_is_asked_for_alone() {
        assert!(options("--scale --rounds 5 --mib 512 --formats raw --record-bytes 100 --json").is_ok_and(|options| options.scale));
        for words in ["--scale -b h:1", "--scale --to null", "--scale --codec lz4", "--scale --source synthetic", "--scale --allocations"] {
            assert_eq!(options(words).expect_err(words).exit_code(), 2, "{words}");
        }
    }

    #[test]
    fn what_the_engine_is_to_do_here_is_read_or_refused() {
        let verb = |text: &str| Cli::try_parse_from(["ratio", "engine", text]).unwrap().verb.unwrap();
        assert!(matches!(verb("{}").run(), Err(Failure::Asked(_))));
        let work = r#"{"from":{"Records":{"record_bytes":1024,"mib":8}},"format":"raw","to":null,"rule":"r","cpus":1,"count":true}"#;
        let said: serde_json::Value = serde_json::from_str(&verb(work).run().unwrap()).unwrap();
        let calls = said["allocations"]["calls"].as_object().unwrap();
        // The consumer may have read everything before counting begins.
        assert!(calls.contains_key("builder") && calls.values().all(|n| n.as_u64() > Some(0)), "this program's allocator counts: {said}");
    }

    #[test]
    fn a_topic_that_is_there_has_one_size_and_one_codec() {
        let checked = |words: &str| options(words).unwrap().check();
        assert!(checked("--topic t -b h:1 --record-bytes 100 --codec lz4").is_ok());
        let with = |more: &str| format!("--topic t -b h:1 --record-bytes 100 {more}");
        for words in ["--topic t --record-bytes 100", "--topic t -b h:1", &with("--codec none,lz4"), &with("--source synthetic")] {
            assert_eq!(checked(words).expect_err(words).exit_code(), 2, "{words}");
        }
    }
}
