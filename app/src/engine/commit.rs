//! The commit stream: while one batch is being committed, the next one forms.
//!
//! A batch closes at the next beat of [`CLOSE_AFTER`], at [`ROWS_MAX`] rows, or at once when it holds anything but unchanged `up`.
//! A commit whose outcome is unclear is sent again under the same number: the store knows whether it landed. Where other nodes share the
//! store, one that stays out of reach is replaced by the journal of [`CutOff`] until it is back and has all that the journal holds.

use crate::clock::next_beat;
use crate::cut_off::{CutOff, GivenBack};
use crate::live::Latest;
use crate::store::{Batch, BeatRow, Committed, Decision, Joined, LiveRow, Scope, Store, StoreError};
use crate::telemetry::SharedMetrics;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use watchkeeper_core::sight::Pace;
use watchkeeper_core::{AgentId, ChannelId, MonitorId, Outcome, TenantId};

/// Unchanged heartbeats wait at most so long for company: what `kill -9` can lose. Shorter costs a disk flush per few heartbeats.
pub const CLOSE_AFTER: Duration = Duration::from_millis(250);
/// A batch holds at most so many heartbeats. More makes a commit long; fewer makes a storm many commits.
pub const ROWS_MAX: usize = 8_192;
/// The engine stops reading attempts while so many decisions wait for the commit before them. More makes one commit of a storm so
/// long that leases and deliveries wait behind it; fewer makes a storm many commits.
const DECISIONS_MAX: usize = 1_024;
/// The pauses between attempts to commit while the store is out of reach.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// What `/ready` says meanwhile.
pub const CUT_OFF: &str = "out of reach; this node is cut off and keeps a journal";
/// A batch that the store calls broken is tried so often before the process gives up on it.
const BROKEN_MAX: u32 = 3;

/// The batch that forms, with what is to be published when it has landed.
#[derive(Default)]
pub struct Forming {
    /// What will be written.
    pub batch: Batch,
    /// New facts for the metrics table.
    pub latest: Vec<Latest>,
    /// New paces for the schedule.
    pub paces: Vec<(MonitorId, Pace)>,
    /// When it closes at the latest; `None` while it is empty.
    closes: Option<Instant>,
    urgent: bool,
    dropped: u64,
}

impl Forming {
    /// Adds a heartbeat. When the store is out of reach and the batch is full, the oldest quiet one makes room and is counted.
    pub fn beat(&mut self, row: BeatRow) {
        self.begin();
        self.urgent |= row.outcome != Outcome::Up;
        if self.batch.beats.len() >= ROWS_MAX
            && let Some(oldest) = self.batch.beats.iter().position(|b| b.outcome == Outcome::Up)
        {
            self.batch.beats.swap_remove(oldest);
            self.dropped += 1;
        }
        self.batch.beats.push(row);
    }

    /// Adds a decision; the batch closes at once.
    pub fn decide(&mut self, decision: Decision) {
        self.begin();
        self.urgent = true;
        self.batch.decisions.push(decision);
    }

    /// A push that is no heartbeat.
    pub fn push_only(&mut self, id: i64) {
        self.begin();
        self.batch.folded_pushes.push(id);
    }

    /// A person's action that changes nothing.
    pub fn action_only(&mut self, id: i64) {
        self.begin();
        self.batch.folded_actions.push(id);
    }

    fn begin(&mut self) {
        self.closes.get_or_insert_with(|| next_beat(CLOSE_AFTER));
    }
}

/// What a commit made true.
#[derive(Default)]
pub struct Landed {
    /// Live events with their ids.
    pub live: Vec<(TenantId, LiveRow)>,
    /// New facts for the metrics table.
    pub latest: Vec<Latest>,
    /// New paces for the schedule.
    pub paces: Vec<(MonitorId, Pace)>,
    /// Pushes that are folded now.
    pub pushes: Vec<i64>,
    /// People's actions that are folded now, or are another node's by now.
    pub actions: Vec<i64>,
    /// Channels with something to deliver.
    pub told: Vec<ChannelId>,
    /// Scopes that are no longer ours.
    pub stale: Vec<Scope>,
}

