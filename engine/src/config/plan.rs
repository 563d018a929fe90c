//! What a `backup` does: one rule with its cluster and its store, defaults filled in, every relation checked.

use std::net::SocketAddr;

use catchment_formats::{Codec, Encoding, Format, Framing};

use super::destination::Destination;
use super::file::Given;
use super::level::Level;
use super::settings::{Config, KafkaSettings, RuleSettings};
use super::start::StartPoint;
use super::units::{ByteSize, Span};
use super::words::{Accept, CodecKind, FormatKind, FramingKind, OnGap, OnStop, ScheduleKind, WindowBy};
use super::{NAME_PATTERN, is_name};
use crate::error::{Error, ErrorKind, codes, nearest};

/// Length of a window unless set. Shorter makes many small files, which readers dislike; longer delays the data.
pub const WINDOW_DEFAULT: Span = Span::secs(300);
/// Shortest window. A pin and a tidy per window and lane: shorter would make the coordinator the bottleneck.
pub const WINDOW_MIN: Span = Span::secs(1);
/// Longest window. Longer would outlive temporary credentials and the stores' patience with open uploads.
pub const WINDOW_MAX: Span = Span::secs(86_400);
/// Uncompressed bytes after which a window is closed early unless set. Larger files are slow to repeat after a crash,
/// smaller ones are many.
pub const MAX_BYTES_DEFAULT: ByteSize = ByteSize::mib(1024);
/// Smallest `max_bytes`. Below, each record of usual size would become an object of its own.
pub const MAX_BYTES_MIN: ByteSize = ByteSize(1024);
/// Memory for everything buffered unless set.
pub const BUDGET_DEFAULT: ByteSize = ByteSize(crate::limits::BUDGET_DEFAULT);
/// Smallest budget that can be kept.
pub const BUDGET_MIN: ByteSize = ByteSize(crate::limits::BUDGET_MIN);
/// Age after which an upload that no intent names is aborted unless set. Sooner could abort a living owner's upload (that
/// costs time, not data), later leaves parts that cost money.
pub const UPLOAD_DEADLINE_DEFAULT: Span = Span::secs(3600);
/// Shortest upload deadline. Whoever aborts an upload, or gives up a window, must outlast the slowest request that the store is still
/// waited for: a PUT of 64 MiB at the slowest rate that is waited for takes 17.5 minutes.
pub const UPLOAD_DEADLINE_MIN: Span = Span::secs(1200);
/// zstd level unless set: the fastest that compresses well.
const ZSTD_LEVEL_DEFAULT: u8 = 1;
/// gzip level unless set: what gzip itself takes.
const GZIP_LEVEL_DEFAULT: u8 = 6;
/// Longest topic name that Kafka takes.
const TOPIC_BYTES_MAX: usize = 249;

/// A validated backup: what the pipeline is built from.
#[derive(Clone, Debug)]
pub struct BackupPlan {
    /// The rule's name.
    pub rule: String,
    /// The consumer group, `catchment-<rule>` unless set.
    pub group: String,
    /// The static member name as set; none: chosen from rule, host and slot.
    pub instance_id: Option<String>,
    /// A dynamic member was asked for (`instance_id = "none"`).
    pub dynamic_member: bool,
    /// The cluster.
    pub kafka: KafkaSettings,
    /// Topic names, or regular expressions with a leading `^`.
    pub topics: Vec<String>,
    /// Where the first run starts; relative times still unresolved.
    pub start: StartPoint,
    /// When windows close.
    pub window: WindowSettings,
    /// How objects are encoded.
    pub encoding: Encoding,
    /// Whether the zstd level follows from each partition's records; until that is known it is that of `encoding`.
    pub auto_level: bool,
    /// Where objects go.
    pub to: Destination,
    /// Uncompressed key, value and header bytes after which a window is closed early.
    pub max_bytes: ByteSize,
    /// Memory for everything that is buffered.
    pub budget: ByteSize,
    /// What to do when records are missing in Kafka.
    pub on_gap: GapPolicy,
    /// What becomes of open windows at shutdown.
    pub on_stop: OnStop,
    /// How partitions share the memory.
    pub schedule: ScheduleKind,
    /// Age after which an upload that nobody names is aborted.
    pub upload_deadline: Span,
    /// Where `/metrics` is served.
    pub metrics: Option<SocketAddr>,
    /// What was asked of this run alone.
    pub options: RunOptions,
}

