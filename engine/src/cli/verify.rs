//! `catchment verify URL`.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::backup::KafkaArgs;
use super::open::{PlaceArgs, block_on, kafka_of, nothing_to_compare_with};
use super::{Outcome, output};
use crate::config::{ByteSize, Config, KafkaSettings};
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
    #[command(flatten)]
    kafka: KafkaArgs,
    /// Compare with the [kafka.NAME] of the config file [default: the only one]
    #[arg(long = "kafka", value_name = "NAME", requires = "config", help_heading = "Kafka")]
    profile: Option<String>,
    /// Look at the objects alone, whatever Kafka is named
    #[arg(long, help_heading = "Kafka")]
    no_compare: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl VerifyArgs {
    /// `catchment verify URL -b BROKERS`.
    pub(super) fn of(url: &str, brokers: &str) -> Self {
        Self {
            place: PlaceArgs { url: url.to_owned(), config: None },
            kafka: KafkaArgs { brokers: vec![brokers.to_owned()], ..KafkaArgs::default() },
            profile: None,
            no_compare: false,
            json: false,
        }
    }

    fn kafka(&self, config: &Config) -> Result<Option<KafkaSettings>> {
        match self.no_compare {
            false => kafka_of(config, self.profile.as_deref(), &self.kafka),
            true if self.kafka.properties.is_empty() && self.kafka.preset.is_none() => Ok(None),
            true => Err(nothing_to_compare_with()),
        }
    }
}

pub(super) fn main(args: &VerifyArgs) -> Outcome {
    verdict(&run(args)?)
}

/// Verifies and prints the report.
pub(super) fn run(args: &VerifyArgs) -> Result<Report, Vec<Error>> {
    let config = args.place.config()?;
    let kafka = args.kafka(&config)?;
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
    Ok(report)
}

async fn connect(settings: &KafkaSettings) -> Result<Arc<dyn Source>> {
    // As many lanes are compared at a time as the share counts.
    Ok(KafkaCluster::connect(settings.clone(), ReadShare { bytes: FETCH_BYTES, partitions: 4 }).await?)
}

/// The exit code is that of the damage, if there is any: that a comparison was not finished as well is the smaller matter.
pub(super) fn verdict(report: &Report) -> Outcome {
    let errors: Vec<Error> = damage(report).into_iter().chain(report.failure.clone()).collect();
    if errors.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(errors) }
}

fn damage(report: &Report) -> Option<Error> {
    let kinds: std::collections::BTreeSet<&str> = report.damage.iter().map(|d| d.kind.as_str()).collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    (!kinds.is_empty()).then(|| {
        Error::new(codes::VERIFY_DAMAGE, ErrorKind::Corrupt, format!("the backup is damaged in {} place(s)", report.damage.len()))
            .with("kinds", kinds.join(", "))
            .help("docs/errors.md says what each kind means and what can be done; nothing was changed")
    })
}

fn human(report: &Report, compared: bool) -> String {
    let mut text = String::new();
    if !report.damage.is_empty() {
        let rows: Vec<Vec<String>> = report.damage.iter().map(|d| vec![d.kind.to_string(), d.key.clone(), d.detail.clone()]).collect();
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
        text += &format!("note: {}\n", crate::text::one_line(note));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{DamageKind, Gap};

    #[test]
    fn nothing_in_a_report_steers_the_terminal() {
        let mut report = Report::default();
        report.damaged("a\x1b[2J\nsound", DamageKind::Foreign, "it is of rule \x1b]0;x\x07\n0 damaged");
        report.notes.push("note\nsound".to_owned());
        let gap = |topic: &str| Gap { topic: topic.to_owned(), partition: 0, from: 1, to: 2, cause: "retention", key: "k".to_owned() };
        report.gaps.push(gap("t\r\u{202e}"));
        let text = human(&report, false);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()) && !text.contains('\u{202e}'), "{text:?}");
        // Two tables of a head and a row with a line between, a note, the verdict: nothing began a line of its own.
        assert_eq!(text.lines().count(), 8, "{text}");
        assert!(text.contains("a\\u{1b}[2J\\nsound"), "{text}");
    }

    #[test]
    fn damage_decides_the_exit_code_before_a_comparison_that_failed() {
        let mut report = Report { failure: Some(Error::new(codes::COMPARE_READ, ErrorKind::Unreachable, "x")), ..Report::default() };
        assert_eq!(verdict(&report).unwrap_err().iter().map(|e| e.kind.exit_code()).collect::<Vec<_>>(), [5]);
        report.damaged("k", DamageKind::Hole, "x");
        assert_eq!(verdict(&report).unwrap_err().iter().map(|e| e.kind.exit_code()).collect::<Vec<_>>(), [4, 5]);
        assert!(verdict(&Report::default()).is_ok());
    }
}
