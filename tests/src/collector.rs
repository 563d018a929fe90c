//! A collector of OpenTelemetry in this process: takes what is pushed by OTLP over HTTP, and keeps it as the samples of a page of `/metrics`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint};
use prost::Message as _;
use tokio::runtime::Runtime;

/// What was pushed at once.
#[derive(Clone, Debug)]
pub struct Push {
    /// Headers of the request.
    pub headers: BTreeMap<String, String>,
    /// Who pushed.
    pub resource: BTreeMap<String, String>,
    /// Values by name and labels, as a page has them; of histograms counts and sums.
    pub samples: BTreeMap<String, f64>,
}

impl Push {
    fn of(headers: &HeaderMap, body: Bytes) -> Self {
        let request = ExportMetricsServiceRequest::decode(body).expect("a request of OTLP");
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_str().expect("a text").to_owned())).collect();
        let [of_resource] = &request.resource_metrics[..] else { panic!("not one resource: {request:?}") };
        let resource = texts(&of_resource.resource.as_ref().expect("it is named").attributes).collect();
        let metrics = of_resource.scope_metrics.iter().flat_map(|scope| &scope.metrics);
        Self { headers, resource, samples: metrics.flat_map(samples).collect() }
    }
}

fn texts(attributes: &[KeyValue]) -> impl Iterator<Item = (String, String)> {
    attributes.iter().map(|KeyValue { key, value, .. }| match value.as_ref().and_then(|value| value.value.clone()) {
        Some(Value::StringValue(text)) => (key.clone(), text),
        other => panic!("{key} is no text: {other:?}"),
    })
}

fn series(name: &str, labels: &[KeyValue]) -> String {
    let labels = texts(labels).fold(String::new(), |mut all, (label, value)| {
        let comma = if all.is_empty() { "" } else { "," };
        let _ = write!(all, "{comma}{label}=\"{value}\"");
        all
    });
    if labels.is_empty() { name.to_owned() } else { format!("{name}{{{labels}}}") }
}

fn samples(metric: &Metric) -> Vec<(String, f64)> {
    let name = &metric.name;
    let number = |point: &NumberDataPoint| {
        assert!(point.time_unix_nano > 0, "it has a time");
        let value = match point.value {
            Some(Number::AsInt(value)) => value as f64,
            Some(Number::AsDouble(value)) => value,
            None => panic!("{name} has no value"),
        };
        (series(name, &point.attributes), value)
    };
    match metric.data.as_ref().expect("it has data") {
        Data::Gauge(gauge) => gauge.data_points.iter().map(number).collect(),
        Data::Sum(sum) => {
            assert_eq!(sum.aggregation_temporality, 2, "{name}: totals");
            assert_eq!(sum.is_monotonic, name.ends_with("_total"), "{name}");
            assert!(sum.data_points.iter().all(|point| (1..=point.time_unix_nano).contains(&point.start_time_unix_nano)), "{name}");
            sum.data_points.iter().map(number).collect()
        }
        Data::Histogram(histogram) => histogram
            .data_points
            .iter()
            .flat_map(|point| {
                assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1, "{name}");
                assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count, "{name}");
                let named = |ending: &str| series(&format!("{name}{ending}"), &point.attributes);
                [(named("_count"), point.count as f64), (named("_sum"), point.sum.expect("a sum"))]
            })
            .collect(),
        other => panic!("{name}: {other:?}"),
    }
}

/// The samples of a page of `/metrics`, as [`Push`] has them.
pub fn samples_of(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{"));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        Some((series.to_owned(), value.parse().ok()?))
    };
    lines.map(|line| sample(line).unwrap_or_else(|| panic!("no sample: {line}"))).collect()
}

/// The collector.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    pushes: Arc<Mutex<Vec<Push>>>,
    _runtime: Runtime,
}

async fn take(State(pushes): State<Arc<Mutex<Vec<Push>>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let push = Push::of(&headers, body);
    pushes.lock().unwrap_or_else(PoisonError::into_inner).push(push);
    StatusCode::OK
}

impl Collector {
    /// One that listens.
    pub fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime can be made");
        let pushes = Arc::<Mutex<Vec<Push>>>::default();
        let app = Router::new().route("/v1/metrics", post(take)).with_state(Arc::clone(&pushes));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { address, pushes, _runtime: runtime }
    }

    /// Variables of a process that pushes here every 100 ms, with a key that must be shown nowhere.
    pub fn environment(&self) -> Vec<(String, String)> {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", self.address)),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hush-canary".to_owned()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "100".to_owned()),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=one,deployment.environment=test".to_owned()),
        ];
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The last push.
    pub fn last(&self) -> Option<Push> {
        self.pushes.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }

    /// Waits for a push like this.
    ///
    /// # Panics
    /// If there is none for too long.
    pub fn until(&self, limit: Duration, is_wanted: impl Fn(&Push) -> bool) -> Push {
        let deadline = Instant::now() + limit;
        loop {
            match self.last() {
                Some(push) if is_wanted(&push) => return push,
                last => assert!(Instant::now() < deadline, "never pushed: {last:#?}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