/// When windows close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSettings {
    /// Length of a window.
    pub every: Span,
    /// Which clock closes it.
    pub by: WindowBy,
}

/// What a lane does about each cause of missing records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GapPolicy {
    /// Kafka deleted records before they were read.
    pub retention: OnGap,
    /// The log was truncated below what had been read.
    pub truncation: OnGap,
    /// A batch has a wrong checksum.
    pub corrupt_batch: OnGap,
    /// The topic was deleted and created again.
    pub topic_recreated: OnGap,
}

/// What was asked of one run; never part of a config file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Stop once everything that was readable at start is committed.
    pub until_end: bool,
    /// Answers to the questions of stopped lanes.
    pub accept: Vec<Accept>,
    /// Hashes of the destinations that the rule was moved away from: lanes that still stand there go on here without a question.
    pub moved_from: Vec<String>,
}

/// What a command line sets over a config file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--rule`.
    pub rule: Option<String>,
    /// `--brokers`.
    pub brokers: Option<Vec<String>>,
    /// `--to`.
    pub to: Option<String>,
    /// `-X`.
    pub properties: Vec<(String, String)>,
    /// All other flags.
    pub settings: RuleSettings,
}

impl BackupPlan {
    /// Lays the flags over the file's rule and fills in the defaults.
    ///
    /// # Errors
    /// Every problem found: what is missing, undefined, out of range or does not go together.
    pub fn new(config: &Config, overrides: Overrides, options: RunOptions) -> Result<Self, Vec<Error>> {
        let mut check = Check::default();
        let (named, from_file) = check.pick_rule(config, &overrides);
        let settings = overrides.settings.clone().over(&from_file);
        let kafka = check.kafka(config, &overrides, &settings);
        let to = check.destination(config, &overrides, &settings);
        let topics = check.topics(&settings);
        let rule = check.rule_name(named, &topics);
        let plan = Self {
            group: check.group(&settings, &rule),
            instance_id: settings.instance_id.as_ref().map(|g| g.value.clone()).filter(|id| id != "none"),
            dynamic_member: settings.instance_id.as_ref().is_some_and(|g| g.value == "none"),
            start: settings.start.as_ref().map_or(StartPoint::Earliest, |g| g.value.clone()),
            window: check.window(&settings),
            encoding: check.encoding(&settings),
            auto_level: settings.level.as_ref().is_some_and(|level| level.value == Level::Auto),
            to,
            max_bytes: check.at_least(settings.max_bytes.as_ref(), MAX_BYTES_DEFAULT, MAX_BYTES_MIN),
            budget: check.at_least(settings.budget.as_ref(), BUDGET_DEFAULT, BUDGET_MIN),
            on_gap: gap_policy(&settings),
            on_stop: or(settings.on_stop.as_ref(), OnStop::Drop),
            schedule: or(settings.schedule.as_ref(), ScheduleKind::Stream),
            upload_deadline: check.at_least(settings.upload_deadline.as_ref(), UPLOAD_DEADLINE_DEFAULT, UPLOAD_DEADLINE_MIN),
            metrics: settings.metrics.as_ref().map(|g| g.value),
            rule,
            kafka,
            topics,
            options,
        };
        check.offsets_of_one_topic(&plan, &settings);
        if check.problems.is_empty() { Ok(plan) } else { Err(check.problems) }
    }
}

pub(super) fn or<T: Copy>(given: Option<&Given<T>>, default: T) -> T {
    given.map_or(default, |g| g.value)
}

