//! The configuration file.
pub mod decode;
