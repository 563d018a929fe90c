//! What a cell's store holds, and how it differs from what the script wrote.
//!
//! The truth is the script's own list of visible records, never what the client read. Parquet objects are compared record by record with
//! all their parts, raw objects value by value: an object's proof says for which offsets its values stand.

use std::collections::BTreeMap;

use bytes::Bytes;
use catchment::commit::proof;
use catchment::store::ObjectStore;
use catchment::store::key::Layout;
use catchment_formats::parquet::ParquetDecoder;
use catchment_formats::raw::{RawDecoder, RawItem};
use catchment_formats::{Block, Encoding, ValueLayout};

use crate::broker::log::Visible;
use crate::oracle::{Difference, Place, Stored, Truth, record_hash};

/// What must be stored of one incarnation of a topic: records by partition and offset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    records: BTreeMap<Place, Visible>,
}

impl Expected {
    /// Adds what is visible in a partition now. What was there before and is not any more stays expected.
    pub(crate) fn add(&mut self, partition: i32, visible: Vec<Visible>) {
        self.records.extend(visible.into_iter().map(|v| ((partition, v.offset), v)));
    }

    /// Nothing of this range is expected.
    pub(crate) fn without(&mut self, partition: i32, from: i64, to: i64) {
        self.records.retain(|(of, offset), _| *of != partition || !(from..to).contains(offset));
    }

    /// How many records are expected.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    fn truth(&self) -> Truth {
        Truth::of(self.records.iter().map(|(place, visible)| (*place, hash(*place, visible), None)))
    }

    fn values(&self, partition: i32, from: i64, to: i64) -> impl Iterator<Item = (Place, &Visible)> {
        self.records.range((partition, from)..(partition, to)).map(|(place, v)| (*place, v))
    }
}

fn hash(place: Place, visible: &Visible) -> crate::oracle::RecordHash {
    let record = &visible.record;
    let headers: Vec<(&[u8], Option<&[u8]>)> = record.headers.iter().map(|(n, v)| (n.as_slice(), v.as_deref())).collect();
    record_hash(place, visible.time, record.key.as_deref(), record.value.as_deref(), headers.into_iter())
}

/// The keys of all data objects in a directory of the store, in order.
pub(crate) async fn data_keys(store: &dyn ObjectStore, prefix: &str) -> Result<Vec<String>, String> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(prefix, false, after.as_deref()).await.map_err(|e| e.to_string())?;
        keys.extend(page.objects.into_iter().map(|o| o.key).filter(|key| !key.contains("_catchment/")));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(keys),
        }
    }
}

/// Compares the objects below a prefix with what must be there.
pub(crate) async fn compare(store: &dyn ObjectStore, prefix: &str, expected: &Expected) -> Result<Difference, String> {
    let mut stored = Stored::default();
    for key in data_keys(store, prefix).await? {
        let object = store.get(&key, None).await.map_err(|e| e.to_string())?.ok_or_else(|| format!("{key} is listed and not there"))?;
        if key.ends_with(".parquet") {
            read_parquet(&key, object, &mut stored)?;
        } else {
            read_raw(store, &key, object, expected, &mut stored).await?;
        }
    }
    Ok(expected.truth().compare(&stored))
}

fn read_parquet(key: &str, object: Bytes, stored: &mut Stored) -> Result<(), String> {
    let mut decoder = ParquetDecoder::new(object).map_err(|e| format!("{key}: {e}"))?;
    let partition = decoder.proof().lane.partition;
    let mut block = Block::new(ValueLayout::Plain);
    while decoder.next_block(&mut block).map_err(|e| format!("{key}: {e}"))? {
        block.iter().for_each(|record| stored.push_view(partition, &record));
    }
    Ok(())
}

/// A raw object holds values and nothing else. Each stands for the record that is expected in its place; a value that is another's, or
/// one too many, makes a record that no script wrote.
async fn read_raw(store: &dyn ObjectStore, key: &str, object: Bytes, expected: &Expected, stored: &mut Stored) -> Result<(), String> {
    let found = proof::look(store, &Layout::Hive, key).await.map_err(|e| e.to_string())?;
    let proof = found.and_then(|(_, proof)| proof).ok_or_else(|| format!("{key} has no proof"))?;
    let encoding: Encoding = proof.encoding.parse().map_err(|e| format!("{key}: {e}"))?;
    let mut decoder = RawDecoder::new(&object[..], &encoding).map_err(|e| format!("{key}: {e}"))?;
    let mut due = expected.values(proof.lane.partition, proof.range.start, proof.range.end);
    let mut surplus = proof.range.end;
    while let Some(item) = decoder.next_item().map_err(|e| format!("{key}: {e}"))? {
        let value = match item {
            RawItem::Null => None,
            RawItem::Value(bytes) => Some(bytes),
        };
        match due.next() {
            Some((place, visible)) if visible.record.value.as_deref() == value => stored.push(place, hash(place, visible)),
            Some((place, _)) => stored.push(place, Default::default()),
            None => {
                stored.push((proof.lane.partition, i64::MAX - surplus), Default::default());
                surplus += 1;
            }
        }
    }
    Ok(())
}
