//! Cut-off mode: what a node does while the store that it shares with others is out of reach for longer than its leases last.
//!
//! It goes on probing and folding what it held. A commit is then a record in its [`Journal`], and what began and what ended is told from an
//! outbox in memory, with a word that the node is cut off: telling fails open. When the store is back, telling pauses, and the journal is
//! given back batch by batch under the numbers and fences that it was written with. If nobody took the node's scopes it is committed as it
//! is; if somebody did, heartbeats become facts and decisions become entries on the timelines of what the other node decided, or incidents of
//! the past where it saw nothing, and what both may have told is counted. Until the store has all of it the node takes no lease. It never decides on a lease that it lost while it could reach the store.

mod late;
mod outbox;

use crate::clock::{BootTime, Clock, next_beat};
use crate::deliver::{DeliverContext, Deliverers};
use crate::journal::{Journal, Meanwhile, Record};
use crate::lease::Leases;
use crate::store::{Batch, Committed, Fence, Joined, Store, StoreError};
use crate::telemetry::SharedMetrics;
use late::late;
use outbox::CutOffOutbox;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use watchkeeper_core::ChannelId;

/// What mutes notices is read so often. Rarer would tell what was silenced just before; more often would only load the store.
const MUTES_EVERY: Duration = Duration::from_secs(5);
/// A store that fails while the journal is given back is tried again after so long. Shorter would load it while it recovers; longer would
/// delay what waits.
const AGAIN: Duration = Duration::from_secs(1);
/// A batch that the store calls broken is tried so often before it is set aside.
const BROKEN_MAX: u32 = 3;
/// A batch is tried so often before it no longer waits for another node to look at what this one left open. Fewer would end what that node
/// is about to open too; more would hold up the rest behind a monitor that is looked at once an hour.
const LOOKS_MAX: u32 = 10;

/// A journal holds at most so much, in bytes: about two million heartbeats. More would fill a small disk; less would lose quiet heartbeats in
/// an outage of some hours.
const JOURNAL_MAX: u64 = 256 << 20;

/// One node's cut-off mode.
pub struct CutOff {
    node: String,
    leases: Leases,
    clock: Clock,
    metrics: SharedMetrics,
    journal: Arc<Mutex<Journal>>,
    /// What is told meanwhile.
    outbox: Arc<CutOffOutbox>,
    returning: tokio::sync::Mutex<Returning>,
}

/// How far the journal has been given back.
#[derive(Default)]
struct Returning {
    /// Telling has paused, and what was told is known.
    begun: bool,
    meanwhile: Meanwhile,
    reading: Reading,
    broken: u32,
    /// How often this batch has waited for another node's look.
    looks: u32,
}

/// The batches of a journal, from the oldest on.
#[derive(Default)]
struct Reading {
    /// The oldest file has been read, and is forgotten next.
    begun: bool,
    /// What is left of it.
    batches: VecDeque<Batch>,
}

impl Reading {
    /// The next batch, if there is one. The file of those before it is forgotten when it was the last of them: they are in the store.
    async fn next(&mut self, journal: &Arc<Mutex<Journal>>) -> io::Result<Option<Batch>> {
        while self.batches.is_empty() {
            if self.begun {
                forget_oldest(journal).await?;
                self.begun = false;
            }
            let Some(batches) = oldest(journal).await? else { return Ok(None) };
            (self.begun, self.batches) = (true, batches.into());
        }
        Ok(self.batches.pop_front())
    }
}

/// What a batch of the journal came to.
pub struct GivenBack {
    /// The batch.
    pub batch: Batch,
    /// What the store made of it.
    pub committed: Committed,
}

impl CutOff {
    /// Whether batches go to the journal.
    pub fn is_active(&self) -> bool {
        self.leases.behind()
    }

    /// Whether the store has been reached lately.
    pub fn reached(&self) -> bool {
        self.leases.reached() && self.leases.watch().borrow().error.is_none()
    }

