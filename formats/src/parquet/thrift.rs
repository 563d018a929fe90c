//! Thrift compact protocol, the writing half: as much of it as page headers and footers need.
//!
//! Our own, so that the bytes of a format version never change with a library.

/// Field and element types of the compact protocol.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Appends an unsigned LEB128 number.
pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a zigzag-coded LEB128 number.
pub(crate) fn zigzag(out: &mut Vec<u8>, value: i64) {
    varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Writes one struct: fields in ascending order of id, then [`end`](Self::end).
pub(crate) struct StructWriter<'a> {
    out: &'a mut Vec<u8>,
    last_id: i16,
}

impl<'a> StructWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, last_id: 0 }
    }

    fn field(&mut self, id: i16, kind: u8) {
        let delta = id - self.last_id;
        debug_assert!((1..=15).contains(&delta), "fields ascend by at most 15");
        self.out.push((delta as u8) << 4 | kind);
        self.last_id = id;
    }

    pub(crate) fn i8(&mut self, id: i16, value: i8) -> &mut Self {
        self.field(id, BYTE);
        self.out.push(value.cast_unsigned());
        self
    }

    pub(crate) fn bool(&mut self, id: i16, value: bool) -> &mut Self {
        self.field(id, if value { TRUE } else { FALSE });
        self
    }

    pub(crate) fn i16(&mut self, id: i16, value: i16) -> &mut Self {
        self.field(id, I16);
        zigzag(self.out, i64::from(value));
        self
    }

    pub(crate) fn i32(&mut self, id: i16, value: i32) -> &mut Self {
        self.field(id, I32);
        zigzag(self.out, i64::from(value));
        self
    }

    pub(crate) fn i64(&mut self, id: i16, value: i64) -> &mut Self {
        self.field(id, I64);
        zigzag(self.out, value);
        self
    }

    pub(crate) fn binary(&mut self, id: i16, bytes: &[u8]) -> &mut Self {
        self.field(id, BINARY);
        binary(self.out, bytes);
        self
    }

    /// A nested struct, written by `body`.
    pub(crate) fn nested(&mut self, id: i16, body: impl FnOnce(&mut StructWriter<'_>)) -> &mut Self {
        self.field(id, STRUCT);
        let mut inner = StructWriter::new(self.out);
        body(&mut inner);
        inner.end();
        self
    }

    fn list_head(&mut self, id: i16, len: usize, kind: u8) {
        self.field(id, LIST);
        if len < 15 {
            self.out.push((len as u8) << 4 | kind);
        } else {
            self.out.push(0xf0 | kind);
            varint(self.out, len as u64);
        }
    }

    pub(crate) fn i32_list(&mut self, id: i16, values: &[i32]) -> &mut Self {
        self.list_head(id, values.len(), I32);
        for value in values {
            zigzag(self.out, i64::from(*value));
        }
        self
    }

    pub(crate) fn string_list(&mut self, id: i16, values: &[&str]) -> &mut Self {
        self.list_head(id, values.len(), BINARY);
        for value in values {
            binary(self.out, value.as_bytes());
        }
        self
    }

    /// A list of structs, each written by `body`.
    pub(crate) fn struct_list<T>(&mut self, id: i16, items: &[T], body: impl Fn(&mut StructWriter<'_>, &T)) -> &mut Self {
        self.list_head(id, items.len(), STRUCT);
        for item in items {
            let mut inner = StructWriter::new(self.out);
            body(&mut inner, item);
            inner.end();
        }
        self
    }

    /// Ends the struct.
    pub(crate) fn end(&mut self) {
        self.out.push(0);
    }
}

fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
