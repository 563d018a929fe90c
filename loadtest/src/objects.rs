//! Reads the Parquet objects of a local directory back, record by record.
//!
//! Place: the way of [`verify`](crate::verify) to the payloads of a `file:///DIR/` backup. The decoder is that of `catchment-formats`, which reads
//! Parquet by the `parquet` crate; the writer of the objects is another one.
//!
//! Not done here: proofs and chains of offsets are checked by `catchment verify`, which runs before. Raw objects are not read.

use std::fs::File;
use std::path::{Path, PathBuf};

use catchment_formats::parquet::ParquetDecoder;
use catchment_formats::{Block, ValueLayout};

use crate::audit::Audit;
use crate::failure::{Failure, Result};

/// Where control objects lie.
const CONTROL: &str = "_catchment";

/// The local directory of an address, if it is one of a directory.
pub fn directory(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("file://")?.split('?').next()?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// The Parquet objects below a directory, in the order of their paths. A directory that is not there has none.
///
/// # Errors
/// If it cannot be read.
pub fn objects(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if root.exists() {
        walk(root, &mut found)?;
    }
    found.sort();
    Ok(found)
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = |e: std::io::Error| {
        Failure::new(format!("the directory {} cannot be read", directory.display())).because(e).help("check its owner and mode")
    };
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        if entry.file_type().map_err(unreadable)?.is_dir() {
            if entry.file_name() != CONTROL {
                walk(&path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
    Ok(())
}

/// Hands every record of these objects that is of `topic` to an audit.
///
/// # Errors
/// If an object cannot be read or decoded.
pub fn read(objects: &[PathBuf], topic: &str, audit: &mut Audit<'_>) -> Result<()> {
    let mut block = Block::new(ValueLayout::Plain);
    for path in objects {
        let unreadable = |cause: &dyn std::fmt::Display| {
            Failure::new(format!("the object {} cannot be read", path.display()))
                .because(cause)
                .help("catchment verify names what is damaged; restore the object, or back the topic up again elsewhere")
        };
        let file = File::open(path).map_err(|e| unreadable(&e))?;
        let mut decoder = ParquetDecoder::new(file).map_err(|e| unreadable(&e))?;
        if decoder.proof().lane.topic != topic {
            continue;
        }
        let (partition, place) = (decoder.proof().lane.partition, path.display().to_string());
        audit.begin();
        while decoder.next_block(&mut block).map_err(|e| unreadable(&e))? {
            block.iter().for_each(|record| audit.take(&place, partition, record.value));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_directory_is_told_from_others() {
        assert_eq!(directory("file:///tmp/backup/"), Some(PathBuf::from("/tmp/backup/")));
        assert_eq!(directory("file:///tmp/backup/?guard=none"), Some(PathBuf::from("/tmp/backup/")));
        assert_eq!([directory("s3://bucket/a/"), directory("file://host"), directory("/tmp")], [None, None, None]);
    }

    #[test]
    fn objects_are_found_at_any_depth_and_control_objects_are_not() {
        let root = tempfile::tempdir().expect("a temporary directory");
        for path in ["b/2.parquet", "a/1.parquet", "a/notes.txt", "_catchment/tmp/3.parquet"] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("the directory is writable");
            std::fs::write(path, "").expect("the directory is writable");
        }
        let found = objects(root.path()).expect("it can be read");
        assert_eq!(found, [root.path().join("a/1.parquet"), root.path().join("b/2.parquet")]);
        assert_eq!(objects(&root.path().join("nothing")).expect("nothing is there"), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_is_no_object_is_named() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("1.parquet");
        std::fs::write(&path, "PAR1 and nothing else PAR1").expect("the directory is writable");
        let manifest = crate::manifest::Ledger::new(1).into_manifest("orders", 1, true);
        let refused = read(&[path], "orders", &mut Audit::new(&manifest)).expect_err("it is no object");
        assert!(refused.to_string().contains("1.parquet"), "{refused}");
    }
}
