//! The store on PostgreSQL 15 or newer, for one node or many.
//!
//! It works behind a transaction pooler: no LISTEN, no session SET, no statement that outlives its transaction, and every statement
//! inside an explicit one. Time-outs are set for each transaction, so that a node that froze inside one cannot hold up whoever takes
//! its scopes over; so is the schema of our tables. Statements stand in the sub-modules, in the same order as in `sqlite/`; here each use case gets its transaction.

mod accounts;
mod attempt;
mod belong;
mod commit;
pub(super) mod copy;
mod documents;
mod expire;
mod incidents;
mod keep;
mod late;
mod marks;
mod objects;
mod open;
mod outbox;
mod people;
mod push;
mod read;
mod subscribers;

use super::error::failed;
use super::keep::Expiry;
use super::marked::Marked;
use super::rows::Sql;
use super::{
    Accounts, ActionRow, Applied, AttemptEnd, Batch, BeatRow, Beside, ChannelNotice, Committed, DeadLetter, Deferred, Documents, DueNotice,
    Fence, Glance, GlanceSpan, HeardVote, Housekept, IncidentFilter, IncidentView, Joined, LeaseRow, LiveRow, Mandate, MetricBucket,
    MonitorBrief, MonitorDays, MonitorView, Mutes, OutboxDepth, PushRow, Result, Retention, Scope, SentMessage, Silence, StateTimes, Stats,
    Store, StoreError, StoredState, Subscribers, TenantObjects, TenantScope, WordWrite,
};
use async_trait::async_trait;
use sqlx::postgres::{PgArguments, PgConnection, PgPool, PgPoolOptions};
use sqlx::query::Query;
use sqlx::{Connection, Postgres, SqlSafeStr};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use watchkeeper_core::ids::IdBlock;
use watchkeeper_core::verdict::Action;
use watchkeeper_core::{ChannelId, DatacenterId, Dur, Micros, MonitorId, TenantId};

/// Connections of one node: the commit stream, the lease loop, housekeeping and deliverers each want one, the rest is for the API.
/// More wins nothing on a small server, fewer lets a slow page hold up a beat.
const CONNECTIONS: u32 = 10;
/// How long a use case waits for a connection before it is [`StoreError::Unavailable`].
const ACQUIRE: Duration = Duration::from_secs(4);
/// A use case that has not ended after so long is given up and its connection closed: a server that vanished without a word would
/// hold both for a quarter of an hour. Longer than the server's own limit below.
const GIVE_UP: Duration = Duration::from_secs(15);
/// A connection is renewed after so long, so that a moved server is found again.
const LIFETIME: Duration = Duration::from_mins(30);

/// An integrity check is given up after so long.
const LONG: Duration = Duration::from_mins(20);
/// One database.
pub(super) struct PostgresStore {
    pool: PgPool,
    /// How its transactions begin.
    begin: open::Begin,
    /// Which hours of which monitors this node has marked for a rollup already.
    marked: Mutex<Marked>,
    /// How far the deletion of old rows has come.
    expiry: Mutex<Expiry>,
}

/// A statement that is prepared, used and forgotten within its transaction: without this, each would stay prepared on the server.
fn query<'q>(sql: impl SqlSafeStr) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// Connects and brings the schema up to date.
pub(super) async fn open(url: &str) -> Result<PostgresStore> {
    let options = open::options(url)?;
    // Not from the pool: that would tell a refusal, or a server that is not there, as its own time-out.
    let mut connection = open::connect(&options).await?;
    let begin = open::migrate(&mut connection).await.map_err(failed("migrating the database"))?;
    // Whether it ends politely is of no importance.
    let _ = connection.close().await;
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE).max_lifetime(LIFETIME).connect_lazy_with(options);
    Ok(PostgresStore { pool, begin, marked: Mutex::default(), expiry: Mutex::new(Expiry::Done { at: Micros(i64::MIN) }) })
}

/// Locks what no panic can leave half-changed: these are caches.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}

