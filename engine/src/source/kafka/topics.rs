//! Which topics a rule names: by name, or by a regular expression with a leading `^`.
//!
//! Place in the flow: names and patterns of the config come in here before anything is asked of a broker; [`select`] takes what the cluster lists.
//! Patterns are matched here and not by librdkafka, so that there is one syntax, and Rust's in linear time.

use rdkafka::error::RDKafkaErrorCode as K;
use regex::Regex;

use crate::error::{Error, ErrorKind};

use super::errors::{BAD_TOPIC, UNKNOWN_TOPIC};

/// Refuses names that no Kafka topic can have.
///
/// # Errors
/// `C0216`.
pub fn check_topic_name(name: &str) -> Result<(), Error> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.bytes().all(legal) {
        return Ok(());
    }
    Err(Error::new(BAD_TOPIC, ErrorKind::Invalid, "not a legal topic name")
        .with("topic", format!("{name:?}"))
        .help("names have 1 to 249 of A-Z a-z 0-9 . _ -; a regular expression starts with ^"))
}

/// What names topics: a name, or a regular expression with a leading `^`.
#[derive(Clone, Debug)]
pub(crate) enum TopicPattern {
    Name(String),
    Matching { regex: Regex, with_internal: bool },
}

impl TopicPattern {
    pub(crate) fn parse(pattern: &str) -> Result<Self, Error> {
        if !pattern.starts_with('^') {
            check_topic_name(pattern)?;
            return Ok(Self::Name(pattern.to_owned()));
        }
        // The anchor holds for every branch: `^a|b` takes what begins with a or with b.
        match Regex::new(&format!("^(?:{})", &pattern[1..])) {
            Ok(regex) => Ok(Self::Matching { regex, with_internal: pattern.starts_with("^_") }),
            Err(e) => Err(Error::new(BAD_TOPIC, ErrorKind::Invalid, "not a regular expression")
                .with("topic", pattern)
                .because(e)
                .help("a topic is a regular expression only with a leading ^; docs/config.md has examples")),
        }
    }
}

/// The names that patterns select of what the cluster lists, in order, each once.
///
/// # Errors
/// `C0203` for a name that does not exist. A pattern that matches nothing is no error.
pub(super) fn select(all: &[(String, i32, K)], patterns: &[TopicPattern]) -> Result<Vec<String>, Error> {
    let names = || all.iter().map(|(name, ..)| name.as_str());
    let mut selected: Vec<&str> = Vec::new();
    for pattern in patterns {
        match pattern {
            TopicPattern::Name(name) => {
                selected.push(names().find(|n| n == name).ok_or_else(|| unknown_topic(name, names()))?);
            }
            // The broker's own topics are backed up only when the pattern asks for such names.
            TopicPattern::Matching { regex, with_internal } => selected
                .extend(names().filter(|n| regex.is_match(n) && (*with_internal || !n.starts_with("__")) && check_topic_name(n).is_ok())),
        }
    }
    selected.sort_unstable();
    selected.dedup();
    Ok(selected.into_iter().map(str::to_owned).collect())
}

fn unknown_topic<'a>(name: &str, others: impl Iterator<Item = &'a str>) -> Error {
    let similar: Vec<&str> = others.filter(|o| o.contains(name) || name.contains(o)).take(3).collect();
    let error = Error::new(UNKNOWN_TOPIC, ErrorKind::NotFound, "the topic does not exist, or this principal may not describe it")
        .with("topic", name);
    error.help(match similar.is_empty() {
        true => "check the name, and that this principal may describe the topic; a regular expression begins with ^".to_owned(),
        false => format!("did you mean {}?", similar.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn illegal_topic_names_are_refused() {
        let long = "x".repeat(250);
        for name in ["", ".", "..", "a b", "a\0b", "a/b", "ä", long.as_str()] {
            assert_eq!(check_topic_name(name).unwrap_err().code, BAD_TOPIC, "{name:?}");
        }
        for name in ["a", "A.b_c-1", "...", &long[..249]] {
            check_topic_name(name).unwrap();
        }
    }

    #[test]
    fn patterns_select_by_their_beginning() {
        let all: Vec<_> = ["orders", "orders.x", "xorders", "b", "__consumer_offsets"].map(|n| (n.to_owned(), 1, K::NoError)).into();
        let select = |pattern: &str| select(&all, &[TopicPattern::parse(pattern).unwrap()]).unwrap();
        assert_eq!(select("^orders"), ["orders", "orders.x"]);
        assert_eq!(select("^orders$|b"), ["b", "orders"]);
        assert_eq!(select("^.*"), ["b", "orders", "orders.x", "xorders"]);
        assert_eq!(select("^__.*"), ["__consumer_offsets"]);
        assert!(select("^none").is_empty());
        assert_eq!(TopicPattern::parse("^(").unwrap_err().code, BAD_TOPIC);
    }

    #[test]
    fn a_topic_that_does_not_exist_is_named_with_its_neighbours() {
        let all = [("orders.v1".to_owned(), 1, K::NoError)];
        let error = select(&all, &[TopicPattern::parse("orders").unwrap()]).unwrap_err();
        assert_eq!((error.code, error.kind), (UNKNOWN_TOPIC, ErrorKind::NotFound));
        assert!(error.help.unwrap().contains("orders.v1"));
    }
}
