//! Objects of a source: tenants, channels, monitors and what they depend on, maintenance windows.

use super::super::apply::{Found, Known, Plan, plan, returning, stored_window, window_changes};
use super::super::outbox::{Forsaken, SENDING_MAX, forsaken_entries};
use super::super::rows::{self, Columns, Sql};
use super::super::{
    Applied, AppliedMonitor, AppliedTenant, Beside, ChannelObject, MaintenanceObject, Mandate, MonitorObject, RetiredMonitor, TenantObjects,
};
use super::belong::{one_id, reserve_ids};
use super::commit::stale_fences;
use super::documents;
use super::incidents::append;
use super::people::look_again;
use super::query;
use sqlx::PgConnection;
use std::collections::BTreeSet;
use watchkeeper_core::{ChannelId, Micros, TenantId};

/// `None` when another configuration is in force, and the mandate does not suffice to change that.
pub(super) async fn apply(
    tx: &mut PgConnection,
    source: &str,
    hash: &str,
    tenants: &[TenantObjects],
    mandate: Mandate<'_>,
    beside: Beside<'_>,
    now: Micros,
) -> Sql<Option<Applied>> {
    // The ids come first, whatever the mandate: nodes that apply at once lock ids and source in one order, or they would wait in a circle.
    let id = one_id(tx).await?;
    let may_change = match mandate {
        Mandate::Alone => true,
        Mandate::Lease(fence) => stale_fences(tx, &BTreeSet::from([fence])).await?.is_empty(),
        Mandate::None => false,
    };
    if !may_change {
        let row = query("SELECT hash FROM wk_source WHERE name = $1 FOR UPDATE").bind(source).fetch_optional(&mut *tx).await?;
        if row.map(|row| row.text(0)).transpose()?.is_some_and(|stored| stored != hash) {
            return Ok(None);
        }
    }
    let documents = documents::change(tx, beside).await?;
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

pub(super) async fn in_force(tx: &mut PgConnection, source: &str) -> Sql<Option<String>> {
    let row = query("SELECT hash FROM wk_source WHERE name = $1").bind(source).fetch_optional(&mut *tx).await?;
    row.map(|row| row.text(0)).transpose()
}

async fn apply_tenant(tx: &mut PgConnection, source: i64, objects: &TenantObjects, now: Micros) -> Sql<AppliedTenant> {
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
async fn apply_channel(tx: &mut PgConnection, source: i64, tenant: TenantId, channel: &ChannelObject, now: Micros) -> Sql<ChannelId> {
    let known =
        query("SELECT id FROM wk_channel WHERE tenant_id = $1 AND name = $2 ORDER BY retired_at IS NOT NULL, retired_at DESC LIMIT 1")
            .bind(tenant.0)
            .bind(&channel.name)
            .fetch_optional(&mut *tx)
            .await?;
    if let Some(row) = known {
        let id = row.int(0)?;
        query(
            "UPDATE wk_channel SET rev = rev + (kind <> $2 OR config <> $3 OR budget_key <> $4 OR last_resort <> $7
                     OR retired_at IS NOT NULL)::int,
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
    tx: &mut PgConnection,
    source: i64,
    tenant: TenantId,
    objects: &[MonitorObject],
    now: Micros,
) -> Sql<Vec<AppliedMonitor>> {
    let known = known_monitors(tx, tenant, objects).await?;
    let Plan { found, renamed } = plan(tenant, objects, &known)?;
    // Names may change places: everything that gets another name first leaves its own.
    query("UPDATE wk_monitor SET name = '~' || id WHERE id = ANY($1)").bind(renamed).execute(&mut *tx).await?;
    forget(tx, returning(&found)).await?;
    let mut ids = reserve_ids(tx, found.len() as i64).await?;
    let applied: Vec<AppliedMonitor> = objects.iter().zip(&found).map(|(object, found)| found.identity(object, &mut ids, now)).collect();
    let rows: Vec<_> = objects.iter().zip(&found).zip(&applied).collect();
    let (new, stored): (Vec<_>, Vec<_>) = rows.into_iter().partition(|((_, found), _)| matches!(found, Found::New));
    for (statement, rows) in [(INSERT_MONITORS, new), (UPDATE_MONITORS, stored)] {
        let text = |of: fn(&MonitorObject) -> &str| rows.iter().map(|((object, _), _)| of(object).to_owned()).collect::<Vec<_>>();
        let labels: Vec<String> =
            rows.iter().map(|((object, _), _)| serde_json::to_string(&object.labels).expect("a map of texts is JSON")).collect();
        query(statement)
            .bind(tenant.0)
            .bind(source)
            .bind(now.0)
            .bind(rows.iter().map(|(_, identity)| identity.id.0).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, identity)| identity.uid.clone()).collect::<Vec<_>>())
            .bind(text(|object| &object.name))
            .bind(text(|object| &object.kind))
            .bind(text(|object| &object.target))
            .bind(text(|object| &object.config))
            .bind(labels)
            .bind(rows.iter().map(|((object, _), _)| object.paused).collect::<Vec<_>>())
            .bind(text(|object| &object.origin))
            .bind(rows.iter().map(|((object, _), _)| object.hash.to_vec()).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, identity)| identity.push_token.clone()).collect::<Vec<_>>())
            .bind(rows.iter().map(|((_, found), _)| i64::from(matches!(found, Found::Known { changed: true, .. }))).collect::<Vec<_>>())
            .execute(&mut *tx)
            .await?;
    }
    Ok(applied)
}

