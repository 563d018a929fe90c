//! What a command line says with units: sizes, spans of time, rates; and figures as people read them.
//!
//! The forms are those of `catchment`: `64MiB`, `500kB`, `30s`, `1h30m`; a rate is `5000/s` in records or `20MiB/s` in bytes.

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

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a size: write it like 64MiB, 1GiB or 500kB");
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        if digits.is_empty() {
            return Err(wrong());
        }
        let scale =
            if unit.is_empty() { 1 } else { SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(wrong)?.1 };
        let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
        bytes.map(Self).ok_or_else(|| format!("{text:?} is too large a size"))
    }
}

impl fmt::Display for Size {
    /// In the largest binary unit that divides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, scale): &&(&str, u64)| self.0 >= *scale && self.0.is_multiple_of(*scale);
        let (unit, scale) = SIZE_UNITS[..5].iter().rev().find(fits).unwrap_or(&SIZE_UNITS[0]);
        write!(f, "{}{unit}", self.0 / scale)
    }
}

/// Reads a span of time; each unit at most once, from the largest down.
///
/// # Errors
/// If it is none, or has no unit.
pub fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a span of time: write it like 30s, 5m or 1h30m");
    let (mut rest, mut sum, mut last_scale) = (text, 0_u64, u64::MAX);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (digits, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let scale = SPAN_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        if digits.is_empty() || scale >= last_scale {
            return Err(wrong());
        }
        let ms = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
        sum = ms.and_then(|ms| sum.checked_add(ms)).ok_or_else(|| format!("{text:?} is too long a span of time"))?;
        (rest, last_scale) = (tail, scale);
    }
    Ok(Duration::from_millis(sum))
}

/// How fast records are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// So many records in a second.
    Records(u64),
    /// So many bytes of values in a second.
    Bytes(u64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a rate: write it like 5000/s (records) or 20MiB/s (bytes of values)");
        let amount = text.strip_suffix("/s").ok_or_else(wrong)?;
        let is_records = !amount.is_empty() && amount.bytes().all(|b| b.is_ascii_digit());
        let number = amount.parse::<Size>().map_err(|_| wrong())?.0;
        match number {
            0 => Err("a rate of 0 would never end: leave --rate out for as fast as possible".to_owned()),
            _ if is_records => Ok(Self::Records(number)),
            _ => Ok(Self::Bytes(number)),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records(records) => write!(f, "{records}/s"),
            Self::Bytes(bytes) => write!(f, "{}/s", Size(*bytes)),
        }
    }
}

/// A size as people read it, with three digits: `1.23 MiB`.
pub fn read_size(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes, 0);
    while value.abs() >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 { 0 } else { digits_of(value) };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A number with three digits, or more where it has more before the point; thousands are set apart.
pub fn read_number(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 100.0 {
        return grouped(value);
    }
    format!("{value:.*}", digits_of(value))
}

fn digits_of(value: f64) -> usize {
    match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 { format!("-{text}") } else { text }
}

/// A span of milliseconds as people read it: `0.82 ms`, `1.20 s`.
pub fn read_ms(ms: f64) -> String {
    if ms >= 1000.0 { format!("{} s", read_number(ms / 1000.0)) } else { format!("{} ms", read_number(ms)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse_and_print() {
        for (text, bytes) in [("0", 0), ("12", 12), ("1KiB", 1024), ("64mib", 64 << 20), ("500kB", 500_000), ("2GiB", 2 << 30)] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for wrong in ["", "KiB", "-1", "1.5MiB", "1 KiB", "1XiB", "99999999999999999999", "99999999TiB"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
        assert_eq!([Size(1536).to_string(), Size(1 << 20).to_string(), Size(0).to_string()], ["1536B", "1MiB", "0B"]);
    }

    #[test]
    fn spans_need_units_that_descend() {
        assert_eq!(span("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(span("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "5", "5 m", "m", "1m1h", "1m1m", "5x", "99999999999999999999s", "9999999999999999d"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_counts_records_or_bytes() {
        assert_eq!("5000/s".parse(), Ok(Rate::Records(5000)));
        assert_eq!("20MiB/s".parse(), Ok(Rate::Bytes(20 << 20)));
        assert_eq!("700B/s".parse(), Ok(Rate::Bytes(700)));
        for wrong in ["", "/s", "5000", "0/s", "0MiB/s", "-1/s", "5/m", "x/s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
        assert_eq!([Rate::Records(7).to_string(), Rate::Bytes(1 << 20).to_string()], ["7/s", "1MiB/s"]);
    }

    #[test]
    fn figures_are_readable() {
        assert_eq!(read_size(999.0), "999 B");
        assert_eq!(read_size(1_300_000.0), "1.24 MiB");
        assert_eq!(read_number(1_234_567.0), "1,234,567");
        assert_eq!([read_number(0.5), read_number(12.345), read_number(-1234.5), read_number(3.0)], ["0.50", "12.3", "-1,234", "3"]);
        assert_eq!([read_ms(0.8), read_ms(1200.0)], ["0.80 ms", "1.20 s"]);
    }
}
