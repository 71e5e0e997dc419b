//! Workers as processes of this machine.
//!
//! What is running is read from `/proc`, never remembered: every worker has the installation, its bot and its number in its environment.
//! So a manager that was killed finds its workers again, and none is started twice. A worker that is not needed gets SIGTERM, and SIGKILL
//! when it has had its grace and more. Workers outlive the manager: it may be updated while they work.

use super::failures::Failures;
use super::{Removed, Runtime, RuntimeError, Scaling};
use crate::manager::bot::{Bot, Places};
use crate::names::BotId;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After its grace a worker may take so much longer before it is killed. Less would race with its own end.
const KILL_AFTER_GRACE: Duration = Duration::from_secs(5);

/// More of a process's environment is not read: the mark of a worker with more is not found, so bots' variables are bounded far below.
const ENVIRONMENT_MAX: u64 = 128 * 1024;

/// What a worker is known by: installation, bot and number.
const OWNER: &str = "WATCHKEEPER_OWNER";
const MARK: &str = "WATCHKEEPER_OWNER=";

/// What a worker is started with: the program and its arguments.
pub type Program = Vec<String>;

/// A worker that is running.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    number: u32,
    pid: i32,
    /// When the process was started, in the kernel's ticks: with the pid it names one process for ever.
    ticks: u64,
}

/// A child of ours.
struct Ours {
    child: tokio::process::Child,
    bot: BotId,
    started: Instant,
}

/// What `/proc` does not say.
#[derive(Default)]
struct Memory {
    children: HashMap<i32, Ours>,
    /// Since when a worker was told to go.
    going: HashMap<(i32, u64), Instant>,
    failures: Failures,
}

/// The processes of this machine.
pub struct Processes {
    installation: String,
    programs: BTreeMap<String, Program>,
    places: Places,
    grace: Duration,
    memory: Mutex<Memory>,
}

