//! One attempt: marked in the store before the call, recorded after it; what a failure means for the next one.

use super::ChannelSpec;
use super::parcel::{Parcel, among};
use super::task::{Deliverer, STORE_PAUSE};
use crate::channel::{ATTEMPT_MAX, Accepted, Delivery, Refused, RefusedClass, Retry};
use crate::config::decode::show_duration;
use crate::store::{AttemptEnd, Attempted, DueNotice, Fence, StoreError};
use crate::telemetry::ChannelLabel;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use watchkeeper_core::retry::{ATTEMPTS_MAX, pause};
use watchkeeper_core::{Dur, Micros};

/// A message that has failed so often on the provider's side may be the reason itself: a digest is taken apart, and what else waits goes
/// first. Less would take every digest of a short outage apart; more would let one message keep others waiting for longer.
const STUBBORN: u32 = 4;
/// So long after the provider is tried again a stubborn message follows what else waits.
const BEHIND: Dur = Dur::secs(1);
/// A provider that fails is left alone for at most so long before the next notice is tried. Longer would delay
/// everything behind one failure; without it, a thousand waiting notices would each find the same fault anew.
const QUIET_MAX: Dur = Dur::secs(10);
/// A channel that ignores its deadline is cut off so long after it.
const OVERRUN: Duration = Duration::from_millis(500);
/// After a fault of our own the channel rests so long: shorter would fill the log with the same fault.
const AFTER_PANIC: Duration = Duration::from_secs(5);

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It was made and recorded.
    Done,
    /// None of the notices or the lease is ours any more.
    NotOurs,
    /// Others have used up what the provider allows; not before then.
    Full(Micros),
}

/// An attempt that has begun and whose end is not recorded.
#[derive(Clone, Debug)]
pub(super) struct InHand {
    ids: Vec<i64>,
    fence: Fence,
    key: String,
    digest: bool,
}

impl Deliverer {
    /// One attempt for these notices: one, or a digest of many.
    pub(super) async fn attempt(&mut self, spec: &ChannelSpec, fence: &Fence, notices: &[&DueNotice]) -> Result<Step, StoreError> {
        let now = self.cx().clock.now();
        if let Err(until) = self.node.shared.take(&spec.budget_key, &spec.channel.caps().shared, now) {
            return Ok(Step::Full(until));
        }
        let ids: Vec<i64> = notices.iter().map(|notice| notice.id).collect();
        let begun = self.cx().outbox.begin_attempt(&ids, fence, now).await?;
        let covered = among(notices, &begun);
        let Some(parcel) = Parcel::of(&covered, now) else { return Ok(Step::NotOurs) };
        let hand = InHand { ids: parcel.ids.clone(), fence: fence.clone(), key: parcel.key.clone(), digest: parcel.digest };
        self.in_hand = Some(hand.clone());
        self.past.attempted(now);
        let result = self.call(spec, &parcel).await;
        self.quiet = None;
        let now = self.cx().clock.now();
        let ends = match result {
            Ok(accepted) => vec![(parcel.ids.clone(), self.accepted(spec, &parcel, &covered, accepted, now))],
            Err(refused) => self.refused(spec, &parcel, &covered, &refused, now),
        };
        for (ids, attempted) in ends {
            let result = match &attempted {
                Attempted::Sent { .. } => "sent",
                Attempted::Again { .. } => "retried",
                Attempted::Dead { .. } => "dead",
            };
            self.cx().metrics.notifications.get_or_create(&ChannelLabel { channel: spec.name.clone(), result }).inc();
            self.record(&InHand { ids, ..hand.clone() }, &attempted).await;
        }
        self.in_hand = None;
        Ok(Step::Done)
    }

    fn accepted(&mut self, spec: &ChannelSpec, parcel: &Parcel, covered: &[&DueNotice], accepted: Accepted, now: Micros) -> Attempted {
        self.failures = 0;
        self.node.failing.over(spec.id);
        if parcel.digest {
            self.past.digested(now);
        }
        for notice in covered {
            self.alone.remove(&notice.id);
            self.cx().metrics.notification_delay.observe((now - notice.created_at).0.max(0) as f64 / 1e6);
        }
        let (name, attempts) = (&spec.name, attempts(covered));
        tracing::info!(channel = %name, notices = ?Few(&parcel.ids), attempts, "told {name}: {}", parcel.title());
        Attempted::Sent { provider_id: accepted.provider_id }
    }

