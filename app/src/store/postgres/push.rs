//! Pushes: the tokens that open monitors, and what came in.

use super::super::rows::{self, Columns, Sql};
use super::super::{PAGE_MAX, PushRow, TenantScope};
use super::{clean, query};
use sqlx::PgConnection;
use watchkeeper_core::MonitorId;

pub(super) async fn push_target(tx: &mut PgConnection, token: &str) -> Sql<Option<MonitorId>> {
    if token.contains('\0') {
        return Ok(None);
    }
    let row = query("SELECT id FROM wk_monitor WHERE push_token = $1 AND retired_at IS NULL").bind(token).fetch_optional(&mut *tx).await?;
    row.map(|row| row.int(0).map(MonitorId)).transpose()
}

pub(super) async fn push_token(tx: &mut PgConnection, scope: TenantScope, monitor: MonitorId) -> Sql<Option<String>> {
    let row = query("SELECT push_token FROM wk_monitor WHERE id = $1 AND tenant_id = $2 AND retired_at IS NULL")
        .bind(monitor.0)
        .bind(scope.0.0)
        .fetch_optional(&mut *tx)
        .await?;
    row.map_or(Ok(None), |row| row.maybe_text(0))
}

pub(super) async fn insert_push(tx: &mut PgConnection, push: &PushRow) -> Sql<()> {
    query("INSERT INTO wk_push (monitor_id, kind, exit, ping_us, body, at) VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(push.monitor.0)
        .bind(push.kind.code())
        .bind(push.exit)
        .bind(push.ping_us)
        .bind(clean(&push.body).into_owned())
        .bind(push.at.0)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

pub(super) async fn unfolded_pushes(tx: &mut PgConnection, limit: i64) -> Sql<Vec<PushRow>> {
    let rows = query(
        "SELECT id, monitor_id, kind::int8, exit::int8, ping_us, body, at FROM wk_push
         WHERE NOT folded AND (SELECT m.retired_at IS NULL FROM wk_monitor m WHERE m.id = wk_push.monitor_id) ORDER BY at, id LIMIT $1",
    )
    .bind(limit.clamp(0, PAGE_MAX))
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(rows::push).collect()
}
