//! Places between the records of a block.

use crate::block::Block;

/// A place in a block: a row, and where its bytes begin in each buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) row: usize,
    pub(super) value: usize,
    pub(super) key: usize,
    pub(super) header: usize,
}

impl Cursor {
    pub(super) fn end_of(block: &Block) -> Self {
        Self { row: block.rows(), value: block.values().len(), key: block.keys().len(), header: block.headers().len() }
    }

    pub(super) fn side_bytes_until(&self, to: &Self) -> u64 {
        (to.key - self.key + to.header - self.header) as u64
    }

    pub(super) fn step(&mut self, block: &Block) {
        self.value += block.layout().framed_len(usize::try_from(block.value_lens()[self.row]).ok());
        self.key += usize::try_from(block.key_lens()[self.row]).unwrap_or(0);
        self.header += block.header_lens()[self.row] as usize;
        self.row += 1;
    }

    /// The place `rows` records further on.
    pub(super) fn advanced(mut self, block: &Block, rows: usize) -> Self {
        for _ in 0..rows {
            self.step(block);
        }
        self
    }
}
