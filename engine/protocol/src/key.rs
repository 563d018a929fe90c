//! Keys: where an object stands, as a function of its lane, its first offset and its directory's timestamp, and of nothing else.
//!
//! A layout sets the directory; the file is always `<topic>+<partition>+<S as 20 digits>.<extension>`. In every layout one
//! piece of the directory is the topic's own directory and everything before it is fixed, so that a topic's objects can be
//! listed, owned and walked. Names that begin with `_` or `.` get `%5F` or `%2E`, since readers hide such files; Kafka allows
//! no `%` in a topic, so this can be undone.
//!
//! Control objects stand under `_catchment/`, named by the path of the topic's directory with `%2F` for its slashes (in the
//! hive layout that is the directory's name itself): two layouts that share a prefix do not share a directory, and so must
//! not share these.

mod template;

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

pub use template::Template;

use crate::error::{Code, Error, ErrorKind, nearest};
use crate::store::StoreLimits;
use crate::window::{PLAUSIBLE_FROM_MS, is_plausible};

/// Where the guard's probe writes.
pub const PROBES: &str = "_catchment/probes/";

/// What the guard's probe found.
pub const PROBE_RESULT: &str = "_catchment/probes/class.json";

/// What stands for a date when no record has a plausible timestamp.
const UNKNOWN: &str = "unknown";

/// Longest extension that is in use: `.bin.zst`, `.parquet`.
const EXTENSION_BYTES_MAX: usize = 8;

/// A topic as keys name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicName {
    /// The name with its first character escaped where readers would hide it.
    escaped: String,
    /// `~` and eight hex digits for a later incarnation; empty for the first.
    incarnation: String,
}

impl TopicName {
    /// The first incarnation of a topic.
    pub fn new(topic: &str) -> Self {
        Self { escaped: escape(topic), incarnation: String::new() }
    }

    /// A later incarnation, by the topic's UUID as 32 hex digits.
    pub fn later(topic: &str, topic_id: &str) -> Self {
        let digits: String = topic_id.chars().filter(char::is_ascii_hexdigit).take(8).collect();
        Self { incarnation: format!("~{:0>8}", digits.to_ascii_lowercase()), ..Self::new(topic) }
    }

    /// Name of the topic's own directory in the layouts that name it by the topic.
    pub fn directory(&self) -> String {
        format!("{}{}", self.escaped, self.incarnation)
    }
}

/// How objects are laid out below a store's prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// `<topic>/dt=2026-11-22/hour=5/`.
    #[default]
    Hive,
    /// `<instance>/<topic id>/<yyyyMMddHHmmss of the window>/`.
    Tencent {
        /// The instance's id, `ckafka-...`.
        instance: String,
        /// The topic's id, `topic-...`; none: the topic's name.
        topic_id: Option<String>,
    },
    /// `topics/<topic>/partition=3/`.
    Confluent,
    /// As a template says.
    Template(Template),
}

/// What an object's key depends on beside the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyParts<'a> {
    /// The topic.
    pub topic: &'a TopicName,
    /// The partition's number.
    pub partition: i32,
    /// Timestamp of the first record of the window with a plausible one, in milliseconds; one that is not plausible counts
    /// as none.
    pub timestamp_ms: Option<i64>,
    /// Length of the rule's windows, in milliseconds.
    pub window_ms: i64,
}

/// What a key says of its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedKey {
    /// Path of the topic's directory below the prefix, without slashes around it.
    pub topic_path: String,
    /// The topic's name, as Kafka has it.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The first offset.
    pub start: i64,
    /// The extension, without its dot: `parquet`, `bin.zst`.
    pub extension: String,
}

impl Layout {
    /// The layout of this name. `template` is for none of them; see [`Template::parse`].
    ///
    /// # Errors
    /// C0315 for an unknown name, a Tencent layout without an instance, or an id that is none.
    pub fn named(name: &str, instance: Option<&str>, topic_id: Option<&str>) -> Result<Self, Error> {
        match name {
            "hive" => Ok(Self::Hive),
            "confluent" => Ok(Self::Confluent),
            "tencent" => {
                let missing = || invalid("layout tencent needs the instance").help("set instance = \"ckafka-...\" in the rule");
                let instance = checked_id("instance", instance.ok_or_else(missing)?)?;
                let topic_id = topic_id.map(|id| checked_id("topic_id", id)).transpose()?;
                Ok(Self::Tencent { instance, topic_id })
            }
            _ => {
                let known = ["hive", "tencent", "confluent"];
                let help = nearest(name, &known).map_or("one of hive, tencent, confluent, or --path with a template".to_owned(), |near| {
                    format!("did you mean {near:?}?")
                });
                Err(invalid(format!("unknown layout {name:?}")).help(help))
            }
        }
    }

