//! What travels between the stages: blocks of an open segment forward, parts and sealed segments on to the lane.
//!
//! A *segment* is a window on its way to become an object. A *run* is one pass of a lane over its partition, from an opened queue
//! to the next restart; its number tells stale messages from living ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize};
use std::time::Duration;

use catchment_formats::{LaneId, Missing, Proof};
use tokio::sync::mpsc;

use crate::blocks::PooledBlock;
use crate::budget::{Reservation, Waiting};
use crate::encoding::LaneEncoding;
use crate::source::{LastRead, QueueFault};
use crate::store::Payload;
use crate::window::{CloseReason, Opened};

/// Number of a lane's run, unique in the process.
pub type RunId = u64;

/// What every stage knows of a run.
#[derive(Debug)]
pub struct Run {
    /// Its number.
    pub id: RunId,
    /// Whose records these are.
    pub lane: LaneId,
    /// Sealed segments that the lane has not finished.
    pub sealed: AtomicUsize,
    /// Set by the lane when nobody wants the run's records any more.
    pub abandoned: AtomicBool,
    /// Next offset to read.
    pub position: AtomicI64,
    /// The partition's readable end when last seen, -1 if not known.
    pub log_end: AtomicI64,
    /// Records taken from the queue. Counters outlive the run.
    pub records_read: Arc<AtomicU64>,
    /// Bytes of their keys, values and headers.
    pub bytes_read: Arc<AtomicU64>,
    /// Timestamp of the last one in milliseconds, -1 before the first.
    pub last_timestamp: AtomicI64,
}

impl Run {
    /// A run that has not read anything.
    pub fn new(id: RunId, lane: LaneId, position: i64) -> Arc<Self> {
        Arc::new(Self {
            id,
            lane,
            sealed: AtomicUsize::new(0),
            abandoned: AtomicBool::new(false),
            position: AtomicI64::new(position),
            log_end: AtomicI64::new(-1),
            records_read: Arc::default(),
            bytes_read: Arc::default(),
            last_timestamp: AtomicI64::new(-1),
        })
    }
}

/// The beginning of a segment.
#[derive(Debug)]
pub struct SegmentHead {
    /// The run.
    pub run: Arc<Run>,
    /// First offset of the segment.
    pub start: i64,
    /// How it is encoded.
    pub encoding: LaneEncoding,
    /// Where its parts go.
    pub events: mpsc::Sender<SegmentEvent>,
}

/// The end of a segment.
#[derive(Clone, Debug)]
pub struct SegmentTail {
    /// First offset after the segment.
    pub end: i64,
    /// Offsets that it could not hold.
    pub missing: Vec<Missing>,
    /// Why it ends here.
    pub reason: CloseReason,
    /// Timestamp that names the directory.
    pub directory_ms: Option<i64>,
    /// The last record that was read before the end.
    pub last: LastRead,
    /// Records older than the window's slot.
    pub late: u64,
    /// When the window opened, in milliseconds of the wall clock.
    pub opened_wall_ms: i64,
    /// When it closed, in milliseconds of the wall clock.
    pub closed_wall_ms: i64,
}

/// From a consumer to a builder. Messages of one run come in order.
#[derive(Debug)]
pub enum BuilderMessage {
    /// A segment begins.
    Open(SegmentHead),
    /// Records of the open segment.
    Block {
        /// The run.
        run: RunId,
        /// The records.
        block: PooledBlock,
        /// Timestamp that names the directory, as far as it is known.
        directory_ms: Option<i64>,
    },
    /// The segment ends.
    Close {
        /// The run.
        run: RunId,
        /// How it ends.
        tail: SegmentTail,
    },
    /// Passed on to the lane behind what was sent before.
    Pass {
        /// The run.
        run: Arc<Run>,
        /// Where to.
        events: mpsc::Sender<SegmentEvent>,
        /// What.
        event: SegmentEvent,
    },
    /// The run is over; forget its open segment.
    Drop {
        /// The run.
        run: RunId,
    },
}

/// A full part of a segment, ready to be uploaded.
#[derive(Debug)]
pub struct BuiltPart {
    /// Its bytes.
    pub payload: Payload,
    /// The memory they take; given back when the part is dropped.
    pub reservation: Reservation,
}

/// A segment that is encoded to its end.
#[derive(Debug)]
pub struct SealedSegment {
    /// What it says of itself; the size is known here.
    pub proof: Proof,
    /// How it ended.
    pub tail: SegmentTail,
    /// The bytes behind the last full part; may be empty.
    pub last_part: BuiltPart,
    /// CRC-64/XZ of the whole object.
    pub crc64: u64,
    /// Counts the segment as waiting for the store.
    pub waiting: Waiting,
}

/// From a builder to a lane.
#[derive(Debug)]
pub enum SegmentEvent {
    /// A full part of the open segment, and the timestamp that names its directory, as far as it is known.
    Part(BuiltPart, Option<i64>),
    /// The segment is complete.
    Sealed(Box<SealedSegment>),
    /// Nothing visible and nothing missing lies before this position, and no segment is open.
    Empty {
        /// Next offset to read.
        position: i64,
        /// The last record that was read before it.
        last: LastRead,
    },
    /// This range will be missing from the segment that is open, or from the next one.
    Gap(Missing),
    /// The queue cannot go on; the run has ended at this position.
    Fault {
        /// Why.
        fault: QueueFault,
        /// Next offset that was expected.
        position: i64,
    },
    /// The run has read all that was asked for and has ended.
    Finished,
    /// The run has read what is due and has ended: the lane's turn is over.
    Rested(Rest),
}

/// What a run leaves behind that has ended before its partition did.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    /// How long it is until something is due.
    pub due_in: Duration,
    /// When the window opened that will be read again; none if none was open.
    pub opened: Option<Opened>,
}
