//! A whole load test: sends a load, has `catchment` back it up while it is watched, verifies, and reports.
//!
//! The backup runs after everything was sent (*drain*: how fast is it?) or while it is sent (*live*: does it keep up?). A live backup is
//! asked to stop when the last record is acknowledged, and a second one, `--until-end`, stores the rest; both count.
//!
//! Guarantee: no figure of a backup leaves here before each committed record was found once in what it stored.
//!
//! Not done here: topics and objects stay where they are, for whoever wants to look at them.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use crate::catchment::{Backup, Catchment, Window};
use crate::failure::{Failure, Result};
use crate::load::Load;
use crate::produce::{Produced, Progress, produce};
use crate::report::{self, Cost, Environment, Mode, Report, Throughput, page};
use crate::sampling::{Sample, Sampler, peak_rss_bytes};
use crate::topic::{Cluster, Topic};
use crate::verify::{Verdict, verify};

/// How often the processes are looked after.
const TICK: Duration = Duration::from_millis(25);

/// How long a backup may take until it reads.
const START: Duration = Duration::from_secs(90);

/// Flags of the backup that a run needs for itself.
const OURS: [&str; 8] = ["-q", "--quiet", "--log-format", "--metrics", "--to", "--rule", "--until-end", "--topic"];

/// What is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The cluster.
    pub cluster: Cluster,
    /// Name of the topic; it must hold nothing.
    pub topic: String,
    /// Its partitions, if that is said.
    pub partitions: Option<i32>,
    /// What is sent.
    pub load: Load,
    /// The program that is tested.
    pub catchment: Catchment,
    /// Where it stores; a directory of this run's own is made below it.
    pub to: String,
    /// When it runs.
    pub mode: Mode,
    /// Further flags of it.
    pub flags: Vec<String>,
    /// Where the reports go.
    pub out: PathBuf,
    /// The command line, without secrets.
    pub command: Vec<String>,
}

/// The directory of one rule below an address, which may have options behind a question mark.
pub fn below(to: &str, rule: &str) -> String {
    let (place, options) = to.split_once('?').map_or((to, String::new()), |(place, options)| (place, format!("?{options}")));
    format!("{}/{rule}/{options}", place.trim_end_matches('/'))
}

impl Plan {
    fn rule(&self) -> String {
        format!("loadtest-{:016x}", self.load.seed)
    }

    fn url(&self) -> String {
        below(&self.to, &self.rule())
    }

    /// Fails if a flag of the backup is one that a run needs for itself.
    fn check_flags(&self) -> Result<()> {
        let is_ours = |flag: &&String| OURS.contains(&flag.split('=').next().unwrap_or_default());
        match self.flags.iter().find(is_ours) {
            Some(flag) => Err(Failure::usage(format!("{flag} is set by catchment-loadtest itself")).help("leave it out behind --")),
            None => Ok(()),
        }
    }

    fn backup_arguments(&self, is_until_end: bool) -> Vec<String> {
        let (rule, url) = (self.rule(), self.url());
        let mut words = ["backup", &self.topic, "--rule", &rule, "--to", &url].map(str::to_owned).to_vec();
        words.extend(self.cluster.arguments());
        // A dynamic member: the one that follows need not wait for its place.
        if !self.flags.iter().any(|flag| flag.starts_with("--instance-id")) {
            words.extend(["--instance-id", "none"].map(str::to_owned));
        }
        words.extend(self.flags.iter().cloned());
        words.extend(is_until_end.then(|| "--until-end".to_owned()));
        words
    }
}

/// What a backup did, and what it cost.
struct Backed {
    windows: Vec<Window>,
    samples: Vec<Sample>,
    seconds: f64,
    cost: Cost,
}

/// Watches backups, one after the other.
struct Watch<'a> {
    plan: &'a Plan,
    progress: &'a Progress,
    began: Instant,
    samples: Vec<Sample>,
    windows: Vec<Window>,
    peak_rss_bytes: u64,
}

