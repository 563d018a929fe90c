//! How output looks: colour or not, the form of messages, and stdout that may close early.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;

use crate::config::{ByteSize, Words};
use crate::error::{Error, ErrorKind, codes};

/// `--color`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColorChoice {
    Auto,
    Always,
    Never,
}

impl ColorChoice {
    /// Whether stderr is coloured. <https://no-color.org>: any value but the empty one turns colour off.
    pub(super) fn on_stderr(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        }
    }
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogFormat {
    Text,
    Json,
}

impl Words for ColorChoice {
    const WORDS: &'static [&'static str] = &["auto", "always", "never"];
}

impl FromStr for ColorChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(format!("{text:?} is not one of auto, always, never")),
        }
    }
}

impl Words for LogFormat {
    const WORDS: &'static [&'static str] = &["text", "json"];
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is not one of text, json")),
        }
    }
}

/// Writes data to stdout. A reader that has closed it (`| head`) is no error.
pub(super) fn print(text: impl fmt::Display) -> Result<(), Vec<Error>> {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(vec![
            Error::new(codes::OUTPUT, ErrorKind::Retryable, "cannot write to standard output")
                .because(e)
                .help("free some space where it goes, or send it elsewhere"),
        ]),
    }
}

/// Writes a JSON value to stdout, with a newline.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), Vec<Error>> {
    // Serialising our own plain values cannot fail: no maps with keys that are not strings, no failing `Serialize`.
    let text = serde_json::to_string_pretty(value).expect("plain values serialise");
    print(format_args!("{text}\n"))
}

/// Columns as wide as their widest cell; numbers to the right. Cells may hold anything: each stays in its line and steers nothing.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| crate::text::one_line(cell)).collect()).collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).chain([head[column].chars().count()]).max().unwrap_or_default();
    let numeric =
        |column: usize| !rows.is_empty() && rows.iter().all(|row| row[column].starts_with(|c: char| c.is_ascii_digit() || c == '-'));
    let columns: Vec<(usize, bool)> = (0..head.len()).map(|c| (width(c), numeric(c))).collect();
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(|h| (*h).to_owned()).collect();
    for row in std::iter::once(&head).chain(&rows) {
        let cells: Vec<String> = row
            .iter()
            .zip(&columns)
            .map(|(cell, (width, right))| {
                let pad = " ".repeat(width - cell.chars().count());
                if *right { format!("{pad}{cell}") } else { format!("{cell}{pad}") }
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A size as people read it, with three digits: `1.23 MiB`.
pub(super) fn size(bytes: ByteSize) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes.bytes() as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 100.0 { 0 } else { 1 + usize::from(value < 10.0) };
    format!("{value:.digits$} {}", UNITS[unit])
}
