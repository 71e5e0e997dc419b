//! The command line: one word is the role, or the demo. Exit codes: 0 done, 1 failed, 2 usage or settings.

use crate::settings::{self, Common, HELP};
use crate::{demo, echo, gateway, manager};
use anyhow::{Context as _, Result};
use std::ffi::OsString;
use std::future::Future;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What it takes.
const TAKEN: &str = "it takes gateway, manager, echo, demo, --version or --help";

/// How often a process looks whether the one that started it is still there.
const PARENT_EVERY: Duration = Duration::from_millis(250);

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
        ["demo", ref options @ ..] => match demo::Options::read(options) {
            Ok(options) => play(options),
            Err(problem) => usage(&problem),
        },
        ["--version" | "version"] => say(&format!("watchkeeper-bots {}\n", env!("CARGO_PKG_VERSION"))),
        ["--help" | "-h" | "help"] => say(HELP),
        [] => usage(&format!("a role is missing; {TAKEN}")),
        [first, ..] => usage(&format!("{} is not understood; {TAKEN}", first.escape_debug())),
    }
}

fn usage(what: &str) -> ExitCode {
    eprintln!("watchkeeper-bots: {what}");
    ExitCode::from(2)
}

/// Runs the demo, which is its own screen: nothing is logged.
fn play(options: demo::Options) -> ExitCode {
    let played = running(async |stop, _| demo::run(options, stop).await);
    played.unwrap_or_else(|error| {
        eprintln!("watchkeeper-bots: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs something, with the tokens that a signal cancels: that it is to stop, and that somebody asked for it.
fn running<T>(run: impl AsyncFnOnce(CancellationToken, CancellationToken) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let ended = runtime.block_on(async {
        let (stop, asked) = (CancellationToken::new(), CancellationToken::new());
        let signals = tokio::spawn(signals(stop.clone(), asked.clone())?);
        let ended = run(stop, asked).await;
        signals.abort();
        ended
    });
    // What still waits for brokers that are away is waited for no more.
    runtime.shutdown_background();
    ended
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
    let ended = running(async |stop, asked| {
        if let Some(parent) = common.parent {
            tokio::spawn(end_with(parent));
        }
        run(settings, stop).await?;
        // A role that ends without being asked has failed, whatever it says.
        if asked.is_cancelled() { Ok(()) } else { anyhow::bail!("it has ended by itself") }
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(1)
        }
    }
}

/// Ends this process when its parent is not that one: nobody is there any more to whom it would matter how.
async fn end_with(parent: u32) {
    while std::os::unix::process::parent_id() == parent {
        tokio::time::sleep(PARENT_EVERY).await;
    }
    tracing::error!("process {parent}, which started this one, has ended");
    std::process::exit(1);
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
