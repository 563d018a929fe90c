//! What every page of the console must be: light, without a serious finding of axe-core, and in one language.
//!
//! Asks the browser that shows it, so scripts must run there.

use serde_json::{Value, json};

use crate::browser::Browser;

/// What a page may weigh with everything that it loads.
const WEIGHT_MAX: u64 = 250 << 10;

const AXE: &str = include_str!("../vendor/axe/axe.min.js");

/// Names that a Chinese page may have in Latin letters, beside those of the test itself.
const NAMES: &str = "Catchment API TOML UTC Kafka Parquet hive tencent confluent earliest latest env file PEM TLS COS SecretId APPID PutObject \
     CompleteMultipartUpload librdkafka archive topic yyyy mm region cos s h m T Z A B C KiB MiB GiB TiB k M G AWS DuckDB catchment gzip zstd";

/// Checks the page that is shown.
///
/// # Panics
/// If it is not what it must be.
pub fn check(browser: &Browser, what: &str) {
    let found = browser.run_until_done(&format!(
        "{AXE};\nconst done = arguments[arguments.length - 1];\n\
         axe.run(document, {{ resultTypes: ['violations'] }}).then(r => done(r.violations.filter(v => ['serious', 'critical'].includes(v.impact))\
         .map(v => v.id + ': ' + v.nodes.map(n => n.html + ' ' + n.failureSummary).join(' | '))), e => done([String(e)]));"
    ));
    assert_eq!(found, json!([]), "{what}: axe finds");
    let weight = browser.run(
        "return performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))\
         .filter(e => !e.name.includes('/series') && !e.name.includes('/follow')).reduce((sum, e) => sum + e.encodedBodySize, 0);",
    );
    let weight = weight.as_u64().unwrap_or(u64::MAX);
    assert!(weight <= WEIGHT_MAX, "{what} weighs {weight} bytes");
    let paint =
        browser.run("const p = performance.getEntriesByName('first-contentful-paint')[0]; return p ? Math.round(p.startTime) : null;");
    eprintln!("{what}: {weight} bytes, first paint after {paint} ms");
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

/// How far a page sticks out of the window's width, in pixels.
pub fn sticks_out(browser: &Browser) -> Value {
    browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth;")
}
