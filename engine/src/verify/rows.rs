//! The first records of an object, for people: safe lines for a terminal, JSON that keeps every byte for programs.

use std::fmt::Write as _;

use bytes::Bytes;
use catchment_formats::parquet::first_group_from_tail;
use catchment_formats::raw::{RawDecoder, RawItem};
use catchment_formats::{Block, Encoding, FormatError, Proof, RecordView, TimestampType, ValueLayout};
use serde_json::{Map, Value, json};

use super::listing::Listed;
use super::spool::{ParquetSpool, Spool};
use super::{Place, proof};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind, Result, codes};
use crate::store::{Metadata, ObjectStore};
use crate::text::one_line;

/// Characters of a value that are shown in a line.
const SHOWN_CHARS: usize = 160;

/// What is shown of an object.
#[derive(Debug)]
pub struct FirstRows {
    /// Its address.
    pub url: String,
    /// Its size in bytes.
    pub size: u64,
    /// What it says of itself, if that can be read.
    pub proof: Option<Proof>,
    /// Its first records, with every byte.
    pub rows: Vec<Value>,
    /// The same, each in a line without control characters.
    pub lines: Vec<String>,
}

/// How much of an object is read to show its first records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Objects up to this size are read as a whole: in memory, by one request.
    pub whole: u64,
    /// The beginning of a larger raw object.
    pub beginning: u64,
    /// Most bytes of the first row group of a larger Parquet object. One of ours has about 64 MiB before it is compressed.
    pub group: u64,
}

const LIMITS: Limits = Limits { whole: 8 << 20, beginning: 16 << 20, group: 128 << 20 };

/// Reads the first rows of an object and its proof: no other object's, and of this one no more than they take.
///
/// # Errors
/// `C0502` if there is none of this name, or none of a backup; `C0503` if it cannot be decoded; `C0630` if its first records take too much.
pub async fn first(place: &Place, name: &str, rows: usize) -> Result<FirstRows> {
    first_within(place, name, rows, LIMITS).await
}

pub(super) async fn first_within(place: &Place, name: &str, rows: usize, limits: Limits) -> Result<FirstRows> {
    let key = format!("{}{name}", place.prefix);
    let url = place.url_of(&key);
    let absent = || {
        Error::new(codes::NOTHING_THERE, ErrorKind::NotFound, "there is no such object")
            .with("url", &url)
            .help("`catchment ls -l URL` lists the objects of a prefix")
    };
    let info = place.store.head(&key).await?.ok_or_else(absent)?;
    let listed = Listed::of(key.clone(), info.size).map_err(|_| {
        Error::new(codes::NOTHING_THERE, ErrorKind::Invalid, "this is no object of a backup")
            .with("url", &url)
            .help("objects are named <topic>+<partition>+<first offset, 20 digits>.<extension>")
    })?;
    let (proof, tail) = proof_and_tail(place, &listed, &info.metadata).await?;
    if rows == 0 {
        // What it says of itself needs no more than its footer.
        return Ok(FirstRows { url, size: info.size, proof: proof.ok(), rows: Vec::new(), lines: Vec::new() });
    }
    let wanted = Wanted { listed: listed.clone(), proof: proof.clone().ok(), rows };
    let read = match spool(&*place.store, &listed, tail, limits).await? {
        None => return Err(absent()),
        Some(Extent::TooLarge) => Err(Unread::TooLarge),
        Some(Extent::Whole(spool)) => wanted.read(spool, usize::MAX, false).await,
        Some(Extent::Group(spool, rows)) => wanted.read(spool, rows, false).await,
        Some(Extent::Beginning(spool)) => wanted.read(spool, usize::MAX, true).await,
    };
    let (rows, lines) = read.map_err(|why| why.error(&url))?;
    Ok(FirstRows { url, size: info.size, proof: proof.ok(), rows, lines })
}

/// The proof, and of a Parquet object its end.
async fn proof_and_tail(place: &Place, listed: &Listed, metadata: &Metadata) -> Result<(Result<Proof, String>, Bytes)> {
    if listed.extension == "parquet" {
        let tail = proof::footer(&*place.store, listed).await?;
        return Ok((proof::in_tail(tail.clone()).await, tail));
    }
    let found = match proof::in_metadata(metadata) {
        Some(found) => Some(found),
        None => proof::in_record_above(place, listed).await?,
    };
    Ok((found.unwrap_or_else(|| Err("it has no proof".to_owned())), Bytes::new()))
}

