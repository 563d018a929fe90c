//! Kafka, through librdkafka.
//!
//! Two kinds of client. **Reader clients** ([`KafkaCluster`]) have no group: each open partition is started at an absolute offset onto a
//! queue of its own and drained in batches ([`queue`]). The **group client** ([`KafkaGroup`]) subscribes, heartbeats and commits, and
//! never fetches. So neither a rebalance nor a pause can move a fetch position, and no record can land on another lane's queue.
//!
//! ```text
//!   KafkaSettings --properties.rs--> ClientProperties --client.rs--> reader client(s) --queue.rs--> PartitionQueue   (consumer threads)
//!                                              \
//!                                               +--> group client --control thread--> GroupEvent, leases           (pipeline)
//!                                                                \--committer thread--> OffsetCommit                (commit protocol)
//! ```
//!
//! What the commit protocol rests on: leases die before a rebalance is answered and no sooner than a commit under way is over
//! ([`group`], [`committer`]); memberships that break this are refused ([`membership`]); the properties that matter are set by
//! [`properties`] and refused from outside.

mod assignments;
mod client;
mod cluster;
mod committer;
mod control;
mod deadline;
pub mod errors;
mod fetching;
mod first_contact;
mod group;
mod heartbeat;
pub mod limits;
pub mod membership;
mod message;
mod native;
mod offload;
mod opening;
pub mod practice;
pub mod properties;
mod queue;
mod slot;
mod token;
mod topics;
mod unfolding;

pub use cluster::KafkaCluster;
pub use fetching::ReadShare;
pub use group::{GroupHandle, Joined, KafkaGroup};
pub use topics::check_topic_name;
