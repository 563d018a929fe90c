//! An error as the operator reads it.
//!
//! ```text
//! error[C0221]: broker advertises an address this machine cannot reach
//!   broker: redpanda-0:9092
//!   cause:  DNS: no such host "redpanda-0"
//!   help:   set advertised_kafka_api on the broker
//! ```
//!
//! Whatever comes from outside is shown without its control characters: a topic's name or a server's answer must not be
//! able to steer the terminal.

use std::io::Write as _;

use serde_json::{Value, json};

use super::output::LogFormat;
use crate::clock::{Clock as _, SystemClock};
use crate::error::Error;
use crate::text::printable;

const RED: &str = "\x1b[1;31m";
const BOLD: &str = "\x1b[1m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

/// What an error says below its message, in order: where, why, what next.
fn details(error: &Error) -> impl Iterator<Item = (&str, &str)> {
    let context = error.context.iter().map(|(label, value)| (*label, value.as_str()));
    let tail = [("cause", &error.cause), ("help", &error.help)];
    context.chain(tail.into_iter().filter_map(|(label, value)| Some((label, value.as_deref()?))))
}

/// The error as text, with a newline at its end.
pub fn render(error: &Error, colored: bool) -> String {
    let paint = |style: &str, text: &str| if colored { format!("{style}{text}{RESET}") } else { text.to_owned() };
    let head = format!("error[{}]", error.code);
    let mut text = format!("{}{}\n", paint(RED, &head), paint(BOLD, &format!(": {}", printable(&error.message))));
    let lines: Vec<(&str, &str)> = details(error).collect();
    let width = lines.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
    for (label, value) in lines {
        let pad = " ".repeat(width - label.len() + 1);
        let indent = " ".repeat(width + 4);
        let value = printable(value).trim_end().replace('\n', &format!("\n{indent}"));
        text.push_str(&format!("  {}{pad}{value}\n", paint(CYAN, &format!("{label}:"))));
    }
    text
}

/// The error as one JSON object with the fields that a message of the log has, and a newline.
pub fn render_json(error: &Error) -> String {
    let time = jiff::Timestamp::from_millisecond(SystemClock::new().wall_ms()).unwrap_or_default();
    let mut object = json!({
        "timestamp": time.to_string(), "level": "ERROR", "message": error.message, "code": error.code.to_string(),
    });
    for (label, value) in details(error) {
        object[label] = Value::from(value);
    }
    format!("{object}\n")
}

/// Writes the error to stderr. If that fails there is nobody left to tell.
pub(super) fn to_stderr(error: &Error, format: LogFormat, colored: bool) {
    let text = match format {
        LogFormat::Text => render(error, colored),
        LogFormat::Json => render_json(error),
    };
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorKind, codes};

    fn error() -> Error {
        Error::new(codes::USAGE, ErrorKind::Invalid, "broker advertises an address this machine cannot reach")
            .with("broker", "redpanda-0:9092")
            .because("DNS: no such host\nat all")
            .help("--map redpanda-0:9092=127.0.0.1:9092")
    }

    #[test]
    fn an_error_reads_as_the_book_says() {
        assert_eq!(
            render(&error(), false),
            "error[C0101]: broker advertises an address this machine cannot reach\n  broker: redpanda-0:9092\n  cause:  DNS: no such host\n          at all\n  help:   --map redpanda-0:9092=127.0.0.1:9092\n"
        );
    }

    #[test]
    fn as_json_it_is_one_line_with_the_fields_of_a_message() {
        let text = render_json(&error());
        assert_eq!(text.lines().count(), 1, "{text}");
        let object: Value = serde_json::from_str(&text).unwrap();
        assert!(object["timestamp"].as_str().is_some_and(|t| t.ends_with('Z')), "{text}");
        assert_eq!((&object["level"], &object["code"]), (&json!("ERROR"), &json!("C0101")));
        assert_eq!((&object["broker"], &object["cause"]), (&json!("redpanda-0:9092"), &json!("DNS: no such host\nat all")));
    }

    #[test]
    fn colour_adds_styles_and_nothing_else() {
        let colored = render(&error(), true);
        let plain = [RED, BOLD, CYAN, RESET].iter().fold(colored.clone(), |text, style| text.replace(style, ""));
        assert!(colored.contains(RED));
        assert_eq!(plain, render(&error(), false));
    }

    #[test]
    fn nothing_from_outside_steers_the_terminal() {
        let error = Error::new(codes::USAGE, ErrorKind::Invalid, "topic \x1b[2J").with("key", "a\rb\u{202e}c").because("\u{9b}31m\x07");
        let text = render(&error, false);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(!text.contains('\u{202e}'));
    }
}