/// How much of an object is at hand.
enum Extent {
    Whole(Spool),
    /// The first row group and the footer, and how many records that are.
    Group(Spool, usize),
    Beginning(Spool),
    TooLarge,
}

/// Fetches what the first records need.
async fn spool(store: &dyn ObjectStore, listed: &Listed, tail: Bytes, limits: Limits) -> Result<Option<Extent>> {
    let Listed { key, size, .. } = listed;
    if *size <= limits.whole {
        return Ok(Spool::fetch(store, key, *size).await?.map(Extent::Whole));
    }
    if listed.extension != "parquet" {
        return Ok(Spool::fetch(store, key, limits.beginning.min(*size)).await?.map(Extent::Beginning));
    }
    let (footer, size) = (tail.clone(), *size);
    match blocking(move || first_group_from_tail(&footer, size)).await {
        Ok(Some(group)) if group.bytes.end.saturating_sub(group.bytes.start) > limits.group => Ok(Some(Extent::TooLarge)),
        Ok(Some(group)) => {
            let rows = usize::try_from(group.rows).unwrap_or(usize::MAX);
            Ok(Spool::fetch_part(store, key, size, group.bytes, tail).await?.map(|spool| Extent::Group(spool, rows)))
        }
        // The decoder says of the footer what is wrong with it.
        Ok(None) | Err(_) => Ok(Spool::fetch_part(store, key, size, 0..0, tail).await?.map(|spool| Extent::Group(spool, 0))),
    }
}

/// Why there are no records to show.
enum Unread {
    TooLarge,
    Damaged(String),
}

impl Unread {
    fn error(self, url: &str) -> Error {
        match self {
            Self::TooLarge => {
                Error::new(codes::TOO_LARGE_TO_SHOW, ErrorKind::Invalid, "the first records of the object are too large to be shown")
                    .with("url", url)
                    .help("download the object, or read it with another reader from the store")
            }
            Self::Damaged(why) => Error::new(codes::OBJECT_UNREADABLE, ErrorKind::Corrupt, "the object cannot be read")
                .with("url", url)
                .because(why)
                .help("`catchment verify` on its directory says what else is damaged, and docs/errors.md what can be done"),
        }
    }
}

/// Which records of which object.
struct Wanted {
    listed: Listed,
    proof: Option<Proof>,
    rows: usize,
}

impl Wanted {
    /// Decodes what is at hand, on a thread that may take its time. `is_part`: it ends before the object does.
    async fn read(self, spool: Spool, at_hand: usize, is_part: bool) -> Result<Rows, Unread> {
        blocking(move || {
            let rows = self.rows.min(at_hand);
            match (&self.proof, self.listed.extension.as_str()) {
                (_, "parquet") => parquet_rows(&spool, rows).map_err(|e| Unread::Damaged(e.to_string())),
                (Some(proof), _) => raw_rows(&spool, proof, &self.listed, rows, is_part),
                // Without a proof nothing says how a raw object's values are framed.
                (None, _) => Ok(Rows::default()),
            }
        })
        .await
    }
}

type Rows = (Vec<Value>, Vec<String>);

fn parquet_rows(spool: &Spool, rows: usize) -> Result<Rows, FormatError> {
    let mut decoder = ParquetSpool::open(spool)?;
    let mut block = Block::new(ValueLayout::Plain);
    let (mut values, mut lines) = (Vec::new(), Vec::new());
    while values.len() < rows && decoder.next_block(&mut block)? {
        for record in block.iter().take(rows - values.len()) {
            values.push(record_json(&record));
            lines.push(record_line(&record));
        }
    }
    Ok((values, lines))
}