/// A text as PostgreSQL can hold it: it refuses NUL, and a push or a provider may send one.
fn clean(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// Runs `$work` in one transaction of the store that begins with `$begin`, and gives up after `$limit`.
macro_rules! within {
    ($self:expr, $begin:expr, $limit:expr, |$tx:ident| $work:expr) => {{
        let mut connection = $self.pool.acquire().await?;
        let work = async {
            let mut transaction = connection.begin_with($begin).await?;
            let $tx: &mut PgConnection = &mut *transaction;
            let done = $work.await?;
            transaction.commit().await?;
            Sql::Ok(done)
        };
        match tokio::time::timeout($limit, work).await {
            Ok(done) => done,
            Err(_) => {
                // Nobody knows in which state it is.
                drop(connection.detach());
                Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))
            }
        }
    }};
}
use within;

/// Runs `$work` in one writing transaction.
macro_rules! write {
    ($self:ident, $doing:literal, |$tx:ident| $work:expr) => {{
        let done = async { within!($self, $self.begin.write.clone(), GIVE_UP, |$tx| $work) };
        done.await.map_err(failed($doing))
    }};
}

/// Runs `$work` in one reading transaction.
macro_rules! read {
    ($self:ident, $doing:literal, |$tx:ident| $work:expr) => {{
        let done = async { within!($self, $self.begin.read.clone(), GIVE_UP, |$tx| $work) };
        done.await.map_err(failed($doing))
    }};
}

use {read as reading, write as writing};

#[async_trait]
impl Store for PostgresStore {
    fn accounts(&self) -> &dyn Accounts {
        self
    }

    fn subscribers(&self) -> &dyn Subscribers {
        self
    }

    async fn join(&self, agent: &str, datacenter: &str, boot: &str, now: Micros) -> Result<Joined> {
        write!(self, "joining", |tx| belong::join(tx, agent, datacenter, boot, now))
    }

    async fn reserve_ids(&self, count: i64) -> Result<IdBlock> {
        write!(self, "reserving ids", |tx| belong::reserve_ids(tx, count))
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
        let applied = write!(self, "applying the configuration", |tx| objects::apply(tx, source, hash, tenants, mandate, beside, now))?;
        applied.ok_or(StoreError::NotInForce)
    }

    async fn documents(&self) -> Result<Documents> {
        read!(self, "reading what was made over the API", |tx| documents::documents(tx))
    }

    async fn documents_version(&self) -> Result<i64> {
        read!(self, "looking whether something was made over the API", |tx| documents::version(tx))
    }

    async fn in_force(&self, source: &str) -> Result<Option<String>> {
        read!(self, "reading which configuration is in force", |tx| objects::in_force(tx, source))
    }

    async fn datacenters(&self) -> Result<Vec<(DatacenterId, String)>> {
        read!(self, "listing datacenters", |tx| belong::datacenters(tx))
    }

    async fn load(&self, monitors: &[MonitorId]) -> Result<Vec<StoredState>> {
        read!(self, "loading states", |tx| belong::load(tx, monitors))
    }

    async fn votes_since(&self, after: Option<i64>) -> Result<(Vec<HeardVote>, i64)> {
        read!(self, "reading votes", |tx| belong::votes_since(tx, after))
    }

    fn exclusive(&self) -> bool {
        false
    }

    async fn leases(&self) -> Result<Vec<LeaseRow>> {
        read!(self, "reading leases", |tx| belong::leases(tx))
    }

    async fn take_lease(&self, scope: &str, seen: Option<&LeaseRow>, holder: &str, now: Micros) -> Result<Option<i64>> {
        write!(self, "taking a lease", |tx| belong::take_lease(tx, scope, seen, holder, now))
    }

    async fn beat_leases(&self, holder: &str, held: &[Fence]) -> Result<Vec<Scope>> {
        write!(self, "keeping leases", |tx| belong::beat_leases(tx, holder, held))
    }

    async fn release_leases(&self, holder: &str, held: &[Fence]) -> Result<()> {
        write!(self, "giving leases back", |tx| belong::release_leases(tx, holder, held))
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        commit::commit(self, batch).await.map_err(failed("committing a batch"))
    }

    async fn push_target(&self, token: &str) -> Result<Option<MonitorId>> {
        read!(self, "looking up a push token", |tx| push::push_target(tx, token))
    }

    async fn push_token(&self, scope: TenantScope, monitor: MonitorId) -> Result<Option<String>> {
        read!(self, "reading a push token", |tx| push::push_token(tx, scope, monitor))
    }

