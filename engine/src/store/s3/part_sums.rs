//! Checksums of the parts of open uploads.
//!
//! An upload that was created with a checksum algorithm must name each part's checksum at Complete (MinIO insists, AWS may).
//! A [`Part`](crate::store::Part) has no place for it, so it is kept here from UploadPart or ListParts until Complete or
//! Abort.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Uploads that are remembered. An abandoned upload stays until others push it out; one that is pushed out although it is
/// needed costs a ListParts at its Complete.
const UPLOADS_MAX: usize = 1024;

type Sums = BTreeMap<u32, String>;

/// Base64 checksums by upload and part number.
#[derive(Debug, Default)]
pub(super) struct PartSums(Mutex<HashMap<String, Sums>>);

impl PartSums {
    fn uploads(&self) -> MutexGuard<'_, HashMap<String, Sums>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a part's checksum.
    pub(super) fn keep(&self, upload: &str, number: u32, sum: Option<&str>) {
        let Some(sum) = sum else { return };
        let mut uploads = self.uploads();
        if uploads.len() >= UPLOADS_MAX
            && !uploads.contains_key(upload)
            && let Some(any) = uploads.keys().next().cloned()
        {
            uploads.remove(&any);
        }
        uploads.entry(upload.to_owned()).or_default().insert(number, sum.to_owned());
    }

    /// The checksums of an upload, by part number.
    pub(super) fn of(&self, upload: &str) -> Sums {
        self.uploads().get(upload).cloned().unwrap_or_default()
    }

    /// Forgets an upload.
    pub(super) fn forget(&self, upload: &str) {
        self.uploads().remove(upload);
    }
}
