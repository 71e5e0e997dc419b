//! Quantiles of a stream in a few hundred bytes: a DDSketch with 2 % relative error.

/// A DDSketch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sketch {}
