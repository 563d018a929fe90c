//! What every page of the console must be: light, without a serious finding of axe-core, in one language, and fit for a phone and for the dark.
//!
//! Asks the browser that shows it, so scripts must run there. How soon something was seen is told, and nothing depends on it: a machine that is busy fails no test.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::browser::Browser;

/// What a page may weigh with everything that it loads.
const WEIGHT_MAX: u64 = 250 << 10;

const AXE: &str = include_str!("../vendor/axe/axe.min.js");

/// Names that a Chinese page may have in Latin letters, beside those of the test itself.
const NAMES: &str = "Catchment API TOML UTC Kafka Parquet hive tencent confluent earliest latest env file PEM TLS COS SecretId APPID PutObject \
     CompleteMultipartUpload librdkafka archive topic yyyy mm region cos s h m T Z A B C KiB MiB GiB TiB k M G AWS DuckDB catchment gzip zstd";

/// Width and height of a phone's window.
pub const PHONE: (u32, u32) = (390, 844);

const TAB: &str = "\u{e004}";

/// Stops of the key Tab on one page, at most.
const STOPS_MAX: usize = 150;

/// What has the focus, and whether one sees that: the page as a whole, which has it at first, need not show it.
const FOCUS: &str = "const e = document.activeElement, s = getComputedStyle(e); const drawn = s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0;\
     return { id: e.id, is_seen: e === document.body || drawn || s.boxShadow !== 'none', element: e.outerHTML.slice(0, 200) };";

/// The background where the system is dark.
const DARK: &str = "rgb(18, 24, 30)";

/// When something of each page was seen first, in milliseconds after it was asked for, by the load of the page: one that is looked at twice was loaded once.
#[derive(Debug, Default)]
pub struct Paints(RefCell<BTreeMap<String, u64>>);

impl Paints {
    /// Notes the page that is shown, and gives its time.
    fn note(&self, browser: &Browser) -> Option<u64> {
        let seen = browser.run(
            "const p = performance.getEntriesByName('first-contentful-paint')[0];\
             return p ? [String(performance.timeOrigin), Math.round(p.startTime)] : null;",
        );
        let (load, ms) = (seen[0].as_str()?, seen[1].as_u64()?);
        self.0.borrow_mut().insert(load.to_owned(), ms);
        Some(ms)
    }

    /// All of them in one line.
    pub fn summary(&self) -> String {
        let mut sorted: Vec<u64> = self.0.borrow().values().copied().collect();
        sorted.sort_unstable();
        let (count, median) = (sorted.len(), sorted.get(sorted.len() / 2).copied().unwrap_or_default());
        format!("first paint of {count} pages: median {median} ms, highest {} ms", sorted.last().copied().unwrap_or_default())
    }
}

/// The serious findings of a run of axe-core, which is in the page, with these options.
fn findings(browser: &Browser, before: &str, options: &str) -> Value {
    browser.run_until_done(&format!(
        "{before};\nconst done = arguments[arguments.length - 1];\n\
         axe.run(document, {{ {options} }}).then(r => done(r.violations.filter(v => ['serious', 'critical'].includes(v.impact))\
         .map(v => v.id + ': ' + v.nodes.map(n => n.html + ' ' + n.failureSummary).join(' | '))), e => done([String(e)]));"
    ))
}

/// Checks the page that is shown, and notes when something of it was seen first.
///
/// # Panics
/// If it is not what it must be.
pub fn check(browser: &Browser, what: &str, paints: &Paints) {
    let found = findings(browser, AXE, "resultTypes: ['violations']");
    assert_eq!(found, json!([]), "{what}: axe finds");
    let weight = browser.run(
        "return performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))\
         .filter(e => !e.name.includes('/series') && !e.name.includes('/follow')).reduce((sum, e) => sum + e.encodedBodySize, 0);",
    );
    let weight = weight.as_u64().unwrap_or(u64::MAX);
    assert!(weight <= WEIGHT_MAX, "{what} weighs {weight} bytes");
    let paint = paints.note(browser).map_or_else(|| "unknown".to_owned(), |ms| format!("after {ms} ms"));
    eprintln!("{what}: {weight} bytes, first paint {paint}");
}

