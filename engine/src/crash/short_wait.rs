//! A shorter wait for a Complete that was taken and may show late, so that kills around it take seconds.
//!
//! Nothing else differs. It keeps nothing of what the wait is for: a test that asks for it must have a store in which nothing shows late.

use std::time::Duration;

/// The variable that gives the wait, in milliseconds.
const VARIABLE: &str = "CATCHMENT_CRASH_COMPLETE_WAIT_MS";

/// As long as the environment asks for; as long as it is to be, if it asks for none.
pub(crate) fn wait_of_env(longest: Duration) -> Duration {
    match std::env::var(VARIABLE) {
        Ok(text) => Duration::from_millis(text.parse().unwrap_or_else(|e| panic!("{VARIABLE}={text}: {e}"))),
        Err(_) => longest,
    }
}
