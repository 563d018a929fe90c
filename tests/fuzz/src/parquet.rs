//! Parquet objects: footer, pages, rows.

use bytes::Bytes;
use catchment::verify::spool::{ParquetSpool, Spool};
use catchment_formats::parquet::{TailProof, read_proof_from_tail};
use catchment_formats::{Block, DigestBuilder, ValueLayout};

/// What is read to its end has the number of records that its proof counts, and both ways to the proof agree.
pub(crate) fn run(input: &[u8]) {
    let spool = Spool::Memory(Bytes::copy_from_slice(input));
    let in_footer = spool.proof_in_footer();
    if let (Ok(TailProof::Proof(in_tail)), Ok(in_footer)) = (read_proof_from_tail(input), &in_footer) {
        assert_eq!(*in_tail, *in_footer, "the footer's proof");
    }
    let Ok(mut decoder) = ParquetSpool::open(&spool) else { return };
    let mut digest = DigestBuilder::new();
    let mut block = Block::new(ValueLayout::Plain);
    loop {
        match decoder.next_block(&mut block) {
            Ok(true) => digest.push(&block),
            Ok(false) => break,
            Err(_) => return,
        }
    }
    assert_eq!(digest.counts().records, decoder.proof().counts.records);
}
