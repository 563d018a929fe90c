//! The `catchment` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    catchment::cli::run()
}
