//! The invariants of the commit protocol, as pure functions over what can be seen of it.
//!
//! `verify`, the model, the simulator and debug assertions call the same functions, so that what is proven, what is simulated
//! and what is checked on real objects is one thing. Nothing here knows stores or Kafka; a caller lists what it saw.

use std::collections::BTreeMap;
use std::fmt;

use catchment_formats::{GapCause, Missing, OffsetRange};

/// A visible object's range, as far as it is known: the end of an object that cannot be read is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// First offset.
    pub start: i64,
    /// First offset after the range.
    pub end: Option<i64>,
}

impl From<OffsetRange> for Extent {
    fn from(range: OffsetRange) -> Self {
        Self { start: range.start, end: Some(range.end) }
    }
}

/// A broken invariant. Indices are those of the caller's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// NoDuplicate: two objects stand for the same range.
    Duplicate {
        /// The one that comes first in the list.
        first: usize,
        /// The other one.
        second: usize,
    },
    /// NoDuplicate: two objects share these offsets.
    Overlap {
        /// The one that reaches further back.
        first: usize,
        /// The other one.
        second: usize,
        /// What both stand for.
        shared: OffsetRange,
    },
    /// Gapless: no object stands for these offsets, and they are not listed as missing.
    Hole {
        /// The object after the hole; none: it is the lane's end that is missing.
        before: Option<usize>,
        /// What no object stands for.
        range: OffsetRange,
    },
    /// Gapless: the lane's first object begins before the lane does.
    EarlyStart {
        /// The object.
        first: usize,
        /// Where the lane starts.
        start: i64,
    },
    /// NoLoss: the group's committed offset is past everything visible.
    CommittedPastVisible {
        /// The committed offset.
        committed: i64,
        /// Where the visible objects end.
        visible_end: i64,
    },
    /// Final: a visible key changed its bytes, or is gone.
    Changed {
        /// The key.
        key: String,
    },
    /// PinnedFirst: a range became visible before its intent was accepted.
    NotPinned {
        /// Index of the sight.
        sight: usize,
    },
    /// OneIntent: two different intents were accepted for one start.
    TwoIntents {
        /// Index of the first one.
        first: usize,
        /// Index of the other one.
        second: usize,
    },
    /// PinnedFirst: an object lacks records that no accepted intent of its range lists as missing.
    MissingNotPinned {
        /// The object's range.
        range: OffsetRange,
    },
    /// A range listed as missing lies outside its object's range, or overlaps another.
    MissingOutside {
        /// Index in the list of missing ranges.
        missing: usize,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate { .. } => f.write_str("two objects stand for the same range"),
            Self::Overlap { shared, .. } => write!(f, "two objects stand for {shared}"),
            Self::Hole { range, .. } => write!(f, "no object stands for {range}"),
            Self::EarlyStart { start, .. } => write!(f, "the first object begins before the lane's start {start}"),
            Self::CommittedPastVisible { committed, visible_end } => {
                write!(f, "the group has committed {committed}, but the objects end at {visible_end}")
            }
            Self::Changed { key } => write!(f, "{key} has changed since it was visible"),
            Self::NotPinned { .. } => f.write_str("a range became visible before its intent was accepted"),
            Self::TwoIntents { .. } => f.write_str("two intents were accepted for one start"),
            Self::MissingNotPinned { range } => write!(f, "the object of {range} lacks records that no accepted intent lists as missing"),
            Self::MissingOutside { .. } => f.write_str("a missing range lies outside its object's range"),
        }
    }
}

/// NoDuplicate: for visible objects a, b of a lane, a.E <= b.S or b.E <= a.S.
pub fn no_duplicate(extents: &[Extent]) -> Vec<Violation> {
    let mut violations = Vec::new();
    // The object that reaches furthest so far: whoever overlaps anything before it overlaps this one.
    let mut furthest: Option<(usize, i64, i64)> = None;
    for (index, extent) in sorted(extents) {
        let end = extent.end.unwrap_or(extent.start);
        match furthest {
            Some((first, start, reach)) => {
                // An unknown end sorts before all known ones of its start.
                if start == extent.start && (extents[first].end == extent.end || extents[first].end.is_none()) {
                    violations.push(Violation::Duplicate { first: first.min(index), second: first.max(index) });
                } else if extent.start < reach {
                    let shared = OffsetRange::new(extent.start, end.min(reach).max(extent.start));
                    violations.push(Violation::Overlap { first, second: index, shared });
                }
                if end > reach || (end == reach && extent.start > start) {
                    furthest = Some((index, extent.start, end.max(reach)));
                }
            }
            None => furthest = Some((index, extent.start, end)),
        }
    }
    violations
}

