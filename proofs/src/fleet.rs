//! Three processes on a PostgreSQL of their own, each by a link of its own, and what is done to them.

use crate::Setup;
use crate::audit;
use crate::child::{Guard, pause};
use crate::link::{Link, Way};
use crate::postgres::Postgres;
use crate::stats::Random;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use watchkeeper::clock::Clock;
use watchkeeper::store::{self, LeaseRow, Store};
use watchkeeper_core::Micros;

/// The nodes; each is a role of the database too.
pub const NODES: [&str; 3] = ["a", "b", "c"];
/// After a fault is over, everything is held by everybody again within this, or the proof ends.
const SETTLE_MAX: Duration = Duration::from_mins(2);
/// A stop in good order takes at most so long.
const STOP_MAX: Duration = Duration::from_secs(30);
/// How often the leases are looked at; what is measured is measured by the times of commits.
const LOOK: Duration = Duration::from_millis(100);
/// Every site and every verdict has so many shards.
const SHARDS: usize = 16;
/// What of them a node holds at least when all is as it should be.
const SHARE_MIN: usize = 2 * (SHARDS / NODES.len());
/// Something is frozen or cut off for this at least, and for up to so much longer: shorter and longer than a take-over waits.
const AWAY_MIN_MS: u64 = 2_000;
const AWAY_MORE_MS: u64 = 10_000;
/// Whatever was killed or stopped is started again after up to so long.
const DOWN_MAX_MS: u64 = 8_000;

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL.
    Killed,
    /// SIGSTOP, and SIGCONT later.
    Frozen,
    /// The connections to the database end, and no new one is let through.
    CutOff,
    /// The connections to the database fall silent.
    Silenced,
    /// SIGTERM.
    Stopped,
    /// SIGKILL to the database.
    DatabaseKilled,
    /// SIGINT to the database: a stop in good order that waits for nobody.
    DatabaseStopped,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Killed, Self::Frozen, Self::CutOff, Self::Silenced, Self::Stopped, Self::DatabaseKilled, Self::DatabaseStopped];

    /// One of them: what is measured most closely comes most often.
    pub const fn draw(random: &mut Random) -> Self {
        match random.below(20) {
            0..=4 => Self::Killed,
            5..=7 => Self::Frozen,
            8..=9 => Self::CutOff,
            10..=11 => Self::Silenced,
            12..=15 => Self::Stopped,
            16..=17 => Self::DatabaseKilled,
            _ => Self::DatabaseStopped,
        }
    }

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Killed => "node killed (SIGKILL)",
            Self::Frozen => "node frozen (SIGSTOP)",
            Self::CutOff => "node's link cut",
            Self::Silenced => "node's link silent",
            Self::Stopped => "node stopped (SIGTERM)",
            Self::DatabaseKilled => "PostgreSQL killed (SIGKILL)",
            Self::DatabaseStopped => "PostgreSQL stopped (SIGINT)",
        }
    }
}

/// One round.
#[derive(Clone, Debug)]
pub struct Struck {
    /// What happened.
    pub fault: Fault,
    /// To whom, if to a node.
    pub node: Option<&'static str>,
    /// When.
    pub begun: Micros,
    /// When everybody held everything again.
    pub settled: Micros,
}

struct Node {
    name: &'static str,
    file: PathBuf,
    link: Link,
    process: Option<Guard>,
}

/// The three, and their database.
pub struct Fleet<'a> {
    setup: &'a Setup,
    clock: Clock,
    /// The database, by no link.
    pub url: String,
    postgres: Postgres,
    nodes: Vec<Node>,
    runtime: Runtime,
    store: Arc<dyn Store>,
    /// Lives that are over: what they hold is held by nobody.
    dead: BTreeSet<String>,
    /// Processes that nobody ended, with their last words.
    pub fallen: Vec<String>,
}

impl<'a> Fleet<'a> {
    /// Starts them on what they have in common, and waits until everybody holds a share.
    pub fn start(setup: &'a Setup, dir: &Path, clock: &Clock, common: &str) -> Result<Self> {
        let postgres = Postgres::start_with(dir, &[audit::SETTING])?;
        let url = postgres.database("nodes")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let store = runtime.block_on(store::open(&url))?;
        runtime.block_on(audit::begin(&url, &NODES))?;
        let mut nodes = Vec::new();
        for name in NODES {
            let link = Link::to(postgres.port())?;
            let home = dir.join(name);
            std::fs::create_dir_all(&home)?;
            let file = home.join("watchkeeper.yaml");
            let head = format!(
                "server: {{ listen: \"127.0.0.1:0\" }}\nagent: {{ name: {name} }}\n\
                 store: {{ url: \"postgres://{name}@127.0.0.1:{}/nodes\", journal: \"{}\" }}\n",
                link.port,
                home.join("journal").display()
            );
            std::fs::write(&file, format!("{head}{common}"))?;
            nodes.push(Node { name, file, link, process: None });
        }
        let (dead, fallen) = (BTreeSet::new(), Vec::new());
        let mut fleet = Self { setup, clock: clock.clone(), url, postgres, nodes, runtime, store, dead, fallen };
        for nth in 0..NODES.len() {
            fleet.serve(nth)?;
        }
        fleet.settle()?;
        Ok(fleet)
    }

