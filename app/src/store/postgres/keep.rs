//! Housekeeping in short transactions, partitions, integrity.

use super::super::flat::{DAY, HOUR};
use super::super::history::{RawCount, Rollup, Tally, floor};
use super::super::keep::{DAY_LATE, HOUR_LATE, ROLLUP_SLICE, ROLLUPS, RULES};
use super::super::rows::{Columns, Sql};
use super::super::{Housekept, Retention};
use super::commit::close_hour;
use super::expire::expire;
use super::{GIVE_UP, PostgresStore, query, within};
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::collections::{BTreeMap, BTreeSet};
use watchkeeper_core::Micros;

/// Partitions are made for so many days ahead. A node that is away for longer writes into the default partition, from where the
/// rows are taken when the day's own is made.
const DAYS_AHEAD: i64 = 3;
/// What is partitioned by day.
pub(super) const PARTITIONED: [&str; 2] = ["wk_beat", "wk_beat_detail"];

pub(super) async fn housekeep(store: &PostgresStore, retention: Retention, now: Micros) -> Sql<Housekept> {
    let mut done = Housekept::default();
    within!(store, store.begin.write.clone(), GIVE_UP, |tx| partitions(tx, now))?;
    roll_up(store, retention, now, &mut done).await?;
    if !done.more {
        expire(store, retention, now, &mut done).await?;
    }
    Ok(done)
}

/// Makes the partitions of today and the next days, where they are missing.
pub(super) async fn partitions(tx: &mut PgConnection, now: Micros) -> Sql<()> {
    let today = floor(now.0, DAY);
    let wanted: Vec<(&str, i64, String)> = PARTITIONED
        .into_iter()
        .flat_map(|table| (0..=DAYS_AHEAD).map(move |ahead| (table, today + ahead * DAY)))
        .map(|(table, day)| (table, day, partition(table, day)))
        .collect();
    let names: Vec<String> = wanted.iter().map(|(_, _, name)| name.clone()).collect();
    let rows =
        query("SELECT name FROM unnest($1::text[]) AS x (name) WHERE to_regclass(name) IS NULL").bind(names).fetch_all(&mut *tx).await?;
    let missing = rows.iter().map(|row| row.text(0)).collect::<Sql<BTreeSet<_>>>()?;
    for (table, day, name) in wanted.iter().filter(|(_, _, name)| missing.contains(name)) {
        make(tx, table, *day, name).await?;
    }
    Ok(())
}

/// `wk_beat_20261122`.
pub(super) fn partition(table: &str, day: i64) -> String {
    let date = jiff::Timestamp::from_microsecond(day).map(|at| at.strftime("%Y%m%d").to_string());
    format!("{table}_{}", date.unwrap_or_else(|_| day.to_string()))
}

