//! Pages of one column, compressed, and what the footer must say of them.

use crc_fast::CrcAlgorithm;

use super::schema::{ENCODING_RLE, LEAVES};
use super::thrift::StructWriter;
use crate::compress::compressed;
use crate::encoder::Codec;

/// What the footer says of one column chunk.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChunkMeta {
    /// Where the first page begins in the object.
    pub(crate) at: u64,
    /// Levels in all pages: rows, or for a list its elements and nulls.
    pub(crate) values: u64,
    /// Levels without a value.
    pub(crate) nulls: u64,
    /// Bytes of all pages, headers included, before compression.
    pub(crate) plain_bytes: u64,
    /// Bytes of all pages, headers included.
    pub(crate) bytes: u64,
    /// Smallest and largest integer, for the columns that keep them.
    pub(crate) range: Option<(i64, i64)>,
}

impl ChunkMeta {
    /// Widens the range to hold `min` and `max`.
    pub(crate) fn widen(&mut self, min: i64, max: i64) {
        let (from, to) = self.range.unwrap_or((min, max));
        self.range = Some((from.min(min), to.max(max)));
    }

    /// Compresses one v1 data page and hands its header and body to `put`.
    ///
    /// # Panics
    /// If the page has 2 GiB or more, which Parquet cannot say. A Kafka record that large cannot be produced.
    pub(crate) fn write_page(&mut self, leaf: usize, codec: Codec, page: &[u8], values: u64, put: &mut dyn FnMut(&[u8])) {
        let plain_len = i32::try_from(page.len()).expect("a page is smaller than 2 GiB");
        compressed(codec, page, |body| {
            let mut header = Vec::with_capacity(64);
            let mut to = StructWriter::new(&mut header);
            to.i32(1, 0).i32(2, plain_len).i32(3, i32::try_from(body.len()).expect("a page is smaller than 2 GiB"));
            to.i32(4, (crc_fast::checksum(CrcAlgorithm::Crc32IsoHdlc, body) as u32).cast_signed());
            to.nested(5, |data| {
                data.i32(1, i32::try_from(values).expect("pages are cut by rows and bytes"));
                data.i32(2, LEAVES[leaf].physical.encoding()).i32(3, ENCODING_RLE).i32(4, ENCODING_RLE);
            });
            to.end();
            put(&header);
            put(body);
            self.values += values;
            self.plain_bytes += (header.len() + page.len()) as u64;
            self.bytes += (header.len() + body.len()) as u64;
        });
    }
}
