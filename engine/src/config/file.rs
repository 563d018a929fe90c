//! Reads TOML with positions: every problem of a file at once, each with `file:line:column`.
//!
//! A [`Section`] hands out values by key, typed; what it cannot convert, and every key that [`super::keys`] does not list,
//! becomes a problem in the shared [`Problems`], and reading goes on.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::keys_of;
use crate::error::{Code, Error, ErrorKind, codes, nearest};

/// A value, and what the operator calls it: for messages that name both sides of a relation.
#[derive(Clone, Debug)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// `window.every`, or `--window`.
    pub name: String,
    /// `backup.toml:9:12`, if it stands in a file.
    pub at: Option<String>,
}

impl<T> Given<T> {
    /// A value given by a flag.
    pub fn flag(name: &str, value: T) -> Self {
        Self { value, name: name.to_owned(), at: None }
    }

    /// This error of somebody who was handed the value, with its place.
    pub(super) fn placed(&self, error: Error) -> Error {
        let error = error.with("setting", &self.name);
        match &self.at {
            Some(at) => error.with("at", at),
            None => error,
        }
    }

    /// A problem with this value.
    pub fn problem(&self, code: Code, message: impl Into<String>) -> Error {
        let error = Error::new(code, ErrorKind::Invalid, message);
        match &self.at {
            Some(at) => {
                error.with("at", at).help("docs/config.md says what it takes, and `catchment config check FILE` finds all problems at once")
            }
            None => error.with("flag", &self.name).help("`catchment backup --help` says what it takes"),
        }
    }
}

/// The problems of one file, and what is needed to say where they are.
#[derive(Debug)]
pub(super) struct Problems<'a> {
    file: &'a str,
    text: &'a str,
    found: RefCell<Vec<Error>>,
}

impl<'a> Problems<'a> {
    /// No problem yet.
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, found: RefCell::default() }
    }

    /// `file:line:column` of a byte, both from 1; columns count characters.
    pub(super) fn at(&self, byte: usize) -> String {
        let before = self.text.get(..byte).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{}:{line}:{column}", self.file)
    }

    /// Notes a problem at `span`.
    pub(super) fn add(&self, code: Code, span: &Range<usize>, message: impl Into<String>) {
        let error = Error::new(code, ErrorKind::Invalid, message).with("at", self.at(span.start));
        self.push(error.help(format!("correct it there; `catchment config check {}` finds all problems at once", self.file)));
    }

    /// Notes a problem that says itself where it is.
    pub(super) fn push(&self, error: Error) {
        self.found.borrow_mut().push(error);
    }

    /// All problems, in the order of the file as far as they were found in it.
    pub(super) fn into_vec(self) -> Vec<Error> {
        self.found.into_inner()
    }
}

/// One table of the file.
#[derive(Debug)]
pub(super) struct Section<'a> {
    /// Where its keys are listed: `rule.window`.
    kind: &'static str,
    /// What the operator calls it: `rule.orders.window`.
    path: String,
    span: Range<usize>,
    table: &'a DeTable<'a>,
    problems: &'a Problems<'a>,
}

