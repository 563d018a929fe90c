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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extents(ranges: &[(i64, i64)]) -> Vec<Extent> {
        ranges.iter().map(|(s, e)| OffsetRange::new(*s, *e).into()).collect()
    }

    fn hole(before: usize, from: i64, to: i64) -> Violation {
        Violation::Hole { before: Some(before), range: OffsetRange::new(from, to) }
    }

    #[test]
    fn tiles_are_fine_in_any_order() {
        let tiles = extents(&[(10, 25), (0, 10), (25, 26)]);
        assert_eq!(no_duplicate(&tiles), []);
        assert_eq!(gapless(Some(0), &tiles), []);
        assert_eq!(gapless(None, &tiles), []);
    }

    #[test]
    fn each_way_to_share_offsets_is_seen() {
        assert_eq!(no_duplicate(&extents(&[(0, 10), (0, 10)])), [Violation::Duplicate { first: 0, second: 1 }]);
        let shared = |from, to| OffsetRange::new(from, to);
        assert_eq!(no_duplicate(&extents(&[(0, 10), (9, 12)])), [Violation::Overlap { first: 0, second: 1, shared: shared(9, 10) }]);
        assert_eq!(no_duplicate(&extents(&[(0, 10), (0, 12)])), [Violation::Overlap { first: 0, second: 1, shared: shared(0, 10) }]);
        let nested = no_duplicate(&extents(&[(0, 100), (10, 20), (30, 40)]));
        assert_eq!(nested.len(), 2, "{nested:?}");
    }

    #[test]
    fn each_way_to_lack_offsets_is_seen() {
        assert_eq!(gapless(None, &extents(&[(0, 10), (11, 12)])), [hole(1, 10, 11)]);
        assert_eq!(gapless(Some(5), &extents(&[(7, 10)])), [hole(0, 5, 7)]);
        assert_eq!(gapless(Some(8), &extents(&[(7, 10)])), [Violation::EarlyStart { first: 0, start: 8 }]);
        assert_eq!(gapless(Some(0), &extents(&[(0, 100), (10, 20), (100, 110)])), [], "overlap is the other invariant's");
    }

    #[test]
    fn an_unknown_end_reaches_to_the_next_object() {
        let broken = [Extent { start: 0, end: Some(10) }, Extent { start: 10, end: None }, Extent { start: 30, end: Some(40) }];
        assert_eq!(gapless(Some(0), &broken), []);
        assert_eq!(no_duplicate(&broken), []);
        let before = [Extent { start: 0, end: Some(10) }, Extent { start: 11, end: None }];
        assert_eq!(gapless(Some(0), &before), [hole(1, 10, 11)]);
    }

    #[test]
    fn what_the_group_committed_is_visible_or_empty() {
        let objects = extents(&[(0, 10)]);
        assert_eq!(no_loss(10, 0, &objects, |_| true), None);
        assert_eq!(no_loss(12, 0, &objects, |range| range != OffsetRange::new(10, 12)), None);
        assert_eq!(no_loss(12, 0, &objects, |_| true), Some(Violation::CommittedPastVisible { committed: 12, visible_end: 10 }));
        assert_eq!(no_loss(3, 3, &[], |_| true), None);
    }

    #[test]
    fn visible_keys_never_change() {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let changed = |key: &str| vec![Violation::Changed { key: key.to_owned() }];
        assert_eq!(final_bytes(&map(&[("a", "1")]), &map(&[("a", "1"), ("b", "2")])), []);
        assert_eq!(final_bytes(&map(&[("a", "1")]), &map(&[("a", "2")])), changed("a"));
        assert_eq!(final_bytes(&map(&[("a", "1")]), &map(&[])), changed("a"));
    }

    #[test]
    fn intents_come_first_and_are_one() {
        let range = OffsetRange::new(0, 10);
        let pin = |range, key: &str| Sight::Pinned { range, key: key.to_owned() };
        let see = |range, key: &str| Sight::Visible { range, key: key.to_owned() };
        let good = [pin(range, "k"), pin(range, "k"), see(range, "k")];
        assert_eq!((pinned_first(&good), one_intent(&good)), (vec![], vec![]));
        assert_eq!(pinned_first(&[see(range, "k"), pin(range, "k")]), [Violation::NotPinned { sight: 0 }]);
        assert_eq!(pinned_first(&[pin(range, "k"), see(OffsetRange::new(0, 9), "k")]), [Violation::NotPinned { sight: 1 }]);
        let two = [pin(range, "k"), pin(OffsetRange::new(0, 9), "k"), pin(range, "l")];
        assert_eq!(one_intent(&two), [Violation::TwoIntents { first: 0, second: 1 }, Violation::TwoIntents { first: 0, second: 2 }]);
    }

    #[test]
    fn what_an_object_lacks_was_pinned() {
        let (range, other) = (OffsetRange::new(0, 10), OffsetRange::new(10, 20));
        let m = |to| vec![Missing(0, to, GapCause::Retention)];
        let accepted = [(range, vec![]), (range, m(2)), (other, m(3))];
        assert_eq!(missing_pinned(range, &m(2), &accepted), None);
        assert_eq!(missing_pinned(other, &[], &[]), None, "a whole object needs no more than its own pin");
        assert_eq!(missing_pinned(range, &m(3), &accepted), Some(Violation::MissingNotPinned { range }));
    }

    #[test]
    fn missing_ranges_lie_within_and_apart() {
        let range = OffsetRange::new(10, 20);
        let m = |from, to| Missing(from, to, GapCause::Retention);
        assert_eq!(missing_within(range, &[m(10, 12), m(12, 13), m(19, 20)]), []);
        for bad in [&[m(9, 12)][..], &[m(19, 21)], &[m(12, 12)], &[m(12, 15), m(14, 16)]] {
            assert_eq!(missing_within(range, bad).len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn the_furthest_object_is_held_against_those_behind_it() {
        let shared = |from, to| OffsetRange::new(from, to);
        let overlap = |first, second, from, to| Violation::Overlap { first, second, shared: shared(from, to) };
        assert_eq!(no_duplicate(&extents(&[(0, 10), (5, 10), (9, 11)])), [overlap(0, 1, 5, 10), overlap(1, 2, 9, 10)]);
        assert_eq!(no_duplicate(&extents(&[(0, 10), (2, 4), (9, 11)])), [overlap(0, 1, 2, 4), overlap(0, 2, 9, 10)]);
        let duplicate = |first, second| Violation::Duplicate { first, second };
        assert_eq!(no_duplicate(&extents(&[(0, 9), (0, 9), (0, 9)])), [duplicate(0, 1), duplicate(0, 2)], "each of the first");
        assert_eq!(no_duplicate(&extents(&[(5, 6), (0, 4), (5, 6)])), [duplicate(0, 2)], "by their places");
    }

    /// An object that can be read went unnoticed beside one of the same start that cannot.
    #[test]
    fn an_object_of_unknown_end_is_the_duplicate_of_any_of_its_start() {
        let (unknown, known) = (Extent { start: 0, end: None }, Extent { start: 0, end: Some(10) });
        for pair in [[unknown, unknown], [unknown, known], [known, unknown]] {
            assert_eq!(no_duplicate(&pair), [Violation::Duplicate { first: 0, second: 1 }]);
        }
    }

    #[test]
    fn only_the_first_object_can_begin_too_early() {
        assert_eq!(gapless(Some(0), &extents(&[(0, 10), (5, 12), (12, 13)])), []);
        assert_eq!(gapless(Some(0), &extents(&[(0, 10), (5, 8), (10, 13)])), [], "one that ends earlier takes nothing back");
        assert_eq!(gapless(Some(8), &extents(&[(7, 7), (8, 9)])), [Violation::EarlyStart { first: 0, start: 8 }, hole(1, 7, 8)]);
        let after_unknown = [Extent { start: 0, end: None }, Extent { start: 3, end: Some(4) }, Extent { start: 5, end: Some(6) }];
        assert_eq!(gapless(None, &after_unknown), [hole(2, 4, 5)]);
    }

    #[test]
    fn what_precedes_an_object_does_not_touch_it() {
        let range = OffsetRange::new(10, 20);
        for cause in [GapCause::Truncation, GapCause::TopicRecreated] {
            assert_eq!(missing_within(range, &[Missing(0, 15, cause)]), []);
            assert_eq!(missing_within(range, &[Missing(5, 5, cause)]).len(), 1, "an empty range is none");
        }
        let twice = [Missing(12, 14, GapCause::Retention), Missing(14, 14, GapCause::Retention), Missing(13, 15, GapCause::Retention)];
        let outside = |missing| Violation::MissingOutside { missing };
        assert_eq!(missing_within(range, &twice), [outside(1), outside(2)]);
    }

    #[test]
    fn a_violation_says_what_is_broken() {
        let range = OffsetRange::new(3, 7);
        let told = [
            (Violation::Duplicate { first: 0, second: 1 }, "two objects stand for the same range"),
            (Violation::Overlap { first: 0, second: 1, shared: range }, "two objects stand for [3, 7)"),
            (Violation::Hole { before: None, range }, "no object stands for [3, 7)"),
            (Violation::EarlyStart { first: 0, start: 3 }, "the first object begins before the lane's start 3"),
            (Violation::CommittedPastVisible { committed: 7, visible_end: 3 }, "the group has committed 7, but the objects end at 3"),
            (Violation::Changed { key: "k".into() }, "k has changed since it was visible"),
            (Violation::NotPinned { sight: 0 }, "a range became visible before its intent was accepted"),
            (Violation::TwoIntents { first: 0, second: 1 }, "two intents were accepted for one start"),
            (Violation::MissingOutside { missing: 0 }, "a missing range lies outside its object's range"),
        ];
        for (violation, text) in told {
            assert_eq!(violation.to_string(), text);
        }
    }

    proptest! {
        /// Against a naive twin: offsets counted one by one.
        #[test]
        fn tiling_agrees_with_counting(ranges in prop::collection::vec((0_i64..30, 1_i64..6), 1..8)) {
            let extents: Vec<Extent> = ranges.iter().map(|(s, n)| OffsetRange::new(*s, s + n).into()).collect();
            let covered = |o: i64| ranges.iter().filter(|(s, n)| (*s..s + n).contains(&o)).count();
            let (first, last) = (ranges.iter().map(|r| r.0).min().unwrap(), ranges.iter().map(|r| r.0 + r.1).max().unwrap());
            prop_assert_eq!(no_duplicate(&extents).is_empty(), (first..last).all(|o| covered(o) <= 1));
            let lacking: Vec<i64> = (first..last).filter(|o| covered(*o) == 0).collect();
            let found: Vec<i64> = gapless(None, &extents).into_iter().flat_map(|v| match v {
                Violation::Hole { range, .. } => (range.start..range.end).collect::<Vec<_>>(),
                _ => vec![],
            }).collect();
            prop_assert_eq!(found, lacking);
        }
    }
}
