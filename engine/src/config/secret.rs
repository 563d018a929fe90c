//! Secrets: named by the config, read when they are needed, shown nowhere.
//!
//! A secret is written `env:NAME`, `file:/path` or literally. The type has no way to print a literal: its `Debug` and
//! `Display` mask it, so a config can be logged, printed and put into an error as it is.

use std::fmt;

use crate::error::{Error, ErrorKind, Result, codes};

/// Largest secret file read, in bytes. Tokens and keys are far smaller; a larger file is a wrong path.
const SECRET_FILE_BYTES_MAX: u64 = 1 << 20;

/// What stands in every output in the place of a literal secret.
pub const MASK: &str = "***";

/// A secret as the operator wrote it.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// In this environment variable.
    Env(String),
    /// In this file, without its last line's end.
    File(String),
    /// The text itself.
    Literal(String),
}

impl Secret {
    /// Takes `env:NAME`, `file:/path` or a literal.
    pub fn new(text: &str) -> Self {
        if let Some(name) = text.strip_prefix("env:") {
            Self::Env(name.to_owned())
        } else if let Some(path) = text.strip_prefix("file:") {
            Self::File(path.to_owned())
        } else {
            Self::Literal(text.to_owned())
        }
    }

    /// Reads the secret of this `setting`. Called when a client is built, so that a rotated file is read again.
    ///
    /// # Errors
    /// `C0109` if the variable is unset or the file cannot be read; never with a secret in it.
    pub fn reveal(&self, setting: &str) -> Result<String> {
        match self {
            Self::Literal(text) => Ok(text.clone()),
            Self::Env(name) => std::env::var(name).map_err(|e| {
                let why = match e {
                    std::env::VarError::NotPresent => "it is not set",
                    std::env::VarError::NotUnicode(_) => "it is not UTF-8",
                };
                unreadable(format!("cannot take {setting} from the environment variable {name}"))
                    .because(why)
                    .help(format!("set {name}, or name another variable or a file:"))
            }),
            Self::File(path) => read_file(path).map_err(|why| {
                unreadable(format!("cannot take {setting} from {path:?}"))
                    .because(why)
                    .help("check the path and that this user may read it")
            }),
        }
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

fn unreadable(message: String) -> Error {
    Error::new(codes::SECRET_UNREADABLE, ErrorKind::Invalid, message)
}

fn read_file(path: &str) -> Result<String, String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    file.take(SECRET_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if text.len() as u64 > SECRET_FILE_BYTES_MAX {
        return Err(format!("it is larger than {SECRET_FILE_BYTES_MAX} bytes"));
    }
    // Editors end a file with a newline that is no part of the secret.
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text) }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Literal(_) => f.write_str(MASK),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a librdkafka property holds a secret, by its name.
pub fn is_secret_property(name: &str) -> bool {
    ["password", "passphrase", "secret", "pem", "token", "sasl.oauthbearer.config", "sasl.jaas"].iter().any(|part| name.contains(part))
        && name != "sasl.oauthbearer.token.endpoint.url"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_never_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(secret.reveal("sasl.password").unwrap(), "hunter2");
        assert!(!format!("{secret} {secret:?} {:?}", Some(&secret)).contains("hunter2"));
    }

    #[test]
    fn a_file_is_read_without_its_last_newline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "s3 cr\net\r\n").unwrap();
        let secret = Secret::new(&format!("file:{}", path.display()));
        assert_eq!(secret.reveal("sasl.password").unwrap(), "s3 cr\net");
        assert!(secret.to_string().starts_with("file:"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty");
        std::fs::write(&empty, "\n").unwrap();
        for (text, part) in [
            ("env:CATCHMENT_TEST_NO_SUCH_VARIABLE".to_owned(), "not set"),
            (format!("file:{}", dir.path().join("none").display()), "No such file"),
            (format!("file:{}", empty.display()), "empty"),
        ] {
            let error = Secret::new(&text).reveal("sasl.password").unwrap_err();
            assert!(error.message.contains("sasl.password"), "{error}");
            assert_eq!(error.code, codes::SECRET_UNREADABLE);
            assert!(error.cause.as_ref().unwrap().contains(part), "{error}");
        }
    }

    #[test]
    fn properties_that_hold_secrets_are_known() {
        for name in ["sasl.password", "ssl.key.pem", "ssl.key.password", "sasl.oauthbearer.client.secret", "sasl.oauthbearer.config"] {
            assert!(is_secret_property(name), "{name}");
        }
        for name in ["sasl.username", "client.id", "sasl.oauthbearer.token.endpoint.url"] {
            assert!(!is_secret_property(name), "{name}");
        }
    }
}
