//! Which record closes a window, and why. Pure.
//!
//! Windows are a grid (00:00, 00:05, ...). By record time a window takes its slot from its first plausible record and is closed
//! by a plausible record past the slot; by arrival the clock alone decides. Offsets stay contiguous: a late record goes into the
//! window that is open and is counted. What a window's *directory* is called has a test of its own, by constants, because
//! it must come out the same when the range is read again.

use std::time::Duration;

use catchment_formats::{RecordView, TimestampType};

use crate::words;

/// 2000-01-01T00:00:00Z. Nothing before it is taken for a real timestamp.
pub const PLAUSIBLE_FROM_MS: i64 = 946_684_800_000;

/// 2100-01-01T00:00:00Z, for directories. A constant and not the clock, so that a range that is read again finds the same directory.
pub const PLAUSIBLE_UNTIL_MS: i64 = 4_102_444_800_000;

/// How far ahead of the clock a timestamp may be and still say where a window lies. Clocks of producers differ by minutes.
const AHEAD_MAX_MS: i64 = 600_000;

/// How long after its slot an idle window stays open: records that are on their way still go in.
const IDLE_GRACE_MS: i64 = 2_000;

words! {
    /// Which clock closes a window.
    WindowBy {
        /// The timestamps of the records.
        RecordTime = "record-time",
        /// The wall clock alone.
        Arrival = "arrival",
    }
}

/// The rule's window settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowPolicy {
    /// Length of a slot in milliseconds.
    pub every_ms: i64,
    /// What decides.
    pub by: WindowBy,
    /// Uncompressed bytes of keys, values and headers at which a window closes.
    pub bytes_max: u64,
}

impl WindowPolicy {
    /// How long it is until the slot that the wall clock stands in is over, and with it the grace of idle windows.
    pub fn until_slot_is_over(&self, wall_ms: i64) -> Duration {
        span(slot_end(wall_ms, self.every_ms).saturating_add(IDLE_GRACE_MS).saturating_sub(wall_ms))
    }

    /// When the slot of a record is over, and with it the grace of idle windows, by the wall clock; none if that was, or if the record does not say.
    pub fn over_at(&self, record: &RecordView<'_>, wall_ms: i64) -> Option<i64> {
        let says_where = self.by == WindowBy::RecordTime && says_where(record, wall_ms);
        let over_at = says_where.then(|| slot_end(record.timestamp, self.every_ms).saturating_add(IDLE_GRACE_MS));
        over_at.filter(|over_at| *over_at > wall_ms)
    }
}

/// When a window opened, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Milliseconds of the wall clock.
    pub wall_ms: i64,
    /// The clock that is never set.
    pub steady: Duration,
}

/// Why a window closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// A record past the slot.
    NextSlot,
    /// The slot is over and the partition is idle, or the clock decides.
    Clock,
    /// It had been open for twice its length.
    Age,
    /// It reached the size limit.
    Size,
    /// Memory ran out.
    Pressure,
    /// An intent's end.
    Recovery,
    /// It reached the end at which the run stops.
    UntilEnd,
    /// The process stops and the rule says to close.
    Stop,
    /// The log does not reach to the position any more.
    OutOfRange,
}

impl CloseReason {
    /// The reason as logs and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NextSlot => "next_slot",
            Self::Clock => "clock",
            Self::Age => "age",
            Self::Size => "size",
            Self::Pressure => "pressure",
            Self::Recovery => "recovery",
            Self::UntilEnd => "until_end",
            Self::Stop => "stop",
            Self::OutOfRange => "out_of_range",
        }
    }

    /// Whether the window is smaller than the rule asked for.
    pub fn is_early(self) -> bool {
        matches!(self, Self::Size | Self::Pressure)
    }
}

/// Whether a timestamp may name a directory.
#[inline]
pub fn is_plausible(timestamp_ms: i64) -> bool {
    (PLAUSIBLE_FROM_MS..PLAUSIBLE_UNTIL_MS).contains(&timestamp_ms)
}

/// A record's timestamp, if it is one that a directory may be named after.
#[inline]
pub fn directory_timestamp(record: &RecordView<'_>) -> Option<i64> {
    let plausible = record.timestamp_type != TimestampType::None && is_plausible(record.timestamp);
    plausible.then_some(record.timestamp)
}

/// A window that is open.
#[derive(Clone, Debug)]
pub struct OpenWindow {
    opened_wall_ms: i64,
    opened: Duration,
    slot_end_ms: Option<i64>,
    /// Timestamp that names the directory: that of the first record with a plausible one.
    pub directory_ms: Option<i64>,
    /// Uncompressed bytes of keys, values and headers.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Records older than the slot.
    pub late: u64,
}