    async fn insert_push(&self, push: &PushRow) -> Result<()> {
        write!(self, "recording a push", |tx| push::insert_push(tx, push))
    }

    async fn unfolded_pushes(&self, limit: i64) -> Result<Vec<PushRow>> {
        read!(self, "reading pushes", |tx| push::unfolded_pushes(tx, limit))
    }

    async fn due_notices(&self, channel: ChannelId, now: Micros, limit: i64) -> Result<Vec<DueNotice>> {
        read!(self, "reading due notices", |tx| outbox::due_notices(tx, channel, now, limit))
    }

    async fn next_due(&self, channel: ChannelId) -> Result<Option<Micros>> {
        read!(self, "reading when a notice is due", |tx| outbox::next_due(tx, channel))
    }

    async fn begin_attempt(&self, notices: &[i64], fence: &Fence, now: Micros) -> Result<Vec<i64>> {
        write!(self, "beginning a delivery", |tx| attempt::begin(tx, notices, fence, now))
    }

    async fn end_attempt(&self, end: &AttemptEnd<'_>) -> Result<()> {
        write!(self, "recording a delivery", |tx| attempt::end(tx, end))
    }

    async fn defer(&self, deferred: &[(i64, Deferred)], fence: &Fence, now: Micros) -> Result<()> {
        write!(self, "putting notices off", |tx| attempt::defer(tx, deferred, fence, now))
    }

    async fn hasten(&self, channel: ChannelId, fence: &Fence, now: Micros) -> Result<()> {
        write!(self, "looking anew at what waits", |tx| attempt::hasten(tx, channel, fence, now))
    }

    async fn pass_on(&self, channel: ChannelId, before: Micros, fence: &Fence, now: Micros) -> Result<u64> {
        write!(self, "passing on what waits", |tx| attempt::pass_on(tx, channel, before, fence, now))
    }

    async fn tell(&self, words: &[WordWrite]) -> Result<()> {
        write!(self, "putting words in the outbox", |tx| outbox::tell(tx, words))
    }

    async fn recent_messages(&self, channel: ChannelId, since: Micros) -> Result<Vec<SentMessage>> {
        read!(self, "reading recent messages", |tx| outbox::recent_messages(tx, channel, since))
    }

    async fn channel_notices(&self, scope: TenantScope, channel: ChannelId, limit: i64) -> Result<Vec<ChannelNotice>> {
        read!(self, "reading what a channel got", |tx| outbox::channel_notices(tx, scope, channel, limit))
    }

    async fn dead_letters(&self, scope: TenantScope, before: Option<i64>, limit: i64) -> Result<Vec<DeadLetter>> {
        read!(self, "listing dead letters", |tx| outbox::dead_letters(tx, scope, before, limit))
    }

    async fn retry_dead(&self, scope: TenantScope, notice: i64, now: Micros) -> Result<Option<ChannelId>> {
        write!(self, "trying a dead letter again", |tx| outbox::retry_dead(tx, scope, notice, now))
    }

    async fn mutes(&self, tenant: TenantId, now: Micros) -> Result<Mutes> {
        read!(self, "reading silences and maintenance", |tx| people::mutes(tx, tenant, now))
    }

    async fn create_silence(&self, scope: TenantScope, silence: &Silence) -> Result<Option<LiveRow>> {
        write!(self, "adding a silence", |tx| people::create_silence(tx, scope, silence))
    }

    async fn silences(&self, scope: TenantScope, since: Micros, limit: i64) -> Result<Vec<Silence>> {
        read!(self, "listing silences", |tx| people::silences(tx, scope, since, limit))
    }

    async fn end_silence(&self, scope: TenantScope, uid: &str, actor: &str, now: Micros) -> Result<Option<LiveRow>> {
        write!(self, "ending a silence", |tx| people::end_silence(tx, scope, uid, actor, now))
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
        write!(self, "recording an action", |tx| people::insert_action(tx, scope, incident_uid, action, actor, comment, now))
    }

    async fn comment(&self, scope: TenantScope, incident_uid: &str, actor: &str, text: &str, now: Micros) -> Result<bool> {
        write!(self, "adding a comment", |tx| people::comment(tx, scope, incident_uid, actor, text, now))
    }

