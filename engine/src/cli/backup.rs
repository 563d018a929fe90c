//! `catchment backup`: flags and config file become a [`BackupPlan`].

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use clap::builder::TypedValueParser;
use tokio::sync::watch;

use super::metrics::WithMetrics;
use super::progress::{Manner, Progress};
use super::{Outcome, dry_run, words};
use crate::config::{
    Accept, BackupPlan, ByteSize, CodecKind, Config, FormatKind, FramingKind, Given, LayoutKind, Level, OnStop, Overrides, Preset,
    RuleSettings, RunOptions, ScheduleKind, Span, StartPoint, WindowBy,
};
use crate::error::{Error, ErrorKind, codes};
use crate::otlp;
use crate::runtime::{Ending, OpenedStore};
use crate::store::ObjectStore;

/// Threads that talk to the store. Uploading is waiting; two keep one slow handshake from holding up the other lanes.
const UPLOAD_THREADS: usize = 2;

/// Flags of `backup`. Everything is optional here, since a config file may give it.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// Topics, or regular expressions with a leading ^
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// A topic, as in the positional form; may be repeated
    #[arg(short = 't', long = "topic", value_name = "TOPIC")]
    more_topics: Vec<String>,
    #[command(flatten)]
    kafka: KafkaArgs,
    /// Destination: s3://BUCKET/PREFIX/, cos://BUCKET-APPID/PREFIX/?region=R or file:///DIR/
    #[arg(long, value_name = "URL", env = "CATCHMENT_TO")]
    to: Option<String>,
    /// Name of the rule, which gives the group id catchment-NAME [default: the only topic]
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// Config file; flags win over it
    #[arg(long, value_name = "FILE", env = "CATCHMENT_CONFIG")]
    config: Option<PathBuf>,
    /// Where the first run starts: earliest, latest, @TIME, @-1h, an offset, or PARTITION:OFFSET,... [default: earliest]
    #[arg(long, value_name = "START")]
    start: Option<StartPoint>,
    /// Stop once everything that was readable at start is committed
    #[arg(long)]
    until_end: bool,
    /// Say what it would make of the topics in a day, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Answer the question of a stopped lane; may be repeated
    #[arg(long, value_name = "WHAT", value_parser = words::<Accept>())]
    accept: Vec<Accept>,
    /// Serve /metrics here
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    directory: DirectoryArgs,
    #[command(flatten)]
    member: MemberArgs,
}

/// How to reach the cluster.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct KafkaArgs {
    /// Bootstrap brokers
    #[arg(short, long, value_name = "HOST:PORT", value_delimiter = ',', env = "CATCHMENT_BROKERS", help_heading = "Kafka")]
    pub(super) brokers: Vec<String>,
    /// librdkafka property; may be repeated
    #[arg(short = 'X', long = "property", value_name = "PROP=VAL", value_parser = Property, help_heading = "Kafka")]
    pub(super) properties: Vec<(String, String)>,
    /// Settings that a kind of cluster needs
    #[arg(long, value_name = "KIND", value_parser = words::<Preset>(), help_heading = "Kafka")]
    pub(super) preset: Option<Preset>,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Windows")]
