//! The console in a real browser, over a real Kafka and MinIO: a rule from nothing to a verified backup, changed and deleted, by everything that a page offers;
//! in both languages, with and without scripts; and what a page weighs, whom it keeps out and how it is read out. On a phone, in the dark and by keys alone it is
//! looked at in [`glance`].
//!
//! With `CATCHMENT_SCREENSHOTS=DIR` pictures of what was seen are written there. How soon pages were seen, and how long a rule took to be added, is printed.

#[path = "console/glance.rs"]
mod glance;

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use catchment_tests::bed::{Bed, Place};
use catchment_tests::browser::{Browser, BrowserOptions};
use catchment_tests::console_pages::{self, Paints};
use catchment_tests::load_test_reports::{BROKEN, LoadTestReports, UNVERIFIED, VERIFIED};
use catchment_tests::rules_service::RulesService;
use catchment_tests::services::{Kafka, Minio};
use serde_json::json;

/// How long a change may take to be seen.
const PATIENCE: Duration = Duration::from_secs(60);

const ENTER: &str = "\u{e007}";

/// What a worker says that runs the rule.
const CONTACT: &str = r#"{"id":"h1","rules":{"RULE":{"version":3,"state":"running","since_ms":1700000000000,"lanes":["RULE/0"]}}}"#;

/// A service, and a browser at it.
struct Visit {
    bed: Bed,
    service: RulesService,
    browser: Browser,
    options: BrowserOptions,
    name: String,
    /// The load tests of the service, which stay for as long as it does.
    _reports: LoadTestReports,
    paints: Paints,
    /// For how long pages were checked, which nobody who uses them does.
    checking: Cell<Duration>,
}

impl Visit {
    fn begin(options: BrowserOptions) -> Self {
        let mut bed = Bed::new(Kafka::shared().bootstrap(), 2, Place::minio(Minio::shared()));
        bed.fill(200);
        let (name, reports) = (bed.topic.clone(), LoadTestReports::write());
        let service = RulesService::start_with(&bed, &["--load-tests", reports.path()]);
        let browser = Browser::start(options);
        Self { bed, service, browser, options, name, _reports: reports, paints: Paints::default(), checking: Cell::default() }
    }

    fn go(&self, path: &str) {
        self.browser.open(&format!("{}{path}", self.service.address()));
        self.check(path);
    }

    /// A page of the rule.
    fn rule(&self, page: &str) {
        self.go(&format!("/console/rules/{}{page}", self.name));
    }

    fn log_in(&self) {
        self.go("/console");
        assert!(self.browser.address().contains("/console/login"), "{}", self.browser.address());
        self.browser.fill("#token", "wrong");
        self.browser.press(ENTER);
        self.browser.find("#token-problem");
        self.check("a wrong token");
        self.browser.fill("#token", &self.service.token());
        self.browser.press(ENTER);
        self.browser.find("a[href='/console/add']");
        self.check("the front page");
    }

    /// What every page must be.
    fn check(&self, what: &str) {
        if !self.options.scripts {
            return;
        }
        let began = Instant::now();
        console_pages::check(&self.browser, what, &self.paints);
        if self.options.language.starts_with("zh") {
            console_pages::check_words(&self.browser, what, &self.name);
        }
        self.checking.set(self.checking.get() + began.elapsed());
    }

    /// Says how soon pages were seen.
    fn tell(&self) {
        if self.options.scripts {
            eprintln!("{}: {}", self.options.language, self.paints.summary());
        }
    }

    fn picture(&self, name: &str) {
        if let Some(dir) = std::env::var_os("CATCHMENT_SCREENSHOTS") {
            std::fs::write(Path::new(&dir).join(format!("{name}.png")), self.browser.screenshot()).expect("a picture");
        }
    }

