//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::catchment::Catchment;
use crate::failure::Result;
use crate::load::LoadArgs;
use crate::manifest::Manifest;
use crate::produce::{Progress, produce};
use crate::report::{self, Mode, Report, page, without_secrets};
use crate::run::{Plan, run};
use crate::topic::Cluster;
use crate::units::read_ms;
use crate::verify::verify;

/// Load tests of Kafka topics and their backups, with records that verify themselves.
#[derive(Debug, Parser)]
#[command(name = "catchment-loadtest", version, after_help = "Exit codes: 0 done and verified, 1 failed or not verified, 2 usage")]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Send a load to a topic, which is made if it is not there, and write down what was committed
    Produce(ProduceArgs),
    /// Hold a backup against what a production committed
    Verify(VerifyArgs),
    /// Send a load, back it up, verify, and write report.json and report.html
    Run(RunArgs),
    /// Make a page of a report, and compare it with another one
    Report(ReportArgs),
}

/// How the cluster is reached.
#[derive(Args, Debug)]
#[command(next_help_heading = "Kafka")]
struct ClusterArgs {
    /// Bootstrap brokers
    #[arg(short, long, value_name = "HOST:PORT,...", default_value = "127.0.0.1:9092", env = "CATCHMENT_BROKERS")]
    brokers: String,
    /// librdkafka property; may be repeated. Those of security and connections are handed on to catchment
    #[arg(short = 'X', long = "property", value_name = "PROP=VAL", value_parser = property)]
    properties: Vec<(String, String)>,
}

/// The program that is tested.
#[derive(Args, Debug)]
struct ProgramArgs {
    /// The program catchment [default: the one beside this program]
    #[arg(long, value_name = "PATH", env = "CATCHMENT_BIN")]
    catchment: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct ProduceArgs {
    /// Topic
    topic: String,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Where to write down what was committed [default: TOPIC.manifest.json]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct VerifyArgs {
    /// Where the backup is: file:///DIR/, s3://BUCKET/PREFIX/ or what else catchment knows. Nothing but this topic's may be there
    url: String,
    /// What produce or run wrote down
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    program: ProgramArgs,
    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct RunArgs {
    /// Where the backup goes; it gets a directory of its own there
    #[arg(long, value_name = "URL")]
    to: String,
    /// Topic, which must be empty or not there [default: one of this run's own]
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Back up while the load is sent, not after it
    #[arg(long)]
    live: bool,
    /// Directory of the reports; made if it is not there
    #[arg(short, long, value_name = "DIR", default_value = "loadtest-report")]
    out: PathBuf,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    program: ProgramArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Further flags of catchment backup, behind --
    #[arg(last = true, value_name = "FLAGS")]
    flags: Vec<String>,
}

#[derive(Args, Debug)]
struct ReportArgs {
    /// The report.json of a run
    run: PathBuf,
    /// Compare with the report.json of another run
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// The page
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not PROP=VAL")),
    }
}

impl ClusterArgs {
    fn cluster(self) -> Result<Cluster> {
        Cluster::new(&self.brokers, self.properties)
    }
}

/// Does what the command line says. Answers the exit code.
pub fn main(cli: Cli) -> u8 {
    let done = match cli.verb {
        Verb::Produce(args) => produce_main(args),
        Verb::Verify(args) => verify_main(args),
        Verb::Run(args) => run_main(args),
        Verb::Report(args) => report_main(&args),
    };
    match done {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}

fn produce_main(args: ProduceArgs) -> Result<bool> {
    let load = args.load.load()?;
    let cluster = args.cluster.cluster()?;
    let topic = cluster.topic(&args.topic, args.load.partitions)?;
    let produced = produce(&cluster, &topic, &load, &Progress::default())?;
    let path = args.manifest.unwrap_or_else(|| PathBuf::from(format!("{}.manifest.json", args.topic)));
    produced.manifest.write(&path)?;
    let sent = &produced.figures;
    println!("{} records, {} bytes of values, in {}: {} committed", sent.records, sent.bytes, topic.name, sent.committed_records);
    println!("took {:.2} s; at most {} behind its schedule", sent.seconds, read_ms(sent.behind_ms));
    for (what, found) in [("acknowledged", sent.latency), ("transactions ended", sent.transaction_latency)] {
        if let Some(l) = found {
            let [p50, p90, p99, p999, max] = [l.p50_ms, l.p90_ms, l.p99_ms, l.p999_ms, l.max_ms].map(read_ms);
            println!("{what} after: p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, longest {max}");
        }
    }
    println!("manifest: {}", path.display());
    Ok(true)
}

fn verify_main(args: VerifyArgs) -> Result<bool> {
    let manifest = Manifest::read(&args.manifest)?;
    let catchment = Catchment::find(args.program.catchment.as_deref())?;
    let verdict = verify(&catchment, &args.url, &args.cluster.cluster()?, &manifest)?;
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&verdict).expect("plain values serialise")),
        false => println!("{}", verdict.text()),
    }
    Ok(verdict.passed)
}

fn run_main(args: RunArgs) -> Result<bool> {
    let load = args.load.load()?;
    run(&Plan {
        cluster: args.cluster.cluster()?,
        topic: args.topic.unwrap_or_else(|| format!("loadtest-{:016x}", load.seed)),
        partitions: args.load.partitions,
        load,
        catchment: Catchment::find(args.program.catchment.as_deref())?,
        to: args.to,
        mode: if args.live { Mode::Live } else { Mode::Drain },
        flags: args.flags,
        out: args.out,
        command: without_secrets(std::env::args_os().map(|word| word.to_string_lossy().into_owned())),
    })
}

fn report_main(args: &ReportArgs) -> Result<bool> {
    let this = Report::read(&args.run)?;
    let other = args.compare.as_deref().map(Report::read).transpose()?;
    report::write(&args.out, &page(&this, other.as_ref())?)?;
    println!("{}", args.out.display());
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, String> {
        Cli::try_parse_from(std::iter::once("catchment-loadtest").chain(line.split_whitespace())).map_err(|e| e.to_string())
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn flags_of_the_backup_stand_behind_two_dashes() {
        let cli = parse("run --to file:///tmp/b/ --records 10 -X a.b=c=d --live -- --format raw --codec none").expect("it is one");
        let Verb::Run(args) = cli.verb else { panic!("{cli:?}") };
        assert_eq!(args.flags, ["--format", "raw", "--codec", "none"]);
        assert_eq!(args.cluster.properties, [("a.b".to_owned(), "c=d".to_owned())]);
        assert!(args.live && args.topic.is_none());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (line, reason) in [
            ("", "Usage"),
            ("produce", "TOPIC"),
            ("verify file:///tmp/", "--manifest"),
            ("run --records 5", "--to"),
            ("produce t -X nothing", "PROP=VAL"),
            ("report", "RUN"),
            ("produce t --rate fast", "rate"),
        ] {
            let refused = parse(line).expect_err(line);
            assert!(refused.contains(reason), "{line}: {refused}");
        }
    }

    #[test]
    fn a_load_without_an_end_is_a_usage_error() {
        assert_eq!(main(parse("produce t -b 127.0.0.1:1").expect("clap takes it")), 2);
        assert_eq!(main(parse("run --to file:///tmp/b/").expect("clap takes it")), 2);
        assert_eq!(main(parse("report /nowhere/report.json").expect("clap takes it")), 1);
    }
}
