//! What a batch does to incidents and their timelines, and the words that it puts in the outbox.

use super::super::Batch;
use super::super::course::{self, Course, EntryOut, incident_of};
use super::super::flat::Flat;
use super::super::outbox::payload;
use super::super::rows::{Columns, Sql};
use super::belong::list;
use super::commit::Bulk;
use sqlx::{SqliteConnection, query};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use watchkeeper_core::verdict::NoticeEvent;

/// What happens to incidents that began before, and then those that begin: one of a rule must have ended before the next one is open.
pub(super) async fn write(tx: &mut SqliteConnection, flat: &Flat<'_>) -> Sql<()> {
    change(tx, flat).await?;
    INCIDENTS
        .put(tx, &flat.opened, |q, row| {
            q.bind(row.id)
                .bind(row.uid)
                .bind(row.tenant)
                .bind(row.monitor)
                .bind(row.rule)
                .bind(row.course.status())
                .bind(row.severity)
                .bind(row.opened_at)
                .bind(row.deciding_at)
                .bind(row.course.resolved.as_ref().map(|(at, _)| *at))
                .bind(row.course.resolved.as_ref().map(|(_, why)| why.as_str()))
                .bind(row.reason)
                .bind(row.value)
                .bind(row.summary)
                .bind(row.course.acknowledged.as_ref().map(|(by, _)| by.as_str()))
                .bind(row.course.acknowledged.as_ref().map(|(_, at)| *at))
                .bind(row.course.rev)
                .bind(row.routed_by)
        })
        .await?;
    put(tx, &flat.entries).await
}

async fn change(tx: &mut SqliteConnection, flat: &Flat<'_>) -> Sql<()> {
    if flat.changes.is_empty() {
        return Ok(());
    }
    let (entries, changed) = course::follow(&flat.changes, courses(tx, flat).await?);
    for (id, course) in &changed {
        query(
            "UPDATE wk_incident SET status = $2, resolved_at = $3, resolved_why = $4, acknowledged_by = $5, acknowledged_at = $6, rev = $7
             WHERE id = $1",
        )
        .bind(id)
        .bind(course.status())
        .bind(course.resolved.as_ref().map(|(at, _)| *at))
        .bind(course.resolved.as_ref().map(|(_, why)| why.as_str()))
        .bind(course.acknowledged.as_ref().map(|(by, _)| by.as_str()))
        .bind(course.acknowledged.as_ref().map(|(_, at)| *at))
        .bind(course.rev)
        .execute(&mut *tx)
        .await?;
    }
    put(tx, &entries).await
}

/// The incidents of earlier batches that this one writes about, as they stand.
async fn courses(tx: &mut SqliteConnection, flat: &Flat<'_>) -> Sql<BTreeMap<i64, Course>> {
    let ids: BTreeSet<i64> = flat.changes.iter().map(|write| incident_of(write).0).collect();
    let rows = query(
        "SELECT id, resolved_at, resolved_why, acknowledged_by, acknowledged_at, rev FROM wk_incident
         WHERE id IN (SELECT value FROM json_each($1))",
    )
    .bind(list(&ids.into_iter().collect::<Vec<_>>()))
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(|row| Ok((row.int(0)?, Course::read(row, 1)?))).collect()
}

