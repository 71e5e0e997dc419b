//! What deliverers need of an outbox: the store's, or that of a node that is cut off from it.

use crate::store::{AttemptEnd, Deferred, DueNotice, Fence, Mutes, Result, SentMessage, Store};
use async_trait::async_trait;
use std::sync::Arc;
use watchkeeper_core::{ChannelId, Micros, TenantId};

/// As the methods of [`Store`] of the same names.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// What is due, most urgent first.
    async fn due_notices(&self, channel: ChannelId, now: Micros, limit: i64) -> Result<Vec<DueNotice>>;
    /// When the next one becomes due.
    async fn next_due(&self, channel: ChannelId) -> Result<Option<Micros>>;
    /// Marks an attempt as begun.
    async fn begin_attempt(&self, notices: &[i64], fence: &Fence, now: Micros) -> Result<Vec<i64>>;
    /// Records how it ended.
    async fn end_attempt(&self, end: &AttemptEnd<'_>) -> Result<()>;
    /// Records what is held or suppressed.
    async fn defer(&self, deferred: &[(i64, Deferred)], fence: &Fence, now: Micros) -> Result<()>;
    /// Makes what waits for another attempt due.
    async fn hasten(&self, channel: ChannelId, fence: &Fence, now: Micros) -> Result<()>;
    /// Gives the last resort what nobody was told.
    async fn pass_on(&self, channel: ChannelId, before: Micros, fence: &Fence, now: Micros) -> Result<u64>;
    /// What the channel took lately.
    async fn recent_messages(&self, channel: ChannelId, since: Micros) -> Result<Vec<SentMessage>>;
    /// What may mute the tenant's notices.
    async fn mutes(&self, tenant: TenantId, now: Micros) -> Result<Mutes>;
}

/// The store's.
pub struct Stored(pub Arc<dyn Store>);

#[async_trait]
impl Outbox for Stored {
    async fn due_notices(&self, channel: ChannelId, now: Micros, limit: i64) -> Result<Vec<DueNotice>> {
        self.0.due_notices(channel, now, limit).await
    }

    async fn next_due(&self, channel: ChannelId) -> Result<Option<Micros>> {
        self.0.next_due(channel).await
    }

    async fn begin_attempt(&self, notices: &[i64], fence: &Fence, now: Micros) -> Result<Vec<i64>> {
        self.0.begin_attempt(notices, fence, now).await
    }

    async fn end_attempt(&self, end: &AttemptEnd<'_>) -> Result<()> {
        self.0.end_attempt(end).await
    }

    async fn defer(&self, deferred: &[(i64, Deferred)], fence: &Fence, now: Micros) -> Result<()> {
        self.0.defer(deferred, fence, now).await
    }

    async fn hasten(&self, channel: ChannelId, fence: &Fence, now: Micros) -> Result<()> {
        self.0.hasten(channel, fence, now).await
    }

    async fn pass_on(&self, channel: ChannelId, before: Micros, fence: &Fence, now: Micros) -> Result<u64> {
        self.0.pass_on(channel, before, fence, now).await
    }

    async fn recent_messages(&self, channel: ChannelId, since: Micros) -> Result<Vec<SentMessage>> {
        self.0.recent_messages(channel, since).await
    }

    async fn mutes(&self, tenant: TenantId, now: Micros) -> Result<Mutes> {
        self.0.mutes(tenant, now).await
    }
}
