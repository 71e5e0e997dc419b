//! Deletion of what is too old, in slices.

use super::super::flat::{DAY, HOUR};
use super::super::history::floor;
use super::super::keep::{EVENTS_AGE, EVENTS_MAX, EXPIRE_EVERY, EXPIRE_SLICE, Expiry, INCIDENT_SLICE, INCIDENT_SLICES};
use super::super::rows::{Columns, Sql};
use super::super::{Housekept, Retention};
use super::accounts::expire_accounts;
use super::keep::{PARTITIONED, partition};
use super::objects::forsaken_notices;
use super::{GIVE_UP, PostgresStore, held, query, within};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use watchkeeper_core::Micros;

/// Deletes what is too old: whole partitions, and row by row what lies outside them.
pub(super) async fn expire(store: &PostgresStore, retention: Retention, now: Micros, done: &mut Housekept) -> Sql<()> {
    match &*held(&store.expiry) {
        Expiry::Done { at } if now - *at < EXPIRE_EVERY && *at <= now => return Ok(()),
        Expiry::Done { .. } | Expiry::Under { .. } => {}
    }
    done.deleted += within!(store, store.begin.write.clone(), GIVE_UP, |tx| drop_partitions(tx, now - retention.raw))?;
    let strays = within!(store, store.begin.write.clone(), GIVE_UP, |tx| expire_strays(tx, now - retention.raw))?;
    done.deleted += strays;
    let pushes = within!(store, store.begin.write.clone(), GIVE_UP, |tx| expire_pushes(tx, now - retention.raw))?;
    done.deleted += pushes;
    done.deleted += within!(store, store.begin.write.clone(), GIVE_UP, |tx| expire_rest(tx, retention, now))?;
    if strays >= EXPIRE_SLICE || pushes >= EXPIRE_SLICE || !expire_incidents(store, now - retention.incidents, done).await? {
        done.more = true;
    } else {
        *held(&store.expiry) = Expiry::Done { at: now };
    }
    Ok(())
}

async fn drop_partitions(tx: &mut PgConnection, before: Micros) -> Sql<u64> {
    let mut dropped = 0;
    for table in PARTITIONED {
        let rows =
            query("SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass($1)")
                .bind(table)
                .fetch_all(&mut *tx)
                .await?;
        // Dates as names sort by time; the one that holds `before` stays.
        let first = partition(table, floor(before.0, DAY));
        for row in rows {
            let name = row.text(0)?;
            if name.len() == first.len() && name < first {
                query(AssertSqlSafe(format!("DROP TABLE \"{name}\""))).execute(&mut *tx).await?;
                dropped += 1;
            }
        }
    }
    Ok(dropped)
}

/// Old rows that no partition was made for.
async fn expire_strays(tx: &mut PgConnection, before: Micros) -> Sql<u64> {
    let mut deleted = 0;
    for statement in [
        "DELETE FROM wk_beat_default WHERE ctid = ANY (ARRAY (SELECT ctid FROM wk_beat_default WHERE at < $1 LIMIT $2))",
        "DELETE FROM wk_beat_detail_default WHERE ctid = ANY (ARRAY (SELECT ctid FROM wk_beat_detail_default WHERE at < $1 LIMIT $2))",
    ] {
        deleted += query(statement).bind(before.0).bind(EXPIRE_SLICE as i64).execute(&mut *tx).await?.rows_affected();
    }
    Ok(deleted)
}

/// Old pushes except each monitor's newest that says something of it. It steps from monitor to monitor by the index: what is young is
/// not looked at, and there may be millions of it.
async fn expire_pushes(tx: &mut PgConnection, before: Micros) -> Sql<u64> {
    let done = query(
        "WITH RECURSIVE m (id) AS (SELECT min(monitor_id) FROM wk_push UNION ALL
             SELECT (SELECT min(monitor_id) FROM wk_push WHERE monitor_id > m.id) FROM m WHERE m.id IS NOT NULL)
         DELETE FROM wk_push WHERE id = ANY (ARRAY (SELECT p.id FROM m
             CROSS JOIN LATERAL (SELECT at FROM wk_push WHERE monitor_id = m.id AND kind <> 3 ORDER BY at DESC LIMIT 1) newest
             CROSS JOIN LATERAL (SELECT id FROM wk_push WHERE monitor_id = m.id AND at < $1 AND at < newest.at ORDER BY at LIMIT $2) p
             LIMIT $2))",
    )
    .bind(before.0)
    .bind(EXPIRE_SLICE as i64)
    .execute(&mut *tx)
    .await?;
    Ok(done.rows_affected())
}