    async fn unfolded_actions(&self, limit: i64) -> Result<Vec<ActionRow>> {
        read!(self, "reading actions", |tx| people::unfolded_actions(tx, limit))
    }

    async fn outbox_depth(&self) -> Result<OutboxDepth> {
        read!(self, "measuring the outbox", |tx| outbox::outbox_depth(tx))
    }

    async fn mark(&self, name: &str) -> Result<Option<String>> {
        read!(self, "reading a mark", |tx| marks::mark(tx, name))
    }

    async fn set_mark(&self, name: &str, text: &str) -> Result<()> {
        write!(self, "writing a mark", |tx| marks::set_mark(tx, name, text))
    }

    async fn tenants(&self) -> Result<Vec<(TenantId, String)>> {
        read!(self, "listing tenants", |tx| read::tenants(tx))
    }

    async fn monitors(&self, scope: TenantScope, after: Option<&str>, limit: i64) -> Result<Vec<MonitorView>> {
        read!(self, "listing monitors", |tx| read::monitors(tx, scope, after, limit))
    }

    async fn briefs(&self, scope: TenantScope) -> Result<Vec<MonitorBrief>> {
        read!(self, "listing all monitors in brief", |tx| read::briefs(tx, scope))
    }

    async fn stats(&self, scope: TenantScope) -> Result<Stats> {
        read!(self, "counting monitors", |tx| read::stats(tx, scope))
    }

    async fn monitor(&self, scope: TenantScope, uid_or_name: &str) -> Result<Option<MonitorView>> {
        read!(self, "reading a monitor", |tx| read::monitor(tx, scope, uid_or_name))
    }

    async fn heartbeats(
        &self,
        scope: TenantScope,
        monitor: MonitorId,
        before: Micros,
        limit: i64,
    ) -> Result<Vec<(BeatRow, Option<String>)>> {
        read!(self, "reading heartbeats", |tx| read::heartbeats(tx, scope, monitor, before, limit))
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
        read!(self, "reading metrics", |tx| read::metrics(tx, scope, monitor, seen_from, from, to, span))
    }

    async fn state_times(&self, scope: TenantScope, monitor: MonitorId, from: Micros, to: Micros) -> Result<StateTimes> {
        read!(self, "reading state times", |tx| read::state_times(tx, scope, monitor, from, to))
    }

    async fn days(&self, scope: TenantScope, only: Option<MonitorId>, from: Micros, to: Micros) -> Result<Vec<MonitorDays>> {
        read!(self, "reading days", |tx| read::days(tx, scope, only.as_ref().map(std::slice::from_ref), from, to))
    }

    async fn glance(&self, scope: TenantScope, monitors: &[MonitorId], span: GlanceSpan) -> Result<Glance> {
        read!(self, "reading what a public page shows", |tx| read::glance(tx, scope, monitors, span))
    }

    async fn incidents(&self, scope: TenantScope, filter: &IncidentFilter) -> Result<Vec<IncidentView>> {
        read!(self, "listing incidents", |tx| read::incidents(tx, scope, filter))
    }

    async fn incident(&self, scope: TenantScope, uid: &str) -> Result<Option<IncidentView>> {
        read!(self, "reading an incident", |tx| read::incident(tx, scope, uid))
    }

    async fn newest_event(&self) -> Result<i64> {
        read!(self, "reading the newest event", |tx| read::newest_event(tx))
    }

    async fn live_after(&self, scope: TenantScope, after: i64, limit: i64) -> Result<(Vec<LiveRow>, i64)> {
        read!(self, "reading live events", |tx| read::live_after(tx, scope, after, limit))
    }

    async fn housekeep(&self, retention: Retention, now: Micros) -> Result<Housekept> {
        keep::housekeep(self, retention, now).await.map_err(failed("keeping house"))
    }

    async fn ping(&self) -> Result<()> {
        read!(self, "asking for a sign of life", |tx| keep::ping(tx))
    }

    async fn verify(&self) -> Result<Vec<String>> {
        let done = async { within!(self, self.begin.long.clone(), LONG, |tx| keep::verify(tx)) };
        done.await.map_err(failed("checking integrity"))
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}
