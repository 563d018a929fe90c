//! Golden objects: the bytes of format version 1, pinned by committed files and hashes.
//!
//! A difference here means that this build writes other bytes under the same encoding than builds before it. That breaks the
//! promise of exactly one object per window across an upgrade, so such a change needs a new version of the encoding. `CATCHMENT_GOLDEN=write` writes
//! the files of a new encoding.

use std::path::{Path, PathBuf};

use crc_fast::CrcAlgorithm;

use crate::encoder::{Encoding, Format};
use crate::parquet::ParquetDecoder;
use crate::raw::{RawDecoder, RawItem};
use crate::testing::{Record, encode, encodings, json, oddities};
use crate::{Block, GapCause, Missing, ValueLayout};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

fn crc(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Xz, bytes)
}

/// The odd records, then 200 usual ones.
fn small() -> Vec<Record> {
    let mut all = oddities();
    all.extend((0..200).map(|i| Record {
        key: Some(format!("user-{}", i % 17).into_bytes()),
        headers: if i % 3 == 0 { vec![(b"trace".to_vec(), Some(vec![i as u8; 4]))] } else { Vec::new() },
        ..Record::of(2000 + i, &json(i as u64, 40))
    }));
    all
}

/// Several pages and frames, nulls among them.
fn large() -> Vec<Record> {
    let value = |i: i64| (i % 50 != 49).then(|| json(i as u64 % 700, 900 + (i as usize * 7) % 300));
    (0..6000).map(|i| Record { value: value(i), key: Some(i.to_be_bytes().to_vec()), ..Record::of(i, b"") }).collect()
}

fn encode_small(encoding: &Encoding) -> Vec<u8> {
    let missing = [Missing(990, 1000, GapCause::Retention)];
    encode(encoding, &small(), &[usize::MAX], 2300, &missing).0
}

#[test]
fn small_objects_are_the_committed_files() {
    let mut different = Vec::new();
    for (text, hash, _) in HASHES {
        let encoding: Encoding = text.parse().expect("a known encoding");
        let path = path(&format!("{text}.{}", encoding.extension()));
        let bytes = encode_small(&encoding);
        if std::env::var_os("CATCHMENT_GOLDEN").is_some_and(|v| v == "write") {
            std::fs::write(&path, &bytes).expect("golden/ can be written");
        }
        if crc(&bytes) != *hash || std::fs::read(&path).ok() != Some(bytes.clone()) {
            different.push(format!("{text} {:#018x}", crc(&bytes)));
        }
    }
    assert!(different.is_empty(), "not the committed bytes: {different:#?}");
}

#[test]
fn large_objects_have_the_committed_hashes() {
    let mut different = Vec::new();
    for (text, _, hash) in HASHES {
        let encoding: Encoding = text.parse().expect("a known encoding");
        let found = crc(&encode(&encoding, &large(), &[usize::MAX], 6000, &[]).0);
        if found != *hash {
            different.push(format!("{text} {found:#018x}"));
        }
    }
    assert!(different.is_empty(), "not the committed hashes: {different:#?}");
}

#[test]
fn every_encoding_is_pinned() {
    let pinned: Vec<_> = HASHES.iter().map(|(text, _, _)| text.to_string()).collect();
    assert_eq!(encodings().iter().map(Encoding::to_string).collect::<Vec<_>>(), pinned);
}

#[test]
fn committed_files_can_be_decoded() {
    for (text, _, _) in HASHES {
        let encoding: Encoding = text.parse().expect("a known encoding");
        let bytes = std::fs::read(path(&format!("{text}.{}", encoding.extension()))).expect("a golden file");
        if encoding.format == Format::Parquet {
            let mut decoder = ParquetDecoder::new(bytes::Bytes::from(bytes)).expect("a file");
            let mut block = Block::new(ValueLayout::Plain);
            let mut records = Vec::new();
            while decoder.next_block(&mut block).expect("records") {
                records.extend(block.iter().map(|view| Record::from_view(&view)));
            }
            assert!(records == small(), "{text}");
        } else {
            let mut decoder = RawDecoder::new(&bytes[..], &encoding).expect("an object");
            let mut read = 0;
            while let Some(item) = decoder.next_item().expect("values") {
                read += if let RawItem::Value(value) = item { value.len() } else { 0 };
            }
            let newlines = small().iter().flat_map(|r| &r.value).flatten().filter(|b| **b == b'\n').count();
            assert_eq!((read, newlines), (small().iter().flat_map(|r| &r.value).map(Vec::len).sum(), 0), "{text}");
        }
    }
}

/// CRC-64/XZ of the small and the large object of each encoding.
#[rustfmt::skip]
const HASHES: &[(&str, u64, u64)] = &[
    ("parquet.none.v1", 0xa118_d0e5_b557_66f2, 0x9955_019c_f12f_aa9d),
    ("parquet.zstd1.v1", 0xd765_567a_349d_cc9a, 0xa4d6_ec97_2cbe_2136),
    ("parquet.zstd3.v1", 0x1c0f_82df_b076_cc5d, 0x55bb_ae53_f2b9_6cd7),
    ("parquet.gzip1.v1", 0x230f_e3d0_d4b5_29e6, 0x8e0f_2e85_6cbf_cd3b),
    ("parquet.gzip6.v1", 0x4b13_b3f2_3390_ac7f, 0xe685_a338_e76a_ed1d),
    ("raw.none.none.v1", 0x0483_02c9_087a_654b, 0xa970_ae5a_2de3_39e6),
    ("raw.none.zstd1.v1", 0xd79c_fa3b_b674_d8ca, 0x92c5_73c5_58fa_2b7c),
    ("raw.none.zstd3.v1", 0xc486_e051_565f_5e6d, 0x5278_7a6d_772c_b58a),
    ("raw.none.gzip1.v1", 0xadd1_affd_e4d3_899d, 0x4bf7_0f30_1b07_a02d),
    ("raw.none.gzip6.v1", 0xa2c3_6c23_f220_d0bc, 0x748b_5cb1_4975_0cfe),
    ("raw.newline.none.v1", 0xde11_9624_31ff_c9d4, 0x94c8_1c62_e5e3_b142),
    ("raw.newline.zstd1.v1", 0x032e_8a6c_6a2d_2e6b, 0x2e28_f6c2_a9d6_e4c8),
    ("raw.newline.zstd3.v1", 0x5025_476f_7e2c_0845, 0x0822_539f_4545_9d7d),
    ("raw.newline.gzip1.v1", 0xf792_6c68_009f_641b, 0x7cff_66c3_cf2a_362a),
    ("raw.newline.gzip6.v1", 0x5d7e_2e51_1ea2_7813, 0x182d_2dd9_cf36_4f74),
    ("raw.len32.none.v1", 0x3fe5_a0fc_71f5_54c8, 0x516a_5bdb_49db_8ad1),
    ("raw.len32.zstd1.v1", 0xfcf0_490d_f9d0_e6e7, 0xfb96_ff6f_4e0c_518a),
    ("raw.len32.zstd3.v1", 0x1f4b_20be_6932_664f, 0xe338_628c_38f2_bde9),
    ("raw.len32.gzip1.v1", 0x8e74_3f8d_0e45_fd13, 0xa407_e9dd_4df9_bfd7),
    ("raw.len32.gzip6.v1", 0x33ac_819d_770d_2ab5, 0x4afd_a460_5ae1_9555),
];
