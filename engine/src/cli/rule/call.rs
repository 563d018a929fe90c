//! A call to a service of this program, and its refusal as an error.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::header::{AUTHORIZATION, IF_MATCH};
use serde_json::Value;

use crate::error::{Code, Error, ErrorKind, Result};
use crate::https::{self, Tls};

/// The service cannot be asked.
const SERVICE_UNREACHABLE: Code = Code(609);
/// The service refuses.
const SERVICE_REFUSES: Code = Code(610);

/// How long a call may take. An edit and a pause wait for pinned windows, a probe for its races.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The largest answer that is read.
const ANSWER_MAX: usize = 64 << 20;

/// Where a service is, and what it wants to be shown.
#[derive(Clone)]
pub(in crate::cli) struct Service {
    pub(in crate::cli) url: String,
    pub(in crate::cli) token: String,
    pub(in crate::cli) tls: Tls,
}

/// A call to the API.
#[derive(Debug)]
pub(in crate::cli) struct Call {
    method: &'static str,
    path: String,
    body: Option<Value>,
    version: Option<i64>,
}

impl Call {
    pub(in crate::cli) fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: None, version: None }
    }

    pub(in crate::cli) fn with_body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// Only if this is the current version of what is changed; none: whatever it is.
    pub(in crate::cli) fn if_version(self, version: Option<i64>) -> Self {
        Self { version, ..self }
    }

    /// Method, path, body and version: what else shows this call is held to them.
    #[cfg(test)]
    pub(in crate::cli) fn parts(self) -> (&'static str, String, Option<Value>, Option<i64>) {
        (self.method, self.path, self.body, self.version)
    }

    fn request(&self, service: &Service) -> Result<(String, Request<Full<Bytes>>)> {
        let url = format!("{}/api/v1{}", service.url.trim_end_matches('/'), self.path);
        let mut request = Request::builder().method(self.method).uri(&url).header(AUTHORIZATION, format!("Bearer {}", service.token));
        if let Some(version) = self.version {
            request = request.header(IF_MATCH, format!("\"{version}\""));
        }
        let body = self.body.as_ref().map(ToString::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body))).map_err(|e| unreachable(&url, &e))?;
        Ok((url, request))
    }

    /// Makes the call. Returns the answer, null for an empty one.
    pub(in crate::cli) async fn make(&self, service: &Service) -> Result<Value> {
        let (url, request) = self.request(service)?;
        let answer =
            tokio::time::timeout(TIMEOUT, https::exchange(request, &service.tls, ANSWER_MAX)).await.map_err(|e| unreachable(&url, &e))?;
        let (status, bytes) = answer.map_err(|e| unreachable(&url, &https::with_sources(&*e)))?;
        let value: Value =
            if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).map_err(|e| unreachable(&url, &e))? };
        if status.is_success() { Ok(value) } else { Err(refusal(status.as_u16(), &value)) }
    }

    /// Makes the call and hands over each server-sent event's data as it comes, until the service ends it.
    pub(in crate::cli) async fn follow(
        &self,
        service: &Service,
        mut take: impl FnMut(&Value) -> Result<(), Vec<Error>>,
    ) -> Result<(), Vec<Error>> {
        let mut text = Vec::new();
        self.fetch(service, |bytes| {
            text.extend_from_slice(bytes);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                if let Some(data) = line.strip_prefix(b"data: ") {
                    take(&serde_json::from_slice(data).map_err(|e| unreachable(&service.url, &e))?)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Makes the call and hands over the answer's bytes as they come, until it ends.
    pub(in crate::cli) async fn fetch(
        &self,
        service: &Service,
        mut take: impl FnMut(&[u8]) -> Result<(), Vec<Error>>,
    ) -> Result<(), Vec<Error>> {
        let (url, request) = self.request(service)?;
        let answer = tokio::time::timeout(TIMEOUT, https::send(request, &service.tls)).await.map_err(|e| unreachable(&url, &e))?;
        let answer = answer.map_err(|e| unreachable(&url, &https::with_sources(&*e)))?;
        let (status, mut body) = (answer.status(), answer.into_body());
        let mut problem = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| unreachable(&url, &e))?;
            let bytes = frame.data_ref().map_or(&[][..], |data| data);
            match status.is_success() {
                true => take(bytes)?,
                false => problem.extend_from_slice(bytes),
            }
        }
        if status.is_success() {
            Ok(())
        } else {
            Err(refusal(status.as_u16(), &serde_json::from_slice(&problem).unwrap_or_default()).into())
        }
    }
}

fn unreachable(url: &str, why: &dyn std::fmt::Display) -> Error {
    Error::new(SERVICE_UNREACHABLE, ErrorKind::Unreachable, "the service cannot be asked")
        .with("url", url)
        .because(why)
        .help(if url.starts_with("https:") {
            "start it with `catchment serve --tls-cert`, say where it is with --service, whom to trust with --ca, and show --cert if it wants one"
        } else {
            "start it with `catchment serve`, or say where it is with --service"
        })
}

/// A problem of the service as an error of this program.
fn refusal(status: u16, problem: &Value) -> Error {
    let text = |name: &str| problem[name].as_str();
    let kind = match status {
        404 => ErrorKind::NotFound,
        401 | 403 => ErrorKind::Denied,
        408 | 429 => ErrorKind::Retryable,
        400..=499 => ErrorKind::Invalid,
        _ => ErrorKind::Retryable,
    };
    let error = Error::new(SERVICE_REFUSES, kind, text("detail").unwrap_or("the service refuses"))
        .with("code", text("code").unwrap_or("none"))
        .help(text("help").unwrap_or("look at the service's own messages"));
    // The others follow from the first one, or are found again once that is mended.
    let more = problem["errors"].as_array().map_or(0, Vec::len).saturating_sub(1);
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    match text("cause").or(text("rule")).or(text("at")) {
        Some(cause) => error.because(format!("{cause}{more}")),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_keeps_code_and_help() {
        let problem = json!({ "detail": "there is no rule of this name", "code": "C0602", "help": "look", "rule": "x" });
        let error = refusal(404, &problem);
        assert_eq!(
            (error.kind, error.message.as_str(), error.help.as_deref()),
            (ErrorKind::NotFound, "there is no rule of this name", Some("look"))
        );
        assert!(error.context.contains(&("code", "C0602".to_owned())));
    }
}
