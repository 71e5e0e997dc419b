//! Objects of a source: tenants, channels, monitors and what they depend on, maintenance windows.

use super::super::apply::{Found, Known, Plan, plan, returning, stored_window, window_changes};
use super::super::outbox::{Forsaken, SENDING_MAX, forsaken_entries};
use super::super::rows::{self, Columns, Sql};
use super::super::{
    Applied, AppliedMonitor, AppliedTenant, Beside, ChannelObject, MaintenanceObject, Mandate, MonitorObject, RetiredMonitor, TenantObjects,
};
use super::belong::{list, one_id, reserve_ids};
use super::commit::stale_fences;
use super::documents;
use super::incidents::append;
use super::people::look_again;
use sqlx::{SqliteConnection, query};
use std::collections::BTreeSet;
use watchkeeper_core::{ChannelId, Micros, TenantId};

/// `None` when another configuration is in force, and the mandate does not suffice to change that.
pub(super) async fn apply(
    tx: &mut SqliteConnection,
    source: &str,
    hash: &str,
    tenants: &[TenantObjects],
    mandate: Mandate<'_>,
    beside: Beside<'_>,
    now: Micros,
) -> Sql<Option<Applied>> {
    let may_change = match mandate {
        Mandate::Alone => true,
        Mandate::Lease(fence) => stale_fences(tx, &BTreeSet::from([fence])).await?.is_empty(),
        Mandate::None => false,
    };
    if !may_change {
        let row = query("SELECT hash FROM wk_source WHERE name = $1").bind(source).fetch_optional(&mut *tx).await?;
        if row.map(|row| row.text(0)).transpose()?.is_some_and(|stored| stored != hash) {
            return Ok(None);
        }
    }
    let documents = documents::change(tx, beside).await?;
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
    let mut applied = Applied { documents, ..Applied::default() };
    for objects in tenants {
        applied.tenants.push(apply_tenant(tx, source, objects, now).await?);
    }
    let kept: Vec<i64> = applied.tenants.iter().flat_map(|tenant| tenant.channels.iter().map(|id| id.0)).collect();
    retire_channels(tx, source, &kept, now).await?;
    let windows = applied.tenants.iter().zip(tenants).map(|(applied, objects)| (applied.tenant, &objects.maintenance[..])).collect();
    apply_maintenance(tx, source, windows, now).await?;
    let kept: Vec<i64> = applied.tenants.iter().flat_map(|tenant| tenant.monitors.iter().map(|monitor| monitor.id.0)).collect();
    applied.retired = retire_monitors(tx, source, &kept, now).await?;
    Ok(Some(applied))
}

