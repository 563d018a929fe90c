//! What every page is made of: words of one language, no secret, commands that are understood, and nothing that the policy of the pages forbids.

use super::super::catalogue::tests::NAMES;
use super::super::elsewhere::tests::words;
use super::*;
use crate::cli::is_understood;

/// A page's texts that are its own: neither names nor the output of programs.
fn texts(page: &str) -> Vec<String> {
    // What the book says of a code is looked at where it is read.
    const FOREIGN: [&str; 7] = ["code", "pre", "q", "samp", "script", "style", "textarea"];
    let (mut texts, mut foreign) = (Vec::new(), Vec::<String>::new());
    for piece in page.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap();
        let name: String = tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        if tag.starts_with('/') {
            if foreign.last() == Some(&name) {
                foreign.pop();
            }
        } else if FOREIGN.contains(&name.as_str())
            || (tag.contains(" lang=\"en\"") && name != "html")
            || !foreign.is_empty() && foreign[0] == name
        {
            foreign.push(name);
        }
        for attribute in ["aria-label=\"", "data-records=\"", "data-empty=\"", "data-lost=\"", "alt=\"", "placeholder=\""] {
            texts.extend(tag.split(attribute).nth(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
        if foreign.is_empty() {
            texts.push(text.replace("&#38;", "&").trim().to_owned());
        }
    }
    texts
}

#[tokio::test]
async fn no_page_says_a_word_in_the_other_language() {
    // What this test's rule is made of, beside what the texts may have anyway.
    const OWN: &[&str] = &["Catchment", "orders", "k", "KiB", "AWS", "Enter", "helper"];
    for (path, page) in Bench::new().await.pages("zh-CN").await {
        assert!(page.body.contains("<html lang=\"zh\">"), "{path}: {}", page.body);
        for text in texts(&page.body) {
            let words = text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
            let english: Vec<&str> = words.filter(|word| !NAMES.contains(word) && !OWN.contains(word) && *word != "quot").collect();
            assert!(english.is_empty(), "{path}: {english:?} in {text:?}");
        }
    }
    for (path, page) in Bench::new().await.pages("en").await {
        let foreign: Vec<String> =
            texts(&page.body).into_iter().filter(|text| text.chars().any(|c| c > '\u{2fff}') && text != "中文").collect();
        assert!(page.body.contains("<html lang=\"en\">") && foreign.is_empty(), "{path}: {foreign:?}");
    }
}

/// The commands of this program that a page shows, as they were before they became HTML.
fn commands(page: &str) -> Vec<String> {
    const ESCAPES: [(&str, &str); 5] = [("&#34;", "\""), ("&#39;", "'"), ("&#60;", "<"), ("&#62;", ">"), ("&#38;", "&")];
    let blocks = page.split("<pre tabindex=\"0\"><code>").skip(1).filter_map(|rest| rest.split("</code>").next());
    let plain = blocks.map(|block| ESCAPES.iter().fold(block.to_owned(), |text, (escape, c)| text.replace(escape, c)));
    plain.filter(|text| text.starts_with("catchment ")).collect()
}

#[tokio::test]
async fn no_page_has_a_secret_or_anything_that_the_policy_forbids_or_somebody_else_wrote() {
    let (bench, mut shown) = (Bench::new().await, 0);
    for (path, page) in bench.pages("en").await {
        assert!(page.header(header::CONTENT_SECURITY_POLICY).contains("default-src 'none'"), "{path}");
        assert_eq!(page.header(header::CACHE_CONTROL), "no-store", "{path}");
        for tag in page.body.split('<').skip(1).filter_map(|piece| piece.split('>').next()) {
            // What is no value of an attribute.
            let names: String = tag.split('"').step_by(2).collect();
            let own = !names.contains(" style=")
                && !names.contains(" on")
                && (!tag.starts_with("script") || tag.contains("src=\"/console/assets/"));
            assert!(own, "{path}: <{tag}>");
            assert!(!tag.starts_with("img") && !tag.starts_with("b>") && !tag.starts_with("i>"), "{path}: <{tag}>");
        }
        assert!(page.body.len() < 120 << 10, "{path}: {} bytes", page.body.len());
        assert!(!page.status.is_server_error(), "{path}: {}", page.status);
        assert!(!page.body.contains("hush-canary") && !page.body.contains(&bench.token), "{path} shows a secret: {}", page.body);
        for command in commands(&page.body) {
            assert!(is_understood(&words(&command)), "{path}: {command}");
            shown += 1;
        }
    }
    assert!(shown > 50, "{shown} commands");
    let standing = bench.service.state.connection("kafka", "orders").unwrap();
    assert!(standing.body.contains("hush-canary"), "there is a secret that a page could show");
}
