//! The Parquet encoder against its decoder, against the `parquet` crate's Arrow reader, and against itself.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int32Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::prelude::*;

use super::*;
use crate::testing::{CountingSink, Record, batchings, conforms, encode, encode_full, encodings, json, lane, oddities, records};
use crate::{Block, Codec, DigestBuilder, Encoding, Format, FormatError, GapCause, Missing, SegmentEncoder, TimestampType, ValueLayout};

const ZSTD: Encoding = Encoding::PARQUET_ZSTD1;

fn decode(bytes: &[u8]) -> Result<(Vec<Record>, DigestBuilder), FormatError> {
    let mut decoder = ParquetDecoder::new(Bytes::copy_from_slice(bytes))?;
    let mut block = Block::new(ValueLayout::Plain);
    let mut digest = DigestBuilder::new();
    let mut records = Vec::new();
    while decoder.next_block(&mut block)? {
        digest.push(&block);
        records.extend(block.iter().map(|view| Record::from_view(&view)));
    }
    Ok((records, digest))
}

/// Encodes, decodes, compares, and checks proof and digest on the way.
fn round_trip(records: &[Record]) -> Vec<u8> {
    let (bytes, proof) = encode_full(&ZSTD, records);
    let (again, digest) = decode(&bytes).expect("what was encoded can be decoded");
    assert!(again == records, "the records survive");
    assert_eq!(digest.digest(), proof.digest);
    assert_eq!(digest.counts(), proof.counts);
    let footer = read_proof(&Bytes::from(bytes.clone())).expect("the footer holds a proof");
    assert_eq!(crate::Proof { size: proof.size, ..footer }, proof);
    bytes
}

fn arrow_batches(bytes: &[u8]) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(bytes)).expect("a Parquet file");
    reader.with_batch_size(1000).build().expect("a reader").collect::<Result<_, _>>().expect("batches")
}

/// Records as the Arrow reader sees them. Shares no code with the decoder but the `parquet` crate's page reader.
fn arrow_records(bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    for batch in arrow_batches(bytes) {
        let column = |name: &str| batch.column_by_name(name).unwrap_or_else(|| panic!("column {name}"));
        let (value, key) = (column("value").as_binary::<i32>(), column("kafka_key").as_binary::<i32>());
        let headers = column("kafka_headers").as_list::<i32>();
        let timestamp = column("kafka_timestamp").as_primitive::<TimestampMillisecondType>();
        let raw = column("kafka_timestamp_raw").as_primitive::<Int64Type>();
        let kinds = column("kafka_timestamp_type").as_primitive::<Int8Type>();
        let headers_raw = column("kafka_headers_raw").as_binary::<i32>();
        assert!(column("kafka_partition").as_primitive::<Int32Type>().values().iter().all(|p| *p == 3));
        for row in 0..batch.num_rows() {
            let mut list = Vec::new();
            if headers.is_valid(row) {
                assert!(headers_raw.is_null(row));
                let entries = headers.value(row);
                let entries = entries.as_struct();
                let (names, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_binary::<i32>());
                assert!(entries.len() > 0, "no headers is null, not an empty list");
                for i in 0..entries.len() {
                    list.push((names.value(i).as_bytes().to_vec(), values.is_valid(i).then(|| values.value(i).to_vec())));
                }
            } else if headers_raw.is_valid(row) {
                let parsed = crate::HeadersView::parse(headers_raw.value(row)).expect("canonical").iter();
                list.extend(parsed.map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))));
            }
            assert!(timestamp.is_valid(row) != raw.is_valid(row), "exactly one timestamp");
            records.push(Record {
                offset: column("kafka_offset").as_primitive::<Int64Type>().value(row),
                timestamp: if timestamp.is_valid(row) { timestamp.value(row) } else { raw.value(row) },
                timestamp_type: match kinds.value(row) {
                    -1 => TimestampType::None,
                    0 => TimestampType::Create,
                    1 => TimestampType::Append,
                    other => panic!("timestamp type {other}"),
                },
                key: key.is_valid(row).then(|| key.value(row).to_vec()),
                value: value.is_valid(row).then(|| value.value(row).to_vec()),
                headers: list,
            });
        }
    }
    records
}

