//! What can be wrong with bytes or names that come from outside.

use std::fmt;

/// An error of this crate. Our own bugs are assertions instead.
#[derive(Debug)]
#[non_exhaustive]
pub enum FormatError {
    /// An encoding's text form that this build does not know.
    UnknownEncoding(String),
    /// Bytes that are not what their format or their proof says.
    Corrupt(String),
    /// Reading the bytes failed.
    Io(std::io::Error),
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownEncoding(text) => write!(f, "unknown encoding {text:?}"),
            Self::Corrupt(what) => write!(f, "corrupt object: {what}"),
            Self::Io(e) => write!(f, "cannot read the object: {e}"),
        }
    }
}

impl std::error::Error for FormatError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(e) => Some(e),
            _ => None,
        }
    }
}

impl From<std::io::Error> for FormatError {
    fn from(e: std::io::Error) -> Self {
        Self::Io(e)
    }
}
