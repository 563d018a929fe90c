//! Sizes and spans of time with their units in the text: `64MiB`, `5m`.
//!
//! Both parse what an operator writes and print a canonical form that parses to the same value.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

const SPAN_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// What [`ByteSize`] takes, but for numbers that are too large, as a regular expression that JSON schemas and Rust read alike.
pub(super) fn size_pattern() -> String {
    "^ *[0-9]+ *([kKmMgGtT]?[bB]|[kKmMgGtT][iI][bB])? *$".to_owned()
}

/// The same for [`Span`]: each unit at most once, from the largest down, and at least one.
pub(super) fn span_pattern() -> String {
    let part = |(unit, _): &(&str, u64)| format!("[0-9]+ *{unit} *");
    let from = |first: usize| {
        let rest: String = SPAN_UNITS[first + 1..].iter().map(|unit| format!("({})?", part(unit))).collect();
        format!("{}{rest}", part(&SPAN_UNITS[first]))
    };
    let forms: Vec<String> = (0..SPAN_UNITS.len()).map(from).collect();
    format!("^ *({})$", forms.join("|"))
}

/// A number of bytes, written `1GiB`, `64MiB`, `500kB`, `10B`; a number alone is bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    /// In the largest binary unit that divides the size.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, scale) =
            SIZE_UNITS[..5].iter().rev().find(|(_, scale)| self.0 >= *scale && self.0.is_multiple_of(*scale)).unwrap_or(&SIZE_UNITS[0]);
        write!(f, "{}{unit}", self.0 / scale)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim_matches(' ');
        let wrong = || format!("{text:?} is not a size: write it like 64MiB, 1GiB or 500kB");
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        if digits.is_empty() {
            return Err(wrong());
        }
        let unit = unit.trim_start_matches(' ');
        let scale =
            if unit.is_empty() { 1 } else { SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(wrong)?.1 };
        let number: u64 = digits.parse().map_err(|_| format!("{text:?} is too large a size"))?;
        number.checked_mul(scale).map(Self).ok_or_else(|| format!("{text:?} is too large a size"))
    }
}

/// A span of time in whole milliseconds, written `5m`, `1h30m`, `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Span {
    /// `n` milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(n)
    }

    /// `n` seconds.
    pub const fn secs(n: u64) -> Self {
        Self(n * 1_000)
    }

    /// The span in milliseconds.
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// The span as the standard library has it.
    pub fn to_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, scale) in SPAN_UNITS {
            if rest >= scale {
                write!(f, "{}{unit}", rest / scale)?;
                rest %= scale;
            }
        }
        Ok(())
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim_matches(' ');
        let wrong = || format!("{text:?} is not a span of time: write it like 30s, 5m or 1h30m");
        let too_long = || format!("{text:?} is too long a span of time");
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("{text:?} has no unit: write {text}s for seconds or {text}m for minutes"));
        }
        let (mut rest, mut sum, mut last_scale) = (text, 0_u64, u64::MAX);
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits_end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let (digits, tail) = rest.split_at(digits_end);
            let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            let scale = SPAN_UNITS.iter().find(|(name, _)| *name == unit.trim_matches(' ')).ok_or_else(wrong)?.1;
            // Units descend, so that "5m1h" or "1m1m", more likely slips than wishes, are refused.
            if digits.is_empty() || scale >= last_scale {
                return Err(wrong());
            }
            let number: u64 = digits.parse().map_err(|_| too_long())?;
            sum = number.checked_mul(scale).and_then(|ms| sum.checked_add(ms)).ok_or_else(too_long)?;
            (rest, last_scale) = (tail, scale);
        }
        Ok(Self(sum))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_parse_as_operators_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("1GiB", 1 << 30),
            ("500kB", 500_000),
            ("2TB", 2_000_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn wrong_sizes_are_refused() {
        for text in ["", "MiB", "-1", "1.5GiB", "64 parsecs", "64M iB", "99999999999999999999", "18446744073709551615KiB"] {
            let error = text.parse::<ByteSize>().unwrap_err();
            assert!(error.contains("size"), "{text}: {error}");
        }
    }

    #[test]
    fn spans_parse_as_operators_write_them() {
        for (text, ms) in [("5m", 300_000), ("1h30m", 5_400_000), ("250ms", 250), ("1s", 1_000), ("1d", 86_400_000), ("1m500ms", 60_500)] {
            assert_eq!(text.parse(), Ok(Span(ms)), "{text}");
        }
    }

    #[test]
    fn wrong_spans_are_refused() {
        for text in ["", "5", "m", "5 minutes", "-5m", "1.5h", "5m1h", "1m1m", "m5", "99999999999999999999s", "999999999999999d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        assert!("5".parse::<Span>().unwrap_err().contains("5s for seconds"));
    }

    #[test]
    fn the_patterns_of_the_schema_know_the_forms_of_the_book() {
        let (size, span) = (regex::Regex::new(&size_pattern()).unwrap(), regex::Regex::new(&span_pattern()).unwrap());
        for text in ["0", "17B", "64MiB", "64 mib", "500kB", "2TB", "1 KB"] {
            assert!(size.is_match(text), "{text}");
        }
        for text in ["5m", "1h30m", "1h 30m", "250ms", "1m500ms", "1d"] {
            assert!(span.is_match(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_schema_accepts_what_the_parser_accepts(text in "[ \\t]?[0-9]{0,3} ?[kKmMgGtT]?[iI]?[bB]? ?") {
            let pattern = regex::Regex::new(&size_pattern()).unwrap();
            prop_assert_eq!(text.parse::<ByteSize>().is_ok(), pattern.is_match(&text), "{}", text);
        }

        #[test]
        fn the_schema_accepts_the_spans_that_the_parser_accepts(text in "( ?[0-9]{0,2} ?(d|h|m|s|ms)? ?\\t?){0,4}") {
            let pattern = regex::Regex::new(&span_pattern()).unwrap();
            prop_assert_eq!(text.parse::<Span>().is_ok(), pattern.is_match(&text), "{}", text);
        }

        #[test]
        fn sizes_round_trip(bytes: u64) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }

        #[test]
        fn spans_round_trip(ms: u64) {
            prop_assert_eq!(Span(ms).to_string().parse(), Ok(Span(ms)));
        }

        #[test]
        fn no_text_panics(text in ".{0,24}") {
            let _ = (text.parse::<ByteSize>(), text.parse::<Span>());
        }
    }
}
