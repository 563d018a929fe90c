//! What clap refuses, in the form of every other error.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind as Refusal};

use super::output::{ColorChoice, LogFormat};
use super::render;
use crate::error::{Error, ErrorKind, codes};

/// Prints help or version to stdout, anything else as an error to stderr.
pub(super) fn refuse(refusal: &clap::Error) -> ExitCode {
    if matches!(refusal.kind(), Refusal::DisplayHelp | Refusal::DisplayVersion) {
        // A closed stdout is no error here either.
        let _ = refusal.print();
        return ExitCode::SUCCESS;
    }
    if refusal.kind() == Refusal::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = refusal.print();
        return ExitCode::from(ErrorKind::Invalid.exit_code());
    }
    let error = to_error(refusal);
    let format = asked("--log-format").or_else(|| std::env::var("CATCHMENT_LOG_FORMAT").ok());
    let format = format.and_then(|word| word.parse().ok()).unwrap_or(LogFormat::Text);
    let color = asked("--color").and_then(|word| word.parse().ok()).unwrap_or(ColorChoice::Auto);
    render::to_stderr(&error, format, color.on_stderr());
    ExitCode::from(error.kind.exit_code())
}

/// The value of `flag` in a command line that could not be parsed.
fn asked(flag: &str) -> Option<String> {
    let mut args = std::env::args().skip_while(|a| !a.starts_with(flag));
    let first = args.next()?;
    first.strip_prefix(flag)?.strip_prefix('=').map(str::to_owned).or_else(|| args.next())
}

/// The refusal as one of our errors: the first line, then the usage and the tips.
pub(super) fn to_error(refusal: &clap::Error) -> Error {
    let text = refusal.to_string();
    let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").trim_end_matches(':');
    // A value that failed to parse carries our own, better explanation after a colon.
    let mut error = Error::new(codes::USAGE, ErrorKind::Invalid, lower_first(message));
    let listed: Vec<&str> =
        text.lines().skip(1).map_while(|l| l.strip_prefix("  ")).filter(|l| !l.trim_start().starts_with("tip:")).collect();
    if !listed.is_empty() {
        error = error.because(listed.iter().map(|l| l.trim()).collect::<Vec<_>>().join(", ").trim_matches(['[', ']']));
    }
    if let Some(usage) = text.lines().find_map(|l| l.strip_prefix("Usage: ")) {
        error = error.with("usage", usage.trim());
    }
    error.help(tip(refusal, &text))
}

fn tip(refusal: &clap::Error, text: &str) -> String {
    let tips: Vec<&str> = text.lines().filter_map(|l| l.trim_start().strip_prefix("tip: ")).collect();
    if !tips.is_empty() {
        return tips.join("\n");
    }
    let verb = refusal.context().find_map(|(kind, value)| match (kind, value) {
        (ContextKind::Usage, ContextValue::StyledStr(usage)) => usage.to_string().split_whitespace().nth(2).map(str::to_owned),
        _ => None,
    });
    match verb.filter(|v| v.chars().all(|c| c.is_ascii_lowercase())) {
        Some(verb) => format!("catchment {verb} --help"),
        None => "catchment --help".to_owned(),
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