fn gap_policy(settings: &RuleSettings) -> GapPolicy {
    GapPolicy {
        retention: or(settings.on_retention.as_ref(), OnGap::Continue),
        truncation: or(settings.on_truncation.as_ref(), OnGap::Halt),
        corrupt_batch: or(settings.on_corrupt_batch.as_ref(), OnGap::Halt),
        topic_recreated: or(settings.on_topic_recreated.as_ref(), OnGap::Halt),
    }
}

pub(super) fn missing(message: &str, cause: impl std::fmt::Display) -> Error {
    Error::new(codes::CONFIG_MISSING, ErrorKind::Invalid, message).because(cause)
}

pub(super) fn undefined(kind: &str, name: &str, defined: Vec<&str>, at: Option<&str>) -> Error {
    let mut error = Error::new(codes::CONFIG_NAME, ErrorKind::Invalid, format!("there is no [{kind}.{name}]"));
    if let Some(at) = at {
        error = error.with("at", at);
    }
    error.help(match (nearest(name, &defined), defined.is_empty()) {
        (Some(near), _) => format!("did you mean {near:?}?"),
        (None, true) => format!("the file defines no [{kind}.NAME]"),
        (None, false) => format!("defined are {}", defined.join(", ")),
    })
}

/// Collects problems; each check answers something usable, so that the next one can go on.
#[derive(Debug, Default)]
pub(super) struct Check {
    problems: Vec<Error>,
}

impl Check {
    pub(super) fn add(&mut self, error: Error) {
        self.problems.push(error);
    }

    pub(super) fn relation<T>(&mut self, given: &Given<T>, message: String) {
        self.problems.push(given.problem(codes::CONFIG_RELATION, message));
    }

    /// The rule that is meant: by name, else the file's only one; none in the file if all comes from flags.
    fn pick_rule(&mut self, config: &Config, overrides: &Overrides) -> (Option<String>, RuleSettings) {
        let names: Vec<&str> = config.rules.keys().map(String::as_str).collect();
        match (&overrides.rule, names.as_slice()) {
            (Some(name), _) if config.rules.contains_key(name) => (Some(name.clone()), config.rules[name].clone()),
            // A rule made of flags alone borrows the file's Kafka and store.
            (Some(name), _) if overrides.settings.topics.is_some() => (Some(name.clone()), RuleSettings::default()),
            (Some(name), [_, ..]) => {
                self.add(undefined("rule", name, names, None));
                (Some(name.clone()), RuleSettings::default())
            }
            (Some(name), []) => (Some(name.clone()), RuleSettings::default()),
            (None, [only]) if overrides.settings.topics.is_none() => (Some((*only).to_owned()), config.rules[*only].clone()),
            (None, [_, _, ..]) if overrides.settings.topics.is_none() => {
                self.add(
                    missing("the file has several rules", "none of them is chosen")
                        .help(format!("choose one: --rule {}", names.join(" | --rule "))),
                );
                (Some(names[0].to_owned()), config.rules[names[0]].clone())
            }
            (None, _) => (None, RuleSettings::default()),
        }
    }

    fn kafka(&mut self, config: &Config, overrides: &Overrides, settings: &RuleSettings) -> KafkaSettings {
        let names: Vec<&str> = config.kafka.keys().map(String::as_str).collect();
        let mut kafka = match (&settings.kafka, names.as_slice()) {
            (Some(named), _) => match config.kafka.get(&named.value) {
                Some(kafka) => kafka.clone(),
                None => {
                    self.add(undefined("kafka", &named.value, names, named.at.as_deref()));
                    return KafkaSettings::default();
                }
            },
            (None, [only]) => config.kafka[*only].clone(),
            (None, []) => KafkaSettings::default(),
            (None, _) if overrides.brokers.is_some() => KafkaSettings::default(),
            (None, _) => {
                self.add(
                    missing("the rule does not say which Kafka it reads", "the file defines several")
                        .help(format!("set source.kafka to one of {}", names.join(", "))),
                );
                return KafkaSettings::default();
            }
        };
        if let Some(brokers) = &overrides.brokers {
            kafka.brokers.clone_from(brokers);
        }
        kafka.properties.extend(overrides.properties.iter().cloned());
        self.brokers(&kafka);
        kafka
    }

