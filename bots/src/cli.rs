//! The command line: one word is the role. Exit codes: 0 done, 1 failed, 2 usage or settings.

use crate::settings::{self, Common, HELP};
use crate::{echo, gateway, manager};
use anyhow::{Context as _, Result};
use std::ffi::OsString;
use std::future::Future;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Reads arguments and variables, runs, and says how it ended.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let args: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap_or("?")).collect();
    let variable = |name: &str| std::env::var_os(name);
    match args[..] {
        ["gateway"] => with(settings::Gateway::read(variable), |s| s.common.clone(), gateway::run),
        ["manager"] => {
            let own = std::env::current_exe().unwrap_or_else(|_| "watchkeeper-bots".into());
            with(settings::Manager::read(variable, &own), |s| s.common.clone(), manager::run)
        }
        ["echo"] => with(settings::Echo::read(variable), |s| s.common.clone(), echo::run),
        ["--version" | "version"] => say(&format!("watchkeeper-bots {}\n", env!("CARGO_PKG_VERSION"))),
        ["--help" | "-h" | "help"] => say(HELP),
        [] => usage("a role is missing"),
        [first, ..] => usage(&format!("{} is not understood", first.escape_debug())),
    }
}

fn usage(what: &str) -> ExitCode {
    eprintln!("watchkeeper-bots: {what}; it takes gateway, manager, echo, --version or --help");
    ExitCode::from(2)
}

/// Runs a role until a signal comes or it fails.
fn with<S, F: Future<Output = Result<()>>>(
    settings: Result<S, Vec<String>>,
    common: fn(&S) -> Common,
    run: fn(S, CancellationToken) -> F,
) -> ExitCode {
    let settings = match settings {
        Ok(settings) => settings,
        Err(problems) => {
            for problem in problems {
                eprintln!("watchkeeper-bots: {problem}");
            }
            return ExitCode::from(2);
        }
    };
    let common = common(&settings);
    // What cannot be logged (a reader that went away) is lost, and nothing else.
    let log = tracing_subscriber::fmt().with_max_level(common.log_level).with_writer(std::io::stderr).log_internal_errors(false);
    log.with_target(false).with_ansi(std::io::stderr().is_terminal()).init();
    let ended = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime").and_then(|runtime| {
        let ended = runtime.block_on(async {
            let stop = CancellationToken::new();
            let asked = CancellationToken::new();
            let signals = tokio::spawn(signals(stop.clone(), asked.clone())?);
            let ended = run(settings, stop).await;
            signals.abort();
            // A role that ends without being asked has failed, whatever it says.
            ended.and_then(|()| if asked.is_cancelled() { Ok(()) } else { anyhow::bail!("it has ended by itself") })
        });
        // What still waits for brokers that are away is waited for no more.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(1)
        }
    }
}

fn signals(stop: CancellationToken, asked: CancellationToken) -> Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    Ok(async move {
        let name = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        };
        tracing::info!("{name}: beginning nothing more, ending what is in hand");
        asked.cancel();
        stop.cancel();
    })
}

fn say(text: &str) -> ExitCode {
    // A reader that closed the pipe has read what it wanted.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
