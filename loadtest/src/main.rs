//! `catchment-loadtest`: sends loads, and tests backups with them. Everything is in the library; the benches use a part of it.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    ExitCode::from(catchment_loadtest::cli::main(catchment_loadtest::cli::Cli::parse()))
}