    /// Path of a topic's directory, ending with a slash: all objects of the topic are below it.
    pub fn topic_directory(&self, topic: &TopicName) -> String {
        match self {
            Self::Hive => format!("{}/", topic.directory()),
            Self::Tencent { instance, topic_id } => {
                let own = topic_id.as_deref().map_or_else(|| topic.escaped.clone(), escape);
                format!("{}/{own}{}/", escape(instance), topic.incarnation)
            }
            Self::Confluent => format!("topics/{}/", topic.directory()),
            Self::Template(template) => template.topic_directory(topic),
        }
    }

    /// Path of an object's directory, ending with a slash.
    pub fn directory(&self, parts: &KeyParts<'_>) -> String {
        let topic = self.topic_directory(parts.topic);
        let time = DirectoryTime::of(parts);
        match self {
            // One depth for all, or readers refuse the directory tree; and a number, or the column would change its type.
            Self::Hive => format!("{topic}dt={}/hour={}/", time.date(), time.hour().unwrap_or(0)),
            Self::Tencent { .. } => format!("{topic}{}/", time.window_start()),
            Self::Confluent => format!("{topic}partition={}/", parts.partition),
            Self::Template(template) => template.render(topic, parts.partition, &time),
        }
    }

    /// The key of the object whose first offset is `start`. The extension has no leading dot.
    pub fn object_key(&self, parts: &KeyParts<'_>, start: i64, extension: &str) -> String {
        format!("{}{}", self.directory(parts), file_name(parts.topic, parts.partition, start, extension))
    }

    /// What a key of this layout says; none if it is not one.
    pub fn parse_key(&self, key: &str) -> Option<ParsedKey> {
        let (directory, file) = key.rsplit_once('/')?;
        let (topic, partition, start, extension) = parse_file_name(file)?;
        let segments: Vec<&str> = directory.split('/').collect();
        let place = self.topic_segment();
        if segments.len() != place + 1 + self.segments_below_topic() {
            return None;
        }
        Some(ParsedKey { topic_path: segments[..=place].join("/"), topic, partition, start, extension })
    }

    /// Number of directories above the topic's own.
    fn topic_segment(&self) -> usize {
        match self {
            Self::Hive => 0,
            Self::Tencent { .. } | Self::Confluent => 1,
            Self::Template(template) => template.topic_segment(),
        }
    }

    fn segments_below_topic(&self) -> usize {
        match self {
            Self::Hive => 2,
            Self::Tencent { .. } | Self::Confluent => 1,
            Self::Template(template) => template.segments_below_topic(),
        }
    }

    /// Checks that no key of the topic is longer than a store takes.
    ///
    /// # Errors
    /// C0316 with the longest key.
    pub fn check_length(&self, topic: &TopicName, limits: &StoreLimits) -> Result<(), Error> {
        // The longest date is a date, and the longest hour has two digits; partitions and offsets have at most this many.
        let last_hour = PLAUSIBLE_FROM_MS + 23 * 3_600_000;
        let parts = KeyParts { topic, partition: i32::MAX, timestamp_ms: Some(last_hour), window_ms: 1 };
        let key = self.object_key(&parts, i64::MAX, &"x".repeat(EXTENSION_BYTES_MAX - 1));
        let segment = key.split('/').map(str::len).max().unwrap_or(0);
        if key.len() <= limits.key_bytes_max && segment <= limits.segment_bytes_max {
            return Ok(());
        }
        Err(Error::new(Code(316), ErrorKind::Invalid, "the keys of this topic are too long for the store")
            .with("key", &key)
            .with("bytes", key.len())
            .with("bytes_max", limits.key_bytes_max)
            .with("segment_bytes_max", limits.segment_bytes_max)
            .help("use a shorter prefix or template; local files take 255 bytes between two slashes"))
    }
}

impl fmt::Display for Layout {
    /// A text that is equal for equal layouts; it is part of a destination's identity.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hive => f.write_str("hive"),
            Self::Tencent { instance, topic_id } => write!(f, "tencent:{instance}/{}", topic_id.as_deref().unwrap_or("{topic}")),
            Self::Confluent => f.write_str("confluent"),
            Self::Template(template) => write!(f, "template:{template}"),
        }
    }
}

/// The file's name of an object.
pub fn file_name(topic: &TopicName, partition: i32, start: i64, extension: &str) -> String {
    format!("{}+{partition}+{start:020}.{extension}", topic.escaped)
}

