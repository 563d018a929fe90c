//! The shapes of a footer's structs by Parquet's specification (`parquet.thrift`), and a walk that holds a footer against them.
//!
//! The `parquet` crate takes a field by its number whatever its type says, skips lists of booleans without reading a byte for each, and
//! descends a schema by recursion. So a few bytes can send it astray for minutes, or through its stack. A footer that passes here is read by it as
//! it was read here; fields that the specification does not have are skipped by both.

use std::io::Read;

use super::compact::{BINARY, BYTE, Compact, DOUBLE, I16, I32, I64, LIST, STRUCT, is_bool, wrong_type};
use super::decode::corrupt;
use crate::error::FormatError;

/// Most elements of a schema, and most children of one. Ours has 14; a later version may have more.
const ELEMENTS_MAX: u64 = 256;

/// How deep fields that nobody knows may nest.
const DEPTH_MAX: u32 = 8;

/// What a field, or a list's element, is.
enum Shape {
    /// A value of this type.
    Is(u8),
    /// A number of the schema's elements.
    Count,
    Bool,
    Struct(&'static [Field]),
    /// A list of at most so many elements.
    List(u64, &'static Shape),
}

use Shape::{Bool, Count, Is, List, Struct};

type Field = (i64, Shape);

const FILE: &[Field] = &[
    (1, Is(I32)),
    (2, List(ELEMENTS_MAX, &Struct(ELEMENT))),
    (3, Is(I64)),
    (4, List(u64::MAX, &Struct(GROUP))),
    (5, KEY_VALUES),
    (6, Is(BINARY)),
    (7, List(u64::MAX, &Struct(&[(1, Struct(&[]))]))),
];

const ELEMENT: &[Field] = &[
    (1, Is(I32)),
    (2, Is(I32)),
    (3, Is(I32)),
    (4, Is(BINARY)),
    (5, Count),
    (6, Is(I32)),
    (7, Is(I32)),
    (8, Is(I32)),
    (9, Is(I32)),
    (10, Struct(LOGICAL_TYPE)),
];

const LOGICAL_TYPE: &[Field] = &[
    (5, Struct(&[(1, Is(I32)), (2, Is(I32))])),
    (7, Struct(TIME)),
    (8, Struct(TIME)),
    (10, Struct(&[(1, Is(BYTE)), (2, Bool)])),
    (16, Struct(&[(1, Is(BYTE))])),
    (17, Struct(&[(1, Is(BINARY))])),
    (18, Struct(&[(1, Is(BINARY)), (2, Is(I32))])),
];

const TIME: &[Field] = &[(1, Bool), (2, Struct(&[(1, Struct(&[])), (2, Struct(&[])), (3, Struct(&[]))]))];

const GROUP: &[Field] = &[
    (1, List(u64::MAX, &Struct(CHUNK))),
    (2, Is(I64)),
    (3, Is(I64)),
    (4, List(u64::MAX, &Struct(&[(1, Is(I32)), (2, Bool), (3, Bool)]))),
    (5, Is(I64)),
    (6, Is(I64)),
    (7, Is(I16)),
];

const CHUNK: &[Field] =
    &[(1, Is(BINARY)), (2, Is(I64)), (3, Struct(CHUNK_METADATA)), (4, Is(I64)), (5, Is(I32)), (6, Is(I64)), (7, Is(I32))];

const CHUNK_METADATA: &[Field] = &[
    (1, Is(I32)),
    (2, List(u64::MAX, &Is(I32))),
    (3, List(u64::MAX, &Is(BINARY))),
    (4, Is(I32)),
    (5, Is(I64)),
    (6, Is(I64)),
    (7, Is(I64)),
    (8, KEY_VALUES),
    (9, Is(I64)),
    (10, Is(I64)),
    (11, Is(I64)),
    (12, Struct(STATISTICS)),
    (13, List(u64::MAX, &Struct(&[(1, Is(I32)), (2, Is(I32)), (3, Is(I32))]))),
    (14, Is(I64)),
    (15, Is(I32)),
    (16, Struct(&[(1, Is(I64)), (2, List(u64::MAX, &Is(I64))), (3, List(u64::MAX, &Is(I64)))])),
    (17, Struct(&[(1, Struct(BOUNDING_BOX)), (2, List(u64::MAX, &Is(I32)))])),
];

const BOUNDING_BOX: &[Field] = &[
    (1, Is(DOUBLE)),
    (2, Is(DOUBLE)),
    (3, Is(DOUBLE)),
    (4, Is(DOUBLE)),
    (5, Is(DOUBLE)),
    (6, Is(DOUBLE)),
    (7, Is(DOUBLE)),
    (8, Is(DOUBLE)),
];

const STATISTICS: &[Field] =
    &[(1, Is(BINARY)), (2, Is(BINARY)), (3, Is(I64)), (4, Is(I64)), (5, Is(BINARY)), (6, Is(BINARY)), (7, Bool), (8, Bool), (9, Is(I64))];

const KEY_VALUES: Shape = List(u64::MAX, &Struct(&[(1, Is(BINARY)), (2, Is(BINARY))]));

/// Holds a whole footer against its shape.
pub(super) fn check_footer_shape(footer: &[u8]) -> Result<(), FormatError> {
    walk(&mut Compact::new(footer), FILE)
}

/// Holds the statistics in a page's header against their shape.
pub(super) fn check_statistics<R: Read>(from: &mut Compact<R>) -> Result<(), FormatError> {
    walk(from, STATISTICS)
}

fn walk<R: Read>(from: &mut Compact<R>, fields: &[Field]) -> Result<(), FormatError> {
    let mut id = 0;
    while let Some(kind) = from.field(&mut id)? {
        match fields.iter().find(|(known, _)| *known == id) {
            Some((_, shape)) => check(from, kind, shape)?,
            None => from.skip(kind, DEPTH_MAX)?,
        }
    }
    Ok(())
}

fn check<R: Read>(from: &mut Compact<R>, kind: u8, shape: &Shape) -> Result<(), FormatError> {
    match shape {
        Is(wanted) if *wanted == kind => from.skip(kind, DEPTH_MAX),
        Bool if is_bool(kind) => Ok(()),
        Struct(fields) if kind == STRUCT => walk(from, fields),
        Count if kind == I32 => match from.size()? {
            count if count > ELEMENTS_MAX => Err(corrupt(format!("a schema element with {count} children"))),
            _ => Ok(()),
        },
        List(max, shape) if kind == LIST => {
            let (kind, len) = from.list()?;
            if len > *max {
                return Err(corrupt(format!("a schema of {len} elements")));
            }
            (0..len).try_for_each(|_| check(from, kind, shape))
        }
        _ => Err(wrong_type()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::thrift::StructWriter;
    use super::*;

    /// A footer with a schema of these elements, by their numbers of children.
    fn footer(children: &[i32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut to = StructWriter::new(&mut bytes);
        to.i32(1, 2).struct_list(2, children, |to, children| {
            to.i32(3, 0).binary(4, b"name").i32(5, *children);
        });
        to.i64(3, 0);
        to.end();
        bytes
    }

    /// Went through the stack of whoever read it.
    #[test]
    fn a_schema_that_nests_without_end_is_refused_before_it_is_descended() {
        assert!(check_footer_shape(&footer(&[2, 0, 0])).is_ok());
        let error = check_footer_shape(&footer(&[1; 50_000])).unwrap_err().to_string();
        assert!(error.contains("50000 elements"), "{error}");
    }

    /// Made room for 16 GiB.
    #[test]
    fn a_schema_element_with_billions_of_children_is_refused_before_room_is_made() {
        for children in [257, i32::MAX, -1] {
            assert!(check_footer_shape(&footer(&[2, children, 0])).is_err(), "{children} children");
        }
    }

    #[test]
    fn a_number_of_another_type_is_refused() {
        let sound = footer(&[2, 0, 0]);
        let at = sound.windows(2).position(|pair| pair == [0x15, 0x04]).expect("the first element's children");
        let mut bytes = sound.clone();
        bytes[at] = 0x16;
        assert!(check_footer_shape(&bytes).is_err());
        let again = [&sound[..sound.len() - 1], &[0x05, 0x02, 0x00, 0x00]].concat();
        assert!(check_footer_shape(&again).is_err(), "fields ascend");
    }

    /// Took ten seconds for each such list in an object of 2,650 bytes: found by the fuzz target `parquet`.
    #[test]
    fn a_list_of_billions_of_booleans_is_refused() {
        let mut bytes = footer(&[0]);
        bytes.pop();
        for kind in [0x01, 0x02] {
            // Field 14, a list of 2^31 - 1 elements that take no bytes.
            let list = [0xb9, 0xf0 | kind, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00];
            assert!(check_footer_shape(&[&bytes[..], &list].concat()).is_err());
        }
        assert!(
            check_footer_shape(&[&bytes[..], &[0xb9, 0x25, 0x02, 0x02, 0x00]].concat()).is_ok(),
            "a field that nobody knows is skipped"
        );
    }
}
