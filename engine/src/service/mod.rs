//! `catchment serve`: rules that are kept, run side by side, and changed while they run.
//!
//! Place in the flow: around [`runtime`](crate::runtime), which runs one rule. [`api`] is the REST surface and [`files`] the rules of files; [`definition`]
//! turns what either gives into a plan, [`changes`] (of what rules name, [`connections`]; of what goes with a rule, [`deletion`] and [`releases`]) makes it so: [`state`] keeps rules, their versions and what became of them in SQLite, the
//! [`supervisor`] runs a rule for as long as it is wanted and says what it is doing, the [`observer`] hands what its lanes report to the [`journal`].
//! [`inspection`] answers questions about clusters and stores, [`verification`] reads again what was stored, [`series`] remembers how fast that went,
//! [`metrics`] shows what is counted, [`load_tests`] what load tests have found. [`workers`] are processes on other machines that run rules of this one too, each by [`worker`]. The console shows
//! all of it to people; [`web`] stands before it and the API, [`tokens`] says who may come in, and [`own_files`] what no token leads to.
//!
//! Guarantees: a rule that is wanted runs again after a restart, one that is paused does not; no rule is changed but by a version that is written down
//! first; a rule that cannot run keeps no other from running. What is stored and committed is the pipeline's matter alone: nothing here decides about
//! records, and a state file that is lost loses no record.

pub mod api;
pub mod changes;
pub mod connections;
pub mod console;
pub mod definition;
pub mod deletion;
pub mod files;
pub mod inspection;
pub mod journal;
pub mod load_tests;
pub mod metrics;
pub mod observer;
pub mod orders;
mod orphans;
pub mod own_files;
pub mod portable;
pub mod releases;
mod rooms;
pub mod series;
pub mod state;
pub mod supervisor;
pub mod tokens;
pub mod verification;
pub mod web;
pub mod worker;
pub mod workers;

/// Where a service is called that nobody has said a place of.
pub const ADDRESS_DEFAULT: &str = "http://127.0.0.1:8520";
