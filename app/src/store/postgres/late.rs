//! What a batch from the journal of a node that was cut off says beside its facts and decisions: what was told meanwhile, and what another
//! node had decided by then.

use super::super::error::not_yet;
use super::super::flat::Flat;
use super::super::late::{self, ActOut, Afterwards, Found, Overtaken};
use super::super::rows::{Columns, Sql};
use super::super::{AttemptEnd, Attempted, Batch, Fence, Late, Told};
use super::attempt;
use super::incidents::append;
use super::{clean, query};
use sqlx::PgConnection;
use std::collections::BTreeMap;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::{AgentId, ChannelId};

/// Says what becomes of what another node has overtaken, before anything of the batch is written.
pub(super) async fn settle<'a>(tx: &mut PgConnection, batch: &'a Batch, flat: &mut Flat<'a>) -> Sql<Afterwards<'a>> {
    let mut after = Afterwards::default();
    let Some(late) = &batch.late else { return Ok(after) };
    for overtaken in late::overtaken(batch, late, flat) {
        let found = find(tx, &overtaken, late, &after).await?;
        if overtaken.hangs(late, found.as_ref()) && !looked(tx, &overtaken, batch.agent).await? {
            return Err(not_yet());
        }
        overtaken.settle(found.as_ref(), late, flat, &mut after);
    }
    Ok(after)
}

/// Writes what follows once everything else of the batch is there.
pub(super) async fn write(tx: &mut PgConnection, batch: &Batch, after: Afterwards<'_>) -> Sql<()> {
    let Some(late) = &batch.late else { return Ok(()) };
    let mut messages: BTreeMap<&str, (Vec<i64>, &Told)> = BTreeMap::new();
    for told in &late.told {
        let rows = query("SELECT id FROM wk_notice WHERE cause = $1 AND channel_id = $2 AND state <> 'sent'")
            .bind(told.cause.as_str())
            .bind(told.channel.0)
            .fetch_all(&mut *tx)
            .await?;
        for row in rows {
            messages.entry(&told.key).or_insert((Vec::new(), told)).0.push(row.int(0)?);
        }
    }
    let fence = Fence { scope: "".into(), epoch: 0 };
    for (key, (notices, told)) in messages {
        let attempted = Attempted::Sent { provider_id: told.provider_id.clone() };
        let end = AttemptEnd { notices: &notices, fence: &fence, attempted: &attempted, key, digest: told.digest, at: told.at };
        attempt::end(tx, &end).await?;
    }
    acts(tx, &after.acts).await?;
    append(tx, after.entries).await
}

async fn find(tx: &mut PgConnection, overtaken: &Overtaken<'_>, late: &Late, after: &Afterwards<'_>) -> Sql<Option<Found>> {
    let row = query(
        "SELECT id, resolved_at FROM wk_incident i
         WHERE monitor_id = $1 AND (id = $2 OR rule_key = $3 AND opened_at <= $5 AND (resolved_at IS NULL OR resolved_at >= $4)
                 AND id <> ALL($6) AND NOT ($9 AND EXISTS (SELECT 1 FROM wk_incident_event e
                     WHERE e.incident_id = i.id AND e.kind = $7 AND e.actor = $8 AND e.at < $4)))
         ORDER BY CASE WHEN id = $2 THEN 0 ELSE 1 END, opened_at DESC, id DESC LIMIT 1",
    )
    .bind(overtaken.monitor)
    .bind(overtaken.incident)
    .bind(overtaken.rule)
    .bind(overtaken.from.0)
    .bind(overtaken.until.0)
    .bind(overtaken.others(after))
    .bind(late::CUT_OFF)
    .bind(clean(&late.node).into_owned())
    .bind(overtaken.begins())
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let id = row.int(0)?;
    let ends = query("SELECT channel_id FROM wk_notice WHERE incident_id = $1 AND event = 'resolved'").bind(id).fetch_all(&mut *tx).await?;
    let ends = ends.iter().map(|row| Ok(ChannelId(row.int(0)?))).collect::<Sql<_>>()?;
    Ok(Some(Found { id, resolved: row.maybe_int(1)?.is_some(), ends }))
}

/// Whether another node has looked at the monitor since, and found it well.
async fn looked(tx: &mut PgConnection, overtaken: &Overtaken<'_>, agent: AgentId) -> Sql<bool> {
    let row = query(
        "SELECT 1 FROM wk_verdict v WHERE v.monitor_id = $1 AND v.health IN ($2, $3)
           AND EXISTS (SELECT 1 FROM wk_beat b WHERE b.monitor_id = $1 AND b.agent_id <> $4 AND b.at > $5)",
    )
    .bind(overtaken.monitor)
    .bind(i64::from(Health::Up.code()))
    .bind(i64::from(Health::Degraded.code()))
    .bind(agent.0)
    .bind(overtaken.from.0)
    .fetch_optional(&mut *tx)
    .await?;
    Ok(row.is_some())
}

/// For whoever decides.
async fn acts(tx: &mut PgConnection, acts: &[ActOut]) -> Sql<()> {
    for act in acts {
        query(
            "INSERT INTO wk_action (tenant_id, incident_id, action, actor, at)
             SELECT tenant_id, id, $2::text, $3::text, $4::int8 FROM wk_incident WHERE id = $1 AND resolved_at IS NULL",
        )
        .bind(act.incident)
        .bind(act.act.as_str())
        .bind(clean(&act.actor).into_owned())
        .bind(act.at)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}
