//! Deletion of what is too old, in slices.

use super::super::flat::HOUR;
use super::super::keep::{EVENTS_AGE, EVENTS_MAX, EXPIRE_EVERY, EXPIRE_SLICE, Expiry, INCIDENT_SLICE, INCIDENT_SLICES, PAIRS};
use super::super::rows::{Columns, Sql};
use super::super::{Housekept, Retention};
use super::accounts::expire_accounts;
use super::belong::list;
use super::objects::forsaken_notices;
use super::{SqliteStore, held};
use sqlx::{SqliteConnection, query};
use watchkeeper_core::Micros;

/// Some (monitor, datacenter) pairs of heartbeats in a call, and before them everything else, until a pass over all of them is done.
pub(super) async fn expire(store: &SqliteStore, retention: Retention, now: Micros, done: &mut Housekept) -> Sql<()> {
    let mut at = match &*held(&store.expiry) {
        Expiry::Done { at } if now - *at < EXPIRE_EVERY && *at <= now => return Ok(()),
        Expiry::Done { .. } => (i64::MIN, i64::MIN),
        Expiry::Under { after } => *after,
    };
    if at.0 == i64::MIN {
        expire_rest(store, retention, now, done).await?;
        if !expire_incidents(store, now - retention.incidents, done).await? {
            done.more = true;
            return Ok(());
        }
    }
    for _ in 0..PAIRS {
        let mut tx = store.begin_write().await?;
        let Some(pair) = next_pair(&mut tx, at).await? else {
            *held(&store.expiry) = Expiry::Done { at: now };
            return Ok(());
        };
        let deleted = expire_pair(&mut tx, pair, now - retention.raw).await?;
        tx.commit().await?;
        done.deleted += deleted;
        if deleted < EXPIRE_SLICE {
            at = pair;
        }
    }
    *held(&store.expiry) = Expiry::Under { after: at };
    done.more = true;
    Ok(())
}

async fn next_pair(tx: &mut SqliteConnection, after: (i64, i64)) -> Sql<Option<(i64, i64)>> {
    let row = query(
        "SELECT monitor_id, datacenter_id FROM wk_beat WHERE (monitor_id, datacenter_id) > ($1, $2)
         ORDER BY monitor_id, datacenter_id LIMIT 1",
    )
    .bind(after.0)
    .bind(after.1)
    .fetch_optional(&mut *tx)
    .await?;
    row.map(|row| Ok((row.int(0)?, row.int(1)?))).transpose()
}

async fn expire_pair(tx: &mut SqliteConnection, (monitor, datacenter): (i64, i64), before: Micros) -> Sql<u64> {
    let details = query("DELETE FROM wk_beat_detail WHERE monitor_id = $1 AND datacenter_id = $2 AND at < $3")
        .bind(monitor)
        .bind(datacenter)
        .bind(before.0)
        .execute(&mut *tx)
        .await?;
    let beats = query(
        "DELETE FROM wk_beat WHERE monitor_id = $1 AND datacenter_id = $2 AND at < coalesce(
             (SELECT at FROM wk_beat WHERE monitor_id = $1 AND datacenter_id = $2 AND at < $3 ORDER BY at LIMIT 1 OFFSET $4), $3)",
    )
    .bind(monitor)
    .bind(datacenter)
    .bind(before.0)
    .bind(EXPIRE_SLICE as i64)
    .execute(&mut *tx)
    .await?;
    Ok(details.rows_affected() + beats.rows_affected())
}

