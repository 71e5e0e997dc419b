//! Heartbeats on their way into `api_heartbeats`: one node of a datacenter adds them, under a lease.
//!
//! It sees what the engine has committed, reads it, and adds what is not there yet. How far it has come is a time: everything older has been
//! added. Behind that time it remembers what it added, and whoever takes the lease over reads that from `api_heartbeats` itself; so
//! a heartbeat that is committed late is still added, and none is added twice. The rows and the time are written in one transaction,
//! which first looks whether the lease is still ours; where it is not known whether it has landed, the rows are looked for.
//! It never holds up the engine: while nothing can be added, heartbeats wait where they are stored anyway.

use super::heartbeat;
use super::mapping::table_id_of;
use super::source::{NoSource, Place};
use crate::clock::Clock;
use crate::lease::Leases;
use crate::live::Live;
use crate::spec::Fleet;
use crate::store::uptime_o::{Added, ApiHeartbeat, Unmirrored, UptimeODatabase, Waiting};
use crate::store::{Fence, StoreError};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchkeeper_core::{DatacenterId, Dur, Micros, MonitorId, Outcome};

/// How often it is looked for new heartbeats: with the quarter of a second that a commit waits for company, a row is there within a
/// second. More often asks the database for nothing.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often everything is looked through that is not settled yet, for heartbeats that were committed late, or by another node.
const SWEEP_EVERY: Duration = Duration::from_secs(15);
/// After so long without a failure a heartbeat of that age is there if it ever will be: an attempt takes at most five minutes.
const SETTLED_AFTER: Dur = Dur::secs(600);
/// So long everything must have gone well before that counts: the engine may still be catching up with an outage.
const STEADY_FOR: Duration = Duration::from_secs(120);
/// So many heartbeats are looked at, and added, at once. More make one transaction long, fewer make a long outage take longer.
const KEYS_MAX: i64 = 20_000;
const ROWS_MAX: usize = 250;
/// Pauses between attempts that fail.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// What is left at the end is added within this, or by the next node.
const LAST: Duration = Duration::from_secs(3);

/// A free lease is taken sooner, and one that was ours shows no life any more; what does after so long is another instance's.
const WAITS_AFTER: Duration = Duration::from_secs(3);

/// The lease under which heartbeats of a datacenter are added.
pub fn scope(datacenter: i64) -> String {
    format!("uptime-o/{datacenter}")
}

/// The task that adds them.
pub struct Mirror {
    /// Where they are added.
    pub database: UptimeODatabase,
    /// The datacenter, by its number in the tables.
    pub place: Place,
    /// The datacenter's id of ours.
    pub datacenter: DatacenterId,
    /// Whether it is ours to add them.
    pub leases: Leases,
    /// UTC.
    pub clock: Clock,
    /// What was there before is nobody's to add.
    pub since: Micros,
    /// The newest heartbeats that were committed here: looking for them in the database would cost it more than making them.
    pub live: Live,
    /// Which monitors they belong to.
    pub fleet: watch::Receiver<Fleet>,
}

/// For how long the lease has been another's.
struct Waits {
    since: Instant,
    told: bool,
}

/// How far it has come, for as long as the lease is ours.
struct Progress {
    fence: Fence,
    /// Everything older has been added.
    until: Micros,
    /// What has been added since, or needs no row.
    done: BTreeSet<(Micros, i64)>,
    /// A batch was sent, and it is not known whether it has landed.
    unclear: bool,
    steady_since: Instant,
    /// When everything had been looked through and added last.
    swept: Option<Instant>,
}

impl Progress {
    fn finish(&mut self, monitor: i64, at: Micros) {
        self.done.insert((at, monitor));
    }

    /// Those of them that are still to be added.
    fn without_done(&self, found: Vec<(i64, Micros)>) -> Vec<(i64, Micros)> {
        found.into_iter().filter(|(monitor, at)| !self.done.contains(&(*at, *monitor))).collect()
    }

    /// Moves the time behind which nothing is looked at any more. Everything that was found must have been added.
    fn settle(&mut self, now: Micros) {
        if self.steady_since.elapsed() >= STEADY_FOR {
            self.until = self.until.max(now - SETTLED_AFTER);
            self.done = self.done.split_off(&(Micros(self.until.0 + 1), i64::MIN));
        }
    }
}

/// Rows that the database refused, and the last reason.
struct Refused {
    rows: BTreeSet<(i64, Micros)>,
    error: StoreError,
}

/// What became of a batch.
enum Tried {
    /// It is there, but for these.
    Added(Option<Refused>),
    /// Nothing more is ours to add.
    Stale,
}

