//! The command line: one file a verb. Data goes to stdout, messages to stderr.
//!
//! Place in the flow: the outermost layer. A verb turns flags and config files into values, calls the engine, prints what it
//! answers, and ends with an exit code: 0 done, 1 failure, 2 usage, 3 not found, 4 verification failed, 5 unreachable,
//! 6 fenced.

use std::process::ExitCode;
use std::sync::LazyLock;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

use crate::config::Words;
use crate::error::Error;

pub mod backup;
mod completions;
mod config;
pub mod demo;
mod dry_run;
mod held;
mod logging;
mod ls;
mod metrics;
mod open;
mod output;
mod progress;
mod remote;
pub mod render;
mod rule;
mod serve;
mod show;
mod token;
mod usage;
mod verify;
mod worker;

use output::{ColorChoice, LogFormat};
use progress::Manner;

/// What a verb ends with: an exit code, or the errors to show.
pub type Outcome = Result<ExitCode, Vec<Error>>;

/// Backs up Kafka topics to object stores, exactly once per window.
#[derive(Debug, Parser)]
#[command(name = "catchment", version = version(), max_term_width = 110, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args, Clone, Debug)]
struct GlobalArgs {
    /// Say less: warnings and errors only; twice: errors only
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "verbose", help_heading = "Output")]
    quiet: u8,
    /// Say more: debug; twice: everything
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Output")]
    verbose: u8,
    /// Form of the messages on stderr
    #[arg(long, global = true, value_name = "FORM", value_parser = words::<LogFormat>(), default_value = "text", env = "CATCHMENT_LOG_FORMAT", help_heading = "Output")]
    log_format: LogFormat,
    /// Colour the messages; NO_COLOR turns `auto` into `never`
    #[arg(long, global = true, value_name = "WHEN", value_parser = words::<ColorChoice>(), default_value = "auto", help_heading = "Output")]
    color: ColorChoice,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the whole job in half a minute: no broker, no cloud, no config
    Demo(demo::DemoArgs),
    /// The demo's own worker
    #[command(hide = true)]
    DemoWorker(Box<demo::WorkerArgs>),
    /// Back up topics to a store until told to stop
    Backup(Box<backup::BackupArgs>),
    /// Read objects again and check that every record is there exactly once
    Verify(verify::VerifyArgs),
    /// List lanes or objects and the offsets they stand for
    Ls(ls::LsArgs),
    /// Show an object's proof and its first records
    Show(show::ShowArgs),
    /// Keep rules, run them side by side, and serve the API
    Serve(serve::ServeArgs),
    /// Run the rules of a service on another machine, too
    Worker(worker::WorkerArgs),
    /// Create, look at and change the rules of a service
    Rule(rule::RuleArgs),
    /// Make, list and remove further tokens of a service
    Token(token::TokenArgs),
    /// Check a config file, print what is in effect, or print its schema
    Config(config::ConfigArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::refuse(&error),
    };
    let colored = cli.global.color.on_stderr();
    let format = cli.global.log_format;
    logging::start(&cli.global, colored);
    let manner = Manner { quiet: cli.global.quiet > 0, form: format };
    match dispatch(cli.verb, manner) {
        Ok(code) => code,
        Err(errors) => {
            for error in &errors {
                render::to_stderr(error, format, colored);
            }
            ExitCode::from(exit_code(&errors))
        }
    }
}

fn dispatch(verb: Verb, manner: Manner) -> Outcome {
    match verb {
        Verb::Demo(args) => demo::main(args),
        Verb::DemoWorker(args) => demo::worker(*args, manner),
        Verb::Backup(args) => backup::main(*args, manner),
        Verb::Verify(args) => verify::main(&args),
        Verb::Ls(args) => ls::main(&args),
        Verb::Show(args) => show::main(&args),
        Verb::Serve(args) => serve::main(&args),
        Verb::Worker(args) => worker::main(&args),
        Verb::Rule(args) => rule::main(&args),
        Verb::Token(args) => token::main(&args),
        Verb::Config(args) => config::main(args),
        Verb::Completions(args) => completions::main(&args),
    }
}

/// The exit code of the first error: it is the one that the others follow from.
fn exit_code(errors: &[Error]) -> u8 {
    errors.first().map_or(1, |e| e.kind.exit_code())
}

/// The whole command, for completions and for the test that holds the book to it.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The call that a line of `catchment rule` makes, by method, path, body and version; none of another verb. Whoever shows such lines is held to it.
///
/// # Panics
/// If the line is not understood, or its file cannot be read.
#[cfg(test)]
pub(crate) fn call_of(words: &[String]) -> Option<(&'static str, String, Option<serde_json::Value>, Option<i64>)> {
    let cli = Cli::try_parse_from(words).unwrap_or_else(|refusal| panic!("{words:?}: {refusal}"));
    let Verb::Rule(args) = cli.verb else { return None };
    Some(args.call().unwrap_or_else(|error| panic!("{words:?}: {error}")).parts())
}

/// Whether a line is one of this program's.
#[cfg(test)]
pub(crate) fn is_understood(words: &[String]) -> bool {
    Cli::try_parse_from(words).is_ok()
}

/// Parses one of a few words and shows them in the help.
fn words<T: Words + Send + Sync>() -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(T::WORDS).try_map(|word| word.parse::<T>())
}

fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let client = crate::source::client_version().map_or_else(|| "no Kafka client".to_owned(), |v| format!("librdkafka {v}"));
        let features = [("kafka", cfg!(feature = "kafka")), ("s3", cfg!(feature = "s3"))];
        let features: Vec<&str> = features.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
        format!("{} ({client}; features: {})", env!("CARGO_PKG_VERSION"), features.join(", "))
    });
    &VERSION
}

#[cfg(test)]
mod tests;
