//! The configuration file.
pub mod decode;
pub mod tagged;
pub mod tree;
