//! Catchment backs up Kafka topics to object stores, exactly once per window.

pub mod alloc;
pub mod cli;
pub mod config;
pub mod error;
pub mod invariants;
pub mod lane;
pub mod source;
pub mod store;
pub mod verify;

pub use error::{Code, Error, ErrorKind, Result};
