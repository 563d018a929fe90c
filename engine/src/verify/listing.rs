//! What stands below a prefix: objects of a backup, strangers, and the control objects in reach.

use std::sync::Arc;

use super::control::{Anchor, Control, Owner};
use super::place::{CONTROL, Place};
use super::report::{DamageKind, Report};
use crate::error::Result;
use crate::store::ObjectInfo;
use crate::store::key::parse_file_name;

/// An object whose file name is one of ours.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// The topic in its name.
    pub topic: String,
    /// The partition in its name.
    pub partition: i32,
    /// The first offset in its name.
    pub start: i64,
    /// The extension, without its dot.
    pub extension: String,
}

impl Listed {
    /// An object by its key.
    ///
    /// # Errors
    /// The key, if its name is not one of ours.
    pub fn of(key: String, size: u64) -> Result<Self, String> {
        let file = key.rsplit('/').next().unwrap_or_default();
        match parse_file_name(file) {
            Some((topic, partition, start, extension)) => Ok(Self { key, size, topic, partition, start, extension }),
            None => Err(key),
        }
    }
}

/// Everything below a prefix.
#[derive(Debug, Default)]
pub struct Listing {
    /// The prefix that was listed.
    pub prefix: String,
    /// Objects, in key order.
    pub objects: Vec<Listed>,
    /// Keys that are no objects of a backup.
    pub strangers: Vec<String>,
    /// Control objects in reach.
    pub controls: Vec<Control>,
    /// What could not be looked at.
    pub notes: Vec<String>,
}

impl Listing {
    /// Lists a place, and reads the control objects at, above and below it.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn read(place: &Place) -> Result<Self> {
        let mut listing = Self { prefix: place.prefix.clone(), ..Self::default() };
        let mut control_prefixes = listing.list(place).await?;
        for above in place.prefixes_above() {
            if Control::stands_at(place, above, &mut listing.notes).await? {
                control_prefixes.push(above.to_owned());
            }
        }
        for prefix in control_prefixes {
            listing.controls.push(Control::read(place, &prefix, &mut listing.notes).await?);
        }
        Ok(listing)
    }

    /// Lists what a rule owns at a place: its topics' directories, and its control objects there. Nothing else is read but the names of who owns what.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn of_rule(place: &Place, rule: &str) -> Result<Self> {
        let mut listing = Self { prefix: place.prefix.clone(), ..Self::default() };
        let control = Control::of_rule(place, &place.prefix, rule, &mut listing.notes).await?;
        let own = control.directories_of(rule);
        listing.controls.push(control);
        for directory in own {
            listing.list(&Place::new(Arc::clone(&place.store), directory)).await?;
        }
        // Somebody's template may put another rule's directory into one of this rule's.
        let (objects, strangers) = (std::mem::take(&mut listing.objects), std::mem::take(&mut listing.strangers));
        let is_own = |key: &str| listing.owner_of(key).is_some_and(|(_, owner)| owner.rule == rule);
        let objects = objects.into_iter().filter(|object| is_own(&object.key)).collect();
        let strangers = strangers.into_iter().filter(|key| is_own(key)).collect();
        Ok(Self { objects, strangers, ..listing })
    }

    /// Lists a directory of the place again, with the same control objects.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn again(&self, place: &Place, directory: &str) -> Result<Self> {
        let mut again = Self { prefix: self.prefix.clone(), controls: self.controls.clone(), ..Self::default() };
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        again.list(&Place::new(Arc::clone(&place.store), prefix)).await?;
        Ok(again)
    }

    /// Lists the objects; answers the prefixes at which control objects were met.
    async fn list(&mut self, place: &Place) -> Result<Vec<String>> {
        let (mut controls, mut after) = (Vec::new(), None);
        loop {
            let page = place.store.list(&place.prefix, false, after.as_deref()).await?;
            for info in page.objects {
                match control_prefix(&info.key) {
                    Some(prefix) if controls.last().is_some_and(|last| last == prefix) => {}
                    Some(prefix) => controls.push(prefix.to_owned()),
                    None => self.add(info),
                }
            }
            after = page.next;
            if after.is_none() {
                controls.sort();
                controls.dedup();
                return Ok(controls);
            }
        }
    }

    fn add(&mut self, info: ObjectInfo) {
        // Consoles of object stores show directories by way of empty objects that end with a slash.
        if info.key.ends_with('/') && info.size == 0 {
            return;
        }
        match Listed::of(info.key, info.size) {
            Ok(listed) => self.objects.push(listed),
            Err(key) => self.strangers.push(key),
        }
    }

    /// Whether nothing stands at `place`, and no anchor says that something should.
    pub fn is_empty(&self, place: &Place) -> bool {
        self.objects.is_empty() && self.strangers.is_empty() && self.anchored(place).next().is_none()
    }

    /// Anchors that name an object at `place`: the anchor's key and the object's.
    fn anchored<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = (&'a str, String)> {
        let named = self.controls.iter().flat_map(|control| {
            let key = |anchor: &Anchor| anchor.key.as_ref().map(|key| format!("{}{key}", control.prefix));
            control.anchors.iter().filter_map(move |(anchor_key, anchor)| Some((anchor_key.as_str(), key(anchor)?)))
        });
        named.filter(|(_, key)| key.starts_with(&place.prefix))
    }

    /// The control objects nearest above a key.
    pub fn control_of(&self, key: &str) -> Option<&Control> {
        self.controls.iter().filter(|c| key.starts_with(&c.prefix)).max_by_key(|c| c.prefix.len())
    }

    /// The owner of the directory that holds a key, with the directory's full path.
    pub fn owner_of(&self, key: &str) -> Option<(String, &Owner)> {
        let control = self.control_of(key)?;
        let (path, owner) = control.owner_of(key)?;
        Some((format!("{}{path}", control.prefix), owner))
    }

    /// Counts what was listed, and names the strangers: within a topic's directory they are damage.
    pub fn report(&self, report: &mut Report) {
        report.objects = self.objects.len() as u64;
        report.bytes = self.objects.iter().map(|o| o.size).sum();
        report.notes.extend(self.notes.iter().cloned());
        let (within, outside): (Vec<&String>, Vec<&String>) = self.strangers.iter().partition(|key| self.owner_of(key).is_some());
        for key in within {
            report.damaged(key, DamageKind::Foreign, "its name is not that of an object of a backup");
        }
        if let Some(first) = outside.first() {
            // A bucket may hold other things beside; only a topic's own directory is the backup's alone.
            report
                .notes
                .push(format!("{} object(s) outside the topics' directories are none of the backup, the first one {first}", outside.len()));
        }
    }

    /// Every object that an anchor names must still be there. One that is not listed may have come since.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn check_anchors(&self, place: &Place, report: &mut Report) -> Result<()> {
        for (anchor_key, key) in self.anchored(place) {
            let is_listed = self.objects.binary_search_by(|o| o.key.as_str().cmp(&key)).is_ok();
            if !is_listed && place.store.head(&key).await?.is_none() {
                report.damaged(&key, DamageKind::Hole, format!("the anchor {anchor_key} names this object, and it is not there"));
            }
        }
        Ok(())
    }
}

/// What stands before `_catchment/` in the key of a control object; none for other keys.
fn control_prefix(key: &str) -> Option<&str> {
    if key.starts_with(CONTROL) {
        return Some("");
    }
    key.find(&format!("/{CONTROL}")).map(|at| &key[..=at])
}
