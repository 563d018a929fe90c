//! The pages as a browser asks for them, without a socket: who may see what, what is refused, what is said in which language.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use serde_json::json;
use tower::ServiceExt as _;

use crate::config::Config;
use crate::https::escaped;
use crate::service::api::{self, Service};
use crate::service::load_tests::LoadTests;
use crate::service::state::{Entry, LogLine, State};
use crate::service::supervisor::Supervisor;
use crate::service::tokens::{Holder, Tokens};
use crate::service::verification::Verifications;
use crate::service::web::Hosts;

mod changes;
mod doors;
mod elsewhere;
mod load_tests;
mod scene;
mod words;

const HOST: &str = "127.0.0.1:8520";
const CONFIG: &str = "[kafka.k]\nbrokers = [\"127.0.0.1:1\"]\n[store.s]\nurl = \"s3://lake/kafka/?region=r\"\n";

/// A service whose rules do not run, and somebody who is logged in.
struct Bench {
    service: Service,
    token: String,
    cookie: String,
    csrf: String,
    _dir: tempfile::TempDir,
}

/// An answer with its body read.
struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

async fn read(response: Response) -> Answer {
    let (parts, body) = response.into_parts();
    let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
    Answer { status: parts.status, headers: parts.headers, body }
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(State::open(&dir.path().join("state.db")).unwrap());
        let base = Config::parse(CONFIG, "base").unwrap();
        let service = Service {
            tokens: Arc::new(Tokens::of(&dir.path().join("token"), &state).unwrap()),
            verifications: Verifications::new(Arc::clone(&state)),
            inspector: Arc::default(),
            series: Arc::default(),
            attempts: Arc::default(),
            sessions: Arc::default(),
            hosts: Arc::new(Hosts::new("127.0.0.1".parse().unwrap(), &[])),
            load_tests: LoadTests::of(Some(&dir.path().join("load-tests"))),
            copies: Arc::from(dir.path()),
            tls: false,
            show_values: false,
            supervisor: Supervisor::new(Arc::clone(&state), base, "128MiB".parse().unwrap()).unwrap(),
            state,
        };
        let token = std::fs::read_to_string(dir.path().join("token")).unwrap();
        let mut bench = Self { service, token: token.trim().to_owned(), cookie: String::new(), csrf: String::new(), _dir: dir };
        let form = format!("token={}", bench.token);
        let entered = bench.ask("POST", "/console/login", &[], &form).await;
        assert_eq!(entered.status, StatusCode::SEE_OTHER, "{}", entered.body);
        bench.cookie = entered.header(header::SET_COOKIE).split(';').next().unwrap().to_owned();
        let page = bench.get("/console", "en").await.body;
        bench.csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        bench
    }

    /// A call with the cookie and the headers given, which count before the usual ones.
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        let usual = [("host", HOST), ("cookie", &self.cookie), ("content-type", "application/x-www-form-urlencoded")];
        let usual = usual.iter().filter(|(name, _)| headers.iter().all(|(given, _)| given != name));
        for (name, value) in headers.iter().chain(usual) {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        read(api::router(self.service.clone()).oneshot(request).await.unwrap()).await
    }

    async fn get(&self, path: &str, language: &str) -> Answer {
        self.ask("GET", path, &[("accept-language", language)], "").await
    }

    /// A form of this session.
    async fn post(&self, path: &str, form: &str) -> Answer {
        self.ask("POST", path, &[("sec-fetch-site", "same-origin")], &format!("csrf={}&{form}", self.csrf)).await
    }
}