struct WindowArgs {
    /// Length of a window, 1s to 24h [default: 5m]
    #[arg(long, value_name = "DUR")]
    window: Option<Span>,
    /// Which clock closes a window [default: record-time]
    #[arg(long, value_name = "CLOCK", value_parser = words::<WindowBy>())]
    window_by: Option<WindowBy>,
    /// Uncompressed bytes after which a window is closed early [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    max_bytes: Option<ByteSize>,
    /// Memory for everything that is buffered [default: 512MiB]
    #[arg(long, value_name = "SIZE")]
    budget: Option<ByteSize>,
    /// What becomes of open windows at shutdown [default: drop]
    #[arg(long, value_name = "HOW", value_parser = words::<OnStop>())]
    on_stop: Option<OnStop>,
    /// How partitions share the memory: all read all the time, or in turns, when their windows are due [default: stream]
    #[arg(long, value_name = "HOW", value_parser = words::<ScheduleKind>())]
    schedule: Option<ScheduleKind>,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Format")]
struct FormatArgs {
    /// File format [default: parquet]
    #[arg(long, value_name = "FORMAT", value_parser = words::<FormatKind>())]
    format: Option<FormatKind>,
    /// How raw values are told apart [default: newline]
    #[arg(long, value_name = "FRAMING", value_parser = words::<FramingKind>())]
    framing: Option<FramingKind>,
    /// Compression [default: zstd]
    #[arg(long, value_name = "CODEC", value_parser = words::<CodecKind>())]
    codec: Option<CodecKind>,
    /// Compression level: zstd 1 to 22, or auto to let the records choose from 1 to 3; gzip 1 to 9 [default: zstd 1, gzip 6]
    #[arg(long, value_name = "LEVEL")]
    level: Option<Level>,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Directories")]
struct DirectoryArgs {
    /// How directories are named [default: hive]
    #[arg(long, value_name = "LAYOUT", value_parser = words::<LayoutKind>())]
    layout: Option<LayoutKind>,
    /// Template of the directory, instead of a layout
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "layout")]
    path: Option<String>,
    /// Instance id, for the tencent layout
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Topic id, for the tencent layout [default: the topic's name]
    #[arg(long, value_name = "ID")]
    topic_id: Option<String>,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Group")]
struct MemberArgs {
    /// Consumer group id [default: catchment-RULE]
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// group.instance.id of this process, or `none` for a dynamic member [default: RULE-HOST-SLOT]
    #[arg(long, value_name = "ID")]
    instance_id: Option<String>,
}

/// Parses `PROPERTY=VALUE`. The parser is ours because clap repeats what it refuses, and what stands in the place of a name may be
/// a secret.
#[derive(Clone, Debug)]
pub(super) struct Property;

impl TypedValueParser for Property {
    type Value = (String, String);

    fn parse_ref(&self, command: &clap::Command, arg: Option<&clap::Arg>, text: &OsStr) -> Result<Self::Value, clap::Error> {
        match text.to_str().and_then(|text| text.split_once('=')) {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => {
                let flag = arg.map_or_else(|| "--property".to_owned(), ToString::to_string);
                let message = format!("invalid value for '{flag}': write it as PROPERTY=VALUE, such as client.id=backup-1");
                Err(clap::Error::raw(clap::error::ErrorKind::ValueValidation, message).with_cmd(command))
            }
        }
    }
}

fn given<T>(name: &str, value: Option<T>) -> Option<Given<T>> {
    value.map(|v| Given::flag(name, v))
}

fn given_list(name: &str, values: Vec<String>) -> Option<Given<Vec<String>>> {
    (!values.is_empty()).then(|| Given::flag(name, values))
}

impl BackupArgs {
    /// Lays the flags over the config file, if there is one.
    ///
    /// # Errors
    /// Every problem found in either.
    pub fn into_plan(self) -> Result<BackupPlan, Vec<Error>> {
        let config = self.config.as_deref().map(Config::load).transpose()?.unwrap_or_default();
        let options = RunOptions { until_end: self.until_end, accept: self.accept.clone(), moved_from: Vec::new() };
        let preset = self.kafka.preset;
        let mut plan = BackupPlan::new(&config, self.into_overrides(), options)?;
        plan.kafka.preset = preset.or(plan.kafka.preset);
        Ok(plan)
    }

    fn into_overrides(self) -> Overrides {
        let Self { kafka, window, format, directory, member, .. } = self;
        let settings = RuleSettings {
            topics: given_list("TOPIC", [self.topics, self.more_topics].concat()),
            start: given("--start", self.start),
            metrics: given("--metrics", self.metrics),
            window_every: given("--window", window.window),
            window_by: given("--window-by", window.window_by),
            max_bytes: given("--max-bytes", window.max_bytes),
            budget: given("--budget", window.budget),
            on_stop: given("--on-stop", window.on_stop),
            schedule: given("--schedule", window.schedule),
            format: given("--format", format.format),
            framing: given("--framing", format.framing),
            codec: given("--codec", format.codec),
            level: given("--level", format.level),
            layout: given("--layout", directory.layout),
            path: given("--path", directory.path),
            instance: given("--instance", directory.instance),
            topic_id: given("--topic-id", directory.topic_id),
            group: given("--group", member.group),
            instance_id: given("--instance-id", member.instance_id),
            ..RuleSettings::default()
        };
        Overrides {
            rule: self.rule,
            brokers: (!kafka.brokers.is_empty()).then_some(kafka.brokers),
            to: self.to,
            properties: kafka.properties,
            settings,
        }
    }
}

pub(super) fn main(args: BackupArgs, manner: Manner) -> Outcome {
    if args.dry_run {
        return dry_run::main(&args.into_plan()?, manner.form);
    }
    #[cfg(feature = "crash-points")]
    return run_with_store(args.into_plan()?, manner, crate::crash::store);
    #[cfg(not(feature = "crash-points"))]
    run_with_store(args.into_plan()?, manner, |store| store)
}

/// Runs a backup until it is told to stop, has reached the end it was asked to reach, or cannot go on, into a store that `wrap`
/// makes of the plan's.
///
/// # Errors
/// What ended it.
pub(super) fn run_with_store(plan: BackupPlan, manner: Manner, wrap: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Outcome {
    crate::alloc::verify()?;
    crate::descriptors::provide()?;
    crate::alloc::hold_down(plan.budget.bytes());
    crate::threads::provide(crate::threads::THREADS_MIN)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(UPLOAD_THREADS)
        .thread_name("upload")
        .enable_all()
        .build()
        .map_err(|e| Error::new(codes::RUNTIME, ErrorKind::Retryable, "the runtime cannot be started").because(e))?;
    let progress = Arc::new(Progress::new(&plan.rule, manner)?);
    let ended = runtime.block_on(async {
        let mut stop = stop_on_signal()?;
        let observer = Arc::new(WithMetrics::new(Arc::clone(&progress)));
        let collector = otlp::Settings::of_process()?;
        if let Some(address) = plan.metrics {
            observer.serve(address).await?;
        }
        let opened = crate::runtime::open_store(&plan.to.store, &plan.to.prefix).await?;
        let opened = OpenedStore { store: wrap(opened.store), ..opened };
        let pusher = collector.map(|settings| observer.push(settings));
        let ended = crate::runtime::backup(&plan, opened, observer, &mut stop).await;
        if let Some(pusher) = pusher {
            pusher.finish().await;
        }
        ended
    });
    progress.finish();
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match ended? {
        crate::pipeline::Outcome::ReachedEnd | crate::pipeline::Outcome::Stopped => Ok(ExitCode::SUCCESS),
        crate::pipeline::Outcome::Failed(error) => Err(vec![error]),
    }
}

/// Says how to end at the first SIGTERM or SIGINT; a second one ends the process at once, which is as safe as a crash.
pub(super) fn stop_on_signal() -> Result<watch::Receiver<Option<Ending>>, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |e| Error::new(codes::RUNTIME, ErrorKind::Retryable, "signals cannot be handled").because(e);
    let mut term = signal(SignalKind::terminate()).map_err(failed)?;
    let mut int = signal(SignalKind::interrupt()).map_err(failed)?;
    let (stopped, stop) = watch::channel(None);
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if stopped.send_replace(Some(Ending::AsPlanned)).is_some() {
                tracing::warn!("stopping at once");
                std::process::exit(130);
            }
            tracing::info!("stopping: finishing what is pinned");
        }
    });
    Ok(stop)
}
