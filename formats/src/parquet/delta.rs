//! DELTA_BINARY_PACKED: differences in blocks of 128, four miniblocks of 32 each with its own bit width.

use super::thrift::{varint, zigzag};

const BLOCK: usize = 128;
const MINIBLOCK: usize = 32;

/// Encodes the integers of one page. The bytes do not depend on how the integers were pushed.
#[derive(Debug)]
pub(crate) struct DeltaEncoder {
    first: i64,
    last: i64,
    count: u64,
    deltas: [i64; BLOCK],
    deltas_len: usize,
    out: Vec<u8>,
}

impl DeltaEncoder {
    pub(crate) fn new() -> Self {
        Self { first: 0, last: 0, count: 0, deltas: [0; BLOCK], deltas_len: 0, out: Vec::new() }
    }

    pub(crate) fn clear(&mut self) {
        self.first = 0;
        self.last = 0;
        self.count = 0;
        self.deltas_len = 0;
        self.out.clear();
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.out.capacity()
    }

    /// Appends integers. For a 32-bit column, the difference of neighbours must fit 32 bits.
    pub(crate) fn push_slice(&mut self, mut values: &[i64]) {
        if self.count == 0 {
            let Some((first, rest)) = values.split_first() else { return };
            self.first = *first;
            self.last = *first;
            self.count = 1;
            values = rest;
        }
        self.count += values.len() as u64;
        while !values.is_empty() {
            let (now, later) = values.split_at(values.len().min(BLOCK - self.deltas_len));
            let deltas = &mut self.deltas[self.deltas_len..self.deltas_len + now.len()];
            deltas[0] = now[0].wrapping_sub(self.last);
            for (delta, pair) in deltas[1..].iter_mut().zip(now.windows(2)) {
                *delta = pair[1].wrapping_sub(pair[0]);
            }
            self.last = now[now.len() - 1];
            self.deltas_len += now.len();
            if self.deltas_len == BLOCK {
                self.write_block();
            }
            values = later;
        }
    }

    /// Appends `n` times the same integer.
    pub(crate) fn push_run(&mut self, value: i64, n: usize) {
        let run = [value; BLOCK];
        for at in (0..n).step_by(BLOCK) {
            self.push_slice(&run[..BLOCK.min(n - at)]);
        }
    }

    fn write_block(&mut self) {
        let deltas = &self.deltas[..self.deltas_len];
        let min = *deltas.iter().min().expect("a block has a delta");
        zigzag(&mut self.out, min);
        let widths_at = self.out.len();
        self.out.extend_from_slice(&[0; BLOCK / MINIBLOCK]);
        for (i, miniblock) in deltas.chunks(MINIBLOCK).enumerate() {
            let mut packed = [0_u64; MINIBLOCK];
            let mut all = 0_u64;
            for (to, delta) in packed.iter_mut().zip(miniblock) {
                *to = delta.wrapping_sub(min).cast_unsigned();
                all |= *to;
            }
            let width = u64::BITS - all.leading_zeros();
            self.out[widths_at + i] = width as u8;
            pack(&mut self.out, &packed, width);
        }
        self.deltas_len = 0;
    }

    /// Ends the page's integers and appends them.
    pub(crate) fn write_to(&mut self, page: &mut Vec<u8>) {
        if self.deltas_len > 0 {
            self.write_block();
        }
        varint(page, BLOCK as u64);
        varint(page, (BLOCK / MINIBLOCK) as u64);
        varint(page, self.count);
        zigzag(page, self.first);
        page.extend_from_slice(&self.out);
    }
}

/// Packs 32 integers of `width` bits, the lowest bits first.
fn pack(out: &mut Vec<u8>, values: &[u64; MINIBLOCK], width: u32) {
    if width == 0 {
        return;
    }
    let mut bits = 0_u128;
    let mut filled = 0;
    for value in values {
        bits |= u128::from(*value) << filled;
        filled += width;
        if filled >= u64::BITS {
            out.extend_from_slice(&(bits as u64).to_le_bytes());
            bits >>= u64::BITS;
            filled -= u64::BITS;
        }
    }
    // 32 integers of `width` bits are 4 * `width` bytes: what is left is nothing or half a word.
    out.extend_from_slice(&(bits as u64).to_le_bytes()[..filled as usize / 8]);
}
