//! Housekeeping in short transactions, so that the commit stream never waits long; integrity.

use super::super::flat::{DAY, HOUR};
use super::super::history::{RawCount, Rollup, Tally};
use super::super::keep::{DAY_LATE, HOUR_LATE, MOVE_AGE, MOVE_ROWS, MOVE_SLICE, MOVES, ROLLUP_SLICE, ROLLUPS, slices};
use super::super::rows::{Columns, Sql};
use super::super::{Housekept, Retention};
use super::expire::expire;
use super::{SqliteStore, held};
use futures_util::TryStreamExt;
use sqlx::{SqliteConnection, query};
use watchkeeper_core::Micros;

/// A move of heartbeats under way: everything up to `upto` goes, monitor by monitor, so that neighbours in the clustered table are
/// written together. The originals stay until all have been copied; readers see such a beat once. A move that a crash cut off
/// begins again and changes nothing the second time.
pub(super) struct Moving {
    upto: i64,
    /// Whether as many wait behind it.
    behind: bool,
    /// Ranges of monitors still to be copied, the next one last.
    left: Vec<(i64, i64)>,
}

pub(super) async fn housekeep(store: &SqliteStore, retention: Retention, now: Micros) -> Sql<Housekept> {
    let mut done = Housekept::default();
    move_beats(store, now, false, &mut done).await?;
    roll_up(store, retention, now, &mut done).await?;
    if !done.more {
        expire(store, retention, now, &mut done).await?;
    }
    Ok(done)
}

/// Copies some slices; `force` begins a move even if little waits.
async fn move_beats(store: &SqliteStore, now: Micros, force: bool, done: &mut Housekept) -> Sql<()> {
    let under_way = held(&store.moving).take();
    let mut moving = match under_way {
        Some(moving) => moving,
        None => match begin_move(store, now, force).await? {
            Some(moving) => moving,
            None => return Ok(()),
        },
    };
    for _ in 0..MOVES {
        let mut tx = store.begin_write().await?;
        let Some((from, to)) = moving.left.last().copied() else {
            done.moved += clear_moved(&mut tx, moving.upto).await?;
            tx.commit().await?;
            done.more |= moving.behind;
            return Ok(());
        };
        query(
            "INSERT INTO wk_beat (monitor_id, datacenter_id, at, agent_id, outcome, reason, lag_us, dns_us, connect_us, tls_us,
                 first_byte_us, transfer_us, total_us, code, size, value, flags)
             SELECT monitor_id, datacenter_id, at, agent_id, outcome, reason, lag_us, dns_us, connect_us, tls_us,
                 first_byte_us, transfer_us, total_us, code, size, value, flags
             FROM wk_beat_new WHERE seq <= $1 AND monitor_id BETWEEN $2 AND $3
             ORDER BY monitor_id, datacenter_id, at, agent_id, seq
             ON CONFLICT DO NOTHING",
        )
        .bind(moving.upto)
        .bind(from)
        .bind(to)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        moving.left.pop();
    }
    done.more = true;
    *held(&store.moving) = Some(moving);
    Ok(())
}

/// A cheap delete: the rows are the table's first, whole pages at a time.
async fn clear_moved(tx: &mut SqliteConnection, upto: i64) -> Sql<u64> {
    Ok(query("DELETE FROM wk_beat_new WHERE seq <= $1").bind(upto).execute(&mut *tx).await?.rows_affected())
}

async fn begin_move(store: &SqliteStore, now: Micros, force: bool) -> Sql<Option<Moving>> {
    let mut tx = store.readers.begin().await?;
    let row =
        query("SELECT min(seq), max(seq), (SELECT at FROM wk_beat_new ORDER BY seq LIMIT 1) FROM wk_beat_new").fetch_one(&mut *tx).await?;
    let (Some(first), Some(last), Some(oldest)) = (row.maybe_int(0)?, row.maybe_int(1)?, row.maybe_int(2)?) else { return Ok(None) };
    if !force && last - first < MOVE_ROWS && now - Micros(oldest) < MOVE_AGE {
        return Ok(None);
    }
    let upto = last.min(first + MOVE_ROWS);
    let rows = query("SELECT monitor_id, count(*) FROM wk_beat_new WHERE seq <= $1 GROUP BY monitor_id ORDER BY monitor_id")
        .bind(upto)
        .fetch_all(&mut *tx)
        .await?;
    let counts = rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?))).collect::<Sql<Vec<_>>>()?;
    let mut left = slices(&counts, MOVE_SLICE);
    left.reverse();
    Ok(Some(Moving { upto, behind: last - upto >= MOVE_ROWS, left }))
}

