//! The harness of the tests that need more than one package: services, conformance suites, checkers.

pub mod s3;
pub mod store_conformance;
