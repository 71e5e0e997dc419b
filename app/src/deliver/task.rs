//! One channel's task: reads what is due, calls the channel, records how it ended.

use super::{ChannelSpec, DeliverContext, POLL, scope};
use crate::channel::text::words;
use crate::channel::{ATTEMPT_MAX, Accepted, Delivery, Refused, RefusedClass, Retry};
use crate::config::decode::show_duration;
use crate::store::{AttemptEnd, Attempted, DueNotice, Fence, StoreError};
use crate::telemetry::ChannelLabel;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use watchkeeper_core::retry::{ATTEMPTS_MAX, pause};
use watchkeeper_core::{Dur, Micros};

/// No look follows another sooner, unless something wakes us: a row that is due but not ready must not make us spin.
const POLL_LEAST: Duration = Duration::from_millis(100);
/// So many notices are read at once. More would be stale before their turn; fewer would read the store for each.
const READ_AT_ONCE: i64 = 32;
/// A provider that fails is left alone for at most so long before the next notice is tried. Longer would delay
/// everything behind one failure; without it, a thousand waiting notices would each find the same fault anew.
const QUIET_MAX: Dur = Dur::secs(10);
/// A channel that ignores its deadline is cut off so long after it.
const OVERRUN: Duration = Duration::from_millis(500);
/// After a fault of our own the channel rests so long: shorter would fill the log with the same fault.
const AFTER_PANIC: Duration = Duration::from_secs(5);
/// While the store is out of reach it is asked again after so long. Shorter would load it while it recovers; longer
/// would delay what waits.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// One channel's task.
pub(super) struct Deliverer {
    cx: Arc<DeliverContext>,
    spec: watch::Receiver<Arc<ChannelSpec>>,
    wake: Arc<Notify>,
    stop: CancellationToken,
    /// Failures of the provider in a row.
    failures: u32,
    /// Until then the provider is left alone.
    quiet: Option<Instant>,
    /// The store is out of reach, and that has been logged.
    outage: bool,
    /// The attempt that has begun and whose end is not recorded.
    in_hand: Option<(i64, Fence)>,
}

impl Deliverer {
    pub(super) const fn new(
        cx: Arc<DeliverContext>,
        spec: watch::Receiver<Arc<ChannelSpec>>,
        wake: Arc<Notify>,
        stop: CancellationToken,
    ) -> Self {
        Self { cx, spec, wake, stop, failures: 0, quiet: None, outage: false, in_hand: None }
    }