    /// Returns once the store has been out of reach for as long as leases last. A lease that was lost for another reason is no reason: a
    /// node that was frozen must ask before it decides.
    pub async fn out_of_reach(&self) {
        let mut held = self.leases.watch();
        loop {
            let runs_out = {
                let held = held.borrow_and_update();
                held.error.is_some().then(|| held.good_until.since(BootTime::now()))
            };
            match runs_out {
                Some(left) if left.is_zero() => return,
                Some(left) => tokio::select! {
                    () = tokio::time::sleep(left) => {}
                    Ok(()) = held.changed() => {}
                },
                // The keeper is gone only at the end of the process.
                None => {
                    if held.changed().await.is_err() {
                        return std::future::pending().await;
                    }
                }
            }
        }
    }

    /// Who is to be woken when something waits for a channel. Once.
    pub fn wakes(&self, wake: impl Fn(ChannelId) + Send + Sync + 'static) {
        self.outbox.wakes(Box::new(wake));
    }

    /// Remembers what mutes notices, for when it can no longer be read.
    pub async fn remember_mutes(self: Arc<Self>, store: Arc<dyn Store>, clock: Clock, stop: CancellationToken) {
        let read = async || {
            let mut all = HashMap::new();
            for (tenant, _) in store.tenants().await? {
                all.insert(tenant, store.mutes(tenant, clock.now()).await?);
            }
            Ok::<_, StoreError>(all)
        };
        loop {
            // An outage is told by those who need the store.
            if let Ok(mutes) = read().await {
                self.outbox.remember(mutes);
            }
            if stop.run_until_cancelled(tokio::time::sleep_until(next_beat(MUTES_EVERY).into())).await.is_none() {
                return;
            }
        }
    }

    /// Keeps a batch in the journal, and has told what began and ended in it.
    pub async fn keep(&self, batch: &Batch) -> io::Result<()> {
        if !self.leases.set_behind(true) {
            tracing::error!(
                "the store is out of reach: this node is cut off, keeps what it finds in its journal, and tells only what begins and ends"
            );
        }
        let (record, journal) = (Record::Batch(batch.clone()), self.journal.clone());
        let (dropped, bytes) = blocking(move || {
            let mut journal = locked(&journal);
            Ok((journal.append(&record)?, journal.bytes()))
        })
        .await?;
        if dropped > 0 {
            self.metrics.beats_dropped.inc_by(dropped);
            tracing::warn!(dropped, "the journal is full: {} made room", crate::counted(dropped, "quiet heartbeat"));
        }
        self.metrics.journal_bytes.set(bytes as i64);
        self.outbox.offer(batch, &self.node);
        Ok(())
    }

    /// Gives the oldest batch back to the store; `None` when the journal is empty, and the store is what is committed to again.
    pub async fn give_back(&self, store: &dyn Store) -> io::Result<Option<GivenBack>> {
        let mut returning = self.returning.lock().await;
        if !std::mem::replace(&mut returning.begun, true) {
            self.outbox.pause().await;
            returning.meanwhile = meanwhile(&self.journal).await?;
            tracing::info!("the store is back: giving it what the journal holds");
        }
        let next = returning.reading.next(&self.journal).await?;
        self.metrics.journal_bytes.set(locked(&self.journal).bytes() as i64);
        let Some(mut batch) = next else {
            *returning = Returning::default();
            self.outbox.finish();
            self.leases.set_behind(false);
            tracing::info!("the store has all that the journal held");
            return Ok(None);
        };
        batch.late = Some(late(&self.node, &batch, &returning.meanwhile, self.clock.now(), returning.looks < LOOKS_MAX));
        match store.commit(&batch).await {
            Ok(committed) => {
                (returning.broken, returning.looks) = (0, 0);
                self.outbox.stored(&batch);
                let twice = told_twice(&batch, &committed);
                if twice > 0 {
                    self.metrics.told_twice.inc_by(twice);
                    tracing::warn!(
                        twice,
                        "{} told while cut off, of what another node decides by now: it may have told them too",
                        crate::counted(twice, "notice")
                    );
                }
                Ok(Some(GivenBack { batch, committed }))
            }
            Err(error) => {
                let unavailable = matches!(error, StoreError::Unavailable { .. });
                let not_yet = matches!(error, StoreError::NotYet);
                returning.looks += u32::from(not_yet);
                returning.broken += u32::from(!unavailable && !not_yet);
                if returning.broken >= BROKEN_MAX {
                    (returning.broken, returning.looks) = (0, 0);
                    aside(&self.journal, batch, &error).await?;
                    return Ok(Some(GivenBack { batch: Batch::default(), committed: Committed::default() }));
                }
                if !not_yet {
                    tracing::warn!(error = %crate::chain(&error), "a batch of the journal could not be given back; trying again");
                }
                batch.late = None;
                returning.reading.batches.push_front(batch);
                if unavailable {
                    returning.begun = false;
                    self.outbox.resume();
                }
                drop(returning);
                tokio::time::sleep(AGAIN).await;
                Ok(Some(GivenBack { batch: Batch::default(), committed: Committed::default() }))
            }
        }
    }
}

