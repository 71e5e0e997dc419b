//! The commit stream: one batch, one transaction, one statement for each kind of row.

use super::super::flat::{self, Flat};
use super::super::rows::{Columns, Sql};
use super::super::{Batch, BeatRow, Committed, DetailRow, Fence, LiveWrite, Scope};
use super::{clean, incidents, query};
use sqlx::PgConnection;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use watchkeeper_core::TenantId;

pub(super) async fn commit(tx: &mut PgConnection, batch: &Batch) -> Sql<Committed> {
    if let Some(landed) = landed(tx, batch).await? {
        return Ok(landed);
    }
    let stale = stale_fences(tx, &flat::fences(batch)).await?;
    let flat = flat::flatten(batch, &stale);
    beats(tx, batch).await?;
    details(tx, batch).await?;
    dirty(tx, batch).await?;
    fold_pushes(tx, batch, &flat).await?;
    sights(tx, &flat).await?;
    verdicts(tx, &flat).await?;
    intervals(tx, &flat).await?;
    incidents::write(tx, &flat).await?;
    incidents::notices(tx, &flat).await?;
    incidents::fold_actions(tx, batch, &flat).await?;
    let committed = Committed { live_ids: live(tx, &flat.live).await?, stale: flat.stale };
    finish(tx, batch, &committed).await?;
    Ok(committed)
}

