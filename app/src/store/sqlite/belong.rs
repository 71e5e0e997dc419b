//! Nodes, ids, stored states, leases.

use super::super::rows::{self, Columns, Sql};
use super::super::{Fence, HeardVote, Joined, LeaseRow, Scope, StoredState, fold};
use super::read::newest_by_place;
use sqlx::{SqliteConnection, query};
use std::collections::HashMap;
use watchkeeper_core::ids::IdBlock;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::{AgentId, DatacenterId, Micros, MonitorId};

pub(super) async fn join(tx: &mut SqliteConnection, agent: &str, datacenter: &str, boot: &str, now: Micros) -> Sql<Joined> {
    let known = query("SELECT id FROM wk_datacenter WHERE code = $1").bind(datacenter).fetch_optional(&mut *tx).await?;
    if known.is_none() {
        let id = one_id(tx).await?;
        query("INSERT INTO wk_datacenter (id, code, name) VALUES ($1, $2, $2)").bind(id).bind(datacenter).execute(&mut *tx).await?;
    }
    let place = query("SELECT id, shards FROM wk_datacenter WHERE code = $1").bind(datacenter).fetch_one(&mut *tx).await?;
    let known = query("SELECT id FROM wk_agent WHERE name = $1").bind(agent).fetch_optional(&mut *tx).await?;
    let id = match known {
        Some(row) => row.int(0)?,
        None => one_id(tx).await?,
    };
    let row = query(
        "INSERT INTO wk_agent (id, name, datacenter_id, boot_id, joined_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (name) DO UPDATE SET datacenter_id = excluded.datacenter_id, boot_id = excluded.boot_id, joined_at = excluded.joined_at
         RETURNING id, batch",
    )
    .bind(id)
    .bind(agent)
    .bind(place.int(0)?)
    .bind(boot)
    .bind(now.0)
    .fetch_one(&mut *tx)
    .await?;
    Ok(Joined {
        agent: AgentId(row.int(0)?),
        agent_name: agent.to_owned(),
        datacenter: DatacenterId(place.int(0)?),
        datacenter_code: datacenter.to_owned(),
        shards: place.int(1)? as u16,
        last_batch: row.int(1)? as u64,
        boot: boot.to_owned(),
    })
}

pub(super) async fn reserve_ids(tx: &mut SqliteConnection, count: i64) -> Sql<IdBlock> {
    let count = count.max(1);
    let row = query("UPDATE wk_id_block SET next = next + $1 WHERE name = 'row' RETURNING next").bind(count).fetch_one(&mut *tx).await?;
    let end = row.int(0)?;
    Ok(IdBlock::new(end - count, end))
}

pub(super) async fn one_id(tx: &mut SqliteConnection) -> Sql<i64> {
    Ok(reserve_ids(tx, 1).await?.draw().expect("the block was reserved with one id"))
}

pub(super) async fn load(tx: &mut SqliteConnection, monitors: &[MonitorId]) -> Sql<Vec<StoredState>> {
    let ids = list(&monitors.iter().map(|id| id.0).collect::<Vec<_>>());
    let mut states: HashMap<MonitorId, StoredState> =
        monitors.iter().map(|id| (*id, StoredState { monitor: *id, ..StoredState::default() })).collect();
    let mut state = |id: i64, change: &mut dyn FnMut(&mut StoredState)| states.get_mut(&MonitorId(id)).map(change);
    let rows = query(
        "SELECT monitor_id, datacenter_id, fold FROM wk_sight WHERE monitor_id IN (SELECT value FROM json_each($1))
         ORDER BY monitor_id, datacenter_id",
    )
    .bind(&ids)
    .fetch_all(&mut *tx)
    .await?;
    for row in rows {
        let datacenter = DatacenterId(row.int(1)?);
        let known = fold::sight(&row.text(2)?);
        state(row.int(0)?, &mut |state| state.sights.extend(known.clone().map(|(sight, vote)| (datacenter, sight, vote))));
    }
    let rows = query("SELECT monitor_id, fold FROM wk_verdict WHERE monitor_id IN (SELECT value FROM json_each($1))")
        .bind(&ids)
        .fetch_all(&mut *tx)
        .await?;
    for row in rows {
        let known = fold::verdict(&row.text(1)?);
        state(row.int(0)?, &mut |state| state.verdict.clone_from(&known));
    }
    let rows = query(
        "SELECT monitor_id, id, uid, rule_key, opened_at, summary, reason, acknowledged_by FROM wk_incident
         WHERE resolved_at IS NULL AND monitor_id IN (SELECT value FROM json_each($1)) ORDER BY id",
    )
    .bind(&ids)
    .fetch_all(&mut *tx)
    .await?;
    for row in rows {
        let (monitor, incident) = rows::open_incident(&row)?;
        state(monitor.0, &mut |state| state.open.push(incident.clone()));
    }
    for beat in newest_by_place(tx, &ids).await? {
        state(beat.monitor.0, &mut |state| state.last_beats.push((beat.datacenter, beat.at)));
    }
    let rows = query(
        "SELECT monitor_id, max(at) FROM wk_push WHERE kind <> 3 AND monitor_id IN (SELECT value FROM json_each($1)) GROUP BY monitor_id",
    )
    .bind(&ids)
    .fetch_all(&mut *tx)
    .await?;
    for row in rows {
        let newest = row.maybe_int(1)?.map(Micros);
        state(row.int(0)?, &mut |state| state.last_push = newest);
    }
    Ok(monitors.iter().filter_map(|id| states.remove(id)).collect())
}

