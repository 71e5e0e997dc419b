//! The commit stream: one batch, one transaction, bulk statements.

use super::super::flat::{self, Flat};
use super::super::marked::Marks;
use super::super::rows::{Columns, Sql};
use super::super::{Batch, BeatRow, Committed, DetailRow, Fence, LiveWrite, Scope};
use super::belong::list;
use super::{incidents, late};
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqliteConnection, query};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;
use watchkeeper_core::TenantId;

pub(super) async fn commit(tx: &mut SqliteConnection, batch: &Batch, hours: &Marks) -> Sql<Committed> {
    if let Some(landed) = landed(tx, batch).await? {
        return Ok(landed);
    }
    let stale = stale_fences(tx, &flat::fences(batch)).await?;
    let mut flat = flat::flatten(batch, &stale);
    let after = late::settle(tx, batch, &mut flat).await?;
    BEATS.put(tx, &batch.beats, bind_beat).await?;
    DETAILS.put(tx, &batch.details, bind_detail).await?;
    let hours: Vec<_> = hours.iter().collect();
    DIRTY.put(tx, &hours, |q, (start, monitor, datacenter)| q.bind(flat::HOUR).bind(*start).bind(*monitor).bind(*datacenter)).await?;
    fold_pushes(tx, batch, &flat).await?;
    sights(tx, &flat).await?;
    VERDICTS
        .put(tx, &flat.verdicts, |q, row| {
            q.bind(row.monitor).bind(row.tenant).bind(row.health).bind(row.since).bind(row.why).bind(row.fold.as_str()).bind(row.wake)
        })
        .await?;
    intervals(tx, &flat).await?;
    incidents::write(tx, &flat).await?;
    incidents::notices(tx, &flat).await?;
    incidents::fold_actions(tx, batch, &flat).await?;
    late::write(tx, batch, after).await?;
    let committed = Committed { live_ids: live(tx, &flat.live).await?, stale: flat.stale };
    finish(tx, batch, &committed).await?;
    Ok(committed)
}

/// Takes the batch's number, or says what became of the batch if its number has landed before.
async fn landed(tx: &mut SqliteConnection, batch: &Batch) -> Sql<Option<Committed>> {
    let taken = query("UPDATE wk_agent SET batch = $2, batch_result = NULL WHERE id = $1 AND boot_id = $3 AND batch < $2")
        .bind(batch.agent.0)
        .bind(batch.number as i64)
        .bind(&batch.boot)
        .execute(&mut *tx)
        .await?;
    if taken.rows_affected() == 1 {
        return Ok(None);
    }
    let row = query("SELECT batch, batch_result, boot_id FROM wk_agent WHERE id = $1").bind(batch.agent.0).fetch_one(&mut *tx).await?;
    flat::same_life(&row.text(2)?, batch)?;
    let newest = row.int(0)? as u64;
    let result = row.maybe_text(1)?.filter(|_| batch.number == newest);
    Ok(Some(flat::read_result(result.as_deref())?))
}

pub(super) async fn stale_fences(tx: &mut SqliteConnection, fences: &BTreeSet<&Fence>) -> Sql<HashSet<Fence>> {
    let scopes: BTreeSet<&Scope> = fences.iter().map(|fence| &fence.scope).collect();
    if scopes.is_empty() {
        return Ok(HashSet::new());
    }
    let scopes: Vec<&str> = scopes.into_iter().map(|scope| &**scope).collect();
    let rows = query("SELECT scope, epoch FROM wk_lease WHERE holder <> '' AND scope IN (SELECT value FROM json_each($1)) ORDER BY scope")
        .bind(list(&scopes))
        .fetch_all(&mut *tx)
        .await?;
    let epochs = rows.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect::<Sql<HashMap<_, _>>>()?;
    Ok(fences.iter().filter(|fence| epochs.get(&*fence.scope) != Some(&fence.epoch)).map(|fence| (*fence).clone()).collect())
}

