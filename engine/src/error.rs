//! Errors as the operator sees them, and the codes that several places share.

pub mod codes;

pub use catchment_protocol::error::{Code, Error, ErrorKind, Result, nearest};
