//! An action of `catchment serve` by each of its three ways: `catchment rule` or `catchment token`, the API, the console.
//!
//! The console is driven as a browser without scripts drives it: the cookie of a session, the session's secret in each form, fields in a body. What was executed
//! is noted in the form of a template (`POST /rules/{name}/pause`), so that the list of everything that there is can be held against it. What a test only needs to
//! get to the action, or to look at what came of it, goes by [`ThreeWays::ask`] and is not noted.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::rules_service::{PATIENCE, RulesService};

pub mod offered;
pub mod row;
pub mod scene;
pub mod table;

/// How an action is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// `catchment rule ...`, `catchment token ...`.
    CommandLine,
    /// A call of the API.
    Api,
    /// A form or a page of the console.
    Console,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::CommandLine, Self::Api, Self::Console];

    /// A word that may be part of a rule's name.
    pub fn word(self) -> &'static str {
        match self {
            Self::CommandLine => "cli",
            Self::Api => "api",
            Self::Console => "web",
        }
    }
}

/// An answer to a call.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next().unwrap_or_default()
    }

    /// The body as a text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A service with somebody who is logged in to its console.
#[derive(Debug)]
pub struct ThreeWays {
    service: RulesService,
    token: String,
    cookie: String,
    csrf: String,
    executed: Mutex<BTreeSet<String>>,
}

impl ThreeWays {
    /// Logs in to the console of a service.
    ///
    /// # Panics
    /// If it lets nobody in.
    pub fn at(service: RulesService) -> Self {
        let token = service.token();
        let mut ways = Self { service, token, cookie: String::new(), csrf: String::new(), executed: Mutex::default() };
        let entered = ways.form("/console/login", "/console/login", &[("token", ways.token.clone())]);
        ways.cookie = entered.header("set-cookie").split(';').next().unwrap_or_default().to_owned();
        assert!(entered.status == 303 && !ways.cookie.is_empty(), "{} {}", entered.head, entered.text());
        let page = ways.page("/console").text();
        let secret = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        ways.csrf = secret.unwrap_or_else(|| panic!("no secret in {page}")).to_owned();
        ways
    }

    /// The service.
    pub fn service(&self) -> &RulesService {
        &self.service
    }

    /// The service, to be stopped.
    pub fn service_mut(&mut self) -> &mut RulesService {
        &mut self.service
    }

    /// The service alone, to be started again in another way.
    pub fn into_service(self) -> RulesService {
        self.service
    }

    /// What was executed: `rule pause`, `POST /rules/{name}/pause`, `form /console/rules/{name}/pause`.
    pub fn executed(&self) -> BTreeSet<String> {
        self.executed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, what: String) {
        self.executed.lock().unwrap_or_else(PoisonError::into_inner).insert(what);
    }

    /// Runs a command of `catchment rule`, or of `catchment token` if that is its first word, which must succeed. Returns what it printed, null if that is no
    /// JSON.
    ///
    /// # Panics
    /// If it fails.
    pub fn command(&self, args: &[&str]) -> Value {
        let (verb, args) = match args {
            ["token", args @ ..] => ("token", args),
            args => ("rule", args),
        };
        self.note(format!("{verb} {}", args[0]));
        self.service.done_by(verb, args)
    }

    /// Makes a call of the API, which must succeed; `template` is its line without what is special about this one.
    ///
    /// # Panics
    /// If it is refused.
    pub fn call(&self, template: &str, line: &str, body: &str) -> Answer {
        self.note(template.split('?').next().unwrap_or(template).to_owned());
        self.ask(line, body)
    }

    /// The same without a note of it.
    ///
    /// # Panics
    /// If it is refused.
    pub fn ask(&self, line: &str, body: &str) -> Answer {
        let answer = self.try_to(line, body);
        assert!((200..300).contains(&answer.status), "{line} {body}: {} {}", answer.status, answer.text());
        answer
    }

    /// The same, refused or not.
    pub fn try_to(&self, line: &str, body: &str) -> Answer {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let mut headers = vec![("Content-Type", "application/json".to_owned()), ("Authorization", format!("Bearer {}", self.token))];
        if method == "PUT" {
            // What a test edits is in its first version.
            headers.push(("If-Match", "\"1\"".to_owned()));
        }
        self.exchange(method, &format!("/api/v1{path}"), &headers, body)
    }

    /// Sends a form of the console with this session's secret.
    pub fn form(&self, template: &str, path: &str, fields: &[(&str, String)]) -> Answer {
        self.note(format!("form {template}"));
        let own = [("csrf", self.csrf.clone())];
        let pairs = own.iter().chain(fields).map(|(name, value)| format!("{name}={}", escaped(value)));
        let body = pairs.collect::<Vec<_>>().join("&");
        let headers = [("Content-Type", "application/x-www-form-urlencoded".to_owned()), ("Cookie", self.cookie.clone())];
        self.exchange("POST", path, &headers, &body)
    }

    /// Opens a page of the console.
    pub fn page(&self, path: &str) -> Answer {
        self.exchange("GET", path, &[("Cookie", self.cookie.clone())], "")
    }

    /// What the service counts.
    pub fn metrics(&self) -> String {
        self.exchange("GET", "/metrics", &[("Authorization", format!("Bearer {}", self.token))], "").text()
    }

    /// A call on a connection of its own.
    ///
    /// # Panics
    /// If there is no answer.
    fn exchange(&self, method: &str, path: &str, headers: &[(&str, String)], body: &str) -> Answer {
        let address = self.service.address().strip_prefix("http://").expect("plain HTTP");
        let mut stream = TcpStream::connect(address).expect("the service listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
        stream.write_all(format!("{head}{body}").as_bytes()).expect("the service listens");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head and a body");
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, head, body: answer.split_off(end + 4) }
    }
}

/// Percent-encodes a value of a form or a query.
pub fn escaped(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    value.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// A text as a page of the console writes it.
pub fn as_html(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '&' | '<' | '>' | '"' | '\'' => format!("&#{};", u32::from(c)),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_and_shown_is_written_as_browsers_and_pages_do() {
        assert_eq!(escaped("a b/c=1+é"), "a%20b%2Fc%3D1%2B%C3%A9");
        assert_eq!(as_html("<a href=\"x\">'&'"), "&#60;a href=&#34;x&#34;&#62;&#39;&#38;&#39;");
    }

    #[test]
    fn a_header_is_found_whatever_its_case() {
        let answer = Answer { status: 303, head: "HTTP/1.1 303 See Other\r\nLocation: /x\r\nETag: \"1\"".to_owned(), body: b"{}".to_vec() };
        assert_eq!((answer.header("location"), answer.header("etag"), answer.header("none")), ("/x", "\"1\"", ""));
        assert_eq!(answer.json(), serde_json::json!({}));
    }
}
