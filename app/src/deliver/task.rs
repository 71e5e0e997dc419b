//! One channel's task: reads what is due, lets the plan say what becomes of it, writes down what waits, and sends the rest.

use super::attempt::Step;
use super::mutes::Quiet;
use super::pace::{Cap, Past};
use super::{ChannelSpec, DeliverContext, Node, POLL, scope};
use crate::store::{Deferred, DueNotice, Fence, StoreError};
use crate::telemetry::{ChannelOnly, ReasonLabel};
use futures_util::FutureExt;
use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use watchkeeper_core::plan::{DIGEST_MAX, HeldBy, Mute, Plan, Suppressed, Waiting, delivery_plan};
use watchkeeper_core::{Dur, Micros, TenantId};

/// No look follows another sooner, unless something wakes us: a row that is due but not ready must not make us spin.
pub(super) const POLL_LEAST: Duration = Duration::from_millis(100);
/// While the store is out of reach it is asked again after so long. Shorter would load it while it recovers; longer
/// would delay what waits.
pub(super) const STORE_PAUSE: Duration = Duration::from_secs(1);
/// A channel that takes nothing is asked so often whether there is more to pass on. Rarer would let the last resort hear later; more often
/// would only load the store.
const PASS_ON_EVERY: Dur = Dur::secs(10);
/// So many notices are read at once: what one digest may cover. Fewer would make a storm many digests.
const READ_AT_ONCE: i64 = DIGEST_MAX as i64;
/// So many messages leave one by one before what is due is read anew. More would let what came meanwhile wait, however urgent.
const SEND_AT_ONCE: usize = 32;

/// One channel's task.
pub(super) struct Deliverer {
    pub(super) node: Arc<Node>,
    pub(super) spec: watch::Receiver<Arc<ChannelSpec>>,
    wake: Arc<Notify>,
    pub(super) stop: CancellationToken,
    /// What was sent lately.
    pub(super) past: Past,
    /// Notices that the provider refused for good when they came in a digest: each is tried once alone.
    pub(super) alone: HashSet<i64>,
    /// Failures of the provider in a row.
    pub(super) failures: u32,
    /// Until then the provider is left alone.
    pub(super) quiet: Option<Instant>,
    /// What a channel that takes nothing was to tell is passed on not before then.
    pass_on_at: Micros,
    /// The store is out of reach, and that has been logged.
    outage: bool,
    /// The attempt that has begun and whose end is not recorded.
    pub(super) in_hand: Option<super::attempt::InHand>,
}

impl Deliverer {
    pub(super) fn new(node: Arc<Node>, spec: watch::Receiver<Arc<ChannelSpec>>, wake: Arc<Notify>, stop: CancellationToken) -> Self {
        Self {
            node,
            spec,
            wake,
            stop,
            past: Past::default(),
            alone: HashSet::new(),
            failures: 0,
            quiet: None,
            pass_on_at: Micros(0),
            outage: false,
            in_hand: None,
        }
    }

