//! Which key a record has and which partition it goes to.
//!
//! Both follow from the record's number alone, so that a production can be repeated. Records of one key are in one partition, as Kafka users rely on.

use std::fmt::{self, Write};
use std::str::FromStr;

use crate::records::mix;

/// The keys of a production.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Records without keys, partition after partition.
    None,
    /// Each record has a key of its own.
    Unique,
    /// So many different keys, each as likely as the others.
    Distinct(u64),
}

impl FromStr for Keys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse::<u64>()) {
            ("none", _) => Ok(Self::None),
            ("unique", _) => Ok(Self::Unique),
            (_, Ok(number)) if number > 0 => Ok(Self::Distinct(number)),
            _ => Err(format!("{text:?} is not none, unique, or how many different keys there are")),
        }
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Unique => f.write_str("unique"),
            Self::Distinct(number) => write!(f, "{number}"),
        }
    }
}

impl Keys {
    /// Writes the key of record `number` into `key`, if it has one, and answers its partition.
    pub fn place(self, seed: u64, number: u64, partitions: i32, key: &mut String) -> i32 {
        key.clear();
        let within = |n: u64| i32::try_from(n % u64::from(partitions.max(1).unsigned_abs())).unwrap_or(0);
        let chance = mix(seed.wrapping_add(mix(number)));
        match self {
            Self::None => within(number),
            Self::Unique => {
                write!(key, "{chance:016x}").expect("a string takes everything");
                within(number)
            }
            Self::Distinct(keys) => {
                write!(key, "key-{}", chance % keys).expect("a string takes everything");
                within(chance % keys)
            }
        }
    }

    /// Whether records have keys.
    pub fn are_there(self) -> bool {
        self != Self::None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn keys_parse() {
        assert_eq!(
            ["none", "unique", "12"].map(|text| text.parse().ok()),
            [Some(Keys::None), Some(Keys::Unique), Some(Keys::Distinct(12))]
        );
        assert!(["", "0", "-1", "many", "1.5"].iter().all(|wrong| wrong.parse::<Keys>().is_err()));
    }

    #[test]
    fn a_key_is_always_in_the_same_partition() {
        let (mut places, mut key) = (BTreeMap::new(), String::new());
        for number in 0..10_000 {
            let partition = Keys::Distinct(50).place(9, number, 8, &mut key);
            assert!((0..8).contains(&partition));
            assert_eq!(*places.entry(key.clone()).or_insert(partition), partition, "{key}");
        }
        assert_eq!(places.len(), 50);
        assert_eq!(places.values().collect::<BTreeSet<_>>().len(), 8);
    }

    #[test]
    fn other_records_go_round() {
        let mut key = String::from("left over");
        assert_eq!((0..5).map(|n| Keys::None.place(1, n, 3, &mut key)).collect::<Vec<_>>(), [0, 1, 2, 0, 1]);
        assert_eq!(key, "");
        let mut keys = BTreeSet::new();
        for number in 0..1000 {
            assert_eq!(Keys::Unique.place(1, number, 3, &mut key), i32::try_from(number % 3).expect("small"));
            keys.insert(key.clone());
        }
        assert_eq!(keys.len(), 1000);
    }
}