impl Watch<'_> {
    fn start(&self, is_until_end: bool) -> Result<(Backup, Sampler)> {
        let backup = self.plan.catchment.backup(&self.plan.backup_arguments(is_until_end))?;
        Ok((backup, Sampler::new(self.began)))
    }

    /// Waits a moment, and takes a sample if it is time for one.
    fn tick(&mut self, backup: &mut Backup, sampler: &mut Sampler) -> Result<bool> {
        std::thread::sleep(TICK);
        self.peak_rss_bytes = self.peak_rss_bytes.max(peak_rss_bytes(backup.pid()).unwrap_or_default());
        if sampler.is_due() {
            let stored_before = self.windows.iter().map(|window| window.records).sum();
            self.samples.extend(sampler.take(backup, stored_before, self.progress.committed.load(Ordering::Relaxed)));
        }
        backup.has_ended()
    }

    fn until_end(&mut self, mut backup: Backup, mut sampler: Sampler) -> Result<()> {
        while !self.tick(&mut backup, &mut sampler)? {}
        let windows = backup.finish()?;
        self.windows.extend(windows);
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        let (backup, sampler) = self.start(true)?;
        self.until_end(backup, sampler)
    }

    /// Sends the load beside a backup that runs.
    fn live(&mut self, topic: &Topic) -> Result<Produced> {
        let (mut backup, mut sampler) = self.start(false)?;
        while !backup.is_running() {
            if self.tick(&mut backup, &mut sampler)? {
                return Err(ended_early(backup));
            }
            if self.began.elapsed() > START {
                return Err(Failure::new(format!("the backup did not begin to read within {} s", START.as_secs()))
                    .help("look at the brokers' logs"));
            }
        }
        let (plan, progress) = (self.plan, self.progress);
        let (produced, has_ended) = std::thread::scope(|scope| {
            let send = || produce(&plan.cluster, topic, &plan.load, progress);
            let sending = std::thread::Builder::new().name("load".into()).spawn_scoped(scope, send);
            let sending = sending.map_err(|e| Failure::new("a thread cannot be started").because(e).help("check ulimit -u"))?;
            let mut has_ended = Ok(false);
            while !sending.is_finished() && matches!(has_ended, Ok(false)) {
                has_ended = self.tick(&mut backup, &mut sampler);
            }
            if !matches!(has_ended, Ok(false)) {
                progress.is_cancelled.store(true, Ordering::Relaxed);
            }
            let produced = sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok::<_, Failure>((produced, has_ended))
        })?;
        if has_ended? {
            return Err(ended_early(backup));
        }
        let produced = produced?;
        backup.terminate();
        self.until_end(backup, sampler)?;
        self.drain()?;
        Ok(produced)
    }
}

fn ended_early(backup: Backup) -> Failure {
    match backup.finish() {
        Err(failure) => failure,
        Ok(_) => Failure::new("the backup ended before the load did").help("leave --until-end out of its flags"),
    }
}

/// CPU time of the children that have ended, in seconds.
fn children_cpu_s() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN);
    let usage = usage.map_err(|e| Failure::new("the kernel does not say what the backup cost").because(e))?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// Sends the load and backs it up.
fn measure(plan: &Plan, topic: &Topic) -> Result<(Produced, Backed)> {
    let progress = Progress::default();
    let cpu_before_s = children_cpu_s()?;
    let watch = |began| Watch { plan, progress: &progress, began, samples: Vec::new(), windows: Vec::new(), peak_rss_bytes: 0 };
    let (produced, watch) = match plan.mode {
        Mode::Drain => {
            let produced = produce(&plan.cluster, topic, &plan.load, &progress)?;
            say(&format!("{} records are in {}; backing them up", produced.figures.records, topic.name));
            let mut watch = watch(Instant::now());
            watch.drain()?;
            (produced, watch)
        }
        Mode::Live => {
            say("backing up while the load is sent");
            let mut watch = watch(Instant::now());
            (watch.live(topic)?, watch)
        }
    };
    let seconds = watch.began.elapsed().as_secs_f64();
    let cost = Cost { cpu_s: children_cpu_s()? - cpu_before_s, peak_rss_bytes: watch.peak_rss_bytes };
    Ok((produced, Backed { windows: watch.windows, samples: watch.samples, seconds, cost }))
}

/// A message on standard error.
fn say(text: &str) {
    eprintln!("{text}");
}

/// Runs a load test and writes its reports. Answers whether it was verified.
///
/// # Errors
/// If it could not be run to its end.
pub fn run(plan: &Plan) -> Result<bool> {
    plan.check_flags()?;
    let environment = Environment::here(plan.catchment.version()?);
    let unwritable =
        |e| Failure::new(format!("the directory {} cannot be made", plan.out.display())).because(e).help("choose another --out DIR");
    std::fs::create_dir_all(&plan.out).map_err(unwritable)?;
    let topic = plan.cluster.topic(&plan.topic, plan.partitions)?;
    if !topic.is_empty {
        return Err(Failure::usage(format!("topic {} holds records already", topic.name))
            .help("leave --topic out, or name one that is empty or not there"));
    }
    let began = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    say(&format!("sending to {}, {} partitions", topic.name, topic.partitions));
    let (produced, backed) = measure(plan, &topic)?;
    produced.manifest.write(&plan.out.join("manifest.json"))?;
    say("verifying");
    let verdict = verify(&plan.catchment, &plan.url(), &plan.cluster, &produced.manifest)?;
    let report = report_of(plan, &topic, environment, began, produced, backed, verdict);
    write(&report, &plan.out)?;
    println!("{}", summary(&report, &plan.out));
    Ok(report.verdict.passed)
}

