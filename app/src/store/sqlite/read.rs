//! What the API reads, tenant by tenant.

use super::super::flat::HOUR;
use super::super::history::{self, Cover, Days, RawCount, Rollup};
use super::super::rows::{self, Columns, Sql};
use super::super::{
    BeatRow, Glance, GlanceSpan, IncidentFilter, IncidentView, LiveRow, MetricBucket, MonitorBrief, MonitorDays, MonitorView, PAGE_MAX,
    StateTimes, Stats, TenantScope,
};
use super::belong::list;
use futures_util::TryStreamExt;
use sqlx::{SqliteConnection, query};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use watchkeeper_core::{DatacenterId, Dur, Micros, MonitorId, TenantId};

macro_rules! beat_columns {
    () => {
        "monitor_id, datacenter_id, at, agent_id, outcome, reason, lag_us, dns_us, connect_us, tls_us, first_byte_us, transfer_us,
         total_us, code, size, value, flags"
    };
}

macro_rules! monitor_columns {
    () => {
        "SELECT m.id, m.uid, m.name, m.kind, m.target, m.labels, m.paused, m.origin, m.config, v.health, v.since, v.why, m.created_at, v.fold
         FROM wk_monitor m LEFT JOIN wk_verdict v ON v.monitor_id = m.id"
    };
}

macro_rules! incident_columns {
    () => {
        "SELECT i.uid, i.id, coalesce(m.uid, ''), coalesce(m.name, ''), i.rule_key, i.status, i.severity, i.opened_at, i.resolved_at,
             i.resolved_why, i.reason, i.summary, i.trigger_value, i.acknowledged_by, i.acknowledged_at, i.routed_by
         FROM wk_incident i LEFT JOIN wk_monitor m ON m.id = i.monitor_id"
    };
}

pub(super) async fn tenants(tx: &mut SqliteConnection) -> Sql<Vec<(TenantId, String)>> {
    let rows = query("SELECT id, slug FROM wk_tenant WHERE retired_at IS NULL ORDER BY id").fetch_all(&mut *tx).await?;
    rows.iter().map(|row| Ok((TenantId(row.int(0)?), row.text(1)?))).collect()
}

pub(super) async fn monitors(tx: &mut SqliteConnection, scope: TenantScope, after: Option<&str>, limit: i64) -> Sql<Vec<MonitorView>> {
    let rows = query(concat!(
        monitor_columns!(),
        " WHERE m.tenant_id = $1 AND m.retired_at IS NULL AND ($2 IS NULL OR m.name > $2) ORDER BY m.name LIMIT $3"
    ))
    .bind(scope.0.0)
    .bind(after)
    .bind(limit.clamp(0, PAGE_MAX))
    .fetch_all(&mut *tx)
    .await?;
    let views = rows.iter().map(rows::monitor).collect::<Sql<Vec<_>>>()?;
    with_newest(tx, views).await
}

pub(super) async fn briefs(tx: &mut SqliteConnection, scope: TenantScope) -> Sql<Vec<MonitorBrief>> {
    let mut rows = query(
        "SELECT m.uid, m.name, m.kind, m.target, m.labels, m.paused, v.health, v.since, v.why, CASE WHEN v.fold LIKE '%\"flap\":%' THEN v.fold END
         FROM wk_monitor m LEFT JOIN wk_verdict v ON v.monitor_id = m.id WHERE m.tenant_id = $1 AND m.retired_at IS NULL ORDER BY m.name",
    )
    .bind(scope.0.0)
    .fetch(&mut *tx);
    let mut briefs = Vec::new();
    while let Some(row) = rows.try_next().await? {
        briefs.push(rows::brief(&row)?);
    }
    Ok(briefs)
}