impl OpenWindow {
    /// A window that opens now.
    pub fn new(policy: &WindowPolicy, wall_ms: i64, steady: Duration) -> Self {
        let slot_end_ms = (policy.by == WindowBy::Arrival).then(|| slot_end(wall_ms, policy.every_ms));
        Self { opened_wall_ms: wall_ms, opened: steady, slot_end_ms, directory_ms: None, bytes: 0, records: 0, late: 0 }
    }

    /// Whether `record` belongs to a later window.
    #[inline]
    pub fn ends_before(&self, policy: &WindowPolicy, record: &RecordView<'_>, wall_ms: i64) -> bool {
        policy.by == WindowBy::RecordTime && self.slot_end_ms.is_some_and(|end| record.timestamp >= end) && says_where(record, wall_ms)
    }

    /// Takes a record in.
    #[inline]
    pub fn add(&mut self, policy: &WindowPolicy, record: &RecordView<'_>, wall_ms: i64) {
        self.records += 1;
        self.bytes += record_bytes(record);
        if self.directory_ms.is_none() {
            self.directory_ms = directory_timestamp(record);
        }
        if policy.by == WindowBy::Arrival || !says_where(record, wall_ms) {
            return;
        }
        let end = *self.slot_end_ms.get_or_insert_with(|| slot_end(record.timestamp, policy.every_ms));
        if record.timestamp < end - policy.every_ms {
            self.late += 1;
        }
    }

    /// Whether the size limit is reached.
    #[inline]
    pub fn is_full(&self, policy: &WindowPolicy) -> bool {
        self.bytes >= policy.bytes_max
    }

    /// Whether the clock closes the window; `at_end` says that the reader has everything the partition holds.
    #[inline]
    pub fn due(&self, policy: &WindowPolicy, wall_ms: i64, steady: Duration, at_end: bool) -> Option<CloseReason> {
        let over = self.slot_end_ms.is_some_and(|end| match policy.by {
            WindowBy::Arrival => wall_ms >= end,
            WindowBy::RecordTime => at_end && wall_ms >= end.saturating_add(IDLE_GRACE_MS),
        });
        if over {
            return Some(CloseReason::Clock);
        }
        let age_ms = i64::try_from(steady.saturating_sub(self.opened).as_millis()).unwrap_or(i64::MAX);
        (age_ms >= policy.every_ms.saturating_mul(2)).then_some(CloseReason::Age)
    }

    /// How long it is until the clock closes the window, if nothing more arrives.
    pub fn due_in(&self, policy: &WindowPolicy, wall_ms: i64, steady: Duration) -> Duration {
        let age = span(policy.every_ms.saturating_mul(2)).saturating_sub(steady.saturating_sub(self.opened));
        let slot = self.slot_end_ms.map(|end| span(end.saturating_add(IDLE_GRACE_MS).saturating_sub(wall_ms)));
        slot.map_or(age, |slot| slot.min(age))
    }

    /// When the window opened.
    pub fn opened(&self) -> Opened {
        Opened { wall_ms: self.opened_wall_ms, steady: self.opened }
    }

    /// When the window opened, in milliseconds of the wall clock.
    pub fn opened_wall_ms(&self) -> i64 {
        self.opened_wall_ms
    }
}

/// Milliseconds as a span of time; none is less than nothing.
fn span(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}

/// Uncompressed bytes of a record's key, value and headers.
#[inline]
pub fn record_bytes(record: &RecordView<'_>) -> u64 {
    let len = |b: Option<&[u8]>| b.map_or(0, <[u8]>::len);
    (len(record.key) + len(record.value) + record.headers.as_bytes().len()) as u64
}

#[inline]
fn says_where(record: &RecordView<'_>, wall_ms: i64) -> bool {
    record.timestamp_type != TimestampType::None && (PLAUSIBLE_FROM_MS..=wall_ms.saturating_add(AHEAD_MAX_MS)).contains(&record.timestamp)
}

#[inline]
fn slot_end(at_ms: i64, every_ms: i64) -> i64 {
    (at_ms.div_euclid(every_ms) + 1) * every_ms
}

#[cfg(test)]
mod tests {
    use catchment_formats::HeadersView;

    use super::*;

    const NOW: i64 = 1_764_000_000_000;
    const POLICY: WindowPolicy = WindowPolicy { every_ms: 300_000, by: WindowBy::RecordTime, bytes_max: 1000 };