/// Gapless: each object's S is the previous one's E, and the first one's is `start`, if that is known.
/// An object of unknown end counts as reaching to its successor.
pub fn gapless(start: Option<i64>, extents: &[Extent]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut reach = start;
    for (position, (index, extent)) in sorted(extents).into_iter().enumerate() {
        match reach {
            Some(start) if position == 0 && extent.start < start => {
                violations.push(Violation::EarlyStart { first: index, start });
            }
            Some(at) if at < extent.start => {
                violations.push(Violation::Hole { before: Some(index), range: OffsetRange::new(at, extent.start) });
            }
            _ => {}
        }
        // After an object of unknown end, nothing is known about where the next one should begin.
        reach = match (extent.end, position, reach) {
            (None, ..) => None,
            (Some(end), 0, _) | (Some(end), _, None) => Some(end),
            (Some(end), _, Some(at)) => Some(end.max(at)),
        };
    }
    violations
}

/// NoLoss: the group's committed offset is at most the last visible E (none visible: the start), unless nothing was visible
/// between the two. `visible_between` says whether Kafka shows a record in that range.
pub fn no_loss(committed: i64, start: i64, extents: &[Extent], visible_between: impl FnOnce(OffsetRange) -> bool) -> Option<Violation> {
    let visible_end = extents.iter().filter_map(|e| e.end).max().unwrap_or(start);
    let lost = committed > visible_end && visible_between(OffsetRange::new(visible_end, committed));
    lost.then_some(Violation::CommittedPastVisible { committed, visible_end })
}

/// Final: every key of `earlier` is in `later` with the same fingerprint (an ETag, a hash).
pub fn final_bytes(earlier: &BTreeMap<String, String>, later: &BTreeMap<String, String>) -> Vec<Violation> {
    let changed = earlier.iter().filter(|(key, print)| later.get(*key) != Some(*print));
    changed.map(|(key, _)| Violation::Changed { key: key.clone() }).collect()
}

/// One step of a lane, in the order in which it took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The coordinator accepted an intent.
    Pinned {
        /// Its range.
        range: OffsetRange,
        /// Its key.
        key: String,
    },
    /// An object became visible.
    Visible {
        /// Its range.
        range: OffsetRange,
        /// Its key.
        key: String,
    },
}

/// PinnedFirst: no byte of `[S, E)` becomes visible before its intent was accepted.
pub fn pinned_first(sights: &[Sight]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, sight) in sights.iter().enumerate() {
        if let Sight::Visible { range, key } = sight {
            let pinned = sights[..index].iter().any(|s| matches!(s, Sight::Pinned { range: r, key: k } if r == range && k == key));
            if !pinned {
                violations.push(Violation::NotPinned { sight: index });
            }
        }
    }
    violations
}

/// PinnedFirst, for what is not there: the missing ranges of a visible object are those of an intent that was accepted for its range.
pub fn missing_pinned(range: OffsetRange, missing: &[Missing], accepted: &[(OffsetRange, Vec<Missing>)]) -> Option<Violation> {
    let pinned = missing.is_empty() || accepted.iter().any(|(of, listed)| *of == range && listed == missing);
    (!pinned).then_some(Violation::MissingNotPinned { range })
}

/// OneIntent: at most one (E, key) is ever accepted for one S.
pub fn one_intent(sights: &[Sight]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut accepted: BTreeMap<i64, (usize, &OffsetRange, &str)> = BTreeMap::new();
    for (index, sight) in sights.iter().enumerate() {
        let Sight::Pinned { range, key } = sight else { continue };
        let (first, same_range, same_key) = *accepted.entry(range.start).or_insert((index, range, key));
        if same_range != range || same_key != key {
            violations.push(Violation::TwoIntents { first, second: index });
        }
    }
    violations
}

/// Missing ranges lie within their object's range, ascend, and do not overlap. What a truncation or a new incarnation took was read before,
/// or belonged to another log: it is listed by the next object and lies before it.
pub fn missing_within(range: OffsetRange, missing: &[Missing]) -> Vec<Violation> {
    let mut from = range.start;
    let mut violations = Vec::new();
    for (index, missing) in missing.iter().enumerate() {
        if matches!(missing.cause(), GapCause::Truncation | GapCause::TopicRecreated) && missing.0 < missing.1 {
            continue;
        }
        if missing.0 < from || missing.1 > range.end || missing.0 >= missing.1 {
            violations.push(Violation::MissingOutside { missing: index });
        }
        from = from.max(missing.1);
    }
    violations
}

/// By start, then end (the longest last), then place in the list.
fn sorted(extents: &[Extent]) -> Vec<(usize, Extent)> {
    let mut sorted: Vec<(usize, Extent)> = extents.iter().copied().enumerate().collect();
    sorted.sort_by_key(|(index, extent)| (extent.start, extent.end, *index));
    sorted
}

#[cfg(test)]
mod tests;
