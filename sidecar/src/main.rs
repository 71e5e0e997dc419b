//! The `watchkeeper-sidecar` program: everything is in the library.

fn main() -> std::process::ExitCode {
    watchkeeper_sidecar::cli::main()
}