/// Entries that have their places.
async fn put(tx: &mut SqliteConnection, entries: &[EntryOut<'_>]) -> Sql<()> {
    ENTRIES
        .put(tx, entries, |q, row| {
            q.bind(row.incident).bind(row.nth).bind(row.at).bind(row.kind).bind(row.actor).bind(row.text.as_ref()).bind(row.evidence)
        })
        .await
}

/// Adds entries at the ends of their timelines.
pub(super) async fn append(tx: &mut SqliteConnection, entries: Vec<EntryOut<'_>>) -> Sql<()> {
    let mut revs = BTreeMap::new();
    for (incident, count) in course::counts(&entries) {
        let row = query("UPDATE wk_incident SET rev = rev + $2 WHERE id = $1 RETURNING rev")
            .bind(incident)
            .bind(count)
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(row) = row {
            revs.insert(incident, row.int(0)?);
        }
    }
    put(tx, &course::place(entries, revs)).await
}

pub(super) async fn notices(tx: &mut SqliteConnection, flat: &Flat<'_>) -> Sql<()> {
    NOTICES
        .put(tx, &flat.notices, |q, (tenant, notice)| {
            let not_before = notice.not_before.as_ref();
            q.bind(notice.cause.as_str())
                .bind(notice.channel.0)
                .bind(tenant.0)
                .bind(notice.incident.0)
                .bind(notice.event.as_str())
                .bind(i64::from(notice.nth))
                .bind(i64::from(notice.severity.code()))
                .bind(payload(&notice.content))
                .bind(notice.cooldown.0)
                .bind(if not_before.is_some() { "held" } else { "due" })
                .bind(not_before.is_some())
                .bind(not_before.map(|(_, why)| why.as_str()))
                .bind(not_before.map_or(notice.at, |(at, _)| *at).0)
                .bind(not_before.map(|(at, _)| at.0))
                .bind(notice.at.0)
        })
        .await?;
    let ended: BTreeSet<i64> =
        flat.notices.iter().filter(|(_, n)| n.event == NoticeEvent::Resolved).map(|(_, notice)| notice.incident.0).collect();
    ends_as_last_resort(tx, &ended.into_iter().collect::<Vec<_>>()).await
}

/// Puts the ends of these incidents, as far as they are to be told at all, also in the outbox of the last-resort channels that have
/// another word about them.
pub(super) async fn ends_as_last_resort(tx: &mut SqliteConnection, incidents: &[i64]) -> Sql<()> {
    if incidents.is_empty() {
        return Ok(());
    }
    let any = query("SELECT 1 FROM wk_channel WHERE last_resort = 1 AND retired_at IS NULL LIMIT 1").fetch_optional(&mut *tx).await?;
    if any.is_none() {
        return Ok(());
    }
    query(
        "INSERT INTO wk_notice (cause, channel_id, tenant_id, incident_id, event, nth, severity, payload, cooldown, state, next_at,
             created_at)
         SELECT r.cause, c.id, r.tenant_id, r.incident_id, r.event, r.nth, r.severity, r.payload, r.cooldown, 'due', r.created_at,
             r.created_at
         FROM wk_notice r JOIN wk_channel c ON c.tenant_id = r.tenant_id AND c.last_resort = 1 AND c.retired_at IS NULL
         WHERE r.incident_id IN (SELECT value FROM json_each($1)) AND r.event = 'resolved'
           AND EXISTS (SELECT 1 FROM wk_notice o WHERE o.incident_id = r.incident_id AND o.channel_id = c.id
                       AND o.state IN ('due', 'held', 'sending', 'sent'))
         ON CONFLICT (cause, channel_id) DO NOTHING",
    )
    .bind(list(incidents))
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Marks the actions that this batch has folded: those of its decisions that were written, and those that changed nothing, unless
/// somebody else decides for their monitor by now.
pub(super) async fn fold_actions(tx: &mut SqliteConnection, batch: &Batch, flat: &Flat<'_>) -> Sql<()> {
    if flat.actions.is_empty() && batch.folded_actions.is_empty() {
        return Ok(());
    }
    query(
        "UPDATE wk_action SET folded = 1 WHERE id IN (SELECT value FROM json_each($1))
           OR id IN (SELECT value FROM json_each($2)) AND incident_id NOT IN
              (SELECT id FROM wk_incident WHERE monitor_id IN (SELECT value FROM json_each($3)))",
    )
    .bind(list(&flat.actions))
    .bind(list(&batch.folded_actions))
    .bind(list(&flat.dropped.iter().map(|id| id.0).collect::<Vec<_>>()))
    .execute(&mut *tx)
    .await?;
    Ok(())
}

static INCIDENTS: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "INSERT INTO wk_incident (id, uid, tenant_id, monitor_id, rule_key, status, severity, opened_at, deciding_at, resolved_at,
             resolved_why, reason, trigger_value, summary, acknowledged_by, acknowledged_at, rev, routed_by)",
        18,
        "",
    )
});

static ENTRIES: LazyLock<Bulk> =
    LazyLock::new(|| Bulk::new("INSERT INTO wk_incident_event (incident_id, nth, at, kind, actor, text, evidence)", 7, ""));

static NOTICES: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "INSERT INTO wk_notice (cause, channel_id, tenant_id, incident_id, event, nth, severity, payload, cooldown, state, held, why,
             next_at, not_before, created_at)",
        15,
        "ON CONFLICT (cause, channel_id) DO NOTHING",
    )
});
