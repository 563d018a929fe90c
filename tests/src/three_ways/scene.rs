//! What stands before the actions of the [table](super::table) are executed: a service with a rule, a worker and a token that can be looked at.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::row::{Before, Row};
use super::table::{EDITED, FRESH};
use super::{ThreeWays, Way};
use crate::bed::Bed;
use crate::load_test_reports::LoadTestReports;
use crate::rules_service::{PATIENCE, RulesService};

/// Records that a fresh rule finds.
pub const RECORDS: i64 = 20;

/// What all attempts share.
#[derive(Debug)]
pub struct Scene {
    /// The service.
    pub ways: ThreeWays,
    /// The topic of all rules.
    pub topic: String,
    /// The rule that is only looked at.
    pub shared: String,
    /// The key of one of its objects.
    pub key: String,
    /// The load tests of the service, which stay for as long as it does.
    pub reports: LoadTestReports,
}

/// Asks until an answer is as wanted.
///
/// # Panics
/// If none is in time.
pub fn until<T: std::fmt::Debug>(what: &str, mut ask: impl FnMut() -> T, is_wanted: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = ask();
        if is_wanted(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: still {found:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The elements of a list; none of anything else.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The name of what an entry of the audit is about that is about no rule: it stands in the detail of a connection or a store, and is that of a token.
fn named_in(entry: &Value) -> Option<String> {
    let detail = entry["detail"].as_str()?;
    let parsed: Value = serde_json::from_str(detail).unwrap_or_default();
    Some(parsed["name"].as_str().unwrap_or(detail).to_owned())
}

/// Whether a verification neither waits nor runs.
pub fn is_over(found: &Value) -> bool {
    !matches!(found["state"].as_str(), Some("queued" | "running"))
}

impl Scene {
    /// A service, and a paused rule with everything that can be looked at: windows, a gap, versions, a verification, a log.
    ///
    /// # Panics
    /// If it does not come to stand.
    pub fn prepare(bed: &mut Bed) -> Self {
        let reports = LoadTestReports::write();
        let flags = ["--show-values", "--budget", "1GiB", "--load-tests", reports.path()];
        let ways = ThreeWays::at(RulesService::start_with(bed, &flags));
        let (topic, shared) = (bed.topic.clone(), format!("shared-{}", bed.topic));
        let mut scene = Self { ways, topic, shared, key: String::new(), reports };
        bed.fill(60);
        let text = |text: &str| text.replace("{name}", &scene.shared).replace("{topic}", &scene.topic);
        let at = |below: &str| format!("/rules/{}{below}", scene.shared);
        scene.ways.ask("POST /rules", &text(FRESH));
        scene.await_stored(&scene.shared, 60);
        scene.ways.ask(&format!("POST {}", at("/pause")), "");
        scene.await_state(&scene.shared, "paused");
        bed.fill(60);
        let end = bed.admin.log_range(&scene.topic, 0).1;
        bed.admin.delete_records(&scene.topic, 0, end - RECORDS);
        scene.ways.ask(&format!("POST {}", at("/resume")), "");
        let get = |below: &str| scene.ways.ask(&format!("GET {}", at(below)), "").json();
        until("a gap", || get("/gaps"), |gaps| !list(gaps).is_empty());
        until("the windows behind the gap", || get("/windows"), |windows| list(windows).iter().any(|window| window["end"] == end));
        scene.ways.ask(&format!("PUT {}", at("")), &text(EDITED));
        scene.ways.ask(&format!("POST {}", at("/verify")), r#"{"compare":true}"#);
        let verified = until("a verification", || get("/verify"), is_over);
        assert_eq!(verified["state"], "sound", "{verified}");
        scene.ways.ask(&format!("POST {}", at("/pause")), "");
        scene.await_state(&scene.shared, "paused");
        let key = get("/windows")[0]["key"].as_str().expect("a key").to_owned();
        scene.key = key;
        scene.ways.ask("PUT /workers/w", r#"{"id":"w1"}"#);
        scene.ways.ask("POST /tokens", r#"{"name":"t"}"#);
        scene
    }

    /// What an action is executed on: something of its own, or what stands there.
    pub fn name_for(&self, row: &Row, way: Way) -> String {
        match row.before {
            Before::Standing("") => self.shared.clone(),
            Before::Standing(name) => name.to_owned(),
            _ => format!("{}-{}-{}", row.action, way.word(), self.topic),
        }
    }

    /// A rule as the API shows it.
    pub fn rule(&self, name: &str) -> Value {
        self.ways.ask(&format!("GET /rules/{name}"), "").json()
    }

    /// Waits until a rule is in this state.
    pub fn await_state(&self, name: &str, state: &str) -> Value {
        until(&format!("{name} is {state}"), || self.rule(name), |rule| rule["state"] == state)
    }

    /// Waits until so many records are stored.
    pub fn await_stored(&self, name: &str, records: i64) {
        let windows = || self.ways.ask(&format!("GET /rules/{name}/windows"), "").json();
        let stored = |windows: &Value| list(windows).iter().filter_map(|window| window["records"].as_i64()).sum::<i64>();
        until(&format!("{records} records of {name}"), windows, |windows| stored(windows) == records);
    }

    /// What the audit says of a rule, or of a connection or a token of this name, newest first.
    pub fn audit(&self, name: &str) -> Vec<Value> {
        let all = self.ways.ask("GET /audit?limit=1000", "").json();
        let mut of_it = list(&all).to_vec();
        of_it.retain(|entry| entry["rule"] == name || (entry["rule"].is_null() && named_in(entry).as_deref() == Some(name)));
        of_it
    }
}
