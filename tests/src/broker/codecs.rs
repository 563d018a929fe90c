//! Compression as producers of different kinds write it.
//!
//! Place in the flow: [`batches`](super::batches) compresses the records of a batch, or the inner messages of an old wrapper message.
//! What it does not do: decompress. The client under test does.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use lz4_flex::frame::{FrameEncoder, FrameInfo};

/// How a batch is compressed, and in which dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// A gzip member.
    Gzip,
    /// One raw Snappy block, as librdkafka and Go clients send it.
    Snappy,
    /// Blocks of 32 KiB in the frame of snappy-java, as the Java client sends it.
    SnappyJava,
    /// An LZ4 frame.
    Lz4,
    /// An LZ4 frame whose header checksum covers the magic number too: the mistake of Kafka before 0.10, kept for message format 0.
    Lz4Old,
    /// A zstd frame.
    Zstd,
}

impl Codec {
    /// The number in a batch's attributes.
    pub fn number(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy | Self::SnappyJava => 2,
            Self::Lz4 | Self::Lz4Old => 3,
            Self::Zstd => 4,
        }
    }

    /// The name in a cell's id.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::SnappyJava => "snappy-java",
            Self::Lz4 | Self::Lz4Old => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Compresses.
    pub fn compress(self, bytes: &[u8]) -> Vec<u8> {
        const WORKS: &str = "compressing into memory works";
        match self {
            Self::None => bytes.to_vec(),
            Self::Gzip => {
                let mut gzip = GzEncoder::new(Vec::new(), Compression::new(6));
                gzip.write_all(bytes).and_then(|()| gzip.finish()).expect(WORKS)
            }
            Self::Snappy => snap::raw::Encoder::new().compress_vec(bytes).expect(WORKS),
            Self::SnappyJava => snappy_java(bytes),
            Self::Lz4 => lz4_frame(bytes),
            Self::Lz4Old => {
                let mut frame = lz4_frame(bytes);
                let descriptor_end = LZ4_MAGIC_BYTES + LZ4_DESCRIPTOR_BYTES;
                frame[descriptor_end] = xxh32_short(&frame[..descriptor_end]).to_le_bytes()[1];
                frame
            }
            Self::Zstd => zstd::bulk::compress(bytes, 1).expect(WORKS),
        }
    }
}

/// Bytes of the magic number of an LZ4 frame.
const LZ4_MAGIC_BYTES: usize = 4;

/// Bytes of the descriptor of a frame without a content size: flags and block descriptor.
const LZ4_DESCRIPTOR_BYTES: usize = 2;

fn lz4_frame(bytes: &[u8]) -> Vec<u8> {
    let mut frame = FrameEncoder::with_frame_info(FrameInfo::new(), Vec::new());
    frame.write_all(bytes).expect("compressing into memory works");
    frame.finish().expect("compressing into memory works")
}

fn snappy_java(bytes: &[u8]) -> Vec<u8> {
    let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for chunk in bytes.chunks(32 << 10) {
        let block = snap::raw::Encoder::new().compress_vec(chunk).expect("compressing into memory works");
        framed.extend_from_slice(&u32::try_from(block.len()).expect("a block is small").to_be_bytes());
        framed.extend_from_slice(&block);
    }
    framed
}

/// xxHash-32 with seed 0 of less than 16 bytes, which is all that a frame's header needs.
fn xxh32_short(bytes: &[u8]) -> u32 {
    const PRIMES: [u32; 5] = [2_654_435_761, 2_246_822_519, 3_266_489_917, 668_265_263, 374_761_393];
    assert!(bytes.len() < 16, "longer inputs have another form");
    let length = u32::try_from(bytes.len()).expect("less than 16");
    let mut hash = PRIMES[4].wrapping_add(length);
    let mut words = bytes.chunks_exact(4);
    for word in words.by_ref() {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        hash = hash.wrapping_add(word.wrapping_mul(PRIMES[2])).rotate_left(17).wrapping_mul(PRIMES[3]);
    }
    for byte in words.remainder() {
        hash = hash.wrapping_add(u32::from(*byte).wrapping_mul(PRIMES[4])).rotate_left(11).wrapping_mul(PRIMES[0]);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(PRIMES[1]);
    hash = (hash ^ (hash >> 13)).wrapping_mul(PRIMES[2]);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_checksum_of_a_frame_is_what_the_hash_gives() {
        let frame = lz4_frame(b"some bytes, some bytes, some bytes");
        let descriptor = &frame[LZ4_MAGIC_BYTES..LZ4_MAGIC_BYTES + LZ4_DESCRIPTOR_BYTES];
        assert_eq!(frame[LZ4_MAGIC_BYTES + LZ4_DESCRIPTOR_BYTES], xxh32_short(descriptor).to_le_bytes()[1]);
        assert_eq!(xxh32_short(b""), 0x02cc_5d05, "the specification's own value");
    }

    #[test]
    fn the_old_frame_differs_in_its_header_checksum_alone() {
        let (new, old) = (Codec::Lz4.compress(b"abcabcabc"), Codec::Lz4Old.compress(b"abcabcabc"));
        let differing: Vec<usize> = (0..new.len()).filter(|at| new[*at] != old[*at]).collect();
        assert_eq!(differing, [LZ4_MAGIC_BYTES + LZ4_DESCRIPTOR_BYTES]);
    }
}
