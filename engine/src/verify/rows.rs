//! The first records of an object, for people: safe lines for a terminal, JSON that keeps every byte for programs.

use std::fmt::Write as _;
use std::sync::Arc;

use catchment_formats::raw::{RawDecoder, RawItem};
use catchment_formats::{Block, Encoding, FormatError, Proof, RecordView, TimestampType, ValueLayout};
use serde_json::{Map, Value, json};

use super::listing::{Listed, Listing};
use super::spool::{ParquetSpool, Spool};
use super::{Place, proof};
use crate::error::{Error, ErrorKind, Result, codes};
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

/// Reads the first rows of an object and its proof.
///
/// # Errors
/// `C0502` if there is none of this name, or none of a backup; `C0503` if it cannot be decoded.
pub async fn first(place: &Place, name: &str, rows: usize) -> Result<FirstRows> {
    let key = format!("{}{name}", place.prefix);
    let url = place.url_of(&key);
    let absent = || {
        Error::new(codes::NOTHING_THERE, ErrorKind::NotFound, "there is no such object")
            .with("url", &url)
            .help("`catchment ls -l URL` lists the objects of a prefix")
    };
    let info = place.store.head(&key).await?.ok_or_else(absent)?;
    let exact = Place::new(Arc::clone(&place.store), key.clone());
    let listing = Listing::read(&exact).await?;
    let Some(listed) = listing.objects.iter().find(|o| o.key == key) else {
        return Err(Error::new(codes::NOTHING_THERE, ErrorKind::Invalid, "this is no object of a backup")
            .with("url", &url)
            .help("objects are named <topic>+<partition>+<first offset, 20 digits>.<extension>"));
    };
    let proof = proof::look(&*place.store, &listing, listed).await?;
    if rows == 0 {
        // What it says of itself needs no more than its footer.
        return Ok(FirstRows { url, size: info.size, proof: proof.ok(), rows: Vec::new(), lines: Vec::new() });
    }
    let spool = Spool::fetch(&*place.store, &key, info.size).await?.ok_or_else(absent)?;
    let unreadable = |why: String| {
        Error::new(codes::OBJECT_UNREADABLE, ErrorKind::Corrupt, "the object cannot be read")
            .with("url", &url)
            .because(why)
            .help("`catchment verify` on its directory says what else is damaged, and docs/errors.md what can be done")
    };
    let read = match (&proof, listed.extension.as_str()) {
        (_, "parquet") => parquet_rows(&spool, rows).map_err(|e| unreadable(e.to_string()))?,
        (Ok(proof), _) => raw_rows(&spool, proof, listed, rows).map_err(|e| unreadable(e.to_string()))?,
        // Without a proof nothing says how a raw object's values are framed.
        (Err(_), _) => (Vec::new(), Vec::new()),
    };
    Ok(FirstRows { url, size: info.size, proof: proof.ok(), rows: read.0, lines: read.1 })
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

fn raw_rows(spool: &Spool, proof: &Proof, listed: &Listed, rows: usize) -> Result<Rows, FormatError> {
    let encoding: Encoding = proof.encoding.parse()?;
    if encoding.extension() != listed.extension {
        return Err(FormatError::Corrupt(format!("its proof is that of a .{} object", encoding.extension())));
    }
    let mut decoder = RawDecoder::new(spool.reader(), &encoding)?;
    let (mut values, mut lines) = (Vec::new(), Vec::new());
    while values.len() < rows
        && let Some(item) = decoder.next_item()?
    {
        let value = match item {
            RawItem::Null => None,
            RawItem::Value(value) => Some(value),
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
