//! Blocks in, parts out: the thread that encodes the windows of some lanes.
//!
//! Place in the flow: between the consumers and the lanes. A window belongs to one builder from its first block to its end.
//! Guarantee: the bytes of a segment are a function of its records, range and encoding; where parts are cut is not
//! visible in the object. The encoding is settled before the first byte.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use catchment_formats::{Block, ByteSink, SegmentEncoder, segment_encoder};
use crc_fast::{CrcAlgorithm, checksum_combine};
use crossbeam_channel::Receiver;

use crate::budget::{MemoryBudget, Reservation};
use crate::limits::SEGMENT_EVENTS_MAX;
use crate::segment::{BuilderMessage, BuiltPart, RunId, SealedSegment, SegmentEvent, SegmentHead, SegmentTail};
use crate::store::{Payload, StoreLimits, parts};

/// Largest chunk of encoded bytes. A chunk is allocated as it fills; larger ones waste the end of each part.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// First chunk of a part. Small, since most windows of most topics are small.
const CHUNK_BYTES_FIRST: usize = 16 << 10;

/// The stage: open segments by run.
#[derive(Debug)]
pub struct Builder {
    budget: Arc<MemoryBudget>,
    limits: StoreLimits,
    open: HashMap<RunId, OpenSegment>,
}

impl Builder {
    /// A builder without segments, for a store with these limits.
    pub fn new(budget: Arc<MemoryBudget>, limits: StoreLimits) -> Self {
        Self { budget, limits, open: HashMap::new() }
    }

    /// Serves messages until all senders are gone.
    pub fn run(mut self, messages: &Receiver<BuilderMessage>) {
        for message in messages {
            self.on_message(message);
        }
    }

    /// Whether the message's lane can take at once what this message brings: a block brings a few parts at most.
    pub fn has_room_for(&self, message: &BuilderMessage) -> bool {
        const ROOM: usize = SEGMENT_EVENTS_MAX / 4;
        match message {
            BuilderMessage::Block { run, .. } | BuilderMessage::Close { run, .. } => {
                self.open.get(run).is_none_or(|segment| segment.head.events.is_closed() || segment.head.events.capacity() > ROOM)
            }
            BuilderMessage::Pass { events, .. } => events.is_closed() || events.capacity() > 0,
            BuilderMessage::Open(_) | BuilderMessage::Drop { .. } => true,
        }
    }

    /// Takes one message. Waits while its lane has no room.
    pub fn on_message(&mut self, message: BuilderMessage) {
        match message {
            BuilderMessage::Open(head) => {
                let segment = OpenSegment::new(head, &self.budget, self.limits);
                let stale = self.open.insert(segment.head.run.id, segment);
                assert!(stale.is_none(), "a run has one open segment");
            }
            BuilderMessage::Block { run, block, directory_ms } => {
                if let Some(segment) = self.open.get_mut(&run) {
                    segment.append(&block, directory_ms);
                }
            }
            BuilderMessage::Close { run, tail } => {
                if let Some(segment) = self.open.remove(&run) {
                    segment.seal(tail);
                }
            }
            BuilderMessage::Pass { run, events, event } => {
                debug_assert!(
                    !self.open.contains_key(&run.id) || matches!(event, SegmentEvent::Fault { .. } | SegmentEvent::Gap(_)),
                    "nothing overtakes a segment"
                );
                send(&events, event);
            }
            BuilderMessage::Drop { run } => {
                self.open.remove(&run);
            }
        }
    }
}

/// The lane has gone if this fails; its run will be dropped soon.
fn send(events: &tokio::sync::mpsc::Sender<SegmentEvent>, event: SegmentEvent) {
    if let Err(tokio::sync::mpsc::error::TrySendError::Full(event)) = events.try_send(event) {
        let _ = events.blocking_send(event);
    }
}

struct OpenSegment {
    head: SegmentHead,
    /// Made when the first block is there, which may choose the encoding.
    encoder: Option<Box<dyn SegmentEncoder>>,
    held: Reservation,
    part: PartBuffer,
    size: u64,
    crc64: u64,
}

impl std::fmt::Debug for OpenSegment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenSegment({:?} from {}, {} bytes)", self.head.run.lane, self.head.start, self.size)
    }
}

impl OpenSegment {
    fn new(head: SegmentHead, budget: &Arc<MemoryBudget>, limits: StoreLimits) -> Self {
        Self { head, encoder: None, held: budget.charge(0), part: PartBuffer::new(budget, limits), size: 0, crc64: 0 }
    }

