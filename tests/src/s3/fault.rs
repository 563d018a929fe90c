//! What goes wrong with a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::request::{Op, Request};
use crate::gate::Gate;

/// Decides about each request, when its headers have arrived.
pub type FaultPlan = Arc<dyn Fn(&Request) -> Fault + Send + Sync>;

/// What happens to one request. The default is nothing unusual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Wait before the body is read.
    pub before: Duration,
    /// Whether the operation takes effect.
    pub effect: bool,
    /// Wait between the effect and the answer.
    pub after: Duration,
    /// What is answered.
    pub answer: Answer,
    /// How fast the request's body is read, in bytes a second.
    pub body_rate: Option<u64>,
    /// The answer's body is sent in pieces, with this pause before each.
    pub pause: Option<Duration>,
    /// The answer comes when this opens.
    pub held: Option<Gate>,
    /// When this opens, the operation takes effect once more, or at last: a request that is delivered late or twice.
    pub again: Option<Gate>,
    /// Opened when the request is answered.
    pub opens: Option<Gate>,
}

impl Default for Fault {
    fn default() -> Self {
        Self {
            before: Duration::ZERO,
            effect: true,
            after: Duration::ZERO,
            answer: Answer::Usual,
            body_rate: None,
            pause: None,
            held: None,
            again: None,
            opens: None,
        }
    }
}

impl Fault {
    /// An error status, without any effect.
    pub fn refused(status: u16, code: &str) -> Self {
        Self { effect: false, answer: Answer::Error(status, code.to_owned()), ..Self::default() }
    }

    /// An error status, although the operation took effect.
    pub fn done_but(status: u16, code: &str) -> Self {
        Self { effect: true, ..Self::refused(status, code) }
    }

    /// A reset connection, with or without an effect.
    pub fn reset(effect: bool) -> Self {
        Self::answered(effect, Answer::Reset)
    }

    /// This answer, with or without an effect.
    pub fn answered(effect: bool, answer: Answer) -> Self {
        Self { effect, answer, ..Self::default() }
    }
}

/// What a client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What the operation answers.
    Usual,
    /// This status with this error code.
    Error(u16, String),
    /// 200 with a body that says this error, as a Complete that failed late.
    LateError(String),
    /// 200 with a body that is no XML.
    Garbage,
    /// This status with the page of a proxy that knows nothing of S3.
    Page(u16),
    /// 200 with this body.
    Text(String),
    /// What the operation answers, cut in the middle: of its body, or of its head if it has none.
    Cut,
    /// What the operation answers, with other ETags than the true ones.
    WrongEtag,
    /// What the operation answers, with some bytes of its body changed.
    Damaged,
    /// What the operation answers, with another `x-cos-hash-crc64ecma` than the body's.
    WrongCrc,
    /// What the operation answers, without `x-cos-hash-crc64ecma`.
    NoCrc,
    /// What the operation answers, without a `Content-Length`; for a HEAD.
    NoLength,
    /// A page of a listing without entries that says that there is more, and not where.
    BrokenPage,
    /// A reset connection.
    Reset,
}

/// A fault as text: the body of `POST /_faults` is a list of these. The first that fits a request applies.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultRule {
    /// The operation's name (`PutObject`); none: every one.
    pub op: Option<Op>,
    /// A part of the key; none: every one.
    pub key: Option<String>,
    /// How many fitting requests go untouched before the rule applies.
    pub skip: u64,
    /// How many requests it applies to; none: all.
    pub count: Option<u64>,
    /// Wait before the body is read, in milliseconds.
    pub before_ms: u64,
    /// Wait between effect and answer, in milliseconds.
    pub after_ms: u64,
    /// The operation takes no effect.
    pub no_effect: bool,
    /// Answer with this status.
    pub status: Option<u16>,
    /// The error code that goes with the status.
    pub code: String,
    /// Reset the connection.
    pub reset: bool,
    /// How fast the body is read, in bytes a second.
    pub body_rate: Option<u64>,
}

/// Rules with the number of requests that each one has seen.
#[derive(Debug, Default)]
pub struct FaultRules(Vec<(FaultRule, AtomicU64)>);

impl FaultRules {
    /// A plan of these rules.
    pub fn plan(rules: Vec<FaultRule>) -> FaultPlan {
        let rules = Self(rules.into_iter().map(|rule| (rule, AtomicU64::new(0))).collect());
        Arc::new(move |request| rules.decide(request))
    }

    fn decide(&self, request: &Request) -> Fault {
        for (rule, seen) in &self.0 {
            let fits =
                rule.op.is_none_or(|op| op == request.op) && rule.key.as_ref().is_none_or(|part| request.key.contains(part.as_str()));
            if !fits {
                continue;
            }
            let number = seen.fetch_add(1, Ordering::SeqCst);
            if number >= rule.skip && rule.count.is_none_or(|count| number - rule.skip < count) {
                return rule.fault();
            }
        }
        Fault::default()
    }
}

impl FaultRule {
    fn fault(&self) -> Fault {
        let answer = match (self.reset, self.status) {
            (true, _) => Answer::Reset,
            (false, Some(status)) => Answer::Error(status, self.code.clone()),
            (false, None) => Answer::Usual,
        };
        Fault {
            before: Duration::from_millis(self.before_ms),
            effect: !self.no_effect,
            after: Duration::from_millis(self.after_ms),
            answer,
            body_rate: self.body_rate,
            ..Fault::default()
        }
    }
}