    /// Something happens, is over after a while, and everybody holds everything again.
    pub fn strike(&mut self, random: &mut Random) -> Result<Struck> {
        let fault = Fault::draw(random);
        let nth = random.below(NODES.len() as u64) as usize;
        let away = Duration::from_millis(AWAY_MIN_MS + random.below(AWAY_MORE_MS));
        let down = Duration::from_millis(random.below(DOWN_MAX_MS));
        self.dead.clear();
        if matches!(fault, Fault::Killed | Fault::Stopped) {
            self.bury(nth);
        }
        let begun = self.clock.now();
        let node = match fault {
            Fault::Killed => {
                self.nodes[nth].process = None;
                pause(down);
                self.serve(nth)?;
                Some(nth)
            }
            Fault::Stopped => {
                self.stop_one(nth)?;
                pause(down);
                self.serve(nth)?;
                Some(nth)
            }
            Fault::Frozen => {
                self.signal(nth, "STOP")?;
                pause(away);
                self.signal(nth, "CONT")?;
                Some(nth)
            }
            Fault::CutOff | Fault::Silenced => {
                self.nodes[nth].link.set(if fault == Fault::CutOff { Way::Ended } else { Way::Silent });
                pause(away);
                self.nodes[nth].link.set(Way::Open);
                Some(nth)
            }
            Fault::DatabaseKilled | Fault::DatabaseStopped => {
                self.postgres.down(if fault == Fault::DatabaseKilled { "KILL" } else { "INT" })?;
                pause(down);
                self.postgres.up()?;
                None
            }
        };
        self.settle().with_context(|| format!("after {} ({:?})", fault.name(), node.map(|nth| NODES[nth])))?;
        Ok(Struck { fault, node: node.map(|nth| NODES[nth]), begun, settled: self.clock.now() })
    }

    /// Stops them all in good order, and says what the integrity check finds.
    pub fn stop(&mut self) -> Result<Vec<String>> {
        for nth in 0..NODES.len() {
            self.stop_one(nth)?;
        }
        let found = self.runtime.block_on(self.store.verify())?;
        self.runtime.block_on(self.store.close());
        Ok(found)
    }

    fn stop_one(&mut self, nth: usize) -> Result<()> {
        if let Some(process) = self.nodes[nth].process.take()
            && !process.stop(STOP_MAX)?
        {
            self.fallen.push(format!("{} did not stop in good order: {}", NODES[nth], self.last_words(nth)));
        }
        Ok(())
    }

    /// Notes the present life of a node as one that may end now.
    fn bury(&mut self, nth: usize) {
        let scope = format!("agent/{}", NODES[nth]);
        self.dead = self.leases().into_iter().filter(|row| row.scope == scope).map(|row| row.holder).collect();
    }

    /// What is held, if the database says.
    fn leases(&self) -> Vec<LeaseRow> {
        let mut rows = self.runtime.block_on(self.store.leases()).unwrap_or_default();
        rows.retain(|row| !row.holder.is_empty());
        rows
    }

    /// Whether all that came of the fault is told: what follows comes of the next one.
    fn told(&self) -> bool {
        self.runtime.block_on(async {
            let acts = self.store.unfolded_actions(1).await.is_ok_and(|acts| acts.is_empty());
            acts && self.store.outbox_depth().await.is_ok_and(|depth| depth.waiting == 0)
        })
    }

    /// Waits until every shard is held, every node holds its share, and everything is told. A process that ended by itself is noted, and started again as a
    /// supervisor would.
    fn settle(&mut self) -> Result<()> {
        let end = Instant::now() + SETTLE_MAX;
        loop {
            let rows = self.leases();
            let shards: Vec<&LeaseRow> =
                rows.iter().filter(|row| row.scope.starts_with("site/") || row.scope.starts_with("verdict/")).collect();
            let share = |name: &&str| shards.iter().filter(|row| row.holder.split('#').next() == Some(name)).count();
            let living = rows.iter().all(|row| !self.dead.contains(&row.holder));
            if living && shards.len() == 2 * SHARDS && NODES.iter().all(|name| share(name) >= SHARE_MIN) && self.told() {
                return Ok(());
            }
            for (nth, name) in NODES.into_iter().enumerate() {
                let ended = match &mut self.nodes[nth].process {
                    Some(process) => process.0.try_wait()?,
                    None => continue,
                };
                if let Some(status) = ended {
                    self.fallen.push(format!("{name} ended by itself, {status}: {}", self.last_words(nth)));
                    self.bury(nth);
                    self.serve(nth)?;
                }
            }
            anyhow::ensure!(Instant::now() < end, "not everything was held by everybody within {} s: {rows:?}", SETTLE_MAX.as_secs());
            pause(LOOK);
        }
    }

    fn serve(&mut self, nth: usize) -> Result<()> {
        let node = &mut self.nodes[nth];
        let log = std::fs::OpenOptions::new().create(true).append(true).open(node.file.with_extension("log"))?;
        let mut command = Command::new(&self.setup.binary);
        command.args(["serve", "--config"]).arg(&node.file).current_dir(node.file.parent().context("a file is in a folder")?);
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().with_context(|| format!("starting {}", node.name))?;
        node.process = Some(Guard(child));
        Ok(())
    }

    fn signal(&self, nth: usize, signal: &str) -> Result<()> {
        let Some(process) = &self.nodes[nth].process else { return Ok(()) };
        let sent = Command::new("kill").args([&format!("-{signal}"), &process.pid().to_string()]).status().context("running kill")?;
        anyhow::ensure!(sent.success(), "{} is not there to be sent SIG{signal}", NODES[nth]);
        Ok(())
    }

    fn last_words(&self, nth: usize) -> String {
        let log = std::fs::read_to_string(self.nodes[nth].file.with_extension("log")).unwrap_or_default();
        log.lines().last().unwrap_or("it said nothing").to_owned()
    }
}