    fn brokers(&mut self, kafka: &KafkaSettings) {
        if kafka.brokers.is_empty() {
            self.add(
                missing("no Kafka broker is named", "neither a flag nor a config file does")
                    .help("say -b HOST:PORT, or define [kafka.NAME] in the config file"),
            );
        }
        for broker in kafka.brokers.iter().filter(|b| !is_address(b)) {
            let error = Error::new(codes::CONFIG_VALUE, ErrorKind::Invalid, format!("{broker:?} is not a broker's address"));
            self.add(error.help("write HOST:PORT, such as localhost:9092"));
        }
    }

    fn topics(&mut self, settings: &RuleSettings) -> Vec<String> {
        let Some(given) = settings.topics.as_ref().filter(|t| !t.value.is_empty()) else {
            self.add(
                missing("no topic is named", "neither an argument nor a config file does")
                    .help("name topics after `backup`, or set source.topics"),
            );
            return Vec::new();
        };
        for topic in &given.value {
            if let Err(why) = check_topic(topic) {
                self.add(given.problem(codes::CONFIG_VALUE, format!("{}: {why}", given.name)));
            }
        }
        for (i, topic) in given.value.iter().enumerate() {
            if given.value[..i].contains(topic) {
                self.relation(given, format!("{}: topic {topic:?} is named twice", given.name));
            }
        }
        given.value.clone()
    }

    /// The rule's name: as given, else that of its only topic.
    fn rule_name(&mut self, named: Option<String>, topics: &[String]) -> String {
        if let Some(name) = named {
            if !is_name(&name) {
                let error =
                    Error::new(codes::CONFIG_VALUE, ErrorKind::Invalid, format!("the rule name {name:?} does not match {NAME_PATTERN}"));
                self.add(error.help("use lower-case letters, digits, dots, dashes and underscores"));
            }
            return name;
        }
        match topics {
            [topic] if is_name(topic) => topic.clone(),
            [] => String::new(), // Already a problem of its own.
            [topic] => {
                self.add(missing("the rule needs a name", format_args!("{topic:?} cannot be one")).help("say --rule NAME"));
                String::new()
            }
            _ => {
                self.add(missing("the rule needs a name", "it has several topics").help("say --rule NAME"));
                String::new()
            }
        }
    }

    fn group(&mut self, settings: &RuleSettings, rule: &str) -> String {
        match &settings.group {
            Some(given) if given.value.is_empty() || given.value.len() > 255 => {
                self.relation(given, format!("{} must have 1 to 255 bytes", given.name));
                given.value.clone()
            }
            Some(given) => given.value.clone(),
            None => format!("catchment-{rule}"),
        }
    }

    fn window(&mut self, settings: &RuleSettings) -> WindowSettings {
        if let Some(given) = &settings.window_every
            && !(WINDOW_MIN..=WINDOW_MAX).contains(&given.value)
        {
            self.relation(given, format!("{} is {}, outside {WINDOW_MIN} to 24h", given.name, given.value));
        }
        WindowSettings {
            every: or(settings.window_every.as_ref(), WINDOW_DEFAULT),
            by: or(settings.window_by.as_ref(), WindowBy::RecordTime),
        }
    }

