//! Where a rule starts on its first run: `earliest | latest | @TIME | @-1h | N | P:N,P:N`.
//!
//! One grammar for the command line and the config file. Pure: a relative time is resolved against a `now` that is passed in.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::units::Span;

/// Epoch values below this are refused: as milliseconds they lie before 1973-03-03, and as seconds they are plausible
/// dates up to the year 5138, so they are seconds by mistake. Larger would refuse honest old times, smaller would let a
/// forgotten `000` start a backup in 1970.
const EPOCH_MS_MIN: i64 = 100_000_000_000;

/// A start point. Only the first run of a rule looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartPoint {
    /// The first offset that still exists.
    Earliest,
    /// The end of the partition when the rule first starts.
    Latest,
    /// The first record whose timestamp is at least this, in milliseconds since 1970-01-01 UTC.
    Time(i64),
    /// The same, this long before now.
    Ago(Span),
    /// This offset in every partition.
    Offset(i64),
    /// An offset for each of these partitions; the others start at the earliest.
    Offsets(BTreeMap<i32, i64>),
}

impl StartPoint {
    /// The same start point with a relative time made absolute. `now_ms` is milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn resolved(self, now_ms: i64) -> Self {
        match self {
            Self::Ago(span) => Self::Time(now_ms.saturating_sub_unsigned(span.as_millis())),
            other => other,
        }
    }
}

impl fmt::Display for StartPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Time(ms) => match jiff::Timestamp::from_millisecond(*ms) {
                Ok(time) if *ms < EPOCH_MS_MIN => write!(f, "@{time}"),
                _ => write!(f, "@{ms}"),
            },
            Self::Ago(span) => write!(f, "@-{span}"),
            Self::Offset(offset) => write!(f, "{offset}"),
            Self::Offsets(offsets) => {
                for (i, (partition, offset)) in offsets.iter().enumerate() {
                    write!(f, "{}{partition}:{offset}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for StartPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ => match text.strip_prefix('@') {
                Some(time) => parse_time(time),
                None if text.contains(':') => parse_offsets(text),
                None => parse_offset(text).map(Self::Offset),
            },
        }
    }
}

fn parse_time(text: &str) -> Result<StartPoint, String> {
    if let Some(ago) = text.strip_prefix('-') {
        return ago.parse().map(StartPoint::Ago).map_err(|e| format!("@-{ago}: {e}"));
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let ms: i64 = text.parse().map_err(|_| format!("@{text} is too large a time"))?;
        if ms < EPOCH_MS_MIN {
            return Err(format!("@{text} looks like seconds: epoch times are milliseconds, write @{text}000"));
        }
        return Ok(StartPoint::Time(ms));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(StartPoint::Time(time.as_millisecond()));
    }
    let civil = text.parse::<jiff::civil::DateTime>().or_else(|_| text.parse::<jiff::civil::Date>().map(|d| d.at(0, 0, 0, 0)));
    civil
        .ok()
        .and_then(|c| c.to_zoned(jiff::tz::TimeZone::UTC).ok())
        .map(|z| StartPoint::Time(z.timestamp().as_millisecond()))
        .ok_or_else(|| format!("@{text} is not a time: write @2026-11-22, @2026-11-22T10:00:00Z, @-1h or @ and milliseconds since 1970"))
}

fn parse_offset(text: &str) -> Result<i64, String> {
    text.parse()
        .ok()
        .filter(|n| *n >= 0)
        .ok_or_else(|| format!("{text:?} is not a start point: write earliest, latest, @TIME, @-1h, an offset, or PARTITION:OFFSET,..."))
}

fn parse_offsets(text: &str) -> Result<StartPoint, String> {
    let mut offsets = BTreeMap::new();
    for pair in text.split(',') {
        let wrong = || format!("{pair:?} is not PARTITION:OFFSET");
        let (partition, offset) = pair.trim().split_once(':').ok_or_else(wrong)?;
        let partition: i32 = partition.parse().ok().filter(|p| *p >= 0).ok_or_else(wrong)?;
        let offset: i64 = offset.parse().ok().filter(|n| *n >= 0).ok_or_else(wrong)?;
        if offsets.insert(partition, offset).is_some() {
            return Err(format!("partition {partition} is named twice"));
        }
    }
    Ok(StartPoint::Offsets(offsets))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_parses() {
        let noon = 1_795_348_800_000; // 2026-11-22T12:00:00Z
        for (text, start) in [
            ("earliest", StartPoint::Earliest),
            ("latest", StartPoint::Latest),
            ("@2026-11-22T12:00:00Z", StartPoint::Time(noon)),
            ("@2026-11-22T20:00:00+08:00", StartPoint::Time(noon)),
            ("@2026-11-22T12:00", StartPoint::Time(noon)),
            ("@2026-11-22", StartPoint::Time(noon - 43_200_000)),
            ("@1795348800000", StartPoint::Time(noon)),
            ("@-1h30m", StartPoint::Ago(Span::secs(5400))),
            ("0", StartPoint::Offset(0)),
            ("9223372036854775807", StartPoint::Offset(i64::MAX)),
            ("0:5,3:17", StartPoint::Offsets(BTreeMap::from([(0, 5), (3, 17)]))),
        ] {
            assert_eq!(text.parse(), Ok(start), "{text}");
        }
    }

    #[test]
    fn wrong_forms_are_refused_with_the_right_ones_named() {
        for text in ["", "first", "-5", "@", "@yesterday", "@-", "@-5", "0:", ":5", "0:5,0:6", "0:5,", "-1:5", "0:-5", "@2026-13-01", "1.5"]
        {
            assert!(text.parse::<StartPoint>().is_err(), "{text}");
        }
        assert!("@1795348800".parse::<StartPoint>().unwrap_err().contains("write @1795348800000"));
    }

    #[test]
    fn a_relative_time_is_resolved_against_the_given_now() {
        assert_eq!(StartPoint::Ago(Span::secs(60)).resolved(100_000), StartPoint::Time(40_000));
        assert_eq!(StartPoint::Latest.resolved(100_000), StartPoint::Latest);
    }

    fn any_start() -> impl Strategy<Value = StartPoint> {
        prop_oneof![
            Just(StartPoint::Earliest),
            Just(StartPoint::Latest),
            (0..253_402_207_200_000_i64).prop_map(StartPoint::Time),
            any::<u64>().prop_map(|ms| StartPoint::Ago(Span::millis(ms))),
            (0..=i64::MAX).prop_map(StartPoint::Offset),
            prop::collection::btree_map(0..=i32::MAX, 0..=i64::MAX, 1..5).prop_map(StartPoint::Offsets),
        ]
    }

    proptest! {
        #[test]
        fn start_points_round_trip(start in any_start()) {
            prop_assert_eq!(start.to_string().parse(), Ok(start));
        }

        #[test]
        fn no_text_panics(text in "[@0-9:,T+Z-]{0,24}") {
            let _ = text.parse::<StartPoint>();
        }
    }
}