/// Everything but heartbeats: hourly rollups, live events, pushes except each monitor's newest. Notices for channels that are no more
/// are given up here: nobody delivers to those.
async fn expire_rest(store: &SqliteStore, retention: Retention, now: Micros, done: &mut Housekept) -> Sql<()> {
    let mut tx = store.begin_write().await?;
    let rollups =
        query("DELETE FROM wk_rollup WHERE span = $1 AND start < $2").bind(HOUR).bind((now - retention.hours).0).execute(&mut *tx).await?;
    let events =
        query("DELETE FROM wk_event WHERE at < $1 OR id <= (SELECT last_event FROM wk_tenant t WHERE t.id = wk_event.tenant_id) - $2")
            .bind((now - EVENTS_AGE).0)
            .bind(EVENTS_MAX)
            .execute(&mut *tx)
            .await?;
    let pushes = query(
        "DELETE FROM wk_push WHERE at < $1
           AND EXISTS (SELECT 1 FROM wk_push n WHERE n.monitor_id = wk_push.monitor_id AND n.at > wk_push.at AND n.kind <> 3)",
    )
    .bind((now - retention.raw).0)
    .execute(&mut *tx)
    .await?;
    forsaken_notices(&mut tx, now).await?;
    let accounts = expire_accounts(&mut tx, now, EXPIRE_SLICE as i64).await?;
    // What was asked of an incident that ended meanwhile is void, also if its monitor is no longer decided about.
    query(
        "UPDATE wk_action SET folded = 1
         WHERE folded = 0 AND EXISTS (SELECT 1 FROM wk_incident i WHERE i.id = wk_action.incident_id AND i.resolved_at < $1)",
    )
    .bind((now - EXPIRE_EVERY).0)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    done.deleted += accounts + rollups.rows_affected() + events.rows_affected() + pushes.rows_affected();
    Ok(())
}

/// Incidents that ended before that time with all that hangs on them, words about nothing, and silences; whether all are gone. What
/// is still to be told is kept.
async fn expire_incidents(store: &SqliteStore, before: Micros, done: &mut Housekept) -> Sql<bool> {
    for _ in 0..INCIDENT_SLICES {
        let mut tx = store.begin_write().await?;
        let (deleted, full) = expire_incident_slice(&mut tx, before).await?;
        tx.commit().await?;
        done.deleted += deleted;
        if !full {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many rows went, and whether one of the limits was reached.
async fn expire_incident_slice(tx: &mut SqliteConnection, before: Micros) -> Sql<(u64, bool)> {
    let rows = query(
        "SELECT id FROM wk_incident i WHERE resolved_at < $1 AND NOT EXISTS
             (SELECT 1 FROM wk_notice n WHERE n.incident_id = i.id AND n.state IN ('due', 'held', 'sending'))
         ORDER BY resolved_at LIMIT $2",
    )
    .bind(before.0)
    .bind(INCIDENT_SLICE)
    .fetch_all(&mut *tx)
    .await?;
    let ids = rows.iter().map(|row| row.int(0)).collect::<Sql<Vec<_>>>()?;
    let (mut deleted, mut full) = (0, ids.len() as i64 >= INCIDENT_SLICE);
    for statement in [
        "DELETE FROM wk_action WHERE incident_id IN (SELECT value FROM json_each($1))",
        "DELETE FROM wk_incident_event WHERE incident_id IN (SELECT value FROM json_each($1))",
        "DELETE FROM wk_notice WHERE incident_id IN (SELECT value FROM json_each($1))",
        "DELETE FROM wk_incident WHERE id IN (SELECT value FROM json_each($1))",
    ] {
        deleted += query(statement).bind(list(&ids)).execute(&mut *tx).await?.rows_affected();
    }
    for statement in [
        "DELETE FROM wk_notice WHERE id IN (SELECT id FROM wk_notice WHERE incident_id IS NULL AND created_at < $1
             AND state IN ('sent', 'dead', 'suppressed') ORDER BY created_at LIMIT $2)",
        "DELETE FROM wk_message WHERE id IN (SELECT m.id FROM wk_message m
             WHERE m.channel_id IN (SELECT id FROM wk_channel) AND m.sent_at < $1
               AND NOT EXISTS (SELECT 1 FROM wk_notice n WHERE n.message_id = m.id) LIMIT $2)",
        "DELETE FROM wk_silence WHERE id IN (SELECT id FROM wk_silence WHERE ends_at < $1 LIMIT $2)",
    ] {
        let gone = query(statement).bind(before.0).bind(INCIDENT_SLICE).execute(&mut *tx).await?.rows_affected();
        deleted += gone;
        full |= gone as i64 >= INCIDENT_SLICE;
    }
    Ok((deleted, full))
}
