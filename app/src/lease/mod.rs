//! Leases: the right to decide for a scope, held by one node at a time.
//!
//! No clock is compared between machines. The holder adds 1 to `beat` every [`Times::beat`] and stops acting
//! [`Times::valid`] after it *sent* its last confirmed beat; a candidate that has seen the same (epoch, beat) for
//! [`Times::take_over`] by its own clock takes the scope with epoch + 1. Every decision carries the epoch and is checked
//! again inside its transaction, so even a holder that was frozen between the check and the write decides nothing.
//!
//! Which scopes a node should hold follows from who is alive ([`wanted`]); what is alive is what has been seen to move
//! ([`seen`]). A scope that should be another's is let go in two steps: first nothing more is decided under it, then,
//! when what was decided has had time to be committed, it is given back.

mod seen;
mod wanted;

pub use wanted::{SOURCE, Wanted};

use crate::clock::{BootTime, Clock, next_beat};
use crate::engine::agent_scope;
use crate::store::{Fence, LeaseRow, Scope, Store};
use crate::telemetry::SharedMetrics;
use seen::Seen;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
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

/// Between two beats the table is looked at so often: what was given back should be held again within a second, and a look is one
/// small read.
const LOOKS_PER_BEAT: u32 = 4;

/// What is held now.
#[derive(Clone, Debug)]
pub struct Held {
    /// Scopes with the epoch under which we hold them.
    pub epochs: HashMap<Scope, i64>,
    /// Until when we may act on them.
    pub good_until: BootTime,
    /// What is wrong with the store, if it did not answer last time.
    pub error: Option<String>,
    /// Until when each scope that anybody holds counts as held, as far as it has been seen to move.
    pub alive: HashMap<String, BootTime>,
    /// How many nodes share the work, this one included if it does.
    pub nodes: usize,
}

/// A view of what is held, for whoever acts.
#[derive(Clone)]
pub struct Leases {
    held: watch::Receiver<Held>,
    behind: Arc<AtomicBool>,
}

impl Leases {
    /// The fence of a scope, if we may act on it now.
    pub fn fence(&self, scope: &str) -> Option<Fence> {
        self.listed(scope).filter(|_| self.reached())
    }

    /// The fence of a scope that was ours when the store was last reached, whether or not that has run out: under it one may go on
    /// looking and folding, as what comes of it is checked again when it is written.
    pub fn listed(&self, scope: &str) -> Option<Fence> {
        self.held.borrow().epochs.get_key_value(scope).map(|(scope, epoch)| Fence { scope: scope.clone(), epoch: *epoch })
    }

    /// Whether anybody shows life on a scope.
    pub fn alive(&self, scope: &str) -> bool {
        self.held.borrow().alive.get(scope).is_some_and(|until| BootTime::now() < *until)
    }

    /// Whether the table was reached so lately that what is held, or no longer held, is known.
    pub fn reached(&self) -> bool {
        BootTime::now() < self.held.borrow().good_until
    }

    /// Whether other nodes share the work with this one, or could.
    pub fn shared(&self) -> bool {
        self.held.borrow().nodes > 1
    }

    /// The watch itself, to wait for changes.
    pub fn watch(&self) -> watch::Receiver<Held> {
        self.held.clone()
    }

    /// Whether this node has decided what the store does not have yet.
    pub fn behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Says so; answers what was said before. While it is so nothing is taken, only what nobody else took is kept: whoever takes a scope
    /// reads from the store how things are, and there they would not be as this node has told people.
    pub fn set_behind(&self, behind: bool) -> bool {
        self.behind.swap(behind, Ordering::Relaxed)
    }
}

/// What a [`Keeper`] is made of.
pub struct KeeperContext {
    /// Where the table is.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Clock,
    /// The times of the protocol.
    pub times: Times,
    /// Our own series.
    pub metrics: SharedMetrics,
    /// What this node would hold.
    pub wanted: watch::Receiver<Wanted>,
    /// Shows the watchdog that the loop lives.
    pub alive: Arc<dyn Fn() + Send + Sync>,
}

/// The task that takes, keeps and gives back.
pub struct Keeper {
    cx: KeeperContext,
    /// `<name>#<boot>`, new at every start.
    holder: String,
    seen: Seen,
    /// Scopes that should be another's: no longer acted on, given back at the next look.
    leaving: Vec<Fence>,
    /// When the last beat was sent that the store confirmed.
    confirmed: Option<BootTime>,
    held: watch::Sender<Held>,
    behind: Arc<AtomicBool>,
}

