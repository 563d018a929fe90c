//! The page of `/metrics` as a request of OTLP.
//!
//! Place in the flow: between the text that the `prometheus-client` crate writes, and no other, and the collector. Names, labels and values stay what they are:
//! counters become cumulative sums, infos sums that may fall, as OpenTelemetry's rules for Prometheus want it, the rest what it is called.
//!
//! A counter has a moment since which it counts, and the page does not say it: [`Starts`] notices when one begins anew.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

/// Totals since a start, as Prometheus has them: one that is lost is in the next one.
const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

/// A sample's labels, in their order.
type Labels<'a> = Vec<(&'a str, String)>;

/// All that a page shows, at a moment in nanoseconds since 1970.
pub(super) fn request(page: &str, resource: &BTreeMap<String, String>, starts: &mut Starts, now: u64) -> ExportMetricsServiceRequest {
    let metrics = families(page).iter().filter_map(|family| metric(family, starts, now)).collect();
    starts.turn(now);
    let scope = InstrumentationScope { name: "catchment".into(), version: env!("CARGO_PKG_VERSION").into(), ..Default::default() };
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..Default::default() }];
    let attributes = resource.iter().map(|(name, value)| attribute(name, value)).collect();
    let resource = Some(Resource { attributes, ..Default::default() });
    ExportMetricsServiceRequest { resource_metrics: vec![ResourceMetrics { resource, scope_metrics, ..Default::default() }] }
}

/// Since when each series has counted.
#[derive(Debug)]
pub(super) struct Starts {
    /// The start and the last value of each series of the push before.
    before: BTreeMap<String, (u64, f64)>,
    now: BTreeMap<String, (u64, f64)>,
    /// When the push before was; at the first one, when the process began.
    last: u64,
}

impl Starts {
    /// Nothing has counted before this moment.
    pub(super) fn since(moment: u64) -> Self {
        Self { before: BTreeMap::new(), now: BTreeMap::new(), last: moment }
    }

    /// The start of a series: what was not there at the push before, or has fallen since, began behind it.
    fn of(&mut self, series: String, value: f64) -> u64 {
        let start = match self.before.get(&series) {
            Some((start, last)) if value >= *last => *start,
            _ => self.last,
        };
        self.now.insert(series, (start, value));
        start
    }

    fn turn(&mut self, moment: u64) {
        self.before = std::mem::take(&mut self.now);
        self.last = moment;
    }
}

/// A metric of the page.
#[derive(Debug, Default, PartialEq)]
struct Family<'a> {
    name: &'a str,
    kind: &'a str,
    help: &'a str,
    samples: Vec<Sample<'a>>,
}

#[derive(Debug, PartialEq)]
struct Sample<'a> {
    name: &'a str,
    labels: Labels<'a>,
    value: &'a str,
}

/// The page taken apart.
fn families(page: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            families.push(Family { name, help, ..Family::default() });
        }
        let Some(family) = families.last_mut() else { continue };
        if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            family.kind = kind;
        } else if !line.starts_with('#') {
            family.samples.extend(sample(line));
        }
    }
    families
}

/// `name{label="value",...} 1`
fn sample(line: &str) -> Option<Sample<'_>> {
    let (name, rest) = line.split_at(line.find(['{', ' '])?);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    Some(Sample { name, labels, value: rest.split_whitespace().next()? })
}

/// What stands behind an opening brace: the labels, and the rest behind the closing one.
fn labels(mut inside: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::new();
    loop {
        if let Some(rest) = inside.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = inside.strip_prefix(',').unwrap_or(inside).split_once("=\"")?;
        let (value, rest) = unquoted(quoted)?;
        labels.push((name, value));
        inside = rest;
    }
}

/// A value up to its closing quote, without its escapes, and what stands behind it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            c => value.push(c),
        }
    }
    None
}

/// A family without samples has nothing to say; one of another kind than we write is not known.
fn metric(family: &Family<'_>, starts: &mut Starts, now: u64) -> Option<Metric> {
    let first = family.samples.first()?;
    let (name, data) = match family.kind {
        "counter" => (first.name, Data::Sum(sum(family, true, starts, now))),
        "info" => (first.name, Data::Sum(sum(family, false, starts, now))),
        "gauge" => (first.name, Data::Gauge(Gauge { data_points: numbers(family, |_| 0, now) })),
        "histogram" => (family.name, Data::Histogram(histogram(family, starts, now))),
        _ => return None,
    };
    Some(Metric { name: name.to_owned(), description: family.help.to_owned(), data: Some(data), ..Default::default() })
}

