//! What a footer claims, checked before the `parquet` crate makes room by it.
//!
//! A row group of ours is bounded (`ROW_GROUP_VALUE_BYTES` and its neighbours) but for the record that reaches a bound. What is far beyond
//! that is none of ours, and would take memory out of all proportion to the object's bytes.

use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::ChunkReader;

use super::decode::{corrupt, from_parquet};
use super::footer::MAGIC;
use super::schema::LEAVES;
use super::shape::check_footer_shape;
use super::{FOOTER_BYTES_MAX, ROW_GROUP_ROWS};
use crate::error::FormatError;

/// Most bytes of a row group once it is decompressed. The bounds of the encoder leave room for a record of 150 MiB beside a full row group;
/// Kafka's brokers refuse requests over 100 MiB by default.
const GROUP_BYTES_MAX: u64 = 256 << 20;

/// Most headers in a row group: 16 MiB of the shortest ones are 2 Mi. Each takes 72 bytes while it is decoded.
const HEADERS_MAX: u64 = 4 << 20;

/// Checks the footer at an object's end.
///
/// # Errors
/// If there is none, or its schema is none that can be decoded safely.
pub(super) fn check_footer<R: ChunkReader>(object: &R) -> Result<(), FormatError> {
    let short = || corrupt("too short for a Parquet file");
    let end = object.len().checked_sub(8).ok_or_else(short)?;
    let trailer = object.get_bytes(end, 8).map_err(from_parquet)?;
    let len = u64::from(footer_len(&trailer)?);
    let at = end.checked_sub(len).ok_or_else(short)?;
    check_footer_shape(&object.get_bytes(at, len as usize).map_err(from_parquet)?)
}

/// Length of the footer, from the bytes that end a file.
pub(super) fn footer_len(tail: &[u8]) -> Result<u32, FormatError> {
    let (rest, magic) = tail.split_last_chunk::<4>().ok_or_else(|| corrupt("too short for a Parquet file"))?;
    let (_, len) = rest.split_last_chunk::<4>().ok_or_else(|| corrupt("too short for a Parquet file"))?;
    if magic != MAGIC {
        return Err(corrupt("not the end of a Parquet file"));
    }
    let len = u32::from_le_bytes(*len);
    if u64::from(len) > FOOTER_BYTES_MAX { Err(corrupt(format!("a footer of {len} bytes"))) } else { Ok(len) }
}

/// Checks the sizes of a row group.
///
/// # Errors
/// If they are none that an object of ours has.
pub(super) fn check_group(group: &RowGroupMetaData) -> Result<(), FormatError> {
    let rows = u64::try_from(group.num_rows()).ok().filter(|rows| *rows <= ROW_GROUP_ROWS);
    let rows = rows.ok_or_else(|| corrupt(format!("a row group of {} rows", group.num_rows())))?;
    let bytes = group.columns().iter().try_fold(0_u64, |sum, chunk| sum.checked_add(u64::try_from(chunk.uncompressed_size()).ok()?));
    if bytes.is_none_or(|bytes| bytes > GROUP_BYTES_MAX) {
        return Err(corrupt(format!("a row group of more than {GROUP_BYTES_MAX} bytes")));
    }
    for (chunk, leaf) in group.columns().iter().zip(&LEAVES) {
        let headers = if leaf.repetition_max > 0 { HEADERS_MAX } else { 0 };
        if u64::try_from(chunk.num_values()).is_ok_and(|values| values > rows + headers) {
            return Err(corrupt(format!("{} values in a row group of {rows} rows", chunk.num_values())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaDataReader};

    use super::super::schema::{HEADER_KEY, HEADER_VALUE, VALUE};
    use super::*;
    use crate::encoder::Encoding;
    use crate::testing::{encode_full, oddities};

    /// The row group of a sound object, with one column's claims changed.
    fn group_with(leaf: usize, change: impl Fn(&ColumnChunkMetaData) -> ColumnChunkMetaData) -> RowGroupMetaData {
        let (bytes, _) = encode_full(&Encoding::PARQUET_ZSTD1, &oddities());
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(bytes)).expect("a footer");
        let group = metadata.row_group(0).clone();
        let mut columns = group.columns().to_vec();
        columns[leaf] = change(&columns[leaf]);
        group.into_builder().set_column_metadata(columns).build().expect("a row group")
    }

    #[test]
    fn a_row_group_that_none_of_ours_has_is_refused() {
        let sound = group_with(VALUE, Clone::clone);
        assert!(check_group(&sound).is_ok());
        let rows = sound.num_rows();
        for (claimed, fits) in [(ROW_GROUP_ROWS as i64, true), (ROW_GROUP_ROWS as i64 + 1, false), (-1, false)] {
            let group = sound.clone().into_builder().set_num_rows(claimed).build().expect("a row group");
            assert_eq!(check_group(&group).is_ok(), fits, "{claimed} rows");
        }
        let values =
            |leaf, values| group_with(leaf, move |chunk| chunk.clone().into_builder().set_num_values(values).build().expect("a chunk"));
        for leaf in [HEADER_KEY, HEADER_VALUE] {
            assert!(check_group(&values(leaf, rows + HEADERS_MAX as i64)).is_ok());
            assert!(check_group(&values(leaf, rows + HEADERS_MAX as i64 + 1)).is_err(), "runs of null headers take no bytes");
        }
        assert!(check_group(&values(VALUE, rows + 1)).is_err(), "more values than rows");
        for bytes in [GROUP_BYTES_MAX as i64, i64::MAX, -1] {
            let large =
                |chunk: &ColumnChunkMetaData| chunk.clone().into_builder().set_total_uncompressed_size(bytes).build().expect("a chunk");
            assert!(check_group(&group_with(VALUE, large)).is_err(), "{bytes} bytes in one of ten columns");
        }
    }

    #[test]
    fn a_footer_larger_than_any_is_refused() {
        let tail = |len: u32| [&len.to_le_bytes()[..], MAGIC].concat();
        assert_eq!(footer_len(&tail(64 << 20)).unwrap(), 64 << 20);
        assert!(footer_len(&tail((64 << 20) + 1)).is_err() && footer_len(b"PAR1").is_err() && footer_len(b"\0\0\0\0PAR2").is_err());
    }
}
