//! `catchment config check|print|schema`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Outcome, output};
use crate::config::{BackupPlan, Config, Overrides, RunOptions, keys};
use crate::error::Error;

#[derive(Args, Debug)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Name every problem of a config file
    Check {
        /// The config file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print a rule as it is in effect: defaults written out, secrets masked
    Print {
        /// The config file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The rule; without it every rule of the file
        #[arg(long, value_name = "NAME")]
        rule: Option<String>,
    },
    /// Print a JSON schema of the config file, for editors
    Schema,
}

pub(super) fn main(args: ConfigArgs) -> Outcome {
    match args.verb {
        ConfigVerb::Check { file } => {
            let plans = plans(&Config::load(&file)?, None)?;
            output::print(format_args!("{}: {} rule(s), no problem\n", file.display(), plans.len()))?;
        }
        ConfigVerb::Print { file, rule } => {
            let plans = plans(&Config::load(&file)?, rule)?;
            let texts: Vec<String> = plans.iter().map(BackupPlan::to_toml).collect();
            output::print(texts.join("\n"))?;
        }
        ConfigVerb::Schema => output::print_json(&keys::json_schema())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The plans of one rule or of all of them, or every problem of all of them.
fn plans(config: &Config, rule: Option<String>) -> Result<Vec<BackupPlan>, Vec<Error>> {
    let names: Vec<String> = rule.map_or_else(|| config.rules.keys().cloned().collect(), |name| vec![name]);
    let (mut plans, mut problems) = (Vec::new(), Vec::new());
    for name in names {
        let overrides = Overrides { rule: Some(name.clone()), ..Overrides::default() };
        match BackupPlan::new(config, overrides, RunOptions::default()) {
            Ok(plan) => plans.push(plan),
            Err(found) => problems.extend(found.into_iter().map(|e| e.with("rule", &name))),
        }
    }
    if problems.is_empty() { Ok(plans) } else { Err(problems) }
}
