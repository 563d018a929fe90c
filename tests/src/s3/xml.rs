//! The little XML that the S3 API needs, written and read by hand.

use std::fmt::Write as _;

/// An XML document with one root.
#[derive(Debug)]
pub(super) struct Document(String);

impl Document {
    pub(super) fn new(root: &str) -> Self {
        Self(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root}>"))
    }

    pub(super) fn element(&mut self, name: &str, text: impl std::fmt::Display) -> &mut Self {
        let _ = write!(self.0, "<{name}>{}</{name}>", escape(&text.to_string()));
        self
    }

    pub(super) fn open(&mut self, name: &str) -> &mut Self {
        let _ = write!(self.0, "<{name}>");
        self
    }

    pub(super) fn close(&mut self, name: &str) -> &mut Self {
        let _ = write!(self.0, "</{name}>");
        self
    }

    pub(super) fn finish(mut self, root: &str) -> String {
        self.close(root);
        self.0
    }
}

pub(super) fn error(code: &str, message: &str, key: &str) -> String {
    let mut document = Document::new("Error");
    document.element("Code", code).element("Message", message).element("Resource", key).element("RequestId", "1");
    document.finish("Error")
}

/// The texts of all elements of this name, in order.
pub(super) fn texts<'a>(document: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let elements = document.split(&open).skip(1);
    elements.filter_map(|rest| rest.split_once(&close)).map(|(text, _)| text).collect()
}

/// The document with this text in all elements of this name.
pub(super) fn replace(document: &str, name: &str, text: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut pieces = document.split(&open);
    let mut replaced = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let rest = piece.split_once(&close).map_or("", |(_, rest)| rest);
        replaced.extend([&open, &escape(text), &close, rest]);
    }
    replaced
}

pub(super) fn unescape(text: &str) -> String {
    text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&apos;", "'").replace("&amp;", "&")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
