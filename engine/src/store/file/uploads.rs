//! Multipart uploads of the file store: `_catchment/uploads/<id>/` holds a file `key` and one file for each part.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::disk::{Disk, absent, age, etag, is_old};
use super::{Failure, HIDDEN, StoreErrorKind};
use crate::store::{Guard, OpenUpload, Part, Payload};

/// Name of the file that holds the upload's key; its age is the upload's.
const KEY_FILE: &str = "key";

/// Opens an upload and answers its id.
pub(super) fn create(disk: &Disk, key: &str) -> Result<String, Failure> {
    let id = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let directory = disk.path(HIDDEN[1]).join(&id);
    disk.create_directory(&directory)?;
    let mut temp = disk.temp_file()?;
    temp.file.write_all(key.as_bytes())?;
    disk.sync_file(&temp)?;
    fs::rename(&temp.path, directory.join(KEY_FILE))?;
    disk.sync_directory(&directory)?;
    Ok(id)
}

/// Stores a part, whole or not at all; an earlier one of the same number is replaced.
pub(super) fn put_part(disk: &Disk, key: &str, id: &str, number: u32, body: &Payload) -> Result<Part, Failure> {
    let directory = directory_of(disk, key, id)?;
    let mut temp = disk.temp_file()?;
    disk.fill(&mut temp, body)?;
    // Durable before it is acknowledged: an intent may name this part, and recovery completes it after a power cut.
    disk.sync_file(&temp)?;
    let part = Part { number, size: body.len(), etag: etag(&temp.file.metadata()?) };
    fs::rename(&temp.path, directory.join(part_name(number))).map_err(gone)?;
    disk.sync_directory(&directory).map_err(gone)?;
    Ok(part)
}

/// The parts that are stored, in order of their numbers.
pub(super) fn parts(disk: &Disk, key: &str, id: &str) -> Result<Vec<Part>, Failure> {
    let directory = directory_of(disk, key, id)?;
    let mut parts = Vec::new();
    for entry in fs::read_dir(directory).map_err(gone)? {
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().and_then(|name| name.strip_prefix("part-")?.parse().ok()) else { continue };
        let meta = entry.metadata()?;
        parts.push(Part { number, size: meta.len(), etag: etag(&meta) });
    }
    parts.sort_unstable_by_key(|part| part.number);
    Ok(parts)
}

/// Joins the parts into a file, gives it its name, and removes the upload.
pub(super) fn complete(disk: &Disk, key: &str, id: &str, listed: &[Part], guard: Guard) -> Result<String, Failure> {
    let directory = directory_of(disk, key, id)?;
    if listed.is_empty() || listed.iter().zip(1..).any(|(part, number)| part.number != number) {
        return Err(Failure::new(StoreErrorKind::Invalid, "parts are not numbered from 1 without holes"));
    }
    let mut whole = disk.temp_file()?;
    for part in listed {
        let mut file = File::open(directory.join(part_name(part.number))).map_err(gone)?;
        if etag(&file.metadata()?) != part.etag {
            return Err(Failure::new(StoreErrorKind::NoSuchUpload, format!("no part {} with etag {}", part.number, part.etag)));
        }
        io::copy(&mut file, &mut whole.file)?;
    }
    let etag = disk.publish(whole, key, guard)?;
    // The object is complete. What stays of the upload if this fails is aborted as an orphan later.
    let _ = disk.remove_directory(&directory);
    Ok(etag)
}

/// Removes an upload; one that does not exist is no error.
pub(super) fn abort(disk: &Disk, key: &str, id: &str) -> Result<(), Failure> {
    match directory_of(disk, key, id) {
        Ok(directory) => match disk.remove_directory(&directory) {
            Err(e) if !absent(&e) => Err(e.into()),
            _ => Ok(()),
        },
        Err(failure) if failure.kind == StoreErrorKind::NoSuchUpload => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Removes uploads without a key that are old: whoever began them died on the way, and nobody can name them any more.
pub(super) fn remove_old(disk: &Disk) -> io::Result<()> {
    let entries = match fs::read_dir(disk.path(HIDDEN[1])) {
        Err(e) if absent(&e) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let directory = entry?.path();
        let is_keyless = !directory.join(KEY_FILE).exists();
        if is_keyless && fs::metadata(&directory).is_ok_and(|meta| meta.is_dir() && is_old(&meta)) {
            // Another process may be doing the same; what stays is removed next time.
            let _ = disk.remove_directory(&directory);
        }
    }
    Ok(())
}

/// The uploads of the keys that are wanted, in order of their ids.
pub(super) fn where_key(disk: &Disk, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<OpenUpload>, Failure> {
    let mut open = Vec::new();
    let entries = match fs::read_dir(disk.path(HIDDEN[1])) {
        Err(e) if absent(&e) => return Ok(open),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let key_file = entry.path().join(KEY_FILE);
        let Ok(key) = fs::read_to_string(&key_file) else { continue };
        let (Ok(id), Ok(meta)) = (entry.file_name().into_string(), fs::metadata(&key_file)) else { continue };
        if is_wanted(&key) {
            let age_ms = u64::try_from(age(&meta).as_millis()).unwrap_or(u64::MAX);
            open.push(OpenUpload { key, id, age_ms });
        }
    }
    open.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    Ok(open)
}

/// The directory of an upload of this key.
fn directory_of(disk: &Disk, key: &str, id: &str) -> Result<PathBuf, Failure> {
    let unknown = || Failure::new(StoreErrorKind::NoSuchUpload, format!("no upload {id:?} of this key"));
    // An id comes from an intent, which is input: it must not lead out of the directory.
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(unknown());
    }
    let directory = disk.path(HIDDEN[1]).join(id);
    match fs::read(directory.join(KEY_FILE)) {
        Ok(stored) if stored == key.as_bytes() => Ok(directory),
        Ok(_) => Err(unknown()),
        Err(e) if absent(&e) => Err(unknown()),
        Err(e) => Err(e.into()),
    }
}

fn part_name(number: u32) -> String {
    format!("part-{number:05}")
}

/// A file of an upload that is not there: the upload was aborted or completed meanwhile.
fn gone(e: io::Error) -> Failure {
    if absent(&e) { Failure::new(StoreErrorKind::NoSuchUpload, e.to_string()) } else { e.into() }
}
