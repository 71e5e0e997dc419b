//! The command line: what can be asked for, and how a command ends.
//!
//! Each command is a few lines over the same library that `serve` uses; nothing is decided here. What a command
//! answers goes to standard output, what went wrong to standard error. Exit codes: 0 done, 1 failed, 2 usage or
//! configuration.

pub mod client;
mod commands;
pub mod dead_letters;
mod ids;
pub mod incident;
mod key;
mod log;
mod page;
mod people;
mod probe;
mod routes;
pub mod serve;
pub mod silence;
pub mod status;
pub mod store;
pub mod term;
mod uptime_o;
mod user;
pub mod waterfall;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// Watches services and keeps them up.
#[derive(Debug, Parser)]
#[command(name = "watchkeeper", version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch, decide, tell: run as a service
    Serve(commands::ConfigArgs),
    /// Show what it does, on a small fleet of its own: no account, no network, no configuration
    Demo,
    /// Show what a running server holds to be true
    Status(commands::StatusArgs),
    /// Incidents: what is wrong, what is known about it, who was told, and what you do about it
    #[command(subcommand)]
    Incident(people::IncidentCommand),
    /// Silences: have nobody told of something until they end
    #[command(subcommand)]
    Silence(people::SilenceCommand),
    /// What could not be delivered
    DeadLetters(people::DeadLettersArgs),
    /// Make one attempt and show where the time went
    Probe(probe::Args),
    /// Check a configuration, or print the default one
    #[command(subcommand)]
    Config(commands::ConfigCommand),
    /// Try a channel
    #[command(subcommand)]
    Channel(commands::ChannelCommand),
    /// Make API tokens
    #[command(subcommand)]
    Token(commands::TokenCommand),
    /// People who may sign in
    #[command(subcommand)]
    User(user::UserCommand),
    /// The keys that seal secrets in the store
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Move an installation to another store
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Make the tables of a system that this one takes the place of, where they are not there
    SeedSchema(uptime_o::SchemaArgs),
    /// Ask a running server whether it lives, for containers
    Healthcheck(commands::ConfigArgs),
    /// Print the version
    Version,
}

/// How a command ended, if not well.
#[derive(Debug)]
pub enum Ended {
    /// It was done and the answer is no, which has been said: exit code 1.
    No,
    /// It could not be done: exit code 1.
    Failed(anyhow::Error),
    /// It was asked wrongly, or the configuration is wrong: exit code 2.
    Usage(anyhow::Error),
}

impl From<anyhow::Error> for Ended {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<std::io::Error> for Ended {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Reads the arguments, runs the command, and says how it ended.
pub fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo => serve::demo(),
        Command::Status(args) => on_one_thread(commands::status(args)),
        Command::Incident(command) => on_one_thread(people::incident(command)),
        Command::Silence(command) => on_one_thread(people::silence(command)),
        Command::DeadLetters(args) => on_one_thread(people::dead_letters(args)),
        Command::Probe(args) => on_one_thread(probe::run(args)),
        Command::Config(command) => commands::config(command),
        Command::Channel(commands::ChannelCommand::Test(args)) => on_one_thread(commands::channel_test(args)),
        Command::Token(commands::TokenCommand::Create(args)) => on_one_thread(commands::token_create(args)),
        Command::User(command) => on_one_thread(user::run(command)),
        Command::Key(command) => key::run(&command),
        Command::Store(store::StoreCommand::Copy(args)) => on_one_thread(store::copy(args)),
        Command::SeedSchema(args) => on_one_thread(uptime_o::seed_schema(args)),
        Command::Healthcheck(args) => on_one_thread(commands::healthcheck(args)),
        Command::Version => say(&format!("watchkeeper {}\n", env!("CARGO_PKG_VERSION"))),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended::No) => ExitCode::from(1),
        Err(Ended::Failed(error)) => complain(&error, 1),
        Err(Ended::Usage(error)) => complain(&error, 2),
    }
}

/// One error with its whole chain of causes, on one line.
fn complain(error: &anyhow::Error, code: u8) -> ExitCode {
    // Nobody reading standard error is no reason to end differently.
    let _ = writeln!(std::io::stderr(), "watchkeeper: {error:#}");
    ExitCode::from(code)
}

/// Writes an answer. A reader that has gone away (`| head`) is not a failure.
fn say(text: &str) -> Result<(), Ended> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// For commands that make a call or two: more threads would cost more than they do.
fn on_one_thread(work: impl Future<Output = Result<(), Ended>>) -> Result<(), Ended> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn arguments_are_well_formed() {
        super::Cli::command().debug_assert();
    }
}
