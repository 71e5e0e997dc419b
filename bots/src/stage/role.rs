//! The program's roles as processes: with nothing set but what is said, and their log in a file.

use crate::names::BotId;
use anyhow::{Context as _, Result, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often something is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Of a log so many lines are told when its process has ended before its time.
const LINES_TOLD: usize = 5;

/// A running process; killed when dropped.
pub struct Role {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Drop for Role {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Role {
    /// Starts a role of the program; its log is a new file.
    pub fn start(program: &Path, role: &str, log: PathBuf, variables: &[(&str, &str)]) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg(role).env_clear().env("LISTEN_ADDRESS", "127.0.0.1").envs(variables.iter().copied());
        Self::of(command, role, log, Stdio::null())
    }

    /// Starts any command; its standard error and output are a new file.
    pub(super) fn of(mut command: Command, name: &str, log: PathBuf, input: Stdio) -> Result<Self> {
        let file = std::fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
        command.stdin(input).stdout(file.try_clone()?).stderr(file);
        // What is typed at the terminal is for who started it, who then ends this in good order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        Ok(Self { child, name: name.to_owned(), log })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self::signal(self.pid(), signal);
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("looking after {}", self.name))
    }

    /// Waits for its end; says no when it did not end in time.
    pub async fn end_within(&mut self, within: Duration) -> Result<Option<ExitStatus>> {
        let began = Instant::now();
        loop {
            let ended = self.ended()?;
            if ended.is_some() || began.elapsed() >= within {
                return Ok(ended);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Fails if it has ended.
    pub fn lives(&mut self) -> Result<()> {
        let Some(status) = self.ended()? else { return Ok(()) };
        let log = self.log();
        let lines: Vec<&str> = log.lines().filter(|line| !line.is_empty()).collect();
        // A panic is told at once, with where it was; else the end comes last.
        let from = lines.iter().position(|line| line.contains("panicked at")).unwrap_or(lines.len().saturating_sub(LINES_TOLD));
        let told: Vec<&str> = lines.into_iter().skip(from).take(LINES_TOLD).collect();
        bail!("{} has ended by itself ({status}): {}", self.name, told.join(" | "))
    }

    /// Its port and the port of its metrics, when it says that it listens.
    pub async fn ports(&mut self, within: Duration) -> Result<(u16, u16)> {
        let began = Instant::now();
        loop {
            if let Some(ports) = ports(&self.log()) {
                return Ok(ports);
            }
            self.lives()?;
            if began.elapsed() >= within {
                bail!("{} did not begin to listen within {} s", self.name, within.as_secs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn ports(log: &str) -> Option<(u16, u16)> {
    let line = log.lines().find_map(|line| line.split_once(": listening on "))?.1;
    let mut ports = line.split([' ', ',', ';']).filter_map(|word| word.rsplit_once(':')?.1.parse().ok());
    Some((ports.next()?, ports.next()?))
}

/// Sends a process a signal. It may have ended by itself.
pub fn signal(process: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The workers of a bot that run on this machine, whoever started them: those that have its id in their environment.
pub fn workers(bot: &BotId) -> Vec<u32> {
    let wanted = format!("BOT_ID={bot}");
    let is_one = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(is_one).collect()
}