/// The stream of one node.
pub struct Stream {
    store: Arc<dyn Store>,
    metrics: SharedMetrics,
    agent: AgentId,
    boot: String,
    number: u64,
    health: watch::Sender<Option<String>>,
    cut_off: Option<Arc<CutOff>>,
    /// The batch that forms.
    pub forming: Forming,
    flying: Option<JoinHandle<Result<Landed, StoreError>>>,
}

impl Stream {
    /// A stream that goes on after the last batch that landed.
    pub fn new(
        store: Arc<dyn Store>,
        metrics: SharedMetrics,
        joined: &Joined,
        health: watch::Sender<Option<String>>,
        cut_off: Option<Arc<CutOff>>,
    ) -> Self {
        let (agent, boot, number) = (joined.agent, joined.boot.clone(), joined.last_batch);
        Self { store, metrics, agent, boot, number, health, cut_off, forming: Forming::default(), flying: None }
    }

    /// Whether another attempt may be folded. A store that is only slow holds the attempts back, so that their next windows coalesce;
    /// while it is out of reach quiet heartbeats make room, so that failures are still seen.
    pub fn has_room(&self) -> bool {
        let batch = &self.forming.batch;
        let full = batch.decisions.len() >= DECISIONS_MAX || (batch.beats.len() >= ROWS_MAX && self.health.borrow().is_none());
        self.flying.is_none() || !full
    }

    /// Whether a batch forms that only waits for its time.
    pub fn waits_to_close(&self) -> bool {
        self.flying.is_none() && self.forming.closes.is_some()
    }

    /// When it closes.
    pub fn close_at(&self) -> Instant {
        self.forming.closes.unwrap_or_else(Instant::now)
    }

    /// Starts the commit of the forming batch if its time has come and none is on its way.
    pub fn launch_if_due(&mut self) {
        let Some(closes) = self.forming.closes else { return };
        let due = self.forming.urgent || self.forming.batch.beats.len() >= ROWS_MAX || Instant::now() >= closes;
        if due && self.flying.is_none() {
            self.launch();
        }
    }

    /// Gives the oldest batch of the journal back to the store, if it can be and nothing is on its way.
    pub fn give_back(&mut self) {
        let Some(cut_off) = self.cut_off.clone().filter(|cut_off| cut_off.is_active() && cut_off.reached()) else { return };
        if self.flying.is_some() {
            return;
        }
        let (store, health) = (self.store.clone(), self.health.clone());
        self.flying = Some(tokio::spawn(async move { Ok(given_back(&cut_off, &*store, &health).await.unwrap_or_default()) }));
    }

    fn launch(&mut self) {
        let mut forming = std::mem::take(&mut self.forming);
        // The next batch will be about as large as this one.
        self.forming.batch.beats.reserve(forming.batch.beats.len().min(ROWS_MAX));
        self.number += 1;
        forming.batch.agent = self.agent;
        forming.batch.boot.clone_from(&self.boot);
        forming.batch.number = self.number;
        if forming.dropped > 0 {
            self.metrics.beats_dropped.inc_by(forming.dropped);
            tracing::warn!(
                dropped = forming.dropped,
                "{} quiet heartbeats were dropped because the store could not take them",
                forming.dropped
            );
        }
        let (store, metrics, health, cut_off) = (self.store.clone(), self.metrics.clone(), self.health.clone(), self.cut_off.clone());
        self.flying = Some(tokio::spawn(async move {
            let committed = match &cut_off {
                Some(cut_off) => until_kept(cut_off, &*store, &forming.batch, &metrics, &health).await?,
                None => until_landed(&*store, &forming.batch, &metrics, &health).await?,
            };
            Ok(landed(forming, committed))
        }));
    }

    /// Waits for the batch on its way; for ever if there is none.
    pub async fn landed(&mut self) -> anyhow::Result<Landed> {
        let Some(flying) = &mut self.flying else { return std::future::pending().await };
        let result = flying.await;
        self.flying = None;
        Ok(result??)
    }

