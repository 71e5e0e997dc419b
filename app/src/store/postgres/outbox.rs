//! Notices that must go out: which are due, what was told, what was given up.

use super::super::outbox::{Circumstances, DueRow, Word, asked_for, judge, payload, word_event};
use super::super::rows::{self, Columns, Sql};
use super::super::{ChannelNotice, DeadLetter, DueNotice, OutboxDepth, PAGE_MAX, SentMessage, TenantScope, WordWrite};
use super::{clean, query};
use sqlx::PgConnection;
use watchkeeper_core::{ChannelId, Micros};

// A word waits for the earlier ones of its story.
macro_rules! comes_first {
    () => {
        "NOT EXISTS (SELECT 1 FROM wk_notice e WHERE e.channel_id = n.channel_id AND e.incident_id = n.incident_id
                     AND e.nth < n.nth AND e.state IN ('due', 'held', 'sending'))"
    };
}

// Held back by a mute, never attempted, and its incident is over: whatever its time, it is looked at now and found void, so that the
// end behind it need not wait. An end that is held is not void: it is told when its mute ends.
macro_rules! is_void {
    () => {
        "n.state = 'held' AND n.held AND n.attempts = 0 AND n.event <> 'resolved'
             AND EXISTS (SELECT 1 FROM wk_incident i WHERE i.id = n.incident_id AND i.resolved_at IS NOT NULL)"
    };
}

