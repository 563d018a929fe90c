//! Parquet, one row a record.
//!
//! Place in the flow: [`ParquetEncoder`] turns blocks into an object, [`ParquetDecoder`] turns an object into blocks again.
//! Everything that is written (pages, page headers, footer) is written by this module, so that an object's bytes are a
//! function of its format version and never of a library's. Reading goes through the `parquet` crate, which thereby checks
//! what was written. `docs/FORMATS.md` is the byte-level description.

mod chunk;
mod claims;
mod columns;
mod compact;
mod cursor;
mod decode;
mod delta;
mod encode;
mod footer;
mod levels;
mod pages;
mod rows;
mod schema;
mod shape;
mod side;
mod thrift;

#[cfg(test)]
mod tests;

pub use decode::{FirstGroup, ParquetDecoder, TailProof, first_group_from_tail, read_proof, read_proof_from_tail};
pub use encode::ParquetEncoder;

/// Longest footer that is read. One takes about 2 KB for each row group, so this is enough for 2 TiB; what the `parquet` crate makes of
/// a footer takes several times its bytes.
pub const FOOTER_BYTES_MAX: u64 = 64 << 20;

/// PLAIN value bytes after which a row group ends, with the value page that reaches them. Smaller row groups cost footer
/// bytes and read requests; larger ones cost readers memory and parallelism.
pub const ROW_GROUP_VALUE_BYTES: u64 = 64 << 20;

/// Rows that a row group never exceeds.
pub const ROW_GROUP_ROWS: u64 = 1 << 20;

/// Bytes of keys and canonical headers after which a row group ends, with the record that reaches them. These columns wait in
/// memory until the row group ends, so this bounds what an open window holds; smaller would cut topics with large keys into
/// needlessly small row groups.
pub const ROW_GROUP_SIDE_BYTES: u64 = 16 << 20;

/// The last millisecond of year 9999. Readers in Python fail on timestamps after it, so they are kept in the raw column.
pub const TIMESTAMP_MAX: i64 = 253_402_300_799_999;
