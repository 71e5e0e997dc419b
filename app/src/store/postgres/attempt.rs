//! Attempts to deliver: begun, ended, or put off; and what follows when every channel has failed.

use super::super::course::EntryOut;
use super::super::outbox::{Changed, Failure, PASSED_ON_AT_ONCE, deferral, entries};
use super::super::rows::{Columns, Sql};
use super::super::{AttemptEnd, Attempted, Deferred, Fence};
use super::commit::live;
use super::incidents::{append, ends_as_last_resort};
use super::{clean, query};
use sqlx::PgConnection;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use watchkeeper_core::{ChannelId, Micros};

pub(super) async fn begin(tx: &mut PgConnection, notices: &[i64], fence: &Fence, now: Micros) -> Sql<Vec<i64>> {
    if !holds(tx, fence).await? {
        return Ok(Vec::new());
    }
    lock(tx, notices).await?;
    let rows = query(
        "UPDATE wk_notice SET state = 'sending', attempts = attempts + 1, begun_scope = $2, begun_epoch = $3, begun_with = id
         WHERE id = ANY($1) AND state IN ('due', 'held') AND next_at <= $4 RETURNING id",
    )
    .bind(notices)
    .bind(&*fence.scope)
    .bind(fence.epoch)
    .bind(now.0)
    .fetch_all(&mut *tx)
    .await?;
    let begun = rows.iter().map(|row| row.int(0)).collect::<Sql<HashSet<_>>>()?;
    if begun.len() > 1 {
        let all: Vec<i64> = begun.iter().copied().collect();
        query("UPDATE wk_notice SET begun_with = $2 WHERE id = ANY($1)")
            .bind(&all)
            .bind(all.iter().min().copied())
            .execute(&mut *tx)
            .await?;
    }
    Ok(notices.iter().copied().filter(|id| begun.contains(id)).collect())
}

/// That the provider took it is a fact, recorded whoever holds the lease now; that it did not is a decision (when to try again)
/// and only the holder's.
pub(super) async fn end(tx: &mut PgConnection, end: &AttemptEnd<'_>) -> Sql<()> {
    lock(tx, end.notices).await?;
    let changed = match end.attempted {
        Attempted::Sent { provider_id } => sent(tx, end, provider_id.as_deref()).await?,
        Attempted::Again { next_at, error } => failed(tx, end, "due", error, Some(*next_at)).await?,
        Attempted::Dead { error } => failed(tx, end, "dead", error, None).await?,
    };
    let Some(first) = changed.first() else { return Ok(()) };
    let name = query("SELECT name FROM wk_channel WHERE id = $1").bind(first.channel).fetch_one(&mut *tx).await?.text(0)?;
    append(tx, entries(end.attempted, &changed, &name, end.at)).await?;
    match end.attempted {
        Attempted::Dead { .. } => last_resort(tx, &changed, end.at).await,
        Attempted::Sent { .. } | Attempted::Again { .. } => Ok(()),
    }
}

async fn sent(tx: &mut PgConnection, end: &AttemptEnd<'_>, provider_id: Option<&str>) -> Sql<Vec<Changed>> {
    let message = query(
        "INSERT INTO wk_message (channel_id, incident_id, provider_id, key, sent_at, digest)
         SELECT channel_id, CASE WHEN $5::bool THEN NULL ELSE incident_id END, $2::text, $3::text, $4::int8, $5 FROM wk_notice
         WHERE id = ANY($1) ORDER BY id LIMIT 1
         ON CONFLICT (key) DO UPDATE SET provider_id = coalesce(excluded.provider_id, wk_message.provider_id) RETURNING id",
    )
    .bind(end.notices)
    .bind(provider_id.map(clean).map(Cow::into_owned))
    .bind(clean(end.key).into_owned())
    .bind(end.at.0)
    .bind(end.digest)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(message) = message else { return Ok(Vec::new()) };
    let rows = query(
        "UPDATE wk_notice SET state = 'sent', sent_at = $2, message_id = $3, last_error = NULL
         WHERE id = ANY($1) AND state <> 'sent'
         RETURNING id, cause, incident_id, channel_id, tenant_id, event",
    )
    .bind(end.notices)
    .bind(end.at.0)
    .bind(message.int(0)?)
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(Changed::read).collect()
}

async fn failed(tx: &mut PgConnection, end: &AttemptEnd<'_>, state: &str, error: &str, next_at: Option<Micros>) -> Sql<Vec<Changed>> {
    let rows = query(
        "UPDATE wk_notice SET state = $4, next_at = coalesce($5::int8, next_at), last_error = $6
         WHERE id = ANY($1) AND state = 'sending' AND begun_scope = $2 AND begun_epoch = $3
         RETURNING id, cause, incident_id, channel_id, tenant_id, event",
    )
    .bind(end.notices)
    .bind(&*end.fence.scope)
    .bind(end.fence.epoch)
    .bind(state)
    .bind(next_at.map(|at| at.0))
    .bind(clean(error).into_owned())
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(Changed::read).collect()
}