pub(super) async fn stats(tx: &mut SqliteConnection, scope: TenantScope) -> Sql<Stats> {
    let rows = query(
        "SELECT m.id, v.health FROM wk_monitor m LEFT JOIN wk_verdict v ON v.monitor_id = m.id WHERE m.tenant_id = $1 AND m.retired_at IS NULL",
    )
    .bind(scope.0.0)
    .fetch_all(&mut *tx)
    .await?;
    let monitors = rows.iter().map(|row| Ok((row.int(0)?, rows::health(row.maybe_int(1)?)))).collect::<Sql<Vec<_>>>()?;
    let row =
        query("SELECT count(*) FROM wk_incident WHERE tenant_id = $1 AND status <> 'resolved'").bind(scope.0.0).fetch_one(&mut *tx).await?;
    let ids: Vec<i64> = monitors.iter().map(|(id, _)| *id).collect();
    let newest = newest_beats(tx, &list(&ids)).await?;
    Ok(history::stats(monitors.iter().map(|(_, health)| *health), row.int(0)?, newest.into_values()))
}

pub(super) async fn monitor(tx: &mut SqliteConnection, scope: TenantScope, uid_or_name: &str) -> Sql<Option<MonitorView>> {
    let row = query(concat!(
        monitor_columns!(),
        " WHERE m.tenant_id = $1 AND m.retired_at IS NULL AND (m.uid = $2 OR m.name = $2) ORDER BY m.uid = $2 DESC LIMIT 1"
    ))
    .bind(scope.0.0)
    .bind(uid_or_name)
    .fetch_optional(&mut *tx)
    .await?;
    let views = row.iter().map(rows::monitor).collect::<Sql<Vec<_>>>()?;
    Ok(with_newest(tx, views).await?.pop())
}

async fn with_newest(tx: &mut SqliteConnection, mut views: Vec<MonitorView>) -> Sql<Vec<MonitorView>> {
    let ids = list(&views.iter().map(|view| view.id.0).collect::<Vec<_>>());
    let mut newest = newest_beats(tx, &ids).await?;
    for view in &mut views {
        view.last = newest.remove(&view.id);
    }
    Ok(views)
}

/// The newest heartbeat of each of these monitors (ids as JSON) from each datacenter; one that was moved and one that was not may both
/// be there, the newer first.
pub(super) async fn newest_by_place(tx: &mut SqliteConnection, ids: &str) -> Sql<Vec<BeatRow>> {
    // SQLite takes the other columns from the row that has the maximum.
    let mut rows = query(concat!(
        "SELECT ",
        beat_columns!(),
        ", max(at) FROM wk_beat_new WHERE monitor_id IN (SELECT value FROM json_each($1)) GROUP BY monitor_id, datacenter_id"
    ))
    .bind(ids)
    .fetch_all(&mut *tx)
    .await?;
    let moved = query(concat!(
        "SELECT ",
        beat_columns!(),
        " FROM wk_beat b WHERE (monitor_id, datacenter_id, at) IN
             (SELECT m.value, d.id, (SELECT max(x.at) FROM wk_beat x WHERE x.monitor_id = m.value AND x.datacenter_id = d.id)
              FROM json_each($1) m CROSS JOIN wk_datacenter d)"
    ));
    rows.extend(moved.bind(ids).fetch_all(&mut *tx).await?);
    rows.iter().map(|row| rows::beat(row, 0)).collect()
}

/// The newest heartbeat of each of these monitors (ids as JSON) from any datacenter.
pub(super) async fn newest_beats(tx: &mut SqliteConnection, ids: &str) -> Sql<HashMap<MonitorId, BeatRow>> {
    let mut newest: HashMap<MonitorId, BeatRow> = HashMap::new();
    for beat in newest_by_place(tx, ids).await? {
        if newest.get(&beat.monitor).is_none_or(|known| known.at < beat.at) {
            newest.insert(beat.monitor, beat);
        }
    }
    Ok(newest)
}

/// Whether the monitor is the tenant's; beats reach their tenant only by it.
async fn owns(tx: &mut SqliteConnection, scope: TenantScope, monitor: MonitorId) -> Sql<bool> {
    let row = query("SELECT id FROM wk_monitor WHERE id = $1 AND tenant_id = $2")
        .bind(monitor.0)
        .bind(scope.0.0)
        .fetch_optional(&mut *tx)
        .await?;
    Ok(row.is_some())
}

async fn datacenters(tx: &mut SqliteConnection) -> Sql<Vec<i64>> {
    let rows = query("SELECT id FROM wk_datacenter ORDER BY id").fetch_all(&mut *tx).await?;
    rows.iter().map(|row| row.int(0)).collect()
}

