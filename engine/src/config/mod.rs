//! What an operator may set: read, refuse what is unknown, check relations, print what is in effect.
//!
//! Place in the flow: [`Config`] is a file as it stands, [`RuleSettings`] one rule of it or the flags of a command; laid one
//! over the other and filled with defaults they become a [`BackupPlan`], which is valid by construction. Values only: clocks,
//! stores and sources are made from a plan elsewhere.
//!
//! Nothing here reads the clock or the network, and the only files read are secrets, when they are asked for.

mod destination;
mod file;
pub mod keys;
mod level;
mod plan;
mod print;
pub mod secret;
mod settings;
mod start;
mod units;
mod words;

pub use destination::{Destination, LayoutSettings};
pub use file::Given;
pub use level::Level;
pub use plan::{
    BUDGET_DEFAULT, BUDGET_MIN, BackupPlan, GapPolicy, MAX_BYTES_DEFAULT, MAX_BYTES_MIN, Overrides, RunOptions, UPLOAD_DEADLINE_DEFAULT,
    UPLOAD_DEADLINE_MIN, WINDOW_DEFAULT, WINDOW_MAX, WINDOW_MIN, WindowSettings,
};
pub use secret::Secret;
pub use settings::{Config, KafkaSettings, RuleSettings, SaslSettings, StoreSettings, TlsSettings};
pub use start::StartPoint;
pub use units::{ByteSize, Span};
pub use words::{Accept, CodecKind, FormatKind, FramingKind, LayoutKind, Mechanism, OnGap, OnStop, Preset, ScheduleKind, WindowBy, Words};

/// What names of rules, Kafka profiles and stores look like. They become part of group ids, object keys and metrics.
pub const NAME_PATTERN: &str = "^[a-z0-9][a-z0-9._-]{0,62}$";

/// Whether `name` fits [`NAME_PATTERN`].
pub fn is_name(name: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len()) && ok(bytes[0]) && bytes.iter().all(|b| ok(*b) || b"._-".contains(b))
}

#[cfg(test)]
mod tests;