    /// Decides about the next attempt of each, and leaves a provider alone that fails.
    fn refused(
        &mut self,
        spec: &ChannelSpec,
        parcel: &Parcel,
        covered: &[&DueNotice],
        refused: &Refused,
        now: Micros,
    ) -> Vec<(Vec<i64>, Attempted)> {
        let (asked, never) = match refused.retry {
            Retry::Never => (None, true),
            Retry::Soon => (None, false),
            Retry::After(asked) => (Some(asked), false),
        };
        // What is refused for good may be this one message's own fault.
        if !never {
            self.node.failing.failed(spec.id, refused.class, now);
        }
        match refused.class {
            RefusedClass::RateLimited | RefusedClass::Server | RefusedClass::Network | RefusedClass::Timeout => {
                self.failures += 1;
                let own = pause(self.failures, None, draw()).0.min(QUIET_MAX.0);
                self.quiet = Some(Instant::now() + Dur(asked.map_or(own, |a| a.0.max(own))).to_std());
            }
            // These are about this one message or about the credentials: another message may pass, or fails as fast.
            RefusedClass::Client | RefusedClass::Auth => self.failures = 0,
        }
        let (name, title, attempts) = (&spec.name, parcel.title(), attempts(covered));
        let (class, error) = (refused.class.as_str(), &refused.text);
        let (last, more): (Vec<&DueNotice>, Vec<&DueNotice>) =
            covered.iter().partition(|notice| (never && !parcel.digest) || notice.attempts + 1 >= ATTEMPTS_MAX);
        let mut ends = Vec::new();
        if !last.is_empty() {
            let ids: Vec<i64> = last.iter().map(|notice| notice.id).collect();
            tracing::error!(
                channel = %name, notices = ?Few(&ids), attempts, class,
                "{name} was not told, and it is given up: {title}: {error}",
            );
            self.alone.retain(|id| !ids.contains(id));
            ends.push((ids, Attempted::Dead { error: error.clone() }));
        }
        if !more.is_empty() {
            let ids: Vec<i64> = more.iter().map(|notice| notice.id).collect();
            let failing = matches!(refused.class, RefusedClass::Server | RefusedClass::Timeout);
            let wait = if never {
                // Something in the digest, or the digest itself, is not to the provider's taste: what is fine by itself shall pass.
                self.alone.extend(&ids);
                Dur::ZERO
            } else {
                if failing && parcel.digest && attempts >= STUBBORN {
                    self.alone.extend(&ids);
                }
                let wait = pause(attempts, asked, draw());
                let left = self.quiet.map_or(Dur::ZERO, |until| Dur::from_std(until.saturating_duration_since(Instant::now())));
                if failing && attempts >= STUBBORN { wait.max(left + BEHIND) } else { wait }
            };
            tracing::warn!(
                channel = %name, notices = ?Few(&ids), attempts, class,
                "{name} was not told yet, again in {}: {title}: {error}", show_duration(Dur::millis(wait.0 / 1_000)),
            );
            ends.push((ids, Attempted::Again { next_at: now + wait, error: error.clone() }));
        }
        ends
    }

    /// The call itself, with its deadline; a panic is a failure like others.
    async fn call(&self, spec: &ChannelSpec, parcel: &Parcel) -> Result<Accepted, Refused> {
        let deadline = Instant::now() + ATTEMPT_MAX.to_std();
        let delivery = Delivery {
            content: parcel.content.clone(),
            key: parcel.key.clone(),
            deadline,
            now: self.cx().clock.now(),
            thread: parcel.thread.clone(),
        };
        let net = Arc::new(self.cx().net.under(spec.guard));
        let call = AssertUnwindSafe(spec.channel.deliver(&net, &delivery)).catch_unwind();
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
    async fn record(&mut self, hand: &InHand, attempted: &Attempted) {
        loop {
            let at = self.cx().clock.now();
            let end = AttemptEnd { notices: &hand.ids, fence: &hand.fence, attempted, key: &hand.key, digest: hand.digest, at };
            let Err(error) = self.cx().outbox.end_attempt(&end).await else { break };
            self.note_outage(&error);
            let sent = matches!(attempted, Attempted::Sent { .. });
            if !sent && (self.stop.is_cancelled() || (self.cx().fence)(&hand.fence.scope).as_ref() != Some(&hand.fence)) {
                return;
            }
            tokio::time::sleep(STORE_PAUSE).await;
        }
        if matches!(attempted, Attempted::Dead { .. }) {
            self.node.given_up.send_replace(());
        }
    }

    /// A fault of ours must not silence a channel for good, nor keep what was in hand from being tried again.
    pub(super) async fn after_panic(&mut self) -> Duration {
        tracing::error!(channel = %self.spec.borrow().name, "a deliverer failed inside this node; it goes on");
        if let Some(hand) = self.in_hand.take() {
            let next_at = self.cx().clock.now() + Dur::from_std(AFTER_PANIC);
            self.record(&hand, &Attempted::Again { next_at, error: "the deliverer failed inside this node".to_owned() }).await;
        }
        AFTER_PANIC
    }
}

/// Attempts of a message so far, this one counted: those of the notice among its own that had the most.
fn attempts(covered: &[&DueNotice]) -> u32 {
    covered.iter().map(|notice| notice.attempts).max().unwrap_or_default() + 1
}

/// Row ids in a log: a digest's thousand would fill it.
struct Few<'a>(&'a [i64]);

impl std::fmt::Debug for Few<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 3;
        write!(f, "{:?}", &self.0[..self.0.len().min(SHOWN)])?;
        if self.0.len() > SHOWN { write!(f, " and {} more", self.0.len() - SHOWN) } else { Ok(()) }
    }
}

/// A number that spreads pauses; without randomness they are merely not spread.
fn draw() -> u64 {
    getrandom::u64().unwrap_or_default()
}
