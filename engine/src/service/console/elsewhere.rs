//! The same by other means: each page says what to type and what to call, for what it shows and for what its buttons do.
//!
//! Place in the flow: pages take their texts from the table of [`deeds`], the only place where these are written. Tests read each text as a shell does and hold
//! it to the command line's own parser, to the call that the command makes, and to the API's description.
//!
//! Guarantees: a token is read from a file and stands in no text; a connection is shown as the API shows it, without its secrets. Whatever is put into a text is
//! one word to a shell.

use serde_json::Value;

use super::context::Page;
use crate::service::ADDRESS_DEFAULT;

pub(super) mod deeds;

#[cfg(test)]
pub(super) mod tests;

/// What a page shows and does, by command line and API.
pub(super) type Elsewhere = Vec<Same>;

/// The token as a shell puts it into a call: from the file that the command line reads it from, too.
const TOKEN: &str = r#"-H "Authorization: Bearer $(cat "$CATCHMENT_TOKEN_FILE")""#;

/// One of these as it is shown.
#[derive(Debug)]
pub(super) struct Same {
    /// What it is, in the reader's language.
    pub(super) what: &'static str,
    pub(super) command: String,
    /// Name and text of the file that the command reads, where the page does not show it anyway.
    pub(super) file: Option<(String, String)>,
    pub(super) call: String,
}

/// One of these as command line and API have it.
#[derive(Debug)]
struct Deed {
    what: &'static str,
    /// A verb of the program, which calls a service.
    verb: &'static str,
    words: Vec<String>,
    file: Option<(String, String)>,
    method: &'static str,
    path: String,
    version: Option<i64>,
    body: Option<Value>,
    /// What curl must be told beside.
    options: Vec<String>,
}

impl Deed {
    /// `catchment VERB WORDS...`, and a call without a body.
    fn new(what: &'static str, verb: &'static str, words: &[&str], method: &'static str, path: impl Into<String>) -> Self {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Self { what, verb, words, file: None, method, path: path.into(), version: None, body: None, options: Vec::new() }
    }

    fn with_body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// The file that the command reads.
    fn reading(self, name: &str, text: Option<String>) -> Self {
        Self { file: text.map(|text| (name.to_owned(), text)), ..self }
    }

    /// Only if this is the current version.
    fn if_version(mut self, version: i64) -> Self {
        self.words.extend(["--version".to_owned(), version.to_string()]);
        Self { version: Some(version), ..self }
    }

    fn with_options(self, options: &[&str]) -> Self {
        Self { options: options.iter().map(|option| quoted(option)).collect(), ..self }
    }

    fn shown(self, origin: &str) -> Same {
        let (command, call) = (self.command(origin), self.call(origin));
        Same { what: self.what, command, file: self.file, call }
    }

    fn command(&self, origin: &str) -> String {
        // Before the words: what stands behind `--` is no flag.
        let service = if origin == ADDRESS_DEFAULT { String::new() } else { format!(" --service {}", quoted(origin)) };
        let words: Vec<String> = self.words.iter().map(|word| quoted(word)).collect();
        format!("catchment {}{service} {}", self.verb, words.join(" "))
    }

    fn call(&self, origin: &str) -> String {
        let mut parts = vec!["curl".to_owned()];
        if self.method != "GET" {
            parts.push(format!("-X {}", self.method));
        }
        parts.extend(self.options.iter().cloned());
        parts.push(TOKEN.to_owned());
        parts.extend(self.version.map(|version| format!("-H 'If-Match: \"{version}\"'")));
        parts.push(quoted(&format!("{origin}/api/v1{}", self.path)));
        parts.extend(self.body.as_ref().map(|body| format!("\\\n  --data {}", quoted(&body.to_string()))));
        parts.join(" ")
    }
}

/// How a worker joins this service.
pub(super) fn join(p: &Page) -> String {
    format!("catchment worker --join {} --token-file token", quoted(&p.origin))
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&b));
    if is_plain && !word.is_empty() { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}