/// Takes the batch's number, or says what became of the batch if its number has landed before.
async fn landed(tx: &mut PgConnection, batch: &Batch) -> Sql<Option<Committed>> {
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

/// Whoever wants to take one of these scopes waits until this transaction has ended.
pub(super) async fn stale_fences(tx: &mut PgConnection, fences: &BTreeSet<&Fence>) -> Sql<HashSet<Fence>> {
    let scopes: BTreeSet<&Scope> = fences.iter().map(|fence| &fence.scope).collect();
    if scopes.is_empty() {
        return Ok(HashSet::new());
    }
    let scopes: Vec<String> = scopes.into_iter().map(ToString::to_string).collect();
    let rows = query("SELECT scope, epoch FROM wk_lease WHERE holder <> '' AND scope = ANY($1) ORDER BY scope FOR SHARE")
        .bind(scopes)
        .fetch_all(&mut *tx)
        .await?;
    let epochs = rows.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect::<Sql<HashMap<_, _>>>()?;
    Ok(fences.iter().filter(|fence| epochs.get(&*fence.scope) != Some(&fence.epoch)).map(|fence| (*fence).clone()).collect())
}

async fn beats(tx: &mut PgConnection, batch: &Batch) -> Sql<()> {
    if batch.beats.is_empty() {
        return Ok(());
    }
    // In the order of the key: two nodes that bring the same facts in different orders would wait for each other.
    let mut beats: Vec<&BeatRow> = batch.beats.iter().collect();
    beats.sort_by_key(|beat| (beat.monitor, beat.datacenter, beat.at));
    let column = |of: fn(&BeatRow) -> i64| beats.iter().map(|beat| of(beat)).collect::<Vec<i64>>();
    query(
        "INSERT INTO wk_beat (monitor_id, datacenter_id, at, agent_id, outcome, reason, lag_us, dns_us, connect_us, tls_us,
             first_byte_us, transfer_us, total_us, code, size, value, flags)
         SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::int8[], $5::int8[], $6::int8[], $7::int8[], $8::int8[], $9::int8[],
             $10::int8[], $11::int8[], $12::int8[], $13::int8[], $14::int8[], $15::int8[], $16::int8[], $17::int8[])
         ON CONFLICT DO NOTHING",
    )
    .bind(column(|beat| beat.monitor.0))
    .bind(column(|beat| beat.datacenter.0))
    .bind(column(|beat| beat.at.0))
    .bind(column(|beat| beat.agent.0))
    .bind(column(|beat| i64::from(beat.outcome.codes().0)))
    .bind(column(|beat| i64::from(beat.outcome.codes().1)))
    .bind(column(|beat| beat.lag_us))
    .bind(column(|beat| beat.dns_us))
    .bind(column(|beat| beat.connect_us))
    .bind(column(|beat| beat.tls_us))
    .bind(column(|beat| beat.first_byte_us))
    .bind(column(|beat| beat.transfer_us))
    .bind(column(|beat| beat.total_us))
    .bind(column(|beat| i64::from(beat.code)))
    .bind(column(|beat| beat.size))
    .bind(column(|beat| beat.value))
    .bind(column(|beat| i64::from(beat.flags)))
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn details(tx: &mut PgConnection, batch: &Batch) -> Sql<()> {
    if batch.details.is_empty() {
        return Ok(());
    }
    let mut details: Vec<&DetailRow> = batch.details.iter().collect();
    details.sort_by_key(|row| (row.monitor, row.datacenter, row.at));
    query(
        "INSERT INTO wk_beat_detail (monitor_id, datacenter_id, at, json)
         SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::text[]) ON CONFLICT DO NOTHING",
    )
    .bind(details.iter().map(|row| row.monitor.0).collect::<Vec<_>>())
    .bind(details.iter().map(|row| row.datacenter.0).collect::<Vec<_>>())
    .bind(details.iter().map(|row| row.at.0).collect::<Vec<_>>())
    .bind(details.iter().map(|row| text(&row.json)).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Marks the hours of the batch. The update that changes nothing locks a mark that is there already: housekeeping passes over
/// locked marks, so it never uses one up without seeing the heartbeats that it stands for.
async fn dirty(tx: &mut PgConnection, batch: &Batch) -> Sql<()> {
    let hours: BTreeSet<(i64, i64, i64)> =
        batch.beats.iter().map(|beat| (flat::hour_of(beat.at), beat.monitor.0, beat.datacenter.0)).collect();
    if hours.is_empty() {
        return Ok(());
    }
    query(
        "INSERT INTO wk_rollup_dirty (span, start, monitor_id, datacenter_id)
         SELECT $1, * FROM unnest($2::int8[], $3::int8[], $4::int8[])
         ON CONFLICT (span, start, monitor_id, datacenter_id) DO UPDATE SET span = excluded.span WHERE FALSE",
    )
    .bind(flat::HOUR)
    .bind(hours.iter().map(|hour| hour.0).collect::<Vec<_>>())
    .bind(hours.iter().map(|hour| hour.1).collect::<Vec<_>>())
    .bind(hours.iter().map(|hour| hour.2).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn fold_pushes(tx: &mut PgConnection, batch: &Batch, flat: &Flat<'_>) -> Sql<()> {
    if batch.folded_pushes.is_empty() {
        return Ok(());
    }
    query("UPDATE wk_push SET folded = TRUE WHERE id = ANY($1) AND monitor_id <> ALL($2)")
        .bind(&batch.folded_pushes)
        .bind(flat.dropped.iter().map(|id| id.0).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
    Ok(())
}

async fn sights(tx: &mut PgConnection, flat: &Flat<'_>) -> Sql<()> {
    if flat.sights.is_empty() {
        return Ok(());
    }
    query(
        "INSERT INTO wk_sight (monitor_id, datacenter_id, health, fold, changed)
         SELECT *, pg_current_xact_id()::text::int8 FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::text[])
         ON CONFLICT (monitor_id, datacenter_id) DO UPDATE SET health = excluded.health, fold = excluded.fold, changed = excluded.changed",
    )
    .bind(flat.sights.iter().map(|row| row.monitor).collect::<Vec<_>>())
    .bind(flat.sights.iter().map(|row| row.datacenter).collect::<Vec<_>>())
    .bind(flat.sights.iter().map(|row| row.health).collect::<Vec<_>>())
    .bind(flat.sights.iter().map(|row| row.fold.clone()).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn verdicts(tx: &mut PgConnection, flat: &Flat<'_>) -> Sql<()> {
    if flat.verdicts.is_empty() {
        return Ok(());
    }
    query(
        "INSERT INTO wk_verdict (monitor_id, tenant_id, health, since, why, fold, wake_at)
         SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::int8[], $5::text[], $6::text[], $7::int8[])
         ON CONFLICT (monitor_id) DO UPDATE SET tenant_id = excluded.tenant_id, health = excluded.health, since = excluded.since,
             why = excluded.why, fold = excluded.fold, wake_at = excluded.wake_at, rev = wk_verdict.rev + 1",
    )
    .bind(flat.verdicts.iter().map(|row| row.monitor).collect::<Vec<_>>())
    .bind(flat.verdicts.iter().map(|row| row.tenant).collect::<Vec<_>>())
    .bind(flat.verdicts.iter().map(|row| row.health).collect::<Vec<_>>())
    .bind(flat.verdicts.iter().map(|row| row.since).collect::<Vec<_>>())
    .bind(flat.verdicts.iter().map(|row| row.why).collect::<Vec<_>>())
    .bind(flat.verdicts.iter().map(|row| row.fold.clone()).collect::<Vec<_>>())
    .bind(flat.verdicts.iter().map(|row| row.wake).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn intervals(tx: &mut PgConnection, flat: &Flat<'_>) -> Sql<()> {
    if flat.intervals.is_empty() {
        return Ok(());
    }
    let monitors: Vec<i64> = flat.intervals.keys().copied().collect();
    let rows = query("SELECT monitor_id, start FROM wk_interval WHERE end_at IS NULL AND monitor_id = ANY($1)")
        .bind(monitors)
        .fetch_all(&mut *tx)
        .await?;
    let open = rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?))).collect::<Sql<HashMap<_, _>>>()?;
    let (mut ended, mut begun) = (Vec::new(), Vec::with_capacity(flat.intervals.len()));
    for (monitor, begins) in &flat.intervals {
        let (end, rows) = flat::chain(open.get(monitor).copied(), begins);
        ended.extend(end.map(|at| (*monitor, at)));
        begun.extend(rows.into_iter().map(|(start, end, state)| (*monitor, start, end, state)));
    }
    query(
        "UPDATE wk_interval i SET end_at = x.end_at FROM unnest($1::int8[], $2::int8[]) AS x (monitor_id, end_at)
         WHERE i.monitor_id = x.monitor_id AND i.end_at IS NULL",
    )
    .bind(ended.iter().map(|row| row.0).collect::<Vec<_>>())
    .bind(ended.iter().map(|row| row.1).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    query(
        "INSERT INTO wk_interval (monitor_id, start, end_at, state) SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::int8[])
         ON CONFLICT (monitor_id, start) DO UPDATE SET end_at = excluded.end_at, state = excluded.state",
    )
    .bind(begun.iter().map(|row| row.0).collect::<Vec<_>>())
    .bind(begun.iter().map(|row| row.1).collect::<Vec<_>>())
    .bind(begun.iter().map(|row| row.2).collect::<Vec<_>>())
    .bind(begun.iter().map(|row| row.3).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// The ids are drawn in the commit, under the lock of the tenant's row, so that their order is the order of commits.
pub(super) async fn live(tx: &mut PgConnection, live: &[(TenantId, &LiveWrite)]) -> Sql<Vec<i64>> {
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
    if ids.is_empty() {
        return Ok(ids);
    }
    let tenant = |(tenant, _): &(TenantId, &LiveWrite)| tenant.0;
    query(
        "INSERT INTO wk_event (tenant_id, id, at, kind, data)
         SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::text[], $5::text[])",
    )
    .bind(live.iter().map(tenant).collect::<Vec<_>>())
    .bind(&ids)
    .bind(live.iter().map(|(_, row)| row.at.0).collect::<Vec<_>>())
    .bind(live.iter().map(|(_, row)| row.kind.clone()).collect::<Vec<_>>())
    .bind(live.iter().map(|(_, row)| row.data.to_string()).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    Ok(ids)
}

/// Keeps what became of the batch for whoever asks again, if there is anything to say.
async fn finish(tx: &mut PgConnection, batch: &Batch, committed: &Committed) -> Sql<()> {
    if let Some(result) = flat::write_result(committed) {
        query("UPDATE wk_agent SET batch_result = $2 WHERE id = $1").bind(batch.agent.0).bind(result).execute(&mut *tx).await?;
    }
    Ok(())
}

fn text(text: &str) -> Cow<'_, str> {
    clean(text)
}
