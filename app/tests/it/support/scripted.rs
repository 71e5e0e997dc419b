//! A world that can be stopped: a store in which, at one chosen moment, everything stands still; `outside.rs` has what lies beyond.
//!
//! The test then drops the whole program, as `kill -9` would, and starts it anew on the same file. A moment is the n-th
//! call of one use case, before it is made or after it has landed but before anybody knows.

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use watchkeeper::store::*;
use watchkeeper_core::ids::IdBlock;
use watchkeeper_core::verdict::Action;
use watchkeeper_core::{ChannelId, DatacenterId, Dur, Micros, MonitorId, TenantId};

/// Before the call reaches the other side, or after it has taken effect there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Before,
    After,
}

/// When the world stops: at the n-th call (from 1) of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    pub call: &'static str,
    pub nth: u32,
    pub side: Side,
}

/// Counts all calls of one life of the program, and stops the world at its moment. Cheap to clone.
#[derive(Clone)]
pub struct Script(Arc<Inner>);

struct Inner {
    at: Option<Moment>,
    counts: Mutex<BTreeMap<&'static str, u32>>,
    stopped: watch::Sender<bool>,
    away: AtomicBool,
}

impl Script {
    /// A script that stops the world at that moment, or never.
    pub fn new(at: Option<Moment>) -> Self {
        Self(Arc::new(Inner { at, counts: Mutex::default(), stopped: watch::Sender::new(false), away: AtomicBool::new(false) }))
    }

    /// Returns once the world has stopped.
    pub async fn stopped(&self) {
        let _ = self.0.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// How often each call was made.
    pub fn counts(&self) -> BTreeMap<&'static str, u32> {
        self.0.counts.lock().unwrap().clone()
    }

    /// Whether the world has stopped.
    pub fn is_stopped(&self) -> bool {
        *self.0.stopped.borrow()
    }

    /// Whether the world stops here. Once it has stopped, everything stops.
    pub fn stops(&self, call: &'static str, nth: u32, side: Side) -> bool {
        if self.0.at == Some(Moment { call, nth, side }) {
            self.0.stopped.send_replace(true);
        }
        self.is_stopped()
    }

    /// Counts such a call: its number, from 1.
    pub fn count(&self, call: &'static str) -> u32 {
        let mut counts = self.0.counts.lock().unwrap();
        let count = counts.entry(call).or_default();
        *count += 1;
        *count
    }

    /// From now on every call finds nobody, or finds the store again.
    pub fn set_away(&self, away: bool) {
        self.0.away.store(away, Ordering::SeqCst);
    }

    async fn around<T: Answer>(&self, call: &'static str, work: impl Future<Output = T>) -> T {
        if self.0.away.load(Ordering::SeqCst) {
            return T::nobody();
        }
        let nth = self.count(call);
        if self.stops(call, nth, Side::Before) {
            return pending().await;
        }
        let done = work.await;
        if self.stops(call, nth, Side::After) {
            return pending().await;
        }
        done
    }
}

/// What a call that reaches nobody comes to.
trait Answer {
    fn nobody() -> Self;
}

impl Answer for () {
    fn nobody() {}
}

impl<T> Answer for Result<T> {
    fn nobody() -> Self {
        Err(StoreError::Unavailable { doing: "asking", source: sqlx::Error::PoolTimedOut })
    }
}

/// A real store whose every call follows the script.
pub struct ScriptedStore {
    pub inner: Arc<dyn Store>,
    pub script: Script,
}

#[async_trait]
impl Store for ScriptedStore {
    fn accounts(&self) -> &dyn Accounts {
        self.inner.accounts()
    }

    fn subscribers(&self) -> &dyn Subscribers {
        self.inner.subscribers()
    }

    async fn join(&self, agent: &str, datacenter: &str, boot: &str, now: Micros) -> Result<Joined> {
        self.script.around("join", self.inner.join(agent, datacenter, boot, now)).await
    }

    async fn reserve_ids(&self, count: i64) -> Result<IdBlock> {
        self.script.around("reserve_ids", self.inner.reserve_ids(count)).await
    }

    async fn apply(
        &self,
        source: &str,
        hash: &str,
        tenants: &[TenantObjects],
        mandate: Mandate<'_>,
        beside: Beside<'_>,
        now: Micros,
    ) -> Result<Applied> {
        self.script.around("apply", self.inner.apply(source, hash, tenants, mandate, beside, now)).await
    }

    async fn documents(&self) -> Result<Documents> {
        self.script.around("documents", self.inner.documents()).await
    }

    async fn documents_version(&self) -> Result<i64> {
        self.script.around("documents_version", self.inner.documents_version()).await
    }

    async fn in_force(&self, source: &str) -> Result<Option<String>> {
        self.script.around("in_force", self.inner.in_force(source)).await
    }

    async fn datacenters(&self) -> Result<Vec<(DatacenterId, String)>> {
        self.script.around("datacenters", self.inner.datacenters()).await
    }

