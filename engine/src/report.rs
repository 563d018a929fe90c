//! What lanes tell the operator, as data. The command line prints it; a service would store it.

use std::time::Duration;

use catchment_formats::{Missing, OffsetRange};

use crate::error::Error;
use crate::intent::Intent;
use crate::source::TopicPartition;
use crate::store::StoreError;
use crate::window::CloseReason;

/// A window that became an object.
#[derive(Clone, Debug)]
pub struct WindowCommitted {
    /// The partition.
    pub tp: TopicPartition,
    /// The object's range.
    pub range: OffsetRange,
    /// The object's key.
    pub key: String,
    /// The object's size in bytes.
    pub bytes: u64,
    /// Records in it.
    pub records: u64,
    /// Bytes of their values.
    pub value_bytes: u64,
    /// Why the window closed.
    pub reason: CloseReason,
    /// Records older than the window's slot.
    pub late: u64,
    /// What is missing from it.
    pub missing: Vec<Missing>,
    /// From the window's close to the object's settling, in milliseconds.
    pub delay_ms: i64,
    /// Publishing requests it took.
    pub requests: u32,
}

/// What else happens to a lane.
#[derive(Debug)]
pub enum LaneNote<'a> {
    /// The store does not answer or refuses access; the lane repeats until it does.
    Waiting(&'a StoreError),
    /// The lane dropped what was open and recovers.
    Restarted(&'a str),
    /// The lane's task has panicked; it recovers.
    Panicked(&'a Error),
    /// The lane found a pinned window and finishes it.
    Recovering(&'a Intent),
    /// Records are missing.
    Gap(Missing),
    /// The group had no offset; the stored objects say where to go on.
    ResumedFromAnchor {
        /// The anchor's offset.
        anchor: i64,
        /// Where the lane goes on.
        position: i64,
    },
    /// The log is shorter than what was backed up, and the operator said to wait.
    AwaitingLog {
        /// What was backed up.
        position: i64,
        /// Where the log ends.
        log_end: i64,
    },
    /// A full copy of a window that Kafka has lost in part may still be on its way.
    Outwaiting(Duration),
    /// The lane stopped, with its question or its reason.
    Stopped(&'a Error),
    /// The lane has read all that was asked for.
    Finished,
}

/// Is told what happens. Called from many threads; must not block.
pub trait Reporter: Send + Sync + std::fmt::Debug {
    /// A window became an object.
    fn window(&self, window: &WindowCommitted);

    /// Something else happened to a lane.
    fn lane(&self, tp: &TopicPartition, note: LaneNote<'_>);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn window(&self, _window: &WindowCommitted) {}

    fn lane(&self, _tp: &TopicPartition, _note: LaneNote<'_>) {}
}
