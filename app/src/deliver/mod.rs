//! Deliverers: one task per channel carries its outbox to the provider.
//!
//! A task wakes on a signal and also polls; it acts on the row it reads, never on what woke it. An attempt is marked in
//! the store before the call and its end after it, both under the lease of the channel's budget: a crash in between
//! repeats the attempt with the same key, and forgets nothing. Channels do not wait for each other; within one, attempts
//! follow one another, so that a reader sees what happened in the order in which it happened.
//!
//! What is true and whom it concerns was decided with the incident. Whether anybody is disturbed by it now is said by
//! [`watchkeeper_core::plan::delivery_plan`], here, at the last moment: sent alone, sent with others as a digest, held, or
//! suppressed; the reason is written on the notice. Nothing here decides it beside the plan.

mod attempt;
mod failing;
mod mutes;
mod outbox;
mod pace;
mod parcel;
mod task;

use crate::channel::{Channel, ChannelKind, Common};
use crate::clock::{Clock, next_beat};
use crate::net::{Guard, Net};
use crate::store::{Fence, Store};
use crate::telemetry::SharedMetrics;
use failing::AllFailing;
pub use failing::Failing;
pub use outbox::{Outbox, Stored};
use pace::{Cap, Shared};
use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use task::Deliverer;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watchkeeper_core::{ChannelId, Dur, Micros};

/// The outbox is looked at so often even if nothing wakes us. Rarer would let a message wait that another node
/// decided; more often would only load the store.
const POLL: Duration = Duration::from_secs(5);

/// Says whether we may act on a scope now, and under which epoch.
pub type FenceOf = Arc<dyn Fn(&str) -> Option<Fence> + Send + Sync>;

/// The lease under which a budget's deliveries are made.
pub fn scope(budget_key: &str) -> String {
    format!("channel/{budget_key}")
}

/// A channel that messages are to be carried to.
#[derive(Clone)]
pub struct ChannelSpec {
    /// Row id.
    pub id: ChannelId,
    /// Its configured name.
    pub name: String,
    /// `telegram`, …
    pub kind: &'static str,
    /// Which lease and budget it shares.
    pub budget_key: String,
    /// Equal means unchanged.
    pub hash: [u8; 32],
    /// Caps that its owner has set, beside those of its provider.
    pub budgets: SmallVec<[Cap; 3]>,
    /// What makes the call.
    pub channel: Arc<dyn Channel>,
    /// Which addresses it may reach.
    pub guard: Guard,
}

impl ChannelSpec {
    /// A configured channel under the id that the store gave it.
    pub fn new(id: ChannelId, name: &str, kind: &ChannelKind, common: &Common) -> Self {
        Self {
            id,
            name: name.to_owned(),
            kind: kind.kind(),
            budget_key: kind.budget_key(),
            hash: kind.hash(common),
            budgets: common.budget.clone(),
            channel: kind.build(name, common.style),
            guard: Guard::Open,
        }
    }

    /// The same for what may not reach everything; it is another one then.
    #[must_use]
    pub fn under(mut self, guard: Guard) -> Self {
        match guard {
            Guard::Open => {}
            Guard::NoLinkLocal => self.hash = Sha256::digest([&self.hash[..], b"no link-local"].concat()).into(),
            Guard::PublicOnly => self.hash = Sha256::digest([&self.hash[..], b"public only"].concat()).into(),
        }
        self.guard = guard;
        self
    }

    /// Every cap of this channel alone: at most so many messages within so long.
    fn caps(&self) -> SmallVec<[Cap; 3]> {
        self.channel.caps().own.iter().chain(&self.budgets).copied().collect()
    }
}

/// What every deliverer needs.
pub struct DeliverContext {
    /// The outbox.
    pub outbox: Arc<dyn Outbox>,
    /// The way out.
    pub net: Arc<Net>,
    /// UTC.
    pub clock: Clock,
    /// Our own series.
    pub metrics: SharedMetrics,
    /// Our leases.
    pub fence: FenceOf,
    /// What a channel that has taken nothing for so long was to tell is told by the last resort too.
    pub patience: Dur,
}

/// What all deliverers of this node have in common.
struct Node {
    cx: DeliverContext,
    /// What channels of one budget have sent together.
    shared: Shared,
    /// Channels that take nothing.
    failing: AllFailing,
    /// Changes when a notice is given up or passed on: another channel may have it as its last resort now.
    given_up: watch::Sender<()>,
}

struct Running {
    spec: watch::Sender<Arc<ChannelSpec>>,
    wake: Arc<Notify>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// All deliverers of this node.
pub struct Deliverers {
    node: Arc<Node>,
    running: Mutex<HashMap<ChannelId, Running>>,
    /// Those whose channel is gone, until their attempt in hand has ended.
    ending: Mutex<HashMap<ChannelId, Running>>,
    /// Those of the same channels that tell from the outbox of a node that is cut off.
    cut_off: Option<Box<Self>>,
}

impl Deliverers {
    /// No channel yet; call [`Self::apply`].
    pub fn new(cx: DeliverContext) -> Self {
        let node = Arc::new(Node { cx, shared: Shared::default(), failing: AllFailing::default(), given_up: watch::Sender::new(()) });
        Self { node, running: Mutex::default(), ending: Mutex::default(), cut_off: None }
    }

