//! What the objects of a lane hold, record by record, against what the ledger says is due.

use std::collections::BTreeMap;

use catchment_formats::parquet::ParquetDecoder;
use catchment_formats::raw::{RawDecoder, RawItem};
use catchment_formats::{Block, Encoding, Format, FormatError, ValueLayout};

use super::lane_judge::LaneJudge;
use super::ledger::{KnownEpochs, Taken};
use super::verdict::Stored;
use crate::oracle::{RecordHash, view_hash};

impl LaneJudge<'_> {
    /// Every record from the lane's start on once, unaltered, or excused. Of an incarnation that is gone, what was not read is gone with
    /// it.
    pub(super) fn records(&mut self, start: i64, is_current: bool, known: &KnownEpochs) {
        let mut stored: BTreeMap<i64, Vec<RecordHash>> = BTreeMap::new();
        for object in self.objects {
            let encoding: Encoding = object.proof.encoding.parse().expect("a proof names its encoding");
            match encoding.format {
                Format::Parquet => {
                    if let Err(e) = parquet(object, &mut stored) {
                        self.find(format_args!("{}: {e}", object.key));
                    }
                }
                Format::Raw(_) => self.raw(object, &encoding, &mut stored),
            }
        }
        let end = self.objects.iter().map(|o| o.proof.range.end).max().unwrap_or_default();
        let lane = self.lane;
        for (offset, versions) in &lane.versions {
            let is_listed = self.objects.iter().any(|o| o.proof.missing.iter().any(|m| m.covers(*offset)));
            let due = lane.due(*offset).filter(|due| *offset >= start && !is_listed && due.taken != Some(Taken::Compaction));
            // What was cut away from the lane of a topic that is gone is its legacy.
            let due = due.filter(|_| is_current || (*offset < end && !lane.was_cut(*offset))).filter(|_| !lane.hides(*offset, known));
            match stored.remove(offset).as_deref() {
                None | Some([]) => {
                    if due.is_some() {
                        self.verdict.lost += 1;
                        self.find(format_args!("offset {offset} is lost"));
                    }
                }
                // What a new leader wrote where an older record was stored must be listed. Whoever made the topic again did not ask for
                // that.
                Some([one]) if is_current && due.is_some_and(|due| due.hash != *one) && versions.iter().any(|v| v.hash == *one) => {
                    self.verdict.lost += 1;
                    self.find(format_args!("offset {offset} was written anew, and that is lost"));
                }
                Some([one]) if versions.iter().any(|v| v.hash == *one) => {}
                Some([_]) => {
                    self.verdict.altered += 1;
                    self.find(format_args!("offset {offset} is altered"));
                }
                Some(many) => {
                    self.verdict.duplicated += 1;
                    self.find(format_args!("offset {offset} is stored {} times", many.len()));
                }
            }
        }
        for offset in stored.keys() {
            self.verdict.altered += 1;
            self.find(format_args!("offset {offset} never was"));
        }
    }

    /// A raw object's values are those of its range, in order. Which offset each had follows from that.
    fn raw(&mut self, object: &Stored, encoding: &Encoding, stored: &mut BTreeMap<i64, Vec<RecordHash>>) {
        let mut decoder = match RawDecoder::new(&object.body[..], encoding) {
            Ok(decoder) => decoder,
            Err(e) => return self.find(format_args!("{}: {e}", object.key)),
        };
        let lane = self.lane;
        let due = lane
            .versions
            .range(object.proof.range.start..object.proof.range.end)
            .filter(|(offset, _)| !object.proof.missing.iter().any(|m| m.covers(**offset)));
        for (offset, versions) in due {
            let value = match decoder.next_item() {
                Ok(Some(RawItem::Value(value))) => Some(value.to_vec()),
                Ok(Some(RawItem::Null)) => None,
                Ok(None) => return self.find(format_args!("{} ends before offset {offset}", object.key)),
                Err(e) => return self.find(format_args!("{}: {e}", object.key)),
            };
            match versions.iter().find(|v| v.value == value) {
                Some(version) => stored.entry(*offset).or_default().push(version.hash),
                None => return self.find(format_args!("{}: the value of offset {offset} is another", object.key)),
            }
        }
        if !matches!(decoder.next_item(), Ok(None)) {
            self.find(format_args!("{} goes on behind its last value", object.key));
        }
    }
}

fn parquet(object: &Stored, stored: &mut BTreeMap<i64, Vec<RecordHash>>) -> Result<(), FormatError> {
    let mut decoder = ParquetDecoder::new(object.body.clone())?;
    let partition = object.proof.lane.partition;
    let mut block = Block::new(ValueLayout::Plain);
    while decoder.next_block(&mut block)? {
        for record in block.iter() {
            stored.entry(record.offset).or_default().push(view_hash(partition, &record));
        }
    }
    Ok(())
}
