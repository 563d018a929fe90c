//! What each error code means: the book's page of errors, so that a code on a page leads somewhere without a network.

use askama::Template;
use axum::response::Response;

use super::context::Page;
use super::refusal::shown;

/// The book's page.
const ERRORS: &str = include_str!("../../../../docs/errors.md");

#[derive(Template)]
#[template(path = "console/errors.html")]
struct ErrorsPage {
    p: Page,
    codes: Vec<(&'static str, &'static str, &'static str)>,
}

/// Code, title and text of each section.
fn codes() -> Vec<(&'static str, &'static str, &'static str)> {
    let sections = ERRORS.split("\n### ").skip(1);
    let section = |section: &'static str| {
        let (heading, text) = section.split_once('\n')?;
        let (code, title) = heading.split_once(": ")?;
        // The last section before a chapter ends with that chapter's heading.
        Some((code, title, text.split("\n## ").next().unwrap_or(text).trim()))
    };
    sections.filter_map(section).collect()
}

/// Lists all of them.
pub(super) async fn page(p: Page) -> Response {
    shown(&ErrorsPage { codes: codes(), p })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_of_the_book_is_there() {
        let codes = codes();
        assert_eq!(codes.len(), ERRORS.lines().filter(|line| line.starts_with("### C")).count());
        assert!(
            codes.iter().all(|(code, title, text)| code.len() == 5 && !title.is_empty() && !text.is_empty() && !text.contains("\n## "))
        );
    }
}
