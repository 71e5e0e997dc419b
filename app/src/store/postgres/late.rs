//! What a batch from the journal of a node that was cut off says beside its facts and decisions: what was told meanwhile, and what another
//! node had decided by then.

use super::super::course::EntryOut;
use super::super::flat::{self, Flat};
use super::super::rows::{Columns, Sql};
use super::super::{AttemptEnd, Attempted, Batch, Fence, Told};
use super::attempt;
use super::incidents::append;
use super::query;
use sqlx::PgConnection;
use std::collections::BTreeMap;

pub(super) async fn write(tx: &mut PgConnection, batch: &Batch, flat: &Flat<'_>) -> Sql<()> {
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
    let mut entries = Vec::new();
    for overtaken in flat::overtaken(batch, late, flat) {
        let found = query(
            "SELECT id FROM wk_incident WHERE monitor_id = $1 AND (id = $2 OR rule_key = $3 AND (resolved_at IS NULL OR resolved_at >= $4))
             ORDER BY opened_at DESC, id DESC LIMIT 1",
        )
        .bind(overtaken.monitor)
        .bind(overtaken.incident)
        .bind(overtaken.rule)
        .bind(overtaken.at.0)
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(row) = found {
            entries.push(EntryOut::new(row.int(0)?, overtaken.at, "cut_off", overtaken.text.into()));
        }
    }
    append(tx, entries).await
}
