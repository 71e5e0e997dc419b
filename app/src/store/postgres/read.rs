//! What the API reads, tenant by tenant.

use super::super::flat::HOUR;
use super::super::history::{self, Cover, Days, RawCount, Rollup};
use super::super::rows::{self, Columns, Sql};
use super::super::{
    BeatRow, Glance, GlanceSpan, IncidentFilter, IncidentView, LiveRow, MetricBucket, MonitorBrief, MonitorDays, MonitorView, PAGE_MAX,
    StateTimes, Stats, TenantScope,
};
use super::query;
use futures_util::TryStreamExt;
use sqlx::PgConnection;
use std::collections::{BTreeSet, HashMap};
use watchkeeper_core::{DatacenterId, Dur, Micros, MonitorId, TenantId};

macro_rules! beat_columns {
    () => {
        "b.monitor_id, b.datacenter_id, b.at, b.agent_id, b.outcome::int8, b.reason::int8, b.lag_us, b.dns_us, b.connect_us, b.tls_us,
         b.first_byte_us, b.transfer_us, b.total_us, b.code::int8, b.size, b.value, b.flags::int8"
    };
}

macro_rules! monitor_columns {
    () => {
        "SELECT m.id, m.uid, m.name, m.kind, m.target, m.labels, m.paused::int::int8, m.origin, m.config, v.health::int8, v.since, v.why, m.created_at, v.fold
         FROM wk_monitor m LEFT JOIN wk_verdict v ON v.monitor_id = m.id"
    };
}

macro_rules! incident_columns {
    () => {
        "SELECT i.uid, i.id, coalesce(m.uid, ''), coalesce(m.name, ''), i.rule_key, i.status, i.severity::int8, i.opened_at, i.resolved_at,
             i.resolved_why, i.reason, i.summary, i.trigger_value, i.acknowledged_by, i.acknowledged_at, i.routed_by
         FROM wk_incident i LEFT JOIN wk_monitor m ON m.id = i.monitor_id"
    };
}

pub(super) async fn tenants(tx: &mut PgConnection) -> Sql<Vec<(TenantId, String)>> {
    let rows = query("SELECT id, slug FROM wk_tenant WHERE retired_at IS NULL ORDER BY id").fetch_all(&mut *tx).await?;
    rows.iter().map(|row| Ok((TenantId(row.int(0)?), row.text(1)?))).collect()
}

pub(super) async fn monitors(tx: &mut PgConnection, scope: TenantScope, after: Option<&str>, limit: i64) -> Sql<Vec<MonitorView>> {
    let rows = query(concat!(
        monitor_columns!(),
        " WHERE m.tenant_id = $1 AND m.retired_at IS NULL AND ($2::text IS NULL OR m.name > $2) ORDER BY m.name LIMIT $3"
    ))
    .bind(scope.0.0)
    .bind(after)
    .bind(limit.clamp(0, PAGE_MAX))
    .fetch_all(&mut *tx)
    .await?;
    let views = rows.iter().map(rows::monitor).collect::<Sql<Vec<_>>>()?;
    with_newest(tx, views).await
}