/// Computes closed hours that are dirty from raw heartbeats, and closed days from their hours.
async fn roll_up(store: &SqliteStore, retention: Retention, now: Micros, done: &mut Housekept) -> Sql<()> {
    for _ in 0..ROLLUPS {
        let mut tx = store.begin_write().await?;
        let dirty = dirty(&mut tx, HOUR, now - HOUR_LATE).await?;
        if dirty.is_empty() {
            tx.rollback().await?;
            return roll_up_days(store, retention, now, done).await;
        }
        if waits_to_be_moved(&mut tx, now).await? {
            tx.rollback().await?;
            move_beats(store, now, true, done).await?;
            done.more = true;
            return Ok(());
        }
        for (start, monitor, datacenter) in &dirty {
            let place = Place { span: HOUR, start: *start, monitor: *monitor, datacenter: *datacenter };
            if Micros(*start) < now - retention.raw && rolled_up(&mut tx, &place).await? {
                // Its heartbeats are no longer complete; what was computed from all of them stays.
                clean(&mut tx, &place).await?;
                continue;
            }
            let tally = count_hour(&mut tx, &place).await?;
            write(&mut tx, &place, &tally).await?;
            mark_day(&mut tx, &place).await?;
            done.hours += 1;
        }
        tx.commit().await?;
        held(&store.marked).clear();
    }
    done.more = true;
    Ok(())
}

async fn roll_up_days(store: &SqliteStore, retention: Retention, now: Micros, done: &mut Housekept) -> Sql<()> {
    for _ in 0..ROLLUPS {
        let mut tx = store.begin_write().await?;
        let dirty = dirty(&mut tx, DAY, now - DAY_LATE).await?;
        if dirty.is_empty() {
            return Ok(());
        }
        for (start, monitor, datacenter) in &dirty {
            let place = Place { span: DAY, start: *start, monitor: *monitor, datacenter: *datacenter };
            if Micros(*start) < now - retention.hours && rolled_up(&mut tx, &place).await? {
                clean(&mut tx, &place).await?;
                continue;
            }
            let tally = count_day(&mut tx, &place).await?;
            write(&mut tx, &place, &tally).await?;
            done.days += 1;
        }
        tx.commit().await?;
    }
    done.more = true;
    Ok(())
}

/// One line of the rollup table.
struct Place {
    span: i64,
    start: i64,
    monitor: i64,
    datacenter: i64,
}

/// What must be computed of that span and began at or before that time: (start, monitor, datacenter). A day waits for its hours.
async fn dirty(tx: &mut SqliteConnection, span: i64, before: Micros) -> Sql<Vec<(i64, i64, i64)>> {
    let rows = query(
        "SELECT start, monitor_id, datacenter_id FROM wk_rollup_dirty d WHERE span = $1 AND start <= $2
           AND ($1 = $3 OR NOT EXISTS (SELECT 1 FROM wk_rollup_dirty h WHERE h.monitor_id = d.monitor_id AND h.span = $3
                AND h.start >= d.start AND h.start < d.start + d.span AND h.datacenter_id = d.datacenter_id))
         ORDER BY start, monitor_id, datacenter_id LIMIT $4",
    )
    .bind(span)
    .bind(before.0)
    .bind(HOUR)
    .bind(ROLLUP_SLICE)
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?, row.int(2)?))).collect()
}

/// Whether a heartbeat of a closed hour is not in the clustered table yet: hours are computed from that one alone.
async fn waits_to_be_moved(tx: &mut SqliteConnection, now: Micros) -> Sql<bool> {
    let row = query("SELECT 1 FROM wk_beat_new WHERE at < $1 LIMIT 1").bind((now - HOUR_LATE).0 + HOUR).fetch_optional(&mut *tx).await?;
    Ok(row.is_some())
}

async fn rolled_up(tx: &mut SqliteConnection, place: &Place) -> Sql<bool> {
    let row = query("SELECT 1 FROM wk_rollup WHERE monitor_id = $1 AND datacenter_id = $2 AND span = $3 AND start = $4")
        .bind(place.monitor)
        .bind(place.datacenter)
        .bind(place.span)
        .bind(place.start)
        .fetch_optional(&mut *tx)
        .await?;
    Ok(row.is_some())
}

