//! Errors as the operator sees them: a code, what happened, the context as data, the cause, the next step.
//!
//! Inside a module errors are precise enums of its own. At its edge they become an [`Error`], whose [`ErrorKind`] says what
//! the caller must do. An error is logged once, where it is consumed.

use std::fmt;

mod nearest;

pub use nearest::nearest;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A stable code, printed as `C0123`; `docs/errors.md` has a section for each.
///
/// Ranges: 01xx command line and config, 02xx Kafka, 03xx stores, 04xx commit protocol, 05xx objects and verify, 06xx the service, 09xx bugs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u16);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "C{:04}", self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the caller must do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Try again; nothing needs to change.
    Retryable,
    /// Somebody else owns this now: stop.
    Fenced,
    /// Fix the config or the command.
    Invalid,
    /// Grant a permission or renew a credential.
    Denied,
    /// What was asked for does not exist.
    NotFound,
    /// The other side cannot be reached.
    Unreachable,
    /// Stored or received data is not what it must be: stop and keep the evidence.
    Corrupt,
    /// A lane asks the operator a question (`--accept`).
    Asks,
    /// Our bug.
    Bug,
}

impl ErrorKind {
    /// The process's exit code for an error of this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Invalid => 2,
            Self::NotFound => 3,
            Self::Corrupt => 4,
            Self::Unreachable => 5,
            Self::Fenced => 6,
            Self::Retryable | Self::Denied | Self::Asks | Self::Bug => 1,
        }
    }
}

/// An error for the operator.
#[derive(Clone, Debug)]
pub struct Error {
    /// Its stable code.
    pub code: Code,
    /// What the caller must do.
    pub kind: ErrorKind,
    /// What happened, lower case, no full stop.
    pub message: String,
    /// Where: `("file", "backup.toml:3:7")`, `("topic", "orders")`, `("partition", "3")`, `("key", "...")`.
    pub context: Vec<(&'static str, String)>,
    /// Why, as the other side put it.
    pub cause: Option<String>,
    /// The next command to type or the thing to change.
    pub help: Option<String>,
}

impl Error {
    /// An error without context yet.
    pub fn new(code: Code, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { code, kind, message: message.into(), context: Vec::new(), cause: None, help: None }
    }

    /// Adds a piece of context.
    #[must_use]
    pub fn with(mut self, label: &'static str, value: impl fmt::Display) -> Self {
        self.context.push((label, value.to_string()));
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Adds the next step.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Error {
    /// One line, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        for (label, value) in &self.context {
            write!(f, " {label}={value}")?;
        }
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<Error> for Vec<Error> {
    fn from(error: Error) -> Self {
        vec![error]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_its_code_its_place_and_its_cause_in_a_line() {
        let error = Error::new(Code(7), ErrorKind::Invalid, "it is wrong");
        assert_eq!(error.to_string(), "C0007: it is wrong");
        let error = error.with("file", "a.toml:3").with("rule", 5).because("so it is").help("mend it");
        assert_eq!(
            (error.to_string().as_str(), error.help.as_deref()),
            ("C0007: it is wrong file=a.toml:3 rule=5: so it is", Some("mend it"))
        );
        assert_eq!(format!("{:?}", Code(1234)), "C1234");
        assert_eq!(Vec::from(error).len(), 1);
    }

    #[test]
    fn scripts_can_tell_errors_by_the_exit_code() {
        use ErrorKind as K;
        let kinds = [K::Invalid, K::NotFound, K::Corrupt, K::Unreachable, K::Fenced, K::Retryable, K::Denied, K::Asks, K::Bug];
        assert_eq!(kinds.map(K::exit_code), [2, 3, 4, 5, 6, 1, 1, 1, 1]);
    }
}
