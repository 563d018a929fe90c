//! Directory templates: `archive/{topic}/{yyyy}/{mm}/{dd}/p{partition}`.
//!
//! Checked once, when the config is read: a template that passes cannot lead out of the prefix, lets the topic's directory be
//! found, and gives each lane keys of its own.

use std::fmt;

use super::{DirectoryTime, TopicName, UNKNOWN};
use crate::error::{Code, Error, ErrorKind, nearest};

/// A checked template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    above_topic: Vec<String>,
    below_topic: Vec<Vec<Piece>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Partition,
    Date,
    Hour,
    Year,
    Month,
    Day,
    HourPadded,
    Window,
}

const FIELDS: [(&str, Field); 8] = [
    ("partition", Field::Partition),
    ("dt", Field::Date),
    ("hour", Field::Hour),
    ("yyyy", Field::Year),
    ("mm", Field::Month),
    ("dd", Field::Day),
    ("HH", Field::HourPadded),
    ("window", Field::Window),
];

impl Template {
    /// Parses and checks a template of directories; one slash at the end is allowed.
    ///
    /// # Errors
    /// C0317 with what is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        let segments: Vec<&str> = trimmed.split('/').collect();
        let topics: Vec<usize> = (0..segments.len()).filter(|i| segments[*i].contains("{topic}")).collect();
        let [place] = topics[..] else {
            return Err(invalid(text, "{topic} must stand in it exactly once").help("for example archive/{topic}/dt={dt}"));
        };
        if segments[place] != "{topic}" {
            return Err(invalid(text, "{topic} must be a directory of its own").help("write /{topic}/, with nothing beside it"));
        }
        let mut parsed = Vec::new();
        for segment in &segments {
            parsed.push(if *segment == "{topic}" { Vec::new() } else { parse_segment(text, segment)? });
        }
        let below_topic = parsed.split_off(place + 1);
        parsed.truncate(place);
        let fixed = |pieces: Vec<Piece>| match <[Piece; 1]>::try_from(pieces) {
            Ok([Piece::Text(text)]) => Some(text),
            _ => None,
        };
        let above: Option<Vec<String>> = parsed.into_iter().map(fixed).collect();
        let above_topic = above.ok_or_else(|| {
            invalid(text, "nothing that changes may stand before {topic}").help("put {topic} first: a topic's objects share one directory")
        })?;
        if above_topic.first().is_some_and(|first| first == "_catchment") {
            return Err(invalid(text, "_catchment/ holds control objects").help("begin with another directory"));
        }
        Ok(Self { text: trimmed.to_owned(), above_topic, below_topic })
    }

    pub(super) fn topic_directory(&self, topic: &TopicName) -> String {
        let above: String = self.above_topic.iter().map(|segment| format!("{segment}/")).collect();
        format!("{above}{}/", topic.directory())
    }

    pub(super) fn topic_segment(&self) -> usize {
        self.above_topic.len()
    }

    pub(super) fn segments_below_topic(&self) -> usize {
        self.below_topic.len()
    }

    pub(super) fn render(&self, topic_directory: String, partition: i32, time: &DirectoryTime) -> String {
        let mut path = topic_directory;
        for segment in &self.below_topic {
            for piece in segment {
                match piece {
                    Piece::Text(text) => path.push_str(text),
                    Piece::Field(field) => path.push_str(&field.render(partition, time)),
                }
            }
            path.push('/');
        }
        path
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Field {
    fn render(self, partition: i32, time: &DirectoryTime) -> String {
        let Some(at) = time.at.filter(|_| self != Self::Partition) else {
            return match self {
                Self::Partition => partition.to_string(),
                // As in the hive layout: the column stays a number.
                Self::Hour => "0".to_owned(),
                _ => UNKNOWN.to_owned(),
            };
        };
        match self {
            Self::Partition => partition.to_string(),
            Self::Date => time.date(),
            Self::Hour => at.hour().to_string(),
            Self::Year => format!("{:04}", at.year()),
            Self::Month => format!("{:02}", at.month()),
            Self::Day => format!("{:02}", at.day()),
            Self::HourPadded => format!("{:02}", at.hour()),
            Self::Window => time.window_start(),
        }
    }
}

fn parse_segment(template: &str, segment: &str) -> Result<Vec<Piece>, Error> {
    let mut pieces = Vec::new();
    let mut rest = segment;
    while !rest.is_empty() {
        let (text, field) = match rest.split_once('{') {
            Some((text, after)) => {
                let (name, after) = after
                    .split_once('}')
                    .ok_or_else(|| invalid(template, "a { without its }").help("for example archive/{topic}/dt={dt}"))?;
                rest = after;
                (text, Some(field_of(template, name)?))
            }
            None => (std::mem::take(&mut rest), None),
        };
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'=' | b'+' | b'%' | b'~')) {
            let why = format!("{text:?} has characters outside [A-Za-z0-9._=+%~-]");
            return Err(invalid(template, why).help("other characters need escapes that readers disagree about"));
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        pieces.extend(field.map(Piece::Field));
    }
    match pieces.first() {
        None => Err(invalid(template, "an empty directory name").help("no slash at the start, and none after another")),
        Some(Piece::Text(text)) if text.starts_with(['.', '_']) => {
            Err(invalid(template, "a directory that begins with '.' or '_'").help("readers take such directories for hidden ones"))
        }
        Some(_) => Ok(pieces),
    }
}

fn field_of(template: &str, name: &str) -> Result<Field, Error> {
    if let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) {
        return Ok(*field);
    }
    let known: Vec<&str> = FIELDS.iter().map(|(known, _)| *known).chain(["topic"]).collect();
    let help = match nearest(name, &known) {
        Some(near) => format!("did you mean {{{near}}}?"),
        None => format!("known: {{{}}}", known.join("}, {")),
    };
    Err(invalid(template, format!("unknown placeholder {{{name}}}")).help(help))
}

fn invalid(template: &str, why: impl fmt::Display) -> Error {
    Error::new(Code(317), ErrorKind::Invalid, "the path template cannot be used").with("template", template).because(why)
}
