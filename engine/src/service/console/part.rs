//! A list page by page: which of its entries are shown, and the ways to those before and behind them.

use std::ops::Range;

use super::catalogue::Texts;

/// Entries on a page.
pub(super) const PAGE: usize = 100;

/// The part of a list that a page shows.
pub(super) struct Part {
    pub(super) range: Range<usize>,
    /// Which of how many are shown, if not all of them are.
    pub(super) text: Option<String>,
    pub(super) before: Option<String>,
    pub(super) next: Option<String>,
}

/// Page `page`, which begins with 1, of `all` entries; the pages are at the addresses that `at` gives.
pub(super) fn part(t: &Texts, all: usize, page: usize, at: impl Fn(usize) -> String) -> Part {
    let (page, range) = part_of(all, page);
    let numbers = [range.start + 1, range.end, all].map(|n| n.to_string());
    Part {
        text: (all > PAGE).then(|| t.fill(t.part_of_all, &numbers.each_ref().map(String::as_str))),
        before: (page > 1).then(|| at(page - 1)),
        next: (range.end < all).then(|| at(page + 1)),
        range,
    }
}

/// Which entries of how many are on a page; one behind the end is the last one.
fn part_of(all: usize, page: usize) -> (usize, Range<usize>) {
    let page = page.clamp(1, all.div_ceil(PAGE).max(1));
    (page, (page - 1) * PAGE..(page * PAGE).min(all))
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::ENGLISH;
    use super::*;

    #[test]
    fn every_entry_is_on_one_page() {
        assert_eq!(part_of(0, 1), (1, 0..0));
        assert_eq!(part_of(100, 1), (1, 0..100));
        assert_eq!((part_of(101, 1), part_of(101, 2)), ((1, 0..100), (2, 100..101)));
        assert_eq!((part_of(101, 0), part_of(101, 9)), ((1, 0..100), (2, 100..101)));
    }

    #[test]
    fn a_page_leads_to_its_neighbours() {
        let at = |page: usize| format!("/x?page={page}");
        let all_shown = part(&ENGLISH, 100, 1, at);
        assert_eq!((all_shown.text, all_shown.before, all_shown.next), (None, None, None));
        let middle = part(&ENGLISH, 250, 2, at);
        assert_eq!(middle.text.as_deref(), Some("101 to 200 of 250"));
        assert_eq!((middle.before.as_deref(), middle.next.as_deref()), (Some("/x?page=1"), Some("/x?page=3")));
    }
}
