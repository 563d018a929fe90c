//! Charts as SVG, drawn by hand: no script, nothing loaded, readable to a screen reader by title and description, in colours that the page's style
//! gives for light and dark.

use std::fmt::Write as _;

use crate::units::read_size;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 86.0;
const RIGHT: f64 = 624.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 184.0;

/// Most points that a line has; more would not be told apart.
const POINTS_MAX: usize = 600;

/// A value over time.
pub(super) struct Line<'a> {
    /// Of the element; unique on the page.
    pub(super) id: &'a str,
    /// What is shown.
    pub(super) title: &'a str,
    /// Seconds and values.
    pub(super) points: Vec<(f64, f64)>,
    /// How a value is written.
    pub(super) show: fn(f64) -> String,
}

/// Text for HTML, also within quotes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The least of 1, 2, 2.5 and 5 times a power of ten that is no less than `value`.
fn rounded_up(value: f64) -> f64 {
    if !value.is_finite() || value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    steps.iter().map(|step| step * power).find(|step| *step >= value * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// Points that stand for all: the highest of each stretch, so that no peak is lost.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let stretch = points.len().div_ceil(POINTS_MAX).max(1);
    points.chunks(stretch).filter_map(|chunk| chunk.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))).collect()
}

/// Opens a figure with its title and description.
fn open(id: &str, title: &str, description: &str) -> String {
    let (title, description) = (escape(title), escape(description));
    format!(
        "<figure><figcaption>{title}</figcaption>\n<svg id=\"{id}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\n\
         <title id=\"{id}-title\">{title}</title>\n<desc id=\"{id}-desc\">{description}</desc>\n"
    )
}

/// Four lines across, with what they stand for.
fn grid(svg: &mut String, top: f64, show: fn(f64) -> String) {
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let y = BOTTOM - share * (BOTTOM - TOP);
        let label = escape(&show(top * share));
        write!(svg, "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>").expect("a string takes everything");
        writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 6.0, y + 4.0)
            .expect("a string takes everything");
    }
}

/// A line of values over time. Without two points there is nothing to draw, and the page says so.
pub(super) fn line(chart: &Line<'_>) -> String {
    let known: Vec<(f64, f64)> = chart.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let Some((first, last)) = known.first().zip(known.last()).filter(|(first, last)| last.0 > first.0) else {
        return format!("<p>{}: the run was too short for a chart, or it is not known.</p>\n", escape(chart.title));
    };
    let (least, most) = known.iter().fold((f64::MAX, f64::MIN), |(least, most), (_, y)| (least.min(*y), most.max(*y)));
    let mean = known.iter().map(|(_, y)| y).sum::<f64>() / known.len() as f64;
    let show = chart.show;
    let description =
        format!("From {:.0} s to {:.0} s: at least {}, on average {}, at most {}.", first.0, last.0, show(least), show(mean), show(most));
    let mut svg = open(chart.id, chart.title, &description);
    let (end, top) = (rounded_up(last.0), rounded_up(most));
    grid(&mut svg, top, show);
    let place = |(x, y): (f64, f64)| (LEFT + x / end * (RIGHT - LEFT), BOTTOM - y.max(0.0) / top * (BOTTOM - TOP));
    let points: String = thinned(&known).into_iter().map(place).map(|(x, y)| format!("{x:.1},{y:.1} ")).collect();
    writeln!(svg, "<polyline class=\"line\" points=\"{}\"/>", points.trim_end()).expect("a string takes everything");
    for quarter in 0..=4 {
        let (x, seconds) = (LEFT + f64::from(quarter) / 4.0 * (RIGHT - LEFT), end * f64::from(quarter) / 4.0);
        let label = if end < 8.0 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") };
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>", BOTTOM + 20.0)
            .expect("a string takes everything");
    }
    svg + "</svg></figure>\n"
}

/// How many sizes lie between each power of two and the next, from the smallest to the largest.
fn buckets(sizes: &[u64]) -> Vec<(String, u64)> {
    let bucket = |size: u64| u64::BITS - size.leading_zeros();
    let (Some(least), Some(most)) = (sizes.iter().map(|s| bucket(*s)).min(), sizes.iter().map(|s| bucket(*s)).max()) else {
        return Vec::new();
    };
    let edge = |bucket: u32| read_size(2_f64.powi(i32::try_from(bucket).unwrap_or(64)));
    let count = |wanted: u32| sizes.iter().filter(|size| bucket(**size) == wanted).count() as u64;
    (least..=most).map(|bucket| (format!("< {}", edge(bucket)), count(bucket))).collect()
}