#[test]
fn oddities_survive() {
    let bytes = round_trip(&oddities());
    assert!(arrow_records(&bytes) == oddities());
}

#[test]
fn an_object_without_rows_is_a_file() {
    let missing = [Missing(100, 200, GapCause::Retention), Missing(300, 301, GapCause::CorruptBatch)];
    let (bytes, proof) = encode(&ZSTD, &[], &[1], 301, &missing);
    assert_eq!(decode(&bytes).expect("a file").0, []);
    assert_eq!(arrow_records(&bytes), []);
    let footer = read_proof(&Bytes::from(bytes)).expect("a proof");
    assert_eq!((footer.range.start, footer.range.end, footer.missing), (100, 301, missing.to_vec()));
    assert_eq!(proof.counts, crate::Counts::default());
}

#[test]
fn a_record_of_12_mib_survives() {
    let mut all = vec![Record::of(1, b"before"), Record::of(2, &json(7, 12 << 20)), Record::of(3, b"after")];
    all[2].key = Some(json(8, 5 << 20));
    all[2].headers = vec![(json(9, 2 << 20), Some(json(10, 3 << 20)))];
    let bytes = round_trip(&all);
    assert!(arrow_records(&bytes) == all);
}

#[test]
fn row_groups_are_cut_by_rows() {
    let all: Vec<_> = (0..1_200_000).map(|i| Record { timestamp: i / 7, ..Record::of(i, &[b'x'; 1][..(i % 2) as usize]) }).collect();
    let bytes = round_trip(&all);
    let file = SerializedFileReader::new(Bytes::from(bytes)).expect("a file");
    let rows: Vec<_> = file.metadata().row_groups().iter().map(|g| g.num_rows()).collect();
    assert_eq!(rows, [1_048_576, 1_200_000 - 1_048_576]);
}

#[test]
fn row_groups_are_cut_by_value_bytes_and_blocks_are_not_copied() {
    let all: Vec<_> = (0..70 * 1024).map(|i| Record::of(i, &json(i as u64 % 100, 1020))).collect();
    let (bytes, _) = conforms(&ZSTD, &all, &[vec![1000], vec![1024], vec![1, 5000]]);
    let file = SerializedFileReader::new(Bytes::from(bytes.clone())).expect("a file");
    let rows: Vec<_> = file.metadata().row_groups().iter().map(|g| g.num_rows()).collect();
    assert_eq!(rows, [64 * 1024, 6 * 1024]);
    assert!(arrow_records(&bytes) == all);

    let mut encoder = ParquetEncoder::new(ZSTD, lane(), 0);
    let mut block = Block::new(ValueLayout::Plain);
    all[..1024].iter().for_each(|r| r.push_to(&mut block));
    assert!(block.is_full());
    encoder.append(&block, &mut CountingSink::default());
    assert!(encoder.held_bytes() < 100 << 10, "a block that is a page leaves no copy: {}", encoder.held_bytes());
}

#[test]
fn row_groups_are_cut_by_keys_and_headers() {
    let all: Vec<_> = (0..60)
        .map(|i| Record {
            key: Some(json(i as u64, 300 << 10)),
            headers: vec![(b"h".to_vec(), Some(json(i as u64, 200 << 10)))],
            ..Record::of(i, b"")
        })
        .collect();
    let (bytes, _) = conforms(&ZSTD, &all, &[vec![1], vec![2, 9], vec![usize::MAX]]);
    assert!(arrow_records(&bytes) == all);
    let file = SerializedFileReader::new(Bytes::from(bytes)).expect("a file");
    let rows: Vec<_> = file.metadata().row_groups().iter().map(|g| g.num_rows()).collect();
    assert_eq!(rows, [33, 27], "500 KiB a record, 16 MiB a group");
}