    /// Commits everything that is left.
    pub async fn flush(mut self, grace: Duration) -> anyhow::Result<()> {
        let all = async {
            while self.flying.is_some() || self.forming.closes.is_some() {
                if self.flying.is_none() {
                    self.launch();
                }
                self.landed().await?;
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(grace, all).await {
            Ok(result) => result,
            Err(_elapsed) => anyhow::bail!("the last batch could not be committed within the grace; it is lost like by a crash"),
        }
    }
}

/// Commits one batch, or keeps it in the journal while the store is out of reach.
async fn until_kept(
    cut_off: &CutOff,
    store: &dyn Store,
    batch: &Batch,
    metrics: &SharedMetrics,
    health: &watch::Sender<Option<String>>,
) -> Result<Committed, StoreError> {
    if !cut_off.is_active() {
        tokio::select! {
            committed = until_landed(store, batch, metrics, health) => return committed,
            () = cut_off.out_of_reach() => {}
        }
    }
    health.send_if_modified(|known| known.replace(CUT_OFF.to_owned()).as_deref() != Some(CUT_OFF));
    loop {
        let Err(error) = cut_off.keep(batch).await else { return Ok(Committed::default()) };
        tracing::error!(%error, "the journal cannot be written; trying again until it or the store can");
        // What is in the journal comes first: a later number would have it taken for landed.
        while cut_off.is_active() && cut_off.reached() {
            if given_back(cut_off, store, health).await.is_none() {
                return until_landed(store, batch, metrics, health).await;
            }
        }
        tokio::time::sleep(PAUSE_MAX).await;
    }
}

/// One step of giving the journal back; `None` when it is empty.
async fn given_back(cut_off: &CutOff, store: &dyn Store, health: &watch::Sender<Option<String>>) -> Option<Landed> {
    match cut_off.give_back(store).await {
        Ok(Some(GivenBack { batch, committed })) => {
            let told = batch.decisions.iter().flat_map(|decision| decision.notices.iter().map(|notice| notice.channel)).collect();
            Some(Landed { told, stale: committed.stale, ..Landed::default() })
        }
        Ok(None) => {
            health.send_if_modified(|known| known.take().is_some());
            None
        }
        Err(error) => {
            tracing::error!(%error, "the journal cannot be read; trying again");
            tokio::time::sleep(PAUSE_MAX).await;
            Some(Landed::default())
        }
    }
}

/// Commits one batch, however long the store is out of reach.
async fn until_landed(
    store: &dyn Store,
    batch: &Batch,
    metrics: &SharedMetrics,
    health: &watch::Sender<Option<String>>,
) -> Result<Committed, StoreError> {
    let (mut pause, mut broken) = (PAUSE_FIRST, 0);
    loop {
        let began = Instant::now();
        let error = match store.commit(batch).await {
            Ok(committed) => {
                metrics.store_commit.observe(began.elapsed().as_secs_f64());
                if health.send_if_modified(|h| h.take().is_some()) {
                    tracing::info!("the store is back");
                }
                return Ok(committed);
            }
            Err(error) => error,
        };
        metrics.store_failures.inc();
        let text = crate::chain(&error);
        if health.send_if_modified(|h| h.replace(text.clone()).is_none()) {
            tracing::error!(error = %text, "a batch could not be committed; trying again until it lands");
        }
        if !matches!(error, StoreError::Unavailable { .. }) {
            broken += 1;
            if broken >= BROKEN_MAX {
                return Err(error);
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn landed(forming: Forming, committed: Committed) -> Landed {
    let written = |d: &Decision| !d.fences.iter().any(|f| committed.stale.contains(&f.scope));
    let mut told: Vec<ChannelId> = forming.batch.decisions.iter().flat_map(|d| d.notices.iter().map(|n| n.channel)).collect();
    told.sort_unstable();
    told.dedup();
    let mut actions = forming.batch.folded_actions;
    actions.extend(forming.batch.decisions.iter().filter_map(|d| d.action));
    let stale_monitors: Vec<MonitorId> = forming.batch.decisions.iter().filter(|d| !written(d)).map(|d| d.monitor).collect();
    let events =
        forming.batch.decisions.into_iter().filter(|d| written(d)).flat_map(|d| d.live.into_iter().map(move |event| (d.tenant, event)));
    let live = events.zip(committed.live_ids).map(|((tenant, event), id)| (tenant, LiveRow { id, event })).collect();
    let paces = forming.paces.into_iter().filter(|(id, _)| !stale_monitors.contains(id)).collect();
    Landed { live, latest: forming.latest, paces, pushes: forming.batch.folded_pushes, actions, told, stale: committed.stale }
}