impl<'a> Section<'a> {
    /// A section of `kind` called `path`; notes every key that it does not have.
    pub(super) fn new(kind: &'static str, path: String, value: &'a Spanned<DeValue<'a>>, problems: &'a Problems<'a>) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            problems.add(codes::CONFIG_VALUE, &value.span(), format!("{path} must be a table, not a {}", value.get_ref().type_str()));
            return None;
        };
        let names: Vec<&str> = keys_of(kind).map(|k| k.name).collect();
        for key in table.keys().filter(|k| !names.contains(&k.get_ref().as_ref())) {
            problems.push(unknown_key(key.get_ref(), &path, &names).with("at", problems.at(key.span().start)));
        }
        Some(Self { kind, path, span: value.span(), table, problems })
    }

    /// Notes a problem of the section as a whole.
    pub(super) fn problem(&self, code: Code, message: impl Into<String>) {
        self.problems.add(code, &self.span, message);
    }

    /// Notes an error of somebody who was handed a value of the section.
    pub(super) fn refused<T>(&self, given: &Given<T>, error: Error) {
        self.problems.push(given.placed(error));
    }

    /// What the operator calls the section.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn raw(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        debug_assert!(keys_of(self.kind).any(|k| k.name == name), "{}.{name} is not listed", self.kind);
        self.table.get(name)
    }

    fn given<T>(&self, name: &str, value: &Spanned<DeValue<'_>>, converted: T) -> Given<T> {
        Given { value: converted, name: format!("{}.{name}", self.path), at: Some(self.problems.at(value.span().start)) }
    }

    fn refuse(&self, name: &str, value: &Spanned<DeValue<'_>>, why: impl Display) {
        self.problems.add(codes::CONFIG_VALUE, &value.span(), format!("{}.{name}: {why}", self.path));
    }

    /// A subsection.
    pub(super) fn section(&self, name: &str, kind: &'static str) -> Option<Section<'a>> {
        Section::new(kind, format!("{}.{name}", self.path), self.raw(name)?, self.problems)
    }

    /// A value with a text form. An integer is taken as its digits, so that `start = 42` and `max_bytes = 1024` work.
    pub(super) fn parse<T: FromStr<Err: Display>>(&self, name: &str) -> Option<Given<T>> {
        let value = self.raw(name)?;
        let Some(text) = scalar_text(value.get_ref(), false) else {
            self.refuse(name, value, format_args!("it must be a string, not a {}", value.get_ref().type_str()));
            return None;
        };
        match text.parse() {
            Ok(converted) => Some(self.given(name, value, converted)),
            Err(why) => {
                self.refuse(name, value, why);
                None
            }
        }
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Option<Given<String>> {
        let value = self.raw(name)?;
        match value.get_ref().as_str() {
            Some(text) => Some(self.given(name, value, text.to_owned())),
            None => {
                self.refuse(name, value, format_args!("it must be a string, not a {}", value.get_ref().type_str()));
                None
            }
        }
    }

    /// true or false.
    pub(super) fn flag(&self, name: &str) -> Option<Given<bool>> {
        let value = self.raw(name)?;
        match value.get_ref().as_bool() {
            Some(flag) => Some(self.given(name, value, flag)),
            None => {
                self.refuse(name, value, format_args!("it must be true or false, not a {}", value.get_ref().type_str()));
                None
            }
        }
    }

    /// A text, or a list of texts.
    pub(super) fn texts(&self, name: &str) -> Option<Given<Vec<String>>> {
        let value = self.raw(name)?;
        if let Some(text) = value.get_ref().as_str() {
            return Some(self.given(name, value, vec![text.to_owned()]));
        }
        let Some(items) = value.get_ref().as_array() else {
            self.refuse(name, value, format_args!("it must be a list of strings, not a {}", value.get_ref().type_str()));
            return None;
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(text.to_owned()),
                None => self.refuse(name, item, format_args!("its items must be strings, not a {}", item.get_ref().type_str())),
            }
        }
        Some(self.given(name, value, texts))
    }

    /// A table of texts; numbers and booleans are taken as they are written.
    pub(super) fn text_table(&self, name: &str) -> Vec<(String, String)> {
        let Some(value) = self.raw(name) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.refuse(name, value, format_args!("it must be a table, not a {}", value.get_ref().type_str()));
            return Vec::new();
        };
        let mut pairs = Vec::new();
        for (key, item) in table {
            match scalar_text(item.get_ref(), true) {
                Some(text) => pairs.push((key.get_ref().to_string(), text)),
                None => self.refuse(name, item, format_args!("{} must be a string, not a {}", key.get_ref(), item.get_ref().type_str())),
            }
        }
        pairs
    }
}

fn scalar_text(value: &DeValue<'_>, any: bool) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Float(number) if any => Some(number.as_str().to_owned()),
        DeValue::Boolean(flag) if any => Some(flag.to_string()),
        _ => None,
    }
}

/// The problem of a key that a section does not have.
pub(super) fn unknown_key(key: &str, path: &str, names: &[&str]) -> Error {
    let place = if path.is_empty() { "the file".to_owned() } else { format!("[{path}]") };
    let error = Error::new(codes::CONFIG_UNKNOWN_KEY, ErrorKind::Invalid, format!("unknown key {key:?} in {place}"));
    match nearest(key, names) {
        Some(near) => error.help(format!("did you mean {near:?}?")),
        None => error.help(format!("it takes {}", names.join(", "))),
    }
}