#[test]
fn many_records_with_everything_conform() {
    let odd = oddities();
    let all: Vec<_> = (0..150_000_i64)
        .map(|i| Record {
            offset: i * 2,
            value: (i % 11 > 0).then(|| json(i as u64, (i % 40) as usize)),
            ..odd[i as usize % odd.len()].clone()
        })
        .collect();
    let (bytes, proof) = conforms(&ZSTD, &all, &[vec![777], vec![65_536], vec![1, 2, 30_000]]);
    assert!(arrow_records(&bytes) == all);
    let (again, digest) = decode(&bytes).expect("decodes");
    assert!(again == all);
    assert_eq!(digest.digest(), proof.digest);
}

#[test]
fn statistics_and_order_are_declared() {
    let (bytes, _) = encode_full(&ZSTD, &oddities());
    let file = SerializedFileReader::new(Bytes::from(bytes)).expect("a file");
    let group = file.metadata().row_group(0);
    assert_eq!(group.sorting_columns().map(|s| (s[0].column_idx, s[0].descending)), Some((5, false)));
    let range = |column: usize| {
        let stats = group.column(column).statistics().expect("statistics");
        let min = stats.min_bytes_opt().map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes")));
        let max = stats.max_bytes_opt().map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes")));
        (min, max, stats.null_count_opt())
    };
    assert_eq!(range(5), (Some(1000), Some(1000 + 3 * 29), Some(0)));
    assert_eq!(range(6), (Some(0), Some(TIMESTAMP_MAX), Some(18)));
    assert_eq!(range(7), (Some(i64::MIN), Some(i64::MAX), Some(12)));
    assert_eq!(range(0), (None, None, Some(1)));
    assert_eq!(file.metadata().file_metadata().created_by(), Some("catchment version 1.0.0 (build parquet.v1)"));
}

#[test]
fn the_tail_holds_the_proof() {
    let (bytes, _) = encode_full(&ZSTD, &oddities());
    let tail = |len: usize| read_proof_from_tail(&bytes[bytes.len() - len..]);
    let Ok(TailProof::NeedsBytes(len)) = tail(100) else { panic!("the footer is longer than 100 bytes") };
    let proof = read_proof(&Bytes::from(bytes.clone())).expect("a proof");
    assert_eq!(tail(len as usize).expect("a proof"), TailProof::Proof(Box::new(proof)));
    assert_eq!(tail(len as usize - 1).expect("a length"), TailProof::NeedsBytes(len));
    assert!(tail(7).is_err());
    assert!(read_proof_from_tail(&bytes[..100]).is_err());
    let object = bytes.len() as u64;
    let group = first_group_from_tail(&bytes[bytes.len() - len as usize..], object).expect("a footer").expect("a row group");
    assert!(group.rows > 0 && group.bytes.start < group.bytes.end && group.bytes.end <= object - len, "{group:?}");
    let mut sparse = vec![0; bytes.len()];
    for range in [group.bytes.start as usize..group.bytes.end as usize, bytes.len() - len as usize..bytes.len()] {
        sparse[range.clone()].copy_from_slice(&bytes[range]);
    }
    let mut decoder = ParquetDecoder::new(Bytes::from(sparse)).expect("a footer");
    let (mut block, mut rows) = (Block::new(ValueLayout::Plain), 0);
    while rows < group.rows {
        assert!(decoder.next_block(&mut block).expect("records"), "{rows} of {}", group.rows);
        rows += block.iter().count() as u64;
    }
    assert!(first_group_from_tail(&bytes[bytes.len() - len as usize + 1..], object).is_err());
}

/// The sizes in a page's header are what the `parquet` crate makes room by.
#[test]
fn a_page_that_claims_more_than_its_chunk_has_is_refused_before_room_is_made() {
    for codec in [Codec::None, Codec::Zstd(1)] {
        let (bytes, _) = encode_full(&Encoding { format: Format::Parquet, codec }, &[Record::of(1, &json(3, 20_000))]);
        // The first page is the value's: type, then its plain size in three bytes, since it is above 8 KiB.
        assert_eq!((&bytes[4..7], bytes[9] >> 7), (&[0x15, 0x00, 0x15][..], 0), "{codec:?}");
        let mut claims = bytes.clone();
        claims[7..10].copy_from_slice(&[0xfe, 0xff, 0x7f]);
        let error = decode(&claims).expect_err("1 MiB in a chunk of 20 KB").to_string();
        assert!(error.contains("a page claims 1048575 bytes"), "{error}");
    }
}