    fn encoding(&mut self, settings: &RuleSettings) -> Encoding {
        let kind = or(settings.format.as_ref(), FormatKind::Parquet);
        let framing = or(settings.framing.as_ref(), FramingKind::Newline);
        let codec = or(settings.codec.as_ref(), CodecKind::Zstd);
        if let (FormatKind::Parquet, Some(framing)) = (kind, &settings.framing) {
            let format = settings.format.as_ref().map_or("the default format", |f| f.name.as_str());
            self.relation(framing, format!("{} means nothing to Parquet ({format})", framing.name));
        }
        if let (FormatKind::Parquet, CodecKind::Gzip, Some(given)) = (kind, codec, &settings.codec) {
            self.relation(given, format!("{} gzip is for raw objects; Parquet takes zstd or none", given.name));
        }
        Encoding {
            format: match (kind, framing) {
                (FormatKind::Parquet, _) => Format::Parquet,
                (FormatKind::Raw, FramingKind::None) => Format::Raw(Framing::None),
                (FormatKind::Raw, FramingKind::Newline) => Format::Raw(Framing::Newline),
                (FormatKind::Raw, FramingKind::Len32) => Format::Raw(Framing::Len32),
            },
            codec: self.codec(settings, codec),
        }
    }

    fn codec(&mut self, settings: &RuleSettings, codec: CodecKind) -> Codec {
        let (default, max) = match codec {
            CodecKind::None => (0, 0),
            CodecKind::Zstd => (ZSTD_LEVEL_DEFAULT, 22),
            CodecKind::Gzip => (GZIP_LEVEL_DEFAULT, 9),
        };
        let by = settings.codec.as_ref().map_or("the default codec", |c| c.name.as_str());
        if let Some(level) = &settings.level {
            match level.value {
                _ if max == 0 => self.relation(level, format!("{} means nothing without compression ({by})", level.name)),
                Level::Auto if codec != CodecKind::Zstd => {
                    self.relation(level, format!("{} is auto, which chooses a level of zstd; {codec} takes 1 to {max} ({by})", level.name));
                }
                Level::Fixed(number) if !(1..=max).contains(&number) => {
                    self.relation(level, format!("{} is {number}, outside 1 to {max} for {codec} ({by})", level.name));
                }
                Level::Auto | Level::Fixed(_) => {}
            }
        }
        let level = settings.level.as_ref().and_then(|level| level.value.number()).unwrap_or(default);
        match codec {
            CodecKind::None => Codec::None,
            CodecKind::Zstd => Codec::Zstd(level),
            CodecKind::Gzip => Codec::Gzip(level),
        }
    }

    fn at_least<T: PartialOrd + Copy + std::fmt::Display>(&mut self, given: Option<&Given<T>>, default: T, min: T) -> T {
        let Some(given) = given else { return default };
        if given.value < min {
            self.relation(given, format!("{} is {}, below the smallest that works, {min}", given.name, given.value));
        }
        given.value
    }

    /// Offsets mean one topic's log; over several topics they would be an accident.
    fn offsets_of_one_topic(&mut self, plan: &BackupPlan, settings: &RuleSettings) {
        let several = plan.topics.len() > 1 || plan.topics.iter().any(|t| t.starts_with('^'));
        let offsets = matches!(plan.start, StartPoint::Offset(_) | StartPoint::Offsets(_));
        if let (true, true, Some(start), Some(topics)) = (several, offsets, &settings.start, &settings.topics) {
            self.relation(start, format!("{} is an offset, but {} may be several topics", start.name, topics.name));
        }
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let host = host.rsplit_once("://").map_or(host, |(_, h)| h);
        !host.is_empty() && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|p| p > 0)
    })
}

fn check_topic(topic: &str) -> Result<(), String> {
    if topic.starts_with('^') {
        return regex::Regex::new(topic).map(|_| ()).map_err(|e| {
            let why = e.to_string().lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned();
            format!("{topic:?} is not a regular expression: {why}")
        });
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX || topic == "." || topic == ".." {
        return Err(format!("{topic:?} cannot be a topic"));
    }
    if !topic.bytes().all(legal) {
        return Err(format!(
            "{topic:?} cannot be a topic: names have letters, digits, '.', '_' and '-' (a regular expression starts with ^)"
        ));
    }
    Ok(())
}