/// When no notice of a cause is left that was or may yet be told, the tenant's last-resort channels get it.
///
/// Two channels that fail at the same moment must not each take the other for one that is still trying: the lock of the incident,
/// or of the tenant for what is about no incident, lets the second one see what the first one did.
async fn last_resort(tx: &mut PgConnection, dead: &[Changed], now: Micros) -> Sql<()> {
    let tenants: BTreeSet<i64> = dead.iter().filter(|notice| notice.incident.is_none()).map(|notice| notice.tenant.0).collect();
    query("SELECT 1 FROM wk_tenant WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE")
        .bind(tenants.into_iter().collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
    let rows = query(
        "SELECT n.id, n.cause, n.incident_id, n.channel_id, n.tenant_id, n.event FROM wk_notice n
         WHERE n.id = ANY($1) AND NOT EXISTS
             (SELECT 1 FROM wk_notice o WHERE o.cause = n.cause AND o.state IN ('due', 'held', 'sending', 'sent')) ORDER BY n.id",
    )
    .bind(dead.iter().map(|notice| notice.id).collect::<Vec<_>>())
    .fetch_all(&mut *tx)
    .await?;
    let failed = rows.iter().map(Changed::read).collect::<Sql<Vec<_>>>()?;
    let instead = instead(tx, &failed, now).await?;
    say(tx, &failed, &instead, now).await
}

/// What this channel was to tell and nobody was told so far, for the last-resort channels that do not have it yet: none of two channels
/// that fail together waits for the other.
pub(super) async fn pass_on(tx: &mut PgConnection, channel: ChannelId, before: Micros, fence: &Fence, now: Micros) -> Sql<u64> {
    if !holds(tx, fence).await? {
        return Ok(0);
    }
    let rows = query(
        "SELECT n.id, n.cause, n.incident_id, n.channel_id, n.tenant_id, n.event FROM wk_notice n
         WHERE n.channel_id = $1 AND n.state IN ('due', 'held', 'sending') AND n.incident_id IS NOT NULL AND n.created_at <= $2
           AND NOT (n.state = 'held' AND n.held AND n.next_at > $3)
           AND NOT EXISTS (SELECT 1 FROM wk_notice o WHERE o.cause = n.cause
                           AND (o.state = 'sent' OR o.state = 'held' AND o.held AND o.next_at > $3))
           AND EXISTS (SELECT 1 FROM wk_channel c WHERE c.tenant_id = n.tenant_id AND c.last_resort AND c.retired_at IS NULL
                       AND NOT EXISTS (SELECT 1 FROM wk_notice l WHERE l.cause = n.cause AND l.channel_id = c.id))
         ORDER BY n.id LIMIT $4",
    )
    .bind(channel.0)
    .bind(before.0)
    .bind(now.0)
    .bind(PASSED_ON_AT_ONCE)
    .fetch_all(&mut *tx)
    .await?;
    let mut failed = rows.iter().map(Changed::read).collect::<Sql<Vec<_>>>()?;
    let instead = instead(tx, &failed, now).await?;
    // Another channel may have passed some of them on meanwhile.
    failed.retain(|notice| instead.values().any(|cause| *cause == notice.cause));
    say(tx, &failed, &instead, now).await?;
    Ok(failed.len() as u64)
}

/// Puts these words in the outbox of the tenants' last-resort channels that do not have them: the new rows with their causes.
async fn instead(tx: &mut PgConnection, failed: &[Changed], now: Micros) -> Sql<HashMap<i64, String>> {
    if failed.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = query(
        "INSERT INTO wk_notice (cause, channel_id, tenant_id, incident_id, event, nth, severity, payload, cooldown, state, next_at,
             created_at)
         SELECT n.cause, c.id, n.tenant_id, n.incident_id, n.event, n.nth, n.severity, n.payload, n.cooldown, 'due', $2::int8, n.created_at
         FROM wk_notice n JOIN wk_channel c ON c.tenant_id = n.tenant_id AND c.last_resort AND c.retired_at IS NULL
         WHERE n.id = ANY($1) ORDER BY n.cause, c.id ON CONFLICT (cause, channel_id) DO NOTHING RETURNING id, cause",
    )
    .bind(failed.iter().map(|notice| notice.id).collect::<Vec<_>>())
    .bind(now.0)
    .fetch_all(&mut *tx)
    .await?;
    // Its end may wait on the channels that failed, or have been told on one that works again.
    ends_as_last_resort(tx, &failed.iter().filter_map(|notice| notice.incident).collect::<Vec<_>>()).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.text(1)?))).collect()
}

