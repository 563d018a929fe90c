//! The proof of an object of which only the end was fetched.
//!
//! A HEAD and one ranged GET of the footer tell whose object it is, however large it is.

use std::io::{Cursor, Read};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::decode::read_proof;
use crate::error::FormatError;
use crate::proof::Proof;

/// The last bytes of an object of `size` bytes.
struct Tail {
    bytes: Bytes,
    size: u64,
}

impl Tail {
    fn at(&self, start: u64) -> Result<usize, ParquetError> {
        let first = self.size - self.bytes.len() as u64;
        let within = start.checked_sub(first).filter(|at| *at <= self.bytes.len() as u64);
        within
            .and_then(|at| usize::try_from(at).ok())
            .ok_or_else(|| ParquetError::General("the footer is longer than what was fetched".into()))
    }
}

impl Length for Tail {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Tail {
    type T = Cursor<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let at = self.at(start)?;
        Ok(Cursor::new(self.bytes.slice(at..)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut bytes = vec![0; length];
        self.get_read(start)?.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// The proof in the footer of an object of `size` bytes, from its last bytes.
///
/// # Errors
/// If the footer is longer than `tail`, is damaged, or holds no proof.
pub fn read_proof_tail(tail: Bytes, size: u64) -> Result<Proof, FormatError> {
    if tail.len() as u64 > size {
        return Err(FormatError::Corrupt("more bytes than the object has".into()));
    }
    read_proof(&Tail { bytes: tail, size })
}