impl Processes {
    /// Runs these programs by their names, told of these places.
    pub fn new(installation: &str, programs: BTreeMap<String, Program>, places: Places, grace: Duration) -> Self {
        Self { installation: installation.to_owned(), programs, places, grace, memory: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All workers of a bot, by their numbers.
    fn found(&self, bot: &BotId) -> Result<Vec<Found>, RuntimeError> {
        let again = |error: std::io::Error| RuntimeError::Again(format!("reading /proc: {error}"));
        let mut all = Vec::new();
        for entry in std::fs::read_dir("/proc").map_err(again)? {
            let Some(pid) = entry.map_err(again)?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // It may have ended meanwhile, or belong to somebody else.
            all.extend(self.look(pid, bot));
        }
        all.sort_by_key(|found| found.number);
        Ok(all)
    }

    fn look(&self, pid: i32, bot: &BotId) -> Option<Found> {
        let mark = mark(pid)?;
        let number = mark.strip_prefix(&self.of(bot))?.parse().ok()?;
        let Stat { ended, parent, ticks } = stat(pid)?;
        // What a worker has started has its environment, and is no worker.
        let worker = !ended && self::mark(parent).is_none_or(|of_parent| of_parent != mark);
        worker.then_some(Found { number, pid, ticks })
    }

    /// How the workers of a bot are marked, before their number.
    fn of(&self, bot: &BotId) -> String {
        format!("{}/{bot}/", self.installation)
    }

    fn start(&self, bot: &Bot, number: u32) -> Result<(), RuntimeError> {
        let Some((program, arguments)) = self.programs.get(&bot.image).and_then(|program| program.split_first()) else {
            return Err(RuntimeError::Never(format!("{} is no program of WORKERS", bot.image)));
        };
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).env_clear();
        for name in ["PATH", "HOME", "LANG", "TZ", "LOG_LEVEL", "KAFKA_SESSION_TIMEOUT_SECONDS"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("GRACE_PERIOD_SECONDS", self.grace.as_secs_f64().to_string());
        command.envs(bot.environment(&self.places)).env("BOT_TOKEN", bot.token.expose());
        command.env(OWNER, format!("{}{number}", self.of(&bot.id)));
        // A group of its own: what is typed at the manager's terminal is not for the workers.
        command.stdin(Stdio::null()).process_group(0).kill_on_drop(false);
        let child = command.spawn().map_err(|error| RuntimeError::Again(format!("starting {program}: {error}")))?;
        // Without a number it has ended already, and the next look starts another.
        let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else { return Ok(()) };
        tracing::info!("bot {}: worker {number} is started as process {pid}", bot.id);
        self.memory().children.insert(pid, Ours { child, bot: bot.id.clone(), started: Instant::now() });
        Ok(())
    }

    /// Tells a worker to go; ends it when it does not.
    fn stop(&self, bot: &BotId, worker: &Found) {
        let Found { number, pid, ticks } = *worker;
        let mut memory = self.memory();
        let signal = match memory.going.get(&(pid, ticks)) {
            None => {
                tracing::info!("bot {bot}: worker {number} (process {pid}) is told to go");
                memory.going.insert((pid, ticks), Instant::now());
                Signal::TERM
            }
            Some(since) if since.elapsed() >= self.grace + KILL_AFTER_GRACE => {
                tracing::error!("bot {bot}: worker {number} (process {pid}) did not end within its grace and is killed");
                Signal::KILL
            }
            Some(_) => return,
        };
        if let Some(pid) = Pid::from_raw(pid) {
            // It may have ended by itself.
            let _ = kill_process(pid, signal);
        }
    }

    /// Takes the ends of our children, and remembers whose workers fail to start.
    fn reap(&self) {
        let Memory { children, going, failures } = &mut *self.memory();
        children.retain(|pid, ours| {
            let lived = ours.started.elapsed();
            failures.lives(&ours.bot, lived);
            let Ok(Some(status)) = ours.child.try_wait() else { return true };
            if !going.keys().any(|(told, _)| told == pid) {
                tracing::warn!("bot {}: process {pid} has ended by itself after {:.1} s: {status}", ours.bot, lived.as_secs_f64());
                failures.ended(&ours.bot, lived, &status.to_string());
            }
            false
        });
        going.retain(|(pid, ticks), _| stat(*pid).is_some_and(|stat| stat.ticks == *ticks && !stat.ended));
    }

    fn split(&self, bot: &BotId) -> Result<(Vec<Found>, Vec<Found>), RuntimeError> {
        self.reap();
        let found = self.found(bot)?;
        let memory = self.memory();
        Ok(found.into_iter().partition(|worker| !memory.going.contains_key(&(worker.pid, worker.ticks))))
    }
}

#[async_trait::async_trait]
impl Runtime for Processes {
    fn scaling(&self) -> Scaling {
        Scaling::Here
    }

    fn check_image(&self, image: &str) -> Result<(), String> {
        if self.programs.contains_key(image) {
            return Ok(());
        }
        let known: Vec<&str> = self.programs.keys().map(String::as_str).collect();
        Err(format!("worker_image must be a program of WORKERS: {}", known.join(", ")))
    }

    async fn apply(&self, bot: &Bot, wanted: u32) -> Result<(), RuntimeError> {
        let (working, going) = self.split(&bot.id)?;
        for worker in working.iter().skip(wanted as usize).chain(&going) {
            self.stop(&bot.id, worker);
        }
        let missing = (wanted as usize).saturating_sub(working.len());
        if missing == 0 {
            return Ok(());
        }
        self.memory().failures.check(&bot.id)?;
        let taken: Vec<u32> = working.iter().chain(&going).map(|worker| worker.number).collect();
        for number in (0..).filter(|number| !taken.contains(number)).take(missing) {
            self.start(bot, number)?;
        }
        Ok(())
    }

    async fn ready(&self, bot: &BotId) -> Result<u32, RuntimeError> {
        Ok(self.split(bot)?.0.len() as u32)
    }

    async fn remove(&self, bot: &BotId) -> Result<Removed, RuntimeError> {
        let (working, going) = self.split(bot)?;
        working.iter().chain(&going).for_each(|worker| self.stop(bot, worker));
        if working.is_empty() && going.is_empty() {
            self.memory().failures.forget(bot);
            return Ok(Removed::Gone);
        }
        Ok(Removed::Going)
    }
}

struct Stat {
    ended: bool,
    parent: i32,
    ticks: u64,
}

/// What `/proc/PID/stat` says (proc(5)): the name may hold anything, the rest follows its last bracket.
fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    Some(Stat { ended: matches!(state, "Z" | "X"), parent: fields.next()?.parse().ok()?, ticks: fields.nth(17)?.parse().ok()? })
}

/// The mark of a worker, if it has one and is ours to read.
fn mark(pid: i32) -> Option<String> {
    let mut environment = Vec::new();
    std::fs::File::open(format!("/proc/{pid}/environ")).ok()?.take(ENVIRONMENT_MAX).read_to_end(&mut environment).ok()?;
    let mark = environment.split(|byte| *byte == 0).find_map(|line| line.strip_prefix(MARK.as_bytes()))?;
    String::from_utf8(mark.to_vec()).ok()
}