async fn count_hour(tx: &mut SqliteConnection, place: &Place) -> Sql<Tally> {
    let mut count = RawCount::default();
    let mut rows = query(
        "SELECT datacenter_id, at, agent_id, outcome, total_us, code FROM wk_beat
         WHERE monitor_id = $1 AND datacenter_id = $2 AND at >= $3 AND at < $4 ORDER BY at, agent_id",
    )
    .bind(place.monitor)
    .bind(place.datacenter)
    .bind(place.start)
    .bind(place.start + HOUR)
    .fetch(&mut *tx);
    while let Some(row) = rows.try_next().await? {
        count.add(&row, HOUR)?;
    }
    Ok(count.buckets.remove(&place.start).unwrap_or_default())
}

async fn count_day(tx: &mut SqliteConnection, place: &Place) -> Sql<Tally> {
    let rows = query(
        "SELECT span, start, up, down, unknown, codes, sketch FROM wk_rollup
         WHERE monitor_id = $1 AND datacenter_id = $2 AND span = $3 AND start >= $4 AND start < $5",
    )
    .bind(place.monitor)
    .bind(place.datacenter)
    .bind(HOUR)
    .bind(place.start)
    .bind(place.start + DAY)
    .fetch_all(&mut *tx)
    .await?;
    let mut day = Tally::default();
    for row in &rows {
        day.merge(&Rollup::read(row)?.tally);
    }
    Ok(day)
}

/// Stores a computed line, or takes it away if nothing was counted, and its mark with it.
async fn write(tx: &mut SqliteConnection, place: &Place, tally: &Tally) -> Sql<()> {
    if tally.is_empty() {
        query("DELETE FROM wk_rollup WHERE monitor_id = $1 AND datacenter_id = $2 AND span = $3 AND start = $4")
            .bind(place.monitor)
            .bind(place.datacenter)
            .bind(place.span)
            .bind(place.start)
            .execute(&mut *tx)
            .await?;
        return clean(tx, place).await;
    }
    query(
        "INSERT INTO wk_rollup (monitor_id, datacenter_id, span, start, up, down, unknown, codes, sketch)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (monitor_id, datacenter_id, span, start) DO UPDATE SET up = excluded.up, down = excluded.down,
             unknown = excluded.unknown, codes = excluded.codes, sketch = excluded.sketch",
    )
    .bind(place.monitor)
    .bind(place.datacenter)
    .bind(place.span)
    .bind(place.start)
    .bind(tally.up)
    .bind(tally.down)
    .bind(tally.unknown)
    .bind(tally.codes_json())
    .bind(tally.sketch.to_bytes())
    .execute(&mut *tx)
    .await?;
    clean(tx, place).await
}

async fn clean(tx: &mut SqliteConnection, place: &Place) -> Sql<()> {
    query("DELETE FROM wk_rollup_dirty WHERE span = $1 AND start = $2 AND monitor_id = $3 AND datacenter_id = $4")
        .bind(place.span)
        .bind(place.start)
        .bind(place.monitor)
        .bind(place.datacenter)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

async fn mark_day(tx: &mut SqliteConnection, hour: &Place) -> Sql<()> {
    query("INSERT INTO wk_rollup_dirty (span, start, monitor_id, datacenter_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING")
        .bind(DAY)
        .bind(super::super::history::floor(hour.start, DAY))
        .bind(hour.monitor)
        .bind(hour.datacenter)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// Writes nothing, but as a writer.
pub(super) async fn ping(tx: &mut SqliteConnection) -> Sql<()> {
    query("SELECT 1").fetch_one(&mut *tx).await?;
    Ok(())
}

pub(super) async fn verify(tx: &mut SqliteConnection) -> Sql<Vec<String>> {
    let mut wrong = Vec::new();
    for row in query("PRAGMA integrity_check").fetch_all(&mut *tx).await? {
        let text = row.text(0)?;
        if text != "ok" {
            wrong.push(text);
        }
    }
    for row in query("PRAGMA foreign_key_check").fetch_all(&mut *tx).await? {
        wrong.push(format!("a row of {} points at a row of {} that is not there", row.text(0)?, row.text(2)?));
    }
    for (rule, sql) in super::super::keep::RULES {
        for row in query(*sql).fetch_all(&mut *tx).await? {
            wrong.push(format!("{rule}: {}", row.text(0)?));
        }
    }
    Ok(wrong)
}