pub(super) async fn heartbeats(
    tx: &mut SqliteConnection,
    scope: TenantScope,
    monitor: MonitorId,
    before: Micros,
    limit: i64,
) -> Sql<Vec<(BeatRow, Option<String>)>> {
    if !owns(tx, scope, monitor).await? {
        return Ok(Vec::new());
    }
    let limit = limit.clamp(0, PAGE_MAX);
    let mut rows = query(concat!(
        "SELECT ",
        beat_columns!(),
        ", min(seq) FROM wk_beat_new WHERE monitor_id = $1 AND at < $2 GROUP BY datacenter_id, at, agent_id ORDER BY at DESC LIMIT $3"
    ))
    .bind(monitor.0)
    .bind(before.0)
    .bind(limit)
    .fetch_all(&mut *tx)
    .await?;
    for datacenter in datacenters(tx).await? {
        rows.extend(
            query(concat!(
                "SELECT ",
                beat_columns!(),
                " FROM wk_beat WHERE monitor_id = $1 AND datacenter_id = $4 AND at < $2 ORDER BY at DESC LIMIT $3"
            ))
            .bind(monitor.0)
            .bind(before.0)
            .bind(limit)
            .bind(datacenter)
            .fetch_all(&mut *tx)
            .await?,
        );
    }
    // A beat that is being moved stands in both tables; the later read, the clustered one, wins.
    let mut beats = BTreeMap::new();
    for row in &rows {
        let beat = rows::beat(row, 0)?;
        beats.insert((beat.at, beat.datacenter, beat.agent), beat);
    }
    let beats: Vec<BeatRow> = beats.into_values().rev().take(limit as usize).collect();
    let (Some(newest), Some(oldest)) = (beats.first(), beats.last()) else { return Ok(Vec::new()) };
    let rows = query(
        "SELECT datacenter_id, at, json FROM wk_beat_detail
         WHERE monitor_id = $1 AND datacenter_id IN (SELECT id FROM wk_datacenter) AND at BETWEEN $2 AND $3",
    )
    .bind(monitor.0)
    .bind(oldest.at.0)
    .bind(newest.at.0)
    .fetch_all(&mut *tx)
    .await?;
    let mut details = rows.iter().map(|row| Ok(((row.int(0)?, row.int(1)?), row.text(2)?))).collect::<Sql<HashMap<_, _>>>()?;
    Ok(beats
        .into_iter()
        .map(|beat| {
            let detail = details.remove(&(beat.datacenter.0, beat.at.0));
            (beat, detail)
        })
        .collect())
}

pub(super) async fn metrics(
    tx: &mut SqliteConnection,
    scope: TenantScope,
    monitor: MonitorId,
    seen_from: Option<DatacenterId>,
    from: Micros,
    to: Micros,
    span: Dur,
) -> Sql<Vec<MetricBucket>> {
    if !owns(tx, scope, monitor).await? {
        return Ok(Vec::new());
    }
    let place = seen_from.map(|datacenter| datacenter.0);
    let rows = query(
        "SELECT span, start, up, down, unknown, codes, sketch FROM wk_rollup
         WHERE monitor_id = $1 AND datacenter_id IN (SELECT id FROM wk_datacenter WHERE $5 IS NULL OR id = $5) AND span IN ($4, 24 * $4) AND start >= $2 AND start < $3",
    )
    .bind(monitor.0)
    .bind(from.0)
    .bind(to.0)
    .bind(HOUR)
    .bind(place)
    .fetch_all(&mut *tx)
    .await?;
    let stored = rows.iter().map(Rollup::read).collect::<Sql<Vec<_>>>()?;
    let rows = query("SELECT span, start FROM wk_rollup_dirty WHERE monitor_id = $1").bind(monitor.0).fetch_all(&mut *tx).await?;
    let dirty = rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?))).collect::<Sql<BTreeSet<_>>>()?;
    let cover = Cover::new(from, to, span, stored, &dirty);
    let mut raw = RawCount::default();
    for (from, to) in cover.raw() {
        let mut rows = query(
            "SELECT datacenter_id, at, agent_id, outcome, total_us, code FROM wk_beat
             WHERE monitor_id = $1 AND datacenter_id IN (SELECT id FROM wk_datacenter WHERE $4 IS NULL OR id = $4)
               AND at >= $2 AND at < $3
             UNION ALL
             SELECT datacenter_id, at, agent_id, outcome, total_us, code FROM wk_beat_new
             WHERE monitor_id = $1 AND at >= $2 AND at < $3 AND ($4 IS NULL OR datacenter_id = $4)
             ORDER BY 1, 2, 3",
        )
        .bind(monitor.0)
        .bind(from)
        .bind(to)
        .bind(place)
        .fetch(&mut *tx);
        while let Some(row) = rows.try_next().await? {
            raw.add(&row, cover.span())?;
        }
    }
    Ok(cover.finish(raw))
}

