//! The pages of load tests: what they show, what they keep to themselves, and how a report leaves the service.

use super::*;

/// The row of a load test on the list.
fn row<'a>(page: &'a str, name: &str) -> &'a str {
    let rows = page.split("<tr>").filter(|row| row.contains(&format!("<th scope=\"row\"><code>{name}</code>")));
    rows.map(|row| row.split("</tr>").next().unwrap()).next().unwrap_or_else(|| panic!("no {name} in {page}"))
}

#[tokio::test]
async fn only_what_was_verified_has_a_throughput_and_what_cannot_be_read_says_where() {
    let bench = Bench::new().await;
    bench.with_load_tests();
    let page = bench.get("/console/load-tests", "en").await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    let (verified, unverified, broken) = (row(&page.body, "2026-01-02"), row(&page.body, "2026-01-03"), row(&page.body, "2026-01-01"));
    for wanted in ["2026-01-02 03:04:05", "***@b:9092", "1,000", ">verified<", "256 KiB/s, 250 records/s", "1.50 ms", "9.00 ms", "90.0 MiB"]
    {
        assert!(verified.contains(wanted), "no {wanted} in {verified}");
    }
    assert!(unverified.contains(">not verified<") && unverified.contains("is missing") && !unverified.contains("iB/s"), "{unverified}");
    assert!(broken.contains(">unreadable<") && broken.contains("2026-01-01/report.json:2:"), "{broken}");
    assert!(!page.body.contains("hush-canary") && !page.body.contains("<b>") && !page.body.contains("<img"), "{}", page.body);
    assert_eq!(page.body.matches("<option value=\"2026-01-01\"").count(), 0, "there is nothing to compare it by");
    assert_eq!(page.body.matches("<option value=\"2026-01-02\"").count(), 2);
    assert!(page.body.contains("catchment-loadtest run ") && page.body.contains("/load-tests/NAME"), "{}", page.body);
    assert!(page.body.contains("<code>catchment rule load-tests</code>"), "{}", page.body);

    let two = bench.get("/console/load-tests/compare?run=2026-01-02&with=2026-01-03", "en").await.body;
    let values = two.split("Throughput, values").nth(1).unwrap().split("</tr>").next().unwrap();
    assert!(values.contains(">256 KiB/s<") && values.matches(">–<").count() == 2, "{values}");
    assert!(two.contains("+0.0 %") && two.contains("--compare"), "{two}");
    let unknown = bench.get("/console/load-tests/compare?run=2026-01-02&with=none", "en").await;
    assert_eq!((unknown.status, unknown.body.contains("C0671")), (StatusCode::NOT_FOUND, true));
}

#[tokio::test]
async fn a_report_is_saved_and_never_shown_under_the_consoles_address() {
    let bench = Bench::new().await;
    bench.with_load_tests();
    let right = format!("Bearer {}", bench.token);
    let by_api = bench.ask("GET", "/api/v1/load-tests/2026-01-02/report", &[("authorization", &right), ("cookie", "")], "").await;
    for answer in [bench.get("/console/load-tests/2026-01-02/report", "en").await, by_api] {
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "<script>alert(1)</script>"));
        assert_eq!(answer.header(header::CONTENT_DISPOSITION), "attachment; filename=\"2026-01-02.html\"");
        assert_eq!((answer.header(header::CONTENT_TYPE), answer.header(header::CONTENT_LENGTH)), ("application/octet-stream", "25"));
        assert_eq!(answer.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert!(answer.header(header::CONTENT_SECURITY_POLICY).contains("default-src 'none'"));
    }
    let directory = bench.service.load_tests.directory().unwrap();
    std::fs::remove_file(directory.join("2026-01-03/report.html")).unwrap();
    std::os::unix::fs::symlink(bench.service.copies.join("token"), directory.join("2026-01-03/report.html")).unwrap();
    let names = ["2026-01-03", "none", "..", "%2e%2e", "..%2f2026-01-02", "2026-01-02%2f..%2f2026-01-02", "%00"];
    for name in names {
        let refused = bench.get(&format!("/console/load-tests/{name}/report"), "en").await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "{name}: {}", refused.body);
        assert!(!refused.body.contains(&bench.token), "{name}");
    }
    let list = bench.get("/console/load-tests", "en").await.body;
    assert!(!row(&list, "2026-01-03").contains("/report\""), "what cannot be saved has no link: {list}");
    for path in ["/console/load-tests", "/console/load-tests/2026-01-02/report"] {
        assert_eq!(bench.ask("GET", path, &[("cookie", "")], "").await.status, StatusCode::SEE_OTHER, "{path}");
    }
}

#[tokio::test]
async fn a_service_without_a_directory_says_how_it_gets_one() {
    let mut bench = Bench::new().await;
    bench.service.load_tests = LoadTests::default();
    let page = bench.get("/console/load-tests", "en").await;
    assert!(page.status == StatusCode::OK && page.body.contains("<code>--load-tests DIR</code>"), "{}", page.body);
    assert!(page.body.contains("catchment-loadtest run ") && page.body.contains("--out load-tests/NAME"), "{}", page.body);
    let right = format!("Bearer {}", bench.token);
    for path in ["/api/v1/load-tests", "/api/v1/load-tests/a", "/api/v1/load-tests/a/report"] {
        let answer = bench.ask("GET", path, &[("authorization", &right), ("cookie", "")], "").await;
        assert_eq!((answer.status, answer.body.contains("C0670")), (StatusCode::NOT_FOUND, true), "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn the_api_says_what_the_page_shows() {
    let bench = Bench::new().await;
    bench.with_load_tests();
    let right = format!("Bearer {}", bench.token);
    let ask = async |path: &str| {
        let answer = bench.ask("GET", &format!("/api/v1{path}"), &[("authorization", &right), ("cookie", "")], "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        serde_json::from_str::<serde_json::Value>(&answer.body).unwrap()
    };
    let listed = ask("/load-tests").await;
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed}");
    let (verified, unverified) = (ask("/load-tests/2026-01-02").await, ask("/load-tests/2026-01-03").await);
    assert!(listed.as_array().unwrap().contains(&verified), "{listed}");
    assert_eq!((&verified["verified"], &verified["throughput"]["records_per_s"]), (&json!(true), &json!(250.0)));
    assert_eq!((&unverified["verified"], &unverified["throughput"]), (&json!(false), &json!(null)));
    assert_eq!(verified["brokers"], json!(["<b>a:9092", "***@b:9092"]));
}