pub(super) async fn in_force(tx: &mut SqliteConnection, source: &str) -> Sql<Option<String>> {
    let row = query("SELECT hash FROM wk_source WHERE name = $1").bind(source).fetch_optional(&mut *tx).await?;
    row.map(|row| row.text(0)).transpose()
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
    apply_parents(tx, applied.tenant, &objects.monitors, &applied.monitors).await?;
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
            "UPDATE wk_channel SET rev = rev + (kind <> $2 OR config <> $3 OR budget_key <> $4 OR last_resort <> $7 OR retired_at IS NOT NULL),
                 kind = $2, config = $3, budget_key = $4, source_id = $5, origin = $6, last_resort = $7, retired_at = NULL
             WHERE id = $1",
        )
        .bind(id)
        .bind(&channel.kind)
        .bind(&channel.config)
        .bind(&channel.budget)
        .bind(source)
        .bind(&channel.origin)
        .bind(channel.last_resort)
        .execute(&mut *tx)
        .await?;
        return Ok(ChannelId(id));
    }
    let id = one_id(tx).await?;
    query(
        "INSERT INTO wk_channel (id, tenant_id, name, kind, config, budget_key, source_id, origin, last_resort, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(id)
    .bind(tenant.0)
    .bind(&channel.name)
    .bind(&channel.kind)
    .bind(&channel.config)
    .bind(&channel.budget)
    .bind(source)
    .bind(&channel.origin)
    .bind(channel.last_resort)
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
    forget(tx, &returning(&found)).await?;
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

/// Forgets what was seen of monitors before they were taken out: it says nothing of what they are like now that they are back. What
/// is known of an incident that nobody has ended yet stays.
async fn forget(tx: &mut SqliteConnection, monitors: &[i64]) -> Sql<()> {
    query("DELETE FROM wk_sight WHERE monitor_id IN (SELECT value FROM json_each($1))").bind(list(monitors)).execute(&mut *tx).await?;
    query(
        "DELETE FROM wk_verdict WHERE monitor_id IN (SELECT value FROM json_each($1)) AND NOT EXISTS
             (SELECT 1 FROM wk_incident i WHERE i.monitor_id = wk_verdict.monitor_id AND i.resolved_at IS NULL)",
    )
    .bind(list(monitors))
    .execute(&mut *tx)
    .await?;
    Ok(())
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
    forsaken_notices(tx, now).await
}

/// Suppresses what waits for a channel that is no more: nobody delivers to it. An attempt under way is
/// let finish; housekeeping finds what it leaves.
pub(super) async fn forsaken_notices(tx: &mut SqliteConnection, now: Micros) -> Sql<()> {
    let rows = query(
        "UPDATE wk_notice SET state = 'suppressed',
             why = 'its channel ' || (SELECT name FROM wk_channel c WHERE c.id = wk_notice.channel_id) || ' is gone from the configuration'
         WHERE state IN ('due', 'held') AND channel_id IN (SELECT id FROM wk_channel WHERE retired_at IS NOT NULL)
           OR state = 'sending' AND channel_id IN (SELECT id FROM wk_channel WHERE retired_at < $1)
         RETURNING incident_id, (SELECT name FROM wk_channel c WHERE c.id = wk_notice.channel_id), event",
    )
    .bind((now - SENDING_MAX).0)
    .fetch_all(&mut *tx)
    .await?;
    let forsaken = rows.iter().map(Forsaken::read).collect::<Sql<Vec<_>>>()?;
    append(tx, forsaken_entries(&forsaken, now)).await
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

/// Replaces what these monitors depend on. A name that no live monitor of the tenant has depends on nothing.
async fn apply_parents(tx: &mut SqliteConnection, tenant: TenantId, objects: &[MonitorObject], applied: &[AppliedMonitor]) -> Sql<()> {
    query("DELETE FROM wk_parent WHERE monitor_id IN (SELECT value FROM json_each($1))")
        .bind(list(&applied.iter().map(|monitor| monitor.id.0).collect::<Vec<_>>()))
        .execute(&mut *tx)
        .await?;
    for (object, identity) in objects.iter().zip(applied).filter(|(object, _)| !object.depends_on.is_empty()) {
        query(
            "INSERT INTO wk_parent (monitor_id, parent_id) SELECT $1, id FROM wk_monitor
             WHERE tenant_id = $2 AND retired_at IS NULL AND name IN (SELECT value FROM json_each($3)) AND id <> $1
             ON CONFLICT DO NOTHING",
        )
        .bind(identity.id.0)
        .bind(tenant.0)
        .bind(list(&object.depends_on))
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Makes the source's maintenance windows be these; what one of them held, or will hold, is looked at again.
async fn apply_maintenance(tx: &mut SqliteConnection, source: i64, wanted: Vec<(TenantId, &[MaintenanceObject])>, now: Micros) -> Sql<()> {
    let rows = query("SELECT tenant_id, name, matcher, open_when, origin FROM wk_maintenance WHERE source_id = $1")
        .bind(source)
        .fetch_all(&mut *tx)
        .await?;
    let stored = rows.iter().map(stored_window).collect::<Sql<Vec<_>>>()?;
    let changes = window_changes(&stored, &wanted);
    for (tenant, name) in &changes.gone {
        query("DELETE FROM wk_maintenance WHERE source_id = $1 AND tenant_id = $2 AND name = $3")
            .bind(source)
            .bind(tenant.0)
            .bind(name)
            .execute(&mut *tx)
            .await?;
    }
    for (tenant, window) in &changes.written {
        query(
            "INSERT INTO wk_maintenance (tenant_id, name, matcher, open_when, source_id, origin) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (tenant_id, name) DO UPDATE SET matcher = excluded.matcher, open_when = excluded.open_when,
                 source_id = excluded.source_id, origin = excluded.origin",
        )
        .bind(tenant.0)
        .bind(&window.name)
        .bind(&window.matcher)
        .bind(&window.window)
        .bind(source)
        .bind(&window.origin)
        .execute(&mut *tx)
        .await?;
    }
    for tenant in changes.tenants {
        look_again(tx, tenant, now).await?;
    }
    Ok(())
}
