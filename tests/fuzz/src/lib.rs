//! Fuzz targets: everything of the engine and the formats that reads bytes or texts which somebody else may have written.
//!
//! A target takes any input and must come back: no panic, no endless loop, no memory out of proportion. Where an input is accepted, the target
//! also holds what was read against what is written of it again. `scripts/fuzz` drives the targets by coverage; `tests/seeds.rs` feeds them
//! their seeds, the golden objects and every input that once failed.

mod config;
mod framing;
mod intent;
mod key_template;
mod parquet;
mod rule_body;
mod verify;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once, PoisonError};

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets, in the order of the data: settings, keys, notes, then objects.
pub const TARGETS: [Target; 7] = [
    ("config", config::run),
    ("rule_body", rule_body::run),
    ("key_template", key_template::run),
    ("intent", intent::run),
    ("framing", framing::run),
    ("parquet", parquet::run),
    ("verify", verify::run),
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|(known, _)| *known == name)
}

/// What the last panic said, in whichever thread it was.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Feeds one input to a target; answers what a panic said.
///
/// Panics that the decoders of foreign formats turn into errors are none of the target's, and are not printed: there may be thousands a second.
///
/// # Errors
/// The panic's message and place.
pub fn feed(target: Target, input: &[u8]) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|panic| *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string()));
    });
    catch_unwind(AssertUnwindSafe(|| target.1(input)))
        .map_err(|_| format!("{}: {}", target.0, LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner)))
}
