//! Raw objects: framing and decompression.
//!
//! An input is an object, read as one of every raw encoding.

use catchment_formats::raw::{RawDecoder, RawItem};
use catchment_formats::{Codec, Encoding, Format, Framing};
use crc_fast::CrcAlgorithm;

/// The items that were read, framed again, are the bytes whose checksum the decoder tells; without a codec they are the object.
pub(crate) fn run(input: &[u8]) {
    for framing in [Framing::None, Framing::Newline, Framing::Len32] {
        for codec in [Codec::None, Codec::Zstd(1), Codec::Gzip(6)] {
            read(input, &Encoding { format: Format::Raw(framing), codec }, framing);
        }
    }
}

fn read(input: &[u8], encoding: &Encoding, framing: Framing) {
    let Ok(mut decoder) = RawDecoder::new(input, encoding) else { return };
    let mut framed = crc_fast::Digest::new(CrcAlgorithm::Crc64Xz);
    loop {
        match decoder.next_item() {
            Ok(Some(item)) => frame(&mut framed, framing, item),
            Ok(None) => break,
            Err(_) => return,
        }
    }
    assert_eq!(decoder.values_crc(), framed.finalize(), "{encoding}");
    if encoding.codec == Codec::None {
        assert_eq!(decoder.values_crc(), crc_fast::checksum(CrcAlgorithm::Crc64Xz, input), "{encoding}");
    }
}

fn frame(to: &mut crc_fast::Digest, framing: Framing, item: RawItem<'_>) {
    match (framing, item) {
        (Framing::Len32, RawItem::Null) => to.update(&(-1_i32).to_be_bytes()),
        (_, RawItem::Null) => panic!("only len32 stores nulls"),
        (_, RawItem::Value(value)) => {
            if framing == Framing::Len32 {
                to.update(&i32::try_from(value.len()).expect("a length of 32 bits was read").to_be_bytes());
            }
            to.update(value);
            if framing == Framing::Newline {
                to.update(b"\n");
            }
        }
    }
}