    /// With others that have the same channels, and tell from the outbox of a node that is cut off.
    #[must_use]
    pub fn with(self, cut_off: Self) -> Self {
        Self { cut_off: Some(Box::new(cut_off)), ..self }
    }

    /// Something waits in the outbox of a node that is cut off.
    pub fn wake_cut_off(&self, channel: ChannelId) {
        if let Some(cut_off) = &self.cut_off {
            cut_off.wake([channel]);
        }
    }

    /// Makes the channels be these. An attempt in hand is never interrupted: a changed channel is used from the next
    /// attempt on, and a removed one ends after it.
    pub fn apply(&self, channels: Vec<ChannelSpec>) {
        if let Some(cut_off) = &self.cut_off {
            cut_off.apply(channels.clone());
        }
        let mut running = lock(&self.running);
        let mut ending = lock(&self.ending);
        ending.retain(|_, old| !old.task.is_finished());
        self.node.shared.keep(&channels.iter().map(|channel| channel.budget_key.as_str()).collect::<HashSet<_>>());
        let gone: Vec<ChannelId> = running.keys().copied().filter(|id| channels.iter().all(|c| c.id != *id)).collect();
        for id in gone {
            if let Some(old) = running.remove(&id) {
                old.stop.cancel();
                ending.insert(id, old);
            }
        }
        for spec in channels {
            if let Some(known) = running.get(&spec.id) {
                let changed = |now: &Arc<ChannelSpec>| now.hash != spec.hash || now.name != spec.name || now.budgets != spec.budgets;
                if changed(&known.spec.borrow()) {
                    known.spec.send_replace(Arc::new(spec));
                    known.wake.notify_one();
                }
                continue;
            }
            let before = ending.remove(&spec.id).map(|old| old.task);
            running.insert(spec.id, self.start(spec, before));
        }
    }

    fn start(&self, spec: ChannelSpec, before: Option<JoinHandle<()>>) -> Running {
        let (sender, receiver) = watch::channel(Arc::new(spec));
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let (node, woken, stopped) = (self.node.clone(), wake.clone(), stop.clone());
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                // Two tasks on one channel would break its order. A failed one has been logged where it failed.
                let _ = before.await;
            }
            Deliverer::new(node, receiver, woken, stopped).run().await;
        });
        Running { spec: sender, wake, stop, task }
    }

    /// The channel has just been seen to work: what waits for another attempt is tried at once, as after a change of it.
    pub fn mended(&self, channel: ChannelId) {
        if let Some(cut_off) = &self.cut_off {
            cut_off.mended(channel);
        }
        if let Some(one) = lock(&self.running).get(&channel) {
            one.spec.send_modify(|_| {});
            one.wake.notify_one();
        }
    }

    /// Something was committed for these channels, or a lease came to us: look now.
    pub fn wake(&self, channels: impl IntoIterator<Item = ChannelId>) {
        let running = lock(&self.running);
        for id in channels {
            if let Some(one) = running.get(&id) {
                one.wake.notify_one();
            }
        }
    }

    /// Channels of this node that have taken nothing since before that moment.
    pub fn failing(&self, before: Micros) -> Vec<Failing> {
        self.node.failing.before(before)
    }

    /// Looks at every channel now.
    pub fn wake_all(&self) {
        for one in lock(&self.running).values() {
            one.wake.notify_one();
        }
    }

    /// Lets every attempt in hand end within the grace, then stops. Names the channels that did not end in time; their
    /// attempt is repeated after the next start.
    pub async fn shutdown(&self, grace: Duration) -> Vec<String> {
        let deadline = tokio::time::Instant::now() + grace;
        let mut all: Vec<Running> = lock(&self.running).drain().map(|(_, r)| r).collect();
        all.extend(lock(&self.ending).drain().map(|(_, r)| r));
        all.extend(self.cut_off.iter().flat_map(|cut_off| lock(&cut_off.running).drain().map(|(_, r)| r).collect::<Vec<_>>()));
        for one in &all {
            one.stop.cancel();
        }
        let mut late = Vec::new();
        for mut one in all {
            if tokio::time::timeout_at(deadline, &mut one.task).await.is_err() {
                one.task.abort();
                late.push(one.spec.borrow().name.clone());
            }
        }
        late
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}

/// Keeps the gauges of the outbox.
pub async fn show_outbox(store: Arc<dyn Store>, metrics: SharedMetrics, clock: Clock, stop: CancellationToken) {
    loop {
        // An outage of the store is told by those who need it; the gauges keep their last value.
        if let Ok(depth) = store.outbox_depth().await {
            metrics.outbox_depth.set(depth.waiting);
            metrics.outbox_dead.set(depth.dead);
            metrics.outbox_oldest.set(depth.oldest.map_or(0.0, |at| (clock.now() - at).0.max(0) as f64 / 1e6));
        }
        if stop.run_until_cancelled(tokio::time::sleep_until(next_beat(POLL).into())).await.is_none() {
            return;
        }
    }
}