/// Both statements take the same arguments: tenant, source, now, and one list for each column.
const INSERT_MONITORS: &str = "INSERT INTO wk_monitor (tenant_id, source_id, created_at, updated_at, id, uid, name, kind, target, config,
         labels, paused, origin, hash, push_token)
     SELECT $1, $2, $3, $3, id, uid, name, kind, target, config, labels, paused, origin, hash, push_token
     FROM unnest($4::int8[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::bool[], $12::text[],
         $13::bytea[], $14::text[], $15::int8[])
         AS x (id, uid, name, kind, target, config, labels, paused, origin, hash, push_token, changed)";

const UPDATE_MONITORS: &str = "UPDATE wk_monitor m SET uid = x.uid, name = x.name, kind = x.kind, target = x.target, config = x.config,
         labels = x.labels, paused = x.paused, source_id = $2, origin = x.origin, hash = x.hash, push_token = x.push_token,
         rev = m.rev + x.changed, updated_at = CASE x.changed WHEN 0 THEN m.updated_at ELSE $3 END, retired_at = NULL
     FROM unnest($4::int8[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::bool[], $12::text[],
         $13::bytea[], $14::text[], $15::int8[])
         AS x (id, uid, name, kind, target, config, labels, paused, origin, hash, push_token, changed)
     WHERE m.id = x.id AND m.tenant_id = $1";

/// Forgets what was seen of monitors before they were taken out: it says nothing of what they are like now that they are back. What
/// is known of an incident that nobody has ended yet stays.
async fn forget(tx: &mut PgConnection, monitors: Vec<i64>) -> Sql<()> {
    query("DELETE FROM wk_sight WHERE monitor_id = ANY($1)").bind(monitors.clone()).execute(&mut *tx).await?;
    query(
        "DELETE FROM wk_verdict v WHERE v.monitor_id = ANY($1) AND NOT EXISTS
             (SELECT 1 FROM wk_incident i WHERE i.monitor_id = v.monitor_id AND i.resolved_at IS NULL)",
    )
    .bind(monitors)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Every monitor that one of the objects may mean: those of the tenant, and those of any tenant that have a wanted uid.
async fn known_monitors(tx: &mut PgConnection, tenant: TenantId, objects: &[MonitorObject]) -> Sql<Vec<Known>> {
    let uids: Vec<String> = objects.iter().filter_map(|object| object.uid.clone()).collect();
    let rows = query(
        "SELECT id, tenant_id, uid, name, kind, paused::int::int8, retired_at, hash, push_token, created_at FROM wk_monitor
         WHERE tenant_id = $1 OR uid = ANY($2) ORDER BY id",
    )
    .bind(tenant.0)
    .bind(uids)
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(Known::read).collect()
}

async fn retire_channels(tx: &mut PgConnection, source: i64, kept: &[i64], now: Micros) -> Sql<()> {
    query("UPDATE wk_channel SET retired_at = $3, rev = rev + 1 WHERE source_id = $1 AND retired_at IS NULL AND id <> ALL($2)")
        .bind(source)
        .bind(kept)
        .bind(now.0)
        .execute(&mut *tx)
        .await?;
    forsaken_notices(tx, now).await
}

/// Suppresses what waits for a channel that is no more: nobody delivers to it. An attempt under way is
/// let finish; housekeeping finds what it leaves.
pub(super) async fn forsaken_notices(tx: &mut PgConnection, now: Micros) -> Sql<()> {
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

async fn retire_monitors(tx: &mut PgConnection, source: i64, kept: &[i64], now: Micros) -> Sql<Vec<RetiredMonitor>> {
    query(
        "UPDATE wk_monitor SET retired_at = $3, updated_at = $3, rev = rev + 1
         WHERE source_id = $1 AND retired_at IS NULL AND id <> ALL($2)",
    )
    .bind(source)
    .bind(kept)
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
async fn apply_parents(tx: &mut PgConnection, tenant: TenantId, objects: &[MonitorObject], applied: &[AppliedMonitor]) -> Sql<()> {
    query("DELETE FROM wk_parent WHERE monitor_id = ANY($1)")
        .bind(applied.iter().map(|monitor| monitor.id.0).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
    let pairs: Vec<(i64, &String)> =
        objects.iter().zip(applied).flat_map(|(object, identity)| object.depends_on.iter().map(|name| (identity.id.0, name))).collect();
    query(
        "INSERT INTO wk_parent (monitor_id, parent_id)
         SELECT x.monitor_id, m.id FROM unnest($2::int8[], $3::text[]) AS x (monitor_id, name)
         JOIN wk_monitor m ON m.tenant_id = $1 AND m.retired_at IS NULL AND m.name = x.name AND m.id <> x.monitor_id
         ON CONFLICT DO NOTHING",
    )
    .bind(tenant.0)
    .bind(pairs.iter().map(|(monitor, _)| *monitor).collect::<Vec<_>>())
    .bind(pairs.iter().map(|(_, name)| (*name).clone()).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Makes the source's maintenance windows be these; what one of them held, or will hold, is looked at again.
async fn apply_maintenance(tx: &mut PgConnection, source: i64, wanted: Vec<(TenantId, &[MaintenanceObject])>, now: Micros) -> Sql<()> {
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
            .bind((*name).to_owned())
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
        .bind(window.name.clone())
        .bind(window.matcher.clone())
        .bind(window.window.clone())
        .bind(source)
        .bind(window.origin.clone())
        .execute(&mut *tx)
        .await?;
    }
    for tenant in changes.tenants {
        look_again(tx, tenant, now).await?;
    }
    Ok(())
}
