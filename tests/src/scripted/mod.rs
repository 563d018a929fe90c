//! Kafka without a broker, for tests that drive the production pipeline: a cluster whose records are a function of (seed, topic,
//! partition, offset), and a consumer group that keeps commits and fences as a coordinator does.
//!
//! | module | what it stands for |
//! | --- | --- |
//! | [`log`] | one partition: records and holes, leader epochs, retention, truncation, compaction |
//! | [`cluster`] | topics; the engine's [`Source`](catchment::source::Source) |
//! | [`group`] | the coordinator: members, generations, committed offsets, the log of what was accepted |
//! | [`member`] | one client of the group: leases and rule A1; the engine's [`Group`](catchment::source::Group) |
//! | [`clock`] | time that runs faster than the machine's |
//! | [`order`] | which of two events came first, over services |
//!
//! But for the clock, nothing here has a thread, a socket or a timer: everything happens in the calls of the test and of the engine, so that a
//! simulation on one thread is repeated by its seed.

pub mod clock;
pub mod cluster;
pub mod group;
pub mod log;
pub mod member;
pub mod order;
mod queue;
