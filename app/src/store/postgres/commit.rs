//! The commit stream: one batch, one transaction, one statement for each kind of row.
//!
//! A node remembers which hours of which monitors it has marked for a rollup, and does not mark them again. That is safe only as long
//! as nobody uses the marks up: while a commit writes into an hour it holds a shared lock on that hour, housekeeping takes the lock for
//! itself alone before it computes something of the hour, and once anything of an hour has been computed, every mark is written anew.

use super::super::flat::{self, Flat};
use super::super::history::floor;
use super::super::marked::{self, Marks};
use super::super::rows::{Columns, Sql};
use super::super::{Batch, BeatRow, Committed, DetailRow, Fence, LiveWrite, Scope};
use super::keep::partition;
use super::{GIVE_UP, PostgresStore, clean, held, incidents, late, query, within};
use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, AssertSqlSafe, Connection as _, PgConnection};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use watchkeeper_core::TenantId;

/// More hours in one batch come from a past that is made up for: then every mark is written and locked.
const HOURS_MAX: usize = 4;
/// The first part of an advisory lock on an hour, the second is the hour's number; arbitrary and ours.
const HOUR_LOCK: i32 = 0x574b_4831;

/// How the heartbeats of a batch are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// Straight into their day's partition, in which none of them may be already.
    Quick,
    /// With a look for each whether it is there already.
    Careful,
}

/// Commits a batch: quickly, and once more carefully if that met a heartbeat that is there already, or a day without a partition. Looking
/// for each heartbeat whether it is there would cost every batch a third of its rate for what happens after a failure only.
pub(super) async fn commit(store: &PostgresStore, batch: &Batch) -> Sql<Committed> {
    match attempt(store, batch, How::Quick).await {
        Err(error) if is_in_the_way(&error) => attempt(store, batch, How::Careful).await,
        done => done,
    }
}

/// A heartbeat is there already, or there is no such partition.
fn is_in_the_way(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    match error.code().as_deref() {
        Some("23505") => error.table().is_some_and(|table| table.starts_with("wk_beat")),
        Some("42P01") => true,
        Some(_) | None => false,
    }
}

async fn attempt(store: &PostgresStore, batch: &Batch, how: How) -> Sql<Committed> {
    let unmarked = held(&store.marked).unmarked(batch);
    let hours: BTreeSet<i64> = batch.beats.iter().map(|beat| flat::hour_of(beat.at)).collect();
    let hours: Vec<i64> = if hours.len() <= HOURS_MAX { hours.into_iter().collect() } else { Vec::new() };
    let mut begin = store.begin.write.as_str().to_owned();
    for hour in &hours {
        begin += &format!("; SELECT pg_advisory_xact_lock_shared({HOUR_LOCK}, {})", hour_number(*hour));
    }
    let (committed, marked) = within!(store, AssertSqlSafe(begin), GIVE_UP, |tx| commit_in(tx, batch, how, &hours, unmarked))?;
    held(&store.marked).add(marked);
    Ok(committed)
}

/// The number of an hour since the beginning of 1970.
pub(super) const fn hour_number(hour: i64) -> i32 {
    hour.div_euclid(flat::HOUR) as i32
}

/// Keeps the hour's marks from being used up until this transaction ends, if nobody uses them up or writes heartbeats into it now.
pub(super) async fn close_hour(tx: &mut PgConnection, hour: i64) -> Sql<bool> {
    let row =
        query("SELECT pg_try_advisory_xact_lock($1, $2)::int::int8").bind(HOUR_LOCK).bind(hour_number(hour)).fetch_one(&mut *tx).await?;
    Ok(row.int(0)? != 0)
}

/// What became of it, and the marks that are there from now on.
async fn commit_in(tx: &mut PgConnection, batch: &Batch, how: How, hours: &[i64], unmarked: Marks) -> Sql<(Committed, Marks)> {
    let open = match landed(tx, batch, hours).await? {
        Landed::Yes(committed) => return Ok((committed, Marks::new())),
        Landed::No { open } => open,
    };
    let stale = stale_fences(tx, &flat::fences(batch)).await?;
    let mut flat = flat::flatten(batch, &stale);
    let after = late::settle(tx, batch, &mut flat).await?;
    beats(tx, batch, how).await?;
    details(tx, batch).await?;
    let marks = if open { unmarked } else { marked::all(batch) };
    dirty(tx, &marks, open).await?;
    fold_pushes(tx, batch, &flat).await?;
    sights(tx, &flat).await?;
    verdicts(tx, &flat).await?;
    intervals(tx, &flat).await?;
    incidents::write(tx, &flat).await?;
    incidents::notices(tx, &flat).await?;
    incidents::fold_actions(tx, batch, &flat).await?;
    late::write(tx, batch, after).await?;
    let committed = Committed { live_ids: live(tx, &flat.live).await?, stale: flat.stale };
    finish(tx, batch, &committed).await?;
    Ok((committed, if open { marks } else { Marks::new() }))
}