    fn append(&mut self, block: &Block, directory_ms: Option<i64>) {
        let encoder = self.encoder.get_or_insert_with(|| new_encoder(&self.head, Some(block)));
        encoder.append(block, &mut self.part);
        self.held.set(encoder.held_bytes());
        self.send_full_parts(directory_ms);
    }

    fn send_full_parts(&mut self, directory_ms: Option<i64>) {
        for part in std::mem::take(&mut self.part.ready) {
            self.count(&part);
            send(&self.head.events, SegmentEvent::Part(part, directory_ms));
        }
    }

    fn count(&mut self, part: &BuiltPart) {
        let (len, crc64) = (part.payload.len(), part.payload.crc64());
        self.size += len;
        self.crc64 = checksum_combine(CrcAlgorithm::Crc64Xz, self.crc64, crc64, len);
    }

    fn seal(mut self, tail: SegmentTail) {
        let mut encoder = self.encoder.take().unwrap_or_else(|| new_encoder(&self.head, None));
        let mut proof = encoder.finish(tail.end, &tail.missing, &mut self.part);
        self.held.set(0);
        self.send_full_parts(tail.directory_ms);
        let last_part = self.part.cut();
        self.count(&last_part);
        proof.size = Some(self.size);
        let waiting = self.part.budget.wait_for_store(usize::try_from(self.size).unwrap_or(usize::MAX));
        let sealed = SealedSegment { proof, tail, last_part, crc64: self.crc64, waiting };
        send(&self.head.events, SegmentEvent::Sealed(Box::new(sealed)));
    }
}

fn new_encoder(head: &SegmentHead, first: Option<&Block>) -> Box<dyn SegmentEncoder> {
    segment_encoder(&head.encoding.of_window(first), &head.run.lane, head.start)
}

/// Collects encoded bytes into chunks and parts, and counts them against the budget. Parts are of exactly the size that the store
/// wants: some stores take only equal ones.
struct PartBuffer {
    ready: Vec<BuiltPart>,
    full: Vec<Bytes>,
    open: BytesMut,
    len: u64,
    crc: crc_fast::Digest,
    number: u32,
    limits: StoreLimits,
    budget: Arc<MemoryBudget>,
    reservation: Reservation,
}

impl PartBuffer {
    fn new(budget: &Arc<MemoryBudget>, limits: StoreLimits) -> Self {
        Self {
            ready: Vec::new(),
            full: Vec::new(),
            open: BytesMut::new(),
            len: 0,
            crc: crc_fast::Digest::new(CrcAlgorithm::Crc64Xz),
            number: 1,
            limits,
            budget: Arc::clone(budget),
            reservation: budget.charge(0),
        }
    }

    fn cut(&mut self) -> BuiltPart {
        if !self.open.is_empty() {
            self.full.push(std::mem::take(&mut self.open).freeze());
        }
        self.open = BytesMut::new();
        let crc64 = self.crc.finalize();
        self.len = 0;
        self.number += 1;
        self.crc = crc_fast::Digest::new(CrcAlgorithm::Crc64Xz);
        let payload = Payload::new(std::mem::take(&mut self.full), crc64);
        let reservation = std::mem::replace(&mut self.reservation, self.budget.charge(0));
        BuiltPart { payload, reservation }
    }

    fn next_chunk(&mut self) {
        let last = self.open.capacity();
        if !self.open.is_empty() {
            self.full.push(std::mem::take(&mut self.open).freeze());
        }
        let bytes = if last == 0 { CHUNK_BYTES_FIRST } else { (last * 2).min(CHUNK_BYTES_MAX) };
        self.reservation.set(self.reservation.bytes() + bytes);
        self.open = BytesMut::with_capacity(bytes);
    }
}

impl ByteSink for PartBuffer {
    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.open.len() == self.open.capacity() {
                self.next_chunk();
            }
            let chunk_room = self.open.capacity() - self.open.len();
            let part_room = parts::part_bytes(self.number, &self.limits) - self.len;
            let room = usize::try_from(part_room).map_or(chunk_room, |room| room.min(chunk_room));
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.crc.update(now);
            self.open.extend_from_slice(now);
            self.len += now.len() as u64;
            bytes = later;
            if self.len == parts::part_bytes(self.number, &self.limits) {
                let part = self.cut();
                self.ready.push(part);
            }
        }
    }
}