impl Mirror {
    /// Adds heartbeats until `stop`, then those that are left.
    pub async fn run(self, stop: CancellationToken) {
        let (mut progress, mut pause, mut waits) = (None, PAUSE_FIRST, Waits { since: Instant::now(), told: false });
        while !stop.is_cancelled() {
            let result = stop.run_until_cancelled(self.round(&mut progress, &mut waits)).await;
            let wait = match result {
                None => break,
                Some(Ok(true)) => Duration::ZERO,
                Some(Ok(false)) => {
                    pause = PAUSE_FIRST;
                    LOOK_EVERY
                }
                Some(Err(error)) => {
                    failed(&error, progress.as_mut());
                    let wait = pause;
                    pause = (pause * 2).min(PAUSE_MAX);
                    wait
                }
            };
            let _ = stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
        if let Some(progress) = &mut progress {
            progress.swept = None;
        }
        let last = async { while matches!(self.round(&mut progress, &mut waits).await, Ok(true)) {} };
        if tokio::time::timeout(LAST, last).await.is_err() {
            tracing::warn!("the last heartbeats were not added to api_heartbeats in time; whoever runs next adds them");
        }
        if progress.is_some() {
            self.released();
        }
    }

    fn released(&self) {
        tracing::info!(datacenter = self.place.datacenter, "Released lock for datacenter:{}", self.place.datacenter);
    }

    /// One look. Whether there may be more at once.
    async fn round(&self, progress: &mut Option<Progress>, waits: &mut Waits) -> Result<bool, StoreError> {
        let Some(fence) = self.leases.fence(&scope(self.place.datacenter)) else {
            if progress.take().is_some() {
                if let Some(why) = &self.leases.watch().borrow().error {
                    tracing::error!("Failed to save heartbeat: {why}");
                }
                self.released();
                *waits = Waits { since: Instant::now(), told: false };
            } else if !waits.told && waits.since.elapsed() >= WAITS_AFTER && self.leases.alive(&scope(self.place.datacenter)) {
                waits.told = true;
                tracing::info!(datacenter = self.place.datacenter, "Another instance is active. Waiting...");
            }
            return Ok(false);
        };
        let progress = match progress {
            Some(known) if known.fence.epoch == fence.epoch => known,
            Some(_) | None => progress.insert(self.begin(fence).await?),
        };
        if progress.unclear {
            self.learn(progress).await?;
        }
        let now = self.clock.now();
        let sweep = progress.swept.is_none_or(|at| at.elapsed() >= SWEEP_EVERY);
        let (new, all_found) =
            if sweep { self.sweep(progress).await? } else { (progress.without_done(self.committed(progress.until)), true) };
        let batch = &new[..new.len().min(ROWS_MAX)];
        self.add(progress, batch).await?;
        let all_added = batch.len() == new.len() && all_found;
        if sweep && all_added {
            progress.settle(now);
            progress.swept = Some(Instant::now());
        }
        Ok(!all_added)
    }

    /// The newest heartbeat of each monitor of the tables, oldest first. One that was followed by another since the last look is left to
    /// the next sweep.
    fn committed(&self, since: Micros) -> Vec<(i64, Micros)> {
        let fleet = self.fleet.borrow().clone();
        let of_table = |monitor: MonitorId| fleet.0.get(&monitor).and_then(|spec| table_id_of(&spec.uid));
        let mut found = Vec::new();
        self.live.with(|table| {
            let beats = table.values().map(|latest| (latest.beat.monitor, latest.beat.datacenter, latest.beat.at));
            let ours = beats.filter(|(_, datacenter, at)| *datacenter == self.datacenter && *at > since);
            found.extend(ours.filter_map(|(monitor, _, at)| Some((of_table(monitor)?, at))));
        });
        found.sort_unstable_by_key(|(monitor, at)| (*at, *monitor));
        found
    }

    /// Everything that is not settled and not added; and whether that is all of it, for a batch is enough.
    async fn sweep(&self, progress: &Progress) -> Result<(Vec<(i64, Micros)>, bool), StoreError> {
        let (mut new, mut from) = (Vec::new(), progress.until);
        loop {
            let page = self.database.beats(self.datacenter, from, KEYS_MAX).await?;
            let full = page.len() as i64 == KEYS_MAX;
            // Of the last time of a page there may be more on the next.
            let next = page.last().map_or(from, |(_, at)| Micros((at.0 - 1).max(from.0 + 1)));
            new.extend(progress.without_done(page));
            if !full || new.len() > ROWS_MAX {
                return Ok((new, !full));
            }
            from = next;
        }
    }

    /// Reads how far it has come.
    async fn begin(&self, fence: Fence) -> Result<Progress, StoreError> {
        let until = self.database.noted(&fence.scope).await?.unwrap_or(self.since);
        // Noted at once: whoever takes over before the first heartbeat was added begins where we did.
        self.database.add(&[], &fence, &fence.scope, until).await?;
        let mut progress = Progress { fence, until, done: BTreeSet::new(), unclear: true, steady_since: Instant::now(), swept: None };
        self.learn(&mut progress).await?;
        tracing::info!(datacenter = self.place.datacenter, "Acquired lock for datacenter:{}", self.place.datacenter);
        Ok(progress)
    }

    /// Reads what is there: after a take-over, and when it is not known whether a batch has landed.
    async fn learn(&self, progress: &mut Progress) -> Result<(), StoreError> {
        for (monitor, at) in self.database.added(self.place.datacenter, progress.until).await? {
            progress.finish(monitor, at);
        }
        progress.unclear = false;
        Ok(())
    }

    /// Adds a batch.
    async fn add(&self, progress: &mut Progress, keys: &[(i64, Micros)]) -> Result<(), StoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        let Waiting { agent, beats } = self.database.waiting(self.place.datacenter, self.datacenter, keys).await?;
        let nobody = || StoreError::Broken { doing: "looking for the agent", detail: NoSource::NoAgent(self.place.datacenter).to_string() };
        let agent = agent.ok_or_else(nobody)?;
        let (mut rows, mut told) = (Vec::new(), Vec::new());
        for beat in &beats {
            match heartbeat::row(beat, agent) {
                Some(row) => {
                    rows.push(row);
                    told.push(beat);
                }
                None => without_row(beat),
            }
        }
        // Until it has answered: also when this is dropped in the middle.
        progress.unclear = true;
        let tried = self.try_rows(progress, &rows).await?;
        progress.unclear = false;
        let refused = match tried {
            Tried::Added(refused) => refused,
            // The next round finds that the lease is gone, or ours anew.
            Tried::Stale => return Ok(()),
        };
        let is_there = |id, at| refused.as_ref().is_none_or(|refused| !refused.rows.contains(&(id, at)));
        for beat in told.into_iter().filter(|beat| is_there(beat.monitor, beat.at)) {
            with_row(beat);
        }
        // Also those whose monitor is gone from the tables: they have no row to belong to.
        for (monitor, at) in keys.iter().copied().filter(|(monitor, at)| is_there(*monitor, *at)) {
            progress.finish(monitor, at);
        }
        refused.map_or(Ok(()), |refused| Err(refused.error))
    }