pub(super) async fn due_notices(tx: &mut PgConnection, channel: ChannelId, now: Micros, limit: i64) -> Sql<Vec<DueNotice>> {
    let rows = query(concat!(
        "WITH due AS (SELECT n.id FROM wk_notice n
             WHERE n.channel_id = $1 AND n.state IN ('due', 'held') AND (n.next_at <= $2 OR ",
        is_void!(),
        ") AND ",
        comes_first!(),
        " ORDER BY n.severity DESC, n.created_at, n.id LIMIT $3)
         SELECT n.id, n.cause, n.channel_id, n.tenant_id, n.incident_id, n.event, n.severity::int8, n.payload, n.attempts, n.created_at,
             n.held::int::int8, n.cooldown, i.resolved_at, n.nth, i.monitor_id, i.rule_key, n.begun_with
         FROM due JOIN wk_notice n ON n.id = due.id LEFT JOIN wk_incident i ON i.id = n.incident_id
         ORDER BY n.severity DESC, n.created_at, n.id"
    ))
    .bind(channel.0)
    .bind(now.0)
    .bind(limit.clamp(0, PAGE_MAX))
    .fetch_all(&mut *tx)
    .await?;
    let due = rows.iter().map(DueRow::read).collect::<Sql<Vec<_>>>()?;
    let known = circumstances(tx, channel, &due, now).await?;
    Ok(judge(due, &known))
}

async fn circumstances(tx: &mut PgConnection, channel: ChannelId, due: &[DueRow], now: Micros) -> Sql<Circumstances> {
    let (incidents, monitors, cooldown) = asked_for(due);
    if incidents.is_empty() {
        return Ok(Circumstances::default());
    }
    let rows = query(
        "SELECT n.incident_id, n.nth, n.state, n.sent_at, m.provider_id, m.digest::int::int8
         FROM wk_notice n LEFT JOIN wk_message m ON m.id = n.message_id
         WHERE n.incident_id = ANY($2) AND n.channel_id = $1 AND n.state IN ('sent', 'dead', 'suppressed')",
    )
    .bind(channel.0)
    .bind(&incidents)
    .fetch_all(&mut *tx)
    .await?;
    let words = rows.iter().map(Word::read).collect::<Sql<_>>()?;
    let rows = query(
        "SELECT i.monitor_id, i.rule_key, max(n.sent_at) FROM wk_notice n JOIN wk_incident i ON i.id = n.incident_id
         WHERE n.channel_id = $1 AND n.state = 'sent' AND n.sent_at > $2 AND i.monitor_id = ANY($3)
         GROUP BY i.monitor_id, i.rule_key",
    )
    .bind(channel.0)
    .bind((now - cooldown).0)
    .bind(&monitors)
    .fetch_all(&mut *tx)
    .await?;
    let rules = rows.iter().map(|row| Ok(((row.int(0)?, row.text(1)?), row.int(2)?))).collect::<Sql<_>>()?;
    let rows = query(
        "SELECT p.monitor_id, m.name, v.health::int8 FROM wk_parent p
         JOIN wk_monitor m ON m.id = p.parent_id AND m.retired_at IS NULL AND NOT m.paused
         LEFT JOIN wk_verdict v ON v.monitor_id = m.id
         WHERE p.monitor_id = ANY($1) ORDER BY p.monitor_id, m.name",
    )
    .bind(&monitors)
    .fetch_all(&mut *tx)
    .await?;
    let mut known = Circumstances { words, rules, ..Circumstances::default() };
    for row in &rows {
        let (monitor, parent) = rows::parent(row)?;
        known.parents.entry(monitor).or_default().push(parent);
    }
    Ok(known)
}

/// A notice that waits for an earlier one is not counted: it becomes due when that one ends, which wakes the deliverer anyway.
pub(super) async fn next_due(tx: &mut PgConnection, channel: ChannelId) -> Sql<Option<Micros>> {
    let row = query(concat!(
        "SELECT min(CASE WHEN ",
        is_void!(),
        " THEN n.created_at ELSE n.next_at END) FROM wk_notice n WHERE n.channel_id = $1 AND n.state IN ('due', 'held') AND ",
        comes_first!()
    ))
    .bind(channel.0)
    .fetch_one(&mut *tx)
    .await?;
    Ok(row.maybe_int(0)?.map(Micros))
}

pub(super) async fn tell(tx: &mut PgConnection, words: &[WordWrite]) -> Sql<()> {
    for word in words {
        query(
            "INSERT INTO wk_notice (cause, channel_id, tenant_id, event, nth, severity, payload, state, next_at, created_at)
             SELECT $1::text, id, tenant_id, $2::text, 0, $3::int8, $4::text, 'due', $5::int8, $5 FROM wk_channel
             WHERE tenant_id = $6 AND retired_at IS NULL AND id = ANY($7)
             ON CONFLICT (cause, channel_id) DO NOTHING",
        )
        .bind(clean(&word.cause).into_owned())
        .bind(word_event(&word.content))
        .bind(i64::from(word.severity.code()))
        .bind(payload(&word.content))
        .bind(word.at.0)
        .bind(word.tenant.0)
        .bind(word.channels.iter().map(|id| id.0).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

pub(super) async fn recent_messages(tx: &mut PgConnection, channel: ChannelId, since: Micros) -> Sql<Vec<SentMessage>> {
    let rows =
        query("SELECT sent_at, digest::int::int8 FROM wk_message WHERE channel_id = $1 AND sent_at >= $2 ORDER BY sent_at DESC LIMIT $3")
            .bind(channel.0)
            .bind(since.0)
            .bind(PAGE_MAX)
            .fetch_all(&mut *tx)
            .await?;
    rows.iter().rev().map(rows::sent_message).collect()
}

/// Each part by an index of its own, so that a channel with a long history costs no more than one without.
pub(super) async fn channel_notices(tx: &mut PgConnection, scope: TenantScope, channel: ChannelId, limit: i64) -> Sql<Vec<ChannelNotice>> {
    let rows = query(
        "SELECT c.name, n.event, n.state, n.attempts, n.last_error, n.why, n.next_at, n.created_at, n.sent_at, i.uid, n.payload
         FROM wk_notice n JOIN wk_channel c ON c.id = n.channel_id LEFT JOIN wk_incident i ON i.id = n.incident_id
         WHERE n.tenant_id = $1 AND n.id IN (
             SELECT id FROM (SELECT id FROM wk_notice WHERE channel_id = $2 AND state = 'sent' ORDER BY sent_at DESC LIMIT $3) AS told
             UNION ALL
             SELECT id FROM (SELECT id FROM wk_notice WHERE channel_id = $2 AND state IN ('due', 'held') ORDER BY next_at LIMIT $3) AS waiting
             UNION ALL
             SELECT id FROM (SELECT id FROM wk_notice WHERE tenant_id = $1 AND state = 'dead' AND channel_id = $2 ORDER BY id DESC LIMIT $3)
                 AS dead)
         ORDER BY COALESCE(n.sent_at, n.created_at) DESC, n.id DESC LIMIT $3",
    )
    .bind(scope.0.0)
    .bind(channel.0)
    .bind(limit.clamp(0, PAGE_MAX))
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(rows::channel_notice).collect()
}

pub(super) async fn dead_letters(tx: &mut PgConnection, scope: TenantScope, before: Option<i64>, limit: i64) -> Sql<Vec<DeadLetter>> {
    let rows = query(
        "SELECT n.id, c.name, i.uid, n.event, n.payload, n.attempts, n.last_error, n.created_at
         FROM wk_notice n JOIN wk_channel c ON c.id = n.channel_id LEFT JOIN wk_incident i ON i.id = n.incident_id
         WHERE n.tenant_id = $1 AND n.state = 'dead' AND n.id < $2 ORDER BY n.id DESC LIMIT $3",
    )
    .bind(scope.0.0)
    .bind(before.unwrap_or(i64::MAX))
    .bind(limit.clamp(0, PAGE_MAX))
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(rows::dead_letter).collect()
}

/// As if it had just been decided: what held it once is forgotten. Not for a channel that is no more: nobody would deliver it.
pub(super) async fn retry_dead(tx: &mut PgConnection, scope: TenantScope, notice: i64, now: Micros) -> Sql<Option<ChannelId>> {
    let row = query(
        "UPDATE wk_notice SET state = 'due', attempts = 0, held = FALSE, next_at = $3
         WHERE id = $1 AND tenant_id = $2 AND state = 'dead' AND channel_id IN (SELECT id FROM wk_channel WHERE retired_at IS NULL)
         RETURNING channel_id",
    )
    .bind(notice)
    .bind(scope.0.0)
    .bind(now.0)
    .fetch_optional(&mut *tx)
    .await?;
    row.map(|row| row.int(0).map(ChannelId)).transpose()
}

pub(super) async fn outbox_depth(tx: &mut PgConnection) -> Sql<OutboxDepth> {
    let row = query("SELECT count(*) FROM wk_notice WHERE state IN ('due', 'held', 'sending')").fetch_one(&mut *tx).await?;
    // What is held waits on purpose, and what a channel that was taken out has left is housekeeping's.
    let oldest = query(
        "SELECT min(n.created_at) FROM wk_notice n JOIN wk_channel c ON c.id = n.channel_id
         WHERE n.state IN ('due', 'sending') AND c.retired_at IS NULL",
    )
    .fetch_one(&mut *tx)
    .await?;
    let dead = query("SELECT count(*) FROM wk_notice WHERE state = 'dead'").fetch_one(&mut *tx).await?;
    Ok(OutboxDepth { waiting: row.int(0)?, dead: dead.int(0)?, oldest: oldest.maybe_int(0)?.map(Micros) })
}
