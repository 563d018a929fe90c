//! How hard objects are compressed: a number, or left to the records.

use std::fmt;
use std::str::FromStr;

/// What [`Level`] takes, but for numbers that no codec has, as a regular expression for the schema.
pub(super) const LEVEL_PATTERN: &str = "^(auto|[0-9]+)$";

/// A level of compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The records of each partition choose among the lowest levels of zstd.
    Auto,
    /// This one.
    Fixed(u8),
}

impl Level {
    /// The number, if it is one.
    pub fn number(self) -> Option<u8> {
        match self {
            Self::Auto => None,
            Self::Fixed(number) => Some(number),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(number) => write!(f, "{number}"),
        }
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        // Without a sign, which numbers may have elsewhere.
        let number = if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None };
        number.map(Self::Fixed).ok_or_else(|| format!("{text:?} is not a level: write a number, such as 3, or auto"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_number_or_auto() {
        let pattern = regex::Regex::new(LEVEL_PATTERN).unwrap();
        for (text, level) in [("auto", Level::Auto), ("1", Level::Fixed(1)), ("22", Level::Fixed(22)), ("0", Level::Fixed(0))] {
            assert_eq!((text.parse(), level.to_string().as_str()), (Ok(level), text));
            assert!(pattern.is_match(text), "{text}");
        }
        for text in ["", "Auto", "fast", "+3", "-1", "3.0", " 3"] {
            assert!(text.parse::<Level>().unwrap_err().contains("or auto") && !pattern.is_match(text), "{text}");
        }
        assert!("256".parse::<Level>().is_err(), "more than any codec has");
        assert_eq!((Level::Auto.number(), Level::Fixed(9).number()), (None, Some(9)));
    }
}
