//! One object, held against its own proof: size, records, counts, digest, and the very bytes.
//!
//! The last check rests on the formats' promise: equal records and an equal encoding give equal bytes. So the decoded records
//! are encoded again and compared with what is stored; that finds a changed byte even where no checksum of the format looks.

use std::io;

use catchment_formats::raw::RawDecoder;
use catchment_formats::{
    Block, ByteSink, DigestBuilder, Encoding, Format, FormatError, Framing, Proof, SegmentEncoder, ValueLayout, segment_encoder,
};

use super::lanes::LaneObject;
use super::listing::{Listed, Listing};
use super::report::{Damage, DamageKind};
use super::spool::{ParquetSpool, Spool, unwritable};
use super::{joined, proof};
use crate::error::Result;
use crate::invariants::missing_within;
use crate::store::ObjectStore;

/// Reads the object at `index` of the listing and checks it.
///
/// # Errors
/// If the store does not answer, or a temporary file fails. What is wrong with the object is no error.
pub async fn check(store: &dyn ObjectStore, listing: &Listing, index: usize) -> Result<LaneObject> {
    let listed = &listing.objects[index];
    let mut damage = Vec::new();
    let beside = proof_beside(store, listing, listed, &mut damage).await?;
    let Some(spool) = Spool::fetch(store, &listed.key, listed.size).await? else {
        damage.push(Damage::new(&listed.key, DamageKind::Unreadable, "it was listed and is not there"));
        return Ok(LaneObject { index, proof: beside, damage, notes: Vec::new(), readable: false });
    };
    let listed = listed.clone();
    let task = tokio::task::spawn_blocking(move || {
        let mut check = Check { listed: &listed, spool: &spool, damage, notes: Vec::new() };
        let (proof, readable) = check.run(beside)?;
        Ok(LaneObject { index, proof, damage: check.damage, notes: check.notes, readable })
    });
    joined(Some(task.await))
}

/// The proof in the object's metadata or in its record.
async fn proof_beside(store: &dyn ObjectStore, listing: &Listing, listed: &Listed, damage: &mut Vec<Damage>) -> Result<Option<Proof>> {
    let info = store.head(&listed.key).await?;
    let mut found = info.and_then(|info| proof::in_metadata(&info.metadata));
    if found.is_none() && listed.extension != "parquet" {
        found = proof::in_record(store, listing, listed).await?;
    }
    Ok(match found {
        Some(Ok(proof)) => Some(proof),
        Some(Err(why)) => {
            damage.push(Damage::new(&listed.key, DamageKind::Proof, why));
            None
        }
        None => None,
    })
}

struct Check<'a> {
    listed: &'a Listed,
    spool: &'a Spool,
    damage: Vec<Damage>,
    notes: Vec<String>,
}

