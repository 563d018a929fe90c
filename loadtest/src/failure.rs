//! What went wrong, why, and what to do about it: the only kind of error that a command ends with.
//!
//! Exit codes: 0 done, 1 failed or not verified, 2 the command line is wrong.

use std::fmt;

/// An error for whoever called the program.
#[derive(Debug)]
pub struct Failure {
    what: String,
    causes: Vec<String>,
    help: Option<String>,
    is_usage: bool,
}

impl Failure {
    /// Something that could not be done.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), causes: Vec::new(), help: None, is_usage: false }
    }

    /// A command line that makes no sense.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { is_usage: true, ..Self::new(what) }
    }

    /// Why.
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// What to do next.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What and why, in a line.
    pub fn reason(&self) -> String {
        std::iter::once(&self.what).chain(&self.causes).map(String::as_str).collect::<Vec<_>>().join(": ")
    }

    /// How the process ends.
    pub fn exit_code(&self) -> u8 {
        if self.is_usage { 2 } else { 1 }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.reason())?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// What a command answers.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_next() {
        let failure = Failure::new("the topic cannot be made").because("not allowed").help("ask for Create on it");
        assert_eq!(failure.to_string(), "error: the topic cannot be made: not allowed\n  help: ask for Create on it");
        assert_eq!(failure.exit_code(), 1);
        assert_eq!(Failure::usage("no topic").exit_code(), 2);
    }
}
