//! Integration tests: one binary, one module per behaviour.

mod any_bytes;
mod channels;
mod config_files;
mod phases;
mod support;
mod zoo_http;
mod zoo_tls;
