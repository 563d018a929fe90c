//! Secrets of the config: named by `env:NAME` or `file:/path`, or literal; masked wherever they are printed.
//!
//! A [`Secret`] holds where the value comes from; [`Secret::reveal`] reads it at the moment a client is made. Neither form shows a
//! value in `Debug` or `Display` (invariant I13).

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::{Error, ErrorKind};

use super::errors::SECRET_UNREADABLE;

/// What is printed in place of a value.
pub(crate) const MASK: &str = "***";

/// Where a secret comes from.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Secret {
    /// `env:NAME`: an environment variable.
    Env(String),
    /// `file:/path`: a file's content, less line ends at its end. Read again whenever a client is made.
    File(PathBuf),
    /// The value itself.
    Literal(String),
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        if let Some(name) = text.strip_prefix("env:") {
            Self::Env(name.to_owned())
        } else if let Some(path) = text.strip_prefix("file:") {
            Self::File(PathBuf::from(path))
        } else {
            Self::Literal(text)
        }
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl Secret {
    /// Reads the value.
    ///
    /// # Errors
    /// `C0215` if the variable is not set or the file cannot be read. `property` names the setting in that error.
    pub fn reveal(&self, property: &str) -> Result<String, Error> {
        let unreadable = |source: String, cause: String| {
            Error::new(SECRET_UNREADABLE, ErrorKind::Invalid, format!("the secret for {property} cannot be read"))
                .with("source", source)
                .because(cause)
        };
        match self {
            Self::Env(name) => std::env::var(name).map_err(|e| {
                unreadable(format!("env:{name}"), e.to_string())
                    .help(format!("set the environment variable {name}, or name a file by file:/path"))
            }),
            Self::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(e) => Err(unreadable(format!("file:{}", path.display()), e.to_string()).help("make the file readable for this user")),
            },
            Self::Literal(value) => Ok(value.clone()),
        }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Literal(_) => f.write_str(MASK),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a librdkafka property holds a secret: its value is masked in every output.
pub(crate) fn is_secret(property: &str) -> bool {
    const WORDS: [&str; 6] = ["password", "passphrase", "secret", "key.pem", "token", "sasl.oauthbearer.config"];
    // The endpoint is an address, and operators need to see it.
    property != "sasl.oauthbearer.token.endpoint.url" && WORDS.iter().any(|w| property.contains(w))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_is_masked_everywhere() {
        let secret = Secret::from("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.reveal("sasl.password").unwrap(), "hunter2");
    }

    #[test]
    fn sources_are_told_apart_and_named() {
        let secret = Secret::from("env:CATCHMENT_NO_SUCH_VARIABLE");
        assert_eq!(secret.to_string(), "env:CATCHMENT_NO_SUCH_VARIABLE");
        let error = secret.reveal("sasl.password").unwrap_err();
        assert_eq!(error.code, SECRET_UNREADABLE);
        assert!(error.message.contains("sasl.password"));

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "s p a c e \r\n").unwrap();
        let secret = Secret::from(format!("file:{}", path.display()));
        assert_eq!(secret.reveal("sasl.password").unwrap(), "s p a c e ");
    }

    #[test]
    fn secret_properties_are_known() {
        for p in ["sasl.password", "ssl.key.password", "sasl.oauthbearer.client.secret", "ssl.key.pem", "ssl.keystore.password"] {
            assert!(is_secret(p), "{p}");
        }
        for p in ["sasl.username", "sasl.oauthbearer.token.endpoint.url", "ssl.key.location", "client.id"] {
            assert!(!is_secret(p), "{p}");
        }
    }
}