pub(super) async fn state_times(
    tx: &mut SqliteConnection,
    scope: TenantScope,
    monitor: MonitorId,
    from: Micros,
    to: Micros,
) -> Sql<StateTimes> {
    if !owns(tx, scope, monitor).await? {
        return Ok(history::state_times(from, to, std::iter::empty()));
    }
    let rows = query(
        "SELECT start, end_at, state FROM wk_interval
         WHERE monitor_id = $1 AND start < $3 AND start >= COALESCE(
             (SELECT start FROM wk_interval WHERE monitor_id = $1 AND start <= $2 ORDER BY start DESC LIMIT 1 OFFSET 1), 0)
         ORDER BY start",
    )
    .bind(monitor.0)
    .bind(from.0)
    .bind(to.0)
    .fetch_all(&mut *tx)
    .await?;
    let intervals = rows.iter().map(|row| Ok((row.int(0)?, row.maybe_int(1)?, row.int(2)?))).collect::<Sql<Vec<_>>>()?;
    Ok(history::state_times(from, to, intervals.into_iter()))
}

/// Of those monitors alone, if any are named.
pub(super) async fn days(
    tx: &mut SqliteConnection,
    scope: TenantScope,
    only: Option<&[MonitorId]>,
    from: Micros,
    to: Micros,
) -> Sql<Vec<MonitorDays>> {
    let mut rows = query(
        "SELECT m.uid, m.name, (SELECT group_concat(i.start) || ' ' || group_concat(coalesce(i.end_at, '')) || ' ' || group_concat(i.state) FROM wk_interval i
             WHERE i.monitor_id = m.id AND i.start < $3 AND i.start >= coalesce(
                 (SELECT x.start FROM wk_interval x WHERE x.monitor_id = m.id AND x.start <= $2 ORDER BY x.start DESC LIMIT 1 OFFSET 1), 0))
         FROM wk_monitor m
         WHERE m.tenant_id = $1 AND m.retired_at IS NULL AND ($4 IS NULL OR m.id IN (SELECT value FROM json_each($4)))",
    )
    .bind(scope.0.0)
    .bind(from.0)
    .bind(to.0)
    .bind(only.map(|only| list(&only.iter().map(|monitor| monitor.0).collect::<Vec<_>>())))
    .fetch(&mut *tx);
    let mut days = Days::new(from, to);
    while let Some(row) = rows.try_next().await? {
        days.read(&row)?;
    }
    Ok(days.finish())
}

pub(super) async fn glance(tx: &mut SqliteConnection, scope: TenantScope, only: &[MonitorId], span: GlanceSpan) -> Sql<Glance> {
    let ids = list(&only.iter().map(|monitor| monitor.0).collect::<Vec<_>>());
    let rows = query(concat!(
        monitor_columns!(),
        " WHERE m.tenant_id = $1 AND m.retired_at IS NULL AND m.id IN (SELECT value FROM json_each($2))"
    ))
    .bind(scope.0.0)
    .bind(&ids)
    .fetch_all(&mut *tx)
    .await?;
    let monitors = with_newest(tx, rows.iter().map(rows::monitor).collect::<Sql<_>>()?).await?;
    let days = days(tx, scope, Some(only), span.days_from, span.to).await?;
    let recent = self::days(tx, scope, Some(only), span.recent_from, span.to).await?;
    let rows = query(concat!(
        incident_columns!(),
        " WHERE i.tenant_id = $1 AND i.monitor_id IN (SELECT value FROM json_each($2)) AND (i.resolved_at IS NULL OR i.resolved_at >= $3)
          ORDER BY (i.resolved_at IS NULL) DESC, i.opened_at DESC, i.id DESC LIMIT $4"
    ))
    .bind(scope.0.0)
    .bind(&ids)
    .bind(span.ended_after.0)
    .bind(PAGE_MAX)
    .fetch_all(&mut *tx)
    .await?;
    Ok(Glance { monitors, days, recent, incidents: rows.iter().map(rows::incident).collect::<Sql<_>>()? })
}

