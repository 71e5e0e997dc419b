//! The store on SQLite, for one node: WAL, `synchronous=FULL`, one writer, a few readers.
//!
//! Locks keep a second process out. Statements stand in the sub-modules, in the same order as in `postgres/`; here each use case
//! gets its transaction.

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
mod lock;
mod marks;
mod objects;
mod outbox;
mod people;
mod pool;
mod push;
mod read;
mod subscribers;

use super::error::failed;
use super::keep::Expiry;
use super::marked::Marked;
use super::rows::{Columns, Sql};
use super::{
    Accounts, ActionRow, Applied, AttemptEnd, Batch, BeatRow, Beside, ChannelNotice, Committed, DeadLetter, Deferred, Documents, DueNotice,
    Fence, Glance, GlanceSpan, HeardVote, Housekept, IncidentFilter, IncidentView, Joined, LeaseRow, LiveRow, Mandate, MetricBucket,
    MonitorBrief, MonitorDays, MonitorView, Mutes, OutboxDepth, PushRow, Result, Retention, Scope, SentMessage, Silence, StateTimes, Stats,
    Store, StoreError, StoredState, Subscribers, TenantObjects, TenantScope, WordWrite, migrate,
};
use async_trait::async_trait;
use lock::Lock;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{ConnectOptions, Sqlite, Transaction};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use watchkeeper_core::ids::IdBlock;
use watchkeeper_core::verdict::Action;
use watchkeeper_core::{ChannelId, DatacenterId, Dur, Micros, MonitorId, TenantId};

/// Readers at the same time. More only compete for two cores; one would let a slow page hold up the outbox.
const READERS: u32 = 3;
/// How long a statement waits for another process (a backup) that holds the file. Longer stalls the commit stream unseen;
/// shorter fails where waiting would have done.
const BUSY: Duration = Duration::from_secs(5);
/// So many prepared statements are kept: all that there are, in every width of those for many rows.
const STATEMENTS: usize = 400;
/// Page cache of the writer and of each reader in KiB (the pragma's sign says KiB). More is memory that small installations
/// miss; less makes the move of heartbeats read pages again.
const WRITER_CACHE: &str = "-4096";
const READER_CACHE: &str = "-1024";
/// After a burst the write-ahead log is cut back to so many bytes; SQLite alone would keep it at its largest for ever.
const WAL_KEPT: &str = "67108864";

/// One open file.
pub(super) struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    /// Held for as long as the store is open.
    lock: Mutex<Option<Lock>>,
    /// Which hours of which monitors are marked for a rollup already.
    marked: Mutex<Marked>,
    /// A move of heartbeats that is under way.
    moving: Mutex<Option<keep::Moving>>,
    /// How far the deletion of old rows has come.
    expiry: Mutex<Expiry>,
}

/// Opens the file, made if it is not there, and brings its schema up to date.
pub(super) async fn open(path: &str) -> Result<SqliteStore> {
    let doing = "opening the database";
    let lock = Lock::take(Path::new(path))?;
    let options = SqliteConnectOptions::new()
        .filename(&lock.path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .statement_cache_capacity(STATEMENTS)
        .disable_statement_logging();
    let writer = pool::options(1)
        .connect_with(options.clone().pragma("cache_size", WRITER_CACHE).pragma("journal_size_limit", WAL_KEPT))
        .await
        .map_err(failed(doing))?;
    migrate(&writer).await.map_err(failed("migrating the database"))?;
    let reader = options.pragma("cache_size", READER_CACHE).pragma("query_only", "ON");
    let readers = pool::options(READERS).connect_with(reader).await.map_err(failed(doing))?;
    Ok(SqliteStore {
        writer,
        readers,
        lock: Mutex::new(Some(lock)),
        marked: Mutex::default(),
        moving: Mutex::default(),
        expiry: Mutex::new(Expiry::Done { at: Micros(i64::MIN) }),
    })
}

/// Brings the schema up to date, each step in a transaction of its own.
async fn migrate(writer: &SqlitePool) -> Sql<()> {
    loop {
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        let steps = pending(&mut tx).await?;
        let Some(step) = steps.first() else { return tx.commit().await };
        apply_step(&mut tx, step).await?;
        tx.commit().await?;
    }
}

/// What the schema lacks.
async fn pending(tx: &mut SqliteConnection) -> Sql<&'static [migrate::Migration]> {
    sqlx::query(migrate::TABLE).execute(&mut *tx).await?;
    migrate::pending(migrate::SQLITE, &applied(tx).await?)
}

/// Which migrations the file has had.
async fn applied(tx: &mut SqliteConnection) -> Sql<Vec<(i64, String)>> {
    let rows = sqlx::query("SELECT version, checksum FROM wk_migration ORDER BY version").fetch_all(&mut *tx).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.text(1)?))).collect()
}

/// Applies one migration within the transaction.
async fn apply_step(tx: &mut SqliteConnection, step: &migrate::Migration) -> Sql<()> {
    sqlx::raw_sql(step.sql).execute(&mut *tx).await?;
    sqlx::query("INSERT INTO wk_migration (version, name, checksum) VALUES ($1, $2, $3)")
        .bind(step.version)
        .bind(step.name)
        .bind(step.checksum())
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// Locks what no panic can leave half-changed: these are caches.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}

/// Runs `$work` in one writing transaction.
macro_rules! write {
    ($self:ident, $doing:literal, |$tx:ident| $work:expr) => {{
        let mut transaction = $self.begin_write().await.map_err(failed($doing))?;
        let $tx = &mut *transaction;
        let done = $work.await.map_err(failed($doing))?;
        transaction.commit().await.map_err(failed($doing))?;
        Ok(done)
    }};
}

/// Runs `$work` in one reading transaction: everything it reads is of one moment.
macro_rules! read {
    ($self:ident, $doing:literal, |$tx:ident| $work:expr) => {{
        let mut transaction = $self.readers.begin().await.map_err(failed($doing))?;
        let $tx = &mut *transaction;
        let done = $work.await.map_err(failed($doing))?;
        transaction.commit().await.map_err(failed($doing))?;
        Ok(done)
    }};
}

impl SqliteStore {
    async fn begin_write(&self) -> Sql<Transaction<'static, Sqlite>> {
        if let Some(lock) = &*held(&self.lock) {
            lock.in_place()?;
        }
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }
}

use {read as reading, write as writing};

#[async_trait]
impl Store for SqliteStore {
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
        let applied: Option<Applied> =
            write!(self, "applying the configuration", |tx| objects::apply(tx, source, hash, tenants, mandate, beside, now))?;
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
        true
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
        let hours = held(&self.marked).unmarked(batch);
        let done: Result<Committed> = write!(self, "committing a batch", |tx| commit::commit(tx, batch, &hours));
        let done = done?;
        held(&self.marked).add(hours);
        Ok(done)
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
        // The writer is asked: a store that cannot be written is not reached.
        write!(self, "asking for a sign of life", |tx| keep::ping(tx))
    }

    async fn verify(&self) -> Result<Vec<String>> {
        read!(self, "checking integrity", |tx| keep::verify(tx))
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
        if let Some(lock) = held(&self.lock).take() {
            lock.release();
        }
    }
}