/// Bars of how many objects have which size.
pub(super) fn sizes(id: &str, title: &str, sizes: &[u64]) -> String {
    let buckets = buckets(sizes);
    let (Some(least), Some(most)) = (sizes.iter().min(), sizes.iter().max()) else {
        return format!("<p>{}: there are none.</p>\n", escape(title));
    };
    let sum: u64 = sizes.iter().sum();
    let description = format!(
        "{} objects from {} to {}, {} together. {}.",
        sizes.len(),
        read_size(*least as f64),
        read_size(*most as f64),
        read_size(sum as f64),
        buckets.iter().map(|(label, count)| format!("{label}: {count}")).collect::<Vec<_>>().join(", ")
    );
    let mut svg = open(id, title, &description);
    // A multiple of four: what the lines stand for are whole numbers.
    let top = (buckets.iter().map(|(_, count)| *count).max().unwrap_or(1).div_ceil(4) * 4) as f64;
    grid(&mut svg, top, |value| format!("{value:.0}"));
    let step = (RIGHT - LEFT) / buckets.len() as f64;
    let nth_label = buckets.len().div_ceil(8);
    for (at, (label, count)) in buckets.iter().enumerate() {
        let (x, height) = (LEFT + step * at as f64, *count as f64 / top * (BOTTOM - TOP));
        let (width, y) = ((step * 0.8).min(80.0), BOTTOM - height);
        let middle = x + step / 2.0;
        writeln!(svg, "<rect class=\"bar\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>", middle - width / 2.0)
            .expect("a string takes everything");
        if at.is_multiple_of(nth_label) {
            writeln!(svg, "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", BOTTOM + 20.0, escape(label))
                .expect("a string takes everything");
        }
    }
    svg + "</svg></figure>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> String {
        line(&Line { id: "cpu", title: "CPU <&>", points, show: |value| format!("{value:.0} %") })
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("<script>'\"&</script>"), "&lt;script&gt;&#39;&quot;&amp;&lt;/script&gt;");
        assert!(!chart(vec![(0.0, 1.0), (5.0, 2.0)]).contains("CPU <"));
        assert!(!chart(Vec::new()).contains("CPU <"));
    }

    #[test]
    fn a_line_stays_within_its_frame_and_is_described() {
        let svg = chart(vec![(1.0, 50.0), (2.0, 100.0), (3.0, 0.0)]);
        assert!(svg.contains("role=\"img\"") && svg.contains("<title id=\"cpu-title\">") && svg.contains("at most 100 %"), "{svg}");
        let points = svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("there are points");
        let places: Vec<(f64, f64)> = points
            .split(' ')
            .map(|point| point.split_once(',').map(|(x, y)| (x.parse().expect("x"), y.parse().expect("y"))).expect("a point"))
            .collect();
        assert_eq!(places.len(), 3);
        assert!(places.iter().all(|(x, y)| (LEFT..=RIGHT).contains(x) && (TOP..=BOTTOM).contains(y)), "{places:?}");
        assert_eq!((places[1].1, places[2].1), (TOP, BOTTOM));
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        for points in [vec![], vec![(1.0, 1.0)], vec![(f64::NAN, 1.0), (2.0, f64::INFINITY)]] {
            assert!(chart(points).starts_with("<p>"));
        }
        assert!(sizes("objects", "Objects", &[]).starts_with("<p>"));
    }

    #[test]
    fn thinning_keeps_the_highest() {
        let points: Vec<(f64, f64)> = (0..10_000).map(|n| (f64::from(n), if n == 4321 { 9.0 } else { 1.0 })).collect();
        let thin = thinned(&points);
        assert!(thin.len() <= POINTS_MAX && thin.contains(&(4321.0, 9.0)), "{}", thin.len());
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([0.0, 0.7, 1.0, 1.5, 2.1, 30.0, 600.0, f64::NAN].map(rounded_up), [1.0, 1.0, 1.0, 2.0, 2.5, 50.0, 1000.0, 1.0]);
    }

    #[test]
    fn sizes_are_counted_between_powers_of_two() {
        let found = buckets(&[1000, 1023, 1024, 5000]);
        let expected = [("< 1.00 KiB", 2), ("< 2.00 KiB", 1), ("< 4.00 KiB", 0), ("< 8.00 KiB", 1)];
        assert_eq!(found, expected.map(|(label, count)| (label.to_owned(), count)));
        assert_eq!(buckets(&[0]), [("< 1 B".to_owned(), 1)]);
        let svg = sizes("objects", "Objects", &[1000, 5000]);
        assert!(svg.contains("2 objects from 1000 B to 4.88 KiB") || svg.contains("2 objects from 0.98 KiB to 4.88 KiB"), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 4, "{svg}");
    }
}