    fn record(timestamp: i64) -> RecordView<'static> {
        RecordView {
            offset: 0,
            timestamp,
            timestamp_type: TimestampType::Create,
            key: None,
            value: Some(b"12345"),
            headers: HeadersView::default(),
        }
    }

    fn open_with(timestamps: &[i64]) -> OpenWindow {
        let mut window = OpenWindow::new(&POLICY, NOW, Duration::ZERO);
        for ts in timestamps {
            window.add(&POLICY, &record(*ts), NOW);
        }
        window
    }

    #[test]
    fn the_first_plausible_record_gives_the_slot_and_one_past_it_closes() {
        let slot = NOW - NOW % 300_000;
        let window = open_with(&[-1, NOW + 3_600_000, slot + 1]);
        assert!(!window.ends_before(&POLICY, &record(slot + 299_999), NOW));
        assert!(window.ends_before(&POLICY, &record(slot + 300_000), NOW));
        assert!(!window.ends_before(&POLICY, &record(NOW + 3_600_000), NOW), "a record an hour ahead is implausible");
        assert!(!open_with(&[-1]).ends_before(&POLICY, &record(slot + 300_000), NOW), "no slot, nothing closes");
    }

    #[test]
    fn older_records_stay_and_are_counted() {
        let window = open_with(&[NOW, NOW - 400_000]);
        assert!(!window.ends_before(&POLICY, &record(NOW - 400_000), NOW));
        assert_eq!((window.records, window.late), (2, 1));
    }

    #[test]
    fn the_directory_comes_from_constants_not_from_the_clock() {
        let ahead = NOW + 3_600_000;
        assert_eq!(open_with(&[-1, ahead, NOW]).directory_ms, Some(ahead));
        assert_eq!(open_with(&[PLAUSIBLE_UNTIL_MS, 0]).directory_ms, None);
    }

    #[test]
    fn the_clock_closes_idle_windows_and_old_ones() {
        let window = open_with(&[NOW]);
        let end = NOW - NOW % 300_000 + 300_000;
        assert_eq!(window.due(&POLICY, end + 1_999, Duration::ZERO, true), None);
        assert_eq!(window.due(&POLICY, end + 2_000, Duration::ZERO, true), Some(CloseReason::Clock));
        assert_eq!(window.due(&POLICY, end + 2_000, Duration::ZERO, false), None, "records are still to be read");
        assert_eq!(window.due(&POLICY, end, Duration::from_secs(600), false), Some(CloseReason::Age));
        let arrival = WindowPolicy { by: WindowBy::Arrival, ..POLICY };
        let window = OpenWindow::new(&arrival, NOW, Duration::ZERO);
        assert_eq!(window.due(&arrival, end, Duration::ZERO, false), Some(CloseReason::Clock));
    }

    #[test]
    fn no_slot_closes_by_the_clock_before_it_is_over() {
        let slot = NOW - NOW % 300_000;
        let arrival = WindowPolicy { by: WindowBy::Arrival, ..POLICY };
        let window = OpenWindow::new(&arrival, slot, Duration::from_secs(50));
        assert_eq!(window.opened_wall_ms(), slot);
        assert_eq!(window.due(&arrival, slot + 299_999, Duration::from_secs(649), true), None);
        assert_eq!(window.due(&arrival, slot, Duration::from_secs(650), true), Some(CloseReason::Age));
        let mut window = OpenWindow::new(&arrival, slot, Duration::ZERO);
        window.add(&arrival, &record(NOW - 3_600_000), NOW);
        assert_eq!((window.records, window.late), (1, 0), "by arrival no record is late");
        assert!(!window.ends_before(&arrival, &record(slot + 300_000), slot + 300_000), "by arrival no record closes");
    }

    #[test]
    fn a_timestamp_counts_only_if_it_is_one_and_plausible() {
        let of_type = |timestamp, timestamp_type| RecordView { timestamp_type, ..record(timestamp) };
        for (timestamp, directory) in [
            (PLAUSIBLE_FROM_MS - 1, None),
            (PLAUSIBLE_FROM_MS, Some(PLAUSIBLE_FROM_MS)),
            (PLAUSIBLE_UNTIL_MS - 1, Some(PLAUSIBLE_UNTIL_MS - 1)),
            (PLAUSIBLE_UNTIL_MS, None),
        ] {
            assert_eq!(directory_timestamp(&of_type(timestamp, TimestampType::Append)), directory);
            assert_eq!(directory_timestamp(&of_type(timestamp, TimestampType::None)), None);
        }
        let (none, past) = (TimestampType::None, NOW - NOW % 300_000 + 300_000);
        assert!(!open_with(&[NOW]).ends_before(&POLICY, &of_type(past, none), NOW), "a record without a timestamp closes nothing");
        let mut window = OpenWindow::new(&POLICY, NOW, Duration::ZERO);
        window.add(&POLICY, &of_type(NOW, none), NOW);
        assert!(!window.ends_before(&POLICY, &record(past), NOW), "nor does it give the slot");
        assert!(open_with(&[NOW]).ends_before(&POLICY, &record(NOW + AHEAD_MAX_MS), NOW));
        assert!(!open_with(&[NOW]).ends_before(&POLICY, &record(NOW + AHEAD_MAX_MS + 1), NOW));
    }

    #[test]
    fn a_record_at_the_start_of_its_slot_is_not_late() {
        let slot = NOW - NOW % 300_000;
        assert_eq!(open_with(&[slot + 5, slot]).late, 0);
        assert_eq!(open_with(&[slot + 5, slot - 1]).late, 1);
    }

    #[test]
    fn what_is_left_of_a_window_is_what_the_clock_waits_for() {
        let slot = NOW - NOW % 300_000;
        let window = open_with(&[NOW]);
        for (wall_ms, steady_s) in [(NOW, 0), (slot + 301_999, 300), (slot, 598)] {
            let (steady, left) = (Duration::from_secs(steady_s), window.due_in(&POLICY, wall_ms, Duration::from_secs(steady_s)));
            let then_ms = wall_ms + i64::try_from(left.as_millis()).unwrap();
            let due = |ms_less: u64, wall_ms| window.due(&POLICY, wall_ms, steady + left - Duration::from_millis(ms_less), true);
            assert!(due(0, then_ms).is_some() && due(1, then_ms - 1).is_none(), "{left:?} at {wall_ms}");
        }
        assert_eq!(window.due_in(&POLICY, slot + 400_000, Duration::from_secs(700)), Duration::ZERO);
        assert_eq!(open_with(&[-1]).due_in(&POLICY, NOW, Duration::from_secs(100)), Duration::from_secs(500), "without a slot by its age");
        assert_eq!(window.opened(), Opened { wall_ms: NOW, steady: Duration::ZERO });
    }

    #[test]
    fn a_slot_is_over_two_seconds_behind_its_end() {
        let slot = NOW - NOW % 300_000;
        assert_eq!(POLICY.until_slot_is_over(slot), Duration::from_secs(302));
        assert_eq!(POLICY.until_slot_is_over(slot + 299_999), Duration::from_millis(2_001));
        let over_at = |timestamp, wall_ms| POLICY.over_at(&record(timestamp), wall_ms);
        assert_eq!([over_at(slot, slot + 302_000), over_at(slot + 299_999, slot + 302_000)], [None; 2]);
        assert_eq!([over_at(slot, slot + 301_999), over_at(slot + 300_000, slot)], [Some(slot + 302_000), Some(slot + 602_000)]);
        assert_eq!(over_at(slot + 3_600_000, slot), None, "a record an hour ahead does not say");
        assert_eq!(WindowPolicy { by: WindowBy::Arrival, ..POLICY }.over_at(&record(slot), slot), None, "by arrival no record says");
    }

    #[test]
    fn reasons_have_the_names_that_metrics_show() {
        use CloseReason as R;
        let all = [R::NextSlot, R::Clock, R::Age, R::Size, R::Pressure, R::Recovery, R::UntilEnd, R::Stop, R::OutOfRange];
        let names = ["next_slot", "clock", "age", "size", "pressure", "recovery", "until_end", "stop", "out_of_range"];
        assert_eq!(all.map(R::as_str), names);
        assert_eq!(all.into_iter().filter(|reason| reason.is_early()).collect::<Vec<_>>(), [R::Size, R::Pressure]);
    }

    #[test]
    fn a_record_weighs_its_key_value_and_headers() {
        let mut headers = catchment_formats::HeadersBuf::default();
        headers.push(b"n", Some(b"vv"));
        let record = RecordView { key: Some(b"123"), headers: headers.view(), ..record(NOW) };
        assert_eq!(record_bytes(&record), 3 + 5 + 4 + 1 + 4 + 2);
    }

    #[test]
    fn size_counts_keys_values_and_headers() {
        let mut window = open_with(&[NOW; 199]);
        assert!(!window.is_full(&POLICY));
        window.add(&POLICY, &record(NOW), NOW);
        assert!(window.is_full(&POLICY));
    }
}