fn raw_rows(spool: &Spool, proof: &Proof, listed: &Listed, rows: usize, is_part: bool) -> Result<Rows, Unread> {
    let damaged = |e: FormatError| Unread::Damaged(e.to_string());
    let encoding: Encoding = proof.encoding.parse().map_err(damaged)?;
    if encoding.extension() != listed.extension {
        return Err(Unread::Damaged(format!("its proof is that of a .{} object", encoding.extension())));
    }
    let mut decoder = RawDecoder::new(spool.reader(), &encoding).map_err(damaged)?;
    let (mut values, mut lines) = (Vec::new(), Vec::new());
    while values.len() < rows {
        let value = match decoder.next_item() {
            Ok(Some(RawItem::Null)) => None,
            Ok(Some(RawItem::Value(value))) => Some(value),
            Ok(None) => break,
            // Where the part ends, a record does, too.
            Err(_) if is_part && !values.is_empty() => break,
            Err(_) if is_part => return Err(Unread::TooLarge),
            Err(e) => return Err(damaged(e)),
        };
        values.push(json!({ "value": bytes_json(value) }));
        lines.push(line_of(value));
    }
    Ok((values, lines))
}

/// Bytes as JSON: text if they are UTF-8, else `{"hex": "..."}`.
fn bytes_json(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|b| (std::str::from_utf8(b), b)) {
        None => Value::Null,
        Some((Ok(text), _)) => text.into(),
        Some((Err(_), bytes)) => json!({ "hex": hex(bytes) }),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

fn line_of(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "null".to_owned(), text_of)
}

/// Bytes in a line: without control characters, cut, with their length if they were cut.
pub fn text_of(bytes: &[u8]) -> String {
    // A character has at most four bytes, so this much decides what is shown.
    let head = &bytes[..bytes.len().min(SHOWN_CHARS * 4)];
    let text = match std::str::from_utf8(head) {
        Ok(text) => text.to_owned(),
        // A character that the cut went through is no reason to show hex.
        Err(e) if e.error_len().is_none() => String::from_utf8_lossy(&head[..e.valid_up_to()]).into_owned(),
        Err(_) => format!("0x{}", hex(&head[..head.len().min(SHOWN_CHARS / 2)])),
    };
    let line = one_line(&text);
    let cut: String = line.chars().take(SHOWN_CHARS).collect();
    let is_cut = cut.len() < line.len() || head.len() < bytes.len() || (text.starts_with("0x") && text.len() / 2 <= bytes.len());
    if is_cut { format!("{cut}... ({} bytes)", bytes.len()) } else { cut }
}

fn timestamp(record: &RecordView<'_>) -> String {
    match (record.timestamp_type, jiff::Timestamp::from_millisecond(record.timestamp)) {
        (TimestampType::None, _) => "-".to_owned(),
        (_, Ok(time)) => time.to_string(),
        (_, Err(_)) => record.timestamp.to_string(),
    }
}

fn record_line(record: &RecordView<'_>) -> String {
    let mut line = format!("{} {} key={}", record.offset, timestamp(record), line_of(record.key));
    for (name, value) in record.headers.iter() {
        let _ = write!(line, " {}={}", line_of(Some(name)), line_of(value));
    }
    format!("{line} value={}", line_of(record.value))
}

fn record_json(record: &RecordView<'_>) -> Value {
    let headers: Vec<Value> =
        record.headers.iter().map(|(name, value)| json!({ "name": bytes_json(Some(name)), "value": bytes_json(value) })).collect();
    let mut row = Map::new();
    row.insert("offset".to_owned(), record.offset.into());
    row.insert("timestamp".to_owned(), record.timestamp.into());
    row.insert("timestamp_type".to_owned(), (record.timestamp_type as i8).into());
    row.insert("key".to_owned(), bytes_json(record.key));
    row.insert("value".to_owned(), bytes_json(record.value));
    row.insert("headers".to_owned(), headers.into());
    Value::Object(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_in_one_safe_line() {
        assert_eq!(line_of(None), "null");
        assert_eq!(line_of(Some(b"")), "");
        assert_eq!(line_of(Some(b"a\nb\x1b[2J")), "a\\nb\\u{1b}[2J");
        assert_eq!(line_of(Some(&[0xff, 0x00])), "0xff00");
        assert_eq!(line_of(Some("é".repeat(400).as_bytes())), format!("{}... (800 bytes)", "é".repeat(160)));
        assert!(line_of(Some(&[0xff; 500])).ends_with("... (500 bytes)"));
    }

    #[test]
    fn json_keeps_every_byte() {
        assert_eq!(bytes_json(Some(b"a\x00")), json!("a\u{0}"));
        assert_eq!(bytes_json(Some(&[0xff, 0x0a])), json!({ "hex": "ff0a" }));
        assert_eq!(bytes_json(None), Value::Null);
    }
}