/// Whether a batch is there already.
enum Landed {
    /// It has landed before, and this became of it.
    Yes(Committed),
    /// Not yet: its number is taken. `open`: these hours are locked against being closed, and nothing of them has been computed:
    /// whatever mark of them was ever committed is still there.
    No { open: bool },
}

/// Takes the batch's number, or says what became of the batch if its number has landed before.
async fn landed(tx: &mut PgConnection, batch: &Batch, hours: &[i64]) -> Sql<Landed> {
    let taken = query(
        "UPDATE wk_agent SET batch = $2, batch_result = NULL WHERE id = $1 AND boot_id = $3 AND batch < $2
         RETURNING (SELECT count(*) FROM unnest($4::int8[]) AS h (start)
             WHERE EXISTS (SELECT 1 FROM wk_rollup r WHERE r.span = $5 AND r.start = h.start))",
    )
    .bind(batch.agent.0)
    .bind(batch.number as i64)
    .bind(&batch.boot)
    .bind(hours)
    .bind(flat::HOUR)
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(computed) = taken {
        return Ok(Landed::No { open: !hours.is_empty() && computed.int(0)? == 0 });
    }
    let row = query("SELECT batch, batch_result, boot_id FROM wk_agent WHERE id = $1").bind(batch.agent.0).fetch_one(&mut *tx).await?;
    flat::same_life(&row.text(2)?, batch)?;
    let newest = row.int(0)? as u64;
    let result = row.maybe_text(1)?.filter(|_| batch.number == newest);
    Ok(Landed::Yes(flat::read_result(result.as_deref())?))
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

async fn beats(tx: &mut PgConnection, batch: &Batch, how: How) -> Sql<()> {
    if batch.beats.is_empty() {
        return Ok(());
    }
    // In the order of the key: two nodes that bring the same facts in different orders would wait for each other.
    let mut beats: Vec<&BeatRow> = batch.beats.iter().collect();
    beats.sort_by_key(|beat| (beat.monitor, beat.datacenter, beat.at));
    match how {
        How::Quick if beats.len() >= COPY_MIN => copy_beats(tx, &day_of(&beats), &beats).await,
        How::Quick => insert_beats(tx, &day_of(&beats), "", &beats).await,
        How::Careful => insert_beats(tx, "wk_beat", "ON CONFLICT DO NOTHING", &beats).await,
    }
}

/// From so many rows on COPY is faster than INSERT. It must not be used for few: the driver sends the rows and the end of the COPY
/// apart, and its sockets wait for the server's acknowledgement of the one before they send the other: 40 ms, if the rows were few.
const COPY_MIN: usize = 2_000;

/// The partition of all of these, which spares finding it for each; the whole table if they are of several days.
fn day_of(beats: &[&BeatRow]) -> String {
    let days: BTreeSet<i64> = beats.iter().map(|beat| floor(beat.at.0, flat::DAY)).collect();
    match days.first() {
        Some(day) if days.len() == 1 => partition("wk_beat", *day),
        Some(_) | None => "wk_beat".to_owned(),
    }
}

/// A column of a heartbeat, its size in bytes, and what is in it.
type BeatColumn = (&'static str, usize, fn(&BeatRow) -> i64);

/// All columns of a heartbeat.
const BEAT: [BeatColumn; 17] = [
    ("monitor_id", 8, |beat| beat.monitor.0),
    ("datacenter_id", 8, |beat| beat.datacenter.0),
    ("at", 8, |beat| beat.at.0),
    ("agent_id", 8, |beat| beat.agent.0),
    ("outcome", 2, |beat| i64::from(beat.outcome.codes().0)),
    ("reason", 2, |beat| i64::from(beat.outcome.codes().1)),
    ("lag_us", 8, |beat| beat.lag_us),
    ("dns_us", 8, |beat| beat.dns_us),
    ("connect_us", 8, |beat| beat.connect_us),
    ("tls_us", 8, |beat| beat.tls_us),
    ("first_byte_us", 8, |beat| beat.first_byte_us),
    ("transfer_us", 8, |beat| beat.transfer_us),
    ("total_us", 8, |beat| beat.total_us),
    ("code", 4, |beat| i64::from(beat.code)),
    ("size", 8, |beat| beat.size),
    ("value", 8, |beat| beat.value),
    ("flags", 4, |beat| i64::from(beat.flags)),
];

/// What all heartbeats of a batch take in COPY's binary form: each column has its length before it.
const BEAT_BYTES: usize = 192;

async fn copy_beats(tx: &mut PgConnection, table: &str, beats: &[&BeatRow]) -> Sql<()> {
    let names: Vec<&str> = BEAT.iter().map(|(name, _, _)| *name).collect();
    let mut out = Vec::with_capacity(BEAT_BYTES * (beats.len() + 1));
    // The signature, no flags, no further header.
    out.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for beat in beats {
        out.extend_from_slice(&(BEAT.len() as i16).to_be_bytes());
        for (_, size, value) in BEAT {
            out.extend_from_slice(&(size as i32).to_be_bytes());
            out.extend_from_slice(&value(beat).to_be_bytes()[8 - size..]);
        }
    }
    out.extend_from_slice(&(-1_i16).to_be_bytes());
    let mut copy = tx.copy_in_raw(&format!("COPY {table} ({}) FROM STDIN (FORMAT binary)", names.join(", "))).await?;
    copy.send(out).await?;
    copy.finish().await?;
    Ok(())
}

/// A column in which all rows are alike is sent once: most batches are of one node in one place, and most beats are good.
async fn insert_beats(tx: &mut PgConnection, table: &str, conflict: &str, beats: &[&BeatRow]) -> Sql<()> {
    let (mut arguments, mut select, mut arrays, mut aliases) = (PgArguments::default(), Vec::new(), Vec::new(), Vec::new());
    for (nth, (name, _, of)) in (1..).zip(BEAT) {
        let column: Vec<i64> = beats.iter().map(|beat| of(beat)).collect();
        if column.windows(2).all(|two| two[0] == two[1]) {
            select.push(format!("${nth}::int8"));
            arguments.add(column[0]).map_err(sqlx::Error::Encode)?;
        } else {
            select.push(format!("x.{name}"));
            arrays.push(format!("${nth}::int8[]"));
            aliases.push(name);
            arguments.add(column).map_err(sqlx::Error::Encode)?;
        }
    }
    let names: Vec<&str> = BEAT.iter().map(|(name, _, _)| *name).collect();
    let rows = if arrays.is_empty() { String::new() } else { format!("FROM unnest({}) AS x ({})", arrays.join(", "), aliases.join(", ")) };
    let sql = format!("INSERT INTO {table} ({}) SELECT {} {rows} {conflict}", names.join(", "), select.join(", "));
    sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(false).execute(&mut *tx).await?;
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

/// Marks hours. In one that is closed, or may be while this runs, an update that changes nothing locks a mark that is there already:
/// housekeeping passes over locked marks, so it never uses one up without seeing the heartbeats that it stands for.
async fn dirty(tx: &mut PgConnection, marks: &Marks, open: bool) -> Sql<()> {
    if marks.is_empty() {
        return Ok(());
    }
    let conflict =
        if open { "DO NOTHING" } else { "(span, start, monitor_id, datacenter_id) DO UPDATE SET span = excluded.span WHERE FALSE" };
    let sql = format!(
        "INSERT INTO wk_rollup_dirty (span, start, monitor_id, datacenter_id)
         SELECT $1, * FROM unnest($2::int8[], $3::int8[], $4::int8[]) ON CONFLICT {conflict}"
    );
    query(AssertSqlSafe(sql))
        .bind(flat::HOUR)
        .bind(marks.iter().map(|mark| mark.0).collect::<Vec<_>>())
        .bind(marks.iter().map(|mark| mark.1).collect::<Vec<_>>())
        .bind(marks.iter().map(|mark| mark.2).collect::<Vec<_>>())
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
