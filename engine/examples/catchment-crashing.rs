//! `catchment` with crash points, for tests alone: see the module `crash` of the engine.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    catchment::cli::run()
}