fn sum(family: &Family<'_>, is_monotonic: bool, starts: &mut Starts, now: u64) -> Sum {
    let start = |sample: &Sample<'_>| starts.of(series(sample.name, &sample.labels), sample.value.parse().unwrap_or_default());
    Sum { data_points: numbers(family, start, now), aggregation_temporality: CUMULATIVE, is_monotonic }
}

/// What tells a series from others.
fn series(name: &str, labels: &Labels<'_>) -> String {
    format!("{name}{labels:?}")
}

fn numbers(family: &Family<'_>, mut start: impl FnMut(&Sample<'_>) -> u64, now: u64) -> Vec<NumberDataPoint> {
    let point = |sample: &Sample<'_>| {
        // Whole numbers stay exact.
        let whole = sample.value.parse().map(Number::AsInt);
        let value = whole.or_else(|_| sample.value.parse().map(Number::AsDouble)).ok()?;
        let (start_time_unix_nano, attributes) = (start(sample), attributes(&sample.labels));
        Some(NumberDataPoint { attributes, start_time_unix_nano, time_unix_nano: now, value: Some(value), ..Default::default() })
    };
    family.samples.iter().filter_map(point).collect()
}

fn attributes(labels: &Labels<'_>) -> Vec<KeyValue> {
    labels.iter().map(|(name, value)| attribute(name, value)).collect()
}

fn attribute(name: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Any::StringValue(value.to_owned())) });
    KeyValue { key: name.to_owned(), value, ..Default::default() }
}

fn histogram(family: &Family<'_>, starts: &mut Starts, now: u64) -> Histogram {
    let mut points: BTreeMap<Labels<'_>, HistogramDataPoint> = BTreeMap::new();
    for sample in &family.samples {
        let (bounds, labels): (Labels<'_>, Labels<'_>) = sample.labels.iter().cloned().partition(|(name, _)| *name == "le");
        let point = points.entry(labels).or_default();
        match (sample.name.strip_prefix(family.name), bounds.first()) {
            (Some("_sum"), _) => point.sum = sample.value.parse().ok(),
            (Some("_count"), _) => point.count = sample.value.parse().unwrap_or_default(),
            (Some("_bucket"), Some((_, bound))) => add_bucket(point, bound, sample.value),
            _ => {}
        }
    }
    let finished = |(labels, point): (Labels<'_>, HistogramDataPoint)| HistogramDataPoint {
        attributes: attributes(&labels),
        start_time_unix_nano: starts.of(series(family.name, &labels), point.count as f64),
        time_unix_nano: now,
        ..point
    };
    Histogram { data_points: points.into_iter().map(finished).collect(), aggregation_temporality: CUMULATIVE }
}

