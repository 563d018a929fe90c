//! The targets under libFuzzer: one program, the target chosen by `CATCHMENT_FUZZ_TARGET`.
//!
//! Built by `scripts/fuzz` with coverage instrumentation; libFuzzer brings `main` and reads the arguments.
#![no_main]

use std::sync::OnceLock;

use catchment_fuzz::{Target, feed, target};
use libfuzzer_sys::fuzz_target;

fn chosen() -> Target {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("CATCHMENT_FUZZ_TARGET").unwrap_or_default();
        target(&name).unwrap_or_else(|| {
            eprintln!("CATCHMENT_FUZZ_TARGET={name:?} is no target");
            std::process::exit(2);
        })
    })
}

fuzz_target!(|input: &[u8]| {
    if let Err(panic) = feed(chosen(), input) {
        eprintln!("{panic}");
        std::process::abort();
    }
});
