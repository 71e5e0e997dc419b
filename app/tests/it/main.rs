//! Integration tests: one binary, one module per behaviour.
fn main() {}
