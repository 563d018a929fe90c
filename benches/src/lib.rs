//! What the benches share: the floor, the bare drain, and the cost of processes.
//!
//! Everything is reported as a ratio to a floor that was measured in the same run; absolute times of shared machines mean little.

pub mod cost;
pub mod drain;
pub mod floor;
