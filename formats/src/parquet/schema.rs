//! The schema of version 1, as constants: columns, their order, types and encodings. `docs/FORMATS.md` explains each choice.

use super::thrift::StructWriter;

/// Physical types, as Parquet numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Physical {
    Int32 = 1,
    Int64 = 2,
    ByteArray = 6,
}

impl Physical {
    /// Parquet's number of the encoding that pages of this type use: PLAIN for bytes, DELTA_BINARY_PACKED for integers.
    pub(crate) fn encoding(self) -> i32 {
        match self {
            Self::ByteArray => 0,
            Self::Int32 | Self::Int64 => 5,
        }
    }
}

/// Parquet's number of the RLE encoding, which levels use.
pub(crate) const ENCODING_RLE: i32 = 3;

/// One leaf of the schema.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) path: &'static [&'static str],
    pub(crate) physical: Physical,
    pub(crate) repetition_max: u8,
    pub(crate) definition_max: u8,
}

pub(crate) const VALUE: usize = 0;
pub(crate) const KEY: usize = 1;
pub(crate) const HEADER_KEY: usize = 2;
pub(crate) const HEADER_VALUE: usize = 3;
pub(crate) const PARTITION: usize = 4;
pub(crate) const OFFSET: usize = 5;
pub(crate) const TIMESTAMP: usize = 6;
pub(crate) const TIMESTAMP_RAW: usize = 7;
pub(crate) const TIMESTAMP_TYPE: usize = 8;
pub(crate) const HEADERS_RAW: usize = 9;

const fn leaf(path: &'static [&'static str], physical: Physical, repetition_max: u8, definition_max: u8) -> Leaf {
    Leaf { path, physical, repetition_max, definition_max }
}

/// The leaves, in the order of their chunks in a row group.
pub(crate) const LEAVES: [Leaf; 10] = [
    leaf(&["value"], Physical::ByteArray, 0, 1),
    leaf(&["kafka_key"], Physical::ByteArray, 0, 1),
    leaf(&["kafka_headers", "list", "element", "key"], Physical::ByteArray, 1, 2),
    leaf(&["kafka_headers", "list", "element", "value"], Physical::ByteArray, 1, 3),
    leaf(&["kafka_partition"], Physical::Int32, 0, 0),
    leaf(&["kafka_offset"], Physical::Int64, 0, 0),
    leaf(&["kafka_timestamp"], Physical::Int64, 0, 1),
    leaf(&["kafka_timestamp_raw"], Physical::Int64, 0, 1),
    leaf(&["kafka_timestamp_type"], Physical::Int32, 0, 0),
    leaf(&["kafka_headers_raw"], Physical::ByteArray, 0, 1),
];

#[derive(Clone, Copy)]
enum Repetition {
    Required = 0,
    Optional = 1,
    Repeated = 2,
}

#[derive(Clone, Copy)]
enum Logical {
    None,
    Utf8,
    List,
    TimestampMillis,
    Int8,
}

/// One element of the schema tree, which Parquet stores depth first.
pub(crate) struct Element {
    name: &'static str,
    /// None for a group.
    physical: Option<Physical>,
    /// None for the root.
    repetition: Option<Repetition>,
    children: i32,
    logical: Logical,
}

const fn group(name: &'static str, repetition: Option<Repetition>, children: i32, logical: Logical) -> Element {
    Element { name, physical: None, repetition, children, logical }
}

const fn column(name: &'static str, repetition: Repetition, physical: Physical, logical: Logical) -> Element {
    Element { name, physical: Some(physical), repetition: Some(repetition), children: 0, logical }
}

/// The schema tree.
pub(crate) const ELEMENTS: [Element; 14] = {
    use Physical::{ByteArray, Int32, Int64};
    use Repetition::{Optional, Repeated, Required};
    [
        group("schema", None, 9, Logical::None),
        column("value", Optional, ByteArray, Logical::None),
        column("kafka_key", Optional, ByteArray, Logical::None),
        group("kafka_headers", Some(Optional), 1, Logical::List),
        group("list", Some(Repeated), 1, Logical::None),
        group("element", Some(Required), 2, Logical::None),
        column("key", Required, ByteArray, Logical::Utf8),
        column("value", Optional, ByteArray, Logical::None),
        column("kafka_partition", Required, Int32, Logical::None),
        column("kafka_offset", Required, Int64, Logical::None),
        column("kafka_timestamp", Optional, Int64, Logical::TimestampMillis),
        column("kafka_timestamp_raw", Optional, Int64, Logical::None),
        column("kafka_timestamp_type", Required, Int32, Logical::Int8),
        column("kafka_headers_raw", Optional, ByteArray, Logical::None),
    ]
};

impl Element {
    /// Writes the `SchemaElement`: the logical type, and beside it the converted type for old readers.
    pub(crate) fn write(&self, to: &mut StructWriter<'_>) {
        if let Some(physical) = self.physical {
            to.i32(1, physical as i32);
        }
        if let Some(repetition) = self.repetition {
            to.i32(3, repetition as i32);
        }
        to.binary(4, self.name.as_bytes());
        if self.physical.is_none() {
            to.i32(5, self.children);
        }
        match self.logical {
            Logical::None => {}
            Logical::Utf8 => {
                to.i32(6, 0).nested(10, |logical| _ = logical.nested(1, |_| {}));
            }
            Logical::List => {
                to.i32(6, 3).nested(10, |logical| _ = logical.nested(3, |_| {}));
            }
            Logical::TimestampMillis => {
                to.i32(6, 9).nested(10, |logical| {
                    logical.nested(8, |timestamp| {
                        timestamp.bool(1, true).nested(2, |unit| _ = unit.nested(1, |_| {}));
                    });
                });
            }
            Logical::Int8 => {
                to.i32(6, 15).nested(10, |logical| _ = logical.nested(10, |int| _ = int.i8(1, 8).bool(2, true)));
            }
        }
    }
}
