//! `stages NAME RECORD_BYTES`: one stage of the byte path, once, on records of that size; without arguments the names. Callgrind counts what happens within [`counted`]:
//! `benches/tests/instructions.rs`.

use std::process::ExitCode;

use catchment_benches::stages::{LastPiece, blocks, compress, encode, push, values};
use catchment_formats::{Block, Encoding, ValueLayout};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Framed bytes in a sample: some blocks, and a second or two under Callgrind.
const SAMPLE_BYTES: usize = 4 << 20;

const PUSH: &str = "push";

const COMPRESS: &str = "zstd1";

/// The stage itself, without what is prepared for it. A function of its own, by whose name Callgrind is told when to count.
#[inline(never)]
fn counted(stage: &mut dyn FnMut()) {
    stage();
}

fn run(name: &str, record_bytes: usize) -> Result<(), String> {
    let values = values(record_bytes, SAMPLE_BYTES);
    match name {
        PUSH => {
            let mut block = Block::new(ValueLayout::Plain);
            counted(&mut || push(&mut block, &values));
        }
        COMPRESS => {
            let blocks = blocks(&values, ValueLayout::Plain);
            counted(&mut || compress(&blocks));
        }
        text => {
            let encoding: Encoding = text.parse().map_err(|e| format!("{text} is no stage: {e}"))?;
            let (blocks, mut sink) = (blocks(&values, encoding.value_layout()), LastPiece::default());
            counted(&mut || encode(&encoding, &blocks, &mut sink));
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match &arguments[..] {
        [name, bytes] => bytes.parse().map_err(|e| format!("{bytes} is no size: {e}")).and_then(|bytes| run(name, bytes)),
        _ => Err(format!("stages NAME RECORD_BYTES, where NAME is {PUSH}, {COMPRESS}, or an encoding such as parquet.zstd1.v1")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}
