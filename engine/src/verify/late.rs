//! Objects that came while the place was listed.
//!
//! A listing takes its time, page by page, and a running backup writes meanwhile: an object may be listed whose predecessor, in a directory
//! that was listed before, was not there yet. So a hole is looked at again before it counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lanes::{Lane, LaneKey};
use super::listing::Listing;
use super::{Place, Report, object};
use crate::error::Result;

/// Lists the lanes that have holes again, and adds the objects that stand in them now.
///
/// # Errors
/// If the store does not answer, or a temporary file fails.
pub(super) async fn fill_holes(place: &Place, listing: &Listing, lanes: &mut [Lane], report: &mut Report) -> Result<()> {
    let mut again: BTreeMap<String, Arc<Listing>> = BTreeMap::new();
    for lane in lanes {
        let holes = lane.holes(place, listing);
        if holes.is_empty() {
            continue;
        }
        let directory = lane.key.directory.clone();
        if !again.contains_key(&directory) {
            again.insert(directory.clone(), Arc::new(listing.again(place, &directory).await?));
        }
        let now = &again[&directory];
        let mut late = Vec::new();
        for (index, listed) in now.objects.iter().enumerate() {
            let is_in_hole = holes.iter().any(|hole| (hole.start..hole.end).contains(&listed.start));
            if is_in_hole && LaneKey::of(now, listed) == lane.key {
                late.push((listed.clone(), object::check(&*place.store, now, index).await?));
                report.objects += 1;
                report.bytes = report.bytes.saturating_add(listed.size);
            }
        }
        lane.add(late);
    }
    Ok(())
}