/// Each of these lets a few bytes stand for gigabytes of rows.
#[test]
fn a_page_of_another_kind_than_ours_is_refused() {
    let (bytes, _) = encode_full(&Encoding { format: Format::Parquet, codec: Codec::None }, &[Record::of(1, b"value")]);
    // The value's page is the first: its type in the second byte, and in its data page header one value, encoded PLAIN.
    let data_page = bytes.windows(5).position(|window| window == [0x1c, 0x15, 0x02, 0x15, 0x00]).expect("a data page header");
    for (at, byte, why) in
        [(5, 0x04, "type 2"), (5, 0x06, "type 3"), (data_page + 4, 0x0e, "encoding 7"), (data_page + 2, 0x04, "more values")]
    {
        let mut hostile = bytes.clone();
        hostile[at] = byte;
        let error = decode(&hostile).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_chunk_beyond_the_objects_end_is_refused() {
    let (bytes, _) = encode_full(&ZSTD, &[Record::of(1, &json(3, 20_000))]);
    // All of the object's beginning is gone: its last chunks now lie behind its end.
    let error = decode(&bytes[10_000.min(bytes.len() / 2)..]).expect_err("chunks that are not there").to_string();
    assert!(error.contains("places a column chunk"), "{error}");
}

#[test]
fn other_files_are_refused() {
    let (bytes, _) = encode_full(&ZSTD, &oddities());
    let batch = arrow_batches(&bytes).remove(0);
    let foreign = |batch: &RecordBatch, proof: Option<String>| {
        let mut out = Vec::new();
        let mut writer = parquet::arrow::ArrowWriter::try_new(&mut out, batch.schema(), None).expect("a writer");
        writer.write(batch).expect("a batch");
        let proof = proof.map(|json| parquet::file::metadata::KeyValue::new("catchment.proof".to_owned(), json));
        proof.into_iter().for_each(|pair| writer.append_key_value_metadata(pair));
        writer.close().expect("a footer");
        decode(&out).map(|(records, _)| records)
    };
    assert!(matches!(foreign(&batch, None), Err(FormatError::Corrupt(_))), "no proof");
    let proof = read_proof(&Bytes::from(bytes)).expect("a proof");
    let other = batch.project(&[0, 1, 4]).expect("columns");
    assert!(matches!(foreign(&other, Some(proof.to_json())), Err(FormatError::Corrupt(_))), "other columns");
    let later = crate::Proof { encoding: "parquet.zstd1.v9".to_owned(), ..proof };
    assert!(matches!(foreign(&batch, Some(later.to_json())), Err(FormatError::UnknownEncoding(_))), "an encoding of the future");
    assert!(matches!(decode(b"not a Parquet file at all"), Err(FormatError::Corrupt(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn equal_records_give_equal_bytes(all in records(120), batchings in batchings()) {
        for encoding in encodings().iter().filter(|e| e.format == Format::Parquet) {
            let (bytes, _) = conforms(encoding, &all, &batchings);
            prop_assert!(arrow_records(&bytes) == all);
            prop_assert!(decode(&bytes).expect("decodes").0 == all);
        }
    }

    /// Damage is an error or leaves a smaller count or another digest; it is never a panic and never goes unnoticed unless it hit
    /// a byte that nothing reads.
    #[test]
    fn damage_is_an_error(all in records(60), at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<prop::sample::Index>()) {
        for codec in [Codec::None, Codec::Zstd(1)] {
            let (bytes, proof) = encode_full(&Encoding { format: Format::Parquet, codec }, &all);
            let cut = cut.index(bytes.len());
            prop_assert!(decode(&bytes[..cut]).is_err());
            prop_assert!(read_proof(&Bytes::copy_from_slice(&bytes[..cut])).is_err());
            let mut damaged = bytes.clone();
            damaged[at.index(bytes.len())] ^= 1 << bit;
            if let Ok((again, digest)) = decode(&damaged) {
                prop_assert_eq!(again == all, digest.digest() == proof.digest);
            }
        }
    }
}