async fn fold_pushes(tx: &mut SqliteConnection, batch: &Batch, flat: &Flat<'_>) -> Sql<()> {
    if batch.folded_pushes.is_empty() {
        return Ok(());
    }
    query(
        "UPDATE wk_push SET folded = 1 WHERE id IN (SELECT value FROM json_each($1)) AND monitor_id NOT IN (SELECT value FROM json_each($2))",
    )
    .bind(list(&batch.folded_pushes))
    .bind(list(&flat.dropped.iter().map(|id| id.0).collect::<Vec<_>>()))
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn intervals(tx: &mut SqliteConnection, flat: &Flat<'_>) -> Sql<()> {
    if flat.intervals.is_empty() {
        return Ok(());
    }
    let monitors: Vec<i64> = flat.intervals.keys().copied().collect();
    let rows = query("SELECT monitor_id, start FROM wk_interval WHERE end_at IS NULL AND monitor_id IN (SELECT value FROM json_each($1))")
        .bind(list(&monitors))
        .fetch_all(&mut *tx)
        .await?;
    let open = rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?))).collect::<Sql<HashMap<_, _>>>()?;
    let mut begun = Vec::with_capacity(flat.intervals.len());
    for (monitor, begins) in &flat.intervals {
        let (ended, rows) = flat::chain(open.get(monitor).copied(), begins);
        if let Some(at) = ended {
            query("UPDATE wk_interval SET end_at = $2 WHERE monitor_id = $1 AND end_at IS NULL")
                .bind(monitor)
                .bind(at)
                .execute(&mut *tx)
                .await?;
        }
        begun.extend(rows.into_iter().map(|(start, end, state)| (*monitor, start, end, state)));
    }
    INTERVALS.put(tx, &begun, |q, (monitor, start, end, state)| q.bind(*monitor).bind(*start).bind(*end).bind(*state)).await
}

/// The ids are drawn in the commit, so that their order is the order of commits.
pub(super) async fn live(tx: &mut SqliteConnection, live: &[(TenantId, &LiveWrite)]) -> Sql<Vec<i64>> {
    let mut newest = BTreeMap::new();
    for (tenant, count) in flat::live_counts(live) {
        let row = query("UPDATE wk_tenant SET last_event = last_event + $2 WHERE id = $1 RETURNING last_event")
            .bind(tenant)
            .bind(count)
            .fetch_one(&mut *tx)
            .await?;
        newest.insert(tenant, row.int(0)?);
    }
    let ids = flat::live_ids(live, &newest);
    let events: Vec<_> = live.iter().zip(&ids).collect();
    LIVE.put(tx, &events, |q, ((tenant, event), id)| {
        q.bind(tenant.0).bind(**id).bind(event.at.0).bind(event.kind.as_str()).bind(event.data.to_string())
    })
    .await?;
    Ok(ids)
}

async fn sights(tx: &mut SqliteConnection, flat: &Flat<'_>) -> Sql<()> {
    if flat.sights.is_empty() {
        return Ok(());
    }
    let mark = query("SELECT coalesce(max(changed), 0) + 1 FROM wk_sight").fetch_one(&mut *tx).await?.int(0)?;
    SIGHTS
        .put(tx, &flat.sights, |q, row| q.bind(row.monitor).bind(row.datacenter).bind(row.health).bind(row.fold.as_str()).bind(mark))
        .await
}

/// Keeps what became of the batch for whoever asks again, if there is anything to say.
async fn finish(tx: &mut SqliteConnection, batch: &Batch, committed: &Committed) -> Sql<()> {
    if let Some(result) = flat::write_result(committed) {
        query("UPDATE wk_agent SET batch_result = $2 WHERE id = $1").bind(batch.agent.0).bind(result).execute(&mut *tx).await?;
    }
    Ok(())
}

pub(super) type Bound<'q> = Query<'q, Sqlite, SqliteArguments>;