    async fn votes_since(&self, after: Option<i64>) -> Result<(Vec<HeardVote>, i64)> {
        self.script.around("votes_since", self.inner.votes_since(after)).await
    }

    async fn newest_event(&self) -> Result<i64> {
        self.script.around("newest_event", self.inner.newest_event()).await
    }

    async fn load(&self, monitors: &[MonitorId]) -> Result<Vec<StoredState>> {
        self.script.around("load", self.inner.load(monitors)).await
    }

    fn exclusive(&self) -> bool {
        self.inner.exclusive()
    }

    async fn leases(&self) -> Result<Vec<LeaseRow>> {
        self.script.around("leases", self.inner.leases()).await
    }

    async fn take_lease(&self, scope: &str, seen: Option<&LeaseRow>, holder: &str, now: Micros) -> Result<Option<i64>> {
        self.script.around("take_lease", self.inner.take_lease(scope, seen, holder, now)).await
    }

    async fn beat_leases(&self, holder: &str, held: &[Fence]) -> Result<Vec<Scope>> {
        self.script.around("beat_leases", self.inner.beat_leases(holder, held)).await
    }

    async fn release_leases(&self, holder: &str, held: &[Fence]) -> Result<()> {
        self.script.around("release_leases", self.inner.release_leases(holder, held)).await
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        self.script.around("commit", self.inner.commit(batch)).await
    }

    async fn push_target(&self, token: &str) -> Result<Option<MonitorId>> {
        self.script.around("push_target", self.inner.push_target(token)).await
    }

    async fn push_token(&self, scope: TenantScope, monitor: MonitorId) -> Result<Option<String>> {
        self.script.around("push_token", self.inner.push_token(scope, monitor)).await
    }

    async fn insert_push(&self, push: &PushRow) -> Result<()> {
        self.script.around("insert_push", self.inner.insert_push(push)).await
    }

    async fn unfolded_pushes(&self, limit: i64) -> Result<Vec<PushRow>> {
        self.script.around("unfolded_pushes", self.inner.unfolded_pushes(limit)).await
    }

    async fn due_notices(&self, channel: ChannelId, now: Micros, limit: i64) -> Result<Vec<DueNotice>> {
        self.script.around("due_notices", self.inner.due_notices(channel, now, limit)).await
    }

    async fn next_due(&self, channel: ChannelId) -> Result<Option<Micros>> {
        self.script.around("next_due", self.inner.next_due(channel)).await
    }

    async fn begin_attempt(&self, notices: &[i64], fence: &Fence, now: Micros) -> Result<Vec<i64>> {
        self.script.around("begin_attempt", self.inner.begin_attempt(notices, fence, now)).await
    }

    async fn end_attempt(&self, end: &AttemptEnd<'_>) -> Result<()> {
        self.script.around("end_attempt", self.inner.end_attempt(end)).await
    }

    async fn hasten(&self, channel: ChannelId, fence: &Fence, now: Micros) -> Result<()> {
        self.script.around("hasten", self.inner.hasten(channel, fence, now)).await
    }

    async fn pass_on(&self, channel: ChannelId, before: Micros, fence: &Fence, now: Micros) -> Result<u64> {
        self.script.around("pass_on", self.inner.pass_on(channel, before, fence, now)).await
    }

    async fn defer(&self, deferred: &[(i64, Deferred)], fence: &Fence, now: Micros) -> Result<()> {
        self.script.around("defer", self.inner.defer(deferred, fence, now)).await
    }

    async fn tell(&self, words: &[WordWrite]) -> Result<()> {
        self.script.around("tell", self.inner.tell(words)).await
    }

    async fn recent_messages(&self, channel: ChannelId, since: Micros) -> Result<Vec<SentMessage>> {
        self.script.around("recent_messages", self.inner.recent_messages(channel, since)).await
    }

    async fn channel_notices(&self, scope: TenantScope, channel: ChannelId, limit: i64) -> Result<Vec<ChannelNotice>> {
        self.script.around("channel_notices", self.inner.channel_notices(scope, channel, limit)).await
    }

    async fn dead_letters(&self, scope: TenantScope, before: Option<i64>, limit: i64) -> Result<Vec<DeadLetter>> {
        self.script.around("dead_letters", self.inner.dead_letters(scope, before, limit)).await
    }

    async fn retry_dead(&self, scope: TenantScope, notice: i64, now: Micros) -> Result<Option<ChannelId>> {
        self.script.around("retry_dead", self.inner.retry_dead(scope, notice, now)).await
    }

    async fn mutes(&self, tenant: TenantId, now: Micros) -> Result<Mutes> {
        self.script.around("mutes", self.inner.mutes(tenant, now)).await
    }

    async fn create_silence(&self, scope: TenantScope, silence: &Silence) -> Result<Option<LiveRow>> {
        self.script.around("create_silence", self.inner.create_silence(scope, silence)).await
    }