impl Check<'_> {
    /// Says that only a later build can read the object: that is no damage.
    fn needs_newer(&mut self, encoding: &str) {
        self.notes
            .push(format!("{} has encoding {encoding:?}, which needs a newer catchment; its records were not checked", self.listed.key));
    }

    fn add(&mut self, kind: DamageKind, detail: impl Into<String>) {
        self.damage.push(Damage::new(&self.listed.key, kind, detail));
    }

    /// The object's proof, and whether its records could be read.
    fn run(&mut self, beside: Option<Proof>) -> Result<(Option<Proof>, bool)> {
        if let Some(size) = beside.as_ref().and_then(|p| p.size).filter(|size| *size != self.spool.len()) {
            let kind = if self.spool.len() < size { DamageKind::Truncated } else { DamageKind::Bytes };
            self.add(kind, format!("it has {} bytes, and had {size} when it was written", self.spool.len()));
            return Ok((beside, false));
        }
        if self.listed.extension == "parquet" { self.parquet(beside) } else { self.raw(beside) }
    }

    fn parquet(&mut self, beside: Option<Proof>) -> Result<(Option<Proof>, bool)> {
        match read_parquet(self.spool) {
            Ok(read) => {
                self.hold_against_footer(&read, beside.as_ref());
                Ok((Some(read.proof), true))
            }
            Err((_, FormatError::Io(e))) if e.raw_os_error().is_some() => Err(unwritable(e)),
            Err((_, FormatError::UnknownEncoding(encoding))) if Encoding::is_of_later_version(&encoding) => {
                self.needs_newer(&encoding);
                Ok((self.spool.proof_in_footer().ok().or(beside), false))
            }
            Err((proof, error)) => {
                self.add(self.kind_of(&error), error.to_string());
                Ok((proof.map(|p| *p).or(beside), false))
            }
        }
    }

    fn hold_against_footer(&mut self, read: &ReadParquet, beside: Option<&Proof>) {
        let proof = &read.proof;
        if beside.is_some_and(|b| b.to_json_without_size() != proof.to_json()) {
            self.add(DamageKind::Proof, "the proof in its metadata is not the one in its footer");
        }
        self.check_proof(proof);
        if read.counts != proof.counts {
            self.add(DamageKind::Counts, format!("it holds {:?}, and its proof says {:?}", read.counts, proof.counts));
        } else if read.digest != proof.digest {
            self.add(DamageKind::Digest, format!("its records have {}, and its proof says {}", read.digest, proof.digest));
        } else if let Some(at) = read.differs_at {
            self.add(DamageKind::Bytes, format!("from byte {at} on it is not what {} gives for its records", proof.encoding));
        }
    }

    fn check_proof(&mut self, proof: &Proof) {
        let id = &proof.lane.topic_id;
        if id != "0" && !(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())) {
            self.add(DamageKind::Proof, format!("{id:?} is no topic id"));
        }
        for violation in missing_within(proof.range, &proof.missing) {
            self.add(DamageKind::Proof, format!("{violation}: {:?} in {}", proof.missing, proof.range));
        }
    }

    /// What an error of the decoder is called. An I/O error that the system does not know of is a decoder's way to say that a
    /// length in the object is wrong. An object that ends too early is the commonest case and has its own name.
    fn kind_of(&self, error: &FormatError) -> DamageKind {
        let text = error.to_string();
        if text.contains("records where the proof counts") {
            DamageKind::Counts
        } else if text.contains("or more is due, in range") {
            DamageKind::Offsets
        } else if self.begins_as_parquet_without_end() || text.contains("ends within") || text.contains("incomplete frame") {
            DamageKind::Truncated
        } else {
            DamageKind::Unreadable
        }
    }

    fn begins_as_parquet_without_end(&self) -> bool {
        let (mut head, mut tail) = ([0; 4], [0; 4]);
        let at_end = self.spool.len().saturating_sub(4);
        let read = self.spool.read_at(&mut head, 0).and_then(|_| self.spool.read_at(&mut tail, at_end));
        read.is_ok()
            && self.listed.extension == "parquet"
            && b"PAR1".starts_with(&head[..self.spool.len().min(4) as usize])
            && tail != *b"PAR1"
    }

    fn raw(&mut self, beside: Option<Proof>) -> Result<(Option<Proof>, bool)> {
        let Some(proof) = beside else {
            if self.damage.is_empty() {
                self.add(DamageKind::ProofAbsent, "neither its metadata nor a record below _catchment/objects/ says what it holds");
            }
            return Ok((None, false));
        };
        let encoding = match proof.encoding.parse::<Encoding>() {
            Ok(encoding) if encoding.extension() == self.listed.extension => encoding,
            Ok(encoding) => {
                self.add(DamageKind::Misplaced, format!("its proof is that of a .{} object", encoding.extension()));
                return Ok((Some(proof), false));
            }
            Err(_) if Encoding::is_of_later_version(&proof.encoding) => {
                self.needs_newer(&proof.encoding);
                return Ok((Some(proof), false));
            }
            Err(e) => {
                self.add(DamageKind::Unreadable, e.to_string());
                return Ok((Some(proof), false));
            }
        };
        self.check_proof(&proof);
        match read_raw(self.spool, &encoding) {
            Ok(stream) => self.hold_against_stream(&proof, &encoding, stream),
            Err(FormatError::Io(e)) if e.raw_os_error().is_some() => return Err(unwritable(e)),
            Err(error) => {
                self.add(self.kind_of(&error), error.to_string());
                return Ok((Some(proof), false));
            }
        }
        Ok((Some(proof), true))
    }

    fn hold_against_stream(&mut self, proof: &Proof, encoding: &Encoding, stream: RawStream) {
        let counts = &proof.counts;
        let values = counts.records.saturating_sub(counts.null_values);
        let framing = match encoding.value_layout() {
            ValueLayout::Newline => values,
            ValueLayout::Len32 => counts.records.saturating_mul(4),
            ValueLayout::Bare | ValueLayout::Plain => 0,
        };
        let expected = counts.value_bytes.saturating_add(framing);
        if stream.framed_bytes != expected {
            self.add(DamageKind::Counts, format!("its values take {} bytes, and its proof says {expected}", stream.framed_bytes));
        } else if encoding.format == Format::Raw(Framing::Len32) && (stream.items, stream.nulls) != (counts.records, counts.null_values) {
            let told = format!("{} records, {} of them null", counts.records, counts.null_values);
            self.add(
                DamageKind::Counts,
                format!("it holds {} records, {} of them null, and its proof says {told}", stream.items, stream.nulls),
            );
        } else if stream.crc != proof.digest.values {
            self.add(DamageKind::Digest, format!("its values have {:016x}, and its proof says {}", stream.crc, proof.digest));
        }
    }
}

