//! Kafka, through librdkafka.
//!
//! Two kinds of client. **Reader clients** ([`KafkaCluster`]) have no group: each open partition is started at an absolute offset onto a
//! queue of its own and drained in batches ([`queue`]). The **group client** ([`KafkaGroup`]) subscribes, heartbeats and commits, and
//! never fetches. So neither a rebalance nor a pause can move a fetch position, and no record can land on another lane's queue.
//!
//! ```text
//!   KafkaConfig --config.rs--> properties --client.rs--> reader client(s) --queue.rs--> PartitionQueue   (consumer threads)
//!                                     \
//!                                      +--> group client --control thread--> GroupEvent, leases           (pipeline)
//!                                                       \--committer thread--> OffsetCommit                (commit protocol)
//! ```
//!
//! What the commit protocol rests on: leases die before a rebalance is answered and no sooner than a commit under way is over
//! ([`group`], [`committer`]); memberships that break this are refused ([`membership`]); the properties that matter are set by
//! [`config`] and refused from outside.

mod assignments;
mod client;
mod cluster;
mod committer;
pub mod config;
mod deadline;
pub mod errors;
mod group;
pub mod limits;
pub mod membership;
mod native;
pub mod practice;
mod queue;
pub mod secret;
mod slot;
mod token;

pub use cluster::{KafkaCluster, ReadShare, check_topic_name};
pub use config::{KafkaConfig, Mechanism, Preset, Sasl, Tls};
pub use group::{GroupHandle, Joined, KafkaGroup};
pub use secret::Secret;
