//! The arithmetic of noisy rounds: which of them count, and what they say together.
//!
//! A shared machine is a quarter slower at one time than at another, for the engine and for the floor alike. So ratios are made within a round, never
//! between rounds; a round in which the floor itself had moved says nothing; and what is reported is the median of the others, with the lowest and the
//! highest beside it.

/// How far a round's floor may be from the median of all floors before the round does not count.
pub const FLOOR_MAY_MOVE: f64 = 0.10;

/// What several rounds say together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The figure of the middle; of an even number the higher one, which is a round's own figure, too.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// Of these figures.
    ///
    /// # Panics
    /// If there are none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (low, high) = (figures.first().expect("there is a figure"), figures.last().expect("there is a figure"));
        Self { median: figures[figures.len() / 2], low: *low, high: *high }
    }

    /// Of the ratios within each pair.
    ///
    /// # Panics
    /// If there are none.
    pub fn of_ratios(pairs: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self::of(pairs.into_iter().map(|(above, below)| above / below))
    }

    /// From the lowest to the highest.
    pub fn width(&self) -> f64 {
        self.high - self.low
    }
}

/// The rounds that count, by their floors. At least one does: the one whose floor is the median.
///
/// # Panics
/// If there are none.
pub fn steady<T>(rounds: &[T], floor: impl Fn(&T) -> f64) -> Vec<&T> {
    let median = Spread::of(rounds.iter().map(&floor)).median;
    rounds.iter().filter(|round| (floor(round) / median - 1.0).abs() <= FLOOR_MAY_MOVE).collect()
}

/// A figure as it is printed: three digits behind the point.
pub fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_round_s_own_figure() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, low: 1.0, high: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 3.0, 2.0]).median, 3.0);
        assert_eq!(Spread::of([1.5]), Spread { median: 1.5, low: 1.5, high: 1.5 });
    }

    #[test]
    fn ratios_are_made_within_a_round() {
        // The machine was twice as slow in the second round. The ratio of the medians would be 4 / 2.
        let spread = Spread::of_ratios([(3.0, 2.0), (6.4, 4.0), (4.0, 2.0)]);
        assert_eq!(spread, Spread { median: 1.6, low: 1.5, high: 2.0 });
        assert!((spread.width() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn rounds_whose_floor_has_moved_do_not_count() {
        let kept = |floors: &[f64]| steady(floors, |floor| *floor).into_iter().copied().collect::<Vec<f64>>();
        assert_eq!(kept(&[2.5, 2.6, 3.0]), [2.5, 2.6]);
        assert_eq!(kept(&[2.0, 2.5, 2.6]), [2.5, 2.6]);
        assert_eq!(kept(&[2.4, 2.5, 2.6]), [2.4, 2.5, 2.6]);
        assert_eq!(kept(&[2.0, 3.0]), [3.0], "one always counts");
        assert_eq!(kept(&[2.0]), [2.0]);
    }

    #[test]
    fn figures_are_printed_with_three_digits() {
        assert_eq!((rounded(1.234_56), rounded(2.0), rounded(0.000_4)), (1.235, 2.0, 0.0));
    }
}
