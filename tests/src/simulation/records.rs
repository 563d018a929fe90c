//! What the objects of a lane hold, record by record, against what the ledger says is due.

use std::collections::BTreeMap;
use std::ops::Range;

use catchment_formats::parquet::ParquetDecoder;
use catchment_formats::raw::{RawDecoder, RawItem};
use catchment_formats::{Block, Encoding, Format, FormatError, Missing, ValueLayout};

use super::lane_judge::LaneJudge;
use super::ledger::{KnownEpochs, Taken, Version};
use super::verdict::Stored;
use crate::oracle::{RecordHash, view_hash};

impl LaneJudge<'_> {
    /// Every record from the lane's start on once, unaltered, or excused. Of an incarnation that is gone, what was not read is gone with
    /// it; of a cut that the group alone knew of, what it forgot.
    pub(super) fn records(&mut self, start: i64, is_current: bool, known: &KnownEpochs, forgotten: &[Missing]) {
        let stored = self.decode();
        let lane = self.lane;
        for (offset, versions) in &lane.versions {
            let is_forgotten = lane.was_cut(*offset) && forgotten.iter().any(|gap| gap.covers(*offset));
            let is_hidden = *offset < start || is_forgotten || self.is_hidden(*offset, &stored, known);
            let owed = lane.due(*offset).filter(|_| *offset >= start && self.is_owed(*offset, is_current));
            let is_stored = |version: &Version| stored.get(offset).is_some_and(|hashes| hashes[..] == [version.hash]);
            self.verdict.excused += u64::from(owed.is_some_and(|owed| is_hidden && !is_stored(owed)));
            let due = owed.filter(|_| !is_hidden);
            match stored.get(offset).map(Vec::as_slice) {
                None | Some([]) => {
                    let is_lost = due.is_some() || (!is_hidden && self.was_left_out(*offset));
                    self.lose(is_lost, format_args!("offset {offset} is lost"));
                }
                Some([one]) if versions.iter().any(|v| v.hash == *one) => {
                    // What a new leader wrote where an older record was stored must be listed. Whoever made the topic again did not ask for
                    // that.
                    let is_lost = is_current && due.is_some_and(|due| due.hash != *one);
                    self.verdict.compared += 1;
                    self.lose(is_lost, format_args!("offset {offset} was written anew, and that is lost"));
                }
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
        for offset in stored.keys().filter(|offset| !lane.versions.contains_key(offset)) {
            self.verdict.altered += 1;
            self.find(format_args!("offset {offset} never was"));
        }
    }

    /// Whether nobody can know that another record stood at an offset than what its object has. An object that holds a record of the log before a cut
    /// was read from that log as a whole.
    fn is_hidden(&self, offset: i64, stored: &BTreeMap<i64, Vec<RecordHash>>, known: &KnownEpochs) -> bool {
        let was_read = |cut: &Range<i64>, order| {
            let Some(range) = self.holder(offset).map(|object| object.proof.range) else { return false };
            let mut held = stored.range(range.start.max(cut.start)..range.end.max(cut.start));
            held.any(|(offset, hashes)| hashes.iter().any(|hash| self.lane.is_older(*offset, hash, order)))
        };
        self.lane.hides(offset, was_read, known)
    }

    fn lose(&mut self, is_lost: bool, what: std::fmt::Arguments<'_>) {
        if is_lost {
            self.verdict.lost += 1;
            self.find(what);
        }
    }

    /// What the objects hold, by offset.
    fn decode(&mut self) -> BTreeMap<i64, Vec<RecordHash>> {
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
        stored
    }

    /// Whether the record that is due at an offset has to be stored: no object lists it, and compaction did not take it before the object that
    /// would hold it was written, nor is it younger than that.
    fn is_owed(&self, offset: i64, is_current: bool) -> bool {
        let holder = self.holder(offset);
        let is_compacted = self.lane.due(offset).is_some_and(|due| {
            let missed = |object: &Stored| due.taken_at < object.written_at || due.since > object.written_at;
            due.taken == Some(Taken::Compaction) && holder.is_none_or(missed)
        });
        // What was cut away from the lane of a topic that is gone is its legacy.
        let end = self.objects.iter().map(|o| o.proof.range.end).max().unwrap_or_default();
        !self.is_listed(offset) && !is_compacted && (is_current || (offset < end && !self.lane.was_cut(offset)))
    }

    /// Whether an object does not hold what had stood in its range until it was written, whatever took it later.
    fn was_left_out(&self, offset: i64) -> bool {
        !self.is_listed(offset) && self.holder(offset).is_some_and(|object| self.lane.stood(offset, object.written_at))
    }

    fn holder(&self, offset: i64) -> Option<&Stored> {
        self.objects.iter().find(|object| (object.proof.range.start..object.proof.range.end).contains(&offset))
    }

    fn is_listed(&self, offset: i64) -> bool {
        self.objects.iter().any(|o| o.proof.missing.iter().any(|m| m.covers(offset)))
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