impl Keeper {
    /// A keeper for this node. `boot` must be new at every start.
    pub fn new(cx: KeeperContext, name: &str, boot: &str) -> (Self, Leases) {
        let nothing = Held { epochs: HashMap::new(), good_until: BootTime::now(), error: None, alive: HashMap::new(), nodes: 0 };
        let (held, view) = watch::channel(nothing);
        let seen = Seen::new(cx.times.take_over);
        let leases = Leases { held: view, behind: Arc::default() };
        let behind = leases.behind.clone();
        (Self { cx, holder: format!("{name}#{boot}"), seen, leaving: Vec::new(), confirmed: None, held, behind }, leases)
    }

    /// Keeps leases until `stop`, then gives them all back at once. Fails when another process runs under this node's name.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        // Where nobody else can be, there is nothing to see between two beats.
        let look = if self.cx.store.exclusive() { self.cx.times.beat } else { self.cx.times.beat / LOOKS_PER_BEAT };
        let result = loop {
            if let Err(rival) = self.round().await {
                break Err(rival);
            }
            (self.cx.alive)();
            tokio::select! {
                () = stop.cancelled() => break Ok(()),
                () = tokio::time::sleep_until(next_beat(look).into()) => {}
                // Whoever says what is wanted may end before us; what was wanted last is kept until `stop`.
                Ok(()) = self.cx.wanted.changed() => {}
            }
        };
        let mut fences = self.fences();
        fences.append(&mut self.leaving);
        self.held.send_modify(|held| held.epochs.clear());
        if let Err(error) = self.cx.store.release_leases(&self.holder, &fences).await {
            tracing::warn!(error = %crate::chain(&error), "leases were not given back; they run out by themselves");
        }
        result
    }

    fn fences(&self) -> Vec<Fence> {
        self.held.borrow().epochs.iter().map(|(scope, epoch)| Fence { scope: scope.clone(), epoch: *epoch }).collect()
    }

    /// One look at the table: beats when it is time to, lets go what is another's, takes what is ours and free.
    async fn round(&mut self) -> anyhow::Result<()> {
        let sent = BootTime::now();
        let text = match self.look(sent).await {
            Ok(held) => {
                self.cx.metrics.leases_held.set(held.epochs.len() as i64);
                self.cx.metrics.nodes.set(held.nodes as i64);
                let agent = self.cx.wanted.borrow().agent_scope();
                if let Some(rival) = self.seen.rival(&agent, &self.holder) {
                    return Err(twins(&self.cx.wanted.borrow().name, rival));
                }
                // That what is held goes on being held wakes nobody.
                self.held.send_if_modified(|known| {
                    let news = known.epochs != held.epochs || known.nodes != held.nodes || known.error != held.error;
                    *known = held;
                    news
                });
                return Ok(());
            }
            Err(error) => error,
        };
        self.seen.missed();
        if self.held.borrow().error.is_none() {
            tracing::warn!(error = %text, "leases could not be kept; this node stops deciding when they run out");
        }
        // What was held stays listed until its time runs out: `fence` looks at the time.
        self.held.send_modify(|held| held.error = Some(text));
        Ok(())
    }

    async fn look(&mut self, sent: BootTime) -> Result<Held, String> {
        let mut epochs = self.keep(sent).await?;
        let wanted = self.cx.wanted.borrow_and_update().clone();
        self.seen.note(self.answered(self.cx.store.leases()).await?, sent);
        let share = wanted.share(&self.seen, &self.holder, sent);
        if !self.leaving.is_empty() {
            self.answered(self.cx.store.release_leases(&self.holder, &self.leaving)).await?;
            self.leaving.clear();
        }
        let gone: Vec<Scope> = epochs.keys().filter(|scope| !share.scopes.contains(&***scope)).cloned().collect();
        for scope in gone {
            if let Some(epoch) = epochs.remove(&scope) {
                self.leaving.push(Fence { scope, epoch });
            }
        }
        if !self.behind.load(Ordering::Relaxed) {
            self.take(&share.scopes, &mut epochs, sent).await?;
        }
        let good_until = self.confirmed.map_or(sent, |at| at + self.cx.times.valid);
        Ok(Held { epochs, good_until, error: None, alive: self.seen.alive(sent), nodes: share.nodes })
    }

    /// Waits for the store: one that says nothing for as long as a lease is valid is out of reach, whatever its driver still hopes for.
    async fn answered<T>(&self, call: impl Future<Output = crate::store::Result<T>>) -> Result<T, String> {
        let answer = tokio::time::timeout(self.cx.times.valid, call).await;
        // One look may take many calls; each that ends, well or not, is a sign of life.
        (self.cx.alive)();
        match answer {
            Ok(answer) => answer.map_err(|error| crate::chain(&error)),
            Err(_elapsed) => Err("the store did not answer in time".to_owned()),
        }
    }

    /// Beats for what is held, if it is time to; returns what is still ours.
    async fn keep(&mut self, sent: BootTime) -> Result<HashMap<Scope, i64>, String> {
        let mut epochs = self.held.borrow().epochs.clone();
        let fresh = self.confirmed.is_some_and(|at| sent.since(at) + self.cx.times.beat / LOOKS_PER_BEAT / 2 < self.cx.times.beat);
        if fresh && self.held.borrow().error.is_none() {
            return Ok(epochs);
        }
        if !epochs.is_empty() {
            let held = self.fences();
            let still: BTreeSet<Scope> = self.answered(self.cx.store.beat_leases(&self.holder, &held)).await?.into_iter().collect();
            epochs.retain(|scope, epoch| {
                let kept = still.contains(scope);
                if !kept {
                    self.cx.metrics.leases_lost.inc();
                    tracing::warn!(scope = %scope, epoch = *epoch, "lost the lease of {scope}");
                }
                kept
            });
        }
        self.confirmed = Some(sent);
        Ok(epochs)
    }

    /// Takes what should be ours and is free, or has stood still for long enough.
    async fn take(&mut self, scopes: &BTreeSet<String>, epochs: &mut HashMap<Scope, i64>, sent: BootTime) -> Result<(), String> {
        let before = epochs.len();
        let leaving = |scope: &str| self.leaving.iter().any(|fence| &*fence.scope == scope);
        let missing: Vec<&String> = scopes.iter().filter(|scope| !epochs.contains_key(scope.as_str()) && !leaving(scope)).collect();
        for scope in missing {
            let row = self.seen.row(scope);
            if !row.is_none_or(|row| row.holder == self.holder || self.cx.store.exclusive() || self.seen.free(row, sent)) {
                continue;
            }
            let taken = match row.filter(|row| row.holder == self.holder) {
                // Taken in a look that the store then cut short.
                Some(row) => Some(row.epoch),
                None => self.answered(self.cx.store.take_lease(scope, row, &self.holder, self.cx.clock.now())).await?,
            };
            if let Some(epoch) = taken {
                tracing::debug!(scope = %scope, epoch, "took the lease of {scope}");
                epochs.insert(scope.as_str().into(), epoch);
            }
        }
        if epochs.len() > before {
            tracing::info!(
                taken = epochs.len() - before,
                held = epochs.len(),
                wanted = scopes.len(),
                "holding {} of {} leases",
                epochs.len(),
                scopes.len()
            );
        }
        Ok(())
    }
}