/// An INSERT of up to [`WIDEST`] rows at a time: a text for every number of rows, so that each is prepared once, and few rows are one
/// statement.
pub(super) struct Bulk([String; WIDEST]);

/// More rows in a statement gain nothing measurable; SQLite's limit is 32 766 values.
const WIDEST: usize = 64;

impl Bulk {
    pub(super) fn new(head: &str, columns: usize, tail: &str) -> Self {
        // Unnamed parameters: SQLite looks named ones up one by one.
        let row = format!("({})", vec!["?"; columns].join(","));
        Self(std::array::from_fn(|before| format!("{head} VALUES {} {tail}", vec![row.as_str(); before + 1].join(","))))
    }

    pub(super) async fn put<T>(
        &'static self,
        tx: &mut SqliteConnection,
        rows: &[T],
        bind: impl for<'q> Fn(Bound<'q>, &'q T) -> Bound<'q>,
    ) -> Sql<()> {
        for rows in rows.chunks(WIDEST) {
            rows.iter().fold(query(self.0[rows.len() - 1].as_str()), &bind).execute(&mut *tx).await?;
        }
        Ok(())
    }
}

static BEATS: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "INSERT INTO wk_beat_new (monitor_id, datacenter_id, at, agent_id, outcome, reason, lag_us, dns_us, connect_us, tls_us,
             first_byte_us, transfer_us, total_us, code, size, value, flags)",
        17,
        "",
    )
});

static DETAILS: LazyLock<Bulk> =
    LazyLock::new(|| Bulk::new("INSERT INTO wk_beat_detail (monitor_id, datacenter_id, at, json)", 4, "ON CONFLICT DO NOTHING"));

static DIRTY: LazyLock<Bulk> =
    LazyLock::new(|| Bulk::new("INSERT INTO wk_rollup_dirty (span, start, monitor_id, datacenter_id)", 4, "ON CONFLICT DO NOTHING"));

static SIGHTS: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "INSERT INTO wk_sight (monitor_id, datacenter_id, health, fold, changed)",
        5,
        "ON CONFLICT (monitor_id, datacenter_id) DO UPDATE SET health = excluded.health, fold = excluded.fold, changed = excluded.changed",
    )
});

static VERDICTS: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "INSERT INTO wk_verdict (monitor_id, tenant_id, health, since, why, fold, wake_at)",
        7,
        "ON CONFLICT (monitor_id) DO UPDATE SET tenant_id = excluded.tenant_id, health = excluded.health, since = excluded.since,
             why = excluded.why, fold = excluded.fold, wake_at = excluded.wake_at, rev = wk_verdict.rev + 1",
    )
});

static INTERVALS: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "INSERT INTO wk_interval (monitor_id, start, end_at, state)",
        4,
        "ON CONFLICT (monitor_id, start) DO UPDATE SET end_at = excluded.end_at, state = excluded.state",
    )
});

static LIVE: LazyLock<Bulk> = LazyLock::new(|| Bulk::new("INSERT INTO wk_event (tenant_id, id, at, kind, data)", 5, ""));

fn bind_beat<'q>(q: Bound<'q>, beat: &'q BeatRow) -> Bound<'q> {
    let (outcome, reason) = beat.outcome.codes();
    q.bind(beat.monitor.0)
        .bind(beat.datacenter.0)
        .bind(beat.at.0)
        .bind(beat.agent.0)
        .bind(outcome)
        .bind(reason)
        .bind(beat.lag_us)
        .bind(beat.dns_us)
        .bind(beat.connect_us)
        .bind(beat.tls_us)
        .bind(beat.first_byte_us)
        .bind(beat.transfer_us)
        .bind(beat.total_us)
        .bind(beat.code)
        .bind(beat.size)
        .bind(beat.value)
        .bind(beat.flags)
}

fn bind_detail<'q>(q: Bound<'q>, detail: &'q DetailRow) -> Bound<'q> {
    q.bind(detail.monitor.0).bind(detail.datacenter.0).bind(detail.at.0).bind(detail.json.as_str())
}
