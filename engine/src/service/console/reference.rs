//! What each error code means: the book's page of errors, in the reader's language, so that a code on a page leads somewhere without a network.
//!
//! What the engine says of an error is English, with names and numbers in it. Whoever reads another language is told first what the book says of its code.

use std::sync::LazyLock;

use askama::Template;
use axum::response::Response;

use super::catalogue::Language;
use super::context::Page;
use super::refusal::shown;

/// What the book says of one code.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    pub(super) code: &'static str,
    pub(super) title: &'static str,
    pub(super) text: &'static str,
}

static ENGLISH: LazyLock<Vec<Section>> = LazyLock::new(|| sections(include_str!("../../../../docs/errors.md")));
static CHINESE: LazyLock<Vec<Section>> = LazyLock::new(|| sections(include_str!("../../../../docs/errors.zh.md")));

#[derive(Template)]
#[template(path = "console/errors.html")]
struct ErrorsPage {
    p: Page,
    sections: &'static [Section],
}

fn sections(page: &'static str) -> Vec<Section> {
    let section = |section: &'static str| {
        let (heading, text) = section.split_once('\n')?;
        let (code, title) = heading.split_once(": ")?;
        // The last section before a chapter ends with that chapter's heading.
        Some(Section { code, title, text: text.split("\n## ").next().unwrap_or(text).trim() })
    };
    page.split("\n### ").skip(1).filter_map(section).collect()
}

fn of(language: Language) -> &'static [Section] {
    match language {
        Language::English => &ENGLISH,
        Language::Chinese => &CHINESE,
    }
}

/// What the book says, in the reader's language, of the first code that a text of the engine names; none for who reads the engine's own language.
pub(super) fn told(language: Language, text: &str) -> Option<&'static Section> {
    if language == Language::English {
        return None;
    }
    // A word of its own: a topic may have any letters and digits in its name.
    text.split_whitespace().find_map(|word| {
        let code = word.strip_suffix(':').unwrap_or(word);
        of(language).iter().find(|section| section.code == code)
    })
}

/// Lists all of them.
pub(super) async fn page(p: Page) -> Response {
    shown(&ErrorsPage { sections: of(p.language), p })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_of_the_book_is_there_in_each_language() {
        let page = include_str!("../../../../docs/errors.md");
        assert_eq!(ENGLISH.len(), page.lines().filter(|line| line.starts_with("### C")).count());
        let codes = |sections: &[Section]| sections.iter().map(|section| section.code).collect::<Vec<_>>();
        assert_eq!(codes(&CHINESE), codes(&ENGLISH), "docs/errors.zh.md has what docs/errors.md has, in its order");
        for Section { code, title, text } in ENGLISH.iter().chain(CHINESE.iter()) {
            assert!(code.len() == 5 && !title.is_empty() && !text.is_empty() && !text.contains("\n## "), "{code}");
        }
    }

    #[test]
    fn what_the_chinese_page_says_is_chinese_and_names_what_the_english_one_names() {
        let is_chinese = |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c);
        let named = |text: &'static str| text.split('`').skip(1).step_by(2);
        for (english, chinese) in ENGLISH.iter().zip(CHINESE.iter()) {
            for text in [chinese.title, chinese.text] {
                assert!(text.chars().any(is_chinese), "{}: {text}", chinese.code);
                // What stands between two pieces of code is prose; names of things are a word or two.
                let prose = text.split('`').step_by(2).flat_map(|piece| piece.split(|c: char| !c.is_ascii_alphabetic() && c != ' '));
                let english = prose.filter(|run| run.split_whitespace().filter(|word| word.len() > 1).count() > 4).collect::<Vec<_>>();
                assert!(english.is_empty(), "{}: {english:?}", chinese.code);
            }
            let lacking: Vec<_> = named(english.text).filter(|name| !named(chinese.text).any(|known| known == *name)).collect();
            assert!(lacking.is_empty(), "{}: {lacking:?}", chinese.code);
        }
    }

    #[test]
    fn a_code_is_found_wherever_it_stands_and_only_readers_of_another_language_are_told() {
        let code = |text| told(Language::Chinese, text).map(|section| section.code);
        assert_eq!(code("t/0: C0421: the topic was deleted and created again"), Some("C0421"));
        assert_eq!(code("C0104"), Some("C0104"));
        assert_eq!(code("worker one: C0101-x/0: C0421: gone"), Some("C0421"), "a topic's name is none");
        assert_eq!(code("C9999: C0421: x"), Some("C0421"));
        assert_eq!([code("Cannot be read"), code("C04215: x"), code("C04"), code("C\u{e9}\u{e9}x"), code("")], [None; 5]);
        assert!(told(Language::English, "C0421: x").is_none());
    }
}
