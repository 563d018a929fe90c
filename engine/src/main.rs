//! The `catchment` binary.
fn main() {}