pub(super) async fn briefs(tx: &mut PgConnection, scope: TenantScope) -> Sql<Vec<MonitorBrief>> {
    let mut rows = query(
        "SELECT m.uid, m.name, m.kind, m.target, m.labels, m.paused::int::int8, v.health::int8, v.since, v.why, CASE WHEN v.fold LIKE '%\"flap\":%' THEN v.fold END
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

pub(super) async fn stats(tx: &mut PgConnection, scope: TenantScope) -> Sql<Stats> {
    let rows = query(
        "SELECT m.id, v.health::int8 FROM wk_monitor m LEFT JOIN wk_verdict v ON v.monitor_id = m.id WHERE m.tenant_id = $1 AND m.retired_at IS NULL",
    )
    .bind(scope.0.0)
    .fetch_all(&mut *tx)
    .await?;
    let monitors = rows.iter().map(|row| Ok((row.int(0)?, rows::health(row.maybe_int(1)?)))).collect::<Sql<Vec<_>>>()?;
    let row =
        query("SELECT count(*) FROM wk_incident WHERE tenant_id = $1 AND status <> 'resolved'").bind(scope.0.0).fetch_one(&mut *tx).await?;
    let ids: Vec<i64> = monitors.iter().map(|(id, _)| *id).collect();
    let newest = newest_beats(tx, &ids).await?;
    Ok(history::stats(monitors.iter().map(|(_, health)| *health), row.int(0)?, newest.into_values()))
}

pub(super) async fn monitor(tx: &mut PgConnection, scope: TenantScope, uid_or_name: &str) -> Sql<Option<MonitorView>> {
    let row = query(concat!(
        monitor_columns!(),
        " WHERE m.tenant_id = $1 AND m.retired_at IS NULL AND (m.uid = $2 OR m.name = $2) ORDER BY (m.uid = $2) DESC LIMIT 1"
    ))
    .bind(scope.0.0)
    .bind(uid_or_name)
    .fetch_optional(&mut *tx)
    .await?;
    let views = row.iter().map(rows::monitor).collect::<Sql<Vec<_>>>()?;
    Ok(with_newest(tx, views).await?.pop())
}

async fn with_newest(tx: &mut PgConnection, mut views: Vec<MonitorView>) -> Sql<Vec<MonitorView>> {
    let ids: Vec<i64> = views.iter().map(|view| view.id.0).collect();
    let mut newest = newest_beats(tx, &ids).await?;
    for view in &mut views {
        view.last = newest.remove(&view.id);
    }
    Ok(views)
}

/// The newest heartbeat of each of these monitors from each datacenter.
pub(super) async fn newest_by_place(tx: &mut PgConnection, ids: &[i64]) -> Sql<Vec<BeatRow>> {
    let rows = query(concat!(
        "SELECT ",
        beat_columns!(),
        " FROM unnest($1::int8[]) AS m (id) CROSS JOIN wk_datacenter d
          CROSS JOIN LATERAL (SELECT * FROM wk_beat x WHERE x.monitor_id = m.id AND x.datacenter_id = d.id ORDER BY x.at DESC LIMIT 1) b"
    ))
    .bind(ids)
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(|row| rows::beat(row, 0)).collect()
}

/// The newest heartbeat of each of these monitors from any datacenter.
pub(super) async fn newest_beats(tx: &mut PgConnection, ids: &[i64]) -> Sql<HashMap<MonitorId, BeatRow>> {
    let mut newest: HashMap<MonitorId, BeatRow> = HashMap::with_capacity(ids.len());
    for beat in newest_by_place(tx, ids).await? {
        if newest.get(&beat.monitor).is_none_or(|known| known.at < beat.at) {
            newest.insert(beat.monitor, beat);
        }
    }
    Ok(newest)
}

/// Whether the monitor is the tenant's; beats reach their tenant only by it.
async fn owns(tx: &mut PgConnection, scope: TenantScope, monitor: MonitorId) -> Sql<bool> {
    let row = query("SELECT id FROM wk_monitor WHERE id = $1 AND tenant_id = $2")
        .bind(monitor.0)
        .bind(scope.0.0)
        .fetch_optional(&mut *tx)
        .await?;
    Ok(row.is_some())
}

pub(super) async fn heartbeats(
    tx: &mut PgConnection,
    scope: TenantScope,
    monitor: MonitorId,
    before: Micros,
    limit: i64,
) -> Sql<Vec<(BeatRow, Option<String>)>> {
    if !owns(tx, scope, monitor).await? {
        return Ok(Vec::new());
    }
    let limit = limit.clamp(0, PAGE_MAX);
    let rows = query(concat!(
        "SELECT ",
        beat_columns!(),
        " FROM wk_beat b WHERE b.monitor_id = $1 AND b.at < $2 ORDER BY b.at DESC, b.datacenter_id DESC, b.agent_id DESC LIMIT $3"
    ))
    .bind(monitor.0)
    .bind(before.0)
    .bind(limit)
    .fetch_all(&mut *tx)
    .await?;
    let beats = rows.iter().map(|row| rows::beat(row, 0)).collect::<Sql<Vec<_>>>()?;
    let (Some(newest), Some(oldest)) = (beats.first(), beats.last()) else { return Ok(Vec::new()) };
    let rows = query(
        "SELECT datacenter_id, at, json FROM wk_beat_detail
         WHERE monitor_id = $1 AND at BETWEEN $2 AND $3",
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
    tx: &mut PgConnection,
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
         WHERE monitor_id = $1 AND span IN ($4, 24 * $4) AND start >= $2 AND start < $3
           AND ($5::int8 IS NULL OR datacenter_id = $5)",
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
            "SELECT datacenter_id, at, agent_id, outcome::int8, total_us, code::int8 FROM wk_beat
             WHERE monitor_id = $1 AND at >= $2 AND at < $3 AND ($4::int8 IS NULL OR datacenter_id = $4) ORDER BY 1, 2, 3",
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
    tx: &mut PgConnection,
    scope: TenantScope,
    monitor: MonitorId,
    from: Micros,
    to: Micros,
) -> Sql<StateTimes> {
    if !owns(tx, scope, monitor).await? {
        return Ok(history::state_times(from, to, std::iter::empty()));
    }
    let rows = query(
        "SELECT start, end_at, state::int8 FROM wk_interval
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
    tx: &mut PgConnection,
    scope: TenantScope,
    only: Option<&[MonitorId]>,
    from: Micros,
    to: Micros,
) -> Sql<Vec<MonitorDays>> {
    let mut rows = query(
        "SELECT m.uid, m.name, (SELECT string_agg(i.start::text, ',') || ' ' || string_agg(coalesce(i.end_at::text, ''), ',') || ' ' || string_agg(i.state::text, ',')
             FROM wk_interval i
             WHERE i.monitor_id = m.id AND i.start < $3 AND i.start >= coalesce(
                 (SELECT x.start FROM wk_interval x WHERE x.monitor_id = m.id AND x.start <= $2 ORDER BY x.start DESC LIMIT 1 OFFSET 1), 0))
         FROM wk_monitor m
         WHERE m.tenant_id = $1 AND m.retired_at IS NULL AND ($4::int8[] IS NULL OR m.id = ANY($4))",
    )
    .bind(scope.0.0)
    .bind(from.0)
    .bind(to.0)
    .bind(only.map(|only| only.iter().map(|monitor| monitor.0).collect::<Vec<_>>()))
    .fetch(&mut *tx);
    let mut days = Days::new(from, to);
    while let Some(row) = rows.try_next().await? {
        days.read(&row)?;
    }
    Ok(days.finish())
}

pub(super) async fn glance(tx: &mut PgConnection, scope: TenantScope, only: &[MonitorId], span: GlanceSpan) -> Sql<Glance> {
    let ids: Vec<i64> = only.iter().map(|monitor| monitor.0).collect();
    let rows = query(concat!(monitor_columns!(), " WHERE m.tenant_id = $1 AND m.retired_at IS NULL AND m.id = ANY($2)"))
        .bind(scope.0.0)
        .bind(&ids)
        .fetch_all(&mut *tx)
        .await?;
    let monitors = with_newest(tx, rows.iter().map(rows::monitor).collect::<Sql<_>>()?).await?;
    let days = days(tx, scope, Some(only), span.days_from, span.to).await?;
    let recent = self::days(tx, scope, Some(only), span.recent_from, span.to).await?;
    let rows = query(concat!(
        incident_columns!(),
        " WHERE i.tenant_id = $1 AND i.monitor_id = ANY($2) AND (i.resolved_at IS NULL OR i.resolved_at >= $3)
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

pub(super) async fn incidents(tx: &mut PgConnection, scope: TenantScope, filter: &IncidentFilter) -> Sql<Vec<IncidentView>> {
    let rows = query(concat!(
        incident_columns!(),
        " WHERE i.tenant_id = $1 AND ($2::text IS NULL OR i.status = $2 OR ($2 = 'unresolved' AND i.status <> 'resolved'))
            AND ($3::text IS NULL OR m.uid = $3)
            AND ($4::int8 IS NULL OR (i.opened_at, i.id) < ($4, $5::int8))
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

pub(super) async fn incident(tx: &mut PgConnection, scope: TenantScope, uid: &str) -> Sql<Option<IncidentView>> {
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

pub(super) async fn newest_event(tx: &mut PgConnection) -> Sql<i64> {
    query("SELECT coalesce(sum(last_event), 0)::int8 FROM wk_tenant").fetch_one(&mut *tx).await?.int(0)
}

pub(super) async fn live_after(tx: &mut PgConnection, scope: TenantScope, after: i64, limit: i64) -> Sql<(Vec<LiveRow>, i64)> {
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