/// What a file's name says: topic, partition, first offset, extension. None if it is not one of ours.
pub fn parse_file_name(file: &str) -> Option<(String, i32, i64, String)> {
    let mut pieces = file.split('+');
    let (topic, partition, rest) = (pieces.next()?, pieces.next()?, pieces.next()?);
    let (start, extension) = rest.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // Only the form that we write: a second spelling of one key would be a second object.
    let canonical = start.len() == 20 && digits(start) && digits(partition) && (partition == "0" || !partition.starts_with('0'));
    let extension_is_one = !extension.is_empty() && extension.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
    if pieces.next().is_some() || !canonical || !extension_is_one {
        return None;
    }
    Some((unescape(topic)?, partition.parse().ok()?, start.parse().ok()?, extension.to_owned()))
}

/// Checks a key: relative, no empty, `.` or `..` segment, no control character.
///
/// # Errors
/// What is wrong with it.
pub fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() || key.split('/').any(|s| s.is_empty() || s == "." || s == "..") || key.chars().any(char::is_control) {
        return Err(format!("key {key:?} has an empty, \".\" or \"..\" segment or a control character"));
    }
    Ok(())
}

/// Names of control objects, all below `_catchment/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ControlKeys {
    name: String,
}

impl ControlKeys {
    /// Those of a topic in a layout.
    pub fn new(layout: &Layout, topic: &TopicName) -> Self {
        Self::of_path(layout.topic_directory(topic).trim_end_matches('/'))
    }

    /// Those of a topic's directory, as [`ParsedKey::topic_path`] gives it.
    pub fn of_path(topic_path: &str) -> Self {
        Self { name: topic_path.replace('/', "%2F") }
    }

    /// Who owns the topic's directory.
    pub fn owner(&self) -> String {
        format!("_catchment/owners/{}.json", self.name)
    }

    /// Where a lane of a rule stood.
    pub fn anchor(&self, rule: &str, partition: i32) -> String {
        format!("_catchment/anchors/{rule}/{}-{partition}.json", self.name)
    }

    /// The proof of an object that cannot hold its own.
    pub fn object(&self, partition: i32, start: i64) -> String {
        format!("_catchment/objects/{}/{partition}/{start:020}.json", self.name)
    }
}

/// The time that names a directory, in UTC.
#[derive(Clone, Copy, Debug)]
struct DirectoryTime {
    at: Option<DateTime>,
    window: Option<DateTime>,
}

impl DirectoryTime {
    fn of(parts: &KeyParts<'_>) -> Self {
        let civil = |ms: i64| Timestamp::from_millisecond(ms).ok().map(|t| TimeZone::UTC.to_datetime(t));
        let ms = parts.timestamp_ms.filter(|ms| is_plausible(*ms));
        let start = ms.map(|ms| ms - ms.rem_euclid(parts.window_ms.max(1)));
        Self { at: ms.and_then(civil), window: start.and_then(civil) }
    }

    fn date(&self) -> String {
        self.at.map_or(UNKNOWN.to_owned(), |t| format!("{:04}-{:02}-{:02}", t.year(), t.month(), t.day()))
    }

    fn hour(&self) -> Option<i8> {
        self.at.map(DateTime::hour)
    }

    fn window_start(&self) -> String {
        let digits =
            |t: DateTime| format!("{:04}{:02}{:02}{:02}{:02}{:02}", t.year(), t.month(), t.day(), t.hour(), t.minute(), t.second());
        self.window.map_or(UNKNOWN.to_owned(), digits)
    }
}

fn escape(name: &str) -> String {
    match name.as_bytes().first() {
        Some(b'_') => format!("%5F{}", &name[1..]),
        Some(b'.') => format!("%2E{}", &name[1..]),
        _ => name.to_owned(),
    }
}

fn unescape(name: &str) -> Option<String> {
    let plain = match (name.strip_prefix("%5F"), name.strip_prefix("%2E")) {
        (Some(rest), _) => format!("_{rest}"),
        (_, Some(rest)) => format!(".{rest}"),
        _ => name.to_owned(),
    };
    let is_name = !plain.is_empty() && plain.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    // "_x" unescaped is not how we write it.
    (is_name && escape(&plain) == name).then_some(plain)
}

/// Checks an id of the tencent layout.
///
/// # Errors
/// C0315 for one that cannot be a directory in every store.
pub fn checked_id(what: &str, id: &str) -> Result<String, Error> {
    let is_id = !id.is_empty() && id.len() <= 100 && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    let why = || format!("{what} {id:?} has characters outside [A-Za-z0-9._-], or none, or more than 100");
    if is_id { Ok(id.to_owned()) } else { Err(invalid(why()).help("write the id as the console of the instance shows it")) }
}

fn invalid(why: impl fmt::Display) -> Error {
    Error::new(Code(315), ErrorKind::Invalid, "the layout is not understood").because(why)
}

#[cfg(test)]
mod tests;
