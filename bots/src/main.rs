//! The `watchkeeper-bots` program: everything is in the library.

fn main() -> std::process::ExitCode {
    watchkeeper_bots::cli::main()
}