/// Makes one partition from what the default one holds of that day. Names and numbers are ours, so the texts are safe.
pub(super) async fn make(tx: &mut PgConnection, table: &str, day: i64, name: &str) -> Sql<()> {
    let end = day + DAY;
    // Two nodes may want the same partition: the second waits here, and finds it made.
    query(AssertSqlSafe(format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"))).execute(&mut *tx).await?;
    let made = query("SELECT 1 WHERE to_regclass($1) IS NOT NULL").bind(name).fetch_optional(&mut *tx).await?;
    if made.is_some() {
        return Ok(());
    }
    for statement in [
        format!("CREATE TABLE {name} (LIKE {table} INCLUDING ALL)"),
        format!(
            "WITH gone AS (DELETE FROM {table}_default WHERE at >= {day} AND at < {end} RETURNING *) INSERT INTO {name} SELECT * FROM gone"
        ),
        format!("ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({day}) TO ({end})"),
    ] {
        query(AssertSqlSafe(statement)).execute(&mut *tx).await?;
    }
    Ok(())
}

/// Computes closed hours that are dirty from raw heartbeats, and closed days from their hours.
async fn roll_up(store: &PostgresStore, retention: Retention, now: Micros, done: &mut Housekept) -> Sql<()> {
    for (span, late, kept) in [(HOUR, HOUR_LATE, retention.raw), (DAY, DAY_LATE, retention.hours)] {
        for round in 0.. {
            if round == ROLLUPS {
                done.more = true;
                return Ok(());
            }
            let (taken, written) =
                within!(store, store.begin.write.clone(), GIVE_UP, |tx| roll_up_slice(tx, span, now - late, now - kept))?;
            if span == HOUR {
                done.hours += written;
            } else {
                done.days += written;
            }
            if taken == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// Computes some dirty lines of that span that began at or before `before`; those that began before `kept` and are there stay as
/// they are, because what they were computed from is no longer complete. How many marks were used up, and lines written.
async fn roll_up_slice(tx: &mut PgConnection, span: i64, before: Micros, kept: Micros) -> Sql<(u64, u64)> {
    let dirty = if span == HOUR { dirty_of_an_hour(tx, before).await? } else { dirty(tx, span, (i64::MIN, before.0)).await? };
    if dirty.is_empty() {
        return Ok((0, 0));
    }
    let there = rolled_up(tx, span, &dirty).await?;
    let places: Vec<Place> = dirty.iter().filter(|place| Micros(place.0) >= kept || !there.contains(place)).copied().collect();
    let tallies = if span == HOUR { count_hours(tx, &places).await? } else { count_days(tx, &places).await? };
    write(tx, span, &places, &tallies).await?;
    if span == HOUR {
        mark_days(tx, &places).await?;
    }
    clean(tx, span, &dirty).await?;
    Ok((dirty.len() as u64, places.len() as u64))
}

/// One line of the rollup table: (start, monitor, datacenter).
type Place = (i64, i64, i64);

fn columns(places: &[Place]) -> [Vec<i64>; 3] {
    [places.iter().map(|p| p.0).collect(), places.iter().map(|p| p.1).collect(), places.iter().map(|p| p.2).collect()]
}

/// What must be computed of the oldest hour that nobody writes heartbeats into at the moment; none does until this transaction ends.
async fn dirty_of_an_hour(tx: &mut PgConnection, before: Micros) -> Sql<Vec<Place>> {
    let mut after = i64::MIN;
    loop {
        let row = query("SELECT min(start) FROM wk_rollup_dirty WHERE span = $1 AND start > $2 AND start <= $3")
            .bind(HOUR)
            .bind(after)
            .bind(before.0)
            .fetch_one(&mut *tx)
            .await?;
        let Some(hour) = row.maybe_int(0)? else { return Ok(Vec::new()) };
        if close_hour(tx, hour).await? {
            let dirty = dirty(tx, HOUR, (hour, hour)).await?;
            if !dirty.is_empty() {
                return Ok(dirty);
            }
        }
        after = hour;
    }
}

/// What must be computed and began within those times. Marks that a commit has locked are left for the next round; the others stay locked until this transaction
/// ends, so that a heartbeat that comes meanwhile marks anew. A day waits for its hours.
async fn dirty(tx: &mut PgConnection, span: i64, (first, last): (i64, i64)) -> Sql<Vec<Place>> {
    let rows = query(
        "SELECT start, monitor_id, datacenter_id FROM wk_rollup_dirty d WHERE span = $1 AND start BETWEEN $5 AND $2
           AND ($1 = $3 OR NOT EXISTS (SELECT 1 FROM wk_rollup_dirty h WHERE h.monitor_id = d.monitor_id AND h.span = $3
                AND h.start >= d.start AND h.start < d.start + d.span AND h.datacenter_id = d.datacenter_id))
         ORDER BY start, monitor_id, datacenter_id LIMIT $4 FOR UPDATE OF d SKIP LOCKED",
    )
    .bind(span)
    .bind(last)
    .bind(HOUR)
    .bind(ROLLUP_SLICE)
    .bind(first)
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(place).collect()
}

fn place(row: &impl Columns) -> Sql<Place> {
    Ok((row.int(0)?, row.int(1)?, row.int(2)?))
}

async fn rolled_up(tx: &mut PgConnection, span: i64, places: &[Place]) -> Sql<BTreeSet<Place>> {
    let [starts, monitors, datacenters] = columns(places);
    let rows = query(
        "SELECT r.start, r.monitor_id, r.datacenter_id FROM unnest($2::int8[], $3::int8[], $4::int8[]) AS p (start, monitor_id, datacenter_id)
         JOIN wk_rollup r ON r.monitor_id = p.monitor_id AND r.datacenter_id = p.datacenter_id AND r.span = $1 AND r.start = p.start",
    )
    .bind(span)
    .bind(starts)
    .bind(monitors)
    .bind(datacenters)
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(place).collect()
}

async fn count_hours(tx: &mut PgConnection, places: &[Place]) -> Sql<BTreeMap<Place, Tally>> {
    let [starts, monitors, datacenters] = columns(places);
    let mut rows = query(
        "SELECT b.datacenter_id, b.at, b.agent_id, b.outcome::int8, b.total_us, b.code::int8, p.start, b.monitor_id
         FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS p (start, monitor_id, datacenter_id)
         CROSS JOIN LATERAL (SELECT * FROM wk_beat x WHERE x.monitor_id = p.monitor_id AND x.datacenter_id = p.datacenter_id
                             AND x.at >= p.start AND x.at < p.start + $4) b
         ORDER BY p.start, b.monitor_id, b.datacenter_id, b.at, b.agent_id",
    )
    .bind(starts)
    .bind(monitors)
    .bind(datacenters)
    .bind(HOUR)
    .fetch(&mut *tx);
    let mut counts: BTreeMap<Place, RawCount> = BTreeMap::new();
    while let Some(row) = rows.try_next().await? {
        counts.entry((row.int(6)?, row.int(7)?, row.int(0)?)).or_default().add(&row, HOUR)?;
    }
    Ok(counts.into_iter().filter_map(|(place, mut count)| Some((place, count.buckets.remove(&place.0)?))).collect())
}

async fn count_days(tx: &mut PgConnection, places: &[Place]) -> Sql<BTreeMap<Place, Tally>> {
    let [starts, monitors, datacenters] = columns(places);
    let rows = query(
        "SELECT r.span, r.start, r.up, r.down, r.unknown, r.codes, r.sketch, p.start, r.monitor_id, r.datacenter_id
         FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS p (start, monitor_id, datacenter_id)
         JOIN wk_rollup r ON r.monitor_id = p.monitor_id AND r.datacenter_id = p.datacenter_id AND r.span = $4
             AND r.start >= p.start AND r.start < p.start + $5",
    )
    .bind(starts)
    .bind(monitors)
    .bind(datacenters)
    .bind(HOUR)
    .bind(DAY)
    .fetch_all(&mut *tx)
    .await?;
    let mut days: BTreeMap<Place, Tally> = BTreeMap::new();
    for row in &rows {
        days.entry((row.int(7)?, row.int(8)?, row.int(9)?)).or_default().merge(&Rollup::read(row)?.tally);
    }
    Ok(days)
}

/// Stores computed lines, and takes those away for which nothing was counted.
async fn write(tx: &mut PgConnection, span: i64, places: &[Place], tallies: &BTreeMap<Place, Tally>) -> Sql<()> {
    let [starts, monitors, datacenters] = columns(places);
    query(
        "DELETE FROM wk_rollup r USING unnest($2::int8[], $3::int8[], $4::int8[]) AS p (start, monitor_id, datacenter_id)
         WHERE r.monitor_id = p.monitor_id AND r.datacenter_id = p.datacenter_id AND r.span = $1 AND r.start = p.start",
    )
    .bind(span)
    .bind(starts)
    .bind(monitors)
    .bind(datacenters)
    .execute(&mut *tx)
    .await?;
    let places: Vec<Place> = tallies.keys().copied().collect();
    let [starts, monitors, datacenters] = columns(&places);
    let number = |of: fn(&Tally) -> i64| tallies.values().map(of).collect::<Vec<_>>();
    query(
        "INSERT INTO wk_rollup (span, start, monitor_id, datacenter_id, up, down, unknown, codes, sketch)
         SELECT $1, * FROM unnest($2::int8[], $3::int8[], $4::int8[], $5::int8[], $6::int8[], $7::int8[], $8::text[], $9::bytea[])",
    )
    .bind(span)
    .bind(starts)
    .bind(monitors)
    .bind(datacenters)
    .bind(number(|tally| tally.up))
    .bind(number(|tally| tally.down))
    .bind(number(|tally| tally.unknown))
    .bind(tallies.values().map(Tally::codes_json).collect::<Vec<_>>())
    .bind(tallies.values().map(|tally| tally.sketch.to_bytes()).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn clean(tx: &mut PgConnection, span: i64, places: &[Place]) -> Sql<()> {
    let [starts, monitors, datacenters] = columns(places);
    query(
        "DELETE FROM wk_rollup_dirty d USING unnest($2::int8[], $3::int8[], $4::int8[]) AS p (start, monitor_id, datacenter_id)
         WHERE d.span = $1 AND d.start = p.start AND d.monitor_id = p.monitor_id AND d.datacenter_id = p.datacenter_id",
    )
    .bind(span)
    .bind(starts)
    .bind(monitors)
    .bind(datacenters)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn mark_days(tx: &mut PgConnection, hours: &[Place]) -> Sql<()> {
    let days: BTreeSet<Place> = hours.iter().map(|hour| (floor(hour.0, DAY), hour.1, hour.2)).collect();
    let [starts, monitors, datacenters] = columns(&days.into_iter().collect::<Vec<_>>());
    query(
        "INSERT INTO wk_rollup_dirty (span, start, monitor_id, datacenter_id) SELECT $1, * FROM unnest($2::int8[], $3::int8[], $4::int8[])
         ON CONFLICT DO NOTHING",
    )
    .bind(DAY)
    .bind(starts)
    .bind(monitors)
    .bind(datacenters)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

pub(super) async fn ping(tx: &mut PgConnection) -> Sql<()> {
    query("SELECT 1").fetch_one(&mut *tx).await?;
    Ok(())
}

/// The server keeps its own promises; what is asked is whether all constraints stand, and the schema's own rules.
pub(super) async fn verify(tx: &mut PgConnection) -> Sql<Vec<String>> {
    let mut wrong = Vec::new();
    let rows = query(
        "SELECT conrelid::regclass::text || ': constraint ' || conname || ' is not valid' FROM pg_constraint
         WHERE NOT convalidated AND conrelid::regclass::text LIKE 'wk\\_%'
         UNION ALL
         SELECT indrelid::regclass::text || ': index ' || indexrelid::regclass::text || ' is not valid' FROM pg_index
         WHERE NOT indisvalid AND indrelid::regclass::text LIKE 'wk\\_%'",
    )
    .fetch_all(&mut *tx)
    .await?;
    for row in rows {
        wrong.push(row.text(0)?);
    }
    for (rule, sql) in RULES {
        for row in query(*sql).fetch_all(&mut *tx).await? {
            wrong.push(format!("{rule}: {}", row.text(0)?));
        }
    }
    Ok(wrong)
}
