//! The pinned-key protocol as a model whose every state is visited.
//!
//! ```text
//!  setting ──► protocol: actions of a state, and what each does ──► search (stateright) ──► report, page
//!              group │ lane: recover, publish │ store                    ▲
//!                    └───── bridge ─────► the engine's decisions         └── properties ─► the engine's invariants
//! ```
//!
//! Up to three workers share one or two lanes of one to three records: single PUTs and multipart uploads, replies that are lost, requests
//! that take effect late and again, workers that die or freeze and go on as zombies, retention, compaction, an outage longer than the
//! upload deadline, a group whose offsets are forgotten or go back; in stores with an atomic guard (A), a racy one (B) and none (C). Faults
//! are bounded by each [`setting`], and each is explored to exhaustion.
//!
//! What is decided in production by a pure function is decided here by the same one ([`bridge`]): what an object under a key is, what follows an
//! answer, what an intent's text says, what retention took since a pin. The steps between them are written out in [`recover`] and
//! [`publish`], in the order of the engine's files of those names.
//!
//! Left out: the claim of a topic's directory by another rule, re-created and truncated topics, corrupt batches, records beside raw objects,
//! encodings that a build lacks. `docs/design/model.md` says what that means, and what the model found.

pub mod action;
mod bridge;
mod group;
pub mod mutants;
pub mod properties;
pub mod protocol;
mod publish;
mod recover;
pub mod report;
pub mod search;
pub mod setting;
pub mod settings;
pub mod state;
mod store;
mod tell;

pub use report::{ModelReport, run};
pub use settings::Effort;
