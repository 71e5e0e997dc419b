//! Nodes, ids, objects of a source, stored states, leases.

use super::super::apply::{Found, Known, Plan, plan};
use super::super::rows::{self, Columns, Sql};
use super::super::{
    Applied, AppliedMonitor, AppliedTenant, ChannelObject, Fence, Joined, LeaseRow, MonitorObject, RetiredMonitor, Scope, StoredState,
    TenantObjects, fold,
};
use super::read::newest_beats;
use sqlx::{SqliteConnection, query};
use std::collections::HashMap;
use watchkeeper_core::ids::IdBlock;
use watchkeeper_core::{AgentId, ChannelId, DatacenterId, Micros, MonitorId, TenantId};

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
    })
}

pub(super) async fn reserve_ids(tx: &mut SqliteConnection, count: i64) -> Sql<IdBlock> {
    let count = count.max(1);
    let row = query("UPDATE wk_id_block SET next = next + $1 WHERE name = 'row' RETURNING next").bind(count).fetch_one(&mut *tx).await?;
    let end = row.int(0)?;
    Ok(IdBlock::new(end - count, end))
}

async fn one_id(tx: &mut SqliteConnection) -> Sql<i64> {
    Ok(reserve_ids(tx, 1).await?.draw().expect("the block was reserved with one id"))
}

pub(super) async fn apply(tx: &mut SqliteConnection, source: &str, hash: &str, tenants: &[TenantObjects], now: Micros) -> Sql<Applied> {
    let id = one_id(tx).await?;
    let row = query(
        "INSERT INTO wk_source (id, name, kind, hash, applied_at) VALUES ($1, $2, 'files', $3, $4)
         ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, applied_at = excluded.applied_at RETURNING id",
    )
    .bind(id)
    .bind(source)
    .bind(hash)
    .bind(now.0)
    .fetch_one(&mut *tx)
    .await?;
    let source = row.int(0)?;
    let mut applied = Applied::default();
    for objects in tenants {
        applied.tenants.push(apply_tenant(tx, source, objects, now).await?);
    }
    let kept: Vec<i64> = applied.tenants.iter().flat_map(|tenant| tenant.channels.iter().map(|id| id.0)).collect();
    retire_channels(tx, source, &kept, now).await?;
    let kept: Vec<i64> = applied.tenants.iter().flat_map(|tenant| tenant.monitors.iter().map(|monitor| monitor.id.0)).collect();
    applied.retired = retire_monitors(tx, source, &kept, now).await?;
    Ok(applied)
}

async fn apply_tenant(tx: &mut SqliteConnection, source: i64, objects: &TenantObjects, now: Micros) -> Sql<AppliedTenant> {
    let id = one_id(tx).await?;
    let row = query(
        "INSERT INTO wk_tenant (id, slug, name, created_at) VALUES ($1, $2, $2, $3)
         ON CONFLICT (slug) DO UPDATE SET retired_at = NULL RETURNING id",
    )
    .bind(id)
    .bind(&objects.tenant)
    .bind(now.0)
    .fetch_one(&mut *tx)
    .await?;
    let mut applied = AppliedTenant { tenant: TenantId(row.int(0)?), ..AppliedTenant::default() };
    for channel in &objects.channels {
        applied.channels.push(apply_channel(tx, source, applied.tenant, channel, now).await?);
    }
    applied.monitors = apply_monitors(tx, source, applied.tenant, &objects.monitors, now).await?;
    Ok(applied)
}

