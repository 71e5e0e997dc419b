//! The contract: what both stores promise.

use super::{
    Accounts, ActionRow, Applied, AttemptEnd, Batch, BeatRow, Beside, ChannelNotice, Committed, DeadLetter, Deferred, Documents, DueNotice,
    Fence, Glance, GlanceSpan, HeardVote, Housekept, IncidentFilter, IncidentView, Joined, LeaseRow, LiveRow, Mandate, MetricBucket,
    MonitorBrief, MonitorDays, MonitorView, Mutes, OutboxDepth, PushRow, Result, Retention, Scope, SentMessage, Silence, StateTimes, Stats,
    StoredState, Subscribers, TenantObjects, TenantScope, WordWrite,
};
use async_trait::async_trait;
use watchkeeper_core::ids::IdBlock;
use watchkeeper_core::verdict::Action;
use watchkeeper_core::{ChannelId, DatacenterId, Dur, Micros, MonitorId, TenantId};

/// The contract. Methods are use cases; each is one transaction.
#[async_trait]
pub trait Store: Send + Sync {
    /// Who may ask, and who changed what.
    fn accounts(&self) -> &dyn Accounts;
    /// Who is told what public status pages say.
    fn subscribers(&self) -> &dyn Subscribers;

    // --- belonging

    /// Registers this node in its datacenter (made if new) and finds its last batch. `boot` is new at every start.
    async fn join(&self, agent: &str, datacenter: &str, boot: &str, now: Micros) -> Result<Joined>;
    /// Reserves `count` ids for this node alone.
    async fn reserve_ids(&self, count: i64) -> Result<IdBlock>;
    /// Makes the objects of `source` be what is given: new ones are made, changed ones changed (`rev` + 1), missing ones retired. One transaction.
    /// A retired monitor that comes back under its id or name is the same monitor again, with its history. Without the mandate to change
    /// what is in force it is [`super::StoreError::NotInForce`] unless the hash is the same. The objects are those of the source and of the
    /// documents that were seen, with the changes that are written here; if the documents are others by now, nothing is done and it is
    /// [`super::StoreError::Outdated`].
    async fn apply(
        &self,
        source: &str,
        hash: &str,
        tenants: &[TenantObjects],
        mandate: Mandate<'_>,
        beside: Beside<'_>,
        now: Micros,
    ) -> Result<Applied>;
    /// Everything that was made over the API.
    async fn documents(&self) -> Result<Documents>;
    /// The version of it.
    async fn documents_version(&self) -> Result<i64>;
    /// The hash of the source's objects that are in force.
    async fn in_force(&self, source: &str) -> Result<Option<String>>;
    /// Every datacenter with its code.
    async fn datacenters(&self) -> Result<Vec<(DatacenterId, String)>>;
    /// The stored state of these monitors: one entry each, empty if nothing is stored.
    async fn load(&self, monitors: &[MonitorId]) -> Result<Vec<StoredState>>;
    /// Every vote that was written since an earlier call returned `after`, none missing but some perhaps again; and from where to go on.
    /// Without `after`, only that.
    async fn votes_since(&self, after: Option<i64>) -> Result<(Vec<HeardVote>, i64)>;

    // --- leases

    /// Whether no other process can use this store while we do (SQLite's lock file): a lease found in it is that of a dead process.
    fn exclusive(&self) -> bool;
    /// Every lease there is.
    async fn leases(&self) -> Result<Vec<LeaseRow>>;
    /// Takes a scope if it still stands as seen (`None`: no row yet): epoch + 1, beat 0. The new epoch, or `None` if somebody was quicker.
    async fn take_lease(&self, scope: &str, seen: Option<&LeaseRow>, holder: &str, now: Micros) -> Result<Option<i64>>;
    /// Adds 1 to `beat` of every scope that is still held under that epoch, and returns those scopes.
    async fn beat_leases(&self, holder: &str, held: &[Fence]) -> Result<Vec<Scope>>;
    /// Gives scopes back, so that another node may take them at once.
    async fn release_leases(&self, holder: &str, held: &[Fence]) -> Result<()>;

    // --- the commit stream

    /// Writes one batch in one transaction. Writing a batch number that has landed before changes nothing and succeeds; for the
    /// newest number it says what it said the first time.
    async fn commit(&self, batch: &Batch) -> Result<Committed>;

    // --- pushes

