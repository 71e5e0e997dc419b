//! Leases: the right to decide for a scope, held by one node at a time.
//!
//! No clock is compared between machines. The holder adds 1 to `beat` every [`Times::beat`] and stops acting
//! [`Times::valid`] after it *sent* its last confirmed beat; a candidate that has seen the same (epoch, beat) for
//! [`Times::take_over`] by its own clock takes the scope with epoch + 1. Every decision carries the epoch and is checked
//! again inside its transaction, so even a holder that was frozen between the check and the write decides nothing.

use crate::clock::Clock;
use crate::store::{Fence, LeaseRow, Scope, Store};
use crate::telemetry::SharedMetrics;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The three times of the protocol; settings, so that proofs can run them fast.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How often the holder shows life.
    pub beat: Duration,
    /// How long after sending a confirmed beat the holder may act.
    pub valid: Duration,
    /// How long a beat must stand still before another node takes the scope. Longer than `valid`, or two nodes could act at once.
    pub take_over: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { beat: Duration::from_secs(2), valid: Duration::from_secs(4), take_over: Duration::from_secs(6) }
    }
}

/// What is held now.
#[derive(Clone, Debug)]
pub struct Held {
    /// Scopes with the epoch under which we hold them.
    pub epochs: HashMap<Scope, i64>,
    /// Until when we may act on them.
    pub good_until: Instant,
    /// Whether the store answered last time.
    pub error: Option<String>,
}

/// A view of what is held, for whoever acts.
#[derive(Clone)]
pub struct Leases(watch::Receiver<Held>);

impl Leases {
    /// The fence of a scope, if we may act on it now.
    pub fn fence(&self, scope: &str) -> Option<Fence> {
        let held = self.0.borrow();
        if Instant::now() >= held.good_until {
            return None;
        }
        held.epochs.get_key_value(scope).map(|(scope, epoch)| Fence { scope: scope.clone(), epoch: *epoch })
    }

    /// The watch itself, to wait for changes.
    pub fn watch(&self) -> watch::Receiver<Held> {
        self.0.clone()
    }
}

/// The task that takes, keeps and gives back.
pub struct Keeper {
    store: Arc<dyn Store>,
    holder: String,
    clock: Clock,
    times: Times,
    metrics: SharedMetrics,
    wanted: watch::Receiver<BTreeSet<String>>,
    /// Other holders' leases as first seen standing like this.
    seen: HashMap<String, (LeaseRow, Instant)>,
    held: watch::Sender<Held>,
    /// Shows the watchdog that the loop lives.
    alive: Arc<dyn Fn() + Send + Sync>,
}

impl Keeper {
    /// A keeper for the wanted scopes. `holder` must be new at every start.
    pub fn new(
        store: Arc<dyn Store>,
        holder: String,
        clock: Clock,
        times: Times,
        metrics: SharedMetrics,
        wanted: watch::Receiver<BTreeSet<String>>,
        alive: Arc<dyn Fn() + Send + Sync>,
    ) -> (Self, Leases) {
        let (held, view) = watch::channel(Held { epochs: HashMap::new(), good_until: Instant::now(), error: None });
        (Self { store, holder, clock, times, metrics, wanted, seen: HashMap::new(), held, alive }, Leases(view))
    }

    /// Keeps leases until `stop`, then gives them all back at once.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.round().await;
            (self.alive)();
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(self.times.beat) => {}
                // Whoever wants scopes may end before us; what was wanted last is kept until `stop`.
                Ok(()) = self.wanted.changed() => {}
            }
        }
        let fences = self.fences();
        self.held.send_modify(|held| held.epochs.clear());
        if let Err(error) = self.store.release_leases(&self.holder, &fences).await {
            tracing::warn!(error = %crate::chain(&error), "leases were not given back; they run out by themselves");
        }
    }

    fn fences(&self) -> Vec<Fence> {
        self.held.borrow().epochs.iter().map(|(scope, epoch)| Fence { scope: scope.clone(), epoch: *epoch }).collect()
    }

    /// One beat for what is held, one look at what is not.
    async fn round(&mut self) {
        let sent = Instant::now();
        let result = self.keep_and_take(sent).await;
        match result {
            Ok(epochs) => {
                self.metrics.leases_held.set(epochs.len() as i64);
                let good_until = sent + self.times.valid;
                self.held.send_modify(|held| *held = Held { epochs, good_until, error: None });
            }
            Err(error) => {
                let text = crate::chain(&error);
                if self.held.borrow().error.is_none() {
                    tracing::warn!(error = %text, "leases could not be kept; this node stops deciding when they run out");
                }
                // What was held stays listed until its time runs out: `fence` looks at the time.
                self.held.send_modify(|held| held.error = Some(text));
            }
        }
    }

    async fn keep_and_take(&mut self, sent: Instant) -> crate::store::Result<HashMap<Scope, i64>> {
        let wanted = self.wanted.borrow_and_update().clone();
        let held = self.fences();
        let (keep, give): (Vec<Fence>, Vec<Fence>) = held.into_iter().partition(|f| wanted.contains(&*f.scope));
        if !give.is_empty() {
            self.store.release_leases(&self.holder, &give).await?;
        }
        let mut epochs = HashMap::with_capacity(wanted.len());
        if !keep.is_empty() {
            let still: BTreeSet<Scope> = self.store.beat_leases(&self.holder, &keep).await?.into_iter().collect();
            for fence in keep {
                if still.contains(&fence.scope) {
                    epochs.insert(fence.scope, fence.epoch);
                } else {
                    self.metrics.leases_lost.inc();
                    tracing::warn!(scope = %fence.scope, epoch = fence.epoch, "lost the lease of {}", fence.scope);
                }
            }
        }
        if wanted.iter().all(|scope| epochs.contains_key(scope.as_str())) {
            return Ok(epochs);
        }
        let table: HashMap<String, LeaseRow> = self.store.leases().await?.into_iter().map(|row| (row.scope.clone(), row)).collect();
        let before = epochs.len();
        for scope in wanted.iter().filter(|s| !epochs.contains_key(s.as_str())).cloned().collect::<Vec<_>>() {
            let row = table.get(&scope);
            if self.may_take(&scope, row, sent)
                && let Some(epoch) = self.store.take_lease(&scope, row, &self.holder, self.clock.now()).await?
            {
                self.seen.remove(&scope);
                tracing::debug!(scope = %scope, epoch, "took the lease of {scope}");
                epochs.insert(scope.into(), epoch);
            }
        }
        if epochs.len() > before {
            tracing::info!(
                taken = epochs.len() - before,
                held = epochs.len(),
                wanted = wanted.len(),
                "holding {} of {} leases",
                epochs.len(),
                wanted.len()
            );
        }
        Ok(epochs)
    }

    /// Whether the lease is free, or has stood still for long enough.
    fn may_take(&mut self, scope: &str, row: Option<&LeaseRow>, now: Instant) -> bool {
        let Some(row) = row else { return true };
        if row.holder.is_empty() || self.store.exclusive() {
            return true;
        }
        match self.seen.get(scope) {
            Some((known, since)) if known == row => now.duration_since(*since) >= self.times.take_over,
            Some(_) | None => {
                self.seen.insert(scope.to_owned(), (row.clone(), now));
                false
            }
        }
    }
}
