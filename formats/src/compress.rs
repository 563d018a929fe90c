//! Compression of one page or frame at a time.
//!
//! Place in the flow: encoders hand in finished pages and frames and get bytes that are a function of the input, the codec and
//! the level alone. Contexts and output memory belong to the thread, not to the object: a process may have thousands of
//! windows open, and a context is larger than most of them.

use std::cell::RefCell;

use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::bulk::Compressor;

use crate::encoder::Codec;

/// Output memory that a thread keeps between pages. Larger than the bound of a 1 MiB page, so that only pages with a large
/// record allocate; what such a page took is given back at once.
const OUTPUT_KEPT_BYTES: usize = 4 << 20;

#[derive(Default)]
struct Scratch {
    zstd: Option<(u8, Compressor<'static>)>,
    gzip: Option<(u8, Compress)>,
    output: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Compresses `input` as one zstd frame or one gzip member and hands the result to `then`. Without a codec, `then` gets the
/// input itself. `then` must not compress.
pub(crate) fn compressed<T>(codec: Codec, input: &[u8], then: impl FnOnce(&[u8]) -> T) -> T {
    if codec == Codec::None {
        return then(input);
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.output.clear();
        match codec {
            Codec::None => unreachable!("handled above"),
            Codec::Zstd(level) => scratch.zstd(level, input),
            Codec::Gzip(level) => scratch.gzip(level, input),
        }
        let result = then(&scratch.output);
        if scratch.output.capacity() > OUTPUT_KEPT_BYTES {
            scratch.output = Vec::new();
        }
        result
    })
}

impl Scratch {
    /// One frame with its content size and without a checksum. zstd promises that a context that was used before, also at another level, gives
    /// the same bytes as a fresh one; `a_used_context_gives_the_same_bytes` and `a_context_that_was_used_at_other_levels_gives_the_same_bytes` hold it to that.
    fn zstd(&mut self, level: u8, input: &[u8]) {
        const VALID: &str = "levels from 1 to 22 are valid";
        let (set, context) = self.zstd.get_or_insert_with(|| (level, Compressor::new(i32::from(level)).expect(VALID)));
        if *set != level {
            // Lanes of one thread may have different levels; the context's memory is used again.
            context.set_compression_level(i32::from(level)).expect(VALID);
            *set = level;
        }
        self.output.reserve(zstd::zstd_safe::compress_bound(input.len()));
        context.compress_to_buffer(input, &mut self.output).expect("the output has the bound's size");
    }

    /// One member with an empty header: no time, no name, unknown operating system.
    fn gzip(&mut self, level: u8, input: &[u8]) {
        if self.gzip.as_ref().is_none_or(|(l, _)| *l != level) {
            self.gzip = Some((level, Compress::new(Compression::new(u32::from(level)), false)));
        }
        let (_, context) = self.gzip.as_mut().expect("set above");
        context.reset();
        self.output.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
        // Deflate adds at most an eighth and a few bytes; with that much room, one call does everything.
        self.output.reserve(input.len() + input.len() / 7 + 256);
        loop {
            let consumed = usize::try_from(context.total_in()).expect("a page fits in memory");
            match context.compress_vec(&input[consumed..], &mut self.output, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => break,
                Ok(_) => self.output.reserve(input.len() / 8 + 256),
                Err(e) => unreachable!("deflate refuses no input: {e}"),
            }
        }
        let mut crc = flate2::Crc::new();
        crc.update(input);
        self.output.extend_from_slice(&crc.sum().to_le_bytes());
        self.output.extend_from_slice(&(input.len() as u32).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::testing::json;

    fn bytes_of(codec: Codec, input: &[u8]) -> Vec<u8> {
        compressed(codec, input, <[u8]>::to_vec)
    }

    fn with_fresh_contexts<T: Send>(run: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(run).join().expect("the thread does not panic"))
    }

    fn noise(len: usize) -> Vec<u8> {
        (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect()
    }

    fn codecs() -> impl Iterator<Item = Codec> {
        (1..=22).map(Codec::Zstd).chain((1..=9).map(Codec::Gzip))
    }

    #[test]
    fn a_used_context_gives_the_same_bytes() {
        let (page, other) = (json(1, 200_000), [json(2, 250_000), noise(1000), json(1, 90_000)].concat());
        for codec in codecs() {
            let fresh = with_fresh_contexts(|| bytes_of(codec, &page));
            let used = with_fresh_contexts(|| {
                bytes_of(codec, &other);
                bytes_of(codec, &[]);
                bytes_of(codec, &page);
                bytes_of(codec, &other[..1000]);
                bytes_of(codec, &page)
            });
            assert!(fresh == used, "{codec:?}: the context's past shows in the bytes");
        }
    }

    #[test]
    fn a_context_that_was_used_at_other_levels_gives_the_same_bytes() {
        let (page, other) = (json(1, 100_000), [json(2, 250_000), noise(1000), json(1, 90_000)].concat());
        for codec in (1..=22).map(Codec::Zstd) {
            let fresh = with_fresh_contexts(|| bytes_of(codec, &page));
            with_fresh_contexts(|| {
                for before in [1, 9, 3, 2].map(Codec::Zstd) {
                    bytes_of(before, &other);
                    bytes_of(before, &page);
                    assert!(fresh == bytes_of(codec, &page), "{codec:?}: the context's past at {before:?} shows in the bytes");
                }
            });
        }
    }

    #[test]
    fn everything_decompresses() {
        for codec in codecs() {
            for input in [Vec::new(), vec![0; 100_000], noise(300_000), json(3, 100_000)] {
                let bytes = bytes_of(codec, &input);
                let again = match codec {
                    Codec::None => bytes,
                    Codec::Zstd(_) => zstd::bulk::decompress(&bytes, input.len()).expect("a frame"),
                    Codec::Gzip(_) => {
                        let mut out = Vec::new();
                        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut out).expect("a member");
                        out
                    }
                };
                assert!(again == input, "{codec:?}");
            }
        }
    }
}
