//! The raw encoder against its decoder and against itself.

use proptest::prelude::*;

use super::*;
use crate::testing::{Record, batchings, conforms, encode_full, encodings, json, records};
use crate::{Codec, Encoding, Format, FormatError, Framing};

fn raw(framing: Framing, codec: Codec) -> Encoding {
    Encoding { format: Format::Raw(framing), codec }
}

type Values = Vec<Option<Vec<u8>>>;

fn decode(bytes: &[u8], encoding: &Encoding) -> Result<(Values, u64), FormatError> {
    let mut decoder = RawDecoder::new(bytes, encoding)?;
    let mut items = Vec::new();
    while let Some(item) = decoder.next_item()? {
        items.push(match item {
            RawItem::Null => None,
            RawItem::Value(value) => Some(value.to_vec()),
        });
    }
    Ok((items, decoder.values_crc()))
}

/// What an object of these records must decode to.
fn expected(records: &[Record], framing: Framing) -> Values {
    let values = records.iter().map(|r| r.value.clone());
    match framing {
        Framing::Len32 => values.collect(),
        Framing::None => values.flatten().flatten().collect::<Vec<_>>().chunks(FRAME_BYTES).map(|c| Some(c.to_vec())).collect(),
        Framing::Newline => {
            let lines: Vec<u8> = values.flatten().flat_map(|v| [v, vec![b'\n']].concat()).collect();
            lines.split_inclusive(|b| *b == b'\n').map(|line| Some(line[..line.len() - 1].to_vec())).collect()
        }
    }
}

fn check(records: &[Record], encoding: &Encoding, bytes: &[u8], crc: u64) {
    let Format::Raw(framing) = encoding.format else { panic!("a raw encoding") };
    let (items, read_crc) = decode(bytes, encoding).expect("what was encoded can be decoded");
    assert!(items == expected(records, framing), "{encoding}: the values survive");
    assert_eq!(read_crc, crc, "{encoding}: the digest of the values");
    let mut decoder = RawDecoder::new(bytes, encoding).expect("a raw encoding");
    for item in items {
        let len = item.map(|value| value.len() as u64);
        assert_eq!(decoder.skip_item().expect("what can be read can be skipped"), Some(len), "{encoding}");
    }
    assert_eq!((decoder.skip_item().expect("the end"), decoder.values_crc()), (None, crc), "{encoding}: skipped to the end");
}

fn raw_encodings() -> impl Iterator<Item = Encoding> {
    encodings().into_iter().filter(|e| matches!(e.format, Format::Raw(_)))
}

#[test]
fn large_values_fill_frames_of_one_size() {
    let all: Vec<_> = (0..40).map(|i| Record::of(i, &json(i as u64, if i == 20 { 12 << 20 } else { 100_000 }))).collect();
    for encoding in raw_encodings() {
        let (bytes, proof) = conforms(&encoding, &all, &[vec![1], vec![3, 11]]);
        check(&all, &encoding, &bytes, proof.digest.values);
    }
}

#[test]
fn zstd_frames_hold_exactly_one_mib() {
    let all: Vec<_> = (0..50).map(|i| Record::of(i, &json(i as u64, 100_000))).collect();
    let (bytes, _) = encode_full(&raw(Framing::Len32, Codec::Zstd(1)), &all);
    let mut rest = bytes.as_slice();
    let mut sizes = Vec::new();
    while !rest.is_empty() {
        let len = zstd::zstd_safe::find_frame_compressed_size(rest).expect("a frame");
        sizes.push(zstd::zstd_safe::get_frame_content_size(rest).expect("a frame").expect("a content size"));
        rest = &rest[len..];
    }
    assert_eq!(sizes, [1 << 20, 1 << 20, 1 << 20, 1 << 20, 50 * 100_004 - (4 << 20)]);
}

#[test]
fn no_records_are_an_empty_frame() {
    for encoding in raw_encodings() {
        let (bytes, proof) = conforms(&encoding, &[], &[vec![1]]);
        assert_eq!(bytes.is_empty(), encoding.codec == Codec::None);
        check(&[], &encoding, &bytes, proof.digest.values);
    }
}

#[test]
fn len32_refuses_what_it_cannot_mean() {
    let encoding = raw(Framing::Len32, Codec::None);
    for bytes in [&b"\x00\x00"[..], b"\x00\x00\x00\x02x", b"\xff\xff\xff\xfe", b"\x7f\xff\xff\xffabc"] {
        assert!(matches!(decode(bytes, &encoding), Err(FormatError::Corrupt(_))), "{bytes:?}");
    }
    assert_eq!(decode(b"\xff\xff\xff\xff\x00\x00\x00\x00", &encoding).expect("decodes").0, [None, Some(Vec::new())]);
    assert!(matches!(decode(b"a\nb", &raw(Framing::Newline, Codec::None)), Err(FormatError::Corrupt(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn equal_records_give_equal_bytes(all in records(120), batchings in batchings()) {
        for encoding in raw_encodings() {
            let (bytes, proof) = conforms(&encoding, &all, &batchings);
            check(&all, &encoding, &bytes, proof.digest.values);
        }
    }

    /// Damage is an error or another CRC, never a panic.
    #[test]
    fn damage_shows(all in records(60), at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<prop::sample::Index>()) {
        for encoding in raw_encodings() {
            let (bytes, proof) = encode_full(&encoding, &all);
            if bytes.is_empty() {
                continue;
            }
            let mut damaged = bytes.clone();
            damaged[at.index(bytes.len())] ^= 1 << bit;
            for input in [&damaged[..], &bytes[..cut.index(bytes.len())]] {
                if let Ok((items, crc)) = decode(input, &encoding) {
                    let Format::Raw(framing) = encoding.format else { panic!("a raw encoding") };
                    prop_assert_eq!(items == expected(&all, framing), crc == proof.digest.values);
                }
            }
        }
    }
}
