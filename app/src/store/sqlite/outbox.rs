//! Pushes that came in, and notices that must go out.

use super::super::outbox::{Entry, entry};
use super::super::rows::{self, Columns, Sql};
use super::super::{Attempted, DueNotice, Fence, OutboxDepth, PAGE_MAX, PushRow, TenantScope};
use sqlx::{SqliteConnection, query};
use watchkeeper_core::{ChannelId, Micros, MonitorId};

pub(super) async fn push_target(tx: &mut SqliteConnection, token: &str) -> Sql<Option<MonitorId>> {
    let row = query("SELECT id FROM wk_monitor WHERE push_token = $1 AND retired_at IS NULL").bind(token).fetch_optional(&mut *tx).await?;
    row.map(|row| row.int(0).map(MonitorId)).transpose()
}

pub(super) async fn push_token(tx: &mut SqliteConnection, scope: TenantScope, monitor: MonitorId) -> Sql<Option<String>> {
    let row = query("SELECT push_token FROM wk_monitor WHERE id = $1 AND tenant_id = $2 AND retired_at IS NULL")
        .bind(monitor.0)
        .bind(scope.0.0)
        .fetch_optional(&mut *tx)
        .await?;
    row.map_or(Ok(None), |row| row.maybe_text(0))
}

pub(super) async fn insert_push(tx: &mut SqliteConnection, push: &PushRow) -> Sql<()> {
    query("INSERT INTO wk_push (monitor_id, kind, exit, ping_us, body, at) VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(push.monitor.0)
        .bind(push.kind.code())
        .bind(push.exit)
        .bind(push.ping_us)
        .bind(&push.body)
        .bind(push.at.0)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

pub(super) async fn unfolded_pushes(tx: &mut SqliteConnection, limit: i64) -> Sql<Vec<PushRow>> {
    let rows = query(
        "SELECT id, monitor_id, kind, exit, ping_us, body, at FROM wk_push
         WHERE folded = 0 AND monitor_id IN (SELECT id FROM wk_monitor WHERE retired_at IS NULL) ORDER BY at, id LIMIT $1",
    )
    .bind(limit.clamp(0, PAGE_MAX))
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(rows::push).collect()
}

pub(super) async fn due_notices(tx: &mut SqliteConnection, channel: ChannelId, now: Micros, limit: i64) -> Sql<Vec<DueNotice>> {
    let rows = query(
        "SELECT n.id, n.cause, n.channel_id, n.incident_id, n.severity, n.payload, n.attempts, n.created_at FROM wk_notice n
         WHERE n.channel_id = $1 AND n.state IN ('due', 'held') AND n.next_at <= $2
           AND NOT EXISTS (SELECT 1 FROM wk_notice e WHERE e.channel_id = n.channel_id AND e.incident_id = n.incident_id
                           AND e.nth < n.nth AND e.state IN ('due', 'held', 'sending'))
         ORDER BY n.severity DESC, n.created_at, n.id LIMIT $3",
    )
    .bind(channel.0)
    .bind(now.0)
    .bind(limit.clamp(0, PAGE_MAX))
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(rows::due).collect()
}

/// A notice that waits for an earlier one is not counted: it becomes due when that one ends, which wakes the deliverer anyway.
pub(super) async fn next_due(tx: &mut SqliteConnection, channel: ChannelId) -> Sql<Option<Micros>> {
    let row = query(
        "SELECT min(n.next_at) FROM wk_notice n
         WHERE n.channel_id = $1 AND n.state IN ('due', 'held')
           AND NOT EXISTS (SELECT 1 FROM wk_notice e WHERE e.channel_id = n.channel_id AND e.incident_id = n.incident_id
                           AND e.nth < n.nth AND e.state IN ('due', 'held', 'sending'))",
    )
    .bind(channel.0)
    .fetch_one(&mut *tx)
    .await?;
    Ok(row.maybe_int(0)?.map(Micros))
}

pub(super) async fn begin_attempt(tx: &mut SqliteConnection, notice: i64, fence: &Fence, now: Micros) -> Sql<bool> {
    if !holds(tx, fence).await? {
        return Ok(false);
    }
    let done = query(
        "UPDATE wk_notice SET state = 'sending', attempts = attempts + 1, begun_scope = $2, begun_epoch = $3
         WHERE id = $1 AND state IN ('due', 'held') AND next_at <= $4",
    )
    .bind(notice)
    .bind(&*fence.scope)
    .bind(fence.epoch)
    .bind(now.0)
    .execute(&mut *tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// That the provider took it is a fact, recorded whoever holds the lease now; that it did not is a decision (when to try again)
/// and only the holder's.
pub(super) async fn end_attempt(tx: &mut SqliteConnection, notice: i64, fence: &Fence, attempted: &Attempted, now: Micros) -> Sql<()> {
    let rows = match attempted {
        Attempted::Sent { provider_id } => {
            let row = query(
                "INSERT INTO wk_message (channel_id, incident_id, provider_id, key, sent_at)
                 SELECT channel_id, incident_id, $2, cause || '/' || channel_id, $3 FROM wk_notice WHERE id = $1
                 ON CONFLICT (key) DO UPDATE SET provider_id = excluded.provider_id RETURNING id",
            )
            .bind(notice)
            .bind(provider_id)
            .bind(now.0)
            .fetch_optional(&mut *tx)
            .await?;
            let message = row.map(|row| row.int(0)).transpose()?;
            query(
                "UPDATE wk_notice SET state = 'sent', sent_at = $2, message_id = $3, last_error = NULL
                 WHERE id = $1 AND state IN ('due', 'held', 'sending', 'dead') RETURNING incident_id, channel_id",
            )
            .bind(notice)
            .bind(now.0)
            .bind(message)
            .fetch_optional(&mut *tx)
            .await?
        }
        Attempted::Again { next_at, error } => {
            query(
                "UPDATE wk_notice SET state = 'due', next_at = $4, last_error = $5
                 WHERE id = $1 AND state = 'sending' AND begun_scope = $2 AND begun_epoch = $3 RETURNING incident_id, channel_id",
            )
            .bind(notice)
            .bind(&*fence.scope)
            .bind(fence.epoch)
            .bind(next_at.0)
            .bind(error)
            .fetch_optional(&mut *tx)
            .await?
        }
        Attempted::Dead { error } => {
            query(
                "UPDATE wk_notice SET state = 'dead', last_error = $4
                 WHERE id = $1 AND state = 'sending' AND begun_scope = $2 AND begun_epoch = $3 RETURNING incident_id, channel_id",
            )
            .bind(notice)
            .bind(&*fence.scope)
            .bind(fence.epoch)
            .bind(error)
            .fetch_optional(&mut *tx)
            .await?
        }
    };
    let Some(row) = rows else { return Ok(()) };
    let (incident, channel) = (row.int(0)?, row.int(1)?);
    let name = query("SELECT name FROM wk_channel WHERE id = $1").bind(channel).fetch_one(&mut *tx).await?.text(0)?;
    if let Some(Entry { kind, text }) = entry(attempted, &name) {
        let rev = query("UPDATE wk_incident SET rev = rev + 1 WHERE id = $1 RETURNING rev").bind(incident).fetch_one(&mut *tx).await?;
        query("INSERT INTO wk_incident_event (incident_id, nth, at, kind, text) VALUES ($1, $2, $3, $4, $5)")
            .bind(incident)
            .bind(rev.int(0)? - 1)
            .bind(now.0)
            .bind(kind)
            .bind(text)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// Whether the lease stands under that epoch.
async fn holds(tx: &mut SqliteConnection, fence: &Fence) -> Sql<bool> {
    let row = query("SELECT epoch FROM wk_lease WHERE scope = $1 AND holder <> ''").bind(&*fence.scope).fetch_optional(&mut *tx).await?;
    Ok(row.map(|row| row.int(0)).transpose()? == Some(fence.epoch))
}

pub(super) async fn outbox_depth(tx: &mut SqliteConnection) -> Sql<OutboxDepth> {
    let row =
        query("SELECT count(*), min(created_at) FROM wk_notice WHERE state IN ('due', 'held', 'sending')").fetch_one(&mut *tx).await?;
    let dead = query("SELECT count(*) FROM wk_notice WHERE state = 'dead'").fetch_one(&mut *tx).await?;
    Ok(OutboxDepth { waiting: row.int(0)?, dead: dead.int(0)?, oldest: row.maybe_int(1)?.map(Micros) })
}