    /// Adds all rows at once. If the database refuses them, each is tried alone, so that one bad row holds up no other.
    async fn try_rows(&self, progress: &Progress, rows: &[ApiHeartbeat]) -> Result<Tried, StoreError> {
        if rows.is_empty() {
            return Ok(Tried::Added(None));
        }
        let (fence, until) = (&progress.fence, progress.until);
        match self.database.add(rows, fence, &fence.scope, until).await {
            Ok(Added::All) => return Ok(Tried::Added(None)),
            Ok(Added::Stale) => return Ok(Tried::Stale),
            Err(error @ StoreError::Unavailable { .. }) => return Err(error),
            Err(
                StoreError::Broken { .. } | StoreError::Refused(_) | StoreError::NotYet | StoreError::NotInForce | StoreError::Outdated,
            ) => {}
        }
        let mut refused: Option<Refused> = None;
        for row in rows {
            match self.database.add(std::slice::from_ref(row), fence, &fence.scope, until).await {
                Ok(Added::All) => {}
                Ok(Added::Stale) => return Ok(Tried::Stale),
                Err(error @ StoreError::Unavailable { .. }) => return Err(error),
                Err(
                    error @ (StoreError::Broken { .. }
                    | StoreError::Refused(_)
                    | StoreError::NotYet
                    | StoreError::NotInForce
                    | StoreError::Outdated),
                ) => {
                    let mut rows = refused.take().map(|refused| refused.rows).unwrap_or_default();
                    rows.insert((row.monitor_id, row.executed_at));
                    refused = Some(Refused { rows, error });
                }
            }
        }
        Ok(Tried::Added(refused))
    }
}

/// Nothing counts as settled until everything has gone well for a while again.
fn failed(error: &StoreError, progress: Option<&mut Progress>) {
    if let Some(progress) = progress {
        progress.steady_since = Instant::now();
    }
    tracing::error!(error = %crate::chain(error), "Failed to save heartbeat: {}", crate::chain(error));
}

/// The line that is waited for after each heartbeat.
fn with_row(beat: &Unmirrored) {
    let Unmirrored { monitor, name, .. } = beat;
    match beat.outcome {
        Outcome::Up | Outcome::Unknown(_) => tracing::info!(monitor, "Heartbeat inserted for monitor {monitor} ({name})"),
        Outcome::Down(reason) => {
            let why = reason.as_str();
            tracing::error!(monitor, why, "Monitor execution failed for monitor {monitor} ({name}): {}", reason.sentence());
            tracing::info!(monitor, "Failed heartbeat inserted for monitor {monitor} ({name})");
        }
    }
}

/// An attempt that says nothing about the target is told and has no row.
fn without_row(beat: &Unmirrored) {
    let Unmirrored { monitor, name, .. } = beat;
    let why = beat.outcome.why().unwrap_or_default();
    tracing::warn!(
        monitor,
        why,
        "Monitor execution failed for monitor {monitor} ({name}): this node could not look ({why}), so it has no heartbeat"
    );
}