/// Checks how the page that is shown looks on a phone, in the light and in the dark. It has passed [`check`] since it was loaded, so axe-core is in it; what
/// differs in the dark are the colours.
///
/// # Panics
/// If it sticks out, or its text is hard to read in the dark.
pub fn check_on_a_phone(browser: &Browser, what: &str) {
    let (width, height) = PHONE;
    browser.look(false, width, height);
    assert_eq!(sticks_out(browser), 0, "{what}: tables scroll within their own box");
    browser.look(true, width, height);
    assert_eq!(background(browser), DARK, "{what}: it is dark");
    let found = findings(browser, "", "runOnly: ['color-contrast'], resultTypes: ['violations']");
    assert_eq!(found, json!([]), "{what}: axe finds in the dark");
    assert_eq!(sticks_out(browser), 0, "{what}: nor does it stick out in the dark");
    browser.look(false, width, height);
}

/// No text of a page's own has a word in Latin letters but a name; `own` is one.
///
/// # Panics
/// If one has.
pub fn check_words(browser: &Browser, what: &str, own: &str) {
    let texts = browser.run(
        "const texts = []; const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);\
         while (walker.nextNode()) { const node = walker.currentNode;\
           if (!node.parentElement.closest('code, pre, q, samp, script, noscript, svg, textarea, [lang=en]')) texts.push(node.data); } return texts;",
    );
    let names: Vec<&str> = NAMES.split_whitespace().collect();
    for text in texts.as_array().into_iter().flatten().filter_map(Value::as_str).map(|text| text.replace(own, "")) {
        // A cluster's id is a name of its own.
        let is_id = |word: &str| word.len() > 15;
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'));
        let foreign = words.filter(|word| word.bytes().any(|b| b.is_ascii_alphabetic()) && !is_id(word));
        let english: Vec<&str> = foreign
            .flat_map(|word| word.split(|c: char| !c.is_ascii_alphabetic()))
            .filter(|w| !w.is_empty() && !names.contains(w))
            .collect();
        assert!(english.is_empty(), "{what}: {english:?} in {text:?}");
    }
}

/// Has the charts of the page that is shown drawn anew from one point, and gives how many seconds the time axis of each spans.
pub fn spans_of_one_point(browser: &Browser) -> Value {
    browser.run_until_done(
        "const done = arguments[arguments.length - 1], drawn = [], Real = window.uPlot;\
         window.uPlot = function (...given) { const plot = new Real(...given); drawn.push(plot); return plot; };\
         const point = { at_ms: 1700000000000, records_per_second: 1, bytes_per_second: 1, lag_records: 1, lag_seconds: 1 };\
         window.fetch = async () => ({ ok: true, json: async () => [point] });\
         document.getElementById('charts').replaceChildren();\
         const again = document.createElement('script'); again.src = document.querySelector('script[src*=charts]').src;\
         again.onload = () => setTimeout(() => done(drawn.map(plot => plot.scales.x.max - plot.scales.x.min)), 0);\
         document.head.append(again);",
    )
}

/// How far a page sticks out of the window's width, in pixels.
fn sticks_out(browser: &Browser) -> Value {
    browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth;")
}

/// The colour behind everything.
fn background(browser: &Browser) -> Value {
    browser.run("return getComputedStyle(document.body).backgroundColor;")
}

/// Whether the page that is shown is dark.
///
/// # Panics
/// If it is not.
pub fn check_darkness(browser: &Browser, what: &str) {
    assert_eq!(background(browser), DARK, "{what}: it is dark");
}

/// Has the key Tab lead to the element with this id.
///
/// # Panics
/// If it does not come there, or if on the way one does not see what has the focus.
pub fn tab_to(browser: &Browser, id: &str) {
    for _ in 0..STOPS_MAX {
        browser.press(TAB);
        let focus = browser.run(FOCUS);
        assert_eq!(focus["is_seen"], json!(true), "nothing shows that this has the focus: {}", focus["element"]);
        if focus["id"] == id {
            return;
        }
    }
    panic!("the key Tab does not lead to #{id}: {}", browser.source());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paints_are_told_in_one_line() {
        let paints = Paints::default();
        assert_eq!(paints.summary(), "first paint of 0 pages: median 0 ms, highest 0 ms");
        paints.0.borrow_mut().extend([("a", 90), ("b", 30), ("c", 40)].map(|(load, ms)| (load.to_owned(), ms)));
        assert_eq!(paints.summary(), "first paint of 3 pages: median 40 ms, highest 90 ms");
    }
}
