//! The configuration file.
pub mod decode;
pub mod tree;
