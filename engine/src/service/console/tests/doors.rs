//! Further tokens at both doors, the API's and the console's, and what is said where TLS is spoken.

use futures_util::StreamExt as _;
use serde_json::Value;

use super::*;

impl Bench {
    async fn api(&self, token: &str, line: &str, body: &str) -> Answer {
        let (method, path) = line.split_once(' ').unwrap();
        self.ask(method, &format!("/api/v1{path}"), &[("authorization", &format!("Bearer {token}")), ("cookie", "")], body).await
    }

    /// A further token.
    async fn further(&self, name: &str) -> String {
        let made = self.api(&self.token, "POST /tokens", &format!("{{\"name\":\"{name}\"}}")).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        serde_json::from_str::<Value>(&made.body).unwrap()["token"].as_str().unwrap().to_owned()
    }

    /// The cookie of a login.
    async fn enter(&self, token: &str) -> String {
        let entered = self.ask("POST", "/console/login", &[("cookie", "")], &format!("token={token}")).await;
        assert_eq!(entered.status, StatusCode::SEE_OTHER, "{}", entered.body);
        entered.header(header::SET_COOKIE).split(';').next().unwrap().to_owned()
    }

    /// Who did the last thing to the rule.
    fn last(&self) -> String {
        self.service.state.audited(Some("orders"), i64::MAX, 1).unwrap().remove(0).who
    }
}

#[tokio::test]
async fn what_the_config_file_has_below_the_state_is_read_at_both_doors_and_nothing_beside_it() {
    let bench = Bench::new().await;
    let objects = bench.service.copies.join("objects");
    std::fs::create_dir_all(objects.join("r/t")).unwrap();
    std::fs::write(objects.join("r/t/seen"), "x").unwrap();
    std::os::unix::fs::symlink(&bench.service.copies, objects.join("r/up")).unwrap();
    let base = CONFIG.replace("s3://lake/kafka/?region=r", &format!("file://{}/", objects.display()));
    bench.service.supervisor.set_base(Config::parse(&base, "base").unwrap());
    let body = json!({ "source": { "topics": ["orders"] }, "to": { "store": "s", "prefix": "r/" } }).to_string();
    bench.service.supervisor.create("orders", &body, &Holder::File.by_console()).await.unwrap();
    let further = bench.further("ci").await;
    for (at, (status, said)) in [
        ("files?directory=t%2F", (StatusCode::OK, "seen")),
        ("files?directory=up%2F", (StatusCode::FORBIDDEN, "C0657")),
        ("file?key=up%2Ftoken", (StatusCode::FORBIDDEN, "C0657")),
        // It is looked into, and is no object of a backup.
        ("file?key=t%2Fseen", (StatusCode::UNPROCESSABLE_ENTITY, "C0502")),
    ] {
        let page = bench.get(&format!("/console/rules/orders/{at}"), "en").await;
        let call = bench.api(&further, &format!("GET /rules/orders/{at}"), "").await;
        for answer in [page, call] {
            assert!((answer.status, answer.body.contains(said)) == (status, true), "{at}: {} {}", answer.status, answer.body);
        }
    }
}