    /// Loads a page again until it has an element.
    fn await_at(&self, page: &str, selector: &str) {
        let began = Instant::now();
        loop {
            self.browser.open(&format!("{}/console/rules/{}{page}", self.service.address(), self.name));
            if self.browser.has(selector) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "no {selector}: {}", self.browser.source());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The four screens, each with what it can be asked.
    fn add_the_rule(&self) {
        let (browser, began, checked) = (&self.browser, Instant::now(), self.checking.get());
        browser.click("a[href='/console/add']");
        browser.fill("#name", "Not a name");
        browser.fill("#every", "1s");
        browser.press(ENTER);
        browser.find("#name-problem");
        self.check("a name that is none");
        browser.open(&format!("{}/console/add", self.service.address()));
        browser.fill("#name", &self.name);
        browser.fill("#every", "1s");
        self.picture_of_language("add-1");
        browser.click("#next");
        browser.find("#topics");
        self.check("the second screen");
        browser.click("#test");
        browser.find(".notice");
        browser.fill("#search", &self.name);
        browser.press(ENTER);
        browser.tick("input[name=topic]");
        browser.tick("#fold summary");
        browser.tick("#on_truncation option[value=continue]");
        browser.click("#sample");
        browser.find("#sample-caption");
        self.check("topics and records");
        assert!(
            browser.source().contains(&format!(">{}</textarea>", self.name)),
            "the topic is among those that are typed: {}",
            browser.source()
        );
        self.picture_of_language("add-2");
        browser.click("#next");
        browser.fill("#prefix", "e2e/");
        browser.click("#probe");
        browser.find("#probed");
        assert!(browser.has("#probed .good") && !browser.has("#probed .bad"), "{}", browser.source());
        assert_eq!(browser.attribute("#prefix", "value"), "e2e/");
        self.check("the store's permissions");
        browser.click("#next");
        browser.find("#create");
        self.check("the review");
        self.picture_of_language("add-4");
        let toml = browser.text("#toml");
        let written = [format!("[rule.{}", self.name), "prefix = \"e2e/\"".to_owned(), "truncation = \"continue\"".to_owned()];
        assert!(written.iter().all(|line| toml.contains(line)) && !toml.contains("retention"), "{toml}");
        assert!(browser.has("#estimate") && !browser.has("#problems"), "{}", browser.source());
        browser.click("#create");
        browser.find(".notice");
        let (took, checks) = (began.elapsed(), self.checking.get() - checked);
        let (all, without) = (took.as_secs_f64(), took.saturating_sub(checks).as_secs_f64());
        eprintln!("{}: a rule was added in {all:.1} s, in {without:.1} s without the checks of its pages", self.options.language);
        self.check("the new rule");
    }

    /// On a window that is high enough for all that the page is about.
    fn picture_of_language(&self, name: &str) {
        if self.options.scripts && std::env::var_os("CATCHMENT_SCREENSHOTS").is_some() {
            self.browser.look(false, 1280, 1600);
            self.picture(&format!("{name}-{}", &self.options.language[..2]));
            self.browser.look(false, 1280, 900);
        }
    }

    fn store_and_verify(&mut self) {
        self.await_at("", "h1 .good");
        self.bed.await_committed(&mut [self.service.process_mut()], PATIENCE);
        self.await_at("", "svg.timeline rect");
        self.check("a rule with windows");
        self.browser.click("#verify");
        self.browser.find(".notice");
        self.await_at("", "#verification.good");
        let report = self.bed.verify("e2e/", true);
        assert_eq!((&report["records"], &report["damage"]), (&json!(200), &json!([])), "{report}");
        if self.options.scripts {
            // Two looks, five seconds apart, make a point.
            let began = Instant::now();
            while !self.browser.has("figure canvas") {
                assert!(began.elapsed() < PATIENCE, "no chart: {}", self.browser.source());
                std::thread::sleep(Duration::from_millis(500));
            }
            self.check("charts");
            self.picture_of_language("rule");
            assert_eq!(console_pages::spans_of_one_point(&self.browser), json!([60, 60, 60, 60]), "not a day from the first point on");
        }
    }

    fn read_the_log(&self) {
        self.rule("/log");
        let before = self.browser.all("#log tbody tr").len();
        assert!(before >= 1, "{}", self.browser.source());
        if self.options.scripts {
            self.browser.find("#tail:not([hidden])");
        }
        self.service.done(&["seal", &self.name]);
        let began = Instant::now();
        while self.browser.all("#log tbody tr").len() == before {
            assert!(began.elapsed() < PATIENCE, "the log does not grow");
            if !self.options.scripts {
                self.browser.click("a.button[href$='/log']");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        self.check("a log that has grown");
        self.picture_of_language("log");
        self.rule("/log?level=error");
        assert!(!self.browser.has("#log tr.info"));
    }

    fn look_into_files(&self) {
        self.rule("/files");
        // By topic, date and hour.
        for depth in 1..=3 {
            self.browser.click("tbody tr:first-child a");
            self.browser.find(&format!(".crumbs a:nth-of-type({})", depth + 1));
            self.check("a directory");
        }
        self.browser.click("tbody a[href*='/file?key=']");
        self.browser.find("#proof-title");
        let page = self.browser.source();
        assert!(page.contains("read_parquet") && page.contains("lane.topic") && page.contains("--show-values"), "{page}");
        self.check("a file");
        self.picture_of_language("file");
    }

    fn change_it(&self) {
        let browser = &self.browser;
        self.rule("");
        browser.click("#pause");
        browser.find(".notice");
        self.await_at("", "h1 .quiet");
        self.check("a paused rule");
        browser.click("#resume");
        browser.find(".notice");
        self.await_at("", "h1 .good");
        browser.click("#seal");
        browser.find(".notice");
        self.await_at("", "h1 .good");
        self.rule("/edit");
        browser.fill("#every", "2s");
        browser.click("#review");
        browser.find("#save");
        self.check("what an edit changes");
        assert!(browser.source().contains("window.every"));
        browser.click("#save");
        browser.find(".notice");
        let edited = self.service.done(&["show", &self.name]);
        assert_eq!((&edited["version"], &edited["body"]["window"]["every"]), (&json!(2), &json!("2s")), "{edited}");
        self.rule("/versions");
        browser.click("#rollback-1");
        browser.find(".notice");
        let back = self.service.done(&["show", &self.name]);
        assert_eq!((&back["version"], &back["body"]["window"]["every"]), (&json!(3), &json!("1s")), "{back}");
        self.rule("/explain");
        self.rule("/clone");
        browser.click("main form button");
        browser.find(".notice");
        let copy = self.service.done(&["show", &format!("{}-2", self.name)]);
        assert_eq!(copy["body"]["to"]["prefix"], format!("{}-2/", self.name), "{copy}");
        self.service.done(&["delete", &format!("{}-2", self.name)]);
    }

    fn see_the_rest(&self) {
        let browser = &self.browser;
        self.go("/console/sources");
        browser.fill("#name", "second");
        browser.fill("#brokers", self.bed.broker());
        browser.fill("#password", "hush-canary");
        browser.click("#create");
        browser.find(".notice");
        browser.click("form[action='/console/sources/second/test'] button");
        browser.find(".notice");
        self.check("a connection that answers");
        self.edit_the_second_source();
        browser.click("form[action='/console/sources/second/delete'] button");
        browser.find(".notice");
        assert!(!browser.source().contains("hush-canary"));
        self.go("/console/stores");
        browser.click("form[action='/console/stores/s/test'] button");
        browser.find("#probed");
        self.check("a store that was probed");
        self.go("/console/health");
        assert!(browser.source().contains("console"), "the audit names it: {}", browser.source());
        self.go("/console/errors#C0203");
        let audit = self.service.done(&["audit", &self.name]);
        let by_console = audit.as_array().into_iter().flatten().filter(|entry| entry["who"] == "console").count();
        assert!(by_console >= 5, "{audit}");
    }

    fn edit_the_second_source(&self) {
        let browser = &self.browser;
        browser.click("a[href='/console/sources/second/edit']");
        self.check("a connection that is edited");
        browser.fill("#properties", "client.id=edited");
        browser.click("#test");
        browser.find(".notice");
        self.check("settings that were tried");
        assert_eq!(self.service.done(&["show-source", "second"])["version"], 1, "nothing is saved yet");
        browser.click("#save");
        browser.find(".notice");
        self.check("a connection that was edited");
        let edited = self.service.done(&["show-source", "second"]);
        assert_eq!((&edited["version"], &edited["body"]["properties"]["client.id"]), (&json!(2), &json!("edited")), "{edited}");
    }

    /// A worker as the service knows it; none runs.
    fn see_a_worker(&self) {
        self.go("/console/workers");
        let contact = serde_json::from_str(&CONTACT.replace("RULE", &self.name)).expect("JSON");
        assert_eq!(self.service.call("PUT /workers/helper", &contact).0, 200);
        self.go("/console/workers");
        self.browser.click("a[href='/console/workers/helper']");
        assert!(self.browser.source().contains(&format!("{}/0", self.name)), "{}", self.browser.source());
        self.check("a worker");
    }

    fn compare_load_tests(&self) {
        let browser = &self.browser;
        self.go("/console/load-tests");
        let page = browser.source();
        let (saved, broken) = (format!("/console/load-tests/{VERIFIED}/report"), format!("{BROKEN}/report.json:2:"));
        assert!(page.contains(&saved) && page.contains(&broken), "{page}");
        self.picture_of_language("load-tests");
        browser.tick(&format!("#run option[value='{VERIFIED}']"));
        browser.tick(&format!("#with option[value='{UNVERIFIED}']"));
        browser.click("#compare");
        browser.find("#figures-title");
        let compared = browser.source();
        assert!(compared.contains("256 MiB/") && compared.contains("+0.0 %"), "{compared}");
        assert!(browser.address().ends_with(&format!("/compare?run={VERIFIED}&with={UNVERIFIED}")), "{}", browser.address());
        self.check("two load tests");
    }

    fn make_a_token(&self) {
        let browser = &self.browser;
        self.go("/console/tokens");
        browser.fill("#name", "robot");
        browser.click("#create");
        let text = browser.attribute("#made", "value");
        self.check("a token that was made");
        assert!(text.starts_with("ct_robot_"), "a token of another form");
        self.go("/console/tokens");
        assert!(!browser.source().contains(&text), "it is said once");
        assert_eq!(self.service.done_by("token", &["ls", "--json"])[0]["name"], "robot");
        browser.click("form[action='/console/tokens/robot/delete'] button");
        browser.find(".notice");
        self.check("a token that was removed");
    }

    fn delete_it(&self) {
        let (browser, before) = (&self.browser, self.bed.place.data_keys(""));
        self.rule("/delete");
        browser.fill("#confirm", "another");
        browser.press(ENTER);
        browser.find("#confirm-problem");
        self.check("a name that was mistyped");
        browser.fill("#confirm", &self.name);
        browser.click("button.danger");
        browser.find(".notice");
        self.check("the front page without it");
        assert!(!browser.has(&format!("a[href='/console/rules/{}']", self.name)));
        let after = self.bed.place.data_keys("");
        assert!(!before.is_empty() && before.iter().all(|key| after.contains(key)), "its objects stay");
    }

    /// All of it.
    fn live(mut self) {
        self.log_in();
        self.add_the_rule();
        self.store_and_verify();
        self.read_the_log();
        self.look_into_files();
        self.change_it();
        self.see_the_rest();
        self.see_a_worker();
        self.make_a_token();
        self.compare_load_tests();
        self.delete_it();
        self.browser.click(".tools button");
        self.browser.find("#token");
        self.browser.open(&format!("{}/console/health", self.service.address()));
        assert!(self.browser.address().contains("/console/login"), "the session has ended");
        self.tell();
    }
}

#[test]
fn a_rule_lives_its_life_in_english() {
    Visit::begin(BrowserOptions { language: "en", scripts: true }).live();
}

#[test]
fn a_rule_lives_its_life_in_chinese() {
    Visit::begin(BrowserOptions { language: "zh-CN", scripts: true }).live();
}

#[test]
fn a_rule_lives_its_life_without_scripts() {
    Visit::begin(BrowserOptions { language: "en", scripts: false }).live();
}