/// The page counts what is not above a bound; OTLP counts what lies between two. The last bucket has no bound there.
fn add_bucket(point: &mut HistogramDataPoint, bound: &str, up_to: &str) {
    let below: u64 = point.bucket_counts.iter().sum();
    point.bucket_counts.push(up_to.parse::<u64>().unwrap_or_default().saturating_sub(below));
    point.explicit_bounds.extend(bound.parse::<f64>().ok().filter(|bound| bound.is_finite()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP a_build The build.\n# TYPE a_build info\na_build_info{v=\"1\"} 1\n\
        # HELP a_lag_seconds Lag.\n# TYPE a_lag_seconds gauge\na_lag_seconds{rule=\"a \\\"b\\\",} \\\\\"} 2.5\n\
        # HELP a_read Records.\n# TYPE a_read counter\na_read_total{op=\"x\",code=\"200\"} 9007199254740993\n\
        # HELP a_took Time.\n# TYPE a_took histogram\n\
        a_took_sum{op=\"p\"} 7.5\na_took_count{op=\"p\"} 6\n\
        a_took_bucket{le=\"0.1\",op=\"p\"} 1\na_took_bucket{le=\"1.0\",op=\"p\"} 4\na_took_bucket{le=\"+Inf\",op=\"p\"} 6\n\
        # HELP a_none None.\n# TYPE a_none counter\n# EOF\n";

    fn metrics(page: &str, starts: &mut Starts, now: u64) -> Vec<Metric> {
        let resource = BTreeMap::from([("service.name".to_owned(), "s".to_owned())]);
        let mut request = request(page, &resource, starts, now);
        let mut of_resource = request.resource_metrics.pop().expect("one resource");
        assert_eq!(of_resource.resource.expect("it is named").attributes, [attribute("service.name", "s")]);
        of_resource.scope_metrics.pop().expect("one scope").metrics
    }

    #[test]
    fn names_labels_and_values_are_those_of_the_page() {
        let found = metrics(PAGE, &mut Starts::since(5), 9);
        let names: Vec<&str> = found.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(names, ["a_build_info", "a_lag_seconds", "a_read_total", "a_took"], "what has no sample is left out");
        assert_eq!(found[2].description, "Records.");
        let [Some(Data::Sum(info)), Some(Data::Gauge(gauge)), Some(Data::Sum(sum)), Some(Data::Histogram(histogram))] =
            [&found[0].data, &found[1].data, &found[2].data, &found[3].data]
        else {
            panic!("of other kinds: {found:?}")
        };
        assert!(!info.is_monotonic && sum.is_monotonic && sum.aggregation_temporality == 2);
        assert_eq!(gauge.data_points[0].value, Some(Number::AsDouble(2.5)));
        assert_eq!(gauge.data_points[0].attributes, [attribute("rule", "a \"b\",} \\")]);
        let point = &sum.data_points[0];
        assert_eq!(point.value, Some(Number::AsInt(9_007_199_254_740_993)), "exact beyond what a double holds");
        assert_eq!(point.attributes, [attribute("op", "x"), attribute("code", "200")]);
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (5, 9));
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.sum, &point.attributes[..]), (6, Some(7.5), &[attribute("op", "p")][..]));
        assert_eq!((&point.bucket_counts[..], &point.explicit_bounds[..]), (&[1, 3, 2][..], &[0.1, 1.0][..]));
    }

    #[test]
    fn a_counter_that_begins_anew_says_since_when() {
        let page = |value: u64| format!("# HELP a A.\n# TYPE a counter\na_total {value}\n# EOF\n");
        let mut starts = Starts::since(1);
        let mut start = |page: &str, now: u64| {
            let found = metrics(page, &mut starts, now);
            let Some(Data::Sum(sum)) = found.first().and_then(|metric| metric.data.clone()) else { return None };
            Some(sum.data_points[0].start_time_unix_nano)
        };
        assert_eq!(start(&page(5), 10), Some(1), "since the process began");
        assert_eq!(start(&page(7), 20), Some(1));
        assert_eq!(start(&page(3), 30), Some(20), "it has fallen");
        assert_eq!(start(&page(3), 40), Some(20));
        assert_eq!(start("# EOF\n", 50), None);
        assert_eq!(start(&page(9), 60), Some(50), "it was not there");
    }

    #[test]
    fn what_is_no_sample_is_left_out() {
        for line in ["", "a", "a{", "a{b", "a{b=\"c", "a{b=\"c\\", "a{b=\"c\"", "a{b=\"c\"}", "a "] {
            assert_eq!(sample(line), None, "{line:?}");
        }
        assert_eq!(sample("a{} 1"), Some(Sample { name: "a", labels: Vec::new(), value: "1" }));
        assert!(metrics("# HELP a A.\n# TYPE a summary\na 1\n", &mut Starts::since(1), 2).is_empty());
    }

    #[test]
    fn every_family_of_a_pipeline_is_translated() {
        let requests = std::sync::Arc::new(crate::metrics::RequestMetrics::default());
        let metrics_of = crate::metrics::Metrics::new("parquet", &crate::budget::MemoryBudget::new(100), requests);
        metrics_of.recovered();
        let page = metrics_of.render(0);
        let shown = families(&page).into_iter().filter(|family| !family.samples.is_empty()).count();
        assert_eq!(metrics(&page, &mut Starts::since(1), 2).len(), shown, "{page}");
    }
}