    /// The live monitor that a push token opens. A public id opens none: whoever reads the API knows it.
    async fn push_target(&self, token: &str) -> Result<Option<MonitorId>>;
    /// The token that opens a push monitor; for whoever may hand it out.
    async fn push_token(&self, scope: TenantScope, monitor: MonitorId) -> Result<Option<String>>;
    /// Records a push.
    async fn insert_push(&self, push: &PushRow) -> Result<()>;
    /// Pushes that no batch has folded yet, oldest first, at most `limit`. Here and below, no `limit` goes beyond [`super::PAGE_MAX`], and a
    /// negative one is zero.
    async fn unfolded_pushes(&self, limit: i64) -> Result<Vec<PushRow>>;

    // --- outbox

    /// Notices due on this channel, most urgent first, oldest first, with all that the plan needs; never one that must wait for an earlier
    /// notice of the same (channel, incident). Notices left in `sending` by a dead process are due again. A word that a mute holds back
    /// and that was never attempted is due at once when its incident is over (unless it is the word of the end), so that it can be
    /// found void and nothing waits behind it.
    async fn due_notices(&self, channel: ChannelId, now: Micros, limit: i64) -> Result<Vec<DueNotice>>;
    /// When the next notice of this channel becomes due, if any waits; one that must wait for an earlier notice does not count.
    async fn next_due(&self, channel: ChannelId) -> Result<Option<Micros>>;
    /// Marks an attempt as begun for these notices, under the channel's lease, and says for which: not for those that no longer
    /// wait; for none if the lease is no longer ours. What is due again afterwards says what it was begun together with.
    async fn begin_attempt(&self, notices: &[i64], fence: &Fence, now: Micros) -> Result<Vec<i64>>;
    /// Records how it ended, with an entry on each incident's timeline. That the provider took it is a fact, recorded whoever holds
    /// the lease by now; anything else is a decision, ignored once the attempt is no longer ours. When the last notice of a cause is
    /// given up, the tenant's last-resort channels get it.
    async fn end_attempt(&self, end: &AttemptEnd<'_>) -> Result<()>;
    /// Records that notices are held or will never be told, with the reason on the notice (and on the timeline when it is suppressed),
    /// under the channel's lease. Those that no longer wait are left alone.
    async fn defer(&self, deferred: &[(i64, Deferred)], fence: &Fence, now: Micros) -> Result<()>;
    /// Makes everything due that waits for another attempt on this channel, under the channel's lease.
    async fn hasten(&self, channel: ChannelId, fence: &Fence, now: Micros) -> Result<()>;
    /// Gives the tenants' last-resort channels, too, what this channel was to tell of incidents before that moment and what by now nobody
    /// was told: unless a mute holds it back, or another channel's hours do. Under the channel's lease. How many words that were.
    async fn pass_on(&self, channel: ChannelId, before: Micros, fence: &Fence, now: Micros) -> Result<u64>;
    /// Puts words that no incident caused in the outbox; those that are there already are left alone.
    async fn tell(&self, words: &[WordWrite]) -> Result<()>;
    /// What this channel took since then, oldest first, at most [`super::PAGE_MAX`].
    async fn recent_messages(&self, channel: ChannelId, since: Micros) -> Result<Vec<SentMessage>>;
    /// What this channel of the tenant took last, what waits for it and what was given up on it, newest first.
    async fn channel_notices(&self, scope: TenantScope, channel: ChannelId, limit: i64) -> Result<Vec<ChannelNotice>>;
    /// Notices that were given up, newest first, before a row id.
    async fn dead_letters(&self, scope: TenantScope, before: Option<i64>, limit: i64) -> Result<Vec<DeadLetter>>;
    /// Makes a dead notice due again, with its attempts counted anew. Its channel, or `None` if there is no such dead notice.
    async fn retry_dead(&self, scope: TenantScope, notice: i64, now: Micros) -> Result<Option<ChannelId>>;

    // --- people

    /// What may mute this tenant's notices now.
    async fn mutes(&self, tenant: TenantId, now: Micros) -> Result<Mutes>;
    /// Adds a silence, and the live event that says so; one that is there already is left alone (`None`).
    /// [`super::StoreError::Refused`] when [`super::SILENCES_MAX`] of this tenant have not ended.
    async fn create_silence(&self, scope: TenantScope, silence: &Silence) -> Result<Option<LiveRow>>;
    /// Silences that have not ended before `since`, newest first, at most `limit`.
    async fn silences(&self, scope: TenantScope, since: Micros, limit: i64) -> Result<Vec<Silence>>;
    /// Ends a silence now, with the live event that says so; what mutes hold back is looked at again at once (or as soon as its route's
    /// hours allow). `None` if there is none that lasts. Maintenance windows that `apply` changes have the same effect.
    async fn end_silence(&self, scope: TenantScope, uid: &str, actor: &str, now: Micros) -> Result<Option<LiveRow>>;
    /// Records what a person did about an open incident, and said with it. False if there is no such open incident.
    async fn insert_action(
        &self,
        scope: TenantScope,
        incident_uid: &str,
        action: Action,
        actor: &str,
        comment: Option<&str>,
        now: Micros,
    ) -> Result<bool>;
    /// Adds a person's words to an incident's timeline. False if there is no such incident.
    async fn comment(&self, scope: TenantScope, incident_uid: &str, actor: &str, text: &str, now: Micros) -> Result<bool>;
    /// Actions that no batch has folded yet, oldest first, also on incidents that have ended meanwhile.
    async fn unfolded_actions(&self, limit: i64) -> Result<Vec<ActionRow>>;

    /// How full the outbox is.
    async fn outbox_depth(&self) -> Result<OutboxDepth>;

    // --- marks

    /// What a part of the program noted under that name for its next life.
    async fn mark(&self, name: &str) -> Result<Option<String>>;
    /// Notes it, in place of what was noted before. Names are few and configured: there is one row for each for ever.
    async fn set_mark(&self, name: &str, text: &str) -> Result<()>;

    // --- reading, by tenant

    /// Every tenant: id and slug.
    async fn tenants(&self) -> Result<Vec<(TenantId, String)>>;
    /// Live monitors by name, after the given name, at most `limit`.
    async fn monitors(&self, scope: TenantScope, after: Option<&str>, limit: i64) -> Result<Vec<MonitorView>>;
    /// Every live monitor by name, in brief.
    async fn briefs(&self, scope: TenantScope) -> Result<Vec<MonitorBrief>>;
    /// The tenant in numbers.
    async fn stats(&self, scope: TenantScope) -> Result<Stats>;
    /// One monitor by its public id or, failing that, its name.
    async fn monitor(&self, scope: TenantScope, uid_or_name: &str) -> Result<Option<MonitorView>>;
    /// Its heartbeats before a time, newest first, with evidence where there is some.
    async fn heartbeats(
        &self,
        scope: TenantScope,
        monitor: MonitorId,
        before: Micros,
        limit: i64,
    ) -> Result<Vec<(BeatRow, Option<String>)>>;
    /// Its history in buckets of `span` over [from, to): from rollups for closed hours and days, from raw for what is younger or finer.
    /// With `seen_from`, of that datacenter's attempts alone.
    async fn metrics(
        &self,
        scope: TenantScope,
        monitor: MonitorId,
        seen_from: Option<DatacenterId>,
        from: Micros,
        to: Micros,
        span: Dur,
    ) -> Result<Vec<MetricBucket>>;
    /// How long it was in which state within [from, to); before its first state it was unknown.
    async fn state_times(&self, scope: TenantScope, monitor: MonitorId, from: Micros, to: Micros) -> Result<StateTimes>;
    /// The days of every live monitor, or of one, that was seen within [from, to), counted from `from`.
    async fn days(&self, scope: TenantScope, only: Option<MonitorId>, from: Micros, to: Micros) -> Result<Vec<MonitorDays>>;
    /// What a public page shows of these monitors, as far as they are the tenant's.
    async fn glance(&self, scope: TenantScope, monitors: &[MonitorId], span: GlanceSpan) -> Result<Glance>;
    /// Incidents, newest first.
    async fn incidents(&self, scope: TenantScope, filter: &IncidentFilter) -> Result<Vec<IncidentView>>;
    /// One incident with its timeline and notices.
    async fn incident(&self, scope: TenantScope, uid: &str) -> Result<Option<IncidentView>>;
    /// A number that grows with every event of any tenant.
    async fn newest_event(&self) -> Result<i64>;
    /// Live events after an id, oldest first; and the newest id there is.
    async fn live_after(&self, scope: TenantScope, after: i64, limit: i64) -> Result<(Vec<LiveRow>, i64)>;

    // --- keeping

    /// One bounded slice of housekeeping: moves beats, computes closed hours and days that are dirty, deletes what is too old, makes partitions ahead.
    /// Heartbeats that come after their hour's raw ones were deleted never make the rollup smaller.
    async fn housekeep(&self, retention: Retention, now: Micros) -> Result<Housekept>;
    /// Answers if the store is reached; used by `/ready`.
    async fn ping(&self) -> Result<()>;
    /// What an integrity check found wrong; empty is good. Includes the schema's own rules (one open incident per rule, every notice with its incident
    /// and a reason if it is held or suppressed).
    async fn verify(&self) -> Result<Vec<String>>;
    /// Closes it, so that everything is on disk and another process may open it.
    async fn close(&self);
}
