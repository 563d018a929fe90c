//! Catchment backs up Kafka topics to object stores, exactly once per window.
//!
//! ```text
//!            control thread: polls; membership, rebalance             COMMITTER: takes the locks of the lanes that are due, one
//!                 |  assign / revoke (takes the lanes' locks)         synchronous OffsetCommit for all of them
//!                 v                                                                ^
//! librdkafka -> CONSUMER (pinned thread, lanes) --blocks--> BUILDER (windows) --parts--> LANE (task: pin, publish, settle, tidy) -> store
//!   queues        drains in batches into blocks               encodes, compresses,
//!                 decides where windows end                   cuts parts
//!                        ^                                                              |
//!                        +---------- MemoryBudget: reserved before draining, given back after the upload ----------+
//! ```
//!
//! Modules in the order of the data: [`source`] yields records, [`window`] says where windows end, [`reader`] and [`consumer`] fill
//! blocks, [`builder`] encodes them, [`commit`] makes objects of them in a [`store`]. [`pipeline`] puts the stages together.

pub mod alloc;
mod blocking;
pub mod blocks;
pub mod budget;
pub mod builder;
#[cfg(all(feature = "kafka", feature = "s3"))]
pub mod cli;
pub mod clock;
pub mod commit;
pub mod config;
pub mod consumer;
pub mod crash;
pub mod definition;
pub mod descriptors;
pub mod encoding;
pub mod error;
#[cfg(feature = "kafka")]
mod https;
pub mod limits;
pub mod memory;
pub mod metrics;
#[cfg(all(feature = "kafka", feature = "s3"))]
mod otlp;
mod panics;
pub mod pipeline;
#[cfg(all(feature = "kafka", feature = "s3"))]
pub mod preflight;
pub mod pressure;
pub mod reader;
pub mod report;
mod retention;
pub mod rule;
#[cfg(all(feature = "kafka", feature = "s3"))]
pub mod runtime;
pub mod segment;
#[cfg(all(feature = "kafka", feature = "s3"))]
pub mod service;
pub mod source;
pub mod stages;
pub mod store;
pub mod text;
pub mod threads;
#[cfg(all(feature = "kafka", feature = "s3"))]
mod tls;
pub mod topics;
pub mod verify;

pub use catchment_protocol::{corrupt, decision, faults, intent, invariants, lane, position, proof, sabotage, sights, strays, window};
pub use error::{Code, Error, ErrorKind, Result};