/// A channel is (tenant, name); a retired one of that name comes back with its id.
async fn apply_channel(tx: &mut SqliteConnection, source: i64, tenant: TenantId, channel: &ChannelObject, now: Micros) -> Sql<ChannelId> {
    let known =
        query("SELECT id FROM wk_channel WHERE tenant_id = $1 AND name = $2 ORDER BY retired_at IS NOT NULL, retired_at DESC LIMIT 1")
            .bind(tenant.0)
            .bind(&channel.name)
            .fetch_optional(&mut *tx)
            .await?;
    if let Some(row) = known {
        let id = row.int(0)?;
        query(
            "UPDATE wk_channel SET rev = rev + (kind <> $2 OR config <> $3 OR budget_key <> $4 OR retired_at IS NOT NULL),
                 kind = $2, config = $3, budget_key = $4, source_id = $5, origin = $6, retired_at = NULL
             WHERE id = $1",
        )
        .bind(id)
        .bind(&channel.kind)
        .bind(&channel.config)
        .bind(&channel.budget)
        .bind(source)
        .bind(&channel.origin)
        .execute(&mut *tx)
        .await?;
        return Ok(ChannelId(id));
    }
    let id = one_id(tx).await?;
    query(
        "INSERT INTO wk_channel (id, tenant_id, name, kind, config, budget_key, source_id, origin, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(id)
    .bind(tenant.0)
    .bind(&channel.name)
    .bind(&channel.kind)
    .bind(&channel.config)
    .bind(&channel.budget)
    .bind(source)
    .bind(&channel.origin)
    .bind(now.0)
    .execute(&mut *tx)
    .await?;
    Ok(ChannelId(id))
}

async fn apply_monitors(
    tx: &mut SqliteConnection,
    source: i64,
    tenant: TenantId,
    objects: &[MonitorObject],
    now: Micros,
) -> Sql<Vec<AppliedMonitor>> {
    let known = known_monitors(tx, tenant, objects).await?;
    let Plan { found, renamed } = plan(tenant, objects, &known)?;
    // Names may change places: everything that gets another name first leaves its own.
    for id in renamed {
        query("UPDATE wk_monitor SET name = '~' || id WHERE id = $1").bind(id).execute(&mut *tx).await?;
    }
    let mut ids = reserve_ids(tx, found.len() as i64).await?;
    let mut applied = Vec::with_capacity(objects.len());
    for (object, found) in objects.iter().zip(found) {
        let labels = serde_json::to_string(&object.labels).expect("a map of texts is JSON");
        let statement = match found {
            Found::New => query(
                "INSERT INTO wk_monitor (id, uid, tenant_id, name, kind, target, config, labels, paused, source_id, origin, hash,
                     push_token, created_at, updated_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14)",
            ),
            Found::Known { changed: true, .. } => query(
                "UPDATE wk_monitor SET uid = $2, name = $4, kind = $5, target = $6, config = $7, labels = $8, paused = $9,
                     source_id = $10, origin = $11, hash = $12, push_token = $13, updated_at = $14, rev = rev + 1, retired_at = NULL
                 WHERE id = $1 AND tenant_id = $3",
            ),
            Found::Known { changed: false, .. } => query(
                "UPDATE wk_monitor SET name = $4, labels = $8, source_id = $10, origin = $11, push_token = $13 WHERE id = $1 AND tenant_id = $3",
            ),
        };
        let identity = found.identity(object, &mut ids, now);
        statement
            .bind(identity.id.0)
            .bind(&identity.uid)
            .bind(tenant.0)
            .bind(&object.name)
            .bind(&object.kind)
            .bind(&object.target)
            .bind(&object.config)
            .bind(labels)
            .bind(object.paused)
            .bind(source)
            .bind(&object.origin)
            .bind(object.hash.as_slice())
            .bind(&identity.push_token)
            .bind(now.0)
            .execute(&mut *tx)
            .await?;
        applied.push(identity);
    }
    Ok(applied)
}

/// Every monitor that one of the objects may mean: those of the tenant, and those of any tenant that have a wanted uid.
async fn known_monitors(tx: &mut SqliteConnection, tenant: TenantId, objects: &[MonitorObject]) -> Sql<Vec<Known>> {
    let uids: Vec<&str> = objects.iter().filter_map(|object| object.uid.as_deref()).collect();
    let rows = query(
        "SELECT id, tenant_id, uid, name, kind, paused, retired_at, hash, push_token, created_at FROM wk_monitor
         WHERE tenant_id = $1 OR uid IN (SELECT value FROM json_each($2)) ORDER BY id",
    )
    .bind(tenant.0)
    .bind(list(&uids))
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(Known::read).collect()
}

async fn retire_channels(tx: &mut SqliteConnection, source: i64, kept: &[i64], now: Micros) -> Sql<()> {
    query("UPDATE wk_channel SET retired_at = $3, rev = rev + 1 WHERE source_id = $1 AND retired_at IS NULL AND id NOT IN (SELECT value FROM json_each($2))")
        .bind(source)
        .bind(list(kept))
        .bind(now.0)
        .execute(&mut *tx)
        .await?;
    forsaken_notices(tx).await
}

/// Suppresses what waits for a channel that is no more: nobody delivers to it.
pub(super) async fn forsaken_notices(tx: &mut SqliteConnection) -> Sql<()> {
    query(
        "UPDATE wk_notice SET state = 'suppressed', why = 'the channel was removed'
         WHERE state IN ('due', 'held') AND channel_id IN (SELECT id FROM wk_channel WHERE retired_at IS NOT NULL)",
    )
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn retire_monitors(tx: &mut SqliteConnection, source: i64, kept: &[i64], now: Micros) -> Sql<Vec<RetiredMonitor>> {
    query(
        "UPDATE wk_monitor SET retired_at = $3, updated_at = $3, rev = rev + 1
         WHERE source_id = $1 AND retired_at IS NULL AND id NOT IN (SELECT value FROM json_each($2))",
    )
    .bind(source)
    .bind(list(kept))
    .bind(now.0)
    .execute(&mut *tx)
    .await?;
    let rows = query(
        "SELECT m.id, m.uid, m.name, m.kind, m.target, t.id, t.slug FROM wk_monitor m JOIN wk_tenant t ON t.id = m.tenant_id
         WHERE m.source_id = $1 AND (m.retired_at = $2 OR m.retired_at IS NOT NULL
             AND EXISTS (SELECT 1 FROM wk_incident i WHERE i.monitor_id = m.id AND i.resolved_at IS NULL))
         ORDER BY m.id",
    )
    .bind(source)
    .bind(now.0)
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(rows::retired).collect()
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
        "SELECT monitor_id, id, uid, rule_key, opened_at, summary, reason FROM wk_incident
         WHERE resolved_at IS NULL AND monitor_id IN (SELECT value FROM json_each($1)) ORDER BY id",
    )
    .bind(&ids)
    .fetch_all(&mut *tx)
    .await?;
    for row in rows {
        let (monitor, incident) = rows::open_incident(&row)?;
        state(monitor.0, &mut |state| state.open.push(incident.clone()));
    }
    for (monitor, beat) in newest_beats(tx, &ids).await? {
        state(monitor.0, &mut |state| state.last_beat = Some(beat.at));
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
