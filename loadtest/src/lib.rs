//! Load for Kafka topics, and load tests of their backups.
//!
//! [`Records`] are what the benches send: JSON events with realistic entropy, a function of a seed. [`Payloads`] are the same events, each with a name and a
//! sum, so that a reader can say which record it has and whether it is whole.
//!
//! In the order of a test: [`produce`] sends a [`load`] on a [`schedule`], and a [`manifest`] says what of it was committed; [`catchment`] runs as a
//! child process and is watched by [`sampling`]; [`verify`](mod@verify) holds what it stored against the manifest by an [`audit`] of all payloads; [`report`] says
//! what came of it. [`run`](mod@run) is all of that.
//!
//! Guarantee: a throughput is never told of a backup that was not verified.
//!
//! Not done here: the engine is not linked in. It is measured as the program that is shipped.

pub mod audit;
pub mod catchment;
pub mod cli;
pub mod failure;
mod fill;
pub mod keys;
pub mod latency;
pub mod load;
pub mod manifest;
pub mod objects;
pub mod payload;
pub mod produce;
mod records;
pub mod report;
pub mod reread;
pub mod run;
pub mod sampling;
pub mod schedule;
pub mod topic;
pub mod units;
pub mod verify;

pub use fill::fill;
pub use payload::{Payload, Payloads};
pub use records::Records;
