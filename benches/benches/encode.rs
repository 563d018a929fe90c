//! What a record costs in the formats, beside what zstd alone costs on the same bytes.
//!
//! `push` copies records into a block; `parquet` and `raw` encode full blocks into a sink that keeps the last bytes only;
//! `zstd` compresses the same framed bytes block by block and does nothing else. Figures are per record; judge by the ratio of
//! `parquet` to `zstd` in one run, for the times themselves move with the machine.

use std::hint::black_box;

use catchment_formats::{Block, ByteSink, Encoding, HeadersView, LaneId, RecordView, TimestampType, ValueLayout, segment_encoder};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Framed bytes in a sample: more than the caches hold, less than a row group.
const SAMPLE_BYTES: usize = 32 << 20;

/// Keeps the memory of the largest piece and nothing else.
#[derive(Default)]
struct LastPiece(Vec<u8>);

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

fn values(len: usize) -> Vec<Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    (0..SAMPLE_BYTES / (len + 4)).map(|_| json(&mut state, len)).collect()
}

fn push(block: &mut Block, offset: usize, value: &[u8]) {
    block.push(&RecordView {
        offset: offset as i64,
        timestamp: 1_700_000_000_000 + (offset as i64) / 3,
        timestamp_type: TimestampType::Create,
        key: None,
        value: Some(value),
        headers: HeadersView::default(),
    });
}

fn blocks(values: &[Vec<u8>], layout: ValueLayout) -> Vec<Block> {
    let mut all = vec![Block::new(layout)];
    for (offset, value) in values.iter().enumerate() {
        if all.last().expect("a block").is_full() {
            all.push(Block::new(layout));
        }
        push(all.last_mut().expect("a block"), offset, value);
    }
    all
}

fn lane() -> LaneId {
    LaneId { rule: "bench".into(), cluster: "bench".into(), topic: "bench".into(), topic_id: "0".into(), partition: 0 }
}

fn encode(encoding: &Encoding, blocks: &[Block], sink: &mut LastPiece) {
    let mut encoder = segment_encoder(encoding, &lane(), 0);
    for block in blocks {
        encoder.append(block, sink);
    }
    let end = blocks.last().and_then(|b| b.offsets().last()).map_or(0, |last| last + 1);
    black_box(encoder.finish(end, &[], sink));
}

fn size(c: &mut Criterion, name: &str, len: usize) {
    let values = values(len);
    let mut group = c.benchmark_group(name);
    group.sample_size(10).throughput(Throughput::Elements(values.len() as u64));

    group.bench_function("push", |b| {
        let mut block = Block::new(ValueLayout::Plain);
        b.iter(|| {
            block.reset(ValueLayout::Plain);
            for (offset, value) in values.iter().enumerate() {
                push(&mut block, offset, value);
                if block.is_full() {
                    black_box(&block);
                    block.reset(ValueLayout::Plain);
                }
            }
        });
    });

    let mut sink = LastPiece::default();
    for text in ["parquet.none.v1", "parquet.zstd1.v1", "raw.len32.zstd1.v1"] {
        let encoding: Encoding = text.parse().expect("a known encoding");
        let blocks = blocks(&values, encoding.value_layout());
        group.bench_function(text, |b| b.iter(|| encode(&encoding, &blocks, &mut sink)));
    }

    let blocks = blocks(&values, ValueLayout::Plain);
    group.bench_function("zstd1", |b| {
        let mut compressor = zstd::bulk::Compressor::new(1).expect("a level");
        let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(2 << 20));
        b.iter(|| {
            for block in &blocks {
                out.clear();
                compressor.compress_to_buffer(block.values(), &mut out).expect("room for the bound");
                black_box(&out);
            }
        });
    });
    group.finish();
}

fn encode_benches(c: &mut Criterion) {
    size(c, "100 B", 100);
    size(c, "1 KB", 1000);
    size(c, "10 KB", 10_000);
}

criterion_group!(benches, encode_benches);
criterion_main!(benches);