/// Makes sure that no other process lives under this node's name, before this one joins under it. What a dead one has left does not
/// move, or once more if its last beat was on its way: that is known when it has stood still for a little more than one beat.
pub async fn refuse_twin(store: &dyn Store, name: &str, times: Times) -> anyhow::Result<()> {
    if store.exclusive() {
        return Ok(());
    }
    let scope = agent_scope(name);
    let began = BootTime::now();
    let mut seen = Seen::new(times.take_over);
    loop {
        seen.note(store.leases().await?, BootTime::now());
        if let Some(rival) = seen.rival(&scope, "") {
            return Err(twins(name, rival));
        }
        let stands = BootTime::now().since(seen.since(&scope).unwrap_or(began));
        if seen.row(&scope).is_none_or(|row| row.holder.is_empty()) || stands > times.beat * 3 / 2 {
            return Ok(());
        }
        tokio::time::sleep(times.beat / LOOKS_PER_BEAT).await;
    }
}

fn twins(name: &str, rival: &str) -> anyhow::Error {
    anyhow::anyhow!("another process runs as node {name} (lease {rival}): give one of them another agent.name")
}

/// The node's name in a holder.
fn node_of(row: &LeaseRow) -> &str {
    row.holder.split('#').next().unwrap_or_default()
}
