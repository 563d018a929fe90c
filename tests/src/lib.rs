//! The harness of Catchment's tests: real services, data whose every byte is known, the truth about what a broker holds, and
//! the program under test as a process.
//!
//! | module | what a test gets from it |
//! | --- | --- |
//! | [`services`] | a real Kafka, a real MinIO and a token endpoint, shared or of the test's own, to be killed and frozen |
//! | [`generate`] | records that are a function of (seed, topic, partition, sequence), and producers of every kind |
//! | [`admin`] | topics, retention, group offsets: what an operator or an accident does to a cluster |
//! | [`oracle`] | what a topic really holds, read by a client of its own, and the comparison with what was stored |
//! | [`readers`] | the same comparison by programs that share no code with Catchment |
//! | [`bucket`] | a bucket seen by another client than the engine's |
//! | [`s3`] | an S3 service with the manners of AWS, COS or MinIO, with faults on demand |
//! | [`s3_cells`] | everything that can go wrong with every request of a backup |
//! | [`phases`] | an S3 service that survives the program, and where each lane stands |
//! | [`proxy`] | a slow, hanging or cut connection between the program and a service |
//! | [`model`] | the commit protocol as a model, every state of which is visited |
//! | [`simulation`] | the pipeline on a scripted Kafka, a failing store and a simulated clock, by seed |
//! | [`sabotage`] | runs of the layers without a guard, each of which must be seen |
//! | [`scripted`] | Kafka without a broker, for tests that drive the pipeline itself |
//! | [`rig`] | the pipeline over any store and by a clock that jumps, for tests that do something to it themselves |
//! | [`memory_store`] | a store in memory from which somebody has taken something |
//! | [`gate`] | a moment that others wait for |
//! | [`tether`] | a store that a process loses with its life |
//! | [`source`] | the engine's own Kafka source, driven by hand |
//! | [`store_conformance`] | what every object store must do |
//! | [`bed`] | a topic, a place and a rule together, for tests of the whole program |
//! | [`exhaustion`] | a process that runs out of memory, disk or file descriptors, or meets another one of its name |
//! | [`crashes`] | the program killed and frozen at every named point of the commit protocol |
//! | [`kills`] | instances that are killed or frozen in every phase of a window |
//! | [`rules_service`] | `catchment serve` as a process, and the command line that talks to it |
//! | [`three_ways`] | an action by command line, API and console |
//! | [`tls`] | certificates of its own authority, and a client that shows and trusts what it is told to |
//! | [`browser`] | a headless Chromium, for the console |
//! | [`console_pages`] | what every page of the console must be, asked of that browser |
//! | [`load_test_reports`] | a directory of reports of load tests |
//! | [`many_rules`] | a service with a thousand rules |
//! | [`collector`] | a collector of OpenTelemetry, and what it was sent |
//! | [`openmetrics`] | the text of `/metrics`, taken apart |
//! | [`process`] | the `catchment` binary as a child: arguments, output, signals, memory |
//!
//! Nothing here skips: a service that cannot be had fails the test that asked for it. `docs/TESTING.md` names the environment
//! variables that point the harness at servers that already run.

pub mod admin;
pub mod bed;
pub mod broker;
pub mod browser;
pub mod bucket;
pub mod collector;
pub mod console_pages;
pub mod crashes;
pub mod exhaustion;
pub mod gate;
pub mod generate;
pub mod kafka_cells;
pub mod kills;
pub mod load_test_reports;
pub mod many_rules;
pub mod memory_store;
pub mod model;
mod native;
mod no_loss;
pub mod openmetrics;
pub mod oracle;
pub mod phases;
pub mod process;
pub mod proxy;
pub mod readers;
pub mod rig;
pub mod rules_service;
pub mod s3;
pub mod s3_cells;
pub mod sabotage;
pub mod scripted;
pub mod services;
pub mod simulation;
mod sockets;
pub mod source;
pub mod stopwatch;
pub mod store_conformance;
pub mod tether;
pub mod three_ways;
pub mod tls;
