use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceRequest};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;

use super::*;
use crate::https::Tls;

/// A collector in this process: what it was sent, and what it answers.
#[derive(Debug, Default)]
struct Collector {
    requests: Mutex<Vec<ExportMetricsServiceRequest>>,
    keys: Mutex<Vec<String>>,
    is_away: bool,
}

async fn take(State(collector): State<Arc<Collector>>, headers: HeaderMap, body: Bytes) -> (StatusCode, Vec<u8>) {
    if collector.is_away {
        std::future::pending::<()>().await;
    }
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(text("content-type"), "application/x-protobuf");
    collector.keys.lock().unwrap().push(text("api-key"));
    collector.requests.lock().unwrap().push(ExportMetricsServiceRequest::decode(body).expect("a request"));
    (StatusCode::OK, Vec::new())
}

impl Collector {
    /// Serves it; answers where it is.
    async fn serve(self) -> (Arc<Self>, Settings) {
        let collector = Arc::new(self);
        let app = Router::new().route("/v1/metrics", post(take)).with_state(Arc::clone(&collector));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        (collector, settings(&format!("http://{address}/v1/metrics")))
    }

    /// The values of the only metric of each request.
    fn values(&self) -> Vec<i64> {
        let value = |request: &ExportMetricsServiceRequest| match &request.resource_metrics[0].scope_metrics[0].metrics[0].data {
            Some(Data::Sum(sum)) => match sum.data_points[0].value {
                Some(Number::AsInt(value)) => value,
                ref other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        self.requests.lock().unwrap().iter().map(value).collect()
    }
}

fn settings(endpoint: &str) -> Settings {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/x-protobuf".parse().unwrap());
    headers.insert("api-key", "k".parse().unwrap());
    Settings {
        endpoint: endpoint.parse().unwrap(),
        headers,
        tls: Tls::default(),
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(10),
        resource: BTreeMap::new(),
    }
}

fn page(value: u64) -> String {
    format!("# HELP a A.\n# TYPE a counter\na_total {value}\n# EOF\n")
}

#[tokio::test]
async fn values_are_pushed_again_and_again_and_the_last_ones_at_the_end() {
    let (collector, settings) = Collector::default().serve().await;
    let counted = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&counted);
    // Nothing is there to be shown at first.
    let pusher = Pusher::start(settings, move |_| Some(shown.load(Ordering::Relaxed)).filter(|value| *value > 0).map(page));
    counted.store(1, Ordering::Relaxed);
    let began = crate::clock::now();
    while collector.values().len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", collector.values());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    counted.store(7, Ordering::Relaxed);
    pusher.finish().await;
    let values = collector.values();
    assert_eq!((values.first(), values.last()), (Some(&1), Some(&7)), "{values:?}");
    assert!(collector.keys.lock().unwrap().iter().all(|key| key == "k"));
}

#[tokio::test]
async fn the_end_does_not_wait_for_the_next_push() {
    let (collector, settings) = Collector::default().serve().await;
    let pusher = Pusher::start(Settings { interval: Duration::from_secs(3_600), ..settings }, |_| Some(page(3)));
    pusher.finish().await;
    assert_eq!(collector.values(), [3]);
}

#[tokio::test]
async fn a_collector_that_does_not_answer_holds_the_end_up_for_as_long_as_is_allowed() {
    let (_collector, settings) = Collector { is_away: true, ..Collector::default() }.serve().await;
    let pusher = Pusher::start(settings, |_| Some(page(1)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = crate::clock::now();
    pusher.finish().await;
    let took = began.elapsed();
    assert!(took >= LAST_PUSH && took < Duration::from_secs(9), "less than a push may take: {took:?}");
}

#[tokio::test]
async fn a_collector_that_is_not_there_or_refuses_is_named_without_secrets() {
    let pushing = |endpoint: &str, timeout| Pushing {
        settings: Settings { timeout, ..settings(endpoint) },
        page: Box::new(|_| None),
        clock: SystemClock::new(),
        starts: Starts::since(0),
        trouble: Trouble::default(),
    };
    let long = Duration::from_secs(10);
    let refused = pushing("http://127.0.0.1:1/v1/metrics", long).send(Vec::new()).await.unwrap_err();
    assert!(refused.to_lowercase().contains("refused"), "{refused}");
    let (_collector, at) = Collector::default().serve().await;
    let elsewhere = at.endpoint.to_string().replace("metrics", "nothing?key=hush-canary");
    let not_found = pushing(&elsewhere, long).send(Vec::new()).await.unwrap_err();
    assert!(not_found.contains("404") && !not_found.contains("hush"), "{not_found}");
    let (_collector, at) = Collector { is_away: true, ..Collector::default() }.serve().await;
    let silent = pushing(&at.endpoint.to_string(), Duration::from_millis(50)).send(Vec::new()).await.unwrap_err();
    assert!(silent.contains("in time"), "{silent}");
}

#[test]
fn what_a_collector_refuses_is_told_and_an_answer_of_another_kind_is_none() {
    let answer = |rejected_data_points, error_message: &str| {
        let partial_success = Some(ExportMetricsPartialSuccess { rejected_data_points, error_message: error_message.to_owned() });
        Bytes::from(ExportMetricsServiceResponse { partial_success }.encode_to_vec())
    };
    assert_eq!(refused(answer(3, "too\nold")), Err("it refuses 3 values: too\\nold".to_owned()));
    for fine in [answer(0, "a hint"), Bytes::new(), Bytes::from_static(b"{}")] {
        assert_eq!(refused(fine), Ok(()));
    }
}

#[test]
fn trouble_is_told_once_and_then_rarely_and_its_end_is_told() {
    let mut trouble = Trouble::default();
    let at = Duration::from_secs;
    assert_eq!(trouble.heard(true, at(0)), None);
    assert_eq!(trouble.heard(false, at(60)), Some(1));
    assert_eq!(trouble.heard(false, at(120)), None);
    assert_eq!(trouble.heard(false, at(60 + WARN_AGAIN.as_secs())), Some(3));
    assert_eq!(trouble.heard(false, at(4_000)), None);
    assert_eq!(trouble.heard(true, at(4_060)), Some(4), "it is over");
    assert_eq!(trouble.heard(true, at(4_120)), None);
    assert_eq!(trouble.heard(false, at(4_180)), Some(1), "another one");
}
