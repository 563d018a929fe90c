//! What every text must be.

use super::*;

/// Latin words that Chinese texts may have: names, and what is typed as it stands.
pub(in super::super) const NAMES: &[&str] = &[
    "API",
    "TOML",
    "UTC",
    "Kafka",
    "Parquet",
    "hive",
    "tencent",
    "confluent",
    "earliest",
    "latest",
    "env",
    "file",
    "PEM",
    "TLS",
    "COS",
    "SecretId",
    "APPID",
    "PutObject",
    "CompleteMultipartUpload",
    "librdkafka",
    "archive",
    "topic",
    "yyyy",
    "mm",
    "region",
    "cos",
    "s",
    "MiB",
    "GiB",
    "h",
    "m",
    "T",
    "Z",
    "A",
    "B",
    "C",
];

#[test]
fn every_text_is_in_both_languages() {
    for (name, english, chinese) in ALL.iter().chain(service::ALL).chain(load_tests::ALL) {
        assert!(!english.is_empty() && !chinese.is_empty(), "{name}");
        assert_eq!(english.matches("{}").count(), chinese.matches("{}").count(), "{name}");
        let words = chinese.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
        let foreign: Vec<&str> = words.filter(|word| !NAMES.contains(word)).collect();
        assert!(foreign.is_empty(), "{name}: {foreign:?} in {chinese}");
        assert!(!english.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c)), "{name}: {english}");
    }
}

#[test]
fn places_are_filled_in_their_order() {
    assert_eq!(ENGLISH.fill("{} of {}{}", &["1", "{}", "x"]), "1 of {}x");
    assert_eq!(ENGLISH.fill("{}|{}", &["1"]), "1|");
    assert_eq!(ENGLISH.fill("none", &[]), "none");
}
