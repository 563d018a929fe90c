//! Columns of the open row group: each gathers a page, and the finished pages of its chunk.

use super::chunk::ChunkMeta;
use super::delta::DeltaEncoder;
use super::levels::LevelsEncoder;
use super::schema::LEAVES;
use crate::encoder::Codec;

/// Bytes kept free in front of a page's values, so that short levels are put there without moving the values.
const LEVELS_ROOM: usize = 32;

/// Page memory that a column keeps from page to page. A page with a large record takes more and gives it back.
const PAGE_KEPT_BYTES: usize = 4 << 20;

/// Repetition and definition levels of a page.
#[derive(Debug)]
struct Levels {
    repetition: Option<LevelsEncoder>,
    definition: Option<LevelsEncoder>,
}

impl Levels {
    fn new(leaf: usize) -> Self {
        let width = |max: u8| (max > 0).then(|| LevelsEncoder::new(u8::BITS - max.leading_zeros()));
        Self { repetition: width(LEAVES[leaf].repetition_max), definition: width(LEAVES[leaf].definition_max) }
    }

    fn write_to(&mut self, page: &mut Vec<u8>) {
        for levels in [&mut self.repetition, &mut self.definition].into_iter().flatten() {
            levels.write_to(page);
            levels.clear();
        }
    }

    fn held_bytes(&self) -> usize {
        [&self.repetition, &self.definition].into_iter().flatten().map(LevelsEncoder::held_bytes).sum()
    }
}

/// A column of byte arrays, PLAIN.
#[derive(Debug)]
pub(crate) struct BytesColumn {
    leaf: usize,
    levels: Levels,
    /// Scratch for encoded levels.
    encoded_levels: Vec<u8>,
    /// [`LEVELS_ROOM`] bytes, then the values of the open page.
    page: Vec<u8>,
    values: u64,
    pub(crate) meta: ChunkMeta,
    /// Finished pages that wait for the row group's end.
    pub(crate) held: Vec<u8>,
}

impl BytesColumn {
    pub(crate) fn new(leaf: usize) -> Self {
        Self {
            leaf,
            levels: Levels::new(leaf),
            encoded_levels: Vec::new(),
            page: vec![0; LEVELS_ROOM],
            values: 0,
            meta: ChunkMeta::default(),
            held: Vec::new(),
        }
    }

    /// Bytes of values in the open page.
    pub(crate) fn page_bytes(&self) -> usize {
        self.page.len() - LEVELS_ROOM
    }

    /// Levels in the open page.
    pub(crate) fn page_values(&self) -> u64 {
        self.values
    }

    /// Appends `n` absent values.
    pub(crate) fn push_nulls(&mut self, n: usize) {
        self.push_levels(0, n);
        self.meta.nulls += n as u64;
    }

    /// Appends `n` definition levels; the bytes come by [`extend`](Self::extend).
    pub(crate) fn push_levels(&mut self, definition: u8, n: usize) {
        self.values += n as u64;
        if let Some(levels) = &mut self.levels.definition {
            levels.push_run(definition, n);
        }
    }

    /// Appends a repetition level for the next value of a list column.
    pub(crate) fn push_repetition(&mut self, level: u8, n: usize) {
        if let Some(levels) = &mut self.levels.repetition {
            levels.push_run(level, n);
        }
    }

    /// Appends one present value.
    pub(crate) fn push(&mut self, definition: u8, value: &[u8]) {
        self.push_levels(definition, 1);
        self.page.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.page.extend_from_slice(value);
    }

    /// Appends values that are PLAIN already.
    pub(crate) fn extend(&mut self, plain: &[u8]) {
        self.page.extend_from_slice(plain);
    }

    /// Ends the page, if there is one, and hands it to `put`.
    pub(crate) fn end_page_to(&mut self, codec: Codec, put: &mut dyn FnMut(&[u8])) {
        if self.values == 0 {
            return;
        }
        self.encoded_levels.clear();
        self.levels.write_to(&mut self.encoded_levels);
        let levels_len = self.encoded_levels.len();
        let at = if levels_len <= LEVELS_ROOM {
            self.page[LEVELS_ROOM - levels_len..LEVELS_ROOM].copy_from_slice(&self.encoded_levels);
            LEVELS_ROOM - levels_len
        } else {
            self.page.splice(..LEVELS_ROOM, self.encoded_levels.iter().copied());
            0
        };
        self.meta.write_page(self.leaf, codec, &self.page[at..], self.values, put);
        self.values = 0;
        self.page.clear();
        self.page.shrink_to(PAGE_KEPT_BYTES);
        self.page.resize(LEVELS_ROOM, 0);
    }

    /// Ends the page and holds it until the row group ends.
    pub(crate) fn end_page(&mut self, codec: Codec) {
        let mut held = std::mem::take(&mut self.held);
        self.end_page_to(codec, &mut |bytes| held.extend_from_slice(bytes));
        self.held = held;
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.levels.held_bytes() + self.encoded_levels.capacity() + self.page.capacity() + self.held.capacity()
    }
}

/// A column of integers, DELTA_BINARY_PACKED.
#[derive(Debug)]
pub(crate) struct IntsColumn {
    leaf: usize,
    levels: Levels,
    deltas: DeltaEncoder,
    values: u64,
    pub(crate) meta: ChunkMeta,
    pub(crate) held: Vec<u8>,
}

impl IntsColumn {
    pub(crate) fn new(leaf: usize) -> Self {
        Self { leaf, levels: Levels::new(leaf), deltas: DeltaEncoder::new(), values: 0, meta: ChunkMeta::default(), held: Vec::new() }
    }

    fn push_levels(&mut self, definition: u8, n: usize) {
        self.values += n as u64;
        if let Some(levels) = &mut self.levels.definition {
            levels.push_run(definition, n);
        }
    }

    pub(crate) fn push_nulls(&mut self, n: usize) {
        self.push_levels(0, n);
        self.meta.nulls += n as u64;
    }

    pub(crate) fn push_slice(&mut self, values: &[i64]) {
        self.push_levels(1, values.len());
        self.deltas.push_slice(values);
    }

    pub(crate) fn push_run(&mut self, value: i64, n: usize) {
        self.push_levels(1, n);
        self.deltas.push_run(value, n);
    }

    /// Ends the page, if there is one, and holds it until the row group ends. `page` is scratch.
    pub(crate) fn end_page(&mut self, codec: Codec, page: &mut Vec<u8>) {
        if self.values == 0 {
            return;
        }
        page.clear();
        self.levels.write_to(page);
        self.deltas.write_to(page);
        self.deltas.clear();
        let held = &mut self.held;
        self.meta.write_page(self.leaf, codec, page, self.values, &mut |bytes| held.extend_from_slice(bytes));
        self.values = 0;
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.levels.held_bytes() + self.deltas.held_bytes() + self.held.capacity()
    }
}
