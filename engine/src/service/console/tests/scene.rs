//! A service with something on every page, and all of those pages.

use crate::service::definition::Kind;
use crate::service::observer::RuleState;
use crate::service::state::{Entry, StoredGap, StoredVerification, StoredWindow, VerificationState};
use crate::service::workers::{Contact, RuleAtWorker};

use super::*;

impl Bench {
    /// A rule with some history, whose prefix is as bad as a text can be.
    pub(super) async fn with_a_rule(&self) {
        let reads = json!({ "kafka": "k", "topics": ["orders"] });
        let writing_to = |prefix: &str| json!({ "source": reads, "to": { "store": "s", "prefix": prefix }, "group": "g" }).to_string();
        let (supervisor, by) = (&self.service.supervisor, Holder::File.by_console());
        supervisor.create("orders", &writing_to("<script>alert(1)</script>\"'&/"), &by).await.unwrap();
        supervisor.edit("orders", None, &writing_to("<b>/"), &by).await.unwrap();
        let window = |n: i64| StoredWindow {
            id: 0,
            version: 1,
            topic: "orders".into(),
            partition: (n % 2) as i32,
            start: n * 5,
            end: n * 5 + 5,
            key: "orders/dt=1/orders+0+1.parquet".into(),
            bytes: 5_000,
            records: 5,
            reason: "clock".into(),
            late: n % 3,
            delay_ms: 5,
            at_ms: 1_700_000_000_000 + n * 60_000,
            worker: None,
        };
        let gap = StoredGap { topic: "orders".into(), partition: 0, start: 1, end: 2, cause: "retention".into(), at_ms: 1_700_000_100_000 };
        let line = |level: &str| LogLine {
            id: 0,
            at_ms: 1_700_000_000_000,
            level: level.into(),
            topic: Some("orders".into()),
            partition: Some(1),
            code: Some("C0203".into()),
            text: "<img src=x onerror=alert(1)>".into(),
            worker: None,
        };
        let mut entries: Vec<Entry> = (0..20).map(|n| Entry::Window("orders".into(), window(n))).collect();
        entries.push(Entry::Gap("orders".into(), gap));
        entries.extend(["info", "warn", "error"].map(|level| Entry::Line("orders".into(), line(level))));
        let report = json!({ "objects": 3, "records": 9, "compared": 0, "gaps": [], "damage": [{ "key": "k", "kind": "truncated", "detail": "<i>" }] });
        let verified = StoredVerification {
            state: VerificationState::Damaged,
            ended_ms: Some(2),
            report: Some(report.to_string()),
            ..StoredVerification::queued(1)
        };
        self.service.state.write(&entries).unwrap();
        self.service.state.put_verification("orders", &verified).unwrap();
        self.with_a_worker().await;
        self.with_a_connection().await;
    }

