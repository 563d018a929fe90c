//! The languages of the pages, and which of them a reader wants.

use super::{CHINESE, ENGLISH, Texts};

/// A language of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service::console) enum Language {
    English,
    Chinese,
}

impl Language {
    /// Its tag, as HTML and HTTP write it.
    pub(in crate::service::console) fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh",
        }
    }

    /// What its readers call it.
    pub(in crate::service::console) fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Chinese => "中文",
        }
    }

    pub(in crate::service::console) fn other(self) -> Self {
        match self {
            Self::English => Self::Chinese,
            Self::Chinese => Self::English,
        }
    }

    pub(in crate::service::console) fn texts(self) -> &'static Texts {
        match self {
            Self::English => &ENGLISH,
            Self::Chinese => &CHINESE,
        }
    }

    /// The language of a tag, with or without a region.
    pub(in crate::service::console) fn of_tag(tag: &str) -> Option<Self> {
        match tag.split('-').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "en" => Some(Self::English),
            "zh" => Some(Self::Chinese),
            _ => None,
        }
    }

    /// The one that an `Accept-Language` header likes best; English if it names none that is here.
    pub(in crate::service::console) fn accepted(header: &str) -> Self {
        let weighed = header.split(',').filter_map(|part| {
            let (tag, weight) = part.split_once(";q=").unwrap_or((part, "1"));
            Some((Self::of_tag(tag.trim())?, weight.trim().parse::<f32>().ok()?))
        });
        // Of equals the first one.
        weighed.reduce(|best, next| if next.1 > best.1 { next } else { best }).map_or(Self::English, |(language, _)| language)
    }
}