/// Hourly rollups and live events. Notices for channels that are no more
/// are given up here: nobody delivers to those.
async fn expire_rest(tx: &mut PgConnection, retention: Retention, now: Micros) -> Sql<u64> {
    let rollups =
        query("DELETE FROM wk_rollup WHERE span = $1 AND start < $2").bind(HOUR).bind((now - retention.hours).0).execute(&mut *tx).await?;
    let events = query("DELETE FROM wk_event e USING wk_tenant t WHERE t.id = e.tenant_id AND (e.at < $1 OR e.id <= t.last_event - $2)")
        .bind((now - EVENTS_AGE).0)
        .bind(EVENTS_MAX)
        .execute(&mut *tx)
        .await?;
    forsaken_notices(tx, now).await?;
    let accounts = expire_accounts(tx, now, EXPIRE_SLICE as i64).await?;
    // What was asked of an incident that ended meanwhile is void, also if its monitor is no longer decided about.
    query(
        "UPDATE wk_action SET folded = TRUE
         WHERE NOT folded AND EXISTS (SELECT 1 FROM wk_incident i WHERE i.id = wk_action.incident_id AND i.resolved_at < $1)",
    )
    .bind((now - EXPIRE_EVERY).0)
    .execute(&mut *tx)
    .await?;
    Ok(accounts + rollups.rows_affected() + events.rows_affected())
}

/// Incidents that ended before that time with all that hangs on them, words about nothing, and silences; whether all are gone. What
/// is still to be told is kept.
async fn expire_incidents(store: &PostgresStore, before: Micros, done: &mut Housekept) -> Sql<bool> {
    for _ in 0..INCIDENT_SLICES {
        let (deleted, full) = within!(store, store.begin.write.clone(), GIVE_UP, |tx| expire_incident_slice(tx, before))?;
        done.deleted += deleted;
        if !full {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many rows went, and whether one of the limits was reached. An incident that another node deletes at the moment is left to it.
async fn expire_incident_slice(tx: &mut PgConnection, before: Micros) -> Sql<(u64, bool)> {
    let rows = query(
        "SELECT id FROM wk_incident i WHERE resolved_at < $1 AND NOT EXISTS
             (SELECT 1 FROM wk_notice n WHERE n.incident_id = i.id AND n.state IN ('due', 'held', 'sending'))
         ORDER BY resolved_at LIMIT $2 FOR UPDATE SKIP LOCKED",
    )
    .bind(before.0)
    .bind(INCIDENT_SLICE)
    .fetch_all(&mut *tx)
    .await?;
    let ids = rows.iter().map(|row| row.int(0)).collect::<Sql<Vec<_>>>()?;
    let (mut deleted, mut full) = (0, ids.len() as i64 >= INCIDENT_SLICE);
    for statement in [
        "DELETE FROM wk_action WHERE incident_id = ANY($1)",
        "DELETE FROM wk_incident_event WHERE incident_id = ANY($1)",
        "DELETE FROM wk_notice WHERE incident_id = ANY($1)",
        "DELETE FROM wk_incident WHERE id = ANY($1)",
    ] {
        deleted += query(statement).bind(&ids).execute(&mut *tx).await?.rows_affected();
    }
    for statement in [
        "DELETE FROM wk_notice WHERE id = ANY (ARRAY (SELECT id FROM wk_notice WHERE incident_id IS NULL AND created_at < $1
             AND state IN ('sent', 'dead', 'suppressed') ORDER BY created_at LIMIT $2))",
        "DELETE FROM wk_message WHERE id = ANY (ARRAY (SELECT m.id FROM wk_message m
             WHERE m.channel_id IN (SELECT id FROM wk_channel) AND m.sent_at < $1
               AND NOT EXISTS (SELECT 1 FROM wk_notice n WHERE n.message_id = m.id) LIMIT $2))",
        "DELETE FROM wk_silence WHERE id = ANY (ARRAY (SELECT id FROM wk_silence WHERE ends_at < $1 LIMIT $2))",
    ] {
        let gone = query(statement).bind(before.0).bind(INCIDENT_SLICE).execute(&mut *tx).await?.rows_affected();
        deleted += gone;
        full |= gone as i64 >= INCIDENT_SLICE;
    }
    Ok((deleted, full))
}
