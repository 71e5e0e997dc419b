//! What people do: silences, actions on incidents, comments.

use super::super::course::{EntryOut, silence_created, silence_ended};
use super::super::error::refused;
use super::super::rows::{self, Columns, Sql};
use super::super::{ActionRow, LiveRow, LiveWrite, Mutes, PAGE_MAX, SILENCES_MAX, Silence, TenantScope};
use super::commit::live;
use super::incidents::append;
use super::{clean, query};
use sqlx::PgConnection;
use watchkeeper_core::verdict::Action;
use watchkeeper_core::{Micros, TenantId};

pub(super) async fn mutes(tx: &mut PgConnection, tenant: TenantId, now: Micros) -> Sql<Mutes> {
    let silences = query(
        "SELECT uid, matcher, starts_at, ends_at, author, comment FROM wk_silence
         WHERE tenant_id = $1 AND ends_at > $2 AND starts_at <= $2 ORDER BY id",
    )
    .bind(tenant.0)
    .bind(now.0)
    .fetch_all(&mut *tx)
    .await?;
    let maintenance = query("SELECT name, matcher, open_when, origin FROM wk_maintenance WHERE tenant_id = $1 ORDER BY name")
        .bind(tenant.0)
        .fetch_all(&mut *tx)
        .await?;
    Ok(Mutes {
        silences: silences.iter().map(rows::silence).collect::<Sql<_>>()?,
        maintenance: maintenance.iter().map(rows::maintenance).collect::<Sql<_>>()?,
    })
}

pub(super) async fn create_silence(tx: &mut PgConnection, scope: TenantScope, silence: &Silence) -> Sql<Option<LiveRow>> {
    let lasting = query("SELECT count(*) FROM wk_silence WHERE tenant_id = $1 AND ends_at > $2")
        .bind(scope.0.0)
        .bind(silence.starts_at.0)
        .fetch_one(&mut *tx)
        .await?;
    if lasting.int(0)? >= SILENCES_MAX {
        return Err(refused(format!("{SILENCES_MAX} silences last already: end some of them first")));
    }
    let done = query(
        "INSERT INTO wk_silence (uid, tenant_id, matcher, starts_at, ends_at, author, comment) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (uid) DO NOTHING",
    )
    .bind(clean(&silence.uid).into_owned())
    .bind(scope.0.0)
    .bind(rows::matcher(&silence.matcher))
    .bind(silence.starts_at.0)
    .bind(silence.ends_at.0)
    .bind(clean(&silence.author).into_owned())
    .bind(clean(&silence.comment).into_owned())
    .execute(&mut *tx)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(None);
    }
    told(tx, scope, silence_created(silence)).await.map(Some)
}

/// Puts an event on the live stream.
async fn told(tx: &mut PgConnection, scope: TenantScope, event: LiveWrite) -> Sql<LiveRow> {
    let ids = live(tx, &[(scope.0, &event)]).await?;
    Ok(LiveRow { id: ids[0], event })
}

pub(super) async fn silences(tx: &mut PgConnection, scope: TenantScope, since: Micros, limit: i64) -> Sql<Vec<Silence>> {
    let rows = query(
        "SELECT uid, matcher, starts_at, ends_at, author, comment FROM wk_silence
         WHERE tenant_id = $1 AND ends_at >= $2 ORDER BY id DESC LIMIT $3",
    )
    .bind(scope.0.0)
    .bind(since.0)
    .bind(limit.clamp(0, PAGE_MAX))
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(rows::silence).collect()
}

pub(super) async fn end_silence(tx: &mut PgConnection, scope: TenantScope, uid: &str, actor: &str, now: Micros) -> Sql<Option<LiveRow>> {
    let ended = query(
        "UPDATE wk_silence SET starts_at = least(starts_at, $3), ends_at = $3 WHERE tenant_id = $1 AND uid = $2 AND ends_at > $3
         RETURNING uid, matcher, starts_at, ends_at, author, comment",
    )
    .bind(scope.0.0)
    .bind(clean(uid).into_owned())
    .bind(now.0)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(ended) = ended else { return Ok(None) };
    // The tenant before its notices, as `apply` locks them.
    let event = told(tx, scope, silence_ended(&rows::silence(&ended)?, actor)).await?;
    look_again(tx, scope.0, now).await?;
    Ok(Some(event))
}

/// What a mute holds back of this tenant's is looked at now, or as soon as its route's hours allow.
pub(super) async fn look_again(tx: &mut PgConnection, tenant: TenantId, now: Micros) -> Sql<()> {
    query(
        "WITH held AS (SELECT id FROM wk_notice
             WHERE channel_id IN (SELECT id FROM wk_channel WHERE tenant_id = $1) AND state IN ('due', 'held') AND state = 'held' AND held
             ORDER BY id FOR NO KEY UPDATE)
         UPDATE wk_notice n SET next_at = greatest($2::int8, n.not_before) FROM held WHERE n.id = held.id",
    )
    .bind(tenant.0)
    .bind(now.0)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

pub(super) async fn insert_action(
    tx: &mut PgConnection,
    scope: TenantScope,
    incident_uid: &str,
    action: Action,
    actor: &str,
    comment: Option<&str>,
    now: Micros,
) -> Sql<bool> {
    let done = query(
        "INSERT INTO wk_action (tenant_id, incident_id, action, actor, at, comment)
         SELECT tenant_id, id, $3::text, $4::text, $5::int8, $6::text FROM wk_incident
         WHERE tenant_id = $1 AND uid = $2 AND resolved_at IS NULL",
    )
    .bind(scope.0.0)
    .bind(clean(incident_uid).into_owned())
    .bind(action.as_str())
    .bind(clean(actor).into_owned())
    .bind(now.0)
    .bind(comment.map(|text| clean(text).into_owned()))
    .execute(&mut *tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn comment(
    tx: &mut PgConnection,
    scope: TenantScope,
    incident_uid: &str,
    actor: &str,
    text: &str,
    now: Micros,
) -> Sql<bool> {
    let row = query("SELECT id FROM wk_incident WHERE tenant_id = $1 AND uid = $2")
        .bind(scope.0.0)
        .bind(clean(incident_uid).into_owned())
        .fetch_optional(&mut *tx)
        .await?;
    let Some(row) = row else { return Ok(false) };
    let entry = EntryOut { actor: Some(actor), ..EntryOut::new(row.int(0)?, now, "comment", text.into()) };
    append(tx, vec![entry]).await?;
    Ok(true)
}

pub(super) async fn unfolded_actions(tx: &mut PgConnection, limit: i64) -> Sql<Vec<ActionRow>> {
    let rows = query(
        "SELECT a.id, a.incident_id, i.monitor_id, a.action, a.actor, a.at, a.comment FROM wk_action a JOIN wk_incident i ON i.id = a.incident_id
         WHERE NOT a.folded ORDER BY a.at, a.id LIMIT $1",
    )
    .bind(limit.clamp(0, PAGE_MAX))
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(rows::action).collect()
}
