//! Directory templates and object keys.
//!
//! An input is lines: the template, then a topic, partition, first offset, timestamp and window length, all but the template optional. The whole
//! input is tried as a key as well, since a listing shows whatever stands in a bucket.

use catchment::store::key::{ControlKeys, KeyParts, Layout, Template, TopicName, parse_file_name};

/// A template that is accepted gives keys that stay in the prefix and say again whose they are.
pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    for layout in [Layout::Hive, Layout::Confluent] {
        let _ = layout.parse_key(text);
    }
    let mut lines = text.split('\n');
    let Ok(template) = Template::parse(lines.next().unwrap_or_default()) else { return };
    assert_eq!(Template::parse(&template.to_string()).ok().as_ref(), Some(&template), "printed and read again");
    let layout = Layout::Template(template);
    let topic = lines.next().filter(|name| is_topic(name)).unwrap_or("orders");
    let mut number = || lines.next().and_then(|digits| digits.parse::<i64>().ok());
    let partition = number().and_then(|n| i32::try_from(n).ok()).filter(|n| *n >= 0).unwrap_or(3);
    let start = number().filter(|n| *n >= 0).unwrap_or(0);
    let (timestamp_ms, window_ms) = (number(), number().unwrap_or(300_000));
    check_key(&layout, topic, &KeyParts { topic: &TopicName::new(topic), partition, timestamp_ms, window_ms }, start);
}

fn check_key(layout: &Layout, topic: &str, parts: &KeyParts<'_>, start: i64) {
    let key = layout.object_key(parts, start, "bin.zst");
    assert!(key.split('/').all(|segment| !matches!(segment, "" | "." | "..")), "{key:?} can be a path");
    assert!(!key.starts_with("_catchment/"), "{key:?} is no control object's");
    assert!(key.starts_with(&layout.topic_directory(parts.topic)), "{key:?} is below its topic's directory");
    let parsed = layout.parse_key(&key).unwrap_or_else(|| panic!("{key:?} is of its own layout"));
    assert_eq!((parsed.topic.as_str(), parsed.partition, parsed.start), (topic, parts.partition, start), "{key:?} says whose it is");
    assert_eq!(ControlKeys::of_path(&parsed.topic_path), ControlKeys::new(layout, parts.topic), "{key:?} leads to its control objects");
    let file = key.rsplit('/').next().unwrap_or_default();
    assert_eq!(parse_file_name(file), Some((topic.to_owned(), parts.partition, start, "bin.zst".to_owned())));
}

/// What Kafka takes for a topic's name.
fn is_topic(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && !matches!(name, "." | "..") && name.bytes().all(legal)
}