    pub(super) async fn run(mut self) {
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
                () = tokio::time::sleep(look) => {}
            }
        }
    }

    /// A fault of ours must not silence a channel for good, nor keep what was in hand from being tried again.
    async fn after_panic(&mut self) -> Duration {
        tracing::error!(channel = %self.spec.borrow().name, "a deliverer failed inside this node; it goes on");
        if let Some((notice, fence)) = self.in_hand.take() {
            let next_at = self.cx.clock.now() + Dur::from_std(AFTER_PANIC);
            self.record(notice, &fence, &Attempted::Again { next_at, error: "the deliverer failed inside this node".to_owned() }).await;
        }
        AFTER_PANIC
    }

    fn note_outage(&mut self, error: &StoreError) {
        if !std::mem::replace(&mut self.outage, true) {
            let name = self.spec.borrow().name.clone();
            tracing::error!(channel = %name, error = %crate::chain(error), "the outbox of {name} cannot be read or written; trying again");
        }
    }

    /// Delivers what is due, and says when to look again.
    async fn round(&mut self) -> Result<Duration, StoreError> {
        loop {
            if let Some(left) = self.quiet.map(|until| until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero()) {
                return Ok(left.min(POLL));
            }
            let spec = self.spec.borrow_and_update().clone();
            let Some(fence) = (self.cx.fence)(&scope(&spec.budget_key)) else { return Ok(POLL) };
            let due = self.cx.store.due_notices(spec.id, self.cx.clock.now(), READ_AT_ONCE).await?;
            // The first may have been waited for by others of its incident, so what is due is read anew afterwards.
            let Some(first) = due.first() else {
                let next = self.cx.store.next_due(spec.id).await?;
                let wait = next.map_or(POLL, |at| (at - self.cx.clock.now()).to_std());
                return Ok(wait.clamp(POLL_LEAST, POLL));
            };
            if !self.attempt(&spec, &fence, first).await? {
                return Ok(POLL_LEAST);
            }
            for notice in &due[1..] {
                let again = (self.cx.fence)(&scope(&spec.budget_key)) != Some(fence.clone());
                if again || self.stop.is_cancelled() || self.quiet.is_some() || self.spec.has_changed().unwrap_or(true) {
                    break;
                }
                if !self.attempt(&spec, &fence, notice).await? {
                    break;
                }
            }
            if self.stop.is_cancelled() {
                return Ok(POLL);
            }
        }
    }

    /// One attempt for one notice. False if the notice or the lease is no longer ours.
    async fn attempt(&mut self, spec: &ChannelSpec, fence: &Fence, notice: &DueNotice) -> Result<bool, StoreError> {
        if self.cx.store.begin_attempt(&[notice.id], fence, self.cx.clock.now()).await?.is_empty() {
            return Ok(false);
        }
        self.in_hand = Some((notice.id, fence.clone()));
        let result = self.call(spec, notice).await;
        self.quiet = None;
        let attempts = notice.attempts + 1;
        let now = self.cx.clock.now();
        let (attempted, word) = match result {
            Ok(accepted) => {
                self.failures = 0;
                self.cx.metrics.notification_delay.observe((now - notice.created_at).0.max(0) as f64 / 1e6);
                let (name, title) = (&spec.name, words(&notice.content).title);
                tracing::info!(channel = %name, notice = notice.id, attempts, "told {name}: {title}");
                (Attempted::Sent { provider_id: accepted.provider_id }, "sent")
            }
            Err(refused) => self.refused(spec, notice, attempts, &refused, now),
        };
        self.cx.metrics.notifications.get_or_create(&ChannelLabel { channel: spec.name.clone(), result: word }).inc();
        self.record(notice.id, fence, &attempted).await;
        self.in_hand = None;
        Ok(true)
    }

    /// Decides about the next attempt, and leaves a provider alone that fails.
    fn refused(
        &mut self,
        spec: &ChannelSpec,
        notice: &DueNotice,
        attempts: u32,
        refused: &Refused,
        now: Micros,
    ) -> (Attempted, &'static str) {
        let error = refused.text.clone();
        let (name, title) = (&spec.name, words(&notice.content).title);
        let (asked, never) = match refused.retry {
            Retry::Never => (None, true),
            Retry::Soon => (None, false),
            Retry::After(asked) => (Some(asked), false),
        };
        match refused.class {
            RefusedClass::RateLimited | RefusedClass::Server | RefusedClass::Network | RefusedClass::Timeout => {
                self.failures += 1;
                let own = pause(self.failures, None, draw()).0.min(QUIET_MAX.0);
                self.quiet = Some(Instant::now() + Dur(asked.map_or(own, |a| a.0.max(own))).to_std());
            }
            // These are about this one message or about the credentials: another message may pass, or fails as fast.
            RefusedClass::Client | RefusedClass::Auth => self.failures = 0,
        }
        if never || attempts >= ATTEMPTS_MAX {
            tracing::error!(
                channel = %name, notice = notice.id, attempts, class = refused.class.as_str(),
                "{name} was not told, and it is given up: {title}: {error}",
            );
            return (Attempted::Dead { error }, "dead");
        }
        let wait = pause(attempts, asked, draw());
        tracing::warn!(
            channel = %name, notice = notice.id, attempts, class = refused.class.as_str(),
            "{name} was not told yet, again in {}: {title}: {error}", show_duration(Dur::millis(wait.0 / 1_000)),
        );
        (Attempted::Again { next_at: now + wait, error }, "retried")
    }

    /// The call itself, with its deadline; a panic is a failure like others.
    async fn call(&self, spec: &ChannelSpec, notice: &DueNotice) -> Result<Accepted, Refused> {
        let deadline = Instant::now() + ATTEMPT_MAX.to_std();
        let delivery = Delivery {
            content: notice.content.clone(),
            key: format!("{}/{}", notice.cause, notice.channel.0),
            deadline,
            now: self.cx.clock.now(),
            thread: notice.told.as_ref().and_then(|(_, first)| first.clone()),
        };
        let call = AssertUnwindSafe(spec.channel.deliver(&self.cx.net, &delivery)).catch_unwind();
        match tokio::time::timeout_at((deadline + OVERRUN).into(), call).await {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => {
                Err(Refused { class: RefusedClass::Client, retry: Retry::Soon, text: "the channel failed inside this node".to_owned() })
            }
            Err(_) => {
                let text = format!("no answer within {} s", ATTEMPT_MAX.0 / 1_000_000);
                Err(Refused { class: RefusedClass::Timeout, retry: Retry::Soon, text })
            }
        }
    }

    /// Writes how an attempt ended, until the store has it: forgetting that it was sent would tell the same again. That it
    /// was not sent is worth nothing once another holds the lease or the program ends: it is due again then.
    async fn record(&mut self, notice: i64, fence: &Fence, attempted: &Attempted) {
        loop {
            let end = AttemptEnd { notices: &[notice], fence, attempted, key: "", digest: false, at: self.cx.clock.now() };
            let Err(error) = self.cx.store.end_attempt(&end).await else { return };
            self.note_outage(&error);
            let sent = matches!(attempted, Attempted::Sent { .. });
            if !sent && (self.stop.is_cancelled() || (self.cx.fence)(&fence.scope).as_ref() != Some(fence)) {
                return;
            }
            tokio::time::sleep(STORE_PAUSE).await;
        }
    }
}

/// A number that spreads pauses; without randomness they are merely not spread.
fn draw() -> u64 {
    getrandom::u64().unwrap_or_default()
}
