//! `catchment verify URL`.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::open::{PlaceArgs, block_on, kafka_of};
use super::{Outcome, backup, output};
use crate::config::{ByteSize, KafkaSettings};
use crate::error::{Error, ErrorKind, Result, codes};
use crate::source::Source;
use crate::source::kafka::{KafkaCluster, ReadShare};
use crate::verify::{Progress, Report};

/// Memory for the fetch queues of a comparison, shared by the lanes compared at a time.
const FETCH_BYTES: u64 = 64 << 20;

#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Compare every record with this Kafka
    #[arg(short, long, value_name = "HOST:PORT", value_delimiter = ',')]
    brokers: Vec<String>,
    /// Compare with the [kafka.NAME] of the config file
    #[arg(long, value_name = "NAME", requires = "config")]
    kafka: Option<String>,
    /// librdkafka property; may be repeated
    #[arg(short = 'X', long = "property", value_name = "PROP=VAL", value_parser = backup::property)]
    properties: Vec<(String, String)>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl VerifyArgs {
    /// `catchment verify URL -b BROKERS`.
    pub(super) fn of(url: &str, brokers: &str) -> Self {
        Self {
            place: PlaceArgs { url: url.to_owned(), config: None },
            brokers: vec![brokers.to_owned()],
            kafka: None,
            properties: Vec::new(),
            json: false,
        }
    }
}

pub(super) fn main(args: VerifyArgs) -> Outcome {
    let config = args.place.config()?;
    let kafka = kafka_of(&config, args.kafka.as_deref(), &args.brokers, &args.properties)?;
    let bar = ProgressLine::new();
    let report = block_on(async {
        let place = args.place.open(&config).await?;
        let source = match &kafka {
            Some(settings) => Some(connect(settings).await?),
            None => None,
        };
        Ok(crate::verify::verify(&place, source, |progress| bar.show(progress)).await?)
    });
    bar.finish();
    let report = report?;
    if args.json {
        output::print_json(&report)?
    } else {
        output::print(human(&report, kafka.is_some()))?
    }
    verdict(&report)
}

async fn connect(settings: &KafkaSettings) -> Result<Arc<dyn Source>> {
    // As many lanes are compared at a time as the share counts.
    Ok(KafkaCluster::connect(settings.clone(), ReadShare { bytes: FETCH_BYTES, partitions: 4 }).await?)
}

fn verdict(report: &Report) -> Outcome {
    if report.damage.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let kinds: std::collections::BTreeSet<&str> = report.damage.iter().map(|d| d.kind.as_str()).collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    Err(vec![
        Error::new(codes::VERIFY_DAMAGE, ErrorKind::Corrupt, format!("the backup is damaged in {} place(s)", report.damage.len()))
            .with("kinds", kinds.join(", "))
            .help("docs/errors.md says what each kind means and what can be done; nothing was changed"),
    ])
}

fn human(report: &Report, compared: bool) -> String {
    let mut text = String::new();
    if !report.damage.is_empty() {
        let rows: Vec<Vec<String>> =
            report.damage.iter().map(|d| vec![d.kind.to_string(), super::render::printable(&d.key), d.detail.clone()]).collect();
        text += &format!("{}\n", output::table(&["DAMAGE", "KEY", "DETAIL"], &rows));
    }
    if !report.gaps.is_empty() {
        let rows: Vec<Vec<String>> = report
            .gaps
            .iter()
            .map(|g| vec![g.cause.to_owned(), g.topic.clone(), g.partition.to_string(), g.from.to_string(), g.to.to_string()])
            .collect();
        text += &format!("{}\n", output::table(&["GAP", "TOPIC", "PARTITION", "FROM", "TO"], &rows));
    }
    for note in &report.notes {
        text += &format!("note: {}\n", super::render::printable(note));
    }
    let compared = if compared { format!(", {} compared with Kafka", report.compared) } else { String::new() };
    let verdict = match report.damage.len() {
        0 => "sound".to_owned(),
        n => format!("{n} damaged"),
    };
    let size = output::size(ByteSize(report.bytes));
    text + &format!(
        "{} objects in {} lanes, {} records{compared}, {size}, {} gap(s): {verdict}\n",
        report.objects,
        report.lanes,
        report.records,
        report.gaps.len()
    )
}

/// A moving bar on a terminal, nothing in a pipe.
struct ProgressLine(Option<ProgressBar>);

impl ProgressLine {
    fn new() -> Self {
        Self(std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        }))
    }

    fn show(&self, progress: Progress) {
        if let Some(bar) = &self.0 {
            bar.set_message(progress.step);
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
