//! The outbox of a node that is cut off: what began and what ended since, in memory.
//!
//! That a channel took something is in the journal before it is believed. Everything else may be forgotten: the notices themselves are in
//! the journal with their batches, and what was not told is due in the store when they are given back. Mutes are those that were last read.

use super::{blocking, locked};
use crate::channel::content::Content;
use crate::deliver::Outbox;
use crate::journal::{Journal, Record};
use crate::store::{AttemptEnd, Attempted, Batch, Deferred, DueNotice, Fence, Mutes, NoticeWrite, Result, SentMessage, StoreError, Told};
use async_trait::async_trait;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{ChannelId, IncidentId, Micros, TenantId};

/// So many notices wait here at most; those beyond are told when the store is back. More would be memory; a storm of this size is told as
/// digests of the first.
const WAITING_MAX: usize = 20_000;

/// An attempt and its record are waited for so long before the journal is given back. Less than an attempt may take would tell twice what is
/// merely slow; more would keep everything from the store behind a full disk.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// One that waits.
struct Waiting {
    notice: DueNotice,
    nth: u32,
    next_at: Micros,
    /// An attempt is under way.
    sending: bool,
}

#[derive(Default)]
struct Inner {
    /// By the order in which they were decided.
    waiting: BTreeMap<i64, Waiting>,
    last: i64,
    paused: bool,
    /// What was told about an incident on a channel: when last, and the provider's id of the first message.
    told: HashMap<(ChannelId, IncidentId), (Micros, Option<String>)>,
    sent: Vec<(ChannelId, SentMessage)>,
    mutes: HashMap<TenantId, Mutes>,
}

/// The outbox.
pub struct CutOffOutbox {
    inner: Mutex<Inner>,
    journal: Arc<Mutex<Journal>>,
    /// Rung when something was offered, and when an attempt has ended.
    changed: Notify,
    wake: OnceLock<Wake>,
}

type Wake = Box<dyn Fn(ChannelId) + Send + Sync>;

impl CutOffOutbox {
    /// An empty one.
    pub fn new(journal: Arc<Mutex<Journal>>) -> Self {
        Self { inner: Mutex::default(), journal, changed: Notify::new(), wake: OnceLock::new() }
    }

    /// Who is to be woken when something waits for a channel.
    pub(super) fn wakes(&self, wake: Wake) {
        // Said twice, the first one stays.
        let _ = self.wake.set(wake);
    }

    /// What may mute notices, as it was read last.
    pub fn remember(&self, mutes: HashMap<TenantId, Mutes>) {
        locked(&self.inner).mutes = mutes;
    }

    /// What begins and what ends in a batch is to be told.
    pub(super) fn offer(&self, batch: &Batch, node: &str) {
        let mut channels = Vec::new();
        {
            let mut inner = locked(&self.inner);
            for decision in &batch.decisions {
                for notice in &decision.notices {
                    let begins_or_ends = matches!(notice.event, NoticeEvent::Opened | NoticeEvent::Resolved);
                    if !begins_or_ends || notice.not_before.is_some() || inner.waiting.len() >= WAITING_MAX {
                        continue;
                    }
                    inner.last += 1;
                    let id = inner.last;
                    let due = due(id, decision.tenant, notice, node);
                    inner.waiting.insert(id, Waiting { notice: due, nth: notice.nth, next_at: notice.at, sending: false });
                    channels.push(notice.channel);
                }
            }
        }
        channels.sort_unstable();
        channels.dedup();
        if let Some(wake) = self.wake.get() {
            channels.into_iter().for_each(wake);
        }
    }

