//! The footer: schema, row groups, key-values.

use super::chunk::ChunkMeta;
use super::schema::{ELEMENTS, LEAVES, OFFSET, Physical};
use super::thrift::StructWriter;
use crate::encoder::Codec;
use crate::proof::Proof;

/// `created_by` of every object of format version 1, in the form that other readers parse. Part of the format: it names the
/// version of the format, never of the program.
pub(crate) const CREATED_BY: &str = "catchment version 1.0.0 (build parquet.v1)";

/// Parquet's four bytes at both ends of a file.
pub(crate) const MAGIC: &[u8; 4] = b"PAR1";

/// Footer key of the proof.
pub(crate) const PROOF_KEY: &str = "catchment.proof";

/// Consumers read committed records only; aborted ones are never in an object.
const ISOLATION: &str = "read_committed";

/// One finished row group.
#[derive(Debug)]
pub(crate) struct RowGroup {
    pub(crate) rows: u64,
    pub(crate) chunks: [ChunkMeta; LEAVES.len()],
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).expect("an object is smaller than 8 EiB")
}

fn codec_number(codec: Codec) -> i32 {
    match codec {
        Codec::None => 0,
        Codec::Gzip(_) => 2,
        Codec::Zstd(_) => 6,
    }
}

/// Appends the footer, its length and the closing magic to `out`.
pub(crate) fn write_footer(out: &mut Vec<u8>, codec: Codec, groups: &[RowGroup], proof: &Proof) {
    let start = out.len();
    let mut file = StructWriter::new(out);
    file.i32(1, 2);
    file.struct_list(2, &ELEMENTS, |to, element| element.write(to));
    file.i64(3, signed(groups.iter().map(|g| g.rows).sum()));
    let numbered: Vec<_> = groups.iter().enumerate().collect();
    file.struct_list(4, &numbered, |to, (i, group)| write_group(to, *i, group, codec));
    file.struct_list(5, &key_values(proof), |to, (key, value)| {
        to.binary(1, key.as_bytes()).binary(2, value.as_bytes());
    });
    file.binary(6, CREATED_BY.as_bytes());
    // Every column sorts by its type's own order; without this, readers ignore min and max.
    file.struct_list(7, &LEAVES, |to, _| _ = to.nested(1, |_| {}));
    file.end();
    let len = u32::try_from(out.len() - start).expect("a footer is smaller than 4 GiB");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(MAGIC);
}

fn write_group(to: &mut StructWriter<'_>, ordinal: usize, group: &RowGroup, codec: Codec) {
    let numbered: Vec<_> = group.chunks.iter().enumerate().collect();
    to.struct_list(1, &numbered, |to, (leaf, chunk)| {
        to.i64(2, 0).nested(3, |meta| write_chunk(meta, *leaf, chunk, codec));
    });
    to.i64(2, signed(group.chunks.iter().map(|c| c.plain_bytes).sum()));
    to.i64(3, signed(group.rows));
    to.struct_list(4, &[OFFSET as i32], |to, column| {
        to.i32(1, *column).bool(2, false).bool(3, false);
    });
    to.i64(5, signed(group.chunks[0].at));
    to.i64(6, signed(group.chunks.iter().map(|c| c.bytes).sum()));
    // The ordinal is an i16 and optional; the object goes on without it after 32,767 row groups.
    if let Ok(ordinal) = i16::try_from(ordinal) {
        to.i16(7, ordinal);
    }
}

fn write_chunk(to: &mut StructWriter<'_>, leaf: usize, chunk: &ChunkMeta, codec: Codec) {
    let column = &LEAVES[leaf];
    to.i32(1, column.physical as i32);
    to.i32_list(2, &[column.physical.encoding(), super::schema::ENCODING_RLE]);
    to.string_list(3, column.path);
    to.i32(4, codec_number(codec));
    to.i64(5, signed(chunk.values));
    to.i64(6, signed(chunk.plain_bytes));
    to.i64(7, signed(chunk.bytes));
    to.i64(9, signed(chunk.at));
    to.nested(12, |stats| {
        stats.i64(3, signed(chunk.nulls));
        if let Some((min, max)) = chunk.range {
            debug_assert_eq!(column.physical, Physical::Int64, "only 64-bit columns keep a range");
            stats.binary(5, &max.to_le_bytes()).binary(6, &min.to_le_bytes());
        }
    });
}

/// The footer's key-values: the proof as one JSON text, and its parts in plain words for people and for readers without JSON.
fn key_values(proof: &Proof) -> Vec<(&'static str, String)> {
    let json = |value: Result<String, serde_json::Error>| value.expect("plain data has a JSON form");
    vec![
        (PROOF_KEY, proof.to_json_without_size()),
        ("catchment.topic", proof.lane.topic.clone()),
        ("catchment.topic_id", proof.lane.topic_id.clone()),
        ("catchment.partition", proof.lane.partition.to_string()),
        ("catchment.start", proof.range.start.to_string()),
        ("catchment.end", proof.range.end.to_string()),
        ("catchment.missing", json(serde_json::to_string(&proof.missing))),
        ("catchment.isolation", ISOLATION.to_owned()),
        ("catchment.counts", json(serde_json::to_string(&proof.counts))),
        ("catchment.digest", proof.digest.to_string()),
        ("catchment.encoding", proof.encoding.clone()),
    ]
}