fn report_of(
    plan: &Plan,
    topic: &Topic,
    environment: Environment,
    began: String,
    produced: Produced,
    backed: Backed,
    verdict: Verdict,
) -> Report {
    let throughput = Throughput::of(&produced.figures, backed.seconds, backed.cost, verdict.object_bytes);
    let report = Report {
        version: report::VERSION,
        began,
        command: plan.command.clone(),
        brokers: plan.cluster.brokers(),
        environment,
        mode: plan.mode,
        load: plan.load.summary(&topic.name, topic.partitions),
        produced: produced.figures,
        throughput: Some(throughput),
        verdict,
        cost: backed.cost,
        object_bytes: backed.windows.iter().map(|window| window.bytes).collect(),
        window_delay_ms: backed.windows.iter().map(|window| window.delay_ms.max(0).unsigned_abs()).collect(),
        samples: backed.samples,
    };
    report.honest()
}

fn write(report: &Report, out: &Path) -> Result<()> {
    report.write(&out.join("report.json"))?;
    report::write(&out.join("report.html"), &page(report, None)?)
}

/// What is printed at the end.
fn summary(report: &Report, out: &Path) -> String {
    use crate::units::{read_ms, read_number, read_size};
    let mut text = format!("{}\n", report.verdict.text());
    if let Some(throughput) = report.throughput {
        text += &format!(
            "{}/s of values, {} records/s, {} s of CPU for a GiB, in {} s\n",
            read_size(throughput.bytes_per_s),
            read_number(throughput.records_per_s.round()),
            read_number(throughput.cpu_s_per_gib),
            read_number(throughput.seconds)
        );
        text += &format!("peak memory {}\n", read_size(report.cost.peak_rss_bytes as f64));
    }
    if let Some(l) = report.produced.latency {
        let from = if report.produced.is_scheduled { "due" } else { "sent" };
        let figures = [l.p50_ms, l.p90_ms, l.p99_ms, l.p999_ms, l.max_ms].map(read_ms);
        text += &format!(
            "acknowledged after (from when a record was {from}): p50 {}, p90 {}, p99 {}, p99.9 {}, longest {}\n",
            figures[0], figures[1], figures[2], figures[3], figures[4]
        );
    }
    text + &format!("report: {}", out.join("report.html").display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn a_run_stores_below_the_address_in_a_directory_of_its_own() {
        assert_eq!(below("file:///tmp/a/", "r"), "file:///tmp/a/r/");
        assert_eq!(below("s3://bucket", "r"), "s3://bucket/r/");
        assert_eq!(below("cos://b-1/p/?region=x", "r"), "cos://b-1/p/r/?region=x");
    }

    fn plan(flags: &[&str]) -> Plan {
        Plan {
            cluster: Cluster::new("a:1", Vec::new()).expect("no property is ours"),
            topic: "t".to_owned(),
            partitions: None,
            load: Load {
                sizes: crate::payload::Sizes { min: 100, max: 100 },
                keys: crate::keys::Keys::None,
                codec: "none".to_owned(),
                rate: None,
                until: crate::load::Amount { records: 1, bytes: 1, duration: Duration::from_secs(1) },
                transaction_records: None,
                aborted_share: 0.0,
                seed: 0x2a,
            },
            catchment: Catchment::find(Some(Path::new("/bin/true"))).expect("it is there"),
            to: "file:///tmp/b/".to_owned(),
            mode: Mode::Drain,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            out: PathBuf::from("out"),
            command: Vec::new(),
        }
    }

    #[test]
    fn a_backup_gets_the_flags_that_the_run_needs_and_those_of_the_caller() {
        let words = plan(&["--level", "3"]).backup_arguments(true).join(" ");
        let expected = "backup t --rule loadtest-000000000000002a --to file:///tmp/b/loadtest-000000000000002a/ -b a:1 --instance-id none --level 3 --until-end";
        assert_eq!(words, expected);
        let words = plan(&["--instance-id=m"]).backup_arguments(false);
        assert!(!words.contains(&"none".to_owned()) && !words.contains(&"--until-end".to_owned()), "{words:?}");
    }

    #[test]
    fn a_flag_that_the_run_needs_for_itself_is_refused() {
        assert!(plan(&["--level", "3"]).check_flags().is_ok());
        for flags in [["--quiet", "-v"], ["--log-format=text", "-v"], ["--to", "s3://b/"]] {
            assert_eq!(plan(&flags).check_flags().expect_err("it is ours").exit_code(), 2, "{flags:?}");
        }
    }

    #[test]
    fn the_summary_has_a_throughput_only_if_it_was_verified() {
        let mut report = example();
        assert!(summary(&report, Path::new("out")).contains("/s of values"));
        report.verdict.passed = false;
        report.verdict.faults.push("5 committed records are missing".to_owned());
        let text = summary(&report.honest(), Path::new("out"));
        assert!(!text.contains("/s") && text.contains("5 committed records are missing"), "{text}");
    }
}
