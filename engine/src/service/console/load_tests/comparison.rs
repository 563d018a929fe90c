//! Two load tests beside each other: what was not alike, and each figure with the difference in percent of the other one's.
//!
//! The same conditions and figures as in the comparison that `catchment-loadtest report` writes. No difference is called significant: one run each shows none.

use super::super::catalogue::Texts;
use super::super::show;
use super::{milliseconds, number, or_dash};
use crate::service::load_tests::LoadTest;

/// A condition under which the two were not alike.
#[derive(Debug, PartialEq)]
pub(super) struct Condition {
    pub(super) name: &'static str,
    pub(super) this: String,
    pub(super) other: String,
}

/// A figure of both.
#[derive(Debug, PartialEq)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) this: String,
    pub(super) other: String,
    /// By how much this one's is above the other one's, in percent of that.
    pub(super) difference: String,
}

/// What a figure is called, how it is shown, and how it is taken from a load test.
type Kind = (fn(&Texts) -> &'static str, fn(&Texts, f64) -> String, fn(&LoadTest) -> Option<f64>);

const KINDS: [Kind; 12] = [
    (|t| t.of_load_tests.values, |t, v| t.fill(t.of_load_tests.a_second, &[&show::size(v)]), |test| test.throughput?.bytes_per_s),
    (|t| t.of_load_tests.of_records, |t, v| t.fill(t.of_load_tests.a_second, &[&whole(v)]), |test| test.throughput?.records_per_s),
    (|t| t.of_load_tests.backup_time, seconds, |test| test.throughput?.seconds),
    (|t| t.of_load_tests.cpu_for_gib, seconds, |test| test.throughput?.cpu_s_per_gib),
    (|t| t.of_load_tests.cpu_time, seconds, |test| test.cpu_s),
    (|t| t.of_load_tests.peak_memory, |_, v| show::size(v), |test| test.peak_rss_bytes.map(|n| n as f64)),
    (|t| t.of_load_tests.objects, |_, v| whole(v), |test| test.objects.map(|n| n as f64)),
    (|t| t.of_load_tests.objects_size, |_, v| show::size(v), |test| test.object_bytes.map(|n| n as f64)),
    (|t| t.of_load_tests.p50, milliseconds, |test| test.latency?.p50_ms),
    (|t| t.of_load_tests.p99, milliseconds, |test| test.latency?.p99_ms),
    (|t| t.of_load_tests.p999, milliseconds, |test| test.latency?.p999_ms),
    (|t| t.of_load_tests.longest, milliseconds, |test| test.latency?.max_ms),
];

fn whole(value: f64) -> String {
    show::count(value.round() as i64)
}

fn seconds(t: &Texts, value: f64) -> String {
    format!("{value:.2} {}", t.seconds)
}

/// All figures.
pub(super) fn figures(t: &Texts, this: &LoadTest, other: &LoadTest) -> Vec<Figure> {
    let figure = |(name, show, take): &Kind| {
        let (mine, theirs) = (take(this), take(other));
        let shown = |value: Option<f64>| or_dash(value.map(|value| show(t, value)));
        let percent = mine.zip(theirs).and_then(|(mine, theirs)| percent(mine, theirs));
        let difference = or_dash(percent.map(|percent| format!("{percent:+.1} %")));
        Figure { name: name(t), this: shown(mine), other: shown(theirs), difference }
    };
    KINDS.iter().map(figure).collect()
}

/// By how much a figure is above another one; none if that cannot be said.
fn percent(this: f64, other: f64) -> Option<f64> {
    Some((this - other) / other.abs() * 100.0).filter(|percent| percent.is_finite())
}

/// The conditions that differ.
pub(super) fn unlike(t: &Texts, this: &LoadTest, other: &LoadTest) -> Vec<Condition> {
    let pairs = conditions(t, this).into_iter().zip(conditions(t, other));
    let unlike = pairs.filter(|((_, mine), (_, theirs))| mine != theirs);
    unlike.map(|((name, mine), (_, theirs))| Condition { name, this: or_dash(mine), other: or_dash(theirs) }).collect()
}

fn conditions(t: &Texts, test: &LoadTest) -> [(&'static str, Option<String>); 13] {
    let of = &t.of_load_tests;
    [
        (of.mode, test.mode.clone()),
        (t.partitions, test.partitions.map(number)),
        (of.record_bytes, test.record_bytes.clone()),
        (of.keys, test.keys.clone()),
        (t.codec, test.codec.clone()),
        (of.rate, test.rate.clone()),
        (of.transaction_records, test.transaction_records.map(number)),
        (of.committed, test.records.map(number)),
        (of.cores, test.cores.map(number)),
        (of.processor, test.cpu.clone()),
        (of.kernel, test.kernel.clone()),
        (of.program, test.catchment.clone()),
        (of.client, test.librdkafka.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::super::catalogue::{CHINESE, ENGLISH};
    use super::*;
    use crate::service::load_tests::{Latency, Throughput};

    fn example() -> LoadTest {
        LoadTest {
            verified: true,
            mode: Some("drain".to_owned()),
            codec: Some("none".to_owned()),
            records: Some(1_000),
            cores: Some(2),
            latency: Some(Latency { p50_ms: Some(1.0), p99_ms: Some(9.0), p999_ms: Some(20.0), max_ms: Some(1_500.0) }),
            throughput: Some(Throughput {
                seconds: Some(4.0),
                records_per_s: Some(2_500.0),
                bytes_per_s: Some(1_572_864.0),
                cpu_s_per_gib: Some(2.5),
            }),
            cpu_s: Some(1.5),
            peak_rss_bytes: Some(90 << 20),
            objects: Some(2),
            object_bytes: Some(300 << 10),
            ..LoadTest::default()
        }
    }

    fn named<'a>(figures: &'a [Figure], name: &str) -> &'a Figure {
        figures.iter().find(|figure| figure.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    #[test]
    fn one_that_is_compared_with_itself_is_alike() {
        assert!(unlike(&ENGLISH, &example(), &example()).is_empty());
        let found = figures(&ENGLISH, &example(), &example());
        assert!(found.iter().all(|figure| figure.difference == "+0.0 %" && figure.this == figure.other), "{found:?}");
        let shown: Vec<&str> = found.iter().map(|figure| figure.this.as_str()).collect();
        let expected =
            ["1.5 MiB/s", "2,500/s", "4.00 s", "2.50 s", "1.50 s", "90.0 MiB", "2", "300 KiB", "1.00 ms", "9.00 ms", "20.00 ms", "1.5 s"];
        assert_eq!(shown, expected);
        assert_eq!(named(&figures(&CHINESE, &example(), &example()), "吞吐，值").this, "1.5 MiB/秒");
    }

    #[test]
    fn what_differs_is_said_in_percent_of_the_other_one() {
        let other = LoadTest { codec: Some("zstd".to_owned()), cores: None, peak_rss_bytes: Some(45 << 20), cpu_s: Some(0.0), ..example() };
        let texts = |name, this: &str, other: &str| Condition { name, this: this.to_owned(), other: other.to_owned() };
        assert_eq!(unlike(&ENGLISH, &example(), &other), [texts("Compression", "none", "zstd"), texts("Cores", "2", "–")]);
        let found = figures(&ENGLISH, &example(), &other);
        let (memory, cpu) = (named(&found, "Peak memory"), named(&found, "CPU time"));
        assert_eq!((memory.other.as_str(), memory.difference.as_str()), ("45.0 MiB", "+100.0 %"));
        assert_eq!((cpu.other.as_str(), cpu.difference.as_str()), ("0.00 s", "–"), "nothing is a percentage of nothing");
        assert_eq!(named(&figures(&ENGLISH, &other, &example()), "Peak memory").difference, "-50.0 %");
    }

    #[test]
    fn what_was_not_verified_has_no_throughput_to_compare() {
        let found = figures(&ENGLISH, &example(), &LoadTest { throughput: None, verified: false, ..example() });
        let values = named(&found, "Throughput, values");
        assert_eq!((values.this.as_str(), values.other.as_str(), values.difference.as_str()), ("1.5 MiB/s", "–", "–"));
    }
}
