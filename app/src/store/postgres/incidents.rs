//! What a batch does to incidents and their timelines, and the words that it puts in the outbox.

use super::super::Batch;
use super::super::course::{self, Course, EntryOut, incident_of};
use super::super::flat::Flat;
use super::super::outbox::payload;
use super::super::rows::{Columns, Sql};
use super::{clean, query};
use sqlx::PgConnection;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use watchkeeper_core::verdict::NoticeEvent;

/// What happens to incidents that began before, and then those that begin: one of a rule must have ended before the next one is open.
pub(super) async fn write(tx: &mut PgConnection, flat: &Flat<'_>) -> Sql<()> {
    change(tx, flat).await?;
    open(tx, flat).await?;
    put(tx, &flat.entries).await
}

async fn change(tx: &mut PgConnection, flat: &Flat<'_>) -> Sql<()> {
    if flat.changes.is_empty() {
        return Ok(());
    }
    let (entries, changed) = course::follow(&flat.changes, courses(tx, flat).await?);
    query(
        "UPDATE wk_incident i SET status = x.status, resolved_at = x.resolved_at, resolved_why = x.resolved_why,
             acknowledged_by = x.acknowledged_by, acknowledged_at = x.acknowledged_at, rev = x.rev
         FROM unnest($1::int8[], $2::text[], $3::int8[], $4::text[], $5::text[], $6::int8[], $7::int8[])
             AS x (id, status, resolved_at, resolved_why, acknowledged_by, acknowledged_at, rev)
         WHERE i.id = x.id",
    )
    .bind(changed.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind(changed.iter().map(|(_, course)| course.status()).collect::<Vec<_>>())
    .bind(changed.iter().map(|(_, course)| course.resolved.as_ref().map(|(at, _)| *at)).collect::<Vec<_>>())
    .bind(changed.iter().map(|(_, course)| course.resolved.as_ref().map(|(_, why)| why.clone())).collect::<Vec<_>>())
    .bind(changed.iter().map(|(_, course)| course.acknowledged.as_ref().map(|(by, _)| text(by))).collect::<Vec<_>>())
    .bind(changed.iter().map(|(_, course)| course.acknowledged.as_ref().map(|(_, at)| *at)).collect::<Vec<_>>())
    .bind(changed.iter().map(|(_, course)| course.rev).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    put(tx, &entries).await
}

async fn open(tx: &mut PgConnection, flat: &Flat<'_>) -> Sql<()> {
    if flat.opened.is_empty() {
        return Ok(());
    }
    query(
        "INSERT INTO wk_incident (id, uid, tenant_id, monitor_id, rule_key, status, severity, opened_at, deciding_at, resolved_at,
             resolved_why, reason, trigger_value, summary, acknowledged_by, acknowledged_at, rev, routed_by)
         SELECT * FROM unnest($1::int8[], $2::text[], $3::int8[], $4::int8[], $5::text[], $6::text[], $7::int8[], $8::int8[],
             $9::int8[], $10::int8[], $11::text[], $12::text[], $13::int8[], $14::text[], $15::text[], $16::int8[], $17::int8[], $18::text[])",
    )
    .bind(flat.opened.iter().map(|row| row.id).collect::<Vec<_>>())
    .bind(flat.opened.iter().map(|row| row.uid.to_owned()).collect::<Vec<_>>())
    .bind(flat.opened.iter().map(|row| row.tenant).collect::<Vec<_>>())
    .bind(flat.opened.iter().map(|row| row.monitor).collect::<Vec<_>>())
    .bind(flat.opened.iter().map(|row| row.rule.to_owned()).collect::<Vec<_>>())
    .bind(flat.opened.iter().map(|row| row.course.status()).collect::<Vec<_>>())
    .bind(flat.opened.iter().map(|row| row.severity).collect::<Vec<_>>())
    .bind(flat.opened.iter().map(|row| row.opened_at).collect::<Vec<_>>())
    .bind(flat.opened.iter().map(|row| row.deciding_at).collect::<Vec<_>>())
    .bind(flat.opened.iter().map(|row| row.course.resolved.as_ref().map(|(at, _)| *at)).collect::<Vec<_>>())
    .bind(flat.opened.iter().map(|row| row.course.resolved.as_ref().map(|(_, why)| why.clone())).collect::<Vec<_>>())
    .bind(flat.opened.iter().map(|row| row.reason.map(text)).collect::<Vec<_>>())
    .bind(flat.opened.iter().map(|row| row.value).collect::<Vec<_>>())
    .bind(flat.opened.iter().map(|row| text(row.summary)).collect::<Vec<_>>())
    .bind(flat.opened.iter().map(|row| row.course.acknowledged.as_ref().map(|(by, _)| text(by))).collect::<Vec<_>>())
    .bind(flat.opened.iter().map(|row| row.course.acknowledged.as_ref().map(|(_, at)| *at)).collect::<Vec<_>>())
    .bind(flat.opened.iter().map(|row| row.course.rev).collect::<Vec<_>>())
    .bind(flat.opened.iter().map(|row| row.routed_by.map(text)).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// The incidents of earlier batches that this one writes about, as they stand, locked in the order of their ids.
async fn courses(tx: &mut PgConnection, flat: &Flat<'_>) -> Sql<BTreeMap<i64, Course>> {
    let ids: BTreeSet<i64> = flat.changes.iter().map(|write| incident_of(write).0).collect();
    let rows = query(
        "SELECT id, resolved_at, resolved_why, acknowledged_by, acknowledged_at, rev FROM wk_incident
         WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE",
    )
    .bind(ids.into_iter().collect::<Vec<_>>())
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(|row| Ok((row.int(0)?, Course::read(row, 1)?))).collect()
}

/// Entries that have their places.
async fn put(tx: &mut PgConnection, entries: &[EntryOut<'_>]) -> Sql<()> {
    if entries.is_empty() {
        return Ok(());
    }
    query(
        "INSERT INTO wk_incident_event (incident_id, nth, at, kind, actor, text, evidence)
         SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::text[], $5::text[], $6::text[], $7::text[])",
    )
    .bind(entries.iter().map(|row| row.incident).collect::<Vec<_>>())
    .bind(entries.iter().map(|row| row.nth).collect::<Vec<_>>())
    .bind(entries.iter().map(|row| row.at).collect::<Vec<_>>())
    .bind(entries.iter().map(|row| row.kind).collect::<Vec<_>>())
    .bind(entries.iter().map(|row| row.actor.map(text)).collect::<Vec<_>>())
    .bind(entries.iter().map(|row| text(&row.text)).collect::<Vec<_>>())
    .bind(entries.iter().map(|row| row.evidence.map(text)).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Adds entries at the ends of their timelines. The incidents are locked in the order of their ids, as a commit does.
pub(super) async fn append(tx: &mut PgConnection, entries: Vec<EntryOut<'_>>) -> Sql<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let (ids, counts): (Vec<i64>, Vec<i64>) = course::counts(&entries).into_iter().unzip();
    query("SELECT 1 FROM wk_incident WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE").bind(&ids).execute(&mut *tx).await?;
    let rows = query(
        "UPDATE wk_incident i SET rev = i.rev + x.count FROM unnest($1::int8[], $2::int8[]) AS x (id, count)
         WHERE i.id = x.id RETURNING i.id, i.rev",
    )
    .bind(&ids)
    .bind(&counts)
    .fetch_all(&mut *tx)
    .await?;
    let revs = rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?))).collect::<Sql<BTreeMap<_, _>>>()?;
    put(tx, &course::place(entries, revs)).await
}

pub(super) async fn notices(tx: &mut PgConnection, flat: &Flat<'_>) -> Sql<()> {
    if flat.notices.is_empty() {
        return Ok(());
    }
    let notices = &flat.notices;
    query(
        "INSERT INTO wk_notice (cause, channel_id, tenant_id, incident_id, event, nth, severity, payload, cooldown, state, held, why,
             next_at, not_before, created_at)
         SELECT cause, channel_id, tenant_id, incident_id, event, nth, severity, payload, cooldown,
             CASE WHEN not_before IS NULL THEN 'due' ELSE 'held' END, not_before IS NOT NULL, why, coalesce(not_before, at), not_before, at
         FROM unnest($1::text[], $2::int8[], $3::int8[], $4::int8[], $5::text[], $6::int8[], $7::int8[], $8::text[], $9::int8[],
             $10::text[], $11::int8[], $12::int8[])
             AS x (cause, channel_id, tenant_id, incident_id, event, nth, severity, payload, cooldown, why, not_before, at)
         ON CONFLICT (cause, channel_id) DO NOTHING",
    )
    .bind(notices.iter().map(|(_, row)| row.cause.clone()).collect::<Vec<_>>())
    .bind(notices.iter().map(|(_, row)| row.channel.0).collect::<Vec<_>>())
    .bind(notices.iter().map(|(tenant, _)| tenant.0).collect::<Vec<_>>())
    .bind(notices.iter().map(|(_, row)| row.incident.0).collect::<Vec<_>>())
    .bind(notices.iter().map(|(_, row)| row.event.as_str()).collect::<Vec<_>>())
    .bind(notices.iter().map(|(_, row)| i64::from(row.nth)).collect::<Vec<_>>())
    .bind(notices.iter().map(|(_, row)| i64::from(row.severity.code())).collect::<Vec<_>>())
    .bind(notices.iter().map(|(_, row)| payload(&row.content)).collect::<Vec<_>>())
    .bind(notices.iter().map(|(_, row)| row.cooldown.0).collect::<Vec<_>>())
    .bind(notices.iter().map(|(_, row)| row.not_before.as_ref().map(|(_, why)| text(why))).collect::<Vec<_>>())
    .bind(notices.iter().map(|(_, row)| row.not_before.as_ref().map(|(at, _)| at.0)).collect::<Vec<_>>())
    .bind(notices.iter().map(|(_, row)| row.at.0).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    let ended: BTreeSet<i64> =
        flat.notices.iter().filter(|(_, n)| n.event == NoticeEvent::Resolved).map(|(_, notice)| notice.incident.0).collect();
    ends_as_last_resort(tx, &ended.into_iter().collect::<Vec<_>>()).await
}

/// Puts the ends of these incidents, as far as they are to be told at all, also in the outbox of the last-resort channels that have
/// another word about them.
pub(super) async fn ends_as_last_resort(tx: &mut PgConnection, incidents: &[i64]) -> Sql<()> {
    if incidents.is_empty() {
        return Ok(());
    }
    let any = query("SELECT 1 FROM wk_channel WHERE last_resort AND retired_at IS NULL LIMIT 1").fetch_optional(&mut *tx).await?;
    if any.is_none() {
        return Ok(());
    }
    query(
        "INSERT INTO wk_notice (cause, channel_id, tenant_id, incident_id, event, nth, severity, payload, cooldown, state, next_at,
             created_at)
         SELECT r.cause, c.id, r.tenant_id, r.incident_id, r.event, r.nth, r.severity, r.payload, r.cooldown, 'due', r.created_at,
             r.created_at
         FROM wk_notice r JOIN wk_channel c ON c.tenant_id = r.tenant_id AND c.last_resort AND c.retired_at IS NULL
         WHERE r.incident_id = ANY($1) AND r.event = 'resolved'
           AND EXISTS (SELECT 1 FROM wk_notice o WHERE o.incident_id = r.incident_id AND o.channel_id = c.id
                       AND o.state IN ('due', 'held', 'sending', 'sent'))
         ON CONFLICT (cause, channel_id) DO NOTHING",
    )
    .bind(incidents)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Marks the actions that this batch has folded: those of its decisions that were written, and those that changed nothing, unless
/// somebody else decides for their monitor by now.
pub(super) async fn fold_actions(tx: &mut PgConnection, batch: &Batch, flat: &Flat<'_>) -> Sql<()> {
    if flat.actions.is_empty() && batch.folded_actions.is_empty() {
        return Ok(());
    }
    query(
        "UPDATE wk_action SET folded = TRUE WHERE id = ANY($1)
           OR id = ANY($2) AND incident_id NOT IN (SELECT id FROM wk_incident WHERE monitor_id = ANY($3))",
    )
    .bind(&flat.actions)
    .bind(&batch.folded_actions)
    .bind(flat.dropped.iter().map(|id| id.0).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    Ok(())
}

fn text(text: &str) -> Cow<'_, str> {
    clean(text)
}