pub(super) async fn datacenters(tx: &mut SqliteConnection) -> Sql<Vec<(DatacenterId, String)>> {
    let rows = query("SELECT id, code FROM wk_datacenter ORDER BY id").fetch_all(&mut *tx).await?;
    rows.iter().map(|row| Ok((DatacenterId(row.int(0)?), row.text(1)?))).collect()
}

/// There is one writer, so the order of the marks is the order of the commits.
pub(super) async fn votes_since(tx: &mut SqliteConnection, after: Option<i64>) -> Sql<(Vec<HeardVote>, i64)> {
    let from = query("SELECT coalesce(max(changed), 0) + 1 FROM wk_sight").fetch_one(&mut *tx).await?.int(0)?;
    let Some(after) = after else { return Ok((Vec::new(), from)) };
    let rows = query(
        "SELECT s.monitor_id, s.datacenter_id, d.code, s.fold FROM wk_sight s JOIN wk_datacenter d ON d.id = s.datacenter_id
         WHERE s.changed >= $1",
    )
    .bind(after)
    .fetch_all(&mut *tx)
    .await?;
    let mut votes = Vec::with_capacity(rows.len());
    for row in &rows {
        // A fold of a newer version is rebuilt by its own node; until then it says nothing here.
        let Some((_, vote)) = fold::sight(&row.text(3)?) else { continue };
        let (monitor, datacenter) = (MonitorId(row.int(0)?), DatacenterId(row.int(1)?));
        let evidence = if vote.health == Health::Up { None } else { evidence(tx, monitor, datacenter, vote.at).await? };
        votes.push(HeardVote { monitor, datacenter, code: row.text(2)?, vote, evidence });
    }
    Ok((votes, from))
}

async fn evidence(tx: &mut SqliteConnection, monitor: MonitorId, datacenter: DatacenterId, at: Micros) -> Sql<Option<String>> {
    // While a failure stays the same its evidence is not kept again: the newest before it is it.
    let row = query("SELECT json FROM wk_beat_detail WHERE monitor_id = $1 AND datacenter_id = $2 AND at <= $3 ORDER BY at DESC LIMIT 1")
        .bind(monitor.0)
        .bind(datacenter.0)
        .bind(at.0)
        .fetch_optional(&mut *tx)
        .await?;
    row.map(|row| row.text(0)).transpose()
}

pub(super) async fn leases(tx: &mut SqliteConnection) -> Sql<Vec<LeaseRow>> {
    let rows = query("SELECT scope, holder, epoch, beat FROM wk_lease ORDER BY scope").fetch_all(&mut *tx).await?;
    rows.iter().map(|row| Ok(LeaseRow { scope: row.text(0)?, holder: row.text(1)?, epoch: row.int(2)?, beat: row.int(3)? })).collect()
}

/// Whoever takes a scope makes the notices due again that the last holder left in `sending`: it cannot be known whether
/// the provider got them, and telling twice is better than not at all.
pub(super) async fn take_lease(
    tx: &mut SqliteConnection,
    scope: &str,
    seen: Option<&LeaseRow>,
    holder: &str,
    now: Micros,
) -> Sql<Option<i64>> {
    let taken = match seen {
        None => {
            query(
                "INSERT INTO wk_lease (scope, holder, epoch, beat, taken_at) VALUES ($1, $2, 1, 0, $3)
                 ON CONFLICT (scope) DO NOTHING RETURNING epoch",
            )
            .bind(scope)
            .bind(holder)
            .bind(now.0)
            .fetch_optional(&mut *tx)
            .await?
        }
        Some(seen) => {
            query(
                "UPDATE wk_lease SET holder = $2, epoch = epoch + 1, beat = 0, taken_at = $3
                 WHERE scope = $1 AND holder = $4 AND epoch = $5 AND beat = $6 RETURNING epoch",
            )
            .bind(scope)
            .bind(holder)
            .bind(now.0)
            .bind(&seen.holder)
            .bind(seen.epoch)
            .bind(seen.beat)
            .fetch_optional(&mut *tx)
            .await?
        }
    };
    let Some(row) = taken else { return Ok(None) };
    query("UPDATE wk_notice SET state = 'due', next_at = min(next_at, $2) WHERE state = 'sending' AND begun_scope = $1")
        .bind(scope)
        .bind(now.0)
        .execute(&mut *tx)
        .await?;
    row.int(0).map(Some)
}

pub(super) async fn beat_leases(tx: &mut SqliteConnection, holder: &str, held: &[Fence]) -> Sql<Vec<Scope>> {
    let mut kept = Vec::with_capacity(held.len());
    for fence in held {
        let done = query("UPDATE wk_lease SET beat = beat + 1 WHERE scope = $1 AND holder = $2 AND epoch = $3")
            .bind(&*fence.scope)
            .bind(holder)
            .bind(fence.epoch)
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() > 0 {
            kept.push(fence.scope.clone());
        }
    }
    Ok(kept)
}

pub(super) async fn release_leases(tx: &mut SqliteConnection, holder: &str, held: &[Fence]) -> Sql<()> {
    for fence in held {
        query("UPDATE wk_lease SET holder = '' WHERE scope = $1 AND holder = $2 AND epoch = $3")
            .bind(&*fence.scope)
            .bind(holder)
            .bind(fence.epoch)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// A list as JSON, for `json_each`.
pub(super) fn list<T: serde::Serialize>(items: &[T]) -> String {
    serde_json::to_string(items).expect("lists of numbers and texts are JSON")
}
