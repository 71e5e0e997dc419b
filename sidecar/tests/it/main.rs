//! The real sidecar as a process of its own, on free ports of this host.
//!
//! Order, counts and one-sided bounds; times are measured by `./prove drain` and `./prove sidecar`.

mod contract;
mod drain;
mod pod;
mod restart;
mod samples;
mod settings;

use pod::Sidecar;
use std::process::Command;

/// The command of the binary under test.
fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_watchkeeper-sidecar"))
}

/// A sidecar with these variables, and the folder that lives as long.
fn sidecar(variables: &[(&str, &str)]) -> (Sidecar, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    (Sidecar::start(binary(), folder.path(), variables), folder)
}
