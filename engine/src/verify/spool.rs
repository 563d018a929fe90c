//! An object's bytes at hand: in memory if it is small, else in a temporary file that has no name.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Once;

use bytes::Bytes;
use catchment_formats::parquet::{ParquetDecoder, read_proof};
use catchment_formats::{Block, FormatError, Proof};

use crate::error::{Error, ErrorKind, Result, codes};
use crate::store::ObjectStore;

/// Objects up to this size stay in memory, and larger ones are fetched in pieces of it. Smaller means more requests, larger
/// more memory for each object that is read at a time.
const PIECE_BYTES: u64 = 8 << 20;

/// The bytes of one object.
#[derive(Debug)]
pub enum Spool {
    /// In memory.
    Memory(Bytes),
    /// In a temporary file.
    File(File, u64),
}

impl Spool {
    /// Fetches an object of `size` bytes, and no more of it if it has grown; none if it is not there any more.
    ///
    /// # Errors
    /// If the store does not answer, or the temporary file cannot be written.
    pub async fn fetch(store: &dyn ObjectStore, key: &str, size: u64) -> Result<Option<Self>> {
        if size <= PIECE_BYTES {
            return Ok(store.get(key, Some(0..size)).await?.map(Self::Memory));
        }
        let file = tempfile::tempfile().map_err(unwritable)?;
        Ok(copy(store, key, 0..size, file).await?.map(|(file, at)| Self::File(file, at)))
    }

    /// Fetches a part of an object of `size` bytes; `tail` is its end. There is nothing where the rest of it was.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub async fn fetch_part(store: &dyn ObjectStore, key: &str, size: u64, part: Range<u64>, tail: Bytes) -> Result<Option<Self>> {
        let file = tempfile::tempfile().map_err(unwritable)?;
        file.set_len(size).map_err(unwritable)?;
        let Some((file, _)) = copy(store, key, part, file).await? else { return Ok(None) };
        let file = write_at(file, tail.clone(), size.saturating_sub(tail.len() as u64)).await?;
        Ok(Some(Self::File(file, size)))
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, len) => *len,
        }
    }

    /// The proof in the footer of a Parquet object, even of one whose records this build cannot decode.
    ///
    /// # Errors
    /// As [`read_proof`].
    pub fn proof_in_footer(&self) -> Result<Proof, FormatError> {
        let _quiet = Decoding::begin();
        match self {
            Self::Memory(bytes) => read_proof(bytes),
            Self::File(file, _) => read_proof(file),
        }
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `at` on; answers how many bytes there were.
    ///
    /// # Errors
    /// If the temporary file cannot be read.
    pub fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        match self {
            Self::Memory(bytes) => {
                let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                let n = buf.len().min(bytes.len() - from);
                buf[..n].copy_from_slice(&bytes[from..from + n]);
                Ok(n)
            }
            Self::File(file, _) => {
                let mut filled = 0;
                while filled < buf.len() {
                    match file.read_at(&mut buf[filled..], at + filled as u64)? {
                        0 => break,
                        n => filled += n,
                    }
                }
                Ok(filled)
            }
        }
    }

    /// A reader from the first byte on.
    pub fn reader(&self) -> SpoolReader<'_> {
        SpoolReader { spool: self, at: 0 }
    }
}

/// Copies a part of an object to where it stands in the object; answers where that ended. None: the object is not there any more.
async fn copy(store: &dyn ObjectStore, key: &str, part: Range<u64>, mut file: File) -> Result<Option<(File, u64)>> {
    let mut at = part.start;
    while at < part.end {
        let Some(piece) = store.get(key, Some(at..(at + PIECE_BYTES).min(part.end))).await? else { return Ok(None) };
        if piece.is_empty() {
            break; // It is shorter than it was when it was listed; whoever reads it will say so.
        }
        let next = at + piece.len() as u64;
        file = write_at(file, piece, at).await?;
        at = next;
    }
    Ok(Some((file, at)))
}

async fn write_at(file: File, piece: Bytes, at: u64) -> Result<File> {
    tokio::task::spawn_blocking(move || file.write_all_at(&piece, at).map(|()| file))
        .await
        .unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()))
        .map_err(unwritable)
}

/// Reads a spooled object from its beginning.
#[derive(Debug)]
pub struct SpoolReader<'a> {
    spool: &'a Spool,
    at: u64,
}

impl Read for SpoolReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.spool.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// A decoder over a spooled Parquet object.
#[derive(Debug)]
pub enum ParquetSpool {
    /// In memory.
    Memory(ParquetDecoder<Bytes>),
    /// In a temporary file.
    File(ParquetDecoder<File>),
}

impl ParquetSpool {
    /// Opens the object.
    ///
    /// # Errors
    /// As [`ParquetDecoder::new`].
    pub fn open(spool: &Spool) -> Result<Self, FormatError> {
        let _quiet = Decoding::begin();
        Ok(match spool {
            Spool::Memory(bytes) => Self::Memory(ParquetDecoder::new(bytes.clone())?),
            Spool::File(file, _) => Self::File(ParquetDecoder::new(file.try_clone()?)?),
        })
    }

    /// The object's proof.
    pub fn proof(&self) -> &Proof {
        match self {
            Self::Memory(decoder) => decoder.proof(),
            Self::File(decoder) => decoder.proof(),
        }
    }

    /// The next records; false at the end.
    ///
    /// # Errors
    /// As [`ParquetDecoder::next_block`].
    pub fn next_block(&mut self, block: &mut Block) -> Result<bool, FormatError> {
        let _quiet = Decoding::begin();
        match self {
            Self::Memory(decoder) => decoder.next_block(block),
            Self::File(decoder) => decoder.next_block(block),
        }
    }
}

thread_local! {
    static IS_DECODING: Cell<bool> = const { Cell::new(false) };
}

/// While this lives, its thread decodes bytes that may be damaged.
///
/// The `parquet` crate meets some damage with a panic, which the decoder turns into an error. Only the message of the panic
/// hook would still reach the terminal, and read like a bug of ours.
struct Decoding;

impl Decoding {
    fn begin() -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let usual = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                if IS_DECODING.get() { tracing::debug!("while decoding a damaged object: {panic}") } else { usual(panic) }
            }));
        });
        IS_DECODING.set(true);
        Self
    }
}

impl Drop for Decoding {
    fn drop(&mut self) {
        IS_DECODING.set(false);
    }
}

/// The error for a temporary file that fails.
pub(super) fn unwritable(e: io::Error) -> Error {
    Error::new(codes::SPOOL, ErrorKind::Retryable, "a temporary file cannot be used")
        .with("directory", std::env::temp_dir().display())
        .because(e)
        .help("free some space there, or point TMPDIR to a directory that has it")
}
