//! The commit protocol: how a window becomes an object exactly once.
//!
//! Its decisions are pure and stand in `catchment-protocol` ([`decision`](crate::decision)): what a failed publish means, what is found under a key, what to do
//! next. The files below carry them out: [`mod@env`] is what lanes share, [`driver`] a lane's life, [`recover`] its start (rules R1 to R7) with
//! [`late_complete`] (R5a), [`turns`] when it reads, [`follow`] a run of it, [`fault`] what
//! ends one, [`incarnation`] what a topic that is gone leaves to it, [`log`] what it asks of Kafka's log, [`assembly`] the parts of an open segment,
//! [`first_look`] what is asked before the first pin, [`pin`], [`publish`] and [`settle`] steps 3 to 5, [`sweep`] the uploads that nobody
//! will complete, [`offsets`] the OffsetCommits, [`anchors`] and [`control`] what the store remembers beside the objects; [`proof`] reads what an object
//! says of itself.
//!
//! The order that everything here keeps: an offset never moves before its object is durable, nothing becomes visible
//! before it was pinned, and an outcome that is not known is looked up, never guessed.

pub mod anchors;
pub mod assembly;
pub mod control;
pub mod driver;
pub mod env;
pub mod fault;
pub mod first_look;
pub mod follow;
pub mod incarnation;
pub mod late_complete;
pub mod log;
pub mod offsets;
pub mod pin;
pub mod proof;
pub mod publish;
pub mod recover;
pub mod settle;
pub mod sweep;
pub mod turns;
