//! `catchment show FILE|URL`: an object's proof and its first records.
//!
//! What comes from Kafka is shown without control characters and cut to a line's length; `--json` has all of it.

use std::fmt::Write as _;
use std::process::ExitCode;

use catchment_formats::raw::{RawDecoder, RawItem};
use catchment_formats::{Block, Encoding, FormatError, Proof, RecordView, TimestampType, ValueLayout};
use clap::Args;
use serde_json::{Map, Value, json};

use super::open::{PlaceArgs, block_on, split_query, to_url};
use super::render::one_line;
use super::{Outcome, output};
use crate::error::{Error, ErrorKind, Result, codes};
use crate::verify::listing::{Listed, Listing};
use crate::verify::spool::{ParquetSpool, Spool};
use crate::verify::{Place, proof};

/// Characters of a value that are shown in a line.
const SHOWN_CHARS: usize = 160;

#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Number of records
    #[arg(short = 'n', long = "rows", value_name = "N", default_value_t = 10)]
    rows: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is shown of an object.
struct Shown {
    url: String,
    size: u64,
    proof: Option<Proof>,
    rows: Vec<Value>,
    lines: Vec<String>,
}

pub(super) fn main(args: &ShowArgs) -> Outcome {
    let config = args.place.config()?;
    let shown = block_on(async {
        let (directory, name) = split(&to_url(&args.place.url)?)?;
        let place = PlaceArgs { url: directory, ..args.place.clone() }.open(&config).await?;
        Ok(read(&place, &name, args.rows).await?)
    })?;
    if args.json {
        let proof = shown.proof.as_ref().map(|p| serde_json::to_value(p).expect("a proof is plain data"));
        output::print_json(&json!({ "url": shown.url, "bytes": shown.size, "proof": proof, "rows": shown.rows }))?;
    } else {
        output::print(human(&shown))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The directory of an object's URL, and the object's name.
fn split(url: &str) -> Result<(String, String)> {
    let (address, query) = split_query(url);
    match address.rsplit_once('/') {
        Some((directory, name)) if !name.is_empty() => Ok((format!("{directory}/{query}"), name.to_owned())),
        _ => Err(Error::new(codes::NOTHING_THERE, ErrorKind::NotFound, "this names no object")
            .with("url", url)
            .help("`catchment ls -l URL` lists the objects of a prefix")),
    }
}

async fn read(place: &Place, name: &str, rows: usize) -> Result<Shown> {
    let key = format!("{}{name}", place.prefix);
    let url = place.url_of(&key);
    let absent = || {
        Error::new(codes::NOTHING_THERE, ErrorKind::NotFound, "there is no such object")
            .with("url", &url)
            .help("`catchment ls -l URL` lists the objects of a prefix")
    };
    let info = place.store.head(&key).await?.ok_or_else(absent)?;
    let exact = Place::new(std::sync::Arc::clone(&place.store), key.clone());
    let listing = Listing::read(&exact).await?;
    let Some(listed) = listing.objects.iter().find(|o| o.key == key) else {
        return Err(Error::new(codes::NOTHING_THERE, ErrorKind::Invalid, "this is no object of a backup")
            .with("url", &url)
            .help("objects are named <topic>+<partition>+<first offset, 20 digits>.<extension>"));
    };
    let proof = proof::look(&*place.store, &listing, listed).await?;
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
    Ok(Shown { url, size: info.size, proof: proof.ok(), rows: read.0, lines: read.1 })
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
        lines.push(bytes_text(value));
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

/// Bytes in a line: without control characters, cut, with their length if they were cut.
fn bytes_text(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
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
    let mut line = format!("{} {} key={}", record.offset, timestamp(record), bytes_text(record.key));
    for (name, value) in record.headers.iter() {
        let _ = write!(line, " {}={}", bytes_text(Some(name)), bytes_text(value));
    }
    format!("{line} value={}", bytes_text(record.value))
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

fn human(shown: &Shown) -> String {
    let mut text = format!("{}\n  size      {} bytes\n", one_line(&shown.url), shown.size);
    match &shown.proof {
        None => text += "  proof     none that can be read\n",
        Some(proof) => {
            let counts = &proof.counts;
            let _ = writeln!(text, "  rule      {} on cluster {}", one_line(&proof.lane.rule), one_line(&proof.lane.cluster));
            let _ = writeln!(
                text,
                "  lane      {}/{} (topic id {})",
                one_line(&proof.lane.topic),
                proof.lane.partition,
                one_line(&proof.lane.topic_id)
            );
            let _ = writeln!(text, "  offsets   {}", proof.range);
            let _ = writeln!(text, "  records   {} ({} without a value)", counts.records, counts.null_values);
            let _ = writeln!(
                text,
                "  bytes     {} in values, {} in keys, {} in headers",
                counts.value_bytes, counts.key_bytes, counts.header_bytes
            );
            let _ = writeln!(text, "  encoding  {}", one_line(&proof.encoding));
            let _ = writeln!(text, "  digest    {}", proof.digest);
            for missing in &proof.missing {
                let _ = writeln!(text, "  missing   {} by {}", missing.range(), missing.cause().as_str());
            }
        }
    }
    for line in &shown.lines {
        let _ = writeln!(text, "{line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_in_one_safe_line() {
        assert_eq!(bytes_text(None), "null");
        assert_eq!(bytes_text(Some(b"")), "");
        assert_eq!(bytes_text(Some(b"a\nb\x1b[2J")), "a\\nb\\u{1b}[2J");
        assert_eq!(bytes_text(Some(&[0xff, 0x00])), "0xff00");
        assert_eq!(bytes_text(Some("é".repeat(400).as_bytes())), format!("{}... (800 bytes)", "é".repeat(160)));
        assert!(bytes_text(Some(&[0xff; 500])).ends_with("... (500 bytes)"));
    }

    #[test]
    fn json_keeps_every_byte() {
        assert_eq!(bytes_json(Some(b"a\x00")), json!("a\u{0}"));
        assert_eq!(bytes_json(Some(&[0xff, 0x0a])), json!({ "hex": "ff0a" }));
        assert_eq!(bytes_json(None), Value::Null);
    }

    #[test]
    fn an_objects_url_is_split() {
        assert_eq!(split("s3://b/p/x.parquet?region=r").unwrap(), ("s3://b/p/?region=r".to_owned(), "x.parquet".to_owned()));
        assert!(split("s3://b/p/").is_err());
    }
}
