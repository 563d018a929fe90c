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
    /// One frame with its content size and without a checksum. zstd promises that a context that was used before gives the
    /// same bytes as a fresh one; `a_used_context_gives_the_same_bytes` holds it to that.
    fn zstd(&mut self, level: u8, input: &[u8]) {
        if self.zstd.as_ref().is_none_or(|(l, _)| *l != level) {
            self.zstd = Some((level, Compressor::new(i32::from(level)).expect("levels from 1 to 22 are valid")));
        }
        let (_, context) = self.zstd.as_mut().expect("set above");
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