    async fn silences(&self, scope: TenantScope, since: Micros, limit: i64) -> Result<Vec<Silence>> {
        self.script.around("silences", self.inner.silences(scope, since, limit)).await
    }

    async fn end_silence(&self, scope: TenantScope, uid: &str, actor: &str, now: Micros) -> Result<Option<LiveRow>> {
        self.script.around("end_silence", self.inner.end_silence(scope, uid, actor, now)).await
    }

    async fn insert_action(
        &self,
        scope: TenantScope,
        incident_uid: &str,
        action: Action,
        actor: &str,
        comment: Option<&str>,
        now: Micros,
    ) -> Result<bool> {
        self.script.around("insert_action", self.inner.insert_action(scope, incident_uid, action, actor, comment, now)).await
    }

    async fn comment(&self, scope: TenantScope, incident_uid: &str, actor: &str, text: &str, now: Micros) -> Result<bool> {
        self.script.around("comment", self.inner.comment(scope, incident_uid, actor, text, now)).await
    }

    async fn unfolded_actions(&self, limit: i64) -> Result<Vec<ActionRow>> {
        self.script.around("unfolded_actions", self.inner.unfolded_actions(limit)).await
    }

    async fn outbox_depth(&self) -> Result<OutboxDepth> {
        self.script.around("outbox_depth", self.inner.outbox_depth()).await
    }

    async fn mark(&self, name: &str) -> Result<Option<String>> {
        self.script.around("mark", self.inner.mark(name)).await
    }

    async fn set_mark(&self, name: &str, text: &str) -> Result<()> {
        self.script.around("set_mark", self.inner.set_mark(name, text)).await
    }

    async fn tenants(&self) -> Result<Vec<(TenantId, String)>> {
        self.script.around("tenants", self.inner.tenants()).await
    }

    async fn monitors(&self, scope: TenantScope, after: Option<&str>, limit: i64) -> Result<Vec<MonitorView>> {
        self.script.around("monitors", self.inner.monitors(scope, after, limit)).await
    }

    async fn briefs(&self, scope: TenantScope) -> Result<Vec<MonitorBrief>> {
        self.script.around("briefs", self.inner.briefs(scope)).await
    }

    async fn stats(&self, scope: TenantScope) -> Result<Stats> {
        self.script.around("stats", self.inner.stats(scope)).await
    }

    async fn monitor(&self, scope: TenantScope, uid_or_name: &str) -> Result<Option<MonitorView>> {
        self.script.around("monitor", self.inner.monitor(scope, uid_or_name)).await
    }

    async fn heartbeats(
        &self,
        scope: TenantScope,
        monitor: MonitorId,
        before: Micros,
        limit: i64,
    ) -> Result<Vec<(BeatRow, Option<String>)>> {
        self.script.around("heartbeats", self.inner.heartbeats(scope, monitor, before, limit)).await
    }

    async fn metrics(
        &self,
        scope: TenantScope,
        monitor: MonitorId,
        seen_from: Option<DatacenterId>,
        from: Micros,
        to: Micros,
        span: Dur,
    ) -> Result<Vec<MetricBucket>> {
        self.script.around("metrics", self.inner.metrics(scope, monitor, seen_from, from, to, span)).await
    }

    async fn state_times(&self, scope: TenantScope, monitor: MonitorId, from: Micros, to: Micros) -> Result<StateTimes> {
        self.script.around("state_times", self.inner.state_times(scope, monitor, from, to)).await
    }

    async fn days(&self, scope: TenantScope, only: Option<MonitorId>, from: Micros, to: Micros) -> Result<Vec<MonitorDays>> {
        self.script.around("days", self.inner.days(scope, only, from, to)).await
    }

    async fn glance(&self, scope: TenantScope, monitors: &[MonitorId], span: GlanceSpan) -> Result<Glance> {
        self.script.around("glance", self.inner.glance(scope, monitors, span)).await
    }

    async fn incidents(&self, scope: TenantScope, filter: &IncidentFilter) -> Result<Vec<IncidentView>> {
        self.script.around("incidents", self.inner.incidents(scope, filter)).await
    }

    async fn incident(&self, scope: TenantScope, uid: &str) -> Result<Option<IncidentView>> {
        self.script.around("incident", self.inner.incident(scope, uid)).await
    }

    async fn live_after(&self, scope: TenantScope, after: i64, limit: i64) -> Result<(Vec<LiveRow>, i64)> {
        self.script.around("live_after", self.inner.live_after(scope, after, limit)).await
    }

    async fn housekeep(&self, retention: Retention, now: Micros) -> Result<Housekept> {
        self.script.around("housekeep", self.inner.housekeep(retention, now)).await
    }

    async fn ping(&self) -> Result<()> {
        self.script.around("ping", self.inner.ping()).await
    }

    async fn verify(&self) -> Result<Vec<String>> {
        self.script.around("verify", self.inner.verify()).await
    }

    async fn close(&self) {
        self.script.around("close", self.inner.close()).await;
    }
}
