//! What a record costs in the formats, beside what zstd alone costs on the same bytes.
//!
//! `push` copies records into a block; `parquet` and `raw` encode full blocks into a sink that keeps the last bytes only;
//! `zstd` compresses the same framed bytes block by block and does nothing else. Figures are per record; judge by the ratio of
//! `parquet` to `zstd` in one run, for the times themselves move with the machine. What is done is `stages.rs`'s.

use catchment_benches::stages::{LastPiece, blocks, compress, encode, push, values};
use catchment_formats::{Block, Encoding, ValueLayout};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Framed bytes in a sample: more than the caches hold, less than a row group.
const SAMPLE_BYTES: usize = 32 << 20;

fn size(c: &mut Criterion, name: &str, len: usize) {
    let values = values(len, SAMPLE_BYTES);
    let mut group = c.benchmark_group(name);
    group.sample_size(10).throughput(Throughput::Elements(values.len() as u64));
    let mut block = Block::new(ValueLayout::Plain);
    group.bench_function("push", |b| b.iter(|| push(&mut block, &values)));
    let mut sink = LastPiece::default();
    for text in ["parquet.none.v1", "parquet.zstd1.v1", "raw.len32.zstd1.v1"] {
        let encoding: Encoding = text.parse().expect("a known encoding");
        let blocks = blocks(&values, encoding.value_layout());
        group.bench_function(text, |b| b.iter(|| encode(&encoding, &blocks, &mut sink)));
    }
    let blocks = blocks(&values, ValueLayout::Plain);
    group.bench_function("zstd1", |b| b.iter(|| compress(&blocks)));
    group.finish();
}

fn encode_benches(c: &mut Criterion) {
    size(c, "100 B", 100);
    size(c, "1 KB", 1000);
    size(c, "10 KB", 10_000);
}

criterion_group!(benches, encode_benches);
criterion_main!(benches);