#[tokio::test]
async fn nobody_sees_a_page_or_changes_anything_without_a_session() {
    let bench = Bench::new().await;
    bench.with_a_rule().await;
    for path in [
        "/console",
        "/console/add",
        "/console/rules/orders",
        "/console/rules/orders/series",
        "/console/rules/orders/log/follow",
        "/console/nothing",
    ] {
        let answer = bench.ask("GET", path, &[("cookie", "catchment_session=guess")], "").await;
        assert_eq!(
            (answer.status, answer.header(header::LOCATION).starts_with("/console/login?next=")),
            (StatusCode::SEE_OTHER, true),
            "{path}"
        );
    }
    for action in ["pause", "resume", "seal", "verify", "rollback", "delete", "clone", "edit"] {
        let path = format!("/console/rules/orders/{action}");
        let answer = bench.ask("POST", &path, &[("cookie", "")], &format!("csrf={}", bench.csrf)).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{action}");
        assert_eq!(answer.header(header::LOCATION), "/console/login?next=%2Fconsole");
        let answer = bench.ask("POST", &path, &[], "confirm=orders").await;
        assert_eq!((answer.status, answer.body.contains("C0642")), (StatusCode::FORBIDDEN, true), "{action} without the session's secret");
    }
    let foreign = [("sec-fetch-site", "cross-site"), ("origin", "http://evil.example")];
    for header in foreign {
        let answer = bench.ask("POST", "/console/rules/orders/pause", &[header], &format!("csrf={}", bench.csrf)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{header:?}");
    }
    let untouched = bench.service.state.rule("orders").unwrap();
    assert_eq!((untouched.version, untouched.wanted.as_str()), (2, "running"));
    assert_eq!(bench.post("/console/rules/orders/pause", "").await.status, StatusCode::SEE_OTHER);
    assert_eq!(bench.service.state.rule("orders").unwrap().wanted.as_str(), "paused");
    let by = bench.service.state.audited(Some("orders"), i64::MAX, 1).unwrap().remove(0);
    assert_eq!((by.who.as_str(), by.action.as_str()), ("console", "pause"));
}

#[tokio::test]
async fn whatever_is_refused_is_a_page_in_the_language_of_the_reader() {
    let bench = Bench::new().await;
    bench.with_a_rule().await;
    let (of_method, of_form, of_nothing) =
        ((StatusCode::METHOD_NOT_ALLOWED, "C0617"), (StatusCode::BAD_REQUEST, "C0619"), (StatusCode::NOT_FOUND, "C0602"));
    for (method, path, (status, code)) in [
        ("GET", "/console/rules/orders/pause", of_method),
        ("GET", "/console/rules/orders/rollback", of_method),
        ("GET", "/console/sources/k/test", of_method),
        ("GET", "/console/health/copy", of_method),
        ("GET", "/console/logout", of_method),
        ("GET", "/console/tokens/ci/delete", of_method),
        ("POST", "/console/workers", of_method),
        ("POST", "/console/load-tests", of_method),
        ("GET", "/console/load-tests/compare?run=a", of_form),
        ("GET", "/console/load-tests", (StatusCode::NOT_FOUND, "C0670")),
        ("POST", "/console/rules/orders/versions", of_method),
        ("POST", "/console/nothing", of_method),
        ("GET", "/console/health?before=x", of_form),
        ("GET", "/console/rules/orders?before=x", of_form),
        ("GET", "/console/rules/orders/log?before=x", of_form),
        ("GET", "/console/rules/orders/log/follow?after=x", of_form),
        ("GET", "/console/rules/orders/file", of_form),
        ("GET", "/console/rules/%ff", of_form),
        ("GET", "/console/language", of_form),
        ("GET", "/console/rules/none/log/follow", of_nothing),
        ("GET", "/console/rules/none/series", of_nothing),
        ("POST", "/console/rules/none/pause", of_nothing),
        ("GET", "/console/workers/none", (StatusCode::NOT_FOUND, "C0660")),
        ("POST", "/console/tokens/none/delete", (StatusCode::NOT_FOUND, "C0655")),
    ] {
        let form = format!("csrf={}", bench.csrf);
        let answer = bench.ask(method, path, &[("accept-language", "zh-CN")], if method == "POST" { &form } else { "" }).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert!(answer.header(header::CONTENT_TYPE).starts_with("text/html"), "{method} {path}: {}", answer.header(header::CONTENT_TYPE));
        assert!(answer.body.contains("<html lang=\"zh\">") && answer.body.contains(code), "{method} {path}: {}", answer.body);
    }
    let right = format!("Bearer {}", bench.token);
    let call = bench.ask("GET", "/api/v1/rules/none", &[("authorization", &right)], "").await;
    assert_eq!(call.header(header::CONTENT_TYPE), "application/problem+json", "the API's callers are programs");
    let stranger = bench.ask("GET", "/console/rules/orders/pause", &[("cookie", "")], "").await;
    assert_eq!(stranger.status, StatusCode::SEE_OTHER, "whoever is not logged in learns nothing");
}

#[tokio::test]
async fn a_session_is_a_cookie_for_no_script_and_no_other_site_and_ends_with_a_word() {
    let bench = Bench::new().await;
    let form = format!("token={}&next={}", bench.token, escaped("/console/rules/orders"));
    let entered = bench.ask("POST", "/console/login", &[("origin", "http://127.0.0.1:8520"), ("cookie", "")], &form).await;
    let cookie = entered.header(header::SET_COOKIE);
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict") && !cookie.contains("Secure"), "{cookie}");
    assert_eq!(entered.header(header::LOCATION), "/console/rules/orders");
    let tls = [("host", "127.0.0.1"), ("origin", "https://127.0.0.1"), ("cookie", "")];
    assert!(bench.ask("POST", "/console/login", &tls, &form).await.header(header::SET_COOKIE).contains("; Secure"));
    let foreign = bench.ask("POST", "/console/login", &[("sec-fetch-site", "cross-site"), ("cookie", "")], &form).await;
    assert_eq!((foreign.status, foreign.header(header::SET_COOKIE)), (StatusCode::FORBIDDEN, ""));
    let wrong = bench.ask("POST", "/console/login", &[("cookie", "")], "token=wrong").await;
    assert_eq!((wrong.status, wrong.header(header::SET_COOKIE)), (StatusCode::FORBIDDEN, ""));
    assert!(wrong.body.contains("aria-describedby=\"token-problem") && !wrong.body.contains("value=\"wrong\""));
    assert_eq!(bench.get("/console", "en").await.status, StatusCode::OK);
    bench.post("/console/logout", "").await;
    assert_eq!(bench.get("/console", "en").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test(start_paused = true)]
async fn whoever_guesses_tokens_is_not_heard_any_more() {
    let bench = Bench::new().await;
    let mut statuses = Vec::new();
    for _ in 0..320 {
        statuses.push(bench.ask("POST", "/console/login", &[("cookie", "")], "token=guess").await.status);
    }
    assert_eq!((statuses[0], statuses[319]), (StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS));
    let right = format!("Bearer {}", bench.token);
    assert_eq!(bench.ask("GET", "/api/v1/rules", &[("authorization", "Bearer x")], "").await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(bench.ask("GET", "/api/v1/rules", &[("authorization", &right)], "").await.status, StatusCode::OK, "nobody is locked out");
    assert_eq!(bench.get("/console", "en").await.status, StatusCode::OK, "nor is an open session");
}

#[tokio::test]
async fn a_host_that_this_service_is_not_is_refused_everywhere() {
    let bench = Bench::new().await;
    let right = format!("Bearer {}", bench.token);
    for path in ["/console", "/console/login", "/console/assets/x", "/api/v1/rules", "/api/v1/openapi.json", "/"] {
        for host in ["evil.example:8520", "evil.example", "127.0.0.1.evil.example"] {
            let answer = bench.ask("GET", path, &[("host", host), ("authorization", &right)], "").await;
            assert_eq!((answer.status, answer.body.contains("C0640")), (StatusCode::MISDIRECTED_REQUEST, true), "{host}{path}");
        }
    }
    assert_eq!(bench.ask("GET", "/livez", &[("host", "10.0.0.9:8520")], "").await.status, StatusCode::OK, "probes have no secrets");
    assert_eq!(bench.ask("GET", "/console", &[("host", "localhost:9")], "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_service_that_cannot_read_its_state_lives_and_is_not_ready() {
    let bench = Bench::new().await;
    let probed = async |path: &str| bench.ask("GET", path, &[("cookie", "")], "").await;
    assert_eq!((probed("/livez").await.status, probed("/readyz").await.status), (StatusCode::OK, StatusCode::OK));
    bench.service.state.rename_table("audit", "hidden");
    let (live, ready) = (probed("/livez").await, probed("/readyz").await);
    assert_eq!((live.status, ready.status), (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE), "{}", ready.body);
    assert!(ready.body.contains("C0601"), "{}", ready.body);
    bench.service.state.rename_table("hidden", "audit");
    assert_eq!(probed("/readyz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_scraper_with_the_token_hears_of_rules_and_workers() {
    let bench = Bench::new().await;
    bench.with_a_rule().await;
    assert_eq!(bench.ask("GET", "/metrics", &[("cookie", "")], "").await.status, StatusCode::UNAUTHORIZED);
    let right = format!("Bearer {}", bench.token);
    let page = bench.ask("GET", "/metrics", &[("authorization", &right), ("cookie", "")], "").await.body;
    for line in ["catchment_worker_present{worker=\"helper\"} 1", "catchment_rule_state{rule=\"orders\",state=\"failed\"} 0"] {
        assert!(page.lines().any(|found| found == line), "no {line}: {page}");
    }
}

#[tokio::test]
async fn a_live_log_ends_with_its_session() {
    let bench = Bench::new().await;
    bench.with_a_rule().await;
    let live = bench.get("/console/rules/orders/log/follow?after=0", "en");
    let leave = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        bench.post("/console/logout", "").await
    };
    let (live, left) = tokio::join!(tokio::time::timeout(std::time::Duration::from_secs(30), live), leave);
    assert_eq!(left.status, StatusCode::SEE_OTHER);
    let live = live.expect("whoever has logged out sees no more");
    assert!(live.status == StatusCode::OK && live.body.contains("C0203"), "{}", live.body);
}

#[tokio::test]
async fn many_rules_are_listed_page_by_page() {
    let bench = Bench::new().await;
    for n in 0..120 {
        bench.service.state.create(&format!("rule-{n:03}"), "{}", crate::service::state::Origin::Api, "me", 1).unwrap();
    }
    let (first, second) = (bench.get("/console", "en").await.body, bench.get("/console?q=rule&page=2", "en").await.body);
    assert!(first.contains("rule-099") && !first.contains("rule-100") && first.contains("1 to 100 of 120"), "{first}");
    assert!(second.contains("rule-119") && !second.contains("rule-099") && second.contains("101 to 120 of 120"), "{second}");
    let found = bench.get("/console?q=rule-11", "en").await.body;
    assert!(found.contains("rule-117") && !found.contains("page="), "{found}");
}
