//! `catchment show FILE|URL`: an object's proof and its first records.
//!
//! What comes from Kafka is shown without control characters and cut to a line's length; `--json` has all of it.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::open::{PlaceArgs, block_on, split_query, to_url};
use super::{Outcome, output};
use crate::error::{Error, ErrorKind, Result, codes};
use crate::text::one_line;
use crate::verify::rows::{self, FirstRows};

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

pub(super) fn main(args: &ShowArgs) -> Outcome {
    let config = args.place.config()?;
    let shown = block_on(async {
        let (directory, name) = split(&to_url(&args.place.url)?)?;
        let place = PlaceArgs { url: directory, ..args.place.clone() }.open(&config).await?;
        Ok(rows::first(&place, &name, args.rows).await?)
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

fn human(shown: &FirstRows) -> String {
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
    fn an_objects_url_is_split() {
        assert_eq!(split("s3://b/p/x.parquet?region=r").unwrap(), ("s3://b/p/?region=r".to_owned(), "x.parquet".to_owned()));
        assert!(split("s3://b/p/").is_err());
    }
}
