//! Repetition and definition levels: Parquet's hybrid of run lengths and bit packing.
//!
//! The bytes are a function of the levels alone, not of the runs in which they were pushed. Equal levels throughout are one
//! run, whatever their number; else a run of eight or more equal levels that begins at a group boundary is a run, and
//! everything else is packed in groups of eight levels, at most 63 groups under one header.

use super::thrift::varint;

/// Groups under one header of packed levels: the header stays one byte.
const GROUPS_MAX: u8 = 63;

/// Encodes the levels of one page.
#[derive(Debug)]
pub(crate) struct LevelsEncoder {
    width: u32,
    out: Vec<u8>,
    count: u64,
    /// Whether all levels so far equal `previous`.
    uniform: bool,
    previous: u8,
    repeated: u64,
    buffered: [u8; 8],
    buffered_len: usize,
    packed_at: usize,
    groups: u8,
}

impl LevelsEncoder {
    /// For levels of `width` bits, at most 2.
    pub(crate) fn new(width: u32) -> Self {
        Self {
            width,
            out: Vec::new(),
            count: 0,
            uniform: true,
            previous: 0,
            repeated: 0,
            buffered: [0; 8],
            buffered_len: 0,
            packed_at: 0,
            groups: 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        *self = Self { out, ..Self::new(self.width) };
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.out.capacity()
    }

    /// Appends `n` equal levels.
    #[inline]
    pub(crate) fn push_run(&mut self, level: u8, n: usize) {
        let mut left = n as u64;
        if left == 0 {
            return;
        }
        self.uniform &= self.count == 0 || level == self.previous;
        self.count += left;
        while left > 0 {
            if level == self.previous && self.repeated >= 8 {
                self.repeated += left;
                return;
            }
            self.push_one(level);
            left -= 1;
        }
    }

    fn push_one(&mut self, level: u8) {
        if level == self.previous && self.repeated > 0 {
            self.repeated += 1;
            if self.repeated >= 8 {
                return;
            }
        } else {
            if self.repeated >= 8 {
                self.write_run();
            }
            self.repeated = 1;
            self.previous = level;
        }
        self.buffered[self.buffered_len] = level;
        self.buffered_len += 1;
        if self.buffered_len == 8 {
            self.write_group();
        }
    }

    fn write_run(&mut self) {
        self.groups = 0;
        varint(&mut self.out, self.repeated << 1);
        self.out.push(self.previous);
        self.repeated = 0;
        self.buffered_len = 0;
    }

    fn write_group(&mut self) {
        if self.groups == 0 {
            self.packed_at = self.out.len();
            self.out.push(0);
        }
        let mut bits = 0_u32;
        for (i, level) in self.buffered.iter().enumerate() {
            bits |= u32::from(*level) << (i as u32 * self.width);
        }
        self.out.extend_from_slice(&bits.to_le_bytes()[..self.width as usize]);
        self.groups += 1;
        self.out[self.packed_at] = self.groups << 1 | 1;
        if self.groups == GROUPS_MAX {
            self.groups = 0;
        }
        self.buffered_len = 0;
        self.repeated = 0;
    }

    /// Ends the page's levels and appends them with their `u32le` length, as a v1 data page wants them.
    pub(crate) fn write_to(&mut self, page: &mut Vec<u8>) {
        if self.uniform && self.count > 0 {
            self.out.clear();
            varint(&mut self.out, self.count << 1);
            self.out.push(self.previous);
        } else if self.repeated >= 8 {
            self.write_run();
        } else if self.buffered_len > 0 {
            self.buffered[self.buffered_len..].fill(0);
            self.write_group();
        }
        page.extend_from_slice(&(self.out.len() as u32).to_le_bytes());
        page.extend_from_slice(&self.out);
    }
}
