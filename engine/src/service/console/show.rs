//! Times, sizes and counts as people read them.

use super::catalogue::Texts;

/// A moment: for programs and for people, in UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) iso: String,
    pub(super) text: String,
}

/// A moment of the wall clock, ms since 1970.
pub(super) fn moment(ms: i64) -> Moment {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(at) => Moment { iso: at.to_string(), text: at.strftime("%Y-%m-%d %H:%M:%S").to_string() },
        Err(_) => Moment { iso: ms.to_string(), text: ms.to_string() },
    }
}

/// A number with its thousands apart.
pub(super) fn count(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if n < 0 { format!("-{text}") } else { text }
}

/// A size in bytes.
pub(super) fn size(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes.max(0.0), 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    if unit == 0 || value >= 100.0 { format!("{value:.0} {}", UNITS[unit]) } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A time in seconds, in the largest unit that fits.
pub(super) fn span(t: &Texts, seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 120.0 => (s, t.seconds),
        s if s < 7_200.0 => (s / 60.0, t.minutes),
        s if s < 172_800.0 => (s / 3_600.0, t.hours),
        s => (s / 86_400.0, t.days),
    };
    format!("{value:.1} {unit}")
}

/// How far a rule is behind.
pub(super) fn lag(t: &Texts, records: i64, seconds: f64) -> String {
    t.fill(t.lag_of, &[&count(records), &span(t, seconds)])
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::{CHINESE, ENGLISH};
    use super::*;

    #[test]
    fn numbers_and_times_are_readable() {
        assert_eq!([0, 999, 1_000, -1_234_567].map(count), ["0", "999", "1,000", "-1,234,567"]);
        assert_eq!([0.0, 1023.0, 1536.0, 220_200_960.0, 1e15].map(size), ["0 B", "1023 B", "1.5 KiB", "210 MiB", "909 TiB"]);
        assert_eq!(span(&ENGLISH, 2.14), "2.1 s");
        assert_eq!(span(&CHINESE, 600.0), "10.0 分钟");
        assert_eq!(moment(0), Moment { iso: "1970-01-01T00:00:00Z".into(), text: "1970-01-01 00:00:00".into() });
        assert_eq!(moment(i64::MAX).text, i64::MAX.to_string());
    }
}