/// Says on the timelines and on the live stream which channels have failed, and who is told instead.
async fn say(tx: &mut PgConnection, failed: &[Changed], instead: &HashMap<i64, String>, now: Micros) -> Sql<()> {
    if failed.is_empty() {
        return Ok(());
    }
    let rows = query(
        "SELECT n.id, n.cause, n.state, c.name, i.uid FROM wk_notice n JOIN wk_channel c ON c.id = n.channel_id
         LEFT JOIN wk_incident i ON i.id = n.incident_id WHERE n.cause = ANY($1) ORDER BY n.id",
    )
    .bind(failed.iter().map(|notice| notice.cause.clone()).collect::<Vec<_>>())
    .fetch_all(&mut *tx)
    .await?;
    let failures = Failure::gather(failed, &instead.keys().copied().collect(), &rows)?;
    append(tx, failures.iter().filter_map(|failure| failure.entry(now)).collect()).await?;
    let events: Vec<_> = failures.iter().map(|failure| failure.live(now)).collect();
    live(tx, &events.iter().map(|(tenant, event)| (*tenant, event)).collect::<Vec<_>>()).await?;
    Ok(())
}

/// A notice that waits, as far as putting it off needs it.
struct Waiting {
    incident: Option<i64>,
    why: Option<String>,
    channel: String,
}

pub(super) async fn hasten(tx: &mut PgConnection, channel: ChannelId, fence: &Fence, now: Micros) -> Sql<()> {
    if !holds(tx, fence).await? {
        return Ok(());
    }
    query(
        "UPDATE wk_notice SET next_at = $2 WHERE id IN
             (SELECT id FROM wk_notice WHERE channel_id = $1 AND state = 'due' AND attempts > 0 AND next_at > $2 ORDER BY id FOR UPDATE)",
    )
    .bind(channel.0)
    .bind(now.0)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

pub(super) async fn defer(tx: &mut PgConnection, deferred: &[(i64, Deferred)], fence: &Fence, now: Micros) -> Sql<()> {
    if !holds(tx, fence).await? {
        return Ok(());
    }
    lock(tx, &deferred.iter().map(|(id, _)| *id).collect::<Vec<_>>()).await?;
    let waiting = waiting(tx, deferred).await?;
    let (mut rows, mut entries) = (Vec::with_capacity(deferred.len()), Vec::new());
    for (id, deferred) in deferred {
        let Some(notice) = waiting.get(id) else { continue };
        let (state, why, until, mute) = match deferred {
            Deferred::Held { until, why, mute } => ("held", why, Some(until.0), *mute),
            Deferred::Suppressed { why } => ("suppressed", why, None, false),
        };
        rows.push((*id, state, clean(why), until, mute));
        let entry = deferral(deferred, &notice.channel).filter(|(kind, _)| *kind != "held" || notice.why.as_ref() != Some(why));
        entries.extend(notice.incident.zip(entry).map(|(incident, (kind, text))| EntryOut::new(incident, now, kind, text.into())));
    }
    query(
        "UPDATE wk_notice n SET state = x.state, why = x.why, next_at = coalesce(x.next_at, n.next_at), held = n.held OR x.mute
         FROM unnest($1::int8[], $2::text[], $3::text[], $4::int8[], $5::bool[]) AS x (id, state, why, next_at, mute) WHERE n.id = x.id",
    )
    .bind(rows.iter().map(|row| row.0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.1).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.2.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.3).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.4).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    let known = held_entries(tx, &entries).await?;
    append(tx, entries.into_iter().filter(|entry| !known.contains(&(entry.incident, entry.text.to_string()))).collect()).await
}

async fn waiting(tx: &mut PgConnection, deferred: &[(i64, Deferred)]) -> Sql<HashMap<i64, Waiting>> {
    let rows = query(
        "SELECT n.id, n.incident_id, n.why, c.name FROM wk_notice n JOIN wk_channel c ON c.id = n.channel_id
         WHERE n.id = ANY($1) AND n.state IN ('due', 'held')",
    )
    .bind(deferred.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .fetch_all(&mut *tx)
    .await?;
    rows.iter()
        .map(|row| Ok((row.int(0)?, Waiting { incident: row.maybe_int(1)?, why: row.maybe_text(2)?, channel: row.text(3)? })))
        .collect()
}

/// What these incidents' timelines say of holding back already: each reason stands there once.
async fn held_entries(tx: &mut PgConnection, entries: &[EntryOut<'_>]) -> Sql<HashSet<(i64, String)>> {
    let incidents: Vec<i64> = entries.iter().filter(|entry| entry.kind == "held").map(|entry| entry.incident).collect();
    if incidents.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = query("SELECT incident_id, text FROM wk_incident_event WHERE incident_id = ANY($1) AND kind = 'held'")
        .bind(&incidents)
        .fetch_all(&mut *tx)
        .await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.text(1)?))).collect()
}

/// Whether the lease stands under that epoch.
async fn holds(tx: &mut PgConnection, fence: &Fence) -> Sql<bool> {
    let row = query("SELECT epoch FROM wk_lease WHERE scope = $1 AND holder <> '' FOR SHARE")
        .bind(&*fence.scope)
        .fetch_optional(&mut *tx)
        .await?;
    Ok(row.map(|row| row.int(0)).transpose()? == Some(fence.epoch))
}

/// Locks notices in the order in which everybody does, so that nobody waits in a circle.
async fn lock(tx: &mut PgConnection, notices: &[i64]) -> Sql<()> {
    query("SELECT 1 FROM wk_notice WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE").bind(notices).execute(&mut *tx).await?;
    Ok(())
}
