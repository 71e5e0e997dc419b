//! When attempts are due.

/// When attempts of one monitor are due.
pub struct Cadence {}