#[tokio::test]
async fn a_further_token_opens_both_doors_under_its_name_until_it_is_removed() {
    let bench = Bench::new().await;
    bench.with_a_rule().await;
    let text = bench.further("ci").await;
    assert_eq!(bench.api(&text, "POST /rules/orders/pause", "").await.status, StatusCode::ACCEPTED);
    assert_eq!(bench.last(), "api:ci");
    let cookie = bench.enter(&text).await;
    let page = bench.ask("GET", "/console", &[("cookie", &cookie)], "").await;
    assert_eq!(page.status, StatusCode::OK);
    let form = format!("csrf={}", csrf_of(&page));
    let resumed = bench.ask("POST", "/console/rules/orders/resume", &[("cookie", &cookie), ("sec-fetch-site", "same-origin")], &form).await;
    assert_eq!((resumed.status, bench.last().as_str()), (StatusCode::SEE_OTHER, "console:ci"), "{}", resumed.body);

    let listed = bench.api(&text, "GET /tokens", "").await;
    assert_eq!(listed.status, StatusCode::OK);
    for line in ["POST /tokens", "DELETE /tokens/ci"] {
        let refused = bench.api(&text, line, "{\"name\":\"other\"}").await;
        assert_eq!((refused.status, refused.body.contains("C0656")), (StatusCode::FORBIDDEN, true), "{line}: {}", refused.body);
    }
    assert_eq!(bench.api(&bench.token, "POST /tokens", "{\"name\":\"ci\"}").await.status, StatusCode::CONFLICT);
    let audit = bench.api(&bench.token, "GET /audit", "").await;
    assert!(audit.body.contains("make token"), "{}", audit.body);
    for shown in [&listed.body, &audit.body, &page.body, &resumed.body, &format!("{:?}", bench.service)] {
        assert!(!shown.contains(&text) && !shown.contains("argon2id") && !shown.contains(&bench.token), "{shown}");
    }

    assert_eq!(bench.api(&bench.token, "DELETE /tokens/ci", "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(bench.api(&text, "GET /rules", "").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.ask("GET", "/console", &[("cookie", &cookie)], "").await.status, StatusCode::SEE_OTHER, "its session has ended");
    assert_eq!(bench.get("/console", "en").await.status, StatusCode::OK, "the other one has not");
    assert_eq!(bench.api(&bench.token, "DELETE /tokens/ci", "").await.status, StatusCode::NOT_FOUND);
}

/// The secret of a session's forms, from one of its pages.
fn csrf_of(page: &Answer) -> String {
    page.body.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_is_made_on_a_page_that_says_it_once_and_removed_by_whoever_may() {
    let bench = Bench::new().await;
    let made = bench.post("/console/tokens", "name=ci").await;
    let text = made.body.split("id=\"made\" class=\"once\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(text.starts_with("ct_ci_") && made.header(header::CACHE_CONTROL) == "no-store", "{}", made.headers.len());
    assert_eq!(bench.api(&text, "GET /rules", "").await.status, StatusCode::OK);
    let entry = bench.service.state.audited(None, i64::MAX, 1).unwrap().remove(0);
    assert_eq!((entry.who.as_str(), entry.action.as_str(), entry.detail.as_deref()), ("console", "make token", Some("ci")));
    let again = bench.post("/console/tokens", "name=ci").await.body;
    let (listed, audit) = (bench.get("/console/tokens", "en").await.body, bench.get("/console/health", "en").await.body);
    assert!(again.contains("C0654") && listed.contains("<code>ci</code>") && audit.contains("made a token"), "{again} {listed}");
    assert!([&again, &listed, &audit].iter().all(|page| !page.contains(&text)), "nobody is told again");

    let cookie = bench.enter(&text).await;
    let own = bench.ask("GET", "/console/tokens", &[("cookie", &cookie)], "").await;
    assert!(own.body.contains("<code>ci</code>") && !own.body.contains("action=\"/console/tokens"), "{}", own.body);
    for path in ["/console/tokens", "/console/tokens/ci/delete"] {
        let form = format!("csrf={}&name=other", csrf_of(&own));
        let refused = bench.ask("POST", path, &[("cookie", &cookie)], &form).await;
        assert_eq!((refused.status, refused.body.contains("C0656")), (StatusCode::FORBIDDEN, true), "{path}: {}", refused.body);
        let foreign = bench.ask("POST", path, &[], "name=other").await;
        assert_eq!((foreign.status, foreign.body.contains("C0642")), (StatusCode::FORBIDDEN, true), "{path}: {}", foreign.body);
    }
    assert_eq!(bench.service.state.tokens().unwrap().len(), 1);

    let removed = bench.post("/console/tokens/ci/delete", "").await;
    assert_eq!(removed.header(header::LOCATION), "/console/tokens?done=removed", "{}", removed.body);
    assert_eq!(bench.api(&text, "GET /rules", "").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.ask("GET", "/console", &[("cookie", &cookie)], "").await.status, StatusCode::SEE_OTHER, "its session has ended");
}

/// A login that was on its way while its token was removed.
#[tokio::test]
async fn a_session_of_a_token_that_is_gone_is_none() {
    let bench = Bench::new().await;
    let late = bench.service.sessions.begin(Holder::Named("gone".into(), 7), false).unwrap();
    let cookie = format!("catchment_session={}", late.id);
    assert_eq!(bench.ask("GET", "/console", &[("cookie", &cookie)], "").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test(start_paused = true)]
async fn wrong_further_tokens_are_counted_and_a_known_one_is_always_heard() {
    let bench = Bench::new().await;
    let text = bench.further("ci").await;
    let wrong = format!("ct_ci_{}", "0".repeat(64));
    let mut last = StatusCode::OK;
    for _ in 0..310 {
        last = bench.api(&wrong, "GET /rules", "").await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(bench.api(&text, "GET /rules", "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_log_that_is_followed_ends_with_the_token() {
    let bench = Bench::new().await;
    bench.with_a_rule().await;
    let (kept, removed) = (bench.further("kept").await, bench.further("removed").await);
    let follow = async |token: &str| {
        let request = Request::builder().uri("/api/v1/rules/orders/log/follow").header("host", HOST);
        let request = request.header("authorization", format!("Bearer {token}")).body(Body::empty()).unwrap();
        let response = api::router(bench.service.clone()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().into_data_stream()
    };
    let (mut goes_on, mut ends) = (follow(&kept).await, follow(&removed).await);
    assert_eq!(bench.api(&bench.token, "DELETE /tokens/removed", "").await.status, StatusCode::NO_CONTENT);
    let line =
        LogLine { id: 0, at_ms: 1, level: "info".into(), topic: None, partition: None, code: None, text: "later".into(), worker: None };
    bench.service.state.write(&[Entry::Line("orders".into(), line)]).unwrap();
    assert!(ends.next().await.is_none(), "whose token is gone reads no more");
    let chunk = goes_on.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&chunk).contains("later"));
}

#[tokio::test]
async fn where_tls_is_spoken_browsers_are_told_to_stay_with_it() {
    let mut bench = Bench::new().await;
    let plain = bench.get("/console", "en").await;
    assert_eq!(plain.header(header::STRICT_TRANSPORT_SECURITY), "");
    bench.service.tls = true;
    for path in ["/console", "/console/login", "/api/v1/rules", "/livez", "/nothing"] {
        assert_eq!(bench.get(path, "en").await.header(header::STRICT_TRANSPORT_SECURITY), "max-age=31536000", "{path}");
    }
    let form = format!("token={}", bench.token);
    let cookies = [
        bench.ask("POST", "/console/login", &[("cookie", "")], &form).await,
        bench.get("/console/language?to=zh&back=/console", "en").await,
    ];
    for answer in cookies {
        assert!(answer.header(header::SET_COOKIE).contains("; Secure"), "{}", answer.header(header::SET_COOKIE));
    }
}
