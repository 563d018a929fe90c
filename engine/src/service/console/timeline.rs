//! The last windows of each partition side by side, as a drawing: where one is missing, or late, the eye sees it.

use std::collections::BTreeMap;

use super::catalogue::Texts;
use super::show;
use crate::service::state::{StoredGap, StoredWindow};

/// Width of the drawing, and of the labels before it.
const WIDTH: i64 = 960;
const LEFT: i64 = 170;
/// From one row to the next.
const ROW: i64 = 20;
/// Rows that are drawn.
const ROWS_MAX: usize = 64;
/// Characters of a label.
const LABEL_CHARS: usize = 24;

/// The drawing.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    pub(super) width: i64,
    pub(super) height: i64,
    pub(super) left: i64,
    pub(super) rows: Vec<Row>,
    pub(super) from: String,
    pub(super) to: String,
}

/// A partition.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) y: i64,
    pub(super) label: String,
    pub(super) cells: Vec<Cell>,
}

/// A window or a gap.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) x: i64,
    pub(super) width: i64,
    pub(super) class: &'static str,
    pub(super) title: String,
}

/// The times that are drawn.
struct Scale {
    from_ms: i64,
    span_ms: i64,
}

impl Scale {
    fn x(&self, at_ms: i64) -> i64 {
        let share = (at_ms - self.from_ms).clamp(0, self.span_ms) as f64 / self.span_ms as f64;
        LEFT + (share * (WIDTH - LEFT) as f64) as i64
    }
}

/// Draws windows, newest first as they are listed, and the gaps that were found in their time.
pub(super) fn draw(t: &Texts, windows: &[StoredWindow], gaps: &[StoredGap]) -> Timeline {
    let times = || windows.iter().map(|window| window.at_ms);
    let (Some(from_ms), Some(to_ms)) = (times().min(), times().max()) else { return Timeline::default() };
    let scale = Scale { from_ms, span_ms: (to_ms - from_ms).max(1) };
    let mut by_partition: BTreeMap<(&str, i32), Vec<&StoredWindow>> = BTreeMap::new();
    for window in windows.iter().rev() {
        by_partition.entry((&window.topic, window.partition)).or_default().push(window);
    }
    let rows: Vec<Row> = by_partition
        .into_iter()
        .take(ROWS_MAX)
        .zip(0..)
        .map(|(((topic, partition), windows), n)| {
            let of_it = gaps.iter().filter(|gap| (gap.topic.as_str(), gap.partition) == (topic, partition));
            let mut cells = cells(t, &scale, &windows);
            cells.extend(of_it.filter(|gap| gap.at_ms >= from_ms).map(|gap| gap_cell(t, &scale, gap)));
            Row { y: n * ROW, label: label(topic, partition), cells }
        })
        .collect();
    let height = rows.len() as i64 * ROW + 18;
    Timeline { width: WIDTH, height, left: LEFT, rows, from: show::moment(from_ms).text, to: show::moment(to_ms).text }
}

/// Each window reaches from the one before it to the moment when it was stored.
fn cells(t: &Texts, scale: &Scale, windows: &[&StoredWindow]) -> Vec<Cell> {
    let mut left = LEFT;
    let mut cells = Vec::with_capacity(windows.len());
    for window in windows {
        let right = scale.x(window.at_ms).max(left + 3);
        let title = t.fill(t.window_title, &[&window.start.to_string(), &window.end.to_string(), &show::count(window.records)]);
        cells.push(Cell { x: left, width: right - left - 1, class: if window.late > 0 { "late" } else { "filled" }, title });
        left = right;
    }
    cells
}

fn gap_cell(t: &Texts, scale: &Scale, gap: &StoredGap) -> Cell {
    let title = t.fill(t.gap_title, &[&gap.start.to_string(), &gap.end.to_string()]);
    Cell { x: (scale.x(gap.at_ms) - 4).max(LEFT), width: 4, class: "gap", title }
}

/// The end of a long name tells more than its beginning.
fn label(topic: &str, partition: i32) -> String {
    let full = format!("{topic}/{partition}");
    let chars = full.chars().count();
    if chars <= LABEL_CHARS { full } else { format!("…{}", full.chars().skip(chars - LABEL_CHARS + 1).collect::<String>()) }
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::ENGLISH;
    use super::*;

    fn window(partition: i32, at_ms: i64, late: i64) -> StoredWindow {
        StoredWindow {
            id: at_ms,
            version: 1,
            topic: "orders".into(),
            partition,
            start: 0,
            end: 5,
            key: "k".into(),
            bytes: 1,
            records: 5,
            reason: "time".into(),
            late,
            delay_ms: 0,
            at_ms,
            worker: None,
        }
    }

    #[test]
    fn windows_lie_side_by_side_within_the_drawing() {
        let windows: Vec<_> = (0..100).rev().map(|n| window(n % 2, i64::from(n) * 1_000, i64::from(n == 50))).collect();
        let gap = StoredGap { topic: "orders".into(), partition: 1, start: 5, end: 9, cause: "retention".into(), at_ms: 99_000 };
        let drawn = draw(&ENGLISH, &windows, &[gap]);
        assert_eq!(drawn.rows.len(), 2);
        for row in &drawn.rows {
            let windows = || row.cells.iter().filter(|cell| cell.class != "gap");
            assert!(windows().zip(windows().skip(1)).all(|(one, next)| one.x + one.width < next.x), "{row:?}");
            assert!(row.cells.iter().all(|cell| cell.x >= LEFT && cell.width > 0 && cell.x + cell.width <= WIDTH + 6), "{row:?}");
        }
        assert_eq!(drawn.rows[0].cells.iter().filter(|cell| cell.class == "late").count(), 1);
        assert_eq!(drawn.rows[1].cells.iter().filter(|cell| cell.class == "gap").count(), 1);
        assert!(draw(&ENGLISH, &[], &[]).rows.is_empty());
        assert_eq!(draw(&ENGLISH, &[window(0, 5, 0)], &[]).rows[0].cells.len(), 1);
    }

    #[test]
    fn a_long_name_is_cut_at_its_beginning() {
        assert_eq!(label("orders", 3), "orders/3");
        let cut = label(&"订单".repeat(20), 12);
        assert!(cut.starts_with('…') && cut.ends_with("/12") && cut.chars().count() == LABEL_CHARS, "{cut}");
    }
}
