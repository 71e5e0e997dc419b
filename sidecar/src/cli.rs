//! The command line: run, ask whether it lives, say what there is. Exit codes: 0 done, 1 failed or ended by force, 2 usage or settings.

use crate::app;
use crate::settings::{HELP, Settings};
use crate::sidecar::Ended;
use anyhow::{Context as _, Result};
use std::ffi::OsString;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// How long a health check waits. Longer than a busy machine needs would only tell a container's engine later.
const HEALTH_WITHIN: Duration = Duration::from_secs(3);

/// Reads arguments and variables, runs, and says how it ended.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let args: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap_or("?")).collect();
    match args[..] {
        [] => with_settings(run),
        ["healthcheck"] => with_settings(healthcheck),
        ["--version" | "version"] => say(&format!("watchkeeper-sidecar {}\n", env!("CARGO_PKG_VERSION"))),
        ["--help" | "-h" | "help"] => say(HELP),
        [first, ..] => {
            eprintln!(
                "watchkeeper-sidecar: {} is not understood; it takes nothing, healthcheck, --version or --help",
                first.escape_debug()
            );
            ExitCode::from(2)
        }
    }
}

fn with_settings(then: fn(&Settings) -> Result<ExitCode>) -> ExitCode {
    match Settings::read(|name| std::env::var_os(name)) {
        Ok(settings) => then(&settings).unwrap_or_else(|error| {
            eprintln!("watchkeeper-sidecar: {error:#}");
            ExitCode::from(1)
        }),
        Err(problems) => {
            for problem in problems {
                eprintln!("watchkeeper-sidecar: {problem}");
            }
            ExitCode::from(2)
        }
    }
}

fn run(settings: &Settings) -> Result<ExitCode> {
    // What cannot be logged (a reader that went away) is lost, and nothing else.
    let log = tracing_subscriber::fmt().with_max_level(settings.log_level).with_writer(std::io::stderr).log_internal_errors(false);
    log.with_target(false).with_ansi(std::io::stderr().is_terminal()).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    Ok(match runtime.block_on(app::run(settings))? {
        Ended::Drained => ExitCode::SUCCESS,
        Ended::Forced => ExitCode::from(1),
    })
}

/// For containers without a shell: asks `/health` on this host.
fn healthcheck(settings: &Settings) -> Result<ExitCode> {
    let host = settings.address.filter(|address| !address.is_unspecified()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let address = SocketAddr::new(host, settings.port);
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, HEALTH_WITHIN)?;
        stream.set_read_timeout(Some(HEALTH_WITHIN))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        std::io::Result::Ok(status)
    };
    let status = ask().with_context(|| format!("asking http://{address}/health"))?;
    anyhow::ensure!(status == *b"HTTP/1.1 200", "http://{address}/health does not answer 200");
    Ok(ExitCode::SUCCESS)
}

fn say(text: &str) -> ExitCode {
    // A reader that closed the pipe has read what it wanted.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
