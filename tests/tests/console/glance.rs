//! The same pages as they are met elsewhere than at a desk: on a phone, in the dark, and by keys alone.

use catchment_tests::browser::BrowserOptions;
use catchment_tests::console_pages::{self, PHONE};
use serde_json::json;

use super::{ENTER, Visit};

const TAB: &str = "\u{e004}";

/// The pages of a rule that have an address of their own.
const OF_A_RULE: [&str; 8] = ["", "/log", "/files", "/versions", "/explain", "/edit", "/clone", "/delete"];

/// The pages of everything else but the list of rules, with a worker and with connections that can be edited.
const OF_THE_SERVICE: [&str; 11] = [
    "/console/sources",
    "/console/sources/second/edit",
    "/console/stores",
    "/console/stores/other/edit",
    "/console/workers",
    "/console/workers/helper",
    "/console/tokens",
    "/console/load-tests",
    "/console/load-tests/compare?run=2026-01-02&with=2026-01-03",
    "/console/health",
    "/console/errors",
];

impl Visit {
    fn at_a_desk(&self, dark: bool) {
        self.browser.look(dark, 1280, 900);
    }

    /// The page that is shown.
    fn glance(&self, what: &str) {
        self.check(what);
        console_pages::check_on_a_phone(&self.browser, what);
    }

    /// A page by its address.
    fn on_a_phone(&self, path: &str) {
        let (width, height) = PHONE;
        self.browser.look(false, width, height);
        self.go(path);
        console_pages::check_on_a_phone(&self.browser, path);
    }

    fn see_the_rule_on_a_phone(&self) {
        for page in OF_A_RULE {
            self.on_a_phone(&format!("/console/rules/{}{page}", self.name));
        }
        self.rule("");
        let link = self.browser.run("return document.querySelector(\"a[href*='/file?key=']\").getAttribute('href');");
        self.on_a_phone(link.as_str().expect("a window's object"));
        self.browser.find("#proof-title");
    }

    /// The screens of a new rule, which only their buttons lead to, with everything open that can be.
    fn add_a_rule_on_a_phone(&self) {
        let browser = &self.browser;
        self.on_a_phone("/console/add");
        browser.fill("#name", "phone");
        browser.click("#next");
        browser.fill("#topics", &self.name);
        browser.tick("#fold summary");
        browser.find("#fold[open] #on_retention");
        self.glance("the second screen");
        browser.click("#next");
        browser.fill("#prefix", "phone/");
        self.glance("the third screen");
        browser.click("#next");
        browser.find("#create");
        self.glance("the review");
    }

    /// From the top of the page to its button and on, without a mouse.
    fn pause_by_keys(&self) {
        let browser = &self.browser;
        self.at_a_desk(false);
        self.rule("");
        console_pages::tab_to(browser, "pause");
        browser.press(ENTER);
        browser.find(".notice");
        browser.find("#resume");
        self.service.await_state(&self.name, "paused");
        self.check("a rule that was paused by keys");
    }

    /// Needs connections that were created: those of the config file are not edited here.
    fn see_the_service_on_a_phone(&self) {
        let source = json!({ "name": "second", "brokers": [self.bed.broker()], "properties": { "client.id": "phone" } });
        let store = json!({ "name": "other", "url": self.bed.place.url("other/") });
        for (line, body) in [("POST /sources", source), ("POST /stores", store)] {
            let (status, answer) = self.service.call(line, &body);
            assert_eq!(status, 201, "{answer}");
        }
        self.see_a_worker();
        for page in OF_THE_SERVICE {
            self.on_a_phone(page);
        }
    }
}

#[test]
fn pages_are_read_in_the_dark_on_a_phone_and_by_keyboard() {
    let visit = Visit::begin(BrowserOptions { language: "en", scripts: true });
    let browser = &visit.browser;
    visit.on_a_phone("/console/login");
    visit.at_a_desk(false);
    visit.log_in();
    let file = visit.service.rule(&visit.bed, "window = { every = \"1s\" }");
    visit.service.done(&["create", &visit.name, &file]);
    visit.service.await_window(&visit.name, 1);
    visit.go("/console");
    browser.press(TAB);
    assert_eq!(browser.run("return document.activeElement.className;"), "skip", "the first stop leads past the navigation");
    browser.press(ENTER);
    assert_eq!(browser.run("return document.activeElement.id;"), "main");
    visit.at_a_desk(true);
    visit.rule("");
    console_pages::check_darkness(browser, "a rule");
    visit.picture("rule-dark");
    visit.see_the_rule_on_a_phone();
    visit.add_a_rule_on_a_phone();
    visit.on_a_phone("/console");
    visit.picture("rules-phone");
    // Before a worker says that the rule still runs there.
    visit.pause_by_keys();
    visit.see_the_service_on_a_phone();
    visit.go("/console");
    browser.click("a[href^='/console/language?to=zh']");
    browser.find("html[lang=zh]");
    browser.reload();
    assert_eq!(browser.attribute("html", "lang"), "zh", "the choice is kept");
    visit.tell();
}