/// The journal of this node, empty or not. Without one the node waits for a store that is out of reach, as on SQLite.
pub fn journal(folder: &Path, node: &str) -> Option<Arc<Mutex<Journal>>> {
    let name: String = node.chars().map(|c| if c.is_alphanumeric() || c == '-' || c == '.' { c } else { '_' }).collect();
    let folder = folder.join(name);
    match Journal::open(&folder, JOURNAL_MAX) {
        Ok(journal) => Some(Arc::new(Mutex::new(journal))),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "no journal can be kept in {}: while the store is out of reach nothing will be told", folder.display());
            None
        }
    }
}

/// One node's cut-off mode on a journal that is empty, with the deliverers that tell meanwhile.
pub fn begin(node: &str, journal: Arc<Mutex<Journal>>, leases: Leases, cx: &DeliverContext) -> (Arc<CutOff>, Deliverers) {
    let outbox = Arc::new(CutOffOutbox::new(journal.clone()));
    let cut_off = Arc::new(CutOff {
        node: node.to_owned(),
        leases,
        clock: cx.clock.clone(),
        metrics: cx.metrics.clone(),
        journal,
        outbox: outbox.clone(),
        returning: tokio::sync::Mutex::default(),
    });
    let telling = cut_off.clone();
    let deliverers = Deliverers::new(DeliverContext {
        outbox,
        net: cx.net.clone(),
        clock: cx.clock.clone(),
        metrics: cx.metrics.clone(),
        // Telling fails open: whoever holds the channel cannot be asked.
        fence: Arc::new(move |scope| telling.is_active().then(|| Fence { scope: scope.into(), epoch: 0 })),
        patience: cx.patience,
    });
    (cut_off, deliverers)
}

/// Gives back what an earlier process has left in the journal, before this one joins as another life of the node. False if yet another life
/// came between, so that the store refuses it: then [`give_back_as_facts`] is for after the joining.
pub async fn recover(node: &str, journal: &Arc<Mutex<Journal>>, store: &dyn Store, clock: &Clock) -> anyhow::Result<bool> {
    if !locked(journal).is_empty() {
        tracing::info!("giving the store what an earlier run has left in the journal");
    }
    let (meanwhile, mut reading) = (meanwhile(journal).await?, Reading::default());
    while let Some(mut batch) = reading.next(journal).await? {
        match commit(node, &mut batch, &meanwhile, store, clock).await {
            Ok(()) => {}
            Err(StoreError::Refused(_)) => return Ok(false),
            Err(error @ StoreError::Unavailable { .. }) => return Err(error.into()),
            Err(error @ (StoreError::Broken { .. } | StoreError::NotYet | StoreError::NotInForce | StoreError::Outdated)) => {
                aside(journal, batch, &error).await?;
            }
        }
    }
    Ok(true)
}

