//! Integration tests: one binary, one module per behaviour.

mod channels;
mod config_files;
mod support;
mod zoo_tls;
