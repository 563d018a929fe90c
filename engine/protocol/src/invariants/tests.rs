//! Each invariant by example, and tiling against a naive twin.

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