/// Gives one batch back, at first waiting for others to look at what it leaves open.
async fn commit(node: &str, batch: &mut Batch, meanwhile: &Meanwhile, store: &dyn Store, clock: &Clock) -> Result<(), StoreError> {
    for _ in 0..LOOKS_MAX {
        batch.late = Some(late(node, batch, meanwhile, clock.now(), true));
        match store.commit(batch).await {
            Err(StoreError::NotYet) => tokio::time::sleep(AGAIN).await,
            done => return done.map(drop),
        }
    }
    batch.late = Some(late(node, batch, meanwhile, clock.now(), false));
    store.commit(batch).await.map(drop)
}

/// Gives a journal of another life back in the name of this one: facts stay facts, and none of the decisions is this life's to make.
pub async fn give_back_as_facts(
    joined: &mut Joined,
    node: &str,
    journal: &Arc<Mutex<Journal>>,
    store: &dyn Store,
    clock: &Clock,
) -> anyhow::Result<()> {
    let (meanwhile, mut reading) = (meanwhile(journal).await?, Reading::default());
    while let Some(mut batch) = reading.next(journal).await? {
        joined.last_batch += 1;
        (batch.agent, batch.number) = (joined.agent, joined.last_batch);
        batch.boot.clone_from(&joined.boot);
        for fence in batch.decisions.iter_mut().flat_map(|decision| &mut decision.fences) {
            fence.epoch = -1;
        }
        commit(node, &mut batch, &meanwhile, store, clock).await?;
    }
    Ok(())
}

/// What the journal says was told, and what of it ended.
async fn meanwhile(journal: &Arc<Mutex<Journal>>) -> io::Result<Meanwhile> {
    let journal = journal.clone();
    blocking(move || locked(&journal).meanwhile()).await
}

/// The batches of its oldest file, if there is one.
async fn oldest(journal: &Arc<Mutex<Journal>>) -> io::Result<Option<Vec<Batch>>> {
    let journal = journal.clone();
    blocking(move || {
        let mut journal = locked(&journal);
        (!journal.is_empty()).then(|| journal.oldest()).transpose()
    })
    .await
}

async fn forget_oldest(journal: &Arc<Mutex<Journal>>) -> io::Result<()> {
    let journal = journal.clone();
    blocking(move || locked(&journal).forget_oldest()).await
}

/// How many notices of decisions that another node has overtaken were told.
fn told_twice(batch: &Batch, committed: &Committed) -> u64 {
    let Some(late) = &batch.late else { return 0 };
    let dropped = batch.decisions.iter().filter(|decision| decision.fences.iter().any(|fence| committed.stale.contains(&fence.scope)));
    let words = dropped.flat_map(|decision| &decision.notices);
    words.filter(|word| late.told.iter().any(|told| told.is(word))).count() as u64
}

async fn aside(journal: &Arc<Mutex<Journal>>, batch: Batch, error: &StoreError) -> io::Result<()> {
    let from = journal.clone();
    let path = blocking(move || locked(&from).set_aside(&batch)).await?;
    tracing::error!(error = %crate::chain(error), file = %path.display(), "the store refuses a batch of the journal for good: it is kept in {}", path.display());
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_could_not_be_read_is_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), JOURNAL_MAX).unwrap();
        for number in [1, 2] {
            journal.append(&Record::Batch(Batch { number, ..Batch::default() })).unwrap();
            // What is added after a look goes to another file.
            journal.oldest().unwrap();
        }
        let (journal, mut reading) = (Arc::new(Mutex::new(journal)), Reading::default());
        let number = |next: Option<Batch>| next.map(|batch| batch.number);
        assert_eq!(number(reading.next(&journal).await.unwrap()), Some(1));
        let (there, away) = (folder.path().join("00000002.journal"), folder.path().join("away"));
        std::fs::rename(&there, &away).unwrap();
        assert!(reading.next(&journal).await.is_err());
        std::fs::rename(&away, &there).unwrap();
        assert_eq!(number(reading.next(&journal).await.unwrap()), Some(2));
        assert_eq!(number(reading.next(&journal).await.unwrap()), None);
        assert!(locked(&journal).is_empty());
    }
}