    /// Load tests: one that was verified and one that was not, with texts as bad as they can be; and one that cannot be read.
    pub(super) fn with_load_tests(&self) {
        let report = |verdict: &serde_json::Value| {
            json!({
                "version": 1,
                "began": "2026-01-02T03:04:05Z",
                "brokers": ["<b>a:9092", "me:hush-canary@b:9092"],
                "mode": "drain",
                "load": { "topic": "<i>orders", "codec": "zstd" },
                "produced": { "committed_records": 1000, "latency": { "p50_ms": 1.5, "p99_ms": 9.0, "p999_ms": 20.0, "max_ms": 30.0 } },
                "verdict": verdict,
                "cost": { "cpu_s": 1.5, "peak_rss_bytes": 94_371_840 },
                "throughput": { "seconds": 4.0, "records_per_s": 250.0, "bytes_per_s": 262_144.0, "cpu_s_per_gib": 1536.0 },
            })
        };
        let unverified = json!({ "passed": false, "faults": ["<img src=x onerror=alert(1)> is missing"] });
        for (name, text) in [
            ("2026-01-01", "{\n  \"version\": one\n}".to_owned()),
            ("2026-01-02", report(&json!({ "passed": true })).to_string()),
            ("2026-01-03", report(&unverified).to_string()),
        ] {
            let directory = self.service.load_tests.directory().unwrap().join(name);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("report.json"), text).unwrap();
            std::fs::write(directory.join("report.html"), "<script>alert(1)</script>").unwrap();
        }
    }

    /// A worker that has trouble with the rule, and says so in a text as bad as one can be.
    async fn with_a_worker(&self) {
        let rule = RuleAtWorker {
            version: 2,
            state: RuleState::Degraded,
            reason: Some("<i>no way</i>".to_owned()),
            help: Some("help it".to_owned()),
            since_ms: 1_700_000_000_000,
            lanes: (0..20).map(|partition| format!("orders/{partition}")).collect(),
            lag_records: Some(5),
            lag_seconds: Some(1.0),
            time_to_loss_seconds: Some(7_200.0),
        };
        let contact = Contact { id: "a1".to_owned(), revision: None, rules: [("orders".to_owned(), rule)].into() };
        self.service.supervisor.meet("helper", contact).await.unwrap();
    }

    /// A connection that can be edited.
    async fn with_a_connection(&self) {
        let sasl = json!({ "mechanism": "PLAIN", "username": "<b>u", "password": "hush-canary" });
        let body = json!({ "name": "orders", "brokers": ["127.0.0.1:1"], "tls": { "key_password": "hush-canary" }, "sasl": sasl });
        self.service.supervisor.create_connection(Kind::Kafka, body, "me").await.unwrap();
    }

    /// Every page that needs no cluster and no store, as it is answered.
    pub(super) async fn pages(&self, language: &str) -> Vec<(String, Answer)> {
        self.with_a_rule().await;
        self.with_load_tests();
        let plain = [
            "/console",
            "/console?done=created",
            "/console?q=none",
            "/console/add",
            "/console/sources",
            "/console/sources/orders/edit",
            "/console/sources/k/edit",
            "/console/stores?done=created",
            "/console/workers",
            "/console/workers/helper",
            "/console/workers/none",
            "/console/tokens?done=removed",
            "/console/health",
            "/console/health?rule=orders",
            "/console/load-tests",
            "/console/load-tests/compare?run=2026-01-02&with=2026-01-03",
            "/console/load-tests/compare?run=2026-01-02&with=2026-01-01",
            "/console/load-tests/none/report",
            "/console/rules/orders?done=paused",
            "/console/rules/orders/log",
            "/console/rules/orders/log?level=warn&text=img",
            "/console/rules/orders/versions",
            "/console/rules/orders/explain",
            "/console/rules/orders/edit",
            "/console/rules/orders/clone",
            "/console/rules/orders/delete",
            "/console/errors",
            "/console/rules/none",
            "/console/nothing",
        ];
        let plain = plain.map(async |path| (path.to_owned(), self.get(path, language).await));
        let draft = "name=clicks&store=s&every=5m&kind=parquet&codec=zstd&source=k&topics=clicks&start=earliest&layout=hive&prefix=x";
        let forms = [
            ("/console/add", "step=1&go=next&name=Bad&every=3d".to_owned()),
            ("/console/add", format!("step=1&go=next&{draft}")),
            ("/console/add", format!("step=2&go=next&{draft}")),
            ("/console/add", format!("step=2&go=test&{draft}")),
            ("/console/add", format!("step=2&go=next&on_retention=halt&on_truncation=x&{draft}")),
            ("/console/add", format!("step=3&go=next&topic_id=x%2Fy&{}", draft.replace("hive", "tencent"))),
            ("/console/add", format!("step=3&go=next&{draft}")),
            ("/console/rules/orders/edit", format!("version=2&go=review&{}", draft.replace("clicks", "orders"))),
            ("/console/rules/orders/edit", "version=2&go=review-toml&toml=nonsense".to_owned()),
            ("/console/rules/orders/delete", "confirm=other".to_owned()),
            ("/console/rules/orders/clone", "new=Other".to_owned()),
            ("/console/sources", "name=&brokers=&password=hush-canary".to_owned()),
            ("/console/sources/k/test", String::new()),
            ("/console/sources/orders/edit", "version=7&go=save&brokers=127.0.0.1%3A2".to_owned()),
            ("/console/sources/orders/edit", "version=1&go=test&brokers=127.0.0.1%3A1&forget=password".to_owned()),
            ("/console/stores", "name=t&url=nonsense&secret_access_key=hush-canary&session_token=hush-canary".to_owned()),
            ("/console/tokens", "name=orders".to_owned()),
            ("/console/tokens", "name=Bad".to_owned()),
        ];
        let forms = forms.map(async |(path, form)| {
            let form = format!("csrf={}&{form}", self.csrf);
            (format!("{path} {form}"), self.ask("POST", path, &[("accept-language", language)], &form).await)
        });
        // All at once: those that ask the cluster wait until it is clear that nobody answers there.
        let (plain, forms) = (futures_util::future::join_all(plain), futures_util::future::join_all(forms));
        let (mut pages, forms) = tokio::join!(plain, forms);
        pages.extend(forms);
        pages.push((
            "/console/login".to_owned(),
            self.ask("GET", "/console/login", &[("cookie", ""), ("accept-language", language)], "").await,
        ));
        let wrong = self.ask("POST", "/console/login", &[("cookie", ""), ("accept-language", language)], "token=x").await;
        pages.push(("/console/login with a wrong token".to_owned(), wrong));
        pages
    }
}
