//! "Did you mean": the known word nearest to one that is not known.

/// The candidate nearest to `text`, in letters of either case, if one is near enough to be meant.
pub fn nearest<'a>(text: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let text = text.to_lowercase();
    let near = |c: &&str| edit_distance(&text, &c.to_lowercase());
    candidates.iter().copied().map(|c| (near(&c), c)).min().filter(|(d, c)| *d <= 1 + c.len() / 4).map(|(_, c)| c)
}

/// Levenshtein distance with swaps of neighbours counted once (optimal string alignment).
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substitution = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substitution.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_nearest_word_is_offered_only_if_it_is_near() {
        let keys = ["source", "window", "format", "to", "max_bytes"];
        assert_eq!(nearest("widnow", &keys), Some("window"));
        assert_eq!(nearest("Max-Bytes", &keys), Some("max_bytes"));
        assert_eq!(nearest("compression", &keys), None);
        assert_eq!(nearest("", &keys), None);
    }

    #[test]
    fn distances_count_letters_and_swapped_neighbours_once() {
        for (a, b, distance) in [("ab", "ba", 1), ("abcd", "abdc", 1), ("kitten", "sitting", 3), ("", "abc", 3), ("abc", "cba", 2)] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
        assert_eq!(nearest("xyzdefgh", &["abcdefgh"]), Some("abcdefgh"), "three of eight letters may differ");
        assert_eq!(nearest("wxyzefgh", &["abcdefgh"]), None);
    }

    proptest! {
        #[test]
        fn distance_is_symmetric(a in "[a-c]{0,6}", b in "[a-c]{0,6}") {
            prop_assert_eq!(edit_distance(&a, &b), edit_distance(&b, &a));
            prop_assert_eq!(edit_distance(&a, &b) == 0, a == b);
        }
    }
}
