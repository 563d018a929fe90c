//! `catchment demo`: its flags.

use std::path::PathBuf;

use clap::Args;

use super::Outcome;
use crate::config::Span;

/// Flags of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Where the objects go; without it a new directory below the system's temporary one
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// How long records are produced
    #[arg(long, value_name = "DUR", default_value = "15s")]
    pub duration: Span,
    /// Do not kill the worker half-way
    #[arg(long)]
    pub no_kill: bool,
}

/// Runs the demo.
pub(super) fn main(args: DemoArgs) -> Outcome {
    let _ = args;
    Err(vec![crate::error::Error::new(crate::error::codes::USAGE, crate::error::ErrorKind::Invalid, "this build has no demo")])
}
