//! The stages of the byte path behind the client, each on the same records every time: what the criterion bench times, and what is counted in instructions.
//!
//! Place in the flow: a record is pushed into a block, full blocks are encoded into an object. Guarantees: equal calls do equal work, whatever the machine. Does not:
//! touch Kafka or a store; these are other processes' and other crates' work.

use std::hint::black_box;

use catchment_formats::{Block, ByteSink, Encoding, HeadersView, LaneId, RecordView, TimestampType, ValueLayout, segment_encoder};

/// Keeps the memory of the largest piece and nothing else.
#[derive(Debug, Default)]
pub struct LastPiece(Vec<u8>);

impl ByteSink for LastPiece {
    fn put(&mut self, bytes: &[u8]) {
        self.0.clear();
        self.0.extend_from_slice(bytes);
    }
}

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// A JSON document of exactly `len` bytes: numbers, identifiers and words, about as compressible as real events.
fn json(state: &mut u64, len: usize) -> Vec<u8> {
    const WORDS: [&str; 8] = ["created", "paid", "shipped", "returned", "cancelled", "pending", "guangzhou", "shanghai"];
    let mut out = format!("{{\"ts\":{},\"events\":[", 1_700_000_000_000_u64 + xorshift(state) % 86_400_000).into_bytes();
    while out.len() < len {
        let (n, word) = (xorshift(state), WORDS[(xorshift(state) % 8) as usize]);
        out.extend_from_slice(format!("{{\"id\":\"{:x}\",\"n\":{},\"state\":\"{word}\"}},", n >> 24, n % 10_000).as_bytes());
    }
    out.truncate(len);
    out
}

/// Values of `len` bytes, which take `sample_bytes` together as they are framed.
pub fn values(len: usize, sample_bytes: usize) -> Vec<Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    (0..sample_bytes / (len + 4)).map(|_| json(&mut state, len)).collect()
}

fn push_one(block: &mut Block, offset: usize, value: &[u8]) {
    block.push(&RecordView {
        offset: offset as i64,
        timestamp: 1_700_000_000_000 + (offset as i64) / 3,
        timestamp_type: TimestampType::Create,
        key: None,
        value: Some(value),
        headers: HeadersView::default(),
    });
}

/// Full blocks of these values.
pub fn blocks(values: &[Vec<u8>], layout: ValueLayout) -> Vec<Block> {
    let mut all = vec![Block::new(layout)];
    for (offset, value) in values.iter().enumerate() {
        if all.last().is_some_and(Block::is_full) {
            all.push(Block::new(layout));
        }
        if let Some(block) = all.last_mut() {
            push_one(block, offset, value);
        }
    }
    all
}

/// Copies the values into one block again and again.
pub fn push(block: &mut Block, values: &[Vec<u8>]) {
    block.reset(ValueLayout::Plain);
    for (offset, value) in values.iter().enumerate() {
        push_one(block, offset, value);
        if block.is_full() {
            black_box(&block);
            block.reset(ValueLayout::Plain);
        }
    }
}

/// Encodes blocks into an object.
pub fn encode(encoding: &Encoding, blocks: &[Block], sink: &mut LastPiece) {
    let lane = LaneId { rule: "bench".into(), cluster: "bench".into(), topic: "bench".into(), topic_id: "0".into(), partition: 0 };
    let mut encoder = segment_encoder(encoding, &lane, 0);
    for block in blocks {
        encoder.append(block, sink);
    }
    let end = blocks.last().and_then(|b| b.offsets().last()).map_or(0, |last| last + 1);
    black_box(encoder.finish(end, &[], sink));
}

/// Compresses what blocks hold, and does nothing else.
pub fn compress(blocks: &[Block]) {
    let mut compressor = zstd::bulk::Compressor::new(1).expect("a level that zstd has");
    let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(2 << 20));
    for block in blocks {
        out.clear();
        compressor.compress_to_buffer(block.values(), &mut out).expect("room for the bound");
        black_box(&out);
    }
}
