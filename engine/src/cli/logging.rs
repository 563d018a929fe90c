//! Messages on stderr: level, form, colour.

use tracing_subscriber::EnvFilter;

use super::GlobalArgs;
use super::output::LogFormat;

/// Installs the process's log. `CATCHMENT_LOG` takes a filter (`catchment=debug,aws=warn`) and wins over -q and -v.
pub(super) fn start(args: &GlobalArgs, colored: bool) {
    let filter = std::env::var("CATCHMENT_LOG").ok().and_then(|f| f.parse::<EnvFilter>().ok()).unwrap_or_else(|| filter(args));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colored).with_target(false);
    // A second start in one process (tests) keeps the first log.
    let _ = match args.log_format {
        LogFormat::Text => log.compact().try_init(),
        LogFormat::Json => log.json().flatten_event(true).with_span_list(false).try_init(),
    };
}

/// Other crates' messages matter only when something is wrong or somebody is looking for it.
fn filter(args: &GlobalArgs) -> EnvFilter {
    EnvFilter::new(match (args.quiet, args.verbose) {
        (0, 0) => "warn,catchment=info",
        (1, _) => "warn",
        (2.., _) => "error",
        (0, 1) => "info,catchment=debug",
        (0, 2..) => "debug,catchment=trace",
    })
}