    pub(super) async fn run(mut self) {
        let mut elsewhere = self.node.given_up.subscribe();
        while !self.stop.is_cancelled() {
            let look = match AssertUnwindSafe(self.round()).catch_unwind().await {
                Ok(Ok(look)) => {
                    if std::mem::take(&mut self.outage) {
                        tracing::info!(channel = %self.spec.borrow().name, "the outbox can be read again");
                    }
                    look
                }
                Ok(Err(error)) => {
                    self.note_outage(&error);
                    STORE_PAUSE
                }
                Err(_panic) => self.after_panic().await,
            };
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = self.wake.notified() => {}
                // Another channel gave a notice up; it may have come to this one as the last resort.
                Ok(()) = elsewhere.changed() => {}
                () = tokio::time::sleep(look) => {}
            }
        }
        self.node.failing.over(self.spec.borrow().id);
    }

    pub(super) fn cx(&self) -> &DeliverContext {
        &self.node.cx
    }

    pub(super) fn note_outage(&mut self, error: &StoreError) {
        if !std::mem::replace(&mut self.outage, true) {
            let name = self.spec.borrow().name.clone();
            tracing::error!(channel = %name, error = %crate::chain(error), "the outbox of {name} cannot be read or written; trying again");
        }
    }

    /// Delivers what is due, and says when to look again.
    async fn round(&mut self) -> Result<Duration, StoreError> {
        loop {
            self.look_anew().await?;
            self.pass_on().await?;
            if let Some(left) = self.quiet.map(|until| until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero()) {
                return Ok(left.min(POLL));
            }
            let spec = self.spec.borrow().clone();
            let Some(fence) = (self.cx().fence)(&scope(&spec.budget_key)) else {
                self.node.failing.over(spec.id);
                return Ok(POLL);
            };
            let now = self.cx().clock.now();
            let caps = spec.caps();
            if self.past.learn(&*self.node.cx.outbox, spec.id, &fence, &caps, now).await? {
                self.alone.clear();
            }
            let due = self.cx().outbox.due_notices(spec.id, now, READ_AT_ONCE).await?;
            if due.is_empty() {
                return self.until_next(&spec).await;
            }
            let mutes = self.mutes(&due, now).await?;
            let planned = self.plan(&due, &mutes, &caps, now);
            if !planned.deferred.is_empty() {
                self.cx().outbox.defer(&planned.deferred, &fence, now).await?;
            }
            match self.send(&spec, &fence, &planned).await? {
                // Something left, and what waited for it may be due now.
                Step::Done if !self.stop.is_cancelled() => {}
                Step::Done => return Ok(POLL),
                Step::NotOurs => return Ok(POLL_LEAST),
                Step::Full(until) => return Ok((until - self.cx().clock.now()).to_std().clamp(POLL_LEAST, POLL)),
            }
        }
    }

    /// A channel that was changed, or was seen to work, is another provider or the same one mended: what it had asked for is over.
    async fn look_anew(&mut self) -> Result<(), StoreError> {
        if !self.spec.has_changed().unwrap_or(false) {
            return Ok(());
        }
        let spec = self.spec.borrow().clone();
        if let Some(fence) = (self.cx().fence)(&scope(&spec.budget_key)) {
            self.cx().outbox.hasten(spec.id, &fence, self.cx().clock.now()).await?;
        }
        (self.quiet, self.failures) = (None, 0);
        self.node.failing.over(spec.id);
        self.spec.mark_unchanged();
        Ok(())
    }

    /// What a channel has been failing at for long is told by the last resort too.
    async fn pass_on(&mut self) -> Result<(), StoreError> {
        let (spec, now) = (self.spec.borrow().clone(), self.cx().clock.now());
        let before = now - self.cx().patience;
        if now < self.pass_on_at || self.node.failing.since(spec.id).is_none_or(|since| since > before) {
            return Ok(());
        }
        let Some(fence) = (self.cx().fence)(&scope(&spec.budget_key)) else { return Ok(()) };
        self.pass_on_at = now + PASS_ON_EVERY;
        if self.cx().outbox.pass_on(spec.id, before, &fence, now).await? > 0 {
            self.node.given_up.send_replace(());
        }
        Ok(())
    }

    /// How long until something is due, if nothing wakes us.
    async fn until_next(&self, spec: &ChannelSpec) -> Result<Duration, StoreError> {
        let next = self.cx().outbox.next_due(spec.id).await?;
        Ok(next.map_or(POLL, |at| (at - self.cx().clock.now()).to_std()).clamp(POLL_LEAST, POLL))
    }

    /// What silences notices of these tenants now.
    async fn mutes(&self, due: &[DueNotice], now: Micros) -> Result<HashMap<TenantId, Quiet>, StoreError> {
        let mut mutes = HashMap::new();
        for notice in due.iter().filter(|notice| notice.incident.is_some()) {
            if let Entry::Vacant(place) = mutes.entry(notice.tenant) {
                place.insert(Quiet::at(self.cx().outbox.mutes(notice.tenant, now).await?, now));
            }
        }
        Ok(mutes)
    }

    fn plan<'n>(&mut self, due: &'n [DueNotice], mutes: &HashMap<TenantId, Quiet>, caps: &[Cap], now: Micros) -> Planned<'n> {
        let waiting: Vec<Waiting> = due
            .iter()
            .map(|notice| Waiting {
                mutes: mutes.get(&notice.tenant).map(|quiet| quiet.of(notice)).unwrap_or_default(),
                // One that was refused together with others goes alone, whatever else goes on.
                event: notice.event.filter(|_| !self.alone.contains(&notice.id)),
                ..notice.waiting()
            })
            .collect();
        let plans = delivery_plan(&waiting, &self.past.pace(caps, now), now);
        let of_id: HashMap<i64, &DueNotice> = due.iter().map(|notice| (notice.id, notice)).collect();
        let mut planned = Planned::default();
        for (id, plan) in plans {
            let Some(notice) = of_id.get(&id).copied() else { continue };
            match plan {
                Plan::Send => planned.singles.push(notice),
                Plan::Digest => planned.digest.push(notice),
                // It is due still when the next look is taken.
                Plan::Next => {}
                Plan::Hold(until, by) => {
                    self.cx().metrics.notices_held.get_or_create(&ReasonLabel { reason: held_word(&by) }).inc();
                    planned.deferred.push((id, Deferred::Held { until, why: by.sentence(), mute: by.is_mute() }));
                }
                Plan::Suppress(why) => {
                    self.cx().metrics.notices_suppressed.get_or_create(&ReasonLabel { reason: suppressed_word(&why) }).inc();
                    planned.deferred.push((id, Deferred::Suppressed { why: why.sentence().to_owned() }));
                }
            }
        }
        planned
    }

    /// Sends what the plan lets go. Stops early when the lease, the configuration or the provider's mood changes, or the program ends.
    async fn send(&mut self, spec: &ChannelSpec, fence: &Fence, planned: &Planned<'_>) -> Result<Step, StoreError> {
        let mut last = Step::NotOurs;
        if !planned.digest.is_empty() {
            last = self.attempt(spec, fence, &planned.digest).await?;
            if last == Step::Done {
                self.cx().metrics.digests.get_or_create(&ChannelOnly { channel: spec.name.clone() }).inc();
            }
        }
        for notice in planned.singles.iter().take(SEND_AT_ONCE) {
            match last {
                Step::Full(_) => return Ok(last),
                Step::Done if self.interrupted(spec, fence) => return Ok(last),
                Step::Done | Step::NotOurs => last = self.attempt(spec, fence, &[notice]).await?,
            }
        }
        Ok(last)
    }

    /// Whether the rest of a round is out of date.
    fn interrupted(&self, spec: &ChannelSpec, fence: &Fence) -> bool {
        let lease = (self.cx().fence)(&scope(&spec.budget_key));
        lease.as_ref() != Some(fence) || self.stop.is_cancelled() || self.quiet.is_some() || self.spec.has_changed().unwrap_or(true)
    }
}

/// What becomes of everything that was due.
#[derive(Default)]
struct Planned<'n> {
    /// To be sent one by one.
    singles: Vec<&'n DueNotice>,
    /// To be sent together.
    digest: Vec<&'n DueNotice>,
    /// To be written down.
    deferred: Vec<(i64, Deferred)>,
}

/// The word of the metric.
const fn held_word(by: &HeldBy) -> &'static str {
    match by {
        HeldBy::Mute(Mute::Silence { .. }) => "silence",
        HeldBy::Mute(Mute::Maintenance { .. }) => "maintenance",
        HeldBy::Mute(Mute::Parent { .. }) => "parent",
        HeldBy::Budget => "budget",
        HeldBy::Storm => "storm",
    }
}

/// The word of the metric.
const fn suppressed_word(why: &Suppressed) -> &'static str {
    match why {
        Suppressed::OverWhileHeld => "over_while_held",
        Suppressed::Unheard => "unheard",
        Suppressed::Cooldown => "cooldown",
        Suppressed::Duplicate => "duplicate",
    }
}