/// What reading a Parquet object to its end gave.
struct ReadParquet {
    proof: Proof,
    counts: catchment_formats::Counts,
    digest: catchment_formats::Digest,
    /// First byte that differs from what encoding the records again gives.
    differs_at: Option<u64>,
}

fn read_parquet(spool: &Spool) -> Result<ReadParquet, (Option<Box<Proof>>, FormatError)> {
    let mut decoder = ParquetSpool::open(spool).map_err(|e| (None, e))?;
    let proof = decoder.proof().clone();
    let encoding: Encoding = proof.encoding.parse().map_err(|e| (Some(Box::new(proof.clone())), e))?;
    let mut again = Again::new(&encoding, &proof, spool);
    let mut digest = DigestBuilder::new();
    let mut block = Block::new(ValueLayout::Plain);
    while decoder.next_block(&mut block).map_err(|e| (Some(Box::new(proof.clone())), e))? {
        digest.push(&block);
        again.append(&block);
    }
    let differs_at = again.finish(&proof).map_err(|e| (None, e.into()))?;
    Ok(ReadParquet { proof, counts: digest.counts(), digest: digest.digest(), differs_at })
}

/// Encodes records again and compares the bytes with the object's, without keeping them.
struct Again<'a> {
    encoder: Box<dyn SegmentEncoder>,
    sink: Comparison<'a>,
}

impl<'a> Again<'a> {
    fn new(encoding: &Encoding, proof: &Proof, spool: &'a Spool) -> Self {
        let encoder = segment_encoder(encoding, &proof.lane, proof.range.start);
        Self { encoder, sink: Comparison { spool, at: 0, differs_at: None, failed: None, buffer: Vec::new() } }
    }

    fn append(&mut self, block: &Block) {
        if self.sink.differs_at.is_none() && block.rows() > 0 {
            self.encoder.append(block, &mut self.sink);
        }
    }

    /// First byte that differs.
    fn finish(mut self, proof: &Proof) -> io::Result<Option<u64>> {
        // A list of missing ranges that contradicts itself is a damage of its own, and the encoder would take it for our bug.
        if self.sink.differs_at.is_none() && missing_within(proof.range, &proof.missing).is_empty() {
            self.encoder.finish(proof.range.end, &proof.missing, &mut self.sink);
            if self.sink.at < self.sink.spool.len() {
                self.sink.differs_at.get_or_insert(self.sink.at);
            }
        }
        self.sink.failed.map_or(Ok(self.sink.differs_at), Err)
    }
}

struct Comparison<'a> {
    spool: &'a Spool,
    at: u64,
    differs_at: Option<u64>,
    failed: Option<io::Error>,
    buffer: Vec<u8>,
}

impl ByteSink for Comparison<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if self.differs_at.is_some() || self.failed.is_some() {
            return;
        }
        self.buffer.resize(bytes.len(), 0);
        match self.spool.read_at(&mut self.buffer, self.at) {
            Ok(read) => {
                let same = bytes.iter().zip(&self.buffer[..read]).take_while(|(a, b)| a == b).count();
                if same < bytes.len() {
                    self.differs_at = Some(self.at + same as u64);
                }
                self.at += bytes.len() as u64;
            }
            Err(e) => self.failed = Some(e),
        }
    }
}

/// What reading a raw object to its end gave.
struct RawStream {
    items: u64,
    nulls: u64,
    framed_bytes: u64,
    crc: u64,
}

fn read_raw(spool: &Spool, encoding: &Encoding) -> Result<RawStream, FormatError> {
    let mut decoder = RawDecoder::new(spool.reader(), encoding)?;
    let layout = encoding.value_layout();
    let (mut items, mut nulls, mut framed_bytes) = (0, 0, 0);
    while let Some(value) = decoder.skip_item()? {
        items += 1;
        nulls += u64::from(value.is_none());
        framed_bytes += layout.framed_len(value.map(|len| len as usize)) as u64;
    }
    Ok(RawStream { items, nulls, framed_bytes, crc: decoder.values_crc() })
}