pub(super) async fn incidents(tx: &mut SqliteConnection, scope: TenantScope, filter: &IncidentFilter) -> Sql<Vec<IncidentView>> {
    let rows = query(concat!(
        incident_columns!(),
        " WHERE i.tenant_id = $1 AND ($2 IS NULL OR i.status = $2 OR ($2 = 'unresolved' AND i.status <> 'resolved'))
            AND ($3 IS NULL OR m.uid = $3)
            AND ($4 IS NULL OR (i.opened_at, i.id) < ($4, $5))
          ORDER BY i.opened_at DESC, i.id DESC LIMIT $6"
    ))
    .bind(scope.0.0)
    .bind(filter.status.as_deref())
    .bind(filter.monitor_uid.as_deref())
    .bind(filter.before.map(|(at, _)| at.0))
    .bind(filter.before.map(|(_, id)| id.0))
    .bind(filter.limit.clamp(0, PAGE_MAX))
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(rows::incident).collect()
}

pub(super) async fn incident(tx: &mut SqliteConnection, scope: TenantScope, uid: &str) -> Sql<Option<IncidentView>> {
    let row = query(concat!(incident_columns!(), " WHERE i.tenant_id = $1 AND i.uid = $2"))
        .bind(scope.0.0)
        .bind(uid)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(mut view) = row.as_ref().map(rows::incident).transpose()? else { return Ok(None) };
    let rows = query("SELECT nth, at, kind, actor, text, evidence FROM wk_incident_event WHERE incident_id = $1 ORDER BY nth LIMIT $2")
        .bind(view.id.0)
        .bind(PAGE_MAX)
        .fetch_all(&mut *tx)
        .await?;
    view.timeline = rows.iter().map(rows::entry).collect::<Sql<_>>()?;
    let rows = query(
        "SELECT c.name, n.event, n.state, n.attempts, n.last_error, n.why, n.next_at, n.created_at, n.sent_at
         FROM wk_notice n JOIN wk_channel c ON c.id = n.channel_id WHERE n.incident_id = $1 ORDER BY n.created_at, n.id LIMIT $2",
    )
    .bind(view.id.0)
    .bind(PAGE_MAX)
    .fetch_all(&mut *tx)
    .await?;
    view.notices = rows.iter().map(rows::notice).collect::<Sql<_>>()?;
    Ok(Some(view))
}

pub(super) async fn newest_event(tx: &mut SqliteConnection) -> Sql<i64> {
    query("SELECT coalesce(sum(last_event), 0) FROM wk_tenant").fetch_one(&mut *tx).await?.int(0)
}

pub(super) async fn live_after(tx: &mut SqliteConnection, scope: TenantScope, after: i64, limit: i64) -> Sql<(Vec<LiveRow>, i64)> {
    let rows = query("SELECT id, at, kind, data FROM wk_event WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3")
        .bind(scope.0.0)
        .bind(after)
        .bind(limit.clamp(0, PAGE_MAX))
        .fetch_all(&mut *tx)
        .await?;
    let events = rows.iter().map(rows::live).collect::<Sql<Vec<_>>>()?;
    let newest = query("SELECT last_event FROM wk_tenant WHERE id = $1").bind(scope.0.0).fetch_optional(&mut *tx).await?;
    Ok((events, newest.map(|row| row.int(0)).transpose()?.unwrap_or(0)))
}
