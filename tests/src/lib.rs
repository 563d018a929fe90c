//! The harness of the tests that need more than one package: services, conformance suites, checkers.

pub mod store_conformance;