    /// Nothing more is told from here; returns when no attempt is under way, or when one cannot be ended because the journal is full: what
    /// it told is then told again, as only giving the journal back makes room.
    pub(super) async fn pause(&self) {
        locked(&self.inner).paused = true;
        let quiet = async {
            loop {
                let changed = self.changed.notified();
                if !locked(&self.inner).waiting.values().any(|waiting| waiting.sending) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(PAUSE_MAX, quiet).await.is_err() {
            tracing::warn!("a message is under way for too long: it may be told again by the store's own outbox");
        }
    }

    /// Telling goes on.
    pub(super) fn resume(&self) {
        locked(&self.inner).paused = false;
    }

    /// The store has this batch, with its notices: what of them was not told is told from there.
    pub(super) fn stored(&self, batch: &Batch) {
        let mut inner = locked(&self.inner);
        for notice in batch.decisions.iter().flat_map(|decision| &decision.notices) {
            inner.waiting.retain(|_, waiting| waiting.notice.channel != notice.channel || waiting.notice.cause != notice.cause);
        }
    }

    /// The store has everything.
    pub(super) fn finish(&self) {
        let mut inner = locked(&self.inner);
        let mutes = std::mem::take(&mut inner.mutes);
        *inner = Inner { mutes, ..Inner::default() };
    }
}

/// The notice as deliverers see it, with a word that its node is cut off.
fn due(id: i64, tenant: TenantId, notice: &NoticeWrite, node: &str) -> DueNotice {
    let mut content = notice.content.clone();
    if let Content::Incident(message) = &mut content {
        message.cut_off = Some(node.to_owned());
    }
    DueNotice {
        id,
        cause: notice.cause.clone(),
        channel: notice.channel,
        tenant,
        incident: Some(notice.incident),
        event: Some(notice.event),
        severity: notice.severity,
        content,
        attempts: 0,
        with: None,
        created_at: notice.at,
        held: false,
        cooldown: notice.cooldown,
        told: None,
        unheard: false,
        over: (notice.event == NoticeEvent::Resolved).then_some(notice.at),
        last_about_rule: None,
        parents: Vec::new(),
    }
}

#[async_trait]
impl Outbox for CutOffOutbox {
    async fn due_notices(&self, channel: ChannelId, now: Micros, limit: i64) -> Result<Vec<DueNotice>> {
        let inner = locked(&self.inner);
        if inner.paused {
            return Ok(Vec::new());
        }
        let mut first: HashMap<IncidentId, i64> = HashMap::new();
        let mut over: HashMap<IncidentId, Micros> = HashMap::new();
        let ours = || inner.waiting.iter().filter(|(_, waiting)| waiting.notice.channel == channel);
        for (id, waiting) in ours() {
            let Some(incident) = waiting.notice.incident else { continue };
            first.entry(incident).or_insert(*id);
            if let Some(at) = waiting.notice.over {
                over.insert(incident, at);
            }
        }
        let mut due: Vec<(u32, DueNotice)> = ours()
            // Words about one incident keep their order.
            .filter(|(id, waiting)| waiting.notice.incident.is_none_or(|incident| first.get(&incident) == Some(id)))
            .filter(|(_, waiting)| !waiting.sending && waiting.next_at <= now)
            .map(|(_, waiting)| (waiting.nth, waiting.notice.clone()))
            .collect();
        due.sort_by_key(|(nth, notice)| (std::cmp::Reverse(notice.severity), notice.created_at, *nth, notice.id));
        due.truncate(usize::try_from(limit).unwrap_or(0));
        let with_past = |mut notice: DueNotice| {
            if let Some(incident) = notice.incident {
                notice.told = inner.told.get(&(channel, incident)).cloned();
                notice.over = over.get(&incident).copied();
            }
            notice
        };
        Ok(due.into_iter().map(|(_, notice)| with_past(notice)).collect())
    }

    async fn next_due(&self, channel: ChannelId) -> Result<Option<Micros>> {
        let inner = locked(&self.inner);
        if inner.paused {
            return Ok(None);
        }
        Ok(inner.waiting.values().filter(|waiting| waiting.notice.channel == channel).map(|waiting| waiting.next_at).min())
    }

    async fn begin_attempt(&self, notices: &[i64], _fence: &Fence, _now: Micros) -> Result<Vec<i64>> {
        let mut inner = locked(&self.inner);
        if inner.paused {
            return Ok(Vec::new());
        }
        let with = notices.iter().min().copied();
        let mut begun = Vec::new();
        for id in notices {
            if let Some(waiting) = inner.waiting.get_mut(id) {
                waiting.sending = true;
                waiting.notice.attempts += 1;
                waiting.notice.with = with;
                begun.push(*id);
            }
        }
        Ok(begun)
    }

    async fn end_attempt(&self, end: &AttemptEnd<'_>) -> Result<()> {
        let taken: Vec<DueNotice> = {
            let inner = locked(&self.inner);
            end.notices.iter().filter_map(|id| inner.waiting.get(id)).map(|waiting| waiting.notice.clone()).collect()
        };
        if let Attempted::Sent { provider_id } = end.attempted {
            let (key, digest, at) = (end.key.to_owned(), end.digest, end.at);
            let told = |notice: &DueNotice| Told {
                cause: notice.cause.clone(),
                channel: notice.channel,
                key: key.clone(),
                digest,
                provider_id: provider_id.clone(),
                at,
            };
            let (records, journal): (Vec<Record>, _) =
                (taken.iter().map(|notice| Record::Told(told(notice))).collect(), self.journal.clone());
            blocking(move || records.iter().try_for_each(|record| locked(&journal).append(record).map(drop)))
                .await
                .map_err(|error| StoreError::Broken { doing: "writing the journal", detail: error.to_string() })?;
        }
        {
            let mut inner = locked(&self.inner);
            match end.attempted {
                Attempted::Sent { provider_id } => {
                    for notice in &taken {
                        inner.waiting.remove(&notice.id);
                        if let Some(incident) = notice.incident {
                            let first = provider_id.clone().filter(|_| !end.digest);
                            let entry = inner.told.entry((notice.channel, incident)).or_insert((end.at, None));
                            entry.0 = end.at;
                            entry.1 = entry.1.take().or(first);
                        }
                    }
                    if let Some(notice) = taken.first() {
                        inner.sent.push((notice.channel, SentMessage { at: end.at, digest: end.digest }));
                    }
                }
                Attempted::Again { next_at, .. } => {
                    for id in end.notices {
                        if let Some(waiting) = inner.waiting.get_mut(id) {
                            (waiting.sending, waiting.next_at) = (false, *next_at);
                        }
                    }
                }
                // Whether it is given up is said by the store, which tries it anew.
                Attempted::Dead { .. } => inner.waiting.retain(|id, _| !end.notices.contains(id)),
            }
        }
        self.changed.notify_waiters();
        Ok(())
    }

    async fn defer(&self, deferred: &[(i64, Deferred)], _fence: &Fence, _now: Micros) -> Result<()> {
        let mut inner = locked(&self.inner);
        for (id, deferred) in deferred {
            match deferred {
                Deferred::Held { until, mute, .. } => {
                    if let Some(waiting) = inner.waiting.get_mut(id) {
                        waiting.next_at = *until;
                        waiting.notice.held |= *mute;
                    }
                }
                // The store judges it anew.
                Deferred::Suppressed { .. } => drop(inner.waiting.remove(id)),
            }
        }
        Ok(())
    }

    async fn hasten(&self, channel: ChannelId, _fence: &Fence, now: Micros) -> Result<()> {
        for waiting in locked(&self.inner).waiting.values_mut() {
            if waiting.notice.channel == channel && waiting.notice.attempts > 0 {
                waiting.next_at = waiting.next_at.min(now);
            }
        }
        Ok(())
    }

    async fn pass_on(&self, _channel: ChannelId, _before: Micros, _fence: &Fence, _now: Micros) -> Result<u64> {
        // Which channel is the last resort is the store's to say.
        Ok(0)
    }

    async fn recent_messages(&self, channel: ChannelId, since: Micros) -> Result<Vec<SentMessage>> {
        let inner = locked(&self.inner);
        Ok(inner.sent.iter().filter(|(of, message)| *of == channel && message.at >= since).map(|(_, message)| *message).collect())
    }

    async fn mutes(&self, tenant: TenantId, _now: Micros) -> Result<Mutes> {
        Ok(locked(&self.inner).mutes.get(&tenant).cloned().unwrap_or_default())
    }
}
